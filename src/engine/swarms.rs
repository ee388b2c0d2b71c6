//! Swarms act here, and what they want is carried out.

use smallvec::SmallVec;

use super::outgoing::Outgoing;
use super::{Engine, Joined, TICK};
use crate::id::{Epoch, SwarmId, SwarmTag};
use crate::io::Event;
use crate::link::LinkState;
use crate::swarm::{Swarm, SwarmAction, SwarmActions, Topic};
use crate::time::Instant;
use crate::wire::WirePeer;

impl<P: WirePeer> Engine<P> {
    /// Lets the topic of a swarm act, if it has one.
    pub(super) fn with_topic(
        &mut self,
        tag: SwarmTag,
        act: impl FnOnce(&mut Topic<P>, Instant, &mut SwarmActions<P>),
    ) {
        self.with_swarm(tag, |swarm, now, actions| swarm.with_topic(now, actions, act));
    }

    /// Takes a new swarm in; `owner` is the group whose livestream it is.
    pub(super) fn add_swarm(&mut self, tag: SwarmTag, id: SwarmId, swarm: Swarm<P>, owner: Option<SwarmTag>) {
        let place = self.wakes.add_swarm(tag);
        self.swarms.insert(tag, Joined { id, swarm, wake: None, place, owner });
    }

    /// Lets a swarm act, carries out what it wants, and notes when it wants to be woken.
    pub(super) fn with_swarm(
        &mut self,
        tag: SwarmTag,
        act: impl FnOnce(&mut Swarm<P>, Instant, &mut SwarmActions<P>),
    ) {
        let now = self.now;
        let Some(joined) = self.swarms.get_mut(&tag) else { return };
        let mut actions = core::mem::take(&mut self.actions);
        act(&mut joined.swarm, now, &mut actions);
        let wake = joined.swarm.poll_timeout().map(|at| at.max(now + TICK));
        if joined.wake != wake {
            joined.wake = wake;
            self.wakes.set_swarm(joined.place, wake);
        }
        let count = actions.len();
        for action in actions.drain(..) {
            self.carry_out(tag, action, now);
        }
        self.actions_rush.passed(&mut actions, count);
        // An action can lead to others only through the deadlines, never through this list.
        self.actions = actions;
    }

    pub(super) fn carry_out(&mut self, tag: SwarmTag, action: SwarmAction<P>, now: Instant) {
        match action {
            SwarmAction::Send { to, message, class, deadline, key } => {
                self.enqueue(to, Outgoing::Message(tag, message), class, deadline, key, now);
            }
            SwarmAction::Pass { to, frame, class, deadline, key } => {
                self.enqueue(to, Outgoing::Frame(frame), class, deadline, key, now);
            }
            SwarmAction::Hold(peer) => {
                if !self.links.contains_key(&peer) {
                    self.open_link(peer, LinkState::Up, now);
                }
                if let Some(link) = self.links.get_mut(&peer) {
                    link.holders += 1;
                    link.liveness.watch(now);
                }
                self.schedule_link(peer);
                self.spread_rtt(peer);
            }
            SwarmAction::Release(peer) => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.holders = link.holders.saturating_sub(1);
                    link.used = now;
                    link.liveness.release();
                    link.promised_tenths = 0;
                }
                self.schedule_link(peer);
            }
            SwarmAction::Beat(peer, next) => self.beat(peer, next, now),
            SwarmAction::Hurry(peer) => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.liveness.hurry(now);
                    self.schedule_link(peer);
                }
            }
            SwarmAction::Vouched(peer) => {
                let vouched = self.links.get_mut(&peer).is_some_and(|link| link.liveness.vouch());
                if vouched {
                    self.stats.links_vouched += 1;
                    self.health.worsen();
                }
            }
            SwarmAction::SuspectNeighbors => {
                let topic = self.swarms.get(&tag).and_then(|joined| joined.swarm.topic());
                let neighbors: SmallVec<[P; 16]> = topic.into_iter().flat_map(Topic::neighbors).collect();
                for peer in neighbors {
                    if let Some(link) = self.links.get_mut(&peer) {
                        link.liveness.suspect(now);
                        self.schedule_link(peer);
                    }
                }
            }
            SwarmAction::Misbehaved(peer, offence) => self.misbehaved(peer, offence),
            SwarmAction::Event(event) => match self.swarms.get(&tag) {
                Some(&Joined { id, owner: Some(group), .. }) => {
                    self.with_group(group, |group, _, actions| group.on_stream_event(id, event, actions));
                }
                _ => self.event(event),
            },
            SwarmAction::Stream(order) => self.on_stream_order(tag, *order, now),
            SwarmAction::Gone => self.forget_swarm(tag),
        }
    }

    /// The swarm was left.
    pub(super) fn forget_swarm(&mut self, tag: SwarmTag) {
        if let Some(joined) = self.swarms.remove(&tag) {
            self.epoch_min = self.epoch_min.max(Epoch(joined.swarm.epoch().0.saturating_add(1)));
            self.wakes.remove_swarm(joined.place);
        }
        self.close_streams_of(tag);
    }

    pub(super) fn event(&mut self, event: Event<P>) {
        diagnose!(trace, ?event, "news");
        if self.events.push(event).is_some() {
            self.events_lost += 1;
            self.stats.events_lost += 1;
        }
    }
}
