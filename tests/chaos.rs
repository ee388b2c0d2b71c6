//! Chaos, then calm, with many seeds; see `suffuse::sim::ChaosScene`.
//!
//! `SUFFUSE_CHAOS_SEED=7 cargo test --test chaos` replays one seed, `SUFFUSE_CHAOS_SEEDS=400` plays more than the usual. So do
//! `simulate chaos --seed 7` and `simulate chaos --runs 400`, faster.

use std::collections::BTreeMap;

use suffuse::sim::ChaosScene;

const SEEDS: u64 = 40;

/// Everything that must have happened often over all seeds, or the test proves little.
const KINDS: [&str; 40] = [
    "crash",
    "restart",
    "restart with a lost disk",
    "leave",
    "join",
    "partition",
    "heal",
    "mute",
    "freeload",
    "slow",
    "one-way cut",
    "upload narrowed",
    "stand still",
    "clock forward",
    "clock back",
    "flood",
    "recover",
    "loss changed",
    "duplication changed",
    "reordering changed",
    "update published",
    "update delivered",
    "frame lost",
    "frame doubled",
    "frame cut by a partition",
    "frame to a dead node",
    "frame swallowed by a fault",
    "frame sent again",
    "frame on a broken connection",
    "run: reordered",
    "run: jitter",
    "run: reliable",
    "run: upload limited",
    "run: busy upload",
    "run: push",
    "run: pull",
    "run: hybrid",
    "run: window",
    "run: latest",
    "run: since keyframe",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn after_chaos_comes_agreement() {
    let one = number("SUFFUSE_CHAOS_SEED");
    let seeds = one.map_or(0..number("SUFFUSE_CHAOS_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let (mut all, mut wrong) = (BTreeMap::new(), Vec::new());
    for seed in seeds {
        let run = std::panic::catch_unwind(|| ChaosScene::new(seed).run());
        let Ok(report) = run else {
            wrong.push(format!("seed {seed}: a panic"));
            continue;
        };
        if !report.wrong.is_empty() {
            wrong.push(format!("seed {seed}, {}: {:#?}", report.scenario, report.wrong));
        }
        for (kind, count) in report.fired {
            *all.entry(kind).or_insert(0) += count;
        }
    }
    println!("{all:?}");
    assert!(wrong.is_empty(), "replay with `simulate chaos --seed SEED`: {wrong:#?}");
    if one.is_none() {
        for kind in KINDS {
            let count = all.get(kind).copied().unwrap_or(0);
            let least = if kind.starts_with("run: ") { 2 } else { 20 };
            assert!(count >= least, "only {count} of kind {kind:?}: the faults do not bite");
        }
    }
}

#[test]
fn a_seed_plays_the_same_scene_again() {
    let (first, second) = (ChaosScene::new(5).run(), ChaosScene::new(5).run());
    assert_eq!(first, second);
    assert_ne!(first.trace_hash, ChaosScene::new(6).run().trace_hash);
}
