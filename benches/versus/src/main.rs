//! Suffuse beside other crates: the same work, in one process and one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/versus/Cargo.toml
//! cargo run --release --manifest-path benches/versus/Cargo.toml -- gossip --nodes 100,1000
//! ```
//!
//! Without a command: interest, decisions and trees beside elara-diffusion. Both sides take turns, and the figures are
//! medians. `gossip`: topics beside iroh-gossip, plumtree, push-pull gossip and flooding, in virtual time.
//!
//! Time is that of a processor, and the heap is counted by the allocator. Progress goes to the standard error, tables to
//! the standard output.

mod decide;
mod gossip;
mod interest;
mod measure;
mod report;
mod tree;

use clap::{Parser, Subcommand};

/// Measures suffuse and others on the same work and prints one table; without a command, beside elara-diffusion.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Smaller sizes and fewer repetitions; bars that need the large ones are not judged.
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Gossip protocols on the same simulated links.
    Gossip(gossip::Gossip),
}

fn main() {
    let options = Options::parse();
    if let Some(Command::Gossip(gossip)) = &options.command {
        return gossip::run(gossip);
    }
    let (mut report, mut bars) = Default::default();
    // Whatever visits many small pieces of the heap is faster in a fresh one; that comes first.
    interest::run(options.quick, &mut report, &mut bars);
    decide::run(options.quick, &mut report, &mut bars);
    tree::run(options.quick, &mut report, &mut bars);
    if options.json {
        report::print_json(&report, &bars);
    } else {
        report::print_table(&report, &bars);
    }
}
