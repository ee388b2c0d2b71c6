//! Gaps and late joining.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::keyframes::PICTURE_PATIENCE;
use super::silence::ACTIVE;
use super::{Missing, Peer, RTT_GUESS, Relay, RelayAction, bit};
use crate::forest::track::Spare;
use crate::log::RangeSet;
use crate::time::Instant;
use crate::wire::{Chunk, ForestMessage, TrackPosition, WirePeer};

/// Chunks missed at a time, at most; beyond, the application is told when their deadline passes.
const MISSING_MAX: usize = 4_096;

/// Chunks of the history that are asked for at a time: fewer when answers stay out, more when they come.
const HISTORY_WINDOW_MIN: usize = 4;
pub(super) const HISTORY_WINDOW_MAX: usize = 96;

/// The same until the first picture is there: about the size of a large keyframe at 2.5 Mbit/s.
const PICTURE_WINDOW: usize = 48;

/// How much later than the first parent the others may answer before their part of the first picture is asked of those who have
/// answered.
const PLACES_TIME: Duration = Duration::from_millis(30);

/// How often the next part of the history is asked for.
const HISTORY_STEP: Duration = Duration::from_millis(20);

/// How long an answer may take longer than a round trip, and how long if it may wait at the other end.
const RETRY: Duration = Duration::from_millis(20);
const HISTORY_RETRY: Duration = Duration::from_millis(200);
/// Per request so far, after the answer that a chunk is not there.
const GONE_RETRY: Duration = Duration::from_millis(5);
/// The first picture is asked for again sooner, and of somebody else.
const PICTURE_RETRY: Duration = Duration::from_millis(60);

/// A chunk that parity may give is looked at again this often.
const SPARED: Duration = Duration::from_millis(15);

/// What the rest of a frame is given for a queue in which its first chunk waited, at most: longer, and losses go unnoticed.
const WAITED_MAX: Duration = Duration::from_millis(40);

/// Chunks named in one request, at most: it must fit a frame.
const NAMED_MAX: usize = 64;

/// Chunks looked at for one request, at most.
pub(super) const WANTED_MAX: u64 = 1_024;

/// So often of the stripe's parent, which may be waiting for it itself, before the others are asked.
const OWN_TRIES: u8 = 2;

/// A chunk is asked for so often in earnest, then at leisure until its deadline: perhaps nobody has it yet. History has
/// none, and is left to the deadline of its frame once delivery has begun.
const TRIES_MAX: u8 = 12;
const LEISURE: Duration = Duration::from_millis(500);

/// What was sent before a message usually arrives before it, or this much later.
const UNDER_WAY: Duration = Duration::from_millis(40);

/// What was sent later may come so much earlier.
const REORDERING: Duration = Duration::from_millis(4);

/// Whoever begins to receive a track of a group fetches so many chunks of it at most, and else waits for a keyframe. That is
/// asked for when the others who begin with it have had time to come, too.
const GROUP_SHARED_MAX: u64 = 2;
const PICTURE_GATHER: Duration = Duration::from_millis(100);

/// Chunks that are later by this than any other was lately are missed.
pub(super) const LATENESS: Duration = Duration::from_millis(20);
const LATENESS_MIN_US: u32 = 12_000;
const LATENESS_MAX_US: u32 = 60_000;

/// How much sooner another peer must answer than a stripe's parent to be asked in its place.
const NEARER: Duration = Duration::from_millis(15);

/// How far back a gap is chased, in chunks of a stripe.
const GAP_MAX: u64 = 512;

