//! Peers that offend, flood, bring nothing, or come in crowds; and those that do none of it.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use common::{Dice, SWARM, drain, frame, ms};
use suffuse::gossip::{Gossip, GossipAction};
use suffuse::log::RangeSet;
use suffuse::sim::{Fault, NetworkConfig, NodeId, World};
use suffuse::wire::{Data, GossipMessage, MembershipMessage, Message, NeighborRequest, SourceRanges};
use suffuse::{
    CommandError, Config, Engine, Epoch, Input, Instant, Offence, Output, Priority, PublishOptions,
    Retention, Seed, StateId, TopicOptions,
};

const T0: Instant = Instant::from_secs(100);

fn received(from: u64, frame: Bytes) -> Input<u64> {
    Input::Received { from, frame }
}

fn please(request: NeighborRequest<u64>) -> Bytes {
    frame(&[Message::Membership(MembershipMessage::Neighbor { swarm: SWARM, request })], T0)
}

/// Engine 0, a member of the topic with these neighbours.
fn member(config: Config, neighbors: impl IntoIterator<Item = u64>) -> Engine<u64> {
    let mut engine = Engine::new(0, config, Seed::from_u64(1), T0).unwrap();
    engine.join_topic(SWARM, TopicOptions::first(), T0).unwrap();
    for peer in neighbors {
        engine.handle_input(received(peer, please(NeighborRequest::High)), T0);
        assert!(engine.neighbors(SWARM).contains(&peer));
    }
    drain(&mut engine, T0);
    engine
}

fn noise() -> Bytes {
    Bytes::from_static(&[9, 9, 9, 9])
}

/// Sends noise from peer 1 until it is refused; returns how much it took.
fn offend(engine: &mut Engine<u64>, now: Instant) -> usize {
    (1..100)
        .find(|_| {
            engine.handle_input(received(1, noise()), now);
            engine.refused_count() == 1
        })
        .expect("never refused")
}

#[test]
fn an_offender_is_cut_off_refused_for_a_while_and_longer_each_time() {
    let mut engine = member(Config::medium(), [1, 2]);
    assert_eq!(offend(&mut engine, T0), 20);
    assert!(drain(&mut engine, T0).contains(&Output::Disconnect { peer: 1 }));
    assert_eq!(engine.neighbors(SWARM), [2], "what it offended on is no link any more");

    // Neither its frames nor its connections are looked at.
    let later = T0 + ms(59_000);
    let before = *engine.stats();
    engine.handle_input(received(1, please(NeighborRequest::High)), later);
    engine.handle_input(Input::PeerConnected { peer: 1 }, later);
    assert!(drain(&mut engine, later).contains(&Output::Disconnect { peer: 1 }));
    let stats = *engine.stats();
    assert_eq!(stats.messages_received, before.messages_received);
    assert_eq!(stats.refused_contacts, before.refused_contacts + 2);
    assert_eq!(stats.peers_refused, 1);

    // It may come back, on probation.
    let again = T0 + ms(60_001);
    engine.handle_input(received(1, please(NeighborRequest::High)), again);
    assert_eq!(engine.neighbors(SWARM), [1, 2]);
    assert!(offend(&mut engine, again) < 20);
    engine.handle_input(received(1, please(NeighborRequest::High)), again + ms(119_000));
    assert_eq!(engine.neighbors(SWARM), [2]);
    engine.handle_input(received(1, please(NeighborRequest::High)), again + ms(121_000));
    assert_eq!(engine.neighbors(SWARM), [1, 2]);
}

#[test]
fn a_gross_flood_is_refused_within_its_first_second_and_a_slight_excess_is_not() {
    for (times, refused) in [(100u64, true), (2, false)] {
        let mut config = Config::medium();
        config.link.inbound_frames_per_s = 100;
        let mut engine = member(config, [1]);
        let gap = Duration::from_micros(1_000_000 / (100 * times));
        for number in 0..200 * times {
            engine.handle_input(received(1, please(NeighborRequest::Low)), T0 + gap * number as u32);
        }
        let is_refused = engine.refused_count() == 1;
        assert_eq!(is_refused, refused, "after two seconds at {times} times the budget");
        assert!(engine.stats().frames_over_budget > 0 || !refused);
    }
}

