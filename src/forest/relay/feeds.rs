//! Who feeds whom: places in the trees, silence, replacement.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::{
    Candidate, Child, Interest, LEASE, PATH_MAX, Peer, REFRESH, RTT_GUESS, Relay, RelayAction, StreamFacts,
    stripes_of,
};
use crate::id::Epoch;
use crate::io::Class;
use crate::propagation::bucket::Bucket;
use crate::time::Instant;
use crate::wire::{Attach, Attached, ForestMessage, LostParent, Plan, StreamNotice, TrackPosition, WirePeer};

/// The silence that is taken for death, at least: less is jitter.
const SILENCE_MIN: Duration = Duration::from_millis(80);

/// And at most, for streams of few chunks.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long a parent is believed that says it lives though nothing comes to it.
const BELIEVED: Duration = Duration::from_millis(1_500);

/// How often the end of a stream is asked for.
const SETTLE_STEP: Duration = Duration::from_millis(200);

/// Rates that a plan may name, in bytes a second.
const RATE_MAX: u64 = 1 << 40;

/// And one that answers though nothing comes.
const BELIEVED_SLOW: Duration = Duration::from_millis(500);

/// A source that is active and publishes nothing says so this often.
const STALL_REPEAT: Duration = Duration::from_millis(500);

/// When everybody was tried, how long before the next round.
const RETRY: Duration = Duration::from_millis(300);

/// A stranger is told that it is one this often.
const REFUSE_INTERVAL: Duration = Duration::from_millis(100);

/// Questions that come before the plan, at most.
const EARLY_MAX: usize = 256;

/// Peers named to a child that is refused, at most.
const REDIRECTS_MAX: usize = 4;

impl<P: WirePeer> Relay<P> {
    pub(super) fn on_plan(
        &mut self,
        from: P,
        plan: Plan<P>,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        if self.planner != Some(from) || plan.swarm != self.swarm {
            return;
        }
        let facts = StreamFacts {
            epoch: plan.epoch,
            stripes: plan.stripes,
            rate_bytes_per_s: plan.rate_bytes_per_s.clamp(1, RATE_MAX),
            deadline: plan.deadline,
        };
        let new_life = self.facts.is_none_or(|old| old.epoch != facts.epoch || old.stripes != facts.stripes);
        if new_life {
            self.forget_feeds(actions);
            self.learn(facts, now);
            self.notice = StreamNotice::default();
            self.plan_version = 0;
        } else {
            self.facts = Some(facts);
        }
        // Plans may overtake each other; the stripes that an older one names may be newer in a later one.
        if plan.version < self.plan_version {
            return;
        }
        self.plan_version = plan.version;
        self.watch_at = None;
        self.watch_tries = 0;
        let mut asked: SmallVec<[(P, u16); 8]> = SmallVec::new();
        let mut called: SmallVec<[(P, u16); 8]> = SmallVec::new();
        for feed in plan.feeds {
            let stripe = &mut self.stripes[usize::from(feed.stripe)];
            stripe.backups = feed.backups.into_iter().filter(|&peer| peer != self.local).take(4).collect();
            let banned = self.banned.contains(&feed.parent);
            if feed.parent == self.local || banned || stripe.parent == Some(feed.parent) {
                if let Some(candidate) = stripe.candidate.take_if(|candidate| candidate.planned) {
                    called.push((candidate.peer, 1 << feed.stripe));
                }
                continue;
            }
            let called_off = stripe.candidate.map(|candidate| candidate.peer);
            if let Some(peer) = called_off.filter(|&peer| peer != feed.parent && stripe.parent != Some(peer))
            {
                called.push((peer, 1 << feed.stripe));
            }
            let stripe = &mut self.stripes[usize::from(feed.stripe)];
            let planned = stripe.parent.is_some() && stripe.lost.is_none();
            stripe.candidate =
                Some(Candidate { peer: feed.parent, sent: now, tries: 1, planned, from_plan: true });
            stripe.retry_at = None;
            match asked.iter_mut().find(|(peer, _)| *peer == feed.parent) {
                Some((_, stripes)) => *stripes |= 1 << feed.stripe,
                None => asked.push((feed.parent, 1 << feed.stripe)),
            }
        }
        for (peer, stripes) in called {
            self.send(peer, ForestMessage::Detach { stripes }, actions);
        }
        for (peer, stripes) in asked {
            self.ask(peer, stripes, now, actions);
        }
        for (peer, attach) in core::mem::take(&mut self.early) {
            self.on_attach(peer, &attach, now, actions);
        }
        self.check_soon(now);
    }

