//! Large updates in signed topics: every chunk is checked before it is passed on.

use std::time::Duration;

use bytes::Bytes;
use suffuse::authority::ChunkHasher;
use suffuse::sim::{Fault, NetworkConfig, NodeId, Observer, World};
use suffuse::wire::{Data, FrameReader, FrameWriter, GossipMessage, Message};
use suffuse::{
    CommandError, Config, Engine, Event, Guard, Input, Instant, LagReason, Offence, PublishOptions, Seed,
    Signature, Signer, StateId, SwarmId, TopicOptions, Verifier,
};

const SWARM: SwarmId = SwarmId::from_name("large and signed");

#[derive(Default)]
struct Seen {
    delivered: Vec<(NodeId, Bytes)>,
    lagged: Vec<(NodeId, LagReason)>,
    offences: Vec<(NodeId, NodeId, Offence)>,
}

impl Observer for Seen {
    fn event(&mut self, node: NodeId, _now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => self.delivered.push((node, update.payload.clone())),
            Event::Lagged { reason, .. } => self.lagged.push((node, *reason)),
            Event::Misbehaved { peer, offence } => self.offences.push((node, *peer, *offence)),
            _ => {}
        }
    }
}

fn fold(seed: u64, bytes: &[u8]) -> u64 {
    let step =
        |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    bytes.iter().fold(seed, step)
}

/// A keyed hash instead of a signature scheme: enough to tell the right key from a wrong one.
struct Key(u64);

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(&fold(self.0, message).to_le_bytes()).unwrap()
    }
}

struct Keys;

impl Verifier<NodeId> for Keys {
    fn verify(&self, peer: &NodeId, message: &[u8], signature: &[u8]) -> bool {
        Key(peer + 1_000).sign(message).as_bytes() == signature
    }
}

struct Hash;

impl ChunkHasher for Hash {
    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&fold(1, bytes).to_le_bytes());
        hash[8..].copy_from_slice(&fold(2, bytes).to_le_bytes());
        hash
    }
}

fn signed(node: NodeId) -> Guard<NodeId> {
    Guard::new().signed(Key(node + 1_000), Keys).chunk_hasher(Hash)
}

type Net = World<Engine<NodeId>, Seen>;

fn net(nodes: u64, seed: u64, guard: impl Fn(NodeId) -> Guard<NodeId>) -> Net {
    let mut net = World::with_observer(NetworkConfig::default(), Seed::from_u64(seed), Seen::default());
    for _ in 0..nodes {
        net.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::small(), birth.seed, birth.now).unwrap();
            let options = TopicOptions::through((birth.node > 0).then_some(0));
            engine.join_guarded_topic(SWARM, options, guard(birth.node), birth.now).unwrap();
            engine
        });
        net.run_for(Duration::from_millis(50));
    }
    net.run_for(Duration::from_secs(5));
    net
}

fn body(bytes: usize) -> Bytes {
    (0..bytes as u64).map(|place| fold(place, b"body") as u8).collect()
}

fn publish(net: &mut Net, node: NodeId, body: Bytes) -> Result<(), CommandError> {
    let publish = |engine: &mut Engine<NodeId>, now| {
        engine.publish(SWARM, StateId(1), body, PublishOptions::default(), now).map(drop)
    };
    net.with_host(node, publish).unwrap()
}

fn assert_delivered(net: &Net, body: &Bytes, readers: impl IntoIterator<Item = NodeId>, seed: u64) {
    let mut got: Vec<_> = net.observer().delivered.iter().map(|(node, _)| *node).collect();
    got.sort_unstable();
    assert_eq!(got, readers.into_iter().collect::<Vec<_>>(), "seed {seed}");
    assert!(net.observer().delivered.iter().all(|(_, got)| got == body), "seed {seed}: another body");
}

#[test]
fn bodies_with_none_one_and_two_levels_of_pages_arrive() {
    for bytes in [5_000, 60_000, 1_500_000] {
        let mut net = net(6, 1, signed);
        let body = body(bytes);
        publish(&mut net, 2, body.clone()).unwrap();
        net.run_for(Duration::from_secs(10));
        assert_delivered(&net, &body, [0, 1, 3, 4, 5], 1);
        assert!(net.observer().offences.is_empty(), "{:?}", net.observer().offences);
    }
}

