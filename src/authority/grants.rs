//! The graph of grants behind one shared range: who has a live chain to the founder.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::authority::{AuthorityError, GrantTerms, WallTime};
use crate::id::{Epoch, PeerId};
use crate::time::Instant;

/// One edge of the graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    pub(super) terms: GrantTerms,
    /// What the certificate said, if the grant came in one.
    pub(super) issued: Option<Issued>,
}

/// What tells one certificate between two peers from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Issued {
    pub(super) epoch: Epoch,
    pub(super) onward: u8,
    pub(super) valid_from: WallTime,
    pub(super) valid_until: WallTime,
}

/// What [`Grants::settle`] found.
#[derive(Debug)]
pub(super) struct Settled<P> {
    pub(super) gained: Vec<P>,
    pub(super) lost: Vec<P>,
    /// (granter, grantee) of grants that fell because their granter lost the power to give them.
    pub(super) cascaded: Vec<(P, P)>,
}

/// Grants as a graph without cycles whose only source is the root.
///
/// Every live peer has a *level*: how many grants may still follow it in a chain, over its best chain. The root has
/// `depth_max`; a grant gives the lesser of its own terms and one below its granter. Levels fall along every chain,
/// so chains are bounded and no circle of peers can keep itself alive.
#[derive(Clone, Debug)]
pub(super) struct Grants<P> {
    root: P,
    depth_max: u8,
    by_granter: BTreeMap<P, BTreeMap<P, Grant>>,
    /// Of every live peer, as of the last settling.
    levels: BTreeMap<P, u8>,
    len: usize,
    next_expiry: Option<Instant>,
}

impl<P: PeerId> Grants<P> {
    pub(super) fn new(root: P, depth_max: u8) -> Self {
        let levels = BTreeMap::from([(root, depth_max)]);
        Self { root, depth_max, by_granter: BTreeMap::new(), levels, len: 0, next_expiry: None }
    }

    pub(super) fn root(&self) -> P {
        self.root
    }

    /// How many grants there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many of them come from `granter`.
    pub(super) fn len_from(&self, granter: P) -> usize {
        self.by_granter.get(&granter).map_or(0, BTreeMap::len)
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Peers with a live chain as of the last settling, the root among them.
    pub(super) fn members(&self) -> impl Iterator<Item = P> + '_ {
        self.levels.keys().copied()
    }

    /// The level of `peer`, or `None` if it has no live chain at `now`. Exact even when an expiry is due and not
    /// settled yet, but then at the cost of a walk over all grants.
    pub(super) fn level(&self, peer: P, now: Instant) -> Option<u8> {
        match self.next_expiry {
            Some(expiry) if expiry <= now => self.levels_at(now).get(&peer).copied(),
            _ => self.levels.get(&peer).copied(),
        }
    }

    pub(super) fn grant(&self, granter: P, grantee: P) -> Option<Grant> {
        self.by_granter.get(&granter)?.get(&grantee).copied()
    }

    /// Whether `granter` can give `onward` to `grantee`.
    pub(super) fn check(
        &self,
        granter: P,
        grantee: P,
        onward: u8,
        now: Instant,
    ) -> Result<(), AuthorityError> {
        let level = self.level(granter, now).ok_or(AuthorityError::NotMember)?;
        let max = level.checked_sub(1);
        if max.is_none_or(|max| onward > max) {
            return Err(AuthorityError::Onward { wanted: onward, max });
        }
        if self.reaches(grantee, granter) { Err(AuthorityError::Cycle) } else { Ok(()) }
    }

    /// Makes or replaces a grant. To be checked before and settled after.
    pub(super) fn insert(&mut self, granter: P, grantee: P, grant: Grant) {
        self.by_granter.entry(granter).or_default().insert(grantee, grant);
    }

    /// Removes a grant; whether there was one. To be settled after.
    pub(super) fn remove(&mut self, granter: P, grantee: P) -> bool {
        self.by_granter.get_mut(&granter).is_some_and(|grants| grants.remove(&grantee).is_some())
    }

