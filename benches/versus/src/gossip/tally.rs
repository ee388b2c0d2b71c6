//! Who got what, when.

use bytes::Bytes;
use suffuse::sim::NodeId;
use suffuse::{Histogram, Instant};

pub struct Tally {
    pub now: Instant,
    pub messages: Vec<Message>,
    pub delay_us: Histogram,
    pub hops: u32,
    pub deliveries: u64,
    pub repeated: u64,
    nodes: u32,
}

pub struct Message {
    pub published: Instant,
    /// When the latest node got it.
    pub last: Instant,
    had: Vec<u64>,
}

impl Tally {
    /// Room for everything, so that the heap does not grow with what is counted.
    pub fn new(nodes: u32, messages: usize) -> Self {
        Self {
            now: Instant::ZERO,
            messages: Vec::with_capacity(messages),
            delay_us: Histogram::new(),
            hops: 0,
            deliveries: 0,
            repeated: 0,
            nodes,
        }
    }

    /// The payload of the next message; its number makes it unique.
    pub fn publish(&mut self, origin: NodeId, bytes: usize, now: Instant) -> Bytes {
        let number = self.messages.len() as u64;
        let had = vec![0; self.nodes.div_ceil(64) as usize];
        self.messages.push(Message { published: now, last: now, had });
        self.messages[number as usize].insert(origin);
        let mut payload = vec![7; bytes];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        Bytes::from(payload)
    }

    pub fn deliver(&mut self, node: NodeId, payload: &Bytes, hops: u32) {
        let now = self.now;
        let Some(number) = payload.first_chunk::<8>() else { return };
        let Some(message) = self.messages.get_mut(u64::from_le_bytes(*number) as usize) else { return };
        if !message.insert(node) {
            // Some deliver their own messages, too.
            self.repeated += u64::from(now > message.published);
            return;
        }
        message.last = now;
        self.deliveries += 1;
        self.delay_us.record((now - message.published).as_micros() as u64);
        self.hops = self.hops.max(hops);
    }
}

impl Message {
    pub fn has(&self, node: NodeId) -> bool {
        self.had[node as usize / 64] >> (node % 64) & 1 == 1
    }

    fn insert(&mut self, node: NodeId) -> bool {
        let new = !self.has(node);
        self.had[node as usize / 64] |= 1 << (node % 64);
        new
    }
}
