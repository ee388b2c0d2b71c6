//! The loop around one engine and one socket, as in `udp_node.rs`, with the media left to the caller.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::hash::BuildHasher;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use suffuse::{Clock, Config, Engine, Event, Input, Instant, Output, Seed, SwarmId};

use crate::inbox::{Happening, Line, Loss, address, name, now_in_seconds, open_inbox};

pub(crate) const STREAM: SwarmId = SwarmId::from_name("livestream_udp");
/// Happenings that the engine takes before it may send.
const BATCH_LEN: usize = 64;
/// The shortest sleep: what is due within it goes out together.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// Bytes a second that who feeds nobody may send, to ask for what it misses.
const UPLOAD_MIN: u64 = 16_000;
/// The last words take no longer.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(crate) struct NodeOptions {
    /// The address that others reach this one at; with port 0 the system chooses, and `listening` says what
    #[arg(long, value_name = "ADDRESS")]
    bind: SocketAddrV4,
    /// Drops this share of the arriving datagrams, 0.02 is one in fifty
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    loss: f64,
    /// Kilobits a second that may be sent; a viewer with 0 feeds nobody
    #[arg(long, value_name = "KBPS", default_value_t = 2_000)]
    upload_kbps: u64,
    /// Makes choices and losses repeatable
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl NodeOptions {
    pub(crate) fn upload_bytes_per_s(&self) -> u64 {
        self.upload_kbps * 125
    }
}

pub(crate) struct Node {
    pub(crate) engine: Engine<u64>,
    pub(crate) clock: Clock,
    socket: UdpSocket,
    inbox: Receiver<Happening>,
    loss: Loss,
}

impl Node {
    pub(crate) fn open(options: &NodeOptions) -> Result<Self, Box<dyn Error>> {
        if options.bind.ip().is_unspecified() {
            return Err(format!("{} is no address that others can send to", options.bind).into());
        }
        if !(0.0..=1.0).contains(&options.loss) {
            return Err(format!("--loss is a share from 0 to 1, not {}", options.loss).into());
        }
        let socket = UdpSocket::bind(options.bind).map_err(|error| format!("{}: {error}", options.bind))?;
        let SocketAddr::V4(address) = socket.local_addr()? else { return Err("not bound to IPv4".into()) };
        println!("listening {address}");
        let inbox = open_inbox(socket.try_clone()?);
        let clock = Clock::new();
        let mut config = Config::small();
        config.epoch = now_in_seconds();
        config.egress.upload_bytes_per_s = Some(options.upload_bytes_per_s().max(UPLOAD_MIN));
        // A host that has secrets to keep gives the engine 32 bytes from the system instead.
        let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        let engine = Engine::new(name(address), config, Seed::from_u64(seed), clock.now())?;
        let loss = Loss::new(seed, options.loss);
        Ok(Self { engine, clock, socket, inbox, loss })
    }

    /// Sends what is to be sent, and gives what is new.
    pub(crate) fn drain(&mut self) -> Vec<Event<u64>> {
        let mut events = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            match output {
                // What the system refuses is a lost datagram, and the engine copes with those.
                Output::Send { to, frame, .. } => drop(self.socket.send_to(&frame, address(to))),
                Output::Connect { peer } => {
                    self.engine.handle_input(Input::PeerConnected { peer }, self.clock.now());
                }
                Output::Event(event) => events.push(event),
                Output::Disconnect { .. } => {}
            }
        }
        events
    }

    /// Sleeps until something arrives or is due, and gives it to the engine; the lines are the caller's.
    pub(crate) fn wait(&mut self, due: Option<Instant>) -> Result<Vec<Line>, Box<dyn Error>> {
        let due = self.engine.poll_timeout().into_iter().chain(due).min();
        let sleep = due.map_or(Duration::MAX, |due| self.clock.until(due));
        let first = match self.inbox.recv_timeout(sleep.max(SLEEP_MIN)) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err("nobody reads the socket any more".into()),
        };
        let mut lines = Vec::new();
        for happening in first.into_iter().chain(self.inbox.try_iter().take(BATCH_LEN - 1)) {
            match happening {
                Happening::Datagram(..) if self.loss.strikes() => {}
                Happening::Datagram(from, frame) => {
                    self.engine.handle_input(Input::Received { from: name(from), frame }, self.clock.now());
                }
                Happening::Line(line) => lines.push(line),
                Happening::Failed(error) => return Err(error.into()),
            }
        }
        self.engine.handle_timeout(self.clock.now());
        Ok(lines)
    }

    /// Says farewell, and how it was.
    pub(crate) fn end(&mut self, frames: u64, latency_ms: u64) -> Result<(), Box<dyn Error>> {
        if let Some(stats) = self.engine.livestream_stats(STREAM) {
            let stats = [
                ("latency_ms_p95", latency_ms),
                ("viewers", stats.viewers_peak),
                ("depth", stats.depth_max),
                ("lagged", stats.frames_lagged),
                ("forwarded", stats.chunks_forwarded),
                ("served", stats.chunks_served),
                ("repaired", stats.chunks_repaired),
                ("rebuilt", stats.chunks_rebuilt),
                ("duplicate", stats.chunks_duplicate),
                ("failovers", stats.failovers),
                ("sent", self.engine.stats().bytes_sent),
            ];
            let stats: Vec<_> = stats.iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("stats {}", stats.join(" "));
        }
        self.engine.leave(STREAM, self.clock.now())?;
        let latest = self.clock.now() + FAREWELL_MAX;
        self.drain();
        while self.engine.queued_bytes() > 0 && self.clock.now() < latest {
            self.wait(Some(latest))?;
            self.drain();
        }
        println!("ended frames={frames}");
        Ok(())
    }
}
