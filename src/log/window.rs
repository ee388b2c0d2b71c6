//! Exact duplicate detection: a high-water mark and a bitmap.

use core::ops::Range;

use smallvec::SmallVec;

use super::ranges::RangeSet;
use crate::rng::mix;

/// Which sequences of one source are known: everything below a base, and single ones above it.
///
/// Exact: no false positives and no forgetting. In order it takes no more than the base; out of order, one bit for each
/// update between the base and the newest. It also keeps a 64-bit fingerprint of its content, at O(1) amortised cost, so
/// that two nodes can tell whether they know the same.
///
/// ```
/// use suffuse::log::Window;
///
/// let mut window = Window::new(0);
/// assert!(window.insert(0));
/// assert!(!window.insert(0));
/// assert!(window.insert(2));
/// assert_eq!(window.missing().iter().collect::<Vec<_>>(), [1..2]);
/// ```
#[derive(Clone, Debug)]
pub struct Window {
    /// Everything below is known.
    base: u64,
    /// Bit `i` of word `w` is sequence `floor(base / 64) · 64 + 64 w + i`. Bits below the base are not kept up.
    words: SmallVec<[u64; 2]>,
    /// One past the greatest known sequence.
    end: u64,
    salt: u64,
    fingerprint: u64,
}

impl Window {
    /// A window that knows nothing. `salt` names the source in the fingerprint.
    pub fn new(salt: u64) -> Self {
        Self { base: 0, words: SmallVec::new(), end: 0, salt, fingerprint: 0 }
    }

