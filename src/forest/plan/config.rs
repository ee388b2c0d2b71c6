//! What a plan is made from, what it says, and why it refuses.

use core::time::Duration;

/// The greatest number of stripes.
pub(super) const STRIPES_MAX: u8 = 16;
/// The greatest [`PlanConfig::degree_max`].
const DEGREE_MAX: u16 = 4_096;
/// The greatest [`PlanConfig::viewers_max`].
const VIEWERS_MAX: usize = 1 << 28;

/// Limits and rates of a [`ForestPlan`](super::ForestPlan).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanConfig {
    /// The number of stripes, 1 to 16; see [`stripes_for`]. Default 8.
    pub stripes: u8,
    /// The rate of the whole stream on the wire in bytes per second: all stripes, redundancy included. Default
    /// 312,500 (2.5 Mbit/s).
    pub rate_bytes_per_s: u64,
    /// The share of a declared upload that is given out as slots, in percent. A viewer has
    /// ⌊`use_percent` · upload · stripes / rate⌋ slots, each of which feeds one other with one stripe. Default 85.
    pub use_percent: u8,
    /// The share that is given out only when slots run out otherwise, in percent. Default 95.
    pub use_percent_max: u8,
    /// The share of the root's upload that is given out at most, in percent; one slot for every stripe is given out in
    /// any case. What the root delays, everybody waits for: where the others are used up, it should not be. Default
    /// 95.
    pub root_use_percent: u8,
    /// Star, forest, or what suits the number of viewers. Default [`PlanMode::Auto`].
    pub mode: PlanMode,
    /// Up to so many viewers [`PlanMode::Auto`] is a star while the root's slots allow it. Default 50.
    pub star_to_tree_threshold: usize,
    /// How many viewers are let in, at least [`stripes`](Self::stripes) and at most 2^28. Default 1,000,000.
    pub viewers_max: usize,
    /// How many others one viewer feeds at most, over all stripes, whatever its upload; 1 to 4,096. It does not
    /// bind the root. Default 256.
    pub degree_max: u16,
    /// Slots that are kept for viewers who bring more slots than they take, as long as others come: where upload is
    /// scarce, the weak wait until the strong have come. Default 0.
    pub reserve_slots: u16,
    /// How many viewers one change moves at will, at least 4. What must be moved is moved nevertheless: the
    /// children of who leaves. Default 64.
    pub moves_max: usize,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            stripes: 8,
            rate_bytes_per_s: 312_500,
            use_percent: 85,
            use_percent_max: 95,
            root_use_percent: 95,
            mode: PlanMode::Auto,
            star_to_tree_threshold: 50,
            viewers_max: 1_000_000,
            degree_max: 256,
            reserve_slots: 0,
            moves_max: 64,
        }
    }
}

impl PlanConfig {
    pub(super) fn validate(&self) -> Result<(), PlanError> {
        let fields: [(&'static str, u64, u64, u64); 8] = [
            ("stripes", u64::from(self.stripes), 1, u64::from(STRIPES_MAX)),
            ("rate_bytes_per_s", self.rate_bytes_per_s, 1, u64::MAX),
            ("use_percent", u64::from(self.use_percent), 1, 100),
            ("use_percent_max", u64::from(self.use_percent_max), u64::from(self.use_percent), 100),
            ("root_use_percent", u64::from(self.root_use_percent), 1, 100),
            ("viewers_max", self.viewers_max as u64, 1, VIEWERS_MAX as u64),
            ("degree_max", u64::from(self.degree_max), 1, u64::from(DEGREE_MAX)),
            ("moves_max", self.moves_max as u64, 4, u64::MAX),
        ];
        for (field, value, min, max) in fields {
            if value < min || value > max {
                return Err(PlanError::OutOfRange { field, value, min, max });
            }
        }
        if usize::from(self.stripes) > self.viewers_max {
            return Err(PlanError::StripesAboveViewers {
                stripes: self.stripes,
                viewers_max: self.viewers_max,
            });
        }
        Ok(())
    }

    /// Whether the root can send every stripe once.
    pub(crate) fn check_root(&self, upload: u64) -> Result<(), PlanError> {
        let stripes = u64::from(self.stripes);
        if self.slots(upload, self.use_percent_max) >= stripes {
            return Ok(());
        }
        Err(PlanError::OutOfRange {
            field: "root_upload_bytes_per_s",
            value: upload,
            min: self.upload_for(stripes),
            max: u64::MAX,
        })
    }

    /// The slots that `upload` gives at `percent`, before any cap.
    pub(super) fn slots(&self, upload: u64, percent: u8) -> u64 {
        let share = u128::from(upload) * u128::from(percent) * u128::from(self.stripes);
        u64::try_from(share / (u128::from(self.rate_bytes_per_s) * 100)).unwrap_or(u64::MAX)
    }

    /// The upload that gives `slots`, at the highest use.
    pub(super) fn upload_for(&self, slots: u64) -> u64 {
        let share = u128::from(slots) * u128::from(self.rate_bytes_per_s) * 100;
        let per_byte = u128::from(self.use_percent_max) * u128::from(self.stripes);
        u64::try_from(share.div_ceil(per_byte)).unwrap_or(u64::MAX)
    }
}

/// The shape of a plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PlanMode {
    /// A star for few viewers, a forest for more; with a margin between, so that it does not flutter.
    #[default]
    Auto,
    /// The root feeds everybody, and who comes when it has no slot is refused.
    Star,
    /// Viewers feed viewers once the root's slots are taken.
    Forest,
}

