//! The ten sentences of the driving contract. Each test bears the number of the sentence that it holds the engine to.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use common::{Dice, Net, SWARM, Style, drain, frame, frame_of, is_readable, ms, sent_to};
use suffuse::wire::{
    Data, GossipMessage, LinkMessage, MembershipMessage, Message, NeighborRequest, SourceRanges, SyncItem,
    SyncKnown, ViewEntry, Wave, WireError,
};
use suffuse::{
    Class, CommandError, Config, Engine, Epoch, Event, GossipMode, Input, Instant, Offence, Output, Priority,
    PublishOptions, RangeSet, Retention, Seed, StateId, SwarmId, TopicOptions,
};

const T0: Instant = Instant::from_secs(10);

fn data(origin: u64, sequence: u64, body: &'static [u8]) -> Data<u64> {
    Data {
        origin,
        epoch: Epoch(0),
        sequence,
        state: StateId(1),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 0,
        pulled: false,
        flood: false,
        signature: Bytes::new(),
        born: T0,
        body: Bytes::from_static(body),
    }
}

fn data_message(origin: u64, sequence: u64) -> Message<u64> {
    Message::Gossip(GossipMessage::Data(data(origin, sequence, b"body")))
}

fn source(origin: u64, range: std::ops::Range<u64>) -> SourceRanges<u64> {
    SourceRanges { origin, epoch: Epoch(0), ranges: RangeSet::from(range) }
}

fn please(request: NeighborRequest<u64>) -> Message<u64> {
    Message::Membership(MembershipMessage::Neighbor { swarm: SWARM, request })
}

fn received(from: u64, frame: Bytes) -> Input<u64> {
    Input::Received { from, frame }
}

/// Engine 0, a member of the topic with these neighbours, drained.
fn member(config: Config, neighbors: impl IntoIterator<Item = u64>) -> Engine<u64> {
    let mut engine = Engine::new(0, config, Seed::from_u64(1), T0).unwrap();
    engine.join_topic(SWARM, TopicOptions::first(), T0).unwrap();
    for peer in neighbors {
        engine.handle_input(received(peer, frame(&[please(NeighborRequest::High)], T0)), T0);
        drain(&mut engine, T0);
        assert!(engine.neighbors(SWARM).contains(&peer));
    }
    engine
}

fn publish(engine: &mut Engine<u64>, bytes: usize, now: Instant) -> Result<u64, CommandError> {
    let payload = Bytes::from(vec![7; bytes]);
    engine.publish(SWARM, StateId(1), payload, PublishOptions::default(), now).map(|id| id.sequence)
}

/// A swarm in which everybody publishes some updates of several sizes.
fn busy_swarm(style: Style, seed: u64, asks: u32, traced: bool) -> Net {
    let mut net = Net::new(style, seed);
    net.asks = asks;
    net.trace = traced.then(String::new);
    for _ in 0..10 {
        net.add(Config::small());
        net.run(ms(50));
    }
    net.run(ms(3_000));
    for round in 0..40 {
        net.publish(round % 10, Bytes::from(vec![round as u8; 1 + 25 * round as usize]));
        net.run(ms(37));
    }
    net.run(ms(10_000));
    net
}

// --- 1 ------------------------------------------------------------------------------------------------------------

#[test]
fn contract_1_inputs_may_be_batched_and_every_update_still_comes_exactly_once() {
    for style in [Style::Exact, Style::Batched(ms(20)), Style::Batched(ms(250))] {
        for seed in 0..3 {
            busy_swarm(style, seed, 1, false).assert_exactly_once();
        }
    }
}

#[test]
fn contract_1_thousands_of_inputs_before_the_first_drain_are_all_answered_in_order() {
    let mut engine = member(Config::medium(), [1]);
    for sequence in 0..5_000 {
        engine.handle_input(received(1, frame(&[data_message(7, sequence)], T0)), T0);
    }
    let delivered: Vec<_> = drain(&mut engine, T0)
        .iter()
        .filter_map(|output| match output {
            Output::Event(Event::Delivered(update)) => Some(update.id.sequence),
            _ => None,
        })
        .collect();
    assert_eq!(delivered, (0..5_000).collect::<Vec<_>>());
}

#[test]
fn contract_1_contradicting_inputs_before_a_drain_leave_the_last_one_standing() {
    let mut engine = member(Config::medium(), []);
    for _ in 0..10 {
        engine.handle_input(Input::PeerConnected { peer: 1 }, T0);
        engine.handle_input(received(1, frame(&[please(NeighborRequest::High)], T0)), T0);
        engine.handle_input(Input::PeerDisconnected { peer: 1 }, T0);
    }
    drain(&mut engine, T0);
    assert_eq!((engine.link_count(), engine.neighbors(SWARM)), (0, vec![]));

    engine.handle_input(received(1, frame(&[please(NeighborRequest::High)], T0)), T0);
    engine.handle_input(Input::PeerDisconnected { peer: 1 }, T0);
    engine.handle_input(received(1, frame(&[please(NeighborRequest::High)], T0)), T0);
    let outputs = drain(&mut engine, T0);
    assert_eq!((engine.link_count(), engine.neighbors(SWARM)), (1, vec![1]));
    assert!(matches!(
        sent_to(&outputs, 1, T0).as_slice(),
        [Message::Membership(MembershipMessage::NeighborReply { accepted: true, .. }), ..]
    ));
}

// --- 2 ------------------------------------------------------------------------------------------------------------

#[test]
fn contract_2_asking_for_the_deadline_a_thousand_times_changes_nothing() {
    let once = busy_swarm(Style::Exact, 5, 1, true);
    let often = busy_swarm(Style::Exact, 5, 1_000, true);
    assert!(once.trace == often.trace, "the traces differ");
}

#[test]
fn contract_2_the_deadline_is_at_hand_with_a_thousand_links_and_sources() {
    let mut config = Config::medium();
    config.membership.active_target = 32;
    config.membership.active_max = 64;
    let mut engine = member(config, 1..=64);
    for peer in 1..1_000 {
        engine.handle_input(received(peer, frame(&[data_message(peer, 5)], T0)), T0);
    }
    drain(&mut engine, T0);
    assert!(engine.link_count() > 900);
    let before = engine.poll_timeout();
    for _ in 0..1_000 {
        assert_eq!(engine.poll_timeout(), before);
    }
}

// --- 3 ------------------------------------------------------------------------------------------------------------

#[test]
fn contract_3_after_a_drain_the_deadline_is_later_than_now() {
    // The net checks it after each wake-up, in every style; here with budgets, losses and the shortest intervals.
    for seed in 0..4 {
        let mut config = Config::small();
        config.egress.upload_bytes_per_s = (seed % 2 == 0).then_some(40_000);
        config.egress.peer_bytes_per_s = (seed % 3 == 0).then_some(20_000);
        config.gossip.have_interval = Duration::ZERO;
        config.gossip.want_delay_min = Duration::ZERO;
        config.link.linger = Duration::ZERO;
        config.egress.burst = Duration::ZERO;
        let style = if seed < 2 { Style::Sloppy } else { Style::Exact };
        let mut net = Net::swarm(style, seed, 8, &config, ms(1_000));
        net.loss_percent = 10;
        for round in 0..30 {
            net.publish(round % 8, Bytes::from(vec![1; 300]));
            net.run(ms(50));
        }
        net.run(ms(3_000));
    }
}

