//! Messages to everybody, in the order in which each participant sent them.
//!
//! Gossip brings each message once, in any order. A message waits here until those before it have come, or are known to be
//! lost. What was sent before this participant was admitted is not for it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;

use crate::id::{Epoch, PeerId};

/// A message that has come.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    /// When it was sent, in the group's time.
    pub(super) stamp_us: u64,
    /// When the one before it was; 0 if there is none.
    pub(super) previous_us: u64,
    pub(super) body: Bytes,
}

#[derive(Debug)]
pub(super) struct Order<P> {
    senders: BTreeMap<(P, Epoch), Sender>,
    waiting_max: usize,
    /// Messages that wait, of all senders.
    waiting: usize,
    /// What was sent until then is not for this participant.
    since_us: u64,
}

/// Lives of senders that are told apart, at most.
const SENDERS_MAX: usize = 16_384;

/// As many senders may fill their waiting rooms at once.
const SENDERS_WAITING: usize = 16;

#[derive(Debug, Default)]
struct Sender {
    /// The sequence of the next message to deliver, once it is known.
    next: Option<u64>,
    waiting: BTreeMap<u64, Arrived>,
}

impl<P: PeerId> Order<P> {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self { senders: BTreeMap::new(), waiting_max, waiting: 0, since_us: 0 }
    }

    /// This participant was admitted at that time.
    pub(super) fn begin(&mut self, since_us: u64) {
        self.since_us = since_us;
    }

    /// A message has come. Returns how many before it were given up to make room.
    pub(super) fn insert(&mut self, origin: P, epoch: Epoch, sequence: u64, arrived: Arrived) -> u64 {
        let sender = self.senders.entry((origin, epoch)).or_default();
        if sender.next.is_some_and(|next| sequence < next) {
            return 0;
        }
        if sender.waiting.insert(sequence, arrived).is_none() {
            self.waiting += 1;
        }
        if sender.waiting.len() <= self.waiting_max {
            return 0;
        }
        let first = sender.waiting.keys().next().copied().unwrap_or(sequence);
        let next = sender.next.replace(first).unwrap_or(first);
        first - next
    }

    /// Some will never come. Returns how many of them were for this participant, as far as it can tell.
    pub(super) fn lost(&mut self, origin: P, epoch: Epoch, sequences: Range<u64>) -> u64 {
        let sender = self.senders.entry((origin, epoch)).or_default();
        let known = sender.next.unwrap_or(sequences.start);
        if !sequences.contains(&known) {
            return 0;
        }
        let count = if sender.next.is_some() { sequences.end - known } else { 0 };
        sender.next = Some(sequences.end);
        count
    }

    /// What can be delivered of one participant now.
    pub(super) fn ready(&mut self, origin: P, ready: &mut Vec<Arrived>) {
        let since_us = self.since_us;
        for (_, sender) in self.senders.range_mut((origin, Epoch(0))..=(origin, Epoch(u32::MAX))) {
            let before = sender.waiting.len();
            sender.waiting.retain(|_, arrived| arrived.stamp_us > since_us);
            self.waiting -= before - sender.waiting.len();
            if sender.next.is_none() {
                let first = sender.waiting.iter().find(|(_, arrived)| arrived.previous_us <= since_us);
                sender.next = first.map(|(&sequence, _)| sequence);
            }
            while let Some(next) = sender.next {
                let Some(arrived) = sender.waiting.remove(&next) else { break };
                sender.next = Some(next + 1);
                self.waiting -= 1;
                ready.push(arrived);
            }
        }
    }

    /// Forgets what waits of a participant that is out.
    pub(super) fn drop_waiting(&mut self, origin: P) {
        for (_, sender) in self.senders.range_mut((origin, Epoch(0))..=(origin, Epoch(u32::MAX))) {
            self.waiting -= sender.waiting.len();
            sender.waiting.clear();
        }
    }

    /// Forgets everybody whom `keep` does not want.
    pub(super) fn retain(&mut self, keep: impl Fn(P) -> bool) {
        self.senders.retain(|&(origin, _), _| keep(origin));
        self.waiting = self.senders.values().map(|sender| sender.waiting.len()).sum();
    }

    /// Messages that wait for others.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether no message of another sender can wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= self.waiting_max * SENDERS_WAITING || self.senders.len() >= SENDERS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(stamp_us: u64, previous_us: u64) -> Arrived {
        Arrived { stamp_us, previous_us, body: Bytes::new() }
    }

    fn ready(order: &mut Order<u64>) -> Vec<u64> {
        let mut ready = Vec::new();
        order.ready(1, &mut ready);
        ready.iter().map(|arrived| arrived.stamp_us).collect()
    }

    #[test]
    fn messages_wait_for_those_before_them() {
        let mut order = Order::new(8);
        order.insert(1u64, Epoch(0), 1, arrived(20, 10));
        assert!(ready(&mut order).is_empty());
        order.insert(1, Epoch(0), 0, arrived(10, 0));
        assert_eq!(ready(&mut order), [10, 20]);
        order.insert(1, Epoch(0), 1, arrived(20, 10));
        assert!(ready(&mut order).is_empty(), "a repetition");
    }

    #[test]
    fn a_late_comer_begins_with_the_first_message_after_its_admission() {
        let mut order = Order::new(8);
        order.begin(25);
        order.insert(1u64, Epoch(0), 4, arrived(50, 30));
        order.insert(1, Epoch(0), 2, arrived(25, 20));
        assert!(ready(&mut order).is_empty());
        order.insert(1, Epoch(0), 3, arrived(30, 25));
        assert_eq!(ready(&mut order), [30, 50]);
    }

    #[test]
    fn what_is_lost_holds_nothing_up() {
        let mut order = Order::new(8);
        order.insert(1u64, Epoch(0), 0, arrived(10, 0));
        order.insert(1, Epoch(0), 3, arrived(40, 30));
        assert_eq!(ready(&mut order), [10]);
        order.lost(1, Epoch(0), 1..3);
        assert_eq!(ready(&mut order), [40]);
    }

    #[test]
    fn a_full_room_gives_up_the_oldest_gap() {
        let mut order = Order::new(2);
        order.insert(1u64, Epoch(0), 0, arrived(1, 0));
        assert_eq!(ready(&mut order), [1]);
        let given_up: u64 =
            [3, 4, 5].iter().map(|&sequence| order.insert(1, Epoch(0), sequence, arrived(sequence, 2))).sum();
        assert_eq!((given_up, ready(&mut order)), (2, alloc::vec![3, 4, 5]));
    }
}
