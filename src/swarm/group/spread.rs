//! How entries reach everybody, and who is suspected.
//!
//! What is new goes to all neighbours at once, many entries to a frame. Beats carry a fingerprint of the roster; where it
//! differs and no news explain it, the two exchange the parts that differ. A neighbour that falls silent is suspected, and
//! so is a participant that does not answer a probe and is nobody's neighbour. The suspicion spreads like any entry; the suspect refutes it with a new
//! version, or is gone everywhere when its time is up.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::direct::DeliveryRoute;
use super::roster::{LOST, Merged, PRESENT, SUSPECTED};
use super::{Group, Stage, signed_entry, signed_verdict};
use crate::config::GroupConfig;
use crate::io::Class;
use crate::rng::Rng;
use crate::swarm::guard::Verdict;
use crate::swarm::{SwarmAction, SwarmActions};
use crate::time::Instant;
use crate::wire::{self, Beat, GroupMessage, RosterEntry, WirePeer, roster_entry_bytes, verdict_bytes_max};

/// News are gathered for this long, so that many share a frame.
const GATHER: Duration = Duration::from_millis(5);

/// A roster that differs is compared when nothing new has come for this long: news may be on their way.
const QUIET: Duration = Duration::from_millis(200);

/// However many news come, a roster that differs for this long is compared.
const DIFFERS_MAX: Duration = Duration::from_secs(1);

/// At most one comparison in this time.
const SYNC_INTERVAL: Duration = Duration::from_millis(250);

/// What may be sent in answer to comparisons, in bytes a second, and at once.
const SYNC_BYTES_PER_S: u64 = 256 << 10;
const SYNC_BURST: Duration = Duration::from_millis(500);

/// How often somebody who is no neighbour is asked for a sign of life.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a probe is repeated, and when.
const PROBE_TRIES: u8 = 3;
const PROBE_TIMEOUT: Duration = Duration::from_millis(350);

/// Probes under way, at most.
const PROBES_MAX: usize = 16;

/// Who was lost is looked for this often: at first, and after `SEARCH_EAGER`.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
const SEARCH_INTERVAL_MAX: Duration = Duration::from_secs(5);
const SEARCH_EAGER: Duration = Duration::from_secs(60);

/// How long there must be too many before the last ones are put out: somebody's farewell may be on its way.
const SURPLUS_GRACE: Duration = Duration::from_millis(200);

/// Neighbours are listed in every beat after a change, and in every so many otherwise.
const LIST_EVERY: u32 = 8;
const LIST_AFTER_CHANGE: u32 = 3;

/// Version of the frame, kind, tag and two counts of a page.
const PAGE_HEADER_BYTES: usize = 1 + 1 + 4 + 3 + 3;

/// News, neighbours and timers.
#[derive(Debug)]
pub(super) struct Spread<P> {
    neighbors: BTreeMap<P, Neighbor<P>>,
    /// Round trips, also to peers that are no neighbours.
    rtts: BTreeMap<P, Duration>,
    /// Who was reached through others only, and when.
    unreachable: BTreeMap<P, Instant>,
    news: BTreeMap<P, Option<P>>,
    verdict_news: BTreeMap<P, Option<P>>,
    flush_at: Option<Instant>,
    /// When something new came last.
    heard_news: Instant,
    synced: Instant,
    /// Since when the roster has differed from those of others.
    differs_since: Option<Instant>,
    /// What was sent in answer to comparisons is paid for by then.
    sync_paid: Instant,
    beat_interval: Duration,
    beat_at: Instant,
    beats: u32,
    /// Beats that list the neighbours, before they are rarely listed again.
    lists_left: u32,
    probes: BTreeMap<P, Probe>,
    probe_at: Instant,
    search_at: Instant,
    suspicion_at: Option<Instant>,
    surplus_at: Option<Instant>,
    forget_at: Instant,
}

