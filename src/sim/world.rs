//! The world: nodes, virtual time, and what happens next.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use bytes::Bytes;

use super::fault::Fault;
use super::metrics::Metrics;
use super::network::{Network, NetworkConfig, Uplink};
use super::queue::Queue;
use super::trace::Trace;
use super::{Host, NodeId, Observer, StopReason};
use crate::io::{Input, Output};
use crate::rng::Seed;
use crate::time::Instant;

/// Nodes on a virtual network, in virtual time.
///
/// Everything that happens follows from the seed, the hosts and the calls made here: two runs of one program are
/// equal, and [`World::trace_hash`] proves it. Nodes are numbered from 0 in the order in which they are added. Calls
/// that name a node that does not exist panic: that is a mistake of the test, not of the network.
pub struct World<H, O = ()> {
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node<H>>,
    pub(super) queue: Queue<Happening>,
    pub(super) network: Network,
    pub(super) metrics: Metrics,
    pub(super) trace: Trace,
    pub(super) observer: O,
    pub(super) body_bytes: Option<fn(&Bytes) -> u64>,
    /// Connections made so far; their numbers tell an old one from a new one.
    pub(super) connections: u32,
    /// Somebody crashed before all that it had handed out had left, perhaps.
    pub(super) crashed: bool,
    /// What a draining host is told as soon as it is drained.
    pub(super) answers: Vec<Input<NodeId>>,
    seed: Seed,
    happened: u64,
}

/// Who is born: what the maker of a host gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    /// The name of the node.
    pub node: NodeId,
    /// How many lives it had before: 0, and one more with each restart.
    pub life: u32,
    /// Randomness of its own, another in each life.
    pub seed: Seed,
    /// The present.
    pub now: Instant,
}

pub(super) struct Node<H> {
    /// In a box: a world grows by doubling, and hosts are large.
    pub(super) host: Option<Box<H>>,
    pub(super) life: u32,
    pub(super) group: u8,
    pub(super) fault: Option<Box<Fault>>,
    pub(super) upload_bits_per_s: Option<NonZeroU64>,
    pub(super) uplink: Uplink,
    /// The earliest wake-up in the queue that still counts, or the end of time.
    pub(super) armed: Instant,
    /// When the last life crashed: what had not left by then never will.
    pub(super) died_at: Instant,
    /// Connections, by peer. Empty unless the transport is reliable.
    pub(super) links: BTreeMap<NodeId, Link>,
}

/// One end of a connection.
pub(super) struct Link {
    pub(super) connection: u32,
    /// When the last frame towards the peer arrives: none may overtake it.
    pub(super) last_arrival: Instant,
    /// A frame was lost for good, so nothing may follow it.
    pub(super) broken: bool,
}

pub(super) enum Happening {
    Arrival(Flight),
    Wake { node: u32 },
    Dialled { from: u32, to: u32, life: u32, since: Instant },
    DialFailed { from: u32, to: NodeId, life: u32 },
    Closed { node: u32, peer: u32, connection: u32 },
    Removal { node: u32, life: u32 },
}

pub(super) struct Flight {
    pub(super) frame: Bytes,
    pub(super) departed: Instant,
    pub(super) from: u32,
    pub(super) to: u32,
    /// The sender's life.
    pub(super) life: u32,
    /// 0 for datagrams.
    pub(super) connection: u32,
}

impl<H: Host<NodeId>> World<H> {
    /// An empty world at time zero.
    pub fn new(config: NetworkConfig, seed: Seed) -> Self {
        Self::with_observer(config, seed, ())
    }
}

impl<H: Host<NodeId>, O: Observer> World<H, O> {
    /// An empty world at time zero that reports what happens to `observer`.
    pub fn with_observer(config: NetworkConfig, seed: Seed, observer: O) -> Self {
        Self {
            now: Instant::ZERO,
            nodes: Vec::new(),
            queue: Queue::new(),
            network: Network::new(config, seed.fork(u64::MAX)),
            metrics: Metrics::default(),
            trace: Trace::default(),
            observer,
            body_bytes: None,
            connections: 0,
            crashed: false,
            answers: Vec::new(),
            seed,
            happened: 0,
        }
    }

    /// Adds a node that runs from now on, and returns its name.
    pub fn add(&mut self, make: impl FnOnce(Birth) -> H) -> NodeId {
        assert!(self.nodes.len() < u32::MAX as usize, "the world is full");
        let index = self.nodes.len();
        self.nodes.push(Node {
            host: None,
            life: 0,
            group: 0,
            fault: None,
            upload_bits_per_s: self.network.config().upload_bits_per_s,
            uplink: Uplink::default(),
            armed: Instant::MAX,
            died_at: Instant::MAX,
            links: BTreeMap::new(),
        });
        self.metrics.add_node();
        self.start(index, make);
        index as NodeId
    }

