//! The scene in which topics are measured: everybody joins through one contact, a calm, then messages, and in their middle
//! whatever goes wrong.

mod flood;
mod tally;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use bytes::Bytes;

use super::{Birth, Fault, NetworkConfig, NodeId, World, body_bytes};
use crate::config::{Config, GossipMode};
use crate::engine::Engine;
use crate::gossip::PublishOptions;
use crate::id::{Epoch, Priority, StateId, SwarmId};
use crate::rng::{Rng, Seed, mix};
use crate::stats::{GossipStats, Histogram};
use crate::swarm::TopicOptions;
use crate::time::Instant;
use flood::Flood;
use tally::Tally;

pub use flood::FloodReport;

/// The topic of the scene.
const TOPIC: SwarmId = SwarmId::from_name("scene");

/// Everybody has joined by then.
const JOIN_SPAN: Duration = Duration::from_secs(5);

/// Between the last join and the first message.
const CALM: Duration = Duration::from_secs(30);

/// The end of the calm, in which idle traffic is measured.
const IDLE_SPAN: Duration = Duration::from_secs(10);

/// How long after the last message traffic counts as caused by messages.
const TAIL: Duration = Duration::from_secs(1);

/// How long the scene waits for what is still missing, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks whether parts have merged and states are equal.
const LOOK: Duration = Duration::from_millis(100);

/// A message that reached everybody within this time went its normal way.
const PROMPT: Duration = Duration::from_secs(1);

/// Who publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sources {
    /// The contact.
    #[default]
    One,
    /// Another node each time.
    Random,
}

/// What is to be simulated. Start from the default and change fields.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct TopicScene {
    /// Nodes, at least 2.
    pub nodes: u32,
    /// Messages published.
    pub messages: u32,
    /// Time between two of them.
    pub interval: Duration,
    /// Bytes of each, from 8 to [`GossipConfig::update_bytes_max`](crate::GossipConfig::update_bytes_max).
    pub payload_bytes: usize,
    /// Who publishes.
    pub sources: Sources,
    /// The network: latency, loss, upload, transport.
    pub network: NetworkConfig,
    /// The share of the nodes, in parts per million, that crash at once in the middle of the messages. The contact stays.
    pub crash_ppm: u32,
    /// How long the network is split in two, from the middle of the messages on.
    pub partition: Option<Duration>,
    /// The mean time that a node stays before it crashes (half of them) or leaves, and another joins in its place, from the
    /// first message on. The contact stays.
    pub churn: Option<Duration>,
    /// The share of the nodes, in parts per million, that accept everything and forward nothing, all their lives
    /// ([`Fault::Silent`]). The contact is none of them; what is reported is of the others.
    pub silent_ppm: u32,
    /// The share that forwards everything but the updates themselves, so that it looks useful ([`Fault::Freeload`]);
    /// likewise.
    pub freeload_ppm: u32,
    /// One node floods its neighbours while messages flow, at so many times the frames that each of them allows it
    /// ([`LinkConfig::inbound_frames_per_s`](crate::LinkConfig::inbound_frames_per_s)).
    pub flood: Option<u32>,
    /// The configuration of every node.
    pub config: Config,
    /// How urgent the messages are.
    pub priority: Priority,
    /// How bodies travel.
    pub mode: GossipMode,
    /// Everything random comes from here.
    pub seed: u64,
}

impl TopicScene {
    /// 100 messages of 1 KiB at 10 a second from one source to `nodes` nodes with 20 Mbit/s of upload each.
    pub fn new(nodes: u32) -> Self {
        let network =
            NetworkConfig { upload_bits_per_s: NonZeroU64::new(20_000_000), ..NetworkConfig::default() };
        Self {
            nodes,
            messages: 100,
            interval: Duration::from_millis(100),
            payload_bytes: 1_024,
            sources: Sources::One,
            network,
            crash_ppm: 0,
            partition: None,
            churn: None,
            silent_ppm: 0,
            freeload_ppm: 0,
            flood: None,
            config: match nodes {
                0..50 => Config::small(),
                50..=500 => Config::medium(),
                501..=100_000 => Config::large(),
                _ => Config::huge(),
            },
            priority: Priority::Normal,
            mode: GossipMode::Hybrid,
            seed: 1,
        }
    }

