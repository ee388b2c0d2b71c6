//! Parents that are slow, full, lying, or come back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use suffuse::authority::Signature;
use suffuse::forest::{CHUNK_HASH_BYTES, ChunkHasher, Seals};
use suffuse::sim::{Fault, NodeId};
use suffuse::wire::{
    Attach, Attached, Feed, ForestMessage, FrameReader, FrameWriter, Message, Plan, StreamNotice,
};
use suffuse::{
    Config, Engine, Epoch, Guard, Input, Instant, Offence, Output, Seed, Signer, StreamState, Verifier,
    WatchOptions,
};

use crate::stage::{FPS, RATE, SOURCE, STREAM, Stage, TRACKS, chunks};

/// Viewers with unequal uploads under a source that can feed few of them; the stream runs for two seconds.
fn forest(seed: u64, viewers: u64, guard: impl Fn(NodeId) -> Guard<NodeId>) -> Stage {
    let mut stage = Stage::open(seed, 5_000, RATE * 3, guard(SOURCE), |_| {});
    for node in 1..=viewers {
        stage.watch_with(RATE * (node % 4 + 1), guard(node), |_| {});
        stage.run_ms(5);
    }
    stage.run_ms(1_000);
    stage.set_state(StreamState::Active);
    stage.play(2 * FPS);
    stage
}

/// Viewers of whose frames more than one in ten took over half a second, and who feeds them.
fn delays_by_viewer(stage: &Stage, since: Instant) -> String {
    let mut text = String::new();
    for (node, frames) in &stage.log().frames {
        let recent: Vec<_> = frames.iter().filter(|frame| frame.born >= since).collect();
        let late = recent.iter().filter(|frame| frame.at - frame.born >= Duration::from_millis(500)).count();
        if late * 10 > recent.len() {
            text += &format!(" {node}: {late}/{} {:?};", recent.len(), stage.parents(*node));
        }
    }
    text
}

fn delays(stage: &Stage, except: NodeId, since: Instant) -> Vec<Duration> {
    let frames = stage.log().frames.iter().filter(|(node, _)| **node != except);
    let frames = frames.flat_map(|(_, frames)| frames).filter(|frame| frame.born >= since);
    frames.map(|frame| frame.at - frame.born).collect()
}

#[test]
fn a_slow_parent_is_left() {
    let mut stage = forest(1, 24, |_| Guard::new());
    let slow = stage.busiest();
    let fed = stage.fed_by(slow);
    assert!(fed >= 4, "the busiest relay feeds only {fed}");
    stage.world.set_fault(slow, Some(Fault::Slow(Duration::from_millis(600))));
    stage.play(8 * FPS);
    let settled = stage.now();
    stage.play(4 * FPS);
    stage.run_ms(2_500);
    let left = stage.fed_by(slow);
    let late = delays(&stage, slow, settled);
    let on_time = late.iter().filter(|delay| **delay < Duration::from_millis(500)).count();
    println!("viewer {slow} fed {fed}, then {left}; {on_time} of {} frames in half a second", late.len());
    println!("late:{}", delays_by_viewer(&stage, settled));
    assert!(left * 4 <= fed, "{left} of {fed} places are still fed by a parent that is 0.6 s late");
    assert!(on_time * 100 >= late.len() * 97, "{on_time} of {}", late.len());
    stage.log().assert_sound();
}

#[test]
fn a_parent_that_comes_back_feeds_again_and_nothing_is_lost() {
    let mut stage = forest(2, 24, |_| Guard::new());
    let silent = stage.busiest();
    let fed = stage.fed_by(silent);
    let failovers = |stage: &Stage| (1..=24).map(|node| stage.stats(node).failovers).sum::<u64>();
    let before = failovers(&stage);
    stage.world.set_fault(silent, Some(Fault::Mute));
    stage.play(FPS);
    assert!(failovers(&stage) >= before + fed as u64 / 2, "its children look for others");
    let away = stage.fed_by(silent);
    assert!(away * 4 <= fed, "{away} of {fed} still wait for it");
    stage.world.set_fault(silent, None);
    stage.play(12 * FPS);
    assert_eq!(stage.stats(SOURCE).viewers, 24, "it is in the plan again");
    // Those who come now and bring nothing need its upload.
    for _ in 0..10 {
        stage.watch(0);
    }
    stage.play(4 * FPS);
    stage.run_ms(3_000);
    let again = stage.fed_by(silent);
    println!("viewer {silent} fed {fed}, silent {away}, then {again}");
    assert!(again > 0, "its upload is of use again");
    for node in (1..=24).filter(|&node| node != silent) {
        let numbers = stage.log().numbers(node, TRACKS.visual());
        assert_eq!(numbers, (0..570).collect::<Vec<_>>(), "viewer {node}: {:?}", stage.log().lags.get(&node));
    }
    stage.log().assert_sound();
}

