//! Plays the scene: who comes, goes and publishes when.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::ops::Range;
use core::time::Duration;

use bytes::Bytes;

use super::figures::{Figures, ratio};
use super::report::{LivestreamReport, UploadUse};
use super::tally::{SOURCE, Tally};
use super::{LivestreamScene, Probe};
use crate::authority::LivestreamTracks;
use crate::config::Config;
use crate::engine::Engine;
use crate::gossip::PublishOptions;
use crate::id::{Epoch, SwarmId};
use crate::interest::TrackKind;
use crate::rng::{Rng, Seed, mix};
use crate::sim::{Birth, NodeId, World};
use crate::time::Instant;
use crate::{BroadcastOptions, Guard, StreamState, WatchOptions};

/// The stream of the scene.
const STREAM: SwarmId = SwarmId::from_name("livestream scene");

/// All viewers have come by then.
const JOIN_SPAN: Duration = Duration::from_secs(5);

/// Between the last of them and the span.
const WARM_UP: Duration = Duration::from_secs(5);

/// A flash crowd comes within this time.
const FLASH_SPAN: Duration = Duration::from_secs(10);

/// How long after the last frame the scene goes on.
const TAIL: Duration = Duration::from_secs(3);

/// How long who leaves stays to say goodbye.
const LINGER: Duration = Duration::from_secs(1);

/// The successor of a viewer comes within this time.
const SUCCESSION: Duration = Duration::from_secs(1);

/// How often progress is told.
const LOOK: Duration = Duration::from_millis(100);

/// Who was there for less has no share of its upload worth telling.
const PRESENCE_MIN: Duration = Duration::from_secs(1);

/// Links that a source and a viewer may hold.
const SOURCE_LINKS: usize = 16_384;
const VIEWER_LINKS: usize = 1_024;

/// Chunks are told apart for this time, and are seldom smaller than this.
const CHUNK_MEMORY_S: u64 = 8;
const CHUNK_BYTES: u64 = 900;

/// What happens at a planned time.
#[derive(Clone, Copy, Debug)]
enum Step {
    Frame,
    Come { upload: u64 },
    Go(NodeId),
    Begin,
    Crash,
    End,
}

pub(super) struct Run<'a> {
    scene: &'a LivestreamScene,
    probe: &'a mut dyn Probe,
    world: World<Engine<NodeId>, Tally>,
    rng: Rng,
    agenda: BTreeMap<(Instant, u64), Step>,
    planned: u64,
    span: Range<Instant>,
    end: Instant,
    /// What each node declared, in bytes a second.
    uploads: Vec<u64>,
    /// Who is going to crash in the middle.
    doomed: Vec<NodeId>,
    frames: u64,
    frames_in_group: u64,
    payload: Vec<u8>,
    /// Counters of viewers that are gone.
    past: Chunks,
    begun: Reading,
    ended: Reading,
}

/// Counters of viewers, added up.
#[derive(Clone, Copy, Debug, Default)]
struct Chunks {
    received: u64,
    repaired: u64,
}

/// All counters at one time.
#[derive(Clone, Debug, Default)]
struct Reading {
    wire_bytes: u64,
    node_bytes: Vec<u64>,
    chunks: Chunks,
    plan_moves: u64,
    plan_leaves: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(scene: &'a LivestreamScene, probe: &'a mut dyn Probe) -> Self {
        let seed = Seed::from_u64(scene.seed);
        let begin = Instant::ZERO + JOIN_SPAN + WARM_UP;
        let span = begin..begin + scene.measured;
        let end = span.end + TAIL;
        let layers = scene.layers.max(1);
        let chunks_per_s =
            scene.stream_bytes_per_s() / CHUNK_BYTES * u64::from(scene.redundancy_percent.max(100)) / 100
                + u64::from(scene.fps);
        let window = (chunks_per_s * CHUNK_MEMORY_S) as usize;
        let tally = Tally::new(span.clone(), layers, window);
        let mut world = World::with_observer(scene.network.clone(), seed, tally);
        world.metrics_mut().watch_windows();
        Self {
            scene,
            probe,
            world,
            rng: Rng::new(seed.fork(u64::MAX - 1)),
            agenda: BTreeMap::new(),
            planned: 0,
            span,
            end,
            uploads: Vec::new(),
            doomed: Vec::new(),
            frames: 0,
            frames_in_group: 0,
            payload: Vec::new(),
            past: Chunks::default(),
            begun: Reading::default(),
            ended: Reading::default(),
        }
    }

