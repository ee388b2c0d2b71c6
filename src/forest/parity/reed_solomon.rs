//! Reed-Solomon over the chunks of one frame.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use bytes::Bytes;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::{Layout, Scheme};

/// `None` only if the code cannot have these counts, which the limits of this module exclude.
pub(super) fn encode(layout: Layout, chunks: &[Bytes], parity: usize) -> Option<Vec<Bytes>> {
    let shard_bytes = layout.shard_bytes(Scheme::ReedSolomon);
    let mut encoder = ReedSolomonEncoder::new(layout.data, parity, shard_bytes).ok()?;
    for chunk in chunks {
        encoder.add_original_shard(padded(chunk, shard_bytes)).ok()?;
    }
    let encoded = encoder.encode().ok()?;
    Some(encoded.recovery_iter().map(|shard| layout.parity_chunk(shard)).collect())
}

/// `None` if too few chunks are there.
pub(super) fn recover(layout: Layout, chunks: &[Option<Bytes>]) -> Option<Vec<(usize, Bytes)>> {
    // Before the decoder takes its memory: the bound on it counts on the chunks being there.
    if chunks.iter().flatten().count() < layout.data {
        return None;
    }
    let shard_bytes = layout.shard_bytes(Scheme::ReedSolomon);
    let (originals, parity) = chunks.split_at(layout.data);
    let mut decoder = ReedSolomonDecoder::new(layout.data, parity.len(), shard_bytes).ok()?;
    for (index, chunk) in originals.iter().enumerate() {
        if let Some(chunk) = chunk {
            decoder.add_original_shard(index, padded(chunk, shard_bytes)).ok()?;
        }
    }
    for (index, chunk) in parity.iter().enumerate() {
        if let Some(chunk) = chunk {
            decoder.add_recovery_shard(index, layout.shard(Scheme::ReedSolomon, chunk)).ok()?;
        }
    }
    let decoded = decoder.decode().ok()?;
    let mut recovered: Vec<_> = decoded
        .restored_original_iter()
        .filter_map(|(index, shard)| Some((index, shard.get(..layout.bytes_of(index))?)))
        .map(|(index, chunk)| (index, Bytes::copy_from_slice(chunk)))
        .collect();
    recovered.sort_unstable_by_key(|&(index, _)| index);
    Some(recovered)
}

fn padded(chunk: &[u8], shard_bytes: usize) -> Cow<'_, [u8]> {
    if chunk.len() == shard_bytes {
        return Cow::Borrowed(chunk);
    }
    let mut shard = Vec::with_capacity(shard_bytes);
    shard.extend_from_slice(chunk);
    shard.resize(shard_bytes, 0);
    Cow::Owned(shard)
}
