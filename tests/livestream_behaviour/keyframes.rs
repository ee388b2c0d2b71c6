//! Requests for keyframes: many viewers, one request per interval.

use std::time::Duration;

use suffuse::{Guard, StreamState};

use crate::stage::{RATE, SOURCE, STREAM, Stage, TRACKS};

/// A source that never makes another keyframe, whoever asks.
fn deaf(stage: &mut Stage, frames: u64) {
    for _ in 0..frames {
        stage.frames += u64::from(stage.frames % 30 == 0);
        stage.publish(&[(TRACKS.visual(), 1_000)]);
    }
}

#[test]
fn many_viewers_make_one_request_per_interval() {
    let interval = Duration::from_millis(1_500);
    let mut stage = Stage::open(1, 0, RATE * 3, Guard::new(), |options| {
        options.keyframe_request_interval = interval;
    });
    let viewers: Vec<_> = (0..40).map(|place| stage.watch(RATE * (place % 3 + 1))).collect();
    stage.run_ms(1_000);
    stage.set_state(StreamState::Active);
    stage.play(60);
    let before = stage.log().keyframes_wanted.len();
    let from = stage.now();
    for round in 0..60 {
        for &node in &viewers {
            if (node + round) % 3 == 0 {
                let asked = stage.world.with_host(node, |engine, now| engine.request_keyframe(STREAM, now));
                asked.unwrap().unwrap();
            }
        }
        deaf(&mut stage, 3);
    }
    let span = stage.now() - from;
    let wanted = &stage.log().keyframes_wanted[before..];
    let gaps = wanted.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap >= interval), "{:?}", gaps.collect::<Vec<_>>());
    let most = span.as_micros() / interval.as_micros() + 1;
    let count = wanted.len() as u128;
    assert!((most - 1..=most).contains(&count), "{count} requests in {span:?}");
    assert_eq!(stage.stats(SOURCE).keyframe_requests, stage.log().keyframes_wanted.len() as u64);
    // Each asks its parents at most once a second, so the source hears little more than its children.
    let heard = stage.log().keyframe_messages.iter().filter(|(at, to)| *to == SOURCE && *at > from).count();
    let children = stage.stats(SOURCE).children as usize;
    let seconds = span.as_secs() as usize + 1;
    println!("{heard} requests from {children} places in {span:?}, {count} for the application");
    assert!(heard <= children * seconds && heard > 0);
    assert_eq!(stage.log().offences, []);
}

#[test]
fn nobody_asks_while_a_keyframe_is_fresh() {
    let mut stage = Stage::new(2, 0, RATE * 3);
    let viewer = stage.watch(RATE);
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    stage.play(1);
    stage.run_ms(100);
    let ask = |stage: &mut Stage| {
        stage.world.with_host(viewer, |engine, now| engine.request_keyframe(STREAM, now).unwrap()).unwrap();
        stage.run_ms(200);
        stage.log().keyframes_wanted.len()
    };
    assert_eq!(ask(&mut stage), 0, "the last one is 0.1 s old");
    stage.run_ms(1_500);
    assert_eq!(ask(&mut stage), 1);
    assert_eq!(ask(&mut stage), 1, "asked for a moment ago");
}
