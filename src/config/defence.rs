//! What peers may do, and what happens to those that do more, or less.

use core::time::Duration;

use super::{HOUR, ordered, span, within};
use crate::error::ConfigError;

/// What a neighbour may ask and say within one topic. What exceeds it is dropped before anything is looked up or verified,
/// counted in [`GossipStats::over_budget`](crate::GossipStats::over_budget), and scored; frames and bytes as a whole are
/// limited by [`LinkConfig`](crate::LinkConfig).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Updates that one neighbour may ask for in a second; a second's worth may come at once. From 16 to 10,000,000;
    /// default 2,000, which brings a joiner an hour's history of one update a second in two seconds from each neighbour.
    pub wants_per_s: u32,
    /// Sources that one neighbour may announce or compare in a second, in all its messages; two seconds' worth may
    /// come at once. From 16 to 10,000,000; default 8,192.
    pub news_per_s: u32,
    /// Sources that one neighbour may make known here in a second; 16 times as many may come at once. From 1 to 1,048,576;
    /// default 256: all of a full table of 4,096 at once, and no more than that in the time in which its flood is noticed.
    pub origins_per_s: u32,
}

/// Points for misconduct, and their effects.
///
/// A neighbour that feeds nothing though it has it, or does not answer, loses its eager links, then its place among the
/// neighbours. A peer that floods, forges or sends what cannot be read loses them likewise, and is then refused for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct ScoreConfig {
    /// Points at which a neighbour is not chosen any more to push updates to this node, while there are others. From 1 to
    /// 1,000,000; default 20: two updates that an untried feeder did not push.
    pub distrust_points: u32,
    /// Points at which it is no neighbour any more. From `distrust_points` to 1,000,000; default 50.
    pub part_points: u32,
    /// Points for offences ([`Offence`](crate::Offence)) at which the connection is closed, and the peer refused. From
    /// `part_points` to 1,000,000; default 100: four bad signatures, or five seconds of flooding.
    pub refuse_points: u32,
    /// Half of the points are forgotten in this time. From 1 s to 24 h; default 1 min.
    pub half_life: Duration,
    /// How long a peer is refused the first time; each refusal is twice as long as the one before. From 1 s to 24 h;
    /// default 1 min.
    pub refuse_for: Duration,
    /// The longest refusal. From `refuse_for` to 24 h; default 10 min.
    pub refuse_max: Duration,
    /// Peers whose offences are remembered, at most. When full, the one with the fewest points makes room, or if all are
    /// refused, the one whose refusal ends first. From 1 to 65,536; default 1,024.
    pub refused_max: usize,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { wants_per_s: 2_000, news_per_s: 8_192, origins_per_s: 256 }
    }
}

impl BudgetConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("budget.wants_per_s", u64::from(self.wants_per_s), 16, 10_000_000)?;
        within("budget.news_per_s", u64::from(self.news_per_s), 16, 10_000_000)?;
        within("budget.origins_per_s", u64::from(self.origins_per_s), 1, 1 << 20)
    }
}

impl Default for ScoreConfig {
    fn default() -> Self {
        Self {
            distrust_points: 20,
            part_points: 50,
            refuse_points: 100,
            half_life: Duration::from_secs(60),
            refuse_for: Duration::from_secs(60),
            refuse_max: Duration::from_secs(600),
            refused_max: 1_024,
        }
    }
}

impl ScoreConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let second = Duration::from_secs(1);
        within("score.distrust_points", u64::from(self.distrust_points), 1, 1_000_000)?;
        within("score.part_points", u64::from(self.part_points), u64::from(self.distrust_points), 1_000_000)?;
        within("score.refuse_points", u64::from(self.refuse_points), u64::from(self.part_points), 1_000_000)?;
        span("score.half_life", self.half_life, second, HOUR * 24)?;
        span("score.refuse_for", self.refuse_for, second, HOUR * 24)?;
        span("score.refuse_max", self.refuse_max, second, HOUR * 24)?;
        ordered("score.refuse_for", self.refuse_for, "score.refuse_max", self.refuse_max)?;
        within("score.refused_max", self.refused_max as u64, 1, 65_536)
    }
}
