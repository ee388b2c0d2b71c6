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
    assert!(actions.is_empty() && planner.suspects.is_empty(), "{actions:?}");
    assert_eq!(planner.plan().parent(2, 0), Some(parent));
}
