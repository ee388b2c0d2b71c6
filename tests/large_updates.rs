//! Large updates: cut into chunks, put together again, whole and once, whatever happens on the way.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{Fault, NetworkConfig, NodeId, Observer, World};
use suffuse::wire::{ChunkData, ChunkOffer, Data, FrameWriter, GossipMessage, LargeId, Message};
use suffuse::{
    CommandError, Config, Engine, Epoch, Event, Input, Instant, LagReason, Offence, Priority, PublishOptions,
    RangeSet, Retention, Seed, StateId, SwarmId, TopicOptions, UpdateId,
};

const SWARM: SwarmId = SwarmId::from_name("large");
const STATE: StateId = StateId(1);

/// When somebody got an update, and what.
type Got = Vec<(Instant, Bytes)>;

#[derive(Default)]
struct Seen {
    delivered: BTreeMap<(NodeId, UpdateId<NodeId>), Got>,
    lagged: Vec<(NodeId, NodeId, u64, LagReason)>,
    offences: Vec<(NodeId, NodeId, Offence)>,
}

impl Observer for Seen {
    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => {
                self.delivered.entry((node, update.id)).or_default().push((now, update.payload.clone()));
            }
            Event::Lagged { origin, sequences, reason, .. } => {
                self.lagged.push((node, *origin, sequences.start, *reason));
            }
            Event::Misbehaved { peer, offence } => self.offences.push((node, *peer, *offence)),
            _ => {}
        }
    }
}

type Net = World<Engine<NodeId>, Seen>;

fn network() -> NetworkConfig {
    let mut network = NetworkConfig::default();
    network.upload_bits_per_s = NonZeroU64::new(50_000_000);
    network
}

/// Two minutes and enough room for the largest update.
fn options(contact: Option<NodeId>) -> TopicOptions<NodeId> {
    let retention = Retention::Window { age: Duration::from_secs(120), bytes: 32 << 20 };
    TopicOptions::through(contact).retention(retention)
}

fn add(net: &mut Net, config: &Config) -> NodeId {
    net.add(|birth| {
        let mut config = config.clone();
        config.epoch = Epoch(birth.life);
        let mut engine = Engine::new(birth.node, config, birth.seed, birth.now).unwrap();
        engine.join_topic(SWARM, options((birth.node > 0).then_some(0)), birth.now).unwrap();
        engine
    })
}

fn net_of(nodes: u64, seed: u64, network: NetworkConfig, config: &Config) -> Net {
    let mut net = World::with_observer(network, Seed::from_u64(seed), Seen::default());
    for _ in 0..nodes {
        add(&mut net, config);
        net.run_for(Duration::from_millis(20));
    }
    net.run_for(Duration::from_secs(5));
    net
}

fn net(nodes: u64, seed: u64) -> Net {
    net_of(nodes, seed, network(), &Config::small())
}

/// A body that differs from place to place.
fn body(bytes: usize, salt: u64) -> Bytes {
    let word =
        |place: u64| (place ^ salt << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).to_le_bytes();
    let mut body: Vec<u8> = (0..bytes.div_ceil(8) as u64).flat_map(word).collect();
    body.truncate(bytes);
    Bytes::from(body)
}

fn publish_with(net: &mut Net, node: NodeId, body: Bytes, priority: Priority) -> UpdateId<NodeId> {
    let options = PublishOptions { priority, ..PublishOptions::default() };
    let publish =
        |engine: &mut Engine<NodeId>, now| engine.publish(SWARM, STATE, body, options, now).unwrap();
    net.with_host(node, publish).unwrap()
}

fn publish(net: &mut Net, node: NodeId, body: Bytes) -> UpdateId<NodeId> {
    publish_with(net, node, body, Priority::Normal)
}

/// Everybody that runs, but `id`'s origin, has `body` once; returns when the last had it.
fn assert_everywhere(net: &Net, id: UpdateId<NodeId>, body: &Bytes, seed: u64) -> Instant {
    let mut last = Instant::ZERO;
    for (node, _) in net.hosts().filter(|(node, _)| *node != id.origin) {
        let got = net.observer().delivered.get(&(node, id));
        let got = got.unwrap_or_else(|| panic!("seed {seed}: node {node} has not got {id:?}"));
        assert_eq!(got.len(), 1, "seed {seed}: node {node} got {id:?} {} times", got.len());
        assert!(got[0].1 == *body, "seed {seed}: node {node} got another body");
        last = last.max(got[0].0);
    }
    last
}

