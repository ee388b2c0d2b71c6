//! The one scheduler through which everything leaves a node.

mod admission;
mod schedule;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::bucket::Bucket;
use super::queue::{Items, Lane};
use super::stats::EgressStats;
use super::timers::Timers;
use crate::config::EgressConfig;
use crate::id::PeerId;
use crate::io::Class;
use crate::table::Table;
use crate::time::Instant;

/// A message that is to leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item<M> {
    /// What to send. The egress never looks inside.
    pub message: M,
    /// Its encoded size, or an upper bound of it. Zero counts as one.
    pub bytes: u32,
    /// In which order it leaves.
    pub class: Class,
    /// The last instant at which it may leave; afterwards it is dropped. `None`: any time will do.
    pub deadline: Option<Instant>,
    /// What it is a version of: a newer item with the same key replaces one that waits for the same peer. Hosts hash
    /// whatever names the thing. `None`: it replaces nothing and nothing replaces it.
    pub key: Option<u64>,
}

/// What became of an item at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the item may have been dropped; `let _ =` says that this does not matter"]
pub enum Enqueued {
    /// It waits.
    Queued,
    /// It waits in the place of an older item of the same key, which is gone.
    Superseded,
    /// It was dropped and counted. Nothing else was changed.
    Dropped(DropReason),
}

/// Why an item was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue of the peer, or all queues together, are full of items that are no less urgent.
    Full,
    /// Its deadline has passed.
    Late,
    /// It fits no frame.
    Oversize,
    /// The peer is closing.
    Closing,
    /// The peer is not open.
    Unknown,
}

/// What the host of an [`Egress`] must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transmit<P> {
    /// Send the messages as one frame.
    Frame {
        /// To whom.
        to: P,
        /// The most urgent class inside.
        class: Class,
        /// The size of the frame: its header and the sizes of its items. Never more than a frame may have.
        bytes: usize,
    },
    /// Nothing waits any more for a peer that was closed, and the egress has forgotten it.
    Closed {
        /// Who.
        peer: P,
    },
}

