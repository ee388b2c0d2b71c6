//! One large update at one node: its pieces, and what each neighbour has of it, wants of it, and was told.

use alloc::collections::BTreeMap;
use core::time::Duration;

use smallvec::SmallVec;

use super::assembly::Assembly;
use super::order::Order;
use crate::gossip::peers::Slots;
use crate::log::RangeSet;
use crate::time::Instant;
use crate::wire::Data;

/// Bytes of chunks claimed from one neighbour and not here yet, at most.
const WINDOW_BYTES: usize = 128 << 10;

/// A chunk that was sent in the last one or two of these spans is not sent again to the same neighbour: it is on its way.
const SENT_SPAN: Duration = Duration::from_millis(150);

/// Chunks promised to a neighbour that it has not claimed by this time after a round trip go to others.
const RESERVE: Duration = Duration::from_millis(20);

/// Times its size that a neighbour may claim of an update.
const SERVINGS_MAX: u64 = 3;

/// What a node may be asked to send of an update at first, in percent of it: all nodes together need 100.
const SHARE_PERCENT: u64 = 125;

/// In each such span it may be that update once more, so that whoever finds no other feeder is fed.
const SHARE_GROWTH: Duration = Duration::from_millis(250);

/// The share of updates with more chunks than this grows no faster.
const GROWTH_CHUNKS_MAX: u64 = 1_024;

/// The origin sends each chunk once, and waits this long before it sends more.
const ORIGIN_REST: Duration = Duration::from_millis(300);

/// One large update.
#[derive(Debug)]
pub(super) struct Large<P> {
    /// The update without its body.
    pub(super) header: Data<P>,
    pub(super) assembly: Assembly,
    pub(super) sides: BTreeMap<u8, Side>,
    /// Pieces that are neither here nor claimed.
    pub(super) unclaimed: RangeSet,
    /// Pieces claimed from somebody.
    pub(super) coming: RangeSet,
    /// Pieces that were claimed from somebody who had only promised them, in vain: from now on only from who holds them, so
    /// that nobody waits for one who waits for him.
    pub(super) doubtful: RangeSet,
    /// The neighbour that brought the manifest, while it is one.
    pub(super) brought_by: Option<u8>,
    pub(super) is_own: bool,
    /// It spreads now: neighbours are told unasked.
    pub(super) is_young: bool,
    /// Whether the log keeps its manifest.
    pub(super) was_kept: bool,
    pub(super) begun: Instant,
    /// When a piece came last, or was claimed.
    pub(super) active: Instant,
    pub(super) completed: Option<Instant>,
    /// Pieces that neighbours have claimed here.
    pub(super) committed: u64,
    reserved: SmallVec<[Reserved; 8]>,
    rotated: Instant,
    pub(super) queried: Option<Instant>,
    pub(super) queries: u8,
    pub(super) told: Instant,
    pub(super) tick_at: Option<Instant>,
}

/// Pieces promised to a neighbour that may still claim them.
#[derive(Debug)]
struct Reserved {
    slot: u8,
    pieces: RangeSet,
    until: Instant,
}

/// A neighbour's part in one update.
#[derive(Debug)]
pub(super) struct Side {
    /// Pieces that it holds, and those that it has promised.
    pub(super) held: RangeSet,
    pub(super) promised: RangeSet,
    /// Pieces that it was told could be had here, and those of them that it was told are here.
    pub(super) told: RangeSet,
    pub(super) told_held: RangeSet,
    /// Pieces claimed from it.
    pub(super) asked: RangeSet,
    pub(super) asked_at: Instant,
    pub(super) heard_at: Instant,
    order: Order,
    /// The number of the piece that it sent last.
    pub(super) last: u32,
    pub(super) tries: u8,
    /// Pieces that it has claimed and that are not here yet.
    pub(super) wanted: RangeSet,
    served: u64,
    sent: [RangeSet; 2],
    /// Pieces claimed from it that came from elsewhere.
    pub(super) released: RangeSet,
    /// It has asked what is here.
    pub(super) is_interested: bool,
    /// It has sent wrong pieces.
    pub(super) is_distrusted: bool,
}

impl Side {
    fn new(now: Instant) -> Self {
        let none = RangeSet::new;
        Self {
            held: none(),
            promised: none(),
            told: none(),
            told_held: none(),
            asked: none(),
            asked_at: now,
            heard_at: now,
            order: Order::default(),
            last: 0,
            tries: 0,
            wanted: none(),
            served: 0,
            sent: [none(), none()],
            released: none(),
            is_interested: false,
            is_distrusted: false,
        }
    }

    pub(super) fn note_sent(&mut self, number: u32) {
        self.sent[0].insert(one(number));
    }
}

impl<P> Large<P> {
    pub(super) fn new(header: Data<P>, assembly: Assembly, now: Instant) -> Self {
        let mut unclaimed = RangeSet::from(0..u64::from(assembly.manifest().count()));
        unclaimed.subtract(assembly.held());
        let completed = assembly.is_complete().then_some(now);
        Self {
            header,
            sides: BTreeMap::new(),
            unclaimed,
            coming: RangeSet::new(),
            doubtful: RangeSet::new(),
            brought_by: None,
            is_own: completed.is_some(),
            is_young: true,
            was_kept: false,
            begun: now,
            active: now,
            completed,
            committed: 0,
            reserved: SmallVec::new(),
            rotated: now,
            queried: None,
            queries: 0,
            told: now,
            tick_at: Some(now),
            assembly,
        }
    }

