//! Whose turn it is, and what goes into a frame.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Egress, Hold, Transmit};
use crate::id::PeerId;
use crate::io::Class;
use crate::propagation::queue::NIL;
use crate::time::Instant;

/// How long a Background queue stands still before it is raised a class.
const AGING_STEP: Duration = Duration::from_millis(500);

/// The classes that share by weight.
const SHARED: [Class; 3] = [Class::High, Class::Normal, Class::Background];

impl<P: PeerId, M> Egress<P, M> {
    #[inline]
    pub(super) fn run_timers(&mut self) {
        let first = [self.refills.first(), self.aging.first()].into_iter().flatten().min();
        if first.is_some_and(|at| at <= self.now) {
            self.run_due_timers();
        }
    }

    fn run_due_timers(&mut self) {
        while let Some(slot) = self.refills.pop_due(self.now) {
            self.release(slot);
        }
        while let Some(slot) = self.aging.pop_due(self.now) {
            let peer = &mut self.peers[slot];
            let Some(waiting) = peer.waiting.as_ref() else { continue };
            if waiting.lanes[Class::Background as usize].is_empty() {
                continue;
            }
            if self.now >= waiting.background_since + AGING_STEP * (u32::from(peer.raised) + 1) {
                peer.raised += 1;
            }
            if peer.raised < 2 {
                let next = waiting.background_since + AGING_STEP * (u32::from(peer.raised) + 1);
                self.aging.set(slot, next);
            }
            self.enter_rings(slot);
        }
    }

    pub(super) fn background_moved(&mut self, slot: u32) {
        let peer = &mut self.peers[slot];
        if let Some(waiting) = &mut peer.waiting {
            waiting.background_since = self.now;
        }
        peer.raised = 0;
        if !self.aging.contains(slot) {
            self.aging.set(slot, self.now + AGING_STEP);
        }
    }

    /// Whose turn it is. Asking twice without sending gives the same answer.
    pub(super) fn choose(&mut self) -> Option<(Class, u32)> {
        for class in [Class::Control, Class::Urgent] {
            if let Some(slot) = self.front(class) {
                return Some((class, slot));
            }
        }
        let fronts = SHARED.map(|class| self.front(class));
        for (share, front) in self.shares.iter_mut().zip(&fronts) {
            if front.is_none() {
                share.deficit = share.deficit.min(0);
            }
        }
        if fronts == [None; 3] {
            return None;
        }
        let alone = fronts.iter().flatten().count() < 2;
        loop {
            let share = &mut self.shares[self.turn];
            if let Some(slot) = fronts[self.turn] {
                if alone {
                    share.deficit = share.deficit.max(1);
                } else if !share.granted {
                    share.granted = true;
                    share.deficit += share.quantum;
                }
                if share.deficit > 0 {
                    return Some((SHARED[self.turn], slot));
                }
            }
            share.granted = false;
            self.turn = (self.turn + 1) % SHARED.len();
        }
    }

    /// The peer whose turn it is in `class`.
    #[inline]
    fn front(&mut self, class: Class) -> Option<u32> {
        if self.rings[class as usize].is_empty() {
            return None;
        }
        self.front_of_ring(class)
    }

    fn front_of_ring(&mut self, class: Class) -> Option<u32> {
        let quantum = self.quantum();
        loop {
            let &slot = self.rings[class as usize].front()?;
            if self.peers[slot].may_send() {
                self.drop_late(slot, class);
                if self.peers[slot].raised_to(class) {
                    self.drop_late(slot, Class::Background);
                }
            }
            let peer = &mut self.peers[slot];
            if !peer.may_send() || !peer.waits_in(class) {
                self.leave_ring(slot, class);
                continue;
            }
            let deficit = &mut peer.deficits[class as usize];
            if *deficit <= 0 {
                *deficit += quantum;
            }
            if *deficit > 0 {
                return Some(slot);
            }
            self.rings[class as usize].rotate_left(1);
        }
    }

    fn leave_ring(&mut self, slot: u32, class: Class) {
        let left = self.rings[class as usize].pop_front();
        debug_assert_eq!(left, Some(slot), "only the front leaves");
        let peer = &mut self.peers[slot];
        peer.rings &= !(1 << class as u8);
        let deficit = &mut peer.deficits[class as usize];
        *deficit = (*deficit).min(0);
    }

    fn drop_late(&mut self, slot: u32, class: Class) {
        loop {
            let head = self.peers[slot].lane(class).head;
            if head == NIL || self.items.node(head).deadline >= self.now {
                return;
            }
            drop(self.take(slot, head));
            self.stats.dropped_late += 1;
            self.note_if_flushed(slot);
        }
    }

    /// The size of the frame for which tokens and credit must suffice.
    pub(super) fn wanted(&self, slot: u32, class: Class) -> usize {
        let peer = &self.peers[slot];
        let waiting = if class <= Class::Urgent {
            peer.lane(Class::Control).bytes + peer.lane(Class::Urgent).bytes
        } else {
            peer.queued_bytes()
        };
        self.frame_bytes_max.min(self.frame_header_bytes + waiting)
    }