    /// Stops a node without a word: what it has not sent yet never leaves, what arrives is lost, and nobody is told.
    /// Does nothing if it is down already.
    pub fn crash(&mut self, node: NodeId) {
        let now = self.now;
        let state = self.node_mut(node);
        if state.host.take().is_some() {
            state.died_at = now;
            state.links.clear();
            state.uplink = Uplink::default();
            self.crashed = true;
            self.stopped(node, StopReason::Crashed);
        }
    }

    /// Starts a node that is down anew, under its old name; crashes it first if it runs. Its fault is gone, its group and
    /// its upload remain.
    pub fn restart(&mut self, node: NodeId, make: impl FnOnce(Birth) -> H) {
        self.crash(node);
        let state = self.node_mut(node);
        state.life += 1;
        state.fault = None;
        self.start(node as usize, make);
    }

    /// Lets a node say goodbye with `farewell`, drains it, drives it on for `linger`, and then removes it. Everything
    /// that it handed out still leaves; a reliable transport closes its connections. Does nothing if it is down.
    pub fn leave(&mut self, node: NodeId, linger: Duration, farewell: impl FnOnce(&mut H, Instant)) {
        if self.with_host(node, farewell).is_none() {
            return;
        }
        let (index, life) = (node as u32, self.node_mut(node).life);
        if linger.is_zero() {
            self.remove(index, life);
        } else {
            self.queue.push(self.now + linger, Happening::Removal { node: index, life });
        }
    }

