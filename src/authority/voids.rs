//! Which certificates are void because what they grant was revoked.

use alloc::collections::BTreeMap;

use crate::authority::StateRange;
use crate::id::PeerId;
use crate::time::Instant;

/// The memory of revocations, against certificates that come back.
///
/// An entry lives as long as a certificate that was signed before the revocation could. When there are too many
/// entries for one granter they become one for all its certificates; when there are too many in all, every
/// certificate is void. Forgetting a revocation is the one thing that never happens.
#[derive(Clone, Debug)]
pub(super) struct Voids<P> {
    by_granter: BTreeMap<(StateRange, P), Granter<P>>,
    to: BTreeMap<(StateRange, P), Instant>,
    all_until: Instant,
}

#[derive(Clone, Debug)]
struct Granter<P> {
    pairs: BTreeMap<P, Instant>,
    all_until: Instant,
}

impl<P: PeerId> Voids<P> {
    pub(super) fn new() -> Self {
        Self { by_granter: BTreeMap::new(), to: BTreeMap::new(), all_until: Instant::ZERO }
    }

    pub(super) fn is_void(&self, states: StateRange, granter: P, grantee: P, now: Instant) -> bool {
        let of_granter = self.by_granter.get(&(states, granter));
        self.all_until > now
            || self.to.get(&(states, grantee)).is_some_and(|&until| until > now)
            || of_granter.is_some_and(|of| {
                of.all_until > now || of.pairs.get(&grantee).is_some_and(|&until| until > now)
            })
    }

    /// Voids the certificates of `granter` for `grantee`.
    pub(super) fn add_pair(
        &mut self,
        states: StateRange,
        granter: P,
        grantee: P,
        until: Instant,
        pairs_max: usize,
    ) {
        let of = self.by_granter.entry((states, granter));
        let of = of.or_insert_with(|| Granter { pairs: BTreeMap::new(), all_until: Instant::ZERO });
        if of.pairs.len() >= pairs_max && !of.pairs.contains_key(&grantee) {
            of.pairs.clear();
            // Not shorter than any pair that it replaces: `until` rises with time.
            of.all_until = of.all_until.max(until);
        } else {
            of.pairs.insert(grantee, until);
        }
    }

    /// Voids everybody's certificates for `grantee`.
    pub(super) fn add_to(&mut self, states: StateRange, grantee: P, until: Instant) {
        self.to.insert((states, grantee), until);
    }

    /// A direct grant says that the revocation of this pair, or by the founder of this grantee, is over.
    pub(super) fn lift(&mut self, states: StateRange, granter: P, grantee: P, by_founder: bool) {
        if let Some(of) = self.by_granter.get_mut(&(states, granter)) {
            of.pairs.remove(&grantee);
        }
        if by_founder {
            self.to.remove(&(states, grantee));
        }
    }

    /// Forgets what is over, and falls back to "all" where more than `max` entries are left. To be called after
    /// every addition.
    pub(super) fn trim(&mut self, now: Instant, until: Instant, max: usize) {
        if self.len() <= max {
            return;
        }
        self.to.retain(|_, until| *until > now);
        self.by_granter.retain(|_, of| {
            of.pairs.retain(|_, until| *until > now);
            of.all_until > now || !of.pairs.is_empty()
        });
        if self.len() > max {
            self.to.clear();
            self.by_granter.clear();
            self.all_until = self.all_until.max(until);
        }
    }

    fn len(&self) -> usize {
        self.to.len() + self.by_granter.values().map(|of| of.pairs.len().max(1)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: StateRange = StateRange::ALL;
    const NOW: Instant = Instant::from_secs(1);
    const END: Instant = Instant::from_secs(10);

    #[test]
    fn overflow_voids_more_and_never_less() {
        let mut voids = Voids::new();
        for grantee in 10..13u64 {
            voids.add_pair(ALL, 1, grantee, END, 2);
            voids.trim(NOW, END, 4);
        }
        assert!((10..20).all(|grantee| voids.is_void(ALL, 1, grantee, NOW)), "all of the granter's");
        assert!(!voids.is_void(ALL, 2, 10, NOW));
        for grantee in 20..25 {
            voids.add_to(ALL, grantee, END);
            voids.trim(NOW, END, 4);
        }
        assert!(voids.is_void(ALL, 2, 10, NOW), "all of everybody's");
        assert!(!voids.is_void(ALL, 1, 20, END), "until the end");
    }

    #[test]
    fn what_is_over_makes_room() {
        let mut voids = Voids::new();
        for second in 0..100 {
            let now = Instant::from_secs(second);
            let until = Instant::from_secs(second + 2);
            voids.add_to(ALL, second, until);
            voids.trim(now, until, 4);
            assert!(!voids.is_void(ALL, 1, 1_000, now));
            assert!(voids.is_void(ALL, 1, second, now));
        }
    }
}
