//! What a caller can do wrong: each command that is refused says why, with its numbers, and changes nothing.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::{SWARM, drain, frame, ms, sent_to};
use suffuse::wire::{GossipMessage, MembershipMessage, Message, NeighborRequest};
use suffuse::{
    CommandError, Config, ConfigError, EgressStats, Engine, EngineStats, Event, Input, Instant, Output,
    PublishOptions, Retention, Seed, StateId, SwarmId, TopicOptions, TopicStats, UpdateId,
};

const T0: Instant = Instant::from_secs(10);
const OTHER: SwarmId = SwarmId::from_name("other");

/// Everything that can be seen of an engine from outside.
type View = (EngineStats, EgressStats, Option<TopicStats>, Vec<u64>, Option<u64>, usize, Option<Instant>);

fn view(engine: &Engine<u64>) -> View {
    (
        *engine.stats(),
        *engine.egress_stats(),
        engine.topic_stats(SWARM),
        engine.neighbors(SWARM),
        engine.fingerprint(SWARM),
        engine.link_count(),
        engine.poll_timeout(),
    )
}

fn engine(config: Config) -> Engine<u64> {
    Engine::new(0, config, Seed::from_u64(1), T0).unwrap()
}

/// A member of one swarm with a neighbour and an update, drained.
fn member(config: Config) -> Engine<u64> {
    let mut engine = engine(config);
    engine.join_topic(SWARM, TopicOptions::first(), T0).unwrap();
    let request = MembershipMessage::Neighbor { swarm: SWARM, request: NeighborRequest::High };
    let hello = frame(&[Message::Membership(request)], T0);
    engine.handle_input(Input::Received { from: 1, frame: hello }, T0);
    publish(&mut engine, 10).unwrap();
    drain(&mut engine, T0);
    engine
}

fn publish(engine: &mut Engine<u64>, bytes: usize) -> Result<UpdateId<u64>, CommandError> {
    publish_to(engine, SWARM, bytes, PublishOptions::default())
}

fn publish_to(
    engine: &mut Engine<u64>,
    swarm: SwarmId,
    bytes: usize,
    options: PublishOptions,
) -> Result<UpdateId<u64>, CommandError> {
    engine.publish(swarm, StateId(u64::MAX), Bytes::from(vec![7; bytes]), options, T0)
}

/// A drained engine refuses `command` with `expected`; nothing comes out, nothing that can be seen changes, and it works
/// on as if nothing had been asked.
#[track_caller]
fn assert_refused<R: std::fmt::Debug + PartialEq>(
    build: impl Fn() -> Engine<u64>,
    expected: CommandError,
    command: impl Fn(&mut Engine<u64>) -> Result<R, CommandError>,
) {
    let (mut asked, mut untouched) = (build(), build());
    let before = view(&asked);
    for _ in 0..3 {
        assert_eq!(command(&mut asked), Err(expected));
    }
    assert_eq!(view(&asked), before);
    assert_eq!(asked.poll_output(), None);
    let text = expected.to_string();
    assert!(text.contains("nothing was changed") || text.contains("nothing was published"), "{text}");
    let mut now = T0;
    while now < T0 + ms(1_000) {
        now = asked.poll_timeout().unwrap_or(T0 + ms(1_000));
        for engine in [&mut asked, &mut untouched] {
            engine.handle_timeout(now);
        }
        assert_eq!(drain(&mut asked, now), drain(&mut untouched, now));
    }
    assert_eq!(view(&asked), view(&untouched));
}

#[test]
fn the_greatest_payload_arrives_and_one_byte_more_is_refused() {
    assert!(member(Config::medium()).payload_bytes_max() > 1_100);
    let max = Config::medium().gossip.update_bytes_max;
    assert_refused(
        || member(Config::medium()),
        CommandError::Oversize { bytes: max + 1, max },
        |engine| publish(engine, max + 1),
    );
    let text = CommandError::Oversize { bytes: max + 1, max }.to_string();
    assert!(text.contains(&max.to_string()) && text.contains(&(max + 1).to_string()), "{text}");

    for frame_bytes_max in [256, 1_200, 65_000, 1 << 20] {
        let mut config = Config::medium();
        config.frame_bytes_max = frame_bytes_max;
        config.egress.peer_queue_bytes_max = 1 << 22;
        // In one frame, however large.
        config.gossip.chunk_above_bytes = 1 << 20;
        let mut engine = member(config);
        let max = engine.payload_bytes_max();
        let id = publish(&mut engine, max).unwrap();
        let outputs = drain(&mut engine, T0);
        let bodies: Vec<_> = sent_to(&outputs, 1, T0)
            .into_iter()
            .filter_map(|message| match message {
                Message::Gossip(GossipMessage::Data(data)) => Some((data.sequence, data.body.len())),
                _ => None,
            })
            .collect();
        assert_eq!(bodies, [(id.sequence, max)], "frames of {frame_bytes_max} bytes");
        let fits = |output: &Output<u64>| !matches!(output, Output::Send { frame, .. } if frame.len() > frame_bytes_max);
        assert!(outputs.iter().all(fits));
    }
}

