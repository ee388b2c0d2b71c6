//! What a node can bear: its upload as it proves to be, parents that lag behind, layers that come in time.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::silence::ACTIVE;
use super::{Relay, RelayAction, TICK};
use crate::io::Class;
use crate::propagation::bucket::Bucket;
use crate::time::Instant;
use crate::wire::{ForestMessage, WirePeer};

/// The upload as it proves to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Less than was declared; `None`: as declared.
    pub(super) upload_bytes_per_s: Option<u64>,
    /// The least that waited to be sent since the last look.
    backlog_min: Option<usize>,
    backlog: usize,
    /// Looks in a row with a standing queue, and without any.
    long: u8,
    short: u8,
    /// When the planner was told last; `None`: it is to be told.
    told: Option<Instant>,
    /// When it is reminded.
    remind: Duration,
}

/// How the layers fare.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quality {
    /// The highest layer of the pictures of which something came.
    seen: u8,
    /// The highest that is wanted, if that was lowered.
    limit: Option<u8>,
    good: u32,
    bad: u32,
    /// Looks in a row without a bad frame.
    calm: u16,
    /// How many such looks it takes before a layer is tried again.
    patience: u16,
}

/// A standing queue of this length means that too much was promised (Nichols and Jacobson's CoDel looks at the minimum, too).
const QUEUE_IDLE: Duration = Duration::from_millis(20);
const QUEUE_LONG: Duration = Duration::from_millis(40);
const QUEUE_STANDING: Duration = Duration::from_millis(150);
/// Or of this part of the deadline, if that is less.
const STANDING_PART: u32 = 6;
const QUEUE_SWAMPED: Duration = Duration::from_millis(200);
const QUEUE_SHORT: Duration = Duration::from_millis(5);

/// From this use of the upload on, queues are longer.
const USE_FULL_PERCENT: u64 = 88;

/// How much of the upload repair may take, in percent: at most, and if the children get nearly all.
const REPAIR_PERCENT: u64 = 10;
const REPAIR_PERCENT_MIN: u64 = 3;

/// A backlog below is none to speak of.
const BACKLOG_FREE: usize = 32 * 1_200;

/// And one below does not keep repair waiting.
const BACKLOG_IDLE: usize = 4 * 1_200;

/// After so many looks with hardly a queue a little more is promised again.
const CALM_LOOKS: u8 = 10;

/// The planner is reminded of the true upload this often, and at first sooner after all children have gone.
const REMIND: Duration = Duration::from_secs(30);

/// A parent lags behind if its chunks are older than those of the others by this much, so many looks in a row.
const LAG: Duration = Duration::from_millis(200);
const LAG_LOOKS: u8 = 3;
/// And by this part of the deadline if that is less, or if upload is scarce: some branches have long queues then, and nobody
/// else has room.
const LAG_PART: u32 = 4;

/// What is left of a peak is forgotten by this part with each chunk.
const PEAK_DECAY: u32 = 8;

/// From so many stripes on, upload is scarce.
const STRIPES_SCARCE: usize = 12;

/// Looks before a layer is tried again: at first, and at most.
const PATIENCE_MIN: u16 = 8;
const PATIENCE_MAX: u16 = 64;

const VISUAL: u8 = 1;

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            upload_bytes_per_s: None,
            backlog_min: None,
            backlog: 0,
            long: 0,
            short: 0,
            told: Some(now),
            remind: REMIND,
        }
    }

    /// That much was added to what waits, before the next look at it.
    pub(super) fn note_queued(&mut self, bytes: usize) {
        self.backlog = self.backlog.saturating_add(bytes);
    }
}

impl<P: WirePeer> Relay<P> {
    /// How many bytes wait to be sent, as the scheduler sees it. To be told often: a queue that never empties means that the
    /// declared upload is not there, and children are handed to others.
    pub fn note_backlog(&mut self, bytes: usize) {
        self.load.backlog = bytes;
        self.load.backlog_min = Some(self.load.backlog_min.map_or(bytes, |least| least.min(bytes)));
    }

    /// Whether so little waits to be sent that a little more delays nothing to speak of.
    pub(super) fn is_idle(&self) -> bool {
        let wait_bytes = self.config.upload_bytes_per_s as usize / 1_000 * QUEUE_IDLE.as_millis() as usize;
        self.load.backlog < wait_bytes.max(BACKLOG_IDLE)
    }

    /// Whether what waits to be sent leaves no room for what can wait.
    pub(super) fn is_busy(&self) -> bool {
        let wait_bytes = self.config.upload_bytes_per_s as usize / 1_000 * QUEUE_LONG.as_millis() as usize;
        self.load.backlog > wait_bytes.max(BACKLOG_FREE)
    }

