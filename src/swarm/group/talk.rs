//! The way of messages: to everybody by gossip, to some by hand.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::direct::{Copy, DeliveryRoute, Fate, Inbound, Path, Taken};
use super::options::{GroupMessageId, GroupSendOptions};
use super::order::Arrived;
use super::roster::LEFT;
use super::{Group, Stage, TALK};
use crate::error::CommandError;
use crate::gossip::PublishOptions;
use crate::id::Epoch;
use crate::io::{Audience, Class, GroupEvent, GroupMail, LagReason, Update};
use crate::swarm::SwarmActions;
use crate::time::Instant;
use crate::wire::{
    Ack, DATA_HEADER_BYTES_MAX_WITHOUT_PEER, Directed, DirectedTarget, GroupMessage, Message, WirePeer,
    message_bytes_max,
};

/// In front of a message to everybody: when it was sent, and when the one before it was.
const STAMPS_BYTES: usize = 8 + 8;

/// The version byte of a frame.
const FRAME_HEADER_BYTES: usize = 1;

impl<P: WirePeer> Group<P> {
    /// The greatest payload of a message to everybody.
    pub(crate) fn broadcast_bytes_max(&self) -> usize {
        let header = FRAME_HEADER_BYTES + P::WIRE_BYTES + DATA_HEADER_BYTES_MAX_WITHOUT_PEER + STAMPS_BYTES;
        self.frame_bytes_max.saturating_sub(header + self.topic.seal_bytes_max())
    }

    /// The greatest payload of a message for some: a frame that names one receiver.
    pub(crate) fn directed_bytes_max(&self) -> usize {
        let header = FRAME_HEADER_BYTES + self.directed_header_bytes() + target_bytes::<P>();
        self.frame_bytes_max.saturating_sub(header)
    }

    pub(crate) fn may_broadcast(&self, now: Instant) -> Result<(), CommandError> {
        self.topic.may_publish(self.local, TALK, now).map_err(CommandError::NotAuthorized)?;
        if self.topic.can_sign() { Ok(()) } else { Err(CommandError::NoSigner) }
    }

    /// Whether one more message for some, of so many bytes, can wait.
    pub(crate) fn check_outbox(&self, more: usize) -> Result<(), CommandError> {
        let (waiting, bytes) = self.outbox.waiting();
        let max = self.config.messages_waiting_bytes_max;
        if waiting >= self.config.messages_waiting_max || bytes + more > max {
            return Err(CommandError::TooManyMessages { waiting, bytes });
        }
        Ok(())
    }

    pub(crate) fn broadcast(
        &mut self,
        payload: &Bytes,
        options: &GroupSendOptions,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) -> GroupMessageId {
        let stamp_us = self.clock.stamp(now);
        let mut body = BytesMut::with_capacity(STAMPS_BYTES + payload.len());
        body.put_u64_le(stamp_us);
        body.put_u64_le(self.broadcast_us);
        body.put_slice(payload);
        self.broadcast_us = stamp_us;
        self.broadcasts += 1;
        self.stats.broadcasts_sent += 1;
        let publish = PublishOptions { priority: options.priority, ..PublishOptions::default() };
        let (local, body) = (self.local, body.freeze());
        self.with_topic(now, actions, |topic, now, actions| {
            topic.publish(local, TALK, body, publish, now, actions);
        });
        GroupMessageId(self.broadcasts)
    }

    /// Sends to some, who were checked.
    pub(crate) fn send_to(
        &mut self,
        targets: &[P],
        many: bool,
        payload: Bytes,
        options: &GroupSendOptions,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) -> GroupMessageId {
        let targets = targets.iter().copied();
        let number = self.outbox.push(targets, many, options.priority, payload, now + options.deadline, now);
        self.settle(now, actions);
        GroupMessageId(number)
    }

    // --- to everybody ---------------------------------------------------------------------------------------------

