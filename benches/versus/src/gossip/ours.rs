//! Suffuse.

use bytes::Bytes;
use suffuse::sim::{Birth, NodeId, TopicScene, body_bytes};
use suffuse::{Engine, Epoch, Event, Input, Instant, Output, PublishOptions, StateId, SwarmId, TopicOptions};

use super::machine::{Action, Hops, Machine};

const TOPIC: SwarmId = SwarmId::from_name("versus");

/// Suffuse over connections if `CONNECTIONS`, else over datagrams, with the preset for the size of the swarm.
pub struct Suffuse<const CONNECTIONS: bool> {
    engine: Engine<NodeId>,
    contact: Option<NodeId>,
}

impl<const CONNECTIONS: bool> Suffuse<CONNECTIONS> {
    fn drain(&mut self, actions: &mut Vec<Action>) {
        while let Some(output) = self.engine.poll_output() {
            actions.push(match output {
                Output::Send { to, frame, .. } => Action::Send { to, frame },
                Output::Connect { peer } => Action::Connect { peer },
                Output::Disconnect { peer } => Action::Close { peer },
                Output::Event(Event::Delivered(update)) => {
                    Action::Deliver { payload: update.payload, hops: Hops::Links(update.hops.into()) }
                }
                Output::Event(_) => continue,
            });
        }
    }
}

impl<const CONNECTIONS: bool> Machine for Suffuse<CONNECTIONS> {
    const DIALS: bool = true;
    const CONNECTIONS: bool = CONNECTIONS;

    fn new(birth: Birth, contact: Option<NodeId>, nodes: u32, _entropy: u64) -> Self {
        let mut config = TopicScene::new(nodes).config;
        config.epoch = Epoch(birth.life);
        let engine = Engine::new(birth.node, config, birth.seed, birth.now);
        Self { engine: engine.expect("a preset is valid"), contact }
    }

    fn start(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let joined = self.engine.join_topic(TOPIC, TopicOptions::through(self.contact), now);
        joined.expect("a fresh engine can join");
        self.drain(actions);
    }

    fn received(&mut self, from: NodeId, frame: Bytes, now: Instant, actions: &mut Vec<Action>) {
        self.engine.handle_input(Input::Received { from, frame }, now);
        self.drain(actions);
    }

    fn connected(&mut self, peer: NodeId, now: Instant, actions: &mut Vec<Action>) {
        self.engine.handle_input(Input::PeerConnected { peer }, now);
        self.drain(actions);
    }

    fn disconnected(&mut self, peer: NodeId, now: Instant, actions: &mut Vec<Action>) {
        self.engine.handle_input(Input::PeerDisconnected { peer }, now);
        self.drain(actions);
    }

    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.engine.handle_timeout(now);
        self.drain(actions);
    }

    fn deadline(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    fn publish(&mut self, payload: Bytes, now: Instant, actions: &mut Vec<Action>) {
        let published = self.engine.publish(TOPIC, StateId(0), payload, PublishOptions::default(), now);
        published.expect("the payload fits a frame");
        self.drain(actions);
    }

    fn bodies(frame: &Bytes, payload_bytes: u64) -> u64 {
        body_bytes(frame) / payload_bytes
    }
}
