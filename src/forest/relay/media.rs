//! Media in and out: publishing, passing on, delivering.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use super::repair::first_of_stripe;
use super::{Relay, RelayAction, Track, bit};
use crate::forest::track::Inserted;
use crate::io::Class;
use crate::time::Instant;
use crate::wire::{
    CHUNK_HEADER_BYTES_MAX, Chunk, ForestMessage, FrameReader, FrameWriter, Message, TRACKS, WirePeer,
};

/// A media frame for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaFrame {
    /// Kind and layer.
    pub track: u8,
    /// Its place among the frames of the track.
    pub sequence: u64,
    /// Whether it stands alone.
    pub keyframe: bool,
    /// When it was captured, in local time.
    pub captured: Instant,
    /// Links that it crossed, over the longest way.
    pub hops: u8,
    /// Its bytes.
    pub payload: Bytes,
}

/// A media frame to be published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// Kind and layer, below 64.
    pub track: u8,
    /// Whether it stands alone.
    pub keyframe: bool,
    /// When it was captured.
    pub captured: Instant,
    /// How long after that it is of use, if not as long as the stream says.
    pub deadline: Option<Duration>,
    /// Its bytes.
    pub payload: Bytes,
}

/// Chunks of a frame, parity included, at most.
const CHUNKS_MAX: usize = 255;

/// A chunk that claims to be this far ahead of all others is refused.
const AHEAD_MAX: u64 = 1 << 20;

/// In a stripe, so many chunks are the beginning of a track.
const BEGINNING: u64 = 16;

/// Clocks differ by less.
const CLOCK_SLACK_MS: u64 = 5_000;

impl<P: WirePeer> Relay<P> {
    /// The greatest piece of media that fits a frame of the transport.
    pub fn chunk_bytes_max(&self) -> usize {
        self.config.frame_bytes_max.saturating_sub(CHUNK_HEADER_BYTES_MAX).max(1)
    }

    /// The greatest frame that can be published.
    pub fn media_bytes_max(&self) -> usize {
        let parity = usize::from(self.redundancy_percent.max(100));
        self.chunk_bytes_max() * (CHUNKS_MAX * 100 / parity)
    }

