//! Who is a neighbour of whom: bootstrap, crashes, farewells, restarts, churn; and views under hostile messages.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use common::{Dice, SWARM, ms};
use suffuse::membership::{ViewAction, Views};
use suffuse::sim::{Birth, NetworkConfig, NodeId, Observer, SentFrame, World};
use suffuse::wire::{MembershipMessage, NeighborRequest, ViewEntry};
use suffuse::{
    Config, Engine, Epoch, GossipMode, Instant, MembershipConfig, PublishOptions, Seed, StateId, SwarmId,
    TopicOptions,
};

/// Notes who was sent to lately.
#[derive(Default)]
struct Watch {
    to: BTreeMap<NodeId, Instant>,
}

impl Observer for Watch {
    fn sent(&mut self, now: Instant, sent: &SentFrame<'_>) {
        self.to.insert(sent.to, now);
    }
}

type Swarm = World<Engine<NodeId>, Watch>;

fn member(birth: Birth, contacts: &[NodeId]) -> Engine<NodeId> {
    let mut config = Config::medium();
    config.epoch = Epoch(birth.life);
    let mut engine = Engine::new(birth.node, config, birth.seed, birth.now).unwrap();
    engine.join_topic(SWARM, TopicOptions::through(contacts.iter().copied()), birth.now).unwrap();
    engine
}

/// `count` nodes that join through node 0, all within a second, on a network with some loss.
fn joining(count: u64, loss_ppm: u32, seed: u64) -> Swarm {
    let mut network = NetworkConfig::default();
    network.loss_ppm = loss_ppm;
    let mut world = World::with_observer(network, Seed::from_u64(seed), Watch::default());
    for node in 0..count {
        let contacts = if node == 0 { vec![] } else { vec![0] };
        world.add(|birth| member(birth, &contacts));
        world.run_until(Instant::from_micros(1_000_000 * node / count));
    }
    world
}

/// A swarm that had some seconds to calm down.
fn settled(count: u64, seed: u64) -> Swarm {
    let mut world = joining(count, 0, seed);
    world.run_until(Instant::from_secs(8));
    world
}

fn views(world: &Swarm) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
    world.hosts().map(|(node, engine)| (node, engine.neighbors(SWARM).into_iter().collect())).collect()
}

/// Who is within how many links of `start`, over links that both ends know.
fn distances(views: &BTreeMap<NodeId, BTreeSet<NodeId>>, start: NodeId) -> BTreeMap<NodeId, usize> {
    let mut found = BTreeMap::from([(start, 0)]);
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for &next in &views[&node] {
            let mutual = views.get(&next).is_some_and(|view| view.contains(&node));
            if mutual && !found.contains_key(&next) {
                found.insert(next, found[&node] + 1);
                queue.push_back(next);
            }
        }
    }
    found
}

fn is_one_component(world: &Swarm) -> bool {
    let views = views(world);
    let Some(&start) = views.keys().next() else { return true };
    distances(&views, start).len() == views.len()
}

fn half_open(world: &Swarm) -> Vec<(NodeId, NodeId)> {
    let views = views(world);
    let links = views.iter().flat_map(|(&node, view)| view.iter().map(move |&peer| (node, peer)));
    links.filter(|(node, peer)| views.get(peer).is_none_or(|view| !view.contains(node))).collect()
}

/// Links that only one end knows, and for longer than a swap of links takes to travel.
fn half_open_for_long(world: &mut Swarm) -> Vec<(NodeId, NodeId)> {
    let before = half_open(world);
    world.run_for(ms(2_000));
    half_open(world).into_iter().filter(|link| before.contains(link)).collect()
}

fn mean_degree(world: &Swarm) -> f64 {
    let views = views(world);
    views.values().map(BTreeSet::len).sum::<usize>() as f64 / views.len() as f64
}

