//! The ways by which one wave came, and the best of them.

use core::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::peers::Slots;
use crate::time::Instant;

/// How long a wave rests at each node before it is passed on: what one hop more costs in the race.
pub(super) const REST: Duration = Duration::from_millis(4);

/// A way must be this much faster to replace the one in use.
const GAIN_MIN_US: u32 = 5_000;

/// What one hop more costs in the choice of a way, beside its delay.
const HOP_COST_US: u32 = 2_000;

/// Likewise in the shared tree, where an update goes up and down again: many short links to the root are many to both ends.
const SHARED_HOP_COST_US: u32 = 4_000;

/// The arrivals of one wave.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    pub(super) number: u64,
    born: Instant,
    pub(super) first_at: Instant,
    /// Links that it had crossed when it came first.
    pub(super) first_hops: u8,
    arrivals: SmallVec<[Arrival; 8]>,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    slot: u8,
    hops: u8,
    after_us: u32,
    /// Whether the neighbour had the wave before this node, so that it cannot have it from here.
    is_above: bool,
}

impl Growth {
    pub(super) fn new(number: u64, born: Instant, slot: u8, hops: u8, now: Instant) -> Self {
        let first = Arrival { slot, hops, after_us: 0, is_above: true };
        Self { number, born, first_at: now, first_hops: hops, arrivals: smallvec![first] }
    }

    /// It came again, over a link that takes `latency`. Who had it later than this node could tell may have it from here.
    pub(super) fn arrive(&mut self, slot: u8, hops: u8, latency: Duration, now: Instant) {
        let after = now - self.first_at;
        if after < 2 * latency {
            self.note(slot, hops, after, after < latency + REST);
        }
    }

    /// A neighbour tells of it later, with its own delay from the origin.
    pub(super) fn greet(&mut self, slot: u8, hops: u8, delay: Duration, latency: Duration) {
        // Ages are rounded up on the wire.
        let is_above = delay + Duration::from_millis(1) < self.delay();
        self.remove(slot);
        self.note(slot, hops, (delay + REST + latency).saturating_sub(self.delay()), is_above);
    }

    fn note(&mut self, slot: u8, hops: u8, after: Duration, is_above: bool) {
        if self.arrivals.iter().all(|arrival| arrival.slot != slot) {
            let after_us = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
            self.arrivals.push(Arrival { slot, hops, after_us, is_above });
        }
    }

    /// Links from the origin to the neighbour that had the wave first.
    pub(super) fn hops(&self) -> u8 {
        self.first_hops
    }

    /// Links from the origin to this node in tenths, as a mean over the ways: the deeper, the larger the swarm.
    pub(super) fn depth_tenths(&self) -> u32 {
        let sum: u32 = self.arrivals.iter().map(|arrival| u32::from(arrival.hops) + 1).sum();
        sum * 10 / self.arrivals.len().max(1) as u32
    }

    /// From the origin to this node.
    pub(super) fn delay(&self) -> Duration {
        self.first_at - self.born
    }

    pub(super) fn remove(&mut self, slot: u8) {
        self.arrivals.retain(|arrival| arrival.slot != slot);
    }

    /// The best way, or `current` if it is hardly worse; not by a neighbour to `avoid` if there is another. Those `below` are
    /// fed from here.
    pub(super) fn best(&self, current: Option<u8>, below: Slots, avoid: Slots) -> Option<u8> {
        self.best_at(HOP_COST_US, current, below, avoid)
    }

    /// As [`Self::best`], for the shared tree.
    pub(super) fn best_shared(&self, current: Option<u8>, below: Slots, avoid: Slots) -> Option<u8> {
        self.best_at(SHARED_HOP_COST_US, current, below, avoid)
    }

    fn best_at(&self, hop_cost_us: u32, current: Option<u8>, below: Slots, avoid: Slots) -> Option<u8> {
        let cost = |arrival: &Arrival| arrival.after_us.saturating_add(u32::from(arrival.hops) * hop_cost_us);
        let ways = self.arrivals.iter().filter(|arrival| arrival.is_above || !below.contains(arrival.slot));
        let best = ways.min_by_key(|arrival| {
            (avoid.contains(arrival.slot), !arrival.is_above, cost(arrival), arrival.slot)
        })?;
        let kept = self.arrivals.iter().find(|arrival| Some(arrival.slot) == current && arrival.is_above);
        let kept = kept.filter(|kept| !avoid.contains(kept.slot));
        let kept = kept.filter(|kept| cost(kept) <= cost(best).saturating_add(GAIN_MIN_US));
        Some(kept.unwrap_or(best).slot)
    }

