//! Failure detection of one link.

use core::time::Duration;

use crate::config::LinkConfig;
use crate::rng::mix;
use crate::time::Instant;

/// Whether the peer at the other end of a link is alive.
///
/// Any frame counts. An idle link is pinged; unanswered pings are repeated, faster than the silence that is taken for death,
/// so that some losses do no harm. The silence allowed adapts to the measured round-trip time (RFC 6298) between the
/// configured bounds. A host that comes late itself, because it was suspended or busy, blames nobody for the silence: it
/// pings first and waits again (the idea of Lifeguard's local health; Dadgar, Phillips, Currey 2018).
///
/// ```
/// use suffuse::membership::{Liveness, LivenessAction};
/// use suffuse::{Instant, LinkConfig};
///
/// let mut liveness = Liveness::new(&LinkConfig::default(), Instant::ZERO);
/// liveness.watch(Instant::ZERO);
/// let at = liveness.poll_timeout().unwrap();
/// assert!(matches!(liveness.handle_timeout(at), Some(LivenessAction::SendPing { .. })));
/// liveness.heard(at);
/// ```
#[derive(Clone, Debug)]
pub struct Liveness {
    heard: Instant,
    /// When the last ping left, if no answer came yet.
    pinged: Option<Instant>,
    wake: Instant,
    srtt_us: u32,
    rttvar_us: u32,
    token: u16,
    /// A ping was repeated and not answered yet.
    repeated: bool,
    /// It is pinged before the link has been idle for long.
    suspected: bool,
    /// Pings in a row without an answer, before the last.
    unanswered: u8,
    ping_after_ms: u32,
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

/// A wake-up this much later than asked for means that the host slept.
const SLEPT: Duration = Duration::from_millis(500);

/// A peer that was heard of so lately is not suspected.
const SUSPECT_SILENCE: Duration = Duration::from_millis(250);

/// Pings without an answer that raise a doubt: losses alone rarely do.
const DOUBTED_PINGS: u8 = 2;

impl Liveness {
    /// A link whose peer was heard of now.
    pub fn new(config: &LinkConfig, now: Instant) -> Self {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            heard: now,
            pinged: None,
            wake: now + config.ping_after,
            srtt_us: 0,
            rttvar_us: 0,
            token: 0,
            repeated: false,
            suspected: false,
            unanswered: 0,
            ping_after_ms: millis(config.ping_after),
            silence_min_ms: millis(config.silence_min),
            silence_max_ms: millis(config.silence_max),
        }
    }

