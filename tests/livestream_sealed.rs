//! Sealed livestreams: what the source did not sign is neither delivered nor passed on, and whoever sends it is named.
#![cfg(feature = "ed25519")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use suffuse::authority::{Ed25519Signer, KeyRing};
use suffuse::forest::{Blake3, Publish, Relay, RelayAction, RelayConfig, Seals, StreamFacts};
use suffuse::sim::{Fault, LivestreamScene, NetworkConfig, NodeId, Observer, World};
use suffuse::wire::{Attach, ForestMessage, FrameReader, Message};
use suffuse::{
    BroadcastOptions, CommandError, Config, Engine, Epoch, Event, Guard, Instant, LivestreamStats,
    LivestreamTracks, Offence, PublishOptions, Seed, Signature, Signer, StreamState, SwarmId, Verifier,
    WatchOptions,
};

const STREAM: SwarmId = SwarmId::from_name("sealed");
const SOURCE: NodeId = 0;
const VIEWERS: u64 = 30;
const RATE: u64 = 125_000;
const FPS: u64 = 30;

#[derive(Default)]
struct Log {
    frames: BTreeMap<NodeId, BTreeMap<u64, Bytes>>,
    twice: u64,
    late: u64,
    lagged: BTreeMap<NodeId, u64>,
    /// Who blamed whom.
    blamed: BTreeSet<(NodeId, NodeId)>,
    other_offences: Vec<(NodeId, NodeId, Offence)>,
}

impl Observer for Log {
    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => {
                let number = LivestreamTracks::frame_number(update.id.sequence);
                let frames = self.frames.entry(node).or_default();
                self.twice += u64::from(frames.insert(number, update.payload.clone()).is_some());
                self.late += u64::from(now - update.born > Duration::from_millis(2_100));
            }
            Event::Lagged { sequences, .. } => {
                *self.lagged.entry(node).or_default() += sequences.end - sequences.start;
            }
            Event::Misbehaved { peer, offence: Offence::BadSignature } => {
                self.blamed.insert((node, *peer));
            }
            Event::Misbehaved { peer, offence } => self.other_offences.push((node, *peer, *offence)),
            _ => {}
        }
    }
}

type Stage = World<Engine<NodeId>, Log>;

/// A keyed hash instead of a signature: many viewers check many seals, which takes long without optimisation.
struct Key;

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Signature {
        let digest = message.iter().fold(7u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
        });
        Signature::new(&[digest.to_le_bytes(); 8].concat()).unwrap()
    }
}

impl Verifier<NodeId> for Key {
    fn verify(&self, peer: &NodeId, message: &[u8], signature: &[u8]) -> bool {
        *peer == SOURCE && Key.sign(message).as_bytes() == signature
    }
}

fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed(&[7; 32])
}

fn keys() -> KeyRing<NodeId> {
    let mut keys = KeyRing::new(4);
    keys.insert(SOURCE, &signer().public_key()).unwrap();
    keys
}

fn source_guard() -> Guard<NodeId> {
    Guard::new().sealed(Seals::source(signer(), keys(), Blake3))
}

fn viewer_guard() -> Guard<NodeId> {
    Guard::new().sealed(Seals::viewer(keys(), Blake3))
}

fn config(upload: u64) -> Config {
    let mut config = Config::medium();
    config.egress.upload_bytes_per_s = Some(upload);
    config
}

/// The plan does not reckon with seals: links carry a fifth more than it is told.
fn carried(upload: u64) -> u64 {
    upload + upload / 5
}

