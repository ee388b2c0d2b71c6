use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::slab::class;
use super::*;
use crate::rng::{Rng, Seed};

const RATE: u64 = 312_500;

/// Uploads in percent of the rate, with their weights.
type Mix = &'static [(usize, u64)];
const HETERO: Mix = &[(25, 50), (50, 120), (20, 300), (5, 1_000)];
const HOMOG: Mix = &[(1, 120)];
const FREE_RIDERS: Mix = &[(40, 0), (40, 150), (20, 400)];
const FINE: Mix = &[(10, 13), (20, 70), (30, 110), (20, 190), (10, 340), (10, 700)];
const MIXES: [Mix; 4] = [HETERO, HOMOG, FREE_RIDERS, FINE];

fn draw(mix: Mix, rng: &mut Rng) -> u64 {
    let mut at = rng.below(mix.iter().map(|&(weight, _)| weight).sum());
    for &(weight, percent) in mix {
        if at < weight {
            return RATE * percent / 100;
        }
        at -= weight;
    }
    0
}

fn config(stripes: u8) -> PlanConfig {
    PlanConfig { stripes, rate_bytes_per_s: RATE, ..PlanConfig::default() }
}

fn plan(stripes: u8) -> ForestPlan<u64> {
    ForestPlan::new(0, RATE * 10, config(stripes)).unwrap()
}

fn rng(seed: u64) -> Rng {
    Rng::new(Seed::from_u64(seed))
}

/// A plan and what a host knows of it from the changes alone.
struct Watched {
    plan: ForestPlan<u64>,
    parents: BTreeMap<(u64, u8), u64>,
    changes: Vec<PlanChange<u64>>,
}

impl Watched {
    fn new(plan: ForestPlan<u64>) -> Self {
        Self { plan, parents: BTreeMap::new(), changes: Vec::new() }
    }

    /// Replays the changes of one call.
    fn replay(&mut self) -> usize {
        let mut seen = alloc::collections::BTreeSet::new();
        for gone in self.plan.take_detached() {
            assert!(!self.plan.contains(gone));
        }
        let mut moves = 0;
        for change in self.changes.drain(..) {
            assert!(seen.insert((change.viewer, change.stripe)), "a link told twice");
            let before = self.parents.insert((change.viewer, change.stripe), change.parent);
            assert_ne!(before, Some(change.parent), "no change at all");
            moves += usize::from(before.is_some());
        }
        self.parents.retain(|&(viewer, _), _| self.plan.contains(viewer));
        moves
    }

    fn check(&self) {
        check(&self.plan);
        let plan = &self.plan;
        let told = plan.viewers().flat_map(|viewer| {
            (0..plan.stripes()).map(move |stripe| ((viewer, stripe), plan.parent(viewer, stripe).unwrap()))
        });
        assert_eq!(self.parents, told.collect());
    }
}

