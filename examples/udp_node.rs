//! A node over UDP: the reference host loop, one thread around one engine and one socket.
//!
//! ```text
//! cargo run --example udp_node -- 127.0.0.1:7001
//! cargo run --example udp_node -- 127.0.0.1:7002 127.0.0.1:7001
//! ```
//!
//! A peer's name is its address (IPv4 and port in a `u64`), so whoever is heard of can be reached. The first address is
//! this node's own, the others are members to join through.
//!
//! | option | meaning |
//! |---|---|
//! | `--out DIR` | received files are written to `DIR/ADDRESS_PORT_EPOCH_NUMBER` |
//! | `--upload BYTES` | bytes a second to all peers together; default 4,000,000 |
//! | `--loss SHARE` | drops this share of the outgoing datagrams, 0.05 is one in twenty |
//! | `--seed N` | makes the node's choices and losses repeatable |
//!
//! | line on standard input | what it does |
//! |---|---|
//! | `say TEXT` | publishes a message; it overtakes the files that wait |
//! | `file PATH` | publishes a file of at most 16 MiB |
//! | `leave` | leaves the topic once all that was published before is sent |
//! | `quit` | leaves, says farewell, and ends; the end of standard input ends nothing |
//!
//! | line on standard output | when |
//! |---|---|
//! | `joined` | the first neighbour is there |
//! | `isolated` | the last neighbour is gone |
//! | `ADDRESS says TEXT` | a message arrived |
//! | `ADDRESS sends a file of N bytes` | the first part of a file arrived |
//! | `ADDRESS sent a file of N bytes` | the last part arrived, and the file is written |
//! | `left` | the topic is left, and every farewell is sent |
//! | `Lagged ..`, `Misbehaved ..`, `EventsLost ..` | the engine's event of this name |

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::hash::BuildHasher;
use std::io::{self, BufRead, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use suffuse::{
    Clock, Config, Engine, Epoch, Event, Input, Output, PublishOptions, Retention, Seed, StateId, SwarmId,
    TopicOptions, Update,
};

const USAGE: &str =
    "usage: udp_node ADDRESS [MEMBER ...] [--out DIR] [--upload BYTES] [--loss SHARE] [--seed N]";
const TOPIC: SwarmId = SwarmId::from_name("udp_node");
const MESSAGES: StateId = StateId(0);
const FILES: StateId = StateId(1);
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files under way at once, at most: others decide how many there are.
const OPEN_FILES_MAX: usize = 64;
/// Before each part: the file's number, where the part belongs, and how long the file is.
const PART_HEADER_BYTES: usize = 24;
/// Happenings that wait for the engine, at most. The system's own buffer holds about a hundred datagrams, too few for a
/// burst from several peers while this process waits for a processor.
const INBOX_LEN: usize = 4_096;
/// Happenings that the engine takes before it may send.
const BATCH_LEN: usize = 64;
/// The shortest sleep: what is due within it goes out together.
const SLEEP_MIN: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(options.listen).map_err(|error| format!("{}: {error}", options.listen))?;
    let inbox = open_inbox(socket.try_clone()?);
    let clock = Clock::new();
    let mut config = Config::small();
    config.epoch = now_in_seconds();
    config.egress.upload_bytes_per_s = Some(options.upload);
    let mut engine = Engine::new(name(options.listen), config, Seed::from_u64(options.seed), clock.now())?;
    let topic = TopicOptions::through(options.members.iter().copied().map(name))
        .retention(Retention::Window { age: Duration::from_secs(120), bytes: 4 * FILE_BYTES_MAX as usize });
    engine.join_topic(TOPIC, topic, clock.now())?;

    // Published no faster than they leave, so that what is said meanwhile need not wait behind a whole file.
    let ahead_bytes_max = (options.upload / 50) as usize;
    let mut backlog = Backlog::default();
    let mut files = Files { out: options.out, open: BTreeMap::new() };
    let mut loss = Loss::new(options.seed, options.loss);
    let (mut stage, mut quitting) = (Stage::Member, false);
    loop {
        while engine.queued_bytes() <= ahead_bytes_max {
            let Some((state, payload)) = backlog.pop() else { break };
            let published = engine.publish(TOPIC, state, payload, PublishOptions::default(), clock.now());
            if let Err(error) = published {
                eprintln!("not published: {error}");
            }
        }
        if stage == Stage::Leaving && backlog.is_empty() {
            engine.leave(TOPIC, clock.now())?;
            stage = Stage::Farewell;
        }
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Send { to, frame, .. } => {
                    if !loss.strikes() {
                        // What the system refuses is a lost datagram, and the engine copes with those.
                        let _ = socket.send_to(&frame, address(to));
                    }
                }
                Output::Connect { peer } => engine.handle_input(Input::PeerConnected { peer }, clock.now()),
                Output::Event(event) => match event {
                    Event::Delivered(update) if update.state == FILES => files.take(&update)?,
                    Event::Delivered(update) => {
                        let text = String::from_utf8_lossy(&update.payload).replace(char::is_control, " ");
                        println!("{} says {text}", address(update.id.origin));
                    }
                    Event::Joined { .. } => println!("joined"),
                    Event::Isolated { .. } => println!("isolated"),
                    Event::Lagged { .. } | Event::Misbehaved { .. } | Event::EventsLost { .. } => {
                        println!("{event:?}");
                    }
                    _ => {}
                },
                Output::Disconnect { .. } => {}
            }
        }
        if stage == Stage::Farewell && engine.queued_bytes() == 0 {
            println!("left");
            stage = Stage::Left;
        }
        if quitting && stage == Stage::Left {
            return Ok(());
        }

        let sleep = engine.poll_timeout().map_or(Duration::MAX, |deadline| clock.until(deadline));
        let first = match inbox.recv_timeout(sleep.max(SLEEP_MIN)) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err("nobody reads the socket any more".into()),
        };
        for happening in first.into_iter().chain(inbox.try_iter().take(BATCH_LEN - 1)) {
            match happening {
                Happening::Datagram(from, frame) => {
                    engine.handle_input(Input::Received { from: name(from), frame }, clock.now());
                }
                Happening::Line(line) => match (line.split_once(' ').unwrap_or((&line, "")), stage) {
                    (("quit", _), _) => {
                        quitting = true;
                        stage = stage.max(Stage::Leaving);
                    }
                    (_, Stage::Leaving | Stage::Farewell | Stage::Left) => eprintln!("left already: {line}"),
                    (("say", text), _) => backlog.messages.push_back(Bytes::copy_from_slice(text.as_bytes())),
                    (("file", path), _) => match backlog.add_file(path, engine.payload_bytes_max()) {
                        Ok(()) => {}
                        Err(error) => eprintln!("{path}: {error}"),
                    },
                    (("leave", _), _) => stage = Stage::Leaving,
                    _ => eprintln!("unknown command: {line}"),
                },
                Happening::Failed(error) => return Err(error.into()),
            }
        }
        engine.handle_timeout(clock.now());
    }
}

