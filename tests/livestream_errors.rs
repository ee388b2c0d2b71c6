//! What a caller of a livestream can do wrong: each command that is refused says why and changes nothing. And what a
//! viewer hears for whom there is no place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use suffuse::authority::{AuthorityLimits, AuthoritySet, Policy, WriteRefusal};
use suffuse::sim::{NetworkConfig, NodeId, Observer, World};
use suffuse::{
    BroadcastOptions, CommandError, Config, EgressStats, Engine, EngineStats, Event, Guard, Instant,
    LivestreamStats, LivestreamTracks, Output, PlanError, PublishOptions, Role, Seed, StreamQuality,
    StreamState, SwarmId, TopicOptions, UpdateId, WatchOptions,
};

const T0: Instant = Instant::from_secs(10);
const STREAM: SwarmId = SwarmId::from_name("stream");
const TOPIC: SwarmId = SwarmId::from_name("topic");
const OTHER: SwarmId = SwarmId::from_name("other");
const RATE: u64 = 125_000;

/// Everything that can be seen of an engine from outside.
type View = (
    EngineStats,
    EgressStats,
    Option<LivestreamStats>,
    Option<StreamState>,
    Option<usize>,
    Vec<Option<u64>>,
    usize,
    Option<Instant>,
);

fn view(engine: &Engine<u64>) -> View {
    (
        *engine.stats(),
        *engine.egress_stats(),
        engine.livestream_stats(STREAM),
        engine.stream_state(STREAM),
        engine.media_bytes_max(STREAM),
        engine.stream_parents(STREAM),
        engine.link_count(),
        engine.poll_timeout(),
    )
}

fn engine() -> Engine<u64> {
    Engine::new(0, Config::medium(), Seed::from_u64(1), T0).unwrap()
}

fn broadcast() -> BroadcastOptions<u64> {
    let mut options = BroadcastOptions::new(RATE, RATE * 4);
    options.chat = false;
    options
}

fn watch() -> WatchOptions<u64> {
    let mut options = WatchOptions::new(7);
    options.chat = false;
    options
}

fn drain(engine: &mut Engine<u64>) -> Vec<Output<u64>> {
    std::iter::from_fn(|| engine.poll_output()).collect()
}

/// The source of a stream that went through `states`, drained.
fn source_with(guard: Guard<u64>, states: &[StreamState]) -> Engine<u64> {
    let mut engine = engine();
    engine.open_livestream(STREAM, broadcast(), guard, T0).unwrap();
    for &state in states {
        engine.set_stream_state(STREAM, state, T0).unwrap();
    }
    drain(&mut engine);
    engine
}

fn source(states: &[StreamState]) -> Engine<u64> {
    source_with(Guard::new(), states)
}

/// A viewer of a stream of peer 7 and a member of a topic, drained.
fn viewer() -> Engine<u64> {
    let mut engine = engine();
    engine.watch_livestream(STREAM, watch(), Guard::new(), T0).unwrap();
    engine.join_topic(TOPIC, TopicOptions::first(), T0).unwrap();
    drain(&mut engine);
    engine
}

fn publish(engine: &mut Engine<u64>, bytes: usize) -> Result<UpdateId<u64>, CommandError> {
    let options = PublishOptions { keyframe: true, ..PublishOptions::default() };
    let payload = Bytes::from(vec![7; bytes]);
    engine.publish(STREAM, LivestreamTracks::default().visual(), payload, options, T0)
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
    let end = T0 + Duration::from_secs(3);
    let mut now = T0;
    while now < end {
        now = asked.poll_timeout().unwrap_or(end).max(now);
        for engine in [&mut asked, &mut untouched] {
            engine.handle_timeout(now);
        }
        assert_eq!(drain(&mut asked), drain(&mut untouched));
    }
    assert_eq!(view(&asked), view(&untouched));
}

fn out_of_range(field: &'static str, value: u64, min: u64, max: u64) -> CommandError {
    CommandError::OutOfRange { field, value, min, max }
}

#[test]
fn the_greatest_frame_is_published_and_one_byte_more_is_refused() {
    let active = || source(&[StreamState::Active]);
    let max = active().media_bytes_max(STREAM).unwrap();
    assert_refused(active, CommandError::Oversize { bytes: max + 1, max }, |engine| publish(engine, max + 1));
    let mut engine = active();
    assert!(publish(&mut engine, max).is_ok());
    assert!(publish(&mut engine, 0).is_ok());
    let stats = engine.livestream_stats(STREAM).unwrap();
    assert_eq!((stats.frames_published, stats.bytes_published), (2, max as u64));
}

