//! What repeated rounds say: medians, and how sure they are.
//!
//! Rounds pair the two layouts, so that what the host did meanwhile touches both. The interval is that of the sign
//! test: it assumes nothing about how the ratios are spread, and needs six pairs to be sure at all.

use serde::Serialize;

/// A gain below this is not worth a setting.
pub(super) const GAIN_MIN: f64 = 1.03;

/// Share of cases in which an interval must hold the true median.
const CONFIDENCE: f64 = 0.95;

/// Fewest pairs that an interval needs: with five, even all of one sign are 6 % by chance.
pub(super) const PAIRS_MIN: usize = 6;

/// Where the median of the ratios lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    /// The ratios' own median.
    pub(super) median: f64,
    /// Lower end.
    pub(super) low: f64,
    /// Upper end.
    pub(super) high: f64,
    /// Share of cases in which the true median lies between the ends, at least [`CONFIDENCE`].
    pub(super) confidence: f64,
    /// Pairs.
    pub(super) pairs: usize,
}

impl Interval {
    /// Of paired ratios; `None` for fewer than [`PAIRS_MIN`].
    pub(super) fn of(ratios: &[f64]) -> Option<Self> {
        let sorted = sorted(ratios);
        let pairs = sorted.len();
        // Leaving out the outer values on both sides, as many as the confidence allows.
        let coverages = (0..pairs / 2).map(|outer| (outer, coverage(pairs, outer)));
        let (outer, confidence) = coverages.take_while(|(_, coverage)| *coverage >= CONFIDENCE).last()?;
        let (low, high) = (*sorted.get(outer)?, *sorted.get(pairs - 1 - outer)?);
        Some(Self { median: median(ratios)?, low, high, confidence, pairs })
    }

    /// Whether the ratio is surely above 1, and by enough to act on.
    pub(super) fn is_better(&self) -> bool {
        self.low > 1.0 && self.median >= GAIN_MIN
    }
}

/// How often the true median lies between the ends when `outer` values are left out on each side.
fn coverage(pairs: usize, outer: usize) -> f64 {
    // The chance that at most `outer` of `pairs` fair coins fall on one side.
    let mut term = 0.5f64.powi(i32::try_from(pairs).unwrap_or(i32::MAX));
    let mut tail = term;
    for heads in 0..outer {
        term *= (pairs - heads) as f64 / (heads + 1) as f64;
        tail += term;
    }
    1.0 - 2.0 * tail
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of what is finite.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some((lower + upper) / 2.0)
}

/// The least and the greatest of what is finite.
pub(super) fn range(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    Some((*sorted.first()?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn medians_and_ranges() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 5.0, f64::INFINITY]), Some(5.0));
        assert_eq!(range(&[2.0, 3.0, 1.0]), Some((1.0, 3.0)));
        assert_eq!(range(&[f64::NAN]), None);
    }

    /// The known table of the sign test.
    #[test]
    fn coverages() {
        for (pairs, outer, percent) in
            [(1, 0, 0.0), (5, 0, 93.75), (6, 0, 96.875), (8, 0, 99.219), (9, 1, 96.094), (20, 5, 95.861)]
        {
            assert!((coverage(pairs, outer) * 100.0 - percent).abs() < 0.001, "{pairs} {outer}");
        }
    }

    #[test]
    fn intervals() {
        assert_eq!(Interval::of(&[1.1; 5]), None, "five pairs can not be sure");
        let six = Interval::of(&[1.1, 1.2, 1.0, 1.3, 1.4, 1.5]).unwrap();
        assert_eq!((six.low, six.high, six.pairs), (1.0, 1.5, PAIRS_MIN));
        assert!((six.median - 1.25).abs() < 1e-9 && six.confidence > 0.96);
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let ten = Interval::of(&ten).unwrap();
        assert_eq!((ten.low, ten.high), (2.0, 9.0));
    }

    #[test]
    fn a_clear_win_noise_and_ties() {
        let better = |ratios: &[f64]| Interval::of(ratios).is_some_and(|interval| interval.is_better());
        assert!(better(&[1.10, 1.12, 1.08, 1.11, 1.09, 1.13]));
        assert!(!better(&[1.10, 1.12, 0.95, 1.11, 1.09, 1.13]), "one of six went the other way");
        assert!(better(&[1.10, 1.12, 0.95, 1.11, 1.09, 1.13, 1.10, 1.12, 1.10]), "one of nine");
        assert!(!better(&[1.02, 1.01, 1.02, 1.01, 1.02, 1.02]), "sure, and not worth it");
        assert!(!better(&[1.0; 8]), "ties");
        assert!(!better(&[1.05, 0.97, 1.02, 0.99, 1.06, 0.96, 1.01, 1.04]), "noise");
        assert!(!better(&[0.90, 0.88, 0.91, 0.90, 0.92, 0.90]), "a loss");
    }

    /// Two layouts that do not differ are called different in no more cases than the confidence allows.
    #[test]
    fn equals_are_seldom_told_apart() {
        let mut state = 1u64;
        let mut noise = || {
            // xorshift64, which is even enough here.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            0.9 + 0.2 * (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let wrong = (0..10_000).filter(|_| {
            let ratios: Vec<f64> = (0..6).map(|_| noise() / noise()).collect();
            Interval::of(&ratios).is_some_and(|interval| interval.is_better())
        });
        assert!(wrong.count() < 250);
    }
}