#[test]
fn peers_that_never_offended_are_not_refused_when_others_are() {
    let mut config = Config::medium();
    config.score.refused_max = 8;
    let mut engine = member(config, [200]);
    for peer in 1..100 {
        for _ in 0..20 {
            engine.handle_input(received(peer, noise()), T0);
        }
        drain(&mut engine, T0);
    }
    assert_eq!(engine.refused_count(), 8, "as many as are remembered");
    assert_eq!((engine.stats().peers_refused, engine.neighbors(SWARM)), (99, vec![200]));
}

#[test]
fn a_crowd_from_one_network_gets_two_places() {
    let mut dice = Dice::new(1);
    for seed in 1..=20 {
        let mut engine = Engine::new(0, Config::medium(), Seed::from_u64(seed), T0).unwrap();
        engine.join_topic(SWARM, TopicOptions::first(), T0).unwrap();
        let (crowd, honest) = (1_000..1_060u64, 1..5u64);
        let mut now = T0;
        for round in 0..20 {
            for sybil in crowd.clone() {
                now += ms(dice.below(20));
                // Some addresses are told before the first frame, some after it.
                let address = Input::PeerAddress { peer: sybil, prefix: 7 };
                let request = if dice.percent(50) { NeighborRequest::High } else { NeighborRequest::Low };
                let asks = received(sybil, please(request));
                let inputs = if sybil % 2 == 0 { [address, asks] } else { [asks, address] };
                inputs.into_iter().for_each(|input| engine.handle_input(input, now));
                drain(&mut engine, now);
                let sybils = engine.neighbors(SWARM).iter().filter(|peer| crowd.contains(peer)).count();
                assert!(sybils <= 2, "seed {seed}, round {round}: {sybils} of the crowd");
            }
            engine.handle_timeout(now);
        }
        for peer in honest.clone() {
            engine.handle_input(Input::PeerAddress { peer, prefix: 100 + peer }, now);
            engine.handle_input(received(peer, please(NeighborRequest::Low)), now);
        }
        let neighbors = engine.neighbors(SWARM);
        assert!(honest.clone().all(|peer| neighbors.contains(&peer)), "seed {seed}: {neighbors:?}");
        assert!(engine.topic_stats(SWARM).unwrap().views.crowded > 0);
    }
}

#[test]
fn a_swarm_surrounded_by_a_crowd_stays_in_one_piece() {
    // Half of the nodes share one address prefix, and the host of every node knows it.
    let (honest, sybils) = (24u64, 24u64);
    let mut world: World<Engine<NodeId>> = World::new(NetworkConfig::default(), Seed::from_u64(3));
    for node in 0..honest + sybils {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::medium(), birth.seed, birth.now).unwrap();
            for peer in (0..honest + sybils).filter(|&peer| peer != birth.node) {
                let prefix = if peer < honest { peer } else { 1_000 };
                engine.handle_input(Input::PeerAddress { peer, prefix }, birth.now);
            }
            let contacts = (birth.node > 0).then_some(0);
            engine.join_topic(SWARM, TopicOptions::through(contacts), birth.now).unwrap();
            engine
        });
        world.run_for(ms(20 + node % 7));
    }
    world.run_for(Duration::from_secs(20));
    for node in 0..honest {
        let neighbors = world.host(node).unwrap().neighbors(SWARM);
        let crowd = neighbors.iter().filter(|&&peer| peer >= honest).count();
        assert!(crowd <= 2 && neighbors.len() >= 4, "node {node}: {neighbors:?}");
    }
    let mut reached = std::collections::BTreeSet::from([0]);
    let mut queue = vec![0];
    while let Some(node) = queue.pop() {
        let neighbors = world.host(node).unwrap().neighbors(SWARM);
        queue.extend(neighbors.into_iter().filter(|&peer| peer < honest && reached.insert(peer)));
    }
    assert_eq!(reached.len() as u64, honest, "the honest hold together without the crowd");
}

// --- budgets ------------------------------------------------------------------------------------------------------

fn gossip(neighbors: u64) -> Gossip<u64> {
    let config = Config::medium().gossip;
    let mut gossip = Gossip::new(0, Epoch(0), config, Retention::default(), 1_200, Seed::from_u64(1));
    (1..=neighbors).for_each(|peer| gossip.neighbor_up(peer, T0));
    gossip
}

fn source(origin: u64, sequences: std::ops::Range<u64>) -> SourceRanges<u64> {
    SourceRanges { origin, epoch: Epoch(0), ranges: RangeSet::from(sequences) }
}

