//! Medians, spreads and ratios of a few rounds.

use serde::Serialize;

/// Differences below this share say nothing on a shared host.
pub(crate) const TIE: f64 = 0.10;

/// Rounds that it takes for a word on who is better.
pub(crate) const ROUNDS_MIN: usize = 3;

/// Figures of rounds, and of how many.
pub(crate) type Rounds = (Summary, usize);

/// Quantiles that latency is compared at.
pub(crate) const NINES: [f64; 14] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999];

/// Figures of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Summary {
    /// Of at least one figure.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }

    /// From least to greatest, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / self.median }
    }
}

/// The value below which the share `of` of `sorted` lies; 0 for none.
pub(crate) fn quantile(sorted: &[f64], of: f64) -> f64 {
    let rank = (of * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Which figures are good ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// The less the better.
    Lower,
    /// The more the better.
    Higher,
}

/// What a ratio says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Than the best of the others.
    Better,
    /// Within [`TIE`] of it, or the rounds of both overlap.
    Tie,
    /// Than the best of the others.
    Worse,
}

/// A figure beside the best of the others'.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// Own figure by the best of the others'; null in JSON where that is 0.
    pub(crate) value: f64,
    /// What it says; absent where it says nothing.
    pub(crate) verdict: Option<Verdict>,
}

impl Ratio {
    /// `None` without others. Infinite where only the best of them is 0.
    pub(crate) fn of(own: Rounds, others: impl IntoIterator<Item = Rounds>, better: Better) -> Option<Self> {
        let best = others.into_iter().reduce(|left, right| {
            let less = right.0.median < left.0.median;
            if less == (better == Better::Lower) { right } else { left }
        })?;
        let ((own, own_rounds), (best, best_rounds)) = (own, best);
        let value = if own.median == best.median { 1.0 } else { own.median / best.median };
        let verdict =
            (own_rounds.min(best_rounds) >= ROUNDS_MIN).then(|| Self::judge(value, own, best, better));
        Some(Self { value, verdict })
    }

    fn judge(value: f64, own: Summary, best: Summary, better: Better) -> Verdict {
        let overlap = own.min <= best.max && best.min <= own.max;
        if overlap || (value - 1.0).abs() < TIE {
            Verdict::Tie
        } else if (value < 1.0) == (better == Better::Lower) {
            Verdict::Better
        } else {
            Verdict::Worse
        }
    }
}

/// Latency at each of [`NINES`]: the median over runs, whose points may lie elsewhere.
pub(crate) fn merge_quantiles(runs: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let at = |run: &[(f64, f64)], of: f64| {
        let point = run.iter().find(|(quantile, _)| *quantile >= of - 1e-9);
        point.map(|(_, us)| *us)
    };
    let merged = NINES.iter().filter_map(|&of| {
        let values: Vec<f64> = runs.iter().filter_map(|run| at(run, of)).collect();
        Some((of, Summary::of(&values)?.median))
    });
    merged.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn summaries() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        let even = Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((even.median, even.spread()), (2.5, 1.2));
        assert_eq!(Summary::of(&[0.0]).unwrap().spread(), 0.0);
    }

    #[test]
    fn quantiles() {
        let sorted: Vec<f64> = (1..=1000).map(f64::from).collect();
        for (of, wanted) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            assert_eq!(quantile(&sorted, of), wanted, "{of}");
        }
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn ratios() {
        let one = |value| (Summary::of(&[value]).unwrap(), ROUNDS_MIN);
        let ratio = |own, others: &[f64], better| {
            let others = others.iter().copied().map(one);
            Ratio::of(one(own), others, better).map(|ratio| (ratio.value, ratio.verdict.unwrap()))
        };
        assert_eq!(ratio(8.0, &[10.0, 20.0], Better::Lower), Some((0.8, Verdict::Better)));
        assert_eq!(ratio(9.5, &[10.0, 20.0], Better::Lower), Some((0.95, Verdict::Tie)));
        assert_eq!(ratio(12.0, &[10.0, 20.0], Better::Lower), Some((1.2, Verdict::Worse)));
        assert_eq!(ratio(30.0, &[10.0, 20.0], Better::Higher), Some((1.5, Verdict::Better)));
        assert_eq!(ratio(10.0, &[10.0, 20.0], Better::Higher), Some((0.5, Verdict::Worse)));
        assert_eq!(ratio(10.0, &[], Better::Lower), None);
        assert_eq!(ratio(10.0, &[0.0], Better::Lower), Some((f64::INFINITY, Verdict::Worse)));
        assert_eq!(ratio(0.0, &[0.0, 3.0], Better::Lower), Some((1.0, Verdict::Tie)));
    }

    /// Few rounds, and rounds that overlap, tell nobody from the others.
    #[test]
    fn words_need_rounds_apart() {
        let word = |own: &[f64], other: &[f64]| {
            let rounds = |values: &[f64]| (Summary::of(values).unwrap(), values.len());
            Ratio::of(rounds(own), [rounds(other)], Better::Lower).unwrap().verdict
        };
        assert_eq!(word(&[8.0, 8.0, 8.0], &[10.0, 10.0]), None);
        assert_eq!(word(&[8.0, 8.0, 8.0], &[10.0, 10.0, 9.0]), Some(Verdict::Better));
        assert_eq!(word(&[8.0, 8.0, 9.5], &[10.0, 10.0, 9.0]), Some(Verdict::Tie));
    }

    #[test]
    fn distributions_of_different_points_merge() {
        let coarse = vec![(0.5, 10.0), (0.99, 50.0), (1.0, 90.0)];
        let fine: Vec<_> = NINES.iter().map(|&of| (of, 100.0 * of)).collect();
        let merged = merge_quantiles(&[coarse.clone(), fine, coarse]);
        assert_eq!(merged.len(), NINES.len());
        assert_eq!(merged.iter().find(|point| point.0 == 0.5).unwrap().1, 10.0);
        assert_eq!(merged.last().unwrap().1, 90.0);
        assert!(merge_quantiles(&[]).is_empty());
    }
}
