//! Chaos, then calm: random faults of every kind against random topics, and in the end everybody knows the same, has had
//! everything once, and nobody went beyond a limit.
//!
//! `SUFFUSE_CHAOS_SEED=7 cargo test --test chaos` replays one seed, `SUFFUSE_CHAOS_SEEDS=400` plays more than the usual.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{
    Birth, Breach, Budget, Caps, Check, Checkers, Complete, DropReason, ExactlyOnce, Fault, NetworkConfig,
    NodeId, NothingForged, Observer, Published, StopReason, Violation, Violations, World,
};
use suffuse::{
    Config, Engine, Epoch, Event, GossipMode, Instant, Priority, PublishOptions, Retention, StateId, SwarmId,
    TopicOptions,
};

const SWARM: SwarmId = SwarmId::from_name("chaos");
const SEEDS: u64 = 40;

/// Longer than chaos and calm together: nothing expires while it is still asked for.
const RETENTION: Duration = Duration::from_secs(180);
const RETAINED_BYTES: usize = 1 << 20;
const CALM: Duration = Duration::from_secs(60);

/// Nodes that everybody joins through. They never stop, so that every fault is one that a swarm can survive.
const CONTACTS: u64 = 3;
const NODES_MAX: usize = 40;

type Net = World<Engine<NodeId>, Checkers>;

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

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

type Versions = BTreeMap<(NodeId, StateId), (Epoch, u64)>;

/// With `Retention::Latest`, everybody has the newest update of each state that anybody has.
#[derive(Default)]
struct Converged {
    /// What each node has of each state: the newest epoch and sequence.
    newest: BTreeMap<NodeId, Versions>,
    lives: BTreeMap<NodeId, BTreeSet<Epoch>>,
    violations: Violations,
}

impl Converged {
    fn note(&mut self, node: NodeId, origin: NodeId, state: StateId, version: (Epoch, u64)) {
        let newest = self.newest.entry(node).or_default().entry((origin, state)).or_insert(version);
        *newest = version.max(*newest);
    }
}

impl Observer for Converged {
    fn started(&mut self, node: NodeId, _now: Instant) {
        self.newest.insert(node, BTreeMap::new());
    }

    fn stopped(&mut self, node: NodeId, _now: Instant, _why: StopReason) {
        self.newest.remove(&node);
    }

    fn event(&mut self, node: NodeId, _now: Instant, event: &Event<NodeId>) {
        if let Event::Delivered(update) = event {
            self.note(node, update.id.origin, update.state, (update.id.epoch, update.id.sequence));
        }
    }
}

impl Check for Converged {
    fn published(&mut self, _now: Instant, update: &Published) {
        self.lives.entry(update.id.origin).or_default().insert(update.id.epoch);
        self.note(update.id.origin, update.id.origin, update.state, (update.id.epoch, update.id.sequence));
    }

    fn finish(&mut self, now: Instant) {
        let mut all = BTreeMap::new();
        for (&key, &version) in self.newest.values().flatten() {
            let newest = all.entry(key).or_insert(version);
            *newest = version.max(*newest);
        }
        for ((origin, state), version) in all {
            // Of each origin two lives are remembered, so a state of an earlier one is nobody's duty.
            if self.lives[&origin].iter().rev().nth(1).is_some_and(|&second| version.0 < second) {
                continue;
            }
            for (&node, newest) in &self.newest {
                if newest.get(&(origin, state)) != Some(&version) {
                    let id =
                        suffuse::UpdateId { swarm: SWARM, origin, epoch: version.0, sequence: version.1 };
                    let violation = Violation { node, at: now, update: Some(id), breach: Breach::Missing };
                    self.violations.push(violation);
                }
            }
        }
    }

    fn violations(&self) -> &Violations {
        &self.violations
    }
}

/// What happened, by kind.
type Fired = BTreeMap<&'static str, u64>;

