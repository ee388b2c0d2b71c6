//! `simulate livestream`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use suffuse::sim::{LivestreamReport, LivestreamScene, Uploads};
use suffuse::{DeliveryOrder, PlanMode};

use crate::arguments::{non_negative, number, redundancy, share};
use crate::meter::Meter;

#[derive(Args)]
pub(crate) struct Livestream {
    /// Viewers, from 1 to 1,000,000.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    viewers: u32,
    /// The media rate in kbit/s.
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u64).range(16..=1_000_000))]
    kbps: u64,
    /// Frames a second.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    fps: u32,
    /// Seconds between keyframes.
    #[arg(long, default_value_t = 2.0, value_parser = interval)]
    keyframe_interval: f64,
    /// The size of a keyframe against another frame.
    #[arg(long, default_value_t = 3.0, value_parser = ratio)]
    keyframe_ratio: f64,
    /// Layers, from 1 to 8; the lowest of several takes 40 % of the rate.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    layers: u8,
    /// Uploads of the viewers in kbit/s: `uniform:KBPS`, or `hetero[:BASE_KBPS]` for 25 % of them at 0.5 times the base
    /// (the media rate unless given), 50 % at 1.2 times, 20 % at 3 times, 5 % at 10 times.
    #[arg(long, default_value = "hetero")]
    upload: Uploads,
    /// The media rate as a share of the greatest that the uploads can carry; `--kbps` then only sets the uploads.
    #[arg(long, value_parser = utilization)]
    utilization: Option<f64>,
    /// The share of frames that is lost, from 0 to 0.9.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    loss: f64,
    /// The mean time a viewer stays, in seconds, before it crashes or leaves and another comes; 0 for no churn.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    churn: f64,
    /// The share of viewers that crash at once in the middle, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    crash: f64,
    /// Viewers that come on top within 10 s.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    flash: u32,
    /// How much is sent, from 1 (the media alone) to 3.
    #[arg(long, default_value_t = 1.0, value_parser = redundancy)]
    redundancy: f64,
    /// Trees that share the stream, from 1 to 16; by formula unless given.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    stripes: Option<u8>,
    /// Virtual seconds measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Milliseconds from capture after which a frame is given up.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    deadline: u64,
    /// The form of the plan: what suits the audience, a star around the source, a single tree, or a forest of as many trees
    /// as `--stripes` says. A tree has one stripe whatever `--stripes` says.
    #[arg(long, value_enum, default_value = "auto")]
    topology: TopologyArg,
    /// Viewers get frames in order, and wait for what is missing, instead of as they are complete.
    #[arg(long)]
    in_order: bool,
    /// Everything random comes from here.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TopologyArg {
    Auto,
    Star,
    Tree,
    Forest,
}

