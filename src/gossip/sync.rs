//! Reconciliation between two neighbours (anti-entropy).
//!
//! A node sends the fingerprint of all it knows to one neighbour. If it differs there, the neighbour answers with what it
//! knows of each source, or, if these are many, with fingerprints of intervals of origins, and so on: range-based set
//! reconciliation over origins. The cost follows the difference, and every message fits one frame.

use alloc::vec::Vec;
use core::time::Duration;

use super::page::{known, source_bytes};
use super::peers::Slots;
use super::pull::Cause;
use super::{Gossip, GossipAction};
use crate::config::GossipConfig;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::{GossipMessage, SourceRanges, SyncItem, SyncKnown, WirePeer};

/// Sources that are listed outright rather than split into intervals.
const LIST_MAX: usize = 24;

/// Intervals that a differing one is split into.
const SPLIT: usize = 16;

/// Frames sent in answer to one page, at most; the next round does the rest.
const PAGES_MAX: usize = 16;

/// How soon a new neighbour is reconciled with, at most.
const FIRST_SYNC: Duration = Duration::from_millis(100);

/// When to reconcile, and with whom.
#[derive(Debug)]
pub(super) struct Syncer {
    interval: Duration,
    interval_min: Duration,
    interval_max: Duration,
    at: Option<Instant>,
    /// New neighbours, which come first.
    unmet: Slots,
}

impl Syncer {
    pub(super) fn new(config: &GossipConfig) -> Self {
        Self {
            interval: config.sync_interval_min,
            interval_min: config.sync_interval_min,
            interval_max: config.sync_interval_max,
            at: None,
            unmet: Slots::NONE,
        }
    }

    pub(super) fn neighbor_up(&mut self, slot: u8, now: Instant, rng: &mut Rng) {
        self.unmet |= Slots::one(slot);
        let soon = now + Duration::from_micros(rng.between(0, FIRST_SYNC.as_micros() as u64));
        self.at = Some(self.at.map_or(soon, |at| at.min(soon)));
    }

    pub(super) fn neighbor_down(&mut self, slot: u8) {
        self.unmet.remove(slot);
    }

    /// Reconciliation brought something: there may be more.
    pub(super) fn found(&mut self, now: Instant) {
        self.interval = self.interval_min;
        let soon = now + self.interval;
        self.at = Some(self.at.map_or(soon, |at| at.min(soon)));
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    fn next(&mut self, all: Slots, now: Instant, rng: &mut Rng) -> Option<u8> {
        if let Some(slot) = (self.unmet & all).iter().next() {
            self.unmet.remove(slot);
            let soon = if self.unmet.is_empty() { self.interval } else { FIRST_SYNC };
            self.at = Some(now + soon);
            return Some(slot);
        }
        let micros = self.interval.as_micros() as u64;
        self.at = Some(now + Duration::from_micros(rng.between(micros * 3 / 4, micros * 5 / 4 + 1)));
        self.interval = (self.interval * 3 / 2).min(self.interval_max);
        all.pick(rng)
    }
}

impl<P: WirePeer> Gossip<P> {
    /// Starts a round with one neighbour.
    pub(super) fn begin_sync(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let Some(slot) = self.syncer.next(self.peers.all(), now, &mut self.rng) else { return };
        self.stats.syncs_sent += 1;
        let known = SyncKnown::Fingerprint(self.log.fingerprint());
        let items = alloc::vec![SyncItem { upper: None, known }];
        self.send(slot, GossipMessage::Sync { lower: None, items }, actions);
    }

    /// Answers a page: nothing where both know the same.
    pub(super) fn on_sync(
        &mut self,
        slot: u8,
        lower: Option<P>,
        items: Vec<SyncItem<P>>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.syncs_received += 1;
        let mut from = lower;
        let mut answers = Vec::new();
        for item in items {
            let upper = item.upper;
            match item.known {
                SyncKnown::Skip => {}
                SyncKnown::Fingerprint(theirs) => {
                    if theirs != self.fingerprint(from, upper) {
                        self.stats.syncs_differing += 1;
                        self.describe(from, upper, &mut answers);
                    }
                }
                SyncKnown::Sources(theirs) => {
                    let news = self.missing_from(from, upper, &theirs);
                    self.learn(slot, &theirs, now);
                    if !news.is_empty() {
                        answers.push((from, SyncItem { upper, known: SyncKnown::Answer(news) }));
                    }
                }
                SyncKnown::Answer(theirs) => self.learn(slot, &theirs, now),
            }
            from = upper;
        }
        self.send_answers(slot, answers, actions);
        self.pump(now, actions);
    }

    fn learn(&mut self, slot: u8, theirs: &[SourceRanges<P>], now: Instant) {
        for source in theirs {
            self.note_holder(slot, source, Cause::Synced, now);
        }
    }

    fn fingerprint(&self, lower: Option<P>, upper: Option<P>) -> u64 {
        if lower.is_none() && upper.is_none() {
            return self.log.fingerprint();
        }
        let sums = self.log.interval(lower, upper).map(|(_, _, window)| window.fingerprint());
        sums.fold(0, u64::wrapping_add)
    }