    /// Runs the scene. `probe` measures what a simulation cannot know.
    pub fn run(&self, probe: &mut dyn Probe) -> TopicReport {
        Run::new(self, probe).play()
    }
}

/// What the host of a simulation can measure, and the library must not.
pub trait Probe {
    /// Processor time used so far, in nanoseconds.
    fn cpu_ns(&mut self) -> u64 {
        0
    }

    /// Bytes of heap in use.
    fn heap_bytes(&mut self) -> u64 {
        0
    }

    /// Called now and then with the virtual time and the time at which the scene ends at the earliest.
    fn progress(&mut self, _now: Instant, _end: Instant) {}
}

/// Measures nothing.
impl Probe for () {}

/// What a scene showed.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TopicReport {
    /// The share of (message, node present from its publication to the end) pairs that were delivered.
    pub reliability: f64,
    /// Such pairs that were not, of which the node was told ([`Event::Lagged`](crate::Event::Lagged)).
    pub lagged: u64,
    /// Updates delivered twice to a node.
    pub repeated: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Bytes of bodies received, whole or in chunks, for each byte of the bodies delivered.
    pub copies_per_delivery: f64,
    /// Links crossed, at most.
    pub hops_max: u64,
    /// From publication to delivery, at nodes that were members when it was published.
    pub delay_ms: DelayMs,
    /// The same for what was published after the crash.
    pub crashed_delay_ms: Option<DelayMs>,
    /// Deliveries of older messages to nodes that joined after their publication.
    pub catch_ups: u64,
    /// Bytes on the wire that are not body, for each byte of body delivered, while messages flow.
    pub control_bytes_per_payload_byte: f64,
    /// Bytes on the wire for each delivery, while messages flow.
    pub bytes_per_delivery: f64,
    /// How long after the crash messages were still published that took more than a second to reach every survivor.
    pub recovery_s: Option<f64>,
    /// How long after the end of the partition the neighbours formed one component.
    pub merge_s: Option<f64>,
    /// How long after it everybody knew the same updates.
    pub equal_state_s: Option<f64>,
    /// Bytes of announcements, requests and fingerprints on the wire from the end of the partition until then, for each update
    /// that a node had missed.
    pub control_bytes_per_missed: Option<f64>,
    /// What a flood brought about.
    pub flood: Option<FloodReport>,
    /// Bytes that a node sends in a second while nothing is published.
    pub idle_bytes_per_s: f64,
    /// The mean number of neighbours at the end.
    pub degree_mean: f64,
    /// How many nodes were members at the end.
    pub members: u64,
    /// How many they took for members, the least and the most; `None` if some had no estimate.
    pub members_estimated: Option<(u64, u64)>,
    /// Heap for each node, everything included: bodies, frames under way, the simulator.
    pub heap_bytes_per_node: u64,
    /// Processor time for each delivery, the simulator included, while messages flow.
    pub cpu_ns_per_delivery: u64,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// A hash of everything that happened.
    pub trace_hash: u64,
}

/// Percentiles of a delay, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DelayMs {
    /// The median.
    pub p50: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl DelayMs {
    pub(super) fn of(delay_us: &Histogram) -> Self {
        let millis = |micros: Option<u64>| micros.unwrap_or(0) as f64 / 1_000.0;
        Self { p50: millis(delay_us.p50()), p99: millis(delay_us.p99()), max: millis(delay_us.max()) }
    }
}

