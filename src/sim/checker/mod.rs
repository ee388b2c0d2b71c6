//! What must never happen, watched during a run.

mod complete;
mod limits;
#[cfg(test)]
mod tests;
mod updates;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

pub use complete::Complete;
pub use limits::{Budget, Caps};
pub use updates::{ExactlyOnce, NothingForged};

use super::{DropReason, NodeId, Observer, SentFrame, StopReason};
use crate::id::{StateId, SwarmId, UpdateId};
use crate::io::Event;
use crate::time::Instant;

/// Watches a run and lists what must not happen.
///
/// What the world sees comes through [`Observer`]; what only the test knows comes through the methods here.
pub trait Check: Observer {
    /// An application published an update.
    fn published(&mut self, _now: Instant, _update: &Published) {}
    /// From now on `node` must get what is published to `swarm`. [`Event::Joined`] says the same.
    fn joined(&mut self, _now: Instant, _node: NodeId, _swarm: SwarmId) {}
    /// `node` has left `swarm`. A node that stops has left all.
    fn left(&mut self, _now: Instant, _node: NodeId, _swarm: SwarmId) {}
    /// Something of `node` that has a limit was measured: a queue, a view, a cache.
    fn gauge(&mut self, _now: Instant, _node: NodeId, _name: &'static str, _value: u64, _limit: u64) {}
    /// The run is over, or at a point where what is due is asked for.
    fn finish(&mut self, _now: Instant) {}
    /// What was found so far.
    fn violations(&self) -> &Violations;
}

/// An update as its publisher handed it in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// Its identity.
    pub id: UpdateId<NodeId>,
    /// What it is a version of.
    pub state: StateId,
    /// Its payload.
    pub payload: Bytes,
}

/// Something that must not happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// To which node.
    pub node: NodeId,
    /// When.
    pub at: Instant,
    /// Of which update, if of one.
    pub update: Option<UpdateId<NodeId>>,
    /// What.
    pub breach: Breach,
}

/// Which rule was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Breach {
    /// An update was delivered twice to one life of a node.
    DeliveredTwice,
    /// An update was delivered to the node that published it.
    DeliveredToOrigin,
    /// An update was delivered after the node was told that it never would be.
    DeliveredAfterLagged,
    /// An update was delivered that nobody published.
    NeverPublished,
    /// An update was delivered with another payload or state than it was published with.
    Altered,
    /// An update was delivered that long after its publication, which is beyond its limit.
    TooOld {
        /// How long.
        age: Duration,
    },
    /// An update was delivered after one of a later life of its origin.
    OldEpoch,
    /// An update was neither delivered to a node that was there all the time, nor told as lagged.
    Missing,
    /// Something grew beyond its limit.
    OverCap {
        /// What.
        name: &'static str,
        /// How large it was.
        value: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A node emitted more bytes in one second than its upload allows.
    OverBudget {
        /// How many.
        bytes: u64,
        /// How many are allowed.
        limit_bytes: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} node {}: {:?}", self.at, self.node, self.breach)?;
        if let Some(id) = &self.update {
            let (swarm, epoch) = (id.swarm.0, id.epoch.0);
            write!(f, " (swarm {swarm:x}, origin {}, epoch {epoch}, sequence {})", id.origin, id.sequence)?;
        }
        Ok(())
    }
}

/// What a checker found: the first thousand, and how many there were in all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Violations {
    kept: Vec<Violation>,
    count: u64,
}

impl Violations {
    const KEPT_MAX: usize = 1_000;

    /// The first ones, in the order in which they were found.
    pub fn kept(&self) -> &[Violation] {
        &self.kept
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one. For checkers of your own.
    pub fn push(&mut self, violation: Violation) {
        self.count += 1;
        if self.kept.len() < Self::KEPT_MAX {
            self.kept.push(violation);
        }
    }
}

/// Several checkers as one [`Observer`].
///
/// ```
/// use std::time::Duration;
/// use suffuse::sim::{Checkers, Complete, ExactlyOnce, NothingForged};
///
/// let mut checkers = Checkers::new();
/// checkers.add(ExactlyOnce::new());
/// checkers.add(NothingForged::new());
/// checkers.add(Complete::new(Duration::from_secs(10)));
/// assert_eq!(checkers.violations().count(), 0);
/// ```
#[derive(Default)]
pub struct Checkers {
    all: Vec<Box<dyn Check + Send>>,
}

impl Checkers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a checker.
    pub fn add(&mut self, check: impl Check + Send + 'static) {
        self.all.push(Box::new(check));
    }

    /// [`Check::published`] for each.
    pub fn published(&mut self, now: Instant, update: &Published) {
        self.all.iter_mut().for_each(|check| check.published(now, update));
    }

    /// [`Check::joined`] for each.
    pub fn joined(&mut self, now: Instant, node: NodeId, swarm: SwarmId) {
        self.all.iter_mut().for_each(|check| check.joined(now, node, swarm));
    }

    /// [`Check::left`] for each.
    pub fn left(&mut self, now: Instant, node: NodeId, swarm: SwarmId) {
        self.all.iter_mut().for_each(|check| check.left(now, node, swarm));
    }

    /// [`Check::gauge`] for each.
    pub fn gauge(&mut self, now: Instant, node: NodeId, name: &'static str, value: u64, limit: u64) {
        self.all.iter_mut().for_each(|check| check.gauge(now, node, name, value, limit));
    }

    /// [`Check::finish`] for each.
    pub fn finish(&mut self, now: Instant) {
        self.all.iter_mut().for_each(|check| check.finish(now));
    }

    /// What was found so far, checker by checker, as far as it was kept.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> + '_ {
        self.all.iter().flat_map(|check| check.violations().kept())
    }

    /// How much was found so far.
    pub fn violation_count(&self) -> u64 {
        self.all.iter().map(|check| check.violations().count()).sum()
    }
}

impl fmt::Debug for Checkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checkers, violations) = (self.all.len(), self.violation_count());
        f.debug_struct("Checkers").field("checkers", &checkers).field("violations", &violations).finish()
    }
}

impl Observer for Checkers {
    fn started(&mut self, node: NodeId, now: Instant) {
        self.all.iter_mut().for_each(|check| check.started(node, now));
    }

    fn stopped(&mut self, node: NodeId, now: Instant, why: StopReason) {
        self.all.iter_mut().for_each(|check| check.stopped(node, now, why));
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        self.all.iter_mut().for_each(|check| check.event(node, now, event));
    }

    fn sent(&mut self, now: Instant, sent: &SentFrame<'_>) {
        self.all.iter_mut().for_each(|check| check.sent(now, sent));
    }

    fn arrived(&mut self, now: Instant, from: NodeId, to: NodeId, frame: &Bytes) {
        self.all.iter_mut().for_each(|check| check.arrived(now, from, to, frame));
    }

    fn dropped(&mut self, now: Instant, from: NodeId, to: NodeId, frame: &Bytes, reason: DropReason) {
        self.all.iter_mut().for_each(|check| check.dropped(now, from, to, frame, reason));
    }
}