    pub(super) fn side(&mut self, slot: u8, now: Instant) -> &mut Side {
        self.sides.entry(slot).or_insert_with(|| Side::new(now))
    }

    pub(super) fn count(&self) -> u64 {
        u64::from(self.assembly.manifest().count())
    }

    /// Pieces that may be claimed from one neighbour at a time.
    pub(super) fn window(&self) -> u64 {
        (WINDOW_BYTES / self.assembly.manifest().chunk_bytes()).max(8) as u64
    }

    /// Whether a neighbour is known to have everything.
    pub(super) fn is_served(&self, slot: u8) -> bool {
        self.sides.get(&slot).is_some_and(|side| side.held.len() >= self.count())
    }

    /// Takes an offer.
    pub(super) fn note_offer(
        &mut self,
        slot: u8,
        is_all: bool,
        held: &RangeSet,
        promised: &RangeSet,
        now: Instant,
    ) {
        let count = self.count();
        let side = self.side(slot, now);
        if is_all {
            side.held.clear();
            side.promised.clear();
        }
        side.held.union_with(&held.within(0..count));
        side.promised.union_with(&promised.within(0..count));
        // What is beyond will be offered again.
        keep_first(&mut side.held);
        keep_first(&mut side.promised);
        let mut withdrawn = RangeSet::new();
        if is_all {
            withdrawn = side.asked.clone();
            withdrawn.subtract(&side.held);
            withdrawn.subtract(&side.promised);
            side.asked.subtract(&withdrawn);
        }
        self.unclaim(&withdrawn);
        for reserved in self.reserved.iter_mut().filter(|reserved| reserved.slot == slot) {
            reserved.pieces.subtract(held);
            reserved.pieces.subtract(promised);
        }
    }

    /// Claims what a neighbour offers and nobody has been asked for, at most `quota` pieces.
    pub(super) fn claim(&mut self, slot: u8, quota: u64, now: Instant) -> RangeSet {
        let window = self.window();
        let none = RangeSet::new();
        let Some(side) = self.sides.get_mut(&slot).filter(|side| !side.is_distrusted) else { return none };
        let room = window.saturating_sub(side.asked.len()).min(quota);
        if room == 0 || self.unclaimed.is_empty() {
            return none;
        }
        let mut offered = side.promised.clone();
        offered.subtract(&self.doubtful);
        offered.union_with(&side.held);
        let taken = common(&offered, &self.unclaimed).take_front(room);
        if taken.is_empty() {
            return taken;
        }
        if side.asked.is_empty() {
            (side.heard_at, side.tries) = (now, 0);
        }
        side.asked_at = now;
        side.asked.union_with(&taken);
        side.order.ask(common(&taken, &side.held));
        self.unclaimed.subtract(&taken);
        self.coming.union_with(&taken);
        self.active = now;
        taken
    }

    /// These pieces were lost on their way from a neighbour, which should forget that it has sent them.
    pub(super) fn claim_again(&mut self, slot: u8, pieces: &RangeSet) {
        if let Some(side) = self.sides.get_mut(&slot) {
            side.released.union_with(pieces);
            side.order.ask(pieces.clone());
        }
    }

    /// These pieces are claimed from nobody any more.
    pub(super) fn unclaim(&mut self, pieces: &RangeSet) {
        let mut pieces = pieces.clone();
        pieces.subtract(self.assembly.held());
        self.coming.subtract(&pieces);
        self.unclaimed.union_with(&pieces);
        self.doubtful.union_with(&pieces);
    }

    /// A piece is here: nobody else needs to send it. Returns those that `from` should have sent before it: they are lost.
    pub(super) fn note_arrival(&mut self, number: u32, from: u8, now: Instant) -> RangeSet {
        let mut lost = RangeSet::new();
        self.coming.remove(one(number));
        self.unclaimed.remove(one(number));
        for (&slot, side) in &mut self.sides {
            if slot == from {
                (side.heard_at, side.last, side.tries) = (now, number, 0);
                side.asked.remove(one(number));
                side.held.insert(one(number));
                lost = side.order.arrive(number, &side.asked);
            } else if side.asked.contains(u64::from(number)) {
                side.asked.remove(one(number));
                side.released.insert(one(number));
            }
        }
        self.active = now;
        lost
    }

