//! One connected peer, as the engine sees it.

use core::time::Duration;

use crate::config::LinkConfig;
use crate::membership::Liveness;
use crate::time::Instant;

/// The state of a link. The engine owns it; what waits to be sent is the egress's.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    /// The host was asked to connect and has not answered.
    pub(crate) dialing: bool,
    /// Swarms that need the link.
    pub(crate) holders: u32,
    /// When it was last of use.
    pub(crate) used: Instant,
    pub(crate) liveness: Liveness,
    /// When the peer was last told that a swarm is not joined here.
    pub(crate) disowned: Option<Instant>,
    budget: InboundBudget,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkState {
    /// The host was asked to connect by then.
    Connecting {
        deadline: Instant,
    },
    Up,
    /// What waits is still being sent, until then.
    Closing {
        deadline: Instant,
    },
}

impl Link {
    pub(crate) fn new(state: LinkState, patient: bool, config: &LinkConfig, now: Instant) -> Self {
        let liveness = Liveness::new(config, now);
        Self {
            state,
            dialing: matches!(state, LinkState::Connecting { .. }),
            holders: 0,
            used: now,
            liveness: if patient { liveness.patient() } else { liveness },
            disowned: None,
            budget: InboundBudget::new(now),
        }
    }

    /// Whether a frame of `bytes` is within what the peer may send.
    pub(crate) fn admit(&mut self, bytes: usize, config: &LinkConfig, now: Instant) -> bool {
        self.budget.admit(bytes, config, now)
    }

    /// Notes a frame beyond the budget. True, once in a second, if it is far beyond: twice the rate on top of it.
    pub(crate) fn is_gross(&mut self, config: &LinkConfig, now: Instant) -> bool {
        let excess = &mut self.budget.excess;
        if now - excess.0 >= Duration::from_secs(1) {
            *excess = (now, 0);
        }
        excess.1 = excess.1.saturating_add(1);
        excess.1 == config.inbound_frames_per_s.saturating_mul(2)
    }

    /// Whether this flood was not reported yet.
    pub(crate) fn report_flood(&mut self, now: Instant) -> bool {
        let first = self.budget.reported.is_none_or(|at| now - at >= Duration::from_secs(1));
        if first {
            self.budget.reported = Some(now);
        }
        first
    }

    /// When the engine must look at the link again.
    pub(crate) fn poll_timeout(&self, config: &LinkConfig) -> Option<Instant> {
        match self.state {
            LinkState::Connecting { deadline } | LinkState::Closing { deadline } => Some(deadline),
            LinkState::Up if self.holders > 0 => self.liveness.poll_timeout(),
            LinkState::Up => Some(self.used + config.linger),
        }
    }
}

/// What a peer may still send: two token buckets in microseconds of their rates, so that no remainder is ever lost.
#[derive(Clone, Copy, Debug)]
struct InboundBudget {
    /// The time at which the frames, and the bytes, received so far would have been due at the allowed rate.
    frames_due: Instant,
    bytes_due: Instant,
    reported: Option<Instant>,
    /// Frames beyond the budget since the second began.
    excess: (Instant, u32),
}

impl InboundBudget {
    fn new(now: Instant) -> Self {
        Self { frames_due: now, bytes_due: now, reported: None, excess: (now, 0) }
    }

    /// The generic cell rate algorithm (ITU-T I.371): a frame conforms if what came before it is due no later than a burst
    /// from now.
    fn admit(&mut self, bytes: usize, config: &LinkConfig, now: Instant) -> bool {
        let burst = Duration::from_secs(u64::from(config.inbound_burst));
        let frames_due = self.frames_due.max(now);
        let bytes_due = self.bytes_due.max(now);
        if frames_due > now + burst || bytes_due > now + burst {
            return false;
        }
        let micros =
            |amount: u64, rate: u64| Duration::from_micros(amount.saturating_mul(1_000_000) / rate.max(1));
        self.frames_due = frames_due + micros(1, u64::from(config.inbound_frames_per_s));
        self.bytes_due = bytes_due + micros(bytes as u64, config.inbound_bytes_per_s);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_budget() {
        let config = LinkConfig { inbound_frames_per_s: 100, inbound_burst: 1, ..LinkConfig::default() };
        let mut budget = InboundBudget::new(Instant::ZERO);
        let mut admitted = 0;
        for micros in (0..10_000_000).step_by(100) {
            admitted += u32::from(budget.admit(100, &config, Instant::from_micros(micros)));
        }
        assert!((1_000..=1_110).contains(&admitted), "{admitted} frames in 10 s at 100/s and a burst of 1 s");
    }
}
