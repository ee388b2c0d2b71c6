//! The indices of the map, and the three ways in which they change.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::RangeInclusive;

use super::aggregate::AggregateChange;
use super::map::{Declaration, InterestMap, NEVER, Peer, Target};
use super::subscribers::{Subscriber, Subscribers};
use super::types::{InterestChange, InterestLevel, InterestTarget};
use crate::id::PeerId;
use crate::time::Instant;

/// The indices that a call is about, as far as they exist.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) slot: Option<u32>,
    pub(super) target: Option<u32>,
    pub(super) declaration: Option<u32>,
}

impl<P: PeerId> InterestMap<P> {
    /// Where things are that a call is about, as far as they exist.
    pub(super) fn locate(&self, peer: P, extent: InterestTarget) -> Place {
        let slot = self.by_peer.get(&peer).copied();
        let target = self.target_at(extent);
        let declaration = slot.zip(target).and_then(|(slot, target)| self.own_at(slot, target, extent));
        Place { slot, target, declaration }
    }

    /// The declarations of a peer: states, then ranges.
    pub(super) fn own(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let states = self.own_states.range((slot, 0)..=(slot, u32::MAX)).map(|(_, &declaration)| declaration);
        states.chain(self.own_ranges.range(OwnRange::all(slot)).map(|(_, &declaration)| declaration))
    }

    fn own_at(&self, slot: u32, target: u32, extent: InterestTarget) -> Option<u32> {
        if extent.is_state() {
            self.own_states.get(&(slot, target)).copied()
        } else {
            self.own_ranges.get(&OwnRange::new(slot, extent)).copied()
        }
    }

    pub(super) fn target_at(&self, extent: InterestTarget) -> Option<u32> {
        if extent.is_state() {
            self.states.get(&extent.first().0).copied()
        } else {
            self.ranges.get(&range_key(extent)).copied()
        }
    }

    /// Makes the declaration what it should be; the limits were checked.
    pub(super) fn put(
        &mut self,
        peer: P,
        target: InterestTarget,
        level: InterestLevel,
        expires: Instant,
        place: Place,
    ) -> InterestChange<P> {
        let none = InterestLevel::None;
        match place.declaration {
            Some(declaration) if level == none => self.detach(declaration),
            Some(declaration) => self.replace(declaration, level, expires),
            None if level == none => InterestChange { peer, target, from: none, to: none, aggregate: None },
            None => self.attach(peer, target, level, expires, place),
        }
    }

    fn attach(
        &mut self,
        peer: P,
        extent: InterestTarget,
        level: InterestLevel,
        expires: Instant,
        place: Place,
    ) -> InterestChange<P> {
        let slot = place.slot.unwrap_or_else(|| self.add_peer(peer));
        let target = place.target.unwrap_or_else(|| self.add_target(extent));
        let owner = &mut self.peers[slot];
        owner.declarations += 1;
        owner.range_classes |= class_bit(extent.class());
        self.totals.declarations += 1;
        self.totals.declarations_by_level[level.rank()] += 1;

        let entry = Declaration { slot, target, position: 0, level, expires };
        let declaration = self.declarations.insert(entry);
        if extent.is_state() {
            self.own_states.insert((slot, target), declaration);
        } else {
            self.own_ranges.insert(OwnRange::new(slot, extent), declaration);
        }
        self.schedule(declaration, NEVER, expires);

        let subscribers = &mut self.targets[target].subscribers;
        let before = subscribers.top();
        let entries = &mut self.declarations;
        let position = subscribers.insert(level, Subscriber { slot, declaration }, |moved, position| {
            entries[moved].position = position;
        });
        entries[declaration].position = position;
        let after = subscribers.top();
        let aggregate = self.aggregate_change(extent, before, after);
        InterestChange { peer, target: extent, from: InterestLevel::None, to: level, aggregate }
    }

    fn replace(&mut self, declaration: u32, level: InterestLevel, expires: Instant) -> InterestChange<P> {
        let entry = &mut self.declarations[declaration];
        let Declaration { slot, target, position, level: from, expires: expired } = *entry;
        entry.level = level;
        entry.expires = expires;
        self.schedule(declaration, expired, expires);

        let Target { extent, subscribers } = &mut self.targets[target];
        let (extent, before) = (*extent, subscribers.top());
        if from != level {
            self.totals.declarations_by_level[from.rank()] -= 1;
            self.totals.declarations_by_level[level.rank()] += 1;
            let entries = &mut self.declarations;
            let mut moved = |moved, position| entries[moved].position = position;
            subscribers.remove(from, position, &mut moved);
            let position = subscribers.insert(level, Subscriber { slot, declaration }, &mut moved);
            entries[declaration].position = position;
        }
        let after = subscribers.top();
        let aggregate = self.aggregate_change(extent, before, after);
        InterestChange { peer: self.peers[slot].id, target: extent, from, to: level, aggregate }
    }

