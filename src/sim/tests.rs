use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use bytes::Bytes;

use super::*;
use crate::id::{Epoch, Priority, StateId, SwarmId, UpdateId};
use crate::io::Update;
use crate::rng::{Rng, Seed};
use crate::wire::{Data, FrameReader, FrameWriter, GossipMessage, Message};

const SWARM: SwarmId = SwarmId(1);

/// Forwards each new update to its peers, and beats once a second.
struct Flood {
    node: NodeId,
    peers: Vec<NodeId>,
    seen: BTreeSet<UpdateId<NodeId>>,
    next_beat: Instant,
    published: u64,
    outputs: VecDeque<Output<NodeId>>,
    inputs: Vec<(Instant, Input<NodeId>)>,
    log: bool,
}

impl Flood {
    fn new(birth: Birth, nodes: u64, peers: usize) -> Self {
        let mut rng = Rng::new(birth.seed);
        Self {
            node: birth.node,
            peers: (0..peers).map(|_| rng.between(0, nodes)).filter(|&peer| peer != birth.node).collect(),
            seen: BTreeSet::new(),
            next_beat: birth.now + Duration::from_micros(rng.between(1, 1_000_000)),
            published: 0,
            outputs: VecDeque::new(),
            inputs: Vec::new(),
            log: false,
        }
    }

    fn publish(&mut self, now: Instant, payload: Bytes) -> Published {
        let id = UpdateId { swarm: SWARM, origin: self.node, epoch: Epoch(0), sequence: self.published };
        self.published += 1;
        self.forward(&data(id, now, payload.clone()), now);
        Published { id, state: StateId(0), payload }
    }

    fn forward(&mut self, data: &Data<NodeId>, now: Instant) {
        let mut writer = FrameWriter::new(data.body.len() + 64);
        writer.push(SWARM.tag(), &Message::Gossip(GossipMessage::Data(data.clone())), now);
        let frame = writer.finish();
        for &to in &self.peers {
            self.outputs.push_back(Output::Send { to, frame: frame.clone(), class: Class::Normal });
        }
    }

    fn received(&mut self, frame: &Bytes, now: Instant) {
        let Ok(mut reader) = FrameReader::new(frame, now) else { return };
        while let Some(Ok((_, message))) = reader.next::<NodeId>() {
            let Message::Gossip(GossipMessage::Data(mut data)) = message else { continue };
            let Data { origin, epoch, sequence, .. } = data;
            let id = UpdateId { swarm: SWARM, origin, epoch, sequence };
            if origin != self.node && self.seen.insert(id) {
                data.hops += 1;
                self.outputs.push_back(Output::Event(Event::Delivered(delivered(id, &data))));
                self.forward(&data, now);
            }
        }
    }
}

fn data(id: UpdateId<NodeId>, born: Instant, body: Bytes) -> Data<NodeId> {
    let UpdateId { origin, epoch, sequence, .. } = id;
    Data {
        origin,
        epoch,
        sequence,
        state: StateId(0),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 0,
        pulled: false,
        flood: false,
        signature: Bytes::new(),
        born,
        body,
    }
}

fn delivered(id: UpdateId<NodeId>, data: &Data<NodeId>) -> Update<NodeId> {
    Update {
        id,
        state: data.state,
        priority: data.priority,
        keyframe: data.keyframe,
        layer: data.layer,
        hops: data.hops,
        born: data.born,
        payload: data.body.clone(),
    }
}

impl Host<NodeId> for Flood {
    fn handle_input(&mut self, input: Input<NodeId>, now: Instant) {
        if let Input::Received { frame, .. } = &input {
            self.received(frame, now);
        }
        if self.log {
            self.inputs.push((now, input));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        assert_eq!(now, self.next_beat, "woken early or late");
        self.next_beat += Duration::from_secs(1);
    }

    fn poll_output(&mut self) -> Option<Output<NodeId>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.next_beat)
    }
}