impl<P: WirePeer> Relay<P> {
    /// A parent feeds a stripe from now on: what it sent before is asked for. Of one that did already, only tracks that
    /// are new here count, and if it is `quiet` what it never sent.
    pub(super) fn catch_up(
        &mut self,
        index: usize,
        from: P,
        positions: &[TrackPosition],
        is_new: bool,
        quiet: bool,
        now: Instant,
    ) -> bool {
        let mut news = false;
        let stripes = self.stripes.len() as u64;
        let patience_ms = self.facts.map_or(0, |facts| facts.deadline.as_millis() as u64);
        let patient_until_ms = self.stream_ms(now) + patience_ms;
        let begins = !self.tracks.values().any(|track| track.log.has_started());
        let is_shared = self.is_shared();
        for position in positions {
            let is_known = self.tracks.contains_key(&position.track);
            let track = self.track(position.track);
            if !is_known {
                track.log.be_patient_until(patient_until_ms);
                track.chases &= begins || track.start.is_some();
            }
            let is_long =
                position.group.is_none_or(|group| position.end.saturating_sub(group) > GROUP_SHARED_MAX);
            if is_shared && track.chases && track.start.is_none() && !track.log.has_started() && is_long {
                // All who begin to receive it would fetch the same of one.
                track.chases = false;
                self.picture_at.get_or_insert(now + PICTURE_GATHER);
            }
            let track = self.track(position.track);
            let first = first_of_stripe(position.end, index as u64, stripes);
            let waits = track.chases && !track.log.has_started();
            let skips = position.group.filter(|&group| track.note_group(from, group));
            if waits {
                self.picture_at.get_or_insert(now + PICTURE_PATIENCE);
                self.foresee_picture(position.track, position.end, now + PLACES_TIME);
            }
            let before = self.stripes[index].edge(position.track);
            match before {
                None => {
                    if let Some(track) = self.tracks.get_mut(&position.track).filter(|track| track.chases) {
                        track.note_joined(index as u8, first);
                    }
                    self.miss_since_start(position.track, index, first, now + UNDER_WAY);
                }
                Some(_) if !is_new && !quiet => {}
                // Of a track of which only keyframes are wanted, gaps are no news.
                Some(_) if !self.subtree_wants(index, position.track) => {}
                Some(next) => {
                    let from = next.max(first.saturating_sub(GAP_MAX * stripes));
                    // What a parent has sent already may be on its way.
                    let at = if is_new && !self.is_handed_over(index) { now } else { now + UNDER_WAY };
                    for number in
                        (first_of_stripe(from, index as u64, stripes)..first).step_by(stripes as usize)
                    {
                        self.miss_from(position.track, number, false, at);
                    }
                }
            }
            if before.is_none() {
                // Whoever came before gets what comes from now on, and asks for the rest.
                for child in &mut self.stripes[index].children {
                    if !child.from.iter().any(|(track, _)| *track == position.track) {
                        child.from.push((position.track, first));
                        news = true;
                    }
                }
            }
            if let Some(group) = skips {
                self.forget_history(position.track, group);
            }
            if is_new || before.is_none() {
                let next = before.map_or(first, |next| next.max(first));
                self.stripes[index].set_edge(position.track, next);
            }
        }
        news
    }

    /// Somebody holds the group with which delivery begins. A place in every stripe takes longer than a picture: from `at` on its
    /// keyframe is asked for in those stripes, too, that have no parent yet.
    fn foresee_picture(&mut self, id: u8, end: u64, at: Instant) {
        let start = self.tracks.get(&id).and_then(|track| track.start);
        let Some(start) = start.filter(|_| !self.is_shared()) else { return };
        for number in start..end.min(start + PICTURE_WINDOW as u64) {
            let is_open = self.stripes[self.stripe_of(number)].edge(id).is_none();
            if is_open && !self.history.contains(&(id, number)) {
                self.miss_from(id, number, true, at);
            }
        }
    }

    /// In a group, whether a stripe has come from another parent until now: it still sends for a while.
    fn is_handed_over(&self, index: usize) -> bool {
        self.stripes[index].handed_over.is_some()
    }

    /// Notes the history to be asked for, of those stripes whose beginning is known.
    pub(super) fn chase_history(&mut self, now: Instant) {
        let stripes = self.stripes.len() as u64;
        let wanted = self.wanted();
        for (&id, track) in &mut self.tracks {
            let Some(start) = track.start else { continue };
            if wanted.tracks & bit(id) == 0 {
                // The next keyframe will do: nobody wants what lies between.
                track.joined.clear();
                continue;
            }
            for (index, end) in core::mem::take(&mut track.joined) {
                let from = first_of_stripe(start, index.into(), stripes);
                let numbers = (from..end).step_by(stripes as usize);
                let lacking = numbers.filter(|&number| !track.log.holds(number));
                self.history.extend(lacking.map(|number| (id, number)).take(MISSING_MAX));
            }
        }
        while self.history.len() > MISSING_MAX {
            self.history.pop_first();
        }
        if !self.history.is_empty() && self.history_at.is_none() {
            self.history_at = Some(now);
        }
    }

    /// Delivery of a track begins with chunk `first`: what is older is of no use here.
    pub(super) fn forget_history(&mut self, id: u8, first: u64) {
        self.history.retain(|(track, number)| *track != id || *number >= first);
        let old = self.missing.range((id, 0)..(id, first)).filter(|(_, missing)| missing.history);
        let old: Vec<u64> = old.map(|((_, number), _)| *number).collect();
        for number in old {
            self.found(id, number);
        }
    }

