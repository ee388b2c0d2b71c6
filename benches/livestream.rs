//! What a relay does for each chunk that it feeds to eight others: the whole way through an engine, from the frame that
//! arrives to the eight that leave. Time, and how often memory is allocated.
//!
//! ```text
//! cargo bench --all-features --bench livestream
//! ```

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use suffuse::{
    BroadcastOptions, Config, Engine, Event, Guard, Input, Instant, LivestreamTracks, Output, PlanMode,
    PublishOptions, Seed, StreamState, SwarmId, WatchOptions,
};

const STREAM: SwarmId = SwarmId::from_name("bench");
const SOURCE: usize = 0;
const RELAY: usize = 1;
const CHILDREN: usize = 8;

/// 2.5 Mbit/s in 30 frames a second, nine chunks each.
const RATE: u64 = 312_500;
const FRAME_BYTES: usize = 10_400;
const FRAME_GAP: Duration = Duration::from_micros(33_333);

/// Frames between keyframes.
const GROUP: u64 = 60;

/// More is kept, and less thrown away, until the second group is complete.
const WARM_UP_FRAMES: u64 = 3 * GROUP;

type Guards = fn(usize) -> Guard<u64>;

/// A source, a relay that it feeds, and those that the relay feeds, without time on the way.
struct Stage {
    engines: Vec<Engine<u64>>,
    now: Instant,
    frames: u64,
    under_way: VecDeque<(usize, usize, Bytes)>,
    /// Chunks that arrived at the relay, which it has not been given yet.
    chunks: Vec<Bytes>,
    outputs: Vec<Output<u64>>,
}

impl Stage {
    fn new(guards: Guards) -> Self {
        let mut stage = Self {
            engines: Vec::new(),
            now: Instant::from_secs(1),
            frames: 0,
            under_way: VecDeque::new(),
            chunks: Vec::new(),
            outputs: Vec::new(),
        };
        for node in 0..2 + CHILDREN {
            let (mut engine, now) = (engine(node), stage.now);
            if node == SOURCE {
                let mut options = BroadcastOptions::new(RATE, RATE * 3 / 2);
                (options.stripes, options.mode, options.chat) = (Some(1), PlanMode::Forest, false);
                engine.open_livestream(STREAM, options, guards(node), now).expect("good options");
                engine.set_stream_state(STREAM, StreamState::Active, now).expect("it is new");
            } else {
                let mut options = WatchOptions::new(SOURCE as u64);
                options.upload_bytes_per_s = (node == RELAY).then_some(RATE * 20);
                options.chat = false;
                engine.watch_livestream(STREAM, options, guards(node), now).expect("good options");
            }
            stage.engines.push(engine);
            for _ in 0..10 {
                stage.pass_time(Duration::from_millis(20));
            }
        }
        for node in RELAY + 1..stage.engines.len() {
            assert_eq!(stage.engines[node].stream_parents(STREAM), [Some(RELAY as u64)]);
        }
        for _ in 0..WARM_UP_FRAMES {
            stage.publish();
            stage.forward(&mut |engine, chunk, now| take(engine, chunk, now).collect());
        }
        stage
    }

    fn pass_time(&mut self, time: Duration) {
        self.now += time;
        for node in 0..self.engines.len() {
            if self.engines[node].poll_timeout().is_some_and(|at| at <= self.now) {
                self.engines[node].handle_timeout(self.now);
            }
        }
        self.settle();
    }

    /// The source publishes a frame; its chunks wait in front of the relay.
    fn publish(&mut self) {
        self.pass_time(FRAME_GAP);
        let options = PublishOptions { keyframe: self.frames % GROUP == 0, ..PublishOptions::default() };
        let payload = Bytes::from(vec![self.frames as u8; FRAME_BYTES]);
        let visual = LivestreamTracks::default().visual();
        self.engines[SOURCE].publish(STREAM, visual, payload, options, self.now).expect("it may");
        self.frames += 1;
        self.settle();
    }

