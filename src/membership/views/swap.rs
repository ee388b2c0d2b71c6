//! Swapping links for shorter ones (X-BOT; Leitão, Marques, Pereira, Rodrigues 2009).
//!
//! Four nodes take part: a node and its farthest neighbour, and a candidate and *its* farthest neighbour. If the two new
//! links together are shorter than the two old ones, the pairs change partners, so every degree stays. Some links of each
//! node are left as they are, whatever their delay, so that the overlay stays a random graph in one piece.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Ask, NEWS_AGE_MAX, Neighbor, ViewAction, Views};
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{MembershipMessage, NeighborRequest, WirePeer};

/// A swap must gain this much of the round-trip times together, or it would chase noise.
const GAIN_MIN_US: u32 = 4_000;

/// What was asked must be answered within this time; later answers would not measure the link.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Attempts without a swap before they become rarer.
const EAGER_ATTEMPTS: u32 = 4;

/// Attempts become rarer up to this many times the interval.
const PAUSE_MAX: u32 = 64;

/// How long a link that was of use is left as it is.
const IN_USE: Duration = Duration::from_secs(5);

/// What a node is about to swap, and what it helps to.
#[derive(Debug)]
pub(super) struct Swaps<P> {
    at: Option<Instant>,
    /// Attempts in a row that brought nothing.
    failures: u32,
    mine: Option<Mine<P>>,
    helping: Option<Helping<P>>,
}

#[derive(Clone, Copy, Debug)]
struct Mine<P> {
    old: P,
    candidate: P,
    since: Instant,
    /// The candidate's neighbour that `old` was asked to take.
    leaving: Option<P>,
}

#[derive(Clone, Copy, Debug)]
struct Helping<P> {
    asker: P,
    candidate: P,
    leaving: P,
    gain_us: u32,
    since: Instant,
}

impl<P> Default for Swaps<P> {
    fn default() -> Self {
        Self { at: None, failures: 0, mine: None, helping: None }
    }
}

impl<P> Swaps<P> {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }
}

impl<P: WirePeer> Views<P> {
    /// The measured round-trip time to a neighbour.
    pub fn set_rtt(&mut self, peer: P, rtt: Duration) {
        if let Some(neighbor) = self.active.iter_mut().find(|neighbor| neighbor.peer == peer) {
            neighbor.rtt_us = micros(rtt);
            // It has answered.
            neighbor.doubted = None;
        }
    }

    /// The link to a neighbour carries something that would be missed: it is not swapped for a while.
    pub fn note_use(&mut self, peer: P, now: Instant) {
        if let Some(neighbor) = self.active.iter_mut().find(|neighbor| neighbor.peer == peer) {
            neighbor.used = Some(now);
        }
    }

    /// Neighbours whose links would be missed least: those that are not in use, or all if there are none.
    pub(super) fn idle_neighbors(&self, now: Instant) -> Vec<P> {
        let idle: Vec<_> = self.active.iter().filter(|neighbor| !is_in_use(neighbor, now)).collect();
        if idle.is_empty() { self.neighbors().collect() } else { idle.iter().map(|idle| idle.peer).collect() }
    }

    /// Whether the link to a neighbour is in use, unlike others. It may have become so while a swap was being made up.
    pub(super) fn is_needed(&self, peer: P, now: Instant) -> bool {
        self.is_used(peer, now) && self.active.iter().any(|neighbor| !is_in_use(neighbor, now))
    }

    /// Whether the link to a neighbour is in use.
    pub(super) fn is_used(&self, peer: P, now: Instant) -> bool {
        self.active.iter().any(|neighbor| neighbor.peer == peer && is_in_use(neighbor, now))
    }

    /// There is a neighbour that may be swapped one day.
    pub(super) fn begin_swaps(&mut self, now: Instant) {
        if let (None, Some(interval)) = (self.swaps.at, self.config.swap_interval) {
            self.swaps.at = Some(now + self.spread(interval));
        }
    }

