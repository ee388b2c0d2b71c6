//! What the everyday steps cost. `cargo bench -- <part of a name>` measures some; `cargo bench -- --test` only runs each once.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use suffuse::gossip::{Gossip, GossipAction};
use suffuse::log::Window;
use suffuse::sim::{NetworkConfig, NodeId, World};
use suffuse::wire::{
    Data, FrameReader, FrameWriter, GossipMessage, MembershipMessage, Message, NeighborRequest, SourceRanges,
};
use suffuse::{
    Class, Config, Egress, EgressConfig, Engine, Epoch, Input, Instant, Item, Output, Priority,
    PublishOptions, RangeSet, Retention, Seed, StateId, SwarmId, TopicOptions,
};

const SWARM: SwarmId = SwarmId::from_name("bench");
const NEIGHBORS: NodeId = 8;
const HOUR: Duration = Duration::from_secs(3_600);

/// Somebody who publishes, far away.
const ORIGIN: NodeId = 1_000_000;

fn data(origin: NodeId, sequence: u64, now: Instant, bytes: usize) -> Data<NodeId> {
    Data {
        origin,
        epoch: Epoch(1),
        sequence,
        state: StateId(3),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 2,
        pulled: false,
        flood: false,
        born: now,
        body: Bytes::from(vec![7; bytes]),
        signature: Bytes::new(),
    }
}

fn frame(message: &Message<NodeId>, now: Instant) -> Bytes {
    let mut writer = FrameWriter::new(1_200);
    writer.push(SWARM.tag(), message, now);
    writer.finish()
}

fn data_frame(sequence: u64, now: Instant) -> Bytes {
    frame(&Message::Gossip(GossipMessage::Data(data(ORIGIN, sequence, now, 256))), now)
}

fn drain(engine: &mut Engine<NodeId>) -> usize {
    let mut frames = 0;
    while let Some(output) = engine.poll_output() {
        frames += usize::from(matches!(black_box(output), Output::Send { .. }));
    }
    frames
}

/// An engine in a topic whose links never fall silent and whose peers may send as fast as they can.
fn engine(config: impl FnOnce(&mut Config)) -> Engine<NodeId> {
    let mut own = Config::medium();
    (own.link.ping_after, own.link.silence_min, own.link.silence_max) = (HOUR, HOUR, HOUR);
    own.link.linger = HOUR;
    (own.link.inbound_frames_per_s, own.link.inbound_bytes_per_s) = (10_000_000, 1_000_000_000_000);
    config(&mut own);
    let mut engine = Engine::new(0, own, Seed::from_u64(1), Instant::ZERO).expect("a valid configuration");
    engine.join_topic(SWARM, TopicOptions::first(), Instant::ZERO).expect("a fresh engine can join");
    engine
}

