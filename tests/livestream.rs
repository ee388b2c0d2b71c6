//! Livestreams in the simulator: everybody gets every frame, in order, from a keyframe on.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{NetworkConfig, NodeId, Observer, World};
use suffuse::{
    BroadcastOptions, Config, Engine, Event, Guard, Instant, LivestreamTracks, PublishOptions, StreamState,
    SwarmId, Update, WatchOptions,
};

const STREAM: SwarmId = SwarmId::from_name("stream");
const SOURCE: NodeId = 0;

#[derive(Default)]
struct Frames {
    by_viewer: BTreeMap<NodeId, Vec<(Instant, Update<NodeId>)>>,
    lagged: u64,
    joined: BTreeMap<NodeId, Instant>,
}

impl Observer for Frames {
    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => {
                self.by_viewer.entry(node).or_default().push((now, update.clone()));
            }
            Event::Lagged { sequences, .. } => self.lagged += sequences.end - sequences.start,
            Event::Joined { .. } => {
                self.joined.entry(node).or_insert(now);
            }
            _ => {}
        }
    }
}

type Stage = World<Engine<NodeId>, Frames>;

const RATE: u64 = 125_000;
const FPS: u64 = 30;

fn stage(viewers: u64, loss_ppm: u32, seed: u64) -> Stage {
    let mut network = NetworkConfig::default();
    network.loss_ppm = loss_ppm;
    let mut world = World::with_observer(network, suffuse::Seed::from_u64(seed), Frames::default());
    let config = |upload: u64| {
        let mut config = Config::medium();
        config.egress.upload_bytes_per_s = Some(upload);
        config
    };
    world.add(|birth| {
        let mut engine = Engine::new(birth.node, config(RATE * 10), birth.seed, birth.now).unwrap();
        let mut options = BroadcastOptions::new(RATE, RATE * 10);
        options.chat = false;
        engine.open_livestream(STREAM, options, Guard::new(), birth.now).unwrap();
        engine.set_stream_state(STREAM, StreamState::Active, birth.now).unwrap();
        engine
    });
    world.set_upload(SOURCE, NonZeroU64::new(RATE * 80));
    for node in 1..=viewers {
        let upload = RATE * [1, 2, 3, 4][(node % 4) as usize];
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, config(upload), birth.seed, birth.now).unwrap();
            let mut options = WatchOptions::new(SOURCE).upload(upload);
            options.chat = false;
            engine.watch_livestream(STREAM, options, Guard::new(), birth.now).unwrap();
            engine
        });
        world.set_upload(node, NonZeroU64::new(upload * 8));
        world.run_for(Duration::from_millis(5));
    }
    world
}

fn stream(world: &mut Stage, from: u64, frames: u64) {
    for frame in from..from + frames {
        world.with_host(SOURCE, |engine, now| {
            let payload = Bytes::from(vec![frame as u8; (RATE / FPS) as usize]);
            let options = PublishOptions { keyframe: frame % FPS == 0, ..PublishOptions::default() };
            engine.publish(STREAM, LivestreamTracks::default().visual(), payload, options, now).unwrap();
        });
        world.run_for(Duration::from_micros(1_000_000 / FPS));
    }
}

#[test]
fn everybody_gets_every_frame() {
    let mut world = stage(100, 10_000, 1);
    stream(&mut world, 0, 150);
    world.run_for(Duration::from_secs(3));
    let frames = world.observer();
    assert_eq!(frames.joined.len(), 100);
    let mut worst = Duration::ZERO;
    for node in 1..=100 {
        let got = frames.by_viewer.get(&node).map_or(&[][..], |frames| frames);
        let stats = world.host(node).unwrap().livestream_stats(STREAM).unwrap();
        assert!(!got.is_empty(), "viewer {node} got nothing: {stats:?}");
        let numbers: Vec<u64> =
            got.iter().map(|(_, update)| LivestreamTracks::frame_number(update.id.sequence)).collect();
        assert!(got[0].1.keyframe);
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "viewer {node} {:?}: {stats:?} {:?}",
            frames.joined[&node],
            &numbers[..10]
        );
        assert_eq!(*numbers.last().unwrap(), 149, "viewer {node}: {stats:?}");
        for (at, update) in got {
            worst = worst.max(*at - update.born);
            let number = LivestreamTracks::frame_number(update.id.sequence);
            assert!(update.payload.iter().all(|byte| *byte == number as u8));
        }
    }
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    assert_eq!(frames.lagged, 0);
}