    /// Notes that a chunk is missed, to be asked for now.
    pub(super) fn miss(&mut self, track: u8, number: u64, history: bool, now: Instant) {
        self.miss_from(track, number, history, now);
    }

    /// The same, but the parent of the stripe is not asked.
    pub(super) fn miss_elsewhere(&mut self, track: u8, number: u64, now: Instant) {
        self.miss(track, number, false, now);
        if let Some(missing) = self.missing.get_mut(&(track, number)) {
            missing.tries = missing.tries.max(OWN_TRIES);
        }
    }

    /// Asks for the known holes of a stripe in which nothing comes any more: there is no later chunk to show them.
    pub(super) fn miss_holes(&mut self, index: usize, now: Instant) {
        let stripes = self.stripes.len() as u64;
        let edges = self.stripes[index].edges.clone();
        for (id, edge) in edges {
            if !self.subtree_wants(index, id) {
                continue;
            }
            let Some(track) = self.tracks.get(&id) else { continue };
            let holes: SmallVec<[u64; 16]> = track
                .log
                .holes(edge..u64::MAX)
                .filter(|number| number % stripes == index as u64)
                .take(GAP_MAX as usize)
                .collect();
            for number in holes {
                self.miss(id, number, false, now);
            }
        }
    }

    /// What the source sends it sends in order, whatever the stripe: a later chunk shows what was lost.
    pub(super) fn miss_passed_over(&mut self, index: usize, chunk: &Chunk, now: Instant) {
        if self.stripes[index].parent != Some(self.source) {
            return;
        }
        let stripes = self.stripes.len() as u64;
        for number in (chunk.number + 1).saturating_sub(stripes)..chunk.number {
            let other = self.stripe_of(number);
            let stripe = &self.stripes[other];
            let fed = stripe.parent == Some(self.source) && stripe.candidate.is_none();
            let wanted = fed && self.subtree_wants(other, chunk.track);
            if wanted && stripe.edge(chunk.track).is_some_and(|next| next <= number) {
                self.miss_from(chunk.track, number, false, now + REORDERING);
            }
        }
    }

    /// Of a group: a frame begins to come, and of each of its other chunks it is known when it should be here.
    pub(super) fn expect_rest(&mut self, chunk: &Chunk, now: Instant) {
        let first = chunk.number - u64::from(chunk.index);
        if usize::from(chunk.data) > self.stripes.len() {
            // Uploads are nearly full, and a large frame takes longer to leave than is usual. Within it each stripe shows its
            // gaps itself.
            return;
        }
        let captured = self.local_time(chunk.captured_ms.into());
        let stripe = &self.stripes[self.stripe_of(chunk.number)];
        // Where one chunk has waited in a queue, so have the others: whoever asked for them would only lengthen it.
        let usual = Duration::from_micros(stripe.delay_us.into());
        let waited = (now - captured).saturating_sub(usual).min(WAITED_MAX);
        for number in (first..first + u64::from(chunk.data)).filter(|&number| number != chunk.number) {
            let other = self.stripe_of(number);
            let stripe = &self.stripes[other];
            let fed = stripe.parent.is_some() && stripe.candidate.is_none() && stripe.delay_us > 0;
            let open = stripe.edge(chunk.track).is_some_and(|next| next <= number);
            if !(fed && open && self.subtree_wants(other, chunk.track)) {
                continue;
            }
            let due =
                captured + Duration::from_micros(stripe.delay_peak_us.into()) + waited + self.lateness();
            self.miss_from(chunk.track, number, false, due.max(now + REORDERING));
        }
    }

    fn lateness(&self) -> Duration {
        Duration::from_micros(self.lateness_us.into())
    }

    /// In a group, a chunk has come that was asked for. Whatever comes from the parent sooner than it could answer was only late:
    /// others are given more time from now on, until some are lost.
    pub(super) fn learn_lateness(&mut self, index: usize, from: P, missing: Missing, now: Instant) {
        let rtt = self.peers.get(&from).map_or(RTT_GUESS, Peer::rtt);
        let was_late = self.stripes[index].parent == Some(from) && now - missing.asked < rtt * 3 / 4;
        let (more, less) = if was_late { (self.lateness_us / 8, 0) } else { (0, self.lateness_us / 32) };
        self.lateness_us = (self.lateness_us + more - less).clamp(LATENESS_MIN_US, LATENESS_MAX_US);
    }

