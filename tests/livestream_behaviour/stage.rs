//! One source and its viewers in the simulator, and a log of what each of them saw.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{DropReason, Fault, NetworkConfig, NodeId, Observer, SentFrame, World};
use suffuse::wire::{Chunk, ForestMessage, FrameReader, Message};
use suffuse::{
    BroadcastOptions, Config, Engine, Event, Guard, Instant, LivestreamStats, LivestreamTracks, Offence,
    PublishOptions, Seed, StateId, StreamState, SwarmId, TrackKind, WatchOptions,
};

pub(crate) const STREAM: SwarmId = SwarmId::from_name("behaviour");
pub(crate) const SOURCE: NodeId = 0;
pub(crate) const RATE: u64 = 125_000;
pub(crate) const FPS: u64 = 30;
pub(crate) const FRAME_TIME: Duration = Duration::from_micros(1_000_000 / FPS);
pub(crate) const TRACKS: LivestreamTracks = LivestreamTracks::new(0).unwrap();

/// A frame as a viewer got it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) at: Instant,
    pub(crate) born: Instant,
    pub(crate) state: StateId,
    pub(crate) number: u64,
    pub(crate) keyframe: bool,
    pub(crate) payload: Bytes,
}

/// What was told as lagged: when, of which track, which frames.
pub(crate) type Lag = (Instant, StateId, Range<u64>);

/// A chunk that reached a node.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) from: NodeId,
    pub(crate) state: StateId,
    pub(crate) keyframe: bool,
    pub(crate) bytes: u64,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) frames: BTreeMap<NodeId, Vec<Frame>>,
    pub(crate) lags: BTreeMap<NodeId, Vec<Lag>>,
    pub(crate) joined: BTreeMap<NodeId, Instant>,
    pub(crate) isolated: BTreeMap<NodeId, Instant>,
    pub(crate) states: BTreeMap<NodeId, Vec<(Instant, StreamState)>>,
    pub(crate) layers: BTreeMap<NodeId, Vec<(Instant, u8)>>,
    /// When the source's application was asked for a keyframe.
    pub(crate) keyframes_wanted: Vec<Instant>,
    /// Requests for keyframes among peers: when, and to whom.
    pub(crate) keyframe_messages: Vec<(Instant, NodeId)>,
    pub(crate) offences: Vec<(NodeId, NodeId, Offence)>,
    pub(crate) arrivals: BTreeMap<NodeId, Vec<Arrival>>,
    /// Chunks lost on the way, by their receiver.
    pub(crate) lost: BTreeMap<NodeId, Vec<(StateId, u64)>>,
    pub(crate) chat: BTreeMap<NodeId, Vec<(NodeId, Bytes)>>,
    pub(crate) sent: BTreeMap<NodeId, Vec<Instant>>,
}

impl Observer for Log {
    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => match LivestreamTracks::parse(update.state) {
                Some((_, TrackKind::Chat, _)) | None => {
                    self.chat.entry(node).or_default().push((update.id.origin, update.payload.clone()));
                }
                Some(_) => self.frames.entry(node).or_default().push(Frame {
                    at: now,
                    born: update.born,
                    state: update.state,
                    number: LivestreamTracks::frame_number(update.id.sequence),
                    keyframe: update.keyframe,
                    payload: update.payload.clone(),
                }),
            },
            Event::Lagged { sequences, .. } => {
                let state = StateId((sequences.start >> 48) - 1);
                let number = LivestreamTracks::frame_number;
                let frames = number(sequences.start)..number(sequences.end);
                self.lags.entry(node).or_default().push((now, state, frames));
            }
            Event::Joined { .. } => {
                self.joined.entry(node).or_insert(now);
            }
            Event::Isolated { .. } => {
                self.isolated.entry(node).or_insert(now);
            }
            Event::StreamState { state, .. } => self.states.entry(node).or_default().push((now, *state)),
            Event::QualityChanged { layer, .. } => self.layers.entry(node).or_default().push((now, *layer)),
            Event::KeyframeWanted { .. } => self.keyframes_wanted.push(now),
            Event::Misbehaved { peer, offence } => self.offences.push((node, *peer, *offence)),
            _ => {}
        }
    }

    fn sent(&mut self, now: Instant, sent: &SentFrame<'_>) {
        self.sent.entry(sent.from).or_default().push(now);
    }

    fn arrived(&mut self, now: Instant, from: NodeId, to: NodeId, frame: &Bytes) {
        for message in forest_messages(frame) {
            match message {
                ForestMessage::Chunk(chunk) => self.arrivals.entry(to).or_default().push(Arrival {
                    at: now,
                    from,
                    state: StateId(chunk.track.into()),
                    keyframe: chunk.keyframe,
                    bytes: chunk.body.len() as u64,
                }),
                ForestMessage::KeyframeWanted { .. } => self.keyframe_messages.push((now, to)),
                _ => {}
            }
        }
    }

    fn dropped(&mut self, _now: Instant, _from: NodeId, to: NodeId, frame: &Bytes, _reason: DropReason) {
        for chunk in chunks(frame) {
            self.lost.entry(to).or_default().push((StateId(chunk.track.into()), chunk.number));
        }
    }
}

