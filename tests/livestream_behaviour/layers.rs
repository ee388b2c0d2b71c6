//! Layers: how many are wanted, and when they change.

use std::time::Duration;

use suffuse::sim::{Fault, NodeId};
use suffuse::{Instant, StreamQuality, StreamState};

use crate::stage::{FPS, RATE, SOURCE, STREAM, Stage, chunks, layer};

/// 40 % of the rate in the base, the rest in two layers.
fn layers() -> [(suffuse::StateId, usize); 3] {
    let frame = (RATE / FPS) as usize;
    [(layer(0), frame * 2 / 5), (layer(1), frame * 3 / 10), (layer(2), frame * 3 / 10)]
}

fn play(stage: &mut Stage, frames: u64) {
    for _ in 0..frames {
        stage.publish(&layers());
    }
}

/// What reaches `viewer` from the source passes a link of this rate; what does not fit is lost.
fn narrow(stage: &mut Stage, viewer: NodeId, bytes_per_s: u64) {
    let (mut last, mut saved) = (Instant::ZERO, 0);
    let burst = bytes_per_s / 20;
    let filter = move |now: Instant, to, frame: bytes::Bytes| {
        if to != viewer || chunks(&frame).is_empty() {
            return Some(frame);
        }
        let gap = (now - last).as_micros() as u64;
        last = now;
        saved = (saved + bytes_per_s * gap / 1_000_000).min(burst);
        let bytes = frame.len() as u64;
        if saved < bytes {
            return None;
        }
        saved -= bytes;
        Some(frame)
    };
    stage.world.set_fault(SOURCE, Some(Fault::Filter(Box::new(filter))));
}

#[test]
fn layers_that_a_link_cannot_bear_are_given_up_and_tried_again() {
    let mut stage = Stage::new(1, 0, RATE * 10);
    let viewer = stage.watch(RATE);
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    play(&mut stage, 3 * FPS);
    assert!(stage.log().layers.is_empty(), "nothing is late: {:?}", stage.log().layers);
    for number in 0..3 {
        assert!(stage.log().track(viewer, layer(number)).len() > 80, "layer {number}");
    }

    // 60 % of what all layers need: base and one layer would fit without their headers.
    let narrowed = stage.now();
    narrow(&mut stage, viewer, RATE * 6 / 10);
    play(&mut stage, 12 * FPS);
    let changes = stage.log().layers[&viewer].clone();
    println!("narrowed at {narrowed:?}: {changes:?}");
    assert_eq!(changes[0].1, 1, "the highest layer goes first");
    assert!(changes[0].0 - narrowed < Duration::from_millis(4_500), "{:?}", changes[0].0 - narrowed);
    let lowest = changes.iter().map(|(_, layer)| *layer).min().unwrap();
    let settled = stage.now() - Duration::from_secs(2);
    let base = stage.log().track(viewer, layer(0));
    let recent = base.iter().filter(|frame| frame.born > settled).count();
    assert!(recent > 50, "with fewer layers the base comes again: {recent} frames of the last 60");

    let widened = stage.now();
    stage.world.set_fault(SOURCE, None);
    play(&mut stage, 40 * FPS);
    let after = &stage.log().layers[&viewer];
    println!("widened at {widened:?}: {after:?}");
    assert!(lowest < 2 && after.last().unwrap().1 == 2, "all layers come back");
    // One at a time, and the patience between them is kept.
    let up = after.iter().filter(|(at, _)| *at > widened);
    assert!(up.clone().zip(up.skip(1)).all(|(first, second)| second.1 == first.1 + 1), "{after:?}");
    assert!(stage.log().track(viewer, layer(2)).iter().any(|frame| frame.at > widened));
    assert_eq!(stage.stats(viewer).quality_changes, after.len() as u64);
    // Nothing begins inside a group.
    stage.log().assert_sound();
}

