//! What can go wrong, and what it left behind.

use crate::authority::{StateRange, WallTime};
use crate::id::{Epoch, SwarmId};

/// A change of rights that was refused. Every variant leaves the rights as they were; expiries that were due have
/// been carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The acting peer is banned. Nothing was changed.
    #[error("a banned peer can change nothing; nothing was changed")]
    Banned,
    /// Only the founder of the swarm can do this. Nothing was changed.
    #[error("only the founder of the swarm can do this; nothing was changed")]
    NotFounder,
    /// Only the owner or founder of these states, or the founder of the swarm, can do this. Nothing was changed.
    #[error("only the owner or founder of the states can do this; nothing was changed")]
    NotOwner,
    /// Only a moderator or the founder of the swarm can do this. Nothing was changed.
    #[error("only a moderator or the founder can do this; nothing was changed")]
    NotModerator,
    /// The granter has no right to these states itself. Nothing was changed.
    #[error("the granter has no right to these states; nothing was changed")]
    NotMember,
    /// The granter cannot give that many onward grants. Nothing was changed.
    #[error("the grant may go onward {wanted} times, the granter can give {max:?}; nothing was changed")]
    Onward {
        /// What was asked for.
        wanted: u8,
        /// The most that the granter can give; `None` if it cannot grant at all.
        max: Option<u8>,
    },
    /// The grantee is the granter itself, or one from whom the granter has its right. Nothing was changed.
    #[error("the granter's right comes from the grantee; nothing was changed")]
    Cycle,
    /// The states are not shared, so there is nothing to grant or revoke. Nothing was changed.
    #[error("the policy of these states is not shared; nothing was changed")]
    NotShared,
    /// The states have no exclusive owner. Nothing was changed.
    #[error("the policy of these states is not exclusive; nothing was changed")]
    NotExclusive,
    /// No grant is known here that the revoker could take from the target. No right was changed, but certificates
    /// for what would have been revoked are refused from now on: one may be on its way.
    #[error("the target has no grant that the revoker can take; only certificates were voided")]
    NotGranted,
    /// The revoker has its right from the target. Nothing was changed.
    #[error("the revoker has its right from the target; nothing was changed")]
    OwnGranter,
    /// The target is the founder, against whom this cannot be done. Nothing was changed.
    #[error("this cannot be done to the founder; nothing was changed")]
    Founder,
    /// The target is a moderator: only the founder can do this to it. Nothing was changed.
    #[error("only the founder can do this to a moderator; nothing was changed")]
    Moderator,
    /// The peer is a moderator already. Nothing was changed.
    #[error("the peer is a moderator already; nothing was changed")]
    AlreadyModerator,
    /// The peer to dismiss is no moderator. Nothing was changed.
    #[error("the peer is no moderator; nothing was changed")]
    NoSuchModerator,
    /// The founder decided it, and only the founder can undo it. Nothing was changed.
    #[error("the founder decided it, only the founder can undo it; nothing was changed")]
    DecidedByFounder,
    /// The peer is not muted in any of these states. Nothing was changed.
    #[error("the peer is not muted there; nothing was changed")]
    NotMuted,
    /// The peer is not banned. Nothing was changed.
    #[error("the peer is not banned; nothing was changed")]
    NotBanned,
    /// The states are frozen already. Nothing was changed.
    #[error("the states are frozen already; nothing was changed")]
    AlreadyFrozen,
    /// The states were not frozen by a call. If their policy is `Frozen`, set another. Nothing was changed.
    #[error("the states were not frozen by a call; nothing was changed")]
    NotFrozen,
    /// The range shares states with another range that has a policy. Nothing was changed.
    #[error("the range overlaps {with:?}, which has a policy; nothing was changed")]
    Overlap {
        /// The other range.
        with: StateRange,
    },
    /// No policy was set for exactly this range. Nothing was changed.
    #[error("no policy was set for exactly {0:?}; nothing was changed")]
    UnknownRange(StateRange),
    /// The end that was given has passed already. Nothing was changed.
    #[error("the end that was given has passed; nothing was changed")]
    Lapsed,
    /// A table is full. Nothing was changed.
    #[error("`{limit}` is {max}, which is reached; nothing was changed")]
    Full {
        /// Which field of [`AuthorityLimits`](crate::authority::AuthorityLimits).
        limit: &'static str,
        /// Its value.
        max: usize,
    },
}

/// A proof or a certificate that was refused. Every variant leaves rights and memory as they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// It is for another swarm. Nothing was recorded.
    #[error("the proof is for swarm {0:?}; nothing was recorded")]
    WrongSwarm(SwarmId),
    /// Its validity is over. Nothing was recorded.
    #[error("the proof expired at {0:?}; nothing was recorded")]
    Expired(WallTime),
    /// Its validity has not begun. Nothing was recorded.
    #[error("the proof is valid from {0:?}; nothing was recorded")]
    NotYetValid(WallTime),
    /// It is valid for longer than is accepted. Nothing was recorded.
    #[error("the proof is valid for {lifetime_ms} ms, the limit is {max}; nothing was recorded")]
    Lifetime {
        /// Its validity.
        lifetime_ms: u64,
        /// The limit, [`ProofLimits::lifetime_ms_max`](crate::authority::ProofLimits::lifetime_ms_max).
        max: u64,
    },
    /// One with a greater epoch was seen, or a different one with the same epoch. Nothing was recorded.
    #[error("epoch {seen:?} was seen already; nothing was recorded")]
    Stale {
        /// The greatest epoch seen.
        seen: Epoch,
    },
    /// The signature is not that of the signer over these bytes. Nothing was recorded.
    #[error("the signature is wrong; nothing was recorded")]
    BadSignature,
    /// The claimer may not write these states. Nothing was recorded.
    #[error("the claim is not covered by the policy: {0}; nothing was recorded")]
    NotAuthorised(WriteRefusal),
    /// As many claimers are remembered as the limits allow, and none can be forgotten yet. Nothing was recorded.
    #[error("{max} claimers are remembered, which is the limit; nothing was recorded")]
    MemoryFull {
        /// The limit, [`ProofLimits::claimers_max`](crate::authority::ProofLimits::claimers_max).
        max: usize,
    },
    /// The chain has no certificate, or too many. No signature was checked. Nothing was recorded.
    #[error("the chain has {certificates} certificates, the limit is {max}; nothing was recorded")]
    ChainLength {
        /// How many it has.
        certificates: usize,
        /// The most, [`AuthorityLimits::depth_max`](crate::authority::AuthorityLimits::depth_max).
        max: usize,
    },
    /// A certificate does not continue the one before it: another granter, other states, or as many onward grants.
    /// No signature was checked. Nothing was recorded.
    #[error("certificate {at} does not continue the one before; nothing was recorded")]
    ChainBroken {
        /// Which, counted from 0.
        at: usize,
    },
    /// A revocation stands against a certificate. Nothing was recorded.
    #[error("certificate {at} is revoked; nothing was recorded")]
    Revoked {
        /// Which, counted from 0.
        at: usize,
    },
    /// The grants of the chain cannot be made. Nothing was recorded.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// Why a peer may not write a state. Nothing is changed by asking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteRefusal {
    /// The peer is banned.
    #[error("the peer is banned")]
    Banned,
    /// Nobody may write the state now.
    #[error("the state is frozen")]
    Frozen,
    /// The peer has neither ownership nor a live grant.
    #[error("the peer has no right to the state")]
    NoRight,
    /// The peer is muted in this state.
    #[error("the peer is muted")]
    Muted,
}
