//! Sans-IO swarm diffusion.
#![no_std]
#![deny(unreachable_pub)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod bounded;
mod config;
mod deadline;
mod engine;
mod error;
mod histogram;
mod id;
mod io;
mod link;
mod rng;
mod stats;
mod swarm;
mod time;

pub mod authority;
pub mod gossip;
pub mod log;
pub mod membership;
pub mod propagation;
#[cfg(feature = "sim")]
pub mod sim;
pub mod wire;

pub use authority::{
    AuthorityChange, AuthorityError, AuthorityLimits, AuthoritySet, LivestreamTracks, Policy, ProofError,
    Signature, Signer, StateRange, Verifier,
};
pub use bounded::BoundedQueue;
pub use config::{Config, EgressConfig, GossipConfig, GossipMode, LinkConfig, MembershipConfig};
pub use deadline::DeadlineIndex;
pub use engine::Engine;
pub use error::{CommandError, ConfigError};
pub use gossip::PublishOptions;
pub use id::{Epoch, PeerId, Priority, StateId, SwarmId, SwarmTag, UpdateId};
pub use io::{Class, Event, Input, LagReason, Offence, Output, Update};
pub use log::{RangeSet, Retention};
pub use propagation::{ClassStats, DropReason, Egress, EgressStats, Enqueued, Item, Transmit};
pub use rng::Seed;
pub use stats::{EngineStats, GossipStats, Histogram, TopicStats, ViewStats};
pub use swarm::TopicOptions;
#[cfg(feature = "std")]
pub use time::Clock;
pub use time::Instant;
pub use wire::WirePeer;
