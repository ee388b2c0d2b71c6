//! Livestreams over several interior-node-disjoint trees: who feeds whom, as plain data.
//!
//! A stream is cut into `k` stripes, and each stripe has a tree of its own over all viewers. A viewer passes on one
//! stripe at most, its *colour*, and only receives the others; so a departure costs everybody below it one stripe of
//! `k`, and everybody's upload is used.

mod plan;

pub use plan::{ForestPlan, PlanChange, PlanConfig, PlanError, PlanMode, PlanStats, stripes_for};