fn sum(net: &Net, of: impl Fn(&suffuse::GossipStats) -> u64) -> u64 {
    net.hosts().filter_map(|(_, host)| host.topic_stats(SWARM)).map(|stats| of(&stats.gossip)).sum()
}

fn assert_nothing_left(net: &Net) {
    for (node, host) in net.hosts() {
        let stats = host.topic_stats(SWARM).unwrap();
        assert_eq!((stats.assembling, stats.assembling_bytes), (0, 0), "node {node}");
    }
}

#[test]
fn bodies_of_every_size_arrive_whole_and_once() {
    let mut net = net(8, 1);
    let chunk = net.host(0).unwrap().payload_bytes_max();
    let sizes = [1, chunk, chunk + 1, 4_095, 4_096, 4_097, 65_536, 100_001, 1 << 20];
    for (salt, size) in (0..).zip(sizes) {
        let body = body(size, salt);
        let id = publish(&mut net, salt % 8, body.clone());
        net.run_for(Duration::from_secs(4));
        assert_everywhere(&net, id, &body, 1);
    }
    let delivered: u64 = sizes.iter().map(|&size| size as u64 * 7).sum();
    let received = sum(&net, |stats| stats.body_bytes_received);
    assert!(received * 100 <= delivered * 105, "{received} bytes for {delivered}");
    assert_nothing_left(&net);
}

#[test]
fn the_largest_update_arrives() {
    let mut net = net(4, 2);
    let body = body(16 << 20, 7);
    let id = publish(&mut net, 1, body.clone());
    net.run_for(Duration::from_secs(40));
    assert_everywhere(&net, id, &body, 2);
    let (received, needed) = (sum(&net, |stats| stats.body_bytes_received), 3 * (16u64 << 20));
    assert!(received * 100 <= needed * 105, "{received} bytes for {needed}");
    assert!(net.observer().offences.is_empty(), "{:?}", net.observer().offences);
}

#[test]
fn losses_and_disorder_are_mended() {
    for seed in 1..4 {
        let mut network = network();
        (network.loss_ppm, network.duplicate_ppm, network.reorder_ppm) = (50_000, 10_000, 100_000);
        let mut net = net_of(12, seed, network, &Config::small());
        let body = body(300_000, seed);
        let id = publish(&mut net, 3, body.clone());
        net.run_for(Duration::from_secs(30));
        assert_everywhere(&net, id, &body, seed);
        assert_nothing_left(&net);
        assert!(net.observer().lagged.is_empty(), "seed {seed}: {:?}", net.observer().lagged);
    }
}

#[test]
fn it_spreads_on_when_its_origin_crashes_after_its_last_chunk() {
    for seed in 1..4 {
        let mut net = net(16, seed);
        let body = body(400_000, seed);
        let id = publish(&mut net, 5, body.clone());
        let sent = |net: &Net| net.host(5).unwrap().topic_stats(SWARM).unwrap().gossip.chunks_sent;
        // Until each chunk is handed out once, and what waits for the uplink has left. Not all nodes have all of it then.
        let chunks = 400_000_u64.div_ceil(1_167);
        for _ in 0..200 {
            net.run_for(Duration::from_millis(5));
            if sent(&net) >= chunks {
                break;
            }
        }
        assert!(sent(&net) >= chunks, "seed {seed}: {} chunks sent", sent(&net));
        net.run_for(Duration::from_millis(70));
        net.crash(5);
        assert!(net.observer().delivered.len() < 15, "seed {seed}: too late to be a test");
        net.run_for(Duration::from_secs(20));
        assert_everywhere(&net, id, &body, seed);
    }
}

#[test]
fn what_nobody_can_complete_is_told_as_lagged() {
    let mut net = net(6, 1);
    let id = publish(&mut net, 2, body(2 << 20, 1));
    net.run_for(Duration::from_millis(100));
    net.crash(2);
    net.run_for(Duration::from_secs(100));
    assert!(net.observer().delivered.is_empty());
    for (node, _) in net.hosts() {
        let told = net.observer().lagged.iter().filter(|(who, ..)| *who == node).collect::<Vec<_>>();
        assert_eq!(told, [&(node, 2, id.sequence, LagReason::Expired)], "node {node}");
    }
    assert_nothing_left(&net);
}