    pub(super) fn detach(&mut self, declaration: u32) -> InterestChange<P> {
        let Declaration { slot, target, position, level, expires } = self.declarations.remove(declaration);
        self.schedule(declaration, expires, NEVER);
        self.totals.declarations -= 1;
        self.totals.declarations_by_level[level.rank()] -= 1;

        let Target { extent, subscribers } = &mut self.targets[target];
        let (extent, before) = (*extent, subscribers.top());
        let entries = &mut self.declarations;
        subscribers.remove(level, position, |moved, position| entries[moved].position = position);
        let after = subscribers.top();
        if subscribers.is_empty() {
            self.remove_target(target);
        }

        let owner = &mut self.peers[slot];
        let peer = owner.id;
        owner.declarations -= 1;
        if extent.is_state() {
            self.own_states.remove(&(slot, target));
        } else {
            self.own_ranges.remove(&OwnRange::new(slot, extent));
            let class = extent.class();
            if self.own_ranges.range(OwnRange::beginning(slot, class, 0, u64::MAX)).next().is_none() {
                owner.range_classes &= !class_bit(class);
            }
        }
        if owner.declarations == 0 {
            self.forget_peer(slot);
        }
        if self.totals.declarations == 0 {
            self.release();
        }
        let aggregate = self.aggregate_change(extent, before, after);
        InterestChange { peer, target: extent, from: level, to: InterestLevel::None, aggregate }
    }

    fn aggregate_change(
        &self,
        target: InterestTarget,
        from: InterestLevel,
        to: InterestLevel,
    ) -> Option<AggregateChange> {
        (from != to).then(|| AggregateChange { target, from, to, covered: self.covered(target) })
    }

    fn schedule(&mut self, declaration: u32, from: Instant, to: Instant) {
        if from == to {
            return;
        }
        if from != NEVER {
            self.deadlines.remove(&(from, declaration));
        }
        if to != NEVER {
            self.deadlines.insert((to, declaration));
        }
        if from > self.next_deadline || from == NEVER {
            self.next_deadline = self.next_deadline.min(to);
        } else {
            self.next_deadline = self.deadlines.first().map_or(NEVER, |&(at, _)| at);
        }
    }

    /// Gives back what the empty indices still hold.
    fn release(&mut self) {
        self.by_peer = BTreeMap::new();
        self.states = BTreeMap::new();
        self.ranges = BTreeMap::new();
        self.own_states = BTreeMap::new();
        self.own_ranges = BTreeMap::new();
        self.deadlines = BTreeSet::new();
    }

    fn add_peer(&mut self, id: P) -> u32 {
        let slot = self.peers.insert(Peer { id, range_classes: 0, declarations: 0, role: None });
        self.by_peer.insert(id, slot);
        self.totals.peers += 1;
        slot
    }

    fn forget_peer(&mut self, slot: u32) {
        let peer = self.peers.remove(slot);
        self.by_peer.remove(&peer.id);
        self.totals.peers -= 1;
        self.totals.count_role(peer.role, None);
    }

    fn add_target(&mut self, extent: InterestTarget) -> u32 {
        let target = self.targets.insert(Target { extent, subscribers: Subscribers::new() });
        self.totals.targets += 1;
        if extent.is_state() {
            self.states.insert(extent.first().0, target);
        } else {
            self.ranges.insert(range_key(extent), target);
            self.range_classes |= class_bit(extent.class());
            self.totals.ranges += 1;
        }
        target
    }

    fn remove_target(&mut self, target: u32) {
        let extent = self.targets.remove(target).extent;
        self.totals.targets -= 1;
        if extent.is_state() {
            self.states.remove(&extent.first().0);
            return;
        }
        self.ranges.remove(&range_key(extent));
        self.totals.ranges -= 1;
        let class = extent.class();
        if self.ranges.range((class, 0, 0)..=(class, u64::MAX, u64::MAX)).next().is_none() {
            self.range_classes &= !class_bit(class);
        }
    }
}

/// One peer's ranges are neighbours in the index, and among them those of one size class, by first state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct OwnRange {
    slot: u32,
    class: u8,
    first: u64,
    pub(super) last: u64,
}

impl OwnRange {
    const fn new(slot: u32, target: InterestTarget) -> Self {
        Self { slot, class: target.class(), first: target.first().0, last: target.last().0 }
    }

    /// The peer's ranges of one size class that begin at one of these states.
    pub(super) const fn beginning(slot: u32, class: u8, from: u64, to: u64) -> RangeInclusive<Self> {
        let from = Self { slot, class, first: from, last: 0 };
        from..=Self { slot, class, first: to, last: u64::MAX }
    }

    /// All ranges of the peer.
    const fn all(slot: u32) -> RangeInclusive<Self> {
        let from = Self { slot, class: 0, first: 0, last: 0 };
        from..=Self { slot, class: u8::MAX, first: u64::MAX, last: u64::MAX }
    }
}

const fn class_bit(class: u8) -> u64 {
    match class.checked_sub(1) {
        Some(shift) => 1 << shift,
        None => 0,
    }
}

const fn range_key(extent: InterestTarget) -> (u8, u64, u64) {
    (extent.class(), extent.first().0, extent.last().0)
}