fn flood_world(nodes: u64, config: NetworkConfig, seed: u64) -> World<Flood, (Checkers, Deliveries)> {
    let mut checkers = Checkers::new();
    checkers.add(ExactlyOnce::new());
    checkers.add(NothingForged::new().with_age_max(Duration::from_secs(5)).with_epochs_in_order());
    checkers.add(Complete::new(Duration::from_secs(2)));
    let observer = (checkers, Deliveries::new());
    let mut world = World::with_observer(config, Seed::from_u64(seed), observer);
    for _ in 0..nodes {
        let node = world.add(|birth| Flood::new(birth, nodes, 16));
        world.observer_mut().0.joined(Instant::ZERO, node, SWARM);
    }
    world
}

fn publish(
    world: &mut World<Flood, (Checkers, Deliveries)>,
    node: NodeId,
    payload: &'static [u8],
) -> Published {
    let published =
        world.with_host(node, |host, now| host.publish(now, Bytes::from_static(payload))).unwrap();
    let now = world.now();
    world.observer_mut().0.published(now, &published);
    world.observer_mut().1.published(published.id, now);
    published
}

fn lossy() -> NetworkConfig {
    NetworkConfig {
        loss_ppm: 20_000,
        duplicate_ppm: 20_000,
        reorder_ppm: 20_000,
        jitter: Duration::from_millis(2),
        upload_bits_per_s: NonZeroU64::new(5_000_000),
        ..NetworkConfig::default()
    }
}

fn trace_of(seed: u64) -> (u64, Metrics) {
    let mut world = flood_world(60, lossy(), seed);
    for node in 0..20 {
        publish(&mut world, node, b"some payload");
        world.run_for(Duration::from_millis(37));
    }
    world.crash(7);
    world.run_for(Duration::from_secs(1));
    world.restart(7, |birth| Flood::new(birth, 60, 16));
    world.run_for(Duration::from_secs(3));
    (world.trace_hash(), world.metrics().clone())
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    assert_eq!(trace_of(1), trace_of(1));
    assert_ne!(trace_of(1).0, trace_of(2).0);
}

#[test]
fn the_trace_is_the_same_on_every_platform_and_in_every_build() {
    assert_eq!(trace_of(1).0, GOLDEN_TRACE);
}

const GOLDEN_TRACE: u64 = 9_398_015_950_075_437_295;

#[test]
fn every_node_gets_every_update_and_the_checkers_agree() {
    let mut world = flood_world(200, NetworkConfig::default(), 3);
    world.meter_payload(body_bytes);
    world.metrics_mut().watch_windows();
    for node in 0..10 {
        publish(&mut world, node, b"0123456789");
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_secs(4));
    let now = world.now();
    world.observer_mut().0.finish(now);
    assert_eq!(world.observer().0.violations().next(), None);
    let deliveries = &world.observer().1;
    assert_eq!(deliveries.count(), 10 * 199);
    assert!(deliveries.latency_us().min().unwrap() >= 10_000);
    assert!(deliveries.reaches().all(|(_, reach)| reach.nodes == 199 && reach.hops_max < 8));
    let total = world.metrics().total();
    assert_eq!(total.payload_bytes, total.frames * 10);
    assert_eq!(world.metrics().arrived(), total.frames);
    let node_bytes: u64 = (0..200).map(|node| world.metrics().node_wire_bytes(node)).sum();
    assert_eq!(node_bytes, total.wire_bytes);
    assert!(world.metrics().busiest_second(0).unwrap() > 0);
}

#[test]
fn an_update_that_loss_swallowed_is_missing() {
    let mut world = flood_world(3, NetworkConfig { loss_ppm: 1_000_000, ..NetworkConfig::default() }, 1);
    let published = publish(&mut world, 1, b"lost");
    world.run_for(Duration::from_secs(3));
    let now = world.now();
    world.observer_mut().0.finish(now);
    let found: Vec<_> = world.observer().0.violations().map(|found| (found.node, found.update)).collect();
    assert_eq!(found, [(0, Some(published.id)), (2, Some(published.id))]);
}

/// Does what it is told and notes what it hears.
#[derive(Default)]
struct Puppet {
    outputs: VecDeque<Output<NodeId>>,
    heard: Vec<(Instant, Input<NodeId>)>,
    /// Asks to be woken then, for ever.
    deadline: Option<Instant>,
}

