//! What participants of the scene publish, and how it arrives.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::report::{FailoverMs, MediaDelays, MediaReport};
use crate::histogram::Histogram;
use crate::io::GroupEvent;
use crate::sim::{DelayMs, NodeId};
use crate::swarm::{GroupMedia, MediaOptions, MediaTopology, MediaTrack};
use crate::time::Instant;

/// The media of a [`GroupScene`](crate::sim::GroupScene): everybody shows itself, and some speak. Start from
/// [`MediaScene::new`] and change fields.
///
/// Everybody publishes a thumbnail, ten frames a second. Who speaks publishes sound, fifty frames a second, and video, thirty
/// frames a second with a large keyframe every ten seconds and on request. Every six seconds the one who has spoken longest
/// stops, and somebody else begins.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct MediaScene {
    /// How many speak at a time.
    pub speakers: u32,
    /// The video of a speaker in bytes of payload a second, beside its thumbnail. Default 150,000: 1.2 Mbit/s.
    pub video_bytes_per_s: u64,
    /// A thumbnail, the same. Default 3,750: 30 kbit/s.
    pub thumbnail_bytes_per_s: u64,
    /// The sound of a speaker, the same. Default 4,000: 32 kbit/s.
    pub audio_bytes_per_s: u64,
    /// Who feeds whom.
    pub topology: MediaTopology,
}

/// Frames a second.
const AUDIO_FPS: u64 = 50;
const THUMBNAIL_FPS: u64 = 10;
const VIDEO_FPS: u64 = 30;

/// Video frames from one keyframe to the next, if nobody asks for one, and the size of a keyframe beside another.
const KEYFRAME_EVERY: u64 = 300;
const KEYFRAME_SIZE: u64 = 3;

/// Turns.
pub(super) const TURN: Duration = Duration::from_secs(6);
pub(super) const LEVEL_INTERVAL: Duration = Duration::from_millis(100);
pub(super) const LEVEL: u8 = 120;

impl MediaScene {
    /// So many speakers, everything else as it is by default.
    pub fn new(speakers: u32) -> Self {
        Self {
            speakers,
            video_bytes_per_s: 150_000,
            thumbnail_bytes_per_s: 3_750,
            audio_bytes_per_s: 4_000,
            topology: MediaTopology::Auto,
        }
    }

    /// What participants are told, of whom each may upload so much.
    pub fn options(&self, upload_bytes_per_s: u64) -> MediaOptions {
        let mut options = MediaOptions::new(upload_bytes_per_s);
        options.audio_bytes_per_s = self.audio_bytes_per_s;
        options.thumbnail_bytes_per_s = self.thumbnail_bytes_per_s;
        options.video_bytes_per_s = self.video_bytes_per_s.max(100);
        options.topology = self.topology;
        options
    }

    /// Between two frames of a track.
    pub(super) fn interval(track: MediaTrack) -> Duration {
        let fps = match track {
            MediaTrack::Audio => AUDIO_FPS,
            MediaTrack::Thumbnail => THUMBNAIL_FPS,
            MediaTrack::Video | MediaTrack::Screen => VIDEO_FPS,
        };
        Duration::from_micros(1_000_000 / fps)
    }

    fn bytes(&self, track: MediaTrack, keyframe: bool) -> usize {
        let options = self.options(1_000);
        let rate = options.rate(track);
        let bytes = match track {
            MediaTrack::Audio => rate / AUDIO_FPS,
            MediaTrack::Thumbnail => rate / THUMBNAIL_FPS,
            MediaTrack::Video | MediaTrack::Screen => {
                let others = rate * KEYFRAME_EVERY / (VIDEO_FPS * (KEYFRAME_EVERY + KEYFRAME_SIZE - 1));
                others * if keyframe { KEYFRAME_SIZE } else { 1 }
            }
        };
        bytes.max(8) as usize
    }
}

/// One track that somebody receives.
#[derive(Clone, Copy, Debug)]
struct Received {
    since: Instant,
    /// Frames published before.
    before: u64,
    delivered: u64,
}

/// Notes what was published and what came of it.
#[derive(Debug, Default)]
pub(super) struct MediaTally {
    /// When each frame was published, and where.
    frames: Vec<(NodeId, MediaTrack, Instant)>,
    published: BTreeMap<(NodeId, MediaTrack), u64>,
    keyframe_due: BTreeMap<(NodeId, MediaTrack), bool>,
    receives: BTreeMap<(NodeId, NodeId, MediaTrack), Received>,
    delays: BTreeMap<MediaTrack, Histogram>,
    expected: u64,
    delivered: u64,
    again: u64,
    hops_max: u8,
    measures: bool,
    failovers: Vec<Duration>,
}