    /// The best way besides some.
    pub(super) fn other(&self, besides: Slots) -> Option<u8> {
        let ways = self.arrivals.iter().filter(|arrival| !besides.contains(arrival.slot));
        ways.min_by_key(|arrival| (!arrival.is_above, arrival.after_us, arrival.slot)).map(|way| way.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown() -> Growth {
        Growth::new(0, Instant::from_millis(900), 1, 4, Instant::from_secs(1))
    }

    const LINK: Duration = Duration::from_millis(20);

    #[test]
    fn the_first_way_is_the_best_unless_another_is_as_fast_and_shorter() {
        let mut growth = grown();
        assert_eq!(growth.best(None, Slots::NONE, Slots::NONE), Some(1));
        growth.arrive(2, 4, LINK, Instant::from_millis(1_001));
        assert_eq!(growth.best(None, Slots::NONE, Slots::NONE), Some(1));
        growth.arrive(3, 3, LINK, Instant::from_millis(1_001));
        assert_eq!(growth.best(None, Slots::NONE, Slots::NONE), Some(3));
    }

    #[test]
    fn a_way_in_use_is_kept_while_it_is_hardly_worse() {
        let mut growth = grown();
        growth.arrive(2, 4, LINK, Instant::from_millis(1_004));
        growth.arrive(3, 4, LINK, Instant::from_millis(1_006));
        assert_eq!(growth.best(Some(2), Slots::NONE, Slots::NONE), Some(2));
        assert_eq!(growth.best(Some(3), Slots::NONE, Slots::NONE), Some(1));
    }

    #[test]
    fn in_the_shared_tree_a_shorter_way_may_take_longer() {
        let mut growth = grown();
        growth.arrive(2, 3, LINK, Instant::from_millis(1_003));
        growth.arrive(3, 2, LINK, Instant::from_millis(1_018));
        assert_eq!(growth.best(None, Slots::NONE, Slots::NONE), Some(1));
        assert_eq!(growth.best_shared(None, Slots::NONE, Slots::NONE), Some(2));
    }

    #[test]
    fn whoever_may_have_it_from_here_is_the_last_resort() {
        let mut growth = grown();
        growth.arrive(2, 1, LINK, Instant::from_millis(1_030));
        growth.arrive(3, 1, LINK, Instant::from_millis(1_041));
        assert_eq!(growth.best(Some(2), Slots::NONE, Slots::NONE), Some(1));
        growth.remove(1);
        assert_eq!(growth.best(None, Slots::NONE, Slots::NONE), Some(2));
        assert_eq!((growth.other(Slots::NONE), growth.other(Slots::one(2))), (Some(2), None));
        assert_eq!(growth.best(None, Slots::one(2), Slots::NONE), None, "it is fed from here");
        growth.remove(2);
        assert_eq!(growth.best(None, Slots::NONE, Slots::NONE), None, "it had the wave after a round trip");
    }

    #[test]
    fn the_depth_is_the_mean_of_the_ways() {
        let mut growth = grown();
        assert_eq!(growth.depth_tenths(), 50);
        growth.arrive(2, 3, LINK, Instant::from_millis(1_001));
        growth.arrive(3, 3, LINK, Instant::from_millis(1_001));
        assert_eq!(growth.depth_tenths(), 43);
        for slot in 1..4 {
            growth.remove(slot);
        }
        assert_eq!(growth.depth_tenths(), 0);
    }

    #[test]
    fn a_new_neighbour_is_judged_by_its_own_delay() {
        let mut growth = grown();
        growth.greet(2, 3, Duration::from_millis(90), LINK);
        growth.greet(3, 1, Duration::from_millis(120), LINK);
        growth.remove(1);
        assert_eq!(growth.best(Some(3), Slots::NONE, Slots::NONE), Some(2));
        assert_eq!(growth.best(Some(2), Slots::NONE, Slots::one(2)), Some(3), "to be avoided");
    }
}