#[track_caller]
fn assert_within_caps(world: &Swarm) {
    for (node, engine) in world.hosts() {
        let (stats, config) = (engine.topic_stats(SWARM).unwrap(), &engine.config().membership);
        assert!(stats.neighbors <= config.active_max, "node {node} has {} neighbours", stats.neighbors);
        assert!(stats.passive <= config.passive_max, "node {node} knows {} peers", stats.passive);
    }
}

/// Runs until the survivors are in one piece; how long it took.
fn time_to_one_component(world: &mut Swarm, most: Duration) -> Option<Duration> {
    let begun = world.now();
    while world.now() - begun <= most {
        if is_one_component(world) {
            return Some(world.now() - begun);
        }
        world.run_for(ms(100));
    }
    None
}

// --- bootstrap ----------------------------------------------------------------------------------------------------

fn assert_good_overlay(count: u64, loss_ppm: u32, seed: u64, radius_max: usize) {
    let mut world = joining(count, loss_ppm, seed);
    world.run_until(Instant::from_secs(6));
    let views = views(&world);
    let found = distances(&views, 0);
    assert_eq!(found.len(), count as usize, "seed {seed}: not one component 5 s after the last join");
    let radius = found.values().max().copied().unwrap_or(0);
    let degree = mean_degree(&world);
    assert!(radius <= radius_max, "seed {seed}: {radius} hops from node 0");
    assert!(degree >= 7.5, "seed {seed}: mean degree {degree}");
    assert_within_caps(&world);
    if loss_ppm == 0 {
        world.run_for(ms(10_000));
        assert_eq!(half_open_for_long(&mut world), [], "seed {seed}");
    }
}

#[test]
fn three_hundred_nodes_join_through_one_contact_within_five_seconds() {
    for seed in 0..3 {
        assert_good_overlay(300, 0, seed, 6);
    }
}

#[test]
fn three_hundred_nodes_join_although_one_frame_in_twenty_is_lost() {
    for seed in 10..13 {
        assert_good_overlay(300, 50_000, seed, 6);
    }
}

#[test]
fn a_thousand_nodes_that_join_through_one_contact_are_seven_hops_apart() {
    assert_good_overlay(1_000, 0, 20, 7);
}

#[test]
fn peers_known_from_elsewhere_do_without_a_contact() {
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(5), Watch::default());
    for _ in 0..60 {
        world.add(|birth| member(birth, &[]));
    }
    for node in 0..60 {
        let peers = [(node + 1) % 60, (node + 7) % 60, (node + 23) % 60];
        world.with_host(node, |engine, now| engine.add_peers(SWARM, &peers, now)).unwrap().unwrap();
    }
    world.run_for(ms(8_000));
    assert!(is_one_component(&world));
    assert!(mean_degree(&world) >= 6.0, "{}", mean_degree(&world));
    assert_within_caps(&world);
}

// --- losses -------------------------------------------------------------------------------------------------------

#[test]
fn the_survivors_of_a_crash_of_half_the_swarm_are_one_component_again() {
    for seed in 0..2 {
        let mut world = settled(300, seed);
        let mut dice = Dice::new(seed);
        let mut alive: Vec<_> = (0..300).collect();
        for _ in 0..150 {
            world.crash(alive.swap_remove(dice.below(alive.len() as u64) as usize));
        }
        // The dead are noticed after their silence, so what comes before proves nothing.
        world.run_for(ms(5_000));
        let took = time_to_one_component(&mut world, ms(3_000));
        assert!(took.is_some(), "seed {seed}: in pieces 8 s after the crash");
        world.run_for(ms(10_000));
        let known_dead = views(&world).into_values().flatten().filter(|&peer| !world.is_up(peer)).count();
        assert_eq!(known_dead, 0, "seed {seed}: the dead are neighbours still");
        assert!(mean_degree(&world) >= 7.0, "seed {seed}: {}", mean_degree(&world));
        assert_within_caps(&world);
    }
}