fn update(origin: u64, sequence: u64, pulled: bool) -> GossipMessage<u64> {
    GossipMessage::Data(Data {
        origin,
        epoch: Epoch(0),
        sequence,
        state: StateId(0),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 0,
        pulled,
        flood: false,
        born: T0,
        body: Bytes::from_static(b"body"),
        signature: Bytes::new(),
    })
}

#[test]
fn wants_beyond_the_budget_are_not_served_and_told_once_a_second() {
    let mut gossip = gossip(2);
    let mut actions = Vec::new();
    for _ in 0..100 {
        gossip.publish(StateId(0), Bytes::from_static(b"x"), PublishOptions::default(), T0, &mut actions);
    }
    let (mut sent, mut told) = (0, 0);
    for number in 0..3_000u64 {
        actions.clear();
        let want = GossipMessage::Want { graft: false, sources: vec![source(0, 0..100)] };
        gossip.handle_message(1, want, T0 + ms(number), &mut actions);
        for action in &actions {
            match action {
                GossipAction::Send { to: 1, message: GossipMessage::Data(_), .. } => sent += 1,
                GossipAction::Misbehaved { peer: 1, offence: Offence::Flooding } => told += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    // 2,000 a second for three seconds, and a second's worth at once.
    assert!((7_900..=8_200).contains(&sent), "{sent} updates sent");
    assert!((2..=3).contains(&told), "told {told} times");
    assert!(gossip.stats().over_budget > 2_800);
    // Its budget is its own.
    actions.clear();
    let want = GossipMessage::Want { graft: false, sources: vec![source(0, 0..100)] };
    gossip.handle_message(2, want, T0 + ms(3_000), &mut actions);
    assert_eq!(actions.len(), 100);
}

#[test]
fn made_up_origins_pass_at_their_rate_only() {
    let mut gossip = gossip(2);
    let mut actions = Vec::new();
    for number in 0..20_000u64 {
        gossip.handle_message(1, update(1_000 + number, 0, false), T0 + ms(number / 10), &mut actions);
    }
    // 256 a second for two seconds, and sixteen seconds' worth at once.
    let known = gossip.log().len();
    assert!(known <= 4_096 && gossip.stats().delivered <= 4_096 + 520, "{known} sources");
    assert!(gossip.stats().over_budget >= 15_000);
    let flooding = |action: &GossipAction<u64>| {
        matches!(action, GossipAction::Misbehaved { peer: 1, offence: Offence::Flooding })
    };
    assert!(actions.iter().any(flooding));
}

#[test]
fn long_lists_are_charged_by_their_length() {
    let mut gossip = gossip(1);
    let mut actions = Vec::new();
    let list: Vec<_> = (0..40).map(|origin| source(origin + 10, 0..1)).collect();
    for _ in 0..2_000 {
        gossip.handle_message(1, GossipMessage::Have { sources: list.clone() }, T0, &mut actions);
    }
    let heard = gossip.stats().haves_received;
    assert_eq!(heard, (2 * 8_192u64).div_ceil(40), "two seconds' worth of sources at once");
    assert_eq!(gossip.stats().over_budget, 2_000 - heard);
}

// --- those that bring nothing -------------------------------------------------------------------------------------

#[test]
fn who_does_not_send_what_it_has_is_distrusted_then_parted_from() {
    let mut gossip = gossip(3);
    let (mut actions, mut now) = (Vec::new(), T0);
    let (mut distrusted_after, mut parted_after) = (None, None);
    for number in 0..20u64 {
        // Both have it; peer 1 never answers, peer 2 always does.
        for peer in [1, 2] {
            let have = GossipMessage::Have { sources: vec![source(50, number..number + 1)] };
            gossip.handle_message(peer, have, now, &mut actions);
        }
        for _ in 0..200 {
            now += ms(10);
            gossip.handle_timeout(now, &mut actions);
            for action in std::mem::take(&mut actions) {
                match action {
                    GossipAction::Send { to: 2, message: GossipMessage::Want { .. }, .. } => {
                        gossip.handle_message(2, update(50, number, true), now, &mut actions);
                    }
                    GossipAction::Part { peer } => {
                        assert_eq!(peer, 1);
                        parted_after.get_or_insert(gossip.stats().wants_unanswered);
                    }
                    _ => {}
                }
            }
        }
        if gossip.distrusted().any(|peer| peer == 1) {
            distrusted_after.get_or_insert(gossip.stats().wants_unanswered);
        }
        assert!(gossip.distrusted().all(|peer| peer == 1), "update {number}");
    }
    assert_eq!(gossip.stats().delivered, 20);
    let distrusted_after = distrusted_after.expect("it was trusted to the end");
    assert!((4..=6).contains(&distrusted_after), "after {distrusted_after} silences");
    assert_eq!(gossip.stats().distrusted, 1);
    // Once distrusted it is hardly asked any more, so it stays where it is unless it is the only one to ask.
    assert!(gossip.stats().wants_unanswered <= distrusted_after + 2 && parted_after.is_none());

    for number in 20..40u64 {
        let have = GossipMessage::Have { sources: vec![source(50, number..number + 1)] };
        gossip.handle_message(1, have, now, &mut actions);
        for _ in 0..100 {
            now += ms(10);
            gossip.handle_timeout(now, &mut actions);
        }
    }
    assert!(actions.contains(&GossipAction::Part { peer: 1 }));
}

/// Nodes that publish in turn, some of which forward nothing; returns whom the others have found out, how often they blamed
/// somebody, and how often they parted from somebody.
fn swarm_with(freeloaders: u64, nodes: u64, loss_ppm: u32, seed: u64) -> (BTreeSet<NodeId>, u64, u64) {
    let mut network = NetworkConfig::default();
    network.loss_ppm = loss_ppm;
    let mut world: World<Engine<NodeId>> = World::new(network, Seed::from_u64(seed));
    for node in 0..nodes {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::medium(), birth.seed, birth.now).unwrap();
            let contacts = (birth.node > 0).then_some(0);
            engine.join_topic(SWARM, TopicOptions::through(contacts), birth.now).unwrap();
            engine
        });
        if node >= nodes - freeloaders {
            world.set_fault(node, Some(Fault::Freeload));
        }
        world.run_for(ms(20));
    }
    world.run_for(Duration::from_secs(10));
    let mut found = BTreeSet::new();
    for number in 0..300u64 {
        let payload = Bytes::from(number.to_le_bytes().to_vec());
        world.with_host(number % 3, |host, now| {
            host.publish(SWARM, StateId(1), payload, PublishOptions::default(), now).unwrap();
        });
        world.run_for(ms(100));
        let honest = world.hosts().filter(|&(node, _)| node < nodes - freeloaders);
        found.extend(honest.flat_map(|(_, host)| host.distrusted(SWARM)));
    }
    world.run_for(Duration::from_secs(10));
    let of_honest = world.hosts().filter(|&(node, _)| node < nodes - freeloaders);
    let stats: Vec<_> = of_honest.map(|(_, host)| host.topic_stats(SWARM).unwrap()).collect();
    let distrusted = stats.iter().map(|stats| stats.gossip.distrusted).sum();
    let parted = stats.iter().map(|stats| stats.views.parted).sum();
    assert!(stats.iter().all(|stats| stats.gossip.published + stats.gossip.delivered == 300), "seed {seed}");
    (found, distrusted, parted)
}

