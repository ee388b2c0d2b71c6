//! How the neighbours behave: what each may ask and say, and what it is trusted with.
//!
//! Only what this node saw itself counts. A neighbour that had an update, as its announcement proves, and did not push it
//! though it is the feeder, or did not send it when asked, collects points; each update of somebody else that it brings
//! takes some off. Many points cost it the part of a feeder, more of them its place among the neighbours.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::peers::{SLOTS_MAX, Slots};
use super::{Gossip, GossipAction};
use crate::config::{BudgetConfig, ScoreConfig, SharedGossip};
use crate::io::Offence;
use crate::membership::Score;
use crate::time::Instant;
use crate::wire::{Data, GossipMessage, SourceRanges, SyncKnown, WirePeer};

/// Points for a request that was not answered. One loss in ten of the answers of an honest neighbour is made up for.
const UNANSWERED: u32 = 5;

/// Points for an update that the feeder did not push, though others had it: from one that has brought something before, and
/// from one that never did. The origin of an update is not blamed for it: that was lost on the way.
const UNFED: u32 = 4;
const UNFED_UNTRIED: u32 = 10;

/// Points off for an update that a neighbour brought first.
const BROUGHT: u32 = 2;

/// Updates that test a tree.
const TESTS: u32 = 2;

/// A shared tree that was not in use for so long is tested again.
const TEST_AGAIN: Duration = Duration::from_secs(60);

/// An excess is reported once in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Seconds' worth of each budget that may come at once.
const WANTS_BURST_S: u64 = 1;
const NEWS_BURST_S: u64 = 2;
const ORIGINS_BURST_S: u64 = 16;

/// The conduct of all neighbours.
#[derive(Debug)]
pub(super) struct Conduct {
    config: SharedGossip,
    slots: SmallVec<[Record; 0]>,
    /// Those with too many points to feed this node.
    distrusted: Slots,
    /// Those that have brought updates of others.
    proven: Slots,
    /// When the shared tree carried something last, and how much without a long break.
    shared_carried: (Instant, u32),
    /// Peers that are no neighbours share one budget.
    strangers: Record,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    score: Score,
    wants: Allowance,
    news: Allowance,
    origins: Allowance,
    reported: Option<Instant>,
}

/// A token bucket: when what came so far would have been due at the allowed rate.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    due: Instant,
}

impl Allowance {
    /// Takes `amount`, if what came before is due within `burst_s` seconds. What exceeds that by itself still passes once.
    fn take(&mut self, amount: u64, rate: u32, burst_s: u64, now: Instant) -> bool {
        let due = self.due.max(now);
        if amount > 0 && due >= now + Duration::from_secs(burst_s) {
            return false;
        }
        self.due = due + Duration::from_micros(amount.saturating_mul(1_000_000) / u64::from(rate.max(1)));
        true
    }
}

impl Conduct {
    pub(super) fn new(config: SharedGossip) -> Self {
        Self {
            config,
            slots: SmallVec::new(),
            distrusted: Slots::NONE,
            proven: Slots::NONE,
            shared_carried: Default::default(),
            strangers: Record::default(),
        }
    }

    pub(super) fn neighbor_up(&mut self, slot: u8) {
        let place = usize::from(slot).min(SLOTS_MAX - 1);
        if place >= self.slots.len() {
            self.slots.reserve_exact(place + 1 - self.slots.len());
            self.slots.resize(place + 1, Record::default());
        }
        self.slots[place] = Record::default();
        self.distrusted.remove(slot);
        self.proven.remove(slot);
    }

    pub(super) fn distrusted(&self) -> Slots {
        self.distrusted
    }

    /// Who should not feed this node, if there is another. Once bitten, it takes only those that have proved themselves.
    pub(super) fn avoid(&self) -> Slots {
        if self.distrusted.is_empty() { Slots::NONE } else { !self.proven | self.distrusted }
    }

    /// Whether an update along a tree is to be announced at once, too: the first few show who does not pass them on.
    ///
    /// Only where somebody was found out already: among the honest it would bring nothing but announcements.
    pub(super) fn tests(&mut self, own_tree: bool, carried: u32, now: Instant) -> bool {
        if own_tree || self.distrusted.is_empty() {
            return carried <= TESTS && !self.distrusted.is_empty();
        }
        let (last, count) = &mut self.shared_carried;
        if now - *last > TEST_AGAIN {
            *count = 0;
        }
        (*last, *count) = (now, count.saturating_add(1));
        *count <= TESTS
    }

    pub(super) fn is_proven(&self, slot: u8) -> bool {
        self.proven.contains(slot)
    }

    /// A neighbour brought an update of somebody else; whether as the first.
    fn praise(&mut self, slot: u8, first: bool, now: Instant) {
        let Some(record) = self.slots.get_mut(usize::from(slot)) else { return };
        if !self.proven.contains(slot) {
            // What it was blamed for was what it had not got itself.
            self.proven |= Slots::one(slot);
            record.score = Score::default();
        }
        if first {
            record.score.praise(BROUGHT, self.config.score().half_life, now);
        }
        self.judge(slot, now);
    }

