//! Relays that pass on what the source has not sealed, as their children say.
//!
//! Nobody can prove it: a changed chunk does not say who changed it. So one viewer alone is not believed, and nobody can
//! accuse more than a few. What the accused loses is its children; it goes on watching.

use alloc::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::id::PeerId;

/// So many viewers have to say it.
const ACCUSERS: usize = 2;

/// A viewer that accuses more relays than this is not heard any more.
const ACCUSED_BY_ONE: u8 = 8;

/// Accused relays, and viewers that accuse, at most. Further ones are not noted: a relay that lies on is accused again.
const NOTED_MAX: usize = 16_384;

/// Who was accused by whom, and who feeds nobody any more.
#[derive(Debug)]
pub(super) struct Accused<P> {
    open: BTreeMap<P, SmallVec<[P; ACCUSERS]>>,
    accusers: BTreeMap<P, u8>,
    demoted: BTreeSet<P>,
}

impl<P: PeerId> Accused<P> {
    pub(super) fn new() -> Self {
        Self { open: BTreeMap::new(), accusers: BTreeMap::new(), demoted: BTreeSet::new() }
    }

    /// Whether the relay is to feed nobody.
    pub(super) fn is_demoted(&self, relay: P) -> bool {
        self.demoted.contains(&relay)
    }

    /// How many are.
    pub(super) fn demoted(&self) -> usize {
        self.demoted.len()
    }

    /// `by` says that `relay` lies. True if it is believed from now on.
    pub(super) fn accuse(&mut self, by: P, relay: P) -> bool {
        if self.is_demoted(relay) || self.open.get(&relay).is_some_and(|accusers| accusers.contains(&by)) {
            return false;
        }
        let is_known = self.open.contains_key(&relay) || self.open.len() < NOTED_MAX;
        if !is_known || self.demoted.len() >= NOTED_MAX || !self.may_accuse(by) {
            return false;
        }
        let accusers = self.open.entry(relay).or_default();
        accusers.push(by);
        if accusers.len() < ACCUSERS {
            return false;
        }
        self.open.remove(&relay);
        self.demoted.insert(relay)
    }

    fn may_accuse(&mut self, by: P) -> bool {
        if !self.accusers.contains_key(&by) && self.accusers.len() >= NOTED_MAX {
            return false;
        }
        let accusations = self.accusers.entry(by).or_default();
        *accusations = accusations.saturating_add(1);
        *accusations <= ACCUSED_BY_ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_believed_and_one_is_not() {
        let mut accused = Accused::new();
        assert!(!accused.accuse(1u64, 9));
        assert!(!accused.accuse(1, 9), "the same viewer twice");
        assert!(!accused.is_demoted(9));
        assert!(accused.accuse(2, 9));
        assert!(accused.is_demoted(9));
        assert!(!accused.accuse(3, 9), "it is known");
        assert_eq!(accused.demoted(), 1);
    }

    #[test]
    fn who_accuses_everybody_is_not_heard() {
        let mut accused = Accused::new();
        let demoted = (100u64..200).filter(|&relay| {
            accused.accuse(1, relay);
            accused.accuse(2, relay)
        });
        assert_eq!(demoted.count(), usize::from(ACCUSED_BY_ONE));
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let mut accused = Accused::new();
        for peer in 0..40_000u64 {
            accused.accuse(peer, 100_000 + peer);
            accused.accuse(peer, 100_000 + peer / 2);
        }
        assert!(accused.open.len() <= NOTED_MAX && accused.accusers.len() <= NOTED_MAX);
        assert!(accused.demoted.len() <= NOTED_MAX);
    }
}
