//! What the application of each node of the scene was given.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::id::{SwarmTag, UpdateId};
use crate::io::{Event, Update};
use crate::sim::{NodeId, Observer, SentFrame};
use crate::stats::Histogram;
use crate::time::Instant;
use crate::wire::{self, FrameReader, FrameWriter, GossipMessage};

/// Notes deliveries: when, where, after how many hops.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: Vec<Message>,
    pub(super) by_id: BTreeMap<UpdateId<NodeId>, usize>,
    pub(super) delay_us: Histogram,
    /// Of what was published after the crash.
    pub(super) crashed_delay_us: Histogram,
    pub(super) crashed: Option<Instant>,
    /// When the partition ended.
    pub(super) healed: Option<Instant>,
    /// Deliveries after that of what was published before.
    missed: u64,
    /// What was sent after it to find these out, and the same when all were delivered.
    control_bytes: u64,
    settled: Option<(u64, u64)>,
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
        self.missed += u64::from(self.healed.is_some_and(|healed| message.published < healed));
        if was_there {
            let delay_us = (now - message.published).as_micros() as u64;
            self.delay_us.record(delay_us);
            if self.crashed.is_some_and(|crashed| message.published >= crashed) {
                self.crashed_delay_us.record(delay_us);
            }
        } else {
            self.catch_ups += 1;
        }
        message.last = now;
        self.hops_max = self.hops_max.max(u64::from(update.hops));
    }
}

impl Tally {
    /// All nodes know the same.
    pub(super) fn equal_state(&mut self) {
        self.settled.get_or_insert((self.control_bytes, self.missed));
    }

    pub(super) fn control_per_missed(&self) -> Option<f64> {
        let (control_bytes, missed) = self.settled.filter(|&(_, missed)| missed > 0)?;
        Some(control_bytes as f64 / missed as f64)
    }
}

/// The bytes of announcements, requests and fingerprints in a frame, and what the frame costs beside them if it carries no body.
fn control_bytes(frame: &SentFrame<'_>, now: Instant) -> u64 {
    let Ok(mut reader) = FrameReader::new(frame.frame, now) else { return 0 };
    let (mut control, mut has_body) = (FrameWriter::new(frame.frame.len()), false);
    while let Some(Ok((swarm, message))) = reader.next::<NodeId>() {
        let wire::Message::Gossip(gossip) = &message else { continue };
        match gossip {
            GossipMessage::Have { .. }
            | GossipMessage::Want { .. }
            | GossipMessage::Gone { .. }
            | GossipMessage::Sync { .. } => {
                control.push(swarm.unwrap_or(SwarmTag(0)), &message, now);
            }
            GossipMessage::Data(_) | GossipMessage::Chunk(_) => has_body = true,
            _ => {}
        }
    }
    let overhead = frame.wire_bytes - frame.frame.len() as u64;
    match control.finish().len() as u64 {
        len if len <= FRAME_HEADER_BYTES => 0,
        len if has_body => len - FRAME_HEADER_BYTES,
        len => len + overhead,
    }
}

/// A frame that carries nothing has so many.
const FRAME_HEADER_BYTES: u64 = 1;

impl Observer for Tally {
    fn sent(&mut self, now: Instant, frame: &SentFrame<'_>) {
        if self.healed.is_some() && self.settled.is_none() {
            self.control_bytes += control_bytes(frame, now);
        }
    }

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
