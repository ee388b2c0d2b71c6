//! The source: reads a file, and streams its frames when a camera would have made them.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use suffuse::{
    BroadcastOptions, Event, Guard, Instant, LivestreamTracks, PlanMode, PublishOptions, StreamState,
};

use crate::inbox::Line;
use crate::ivf::{Clip, Frame};
use crate::node::{Node, NodeOptions, STREAM};

/// After the last frame the source stays until nobody has asked it for anything for so long: somebody may miss something yet.
const LINGER: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(crate) struct SourceOptions {
    #[command(flatten)]
    node: NodeOptions,
    /// An IVF file with VP8
    #[arg(long, value_name = "FILE", default_value = crate::demo::CLIP)]
    clip: PathBuf,
    /// How often it is streamed, one after the other
    #[arg(long = "loop", value_name = "N", default_value_t = 1)]
    rounds: u64,
    /// How long a frame is of use, in milliseconds: more leaves more time for repair
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    deadline_ms: u64,
    /// Waits for the line `start` on standard input
    #[arg(long)]
    hold: bool,
}

pub(crate) fn run(options: &SourceOptions) -> Result<(), Box<dyn Error>> {
    let name = options.clip.display();
    let file = std::fs::read(&options.clip).map_err(|error| format!("{name}: {error}"))?;
    let clip = Clip::parse(file.into()).map_err(|error| format!("{name}: {error}"))?;
    if !clip.frames.first().is_some_and(Frame::is_keyframe) {
        return Err(format!("{name}: does not begin with a keyframe").into());
    }

    let mut node = Node::open(&options.node)?;
    let mut broadcast = BroadcastOptions::new(rate_bytes_per_s(&clip), options.node.upload_bytes_per_s());
    // Any number of viewers may come, so let them feed each other from the first on.
    broadcast.mode = PlanMode::Forest;
    broadcast.deadline = Duration::from_millis(options.deadline_ms);
    broadcast.chat = false;
    node.engine.open_livestream(STREAM, broadcast, Guard::new(), node.clock.now())?;

    let mut camera = Camera { clip: &clip, rounds: options.rounds, published: 0, begin: None };
    let (mut ending, mut served) = (None, 0);
    if !options.hold {
        camera.start(&mut node)?;
    }
    loop {
        camera.publish(&mut node)?;
        if camera.is_done() && ending.is_none() {
            node.engine.set_stream_state(STREAM, StreamState::Ended, node.clock.now())?;
            ending = Some(node.clock.now() + LINGER);
        }
        for event in node.drain() {
            match event {
                // A file has its keyframes where it has them; a camera would be told to make one.
                Event::KeyframeWanted { .. } => println!("keyframe_wanted"),
                Event::Misbehaved { .. } | Event::EventsLost { .. } => println!("{event:?}"),
                _ => {}
            }
        }
        let stats = node.engine.livestream_stats(STREAM).unwrap_or_default();
        if served != stats.chunks_served {
            served = stats.chunks_served;
            ending = ending.map(|at: Instant| at.max(node.clock.now() + LINGER));
        }
        if ending.is_some_and(|at| node.clock.now() >= at) {
            return node.end(camera.published, 0);
        }
        for line in node.wait(camera.due().or(ending))? {
            match line {
                Line::Said(line) if line == "start" => camera.start(&mut node)?,
                Line::Said(line) if line == "quit" => camera.stop(),
                Line::Said(line) => eprintln!("unknown command: {line}"),
                // Nobody is left who could say `start`.
                Line::End if camera.begin.is_none() => camera.stop(),
                Line::End => {}
            }
        }
    }
}

struct Camera<'a> {
    clip: &'a Clip,
    rounds: u64,
    published: u64,
    begin: Option<Instant>,
}

impl Camera<'_> {
    fn start(&mut self, node: &mut Node) -> Result<(), Box<dyn Error>> {
        if self.begin.is_none() {
            let now = node.clock.now();
            node.engine.set_stream_state(STREAM, StreamState::Active, now)?;
            self.begin = Some(now);
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.rounds = 0;
    }

    fn is_done(&self) -> bool {
        self.published >= self.rounds * self.clip.frames.len() as u64
    }

    /// When the next frame is.
    fn due(&self) -> Option<Instant> {
        let frames = self.clip.frames.len() as u64;
        let (round, frame) = (self.published / frames, (self.published % frames) as usize);
        let due = self.clip.header.time(round * self.clip.ticks()) + self.clip.due(frame);
        self.begin.filter(|_| !self.is_done()).map(|begin| begin + due)
    }

    fn publish(&mut self, node: &mut Node) -> Result<(), Box<dyn Error>> {
        while let Some(due) = self.due().filter(|&due| due <= node.clock.now()) {
            let frames = self.clip.frames.len() as u64;
            let (round, frame) = (self.published / frames, (self.published % frames) as usize);
            let mut frame = self.clip.frames[frame].clone();
            frame.timestamp += round * self.clip.ticks();
            let options = PublishOptions {
                keyframe: frame.is_keyframe(),
                captured: Some(due),
                ..PublishOptions::default()
            };
            let payload = frame.pack(&self.clip.header);
            node.engine.publish(
                STREAM,
                LivestreamTracks::default().visual(),
                payload,
                options,
                node.clock.now(),
            )?;
            self.published += 1;
        }
        Ok(())
    }
}

/// What the busiest second of the clip needs.
fn rate_bytes_per_s(clip: &Clip) -> u64 {
    let bytes_from = |first: usize| {
        let second = (first..clip.frames.len())
            .take_while(|&frame| clip.due(frame) < clip.due(first) + Duration::from_secs(1));
        second.map(|frame| clip.frames[frame].pack(&clip.header).len() as u64).sum::<u64>()
    };
    (0..clip.frames.len()).map(bytes_from).max().unwrap_or(0)
}