/// Every invariant, from the public queries and from the lists.
fn check(plan: &ForestPlan<u64>) {
    let slab = &plan.slab;
    let mut deepest = 0;
    let viewers: Vec<u64> = plan.viewers().collect();
    assert_eq!(viewers.len(), plan.len());
    for &viewer in &viewers {
        assert!(plan.used(viewer) <= plan.slots_max(viewer), "slots exceeded");
        assert!(plan.children(viewer).all(|(stripe, _)| plan.colour(viewer) == Some(stripe)));
        assert_eq!(plan.children(viewer).count(), plan.used(viewer));
        for stripe in 0..plan.stripes() {
            let mut at = viewer;
            let mut depth = 0;
            while at != 0 {
                let parent = plan.parent(at, stripe).expect("a parent in every stripe");
                assert!(plan.children(parent).any(|child| child == (stripe, at)));
                at = parent;
                depth += 1;
                assert!(depth <= viewers.len(), "a cycle");
            }
            assert_eq!(plan.depth(viewer, stripe), Some(depth));
            deepest = deepest.max(depth);
        }
    }
    assert!(plan.used(0) <= plan.slots_max(0));
    assert_eq!(plan.depth_max(), deepest);
    for (index, stripe) in slab.stripes.iter().enumerate() {
        let mut listed = 0;
        for (state, levels) in stripe.levels.iter().enumerate() {
            for (&(depth, size), &head) in levels {
                for node in slab.list_from(head) {
                    let place = slab.node(node);
                    assert_eq!((place.depth, class(place.soft)), (depth, size));
                    assert!(slab.is_inner(node, index) && state < 9);
                    let inner = slab.children(node).filter(|&child| slab.is_inner(child, index));
                    assert_eq!(inner.count(), usize::from(place.inner));
                    listed += 1;
                }
            }
        }
        let coloured = viewers.iter().filter(|&&viewer| plan.colour(viewer) == Some(index as u8));
        assert_eq!(listed, coloured.count() + 1);
        let slots = |hard: bool| {
            let own = (0..slab.nodes.len() as u32)
                .filter(|&node| slab.is_inner(node, index) && !slab.is_vacant(node));
            own.map(|node| u64::from(if hard { slab.node(node).hard } else { slab.node(node).soft }))
                .sum::<u64>()
        };
        assert_eq!((stripe.soft_total, stripe.hard_total), (slots(false), slots(true)));
    }
}

fn check_backups(plan: &ForestPlan<u64>, viewer: u64) {
    for stripe in 0..plan.stripes() {
        let above = |peer: u64| {
            let up = move |&peer: &u64| plan.parent(peer, stripe).filter(|&parent| parent != 0);
            core::iter::successors(Some(peer).filter(|&peer| peer != 0), up)
        };
        let parent = plan.parent(viewer, stripe).unwrap();
        for backup in plan.backups(viewer, stripe) {
            assert_ne!(backup, viewer);
            if backup == 0 {
                assert!(parent != 0 && plan.used(0) < plan.slots_max(0));
                continue;
            }
            assert_eq!(plan.colour(backup), Some(stripe));
            for ancestor in above(backup) {
                assert_ne!(ancestor, viewer, "below the viewer");
                assert!(above(parent).all(|other| other != ancestor), "a shared ancestor");
            }
        }
    }
}

/// Rebalances until nothing is worth it.
fn settle(watched: &mut Watched) -> usize {
    let mut moves = 0;
    for _ in 0..10_000 {
        let made = watched.plan.rebalance(600, &mut watched.changes);
        watched.replay();
        moves += made;
        if made == 0 {
            return moves;
        }
    }
    panic!("no end of improvements");
}

#[test]
fn pure_joins_stay_near_the_optimum() {
    for mix in MIXES {
        for stripes in [1, 2, 4, 8, 16] {
            let mut rng = rng(7);
            let mut watched = Watched::new(plan(stripes));
            let viewers = if stripes == 1 { 300 } else { 1_000 };
            for viewer in 1..=viewers {
                let upload = draw(mix, &mut rng);
                let joined = watched.plan.join(viewer, upload, &mut watched.changes);
                assert!(joined.is_ok() || mix == FREE_RIDERS, "{joined:?}");
                assert!(watched.replay() <= 64);
            }
            watched.check();
            if mix == HETERO {
                assert!(watched.plan.depth_max() <= watched.plan.depth_optimum() + 1);
            }
            settle(&mut watched);
            watched.check();
            let (depth, optimum) = (watched.plan.depth_max(), watched.plan.depth_optimum());
            assert!(depth <= optimum + 1, "{depth} of {optimum}, {stripes} stripes, {mix:?}");
        }
    }
}

