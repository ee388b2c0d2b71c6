//! What is asked of whom, and when again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use super::page::pages;
use super::peers::Slots;
use super::{Gossip, GossipAction};
use crate::config::{GossipConfig, GossipMode};
use crate::io::LagReason;
use crate::log::{RangeSet, SourceIndex};
use crate::time::Instant;
use crate::wire::{Data, GossipMessage, SourceRanges, WirePeer};

/// Missing ranges tracked at once, at most; more are found again by reconciliation.
const MISSING_MAX: usize = 1_024;

/// Bytes of bodies sent in answer to one request, at most: the rest is asked for again, at the asker's pace.
const ANSWER_BYTES_MAX: usize = 128 << 10;

/// Rounds through all holders before a range is dropped and left to reconciliation.
const ROUNDS_MAX: u8 = 3;

/// Neighbours that must have let go of an update before it is given up.
const GONE_VOTES: usize = 2;

/// How long an update that one neighbour has let go of may wait for another who knew it: some rounds of reconciliation.
const SECOND_OPINION: Duration = Duration::from_secs(15);

/// The lateness that is taken as normal, at most.
const LATENESS_MAX: Duration = Duration::from_millis(500);

/// Updates that are asked for before they were heard of, at most.
const AHEAD: u64 = 32;

/// No range on the wire goes beyond.
const SEQUENCE_MAX: u64 = (1 << 62) - 1;

/// Of the neighbours asked in one silence of a source, this one is asked when those before have not answered.
const SILENT_TRIES: u8 = 3;

/// How a missing update was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// A neighbour announced it.
    Announced,
    /// A later one of its source arrived.
    Gap,
    /// Reconciliation found it.
    Synced,
}

/// Tracks what is missing: disjoint ranges of each source, with who has them.
#[derive(Debug)]
pub(super) struct Puller {
    missing: BTreeMap<(SourceIndex, u64), Missing>,
    outstanding: u64,
    outstanding_max: u64,
    delay_min: Duration,
    /// By how much pushes come after announcements: a peak that decays.
    lateness: Duration,
    at: Option<Instant>,
    /// Something waits for room among the outstanding.
    blocked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    end: u64,
    holders: Slots,
    /// Those of the holders that said so. The others pushed a later one, and may not have this yet.
    told: Slots,
    gone: Slots,
    asked: Option<u8>,
    attempts: u8,
    noticed: Instant,
    due: Instant,
    cause: Cause,
}

