//! Viewers that others miss, until they answer.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::deadline::DeadlineIndex;
use crate::id::PeerId;
use crate::time::Instant;

/// So many viewers that miss one parent are believed sooner: after this part of the time that it has to answer.
const REPORTS: u8 = 3;
const REPORTED_PART: u32 = 4;

/// Suspects at a time, at most. Further ones are not noted: they are reported again.
pub(super) const SUSPECTS_MAX: usize = 65_536;

/// Who is suspected, and what is due about it.
#[derive(Debug)]
pub(super) struct Suspects<P> {
    all: BTreeMap<P, Suspect>,
    due: DeadlineIndex<P>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    until: Instant,
    reports: u8,
    was_asked_again: bool,
}

/// What to do about a suspect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict<P> {
    /// Ask it whether it lives.
    Ask(P),
    /// It is gone.
    Gone(P),
}

impl<P: PeerId> Suspects<P> {
    pub(super) fn new() -> Self {
        Self { all: BTreeMap::new(), due: DeadlineIndex::new() }
    }

    pub(super) fn contains(&self, peer: P) -> bool {
        self.all.contains_key(&peer)
    }

    /// Somebody misses `peer`. Returns whether it is to be asked whether it lives; it has `answer_time` to say so. As the
    /// question or the answer may be lost, it is asked once more after a good third of that.
    pub(super) fn note(&mut self, peer: P, answer_time: Duration, now: Instant) -> bool {
        let Some(suspect) = self.all.get_mut(&peer) else {
            if self.all.len() >= SUSPECTS_MAX {
                return false;
            }
            self.all.insert(peer, Suspect { until: now + answer_time, reports: 1, was_asked_again: false });
            self.due.set(peer, Some(now + answer_time * 3 / 7));
            return true;
        };
        suspect.reports = suspect.reports.saturating_add(1);
        if suspect.reports < REPORTS {
            return false;
        }
        // Less time to answer: the question is repeated at once.
        let ask = !core::mem::replace(&mut suspect.was_asked_again, true);
        suspect.until = suspect.until.min(now + answer_time / REPORTED_PART);
        self.due.set(peer, Some(suspect.until));
        ask
    }

    /// `peer` lives, or has gone by itself.
    pub(super) fn clear(&mut self, peer: P) {
        if self.all.remove(&peer).is_some() {
            self.due.set(peer, None);
        }
    }

    /// When [`Self::pop_due`] has something to tell.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.next()
    }

    /// What is due, one suspect at a time.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Verdict<P>> {
        let peer = self.due.pop_due(now)?;
        match self.all.get_mut(&peer) {
            Some(suspect) if suspect.until > now => {
                suspect.was_asked_again = true;
                self.due.set(peer, Some(suspect.until));
                Some(Verdict::Ask(peer))
            }
            _ => {
                self.all.remove(&peer);
                Some(Verdict::Gone(peer))
            }
        }
    }
}
