//! What leaves a node: who gets an update ([`Decisions`]), and in which order and how fast it leaves ([`Egress`]).

mod bucket;
mod decide;
mod edges;
mod egress;
mod queue;
mod stats;
mod timers;

pub use decide::{Decision, Decisions, LevelRule, Quality, Skipped, UpdateFacts};
pub use edges::{AllEdges, Downstream, EdgeState, EdgeTable, Edges, Topology};
pub use egress::{DropReason, Egress, Enqueued, Item, Transmit};
pub use stats::{ClassStats, EgressStats};