/// Decides what leaves next, to whom, and when: priorities, fairness, budgets, deadlines, packing.
///
/// A sans-IO machine: it is told the time and asked for frames. Everything that a node sends goes through one of it,
/// so that all traffic shares one budget.
///
/// # Order
///
/// - [`Class::Control`] leaves first, then [`Class::Urgent`]. No frame without them leaves while one of theirs could, so
///   they can starve the others: keep them small.
/// - [`Class::High`], [`Class::Normal`] and [`Class::Background`] share what is left by deficit round robin: Background
///   gets [`EgressConfig::background_percent`], High three quarters of the rest, Normal one quarter. What a class does
///   not use, the others get.
/// - When the Background queue of a peer has not moved for 500 ms, its head counts as Normal until it leaves, and
///   after another 500 ms as High. It is the *queue* that ages, not each item: a long backlog would otherwise turn into
///   High traffic as a whole, and High would mean nothing under load.
/// - Peers share a class by deficit round robin, one frame a turn. A peer that cannot take a frame (not ready, no credit,
///   no tokens) leaves the round and costs the others nothing.
/// - Items of one class to one peer leave in the order in which they came.
/// - A frame begins with the items of the class whose turn it is; the room that remains takes the other items that wait
///   for this peer, in the order of their classes. What rides along is charged to its own class.
///
/// # Budgets
///
/// All bytes count: items, frame headers, overhead. In any stretch of time T the egress hands out at most `rate * T` plus
/// the burst, in all and for each peer; the burst is what [`EgressConfig::burst`] saves up, or one frame if that is more.
/// When tokens or credit are short, a High, Normal or Background frame waits until it can be as full as the queue makes it,
/// since small frames waste what is scarce; Control and Urgent wait only for their own bytes.
///
/// # Limits
///
/// [`EgressConfig::peer_queue_bytes_max`] and [`EgressConfig::queue_bytes_max`] (each at least one frame) bound what
/// waits. When an item does not fit, items of lower classes of the same peer make room for it, the lowest class first,
/// the oldest first; if that is not enough, the item itself is dropped. So that others' backlogs silence nobody, the
/// limit for all peers does not apply to a peer for which no more than one frame waits: in all, `queue_bytes_max` and
/// one frame per peer can wait, and a Control item always gets in unless its peer has a frame of Control waiting.
///
/// Bytes are those of the items; the memory of one waiting item is the size of `M` and about 40 bytes, of an idle peer
/// about 100, of one for which something waits 120 more.
///
/// # Example
///
/// ```
/// use suffuse::{Class, Egress, EgressConfig, Enqueued, Instant, Item, Transmit};
///
/// let mut config = EgressConfig::default();
/// config.upload_bytes_per_s = Some(100_000);
/// let mut now = Instant::ZERO;
/// let mut egress = Egress::new(config, 1_200, 4, now);
/// egress.open("ann", true, now);
///
/// let item = |message, class| Item { message, bytes: 1_000, class, deadline: None, key: None };
/// assert_eq!(egress.enqueue("ann", item("history", Class::Background), now), Enqueued::Queued);
/// assert_eq!(egress.enqueue("ann", item("alarm", Class::Urgent), now), Enqueued::Queued);
///
/// let mut frame = Vec::new();
/// let sent = egress.poll(now, &mut frame);
/// assert_eq!(sent, Some(Transmit::Frame { to: "ann", class: Class::Urgent, bytes: 1_004 }));
/// assert_eq!(frame, ["alarm"]);
///
/// // The budget is spent; the egress says when to come back.
/// assert_eq!(egress.poll(now, &mut frame), None);
/// now = egress.poll_timeout().unwrap();
/// assert!(egress.poll(now, &mut frame).is_some());
/// assert_eq!(frame, ["history"]);
/// assert_eq!(egress.poll(now, &mut frame), None);
/// assert_eq!(egress.poll_timeout(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Egress<P, M> {
    config: EgressConfig,
    frame_bytes_max: usize,
    frame_header_bytes: usize,
    now: Instant,
    wake: Option<Instant>,
    peers: Table<P, Peer>,
    items: Items<M>,
    /// Peers that wait for nothing any more leave what they need for it to the next.
    #[expect(clippy::vec_box, reason = "they go from here to the peers as they are")]
    spare: Vec<Box<Waiting>>,
    queued_bytes: usize,
    /// Nothing waits, and all has been put in order since: mostly so when asked.
    is_idle: bool,
    upload: Option<Bucket>,
    /// Per class, the peers that have something to send. Entries are removed when they come to the front, so one may
    /// be out of date; `Peer::rings` says who is in.
    rings: [VecDeque<u32>; 5],
    shares: [Share; 3],
    turn: usize,
    /// Peers that wait for tokens of their own.
    refills: Timers,
    /// When to look whether a Background queue has moved.
    aging: Timers,
    /// Closing peers for which nothing waits any more.
    flushed: VecDeque<u32>,
    stats: EgressStats,
}

impl<P: PeerId, M> Egress<P, M> {
    /// An egress without peers. `frame_bytes_max` is the greatest frame that the transport carries (at most 2^24, more
    /// counts as that), of which `frame_header_bytes` are taken by what the host puts before the messages.
    pub fn new(
        config: EgressConfig,
        frame_bytes_max: usize,
        frame_header_bytes: usize,
        now: Instant,
    ) -> Self {
        let frame_bytes_max = frame_bytes_max.min(FRAME_BYTES_LIMIT);
        let frame_header_bytes = frame_header_bytes.min(frame_bytes_max);
        let background = i64::from(config.background_percent.min(100));
        let quantum = (frame_bytes_max + config.frame_overhead_bytes.min(FRAME_BYTES_LIMIT)) as i64;
        let share = |weight: i64| Share { quantum: quantum * weight / 100, deficit: 0, granted: false };
        let rest = 100 - background;
        let mut egress = Self {
            config,
            frame_bytes_max,
            frame_header_bytes,
            now,
            wake: None,
            peers: Table::new(),
            items: Items::new(),
            spare: Vec::new(),
            queued_bytes: 0,
            is_idle: false,
            upload: None,
            rings: [const { VecDeque::new() }; 5],
            // A round hands out four frames in all.
            shares: [share(3 * rest), share(rest), share(4 * background)],
            turn: 0,
            refills: Timers::default(),
            aging: Timers::default(),
            flushed: VecDeque::new(),
            stats: EgressStats::default(),
        };
        egress.config.frame_overhead_bytes = egress.config.frame_overhead_bytes.min(FRAME_BYTES_LIMIT);
        egress.config.peer_queue_bytes_max = egress.config.peer_queue_bytes_max.max(frame_bytes_max);
        egress.config.queue_bytes_max = egress.config.queue_bytes_max.max(frame_bytes_max);
        egress.upload = egress.config.upload_bytes_per_s.map(|rate| egress.bucket(rate));
        egress
    }

