//! A group chat over UDP: one room, everybody hears everybody, and nobody is in the middle.
//!
//! ```text
//! cargo run --release --example chat_udp -- --name ann
//! cargo run --release --example chat_udp -- --name bob --join ADDRESS
//! ```
//!
//! The first opens a room and prints its address; the second, in another terminal, comes in through it. The room goes on
//! without whoever opened it: anybody who is in lets others in. Then `--join` names that participant and `--founder` the
//! address that the room was opened at, since it names the room and whom its participants obey when they are thrown out.
//!
//! ```text
//! cargo run --release --example chat_udp -- --demo
//! ```
//!
//! lets three participants talk, as processes of this machine, and ends by itself.
//!
//! A peer's name is its address (IPv4 and port in a `u64`), so whoever is heard of can be reached; what it calls itself is
//! the metadata of its entry. Where two call themselves the same, they are `NAME@ADDRESS`. `node.rs` is the loop around engine
//! and socket, `room.rs` what is said and heard, `files.rs` cuts files up and puts them together, `demo.rs` starts processes.
//!
//! | line on standard input | what it does |
//! |---|---|
//! | `TEXT` | says it to everybody |
//! | `/roster` | asks who is in |
//! | `/msg NAME TEXT` | says it to one, through others if need be |
//! | `/share`, `/stop` | shows the screen, if nobody else does, and shows it no more |
//! | `/hand` | raises the hand, or takes it down |
//! | `/kick NAME` | throws a participant out; whoever opened the room may |
//! | `/send FILE` | sends a file of at most 16 MiB to everybody |
//! | `/quit`, or the end of standard input | leaves, once the files are sent |
//!
//! | line on standard output | when |
//! |---|---|
//! | `listening ADDRESS` | first of all |
//! | `joined` | this one is in |
//! | `refused WHY`, `removed WHY` | it was not let in, or was put out: `full`, `thrown_out` or `banned` |
//! | `entered NAME`, `left NAME WHY` | somebody came, or went: `left`, `lost`, `surplus`, `thrown_out` or `rejoined` |
//! | `roster NAME ..` | on request: everybody, this one too, in the order of joining |
//! | `said NAME TEXT` | to everybody |
//! | `private NAME TEXT` | to this one |
//! | `delivered NAME via=WAY TEXT` | what this one said to one is there: `direct`, `relayed` or `stored` |
//! | `waiting NAME TEXT`, `undelivered NAME TEXT` | it cannot be reached now, or was not in time |
//! | `screen NAME`, `screen -` | whose screen is shown, or nobody's any more |
//! | `screen_won NAME`, `screen_lost NAME` | both claimed it at once; who keeps it is the same for everybody |
//! | `hand NAME up`, `hand NAME down` | |
//! | `offered NAME bytes=N FILE` | somebody sends a file |
//! | `file NAME bytes=N PATH` | it is there, and saved |
//! | `sent bytes=N PATH` | an own file has been handed to the engine |
//! | `missed NAME count=N` | messages of a participant that nobody has any more |
//! | `error TEXT` | a command was refused, a file could not be written |
//! | `ended` | last of all |

mod demo;
mod files;
#[path = "../livestream_udp/inbox.rs"]
mod inbox;
mod node;
#[path = "../livestream_udp/process.rs"]
mod process;
mod room;

use std::error::Error;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// A group chat over UDP.
#[derive(Parser)]
struct Options {
    /// Three participants on this machine, which talk and go
    #[arg(long, exclusive = true)]
    demo: bool,
    /// What this one is called: letters, digits, `-`, `_` and `.`
    #[arg(long, required_unless_present = "demo", value_parser = room::parse_name)]
    name: Option<String>,
    /// Comes in through this participant; without it a room is opened
    #[arg(long, value_name = "ADDRESS")]
    join: Option<SocketAddrV4>,
    /// Where the room was opened, if not at the address given with `--join`
    #[arg(long, value_name = "ADDRESS", requires = "join")]
    founder: Option<SocketAddrV4>,
    /// The directory where the files of others are saved; without it they are not
    #[arg(long, value_name = "DIR")]
    downloads: Option<PathBuf>,
    #[command(flatten)]
    node: node::NodeOptions,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat_udp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    match &options.name {
        None => demo::run(),
        Some(name) => room::run(name, &options),
    }
}