/// Flips a bit in each chunk of a frame.
fn spoil(now: Instant, frame: Bytes) -> Bytes {
    let mut reader = FrameReader::new(&frame, now).unwrap();
    let mut writer = FrameWriter::new(frame.len());
    while let Some(Ok((swarm, message))) = reader.next::<NodeId>() {
        let message = match message {
            Message::Gossip(GossipMessage::Chunk(mut chunk)) => {
                let mut spoilt = chunk.body.to_vec();
                spoilt[0] ^= 1;
                chunk.body = Bytes::from(spoilt);
                Message::Gossip(GossipMessage::Chunk(chunk))
            }
            other => other,
        };
        writer.push(swarm.unwrap_or(SWARM.tag()), &message, now);
    }
    writer.finish()
}

#[test]
fn forged_chunks_go_no_further_and_name_their_sender() {
    for seed in 1..4 {
        let mut net = net(12, seed, signed);
        net.set_fault(4, Some(Fault::Filter(Box::new(|now, _, frame| Some(spoil(now, frame))))));
        let body = body(200_000);
        publish(&mut net, 7, body.clone()).unwrap();
        net.run_for(Duration::from_secs(20));
        assert_delivered(&net, &body, (0..12).filter(|&node| node != 7), seed);
        let offences = &net.observer().offences;
        assert!(!offences.is_empty(), "seed {seed}: the forger was never asked");
        // Had anybody passed on what was forged, it would be named, too.
        let by_forger =
            |(_, peer, offence): &(NodeId, NodeId, Offence)| (*peer, *offence) == (4, Offence::BadChunk);
        assert!(offences.iter().all(by_forger), "seed {seed}: {offences:?}");
    }
}

#[test]
fn a_manifest_is_no_update_and_cannot_be_changed() {
    let mut net = net(3, 1, signed);
    let captured = std::sync::Arc::new(std::sync::Mutex::new(None));
    let theirs = captured.clone();
    let capture = move |now: Instant, _: NodeId, frame: Bytes| {
        let mut reader = FrameReader::new(&frame, now).unwrap();
        while let Some(Ok((_, message))) = reader.next::<NodeId>() {
            if let Message::Gossip(GossipMessage::Manifest(data)) = message {
                *theirs.lock().unwrap() = Some(data);
            }
        }
        None
    };
    net.set_fault(1, Some(Fault::Filter(Box::new(capture))));
    publish(&mut net, 1, body(9_000)).unwrap();
    let genuine: Data<NodeId> = captured.lock().unwrap().clone().unwrap();
    let mut longer = genuine.body.to_vec();
    longer[0] ^= 1;
    let forgeries = [
        GossipMessage::Data(genuine.clone()),
        GossipMessage::Manifest(Data { body: Bytes::from(longer), ..genuine.clone() }),
        GossipMessage::Manifest(Data { sequence: 1, ..genuine }),
    ];
    for (count, forgery) in (1..).zip(forgeries) {
        net.with_host(0, |engine, now| {
            let mut writer = FrameWriter::new(1_200);
            writer.push(SWARM.tag(), &Message::Gossip(forgery), now);
            engine.handle_input(Input::Received { from: 2, frame: writer.finish() }, now);
        });
        let offences = &net.observer().offences;
        assert_eq!(offences.len(), count, "{offences:?}");
        assert_eq!(offences[count - 1], (0, 2, Offence::BadSignature));
    }
    assert!(net.observer().delivered.is_empty());
}

#[test]
fn without_a_hasher_large_updates_are_refused_and_told() {
    // Node 2 has a signer, but cannot check chunks.
    let mut net = net(4, 1, |node| match node {
        2 => Guard::new().signed(Key(1_002), Keys),
        _ => signed(node),
    });
    assert_eq!(publish(&mut net, 2, body(9_000)), Err(CommandError::NoChunkHasher));
    let body = body(9_000);
    publish(&mut net, 1, body.clone()).unwrap();
    net.run_for(Duration::from_secs(5));
    assert_delivered(&net, &body, [0, 3], 1);
    assert_eq!(net.observer().lagged, [(2, LagReason::NoRoom)]);
}
