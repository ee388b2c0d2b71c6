//! A tracker as a node of its own: it plans, and carries no media.

use std::num::NonZeroU64;
use std::time::Duration;

use suffuse::sim::NodeId;
use suffuse::{BroadcastOptions, Engine, Epoch, Guard, StreamState};

use crate::stage::{FPS, RATE, SOURCE, STREAM, Stage, TRACKS, config};

const TRACKER: NodeId = 1;

fn options() -> BroadcastOptions<NodeId> {
    let mut options = BroadcastOptions::new(RATE, RATE * 3);
    options.chat = false;
    options
}

/// A source, its tracker, and viewers that know both.
fn stage(seed: u64, viewers: u64) -> (Stage, Vec<NodeId>) {
    let mut stage = Stage::open(seed, 10_000, RATE * 3, Guard::new(), |options| {
        options.tracker = Some(TRACKER);
    });
    let tracker = stage.world.add(|birth| {
        let mut engine = Engine::new(birth.node, config(RATE), birth.seed, birth.now).unwrap();
        engine.track_livestream(STREAM, options(), SOURCE, birth.now).unwrap();
        engine
    });
    assert_eq!(tracker, TRACKER);
    stage.world.set_upload(TRACKER, NonZeroU64::new(RATE * 8));
    let viewers = (0..viewers).map(|place| watch(&mut stage, RATE * (place % 3 + 1))).collect();
    (stage, viewers)
}

fn watch(stage: &mut Stage, upload: u64) -> NodeId {
    let node = stage.watch_with(upload, Guard::new(), |options| options.tracker = Some(TRACKER));
    stage.run_ms(5);
    node
}

#[test]
fn a_tracker_plans_and_carries_no_media() {
    let (mut stage, mut viewers) = stage(1, 24);
    stage.run_ms(1_000);
    stage.set_state(StreamState::Active);
    stage.play(2 * FPS);
    let planned = stage.stats(TRACKER);
    assert_eq!((planned.viewers, planned.viewers_peak), (24, 24));
    assert!(planned.plan_depth_max >= 2, "some are fed by others: {planned:?}");
    assert_eq!(stage.stats(SOURCE).viewers, 0, "the source plans nothing");

    // A relay dies: the tracker finds its children other parents.
    let dead = viewers.iter().copied().max_by_key(|&node| stage.fed_by(node)).unwrap();
    assert!(stage.fed_by(dead) > 2);
    stage.world.crash(dead);
    viewers.retain(|&node| node != dead);
    stage.play(4 * FPS);
    stage.run_ms(3_000);
    let planned = stage.stats(TRACKER);
    assert_eq!((planned.viewers, planned.plan_leaves), (23, 1), "{planned:?}");
    for &node in &viewers {
        let numbers = stage.log().numbers(node, TRACKS.visual());
        assert_eq!(numbers, (0..180).collect::<Vec<_>>(), "viewer {node}: {:?}", stage.stats(node));
        assert!(stage.parents(node).iter().all(|parent| parent.is_some_and(|parent| parent != dead)));
    }
    let log = stage.log();
    assert!(!log.arrivals.contains_key(&TRACKER), "media reached the tracker");
    let sent = log.arrivals.values().flatten().filter(|arrival| arrival.from == TRACKER).count();
    assert_eq!(sent, 0);
    log.assert_sound();
}

#[test]
fn who_asks_a_tracker_after_the_end_is_told() {
    let (mut stage, viewers) = stage(2, 6);
    stage.run_ms(1_000);
    stage.set_state(StreamState::Active);
    stage.play(FPS);
    stage.set_state(StreamState::Ended);
    stage.run_ms(3_000);
    for node in viewers {
        assert_eq!(stage.world.host(node).unwrap().stream_state(STREAM), Some(StreamState::Ended));
    }
    let planned = stage.stats(TRACKER);
    let late = watch(&mut stage, RATE);
    stage.run_ms(3_000);
    assert_eq!(stage.world.host(late).unwrap().stream_state(STREAM), Some(StreamState::Ended));
    assert_eq!(stage.log().joined.get(&late), None, "nobody is admitted any more");
    assert_eq!(stage.stats(TRACKER).viewers_unique, planned.viewers_unique);
}

/// The source dies and comes back with a new life; the tracker and the viewers stay.
#[test]
fn a_tracker_outlives_its_source() {
    let (mut stage, viewers) = stage(3, 6);
    stage.run_ms(1_000);
    stage.set_state(StreamState::Active);
    stage.play(2 * FPS);
    stage.world.crash(SOURCE);
    stage.run_ms(2_000);
    stage.world.restart(SOURCE, |birth| {
        let mut config = config(RATE * 3);
        config.epoch = Epoch(birth.life);
        let mut engine = Engine::new(birth.node, config, birth.seed, birth.now).unwrap();
        let mut options = options();
        options.tracker = Some(TRACKER);
        engine.open_livestream(STREAM, options, Guard::new(), birth.now).unwrap();
        engine
    });
    stage.run_ms(8_000);
    let again = stage.now();
    stage.frames = 0;
    stage.set_state(StreamState::Active);
    stage.play(2 * FPS);
    stage.run_ms(Duration::from_secs(3).as_millis() as u64);
    for node in viewers {
        let frames = stage.log().track(node, TRACKS.visual());
        let numbers: Vec<u64> =
            frames.iter().filter(|frame| frame.at > again).map(|frame| frame.number).collect();
        assert_eq!(numbers, (0..60).collect::<Vec<_>>(), "viewer {node}: {:?}", stage.stats(node));
    }
}

#[test]
fn a_tracker_learns_what_its_source_can_send() {
    let (mut stage, viewers) = stage(3, 18);
    stage.run_ms(1_000);
    stage.set_state(StreamState::Active);
    stage.play(2 * FPS);
    let stripes = stage.parents(viewers[0]).len();
    let before = stage.fed_by(SOURCE);
    assert!(before * 2 > stripes * 3, "{before} places of {stripes} stripes");
    stage.source(|engine, now| engine.set_stream_upload(STREAM, Some(RATE * 5 / 4), now).unwrap());
    stage.play(4 * FPS);
    let after = stage.fed_by(SOURCE);
    println!("{stripes} stripes: the source feeds {before} places, then {after}");
    assert!(after * 4 <= stripes * 5, "{after} places of {stripes} stripes at 1.25 times the rate");
    assert!(viewers.iter().all(|&node| stage.parents(node).iter().all(Option::is_some)));
    stage.run_ms(3_000);
    stage.log().assert_sound();
}
