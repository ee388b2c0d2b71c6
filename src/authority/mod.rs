//! Who may write what: policies, delegation, moderation, proofs and signed updates.
//!
//! - [`AuthoritySet`] knows, per range of states, who may write: one owner, a founder and those it granted (who may
//!   grant onward), anybody, or nobody. Moderators mute and ban.
//! - [`LivestreamTracks`] names the tracks of a livestream and sets their policies.
//! - [`Proof`] and [`Certificate`] carry claims and grants as signed bytes. Replay and expiry are refused.
//! - [`sign_update`] and [`verify_update`] make updates authentic over any number of relays; [`VerifyBudget`] bounds
//!   what checking them costs.
//!
//! The module holds no keys and does no cryptography: the host brings a [`Signer`] and a [`Verifier`], or takes those
//! of the feature `ed25519`. It reads no clock. Everything it remembers has a limit, see [`AuthorityLimits`],
//! [`ProofLimits`] and [`VerifyLimits`].
//!
//! ```
//! use suffuse::authority::{AuthorityLimits, AuthoritySet, GrantTerms, Policy, StateRange};
//! use suffuse::{Instant, StateId, SwarmId};
//!
//! let (founder, editor, guest) = (1u64, 2, 3);
//! let (now, mut changes) = (Instant::ZERO, Vec::new());
//! let mut set = AuthoritySet::new(SwarmId(7), founder, Policy::Frozen, AuthorityLimits::default());
//!
//! let page = StateId(40);
//! set.set_policy(founder, StateRange::single(page), Policy::Shared { founder }, now, &mut changes)?;
//! set.grant(founder, editor, page, GrantTerms::onward(1), now, &mut changes)?;
//! set.grant(editor, guest, page, GrantTerms::default(), now, &mut changes)?;
//! assert!(set.may_write(guest, page, now));
//!
//! // What the editor gave goes with the editor.
//! set.revoke(founder, editor, page, now, &mut changes)?;
//! assert!(!set.may_write(guest, page, now));
//! # Ok::<(), suffuse::AuthorityError>(())
//! ```

mod budget;
mod chain;
mod checker;
mod error;
mod grants;
mod hasher;
mod livestream;
mod moderation;
mod policy;
mod proof;
mod set;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;
mod update;
mod voids;

#[cfg(feature = "ed25519")]
mod ed25519;

pub use budget::{VerifyBudget, VerifyLimits};
pub use chain::{ChainOutcome, ChainReport};
pub use checker::{Freshness, ProofChecker, ProofLimits};
#[cfg(feature = "ed25519")]
pub use ed25519::{Ed25519Signer, Ed25519Verifier, KeyError, KeyRing};
pub use error::{AuthorityError, ProofError, WriteRefusal};
#[cfg(feature = "ed25519")]
pub use hasher::Blake3;
pub use hasher::{CHUNK_HASH_BYTES, ChunkHasher};
pub use livestream::{LAYERS, LivestreamTracks};
pub use policy::{AuthorityChange, AuthorityLimits, GrantTerms, Policy, StateRange};
pub use proof::{Certificate, Claim, Proof, Signature, SignedCertificate, Signer, Verifier, WallTime};
pub use set::AuthoritySet;
pub use update::{SignedBody, sign_update, update_signing_bytes, update_signing_bytes_with, verify_update};
