//! Validity and replay of claims.

use alloc::collections::BTreeMap;

use crate::authority::proof::Head;
use crate::authority::{Claim, Proof, ProofError, Verifier, WallTime};
use crate::id::{Epoch, PeerId, SwarmId};
use crate::wire::WirePeer;

/// What proofs may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct ProofLimits {
    /// Claimers whose newest claim is remembered. Further ones are refused with [`ProofError::MemoryFull`] until one
    /// can be forgotten. Default 1,024.
    pub claimers_max: usize,
    /// The longest validity of a claim or certificate, in milliseconds. It is also how long replays are guarded
    /// against. Default 86,400,000 (one day).
    pub lifetime_ms_max: u64,
}

impl Default for ProofLimits {
    fn default() -> Self {
        Self { claimers_max: 1_024, lifetime_ms_max: 86_400_000 }
    }
}

/// Whether an accepted claim is news.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Freshness {
    /// The first time, or a greater epoch than before.
    New,
    /// The same claim again.
    Repeated,
}

/// Refuses claims that are expired, early, stale, for another swarm, or not signed by the claimer.
///
/// It remembers the newest claim of each claimer. A claimer is forgotten, when room is needed, once its newest claim
/// began longer than [`ProofLimits::lifetime_ms_max`] ago: by then every claim that it signed before has expired,
/// provided that its claims with greater epochs do not begin earlier. A new checker remembers nothing, so after a
/// restart a claim can be repeated until it expires.
#[derive(Clone, Debug)]
pub struct ProofChecker<P> {
    swarm: SwarmId,
    limits: ProofLimits,
    newest: BTreeMap<P, Claim<P>>,
}

impl<P: PeerId> ProofChecker<P> {
    /// A checker for the claims of one swarm.
    pub fn new(swarm: SwarmId, limits: ProofLimits) -> Self {
        Self { swarm, limits, newest: BTreeMap::new() }
    }

    /// The swarm.
    pub fn swarm(&self) -> SwarmId {
        self.swarm
    }

    /// The epoch of the newest claim accepted from `claimer`, while it is remembered.
    pub fn claimed_epoch(&self, claimer: P) -> Option<Epoch> {
        self.newest.get(&claimer).map(|claim| claim.epoch)
    }

    /// Everything that can be said without the signature. Records nothing.
    pub fn precheck(&self, claim: &Claim<P>, wall: WallTime) -> Result<Freshness, ProofError> {
        self.check_head(&claim.head(), wall)?;
        match self.newest.get(&claim.claimer) {
            None => Ok(Freshness::New),
            Some(newest) if newest == claim => Ok(Freshness::Repeated),
            Some(newest) if newest.epoch >= claim.epoch => Err(ProofError::Stale { seen: newest.epoch }),
            Some(_) => Ok(Freshness::New),
        }
    }

    /// Swarm and validity.
    pub(super) fn check_head(&self, head: &Head, wall: WallTime) -> Result<(), ProofError> {
        if head.swarm != self.swarm {
            return Err(ProofError::WrongSwarm(head.swarm));
        }
        if wall >= head.valid_until {
            return Err(ProofError::Expired(head.valid_until));
        }
        if wall < head.valid_from {
            return Err(ProofError::NotYetValid(head.valid_from));
        }
        let lifetime_ms = head.valid_until.unix_ms - head.valid_from.unix_ms;
        let max = self.limits.lifetime_ms_max;
        if lifetime_ms > max { Err(ProofError::Lifetime { lifetime_ms, max }) } else { Ok(()) }
    }

    fn make_room(&mut self, claimer: P, wall: WallTime) -> Result<(), ProofError> {
        let max = self.limits.claimers_max;
        if self.newest.len() < max || self.newest.contains_key(&claimer) {
            return Ok(());
        }
        let lifetime_ms = self.limits.lifetime_ms_max;
        self.newest.retain(|_, claim| claim.valid_from.unix_ms.saturating_add(lifetime_ms) > wall.unix_ms);
        if self.newest.len() < max { Ok(()) } else { Err(ProofError::MemoryFull { max }) }
    }
}