    pub(super) fn play(mut self) -> LivestreamReport {
        self.open();
        self.plan(Instant::ZERO, Step::Frame);
        self.invite(self.scene.viewers, Instant::ZERO, JOIN_SPAN);
        self.plan(self.span.start, Step::Begin);
        self.plan(self.span.end, Step::End);
        while let Some(((at, _), step)) = self.agenda.pop_first() {
            self.run_until(at);
            self.take(step);
        }
        self.run_until(self.end);
        self.report()
    }

    fn plan(&mut self, at: Instant, step: Step) {
        self.agenda.insert((at, self.planned), step);
        self.planned += 1;
    }

    /// Lets viewers come evenly, with their uploads dealt out by chance.
    fn invite(&mut self, viewers: u32, from: Instant, within: Duration) {
        let mut uploads = self.scene.viewer_uploads(viewers);
        self.rng.shuffle(&mut uploads);
        let within = within.as_micros() as u64;
        for (place, upload) in (0u64..).zip(uploads) {
            let after = Duration::from_micros(within * place / u64::from(viewers));
            self.plan(from + after, Step::Come { upload });
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Frame => self.publish(),
            Step::Come { upload } => self.come(upload),
            Step::Go(node) => self.go(node),
            Step::Begin => self.begin(),
            Step::Crash => self.crash(),
            Step::End => self.ended = self.read(),
        }
    }

    fn begin(&mut self) {
        let now = self.world.now();
        self.begun = self.read();
        let mut viewers: Vec<NodeId> =
            self.world.hosts().map(|(node, _)| node).filter(|&node| node != SOURCE).collect();
        for &node in &viewers {
            self.plan_departure(node);
        }
        if self.scene.flash > 0 {
            self.invite(self.scene.flash, now, FLASH_SPAN);
        }
        if self.scene.crash_ppm > 0 {
            let middle = now + self.scene.measured / 2;
            self.rng.shuffle(&mut viewers);
            viewers.truncate((viewers.len() as u64 * u64::from(self.scene.crash_ppm) / 1_000_000) as usize);
            for &node in &viewers {
                self.world.observer_mut().will_go(node, middle);
            }
            self.doomed = viewers;
            self.plan(middle, Step::Crash);
        }
    }

    fn crash(&mut self) {
        let now = self.world.now();
        self.world.observer_mut().crash(now);
        for node in core::mem::take(&mut self.doomed) {
            self.remember(node);
            self.world.crash(node);
        }
    }

    fn open(&mut self) {
        let scene = self.scene;
        let upload = scene.source_upload();
        let paced = scene.paced(upload);
        let everybody = scene.viewers as usize + scene.flash as usize;
        let source = self.world.add(|birth| {
            let config = config(scene, &birth, paced, SOURCE_LINKS.max(2 * everybody));
            let mut engine = engine(&birth, config);
            let mut options = BroadcastOptions::new(scene.stream_bytes_per_s(), paced);
            options.stripes = scene.stripes;
            options.mode = scene.mode;
            options.viewers_expected = scene.viewers as usize;
            options.capacity_expected_percent = scene.capacity_percent();
            options.viewers_max = options.viewers_max.max(2 * everybody);
            options.redundancy_percent = scene.redundancy_percent;
            options.deadline = scene.deadline;
            options.chat = false;
            let opened = engine.open_livestream(STREAM, options, Guard::new(), birth.now);
            opened.expect("the scene's stream can be opened");
            let active = engine.set_stream_state(STREAM, StreamState::Active, birth.now);
            active.expect("a new stream can begin");
            engine
        });
        debug_assert_eq!(source, SOURCE);
        self.settle_in(source, upload);
    }

