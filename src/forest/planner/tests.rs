use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::id::Epoch;

const CONCERT: SwarmId = SwarmId::from_name("concert");
const RATE: u64 = 100_000;

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1_000)
}

/// A source that can feed one viewer, in four stripes.
fn planner() -> Planner<u64> {
    let plan = PlanConfig { stripes: 4, rate_bytes_per_s: RATE, ..PlanConfig::default() };
    let facts = StreamFacts {
        epoch: Epoch(0),
        stripes: plan.stripes,
        rate_bytes_per_s: RATE,
        deadline: Duration::from_secs(2),
    };
    Planner::new(CONCERT, 0, PlannerConfig { source_upload_bytes_per_s: RATE * 11 / 10, plan, facts }, at(0))
        .unwrap()
}

fn watch(planner: &mut Planner<u64>, viewer: u64, upload: u64, ms: u64) -> Vec<PlannerAction<u64>> {
    let mut actions = Vec::new();
    let message = ForestMessage::Watch { swarm: CONCERT, upload_bytes_per_s: upload };
    planner.handle_message(viewer, &message, StreamNotice::default(), at(ms), &mut actions);
    actions
}

/// Whatever is due until then.
fn run(planner: &mut Planner<u64>, until_ms: u64) -> Vec<PlannerAction<u64>> {
    let mut actions = Vec::new();
    for _ in 0..1_000 {
        let Some(due) = planner.poll_timeout().filter(|&due| due <= at(until_ms)) else { return actions };
        planner.handle_timeout(due, &mut actions);
        assert_ne!(planner.poll_timeout(), Some(due), "nothing was done");
    }
    panic!("too many timeouts");
}

fn planned(actions: &[PlannerAction<u64>], viewer: u64) -> bool {
    actions.iter().any(|action| {
        let ForestMessage::Plan(plan) = &action.message else { return false };
        action.to == viewer && plan.feeds.len() == 4
    })
}

fn refused(actions: &[PlannerAction<u64>]) -> bool {
    actions.iter().any(|action| matches!(action.message, ForestMessage::Refused { .. }))
}

#[test]
fn who_has_no_place_alone_gets_one_with_others() {
    let mut planner = planner();
    assert!(planned(&watch(&mut planner, 1, RATE * 12 / 10, 0), 1));
    for viewer in 2..=4 {
        let actions = watch(&mut planner, viewer, RATE * 12 / 10, 10);
        assert!(actions.is_empty(), "neither placed nor refused at once: {actions:?}");
    }
    let actions = run(&mut planner, 200);
    assert!((2..=4).all(|viewer| planned(&actions, viewer)));
    assert!(!refused(&actions));
    assert_eq!((planner.plan().len(), planner.refusals), (4, 0));
    let mut stats = LivestreamStats::default();
    planner.add_stats(&mut stats);
    assert_eq!((stats.viewers, stats.viewers_peak, stats.viewers_unique), (4, 4, 4));
}

#[test]
fn who_waits_in_vain_is_told_and_forgotten_when_it_asks_no_more() {
    let mut planner = planner();
    watch(&mut planner, 1, 0, 0);
    assert!(!refused(&watch(&mut planner, 2, 0, 10)));
    assert!(!refused(&run(&mut planner, 250)));
    assert!(!refused(&watch(&mut planner, 2, 0, 300)));
    let actions = watch(&mut planner, 2, 0, 320);
    let [PlannerAction { to: 2, message: ForestMessage::Refused { needed_bytes_per_s }, .. }] = actions[..]
    else {
        panic!("{actions:?}");
    };
    assert!(needed_bytes_per_s >= RATE / 4, "{needed_bytes_per_s}");
    run(&mut planner, 5_200);
    assert!(!planner.room.is_empty());
    run(&mut planner, 7_000);
    assert!(planner.room.is_empty());
}