struct Run<'a> {
    scene: &'a TopicScene,
    /// All nodes share it.
    config: Arc<Config>,
    probe: &'a mut dyn Probe,
    world: World<Engine<NodeId>, Tally>,
    rng: Rng,
    /// Counters of nodes that are gone.
    past: GossipStats,
    /// When each node will go, if it will.
    departures: BTreeMap<(Instant, NodeId), ()>,
    heap_before: u64,
    flood: Option<Flood>,
    end: Instant,
}

impl<'a> Run<'a> {
    fn new(scene: &'a TopicScene, probe: &'a mut dyn Probe) -> Self {
        let seed = Seed::from_u64(scene.seed);
        let heap_before = probe.heap_bytes();
        let mut world = World::with_observer(scene.network.clone(), seed, Tally::default());
        world.meter_payload(body_bytes);
        let publishing = scene.interval * scene.messages;
        let end = Instant::ZERO + JOIN_SPAN + CALM + publishing + scene.partition.unwrap_or_default();
        Self {
            scene,
            config: Arc::new(scene.config.clone()),
            probe,
            world,
            rng: Rng::new(seed.fork(u64::MAX - 1)),
            past: GossipStats::default(),
            departures: BTreeMap::new(),
            heap_before,
            flood: None,
            end,
        }
    }

    fn play(mut self) -> TopicReport {
        self.join();
        let idle_bytes_per_s = self.calm();
        let cpu_before = self.probe.cpu_ns();
        self.world.metrics_mut().reset();
        self.begin_flood();
        let (crashed, healed) = self.publish();
        let flood = self.end_flood();
        let cpu_ns = self.probe.cpu_ns() - cpu_before;
        let traffic = self.world.metrics().total();
        let deliveries = self.world.observer().deliveries;
        let (merge_s, equal_state_s) = self.settle(healed);
        let heap = self.probe.heap_bytes().saturating_sub(self.heap_before);

        let body = deliveries * self.scene.payload_bytes as u64;
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let present = self.present();
        let (reliability, lagged) = self.reliability(&present);
        let stats = self.stats();
        let tally = self.world.observer();
        let degrees: usize = self.world.hosts().map(|(_, host)| host.neighbors(TOPIC).len()).sum();
        TopicReport {
            reliability,
            lagged,
            repeated: tally.repeated,
            deliveries: tally.deliveries,
            copies_per_delivery: ratio(
                stats.body_bytes_received,
                stats.delivered * self.scene.payload_bytes as u64,
            ),
            hops_max: tally.hops_max,
            delay_ms: DelayMs::of(&tally.delay_us),
            crashed_delay_ms: crashed.map(|_| DelayMs::of(&tally.crashed_delay_us)),
            catch_ups: tally.catch_ups,
            control_bytes_per_payload_byte: ratio(traffic.wire_bytes - traffic.payload_bytes, body),
            bytes_per_delivery: ratio(traffic.wire_bytes, deliveries),
            recovery_s: crashed.map(|at| self.recovery(at, &present)),
            merge_s,
            equal_state_s,
            control_bytes_per_missed: healed.and(tally.control_per_missed()),
            flood,
            idle_bytes_per_s,
            degree_mean: ratio(degrees as u64, self.world.hosts().count() as u64),
            members: self.world.hosts().count() as u64,
            members_estimated: self.members_estimated(),
            heap_bytes_per_node: heap / u64::from(self.scene.nodes),
            cpu_ns_per_delivery: cpu_ns / deliveries.max(1),
            virtual_s: self.world.now().as_micros() as f64 / 1e6,
            trace_hash: self.world.trace_hash(),
        }
    }

    fn join(&mut self) {
        let gap = JOIN_SPAN / self.scene.nodes;
        for node in 0..self.scene.nodes {
            self.run_until(Instant::ZERO + gap * node);
            self.add();
        }
        self.run_until(Instant::ZERO + JOIN_SPAN);
    }