    /// The overlay has changed: there may be better links again.
    pub(super) fn swap_again(&mut self) {
        self.swaps.failures = self.swaps.failures.min(EAGER_ATTEMPTS / 2);
    }

    pub(super) fn swaps_due(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let Some(interval) = self.config.swap_interval else { return };
        if self.swaps.at.is_none_or(|at| at > now) {
            return;
        }
        let rarer = self.swaps.failures.saturating_sub(EAGER_ATTEMPTS).min(PAUSE_MAX.ilog2());
        self.swaps.at = Some(now + self.spread(interval * (1 << rarer)));
        self.swaps.failures = self.swaps.failures.saturating_add(1);
        if let Some(mine) = self.swaps.mine.take().filter(|mine| mine.leaving.is_none()) {
            // It gave no answer.
            self.passive.remove(mine.candidate);
        }
        // A free slot takes the next best without giving anything up.
        let Some(old) = self.longest(None, now).filter(|_| self.free() == 0).map(|neighbor| neighbor.peer)
        else {
            return;
        };
        let candidate = self.passive.pick_young(NEWS_AGE_MAX, &mut self.rng, |peer| {
            !self.active.iter().any(|neighbor| neighbor.peer == peer)
                && !self.pending.iter().any(|pending| pending.peer == peer)
        });
        if let Some(candidate) = candidate {
            self.stats.measurements_sent += 1;
            self.swaps.mine = Some(Mine { old, candidate, since: now, leaving: None });
            let message = MembershipMessage::Measure { swarm: self.swarm };
            actions.push(ViewAction::Send { to: candidate, message });
        }
    }

    pub(super) fn on_measure(&mut self, from: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let longest = self.longest(Some(from), now).map(|neighbor| (neighbor.peer, neighbor.rtt_us));
        actions.push(ViewAction::Send { to: from, message: MembershipMessage::Measured { longest } });
    }

    pub(super) fn on_measured(
        &mut self,
        from: P,
        longest: Option<(P, u32)>,
        now: Instant,
        actions: &mut Vec<ViewAction<P>>,
    ) {
        if let Some(helping) = self.swaps.helping.filter(|helping| helping.leaving == from) {
            self.swaps.helping = None;
            self.part(helping, now, actions);
        } else if let (Some(mine), Some(longest)) =
            (self.swaps.mine.filter(|mine| mine.candidate == from && mine.leaving.is_none()), longest)
        {
            self.propose(mine, longest, now, actions);
        } else if self.swaps.mine.is_some_and(|mine| mine.candidate == from && mine.leaving.is_none()) {
            self.swaps.mine = None;
        }
    }

    /// The candidate is measured: if it is nearer by enough, the old neighbour is asked to part.
    fn propose(&mut self, mine: Mine<P>, longest: (P, u32), now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.swaps.mine = None;
        let (leaving, theirs_us) = longest;
        let old = self.active.iter().find(|neighbor| neighbor.peer == mine.old);
        let Some(ours_us) = old.map(|neighbor| neighbor.rtt_us) else { return };
        let new_us = micros(now - mine.since);
        let gain_us = ours_us.saturating_add(theirs_us).saturating_sub(new_us);
        let is_fit = leaving != self.local && leaving != mine.old && !self.is_neighbor(mine.candidate);
        if !is_fit || now - mine.since > ANSWER_MAX || gain_us < 2 * GAIN_MIN_US {
            return;
        }
        self.swaps.mine = Some(Mine { leaving: Some(leaving), ..mine });
        let message = MembershipMessage::Swap { candidate: mine.candidate, leaving, gain_us };
        actions.push(ViewAction::Send { to: mine.old, message });
    }

