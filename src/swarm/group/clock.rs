//! The group's time: a hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva, Leone 2014).
//!
//! Claims and admissions are ordered by stamps of this clock. It starts at zero with the group, runs with each
//! participant's own clock, and jumps ahead to any greater stamp that arrives. So what happened after something is stamped
//! later, and what happened apart is ordered by real time, as well as links tell it.

use core::time::Duration;

use crate::time::Instant;

/// A clock this much ahead is no clock of this group.
const AHEAD_MAX: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug)]
pub(super) struct GroupClock {
    /// The group's time at `at`, in microseconds.
    base_us: u64,
    at: Instant,
    /// The newest stamp given out: no two are equal.
    newest_us: u64,
}

impl GroupClock {
    pub(super) fn new(now: Instant) -> Self {
        Self { base_us: 0, at: now, newest_us: 0 }
    }

    /// The group's time.
    pub(super) fn now_us(&self, now: Instant) -> u64 {
        let ran_us = u64::try_from((now - self.at).as_micros()).unwrap_or(u64::MAX);
        self.base_us.saturating_add(ran_us)
    }

    /// A stamp later than every one given out or seen here.
    pub(super) fn stamp(&mut self, now: Instant) -> u64 {
        self.newest_us = self.now_us(now).max(self.newest_us + 1);
        self.newest_us
    }

    /// Takes the time of somebody who is in, however far ahead it is: the first that is heard of.
    pub(super) fn adopt(&mut self, clock_us: u64, now: Instant) {
        self.raise(clock_us, now);
    }

    /// Notes a stamp of somebody else; false if no clock of this group can have made it.
    pub(super) fn observe(&mut self, stamp_us: u64, now: Instant) -> bool {
        let ahead_us = stamp_us.saturating_sub(self.now_us(now));
        if u128::from(ahead_us) > AHEAD_MAX.as_micros() {
            return false;
        }
        self.raise(stamp_us, now);
        true
    }

    fn raise(&mut self, stamp_us: u64, now: Instant) {
        if stamp_us > self.now_us(now) {
            (self.base_us, self.at) = (stamp_us, now);
        }
        self.newest_us = self.newest_us.max(stamp_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_and_follow_what_was_seen() {
        let start = Instant::from_secs(5);
        let mut clock = GroupClock::new(start);
        let first = clock.stamp(start);
        assert!(clock.stamp(start) > first);
        assert!(clock.observe(7_000_000, start));
        let after = clock.stamp(start);
        assert!(after > 7_000_000);
        assert_eq!(clock.now_us(start + Duration::from_secs(1)), 8_000_000);
    }

    #[test]
    fn a_clock_from_elsewhere_moves_nothing() {
        let mut clock = GroupClock::new(Instant::ZERO);
        assert!(!clock.observe(1 << 60, Instant::ZERO));
        assert!(clock.stamp(Instant::ZERO) < 1_000);
    }
}
