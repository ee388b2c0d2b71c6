//! Keeping the views in order: free slots, surplus neighbours, shuffles, probes.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Ask, DOUBT_SPAN, LONELY_ASKS, LOOK_BEYOND_EVERY, LOSS_SPAN, NEWS_AGE_MAX, Neighbor, REFILL_MAX, STUCK,
    TRIES, TRIM_AFTER, ViewAction, Views,
};
use crate::time::Instant;
use crate::wire::{MembershipMessage, NeighborRequest, ViewEntry, WirePeer};

/// Neighbours beyond the target that are kept while the links to all of them are in use.
const SPARE_MAX: usize = 2;

impl<P: WirePeer> Views<P> {
    /// Looks for a neighbour for a free slot, by the least disturbing means that is left.
    pub(super) fn refill(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.refill_at = None;
        if self.is_lonely(now) {
            self.reach_out(now, actions);
            return;
        }
        let free = self.free();
        if free == 0 {
            return;
        }
        // Slots that nobody has a counterpart for are looked after ever more rarely; the last one hardly at all.
        let doublings = self.refusals.saturating_sub(if self.active.is_empty() { 8 } else { 3 }).min(7);
        let pause = (self.config.refill_interval * (1 << doublings)).min(REFILL_MAX);
        self.refill_at = Some(now + self.spread(pause));
        let unwelcome = self.unwelcome(now);
        let fits = |peer| {
            !self.active.iter().any(|neighbor| neighbor.peer == peer)
                && !self.pending.iter().any(|pending| pending.peer == peer)
                && !unwelcome.contains(&peer)
        };
        // Of whom there was news lately is most likely still there.
        let young = self.passive.pick_young(NEWS_AGE_MAX, &mut self.rng, fits);
        let candidate = young.or_else(|| self.passive.pick(&mut self.rng, fits));
        let walks = self.refusals >= 3 && free >= 2 && !self.active.is_empty();
        match candidate {
            _ if walks => {
                let starts: Vec<_> = self.neighbors().collect();
                if let Some(&start) = self.rng.pick(&starts) {
                    let message =
                        MembershipMessage::Walk { joiner: self.local, hops_left: self.config.walk_hops };
                    actions.push(ViewAction::Send { to: start, message });
                    self.refusals += 1;
                }
            }
            Some(peer) => {
                // In a small swarm everybody else may be full, and may even be full of each other: a clique that would
                // stay apart for ever if nobody insisted.
                let insists = self.refusals >= STUCK && self.is_small();
                let urgent = self.active.is_empty() || insists;
                let request = if urgent { NeighborRequest::High } else { NeighborRequest::Low };
                self.ask(peer, Ask::Neighbor(request), now, actions);
            }
            None if self.active.is_empty() => {
                if let Some(&contact) = self.rng.pick(&self.contacts) {
                    self.ask(contact, Ask::Join, now, actions);
                }
            }
            None => {
                self.refusals += 1;
                self.begin_shuffle(actions);
            }
        }
    }

    /// Whether at least half of the neighbours do not answer.
    pub(super) fn is_lonely(&self, now: Instant) -> bool {
        let is_doubted =
            |neighbor: &&Neighbor<P>| neighbor.doubted.is_some_and(|since| now - since < DOUBT_SPAN);
        let doubted = self.active.iter().filter(is_doubted).count();
        doubted > 0 && doubted * 2 >= self.active.len()
    }

    /// Asks several at once, as many of them may be gone too. Nobody is given up yet.
    fn reach_out(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if self.active.len() >= self.config.active_max {
            return;
        }
        let others = self.passive.iter().filter(|&peer| !self.is_neighbor(peer) && !self.is_pending(peer));
        let mut others: Vec<_> = others.collect();
        self.rng.shuffle(&mut others);
        for &peer in others.iter().take(LONELY_ASKS) {
            self.ask(peer, Ask::Probe, now, actions);
        }
        self.refill_at = Some(now + self.spread(self.config.refill_interval / 2));
    }

    pub(super) fn refill_soon(&mut self, now: Instant) {
        if self.active.len() + self.pending.len() >= self.config.active_target {
            return;
        }
        // A moment's patience: a swap brings its own replacement.
        let soon = now + self.spread(self.config.refill_interval);
        self.refill_at = Some(self.refill_at.map_or(soon, |at| at.min(soon)));
    }

