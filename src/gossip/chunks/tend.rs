//! What is done again and again for large updates: claims that were not answered, offers, giving up.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::large::{Large, common};
use super::{Chunks, Key};
use crate::gossip::pull::Cause;
use crate::gossip::{Gossip, GossipAction};
use crate::io::LagReason;
use crate::log::RangeSet;
use crate::time::Instant;
use crate::wire::{ChunkOffer, Data, LargeId, SourceRanges, WirePeer};

/// How often an update in assembly is looked after; rarer when nothing moves.
const TICK: Duration = Duration::from_millis(20);
const SLOW_TICK: Duration = Duration::from_millis(200);

/// Nothing has moved for so long.
const STILL: Duration = Duration::from_secs(2);

/// How often neighbours are told what has come.
const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// Whoever is offered nothing asks for offers after this time, and ever more rarely.
const QUERY_AFTER: Duration = Duration::from_millis(200);
const QUERY_INTERVAL_MAX: Duration = Duration::from_secs(4);

/// What somebody should have sent is in queues for this long, at most, besides the time of an answer.
const QUEUE_TIME: Duration = Duration::from_millis(150);

/// Claims repeated before another holder is asked.
const TRIES_MAX: u8 = 2;

/// An update of which nothing comes for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of which nothing has come may have to make room for another after this time.
const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(5);

/// A whole update that retention does not keep is passed on for this long.
const LINGER: Duration = Duration::from_secs(10);

/// How often whole updates are looked through, at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Updates of which offers came before their manifest, at most, and for how long they are remembered.
const EARLY_MAX: usize = 32;
const EARLY_AGE: Duration = Duration::from_secs(10);

/// A manifest that has not come this long after an offer is asked for.
const MANIFEST_LATE: Duration = Duration::from_millis(120);

/// Ranges of an early offer that are remembered, at most.
const EARLY_RANGES_MAX: usize = 64;

/// Offers of an update whose manifest has not come.
#[derive(Debug)]
pub(super) struct Early<P> {
    id: LargeId<P>,
    since: Instant,
    is_noted: bool,
    pub(super) sides: SmallVec<[(u8, RangeSet, RangeSet); 4]>,
}

/// How much may be claimed from each neighbour now, in chunks: a rate, so that nobody is asked for more than is read here.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    slots: BTreeMap<u8, (u64, Instant)>,
}

impl Quotas {
    /// Chunks that may be claimed from `slot`, refilled at `rate` a second up to `burst`.
    pub(super) fn left(&mut self, slot: u8, rate: u64, burst: u64, now: Instant) -> u64 {
        let (left, since) = self.slots.entry(slot).or_insert((burst, now));
        let micros = (now - *since).as_micros() as u64;
        let refill = rate.saturating_mul(micros) / 1_000_000;
        if refill > 0 {
            *left = left.saturating_add(refill).min(burst);
            *since = now;
        }
        *left
    }

    pub(super) fn take(&mut self, slot: u8, count: u64) {
        if let Some((left, _)) = self.slots.get_mut(&slot) {
            *left = left.saturating_sub(count);
        }
    }
}

impl<P: WirePeer> Chunks<P> {
    pub(super) fn take_early(&mut self, id: LargeId<P>) -> Option<Early<P>> {
        let place = self.early.iter().position(|early| early.id == id)?;
        Some(self.early.swap_remove(place))
    }

    pub(super) fn forget_early(&mut self, slot: u8) {
        self.quotas.slots.remove(&slot);
        for early in &mut self.early {
            early.sides.retain(|(other, ..)| *other != slot);
        }
    }

    /// Of some updates that of which nothing has come for longest, if that is long enough to give it up for another.
    fn idlest(
        &self,
        counts: impl Fn(Key, &Large<P>) -> bool,
        patience: Duration,
        now: Instant,
    ) -> Option<Key> {
        let updates = self.updates.iter().filter(|&(&key, large)| {
            large.completed.is_none() && now - large.active >= patience && counts(key, large)
        });
        updates.min_by_key(|(_, large)| large.active).map(|(&key, _)| key)
    }
}

