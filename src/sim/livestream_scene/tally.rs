//! Watches every chunk on its way, in little memory for each viewer.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::Bytes;

use crate::authority::LivestreamTracks;
use crate::io::{Event, Update};
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

/// Chunks that a viewer must have got for a percentile of its own.
const OWN_PERCENTILE_CHUNKS: u64 = 100;

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
        let Ok(mut reader) = FrameReader::new(frame, now) else { return };
        while let Some(Ok((_, message))) = reader.next::<NodeId>() {
            let Message::Forest(ForestMessage::Chunk(chunk)) = message else { continue };
            let in_span = self.span.contains(&now);
            self.chunks_received += u64::from(in_span);
            let is_media = chunk.index < chunk.data;
            let viewer = &mut self.viewers[to as usize];
            if !viewer.note(chunk.track, chunk.number, self.window_chunks) {
                continue;
            }
            let layer = chunk.track & 7;
            if layer == 0 {
                self.refill(to, from, chunk.number, now);
            }
            if !is_media {
                continue;
            }
            self.chunks_distinct += u64::from(in_span);
            let number = LivestreamTracks::frame_number(chunk.sequence) as usize;
            let published = self.published.get(usize::from(layer)).and_then(|layer| layer.get(number));
            if let Some(&captured) = published.filter(|&&captured| self.asks(to, captured)) {
                let delay = now - captured;
                self.chunk_delay_us.record(delay.as_micros() as u64);
                self.viewers[to as usize].delays.record(delay.as_millis() as u64);
            }
        }
    }
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

/// Which of the newest numbers were seen: a ring of bits. What fell out of it counts as seen.
#[derive(Debug)]
struct Seen {
    bits: Box<[u64]>,
    next: u64,
}

impl Seen {
    fn new(window: usize) -> Self {
        Self { bits: vec![0; window.div_ceil(64).max(1)].into(), next: 0 }
    }

    fn insert(&mut self, number: u64) -> bool {
        let window = self.bits.len() as u64 * 64;
        if number + window < self.next {
            return false;
        }
        for passed in self.next.max((number + 1).saturating_sub(window))..=number {
            let (word, bit) = self.place(passed);
            self.bits[word] &= !bit;
        }
        self.next = self.next.max(number + 1);
        let (word, bit) = self.place(number);
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }

    fn place(&self, number: u64) -> (usize, u64) {
        ((number / 64) as usize % self.bits.len(), 1 << (number % 64))
    }
}

/// The delays of one viewer in 2 KiB: exact to 2 ms below half a second, to 16 ms up to 4.6 s.
#[derive(Debug, Default)]
struct Delays {
    counts: Vec<u32>,
    count: u64,
    max_ms: u64,
}

impl Delays {
    const FINE: u64 = 256;
    const FINE_MS: u64 = 2;
    const COARSE_MS: u64 = 16;
    const BUCKETS: usize = 512;

    fn record(&mut self, ms: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; Self::BUCKETS];
        }
        let fine_end = Self::FINE * Self::FINE_MS;
        let bucket =
            if ms < fine_end { ms / Self::FINE_MS } else { Self::FINE + (ms - fine_end) / Self::COARSE_MS };
        self.counts[(bucket as usize).min(Self::BUCKETS - 1)] += 1;
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    /// The upper end of the bucket with the 99th percentile, if there are enough values.
    fn p99_ms(&self) -> Option<u64> {
        let rank = (self.count * 99).div_ceil(100);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|&count| {
            seen += u64::from(count);
            seen >= rank
        })? as u64;
        let end = if bucket < Self::FINE {
            (bucket + 1) * Self::FINE_MS
        } else if bucket + 1 < Self::BUCKETS as u64 {
            Self::FINE * Self::FINE_MS + (bucket + 1 - Self::FINE) * Self::COARSE_MS
        } else {
            self.max_ms
        };
        (self.count >= OWN_PERCENTILE_CHUNKS).then_some(end.min(self.max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once_while_the_window_lasts() {
        let mut seen = Seen::new(128);
        assert!(seen.insert(5) && !seen.insert(5) && seen.insert(3));
        assert!(seen.insert(132), "5 is still inside");
        assert!(!seen.insert(5) && seen.insert(6));
        assert!(seen.insert(1_000_000) && !seen.insert(132), "what fell out counts as seen");
        assert!(seen.insert(999_900) && !seen.insert(999_900));
    }

    #[test]
    fn own_percentiles_are_those_of_sorted_delays() {
        let mut delays = Delays::default();
        for ms in 1..=99 {
            delays.record(ms);
        }
        assert_eq!(delays.p99_ms(), None, "too few");
        delays.record(9_000);
        assert_eq!(delays.p99_ms(), Some(100));
        for _ in 0..5 {
            delays.record(9_000);
        }
        assert_eq!(delays.p99_ms(), Some(9_000));
    }
}