    fn come(&mut self, upload: u64) {
        let scene = self.scene;
        let paced = scene.paced(upload);
        let node = self.world.add(|birth| {
            let mut engine = engine(&birth, config(scene, &birth, paced, VIEWER_LINKS));
            let mut options = WatchOptions::new(SOURCE);
            options.upload_bytes_per_s = Some(paced);
            options.order = scene.order;
            options.chat = false;
            let watched = engine.watch_livestream(STREAM, options, Guard::new(), birth.now);
            watched.expect("a fresh engine can watch");
            engine
        });
        self.settle_in(node, upload);
        if self.world.now() >= self.span.start {
            self.plan_departure(node);
        }
    }

    fn settle_in(&mut self, node: NodeId, upload: u64) {
        self.uploads.push(upload);
        self.world.set_upload(node, NonZeroU64::new(upload * 8));
    }

    fn plan_departure(&mut self, node: NodeId) {
        let Some(mean) = self.scene.churn else { return };
        let at = self.world.now() + exponential(&mut self.rng, mean);
        if at < self.span.end {
            self.world.observer_mut().will_go(node, at);
            self.plan(at, Step::Go(node));
        }
    }

    fn go(&mut self, node: NodeId) {
        if !self.world.is_up(node) {
            return;
        }
        self.remember(node);
        if self.rng.next_u64() & 1 == 0 {
            self.world.crash(node);
        } else {
            self.world.leave(node, LINGER, |host, now| {
                // It was a viewer all its life.
                let _ = host.leave(STREAM, now);
            });
        }
        let after = self.rng.between(0, SUCCESSION.as_micros() as u64);
        let upload = self.uploads[node as usize];
        self.plan(self.world.now() + Duration::from_micros(after), Step::Come { upload });
    }

    fn publish(&mut self) {
        let now = self.world.now();
        let wanted = core::mem::take(&mut self.world.observer_mut().keyframe_wanted);
        let keyframe = wanted || self.frames_in_group % self.scene.group_frames() == 0;
        self.frames_in_group = if keyframe { 1 } else { self.frames_in_group + 1 };
        self.world.observer_mut().captured(now);
        for layer in 0..self.scene.layers.max(1) {
            self.publish_layer(layer, keyframe);
        }
        let stats = self.world.host(SOURCE).and_then(|host| host.livestream_stats(STREAM));
        let stripes = stats.map_or(1, |stats| stats.stripes);
        self.world.observer_mut().set_stripes(stripes);
        self.frames += 1;
        let next = Instant::from_micros(self.frames * 1_000_000 / u64::from(self.scene.fps.max(1)));
        if next < self.span.end {
            self.plan(next, Step::Frame);
        }
    }

    fn publish_layer(&mut self, layer: u8, keyframe: bool) {
        let bytes = self.scene.frame_bytes(layer, self.frames, keyframe);
        self.payload.resize(bytes, 0);
        let key = self.scene.seed ^ self.frames << 8 ^ u64::from(layer);
        for (word, chunk) in (0u64..).zip(self.payload.chunks_mut(8)) {
            chunk.copy_from_slice(&mix(key ^ word << 40).to_le_bytes()[..chunk.len()]);
        }
        let payload = Bytes::copy_from_slice(&self.payload);
        let options = PublishOptions { keyframe, layer, ..PublishOptions::default() };
        let tracks = LivestreamTracks::default();
        let state = tracks.layer(TrackKind::Visual, layer).unwrap_or(tracks.visual());
        let published = self.world.with_host(SOURCE, |host, now| {
            // The time of the command; the first chunks leave with it.
            host.publish(STREAM, state, payload, options, now).map(|id| (id.sequence, now))
        });
        match published {
            Some(Ok((sequence, now))) => self.world.observer_mut().published(layer, sequence, now),
            _ => self.world.observer_mut().frames_refused += 1,
        }
    }

    fn remember(&mut self, node: NodeId) {
        let chunks = self.world.host(node).map_or(Chunks::default(), chunks_of);
        self.past.add(chunks);
    }