#[test]
fn contract_3_random_calls_never_make_a_host_spin() {
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let mut config = Config::small();
        config.egress.upload_bytes_per_s = dice.percent(50).then_some(5_000);
        config.link.linger = ms(dice.below(2) * 100);
        let mut engine = member(config, []);
        let mut now = T0;
        for step in 0..400 {
            now += Duration::from_micros(dice.below(400_000));
            let peer = 1 + dice.below(12);
            match dice.below(8) {
                0 => engine.handle_input(Input::PeerConnected { peer }, now),
                1 => engine.handle_input(Input::PeerDisconnected { peer }, now),
                2 => drop(publish(&mut engine, 500, now)),
                3 => drop(engine.add_peers(SWARM, &[peer], now)),
                4 => {
                    let quality = Input::LinkQuality {
                        peer,
                        rtt: ms(dice.below(300)),
                        loss_ppm: 0,
                        bytes_per_s: dice.percent(50).then_some(2_000),
                    };
                    engine.handle_input(quality, now);
                }
                5 => drop(drain(&mut engine, now)),
                _ => {
                    let message = random_message(&mut dice);
                    engine.handle_input(received(peer, frame(&[message], now)), now);
                }
            }
            engine.handle_timeout(now);
            // Connects stay unanswered here: a host may take its time.
            while engine.poll_output().is_some() {}
            let deadline = engine.poll_timeout();
            assert!(deadline.is_none_or(|at| at > now), "seed {seed}, step {step}: {deadline:?} at {now:?}");
        }
    }
}

#[test]
fn contract_3_an_engine_with_nothing_to_do_wants_no_wake_up() {
    let mut engine = Engine::<u64>::new(0, Config::medium(), Seed::from_u64(1), T0).unwrap();
    assert_eq!(engine.poll_timeout(), None);
    engine.join_topic(SWARM, TopicOptions::first(), T0).unwrap();
    engine.leave(SWARM, T0).unwrap();
    drain(&mut engine, T0);
    assert_eq!(engine.poll_timeout(), None);
}

#[test]
fn contract_3_holds_at_the_end_of_time() {
    let mut engine = member(Config::medium(), [1, 2]);
    publish(&mut engine, 10, T0).unwrap();
    engine.handle_timeout(Instant::MAX);
    drain(&mut engine, Instant::MAX);
    assert!(engine.poll_timeout().is_none_or(|at| at >= Instant::MAX));
}

// --- 4 ------------------------------------------------------------------------------------------------------------

/// Wakes the engine at each deadline exactly, and one microsecond before each, when nothing must come.
fn run_exactly(engine: &mut Engine<u64>, from: Instant, span: Duration) -> Vec<(Instant, Output<u64>)> {
    let mut log: Vec<_> = drain(engine, from).into_iter().map(|output| (from, output)).collect();
    let mut now = from;
    while let Some(at) = engine.poll_timeout().filter(|&at| at <= from + span) {
        if at > now + Duration::from_micros(1) {
            let just_before = at - Duration::from_micros(1);
            engine.handle_timeout(just_before);
            assert_eq!(drain(engine, just_before), vec![], "early, at {just_before:?}");
            assert_eq!(engine.poll_timeout(), Some(at), "an early call moved the deadline");
        }
        now = at;
        engine.handle_timeout(now);
        log.extend(drain(engine, now).into_iter().map(|output| (now, output)));
        assert!(engine.poll_timeout().is_none_or(|next| next > now), "the work due at {now:?} was not done");
    }
    log
}

fn when_sent(
    log: &[(Instant, Output<u64>)],
    to: u64,
    is_it: impl Fn(&Message<u64>) -> bool,
) -> Vec<Duration> {
    let sent =
        log.iter().filter(|(at, output)| sent_to(std::slice::from_ref(output), to, *at).iter().any(&is_it));
    sent.map(|(at, _)| *at - T0).collect()
}

#[test]
fn contract_4_an_idle_neighbour_is_pinged_and_then_given_up_on_time() {
    let mut config = Config::medium();
    config.membership.shuffle_interval = Duration::from_secs(3_600);
    let mut engine = member(config.clone(), [1]);
    let quality = Input::LinkQuality { peer: 1, rtt: ms(40), loss_ppm: 0, bytes_per_s: None };
    engine.handle_input(quality, T0);
    let log = run_exactly(&mut engine, T0, ms(6_000));
    let pings = when_sent(&log, 1, |message| matches!(message, Message::Link(LinkMessage::Ping { .. })));
    assert!(pings.len() >= 3, "{pings:?}");
    // The first ping leaves when the neighbour comes up, to measure the link.
    assert!(pings.iter().any(|&at| at <= config.link.ping_after), "{pings:?}");
    let lost = log.iter().find(|(_, output)| *output == Output::Disconnect { peer: 1 });
    assert_eq!(lost.map(|(at, _)| *at - T0), Some(config.link.silence_min));
    assert!(engine.neighbors(SWARM).is_empty());
}

#[test]
fn contract_4_an_announcement_leaves_when_it_is_due() {
    let mut config = Config::medium();
    config.gossip.initial_fanout = 1;
    let mut engine = member(config.clone(), [1, 2]);
    publish(&mut engine, 10, T0).unwrap();
    let mut log: Vec<_> = drain(&mut engine, T0).into_iter().map(|output| (T0, output)).collect();
    log.extend(run_exactly(&mut engine, T0, ms(1_000)));
    let bodies = [1, 2].map(|peer| {
        when_sent(&log, peer, |message| matches!(message, Message::Gossip(GossipMessage::Data(_))))
    });
    let haves = [1, 2].map(|peer| {
        when_sent(&log, peer, |message| matches!(message, Message::Gossip(GossipMessage::Have { .. })))
    });
    let (eager, lazy) = if bodies[0].is_empty() { (1, 0) } else { (0, 1) };
    assert_eq!(bodies[eager], [Duration::ZERO]);
    assert!(bodies[lazy].is_empty() && haves[eager].is_empty());
    assert_eq!(haves[lazy].len(), 1);
    assert!(haves[lazy][0] > Duration::ZERO && haves[lazy][0] <= config.gossip.have_interval);
}

#[test]
fn contract_4_a_lost_request_is_repeated_when_it_is_due() {
    let config = Config::medium();
    let mut engine = Engine::new(0, config.clone(), Seed::from_u64(1), T0).unwrap();
    engine.join_topic(SWARM, TopicOptions::through([1]), T0).unwrap();
    let mut log: Vec<_> = drain(&mut engine, T0).into_iter().map(|output| (T0, output)).collect();
    log.extend(run_exactly(&mut engine, T0, ms(2_900)));
    let joins =
        when_sent(&log, 1, |message| matches!(message, Message::Membership(MembershipMessage::Join { .. })));
    let timeout = config.membership.reply_timeout;
    assert_eq!(joins[..3], [Duration::ZERO, timeout, timeout * 3]);
}