    /// What is known between two origins: source by source if they are few, else fingerprints of parts.
    fn describe(&self, lower: Option<P>, upper: Option<P>, answers: &mut Vec<(Option<P>, SyncItem<P>)>) {
        let count = self.log.interval(lower, upper).count();
        if count <= LIST_MAX {
            let sources = self.log.interval(lower, upper);
            let list: Vec<_> =
                sources.map(|(origin, epoch, window)| known(origin, epoch, window.known())).collect();
            answers.push((lower, SyncItem { upper, known: SyncKnown::Sources(list) }));
            return;
        }
        let part_len = count.div_ceil(SPLIT);
        let (mut from, mut sum, mut in_part) = (lower, 0u64, 0);
        let mut last = None;
        for (origin, _, window) in self.log.interval(lower, upper) {
            // A part ends between two origins, never between two lives of one.
            if in_part >= part_len && last != Some(origin) {
                answers.push((from, SyncItem { upper: Some(origin), known: SyncKnown::Fingerprint(sum) }));
                (from, sum, in_part) = (Some(origin), 0, 0);
            }
            sum = sum.wrapping_add(window.fingerprint());
            in_part += 1;
            last = Some(origin);
        }
        answers.push((from, SyncItem { upper, known: SyncKnown::Fingerprint(sum) }));
    }

    /// What is known here between two origins and not by the writer of `theirs`.
    fn missing_from(
        &self,
        lower: Option<P>,
        upper: Option<P>,
        theirs: &[SourceRanges<P>],
    ) -> Vec<SourceRanges<P>> {
        let mut news = Vec::new();
        for (origin, epoch, window) in self.log.interval(lower, upper) {
            let mut ranges = window.known();
            for other in theirs.iter().filter(|other| (other.origin, other.epoch) == (origin, epoch)) {
                ranges.subtract(&other.ranges);
            }
            if !ranges.is_empty() {
                news.push(known(origin, epoch, ranges));
            }
        }
        news
    }

    /// Packs answers into frames, in the order of origins.
    fn send_answers(
        &mut self,
        slot: u8,
        answers: Vec<(Option<P>, SyncItem<P>)>,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let mut sent = 0;
        let mut page: Vec<SyncItem<P>> = Vec::new();
        let mut page_lower = None;
        let mut page_bytes = 0;
        let mut page_upper = None;
        let bytes_max = self.list_bytes_max;
        let mut flush = |lower: Option<P>, items: &mut Vec<SyncItem<P>>| {
            if !items.is_empty() && sent < PAGES_MAX {
                sent += 1;
                let items = core::mem::take(items);
                self.send(slot, GossipMessage::Sync { lower, items }, actions);
            }
            items.clear();
        };
        for (lower, item) in answers {
            for (lower, item) in split_item(lower, item, bytes_max) {
                let bytes = item_bytes(&item) + 2 * (P::WIRE_BYTES + 2);
                if !page.is_empty() && (page_bytes + bytes > bytes_max || page_upper.is_none()) {
                    flush(page_lower, &mut page);
                    page_bytes = 0;
                }
                if page.is_empty() {
                    page_lower = lower;
                } else if page_upper != lower {
                    page.push(SyncItem { upper: lower, known: SyncKnown::Skip });
                }
                page_upper = item.upper;
                page_bytes += bytes;
                page.push(item);
            }
        }
        flush(page_lower, &mut page);
    }
}

/// Cuts a list of sources that does not fit one frame into several intervals.
fn split_item<P: WirePeer>(
    lower: Option<P>,
    item: SyncItem<P>,
    bytes_max: usize,
) -> Vec<(Option<P>, SyncItem<P>)> {
    let (list, answer) = match item.known {
        SyncKnown::Sources(list) => (list, false),
        SyncKnown::Answer(list) => (list, true),
        SyncKnown::Skip | SyncKnown::Fingerprint(_) => return alloc::vec![(lower, item)],
    };
    let wrap = |list| if answer { SyncKnown::Answer(list) } else { SyncKnown::Sources(list) };
    let list_bytes: usize = list.iter().map(source_bytes).sum();
    let budget = bytes_max.saturating_sub(4 * (P::WIRE_BYTES + 2));
    if list_bytes <= budget {
        return alloc::vec![(lower, SyncItem { upper: item.upper, known: wrap(list) })];
    }
    let mut parts = Vec::new();
    let (mut from, mut part, mut bytes) = (lower, Vec::new(), 0);
    let mut last = None;
    for source in list {
        let size = source_bytes(&source);
        if !part.is_empty() && bytes + size > budget && last != Some(source.origin) {
            let upper = Some(source.origin);
            parts.push((from, SyncItem { upper, known: wrap(core::mem::take(&mut part)) }));
            (from, bytes) = (upper, 0);
        }
        last = Some(source.origin);
        bytes += size;
        part.push(source);
    }
    parts.push((from, SyncItem { upper: item.upper, known: wrap(part) }));
    parts
}

fn item_bytes<P: WirePeer>(item: &SyncItem<P>) -> usize {
    match &item.known {
        SyncKnown::Skip => 1,
        SyncKnown::Fingerprint(_) => 9,
        SyncKnown::Sources(list) | SyncKnown::Answer(list) => {
            4 + list.iter().map(source_bytes).sum::<usize>()
        }
    }
}
