//! Sets of sequences as a short list of ranges.

use core::ops::Range;

use smallvec::SmallVec;

/// A set of sequences, kept as sorted, disjoint, non-adjacent half-open ranges.
///
/// What a node has of an origin is almost always one range, so announcements and digests cost bytes per origin and
/// not per update.
///
/// ```
/// use suffuse::RangeSet;
///
/// let mut set = RangeSet::new();
/// set.insert(0..3);
/// set.insert(5..6);
/// assert_eq!(set.iter().collect::<Vec<_>>(), [0..3, 5..6]);
/// set.insert(3..5);
/// assert_eq!(set.iter().collect::<Vec<_>>(), [0..6]);
/// assert_eq!(set.len(), 6);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeSet {
    /// (start, end) pairs; `Range` itself is neither `Copy` nor `Ord`.
    ranges: SmallVec<[(u64, u64); 2]>,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self { ranges: SmallVec::new() }
    }

    /// Whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many sequences are in the set.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).fold(0, u64::saturating_add)
    }

    /// How many ranges the set takes.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The least member.
    pub fn first(&self) -> Option<u64> {
        self.ranges.first().map(|&(start, _)| start)
    }

    /// One past the greatest member, or 0.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |&(_, end)| end)
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator + '_ {
        self.ranges.iter().map(|&(start, end)| start..end)
    }

    /// Whether `sequence` is in the set.
    pub fn contains(&self, sequence: u64) -> bool {
        let after = self.ranges.partition_point(|&(_, end)| end <= sequence);
        self.ranges.get(after).is_some_and(|&(start, _)| start <= sequence)
    }

    /// Adds all of `range`; an empty range adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Everything that overlaps or touches the new range is merged into it.
        let from = self.ranges.partition_point(|&(_, end)| end < range.start);
        let to = self.ranges.partition_point(|&(start, _)| start <= range.end);
        if from == to {
            self.ranges.insert(from, (range.start, range.end));
            return;
        }
        let start = range.start.min(self.ranges[from].0);
        let end = range.end.max(self.ranges[to - 1].1);
        self.ranges[from] = (start, end);
        self.ranges.drain(from + 1..to);
    }

    /// Removes all of `range`.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|&(_, end)| end <= range.start);
        let to = self.ranges.partition_point(|&(start, _)| start < range.end);
        if from >= to {
            return;
        }
        let head = (self.ranges[from].0, range.start);
        let tail = (range.end, self.ranges[to - 1].1);
        self.ranges.drain(from..to);
        for (start, end) in [tail, head] {
            if start < end {
                self.ranges.insert(from, (start, end));
            }
        }
    }

    /// Adds every member of `other`.
    pub fn union_with(&mut self, other: &Self) {
        for range in other.iter() {
            self.insert(range);
        }
    }

    /// Removes every member of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for range in other.iter() {
            self.remove(range);
        }
    }

    /// The members of this set that lie in `range`.
    #[must_use]
    pub fn within(&self, range: Range<u64>) -> Self {
        let mut result = Self::new();
        let from = self.ranges.partition_point(|&(_, end)| end <= range.start);
        for &(start, end) in &self.ranges[from..] {
            if start >= range.end {
                break;
            }
            result.insert(start.max(range.start)..end.min(range.end));
        }
        result
    }

    /// The first `count` members, which leave this set.
    #[must_use]
    pub fn take_front(&mut self, count: u64) -> Self {
        let mut left = count;
        let mut taken = Self::new();
        while left > 0 && !self.is_empty() {
            let (start, end) = self.ranges[0];
            let stop = end.min(start.saturating_add(left));
            left -= stop - start;
            taken.insert(start..stop);
            self.remove(start..stop);
        }
        taken
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

impl From<Range<u64>> for RangeSet {
    fn from(range: Range<u64>) -> Self {
        Self::from_iter([range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn check(set: &RangeSet, naive: &BTreeSet<u64>) -> Result<(), TestCaseError> {
        prop_assert_eq!(set.iter().flatten().collect::<Vec<_>>(), naive.iter().copied().collect::<Vec<_>>());
        let ranges: Vec<_> = set.iter().collect();
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].end < pair[1].start, "touching ranges were not merged: {:?}", pair);
        }
        prop_assert_eq!(set.len(), naive.len() as u64);
        prop_assert_eq!(set.first(), naive.first().copied());
        prop_assert_eq!(set.end(), naive.last().map_or(0, |last| last + 1));
        Ok(())
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(
            steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 1..60),
            cut in 0u64..60,
            count in 0u64..30,
        ) {
            let mut set = RangeSet::new();
            let mut naive = BTreeSet::new();
            for (add, start, len) in steps {
                if add {
                    set.insert(start..start + len);
                    naive.extend(start..start + len);
                } else {
                    set.remove(start..start + len);
                    naive.retain(|n| !(start..start + len).contains(n));
                }
                check(&set, &naive)?;
            }
            for n in 0..80 {
                prop_assert_eq!(set.contains(n), naive.contains(&n));
            }
            check(&set.within(cut..cut + 20), &naive.range(cut..cut + 20).copied().collect())?;
            let taken = set.take_front(count);
            check(&taken, &naive.iter().copied().take(count as usize).collect())?;
            check(&set, &naive.iter().copied().skip(count as usize).collect())?;
        }

        #[test]
        fn set_algebra_agrees(a in prop::collection::btree_set(0u64..40, 0..30), b in prop::collection::btree_set(0u64..40, 0..30)) {
            let make = |naive: &BTreeSet<u64>| naive.iter().map(|&n| n..n + 1).collect::<RangeSet>();
            let mut union = make(&a);
            union.union_with(&make(&b));
            check(&union, &a.union(&b).copied().collect())?;
            let mut difference = make(&a);
            difference.subtract(&make(&b));
            check(&difference, &a.difference(&b).copied().collect())?;
        }
    }

    #[test]
    fn the_ends_of_the_number_line_are_safe() {
        let mut set = RangeSet::from(0..u64::MAX);
        assert_eq!(set.len(), u64::MAX);
        set.remove(u64::MAX - 1..u64::MAX);
        assert!(!set.contains(u64::MAX - 1));
        assert_eq!(set.take_front(u64::MAX).end(), u64::MAX - 1);
    }
}