impl<P: WirePeer> Gossip<P> {
    /// Does what is due for large updates.
    pub(in crate::gossip) fn tend_chunks(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if self.chunks.at.is_none_or(|at| at > now) {
            return;
        }
        self.chunks.at = None;
        self.tend_early(now);
        let keys: Vec<Key> = self.chunks.updates.keys().copied().collect();
        for key in keys {
            let Some(mut large) = self.chunks.updates.remove(&key) else { continue };
            if large.tick_at.is_some_and(|at| at <= now) && !self.tend(key, &mut large, now, actions) {
                self.chunks.settle(&large);
                continue;
            }
            self.put_back(key, large, now);
        }
    }

    /// Drops whole updates that nobody needs to keep. Called now and then.
    pub(in crate::gossip) fn sweep_chunks(&mut self, now: Instant) {
        if self.chunks.updates.is_empty() || now - self.chunks.swept < SWEEP_INTERVAL {
            return;
        }
        self.chunks.swept = now;
        let log = &self.log;
        let mut kept_bytes = 0;
        let bytes_max = self.config.assembly_bytes_max;
        // From the newest of each source on, so that the oldest go first.
        self.chunks.updates = core::mem::take(&mut self.chunks.updates)
            .into_iter()
            .rev()
            .filter(|(key, large)| {
                let Some(completed) = large.completed else { return true };
                if log.holds(key.0, key.1) {
                    return true;
                }
                kept_bytes += large.assembly.bytes();
                now - completed < LINGER && kept_bytes <= bytes_max
            })
            .collect();
    }