#[test]
fn who_joins_later_gets_it() {
    let config = Config::small();
    let mut net = net(8, 1);
    let body = body(500_000, 3);
    let id = publish(&mut net, 0, body.clone());
    net.run_for(Duration::from_secs(20));
    let late = add(&mut net, &config);
    net.run_for(Duration::from_secs(15));
    assert_everywhere(&net, id, &body, 1);
    // One copy is enough for the newcomer, too.
    let stats = net.host(late).unwrap().topic_stats(SWARM).unwrap();
    assert!(stats.gossip.body_bytes_received <= 525_000, "{:?}", stats.gossip);
}

#[test]
fn a_partition_is_made_up_for() {
    for seed in 1..3 {
        let mut net = net(16, seed);
        net.partition(|node| (node % 2) as u8);
        net.run_for(Duration::from_secs(10));
        let body = body(250_000, seed);
        let id = publish(&mut net, 4, body.clone());
        net.run_for(Duration::from_secs(20));
        assert!(net.observer().delivered.keys().all(|(node, _)| node % 2 == 0), "seed {seed}");
        net.heal();
        net.run_for(Duration::from_secs(40));
        assert_everywhere(&net, id, &body, seed);
    }
}

#[test]
fn those_who_promise_and_send_nothing_hold_nobody_up() {
    for seed in 1..4 {
        let mut net = net(20, seed);
        for node in [3, 8, 13, 18] {
            net.set_fault(node, Some(Fault::Freeload));
        }
        let body = body(300_000, seed);
        let id = publish(&mut net, 1, body.clone());
        net.run_for(Duration::from_secs(15));
        assert_everywhere(&net, id, &body, seed);
    }
}

#[test]
fn small_urgent_updates_overtake_large_ones() {
    let mut config = Config::small();
    // A host that knows its upload says so.
    config.egress.upload_bytes_per_s = Some(1_200_000);
    let mut slow = network();
    slow.upload_bits_per_s = NonZeroU64::new(10_000_000);
    let mut net = net_of(8, 1, slow, &config);
    worst_urgent(&mut net);
    let alone = worst_urgent(&mut net);
    let large = body(4 << 20, 1);
    let big = publish(&mut net, 0, large.clone());
    net.run_for(Duration::from_millis(300));
    let beside = worst_urgent(&mut net);
    assert!(beside <= alone + Duration::from_millis(30), "{beside:?} beside a large one, {alone:?} alone");
    assert!(
        !net.observer().delivered.keys().any(|(_, id)| *id == big),
        "the large one was through too early"
    );
    net.run_for(Duration::from_secs(20));
    assert_everywhere(&net, big, &large, 1);
}

/// How long the slowest of ten small urgent updates of node 0 took.
fn worst_urgent(net: &mut Net) -> Duration {
    let mut worst = Duration::ZERO;
    for salt in 0..10 {
        let small = body(200, salt);
        let published = net.now();
        let id = publish_with(net, 0, small.clone(), Priority::Urgent);
        net.run_for(Duration::from_millis(200));
        worst = worst.max(assert_everywhere(net, id, &small, 1) - published);
    }
    worst
}

#[test]
fn a_newer_version_replaces_one_that_is_not_whole_yet() {
    let mut net = World::with_observer(network(), Seed::from_u64(1), Seen::default());
    for _ in 0..6 {
        net.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::small(), birth.seed, birth.now).unwrap();
            let contact = (birth.node > 0).then_some(0);
            let options = TopicOptions::through(contact).retention(Retention::Latest);
            engine.join_topic(SWARM, options, birth.now).unwrap();
            engine
        });
    }
    net.run_for(Duration::from_secs(5));
    let old = publish(&mut net, 1, body(4 << 20, 1));
    net.run_for(Duration::from_millis(200));
    let newer = body(100_000, 2);
    let new = publish(&mut net, 1, newer.clone());
    net.run_for(Duration::from_secs(20));
    assert_everywhere(&net, new, &newer, 1);
    assert!(!net.observer().delivered.keys().any(|(_, id)| *id == old));
    assert!(net.observer().lagged.is_empty(), "{:?}", net.observer().lagged);
    assert_nothing_left(&net);
}

#[test]
fn limits_are_errors_that_change_nothing() {
    let mut config = Config::small();
    config.gossip.update_bytes_max = 10_000;
    let mut net = net_of(3, 1, network(), &config);
    let publish = |engine: &mut Engine<NodeId>, now| {
        engine.publish(SWARM, STATE, body(10_001, 1), PublishOptions::default(), now)
    };
    let refused = net.with_host(1, publish).unwrap();
    assert_eq!(refused, Err(CommandError::Oversize { bytes: 10_001, max: 10_000 }));
    let body = body(10_000, 1);
    let id = self::publish(&mut net, 1, body.clone());
    assert_eq!(id.sequence, 0);
    net.run_for(Duration::from_secs(3));
    assert_everywhere(&net, id, &body, 1);
}

