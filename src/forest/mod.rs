//! Forests: planned dissemination from one source. `k` trees carry one stripe of the stream each.

mod plan;
mod planner;
mod relay;
mod track;

pub use plan::{ForestPlan, PlanChange, PlanConfig, PlanError, PlanMode, PlanStats, stripes_for};
pub use planner::{Planner, PlannerAction, PlannerConfig};
pub use relay::{Interest, MediaFrame, Publish, Relay, RelayAction, RelayConfig, StreamFacts};
pub(crate) use relay::wire_rate;

/// The greatest rate of a stream, in bytes a second.
pub(crate) const STREAM_RATE_MAX: u64 = 10_000_000_000;