#[test]
fn a_source_that_declares_more_than_it_can_send_is_given_fewer_children() {
    let mut stage = Stage::open(4, 5_000, RATE * 23 / 10, Guard::new(), |options| {
        options.upload_bytes_per_s = RATE * 3;
    });
    for node in 1..=24 {
        stage.watch(RATE * (node % 4 + 1));
        stage.run_ms(5);
    }
    stage.run_ms(1_000);
    let before = stage.fed_by(SOURCE);
    stage.set_state(StreamState::Active);
    stage.play(12 * FPS);
    // Those who come later and bring nothing are not given to it either.
    for _ in 0..8 {
        stage.watch(0);
    }
    stage.play(2 * FPS);
    let settled = stage.now();
    stage.play(6 * FPS);
    stage.run_ms(2_500);
    let after = stage.fed_by(SOURCE);
    let late = delays(&stage, SOURCE, settled);
    let on_time = late.iter().filter(|delay| **delay < Duration::from_millis(500)).count();
    println!(
        "the source fed {before} places, then {after}; {on_time} of {} frames in half a second",
        late.len()
    );
    assert!(after * 30 <= before * 25, "{after} of {before} places at 2.3 of 3 times the rate");
    assert!(on_time * 100 >= late.len() * 98, "{on_time} of {}", late.len());
    stage.log().assert_sound();
}

/// A keyed sum instead of hashes and signatures: whoever does not know the key cannot make it, and it is quick.
struct Toy;

fn sum(message: &[u8]) -> u64 {
    message.iter().fold(7, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}

impl Signer for Toy {
    fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(&[sum(message).to_le_bytes(); 8].concat()).unwrap()
    }
}

impl Verifier<NodeId> for Toy {
    fn verify(&self, peer: &NodeId, message: &[u8], signature: &[u8]) -> bool {
        *peer == SOURCE && Toy.sign(message).as_bytes() == signature
    }
}

impl ChunkHasher for Toy {
    fn hash(&self, bytes: &[u8]) -> [u8; CHUNK_HASH_BYTES] {
        let half = sum(bytes).to_le_bytes();
        [half, half].concat().try_into().unwrap()
    }
}

#[test]
fn a_lying_parent_loses_its_children_and_is_named() {
    let guard = |node| match node {
        SOURCE => Guard::new().sealed(Seals::source(Toy, Toy, Toy)),
        _ => Guard::new().sealed(Seals::viewer(Toy, Toy)),
    };
    let mut stage = forest(3, 24, guard);
    let liar = stage.busiest();
    let fed = stage.fed_by(liar);
    // The last byte of every chunk is changed.
    let lie = |_, _, frame: Bytes| {
        if chunks(&frame).is_empty() {
            return Some(frame);
        }
        let mut bytes = frame.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        Some(Bytes::from(bytes))
    };
    let honest = delays(&stage, liar, Instant::ZERO);
    let on_time = honest.iter().filter(|delay| **delay < Duration::from_millis(500)).count();
    assert!(on_time * 100 >= honest.len() * 98, "sealed and honest: {on_time} of {}", honest.len());
    stage.world.set_fault(liar, Some(Fault::Filter(Box::new(lie))));
    stage.play(6 * FPS);
    let settled = stage.now();
    stage.play(4 * FPS);
    stage.run_ms(3_000);
    let left = stage.fed_by(liar);
    println!("viewer {liar} fed {fed}, then {left}");
    assert_eq!(left, 0, "{left} of {fed} places are still fed by a liar");
    let offences: Vec<_> = stage.log().offences.iter().collect();
    assert!(offences.iter().all(|(_, peer, what)| *peer == liar && *what == Offence::BadSignature));
    let blaming: BTreeSet<NodeId> = offences.iter().map(|(node, ..)| *node).collect();
    assert!(blaming.len() * 2 >= fed.min(4), "{blaming:?}");
    let planned = stage.stats(SOURCE);
    assert_eq!(planned.plan_demotions, 1, "the plan gives it no children any more");
    // No lie was delivered (the log compares payloads), and the others get the stream in time.
    let late = delays(&stage, liar, settled);
    let on_time = late.iter().filter(|delay| **delay < Duration::from_millis(500)).count();
    println!("late:{}", delays_by_viewer(&stage, settled));
    assert!(on_time * 100 >= late.len() * 98, "{on_time} of {}", late.len());
    assert!(late.len() as u64 >= 23 * 4 * FPS * 97 / 100, "{}", late.len());
    stage.log().assert_sound();
}

/// One engine, driven message by message.
struct Alone {
    engine: Engine<NodeId>,
    now: Instant,
}

impl Alone {
    fn new(local: NodeId, make: impl FnOnce(&mut Engine<NodeId>, Instant)) -> Self {
        let now = Instant::from_secs(1);
        let mut engine = Engine::new(local, Config::medium(), Seed::from_u64(local), now).unwrap();
        make(&mut engine, now);
        Self { engine, now }
    }

    fn hear(&mut self, from: NodeId, message: ForestMessage<NodeId>) {
        let mut writer = FrameWriter::new(1_200);
        writer.push(STREAM.tag(), &Message::Forest(message), self.now);
        let frame = writer.finish();
        self.engine.handle_input(Input::Received { from, frame }, self.now);
    }

