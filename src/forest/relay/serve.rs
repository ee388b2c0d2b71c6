//! What others ask for: chunks that they lack.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::media::key_of;
use super::repair::WANTED_MAX;
use super::{PassedLate, Relay, RelayAction};
use crate::io::Class;
use crate::log::RangeSet;
use crate::propagation::bucket::Bucket;
use crate::time::Instant;
use crate::wire::{ForestMessage, WirePeer};

/// Chunks that others wait for while this node waits for them itself, at most.
const OWED_MAX: usize = 4_096;

/// A request that was sent before the chunk came takes less than this, and of so many chunks it is known.
const PASSED_LATE_TIME: Duration = Duration::from_millis(150);
const PASSED_LATE_MAX: usize = 64;

/// What a peer may ask for at a time: three times the stream for so long, or so many bytes.
const SERVE_BURST: Duration = Duration::from_millis(250);
const SERVE_BURST_BYTES_MIN: u64 = 96 * 1_500;

impl<P: WirePeer> Relay<P> {
    pub(super) fn on_want(
        &mut self,
        from: P,
        history: bool,
        tracks: &[(u8, RangeSet)],
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        self.stats.wants_received += 1;
        let is_child =
            self.stripes.iter().any(|stripe| stripe.children.iter().any(|child| child.peer == from));
        if !is_child {
            // It missed our farewell, or never asked properly.
            self.send(from, ForestMessage::Detach { stripes: u16::MAX }, actions);
            return;
        }
        let mut gone: Vec<(u8, RangeSet)> = Vec::new();
        let mut left = WANTED_MAX;
        for (id, ranges) in tracks {
            for range in ranges.iter() {
                for number in range.start..range.end.min(range.start.saturating_add(left)) {
                    left -= 1;
                    self.serve(from, *id, number, history, &mut gone, now, actions);
                }
            }
        }
        if !gone.is_empty() {
            self.send(from, ForestMessage::Gone { tracks: gone }, actions);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one chunk of one request")]
    fn serve(
        &mut self,
        to: P,
        id: u8,
        number: u64,
        history: bool,
        gone: &mut Vec<(u8, RangeSet)>,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        let held = self.tracks.get(&id).and_then(|track| track.log.get(number));
        let Some((bytes, here)) = held.map(|held| (held.bytes(), held.here().cloned())) else {
            let key = (id, number);
            let sealed = self.seals.as_ref().is_some_and(|seals| seals.holds(id, number));
            let coming = sealed || self.missing.contains_key(&key) || self.history.contains(&key);
            self.stats.chunks_unserved += 1;
            let known = self.tracks.get(&id).is_some_and(|track| number >= track.log.end());
            let edge = self.stripes.get(self.stripe_of(number)).and_then(|stripe| stripe.edge(id));
            let coming = coming || edge.is_some_and(|edge| number >= edge);
            // Whoever is fed by another asks that one next, and has it sooner than from here.
            let stripe = self.stripes.get(self.stripe_of(number));
            let is_fed = stripe.is_some_and(|stripe| stripe.children.iter().any(|child| child.peer == to));
            let (coming, known) = if self.is_shared() && !is_fed { (false, false) } else { (coming, known) };
            if coming && (self.owed.len() < OWED_MAX || self.owed.contains_key(&key)) {
                let waiting = self.owed.entry(key).or_insert_with(|| smallvec![]);
                if waiting.len() < 8 && !waiting.contains(&to) {
                    waiting.push(to);
                }
            } else if !known {
                note_gone(gone, id, number);
            }
            return;
        };
        let keyframe = self.tracks.get(&id).is_some_and(|track| track.log.is_keyframe(number));
        if !history && self.is_under_way(to, id, number, now) {
            return;
        }
        // Whoever waits for his first picture is not kept waiting by what others have to spare.
        let is_picture = history && keyframe && self.picture_class() == Class::Urgent;
        let bears = is_picture || !(history && !keyframe && self.is_busy() || self.is_swamped());
        if !(bears && self.affords(to, bytes, history, now)) {
            self.stats.chunks_unserved += 1;
            if !history || is_picture {
                // Somebody else may have room.
                note_gone(gone, id, number);
            }
            return;
        }
        let Some(frame) = here.or_else(|| self.rebuild_again(id, number)) else { return };
        self.stats.chunks_served += 1;
        let class = match (history, keyframe) {
            // It is older than all that waits.
            (false, _) => Class::Urgent,
            (true, true) => self.picture_class(),
            (true, false) => Class::Background,
        };
        let key = Some(key_of(id, number));
        actions.push(RelayAction::Pass { to, frame, class, deadline: Instant::MAX, key });
    }

    /// How urgently old keyframes go to who asks for them: somebody sees nothing yet, and after a keyframe queues are long. In a
    /// group newcomers wait for a new one instead, and where upload is scarce live media would come too late.
    pub(super) fn picture_class(&self) -> Class {
        if self.is_shared() || self.is_scarce() { Class::Normal } else { Class::Urgent }
    }

    /// Takes what a chunk costs from the budgets, if they hold it. Repair takes its share of the upload: what it takes beyond,
    /// live chunks lack, and are missed next. With hardly a queue they lack nothing.
    fn affords(&mut self, to: P, bytes: u64, history: bool, now: Instant) -> bool {
        let idle = self.is_idle();
        let rate = self.facts.map_or(0, |facts| facts.rate_bytes_per_s);
        let fresh = || Bucket::new((rate * 3).max(30_000), SERVE_BURST, SERVE_BURST_BYTES_MIN, now);
        let own = self.peers.get_mut(&to);
        let own = own.map(|peer| &mut **peer.serve_budget.get_or_insert_with(|| Box::new(fresh())));
        let all = self.serve_budget.as_mut().filter(|_| !history);
        let mut budgets: SmallVec<[(&mut Bucket, bool); 2]> = SmallVec::new();
        budgets.extend(own.map(|budget| (budget, false)));
        budgets.extend(all.map(|budget| (budget, idle)));
        if budgets.iter_mut().any(|(budget, lends)| !*lends && budget.bytes(now) < bytes) {
            return false;
        }
        for (budget, _) in budgets {
            let held = budget.bytes(now);
            budget.spend(bytes.min(held));
        }
        if !history {
            self.load.note_queued(bytes as usize);
        }
        true
    }

    /// A chunk that was missed here went to the children; those in `heard` had asked for it.
    pub(super) fn note_passed_late(&mut self, track: u8, number: u64, heard: SmallVec<[P; 2]>, now: Instant) {
        while self.passed_late.front().is_some_and(|passed| now - passed.at > PASSED_LATE_TIME)
            || self.passed_late.len() >= PASSED_LATE_MAX
        {
            self.passed_late.pop_front();
        }
        self.passed_late.push_back(PassedLate { track, number, at: now, heard });
    }

    /// Whether the request of a child crossed the chunk on its way: the chunk was missed here, too, and passed on when it
    /// came. Each child is taken for that once.
    fn is_under_way(&mut self, to: P, track: u8, number: u64, now: Instant) -> bool {
        let mut passed = self.passed_late.iter_mut().rev();
        let Some(passed) = passed.find(|passed| passed.number == number && passed.track == track) else {
            return false;
        };
        let index = (number % self.stripes.len().max(1) as u64) as usize;
        let pushed = self.stripes.get(index).is_some_and(|stripe| {
            let mut children = stripe.children.iter();
            children.any(|child| child.peer == to && child.begins(track) <= number)
        });
        if !pushed || now - passed.at > PASSED_LATE_TIME || passed.heard.contains(&to) {
            return false;
        }
        passed.heard.push(to);
        true
    }
}

fn note_gone(gone: &mut Vec<(u8, RangeSet)>, id: u8, number: u64) {
    let place = gone.iter().position(|(track, _)| *track == id).unwrap_or_else(|| {
        gone.push((id, RangeSet::new()));
        gone.len() - 1
    });
    gone[place].1.insert(number..number + 1);
}
