//! What the hot paths cost.
//!
//! ```text
//! cargo bench --bench core
//! ```

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use suffuse::gossip::{Gossip, GossipAction};
use suffuse::log::Window;
use suffuse::sim::TopicScene;
use suffuse::wire::{Data, FrameReader, FrameWriter, GossipMessage, LinkMessage, Message};
use suffuse::{
    Class, Config, Egress, EgressConfig, Engine, Epoch, Input, Instant, Item, Priority, Retention, Seed,
    StateId, SwarmId, TopicOptions,
};

const NOW: Instant = Instant::from_secs(100);

fn data(origin: u64, sequence: u64) -> Data<u64> {
    Data {
        origin,
        epoch: Epoch(1),
        sequence,
        state: StateId(1),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 2,
        pulled: false,
        born: NOW,
        body: Bytes::from_static(&[7; 1_024]),
        signature: Bytes::new(),
    }
}

fn gossip(neighbors: u64) -> Gossip<u64> {
    let config = Config::medium().gossip;
    let mut gossip = Gossip::new(0, Epoch(1), config, Retention::default(), 1_200, Seed::from_u64(1));
    for neighbor in 1..=neighbors {
        gossip.neighbor_up(neighbor, NOW);
    }
    gossip
}

fn gossiping(criterion: &mut Criterion) {
    let mut actions: Vec<GossipAction<u64>> = Vec::new();
    criterion.bench_function("a duplicate of a tree that is pruned", |bencher| {
        let mut gossip = gossip(8);
        for sequence in 0..100 {
            gossip.handle_message(1, GossipMessage::Data(data(99, sequence)), NOW, &mut actions);
        }
        bencher.iter_batched(
            || Data { pulled: true, ..data(99, 50) },
            |data| {
                actions.clear();
                gossip.handle_message(1, GossipMessage::Data(data), NOW, &mut actions);
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("a new update with 8 neighbours", |bencher| {
        let mut gossip = gossip(8);
        let mut sequence = 0;
        bencher.iter(|| {
            actions.clear();
            gossip.handle_message(1, GossipMessage::Data(data(99, sequence)), NOW, &mut actions);
            sequence += 1;
            if sequence % 1_000 == 0 {
                gossip.handle_timeout(NOW + Duration::from_secs(1), &mut actions);
            }
        });
    });
    for differences in [10u64, 100] {
        criterion.bench_function(
            &format!("a fingerprint page, 10,000 origins, {differences} differ"),
            |bencher| {
                let mut other = gossip(2);
                let mut here = gossip(2);
                for origin in 0..10_000u64 {
                    here.handle_message(1, GossipMessage::Data(data(origin + 100, 0)), NOW, &mut actions);
                    if origin % (10_000 / differences) != 0 {
                        other.handle_message(
                            1,
                            GossipMessage::Data(data(origin + 100, 0)),
                            NOW,
                            &mut actions,
                        );
                    }
                }
                let known = suffuse::wire::SyncKnown::Fingerprint(other.log().fingerprint());
                let items = vec![suffuse::wire::SyncItem { upper: None, known }];
                bencher.iter(|| {
                    actions.clear();
                    let message = GossipMessage::Sync { lower: None, items: items.clone() };
                    here.handle_message(1, message, NOW, &mut actions);
                    black_box(actions.len())
                });
            },
        );
    }
}

fn wire(criterion: &mut Criterion) {
    let tag = SwarmId(1).tag();
    let message = Message::Gossip(GossipMessage::Data(data(5, 77)));
    criterion.bench_function("encode an update of 1 KiB", |bencher| {
        bencher.iter(|| {
            let mut writer = FrameWriter::new(1_200);
            writer.push(tag, black_box(&message), NOW);
            writer.finish()
        });
    });
    let mut writer = FrameWriter::new(1_200);
    writer.push(tag, &message, NOW);
    let frame = writer.finish();
    criterion.bench_function("decode an update of 1 KiB", |bencher| {
        bencher.iter(|| {
            FrameReader::new(black_box(&frame), NOW).map(|mut reader| reader.next::<u64>().is_some())
        });
    });
}

fn windows(criterion: &mut Criterion) {
    criterion.bench_function("a window, 1,000 in order", |bencher| {
        bencher.iter(|| {
            let mut window = Window::new(1);
            (0..1_000).filter(|&sequence| window.insert(sequence)).count()
        });
    });
    criterion.bench_function("a window, 1,000 every other first", |bencher| {
        bencher.iter(|| {
            let mut window = Window::new(1);
            let order = (1..1_000).step_by(2).chain((0..1_000).step_by(2));
            order.filter(|&sequence| window.insert(sequence)).count()
        });
    });
}

fn egress(criterion: &mut Criterion) {
    for peers in [8u32, 1_000] {
        criterion.bench_function(&format!("in and out of the egress, {peers} peers"), |bencher| {
            let mut egress = Egress::new(EgressConfig::default(), 1_200, 1, NOW);
            (0..peers).for_each(|peer| egress.open(peer, true, NOW));
            let mut frame = Vec::new();
            let mut next = 0;
            bencher.iter(|| {
                next = (next + 1) % peers;
                let item =
                    Item { message: [0u64; 8], bytes: 600, class: Class::Normal, deadline: None, key: None };
                let _ = egress.enqueue(next, item, NOW);
                egress.poll(NOW, &mut frame)
            });
        });
    }
}

fn engines(criterion: &mut Criterion) {
    let mut engine =
        Engine::new(0u64, Config::medium(), Seed::from_u64(1), NOW).expect("a valid configuration");
    engine.join_topic(SwarmId(1), TopicOptions::first(), NOW).expect("a fresh engine can join");
    for peer in 1..=1_000u64 {
        let mut writer = FrameWriter::new(16);
        writer.push(SwarmId(1).tag(), &Message::<u64>::Link(LinkMessage::Ping { token: 1 }), NOW);
        engine.handle_input(Input::Received { from: peer, frame: writer.finish() }, NOW);
    }
    while engine.poll_output().is_some() {}
    criterion.bench_function("poll_timeout with 1,000 links", |bencher| {
        bencher.iter(|| black_box(&engine).poll_timeout());
    });
    criterion.bench_function("an idle handle_timeout with 1,000 links", |bencher| {
        bencher.iter(|| engine.handle_timeout(NOW));
    });
    let mut group = criterion.benchmark_group("simulator");
    group.sample_size(10);
    group.bench_function("a topic of 200 nodes, 10 messages", |bencher| {
        let mut scene = TopicScene::new(200);
        scene.messages = 10;
        bencher.iter(|| scene.run(&mut ()).deliveries);
    });
    group.finish();
}

criterion_group!(benches, gossiping, wire, windows, egress, engines);
criterion_main!(benches);