    /// Takes items for `peer` from now on. They are held until it is `ready`: until its connection stands.
    ///
    /// A peer that is open stays as it is, but becomes ready if it is told so here, and its closing is called off.
    /// For a new connection to the same peer, [`reset`](Self::reset) it first.
    pub fn open(&mut self, peer: P, ready: bool, now: Instant) {
        self.advance(now);
        let slot = match self.peers.place(&peer) {
            Some(slot) => slot,
            None => self.settle(peer),
        };
        self.peers[slot].closing = false;
        if ready {
            self.make_ready(slot);
        }
    }

    /// The connection of `peer` stands: what was held may leave. A peer that is not open is ignored.
    pub fn ready(&mut self, peer: P, now: Instant) {
        self.advance(now);
        if let Some(slot) = self.peers.place(&peer) {
            self.make_ready(slot);
        }
    }

    /// Takes no more items for `peer`. What waits is sent first, then [`Transmit::Closed`] comes out, exactly once.
    ///
    /// A peer that never becomes ready, or whose credit never returns, does not finish: the host's connection timeout ends
    /// that with [`reset`](Self::reset), after which nothing more comes out.
    pub fn close(&mut self, peer: P) {
        if let Some(slot) = self.peers.place(&peer) {
            self.peers[slot].closing = true;
            self.note_if_flushed(slot);
        }
    }

    /// The connection of `peer` is lost: drops what waits, counts it, and forgets the peer, its credit and its rate.
    pub fn reset(&mut self, peer: P) {
        let Some(slot) = self.peers.place(&peer) else {
            return;
        };
        for class in Class::ALL {
            while let Some((_, _message)) = self.take_head(slot, class) {
                self.stats.dropped_reset += 1;
            }
        }
        self.vacate(slot);
    }

    /// Whether items for `peer` are taken: it is open and not closing.
    pub fn is_open(&self, peer: P) -> bool {
        self.peer(peer).is_some_and(|peer| !peer.closing)
    }

    /// Lets `item` wait for its turn to leave to `to`, or drops it and says why. Every call is counted.
    ///
    /// An item that supersedes another keeps its place, and its class if that is the more urgent one; if the newer item is
    /// more urgent, it goes to the end of its own class.
    pub fn enqueue(&mut self, to: P, item: Item<M>, now: Instant) -> Enqueued {
        self.advance(now);
        self.stats.offered += 1;
        match self.accept(to, item) {
            Ok(false) => Enqueued::Queued,
            Ok(true) => {
                self.stats.superseded += 1;
                Enqueued::Superseded
            }
            Err(reason) => {
                *match reason {
                    DropReason::Full => &mut self.stats.dropped_full,
                    DropReason::Late => &mut self.stats.dropped_late,
                    DropReason::Oversize => &mut self.stats.dropped_oversize,
                    DropReason::Closing => &mut self.stats.dropped_closing,
                    DropReason::Unknown => &mut self.stats.dropped_unknown,
                } += 1;
                Enqueued::Dropped(reason)
            }
        }
    }

    /// The transport has taken `bytes` for `peer`: as many more may be handed out. Without
    /// [`EgressConfig::credit_bytes`], and for a peer that is not open, it changes nothing.
    ///
    /// The credit to start with is `credit_bytes`, or one frame if that is more. A frame uses [`Transmit::Frame::bytes`] of
    /// it; a host that returns the same numbers never gets stuck.
    pub fn credit(&mut self, peer: P, bytes: u64) {
        if self.config.credit_bytes.is_none() {
            return;
        }
        if let Some(slot) = self.peers.place(&peer) {
            let peer = &mut self.peers[slot];
            peer.credit = peer.credit.saturating_add(bytes);
            if peer.hold == Hold::Credit {
                self.release(slot);
            }
        }
    }

