//! Who is told of updates that were not pushed to it.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use smallvec::SmallVec;

use super::page::pages;
use super::peers::Slots;
use super::{Gossip, GossipAction};
use crate::log::{RangeSet, SourceIndex};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::{GossipMessage, SourceRanges, WirePeer};

/// Updates kept for announcement, at most; then they are announced at once, whatever the time.
const FRESH_MAX: usize = 1_024;

/// How long after an update those it was pushed to are told of it, where frames get lost.
const TAIL_AFTER: Duration = Duration::from_millis(10);

/// How many times the interval passes between two announcements while the trees bring everything: a hot source that falls
/// silent is noticed without them.
const CALM_INTERVALS: u32 = 2;

/// A loss is remembered this long.
const LOSSY: Duration = Duration::from_secs(120);

/// Gathers announcements, so that many updates share one message, and leaves out those who have proved to know.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    /// By source and in the order of arrival; few at any time.
    fresh: Vec<Fresh>,
    /// How many updates that is.
    count: usize,
    /// The neighbour that was told last.
    last: u8,
    at: Option<Instant>,
    tail: Option<Tail>,
    /// Losses were noticed until then.
    lossy_until: Option<Instant>,
}

/// The update that was pushed last: where frames get lost, those it was pushed to are told again that it was.
#[derive(Clone, Copy, Debug)]
struct Tail {
    source: SourceIndex,
    sequence: u64,
    to: Slots,
    at: Instant,
}

/// Updates of a source in a row that the same neighbours have: mostly all, as one tree brings them.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    source: SourceIndex,
    count: u32,
    first: u64,
    have_it: Slots,
}

impl Fresh {
    fn sequences(&self) -> Range<u64> {
        self.first..self.first + u64::from(self.count)
    }

    /// The updates of `range` among these.
    fn part(&self, range: &Range<u64>) -> Range<u64> {
        let own = self.sequences();
        range.start.clamp(own.start, own.end)..range.end.clamp(own.start, own.end)
    }
}

impl Announcer {
    /// Notes a new update that `have_it` need not be told of.
    pub(super) fn note(&mut self, source: SourceIndex, sequence: u64, have_it: Slots) {
        self.count += 1;
        if let Some(last) = self.fresh.last_mut() {
            let follows = last.source == source && last.sequences().end == sequence;
            if follows && last.have_it == have_it && last.count < u32::MAX {
                last.count += 1;
                return;
            }
        }
        self.fresh.push(Fresh { source, count: 1, first: sequence, have_it });
    }

    /// Announcements go on within an interval.
    pub(super) fn wake(&mut self, now: Instant, interval: Duration, rng: &mut Rng) {
        if self.at.is_none() {
            // Neighbours that heard at the same time should not all speak at the same time.
            self.at = Some(now + Duration::from_micros(rng.between(0, interval.as_micros() as u64 + 1)));
        }
    }

    /// `slots` have proved to know some updates.
    pub(super) fn mark(&mut self, source: SourceIndex, sequences: Range<u64>, slots: Slots) {
        let mut at = 0;
        while let Some(&fresh) = self.fresh.get(at) {
            let marked = fresh.part(&sequences);
            if fresh.source != source || marked.is_empty() || fresh.have_it | slots == fresh.have_it {
                at += 1;
                continue;
            }
            // What lies before and behind stays as it is.
            let own = fresh.sequences();
            let parts = [
                (own.start..marked.start, fresh.have_it),
                (marked.clone(), fresh.have_it | slots),
                (marked.end..own.end, fresh.have_it),
            ];
            let parts = parts.into_iter().filter(|(part, _)| !part.is_empty());
            let parts: SmallVec<[Fresh; 3]> = parts
                .map(|(part, have_it)| Fresh {
                    source,
                    count: (part.end - part.start) as u32,
                    first: part.start,
                    have_it,
                })
                .collect();
            let count = parts.len();
            self.fresh.splice(at..=at, parts);
            at += count;
        }
    }

    /// Those that are left are still to be announced.
    fn retain(&mut self, keep: impl Fn(&Fresh) -> bool) {
        self.fresh.retain(keep);
        self.count = self.fresh.iter().map(|fresh| fresh.count as usize).sum();
        if self.fresh.capacity() > 4 && self.fresh.len() * 4 <= self.fresh.capacity() {
            self.fresh.shrink_to(self.fresh.len() * 2);
        }
    }

    /// A frame to or from a neighbour was lost.
    pub(super) fn note_loss(&mut self, now: Instant) {
        self.lossy_until = Some(now + LOSSY);
    }

    /// Whether frames have got lost lately.
    pub(super) fn is_lossy(&self, now: Instant) -> bool {
        self.lossy_until.is_some_and(|until| now < until)
    }

    /// An update was pushed. The next one shows by itself if this was lost; only the last needs to be told of.
    pub(super) fn note_push(&mut self, source: SourceIndex, sequence: u64, to: Slots, now: Instant) {
        if !to.is_empty() && self.is_lossy(now) {
            self.tail = Some(Tail { source, sequence, to, at: now + TAIL_AFTER });
        }
    }

    pub(super) fn neighbor_down(&mut self, slot: u8) {
        if let Some(tail) = &mut self.tail {
            tail.to.remove(slot);
        }
        for fresh in &mut self.fresh {
            fresh.have_it.remove(slot);
        }
    }

