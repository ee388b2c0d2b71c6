//! What is counted, against a count made outside.

use std::collections::BTreeSet;
use std::time::Duration;

use suffuse::{DeliveryOrder, Guard, Instant, StreamState, WatchOptions};

use crate::stage::{FPS, RATE, SOURCE, STREAM, Stage, TRACKS};

const DEADLINE: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_millis(250);

#[test]
fn viewers_are_counted_as_they_come_and_go() {
    let mut stage = Stage::new(1, 0, RATE * 6);
    let mut unique = 0;
    let count = |stage: &Stage| {
        let stats = stage.stats(SOURCE);
        (stats.viewers, stats.viewers_peak, stats.viewers_unique)
    };
    assert_eq!(count(&stage), (0, 0, 0));
    let mut viewers = Vec::new();
    for _ in 0..7 {
        viewers.push(stage.watch(RATE * 2));
        stage.run_ms(300);
        unique += 1;
        assert_eq!(count(&stage), (unique, unique, unique));
    }
    for (gone, &node) in (1..).zip(&viewers[..4]) {
        stage.world.with_host(node, |engine, now| engine.leave(STREAM, now).unwrap());
        stage.run_ms(300);
        assert_eq!(count(&stage), (7 - gone, 7, 7));
    }
    assert_eq!(stage.stats(SOURCE).plan_leaves, 4);
    for _ in 0..2 {
        stage.watch(RATE * 2);
    }
    stage.run_ms(300);
    assert_eq!(count(&stage), (5, 7, 9));
    // Who comes again was here before.
    stage.world.with_host(viewers[0], |engine, now| {
        engine.watch_livestream(STREAM, WatchOptions::new(SOURCE), Guard::new(), now).unwrap();
    });
    stage.run_ms(300);
    assert_eq!(count(&stage), (6, 7, 9));
    stage.world.with_host(viewers[0], |engine, now| engine.leave(STREAM, now).unwrap());
    stage.run_ms(300);
    // A viewer that dies without a word is missed by those whom it feeds, or who feed it.
    stage.set_state(StreamState::Active);
    stage.play(FPS);
    stage.world.crash(viewers[4]);
    stage.play(30 * FPS);
    assert_eq!(count(&stage), (4, 7, 9));
}

/// Many frames are lost on the way to one viewer, some for ever, and each figure must be that of the log.
#[test]
fn frames_bytes_lateness_repair_and_stalls_are_those_of_the_log() {
    for order in [DeliveryOrder::InOrder, DeliveryOrder::AsComplete] {
        let mut stage =
            Stage::open(2, 60_000, RATE * 10, Guard::new(), |options| options.deadline = DEADLINE);
        let viewer = stage.watch_with(0, Guard::new(), |options| options.order = order);
        stage.run_ms(2_000);
        stage.set_state(StreamState::Active);
        let begun = stage.now();
        // Frames 50 to 53 never come, frame 100 comes when three quarters of its time have passed.
        let late = begun + crate::stage::FRAME_TIME * 100 + DEADLINE * 3 / 4;
        stage.swallow(SOURCE, move |now, _, chunk| {
            (50..54).contains(&chunk.sequence) || chunk.sequence == 100 && now < late
        });
        stage.play(240);
        stage.run_ms(3_000);

        let (stats, log) = (stage.stats(viewer), stage.log());
        let frames = log.track(viewer, TRACKS.visual());
        assert_eq!(stats.frames_delivered, frames.len() as u64);
        let bytes: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        assert_eq!(stats.bytes_delivered, bytes as u64);
        let lagged: u64 = log.lags[&viewer].iter().map(|(_, _, range)| range.end - range.start).sum();
        assert_eq!(stats.frames_lagged, lagged);
        assert!(lagged >= 4);
        let late = frames.iter().filter(|frame| (frame.at - frame.born).as_millis() > 500).count();
        assert_eq!(stats.frames_late, late as u64, "{order:?}");
        assert!(late >= 1, "frame 100 was late");
        let mut stalled = Vec::new();
        for pair in frames.windows(2) {
            let behind = (pair[1].at - pair[0].at).saturating_sub(pair[1].born - pair[0].born);
            if behind > STALL {
                stalled.push(behind);
            }
        }
        assert_eq!(stats.stalls, stalled.len() as u64, "{order:?}: {stalled:?}");
        assert_eq!(stats.stalled_us, stalled.iter().map(|gap| gap.as_micros() as u64).sum::<u64>());
        assert!(!stalled.is_empty() || order == DeliveryOrder::AsComplete);
        let arrivals = log.arrivals[&viewer].len() as u64;
        assert_eq!(stats.chunks_received, arrivals);
        // As of the last time that the engine was driven.
        let duration = |since: Instant| (stage.now() - since).as_micros() as u64;
        let lag_us = 1_100_000;
        let all_us = duration(log.states[&viewer][0].0);
        assert!((all_us - lag_us..=all_us).contains(&stats.duration_us), "{} of {all_us}", stats.duration_us);

        // Each chunk that got lost on the way and counts, was missed and came again.
        let delivered: BTreeSet<u64> = frames.iter().map(|frame| frame.number).collect();
        let lost: BTreeSet<_> = log.lost[&viewer].iter().copied().collect();
        println!("{order:?}: {} lost, {} repaired, {stats:?}", lost.len(), stats.chunks_repaired);
        assert!(stats.chunks_repaired + stats.chunks_caught_up >= lost.len() as u64 / 2);
        assert!(stats.wants_sent > 0 && delivered.len() > 200);

        let source = stage.stats(SOURCE);
        assert_eq!(source.frames_published, 240);
        assert_eq!(source.bytes_published, 240 * (RATE / FPS));
        let all_us = duration(begun);
        assert!(
            (all_us - lag_us..=all_us).contains(&source.duration_us),
            "{} of {all_us}",
            source.duration_us
        );
        // What the network swallowed was sent, too.
        assert!(source.chunks_forwarded + source.chunks_served >= arrivals);
        if order == DeliveryOrder::InOrder {
            log.assert_sound();
        }
    }
}

/// Over a star without reordering a chunk is missed exactly when it got lost, and every one comes again.
#[test]
fn repaired_chunks_are_those_that_were_lost() {
    let mut stage = Stage::new(3, 0, RATE * 10);
    let viewer = stage.watch(0);
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    stage.play(1);
    // From now on every 17th chunk is lost when it is sent for the first time.
    let mut seen = BTreeSet::new();
    stage.swallow(SOURCE, move |_, _, chunk| seen.insert(chunk.number) && chunk.number % 17 == 0);
    stage.play(149);
    stage.run_ms(2_000);
    let chunks_each = (RATE / FPS).div_ceil(1_150);
    let all = 150 * chunks_each;
    let lost = (chunks_each..all).filter(|number| number % 17 == 0).count() as u64;
    let stats = stage.stats(viewer);
    assert_eq!(stage.log().numbers(viewer, TRACKS.visual()), (0..150).collect::<Vec<_>>());
    assert_eq!(stats.chunks_received - stats.chunks_duplicate, all, "{stats:?}");
    assert_eq!((stats.chunks_repaired, stats.chunks_duplicate), (lost, 0), "{stats:?}");
    assert_eq!(stage.stats(SOURCE).chunks_served, lost);
}
