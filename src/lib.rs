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
mod time;

pub mod log;
pub mod topology;
pub mod wire;

pub use bounded::BoundedQueue;
pub use config::{Config, EgressConfig, GossipConfig, GossipMode, LinkConfig, MembershipConfig};
pub use deadline::DeadlineIndex;
pub use error::{CommandError, ConfigError};
pub use id::{Epoch, PeerId, Priority, StateId, SwarmId, SwarmTag, UpdateId};
pub use io::{Class, Event, Input, LagReason, Offence, Output, Update};
pub use log::RangeSet;
pub use rng::Seed;
#[cfg(feature = "std")]
pub use time::Clock;
pub use time::Instant;
pub use topology::{Change, Edge, Graph, Mesh, Route, Star, TopologyError, Tree};
pub use wire::WirePeer;
