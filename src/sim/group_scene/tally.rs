//! Notes what became of each message.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use super::media::MediaTally;
use super::report::GroupMessages;
use crate::io::{Audience, Event, GroupEvent, GroupMail};
use crate::sim::{NodeId, Observer, StopReason};
use crate::swarm::{DeliveryRoute, GroupMessageId};
use crate::time::Instant;

/// What is known of all messages.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sent: Vec<Sent>,
    unicasts: BTreeSet<(NodeId, GroupMessageId)>,
    /// The newest message that each receiver has of each sender, by kind.
    newest: BTreeMap<(NodeId, NodeId, u8), u64>,
    received_bytes: Vec<u64>,
    messages: GroupMessages,
    pub(super) media: MediaTally,
}

#[derive(Debug)]
struct Sent {
    from: NodeId,
    receivers: Vec<NodeId>,
    delivered: BTreeSet<NodeId>,
}

impl Default for GroupMessages {
    fn default() -> Self {
        Self {
            reliability: 1.0,
            duplicates: 0,
            order_violations: 0,
            unicast_direct: 0,
            unicast_relayed: 0,
            unicast_stored: 0,
            unicast_failed: 0,
        }
    }
}

impl Tally {
    /// The payload of the next message.
    pub(super) fn next_payload(&self, bytes: usize) -> Bytes {
        let mut payload = alloc::vec![0; bytes.max(8)];
        payload[..8].copy_from_slice(&(self.sent.len() as u64).to_le_bytes());
        Bytes::from(payload)
    }

    /// Notes the message that was made last.
    pub(super) fn sent(&mut self, from: NodeId, receivers: Vec<NodeId>, unicast: Option<GroupMessageId>) {
        self.sent.push(Sent { from, receivers, delivered: BTreeSet::new() });
        if let Some(id) = unicast {
            self.unicasts.insert((from, id));
        }
    }

    /// What became of messages for those who are `up`.
    pub(super) fn messages(&self, up: impl Fn(NodeId) -> bool) -> GroupMessages {
        let (mut pairs, mut delivered) = (0u64, 0u64);
        for sent in &self.sent {
            let receivers: Vec<_> =
                sent.receivers.iter().filter(|&&node| up(node) && up(sent.from)).collect();
            pairs += receivers.len() as u64;
            delivered += receivers.iter().filter(|node| sent.delivered.contains(node)).count() as u64;
        }
        let reliability = if pairs == 0 { 1.0 } else { delivered as f64 / pairs as f64 };
        GroupMessages { reliability, ..self.messages }
    }

    /// Bytes that arrived at a node.
    pub(super) fn received_bytes(&self, node: NodeId) -> u64 {
        self.received_bytes.get(node as usize).copied().unwrap_or(0)
    }

    /// A node that begins anew has heard nothing.
    fn deliver(&mut self, node: NodeId, mail: &GroupMail<NodeId>) {
        let Some(head) = mail.payload.get(..8) else { return };
        let mut bytes = [0; 8];
        bytes.copy_from_slice(head);
        let number = u64::from_le_bytes(bytes);
        let Some(sent) = self.sent.get_mut(number as usize).filter(|sent| sent.from == mail.from) else {
            return;
        };
        if !sent.delivered.insert(node) {
            self.messages.duplicates += 1;
        }
        let kind = u8::from(mail.audience == Audience::Everybody);
        let newest = self.newest.entry((node, mail.from, kind)).or_insert(number);
        if *newest > number {
            self.messages.order_violations += 1;
        }
        *newest = number.max(*newest);
    }
}

impl Observer for Tally {
    fn stopped(&mut self, node: NodeId, _now: Instant, _why: StopReason) {
        self.media.stopped(node);
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        let Event::Group { event, .. } = event else { return };
        self.media.event(node, now, event);
        match event {
            GroupEvent::Message(mail) => self.deliver(node, mail),
            GroupEvent::MessageDelivered { id, route, .. } if self.unicasts.contains(&(node, *id)) => {
                match route {
                    DeliveryRoute::Direct => self.messages.unicast_direct += 1,
                    DeliveryRoute::Relayed => self.messages.unicast_relayed += 1,
                    DeliveryRoute::Stored => self.messages.unicast_stored += 1,
                }
            }
            GroupEvent::MessageFailed { id, .. } if self.unicasts.contains(&(node, *id)) => {
                self.messages.unicast_failed += 1;
            }
            _ => {}
        }
    }

    fn arrived(&mut self, _now: Instant, _from: NodeId, to: NodeId, frame: &Bytes) {
        let place = to as usize;
        if place >= self.received_bytes.len() {
            self.received_bytes.resize(place + 1, 0);
        }
        self.received_bytes[place] += frame.len() as u64;
    }
}