#[test]
fn freeloaders_are_found_out_and_nobody_else_is() {
    for seed in 1..=3 {
        let (found, distrusted, _) = swarm_with(10, 50, 0, seed);
        assert!(distrusted >= 8 && found.len() >= 8, "seed {seed}: {distrusted} times, {found:?}");
        assert!(found.iter().all(|&node| node >= 40), "seed {seed}: somebody is honest of {found:?}");
    }
    for loss_ppm in [0, 50_000] {
        let (_, distrusted, parted) = swarm_with(0, 50, loss_ppm, 2);
        // Of 50 nodes with 8 neighbours each, hardly a link, and none is given up for it.
        let most = if loss_ppm == 0 { 0 } else { 4 };
        assert!(
            distrusted <= most && parted == 0,
            "loss {loss_ppm}: {distrusted} distrusted, {parted} parted"
        );
    }
}

#[test]
fn an_offence_in_one_topic_costs_the_neighbour_its_part_as_feeder() {
    let mut engine = member(Config::medium(), [1, 2]);
    for _ in 0..4 {
        engine.handle_input(received(1, noise()), T0);
    }
    assert_eq!(engine.topic_stats(SWARM).unwrap().gossip.distrusted, 1);
    let outputs = drain(&mut engine, T0);
    let malformed = |output: &&Output<u64>| {
        matches!(output, Output::Event(suffuse::Event::Misbehaved { offence: Offence::Malformed(_), .. }))
    };
    assert_eq!(outputs.iter().filter(malformed).count(), 4);
}