#[test]
fn ten_thousand_are_as_near_as_can_be() {
    for (stripes, strong_first) in [(6, false), (8, true)] {
        let mut rng = rng(3);
        let mut uploads: Vec<u64> = (0..10_000).map(|_| draw(HETERO, &mut rng)).collect();
        if strong_first {
            uploads.sort_unstable_by_key(|&upload| core::cmp::Reverse(upload));
        }
        let (mut plan, mut changes) = (plan(stripes), Vec::new());
        for (viewer, upload) in (1..).zip(uploads) {
            changes.clear();
            plan.join(viewer, upload, &mut changes).unwrap();
        }
        let (depth, optimum) = (plan.depth_max(), plan.depth_optimum());
        assert!(depth <= optimum && optimum <= 4, "{depth} of {optimum}, {stripes} stripes");
        assert_eq!(plan.rebalance(512, &mut changes), 0, "nothing is left to do");
        check(&plan);
    }
}

#[test]
fn departures_move_about_as_many_as_they_fed() {
    for mix in MIXES {
        let mut rng = rng(9);
        let mut watched = Watched::new(plan(8));
        let mut viewers = Vec::new();
        for viewer in 1..=1_000 {
            watched.plan.join(viewer, draw(mix, &mut rng), &mut watched.changes).unwrap();
            watched.replay();
            viewers.push(viewer);
        }
        let (mut sum, rounds) = (0, 300);
        for next in 10_000..10_000 + rounds {
            let gone = viewers.swap_remove(rng.below(viewers.len()));
            let fed = watched.plan.used(gone);
            watched.plan.leave(gone, &mut watched.changes).unwrap();
            let moves = watched.replay();
            assert!(moves <= 3 * fed + 64, "{moves} moves for {fed} children");
            sum += moves;
            watched.plan.join(next, draw(mix, &mut rng), &mut watched.changes).unwrap();
            watched.replay();
            viewers.push(next);
        }
        assert!(sum <= 12 * rounds as usize, "{sum} moves");
        watched.check();
        settle(&mut watched);
        watched.check();
        assert!(watched.plan.depth_max() <= watched.plan.depth_optimum() + 1);
        viewers.iter().for_each(|&viewer| check_backups(&watched.plan, viewer));
    }
}

#[test]
fn star_and_forest_with_a_margin_between() {
    let small = PlanConfig { stripes: 2, star_to_tree_threshold: 20, ..config(2) };
    let mut watched = Watched::new(ForestPlan::new(0, RATE * 40, small).unwrap());
    for viewer in 1..=20 {
        watched.plan.join(viewer, RATE * 2, &mut watched.changes).unwrap();
        assert_eq!((watched.plan.mode(), watched.plan.depth_max()), (PlanMode::Star, 1));
        watched.replay();
    }
    watched.plan.join(21, RATE * 2, &mut watched.changes).unwrap();
    watched.replay();
    assert_eq!(watched.plan.mode(), PlanMode::Forest);
    for viewer in 22..=60 {
        watched.plan.join(viewer, RATE * 2, &mut watched.changes).unwrap();
        watched.replay();
    }
    assert!(watched.plan.depth_max() > 1);
    for viewer in 1..=46 {
        assert_eq!(watched.plan.mode(), PlanMode::Forest);
        watched.plan.leave(viewer, &mut watched.changes).unwrap();
        watched.replay();
    }
    assert_eq!((watched.plan.mode(), watched.plan.depth_max()), (PlanMode::Star, 1));
    watched.check();

    let only = PlanConfig { mode: PlanMode::Star, ..config(2) };
    let mut plan = ForestPlan::new(0u64, RATE * 3, only).unwrap();
    plan.join(1, RATE * 9, &mut watched.changes).unwrap();
    plan.join(2, RATE * 9, &mut watched.changes).unwrap();
    assert!(matches!(plan.join(3, RATE * 9, &mut watched.changes), Err(PlanError::NoCapacity { .. })));
}

