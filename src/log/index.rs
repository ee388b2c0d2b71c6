//! Where sources are, by their names.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

use super::store::SourceIndex;
use crate::id::Epoch;

/// An ordered map. Most topics have few sources: they are in a list, which takes a tenth of the room of a tree's node. Many are
/// in a tree, so that a newcomer costs little however many there are.
#[derive(Clone, Debug)]
pub(super) struct Index<P> {
    few: Vec<((P, Epoch), SourceIndex)>,
    /// Empty, or all of them.
    many: BTreeMap<(P, Epoch), SourceIndex>,
}

/// More are in the tree.
const FEW_MAX: usize = 16;

impl<P> Default for Index<P> {
    fn default() -> Self {
        Self { few: Vec::new(), many: BTreeMap::new() }
    }
}

impl<P: Copy + Ord> Index<P> {
    pub(super) fn len(&self) -> usize {
        self.few.len() + self.many.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, origin: P, epoch: Epoch) -> Option<SourceIndex> {
        if self.many.is_empty() {
            let place = self.place(&(origin, epoch)).ok()?;
            return Some(self.few[place].1);
        }
        self.many.get(&(origin, epoch)).copied()
    }

    pub(super) fn insert(&mut self, origin: P, epoch: Epoch, source: SourceIndex) {
        let name = (origin, epoch);
        if self.many.is_empty() {
            match self.place(&name) {
                Ok(place) => {
                    self.few[place].1 = source;
                    return;
                }
                Err(place) if self.few.len() < FEW_MAX => {
                    if self.few.len() == self.few.capacity() {
                        self.few.reserve_exact(self.few.len() / 2 + 1);
                    }
                    self.few.insert(place, (name, source));
                    return;
                }
                Err(_) => self.many.extend(core::mem::take(&mut self.few)),
            }
        }
        self.many.insert(name, source);
    }

    pub(super) fn remove(&mut self, origin: P, epoch: Epoch) {
        let name = (origin, epoch);
        if !self.many.is_empty() {
            self.many.remove(&name);
            if self.many.len() <= FEW_MAX / 2 {
                self.few = core::mem::take(&mut self.many).into_iter().collect();
            }
        } else if let Ok(place) = self.place(&name) {
            self.few.remove(place);
        }
    }

    /// The sources whose names are within bounds that are in order.
    pub(super) fn range(
        &self,
        bounds: impl RangeBounds<(P, Epoch)>,
    ) -> impl DoubleEndedIterator<Item = ((P, Epoch), SourceIndex)> {
        let start = match bounds.start_bound() {
            Bound::Included(low) => self.few.partition_point(|(name, _)| name < low),
            Bound::Excluded(low) => self.few.partition_point(|(name, _)| name <= low),
            Bound::Unbounded => 0,
        };
        let end = match bounds.end_bound() {
            Bound::Included(high) => self.few.partition_point(|(name, _)| name <= high),
            Bound::Excluded(high) => self.few.partition_point(|(name, _)| name < high),
            Bound::Unbounded => self.few.len(),
        };
        let few = self.few[start..end.max(start)].iter().copied();
        few.chain(self.many.range(bounds).map(|(&name, &source)| (name, source)))
    }

    fn place(&self, name: &(P, Epoch)) -> Result<usize, usize> {
        self.few.binary_search_by_key(name, |&(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn few_and_many_are_a_map(
            steps in prop::collection::vec((0u8..5, 0u64..30, 0u32..3), 0..300),
            bounds in (0u64..30, 0u64..30),
        ) {
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            for (step, (kind, origin, epoch)) in (0..).zip(steps) {
                // Now more come, now more go.
                let goes = if step / 100 % 2 == 0 { kind == 0 } else { kind > 0 };
                if goes {
                    index.remove(origin, Epoch(epoch));
                    model.remove(&(origin, Epoch(epoch)));
                } else {
                    index.insert(origin, Epoch(epoch), SourceIndex(step));
                    model.insert((origin, Epoch(epoch)), SourceIndex(step));
                }
                prop_assert_eq!(index.get(origin, Epoch(epoch)), model.get(&(origin, Epoch(epoch))).copied());
                prop_assert_eq!((index.len(), index.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(index.few.is_empty() || index.many.is_empty());
                let low = (bounds.0.min(bounds.1), Epoch(1));
                let high = (bounds.0.max(bounds.1), Epoch(2));
                for range in [
                    (Bound::Unbounded, Bound::Unbounded),
                    (Bound::Included(low), Bound::Included(high)),
                    (Bound::Included(low), Bound::Excluded(high)),
                    (Bound::Included(high), Bound::Unbounded),
                ] {
                    let expected = model.range(range).map(|(&name, &source)| (name, source));
                    prop_assert!(index.range(range).eq(expected.clone()), "{:?}", range);
                    prop_assert!(index.range(range).rev().eq(expected.rev()), "{:?}", range);
                }
                prop_assert!(index.many.is_empty() || index.many.len() > FEW_MAX / 2);
            }
        }
    }
}
