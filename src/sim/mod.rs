//! A deterministic simulator: a virtual network, faults, counters and checkers for whatever implements [`Host`].
//!
//! Use it to test your own application around an engine, to choose a configuration, or to compare protocols:
//!
//! * [`World`] runs hosts in virtual time on a [`Network`] with latency, loss, duplication, reordering, jitter and
//!   uplinks of limited rate, as datagrams or as reliable connections;
//! * nodes crash, restart and leave, the network falls apart and heals, single nodes get a [`Fault`], by hand or by a
//!   [`FaultSchedule`];
//! * [`Metrics`] count what crossed the wire; [`Deliveries`] measures how long updates took;
//! * [`Checkers`] watch a run and list what must never happen.
//!
//! Two runs of one program are equal, event by event, on every platform: compare [`World::trace_hash`].
//!
//! ```
//! use std::collections::VecDeque;
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use suffuse::sim::{Birth, DropReason, Host, NetworkConfig, NodeId, World};
//! use suffuse::{Class, Input, Instant, Output, Seed};
//!
//! /// Passes each frame on to the next node of a ring, until the frame has been everywhere.
//! struct Ring {
//!     next: NodeId,
//!     seen: bool,
//!     outputs: VecDeque<Output<NodeId>>,
//! }
//!
//! impl Ring {
//!     fn pass(&mut self, frame: Bytes) {
//!         if !self.seen {
//!             self.seen = true;
//!             self.outputs.push_back(Output::Send { to: self.next, frame, class: Class::Normal });
//!         }
//!     }
//! }
//!
//! impl Host<NodeId> for Ring {
//!     fn handle_input(&mut self, input: Input<NodeId>, _now: Instant) {
//!         if let Input::Received { frame, .. } = input {
//!             self.pass(frame);
//!         }
//!     }
//!     fn handle_timeout(&mut self, _now: Instant) {}
//!     fn poll_output(&mut self) -> Option<Output<NodeId>> {
//!         self.outputs.pop_front()
//!     }
//!     fn poll_timeout(&self) -> Option<Instant> {
//!         None
//!     }
//! }
//!
//! let ring = |birth: Birth| Ring { next: (birth.node + 1) % 8, seen: false, outputs: VecDeque::new() };
//! let mut world = World::new(NetworkConfig::default(), Seed::from_u64(1));
//! for _ in 0..8 {
//!     world.add(ring);
//! }
//! world.crash(6);
//! world.with_host(0, |host, _now| host.pass(Bytes::from_static(b"hello")));
//! world.run_for(Duration::from_secs(1));
//! assert_eq!(world.hosts().filter(|(_, host)| host.seen).count(), 6);
//! assert_eq!(world.metrics().dropped(DropReason::Down), 1);
//! assert_eq!(world.metrics().total().wire_bytes, 6 * (5 + 28));
//! ```

mod chaos;
mod checker;
mod deliveries;
mod detect_scene;
mod fault;
mod group_scene;
mod ledger;
mod livestream_scene;
mod memo;
mod metrics;
mod network;
mod queue;
mod regions;
mod scene;
mod state_scene;
#[cfg(test)]
mod tests;
mod trace;
mod transport;
mod world;

use alloc::boxed::Box;

use bytes::Bytes;

pub use chaos::{ChaosReport, ChaosScene};
pub use checker::{
    Breach, Budget, Caps, Check, Checkers, Complete, ExactlyOnce, NothingForged, Published, Violation,
    Violations,
};
pub use deliveries::{Deliveries, Reach};
pub use detect_scene::{DetectReport, DetectScene};
pub use fault::{Fault, FaultSchedule, FrameFilter, Incident};
pub use group_scene::{
    DownloadKbps, FailoverMs, GroupMessages, GroupReport, GroupScene, MediaDelays, MediaReport, MediaScene,
};
pub use livestream_scene::{
    JoinMs, LivestreamReport, LivestreamScene, OnTime, OutageMs, StripesBack, UploadUse, Uploads,
    UploadsError,
};
pub use metrics::{DropReason, Metrics, Traffic, WindowMeter, body_bytes};
pub use network::{LinkModel, LinkModelError, Network, NetworkConfig, Passage, ReliablePassage};
pub use scene::{DelayMs, FloodReport, Probe, Sources, TopicReport, TopicScene};
pub use state_scene::{LevelStaleness, StalenessMs, StateBudget, StateReport, StateScene};
pub use world::{Birth, World};

