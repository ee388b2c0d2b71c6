//! Watches every chunk on its way, in little memory for each viewer.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::Bytes;

use super::memory::{Delays, Seen};
use crate::authority::LivestreamTracks;
use crate::io::{Event, Update};
use crate::sim::memo::Memo;
use crate::sim::{NodeId, Observer, StopReason, WindowMeter};
use crate::stats::Histogram;
use crate::time::Instant;
use crate::wire::{ForestMessage, FrameReader, Message};

/// Frames complete within these many milliseconds are on time, for whoever waits that long.
pub(super) const ON_TIME_MS: [u64; 4] = [300, 500, 1_000, 2_000];

/// Stripes are back within these many seconds.
pub(super) const BACK_S: [u64; 4] = [1, 2, 3, 5];

/// A frame is asked of a viewer only if it stayed for so long after the capture.
pub(super) const STAY: Duration = Duration::from_secs(2);

/// A stripe that has been silent for less when the stream ends is not counted as cut.
const SILENCE_MIN: Duration = Duration::from_secs(2);

/// The source, which is no viewer.
pub(super) const SOURCE: NodeId = 0;

/// Notes what the report is made of.
#[derive(Debug)]
pub(super) struct Tally {
    span: Range<Instant>,
    /// Captured frames, published or not.
    captured: Vec<Instant>,
    /// The captures of the published frames of each layer, by number.
    published: Vec<Vec<Instant>>,
    viewers: Vec<Viewer>,
    heads: Memo<Option<Head>>,
    stripes: u64,
    window_chunks: usize,
    crashed_at: Option<Instant>,
    keyframes_wanted: WindowMeter,
    outages_us: Histogram,
    cut: u64,
    back: [u64; BACK_S.len()],
    on_time: [u64; ON_TIME_MS.len()],
    pub(super) chunk_delay_us: Histogram,
    pub(super) frame_delay_us: Histogram,
    pub(super) delivered: Vec<u64>,
    pub(super) bytes_delivered: u64,
    pub(super) chunks_received: u64,
    pub(super) chunks_distinct: u64,
    pub(super) hops_max: u64,
    pub(super) keyframe_wanted: bool,
    pub(super) keyframe_requests: u64,
    pub(super) viewers_refused: u64,
    pub(super) frames_refused: u64,
}

/// One node; the source has an entry that stays empty.
#[derive(Debug)]
struct Viewer {
    watched: Instant,
    attached: Option<Instant>,
    /// When it got its first keyframe.
    ready: Option<Instant>,
    /// When it is going to go, if it is.
    gone: Instant,
    crashed: Option<Instant>,
    stopped: Option<Instant>,
    seen: Vec<(u8, Seen)>,
    feeds: Vec<Feed>,
    delays: Delays,
}

/// Who feeds a viewer in one stripe: whoever sent its newest chunk.
#[derive(Clone, Copy, Debug)]
struct Feed {
    parent: NodeId,
    newest: u64,
}

impl Tally {
    /// For a stream with that many layers, of which `window_chunks` chunks of one layer are told apart at a time.
    pub(super) fn new(span: Range<Instant>, layers: u8, window_chunks: usize) -> Self {
        Self {
            span,
            captured: Vec::new(),
            published: vec![Vec::new(); layers.into()],
            viewers: Vec::new(),
            heads: Memo::default(),
            stripes: 1,
            window_chunks,
            crashed_at: None,
            keyframes_wanted: WindowMeter::default(),
            outages_us: Histogram::new(),
            cut: 0,
            back: [0; BACK_S.len()],
            on_time: [0; ON_TIME_MS.len()],
            chunk_delay_us: Histogram::new(),
            frame_delay_us: Histogram::new(),
            delivered: vec![0; layers.into()],
            bytes_delivered: 0,
            chunks_received: 0,
            chunks_distinct: 0,
            hops_max: 0,
            keyframe_wanted: false,
            keyframe_requests: 0,
            viewers_refused: 0,
            frames_refused: 0,
        }
    }

    /// The source captured a frame of all layers.
    pub(super) fn captured(&mut self, now: Instant) {
        self.captured.push(now);
    }