// --- hostile neighbours -------------------------------------------------------------------------------------------

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

fn manifest(origin: NodeId, sequence: u64, bytes: u64, chunk_bytes: u64, now: Instant) -> Message<NodeId> {
    let body = Bytes::from([varint(bytes), varint(chunk_bytes)].concat());
    Message::Gossip(GossipMessage::Manifest(Data {
        origin,
        epoch: Epoch(0),
        sequence,
        state: STATE,
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 0,
        pulled: false,
        flood: false,
        born: now,
        body,
        signature: Bytes::new(),
    }))
}

fn inject(net: &mut Net, from: NodeId, to: NodeId, message: &Message<NodeId>) {
    net.with_host(to, |engine, now| {
        let mut writer = FrameWriter::new(1_200);
        writer.push(SWARM.tag(), message, now);
        engine.handle_input(Input::Received { from, frame: writer.finish() }, now);
    });
}

fn large_id(origin: NodeId, sequence: u64) -> LargeId<NodeId> {
    LargeId { origin, epoch: Epoch(0), sequence }
}

#[test]
fn manifests_without_chunks_take_little_memory_and_room_for_few() {
    let mut net = net(4, 1);
    // Of one origin, and of many.
    for (origin, sequence) in (0..100).map(|n| (700, n)).chain((0..1_000).map(|n| (1_000 + n, 0))) {
        let message = manifest(origin, sequence, 16 << 20, 1_100, net.now());
        inject(&mut net, 1, 0, &message);
        net.run_for(Duration::from_millis(1));
    }
    let config = Config::small();
    let stats = net.host(0).unwrap().topic_stats(SWARM).unwrap();
    assert!(stats.assembling <= config.gossip.assemblies_max, "{stats:?}");
    assert!(stats.assembling > config.gossip.assemblies_per_origin_max, "{stats:?}");
    assert_eq!(stats.assembling_bytes, 0);
    assert!(stats.gossip.assemblies_refused > 0);
    // After a while honest ones get through again.
    net.run_for(Duration::from_secs(6));
    let body = body(50_000, 1);
    let id = publish(&mut net, 2, body.clone());
    net.run_for(Duration::from_secs(6));
    assert_everywhere(&net, id, &body, 1);
}

#[test]
fn chunks_of_partial_updates_are_bounded_in_all() {
    let mut config = Config::small();
    config.gossip.assembly_bytes_max = 20_000;
    let mut net = net_of(3, 1, network(), &config);
    for sequence in 0..10 {
        let message = manifest(900, sequence, 1 << 20, 1_000, net.now());
        inject(&mut net, 1, 0, &message);
        for number in 0..5 {
            let chunk = ChunkData { update: large_id(900, sequence), number, body: body(1_000, 1) };
            inject(&mut net, 1, 0, &Message::Gossip(GossipMessage::Chunk(chunk)));
            let stats = net.host(0).unwrap().topic_stats(SWARM).unwrap();
            assert!(stats.assembling_bytes <= 20_000, "{stats:?}");
        }
    }
    let lagged = &net.observer().lagged;
    assert!(lagged.iter().filter(|(node, ..)| *node == 0).count() >= 6, "{lagged:?}");
    assert!(lagged.iter().all(|(.., reason)| *reason == LagReason::NoRoom), "{lagged:?}");
}

#[test]
fn one_neighbour_cannot_take_all_the_room() {
    let mut net = net(4, 1);
    let max = Config::small().gossip.assemblies_per_peer_max;
    for origin in 0..200 {
        let message = manifest(1_000 + origin, 0, 1 << 20, 1_000, net.now());
        inject(&mut net, 1, 0, &message);
        // They are kept alive by a chunk now and then.
        let chunk = ChunkData { update: large_id(1_000 + origin, 0), number: 0, body: body(1_000, 1) };
        inject(&mut net, 1, 0, &Message::Gossip(GossipMessage::Chunk(chunk)));
    }
    let stats = net.host(0).unwrap().topic_stats(SWARM).unwrap();
    assert_eq!(stats.assembling, max, "{stats:?}");
    assert_eq!(stats.gossip.assemblies_crowded, 200 - max as u64);
    // What another brings finds room at once.
    let body = body(50_000, 1);
    let id = publish(&mut net, 2, body.clone());
    net.run_for(Duration::from_secs(3));
    assert!(net.observer().delivered.contains_key(&(0, id)), "kept out");
}

