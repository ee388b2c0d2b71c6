//! What the application of each node of the scene was given.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::id::UpdateId;
use crate::io::{Event, Update};
use crate::sim::{NodeId, Observer};
use crate::stats::Histogram;
use crate::time::Instant;

/// Notes deliveries: when, where, after how many hops.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: Vec<Message>,
    pub(super) by_id: BTreeMap<UpdateId<NodeId>, usize>,
    pub(super) delay_us: Histogram,
    pub(super) hops_max: u64,
    pub(super) deliveries: u64,
    /// Deliveries to nodes that joined after the publication.
    pub(super) catch_ups: u64,
    pub(super) repeated: u64,
    pub(super) joined_at: Vec<Option<Instant>>,
    /// Nodes of which nothing is asked.
    pub(super) exempt: BTreeSet<NodeId>,
    pub(super) lagged: Vec<(NodeId, UpdateId<NodeId>)>,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) published: Instant,
    pub(super) delivered: Vec<u64>,
    pub(super) last: Instant,
}

impl Tally {
    pub(super) fn publish(&mut self, id: UpdateId<NodeId>, nodes: usize, now: Instant) {
        self.by_id.insert(id, self.messages.len());
        let delivered = vec![0; nodes.div_ceil(64)];
        self.messages.push(Message { published: now, delivered, last: now });
        self.deliver_bit(self.messages.len() - 1, id.origin);
    }

    fn deliver_bit(&mut self, message: usize, node: NodeId) -> bool {
        let delivered = &mut self.messages[message].delivered;
        let (word, bit) = (node as usize / 64, 1 << (node % 64));
        if word >= delivered.len() {
            delivered.resize(word + 1, 0);
        }
        let new = delivered[word] & bit == 0;
        delivered[word] |= bit;
        new
    }

    pub(super) fn has(&self, message: usize, node: NodeId) -> bool {
        let word = self.messages[message].delivered.get(node as usize / 64);
        word.is_some_and(|bits| bits >> (node % 64) & 1 == 1)
    }

    fn deliver(&mut self, node: NodeId, update: &Update<NodeId>, now: Instant) {
        let Some(&message) = self.by_id.get(&update.id) else { return };
        self.deliveries += 1;
        if !self.deliver_bit(message, node) {
            self.repeated += 1;
            return;
        }
        let message = &mut self.messages[message];
        let was_there = self.joined_at[node as usize].is_some_and(|since| since <= message.published);
        if self.exempt.contains(&node) {
            return;
        }
        if was_there {
            self.delay_us.record((now - message.published).as_micros() as u64);
        } else {
            self.catch_ups += 1;
        }
        message.last = now;
        self.hops_max = self.hops_max.max(u64::from(update.hops));
    }
}

impl Observer for Tally {
    fn started(&mut self, node: NodeId, _now: Instant) {
        let place = node as usize;
        if place >= self.joined_at.len() {
            self.joined_at.resize(place + 1, None);
        }
        self.joined_at[place] = None;
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => self.deliver(node, update, now),
            Event::Joined { .. } => {
                self.joined_at[node as usize].get_or_insert(now);
            }
            Event::Lagged { swarm, origin, epoch, sequences, .. } => {
                let ids = sequences.clone().take(100_000).map(|sequence| UpdateId {
                    swarm: *swarm,
                    origin: *origin,
                    epoch: *epoch,
                    sequence,
                });
                self.lagged.extend(ids.map(|id| (node, id)));
            }
            _ => {}
        }
    }
}