#[test]
fn only_active_streams_take_media() {
    use StreamState::{Active, Ended, Initializing, Paused};
    let lives: [&[StreamState]; 5] =
        [&[], &[Active, Paused], &[Active, Ended], &[Ended], &[Active, Paused, Ended]];
    for states in lives {
        let state = states.last().copied().unwrap_or(Initializing);
        assert_refused(|| source(states), CommandError::NotActive(state), |engine| publish(engine, 10));
    }
    assert!(publish(&mut source(&[Active, Paused, Active]), 10).is_ok());
}

#[test]
fn steps_that_do_not_exist_are_refused() {
    use StreamState::{Active, Ended, Initializing, Paused};
    let lives: [(&[StreamState], &[StreamState]); 4] = [
        (&[], &[Initializing, Paused]),
        (&[Active], &[Initializing, Active]),
        (&[Active, Paused], &[Initializing, Paused]),
        (&[Active, Ended], &[Initializing, Active, Paused, Ended]),
    ];
    for (states, refused) in lives {
        for &to in refused {
            let from = states.last().copied().unwrap_or(Initializing);
            assert_refused(
                || source(states),
                CommandError::StreamStep { from, to },
                |engine| engine.set_stream_state(STREAM, to, T0),
            );
        }
    }
}

#[test]
fn viewers_neither_publish_nor_rule() {
    let expected = CommandError::NotSource(STREAM);
    assert_refused(viewer, expected, |engine| publish(engine, 10));
    assert_refused(viewer, expected, |engine| engine.set_stream_state(STREAM, StreamState::Active, T0));
}

#[test]
fn a_source_does_not_watch_itself() {
    let active = || source(&[StreamState::Active]);
    let expected = CommandError::NotWatched(STREAM);
    assert_refused(active, expected, |engine| engine.set_stream_quality(STREAM, StreamQuality::Auto, T0));
    assert_refused(active, expected, |engine| engine.set_stream_role(STREAM, Role::Lurker, T0));
    assert_refused(active, expected, |engine| engine.request_keyframe(STREAM, T0));
}

#[test]
fn a_source_that_could_not_send_the_stream_once_is_told_what_it_takes() {
    let mut engine = source(&[StreamState::Active]);
    let CommandError::Plan(PlanError::OutOfRange { field, value, min, .. }) =
        engine.set_stream_upload(STREAM, Some(1), T0).unwrap_err()
    else {
        panic!("not about the plan");
    };
    assert_eq!((field, value), ("root_upload_bytes_per_s", 1));
    for upload in [None, Some(1), Some(min - 1)] {
        let value = upload.unwrap_or(0);
        let expected = CommandError::Plan(PlanError::OutOfRange { field, value, min, max: u64::MAX });
        let active = || source(&[StreamState::Active]);
        assert_refused(active, expected, |engine| engine.set_stream_upload(STREAM, upload, T0));
    }
    assert_eq!(engine.set_stream_upload(STREAM, Some(min), T0), Ok(()));
}

#[test]
fn without_the_right_nothing_is_published() {
    let frozen = || {
        let set = AuthoritySet::new(STREAM, 0, Policy::Frozen, AuthorityLimits::default());
        source_with(Guard::new().authority(set), &[StreamState::Active])
    };
    let expected = CommandError::NotAuthorized(WriteRefusal::Frozen);
    assert_refused(frozen, expected, |engine| publish(engine, 10));
    let foreign = || {
        let set = AuthoritySet::new(STREAM, 5, Policy::Exclusive { owner: 5 }, AuthorityLimits::default());
        source_with(Guard::new().authority(set), &[StreamState::Active])
    };
    assert_refused(foreign, CommandError::NotAuthorized(WriteRefusal::NoRight), |engine| publish(engine, 10));
}

