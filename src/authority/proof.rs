//! Claims and grants as signed bytes.
//!
//! ```text
//! claim       := version u8 · swarm u64 · first u64 · last u64 · epoch u32 · from u64 · until u64 · claimer
//! certificate := version u8 · swarm u64 · first u64 · last u64 · epoch u32 · from u64 · until u64 · onward u8
//!              · granter · grantee
//! peer        := length u8 · name
//! signed      := domain · (claim | certificate)
//! on the wire := (claim | certificate) · length u8 · signature
//! ```
//!
//! Numbers are least byte first. The domains are `suffuse claim`, `suffuse grant` and (in
//! [`update_signing_bytes`](crate::authority::update_signing_bytes)) `suffuse update`, each with a final zero byte, so
//! that no signature serves two purposes.

use alloc::vec::Vec;
use core::fmt;

use crate::authority::StateRange;
use crate::id::{Epoch, StateId, SwarmId};
use crate::wire::{Put, Reader, WireError, WirePeer};

/// Makes signatures with one private key, which the host holds.
pub trait Signer {
    /// Signs `message`.
    fn sign(&self, message: &[u8]) -> Signature;
}

/// Checks signatures. The host decides which key belongs to which peer.
pub trait Verifier<P> {
    /// Whether `signature` over `message` was made with the key of `peer`; false for peers without a known key.
    fn verify(&self, peer: &P, message: &[u8], signature: &[u8]) -> bool;
}

/// A signature of any scheme, at most [`Signature::BYTES_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl Signature {
    /// The most bytes that a signature can have: enough for Ed25519 (64) and BLS (96).
    pub const BYTES_MAX: usize = 96;

    /// A signature from its bytes; `None` if there are too many.
    pub fn new(signature: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..signature.len())?.copy_from_slice(signature);
        Some(Self { bytes, len: signature.len() as u8 })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Appends length and bytes.
    pub fn encode(&self, out: &mut impl Put) {
        out.put_u8(self.len);
        out.put(self.as_bytes());
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let len = reader.u8()?;
        Self::new(reader.take(usize::from(len))?).ok_or(WireError::Range)
    }
}

impl From<[u8; 64]> for Signature {
    fn from(signature: [u8; 64]) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..64].copy_from_slice(&signature);
        Self { bytes, len: 64 }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Milliseconds on a clock that all peers share closely enough, as a rule the Unix time.
///
/// Validity needs it, because an [`Instant`](crate::Instant) means nothing to another peer. A signer whose peers'
/// clocks may be behind dates the beginning of a validity back by the difference it expects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallTime {
    /// The milliseconds.
    pub unix_ms: u64,
}

impl WallTime {
    /// A time from its milliseconds.
    pub const fn from_unix_ms(unix_ms: u64) -> Self {
        Self { unix_ms }
    }
}

/// "I write these states of this swarm."
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claim<P> {
    /// Who says so.
    pub claimer: P,
    /// In which swarm.
    pub swarm: SwarmId,
    /// Which states.
    pub states: StateRange,
    /// Greater in every new claim of this claimer in this swarm.
    pub epoch: Epoch,
    /// The first moment at which it is valid. Never later than the signing: how long a replay is guarded against
    /// counts from here.
    pub valid_from: WallTime,
    /// The first moment at which it is no longer valid.
    pub valid_until: WallTime,
}

impl<P: WirePeer> Claim<P> {
    /// Appends the canonical bytes that are signed.
    pub fn signing_bytes(&self, out: &mut impl Put) {
        out.put(CLAIM_DOMAIN);
        self.encode(out);
    }

    fn encode(&self, out: &mut impl Put) {
        self.head().encode(out);
        put_peer(&self.claimer, out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let Head { swarm, states, epoch, valid_from, valid_until } = Head::decode(reader)?;
        Ok(Self { claimer: read_peer(reader)?, swarm, states, epoch, valid_from, valid_until })
    }
}

impl<P: Copy> Claim<P> {
    pub(super) fn head(&self) -> Head {
        let Self { swarm, states, epoch, valid_from, valid_until, .. } = *self;
        Head { swarm, states, epoch, valid_from, valid_until }
    }
}

/// A claim with the claimer's signature. See [`AuthoritySet::present`](crate::AuthoritySet::present).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Proof<P> {
    /// What is claimed.
    pub claim: Claim<P>,
    /// The claimer's signature over [`Claim::signing_bytes`].
    pub signature: Signature,
}

impl<P: WirePeer> Proof<P> {
    /// Signs `claim`. The signer must hold the claimer's key.
    pub fn sign(claim: Claim<P>, signer: &(impl Signer + ?Sized)) -> Self {
        let mut message = Vec::new();
        claim.signing_bytes(&mut message);
        Self { claim, signature: signer.sign(&message) }
    }

