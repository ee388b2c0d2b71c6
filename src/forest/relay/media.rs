//! Media in and out: publishing, passing on, delivering.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::repair::{HISTORY_WINDOW_MAX, first_of_stripe};
use super::seals::{Sealing, header_of, pieces};
use super::{Relay, RelayAction, Track, bit};
use crate::authority::CHUNK_HASH_BYTES;
use crate::authority::Signature;
use crate::forest::parity::{self, PARITY_EXTRA_BYTES_MAX, Scheme};
use crate::forest::track::{Inserted, Rebuildable};
use crate::io::Class;
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{
    CHUNK_HEADER_BYTES_MAX, Chunk, ForestMessage, FrameReader, FrameWriter, Message, PARITY_MAX, TRACKS,
    WirePeer, chunk_bytes,
};

/// A media frame for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaFrame {
    /// Kind and layer, as the lower six bits of the states of [`LivestreamTracks`](crate::LivestreamTracks) have them.
    pub track: u8,
    /// Its place among the frames of the track, from 0.
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
    /// Kind and layer, below 64, as the lower six bits of the states of [`LivestreamTracks`](crate::LivestreamTracks) have
    /// them.
    pub track: u8,
    /// Whether it stands alone.
    pub keyframe: bool,
    /// When it was captured, in local time. One before the newest of the track counts as that.
    pub captured: Instant,
    /// How long after that it is of use, if not as long as the stream says.
    pub deadline: Option<Duration>,
    /// Its bytes.
    pub payload: Bytes,
}

/// Chunks of a frame, parity included, at most.
const CHUNKS_MAX: usize = 255;

/// Parity that could not be sent yet is not owed for ever.
const PARITY_DEBT_MAX: u32 = 6_300;

/// A seal without its hashes: length of the payload, number of hashes, signature.
const SEAL_BYTES_MAX: usize = 5 + 1 + 1 + Signature::BYTES_MAX;

/// The length of a piece of a seal.
const SEAL_LENGTH_BYTES: usize = 2;

/// Where each frame has parity of its own: a frame is cut into so many pieces, but not smaller ones.
const PIECES_FINE: usize = 8;
const PIECE_BYTES_MIN: usize = 500;

/// What a former parent has sent comes within this time.
const HANDED_OVER: Duration = Duration::from_millis(300);

/// Forgers remembered, at most.
const BANNED_MAX: usize = 32;

/// How often the planner is told about one of them.
const ACCUSED_AGAIN: Duration = Duration::from_millis(250);

/// A chunk that claims to be this far ahead of all others is refused.
const AHEAD_MAX: u64 = 1 << 20;

/// In a stripe, so many chunks are the beginning of a track.
const BEGINNING: u64 = 16;

/// Clocks differ by less.
const CLOCK_SLACK_MS: u64 = 5_000;

impl<P: WirePeer> Relay<P> {
    /// The greatest piece of media that fits a frame of the transport, in bytes.
    pub fn chunk_bytes_max(&self) -> usize {
        self.config.frame_bytes_max.saturating_sub(CHUNK_HEADER_BYTES_MAX).max(1)
    }

    /// The greatest frame that can be published, in bytes: 255 chunks, less what parity and seals take.
    pub fn media_bytes_max(&self) -> usize {
        let percent = usize::from(self.redundancy_percent.max(100));
        let mut room = self.chunk_bytes_max();
        if percent > 100 {
            room -= PARITY_EXTRA_BYTES_MAX;
        }
        let count = CHUNKS_MAX * 100 / percent;
        if self.seals.is_none() {
            return room * count;
        }
        let seal = SEAL_BYTES_MAX + CHUNK_HASH_BYTES * (CHUNKS_MAX + 1);
        let pieces = seal.div_ceil(self.seal_piece_max());
        let whole = seal.div_ceil(pieces) + 1 + SEAL_LENGTH_BYTES;
        if percent > 100 { count * (room - whole) } else { count * room - pieces * whole }
    }

