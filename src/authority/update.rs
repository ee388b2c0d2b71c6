//! What an origin signs of an update, so that every relay can check it.

use alloc::vec::Vec;

use crate::authority::proof::put_peer;
use crate::authority::{Signature, Signer, Verifier};
use crate::id::{Priority, SwarmId};
use crate::wire::{Data, Put, WirePeer};

/// What stands for the body in the signed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignedBody<'a> {
    /// The body itself.
    Whole(&'a [u8]),
    /// A digest of it, or the list of the digests of its chunks, made with a cryptographic hash that all peers of the
    /// swarm agree on.
    Digest {
        /// How long the body is.
        body_bytes: u64,
        /// The digest or digests.
        digest: &'a [u8],
    },
}

/// Appends the canonical bytes of `data` that its origin signs.
///
/// ```text
/// "suffuse update\0" · version u8 · swarm u64 · epoch u32 · sequence u64 · state u64 · flags u8
///   · origin length u8 · origin · kind u8 (0 whole, 1 digest) · body length u64 · body or digest
/// flags := 0 f lll k pp   flood, layer, keyframe, priority
/// ```
///
/// Numbers are least byte first. Hops and age are left out: they change on the way.
pub fn update_signing_bytes<P: WirePeer>(swarm: SwarmId, data: &Data<P>, out: &mut impl Put) {
    update_signing_bytes_with(swarm, data, SignedBody::Whole(&data.body), out);
}

/// As [`update_signing_bytes`], with `body` in the place of the update's own, which is not looked at.
pub fn update_signing_bytes_with<P: WirePeer>(
    swarm: SwarmId,
    data: &Data<P>,
    body: SignedBody<'_>,
    out: &mut impl Put,
) {
    let priority = match data.priority {
        Priority::Background => 0,
        Priority::Normal => 1,
        Priority::High => 2,
        Priority::Urgent => 3,
    };
    out.put(UPDATE_DOMAIN);
    out.put_u8(UPDATE_VERSION);
    out.put(&swarm.0.to_le_bytes());
    out.put(&data.epoch.0.to_le_bytes());
    out.put(&data.sequence.to_le_bytes());
    out.put(&data.state.0.to_le_bytes());
    out.put_u8(priority | u8::from(data.keyframe) << 2 | (data.layer & 7) << 3 | u8::from(data.flood) << 6);
    put_peer(&data.origin, out);
    let (kind, body_bytes, bytes) = match body {
        SignedBody::Whole(body) => (0, body.len() as u64, body),
        SignedBody::Digest { body_bytes, digest } => (1, body_bytes, digest),
    };
    out.put_u8(kind);
    out.put(&body_bytes.to_le_bytes());
    out.put(bytes);
}

/// Signs an update. The signer must hold the key of `data.origin`. `scratch` is overwritten; keeping it between calls
/// saves the allocation.
pub fn sign_update<P: WirePeer>(
    swarm: SwarmId,
    data: &Data<P>,
    signer: &(impl Signer + ?Sized),
    scratch: &mut Vec<u8>,
) -> Signature {
    scratch.clear();
    update_signing_bytes(swarm, data, scratch);
    signer.sign(scratch)
}

/// Whether `signature` is that of `data.origin` over the update. Take the cost from a
/// [`VerifyBudget`](crate::authority::VerifyBudget) first.
#[must_use]
pub fn verify_update<P: WirePeer>(
    swarm: SwarmId,
    data: &Data<P>,
    signature: &[u8],
    verifier: &(impl Verifier<P> + ?Sized),
    scratch: &mut Vec<u8>,
) -> bool {
    scratch.clear();
    update_signing_bytes(swarm, data, scratch);
    verifier.verify(&data.origin, scratch, signature)
}

const UPDATE_DOMAIN: &[u8] = b"suffuse update\0";
const UPDATE_VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::toy::{ToyKeys, ToySigner};
    use crate::id::{Epoch, StateId};
    use crate::time::Instant;
    use bytes::Bytes;

    const SWARM: SwarmId = SwarmId(0x0102);

    fn data() -> Data<u32> {
        Data {
            origin: 9,
            epoch: Epoch(2),
            sequence: 3,
            state: StateId(4),
            priority: Priority::High,
            keyframe: true,
            layer: 5,
            pulled: false,
            flood: false,
            signature: Bytes::new(),
            hops: 6,
            born: Instant::from_secs(7),
            body: Bytes::from_static(b"body"),
        }
    }

    #[test]
    fn golden_update() {
        let head = b"suffuse update\0\x01\x02\x01\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\
            \x04\0\0\0\0\0\0\0\x2e\x04\x09\0\0\0";
        let mut bytes = Vec::new();
        update_signing_bytes(SWARM, &data(), &mut bytes);
        assert_eq!(bytes, [head.as_slice(), b"\0\x04\0\0\0\0\0\0\0body"].concat());
        bytes.clear();
        let body = SignedBody::Digest { body_bytes: 4, digest: b"hash" };
        update_signing_bytes_with(SWARM, &data(), body, &mut bytes);
        assert_eq!(bytes, [head.as_slice(), b"\x01\x04\0\0\0\0\0\0\0hash"].concat());
    }

    #[test]
    fn relays_may_change_hops_and_age_only() {
        let mut scratch = Vec::new();
        let signature = sign_update(SWARM, &data(), &ToySigner(9), &mut scratch);
        let mut verify = |swarm, data: Data<u32>| {
            verify_update(swarm, &data, signature.as_bytes(), &ToyKeys, &mut scratch)
        };
        assert!(verify(SWARM, data()));
        assert!(verify(SWARM, Data { hops: 7, born: Instant::ZERO, ..data() }));
        assert!(!verify(SwarmId(1), data()));
        let changed = [
            Data { origin: 8, ..data() },
            Data { epoch: Epoch(3), ..data() },
            Data { sequence: 4, ..data() },
            Data { state: StateId(5), ..data() },
            Data { priority: Priority::Urgent, ..data() },
            Data { keyframe: false, ..data() },
            Data { layer: 4, ..data() },
            Data { flood: true, ..data() },
            Data { body: Bytes::from_static(b"bodY"), ..data() },
            Data { body: Bytes::from_static(b"body "), ..data() },
        ];
        for data in changed {
            assert!(!verify(SWARM, data.clone()), "{data:?}");
        }
    }
}
