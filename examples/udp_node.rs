//! A node over UDP: the reference host loop, one thread around one engine and one socket.
//!
//! A peer's name is its address (IPv4 and port in a `u64`), so whoever is heard of can be reached.
//!
//! ```text
//! cargo run --example udp_node -- 127.0.0.1:7001
//! cargo run --example udp_node -- 127.0.0.1:7002 127.0.0.1:7001
//! ```
//!
//! Lines on standard input are commands: `say TEXT` publishes a message, `file PATH` a file, `leave` leaves the topic,
//! `quit` ends the process. What arrives is printed; files land in the directory of `--out`. `--loss 0.05` drops one
//! outgoing datagram in twenty, `--seed N` makes it repeatable.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io::{BufRead, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use suffuse::{
    Clock, CommandError, Config, Engine, Epoch, Event, Input, Output, PublishOptions, Seed, StateId, SwarmId,
    TopicOptions, Update,
};

const TOPIC: SwarmId = SwarmId::from_name("udp_node");
const MESSAGES: StateId = StateId(0);
const FILES: StateId = StateId(1);
/// Where a part of a file belongs, and how long the file is.
const PART_HEADER_BYTES: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    let socket = UdpSocket::bind(options.listen)?;
    let clock = Clock::new();
    let mut config = Config::small();
    config.epoch = now_in_seconds();
    config.egress.upload_bytes_per_s = Some(8_000_000);
    // Little waits here, so that a publisher of a large file feels it and waits instead.
    config.egress.queue_bytes_max = 200_000;
    let mut engine = Engine::new(name(options.listen), config, Seed::from_u64(options.seed), clock.now())?;
    let contacts = options.contacts.iter().copied().map(name);
    engine.join_topic(TOPIC, TopicOptions::through(contacts), clock.now())?;

    let lines = read_lines();
    let mut backlog: VecDeque<(StateId, Bytes)> = VecDeque::new();
    let mut files = Files::new(options.out);
    let mut loss = Loss::new(options.seed, options.loss);
    let mut datagram = vec![0; 65_536];
    loop {
        while let Ok(line) = lines.try_recv() {
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("say", text) => backlog.push_back((MESSAGES, Bytes::copy_from_slice(text.as_bytes()))),
                ("file", path) => backlog.extend(parts(std::fs::read(path)?, engine.payload_bytes_max())),
                ("leave", _) => engine.leave(TOPIC, clock.now())?,
                ("quit", _) => return Ok(()),
                (other, _) => eprintln!("unknown command: {other}"),
            }
        }
        while let Some((state, payload)) = backlog.front().cloned() {
            match engine.publish(TOPIC, state, payload, PublishOptions::default(), clock.now()) {
                Ok(_) => drop(backlog.pop_front()),
                Err(CommandError::QueueFull { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Send { to, frame, .. } if !loss.strikes() => {
                    // A datagram that the system refuses is a lost datagram; the engine copes with those.
                    let _ = socket.send_to(&frame, address(to));
                }
                Output::Connect { peer } => {
                    engine.handle_input(Input::PeerConnected { peer }, clock.now());
                }
                Output::Event(Event::Delivered(update)) => files.take(update)?,
                Output::Event(Event::Joined { .. }) => println!("joined"),
                Output::Event(event @ (Event::Lagged { .. } | Event::Misbehaved { .. })) => {
                    println!("{event:?}")
                }
                Output::Send { .. } | Output::Disconnect { .. } | Output::Event(_) => {}
            }
        }
        // Sleep until something arrives or is due, but look at standard input now and then.
        let due = engine.poll_timeout().map_or(Duration::MAX, |deadline| clock.until(deadline));
        socket.set_read_timeout(Some(due.clamp(Duration::from_micros(100), Duration::from_millis(20))))?;
        match socket.recv_from(&mut datagram) {
            Ok((len, SocketAddr::V4(from))) => {
                let frame = Bytes::copy_from_slice(&datagram[..len]);
                engine.handle_input(Input::Received { from: name(from), frame }, clock.now());
            }
            Ok((_, SocketAddr::V6(_))) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // Loopback reports a peer's closed port here; liveness will find out.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {}
            Err(error) => return Err(error.into()),
        }
        engine.handle_timeout(clock.now());
    }
}

