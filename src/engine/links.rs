//! The engine's links: made, closed, dropped, and watched.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::{Change, Engine, TICK};
use crate::id::SwarmTag;
use crate::io::Class;
use crate::link::{Link, LinkState};
use crate::membership::LivenessAction;
use crate::swarm::{Swarm, SwarmActions};
use crate::time::Instant;
use crate::wire::{LinkMessage, Message, WirePeer};

impl<P: WirePeer> Engine<P> {
    /// Makes a link; false if there is no room, and then the newcomer is turned away.
    pub(super) fn open_link(&mut self, peer: P, state: LinkState, now: Instant) -> bool {
        let disconnect = Change::Disconnect(peer);
        // Each link made or refused may leave a change for the host to carry out, so a host that does not drain gets none.
        let drained = self.connections.len() < self.config.link.links_max * 2;
        let full = self.links.len() >= self.config.link.links_max;
        if !drained || full && !self.evict_link(now) {
            self.stats.links_refused += 1;
            diagnose!(warn, ?peer, "no room for another link");
            if drained && state == LinkState::Up && !self.connections.contains(&disconnect) {
                self.connections.push_back(disconnect);
            }
            return false;
        }
        if state == LinkState::Up {
            // The peer has spoken since, so the host must not close what is in use again.
            self.connections.retain(|change| *change != disconnect);
        }
        diagnose!(debug, ?peer, ?state, "link opened");
        self.links.insert(peer, Link::new(state, self.local > peer, &self.config.link, now));
        self.egress.open(peer, state == LinkState::Up, now);
        self.schedule_link(peer);
        true
    }

    /// Closes the link that nobody needs and that was silent longest.
    pub(super) fn evict_link(&mut self, now: Instant) -> bool {
        let idle = self.links.iter().filter(|(_, link)| link.holders == 0);
        let Some((&peer, _)) = idle.min_by_key(|(peer, link)| (link.used, **peer)) else { return false };
        self.stats.links_evicted += 1;
        self.disconnect(peer, now);
        true
    }

    /// Notes that a link works; false if that was known.
    pub(super) fn mark_up(&mut self, peer: P, now: Instant) -> bool {
        let Some(link) = self.links.get_mut(&peer) else { return false };
        if !matches!(link.state, LinkState::Connecting { .. }) {
            return false;
        }
        link.state = LinkState::Up;
        link.used = now;
        link.liveness.heard(now);
        self.egress.ready(peer, now);
        self.schedule_link(peer);
        true
    }