    /// Gives the relay what waits for it, one by one, and carries away what it hands out.
    fn forward(&mut self, give: &mut impl FnMut(&mut Engine<u64>, Bytes, Instant) -> Vec<Output<u64>>) {
        for chunk in std::mem::take(&mut self.chunks) {
            let outputs = give(&mut self.engines[RELAY], chunk, self.now);
            self.outputs.extend(outputs);
        }
        for output in std::mem::take(&mut self.outputs) {
            self.carry(RELAY, output);
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            for node in 0..self.engines.len() {
                while let Some(output) = self.engines[node].poll_output() {
                    self.carry(node, output);
                }
            }
            let Some((from, to, frame)) = self.under_way.pop_front() else { break };
            let is_media = frame.len() > 1_000;
            if to == RELAY && from == SOURCE && is_media {
                self.chunks.push(frame);
            } else if let Some(engine) = self.engines.get_mut(to) {
                engine.handle_input(Input::Received { from: from as u64, frame }, self.now);
            }
        }
    }

    fn carry(&mut self, from: usize, output: Output<u64>) {
        match output {
            Output::Send { to, frame, .. } => self.under_way.push_back((from, to as usize, frame)),
            Output::Connect { peer } => {
                self.engines[from].handle_input(Input::PeerConnected { peer }, self.now);
            }
            Output::Event(Event::Misbehaved { peer, offence }) => panic!("{peer}: {offence:?}"),
            Output::Event(_) | Output::Disconnect { .. } => {}
        }
    }
}

fn engine(node: usize) -> Engine<u64> {
    let mut config = Config::default();
    config.link.inbound_bytes_per_s = 1_000_000_000;
    config.link.inbound_frames_per_s = 1_000_000;
    Engine::new(node as u64, config, Seed::from_u64(node as u64), Instant::ZERO)
        .expect("a good configuration")
}

/// What the bench is about.
fn take(engine: &mut Engine<u64>, frame: Bytes, now: Instant) -> impl Iterator<Item = Output<u64>> + '_ {
    engine.handle_input(Input::Received { from: SOURCE as u64, frame }, now);
    std::iter::from_fn(|| engine.poll_output())
}

#[allow(clippy::disallowed_types, reason = "only the relay is timed")]
fn bench(criterion: &mut Criterion, name: &str, guards: Guards) {
    let mut stage = Stage::new(guards);
    let (mut chunks, mut allocations, mut copies) = (0, 0, 0);
    for _ in 0..GROUP {
        stage.publish();
        stage.forward(&mut |engine, chunk, now| {
            let mut outputs = Vec::with_capacity(2 * CHILDREN);
            let counted = allocation_counter::measure(|| outputs.extend(take(engine, chunk, now)));
            chunks += 1;
            allocations += counted.count_total;
            copies += outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
            outputs
        });
    }
    assert!(copies >= chunks * CHILDREN, "{copies} copies of {chunks} chunks");
    println!("{name}: {:.2} allocations a chunk", allocations as f64 / chunks as f64);

    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let (mut done, mut time) = (0, Duration::ZERO);
            while done < count {
                stage.publish();
                stage.forward(&mut |engine, chunk, now| {
                    let mut outputs = Vec::with_capacity(2 * CHILDREN);
                    let start = std::time::Instant::now();
                    outputs.extend(take(black_box(engine), chunk, now));
                    if done < count {
                        time += start.elapsed();
                        done += 1;
                    }
                    outputs
                });
            }
            time
        });
    });
}

fn forward(criterion: &mut Criterion) {
    bench(criterion, "forward a chunk to 8", |_| Guard::new());
}

#[cfg(feature = "ed25519")]
fn verify(criterion: &mut Criterion) {
    use suffuse::authority::{Ed25519Signer, KeyRing};
    use suffuse::forest::{Blake3, Seals};

    bench(criterion, "verify a chunk and forward it to 8", |node| {
        let signer = Ed25519Signer::from_seed(&[7; 32]);
        let mut ring = KeyRing::new(1);
        ring.insert(SOURCE as u64, &signer.public_key()).expect("a good key");
        let seals =
            if node == SOURCE { Seals::source(signer, ring, Blake3) } else { Seals::viewer(ring, Blake3) };
        Guard::new().sealed(seals)
    });
}

#[cfg(not(feature = "ed25519"))]
fn verify(_: &mut Criterion) {}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = forward, verify
}
criterion_main!(benches);
