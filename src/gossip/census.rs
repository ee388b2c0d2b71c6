//! How many members there are. Each node tells its parent in the shared tree how many are below it, itself included, and the root
//! tells the sum to all in its waves.
//!
//! A count is sent anew after each wave, when the tree may be another, and soon after a change that matters. Counts of children
//! that were silent for some waves do not count: their parting was lost. It is an estimate, which any child can falsify, and
//! nothing that must be right depends on it.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::peers::Slots;
use super::{Gossip, GossipAction};
use crate::time::Instant;
use crate::wire::{GossipMessage, WirePeer};

/// The first count leaves this long after a wave: by then parents are chosen.
const COUNT_AFTER: Duration = Duration::from_millis(250);

/// A change is told this long after it, together with others.
const BATCH: Duration = Duration::from_millis(200);

/// For so long after a wave every change is told; later only those of more than an eighth.
const SETTLE: Duration = Duration::from_secs(5);

/// Waves without a word after which a child counts no more.
const ROUNDS_MAX: u8 = 2;

/// What is counted of the members.
#[derive(Debug, Default)]
pub(super) struct Census {
    below: SmallVec<[Below; 0]>,
    /// The parent that was told, and what.
    told: Option<(u8, u64)>,
    due: Option<Instant>,
    /// When the last wave came or was sent.
    begun: Instant,
    /// Counts waves.
    round: u8,
    /// How many members there are, as the root said last.
    members: Option<u64>,
    /// See [`Gossip::take_shrunk`].
    shrunk: bool,
}

/// What a child has told.
#[derive(Clone, Copy, Debug)]
struct Below {
    slot: u8,
    round: u8,
    nodes: u64,
}

impl Census {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// This node and all below it.
    fn count(&self, children: Slots) -> u64 {
        let below = self.below.iter().filter(|below| children.contains(below.slot));
        below.fold(1, |sum: u64, below| sum.saturating_add(below.nodes)).min(MEMBERS_MAX)
    }

    fn note(&mut self, slot: u8, nodes: u64) {
        let round = self.round;
        match self.below.iter_mut().find(|below| below.slot == slot) {
            Some(below) => (below.nodes, below.round) = (nodes, round),
            None => {
                self.below.reserve_exact(1);
                self.below.push(Below { slot, round, nodes });
            }
        }
    }

    pub(super) fn forget(&mut self, slot: u8, now: Instant) {
        let before = self.below.len();
        self.below.retain(|below| below.slot != slot);
        self.told = self.told.filter(|&(parent, _)| parent != slot);
        if self.below.len() < before {
            self.wake(now + BATCH);
        }
    }

    /// A new parent is to be told.
    pub(super) fn introduce(&mut self, now: Instant) {
        self.told = None;
        self.wake(now + BATCH);
    }

    /// A wave of the shared tree: all is counted anew. `members` is what the root says, if it has counted yet.
    pub(super) fn begin_round(&mut self, members: Option<u64>, now: Instant) {
        self.round = self.round.wrapping_add(1);
        let round = self.round;
        self.below.retain(|below| round.wrapping_sub(below.round) <= ROUNDS_MAX);
        (self.told, self.begun) = (None, now);
        self.due = Some(now + COUNT_AFTER);
        let Some(members) = members.map(|members| members.clamp(1, MEMBERS_MAX)) else { return };
        self.shrunk |= self.members.is_some_and(|before| members < before - before / 4);
        self.members = Some(members);
    }

    fn wake(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether a count differs enough from what was told.
    fn matters(&self, told: Option<u64>, count: u64, now: Instant) -> bool {
        told.is_none_or(|told| {
            let change = told.abs_diff(count);
            change > told / 8 || change > 0 && now - self.begun < SETTLE
        })
    }
}

/// More members than that are not believed.
const MEMBERS_MAX: u64 = 1 << 40;

impl<P: WirePeer> Gossip<P> {
    /// How many members the swarm has, this node included, as the shared tree counted them last; `None` until it has, and in
    /// modes without one. A change is known to all after some seconds, or after the next wave if it is less than an eighth.
    pub fn members_estimated(&self) -> Option<u64> {
        self.census.members
    }