#[test]
fn options_outside_their_range_are_refused() {
    let open = |change: fn(&mut BroadcastOptions<u64>), expected| {
        for tracks in [false, true] {
            assert_refused(engine, expected, |engine| {
                let mut options = broadcast();
                change(&mut options);
                if tracks {
                    engine.track_livestream(STREAM, options, 7, T0)
                } else {
                    engine.open_livestream(STREAM, options, Guard::new(), T0)
                }
            });
        }
    };
    open(|options| options.stripes = Some(0), out_of_range("stripes", 0, 1, 16));
    open(|options| options.stripes = Some(17), out_of_range("stripes", 17, 1, 16));
    open(|options| (options.stripes, options.viewers_max) = (Some(4), 3), out_of_range("stripes", 4, 1, 3));
    open(|options| options.viewers_max = 0, out_of_range("viewers_max", 0, 1, 1 << 24));
    open(|options| options.rate_bytes_per_s = 99, out_of_range("rate_bytes_per_s", 99, 100, 10_000_000_000));
    open(|options| options.upload_bytes_per_s = 0, out_of_range("upload_bytes_per_s", 0, 1, u64::MAX));
    open(|options| options.redundancy_percent = 99, out_of_range("redundancy_percent", 99, 100, 300));
    open(|options| options.redundancy_percent = 301, out_of_range("redundancy_percent", 301, 100, 300));
    open(|options| options.deadline = Duration::ZERO, out_of_range("deadline", 0, 50, 60_000));
    open(
        |options| options.keyframe_request_interval = Duration::from_secs(61),
        out_of_range("keyframe_request_interval", 61_000, 100, 60_000),
    );
    open(
        |options| options.retained_bytes_max = 4_095,
        out_of_range("retained_bytes_max", 4_095, 4_096, 1 << 32),
    );

    let watch_with = |change: fn(&mut WatchOptions<u64>), expected| {
        assert_refused(engine, expected, |engine| {
            let mut options = watch();
            change(&mut options);
            engine.watch_livestream(STREAM, options, Guard::new(), T0)
        });
    };
    let upload = out_of_range("upload_bytes_per_s", 0, 1, u64::MAX);
    watch_with(|options| options.upload_bytes_per_s = Some(0), upload);
    watch_with(|options| options.quality = StreamQuality::UpTo(8), CommandError::Layer(8));
    watch_with(
        |options| options.retained_bytes_max = 0,
        out_of_range("retained_bytes_max", 0, 4_096, 1 << 32),
    );
    assert_refused(viewer, upload, |engine| engine.set_stream_upload(STREAM, Some(0), T0));
    let layer = StreamQuality::UpTo(8);
    assert_refused(viewer, CommandError::Layer(8), |engine| engine.set_stream_quality(STREAM, layer, T0));
}

#[test]
fn as_many_stripes_as_viewers_work() {
    let mut options = broadcast();
    (options.stripes, options.viewers_max) = (Some(3), 3);
    assert_eq!(engine().open_livestream(STREAM, options.clone(), Guard::new(), T0), Ok(()));
    // Left to the engine, the number fits.
    (options.stripes, options.viewers_max) = (None, 1);
    assert_eq!(engine().open_livestream(STREAM, options, Guard::new(), T0), Ok(()));
}

#[test]
fn a_swarm_is_joined_once() {
    let expected = CommandError::AlreadyJoined(STREAM);
    let builders: [fn() -> Engine<u64>; 2] = [|| source(&[StreamState::Active]), viewer];
    for build in builders {
        assert_refused(build, expected, |engine| {
            engine.open_livestream(STREAM, broadcast(), Guard::new(), T0)
        });
        assert_refused(build, expected, |engine| engine.watch_livestream(STREAM, watch(), Guard::new(), T0));
        assert_refused(build, expected, |engine| engine.track_livestream(STREAM, broadcast(), 7, T0));
        assert_refused(build, expected, |engine| engine.join_topic(STREAM, TopicOptions::first(), T0));
    }
    let expected = CommandError::AlreadyJoined(TOPIC);
    assert_refused(viewer, expected, |engine| engine.watch_livestream(TOPIC, watch(), Guard::new(), T0));
}

#[test]
fn what_is_no_livestream_is_named() {
    let quality = StreamQuality::Auto;
    for (swarm, expected) in
        [(TOPIC, CommandError::NotLivestream(TOPIC)), (OTHER, CommandError::UnknownSwarm(OTHER))]
    {
        assert_refused(viewer, expected, |engine| engine.set_stream_state(swarm, StreamState::Active, T0));
        assert_refused(viewer, expected, |engine| engine.set_stream_quality(swarm, quality, T0));
        assert_refused(viewer, expected, |engine| engine.set_stream_role(swarm, Role::Viewer, T0));
        assert_refused(viewer, expected, |engine| engine.set_stream_upload(swarm, None, T0));
        assert_refused(viewer, expected, |engine| engine.request_keyframe(swarm, T0));
        let engine = viewer();
        assert_eq!((engine.stream_state(swarm), engine.livestream_stats(swarm)), (None, None));
        assert_eq!((engine.media_bytes_max(swarm), engine.stream_parents(swarm)), (None, vec![]));
    }
}

#[test]
fn the_own_name_is_no_source_and_no_tracker() {
    let expected = CommandError::OwnName;
    assert_refused(engine, expected, |engine| {
        let mut options = watch();
        options.source = 0;
        engine.watch_livestream(STREAM, options, Guard::new(), T0)
    });
    assert_refused(engine, expected, |engine| {
        let mut options = watch();
        options.tracker = Some(0);
        engine.watch_livestream(STREAM, options, Guard::new(), T0)
    });
    assert_refused(engine, expected, |engine| {
        let mut options = broadcast();
        options.tracker = Some(0);
        engine.open_livestream(STREAM, options, Guard::new(), T0)
    });
    assert_refused(engine, expected, |engine| engine.track_livestream(STREAM, broadcast(), 0, T0));
}