#[test]
fn contract_4_a_missing_update_is_asked_for_when_it_is_due_and_asked_for_again() {
    let mut engine = member(Config::medium(), [1]);
    for sequence in [0, 2] {
        engine.handle_input(received(1, frame(&[data_message(7, sequence)], T0)), T0);
    }
    drain(&mut engine, T0);
    let log = run_exactly(&mut engine, T0, ms(2_000));
    let wants = when_sent(&log, 1, |message| {
        matches!(message, Message::Gossip(GossipMessage::Want { sources, .. })
            if sources[0].ranges == RangeSet::from(1..2))
    });
    assert_eq!(wants.first(), Some(&engine.config().gossip.want_delay_min));
    assert!(wants.len() >= 2, "{wants:?}");
}

// --- 5 ------------------------------------------------------------------------------------------------------------

#[test]
fn contract_5_sloppy_wake_ups_lose_nothing_and_nobody() {
    for seed in 0..6 {
        let mut net = busy_swarm(Style::Sloppy, seed, 1, false);
        net.run(ms(10_000));
        net.assert_exactly_once();
        let silent: u64 = net.hosts.iter().map(|host| host.engine.stats().links_silent).sum();
        assert_eq!(silent, 0, "seed {seed}: live neighbours were taken for dead");
    }
}

#[test]
fn contract_5_a_suspended_host_blames_nobody_for_the_silence() {
    for seed in 0..5 {
        let mut net = Net::swarm(Style::Exact, seed, 8, &Config::small(), ms(5_000));
        for (node, span) in [(3, 1_400), (5, 3_000), (6, 20_000)] {
            let before = net.hosts[node].engine.stats().links_silent;
            net.sleep(node as u64, ms(span));
            net.run(ms(span + 5_000));
            let silent = net.hosts[node].engine.stats().links_silent - before;
            assert_eq!(silent, 0, "seed {seed}: node {node} blames others for its sleep of {span} ms");
            // A ping an interval, and patience for more than two: nobody gives up who is back in time.
            let all: u64 = net.hosts.iter().map(|host| host.engine.stats().links_silent).sum();
            assert!(span > 1_400 || all == 0, "seed {seed}: somebody gave up a short sleeper");
        }
        net.publish(5, Bytes::from_static(b"awake"));
        net.run(ms(10_000));
        net.assert_exactly_once();
    }
}

#[test]
fn contract_5_early_and_repeated_wake_ups_do_nothing() {
    let build = || {
        let mut engine = member(Config::medium(), [1, 2, 3]);
        publish(&mut engine, 100, T0).unwrap();
        engine
    };
    let (mut plain, mut pestered) = (build(), build());
    let mut now = T0;
    while now < T0 + ms(4_000) {
        let at = plain.poll_timeout().unwrap();
        for part in 0..5 {
            let early = now + (at - now) * part / 5;
            pestered.handle_timeout(early);
        }
        now = at;
        plain.handle_timeout(now);
        for _ in 0..3 {
            pestered.handle_timeout(now);
            pestered.handle_timeout(Instant::ZERO);
        }
        assert_eq!(drain(&mut plain, now), drain(&mut pestered, now), "at {now:?}");
        assert_eq!(plain.poll_timeout(), pestered.poll_timeout(), "at {now:?}");
    }
}

#[test]
fn contract_5_an_older_now_counts_as_the_newest_seen() {
    let later = T0 + ms(700);
    let build = || {
        let mut engine = member(Config::medium(), [1, 2, 3]);
        engine.handle_timeout(later);
        drain(&mut engine, later);
        engine
    };
    let (mut right, mut back) = (build(), build());
    for (engine, now) in [(&mut right, later), (&mut back, T0)] {
        publish(engine, 100, now).unwrap();
        engine.handle_input(received(1, frame(&[data_message(7, 3)], T0)), now);
        engine.add_peers(SWARM, &[9], now).unwrap();
    }
    assert_eq!(right.poll_timeout(), back.poll_timeout());
    assert_eq!(drain(&mut right, later), drain(&mut back, T0));
    assert_eq!(right.poll_timeout(), back.poll_timeout());
}

// --- 6 ------------------------------------------------------------------------------------------------------------

#[test]
fn contract_6_equal_runs_give_equal_bytes() {
    for style in [Style::Exact, Style::Sloppy] {
        let trace = |seed| busy_swarm(style, seed, 1, true).trace.unwrap_or_default();
        let first = trace(11);
        assert!(first.len() > 10_000);
        assert!(first == trace(11), "{style:?}: two runs with one seed differ");
        assert!(first != trace(12), "{style:?}: the seed changes nothing");
    }
}

#[test]
fn contract_6_only_the_seed_of_the_engine_is_random() {
    let outputs = |seed: u64| {
        let mut engine = Engine::new(0, Config::medium(), Seed::from_u64(seed), T0).unwrap();
        engine.join_topic(SWARM, TopicOptions::through(1..20), T0).unwrap();
        let log = run_exactly(&mut engine, T0, ms(20_000));
        format!("{log:?}")
    };
    assert_eq!(outputs(1), outputs(1));
    assert_ne!(outputs(1), outputs(2));
}

// --- 7 ------------------------------------------------------------------------------------------------------------

#[test]
fn contract_7_a_flood_is_cut_to_the_budget_of_its_sender() {
    let mut config = Config::medium();
    config.link.inbound_frames_per_s = 100;
    config.link.inbound_burst = 2;
    // Else the flooder would be refused altogether: see `defence.rs`.
    config.score.refuse_points = 1_000_000;
    let mut engine = member(config, [1]);
    let before = engine.stats().messages_received;
    let mut reports = 0;
    for step in 0..30_000u64 {
        let now = T0 + Duration::from_micros(step * 100);
        engine.handle_input(received(2, frame(&[data_message(7, step)], now)), now);
        let flooding = |output: &Output<u64>| {
            matches!(output, Output::Event(Event::Misbehaved { peer: 2, offence: Offence::Flooding }))
        };
        reports += drain(&mut engine, now).iter().filter(|output| flooding(output)).count();
    }
    let admitted = engine.stats().messages_received - before;
    assert!((450..=510).contains(&admitted), "{admitted} frames in 3 s at 100/s with a burst of 2 s");
    assert_eq!(engine.stats().frames_over_budget, 30_000 - admitted);
    assert!((1..=3).contains(&reports), "{reports} reports in 3 s");
    // Its budget is its own.
    let end = T0 + ms(3_000);
    engine.handle_input(received(1, frame(&[data_message(8, 0)], end)), end);
    assert_eq!(engine.stats().messages_received - before, admitted + 1);
}

#[test]
fn contract_7_unknown_origins_fill_no_more_than_the_table() {
    let mut config = Config::medium();
    config.gossip.sources_max = 50;
    let mut engine = member(config, [1]);
    for origin in 100..1_100 {
        let have = Message::Gossip(GossipMessage::Have { sources: vec![source(origin, 0..1 << 40)] });
        engine.handle_input(received(1, frame(&[have, data_message(origin + 5_000, 9)], T0)), T0);
    }
    let stats = engine.topic_stats(SWARM).unwrap();
    assert_eq!((stats.sources, stats.gossip.sources_refused), (50, 1_950));
}