#[test]
fn refusals_leave_the_plan_as_it_was() {
    let changes = &mut Vec::new();
    let none = ForestPlan::new(0u64, RATE / 2, config(8));
    assert!(matches!(none, Err(PlanError::OutOfRange { field: "root_upload_bytes_per_s", .. })));
    let few = ForestPlan::new(0u64, RATE * 9, PlanConfig { viewers_max: 4, ..config(8) });
    assert!(matches!(few, Err(PlanError::StripesAboveViewers { stripes: 8, viewers_max: 4 })));

    let mut plan = ForestPlan::new(0u64, RATE * 2, config(1)).unwrap();
    plan.join(1, 0, changes).unwrap();
    changes.clear();
    assert!(matches!(plan.join(2, 0, changes), Err(PlanError::NoCapacity { spare_bytes_per_s: 0, .. })));
    assert_eq!(plan.join(1, 0, changes), Err(PlanError::AlreadyJoined));
    assert_eq!(plan.join(0, 0, changes), Err(PlanError::IsRoot));
    assert_eq!(plan.leave(9, changes), Err(PlanError::Unknown));
    assert_eq!(plan.reparented(1, 0, 1, changes), Err(PlanError::Cycle));
    assert!(changes.is_empty());
    let Err(PlanError::NoCapacity { needed_bytes_per_s, .. }) = plan.join(2, 0, changes) else {
        panic!("there is no capacity");
    };
    plan.join(2, needed_bytes_per_s, changes).unwrap();
    assert_eq!(plan.reparented(2, 0, 2, changes), Err(PlanError::Cycle));
    assert_eq!(plan.stats().refusals, 7);
    check(&plan);
}

#[test]
fn who_fed_many_and_leaves_puts_some_out() {
    let mut watched = Watched::new(ForestPlan::new(0, RATE * 2, config(1)).unwrap());
    watched.plan.join(1, RATE * 20, &mut watched.changes).unwrap();
    watched.replay();
    for viewer in 2..=15 {
        watched.plan.join(viewer, 0, &mut watched.changes).unwrap();
        watched.replay();
    }
    watched.plan.leave(1, &mut watched.changes).unwrap();
    watched.replay();
    assert_eq!((watched.plan.len(), watched.plan.stats().detached), (1, 13));
    watched.check();
}

#[test]
fn the_root_takes_nobodys_place() {
    let mut watched = Watched::new(ForestPlan::new(0, RATE * 12 / 10, config(1)).unwrap());
    for (viewer, upload) in [(1, RATE * 12 / 10), (2, RATE * 12 / 10), (3, 0)] {
        watched.plan.join(viewer, upload, &mut watched.changes).unwrap();
        watched.replay();
    }
    watched.plan.leave(1, &mut watched.changes).unwrap();
    watched.replay();
    watched.check();
    assert_eq!((watched.plan.parent(2, 0), watched.plan.parent(3, 0)), (Some(0), Some(2)));
}

/// Unequal uploads, and 0.8 of the rate that they can carry.
fn scarce(viewers: u64, seed: u64) -> (PlanConfig, u64, Vec<u64>) {
    let mut rng = rng(seed);
    let uploads: Vec<u64> = (0..viewers).map(|_| draw(HETERO, &mut rng)).collect();
    let all = RATE * 10 + uploads.iter().sum::<u64>();
    let rate = all / viewers * 80 / 100 * 104 / 100;
    let config = PlanConfig {
        rate_bytes_per_s: rate,
        use_percent: 92,
        use_percent_max: 92,
        root_use_percent: 65,
        reserve_slots: 24,
        ..config(12)
    };
    (config, RATE * 10, uploads)
}

#[test]
fn together_all_get_a_place_where_upload_is_scarce() {
    for seed in 1..=3 {
        let (config, root, uploads) = scarce(600, seed);
        let mut watched = Watched::new(ForestPlan::new(0, root, config).unwrap());
        let (mut waiting, mut most): (Vec<(u64, u64)>, usize) = (Vec::new(), 0);
        for (viewer, &upload) in (1..).zip(&uploads) {
            if watched.plan.join(viewer, upload, &mut watched.changes).is_err() {
                waiting.push((viewer, upload));
            }
            watched.replay();
            if viewer % 20 != 0 {
                continue;
            }
            waiting.sort_by_key(|&(viewer, upload)| (core::cmp::Reverse(upload), viewer));
            most = most.max(waiting.len());
            let together = (1..=waiting.len()).rev().find(|&count| {
                let Watched { plan, changes, .. } = &mut watched;
                plan.join_all(&waiting[..count], changes).is_ok()
            });
            waiting.drain(..together.unwrap_or(0));
            watched.replay();
            watched.check();
        }
        assert!(most > 0 && waiting.is_empty(), "seed {seed}: {most} waited, {} still do", waiting.len());
        settle(&mut watched);
        watched.check();
        let (depth, optimum) = (watched.plan.depth_max(), watched.plan.depth_optimum());
        assert!(depth <= optimum + 1, "seed {seed}: {depth} of {optimum}");
    }
}

