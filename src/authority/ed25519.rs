//! Ed25519 for the traits [`Signer`] and [`Verifier`].
//!
//! Signatures are checked strictly: keys of small order and non-canonical points are refused, so that a signature that
//! one node accepts is accepted by all.

use alloc::collections::BTreeMap;
use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::authority::{Signature, Signer, Verifier};
use crate::id::PeerId;

/// A private key. Its memory is wiped when it is dropped, and it is never printed.
///
/// ```
/// use suffuse::authority::{Ed25519Signer, Ed25519Verifier, Signer, Verifier};
///
/// let signer = Ed25519Signer::from_seed(&[7; 32]); // in production: 32 bytes of entropy, kept secret
/// let signature = signer.sign(b"hello");
/// assert!(Ed25519Verifier.verify(&signer.public_key(), b"hello", signature.as_bytes()));
/// assert!(!Ed25519Verifier.verify(&signer.public_key(), b"hullo", signature.as_bytes()));
/// ```
#[derive(Clone)]
pub struct Ed25519Signer {
    key: SigningKey,
}

impl Ed25519Signer {
    /// The key that belongs to 32 secret bytes of entropy, which the host draws and keeps.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The public key, which can serve as the name of the peer.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }
}

impl Signer for Ed25519Signer {
    fn sign(&self, message: &[u8]) -> Signature {
        self.key.sign(message).to_bytes().into()
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed25519Signer(..)")
    }
}

/// For swarms in which the name of a peer is its public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ed25519Verifier;

impl Verifier<[u8; 32]> for Ed25519Verifier {
    fn verify(&self, peer: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
        VerifyingKey::from_bytes(peer).is_ok_and(|key| verify_strict(&key, message, signature))
    }
}

/// The public keys of peers with other names. The host knows which key belongs to whom.
#[derive(Clone, Debug)]
pub struct KeyRing<P> {
    keys: BTreeMap<P, VerifyingKey>,
    keys_max: usize,
}

impl<P: PeerId> KeyRing<P> {
    /// An empty ring for at most `keys_max` keys, each of some 200 bytes.
    pub fn new(keys_max: usize) -> Self {
        Self { keys: BTreeMap::new(), keys_max }
    }

    /// Binds `peer` to a key. Binding it to the same key again changes nothing.
    pub fn insert(&mut self, peer: P, public_key: &[u8; 32]) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(public_key).ok().filter(|key| !key.is_weak());
        let key = key.ok_or(KeyError::Invalid)?;
        match self.keys.get(&peer) {
            Some(bound) if bound.as_bytes() == public_key => Ok(()),
            Some(_) => Err(KeyError::Bound),
            None if self.keys.len() >= self.keys_max => Err(KeyError::Full { max: self.keys_max }),
            None => {
                self.keys.insert(peer, key);
                Ok(())
            }
        }
    }

    /// Forgets the key of `peer`; whether there was one.
    pub fn remove(&mut self, peer: P) -> bool {
        self.keys.remove(&peer).is_some()
    }

    /// The key of `peer`.
    pub fn public_key(&self, peer: P) -> Option<[u8; 32]> {
        self.keys.get(&peer).map(VerifyingKey::to_bytes)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl<P: PeerId> Verifier<P> for KeyRing<P> {
    fn verify(&self, peer: &P, message: &[u8], signature: &[u8]) -> bool {
        self.keys.get(peer).is_some_and(|key| verify_strict(key, message, signature))
    }
}

/// A key that was not taken into a [`KeyRing`]. Every variant leaves the ring as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are no public key, or a weak one. Nothing was changed.
    #[error("the bytes are no usable public key; nothing was changed")]
    Invalid,
    /// The peer has another key. Remove it first. Nothing was changed.
    #[error("the peer is bound to another key; nothing was changed")]
    Bound,
    /// The ring is full. Nothing was changed.
    #[error("the ring has {max} keys, which is the limit; nothing was changed")]
    Full {
        /// The limit.
        max: usize,
    },
}

