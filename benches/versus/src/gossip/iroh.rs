//! iroh-gossip: its protocol as its own host drives it, but for two favours. What it asks to disconnect is reported
//! back to it as disconnected, or requests that it believes pending isolate nodes for good; and a node without a
//! neighbour joins again through the contact.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bytes::Bytes;
use iroh_gossip::proto::{Command, Config, Event, InEvent, Message, OutEvent, Scope, State, Timer, TopicId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use suffuse::Instant;
use suffuse::sim::{Birth, NodeId};

use super::machine::{Action, Hops, Machine};
use super::overlay::REJOIN_AFTER;

const TOPIC: [u8; 32] = [9; 32];

pub struct Iroh {
    state: State<NodeId, StdRng>,
    contact: Option<NodeId>,
    timers: BTreeMap<(Instant, u64), Timer<NodeId>>,
    timers_made: u64,
    neighbors: BTreeSet<NodeId>,
    look_at: Instant,
    closed: Vec<NodeId>,
}

impl Iroh {
    fn handle(&mut self, event: InEvent<NodeId>, now: Instant, actions: &mut Vec<Action>) {
        self.handle_one(event, now, actions);
        while let Some(peer) = self.closed.pop() {
            self.handle_one(InEvent::PeerDisconnected(peer), now, actions);
        }
    }

    fn handle_one(&mut self, event: InEvent<NodeId>, now: Instant, actions: &mut Vec<Action>) {
        for event in self.state.handle(event, clock(now), None) {
            match event {
                OutEvent::SendMessage(to, message) => {
                    let frame = postcard::to_allocvec(&message).expect("its messages can be encoded");
                    actions.push(Action::Send { to, frame: frame.into() });
                }
                OutEvent::EmitEvent(_, Event::NeighborUp(peer)) => {
                    self.neighbors.insert(peer);
                }
                OutEvent::EmitEvent(_, Event::NeighborDown(peer)) => {
                    self.neighbors.remove(&peer);
                }
                OutEvent::EmitEvent(_, Event::Received(event)) => {
                    let hops = Hops::Scope(event.scope);
                    actions.push(Action::Deliver { payload: event.content, hops });
                }
                OutEvent::ScheduleTimer(after, timer) => {
                    self.timers.insert((now + after, self.timers_made), timer);
                    self.timers_made += 1;
                }
                OutEvent::DisconnectPeer(peer) => {
                    actions.push(Action::Close { peer });
                    self.closed.push(peer);
                }
                OutEvent::PeerData(..) => {}
            }
        }
    }

    fn join(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let command = Command::Join(self.contact.into_iter().collect());
        self.handle(InEvent::Command(TopicId::from_bytes(TOPIC), command), now, actions);
    }
}

impl Machine for Iroh {
    const CONNECTIONS: bool = true;

    fn new(birth: Birth, contact: Option<NodeId>, _nodes: u32, entropy: u64) -> Self {
        let rng = StdRng::seed_from_u64(entropy);
        Self {
            state: State::new(birth.node, Default::default(), Config::default(), rng),
            contact,
            timers: BTreeMap::new(),
            timers_made: 0,
            neighbors: BTreeSet::new(),
            look_at: birth.now + REJOIN_AFTER,
            closed: Vec::new(),
        }
    }

    fn start(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.join(now, actions);
    }

    fn received(&mut self, from: NodeId, frame: Bytes, now: Instant, actions: &mut Vec<Action>) {
        let message: Message<NodeId> = postcard::from_bytes(&frame).expect("nobody sends anything else");
        self.handle(InEvent::RecvMessage(from, message), now, actions);
    }

    fn disconnected(&mut self, peer: NodeId, now: Instant, actions: &mut Vec<Action>) {
        self.handle(InEvent::PeerDisconnected(peer), now, actions);
    }

    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= now) {
            let timer = timer.remove();
            self.handle(InEvent::TimerExpired(timer), now, actions);
        }
        if self.look_at <= now {
            self.look_at = now + REJOIN_AFTER;
            if self.neighbors.is_empty() {
                self.join(now, actions);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|(&(at, _), _)| at);
        Some(timer.map_or(self.look_at, |at| at.min(self.look_at)))
    }

    fn publish(&mut self, payload: Bytes, now: Instant, actions: &mut Vec<Action>) {
        let command = Command::Broadcast(payload, Scope::Swarm);
        self.handle(InEvent::Command(TopicId::from_bytes(TOPIC), command), now, actions);
    }

    /// A frame is the topic, a tag for the broadcast layer, and one for a message with content.
    fn bodies(frame: &Bytes, _payload_bytes: u64) -> u64 {
        u64::from(frame.get(32..34) == Some(&[1, 0]))
    }
}

/// It takes a real clock's times, which cannot be made from nothing.
fn clock(now: Instant) -> n0_future::time::Instant {
    static ORIGIN: OnceLock<n0_future::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(n0_future::time::Instant::now) + (now - Instant::ZERO)
}