    /// Asks `peer` to feed these stripes, besides those that it feeds already.
    fn ask(&mut self, peer: P, stripes: u16, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let mut all = stripes;
        let mut interest = self.wants;
        let (mut feeds, mut planned) = (0usize, 0);
        for (index, stripe) in self.stripes.iter().enumerate() {
            if stripe.parent == Some(peer) || stripe.candidate.is_some_and(|candidate| candidate.peer == peer)
            {
                all |= 1 << index;
            }
            if stripe.candidate.is_some_and(|candidate| candidate.peer == peer && candidate.from_plan) {
                planned |= 1 << index;
            }
            if all >> index & 1 == 1 {
                feeds += stripe.children.len();
                for child in &stripe.children {
                    interest = interest.union(child.interest);
                }
            }
        }
        self.token = self.token.wrapping_add(1);
        let token = self.token;
        let entry = self.peer(peer, now, actions);
        entry.ask = Some((token, all, now));
        let message = ForestMessage::Attach(Attach {
            swarm: self.swarm,
            stripes: all,
            tracks: interest.tracks,
            keyframes: interest.keyframes,
            feeds: u8::try_from(feeds).unwrap_or(u8::MAX),
            planned,
            token,
        });
        self.send(peer, message, actions);
    }

    /// The peer's entry, made if need be.
    fn peer(&mut self, peer: P, now: Instant, actions: &mut Vec<RelayAction<P>>) -> &mut Peer {
        let rate = self.facts.map_or(0, |facts| facts.rate_bytes_per_s);
        self.peers.entry(peer).or_insert_with(|| {
            actions.push(RelayAction::Hold(peer));
            Peer {
                uses: 0,
                rtt: RTT_GUESS,
                ask: None,
                attached: now,
                serve_budget: Some(Bucket::new(
                    (rate * 3).max(30_000),
                    Duration::from_millis(250),
                    96 * 1_500,
                    now,
                )),
            }
        })
    }

    /// Forgets peers that neither feed nor are fed.
    fn release_unused(&mut self, actions: &mut Vec<RelayAction<P>>) {
        let stripes = &self.stripes;
        self.peers.retain(|&peer, entry| {
            let uses = stripes.iter().filter(|stripe| {
                stripe.parent == Some(peer)
                    || stripe.candidate.is_some_and(|candidate| candidate.peer == peer)
                    || stripe.children.iter().any(|child| child.peer == peer)
            });
            entry.uses = uses.count() as u16;
            if entry.uses == 0 {
                actions.push(RelayAction::Release(peer));
            }
            entry.uses > 0
        });
    }

    fn forget_feeds(&mut self, actions: &mut Vec<RelayAction<P>>) {
        self.stripes.clear();
        self.fed = false;
        self.release_unused(actions);
    }

    // --- as a parent ----------------------------------------------------------------------------------------------