    /// A neighbour would swap the link to this node for another.
    pub(super) fn on_swap(
        &mut self,
        from: P,
        candidate: P,
        leaving: P,
        gain_us: u32,
        now: Instant,
        actions: &mut Vec<ViewAction<P>>,
    ) {
        let busy = self.swaps.helping.is_some_and(|helping| now - helping.since < ANSWER_MAX);
        let nonsense = [candidate, leaving].iter().any(|&peer| peer == self.local || peer == from);
        if nonsense || candidate == leaving {
            actions.push(ViewAction::Misbehaved { peer: from });
            return;
        }
        let neighbor = self.active.iter().find(|neighbor| neighbor.peer == from);
        let may = neighbor.is_some_and(|neighbor| !is_in_use(neighbor, now)) && !self.is_lasting(from);
        if busy || !may || self.is_neighbor(leaving) || self.is_pending(leaving) {
            return;
        }
        self.swaps.helping = Some(Helping { asker: from, candidate, leaving, gain_us, since: now });
        let message = MembershipMessage::Measure { swarm: self.swarm };
        actions.push(ViewAction::Send { to: leaving, message });
    }

    /// Everything is measured: the pairs change partners if that shortens the links.
    fn part(&mut self, helping: Helping<P>, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let Helping { asker, candidate, leaving, gain_us, since } = helping;
        let new_us = micros(now - since);
        let gains = now - since <= ANSWER_MAX && new_us.saturating_add(GAIN_MIN_US) <= gain_us;
        if !gains || !self.is_neighbor(asker) || self.is_neighbor(leaving) || self.is_needed(asker, now) {
            return;
        }
        self.stats.shortcuts += 1;
        actions.push(ViewAction::Send { to: asker, message: MembershipMessage::Swapped { candidate } });
        self.ask(leaving, Ask::Neighbor(NeighborRequest::Replace { leaving: candidate }), now, actions);
        self.drop_neighbor(asker, now, actions);
        self.note_peer(asker, 0);
    }

    pub(super) fn on_swapped(
        &mut self,
        from: P,
        candidate: P,
        now: Instant,
        actions: &mut Vec<ViewAction<P>>,
    ) {
        let mine = self.swaps.mine.filter(|mine| mine.old == from && mine.candidate == candidate);
        if let Some(leaving) = mine.and_then(|mine| mine.leaving) {
            self.swaps.mine = None;
            self.swaps.failures /= 2;
            self.ask(candidate, Ask::Neighbor(NeighborRequest::Replace { leaving }), now, actions);
        }
        // Whatever became of it here, the other side has gone.
        if self.drop_neighbor(from, now, actions) {
            self.note_peer(from, 0);
        }
    }

    /// The farthest neighbour that may be swapped.
    fn longest(&self, besides: Option<P>, now: Instant) -> Option<&Neighbor<P>> {
        let mut lasting: Vec<_> =
            self.active.iter().map(|neighbor| (self.lot(neighbor.peer), neighbor.peer)).collect();
        lasting.sort_unstable();
        lasting.truncate(self.config.lasting_links);
        let may = |neighbor: &&Neighbor<P>| {
            neighbor.rtt_us > 0
                && Some(neighbor.peer) != besides
                && !is_in_use(neighbor, now)
                && lasting.iter().all(|&(_, peer)| peer != neighbor.peer)
        };
        self.active.iter().filter(may).max_by_key(|neighbor| (neighbor.rtt_us, neighbor.peer))
    }

    /// Whether the link to a neighbour is one of those left as they are.
    fn is_lasting(&self, peer: P) -> bool {
        let lot = self.lot(peer);
        let lower =
            self.active.iter().filter(|neighbor| (self.lot(neighbor.peer), neighbor.peer) < (lot, peer));
        lower.count() < self.config.lasting_links
    }

    /// Draws the links that stay: the same at both ends, and blind to delays.
    fn lot(&self, peer: P) -> u64 {
        mix(self.local.digest() ^ peer.digest())
    }
}

fn is_in_use<P>(neighbor: &Neighbor<P>, now: Instant) -> bool {
    neighbor.used.is_some_and(|at| now - at < IN_USE)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1)
}