#[test]
fn of_those_who_come_together_all_or_none_are_let_in() {
    let changes = &mut Vec::new();
    let few = PlanConfig { viewers_max: 5, ..config(4) };
    let mut plan = ForestPlan::new(0u64, RATE * 11 / 10, few).unwrap();
    plan.join(1, RATE * 12 / 10, changes).unwrap();
    changes.clear();
    let twice = [(2, RATE), (2, RATE)];
    assert_eq!(plan.join_all(&twice, changes), Err(PlanError::AlreadyJoined));
    assert_eq!(plan.join_all(&[(2, RATE), (1, RATE)], changes), Err(PlanError::AlreadyJoined));
    assert_eq!(plan.join_all(&[(2, RATE), (0, RATE)], changes), Err(PlanError::IsRoot));
    let many = [2, 3, 4, 5, 6].map(|viewer| (viewer, RATE * 2));
    assert_eq!(plan.join_all(&many, changes), Err(PlanError::ViewersMax { max: 5 }));
    let weak = [(2, RATE / 10), (3, RATE / 10)];
    assert!(matches!(plan.join_all(&weak, changes), Err(PlanError::NoCapacity { .. })));
    assert_eq!((plan.len(), changes.len(), plan.stats().joins), (1, 0, 1));
    check(&plan);
    plan.join_all(&many[..4], changes).unwrap();
    assert_eq!((plan.len(), plan.stats().joins), (5, 5));
    check(&plan);
}

#[test]
fn the_root_keeps_back_what_it_is_told_to() {
    let kept = PlanConfig { root_use_percent: 50, ..config(4) };
    let plan = ForestPlan::new(0u64, RATE * 8, kept.clone()).unwrap();
    assert_eq!((plan.slots(0), plan.slots_max(0)), (16, 16));
    let plan = ForestPlan::new(0u64, RATE * 11 / 10, kept).unwrap();
    assert_eq!(plan.slots_max(0), 4, "one for every stripe in any case");
}