    fn read(&self) -> Reading {
        let metrics = self.world.metrics();
        let mut chunks = self.past;
        for (_, host) in self.world.hosts() {
            chunks.add(chunks_of(host));
        }
        let plan = self.world.host(SOURCE).and_then(|host| host.livestream_stats(STREAM));
        let plan = plan.unwrap_or_default();
        Reading {
            wire_bytes: metrics.total().wire_bytes,
            node_bytes: (0..self.uploads.len() as NodeId).map(|node| metrics.node_wire_bytes(node)).collect(),
            chunks,
            plan_moves: plan.plan_moves,
            plan_leaves: plan.plan_leaves,
        }
    }

    fn upload_use(&self) -> UploadUse {
        let (mut sum, mut max, mut nodes) = (0.0, 0.0f64, 0u64);
        for (node, &upload) in self.uploads.iter().enumerate() {
            let presence = self.world.observer().presence(node as NodeId);
            if presence < PRESENCE_MIN {
                continue;
            }
            let at = |reading: &Reading| reading.node_bytes.get(node).copied().unwrap_or(0);
            let bytes = at(&self.ended).saturating_sub(at(&self.begun));
            let share = bytes as f64 / (upload as f64 * presence.as_secs_f64());
            (sum, max, nodes) = (sum + share, max.max(share), nodes + 1);
        }
        UploadUse { mean: if nodes == 0 { 0.0 } else { sum / nodes as f64 }, max }
    }

    fn upload_over_cap(&self) -> u64 {
        let over = |(node, &upload): (usize, &u64)| {
            let busiest = self.world.metrics().busiest_second(node as NodeId).unwrap_or(0);
            busiest.saturating_sub(upload)
        };
        self.uploads.iter().enumerate().map(over).sum()
    }

    fn report(mut self) -> LivestreamReport {
        let now = self.world.now();
        let upload_use = self.upload_use();
        let upload_over_cap_bytes = self.upload_over_cap();
        let (begun, ended) = (core::mem::take(&mut self.begun), core::mem::take(&mut self.ended));
        let plan = self.world.host(SOURCE).and_then(|host| host.livestream_stats(STREAM)).unwrap_or_default();
        let viewers: Vec<_> = self.world.hosts().filter(|&(node, _)| node != SOURCE).collect();
        let viewers_end = viewers.len() as u64;
        let stats = || viewers.iter().filter_map(|(_, host)| host.livestream_stats(STREAM));
        let depth_max = stats().map(|stats| stats.depth_max).max().unwrap_or(0);
        let media: u64 = stats().map(|stats| stats.retained_bytes).sum();
        let figures = Figures::of(self.world.observer(), now);
        let trace_hash = self.world.trace_hash();
        let heap_bytes_per_viewer = self.heap_of_a_viewer();
        let leaves = ended.plan_leaves - begun.plan_leaves;
        let received = ended.chunks.received.saturating_sub(begun.chunks.received);
        let repaired = ended.chunks.repaired.saturating_sub(begun.chunks.repaired);
        let bound = self.scene.fluid_bound();
        LivestreamReport {
            delay_ms: figures.delay_ms,
            frame_delay_ms: figures.frame_delay_ms,
            worst_viewer_p99_ms: figures.worst_viewer_p99_ms,
            on_time: figures.on_time,
            layers_delivered: figures.layers_delivered,
            upload_over_cap_bytes,
            upload_use,
            rate_over_fluid_bound: ratio(self.scene.stream_bytes_per_s(), bound),
            depth_max: depth_max.max(plan.plan_depth_max),
            hops_max: figures.hops_max,
            stripes: plan.stripes,
            bytes_per_delivery: ratio(ended.wire_bytes - begun.wire_bytes, figures.bytes_delivered),
            payload_copies: figures.payload_copies,
            repair_share: ratio(repaired, received),
            outage_ms: figures.outage_ms,
            stripes_back: figures.stripes_back.filter(|_| self.scene.crash_ppm > 0),
            join_ms: figures.join_ms,
            keyframe_requests: figures.keyframe_requests,
            keyframe_requests_per_s_max: figures.keyframe_requests_per_s_max,
            plan_moves_per_leave: ratio(ended.plan_moves - begun.plan_moves, leaves),
            heap_bytes_per_viewer,
            media_bytes_per_viewer: media / viewers_end.max(1),
            heap_bytes_planner: plan.plan_heap_bytes,
            viewers_end,
            viewers_refused: figures.viewers_refused,
            viewers_without_keyframe: figures.viewers_without_keyframe,
            frames_refused: figures.frames_refused,
            virtual_s: now.as_micros() as f64 / 1e6,
            trace_hash,
        }
    }