    /// Whether even repair would only lengthen the queue.
    pub(super) fn is_swamped(&self) -> bool {
        let wait_ms = self.queue_time(QUEUE_SWAMPED, 4).as_millis() as usize;
        let wait_bytes = self.config.upload_bytes_per_s as usize / 1_000 * wait_ms;
        self.load.backlog > wait_bytes.max(BACKLOG_FREE)
    }

    /// How long a queue may be: `usual`, or that part of the deadline where the plan has taken nearly all of the upload, as a
    /// keyframe then takes long to drain.
    pub(super) fn queue_time(&self, usual: Duration, part: u32) -> Duration {
        let is_full = self.is_scarce() && self.promised_percent() >= USE_FULL_PERCENT;
        self.facts.filter(|_| is_full).map_or(usual, |facts| usual.max(facts.deadline / part))
    }

    /// Whether upload is scarce in this stream: nobody else takes so many stripes.
    pub(super) fn is_scarce(&self) -> bool {
        self.stripes.len() >= STRIPES_SCARCE
    }

    /// What the children get, in percent of the upload.
    fn promised_percent(&self) -> u64 {
        let Some(facts) = self.facts else { return 0 };
        let stripes = (self.stripes.len() as u64).max(1);
        let promised = (facts.rate_bytes_per_s / stripes).saturating_mul(self.children_count() as u64);
        promised.saturating_mul(100) / self.config.upload_bytes_per_s.max(1)
    }

    /// Repair gets what the children leave: what it takes beyond, live chunks lack, and are missed next.
    pub(super) fn set_serve_budget(&mut self, now: Instant) {
        let left =
            if self.is_scarce() { 98u64.saturating_sub(self.promised_percent()) } else { REPAIR_PERCENT };
        let percent = left.clamp(REPAIR_PERCENT_MIN, REPAIR_PERCENT);
        let share = (self.config.upload_bytes_per_s / 100 * percent).max(10_000);
        let bucket = Bucket::new(share, Duration::from_millis(250), 32 * 1_500, now);
        let before = self.serve_budget.as_mut();
        self.serve_budget = Some(if before.is_some() { bucket.inherit(before, now) } else { bucket });
    }

    /// Whether a queue has stood for a while: more was promised than can be kept.
    pub(super) fn is_overloaded(&self) -> bool {
        self.load.long > 0
    }

    pub(super) fn note_delay(&mut self, index: usize, captured_ms: u32, now: Instant) {
        let captured_us = u64::from(captured_ms) * 1_000;
        let delay_us = u32::try_from(self.stream_us(now).saturating_sub(captured_us)).unwrap_or(u32::MAX / 2);
        let stripe = &mut self.stripes[index];
        stripe.delay_us = if stripe.delay_us == 0 {
            delay_us
        } else {
            stripe.delay_us - stripe.delay_us / 8 + delay_us / 8
        };
        stripe.delay_peak_us =
            delay_us.max(stripe.delay_peak_us - stripe.delay_peak_us.saturating_sub(delay_us) / PEAK_DECAY);
    }

    /// The next looks tell the planner what this node can spend.
    pub(super) fn remind_planner(&mut self) {
        self.load.told = None;
        self.load.remind = TICK;
    }

    /// Forgets how layers fared: to be called when automatic quality begins.
    pub fn restart_quality(&mut self) {
        self.quality = Quality { seen: self.quality.seen, ..Quality::default() };
    }

    pub(super) fn note_frame(&mut self, track: u8, in_time: bool) {
        if track >> 3 != VISUAL {
            return;
        }
        self.quality.seen = self.quality.seen.max(track & 7);
        if in_time {
            self.quality.good += 1;
        } else {
            self.quality.bad += 1;
        }
    }

    /// Looks at all three, once a tick.
    pub(super) fn look_at_load(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        self.set_serve_budget(now);
        self.look_at_upload(now, actions);
        self.look_at_parents(now, actions);
        self.look_at_layers(actions);
    }

