//! Medians, spreads and ratios of a few rounds.

use serde::Serialize;

/// Differences below this share say nothing on a shared host.
pub(crate) const TIE: f64 = 0.10;

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
    /// Within [`TIE`] of it.
    Tie,
    /// Than the best of the others.
    Worse,
}

/// A figure beside the best of the others'.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// Own figure by the best of the others'; null in JSON where that is 0.
    pub(crate) value: f64,
    /// What it says.
    pub(crate) verdict: Verdict,
}

impl Ratio {
    /// `None` without others. Infinite where only the best of them is 0.
    pub(crate) fn of(own: f64, others: impl IntoIterator<Item = f64>, better: Better) -> Option<Self> {
        let best = others.into_iter().reduce(match better {
            Better::Lower => f64::min,
            Better::Higher => f64::max,
        })?;
        let value = if own == best { 1.0 } else { own / best };
        let verdict = if (value - 1.0).abs() < TIE {
            Verdict::Tie
        } else if (value < 1.0) == (better == Better::Lower) {
            Verdict::Better
        } else {
            Verdict::Worse
        };
        Some(Self { value, verdict })
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
        let ratio = |own, others: &[f64], better| {
            Ratio::of(own, others.iter().copied(), better).map(|ratio| (ratio.value, ratio.verdict))
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
