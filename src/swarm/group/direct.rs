//! Messages for some: sent until they are acknowledged, delivered once, in the order of their sender.
//!
//! A sender numbers its messages. Each copy says which earlier message its receiver must have had; that is the newest one
//! that still waits for the receiver's acknowledgement, so messages that were given up hold nothing up.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::id::{PeerId, Priority};
use crate::time::Instant;

/// How a message reached its receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DeliveryRoute {
    /// Over a link of its own.
    Direct,
    /// Through another participant, a neighbour of both.
    Relayed,
    /// After it had waited for the receiver to return.
    Stored,
}

/// How a target can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Path<P> {
    /// Over this link: the target's own, or that of a participant between.
    Link { to: P, rtt: Duration },
    /// Not now.
    Absent,
}

/// One copy of a message on one link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Copy<P> {
    pub(super) to: P,
    pub(super) number: u64,
    /// Receivers, each with the message that must come before.
    pub(super) targets: Vec<(P, u64)>,
    pub(super) many: bool,
    pub(super) priority: Priority,
    pub(super) body: Bytes,
}

/// What became of a message for one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate<P> {
    /// It waits for the receiver to return.
    Stored {
        number: u64,
        to: P,
    },
    Delivered {
        number: u64,
        to: P,
        route: DeliveryRoute,
    },
    Failed {
        number: u64,
        to: P,
    },
}

/// Messages that are not acknowledged yet.
#[derive(Debug)]
pub(super) struct Outbox<P> {
    sent: BTreeMap<u64, Sent<P>>,
    newest: u64,
    bytes: usize,
    at: Option<Instant>,
}

#[derive(Debug)]
struct Sent<P> {
    targets: Vec<Pending<P>>,
    many: bool,
    priority: Priority,
    body: Bytes,
    deadline: Instant,
}

#[derive(Debug)]
struct Pending<P> {
    peer: P,
    due: Instant,
    tries: u8,
    stored: bool,
}

/// The first copy is repeated after this much more than a round trip and a half.
const REPEAT_MARGIN: Duration = Duration::from_millis(40);

/// The longest pause between two copies to somebody who is in.
const REPEAT_MAX: Duration = Duration::from_secs(1);

/// How often a target that is not in is looked for, should the news of its return be slow.
const ABSENT_RETRY: Duration = Duration::from_millis(500);

impl<P: PeerId> Outbox<P> {
    pub(super) fn new() -> Self {
        Self { sent: BTreeMap::new(), newest: 0, bytes: 0, at: None }
    }

    /// Takes a message in; it leaves with the next [`Self::send_due`].
    pub(super) fn push(
        &mut self,
        targets: impl IntoIterator<Item = P>,
        many: bool,
        priority: Priority,
        body: Bytes,
        deadline: Instant,
        now: Instant,
    ) -> u64 {
        self.newest += 1;
        self.bytes += body.len();
        let pending = |peer| Pending { peer, due: now, tries: 0, stored: false };
        let targets = targets.into_iter().map(pending).collect();
        self.sent.insert(self.newest, Sent { targets, many, priority, body, deadline });
        self.wake(now);
        self.newest
    }

    /// Sends what is due, and gives up what is too late.
    pub(super) fn send_due(
        &mut self,
        now: Instant,
        path: impl Fn(P, bool, u8) -> Path<P>,
        copies: &mut Vec<Copy<P>>,
        fates: &mut Vec<Fate<P>>,
    ) {
        if self.at.is_none_or(|at| at > now) {
            return;
        }
        self.give_up(now, fates);
        // What must come before, receiver by receiver.
        let mut before: BTreeMap<P, u64> = BTreeMap::new();
        let mut next: Option<Instant> = None;
        for (&number, sent) in &mut self.sent {
            let first = copies.len();
            for pending in &mut sent.targets {
                let after = before.insert(pending.peer, number).unwrap_or(0);
                if pending.due <= now {
                    match path(pending.peer, sent.many, pending.tries) {
                        Path::Link { to, rtt } => {
                            let copy = copies[first..].iter_mut().find(|copy| copy.to == to);
                            match copy {
                                Some(copy) => copy.targets.push((pending.peer, after)),
                                None => copies.push(Copy {
                                    to,
                                    number,
                                    targets: alloc::vec![(pending.peer, after)],
                                    many: sent.many,
                                    priority: sent.priority,
                                    body: sent.body.clone(),
                                }),
                            }
                            let pause = rtt * 3 / 2 + REPEAT_MARGIN;
                            let pause = pause * (1 << pending.tries.min(4));
                            pending.tries = pending.tries.saturating_add(1);
                            pending.due = now + pause.min(REPEAT_MAX);
                        }
                        Path::Absent => {
                            if !pending.stored {
                                fates.push(Fate::Stored { number, to: pending.peer });
                            }
                            pending.stored = true;
                            pending.tries = 0;
                            pending.due = now + ABSENT_RETRY;
                        }
                    }
                }
                let due = pending.due.min(sent.deadline);
                next = Some(next.map_or(due, |at| at.min(due)));
            }
        }
        self.at = next;
    }

