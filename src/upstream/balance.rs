//! Picks one of several weighted candidates: an endpoint of a cluster, or a destination of a route.
//!
//! Owned by `table` (one [`RoundRobin`] per cluster, and per route with several destinations), called by `gateway`
//! for each request and each retry. Sans-I/O. It knows neither addresses nor health: a caller that must avoid an
//! endpoint names it in [`Tried`].

use std::cell::Cell;
use std::sync::Arc;

/// Weighted round robin, smooth and exact.
///
/// The weights (divided by their greatest common divisor) lie end to end on a circle of `W` places; each pick
/// steps on by a fixed stride that is coprime to `W`. So any `W` picks in a row visit each place once and give each
/// candidate exactly its weight; and as the stride is near `W` times the golden ratio, the picks of one candidate
/// are spread over the circle instead of coming in a burst.
///
/// A pick costs O(1) when all weights are equal and O(log n) otherwise, whatever the weights; it allocates nothing.
/// Memory: 8 bytes per candidate when weights differ. A candidate of weight 0 is never picked.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    /// End of each candidate's places, ascending; `None` where each of `total` candidates has one place.
    ends: Option<Arc<[u64]>>,
    /// `W`, the number of places; 0 when there is no candidate.
    total: u64,
    /// Coprime to `total` and below it (0 when `total` is at most 1).
    stride: u64,
    /// The place of the next pick, below `total`.
    place: Cell<u64>,
    /// Where the next retry falls among what is left, as a fraction of 2^64. Retries have their own sequence so that
    /// they do not shift the first picks, and so that those of a dead endpoint spread over all others.
    retry: Cell<u64>,
}

impl RoundRobin {
    /// A rotor over `weights`, begun `offset` picks into its sequence: shards pass different offsets so that they
    /// do not all start with the same candidate.
    #[must_use]
    pub fn new(weights: &[u32], offset: usize) -> Self {
        let divisor = weights.iter().fold(0, |divisor, &weight| gcd(divisor, u64::from(weight)));
        let equal = weights.windows(2).all(|pair| pair.first() == pair.last());
        let (ends, total) = if divisor == 0 {
            (None, 0)
        } else if equal {
            (None, weights.len() as u64)
        } else {
            let mut total = 0;
            let ends: Arc<[u64]> = weights
                .iter()
                .map(|&weight| {
                    total += u64::from(weight) / divisor;
                    total
                })
                .collect();
            (Some(ends), total)
        };
        // Equal weights need no spreading: in order of writing, as an operator expects to see it.
        let stride = if ends.is_none() { total.min(2).saturating_sub(1) } else { spreading_stride(total) };
        let rotor = Self { ends, total, stride, place: Cell::new(0), retry: Cell::new(0) };
        rotor.start_at(offset);
        rotor
    }

    /// The same weights, begun `offset` picks into the sequence; shares the weights' memory.
    #[must_use]
    pub fn with_offset(&self, offset: usize) -> Self {
        let rotor = self.clone();
        rotor.start_at(offset);
        rotor
    }

    /// The index of the next candidate; `None` only when none has a weight.
    ///
    /// Those in `tried` are skipped while another is left, and what is left is picked in proportion to its weights;
    /// once all were tried, they are taken in turn again. Indexes in `tried` that are no candidates are ignored.
    #[inline]
    pub fn pick(&self, tried: &Tried) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        if !tried.is_empty()
            && let Some(place) = self.place_beside(tried)
        {
            return Some(self.at(place));
        }
        let place = self.place.get();
        let next = place + self.stride;
        self.place.set(if next >= self.total { next - self.total } else { next });
        Some(self.at(place))
    }

    /// A place that belongs to none of `tried`; `None` when they own all places.
    fn place_beside(&self, tried: &Tried) -> Option<u64> {
        let taken: u64 = tried.as_slice().iter().map(|&index| self.places(index).1).sum();
        let left = self.total - taken;
        if left == 0 {
            return None;
        }
        let fraction = self.retry.get();
        self.retry.set(fraction.wrapping_add(GOLDEN));
        let mut place = ((u128::from(fraction) * u128::from(left)) >> 64) as u64;
        // `tried` is sorted and so are the places: each gap at or before `place` moves it on.
        for &index in tried.as_slice() {
            let (start, count) = self.places(index);
            if count > 0 && start <= place {
                place += count;
            }
        }
        Some(place)
    }

    /// First place and number of places of a candidate.
    fn places(&self, index: u32) -> (u64, u64) {
        let index = index as usize;
        match &self.ends {
            None if (index as u64) < self.total => (index as u64, 1),
            None => (0, 0),
            Some(ends) => {
                let start = index.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
                ends.get(index).map_or((0, 0), |end| (start, end - start))
            }
        }
    }

    /// The candidate that owns a place.
    #[inline]
    fn at(&self, place: u64) -> usize {
        match &self.ends {
            None => place as usize,
            Some(ends) => ends.partition_point(|&end| end <= place),
        }
    }

    fn start_at(&self, offset: usize) {
        let steps = offset as u128;
        if self.total > 0 {
            self.place.set((steps * u128::from(self.stride) % u128::from(self.total)) as u64);
        }
        self.retry.set((offset as u64).wrapping_mul(GOLDEN));
    }
}

