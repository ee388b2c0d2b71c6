//! A viewer: writes the frames in the order of the stream, and feeds others with what it gets.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use suffuse::{Event, Guard, Histogram, Instant, LivestreamTracks, StreamState, Update, WatchOptions};

use crate::inbox::{self, Line};
use crate::ivf::{Frame, Writer};
use crate::node::{Node, NodeOptions, STREAM};

/// After the end a viewer stays until nothing has come, or been asked of it, for so long: those it feeds get the last frames too.
const LINGER: Duration = Duration::from_secs(2);
/// If nobody feeds this viewer for so long, there is no stream any more.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct ViewerOptions {
    #[command(flatten)]
    node: NodeOptions,
    /// Where the source is
    #[arg(long, value_name = "ADDRESS")]
    source: SocketAddrV4,
    /// The IVF file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(options: &ViewerOptions) -> Result<(), Box<dyn Error>> {
    let mut node = Node::open(&options.node)?;
    let upload = options.node.upload_bytes_per_s();
    let mut watch = WatchOptions::new(inbox::name(options.source));
    watch.upload_bytes_per_s = (upload > 0).then_some(upload);
    watch.chat = false;
    node.engine.watch_livestream(STREAM, watch, Guard::new(), node.clock.now())?;

    let mut recorder = Recorder::new(&options.out);
    let (mut ending, mut quits): (Option<Instant>, _) = (None, false);
    let (mut children, mut fed_at, mut work) = (0, node.clock.now(), 0);
    loop {
        for event in node.drain() {
            match event {
                Event::Joined { .. } => println!("joined"),
                Event::Isolated { .. } => println!("isolated"),
                Event::Delivered(update) => recorder.take(update, node.clock.now())?,
                Event::Lagged { sequences, .. } => {
                    let number = LivestreamTracks::frame_number;
                    println!("lagged {}..{}", number(sequences.start), number(sequences.end));
                }
                Event::StreamState { state: StreamState::Ended, .. } if ending.is_none() => {
                    ending = Some(node.clock.now() + LINGER);
                }
                Event::WatchRefused { needed_bytes_per_s, .. } => {
                    println!("refused needed_bytes_per_s={needed_bytes_per_s}");
                }
                Event::Misbehaved { .. } | Event::EventsLost { .. } => println!("{event:?}"),
                _ => {}
            }
        }
        let stats = node.engine.livestream_stats(STREAM).unwrap_or_default();
        if stats.children != children {
            println!("children {}", stats.children);
            children = stats.children;
        }
        if stats.stripes_fed > 0 {
            fed_at = node.clock.now();
        }
        if !quits && work != stats.frames_delivered + stats.chunks_served {
            work = stats.frames_delivered + stats.chunks_served;
            ending = ending.map(|at| at.max(node.clock.now() + LINGER));
        }
        let given_up = fed_at + PATIENCE;
        if node.clock.now() >= given_up {
            recorder.finish()?;
            return Err(format!("nobody has fed this viewer for {PATIENCE:?}").into());
        }
        if ending.is_some_and(|at| node.clock.now() >= at) {
            let latency_ms = recorder.latency_ms.p95().unwrap_or(0);
            return node.end(recorder.finish()?, latency_ms);
        }
        for line in node.wait(ending.or(Some(given_up)))? {
            match line {
                Line::Said(line) if line == "quit" => (ending, quits) = (Some(node.clock.now()), true),
                Line::Said(line) => eprintln!("unknown command: {line}"),
                Line::End => {}
            }
        }
    }
}

/// The file, from the first keyframe on: that is where it learns the header.
struct Recorder<'a> {
    out: &'a Path,
    writer: Option<Writer<BufWriter<File>>>,
    frames: u64,
    seen: bool,
    latency_ms: Histogram,
}

impl<'a> Recorder<'a> {
    fn new(out: &'a Path) -> Self {
        Self { out, writer: None, frames: 0, seen: false, latency_ms: Histogram::new() }
    }

    fn take(&mut self, update: Update<u64>, now: Instant) -> Result<(), Box<dyn Error>> {
        if !self.seen {
            let number = LivestreamTracks::frame_number(update.id.sequence);
            println!("first_frame seq={number} keyframe={}", update.keyframe);
            self.seen = true;
        }
        self.latency_ms.record((now - update.born).as_millis() as u64);
        let (header, frame) = Frame::unpack(update.payload)?;
        if let (None, Some(header)) = (&self.writer, header) {
            let file = File::create(self.out).map_err(|error| format!("{}: {error}", self.out.display()))?;
            self.writer = Some(Writer::new(BufWriter::new(file), &header)?);
        }
        if let Some(writer) = &mut self.writer {
            writer.write(&frame)?;
            self.frames += 1;
        }
        Ok(())
    }

    fn finish(self) -> Result<u64, Box<dyn Error>> {
        self.writer.map(Writer::finish).transpose()?;
        Ok(self.frames)
    }
}