    /// Whether the swarm has lost more than a quarter of its members between two counts. Asking forgets it.
    pub(crate) fn take_shrunk(&mut self) -> bool {
        core::mem::take(&mut self.census.shrunk)
    }

    /// A neighbour says how many it stands for. Who tells this node takes it for its parent.
    pub(super) fn on_count(
        &mut self,
        slot: u8,
        nodes: u64,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.counts_received += 1;
        if !self.is_child(slot) {
            // Its request to be fed was lost.
            self.on_attach(slot, true, now, actions);
        }
        if !self.is_child(slot) {
            return;
        }
        self.census.note(slot, nodes.clamp(1, MEMBERS_MAX));
        self.census.wake(now + BATCH);
    }

    /// What the root says of the members in a wave that it sends now: nothing in its first.
    pub(super) fn count_as_root(&mut self, is_first: bool, now: Instant) -> Option<u64> {
        let members = (!is_first).then(|| self.census.count(self.children()));
        self.census.begin_round(members, now);
        self.census.members
    }

    /// Tells the parent what is counted here, if it is another than it was told, or has the root tell all soon.
    pub(super) fn tend_census(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if self.census.due.is_none_or(|due| due > now) {
            return;
        }
        self.census.due = None;
        let count = self.census.count(self.children());
        if self.is_root() {
            let told = self.census.members.unwrap_or(1);
            if count < told - told / 8 {
                self.lead_anew(now);
            } else if count > told + told / 8 {
                self.lead_soon(now);
            }
            return;
        }
        let Some(parent) = self.parent() else { return };
        let told = self.census.told.filter(|&(slot, _)| slot == parent).map(|(_, count)| count);
        if self.census.matters(told, count, now) {
            self.census.told = Some((parent, count));
            self.stats.counts_sent += 1;
            self.send(parent, GossipMessage::Count { nodes: count }, actions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn children_count_until_they_part_or_were_silent_for_three_waves() {
        let mut census = Census::default();
        let children = Slots::one(1) | Slots::one(2) | Slots::one(3);
        for (slot, nodes) in [(1, 10), (2, 20), (3, 30), (3, 35)] {
            census.note(slot, nodes);
        }
        assert_eq!(census.count(children), 66);
        assert_eq!(census.count(Slots::one(2)), 21, "only children count");
        census.forget(1, at(0));
        assert_eq!((census.count(children), census.poll_timeout()), (56, Some(at(200))));
        for round in 1..=3 {
            census.begin_round(None, at(1_000 * round));
            census.note(2, 20);
            assert_eq!(census.count(children), if round < 3 { 56 } else { 21 });
        }
        census.note(2, u64::MAX);
        assert_eq!(census.count(children), MEMBERS_MAX);
    }

    #[test]
    fn after_a_wave_every_change_matters_and_later_only_great_ones() {
        let mut census = Census::default();
        census.begin_round(Some(100), at(1_000));
        assert_eq!(census.poll_timeout(), Some(at(1_250)));
        assert!(census.matters(None, 1, at(60_000)), "a new parent was told nothing");
        assert!(census.matters(Some(80), 81, at(5_999)) && !census.matters(Some(80), 80, at(5_999)));
        assert!(!census.matters(Some(80), 90, at(6_000)) && census.matters(Some(80), 91, at(6_000)));
        assert!(census.matters(Some(80), 69, at(6_000)) && !census.matters(Some(80), 70, at(6_000)));
    }

    #[test]
    fn a_loss_of_more_than_a_quarter_is_told_once() {
        let mut census = Census::default();
        for (members, shrunk) in [(None, false), (Some(100), false), (Some(75), false), (Some(56), true)] {
            census.begin_round(members, at(0));
            assert_eq!(core::mem::take(&mut census.shrunk), shrunk, "{members:?}");
        }
        census.begin_round(None, at(0));
        assert_eq!(census.members, Some(56), "a root that has not counted yet changes nothing");
    }
}