/// Everything that must have happened often over all seeds, or the test proves little.
const KINDS: [&str; 31] = [
    "crash",
    "restart",
    "leave",
    "join",
    "partition",
    "heal",
    "mute",
    "freeload",
    "slow",
    "recover",
    "loss changed",
    "update published",
    "update delivered",
    "frame lost",
    "frame doubled",
    "frame cut by a partition",
    "frame to a dead node",
    "frame swallowed by a fault",
    "frame sent again",
    "frame on a broken connection",
    "run: reordered",
    "run: jitter",
    "run: reliable",
    "run: upload limited",
    "run: busy upload",
    "run: push",
    "run: pull",
    "run: hybrid",
    "run: window",
    "run: latest",
    "run: since keyframe",
];

struct Run {
    seed: u64,
    dice: Dice,
    world: Net,
    config: Config,
    retention: Retention,
    mode: GossipMode,
    restarted: BTreeSet<NodeId>,
    fired: Fired,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let mut fired = Fired::new();
        let mut network = NetworkConfig::default();
        network.loss_ppm = if dice.chance(60) { dice.roll(200_000) as u32 } else { 0 };
        network.duplicate_ppm = if dice.chance(40) { dice.roll(100_000) as u32 } else { 0 };
        network.reorder_ppm = if dice.chance(40) { dice.roll(200_000) as u32 } else { 0 };
        network.reorder_by = Duration::from_millis(10 + dice.roll(200));
        network.jitter = Duration::from_millis(if dice.chance(60) { dice.roll(30) } else { 0 });
        network.reliable = dice.chance(25);
        network.reset_after = dice.chance(50).then_some(Duration::from_secs(2));
        network.upload_bits_per_s = NonZeroU64::new(20_000_000);
        let mut config = dice.pick(&[Config::small, Config::medium])();
        let upload = dice.chance(40).then(|| 20_000 + dice.roll(100_000));
        config.egress.upload_bytes_per_s = upload;
        config.gossip.redundancy_percent = 100 + 10 * dice.roll(11) as u16;
        let retention = dice.pick(&[
            Retention::Window { age: RETENTION, bytes: RETAINED_BYTES },
            Retention::Window { age: RETENTION, bytes: RETAINED_BYTES },
            Retention::Latest,
            Retention::SinceKeyframe { bytes: RETAINED_BYTES },
        ]);
        let mode = dice.pick(&[GossipMode::Hybrid, GossipMode::Hybrid, GossipMode::Push, GossipMode::Pull]);

