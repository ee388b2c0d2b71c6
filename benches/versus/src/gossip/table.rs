//! The contestants side by side, as text or as JSON.

use serde::Serialize;
use serde_json::{Value, json};

use super::scene::{Crash, PATIENCE, Partition, Scene, Steady};

/// What a run showed.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell<T> {
    Is(T),
    /// Its time was over, at this virtual second.
    Stopped(f64),
    /// It was not asked for.
    Absent,
}

#[derive(Serialize)]
pub struct Contestant {
    pub name: &'static str,
    pub transport: &'static str,
    pub steady: Cell<Steady>,
    pub crash: Cell<Crash>,
    pub partition: Cell<Partition>,
}

/// The crates that take part and their versions, from the lock file.
pub fn versions() -> Vec<(&'static str, &'static str)> {
    let lock = include_str!("../../Cargo.lock");
    let mut found = Vec::new();
    for block in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_matches(['"', ' ', '=']))
        };
        if let (Some(name), Some(version)) = (field("name"), field("version"))
            && ["suffuse", "iroh-gossip", "plumtree", "hyparview"].contains(&name)
        {
            found.push((name, version));
        }
    }
    found
}

pub fn json(scene: &Scene, contestants: &[Contestant]) -> Value {
    json!({
        "nodes": scene.nodes,
        "messages": scene.messages,
        "payload_bytes": scene.payload_bytes,
        "sources": if scene.random_sources { "random" } else { "one" },
        "loss_ppm": scene.loss_ppm,
        "seed": scene.seed,
        "contestants": contestants,
    })
}

pub fn print(scene: &Scene, contestants: &[Contestant]) {
    println!(
        "\n{} nodes, {} messages of {} bytes at 10 a second, {}, loss {} %, links 10 to 50 ms one way, seed {}",
        scene.nodes,
        scene.messages,
        scene.payload_bytes,
        if scene.random_sources { "a random source each" } else { "one source" },
        f64::from(scene.loss_ppm) / 1e4,
        scene.seed,
    );
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(contestants.iter().map(|contestant| contestant.name.to_owned()));
    let mut row = |name: &str, show: &dyn Fn(&Contestant) -> String| {
        let mut line = vec![name.to_owned()];
        line.extend(contestants.iter().map(show));
        lines.push(line);
    };
    row("transport", &|contestant| contestant.transport.to_owned());
    let steady = |show: &'static dyn Fn(&Steady) -> String| {
        move |contestant: &Contestant| show_cell(&contestant.steady, show)
    };
    row("delivered", &steady(&|steady| percent(steady.reliability)));
    row("copies per delivery", &steady(&|steady| format!("{:.3}", steady.copies)));
    row("delay p50, ms", &steady(&|steady| format!("{:.0}", steady.p50_ms)));
    row("delay p99, ms", &steady(&|steady| format!("{:.0}", steady.p99_ms)));
    row("delay of the last, ms", &steady(&|steady| format!("{:.0}", steady.last_ms)));
    row("hops, at most", &steady(&|steady| steady.hops.to_string()));
    row("bytes per delivery", &steady(&|steady| format!("{:.0}", steady.bytes_per_delivery)));
    row("idle bytes/s of a node", &steady(&|steady| format!("{:.0}", steady.idle_bytes_per_s)));
    row("CPU per delivery, µs", &steady(&|steady| format!("{:.2}", steady.cpu_ns_per_delivery / 1e3)));
    row("idle CPU of a node, µs/s", &steady(&|steady| format!("{:.0}", steady.idle_cpu_ns_per_s / 1e3)));
    row("heap of a node, KiB", &steady(&|steady| kib(steady.heap_bytes_per_node)));
    row(
        "the same 150 s later, KiB",
        &steady(&|steady| steady.heap_bytes_per_node_later.map_or_else(|| "-".to_owned(), kib)),
    );
    row("delivered twice", &steady(&|steady| steady.repeated.to_string()));
    row("30 % crash: recovery, s", &|contestant| {
        show_cell(&contestant.crash, &|crash| seconds(crash.recovery_s, "never in 20"))
    });
    row("30 % crash: delivered since", &|contestant| {
        show_cell(&contestant.crash, &|crash| percent(crash.reliability))
    });
    row("30 % crash: delay since, ms", &|contestant| {
        show_cell(&contestant.crash, &|crash| format!("{:.0}", crash.last_ms))
    });
    let never = format!("never in {}", PATIENCE.as_secs());
    row("partition: merge, s", &|contestant| {
        show_cell(&contestant.partition, &|partition| seconds(partition.merge_s, &never))
    });
    row("partition: equal state, s", &|contestant| {
        show_cell(&contestant.partition, &|partition| seconds(partition.equal_s, &never))
    });
    row("partition: made good", &|contestant| {
        show_cell(&contestant.partition, &|partition| percent(partition.recovered))
    });

    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..=contestants.len()).map(width).collect();
    for line in &lines {
        print!("  {:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            print!("  {cell:>width$}");
        }
        println!();
    }
}

pub fn print_notes(cap_s: u64, reset_ms: u64) {
    let versions: Vec<_> = versions().iter().map(|(name, version)| format!("{name} {version}")).collect();
    println!(
        "
Versions: {}. All run on one virtual network with the same latencies; 20 Mbit/s of upload each.
Everybody joins through node 0 in 5 s; after 30 s of calm the messages begin, and all of them count.
Connections lose nothing and keep order; a loss costs the time of a retransmission; who sends to a dead or cut off
peer is told after {reset_ms} ms. On datagrams nobody is told anything.
suffuse: its preset for the size. iroh-gossip: its defaults; what it disconnects is reported back to it as
disconnected, and a node without neighbours joins again after 1 s. plumtree over hyparview: their defaults, views filled
each second, kept equal and shuffled every 10 s, messages forgotten after 30 s, the same help to join again.
push-pull: 4 peers a round of 1 s, of 10 meetings 7 push and 3 pull, each update pushed in one round; everybody knows
everybody from the beginning. flooding: over hyparview with 8 neighbours.
Bytes are frames and 28 bytes each for the layers below: suffuse's own frames; for iroh-gossip the postcard form of its
messages without the headers of its streams; for the others a compact form without the sender.
CPU is processor time inside the machines, decoding and encoding included, the simulator excluded. Heap is what the
machines hold, bodies included; nodes share no memory. Recovery: until the first message from which on all
reach every survivor in time (1 s, or twice the longest delay before the crash). Merge: until a message published after a
partition of 60 s has reached everybody; equal state: until everybody has everything from before its end; made good: of what
the partition had kept from nodes. A run is stopped after {cap_s} s of processor time: \"stopped at\" its virtual second.",
        versions.join(", ")
    );
}

fn show_cell<T>(cell: &Cell<T>, show: &dyn Fn(&T) -> String) -> String {
    match cell {
        Cell::Is(value) => show(value),
        Cell::Stopped(at) => format!("stopped at {at:.0} s"),
        Cell::Absent => "-".to_owned(),
    }
}

fn seconds(value: Option<f64>, never: &str) -> String {
    value.map_or_else(|| never.to_owned(), |value| format!("{value:.1}"))
}

fn percent(share: f64) -> String {
    if share >= 1.0 { "100 %".to_owned() } else { format!("{:.3} %", share * 100.0) }
}

fn kib(bytes: f64) -> String {
    format!("{:.1}", bytes / 1_024.0)
}
