//! What leaves a node: who gets an update ([`Decisions`]), in which order and how fast it leaves ([`Egress`]), and which
//! of many changing states an observer is sent within its budget ([`StateSync`]).

pub(crate) mod bucket;
mod decide;
mod edges;
mod egress;
mod queue;
mod state_sync;
mod stats;
mod timers;

pub use decide::{Decision, Decisions, LevelRule, Quality, Skipped, UpdateFacts};
pub use edges::{AllEdges, Downstream, EdgeState, EdgeTable, Edges, Topology};
pub use egress::{DropReason, Egress, Enqueued, Item, Transmit};
pub use state_sync::{
    LevelSyncStats, Selected, StateSync, StateSyncConfig, StateSyncError, StateSyncStats, StateValue,
    TickReport,
};
pub use stats::{ClassStats, EgressStats};
pub(crate) use timers::Timers;
