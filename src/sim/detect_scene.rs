//! The scene in which failure detection is measured: how soon the neighbours of a crashed node notice, and how often anybody
//! is suspected that lives.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::{DelayMs, NetworkConfig, NodeId, Observer, World};
use crate::config::Config;
use crate::engine::Engine;
use crate::id::SwarmId;
use crate::io::Event;
use crate::rng::{Rng, Seed};
use crate::stats::Histogram;
use crate::swarm::TopicOptions;
use crate::time::Instant;

/// The topic of the scene.
const TOPIC: SwarmId = SwarmId::from_name("detection");

/// Everybody has joined by then, and the overlay has come to rest.
const JOIN_SPAN: Duration = Duration::from_secs(5);
const CALM: Duration = Duration::from_secs(30);

/// Between two crashes.
const CRASH_INTERVAL: Duration = Duration::from_millis(500);

/// By then the last crash has been noticed, or never will be.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often false suspicions are counted.
const LOOK: Duration = Duration::from_secs(10);

/// What is to be simulated. Start from the default and change fields.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct DetectScene {
    /// Nodes, at least 3.
    pub nodes: u32,
    /// Nodes that crash one after another.
    pub crashes: u32,
    /// How long the others are then watched for false suspicions.
    pub watch: Duration,
    /// The network, losses included.
    pub network: NetworkConfig,
    /// The configuration of every node.
    pub config: Config,
    /// Everything random comes from here.
    pub seed: u64,
}

impl DetectScene {
    /// A tenth of `nodes` crash, on a clean network of 10 to 50 ms; the others are watched for ten minutes.
    pub fn new(nodes: u32) -> Self {
        Self {
            nodes,
            crashes: (nodes / 10).max(1),
            watch: Duration::from_secs(600),
            network: NetworkConfig::default(),
            config: if nodes <= 500 { Config::medium() } else { Config::large() },
            seed: 1,
        }
    }

    /// Runs the scene.
    pub fn run(&self) -> DetectReport {
        let seed = Seed::from_u64(self.seed);
        let mut world = World::with_observer(self.network.clone(), seed, Watch::default());
        for node in 0..self.nodes {
            world.run_until(Instant::ZERO + JOIN_SPAN / self.nodes * node);
            world.add(|birth| {
                let mut engine = Engine::new(birth.node, self.config.clone(), birth.seed, birth.now)
                    .expect("the scene's configuration is valid");
                let contact = (birth.node != 0).then_some(0);
                engine
                    .join_topic(TOPIC, TopicOptions::through(contact), birth.now)
                    .expect("a fresh engine can join");
                engine
            });
        }
        world.run_until(Instant::ZERO + JOIN_SPAN + CALM);
        let links = self.crash(&mut world, &mut Rng::new(seed.fork(u64::MAX - 1)));
        let (false_suspicions, link_hours) = self.watch(&mut world);
        let watch = world.observer();
        DetectReport {
            crashes: self.crashes.min(self.nodes - 2),
            links,
            undetected: watch.waiting.len() as u64,
            delay_ms: DelayMs::of(&watch.delay_us),
            false_suspicions,
            link_hours,
            virtual_s: world.now().as_micros() as f64 / 1e6,
            trace_hash: world.trace_hash(),
        }
    }

    /// Crashes nodes at random times; returns how many links they had.
    fn crash(&self, world: &mut World<Engine<NodeId>, Watch>, rng: &mut Rng) -> u64 {
        let mut links = 0;
        for _ in 0..self.crashes.min(self.nodes - 2) {
            let up: Vec<_> = world.hosts().map(|(node, _)| node).filter(|&node| node != 0).collect();
            let Some(&victim) = rng.pick(&up) else { break };
            let pause = rng.between(0, CRASH_INTERVAL.as_micros() as u64 * 2);
            world.run_for(Duration::from_micros(pause));
            let now = world.now();
            // Those that have it as a neighbour, not those that it has.
            let having = world.hosts().filter(|(_, host)| host.neighbors(TOPIC).contains(&victim));
            let having: Vec<_> = having.map(|(node, _)| node).collect();
            links += having.len() as u64;
            let watch = world.observer_mut();
            watch.waiting.extend(having.into_iter().map(|node| ((node, victim), now)));
            watch.dead.insert(victim);
            world.crash(victim);
        }
        world.run_for(PATIENCE);
        links
    }

    /// Counts the living that are taken for dead, and the hours of the links on which that could happen, both ways.
    fn watch(&self, world: &mut World<Engine<NodeId>, Watch>) -> (u64, f64) {
        let suspected = |world: &World<Engine<NodeId>, Watch>| -> u64 {
            world.hosts().map(|(_, host)| host.stats().links_silent).sum()
        };
        let before = suspected(world);
        let end = world.now() + self.watch;
        let mut link_hours = 0.0;
        while world.now() < end {
            world.run_for(LOOK.min(end - world.now()));
            let links: usize = world.hosts().map(|(_, host)| host.neighbors(TOPIC).len()).sum();
            link_hours += links as f64 * LOOK.as_secs_f64() / 3_600.0;
        }
        (suspected(world) - before, link_hours)
    }
}

/// What a [`DetectScene`] showed.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DetectReport {
    /// Nodes that crashed.
    pub crashes: u32,
    /// Their links to living neighbours.
    pub links: u64,
    /// Such links that were still up in the end.
    pub undetected: u64,
    /// From the crash to the news that the neighbour is none any more.
    pub delay_ms: DelayMs,
    /// Living peers that were taken for dead while nobody crashed.
    pub false_suspicions: u64,
    /// The hours of all links, each counted at both ends, in which that could happen.
    pub link_hours: f64,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// A hash of everything that happened.
    pub trace_hash: u64,
}

/// Notes when crashes are noticed.
#[derive(Debug, Default)]
struct Watch {
    /// Who has not noticed yet that whom crashed, and when.
    waiting: BTreeMap<(NodeId, NodeId), Instant>,
    dead: BTreeSet<NodeId>,
    delay_us: Histogram,
}

impl Observer for Watch {
    fn stopped(&mut self, node: NodeId, _now: Instant, _why: super::StopReason) {
        // The dead notice nothing.
        self.waiting.retain(|&(other, _), _| other != node);
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        if let Event::NeighborDown { peer, .. } = event {
            if let Some(since) = self.waiting.remove(&(node, *peer)) {
                self.delay_us.record((now - since).as_micros() as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crash_is_noticed_by_every_neighbour_and_nobody_else_is_suspected() {
        let mut scene = DetectScene::new(40);
        scene.network.loss_ppm = 50_000;
        scene.watch = Duration::from_secs(120);
        let report = scene.run();
        assert_eq!((report.crashes, report.undetected, report.false_suspicions), (4, 0, 0));
        assert!(report.links >= 16 && report.link_hours > 5.0, "{report:?}");
        assert!(report.delay_ms.p50 > 500.0 && report.delay_ms.max < 6_000.0, "{report:?}");
        assert_eq!(scene.run(), report);
    }
}