/// A source that can feed a few viewers, and viewers that feed each other.
fn stage(viewers: u64, sealed: bool, seed: u64) -> Stage {
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(seed), Log::default());
    let upload = RATE * 5;
    world.add(|birth| {
        let mut engine = Engine::new(birth.node, config(carried(upload)), birth.seed, birth.now).unwrap();
        let mut options = BroadcastOptions::new(RATE, upload);
        options.chat = false;
        let guard = if sealed { Guard::new().sealed(Seals::source(Key, Key, Blake3)) } else { Guard::new() };
        engine.open_livestream(STREAM, options, guard, birth.now).unwrap();
        engine.set_stream_state(STREAM, StreamState::Active, birth.now).unwrap();
        engine
    });
    world.set_upload(SOURCE, NonZeroU64::new(carried(upload) * 8));
    for node in 1..=viewers {
        let upload = RATE * [2, 3, 4][(node % 3) as usize];
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, config(carried(upload)), birth.seed, birth.now).unwrap();
            let mut options = WatchOptions::new(SOURCE).upload(upload);
            options.chat = false;
            let guard = if sealed { Guard::new().sealed(Seals::viewer(Key, Blake3)) } else { Guard::new() };
            engine.watch_livestream(STREAM, options, guard, birth.now).unwrap();
            engine
        });
        world.set_upload(node, NonZeroU64::new(carried(upload) * 8));
        world.run_for(Duration::from_millis(20));
    }
    world.run_for(Duration::from_secs(2));
    world
}

/// What frame `number` says, whoever looks.
fn payload(number: u64, bytes: usize) -> Bytes {
    (0..bytes as u64).map(|at| (at * 31 + number * 7 + (at >> 8)) as u8).collect()
}

fn publish(world: &mut Stage, number: u64, bytes: usize) {
    let options = PublishOptions { keyframe: number % FPS == 0, ..PublishOptions::default() };
    let state = LivestreamTracks::default().visual();
    let body = payload(number, bytes);
    world.with_host(SOURCE, |engine, now| engine.publish(STREAM, state, body, options, now).unwrap());
    world.run_for(Duration::from_micros(1_000_000 / FPS));
}

fn stats(world: &Stage, node: NodeId) -> LivestreamStats {
    world.host(node).unwrap().livestream_stats(STREAM).unwrap()
}

const FRAME: usize = (RATE / FPS) as usize;

#[test]
fn everybody_gets_every_sealed_frame() {
    let mut world = stage(VIEWERS, true, 1);
    for number in 0..120 {
        publish(&mut world, number, FRAME);
    }
    world.run_for(Duration::from_secs(3));
    let relays = (1..=VIEWERS).filter(|&node| stats(&world, node).chunks_forwarded > 0).count();
    assert!(relays >= 5, "only {relays} viewers relay: the test proves little");
    let log = world.observer();
    assert_eq!((log.twice, log.late), (0, 0));
    assert!(log.blamed.is_empty() && log.other_offences.is_empty(), "{:?}", log.blamed);
    for node in 1..=VIEWERS {
        let frames = &log.frames[&node];
        assert_eq!(frames.len(), 120, "viewer {node}: {:?}", stats(&world, node));
        assert!(frames.iter().all(|(&number, body)| *body == payload(number, FRAME)));
        assert_eq!(stats(&world, node).forged, 0);
    }
}

/// Changes a byte near the end of every chunk: the last of its body.
fn corrupting() -> Fault {
    Fault::Filter(Box::new(|now, _, frame| {
        let mut reader = FrameReader::new(&frame, now).ok()?;
        let chunk =
            matches!(reader.next::<NodeId>(), Some(Ok((_, Message::Forest(ForestMessage::Chunk(_))))));
        if !chunk || frame.len() < 200 {
            return Some(frame);
        }
        let mut changed = frame.to_vec();
        let at = changed.len() - 3;
        changed[at] ^= 0x55;
        Some(Bytes::from(changed))
    }))
}

