//! The gossip machine alone, on a fixed overlay: no engine, no membership, no links.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use suffuse::gossip::{Gossip, GossipAction};
use suffuse::wire::{Data, GossipMessage};
use suffuse::{
    Config, Epoch, GossipConfig, GossipMode, Instant, LagReason, PublishOptions, Retention, Seed, StateId,
};

/// A number for every question, so that latency and loss need no tables and no state.
fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |hash, part| {
        let mixed = (hash ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (mixed >> 32)
    })
}

struct Net {
    nodes: Vec<Gossip<u64>>,
    up: Vec<bool>,
    links: BTreeSet<(u64, u64)>,
    queue: BTreeMap<(Instant, u64), (u64, u64, GossipMessage<u64>)>,
    sent: u64,
    now: Instant,
    loss_percent: u64,
    seed: u64,
    delivered: Vec<BTreeMap<(u64, u32, u64), u32>>,
    lagged: Vec<Vec<(std::ops::Range<u64>, LagReason)>>,
}

impl Net {
    fn new(nodes: u64, config: &GossipConfig, retention: Retention, seed: u64) -> Self {
        let make =
            |node| Gossip::new(node, Epoch(1), config.clone(), retention, 1_200, Seed::from_u64(seed ^ node));
        Self {
            nodes: (0..nodes).map(make).collect(),
            up: vec![true; nodes as usize],
            links: BTreeSet::new(),
            queue: BTreeMap::new(),
            sent: 0,
            now: Instant::ZERO,
            loss_percent: 0,
            seed,
            delivered: vec![BTreeMap::new(); nodes as usize],
            lagged: vec![Vec::new(); nodes as usize],
        }
    }

    /// A ring with chords: connected, degree about `degree`, the same for the same seed.
    fn wire_up(&mut self, degree: u64) {
        let count = self.nodes.len() as u64;
        for node in 0..count {
            self.link(node, (node + 1) % count);
            for chord in 1..degree / 2 {
                self.link(node, hash(&[self.seed, node, chord]) % count);
            }
        }
    }

    fn link(&mut self, a: u64, b: u64) {
        if a != b && self.links.insert((a.min(b), a.max(b))) {
            self.nodes[a as usize].neighbor_up(b, self.now);
            self.nodes[b as usize].neighbor_up(a, self.now);
        }
    }

    fn unlink(&mut self, a: u64, b: u64) {
        if self.links.remove(&(a.min(b), a.max(b))) {
            for (node, other) in [(a, b), (b, a)] {
                let mut actions = Vec::new();
                self.nodes[node as usize].neighbor_down(other, self.now, &mut actions);
                self.carry_out(node, actions);
            }
        }
    }

    fn publish(&mut self, node: u64, state: u64) -> u64 {
        let mut actions = Vec::new();
        let body = Bytes::copy_from_slice(&[node as u8; 64]);
        let gossip = &mut self.nodes[node as usize];
        let sequence =
            gossip.publish(StateId(state), body, PublishOptions::default(), self.now, &mut actions);
        self.carry_out(node, actions);
        sequence
    }

