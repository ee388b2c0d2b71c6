//! The neighbours of a swarm in 64 slots, so that a set of them is one word.

use core::ops::{BitAnd, BitOr, BitOrAssign, Not};
use core::time::Duration;

use smallvec::SmallVec;

use crate::id::PeerId;
use crate::rng::Rng;

/// Neighbours at most; `MembershipConfig::active_max` stays below.
pub(super) const SLOTS_MAX: usize = 64;

/// A set of slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Slots(u64);

impl Slots {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn one(slot: u8) -> Self {
        Self(1 << slot)
    }

    pub(super) fn contains(self, slot: u8) -> bool {
        self.0 >> slot & 1 == 1
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn remove(&mut self, slot: u8) {
        self.0 &= !(1 << slot);
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let slot = left.trailing_zeros() as u8;
            left &= left.wrapping_sub(1);
            (slot < 64).then_some(slot)
        })
    }

    /// The next slot after `slot`, around the end.
    pub(super) fn next_after(self, slot: u8) -> Option<u8> {
        let above = Self(self.0 & u64::MAX.checked_shl(u32::from(slot) + 1).unwrap_or(0));
        above.iter().next().or_else(|| self.iter().next())
    }

    /// `better` if there is any.
    pub(super) fn unless_empty(self, better: Self) -> Self {
        if better.is_empty() { self } else { better }
    }

    pub(super) fn pick(self, rng: &mut Rng) -> Option<u8> {
        if self.is_empty() { None } else { self.iter().nth(rng.below(self.len())) }
    }
}

impl BitAnd for Slots {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Slots {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Slots {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Not for Slots {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Neighbor<P> {
    peer: P,
    rtt_us: u32,
    deviation_us: u32,
}

/// Who sits in which slot.
#[derive(Debug)]
pub(super) struct Peers<P> {
    slots: SmallVec<[Option<Neighbor<P>>; 0]>,
    all: Slots,
}

impl<P> Default for Peers<P> {
    fn default() -> Self {
        Self { slots: SmallVec::new(), all: Slots::NONE }
    }
}

impl<P: PeerId> Peers<P> {
    /// Gives a new neighbour a slot; `None` if it has one already or all are taken.
    pub(super) fn add(&mut self, peer: P) -> Option<u8> {
        if self.slot(peer).is_some() {
            return None;
        }
        let neighbor = Some(Neighbor { peer, rtt_us: 0, deviation_us: 0 });
        let place = match self.slots.iter().position(Option::is_none) {
            Some(place) => {
                self.slots[place] = neighbor;
                place
            }
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.reserve_exact(1);
                self.slots.push(neighbor);
                self.slots.len() - 1
            }
            None => return None,
        };
        self.all |= Slots::one(place as u8);
        Some(place as u8)
    }

    pub(super) fn remove(&mut self, peer: P) -> Option<u8> {
        let slot = self.slot(peer)?;
        self.slots[usize::from(slot)] = None;
        self.all.remove(slot);
        Some(slot)
    }

    pub(super) fn slot(&self, peer: P) -> Option<u8> {
        let sits = |neighbor: &Option<Neighbor<P>>| neighbor.is_some_and(|neighbor| neighbor.peer == peer);
        self.slots.iter().position(sits).map(|place| place as u8)
    }

    pub(super) fn get(&self, slot: u8) -> Option<P> {
        Some(self.slots.get(usize::from(slot))?.as_ref()?.peer)
    }

    pub(super) fn all(&self) -> Slots {
        self.all
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn set_rtt(&mut self, peer: P, rtt: Duration, deviation: Duration) {
        let Some(slot) = self.slot(peer) else { return };
        if let Some(neighbor) = &mut self.slots[usize::from(slot)] {
            neighbor.rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
            neighbor.deviation_us = u32::try_from(deviation.as_micros()).unwrap_or(u32::MAX);
        }
    }

    /// The measured round-trip time, or zero if it was not measured yet.
    pub(super) fn rtt(&self, slot: u8) -> Duration {
        let neighbor = self.slots.get(usize::from(slot)).and_then(Option::as_ref);
        Duration::from_micros(neighbor.map_or(0, |neighbor| u64::from(neighbor.rtt_us)))
    }

    /// How long an answer may take before it counts as lost (RFC 6298: rtt and four deviations), with some room for the
    /// answer's own time in queues; a guess if nothing was measured yet.
    pub(super) fn answer_timeout(&self, slot: u8) -> Duration {
        match self.slots.get(usize::from(slot)).and_then(Option::as_ref) {
            Some(neighbor) if neighbor.rtt_us > 0 => {
                let micros = u64::from(neighbor.rtt_us) + 4 * u64::from(neighbor.deviation_us);
                Duration::from_micros(micros * 5 / 4 + 20_000)
            }
            _ => Duration::from_millis(250),
        }
    }
}