    fn calm(&mut self) -> f64 {
        self.run_until(Instant::ZERO + JOIN_SPAN + CALM - IDLE_SPAN);
        self.world.metrics_mut().reset();
        self.run_until(Instant::ZERO + JOIN_SPAN + CALM);
        let bytes = self.world.metrics().total().wire_bytes;
        bytes as f64 / f64::from(self.scene.nodes) / IDLE_SPAN.as_secs_f64()
    }

    /// Publishes all messages, with the accident in their middle. Returns when nodes crashed, and when a partition ended.
    fn publish(&mut self) -> (Option<Instant>, Option<Instant>) {
        let start = self.world.now();
        let middle = self.scene.messages / 2;
        let (mut crashed, mut heals_at) = (None, None);
        if self.scene.churn.is_some() {
            for node in 1..u64::from(self.scene.nodes) {
                self.plan_departure(node);
            }
        }
        for message in 0..self.scene.messages {
            let at = start + self.scene.interval * message;
            self.run_with_heal(at, &mut heals_at);
            if message == middle {
                crashed = self.crash();
                heals_at = self.split();
            }
            self.publish_one(message);
        }
        let tail = self.world.now() + TAIL;
        self.run_with_heal(tail, &mut heals_at);
        if let Some(at) = heals_at {
            self.run_with_heal(at, &mut heals_at);
        }
        let healed = self.scene.partition.map(|_| self.world.now()).filter(|_| heals_at.is_none());
        (
            crashed,
            healed.map(|_| start + self.scene.interval * middle + self.scene.partition.unwrap_or_default()),
        )
    }

    fn publish_one(&mut self, message: u32) {
        let mut payload = vec![0u8; self.scene.payload_bytes];
        let number = (u64::from(message) ^ self.scene.seed << 32).to_le_bytes();
        let len = payload.len().min(number.len());
        payload[..len].copy_from_slice(&number[..len]);
        let origin = match self.scene.sources {
            Sources::One => 0,
            Sources::Random => {
                let up: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
                self.rng.pick(&up).copied().unwrap_or(0)
            }
        };
        let nodes = self.world.node_count();
        let payload = Bytes::from(payload);
        let options = PublishOptions { priority: self.scene.priority, ..PublishOptions::default() };
        let published = self.world.with_host(origin, |host, now| {
            host.publish(TOPIC, StateId(0), payload, options, now).map(|id| (id, now))
        });
        if let Some(Ok((id, now))) = published {
            self.world.observer_mut().publish(id, nodes, now);
        }
    }

    fn crash(&mut self) -> Option<Instant> {
        if self.scene.crash_ppm == 0 {
            return None;
        }
        let mut nodes: Vec<NodeId> = (1..u64::from(self.scene.nodes)).collect();
        self.rng.shuffle(&mut nodes);
        let count = nodes.len() as u64 * u64::from(self.scene.crash_ppm) / 1_000_000;
        for &node in nodes.iter().take(count as usize) {
            self.remember(node);
            self.world.crash(node);
        }
        let now = self.world.now();
        self.world.observer_mut().crashed = Some(now);
        Some(now)
    }

    fn split(&mut self) -> Option<Instant> {
        let span = self.scene.partition?;
        let seed = self.rng.next_u64();
        self.world.partition(|node| (mix(seed ^ node) & 1) as u8);
        Some(self.world.now() + span)
    }

    /// Runs on; if the partition ends on the way, ends it.
    fn run_with_heal(&mut self, until: Instant, heals_at: &mut Option<Instant>) {
        if let Some(at) = heals_at.filter(|&at| at <= until) {
            self.run_until(at);
            self.world.heal();
            *heals_at = None;
            self.world.observer_mut().healed = Some(at);
        }
        self.run_until(until);
    }

