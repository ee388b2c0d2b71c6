//! The peers that declared one target, contiguous and grouped by level.

use smallvec::SmallVec;

use super::types::InterestLevel;

/// One peer in the list of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Subscriber {
    pub(super) slot: u32,
    pub(super) declaration: u32,
}

/// The list, from the highest level to the lowest, so that "at least this level" is always its beginning.
///
/// Inserting and removing moves at most one entry per level; whoever keeps positions is told of each move.
#[derive(Clone, Debug)]
pub(super) struct Subscribers {
    list: SmallVec<[Subscriber; 2]>,
    /// Where each level ends, by [`InterestLevel::rank`].
    ends: [u32; 4],
}

impl Subscribers {
    pub(super) fn new() -> Self {
        Self { list: SmallVec::new(), ends: [0; 4] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The highest level that anybody has.
    pub(super) fn top(&self) -> InterestLevel {
        let rank = self.ends.iter().position(|&end| end > 0);
        rank.map_or(InterestLevel::None, |rank| InterestLevel::DESCENDING[rank])
    }

    /// How many have at least `min`. [`InterestLevel::None`] counts everybody.
    pub(super) fn count(&self, min: InterestLevel) -> usize {
        self.ends[min.rank().min(3)] as usize
    }

    /// Those with exactly `level`.
    #[inline]
    pub(super) fn at(&self, level: InterestLevel) -> &[Subscriber] {
        let rank = level.rank();
        let Some(&end) = self.ends.get(rank) else { return &[] };
        let start = if rank == 0 { 0 } else { self.ends[rank - 1] };
        &self.list[start as usize..end as usize]
    }

    /// Adds a subscriber and returns its position. `moved(declaration, position)` is called for whoever moves.
    pub(super) fn insert(
        &mut self,
        level: InterestLevel,
        subscriber: Subscriber,
        mut moved: impl FnMut(u32, u32),
    ) -> u32 {
        let rank = level.rank();
        let mut hole = self.list.len() as u32;
        if self.list.len() == self.list.capacity() {
            // A quarter in reserve instead of as much again: most of a map's memory is in these lists.
            self.list.reserve_exact(self.list.len() / 4 + 2);
        }
        self.list.push(subscriber);
        for lower in (rank + 1..4).rev() {
            let start = self.ends[lower - 1];
            self.relocate(start, hole, &mut moved);
            hole = start;
            self.ends[lower] += 1;
        }
        self.ends[rank] += 1;
        self.list[hole as usize] = subscriber;
        hole
    }

    /// Removes the subscriber with this level at this position. `moved` is as for [`Self::insert`].
    pub(super) fn remove(&mut self, level: InterestLevel, position: u32, mut moved: impl FnMut(u32, u32)) {
        let mut hole = position;
        for rank in level.rank()..4 {
            self.ends[rank] -= 1;
            let last = self.ends[rank];
            self.relocate(last, hole, &mut moved);
            hole = last;
        }
        self.list.pop();
        let few = self.list.len() <= self.list.inline_size();
        if self.list.spilled() && (few || self.list.len() < self.list.capacity() / 2) {
            self.list.shrink_to_fit();
        }
    }

    fn relocate(&mut self, from: u32, to: u32, moved: &mut impl FnMut(u32, u32)) {
        if from != to {
            self.list[to as usize] = self.list[from as usize];
            moved(self.list[to as usize].declaration, to);
        }
    }
}
