//! What is known of each published update, and sets of nodes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use super::NodeId;
use crate::id::{Epoch, SwarmId, UpdateId};

/// A swarm, an origin and one of its lives.
pub(super) type SourceId = (SwarmId, NodeId, Epoch);

/// One `T` per published update, found by its identity at the cost of one lookup by source.
#[derive(Clone, Debug)]
pub(super) struct Ledger<T> {
    sources: BTreeMap<SourceId, Source>,
    items: Vec<(UpdateId<NodeId>, T)>,
}

/// Sequences are contiguous, so a list finds an item without a search.
#[derive(Clone, Debug)]
struct Source {
    first: u64,
    places: Vec<Option<u32>>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { sources: BTreeMap::new(), items: Vec::new() }
    }
}

impl<T> Ledger<T> {
    /// Adds an update; a second one of the same identity is ignored.
    pub(super) fn insert(&mut self, id: UpdateId<NodeId>, item: T) {
        let source = (id.swarm, id.origin, id.epoch);
        let source =
            self.sources.entry(source).or_insert_with(|| Source { first: id.sequence, places: Vec::new() });
        assert!(
            id.sequence >= source.first && id.sequence - source.first < 1 << 32,
            "sequences must be reported in their order"
        );
        let place = (id.sequence - source.first) as usize;
        if place >= source.places.len() {
            source.places.resize(place + 1, None);
        }
        if source.places[place].is_none() {
            source.places[place] = Some(self.items.len() as u32);
            self.items.push((id, item));
        }
    }

    pub(super) fn find(&mut self, id: &UpdateId<NodeId>) -> Option<&mut T> {
        let source = self.sources.get(&(id.swarm, id.origin, id.epoch))?;
        let place = usize::try_from(id.sequence.checked_sub(source.first)?).ok()?;
        let index = (*source.places.get(place)?)?;
        Some(&mut self.items[index as usize].1)
    }

    /// Calls `visit` with every known update of a source in `sequences`, however wide that range is.
    pub(super) fn for_each_in(
        &mut self,
        source: SourceId,
        sequences: Range<u64>,
        mut visit: impl FnMut(&UpdateId<NodeId>, &mut T),
    ) {
        let Some(source) = self.sources.get(&source) else { return };
        let end = source.first + source.places.len() as u64;
        let (from, to) = (sequences.start.clamp(source.first, end), sequences.end.clamp(source.first, end));
        for sequence in from..to {
            if let Some(index) = source.places[(sequence - source.first) as usize] {
                let (id, item) = &mut self.items[index as usize];
                visit(id, item);
            }
        }
    }

    /// All updates in the order in which they were added.
    pub(super) fn items(&self) -> &[(UpdateId<NodeId>, T)] {
        &self.items
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = (UpdateId<NodeId>, &mut T)> + '_ {
        self.items.iter_mut().map(|(id, item)| (*id, item))
    }

    pub(super) fn items_mut(&mut self) -> impl Iterator<Item = &mut T> + '_ {
        self.items.iter_mut().map(|(_, item)| item)
    }
}

/// A set of nodes: one bit each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct NodeSet {
    words: Vec<u64>,
}

impl NodeSet {
    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.words.get(node as usize / 64).is_some_and(|word| word >> (node % 64) & 1 == 1)
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, node: NodeId) -> bool {
        let word = node as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let before = self.words[word];
        self.words[word] |= 1 << (node % 64);
        before != self.words[word]
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        if let Some(word) = self.words.get_mut(node as usize / 64) {
            *word &= !(1 << (node % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_found_by_identity_only() {
        let id = |epoch, sequence| UpdateId { swarm: SwarmId(1), origin: 2, epoch: Epoch(epoch), sequence };
        let mut ledger = Ledger::default();
        for sequence in [5, 6, 9] {
            ledger.insert(id(1, sequence), sequence);
        }
        ledger.insert(id(1, 6), 600);
        assert_eq!(ledger.find(&id(1, 6)), Some(&mut 6));
        for missing in [id(1, 4), id(1, 7), id(1, 10), id(2, 5), id(1, u64::MAX)] {
            assert_eq!(ledger.find(&missing), None);
        }
        let mut seen = Vec::new();
        ledger.for_each_in((SwarmId(1), 2, Epoch(1)), 6..u64::MAX, |_, &mut item| seen.push(item));
        ledger.for_each_in((SwarmId(1), 2, Epoch(1)), 0..6, |_, &mut item| seen.push(item));
        assert_eq!(seen, [6, 9, 5]);
    }

    #[test]
    fn node_sets_hold_what_was_put_in() {
        let mut set = NodeSet::default();
        assert!(set.insert(130) && !set.insert(130));
        assert!(set.contains(130) && !set.contains(2) && !set.contains(1 << 40));
        set.remove(130);
        assert!(!set.contains(130));
    }
}
