//! Asking for keyframes: many viewers ask, the application hears of it once.

use alloc::vec::Vec;
use core::time::Duration;

use super::repair::first_of_stripe;
use super::{Relay, RelayAction, Track, bit};
use crate::time::Instant;
use crate::wire::{Chunk, ForestMessage, WirePeer};

/// How long a newcomer waits for the running group before it asks for a keyframe.
pub(super) const PICTURE_PATIENCE: Duration = Duration::from_millis(400);

/// How often the streams of a group may be asked for keyframes: newcomers begin with one, and do not fetch what was before.
pub(super) const INTERVAL_SHARED: Duration = Duration::from_millis(400);

/// How long the rest of a first picture may take.
const PICTURE_TIME: Duration = Duration::from_millis(150);

/// So many chunks of a stripe, at most, are asked for between a first picture and the present.
const SINCE_START_MAX: u64 = 64;

impl<P: WirePeer> Relay<P> {
    /// Nobody could give the running group so far: the next keyframe will do as well.
    pub(super) fn want_first_picture(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let waits = |(id, track): (&u8, &Track<P>)| {
            (track.chases || self.is_shared())
                && !track.log.has_started()
                && self.wants.tracks & bit(*id) != 0
        };
        let waits = self.tracks.iter().map(|(id, track)| (id, &**track)).any(waits);
        self.picture_at = waits.then(|| now + self.config.keyframe_interval);
        if waits {
            self.want_keyframe(now, actions);
        }
    }

    /// In a group: the first picture begins to come. What is not here soon was lost, or left before this node was fed: it is asked
    /// for, lest everybody gets another keyframe.
    pub(super) fn expect_picture(&mut self, chunk: &Chunk, now: Instant) {
        let has_started = self.tracks.get(&chunk.track).is_some_and(|track| track.log.has_started());
        if !self.is_shared() || !chunk.keyframe || has_started || self.wants.tracks & bit(chunk.track) == 0 {
            return;
        }
        let first = chunk.number - u64::from(chunk.index);
        for number in first..first + u64::from(chunk.data) {
            if number != chunk.number {
                self.miss_from(chunk.track, number, false, now + PICTURE_TIME);
            }
        }
    }

    /// In a group nobody fetches what came before it was fed. Once it has the first picture it lacks what followed in stripes that it
    /// was not fed in yet, up to `end`.
    pub(super) fn miss_since_start(&mut self, id: u8, index: usize, end: u64, at: Instant) {
        let Some(track) = self.tracks.get(&id).filter(|_| self.is_shared()) else { return };
        let Some(start) = track.start.filter(|_| !track.chases && self.subtree_wants(index, id)) else {
            return;
        };
        let stripes = self.stripes.len() as u64;
        let from = start.max(end.saturating_sub(SINCE_START_MAX * stripes));
        for number in (first_of_stripe(from, index as u64, stripes)..end).step_by(stripes as usize) {
            self.miss_from(id, number, false, at);
        }
    }

    /// Asks for a keyframe: upwards at a viewer, of the application at the source. Nothing happens if one was asked for less
    /// than [`RelayConfig::keyframe_interval`](super::RelayConfig::keyframe_interval) ago, or if the source has just published
    /// one.
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