#[test]
fn contract_7_announced_ranges_cost_what_they_weigh() {
    let mut engine = member(Config::medium(), [1]);
    for _ in 0..200 {
        let sources = (0..20).map(|origin| source(100 + origin, 0..(1 << 62) - 1)).collect();
        let have = Message::Gossip(GossipMessage::Have { sources });
        engine.handle_input(received(1, frame(&[have], T0)), T0);
        drain(&mut engine, T0);
    }
    let log = run_exactly(&mut engine, T0, ms(2_000));
    let asked: u64 = log
        .iter()
        .flat_map(|(at, output)| sent_to(std::slice::from_ref(output), 1, *at))
        .map(|message| match message {
            Message::Gossip(GossipMessage::Want { sources, .. }) => sources
                .iter()
                .flat_map(|source| source.ranges.iter())
                .map(|range| range.end - range.start)
                .sum(),
            _ => 0,
        })
        .max()
        .unwrap_or(0);
    assert!((1..=256).contains(&asked), "{asked} updates asked for at once");
}

#[test]
fn contract_7_membership_floods_stay_within_the_views() {
    for seed in 0..5 {
        let mut dice = Dice::new(seed);
        let mut config = Config::small();
        config.link.links_max = 40;
        let mut engine = member(config.clone(), [1, 2]);
        for step in 0..3_000 {
            let now = T0 + ms(step);
            let from = 1 + dice.below(20);
            let name = |dice: &mut Dice| 1 + dice.below(5_000);
            let message = match dice.below(6) {
                0 => MembershipMessage::Join { swarm: SWARM, wanted: 255 },
                1 => MembershipMessage::Walk { joiner: name(&mut dice), hops_left: dice.next() as u8 },
                2 => MembershipMessage::Shuffle {
                    origin: name(&mut dice),
                    hops_left: dice.next() as u8,
                    entries: (0..100).map(|_| ViewEntry { peer: name(&mut dice), age: 0 }).collect(),
                },
                3 => MembershipMessage::Offer { swarm: SWARM, partner: name(&mut dice) },
                4 => MembershipMessage::Neighbor { swarm: SWARM, request: NeighborRequest::High },
                _ => MembershipMessage::NeighborReply {
                    accepted: true,
                    peers: (0..100).map(|_| name(&mut dice)).collect(),
                },
            };
            engine.handle_input(received(from, frame(&[Message::Membership(message)], now)), now);
            engine.handle_timeout(now);
            drain(&mut engine, now);
            let stats = engine.topic_stats(SWARM).unwrap();
            assert!(stats.passive <= config.membership.passive_max, "seed {seed}");
            assert!(stats.neighbors <= config.membership.active_max, "seed {seed}: {}", stats.neighbors);
            assert_eq!(stats.neighbors, engine.neighbors(SWARM).len(), "seed {seed}");
            assert!(engine.link_count() <= 40, "seed {seed}");
        }
    }
}

#[test]
fn contract_7_links_are_bounded_and_neighbours_keep_theirs() {
    let mut config = Config::small();
    config.link.links_max = 10;
    let mut engine = member(config, 1..=4);
    let mut closed = BTreeSet::new();
    for peer in 100..200 {
        engine.handle_input(Input::PeerConnected { peer }, T0);
        for output in drain(&mut engine, T0) {
            if let Output::Disconnect { peer } = output {
                closed.insert(peer);
            }
        }
        assert!(engine.link_count() <= 10);
    }
    assert_eq!(engine.neighbors(SWARM), [1, 2, 3, 4]);
    let stats = engine.stats();
    assert_eq!(stats.links_evicted + stats.links_refused, 94);
    assert_eq!(closed, (100..194).collect(), "everybody turned away must be told");
}

#[test]
fn contract_7_a_full_table_of_neighbours_turns_newcomers_away() {
    let mut config = Config::small();
    config.link.links_max = 4;
    let mut engine = member(config, 1..=4);
    engine.handle_input(received(9, frame(&[data_message(7, 0)], T0)), T0);
    assert_eq!(drain(&mut engine, T0), [Output::Disconnect { peer: 9 }]);
    assert_eq!((engine.stats().links_refused, engine.stats().frames_refused), (1, 1));
    assert_eq!(engine.neighbors(SWARM), [1, 2, 3, 4]);
}

#[test]
fn contract_7_connection_changes_stay_bounded_while_nobody_drains() {
    let mut config = Config::small();
    config.link.links_max = 10;
    config.events_max = 16;
    let mut engine = member(config, 1..=4);
    for peer in 100..20_000 {
        engine.handle_input(received(peer, frame(&[data_message(7, 0)], T0)), T0);
    }
    let mut count = 0;
    while engine.poll_output().is_some() {
        count += 1;
    }
    assert!(count <= 100, "{count} outputs waited");
    // It takes newcomers again.
    engine.handle_input(Input::PeerConnected { peer: 50_000 }, T0);
    assert_eq!(engine.link_count(), 10);
}

#[test]
fn contract_7_lost_events_are_told_exactly() {
    let mut config = Config::medium();
    config.events_max = 16;
    let mut engine = member(config, [1]);
    for sequence in 0..100 {
        engine.handle_input(received(1, frame(&[data_message(7, sequence)], T0)), T0);
    }
    let events: Vec<_> = drain(&mut engine, T0)
        .into_iter()
        .filter_map(|output| if let Output::Event(event) = output { Some(event) } else { None })
        .collect();
    assert_eq!(events[0], Event::EventsLost { count: 84 });
    let left: Vec<_> = events[1..]
        .iter()
        .map(|event| if let Event::Delivered(update) = event { update.id.sequence } else { u64::MAX })
        .collect();
    assert_eq!(left, (84..100).collect::<Vec<_>>());
    assert_eq!(engine.stats().events_lost, 84);
    assert_eq!(drain(&mut engine, T0), []);
}

#[test]
fn contract_7_a_full_queue_refuses_and_then_calls_the_writer() {
    let mut config = Config::medium();
    config.egress.upload_bytes_per_s = Some(10_000);
    config.egress.queue_bytes_max = 20_000;
    let mut engine = member(config.clone(), [1]);
    let mut accepted = 0;
    let refusal = loop {
        match publish(&mut engine, 1_000, T0) {
            Ok(_) => accepted += 1,
            Err(refusal) => break refusal,
        }
    };
    let CommandError::QueueFull { queued, max: 20_000 } = refusal else { panic!("{refusal:?}") };
    assert!((19_000..=20_000).contains(&queued), "{queued}");
    assert_eq!(engine.topic_stats(SWARM).unwrap().gossip.published, accepted);
    assert_eq!(publish(&mut engine, 1_000, T0), Err(refusal), "a refused update changes nothing");

    let mut writable = Vec::new();
    let mut now = T0;
    while now < T0 + ms(4_000) {
        now += ms(20);
        // The neighbour is alive.
        engine.handle_input(received(1, frame(&[data_message(7, 0)], now)), now);
        engine.handle_timeout(now);
        let is_writable = |output: &Output<u64>| *output == Output::Event(Event::Writable);
        writable.extend(drain(&mut engine, now).iter().filter(|output| is_writable(output)).map(|_| now));
    }
    assert_eq!(writable.len(), 1, "{writable:?}");
    assert!(writable[0] > T0 + ms(700), "{writable:?}");
    assert!(publish(&mut engine, 1_000, now).is_ok());
}