    /// Whether the signature is the claimer's. Nothing else is checked, validity and replay in particular: that is
    /// [`ProofChecker::check`](crate::authority::ProofChecker::check).
    #[must_use]
    pub fn verify_signature(&self, verifier: &(impl Verifier<P> + ?Sized)) -> bool {
        let mut message = Vec::new();
        self.claim.signing_bytes(&mut message);
        verifier.verify(&self.claim.claimer, &message, self.signature.as_bytes())
    }

    /// Appends the form that travels.
    pub fn encode(&self, out: &mut impl Put) {
        self.claim.encode(out);
        self.signature.encode(out);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { claim: Claim::decode(reader)?, signature: Signature::decode(reader)? })
    }
}

/// A grant that travels: "`grantee` may write these states, by my right".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Certificate<P> {
    /// Who grants.
    pub granter: P,
    /// To whom.
    pub grantee: P,
    /// In which swarm.
    pub swarm: SwarmId,
    /// Which states: exactly the range of a shared policy.
    pub states: StateRange,
    /// Greater in every new certificate of this granter for this grantee and these states.
    pub epoch: Epoch,
    /// The first moment at which it is valid. Never later than the signing: a revocation stands only as long as what
    /// was signed before it can be valid.
    pub valid_from: WallTime,
    /// The first moment at which it is no longer valid.
    pub valid_until: WallTime,
    /// How many more grants may follow in the chain, as in [`GrantTerms`](crate::authority::GrantTerms).
    pub onward: u8,
}

impl<P: WirePeer> Certificate<P> {
    /// Appends the canonical bytes that are signed.
    pub fn signing_bytes(&self, out: &mut impl Put) {
        out.put(GRANT_DOMAIN);
        self.encode(out);
    }

    fn encode(&self, out: &mut impl Put) {
        self.head().encode(out);
        out.put_u8(self.onward);
        put_peer(&self.granter, out);
        put_peer(&self.grantee, out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let Head { swarm, states, epoch, valid_from, valid_until } = Head::decode(reader)?;
        let onward = reader.u8()?;
        let (granter, grantee) = (read_peer(reader)?, read_peer(reader)?);
        Ok(Self { granter, grantee, swarm, states, epoch, valid_from, valid_until, onward })
    }
}

impl<P: Copy> Certificate<P> {
    pub(super) fn head(&self) -> Head {
        let Self { swarm, states, epoch, valid_from, valid_until, .. } = *self;
        Head { swarm, states, epoch, valid_from, valid_until }
    }
}

/// A certificate with the granter's signature. See
/// [`AuthoritySet::present_chain`](crate::AuthoritySet::present_chain).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SignedCertificate<P> {
    /// What is granted.
    pub certificate: Certificate<P>,
    /// The granter's signature over [`Certificate::signing_bytes`].
    pub signature: Signature,
}

impl<P: WirePeer> SignedCertificate<P> {
    /// Signs `certificate`. The signer must hold the granter's key.
    pub fn sign(certificate: Certificate<P>, signer: &(impl Signer + ?Sized)) -> Self {
        let mut message = Vec::new();
        certificate.signing_bytes(&mut message);
        Self { certificate, signature: signer.sign(&message) }
    }

    /// Whether the signature is the granter's. Nothing else is checked.
    #[must_use]
    pub fn verify_signature(&self, verifier: &(impl Verifier<P> + ?Sized)) -> bool {
        let mut message = Vec::new();
        self.certificate.signing_bytes(&mut message);
        verifier.verify(&self.certificate.granter, &message, self.signature.as_bytes())
    }

    /// Appends the form that travels.
    pub fn encode(&self, out: &mut impl Put) {
        self.certificate.encode(out);
        self.signature.encode(out);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { certificate: Certificate::decode(reader)?, signature: Signature::decode(reader)? })
    }
}

const CLAIM_DOMAIN: &[u8] = b"suffuse claim\0";
const GRANT_DOMAIN: &[u8] = b"suffuse grant\0";
const PROOF_VERSION: u8 = 1;

/// What claims and certificates have in common.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) swarm: SwarmId,
    pub(super) states: StateRange,
    pub(super) epoch: Epoch,
    pub(super) valid_from: WallTime,
    pub(super) valid_until: WallTime,
}