#[derive(Debug)]
struct Neighbor<P> {
    heard: Instant,
    /// Its neighbours, and the round trips to them.
    peers: Vec<(P, u16)>,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    tries: u8,
    due: Instant,
}

/// How long a link that did not work is not tried first.
const UNREACHABLE: Duration = Duration::from_secs(30);

/// Neighbours of a neighbour that are remembered, at most: nobody has more.
const LISTED_MAX: usize = 64;

/// Peers whose round trips are remembered, and peers that were not reached, at most.
const RTTS_MAX: usize = 256;

/// What is assumed of a link before it is measured.
const RTT_TYPICAL: Duration = Duration::from_millis(100);

impl<P: WirePeer> Spread<P> {
    pub(super) fn new(config: &GroupConfig, now: Instant, rng: &mut Rng) -> Self {
        let micros = config.beat_interval.as_micros() as u64;
        let first = now + Duration::from_micros(rng.between(0, micros));
        Self {
            neighbors: BTreeMap::new(),
            rtts: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            news: BTreeMap::new(),
            verdict_news: BTreeMap::new(),
            flush_at: None,
            heard_news: now,
            synced: now,
            differs_since: None,
            sync_paid: now,
            beat_interval: config.beat_interval,
            beat_at: first,
            beats: 0,
            lists_left: LIST_AFTER_CHANGE,
            probes: BTreeMap::new(),
            probe_at: first + PROBE_INTERVAL,
            search_at: first + SEARCH_INTERVAL,
            suspicion_at: None,
            surplus_at: None,
            forget_at: now + config.gone_age / 2,
        }
    }

    /// The node is in from now on: its neighbours have been silent for good reason.
    pub(super) fn begin(&mut self, now: Instant) {
        for neighbor in self.neighbors.values_mut() {
            neighbor.heard = now;
        }
        self.beat_at = now;
        self.probe_at = self.probe_at.max(now + PROBE_INTERVAL);
        self.search_at = self.search_at.max(now + SEARCH_INTERVAL);
    }

    /// An entry is to be sent on, but not to whom it came from.
    pub(super) fn note(&mut self, peer: P, from: Option<P>, now: Instant) {
        self.news.insert(peer, from);
        self.gather(now);
    }

    pub(super) fn note_verdict(&mut self, peer: P, from: Option<P>, now: Instant) {
        self.verdict_news.insert(peer, from);
        self.gather(now);
    }

    fn gather(&mut self, now: Instant) {
        self.heard_news = now;
        self.flush_at.get_or_insert(now + GATHER);
    }

    pub(super) fn watch_surplus(&mut self, surplus: bool, now: Instant) {
        if !surplus {
            self.surplus_at = None;
        } else {
            self.surplus_at.get_or_insert(now + SURPLUS_GRACE);
        }
    }

    pub(super) fn is_neighbor(&self, peer: P) -> bool {
        self.neighbors.contains_key(&peer)
    }

    /// Participants between this node and `peer`, those on the shortest way first.
    pub(super) fn between(&self, peer: P) -> Vec<P> {
        let mut between: Vec<_> = self
            .neighbors
            .iter()
            .filter_map(|(&via, neighbor)| {
                let &(_, rtt_ms) = neighbor.peers.iter().find(|(other, _)| *other == peer)?;
                Some((self.rtt(via) + Duration::from_millis(rtt_ms.into()), via))
            })
            .collect();
        between.sort_unstable();
        between.into_iter().map(|(_, via)| via).collect()
    }

    /// Whether a link to that peer would most likely not work.
    pub(super) fn is_unreachable(&self, peer: P, now: Instant) -> bool {
        self.unreachable.get(&peer).is_some_and(|&since| now - since < UNREACHABLE)
    }