// --- what is urgent -----------------------------------------------------------------------------------------------

/// A swarm of `nodes` with the configuration, joined through node 0 and calm.
fn calm_swarm(nodes: u64, config: &Config, seed: u64) -> World<Engine<NodeId>, suffuse::sim::Deliveries> {
    let deliveries = suffuse::sim::Deliveries::default();
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(seed), deliveries);
    for _ in 0..nodes {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, config.clone(), birth.seed, birth.now).unwrap();
            let contacts = (birth.node > 0).then_some(0);
            engine.join_topic(SWARM, TopicOptions::through(contacts), birth.now).unwrap();
            engine
        });
        world.run_for(ms(50));
    }
    world.run_for(Duration::from_secs(20));
    world
}

/// Publishes at node 0; returns the name of the update.
fn say(
    world: &mut World<Engine<NodeId>, suffuse::sim::Deliveries>,
    priority: Priority,
    bytes: usize,
) -> suffuse::UpdateId<NodeId> {
    let options = PublishOptions { priority, ..PublishOptions::default() };
    let published = world.with_host(0, |host, now| {
        (host.publish(SWARM, StateId(1), Bytes::from(vec![1; bytes]), options, now).unwrap(), now)
    });
    let (id, now) = published.unwrap();
    world.observer_mut().published(id, now);
    id
}

#[test]
fn an_urgent_update_overtakes_what_waits_on_every_hop() {
    for seed in 1..=3 {
        let mut config = Config::medium();
        config.egress.upload_bytes_per_s = Some(30_000);
        let mut world = calm_swarm(30, &config, seed);
        // The tree is warm and every uplink has seconds of bulk to send.
        let bulk: Vec<_> = (0..150).map(|_| say(&mut world, Priority::Background, 1_000)).collect();
        world.run_for(ms(1_500));
        let urgent = say(&mut world, Priority::Urgent, 200);
        world.run_for(Duration::from_secs(120));
        let deliveries = world.observer_mut();
        let urgent = deliveries.reach(&urgent).unwrap();
        assert_eq!(urgent.nodes, 29, "seed {seed}");
        assert!(urgent.hops_max >= 2, "seed {seed}: there was no hop to overtake on");
        let later = bulk.iter().filter(|id| deliveries.reach(id).is_some_and(|bulk| bulk.last > urgent.last));
        let later = later.count();
        assert!(later >= 75, "seed {seed}: {later} of 150 came after it");
        // A frame under way on each hop, a link each, and one missed push at most.
        assert!(urgent.spread() < ms(1_500), "seed {seed}: it took {:?}", urgent.spread());
    }
}

#[test]
fn urgent_alerts_go_over_every_link_and_others_along_the_tree() {
    let config = Config::alerts();
    let mut world = calm_swarm(60, &config, 4);
    let copies = |world: &World<Engine<NodeId>, suffuse::sim::Deliveries>| {
        let stats = world.hosts().map(|(_, host)| host.topic_stats(SWARM).unwrap().gossip);
        stats.fold((0, 0), |(bodies, new), gossip| (bodies + gossip.bodies_received, new + gossip.delivered))
    };
    let played = |world: &mut World<_, _>, priority| {
        let before = copies(world);
        for _ in 0..30 {
            let id = say(world, priority, 100);
            world.run_for(ms(200));
            let reach = world.observer_mut().reach(&id).unwrap();
            // Flooding takes the shortest way of all, in time.
            assert!(
                priority != Priority::Urgent || (reach.nodes == 59 && reach.spread() <= ms(150)),
                "{reach:?}"
            );
        }
        let after = copies(world);
        (after.0 - before.0) as f64 / (after.1 - before.1) as f64
    };
    let flooded = played(&mut world, Priority::Urgent);
    assert!((3.0..=8.0).contains(&flooded), "{flooded} copies of each");
    let pushed = played(&mut world, Priority::High);
    assert!((1.3..=2.6).contains(&pushed), "{pushed} copies of each");
    // It does not teach the trees anything wrong.
    let again = played(&mut world, Priority::Urgent);
    assert!((3.0..=8.0).contains(&again), "{again} copies of each");
}

