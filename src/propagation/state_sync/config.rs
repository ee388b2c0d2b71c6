//! What can be set, and what is refused.

use core::time::Duration;

use crate::interest::{InterestError, InterestLimits};

/// The configuration of a [`StateSync`](crate::StateSync).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct StateSyncConfig {
    /// How much a millisecond of waiting counts, by level from critical to low. Under a budget that is too small, a
    /// level with twice the weight waits half as long. At least 1 each, less counts as that; default 64, 16, 4, 1.
    pub weights: [u32; 4],
    /// A waiting time that everybody is credited with, so that a fresh value of a high level goes before one of a low
    /// level that has waited a little. Rule of thumb: one tick. In whole milliseconds, at least 1; default 50 ms.
    pub patience: Duration,
    /// What a message costs beyond its value, in bytes. Default 4.
    pub message_overhead_bytes: u32,
    /// The greatest frame, in bytes without `frame_overhead_bytes`: messages are packed into frames of this size, and
    /// larger ones begin a frame of their own and go on in the next. At least 64, less counts as that; default 1,200.
    pub frame_bytes_max: u32,
    /// What a frame costs beyond its messages, in bytes: headers of all layers. Default 28 (UDP over IPv4).
    pub frame_overhead_bytes: u32,
    /// States, at most. 16,777,216 at most, more counts as that; default 1,048,576.
    pub states_max: usize,
    /// Observers, at most. 16,777,216 at most, more counts as that; default 65,536.
    pub observers_max: usize,
    /// Limits of the interest map.
    pub interest: InterestLimits,
}

impl Default for StateSyncConfig {
    fn default() -> Self {
        Self {
            weights: [64, 16, 4, 1],
            patience: Duration::from_millis(50),
            message_overhead_bytes: 4,
            frame_bytes_max: 1_200,
            frame_overhead_bytes: 28,
            states_max: 1 << 20,
            observers_max: 1 << 16,
            interest: InterestLimits::default(),
        }
    }
}

/// States and places must fit the bits that keys and marks have for them.
const INDEX_MAX: usize = 1 << 24;

impl StateSyncConfig {
    pub(super) fn clamped(self) -> Self {
        Self {
            weights: self.weights.map(|weight| weight.max(1)),
            patience: self.patience.clamp(Duration::from_millis(1), Duration::from_secs(86_400)),
            frame_bytes_max: self.frame_bytes_max.max(64),
            states_max: self.states_max.min(INDEX_MAX),
            observers_max: self.observers_max.min(INDEX_MAX),
            ..self
        }
    }
}

/// A call that was refused. Every variant leaves the scheduler as it was, but for the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateSyncError {
    /// There are as many states as allowed. Nothing was changed.
    #[error("there are {max} states, which is the limit; nothing was changed")]
    TooManyStates {
        /// The limit, [`StateSyncConfig::states_max`].
        max: usize,
    },
    /// There are as many observers as allowed. Nothing was changed.
    #[error("there are {max} observers, which is the limit; nothing was changed")]
    TooManyObservers {
        /// The limit, [`StateSyncConfig::observers_max`].
        max: usize,
    },
    /// The observer never declared anything, or was removed. Nothing was changed.
    #[error("the observer is unknown; nothing was changed")]
    UnknownObserver,
    /// The interest map refused. Nothing was changed.
    #[error(transparent)]
    Interest(#[from] InterestError),
}
