//! `simulate state`.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use suffuse::sim::{StateBudget, StateReport, StateScene};

use crate::meter::Meter;

#[derive(Args)]
pub(crate) struct State {
    /// Entities, from 1 to 100,000.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    states: u32,
    /// Observers, from 1 to 10,000.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    observers: u32,
    /// Bytes a second to each observer, or `half` for half of what it takes to send everything.
    #[arg(long, default_value = "32000", value_parser = budget)]
    budget: StateBudget,
    /// Ticks a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Virtual seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Everything random comes from here.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the scene and prints what it showed.
pub(crate) fn play(state: &State) {
    let mut scene = StateScene::new(state.states, state.observers);
    scene.budget = state.budget;
    scene.rate_hz = state.rate;
    scene.seconds = state.seconds;
    scene.seed = state.seed;
    let mut meter = Meter::new(!state.json);
    let started = meter.wall.now();
    let report = scene.run(&mut meter);
    let wall = meter.wall.now() - started;
    drop(meter);
    if state.json {
        print_json(state, &report, wall);
    } else {
        print_table(state, &report, wall);
    }
}

fn print_json(state: &State, report: &StateReport, wall: Duration) {
    let line = json!({
        "scenario": "state",
        "states": state.states,
        "observers": state.observers,
        "seed": state.seed,
        "staleness_ms": report.staleness_ms,
        "budget_bytes_per_s": report.budget_bytes_per_s,
        "sent_bytes_per_s": report.sent_bytes_per_s,
        "needed_bytes_per_s": report.needed_bytes_per_s,
        "over_budget_bytes": report.over_budget_bytes,
        "superseded": report.superseded,
        "starved_states": report.starved_states,
        "decisions_per_s": report.decisions_per_s,
        "wall_s": wall.as_secs_f64(),
        "trace_hash": format!("{:016x}", report.trace_hash),
    });
    println!("{line}");
}

fn print_table(state: &State, report: &StateReport, wall: Duration) {
    println!(
        "{} states at {} Hz, {} observers, {} s, seed {}",
        state.states, state.rate, state.observers, state.seconds, state.seed
    );
    let staleness = report.staleness_ms;
    let levels = [
        ("critical", staleness.critical),
        ("high", staleness.high),
        ("medium", staleness.medium),
        ("low", staleness.low),
    ];
    for (name, at) in levels {
        println!("  staleness, {name:23} p50 {} ms, p99 {} ms", at.p50, at.p99);
    }
    let rows = [
        ("budget of an observer", format!("{} bytes/s", report.budget_bytes_per_s)),
        ("sent to an observer", format!("{} bytes/s", report.sent_bytes_per_s)),
        ("needed to send everything", format!("{} bytes/s", report.needed_bytes_per_s)),
        ("over budget", format!("{} bytes", report.over_budget_bytes)),
        ("superseded", report.superseded.to_string()),
        ("starved", report.starved_states.to_string()),
        ("decisions per processor second", report.decisions_per_s.to_string()),
        ("wall time", format!("{:.2} s", wall.as_secs_f64())),
        ("trace hash", format!("{:016x}", report.trace_hash)),
    ];
    for (name, value) in rows {
        println!("  {name:34} {value}");
    }
}

fn budget(text: &str) -> Result<StateBudget, String> {
    match text.parse() {
        Ok(bytes) if (1..=1_000_000_000).contains(&bytes) => Ok(StateBudget::BytesPerS(bytes)),
        _ if text == "half" => Ok(StateBudget::Half),
        _ => Err("must be a number from 1 to 1,000,000,000, or `half`".to_owned()),
    }
}