#[test]
fn an_unknown_swarm_is_refused_by_every_command() {
    let expected = CommandError::UnknownSwarm(OTHER);
    let build = || member(Config::medium());
    let options = PublishOptions::default();
    assert_refused(build, expected, |engine| publish_to(engine, OTHER, 10, options));
    assert_refused(build, expected, |engine| engine.leave(OTHER, T0));
    assert_refused(build, expected, |engine| engine.add_peers(OTHER, &[5], T0));
}

#[test]
fn a_swarm_that_was_left_is_unknown_and_can_be_joined_again() {
    let left = || {
        let mut engine = member(Config::medium());
        engine.leave(SWARM, T0).unwrap();
        drain(&mut engine, T0);
        engine
    };
    let expected = CommandError::UnknownSwarm(SWARM);
    assert_refused(left, expected, |engine| publish(engine, 10));
    assert_refused(left, expected, |engine| engine.leave(SWARM, T0));
    assert_refused(left, expected, |engine| engine.add_peers(SWARM, &[5], T0));
    let mut engine = left();
    assert_eq!(engine.topic_stats(SWARM), None);
    assert_eq!(engine.fingerprint(SWARM), None);
    engine.join_topic(SWARM, TopicOptions::first(), T0).unwrap();
    assert!(publish(&mut engine, 10).is_ok());
}

#[test]
fn a_joined_swarm_is_not_joined_twice() {
    assert_refused(
        || member(Config::medium()),
        CommandError::AlreadyJoined(SWARM),
        |engine| engine.join_topic(SWARM, TopicOptions::through([5]), T0),
    );
}

/// Two swarms with one tag, by the birthday paradox: of 200,000 ids about five pairs share 32 bits.
fn twins() -> (SwarmId, SwarmId) {
    let mut seen = BTreeMap::new();
    for number in 0.. {
        let swarm = SwarmId(number);
        if let Some(first) = seen.insert(swarm.tag(), swarm) {
            return (first, swarm);
        }
    }
    unreachable!("32 bits repeat after 2^32 ids at the latest");
}

#[test]
fn a_second_swarm_with_the_same_tag_is_refused_and_never_mistaken_for_the_first() {
    let (first, second) = twins();
    assert_ne!(first, second);
    let build = || {
        let mut engine = engine(Config::medium());
        engine.join_topic(first, TopicOptions::first(), T0).unwrap();
        engine
    };
    let join = |engine: &mut Engine<u64>| engine.join_topic(second, TopicOptions::first(), T0);
    assert_refused(build, CommandError::TagTaken(second), join);
    let options = PublishOptions::default();
    let expected = CommandError::UnknownSwarm(second);
    assert_refused(build, expected, |engine| publish_to(engine, second, 10, options));
    assert_refused(build, expected, |engine| engine.leave(second, T0));
    assert_refused(build, expected, |engine| engine.add_peers(second, &[5], T0));
    let engine = build();
    assert_eq!((engine.topic_stats(second), engine.fingerprint(second)), (None, None));
}

#[test]
fn more_swarms_than_configured_are_refused_until_one_is_left() {
    let build = || {
        let mut config = Config::medium();
        config.swarms_max = 1;
        member(config)
    };
    let join = |engine: &mut Engine<u64>| engine.join_topic(OTHER, TopicOptions::first(), T0);
    assert_refused(build, CommandError::TooManySwarms { max: 1 }, join);
    let mut engine = build();
    engine.leave(SWARM, T0).unwrap();
    assert_eq!(join(&mut engine), Ok(()));
}

#[test]
fn the_engines_own_name_is_no_contact_and_no_peer() {
    let build = || member(Config::medium());
    let join = |engine: &mut Engine<u64>| engine.join_topic(OTHER, TopicOptions::through([5, 0]), T0);
    assert_refused(build, CommandError::OwnName, join);
    assert_refused(build, CommandError::OwnName, |engine| engine.add_peers(SWARM, &[5, 0], T0));
}

