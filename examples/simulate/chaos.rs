//! `simulate chaos`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use suffuse::sim::{ChaosReport, ChaosScene};

#[derive(Args)]
pub(crate) struct Chaos {
    /// Play this seed alone.
    #[arg(long, conflicts_with_all = ["runs", "first"])]
    seed: Option<u64>,
    /// How many seeds to play.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    first: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Plays the seeds; fails if any of them ends in disagreement or goes beyond a limit.
pub(crate) fn play(chaos: &Chaos) -> ExitCode {
    let seeds = chaos.seed.map_or(chaos.first..chaos.first + chaos.runs, |seed| seed..seed + 1);
    let runs = seeds.end - seeds.start;
    let mut fired: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    let mut last = None;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| ChaosScene::new(seed).run());
        let (scenario, wrong) = match run {
            Ok(report) => {
                for (&kind, count) in &report.fired {
                    *fired.entry(kind).or_default() += count;
                }
                let told = (report.scenario.clone(), report.wrong.clone());
                last = Some(report);
                told
            }
            Err(_) => (String::new(), vec!["an engine panicked".to_owned()]),
        };
        if !wrong.is_empty() {
            eprintln!("seed {seed} FAILED: {scenario}");
            wrong.iter().for_each(|line| eprintln!("  {line}"));
            eprintln!("  replay: simulate chaos --seed {seed}");
            failed.push(json!({ "seed": seed, "scenario": scenario, "wrong": wrong }));
        }
    }
    if chaos.json {
        let seed = chaos.seed.and(last.as_ref());
        println!(
            "{}",
            json!({
                "scenario": "chaos",
                "runs": runs,
                "failed": failed,
                "fired": fired,
                "trace_hash": seed.map(|report| format!("{:016x}", report.trace_hash)),
            })
        );
    } else {
        print_table(runs, failed.len(), &fired, chaos.seed.and(last.as_ref()));
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_table(runs: u64, failed: usize, fired: &BTreeMap<&'static str, u64>, one: Option<&ChaosReport>) {
    for (kind, count) in fired {
        println!("  {kind:34} {count}");
    }
    if let Some(report) = one {
        println!("seed {}: {}", report.seed, report.scenario);
        println!("{:.1} virtual seconds, trace hash {:016x}", report.virtual_s, report.trace_hash);
    }
    println!("{runs} runs, {failed} failed");
}