    /// The source's engine took the frame of a layer.
    pub(super) fn published(&mut self, layer: u8, sequence: u64, now: Instant) {
        let published = &mut self.published[usize::from(layer)];
        debug_assert_eq!(LivestreamTracks::frame_number(sequence), published.len() as u64);
        published.push(now);
    }

    /// The stream is cut into that many stripes from now on.
    pub(super) fn set_stripes(&mut self, stripes: u64) {
        let stripes = stripes.max(1);
        if core::mem::replace(&mut self.stripes, stripes) != stripes {
            for viewer in &mut self.viewers {
                viewer.feeds = Vec::new();
            }
        }
    }

    /// `node` is going to go at `at`.
    pub(super) fn will_go(&mut self, node: NodeId, at: Instant) {
        let viewer = &mut self.viewers[node as usize];
        viewer.gone = viewer.gone.min(at);
    }

    /// Many crash now.
    pub(super) fn crash(&mut self, now: Instant) {
        self.crashed_at = Some(now);
    }

    /// How long a node was there in the span.
    pub(super) fn presence(&self, node: NodeId) -> Duration {
        let viewer = &self.viewers[node as usize];
        viewer.stopped.unwrap_or(Instant::MAX).min(self.span.end) - viewer.watched.max(self.span.start)
    }

    /// How many (frame, viewer) pairs were asked for.
    pub(super) fn pairs(&self) -> u64 {
        let place = |at: Instant| self.captured.partition_point(|&captured| captured < at);
        let asked = |viewer: &Viewer| {
            let from = place(self.span.start.max(viewer.ready?));
            let last = if viewer.gone == Instant::MAX { Instant::MAX } else { viewer.gone - STAY };
            let to = place(self.span.end.min(last + Duration::from_micros(1)));
            Some(to.saturating_sub(from) as u64)
        };
        self.viewers.iter().filter_map(asked).sum()
    }

    /// How many of them were complete within each time of [`ON_TIME_MS`].
    pub(super) fn on_time(&self) -> [u64; ON_TIME_MS.len()] {
        self.on_time
    }

    /// The greatest 99th percentile of a single viewer, in milliseconds.
    pub(super) fn worst_viewer_p99_ms(&self) -> u64 {
        self.viewers.iter().filter_map(|viewer| viewer.delays.p99_ms()).max().unwrap_or(0)
    }

    /// The most requests for a keyframe in a second.
    pub(super) fn keyframe_requests_per_s_max(&self) -> u64 {
        self.keyframes_wanted.peak_bytes()
    }

    /// Times to a place and to the first keyframe, of those who came in the span, or of all if nobody did.
    pub(super) fn joins_us(&self, now: Instant) -> (Histogram, Histogram) {
        let came_in_span = |viewer: &&Viewer| self.span.contains(&viewer.watched);
        let any = self.viewers.iter().skip(1).any(|viewer| came_in_span(&viewer));
        let (mut attach, mut first_frame) = (Histogram::new(), Histogram::new());
        for viewer in self.viewers.iter().skip(1).filter(|viewer| !any || came_in_span(viewer)) {
            let waits = viewer.stopped.is_none() && viewer.gone == Instant::MAX;
            for (at, histogram) in [(viewer.attached, &mut attach), (viewer.ready, &mut first_frame)] {
                if let Some(at) = at.or(waits.then_some(now)) {
                    histogram.record((at - viewer.watched).as_micros() as u64);
                }
            }
        }
        (attach, first_frame)
    }

    /// Viewers that are there, were `patience` before the end of the span, and never got a keyframe.
    pub(super) fn without_keyframe(&self, patience: Duration) -> u64 {
        let waits = |viewer: &&Viewer| {
            viewer.stopped.is_none() && viewer.ready.is_none() && viewer.watched + patience <= self.span.end
        };
        self.viewers.iter().skip(1).filter(waits).count() as u64
    }