    /// Everything below this sequence is known; this one is not.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// One past the greatest known sequence.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether `sequence` is known.
    pub fn contains(&self, sequence: u64) -> bool {
        if sequence < self.base || sequence >= self.end {
            return sequence < self.base;
        }
        let (word, bit) = self.place(sequence);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Makes `sequence` known; false if it was already.
    ///
    /// The caller bounds the distance with [`Window::give_up_below`]: memory is one bit per sequence from the base.
    pub fn insert(&mut self, sequence: u64) -> bool {
        if self.contains(sequence) {
            return false;
        }
        if sequence == self.base {
            self.advance(sequence + 1);
        } else {
            let (word, bit) = self.place(sequence);
            if word >= self.words.len() {
                self.words.resize(word + 1, 0);
            }
            self.words[word] |= bit;
            self.fingerprint = self.fingerprint.wrapping_add(self.above(sequence));
        }
        self.end = self.end.max(sequence + 1);
        true
    }

    /// Makes all of `range` known; returns what was not.
    pub fn close(&mut self, range: Range<u64>) -> RangeSet {
        let mut unknown = RangeSet::new();
        if range.is_empty() {
            return unknown;
        }
        if range.start <= self.base {
            return self.give_up_below(range.end);
        }
        for sequence in range {
            if self.insert(sequence) {
                unknown.insert(sequence..sequence + 1);
            }
        }
        unknown
    }

    /// Raises the base to `base` at least; returns what below it was not known.
    pub fn give_up_below(&mut self, base: u64) -> RangeSet {
        if base <= self.base {
            return RangeSet::new();
        }
        let unknown = self.missing_within(self.base..base);
        self.advance(base);
        self.end = self.end.max(base);
        unknown
    }

    /// What lies between the base and the greatest known sequence and is not known.
    pub fn missing(&self) -> RangeSet {
        self.missing_within(self.base..self.end)
    }

    /// What of `range` is not known.
    pub fn missing_within(&self, range: Range<u64>) -> RangeSet {
        let mut missing = RangeSet::new();
        let mut at = range.start.max(self.base);
        while at < range.end {
            if at >= self.end {
                missing.insert(at..range.end);
                break;
            }
            let known = self.run(at, true);
            let gap_start = at + known;
            if gap_start >= range.end {
                break;
            }
            let gap = if gap_start >= self.end { u64::MAX } else { self.run(gap_start, false) };
            let gap_end = gap_start.saturating_add(gap).min(range.end);
            missing.insert(gap_start..gap_end);
            at = gap_end;
        }
        missing
    }

    /// Everything known.
    pub fn known(&self) -> RangeSet {
        let mut known = RangeSet::from(0..self.base);
        let mut at = self.base;
        while at < self.end {
            at += self.run(at, false);
            let len = self.run(at, true);
            known.insert(at..at + len);
            at += len;
        }
        known
    }

    /// A 64-bit hash of what is known. Equal content gives equal fingerprints; an empty window has 0. Those of many
    /// windows add up (wrapping) to that of all.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// How many sequences from `at` on are known (or unknown), up to the end.
    fn run(&self, at: u64, known: bool) -> u64 {
        let mut at_now = at;
        while at_now < self.end {
            let (word, _) = self.place(at_now);
            let bits = self.words.get(word).copied().unwrap_or(0);
            let bits = if known { !bits } else { bits } >> (at_now & 63);
            let stop = u64::from(bits.trailing_zeros());
            let room = 64 - (at_now & 63);
            if stop < room {
                return (at_now + stop).min(self.end) - at;
            }
            at_now += room;
        }
        self.end.max(at) - at
    }

    /// Moves the base to `to` and on over everything known there, and mends the fingerprint.
    fn advance(&mut self, to: u64) {
        let before = self.base;
        let stop = if to < self.end { to + self.run(to, true) } else { to };
        // Known bits that the base passes are covered by the base from now on.
        let mut at = before + 1;
        while at < stop.min(self.end) {
            at += self.run(at, false);
            let len = self.run(at, true).min(stop.saturating_sub(at));
            for sequence in at..at + len {
                self.fingerprint = self.fingerprint.wrapping_sub(self.above(sequence));
            }
            at += len.max(1);
        }
        self.fingerprint = self.fingerprint.wrapping_sub(self.below(before)).wrapping_add(self.below(stop));
        let passed = ((stop >> 6) - (before >> 6)) as usize;
        self.words.drain(..passed.min(self.words.len()));
        if stop >= self.end {
            self.words.clear();
        }
        self.base = stop;
    }

    fn place(&self, sequence: u64) -> (usize, u64) {
        (((sequence >> 6) - (self.base >> 6)) as usize, 1 << (sequence & 63))
    }

    fn above(&self, sequence: u64) -> u64 {
        mix(self.salt ^ mix(sequence << 1 | 1))
    }

    fn below(&self, base: u64) -> u64 {
        if base == 0 { 0 } else { mix(self.salt ^ mix(base << 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Close(u64, u64),
        GiveUp(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u64..300).prop_map(Step::Insert),
            1 => (0u64..300, 0u64..90).prop_map(|(start, len)| Step::Close(start, len)),
            1 => (0u64..300).prop_map(Step::GiveUp),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec(step(), 1..300)) {
            let mut window = Window::new(9);
            let mut naive = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(sequence) => prop_assert_eq!(window.insert(sequence), naive.insert(sequence)),
                    Step::Close(start, len) => {
                        let unknown: Vec<_> = (start..start + len).filter(|n| naive.insert(*n)).collect();
                        prop_assert_eq!(window.close(start..start + len).iter().flatten().collect::<Vec<_>>(), unknown);
                    }
                    Step::GiveUp(base) => {
                        let unknown: Vec<_> = (0..base).filter(|n| naive.insert(*n)).collect();
                        prop_assert_eq!(window.give_up_below(base).iter().flatten().collect::<Vec<_>>(), unknown);
                    }
                }
                let end = naive.last().map_or(0, |last| last + 1);
                let base = (0..).find(|n| !naive.contains(n)).unwrap();
                prop_assert_eq!(window.base(), base);
                prop_assert_eq!(window.end(), end);
                for n in 0..400 {
                    prop_assert_eq!(window.contains(n), naive.contains(&n), "sequence {}", n);
                }
                prop_assert_eq!(window.known().iter().flatten().collect::<Vec<_>>(), naive.iter().copied().collect::<Vec<_>>());
                let missing: Vec<_> = (0..end).filter(|n| !naive.contains(n)).collect();
                prop_assert_eq!(window.missing().iter().flatten().collect::<Vec<_>>(), missing);
            }
            // The fingerprint depends on the content alone, not on the way there.
            let mut in_order = Window::new(9);
            for &n in &naive {
                in_order.insert(n);
            }
            prop_assert_eq!(window.fingerprint(), in_order.fingerprint());
            let next = window.base();
            let before = window.fingerprint();
            window.insert(next);
            prop_assert_ne!(window.fingerprint(), before);
        }
    }

    #[test]
    fn in_order_traffic_takes_no_heap() {
        let mut window = Window::new(1);
        for sequence in 0..100_000 {
            assert!(window.insert(sequence));
        }
        assert!(!window.words.spilled());
        assert_eq!(window.base(), 100_000);
    }

    #[test]
    fn equal_windows_of_different_sources_differ() {
        let (mut a, mut b) = (Window::new(1), Window::new(2));
        a.insert(0);
        b.insert(0);
        assert_ne!(a.fingerprint(), b.fingerprint());
    }
}
