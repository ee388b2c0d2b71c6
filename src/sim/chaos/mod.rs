//! Chaos, then calm: random faults of every kind against a random topic, and in the end everybody knows the same, has had
//! everything once, and nobody went beyond a limit.

mod accidents;
mod converged;
mod host;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use bytes::Bytes;

use super::checker::{Budget, Caps, Checkers, Complete, ExactlyOnce, NothingForged, Published};
use super::{Birth, DropReason, NetworkConfig, NodeId, World};
use crate::config::{Config, GossipMode};
use crate::engine::Engine;
use crate::gossip::PublishOptions;
use crate::id::{Epoch, Priority, StateId, SwarmId};
use crate::log::Retention;
use crate::rng::Seed;
use crate::swarm::TopicOptions;
use converged::Converged;
use host::ChaosHost;

const SWARM: SwarmId = SwarmId::from_name("chaos");

/// Longer than chaos and calm together with all jumps of clocks: nothing expires while it is still asked for.
const RETENTION: Duration = Duration::from_secs(400);
const RETAINED_BYTES: usize = 1 << 20;
const CALM: Duration = Duration::from_secs(60);

/// Nodes that everybody joins through. They never stop, so that every fault is one that a swarm can survive.
const CONTACTS: u64 = 3;
const NODES_MAX: usize = 40;

const UPLOAD_BITS_PER_S: Option<NonZeroU64> = NonZeroU64::new(20_000_000);

/// How many of the violations found a report spells out.
const VIOLATIONS_TOLD: u64 = 5;

/// A topic of 10 to 40 nodes under random faults for about a minute, then a minute of calm. The network, the
/// configuration, the faults and what is published follow from the seed.
///
/// Faults: loss, repetition and reordering of frames, jitter, nodes that crash, come back with or without their disk, leave
/// and join, partitions, cuts in one direction, nodes that send nothing, forward nothing, are slow, lose their upload, stand
/// still, flood their neighbours, and clocks that jump forward or back.
///
/// ```
/// use suffuse::sim::ChaosScene;
///
/// let report = ChaosScene::new(7).run();
/// assert!(report.wrong.is_empty(), "{}: {:?}", report.scenario, report.wrong);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ChaosScene {
    /// Everything random comes from here.
    pub seed: u64,
}

impl ChaosScene {
    /// The scene of that seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Plays the scene. Panics only where an engine does: that is a violation, too.
    pub fn run(&self) -> ChaosReport {
        Run::new(self.seed).play()
    }
}

/// What a [`ChaosScene`] showed.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ChaosReport {
    /// The seed that plays it again.
    pub seed: u64,
    /// What was drawn: mode, retention, transport, upload.
    pub scenario: String,
    /// What happened, by kind, and how often. Kinds that begin with `run: ` are of the run as a whole.
    pub fired: BTreeMap<&'static str, u64>,
    /// What must hold in the end and does not. Empty if all is well.
    pub wrong: Vec<String>,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// A hash of everything that happened.
    pub trace_hash: u64,
}

/// A small generator of its own: the scenario must not depend on how engines draw.
struct Dice(u64);

impl Dice {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 31
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.draw() % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

struct Run {
    seed: u64,
    dice: Dice,
    world: World<ChaosHost, Checkers>,
    config: Config,
    retention: Retention,
    mode: GossipMode,
    /// Nodes that have had a second life, or shall have none.
    restarted: BTreeSet<NodeId>,
    flooders: BTreeSet<NodeId>,
    fired: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let network = network(&mut dice);
        let mut config = dice.pick(&[Config::small, Config::medium])();
        let upload = dice.chance(40).then(|| 15_000 + dice.roll(80_000));
        config.egress.upload_bytes_per_s = upload;
        config.gossip.redundancy_percent = 100 + 10 * dice.roll(11) as u16;
        let retention = dice.pick(&[
            Retention::Window { age: RETENTION, bytes: RETAINED_BYTES },
            Retention::Window { age: RETENTION, bytes: RETAINED_BYTES },
            Retention::Latest,
            Retention::SinceKeyframe { bytes: RETAINED_BYTES },
        ]);
        let mode = dice.pick(&[GossipMode::Hybrid, GossipMode::Hybrid, GossipMode::Push, GossipMode::Pull]);
        let checkers = checkers(&config, retention);
        let mut world = World::with_observer(network, Seed::from_u64(seed), checkers);
        world.metrics_mut().watch_windows();
        Self {
            seed,
            dice,
            world,
            config,
            retention,
            mode,
            restarted: BTreeSet::new(),
            flooders: BTreeSet::new(),
            fired: BTreeMap::new(),
        }
    }

    fn play(mut self) -> ChaosReport {
        self.note_run();
        self.chaos();
        self.calm();
        self.note_metrics();
        let wrong = self.wrong();
        ChaosReport {
            seed: self.seed,
            scenario: format!(
                "{:?}, {:?}, {}, upload {:?}, {} nodes",
                self.mode,
                self.retention,
                if self.world.network().config().reliable { "connections" } else { "datagrams" },
                self.config.egress.upload_bytes_per_s,
                self.world.node_count(),
            ),
            virtual_s: self.world.now().as_micros() as f64 / 1e6,
            trace_hash: self.world.trace_hash(),
            fired: self.fired,
            wrong,
        }
    }

