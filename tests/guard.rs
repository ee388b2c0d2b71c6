//! Rights and signatures are enforced in the receive path: what is refused is not delivered and not forwarded, and the
//! sender is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use suffuse::authority::{AuthorityLimits, AuthoritySet, Policy, VerifyLimits, WriteRefusal};
use suffuse::sim::{NetworkConfig, NodeId, Observer, World};
use suffuse::wire::{Data, FrameWriter, GossipMessage, Message};
use suffuse::{
    CommandError, Config, Engine, Epoch, Event, Guard, Input, Instant, Offence, Priority, PublishOptions,
    Seed, Signature, Signer, StateId, StateRange, SwarmId, TopicOptions, Verifier,
};

const SWARM: SwarmId = SwarmId::from_name("guarded");
const STATE: StateId = StateId(1);

#[derive(Default)]
struct Log {
    delivered: Vec<(NodeId, NodeId, Bytes)>,
    offences: Vec<(NodeId, NodeId, Offence)>,
}

impl Observer for Log {
    fn event(&mut self, node: NodeId, _now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => self.delivered.push((node, update.id.origin, update.payload.clone())),
            Event::Misbehaved { peer, offence } => self.offences.push((node, *peer, *offence)),
            _ => {}
        }
    }
}

type Net = World<Engine<NodeId>, Log>;

/// A world of `nodes`, all in the topic, each with the guard that `guard` gives it.
fn net(nodes: u64, seed: u64, mut guard: impl FnMut(NodeId) -> Guard<NodeId>) -> Net {
    let mut net = World::with_observer(NetworkConfig::default(), Seed::from_u64(seed), Log::default());
    for _ in 0..nodes {
        net.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::small(), birth.seed, birth.now).unwrap();
            let contact = (birth.node > 0).then_some(0);
            let options = TopicOptions::through(contact);
            engine.join_guarded_topic(SWARM, options, guard(birth.node), birth.now).unwrap();
            engine
        });
        net.run_for(Duration::from_millis(50));
    }
    net.run_for(Duration::from_secs(5));
    net
}

fn publish(net: &mut Net, node: NodeId, state: StateId, text: &'static str) -> Result<(), CommandError> {
    let body = Bytes::from_static(text.as_bytes());
    let publish = |engine: &mut Engine<NodeId>, now| {
        engine.publish(SWARM, state, body, PublishOptions::default(), now).map(drop)
    };
    let result = net.with_host(node, publish).unwrap();
    net.run_for(Duration::from_secs(5));
    result
}

fn rights(policy: Policy<NodeId>) -> AuthoritySet<NodeId> {
    AuthoritySet::new(SWARM, 1, policy, AuthorityLimits::default())
}

/// A keyed hash instead of a signature scheme: enough to tell the right key from a wrong one.
struct Key(u64);

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Signature {
        let digest = message.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
        });
        Signature::new(&digest.to_le_bytes()).unwrap()
    }
}

/// Peer `n` has key `n + 1000`.
#[derive(Clone, Default)]
struct Keys {
    checks: Arc<AtomicU64>,
}

impl Verifier<NodeId> for Keys {
    fn verify(&self, peer: &NodeId, message: &[u8], signature: &[u8]) -> bool {
        self.checks.fetch_add(1, Ordering::Relaxed);
        Key(peer + 1_000).sign(message).as_bytes() == signature
    }
}

fn signed(node: NodeId) -> Guard<NodeId> {
    Guard::new().signed(Key(node + 1_000), Keys::default())
}

