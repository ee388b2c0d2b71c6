#![doc = include_str!("../README.md")]
//!
//! # Driving an engine
//!
//! A host reports facts with [`Engine::handle_input`], calls [`Engine::handle_timeout`] when [`Engine::poll_timeout`] says so, and
//! carries out what [`Engine::poll_output`] gives until it gives nothing. Ten sentences are all there is to know; each
//! has a test that bears its number.
//!
//! 1. Any number of inputs may come before a drain.
//! 2. After every input or drain the host asks `poll_timeout` again; it is cheap (O(1)).
//! 3. After `handle_timeout(now)` and a drain the deadline is later than `now`, or `None`. No host can be made to spin.
//! 4. `handle_timeout` at the polled deadline does the work that was due.
//! 5. Early, late, repeated or lost wake-ups are harmless; an older `now` is raised to the newest seen.
//! 6. The same configuration, seed, inputs and times give byte-equal outputs on every platform.
//! 7. Work and memory per call are bounded by configuration; what is shed is counted, what the application lost is told.
//! 8. Remote input never panics, never errors, never allocates more than its own size times a constant.
//! 9. `Disconnect` comes after the last send to that peer.
//! 10. A peer that reconnects starts fresh.
//!
//! A panic means a bug in this crate.
//!
//! # Limits
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | links | [`LinkConfig::links_max`] | the idlest link without a neighbour is closed, or the newcomer refused |
//! | what a peer may send | [`LinkConfig::inbound_frames_per_s`], [`LinkConfig::inbound_bytes_per_s`] | dropped unread, counted, reported |
//! | what a neighbour may ask and say in a topic | [`BudgetConfig`] | dropped before anything is looked up, counted, scored |
//! | peers whose offences are remembered | [`ScoreConfig::refused_max`] | the one with the fewest points goes |
//! | neighbours with addresses of one prefix | [`MembershipConfig::prefix_max`] | not taken |
//! | what waits to be sent | [`EgressConfig::peer_queue_bytes_max`], [`EgressConfig::queue_bytes_max`] | lower classes make room, else the item is dropped and counted |
//! | neighbours, known peers | [`MembershipConfig::active_max`], [`MembershipConfig::passive_max`] | refused with a redirect; the oldest entry makes room |
//! | sources | [`GossipConfig::sources_max`] | quiet ones go, else the newcomer is refused and counted |
//! | lives of an origin | two | the oldest goes when a third begins, with what was missing of it |
//! | gaps | [`GossipConfig::window_max`] | the oldest missing updates are given up and told |
//! | bodies | [`Retention`] | the oldest go |
//! | an update | [`GossipConfig::update_bytes_max`] | the command is refused; what others publish is told as lagged |
//! | large updates put together | [`GossipConfig::assemblies_max`], [`GossipConfig::assemblies_per_origin_max`], [`GossipConfig::assembly_bytes_max`] | one that stands still makes room and is told, else the newcomer is refused, counted, and comes again |
//! | chunks that a neighbour may claim | three times the update | not sent, counted |
//! | offers of unknown large updates | 32 | the oldest are forgotten |
//! | events | [`Config::events_max`] | the oldest go, and their number is told |
//!
//! Of livestreams, besides:
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | viewers | [`BroadcastOptions::viewers_max`], and what all uploads carry | [`Event::WatchRefused`] |
//! | who waits for a place at a planner | 65,536, for 5 s after they asked last | refused; they ask again |
//! | stripes, layers | 16, 8 | the command is refused |
//! | a media frame | [`Engine::media_bytes_max`]: 255 chunks, parity included | the command is refused |
//! | (child, stripe) pairs of a node | what 95 % of its upload carries, at most 4,096; the plan gives out less, and 256 to a viewer at most | refused, with others to ask; those whom the plan sends have room for a quarter and two more |
//! | what is kept of a track | [`BroadcastOptions::retained_bytes_max`], [`WatchOptions::retained_bytes_max`], 4,096 frames | the oldest frames go, once a second |
//! | history | back to the newest whole keyframe, and as far as the deadline if that is further | older frames go |
//! | history asked for | 4,096 chunks, 96 of them at a time | the oldest are not asked for |
//! | chunks missed | 4,096 at a time, each asked for 12 times | not asked for; frames that stay incomplete are told at their deadline |
//! | requests answered | 10 % of the upload, and three times the rate of the stream to one child; history only while nothing waits long | not answered, counted; the child asks again, then others |
//! | chunks that wait to be passed on | 300 ms, 40 ms less for each layer above the base; of keyframes the frame's deadline | dropped and counted |
//! | sealed chunks without their seal | 512 | dropped, and asked for again |
//! | hops from the source | 32 | another parent is looked for |
//!
//! Of groups, besides:
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | participants | [`GroupOptions::participants_max`] | [`GroupEvent::Refused`]; who came last is [`GroupEvent::Removed`] |
//! | records of participants, of those gone too | [`GroupConfig::records_max`] | the one gone longest goes, else the newcomer is not known here |
//! | peers thrown out or banned | [`GroupConfig::verdicts_max`] | the command is refused, others' verdicts are not taken |
//! | what a participant shows of itself | [`GroupOptions::metadata_bytes_max`] | the command is refused |
//! | what is sent of the roster on request | 256 KiB a second | not answered, counted; asked for again |
//! | own messages for some that are not acknowledged | [`GroupConfig::messages_waiting_max`], [`GroupConfig::messages_waiting_bytes_max`] | the command is refused |
//! | messages for some that wait for earlier ones | 64 of a sender, 4,096 in all | not acknowledged, so they come again |
//! | messages to everybody that wait for earlier ones | [`GroupConfig::order_waiting_max`] of a sender, 16 times that in all | the missing are given up and told; else refused and counted |
//! | livestreams of a group's media | four own, [`MediaOptions::listeners_max`], three times [`MediaOptions::full_max`] and twice [`MediaOptions::thumbnails_max`], and the screen | less important participants are not received |
//! | participants pinned | [`MediaOptions::full_max`] | the command is refused |
//! | probes, peers asking too early, round trips remembered | 16, 64, 256 | not probed, asked again, measured again |
#![no_std]
#![deny(unreachable_pub)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[macro_use]
mod diagnostics;

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
mod table;
mod time;