    /// True if the neighbour should be one no more.
    fn blame(&mut self, slot: u8, points: u32, now: Instant) -> bool {
        let Some(record) = self.slots.get_mut(usize::from(slot)) else { return false };
        record.score.blame(points, self.config.score().half_life, now);
        self.judge(slot, now) >= self.config.score().part_points
    }

    fn judge(&mut self, slot: u8, now: Instant) -> u32 {
        let (record, score) = (self.slots.get(usize::from(slot)), self.config.score());
        let points = record.map_or(0, |record| record.score.points(score.half_life, now));
        let is_distrusted = self.distrusted.contains(slot);
        let limit = if is_distrusted { score.distrust_points / 2 } else { score.distrust_points };
        if points >= limit.max(1) {
            self.distrusted |= Slots::one(slot);
        } else {
            self.distrusted.remove(slot);
        }
        points
    }

    /// Forgives those whose points have faded.
    pub(super) fn refresh(&mut self, now: Instant) {
        for slot in self.distrusted.iter() {
            self.judge(slot, now);
        }
    }
}

impl<P: WirePeer> Gossip<P> {
    /// Replaces the defaults for what neighbours may ask and say, and what misconduct costs.
    #[must_use]
    pub fn with_limits(mut self, budget: BudgetConfig, score: ScoreConfig) -> Self {
        self.config = self.config.with_limits(budget, score);
        self.conduct.config = self.config.clone();
        self
    }

    /// Charges a message to its sender's budget, before anything is looked up or verified. False if it is to be dropped.
    pub(crate) fn admit(
        &mut self,
        from: P,
        message: &GossipMessage<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> bool {
        let (wants, news) = cost(message);
        let origins = self.unknown_origins(message);
        let budget = self.config.budget();
        let slot = self.peers.slot(from).map(usize::from);
        let record = match slot.and_then(|slot| self.conduct.slots.get_mut(slot)) {
            Some(record) => record,
            None => &mut self.conduct.strangers,
        };
        let within = record.wants.take(wants, budget.wants_per_s, WANTS_BURST_S, now)
            && record.news.take(news, budget.news_per_s, NEWS_BURST_S, now)
            && record.origins.take(origins, budget.origins_per_s, ORIGINS_BURST_S, now);
        if !within {
            self.stats.over_budget += 1;
            // Nobody in particular is to blame for what strangers do together.
            if slot.is_some() && record.reported.is_none_or(|at| now - at >= REPORT_INTERVAL) {
                record.reported = Some(now);
                actions.push(GossipAction::Misbehaved { peer: from, offence: Offence::Flooding });
            }
        }
        within
    }

    /// The owner has something against a neighbour: an offence against the wire format or the rights, say.
    pub fn blame(&mut self, peer: P, points: u32, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if let Some(slot) = self.peers.slot(peer) {
            self.blame_slot(slot, points, now, actions);
        }
    }

    /// Neighbours that are not trusted to push updates to this node.
    pub fn distrusted(&self) -> impl Iterator<Item = P> + '_ {
        self.conduct.distrusted().iter().filter_map(|slot| self.peers.get(slot))
    }

    /// A neighbour brought an update, perhaps one that was here already.
    pub(super) fn note_brought(&mut self, slot: u8, data: &Data<P>, first: bool, now: Instant) {
        // Its own updates say nothing about whether it forwards those of others.
        if self.peers.get(slot) != Some(data.origin) {
            self.conduct.praise(slot, first, now);
        }
    }

    /// A neighbour did not send what it has, though it was asked.
    pub(super) fn note_unanswered(&mut self, slot: u8, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        self.stats.wants_unanswered += 1;
        self.blame_slot(slot, UNANSWERED, now, actions);
    }

    /// The feeder did not push what another neighbour has.
    pub(super) fn note_unfed(&mut self, feeder: u8, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        self.stats.unfed += 1;
        let points = if self.conduct.is_proven(feeder) { UNFED } else { UNFED_UNTRIED };
        self.blame_slot(feeder, points, now, actions);
    }

    /// A neighbour has not answered in its trial: it is not to feed this node.
    pub(super) fn convict(&mut self, slot: u8, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let points = self.conduct.score.distrust_points;
        self.blame_slot(slot, points, now, actions);
    }

    fn blame_slot(&mut self, slot: u8, points: u32, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let was_trusted = !self.conduct.distrusted().contains(slot);
        let part = self.conduct.blame(slot, points, now);
        let Some(peer) = self.peers.get(slot) else { return };
        if was_trusted && self.conduct.distrusted().contains(slot) {
            self.stats.distrusted += 1;
            self.replace_feeder(slot, now, actions);
        }
        if part {
            actions.push(GossipAction::Part { peer });
        }
    }

