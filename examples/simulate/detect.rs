//! `simulate detect`.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use suffuse::sim::{DetectScene, LinkModel};

use crate::arguments::{non_negative, share};

#[derive(Args)]
pub(crate) struct Detect {
    /// Nodes, from 3 to 100,000.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    nodes: u32,
    /// Nodes that crash; a tenth if not given.
    #[arg(long)]
    crashes: Option<u32>,
    /// The share of frames that is lost, from 0 to 0.9.
    #[arg(long, default_value_t = 0.05, value_parser = share)]
    loss: f64,
    /// Seconds for which the others are watched for false suspicions.
    #[arg(long, default_value_t = 600.0, value_parser = non_negative)]
    watch: f64,
    /// Latencies: `uniform:MIN-MAX` in milliseconds one way, or `regions`.
    #[arg(long, default_value = "uniform:10-50")]
    link: LinkModel,
    /// Everything random comes from here.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the scene and prints what it showed.
pub(crate) fn play(detect: &Detect) {
    let mut scene = DetectScene::new(detect.nodes);
    scene.crashes = detect.crashes.unwrap_or(scene.crashes);
    scene.network.loss_ppm = (detect.loss * 1e6).round() as u32;
    scene.network.links = detect.link;
    scene.watch = Duration::from_secs_f64(detect.watch);
    scene.seed = detect.seed;
    let report = scene.run();
    if detect.json {
        println!("{}", json!({ "scenario": "detect", "seed": detect.seed, "report": report }));
        return;
    }
    println!("{} nodes, {} % loss, seed {}", detect.nodes, detect.loss * 100.0, detect.seed);
    let rows = [
        ("nodes that crashed", report.crashes.to_string()),
        ("links to them", report.links.to_string()),
        ("still up in the end", report.undetected.to_string()),
        ("detection p50", format!("{:.0} ms", report.delay_ms.p50)),
        ("detection p99", format!("{:.0} ms", report.delay_ms.p99)),
        ("detection, at most", format!("{:.0} ms", report.delay_ms.max)),
        ("false suspicions", report.false_suspicions.to_string()),
        ("in hours of links", format!("{:.0}", report.link_hours)),
        ("trace hash", format!("{:016x}", report.trace_hash)),
    ];
    for (name, value) in rows {
        println!("  {name:34} {value}");
    }
}