#[test]
fn an_urgent_update_may_ask_for_every_link_and_no_other() {
    let bodies = |world: &World<Engine<NodeId>, suffuse::sim::Deliveries>| {
        let stats = world.hosts().map(|(_, host)| host.topic_stats(SWARM).unwrap().gossip);
        stats.fold((0, 0, 0), |(bodies, new, flooded), gossip| {
            let flooded = flooded + gossip.bodies_flooded;
            (bodies + gossip.bodies_received, new + gossip.delivered, flooded)
        })
    };
    for (allowed, payload) in [(true, 100), (true, 20_000), (false, 100)] {
        let mut config = Config::medium();
        config.gossip.flood_on_request = allowed;
        let mut world = calm_swarm(30, &config, 5);
        let mut played = |priority, flood| {
            let before = bodies(&world);
            let mut refused = 0;
            for _ in 0..10 {
                let options = PublishOptions { priority, flood, ..PublishOptions::default() };
                let publish = |host: &mut Engine<NodeId>, now| {
                    let body = Bytes::from(vec![1; payload]);
                    host.publish(SWARM, StateId(1), body, options, now)
                };
                refused += u32::from(world.with_host(0, publish).unwrap() == Err(CommandError::Flood));
                world.run_for(ms(300));
            }
            let after = bodies(&world);
            let copies = (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64;
            (copies, after.2 - before.2, refused)
        };
        assert_eq!(played(Priority::Normal, true).2, 10, "it is not urgent");
        let (copies, flooded, _) = played(Priority::Urgent, false);
        assert!(copies < 1.2 && flooded == 0, "{copies} copies of each that did not ask");
        let (copies, flooded, refused) = played(Priority::Urgent, true);
        if !allowed {
            assert_eq!((refused, flooded), (10, 0));
        } else if payload <= 4_096 {
            assert!((3.0..=8.0).contains(&copies), "{copies} copies of each");
            assert!(flooded >= 10 * 30 * 3, "{flooded} sent");
        } else {
            // Of a large one its manifest, not its chunks.
            assert!(copies < 1.2 && flooded >= 10 * 30 * 3, "{copies} copies, {flooded} sent");
        }
        let (copies, flooded, _) = played(Priority::Urgent, false);
        assert!(copies < 1.2 && flooded == 0, "{copies} copies: it has taught the trees something wrong");
    }
}

#[test]
fn who_forbids_floods_passes_on_along_trees_what_asks_for_one() {
    let flooded = |allowed, priority| {
        let mut config = Config::medium().gossip;
        config.flood_on_request = allowed;
        let mut gossip =
            Gossip::<u64>::new(0, Epoch(0), config, Retention::default(), 1_200, Seed::from_u64(1));
        (1..=10).for_each(|peer| gossip.neighbor_up(peer, T0));
        let GossipMessage::Data(data) = update(50, 0, false) else { unreachable!() };
        let mut actions = Vec::new();
        let message = GossipMessage::Data(Data { flood: true, priority, ..data });
        gossip.handle_message(1, message, T0, &mut actions);
        let sent = |action: &&GossipAction<u64>| matches!(action, GossipAction::Send { message: GossipMessage::Data(data), .. } if data.flood);
        (actions.iter().filter(sent).count(), gossip.stats().bodies_flooded)
    };
    assert_eq!(flooded(true, Priority::Urgent), (9, 9));
    for (allowed, priority) in [(false, Priority::Urgent), (true, Priority::High)] {
        let (sent, counted) = flooded(allowed, priority);
        assert!(sent < 9 && counted == 0, "{sent} sent, {allowed} {priority:?}");
    }
}

#[test]
fn redundancy_rises_where_updates_come_late_and_falls_again() {
    let mut config = Config::medium().gossip;
    config.adaptive_threshold_permille = Some(990);
    let mut gossip = Gossip::<u64>::new(0, Epoch(0), config, Retention::default(), 1_200, Seed::from_u64(1));
    (1..=4).for_each(|peer| gossip.neighbor_up(peer, T0));
    let (mut actions, mut now) = (Vec::new(), T0);
    let mut hear = |gossip: &mut Gossip<u64>, numbers: std::ops::Range<u64>, pulled: bool| {
        for number in numbers {
            now += ms(50);
            gossip.handle_message(1, update(60, number, pulled), now, &mut actions);
            actions.clear();
        }
        gossip.redundancy_percent()
    };
    assert_eq!(hear(&mut gossip, 0..256, false), 100);
    assert_eq!(hear(&mut gossip, 256..1_000, true), 300);
    assert_eq!(hear(&mut gossip, 1_000..4_000, false), 100);
    assert!(gossip.stats().redundancy_changes >= 8);
}