#[test]
fn contract_7_the_largest_payload_fits_an_empty_queue_whatever_the_limits() {
    let mut config = Config::medium();
    config.frame_bytes_max = 60_000;
    config.gossip.chunk_above_bytes = 60_000;
    config.egress.queue_bytes_max = 4_096;
    config.egress.peer_queue_bytes_max = 4_096;
    let mut engine = member(config, [1]);
    let max = engine.payload_bytes_max();
    assert_eq!(publish(&mut engine, max, T0), Ok(0));
    assert!(!sent_to(&drain(&mut engine, T0), 1, T0).is_empty());
}

#[test]
fn contract_7_writable_means_that_the_refused_update_fits() {
    let mut config = Config::medium();
    config.frame_bytes_max = 8_000;
    config.gossip.chunk_above_bytes = 8_000;
    config.egress.queue_bytes_max = 8_000;
    config.egress.upload_bytes_per_s = Some(1_000);
    config.membership.shuffle_interval = Duration::from_secs(3_600);
    config.link.ping_after = Duration::from_secs(3_600);
    (config.link.silence_min, config.link.silence_max) = (config.link.ping_after, config.link.ping_after);
    let mut engine = member(config, [1]);
    let mut now = T0;
    // The first leaves at once, the second waits.
    publish(&mut engine, 7_000, now).unwrap();
    drain(&mut engine, now);
    publish(&mut engine, 3_000, now).unwrap();
    assert!(matches!(publish(&mut engine, 7_000, now), Err(CommandError::QueueFull { .. })));
    for _ in 0..3_000 {
        now += ms(10);
        engine.handle_timeout(now);
        if drain(&mut engine, now).contains(&Output::Event(Event::Writable)) {
            assert!(publish(&mut engine, 7_000, now).is_ok());
            return;
        }
    }
    panic!("the writer was never called");
}

#[test]
fn contract_7_answers_wait_within_the_queues_and_the_rest_is_counted() {
    let mut config = Config::medium();
    config.egress.peer_queue_bytes_max = 10_000;
    // It is the queue that must hold here, not what a neighbour may ask for.
    config.budget.wants_per_s = 10_000_000;
    let mut engine = member(config, [1]);
    for _ in 0..100 {
        publish(&mut engine, 1_000, T0).unwrap();
        drain(&mut engine, T0);
    }
    for _ in 0..500 {
        let want =
            Message::Gossip(GossipMessage::Want { graft: false, sources: vec![source(0, 0..1 << 60)] });
        engine.handle_input(received(1, frame(&[want], T0)), T0);
    }
    let outputs = drain(&mut engine, T0);
    let bytes: usize = outputs
        .iter()
        .map(|output| if let Output::Send { frame, .. } = output { frame.len() } else { 0 })
        .sum();
    assert!((9_000..=10_100).contains(&bytes), "{bytes} bytes waited");
    assert!(engine.stats().messages_dropped > 10_000);
    assert_eq!(engine.egress_stats().dropped_full, engine.stats().messages_dropped);
}

#[test]
fn contract_7_announcements_stay_bounded_while_nobody_wakes_the_engine() {
    let mut config = Config::medium();
    config.gossip.initial_fanout = 1;
    let mut engine = member(config, 1..=6);
    for sequence in 0..5_000 {
        engine.handle_input(received(1, frame(&[data_message(7, sequence)], T0)), T0);
    }
    let sent = engine.topic_stats(SWARM).unwrap().gossip.haves_sent;
    assert!(sent >= 4, "{sent} announcements: all {} wait", 5_000);
}

// --- 8 ------------------------------------------------------------------------------------------------------------

fn random_name(dice: &mut Dice) -> u64 {
    match dice.below(4) {
        // The engine itself, its neighbours, somebody, anybody.
        0 => 0,
        1 => 1 + dice.below(8),
        2 => dice.below(100),
        _ => [u64::MAX, u64::MAX - 1, dice.next()][dice.below(3) as usize],
    }
}

fn random_sequence(dice: &mut Dice) -> u64 {
    let edge = (1 << 62) - 2;
    match dice.below(5) {
        0 => edge - dice.below(3),
        1 => dice.next() % edge,
        2 => 65_530 + dice.below(12),
        _ => dice.below(200),
    }
}

fn random_ranges(dice: &mut Dice) -> RangeSet {
    let mut ranges = RangeSet::new();
    for _ in 0..dice.below(5) {
        let start = random_sequence(dice);
        let end = random_sequence(dice).max(start + 1);
        ranges.insert(start..if dice.percent(50) { end } else { start + 1 });
    }
    ranges
}

fn random_sources(dice: &mut Dice) -> Vec<SourceRanges<u64>> {
    let source = |dice: &mut Dice| SourceRanges {
        origin: random_name(dice),
        epoch: random_epoch(dice),
        ranges: random_ranges(dice),
    };
    (0..dice.below(6)).map(|_| source(dice)).collect()
}

fn random_epoch(dice: &mut Dice) -> Epoch {
    Epoch([0, 0, 0, 1, u32::MAX, u32::MAX - 1, dice.next() as u32][dice.below(7) as usize])
}