    /// Of a group: who passes on what the source sends does not wait for its next chunk to see that one was lost.
    pub(super) fn expect_next(&mut self, index: usize, chunk: &Chunk, now: Instant) {
        let stripe = &self.stripes[index];
        let relays = stripe.parent == Some(self.source) && !stripe.children.is_empty();
        let is_steady = stripe.deviation_us < stripe.interval_us / 2;
        if !relays || !is_steady || stripe.candidate.is_some() || self.notice.state != ACTIVE {
            return;
        }
        let usual = Duration::from_micros((stripe.interval_us + stripe.deviation_us * 2).into());
        let next = chunk.number + self.stripes.len() as u64;
        let key = (chunk.track, next);
        if self.missing.contains_key(&key) {
            return;
        }
        self.miss_from(chunk.track, next, false, now + usual + self.lateness());
        if let Some(missing) = self.missing.get_mut(&key) {
            missing.foreseen = true;
        }
    }

    /// Whether somebody was asked for the chunk.
    pub(super) fn is_asked_for(&self, track: u8, number: u64) -> bool {
        self.missing.get(&(track, number)).is_some_and(|missing| missing.history || missing.tries > 0)
    }

    /// Notes that a chunk is missed, to be asked for from `at` on.
    pub(super) fn miss_from(&mut self, track: u8, number: u64, history: bool, at: Instant) {
        let key = (track, number);
        if let Some(missing) = self.missing.get_mut(&key) {
            // What was only looked out for is now known to be missed.
            missing.foreseen = false;
            if missing.tries == 0 && at < missing.asked {
                missing.asked = at;
                self.missing_at.set(key, Some(at));
            }
            return;
        }
        if self.missing.len() >= MISSING_MAX {
            return;
        }
        let Some(state) = self.tracks.get(&track) else { return };
        let waits = self.seals.as_ref().is_some_and(|seals| seals.holds(track, number));
        if waits || state.log.holds(number) || number < state.log.floor() {
            return;
        }
        self.history.remove(&key);
        self.history_flying += usize::from(history);
        self.missing.insert(key, Missing { tries: 0, history, foreseen: false, asked: at });
        self.missing_at.set(key, Some(at));
    }

    /// A chunk is here, or not worth asking for. True if it was missed.
    pub(super) fn found(&mut self, track: u8, number: u64) -> Option<Missing> {
        let key = (track, number);
        if !self.history.is_empty() {
            self.history.remove(&key);
        }
        let missing = self.missing.remove(&key)?;
        self.history_flying -= usize::from(missing.history);
        self.missing_at.set(key, None);
        Some(missing)
    }

    /// Asks for what is missed and due.
    pub(super) fn pump(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if self.history_at.is_some_and(|at| at <= now) {
            self.ask_history(now);
        }
        if self.missing_at.next().is_none_or(|at| at > now) {
            return;
        }
        let now_ms = self.stream_ms(now);
        let mut asks: BTreeMap<(P, bool), BTreeMap<u8, RangeSet>> = BTreeMap::new();
        let mut congested = false;
        while let Some((track, number)) = self.missing_at.pop_due(now) {
            let Some(missing) = self.missing.get(&(track, number)).copied() else { continue };
            let Some(state) = self.tracks.get(&track) else { continue };
            let use_by = state.log.use_by_ms(number);
            // What was only foreseen is asked for once, as is in a group what nothing newer has shown: uploads are nearly full.
            let is_open = missing.foreseen || self.is_shared() && number >= state.log.end();
            let unseen = is_open && missing.tries > 0 && use_by.is_none() && !missing.history;
            let late = !missing.history && use_by.is_some_and(|at| at <= now_ms);
            let hopeless = missing.history && missing.tries >= TRIES_MAX && state.log.has_started();
            if late || hopeless || unseen || state.log.is_settled(number) {
                self.found(track, number);
                continue;
            }
            let peer = self.holder(track, number, missing);
            let rtt = peer.and_then(|peer| self.peers.get(&peer)).map_or(RTT_GUESS, Peer::rtt);
            let left_ms = use_by.map_or(u64::MAX, |at| at - now_ms.min(at));
            if !missing.history && self.is_spared(track, number, rtt, left_ms) {
                self.missing_at.set((track, number), Some(now + SPARED));
                continue;
            }
            let affordable = missing.history
                || self.repair_budget.as_mut().is_none_or(|budget| budget.bytes(now) >= CHUNK_BYTES);
            let (Some(peer), true) = (peer, affordable) else {
                self.missing_at.set((track, number), Some(now + RETRY));
                continue;
            };
            if let Some(budget) = self.repair_budget.as_mut().filter(|_| !missing.history) {
                budget.spend(CHUNK_BYTES);
            }
            congested |= missing.history && missing.tries > 0;
            let patience = match missing.history {
                true if state.log.has_started() => HISTORY_RETRY,
                true => PICTURE_RETRY,
                false => RETRY,
            };
            let answer = rtt + rtt / 4 + patience;
            // There is to be time for another request.
            let hurry = if missing.history { Duration::MAX } else { Duration::from_millis(left_ms / 3) };
            let usual = answer.max((self.repair_time * 2).min(hurry));
            let wait = match missing.tries {
                // With patience that grows, but not beyond that of leisure.
                tries @ ..TRIES_MAX => (usual * u32::from(tries + 1)).min(usual.max(LEISURE)),
                _ => LEISURE,
            };
            if let Some(missing) = self.missing.get_mut(&(track, number)) {
                missing.tries = missing.tries.saturating_add(1);
                missing.asked = now;
            }
            self.missing_at.set((track, number), Some(now + wait));
            asks.entry((peer, missing.history))
                .or_default()
                .entry(track)
                .or_default()
                .insert(number..number + 1);
        }
        if congested {
            self.history_window = (self.history_window * 3 / 4).max(HISTORY_WINDOW_MIN);
        }
        for ((to, history), tracks) in asks {
            for (track, mut ranges) in tracks {
                while !ranges.is_empty() {
                    let part = take_ranges(&mut ranges, NAMED_MAX);
                    self.stats.wants_sent += 1;
                    let message = ForestMessage::Want { history, tracks: alloc::vec![(track, part)] };
                    self.send(to, message, actions);
                }
            }
        }
    }