    /// Takes a claim. What is released and claimed again in one was lost on its way. Returns the pieces to send at once; the others follow when they come.
    pub(super) fn note_claim(
        &mut self,
        slot: u8,
        wanted: &RangeSet,
        released: &RangeSet,
        now: Instant,
    ) -> Option<RangeSet> {
        let count = self.count();
        let window = self.window();
        let held = self.assembly.held();
        let side = self.sides.entry(slot).or_insert_with(|| Side::new(now));
        side.wanted.subtract(released);
        side.sent.iter_mut().for_each(|sent| sent.subtract(released));
        let mut fresh = wanted.within(0..count);
        fresh.subtract(&side.wanted);
        side.sent.iter().for_each(|sent| fresh.subtract(sent));
        if side.served + fresh.len() > SERVINGS_MAX * count + 2 * window
            || side.wanted.range_count() > RANGES_MAX
        {
            return None;
        }
        let at_once = common(&fresh, held).take_front(2 * window);
        let mut later = fresh.clone();
        later.subtract(held);
        side.wanted.union_with(&later);
        side.told.union_with(&at_once);
        side.told.union_with(&later);
        let taken = at_once.len() + later.len();
        side.served += taken;
        self.committed += taken;
        for reserved in self.reserved.iter_mut().filter(|reserved| reserved.slot == slot) {
            reserved.pieces.subtract(&fresh);
        }
        self.active = now;
        Some(at_once)
    }

    /// What a neighbour should hear now: what it was told could be had and now is here, and what it does not know can be had.
    /// `promise_all` leaves the fair share of this node out of account.
    pub(super) fn news_for(
        &mut self,
        slot: u8,
        promise_all: bool,
        rtt: Duration,
        now: Instant,
    ) -> (RangeSet, RangeSet) {
        let spare = if promise_all { u64::MAX } else { self.spare(now) };
        let held = self.assembly.held();
        let side = self.sides.entry(slot).or_insert_with(|| Side::new(now));
        let mut fresh = held.clone();
        fresh.union_with(&self.coming);
        for known in [&side.told, &side.held, &side.promised] {
            fresh.subtract(known);
        }
        if fresh.len() > spare {
            fresh = fresh.take_front(spare);
        }
        side.told.union_with(&fresh);
        let mut now_held = common(&side.told, held);
        now_held.subtract(&side.told_held);
        side.told_held.union_with(&now_held);
        now_held.subtract(&side.held);
        let mut promised = fresh.clone();
        promised.subtract(held);
        if !fresh.is_empty() && !promise_all {
            let until = now + rtt * 5 / 4 + RESERVE;
            self.reserved.push(Reserved { slot, pieces: fresh, until });
        }
        (now_held, promised)
    }

    /// The first offers of an origin: each piece to one neighbour.
    pub(super) fn deal(&mut self, neighbors: Slots, first: usize, now: Instant) {
        let slots: SmallVec<[u8; 16]> = neighbors.iter().collect();
        let (count, pages) = (self.count(), u64::from(self.assembly.manifest().page_count()));
        let others = slots.len() as u64;
        for (place, &slot) in (0u64..).zip(&slots) {
            let side = self.side(slot, now);
            // Everybody needs the pages first.
            side.told = RangeSet::from(0..pages);
            let place = (place + first as u64) % others;
            let body = count - pages;
            side.told.insert(pages + body * place / others..pages + body * (place + 1) / others);
        }
        self.committed = 0;
    }

    /// Forgets promises that nobody took, and what was sent long ago.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.reserved.retain(|reserved| reserved.until > now && !reserved.pieces.is_empty());
        if now - self.rotated >= SENT_SPAN {
            self.rotated = now;
            for side in self.sides.values_mut() {
                side.sent[1] = core::mem::take(&mut side.sent[0]);
            }
        }
    }

    pub(super) fn forget_side(&mut self, slot: u8) {
        self.brought_by = self.brought_by.filter(|&by| by != slot);
        self.reserved.retain(|reserved| reserved.slot != slot);
        if let Some(side) = self.sides.remove(&slot) {
            self.unclaim(&side.asked);
        }
    }

    /// How many more pieces may be promised.
    fn spare(&self, now: Instant) -> u64 {
        let count = self.count();
        let age = now - self.begun;
        let (percent, age) =
            if self.is_own { (100, age.saturating_sub(ORIGIN_REST)) } else { (SHARE_PERCENT, age) };
        let grown = count.min(GROWTH_CHUNKS_MAX) * age.as_millis() as u64 / SHARE_GROWTH.as_millis() as u64;
        let reserved: u64 = self.reserved.iter().map(|reserved| reserved.pieces.len()).sum();
        (count * percent / 100 + grown).saturating_sub(self.committed + reserved)
    }
}

/// Ranges that a neighbour may have claimed and not got, or offered, at most.
const RANGES_MAX: usize = 1_024;

fn keep_first(ranges: &mut RangeSet) {
    if ranges.range_count() > RANGES_MAX {
        *ranges = ranges.iter().take(RANGES_MAX).collect();
    }
}

pub(super) fn one(number: u32) -> core::ops::Range<u64> {
    u64::from(number)..u64::from(number) + 1
}

/// What is in both.
pub(super) fn common(a: &RangeSet, b: &RangeSet) -> RangeSet {
    let (few, many) = if a.range_count() <= b.range_count() { (a, b) } else { (b, a) };
    let mut both = RangeSet::new();
    for range in few.iter() {
        both.union_with(&many.within(range));
    }
    both
}