#[test]
fn memory_is_taken_from_who_fills_it() {
    let mut config = Config::small();
    config.gossip.assembly_bytes_max = 20_000;
    let mut net = net_of(4, 1, network(), &config);
    let send = |net: &mut Net, from, origin, chunks: std::ops::Range<u32>| {
        let message = manifest(origin, 0, 1 << 20, 1_000, net.now());
        inject(net, from, 0, &message);
        for number in chunks {
            let chunk = ChunkData { update: large_id(origin, 0), number, body: body(1_000, 1) };
            inject(net, from, 0, &Message::Gossip(GossipMessage::Chunk(chunk)));
        }
    };
    send(&mut net, 2, 900, 0..5);
    net.run_for(Duration::from_millis(10));
    // Neighbour 1 sends more than there is room for, always something new.
    for origin in 1_000..1_010 {
        send(&mut net, 1, origin, 0..6);
        assert!(net.host(0).unwrap().topic_stats(SWARM).unwrap().assembling_bytes <= 20_000);
    }
    let lost: Vec<_> = net.observer().lagged.iter().filter(|lag| lag.0 == 0).map(|lag| lag.1).collect();
    assert!(lost.len() >= 7 && !lost.contains(&900), "{lost:?}");
}

#[test]
fn a_lost_chunk_is_asked_for_before_any_timer() {
    for seed in 1..=3 {
        let mut network = network();
        network.loss_ppm = 20_000;
        let mut net = net_of(20, seed, network, &Config::small());
        let body = body(1 << 20, seed);
        let begun = net.now();
        let id = publish(&mut net, 0, body.clone());
        net.run_for(Duration::from_secs(20));
        let took = assert_everywhere(&net, id, &body, seed) - begun;
        let (missed, chunks) =
            (sum(&net, |stats| stats.chunks_missed), sum(&net, |stats| stats.chunks_received));
        // Of those that are lost, many were promised and not held when they were claimed, so that their order says nothing.
        assert!(missed * 1_000 > chunks, "seed {seed}: {missed} of {chunks} found missing");
        assert!(sum(&net, |stats| stats.chunks_duplicate) * 50 < chunks, "seed {seed}");
        assert!(took < Duration::from_millis(2_500), "seed {seed}: it took {took:?}");
        assert_nothing_left(&net);
    }
}

#[test]
fn nonsense_is_named_and_changes_nothing() {
    let mut net = net(3, 1);
    for (bytes, chunk_bytes) in [(0, 1_000), (10_000, 0), (10_000, 63), (10_000, 20_000), (u64::MAX, 1_000)] {
        let message = manifest(900, 0, bytes, chunk_bytes, net.now());
        inject(&mut net, 1, 0, &message);
        assert_eq!(net.observer().offences.last(), Some(&(0, 1, Offence::Nonsense)), "{bytes} {chunk_bytes}");
    }
    let message = manifest(900, 0, 10_500, 1_000, net.now());
    inject(&mut net, 1, 0, &message);
    // One that is too long, one too short, the last one with the length of others, and one past it.
    for (number, bytes) in [(0, 1_001), (3, 999), (10, 1_000), (11, 500)] {
        let chunk = ChunkData { update: large_id(900, 0), number, body: body(bytes, 1) };
        inject(&mut net, 1, 0, &Message::Gossip(GossipMessage::Chunk(chunk)));
        assert_eq!(net.observer().offences.last(), Some(&(0, 1, Offence::BadChunk)), "{number} {bytes}");
    }
    assert_eq!(net.host(0).unwrap().topic_stats(SWARM).unwrap().assembling_bytes, 0);
    // Chunks and offers of updates that nobody knows.
    let chunk = ChunkData { update: large_id(901, 0), number: 0, body: body(1_000, 1) };
    inject(&mut net, 1, 0, &Message::Gossip(GossipMessage::Chunk(chunk)));
    for sequence in 0..1_000 {
        let all = RangeSet::from(0..1 << 40);
        let update = large_id(902, sequence);
        let offer =
            ChunkOffer { update, asks: sequence % 2 == 0, is_all: false, held: all.clone(), promised: all };
        inject(&mut net, 1, 0, &Message::Gossip(GossipMessage::ChunkOffer(offer)));
    }
    net.run_for(Duration::from_secs(3));
    let body = body(50_000, 1);
    let id = publish(&mut net, 1, body.clone());
    net.run_for(Duration::from_secs(5));
    assert_everywhere(&net, id, &body, 1);
}
