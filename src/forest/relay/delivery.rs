//! What reaches the application: frames in their order, and what is given up.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use super::media::chunk_body;
use super::{MediaFrame, Relay, RelayAction};
use crate::time::Instant;
use crate::wire::{WirePeer, chunk_bytes};

/// A gap in the flow of frames that a viewer sees.
const STALL: Duration = Duration::from_millis(250);

/// Who has just come is sure to have its first picture after this time.
const FETCH: Duration = Duration::from_millis(500);

/// Frames are kept whole for so long, and at least for a quarter of the deadline: then only what others get from here is.
const WHOLE: Duration = Duration::from_millis(750);

/// Nothing is given up before the source's clock is known, which is looked at this often.
const CLOCK_WAIT: Duration = Duration::from_millis(100);

impl<P: WirePeer> Relay<P> {
    /// Hands complete frames to the application.
    pub(super) fn deliver(&mut self, id: u8, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if !self.wants.covers(id, true) {
            return;
        }
        let in_order = self.config.in_order;
        loop {
            let Some(track) = self.tracks.get_mut(&id) else { return };
            let Some(ready) = track.log.next_ready(in_order) else { return };
            let hops = self.stripes.iter().map(|stripe| stripe.path.len()).max().unwrap_or(0);
            if ready.is_first {
                // Stripes that are joined from now on are asked for what came since.
                track.start = Some(ready.first);
                self.forget_history(id, ready.first);
                self.chase_history(now);
                for index in 0..self.stripes.len() {
                    if let Some(edge) = self.stripes[index].edge(id) {
                        self.miss_since_start(id, index, edge, now);
                    }
                }
            }
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
            return chunk_body(frame).unwrap_or_default();
        }
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let mut payload = BytesMut::with_capacity(bytes);
        for frame in frames {
            payload.extend_from_slice(chunk_bytes(frame).unwrap_or_default());
        }
        payload.freeze()
    }

    /// Gives up frames whose time has passed.
    pub(super) fn expire(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if !self.knows_clock() {
            self.expire_at = Some(now + CLOCK_WAIT);
            return;
        }
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

    pub(super) fn expire_soon(&mut self) {
        let next = self.tracks.values().filter_map(|track| track.log.next_use_by_ms()).min();
        self.expire_at = next.map(|at| self.local_time(at + 1));
    }

    /// Lets go of frames that neither repair nor late joiners need any more: of those, some are still fetching the group
    /// before.
    pub(super) fn trim(&mut self, id: u8, now: Instant) {
        let deadline = self.facts.map_or(Duration::ZERO, |facts| facts.deadline);
        let keep = deadline + FETCH;
        let now_ms = self.stream_ms(now);
        let stripes = self.stripes.len().max(1) as u64;
        let passed_on = self.passed_on();
        let Some(track) = self.tracks.get_mut(&id) else { return };
        track.log.trim(now_ms.saturating_sub(keep.as_millis() as u64));
        if let Some(passed_on) = passed_on {
            let whole = WHOLE.max(deadline / 4).as_millis() as u64;
            track.log.thin(now_ms.saturating_sub(whole), |number| passed_on >> (number % stripes) & 1 == 1);
        }
    }

    /// The stripes of which others get what is old from here: those that this node passes on, or is to. `None`: all.
    fn passed_on(&self) -> Option<u16> {
        if self.is_source() || self.is_shared() || !self.knows_clock() {
            return None;
        }
        let planned = self.passes_on.map_or(0, |stripe| 1 << stripe);
        let fed = self.stripes.iter().enumerate().filter(|(_, stripe)| !stripe.children.is_empty());
        Some(fed.fold(planned, |all, (index, _)| all | 1 << index))
    }
}
