//! plumtree over hyparview, two crates of one author, with their defaults.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plumtree::message::{GossipMessage, GraftMessage, IhaveMessage, Message, ProtocolMessage, PruneMessage};
use plumtree::{Action as TreeAction, Node, System};
use suffuse::Instant;
use suffuse::sim::{Birth, NodeId};

use super::machine::{Action, Hops, Machine};
use super::overlay::{Change, MEMBERSHIP, Overlay};

/// The crate leaves it to its host to forget messages; iroh-gossip keeps their bodies as long.
const FORGET_AFTER: Duration = Duration::from_secs(30);

const GOSSIP: u8 = 0;

struct Net;

impl System for Net {
    type NodeId = NodeId;
    type MessageId = u64;
    type MessagePayload = Bytes;
}

pub struct Plumtree {
    overlay: Overlay,
    tree: Node<Net>,
    ticked: Instant,
    kept: VecDeque<(Instant, u64)>,
    own: NodeId,
    published: u64,
}

impl Plumtree {
    fn apply(&mut self, changes: Vec<Change>, now: Instant, actions: &mut Vec<Action>) {
        for change in changes {
            match change {
                Change::Up(peer) => self.tree.handle_neighbor_up(&peer),
                Change::Down(peer) => self.tree.handle_neighbor_down(&peer),
            }
        }
        self.drain(0, now, actions);
    }

    fn tick(&mut self, now: Instant) {
        self.tree.clock_mut().tick(now - self.ticked);
        self.ticked = now;
        while let Some(&(_, id)) = self.kept.front().filter(|(since, _)| now - *since >= FORGET_AFTER) {
            self.tree.forget_message(&id);
            self.kept.pop_front();
        }
    }

    fn drain(&mut self, hops: u16, now: Instant, actions: &mut Vec<Action>) {
        while let Some(action) = self.tree.poll_action() {
            match action {
                TreeAction::Send { destination, message } => {
                    actions.push(Action::Send { to: destination, frame: encode(&message) });
                }
                TreeAction::Deliver { message } => {
                    self.kept.push_back((now, message.id));
                    let hops = Hops::Links(hops.into());
                    actions.push(Action::Deliver { payload: message.payload, hops });
                }
            }
        }
    }
}

impl Machine for Plumtree {
    const CONNECTIONS: bool = true;

    fn new(birth: Birth, contact: Option<NodeId>, _nodes: u32, entropy: u64) -> Self {
        Self {
            overlay: Overlay::new(&birth, contact, entropy, Default::default()),
            tree: Node::new(birth.node),
            ticked: birth.now,
            kept: VecDeque::new(),
            own: birth.node,
            published: 0,
        }
    }

    fn start(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let changes = self.overlay.join(actions);
        self.apply(changes, now, actions);
    }

    fn received(&mut self, from: NodeId, frame: Bytes, now: Instant, actions: &mut Vec<Action>) {
        self.tick(now);
        if frame[0] & MEMBERSHIP != 0 {
            let changes = self.overlay.received(from, frame, actions);
            self.apply(changes, now, actions);
        } else {
            let (message, hops) = decode(from, frame);
            self.tree.handle_protocol_message(message);
            self.drain(hops, now, actions);
        }
    }

    fn disconnected(&mut self, peer: NodeId, now: Instant, actions: &mut Vec<Action>) {
        self.tick(now);
        let changes = self.overlay.disconnected(peer, actions);
        self.apply(changes, now, actions);
    }

    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.tick(now);
        let changes = self.overlay.timeout(now, actions);
        self.apply(changes, now, actions);
    }

    fn deadline(&self) -> Option<Instant> {
        let (next, now) = (self.tree.next_expiry_time(), self.tree.clock().now());
        let next = next.map(|next| self.ticked + next.as_duration().saturating_sub(now.as_duration()));
        // A message that expires this moment is asked for by the next poll.
        let next = next.map(|next| next.max(self.ticked + Duration::from_micros(1)));
        Some(next.map_or(self.overlay.deadline(), |next| next.min(self.overlay.deadline())))
    }

    fn publish(&mut self, payload: Bytes, now: Instant, actions: &mut Vec<Action>) {
        self.tick(now);
        let id = self.own << 32 | self.published;
        self.published += 1;
        self.tree.broadcast_message(Message::new(id, payload));
        self.drain(0, now, actions);
    }

    fn bodies(frame: &Bytes, _payload_bytes: u64) -> u64 {
        u64::from(frame[0] == GOSSIP)
    }
}

/// A tag, then the fields; the sender is known from the connection, so it costs nothing.
fn encode(message: &ProtocolMessage<Net>) -> Bytes {
    let mut out;
    match message {
        ProtocolMessage::Gossip(message) => {
            out = BytesMut::with_capacity(11 + message.message.payload.len());
            out.put_u8(GOSSIP);
            out.put_u16_le(message.round);
            out.put_u64_le(message.message.id);
            out.put_slice(&message.message.payload);
        }
        ProtocolMessage::Ihave(message) => {
            out = BytesMut::with_capacity(12);
            out.put_u8(1);
            out.put_u16_le(message.round);
            out.put_u64_le(message.message_id);
            out.put_u8(message.realtime.into());
        }
        ProtocolMessage::Graft(message) => {
            out = BytesMut::with_capacity(11);
            out.put_u8(if message.message_id.is_some() { 2 } else { 3 });
            out.put_u16_le(message.round);
            message.message_id.iter().for_each(|&id| out.put_u64_le(id));
        }
        ProtocolMessage::Prune(_) => {
            out = BytesMut::with_capacity(1);
            out.put_u8(4);
        }
    }
    out.freeze()
}

fn decode(sender: NodeId, mut frame: Bytes) -> (ProtocolMessage<Net>, u16) {
    let kind = frame.get_u8();
    if kind == 4 {
        return (PruneMessage { sender }.into(), 0);
    }
    let round = frame.get_u16_le();
    let message = match kind {
        GOSSIP => {
            let id = frame.get_u64_le();
            GossipMessage { sender, message: Message::new(id, frame), round }.into()
        }
        1 => {
            let message_id = frame.get_u64_le();
            IhaveMessage { sender, message_id, round, realtime: frame.get_u8() == 1 }.into()
        }
        2 => GraftMessage { sender, message_id: Some(frame.get_u64_le()), round }.into(),
        _ => GraftMessage { sender, message_id: None, round }.into(),
    };
    (message, round)
}