#[test]
fn who_leaves_is_forgotten_at_once_and_not_probed() {
    let mut world = settled(40, 3);
    world.leave(7, ms(500), |engine, now| engine.leave(SWARM, now).unwrap());
    world.run_for(ms(500));
    for (node, view) in views(&world) {
        assert!(node == 7 || !view.contains(&7), "node {node} holds on to a peer that left");
    }
    // Others may still hear of it in a shuffle, and then ask it in vain, but nobody remembers it as lost.
    let probes = |world: &Swarm| {
        world.hosts().map(|(_, engine)| engine.topic_stats(SWARM).unwrap().views.probes_sent).sum::<u64>()
    };
    let before = probes(&world);
    world.run_for(ms(60_000));
    assert_eq!(probes(&world), before);
    let sent = world.observer().to[&7];
    assert!(world.now() - sent > ms(20_000), "node 7 was sent to at {sent:?}, after it had left");
    assert!(is_one_component(&world));
}

#[test]
fn a_crashed_peer_is_probed_and_one_that_restarts_is_found_again() {
    let mut world = settled(40, 4);
    let old = views(&world)[&9].len();
    assert!(old >= 5);
    world.crash(9);
    world.run_for(ms(20_000));
    let probes: u64 =
        world.hosts().map(|(_, engine)| engine.topic_stats(SWARM).unwrap().views.probes_sent).sum();
    assert!(probes > 0);
    // It knows nobody, but others remember it.
    world.restart(9, |birth| member(birth, &[]));
    world.run_for(ms(40_000));
    assert!(is_one_component(&world));
    assert!(views(&world)[&9].len() >= 4, "{:?}", views(&world)[&9]);
}

#[test]
fn a_restart_within_the_silence_heals_and_the_new_life_publishes() {
    for seed in 0..3 {
        let mut world = settled(40, seed);
        let publish = |engine: &mut Engine<NodeId>, now| {
            let payload = Bytes::from_static(b"x");
            engine.publish(SWARM, StateId(1), payload, PublishOptions::default(), now).unwrap()
        };
        world.with_host(9, publish).unwrap();
        world.run_for(ms(2_000));
        // The old neighbours have not missed it yet, so their links are half open now.
        world.restart(9, |birth| member(birth, &[0]));
        world.run_for(ms(5_000));
        let id = world.with_host(9, publish).unwrap();
        assert_eq!(id.epoch, Epoch(1));
        world.run_for(ms(10_000));
        assert!(is_one_component(&world), "seed {seed}");
        assert_eq!(half_open_for_long(&mut world), [], "seed {seed}");
        let fingerprints: BTreeSet<_> = world.hosts().map(|(_, engine)| engine.fingerprint(SWARM)).collect();
        assert_eq!(fingerprints.len(), 1, "seed {seed}: they do not know the same updates");
    }
}

#[test]
fn a_half_open_link_heals() {
    for seed in 0..3 {
        let mut world = settled(30, seed);
        let (node, peer) = {
            let views = views(&world);
            let (&node, view) = views.iter().next_back().unwrap();
            (node, *view.first().unwrap())
        };
        // One end believes that the transport lost the other, which knows nothing of it.
        let lost = suffuse::Input::PeerDisconnected { peer };
        world.with_host(node, |engine, now| engine.handle_input(lost, now));
        assert!(!half_open(&world).is_empty(), "seed {seed}");
        world.run_for(ms(10_000));
        assert_eq!(half_open_for_long(&mut world), [], "seed {seed}");
        assert!(is_one_component(&world), "seed {seed}");
    }
}

#[test]
fn a_swarm_cut_in_two_grows_together_again() {
    let mut world = settled(60, 6);
    world.partition(|node| u8::from(node % 2 == 0));
    world.run_for(ms(30_000));
    assert!(!is_one_component(&world));
    world.heal();
    let took = time_to_one_component(&mut world, ms(40_000));
    assert!(took.is_some(), "in two pieces 40 s after the network healed");
}