fn random_message(dice: &mut Dice) -> Message<u64> {
    let swarm = if dice.percent(90) { SWARM } else { SwarmId(dice.next()) };
    let entries = |dice: &mut Dice| {
        (0..dice.below(60)).map(|_| ViewEntry { peer: random_name(dice), age: dice.next() as u8 }).collect()
    };
    match dice.below(17) {
        0 => Message::Link(LinkMessage::Ping { token: dice.next() as u16 }),
        1 => Message::Link(LinkMessage::Pong { token: dice.next() as u16 }),
        2 => Message::Membership(MembershipMessage::Join { swarm, wanted: dice.next() as u8 }),
        3 => Message::Membership(MembershipMessage::Walk {
            joiner: random_name(dice),
            hops_left: dice.next() as u8,
        }),
        4 => Message::Membership(MembershipMessage::Offer { swarm, partner: random_name(dice) }),
        5 => please(NeighborRequest::Low),
        6 => please(NeighborRequest::High),
        7 => please(NeighborRequest::Replace { leaving: random_name(dice) }),
        8 => Message::Membership(MembershipMessage::NeighborReply {
            accepted: dice.percent(50),
            peers: (0..dice.below(80)).map(|_| random_name(dice)).collect(),
        }),
        9 => Message::Membership(MembershipMessage::Bye { leaving: dice.percent(50) }),
        10 => Message::Membership(MembershipMessage::Shuffle {
            origin: random_name(dice),
            hops_left: dice.next() as u8,
            entries: entries(dice),
        }),
        11 => Message::Membership(match dice.below(5) {
            0 => MembershipMessage::ShuffleReply { entries: entries(dice) },
            1 => MembershipMessage::Measure { swarm: SWARM },
            2 => MembershipMessage::Measured {
                longest: dice.percent(80).then(|| (random_name(dice), dice.next() as u32)),
            },
            3 => MembershipMessage::Swap {
                candidate: random_name(dice),
                leaving: random_name(dice),
                gain_us: dice.next() as u32,
            },
            _ => MembershipMessage::Swapped { candidate: random_name(dice) },
        }),
        12 => {
            let mut update = data(random_name(dice), random_sequence(dice), b"hostile");
            update.epoch = random_epoch(dice);
            update.state = StateId(dice.next());
            update.hops = dice.below(64) as u8;
            update.pulled = dice.percent(50);
            update.keyframe = dice.percent(50);
            update.layer = dice.below(8) as u8;
            update.born = if dice.percent(20) { Instant::ZERO } else { T0 };
            Message::Gossip(GossipMessage::Data(update))
        }
        13 => Message::Gossip(GossipMessage::Have { sources: random_sources(dice) }),
        14 => Message::Gossip(GossipMessage::Want { graft: dice.percent(50), sources: random_sources(dice) }),
        15 => match dice.below(5) {
            4 => Message::Gossip(GossipMessage::Count { nodes: dice.next() >> dice.below(64) }),
            2 => Message::Gossip(GossipMessage::Attach { attached: dice.percent(70) }),
            3 => Message::Gossip(GossipMessage::Wave(Wave {
                origin: random_name(dice),
                epoch: random_epoch(dice),
                number: random_sequence(dice),
                shared: dice.percent(50),
                hops: dice.below(128) as u8,
                born: if dice.percent(20) { Instant::ZERO } else { T0 },
                members: dice.percent(50).then(|| dice.next() >> 2),
                is_last: dice.percent(30),
            })),
            0 => Message::Gossip(GossipMessage::Gone { sources: random_sources(dice) }),
            _ => Message::Gossip(GossipMessage::Prune {
                origin: random_name(dice),
                share_percent: dice.below(101) as u8,
            }),
        },
        _ => {
            let mut bounds: Vec<_> = (0..dice.below(4)).map(|_| random_name(dice)).collect();
            bounds.sort_unstable();
            bounds.dedup();
            let mut bounds = bounds.into_iter();
            let lower = if dice.percent(50) { None } else { bounds.next() };
            let mut items: Vec<_> = bounds.map(|bound| random_item(Some(bound), dice)).collect();
            items.push(random_item(None, dice));
            Message::Gossip(GossipMessage::Sync { lower, items })
        }
    }
}

fn random_item(upper: Option<u64>, dice: &mut Dice) -> SyncItem<u64> {
    let known = match dice.below(4) {
        0 => SyncKnown::Skip,
        1 => SyncKnown::Fingerprint(dice.next()),
        2 => SyncKnown::Sources(random_sources(dice)),
        _ => SyncKnown::Answer(random_sources(dice)),
    };
    SyncItem { upper, known }
}

/// An engine that nothing must harm, and the counters that it must agree with.
struct Target {
    engine: Engine<u64>,
    now: Instant,
    dice: Dice,
    seed: u64,
    frames: u64,
    unreadable: u64,
    reported: u64,
}

impl Target {
    fn new(seed: u64, mode: GossipMode, retention: Retention) -> Self {
        let mut config = Config::small();
        config.link.links_max = 24;
        config.gossip.sources_max = 64;
        config.gossip.window_max = 1_024;
        // Whoever sends this would soon be heard no more.
        config.score.refuse_points = 1_000_000;
        let mut engine = Engine::new(0, config, Seed::from_u64(seed), T0).unwrap();
        let options = TopicOptions::through([1]).retention(retention).mode(mode);
        engine.join_topic(SWARM, options, T0).unwrap();
        drain(&mut engine, T0);
        for peer in 1..=4 {
            engine.handle_input(received(peer, frame(&[please(NeighborRequest::High)], T0)), T0);
        }
        Self { engine, now: T0, dice: Dice::new(seed), seed, frames: 0, unreadable: 0, reported: 0 }
    }

    fn hit(&mut self, bytes: Vec<u8>) {
        let frame = Bytes::from(bytes);
        self.frames += 1;
        self.now += Duration::from_micros(self.dice.below(2_000));
        // Few frames from each, so that none is over its budget.
        let from = 1 + self.dice.below(12);
        self.unreadable += u64::from(!is_readable(&frame, self.now));
        self.engine.handle_input(received(from, frame), self.now);
        if self.dice.percent(5) {
            self.engine.handle_timeout(self.now);
            let _ = publish(&mut self.engine, 50, self.now);
        }
        if self.dice.percent(30) {
            self.check();
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        for output in drain(&mut self.engine, self.now) {
            match output {
                Output::Event(Event::Misbehaved { offence: Offence::Malformed(_), .. }) => self.reported += 1,
                Output::Event(Event::EventsLost { .. }) => panic!("seed {seed}: events were lost"),
                Output::Send { frame, .. } => {
                    assert!(is_readable(&frame, self.now), "seed {seed}: it sends what nobody can read");
                }
                _ => {}
            }
        }
        let (stats, config) = (self.engine.topic_stats(SWARM).unwrap(), self.engine.config());
        assert!(stats.sources <= config.gossip.sources_max, "seed {seed}: {} sources", stats.sources);
        assert!(stats.passive <= config.membership.passive_max, "seed {seed}: {} passive", stats.passive);
        assert!(stats.neighbors <= config.membership.active_max, "seed {seed}: {} active", stats.neighbors);
        assert!(stats.body_bytes <= 100_000, "seed {seed}: {} bytes kept", stats.body_bytes);
        assert!(self.engine.link_count() <= config.link.links_max, "seed {seed}");
        assert!(!self.engine.neighbors(SWARM).contains(&0), "seed {seed}: its own neighbour");
    }

    fn finish(&mut self) {
        self.check();
        let stats = self.engine.stats();
        assert_eq!(stats.frames_over_budget, 0, "seed {}", self.seed);
        assert_eq!(stats.frames_malformed, self.unreadable, "seed {}", self.seed);
        assert_eq!(self.reported, self.unreadable, "seed {}", self.seed);
        // It still works.
        self.engine.handle_input(received(50, frame(&[please(NeighborRequest::High)], self.now)), self.now);
        self.engine.handle_input(received(50, frame(&[data_message(777_777, 0)], self.now)), self.now);
        drain(&mut self.engine, self.now);
        self.engine.leave(SWARM, self.now).unwrap();
        drain(&mut self.engine, self.now);
        self.engine.join_topic(SWARM, TopicOptions::first(), self.now).unwrap();
    }
}

const SMALL_WINDOW: Retention = Retention::Window { age: Duration::from_secs(60), bytes: 100_000 };

#[test]
fn contract_8_noise_never_panics_and_each_unreadable_frame_is_reported() {
    let mut target = Target::new(1, GossipMode::Hybrid, SMALL_WINDOW);
    for round in 0..40_000u64 {
        let length = target.dice.below(120) as usize;
        let mut bytes = target.dice.bytes(length);
        if round % 2 == 0 && !bytes.is_empty() {
            bytes[0] = suffuse::wire::VERSION;
        }
        if round % 4 == 0 && length > 6 {
            // A kind that exists, of the swarm that is joined.
            bytes[1] = if target.dice.percent(30) { bytes[1] | 0x80 } else { 1 + bytes[1] % 15 };
            bytes[2..6].copy_from_slice(&SWARM.tag().0.to_le_bytes());
        }
        target.hit(bytes);
    }
    assert!(target.unreadable > 20_000 && target.unreadable < 40_000, "{}", target.unreadable);
    target.finish();
}

#[test]
fn contract_8_mutated_real_frames_never_panic() {
    let mut net = Net::new(Style::Exact, 3);
    net.captured = Some(Vec::new());
    for _ in 0..8 {
        net.add(Config::small());
        net.run(ms(100));
    }
    for round in 0..40 {
        net.loss_percent = 20;
        net.publish(round % 8, Bytes::from(vec![1; 40]));
        net.run(ms(50));
    }
    net.run(ms(5_000));
    let frames = net.captured.unwrap_or_default();
    assert!(frames.len() > 1_000);
    let mut target = Target::new(2, GossipMode::Hybrid, SMALL_WINDOW);
    for _ in 0..30_000 {
        let mut bytes = frames[target.dice.below(frames.len() as u64) as usize].to_vec();
        for _ in 0..target.dice.below(4) {
            let place = target.dice.below(bytes.len() as u64) as usize;
            match target.dice.below(4) {
                0 => bytes[place] = target.dice.next() as u8,
                1 => bytes[place] ^= 1 << target.dice.below(8),
                2 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, target.dice.next() as u8),
            }
        }
        target.hit(bytes);
    }
    target.finish();
}

