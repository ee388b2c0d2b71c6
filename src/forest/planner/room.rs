//! The waiting room: viewers for whom there is no place one by one may find one together.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use crate::forest::plan::{ForestPlan, PlanChange};
use crate::id::PeerId;
use crate::time::Instant;

/// Who comes within this time is placed together.
const GATHER: Duration = Duration::from_millis(100);

/// Who has waited for so long is told that there is no place for now.
const PATIENCE: Duration = Duration::from_millis(300);

/// Who has not asked for so long has gone.
const ASKS: Duration = Duration::from_secs(5);

/// Who waits at a time, at most.
const WAITING_MAX: usize = 65_536;

/// And who is placed together.
const TOGETHER_MAX: usize = 256;

/// Viewers without a place.
#[derive(Debug)]
pub(super) struct Room<P> {
    waiting: BTreeMap<P, Waiting>,
    try_at: Option<Instant>,
    /// How much upload was missing lately, in bytes a second.
    needed_bytes_per_s: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    upload_bytes_per_s: u64,
    since: Instant,
    asked: Instant,
}

impl<P: PeerId> Room<P> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), try_at: None, needed_bytes_per_s: 1 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When [`Self::admit`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.try_at
    }

    /// Lets `viewer` wait, and returns whether it need not be told yet that there is no place.
    pub(super) fn wait(&mut self, viewer: P, upload_bytes_per_s: u64, now: Instant) -> bool {
        let is_full = self.waiting.len() >= WAITING_MAX;
        match self.waiting.get_mut(&viewer) {
            Some(waiting) => {
                let is_news = waiting.upload_bytes_per_s != upload_bytes_per_s;
                (waiting.upload_bytes_per_s, waiting.asked) = (upload_bytes_per_s, now);
                let is_patient = now - waiting.since < PATIENCE;
                if is_news {
                    self.stir(now);
                }
                is_patient
            }
            None if is_full => false,
            None => {
                self.waiting.insert(viewer, Waiting { upload_bytes_per_s, since: now, asked: now });
                self.stir(now);
                true
            }
        }
    }

    pub(super) fn contains(&self, viewer: P) -> bool {
        self.waiting.contains_key(&viewer)
    }

    pub(super) fn remove(&mut self, viewer: P) {
        self.waiting.remove(&viewer);
        if self.waiting.is_empty() {
            self.try_at = None;
        }
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.try_at = None;
    }

    /// There may be places now.
    pub(super) fn stir(&mut self, now: Instant) {
        if !self.waiting.is_empty() {
            self.try_at.get_or_insert(now + GATHER);
        }
    }

    pub(super) fn note_needed(&mut self, bytes_per_s: u64) {
        self.needed_bytes_per_s = bytes_per_s.max(1);
    }

    pub(super) fn needed_bytes_per_s(&self) -> u64 {
        self.needed_bytes_per_s
    }

    /// Those who ask no more have gone.
    pub(super) fn forget_silent(&mut self, now: Instant) {
        self.waiting.retain(|_, waiting| now - waiting.asked < ASKS);
        if self.waiting.is_empty() {
            self.try_at = None;
        }
    }

    /// Gives places to as many as possible, those who bring the most before the others, and returns them.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        plan: &mut ForestPlan<P>,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Vec<P> {
        self.try_at = None;
        let mut strongest: Vec<(P, u64)> =
            self.waiting.iter().map(|(&viewer, waiting)| (viewer, waiting.upload_bytes_per_s)).collect();
        strongest.sort_by_key(|&(viewer, upload)| (Reverse(upload), self.waiting[&viewer].since));
        let mut count = strongest.len().min(TOGETHER_MAX);
        while count > 0 && plan.join_all(&strongest[..count], changes).is_err() {
            count -= (count / 8).max(1);
        }
        strongest.truncate(count);
        for (viewer, _) in &strongest {
            self.waiting.remove(viewer);
        }
        if count > 0 {
            // For the next there may be room thanks to these.
            self.stir(now);
        }
        strongest.into_iter().map(|(viewer, _)| viewer).collect()
    }
}
