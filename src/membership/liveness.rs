//! Failure detection of one link.

use core::time::Duration;

use crate::config::LinkConfig;
use crate::rng::mix;
use crate::time::Instant;

/// Whether the peer at the other end of a link is alive.
///
/// Any frame counts. An idle link is pinged; unanswered pings are repeated, faster than the silence that is taken for death,
/// so that some losses do no harm. The silence allowed adapts to the measured round-trip time (RFC 6298) between the
/// configured bounds. A peer that promises signs of life ([`Self::on_beat`]) is pinged only when one is missing; the neighbour that
/// misses the first tells the others, which then [`hurry`](Self::hurry) (SWIM; Das, Gupta, Motivala 2002). A host
/// that comes late itself, because it was suspended or busy, blames nobody for the silence: it pings first and waits again,
/// and grants everybody more time for a while ([`LocalHealth`]).
///
/// ```
/// use suffuse::membership::{Liveness, LivenessAction, LocalHealth};
/// use suffuse::{Instant, LinkConfig};
///
/// let mut liveness = Liveness::new(&LinkConfig::default(), Instant::ZERO);
/// let mut health = LocalHealth::default();
/// liveness.watch(Instant::ZERO);
/// let at = liveness.poll_timeout().unwrap();
/// assert!(matches!(liveness.handle_timeout(at, &mut health), Some(LivenessAction::SendPing { .. })));
/// liveness.heard(at);
/// ```
#[derive(Clone, Debug)]
pub struct Liveness {
    heard: Instant,
    /// When the last ping left, if no answer came yet.
    pinged: Option<Instant>,
    /// When the first of the pings left that nothing was heard after.
    asked: Option<Instant>,
    wake: Instant,
    /// When a ping was last answered.
    measured: Instant,
    srtt_us: u32,
    rttvar_us: u32,
    token: u16,
    /// A ping was repeated and not answered yet.
    repeated: bool,
    /// The other end pings first.
    is_patient: bool,
    /// Others say that the peer does not answer.
    is_hurried: bool,
    /// Others say that it does.
    is_vouched: bool,
    /// The pings began because a promised sign of life was missing.
    is_missed: bool,
    /// Pings in a row without an answer, before the last.
    unanswered: u8,
    /// By when the next sign of life is promised, and how often.
    promise: Option<(Instant, Duration)>,
    ping_after_ms: u32,
    suspicion_min_ms: u32,
    silence_min_ms: u32,
    silence_max_ms: u32,
}

/// What a [`Liveness`] wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LivenessAction {
    /// Send a ping with this token.
    SendPing {
        /// To be repeated by the answer.
        token: u16,
    },
    /// The peer counts as dead.
    Lost,
}

/// How far this node can trust its own eyes: Lifeguard's local health multiplier (Dadgar, Phillips, Currey 2018).
///
/// A node that sleeps, or finds those silent that others can reach, is itself what is wrong, and is slower to give peers up
/// until some have answered in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LocalHealth {
    /// From 0, healthy, to [`POOR_HEALTH`].
    poor: u8,
    /// Promises to this node that were kept since the last step.
    kept: u8,
}

/// The worst health: everybody is granted three times the time.
const POOR_HEALTH: u8 = 4;

/// So many promises that peers have kept in a row make health one step better.
const KEPT_TO_IMPROVE: u8 = 8;

/// A sign of life is not sent to a peer to which anything else was sent within this time.
pub(crate) const MOMENT: Duration = Duration::from_millis(500);

/// The round-trip time is measured anew after so long.
const MEASURE_AGAIN: Duration = Duration::from_secs(60);

/// A wake-up this much later than asked for means that the host slept.
const SLEPT: Duration = Duration::from_millis(500);

/// A peer that was heard of so lately is not suspected.
const SUSPECT_SILENCE: Duration = Duration::from_millis(250);

/// Pings without an answer that raise a doubt: losses alone rarely do.
const DOUBTED_PINGS: u8 = 2;

/// What others say of a peer that is doubted here, too, makes the silence for which it is given up shorter: by so many
/// sixteenths.
const SHORTER_SIXTEENTHS: u32 = 3;

/// So many more, and others are told again: the news may have been lost.
const DOUBTED_AGAIN: u8 = 2;

impl LocalHealth {
    /// Something was this node's own fault: it slept, or cannot reach whom others can.
    pub fn worsen(&mut self) {
        (self.poor, self.kept) = ((self.poor + 1).min(POOR_HEALTH), 0);
    }

    /// A peer answered at the first try.
    pub fn improve(&mut self) {
        self.poor = self.poor.saturating_sub(1);
    }

    /// A sign of life came when it was promised: some of them show that this node hears in time what others send.
    pub fn note_kept(&mut self) {
        self.kept += 1;
        if self.kept >= KEPT_TO_IMPROVE {
            self.kept = 0;
            self.improve();
        }
    }

    /// What is granted instead of `span`: up to three times as much.
    pub fn stretch(self, span: Duration) -> Duration {
        span + span * u32::from(self.poor) / 2
    }
}