impl Head {
    fn encode(&self, out: &mut impl Put) {
        out.put_u8(PROOF_VERSION);
        out.put(&self.swarm.0.to_le_bytes());
        out.put(&self.states.first().0.to_le_bytes());
        out.put(&self.states.last().0.to_le_bytes());
        out.put(&self.epoch.0.to_le_bytes());
        out.put(&self.valid_from.unix_ms.to_le_bytes());
        out.put(&self.valid_until.unix_ms.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = reader.u8()?;
        if version != PROOF_VERSION {
            return Err(WireError::Version(version));
        }
        Ok(Self {
            swarm: SwarmId(reader.u64()?),
            states: StateRange::new(StateId(reader.u64()?), StateId(reader.u64()?))
                .ok_or(WireError::Range)?,
            epoch: Epoch(reader.u32()?),
            valid_from: WallTime::from_unix_ms(reader.u64()?),
            valid_until: WallTime::from_unix_ms(reader.u64()?),
        })
    }
}

/// With its length, so that the bytes of two kinds of names never mean the same.
pub(super) fn put_peer<P: WirePeer>(peer: &P, out: &mut impl Put) {
    debug_assert!(P::WIRE_BYTES <= usize::from(u8::MAX));
    out.put_u8(P::WIRE_BYTES as u8);
    peer.encode(out);
}

fn read_peer<P: WirePeer>(reader: &mut Reader<'_>) -> Result<P, WireError> {
    if usize::from(reader.u8()?) != P::WIRE_BYTES {
        return Err(WireError::Range);
    }
    P::decode(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::toy::{ToyKeys, ToySigner};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn claim() -> Claim<u32> {
        Claim {
            claimer: 0x0a0b_0c0d,
            swarm: SwarmId(0x1122_3344_5566_7788),
            states: StateRange::new(StateId(8), StateId(0x0f)).unwrap(),
            epoch: Epoch(5),
            valid_from: WallTime::from_unix_ms(1_000),
            valid_until: WallTime::from_unix_ms(2_000),
        }
    }

    fn certificate() -> Certificate<u32> {
        let Claim { claimer, swarm, states, epoch, valid_from, valid_until } = claim();
        Certificate { granter: claimer, grantee: 7, swarm, states, epoch, valid_from, valid_until, onward: 2 }
    }

    const GOLDEN_HEAD: &[u8] = b"\x01\x88\x77\x66\x55\x44\x33\x22\x11\
        \x08\0\0\0\0\0\0\0\x0f\0\0\0\0\0\0\0\
        \x05\0\0\0\xe8\x03\0\0\0\0\0\0\xd0\x07\0\0\0\0\0\0";

    #[test]
    fn golden_claim() {
        let mut bytes = Vec::new();
        claim().signing_bytes(&mut bytes);
        assert_eq!(bytes, [b"suffuse claim\0", GOLDEN_HEAD, b"\x04\x0d\x0c\x0b\x0a"].concat());
    }

    #[test]
    fn golden_certificate() {
        let mut bytes = Vec::new();
        certificate().signing_bytes(&mut bytes);
        let tail = b"\x02\x04\x0d\x0c\x0b\x0a\x04\x07\0\0\0";
        assert_eq!(bytes, [b"suffuse grant\0", GOLDEN_HEAD, tail].concat());
    }

    #[test]
    fn golden_proof_on_the_wire() {
        let proof = Proof { claim: claim(), signature: Signature::new(&[9, 8]).unwrap() };
        let mut bytes = Vec::new();
        proof.encode(&mut bytes);
        assert_eq!(bytes, [GOLDEN_HEAD, b"\x04\x0d\x0c\x0b\x0a\x02\x09\x08"].concat());
        assert_eq!(Proof::decode(&mut Reader::new(&Bytes::from(bytes))), Ok(proof));
    }

    #[test]
    fn what_was_signed_verifies_for_its_signer_only() {
        let proof = Proof::sign(claim(), &ToySigner(0x0a0b_0c0d));
        assert!(proof.verify_signature(&ToyKeys));
        assert!(!Proof::sign(claim(), &ToySigner(1)).verify_signature(&ToyKeys));
        let signed = SignedCertificate::sign(certificate(), &ToySigner(0x0a0b_0c0d));
        assert!(signed.verify_signature(&ToyKeys));
    }

    #[test]
    fn oversize_signatures_are_refused() {
        assert!(Signature::new(&[0; 96]).is_some());
        assert!(Signature::new(&[0; 97]).is_none());
        let bytes = Bytes::from([[97].as_slice(), &[0; 97]].concat());
        assert_eq!(Signature::decode(&mut Reader::new(&bytes)), Err(WireError::Range));
    }

    proptest! {
        #[test]
        fn damaged_proofs_never_verify(bit in 0usize..8 * 104, cut in 0usize..104) {
            let mut bytes = Vec::new();
            let signed = SignedCertificate::sign(certificate(), &ToySigner(0x0a0b_0c0d));
            signed.encode(&mut bytes);
            let frame = Bytes::from(bytes.clone());
            prop_assert_eq!(SignedCertificate::<u32>::decode(&mut Reader::new(&frame)), Ok(signed));
            let short = frame.slice(..cut.min(bytes.len() - 1));
            prop_assert!(SignedCertificate::<u32>::decode(&mut Reader::new(&short)).is_err());
            prop_assume!(bit < 8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(damaged) = SignedCertificate::<u32>::decode(&mut Reader::new(&Bytes::from(bytes))) {
                prop_assert!(!damaged.verify_signature(&ToyKeys));
            }
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let frame = Bytes::from(noise);
            if let Ok(proof) = Proof::<u32>::decode(&mut Reader::new(&frame)) {
                prop_assert!(!proof.verify_signature(&ToyKeys));
            }
            let _ = SignedCertificate::<[u8; 32]>::decode(&mut Reader::new(&frame));
        }
    }
}