#[test]
fn contract_8_hostile_values_never_panic() {
    let keyframes = Retention::SinceKeyframe { bytes: 100_000 };
    let kinds = [
        (GossipMode::Hybrid, SMALL_WINDOW),
        (GossipMode::Push, keyframes),
        (GossipMode::Pull, Retention::Latest),
    ];
    for (seed, (mode, retention)) in kinds.into_iter().enumerate() {
        let mut target = Target::new(10 + seed as u64, mode, retention);
        for _ in 0..12_000 {
            let count = 1 + target.dice.below(3);
            let messages: Vec<_> = (0..count).map(|_| random_message(&mut target.dice)).collect();
            let tag = if target.dice.percent(95) { SWARM.tag() } else { SwarmId(9).tag() };
            let bytes = frame_of(tag, &messages, target.now);
            if bytes.len() <= target.engine.config().frame_bytes_max {
                target.hit(bytes.to_vec());
            }
        }
        assert_eq!(target.unreadable, 0);
        target.finish();
    }
}

#[test]
fn contract_8_a_foreign_version_and_an_oversize_frame_are_reported() {
    let mut engine = member(Config::medium(), []);
    engine.handle_input(received(1, Bytes::from_static(&[9, 1, 2, 3, 4, 5])), T0);
    engine.handle_input(received(2, Bytes::from(vec![suffuse::wire::VERSION; 1_201])), T0);
    engine.handle_input(received(3, Bytes::new()), T0);
    engine.handle_input(received(0, frame(&[data_message(7, 0)], T0)), T0);
    let offences: Vec<_> = drain(&mut engine, T0)
        .into_iter()
        .filter_map(|output| match output {
            Output::Event(Event::Misbehaved { peer, offence }) => Some((peer, offence)),
            _ => None,
        })
        .collect();
    let expected = [
        (1, Offence::Malformed(WireError::Version(9))),
        (2, Offence::Oversize),
        (3, Offence::Malformed(WireError::Truncated)),
    ];
    assert_eq!(offences, expected);
    let stats = engine.stats();
    assert_eq!((stats.frames_received, stats.frames_malformed, stats.frames_refused), (4, 2, 2));
    assert_eq!(stats.messages_received, 0);
}

#[test]
fn contract_8_requests_that_name_the_wrong_peer_are_nonsense() {
    let mut engine = member(Config::medium(), [1]);
    let offers =
        [0, 5].map(|partner| Message::Membership(MembershipMessage::Offer { swarm: SWARM, partner }));
    for offer in offers {
        engine.handle_input(received(5, frame(&[offer], T0)), T0);
    }
    engine.handle_input(received(5, frame(&[please(NeighborRequest::Replace { leaving: 5 })], T0)), T0);
    let outputs = drain(&mut engine, T0);
    let nonsense = Output::Event(Event::Misbehaved { peer: 5, offence: Offence::Nonsense });
    assert_eq!(outputs.iter().filter(|output| **output == nonsense).count(), 3);
    assert_eq!(engine.neighbors(SWARM), [1]);
    assert_eq!(engine.topic_stats(SWARM).unwrap().passive, 0);
}

// --- 9 ------------------------------------------------------------------------------------------------------------

#[test]
fn contract_9_a_farewell_leaves_before_the_link_is_closed() {
    let mut config = Config::medium();
    // The farewell has to wait behind what was published.
    config.egress.upload_bytes_per_s = Some(5_000);
    let mut engine = member(config, [1, 2]);
    for _ in 0..5 {
        publish(&mut engine, 1_000, T0).unwrap();
    }
    engine.leave(SWARM, T0).unwrap();
    let mut log: Vec<_> = drain(&mut engine, T0).into_iter().map(|output| (T0, output)).collect();
    log.extend(run_exactly(&mut engine, T0, ms(20_000)));
    for peer in [1, 2] {
        let place = |is_it: &dyn Fn(&Output<u64>) -> bool| {
            log.iter().enumerate().filter(|(_, (_, output))| is_it(output)).map(|(place, _)| place).last()
        };
        let last_send = place(&|output| matches!(output, Output::Send { to, .. } if *to == peer));
        let closed = place(&|output| *output == Output::Disconnect { peer });
        assert!(last_send.is_some() && last_send < closed, "peer {peer}: {last_send:?}, {closed:?}");
        let bye = when_sent(&log, peer, |message| {
            matches!(message, Message::Membership(MembershipMessage::Bye { leaving: true }))
        });
        assert_eq!(bye.len(), 1);
    }
    assert_eq!((engine.link_count(), engine.poll_timeout()), (0, None));
}

#[test]
fn contract_9_a_link_that_nobody_needs_lingers_and_is_then_closed() {
    let config = Config::medium();
    let mut engine = member(config.clone(), []);
    engine.handle_input(received(5, frame(&[Message::Link(LinkMessage::Ping { token: 3 })], T0)), T0);
    // Only neighbours ping, so this one is told that it is none.
    let pong = Message::Link(LinkMessage::Pong { token: 3 });
    let bye = Message::Membership(MembershipMessage::Bye { leaving: false });
    assert_eq!(sent_to(&drain(&mut engine, T0), 5, T0), [pong, bye]);
    let log = run_exactly(&mut engine, T0, config.link.linger * 2);
    assert_eq!(log, [(T0 + config.link.linger, Output::Disconnect { peer: 5 })]);
    assert_eq!(engine.link_count(), 0);
}