impl Liveness {
    /// A link whose peer was heard of now.
    pub fn new(config: &LinkConfig, now: Instant) -> Self {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            heard: now,
            pinged: None,
            asked: None,
            wake: now + config.ping_after,
            measured: now,
            srtt_us: 0,
            rttvar_us: 0,
            token: 0,
            repeated: false,
            is_patient: false,
            is_hurried: false,
            is_vouched: false,
            is_missed: false,
            unanswered: 0,
            promise: None,
            ping_after_ms: millis(config.ping_after),
            suspicion_min_ms: millis(config.suspicion_min),
            silence_min_ms: millis(config.silence_min),
            silence_max_ms: millis(config.silence_max),
        }
    }

    /// The same, for the end that leaves pinging to the other: it waits half as long again, so that an idle link carries
    /// one ping in an interval and not two.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.is_patient = true;
        self
    }

    /// Begins to watch: silence counts from now on. The first ping leaves at once, to measure the link.
    pub fn watch(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        (self.pinged, self.asked) = (None, None);
        self.wake = if self.srtt_us == 0 { now } else { now + self.ping_after() };
    }

    /// A sign of life came, and others are promised: the next after `next` at the latest, or a moment after any other frame.
    /// True if this one was promised, and came in time.
    pub fn on_beat(&mut self, next: Duration, now: Instant) -> bool {
        let is_kept = self.promise.is_some_and(|(promised, _)| now <= promised);
        let next = next.max(MOMENT);
        let promised = now + next + self.slack();
        self.promise = Some((promised, next));
        if self.asked.is_none() {
            // What a link takes must be measured now and then all the same.
            let stale = now - self.measured >= MEASURE_AGAIN;
            self.wake = if stale { now } else { promised };
        }
        is_kept
    }

    /// No signs of life are to be expected any more.
    pub fn release(&mut self) {
        self.promise = None;
    }

    /// A frame came from the peer. The deadline is not moved; it is worked out anew when it comes.
    pub fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// When the peer was heard of last.
    pub fn last_heard(&self) -> Instant {
        self.heard
    }

    /// There is reason to fear that the peer is gone: it is pinged at once and in a hurry, unless it was heard of just now.
    pub fn suspect(&mut self, now: Instant) {
        if self.srtt_us > 0 && now - self.heard >= SUSPECT_SILENCE {
            self.hurry(now);
        }
    }

    /// An answer came. True if it gave a new estimate of the round-trip time.
    pub fn on_pong(&mut self, token: u16, now: Instant) -> bool {
        match self.pinged {
            // Only the newest ping: an older answer would count the wait between the two (Karn's algorithm).
            Some(at) if token == self.token => {
                self.pinged = None;
                self.measured = now;
                self.note_rtt(now - at);
                self.rest(now);
                true
            }
            _ => false,
        }
    }

    /// Nothing is to be done until the link has been idle for long enough, unless signs of life are promised.
    fn rest(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        if self.promise.is_none() {
            self.wake = self.wake.max(self.heard + self.ping_after());
        }
    }

    /// Another neighbour of the peer finds that it does not answer: it is pinged at once, and given up sooner than usual if it
    /// does not answer here either. Nobody is given up on hearsay.
    pub fn hurry(&mut self, now: Instant) {
        self.is_hurried = true;
        if self.asked.is_none_or(|at| self.heard > at) {
            self.asked = None;
            self.wake = now;
        }
    }

    /// Another neighbour of the peer has had an answer from it: it is given the longest silence. False if it was not in doubt,
    /// or if another has said so already.
    pub fn vouch(&mut self) -> bool {
        let is_news = !self.is_vouched && self.asked.is_some_and(|at| self.heard <= at);
        self.is_vouched |= is_news;
        is_news
    }

    /// Whether a ping had to be repeated and then the peer was heard of: a frame was lost. Asking forgets it.
    pub fn take_loss(&mut self) -> bool {
        self.pinged.is_none() && core::mem::take(&mut self.repeated)
    }

    /// Whether the peer may well be dead: a promised sign of life is missing, or so many pings are without an answer. Once more
    /// later, as others may not have heard of it.
    pub fn is_news(&self) -> bool {
        let first = match self.promise {
            _ if self.is_missed => 0,
            Some(_) => DOUBTED_PINGS - 1,
            None => DOUBTED_PINGS,
        };
        self.unanswered == first || self.unanswered == first + DOUBTED_AGAIN
    }

    /// Whether others have told of the doubt, and nobody needs to be told by this node. They may not know of everybody that watches
    /// the peer, so that it is told once more when several pings are without an answer.
    pub fn is_hearsay(&self) -> bool {
        self.is_hurried && self.unanswered <= DOUBTED_PINGS
    }

    /// Whether others began to doubt the peer before this node did.
    pub fn is_hurried(&self) -> bool {
        self.is_hurried
    }

    /// Takes a measured round-trip time into the estimate (RFC 6298, section 2).
    pub fn note_rtt(&mut self, rtt: Duration) {
        let rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX / 8).clamp(1, u32::MAX / 8);
        if self.srtt_us == 0 {
            self.srtt_us = rtt_us;
            self.rttvar_us = rtt_us / 2;
        } else {
            let error = self.srtt_us.abs_diff(rtt_us);
            self.rttvar_us = self.rttvar_us - self.rttvar_us / 4 + error / 4;
            self.srtt_us = self.srtt_us - self.srtt_us / 8 + rtt_us / 8;
        }
    }

    /// The smoothed round-trip time and its deviation, once measured.
    pub fn rtt(&self) -> Option<(Duration, Duration)> {
        let micros = |us: u32| Duration::from_micros(u64::from(us));
        (self.srtt_us > 0).then(|| (micros(self.srtt_us), micros(self.rttvar_us)))
    }

    /// The silence after which the peer counts as dead if nobody else watches it: eight times what a ping may take, so that
    /// several pings fit into it, between the least and the greatest.
    pub fn silence(&self) -> Duration {
        (self.ping_timeout() * 8).clamp(millis(self.silence_min_ms), millis(self.silence_max_ms))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, health: &mut LocalHealth) -> Option<LivenessAction> {
        if now < self.wake {
            return None;
        }
        if now - self.wake > SLEPT {
            health.worsen();
            // What came meanwhile may still wait to be read.
            self.forget_silence();
            self.heard = now - self.ping_after();
        }
        if self.asked.is_some_and(|at| self.heard > at) {
            if self.unanswered == 0 {
                health.improve();
            }
            self.forget_silence();
        }
        if self.asked.is_none() {
            let due = self.ping_due(now);
            let stale = self.srtt_us == 0 || now - self.measured >= MEASURE_AGAIN;
            if !stale && now < due && !self.is_hurried {
                self.wake = due;
                return None;
            }
            (self.asked, self.unanswered) = (Some(now), 0);
            self.is_missed = self.promise.is_some() && !self.is_hurried && now >= due;
        } else if now >= self.lost_at(*health) {
            return Some(LivenessAction::Lost);
        } else {
            self.unanswered = self.unanswered.saturating_add(1);
            self.repeated |= self.pinged.is_some();
        }
        self.token = mix(u64::from(self.token) ^ self.heard.as_micros()) as u16;
        self.pinged = Some(now);
        let lost_at = self.lost_at(*health).max(now + Duration::from_millis(1));
        self.wake = (now + self.ping_timeout()).min(lost_at);
        Some(LivenessAction::SendPing { token: self.token })
    }

    /// When [`Self::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.wake)
    }

    fn forget_silence(&mut self) {
        (self.pinged, self.asked) = (None, None);
        (self.is_hurried, self.is_vouched, self.is_missed, self.unanswered) = (false, false, false, 0);
    }

    /// When the peer counts as dead, if nothing is heard of it.
    fn lost_at(&self, health: LocalHealth) -> Instant {
        let Some(asked) = self.asked else { return Instant::MAX };
        let longest = millis(self.silence_max_ms);
        if self.is_vouched {
            return asked + longest;
        }
        let alone = self.heard + self.silence();
        let suspicion = (self.ping_timeout() * 8).clamp(millis(self.suspicion_min_ms), longest);
        let span = match self.promise {
            // Two have found the same.
            _ if self.is_hurried => suspicion * (16 - SHORTER_SIXTEENTHS) / 16,
            Some(_) => suspicion,
            None => return alone.max(asked + Duration::from_millis(1)),
        };
        asked + health.stretch(span).min(longest)
    }

    /// When the peer is to be pinged, if nothing is heard of it. A promise that was not kept, and not asked about, is renewed.
    fn ping_due(&mut self, now: Instant) -> Instant {
        let Some((promised, span)) = self.promise else { return self.heard + self.ping_after() };
        if promised > now {
            return promised;
        }
        let next = promised + span;
        let next = if next > now { next } else { now + span };
        self.promise = Some((next, span));
        // Anything else stands for it.
        if self.heard + self.slack() + MOMENT >= promised { next } else { promised }
    }

    /// How late a sign of life may be.
    fn slack(&self) -> Duration {
        Duration::from_millis(100) + Duration::from_micros(u64::from(self.rttvar_us)) * 4
    }

    /// How long the peer may be silent before it is pinged, if it promises nothing.
    fn ping_after(&self) -> Duration {
        let patience_ms = if self.is_patient { self.ping_after_ms / 2 } else { 0 };
        millis(self.ping_after_ms + patience_ms)
    }

    /// How long the answer to a ping may take before the ping is repeated.
    fn ping_timeout(&self) -> Duration {
        match self.rtt() {
            Some((rtt, deviation)) => (rtt + deviation * 4).max(Duration::from_millis(120)),
            None => Duration::from_millis(300),
        }
    }
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(u64::from(millis))
}

#[cfg(test)]
mod tests;