    fn carry_out(&mut self, node: u64, mut actions: Vec<GossipAction<u64>>) {
        let gossip = &mut self.nodes[node as usize];
        for update in gossip.take_unsaid() {
            gossip.publish_again(update, |_, _| Bytes::new(), 0, self.now, &mut actions);
        }
        for action in actions {
            match action {
                GossipAction::Send { to, message, .. } => {
                    self.sent += 1;
                    let linked = self.links.contains(&(node.min(to), node.max(to)));
                    let lost = hash(&[self.seed, 1, self.sent]) % 100 < self.loss_percent;
                    if linked && !lost {
                        let latency = 10_000 + hash(&[self.seed, 2, node.min(to), node.max(to)]) % 40_000;
                        let at = self.now + Duration::from_micros(latency);
                        self.queue.insert((at, self.sent), (node, to, message));
                    }
                }
                GossipAction::Deliver(Data { origin, epoch, sequence, .. }) => {
                    assert_ne!(
                        (origin, epoch),
                        (node, self.nodes[node as usize].epoch()),
                        "own update delivered"
                    );
                    *self.delivered[node as usize].entry((origin, epoch.0, sequence)).or_default() += 1;
                }
                GossipAction::Forward { .. } | GossipAction::Misbehaved { .. } => {
                    panic!("there are no frames and no offenders here");
                }
                GossipAction::Lagged { sequences, reason, .. } => {
                    self.lagged[node as usize].push((sequences, reason));
                }
                // The links of this net are what they are.
                GossipAction::Part { .. } => {}
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let timers = self.nodes.iter().enumerate().filter(|(node, _)| self.up[*node]);
            let timer = timers.filter_map(|(node, gossip)| Some((gossip.poll_timeout()?, node))).min();
            let message = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let next = timer.map(|(at, _)| at).into_iter().chain(message).min();
            let Some(at) = next.filter(|&at| at <= end) else { break };
            self.now = self.now.max(at);
            let mut actions = Vec::new();
            if message.is_some_and(|message| message <= at) {
                let (_, (from, to, message)) = self.queue.pop_first().unwrap();
                if self.up[to as usize] {
                    self.nodes[to as usize].handle_message(from, message, self.now, &mut actions);
                    self.carry_out(to, actions);
                }
            } else if let Some((_, node)) = timer {
                self.nodes[node].handle_timeout(self.now, &mut actions);
                let again = self.nodes[node].poll_timeout();
                assert!(again.is_none_or(|again| again > self.now), "node {node} spins at {again:?}");
                self.carry_out(node as u64, actions);
            }
        }
        self.now = end;
    }

    /// Every node has every update of every other node, once.
    fn assert_complete(&self, published: &BTreeMap<u64, u64>) {
        for (node, delivered) in self.delivered.iter().enumerate().filter(|(node, _)| self.up[*node]) {
            for (&origin, &count) in published.iter().filter(|(origin, _)| **origin != node as u64) {
                for sequence in 0..count {
                    let times = delivered.get(&(origin, 1, sequence)).copied().unwrap_or(0);
                    assert_eq!(times, 1, "node {node}, update {sequence} of {origin}, seed {}", self.seed);
                }
            }
        }
    }

    fn copies(&self) -> f64 {
        let received: u64 = self.nodes.iter().map(|gossip| gossip.stats().bodies_received).sum();
        let delivered: u64 = self.nodes.iter().map(|gossip| gossip.stats().delivered).sum();
        received as f64 / delivered as f64
    }
}

fn medium() -> GossipConfig {
    Config::medium().gossip
}

fn in_mode(mode: GossipMode) -> GossipConfig {
    let mut config = medium();
    config.mode = mode;
    config
}

#[test]
fn one_source_reaches_everybody_once_along_a_tree() {
    let mut net = Net::new(200, &medium(), Retention::default(), 1);
    net.wire_up(8);
    net.run(Duration::from_secs(5));
    for _ in 0..100 {
        net.publish(0, 0);
        net.run(Duration::from_millis(100));
    }
    net.run(Duration::from_secs(2));
    net.assert_complete(&BTreeMap::from([(0, 100)]));
    assert!(net.copies() <= 1.06, "{} copies for each delivery", net.copies());
}

#[test]
fn many_sources_reach_everybody_once() {
    let mut net = Net::new(100, &medium(), Retention::default(), 2);
    net.wire_up(8);
    let mut published = BTreeMap::new();
    for round in 0..200 {
        let node = hash(&[7, round]) % 100;
        net.publish(node, 0);
        *published.entry(node).or_default() += 1;
        net.run(Duration::from_millis(50));
    }
    net.run(Duration::from_secs(3));
    net.assert_complete(&published);
}

#[test]
fn cold_sources_share_a_tree_and_a_hot_one_grows_its_own() {
    for seed in 0..3 {
        let mut net = Net::new(64, &medium(), Retention::default(), seed);
        net.wire_up(8);
        // The root of the shared tree has been heard by then.
        net.run(Duration::from_secs(40));
        let mut published = BTreeMap::new();
        for node in 0..20 {
            published.insert(node * 3, net.publish(node * 3, 0) + 1);
            net.run(Duration::from_millis(400));
        }
        let cold = net.copies();
        assert!(cold < 1.02, "seed {seed}: {cold} copies of updates of cold sources");
        let waves = |net: &Net| net.nodes.iter().map(|node| node.stats().waves_sent).sum::<u64>();
        let before = waves(&net);
        for _ in 0..30 {
            published.insert(1, net.publish(1, 0) + 1);
            net.run(Duration::from_millis(100));
        }
        net.run(Duration::from_secs(2));
        net.assert_complete(&published);
        assert!(waves(&net) > before, "seed {seed}: a hot source sent no wave");
        let all = net.copies();
        assert!(all < 1.02, "seed {seed}: {all} copies in all");
        let pulled: u64 = net.nodes.iter().map(|node| node.stats().pulled).sum();
        assert!(pulled < 64, "seed {seed}: {pulled} of 3,200 updates were pulled");
    }
}

#[test]
fn losses_are_repaired_in_every_mode() {
    for (mode, seed) in [(GossipMode::Hybrid, 3), (GossipMode::Pull, 4), (GossipMode::Push, 5)] {
        let mut net = Net::new(60, &in_mode(mode), Retention::default(), seed);
        net.wire_up(8);
        net.loss_percent = 10;
        for _ in 0..50 {
            net.publish(0, 0);
            net.run(Duration::from_millis(100));
        }
        net.run(Duration::from_secs(60));
        net.assert_complete(&BTreeMap::from([(0, 50)]));
    }
}

#[test]
fn pull_mode_sends_each_body_once() {
    let mut net = Net::new(60, &in_mode(GossipMode::Pull), Retention::default(), 6);
    net.wire_up(8);
    for _ in 0..50 {
        net.publish(0, 0);
        net.run(Duration::from_millis(100));
    }
    net.run(Duration::from_secs(3));
    net.assert_complete(&BTreeMap::from([(0, 50)]));
    assert!(net.copies() < 1.01, "{} copies", net.copies());
}

#[test]
fn redundancy_buys_fewer_pulls_with_more_copies() {
    // Two feeders that have an update at the same time do not echo it to each other, so twice the feeders cost less than
    // twice the copies.
    let mut pulled_before = u64::MAX;
    for (redundancy_percent, copies_min, copies_max) in [(100, 1.0, 1.12), (150, 1.35, 1.6), (300, 1.7, 3.0)]
    {
        let mut config = medium();
        (config.redundancy_percent, config.initial_fanout) = (redundancy_percent, 6);
        let mut net = Net::new(60, &config, Retention::default(), 7);
        net.wire_up(10);
        for round in 0..200 {
            net.loss_percent = if round < 50 { 0 } else { 5 };
            net.publish(0, 0);
            net.run(Duration::from_millis(50));
        }
        net.run(Duration::from_secs(10));
        net.assert_complete(&BTreeMap::from([(0, 200)]));
        let copies = net.copies();
        assert!((copies_min..copies_max).contains(&copies), "{redundancy_percent} % gave {copies} copies");
        let pulled = net.nodes.iter().map(|gossip| gossip.stats().pulled).sum();
        assert!(pulled < pulled_before, "{redundancy_percent} %: {pulled} pulls, with less: {pulled_before}");
        pulled_before = pulled;
    }
}

#[test]
fn a_late_joiner_gets_what_is_kept_and_is_told_of_the_rest() {
    let retention = Retention::Window { age: Duration::from_secs(120), bytes: 64 * 30 };
    let mut net = Net::new(20, &medium(), retention, 8);
    for node in 0..18 {
        net.link(node, (node + 1) % 19);
        net.link(node, (node + 5) % 19);
    }
    for _ in 0..100 {
        net.publish(0, 0);
        net.run(Duration::from_millis(20));
    }
    net.run(Duration::from_secs(2));
    for other in [3, 9, 14] {
        net.link(19, other);
    }
    net.run(Duration::from_secs(10));
    let got: Vec<_> = net.delivered[19].keys().map(|(_, _, sequence)| *sequence).collect();
    assert_eq!(got, (70..100).collect::<Vec<_>>());
    let lagged: u64 = net.lagged[19].iter().map(|(range, _)| range.end - range.start).sum();
    assert_eq!(lagged, 70, "{:?}", net.lagged[19]);
    assert_eq!(net.nodes[19].log().fingerprint(), net.nodes[3].log().fingerprint());
}

#[test]
fn two_halves_meet_again() {
    let mut net = Net::new(40, &medium(), Retention::default(), 9);
    for node in 0..20 {
        for step in [1, 3, 7] {
            net.link(node, (node + step) % 20);
            net.link(20 + node, 20 + (node + step) % 20);
        }
    }
    for _ in 0..300 {
        net.publish(0, 0);
        net.publish(20, 0);
        net.run(Duration::from_millis(10));
    }
    net.link(5, 25);
    net.run(Duration::from_secs(15));
    net.assert_complete(&BTreeMap::from([(0, 300), (20, 300)]));
    let first = net.nodes[0].log().fingerprint();
    assert!(net.nodes.iter().all(|gossip| gossip.log().fingerprint() == first));
}

#[test]
fn thousands_of_origins_are_reconciled_page_by_page() {
    let mut config = medium();
    config.wants_outstanding_max = 2_048;
    let mut net = Net::new(2, &config, Retention::default(), 10);
    // One node learns 3,000 origins from outside, the other all but ten of them.
    for origin in 0..3_000u64 {
        let data = Data {
            origin: 1_000_000 + hash(&[origin]) % 1_000_000_000,
            epoch: Epoch(1),
            sequence: 0,
            state: StateId(0),
            priority: suffuse::Priority::Normal,
            keyframe: false,
            layer: 0,
            hops: 0,
            pulled: false,
            flood: false,
            signature: Bytes::new(),
            born: net.now,
            body: Bytes::from_static(b"x"),
        };
        for node in 0..2 {
            if node == 0 || origin % 300 != 7 {
                let message = GossipMessage::Data(data.clone());
                net.nodes[node].handle_message(999, message, net.now, &mut Vec::new());
            }
        }
    }
    net.link(0, 1);
    net.sent = 0;
    net.run(Duration::from_secs(8));
    assert_eq!(net.nodes[0].log().fingerprint(), net.nodes[1].log().fingerprint());
    assert_eq!(net.nodes[1].stats().pulled, 10);
    assert!(net.sent < 150, "{} messages for ten differences", net.sent);
}

#[test]
fn the_loss_of_a_feeder_is_mended() {
    let mut net = Net::new(100, &medium(), Retention::default(), 11);
    net.wire_up(8);
    for _ in 0..20 {
        net.publish(0, 0);
        net.run(Duration::from_millis(100));
    }
    // A third of the nodes goes silent; their neighbours notice after two seconds.
    let dead: Vec<_> = (1..100u64).filter(|node| hash(&[3, *node]) % 3 == 0).collect();
    for &node in &dead {
        net.up[node as usize] = false;
    }
    let mut published = 20;
    for round in 0..60 {
        if round == 20 {
            let links: Vec<_> = net.links.iter().copied().collect();
            for (a, b) in links {
                if !net.up[a as usize] || !net.up[b as usize] {
                    net.unlink(a, b);
                }
            }
        }
        net.publish(0, 0);
        published += 1;
        net.run(Duration::from_millis(100));
    }
    net.run(Duration::from_secs(5));
    net.assert_complete(&BTreeMap::from([(0, published)]));
}

#[test]
fn a_restart_without_a_new_epoch_is_noticed_and_mended() {
    let mut net = Net::new(10, &medium(), Retention::default(), 12);
    net.wire_up(4);
    for _ in 0..10 {
        net.publish(0, 0);
        net.run(Duration::from_millis(50));
    }
    // Node 0 loses its memory, and speaks before it has heard anything.
    let links: Vec<_> = net.links.iter().copied().filter(|(a, _)| *a == 0).collect();
    for &(a, b) in &links {
        net.unlink(a, b);
    }
    net.nodes[0] = Gossip::new(0, Epoch(1), medium(), Retention::default(), 1_200, Seed::from_u64(99));
    net.delivered[0].clear();
    net.publish(0, 0);
    for &(a, b) in &links {
        net.link(a, b);
    }
    net.run(Duration::from_secs(10));
    assert_eq!(net.nodes[0].epoch(), Epoch(2));
    for node in 1..10 {
        assert_eq!(
            net.delivered[node].get(&(0, 2, 0)),
            Some(&1),
            "node {node} missed the update of the new life"
        );
    }
    // And it got back what it had said in its former life.
    assert_eq!(net.delivered[0].len(), 10);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut net = Net::new(50, &medium(), Retention::default(), seed);
        net.wire_up(8);
        net.loss_percent = 5;
        for _ in 0..20 {
            net.publish(0, 0);
            net.run(Duration::from_millis(100));
        }
        let stats: Vec<_> = net.nodes.iter().map(|gossip| *gossip.stats()).collect();
        (net.sent, stats)
    };
    assert_eq!(run(13), run(13));
    assert_ne!(run(13).0, run(14).0);
}

