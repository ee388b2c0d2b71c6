//! Silence: of parents, of the source, and after the end.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::feeds::PLANNED_TRIES;
use super::{Candidate, Peer, RTT_GUESS, Relay, RelayAction, stripes_of};
use crate::time::Instant;
use crate::wire::{ForestMessage, WirePeer};

/// The silence that is taken for death, at least: less is jitter.
const SILENCE_MIN: Duration = Duration::from_millis(80);

/// And at most, for streams of few chunks.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long a parent is believed that says it lives though nothing comes to it.
const BELIEVED: Duration = Duration::from_millis(1_500);

/// How often the end of a stream is asked for.
const SETTLE_STEP: Duration = Duration::from_millis(200);

/// A source that is active and publishes nothing says so this often.
const STALL_REPEAT: Duration = Duration::from_millis(500);

/// The same in a group where others relay: there somebody waits for the next word.
const STALL_REPEAT_SHARED: Duration = Duration::from_millis(60);
const BELIEVED_SHARED: Duration = Duration::from_millis(110);

/// A helper of which something was heard so lately is not dead, but for this long at most.
const ALIVE: Duration = Duration::from_millis(80);
const BUSY_MAX: Duration = Duration::from_millis(600);

/// In a group, who has lost its parent asks another after this time, and takes whoever answers first.
const HASTE: Duration = Duration::from_millis(30);

impl<P: WirePeer> Relay<P> {
    fn stall_repeat(&self) -> Duration {
        let mut children = self.stripes.iter().flat_map(|stripe| &stripe.children);
        let is_relayed = self.is_shared() && children.any(|child| child.feeds > 0);
        if is_relayed { STALL_REPEAT_SHARED } else { STALL_REPEAT }
    }

    /// Whether a peer relays a stream of a group.
    fn is_helper(&self, parent: P) -> bool {
        self.is_shared() && parent != self.source
    }

