use alloc::string::ToString;
use core::ops::Range;

use super::*;
use crate::id::{Epoch, Priority};
use crate::io::{Class, LagReason, Update};

const SWARM: SwarmId = SwarmId(3);
const ORIGIN: NodeId = 1;
const READER: NodeId = 2;

fn at(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

fn id(epoch: u32, sequence: u64) -> UpdateId<NodeId> {
    UpdateId { swarm: SWARM, origin: ORIGIN, epoch: Epoch(epoch), sequence }
}

fn published(check: &mut impl Check, seconds: u64, id: UpdateId<NodeId>) {
    let payload = Bytes::from_static(b"payload");
    check.published(at(seconds), &Published { id, state: StateId(4), payload });
}

fn update(id: UpdateId<NodeId>) -> Update<NodeId> {
    Update {
        id,
        state: StateId(4),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 1,
        born: Instant::ZERO,
        payload: Bytes::from_static(b"payload"),
    }
}

fn delivered(check: &mut impl Check, seconds: u64, node: NodeId, id: UpdateId<NodeId>) {
    check.event(node, at(seconds), &Event::Delivered(update(id)));
}

fn lagged(check: &mut impl Check, seconds: u64, node: NodeId, sequences: Range<u64>) {
    let reason = LagReason::Expired;
    let event = Event::Lagged { swarm: SWARM, origin: ORIGIN, epoch: Epoch(0), sequences, reason };
    check.event(node, at(seconds), &event);
}

fn sent(check: &mut impl Check, now: Instant, from: NodeId, wire_bytes: u64) {
    let frame = Bytes::new();
    check.sent(now, &SentFrame { from, to: 0, frame: &frame, class: Class::Normal, wire_bytes });
}

fn breaches(check: &impl Check) -> Vec<Breach> {
    check.violations().kept().iter().map(|violation| violation.breach).collect()
}

#[test]
fn exactly_once_passes_a_good_run_and_a_new_life() {
    let mut check = ExactlyOnce::new();
    published(&mut check, 0, id(0, 0));
    delivered(&mut check, 1, READER, id(0, 0));
    delivered(&mut check, 1, 5, id(0, 0));
    check.stopped(READER, at(2), StopReason::Crashed);
    check.started(READER, at(3));
    delivered(&mut check, 4, READER, id(0, 0));
    lagged(&mut check, 5, READER, 1..9);
    assert_eq!(breaches(&check), []);
}

#[test]
fn exactly_once_bites() {
    let mut check = ExactlyOnce::new();
    published(&mut check, 0, id(0, 0));
    published(&mut check, 0, id(0, 1));
    delivered(&mut check, 1, READER, id(0, 0));
    delivered(&mut check, 2, READER, id(0, 0));
    delivered(&mut check, 3, ORIGIN, id(0, 0));
    lagged(&mut check, 4, READER, 1..u64::MAX);
    delivered(&mut check, 5, READER, id(0, 1));
    delivered(&mut check, 6, READER, id(7, 7));
    delivered(&mut check, 7, READER, id(7, 7));
    let expected = [
        Breach::DeliveredTwice,
        Breach::DeliveredToOrigin,
        Breach::DeliveredAfterLagged,
        Breach::DeliveredTwice,
    ];
    assert_eq!(breaches(&check), expected);
    let first = &check.violations().kept()[0];
    assert_eq!((first.node, first.at, first.update), (READER, at(2), Some(id(0, 0))));
    assert_eq!(
        first.to_string(),
        "2.000000s node 2: DeliveredTwice (swarm 3, origin 1, epoch 0, sequence 0)"
    );
}

fn strict() -> NothingForged {
    NothingForged::new().with_age_max(Duration::from_secs(10)).with_epochs_in_order()
}

#[test]
fn nothing_forged_passes_a_good_run() {
    let mut check = strict();
    published(&mut check, 0, id(0, 0));
    published(&mut check, 5, id(1, 0));
    delivered(&mut check, 6, READER, id(0, 0));
    delivered(&mut check, 6, READER, id(1, 0));
    delivered(&mut check, 6, 5, id(1, 0));
    check.started(5, at(7));
    delivered(&mut check, 10, 5, id(0, 0));
    assert_eq!(breaches(&check), []);
}

#[test]
fn nothing_forged_bites() {
    let mut check = strict();
    published(&mut check, 0, id(0, 0));
    published(&mut check, 0, id(1, 0));
    delivered(&mut check, 1, READER, id(0, 1));
    let mut altered = update(id(0, 0));
    altered.payload = Bytes::from_static(b"pAyload");
    check.event(READER, at(1), &Event::Delivered(altered));
    let mut moved = update(id(0, 0));
    moved.state = StateId(5);
    check.event(READER, at(1), &Event::Delivered(moved));
    delivered(&mut check, 11, 5, id(0, 0));
    delivered(&mut check, 2, READER, id(1, 0));
    delivered(&mut check, 3, READER, id(0, 0));
    let age = Duration::from_secs(11);
    let expected =
        [Breach::NeverPublished, Breach::Altered, Breach::Altered, Breach::TooOld { age }, Breach::OldEpoch];
    assert_eq!(breaches(&check), expected);
}

#[test]
fn complete_passes_a_good_run_and_excuses_who_was_not_there() {
    let mut check = Complete::new(Duration::from_secs(10));
    check.event(READER, at(0), &Event::Joined { swarm: SWARM });
    check.joined(at(0), ORIGIN, SWARM);
    check.joined(at(0), 5, SWARM);
    check.joined(at(0), 6, SWARM);
    check.joined(at(0), 8, SWARM);
    check.exempt(8);
    published(&mut check, 1, id(0, 0));
    published(&mut check, 2, id(0, 1));
    published(&mut check, 30, id(0, 2));
    delivered(&mut check, 3, READER, id(0, 0));
    lagged(&mut check, 4, READER, 1..2);
    // Left before the retention of the first update was over.
    check.left(at(10), 5, SWARM);
    check.stopped(6, at(10), StopReason::Crashed);
    // Came after its publication.
    check.joined(at(3), 7, SWARM);
    check.finish(at(35));
    assert_eq!(breaches(&check), []);
}

#[test]
fn complete_bites() {
    let mut check = Complete::new(Duration::from_secs(10));
    for node in [READER, 5, 6] {
        check.joined(at(0), node, SWARM);
    }
    published(&mut check, 1, id(0, 0));
    check.left(at(11), 5, SWARM);
    check.stopped(6, at(12), StopReason::Left);
    // Too late for the life that missed it.
    check.joined(at(13), 6, SWARM);
    delivered(&mut check, 14, 6, id(0, 0));
    check.finish(at(11));
    check.finish(at(40));
    let found: Vec<_> = check.violations().kept().iter().map(|found| (found.node, found.breach)).collect();
    assert_eq!(found, [(5, Breach::Missing), (6, Breach::Missing), (READER, Breach::Missing)]);
    assert_eq!(check.violations().kept()[0].at, at(1));
}

#[test]
fn complete_asks_again_only_for_what_was_not_due() {
    let mut check = Complete::new(Duration::from_secs(10));
    check.joined(at(0), READER, SWARM);
    published(&mut check, 0, id(0, 0));
    published(&mut check, 5, id(0, 1));
    check.finish(at(9));
    assert_eq!(check.violations().count(), 0);
    check.finish(at(14));
    assert_eq!(check.violations().count(), 1);
    check.finish(at(15));
    assert_eq!(check.violations().kept()[1].update, Some(id(0, 1)));
    check.finish(at(99));
    assert_eq!(check.violations().count(), 2);
}

#[test]
fn caps_bite_above_the_limit_only() {
    let mut check = Caps::new().with_neighbors_max(2);
    let up = |peer| Event::NeighborUp { swarm: SWARM, peer };
    check.gauge(at(0), READER, "queue bytes", 100, 100);
    check.event(READER, at(1), &up(4));
    check.event(READER, at(1), &up(5));
    check.event(READER, at(1), &Event::NeighborDown { swarm: SWARM, peer: 4 });
    check.event(READER, at(1), &up(6));
    check.event(7, at(1), &up(4));
    assert_eq!(breaches(&check), []);
    check.event(READER, at(2), &up(7));
    check.gauge(at(3), READER, "queue bytes", 101, 100);
    let expected = [
        Breach::OverCap { name: "neighbours", value: 3, limit: 2 },
        Breach::OverCap { name: "queue bytes", value: 101, limit: 100 },
    ];
    assert_eq!(breaches(&check), expected);
    check.stopped(READER, at(4), StopReason::Crashed);
    check.event(READER, at(5), &up(4));
    assert_eq!(check.violations().count(), 2);
}

#[test]
fn budgets_bite_in_the_very_window_that_exceeds_them() {
    let mut check = Budget::new(Some(1_000), 100);
    check.set_upload(9, None);
    sent(&mut check, Instant::from_millis(0), READER, 600);
    sent(&mut check, Instant::from_millis(500), READER, 500);
    sent(&mut check, Instant::from_millis(1_000), READER, 600);
    sent(&mut check, Instant::from_millis(1_000), 9, 1 << 40);
    assert_eq!(breaches(&check), []);
    assert_eq!(check.busiest_second(READER), 1_100);
    sent(&mut check, Instant::from_millis(1_499), READER, 1);
    sent(&mut check, Instant::from_millis(1_499), READER, 1);
    assert_eq!(breaches(&check), [Breach::OverBudget { bytes: 1_101, limit_bytes: 1_100 }]);
    sent(&mut check, Instant::from_millis(3_000), READER, 1_100);
    sent(&mut check, Instant::from_millis(3_999), READER, 1);
    assert_eq!(check.violations().count(), 2);
}

#[test]
fn all_checkers_together_report_everything() {
    let mut checkers = Checkers::new();
    checkers.add(ExactlyOnce::new());
    checkers.add(NothingForged::new());
    checkers.add(Complete::new(Duration::from_secs(1)));
    checkers.add(Caps::new());
    checkers.add(Budget::new(Some(10), 0));
    checkers.joined(at(0), 5, SWARM);
    let payload = Bytes::from_static(b"payload");
    checkers.published(at(0), &Published { id: id(0, 0), state: StateId(4), payload });
    for _ in 0..2 {
        checkers.event(READER, at(1), &Event::Delivered(update(id(0, 0))));
    }
    checkers.event(READER, at(1), &Event::Delivered(update(id(0, 9))));
    checkers.gauge(at(1), READER, "view", 2, 1);
    let frame = Bytes::new();
    checkers.sent(at(1), &SentFrame { from: 0, to: 1, frame: &frame, class: Class::Normal, wire_bytes: 11 });
    checkers.finish(at(2));
    let found: Vec<_> = checkers.violations().map(|violation| violation.breach).collect();
    let expected = [
        Breach::DeliveredTwice,
        Breach::NeverPublished,
        Breach::Missing,
        Breach::OverCap { name: "view", value: 2, limit: 1 },
        Breach::OverBudget { bytes: 11, limit_bytes: 10 },
    ];
    assert_eq!(found, expected);
    assert_eq!(checkers.violation_count(), 5);
}

#[test]
fn only_the_first_thousand_violations_are_kept() {
    let mut check = Caps::new();
    for value in 0..1_500 {
        check.gauge(at(0), READER, "list", 1 + value, 0);
    }
    assert_eq!((check.violations().kept().len(), check.violations().count()), (1_000, 1_500));
}