    /// Sends a frame to everybody. Only for the source; the frame must not be larger than [`Self::media_bytes_max`]. Returns its
    /// sequence.
    pub fn publish(&mut self, publish: Publish, now: Instant, actions: &mut Vec<RelayAction<P>>) -> u64 {
        let Some(facts) = self.facts else { return 0 };
        let bytes_max = self.config.retained_bytes_max;
        let offset_ms = self.stream_us(publish.captured) / 1_000;
        let bodies = self.cut(&publish.payload);
        let is_protected = !self.is_shared() || bodies.len() == 1 || self.is_idle() && !publish.keyframe;
        let scheme = if Scheme::ReedSolomon.is_available() { Scheme::ReedSolomon } else { Scheme::Xor };
        let parity = if is_protected { self.parity_of(scheme, &bodies) } else { Vec::new() };
        // Small messages share a frame of the transport: the copy of a small frame leaves with the next one, or both were lost.
        let held_from = if self.is_shared() && bodies.len() == 1 { 1 } else { usize::MAX };
        for (chunk, frame) in core::mem::take(&mut self.held_back) {
            self.pass_on(&chunk, &frame, None, Late::No, now, actions);
        }
        let track = self.tracks.entry(publish.track).or_insert_with(|| Track::new(bytes_max));
        let sequence = track.next_sequence;
        track.next_sequence += 1;
        // Capture times of a track rise, so that their order tells the order of frames.
        let captured_ms = u32::try_from(offset_ms).unwrap_or(u32::MAX).max(track.newest_captured_ms);
        track.newest_captured_ms = captured_ms;
        let first = track.log.end();
        let head = Chunk {
            epoch: facts.epoch.0 as u8,
            track: publish.track,
            number: first,
            index: 0,
            data: bodies.len() as u8,
            parity: parity.len() as u8,
            reed_solomon: scheme == Scheme::ReedSolomon && !parity.is_empty(),
            keyframe: publish.keyframe,
            sequence,
            captured_ms,
            deadline_ms: publish.deadline.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX)),
            seal: Bytes::new(),
            body: Bytes::new(),
        };
        self.note_published(publish.payload.len(), now);
        let bodies: Vec<Bytes> = bodies.into_iter().chain(parity).collect();
        let mut seal = self.seal(&head, &bodies, publish.payload.len()).into_iter();
        let begin = actions.len();
        let mut stripes = Vec::new();
        for (index, body) in bodies.into_iter().enumerate() {
            let seal = seal.next().unwrap_or_default();
            let chunk =
                Chunk { number: first + index as u64, index: index as u8, seal, body, ..head.clone() };
            let frame = self.encode(&chunk);
            self.keep(&chunk, frame.clone(), facts.deadline);
            if index < held_from {
                self.pass_on(&chunk, &frame, None, Late::No, now, actions);
                if self.is_shared() {
                    stripes.resize(actions.len() - begin, self.stripe_of(chunk.number));
                }
            } else {
                self.held_back.push((chunk, frame));
            }
        }
        if self.is_shared() && head.data > 1 {
            self.order_copies(actions, begin, &stripes);
        }
        if let Some(track) = self.tracks.get_mut(&publish.track) {
            track.log.skip_delivery();
        }
        self.trim(publish.track, now);
        sequence
    }

    /// Cuts a payload into pieces of equal size, but for the last; and but for those that share their room with the
    /// seal, where no parity needs them equal.
    fn cut(&self, payload: &Bytes) -> Vec<Bytes> {
        let parity = self.redundancy_percent > 100;
        let room = self.chunk_bytes_max() - if parity { PARITY_EXTRA_BYTES_MAX } else { 0 };
        let (len, piece) = (payload.len(), self.seal_piece_max());
        // With smaller pieces parity costs less than their headers.
        let finest = if parity && self.is_shared() { (len / PIECE_BYTES_MIN).min(PIECES_FINE) } else { 0 };
        let mut count = len.div_ceil(room).max(finest).clamp(1, CHUNKS_MAX);
        let (mut sealed, mut whole) = (0, 0);
        while self.seals.is_some() {
            // Each chunk more makes the seal longer.
            let seal =
                SEAL_BYTES_MAX + CHUNK_HASH_BYTES * (count * usize::from(self.redundancy_percent) / 100 + 1);
            sealed = seal.div_ceil(piece);
            whole = seal.div_ceil(sealed) + 1 + SEAL_LENGTH_BYTES;
            let capacity = if parity { count * (room - whole) } else { count * room - sealed * whole };
            if sealed <= count && capacity >= len || count >= CHUNKS_MAX {
                break;
            }
            count += 1;
        }
        let room = if parity { room - whole } else { room };
        let even = (len + if parity { 0 } else { sealed * whole }).div_ceil(count).clamp(1, room);
        let mut pieces = Vec::with_capacity(count);
        let mut at = 0;
        for index in 0..count {
            let size = if index < sealed && !parity { even.saturating_sub(whole) } else { even };
            let end = if index + 1 == count { len } else { (at + size).min(len) };
            pieces.push(payload.slice(at..end));
            at = end;
        }
        pieces
    }

    /// What a piece of a seal may take of a chunk.
    fn seal_piece_max(&self) -> usize {
        self.chunk_bytes_max() / 2
    }

    fn seal(&mut self, head: &Chunk, bodies: &[Bytes], payload_bytes: usize) -> Vec<Bytes> {
        let (Some(seals), Some(facts)) = (&mut self.seals, &self.facts) else { return Vec::new() };
        let deadline_ms = u32::try_from(facts.deadline.as_millis()).unwrap_or(u32::MAX);
        let payload_bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        let header = header_of(head, facts.epoch, payload_bytes, deadline_ms);
        let seal = seals.seal(self.swarm, &self.source, &header, bodies);
        // What the first chunk leaves free, not what was reckoned for the seal: that may be shorter and make fewer, longer
        // pieces.
        let taken = bodies.first().map_or(0, Bytes::len) + 1 + SEAL_LENGTH_BYTES;
        pieces(&seal, self.chunk_bytes_max().saturating_sub(taken))
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

    /// Parity for a frame: on average the share that the redundancy says.
    fn parity_of(&mut self, scheme: Scheme, bodies: &[Bytes]) -> Vec<Bytes> {
        let percent = u32::from(self.redundancy_percent.saturating_sub(100));
        if percent == 0 {
            return Vec::new();
        }
        self.parity_debt += bodies.len() as u32 * percent;
        let room = (CHUNKS_MAX - bodies.len()).min(PARITY_MAX.into());
        let count = ((self.parity_debt / 100) as usize).min(room).min(bodies.len());
        self.parity_debt = (self.parity_debt - count as u32 * 100).min(PARITY_DEBT_MAX);
        parity::encode(scheme, bodies, count).unwrap_or_default()
    }

    fn encode(&self, chunk: &Chunk) -> Bytes {
        let mut writer = FrameWriter::new(CHUNK_HEADER_BYTES_MAX + chunk.seal.len() + chunk.body.len());
        writer.push(
            self.swarm.tag(),
            &Message::<P>::Forest(ForestMessage::Chunk(chunk.clone())),
            Instant::ZERO,
        );
        writer.finish()
    }

    fn keep(&mut self, chunk: &Chunk, frame: Bytes, deadline: Duration) -> Inserted {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.track(chunk.track).log.insert(chunk, frame, deadline_ms)
    }

    /// What is known of a track that comes from above.
    pub(super) fn track(&mut self, id: u8) -> &mut Track<P> {
        let keyframes_only = self.wants.tracks & bit(id) == 0;
        let later = self.later & bit(id) != 0;
        let whole = self.from_beginning && self.config.in_order && !keyframes_only && !later;
        let bytes_max = self.config.retained_bytes_max;
        self.tracks.entry(id).or_insert_with(|| {
            let mut track = Track::new(bytes_max);
            track.log.keyframes_only = keyframes_only;
            track.chases = !later;
            if whole {
                track.log.begin();
                track.start = Some(0);
            }
            track
        })
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
        let index = self.stripe_of(chunk.number);
        let is_parent = self.stripes.get(index).is_some_and(|stripe| stripe.parent == Some(from));
        let known = is_parent || self.is_fed_by(from, now);
        let ahead_ms =
            self.knows_clock() && u64::from(chunk.captured_ms) > self.stream_ms(now) + CLOCK_SLACK_MS;
        let log = self.tracks.get(&chunk.track).map(|track| &track.log);
        let end = log.map_or(chunk.number, |log| log.end());
        let is_held = log.is_some_and(|log| log.holds(chunk.number));
        let ahead = chunk.number > end.saturating_add(AHEAD_MAX);
        if !known || chunk.epoch != facts.epoch.0 as u8 || self.is_source() || ahead_ms || ahead {
            self.stats.chunks_refused += 1;
            if !known && !self.is_source() {
                self.refuse_feed(from, index, now, actions);
            }
            return;
        }
        let is_candidate = self.stripes[index].candidate.is_some_and(|candidate| candidate.peer == from);
        if !is_parent && !is_candidate && !self.missing.contains_key(&(chunk.track, chunk.number)) {
            self.refuse_feed(from, index, now, actions);
        }
        if self.stripes[index].parent == Some(from) {
            self.heard_from_parent(index, &chunk, now, actions);
        }
        if is_held {
            self.stats.chunks_duplicate += 1;
            return;
        }
        let encoded = frame.cloned().unwrap_or_else(|| self.encode(&chunk));
        let Some(seals) = &mut self.seals else {
            return self.accept(from, &chunk, encoded, false, now, actions);
        };
        let deadline_ms = u32::try_from(facts.deadline.as_millis()).unwrap_or(u32::MAX);
        let origin = (&self.source, facts.epoch);
        match seals.judge(self.swarm, origin, deadline_ms, (from, &chunk, &encoded), now) {
            Sealing::Genuine => self.accept(from, &chunk, encoded, false, now, actions),
            Sealing::Proves(waited) => {
                self.accept(from, &chunk, encoded, false, now, actions);
                for (from, chunk, encoded) in waited {
                    self.judge_again(from, &chunk, encoded, now, actions);
                }
            }
            Sealing::Waits => {
                if seals.holds(chunk.track, chunk.number) {
                    self.found(chunk.track, chunk.number);
                }
            }
            Sealing::Forged => self.forged(from, &chunk, now, actions),
        }
    }

    /// Whether the peer feeds this node in any stripe, was asked to, or did until a moment ago.
    fn is_fed_by(&self, from: P, now: Instant) -> bool {
        let mut stripes = self.stripes.iter();
        stripes.any(|stripe| {
            let did = stripe.handed_over.is_some_and(|(peer, at)| peer == from && now - at < HANDED_OVER);
            did || stripe.parent == Some(from)
                || stripe.candidate.is_some_and(|candidate| candidate.peer == from)
        })
    }

    /// A chunk that waited for its seal.
    fn judge_again(
        &mut self,
        from: P,
        chunk: &Chunk,
        encoded: Bytes,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let (Some(facts), Some(seals)) = (self.facts, &mut self.seals) else { return };
        let deadline_ms = u32::try_from(facts.deadline.as_millis()).unwrap_or(u32::MAX);
        let origin = (&self.source, facts.epoch);
        match seals.judge(self.swarm, origin, deadline_ms, (from, chunk, &encoded), now) {
            Sealing::Genuine => self.accept(from, chunk, encoded, true, now, actions),
            _ => self.forged(from, chunk, now, actions),
        }
    }

    /// Whoever passes on what is not the source's has not looked, or has made it: it feeds this node no more.
    fn forged(&mut self, from: P, chunk: &Chunk, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        self.stats.forged += 1;
        actions.push(RelayAction::Forged(from));
        if from != self.source && !self.banned.contains(&from) {
            if self.banned.len() >= BANNED_MAX {
                self.banned.remove(0);
            }
            self.banned.push(from);
        }
        self.accuse(from, now, actions);
        self.miss_elsewhere(chunk.track, chunk.number, now);
        for index in 0..self.stripes.len() {
            let stripe = &mut self.stripes[index];
            if stripe.parent == Some(from) && stripe.candidate.is_none() {
                stripe.left = true;
                self.parent_failed(index, now, actions);
            }
        }
        self.flush_reports(actions);
    }

    /// The planner is told who forges, again and again as long as it is given as a parent.
    pub(super) fn accuse(&mut self, relay: P, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let is_fresh = self.accused_at.is_some_and(|at| now - at < ACCUSED_AGAIN);
        let Some(planner) = self.planner.filter(|_| relay != self.source && !is_fresh) else { return };
        self.accused_at = Some(now);
        self.send(planner, ForestMessage::Accuse { relay }, actions);
    }

    /// Keeps a chunk, passes it on, and delivers what it completes. `waited` if its seal came after it.
    fn accept(
        &mut self,
        from: P,
        chunk: &Chunk,
        encoded: Bytes,
        waited: bool,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let Some(facts) = self.facts else { return };
        match self.keep(chunk, encoded.clone(), facts.deadline) {
            Inserted::New => {}
            Inserted::Duplicate => {
                self.stats.chunks_duplicate += 1;
                return;
            }
            refused => {
                self.stats.chunks_refused += 1;
                self.found(chunk.track, chunk.number);
                if refused == Inserted::Contradiction {
                    actions.push(RelayAction::Misbehaved(from));
                }
                return;
            }
        }
        // What was only looked out for has come in time.
        let missing =
            self.found(chunk.track, chunk.number).filter(|missing| missing.history || missing.tries > 0);
        match missing {
            Some(missing) if missing.history => {
                self.stats.chunks_caught_up += 1;
                self.history_window = (self.history_window + 1).min(HISTORY_WINDOW_MAX);
            }
            Some(missing) => {
                self.stats.chunks_repaired += 1;
                if self.is_shared() {
                    self.learn_lateness(self.stripe_of(chunk.number), from, missing, now);
                }
                if missing.tries > 0 {
                    let took = now - missing.asked;
                    self.repair_time = self.repair_time - self.repair_time / 8 + took / 8;
                }
            }
            None => {}
        }
        let late = match missing {
            Some(_) => Late::Missed,
            None if waited => Late::Waited,
            None => Late::No,
        };
        self.pass_on(chunk, &encoded, Some(from), late, now, actions);
        if chunk.index == 0 {
            // As a frame comes, others have grown old.
            self.trim(chunk.track, now);
        }
        if chunk.parity > 0 {
            self.rebuild(chunk, now, actions);
        }
        self.expect_picture(chunk, now);
        // Only what completes a frame makes something ready.
        if self.tracks.get(&chunk.track).is_some_and(|track| track.log.is_settled(chunk.number)) {
            self.deliver(chunk.track, now, actions);
        }
        if self.expire_at.is_none() {
            self.expire_soon();
        }
    }

    /// Makes the data chunks of a frame that parity gives, and passes them on as if they had come.
    fn rebuild(&mut self, newest: &Chunk, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let Some(facts) = self.facts else { return };
        let Some(track) = self.tracks.get(&newest.track) else { return };
        let Some(frame) = track.log.rebuildable(newest.number) else { return };
        let scheme = scheme_of(&frame);
        let (first, data) = (frame.first, usize::from(frame.data));
        let parity = frame.chunks.len() - data;
        let has = |index: usize| frame.chunks.get(index).is_some_and(Option::is_some);
        if !parity::can_recover(scheme, data, parity, has) {
            return;
        }
        let deadline_ms = u32::try_from(facts.deadline.as_millis()).unwrap_or(u32::MAX);
        for (index, body) in parity::recover(scheme, &bodies_of(&frame), data) {
            let chunk = rebuilt_chunk(newest, first, index, body);
            let genuine = self.seals.as_ref().is_none_or(|seals| seals.approves(&chunk));
            if !genuine {
                continue;
            }
            let encoded = self.encode(&chunk);
            let log = &mut self.track(chunk.track).log;
            if log.insert_rebuilt(&chunk, encoded.clone(), deadline_ms) == Inserted::New {
                self.stats.chunks_rebuilt += 1;
                let missed = self.found(chunk.track, chunk.number).is_some();
                let late = if missed { Late::Missed } else { Late::Waited };
                self.pass_on(&chunk, &encoded, None, late, now, actions);
            }
        }
    }

    /// A chunk that was rebuilt and not kept: once more, for somebody who lacks it.
    pub(super) fn rebuild_again(&self, id: u8, number: u64) -> Option<Bytes> {
        let frame = self.tracks.get(&id)?.log.rebuildable_again(number)?;
        let whole = frame.chunks.iter().flatten().find(|chunk| !chunk.is_empty())?;
        let (_, message) = FrameReader::new(whole, Instant::ZERO).ok()?.next::<P>()?.ok()?;
        let Message::Forest(ForestMessage::Chunk(other)) = message else { return None };
        let rebuilt = parity::recover(scheme_of(&frame), &bodies_of(&frame), usize::from(frame.data));
        let (index, body) = rebuilt.into_iter().find(|&(index, _)| frame.first + index as u64 == number)?;
        Some(self.encode(&rebuilt_chunk(&other, frame.first, index, body)))
    }

    /// The parent of a stripe sent its next chunk: what it left out is missed.
    fn heard_from_parent(
        &mut self,
        index: usize,
        chunk: &Chunk,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let stripes = self.stripes.len() as u64;
        let asked_for = self.is_asked_for(chunk.track, chunk.number);
        // Not one that the application has turned on meanwhile.
        let is_new = self.later & bit(chunk.track) == 0
            && self.tracks.get(&chunk.track).is_none_or(|track| track.chases);
        let stripe = &mut self.stripes[index];
        stripe.note_heard(now);
        if !asked_for {
            self.note_delay(index, chunk.captured_ms, now);
        }
        let stripe = &mut self.stripes[index];
        if let Some(parent) = stripe.lost.filter(|_| !stripe.left) {
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
            Some(next) => next,
            // A track that begins now: what came before this chunk was lost on the way.
            None if is_new && chunk.number < BEGINNING * stripes => index as u64,
            None => {
                // The parent did not know yet where the track stands.
                let joined = self.tracks.get_mut(&chunk.track).filter(|track| track.chases);
                if let Some(track) = joined {
                    track.note_joined(index as u8, chunk.number);
                    self.chase_history(now);
                }
                self.miss_since_start(chunk.track, index, chunk.number, now);
                chunk.number
            }
        };
        let stripe = &mut self.stripes[index];
        if chunk.number < next || asked_for {
            return;
        }
        stripe.set_edge(chunk.track, chunk.number + stripes);
        if self.is_shared() {
            self.miss_passed_over(index, chunk, now);
            self.expect_rest(chunk, now);
            self.expect_next(index, chunk, now);
        }
        // Of a track of which only keyframes are wanted, gaps are no news.
        if chunk.number == next || !self.subtree_wants(index, chunk.track) {
            return;
        }
        let from =
            next.max(first_of_stripe(chunk.number.saturating_sub(512 * stripes), index as u64, stripes));
        // It may be the first chunk of its track that came.
        self.track(chunk.track);
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
        late: Late,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let index = self.stripe_of(chunk.number);
        let waiting =
            if self.owed.is_empty() { None } else { self.owed.remove(&(chunk.track, chunk.number)) };
        let deadline_ms = self.facts.map_or(0, |facts| facts.deadline.as_millis() as u64);
        let use_by_ms = u64::from(chunk.captured_ms) + chunk.deadline_ms.map_or(deadline_ms, u64::from);
        let use_by = if self.knows_clock() {
            self.local_time(use_by_ms)
        } else {
            now + Duration::from_millis(deadline_ms)
        };
        // A queue that would take longer is cut: the highest layers first, keyframes never.
        let patience =
            self.queue_time(QUEUE_TIME_MAX, 3).saturating_sub(QUEUE_TIME_LAYER * u32::from(chunk.track & 7));
        let deadline = if chunk.keyframe { use_by } else { use_by.min(now + patience) };
        // What was missed is older than all that waits, and its place in the stripe is past: nobody will miss what it overtakes.
        let class = if late == Late::Missed { Class::Urgent } else { class_of(chunk) };
        let Some(stripe) = self.stripes.get(index) else { return };
        let mut forwarded = 0;
        // Only looked at when somebody waits.
        let mut served: SmallVec<[P; 8]> = SmallVec::new();
        for child in &stripe.children {
            let pushed = chunk.number >= child.begins(chunk.track)
                && child.interest.covers(chunk.track, chunk.keyframe);
            if pushed && Some(child.peer) != from && use_by > now {
                forwarded += 1;
                let to = child.peer;
                actions.push(RelayAction::Pass { to, frame: frame.clone(), class, deadline, key: None });
                if waiting.is_some() {
                    served.push(to);
                }
            }
        }
        for &peer in waiting.iter().flatten() {
            let is_served = served.contains(&peer);
            let bears = if chunk.keyframe { !self.is_swamped() } else { !self.is_busy() };
            if !is_served && Some(peer) != from && bears {
                forwarded += 1;
                let class = if chunk.keyframe { self.picture_class() } else { Class::Background };
                let key = Some(key_of(chunk.track, chunk.number));
                let deadline = Instant::MAX;
                actions.push(RelayAction::Pass { to: peer, frame: frame.clone(), class, deadline, key });
            }
        }
        self.stats.chunks_forwarded += forwarded;
        if late != Late::No && forwarded > 0 {
            self.note_passed_late(chunk.track, chunk.number, waiting.unwrap_or_default(), now);
        }
    }
}