fn forest_messages(frame: &Bytes) -> Vec<ForestMessage<NodeId>> {
    let mut messages = Vec::new();
    let Ok(mut reader) = FrameReader::new(frame, Instant::ZERO) else { return messages };
    while let Some(Ok((_, message))) = reader.next::<NodeId>() {
        if let Message::Forest(message) = message {
            messages.push(message);
        }
    }
    messages
}

/// The chunks in a frame of the transport.
pub(crate) fn chunks(frame: &Bytes) -> Vec<Chunk> {
    let chunk = |message| match message {
        ForestMessage::Chunk(chunk) => Some(chunk),
        _ => None,
    };
    forest_messages(frame).into_iter().filter_map(chunk).collect()
}

/// The world and how to play it.
pub(crate) struct Stage {
    pub(crate) world: World<Engine<NodeId>, Log>,
    pub(crate) frames: u64,
}

impl Stage {
    /// A world with a source that may send `upload` bytes a second.
    pub(crate) fn new(seed: u64, loss_ppm: u32, upload: u64) -> Self {
        Self::open(seed, loss_ppm, upload, Guard::new(), |_| {})
    }

    pub(crate) fn open(
        seed: u64,
        loss_ppm: u32,
        upload: u64,
        guard: Guard<NodeId>,
        change: impl FnOnce(&mut BroadcastOptions<NodeId>),
    ) -> Self {
        let mut network = NetworkConfig::default();
        network.loss_ppm = loss_ppm;
        let mut world = World::with_observer(network, Seed::from_u64(seed), Log::default());
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, config(upload), birth.seed, birth.now).unwrap();
            let mut options = BroadcastOptions::new(RATE, upload);
            options.chat = false;
            change(&mut options);
            engine.open_livestream(STREAM, options, guard, birth.now).unwrap();
            engine
        });
        world.set_upload(SOURCE, NonZeroU64::new(upload * 8));
        Self { world, frames: 0 }
    }

    /// Adds a viewer that may send `upload` bytes a second; 0 feeds nobody.
    pub(crate) fn watch(&mut self, upload: u64) -> NodeId {
        self.watch_with(upload, Guard::new(), |_| {})
    }

    pub(crate) fn watch_with(
        &mut self,
        upload: u64,
        guard: Guard<NodeId>,
        change: impl FnOnce(&mut WatchOptions<NodeId>),
    ) -> NodeId {
        let node = self.world.add(|birth| {
            let mut engine =
                Engine::new(birth.node, config(upload.max(RATE)), birth.seed, birth.now).unwrap();
            let mut options = WatchOptions::new(SOURCE);
            options.upload_bytes_per_s = (upload > 0).then_some(upload);
            options.chat = false;
            change(&mut options);
            engine.watch_livestream(STREAM, options, guard, birth.now).unwrap();
            engine
        });
        self.world.set_upload(node, NonZeroU64::new(upload.max(RATE) * 8));
        node
    }

    pub(crate) fn set_state(&mut self, state: StreamState) {
        self.source(|engine, now| engine.set_stream_state(STREAM, state, now).unwrap());
    }

    pub(crate) fn source<R>(&mut self, command: impl FnOnce(&mut Engine<NodeId>, Instant) -> R) -> R {
        self.world.with_host(SOURCE, command).unwrap()
    }

    /// Publishes a frame of these tracks, and lets the time to the next one pass. A keyframe every second.
    pub(crate) fn publish(&mut self, tracks: &[(StateId, usize)]) {
        let number = self.frames;
        for &(state, bytes) in tracks {
            let options = PublishOptions { keyframe: number % FPS == 0, ..PublishOptions::default() };
            let payload = payload(state, number, bytes);
            self.source(|engine, now| engine.publish(STREAM, state, payload, options, now).unwrap());
        }
        self.frames += 1;
        self.world.run_for(FRAME_TIME);
    }

    /// The pictures alone, at the rate of the stream.
    pub(crate) fn play(&mut self, frames: u64) {
        for _ in 0..frames {
            self.publish(&[(TRACKS.visual(), (RATE / FPS) as usize)]);
        }
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.world.run_for(Duration::from_millis(ms));
    }

    pub(crate) fn now(&self) -> Instant {
        self.world.now()
    }

    pub(crate) fn log(&self) -> &Log {
        self.world.observer()
    }

    pub(crate) fn stats(&self, node: NodeId) -> LivestreamStats {
        self.world.host(node).unwrap().livestream_stats(STREAM).unwrap()
    }

    pub(crate) fn parents(&self, node: NodeId) -> Vec<Option<NodeId>> {
        self.world.host(node).unwrap().stream_parents(STREAM)
    }

    /// How many (viewer, stripe) pairs a node feeds, as those see it that are fed.
    pub(crate) fn fed_by(&self, node: NodeId) -> usize {
        let hosts = self.world.hosts().map(|(other, _)| other).filter(|&other| other != SOURCE);
        hosts.flat_map(|other| self.parents(other)).filter(|parent| *parent == Some(node)).count()
    }

    /// The relay that feeds the most.
    pub(crate) fn busiest(&self) -> NodeId {
        let viewers = self.world.hosts().map(|(node, _)| node).filter(|&node| node != SOURCE);
        viewers.max_by_key(|&node| (self.fed_by(node), node)).unwrap()
    }

    /// Chunks matching `drop` do not leave the node any more.
    pub(crate) fn swallow(
        &mut self,
        node: NodeId,
        mut drop: impl FnMut(Instant, NodeId, &Chunk) -> bool + Send + 'static,
    ) {
        self.world.set_fault(
            node,
            Some(Fault::Filter(Box::new(move |now, to, frame| {
                let swallowed = chunks(&frame).iter().any(|chunk| drop(now, to, chunk));
                (!swallowed).then_some(frame)
            }))),
        );
    }
}