impl Puppet {
    fn send(&mut self, to: NodeId, bytes: &[u8]) {
        let frame = Bytes::copy_from_slice(bytes);
        self.outputs.push_back(Output::Send { to, frame, class: Class::Control });
    }

    fn frames(&self) -> Vec<&[u8]> {
        let frame = |(_, input): &'_ (Instant, Input<NodeId>)| matches!(input, Input::Received { .. });
        let heard = self.heard.iter().filter(|heard| frame(heard));
        heard
            .map(|(_, input)| if let Input::Received { frame, .. } = input { &frame[..] } else { &[] })
            .collect()
    }
}

impl Host<NodeId> for Puppet {
    fn handle_input(&mut self, input: Input<NodeId>, now: Instant) {
        self.heard.push((now, input));
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_output(&mut self) -> Option<Output<NodeId>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }
}

fn puppets(nodes: usize, config: NetworkConfig) -> World<Puppet> {
    let mut world = World::new(config, Seed::from_u64(9));
    for _ in 0..nodes {
        world.add(|_| Puppet::default());
    }
    world
}

fn send(world: &mut World<Puppet>, from: NodeId, to: NodeId, bytes: &[u8]) {
    world.with_host(from, |host, _| host.send(to, bytes)).unwrap();
}

fn connect(world: &mut World<Puppet>, from: NodeId, to: NodeId) {
    world.with_host(from, |host, _| host.outputs.push_back(Output::Connect { peer: to })).unwrap();
}

fn heard(world: &World<Puppet>, node: NodeId) -> &[(Instant, Input<NodeId>)] {
    &world.host(node).unwrap().heard
}

fn reliable() -> NetworkConfig {
    NetworkConfig { reliable: true, ..NetworkConfig::default() }
}

#[test]
fn a_frame_arrives_after_the_latency_of_its_pair() {
    let mut world = puppets(2, NetworkConfig::default());
    send(&mut world, 0, 1, b"a");
    world.run_for(Duration::from_secs(1));
    let at = Instant::ZERO + world.network().latency(0, 1);
    assert_eq!(heard(&world, 1), [(at, Input::Received { from: 0, frame: Bytes::from_static(b"a") })]);
}

#[test]
fn frames_leave_one_after_another_and_a_long_queue_is_cut() {
    let mut world = puppets(
        2,
        NetworkConfig {
            upload_bits_per_s: NonZeroU64::new(1_000_000),
            uplink_queue: Duration::from_millis(25),
            ..NetworkConfig::default()
        },
    );
    world.with_host(0, |host, _| (0..9).for_each(|_| host.send(1, &[0; 1_222])));
    world.run_for(Duration::from_secs(1));
    // 1,250 bytes at 1 Mbit/s take 10 ms; a frame is accepted while at most 25 ms wait.
    let latency = world.network().latency(0, 1);
    let expected: Vec<_> = [10, 20, 30].map(|ms| Instant::from_millis(ms) + latency).into();
    assert_eq!(heard(&world, 1).iter().map(|heard| heard.0).collect::<Vec<_>>(), expected);
    assert_eq!(world.metrics().dropped(DropReason::UplinkFull), 6);
    assert_eq!(world.metrics().total().wire_bytes, 3 * 1_250);
}

#[test]
fn duplicates_are_counted() {
    let mut world = puppets(2, NetworkConfig { duplicate_ppm: 1_000_000, ..NetworkConfig::default() });
    (0..10).for_each(|_| send(&mut world, 0, 1, b"a"));
    world.run_for(Duration::from_secs(1));
    assert_eq!(heard(&world, 1).len(), 20);
    assert_eq!((world.metrics().duplicated(), world.metrics().arrived()), (10, 20));
    assert_eq!(world.metrics().total().frames, 10);
}

#[test]
fn losses_are_counted() {
    let mut world = puppets(2, NetworkConfig { loss_ppm: 100_000, ..NetworkConfig::default() });
    (0..10_000).for_each(|_| send(&mut world, 0, 1, b"a"));
    world.run_for(Duration::from_secs(1));
    let lost = world.metrics().dropped(DropReason::Loss);
    assert!((850..1_150).contains(&lost), "{lost}");
    assert_eq!(lost + world.metrics().arrived(), 10_000);
}

