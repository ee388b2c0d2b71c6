//! What a node has seen and what it holds: ranges, duplicate windows, retained bodies.

mod arrivals;
mod bodies;
mod index;
mod ranges;
mod retention;
mod store;
mod window;

pub use ranges::RangeSet;
pub use retention::Retention;
pub use store::{Log, LogLimits, Receipt, SourceIndex};
pub use window::Window;
