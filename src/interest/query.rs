//! Reading the map.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::slice;

use smallvec::SmallVec;

use super::index::OwnRange;
use super::map::{InterestMap, InterestTotals, Peer};
use super::slab::Slab;
use super::subscribers::{Subscriber, Subscribers};
use super::types::{InterestLevel, InterestTarget};
use crate::id::{PeerId, StateId};
use crate::time::Instant;

impl<P: PeerId> InterestMap<P> {
    /// How much `peer` wants `state`: the maximum over its declarations that contain the state.
    /// `O(log declarations)`, and linear in the peer's own ranges of similar size around the state.
    pub fn level(&self, peer: P, state: StateId) -> InterestLevel {
        let Some(&slot) = self.by_peer.get(&peer) else { return InterestLevel::None };
        let exact = self.states.get(&state.0).and_then(|&target| self.own_states.get(&(slot, target)));
        let wider = classes(self.peers[slot].range_classes, 1).flat_map(|class| {
            self.own_ranges
                .range(OwnRange::beginning(slot, class, state.0.saturating_sub(reach(class)), state.0))
                .filter(|(range, _)| range.last >= state.0)
                .map(|(_, declaration)| declaration)
        });
        let levels = exact.into_iter().chain(wider).map(|&declaration| self.declarations[declaration].level);
        levels.max().unwrap_or_default()
    }

    /// What `peer` has declared for this very target. `O(log declarations)`.
    pub fn declared(&self, peer: P, target: impl Into<InterestTarget>) -> InterestLevel {
        let declaration = self.locate(peer, target.into()).declaration;
        declaration.map_or(InterestLevel::None, |declaration| self.declarations[declaration].level)
    }

    /// When the peer's declaration for this very target ends, if it is declared with a time to live.
    /// `O(log declarations)`.
    pub fn expires(&self, peer: P, target: impl Into<InterestTarget>) -> Option<Instant> {
        let declaration = self.locate(peer, target.into()).declaration?;
        Some(self.declarations[declaration].expires).filter(|&at| at != Instant::MAX)
    }