    fn look_at_upload(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let declared = self.config.upload_bytes_per_s;
        let Some(backlog) = self.load.backlog_min.take().filter(|_| declared > 0) else { return };
        let upload = self.load.upload_bytes_per_s.unwrap_or(declared);
        let wait_us = (backlog as u64).saturating_mul(1_000_000) / declared;
        let wait = Duration::from_micros(wait_us);
        let deadline = self.facts.map_or(Duration::MAX, |facts| facts.deadline);
        // In a group keyframes make queues as long, and everybody is as full.
        let short = if self.is_shared() { Duration::MAX } else { deadline / STANDING_PART };
        let standing = self.queue_time(QUEUE_STANDING.min(short), 5);
        self.load.long = if wait > standing { self.load.long.saturating_add(1) } else { 0 };
        self.load.short = if wait < QUEUE_SHORT { self.load.short.saturating_add(1) } else { 0 };
        let mut estimate = upload;
        if self.load.long >= 2 {
            self.load.long = 1;
            self.shed(actions);
            estimate = (upload / 100 * 95).max(declared / 10 * 7).max(1);
        } else if self.load.short >= CALM_LOOKS && upload < declared {
            self.load.short = 0;
            estimate = (upload.saturating_add(upload / 10) + 1).min(declared);
        }
        let changed = estimate != upload;
        self.load.upload_bytes_per_s = (estimate < declared).then_some(estimate);
        let due = self.load.told.is_none_or(|told| now - told >= self.load.remind);
        // In a group the participant divides its upload among its streams itself.
        let divides = self.local == self.source && self.is_shared();
        if divides || !changed && !due {
            return;
        }
        self.load.told = Some(now);
        self.load.remind = (self.load.remind * 2).min(REMIND);
        self.tell_upload(estimate, actions);
    }

    /// Tells whoever plans.
    pub(super) fn tell_upload(&mut self, bytes_per_s: u64, actions: &mut Vec<RelayAction<P>>) {
        match self.planner {
            Some(to) => {
                let message = ForestMessage::Upload { bytes_per_s };
                actions.push(RelayAction::Send { to, message, class: Class::High });
            }
            None if self.local == self.source => {
                actions.push(RelayAction::Upload { bytes_per_s });
            }
            None => {}
        }
    }

    /// Hands the child that feeds the fewest to its backup.
    fn shed(&mut self, actions: &mut Vec<RelayAction<P>>) {
        let children = self.stripes.iter().enumerate().flat_map(|(index, stripe)| {
            stripe.children.iter().map(move |child| (child.feeds, child.peer, index))
        });
        if let Some((_, peer, index)) = children.min() {
            self.remove_child(index, peer, actions);
            self.send(peer, ForestMessage::Detach { stripes: 1 << index }, actions);
        }
    }

    /// A parent whose chunks are much older than those of the others is replaced. While nothing comes nothing is learned.
    fn look_at_parents(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if self.notice.state != ACTIVE {
            return;
        }
        let fed = self.stripes.iter().filter(|stripe| stripe.parent.is_some() && stripe.delay_us > 0);
        let mut delays: SmallVec<[u32; 16]> = fed.map(|stripe| stripe.delay_us).collect();
        if delays.len() < 3 {
            return;
        }
        delays.sort_unstable();
        let usual = delays[delays.len() / 2];
        let is_scarce = self.is_scarce();
        let part = self.facts.map_or(LAG, |facts| facts.deadline / LAG_PART);
        let lag = if is_scarce {
            LAG.max(part)
        } else if self.is_shared() {
            LAG
        } else {
            LAG.min(part)
        };
        let limit = usual + (usual / 2).max(lag.as_micros() as u32);
        for index in 0..self.stripes.len() {
            let stripe = &mut self.stripes[index];
            let lags = stripe.parent.is_some() && stripe.delay_us > limit;
            stripe.slow = if lags { stripe.slow.saturating_add(1) } else { 0 };
            if stripe.slow >= LAG_LOOKS && stripe.candidate.is_none() {
                stripe.slow = 0;
                stripe.delay_us = 0;
                stripe.left = true;
                self.stats.failovers += 1;
                self.parent_failed(index, now, actions);
            }
        }
        self.flush_reports(actions);
    }

    /// Fewer layers at once when frames come too late, one more after a while without.
    fn look_at_layers(&mut self, actions: &mut Vec<RelayAction<P>>) {
        let quality = &mut self.quality;
        let (good, bad) = (core::mem::take(&mut quality.good), core::mem::take(&mut quality.bad));
        if quality.seen == 0 || good + bad == 0 {
            return;
        }
        let now = quality.limit.unwrap_or(quality.seen);
        if bad * 20 > good + bad {
            quality.calm = 0;
            if now > 0 {
                let again = quality.limit.is_some();
                quality.patience = if again {
                    (quality.patience * 2).min(PATIENCE_MAX)
                } else {
                    quality.patience.max(PATIENCE_MIN)
                };
                quality.limit = Some(now - 1);
                actions.push(RelayAction::Quality { layer: now - 1 });
            }
            return;
        }
        quality.calm = quality.calm.saturating_add(1);
        if now < quality.seen && quality.calm >= quality.patience.max(PATIENCE_MIN) {
            quality.calm = 0;
            quality.limit = Some(now + 1);
            actions.push(RelayAction::Quality { layer: now + 1 });
        }
    }
}