    /// All outages; how many were cut by the crash of many; how many of those were back within each time of [`BACK_S`].
    pub(super) fn outages(&self) -> (Histogram, u64, [u64; BACK_S.len()]) {
        let (mut outages, mut cut) = (self.outages_us.clone(), self.cut);
        for viewer in self.viewers.iter().filter(|viewer| viewer.stopped.is_none()) {
            for feed in &viewer.feeds {
                let Some(since) = self.viewers[feed.parent as usize].crashed else { continue };
                let silent = self.span.end - since;
                if silent >= SILENCE_MIN {
                    outages.record(silent.as_micros() as u64);
                    cut += u64::from(self.crashed_at == Some(since));
                }
            }
        }
        (outages, cut, self.back)
    }

    fn asks(&self, node: NodeId, captured: Instant) -> bool {
        let viewer = &self.viewers[node as usize];
        self.span.contains(&captured)
            && viewer.ready.is_some_and(|ready| ready <= captured)
            && captured + STAY <= viewer.gone
    }

    fn deliver(&mut self, node: NodeId, update: &Update<NodeId>, now: Instant) {
        let (layer, number) = (usize::from(update.layer), LivestreamTracks::frame_number(update.id.sequence));
        let Some(&captured) = self.published.get(layer).and_then(|layer| layer.get(number as usize)) else {
            return;
        };
        let viewer = &mut self.viewers[node as usize];
        if update.keyframe && layer == 0 && viewer.ready.is_none() {
            viewer.ready = Some(now);
        }
        if self.span.contains(&now) {
            self.bytes_delivered += update.payload.len() as u64;
            self.hops_max = self.hops_max.max(u64::from(update.hops));
        }
        if !self.asks(node, captured) {
            return;
        }
        self.delivered[layer] += 1;
        if layer == 0 {
            let delay = now - captured;
            self.frame_delay_us.record(delay.as_micros() as u64);
            for (count, &within) in self.on_time.iter_mut().zip(&ON_TIME_MS) {
                *count += u64::from(delay <= Duration::from_millis(within));
            }
        }
    }

    fn chunk(&mut self, now: Instant, from: NodeId, to: NodeId, head: Head) {
        let in_span = self.span.contains(&now);
        self.chunks_received += u64::from(in_span);
        let viewer = &mut self.viewers[to as usize];
        if !viewer.note(head.track, head.number, self.window_chunks) {
            return;
        }
        let layer = head.track & 7;
        if layer == 0 {
            self.refill(to, from, head.number, now);
        }
        if !head.is_media {
            return;
        }
        self.chunks_distinct += u64::from(in_span);
        let number = LivestreamTracks::frame_number(head.sequence) as usize;
        let published = self.published.get(usize::from(layer)).and_then(|layer| layer.get(number));
        if let Some(&captured) = published.filter(|&&captured| self.asks(to, captured)) {
            let delay = now - captured;
            self.chunk_delay_us.record(delay.as_micros() as u64);
            self.viewers[to as usize].delays.record(delay.as_millis() as u64);
        }
    }

    fn refill(&mut self, viewer: NodeId, from: NodeId, number: u64, now: Instant) {
        let stripes = self.stripes as usize;
        let stripe = (number % self.stripes) as usize;
        let feeds = &mut self.viewers[viewer as usize].feeds;
        if feeds.len() != stripes {
            *feeds = vec![Feed { parent: SOURCE, newest: 0 }; stripes];
        }
        let feed = &mut feeds[stripe];
        if number < feed.newest || from == feed.parent {
            feed.newest = feed.newest.max(number);
            return;
        }
        let Feed { parent, .. } = core::mem::replace(feed, Feed { parent: from, newest: number });
        // What the dead parent had sent before was ruled out above.
        if let Some(since) = self.viewers[parent as usize].crashed {
            let outage = now - since;
            self.outages_us.record(outage.as_micros() as u64);
            if self.crashed_at == Some(since) {
                self.cut += 1;
                for (count, &within) in self.back.iter_mut().zip(&BACK_S) {
                    *count += u64::from(outage <= Duration::from_secs(within));
                }
            }
        }
    }
}

impl Observer for Tally {
    fn started(&mut self, node: NodeId, now: Instant) {
        debug_assert_eq!(node, self.viewers.len() as NodeId);
        self.viewers.push(Viewer {
            watched: now,
            attached: None,
            ready: None,
            gone: Instant::MAX,
            crashed: None,
            stopped: None,
            seen: Vec::new(),
            feeds: Vec::new(),
            delays: Delays::default(),
        });
    }