/// A link that begins: `viewer` takes `stripe` from `parent` from now on, and no longer from its former parent.
///
/// Within the changes of one call each viewer and stripe appears at most once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PlanChange<P> {
    /// Who receives.
    pub viewer: P,
    /// Which stripe, from 0.
    pub stripe: u8,
    /// Who feeds it.
    pub parent: P,
}

/// A change of a plan that was refused. Every variant leaves the plan as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The viewer is in the plan already. Nothing was changed.
    #[error("the viewer is in the plan already; nothing was changed")]
    AlreadyJoined,
    /// A peer that was named is not in the plan. Nothing was changed.
    #[error("the peer is not in the plan; nothing was changed")]
    Unknown,
    /// The root is no viewer: it can neither join nor leave nor take a parent. Nothing was changed.
    #[error("the root is no viewer; nothing was changed")]
    IsRoot,
    /// There are as many viewers as allowed. Nothing was changed.
    #[error("the limit of {max} viewers is reached; nothing was changed")]
    ViewersMax {
        /// The limit.
        max: usize,
    },
    /// All uploads together are too small for one viewer more (or for the change asked for). Nothing was changed.
    #[error(
        "an upload of {needed_bytes_per_s} bytes/s more is needed, {spare_bytes_per_s} are to spare; \
         nothing was changed"
    )]
    NoCapacity {
        /// How much more upload would be enough.
        needed_bytes_per_s: u64,
        /// The upload that is to spare, over all stripes, in bytes per second.
        spare_bytes_per_s: u64,
    },
    /// There are more stripes than there may be viewers. Nothing was created.
    #[error("{stripes} stripes are more than the {viewers_max} viewers allowed; nothing was created")]
    StripesAboveViewers {
        /// The stripes.
        stripes: u8,
        /// The limit of viewers.
        viewers_max: usize,
    },
    /// A number is out of its range. Nothing was changed or created.
    #[error("{field} is {value}, not within {min} to {max}; nothing was changed")]
    OutOfRange {
        /// The name of the number.
        field: &'static str,
        /// What was given.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The parent has no free slot. Nothing was changed.
    #[error("all {slots} slots of the parent are taken; nothing was changed")]
    ParentFull {
        /// How many slots it has in that stripe.
        slots: u16,
    },
    /// The parent passes on another stripe, or none. Nothing was changed.
    #[error("the parent does not pass on that stripe; nothing was changed")]
    NotInterior,
    /// The parent is the viewer itself or below it. Nothing was changed.
    #[error("the parent is below the viewer; nothing was changed")]
    Cycle,
}

/// What a plan has done since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PlanStats {
    /// Viewers that joined.
    pub joins: u64,
    /// Viewers that left.
    pub leaves: u64,
    /// Links that an existing viewer was given in place of another, by the plan or by itself.
    pub moves: u64,
    /// Viewers that were given another stripe to pass on.
    pub recolourings: u64,
    /// Viewers put out for want of capacity; see [`ForestPlan::take_detached`](super::ForestPlan::take_detached).
    pub detached: u64,
    /// Changes between star and forest.
    pub mode_switches: u64,
    /// Calls that returned an error.
    pub refusals: u64,
}

/// The number of stripes, 1 to 8, that gives the least delay from the root to the deepest viewer.
///
/// `viewers` are fed at `rate_bytes_per_s`; one hop takes `latency`, packets have `chunk_bytes`, and a viewer's
/// upload is `mean_capacity_percent` of the rate on average. More stripes make flatter trees, but each relay takes
/// longer to pass a packet on to all its children: minimised is ⌈log_{k·c} N⌉ · (latency + k · chunk / 2 · rate). A
/// rate of 0 counts as 1.
///
/// ```
/// use core::time::Duration;
/// use suffuse::stripes_for;
/// assert_eq!(stripes_for(100_000, 312_500, Duration::from_millis(30), 1_200, 180), 6);
/// ```
pub fn stripes_for(
    viewers: usize,
    rate_bytes_per_s: u64,
    latency: Duration,
    chunk_bytes: u32,
    mean_capacity_percent: u32,
) -> u8 {
    let packet_ns = u128::from(chunk_bytes) * 1_000_000_000 / u128::from(rate_bytes_per_s.max(1));
    let delay = |k: u8| {
        let hop = latency.as_nanos() + u128::from(k) * packet_ns / 2;
        u128::from(levels(viewers, u64::from(k) * u64::from(mean_capacity_percent))).saturating_mul(hop)
    };
    // The first of equal ones: fewer stripes are fewer connections.
    (1..=8).min_by_key(|&k| delay(k)).unwrap_or(1)
}

/// ⌈log_{percent / 100} viewers⌉, at least 1.
fn levels(viewers: usize, percent: u64) -> u64 {
    if viewers <= 1 {
        return 1;
    }
    if percent <= 100 {
        return viewers as u64;
    }
    let target = (viewers as u128) << 32;
    let mut reach = 1u128 << 32;
    for level in 0..viewers as u64 {
        if reach >= target {
            return level;
        }
        reach = reach * u128::from(percent) / 100;
    }
    viewers as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_follow_rate_and_audience() {
        let at = |viewers, rate| stripes_for(viewers, rate, Duration::from_millis(30), 1_200, 180);
        assert_eq!(at(1, 312_500), 1);
        assert!((6..=8).contains(&at(1_000_000, 312_500)));
        assert!((6..=8).contains(&at(1_000_000, 750_000)));
        assert!(at(10_000, 4_000) <= 4, "a slow stream is slow to pass on");
        assert!((1..=8).contains(&stripes_for(1_000, 0, Duration::MAX, u32::MAX, 0)));
        assert_eq!(levels(1_000, 1_000), 3);
        assert_eq!(levels(1_001, 1_000), 4);
    }
}