    /// Somebody acknowledged a message. Through others, although a link was tried: links to it do not work.
    pub(super) fn note_reached(&mut self, peer: P, route: DeliveryRoute, several: bool, now: Instant) {
        if route == DeliveryRoute::Direct {
            self.unreachable.remove(&peer);
        }
        let has_room = self.unreachable.len() < RTTS_MAX || self.unreachable.contains_key(&peer);
        if route == DeliveryRoute::Relayed && several && has_room && !self.is_neighbor(peer) {
            self.unreachable.insert(peer, now);
        }
    }

    pub(super) fn rtt(&self, peer: P) -> Duration {
        self.rtts.get(&peer).copied().unwrap_or(RTT_TYPICAL)
    }

    pub(super) fn set_rtt(&mut self, peer: P, rtt: Duration) {
        if self.rtts.len() < RTTS_MAX || self.rtts.contains_key(&peer) {
            self.rtts.insert(peer, rtt);
        } else if let Some(&stranger) = self.rtts.keys().find(|other| !self.neighbors.contains_key(other)) {
            self.rtts.remove(&stranger);
            self.rtts.insert(peer, rtt);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let probe = self.probes.values().map(|probe| probe.due).min();
        let optional = [self.flush_at, self.suspicion_at, self.surplus_at, probe];
        let fixed = [self.beat_at, self.probe_at, self.search_at, self.forget_at];
        optional.into_iter().flatten().chain(fixed).min()
    }

    /// Whether the neighbours are to be listed in the next beat.
    fn lists(&mut self) -> bool {
        self.beats = self.beats.wrapping_add(1);
        let lists = self.lists_left > 0 || self.beats % LIST_EVERY == 0;
        self.lists_left = self.lists_left.saturating_sub(1);
        lists
    }
}

impl<P: WirePeer> Group<P> {
    pub(super) fn neighbor_up(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.spread.neighbors.insert(peer, Neighbor { heard: now, peers: Vec::new() });
        self.spread.lists_left = LIST_AFTER_CHANGE;
        if self.stage == Stage::In {
            self.send_beat(peer, false, true, actions, now);
        }
    }