    /// A receiver has a message. What became of it, if that is news, and whether it was sent on several ways.
    pub(super) fn on_ack(&mut self, number: u64, by: P, relayed: bool) -> Option<(Fate<P>, bool)> {
        let sent = self.sent.get_mut(&number)?;
        let place = sent.targets.iter().position(|pending| pending.peer == by)?;
        let pending = sent.targets.remove(place);
        let several = !sent.many && pending.tries > 1;
        if sent.targets.is_empty() {
            self.bytes -= sent.body.len();
            self.sent.remove(&number);
        }
        let route = match (pending.stored, relayed) {
            (true, _) => DeliveryRoute::Stored,
            (false, true) => DeliveryRoute::Relayed,
            (false, false) => DeliveryRoute::Direct,
        };
        Some((Fate::Delivered { number, to: by, route }, several))
    }

    /// Somebody is in, again or for the first time: what waits for it goes out at once.
    pub(super) fn returned(&mut self, peer: P, now: Instant) {
        let mut waits = false;
        for pending in self.sent.values_mut().flat_map(|sent| &mut sent.targets) {
            if pending.peer == peer && (pending.stored || pending.tries > 1) {
                pending.due = pending.due.min(now);
                pending.tries = 0;
                waits = true;
            }
        }
        if waits {
            self.wake(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    /// Messages that wait for an acknowledgement, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.sent.len(), self.bytes)
    }

    fn give_up(&mut self, now: Instant, fates: &mut Vec<Fate<P>>) {
        let bytes = &mut self.bytes;
        self.sent.retain(|&number, sent| {
            if sent.deadline > now {
                return true;
            }
            fates.extend(sent.targets.iter().map(|pending| Fate::Failed { number, to: pending.peer }));
            *bytes -= sent.body.len();
            false
        });
    }

    fn wake(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }
}

/// A message from somebody else, as one receiver gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Inbound<P> {
    pub(super) number: u64,
    /// The message that must come before it.
    pub(super) after: u64,
    /// Who brought it, and is told of its receipt.
    pub(super) via: P,
    pub(super) relayed: bool,
    pub(super) many: bool,
    pub(super) body: Bytes,
}

/// What became of an incoming message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// It waits, or can be delivered: ask [`Inbox::ready`].
    Kept,
    /// It was here; it is to be acknowledged again.
    Repeated,
    /// Of an earlier life of its sender, or there is no room: it is as if it had never come.
    Dropped,
}

/// What has come from each participant.
#[derive(Debug)]
pub(super) struct Inbox<P> {
    senders: BTreeMap<P, From<P>>,
    /// Messages that wait, of all senders.
    waiting: usize,
}

#[derive(Debug)]
struct From<P> {
    incarnation: u32,
    newest: u64,
    waiting: BTreeMap<u64, Inbound<P>>,
}

/// Messages of one sender that wait for others; it sends again what found no room.
const WAITING_MAX: usize = 64;

/// Such messages of all senders.
const WAITING_IN_ALL_MAX: usize = 4_096;

impl<P: PeerId> Inbox<P> {
    pub(super) fn new() -> Self {
        Self { senders: BTreeMap::new(), waiting: 0 }
    }

    pub(super) fn insert(&mut self, origin: P, incarnation: u32, inbound: Inbound<P>) -> Taken {
        let new = From { incarnation, newest: 0, waiting: BTreeMap::new() };
        let from = self.senders.entry(origin).or_insert(new);
        if incarnation > from.incarnation {
            self.waiting -= from.waiting.len();
            *from = From { incarnation, newest: 0, waiting: BTreeMap::new() };
        } else if incarnation < from.incarnation {
            return Taken::Dropped;
        }
        if inbound.number <= from.newest {
            return Taken::Repeated;
        }
        let full = from.waiting.len() >= WAITING_MAX || self.waiting >= WAITING_IN_ALL_MAX;
        // What can be delivered takes no room, and others wait for it.
        if full && inbound.after > from.newest && !from.waiting.contains_key(&inbound.number) {
            return Taken::Dropped;
        }
        if from.waiting.insert(inbound.number, inbound).is_none() {
            self.waiting += 1;
        }
        Taken::Kept
    }

    /// The next message of a sender that nothing has to come before.
    pub(super) fn ready(&mut self, origin: P) -> Option<(u32, Inbound<P>)> {
        let from = self.senders.get_mut(&origin)?;
        let (&number, first) = from.waiting.first_key_value()?;
        if first.after > from.newest {
            return None;
        }
        from.newest = number;
        self.waiting -= 1;
        from.waiting.remove(&number).map(|inbound| (from.incarnation, inbound))
    }