/// Endpoints that a request was already sent to. Holds [`Tried::INLINE`] indexes without allocating.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Sorted, `count` of them, while `spill` is empty.
    inline: [u32; Self::INLINE],
    count: u8,
    /// All of them, sorted, once there are more than fit inline.
    spill: Vec<u32>,
}

impl Tried {
    /// Indexes kept without an allocation; more than the retries that are sensible.
    pub const INLINE: usize = 8;

    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { inline: [0; Self::INLINE], count: 0, spill: Vec::new() }
    }

    /// Adds an index; adding it again changes nothing. An index beyond `u32` is no endpoint and is left out.
    pub fn insert(&mut self, index: usize) {
        let Ok(index) = u32::try_from(index) else { return };
        let Err(at) = self.as_slice().binary_search(&index) else { return };
        let count = usize::from(self.count);
        if self.spill.is_empty() && count < Self::INLINE {
            self.inline.copy_within(at..count, at + 1);
            if let Some(slot) = self.inline.get_mut(at) {
                *slot = index;
            }
            self.count += 1;
            return;
        }
        if self.spill.is_empty() {
            self.spill.extend_from_slice(&self.inline);
        }
        self.spill.insert(at, index);
    }

    /// Forgets all indexes, for the next request.
    pub fn clear(&mut self) {
        self.count = 0;
        self.spill.clear();
    }

    /// Whether the index was added.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        u32::try_from(index).is_ok_and(|index| self.as_slice().binary_search(&index).is_ok())
    }

    /// Number of indexes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether nothing was tried yet.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.spill.is_empty()
    }

    fn as_slice(&self) -> &[u32] {
        if self.spill.is_empty() {
            self.inline.get(..usize::from(self.count)).unwrap_or_default()
        } else {
            &self.spill
        }
    }
}

/// 2^64 divided by the golden ratio: multiples of it, taken modulo 2^64, are spread evenly however many are taken.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The number nearest to `total` over the golden ratio that is coprime to `total`; 0 up to a total of 1.
fn spreading_stride(total: u64) -> u64 {
    if total <= 1 {
        return 0;
    }
    let ideal = ((u128::from(total) * u128::from(GOLDEN)) >> 64) as u64;
    // 1 is coprime to everything, so the search ends; in practice after a few steps.
    (0..total)
        .flat_map(|distance| [ideal.saturating_add(distance), ideal.saturating_sub(distance)])
        .find(|&stride| stride > 0 && stride < total && gcd(stride, total) == 1)
        .unwrap_or(1)
}