#[test]
fn only_the_owner_of_an_exclusive_topic_is_heard() {
    // Node 5 ignores the rules; nobody else does.
    let mut net = net(12, 1, |node| match node {
        5 => Guard::new(),
        _ => Guard::new().authority(rights(Policy::Exclusive { owner: 1 })),
    });
    publish(&mut net, 1, STATE, "from the owner").unwrap();
    assert_eq!(net.observer().delivered.len(), 11);

    let refused = CommandError::NotAuthorized(WriteRefusal::NoRight);
    assert_eq!(publish(&mut net, 2, STATE, "from a guest"), Err(refused));
    assert_eq!(net.observer().delivered.len(), 11);

    publish(&mut net, 5, STATE, "from a rebel").unwrap();
    net.run_for(Duration::from_secs(30));
    assert_eq!(net.observer().delivered.len(), 11, "an unauthorised update was delivered");
    let offences = &net.observer().offences;
    assert!(!offences.is_empty());
    // Only neighbours of the rebel ever saw it: nobody passed it on, and nobody asked for it again.
    assert!(offences.iter().all(|(_, peer, offence)| (*peer, *offence) == (5, Offence::NotAuthorized)));
    let refused: u64 = net
        .hosts()
        .filter_map(|(_, host)| host.topic_stats(SWARM))
        .map(|stats| stats.guard.unauthorized)
        .sum();
    assert_eq!(refused, offences.len() as u64);
    assert!(refused <= 8, "{refused} refusals: it was sent again and again");
}

#[test]
fn rights_change_while_the_topic_runs() {
    let mut net = net(6, 2, |_| Guard::new().authority(rights(Policy::Open)));
    publish(&mut net, 3, STATE, "before").unwrap();
    assert_eq!(net.observer().delivered.len(), 5);

    // The founder mutes node 3 for a minute; every host hears of it in its own way and does the same.
    let everybody: Vec<_> = net.hosts().map(|(node, _)| node).collect();
    let until = net.now() + Duration::from_secs(60);
    for &node in &everybody {
        let mute = |engine: &mut Engine<NodeId>, now| {
            let change = |set: &mut AuthoritySet<NodeId>, changes: &mut Vec<_>| {
                set.mute(1, 3, StateRange::ALL, Some(until), now, changes)
            };
            engine.change_authority(SWARM, change, now)
        };
        net.with_host(node, mute).unwrap().unwrap();
    }
    let refused = CommandError::NotAuthorized(WriteRefusal::Muted);
    assert_eq!(publish(&mut net, 3, STATE, "while muted"), Err(refused));
    net.run_until(until + Duration::from_secs(1));
    publish(&mut net, 3, STATE, "after").unwrap();
    assert_eq!(net.observer().delivered.len(), 10);
}

#[test]
fn in_a_signed_topic_everybody_relays_and_nobody_forges() {
    let mut net = net(12, 3, |node| match node {
        // A listener without a key of its own relays like the others.
        4 => Guard::new().verified(Keys::default()),
        _ => signed(node),
    });
    publish(&mut net, 7, STATE, "signed").unwrap();
    assert_eq!(net.observer().delivered.len(), 11);
    assert_eq!(publish(&mut net, 4, STATE, "unsigned"), Err(CommandError::NoSigner));

    // A neighbour of node 2 makes up updates of node 9: without a signature, with another's, and with a real one on
    // changed content.
    let neighbor = net.host(2).unwrap().neighbors(SWARM)[0];
    let genuine = Data {
        origin: 9u64,
        epoch: Epoch(0),
        sequence: 0,
        state: STATE,
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 3,
        pulled: false,
        flood: false,
        born: net.now(),
        body: Bytes::from_static(b"forged"),
        signature: Bytes::new(),
    };
    let mut scratch = Vec::new();
    let by_another = suffuse::authority::sign_update(SWARM, &genuine, &Key(1_003), &mut scratch);
    let by_nine = suffuse::authority::sign_update(SWARM, &genuine, &Key(1_009), &mut scratch);
    let forgeries = [
        genuine.clone(),
        Data { signature: Bytes::copy_from_slice(by_another.as_bytes()), ..genuine.clone() },
        Data {
            signature: Bytes::copy_from_slice(by_nine.as_bytes()),
            body: Bytes::from_static(b"changed"),
            ..genuine.clone()
        },
    ];
    for forgery in forgeries {
        let mut writer = FrameWriter::new(200);
        writer.push(SWARM.tag(), &Message::Gossip(GossipMessage::Data(forgery)), net.now());
        let frame = writer.finish();
        net.with_host(2, |engine, now| engine.handle_input(Input::Received { from: neighbor, frame }, now));
        net.run_for(Duration::from_secs(2));
    }
    assert_eq!(net.observer().delivered.len(), 11, "a forgery was delivered");
    assert_eq!(net.observer().offences, [(2, neighbor, Offence::BadSignature); 3]);
    // And the real one is not shut out by the forgeries.
    publish(&mut net, 9, STATE, "the real first one").unwrap();
    assert_eq!(net.observer().delivered.len(), 22);
}