#[test]
fn who_pushed_a_later_update_is_still_told_of_the_one_before() {
    let mut gossip =
        Gossip::new(0, Epoch(1), GossipConfig::default(), Retention::default(), 1_200, Seed::from_u64(1));
    let mut now = Instant::from_secs(1);
    for peer in [1, 2] {
        gossip.neighbor_up(peer, now);
    }
    let update = |sequence| {
        GossipMessage::Data(Data {
            origin: 9,
            epoch: Epoch(1),
            sequence,
            state: StateId(0),
            priority: suffuse::Priority::Normal,
            keyframe: false,
            layer: 0,
            hops: 3,
            pulled: false,
            flood: false,
            born: Instant::from_millis(900),
            body: Bytes::from_static(b"body"),
            signature: Bytes::new(),
        })
    };
    let mut actions = Vec::new();
    gossip.handle_message(2, update(1), now, &mut actions);
    gossip.handle_message(1, update(0), now, &mut actions);
    while let Some(at) = gossip.poll_timeout().filter(|&at| at < Instant::from_secs(6)) {
        now = now.max(at);
        gossip.handle_timeout(now, &mut actions);
    }
    let is_told = |action: &GossipAction<u64>| match action {
        GossipAction::Send { to: 2, message: GossipMessage::Have { sources }, .. } => {
            sources.iter().any(|source| source.origin == 9 && source.ranges.contains(0))
        }
        GossipAction::Send { to: 2, message: GossipMessage::Data(data), .. } => data.sequence == 0,
        _ => false,
    };
    assert!(
        actions.iter().any(is_told),
        "it pushed the second of two, which does not say that it has the first"
    );
}