    fn stopped(&mut self, node: NodeId, now: Instant, why: StopReason) {
        let Some(viewer) = self.viewers.get_mut(node as usize) else { return };
        viewer.stopped = Some(now);
        viewer.crashed = (why == StopReason::Crashed).then_some(now);
        (viewer.seen, viewer.feeds) = (Vec::new(), Vec::new());
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => self.deliver(node, update, now),
            Event::Joined { .. } => {
                self.viewers[node as usize].attached.get_or_insert(now);
            }
            Event::KeyframeWanted { .. } if node == SOURCE => {
                self.keyframe_wanted = true;
                self.keyframe_requests += 1;
                self.keyframes_wanted.record(now, 1);
            }
            Event::WatchRefused { .. } => self.viewers_refused += 1,
            _ => {}
        }
    }

    fn arrived(&mut self, now: Instant, from: NodeId, to: NodeId, frame: &Bytes) {
        match self.heads.of(frame, Head::alone_in) {
            Some(head) => self.chunk(now, from, to, head),
            None => heads_in(frame).for_each(|head| self.chunk(now, from, to, head)),
        }
    }
}

/// What counts of a chunk.
#[derive(Clone, Copy, Debug)]
struct Head {
    track: u8,
    number: u64,
    sequence: u64,
    is_media: bool,
}

impl Head {
    /// The only chunk of a frame.
    fn alone_in(frame: &Bytes) -> Option<Self> {
        let mut heads = heads_in(frame);
        heads.next().filter(|_| heads.next().is_none())
    }
}

/// The chunks of a frame, up to the first error.
fn heads_in(frame: &Bytes) -> impl Iterator<Item = Head> + '_ {
    let mut reader = FrameReader::new(frame, Instant::ZERO).ok();
    let messages = core::iter::from_fn(move || reader.as_mut()?.next::<NodeId>()?.ok());
    messages.filter_map(|(_, message)| match message {
        Message::Forest(ForestMessage::Chunk(chunk)) => Some(Head {
            track: chunk.track,
            number: chunk.number,
            sequence: chunk.sequence,
            is_media: chunk.index < chunk.data,
        }),
        _ => None,
    })
}

