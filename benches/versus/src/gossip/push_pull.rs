//! Push-pull gossip: in rounds of 1 s each node meets 4 others at random; 7 of 10 meetings push, 3 pull.
//!
//! A push carries what is new since the last round, so each node pushes an update in one round only: the fewest copies
//! with which this can work. A pull tells what is known as ranges, and the other side answers with what is missing.
//! Membership is a gift: everybody knows everybody from the beginning.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use suffuse::Instant;
use suffuse::sim::{Birth, NodeId};

use super::machine::{Action, Hops, Machine};

const FANOUT: u32 = 4;
const ROUND: Duration = Duration::from_secs(1);
const PUSHES_OF_10: u32 = 7;
/// How long an update is kept for those that pull. Longer than the partition of the comparison.
const KEEP: Duration = Duration::from_secs(120);
/// How long its identifier is remembered, so that nobody pulls again what has been forgotten.
const REMEMBER: Duration = Duration::from_secs(240);

const BODY: u8 = 0;
const PULL: u8 = 1;

pub struct PushPull {
    own: NodeId,
    nodes: u64,
    rng: StdRng,
    round_at: Instant,
    /// By origin and number.
    known: BTreeMap<u64, Known>,
    fresh: Vec<u64>,
    published: u64,
}

struct Known {
    since: Instant,
    hops: u8,
    /// Nothing any more after [`KEEP`].
    payload: Option<Bytes>,
}

impl PushPull {
    fn body(&self, to: NodeId, id: u64) -> Option<Action> {
        let known = self.known.get(&id)?;
        let payload = known.payload.as_ref()?;
        let mut frame = BytesMut::with_capacity(10 + payload.len());
        frame.put_u8(BODY);
        frame.put_u8(known.hops.saturating_add(1));
        frame.put_u64_le(id);
        frame.put_slice(payload);
        Some(Action::Send { to, frame: frame.freeze() })
    }

    /// The first and the last of each run of identifiers that is known.
    fn digest(&self) -> Bytes {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &id in self.known.keys() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => runs.push((id, id)),
            }
        }
        let mut frame = BytesMut::with_capacity(1 + runs.len() * 10);
        frame.put_u8(PULL);
        for (first, last) in runs {
            frame.put_u64_le(first);
            frame.put_u16_le((last - first).min(u16::MAX.into()) as u16);
        }
        frame.freeze()
    }

    fn learn(&mut self, id: u64, hops: u8, payload: Bytes, now: Instant) -> bool {
        if self.known.contains_key(&id) {
            return false;
        }
        self.known.insert(id, Known { since: now, hops, payload: Some(payload) });
        self.fresh.push(id);
        true
    }
}

impl Machine for PushPull {
    const CONNECTIONS: bool = false;

    fn new(birth: Birth, _contact: Option<NodeId>, nodes: u32, entropy: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(entropy);
        let phase = Duration::from_micros(rng.random_range(0..1_000_000));
        Self {
            own: birth.node,
            nodes: nodes.into(),
            rng,
            round_at: birth.now + phase,
            known: BTreeMap::new(),
            fresh: Vec::new(),
            published: 0,
        }
    }

    fn start(&mut self, _now: Instant, _actions: &mut Vec<Action>) {}

    fn received(&mut self, from: NodeId, mut frame: Bytes, now: Instant, actions: &mut Vec<Action>) {
        if frame.get_u8() == BODY {
            let (hops, id) = (frame.get_u8(), frame.get_u64_le());
            if self.learn(id, hops, frame.clone(), now) {
                actions.push(Action::Deliver { payload: frame, hops: Hops::Links(hops.into()) });
            }
            return;
        }
        let mut theirs = Vec::with_capacity(frame.len() / 10);
        while frame.has_remaining() {
            let first = frame.get_u64_le();
            theirs.push((first, first + u64::from(frame.get_u16_le())));
        }
        let missing = self.known.keys().filter(|&&id| {
            let after = theirs.partition_point(|&(first, _)| first <= id);
            theirs[..after].last().is_none_or(|&(_, last)| id > last)
        });
        actions.extend(missing.filter_map(|&id| self.body(from, id)));
    }

    fn disconnected(&mut self, _peer: NodeId, _now: Instant, _actions: &mut Vec<Action>) {}

    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.round_at = now + ROUND;
        self.known.retain(|_, known| {
            if now - known.since >= KEEP {
                known.payload = None;
            }
            now - known.since < REMEMBER
        });
        let fresh = core::mem::take(&mut self.fresh);
        for _ in 0..FANOUT {
            let other = self.rng.random_range(0..self.nodes - 1);
            let to = if other < self.own { other } else { other + 1 };
            if self.rng.random_range(0..10) < PUSHES_OF_10 {
                actions.extend(fresh.iter().filter_map(|&id| self.body(to, id)));
            } else {
                actions.push(Action::Send { to, frame: self.digest() });
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.round_at)
    }

    fn publish(&mut self, payload: Bytes, now: Instant, _actions: &mut Vec<Action>) {
        let id = self.own << 32 | self.published;
        self.published += 1;
        self.learn(id, 0, payload, now);
    }

    fn bodies(frame: &Bytes, _payload_bytes: u64) -> u64 {
        u64::from(frame[0] == BODY)
    }
}