#[test]
fn what_a_relay_has_changed_reaches_nobody() {
    let mut world = stage(VIEWERS, true, 2);
    for number in 0..30 {
        publish(&mut world, number, FRAME);
    }
    let rogue = (1..=VIEWERS).max_by_key(|&node| stats(&world, node).children).unwrap();
    let children = stats(&world, rogue).children;
    assert!(children >= 3, "the busiest relay feeds only {children}");
    world.set_fault(rogue, Some(corrupting()));
    for number in 30..180 {
        publish(&mut world, number, FRAME);
    }
    world.run_for(Duration::from_secs(4));

    let log = world.observer();
    let delivered = log.frames.values().flatten();
    let foreign = delivered.filter(|(number, body)| **body != payload(**number, FRAME)).count();
    assert_eq!((foreign, log.twice, log.late), (0, 0, 0), "a changed payload was delivered");

    // Whoever was lied to says so, and blames nobody else: no honest node passed a lie on.
    let forged: BTreeMap<NodeId, u64> = (1..=VIEWERS)
        .map(|node| (node, stats(&world, node).forged))
        .filter(|&(_, forged)| forged > 0)
        .collect();
    let blamed: BTreeSet<NodeId> = log.blamed.iter().map(|&(_, peer)| peer).collect();
    let blaming: BTreeSet<NodeId> = log.blamed.iter().map(|&(node, _)| node).collect();
    assert_eq!(blamed, BTreeSet::from([rogue]));
    assert_eq!(blaming, forged.keys().copied().collect());
    assert!(log.other_offences.is_empty(), "{:?}", log.other_offences);

    let honest = (1..=VIEWERS).filter(|&node| node != rogue);
    let got: BTreeMap<NodeId, usize> =
        honest.map(|node| (node, log.frames.get(&node).map_or(0, BTreeMap::len))).collect();
    let all: usize = got.values().sum();
    let worst = got.values().min().copied().unwrap_or(0);
    let share = all as f64 / (180 * got.len()) as f64;
    println!(
        "relay {rogue} feeds {children}, then {}; forged {forged:?}; share {share:.4}, worst {worst} of 180, lagged {:?}",
        stats(&world, rogue).children,
        log.lagged
    );
    // Two children have said so: it feeds nobody any more, and the others miss nothing.
    assert_eq!((stats(&world, SOURCE).plan_demotions, stats(&world, rogue).children), (1, 0));
    assert!(share > 0.99, "{share}: {got:?}");
}

#[test]
fn a_source_that_cannot_sign_is_refused() {
    let mut engine = Engine::new(SOURCE, Config::medium(), Seed::from_u64(1), Instant::ZERO).unwrap();
    let options = BroadcastOptions::new(RATE, RATE * 2);
    let before = (*engine.stats(), engine.poll_timeout());
    let refused = engine.open_livestream(STREAM, options.clone(), viewer_guard(), Instant::ZERO);
    assert_eq!(refused, Err(CommandError::NoSigner));
    assert_eq!((*engine.stats(), engine.poll_timeout()), before);
    assert_eq!(engine.poll_output(), None);
    assert_eq!(engine.stream_state(STREAM), None);
    assert_eq!(engine.open_livestream(STREAM, options, source_guard(), Instant::ZERO), Ok(()));
}

/// Publishes one frame of each size to two viewers; everything must come back as it was.
fn frames_of_all_sizes(sealed: bool, redundancy_percent: u16) {
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(3), Log::default());
    let rate = 4_000_000;
    let config = || {
        let mut config = Config::medium();
        config.egress.upload_bytes_per_s = None;
        config
    };
    world.add(|birth| {
        let mut engine = Engine::new(birth.node, config(), birth.seed, birth.now).unwrap();
        let mut options = BroadcastOptions::new(rate, rate * 8);
        (options.chat, options.redundancy_percent) = (false, redundancy_percent);
        let guard = if sealed { source_guard() } else { Guard::new() };
        engine.open_livestream(STREAM, options, guard, birth.now).unwrap();
        engine.set_stream_state(STREAM, StreamState::Active, birth.now).unwrap();
        engine
    });
    for _ in 0..2 {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, config(), birth.seed, birth.now).unwrap();
            let mut options = WatchOptions::new(SOURCE).upload(rate);
            options.chat = false;
            let guard = if sealed { viewer_guard() } else { Guard::new() };
            engine.watch_livestream(STREAM, options, guard, birth.now).unwrap();
            engine
        });
    }
    world.run_for(Duration::from_secs(2));
    let max = world.host(SOURCE).unwrap().media_bytes_max(STREAM).unwrap();
    let sizes: Vec<usize> = [0, 1, 2, 1_000, 1_100, 1_150, 1_165, 1_166, 1_200, 2_330, 5_000, 20_000, 60_000]
        .into_iter()
        .chain((500..60_000).step_by(997))
        .chain([max / 4, max / 3, max / 2, max - 1_000, max - 1, max])
        .collect();
    for (number, &bytes) in sizes.iter().enumerate() {
        publish(&mut world, number as u64, bytes);
        world.run_for(Duration::from_millis(50));
    }
    world.run_for(Duration::from_secs(3));
    let log = world.observer();
    let quiet = log.lagged.is_empty() && log.blamed.is_empty() && log.other_offences.is_empty();
    assert!(quiet, "lagged {:?}, blamed {:?}, {:?}", log.lagged, log.blamed, log.other_offences);
    for node in [1, 2] {
        for (number, &bytes) in sizes.iter().enumerate() {
            let got = log.frames.get(&node).and_then(|frames| frames.get(&(number as u64)));
            let same = got.is_some_and(|body| *body == payload(number as u64, bytes));
            let length = got.map(Bytes::len);
            assert!(same, "viewer {node}, {bytes} of {max} bytes: {length:?}; {:?}", stats(&world, node));
        }
    }
    println!("sealed {sealed}, redundancy {redundancy_percent} %: frames up to {max} bytes");
}

