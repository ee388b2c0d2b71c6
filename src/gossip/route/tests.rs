use alloc::boxed::Box;

use bytes::Bytes;

use super::*;
use crate::id::{Epoch, Priority, StateId};

const SOURCE: SourceIndex = SourceIndex(0);
const ORIGIN: u64 = 70;
const LINK: Duration = Duration::from_millis(20);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// The update that was published after so many tenths of a second.
fn update(tenths: u64) -> Data<u64> {
    Data {
        origin: ORIGIN,
        epoch: Epoch(1),
        sequence: tenths,
        state: StateId(0),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 1,
        pulled: false,
        flood: false,
        born: at(tenths * 100),
        body: Bytes::new(),
        signature: Bytes::new(),
    }
}

fn digest() -> u64 {
    update(0).origin.digest()
}

/// Fed by neighbour 1, ten times a second for one second; neighbour 2 had the wave, too, and 4 is fed from here.
fn fed() -> Routes {
    let mut routes = Routes::new(&GossipConfig::default());
    let mut growth = Growth::new(0, at(0), 1, 2, at(40));
    growth.arrive(2, 2, LINK, at(50));
    *routes.growth(SOURCE, digest()) = Some(Box::new(growth));
    routes.begin_own(SOURCE, digest(), at(0));
    routes.on_graft(SOURCE, digest(), 4);
    for tenths in 1..=10 {
        push(&mut routes, tenths, tenths * 100 + 40);
    }
    routes
}

fn push(routes: &mut Routes, tenths: u64, now_ms: u64) {
    routes.on_first(SOURCE, &update(tenths), 1, at(now_ms));
    pass_on(routes, tenths);
}

fn pass_on(routes: &mut Routes, tenths: u64) {
    routes.targets(SOURCE, digest(), tenths, at(tenths * 100), None);
}

fn alarm(routes: &Routes) -> Option<Instant> {
    routes.routes[SOURCE.0 as usize].alarm
}

fn neighbors() -> Slots {
    (1..=4).map(Slots::one).fold(Slots::NONE, |all, slot| all | slot)
}

#[test]
fn after_a_break_the_next_silence_is_noticed_as_soon_as_before() {
    let mut routes = fed();
    let before = alarm(&routes).unwrap() - at(1_040);
    assert_eq!(routes.take_starving(at(2_700)), Some(SOURCE));
    // What was missed comes on request, and then the feeder goes on.
    for tenths in 11..=26 {
        pass_on(&mut routes, tenths);
    }
    assert_eq!(routes.take_starving(at(2_700)), None);
    push(&mut routes, 27, 2_740);
    assert_eq!(alarm(&routes).map(|alarm| alarm - at(2_740)), Some(before));
}

#[test]
fn in_a_silence_all_neighbours_are_asked_before_one_is_asked_again() {
    let mut routes = fed();
    let asked: Vec<_> = (0..4).map(|_| routes.try_feeder(SOURCE, neighbors()).unwrap()).collect();
    assert_eq!(asked, [2, 3, 4, 2], "the way of the wave, the newcomer, the child");
}

#[test]
fn who_sends_what_was_missed_in_a_silence_is_asked_to_feed_though_nobody_asked_it_first() {
    let mut routes = fed();
    assert!(!routes.take_tried(SOURCE, 3, at(1_100)), "the feeder may be about to push");
    assert!(!routes.take_tried(SOURCE, 3, at(2_000)), "the alarm is still to come");
    assert_eq!(routes.take_starving(at(2_000)), Some(SOURCE));
    assert_eq!(routes.try_feeder(SOURCE, neighbors()), Some(2));
    assert!(routes.take_tried(SOURCE, 3, at(2_000)));
    routes.set_feeder(SOURCE, 3);
    assert_eq!(routes.own_feeder(SOURCE), Some(3));
    // The one that is silent is no feeder any more, so that the new one is not one too many.
    assert_eq!(routes.on_duplicate(SOURCE, digest(), 3, at(1_900)), None);
}
