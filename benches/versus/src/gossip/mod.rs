//! Gossip: suffuse, iroh-gossip, plumtree over hyparview, push-pull gossip and flooding on the same simulated links.

mod flood;
mod iroh;
mod machine;
mod ours;
mod overlay;
mod plum;
mod push_pull;
mod scene;
mod seat;
mod table;
mod tally;

use std::time::Duration;

use clap::{Args, ValueEnum};

use machine::Machine;
use scene::{Scene, Stopped};
use table::{Cell, Contestant};

#[derive(Args)]
pub struct Gossip {
    /// Nodes; several sizes make several tables.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000",
        value_parser = clap::value_parser!(u32).range(10..=100_000))]
    nodes: Vec<u32>,
    /// Who publishes: node 0, or another node each time. Both unless given.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "one,random")]
    sources: Vec<Sources>,
    /// Messages published, 10 each second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    messages: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(8..=1_100))]
    payload: u32,
    /// The share of frames that is lost, from 0 to 0.5. Over connections a loss costs the time of a retransmission.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// Everything random comes from here; but iroh-gossip and plumtree iterate over maps of random order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of processor time after which one run of one contestant is stopped.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    cap: u64,
    /// Milliseconds after which a connection reports a dead or unreachable peer to who sends to it.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    reset: u64,
    /// Only these contestants, by a part of their names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only the messages: no crash, no partition, no waiting for heap to be given back.
    #[arg(long)]
    steady: bool,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sources {
    One,
    Random,
}

pub fn run(gossip: &Gossip) {
    let mut tables = Vec::new();
    for &nodes in &gossip.nodes {
        for &sources in &gossip.sources {
            let scene = Scene {
                nodes,
                messages: gossip.messages,
                payload_bytes: gossip.payload as usize,
                random_sources: sources == Sources::Random,
                loss_ppm: (gossip.loss * 1e6).round() as u32,
                seed: gossip.seed,
                later: !gossip.steady,
                cap: Duration::from_secs(gossip.cap),
                reset_after: Duration::from_millis(gossip.reset),
            };
            let contestants = play_all(gossip, &scene);
            if gossip.json {
                tables.push(table::json(&scene, &contestants));
            } else {
                table::print(&scene, &contestants);
            }
        }
    }
    if gossip.json {
        println!("{}", serde_json::json!({ "versions": table::versions(), "tables": tables }));
    } else {
        table::print_notes(gossip.cap, gossip.reset);
    }
}

fn play_all(gossip: &Gossip, scene: &Scene) -> Vec<Contestant> {
    let mut contestants = Vec::new();
    let mut play = |name: &'static str, play: fn(&Gossip, &Scene, &'static str) -> Contestant| {
        if gossip.only.is_empty() || gossip.only.iter().any(|part| name.contains(part)) {
            contestants.push(play(gossip, scene, name));
        }
    };
    play("suffuse", play_one::<ours::Suffuse<false>>);
    play("suffuse, conn.", play_one::<ours::Suffuse<true>>);
    play("iroh-gossip", play_one::<iroh::Iroh>);
    play("plumtree", play_one::<plum::Plumtree>);
    play("push-pull", play_one::<push_pull::PushPull>);
    play("flooding", play_one::<flood::Flooding>);
    contestants
}

fn play_one<M: Machine>(gossip: &Gossip, scene: &Scene, name: &'static str) -> Contestant {
    eprintln!("{} nodes, {name}", scene.nodes);
    let accidents = !gossip.steady;
    Contestant {
        name,
        transport: if M::CONNECTIONS { "connections" } else { "datagrams" },
        steady: cell(true, || scene::steady::<M>(scene)),
        crash: cell(accidents, || scene::crash::<M>(scene)),
        partition: cell(accidents, || scene::partition::<M>(scene)),
    }
}

fn cell<T>(asked: bool, play: impl FnOnce() -> Result<T, Stopped>) -> Cell<T> {
    match asked.then(play) {
        Some(Ok(value)) => Cell::Is(value),
        Some(Err(Stopped(at))) => Cell::Stopped(at),
        None => Cell::Absent,
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=0.5).contains(&value) => Ok(value),
        _ => Err("must be a number from 0 to 0.5".to_owned()),
    }
}