    /// Whether a chunk that is missed can be done without, as things stand: parity will give it, or it is parity that nothing
    /// is lost for. What children wait for is not left to parity, nor what it would give too late.
    fn is_spared(&self, track: u8, number: u64, rtt: Duration, left_ms: u64) -> bool {
        let Some(state) = self.tracks.get(&track) else { return false };
        let lost = |number: u64| {
            let edge = self.stripes.get(self.stripe_of(number)).and_then(|stripe| stripe.edge(track));
            edge.is_some_and(|edge| number < edge) || self.missing.contains_key(&(track, number))
        };
        let Some(spare) = state.log.is_spare(number, lost) else { return false };
        let stripe = self.stripes.get(self.stripe_of(number));
        let awaited = stripe.is_some_and(|stripe| !stripe.children.is_empty());
        let in_time = u128::from(left_ms) > ((rtt + rtt / 4 + RETRY) * 2).as_millis();
        spare == Spare::Parity || spare == Spare::Data && !awaited && in_time
    }

    /// Who is asked for a chunk: the stripe's parent first, then the others in turn. For history, of those who have it.
    fn holder(&self, track: u8, number: u64, missing: Missing) -> Option<P> {
        let stripe = self.stripe_of(number);
        let tries = missing.tries;
        if let Some(track) = self.tracks.get(&track).filter(|_| missing.history) {
            let feeds = |peer: &P| self.stripes.iter().any(|stripe| stripe.parent == Some(*peer));
            let holders: SmallVec<[P; 4]> = track.holders.iter().copied().filter(feeds).collect();
            // What is old the others may keep no more.
            let own = self.stripes.get(stripe).and_then(|stripe| stripe.parent);
            if let Some(own) = own.filter(|own| tries % 2 == 0 && holders.contains(own)) {
                return Some(own);
            }
            if !holders.is_empty() {
                return Some(holders[(stripe + usize::from(tries)) % holders.len()]);
            }
        }
        let own = self.stripes.get(stripe)?.parent;
        if tries == 0 && own != Some(self.source) {
            // What did not reach the parent either is sooner had from somebody whom another feeds.
            let beside = self.beside(stripe, own);
            if beside.is_some() {
                return beside;
            }
        }
        if self.is_shared() && matches!(tries, 0 | 4 | 6 | 8) {
            // All receive the same at about the same time, and an answer from nearby is soon there.
            let parents = self.stripes.iter().filter_map(|stripe| stripe.parent);
            let fits = parents.filter(|peer| !self.banned.contains(peer));
            let rtt = |peer: P| self.peers.get(&peer).map_or(RTT_GUESS, Peer::rtt);
            let nearest = fits.min_by_key(|&peer| rtt(peer));
            let nearest = nearest.filter(|&peer| own.is_none_or(|own| rtt(peer) + NEARER < rtt(own)));
            if nearest.is_some() {
                return nearest;
            }
        }
        let own_tries = if self.is_shared() { OWN_TRIES * 2 } else { OWN_TRIES };
        if tries < own_tries && own.is_some() {
            return own;
        }
        let mut parents: SmallVec<[P; 16]> = SmallVec::new();
        let count = self.stripes.len();
        for offset in 1..=count {
            let parent = self.stripes[(stripe + offset) % count].parent;
            if let Some(parent) = parent.filter(|peer| !parents.contains(peer) && !self.banned.contains(peer))
            {
                parents.push(parent);
            }
        }
        if parents.is_empty() { None } else { Some(parents[usize::from(tries) % parents.len()]) }
    }