#[derive(Clone, Debug)]
enum Step {
    Join(u64),
    JoinAll(Vec<u64>),
    Leave(usize),
    Upload(usize, u64),
    Root(u64),
    Rate(u64),
    Reparent(usize, usize, u8),
    Rebalance(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let percent = prop_oneof![2 => Just(0), 2 => 10..100u64, 6 => 100..200u64, 2 => 200..1_200u64];
    prop_oneof![
        12 => percent.clone().prop_map(Step::Join),
        2 => proptest::collection::vec(percent.clone(), 1..20).prop_map(Step::JoinAll),
        6 => any::<usize>().prop_map(Step::Leave),
        3 => (any::<usize>(), percent).prop_map(|(at, percent)| Step::Upload(at, percent)),
        1 => (200..1_500u64).prop_map(Step::Root),
        1 => (70..140u64).prop_map(Step::Rate),
        2 => (any::<usize>(), any::<usize>(), 0..16u8).prop_map(|(at, to, stripe)| Step::Reparent(at, to, stripe)),
        1 => (1..100usize).prop_map(Step::Rebalance),
    ]
}

/// Plays the steps after `first` joins, and checks everything on the way and when there is no more to improve.
fn play(stripes: u8, first: u64, mix: usize, steps: Vec<Step>) -> Watched {
    let mut watched = Watched::new(plan(stripes));
    let mut rng = rng(first);
    let joins = (0..first).map(|_| Step::Join(draw(MIXES[mix], &mut rng) * 100 / RATE));
    let mut next = 0;
    for (number, step) in joins.chain(steps).enumerate().collect::<Vec<_>>() {
        let viewers: Vec<u64> = watched.plan.viewers().collect();
        let pick = |at: usize| viewers.get(at % viewers.len().max(1)).copied().unwrap_or(9_999);
        let Watched { plan, changes, .. } = &mut watched;
        let bulk = matches!(step, Step::Rate(_) | Step::Root(_));
        let _ = match step {
            Step::Join(percent) => {
                next += 1;
                plan.join(next, RATE * percent / 100, changes)
            }
            Step::JoinAll(percents) => {
                let viewers: Vec<_> =
                    (next + 1..).zip(percents.iter().map(|percent| RATE * percent / 100)).collect();
                next += viewers.len() as u64;
                plan.join_all(&viewers, changes)
            }
            Step::Leave(at) => plan.leave(pick(at), changes),
            Step::Upload(at, percent) => plan.set_upload(pick(at), RATE * percent / 100, changes),
            Step::Root(percent) => plan.set_upload(0, RATE * percent / 100, changes),
            Step::Rate(percent) => plan.set_rate(RATE * percent / 100, changes),
            Step::Reparent(at, to, stripe) => {
                let to = if to % 5 == 0 { 0 } else { pick(to) };
                plan.reparented(pick(at), stripe % stripes, to, changes)
            }
            Step::Rebalance(moves) => {
                plan.rebalance(moves, changes);
                Ok(())
            }
        };
        watched.replay();
        if bulk {
            settle(&mut watched);
        }
        if number % 8 == 0 {
            watched.check();
        }
    }
    for viewer in watched.plan.viewers() {
        check_backups(&watched.plan, viewer);
    }
    settle(&mut watched);
    watched.check();
    watched
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_keeps_every_promise(
        stripes in 1..=16u8,
        first in 0..40u64,
        mix in 0..4usize,
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let watched = play(stripes, first, mix, steps);
        let (depth, optimum) = (watched.plan.depth_max(), watched.plan.depth_optimum());
        prop_assert!(depth <= optimum + 1, "{depth} of {optimum}");
    }
}

/// Here all stripes need their reserve: the strong must rise nevertheless.
#[test]
fn the_strong_rise_where_the_reserve_is_needed() {
    use Step::{Join, JoinAll, Leave, Rate, Root, Upload};
    let steps = vec![
        Join(219),
        JoinAll(vec![19, 0, 34, 51, 57, 0, 0, 169]),
        Leave(10218594175982144328),
        Join(122),
        Leave(17877516226050379754),
        Join(132),
        Upload(13060969206347955134, 110),
        Join(48),
        Join(150),
        Join(179),
        Leave(13867713553535029464),
        Leave(14969625679068045541),
        Join(180),
        Leave(3911955112263427597),
        Join(409),
        Leave(7005884188680369369),
        Leave(9953602050891830123),
        Join(190),
        Root(555),
        Join(184),
        Root(1287),
        Join(157),
        Leave(6346357903036109673),
        Join(548),
        Join(0),
        Root(334),
        Upload(13186663539315004392, 109),
        Join(485),
        Rate(126),
        JoinAll(vec![192, 170, 99, 77, 112]),
        Leave(13681652992034765197),
        Leave(9073457438822444815),
        Upload(15140262703946775692, 0),
        Join(130),
        Join(46),
        Join(135),
        Join(173),
        Leave(11792956239364658774),
        Join(14),
        Leave(3190240927072868212),
        Leave(375562129204334762),
        Upload(16513493691512964927, 110),
        Join(134),
        JoinAll(vec![191, 867, 0, 122, 44, 144, 0, 121]),
        Join(101),
        Join(28),
        Join(42),
    ];
    let watched = play(7, 32, 0, steps);
    let (depth, optimum) = (watched.plan.depth_max(), watched.plan.depth_optimum());
    assert!(depth <= optimum + 1, "{depth} of {optimum}");
}