    /// What it says in the next milliseconds, and to whom.
    fn says(&mut self, ms: u64) -> Vec<(NodeId, ForestMessage<NodeId>)> {
        let end = self.now + Duration::from_millis(ms);
        let mut said = Vec::new();
        loop {
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Connect { peer } => {
                        self.engine.handle_input(Input::PeerConnected { peer }, self.now);
                    }
                    Output::Send { to, frame, .. } => {
                        let mut reader = FrameReader::new(&frame, self.now).unwrap();
                        while let Some(Ok((_, message))) = reader.next::<NodeId>() {
                            if let Message::Forest(message) = message {
                                said.push((to, message));
                            }
                        }
                    }
                    _ => {}
                }
            }
            let next = self.engine.poll_timeout().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = next.max(self.now);
            self.engine.handle_timeout(self.now);
        }
        self.now = end;
        said
    }
}

fn attach(token: u32) -> ForestMessage<NodeId> {
    ForestMessage::Attach(Attach {
        swarm: STREAM,
        stripes: 1,
        tracks: u64::MAX,
        keyframes: u64::MAX,
        feeds: 0,
        planned: 0,
        token,
    })
}

#[test]
fn a_full_parent_names_its_children() {
    // Room for as many children in one stripe as its upload carries.
    let mut source = Alone::new(SOURCE, |engine, now| {
        let mut options = suffuse::BroadcastOptions::new(RATE, RATE * 3);
        (options.chat, options.stripes) = (false, Some(1));
        engine.open_livestream(STREAM, options, Guard::new(), now).unwrap();
    });
    let mut answers = BTreeMap::new();
    for child in 1..=5 {
        source.hear(child, attach(child as u32));
        for (to, message) in source.says(5) {
            if let ForestMessage::Attached(attached) = message {
                answers.insert(to, attached);
            }
        }
    }
    let accepted: Vec<NodeId> =
        answers.iter().filter(|(_, answer)| answer.accepted == 1).map(|(&to, _)| to).collect();
    assert_eq!(accepted, [1, 2], "three times the rate, less headers");
    for child in 3..=5 {
        let answer = &answers[&child];
        assert_eq!((answer.accepted, answer.token), (0, child as u32));
        assert!(!answer.redirects.is_empty(), "it names who could");
        assert!(answer.redirects.iter().all(|peer| accepted.contains(peer)), "{:?}", answer.redirects);
    }
    let stats = source.engine.livestream_stats(STREAM).unwrap();
    assert_eq!((stats.children, stats.attaches_refused), (2, 3));
}

#[test]
fn who_is_refused_goes_where_it_is_sent() {
    const PARENT: NodeId = 2;
    const BACKUP: NodeId = 3;
    const OTHER: NodeId = 4;
    let mut viewer = Alone::new(1, |engine, now| {
        let mut options = WatchOptions::new(SOURCE).upload(RATE);
        options.chat = false;
        engine.watch_livestream(STREAM, options, Guard::new(), now).unwrap();
    });
    viewer.says(5);
    viewer.hear(
        SOURCE,
        ForestMessage::Plan(Plan {
            swarm: STREAM,
            source: SOURCE,
            epoch: Epoch(0),
            stripes: 1,
            rate_bytes_per_s: RATE,
            deadline: Duration::from_secs(2),
            passes_on: None,
            version: 1,
            feeds: vec![Feed { stripe: 0, parent: PARENT, backups: vec![BACKUP] }],
        }),
    );
    let asked = |said: Vec<(NodeId, ForestMessage<NodeId>)>| -> Vec<(NodeId, u32)> {
        let ask = |(to, message)| match message {
            ForestMessage::Attach(attach) => Some((to, attach.token)),
            _ => None,
        };
        said.into_iter().filter_map(ask).collect()
    };
    let answer = |token, accepted, redirects: &[NodeId]| {
        ForestMessage::Attached(Attached {
            token,
            epoch: Epoch(0),
            clock_us: 1_000,
            accepted,
            paths: if accepted == 0 { Vec::new() } else { vec![vec![SOURCE]] },
            tracks: Vec::new(),
            redirects: redirects.to_vec(),
            state: StreamNotice { state: 1, version: 1 },
        })
    };
    let first = asked(viewer.says(5));
    assert_eq!(first.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [PARENT]);
    viewer.hear(PARENT, answer(first[0].1, 0, &[OTHER]));
    let second = asked(viewer.says(5));
    assert_eq!(second.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [BACKUP], "the planned backup first");
    viewer.hear(BACKUP, answer(second[0].1, 0, &[]));
    let third = asked(viewer.says(5));
    assert_eq!(third.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [OTHER], "then whom the parent named");
    viewer.hear(OTHER, answer(third[0].1, 1, &[]));
    viewer.says(5);
    assert_eq!(viewer.engine.stream_parents(STREAM), [Some(OTHER)]);
    let stats = viewer.engine.livestream_stats(STREAM).unwrap();
    assert_eq!((stats.stripes_fed, stats.depth_max), (1, 2));
}