    fn chaos(&mut self) {
        for _ in 0..10 + self.dice.roll(20) {
            let maker = self.maker(None);
            self.world.add(maker);
            self.world.run_for(Duration::from_millis(self.dice.roll(300)));
        }
        self.world.run_for(Duration::from_secs(3));
        for _ in 0..60 {
            if self.dice.chance(80) {
                self.accident();
            }
            for _ in 0..self.dice.roll(4) {
                self.publish();
            }
            let pause = Duration::from_millis(self.dice.roll(1_500));
            self.world.run_for(pause);
            self.measure();
        }
    }

    fn calm(&mut self) {
        self.world.heal();
        let network = self.world.network_mut().config_mut();
        (network.loss_ppm, network.duplicate_ppm, network.reorder_ppm) = (0, 0, 0);
        network.jitter = Duration::ZERO;
        for node in 0..self.world.node_count() as u64 {
            self.world.set_fault(node, None);
            self.world.set_upload(node, UPLOAD_BITS_PER_S);
            self.world.with_host(node, |host, now| host.resume(now));
        }
        // Whoever attacked is gone; it is for the others that all must be well.
        for node in core::mem::take(&mut self.flooders) {
            self.world.crash(node);
        }
        self.world.run_for(CALM + Duration::from_millis(1));
        self.measure();
        let now = self.world.now();
        self.world.observer_mut().finish(now);
    }

    /// How an engine is born. A later life has forgotten everything but that it is a later one: how many there were, or,
    /// if that was lost with the disk, `epoch` of the wall clock.
    fn maker(&self, epoch: Option<u32>) -> impl FnOnce(Birth) -> ChaosHost + use<> {
        let (mut config, retention, mode) = (self.config.clone(), self.retention, self.mode);
        move |birth| {
            config.epoch = Epoch(epoch.unwrap_or(birth.life));
            let mut engine =
                Engine::new(birth.node, config, birth.seed, birth.now).expect("a preset is valid");
            let contacts = (0..CONTACTS).filter(|&contact| contact != birth.node && birth.node > 0);
            let options = TopicOptions::through(contacts).retention(retention).mode(mode);
            engine.join_topic(SWARM, options, birth.now).expect("a fresh engine can join");
            ChaosHost::new(engine)
        }
    }

    fn publish(&mut self) {
        let awake = self.world.hosts().filter(|(_, host)| !host.stands_still() && !host.floods());
        let awake: Vec<_> = awake.map(|(node, _)| node).collect();
        if awake.is_empty() {
            return;
        }
        let node = self.dice.pick(&awake);
        let state = StateId(self.dice.roll(5));
        let bytes = 8 + self.dice.roll(1_100) as usize;
        let payload = Bytes::from(vec![self.dice.roll(256) as u8; bytes]);
        let priority =
            self.dice.pick(&[Priority::Background, Priority::Normal, Priority::High, Priority::Urgent]);
        let (keyframe, layer) = (self.dice.chance(20), self.dice.roll(8) as u8);
        let options = PublishOptions { priority, keyframe, layer, ..PublishOptions::default() };
        let body = payload.clone();
        let id = self.world.with_host(node, |host, now| {
            host.command(now, |engine, now| engine.publish(SWARM, state, body, options, now))
        });
        if let Some(Ok(id)) = id {
            self.count("update published", 1);
            let now = self.world.now();
            self.world.observer_mut().published(now, &Published { id, state, payload });
        }
    }

    /// Measures whatever has a limit.
    fn measure(&mut self) {
        let now = self.world.now();
        let (membership, gossip, link) = (&self.config.membership, &self.config.gossip, &self.config.link);
        let mut gauges = Vec::new();
        for (node, host) in self.world.hosts() {
            let engine = host.engine();
            gauges.push((node, "links", engine.link_count(), link.links_max));
            let Some(stats) = engine.topic_stats(SWARM) else { continue };
            gauges.push((node, "passive view", stats.passive, membership.passive_max));
            gauges.push((node, "active view", stats.neighbors, membership.active_max));
            gauges.push((node, "sources", stats.sources, gossip.sources_max));
            gauges.push((node, "events lost", engine.stats().events_lost as usize, 0));
            if self.retention != Retention::Latest {
                gauges.push((node, "bytes kept", stats.body_bytes, RETAINED_BYTES));
            }
        }
        for (node, name, value, limit) in gauges {
            self.world.observer_mut().gauge(now, node, name, value as u64, limit as u64);
        }
    }

