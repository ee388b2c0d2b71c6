//! The guard of a topic: who may write what, and whether it was really they.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::authority::{
    AuthorityChange, AuthoritySet, ChunkHasher, Signature, SignedBody, Signer, Verifier, VerifyBudget,
    VerifyLimits, WriteRefusal, update_signing_bytes_with,
};
use crate::forest::Seals;
use crate::id::{PeerId, StateId, SwarmId};
use crate::io::Offence;
use crate::time::Instant;
use crate::wire::{Data, WirePeer};

/// What protects a topic; without one, every member may write everything, and nothing is signed.
///
/// All members should have the same policies and the same idea of keys. Every update is judged before it is delivered and before
/// it is forwarded: first who may write the state (cheap), then the signature (dear, and therefore within a budget for
/// each peer that sends).
///
/// ```
/// use suffuse::authority::{AuthorityLimits, AuthoritySet, Policy};
/// use suffuse::{Guard, SwarmId};
///
/// let swarm = SwarmId::from_name("announcements");
/// let only_ann = AuthoritySet::new(swarm, 1u64, Policy::Exclusive { owner: 1 }, AuthorityLimits::default());
/// let guard = Guard::new().authority(only_ann);
/// ```
pub struct Guard<P> {
    // In boxes, because most topics have none.
    authority: Option<Box<AuthoritySet<P>>>,
    keys: Option<Box<Keys<P>>>,
    /// Once it is needed or set.
    budget: Option<Box<VerifyBudget<P>>>,
    scratch: Vec<u8>,
    seals: Option<Box<Seals<P>>>,
    hasher: Option<Arc<dyn ChunkHasher + Send + Sync>>,
}

struct Keys<P> {
    signer: Option<Arc<dyn Signer + Send + Sync>>,
    verifier: Arc<dyn Verifier<P> + Send + Sync>,
}

/// What is to be done with a new update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Deliver it and pass it on.
    Pass,
    /// Drop it, and never ask for it again: it is genuine, but its origin may not write the state.
    Refuse(Offence),
    /// Drop it as if it had never come: it is not genuine.
    Forged(Offence),
    /// Drop it for now: its sender has used up what may be spent on its signatures.
    Postpone,
}

impl<P: PeerId> Guard<P> {
    /// A guard that lets everything pass.
    pub fn new() -> Self {
        Self { authority: None, keys: None, budget: None, scratch: Vec::new(), seals: None, hasher: None }
    }

    /// The same, with these rights. The set must be made for the topic's swarm.
    #[must_use]
    pub fn authority(mut self, set: AuthoritySet<P>) -> Self {
        self.authority = Some(Box::new(set));
        self
    }

    /// The same for a signed topic: own updates are signed by `signer`, those of others are checked by `verifier`, which binds
    /// peers to keys.
    #[must_use]
    pub fn signed(
        mut self,
        signer: impl Signer + Send + Sync + 'static,
        verifier: impl Verifier<P> + Send + Sync + 'static,
    ) -> Self {
        self.keys = Some(Box::new(Keys { signer: Some(Arc::new(signer)), verifier: Arc::new(verifier) }));
        self
    }

    /// The same for a member of a signed topic that only listens and relays.
    #[must_use]
    pub fn verified(mut self, verifier: impl Verifier<P> + Send + Sync + 'static) -> Self {
        self.keys = Some(Box::new(Keys { signer: None, verifier: Arc::new(verifier) }));
        self
    }

    /// The same for a livestream whose frames are sealed: nothing is delivered or passed on that its source did not sign.
    /// All viewers need it, the source with a signer.
    #[must_use]
    pub fn sealed(mut self, seals: Seals<P>) -> Self {
        self.seals = Some(Box::new(seals));
        self
    }

    /// The same, with the hash for the chunks of large updates (`Blake3` with the feature `ed25519`). In a signed topic without
    /// one, large updates are neither published nor taken. All members should have the same.
    #[must_use]
    pub fn chunk_hasher(mut self, hasher: impl ChunkHasher + Send + Sync + 'static) -> Self {
        self.hasher = Some(Arc::new(hasher));
        self
    }

    /// The same, with other bounds on what verification may cost.
    #[must_use]
    pub fn verify_limits(mut self, limits: VerifyLimits) -> Self {
        self.budget = Some(Box::new(VerifyBudget::new(limits)));
        self
    }
}

impl<P: PeerId> Default for Guard<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: WirePeer> Guard<P> {
    pub(crate) fn set(&self) -> Option<&AuthoritySet<P>> {
        self.authority.as_deref()
    }

    pub(crate) fn set_mut(&mut self) -> Option<&mut AuthoritySet<P>> {
        self.authority.as_deref_mut()
    }