/// Runs the scene and prints what it showed.
pub(crate) fn play(livestream: &Livestream) -> ExitCode {
    let scene = scene(livestream);
    if scene.stream_bytes_per_s() < 2_000 {
        eprintln!(
            "error: at that utilization nothing is left of the stream; give a greater one, or more upload"
        );
        return ExitCode::FAILURE;
    }
    let mut meter = Meter::new(!livestream.json);
    let started = meter.wall.now();
    let report = scene.run(&mut meter);
    let wall = meter.wall.now() - started;
    drop(meter);
    if livestream.json {
        print_json(livestream, &scene, &report, wall);
    } else {
        print_table(livestream, &scene, &report, wall);
    }
    if report.frames_refused > 0 {
        eprintln!(
            "error: the source could not publish {} frames; more frames a second make them smaller",
            report.frames_refused
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn scene(livestream: &Livestream) -> LivestreamScene {
    let mut scene = LivestreamScene::new(livestream.viewers);
    let ppm = |share: f64| (share * 1e6).round() as u32;
    scene.rate_bytes_per_s = livestream.kbps * 125;
    scene.fps = livestream.fps;
    scene.keyframe_interval = Duration::from_secs_f64(livestream.keyframe_interval);
    scene.keyframe_percent = (livestream.keyframe_ratio * 100.0).round() as u32;
    scene.layers = livestream.layers;
    scene.uploads = livestream.upload;
    scene.utilization_ppm = livestream.utilization.map(ppm);
    scene.network.loss_ppm = ppm(livestream.loss);
    scene.churn = (livestream.churn > 0.0).then(|| Duration::from_secs_f64(livestream.churn));
    scene.crash_ppm = ppm(livestream.crash);
    scene.flash = livestream.flash;
    scene.redundancy_percent = (livestream.redundancy * 100.0).round() as u16;
    scene.stripes = livestream.stripes;
    scene.measured = Duration::from_secs(livestream.seconds);
    scene.deadline = Duration::from_millis(livestream.deadline);
    scene.mode = match livestream.topology {
        TopologyArg::Auto => PlanMode::Auto,
        TopologyArg::Star => PlanMode::Star,
        TopologyArg::Tree | TopologyArg::Forest => PlanMode::Forest,
    };
    if livestream.topology == TopologyArg::Tree {
        scene.stripes = Some(1);
    }
    if livestream.in_order {
        scene.order = DeliveryOrder::InOrder;
    }
    scene.seed = livestream.seed;
    scene
}

fn print_json(livestream: &Livestream, scene: &LivestreamScene, report: &LivestreamReport, wall: Duration) {
    let mut line = json!({
        "scenario": "livestream",
        "viewers": livestream.viewers,
        "stream_bytes_per_s": scene.stream_bytes_per_s(),
        "uploads": scene.uploads.to_string(),
        "seed": livestream.seed,
        "wall_s": wall.as_secs_f64(),
    });
    if let (Some(line), Ok(Value::Object(report))) = (line.as_object_mut(), serde_json::to_value(report)) {
        line.extend(report);
    }
    println!("{line}");
}

fn print_table(livestream: &Livestream, scene: &LivestreamScene, report: &LivestreamReport, wall: Duration) {
    println!(
        "{} viewers, {} kbit/s at {} frames/s, uploads {}, loss {}, {} s, seed {}",
        livestream.viewers,
        scene.stream_bytes_per_s() / 125,
        livestream.fps,
        scene.uploads,
        livestream.loss,
        livestream.seconds,
        livestream.seed
    );
    let percent = |share: f64| format!("{:.3} %", share * 100.0);
    let kib = |bytes: u64| format!("{:.1} KiB", bytes as f64 / 1_024.0);
    let delays = |delay: suffuse::sim::DelayMs| {
        format!("p50 {:.1}, p99 {:.1}, at most {:.1} ms", delay.p50, delay.p99, delay.max)
    };
    let (on_time, outage) = (report.on_time, report.outage_ms);
    let layers: Vec<_> = report.layers_delivered.iter().map(|&share| percent(share)).collect();
    let rows = [
        ("delay of a chunk", delays(report.delay_ms)),
        ("delay of a frame", delays(report.frame_delay_ms)),
        ("p99 of the worst viewer", format!("{:.0} ms", report.worst_viewer_p99_ms)),
        ("on time within 300 ms", percent(on_time.ms_300)),
        ("on time within 500 ms", percent(on_time.ms_500)),
        ("on time within 1 s", percent(on_time.ms_1000)),
        ("on time within 2 s", percent(on_time.ms_2000)),
        ("delivered, by layer", layers.join(", ")),
        ("upload over the cap", format!("{} bytes", report.upload_over_cap_bytes)),
        (
            "share of the upload used",
            format!("mean {}, at most {}", percent(report.upload_use.mean), percent(report.upload_use.max)),
        ),
        ("rate over the fluid bound", format!("{:.3}", report.rate_over_fluid_bound)),
        ("links from the source, planned", report.depth_max.to_string()),
        ("links crossed, at most", report.hops_max.to_string()),
        ("stripes", report.stripes.to_string()),
        ("wire bytes per delivered byte", format!("{:.4}", report.bytes_per_delivery)),
        ("copies per chunk", format!("{:.4}", report.payload_copies)),
        ("chunks that came on request", percent(report.repair_share)),
        (
            "outage after a crash",
            format!(
                "p50 {:.0}, p95 {:.0}, at most {:.0} ms, {} of them",
                outage.p50, outage.p95, outage.max, outage.count
            ),
        ),
        (
            "stripes back in 1, 2, 3, 5 s",
            report
                .stripes_back
                .map_or("-".to_owned(), |back| [back.s1, back.s2, back.s3, back.s5].map(percent).join(", ")),
        ),
        ("join to a place, p95", format!("{:.0} ms", report.join_ms.attach_p95)),
        ("join to the first keyframe, p95", format!("{:.0} ms", report.join_ms.first_frame_p95)),
        (
            "keyframe requests",
            format!(
                "{}, at most {} in a second",
                report.keyframe_requests, report.keyframe_requests_per_s_max
            ),
        ),
        ("moves of the plan per leave", format!("{:.2}", report.plan_moves_per_leave)),
        ("heap of a viewer, without media", kib(report.heap_bytes_per_viewer)),
        ("media kept by a viewer", kib(report.media_bytes_per_viewer)),
        ("heap of the plan", kib(report.heap_bytes_planner)),
        ("viewers at the end", report.viewers_end.to_string()),
        ("viewers refused", report.viewers_refused.to_string()),
        ("viewers without a keyframe", report.viewers_without_keyframe.to_string()),
        ("virtual time", format!("{:.1} s", report.virtual_s)),
        ("wall time", format!("{:.2} s", wall.as_secs_f64())),
        ("trace hash", format!("{:016x}", report.trace_hash)),
    ];
    for (name, value) in rows {
        println!("  {name:34} {value}");
    }
}

fn interval(text: &str) -> Result<f64, String> {
    number(text, 0.05, 3_600.0)
}

fn ratio(text: &str) -> Result<f64, String> {
    number(text, 1.0, 100.0)
}

fn utilization(text: &str) -> Result<f64, String> {
    number(text, 0.01, 1.0)
}