    /// What must hold in the end, as a list of what does not.
    fn wrong(&self) -> Vec<String> {
        let found = self.world.observer().violation_count();
        let told = self.world.observer().violations().take(VIOLATIONS_TOLD as usize);
        let mut wrong: Vec<_> = told.map(ToString::to_string).collect();
        if found > VIOLATIONS_TOLD {
            wrong.push(format!("and {} more", found - VIOLATIONS_TOLD));
        }
        if !self.is_one_component() {
            wrong.push("the swarm is in pieces".to_string());
        }
        let fingerprints = self.world.hosts().map(|(_, host)| host.engine().fingerprint(SWARM));
        let fingerprints: BTreeSet<_> = fingerprints.collect();
        if fingerprints.len() != 1 {
            wrong.push(format!("{} different states of knowledge", fingerprints.len()));
        }
        wrong
    }

    fn is_one_component(&self) -> bool {
        let mut reached = vec![false; self.world.node_count()];
        let mut queue: Vec<NodeId> = self.world.hosts().map(|(node, _)| node).take(1).collect();
        while let Some(node) = queue.pop() {
            if !core::mem::replace(&mut reached[node as usize], true) {
                let neighbors = self.world.host(node).map(|host| host.engine().neighbors(SWARM));
                let neighbors = neighbors.unwrap_or_default().into_iter();
                queue.extend(neighbors.filter(|&peer| self.world.is_up(peer)));
            }
        }
        self.world.hosts().all(|(node, _)| reached[node as usize])
    }

    fn count(&mut self, kind: &'static str, by: u64) {
        *self.fired.entry(kind).or_default() += by;
    }

    fn note_run(&mut self) {
        let network = self.world.network().config();
        let kinds = [
            ("run: reliable", network.reliable),
            ("run: jitter", !network.jitter.is_zero()),
            ("run: reordered", network.reorder_ppm > 0 && !network.reliable),
            ("run: upload limited", self.config.egress.upload_bytes_per_s.is_some()),
            ("run: window", matches!(self.retention, Retention::Window { .. })),
            ("run: latest", self.retention == Retention::Latest),
            ("run: since keyframe", matches!(self.retention, Retention::SinceKeyframe { .. })),
            ("run: push", self.mode == GossipMode::Push),
            ("run: pull", self.mode == GossipMode::Pull),
            ("run: hybrid", self.mode == GossipMode::Hybrid),
        ];
        for (kind, holds) in kinds {
            self.count(kind, u64::from(holds));
        }
    }

    fn note_metrics(&mut self) {
        let metrics = self.world.metrics();
        let busy = self.config.egress.upload_bytes_per_s.is_some_and(|upload| {
            let nodes = 0..self.world.node_count() as u64;
            let busiest = nodes.filter_map(|node| metrics.busiest_second(node)).max();
            busiest.is_some_and(|bytes| bytes * 10 >= upload * 9)
        });
        let topics = self.world.hosts().filter_map(|(_, host)| host.engine().topic_stats(SWARM));
        let delivered = topics.map(|stats| stats.gossip.delivered).sum();
        let kinds = [
            ("frame lost", metrics.dropped(DropReason::Loss)),
            ("frame doubled", metrics.duplicated()),
            ("frame cut by a partition", metrics.dropped(DropReason::Partition)),
            ("frame to a dead node", metrics.dropped(DropReason::Down)),
            ("frame swallowed by a fault", metrics.dropped(DropReason::Fault)),
            ("frame sent again", metrics.retransmitted().frames),
            ("frame on a broken connection", metrics.dropped(DropReason::NotConnected)),
            ("run: busy upload", u64::from(busy)),
            ("update delivered", delivered),
        ];
        for (kind, count) in kinds {
            self.count(kind, count);
        }
    }
}

fn network(dice: &mut Dice) -> NetworkConfig {
    NetworkConfig {
        loss_ppm: if dice.chance(60) { dice.roll(200_000) as u32 } else { 0 },
        duplicate_ppm: if dice.chance(40) { dice.roll(100_000) as u32 } else { 0 },
        reorder_ppm: if dice.chance(40) { dice.roll(200_000) as u32 } else { 0 },
        reorder_by: Duration::from_millis(10 + dice.roll(200)),
        jitter: Duration::from_millis(if dice.chance(60) { dice.roll(30) } else { 0 }),
        reliable: dice.chance(25),
        reset_after: dice.chance(50).then_some(Duration::from_secs(2)),
        upload_bits_per_s: UPLOAD_BITS_PER_S,
        ..NetworkConfig::default()
    }
}

fn checkers(config: &Config, retention: Retention) -> Checkers {
    let mut checkers = Checkers::new();
    checkers.add(ExactlyOnce::new());
    checkers.add(NothingForged::new().with_age_max(config.gossip.age_max));
    checkers.add(Caps::new().with_neighbors_max(config.membership.active_max as u64));
    if let upload @ Some(_) = config.egress.upload_bytes_per_s {
        // The bucket holds one frame, and the budget grants as much again where a second begins and ends.
        checkers.add(Budget::new(upload, 2 * config.frame_bytes_max as u64));
    }
    match retention {
        Retention::Latest => checkers.add(Converged::new(SWARM)),
        _ => checkers.add(Complete::new(CALM).excusing_lost()),
    }
    checkers
}