/// Whether a chunk is passed on later than those after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    No,
    /// It waited for its seal, or was rebuilt before it was missed.
    Waited,
    /// It was missed.
    Missed,
}

/// How long a chunk of the base layer may wait to be sent, and how much less each layer above.
const QUEUE_TIME_MAX: Duration = Duration::from_millis(300);
const QUEUE_TIME_LAYER: Duration = Duration::from_millis(40);

/// Sound before pictures. Keyframes must not overtake the frames before them: whoever got them first would miss the others.
fn class_of(chunk: &Chunk) -> Class {
    const AUDIO: u8 = 2;
    debug_assert!(chunk.track < TRACKS, "the reader lets no other through");
    if chunk.track >> 3 == AUDIO { Class::Urgent } else { Class::High }
}

fn scheme_of(frame: &Rebuildable<'_>) -> Scheme {
    if frame.reed_solomon { Scheme::ReedSolomon } else { Scheme::Xor }
}

/// What came of a frame, without the headers.
fn bodies_of(frame: &Rebuildable<'_>) -> Vec<Option<Bytes>> {
    frame.chunks.iter().map(|chunk| chunk.as_ref().and_then(chunk_body)).collect()
}

/// A chunk that parity gave, with what it has in common with another of its frame.
fn rebuilt_chunk(other: &Chunk, first: u64, index: usize, body: Bytes) -> Chunk {
    let number = first + index as u64;
    Chunk { number, index: index as u8, seal: Bytes::new(), body, ..other.clone() }
}

/// What is asked for twice while it waits leaves once.
pub(super) fn key_of(track: u8, number: u64) -> u64 {
    mix(number << 6 | u64::from(track))
}

/// The piece of media in a frame that a relay keeps: a slice of it, or a copy if the rest of the frame would be kept alive
/// for much less than itself.
pub(super) fn chunk_body(frame: &Bytes) -> Option<Bytes> {
    let body = chunk_bytes(frame)?;
    Some(if body.len() * 2 >= frame.len() { frame.slice_ref(body) } else { Bytes::copy_from_slice(body) })
}