#[test]
fn random_churn_leaves_one_component_within_the_caps() {
    for seed in 0..2 {
        let mut dice = Dice::new(seed);
        let mut world = settled(80, 100 + seed);
        for _ in 0..60 {
            // Node 0 stays, so that newcomers have a contact.
            let node = 1 + dice.below(world.node_count() as u64 - 1);
            match dice.below(4) {
                0 => world.crash(node),
                1 => world.leave(node, ms(300), |engine, now| {
                    engine.leave(SWARM, now).unwrap_or_default();
                }),
                2 => world.restart(node, |birth| member(birth, &[0])),
                _ => drop(world.add(|birth| member(birth, &[0]))),
            }
            world.run_for(ms(dice.below(500)));
            let caps = world
                .hosts()
                .all(|(_, engine)| engine.neighbors(SWARM).len() <= engine.config().membership.active_max);
            assert!(caps, "seed {seed}");
        }
        world.run_for(ms(15_000));
        assert!(is_one_component(&world), "seed {seed}");
        assert_eq!(half_open_for_long(&mut world), [], "seed {seed}");
        assert!(mean_degree(&world) >= 6.5, "seed {seed}: {}", mean_degree(&world));
        assert_within_caps(&world);
    }
}

// --- how many they are --------------------------------------------------------------------------------------------

/// Asserts that everybody takes the swarm for as large as it is, give or take a quarter.
#[track_caller]
fn assert_members_known(world: &Swarm, what: &str) {
    let members = world.hosts().count() as u64;
    for (node, engine) in world.hosts() {
        let estimate = engine.topic_stats(SWARM).unwrap().members_estimated;
        let is_right = estimate.is_some_and(|estimate| estimate.abs_diff(members) * 4 <= members);
        assert!(is_right, "{what}: node {node} takes {members} members for {estimate:?}");
    }
}

#[test]
fn everybody_knows_how_many_they_are_and_soon_after_how_many_are_left() {
    // One of the halves holds the root of the shared tree.
    for (half, loss_ppm) in [(0, 0), (1, 10_000)] {
        let what = format!("half {half}, loss {loss_ppm} ppm");
        let mut world = joining(60, loss_ppm, 31);
        world.run_until(Instant::from_secs(30));
        assert_members_known(&world, &what);
        (0..60).filter(|node| node % 2 == half).for_each(|node| world.crash(node));
        world.run_for(Duration::from_secs(60));
        assert_members_known(&world, &format!("{what}, after the crash"));
        let shrunk = world.hosts().map(|(_, engine)| engine.topic_stats(SWARM).unwrap().views.shrunk);
        assert!(shrunk.min() >= Some(1), "{what}: somebody did not notice");
        let alive: Vec<_> = world.hosts().map(|(node, _)| node).collect();
        for _ in 0..60 {
            world.add(|birth| member(birth, &alive[..2]));
            world.run_for(ms(20));
        }
        world.run_for(Duration::from_secs(30));
        assert_members_known(&world, &format!("{what}, after the others came"));
    }
}

#[test]
fn a_thousand_nodes_are_counted() {
    let mut world = joining(1_000, 0, 32);
    world.run_until(Instant::from_secs(15));
    assert_members_known(&world, "a thousand");
}

#[test]
fn without_a_shared_tree_there_is_no_estimate() {
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(1), Watch::default());
    for node in 0..10 {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::small(), birth.seed, birth.now).unwrap();
            let options = TopicOptions::through((node > 0).then_some(0)).mode(GossipMode::Pull);
            engine.join_topic(SWARM, options, birth.now).unwrap();
            engine
        });
    }
    world.run_for(Duration::from_secs(20));
    assert!(world.hosts().all(|(_, engine)| engine.topic_stats(SWARM).unwrap().members_estimated.is_none()));
}

// --- those that come and go ---------------------------------------------------------------------------------------