    /// Removes all grants to `grantee`; whether there was one. To be settled after.
    pub(super) fn remove_to(&mut self, grantee: P) -> bool {
        self.by_granter.values_mut().fold(false, |any, grants| grants.remove(&grantee).is_some() | any)
    }

    /// Whether a chain of grants leads from `from` to `to`. A peer reaches itself.
    pub(super) fn reaches(&self, from: P, to: P) -> bool {
        if from == to {
            return true;
        }
        let mut seen = BTreeSet::from([from]);
        let mut open = Vec::from([from]);
        while let Some(peer) = open.pop() {
            for &next in self.by_granter.get(&peer).into_iter().flat_map(BTreeMap::keys) {
                if next == to {
                    return true;
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    }

    /// Removes what has expired and what has lost its chain, for good: a later grant to the same peer does not bring
    /// back what that peer once gave.
    pub(super) fn settle(&mut self, now: Instant) -> Settled<P> {
        for grants in self.by_granter.values_mut() {
            grants.retain(|_, grant| grant.terms.until.is_none_or(|until| until > now));
        }
        let levels = self.levels_at(now);
        let mut cascaded = Vec::new();
        self.by_granter.retain(|granter, grants| {
            let power = levels.get(granter).and_then(|level| level.checked_sub(1));
            if let Some(power) = power {
                grants.values_mut().for_each(|grant| grant.terms.onward = grant.terms.onward.min(power));
            } else {
                cascaded.extend(grants.keys().map(|grantee| (*granter, *grantee)));
                grants.clear();
            }
            !grants.is_empty()
        });
        self.len = self.by_granter.values().map(BTreeMap::len).sum();
        let all = self.by_granter.values().flat_map(BTreeMap::values);
        self.next_expiry = all.filter_map(|grant| grant.terms.until).min();
        let gained = levels.keys().filter(|peer| !self.levels.contains_key(peer)).copied().collect();
        let lost = self.levels.keys().filter(|peer| !levels.contains_key(peer)).copied().collect();
        self.levels = levels;
        Settled { gained, lost, cascaded }
    }

    /// The level of everybody with a live chain. A grant gives less than its granter has, so going down the levels
    /// meets every peer at its best first.
    fn levels_at(&self, now: Instant) -> BTreeMap<P, u8> {
        let mut levels = BTreeMap::from([(self.root, self.depth_max)]);
        let mut by_level: BTreeMap<u8, Vec<P>> = BTreeMap::from([(self.depth_max, Vec::from([self.root]))]);
        while let Some((level, peers)) = by_level.pop_last() {
            let Some(power) = level.checked_sub(1) else { break };
            for peer in peers {
                if levels.get(&peer) != Some(&level) {
                    continue;
                }
                for (&grantee, grant) in self.by_granter.get(&peer).into_iter().flatten() {
                    if grant.terms.until.is_some_and(|until| until <= now) {
                        continue;
                    }
                    let given = grant.terms.onward.min(power);
                    if levels.get(&grantee).is_none_or(|&known| known < given) {
                        levels.insert(grantee, given);
                        by_level.entry(given).or_default().push(grantee);
                    }
                }
            }
        }
        levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEPTH: u8 = 4;
    const ROOT: u64 = 0;

    /// A list of grants, and rights found by trying every path from the root.
    #[derive(Default)]
    struct Naive {
        grants: Vec<(u64, u64, u8, Option<u64>)>,
    }

    impl Naive {
        fn level(&self, peer: u64, now: u64) -> Option<u8> {
            self.best(ROOT, DEPTH, peer, now, &mut Vec::new())
        }

        fn best(&self, at: u64, level: u8, target: u64, now: u64, path: &mut Vec<u64>) -> Option<u8> {
            if at == target {
                return Some(level);
            }
            if level == 0 || path.contains(&at) {
                return None;
            }
            path.push(at);
            let live =
                self.grants.iter().filter(|grant| grant.0 == at && grant.3.is_none_or(|until| until > now));
            let best = live
                .filter_map(|&(_, to, onward, _)| self.best(to, onward.min(level - 1), target, now, path))
                .max();
            path.pop();
            best
        }

        fn settle(&mut self, now: u64) {
            self.grants.retain(|grant| grant.3.is_none_or(|until| until > now));
            let powers: Vec<_> =
                (0..8).map(|peer| self.level(peer, now).and_then(|level| level.checked_sub(1))).collect();
            self.grants.retain(|grant| powers[grant.0 as usize].is_some());
            for grant in &mut self.grants {
                grant.2 = grant.2.min(powers[grant.0 as usize].unwrap());
            }
        }

        fn ancestor(&self, from: u64, to: u64) -> bool {
            from == to || self.grants.iter().any(|grant| grant.0 == from && self.ancestor(grant.1, to))
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Grant(u64, u64, u8, Option<u64>),
        Revoke(u64, u64),
        RevokeAll(u64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let peer = 0u64..8;
        prop_oneof![
            6 => (peer.clone(), peer.clone(), 0u8..5, prop::option::weighted(0.3, 1u64..30)).prop_map(|(a, b, o, u)| Step::Grant(a, b, o, u)),
            2 => (peer.clone(), peer.clone()).prop_map(|(a, b)| Step::Revoke(a, b)),
            1 => peer.prop_map(Step::RevokeAll),
            1 => (1u64..10).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn rights_are_reachability_from_the_founder(steps in prop::collection::vec(step(), 1..60)) {
            let mut grants = Grants::new(ROOT, DEPTH);
            let mut naive = Naive::default();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Grant(from, to, onward, until) => {
                        let until = until.map(|after| now + after);
                        let level = naive.level(from, now);
                        let verdict = grants.check(from, to, onward, Instant::from_micros(now));
                        let expected = level.is_some_and(|level| onward < level) && !(to == ROOT || naive.ancestor(to, from));
                        prop_assert_eq!(verdict.is_ok(), expected, "{:?}", verdict);
                        if expected {
                            let terms = GrantTerms { onward, until: until.map(Instant::from_micros) };
                            grants.insert(from, to, Grant { terms, issued: None });
                            naive.grants.retain(|grant| (grant.0, grant.1) != (from, to));
                            naive.grants.push((from, to, onward, until));
                        }
                    }
                    Step::Revoke(from, to) => {
                        let had = naive.grants.iter().any(|grant| (grant.0, grant.1) == (from, to));
                        prop_assert_eq!(grants.remove(from, to), had);
                        naive.grants.retain(|grant| (grant.0, grant.1) != (from, to));
                    }
                    Step::RevokeAll(to) => {
                        grants.remove_to(to);
                        naive.grants.retain(|grant| grant.1 != to);
                    }
                    Step::Wait(micros) => now += micros,
                }
                // Before the settling, too, nobody has a right without a live chain.
                if grants.next_expiry().is_some_and(|expiry| expiry <= Instant::from_micros(now)) {
                    for peer in 0..8 {
                        prop_assert_eq!(grants.level(peer, Instant::from_micros(now)), naive.level(peer, now));
                    }
                }
                let before: BTreeSet<_> = grants.members().collect();
                let settled = grants.settle(Instant::from_micros(now));
                naive.settle(now);
                let after: BTreeSet<_> = grants.members().collect();
                for peer in 0..8 {
                    prop_assert_eq!(grants.level(peer, Instant::from_micros(now)), naive.level(peer, now), "peer {}", peer);
                }
                prop_assert_eq!(settled.gained, after.difference(&before).copied().collect::<Vec<_>>());
                prop_assert_eq!(settled.lost, before.difference(&after).copied().collect::<Vec<_>>());
                prop_assert_eq!(grants.len(), naive.grants.len());
                prop_assert!(grants.next_expiry().is_none_or(|expiry| expiry > Instant::from_micros(now)));
            }
        }
    }
}