use crate::io::{Class, Event, Input, Output};
use crate::time::Instant;

/// The name of a simulated node: its place in the order in which nodes were added, from 0.
pub type NodeId = u64;

/// What the world drives: an engine, an application around one, or another protocol, for comparison.
///
/// The methods are those of an engine, with the same contract. The world calls `poll_output` until it is `None` after
/// each input, command and timeout, then asks `poll_timeout`, and calls `handle_timeout` exactly at that time. It
/// panics if a host still wants to be woken at `now` or earlier after `handle_timeout(now)` and a drain.
pub trait Host<P> {
    /// Something happened.
    fn handle_input(&mut self, input: Input<P>, now: Instant);
    /// The time that [`Host::poll_timeout`] gave has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The next thing to do, or `None` if there is nothing left.
    fn poll_output(&mut self) -> Option<Output<P>>;
    /// When to call [`Host::handle_timeout`] next.
    fn poll_timeout(&self) -> Option<Instant>;
}

impl<P, H: Host<P> + ?Sized> Host<P> for Box<H> {
    fn handle_input(&mut self, input: Input<P>, now: Instant) {
        (**self).handle_input(input, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        (**self).handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output<P>> {
        (**self).poll_output()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }
}

/// A frame that a host hands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentFrame<'a> {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The frame.
    pub frame: &'a Bytes,
    /// Its class.
    pub class: Class,
    /// Its length with the overhead of the layers below.
    pub wire_bytes: u64,
}

/// Why a node stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// Without a word.
    Crashed,
    /// After its farewell.
    Left,
}

/// Watches a [`World`]. All methods do nothing unless they are written; `()` watches nothing and costs nothing, and a
/// pair watches twice.
pub trait Observer {
    /// A node began to run, for the first time or anew.
    fn started(&mut self, _node: NodeId, _now: Instant) {}
    /// A node stopped.
    fn stopped(&mut self, _node: NodeId, _now: Instant, _why: StopReason) {}
    /// A host had news for its application.
    fn event(&mut self, _node: NodeId, _now: Instant, _event: &Event<NodeId>) {}
    /// A host handed out a frame, whatever becomes of it.
    fn sent(&mut self, _now: Instant, _sent: &SentFrame<'_>) {}
    /// A frame is about to be given to its receiver.
    fn arrived(&mut self, _now: Instant, _from: NodeId, _to: NodeId, _frame: &Bytes) {}
    /// A frame was dropped.
    fn dropped(&mut self, _now: Instant, _from: NodeId, _to: NodeId, _frame: &Bytes, _reason: DropReason) {}
}

impl Observer for () {}

impl Host<NodeId> for crate::engine::Engine<NodeId> {
    fn handle_input(&mut self, input: Input<NodeId>, now: Instant) {
        Self::handle_input(self, input, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        Self::handle_timeout(self, now);
    }

    fn poll_output(&mut self) -> Option<Output<NodeId>> {
        Self::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }
}

macro_rules! observe_through {
    ($($part:tt),+) => {
        fn started(&mut self, node: NodeId, now: Instant) {
            $(self.$part.started(node, now);)+
        }

        fn stopped(&mut self, node: NodeId, now: Instant, why: StopReason) {
            $(self.$part.stopped(node, now, why);)+
        }

        fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
            $(self.$part.event(node, now, event);)+
        }

        fn sent(&mut self, now: Instant, sent: &SentFrame<'_>) {
            $(self.$part.sent(now, sent);)+
        }

        fn arrived(&mut self, now: Instant, from: NodeId, to: NodeId, frame: &Bytes) {
            $(self.$part.arrived(now, from, to, frame);)+
        }

        fn dropped(&mut self, now: Instant, from: NodeId, to: NodeId, frame: &Bytes, reason: DropReason) {
            $(self.$part.dropped(now, from, to, frame, reason);)+
        }
    };
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    observe_through!(0, 1);
}

impl<A: Observer, B: Observer, C: Observer> Observer for (A, B, C) {
    observe_through!(0, 1, 2);
}