#[derive(Default)]
struct Places {
    joined: BTreeSet<NodeId>,
    isolated: BTreeSet<NodeId>,
    refused: BTreeMap<NodeId, u64>,
    frames: BTreeMap<NodeId, u64>,
}

impl Observer for Places {
    fn event(&mut self, node: NodeId, _now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Joined { .. } => drop(self.joined.insert(node)),
            Event::Isolated { .. } => drop(self.isolated.insert(node)),
            Event::WatchRefused { needed_bytes_per_s, .. } => {
                self.refused.insert(node, *needed_bytes_per_s);
            }
            Event::Delivered(_) => *self.frames.entry(node).or_default() += 1,
            _ => {}
        }
    }
}

#[test]
fn without_upload_there_are_as_many_places_as_the_source_has() {
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(1), Places::default());
    world.add(|birth| {
        let mut engine = Engine::new(birth.node, Config::medium(), birth.seed, birth.now).unwrap();
        let mut options = BroadcastOptions::new(RATE, RATE * 4);
        options.chat = false;
        engine.open_livestream(STREAM, options, Guard::new(), birth.now).unwrap();
        engine.set_stream_state(STREAM, StreamState::Active, birth.now).unwrap();
        engine
    });
    for _ in 0..10 {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::medium(), birth.seed, birth.now).unwrap();
            let mut options = WatchOptions::new(0);
            options.chat = false;
            engine.watch_livestream(STREAM, options, Guard::new(), birth.now).unwrap();
            engine
        });
        world.run_for(Duration::from_millis(200));
    }
    world.run_for(Duration::from_secs(5));
    for frame in 0..60 {
        let options = PublishOptions { keyframe: frame % 30 == 0, ..PublishOptions::default() };
        let payload = Bytes::from(vec![1; (RATE / 30) as usize]);
        let state = LivestreamTracks::default().visual();
        world.with_host(0, |engine, now| engine.publish(STREAM, state, payload, options, now).unwrap());
        world.run_for(Duration::from_millis(33));
    }
    world.run_for(Duration::from_secs(3));
    let planned = world.host(0).unwrap().livestream_stats(STREAM).unwrap();
    let places = world.observer();
    println!("joined {:?}, refused {:?}, {} refusals", places.joined, places.refused, planned.plan_refusals);
    // Four times the rate, less what headers take.
    assert_eq!(places.joined, BTreeSet::from([1, 2, 3]));
    assert_eq!(places.refused.keys().copied().collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10]);
    assert!(places.refused.values().all(|needed| (1..=RATE * 2).contains(needed)), "{:?}", places.refused);
    assert!(places.isolated.is_empty());
    assert_eq!(planned.viewers, 3);
    assert!(planned.plan_refusals >= 7);
    let expected: BTreeMap<NodeId, u64> = (1..=3).map(|node| (node, 60)).collect();
    assert_eq!(places.frames, expected);

    // Whoever leaves makes room for one who asks again.
    world.with_host(2, |engine, now| engine.leave(STREAM, now)).unwrap().unwrap();
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.observer().joined.len(), 4);
    assert_eq!(world.host(0).unwrap().livestream_stats(STREAM).unwrap().viewers, 3);
}

/// A source that cannot send its stream once is told how much it would need.
#[test]
fn a_source_without_the_upload_is_told_what_it_needs() {
    let open = |engine: &mut Engine<u64>, upload, tracks| {
        let mut options = broadcast();
        options.upload_bytes_per_s = upload;
        if tracks {
            engine.track_livestream(STREAM, options, 7, T0)
        } else {
            engine.open_livestream(STREAM, options, Guard::new(), T0)
        }
    };
    for tracks in [false, true] {
        let Err(CommandError::Plan(PlanError::OutOfRange { field, value, min, .. })) =
            open(&mut engine(), RATE / 2, tracks)
        else {
            panic!("half the rate is enough for nobody");
        };
        assert_eq!(value, RATE / 2);
        assert!((RATE + 1..RATE * 6 / 5).contains(&min), "{field}: {min}");
        for upload in [1, RATE / 2, RATE, min - 1] {
            let max = u64::MAX;
            let error = CommandError::Plan(PlanError::OutOfRange { field, value: upload, min, max });
            assert_refused(engine, error, |engine| open(engine, upload, tracks));
        }
        assert_eq!(open(&mut engine(), min, tracks), Ok(()), "as much as it was told");
    }
}
