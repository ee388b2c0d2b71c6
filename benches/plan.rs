//! What the plan of a livestream costs: time for joins and departures, and for the largest size also memory, depth
//! and moves.
//!
//! ```text
//! cargo bench --bench plan
//! ```
#![allow(clippy::disallowed_types, reason = "a benchmark reads the clock")]

use std::time::Instant;

use criterion::{Criterion, criterion_group};
use peak_alloc::PeakAlloc;
use suffuse::{ForestPlan, PlanConfig};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const RATE: u64 = 312_500;

/// Uploads in percent of the rate, with their weights.
type Mix = &'static [(u64, u64)];
const HETERO: Mix = &[(25, 50), (50, 120), (20, 300), (5, 1_000)];
const HOMOG: Mix = &[(1, 120)];

/// A small generator: equal numbers on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn upload(&mut self, mix: Mix) -> u64 {
        let mut at = self.below(mix.iter().map(|&(weight, _)| weight).sum());
        for &(weight, percent) in mix {
            if at < weight {
                return RATE * percent / 100;
            }
            at -= weight;
        }
        0
    }
}

fn build(viewers: u64, mix: Mix, dice: &mut Dice) -> ForestPlan<u64> {
    let mut config = PlanConfig::default();
    config.rate_bytes_per_s = RATE;
    config.viewers_max = 2_000_000;
    let mut plan = ForestPlan::new(0, RATE * 10, config).expect("a valid configuration");
    let mut changes = Vec::new();
    for viewer in 1..=viewers {
        changes.clear();
        plan.join(viewer, dice.upload(mix), &mut changes).expect("capacity for all");
    }
    plan
}

fn churn(criterion: &mut Criterion) {
    for viewers in [1_000, 10_000, 100_000] {
        let mut dice = Dice(1);
        let mut plan = build(viewers, HETERO, &mut dice);
        let mut present: Vec<u64> = (1..=viewers).collect();
        let mut changes = Vec::new();
        let mut next = viewers;
        criterion.bench_function(&format!("a departure and a join among {viewers}"), |bencher| {
            bencher.iter(|| {
                changes.clear();
                let at = dice.below(viewers) as usize;
                next += 1;
                let gone = std::mem::replace(&mut present[at], next);
                plan.leave(gone, &mut changes).expect("a viewer");
                plan.join(next, dice.upload(HETERO), &mut changes).expect("capacity for all");
            });
        });
    }
    let mut group = criterion.benchmark_group("build");
    group.sample_size(10);
    for viewers in [1_000, 10_000] {
        group.bench_function(format!("{viewers} joins"), |bencher| {
            bencher.iter(|| build(viewers, HETERO, &mut Dice(1)).len());
        });
    }
    group.finish();
}

/// One pass over a large plan, printed.
fn pass(name: &str, mix: Mix, viewers: u64, changes_of: usize) {
    let mut dice = Dice(1);
    let before = ALLOCATOR.current_usage();
    let start = Instant::now();
    let mut plan = build(viewers, mix, &mut dice);
    let seconds = start.elapsed().as_secs_f64();
    let bytes = (ALLOCATOR.current_usage() - before) as f64 / viewers as f64;
    println!(
        "{name}, {viewers} viewers: built in {seconds:.2} s, {bytes:.1} bytes each, depth {} of {}",
        plan.depth_max(),
        plan.depth_optimum()
    );
    let mut present: Vec<u64> = (1..=viewers).collect();
    let mut changes = Vec::new();
    let (mut sum, mut max, mut joined, mut slowest) = (0, 0, 0, 0.0f64);
    let start = Instant::now();
    for next in viewers + 1..=viewers + changes_of as u64 {
        let at = dice.below(viewers) as usize;
        let gone = std::mem::replace(&mut present[at], next);
        changes.clear();
        let one = Instant::now();
        plan.leave(gone, &mut changes).expect("a viewer");
        slowest = slowest.max(one.elapsed().as_secs_f64());
        sum += changes.len();
        max = max.max(changes.len());
        changes.clear();
        plan.join(next, dice.upload(mix), &mut changes).expect("capacity for all");
        joined += changes.len();
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / changes_of as f64;
    println!(
        "  {changes_of} departures and joins: {each:.1} us a pair, slowest departure {:.1} ms; moves per departure \
         {:.2} on average, {max} at most, per join {:.2}; depth {} of {}",
        slowest * 1e3,
        sum as f64 / changes_of as f64,
        joined as f64 / changes_of as f64 - f64::from(plan.stripes()),
        plan.depth_max(),
        plan.depth_optimum()
    );
    let start = Instant::now();
    let mut moves = 0;
    loop {
        changes.clear();
        match plan.rebalance(1_000, &mut changes) {
            0 => break,
            made => moves += made,
        }
    }
    println!(
        "  rebalanced with {moves} moves in {:.2} s: depth {} of {}",
        start.elapsed().as_secs_f64(),
        plan.depth_max(),
        plan.depth_optimum()
    );
}

criterion_group!(benches, churn);

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let (viewers, changes) = if quick { (20_000, 500) } else { (1_000_000, 10_000) };
    pass("hetero", HETERO, viewers, changes);
    pass("homog", HOMOG, viewers, changes);
    benches();
    Criterion::default().configure_from_args().final_summary();
}
