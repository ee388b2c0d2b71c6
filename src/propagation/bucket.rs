//! A token bucket in exact integers.

use core::time::Duration;

use crate::time::Instant;

const MICROS: u64 = 1_000_000;

/// Holds tokens as millionths of a byte: bytes a second times microseconds, so that refilling never rounds and never
/// drifts, however often it is asked.
///
/// In any stretch of time T it lets through at most `rate * T` plus its capacity.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    bytes_per_s: u64,
    capacity: u64,
    level: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket. It holds what comes in during `burst`, and one frame of `frame_bytes` in any case. The rate is
    /// raised or lowered to what a configuration may say: from 1,000 to 10^12.
    pub(crate) fn new(bytes_per_s: u64, burst: Duration, frame_bytes: u64, now: Instant) -> Self {
        let bytes_per_s = bytes_per_s.clamp(1_000, 1_000_000_000_000);
        let saved = u128::from(bytes_per_s).saturating_mul(burst.as_micros());
        let frame = u128::from(frame_bytes) * u128::from(MICROS);
        let capacity = u64::try_from(saved.max(frame)).unwrap_or(u64::MAX);
        Self { bytes_per_s, capacity, level: capacity, at: now }
    }

    /// The same, with no more tokens than `before` holds at `now`.
    pub(crate) fn inherit(mut self, before: Option<&mut Self>, now: Instant) -> Self {
        if let Some(before) = before {
            before.refill(now);
            self.level = self.level.min(before.level);
        }
        self
    }

    /// Whole bytes that may leave at `now`.
    pub(crate) fn bytes(&mut self, now: Instant) -> u64 {
        self.refill(now);
        self.level / MICROS
    }

    /// Takes the tokens for `bytes`.
    pub(crate) fn spend(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.level / MICROS, "more was sent than the budget allows");
        self.level = self.level.saturating_sub(bytes.saturating_mul(MICROS));
    }

    /// When there will be tokens for `bytes`, if nothing else is spent.
    pub(crate) fn when(&self, bytes: u64) -> Instant {
        let missing = bytes.saturating_mul(MICROS).saturating_sub(self.level);
        self.at + Duration::from_micros(missing.div_ceil(self.bytes_per_s))
    }

    fn refill(&mut self, now: Instant) {
        if now > self.at {
            let micros = now.as_micros() - self.at.as_micros();
            let level = u128::from(self.level) + u128::from(self.bytes_per_s) * u128::from(micros);
            self.level = u64::try_from(level).unwrap_or(u64::MAX).min(self.capacity);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refilling_in_any_steps_gives_the_same_and_the_promised_instant_is_the_first() {
        let start = Instant::from_secs(1);
        let mut often = Bucket::new(1_237, Duration::ZERO, 1_500, start);
        let mut once = often.clone();
        often.spend(1_500);
        once.spend(1_500);
        let due = once.when(1_400);
        let mut now = start;
        while now < due - Duration::from_micros(1) {
            now += Duration::from_micros(1);
            let _ = often.bytes(now);
        }
        assert_eq!(often.bytes(now), 1_399);
        assert_eq!(often.bytes(due), 1_400);
        assert_eq!(once.bytes(due), 1_400);
    }

    #[test]
    fn extremes_saturate() {
        let mut bucket = Bucket::new(u64::MAX, Duration::MAX, u64::MAX, Instant::ZERO);
        assert_eq!(bucket.bytes(Instant::MAX), u64::MAX / MICROS);
        bucket.spend(5);
        assert!(bucket.bytes(Instant::MAX) > 0);
        assert_eq!(bucket.when(u64::MAX), Instant::MAX);
    }

    #[test]
    fn a_new_rate_brings_no_new_burst() {
        let mut slow = Bucket::new(1_000, Duration::ZERO, 1_000, Instant::ZERO);
        slow.spend(1_000);
        let mut fast = Bucket::new(1_000_000, Duration::ZERO, 1_000, Instant::ZERO)
            .inherit(Some(&mut slow), Instant::ZERO);
        assert_eq!(fast.bytes(Instant::ZERO), 0);
        assert_eq!(fast.bytes(Instant::from_millis(1)), 1_000);
    }
}