    /// Whether one more update can be assembled; others of which nothing comes make room.
    pub(super) fn has_place(
        &mut self,
        slot: Option<u8>,
        data: &Data<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> bool {
        let source = self.log.source(data.origin, data.epoch);
        let counted = || self.chunks.updates.iter().filter(|(_, large)| large.completed.is_none());
        let from_origin = counted().filter(|(key, _)| Some(key.0) == source).count();
        let from_sender = counted().filter(|(_, large)| large.brought_by == slot).count();
        let key = if from_origin >= self.config.assemblies_per_origin_max {
            self.chunks.idlest(|key, _| Some(key.0) == source, PATIENCE_WHEN_FULL, now)
        } else if from_sender >= self.config.assemblies_per_peer_max {
            self.stats.assemblies_crowded += 1;
            self.chunks.idlest(|_, large| large.brought_by == slot, PATIENCE_WHEN_FULL, now)
        } else if self.chunks.assembling >= self.config.assemblies_max {
            self.chunks.idlest(|_, _| true, PATIENCE_WHEN_FULL, now)
        } else {
            return true;
        };
        let Some(key) = key else { return false };
        self.give_up(key, LagReason::NoRoom, actions);
        true
    }

    /// The chunks take too much memory: of what the neighbour has brought that takes most, gives up the update of which nothing
    /// has come for longest.
    pub(super) fn make_room(
        &mut self,
        except: Option<Key>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let mut bytes: BTreeMap<Option<u8>, usize> = BTreeMap::new();
        for large in self.chunks.updates.values().filter(|large| large.completed.is_none()) {
            *bytes.entry(large.brought_by).or_default() += large.assembly.bytes();
        }
        let heaviest = bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map(|(slot, _)| slot);
        let other = |key, large: &Large<P>| Some(key) != except && Some(large.brought_by) == heaviest;
        let key = self.chunks.idlest(other, Duration::ZERO, now);
        let key = key.or_else(|| self.chunks.idlest(|key, _| Some(key) != except, Duration::ZERO, now));
        if let Some(key) = key.or(except) {
            self.give_up(key, LagReason::NoRoom, actions);
        }
    }

    /// Tells all neighbours that should know what can be had here.
    pub(super) fn tell_all(
        &mut self,
        large: &mut Large<P>,
        except: Option<u8>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        large.told = now;
        let slots = self.peers.all();
        // Not always the same first: the fair share of this node may not suffice for all.
        let first = self.rng.below(64) as u8;
        let mut slot = slots.next_after(first);
        for _ in 0..slots.len() {
            let Some(this) = slot else { return };
            slot = slots.next_after(this);
            let wants = large.is_young || large.sides.get(&this).is_some_and(|side| side.is_interested);
            if Some(this) != except && wants && !large.is_served(this) {
                self.tell_chunks(this, large, false, now, actions);
            }
        }
    }

    /// Tells one neighbour what it does not know yet, or (as an answer) everything.
    pub(super) fn tell_chunks(
        &mut self,
        slot: u8,
        large: &mut Large<P>,
        is_answer: bool,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let (mut held, mut promised) = large.news_for(slot, is_answer, self.peers.rtt(slot), now);
        if is_answer {
            held = large.assembly.held().clone();
            promised = large.coming.clone();
        } else if held.is_empty() && promised.is_empty() {
            return;
        }
        self.send_offer(slot, large, (false, is_answer), held, promised, actions);
    }

    /// Asks neighbours what they have.
    pub(super) fn query(&mut self, large: &mut Large<P>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        large.queried = Some(now);
        large.queries = large.queries.saturating_add(1);
        for slot in self.peers.all().iter() {
            if !large.is_served(slot) {
                let held = large.assembly.held().clone();
                self.send_offer(slot, large, (true, true), held, large.coming.clone(), actions);
            }
        }
    }

    /// When an update is looked after next.
    pub(super) fn plan_tick(&mut self, large: &mut Large<P>, now: Instant) {
        let still = now - large.active >= STILL;
        let interval = if still { SLOW_TICK } else { TICK };
        let everybody_served = || self.peers.all().iter().all(|slot| large.is_served(slot));
        let next = match large.completed {
            None => Some(now + interval),
            // Who wants more asks.
            Some(_) if still || !large.is_young || everybody_served() => None,
            Some(_) => Some(now + 2 * TICK),
        };
        large.tick_at = match (large.tick_at, next) {
            (Some(at), Some(next)) if at > now => Some(at.min(next)),
            (_, next) => next,
        };
    }

    pub(super) fn note_early(&mut self, slot: u8, offer: ChunkOffer<P>, now: Instant) {
        if offer.held.range_count() + offer.promised.range_count() > EARLY_RANGES_MAX {
            return;
        }
        let early = &mut self.chunks.early;
        let place = early.iter().position(|early| early.id == offer.update).unwrap_or_else(|| {
            if early.len() >= EARLY_MAX {
                early.remove(0);
            }
            early.push(Early { id: offer.update, since: now, is_noted: false, sides: SmallVec::new() });
            early.len() - 1
        });
        let sides = &mut early[place].sides;
        match sides.iter_mut().find(|(other, ..)| *other == slot) {
            Some((_, held, promised)) if offer.is_all => (*held, *promised) = (offer.held, offer.promised),
            Some((_, held, promised)) if held.range_count() + promised.range_count() <= EARLY_RANGES_MAX => {
                held.union_with(&offer.held);
                promised.union_with(&offer.promised);
            }
            Some(_) => {}
            None => sides.push((slot, offer.held, offer.promised)),
        }
        self.chunks.wake(now + MANIFEST_LATE);
    }

    /// Manifests that have not come along the trees are asked for.
    fn tend_early(&mut self, now: Instant) {
        self.chunks.early.retain(|early| now - early.since < EARLY_AGE);
        let mut late: Vec<(u8, SourceRanges<P>)> = Vec::new();
        let mut next = None;
        for early in self.chunks.early.iter_mut().filter(|early| !early.is_noted) {
            if now - early.since < MANIFEST_LATE {
                let at = early.since + MANIFEST_LATE;
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
                continue;
            }
            early.is_noted = true;
            let LargeId { origin, epoch, sequence } = early.id;
            let ranges = RangeSet::from(sequence..sequence + 1);
            let has = SourceRanges { origin, epoch, ranges };
            late.extend(early.sides.iter().map(|(slot, ..)| (*slot, has.clone())));
        }
        for (slot, has) in late {
            self.note_holder(slot, &has, Cause::Announced, now);
        }
        if let Some(at) = next {
            self.chunks.wake(at);
        }
    }

    /// Looks after one update; false if it is given up.
    fn tend(
        &mut self,
        key: Key,
        large: &mut Box<Large<P>>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> bool {
        large.tick_at = None;
        large.forget_old(now);
        if large.completed.is_none() {
            if !self.may_go_on(key, large, now, actions) {
                return false;
            }
            self.mend(large, now, actions);
            self.claim_more(large, now, actions);
            let wait = (QUERY_AFTER * (1 << large.queries.min(5))).min(QUERY_INTERVAL_MAX);
            let since = large.queried.unwrap_or(large.begun);
            if !large.unclaimed.is_empty() && now - since >= wait {
                self.query(large, now, actions);
            }
        }
        if now - large.told >= TELL_INTERVAL {
            self.tell_all(large, None, now, actions);
        }
        true
    }

    /// Whether an assembly still makes sense.
    fn may_go_on(
        &mut self,
        key: Key,
        large: &Large<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> bool {
        if large.was_kept && self.supersedes && !self.log.holds(key.0, key.1) {
            self.stats.superseded += 1;
            return false;
        }
        if self.log.is_too_old(large.header.born, now) || now - large.active >= PATIENCE {
            self.stats.assemblies_given_up += 1;
            let lost = RangeSet::from(key.1..key.1 + 1);
            self.log.drop_body(key.0, key.1);
            self.report_lag(key.0, &lost, LagReason::Expired, actions);
            return false;
        }
        true
    }

    /// Repeats claims whose chunks are lost, and moves those of neighbours that do not answer to others.
    fn mend(&mut self, large: &mut Box<Large<P>>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let slots: SmallVec<[u8; 16]> =
            large.sides.iter().filter(|(_, side)| !side.asked.is_empty()).map(|(&slot, _)| slot).collect();
        for slot in slots {
            let answer = self.peers.answer_timeout(slot);
            let side = &large.sides[&slot];
            let quiet = now - side.asked_at.max(side.heard_at);
            if quiet > (answer + QUEUE_TIME) * (1 << side.tries.min(4)) {
                self.on_silence(slot, large, now, actions);
            } else if now - side.asked_at > answer + QUEUE_TIME / 2 {
                // What comes later than what was asked later is lost, or has to come to the other first.
                let mut holes = side.asked.within(0..u64::from(side.last));
                holes = common(&holes, &side.held);
                if !holes.is_empty() {
                    large.side(slot, now).asked_at = now;
                    self.send_claim(slot, large, holes, actions);
                }
            }
            let side = large.side(slot, now);
            if !side.released.is_empty() {
                self.send_claim(slot, large, RangeSet::new(), actions);
            }
        }
    }

    /// A neighbour of which something was claimed has sent nothing for long.
    fn on_silence(
        &mut self,
        slot: u8,
        large: &mut Box<Large<P>>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let Some(side) = large.sides.get(&slot) else { return };
        let tries = side.tries;
        let mut elsewhere = RangeSet::new();
        for (&other, theirs) in &large.sides {
            if other != slot && !theirs.is_distrusted && tries + 1 >= TRIES_MAX {
                elsewhere.union_with(&common(&side.asked, &theirs.held));
            }
        }
        let side = large.side(slot, now);
        side.tries = tries.saturating_add(1);
        side.asked_at = now;
        side.asked.subtract(&elsewhere);
        side.released.union_with(&elsewhere);
        let again = side.asked.clone();
        if !elsewhere.is_empty() {
            self.stats.claims_moved += 1;
            // It is the last that is asked for them.
            side.held.subtract(&elsewhere);
            large.unclaim(&elsewhere);
        }
        self.send_claim(slot, large, again, actions);
    }

    /// Claims from everybody who holds something that nobody has been asked for, the least busy first.
    fn claim_more(&mut self, large: &mut Box<Large<P>>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if large.unclaimed.is_empty() {
            return;
        }
        let mut slots: SmallVec<[(u64, u8); 16]> =
            large.sides.iter().map(|(&slot, side)| (side.asked.len(), slot)).collect();
        slots.sort_unstable();
        let share = (large.unclaimed.len() / slots.len().max(1) as u64).max(8);
        for (_, slot) in slots {
            self.claim_from(slot, large, share, now, actions);
        }
    }

    fn give_up(&mut self, key: Key, reason: LagReason, actions: &mut Vec<GossipAction<P>>) {
        let Some(large) = self.chunks.updates.remove(&key) else { return };
        self.chunks.settle(&large);
        self.stats.assemblies_given_up += 1;
        self.log.drop_body(key.0, key.1);
        let lost = RangeSet::from(key.1..key.1 + 1);
        self.report_lag(key.0, &lost, reason, actions);
    }
}