        let mut checkers = Checkers::new();
        checkers.add(ExactlyOnce::new());
        checkers.add(NothingForged::new().with_age_max(config.gossip.age_max));
        checkers.add(Caps::new().with_neighbors_max(config.membership.active_max as u64));
        if upload.is_some() {
            // The bucket holds one frame, and the budget grants as much again where a second begins and ends.
            checkers.add(Budget::new(upload, 2 * config.frame_bytes_max as u64));
        }
        match retention {
            Retention::Latest => checkers.add(Converged::default()),
            _ => checkers.add(Complete::new(CALM).excusing_lost()),
        }
        let retained = match retention {
            Retention::Window { .. } => "run: window",
            Retention::Latest => "run: latest",
            Retention::SinceKeyframe { .. } => "run: since keyframe",
        };
        let way = match mode {
            GossipMode::Push => "run: push",
            GossipMode::Pull => "run: pull",
            GossipMode::Hybrid => "run: hybrid",
        };
        for (kind, holds) in [
            (retained, true),
            (way, true),
            ("run: reliable", network.reliable),
            ("run: jitter", !network.jitter.is_zero()),
            ("run: reordered", network.reorder_ppm > 0 && !network.reliable),
            ("run: upload limited", upload.is_some()),
        ] {
            *fired.entry(kind).or_default() += u64::from(holds);
        }
        let mut world = World::with_observer(network, suffuse::Seed::from_u64(seed), checkers);
        world.metrics_mut().watch_windows();
        Self { seed, dice, world, config, retention, mode, restarted: BTreeSet::new(), fired }
    }

    /// Nodes that are down in their first life.
    fn fallen(&self) -> impl Iterator<Item = NodeId> + '_ {
        let all = 0..self.world.node_count() as u64;
        all.filter(|node| !self.world.is_up(*node) && !self.restarted.contains(node))
    }

    fn count(&mut self, kind: &'static str, by: u64) {
        *self.fired.entry(kind).or_default() += by;
    }

    /// How an engine is born; a later life has forgotten everything but that it is a later one.
    fn maker(&self) -> impl FnOnce(Birth) -> Engine<NodeId> + use<> {
        let (mut config, retention, mode) = (self.config.clone(), self.retention, self.mode);
        move |birth| {
            config.epoch = Epoch(birth.life);
            let mut engine =
                Engine::new(birth.node, config, birth.seed, birth.now).expect("a valid configuration");
            let contacts = (0..CONTACTS).filter(|&contact| contact != birth.node && birth.node > 0);
            let options = TopicOptions::through(contacts).retention(retention).mode(mode);
            engine.join_topic(SWARM, options, birth.now).expect("a fresh engine can join");
            engine
        }
    }

    fn publish(&mut self) {
        let up: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
        let node = self.dice.pick(&up);
        let state = StateId(self.dice.roll(5));
        let bytes = 8 + self.dice.roll(1_100) as usize;
        let payload = Bytes::from(vec![self.dice.roll(256) as u8; bytes]);
        let priority =
            self.dice.pick(&[Priority::Background, Priority::Normal, Priority::High, Priority::Urgent]);
        let (keyframe, layer) = (self.dice.chance(20), self.dice.roll(8) as u8);
        let options = PublishOptions { priority, keyframe, layer, ..PublishOptions::default() };
        let body = payload.clone();
        let id = self.world.with_host(node, |engine, now| engine.publish(SWARM, state, body, options, now));
        if let Some(Ok(id)) = id {
            self.count("update published", 1);
            let now = self.world.now();
            self.world.observer_mut().published(now, &Published { id, state, payload });
        }
    }

    fn accident(&mut self) {
        let node = self.dice.roll(self.world.node_count() as u64);
        let (up, may_stop) = (self.world.is_up(node), node >= CONTACTS);
        let is_member = self.world.host(node).is_some_and(|engine| engine.fingerprint(SWARM).is_some());
        let kind = match self.dice.roll(11) {
            0 if up && may_stop => {
                self.world.crash(node);
                "crash"
            }
            // Of each origin two lives are remembered; with a third the first goes, and nobody is told what was missing of it.
            1 | 2 if self.fallen().next().is_some() => {
                let fallen: Vec<_> = self.fallen().collect();
                let node = self.dice.pick(&fallen);
                self.restarted.insert(node);
                let maker = self.maker();
                self.world.restart(node, maker);
                "restart"
            }
            3 => {
                let salt = self.dice.roll(u64::MAX);
                self.world.partition(|node| ((node ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63) as u8);
                "partition"
            }
            4 => {
                self.world.heal();
                "heal"
            }
            5 | 6 if up && may_stop => {
                let (kind, fault) = match self.dice.roll(3) {
                    0 => ("mute", Fault::Mute),
                    1 => ("freeload", Fault::Freeload),
                    _ => ("slow", Fault::Slow(Duration::from_millis(50 + self.dice.roll(400)))),
                };
                self.world.set_fault(node, Some(fault));
                kind
            }
            7 => {
                self.world.set_fault(node, None);
                "recover"
            }
            8 if is_member && may_stop => {
                let now = self.world.now();
                self.world.observer_mut().left(now, node, SWARM);
                self.world.leave(node, Duration::from_secs(1), |engine, now| {
                    engine.leave(SWARM, now).expect("a member can leave, once");
                });
                "leave"
            }
            9 if self.world.node_count() < NODES_MAX => {
                let maker = self.maker();
                self.world.add(maker);
                "join"
            }
            10 => {
                self.world.network_mut().config_mut().loss_ppm = self.dice.roll(200_000) as u32;
                "loss changed"
            }
            _ => return,
        };
        self.count(kind, 1);
    }

    /// Measures whatever has a limit.
    fn measure(&mut self) {
        let now = self.world.now();
        let (membership, gossip, link) = (&self.config.membership, &self.config.gossip, &self.config.link);
        let mut gauges = Vec::new();
        for (node, engine) in self.world.hosts() {
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

    fn chaos(&mut self) {
        for _ in 0..10 + self.dice.roll(20) {
            let maker = self.maker();
            self.world.add(maker);
            self.world.run_for(Duration::from_millis(self.dice.roll(300)));
        }
        self.world.run_for(Duration::from_secs(3));
        for _ in 0..60 {
            if self.dice.chance(60) {
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
        }
        self.world.run_for(CALM + Duration::from_millis(1));
        self.measure();
        let now = self.world.now();
        self.world.observer_mut().finish(now);
    }

    /// What must hold in the end, as a list of what does not.
    fn play(mut self) -> (Fired, Vec<String>) {
        self.chaos();
        self.calm();
        self.note_metrics();
        let found = self.world.observer().violation_count();
        let mut wrong: Vec<_> = self.world.observer().violations().map(ToString::to_string).take(5).collect();
        if found > 5 {
            wrong.push(format!("and {} more", found - 5));
        }
        if !is_one_component(&self.world) {
            wrong.push("the swarm is in pieces".into());
        }
        let fingerprints: BTreeSet<_> = self.world.hosts().map(|(_, host)| host.fingerprint(SWARM)).collect();
        if fingerprints.len() != 1 {
            wrong.push(format!("{} different states of knowledge", fingerprints.len()));
        }
        if !wrong.is_empty() {
            let scenario = format!(
                "seed {}: {:?} {:?}, reliable: {}, upload: {:?}",
                self.seed,
                self.mode,
                self.retention,
                self.world.network().config().reliable,
                self.config.egress.upload_bytes_per_s,
            );
            wrong.insert(0, scenario);
        }
        (self.fired, wrong)
    }

    fn note_metrics(&mut self) {
        let metrics = self.world.metrics();
        let busy = self.config.egress.upload_bytes_per_s.is_some_and(|upload| {
            let busiest = (0..self.world.node_count() as u64).filter_map(|node| metrics.busiest_second(node));
            busiest.max().is_some_and(|bytes| bytes * 10 >= upload * 9)
        });
        let delivered: u64 =
            self.world.hosts().filter_map(|(_, host)| Some(host.topic_stats(SWARM)?.gossip.delivered)).sum();
        for (kind, count) in [
            ("frame lost", metrics.dropped(DropReason::Loss)),
            ("frame doubled", metrics.duplicated()),
            ("frame cut by a partition", metrics.dropped(DropReason::Partition)),
            ("frame to a dead node", metrics.dropped(DropReason::Down)),
            ("frame swallowed by a fault", metrics.dropped(DropReason::Fault)),
            ("frame sent again", metrics.retransmitted().frames),
            ("frame on a broken connection", metrics.dropped(DropReason::NotConnected)),
            ("run: busy upload", u64::from(busy)),
            ("update delivered", delivered),
        ] {
            *self.fired.entry(kind).or_default() += count;
        }
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

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn after_chaos_comes_agreement() {
    let one = number("SUFFUSE_CHAOS_SEED");
    let seeds = one.map_or(0..number("SUFFUSE_CHAOS_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let (mut all, mut wrong) = (Fired::new(), Vec::new());
    for seed in seeds {
        let run = std::panic::catch_unwind(|| Run::new(seed).play());
        let Ok((fired, of_seed)) = run else {
            eprintln!("seed {seed} panicked");
            wrong.push(format!("seed {seed}: a panic"));
            continue;
        };
        of_seed.iter().for_each(|line| eprintln!("{line}"));
        wrong.extend(of_seed);
        for (kind, count) in fired {
            *all.entry(kind).or_default() += count;
        }
    }
    println!("{all:?}");
    assert!(wrong.is_empty(), "replay with SUFFUSE_CHAOS_SEED=<seed>: {wrong:#?}");
    if one.is_none() {
        for kind in KINDS {
            let count = all.get(kind).copied().unwrap_or(0);
            let least = if kind.starts_with("run: ") { 2 } else { 20 };
            assert!(count >= least, "only {count} of kind {kind:?}: the faults do not bite");
        }
    }
}