#[test]
fn a_late_joiner_of_a_signed_topic_can_check_what_is_kept() {
    let mut net = net(6, 4, signed);
    for text in ["one", "two", "three"] {
        publish(&mut net, 2, STATE, text).unwrap();
    }
    let keys = Keys::default();
    let checks = keys.checks.clone();
    let late = net.add(|birth| {
        let mut engine = Engine::new(birth.node, Config::small(), birth.seed, birth.now).unwrap();
        let guard = Guard::new().verified(keys);
        engine.join_guarded_topic(SWARM, TopicOptions::through([0]), guard, birth.now).unwrap();
        engine
    });
    net.run_for(Duration::from_secs(10));
    let got = net.observer().delivered.iter().filter(|(node, _, _)| *node == late).count();
    assert_eq!(got, 3);
    assert_eq!(checks.load(Ordering::Relaxed), 3);
    assert_eq!(net.host(late).unwrap().fingerprint(SWARM), net.host(2).unwrap().fingerprint(SWARM));
}

#[test]
fn a_flood_of_forgeries_costs_what_the_budget_says() {
    let mut limits = VerifyLimits::default();
    (limits.peer_per_s, limits.peer_burst) = (10, 5);
    let keys = Keys::default();
    let checks = keys.checks.clone();
    let mut config = Config::small();
    // Else the forger would be refused after its fourth: see `defence.rs`.
    config.score.refuse_points = 1_000_000;
    let mut engine = Engine::new(1u64, config, Seed::from_u64(5), Instant::ZERO).unwrap();
    let guard = Guard::new().verified(keys).verify_limits(limits);
    engine.join_guarded_topic(SWARM, TopicOptions::first(), guard, Instant::ZERO).unwrap();
    let mut now = Instant::ZERO;
    for sequence in 0..1_000 {
        now += Duration::from_millis(1);
        let data = Data {
            origin: 9u64,
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
            body: Bytes::from_static(b"x"),
            signature: Bytes::from_static(b"nonsense"),
        };
        let mut writer = FrameWriter::new(100);
        writer.push(SWARM.tag(), &Message::Gossip(GossipMessage::Data(data)), now);
        engine.handle_input(Input::Received { from: 2, frame: writer.finish() }, now);
        while engine.poll_output().is_some() {}
    }
    let stats = engine.topic_stats(SWARM).unwrap().guard;
    assert!((10..=16).contains(&checks.load(Ordering::Relaxed)), "{checks:?} checks in a second");
    assert_eq!(stats.forged, checks.load(Ordering::Relaxed));
    assert_eq!(stats.postponed, 1_000 - stats.forged);
}

#[test]
fn a_topic_without_rights_has_none_to_change() {
    let mut engine = Engine::new(1u64, Config::small(), Seed::from_u64(6), Instant::ZERO).unwrap();
    engine.join_topic(SWARM, TopicOptions::first(), Instant::ZERO).unwrap();
    let change =
        |set: &mut AuthoritySet<u64>, changes: &mut Vec<_>| set.ban(1, 2, None, Instant::ZERO, changes);
    let error = engine.change_authority(SWARM, change, Instant::ZERO);
    assert_eq!(error, Err(CommandError::NoAuthority(SWARM)));
    assert!(engine.authority(SWARM).is_none());
}