/// The same, with eight neighbours of known distance.
fn engine_with_neighbors() -> Engine<NodeId> {
    let mut engine = engine(|_| {});
    let now = Instant::from_millis(1);
    for peer in 1..=NEIGHBORS {
        let request = MembershipMessage::Neighbor { swarm: SWARM, request: NeighborRequest::Low };
        let frame = frame(&Message::Membership(request), now);
        engine.handle_input(Input::Received { from: peer, frame }, now);
        let rtt = Duration::from_millis(20 + peer);
        engine.handle_input(Input::LinkQuality { peer, rtt, loss_ppm: 0, bytes_per_s: None }, now);
    }
    drain(&mut engine);
    assert_eq!(engine.neighbors(SWARM).len(), NEIGHBORS as usize);
    engine
}

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive");
    for (name, from) in [("duplicate/from the feeder", 1), ("duplicate/from another", 2)] {
        let mut engine = engine_with_neighbors();
        let mut now = Instant::from_millis(2);
        let copy = data_frame(0, now);
        engine.handle_input(Input::Received { from: 1, frame: copy.clone() }, now);
        drain(&mut engine);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                now += Duration::from_micros(1);
                engine.handle_input(Input::Received { from, frame: copy.clone() }, now);
                drain(&mut engine)
            });
        });
    }

    let mut engine = engine_with_neighbors();
    let mut now = Instant::from_millis(2);
    let mut sequence = 0;
    group.bench_function("new update with 8 neighbours", |bencher| {
        bencher.iter_batched(
            || {
                now += Duration::from_micros(100);
                sequence += 1;
                (data_frame(sequence - 1, now), now)
            },
            |(frame, now)| {
                engine.handle_input(Input::Received { from: 1, frame }, now);
                let mut frames = drain(&mut engine);
                // Announcements and expiry are part of the price.
                if engine.poll_timeout().is_some_and(|at| at <= now) {
                    engine.handle_timeout(now);
                    frames += drain(&mut engine);
                }
                frames
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let now = Instant::from_secs(1);
    let sources = (0..20).map(|origin| SourceRanges {
        origin,
        epoch: Epoch(1),
        ranges: [1_000..1_004, 1_010..1_011].into_iter().collect::<RangeSet>(),
    });
    let have = Message::Gossip(GossipMessage::Have { sources: sources.collect() });
    let update = Message::Gossip(GossipMessage::Data(data(ORIGIN, 70_000, now, 1_024)));
    for (name, message) in [("data of 1 KiB", &update), ("have of 20 sources", &have)] {
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| frame(black_box(message), now));
        });
        let frame = frame(message, now);
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| {
                let mut reader = FrameReader::new(black_box(&frame), now).expect("the version is right");
                reader.next::<NodeId>().expect("there is a message").expect("it is well formed")
            });
        });
    }
    group.finish();
}

fn idle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("idle");
    let mut engine = engine(|_| {});
    let mut now = Instant::from_millis(1);
    for peer in 1..=1_000 {
        engine.handle_input(Input::PeerConnected { peer }, now);
    }
    drain(&mut engine);
    assert_eq!(engine.link_count(), 1_000);
    group.bench_function("poll_timeout with 1,000 links", |bencher| {
        bencher.iter(|| black_box(&engine).poll_timeout());
    });
    group.bench_function("handle_timeout and drain with 1,000 links", |bencher| {
        bencher.iter(|| {
            now += Duration::from_nanos(1_000);
            engine.handle_timeout(now);
            drain(&mut engine)
        });
    });
    group.finish();
}

fn egress(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("egress");
    for peers in [8u32, 1_000] {
        let now = Instant::from_secs(1);
        let mut egress = Egress::<u32, u64>::new(EgressConfig::default(), 1_200, 1, now);
        (0..peers).for_each(|peer| egress.open(peer, true, now));
        let mut out = Vec::new();
        let mut next = 0;
        // With nobody else waiting, and with a queue for everybody.
        for (name, waiting) in [("one waits", 0), ("all wait", peers)] {
            let item = |number| Item {
                message: number,
                bytes: 1_000,
                class: Class::Normal,
                deadline: None,
                key: None,
            };
            for peer in 0..waiting {
                let _ = egress.enqueue(peer, item(0), now);
            }
            group.bench_function(BenchmarkId::new(name, peers), |bencher| {
                bencher.iter(|| {
                    next += 1;
                    let _ = egress.enqueue((next % u64::from(peers)) as u32, item(next), now);
                    egress.poll(now, &mut out)
                });
            });
        }
    }
    group.finish();
}

fn window(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window");
    group.bench_function("1,024 in order", |bencher| {
        bencher.iter(|| {
            let mut window = Window::new(1);
            (0..1_024).for_each(|sequence| assert!(window.insert(sequence)));
            window
        });
    });
    group.bench_function("1,024 out of order", |bencher| {
        bencher.iter(|| {
            let mut window = Window::new(1);
            // 389 and 1,024 have no common divisor: every place is met once.
            (0..1_024).for_each(|step| assert!(window.insert(step * 389 % 1_024)));
            window
        });
    });
    group.finish();
}