    pub(crate) fn may_publish(&self, local: P, state: StateId, now: Instant) -> Result<(), WriteRefusal> {
        self.authority.as_ref().map_or(Ok(()), |set| set.check_write(local, state, now))
    }

    /// What seals media frames, for the relay.
    pub(crate) fn take_seals(&mut self) -> Option<Seals<P>> {
        self.seals.take().map(|seals| *seals)
    }

    /// Whether updates of this node can be signed, if they must be.
    pub(crate) fn can_sign(&self) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.signer.is_some())
    }

    /// Room that a signature takes in a frame, at most.
    pub(crate) fn seal_bytes_max(&self) -> usize {
        if self.keys.is_some() { Signature::BYTES_MAX + 1 } else { 0 }
    }

    /// What hashes the chunks of large updates, for the gossip machine.
    pub(crate) fn hasher(&self) -> Option<Arc<dyn ChunkHasher + Send + Sync>> {
        self.hasher.clone()
    }

    /// Whether large updates can be signed, and media sealed, if they must be.
    pub(crate) fn can_seal(&self) -> bool {
        self.keys.is_none() || self.hasher.is_some()
    }

    /// A guard for a stream beside the topic: sealed with the same keys, if the topic is signed.
    pub(crate) fn of_media(&self) -> Self {
        let mut guard = Self::new();
        if let (Some(keys), Some(hasher)) = (&self.keys, &self.hasher) {
            let (signer, verifier) = (keys.signer.clone(), Arc::clone(&keys.verifier));
            guard.seals = Some(Box::new(Seals::sharing(signer, verifier, Arc::clone(hasher))));
        }
        guard
    }

    /// The signature of an own update, or nothing in a topic that is not signed.
    pub(crate) fn seal(&mut self, swarm: SwarmId, data: &Data<P>) -> Bytes {
        self.seal_as(swarm, data, SignedBody::Whole(&data.body))
    }

    /// As [`Self::seal`], with what stands for the body.
    pub(crate) fn seal_as(&mut self, swarm: SwarmId, data: &Data<P>, body: SignedBody<'_>) -> Bytes {
        match self.keys.as_ref().and_then(|keys| keys.signer.as_ref()) {
            Some(signer) => {
                self.scratch.clear();
                update_signing_bytes_with(swarm, data, body, &mut self.scratch);
                Bytes::copy_from_slice(signer.sign(&self.scratch).as_bytes())
            }
            None => Bytes::new(),
        }
    }

    /// Judges an update that is not known yet, sent by `from`.
    pub(crate) fn judge(
        &mut self,
        from: P,
        swarm: SwarmId,
        data: &Data<P>,
        body: SignedBody<'_>,
        now: Instant,
    ) -> Verdict {
        let may_write = self.may_publish(data.origin, data.state, now).is_ok();
        match self.verify_as(from, swarm, data, body, now) {
            Verdict::Pass if !may_write => Verdict::Refuse(Offence::NotAuthorized),
            verdict => verdict,
        }
    }

    /// Whether an update is signed by its origin, if it must be.
    pub(crate) fn verify(&mut self, from: P, swarm: SwarmId, data: &Data<P>, now: Instant) -> Verdict {
        self.verify_as(from, swarm, data, SignedBody::Whole(&data.body), now)
    }

    fn verify_as(
        &mut self,
        from: P,
        swarm: SwarmId,
        data: &Data<P>,
        body: SignedBody<'_>,
        now: Instant,
    ) -> Verdict {
        let Some(keys) = &self.keys else { return Verdict::Pass };
        if data.signature.is_empty() {
            return Verdict::Forged(Offence::BadSignature);
        }
        let fresh = || Box::new(VerifyBudget::new(VerifyLimits::default()));
        if !self.budget.get_or_insert_with(fresh).take(from, 1, now) {
            return Verdict::Postpone;
        }
        self.scratch.clear();
        update_signing_bytes_with(swarm, data, body, &mut self.scratch);
        if keys.verifier.verify(&data.origin, &self.scratch, &data.signature) {
            Verdict::Pass
        } else {
            Verdict::Forged(Offence::BadSignature)
        }
    }

    pub(crate) fn is_signed(&self) -> bool {
        self.keys.is_some()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.authority.as_deref().and_then(AuthoritySet::poll_timeout)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, changes: &mut Vec<AuthorityChange<P>>) {
        if let Some(set) = &mut self.authority {
            set.handle_timeout(now, changes);
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for Guard<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("authority", &self.authority)
            .field("signed", &self.keys.is_some())
            .finish_non_exhaustive()
    }
}