#[test]
fn a_place_that_becomes_free_goes_to_who_waits() {
    let mut planner = planner();
    watch(&mut planner, 1, 0, 0);
    watch(&mut planner, 2, 0, 10);
    run(&mut planner, 500);
    let mut actions = Vec::new();
    planner.handle_message(1, &ForestMessage::Leave, StreamNotice::default(), at(500), &mut actions);
    let actions = run(&mut planner, 700);
    assert!(planned(&actions, 2));
    assert!(planner.room.is_empty());
}

#[test]
fn who_leaves_the_room_and_who_comes_after_the_end_gets_no_place() {
    let mut planner = planner();
    watch(&mut planner, 1, RATE * 12 / 10, 0);
    watch(&mut planner, 2, RATE * 12 / 10, 10);
    planner.handle_message(2, &ForestMessage::Leave, StreamNotice::default(), at(20), &mut Vec::new());
    assert!(planner.room.is_empty());
    watch(&mut planner, 3, RATE * 12 / 10, 30);
    planner.end();
    assert!(run(&mut planner, 500).is_empty());
    assert_eq!(planner.plan().len(), 1);
}

#[test]
fn who_stays_with_its_parent_makes_nobody_suspect() {
    let mut planner = planner();
    for viewer in 1..=4 {
        watch(&mut planner, viewer, RATE * 12 / 10, 0);
    }
    run(&mut planner, 200);
    let parent = planner.plan().parent(2, 0).unwrap();
    let lost = alloc::vec![LostParent { stripe: 0, parent, adopted: Some(parent) }];
    let mut actions = Vec::new();
    planner.handle_message(
        2,
        &ForestMessage::Report { lost },
        StreamNotice::default(),
        at(210),
        &mut actions,
    );
    assert!(actions.is_empty() && planner.suspects.poll_timeout().is_none(), "{actions:?}");
    assert_eq!(planner.plan().parent(2, 0), Some(parent));
}

fn checked(actions: &[PlannerAction<u64>], viewer: u64) -> usize {
    let checks =
        actions.iter().filter(|action| action.to == viewer && matches!(action.message, ForestMessage::Check));
    checks.count()
}

#[test]
fn who_is_missed_is_asked_twice_and_then_taken_out() {
    let mut planner = planner();
    for viewer in 1..=4 {
        watch(&mut planner, viewer, RATE * 12 / 10, 0);
    }
    run(&mut planner, 300);
    let mut actions = Vec::new();
    planner.peer_lost(3, at(310), &mut actions);
    assert_eq!(checked(&actions, 3), 1);
    assert_eq!(checked(&run(&mut planner, 605), 3), 0);
    assert_eq!(checked(&run(&mut planner, 1_005), 3), 1);
    assert!(planner.plan().contains(3));
    assert_eq!(checked(&run(&mut planner, 1_020), 3), 0);
    assert!(!planner.plan().contains(3) && planner.suspects.poll_timeout().is_none());
}

#[test]
fn an_answer_to_either_question_is_enough() {
    for answer_ms in [350, 650] {
        let mut planner = planner();
        for viewer in 1..=4 {
            watch(&mut planner, viewer, RATE * 12 / 10, 0);
        }
        run(&mut planner, 300);
        planner.peer_lost(3, at(310), &mut Vec::new());
        run(&mut planner, answer_ms);
        watch(&mut planner, 3, RATE * 12 / 10, answer_ms);
        run(&mut planner, 3_000);
        assert!(planner.plan().contains(3));
    }
}

#[test]
fn whom_many_miss_has_less_time_and_is_asked_again_at_once() {
    let mut planner = planner();
    for viewer in 1..=4 {
        watch(&mut planner, viewer, RATE * 12 / 10, 0);
    }
    run(&mut planner, 300);
    let mut actions = Vec::new();
    for ms in [310, 320, 330, 340] {
        planner.peer_lost(3, at(ms), &mut actions);
    }
    assert_eq!(checked(&actions, 3), 2);
    assert_eq!(checked(&run(&mut planner, 500), 3), 0);
    assert!(planner.plan().contains(3));
    run(&mut planner, 506);
    assert!(!planner.plan().contains(3));
}