    /// How large a frame the peer can take, or `None` if it can't take the wanted one: then it is out of the rings until
    /// it can.
    pub(super) fn room_at_peer(&mut self, slot: u32, wanted: usize) -> Option<usize> {
        let overhead = self.config.frame_overhead_bytes as u64;
        let peer = &mut self.peers[slot];
        if peer.credit < wanted as u64 {
            peer.hold = Hold::Credit;
            return None;
        }
        let mut room = peer.credit;
        if let Some(bucket) = &mut peer.bucket {
            let tokens = bucket.bytes(self.now);
            if tokens < wanted as u64 + overhead {
                peer.hold = Hold::Tokens;
                self.refills.set(slot, bucket.when(wanted as u64 + overhead));
                return None;
            }
            room = room.min(tokens - overhead);
        }
        Some(self.frame_bytes_max.min(usize::try_from(room).unwrap_or(usize::MAX)))
    }

    /// How large a frame the upload budget allows, or when it allows the wanted one.
    pub(super) fn room_in_upload(&mut self, wanted: usize) -> Result<usize, Instant> {
        let overhead = self.config.frame_overhead_bytes as u64;
        let Some(bucket) = &mut self.upload else {
            return Ok(usize::MAX);
        };
        let tokens = bucket.bytes(self.now);
        if tokens < wanted as u64 + overhead {
            return Err(bucket.when(wanted as u64 + overhead));
        }
        Ok(usize::try_from(tokens - overhead).unwrap_or(usize::MAX))
    }

    pub(super) fn send(&mut self, slot: u32, class: Class, room: usize, frame: &mut Vec<M>) -> Transmit<P> {
        let mut left = room - self.frame_header_bytes;
        let mut most_urgent = class;
        let mut lead = self.frame_header_bytes + self.config.frame_overhead_bytes;
        if self.peers[slot].raised_to(class) {
            lead += self.send_head(slot, Class::Background, &mut left, frame).unwrap_or(0);
        }
        for next in [class].into_iter().chain(Class::ALL.into_iter().filter(|&next| next != class)) {
            if next != class && self.peers[slot].queued_bytes() == 0 {
                // Mostly there is one item.
                break;
            }
            let mut cost = if next == class { lead } else { 0 };
            while let Some(bytes) = self.send_head(slot, next, &mut left, frame) {
                cost += bytes;
                most_urgent = most_urgent.min(next);
            }
            self.charge(slot, next, cost);
        }
        debug_assert!(!frame.is_empty(), "a frame without messages");
        self.finish_turn(slot, class);

        let bytes = room - left;
        let charged = (bytes + self.config.frame_overhead_bytes) as u64;
        self.stats.classes[most_urgent as usize].frames += 1;
        self.stats.charged_bytes += charged;
        if let Some(upload) = &mut self.upload {
            upload.spend(charged);
        }
        let peer = &mut self.peers[slot];
        if let Some(bucket) = &mut peer.bucket {
            bucket.spend(charged);
        }
        if self.config.credit_bytes.is_some() {
            peer.credit -= bytes as u64;
        }
        let to = self.peers.name(slot).expect("the place is taken");
        self.note_if_flushed(slot);
        Transmit::Frame { to, class: most_urgent, bytes }
    }

    /// Moves the head of a lane into `frame` if it fits what is `left`.
    fn send_head(&mut self, slot: u32, class: Class, left: &mut usize, frame: &mut Vec<M>) -> Option<usize> {
        self.drop_late(slot, class);
        let head = self.peers[slot].lane(class).head;
        if head == NIL || self.items.node(head).bytes as usize > *left {
            return None;
        }
        let (bytes, message) = self.take(slot, head)?;
        frame.push(message);
        *left -= bytes;
        let stats = &mut self.stats.classes[class as usize];
        stats.items += 1;
        stats.bytes += bytes as u64;
        if class == Class::Background {
            self.background_moved(slot);
        }
        Some(bytes)
    }

    /// Debts are limited, so that what rode along in others' frames delays nobody for long.
    fn charge(&mut self, slot: u32, class: Class, cost: usize) {
        let quantum = self.quantum();
        let deficit = &mut self.peers[slot].deficits[class as usize];
        *deficit = (*deficit - cost as i32).max(-quantum);
        if let Some(shared) = SHARED.iter().position(|&shared| shared == class) {
            let deficit = &mut self.shares[shared].deficit;
            *deficit = (*deficit - cost as i64).max(-4 * i64::from(quantum));
        }
    }

    fn finish_turn(&mut self, slot: u32, class: Class) {
        let peer = &self.peers[slot];
        if !peer.waits_in(class) {
            self.leave_ring(slot, class);
        } else if peer.deficits[class as usize] <= 0 {
            self.rings[class as usize].rotate_left(1);
        }
    }
}