    pub(super) fn on_attach(
        &mut self,
        from: P,
        attach: &Attach,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        if attach.swarm != self.swarm || from == self.local {
            return;
        }
        if self.facts.is_none() {
            // The plan named us to it before it could tell us.
            if self.early.len() < EARLY_MAX {
                self.early.push((from, attach.clone()));
            }
            return;
        }
        let interest = Interest { tracks: attach.tracks, keyframes: attach.keyframes };
        let ends: SmallVec<[(u8, u64); 4]> =
            self.tracks.iter().map(|(&track, state)| (track, state.log.end())).collect();
        let (slots, mut taken) = (self.slots(), self.children_count());
        // Whoever makes room for those whom the plan sends is still on the way out.
        let planned_slots = if slots == 0 { 0 } else { slots + slots / 4 + 2 };
        let overloaded = self.is_overloaded();
        let mut accepted = 0u16;
        let mut refused = 0u16;
        let mut before = Interest::default();
        for index in stripes_of(attach.stripes, self.stripes.len()) {
            let is_source = self.is_source();
            let stripe = &mut self.stripes[index];
            if let Some(child) = stripe.children.iter_mut().find(|child| child.peer == from) {
                before = before.union(child.interest);
                child.interest = interest;
                child.feeds = attach.feeds;
                child.lease = now + LEASE;
                accepted |= 1 << index;
                continue;
            }
            let known = is_source || stripe.parent.is_some() || stripe.candidate.is_some();
            let circular = stripe.path.contains(&from) || stripe.parent == Some(from);
            let planned = attach.planned >> index & 1 == 1;
            let full = if planned { taken >= planned_slots } else { taken >= slots || overloaded };
            if full || !known || circular {
                refused |= 1 << index;
                self.stats.attaches_refused += 1;
                continue;
            }
            taken += 1;
            accepted |= 1 << index;
            let child =
                Child { peer: from, interest, feeds: attach.feeds, lease: now + LEASE, from: ends.clone() };
            stripe.children.push(child);
        }
        for index in stripes_of(accepted, self.stripes.len()) {
            // Those who feed most are fed first: what they wait for, many wait for.
            self.stripes[index].children.sort_by_key(|child| core::cmp::Reverse(child.feeds));
        }
        if accepted != 0 {
            self.peer(from, now, actions);
        }
        let redirects = if refused == 0 { Vec::new() } else { self.redirects(refused, from) };
        let message = self.attached(attach.token, accepted, interest, redirects, now);
        self.send(from, message, actions);
        if interest.union(before) != before {
            self.refresh(false, now, actions);
        }
    }

    fn attached(
        &self,
        token: u32,
        accepted: u16,
        interest: Interest,
        redirects: Vec<P>,
        now: Instant,
    ) -> ForestMessage<P> {
        let paths = stripes_of(accepted, self.stripes.len()).map(|index| self.stripes[index].path.clone());
        ForestMessage::Attached(Attached {
            token,
            epoch: self.facts.map_or(Epoch(0), |facts| facts.epoch),
            clock_us: self.stream_us(now),
            accepted,
            paths: paths.collect(),
            tracks: self.positions(interest),
            redirects,
            state: self.notice,
        })
    }

    /// Children that came before this node knew where a track stands are told now.
    fn tell_positions(&self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        for child in &self.stripes[index].children {
            let message = self.attached(0, 1 << index, child.interest, Vec::new(), now);
            self.send(child.peer, message, actions);
        }
    }

    fn positions(&self, interest: Interest) -> Vec<TrackPosition> {
        let wanted = self.tracks.iter().filter(|(track, _)| interest.covers(**track, true));
        wanted
            .map(|(&track, state)| TrackPosition { track, group: state.log.group(), end: state.log.end() })
            .collect()
    }

    fn redirects(&self, refused: u16, not: P) -> Vec<P> {
        let mut redirects = Vec::new();
        for index in stripes_of(refused, self.stripes.len()) {
            let stripe = &self.stripes[index];
            let below = stripe.children.iter().map(|child| child.peer).rev();
            for peer in below.chain(stripe.backups.iter().copied()) {
                if peer != not && redirects.len() < REDIRECTS_MAX && !redirects.contains(&peer) {
                    redirects.push(peer);
                }
            }
        }
        redirects
    }

    pub(super) fn on_detach(
        &mut self,
        from: P,
        stripes: u16,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        for index in stripes_of(stripes, self.stripes.len()) {
            self.remove_child(index, from, actions);
            if self.stripes[index].parent == Some(from) {
                self.parent_failed(index, now, actions);
            }
        }
        self.release_unused(actions);
        self.flush_reports(actions);
    }