    /// Frees all viewers, and with them what they hold alone. Media are not among it: a relay keeps the very bytes that came,
    /// so in one process all of them belong to the source.
    fn heap_of_a_viewer(&mut self) -> u64 {
        // What the scene itself noted of a viewer must not go with it.
        *self.world.observer_mut() = Tally::new(self.span.clone(), 1, 0);
        let viewers: Vec<_> =
            self.world.hosts().map(|(node, _)| node).filter(|&node| node != SOURCE).collect();
        let before = self.probe.heap_bytes();
        for &node in &viewers {
            self.world.crash(node);
        }
        let freed = before.saturating_sub(self.probe.heap_bytes());
        match viewers.len() as u64 {
            0 => 0,
            _ if freed == 0 => 0,
            count => freed / count + size_of::<Engine<NodeId>>() as u64,
        }
    }

    fn run_until(&mut self, until: Instant) {
        while self.world.now() < until {
            let next = until.min(self.world.now() + LOOK);
            self.world.run_until(next);
            self.probe.progress(next, self.end);
        }
    }
}

impl Chunks {
    fn add(&mut self, other: Self) {
        self.received += other.received;
        self.repaired += other.repaired;
    }
}

fn config(scene: &LivestreamScene, birth: &Birth, paced: u64, links_max: usize) -> Config {
    let mut config = scene.config.clone();
    config.epoch = Epoch(birth.life);
    config.egress.upload_bytes_per_s = Some(paced);
    config.egress.burst = Duration::from_millis(5);
    config.egress.frame_overhead_bytes = scene.network.frame_overhead_bytes as usize;
    config.link.links_max = links_max;
    config
}

fn engine(birth: &Birth, config: Config) -> Engine<NodeId> {
    Engine::new(birth.node, config, birth.seed, birth.now).expect("the scene's configuration is valid")
}

fn chunks_of(host: &Engine<NodeId>) -> Chunks {
    let stats = host.livestream_stats(STREAM).unwrap_or_default();
    Chunks { received: stats.chunks_received, repaired: stats.chunks_repaired }
}

/// A span with that mean, exponentially distributed, from integers alone: the logarithm of a number is the place of its
/// first bit and a parabola over the rest, exact to a hundredth.
fn exponential(rng: &mut Rng, mean: Duration) -> Duration {
    let draw = rng.next_u64() | 1;
    let exponent = u64::from(draw.leading_zeros());
    let rest_ppm = (((draw << exponent << 1) >> 44) * 1_000_000) >> 20;
    let ln_rest_ppm =
        (rest_ppm * 693_147 + 238_000 * rest_ppm / 1_000_000 * (1_000_000 - rest_ppm)) / 1_000_000;
    let ln_ppm = (exponent + 1) * 693_147 - ln_rest_ppm;
    let micros = mean.as_micros() * u128::from(ln_ppm) / 1_000_000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_spans_have_their_mean_and_their_tail() {
        let mut rng = Rng::new(Seed::from_u64(1));
        let mean = Duration::from_secs(600);
        let draws: Vec<_> = (0..100_000).map(|_| exponential(&mut rng, mean).as_secs_f64()).collect();
        let average = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((average - 600.0).abs() < 10.0, "{average}");
        let longer = draws.iter().filter(|&&draw| draw > 1_200.0).count() as f64 / draws.len() as f64;
        assert!((longer - 0.1353).abs() < 0.005, "{longer}");
    }
}
