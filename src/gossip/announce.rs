//! Who is told of updates that were not pushed to it.

use alloc::vec::Vec;
use core::ops::Range;

use smallvec::SmallVec;

use super::page::pages;
use super::peers::Slots;
use super::{Gossip, GossipAction};
use crate::log::{RangeSet, SourceIndex};
use crate::time::Instant;
use crate::wire::{Data, GossipMessage, SourceRanges, WirePeer};

/// Updates kept for announcement, at most; then they are announced at once, whatever the time.
const FRESH_MAX: usize = 1_024;

/// Gathers announcements, so that many updates share one message, and leaves out those who have proved to know.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    /// By source and in the order of arrival; few at any time.
    fresh: Vec<Fresh>,
    at: Option<Instant>,
}

#[derive(Debug)]
struct Fresh {
    source: SourceIndex,
    sequence: u64,
    have_it: Slots,
}

impl Announcer {
    /// Notes a new update that `have_it` need not be told of, to be announced at `at` at the latest.
    pub(super) fn note(&mut self, source: SourceIndex, sequence: u64, have_it: Slots, at: Instant) {
        self.fresh.push(Fresh { source, sequence, have_it });
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// `slots` have proved to know some updates.
    pub(super) fn mark(&mut self, source: SourceIndex, sequences: Range<u64>, slots: Slots) {
        for fresh in &mut self.fresh {
            if fresh.source == source && sequences.contains(&fresh.sequence) {
                fresh.have_it |= slots;
            }
        }
    }

    pub(super) fn neighbor_down(&mut self, slot: u8) {
        for fresh in &mut self.fresh {
            fresh.have_it.remove(slot);
        }
    }

    pub(super) fn forget(&mut self, source: SourceIndex) {
        self.fresh.retain(|fresh| fresh.source != source);
    }

    pub(super) fn is_full(&self) -> bool {
        self.fresh.len() >= FRESH_MAX
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }
}

impl<P: WirePeer> Gossip<P> {
    /// Announces one update at once to everybody but `have_it`.
    pub(super) fn flash(&mut self, data: &Data<P>, have_it: Slots, actions: &mut Vec<GossipAction<P>>) {
        let ranges = RangeSet::from(data.sequence..data.sequence + 1);
        let source = SourceRanges { origin: data.origin, epoch: data.epoch, ranges };
        for slot in (self.peers.all() & !have_it).iter() {
            self.stats.haves_sent += 1;
            let sources = alloc::vec![source.clone()];
            self.send(slot, GossipMessage::Have { sources }, actions);
        }
    }

    /// Sends what was gathered.
    pub(super) fn announce(&mut self, actions: &mut Vec<GossipAction<P>>) {
        self.announcer.at = None;
        let mut fresh = core::mem::take(&mut self.announcer.fresh);
        fresh.sort_by_key(|fresh| fresh.source);
        for slot in self.peers.all().iter() {
            let mut list: Vec<SourceRanges<P>> = Vec::new();
            for of_source in fresh.chunk_by(|a, b| a.source == b.source) {
                let unknown = of_source.iter().filter(|fresh| !fresh.have_it.contains(slot));
                let ranges: RangeSet = unknown.map(|fresh| fresh.sequence..fresh.sequence + 1).collect();
                if let (false, Some((origin, epoch))) =
                    (ranges.is_empty(), self.log.name(of_source[0].source))
                {
                    list.push(SourceRanges { origin, epoch, ranges });
                }
            }
            let messages: SmallVec<[_; 2]> = pages(list, self.list_bytes_max).collect();
            for sources in messages {
                self.stats.haves_sent += 1;
                self.send(slot, GossipMessage::Have { sources }, actions);
            }
        }
        fresh.clear();
        self.announcer.fresh = fresh;
    }
}