    pub(super) fn remove_child(&mut self, index: usize, peer: P, actions: &mut Vec<RelayAction<P>>) -> bool {
        let children = &mut self.stripes[index].children;
        let before = children.len();
        children.retain(|child| child.peer != peer);
        let removed = children.len() < before;
        if removed {
            self.release_unused(actions);
        }
        removed
    }

    // --- as a child -----------------------------------------------------------------------------------------------

    pub(super) fn on_attached(
        &mut self,
        from: P,
        attached: Attached<P>,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let Some(facts) = self.facts else { return };
        if attached.epoch != facts.epoch {
            return;
        }
        // Of an answer that comes late only what it grants counts.
        let mut asked = 0;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.attached = now;
            if let Some((_, stripes, sent)) = peer.ask.take_if(|(token, _, _)| *token == attached.token) {
                asked = stripes;
                peer.rtt = now - sent;
                self.compare_clocks(attached.clock_us, now - sent, now);
            }
        }
        let mut paths = attached.paths.into_iter();
        let count = self.stripes.len();
        for index in stripes_of(attached.accepted, count) {
            let path = paths.next().unwrap_or_default();
            let expected = self.stripes[index].parent == Some(from)
                || self.stripes[index].candidate.is_some_and(|candidate| candidate.peer == from);
            if expected {
                self.adopt(index, from, path, &attached.tracks, now, actions);
            } else {
                // It was called off in the meantime.
                self.send(from, ForestMessage::Detach { stripes: 1 << index }, actions);
            }
        }
        for index in stripes_of(asked & !attached.accepted, count) {
            let stripe = &mut self.stripes[index];
            for &peer in &attached.redirects {
                if peer != self.local && stripe.backups.len() < 8 && !stripe.backups.contains(&peer) {
                    stripe.backups.push(peer);
                }
            }
            if stripe.candidate.is_some_and(|candidate| candidate.peer == from) {
                self.candidate_failed(index, now, actions);
            } else if stripe.parent == Some(from) {
                self.parent_failed(index, now, actions);
            }
        }
        self.take_notice(attached.state, now, actions);
        self.chase_history(now);
        self.note_fed(actions);
        self.release_unused(actions);
        self.flush_reports(actions);
        self.check_soon(now);
    }

    /// Somebody sends what nobody here asked for (any more): a farewell was lost, or crossed an answer.
    pub(super) fn refuse_feed(
        &mut self,
        from: P,
        index: usize,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        if now - self.refused_at >= REFUSE_INTERVAL || self.refused != Some(from) {
            self.refused_at = now;
            self.refused = Some(from);
            self.send(from, ForestMessage::Detach { stripes: 1 << index }, actions);
        }
    }

    /// Half the round trip is the best guess of the way back (RFC 5905, section 8, without the server's own delay).
    fn compare_clocks(&mut self, clock_us: u64, rtt: Duration, now: Instant) {
        let better = self.clock_error.is_none_or(|(error, since)| rtt <= error || now - since > REFRESH * 6);
        if better {
            let here = i64::try_from((now - rtt / 2).as_micros()).unwrap_or(i64::MAX);
            self.clock_offset_us = i64::try_from(clock_us).unwrap_or(i64::MAX).saturating_sub(here);
            self.clock_error = Some((rtt, now));
        }
    }

    /// `from` feeds a stripe from now on.
    fn adopt(
        &mut self,
        index: usize,
        from: P,
        path: Vec<P>,
        positions: &[TrackPosition],
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        if path.contains(&self.local) || path.len() >= PATH_MAX {
            self.send(from, ForestMessage::Detach { stripes: 1 << index }, actions);
            if self.stripes[index].parent == Some(from) {
                self.parent_failed(index, now, actions);
            } else {
                self.candidate_failed(index, now, actions);
            }
            return;
        }
        let stripe = &mut self.stripes[index];
        let previous = stripe.parent.replace(from);
        let is_new = previous != Some(from);
        stripe.candidate = stripe.candidate.filter(|candidate| candidate.peer != from);
        if is_new {
            stripe.heard = now;
            stripe.stalled = false;
        } else if stripe.probed.is_some() {
            stripe.believed_until = now + BELIEVED_SLOW;
        }
        stripe.probed = None;
        stripe.retry_at = None;
        stripe.tried.clear();
        if is_new {
            stripe.delay_us = 0;
            stripe.slow = 0;
        }
        let lost = stripe.lost.take();
        if let Some(previous) = previous.filter(|_| is_new) {
            self.send(previous, ForestMessage::Detach { stripes: 1 << index }, actions);
        }
        if let Some(parent) = lost.filter(|&parent| parent != from) {
            self.lost.push(LostParent { stripe: index as u8, parent, adopted: Some(from) });
        }
        let quiet = self.notice.state != ACTIVE || now - self.stripes[index].heard > BELIEVED_SLOW;
        let news = self.catch_up(index, positions, is_new, quiet, now);
        let stripe = &mut self.stripes[index];
        let known = stripe.path.len() == path.len() + 1 && stripe.path[0] == from && stripe.path[1..] == path;
        if !known {
            stripe.path.clear();
            stripe.path.push(from);
            stripe.path.extend(path);
            self.tell_path(index, actions);
        }
        if news {
            self.tell_positions(index, now, actions);
        }
    }

    fn tell_path(&self, index: usize, actions: &mut Vec<RelayAction<P>>) {
        let stripe = &self.stripes[index];
        for child in &stripe.children {
            let message = ForestMessage::Path { stripes: 1 << index, ancestors: stripe.path.clone() };
            self.send(child.peer, message, actions);
        }
    }

    pub(super) fn on_path(
        &mut self,
        from: P,
        stripes: u16,
        ancestors: &[P],
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        for index in stripes_of(stripes, self.stripes.len()) {
            let stripe = &mut self.stripes[index];
            if stripe.parent != Some(from) {
                continue;
            }
            if ancestors.contains(&self.local) || ancestors.len() >= PATH_MAX {
                self.send(from, ForestMessage::Detach { stripes: 1 << index }, actions);
                self.parent_failed(index, now, actions);
                continue;
            }
            let same = stripe.path.len() == ancestors.len() + 1 && stripe.path[1..] == *ancestors;
            if !same {
                stripe.path.truncate(1);
                stripe.path.extend_from_slice(ancestors);
                self.tell_path(index, actions);
            }
        }
        self.flush_reports(actions);
    }

    /// Looks for silent parents and candidates that do not answer.
    pub(super) fn check_stripes(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        self.check_at = None;
        if self.settle_at.take_if(|at| *at <= now).is_some() && self.notice.state != ACTIVE {
            self.settle(now, actions);
        }
        if self.is_source() {
            self.check_publishing(now, actions);
        }
        for index in 0..self.stripes.len() {
            let stripe = &self.stripes[index];
            if let Some(candidate) = stripe.candidate {
                if now >= candidate.sent + self.answer_time(candidate.peer) {
                    if candidate.tries < 3 && candidate.from_plan {
                        self.stripes[index].candidate =
                            Some(Candidate { sent: now, tries: candidate.tries + 1, ..candidate });
                        self.ask(candidate.peer, 1 << index, now, actions);
                    } else {
                        self.candidate_failed(index, now, actions);
                    }
                }
            } else if stripe.parent.is_none() && stripe.retry_at.is_some_and(|at| at <= now) {
                self.stripes[index].retry_at = None;
                self.stripes[index].tried.clear();
                self.find_parent(index, now, actions);
            }
            self.check_silence(index, now, actions);
        }
        self.release_unused(actions);
        self.flush_reports(actions);
        self.check_soon(now);
    }

    fn check_silence(&mut self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let active = self.notice.state == ACTIVE;
        let stripe = &self.stripes[index];
        if !active || stripe.parent.is_none() || now < stripe.believed_until {
            return;
        }
        let silent = now - stripe.heard;
        if silent >= stripe.doubt() && !stripe.stalled {
            self.stripes[index].stalled = true;
            self.tell_stalled(index, actions);
        }
        let stripe = &self.stripes[index];
        let Some(parent) = stripe.parent.filter(|_| silent >= stripe.doubt() && stripe.candidate.is_none())
        else {
            return;
        };
        // A parent with a long queue is slow, one that does not answer is dead.
        let Some(probed) = stripe.probed else {
            self.stripes[index].probed = Some(now);
            return self.ask(parent, 1 << index, now, actions);
        };
        if silent >= stripe.silence() && now - probed >= self.answer_time(parent) {
            self.stats.failovers += 1;
            self.parent_failed(index, now, actions);
        }
    }

    fn tell_stalled(&self, index: usize, actions: &mut Vec<RelayAction<P>>) {
        for child in &self.stripes[index].children {
            self.send(child.peer, ForestMessage::Stalled { stripes: 1 << index }, actions);
        }
    }

    /// A source that publishes nothing for a while says so, lest its children take it for dead.
    fn check_publishing(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if self.notice.state != ACTIVE || now < self.quiet_at() || now - self.stalled_said < STALL_REPEAT / 8
        {
            return;
        }
        self.stalled_said = now;
        let mut told: SmallVec<[(P, u16); 16]> = SmallVec::new();
        for (index, stripe) in self.stripes.iter().enumerate() {
            for child in &stripe.children {
                match told.iter_mut().find(|(peer, _)| *peer == child.peer) {
                    Some((_, stripes)) => *stripes |= 1 << index,
                    None => told.push((child.peer, 1 << index)),
                }
            }
        }
        for (peer, stripes) in told {
            self.send(peer, ForestMessage::Stalled { stripes }, actions);
        }
    }

    /// When a source that publishes nothing should say so.
    fn quiet_at(&self) -> Instant {
        let gap =
            Duration::from_micros(u64::from(self.publish_gap_us) * 2).clamp(SILENCE_MIN / 2, SILENCE_MAX / 4);
        let after = if self.stalled_said > self.sent_at {
            self.stalled_said + STALL_REPEAT
        } else {
            self.sent_at + gap
        };
        after.max(self.sent_at + gap)
    }

    pub(super) fn on_stalled(
        &mut self,
        from: P,
        stripes: u16,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        for index in stripes_of(stripes, self.stripes.len()) {
            let stripe = &mut self.stripes[index];
            if stripe.parent == Some(from) {
                stripe.believed_until = now + BELIEVED;
                stripe.stalled = true;
                self.tell_stalled(index, actions);
                self.miss_holes(index, now);
            }
        }
    }

    /// The parent of a stripe is gone, silent, or gives up on us.
    pub(super) fn parent_failed(&mut self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let stripe = &mut self.stripes[index];
        let Some(parent) = stripe.parent else { return };
        stripe.lost.get_or_insert(parent);
        if !stripe.tried.contains(&parent) {
            stripe.tried.push(parent);
        }
        // The silent parent stays until another is found: it may only have been slow.
        if stripe.candidate.is_none() {
            self.find_parent(index, now, actions);
        }
    }

    pub(super) fn candidate_failed(&mut self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let stripe = &mut self.stripes[index];
        let Some(candidate) = stripe.candidate.take() else { return };
        if !stripe.tried.contains(&candidate.peer) {
            stripe.tried.push(candidate.peer);
        }
        if stripe.parent.is_none() || stripe.lost.is_some() {
            if stripe.parent.is_none() {
                stripe.lost.get_or_insert(candidate.peer);
            }
            self.find_parent(index, now, actions);
        }
    }

    /// Asks the next one who could feed a stripe.
    fn find_parent(&mut self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let stripe = &self.stripes[index];
        let others = self.stripes.iter().filter_map(|other| other.parent);
        let mut choices = stripe.backups.iter().copied().chain(others);
        let fits = |peer: &P| {
            *peer != self.local
                && !self.banned.contains(peer)
                && !stripe.tried.contains(peer)
                && !stripe.children.iter().any(|child| child.peer == *peer)
        };
        let Some(peer) = choices.find(fits) else {
            let stripe = &mut self.stripes[index];
            stripe.retry_at = Some(now + RETRY);
            if let Some(parent) = stripe.lost {
                stripe.parent = None;
                stripe.path.clear();
                self.lost.push(LostParent { stripe: index as u8, parent, adopted: None });
                self.note_fed(actions);
            }
            return;
        };
        self.stripes[index].candidate =
            Some(Candidate { peer, sent: now, tries: 1, planned: false, from_plan: false });
        self.ask(peer, 1 << index, now, actions);
    }

    pub(super) fn flush_reports(&mut self, actions: &mut Vec<RelayAction<P>>) {
        if self.lost.is_empty() {
            return;
        }
        let lost = core::mem::take(&mut self.lost);
        if let Some(to) = self.planner {
            actions.push(RelayAction::Send {
                to,
                message: ForestMessage::Report { lost },
                class: Class::High,
            });
        }
    }

    fn answer_time(&self, peer: P) -> Duration {
        let rtt = self.peers.get(&peer).map_or(RTT_GUESS, |peer| peer.rtt);
        rtt + rtt / 8 + Duration::from_millis(15)
    }

    fn note_fed(&mut self, actions: &mut Vec<RelayAction<P>>) {
        let fed = self.stripes.iter().filter(|stripe| stripe.parent.is_some()).count();
        if !self.fed && fed == self.stripes.len() && fed > 0 {
            self.fed = true;
            actions.push(RelayAction::Fed);
        } else if self.fed && fed == 0 {
            self.fed = false;
            actions.push(RelayAction::Unfed);
        }
    }

    /// Notes when the stripes must be looked at next.
    pub(super) fn check_soon(&mut self, now: Instant) {
        let active = self.notice.state == ACTIVE;
        let mut next = Instant::MAX;
        for stripe in &self.stripes {
            if let Some(candidate) = stripe.candidate {
                next = next.min(candidate.sent + self.answer_time(candidate.peer));
            } else if let Some(at) = stripe.retry_at.filter(|_| stripe.parent.is_none()) {
                next = next.min(at);
            }
            if active && stripe.parent.is_some() {
                let at = match stripe.probed {
                    Some(probed) => {
                        let answered =
                            stripe.parent.map_or(probed, |parent| probed + self.answer_time(parent));
                        answered.max(stripe.heard + stripe.silence())
                    }
                    None => stripe.heard + stripe.doubt(),
                };
                next = next.min(at.max(stripe.believed_until));
            }
        }
        if self.is_source() && active {
            next = next.min(self.quiet_at());
        }
        if let Some(at) = self.settle_at {
            next = next.min(at);
        }
        // Not more often than this: whoever is late is looked at again soon enough.
        let earliest = now + Duration::from_millis(5);
        self.check_at = (next < Instant::MAX).then(|| next.max(earliest));
    }

    pub(super) fn on_notice(
        &mut self,
        from: P,
        notice: StreamNotice,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let trusted =
            self.planner == Some(from) || self.stripes.iter().any(|stripe| stripe.parent == Some(from));
        if trusted {
            self.take_notice(notice, now, actions);
        }
    }

    /// Takes the state of the stream if it is news, and passes it on.
    pub(super) fn take_notice(
        &mut self,
        notice: StreamNotice,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        if notice.version <= self.notice.version {
            return;
        }
        self.notice = notice;
        for stripe in &mut self.stripes {
            stripe.heard = now;
            stripe.probed = None;
        }
        if notice.state == ACTIVE {
            self.active_since.get_or_insert(now);
            self.sent_at = now;
        }
        actions.push(RelayAction::State(notice));
        let mut told: Vec<P> = Vec::new();
        for child in self.stripes.iter().flat_map(|stripe| &stripe.children) {
            if !told.contains(&child.peer) {
                told.push(child.peer);
                actions.push(RelayAction::Send {
                    to: child.peer,
                    message: ForestMessage::State(notice),
                    class: Class::Control,
                });
            }
        }
        if notice.state != ACTIVE {
            self.settle_until = now + self.facts.map_or(Duration::ZERO, |facts| facts.deadline);
            self.settle(now, actions);
        }
        self.check_soon(now);
    }

    /// Nothing will come that could show what was lost at the end, so it is asked for, again and again for a while.
    fn settle(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        self.settle_at = (now < self.settle_until && !self.is_source()).then(|| now + SETTLE_STEP);
        self.refresh(true, now, actions);
        for index in 0..self.stripes.len() {
            self.miss_holes(index, now);
        }
    }

    /// Repeats the questions to parents: those that are due, or all if something has changed.
    pub(super) fn refresh(&mut self, all: bool, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let mut due: SmallVec<[P; 16]> = SmallVec::new();
        for stripe in &self.stripes {
            let Some(parent) = stripe.parent else { continue };
            let entry = self.peers.get(&parent);
            let old = entry.is_some_and(|peer| now - peer.attached >= REFRESH);
            if (all || old || entry.is_none()) && !due.contains(&parent) {
                due.push(parent);
            }
        }
        for parent in due {
            self.ask(parent, 0, now, actions);
        }
    }

    pub(super) fn tick(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        for index in 0..self.stripes.len() {
            self.stripes[index].children.retain(|child| child.lease > now);
        }
        self.release_unused(actions);
        self.refresh(false, now, actions);
        self.look_at_load(now, actions);
        let keep_ms = self.facts.map_or(0, |facts| facts.deadline.as_millis() as u64);
        let keep_from_ms = self.stream_ms(now).saturating_sub(keep_ms);
        for track in self.tracks.values_mut() {
            track.log.trim(keep_from_ms);
        }
        if let Some(seals) = &mut self.seals {
            seals.forget_before(keep_from_ms.saturating_sub(keep_ms));
        }
        self.owed.retain(|(track, number), _| {
            self.tracks.get(track).is_some_and(|track| *number >= track.log.floor())
        });
    }
}