    /// A neighbour has lost its trust: where it feeds this node, another is asked to.
    fn replace_feeder(&mut self, slot: u8, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        self.replace_parent(slot, now, actions);
        let avoid = self.conduct.avoid();
        for source in self.routes.fed_by(slot, now) {
            if let Some(other) = self.routes.other_feeder(source, avoid) {
                self.graft(source, other, true, actions);
                self.routes.set_feeder(source, other);
            }
        }
    }

    /// How many sources a message names that are not known here.
    fn unknown_origins(&self, message: &GossipMessage<P>) -> u64 {
        let unknown = |origin, epoch| u64::from(self.log.source(origin, epoch).is_none());
        let among = |sources: &[SourceRanges<P>]| {
            sources.iter().map(|source| unknown(source.origin, source.epoch)).sum::<u64>()
        };
        match message {
            GossipMessage::Data(data) | GossipMessage::Manifest(data) => unknown(data.origin, data.epoch),
            GossipMessage::Wave(wave) if !wave.shared => unknown(wave.origin, wave.epoch),
            GossipMessage::Have { sources } => among(sources),
            GossipMessage::Sync { items, .. } => {
                let lists = items.iter().map(|item| match &item.known {
                    SyncKnown::Sources(sources) | SyncKnown::Answer(sources) => among(sources),
                    SyncKnown::Skip | SyncKnown::Fingerprint(_) => 0,
                });
                lists.sum()
            }
            _ => 0,
        }
    }
}

/// What a message asks for, in updates, and what it says, in sources.
fn cost<P>(message: &GossipMessage<P>) -> (u64, u64) {
    match message {
        GossipMessage::Want { sources, .. } => {
            let ranges = sources.iter().flat_map(|source| source.ranges.iter());
            let updates = ranges.fold(0u64, |sum, range| sum.saturating_add(range.end - range.start));
            // Nobody is sent more than this in one answer, whatever it asks for.
            (updates.clamp(1, WANTED_MAX), sources.len() as u64)
        }
        GossipMessage::Have { sources } | GossipMessage::Gone { sources } => (0, sources.len() as u64),
        GossipMessage::Sync { items, .. } => {
            let sources = items.iter().map(|item| match &item.known {
                SyncKnown::Sources(sources) | SyncKnown::Answer(sources) => sources.len() as u64,
                // A fingerprint makes this node add up an interval of sources.
                SyncKnown::Skip | SyncKnown::Fingerprint(_) => 1,
            });
            (0, sources.sum())
        }
        // Updates and their chunks are limited by the bytes of the link.
        GossipMessage::Data(_) | GossipMessage::Manifest(_) | GossipMessage::Chunk(_) => (0, 0),
        _ => (0, 1),
    }
}

/// A request counts as this many updates at most.
const WANTED_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GossipConfig;

    #[test]
    fn an_allowance_gives_its_burst_and_then_its_rate() {
        let mut allowance = Allowance::default();
        let start = Instant::from_secs(100);
        let mut admitted = 0;
        for millis in 0..10_000 {
            admitted += u64::from(allowance.take(1, 100, 2, start + Duration::from_millis(millis)));
        }
        assert!((1_195..=1_205).contains(&admitted), "{admitted} in 10 s at 100 a second and a burst of 2 s");
        assert!(allowance.take(0, 100, 2, start), "what costs nothing always passes");
    }

    #[test]
    fn the_untried_lose_trust_after_two_failures_and_the_proven_later() {
        let mut conduct = Conduct::new(GossipConfig::default().into());
        let now = Instant::from_secs(1);
        for slot in [0, 1] {
            conduct.neighbor_up(slot);
        }
        conduct.praise(1, true, now);
        for failures in 1..=5 {
            for slot in [0, 1] {
                let points = if conduct.is_proven(slot) { UNFED } else { UNFED_UNTRIED };
                assert_eq!(conduct.blame(slot, points, now), slot == 0 && failures == 5);
            }
            let expected = (failures >= 2, failures >= 5);
            assert_eq!((conduct.distrusted.contains(0), conduct.distrusted.contains(1)), expected);
        }
        conduct.praise(0, false, now);
        assert!(!conduct.distrusted.contains(0) && conduct.is_proven(0), "late is not never");
        let later = now + Duration::from_secs(200);
        conduct.refresh(later);
        assert_eq!(conduct.distrusted(), Slots::NONE, "points fade");
    }

    #[test]
    fn who_answers_nine_times_in_ten_keeps_its_trust() {
        let mut conduct = Conduct::new(GossipConfig::default().into());
        conduct.neighbor_up(3);
        for second in 0..10_000u64 {
            let now = Instant::from_millis(100 * second);
            if second % 10 == 0 {
                assert!(!conduct.blame(3, UNANSWERED, now));
            } else {
                conduct.praise(3, true, now);
            }
            assert!(conduct.distrusted().is_empty(), "after {second} answers");
        }
    }
}
