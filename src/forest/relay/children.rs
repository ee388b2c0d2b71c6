//! What a node does for those whom it feeds.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use smallvec::SmallVec;

use super::{Child, Interest, LEASE, Relay, RelayAction, Track, stripes_of};
use crate::id::Epoch;
use crate::time::Instant;
use crate::wire::{Attach, Attached, ForestMessage, TrackPosition, WirePeer};

/// Peers named to a child that is refused, at most.
const REDIRECTS_MAX: usize = 4;

/// In a group, one part in so many of all that a node could feed it takes in of those who have lost their parent, whatever else
/// it does.
const RESERVE_PART: usize = 5;

/// Questions that come before the plan, at most.
const EARLY_MAX: usize = 256;

impl<P: WirePeer> Relay<P> {
    /// What the link's round trip was measured to be. Nothing happens if the peer neither feeds nor is fed.
    pub fn set_rtt(&mut self, peer: P, rtt: Duration) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.set_rtt(rtt);
        for index in 0..if self.is_shared() { self.stripes.len() } else { 0 } {
            self.order_children(index);
        }
    }

    pub(super) fn on_attach(
        &mut self,
        from: P,
        attach: &Attach,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        if attach.swarm != self.swarm || from == self.local {
            return;
        }
        if self.facts.is_none() {
            // The plan named us to it before it could tell us.
            if self.early.len() < EARLY_MAX {
                self.early.push((from, attach.clone()));
            }
            return;
        }
        let interest = Interest { tracks: attach.tracks, keyframes: attach.keyframes };
        let ends: SmallVec<[(u8, u64); 1]> =
            self.tracks.keys().filter_map(|&track| Some((track, self.live_end(track)?))).collect();
        let (slots, mut taken) = (self.slots(), self.children_count());
        // Whoever makes room for those whom the plan sends is still on the way out.
        let planned_slots = match self.shared_upload {
            // Plans of a group may know sooner than this node how its upload is divided.
            Some(all) => self.slots_of(all),
            None if slots == 0 => 0,
            None => slots + slots / 4 + 2,
        };
        // Whoever has lost its parent is taken in at once, even if that is a little too much until the plan has changed.
        let reserve = self.shared_upload.map_or(0, |all| self.slots_of(all) / RESERVE_PART);
        let slots = match slots {
            0 => reserve,
            _ if self.is_shared() => slots + (slots / 4 + 2).max(reserve),
            _ => slots,
        };
        let overloaded = self.is_overloaded();
        let mut accepted = 0u16;
        let mut refused = 0u16;
        for index in stripes_of(attach.stripes, self.stripes.len()) {
            let is_source = self.is_source();
            let stripe = &mut self.stripes[index];
            if let Some(child) = stripe.children.iter_mut().find(|child| child.peer == from) {
                child.interest = interest;
                child.feeds = attach.feeds;
                child.lease = now + LEASE;
                accepted |= 1 << index;
                continue;
            }
            let known = is_source || stripe.parent.is_some() || stripe.candidate.is_some();
            let circular = stripe.path.contains(&from) || stripe.parent == Some(from);
            let planned = attach.planned >> index & 1 == 1;
            let full = if planned { taken >= planned_slots } else { taken >= slots || overloaded };
            if full || !known || circular {
                refused |= 1 << index;
                self.stats.attaches_refused += 1;
                continue;
            }
            taken += 1;
            accepted |= 1 << index;
            let child =
                Child { peer: from, interest, feeds: attach.feeds, lease: now + LEASE, from: ends.clone() };
            if stripe.children.len() == stripe.children.capacity() {
                // Most have few, and a star has all.
                stripe.children.reserve_exact(stripe.children.len() / 4 + 1);
            }
            stripe.children.push(child);
        }
        for index in stripes_of(accepted, self.stripes.len()) {
            self.order_children(index);
        }
        if accepted != 0 {
            self.peer(from, now, actions);
        }
        let redirects = if refused == 0 { Vec::new() } else { self.redirects(refused, from) };
        let message = self.attached(attach.token, accepted, interest, redirects, now);
        self.send(from, message, actions);
        self.note_wanted(now, actions);
    }

    /// Those who feed most are fed first: what they wait for, many wait for. In a group, where uploads are nearly full, the
    /// farthest of the others then: what is sent to them is longest on its way.
    pub(super) fn order_children(&mut self, index: usize) {
        let peers = &self.peers;
        let is_shared = self.shared_upload.is_some();
        let far = |peer: P| peers.get(&peer).filter(|_| is_shared).map_or(0, |peer| peer.rtt_us);
        self.stripes[index].children.sort_by_key(|child| Reverse((child.feeds, far(child.peer))));
    }

    /// Puts the copies of a frame in order that go into those stripes: helpers first, then the farthest.
    pub(super) fn order_copies(&self, copies: &mut Vec<RelayAction<P>>, begin: usize, stripes: &[usize]) {
        let rank = |stripe: usize, copy: &RelayAction<P>| {
            let RelayAction::Pass { to, .. } = copy else { return (false, 0) };
            let children = &self.stripes[stripe].children;
            let helps = children.iter().any(|child| child.peer == *to && child.feeds > 0);
            (helps, self.peers.get(to).map_or(0, |peer| peer.rtt_us))
        };
        let tail = copies.drain(begin..).zip(stripes);
        let mut ranked: Vec<_> = tail.map(|(copy, &stripe)| (Reverse(rank(stripe, &copy)), copy)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        copies.extend(ranked.into_iter().map(|(_, copy)| copy));
    }

    pub(super) fn attached(
        &self,
        token: u32,
        accepted: u16,
        interest: Interest,
        redirects: Vec<P>,
        now: Instant,
    ) -> ForestMessage<P> {
        let paths = stripes_of(accepted, self.stripes.len()).map(|index| self.stripes[index].path.clone());
        ForestMessage::Attached(Attached {
            token,
            epoch: self.facts.map_or(Epoch(0), |facts| facts.epoch),
            clock_us: if self.tells_clock() { self.stream_us(now) } else { Attached::<P>::CLOCK_UNKNOWN },
            accepted,
            paths: paths.collect(),
            tracks: self.positions(interest),
            redirects,
            state: self.notice,
        })
    }

    /// Children that came before this node knew where a track stands are told now.
    pub(super) fn tell_positions(&self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        for child in &self.stripes[index].children {
            let message = self.attached(0, 1 << index, child.interest, Vec::new(), now);
            self.send(child.peer, message, actions);
        }
    }

    pub(super) fn positions(&self, interest: Interest) -> Vec<TrackPosition> {
        let tracks = self.tracks.iter().map(|(track, state)| (track, &**state));
        let wanted = tracks.filter(|(track, _)| interest.covers(**track, true));
        let position = |(&track, state): (&u8, &Track<P>)| {
            let end = self.live_end(track)?;
            Some(TrackPosition { track, group: state.log.group(), end })
        };
        wanted.filter_map(position).collect()
    }

    /// Where the live stream stands in a track; `None` while only its past has come.
    fn live_end(&self, id: u8) -> Option<u64> {
        let track = self.tracks.get(&id)?;
        let edges = self.stripes.iter().filter_map(|stripe| stripe.edge(id)).max();
        let known = self.is_source() || edges.is_some() || track.log.has_started();
        known.then(|| track.log.end().max(edges.unwrap_or(0)))
    }

    pub(super) fn redirects(&self, refused: u16, not: P) -> Vec<P> {
        let mut redirects = Vec::new();
        for index in stripes_of(refused, self.stripes.len()) {
            let stripe = &self.stripes[index];
            let below = stripe.children.iter().map(|child| child.peer).rev();
            for peer in below.chain(stripe.backups.iter().copied()) {
                if peer != not && redirects.len() < REDIRECTS_MAX && !redirects.contains(&peer) {
                    redirects.push(peer);
                }
            }
        }
        redirects
    }

    pub(super) fn on_detach(
        &mut self,
        from: P,
        stripes: u16,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let fed = self.children_count();
        for index in stripes_of(stripes, self.stripes.len()) {
            self.remove_child(index, from, actions);
            if self.stripes[index].parent == Some(from) {
                self.parent_failed(index, now, actions);
            }
        }
        if fed > 0 && self.children_count() == 0 {
            // Perhaps it was taken for dead: the planner is reminded that it lives.
            self.remind_planner();
        }
        self.release_unused(actions);
        self.note_wanted(now, actions);
        self.flush_reports(actions);
    }

    pub(super) fn remove_child(&mut self, index: usize, peer: P, actions: &mut Vec<RelayAction<P>>) -> bool {
        let children = &mut self.stripes[index].children;
        let before = children.len();
        children.retain(|child| child.peer != peer);
        let removed = children.len() < before;
        if removed {
            self.release_unused(actions);
        }
        removed
    }
}