const ORIGINS: u64 = 10_000;

/// Two neighbours that know one update of each origin, but for `differences` that only the first knows.
fn pair(differences: u64) -> [Gossip<NodeId>; 2] {
    let now = Instant::from_secs(1);
    let mut config = Config::medium().gossip;
    config.sources_max = 20_000;
    let mut actions = Vec::new();
    [0, 1].map(|node| {
        let retention = Retention::Window { age: HOUR, bytes: 1 << 24 };
        let seed = Seed::from_u64(node);
        let mut gossip = Gossip::new(node, Epoch(1), config.clone(), retention, 1_200, seed);
        for origin in 0..ORIGINS {
            if node == 0 || origin % (ORIGINS / differences) != 0 {
                let data = data(origin + 10, 0, now, 8);
                gossip.handle_message(9, GossipMessage::Data(data), now, &mut actions);
                actions.clear();
            }
        }
        gossip.neighbor_up(1 - node, now);
        gossip
    })
}

/// Lets the two talk until they know the same; returns how many messages that took.
fn reconcile(pair: &mut [Gossip<NodeId>; 2]) -> usize {
    let mut now = Instant::from_secs(1);
    let mut actions = Vec::new();
    let mut messages = 0;
    while pair[0].log().fingerprint() != pair[1].log().fingerprint() {
        now += Duration::from_millis(20);
        for node in [0, 1] {
            if pair[node].poll_timeout().is_some_and(|at| at <= now) {
                pair[node].handle_timeout(now, &mut actions);
            }
            let mut at = node;
            while !actions.is_empty() {
                let mut answers = Vec::new();
                for action in actions.drain(..) {
                    let GossipAction::Send { message, .. } = action else { continue };
                    messages += 1;
                    pair[1 - at].handle_message(at as NodeId, message, now, &mut answers);
                }
                (actions, at) = (answers, 1 - at);
            }
        }
    }
    messages
}

fn anti_entropy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("anti-entropy among 10,000 origins");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    for differences in [10, 100] {
        let messages = reconcile(&mut pair(differences));
        assert!(messages < 400, "{messages} messages for {differences} differences");
        group.bench_function(BenchmarkId::new("differences", differences), |bencher| {
            bencher.iter_batched(
                || pair(differences),
                |mut pair| (reconcile(&mut pair), pair),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// One message to 1,000 nodes, with a second of everything else that they do.
fn wave(criterion: &mut Criterion) {
    const NODES: u64 = 1_000;
    let mut world = World::new(NetworkConfig::default(), Seed::from_u64(1));
    for _ in 0..NODES {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::large(), birth.seed, birth.now)
                .expect("a valid configuration");
            let options = TopicOptions::through((birth.node > 0).then_some(0));
            engine.join_topic(SWARM, options, birth.now).expect("a fresh engine can join");
            engine
        });
        world.run_for(Duration::from_millis(2));
    }
    world.run_for(Duration::from_secs(5));
    let mut group = criterion.benchmark_group("simulator");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.bench_function("a message and a second among 1,000 nodes", |bencher| {
        bencher.iter(|| {
            let publish = |engine: &mut Engine<NodeId>, now| {
                let payload = Bytes::from_static(&[1; 256]);
                engine.publish(SWARM, StateId(1), payload, PublishOptions::default(), now)
            };
            world.with_host(7, publish).expect("it is up").expect("it may publish");
            world.run_for(Duration::from_secs(1));
        });
    });
    group.finish();
    let stats = world.host(900).and_then(|host| host.topic_stats(SWARM)).expect("it is a member");
    assert!(stats.gossip.delivered > 0, "the wave reached nobody");
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    targets = receive, wire, idle, egress, window, anti_entropy, wave
}
criterion_main!(benches);
