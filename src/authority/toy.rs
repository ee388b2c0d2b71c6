//! Signatures for tests: a keyed checksum that anybody could forge.

use crate::authority::{Signature, Signer, Verifier};
use crate::rng::mix;

/// Signs as the peer of that number.
pub(super) struct ToySigner(pub(super) u32);

/// Knows everybody's key.
pub(super) struct ToyKeys;

impl Signer for ToySigner {
    fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(&checksum(self.0, message)).unwrap()
    }
}

impl Verifier<u32> for ToyKeys {
    fn verify(&self, peer: &u32, message: &[u8], signature: &[u8]) -> bool {
        signature == checksum(*peer, message)
    }
}

fn checksum(key: u32, message: &[u8]) -> [u8; 24] {
    let mut words = [1, 2, 3].map(|lane| mix(u64::from(key) << 8 | lane));
    for word in &mut words {
        for &byte in message {
            *word = mix(*word ^ u64::from(byte));
        }
    }
    let mut bytes = [0; 24];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
