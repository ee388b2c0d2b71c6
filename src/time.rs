//! Time as the host gives it: a number of microseconds, never read from a clock.

use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point in time: microseconds since an origin that the host chooses.
///
/// Any origin will do, as long as one engine always sees the same one: process start, boot, the Unix epoch, or
/// zero in a simulation. All arithmetic saturates; there is no overflow and no panic.
///
/// ```
/// use core::time::Duration;
/// use suffuse::Instant;
///
/// let start = Instant::from_millis(5);
/// let later = start + Duration::from_millis(20);
/// assert_eq!(later - start, Duration::from_millis(20));
/// assert_eq!(start - later, Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// One more than the microseconds, so that an `Option` of it takes no more room.
    NonZeroU64,
);

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self::from_micros(0);
    /// The end of time. Later instants saturate here.
    pub const MAX: Self = Self::from_micros(u64::MAX);

    /// The instant that many microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// The instant that many milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// The instant that many seconds after the origin.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_micros(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// The earliest of some deadlines, if there is any. The end of time is none.
    pub(crate) fn earliest<const N: usize>(deadlines: [Option<Self>; N]) -> Option<Self> {
        let first = deadlines.into_iter().fold(Self::MAX, |first, at| first.min(at.unwrap_or(Self::MAX)));
        (first < Self::MAX).then_some(first)
    }

    /// Time since `earlier`, or zero if `earlier` is later.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Instant {
    /// The origin.
    fn default() -> Self {
        Self::ZERO
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Instant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.as_micros())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Instant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <u64 as serde::Deserialize>::deserialize(deserializer).map(Self::from_micros)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(whole_micros(after)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, after: Duration) {
        *self = *self + after;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, before: Duration) -> Self {
        Self::from_micros(self.as_micros().saturating_sub(whole_micros(before)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.as_micros();
        write!(f, "{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
    }
}

/// Without the wide arithmetic of [`Duration::as_micros`].
const fn whole_micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros() as u64)
}

/// The clock of a host with an operating system: [`Instant`]s counted from its creation.
///
/// A convenience for event loops; no other part of the crate reads it.
///
/// ```
/// let clock = suffuse::Clock::new();
/// let (a, b) = (clock.now(), clock.now());
/// assert!(a <= b);
/// ```
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
#[allow(clippy::disallowed_types, reason = "the one place that may read a clock, for hosts that ask for it")]
pub struct Clock {
    origin: std::time::Instant,
}

#[cfg(feature = "std")]
impl Clock {
    /// A clock whose origin is now.
    #[allow(clippy::new_without_default, reason = "reading a clock is no default")]
    #[allow(clippy::disallowed_types, reason = "the one place that may read a clock")]
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// The present time.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// How long to wait for `deadline`: zero if it has passed.
    pub fn until(&self, deadline: Instant) -> Duration {
        deadline - self.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Instant::MAX + Duration::from_secs(1), Instant::MAX);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::MAX);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::from_secs(u64::MAX), Instant::MAX);
        assert_eq!(Instant::ZERO - Instant::MAX, Duration::ZERO);
        assert_eq!(Instant::MAX - Instant::ZERO, Duration::from_micros(u64::MAX - 1));
    }

    #[test]
    fn an_optional_instant_takes_the_room_of_an_instant() {
        assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
        assert_eq!(Instant::from_micros(7).as_micros(), 7);
        assert!(Instant::ZERO < Instant::from_micros(1) && Instant::default() == Instant::ZERO);
    }
}