    /// Whether the passive view seems to hold the whole swarm.
    pub(super) fn is_small(&self) -> bool {
        self.passive.len() < self.config.passive_max
    }

    /// A small swarm can fall into parts that are full of themselves and miss nothing. So now and then somebody who is no
    /// neighbour is asked to be one for a while.
    pub(super) fn look_beyond(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let has_room = self.active.len() < self.config.active_max;
        if has_room && self.is_small() && self.stats.shuffles_sent % LOOK_BEYOND_EVERY == 0 {
            let others = self.passive.iter().chain(self.contacts.iter().copied());
            let others: Vec<_> = others.filter(|&peer| !self.is_neighbor(peer)).collect();
            if let Some(&peer) = self.rng.pick(&others) {
                self.stats.looks_beyond += 1;
                self.ask(peer, Ask::Probe, now, actions);
            }
        }
    }

    /// Asks a peer to be a neighbour that the owner knows to be there again.
    pub(crate) fn reach(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.probe(peer, now, actions);
    }

    pub(super) fn probe(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if self.is_neighbor(peer) {
            self.remembered.forget(peer);
        } else if self.active.len() < self.config.active_max {
            self.stats.probes_sent += 1;
            self.ask(peer, Ask::Probe, now, actions);
        }
    }

    /// A run of losses means that the network broke: everybody who was lost is probed soon, again.
    pub(super) fn note_loss(&mut self, peer: P, now: Instant) {
        if now - self.losses.0 > LOSS_SPAN {
            self.losses = (now, 0);
        }
        // One that comes and goes is no network that breaks.
        self.losses.1 += usize::from(!self.has_flapped(peer, LOSS_SPAN, now));
        self.refusals = 0;
        if self.is_breaking(now) {
            self.look_for_lost(now);
        }
    }

    /// Whether so many neighbours were lost at about the same time that it is not their fault.
    pub(super) fn is_breaking(&self, now: Instant) -> bool {
        now - self.losses.0 <= LOSS_SPAN && self.losses.1 * 4 > self.config.active_target
    }

    /// The swarm has lost a great part of its members, though perhaps no neighbour of this node: they may be behind a partition,
    /// so contacts and those that were lost are probed soon.
    pub fn note_shrunk(&mut self, now: Instant) {
        self.stats.shrunk += 1;
        self.look_for_lost(now);
    }

    fn look_for_lost(&mut self, now: Instant) {
        for &contact in &self.contacts {
            if self.active.iter().all(|neighbor| neighbor.peer != contact) {
                self.remembered.add(contact, now, &mut self.rng);
            }
        }
        self.remembered.hurry(now, &mut self.rng);
    }

    /// Gives up one neighbour beyond the target.
    pub(super) fn trim(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.trim_at = None;
        if self.active.len() <= self.config.active_target {
            return;
        }
        let neighbors: Vec<_> = self.idle_neighbors(now);
        // One or two too many do less harm than a broken tree.
        let spares = self.active.len() <= self.config.active_target + SPARE_MAX
            && neighbors.iter().all(|&peer| self.is_used(peer, now));
        if let Some(&peer) = self.rng.pick(&neighbors).filter(|_| !spares) {
            actions.push(ViewAction::Send { to: peer, message: MembershipMessage::Bye { leaving: false } });
            self.drop_neighbor(peer, now, actions);
            self.note_peer(peer, 0);
        }
        if self.active.len() > self.config.active_target {
            self.trim_at = Some(now + TRIM_AFTER);
        }
    }

    pub(super) fn begin_shuffle(&mut self, actions: &mut Vec<ViewAction<P>>) {
        let neighbors: Vec<_> = self.neighbors().collect();
        let Some(&to) = self.rng.pick(&neighbors) else { return };
        self.stats.shuffles_sent += 1;
        self.passive.grow_older();
        let count = self.config.shuffle_entries.min(self.list_max);
        let mut entries = alloc::vec![ViewEntry { peer: self.local, age: 0 }];
        let others: Vec<_> = neighbors.into_iter().filter(|&peer| peer != to).collect();
        entries.extend(self.rng.pick(&others).map(|&peer| ViewEntry { peer, age: 0 }));
        entries.extend(self.passive.sample(count, &mut self.rng));
        entries.truncate(count);
        let hops_left = self.config.shuffle_hops;
        actions.push(ViewAction::Send {
            to,
            message: MembershipMessage::Shuffle { origin: self.local, hops_left, entries },
        });
    }