    pub(super) fn forget(&mut self, source: SourceIndex) {
        self.retain(|fresh| fresh.source != source);
        self.tail = self.tail.filter(|tail| tail.source != source);
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= FRESH_MAX
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest([self.at, self.tail.map(|tail| tail.at)])
    }
}

impl<P: WirePeer> Gossip<P> {
    /// Tells the next neighbour all that it has not been told. One at a time: so everybody hears from somebody often, and
    /// from each rarely.
    pub(super) fn announce(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        self.announcer.at = None;
        let all = self.peers.all();
        let untold = |fresh: &Fresh| all & !fresh.have_it;
        let uninformed = self.announcer.fresh.iter().fold(Slots::NONE, |slots, fresh| slots | untold(fresh));
        if let Some(slot) = uninformed.next_after(self.announcer.last) {
            self.announcer.last = slot;
            self.tell(slot, actions);
        }
        self.announcer.retain(|fresh| !untold(fresh).is_empty());
        if !self.announcer.fresh.is_empty() {
            // With many neighbours the round must not take for ever.
            let pace = if self.trees_suffice(now) { CALM_INTERVALS } else { 1 };
            let interval = self.config.have_interval * pace * 8 / (all.len().max(8) as u32);
            let micros = interval.as_micros() as u64;
            self.announcer.at =
                Some(now + Duration::from_micros(self.rng.between(micros * 3 / 4, micros * 5 / 4 + 1)));
        }
    }

    /// Whether nothing gets lost, nobody was found out, and all that is to be announced went along trees of its source.
    fn trees_suffice(&self, now: Instant) -> bool {
        let has_tree = |fresh: &Fresh| self.routes.has_own_tree(fresh.source);
        let is_calm = !self.announcer.is_lossy(now) && self.conduct.distrusted().is_empty();
        is_calm && self.announcer.fresh.iter().all(has_tree)
    }

    /// Tells those to whom the last update was pushed, if no other followed.
    pub(super) fn announce_tail(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let Some(tail) = self.announcer.tail.take_if(|tail| tail.at <= now) else { return };
        let Some((origin, epoch)) = self.log.name(tail.source) else { return };
        let ranges = RangeSet::from(tail.sequence..tail.sequence + 1);
        for slot in (tail.to & self.peers.all()).iter() {
            self.stats.haves_sent += 1;
            let sources = alloc::vec![SourceRanges { origin, epoch, ranges: ranges.clone() }];
            self.send(slot, GossipMessage::Have { sources }, actions);
        }
    }

    /// Tells everybody at once.
    pub(super) fn announce_all(&mut self, actions: &mut Vec<GossipAction<P>>) {
        for slot in self.peers.all().iter() {
            self.tell(slot, actions);
        }
        self.announcer.retain(|_| false);
        self.announcer.at = None;
    }

    /// Tells one neighbour all that it has not been told.
    pub(super) fn tell(&mut self, slot: u8, actions: &mut Vec<GossipAction<P>>) {
        let mut fresh = core::mem::take(&mut self.announcer.fresh);
        fresh.sort_by_key(|fresh| fresh.source);
        let mut list: Vec<SourceRanges<P>> = Vec::new();
        for of_source in fresh.chunk_by_mut(|a, b| a.source == b.source) {
            let mut ranges = RangeSet::new();
            for fresh in of_source.iter_mut().filter(|fresh| !fresh.have_it.contains(slot)) {
                ranges.insert(fresh.sequences());
                fresh.have_it |= Slots::one(slot);
            }
            if let (false, Some((origin, epoch))) = (ranges.is_empty(), self.log.name(of_source[0].source)) {
                list.push(SourceRanges { origin, epoch, ranges });
            }
        }
        self.announcer.fresh = fresh;
        let messages: SmallVec<[_; 2]> = pages(list, self.list_bytes_max).collect();
        for sources in messages {
            self.stats.haves_sent += 1;
            self.send(slot, GossipMessage::Have { sources }, actions);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Runs say of each update what a list of single ones says.
        #[test]
        fn runs_equal_single_updates(
            steps in prop::collection::vec((0u32..3, 0u64..12, 1u64..6, 0u8..4, any::<bool>()), 1..60),
        ) {
            let mut announcer = Announcer::default();
            let mut model: BTreeMap<(SourceIndex, u64), Slots> = BTreeMap::new();
            let mut next = [0u64; 3];
            for (source, from, length, slot, mark) in steps {
                let (index, slots) = (SourceIndex(source), Slots::one(slot));
                if mark {
                    announcer.mark(index, from..from + length, slots);
                    for (_, have_it) in model.range_mut((index, from)..(index, from + length)) {
                        *have_it |= slots;
                    }
                } else {
                    let sequence = next[source as usize];
                    // Now and then one comes by another way.
                    next[source as usize] += 1 + u64::from(length == 5);
                    announcer.note(index, sequence, slots);
                    model.insert((index, sequence), slots);
                }
                let listed: BTreeMap<_, _> = announcer
                    .fresh
                    .iter()
                    .flat_map(|fresh| fresh.sequences().map(|at| ((fresh.source, at), fresh.have_it)))
                    .collect();
                prop_assert_eq!(&listed, &model);
                prop_assert_eq!(announcer.count, model.len());
            }
            announcer.retain(|fresh| fresh.have_it.contains(0));
            model.retain(|_, have_it| have_it.contains(0));
            prop_assert_eq!(announcer.count, model.len());
            announcer.forget(SourceIndex(1));
            prop_assert!(announcer.fresh.iter().all(|fresh| fresh.source != SourceIndex(1)));
        }
    }
}
