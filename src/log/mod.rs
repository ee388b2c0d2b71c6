//! What a node has seen and what it holds: ranges, duplicate windows, retained bodies.

mod ranges;

pub use ranges::RangeSet;
