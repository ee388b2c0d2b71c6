//! Chaos, then calm: random faults of every kind against random topics, and in the end everybody knows the same, has had
//! everything once, and nobody went beyond a limit.
//!
//! `SUFFUSE_CHAOS_SEED=7 cargo test --test chaos` replays one seed, `SUFFUSE_CHAOS_SEEDS=400` plays more than the usual.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{
    Budget, Caps, Checkers, Complete, ExactlyOnce, Fault, NetworkConfig, NodeId, NothingForged, Published,
    World,
};
use suffuse::{
    Config, Engine, Epoch, GossipMode, Instant, Priority, PublishOptions, Retention, Seed, StateId, SwarmId,
    TopicOptions,
};

const SWARM: SwarmId = SwarmId::from_name("chaos");
const SEEDS: u64 = 40;
const RETENTION: Duration = Duration::from_secs(90);

/// A small generator of its own: the scenario must not depend on the library's.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 31) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Fired {
    crashes: u32,
    restarts: u32,
    partitions: u32,
    mutes: u32,
    freeloaders: u32,
    slow: u32,
    leaves: u32,
    joins: u32,
    losses: u32,
    published: u32,
}

struct Run {
    seed: u64,
    dice: Dice,
    world: World<Engine<NodeId>, Checkers>,
    config: Config,
    retention: Retention,
    mode: GossipMode,
    lives: Vec<u32>,
    faulty: Vec<bool>,
    fired: Fired,
}

type Net = World<Engine<NodeId>, Checkers>;

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let mut network = NetworkConfig::default();
        if dice.chance(60) {
            network.loss_ppm = dice.roll(200_000) as u32;
        }
        network.duplicate_ppm = if dice.chance(40) { dice.roll(100_000) as u32 } else { 0 };
        network.reorder_ppm = if dice.chance(40) { dice.roll(200_000) as u32 } else { 0 };
        network.jitter = Duration::from_millis(dice.roll(30));
        network.reliable = dice.chance(20);
        let mut config = if dice.chance(50) { Config::small() } else { Config::medium() };
        let upload = dice.chance(40).then(|| 60_000 + dice.roll(200_000));
        config.egress.upload_bytes_per_s = upload;
        config.gossip.redundancy_percent = 100 + 10 * dice.roll(11) as u16;
        network.upload_bits_per_s = NonZeroU64::new(20_000_000);
        let retention = match dice.roll(4) {
            0 => Retention::Latest,
            _ => Retention::Window { age: RETENTION, bytes: 1 << 20 },
        };
        let mode = [GossipMode::Hybrid, GossipMode::Hybrid, GossipMode::Push, GossipMode::Pull]
            [dice.roll(4) as usize];

        let mut checkers = Checkers::new();
        checkers.add(ExactlyOnce::new());
        checkers.add(NothingForged::new().with_age_max(config.gossip.age_max));
        checkers.add(Caps::new().with_neighbors_max(config.membership.active_max as u64));
        // What a tree of repairs may save up, and one frame.
        checkers.add(Budget::new(upload, 2 * config.frame_bytes_max as u64));
        if retention != Retention::Latest {
            checkers.add(Complete::new(Duration::from_secs(60)).excusing_lost());
        }
        let world = World::with_observer(network, Seed::from_u64(seed), checkers);
        let (lives, faulty) = (Vec::new(), Vec::new());
        Self { seed, dice, world, config, retention, mode, lives, faulty, fired: Fired::default() }
    }

    fn engine(&self, node: NodeId, life: u32, seed: Seed, now: Instant) -> Engine<NodeId> {
        let mut config = self.config.clone();
        config.epoch = Epoch(life);
        let mut engine = Engine::new(node, config, seed, now).expect("a valid configuration");
        let contacts = (0..3).filter(|&contact| contact != node && node > 0);
        let options = TopicOptions::through(contacts).retention(self.retention).mode(self.mode);
        engine.join_topic(SWARM, options, now).expect("a fresh engine can join");
        engine
    }

    fn join(&mut self) {
        let node = self.world.node_count() as u64;
        let life = 0;
        let (lives, faulty) = (&mut self.lives, &mut self.faulty);
        lives.push(life);
        faulty.push(false);
        let now = self.world.now();
        let seed = Seed::from_u64(self.seed ^ (node + 1) << 20);
        let engine = self.engine(node, life, seed, now);
        self.world.add(|_| engine);
    }

    fn publish(&mut self) {
        let up: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
        let node = up[self.dice.roll(up.len() as u64) as usize];
        let state = StateId(self.dice.roll(5));
        let bytes = 8 + self.dice.roll(900) as usize;
        let payload = Bytes::from(vec![self.dice.roll(256) as u8; bytes]);
        let priorities = [Priority::Background, Priority::Normal, Priority::High, Priority::Urgent];
        let priority = priorities[self.dice.roll(4) as usize];
        let options = PublishOptions { priority, keyframe: self.dice.chance(20), layer: 0 };
        let body = payload.clone();
        let id = self.world.with_host(node, |engine, now| engine.publish(SWARM, state, body, options, now));
        if let Some(Ok(id)) = id {
            self.fired.published += 1;
            let now = self.world.now();
            self.world.observer_mut().published(now, &Published { id, state, payload });
        }
    }

    fn accident(&mut self) {
        let node = self.dice.roll(self.world.node_count() as u64);
        let up = self.world.is_up(node);
        match self.dice.roll(9) {
            0 if up && node > 2 => {
                self.fired.crashes += 1;
                self.world.crash(node);
            }
            1 if !up => {
                self.fired.restarts += 1;
                self.lives[node as usize] += 1;
                let life = self.lives[node as usize];
                let now = self.world.now();
                let seed = Seed::from_u64(self.seed ^ (node + 1) << 20 ^ u64::from(life));
                let engine = self.engine(node, life, seed, now);
                self.world.restart(node, |_| engine);
                self.faulty[node as usize] = false;
            }
            2 => {
                self.fired.partitions += 1;
                let salt = self.dice.roll(u64::MAX);
                self.world.partition(|node| ((node ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63) as u8);
            }
            3 => self.world.heal(),
            4 if up && node > 2 => {
                self.faulty[node as usize] = true;
                let fault = match self.dice.roll(3) {
                    0 => {
                        self.fired.mutes += 1;
                        Fault::Mute
                    }
                    1 => {
                        self.fired.freeloaders += 1;
                        Fault::Freeload
                    }
                    _ => {
                        self.fired.slow += 1;
                        Fault::Slow(Duration::from_millis(200))
                    }
                };
                self.world.set_fault(node, Some(fault));
            }
            5 => self.world.set_fault(node, None),
            6 if up && node > 2 => {
                self.fired.leaves += 1;
                let now = self.world.now();
                self.world.observer_mut().left(now, node, SWARM);
                self.world.leave(node, Duration::from_secs(1), |engine, now| {
                    let _ = engine.leave(SWARM, now);
                });
            }
            7 if self.world.node_count() < 45 => {
                self.fired.joins += 1;
                self.join();
            }
            8 => {
                self.fired.losses += 1;
                self.world.network_mut().config_mut().loss_ppm = self.dice.roll(300_000) as u32;
            }
            _ => {}
        }
    }

    fn play(mut self) -> Fired {
        for _ in 0..10 + self.dice.roll(20) {
            self.join();
            self.world.run_for(Duration::from_millis(self.dice.roll(300)));
        }
        self.world.run_for(Duration::from_secs(3));
        for _ in 0..60 {
            if self.dice.chance(50) {
                self.accident();
            }
            for _ in 0..self.dice.roll(4) {
                self.publish();
            }
            let pause = Duration::from_millis(self.dice.roll(1_500));
            self.world.run_for(pause);
        }
        // Calm: all faults end.
        self.world.heal();
        let network = self.world.network_mut().config_mut();
        (network.loss_ppm, network.duplicate_ppm, network.reorder_ppm) = (0, 0, 0);
        for node in 0..self.world.node_count() as u64 {
            self.world.set_fault(node, None);
        }
        self.world.run_for(Duration::from_secs(60));
        let now = self.world.now();
        self.world.observer_mut().finish(now);

        let seed = self.seed;
        let violations: Vec<_> =
            self.world.observer().violations().map(ToString::to_string).take(5).collect();
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
        assert!(is_one_component(&self.world), "seed {seed}: the swarm is in pieces");
        let mut fingerprints: Vec<_> = self.world.hosts().map(|(_, host)| host.fingerprint(SWARM)).collect();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), 1, "seed {seed}: not everybody knows the same");
        self.fired
    }
}

