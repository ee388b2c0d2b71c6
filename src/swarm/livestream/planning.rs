//! How many stripes a stream has, and how much of the uploads is given out.

use core::time::Duration;

use super::BroadcastOptions;
use crate::config::Config;
use crate::forest::{PlanConfig, PlanError, PlannerConfig, StreamFacts, stripes_for, wire_rate};
use crate::id::Epoch;

/// What the formula for the number of stripes assumes of links.
const LATENCY_TYPICAL: Duration = Duration::from_millis(30);

/// Below, the weak wait until the strong have come.
const CAPACITY_SCARCE_PERCENT: u32 = 135;

/// And the source keeps some upload back: all others are nearly used up, and cannot make good what it delays.
const ROOT_USE_SCARCE_PERCENT: u8 = 65;
const ROOT_USE_TIGHT_PERCENT: u8 = 75;

/// Below, there are at least so many stripes.
const CAPACITY_TIGHT_PERCENT: u32 = 150;
const STRIPES_TIGHT: u8 = 8;
const STRIPES_SCARCE: u8 = 12;

/// So many slots there should be for a thousand that are needed, besides the half slot that is left over at every viewer.
const SLOTS_WANTED_PERMILLE: u128 = 1_150;
const SLOTS_WANTED_SCARCE_PERMILLE: u128 = 1_040;

/// How a stream is planned at first, by what its source expects of its viewers.
pub(super) fn planner_config<P: Copy>(
    config: &Config,
    options: &BroadcastOptions<P>,
    epoch: Epoch,
) -> PlannerConfig {
    let chunk = config.frame_bytes_max.saturating_sub(crate::wire::CHUNK_HEADER_BYTES_MAX).max(1);
    let rate = wire_rate(options.rate_bytes_per_s, options.redundancy_percent, chunk, &config.egress);
    let capacity = options.capacity_expected_percent * 100 / u32::from(options.redundancy_percent.max(100));
    let scarce = capacity < CAPACITY_SCARCE_PERCENT;
    let defaults = PlanConfig::default();
    let (stripes_min, root_use_percent) = if scarce {
        (STRIPES_SCARCE, ROOT_USE_SCARCE_PERCENT)
    } else if capacity < CAPACITY_TIGHT_PERCENT {
        (STRIPES_TIGHT, ROOT_USE_TIGHT_PERCENT)
    } else {
        (1, defaults.root_use_percent)
    };
    let stripes = options.stripes.unwrap_or_else(|| {
        let frame = u32::try_from(config.frame_bytes_max).unwrap_or(u32::MAX);
        let k = stripes_for(options.viewers_expected, rate, LATENCY_TYPICAL, frame, capacity);
        // Half a stripe of upload is left over at every viewer, on average: where that matters, stripes are thin.
        k.max(stripes_min).min(u8::try_from(options.viewers_max).unwrap_or(u8::MAX))
    });
    let wanted_permille = if scarce { SLOTS_WANTED_SCARCE_PERMILLE } else { SLOTS_WANTED_PERMILLE };
    let use_percent = use_percent(options, wanted_permille, rate, stripes, &defaults);
    // Slots in reserve would be in use all the time, and those who use them are not sorted by strength. A source that can
    // only just send the stream needs them.
    let has_reserve = !scarce || options.upload_bytes_per_s / 100 * u64::from(use_percent) < rate;
    let plan = PlanConfig {
        stripes,
        rate_bytes_per_s: rate,
        use_percent,
        use_percent_max: if has_reserve { defaults.use_percent_max } else { use_percent },
        root_use_percent,
        mode: options.mode,
        star_to_tree_threshold: options.star_to_tree_threshold,
        viewers_max: options.viewers_max,
        reserve_slots: if scarce { u16::from(stripes) * 2 } else { 0 },
        ..defaults
    };
    PlannerConfig {
        plan,
        source_upload_bytes_per_s: options.upload_bytes_per_s,
        facts: StreamFacts { epoch, stripes, rate_bytes_per_s: rate, deadline: options.deadline },
    }
}

/// Whether a source with that upload carries the stream once.
pub(super) fn check_source_upload(facts: &StreamFacts, upload_bytes_per_s: u64) -> Result<(), PlanError> {
    let (stripes, rate_bytes_per_s) = (facts.stripes, facts.rate_bytes_per_s);
    PlanConfig { stripes, rate_bytes_per_s, ..PlanConfig::default() }.check_root(upload_bytes_per_s)
}

/// The share of uploads that is given out as slots, so that they are enough with some to spare.
fn use_percent<P>(
    options: &BroadcastOptions<P>,
    wanted_permille: u128,
    wire_rate: u64,
    stripes: u8,
    limits: &PlanConfig,
) -> u8 {
    let capacity = u128::from(options.capacity_expected_percent) * u128::from(options.rate_bytes_per_s) * 10;
    let capacity_permille = (capacity / u128::from(wire_rate.max(1))).max(1);
    let wanted_permille = wanted_permille + 500 / u128::from(stripes.max(1));
    let percent = (wanted_permille * 100).div_ceil(capacity_permille);
    u8::try_from(percent).unwrap_or(u8::MAX).clamp(limits.use_percent, limits.use_percent_max)
}
