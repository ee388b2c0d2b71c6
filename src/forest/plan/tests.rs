use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::rng::Seed;

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
    for (index, mix) in MIXES.into_iter().enumerate() {
        for stripes in [1, 2, 4, 8, 16] {
            let mut rng = rng(7);
            let mut watched = Watched::new(plan(stripes));
            let mut refused = 0;
            for viewer in 1..=3_000 {
                let upload = draw(mix, &mut rng);
                if watched.plan.join(viewer, upload, &mut watched.changes).is_err() {
                    refused += 1;
                }
                watched.replay();
            }
            watched.check();
            let joined = (watched.plan.depth_max(), watched.plan.depth_optimum());
            let moves = settle(&mut watched);
            watched.check();
            let settled = (watched.plan.depth_max(), watched.plan.depth_optimum());
            std::println!(
                "mix {index} k {stripes}: joined {joined:?} settled {settled:?} after {moves}, refused {refused}"
            );
        }
    }
}

#[test]
fn churn() {
    for (index, mix) in MIXES.into_iter().enumerate() {
        let mut rng = rng(9);
        let mut watched = Watched::new(plan(8));
        let mut viewers = Vec::new();
        for viewer in 1..=2_000 {
            let upload = draw(mix, &mut rng);
            if watched.plan.join(viewer, upload, &mut watched.changes).is_ok() {
                viewers.push(viewer);
            }
            watched.replay();
        }
        let (mut sum, mut max, mut join_sum) = (0, 0, 0);
        for next in 10_000..12_000 {
            let gone = viewers.swap_remove(rng.below(viewers.len()));
            watched.plan.leave(gone, &mut watched.changes).unwrap();
            let moves = watched.replay();
            sum += moves;
            max = max.max(moves);
            let upload = draw(mix, &mut rng);
            if watched.plan.join(next, upload, &mut watched.changes).is_ok() {
                viewers.push(next);
            }
            join_sum += watched.replay();
        }
        watched.check();
        let (depth, optimum) = (watched.plan.depth_max(), watched.plan.depth_optimum());
        let moves = settle(&mut watched);
        std::println!(
            "mix {index}: leaves {:.1} max {max}, joins {:.1}; depth {depth} of {optimum}, settled {} after {moves} {:?}",
            sum as f64 / 2000.0,
            join_sum as f64 / 2000.0,
            watched.plan.depth_max(),
            watched.plan.stats()
        );
        for &viewer in &viewers {
            check_backups(&watched.plan, viewer);
        }
    }
}