fn verify_strict(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    ed25519_dalek::Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{
        AuthorityLimits, AuthoritySet, Certificate, ChainOutcome, Claim, Freshness, Policy, Proof,
        ProofError, SignedCertificate, StateRange, WallTime, sign_update, verify_update,
    };
    use crate::id::{Epoch, Priority, StateId, SwarmId};
    use crate::time::Instant;
    use crate::wire::{Data, Reader};
    use alloc::vec::Vec;
    use bytes::Bytes;
    use proptest::prelude::*;

    const SWARM: SwarmId = SwarmId(1);

    fn signer(seed: u8) -> Ed25519Signer {
        Ed25519Signer::from_seed(&[seed; 32])
    }

    fn at(ms: u64) -> WallTime {
        WallTime::from_unix_ms(ms)
    }

    fn claim() -> Claim<[u8; 32]> {
        Claim {
            claimer: signer(1).public_key(),
            swarm: SWARM,
            states: StateRange::single(StateId(1)),
            epoch: Epoch(1),
            valid_from: at(0),
            valid_until: at(1_000),
        }
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn agrees_with_the_standard() {
        let seed = *b"\x4c\xcd\x08\x9b\x28\xff\x96\xda\x9d\xb6\xc3\x46\xec\x11\x4e\x0f\
            \x5b\x8a\x31\x9f\x35\xab\xa6\x24\xda\x8c\xf6\xed\x4f\xb8\xa6\xfb";
        let public = *b"\x3d\x40\x17\xc3\xe8\x43\x89\x5a\x92\xb7\x0a\xa7\x4d\x1b\x7e\xbc\
            \x9c\x98\x2c\xcf\x2e\xc4\x96\x8c\xc0\xcd\x55\xf1\x2a\xf4\x66\x0c";
        let expected = *b"\x92\xa0\x09\xa9\xf0\xd4\xca\xb8\x72\x0e\x82\x0b\x5f\x64\x25\x40\
            \xa2\xb2\x7b\x54\x16\x50\x3f\x8f\xb3\x76\x22\x23\xeb\xdb\x69\xda\
            \x08\x5a\xc1\xe4\x3e\x15\x99\x6e\x45\x8f\x36\x13\xd0\xf1\x1d\x8c\
            \x38\x7b\x2e\xae\xb4\x30\x2a\xee\xb0\x0d\x29\x16\x12\xbb\x0c\x00";
        let signer = Ed25519Signer::from_seed(&seed);
        assert_eq!(signer.public_key(), public);
        assert_eq!(signer.sign(b"\x72").as_bytes(), expected);
        assert!(Ed25519Verifier.verify(&public, b"\x72", &expected));
    }

    #[test]
    fn weak_keys_and_broken_signatures_are_refused() {
        // The neutral point: every signature with S = 0 and R = A verifies under lax rules.
        let mut weak = [0; 32];
        weak[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(!Ed25519Verifier.verify(&weak, b"anything", &forged));
        let mut ring = KeyRing::new(1);
        assert_eq!(ring.insert(1u64, &weak), Err(KeyError::Invalid));
        let good = signer(1).sign(b"m");
        assert!(!Ed25519Verifier.verify(&signer(1).public_key(), b"m", &good.as_bytes()[..63]));
        assert!(!Ed25519Verifier.verify(&signer(1).public_key(), b"m", &[good.as_bytes(), &[0]].concat()));
    }

    #[test]
    fn a_ring_binds_names_to_keys() {
        let mut ring = KeyRing::new(1);
        assert!(ring.is_empty());
        ring.insert(5u64, &signer(1).public_key()).unwrap();
        ring.insert(5, &signer(1).public_key()).unwrap();
        assert_eq!(ring.insert(5, &signer(2).public_key()), Err(KeyError::Bound));
        assert_eq!(ring.insert(6, &signer(2).public_key()), Err(KeyError::Full { max: 1 }));
        let signature = signer(1).sign(b"m");
        assert!(ring.verify(&5, b"m", signature.as_bytes()));
        assert!(!ring.verify(&6, b"m", signature.as_bytes()));
        assert_eq!((ring.len(), ring.public_key(5)), (1, Some(signer(1).public_key())));
        assert!(ring.remove(5) && !ring.remove(5));
        assert!(!ring.verify(&5, b"m", signature.as_bytes()));
    }

    #[test]
    fn traits_work_as_objects_and_keys_are_not_printed() {
        let signer: &dyn Signer = &signer(1);
        let verifier: &dyn Verifier<[u8; 32]> = &Ed25519Verifier;
        assert!(Proof::sign(claim(), signer).verify_signature(verifier));
        assert_eq!(alloc::format!("{:?}", self::signer(1)), "Ed25519Signer(..)");
    }

    #[test]
    fn proofs_chains_and_updates_work_end_to_end() {
        let (founder, editor, guest) = (signer(1), signer(2), signer(3));
        let name = Ed25519Signer::public_key;
        let (now, mut changes) = (Instant::ZERO, Vec::new());
        let policy = Policy::Shared { founder: name(&founder) };
        let mut set = AuthoritySet::new(SWARM, name(&founder), policy, AuthorityLimits::default());
        let link = |from: &Ed25519Signer, to: &Ed25519Signer, onward| {
            let certificate = Certificate {
                granter: name(from),
                grantee: name(to),
                swarm: SWARM,
                states: StateRange::ALL,
                epoch: Epoch(1),
                valid_from: at(0),
                valid_until: at(1_000),
                onward,
            };
            SignedCertificate::sign(certificate, from)
        };
        let chain = [link(&founder, &editor, 1), link(&editor, &guest, 0)];
        let report = set.present_chain(&chain, now, at(10), &Ed25519Verifier, &mut changes);
        assert_eq!((report.signature_checks, report.outcome), (2, Ok(ChainOutcome::Granted)));
        assert!(set.may_write(name(&guest), StateId(1), now));

        let proof = Proof::sign(Claim { claimer: name(&guest), ..claim() }, &guest);
        assert_eq!(set.present(&proof, now, at(10), &Ed25519Verifier), Ok(Freshness::New));
        let forged = Proof { claim: Claim { epoch: Epoch(2), ..proof.claim }, ..proof };
        assert_eq!(set.present(&forged, now, at(10), &Ed25519Verifier), Err(ProofError::BadSignature));

        let (mut scratch, born) = (Vec::new(), now);
        let (epoch, sequence, state, priority) = (Epoch(1), 0, StateId(1), Priority::Normal);
        let body = Bytes::from_static(b"hello");
        let (keyframe, layer, hops, origin) = (true, 0, 0, name(&guest));
        let data = Data {
            origin,
            epoch,
            sequence,
            state,
            priority,
            keyframe,
            layer,
            hops,
            pulled: false,
            flood: false,
            signature: Bytes::new(),
            born,
            body,
        };
        let signature = sign_update(SWARM, &data, &guest, &mut scratch);
        assert!(verify_update(SWARM, &data, signature.as_bytes(), &Ed25519Verifier, &mut scratch));
        let moved = Data { sequence: 1, ..data };
        assert!(!verify_update(SWARM, &moved, signature.as_bytes(), &Ed25519Verifier, &mut scratch));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_proofs_never_verify(bit in 0usize..8 * 143) {
            let mut bytes = Vec::new();
            Proof::sign(claim(), &signer(1)).encode(&mut bytes);
            prop_assert_eq!(bytes.len(), 143);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(proof) = Proof::<[u8; 32]>::decode(&mut Reader::new(&Bytes::from(bytes))) {
                prop_assert!(!proof.verify_signature(&Ed25519Verifier));
            }
        }
    }
}