#[test]
fn fewer_layers_at_once_more_from_the_next_keyframe() {
    let mut stage = Stage::new(2, 0, RATE * 10);
    let viewer = stage.watch_with(RATE, suffuse::Guard::new(), |options| {
        options.quality = StreamQuality::UpTo(1);
    });
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    play(&mut stage, 40);
    let set = |stage: &mut Stage, quality| {
        let command =
            |engine: &mut suffuse::Engine<_>, now| engine.set_stream_quality(STREAM, quality, now).unwrap();
        stage.world.with_host(viewer, command).unwrap();
        stage.now()
    };
    assert_eq!(stage.log().bytes_since(viewer, layer(2), Instant::ZERO), 0, "never asked for");
    assert!(stage.log().track(viewer, layer(1)).len() > 35);

    // Down in the middle of a group: what was under way is the last.
    let down = set(&mut stage, StreamQuality::UpTo(0));
    play(&mut stage, 10);
    let under_way = Duration::from_millis(150);
    assert_eq!(stage.log().bytes_since(viewer, layer(1), down + under_way), 0);
    assert!(stage.log().track(viewer, layer(1)).iter().all(|frame| frame.at <= down));

    // Up in the middle of a group: frame 60 is the next keyframe.
    let up = set(&mut stage, StreamQuality::UpTo(2));
    play(&mut stage, 60);
    stage.run_ms(500);
    for number in 1..=2 {
        let later: Vec<_> =
            stage.log().track(viewer, layer(number)).into_iter().filter(|frame| frame.at > up).collect();
        assert_eq!((later[0].number, later[0].keyframe), (60, true), "layer {number}");
        assert_eq!(later.len(), 50, "layer {number}");
    }
    assert_eq!(stage.log().numbers(viewer, layer(0)), (0..110).collect::<Vec<_>>(), "the base is whole");
    stage.log().assert_sound();
}

#[test]
fn what_is_fixed_stays_and_what_is_automatic_begins_with_everything() {
    let mut stage = Stage::new(3, 0, RATE * 10);
    let fixed = stage.watch_with(RATE, suffuse::Guard::new(), |options| {
        options.quality = StreamQuality::UpTo(2);
    });
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    play(&mut stage, FPS);
    narrow(&mut stage, fixed, RATE * 6 / 10);
    play(&mut stage, 8 * FPS);
    let stats = stage.stats(fixed);
    assert!(stats.frames_lagged > 0, "the link is too narrow: {stats:?}");
    assert_eq!(stage.log().layers.get(&fixed), None, "nobody asked for a change");
    assert_eq!(stats.quality_changes, 0);

    // Automatic from now on, over the same link.
    stage
        .world
        .with_host(fixed, |engine, now| engine.set_stream_quality(STREAM, StreamQuality::Auto, now).unwrap());
    play(&mut stage, 6 * FPS);
    assert_eq!(stage.log().layers[&fixed][0].1, 1);
    stage.log().assert_sound();
}

/// The source can feed one viewer only; the other hangs on that one.
#[test]
fn a_relay_carries_the_layers_that_somebody_below_wants_and_no_others() {
    let mut stage =
        Stage::open(4, 0, RATE * 6 / 5, suffuse::Guard::new(), |options| options.stripes = Some(1));
    let relay = stage.watch_with(RATE * 2, suffuse::Guard::new(), |options| {
        options.quality = StreamQuality::UpTo(0);
    });
    stage.run_ms(500);
    let below = stage.watch(0);
    stage.run_ms(1_000);
    stage.set_state(StreamState::Active);
    assert!(stage.parents(below).iter().all(|parent| *parent == Some(relay)), "{:?}", stage.parents(below));
    play(&mut stage, 2 * FPS);
    stage.run_ms(500);
    assert_eq!(stage.log().numbers(below, layer(2)), (0..60).collect::<Vec<_>>());
    assert!(stage.log().bytes_since(relay, layer(2), Instant::ZERO) > 0, "it carries them");
    assert_eq!(stage.log().numbers(relay, layer(2)), [0; 0], "and keeps them from its application");

    stage.world.with_host(below, |engine, now| {
        engine.set_stream_quality(STREAM, StreamQuality::UpTo(1), now).unwrap();
    });
    let down = stage.now();
    play(&mut stage, FPS);
    let under_way = Duration::from_millis(300);
    assert_eq!(stage.log().bytes_since(relay, layer(2), down + under_way), 0, "nobody wants them any more");
    assert!(stage.log().bytes_since(relay, layer(1), down + under_way) > 0);
    stage.log().assert_sound();
}