impl Viewer {
    /// Notes a chunk, and tells whether it is new.
    fn note(&mut self, track: u8, number: u64, window: usize) -> bool {
        let place = self.seen.iter().position(|(known, _)| *known == track).unwrap_or_else(|| {
            self.seen.push((track, Seen::new(window)));
            self.seen.len() - 1
        });
        self.seen[place].1.insert(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, SwarmId};
    use crate::wire::{Chunk, FrameWriter};

    /// A stream of one chunk a frame and ten frames a second, all of which are captured; measured from 1 s to 5 s.
    fn tally(viewers: u64) -> Tally {
        let mut tally = Tally::new(Instant::from_secs(1)..Instant::from_secs(5), 1, 256);
        tally.set_stripes(2);
        for node in 0..=viewers {
            tally.started(node, Instant::ZERO);
        }
        for frame in 0..60 {
            let at = Instant::from_millis(100 * frame);
            tally.captured(at);
            tally.published(0, frame, at);
        }
        tally
    }

    fn chunk(number: u64, index: u8) -> Bytes {
        let chunk = Chunk {
            epoch: 0,
            track: LivestreamTracks::default().visual().0 as u8,
            number,
            index,
            data: 1,
            parity: 1,
            reed_solomon: false,
            keyframe: false,
            sequence: number,
            captured_ms: 0,
            deadline_ms: None,
            seal: Bytes::new(),
            body: Bytes::from_static(b"media"),
        };
        let mut writer = FrameWriter::new(64);
        let message = Message::<NodeId>::Forest(ForestMessage::Chunk(chunk));
        writer.push(SwarmId(1).tag(), &message, Instant::ZERO);
        writer.finish()
    }

    fn keyframe(tally: &mut Tally, node: NodeId, number: u64, at: Instant) {
        let id = crate::id::UpdateId { swarm: SwarmId(1), origin: SOURCE, epoch: Epoch(0), sequence: number };
        let update = Update {
            id,
            state: LivestreamTracks::default().visual(),
            priority: crate::id::Priority::Normal,
            keyframe: true,
            layer: 0,
            hops: 2,
            born: at,
            payload: Bytes::from_static(b"media"),
        };
        tally.event(node, at, &Event::Delivered(update));
    }

    #[test]
    fn only_frames_from_the_first_keyframe_on_and_in_the_span_are_asked_for() {
        let mut tally = tally(3);
        assert_eq!(tally.pairs(), 0, "nobody has a keyframe");
        keyframe(&mut tally, 1, 0, Instant::from_millis(50));
        assert_eq!(tally.pairs(), 40, "the whole span");
        keyframe(&mut tally, 2, 0, Instant::from_millis(2_050));
        assert_eq!(tally.pairs(), 40 + 29, "from frame 21 to frame 49");
        keyframe(&mut tally, 3, 0, Instant::from_millis(50));
        tally.will_go(3, Instant::from_millis(4_000));
        assert_eq!(tally.pairs(), 40 + 29 + 11, "from frame 10 to frame 20");

        for (number, after_ms) in [(10, 299), (11, 301), (12, 1_001), (9, 1), (50, 1)] {
            keyframe(&mut tally, 1, number, Instant::from_millis(number * 100 + after_ms));
        }
        assert_eq!(tally.on_time(), [1, 2, 2, 3], "9 and 50 are outside of the span");
        assert_eq!(tally.delivered, [3]);
        keyframe(&mut tally, 3, 21, Instant::from_millis(2_101));
        assert_eq!(tally.delivered, [3], "it goes too soon to be asked for");
    }

    #[test]
    fn chunks_are_timed_once_and_parity_is_a_copy() {
        let mut tally = tally(1);
        let at = |number: u64, after_ms: u64| Instant::from_millis(number * 100 + after_ms);
        tally.arrived(at(10, 30), SOURCE, 1, &chunk(10, 0));
        assert!(tally.chunk_delay_us.is_empty(), "no keyframe yet");
        keyframe(&mut tally, 1, 0, Instant::from_millis(1_050));
        tally.arrived(at(11, 30), SOURCE, 1, &chunk(11, 0));
        tally.arrived(at(11, 60), SOURCE, 1, &chunk(11, 0));
        tally.arrived(at(12, 40), SOURCE, 1, &chunk(12, 1));
        assert_eq!((tally.chunk_delay_us.count(), tally.chunk_delay_us.max()), (1, Some(30_000)));
        assert_eq!((tally.chunks_received, tally.chunks_distinct), (4, 2));
    }

    #[test]
    fn an_outage_lasts_until_somebody_alive_sends_what_is_new() {
        let mut tally = tally(4);
        let ms = Instant::from_millis;
        // 2 feeds 1 in both stripes, 3 feeds 4.
        for number in 10..12 {
            tally.arrived(ms(1_100), 2, 1, &chunk(number, 0));
            tally.arrived(ms(1_100), 3, 4, &chunk(number, 0));
        }
        tally.crash(ms(1_200));
        tally.stopped(2, ms(1_200), StopReason::Crashed);
        tally.stopped(3, ms(1_200), StopReason::Crashed);
        tally.arrived(ms(1_220), 2, 1, &chunk(12, 0));
        tally.arrived(ms(1_230), SOURCE, 1, &chunk(8, 0));
        assert_eq!(tally.outages().0.count(), 4, "what was under way and what is old changes nothing");
        assert!(tally.outages().0.min() >= Some(3_800_000), "{:?}", tally.outages());
        tally.arrived(ms(1_500), SOURCE, 1, &chunk(14, 0));
        tally.arrived(ms(2_700), SOURCE, 1, &chunk(13, 0));
        let (outages, cut, back) = tally.outages();
        assert_eq!((outages.count(), cut, back), (4, 4, [1, 2, 2, 2]));
        assert_eq!(outages.min(), Some(300_000));
        // Who leaves, or dies in turn, is not asked any more.
        tally.stopped(4, ms(3_000), StopReason::Left);
        assert_eq!(tally.outages().0.count(), 2);
    }
}