    /// Sends a frame to everybody. It must not be larger than [`Self::media_bytes_max`]. Returns its sequence.
    pub fn publish(&mut self, publish: Publish, now: Instant, actions: &mut Vec<RelayAction<P>>) -> u64 {
        let Some(facts) = self.facts else { return 0 };
        let bytes_max = self.config.retained_bytes_max;
        let chunk_max = self.chunk_bytes_max();
        let offset_ms = self.stream_us(publish.captured) / 1_000;
        let track = self.tracks.entry(publish.track).or_insert_with(|| Track::new(bytes_max));
        let sequence = track.next_sequence;
        track.next_sequence += 1;
        // Capture times of a track rise, so that their order tells the order of frames.
        let captured_ms = u32::try_from(offset_ms).unwrap_or(u32::MAX).max(track.newest_captured_ms);
        track.newest_captured_ms = captured_ms;
        let first = track.log.end();
        let count = publish.payload.len().div_ceil(chunk_max).clamp(1, CHUNKS_MAX);
        let size = publish.payload.len().div_ceil(count).max(1);
        let bodies: Vec<Bytes> = (0..count)
            .map(|index| {
                let len = publish.payload.len();
                publish.payload.slice((index * size).min(len)..((index + 1) * size).min(len))
            })
            .collect();
        let parity = self.parity_of(&bodies);
        let head = Chunk {
            epoch: facts.epoch.0 as u8,
            track: publish.track,
            number: first,
            index: 0,
            data: count as u8,
            parity: parity.len() as u8,
            reed_solomon: false,
            keyframe: publish.keyframe,
            sequence,
            captured_ms,
            deadline_ms: publish.deadline.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX)),
            seal: Bytes::new(),
            body: Bytes::new(),
        };
        self.note_published(publish.payload.len(), now);
        for (index, body) in bodies.into_iter().chain(parity).enumerate() {
            let chunk = Chunk { number: first + index as u64, index: index as u8, body, ..head.clone() };
            let frame = self.encode(&chunk);
            self.keep(&chunk, frame.clone(), facts.deadline);
            self.pass_on(&chunk, &frame, None, now, actions);
        }
        if let Some(track) = self.tracks.get_mut(&publish.track) {
            track.log.skip_delivery();
        }
        sequence
    }

    fn note_published(&mut self, bytes: usize, now: Instant) {
        let gap_us = u32::try_from((now - self.sent_at).as_micros()).unwrap_or(u32::MAX).min(2_000_000);
        self.publish_gap_us = self.publish_gap_us - self.publish_gap_us / 8 + gap_us / 8;
        self.sent_at = now;
        self.stats.frames_published += 1;
        self.stats.bytes_published += bytes as u64;
        if self.check_at.is_none() {
            self.check_soon(now);
        }
    }

    fn parity_of(&mut self, _bodies: &[Bytes]) -> Vec<Bytes> {
        Vec::new()
    }

    fn encode(&self, chunk: &Chunk) -> Bytes {
        let mut writer = FrameWriter::new(CHUNK_HEADER_BYTES_MAX + chunk.seal.len() + chunk.body.len());
        writer.push(self.swarm.tag(), &Message::<P>::Forest(ForestMessage::Chunk(chunk.clone())), Instant::ZERO);
        writer.finish()
    }

    fn keep(&mut self, chunk: &Chunk, frame: Bytes, deadline: Duration) -> Inserted {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let bytes_max = self.config.retained_bytes_max;
        let keyframes_only = self.wants.tracks & bit(chunk.track) == 0;
        let track = self.tracks.entry(chunk.track).or_insert_with(|| {
            let mut track = Track::new(bytes_max);
            track.log.keyframes_only = keyframes_only;
            track
        });
        track.log.insert(chunk, frame, deadline_ms)
    }

    pub(super) fn on_chunk(
        &mut self,
        from: P,
        chunk: Chunk,
        frame: Option<&Bytes>,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let Some(facts) = self.facts else { return };
        self.stats.chunks_received += 1;
        let known = self.stripes.iter().any(|stripe| stripe.parent == Some(from))
            || self.stripes.iter().any(|stripe| stripe.candidate.is_some_and(|candidate| candidate.peer == from));
        let ahead_ms = u64::from(chunk.captured_ms) > self.stream_ms(now) + CLOCK_SLACK_MS;
        let end = self.tracks.get(&chunk.track).map_or(chunk.number, |track| track.log.end());
        let ahead = chunk.number > end.saturating_add(AHEAD_MAX);
        if !known || chunk.epoch != facts.epoch.0 as u8 || self.is_source() || ahead_ms || ahead {
            self.stats.chunks_refused += 1;
            return;
        }
        let index = self.stripe_of(chunk.number);
        if self.stripes[index].parent == Some(from) {
            self.heard_from_parent(index, &chunk, now, actions);
        }
        let encoded = frame.cloned().unwrap_or_else(|| self.encode(&chunk));
        match self.keep(&chunk, encoded.clone(), facts.deadline) {
            Inserted::New => {}
            Inserted::Duplicate => {
                self.stats.chunks_duplicate += 1;
                return;
            }
            Inserted::TooOld => {
                self.stats.chunks_refused += 1;
                self.found(chunk.track, chunk.number);
                return;
            }
            Inserted::Contradiction => {
                self.stats.chunks_refused += 1;
                self.found(chunk.track, chunk.number);
                actions.push(RelayAction::Misbehaved(from));
                return;
            }
        }
        match self.found(chunk.track, chunk.number) {
            Some(missing) if missing.history => self.stats.chunks_caught_up += 1,
            Some(_) => self.stats.chunks_repaired += 1,
            None => {}
        }
        self.pass_on(&chunk, &encoded, Some(from), now, actions);
        self.deliver(chunk.track, now, actions);
        if self.expire_at.is_none() {
            self.expire_soon();
        }
    }

    /// The parent of a stripe sent its next chunk: what it left out is missed.
    fn heard_from_parent(&mut self, index: usize, chunk: &Chunk, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let stripes = self.stripes.len() as u64;
        let asked_for = self.missing.contains_key(&(chunk.track, chunk.number));
        let stripe = &mut self.stripes[index];
        stripe.note_heard(now);
        if !asked_for {
            self.note_delay(index, chunk.captured_ms, now);
        }
        let stripe = &mut self.stripes[index];
        if let Some(parent) = stripe.lost {
            // It was only slow: nobody needs to take its place.
            stripe.lost = None;
            stripe.tried.retain(|peer| *peer != parent);
            if let Some(candidate) = stripe.candidate.take_if(|candidate| !candidate.planned) {
                self.send(candidate.peer, ForestMessage::Detach { stripes: 1 << index }, actions);
            }
        }
        if self.check_at.is_none() {
            self.check_soon(now);
        }
        let stripe = &mut self.stripes[index];
        let next = match stripe.edge(chunk.track) {
            Some(next) => *next,
            // A track that begins now: what came before this chunk was lost on the way.
            None if chunk.number < BEGINNING * stripes => index as u64,
            None => chunk.number,
        };
        if chunk.number < next || asked_for {
            return;
        }
        stripe.set_edge(chunk.track, chunk.number + stripes);
        // Of a track of which only keyframes are wanted, gaps are no news.
        if chunk.number == next || !self.subtree_wants(index, chunk.track) {
            return;
        }
        let from = next.max(first_of_stripe(chunk.number.saturating_sub(512 * stripes), index as u64, stripes));
        for number in (from..chunk.number).step_by(stripes as usize) {
            self.miss(chunk.track, number, false, now);
        }
    }

    pub(super) fn subtree_wants(&self, index: usize, track: u8) -> bool {
        let children = self.stripes[index].children.iter().map(|child| child.interest);
        children.fold(self.wants, super::Interest::union).tracks & bit(track) != 0
    }

    /// Sends a chunk to the children that want it.
    fn pass_on(
        &mut self,
        chunk: &Chunk,
        frame: &Bytes,
        from: Option<P>,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let index = self.stripe_of(chunk.number);
        let waiting = if self.owed.is_empty() {
            None
        } else {
            self.owed.remove(&(chunk.track, chunk.number))
        };
        let deadline_ms = self.facts.map_or(0, |facts| facts.deadline.as_millis() as u64);
        let use_by_ms = u64::from(chunk.captured_ms) + chunk.deadline_ms.map_or(deadline_ms, u64::from);
        let deadline = self.local_time(use_by_ms);
        let class = class_of(chunk);
        let Some(stripe) = self.stripes.get(index) else { return };
        let mut forwarded = 0;
        for child in &stripe.children {
            let begins = child.from.iter().find(|(track, _)| *track == chunk.track).map_or(0, |(_, from)| *from);
            let pushed = chunk.number >= begins && child.interest.covers(chunk.track, chunk.keyframe);
            let owed = waiting.as_ref().is_some_and(|waiting| waiting.contains(&child.peer));
            if (pushed || owed) && Some(child.peer) != from && deadline > now {
                forwarded += 1;
                actions.push(RelayAction::Pass { to: child.peer, frame: frame.clone(), class, deadline });
            }
        }
        for &peer in waiting.iter().flatten() {
            let is_child = stripe.children.iter().any(|child| child.peer == peer);
            if !is_child && Some(peer) != from {
                forwarded += 1;
                let class = if chunk.keyframe { Class::High } else { Class::Background };
                actions.push(RelayAction::Pass { to: peer, frame: frame.clone(), class, deadline: Instant::MAX });
            }
        }
        self.stats.chunks_forwarded += forwarded;
    }

    /// Hands complete frames to the application.
    fn deliver(&mut self, id: u8, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if !self.wants.covers(id, true) {
            return;
        }
        let in_order = self.config.in_order;
        let hops = self.stripes.iter().map(|stripe| stripe.path.len()).max().unwrap_or(0);
        loop {
            let Some(track) = self.tracks.get_mut(&id) else { return };
            let Some(ready) = track.log.next_ready(in_order) else { return };
            let captured = self.local_time(ready.captured_ms.into());
            let payload = self.join(&ready.chunks);
            self.stats.frames_delivered += 1;
            self.stats.bytes_delivered += payload.len() as u64;
            let age = now - captured;
            let late = age.as_millis() > u128::from(ready.deadline_ms / 2);
            self.stats.frames_late += u64::from(late);
            self.note_frame(id, !late);
            self.note_stall(captured, now);
            actions.push(RelayAction::Deliver(MediaFrame {
                track: id,
                sequence: ready.sequence,
                keyframe: ready.keyframe,
                captured,
                hops: u8::try_from(hops).unwrap_or(u8::MAX),
                payload,
            }));
        }
    }

    /// A frame that comes later after the one before than it was captured after it, by more than a quarter of a second,
    /// is a stall to a viewer without a buffer to speak of.
    fn note_stall(&mut self, captured: Instant, now: Instant) {
        if let Some((delivered, before)) = self.last_delivery {
            let behind = (now - delivered).saturating_sub(captured - before);
            if behind > STALL {
                self.stats.stalls += 1;
                self.stats.stalled_us += behind.as_micros() as u64;
            }
        }
        self.last_delivery = Some((now, captured));
    }

    /// The payload in the frames of its chunks.
    fn join(&self, frames: &[Bytes]) -> Bytes {
        if let [frame] = frames {
            return body_of::<P>(frame).unwrap_or_default();
        }
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let mut payload = BytesMut::with_capacity(bytes);
        for frame in frames {
            payload.extend_from_slice(&body_of::<P>(frame).unwrap_or_default());
        }
        payload.freeze()
    }

    /// Gives up frames whose time has passed.
    pub(super) fn expire(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let now_ms = self.stream_ms(now);
        let ids: Vec<u8> = self.tracks.keys().copied().collect();
        for id in ids {
            if !self.wants.covers(id, true) {
                continue;
            }
            let mut lagged: Vec<Range<u64>> = core::mem::take(&mut self.lagged);
            if let Some(track) = self.tracks.get_mut(&id) {
                track.log.expire(now_ms, &mut lagged);
            }
            for sequences in lagged.drain(..) {
                self.stats.frames_lagged += sequences.end - sequences.start;
                self.note_frame(id, false);
                actions.push(RelayAction::Lagged { track: id, sequences });
            }
            self.lagged = lagged;
            self.deliver(id, now, actions);
        }
        self.expire_soon();
    }

    fn expire_soon(&mut self) {
        let next = self.tracks.values().filter_map(|track| track.log.next_use_by_ms()).min();
        self.expire_at = next.map(|at| self.local_time(at + 1));
    }

    /// Asks for a keyframe: upwards at a viewer, of the application at the source.
    pub fn want_keyframe(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let newest = self.tracks.values().filter_map(|track| track.log.newest_keyframe_ms()).max();
        let fresh = newest.is_some_and(|at| {
            self.stream_ms(now) < u64::from(at) + self.config.keyframe_interval.as_millis() as u64 / 2
        });
        let asked = self.asked_keyframe.is_some_and(|at| now - at < self.config.keyframe_interval);
        if asked || self.is_source() && fresh {
            return;
        }
        self.asked_keyframe = Some(now);
        self.stats.keyframe_requests += 1;
        if self.is_source() {
            actions.push(RelayAction::KeyframeWanted);
        } else if let Some(to) = self.stripes.iter().find_map(|stripe| stripe.parent) {
            self.send(to, ForestMessage::KeyframeWanted { tracks: self.wants.tracks }, actions);
        }
    }

    pub(super) fn on_keyframe_wanted(&mut self, from: P, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if self.stripes.iter().any(|stripe| stripe.children.iter().any(|child| child.peer == from)) {
            self.want_keyframe(now, actions);
        }
    }
}

/// A gap in the flow of frames that a viewer sees.
const STALL: Duration = Duration::from_millis(250);

/// Sound first, then keyframes, then the rest.
fn class_of(chunk: &Chunk) -> Class {
    const AUDIO: u8 = 2;
    debug_assert!(chunk.track < TRACKS, "the reader lets no other through");
    if chunk.track >> 3 == AUDIO {
        Class::Urgent
    } else if chunk.keyframe {
        Class::High
    } else {
        Class::Normal
    }
}

/// The piece of media in a frame that a relay keeps.
fn body_of<P: WirePeer>(frame: &Bytes) -> Option<Bytes> {
    let mut reader = FrameReader::new(frame, Instant::ZERO).ok()?;
    match reader.next::<P>()? {
        Ok((_, Message::Forest(ForestMessage::Chunk(chunk)))) => Some(chunk.body),
        _ => None,
    }
}