#[test]
fn a_partition_blocks_both_ways_until_it_heals() {
    let mut world = puppets(4, NetworkConfig::default());
    world.partition(|node| (node / 2) as u8);
    for (from, to) in [(0, 2), (2, 0), (0, 1), (3, 2)] {
        send(&mut world, from, to, b"a");
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!([0, 1, 2, 3].map(|node| heard(&world, node).len()), [0, 1, 1, 0]);
    assert_eq!(world.metrics().dropped(DropReason::Partition), 2);
    world.heal();
    send(&mut world, 0, 2, b"b");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.host(2).unwrap().frames(), [b"a", b"b"]);
}

#[test]
fn a_crash_is_silent_and_swallows_what_had_not_left() {
    let config = NetworkConfig { upload_bits_per_s: NonZeroU64::new(80_000), ..NetworkConfig::default() };
    let mut world = puppets(2, config);
    // 100 bytes on the wire take 10 ms.
    world.with_host(0, |host, _| (0..5).for_each(|_| host.send(1, &[0; 72])));
    world.run_for(Duration::from_millis(25));
    world.crash(0);
    send(&mut world, 1, 0, b"anybody there?");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.host(1).unwrap().frames().len(), 2);
    assert_eq!(world.metrics().dropped(DropReason::Unsent), 3);
    assert_eq!(world.metrics().dropped(DropReason::Down), 1);
    assert!(!world.is_up(0) && world.with_host(0, |_, _| ()).is_none());

    world.restart(0, |birth| {
        assert_eq!((birth.node, birth.life), (0, 1));
        Puppet::default()
    });
    send(&mut world, 1, 0, b"hello again");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.host(0).unwrap().frames(), [b"hello again"]);
}

#[test]
fn a_farewell_still_leaves() {
    let mut world = puppets(2, NetworkConfig::default());
    world.leave(0, Duration::ZERO, |host, _| host.send(1, b"bye"));
    assert!(!world.is_up(0));
    world.leave(0, Duration::ZERO, |_, _| unreachable!());
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.host(1).unwrap().frames(), [b"bye"]);

    world.leave(1, Duration::from_secs(1), |_, _| ());
    world.run_for(Duration::from_millis(999));
    assert!(world.is_up(1));
    world.run_for(Duration::from_millis(1));
    assert!(!world.is_up(1));
}

#[test]
fn faults_touch_what_a_node_sends() {
    let mut world = puppets(2, NetworkConfig::default());
    let mut run = |fault| {
        world.set_fault(0, fault);
        let before = world.now();
        send(&mut world, 0, 1, b"a");
        world.run_for(Duration::from_secs(1));
        let latency = world.network().latency(0, 1);
        let heard = core::mem::take(&mut world.nodes[1].host.as_mut().unwrap().heard);
        heard.into_iter().map(move |(at, input)| (at - before - latency, input)).collect::<Vec<_>>()
    };
    let with = |held, text| {
        alloc::vec![(
            Duration::from_millis(held),
            Input::Received { from: 0, frame: Bytes::from_static(text) }
        )]
    };
    assert_eq!(run(Some(Fault::Mute)), []);
    assert_eq!(run(Some(Fault::Freeload)), with(0, b"a"));
    assert_eq!(run(Some(Fault::Slow(Duration::from_millis(7)))), with(7, b"a"));
    let filter = |_, to, _| Some(if to == 1 { Bytes::from_static(b"changed") } else { Bytes::new() });
    assert_eq!(run(Some(Fault::Filter(Box::new(filter)))), with(0, b"changed"));
    assert_eq!(run(None), with(0, b"a"));
    assert_eq!(world.metrics().dropped(DropReason::Fault), 1);
}