    /// The measured rate of the link to `peer`, in bytes a second (from 1,000 to 10^12; others count as the nearest of
    /// these): its budget from now on, whatever [`EgressConfig::peer_bytes_per_s`] says. `None` goes back to that.
    pub fn set_peer_rate(&mut self, peer: P, bytes_per_s: Option<u64>, now: Instant) {
        self.advance(now);
        if let Some(slot) = self.peers.place(&peer) {
            let fresh = bytes_per_s.or(self.config.peer_bytes_per_s).map(|rate| self.bucket(rate));
            let before = &mut self.peers[slot].bucket;
            *before = fresh.map(|bucket| Box::new(bucket.inherit(before.as_deref_mut(), self.now)));
            if self.peers[slot].hold == Hold::Tokens {
                self.release(slot);
            }
        }
    }

    /// The next frame to hand out at `now`, its messages in `frame` (which is emptied first), or the news that a closing
    /// peer is done. Ask until it answers `None`.
    pub fn poll(&mut self, now: Instant, frame: &mut Vec<M>) -> Option<Transmit<P>> {
        self.advance(now);
        frame.clear();
        self.wake = Some(self.now);
        self.run_timers();
        if self.is_idle {
            self.wake = self.refills.first();
            return None;
        }
        loop {
            if let Some(peer) = self.pop_flushed() {
                return Some(Transmit::Closed { peer });
            }
            let Some((class, slot)) = self.choose() else {
                if self.flushed.is_empty() {
                    self.is_idle = self.queued_bytes == 0;
                    self.wake = self.refills.first();
                    return None;
                }
                continue;
            };
            let wanted = self.wanted(slot, class);
            let Some(room) = self.room_at_peer(slot, wanted) else {
                continue;
            };
            match self.room_in_upload(wanted) {
                Ok(upload) => return Some(self.send(slot, class, room.min(upload), frame)),
                Err(_) if !self.flushed.is_empty() => {}
                Err(due) => {
                    // A peer whose own tokens come back earlier may have something smaller and more urgent.
                    let due = self.refills.first().map_or(due, |refill| refill.min(due));
                    self.wake = Some(due).filter(|&due| due > self.now);
                    return None;
                }
            }
        }
    }

    /// When to poll again; O(1). After `poll` has answered `None` it is later than the `now` of that call, or `None` if
    /// nothing waits or only [`credit`](Self::credit) or [`ready`](Self::ready) can help. While there may be something to
    /// hand out at once, it is not later than the present.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Bytes that wait in all.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Bytes that wait for `peer`.
    pub fn peer_queued_bytes(&self, peer: P) -> usize {
        self.peer(peer).map_or(0, Peer::queued_bytes)
    }

    /// How many bytes can be enqueued for `peer` before something is dropped; zero if no items are taken for it.
    pub fn room(&self, peer: P) -> usize {
        self.peer(peer).filter(|peer| !peer.closing).map_or(0, |peer| {
            let own = self.config.peer_queue_bytes_max.saturating_sub(peer.queued_bytes());
            let shared = self.config.queue_bytes_max.saturating_sub(self.queued_bytes);
            own.min(shared.max(self.frame_bytes_max.saturating_sub(peer.queued_bytes())))
        })
    }

    /// What was sent, replaced and dropped.
    pub fn stats(&self) -> &EgressStats {
        &self.stats
    }
}

/// The greatest frame and the greatest overhead: small enough that no sum of them overflows.
const FRAME_BYTES_LIMIT: usize = 1 << 24;

/// Peers for which something waits at a time in quiet hours.
const SPARE_MAX: usize = 2;

/// A shared class in the round robin of classes.
#[derive(Clone, Debug)]
struct Share {
    quantum: i64,
    deficit: i64,
    /// Whether it got its quantum in this turn.
    granted: bool,
}

/// Why a peer is not in the rings although something waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    None,
    Credit,
    Tokens,
}

/// One open peer. What waits is in the slab, and an idle peer owns nothing else.
#[derive(Clone, Debug)]
struct Peer {
    /// Exists while something waits.
    waiting: Option<Box<Waiting>>,
    bucket: Option<Box<Bucket>>,
    credit: u64,
    deficits: [i32; 5],
    ready: bool,
    closing: bool,
    hold: Hold,
    /// By how many classes the Background lane is raised.
    raised: u8,
    /// In which rings this slot is, a bit per class. It stays until it comes to the front, though nothing may wait any more.
    rings: u8,
    /// Whether this slot is in `Egress::flushed`, where it likewise may have no business any more.
    flushed: bool,
}