    /// Waits until everybody has everything, at most as long as is reasonable.
    fn settle(&mut self, healed: Option<Instant>) -> (Option<f64>, Option<f64>) {
        let patience = self.world.now().max(healed.unwrap_or(Instant::ZERO)) + PATIENCE;
        let (mut merged, mut equal) = (None, None);
        // Churn would change the question while it is being answered.
        self.departures.clear();
        loop {
            let now = self.world.now();
            if healed.is_some() && merged.is_none() && self.is_one_component() {
                merged = Some(now);
            }
            if self.is_equal() {
                equal.get_or_insert(now);
                self.world.observer_mut().equal_state();
                if healed.is_none() || merged.is_some() {
                    break;
                }
            }
            if now >= patience {
                break;
            }
            self.run_until(now + LOOK);
        }
        let since = |at: Option<Instant>| Some((at? - healed?).as_secs_f64());
        (since(merged), since(equal))
    }

    fn members_estimated(&self) -> Option<(u64, u64)> {
        let estimates = self.world.hosts().map(|(_, host)| host.topic_stats(TOPIC)?.members_estimated);
        let estimates = estimates.collect::<Option<Vec<_>>>()?;
        Some((*estimates.iter().min()?, *estimates.iter().max()?))
    }

    fn is_equal(&self) -> bool {
        // A large update is known before it is whole.
        let is_busy =
            |host: &Engine<NodeId>| host.topic_stats(TOPIC).is_some_and(|stats| stats.assembling > 0);
        if self.scene.payload_bytes > self.scene.config.gossip.chunk_above_bytes
            && self.world.hosts().any(|(_, host)| is_busy(host))
        {
            return false;
        }
        let mut fingerprints = self.world.hosts().map(|(_, host)| host.fingerprint(TOPIC));
        let first = fingerprints.next();
        fingerprints.all(|fingerprint| Some(fingerprint) == first)
    }

    fn is_one_component(&self) -> bool {
        let up: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
        let mut reached = vec![false; self.world.node_count()];
        let mut edges: Vec<Vec<NodeId>> = vec![Vec::new(); self.world.node_count()];
        for (node, host) in self.world.hosts() {
            for peer in host.neighbors(TOPIC) {
                edges[node as usize].push(peer);
                edges[peer as usize].push(node);
            }
        }
        let mut queue = Vec::from_iter(up.first().copied());
        while let Some(node) = queue.pop() {
            if !core::mem::replace(&mut reached[node as usize], true) {
                queue.extend(edges[node as usize].iter().copied());
            }
        }
        up.iter().all(|&node| reached[node as usize])
    }

    /// Nodes that are up, with the time since which they are.
    fn present(&self) -> Vec<(NodeId, Instant)> {
        let joined_at = &self.world.observer().joined_at;
        let exempt = &self.world.observer().exempt;
        let up = self.world.hosts().map(|(node, _)| node).filter(|node| !exempt.contains(node));
        up.filter_map(|node| Some((node, joined_at.get(node as usize).copied()??))).collect()
    }

    fn reliability(&self, present: &[(NodeId, Instant)]) -> (f64, u64) {
        let tally = self.world.observer();
        let (mut asked, mut had) = (0u64, 0u64);
        for (index, message) in tally.messages.iter().enumerate() {
            for &(node, _) in present.iter().filter(|(_, since)| *since <= message.published) {
                asked += 1;
                had += u64::from(tally.has(index, node));
            }
        }
        let lagged = tally.lagged.iter().filter(|(node, id)| {
            tally.by_id.get(id).is_some_and(|&message| {
                let since = present.iter().find(|(other, _)| other == node);
                since.is_some_and(|(_, since)| *since <= tally.messages[message].published)
            })
        });
        (if asked == 0 { 1.0 } else { had as f64 / asked as f64 }, lagged.count() as u64)
    }

    fn recovery(&self, crashed: Instant, present: &[(NodeId, Instant)]) -> f64 {
        let tally = self.world.observer();
        let disturbed = tally.messages.iter().enumerate().filter(|(index, message)| {
            let late = message.last - message.published > PROMPT;
            let missing =
                present.iter().any(|&(node, since)| since <= message.published && !tally.has(*index, node));
            message.published >= crashed && (late || missing)
        });
        let last = disturbed.map(|(_, message)| message.published + self.scene.interval).max();
        last.map_or(0.0, |at| (at - crashed).as_secs_f64())
    }