fn gcd(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(rotor: &RoundRobin, candidates: usize, picks: u64) -> Vec<u64> {
        let mut counts = vec![0; candidates];
        for _ in 0..picks {
            if let Some(slot) = rotor.pick(&Tried::new()).and_then(|index| counts.get_mut(index)) {
                *slot += 1;
            }
        }
        counts
    }

    fn tried(indexes: &[usize]) -> Tried {
        let mut tried = Tried::new();
        indexes.iter().for_each(|&index| tried.insert(index));
        tried
    }

    #[test]
    fn nothing_to_pick() {
        assert_eq!(RoundRobin::new(&[], 3).pick(&Tried::new()), None);
        assert_eq!(RoundRobin::new(&[0, 0], 3).pick(&tried(&[0])), None);
    }

    #[test]
    fn equal_weights_go_round_in_order_from_the_offset() {
        let rotor = RoundRobin::new(&[7, 7, 7], 1);
        let picks: Vec<_> = (0..6).map(|_| rotor.pick(&Tried::new())).collect();
        assert_eq!(picks, [Some(1), Some(2), Some(0), Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn shards_together_start_as_one_sequence() {
        let weights = [5, 1, 3];
        let sequence = RoundRobin::new(&weights, 0);
        for shard in 0..40 {
            assert_eq!(
                RoundRobin::new(&weights, shard).pick(&Tried::new()),
                sequence.pick(&Tried::new()),
                "shard {shard}"
            );
            assert_eq!(
                RoundRobin::new(&weights, 7).with_offset(shard).place.get(),
                RoundRobin::new(&weights, shard).place.get()
            );
        }
    }

    #[test]
    fn a_light_candidate_is_not_starved_and_a_heavy_one_does_not_burst() {
        // 90:10 in any ten picks exactly nine and one; 3:2 never three of the heavy one in a row.
        let rotor = RoundRobin::new(&[90, 10], 0);
        for _ in 0..50 {
            assert_eq!(counts(&rotor, 2, 10), [9, 1]);
        }
        let rotor = RoundRobin::new(&[3, 2], 0);
        let picks: Vec<_> = (0..100).filter_map(|_| rotor.pick(&Tried::new())).collect();
        assert!(picks.windows(3).all(|window| window != [0, 0, 0]), "{picks:?}");
    }

    #[test]
    fn huge_weights_and_many_candidates_stay_cheap() {
        let rotor = RoundRobin::new(&[u32::MAX, 1, u32::MAX - 1], usize::MAX);
        assert_eq!(counts(&rotor, 3, 1000).iter().sum::<u64>(), 1000);
        let weights: Vec<u32> = (0..10_000).map(|index| 1 + index % 3).collect();
        let rotor = RoundRobin::new(&weights, 17);
        let counted = counts(&rotor, weights.len(), rotor.total);
        assert!(counted.iter().zip(&weights).all(|(&count, &weight)| count == u64::from(weight)));
    }

    #[test]
    fn retries_keep_the_weights_of_what_is_left_and_leave_first_picks_alone() {
        let rotor = RoundRobin::new(&[100, 1, 2, 0, 1], 0);
        let tried = tried(&[0, 3, 99]);
        let mut counted = [0u32; 5];
        for _ in 0..4000 {
            counted[rotor.pick(&tried).unwrap_or(0)] += 1;
        }
        assert_eq!((counted[0], counted[3]), (0, 0));
        for (index, share) in [(1, 1000), (2, 2000), (4, 1000)] {
            assert!(counted[index].abs_diff(share) <= 4, "{counted:?}");
        }
        assert_eq!(counts(&rotor, 5, 104), [100, 1, 2, 0, 1]);
    }

    #[test]
    fn all_tried_starts_over() {
        let rotor = RoundRobin::new(&[1, 1], 0);
        let all = tried(&[0, 1]);
        assert_eq!([rotor.pick(&all), rotor.pick(&all), rotor.pick(&all)], [Some(0), Some(1), Some(0)]);
    }

    proptest! {
        #[test]
        fn each_cycle_gives_each_candidate_its_weight(
            weights in prop::collection::vec(0u32..40, 1..20),
            offset in any::<usize>(),
            skipped in 0u64..100,
        ) {
            let rotor = RoundRobin::new(&weights, offset);
            counts(&rotor, weights.len(), skipped);
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let expected: Vec<_> = weights.iter().map(|&weight| u64::from(weight)).collect();
            prop_assert_eq!(counts(&rotor, weights.len(), sum), expected);
        }

        #[test]
        fn windows_stay_near_their_share(
            weights in prop::collection::vec(1u32..50, 2..6),
            window in 1u64..300,
        ) {
            // Smoothness: in any window a candidate is within a few picks of its share, though a cycle is longer.
            let rotor = RoundRobin::new(&weights, 0);
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            for (count, weight) in counts(&rotor, weights.len(), window).iter().zip(&weights) {
                let share = (window * u64::from(*weight)) as f64 / sum as f64;
                prop_assert!((*count as f64 - share).abs() <= 6.0, "{count} of {share}");
            }
        }

        #[test]
        fn tried_are_skipped_while_another_is_left(
            weights in prop::collection::vec(0u32..5, 1..24),
            indexes in prop::collection::vec(0usize..30, 0..24),
        ) {
            let rotor = RoundRobin::new(&weights, 0);
            let tried = tried(&indexes);
            let left: Vec<_> =
                (0..weights.len()).filter(|index| weights[*index] > 0 && !indexes.contains(index)).collect();
            for _ in 0..50 {
                match rotor.pick(&tried) {
                    Some(index) if left.is_empty() => prop_assert!(weights[index] > 0),
                    Some(index) => prop_assert!(left.contains(&index)),
                    None => prop_assert!(weights.iter().all(|&weight| weight == 0)),
                }
            }
        }

        #[test]
        fn tried_is_a_set(indexes in prop::collection::vec(0usize..20, 0..40)) {
            let mut set = Tried::new();
            let mut model = std::collections::BTreeSet::new();
            for index in indexes {
                set.insert(index);
                model.insert(index as u32);
                prop_assert_eq!(set.as_slice(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.len(), model.len());
            }
            prop_assert!((0..25).all(|index| set.contains(index) == model.contains(&(index as u32))));
            set.clear();
            prop_assert!(set.is_empty() && !set.contains(0));
        }
    }
}