#[test]
fn a_peer_that_comes_and_goes_breaks_fewer_links_each_time() {
    let changes = |pause: Option<Duration>| {
        let mut config = Config::medium();
        config.membership.flap_pause = pause;
        let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(7), Watch::default());
        let member = |birth: Birth, contact: Option<NodeId>| {
            let mut config = config.clone();
            config.epoch = Epoch(birth.life);
            let mut engine = Engine::new(birth.node, config, birth.seed, birth.now).unwrap();
            engine.join_topic(SWARM, TopicOptions::through(contact), birth.now).unwrap();
            engine
        };
        for node in 0..16 {
            world.add(|birth| member(birth, (node > 0).then_some(0)));
            world.run_for(ms(30));
        }
        world.run_for(Duration::from_secs(90));
        let lost = |world: &Swarm| {
            let stats = world.hosts().filter(|(node, _)| *node != 9);
            stats.map(|(_, engine)| engine.topic_stats(SWARM).unwrap().views.neighbors_lost).sum::<u64>()
        };
        let mut before = 0;
        for round in 0..24 {
            if round == 14 {
                before = lost(&world);
            }
            world.crash(9);
            world.run_for(Duration::from_secs(6));
            world.restart(9, |birth| member(birth, Some(0)));
            world.run_for(Duration::from_secs(6));
        }
        let lost = lost(&world) - before;
        // Once it stays, it is a member as any other.
        world.run_for(Duration::from_secs(400));
        assert!(
            views(&world)[&9].len() >= 4 && is_one_component(&world),
            "{pause:?}: {:?}",
            views(&world)[&9]
        );
        lost
    };
    let (damped, free) = (changes(Some(Duration::from_secs(5))), changes(None));
    assert!(damped * 2 <= free, "{damped} links broken, and {free} without damping");
}

// --- hostile messages ---------------------------------------------------------------------------------------------

#[test]
fn links_are_swapped_for_shorter_ones_and_degrees_stay() {
    let mean_latency = |world: &Swarm| {
        let views = views(world);
        let links = views.iter().flat_map(|(&node, peers)| peers.iter().map(move |&peer| (node, peer)));
        let micros = links.map(|(a, b)| world.network().latency(a, b).as_micros() as f64).collect::<Vec<_>>();
        micros.iter().sum::<f64>() / micros.len() as f64 / 1_000.0
    };
    for seed in [1, 2] {
        let mut world = settled(200, seed);
        world.run_for(Duration::from_secs(60));
        let (mean, degree) = (mean_latency(&world), mean_degree(&world));
        // A random link takes 30 ms.
        assert!(mean < 22.0, "seed {seed}: the mean link takes {mean:.1} ms");
        assert!((7.7..=8.3).contains(&degree), "seed {seed}: {degree} neighbours");
        assert!(is_one_component(&world), "seed {seed}");
        assert_eq!(half_open_for_long(&mut world), [], "seed {seed}");
        assert_within_caps(&world);
    }
}

fn random_request(dice: &mut Dice) -> NeighborRequest<u64> {
    match dice.below(3) {
        0 => NeighborRequest::Low,
        1 => NeighborRequest::High,
        _ => NeighborRequest::Replace { leaving: dice.below(40) },
    }
}

