//! Simulates swarms in virtual time and prints what they did.
//!
//! Without arguments: a short tour with promised bounds; it fails if one is missed.
//!
//! ```text
//! cargo run --release --example simulate
//! cargo run --release --example simulate -- topic --nodes 1000 --loss 0.01
//! cargo run --release --example simulate -- state --budget half
//! ```

use std::io::IsTerminal;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cpu_time::ProcessTime;
use indicatif::{ProgressBar, ProgressStyle};
use peak_alloc::PeakAlloc;
use serde_json::json;
use suffuse::sim::{
    LinkModel, Probe, Sources, StateBudget, StateReport, StateScene, TopicReport, TopicScene,
};
use suffuse::{GossipMode, Instant};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

#[derive(Parser)]
#[command(about = "Simulates swarms in virtual time; without arguments, a short tour with promised bounds")]
struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
}

#[derive(Subcommand)]
enum Scenario {
    /// One topic: everybody joins through one contact, then messages flow, and in their middle something may go wrong.
    Topic(Topic),
    /// One authority, many moving entities, observers with moving areas of interest and a byte budget each.
    State(State),
}

#[derive(Args, Clone)]
struct Topic {
    /// Nodes, from 2 to 1,000,000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    nodes: u32,
    /// Messages published.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,
    /// Messages published each second.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    rate: f64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(8..=1_100))]
    payload: u32,
    /// Who publishes.
    #[arg(long, value_enum, default_value = "one")]
    sources: SourcesArg,
    /// Latencies: `uniform:MIN-MAX` in milliseconds one way, or `regions`.
    #[arg(long, default_value = "uniform:10-50")]
    link: LinkModel,
    /// The share of frames that is lost, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// Upload of each node in Mbit/s.
    #[arg(long, default_value_t = 20.0, value_parser = positive)]
    upload_mbps: f64,
    /// The share of nodes that crash in the middle of the messages, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    crash: f64,
    /// Seconds for which the network is split in two, from the middle of the messages on.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    partition: f64,
    /// The mean time a node stays, in seconds, before it crashes or leaves and another comes; 0 for no churn.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    churn: f64,
    /// Eager feeders to keep, from 1 (a tree) to 3.
    #[arg(long, default_value_t = 1.0, value_parser = redundancy)]
    redundancy: f64,
    /// How bodies travel.
    #[arg(long, value_enum, default_value = "hybrid")]
    mode: ModeArg,
    /// Connections instead of datagrams.
    #[arg(long)]
    reliable: bool,
    /// Everything random comes from here.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct State {
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

#[derive(Clone, Copy, ValueEnum)]
enum SourcesArg {
    One,
    Random,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    Push,
    Pull,
    Hybrid,
}

fn main() -> ExitCode {
    match Cli::parse().scenario {
        Some(Scenario::Topic(topic)) => {
            let (report, wall) = run(&topic);
            if topic.json {
                print_json(&topic, &report, wall)
            } else {
                print_table(&topic, &report, wall)
            }
            ExitCode::SUCCESS
        }
        Some(Scenario::State(state)) => {
            state_scene(&state);
            ExitCode::SUCCESS
        }
        None => tour(),
    }
}

fn run(topic: &Topic) -> (TopicReport, Duration) {
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
    scene.config.gossip.redundancy_percent = (topic.redundancy * 100.0).round() as u16;
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

fn state_scene(state: &State) {
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
        print_state_json(state, &report, wall);
    } else {
        print_state_table(state, &report, wall);
    }
}

fn print_state_json(state: &State, report: &StateReport, wall: Duration) {
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

fn print_state_table(state: &State, report: &StateReport, wall: Duration) {
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

/// Reads the clocks that the library must not, and draws the progress bar.
struct Meter {
    wall: suffuse::Clock,
    bar: Option<ProgressBar>,
}

impl Meter {
    fn new(may_draw: bool) -> Self {
        let bar = (may_draw && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} virtual seconds, {elapsed}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { wall: suffuse::Clock::new(), bar }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Probe for Meter {
    fn cpu_ns(&mut self) -> u64 {
        ProcessTime::now().as_duration().as_nanos() as u64
    }

    fn heap_bytes(&mut self) -> u64 {
        HEAP.current_usage() as u64
    }

    fn progress(&mut self, now: Instant, end: Instant) {
        if let Some(bar) = &self.bar {
            bar.set_length(end.as_micros() / 1_000_000);
            bar.set_position(now.as_micros() / 1_000_000);
        }
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
        "copies_per_delivery": report.copies_per_delivery,
        "hops_max": report.hops_max,
        "delay_ms": { "p50": report.delay_ms.p50, "p99": report.delay_ms.p99, "max": report.delay_ms.max },
        "control_bytes_per_payload_byte": report.control_bytes_per_payload_byte,
        "bytes_per_delivery": report.bytes_per_delivery,
        "recovery_s": report.recovery_s,
        "merge_s": report.merge_s,
        "equal_state_s": report.equal_state_s,
        "idle_bytes_per_s": report.idle_bytes_per_s,
        "degree_mean": report.degree_mean,
        "heap_bytes_per_node": report.heap_bytes_per_node,
        "cpu_ns_per_delivery": report.cpu_ns_per_delivery,
        "virtual_s": report.virtual_s,
        "wall_s": wall.as_secs_f64(),
        "trace_hash": format!("{:016x}", report.trace_hash),
    });
    println!("{line}");
}

fn print_table(topic: &Topic, report: &TopicReport, wall: Duration) {
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"));
    println!(
        "{} nodes, {} messages of {} bytes, seed {}",
        topic.nodes, topic.messages, topic.payload, topic.seed
    );
    let rows = [
        ("reliability", format!("{:.6}", report.reliability)),
        ("copies per delivery", format!("{:.4}", report.copies_per_delivery)),
        ("hops, at most", report.hops_max.to_string()),
        ("delay p50", format!("{:.1} ms", report.delay_ms.p50)),
        ("delay p99", format!("{:.1} ms", report.delay_ms.p99)),
        ("delay, at most", format!("{:.1} ms", report.delay_ms.max)),
        ("control bytes per payload byte", format!("{:.4}", report.control_bytes_per_payload_byte)),
        ("bytes per delivery", format!("{:.0}", report.bytes_per_delivery)),
        ("recovery after the crash", seconds(report.recovery_s)),
        ("one component after the partition", seconds(report.merge_s)),
        ("equal state after the partition", seconds(report.equal_state_s)),
        ("idle traffic of a node", format!("{:.0} bytes/s", report.idle_bytes_per_s)),
        ("neighbours, mean", format!("{:.2}", report.degree_mean)),
        ("heap of a node", format!("{:.1} KiB", report.heap_bytes_per_node as f64 / 1_024.0)),
        ("processor time per delivery", format!("{} ns", report.cpu_ns_per_delivery)),
        ("virtual time", format!("{:.1} s", report.virtual_s)),
        ("wall time", format!("{:.2} s", wall.as_secs_f64())),
        ("trace hash", format!("{:016x}", report.trace_hash)),
    ];
    for (name, value) in rows {
        println!("  {name:34} {value}");
    }
}

/// What a stop of the tour promises.
struct Promise {
    name: &'static str,
    scene: Topic,
    p99_ms: f64,
    copies: f64,
    control: f64,
    recovery_s: f64,
    equal_state_s: f64,
}

fn tour() -> ExitCode {
    let scene = Topic {
        nodes: 100,
        messages: 100,
        rate: 10.0,
        payload: 1_024,
        sources: SourcesArg::One,
        link: LinkModel::default(),
        loss: 0.0,
        upload_mbps: 20.0,
        crash: 0.0,
        partition: 0.0,
        churn: 0.0,
        redundancy: 1.0,
        mode: ModeArg::Hybrid,
        reliable: false,
        seed: 1,
        json: false,
    };
    let any = f64::INFINITY;
    let promise = |name, scene, p99_ms| Promise {
        name,
        scene,
        p99_ms,
        copies: any,
        control: any,
        recovery_s: any,
        equal_state_s: any,
    };
    let stops = [
        Promise { copies: 1.10, control: 0.20, ..promise("100 nodes, one source", scene.clone(), 300.0) },
        Promise {
            copies: 1.10,
            control: 0.20,
            ..promise("1,000 nodes, one source", Topic { nodes: 1_000, ..scene.clone() }, 300.0)
        },
        promise("1,000 nodes, 1 % loss", Topic { nodes: 1_000, loss: 0.01, ..scene.clone() }, 600.0),
        Promise {
            recovery_s: 5.0,
            ..promise("1,000 nodes, 30 % crash", Topic { nodes: 1_000, crash: 0.3, ..scene.clone() }, any)
        },
        Promise {
            equal_state_s: 20.0,
            ..promise("200 nodes, split for 20 s", Topic { nodes: 200, partition: 20.0, ..scene }, any)
        },
    ];
    println!(
        "One update of 1 KiB every 100 ms, 100 of them; links of 10 to 50 ms, 20 Mbit/s up; all join through one node."
    );
    println!("A figure in brackets is what is promised.\n");
    println!(
        "{:26} {:>11} {:>14} {:>17} {:>14} {:>13} {:>14}  ok",
        "scene", "reliability", "copies", "p99 delay ms", "control", "recovery s", "merge s"
    );
    let mut kept = true;
    for stop in stops {
        let (report, _) = run(&stop.scene);
        let (recovery, equal) = (report.recovery_s.unwrap_or(0.0), report.equal_state_s);
        let merged = stop.scene.partition == 0.0 || equal.is_some_and(|equal| equal <= stop.equal_state_s);
        let ok = report.reliability == 1.0
            && report.repeated == 0
            && report.copies_per_delivery <= stop.copies
            && report.delay_ms.p99 <= stop.p99_ms
            && report.control_bytes_per_payload_byte <= stop.control
            && recovery <= stop.recovery_s
            && merged;
        let cell = |value: f64, bound: f64, digits: usize| {
            if bound.is_finite() {
                format!("{value:.digits$} [{bound}]")
            } else {
                format!("{value:.digits$}")
            }
        };
        println!(
            "{:26} {:>11} {:>14} {:>17} {:>14} {:>13} {:>14}  {}",
            stop.name,
            format!("{:.4} [1]", report.reliability),
            cell(report.copies_per_delivery, stop.copies, 3),
            cell(report.delay_ms.p99, stop.p99_ms, 0),
            cell(report.control_bytes_per_payload_byte, stop.control, 3),
            report.recovery_s.map_or("-".into(), |value| cell(value, stop.recovery_s, 1)),
            equal.filter(|_| stop.scene.partition > 0.0).map_or("-".into(), |value| cell(
                value,
                stop.equal_state_s,
                1
            )),
            if ok { "yes" } else { "NO" },
        );
        kept &= ok;
    }
    if kept {
        ExitCode::SUCCESS
    } else {
        println!("\na promise was not kept");
        ExitCode::FAILURE
    }
}

fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("must be a number from {low} to {high}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, 0.001, 1e6)
}

fn non_negative(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1e6)
}

fn budget(text: &str) -> Result<StateBudget, String> {
    match text.parse() {
        Ok(bytes) if (1..=1_000_000_000).contains(&bytes) => Ok(StateBudget::BytesPerS(bytes)),
        _ if text == "half" => Ok(StateBudget::Half),
        _ => Err("must be a number from 1 to 1,000,000,000, or `half`".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 0.9)
}

fn redundancy(text: &str) -> Result<f64, String> {
    number(text, 1.0, 3.0)
}
