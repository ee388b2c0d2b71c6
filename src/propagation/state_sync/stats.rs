//! What the scheduler counts.

use super::StateValue;
use crate::histogram::Histogram;
use crate::interest::InterestLevel;

/// What was sent at one interest level.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct LevelSyncStats {
    /// Values selected.
    pub sent: u64,
    /// Bytes of these values, without overhead.
    pub bytes: u64,
    /// For how long each of these observers had been out of date, in milliseconds: from the first change that it had
    /// not got, or from when it began to want the state.
    pub staleness_ms: Histogram,
}

/// Counters of a [`StateSync`](crate::StateSync), from its creation.
///
/// Nothing is lost uncounted: `offered` is the sum of what was [`sent`](Self::sent), `superseded` and
/// [`dropped`](Self::dropped), and of what is `pending`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct StateSyncStats {
    /// Values set.
    pub changes: u64,
    /// Pairs of a value and an observer that wants it.
    pub offered: u64,
    /// Bytes of these values, without overhead: what sending everything would take.
    pub offered_bytes: u64,
    /// Offers replaced by a newer value before they were sent.
    pub superseded: u64,
    /// Offers whose deadline passed.
    pub dropped_late: u64,
    /// Offers that the observer no longer wanted.
    pub dropped_unwanted: u64,
    /// Offers whose state or observer was removed.
    pub dropped_removed: u64,
    /// Offers that wait now.
    pub pending: u64,
    /// Frames begun.
    pub frames: u64,
    /// Bytes charged to budgets: values, messages, frames.
    pub charged_bytes: u64,
    /// What was sent, by level from critical to low; see [`at`](Self::at).
    pub levels: [LevelSyncStats; 4],
}

impl StateSyncStats {
    /// What was sent at `level`; `None` for [`InterestLevel::None`].
    pub fn at(&self, level: InterestLevel) -> Option<&LevelSyncStats> {
        self.levels.get(super::rank(level))
    }

    /// Values selected, at all levels.
    pub fn sent(&self) -> u64 {
        self.levels.iter().map(|level| level.sent).sum()
    }

    /// Offers dropped for whatever reason. Superseded ones are not counted here.
    pub fn dropped(&self) -> u64 {
        self.dropped_late + self.dropped_unwanted + self.dropped_removed
    }

    pub(super) fn offer(&mut self, value: &StateValue) {
        self.offered += 1;
        self.offered_bytes += u64::from(value.bytes);
    }
}
