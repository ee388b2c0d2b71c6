//! Simulates swarms in virtual time and prints what they did.
//!
//! Without arguments: a short tour with promised bounds; it fails if one is missed.
//!
//! ```text
//! cargo run --release --example simulate
//! cargo run --release --example simulate -- topic --nodes 1000 --loss 0.01
//! cargo run --release --example simulate -- state --budget half
//! cargo run --release --example simulate -- livestream --viewers 1000 --crash 0.3
//! cargo run --release --example simulate -- group --participants 16 --messages 500 --partition 20
//! cargo run --release --example simulate -- detect --nodes 200 --loss 0.05
//! cargo run --release --example simulate -- chaos --runs 400
//! ```

mod arguments;
mod chaos;
mod detect;
mod group;
mod livestream;
mod meter;
mod state;
mod topic;
mod tour;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use peak_alloc::PeakAlloc;

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
    Topic(topic::Topic),
    /// One authority, many moving entities, observers with moving areas of interest and a byte budget each.
    State(state::State),
    /// One source and viewers with unequal uploads, who may come, go and crash while every chunk is timed.
    Livestream(livestream::Livestream),
    /// One room: everybody joins it, they talk and claim the screen, and in the middle something may go wrong.
    Group(group::Group),
    /// Nodes crash: how soon their neighbours notice, and how often the living are suspected.
    Detect(detect::Detect),
    /// Random topics under random faults, then calm, in which everybody must agree; seed by seed.
    Chaos(chaos::Chaos),
}

fn main() -> ExitCode {
    match Cli::parse().scenario {
        Some(Scenario::Topic(topic)) => topic::play(&topic),
        Some(Scenario::Detect(detect)) => detect::play(&detect),
        Some(Scenario::State(state)) => state::play(&state),
        Some(Scenario::Group(group)) => return group::play(&group),
        Some(Scenario::Livestream(livestream)) => return livestream::play(&livestream),
        Some(Scenario::Chaos(chaos)) => return chaos::play(&chaos),
        None => return tour::play(),
    }
    ExitCode::SUCCESS
}