fn random_membership(dice: &mut Dice, swarm: SwarmId) -> MembershipMessage<u64> {
    let name = dice.below(40);
    let hops_left = dice.next() as u8;
    let peers: Vec<_> = (0..dice.below(100)).map(|_| dice.below(1_000)).collect();
    let entries = peers.iter().map(|&peer| ViewEntry { peer, age: dice.next() as u8 }).collect();
    match dice.below(16) {
        0 => MembershipMessage::Join { swarm, wanted: hops_left },
        1 => MembershipMessage::Walk { joiner: name, hops_left },
        2 => MembershipMessage::Offer { swarm, partner: name },
        3 | 4 => MembershipMessage::Neighbor { swarm, request: random_request(dice) },
        5 => MembershipMessage::NeighborReply { accepted: dice.percent(60), peers },
        6 => MembershipMessage::Bye { leaving: dice.percent(30) },
        7 => MembershipMessage::Shuffle { origin: name, hops_left, entries },
        8 => MembershipMessage::Measure { swarm },
        9 => MembershipMessage::Measured { longest: Some((name, u32::from(hops_left) * 1_000)) },
        10 => MembershipMessage::Swap { candidate: name, leaving: dice.below(40), gain_us: u32::MAX },
        11 => MembershipMessage::Swapped { candidate: name },
        12 => MembershipMessage::Watchers { peers },
        13 => MembershipMessage::Suspect { peer: name },
        14 => MembershipMessage::Vouch { peer: name },
        _ => MembershipMessage::ShuffleReply { entries },
    }
}

#[test]
fn views_never_exceed_their_caps_whatever_comes() {
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let mut config = MembershipConfig::default();
        config.active_target = 2 + dice.below(8) as usize;
        config.active_max = config.active_target + dice.below(3) as usize;
        config.passive_max = 4 + dice.below(50) as usize;
        config.remembered_max = dice.below(20) as usize;
        let (active_max, passive_max) = (config.active_max, config.passive_max);
        let mut now = Instant::from_secs(1);
        let mut views = Views::<u64>::new(0, SWARM, config, 1_200, Seed::from_u64(seed), now);
        let mut actions = Vec::new();
        let mut told = BTreeSet::new();
        views.join(&[1, 2, 3], now, &mut actions);
        for step in 0..600 {
            now += Duration::from_micros(dice.below(400_000));
            let peer = dice.below(40);
            match dice.below(10) {
                0 => views.peer_lost(peer, now, &mut actions),
                1 => views.refuse_stranger(peer, now, &mut actions),
                2 => views.add_peers(&[peer, peer + 1, 0], now, &mut actions),
                3 => views.handle_timeout(now, &mut actions),
                _ => {
                    let message = random_membership(&mut dice, SWARM);
                    views.handle_message(peer, message, now, &mut actions);
                }
            }
            assert!(actions.len() <= 200, "seed {seed}, step {step}: {} actions at once", actions.len());
            for action in actions.drain(..) {
                match action {
                    ViewAction::NeighborUp(peer) => assert!(told.insert(peer), "seed {seed}: up twice"),
                    ViewAction::NeighborDown(peer) => assert!(told.remove(&peer), "seed {seed}: down twice"),
                    ViewAction::Send { to, message } => {
                        // From oneself comes what no transport delivers; to oneself nothing may go.
                        let echo = peer == 0 || matches!(message, MembershipMessage::ShuffleReply { .. });
                        assert!(to != 0 || echo, "seed {seed}, step {step}: {message:?} to itself");
                    }
                    ViewAction::Beat { .. }
                    | ViewAction::Hurry(_)
                    | ViewAction::Vouched(_)
                    | ViewAction::Misbehaved { .. } => {}
                }
            }
            let active: BTreeSet<_> = views.neighbors().collect();
            assert_eq!(active, told, "seed {seed}, step {step}");
            assert!(active.len() <= active_max, "seed {seed}, step {step}: {} > {active_max}", active.len());
            assert!(!active.contains(&0), "seed {seed}, step {step}: its own neighbour");
            let passive: Vec<_> = views.passive().collect();
            assert!(passive.len() <= passive_max, "seed {seed}, step {step}");
            assert!(!passive.contains(&0), "seed {seed}, step {step}: it knows itself as a peer");
        }
        views.leave(&mut actions);
        assert_eq!((views.neighbors().count(), views.passive().count()), (0, 0), "seed {seed}");
        assert_eq!(views.poll_timeout(), None, "seed {seed}: it wants to be woken after it left");
    }
}
