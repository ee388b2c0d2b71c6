//! Interest: how much each peer wants each state, and what a whole subtree wants.
//!
//! [`InterestMap`] is a plain data structure: it sends nothing and reads no clock, so it can be used alone. A peer
//! *declares* a level for a target: one state, a range of states, or a prefix of the state's number (all tracks of one
//! participant). Its interest in a state is the **maximum** over all of its declarations that contain the state.
//!
//! ```
//! use core::time::Duration;
//! use suffuse::{Instant, InterestLevel, InterestMap, InterestTarget, StateId};
//!
//! let mut map = InterestMap::default();
//! let (start, ttl) = (Instant::ZERO, Duration::from_secs(30));
//!
//! // Peer 1 wants one track; peer 2 wants every track whose number begins with the same 32 bits.
//! let track = StateId(0x0000_0007_0000_0001);
//! map.declare(1, track, InterestLevel::High, Some(ttl), start)?;
//! map.declare(2, InterestTarget::prefix(track, 32)?, InterestLevel::Low, None, start)?;
//!
//! assert_eq!(map.level(2, track), InterestLevel::Low);
//! assert_eq!(map.count(track, InterestLevel::Low), 2);
//! let eager: Vec<_> = map.interested(track, InterestLevel::Medium).collect();
//! assert_eq!(eager, [(1, InterestLevel::High)]);
//!
//! // A declaration that is not renewed ends exactly at its deadline.
//! assert_eq!(map.poll_timeout(), Some(start + ttl));
//! let mut changes = Vec::new();
//! map.handle_timeout(start + ttl, &mut changes);
//! assert_eq!(changes[0].to, InterestLevel::None);
//! assert_eq!(map.max_level(track), InterestLevel::Low);
//! # Ok::<(), suffuse::InterestError>(())
//! ```
//!
//! # In a tree
//!
//! Every change says whether it moved the *aggregate* of its target, the maximum over all peers. A relay hands those to
//! a [`SubtreeInterest`] and tells its parent what comes out: nothing, as long as the maximum stays.
//!
//! # Order
//!
//! Whatever is iterated comes in an order that depends only on the history of calls, never on a random seed or an
//! address: the same calls give the same order on every platform.

mod aggregate;
mod index;
mod limits;
mod map;
mod query;
mod roles;
mod slab;
mod subscribers;
mod types;

pub use aggregate::{AggregateChange, SubtreeChange, SubtreeInterest};
pub use limits::{InterestError, InterestLimits};
pub use map::{InterestMap, InterestTotals};
pub use query::{Interested, LevelBuckets};
pub(crate) use query::{Scratch, VisitLevel};
pub use roles::{Role, RoleLevels, RoleTable, StreamTracks, Track, TrackKind};
pub use types::{InterestChange, InterestLevel, InterestTarget};

#[cfg(test)]
mod tests;
