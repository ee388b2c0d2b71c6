//! `simulate topic`.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use suffuse::sim::{DelayMs, FloodReport, LinkModel, Sources, TopicReport, TopicScene};
use suffuse::{Config, GossipMode, Priority};

use crate::arguments::{non_negative, positive, redundancy, share};
use crate::meter::Meter;

#[derive(Args, Clone)]
pub(crate) struct Topic {
    /// Nodes, from 2 to 1,000,000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) nodes: u32,
    /// Messages published.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) messages: u32,
    /// Messages published each second.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// Bytes of a message; above 4,096, or what fits a frame, it travels in chunks.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(8..=16_777_216))]
    pub(crate) payload: u32,
    /// Who publishes.
    #[arg(long, value_enum, default_value = "one")]
    pub(crate) sources: SourcesArg,
    /// Latencies: `uniform:MIN-MAX` in milliseconds one way, or `regions`.
    #[arg(long, default_value = "uniform:10-50")]
    pub(crate) link: LinkModel,
    /// The share of frames that is lost, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) loss: f64,
    /// Upload of each node in Mbit/s.
    #[arg(long, default_value_t = 20.0, value_parser = positive)]
    pub(crate) upload_mbps: f64,
    /// The share of nodes that crash in the middle of the messages, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) crash: f64,
    /// Seconds for which the network is split in two, from the middle of the messages on.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    pub(crate) partition: f64,
    /// The mean time a node stays, in seconds, before it crashes or leaves and another comes; 0 for no churn.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    pub(crate) churn: f64,
    /// The share of nodes that accept everything and forward nothing, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) silent: f64,
    /// The share of nodes that forward everything but the updates themselves, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) freeload: f64,
    /// One node floods its neighbours, at so many times what they allow it; the scene is played without the flood, too.
    /// Then each peer is allowed 200 frames a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) flood: Option<u32>,
    /// Eager feeders to keep, from 1 (a tree) to 3.
    #[arg(long, default_value_t = 1.0, value_parser = redundancy)]
    pub(crate) redundancy: f64,
    /// The preset for messages that everybody must have at once, and all messages urgent.
    #[arg(long, conflicts_with = "redundancy")]
    pub(crate) alerts: bool,
    /// How bodies travel.
    #[arg(long, value_enum, default_value = "hybrid")]
    pub(crate) mode: ModeArg,
    /// Connections instead of datagrams.
    #[arg(long)]
    pub(crate) reliable: bool,
    /// Everything random comes from here.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SourcesArg {
    One,
    Random,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ModeArg {
    Push,
    Pull,
    Hybrid,
}

/// What a peer may send in the scene with a flood: some times what it sends in a calm one.
const FLOODED_FRAMES_PER_S: u32 = 200;

/// Runs the scene and prints what it showed.
pub(crate) fn play(topic: &Topic) {
    let (report, wall) = run(topic);
    if topic.json {
        print_json(topic, &report, wall);
    } else {
        print_table(topic, &report, wall);
    }
}

pub(crate) fn run(topic: &Topic) -> (TopicReport, Duration) {
    let mut scene = TopicScene::new(topic.nodes);
    scene.messages = topic.messages;
    scene.interval = Duration::from_secs_f64(1.0 / topic.rate);
    scene.payload_bytes = topic.payload as usize;
    scene.sources = match topic.sources {
        SourcesArg::One => Sources::One,
        SourcesArg::Random => Sources::Random,
    };
    scene.network.links = topic.link;
    scene.network.loss_ppm = (topic.loss * 1e6).round() as u32;
    scene.network.upload_bits_per_s = NonZeroU64::new((topic.upload_mbps * 1e6) as u64);
    scene.network.reliable = topic.reliable;
    scene.crash_ppm = (topic.crash * 1e6).round() as u32;
    scene.partition = (topic.partition > 0.0).then(|| Duration::from_secs_f64(topic.partition));
    scene.churn = (topic.churn > 0.0).then(|| Duration::from_secs_f64(topic.churn));
    scene.silent_ppm = (topic.silent * 1e6).round() as u32;
    scene.freeload_ppm = (topic.freeload * 1e6).round() as u32;
    scene.flood = topic.flood;
    if topic.flood.is_some() {
        scene.config.link.inbound_frames_per_s = FLOODED_FRAMES_PER_S;
    }
    scene.config.gossip.redundancy_percent = (topic.redundancy * 100.0).round() as u16;
    if topic.alerts {
        scene.config = Config::alerts();
        scene.priority = Priority::Urgent;
    }
    scene.mode = match topic.mode {
        ModeArg::Push => GossipMode::Push,
        ModeArg::Pull => GossipMode::Pull,
        ModeArg::Hybrid => GossipMode::Hybrid,
    };
    scene.seed = topic.seed;
    let mut meter = Meter::new(!topic.json);
    let started = meter.wall.now();
    let report = scene.run(&mut meter);
    (report, meter.wall.now() - started)
}

fn print_flood(topic: &Topic, flood: &FloodReport) {
    let (calm, _) = run(&Topic { flood: None, ..topic.clone() });
    let rows = [
        ("delay p99 without the flood", format!("{:.1} ms", calm.delay_ms.p99)),
        ("flooded neighbours", flood.victims.to_string()),
        ("that refused the flooder", flood.refusals.to_string()),
        ("frames of the flood", flood.frames.to_string()),
        ("dropped over the budget", flood.frames_over_budget.to_string()),
        ("not looked at, as refused", flood.frames_refused.to_string()),
        ("messages over the topic's budget", flood.messages_over_budget.to_string()),
        ("sources tracked, at most", flood.sources_peak.to_string()),
        ("bytes waiting, at most", flood.queued_bytes_peak.to_string()),
        ("links, at most", flood.links_peak.to_string()),
    ];
    for (name, value) in rows {
        println!("  {name:34} {value}");
    }
}

fn print_json(topic: &Topic, report: &TopicReport, wall: Duration) {
    let line = json!({
        "scenario": "topic",
        "nodes": topic.nodes,
        "messages": topic.messages,
        "seed": topic.seed,
        "reliability": report.reliability,
        "lagged": report.lagged,
        "repeated": report.repeated,
        "deliveries": report.deliveries,
        "catch_ups": report.catch_ups,
        "copies_per_delivery": report.copies_per_delivery,
        "hops_max": report.hops_max,
        "delay_ms": { "p50": report.delay_ms.p50, "p99": report.delay_ms.p99, "max": report.delay_ms.max },
        "crashed_delay_ms": report.crashed_delay_ms,
        "control_bytes_per_payload_byte": report.control_bytes_per_payload_byte,
        "bytes_per_delivery": report.bytes_per_delivery,
        "flood": report.flood,
        "recovery_s": report.recovery_s,
        "merge_s": report.merge_s,
        "equal_state_s": report.equal_state_s,
        "control_bytes_per_missed": report.control_bytes_per_missed,
        "idle_bytes_per_s": report.idle_bytes_per_s,
        "degree_mean": report.degree_mean,
        "members": report.members,
        "members_estimated": report.members_estimated,
        "heap_bytes_per_node": report.heap_bytes_per_node,
        "cpu_ns_per_delivery": report.cpu_ns_per_delivery,
        "virtual_s": report.virtual_s,
        "wall_s": wall.as_secs_f64(),
        "trace_hash": format!("{:016x}", report.trace_hash),
    });
    println!("{line}");
}

fn members(report: &TopicReport) -> String {
    match report.members_estimated {
        Some((least, most)) => format!("{least} to {most}, of {}", report.members),
        None => format!("-, of {}", report.members),
    }
}

fn print_table(topic: &Topic, report: &TopicReport, wall: Duration) {
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"));
    let millis =
        |delay: Option<DelayMs>| delay.map_or_else(|| "-".to_owned(), |delay| format!("{:.1} ms", delay.p99));
    let bytes = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    println!(
        "{} nodes, {} messages of {} bytes, seed {}",
        topic.nodes, topic.messages, topic.payload, topic.seed
    );
    let rows = [
        ("reliability", format!("{:.6}", report.reliability)),
        ("deliveries of older messages", report.catch_ups.to_string()),
        ("copies per delivery", format!("{:.4}", report.copies_per_delivery)),
        ("hops, at most", report.hops_max.to_string()),
        ("delay p50", format!("{:.1} ms", report.delay_ms.p50)),
        ("delay p99", format!("{:.1} ms", report.delay_ms.p99)),
        ("delay, at most", format!("{:.1} ms", report.delay_ms.max)),
        ("delay p99 after the crash", millis(report.crashed_delay_ms)),
        ("control bytes per payload byte", format!("{:.4}", report.control_bytes_per_payload_byte)),
        ("bytes per delivery", format!("{:.0}", report.bytes_per_delivery)),
        ("recovery after the crash", seconds(report.recovery_s)),
        ("one component after the partition", seconds(report.merge_s)),
        ("equal state after the partition", seconds(report.equal_state_s)),
        ("control bytes per missed update", bytes(report.control_bytes_per_missed)),
        ("idle traffic of a node", format!("{:.0} bytes/s", report.idle_bytes_per_s)),
        ("neighbours, mean", format!("{:.2}", report.degree_mean)),
        ("members, estimated", members(report)),
        ("heap of a node", format!("{:.1} KiB", report.heap_bytes_per_node as f64 / 1_024.0)),
        ("processor time per delivery", format!("{} ns", report.cpu_ns_per_delivery)),
        ("virtual time", format!("{:.1} s", report.virtual_s)),
        ("wall time", format!("{:.2} s", wall.as_secs_f64())),
        ("trace hash", format!("{:016x}", report.trace_hash)),
    ];
    for (name, value) in rows {
        println!("  {name:34} {value}");
    }
    if let Some(flood) = report.flood {
        print_flood(topic, &flood);
    }
}