pub mod authority;
pub mod forest;
pub mod gossip;
pub mod interest;
pub mod log;
pub mod membership;
pub mod propagation;
#[cfg(feature = "sim")]
pub mod sim;
pub mod topology;
pub mod wire;

pub use authority::{
    AuthorityChange, AuthorityError, AuthorityLimits, AuthoritySet, LivestreamTracks, Policy, ProofError,
    Signature, Signer, StateRange, Verifier,
};
pub use bounded::BoundedQueue;
pub use config::{
    BudgetConfig, Config, EgressConfig, GossipConfig, GossipMode, GroupConfig, LinkConfig, MembershipConfig,
    ScoreConfig,
};
pub use deadline::DeadlineIndex;
pub use engine::Engine;
pub use error::{CommandError, ConfigError};
pub use forest::{ForestPlan, PlanChange, PlanConfig, PlanError, PlanMode, PlanStats, stripes_for};
pub use gossip::PublishOptions;
pub use id::{Epoch, PeerId, Priority, StateId, SwarmId, SwarmTag, UpdateId};
pub use interest::{
    AggregateChange, InterestChange, InterestError, InterestLevel, InterestLimits, InterestMap,
    InterestTarget, InterestTotals, Interested, LevelBuckets, Role, RoleLevels, RoleTable, StreamTracks,
    SubtreeChange, SubtreeInterest, Track, TrackKind,
};
pub use io::{
    Audience, Class, Departure, Event, GroupEvent, GroupMail, GroupRefusal, Input, LagReason, Offence,
    Output, Update,
};
pub use log::{RangeSet, Retention};
pub use propagation::{
    AllEdges, ClassStats, Decision, Decisions, Downstream, DropReason, EdgeState, EdgeTable, Edges, Egress,
    EgressStats, Enqueued, Item, LevelRule, LevelSyncStats, Quality, Selected, Skipped, StateSync,
    StateSyncConfig, StateSyncError, StateSyncStats, StateValue, TickReport, Topology, Transmit, UpdateFacts,
};
pub use rng::Seed;
pub use stats::{
    EngineStats, GossipStats, GroupMediaStats, GroupStats, GuardStats, Histogram, LivestreamStats,
    TopicStats, ViewStats,
};
pub use swarm::{
    BroadcastOptions, DeliveryOrder, DeliveryRoute, GroupMedia, GroupMessageId, GroupOptions,
    GroupSendOptions, GroupTarget, Guard, JoinGroupOptions, MediaFrameOptions, MediaOptions, MediaTopology,
    MediaTrack, Participant, ParticipantChange, StreamQuality, StreamState, TopicOptions, WatchOptions,
};
#[cfg(feature = "std")]
pub use time::Clock;
pub use time::Instant;
pub use topology::{Change, Edge, Graph, Mesh, Route, Star, TopologyError, Tree};
pub use wire::WirePeer;