    /// A neighbour less: that alone says nothing of its life.
    pub(super) fn neighbor_down(&mut self, peer: P, now: Instant) {
        self.spread.neighbors.remove(&peer);
        self.spread.lists_left = LIST_AFTER_CHANGE;
        if self.stage == Stage::In && self.roster.is_in(peer) {
            self.probe(peer, now);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.spread.beat_at <= now {
            self.beat(now, actions);
        }
        if self.spread.probe_at <= now {
            self.spread.probe_at = now + PROBE_INTERVAL;
            let strangers: Vec<_> = self
                .roster
                .present()
                .filter(|&peer| peer != self.local && !self.spread.is_neighbor(peer))
                .collect();
            if let Some(&peer) = self.rng.pick(&strangers) {
                self.probe(peer, now);
            }
        }
        if self.spread.search_at <= now {
            self.search(now, actions);
        }
        self.repeat_probes(now, actions);
        if self.spread.suspicion_at.is_some_and(|at| at <= now) {
            self.end_suspicions(now, actions);
        }
        if self.spread.surplus_at.is_some_and(|at| at <= now) {
            self.spread.surplus_at = None;
            self.evict_surplus(now, actions);
        }
        if self.spread.forget_at <= now {
            self.spread.forget_at = now + self.config.gone_age / 2;
            self.roster.forget_gone(self.config.gone_age, now, self.clock.now_us(now));
            self.spread.unreachable.retain(|_, since| now - *since < UNREACHABLE);
            let roster = &self.roster;
            self.order.retain(|peer| peer == self.local || roster.record(peer).is_some());
            self.inbox.retain(|peer| roster.record(peer).is_some());
        }
        if self.spread.flush_at.is_some_and(|at| at <= now) {
            self.flush(now, actions);
        }
    }

    // --- news -----------------------------------------------------------------------------------------------------

    /// Sends what is new to all neighbours.
    pub(super) fn flush(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        self.spread.flush_at = None;
        let news = core::mem::take(&mut self.spread.news);
        let verdicts = core::mem::take(&mut self.spread.verdict_news);
        let neighbors: Vec<_> = self.spread.neighbors.keys().copied().collect();
        for to in neighbors {
            let fresh = |learnt: &BTreeMap<P, Option<P>>| -> Vec<P> {
                learnt.iter().filter(|(_, from)| **from != Some(to)).map(|(&peer, _)| peer).collect()
            };
            let (entries, verdicts) = (fresh(&news), fresh(&verdicts));
            self.send_records(to, &entries, &verdicts, Class::High, actions);
        }
        // Nobody to tell yet: the first neighbour will be told.
        if self.spread.neighbors.is_empty() && self.stage == Stage::In {
            self.spread.news = news;
            self.spread.verdict_news = verdicts;
            self.spread.flush_at = (!self.spread.news.is_empty()).then(|| now + self.config.beat_interval);
        }
    }

    pub(super) fn send_entry(&self, to: P, about: P, actions: &mut SwarmActions<P>) {
        self.send_records(to, &[about], &[], Class::High, actions);
    }

    /// Sends entries and verdicts in as many frames as they take. Returns their bytes.
    fn send_records(
        &self,
        to: P,
        entries: &[P],
        verdicts: &[P],
        class: Class,
        actions: &mut SwarmActions<P>,
    ) -> usize {
        let room = self.frame_bytes_max.saturating_sub(PAGE_HEADER_BYTES);
        let (mut sent, mut bytes) = (0, 0);
        let mut page = (Vec::new(), Vec::new());
        let mut flush = |page: &mut (Vec<RosterEntry<P>>, Vec<wire::Verdict<P>>), bytes: &mut usize| {
            let (entries, verdicts) = core::mem::take(page);
            if !entries.is_empty() || !verdicts.is_empty() {
                sent += PAGE_HEADER_BYTES + core::mem::take(bytes);
                self.send(to, GroupMessage::Roster { entries, verdicts }, class, actions);
            }
        };
        for entry in entries.iter().filter_map(|&peer| self.roster.entry(peer)) {
            let more = roster_entry_bytes(&entry);
            if bytes + more > room {
                flush(&mut page, &mut bytes);
            }
            bytes += more;
            page.0.push(entry);
        }
        for verdict in verdicts.iter().flat_map(|&peer| self.roster.verdicts(peer)) {
            if bytes + verdict_bytes_max::<P>() > room {
                flush(&mut page, &mut bytes);
            }
            bytes += verdict_bytes_max::<P>();
            page.1.push(verdict.clone());
        }
        flush(&mut page, &mut bytes);
        sent
    }

    pub(super) fn on_roster(
        &mut self,
        from: P,
        entries: &[RosterEntry<P>],
        verdicts: &[wire::Verdict<P>],
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        if self.stage != Stage::In {
            return;
        }
        let mut newer = Vec::new();
        for entry in entries {
            if !self.is_credible(entry, now) {
                self.stats.entries_refused += 1;
                self.misbehaved(from, actions);
                return;
            }
            if entry.peer == self.local {
                self.hear_of_myself(entry, now, actions);
                if self.stage != Stage::In {
                    return;
                }
                continue;
            }
            match self.verify_entry(from, entry, now) {
                Verdict::Pass | Verdict::Refuse(_) => {}
                Verdict::Postpone => {
                    self.stats.entries_refused += 1;
                    continue;
                }
                Verdict::Forged(offence) => {
                    self.stats.entries_refused += 1;
                    actions.push(SwarmAction::Misbehaved(from, offence));
                    continue;
                }
            }
            let merged = self.roster.merge(entry, now);
            match merged {
                Merged::Known => self.stats.entries_known += 1,
                Merged::Older => {
                    self.stats.entries_known += 1;
                    newer.push(entry.peer);
                }
                Merged::Full => self.stats.entries_refused += 1,
                Merged::Joined | Merged::Rejoined | Merged::Changed | Merged::Noted | Merged::Gone { .. } => {
                    self.stats.entries_new += 1;
                    self.spread.note(entry.peer, Some(from), now);
                    if entry.status == SUSPECTED {
                        self.watch_suspicion(now);
                    }
                }
            }
            self.tell_merged(entry.peer, merged, now, actions);
        }
        for verdict in verdicts {
            let genuine = self.verify_verdict(from, verdict, now) == Verdict::Pass;
            let may = genuine && self.may_judge(verdict.by, verdict.peer).is_ok();
            if !may || !self.clock.observe(verdict.at_us, now) {
                self.stats.entries_refused += 1;
                self.misbehaved(from, actions);
                continue;
            }
            self.take_verdict(verdict, Some(from), now, actions);
            if self.stage != Stage::In {
                return;
            }
        }
        self.send_records(from, &newer, &[], Class::High, actions);
    }

    /// Whether an entry that says something new is that of its participant. What others note of somebody is not signed: it is
    /// no more than a question to the one concerned.
    fn verify_entry(&mut self, from: P, entry: &RosterEntry<P>, now: Instant) -> Verdict {
        let Some(profile) = entry.profile.as_ref().filter(|_| self.topic.is_signed()) else {
            return Verdict::Pass;
        };
        let known = self.roster.record(entry.peer);
        if known.is_some_and(|known| (known.incarnation, known.version) >= (entry.incarnation, entry.version))
        {
            // A suspicion of what was verified when it came, or nothing new.
            return Verdict::Pass;
        }
        let data = signed_entry(entry.peer, entry.incarnation, entry.version, profile, &entry.signature);
        self.topic.verify(from, &data, now)
    }

    fn verify_verdict(&mut self, from: P, verdict: &wire::Verdict<P>, now: Instant) -> Verdict {
        if !self.topic.is_signed() || self.roster.verdicts(verdict.peer).any(|known| known == verdict) {
            return Verdict::Pass;
        }
        self.topic.verify(from, &signed_verdict(verdict), now)
    }

    /// Whether a participant of this group can have written that.
    fn is_credible(&mut self, entry: &RosterEntry<P>, now: Instant) -> bool {
        let Some(profile) = &entry.profile else { return true };
        if profile.metadata.len() > self.metadata_bytes_max {
            return false;
        }
        let handed_us = profile.handover.as_ref().map_or(0, |handover| handover.at_us.max(handover.claim_us));
        let newest_us =
            profile.joined_us.max(profile.claim_us.unwrap_or(0)).max(profile.taken_us).max(handed_us);
        let newest_us = newest_us.max(profile.media.map_or(0, |media| media.turn_us.max(media.relay_us)));
        self.clock.observe(newest_us, now)
    }

    /// What others say of this node: that it is not there, or what an earlier life of it said.
    fn hear_of_myself(&mut self, entry: &RosterEntry<P>, now: Instant, actions: &mut SwarmActions<P>) {
        let own = (self.own.incarnation, self.own.version, PRESENT);
        let theirs = (entry.incarnation, entry.version, entry.status);
        if theirs <= own || (entry.incarnation, entry.version) == (u32::MAX, u32::MAX) {
            return;
        }
        if entry.status == super::SURPLUS && entry.incarnation == self.own.incarnation {
            self.roster.set_status(self.local, super::SURPLUS, now);
            return self.put_out(crate::io::GroupRefusal::Full, now, actions);
        }
        self.stats.refutations += 1;
        (self.own.incarnation, self.own.version) = match entry.version.checked_add(1) {
            Some(version) => (entry.incarnation, version - 1),
            None => (entry.incarnation + 1, 0),
        };
        self.write(self.own.profile.clone(), now);
    }

    // --- comparison -----------------------------------------------------------------------------------------------

    /// The roster of `with` differs.
    fn compare(&mut self, with: P, now: Instant, actions: &mut SwarmActions<P>) {
        let since = now - self.spread.synced;
        // Who knows nobody, or meets somebody whom it did not know, has no news to wait for.
        let lonely = self.roster.len() <= 1;
        let stranger = lonely || !self.roster.is_in(with);
        let waits = if stranger { SYNC_INTERVAL / 2 } else { SYNC_INTERVAL };
        let differs_since = *self.spread.differs_since.get_or_insert(now);
        let expects_news = now - self.spread.heard_news < QUIET && now - differs_since < DIFFERS_MAX;
        if since < waits || !stranger && expects_news {
            return;
        }
        self.spread.synced = now;
        self.spread.differs_since = None;
        self.stats.syncs_sent += 1;
        if lonely {
            self.send(with, GroupMessage::WantRoster { parts: u64::MAX }, Class::Control, actions);
            self.send_entry(with, self.local, actions);
        } else {
            let parts = self.roster.digest();
            self.send(with, GroupMessage::Digest { parts }, Class::Control, actions);
        }
    }

    pub(super) fn on_digest(&mut self, from: P, theirs: &[u32], now: Instant, actions: &mut SwarmActions<P>) {
        if self.stage != Stage::In {
            return;
        }
        let parts = self.roster.differing(theirs);
        if parts != 0 {
            self.send(from, GroupMessage::WantRoster { parts }, Class::Control, actions);
            self.send_parts(from, parts, now, actions);
        }
    }

    /// Sends parts of the roster, as far as the budget for that goes.
    pub(super) fn send_parts(&mut self, to: P, parts: u64, now: Instant, actions: &mut SwarmActions<P>) {
        if self.stage != Stage::In {
            return;
        }
        let paid = self.spread.sync_paid.max(now);
        if paid > now + SYNC_BURST {
            self.stats.syncs_refused += 1;
            return;
        }
        let (entries, verdicts) = self.roster.in_parts(parts);
        let bytes = self.send_records(to, &entries, &verdicts, Class::Normal, actions) as u64;
        self.spread.sync_paid = paid + Duration::from_micros(bytes * 1_000_000 / SYNC_BYTES_PER_S);
    }

    // --- life -----------------------------------------------------------------------------------------------------

    fn beat(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let micros = self.spread.beat_interval.as_micros() as u64;
        // A node that slept has heard nobody, and cannot blame them.
        let slept = now - self.spread.beat_at > self.config.silence / 2;
        self.spread.beat_at = now + Duration::from_micros(self.rng.between(micros * 3 / 4, micros));
        self.repeat_presentation(actions);
        let lists = self.spread.lists();
        let neighbors: Vec<_> = self.spread.neighbors.keys().copied().collect();
        for peer in neighbors {
            let mut quiet = false;
            if let Some(neighbor) = self.spread.neighbors.get_mut(&peer) {
                if slept {
                    neighbor.heard = now;
                }
                let silence = now - neighbor.heard;
                // It may have let go of the link, and answers only if asked.
                quiet = silence >= self.config.silence / 2;
                if silence >= self.config.silence {
                    self.suspect(peer, now);
                }
            }
            self.send_beat(peer, quiet, lists, actions, now);
        }
    }

    fn send_beat(&mut self, to: P, asks: bool, lists: bool, actions: &mut SwarmActions<P>, now: Instant) {
        let mut beat = Beat {
            swarm: self.swarm,
            clock_us: self.clock.now_us(now),
            fingerprint: self.roster.fingerprint(),
            asks,
            neighbors: Vec::new(),
        };
        if lists {
            let fits = self.frame_bytes_max.saturating_sub(64) / (P::WIRE_BYTES + 3);
            let others = self.spread.neighbors.keys().filter(|&&peer| peer != to).take(fits);
            let rtt_ms = |peer| u16::try_from(self.spread.rtt(peer).as_millis()).unwrap_or(u16::MAX);
            beat.neighbors = others.map(|&peer| (peer, rtt_ms(peer))).collect();
        }
        self.stats.beats_sent += 1;
        self.send(to, GroupMessage::Beat(beat), Class::Control, actions);
    }

    pub(super) fn on_beat(&mut self, from: P, beat: Beat<P>, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(neighbor) = self.spread.neighbors.get_mut(&from) {
            neighbor.heard = now;
            if !beat.neighbors.is_empty() {
                neighbor.peers = beat.neighbors;
                neighbor.peers.truncate(LISTED_MAX);
            }
        }
        if self.stage != Stage::In {
            return;
        }
        if !self.clock.observe(beat.clock_us, now) {
            return self.misbehaved(from, actions);
        }
        self.spread.probes.remove(&from);
        if beat.asks {
            self.send_beat(from, false, false, actions, now);
        }
        let status = self.roster.record(from).map(|record| record.status);
        if status.is_some_and(|status| status == SUSPECTED || status == LOST) {
            // It does not know what is said of it.
            self.send_entry(from, from, actions);
        }
        if status == Some(LOST) && !self.spread.is_neighbor(from) {
            self.with_topic(now, actions, |topic, now, actions| topic.reach(from, now, actions));
        }
        if beat.fingerprint != self.roster.fingerprint() {
            self.compare(from, now, actions);
        } else {
            self.spread.differs_since = None;
        }
    }

    /// Asks a participant for a sign of life.
    fn probe(&mut self, peer: P, now: Instant) {
        if self.spread.probes.len() < PROBES_MAX {
            self.spread.probes.entry(peer).or_insert(Probe { tries: 0, due: now });
        }
    }

    fn repeat_probes(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let due: Vec<_> =
            self.spread.probes.iter().filter(|(_, probe)| probe.due <= now).map(|(&peer, _)| peer).collect();
        for peer in due {
            let Some(probe) = self.spread.probes.get_mut(&peer) else { continue };
            if probe.tries >= PROBE_TRIES || !self.roster.is_in(peer) {
                self.spread.probes.remove(&peer);
                // A participant between, who hears it, will tell if it falls silent.
                if self.spread.between(peer).is_empty() {
                    self.suspect(peer, now);
                }
                continue;
            }
            probe.tries += 1;
            probe.due = now + PROBE_TIMEOUT;
            self.send_beat(peer, true, false, actions, now);
        }
    }

    /// Looks for one of those who fell silent: perhaps the network broke, and both sides look.
    fn search(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let lost: Vec<_> = self.roster.lost().collect();
        let eager = lost.iter().any(|&(_, since)| now - since < SEARCH_EAGER);
        self.spread.search_at = now + if eager { SEARCH_INTERVAL } else { SEARCH_INTERVAL_MAX };
        if let Some(&(peer, _)) = self.rng.pick(&lost) {
            self.send_beat(peer, true, false, actions, now);
        }
    }

    /// A participant has fallen silent.
    pub(super) fn suspect(&mut self, peer: P, now: Instant) {
        let present = self.roster.is_in(peer) && peer != self.local && self.stage == Stage::In;
        if present && self.roster.set_status(peer, SUSPECTED, now) {
            self.stats.suspicions += 1;
            self.spread.note(peer, None, now);
            self.watch_suspicion(now);
        }
    }

    fn watch_suspicion(&mut self, now: Instant) {
        self.spread.suspicion_at.get_or_insert(now + self.config.suspicion);
    }

    fn end_suspicions(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let suspects: Vec<_> = self.roster.suspects().collect();
        let mut next: Option<Instant> = None;
        for peer in suspects {
            let Some(record) = self.roster.record(peer) else { continue };
            let end = record.since + self.config.suspicion;
            if end > now {
                next = Some(next.map_or(end, |at| at.min(end)));
            } else if self.roster.set_status(peer, LOST, now) {
                self.tell_merged(peer, Merged::Gone { status: LOST }, now, actions);
            }
        }
        self.spread.suspicion_at = next;
    }
}