#[test]
fn a_schedule_fires_everything_in_time() {
    let mut schedule = FaultSchedule::new();
    schedule.add(Instant::from_secs(1), Incident::Partition(alloc::vec![0, 1]));
    schedule.add(Instant::from_secs(2), Incident::Heal);
    schedule.add(Instant::from_secs(3), Incident::Crash(alloc::vec![1]));
    let mut world = puppets(2, NetworkConfig::default());
    for second in 0..4 {
        send(&mut world, 0, 1, b"a");
        world.run_with_faults(&mut schedule, Instant::from_secs(second + 1));
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!((schedule.fired(), schedule.waiting()), (3, 0));
    let drops = [DropReason::Partition, DropReason::Down].map(|reason| world.metrics().dropped(reason));
    assert_eq!((drops, world.metrics().arrived()), ([1, 1], 2));
}

#[test]
fn datagrams_need_no_connection_and_a_dialler_hears_at_once() {
    let mut world = puppets(2, NetworkConfig::default());
    connect(&mut world, 0, 1);
    connect(&mut world, 0, 77);
    let connected = |peer| (Instant::ZERO, Input::PeerConnected { peer });
    assert_eq!(heard(&world, 0), [connected(1), connected(77)]);
    assert_eq!(heard(&world, 1), []);
    send(&mut world, 0, 77, b"nobody");
    assert_eq!(world.metrics().dropped(DropReason::Down), 1);
}

#[test]
fn reliable_connections_keep_everything_in_order() {
    let config = NetworkConfig {
        loss_ppm: 200_000,
        reorder_ppm: 200_000,
        duplicate_ppm: 200_000,
        jitter: Duration::from_millis(30),
        ..reliable()
    };
    let mut world = puppets(2, config);
    connect(&mut world, 0, 1);
    world.run_for(Duration::from_secs(1));
    for number in 0..200u8 {
        send(&mut world, 0, 1, &[number]);
        world.run_for(Duration::from_millis(3));
    }
    world.run_for(Duration::from_secs(60));
    let frames = world.host(1).unwrap().frames();
    assert_eq!(frames, (0..200u8).map(|number| [number]).collect::<Vec<_>>());
    let again = world.metrics().retransmitted();
    assert!((25..80).contains(&again.frames), "{again:?}");
    assert_eq!(again.wire_bytes, again.frames * 29);
    assert_eq!(world.metrics().total().frames, 200);
}

#[test]
fn connecting_takes_a_round_trip_or_fails_after_the_timeout() {
    let mut world = puppets(4, reliable());
    world.crash(2);
    world.partition(|node| u8::from(node == 3));
    send(&mut world, 0, 1, b"too early");
    for peer in [1, 2, 3, 0, 77] {
        connect(&mut world, 0, peer);
    }
    world.run_for(Duration::from_secs(2));
    let connected = Instant::ZERO + world.network().latency(0, 1) * 2;
    let failed = Instant::from_secs(1);
    let mut at_dialler = heard(&world, 0).to_vec();
    at_dialler[1..].sort_by_key(|(at, input)| (*at, alloc::format!("{input:?}")));
    let lost = |peer| (failed, Input::PeerDisconnected { peer });
    let ok = |peer| (connected, Input::PeerConnected { peer });
    assert_eq!(at_dialler, [ok(1), lost(0), lost(2), lost(3), lost(77)]);
    assert_eq!(heard(&world, 1), [ok(0)]);
    assert_eq!(world.metrics().dropped(DropReason::NotConnected), 1);
}

#[test]
fn dialling_each_other_makes_one_connection() {
    let mut world = puppets(2, reliable());
    connect(&mut world, 0, 1);
    world.run_for(Duration::from_millis(1));
    connect(&mut world, 1, 0);
    world.run_for(Duration::from_secs(2));
    assert_eq!([heard(&world, 0).len(), heard(&world, 1).len()], [1, 1]);
    assert!(world.nodes.iter().all(|node| node.links.len() == 1));
}

#[test]
fn a_disconnect_comes_after_the_last_frame_and_leaves_no_state() {
    let mut world = puppets(2, reliable());
    connect(&mut world, 0, 1);
    world.run_for(Duration::from_secs(1));
    world.with_host(0, |host, _| {
        host.send(1, b"last");
        host.outputs.push_back(Output::Disconnect { peer: 1 });
        host.send(1, b"after the end");
    });
    world.run_for(Duration::from_secs(1));
    let inputs: Vec<_> = heard(&world, 1)[1..].iter().map(|heard| heard.1.clone()).collect();
    let last = Input::Received { from: 0, frame: Bytes::from_static(b"last") };
    assert_eq!(inputs, [last, Input::PeerDisconnected { peer: 0 }]);
    assert_eq!(world.metrics().dropped(DropReason::NotConnected), 1);
    assert!(world.nodes.iter().all(|node| node.links.is_empty()));
}

#[test]
fn a_reliable_sender_is_reset_by_a_peer_that_began_anew() {
    let mut world = puppets(2, reliable());
    connect(&mut world, 0, 1);
    world.run_for(Duration::from_secs(1));
    world.restart(1, |_| Puppet::default());
    send(&mut world, 0, 1, b"for your former self");
    world.run_for(Duration::from_secs(1));
    assert_eq!(heard(&world, 1), []);
    assert_eq!(heard(&world, 0).last().unwrap().1, Input::PeerDisconnected { peer: 1 });
}

#[test]
fn a_connection_that_met_a_dead_node_is_broken_and_reported_if_asked() {
    for (reset_after, told) in [(None, 1), (Some(Duration::from_secs(3)), 2)] {
        let mut world = puppets(2, NetworkConfig { reset_after, ..reliable() });
        connect(&mut world, 0, 1);
        world.run_for(Duration::from_secs(1));
        world.crash(1);
        send(&mut world, 0, 1, b"first");
        world.run_for(Duration::from_secs(1));
        send(&mut world, 0, 1, b"second");
        assert_eq!(world.metrics().dropped(DropReason::Down), 1);
        assert_eq!(world.metrics().dropped(DropReason::NotConnected), 1);
        world.run_for(Duration::from_secs(9));
        assert_eq!(heard(&world, 0).len(), told);
    }
}

#[test]
fn a_leaving_node_closes_its_connections() {
    let mut world = puppets(2, reliable());
    connect(&mut world, 0, 1);
    world.run_for(Duration::from_secs(1));
    world.leave(1, Duration::ZERO, |host, _| host.send(0, b"bye"));
    world.run_for(Duration::from_secs(1));
    let inputs: Vec<_> = heard(&world, 0)[1..].iter().map(|heard| heard.1.clone()).collect();
    let bye = Input::Received { from: 1, frame: Bytes::from_static(b"bye") };
    assert_eq!(inputs, [bye, Input::PeerDisconnected { peer: 1 }]);
}

#[test]
fn things_of_one_instant_keep_their_order() {
    let config = NetworkConfig {
        links: LinkModel::Uniform { min: Duration::from_millis(5), max: Duration::from_millis(5) },
        ..NetworkConfig::default()
    };
    let mut world = puppets(4, config);
    for (from, text) in [(2, b"a"), (0, b"b"), (1, b"c"), (2, b"d")] {
        send(&mut world, from, 3, text);
    }
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.host(3).unwrap().frames(), [b"a", b"b", b"c", b"d"]);
}

#[test]
#[should_panic(expected = "sentence 3 of the driving contract")]
fn a_host_that_spins_is_caught() {
    let mut world = World::new(NetworkConfig::default(), Seed::from_u64(1));
    world.add(|_| Puppet { deadline: Some(Instant::from_secs(1)), ..Puppet::default() });
    world.run_for(Duration::from_secs(2));
}

#[test]
fn a_wake_up_that_moved_later_is_not_called_early() {
    let mut world = puppets(1, NetworkConfig::default());
    let wish = |world: &mut World<Puppet>, deadline| {
        world.with_host(0, |host, _| host.deadline = deadline);
    };
    wish(&mut world, Some(Instant::from_secs(1)));
    wish(&mut world, Some(Instant::from_secs(9)));
    world.run_until(Instant::from_secs(8));
    wish(&mut world, None);
    world.run_until(Instant::from_secs(10));
    assert_eq!(world.next_at(), None);
}

#[test]
#[should_panic(expected = "there is no node 3")]
fn a_node_that_does_not_exist_is_a_mistake_of_the_test() {
    puppets(3, NetworkConfig::default()).crash(3);
}