impl Puller {
    pub(super) fn new(config: &GossipConfig) -> Self {
        Self {
            missing: BTreeMap::new(),
            outstanding: 0,
            outstanding_max: config.wants_outstanding_max as u64,
            delay_min: if config.mode == GossipMode::Pull { Duration::ZERO } else { config.want_delay_min },
            lateness: Duration::ZERO,
            at: None,
            blocked: false,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    pub(super) fn is_idle(&self) -> bool {
        self.missing.is_empty()
    }

    /// How long a push may still come after it was announced.
    pub(super) fn delay(&self) -> Duration {
        self.delay_min + self.lateness
    }

    pub(super) fn neighbor_down(&mut self, slot: u8, now: Instant) {
        let mut changed = false;
        for ((_, start), missing) in &mut self.missing {
            missing.holders.remove(slot);
            missing.told.remove(slot);
            missing.gone.remove(slot);
            if missing.asked == Some(slot) {
                self.outstanding -= missing.end - start;
                missing.asked = None;
                missing.due = now;
                changed = true;
            }
        }
        if changed {
            self.wake(now);
        }
    }

    pub(super) fn forget(&mut self, source: SourceIndex) {
        let keys: Vec<_> = self.of_source(source).collect();
        for key in keys {
            self.take(key);
        }
    }

    pub(super) fn drop_range(&mut self, source: SourceIndex, range: Range<u64>) {
        self.carve(source, range, |_| None);
    }

    /// Notes that `slot` has `range`, which is missing here.
    fn note(
        &mut self,
        source: SourceIndex,
        range: Range<u64>,
        slot: u8,
        cause: Cause,
        now: Instant,
        due: Instant,
    ) {
        let mut untracked = RangeSet::from(range.clone());
        let told = if cause == Cause::Gap { Slots::NONE } else { Slots::one(slot) };
        let mut renewed = false;
        self.carve(source, range, |missing| {
            if !missing.gone.contains(slot) {
                if missing.holders.is_empty() {
                    (missing.due, missing.attempts, renewed) = (due, 0, true);
                }
                missing.holders |= Slots::one(slot);
                missing.told |= told;
            }
            Some(missing)
        });
        if renewed {
            self.wake(due);
        }
        for (&(_, start), missing) in self.missing.range((source, 0)..=(source, u64::MAX)) {
            untracked.remove(start..missing.end);
        }
        for range in untracked.iter() {
            if self.missing.len() >= MISSING_MAX {
                return;
            }
            let missing = Missing {
                end: range.end,
                holders: Slots::one(slot),
                told,
                gone: Slots::NONE,
                asked: None,
                attempts: 0,
                noticed: now,
                due,
                cause,
            };
            self.missing.insert((source, range.start), missing);
            self.wake(due);
        }
    }

    /// Splits what is tracked at the ends of `range`, and changes or (with `None`) drops what lies inside. Returns what
    /// was dropped.
    fn carve(
        &mut self,
        source: SourceIndex,
        range: Range<u64>,
        mut change: impl FnMut(&mut Missing) -> Option<&mut Missing>,
    ) -> Option<Missing> {
        if range.is_empty() {
            return None;
        }
        for cut in [range.start, range.end] {
            self.split(source, cut);
        }
        let inside: Vec<_> =
            self.missing.range((source, range.start)..(source, range.end)).map(|(&key, _)| key).collect();
        let mut dropped = None;
        for key in inside {
            let missing = self.missing.get_mut(&key).expect("the key was just read");
            if change(missing).is_none() {
                dropped = self.take(key);
            }
        }
        dropped
    }

    fn split(&mut self, source: SourceIndex, at: u64) {
        let Some((&key, missing)) = self.missing.range_mut((source, 0)..(source, at)).next_back() else {
            return;
        };
        if missing.end > at {
            let tail = *missing;
            missing.end = at;
            debug_assert!(key.1 < at);
            self.missing.insert((source, at), tail);
        }
    }

    fn take(&mut self, key: (SourceIndex, u64)) -> Option<Missing> {
        let missing = self.missing.remove(&key)?;
        if missing.asked.is_some() {
            self.outstanding -= missing.end - key.1;
        }
        Some(missing)
    }

    fn of_source(&self, source: SourceIndex) -> impl Iterator<Item = (SourceIndex, u64)> + '_ {
        self.missing.range((source, 0)..=(source, u64::MAX)).map(|(&key, _)| key)
    }

    /// Lets what waits for room go on once half of it is free.
    fn unblock(&mut self, now: Instant) {
        if self.blocked && self.outstanding * 2 <= self.outstanding_max {
            self.blocked = false;
            for missing in self.missing.values_mut().filter(|missing| missing.asked.is_none()) {
                missing.due = missing.due.min(now);
            }
            self.wake(now);
        }
    }

    fn wake(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }
}

/// What is asked of one neighbour in one round.
struct Request<P> {
    plain: Vec<SourceRanges<P>>,
    graft: Vec<SourceRanges<P>>,
}

/// Who has failed, in one round: a lost frame is one fault, however much was in it.
#[derive(Default)]
struct Faults {
    unanswered: Slots,
    unfed: Slots,
    /// One of the updates that were not pushed.
    owed: Option<(SourceIndex, u64)>,
}

impl<P> Default for Request<P> {
    fn default() -> Self {
        Self { plain: Vec::new(), graft: Vec::new() }
    }
}

impl<P: WirePeer> Gossip<P> {
    /// Notes that a neighbour has updates; those missing here are asked for when they are late.
    pub(super) fn note_holder(&mut self, slot: u8, has: &SourceRanges<P>, cause: Cause, now: Instant) {
        if self.is_from_unknown_life(has.origin, has.epoch, has.ranges.end()) {
            self.renew_epoch(has.epoch, now);
        }
        let tracked = self.log.track(has.origin, has.epoch, now);
        self.forget_replaced();
        let source = match tracked {
            Ok(source) => source,
            Err(_) => {
                self.stats.sources_refused += 1;
                return;
            }
        };
        let due = match cause {
            // What is on its way will be here by then; what is not is worth one more announcement's time.
            Cause::Synced if self.config.mode == GossipMode::Hybrid => {
                now + self.config.have_interval + self.puller.delay()
            }
            // The feeder itself says so after it has pushed: what has not come is lost.
            Cause::Announced if self.routes.is_feeder(source, slot) => now + self.puller.delay_min / 2,
            _ => now + self.puller.delay(),
        };
        for range in has.ranges.iter() {
            self.announcer.mark(source, range.clone(), Slots::one(slot));
            let Some(window) = self.log.window(source) else { return };
            let missing = window.missing_within(range);
            for range in missing.iter() {
                self.puller.note(source, range, slot, cause, now, due);
            }
        }
    }

