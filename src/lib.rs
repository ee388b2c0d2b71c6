//! Sans-IO swarm diffusion.
#![no_std]
#![deny(unreachable_pub)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod bounded;
mod config;
mod deadline;
mod error;
mod id;
mod io;
mod rng;
mod stats;
mod time;

pub mod log;
#[cfg(feature = "sim")]
pub mod sim;
pub mod wire;

pub use bounded::BoundedQueue;
pub use config::{Config, EgressConfig, GossipConfig, GossipMode, LinkConfig, MembershipConfig};
pub use deadline::DeadlineIndex;
pub use error::{CommandError, ConfigError};
pub use id::{Epoch, PeerId, Priority, StateId, SwarmId, SwarmTag, UpdateId};
pub use io::{Class, Event, Input, LagReason, Offence, Output, Update};
pub use log::RangeSet;
pub use rng::Seed;
pub use stats::Histogram;
#[cfg(feature = "std")]
pub use time::Clock;
pub use time::Instant;
pub use wire::WirePeer;