    /// What `peer` has declared: the single states in an order that depends on the history of calls alone, then the
    /// ranges from narrow to wide, by first state among those of similar size. `O(log declarations + own)`.
    pub fn states_of(&self, peer: P) -> impl Iterator<Item = (InterestTarget, InterestLevel)> + '_ {
        let slot = self.by_peer.get(&peer).copied();
        slot.into_iter().flat_map(|slot| self.own(slot)).map(|declaration| {
            let declaration = &self.declarations[declaration];
            (self.targets[declaration.target].extent, declaration.level)
        })
    }

    /// The peers that want `state` at `min` or more, each once with its level, from the highest level to the lowest.
    /// Within a level the order depends on the history of calls alone. [`InterestLevel::None`] as `min` means any
    /// interest at all.
    ///
    /// Linear in the result, without allocation, while one target at most contains the state. Where declarations for
    /// several targets meet (a track and all tracks of its participant, say), each peer must be met once: then linear
    /// in those targets' declarations, with one allocation.
    pub fn interested(&self, state: StateId, min: InterestLevel) -> Interested<'_, P> {
        let covering = self.covering(state);
        let found = match covering[..] {
            [] => Found::Listed { at: [].iter(), rest: None },
            [only] => Found::Listed { at: [].iter(), rest: Some((&self.targets[only].subscribers, 0)) },
            _ => Found::Merged(self.merged(&covering, min).into_iter()),
        };
        let len = match &found {
            Found::Listed { rest, .. } => rest.map_or(0, |(subscribers, _)| subscribers.count(min)),
            Found::Merged(merged) => merged.len(),
        };
        Interested { peers: &self.peers, found, level: InterestLevel::None, len }
    }

    /// [`Self::interested`] into a buffer that can be used again, sorted into levels.
    pub fn collect_interested(&self, state: StateId, min: InterestLevel, out: &mut LevelBuckets<P>) {
        out.clear();
        for (peer, level) in self.interested(state, min) {
            out.peers.push(peer);
            out.ends[level.rank()] += 1;
        }
        let mut end = 0;
        for level_end in &mut out.ends {
            end += *level_end;
            *level_end = end;
        }
    }

    /// How many peers want `state` at `min` or more. `O(log targets)` from counters while one target at most contains
    /// the state; otherwise as [`Self::interested`].
    pub fn count(&self, state: StateId, min: InterestLevel) -> usize {
        let covering = self.covering(state);
        match covering[..] {
            [] => 0,
            [only] => self.targets[only].subscribers.count(min),
            _ => self.merged(&covering, min).len(),
        }
    }

    /// How much the peer that wants `state` most wants it. `O(log targets + ranges)`.
    pub fn max_level(&self, state: StateId) -> InterestLevel {
        let levels = self.covering(state).into_iter().map(|target| self.targets[target].subscribers.top());
        levels.max().unwrap_or_default()
    }

    /// The aggregate of this very target: the maximum over the peers that declared it. `O(log targets)`.
    pub fn aggregate(&self, target: impl Into<InterestTarget>) -> InterestLevel {
        let target = self.target_at(target.into());
        target.map_or(InterestLevel::None, |target| self.targets[target].subscribers.top())
    }

    /// All declared targets with their aggregates: the states in ascending order, then the ranges from narrow to wide,
    /// by first state among those of similar size. `O(targets)`.
    pub fn aggregates(&self) -> impl Iterator<Item = (InterestTarget, InterestLevel)> + '_ {
        let targets = self.states.values().chain(self.ranges.values()).map(|&target| &self.targets[target]);
        targets.map(|target| (target.extent, target.subscribers.top()))
    }

    /// The peers with at least one declaration, in ascending order.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = P> + '_ {
        self.by_peer.keys().copied()
    }

    /// How many declarations there are. `O(1)`.
    pub fn len(&self) -> usize {
        self.totals.declarations
    }

    /// Whether nobody has declared anything.
    pub fn is_empty(&self) -> bool {
        self.totals.declarations == 0
    }

    /// How much the map holds. `O(1)`.
    pub fn totals(&self) -> InterestTotals {
        self.totals
    }

    /// Hands the peers that want `state` to `visitor`, level by level from the highest, each peer once with the index
    /// under which the map keeps it. Levels without peers are left out. Allocates only when `scratch` grows.
    pub(crate) fn visit_levels(
        &self,
        state: StateId,
        scratch: &mut Scratch,
        visitor: &mut impl VisitLevel<P>,
    ) {
        scratch.covering.clear();
        let exact = self.states.get(&state.0).copied();
        scratch.covering.extend(exact.into_iter().chain(self.ranges_covering(state.into())));
        if let [only] = scratch.covering[..] {
            let subscribers = &self.targets[only].subscribers;
            for level in InterestLevel::DESCENDING {
                let entries = subscribers.at(level);
                if !entries.is_empty() {
                    visitor.visit(level, entries.iter().map(|entry| (entry.slot, self.peers[entry.slot].id)));
                }
            }
        } else if scratch.covering.len() > 1 {
            self.merge(&scratch.covering, InterestLevel::Low, &mut scratch.levels, &mut scratch.found);
            for same in scratch.found.chunk_by(|(_, one), (_, other)| one == other) {
                visitor.visit(same[0].1, same.iter().map(|&(slot, _)| (slot, self.peers[slot].id)));
            }
        }
    }

    /// The highest aggregate among the targets that are wider than `extent` and contain it.
    pub(super) fn covered(&self, extent: InterestTarget) -> InterestLevel {
        self.ranges_covering(extent)
            .filter(|&target| self.targets[target].extent != extent)
            .map(|target| self.targets[target].subscribers.top())
            .max()
            .unwrap_or_default()
    }

    /// The targets that contain `state`.
    fn covering(&self, state: StateId) -> SmallVec<[u32; 8]> {
        self.states.get(&state.0).copied().into_iter().chain(self.ranges_covering(state.into())).collect()
    }

    fn ranges_covering(&self, extent: InterestTarget) -> impl Iterator<Item = u32> + '_ {
        let (first, last) = (extent.first().0, extent.last().0);
        classes(self.range_classes, extent.class()).flat_map(move |class| {
            self.ranges
                .range((class, last.saturating_sub(reach(class)), 0)..=(class, first, u64::MAX))
                .filter(move |&(&(_, _, end), _)| end >= last)
                .map(|(_, &target)| target)
        })
    }

    /// Each peer of several targets once, with its highest level: by level from the highest, then by slot.
    fn merged(&self, targets: &[u32], min: InterestLevel) -> Vec<(u32, InterestLevel)> {
        let mut found = Vec::new();
        self.merge(targets, min, &mut Vec::new(), &mut found);
        found
    }

    /// [`Self::merged`] into `found`, with `levels` to work in.
    fn merge(
        &self,
        targets: &[u32],
        min: InterestLevel,
        levels: &mut Vec<InterestLevel>,
        found: &mut Vec<(u32, InterestLevel)>,
    ) {
        found.clear();
        let min = min.max(InterestLevel::Low);
        let lists = || targets.iter().map(|&target| &self.targets[target].subscribers);
        let listed = lists().map(|subscribers| subscribers.count(min)).sum::<usize>();
        let entries = lists().flat_map(|subscribers| {
            let wanted = InterestLevel::DESCENDING.into_iter().take_while(move |&level| level >= min);
            wanted.flat_map(|level| subscribers.at(level).iter().map(move |entry| (entry.slot, level)))
        });
        if listed < self.peers.end() / SLOTS_PER_ENTRY {
            found.extend(entries);
            found.sort_unstable_by_key(|&(slot, level)| (slot, Reverse(level)));
            found.dedup_by_key(|&mut (slot, _)| slot);
            found.sort_unstable_by_key(|&(slot, level)| (Reverse(level), slot));
            return;
        }

        levels.clear();
        levels.resize(self.peers.end(), InterestLevel::None);
        for (slot, level) in entries {
            let highest = &mut levels[slot as usize];
            *highest = level.max(*highest);
        }
        let mut next = [0; 5];
        for level in levels.iter() {
            next[level.rank()] += 1;
        }
        let mut end = 0;
        for count in &mut next {
            end += core::mem::replace(count, end);
        }
        // Those without interest come last by rank, and are left out.
        found.resize(next[4], (0, InterestLevel::None));
        for (slot, &level) in levels.iter().enumerate() {
            if level != InterestLevel::None {
                let place = &mut next[level.rank()];
                found[*place] = (slot as u32, level);
                *place += 1;
            }
        }
    }
}