/// On the way out of the topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Member,
    /// Until the backlog is empty.
    Leaving,
    /// Until the last frame is sent.
    Farewell,
    Left,
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

enum Happening {
    Datagram(SocketAddrV4, Bytes),
    Line(String),
    Failed(io::Error),
}

/// Two threads that only read, so that the engine's own can sleep until something arrives or is due, and no longer.
fn open_inbox(socket: UdpSocket) -> Receiver<Happening> {
    let (sender, inbox) = sync_channel(INBOX_LEN);
    let lines = sender.clone();
    std::thread::spawn(move || read_datagrams(&socket, &sender));
    std::thread::spawn(move || {
        let happenings = io::stdin().lock().lines().map_while(Result::ok).map(Happening::Line);
        happenings.map_while(|line| lines.send(line).ok()).for_each(drop);
    });
    inbox
}

fn read_datagrams(socket: &UdpSocket, inbox: &SyncSender<Happening>) {
    let mut datagram = vec![0; 65_536];
    loop {
        let happening = match socket.recv_from(&mut datagram) {
            Ok((len, SocketAddr::V4(from))) => {
                Happening::Datagram(from, Bytes::copy_from_slice(&datagram[..len]))
            }
            Ok((_, SocketAddr::V6(_))) => continue,
            // Some systems report here that an earlier datagram found a closed port; liveness will find out.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => Happening::Failed(error),
        };
        let failed = matches!(happening, Happening::Failed(_));
        if inbox.send(happening).is_err() || failed {
            return;
        }
    }
}