    /// In a group, the nearest of the parents who, as the plan says, has a stripe from elsewhere: if it is about as near as
    /// `own`.
    fn beside(&self, stripe: usize, own: Option<P>) -> Option<P> {
        let own = own.filter(|_| self.is_shared())?;
        let backups = &self.stripes.get(stripe)?.backups;
        let rtt = |peer: P| self.peers.get(&peer).map_or(RTT_GUESS, Peer::rtt);
        let parents = self.stripes.iter().filter_map(|stripe| stripe.parent);
        let fits = parents.filter(|&peer| {
            peer != own && peer != self.source && backups.contains(&peer) && !self.banned.contains(&peer)
        });
        fits.min_by_key(|&peer| rtt(peer)).filter(|&peer| rtt(peer) < rtt(own) + NEARER)
    }

    /// Asks for the next part of the history: at most at twice the rate of the stream, keyframes first by nature.
    fn ask_history(&mut self, now: Instant) {
        self.history_at = None;
        let rate = self.facts.map_or(0, |facts| facts.rate_bytes_per_s);
        let step = (rate * 2 * HISTORY_STEP.as_millis() as u64 / (1_000 * CHUNK_BYTES)).max(2) as usize;
        // The first picture is not kept waiting.
        let started = self.tracks.values().any(|track| track.log.has_started());
        let (step, window) =
            if started { (step, self.history_window) } else { (PICTURE_WINDOW, PICTURE_WINDOW) };
        let room = window.saturating_sub(self.history_flying).min(step);
        for _ in 0..room {
            let Some((track, number)) = self.history.pop_first() else { break };
            self.miss(track, number, true, now);
        }
        if !self.history.is_empty() {
            self.history_at = Some(now + HISTORY_STEP);
        }
    }

    /// The peer lacks them too: somebody else is asked, soon.
    pub(super) fn on_gone(&mut self, from: P, tracks: &[(u8, RangeSet)], now: Instant) {
        let knows = self.stripes.iter().any(|stripe| stripe.parent == Some(from));
        let mut left = WANTED_MAX;
        for (track, ranges) in tracks.iter().filter(|_| knows) {
            for range in ranges.iter() {
                for number in range.start..range.end.min(range.start.saturating_add(left)) {
                    left -= 1;
                    let key = (*track, number);
                    if let Some(missing) = self.missing.get_mut(&key) {
                        // Soon, but not so soon that everybody has been asked before anybody can have it.
                        let wait = match missing.tries {
                            ..TRIES_MAX => GONE_RETRY * u32::from(missing.tries),
                            _ => LEISURE,
                        };
                        missing.tries = missing.tries.max(OWN_TRIES);
                        self.missing_at.set(key, Some(now + wait));
                    }
                }
            }
        }
    }
}

/// What a chunk counts for in budgets of repair.
const CHUNK_BYTES: u64 = 1_200;

/// The first number from `from` on that is in the stripe.
pub(super) fn first_of_stripe(from: u64, stripe: u64, stripes: u64) -> u64 {
    from + (stripe + stripes - from % stripes) % stripes
}

fn take_ranges(ranges: &mut RangeSet, count: usize) -> RangeSet {
    let mut part = RangeSet::new();
    for range in ranges.iter().take(count) {
        part.insert(range);
    }
    ranges.subtract(&part);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_stripe_follow_each_other() {
        assert_eq!(first_of_stripe(0, 3, 8), 3);
        assert_eq!(first_of_stripe(3, 3, 8), 3);
        assert_eq!(first_of_stripe(4, 3, 8), 11);
        assert_eq!(first_of_stripe(17, 0, 8), 24);
    }
}