fn is_one_component(world: &Net) -> bool {
    let mut reached = vec![false; world.node_count()];
    let mut queue: Vec<NodeId> = world.hosts().map(|(node, _)| node).take(1).collect();
    while let Some(node) = queue.pop() {
        if !std::mem::replace(&mut reached[node as usize], true) {
            let neighbors = world.host(node).map(|host| host.neighbors(SWARM)).unwrap_or_default();
            queue.extend(neighbors.into_iter().filter(|&peer| world.is_up(peer)));
        }
    }
    world.hosts().all(|(node, _)| reached[node as usize])
}

#[test]
fn after_chaos_comes_agreement() {
    if let Ok(seed) = std::env::var("SUFFUSE_CHAOS_SEED") {
        let fired = Run::new(seed.parse().expect("a number")).play();
        println!("{fired:?}");
        return;
    }
    let mut all = Fired::default();
    let seeds = std::env::var("SUFFUSE_CHAOS_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let fired = Run::new(seed).play();
        all.crashes += fired.crashes;
        all.restarts += fired.restarts;
        all.partitions += fired.partitions;
        all.mutes += fired.mutes;
        all.freeloaders += fired.freeloaders;
        all.slow += fired.slow;
        all.leaves += fired.leaves;
        all.joins += fired.joins;
        all.losses += fired.losses;
        all.published += fired.published;
    }
    let Fired { crashes, restarts, partitions, mutes, freeloaders, slow, leaves, joins, losses, published } =
        all;
    for (name, count) in [
        ("crash", crashes),
        ("restart", restarts),
        ("partition", partitions),
        ("mute", mutes),
        ("freeloader", freeloaders),
        ("slow node", slow),
        ("leave", leaves),
        ("join", joins),
        ("loss", losses),
        ("update", published),
    ] {
        assert!(count >= 10, "only {count} of kind {name}: the faults do not bite");
    }
}
