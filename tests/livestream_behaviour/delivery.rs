//! In order or as complete, and what is told of frames that never come.

use std::time::Duration;

use suffuse::{DeliveryOrder, Guard, StreamState};

use crate::stage::{FRAME_TIME, RATE, SOURCE, Stage, TRACKS};

const LOST: [u64; 3] = [40, 55, 56];
const DEADLINE: Duration = Duration::from_secs(1);

/// No chunk of the lost frames ever leaves the source.
fn play(seed: u64) -> (Stage, u64, u64) {
    let mut stage = Stage::open(seed, 0, RATE * 10, Guard::new(), |options| options.deadline = DEADLINE);
    let in_order = stage.watch(0);
    let as_complete = stage.watch_with(0, Guard::new(), |options| options.order = DeliveryOrder::AsComplete);
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    stage.swallow(SOURCE, |_, _, chunk| LOST.contains(&chunk.sequence));
    stage.play(120);
    stage.run_ms(2_000);
    (stage, in_order, as_complete)
}

#[test]
fn what_never_comes_is_told_at_its_deadline_exactly() {
    let (stage, in_order, as_complete) = play(1);
    let log = stage.log();
    let begun = log.track(in_order, TRACKS.visual())[0].born;
    let captured = |number: u64| begun + FRAME_TIME * number as u32;
    for node in [in_order, as_complete] {
        let lags = &log.lags[&node];
        let ranges: Vec<_> = lags.iter().map(|(_, state, range)| (*state, range.clone())).collect();
        let visual = TRACKS.visual();
        let mut told: Vec<u64> = ranges.iter().flat_map(|(_, range)| range.clone()).collect();
        told.sort_unstable();
        assert_eq!(told, LOST, "viewer {node}: {lags:?}");
        assert!(ranges.iter().all(|(state, _)| *state == visual));
        // A frame of which nothing came has the time of the next one that is known.
        for (at, _, range) in lags {
            let due = captured(range.end) + DEADLINE;
            let off = if *at > due { *at - due } else { due - *at };
            assert!(off < Duration::from_millis(10), "viewer {node}: {range:?} at {at:?}, due {due:?}");
        }
        let stats = stage.stats(node);
        assert_eq!((stats.frames_lagged, stats.frames_delivered), (3, 117), "viewer {node}");
    }
    log.assert_sound();
}

#[test]
fn in_order_a_lost_frame_holds_up_the_others_as_complete_it_does_not() {
    let (stage, in_order, as_complete) = play(2);
    let log = stage.log();
    let rest: Vec<u64> = (0..120).filter(|number| !LOST.contains(number)).collect();
    assert_eq!(log.numbers(in_order, TRACKS.visual()), rest);
    assert_eq!(log.numbers(as_complete, TRACKS.visual()), rest);
    let age = |node, number| {
        let frames = log.track(node, TRACKS.visual());
        let frame = frames.into_iter().find(|frame| frame.number == number).unwrap();
        frame.at - frame.born
    };
    for number in [39, 41, 45, 54, 57, 60, 119] {
        assert!(age(as_complete, number) < Duration::from_millis(150), "{number}");
    }
    assert!(age(in_order, 39) < Duration::from_millis(150));
    assert!(age(in_order, 41) >= DEADLINE);
    assert!(age(in_order, 50) > DEADLINE - FRAME_TIME * 10);
    assert!(age(in_order, 57) >= DEADLINE);
    assert!(age(in_order, 119) < Duration::from_millis(150), "in time again");
    // The first frame after the gap came a deadline late: a stall for whoever plays in order, none for the other.
    assert!(stage.stats(in_order).stalls > 0);
    assert_eq!(stage.stats(as_complete).stalls, 0);
}

/// Chunks overtake each other: as complete, so may frames, and in order none does.
#[test]
fn frames_overtake_each_other_only_as_complete() {
    let mut stage = Stage::new(3, 50_000, RATE * 10);
    let in_order = stage.watch(0);
    let as_complete = stage.watch_with(0, Guard::new(), |options| options.order = DeliveryOrder::AsComplete);
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    stage.play(300);
    stage.run_ms(3_000);
    let ordered = stage.log().numbers(in_order, TRACKS.visual());
    assert_eq!(ordered, (0..300).collect::<Vec<_>>());
    let mut complete = stage.log().numbers(as_complete, TRACKS.visual());
    assert!(!complete.is_sorted(), "with so much loss frames overtake each other");
    complete.sort_unstable();
    assert!(complete.windows(2).all(|pair| pair[0] < pair[1]), "each once");
    // It begins with the first keyframe that is whole.
    assert_eq!((complete[0] % 30, *complete.last().unwrap()), (0, 299));
    assert_eq!(complete.len() as u64, 300 - complete[0]);
}