#[test]
fn frames_up_to_the_limit_go_through_unsealed() {
    frames_of_all_sizes(false, 100);
}

#[test]
fn frames_up_to_the_limit_go_through_sealed() {
    frames_of_all_sizes(true, 100);
}

#[test]
fn frames_up_to_the_limit_go_through_with_parity() {
    frames_of_all_sizes(false, 125);
    frames_of_all_sizes(true, 125);
}

/// What one viewer is sent of ten groups of the scene's stream of 2.5 Mbit/s: all bytes, and those of seals and the bytes that
/// say how long they are.
fn bytes_sent(sealed: bool) -> (u64, u64) {
    const VIEWER: NodeId = 1;
    const SEAL_LENGTH_BYTES: u64 = 2;
    let (scene, now) = (LivestreamScene::new(1), Instant::from_secs(1));
    let config = RelayConfig {
        frame_bytes_max: Config::large().frame_bytes_max,
        upload_bytes_per_s: 1 << 30,
        retained_bytes_max: 1 << 20,
        in_order: false,
        keyframe_interval: Duration::from_secs(1),
    };
    let rate = scene.stream_bytes_per_s();
    let facts = StreamFacts { epoch: Epoch(1), stripes: 1, rate_bytes_per_s: rate, deadline: scene.deadline };
    let mut relay = Relay::source(SOURCE, STREAM, config, facts, 100, now);
    if sealed {
        relay = relay.sealed(Seals::source(signer(), keys(), Blake3));
    }
    let (tracks, keyframes) = (u64::MAX, u64::MAX);
    let attach = Attach { swarm: STREAM, stripes: 1, tracks, keyframes, feeds: 0, planned: 0, token: 1 };
    let mut actions = Vec::new();
    relay.handle_message(VIEWER, ForestMessage::Attach(attach), None, now, &mut actions);
    actions.clear();
    for number in 0..600 {
        let keyframe = number % 60 == 0;
        let payload = payload(number, scene.frame_bytes(0, number, keyframe));
        let captured = now + Duration::from_micros(number * 1_000_000 / u64::from(scene.fps));
        let publish = Publish { track: 8, keyframe, captured, deadline: None, payload };
        relay.publish(publish, captured, &mut actions);
    }
    let (mut all, mut seals) = (0, 0);
    for action in actions {
        let RelayAction::Pass { to: VIEWER, frame, .. } = action else { continue };
        all += frame.len() as u64;
        let (_, message) = FrameReader::new(&frame, now).unwrap().next::<NodeId>().unwrap().unwrap();
        let Message::Forest(ForestMessage::Chunk(chunk)) = message else { panic!("{message:?}") };
        let seal = chunk.seal.len() as u64;
        seals += if seal == 0 { 0 } else { seal + SEAL_LENGTH_BYTES };
    }
    (all, seals)
}

#[test]
fn seals_are_a_fiftieth_of_the_bytes() {
    let (plain, none) = bytes_sent(false);
    let (sealed, seals) = bytes_sent(true);
    assert_eq!(none, 0);
    assert!(seals > 600 * (64 + 16), "{seals} bytes of seals for 600 frames");
    // Frames that need a chunk more for the seal pay for its header, too.
    let percent_of = |part: u64| part as f64 * 100.0 / sealed as f64;
    println!(
        "seals: {:.3} % of {sealed} bytes, with the headers of additional chunks {:.3} %",
        percent_of(seals),
        percent_of(sealed - plain)
    );
    assert!((sealed - plain) * 1_000 <= sealed * 22, "{plain} bytes plain, {sealed} sealed");
}
