//! Grants that arrive as certificates.

use alloc::vec::Vec;
use core::time::Duration;

use crate::authority::grants::{Grant, Grants, Issued};
use crate::authority::set::check_room;
use crate::authority::{
    AuthorityChange, AuthorityError, AuthoritySet, Certificate, GrantTerms, ProofError, SignedCertificate,
    Verifier, WallTime,
};
use crate::id::PeerId;
use crate::time::Instant;
use crate::wire::WirePeer;

/// What became of a chain of certificates, and what it cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainReport {
    /// Signatures checked, refused ones too: at most one per certificate, and none where look-ups were enough to
    /// refuse the chain.
    pub signature_checks: usize,
    /// Whether the chain was accepted.
    pub outcome: Result<ChainOutcome, ProofError>,
}

/// What an accepted chain did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChainOutcome {
    /// At least one grant was made or replaced.
    Granted,
    /// Every grant was there already.
    Known,
}

impl<P: WirePeer> AuthoritySet<P> {
    /// Makes the grants that `chain` certifies, all or none.
    ///
    /// The first certificate is from the founder of the states or from somebody with a live grant here; each of the
    /// others is from the grantee of the one before, for the same states, with fewer onward grants. A certificate
    /// never replaces a direct grant, nor one of a greater epoch. At most
    /// [`AuthorityLimits::depth_max`](crate::authority::AuthorityLimits::depth_max) signatures are checked, one after
    /// the other, after everything that is cheap.
    pub fn present_chain(
        &mut self,
        chain: &[SignedCertificate<P>],
        now: Instant,
        wall: WallTime,
        verifier: &(impl Verifier<P> + ?Sized),
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> ChainReport {
        self.handle_timeout(now, changes);
        let mut signature_checks = 0;
        let outcome = self.present_counted(chain, wall, verifier, &mut signature_checks, changes);
        ChainReport { signature_checks, outcome }
    }

    fn present_counted(
        &mut self,
        chain: &[SignedCertificate<P>],
        wall: WallTime,
        verifier: &(impl Verifier<P> + ?Sized),
        signature_checks: &mut usize,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<ChainOutcome, ProofError> {
        self.precheck_chain(chain, wall)?;
        for signed in chain {
            *signature_checks += 1;
            if !signed.verify_signature(verifier) {
                return Err(ProofError::BadSignature);
            }
        }
        self.admit(chain, wall, changes)
    }

    fn precheck_chain(&self, chain: &[SignedCertificate<P>], wall: WallTime) -> Result<(), ProofError> {
        let max = usize::from(self.limits.depth_max);
        let Some(first) = chain.first().filter(|_| chain.len() <= max).map(|signed| &signed.certificate)
        else {
            return Err(ProofError::ChainLength { certificates: chain.len(), max });
        };
        for (at, signed) in chain.iter().enumerate() {
            let certificate = &signed.certificate;
            self.proofs.check_head(&certificate.head(), wall)?;
            if at > 0 && !continues(&chain[at - 1].certificate, certificate) {
                return Err(ProofError::ChainBroken { at });
            }
            if self.moderation.is_banned(certificate.granter, self.now) {
                return Err(AuthorityError::Banned.into());
            }
            if self.voids.is_void(certificate.states, certificate.granter, certificate.grantee, self.now) {
                return Err(ProofError::Revoked { at });
            }
        }
        let rule = self.rule_of_range(first.states)?;
        let grants = rule.grants.as_ref().ok_or(AuthorityError::NotShared)?;
        if !is_settled(grants, first)? {
            grants.check(first.granter, first.grantee, first.onward, self.now)?;
        }
        Ok(())
    }

    /// Makes the grants of a chain whose signatures are good.
    fn admit(
        &mut self,
        chain: &[SignedCertificate<P>],
        wall: WallTime,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<ChainOutcome, ProofError> {
        let (states, limits, now) = (chain[0].certificate.states, self.limits, self.now);
        let elsewhere = self.grants_len();
        let rule = self.rule_of_range_mut(states)?;
        let grants = rule.grants.as_ref().ok_or(AuthorityError::NotShared)?;
        let elsewhere = elsewhere - grants.len();
        // A copy, so that a chain that fails half-way leaves nothing behind.
        let mut next = grants.clone();
        let (mut made, mut cascaded) = (false, Vec::new());
        for SignedCertificate { certificate, .. } in chain {
            if is_settled(&next, certificate)? {
                continue;
            }
            let &Certificate { granter, grantee, onward, .. } = certificate;
            next.check(granter, grantee, onward, now)?;
            check_room(&next, granter, grantee, elsewhere + next.len(), &limits)?;
            let left = Duration::from_millis(certificate.valid_until.unix_ms - wall.unix_ms);
            let terms = GrantTerms { onward, until: Some(now + left) };
            next.insert(granter, grantee, Grant { terms, issued: Some(issued(certificate)) });
            cascaded.extend(next.settle(now).cascaded);
            made = true;
        }
        if !made {
            return Ok(ChainOutcome::Known);
        }
        let settled = rule.replace_grants(next, cascaded);
        rule.report(&settled, changes);
        self.void_cascaded(states, &settled);
        self.rearm();
        Ok(ChainOutcome::Granted)
    }
}

fn continues<P: PeerId>(before: &Certificate<P>, certificate: &Certificate<P>) -> bool {
    certificate.granter == before.grantee
        && certificate.states == before.states
        && certificate.onward < before.onward
}

/// Whether the certificate has nothing to add; an error if the granter has said something newer.
fn is_settled<P: PeerId>(grants: &Grants<P>, certificate: &Certificate<P>) -> Result<bool, ProofError> {
    let Some(known) = grants.grant(certificate.granter, certificate.grantee) else { return Ok(false) };
    let Some(known) = known.issued else { return Ok(true) };
    if known == issued(certificate) {
        Ok(true)
    } else if known.epoch >= certificate.epoch {
        Err(ProofError::Stale { seen: known.epoch })
    } else {
        Ok(false)
    }
}

fn issued<P: PeerId>(certificate: &Certificate<P>) -> Issued {
    let &Certificate { epoch, onward, valid_from, valid_until, .. } = certificate;
    Issued { epoch, onward, valid_from, valid_until }
}
