//! The membership of the contestants that have none of their own: the crate hyparview, with a compact binary form.
//!
//! The crate leaves its timers to the host. Short ones are a favour: the authors' own host fills views every 10 s or
//! more.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyparview::message::{
    DisconnectMessage, ForwardJoinMessage, JoinMessage, NeighborMessage, ProtocolMessage, ShuffleMessage,
    ShuffleReplyMessage,
};
use hyparview::{Action as ViewAction, Event, Node, NodeOptions, TimeToLive};
use rand06::SeedableRng;
use rand06::rngs::StdRng;
use suffuse::Instant;
use suffuse::sim::{Birth, NodeId};

use super::machine::Action;

/// How long a node without a neighbour waits before it asks the contact again.
pub const REJOIN_AFTER: Duration = Duration::from_secs(1);

const FILL_EVERY: Duration = Duration::from_secs(1);
const SYNC_EVERY: Duration = Duration::from_secs(10);
const SHUFFLE_EVERY: Duration = Duration::from_secs(10);

/// Frames of the membership begin with it; those of the layer above with less.
pub const MEMBERSHIP: u8 = 0x80;

pub struct Overlay {
    node: Node<NodeId, StdRng>,
    contact: Option<NodeId>,
    fill_at: Instant,
    sync_at: Instant,
    shuffle_at: Instant,
}

/// A change of the neighbours.
pub enum Change {
    Up(NodeId),
    Down(NodeId),
}

impl Overlay {
    pub fn new(birth: &Birth, contact: Option<NodeId>, entropy: u64, options: NodeOptions) -> Self {
        let rng = StdRng::seed_from_u64(entropy);
        Self {
            node: Node::with_options(birth.node, rng, options),
            contact,
            fill_at: birth.now + FILL_EVERY,
            sync_at: birth.now + SYNC_EVERY,
            shuffle_at: birth.now + SHUFFLE_EVERY,
        }
    }

    pub fn join(&mut self, actions: &mut Vec<Action>) -> Vec<Change> {
        if let Some(contact) = self.contact {
            self.node.join(contact);
        }
        self.drain(actions)
    }

    pub fn neighbors(&self) -> &[NodeId] {
        self.node.active_view()
    }

    pub fn received(&mut self, from: NodeId, frame: Bytes, actions: &mut Vec<Action>) -> Vec<Change> {
        self.node.handle_protocol_message(decode(from, frame));
        self.drain(actions)
    }

    pub fn disconnected(&mut self, peer: NodeId, actions: &mut Vec<Action>) -> Vec<Change> {
        self.node.disconnect(&peer, false);
        self.drain(actions)
    }

    pub fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) -> Vec<Change> {
        if self.fill_at <= now {
            self.fill_at = now + FILL_EVERY;
            if let (true, Some(contact)) = (self.neighbors().is_empty(), self.contact) {
                self.node.join(contact);
            }
            self.node.fill_active_view();
        }
        if self.sync_at <= now {
            self.sync_at = now + SYNC_EVERY;
            self.node.sync_active_view();
        }
        if self.shuffle_at <= now {
            self.shuffle_at = now + SHUFFLE_EVERY;
            self.node.shuffle_passive_view();
        }
        self.drain(actions)
    }

    pub fn deadline(&self) -> Instant {
        self.fill_at.min(self.sync_at).min(self.shuffle_at)
    }

    fn drain(&mut self, actions: &mut Vec<Action>) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(action) = self.node.poll_action() {
            match action {
                ViewAction::Send { destination, message } => {
                    actions.push(Action::Send { to: destination, frame: encode(&message) });
                }
                ViewAction::Disconnect { node } => actions.push(Action::Close { peer: node }),
                ViewAction::Notify { event: Event::NeighborUp { node } } => changes.push(Change::Up(node)),
                ViewAction::Notify { event: Event::NeighborDown { node } } => {
                    changes.push(Change::Down(node));
                }
            }
        }
        changes
    }
}

/// A tag, then the fields; the sender is known from the connection, so it costs nothing.
fn encode(message: &ProtocolMessage<NodeId>) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    let nodes = |out: &mut BytesMut, nodes: &[NodeId]| nodes.iter().for_each(|&node| out.put_u64_le(node));
    match message {
        ProtocolMessage::Join(_) => out.put_u8(MEMBERSHIP),
        ProtocolMessage::ForwardJoin(message) => {
            out.put_u8(MEMBERSHIP | 1);
            out.put_u8(message.ttl.as_u8());
            out.put_u64_le(message.new_node);
        }
        ProtocolMessage::Neighbor(message) => {
            out.put_u8(MEMBERSHIP | 2);
            out.put_u8(message.high_priority.into());
        }
        ProtocolMessage::Shuffle(message) => {
            out.put_u8(MEMBERSHIP | 3);
            out.put_u8(message.ttl.as_u8());
            out.put_u64_le(message.origin);
            nodes(&mut out, &message.nodes);
        }
        ProtocolMessage::ShuffleReply(message) => {
            out.put_u8(MEMBERSHIP | 4);
            nodes(&mut out, &message.nodes);
        }
        ProtocolMessage::Disconnect(message) => {
            out.put_u8(MEMBERSHIP | 5);
            out.put_u8(message.alive.into());
        }
    }
    out.freeze()
}

fn decode(sender: NodeId, mut frame: Bytes) -> ProtocolMessage<NodeId> {
    let nodes = |mut rest: Bytes| {
        let mut nodes = Vec::with_capacity(rest.len() / 8);
        while rest.has_remaining() {
            nodes.push(rest.get_u64_le());
        }
        nodes
    };
    match frame.get_u8() & !MEMBERSHIP {
        0 => JoinMessage { sender }.into(),
        1 => {
            let ttl = TimeToLive::new(frame.get_u8());
            ForwardJoinMessage { sender, new_node: frame.get_u64_le(), ttl }.into()
        }
        2 => NeighborMessage { sender, high_priority: frame.get_u8() == 1 }.into(),
        3 => {
            let ttl = TimeToLive::new(frame.get_u8());
            let origin = frame.get_u64_le();
            ShuffleMessage { sender, origin, nodes: nodes(frame), ttl }.into()
        }
        4 => ShuffleReplyMessage { sender, nodes: nodes(frame) }.into(),
        _ => DisconnectMessage { sender, alive: frame.get_u8() == 1 }.into(),
    }
}