    /// The same, for the end that leaves pinging to the other: it waits half as long again, so that an idle link carries
    /// one ping in an interval and not two.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.ping_after_ms += self.ping_after_ms / 2;
        self
    }

    /// Begins to watch: silence counts from now on. The first ping leaves at once, to measure the link.
    pub fn watch(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.pinged = None;
        self.wake = if self.srtt_us == 0 { now } else { now + self.ping_after() };
    }

    /// A frame came from the peer. The deadline is not moved; it is worked out anew when it comes.
    pub fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.suspected = false;
    }

    /// There is reason to fear that the peer is gone: it is pinged soon, unless it was heard of just now.
    pub fn suspect(&mut self, now: Instant) {
        if self.pinged.is_none() && self.srtt_us > 0 && now - self.heard >= SUSPECT_SILENCE {
            self.suspected = true;
            self.wake = self.wake.min(now + Duration::from_millis(1));
        }
    }

    /// An answer came. True if it gave a new estimate of the round-trip time.
    pub fn on_pong(&mut self, token: u16, now: Instant) -> bool {
        match self.pinged {
            // Only the newest ping: an older answer would count the wait between the two (Karn's algorithm).
            Some(at) if token == self.token => {
                self.pinged = None;
                self.note_rtt(now - at);
                self.rest(now);
                true
            }
            _ => false,
        }
    }

    /// A ping came from the peer: it looks after the link, and this end need not for a while.
    pub fn on_ping(&mut self, now: Instant) {
        if self.pinged.is_none() && self.srtt_us > 0 {
            self.rest(now);
        }
    }

    /// Nothing is to be done until the link has been idle for long enough.
    fn rest(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.wake = self.wake.max(self.heard + self.ping_after());
    }

    /// Whether a ping had to be repeated and then the peer was heard of: a frame was lost. Asking forgets it.
    pub fn take_loss(&mut self) -> bool {
        self.pinged.is_none() && core::mem::take(&mut self.repeated)
    }

    /// Whether so many pings are without an answer that the peer may well be dead. True once in a silence: after the ping
    /// with which the doubt began.
    pub fn is_first_doubt(&self) -> bool {
        self.unanswered == DOUBTED_PINGS
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

    /// The silence after which the peer counts as dead: eight times what a ping may take, so that several
    /// pings fit into it, between the least and the greatest.
    pub fn silence(&self) -> Duration {
        let millis = |ms: u32| Duration::from_millis(u64::from(ms));
        (self.ping_timeout() * 8).clamp(millis(self.silence_min_ms), millis(self.silence_max_ms))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<LivenessAction> {
        if now < self.wake {
            return None;
        }
        let late = now - self.wake > SLEPT;
        let idle_since = self.heard + self.ping_after();
        if self.srtt_us > 0 && now < idle_since && !self.suspected {
            self.pinged = None;
            self.wake = idle_since;
            return None;
        }
        if now - self.heard >= self.silence() {
            if !late {
                return Some(LivenessAction::Lost);
            }
            self.heard = now - self.ping_after();
        }
        self.unanswered = if self.pinged.is_some() { self.unanswered.saturating_add(1) } else { 0 };
        self.repeated |= self.pinged.is_some();
        self.token = mix(u64::from(self.token) ^ self.heard.as_micros()) as u16;
        self.pinged = Some(now);
        self.wake = (now + self.ping_timeout())
            .min((self.heard + self.silence()).max(now + Duration::from_millis(1)));
        Some(LivenessAction::SendPing { token: self.token })
    }

    /// When [`Self::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.wake)
    }

    fn ping_after(&self) -> Duration {
        Duration::from_millis(u64::from(self.ping_after_ms))
    }

    /// How long the answer to a ping may take before the ping is repeated.
    fn ping_timeout(&self) -> Duration {
        match self.rtt() {
            Some((rtt, deviation)) => (rtt + deviation * 4).max(Duration::from_millis(120)),
            None => Duration::from_millis(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn config() -> LinkConfig {
        LinkConfig {
            ping_after: Duration::from_secs(1),
            silence_min: Duration::from_millis(2_500),
            ..LinkConfig::default()
        }
    }

    fn watched(now: Instant) -> Liveness {
        let mut liveness = Liveness::new(&config(), now);
        liveness.watch(now);
        liveness
    }

    /// Runs until `end`; answers pings after 40 ms unless `lost` says no. Returns when it was lost, and the pings sent.
    fn run(
        mut liveness: Liveness,
        end: Instant,
        mut lost: impl FnMut(u32) -> bool,
    ) -> (Option<Instant>, u32) {
        let mut pings = 0;
        let mut answer: Option<(Instant, u16)> = None;
        loop {
            let wake = liveness.poll_timeout().unwrap();
            let now = answer.map_or(wake, |(at, _)| at.min(wake));
            if now > end {
                return (None, pings);
            }
            if let Some((at, token)) = answer.filter(|(at, _)| *at <= now) {
                liveness.heard(at);
                liveness.on_pong(token, at);
                answer = None;
                continue;
            }
            match liveness.handle_timeout(now) {
                Some(LivenessAction::Lost) => return (Some(now), pings),
                Some(LivenessAction::SendPing { token }) => {
                    pings += 1;
                    if !lost(pings) {
                        answer = Some((now + Duration::from_millis(40), token));
                    }
                }
                None => {}
            }
            assert!(liveness.poll_timeout().unwrap() > now, "it spins at {now:?}");
        }
    }

    #[test]
    fn a_live_idle_peer_is_pinged_once_an_interval_and_never_lost() {
        let (lost, pings) = run(watched(Instant::ZERO), Instant::from_secs(100), |_| false);
        assert_eq!(lost, None);
        assert!((90..=101).contains(&pings), "{pings} pings");
    }

    #[test]
    fn a_dead_peer_is_lost_after_the_least_silence() {
        let (lost, _) = run(watched(Instant::ZERO), Instant::from_secs(100), |ping| ping > 3);
        let config = config();
        let silent_since = Instant::from_millis(2_200);
        let at = lost.unwrap();
        assert!(at >= silent_since && at <= silent_since + config.silence_min * 2, "{at:?}");
    }

    #[test]
    fn two_lost_pings_in_three_do_no_harm() {
        let (lost, _) = run(watched(Instant::ZERO), Instant::from_secs(1_000), |ping| ping % 3 != 0);
        assert_eq!(lost, None);
    }

    #[test]
    fn a_lost_ping_is_noticed_once_the_next_is_answered() {
        let mut liveness = watched(Instant::ZERO);
        let ping = |liveness: &mut Liveness| loop {
            let at = liveness.poll_timeout().unwrap();
            match liveness.handle_timeout(at) {
                Some(LivenessAction::SendPing { token }) => break (at, token),
                Some(LivenessAction::Lost) => panic!("given up at {at:?}"),
                None => {}
            }
        };
        let (at, token) = ping(&mut liveness);
        assert!(liveness.on_pong(token, at + Duration::from_millis(40)) && !liveness.take_loss());
        ping(&mut liveness);
        let (at, token) = ping(&mut liveness);
        assert!(!liveness.take_loss(), "the peer may be dead");
        assert!(liveness.on_pong(token, at + Duration::from_millis(40)));
        assert!(liveness.take_loss());
        assert!(!liveness.take_loss(), "one loss is reported once");
    }

    #[test]
    fn a_doubt_is_raised_once_when_two_pings_are_without_an_answer() {
        let mut liveness = watched(Instant::ZERO);
        let mut doubts = Vec::new();
        for ping in 0..5 {
            let at = liveness.poll_timeout().unwrap();
            assert!(matches!(liveness.handle_timeout(at), Some(LivenessAction::SendPing { .. })));
            doubts.extend(liveness.is_first_doubt().then_some(ping));
        }
        assert_eq!(doubts, [2]);
    }

    #[test]
    fn a_suspect_is_pinged_soon_and_left_alone_once_it_was_heard_of() {
        let start = Instant::from_secs(10);
        let mut liveness = watched(start);
        let Some(LivenessAction::SendPing { token }) = liveness.handle_timeout(start) else {
            panic!("no ping")
        };
        assert!(liveness.on_pong(token, start + Duration::from_millis(40)));
        let now = start + Duration::from_millis(100);
        liveness.heard(now);
        let idle_ping = |liveness: &mut Liveness| {
            let mut at = liveness.poll_timeout().unwrap();
            while liveness.handle_timeout(at).is_none() {
                at = liveness.poll_timeout().unwrap();
            }
            at
        };
        let mut trusted = liveness.clone();
        trusted.suspect(now + SUSPECT_SILENCE - Duration::from_millis(1));
        assert_eq!(idle_ping(&mut trusted), now + config().ping_after, "it was heard of just now");

        let at = now + SUSPECT_SILENCE;
        liveness.suspect(at);
        assert_eq!(idle_ping(&mut liveness), at + Duration::from_millis(1));
        let mut silent = liveness.clone();
        let last = [idle_ping(&mut silent), idle_ping(&mut silent)][1];
        assert!(
            silent.is_first_doubt() && last < now + config().ping_after,
            "doubted before it would be pinged"
        );
        let answered = at + Duration::from_millis(41);
        liveness.heard(answered);
        assert_eq!(idle_ping(&mut liveness), answered + config().ping_after);
    }

    #[test]
    fn the_defaults_find_a_dead_neighbour_within_two_seconds_in_the_median() {
        // Dead at any moment of the idle time: half of it has passed in the median.
        let config = LinkConfig::default();
        assert!(config.silence_min - config.ping_after / 2 <= Duration::from_secs(2));
        // Pings are repeated until then, so that losses do no harm.
        let timeout = Duration::from_millis(120);
        assert!((config.silence_min - config.ping_after).as_millis() / timeout.as_millis() >= 8);
    }

    #[test]
    fn a_host_that_slept_blames_nobody() {
        let mut liveness = watched(Instant::ZERO);
        liveness.handle_timeout(Instant::ZERO);
        let woken = Instant::from_secs(30);
        assert!(matches!(liveness.handle_timeout(woken), Some(LivenessAction::SendPing { .. })));
        let (lost, _) = run(liveness, Instant::from_secs(60), |_| true);
        assert!(lost.is_some_and(|at| at > woken + Duration::from_secs(1)), "{lost:?}");
    }

    #[test]
    fn frames_alone_keep_a_busy_link_quiet() {
        let mut liveness = watched(Instant::ZERO);
        liveness.note_rtt(Duration::from_millis(40));
        let mut pings = 0;
        for millis in (0..20_000).step_by(100) {
            let now = Instant::from_millis(millis);
            liveness.heard(now);
            pings += u32::from(liveness.handle_timeout(now).is_some());
        }
        assert_eq!(pings, 0);
    }

    #[test]
    fn estimates_follow_rfc_6298() {
        let mut liveness = watched(Instant::ZERO);
        liveness.note_rtt(Duration::from_millis(100));
        assert_eq!(liveness.rtt(), Some((Duration::from_millis(100), Duration::from_millis(50))));
        for _ in 0..100 {
            liveness.note_rtt(Duration::from_millis(60));
        }
        let (rtt, deviation) = liveness.rtt().unwrap();
        assert!(rtt.abs_diff(Duration::from_millis(60)) < Duration::from_millis(1));
        assert!(deviation < Duration::from_millis(2));
    }
}