    /// A pushed update arrived, so its pusher has those before it too, or will have.
    pub(super) fn note_gap(&mut self, source: SourceIndex, slot: u8, sequence: u64, now: Instant) {
        let Some(window) = self.log.window(source) else { return };
        if window.base() >= sequence {
            return;
        }
        let missing = window.missing_within(window.base()..sequence);
        let due = now + self.puller.delay_min;
        for range in missing.iter() {
            self.puller.note(source, range, slot, Cause::Gap, now, due);
        }
    }

    /// An update is here: it is no longer missing. Returns who said that they have it.
    pub(super) fn settle(&mut self, source: SourceIndex, sequence: u64, pulled: bool, now: Instant) -> Slots {
        if self.puller.is_idle() {
            return Slots::NONE;
        }
        let Some(missing) = self.puller.carve(source, sequence..sequence + 1, |_| None) else {
            return Slots::NONE;
        };
        if pulled {
            if missing.cause == Cause::Synced {
                self.syncer.found(now);
            }
        } else if missing.cause == Cause::Announced {
            let late = (now - missing.noticed).min(LATENESS_MAX);
            let decayed = self.puller.lateness * 15 / 16;
            self.puller.lateness = if late > decayed { late } else { decayed };
        }
        self.puller.unblock(now);
        missing.told
    }

    /// Asks for what is due, as far as the limit on outstanding updates allows.
    pub(super) fn pump(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if self.puller.is_idle() {
            self.puller.at = None;
            return;
        }
        if !self.puller.is_due(now) {
            return;
        }
        let due: Vec<_> = self
            .puller
            .missing
            .iter()
            .filter(|(_, missing)| missing.due <= now)
            .map(|(&key, _)| key)
            .collect();
        let mut requests: BTreeMap<u8, Request<P>> = BTreeMap::new();
        let mut faults = Faults::default();
        for key in due {
            if !self.give_up_if_lonely(key, actions) {
                self.ask(key, now, &mut requests, &mut faults);
            }
        }
        if let Some((source, sequence)) = faults.owed {
            self.try_untried(faults.unfed, source, sequence, now);
        }
        for slot in faults.unanswered.iter() {
            self.note_unanswered(slot, now, actions);
        }
        for slot in faults.unfed.iter() {
            self.note_unfed(slot, now, actions);
        }
        for (slot, request) in requests {
            for (graft, list) in [(false, request.plain), (true, request.graft)] {
                for sources in pages(list, self.list_bytes_max) {
                    self.stats.wants_sent += 1;
                    self.send(slot, GossipMessage::Want { graft, sources }, actions);
                }
            }
        }
        self.puller.at = self.puller.missing.values().map(|missing| missing.due).min();
        self.mend_shared(now, actions);
    }

    /// A range that one neighbour has let go of, and nobody else has heard of in a long time, is given up.
    fn give_up_if_lonely(&mut self, key: (SourceIndex, u64), actions: &mut Vec<GossipAction<P>>) -> bool {
        let (source, start) = key;
        let lonely = |missing: &&Missing| missing.holders.is_empty() && !missing.gone.is_empty();
        let Some(end) = self.puller.missing.get(&key).filter(lonely).map(|missing| missing.end) else {
            return false;
        };
        self.puller.take(key);
        let lost = self.log.close(source, start..end);
        self.report_lag(source, &lost, LagReason::Expired, actions);
        true
    }

