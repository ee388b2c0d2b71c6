//! Suffuse beside elara-diffusion: the same work, in one process and one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/versus/Cargo.toml
//! ```
//!
//! Both sides take turns, the figures are medians, time is that of a processor, and the heap is counted by the
//! allocator. Progress goes to the standard error, the table to the standard output.

mod decide;
mod interest;
mod measure;
mod report;
mod tree;

use clap::Parser;

/// Measures suffuse and elara-diffusion on the same work and prints one table.
#[derive(Parser)]
struct Options {
    /// Smaller sizes and fewer repetitions; bars that need the large ones are not judged.
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() {
    let options = Options::parse();
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
