//! x
use suffuse::*;
fn main() {
    let rate = 325_000u64;
    let mut config = PlanConfig::default();
    config.stripes = 7; config.rate_bytes_per_s = rate;
    let mut plan = ForestPlan::new(0u64, 3_125_000, config).unwrap();
    let mut changes = Vec::new();
    let mut x = 12345u64;
    for v in 1..=1000u64 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let r = (x >> 33) % 100;
        let up = 312_500 * if r < 25 { 5 } else if r < 75 { 12 } else if r < 95 { 30 } else { 100 } / 10;
        plan.join(v, up, &mut changes).unwrap_or_else(|e| println!("{v} {e}"));
        if v % 100 == 0 || v == 50 || v == 51 { println!("{v}: depth {} opt {} stats {:?} mode {:?} used root {} changes {}", plan.depth_max(), plan.depth_optimum(), plan.stats(), plan.mode(), plan.used(0), changes.len()); }
    }
}
