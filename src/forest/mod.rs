//! Media frames in chunks: parity that rebuilds lost chunks, and one signature that covers them all.

pub mod parity;
mod seal;

pub use parity::Scheme;
#[cfg(feature = "ed25519")]
pub use seal::Blake3;
pub use seal::{
    CHUNK_HASH_BYTES, ChunkHasher, FrameHeader, FrameSeal, SealError, frame_signing_bytes, seal_frame,
    verify_chunk, verify_seal,
};