/// What waits for one peer. Keys are per peer so that the tree stays small and losing a peer touches nothing else;
/// ordered, because keys come from remote names, with which nobody must be able to force collisions.
#[derive(Clone, Debug)]
struct Waiting {
    lanes: [Lane; 5],
    keys: BTreeMap<u64, u32>,
    bytes: usize,
    /// Since when the head of the Background lane has been the head.
    background_since: Instant,
}

impl Waiting {
    const NOTHING: Self =
        Self { lanes: [Lane::EMPTY; 5], keys: BTreeMap::new(), bytes: 0, background_since: Instant::ZERO };
}

impl Peer {
    fn lane(&self, class: Class) -> &Lane {
        self.waiting.as_ref().map_or(&Lane::EMPTY, |waiting| &waiting.lanes[class as usize])
    }

    fn queued_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    fn waits_in(&self, class: Class) -> bool {
        !self.lane(class).is_empty() || self.raised_to(class)
    }

    fn raised_to(&self, class: Class) -> bool {
        let steps = match class {
            Class::Normal => 1,
            Class::High => 2,
            Class::Control | Class::Urgent | Class::Background => return false,
        };
        self.raised >= steps && !self.lane(Class::Background).is_empty()
    }

    fn may_send(&self) -> bool {
        self.ready && self.hold == Hold::None
    }
}

/// Peers come and go.
impl<P: PeerId, M> Egress<P, M> {
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn peer(&self, peer: P) -> Option<&Peer> {
        self.peers.place(&peer).map(|slot| &self.peers[slot])
    }

    fn bucket(&self, bytes_per_s: u64) -> Bucket {
        Bucket::new(bytes_per_s, self.config.burst, self.quantum() as u64, self.now)
    }

    /// The cost of the greatest frame.
    fn quantum(&self) -> i32 {
        (self.frame_bytes_max + self.config.frame_overhead_bytes) as i32
    }

    fn settle(&mut self, id: P) -> u32 {
        let frame = self.frame_bytes_max as u64;
        let fresh = Peer {
            waiting: None,
            bucket: self.config.peer_bytes_per_s.map(|rate| Box::new(self.bucket(rate))),
            credit: self.config.credit_bytes.map_or(u64::MAX, |bytes| bytes.max(frame)),
            deficits: [0; 5],
            ready: false,
            closing: false,
            hold: Hold::None,
            raised: 0,
            rings: 0,
            flushed: false,
        };
        self.peers.insert(id, fresh)
    }

    fn vacate(&mut self, slot: u32) {
        self.refills.remove(slot);
        self.aging.remove(slot);
        let Some(peer) = self.peers.remove(slot) else { return };
        for (class, ring) in self.rings.iter_mut().enumerate() {
            if peer.rings >> class & 1 == 1 {
                ring.retain(|&other| other != slot);
            }
        }
        if peer.flushed {
            self.flushed.retain(|&other| other != slot);
        }
    }

    fn make_ready(&mut self, slot: u32) {
        self.peers[slot].ready = true;
        self.enter_rings(slot);
    }

    fn release(&mut self, slot: u32) {
        self.refills.remove(slot);
        self.peers[slot].hold = Hold::None;
        self.enter_rings(slot);
    }

    fn enter_rings(&mut self, slot: u32) {
        let peer = &mut self.peers[slot];
        if !peer.may_send() || peer.queued_bytes() == 0 {
            return;
        }
        self.wake = Some(self.now);
        for class in Class::ALL {
            let bit = 1 << class as u8;
            if peer.rings & bit == 0 && peer.waits_in(class) {
                peer.rings |= bit;
                self.rings[class as usize].push_back(slot);
            }
        }
    }

    fn note_if_flushed(&mut self, slot: u32) {
        let peer = &mut self.peers[slot];
        if peer.closing && peer.queued_bytes() == 0 {
            self.wake = Some(self.now);
            self.is_idle = false;
            if !peer.flushed {
                peer.flushed = true;
                self.flushed.push_back(slot);
            }
        }
    }

    fn pop_flushed(&mut self) -> Option<P> {
        while let Some(slot) = self.flushed.pop_front() {
            let peer = &mut self.peers[slot];
            peer.flushed = false;
            if peer.closing && peer.queued_bytes() == 0 {
                let id = self.peers.name(slot);
                self.vacate(slot);
                return id;
            }
        }
        None
    }
}
