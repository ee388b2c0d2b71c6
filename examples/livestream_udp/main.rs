//! A livestream over UDP: a video file is streamed as if a camera made it, viewers feed each other, and each writes what
//! it got into a file that plays.
//!
//! ```text
//! cargo run --example livestream_udp
//! ```
//!
//! runs a source and twelve viewers on loopback, whose upload is far too small to feed them all, loses 2 % of the
//! datagrams, and says what arrived. The parts of it, by hand:
//!
//! ```text
//! cargo run --example livestream_udp -- source --bind 127.0.0.1:7001 --loop 10
//! cargo run --example livestream_udp -- viewer --bind 127.0.0.1:7002 --source 127.0.0.1:7001 --out seen.ivf
//! ffplay seen.ivf
//! ```
//!
//! `--clip FILE` streams any IVF file with VP8; how the one that comes along was made:
//!
//! ```text
//! ffmpeg -f lavfi -i testsrc2=size=320x180:rate=15:duration=6 -c:v libvpx -g 15 -b:v 250k \
//!     -fflags +bitexact -flags:v +bitexact examples/assets/clip.ivf
//! ```
//!
//! A peer's name is its address (IPv4 and port in a `u64`), so whoever is heard of can be reached. `node.rs` is the
//! loop around engine and socket, `ivf.rs` the file format, `demo.rs` starts processes.
//!
//! | line on standard input | what it does |
//! |---|---|
//! | `start` | the source begins, if it was started with `--hold` |
//! | `quit` | ends the stream, or leaves it |
//!
//! | line on standard output | when |
//! |---|---|
//! | `listening ADDRESS` | first of all |
//! | `joined` | a viewer is fed with the whole stream |
//! | `refused needed_bytes_per_s=N` | there is no place for a viewer, for want of upload among all; the engine keeps asking |
//! | `isolated` | nobody feeds a viewer any more; the engine looks for others |
//! | `keyframe_wanted` | somebody asks the source for a keyframe; a file has them where it has them |
//! | `first_frame seq=N keyframe=BOOL` | a viewer got its first frame |
//! | `lagged A..B` | frames were given up |
//! | `children N` | so many streams to others leave this one now: a child counts once for each stripe it gets |
//! | `stats NAME=N ..` | right before the end |
//! | `ended frames=N` | the stream is over: so many frames were streamed, or written |

mod demo;
mod inbox;
mod ivf;
mod node;
mod process;
mod source;
mod viewer;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A video file as a livestream over UDP.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    job: Option<Job>,
}

#[derive(Subcommand)]
enum Job {
    /// A source and twelve viewers on loopback; what is done if nothing is said.
    Demo,
    /// Streams a file in real time.
    Source(source::SourceOptions),
    /// Watches a stream, writes it into a file, and passes it on.
    Viewer(viewer::ViewerOptions),
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("livestream_udp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    match options.job.unwrap_or(Job::Demo) {
        Job::Demo => demo::run(),
        Job::Source(options) => source::run(&options),
        Job::Viewer(options) => viewer::run(&options),
    }
}