    pub(super) fn on_broadcast(&mut self, update: Update<P>, actions: &mut SwarmActions<P>) {
        if update.payload.len() < STAMPS_BYTES || update.state != TALK || self.order.is_full() {
            self.stats.messages_refused += 1;
            return;
        }
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&update.payload[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let arrived = Arrived {
            stamp_us: number(0),
            previous_us: number(8),
            body: update.payload.slice(STAMPS_BYTES..),
        };
        let id = update.id;
        let given_up = self.order.insert(id.origin, id.epoch, id.sequence, arrived);
        if given_up > 0 {
            self.tell_lost(id.origin, given_up, LagReason::WindowFull, actions);
        }
        self.deliver_broadcasts(id.origin, actions);
    }

    pub(super) fn on_broadcasts_lost(
        &mut self,
        origin: P,
        epoch: Epoch,
        sequences: Range<u64>,
        reason: LagReason,
        actions: &mut SwarmActions<P>,
    ) {
        let count = self.order.lost(origin, epoch, sequences);
        if count > 0 && self.stage == Stage::In {
            self.tell_lost(origin, count, reason, actions);
        }
        self.deliver_broadcasts(origin, actions);
    }

    fn tell_lost(&mut self, from: P, count: u64, reason: LagReason, actions: &mut SwarmActions<P>) {
        self.stats.messages_lost += count;
        self.tell(GroupEvent::MessagesLost { from, count, reason }, actions);
    }

    /// Delivers what is in order, if its sender is, or was, a participant.
    pub(super) fn deliver_broadcasts(&mut self, origin: P, actions: &mut SwarmActions<P>) {
        let Some(record) = self.roster.record(origin).filter(|_| self.stage == Stage::In) else { return };
        if record.status > LEFT || self.roster.is_out(origin, record.incarnation) {
            return self.order.drop_waiting(origin);
        }
        let mut ready = Vec::new();
        self.order.ready(origin, &mut ready);
        for arrived in ready {
            self.deliver(origin, Audience::Everybody, arrived.body, actions);
        }
    }

    fn deliver(&mut self, from: P, audience: Audience, payload: Bytes, actions: &mut SwarmActions<P>) {
        self.stats.messages_delivered += 1;
        self.tell(GroupEvent::Message(GroupMail { from, audience, payload }), actions);
    }

    // --- to some --------------------------------------------------------------------------------------------------

    /// Sends the copies that are due.
    pub(super) fn send_due(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.outbox.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let (mut copies, mut fates) = (Vec::new(), Vec::new());
        let mut outbox = core::mem::replace(&mut self.outbox, super::Outbox::new());
        outbox.send_due(
            now,
            |target, many, tries| self.path(target, many, tries, now),
            &mut copies,
            &mut fates,
        );
        self.outbox = outbox;
        for fate in fates {
            self.tell_fate(fate, actions);
        }
        for copy in copies {
            self.send_copy(copy, actions);
        }
    }

    /// The way to a target, and another each time. A link that is there comes first. Else one is made for a message to one
    /// alone, unless that did not work lately; one for many rather shares links that are there.
    fn path(&self, target: P, many: bool, tries: u8, now: Instant) -> Path<P> {
        if !self.roster.is_in(target) {
            return Path::Absent;
        }
        let linked = self.spread.is_neighbor(target);
        let direct = linked || !many && !self.spread.is_unreachable(target, now);
        let mut ways = Vec::new();
        ways.extend(direct.then_some(target));
        ways.extend(self.spread.between(target).into_iter().take(WAYS_BETWEEN));
        ways.extend((!direct).then_some(target));
        let to = ways[usize::from(tries) % ways.len()];
        let rtt = self.spread.rtt(to) + if to == target { Duration::ZERO } else { self.spread.rtt(target) };
        Path::Link { to, rtt }
    }

    fn send_copy(&mut self, copy: Copy<P>, actions: &mut SwarmActions<P>) {
        let room = self.frame_bytes_max.saturating_sub(FRAME_HEADER_BYTES + self.directed_header_bytes());
        let per_frame = (room.saturating_sub(copy.body.len()) / target_bytes::<P>()).max(1);
        for targets in copy.targets.chunks(per_frame) {
            self.stats.copies_sent += 1;
            let targets = targets.iter().map(|&(peer, after)| DirectedTarget { peer, after });
            let directed = Directed {
                origin: self.local,
                incarnation: self.own.incarnation,
                number: copy.number,
                relayed: false,
                many: copy.many,
                targets: targets.collect(),
                body: copy.body.clone(),
            };
            self.send(copy.to, GroupMessage::Directed(directed), Class::from(copy.priority), actions);
        }
    }

    pub(super) fn on_directed(
        &mut self,
        from: P,
        directed: Directed<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        let origin = directed.origin;
        if origin == self.local || !directed.relayed && from != origin {
            return self.misbehaved(from, actions);
        }
        let knows = self.roster.record(origin).is_some_and(|record| record.status <= LEFT);
        if self.stage != Stage::In || !knows || self.roster.is_out(origin, directed.incarnation) {
            self.stats.messages_refused += 1;
            return;
        }
        for target in &directed.targets {
            if target.peer == self.local {
                self.take(from, &directed, target.after, actions);
            } else if !directed.relayed && self.spread.is_neighbor(target.peer) {
                self.stats.relayed += 1;
                let targets = alloc::vec![*target];
                let passed = Directed { relayed: true, targets, ..directed.clone() };
                self.send(target.peer, GroupMessage::Directed(passed), Class::High, actions);
            }
        }
        self.settle(now, actions);
    }

    /// A message for this node.
    fn take(&mut self, via: P, directed: &Directed<P>, after: u64, actions: &mut SwarmActions<P>) {
        let (origin, incarnation) = (directed.origin, directed.incarnation);
        let inbound = Inbound {
            number: directed.number,
            after,
            via,
            relayed: directed.relayed,
            many: directed.many,
            body: directed.body.clone(),
        };
        match self.inbox.insert(origin, incarnation, inbound) {
            Taken::Kept => {}
            Taken::Repeated => {
                self.stats.duplicates += 1;
                self.acknowledge(origin, incarnation, via, directed.number, directed.relayed, actions);
            }
            Taken::Dropped => self.stats.messages_refused += 1,
        }
        while let Some((incarnation, inbound)) = self.inbox.ready(origin) {
            self.acknowledge(origin, incarnation, inbound.via, inbound.number, inbound.relayed, actions);
            let audience = if inbound.many { Audience::Some } else { Audience::One };
            self.deliver(origin, audience, inbound.body, actions);
        }
    }

    fn acknowledge(
        &self,
        origin: P,
        incarnation: u32,
        via: P,
        number: u64,
        relayed: bool,
        actions: &mut SwarmActions<P>,
    ) {
        let ack = Ack { origin, incarnation, number, by: self.local, relayed };
        self.send(via, GroupMessage::Ack(ack), Class::Control, actions);
    }

    pub(super) fn on_ack(&mut self, from: P, ack: Ack<P>, now: Instant, actions: &mut SwarmActions<P>) {
        if ack.origin != self.local {
            // Back the way that the message came, one step.
            if ack.relayed && ack.by == from && self.roster.is_in(ack.origin) {
                self.send(ack.origin, GroupMessage::Ack(ack), Class::Control, actions);
            }
            return;
        }
        if ack.incarnation != self.own.incarnation || !ack.relayed && ack.by != from {
            return;
        }
        if let Some((fate, several)) = self.outbox.on_ack(ack.number, ack.by, ack.relayed) {
            if let Fate::Delivered { route, .. } = fate {
                self.spread.note_reached(ack.by, route, several, now);
            }
            self.tell_fate(fate, actions);
        }
    }

    fn tell_fate(&mut self, fate: Fate<P>, actions: &mut SwarmActions<P>) {
        let news = match fate {
            Fate::Stored { number, to } => GroupEvent::MessageStored { id: GroupMessageId(number), to },
            Fate::Delivered { number, to, route } => {
                match route {
                    DeliveryRoute::Direct => self.stats.delivered_direct += 1,
                    DeliveryRoute::Relayed => self.stats.delivered_relayed += 1,
                    DeliveryRoute::Stored => self.stats.delivered_stored += 1,
                }
                GroupEvent::MessageDelivered { id: GroupMessageId(number), to, route }
            }
            Fate::Failed { number, to } => {
                self.stats.failed += 1;
                GroupEvent::MessageFailed { id: GroupMessageId(number), to }
            }
        };
        self.tell(news, actions);
    }

    /// What a message for some takes beside its payload and its receivers, at most.
    fn directed_header_bytes(&self) -> usize {
        let empty = Directed {
            origin: self.local,
            incarnation: u32::MAX,
            number: u64::MAX,
            relayed: true,
            many: true,
            targets: Vec::new(),
            body: Bytes::new(),
        };
        // The lengths of two lists take a byte each when these are empty, and three at most.
        message_bytes_max(&Message::Group(GroupMessage::Directed(empty))) + 4
    }
}

/// Participants between that are tried, at most.
const WAYS_BETWEEN: usize = 3;

/// What a receiver takes in a frame, at most.
fn target_bytes<P: WirePeer>() -> usize {
    P::WIRE_BYTES + 10
}