    /// A link that was to be closed is needed again.
    pub(super) fn reopen(&mut self, peer: P, now: Instant) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.state = LinkState::Up;
            link.used = now;
        }
        self.egress.open(peer, true, now);
        self.schedule_link(peer);
    }

    pub(super) fn on_link_timeout(&mut self, peer: P, now: Instant) {
        let linger = self.config.link.linger;
        let Some(link) = self.links.get_mut(&peer) else { return };
        match link.state {
            LinkState::Connecting { deadline } if deadline <= now => {
                self.stats.connects_failed += 1;
                diagnose!(debug, ?peer, "not connected in time");
                self.disconnect(peer, now);
                return;
            }
            LinkState::Up if link.holders > 0 => match link.liveness.handle_timeout(now, &mut self.health) {
                Some(LivenessAction::SendPing { token }) => {
                    let news = link.liveness.is_news().then(|| link.liveness.is_hearsay());
                    self.send(
                        peer,
                        SwarmTag(0),
                        Message::Link(LinkMessage::Ping { token }),
                        Class::Control,
                        now,
                    );
                    if let Some(is_hearsay) = news {
                        self.tell_doubt(peer, is_hearsay);
                    }
                }
                Some(LivenessAction::Lost) => {
                    self.stats.links_silent += 1;
                    diagnose!(debug, ?peer, "silent for too long");
                    self.disconnect(peer, now);
                    return;
                }
                None => {}
            },
            LinkState::Up if link.used + linger <= now => {
                link.state = LinkState::Closing { deadline: now + self.config.link.connect_timeout };
                self.egress.close(peer);
            }
            LinkState::Closing { deadline } if deadline <= now => {
                // The transport takes nothing any more, so there is nothing to wait for.
                self.disconnect(peer, now);
                return;
            }
            LinkState::Connecting { .. } | LinkState::Up | LinkState::Closing { .. } => {}
        }
        self.schedule_link(peer);
    }

    pub(super) fn on_link_message(&mut self, from: P, message: LinkMessage, now: Instant) {
        match message {
            LinkMessage::Ping { token } => {
                self.send(from, SwarmTag(0), Message::Link(LinkMessage::Pong { token }), Class::Control, now);
                self.tell_ping(from);
                if self.links.get(&from).is_some_and(|link| link.holders == 0) {
                    // Only neighbours are pinged. One that is none here holds half a link, and would for as long as we answer.
                    let tags: Vec<_> = self.swarms.keys().copied().collect();
                    for tag in tags {
                        self.with_swarm(tag, |swarm, now, actions| swarm.refuse_stranger(from, now, actions));
                    }
                }
            }
            LinkMessage::Beat { next_tenths } => {
                if let Some(link) = self.links.get_mut(&from).filter(|link| link.holders > 0) {
                    if link.liveness.on_beat(Duration::from_millis(u64::from(next_tenths) * 100), now) {
                        self.health.note_kept();
                    }
                    self.schedule_link(from);
                }
            }
            LinkMessage::Pong { token } => {
                let Some(link) = self.links.get_mut(&from) else { return };
                let hurried = link.liveness.is_hurried();
                if link.liveness.on_pong(token, now) {
                    let loss = link.liveness.take_loss();
                    self.spread_rtt(from);
                    if hurried {
                        self.tell_answer(from);
                    }
                    if loss {
                        self.swarms.values_mut().for_each(|joined| joined.swarm.note_loss(now));
                    }
                }
            }
        }
    }

    /// Tells every swarm what is known of the link's delay.
    pub(super) fn spread_rtt(&mut self, peer: P) {
        let Some(link) = self.links.get(&peer) else { return };
        let Some((rtt, deviation)) = link.liveness.rtt() else { return };
        for joined in self.swarms.values_mut() {
            joined.swarm.set_rtt(peer, rtt, deviation);
        }
    }

    /// A neighbour may be dead: the others that watch it are asked, and who would be alone without it looks for others in time.
    fn tell_doubt(&mut self, peer: P, is_hearsay: bool) {
        self.with_swarms(|swarm, now, actions| swarm.doubt(peer, is_hearsay, now, actions));
    }

    /// A neighbour that others found silent has answered.
    pub(super) fn tell_answer(&mut self, peer: P) {
        self.with_swarms(|swarm, now, actions| swarm.answered(peer, now, actions));
    }

    /// A peer has pinged this node.
    pub(super) fn tell_ping(&mut self, peer: P) {
        self.with_swarms(|swarm, now, actions| swarm.pinged(peer, now, actions));
    }

    /// Gives a peer a sign of life, unless it has just had one that keeps what was promised.
    pub(super) fn beat(&mut self, peer: P, next: Duration, now: Instant) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if link.state != LinkState::Up || link.stands_for_beat(next, now) {
            return;
        }
        let next_tenths = u8::try_from(next.as_millis().div_ceil(100)).unwrap_or(u8::MAX);
        link.promise_beat(next_tenths, now);
        self.send(peer, SwarmTag(0), Message::Link(LinkMessage::Beat { next_tenths }), Class::Control, now);
    }

    fn with_swarms(&mut self, mut act: impl FnMut(&mut Swarm<P>, Instant, &mut SwarmActions<P>)) {
        let tags: SmallVec<[_; 4]> = self.swarms.keys().copied().collect();
        for tag in tags {
            self.with_swarm(tag, &mut act);
        }
    }

    /// Drops a link and tells the host to do the same.
    pub(super) fn disconnect(&mut self, peer: P, now: Instant) {
        self.connections.push_back(Change::Disconnect(peer));
        self.drop_link(peer, now);
    }

    /// Forgets a link and all that waits for it, and tells the swarms.
    pub(super) fn drop_link(&mut self, peer: P, now: Instant) {
        if !self.remove_link(&peer) {
            return;
        }
        diagnose!(debug, ?peer, "link dropped");
        self.egress.reset(peer);
        let tags: Vec<_> = self.swarms.keys().copied().collect();
        for tag in tags {
            self.with_swarm(tag, |swarm, _, actions| swarm.peer_lost(peer, now, actions));
        }
    }

    pub(super) fn schedule_link(&mut self, peer: P) {
        let Some(place) = self.links.place(&peer) else { return };
        let deadline = self.links.at(place).and_then(|link| link.poll_timeout(&self.config.link));
        self.wakes.set_link(place, deadline.map(|at| at.max(self.now + TICK)));
    }

    /// Forgets a link and its deadline; false if there is none.
    pub(super) fn remove_link(&mut self, peer: &P) -> bool {
        let place = self.links.remove(peer);
        if let Some(place) = place {
            self.wakes.set_link(place, None);
        }
        place.is_some()
    }
}