impl Log {
    /// The frames of a track that a viewer got, in the order in which it got them.
    pub(crate) fn track(&self, node: NodeId, state: StateId) -> Vec<&Frame> {
        let frames = self.frames.get(&node).map_or(&[][..], |frames| frames);
        frames.iter().filter(|frame| frame.state == state).collect()
    }

    pub(crate) fn numbers(&self, node: NodeId, state: StateId) -> Vec<u64> {
        self.track(node, state).iter().map(|frame| frame.number).collect()
    }

    /// Bytes of media of a track that reached a node, from a time on.
    pub(crate) fn bytes_since(&self, node: NodeId, state: StateId, since: Instant) -> u64 {
        let arrivals = self.arrivals.get(&node).map_or(&[][..], |arrivals| arrivals);
        let of_track = arrivals.iter().filter(|arrival| arrival.state == state && arrival.at >= since);
        of_track.map(|arrival| arrival.bytes).sum()
    }

    /// Every payload is the one that was published, no frame came twice, and each track of each viewer has no hole but
    /// what was told, and begins again only at keyframes.
    pub(crate) fn assert_sound(&self) {
        for (node, frames) in &self.frames {
            let mut newest: BTreeMap<StateId, u64> = BTreeMap::new();
            for frame in frames {
                let expected = payload(frame.state, frame.number, frame.payload.len());
                assert_eq!(frame.payload, expected, "viewer {node}, {:?} {}", frame.state, frame.number);
                let told = |number: u64| {
                    let lags = self.lags.get(node).map_or(&[][..], |lags| lags);
                    lags.iter().any(|(_, state, lag)| *state == frame.state && lag.contains(&number))
                };
                let first = newest.get(&frame.state).map_or(frame.number, |newest| newest + 1);
                assert!(first <= frame.number, "viewer {node}: {} of {:?} again", frame.number, frame.state);
                let follows = newest.contains_key(&frame.state) && (first..frame.number).all(told);
                assert!(
                    frame.keyframe || follows,
                    "viewer {node}: {:?} goes from {first} to {} inside a group",
                    frame.state,
                    frame.number
                );
                newest.insert(frame.state, frame.number);
            }
        }
    }
}

pub(crate) fn config(upload: u64) -> Config {
    let mut config = Config::medium();
    config.egress.upload_bytes_per_s = Some(upload);
    // What the network adds to each frame counts, too.
    config.egress.frame_overhead_bytes = 28;
    config
}

/// What a frame holds: its track and number, over and over.
pub(crate) fn payload(state: StateId, number: u64, bytes: usize) -> Bytes {
    let word = (number << 8 | state.0).to_le_bytes();
    Bytes::from(word.into_iter().cycle().take(bytes).collect::<Vec<u8>>())
}

pub(crate) fn layer(layer: u8) -> StateId {
    TRACKS.layer(TrackKind::Visual, layer).unwrap()
}