/// Stripes of the plans for `viewer`, with their versions.
fn told(actions: &[PlannerAction<u64>], viewer: u64) -> Vec<(u32, Vec<u8>)> {
    let plan = |action: &PlannerAction<u64>| match &action.message {
        ForestMessage::Plan(plan) if action.to == viewer => {
            Some((plan.version, plan.feeds.iter().map(|feed| feed.stripe).collect()))
        }
        _ => None,
    };
    actions.iter().filter_map(plan).collect()
}

/// Four viewers, of whom one is told to move at 300 ms; the one and what it was told.
fn moved(planner: &mut Planner<u64>) -> (u64, u32, Vec<u8>) {
    for viewer in 1..=4 {
        watch(planner, viewer, RATE * 12 / 10, 0);
    }
    run(planner, 299);
    let mut actions = Vec::new();
    planner.handle_message(1, &ForestMessage::Leave, StreamNotice::default(), at(300), &mut actions);
    let changed = (2..=4).find_map(|viewer| told(&actions, viewer).pop().map(|told| (viewer, told)));
    let (viewer, (version, stripes)) = changed.expect("somebody was fed by the one that left");
    (viewer, version, stripes)
}

#[test]
fn a_plan_is_told_again_until_it_is_acknowledged() {
    let mut planner = planner();
    let (viewer, _, stripes) = moved(&mut planner);
    let mut repeats = Vec::new();
    let mut version = 0;
    for ms in 301..20_000 {
        for (again, told) in told(&run(&mut planner, ms), viewer) {
            assert_eq!(told, stripes);
            repeats.push(ms);
            version = again;
        }
    }
    assert_eq!(repeats, [700, 1_500, 3_100, 6_300], "waits double, and there is an end");
    assert!(planner.unacknowledged.poll_timeout().is_none() && version > 0);
}

#[test]
fn an_acknowledged_plan_is_not_told_again() {
    for repeats in [0, 1] {
        let mut planner = planner();
        let (viewer, mut version, _) = moved(&mut planner);
        let ack = |planner: &mut Planner<u64>, version, ms| {
            let message = ForestMessage::PlanAck { version };
            planner.handle_message(viewer, &message, StreamNotice::default(), at(ms), &mut Vec::new());
        };
        ack(&mut planner, version + 1_000, 350);
        if repeats == 1 {
            version = told(&run(&mut planner, 705), viewer).pop().expect("what was not acknowledged").0;
        }
        ack(&mut planner, version, 710 * repeats + 360);
        assert!(told(&run(&mut planner, 20_000), viewer).is_empty());
    }
}

#[test]
fn who_is_gone_is_told_nothing_again() {
    let mut planner = planner();
    let (viewer, ..) = moved(&mut planner);
    planner.handle_message(viewer, &ForestMessage::Leave, StreamNotice::default(), at(310), &mut Vec::new());
    assert!(told(&run(&mut planner, 20_000), viewer).is_empty());
}