const ACTIVE: u8 = 1;

impl<P: Copy + Eq> super::Stripe<P> {
    /// The parent was heard of; after `gap` of silence.
    pub(super) fn note_heard(&mut self, now: Instant) {
        let gap_us = u32::try_from((now - self.heard).as_micros()).unwrap_or(u32::MAX).min(2_000_000);
        self.heard = now;
        self.believed_until = self.believed_until.min(now);
        self.stalled = false;
        self.probed = None;
        if self.interval_us == 0 {
            self.interval_us = gap_us.max(1);
            self.deviation_us = gap_us / 2;
        } else {
            let error = self.interval_us.abs_diff(gap_us);
            self.deviation_us = self.deviation_us - self.deviation_us / 8 + error / 8;
            self.interval_us = (self.interval_us - self.interval_us / 16 + gap_us / 16).max(1);
        }
    }

    /// Three intervals and the jitter (SplitStream's heirs wait for less and pay with flapping).
    fn silence(&self) -> Duration {
        self.patience(3, 4)
    }

    /// From here on the parent is asked whether it lives, and the children are told that nothing comes.
    fn doubt(&self) -> Duration {
        self.patience(2, 2)
    }

    fn patience(&self, intervals: u64, deviations: u64) -> Duration {
        if self.interval_us == 0 {
            return SILENCE_MAX / 4;
        }
        let us = u64::from(self.interval_us) * intervals + u64::from(self.deviation_us) * deviations;
        let floor = SILENCE_MIN * intervals as u32 / 3;
        Duration::from_micros(us).clamp(floor, SILENCE_MAX)
    }
}