/// What [`InterestMap::visit_levels`] calls.
pub(crate) trait VisitLevel<P> {
    /// Those who want the state at `level`: the map's index of the peer, which it keeps while it has declarations,
    /// and the peer.
    fn visit(&mut self, level: InterestLevel, peers: impl ExactSizeIterator<Item = (u32, P)>);
}

/// What [`InterestMap::visit_levels`] works in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    covering: SmallVec<[u32; 8]>,
    levels: Vec<InterestLevel>,
    found: Vec<(u32, InterestLevel)>,
}

/// Marking every slot costs about a sixteenth of sorting an entry.
const SLOTS_PER_ENTRY: usize = 16;

/// The greatest `last - first` of a size class.
const fn reach(class: u8) -> u64 {
    u64::MAX >> (64 - class)
}

/// The size classes in a mask, from `from` up, ascending.
fn classes(mask: u64, from: u8) -> impl Iterator<Item = u8> {
    let mut left = mask & (u64::MAX << from.saturating_sub(1));
    core::iter::from_fn(move || {
        let class = left.trailing_zeros() as u8 + 1;
        (left != 0).then(|| {
            left &= left - 1;
            class
        })
    })
}

/// The peers that want a state; see [`InterestMap::interested`].
#[derive(Clone, Debug)]
pub struct Interested<'a, P> {
    peers: &'a Slab<Peer<P>>,
    found: Found<'a>,
    /// The level of those that `Found::Listed::at` still holds.
    level: InterestLevel,
    len: usize,
}

#[derive(Clone, Debug)]
enum Found<'a> {
    /// The list of one target, level by level.
    Listed {
        at: slice::Iter<'a, Subscriber>,
        /// The list, and the rank of the level that comes after `at`.
        rest: Option<(&'a Subscribers, usize)>,
    },
    Merged(vec::IntoIter<(u32, InterestLevel)>),
}

impl<P: PeerId> Iterator for Interested<'_, P> {
    type Item = (P, InterestLevel);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // The list may go on below the minimum.
        self.len = self.len.checked_sub(1)?;
        match &mut self.found {
            Found::Listed { at, rest } => loop {
                if let Some(entry) = at.next() {
                    return Some((self.peers[entry.slot].id, self.level));
                }
                let (subscribers, rank) = rest.as_mut()?;
                self.level = *InterestLevel::DESCENDING.get(*rank)?;
                *at = subscribers.at(self.level).iter();
                *rank += 1;
            },
            Found::Merged(merged) => merged.next().map(|(slot, level)| (self.peers[slot].id, level)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<P: PeerId> ExactSizeIterator for Interested<'_, P> {}
impl<P: PeerId> core::iter::FusedIterator for Interested<'_, P> {}

/// Peers sorted into levels, in memory that is used again; see [`InterestMap::collect_interested`].
#[derive(Clone, Debug)]
pub struct LevelBuckets<P> {
    peers: Vec<P>,
    /// Where each level ends, by [`InterestLevel::rank`].
    ends: [usize; 4],
}

impl<P> Default for LevelBuckets<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> LevelBuckets<P> {
    /// No peers.
    pub const fn new() -> Self {
        Self { peers: Vec::new(), ends: [0; 4] }
    }

    /// The peers with exactly this level; nobody for [`InterestLevel::None`].
    pub fn at(&self, level: InterestLevel) -> &[P] {
        let rank = level.rank();
        let Some(&end) = self.ends.get(rank) else { return &[] };
        let start = if rank == 0 { 0 } else { self.ends[rank - 1] };
        &self.peers[start..end]
    }

    /// The peers with this level or a higher one, the highest first; everybody for [`InterestLevel::None`].
    pub fn at_least(&self, level: InterestLevel) -> &[P] {
        &self.peers[..self.ends[level.rank().min(3)]]
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Removes all peers and keeps the memory.
    pub fn clear(&mut self) {
        self.peers.clear();
        self.ends = [0; 4];
    }
}