    /// Decides about one range that is due: which holder to ask, or that it is dropped.
    fn ask(
        &mut self,
        key: (SourceIndex, u64),
        now: Instant,
        requests: &mut BTreeMap<u8, Request<P>>,
        faults: &mut Faults,
    ) {
        let (source, start) = key;
        let Some(mut missing) = self.puller.take(key) else { return };
        let Some((origin, epoch)) = self.log.name(source) else { return };
        let rounds = missing.attempts / missing.holders.len().max(1) as u8;
        let last = missing.asked.take();
        if let Some(slot) = last {
            faults.unanswered |= Slots::one(slot);
        }
        let trusted = missing.holders.unless_empty(missing.holders & !self.conduct.distrusted());
        let Some(slot) = trusted.next_after(last.unwrap_or(63)).filter(|_| rounds < ROUNDS_MAX) else {
            self.stats.wants_dropped += 1;
            return;
        };
        let room = self.puller.outstanding_max.saturating_sub(self.puller.outstanding);
        if room == 0 {
            self.puller.blocked = true;
            missing.due = now + self.peers.answer_timeout(slot);
            self.puller.missing.insert(key, missing);
            return;
        }
        if missing.end - start > room {
            self.puller.blocked = true;
            let rest = Missing { due: now + self.peers.answer_timeout(slot), ..missing };
            missing.end = start + room;
            self.puller.missing.insert((source, missing.end), rest);
        }
        self.puller.outstanding += missing.end - start;
        missing.asked = Some(slot);
        missing.attempts = missing.attempts.saturating_add(1);
        missing.due = now + self.peers.answer_timeout(slot) * u32::from(missing.attempts.min(4));
        self.puller.missing.insert(key, missing);

        // Only a missed announcement says something about the tree: after a gap the feeder is at work, and what
        // reconciliation finds is history.
        let is_miss = self.config.mode == GossipMode::Hybrid && missing.cause == Cause::Announced;
        let is_cold = self.shared.links().is_some() && !self.routes.has_own_tree(source);
        let untried =
            self.routes.own_feeder(source).is_some_and(|feeder| self.conduct.avoid().contains(feeder));
        let graft = is_miss && !is_cold && (self.routes.on_miss(source, origin.digest()) || untried);
        if is_miss && missing.attempts == 1 {
            let feeder = if is_cold { self.parent() } else { self.routes.own_feeder(source) };
            // An origin has nothing to gain by holding back what it publishes: that was lost on the way.
            let relay = feeder.filter(|&feeder| self.peers.get(feeder) != Some(origin));
            if let Some(relay) = relay {
                faults.unfed |= Slots::one(relay);
                faults.owed = Some(key);
            }
        }
        if graft {
            self.stats.grafts_sent += 1;
            self.routes.on_graft_sent(source, slot);
        }
        let request = requests.entry(slot).or_default();
        let list = if graft { &mut request.graft } else { &mut request.plain };
        match list.last_mut() {
            Some(last) if last.origin == origin && last.epoch == epoch => {
                last.ranges.insert(start..missing.end);
            }
            _ => list.push(SourceRanges { origin, epoch, ranges: RangeSet::from(start..missing.end) }),
        }
    }

    /// A hot source has fallen silent: perhaps its feeder has, so others are asked for whatever came since.
    pub(super) fn feed_starving(
        &mut self,
        source: SourceIndex,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let Some((origin, epoch)) = self.log.name(source) else { return };
        let ranges = self.ahead(source);
        if ranges.is_empty() {
            return;
        }
        let Some(slot) = self.routes.try_feeder(source, self.peers.all()) else { return };
        self.routes.set_alarm(source, now + self.peers.answer_timeout(slot));
        self.silence |= self.routes.tries(source) == SILENT_TRIES;
        self.stats.wants_sent += 1;
        let sources = alloc::vec![SourceRanges { origin, epoch, ranges }];
        self.send(slot, GossipMessage::Want { graft: false, sources }, actions);
    }

    /// Whether a hot source has fallen silent and those asked in its stead did not answer: perhaps nobody is there any more.
    pub(crate) fn take_silence(&mut self) -> bool {
        core::mem::take(&mut self.silence)
    }

