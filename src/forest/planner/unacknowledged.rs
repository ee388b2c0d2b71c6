//! Plans under way: what was told to a viewer that has its place, until it says that it has come.

use alloc::collections::BTreeMap;
use core::time::Duration;

use smallvec::SmallVec;

use crate::deadline::DeadlineIndex;
use crate::id::PeerId;
use crate::time::Instant;

/// A plan that is not acknowledged in this time is told again, then after twice that, and so on.
const PATIENCE: Duration = Duration::from_millis(400);

/// So many times. Whoever is silent for longer is missed by others, or has its place by its own choice.
const REPEATS_MAX: u32 = 4;

/// Viewers at a time, at most. What is told to others meanwhile is told once.
const VIEWERS_MAX: usize = 65_536;

/// What was told and not acknowledged.
#[derive(Debug)]
pub(super) struct Unacknowledged<P> {
    all: BTreeMap<P, Pending>,
    due: DeadlineIndex<P>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Stripes, each with the version of the newest plan that told it.
    stripes: SmallVec<[(u8, u32); 2]>,
    repeats: u32,
}

impl<P: PeerId> Unacknowledged<P> {
    pub(super) fn new() -> Self {
        Self { all: BTreeMap::new(), due: DeadlineIndex::new() }
    }

    /// `viewer` was told who feeds it in these stripes.
    pub(super) fn told(&mut self, viewer: P, version: u32, stripes: &[u8], now: Instant) {
        if self.all.len() >= VIEWERS_MAX && !self.all.contains_key(&viewer) {
            return;
        }
        let pending = self.all.entry(viewer).or_default();
        if pending.stripes.is_empty() {
            self.due.set(viewer, Some(now + PATIENCE));
        }
        for &stripe in stripes {
            match pending.stripes.iter_mut().find(|(known, _)| *known == stripe) {
                Some((_, told)) => *told = version,
                None => pending.stripes.push((stripe, version)),
            }
        }
    }

    /// The plan of that version has come to `viewer`.
    pub(super) fn acknowledge(&mut self, viewer: P, version: u32) {
        let Some(pending) = self.all.get_mut(&viewer) else { return };
        pending.stripes.retain(|(_, told)| *told != version);
        if pending.stripes.is_empty() {
            self.forget(viewer);
        }
    }

    /// `viewer` is there no more.
    pub(super) fn forget(&mut self, viewer: P) {
        if self.all.remove(&viewer).is_some() {
            self.due.set(viewer, None);
        }
    }

    /// When [`Self::pop_due`] has something to tell.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.next()
    }

    /// A viewer that must be told again, and in which stripes.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(P, SmallVec<[u8; 2]>)> {
        while let Some(viewer) = self.due.pop_due(now) {
            let Some(pending) = self.all.get_mut(&viewer) else { continue };
            if pending.repeats >= REPEATS_MAX {
                self.all.remove(&viewer);
                continue;
            }
            pending.repeats += 1;
            self.due.set(viewer, Some(now + PATIENCE * (1 << pending.repeats)));
            return Some((viewer, pending.stripes.iter().map(|&(stripe, _)| stripe).collect()));
        }
        None
    }
}