    /// Helpers of a group of which nothing has come for a while: of them it should be told when anything was heard of them.
    pub fn doubted(&self, now: Instant) -> impl Iterator<Item = P> + '_ {
        let due = self.check_at.is_some_and(|at| at <= now) && self.is_shared();
        let silent = self.stripes.iter().filter(move |stripe| due && now - stripe.heard >= stripe.doubt());
        silent.filter_map(|stripe| stripe.parent).filter(|&parent| parent != self.source)
    }

    /// When anything was heard of doubted parents, in whatever swarm. To be told before [`Self::handle_timeout`].
    pub fn note_heard(&mut self, heard: Vec<(P, Instant)>) {
        self.heard_of = heard;
    }

    /// How long a helper may be silent: who still sends something else is only busy.
    fn helper_patience(&self, index: usize) -> Instant {
        let stripe = &self.stripes[index];
        let heard = stripe.heard + stripe.helper_silence();
        let parent = stripe.parent;
        let alive = self.heard_of.iter().find(|(peer, _)| Some(*peer) == parent).map(|(_, at)| *at + ALIVE);
        let most = stripe.heard + (stripe.helper_silence() * 4).min(BUSY_MAX);
        heard.max(alive.unwrap_or(heard).min(most))
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
                if now >= candidate.sent + self.candidate_time(index, candidate.peer, now) {
                    let again = candidate.from_plan && !self.is_orphan(index);
                    if candidate.tries < PLANNED_TRIES && again {
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

    pub(super) fn check_silence(&mut self, index: usize, now: Instant, actions: &mut Vec<RelayAction<P>>) {
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
        // In a group another parent is sought meanwhile: this one stays until there is one.
        let is_dead = if self.is_helper(parent) {
            now >= self.helper_patience(index)
        } else {
            silent >= stripe.silence() && now - probed >= self.answer_time(parent)
        };
        if is_dead {
            self.stats.failovers += 1;
            self.parent_failed(index, now, actions);
        }
    }

    pub(super) fn tell_stalled(&self, index: usize, actions: &mut Vec<RelayAction<P>>) {
        for child in &self.stripes[index].children {
            self.send(child.peer, ForestMessage::Stalled { stripes: 1 << index }, actions);
        }
    }

    /// A source that publishes nothing for a while says so, lest its children take it for dead.
    pub(super) fn check_publishing(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if self.notice.state != ACTIVE
            || now < self.quiet_at()
            || now - self.stalled_said < self.stall_repeat() / 8
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
    pub(super) fn quiet_at(&self) -> Instant {
        let gap =
            Duration::from_micros(u64::from(self.publish_gap_us) * 2).clamp(SILENCE_MIN / 2, SILENCE_MAX / 4);
        let after = if self.stalled_said > self.sent_at {
            self.stalled_said + self.stall_repeat()
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
        let believed = if self.is_helper(from) { BELIEVED_SHARED } else { BELIEVED };
        for index in stripes_of(stripes, self.stripes.len()) {
            let stripe = &mut self.stripes[index];
            if stripe.parent == Some(from) {
                stripe.believed_until = now + believed;
                stripe.stalled = true;
                self.tell_stalled(index, actions);
                self.miss_holes(index, now);
            }
        }
    }

    /// Nothing will come that could show what was lost at the end, so it is asked for, again and again for a while.
    pub(super) fn settle(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        self.settle_at = (now < self.settle_until && !self.is_source()).then(|| now + SETTLE_STEP);
        self.refresh(true, now, actions);
        for index in 0..self.stripes.len() {
            self.miss_holes(index, now);
        }
    }

    pub(super) fn answer_time(&self, peer: P) -> Duration {
        let rtt = self.peers.get(&peer).map_or(RTT_GUESS, Peer::rtt);
        rtt + rtt / 8 + Duration::from_millis(15)
    }

    /// How long a candidate has before another is asked.
    fn candidate_time(&self, index: usize, peer: P, now: Instant) -> Duration {
        let time = self.answer_time(peer);
        if self.is_orphan(index) && self.next_choice(index, now).is_some() { time.min(HASTE) } else { time }
    }

    /// Notes when the stripes must be looked at next.
    pub(super) fn check_soon(&mut self, now: Instant) {
        let active = self.notice.state == ACTIVE;
        let mut next = Instant::MAX;
        for (index, stripe) in self.stripes.iter().enumerate() {
            if let Some(candidate) = stripe.candidate {
                next = next.min(candidate.sent + self.candidate_time(index, candidate.peer, now));
            } else if let Some(at) = stripe.retry_at.filter(|_| stripe.parent.is_none()) {
                next = next.min(at);
            }
            if active && stripe.parent.is_some() {
                let at = match stripe.probed {
                    Some(probed) => {
                        let answered =
                            stripe.parent.map_or(probed, |parent| probed + self.answer_time(parent));
                        let is_helper = stripe.parent.is_some_and(|parent| self.is_helper(parent));
                        if is_helper {
                            self.helper_patience(index)
                        } else {
                            answered.max(stripe.heard + stripe.silence())
                        }
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
}

/// States of a stream, as [`StreamState`](crate::StreamState) counts.
pub(super) const INITIALIZING: u8 = 0;
pub(super) const ACTIVE: u8 = 1;
pub(super) const ENDED: u8 = 3;

impl<P: Copy + Eq> super::Stripe<P> {
    /// The parent was heard of: the gap since the last time is what is usual on this stripe.
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

    /// From here on a parent that has not answered is taken for dead: three intervals and the jitter.
    pub(super) fn silence(&self) -> Duration {
        self.patience(3, 4)
    }

    /// From here on a helper of a group is replaced.
    pub(super) fn helper_silence(&self) -> Duration {
        self.patience(3, 4)
    }

    /// From here on the parent is asked whether it lives, and the children are told that nothing comes.
    pub(super) fn doubt(&self) -> Duration {
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
