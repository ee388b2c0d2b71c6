//! Plain flooding: whoever gets something new sends it to all neighbours but the one it came from.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyparview::NodeOptions;
use suffuse::Instant;
use suffuse::sim::{Birth, NodeId};

use super::machine::{Action, Hops, Machine};
use super::overlay::{MEMBERSHIP, Overlay};

/// How long it is remembered what was seen.
const REMEMBER: Duration = Duration::from_secs(90);

/// Flooding over the overlay of hyparview, with as many neighbours as suffuse has.
pub struct Flooding {
    overlay: Overlay,
    seen: HashSet<u64>,
    order: VecDeque<(Instant, u64)>,
    own: NodeId,
    published: u64,
}

impl Flooding {
    fn is_new(&mut self, id: u64, now: Instant) -> bool {
        while let Some(&(_, old)) = self.order.front().filter(|(since, _)| now - *since >= REMEMBER) {
            self.seen.remove(&old);
            self.order.pop_front();
        }
        let new = self.seen.insert(id);
        if new {
            self.order.push_back((now, id));
        }
        new
    }

    fn push(&self, id: u64, hops: u16, payload: &Bytes, but: NodeId, actions: &mut Vec<Action>) {
        for &to in self.overlay.neighbors().iter().filter(|&&peer| peer != but) {
            let mut frame = BytesMut::with_capacity(11 + payload.len());
            frame.put_u8(0);
            frame.put_u16_le(hops);
            frame.put_u64_le(id);
            frame.put_slice(payload);
            actions.push(Action::Send { to, frame: frame.freeze() });
        }
    }
}

impl Machine for Flooding {
    const CONNECTIONS: bool = true;

    fn new(birth: Birth, contact: Option<NodeId>, _nodes: u32, entropy: u64) -> Self {
        let options =
            NodeOptions { max_active_view_size: 8, max_passive_view_size: 48, ..NodeOptions::default() };
        Self {
            overlay: Overlay::new(&birth, contact, entropy, options),
            seen: HashSet::new(),
            order: VecDeque::new(),
            own: birth.node,
            published: 0,
        }
    }

    fn start(&mut self, _now: Instant, actions: &mut Vec<Action>) {
        self.overlay.join(actions);
    }

    fn received(&mut self, from: NodeId, mut frame: Bytes, now: Instant, actions: &mut Vec<Action>) {
        if frame[0] & MEMBERSHIP != 0 {
            self.overlay.received(from, frame, actions);
            return;
        }
        frame.advance(1);
        let (hops, id) = (frame.get_u16_le(), frame.get_u64_le());
        if self.is_new(id, now) {
            self.push(id, hops.saturating_add(1), &frame, from, actions);
            actions.push(Action::Deliver { payload: frame, hops: Hops::Links(hops.into()) });
        }
    }

    fn disconnected(&mut self, peer: NodeId, _now: Instant, actions: &mut Vec<Action>) {
        self.overlay.disconnected(peer, actions);
    }

    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.overlay.timeout(now, actions);
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.overlay.deadline())
    }

    fn publish(&mut self, payload: Bytes, now: Instant, actions: &mut Vec<Action>) {
        let id = self.own << 32 | self.published;
        self.published += 1;
        self.is_new(id, now);
        self.push(id, 1, &payload, self.own, actions);
    }

    fn bodies(frame: &Bytes, _payload_bytes: u64) -> u64 {
        u64::from(frame[0] == 0)
    }
}
