//! How chunks of updates and of media frames are hashed, so that each can be checked alone.

/// The bytes of a chunk's hash.
pub const CHUNK_HASH_BYTES: usize = 16;

/// Hashes chunks. All peers of a swarm must use the same function.
///
/// It must be a cryptographic hash: nobody may be able to find other bytes with the hash of a given chunk. With 16
/// bytes, somebody who makes both chunks can find two that share a hash with about 2^64 attempts; only the origin can
/// use that, and only to show different chunks to different peers.
pub trait ChunkHasher {
    /// The hash of the body of a chunk.
    fn hash(&self, bytes: &[u8]) -> [u8; CHUNK_HASH_BYTES];
}

/// The first 16 bytes of BLAKE3.
///
/// ```
/// use suffuse::forest::{Blake3, ChunkHasher};
/// assert_eq!(Blake3.hash(b"")[..4], [0xaf, 0x13, 0x49, 0xb9]);
/// ```
#[cfg(feature = "ed25519")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Blake3;

#[cfg(feature = "ed25519")]
impl ChunkHasher for Blake3 {
    fn hash(&self, bytes: &[u8]) -> [u8; CHUNK_HASH_BYTES] {
        let mut short = [0; CHUNK_HASH_BYTES];
        short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHUNK_HASH_BYTES]);
        short
    }
}