fn name(address: SocketAddrV4) -> u64 {
    u64::from(u32::from(*address.ip())) << 16 | u64::from(address.port())
}

fn address(name: u64) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from((name >> 16) as u32), name as u16)
}

/// The wall clock in seconds: a later start gives a greater epoch.
#[allow(clippy::disallowed_types, reason = "a host may read clocks")]
fn now_in_seconds() -> Epoch {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Epoch(since.as_secs() as u32)
}

fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn parts(file: Vec<u8>, payload_bytes_max: usize) -> Vec<(StateId, Bytes)> {
    let total = file.len() as u64;
    let chunks = file.chunks(payload_bytes_max - PART_HEADER_BYTES).scan(0u64, |offset, chunk| {
        let mut part = BytesMut::with_capacity(PART_HEADER_BYTES + chunk.len());
        part.put_u64_le(*offset);
        part.put_u64_le(total);
        part.put_slice(chunk);
        *offset += chunk.len() as u64;
        Some((FILES, part.freeze()))
    });
    chunks.collect()
}

/// Puts files together and prints messages. Parts arrive in any order, each once.
struct Files {
    out: Option<PathBuf>,
    open: BTreeMap<u64, (Vec<u8>, u64)>,
}

impl Files {
    fn new(out: Option<PathBuf>) -> Self {
        Self { out, open: BTreeMap::new() }
    }

    fn take(&mut self, update: Update<u64>) -> std::io::Result<()> {
        let from = address(update.id.origin);
        if update.state != FILES || update.payload.len() < PART_HEADER_BYTES {
            println!("{from} says {}", String::from_utf8_lossy(&update.payload));
            return Ok(());
        }
        let (header, bytes) = update.payload.split_at(PART_HEADER_BYTES);
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (offset, total) = (number(0) as usize, number(8) as usize);
        if total > 1 << 30 || offset + bytes.len() > total {
            return Ok(());
        }
        let (file, have) = self.open.entry(update.id.origin).or_insert_with(|| (vec![0; total], 0));
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        *have += bytes.len() as u64;
        if *have == total as u64 {
            if let Some(out) = &self.out {
                std::fs::write(out.join(from.port().to_string()), file)?;
            }
            println!("{from} sent a file of {total} bytes");
        }
        Ok(())
    }
}

/// Injected loss: a small generator is enough.
struct Loss {
    state: u64,
    threshold: u64,
}

impl Loss {
    fn new(seed: u64, share: f64) -> Self {
        Self { state: seed | 1, threshold: (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u64 }
    }

    fn strikes(&mut self) -> bool {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 32 < self.threshold
    }
}

struct Options {
    listen: SocketAddrV4,
    contacts: Vec<SocketAddrV4>,
    out: Option<PathBuf>,
    loss: f64,
    seed: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut addresses, mut out, mut loss, mut seed) =
            (Vec::new(), None, 0.0, u64::from(std::process::id()));
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--out" => out = Some(PathBuf::from(value()?)),
                "--loss" => loss = value()?.parse()?,
                "--seed" => seed = value()?.parse()?,
                address => addresses
                    .push(address.parse::<SocketAddrV4>().map_err(|_| format!("no address: {address}"))?),
            }
        }
        if addresses.is_empty() {
            return Err("usage: udp_node LISTEN [CONTACT ...] [--out DIR] [--loss SHARE] [--seed N]".into());
        }
        Ok(Self { listen: addresses.remove(0), contacts: addresses, out, loss, seed })
    }
}