impl MediaTally {
    /// The next frame of a track: whether it is a keyframe, and its payload.
    pub(super) fn next(
        &mut self,
        scene: &MediaScene,
        node: NodeId,
        track: MediaTrack,
        now: Instant,
    ) -> (bool, Bytes) {
        let wanted = self.keyframe_due.remove(&(node, track)).unwrap_or(false);
        let published = self.published.entry((node, track)).or_default();
        let keyframe = wanted || track != MediaTrack::Video || *published % KEYFRAME_EVERY == 0;
        *published += 1;
        let mut payload = alloc::vec![0; scene.bytes(track, keyframe)];
        payload[..8].copy_from_slice(&(self.frames.len() as u64).to_le_bytes());
        self.frames.push((node, track, now));
        (keyframe, Bytes::from(payload))
    }

    /// From now on it counts.
    pub(super) fn begin(&mut self, now: Instant) {
        self.measures = true;
        for (&(_, from, track), received) in &mut self.receives {
            let before = self.published.get(&(from, track)).copied().unwrap_or(0);
            *received = Received { since: now, before, delivered: 0 };
        }
    }

    pub(super) fn failed_over(&mut self, after: Duration) {
        self.failovers.push(after);
    }

    pub(super) fn stopped(&mut self, node: NodeId) {
        self.receives.retain(|(receiver, ..), _| *receiver != node);
    }

    pub(super) fn event(&mut self, node: NodeId, now: Instant, event: &GroupEvent<NodeId>) {
        match event {
            GroupEvent::TrackOpened { from, track } => {
                let before = self.published.get(&(*from, *track)).copied().unwrap_or(0);
                self.receives.insert((node, *from, *track), Received { since: now, before, delivered: 0 });
            }
            GroupEvent::TrackClosed { from, track } => self.close((node, *from, *track)),
            GroupEvent::KeyframeWanted { track } => {
                self.keyframe_due.insert((node, *track), true);
            }
            GroupEvent::Media(media) => self.deliver(node, now, media),
            _ => {}
        }
    }

    fn deliver(&mut self, node: NodeId, now: Instant, media: &GroupMedia<NodeId>) {
        let Some(head) = media.payload.get(..8).and_then(|head| head.try_into().ok()) else { return };
        let number = u64::from_le_bytes(head);
        let Some(&(from, track, at)) = self.frames.get(number as usize) else { return };
        if (from, track) != (media.from, media.track) {
            return;
        }
        let Some(received) = self.receives.get_mut(&(node, from, track)) else { return };
        if !self.measures || at < received.since {
            return;
        }
        received.delivered += 1;
        self.hops_max = self.hops_max.max(media.hops);
        self.delays.entry(track).or_default().record((now - at).as_micros() as u64);
    }

    /// Nobody receives the track there any more: what has not come is missed.
    fn close(&mut self, key: (NodeId, NodeId, MediaTrack)) {
        let Some(received) = self.receives.remove(&key) else { return };
        if !self.measures {
            return;
        }
        let published = self.published.get(&(key.1, key.2)).copied().unwrap_or(0);
        let expected = published.saturating_sub(received.before);
        self.expected += expected;
        self.delivered += received.delivered.min(expected);
        self.again += received.delivered.saturating_sub(expected);
    }

    /// What it all comes to.
    pub(super) fn report(&mut self, mode: &'static str, relays: u64) -> MediaReport {
        let open: Vec<_> = self.receives.keys().copied().collect();
        open.into_iter().for_each(|key| self.close(key));
        let delay = |track| {
            let delays = self.delays.get(&track);
            let millis = |quantile: fn(&Histogram) -> Option<u64>| {
                delays.and_then(quantile).map_or(0.0, |micros| micros as f64 * 1e-3)
            };
            DelayMs { p50: millis(Histogram::p50), p99: millis(Histogram::p99), max: millis(Histogram::max) }
        };
        self.failovers.sort();
        let failover = |percent: usize| {
            let place = (self.failovers.len() * percent / 100).min(self.failovers.len().saturating_sub(1));
            self.failovers.get(place).map_or(0.0, |after| after.as_secs_f64() * 1e3)
        };
        MediaReport {
            delay_ms: MediaDelays {
                audio: delay(MediaTrack::Audio),
                thumbnail: delay(MediaTrack::Thumbnail),
                video: delay(MediaTrack::Video),
            },
            delivered: if self.expected == 0 { 1.0 } else { self.delivered as f64 / self.expected as f64 },
            frames_expected: self.expected,
            hops_max: self.hops_max,
            mode,
            relays,
            failovers: self.failovers.len() as u64,
            failover_ms: FailoverMs { p50: failover(50), p95: failover(95) },
        }
    }
}