    /// Updates of a source that nobody here has heard of yet; none if it has used up its sequences.
    pub(super) fn ahead(&self, source: SourceIndex) -> RangeSet {
        let end = self.log.window(source).map_or(0, |window| window.end());
        RangeSet::from(end..(end + AHEAD).min(SEQUENCE_MAX).max(end))
    }

    /// A neighbour asks for updates, and perhaps to be pushed the later ones.
    pub(super) fn on_want(
        &mut self,
        slot: u8,
        graft: bool,
        sources: &[SourceRanges<P>],
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.wants_received += 1;
        let mut left = self.config.wants_outstanding_max;
        let mut bytes_left = ANSWER_BYTES_MAX;
        let mut gone = Vec::new();
        for wanted in sources {
            let Some(source) = self.log.source(wanted.origin, wanted.epoch) else { continue };
            if graft {
                self.stats.grafts_received += 1;
                self.routes.on_graft(source, wanted.origin.digest(), slot);
            }
            let (Some(end), Some(held)) =
                (self.log.window(source).map(|window| window.end()), Some(self.log.held(source)))
            else {
                continue;
            };
            for range in wanted.ranges.iter() {
                for sequence in held.within(range.start..range.end.min(end)).iter().flatten() {
                    if left == 0 || bytes_left == 0 {
                        break;
                    }
                    if let Some(data) = self.log.body(source, sequence, now) {
                        left -= 1;
                        bytes_left = bytes_left.saturating_sub(data.body.len());
                        self.send_data(slot, Data { pulled: true, ..data }, actions);
                    }
                }
            }
            let lost = self.gone(source, &wanted.ranges, &held);
            if !lost.is_empty() {
                gone.push(SourceRanges { origin: wanted.origin, epoch: wanted.epoch, ranges: lost });
            }
        }
        for sources in pages(gone, self.list_bytes_max) {
            self.send(slot, GossipMessage::Gone { sources }, actions);
        }
    }

    /// What is known here but no longer held: the whole of each range that touches what was asked for, so that a late
    /// joiner learns in one answer that a long history is gone.
    fn gone(&self, source: SourceIndex, wanted: &RangeSet, held: &RangeSet) -> RangeSet {
        let Some(window) = self.log.window(source) else { return RangeSet::new() };
        let mut lost = window.known();
        lost.subtract(held);
        lost.iter().filter(|range| !wanted.within(range.clone()).is_empty()).collect()
    }

    /// A neighbour no longer holds what was asked of it: others are tried, and if they have let go of it too, it is given
    /// up.
    pub(super) fn on_gone(
        &mut self,
        slot: u8,
        sources: &[SourceRanges<P>],
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.trials.end(slot);
        for lost in sources {
            let Some(source) = self.log.source(lost.origin, lost.epoch) else { continue };
            let mut given_up = RangeSet::new();
            for range in lost.ranges.iter() {
                for cut in [range.start, range.end] {
                    self.puller.split(source, cut);
                }
                let keys: Vec<_> =
                    self.puller.of_source(source).filter(|key| range.contains(&key.1)).collect();
                for key in keys {
                    self.on_range_gone(key, slot, now, &mut given_up);
                }
            }
            let mut reported = RangeSet::new();
            for range in given_up.iter() {
                reported.union_with(&self.log.close(source, range));
            }
            self.report_lag(source, &reported, LagReason::Expired, actions);
        }
        self.pump(now, actions);
    }

    fn on_range_gone(&mut self, key: (SourceIndex, u64), slot: u8, now: Instant, given_up: &mut RangeSet) {
        let Some(mut missing) = self.puller.take(key) else { return };
        missing.asked = None;
        missing.holders.remove(slot);
        missing.gone |= Slots::one(slot);
        missing.attempts = 0;
        missing.due = now;
        let from_origin = self.log.name(key.0).map(|(origin, _)| origin) == self.peers.get(slot);
        let nobody_else = (self.peers.all() & !missing.gone).is_empty();
        if missing.holders.is_empty() {
            if from_origin || nobody_else || missing.gone.len() >= GONE_VOTES {
                given_up.insert(key.1..missing.end);
                return;
            }
            // Reconciliation will find another who knew it, or who still holds it.
            missing.due = now + SECOND_OPINION;
        }
        self.puller.missing.insert(key, missing);
        self.puller.wake(now);
    }
}
