//! Forests: planned dissemination from one source. `k` trees carry one stripe of the stream each.
//!
//! A viewer passes on one stripe at most, its *colour*, and only receives the others; so a departure costs everybody below
//! it one stripe of `k`, and everybody's upload is used.
//!
//! [`ForestPlan`] is who feeds whom, as plain data; [`Planner`] speaks for it; [`Relay`] is one node's data path: chunks in,
//! chunks out, repair, replacement of parents that fall silent. [`parity`] and seals ([`seal_frame`], [`Seals`]) are the codes
//! of media frames.
//!
//! An [`Engine`](crate::Engine) puts them together: [`open_livestream`](crate::Engine::open_livestream) and
//! [`watch_livestream`](crate::Engine::watch_livestream). Alone, planner and relay take [`ForestMessage`](crate::wire::ForestMessage)s
//! and times, and write what they want done into a `Vec`.

pub mod parity;
mod plan;
mod planner;
mod relay;
mod seal;
mod track;

#[cfg(feature = "ed25519")]
pub use crate::authority::Blake3;
pub use crate::authority::{CHUNK_HASH_BYTES, ChunkHasher};
pub use parity::Scheme;
pub(crate) use plan::HELPER_USE_PERCENT;
#[cfg(test)]
pub(crate) use plan::HelperPlan;
pub use plan::{ForestPlan, PlanChange, PlanConfig, PlanError, PlanMode, PlanStats, stripes_for};
pub use planner::{Planner, PlannerAction, PlannerConfig};
pub(crate) use relay::wire_rate;
pub use relay::{Interest, MediaFrame, Publish, Relay, RelayAction, RelayConfig, Seals, StreamFacts};
pub use seal::{
    FrameHeader, FrameSeal, SealError, frame_signing_bytes, seal_frame, verify_chunk, verify_seal,
};

/// The greatest rate of a stream, in bytes a second.
pub(crate) const STREAM_RATE_MAX: u64 = 10_000_000_000;