#[test]
fn ten_thousand_of_whom_the_weak_come_first_are_soon_near_the_source() {
    let plan = PlanConfig { stripes: 6, rate_bytes_per_s: RATE, ..PlanConfig::default() };
    let facts = StreamFacts {
        epoch: Epoch(0),
        stripes: plan.stripes,
        rate_bytes_per_s: RATE,
        deadline: Duration::from_secs(2),
    };
    let config = PlannerConfig { source_upload_bytes_per_s: RATE * 10, plan, facts };
    let mut planner = Planner::new(CONCERT, 0, config, at(0)).unwrap();
    let ack = |planner: &mut Planner<u64>, actions: Vec<PlannerAction<u64>>, ms| {
        for action in actions {
            if let ForestMessage::Plan(plan) = action.message {
                let message = ForestMessage::PlanAck { version: plan.version };
                planner.handle_message(action.to, &message, StreamNotice::default(), at(ms), &mut Vec::new());
            }
        }
    };
    // Two in every millisecond: 25 % bring half the rate, then 50 % 1.2 times, 20 % 3 times, 5 % 10 times as much.
    for viewer in 1..=10_000 {
        let (percent, ms) = (viewer / 100, viewer / 2);
        let tenths = [(25, 5), (75, 12), (95, 30), (101, 100)].into_iter().find(|&(end, _)| percent < end);
        let mut actions = watch(&mut planner, viewer, RATE * tenths.unwrap().1 / 10, ms);
        actions.extend(run(&mut planner, ms));
        ack(&mut planner, actions, ms);
    }
    let mut depths = Vec::new();
    for second in 6..=40 {
        let actions = run(&mut planner, second * 1_000);
        ack(&mut planner, actions, second * 1_000);
        depths.push(planner.plan().depth_max());
    }
    let optimum = planner.plan().depth_optimum();
    assert_eq!(planner.plan().len(), 10_000);
    assert!(depths.iter().all(|&depth| depth <= optimum + 1), "{depths:?} of {optimum}");
}

#[test]
fn who_forges_as_two_of_its_children_say_has_none_any_more() {
    let mut planner = planner();
    for viewer in 1..=12 {
        watch(&mut planner, viewer, RATE * 3, viewer);
    }
    run(&mut planner, 5_000);
    let children = |planner: &Planner<u64>, relay| {
        let children: BTreeSet<u64> = planner.plan().children(relay).map(|(_, child)| child).collect();
        children
    };
    let relay = (1..=12).max_by_key(|&viewer| children(&planner, viewer).len()).unwrap();
    let fed: Vec<u64> = children(&planner, relay).into_iter().collect();
    assert!(fed.len() >= 3, "{fed:?}");
    let accuse = |planner: &mut Planner<u64>, by, relay, ms| {
        let mut actions = Vec::new();
        let message = ForestMessage::Accuse { relay };
        planner.handle_message(by, &message, StreamNotice::default(), at(ms), &mut actions);
        actions
    };
    // Neither one viewer alone, nor a stranger, nor anybody about the source.
    for by in [fed[0], fed[0], 999] {
        assert!(accuse(&mut planner, by, relay, 5_010).is_empty());
    }
    for &by in &fed {
        assert!(accuse(&mut planner, by, 0, 5_020).is_empty());
    }
    assert_eq!(planner.accused.demoted(), 0);
    let moved = accuse(&mut planner, fed[1], relay, 5_030);
    assert!(!moved.is_empty(), "those that it fed are told");
    run(&mut planner, 8_000);
    assert_eq!((children(&planner, relay), planner.plan().len()), (BTreeSet::new(), 12));
    // It cannot talk itself back in.
    let message = ForestMessage::Upload { bytes_per_s: RATE * 9 };
    planner.handle_message(relay, &message, StreamNotice::default(), at(8_010), &mut Vec::new());
    planner.handle_message(relay, &ForestMessage::Leave, StreamNotice::default(), at(8_020), &mut Vec::new());
    watch(&mut planner, relay, RATE * 9, 8_030);
    run(&mut planner, 12_000);
    assert_eq!((children(&planner, relay).len(), planner.plan().slots(relay)), (0, 0));
}

#[test]
fn viewers_are_told_what_they_pass_on() {
    let mut planner = planner();
    let mut actions: Vec<_> =
        (1..=4).flat_map(|viewer| watch(&mut planner, viewer, RATE * 12 / 10, 0)).collect();
    actions.extend(run(&mut planner, 200));
    for viewer in 1..=4 {
        let told = actions.iter().find_map(|action| match &action.message {
            ForestMessage::Plan(plan) if action.to == viewer => Some(plan.passes_on),
            _ => None,
        });
        assert!(told.flatten().is_some());
        assert_eq!(told, Some(planner.plan().colour(viewer)));
    }
}