    /// Cuts the network into groups: from now on frames between different groups are lost when they are sent; those
    /// under way still arrive. Nodes added later are in group 0.
    pub fn partition(&mut self, group: impl Fn(NodeId) -> u8) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.group = group(index as NodeId);
        }
    }

    /// Puts all nodes into one group again.
    pub fn heal(&mut self) {
        self.partition(|_| 0);
    }

    /// Makes a node misbehave, or behave again.
    pub fn set_fault(&mut self, node: NodeId, fault: Option<Fault>) {
        self.node_mut(node).fault = fault.map(Box::new);
    }

    /// Gives a node another upload than [`NetworkConfig::upload_bits_per_s`].
    pub fn set_upload(&mut self, node: NodeId, bits_per_s: Option<NonZeroU64>) {
        self.node_mut(node).upload_bits_per_s = bits_per_s;
    }

    /// The upload of a node.
    pub fn upload(&self, node: NodeId) -> Option<NonZeroU64> {
        self.nodes[index_of(node)].upload_bits_per_s
    }

    /// Counts the update bodies in each frame that is sent, as `body_bytes` finds them
    /// ([`sim::body_bytes`](super::body_bytes) for this crate's frames): [`Traffic::payload_bytes`]. It costs a look
    /// into every frame.
    ///
    /// [`Traffic::payload_bytes`]: super::Traffic::payload_bytes
    pub fn meter_payload(&mut self, body_bytes: fn(&Bytes) -> u64) {
        self.body_bytes = Some(body_bytes);
    }

    /// The host of `node`, or `None` if it is down.
    pub fn host(&self, node: NodeId) -> Option<&H> {
        self.nodes.get(index_of(node))?.host.as_deref()
    }

    /// Calls `command` on a host, as its application would, and then drains it. `None` if it is down.
    pub fn with_host<R>(&mut self, node: NodeId, command: impl FnOnce(&mut H, Instant) -> R) -> Option<R> {
        let now = self.now;
        let result = command(self.node_mut(node).host.as_mut()?, now);
        self.settle(node as usize);
        Some(result)
    }

    /// The nodes that run, in order.
    pub fn hosts(&self) -> impl Iterator<Item = (NodeId, &H)> + '_ {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| Some((index as NodeId, node.host.as_deref()?)))
    }

    /// Whether `node` runs.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.host(node).is_some()
    }

    /// How many nodes were added, running or not.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// When something happens next, unless a call makes it happen earlier; `None` if nothing ever will.
    pub fn next_at(&mut self) -> Option<Instant> {
        self.queue.next_at()
    }

    /// Lets the next thing happen, and returns when it did.
    pub fn step(&mut self) -> Option<Instant> {
        let (at, happening) = self.queue.pop()?;
        debug_assert!(at >= self.now, "time runs backwards");
        self.now = at;
        self.happened += 1;
        match happening {
            Happening::Arrival(flight) => self.arrive(flight),
            Happening::Wake { node } => self.wake(node as usize),
            Happening::Dialled { from, to, life, since } => self.dialled(from, to, life, since),
            Happening::DialFailed { from, to, life } => self.dial_failed(from, to, life),
            Happening::Closed { node, peer, connection } => self.closed(node, peer, connection),
            Happening::Removal { node, life } => self.remove(node, life),
        }
        Some(at)
    }

    /// Lets everything happen that happens up to and including `until`, which is then the present.
    pub fn run_until(&mut self, until: Instant) {
        while self.queue.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// [`World::run_until`], from the present on.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network, to change its conditions.
    pub fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The counters, to reset them after a warm-up.
    pub fn metrics_mut(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// The observer.
    pub fn observer(&self) -> &O {
        &self.observer
    }

    /// The observer, to tell it what only the test knows.
    pub fn observer_mut(&mut self) -> &mut O {
        &mut self.observer
    }

    /// The observer, after the last event.
    pub fn into_observer(self) -> O {
        self.observer
    }

    /// A hash over every frame that arrived (time, sender, receiver, length, content) and every event, in their order.
    /// Equal runs have equal hashes on every platform and in every build.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// How many things have happened: arrivals, wake-ups, connections.
    pub fn steps(&self) -> u64 {
        self.happened
    }

    /// How many things are due later: a measure of the world's own memory.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    fn start(&mut self, index: usize, make: impl FnOnce(Birth) -> H) {
        let (node, now) = (index as NodeId, self.now);
        let life = self.nodes[index].life;
        let seed = self.seed.fork(u64::from(life) << 32 | node);
        self.nodes[index].host = Some(Box::new(make(Birth { node, life, seed, now })));
        self.observer.started(node, now);
        self.settle(index);
    }

    fn remove(&mut self, node: u32, life: u32) {
        let state = &mut self.nodes[node as usize];
        if state.life != life || state.host.take().is_none() {
            return;
        }
        // What it handed out still leaves.
        state.died_at = Instant::MAX;
        for (peer, link) in core::mem::take(&mut state.links) {
            self.close_towards(node, peer as u32, &link);
        }
        self.stopped(NodeId::from(node), StopReason::Left);
    }

    fn stopped(&mut self, node: NodeId, why: StopReason) {
        self.node_mut(node).armed = Instant::MAX;
        self.observer.stopped(node, self.now, why);
    }

    fn wake(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        // A wake-up that another has overtaken, or of an earlier life.
        if node.armed != now {
            return;
        }
        node.armed = Instant::MAX;
        let Some(host) = &mut node.host else { return };
        if host.poll_timeout().is_none_or(|deadline| deadline > now) {
            self.arm(index);
            return;
        }
        host.handle_timeout(now);
        self.drain(index);
        let deadline = self.nodes[index].host.as_ref().and_then(|host| host.poll_timeout());
        assert!(
            deadline.is_none_or(|deadline| deadline > now),
            "node {index} would spin at {now:?}: after handle_timeout and a drain its deadline is {deadline:?}, \
             which is not later than now (sentence 3 of the driving contract)",
        );
        self.answer(index);
        self.arm(index);
    }

    /// Drains a host, tells it what it must know at once, and notes when it wants to be woken.
    pub(super) fn settle(&mut self, index: usize) {
        self.drain(index);
        self.answer(index);
        self.arm(index);
    }

    /// Tells a drained host what it must know at once, and drains it again.
    fn answer(&mut self, index: usize) {
        let mut rounds = 0;
        while !self.answers.is_empty() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "node {index} connects for ever at {:?}", self.now);
            for answer in core::mem::take(&mut self.answers) {
                if let Some(host) = &mut self.nodes[index].host {
                    host.handle_input(answer, self.now);
                }
            }
            self.drain(index);
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].host.as_mut().and_then(|host| host.poll_output()) {
            match output {
                Output::Send { to, frame, class } => self.send(index, to, frame, class),
                Output::Connect { peer } => self.connect(index, peer),
                Output::Disconnect { peer } => self.disconnect(index, peer),
                Output::Event(event) => {
                    self.metrics.note_event();
                    self.trace.event(self.now, index as NodeId, &event);
                    self.observer.event(index as NodeId, self.now, &event);
                }
            }
        }
    }

    /// Queues a wake-up if none comes early enough. One that comes too early asks again.
    fn arm(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(deadline) = node.host.as_ref().and_then(Host::poll_timeout) else { return };
        let deadline = deadline.max(self.now);
        if deadline < node.armed {
            node.armed = deadline;
            self.queue.push(deadline, Happening::Wake { node: index as u32 });
        }
    }

    fn node_mut(&mut self, node: NodeId) -> &mut Node<H> {
        let count = self.nodes.len();
        match self.nodes.get_mut(index_of(node)) {
            Some(state) => state,
            None => panic!("there is no node {node}: there are {count}"),
        }
    }
}

/// Where a node is, if it exists: a host may send to any name, also on machines with small pointers.
pub(super) fn index_of(node: NodeId) -> usize {
    usize::try_from(node).unwrap_or(usize::MAX)
}

/// How often a host may dial again, at one instant, because a dial was answered.
const ROUNDS_MAX: u32 = 10_000;