impl<P: WirePeer> ProofChecker<P> {
    /// Accepts or refuses a proof, and remembers what it accepted. Makes at most one signature check, and none for a
    /// claim that [`Self::precheck`] refuses. Whether the claimer may write is not its business: that is
    /// [`AuthoritySet::present`](crate::AuthoritySet::present).
    pub fn check(
        &mut self,
        proof: &Proof<P>,
        wall: WallTime,
        verifier: &(impl Verifier<P> + ?Sized),
    ) -> Result<Freshness, ProofError> {
        let claim = proof.claim;
        let freshness = self.precheck(&claim, wall)?;
        self.make_room(claim.claimer, wall)?;
        if !proof.verify_signature(verifier) {
            return Err(ProofError::BadSignature);
        }
        self.newest.insert(claim.claimer, claim);
        Ok(freshness)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::toy::{ToyKeys, ToySigner};
    use crate::authority::{Signature, StateRange};
    use crate::id::StateId;

    const SWARM: SwarmId = SwarmId(3);

    fn claim(claimer: u32, epoch: u32, from: u64, until: u64) -> Claim<u32> {
        Claim {
            claimer,
            swarm: SWARM,
            states: StateRange::single(StateId(1)),
            epoch: Epoch(epoch),
            valid_from: WallTime::from_unix_ms(from),
            valid_until: WallTime::from_unix_ms(until),
        }
    }

    fn sign(claim: Claim<u32>) -> Proof<u32> {
        Proof::sign(claim, &ToySigner(claim.claimer))
    }

    fn at(ms: u64) -> WallTime {
        WallTime::from_unix_ms(ms)
    }

    #[test]
    fn each_fault_has_its_error_and_leaves_no_trace() {
        let mut checker = ProofChecker::new(SWARM, ProofLimits { claimers_max: 1, lifetime_ms_max: 1_000 });
        let good = sign(claim(1, 4, 100, 200));
        let mut check = |proof, wall| checker.check(&proof, wall, &ToyKeys);
        assert_eq!(check(good, at(200)), Err(ProofError::Expired(at(200))));
        assert_eq!(check(good, at(99)), Err(ProofError::NotYetValid(at(100))));
        assert_eq!(check(sign(claim(1, 9, 100, 100)), at(100)), Err(ProofError::Expired(at(100))));
        assert_eq!(
            check(sign(claim(1, 9, 0, 1_001)), at(100)),
            Err(ProofError::Lifetime { lifetime_ms: 1_001, max: 1_000 })
        );
        let elsewhere = sign(Claim { swarm: SwarmId(4), ..good.claim });
        assert_eq!(check(elsewhere, at(100)), Err(ProofError::WrongSwarm(SwarmId(4))));
        let forged = Proof { claim: Claim { epoch: Epoch(9), ..good.claim }, ..good };
        assert_eq!(check(forged, at(100)), Err(ProofError::BadSignature));

        assert_eq!(check(good, at(100)), Ok(Freshness::New));
        assert_eq!(check(good, at(199)), Ok(Freshness::Repeated));
        assert_eq!(check(sign(claim(1, 3, 100, 200)), at(100)), Err(ProofError::Stale { seen: Epoch(4) }));
        assert_eq!(check(sign(claim(1, 4, 100, 201)), at(100)), Err(ProofError::Stale { seen: Epoch(4) }));
        assert_eq!(check(sign(claim(1, 5, 100, 200)), at(100)), Ok(Freshness::New));
        assert_eq!(check(sign(claim(2, 1, 100, 200)), at(100)), Err(ProofError::MemoryFull { max: 1 }));
        assert_eq!(checker.claimed_epoch(1), Some(Epoch(5)));
        assert_eq!(checker.claimed_epoch(2), None);
    }

    #[test]
    fn a_claimer_is_forgotten_only_when_its_old_claims_are_dead() {
        let mut checker = ProofChecker::new(SWARM, ProofLimits { claimers_max: 1, lifetime_ms_max: 1_000 });
        let old = sign(claim(1, 1, 100, 1_100));
        checker.check(&sign(claim(1, 2, 100, 200)), at(150), &ToyKeys).unwrap();
        let other = sign(claim(2, 1, 900, 1_200));
        assert_eq!(checker.check(&other, at(1_099), &ToyKeys), Err(ProofError::MemoryFull { max: 1 }));
        assert_eq!(checker.check(&other, at(1_100), &ToyKeys), Ok(Freshness::New));
        assert_eq!(checker.check(&old, at(1_100), &ToyKeys), Err(ProofError::Expired(at(1_100))));
    }

    #[test]
    fn a_forged_repetition_is_refused() {
        let mut checker = ProofChecker::new(SWARM, ProofLimits::default());
        let good = sign(claim(1, 4, 100, 200));
        checker.check(&good, at(100), &ToyKeys).unwrap();
        let forged = Proof { signature: Signature::new(&[1, 2, 3]).unwrap(), ..good };
        assert_eq!(checker.check(&forged, at(100), &ToyKeys), Err(ProofError::BadSignature));
    }
}
