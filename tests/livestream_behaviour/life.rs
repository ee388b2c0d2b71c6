//! Initializing, active, paused, ended: what viewers hear, and what each state means for those who come.

use std::time::Duration;

use suffuse::{CommandError, StreamState};

use crate::stage::{FPS, RATE, SOURCE, STREAM, Stage, TRACKS};

use StreamState::{Active, Ended, Initializing, Paused};

#[test]
fn a_pause_loses_nothing_and_nobody() {
    let mut stage = Stage::new(1, 20_000, RATE * 3);
    let viewers: Vec<_> = (0..8).map(|place| stage.watch(RATE * (place % 3 + 1))).collect();
    stage.run_ms(1_000);
    stage.set_state(Active);
    stage.play(2 * FPS + 7);
    stage.set_state(Paused);
    let paused = stage.now();
    stage.run_ms(1_000);
    let refused = stage.source(|engine, now| {
        engine.publish(STREAM, TRACKS.visual(), bytes::Bytes::new(), Default::default(), now)
    });
    assert_eq!(refused, Err(CommandError::NotActive(Paused)));
    let failovers: u64 = viewers.iter().map(|&node| stage.stats(node).failovers).sum();
    let late = stage.watch(RATE);
    stage.run_ms(9_000);
    // What was under way arrives, and silence is no reason to leave anybody.
    for &node in &viewers {
        let numbers = stage.log().numbers(node, TRACKS.visual());
        assert_eq!(numbers, (0..67).collect::<Vec<_>>(), "viewer {node}");
    }
    assert_eq!(viewers.iter().map(|&node| stage.stats(node).failovers).sum::<u64>(), failovers);
    assert!(stage.log().joined[&late] > paused, "who comes in a pause gets a place");
    assert_eq!(stage.log().states[&late].last().unwrap().1, Paused);

    stage.set_state(Active);
    stage.play(2 * FPS);
    stage.run_ms(3_000);
    for &node in &viewers {
        let numbers = stage.log().numbers(node, TRACKS.visual());
        assert_eq!(numbers, (0..127).collect::<Vec<_>>(), "viewer {node}");
        let states: Vec<_> = stage.log().states[&node].iter().map(|(_, state)| *state).collect();
        assert_eq!(states, [Active, Paused, Active], "viewer {node}");
    }
    // The newcomer has the group that was running, and everything after.
    let numbers = stage.log().numbers(late, TRACKS.visual());
    assert_eq!(numbers, (60..127).collect::<Vec<_>>());
    assert!(stage.log().lags.is_empty(), "{:?}", stage.log().lags);
    assert!(stage.log().isolated.is_empty());
    stage.log().assert_sound();
}

#[test]
fn the_end_is_final_for_everybody() {
    let mut stage = Stage::new(2, 20_000, RATE * 3);
    let viewers: Vec<_> = (0..8).map(|place| stage.watch(RATE * (place % 3 + 1))).collect();
    stage.run_ms(1_000);
    stage.set_state(Active);
    stage.play(FPS);
    stage.set_state(Ended);
    stage.run_ms(4_000);
    for &node in &viewers {
        assert_eq!(stage.log().numbers(node, TRACKS.visual()), (0..30).collect::<Vec<_>>(), "viewer {node}");
        assert_eq!(stage.world.host(node).unwrap().stream_state(STREAM), Some(Ended));
        assert_eq!(stage.log().states[&node].iter().filter(|(_, state)| *state == Ended).count(), 1);
    }
    for state in [Initializing, Active, Paused, Ended] {
        let refused = stage.source(|engine, now| engine.set_stream_state(STREAM, state, now));
        assert_eq!(refused, Err(CommandError::StreamStep { from: Ended, to: state }));
    }

    // Whoever comes now is told, gets no place, and does not ask for ever.
    let peak = stage.stats(SOURCE).viewers_peak;
    let late = stage.watch(RATE);
    stage.run_ms(3_000);
    assert_eq!(stage.log().states[&late].last().map(|(_, state)| *state), Some(Ended));
    assert_eq!(stage.log().joined.get(&late), None);
    assert_eq!(stage.stats(late).stripes, 0);
    assert_eq!(stage.stats(SOURCE).viewers_peak, peak);
    let quiet = stage.now();
    stage.run_ms(20_000);
    let asked = stage.log().sent[&late].iter().filter(|at| **at > quiet + Duration::from_secs(5)).count();
    assert!(asked <= 4, "{asked} frames from a viewer that knows of the end");

    // The id is free again once the stream is left.
    stage.source(|engine, now| {
        engine.leave(STREAM, now).unwrap();
        let options = suffuse::BroadcastOptions::new(RATE, RATE * 3);
        engine.open_livestream(STREAM, options, suffuse::Guard::new(), now).unwrap();
        assert_eq!(engine.stream_state(STREAM), Some(Initializing));
    });
}

#[test]
fn who_comes_before_the_beginning_waits_and_gets_the_first_frame() {
    let mut stage = Stage::new(3, 0, RATE * 3);
    let viewer = stage.watch(RATE);
    stage.run_ms(5_000);
    assert!(stage.log().joined.contains_key(&viewer));
    assert_eq!(stage.world.host(viewer).unwrap().stream_state(STREAM), Some(Initializing));
    assert_eq!(stage.stats(viewer).duration_us, 0);
    stage.set_state(Active);
    stage.play(10);
    stage.run_ms(300);
    assert_eq!(stage.log().numbers(viewer, TRACKS.visual()), (0..10).collect::<Vec<_>>());
    // Straight to the end.
    let mut stage = Stage::new(4, 0, RATE * 3);
    let viewer = stage.watch(RATE);
    stage.run_ms(500);
    stage.set_state(Ended);
    stage.run_ms(500);
    assert_eq!(stage.world.host(viewer).unwrap().stream_state(STREAM), Some(Ended));
}