    /// Forgets everybody whom `keep` does not want.
    pub(super) fn retain(&mut self, keep: impl Fn(P) -> bool) {
        self.senders.retain(|&origin, _| keep(origin));
        self.waiting = self.senders.values().map(|from| from.waiting.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const RTT: Duration = Duration::from_millis(40);

    fn send(
        outbox: &mut Outbox<u64>,
        now: Instant,
        path: impl Fn(u64, bool, u8) -> Path<u64>,
    ) -> Vec<Copy<u64>> {
        let (mut copies, mut fates) = (Vec::new(), Vec::new());
        outbox.send_due(now, path, &mut copies, &mut fates);
        copies
    }

    fn push(outbox: &mut Outbox<u64>, targets: &[u64], now: Instant) -> u64 {
        let deadline = now + Duration::from_secs(10);
        let body = Bytes::from_static(b"x");
        outbox.push(targets.iter().copied(), targets.len() > 1, Priority::Normal, body, deadline, now)
    }

    fn inbound(number: u64, after: u64) -> Inbound<u64> {
        Inbound { number, after, via: 1, relayed: false, many: false, body: Bytes::new() }
    }

    #[test]
    fn a_message_for_some_takes_each_link_once() {
        let mut outbox = Outbox::new();
        let now = Instant::ZERO;
        push(&mut outbox, &[1, 2, 3, 4], now);
        let over_one = |target: u64, _, _| Path::Link { to: if target == 3 { 3 } else { 1 }, rtt: RTT };
        let copies = send(&mut outbox, now, over_one);
        let links: Vec<_> = copies.iter().map(|copy| (copy.to, copy.targets.len())).collect();
        assert_eq!(links, [(1, 3), (3, 1)]);
    }

    #[test]
    fn what_was_given_up_holds_nothing_up() {
        let mut outbox = Outbox::new();
        let start = Instant::ZERO;
        push(&mut outbox, &[1], start);
        let later = start + Duration::from_secs(5);
        push(&mut outbox, &[1], later);
        let direct = |to: u64, _, _| Path::Link { to, rtt: RTT };
        let copies = send(&mut outbox, later, direct);
        assert_eq!(copies[1].targets, [(1, 1)], "the second waits for the first");
        let (mut copies, mut fates) = (Vec::new(), Vec::new());
        outbox.send_due(start + Duration::from_secs(10), direct, &mut copies, &mut fates);
        assert_eq!(fates, [Fate::Failed { number: 1, to: 1 }]);
        assert_eq!(copies[0].targets, [(1, 0)]);
    }

    #[test]
    fn who_is_away_gets_it_on_return() {
        let mut outbox = Outbox::new();
        let number = push(&mut outbox, &[1], Instant::ZERO);
        let (mut copies, mut fates) = (Vec::new(), Vec::new());
        outbox.send_due(Instant::ZERO, |_, _, _| Path::Absent, &mut copies, &mut fates);
        assert!(copies.is_empty());
        assert_eq!(fates, [Fate::Stored { number, to: 1 }]);
        let back = Instant::from_millis(100);
        outbox.returned(1, back);
        assert_eq!(outbox.poll_timeout(), Some(back));
        assert_eq!(send(&mut outbox, back, |to, _, _| Path::Link { to, rtt: RTT }).len(), 1);
        let route = DeliveryRoute::Stored;
        assert_eq!(outbox.on_ack(number, 1, false), Some((Fate::Delivered { number, to: 1, route }, false)));
        assert_eq!((outbox.on_ack(number, 1, false), outbox.waiting()), (None, (0, 0)));
    }

    #[test]
    fn each_message_is_delivered_once_and_in_order() {
        let mut inbox = Inbox::new();
        assert_eq!(inbox.insert(1, 1, inbound(2, 1)), Taken::Kept);
        assert_eq!(inbox.ready(1), None);
        inbox.insert(1, 1, inbound(1, 0));
        let numbers: Vec<_> =
            core::iter::from_fn(|| inbox.ready(1)).map(|(_, inbound)| inbound.number).collect();
        assert_eq!(numbers, vec![1, 2]);
        assert_eq!(inbox.insert(1, 1, inbound(2, 1)), Taken::Repeated);
        assert_eq!(inbox.insert(1, 2, inbound(1, 0)), Taken::Kept, "another life begins anew");
        assert_eq!(inbox.insert(1, 1, inbound(3, 2)), Taken::Dropped, "of the old life");
    }

    #[test]
    fn a_message_whose_predecessor_was_given_up_goes_on() {
        let mut inbox = Inbox::new();
        inbox.insert(1u64, 1, inbound(5, 4));
        assert_eq!(inbox.ready(1), None);
        inbox.insert(1, 1, inbound(5, 0));
        assert_eq!(inbox.ready(1).map(|(_, inbound)| inbound.number), Some(5));
    }
}