/// What is to be published: messages first.
#[derive(Default)]
struct Backlog {
    messages: VecDeque<Bytes>,
    parts: VecDeque<Bytes>,
    files: u64,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.parts.is_empty()
    }

    fn pop(&mut self) -> Option<(StateId, Bytes)> {
        let message = self.messages.pop_front().map(|message| (MESSAGES, message));
        message.or_else(|| self.parts.pop_front().map(|part| (FILES, part)))
    }

    fn add_file(&mut self, path: &str, payload_bytes_max: usize) -> Result<(), Box<dyn Error>> {
        let total = std::fs::metadata(path)?.len();
        if total > FILE_BYTES_MAX {
            return Err(format!("{total} bytes, more than {FILE_BYTES_MAX}").into());
        }
        let file = std::fs::read(path)?;
        let part_bytes = payload_bytes_max - PART_HEADER_BYTES;
        // An empty file has one part too, or nobody would hear of it.
        for offset in (0..file.len().max(1)).step_by(part_bytes) {
            let bytes = &file[offset..file.len().min(offset + part_bytes)];
            let mut part = BytesMut::with_capacity(PART_HEADER_BYTES + bytes.len());
            part.put_u64_le(self.files);
            part.put_u64_le(offset as u64);
            part.put_u64_le(file.len() as u64);
            part.put_slice(bytes);
            self.parts.push_back(part.freeze());
        }
        self.files += 1;
        Ok(())
    }
}

/// Puts files together. Parts arrive in any order, each once.
struct Files {
    out: Option<PathBuf>,
    /// By origin, its life, and the file's number: the bytes, and how many of them are missing.
    open: BTreeMap<(u64, Epoch, u64), (Vec<u8>, usize)>,
}

impl Files {
    fn take(&mut self, update: &Update<u64>) -> io::Result<()> {
        let mut part = update.payload.clone();
        if part.len() < PART_HEADER_BYTES {
            return Ok(());
        }
        let (number, offset, total) = (part.get_u64_le(), part.get_u64_le(), part.get_u64_le());
        let end = offset.checked_add(part.len() as u64);
        if total > FILE_BYTES_MAX || end.is_none_or(|end| end > total) {
            return Ok(());
        }
        let from = address(update.id.origin);
        let id = (update.id.origin, update.id.epoch, number);
        if !self.open.contains_key(&id) {
            if self.open.len() >= OPEN_FILES_MAX {
                return Ok(());
            }
            println!("{from} sends a file of {total} bytes");
        }
        let (file, missing) =
            self.open.entry(id).or_insert_with(|| (vec![0; total as usize], total as usize));
        // A later part may claim another length than the first.
        let Some(place) = file.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..part.len())) else {
            return Ok(());
        };
        place.copy_from_slice(&part);
        *missing = missing.saturating_sub(part.len());
        if *missing == 0 {
            if let Some(out) = &self.out {
                let name = format!("{}_{}_{}_{number}", from.ip(), from.port(), update.id.epoch.0);
                std::fs::write(out.join(name), file)?;
            }
            self.open.remove(&id);
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
        Self { state: seed, threshold: (share * f64::from(u32::MAX)) as u64 }
    }

    fn strikes(&mut self) -> bool {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 32 < self.threshold
    }
}

struct Options {
    listen: SocketAddrV4,
    members: Vec<SocketAddrV4>,
    out: Option<PathBuf>,
    upload: u64,
    loss: f64,
    seed: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        // A host that has secrets to keep gives the engine 32 bytes from the system instead.
        let mut seed = RandomState::new().hash_one(std::process::id());
        let (mut addresses, mut out, mut upload, mut loss) = (Vec::new(), None, 4_000_000, 0.0);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value; {USAGE}"));
            match arg.as_str() {
                "--out" => out = Some(PathBuf::from(value()?)),
                "--upload" => upload = number(&arg, &value()?)?,
                "--loss" => loss = number(&arg, &value()?)?,
                "--seed" => seed = number(&arg, &value()?)?,
                option if option.starts_with('-') => {
                    return Err(format!("no option {option}; {USAGE}").into());
                }
                address => addresses.push(reachable(address)?),
            }
        }
        if addresses.is_empty() {
            return Err(USAGE.into());
        }
        if !(0.0..=1.0).contains(&loss) {
            return Err(format!("--loss is a share from 0 to 1, not {loss}").into());
        }
        if let Some(out) = out.as_deref().filter(|out: &&Path| !out.is_dir()) {
            return Err(format!("--out: no directory {}", out.display()).into());
        }
        let listen = addresses.remove(0);
        if addresses.contains(&listen) {
            return Err(format!("{listen} cannot join through itself").into());
        }
        Ok(Self { listen, members: addresses, out, upload, loss, seed })
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option} needs a number, not {text}"))
}

/// Addresses are names here, so they must be those that others use.
fn reachable(text: &str) -> Result<SocketAddrV4, String> {
    let address: SocketAddrV4 =
        text.parse().map_err(|_| format!("{text} is no IPv4 address with a port; {USAGE}"))?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(format!("{text} is no address that others can send to"));
    }
    Ok(address)
}