#[test]
fn more_peers_than_the_passive_view_holds_are_refused() {
    let build = || member(Config::medium());
    let max = Config::medium().membership.passive_max;
    let many: Vec<_> = (100..).take(max + 1).collect();
    let expected = CommandError::TooManyPeers { given: max + 1, max };
    assert_refused(build, expected, |engine| engine.add_peers(SWARM, &many, T0));
    assert_refused(build, expected, |engine| {
        engine.join_topic(OTHER, TopicOptions::through(many.iter().copied()), T0)
    });
    let mut engine = build();
    assert_eq!(engine.add_peers(SWARM, &many[1..], T0), Ok(()));
    assert_eq!(engine.topic_stats(SWARM).unwrap().passive, max);
}

#[test]
fn layers_go_up_to_seven() {
    let publish_layer = |engine: &mut Engine<u64>, layer| {
        let options = PublishOptions { layer, ..PublishOptions::default() };
        publish_to(engine, SWARM, 10, options)
    };
    for layer in [8, 255] {
        assert_refused(
            || member(Config::medium()),
            CommandError::Layer(layer),
            |engine| publish_layer(engine, layer),
        );
    }
    assert!(publish_layer(&mut member(Config::medium()), 7).is_ok());
}

#[test]
fn a_full_queue_refuses_an_update_and_leaves_no_gap_in_the_sequence() {
    let mut config = Config::medium();
    config.egress.queue_bytes_max = 10_000;
    config.egress.upload_bytes_per_s = Some(100_000);
    let mut engine = member(config);
    let mut last = 0;
    while let Ok(id) = publish(&mut engine, 1_000) {
        last = id.sequence;
    }
    let before = view(&engine);
    let refused = publish(&mut engine, 1_000);
    assert!(
        matches!(refused, Err(CommandError::QueueFull { queued: 9_000..=10_000, max: 10_000 })),
        "{refused:?}"
    );
    assert_eq!(view(&engine), before);
    // Smaller ones may fit still.
    let mut now = T0;
    let mut called = false;
    while !called {
        now += ms(10);
        engine.handle_timeout(now);
        called = drain(&mut engine, now).contains(&Output::Event(Event::Writable));
        assert!(now < T0 + ms(1_000), "the writer was not called");
    }
    assert_eq!(publish(&mut engine, 1_000).unwrap().sequence, last + 1);
}

#[test]
fn a_retention_that_keeps_nothing_is_refused() {
    let build = || member(Config::medium());
    let second = Duration::from_secs(1);
    let refused = |retention, field| {
        assert!(
            matches!(
                build().join_topic(OTHER, TopicOptions::first().retention(retention), T0),
                Err(CommandError::OutOfRange { field: named, value: 0, min: 1, .. }) if named == field
            ),
            "{retention:?}"
        );
        let expected = build().join_topic(OTHER, TopicOptions::first().retention(retention), T0).unwrap_err();
        assert_refused(build, expected, |engine| {
            engine.join_topic(OTHER, TopicOptions::first().retention(retention), T0)
        });
    };
    refused(Retention::Window { age: second, bytes: 0 }, "retention.bytes");
    refused(Retention::Window { age: Duration::ZERO, bytes: 1 }, "retention.age");
    refused(Retention::SinceKeyframe { bytes: 0 }, "retention.bytes");
    for retention in [
        Retention::Latest,
        Retention::SinceKeyframe { bytes: 1 },
        Retention::Window { age: second, bytes: 1 },
    ] {
        let options = TopicOptions::first().retention(retention);
        assert_eq!(build().join_topic(OTHER, options, T0), Ok(()));
    }
}

#[test]
fn an_engine_with_a_bad_configuration_is_not_made() {
    let make = |spoil: fn(&mut Config)| {
        let mut config = Config::medium();
        spoil(&mut config);
        Engine::<u64>::new(0, config, Seed::from_u64(1), T0).map(|_| ()).unwrap_err()
    };
    let small = make(|config| config.frame_bytes_max = 255);
    let expected = ConfigError::OutOfRange { field: "frame_bytes_max", value: 255, min: 256, max: 1 << 20 };
    assert_eq!(small, expected);
    assert_eq!(
        small.to_string(),
        "`frame_bytes_max` is 255, but must be from 256 to 1048576; nothing was created"
    );
    let crossed = make(|config| config.membership.active_max = 7);
    assert!(
        matches!(crossed, ConfigError::OutOfRange { field: "membership.active_max", value: 7, min: 8, .. }),
        "{crossed:?}"
    );
    let order = make(|config| config.gossip.sync_interval_min = Duration::from_secs(5));
    assert_eq!(
        order,
        ConfigError::Order { lesser: "gossip.sync_interval_min", greater: "gossip.sync_interval_max" }
    );
    assert!(order.to_string().contains("must not exceed"), "{order}");
}