    pub(super) fn on_shuffle(
        &mut self,
        from: P,
        origin: P,
        hops_left: u8,
        entries: Vec<ViewEntry<P>>,
        actions: &mut Vec<ViewAction<P>>,
    ) {
        if origin == self.local {
            return;
        }
        let hops_left = hops_left.min(self.config.shuffle_hops);
        let onward: Vec<_> = self.neighbors().filter(|&peer| peer != from && peer != origin).collect();
        if let (true, Some(&next)) = (hops_left > 0, self.rng.pick(&onward)) {
            let message = MembershipMessage::Shuffle { origin, hops_left: hops_left - 1, entries };
            actions.push(ViewAction::Send { to: next, message });
            return;
        }
        let count = entries.len().min(self.list_max);
        let mut answer = self.passive.sample(count, &mut self.rng);
        answer.retain(|entry| entry.peer != origin);
        if !answer.is_empty() {
            let message = MembershipMessage::ShuffleReply { entries: answer };
            actions.push(ViewAction::Send { to: origin, message });
        }
        self.integrate(&entries);
    }

    pub(super) fn integrate(&mut self, entries: &[ViewEntry<P>]) {
        for entry in entries.iter().take(self.list_max) {
            self.note_peer(entry.peer, entry.age);
        }
    }

    pub(super) fn note_peer(&mut self, peer: P, age: u8) {
        if peer != self.local && !self.is_neighbor(peer) {
            self.passive.add(peer, age);
        }
    }

    pub(super) fn is_pending(&self, peer: P) -> bool {
        self.pending.iter().any(|pending| pending.peer == peer)
    }

    /// Slots in use or asked for.
    pub(super) fn taken(&self) -> usize {
        let asked = self.pending.iter().filter(|pending| matches!(pending.ask, Ask::Neighbor(_)));
        self.active.len() + asked.count()
    }

    pub(super) fn free(&self) -> usize {
        self.config.active_target.saturating_sub(self.taken())
    }

    /// After this long a repeated request cannot be a late copy of the first.
    pub(super) fn patience(&self) -> Duration {
        self.config.reply_timeout * (u32::from(TRIES) * (u32::from(TRIES) + 1) / 2 + 1)
    }

    pub(super) fn spread(&mut self, interval: Duration) -> Duration {
        let micros = interval.as_micros() as u64;
        Duration::from_micros(self.rng.between(micros * 3 / 4, micros * 5 / 4 + 1))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::config::MembershipConfig;
    use crate::id::SwarmId;
    use crate::rng::Seed;

    const SWARM: SwarmId = SwarmId(9);

    fn views_with(neighbors: &[u64], reserve: &[u64]) -> Views<u64> {
        let config = MembershipConfig::default();
        let mut views = Views::new(1, SWARM, config, 1_200, Seed::from_u64(1), Instant::ZERO);
        let mut actions = Vec::new();
        for &peer in neighbors {
            let message = MembershipMessage::Neighbor { swarm: SWARM, request: NeighborRequest::High };
            views.handle_message(peer, message, Instant::ZERO, &mut actions);
        }
        reserve.iter().for_each(|&peer| views.note_peer(peer, 0));
        views
    }

    fn asked(actions: Vec<ViewAction<u64>>) -> Vec<u64> {
        let mut asked = Vec::new();
        for action in actions {
            if let ViewAction::Send { to, message: MembershipMessage::Neighbor { .. } } = action {
                asked.push(to);
            }
        }
        asked.sort_unstable();
        asked
    }

    #[test]
    fn a_node_half_of_whose_neighbours_do_not_answer_asks_several_others_at_once() {
        let mut views = views_with(&[2, 3, 4, 5], &[10, 11, 12]);
        let now = Instant::from_secs(5);
        let mut actions = Vec::new();
        views.doubt(2, false, now, &mut actions);
        assert!(!views.is_lonely(now));
        views.doubt(3, false, now, &mut actions);
        assert_eq!(views.poll_timeout().map(|at| at <= now), Some(true));
        views.handle_timeout(now, &mut actions);
        assert_eq!(asked(actions), vec![10, 11, 12]);
        assert_eq!(views.neighbors().count(), 4, "nobody is given up");
        views.set_rtt(2, Duration::from_millis(40));
        assert!(!views.is_lonely(now), "one has answered");
    }
}
