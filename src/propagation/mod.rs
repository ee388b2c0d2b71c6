//! What leaves a node, in which order, and how fast: the egress.

mod bucket;
mod egress;
mod queue;
mod stats;
mod timers;

pub use egress::{DropReason, Egress, Enqueued, Item, Transmit};
pub use stats::{ClassStats, EgressStats};