    fn stats(&self) -> GossipStats {
        let mut sum = self.past;
        for (_, host) in self.world.hosts() {
            if let Some(stats) = host.topic_stats(TOPIC) {
                sum.body_bytes_received += stats.gossip.body_bytes_received;
                sum.delivered += stats.gossip.delivered;
            }
        }
        sum
    }

    fn remember(&mut self, node: NodeId) {
        let stats = self.world.host(node).and_then(|host| host.topic_stats(TOPIC));
        if let Some(stats) = stats {
            self.past.body_bytes_received += stats.gossip.body_bytes_received;
            self.past.delivered += stats.gossip.delivered;
        }
    }

    /// A new node, which joins through the contact.
    fn add(&mut self) -> NodeId {
        let (scene, shared) = (self.scene, &self.config);
        let node = self.world.add(|birth| {
            let Birth { node, seed, now, life } = birth;
            let mut config = Arc::clone(shared);
            if config.epoch != Epoch(life) {
                Arc::make_mut(&mut config).epoch = Epoch(life);
            }
            let mut engine =
                Engine::new(node, config, seed, now).expect("the scene's configuration is valid");
            let contact = (node != 0).then_some(0);
            let options = TopicOptions::through(contact).mode(scene.mode);
            engine.join_topic(TOPIC, options, now).expect("a fresh engine can join");
            engine
        });
        if let Some(fault) = self.fault(node) {
            self.world.set_fault(node, Some(fault));
            self.world.observer_mut().exempt.insert(node);
        }
        node
    }

    fn fault(&self, node: NodeId) -> Option<Fault> {
        let draw = (mix(self.scene.seed ^ mix(node)) % 1_000_000) as u32;
        let (silent, freeload) = (self.scene.silent_ppm, self.scene.freeload_ppm);
        match draw {
            _ if node == 0 => None,
            _ if draw < silent => Some(Fault::Silent),
            _ if draw < silent + freeload => Some(Fault::Freeload),
            _ => None,
        }
    }

    fn plan_departure(&mut self, node: NodeId) {
        let Some(mean) = self.scene.churn else { return };
        // Exponential by inversion: -ln(u) from the position of u's first bit and a linear step, integers only.
        let draw = self.rng.next_u64() | 1;
        let exponent = u64::from(draw.leading_zeros());
        let mantissa = (draw << exponent << 1) >> 44;
        let ln_ppm = exponent * 693_147 + (693_147 - mantissa * 693_147 / (1 << 20));
        let stay = Duration::from_micros(mean.as_micros() as u64 / 1_000_000 * ln_ppm);
        self.departures.insert((self.world.now() + stay, node), ());
    }

    fn run_until(&mut self, until: Instant) {
        while let Some((&(at, node), ())) =
            self.departures.first_key_value().filter(|((at, _), ())| *at <= until)
        {
            self.departures.remove(&(at, node));
            self.step_to(at);
            self.replace(node);
        }
        self.step_to(until);
    }

    fn replace(&mut self, node: NodeId) {
        if !self.world.is_up(node) {
            return;
        }
        self.remember(node);
        if self.rng.next_u64() & 1 == 0 {
            self.world.crash(node);
        } else {
            self.world.leave(node, Duration::from_secs(1), |host, now| {
                // It was a member all its life.
                let _ = host.leave(TOPIC, now);
            });
        }
        let newcomer = self.add();
        self.plan_departure(newcomer);
    }

    fn step_to(&mut self, until: Instant) {
        while self.world.now() < until {
            self.beat();
            let next = until.min(self.world.now() + LOOK).min(self.next_beat().unwrap_or(Instant::MAX));
            self.world.run_until(next);
            self.probe.progress(next, self.end);
        }
    }
}
