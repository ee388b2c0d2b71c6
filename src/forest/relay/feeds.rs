//! Who feeds whom: places in the trees, silence, replacement.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::silence::{ACTIVE, ENDED, INITIALIZING};
use super::{
    Candidate, ClockReading, PATH_MAX, Peer, REFRESH, RTT_GUESS, Relay, RelayAction, StreamFacts,
    WATCH_RETRY, stripes_of,
};
use crate::io::Class;
use crate::time::Instant;
use crate::wire::{Attach, Attached, ForestMessage, LostParent, Plan, StreamNotice, TrackPosition, WirePeer};

/// Rates that a plan may name, in bytes a second.
const RATE_MAX: u64 = 1 << 40;

/// And one that answers though nothing comes.
const BELIEVED_SLOW: Duration = Duration::from_millis(500);

/// When everybody was tried, how long before the next round.
const RETRY: Duration = Duration::from_millis(300);

/// A new parent that the plan names is asked so often: while two change places, the first request comes too early.
pub(super) const PLANNED_TRIES: u8 = 3;

/// A stranger is told that it is one this often.
const REFUSE_INTERVAL: Duration = Duration::from_millis(100);

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
        self.send(from, ForestMessage::PlanAck { version: plan.version }, actions);
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
        } else {
            self.facts = Some(facts);
        }
        self.passes_on = plan.passes_on;
        let is_shared = self.is_shared();
        let mut asked: SmallVec<[(P, u16); 8]> = SmallVec::new();
        let mut called: SmallVec<[(P, u16); 8]> = SmallVec::new();
        for feed in plan.feeds {
            let stripe = &mut self.stripes[usize::from(feed.stripe)];
            // Plans may overtake each other, and name few stripes each.
            if stripe.plan_version.is_some_and(|version| plan.version < version) {
                continue;
            }
            stripe.plan_version = Some(plan.version);
            stripe.backups = feed.backups.into_iter().filter(|&peer| peer != self.local).take(4).collect();
            let banned = self.banned.contains(&feed.parent);
            if feed.parent == self.local || banned || stripe.parent == Some(feed.parent) {
                if let Some(candidate) = stripe.candidate.take_if(|candidate| candidate.planned) {
                    called.push((candidate.peer, 1 << feed.stripe));
                }
                if banned {
                    self.accuse(feed.parent, now, actions);
                }
                continue;
            }
            let called_off = stripe.candidate.map(|candidate| candidate.peer);
            if is_shared && stripe.lost.is_some() {
                // Whoever answers first has it.
                stripe.tried.extend(called_off.filter(|peer| !stripe.tried.contains(peer)));
            } else if let Some(peer) =
                called_off.filter(|&peer| peer != feed.parent && stripe.parent != Some(peer))
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
        // One that named the others may be lost.
        let whole = self.stripes.iter().all(|stripe| stripe.plan_version.is_some());
        self.watch_tries = 0;
        self.watch_at = (!whole).then(|| now + WATCH_RETRY / 2);
        for (peer, stripes) in called {
            self.send(peer, ForestMessage::Detach { stripes }, actions);
        }
        self.told = self.wanted();
        for (peer, stripes) in asked {
            self.ask(peer, stripes, now, actions);
        }
        for (peer, attach) in core::mem::take(&mut self.early) {
            self.on_attach(peer, &attach, now, actions);
        }
        self.check_soon(now);
    }

    /// Asks `peer` to feed these stripes, besides those that it feeds already.
    pub(super) fn ask(&mut self, peer: P, stripes: u16, now: Instant, actions: &mut Vec<RelayAction<P>>) {
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
        if self.is_shared() {
            // Whom the plan gives others will feed them, though they have not come yet.
            feeds = feeds.max(self.slots());
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
    pub(super) fn peer(&mut self, peer: P, now: Instant, actions: &mut Vec<RelayAction<P>>) -> &mut Peer {
        self.peers.entry(peer).or_insert_with(|| {
            actions.push(RelayAction::Hold(peer));
            let rtt_us = RTT_GUESS.as_micros() as u32;
            Peer { uses: 0, rtt_us, ask: None, attached: now, serve_budget: None }
        })
    }

    /// Forgets peers that neither feed nor are fed.
    pub(super) fn release_unused(&mut self, actions: &mut Vec<RelayAction<P>>) {
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

    pub(super) fn forget_feeds(&mut self, actions: &mut Vec<RelayAction<P>>) {
        self.stripes.clear();
        self.fed = false;
        self.from_beginning = false;
        self.release_unused(actions);
    }

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
        let (knew_clock, told_clock) = (self.knows_clock(), self.tells_clock());
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.attached = now;
            let answer = peer.ask.take_if(|(token, _, _)| *token == attached.token);
            if let Some((_, stripes, sent)) = answer {
                asked = stripes;
                peer.set_rtt(now - sent);
            }
            let (rtt, measured) = (peer.rtt(), answer.is_some());
            // One that was not asked for is better than none.
            if attached.clock_us != Attached::<P>::CLOCK_UNKNOWN && (measured || !knew_clock) {
                self.compare_clocks(attached.clock_us, rtt, measured, now);
            }
        }
        let mut paths = attached.paths.into_iter();
        let count = self.stripes.len();
        for index in stripes_of(attached.accepted, count) {
            let path = paths.next().unwrap_or_default();
            let stripe = &self.stripes[index];
            let is_candidate = stripe.candidate.is_some_and(|candidate| candidate.peer == from);
            let is_late = self.is_orphan(index) && stripe.tried.contains(&from);
            let expected = stripe.parent == Some(from) || is_candidate || is_late;
            let has_another = stripe.lost.is_none() && stripe.parent.is_some_and(|parent| parent != from);
            if self.is_shared() && has_another && attached.tracks.is_empty() && !self.tracks.is_empty() {
                // It has nothing yet itself: it is asked again.
                continue;
            }
            if expected {
                let fed = from == self.source || path.last() == Some(&self.source);
                self.from_beginning |=
                    fed && attached.state.state == INITIALIZING && attached.tracks.is_empty();
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
            if let Some(candidate) = stripe.candidate.filter(|candidate| candidate.peer == from) {
                // Without need there is time to ask again.
                let calm = candidate.planned && stripe.parent.is_some() && stripe.lost.is_none();
                if !(calm && candidate.tries < PLANNED_TRIES) {
                    self.candidate_failed(index, now, actions);
                }
            } else if stripe.parent == Some(from) {
                self.parent_failed(index, now, actions);
            }
        }
        if !told_clock && self.tells_clock() {
            // Children that came before are told now.
            for index in 0..count {
                self.tell_positions(index, now, actions);
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

    /// Whether it is known how the source's clock runs.
    pub(super) fn knows_clock(&self) -> bool {
        self.is_source() || self.clock.is_some()
    }

    /// Whether it is known well enough to be told to others.
    pub(super) fn tells_clock(&self) -> bool {
        self.is_source() || self.clock.is_some_and(|clock| clock.measured)
    }

    /// Half the round trip is the best guess of the way back (RFC 5905, section 8, without the server's own delay).
    pub(super) fn compare_clocks(&mut self, clock_us: u64, rtt: Duration, measured: bool, now: Instant) {
        let error = if measured { rtt } else { rtt * 4 };
        let better = self.clock.is_none_or(|clock| {
            error <= clock.error || measured && !clock.measured || now - clock.at > REFRESH * 6
        });
        if better {
            let here = i64::try_from((now - rtt / 2).as_micros()).unwrap_or(i64::MAX);
            self.clock_offset_us = i64::try_from(clock_us).unwrap_or(i64::MAX).saturating_sub(here);
            self.clock = Some(ClockReading { error, at: now, measured });
        }
    }

    /// `from` feeds a stripe from now on.
    pub(super) fn adopt(
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
        let mut called_off = None;
        let stripe = &mut self.stripes[index];
        let previous = stripe.parent.replace(from);
        let is_new = previous != Some(from);
        stripe.candidate = stripe.candidate.filter(|candidate| candidate.peer != from);
        if self.shared_upload.is_some() && is_new && stripe.lost.is_some() {
            // Another one was asked meanwhile: what the plan says holds, but there is no haste any more.
            let other = stripe.candidate.take();
            stripe.candidate =
                other.filter(|other| other.from_plan).map(|other| Candidate { planned: true, ..other });
            called_off = other.filter(|other| !other.from_plan).map(|other| other.peer);
        }
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
            (stripe.delay_us, stripe.delay_peak_us) = (0, 0);
            stripe.slow = 0;
            stripe.left = false;
        }
        let lost = stripe.lost.take();
        stripe.handed_over = previous
            .filter(|_| self.shared_upload.is_some() && is_new && lost.is_none())
            .map(|peer| (peer, now));
        for previous in previous.filter(|_| is_new).into_iter().chain(called_off) {
            self.send(previous, ForestMessage::Detach { stripes: 1 << index }, actions);
        }
        if let Some(parent) = lost.filter(|&parent| parent != from) {
            self.lost.push(LostParent { stripe: index as u8, parent, adopted: Some(from) });
        }
        let quiet = self.notice.state != ACTIVE || now - self.stripes[index].heard > BELIEVED_SLOW;
        let news = self.catch_up(index, from, positions, is_new, quiet, now);
        let stripe = &mut self.stripes[index];
        let known = stripe.path.len() == path.len() + 1 && stripe.path[0] == from && stripe.path[1..] == path;
        if !known {
            stripe.path.clear();
            stripe.path.push(from);
            stripe.path.extend(path);
            stripe.path_news = true;
            self.tell_path(index, actions);
        }
        if news {
            self.tell_positions(index, now, actions);
        }
    }

    pub(super) fn tell_path(&self, index: usize, actions: &mut Vec<RelayAction<P>>) {
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
                stripe.path_news = true;
                self.tell_path(index, actions);
            }
        }
        self.flush_reports(actions);
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
        if let Some(adopted) = stripe.parent.filter(|_| candidate.planned && stripe.lost.is_none()) {
            // The plan thinks otherwise. Nobody is missed, so the parent is named twice.
            self.lost.push(LostParent { stripe: index as u8, parent: adopted, adopted: Some(adopted) });
            return;
        }
        if stripe.parent.is_none() || stripe.lost.is_some() {
            if stripe.parent.is_none() {
                stripe.lost.get_or_insert(candidate.peer);
            }
            self.find_parent(index, now, actions);
        }
    }

    /// Asks the next one who could feed a stripe.
    pub(super) fn find_parent(&mut self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let stripe = &self.stripes[index];
        let Some(peer) = self.next_choice(index, now) else {
            let banned = stripe.parent.is_some_and(|parent| self.banned.contains(&parent));
            let stripe = &mut self.stripes[index];
            if core::mem::take(&mut stripe.left) && !banned {
                // A slow parent is better than none.
                stripe.lost = None;
                stripe.tried.clear();
                return;
            }
            if self.shared_upload.is_some() && stripe.parent.is_some() && !banned {
                // There is nobody else: it is asked again and again.
                stripe.lost = None;
                stripe.tried.clear();
                (stripe.probed, stripe.heard) = (None, now);
                return;
            }
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

    /// Who is to be asked next to feed a stripe: backups, then those who feed another; first those of whom nothing bad is known.
    pub(super) fn next_choice(&self, index: usize, now: Instant) -> Option<P> {
        let stripe = &self.stripes[index];
        let others = self.stripes.iter().filter_map(|other| other.parent);
        let choices = stripe.backups.iter().copied().chain(others);
        let fits = |peer: &P| {
            *peer != self.local
                && !self.banned.contains(peer)
                && !stripe.tried.contains(peer)
                && !stripe.children.iter().any(|child| child.peer == *peer)
        };
        let is_silent = |peer: P| {
            let mut feeds = self.stripes.iter().filter(|stripe| stripe.parent == Some(peer));
            feeds.any(|feeds| feeds.lost == Some(peer) || now - feeds.heard >= feeds.doubt())
        };
        let mut fitting = choices.filter(fits);
        let first = fitting.next()?;
        if !self.is_shared() || !is_silent(first) {
            return Some(first);
        }
        fitting.find(|&peer| !is_silent(peer)).or(Some(first))
    }

    /// Whether a stripe has lost its parent, in a group: then several are asked at the same time.
    pub(super) fn is_orphan(&self, index: usize) -> bool {
        let stripe = &self.stripes[index];
        self.is_shared() && stripe.lost.is_some() && !stripe.left
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

    pub(super) fn note_fed(&mut self, actions: &mut Vec<RelayAction<P>>) {
        let fed = self.stripes.iter().filter(|stripe| stripe.parent.is_some()).count();
        if !self.fed && fed == self.stripes.len() && fed > 0 {
            self.fed = true;
            actions.push(RelayAction::Fed);
        } else if self.fed && fed == 0 {
            self.fed = false;
            actions.push(RelayAction::Unfed);
        }
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
        if notice.state == ENDED {
            // There is no place any more.
            self.watch_at = None;
        }
        if notice.state != ACTIVE {
            self.settle_until = now + self.facts.map_or(Duration::ZERO, |facts| facts.deadline);
            self.settle(now, actions);
        }
        self.check_soon(now);
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
            if core::mem::take(&mut self.stripes[index].path_news) && !self.is_shared() {
                self.tell_path(index, actions);
            }
        }
        self.release_unused(actions);
        self.note_wanted(now, actions);
        self.refresh(false, now, actions);
        self.look_at_load(now, actions);
        let ids: SmallVec<[u8; 8]> = self.tracks.keys().copied().collect();
        for id in ids {
            self.trim(id, now);
        }
        let keep_ms = self.facts.map_or(0, |facts| facts.deadline.as_millis() as u64);
        let keep_from_ms = self.stream_ms(now).saturating_sub(keep_ms);
        if let Some(seals) = &mut self.seals {
            seals.forget_before(keep_from_ms.saturating_sub(keep_ms));
        }
        self.owed.retain(|(track, number), _| {
            self.tracks.get(track).is_some_and(|track| *number >= track.log.floor())
        });
    }
}
