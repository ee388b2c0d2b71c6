//! One deadline index for everything that waits: the earliest first, O(1) to look at, O(log n) to change.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;

/// Deadlines by key; each key has at most one.
///
/// ```
/// use suffuse::{DeadlineIndex, Instant};
///
/// let mut deadlines = DeadlineIndex::new();
/// deadlines.set("ping", Some(Instant::from_secs(3)));
/// deadlines.set("retry", Some(Instant::from_secs(1)));
/// assert_eq!(deadlines.next(), Some(Instant::from_secs(1)));
/// assert_eq!(deadlines.pop_due(Instant::from_secs(2)), Some("retry"));
/// assert_eq!(deadlines.pop_due(Instant::from_secs(2)), None);
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineIndex<K> {
    /// The earliest deadline, to be looked at without touching the rest.
    first: Option<Instant>,
    order: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Copy + Ord> DeadlineIndex<K> {
    /// An index with no deadlines.
    pub const fn new() -> Self {
        Self { first: None, order: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Sets, moves or (with `None`) removes the deadline of `key`. The end of time never comes: it is none.
    pub fn set(&mut self, key: K, deadline: Option<Instant>) {
        let deadline = deadline.filter(|&at| at < Instant::MAX);
        let before = match deadline {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if before == deadline {
            return;
        }
        if let Some(at) = before {
            self.order.remove(&(at, key));
        }
        if let Some(at) = deadline {
            self.order.insert((at, key));
        }
        self.note_first();
        debug_assert_eq!(self.next(), self.scan(), "the index and a scan of all deadlines differ");
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.first
    }

    /// Removes and returns the key with the earliest deadline at or before `now`. Equal deadlines come in the
    /// order of their keys.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.first.is_none_or(|at| at > now) {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.by_key.remove(&key);
        self.note_first();
        Some(key)
    }

    /// How many keys have a deadline.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no key has a deadline.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn note_first(&mut self) {
        self.first = self.order.first().map(|&(at, _)| at);
    }

    /// The oracle: the same answer as [`Self::next`], found the slow way. Sampled, so that debug builds stay usable.
    fn scan(&self) -> Option<Instant> {
        if self.by_key.len() > 64 {
            return self.next();
        }
        self.by_key.values().min().copied()
    }
}

impl<K: Copy + Ord> Default for DeadlineIndex<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_scan(steps in prop::collection::vec((0u8..8, prop::option::of(0u64..20)), 1..200)) {
            let mut index = DeadlineIndex::new();
            let mut naive = alloc::vec![None; 8];
            for (key, at) in steps {
                let at = at.map(Instant::from_micros);
                index.set(key, at);
                naive[usize::from(key)] = at;
                prop_assert_eq!(index.next(), naive.iter().flatten().min().copied());
                prop_assert_eq!(index.len(), naive.iter().flatten().count());
            }
            let now = Instant::from_micros(10);
            let mut due: alloc::vec::Vec<_> = naive
                .iter()
                .enumerate()
                .filter_map(|(key, at)| at.filter(|&at| at <= now).map(|at| (at, key as u8)))
                .collect();
            due.sort_unstable();
            for (_, key) in due {
                prop_assert_eq!(index.pop_due(now), Some(key));
            }
            prop_assert_eq!(index.pop_due(now), None);
        }
    }
}