#[test]
fn contract_9_a_transport_that_takes_nothing_is_not_waited_for_for_ever() {
    let mut config = Config::medium();
    config.egress.credit_bytes = Some(1);
    let mut engine = member(config.clone(), [1]);
    for _ in 0..5 {
        publish(&mut engine, 1_000, T0).unwrap();
    }
    engine.leave(SWARM, T0).unwrap();
    drain(&mut engine, T0);
    let log = run_exactly(&mut engine, T0, ms(60_000));
    let end = T0 + config.link.linger + config.link.connect_timeout;
    assert_eq!(log, [(end, Output::Disconnect { peer: 1 })]);
}

#[test]
fn contract_9_nothing_is_sent_after_a_disconnect_in_random_runs() {
    // The net checks each frame.
    for seed in 0..12 {
        let style = [Style::Exact, Style::Batched(ms(100)), Style::Sloppy][seed as usize % 3];
        let mut config = Config::small();
        config.link.links_max = 9;
        config.link.linger = ms(200);
        let mut net = Net::swarm(style, seed, 14, &config, ms(2_000));
        for round in 0..60 {
            let node = net.dice.below(14);
            let peer = (node + 1 + net.dice.below(13)) % 14;
            match net.dice.below(5) {
                0 => net.input(node, Input::PeerDisconnected { peer }),
                1 => net.input(node, Input::PeerConnected { peer }),
                2 if net.hosts[node as usize].engine.topic_stats(SWARM).is_some() => {
                    net.with(node, |engine, now| engine.leave(SWARM, now).unwrap());
                }
                2 => net.with(node, |engine, now| {
                    engine.join_topic(SWARM, TopicOptions::through([peer]), now).unwrap();
                }),
                _ if net.hosts[node as usize].engine.topic_stats(SWARM).is_some() => {
                    net.publish(node, Bytes::from(vec![round; 700]));
                }
                _ => {}
            }
            net.run(ms(150));
        }
    }
}

#[test]
fn contract_9_a_peer_that_speaks_while_its_disconnect_waits_is_not_sent_to_after_it() {
    let mut config = Config::medium();
    config.link.linger = ms(100);
    config.link.links_max = 2;
    let mut engine = member(config, []);
    let ping = || frame(&[Message::Link(LinkMessage::Ping { token: 3 })], T0);
    for peer in [1, 2] {
        engine.handle_input(received(peer, ping()), T0);
    }
    drain(&mut engine, T0);
    // The third makes the first go, which speaks again before anybody was told; now the second goes.
    engine.handle_input(received(3, ping()), T0 + ms(1));
    engine.handle_input(received(1, ping()), T0 + ms(2));
    let mut closed = BTreeSet::new();
    for output in drain(&mut engine, T0 + ms(2)) {
        match output {
            Output::Disconnect { peer } => drop(closed.insert(peer)),
            Output::Send { to, .. } => assert!(!closed.contains(&to), "sent to {to} after a disconnect"),
            _ => {}
        }
    }
    assert!(closed.contains(&2) && !closed.contains(&1), "{closed:?}");
}

// --- 10 -----------------------------------------------------------------------------------------------------------

#[test]
fn contract_10_a_peer_that_reconnects_starts_fresh() {
    let mut config = Config::medium();
    config.egress.upload_bytes_per_s = Some(2_000);
    let mut engine = member(config, [1]);
    for _ in 0..10 {
        publish(&mut engine, 1_000, T0).unwrap();
    }
    drain(&mut engine, T0);
    engine.handle_input(Input::PeerConnected { peer: 1 }, T0 + ms(100));
    let outputs = drain(&mut engine, T0 + ms(100));
    let down = Output::Event(Event::NeighborDown { swarm: SWARM, peer: 1 });
    assert!(outputs.contains(&down), "{outputs:?}");
    assert!(outputs.contains(&Output::Event(Event::Isolated { swarm: SWARM })));
    assert!(engine.egress_stats().dropped_reset >= 8, "{:?}", engine.egress_stats());
    assert_eq!(engine.link_count(), 1);
    let log = run_exactly(&mut engine, T0 + ms(100), ms(8_000));
    let bodies = when_sent(&log, 1, |message| matches!(message, Message::Gossip(_)));
    assert!(bodies.is_empty(), "the new connection carries what was meant for the old one");

    // It may join again, and is served again.
    let now = T0 + ms(9_000);
    engine.handle_input(received(1, frame(&[please(NeighborRequest::High)], now)), now);
    publish(&mut engine, 100, now).unwrap();
    let outputs = drain(&mut engine, now);
    assert!(outputs.contains(&Output::Event(Event::NeighborUp { swarm: SWARM, peer: 1 })));
    let log = run_exactly(&mut engine, now, ms(1_000));
    let mut later: Vec<_> = outputs.into_iter().map(|output| (now, output)).collect();
    later.extend(log);
    let is_new = |message: &Message<u64>| matches!(message, Message::Gossip(GossipMessage::Data(data)) if data.sequence == 10);
    assert_eq!(when_sent(&later, 1, is_new).len(), 1);
}

#[test]
fn contract_10_a_disconnect_drops_the_queue_and_a_dial_is_answered_by_the_peers_own_connection() {
    let mut engine = Engine::new(0, Config::medium(), Seed::from_u64(1), T0).unwrap();
    engine.join_topic(SWARM, TopicOptions::through([1]), T0).unwrap();
    assert_eq!(engine.poll_output(), Some(Output::Connect { peer: 1 }));
    assert_eq!(engine.poll_output(), None, "nothing may leave before the connection stands");
    // Both dialled: the peer's connection comes first, then the answer to the engine's own dial.
    engine.handle_input(Input::PeerConnected { peer: 1 }, T0);
    let outputs = drain(&mut engine, T0);
    assert!(matches!(&outputs[..], [Output::Send { to: 1, class: Class::Control, .. }]), "{outputs:?}");
    engine.handle_input(Input::PeerDisconnected { peer: 1 }, T0);
    assert_eq!((drain(&mut engine, T0), engine.link_count()), (vec![], 0));
}

#[test]
fn contract_10_a_node_that_restarts_is_a_member_again_and_gets_and_gives_updates() {
    for seed in 0..3 {
        let mut net = Net::swarm(Style::Exact, seed, 8, &Config::small(), ms(3_000));
        for node in 0..8 {
            net.publish(node, Bytes::from_static(b"before"));
        }
        net.run(ms(3_000));
        net.assert_exactly_once();
        // The process is back before anybody has missed it.
        let mut config = Config::small();
        config.epoch = Epoch(1);
        net.restart(4, config, 2);
        for other in (0..8).filter(|&other| other != 4) {
            net.input(other, Input::PeerConnected { peer: 4 });
            net.input(4, Input::PeerConnected { peer: other });
        }
        net.run(ms(5_000));
        assert!(net.hosts[4].engine.neighbors(SWARM).len() >= 2, "seed {seed}");
        for node in 0..8 {
            net.publish(node, Bytes::from_static(b"after"));
        }
        net.run(ms(8_000));
        net.published.retain(|id| id.origin != 4 || id.epoch == Epoch(1));
        net.assert_exactly_once();
    }
}
