//! The messages that carry large updates: who has which chunks, who sends them, and the chunks.
//!
//! ```text
//! manifest := flags u8 · data                          flags := 000 k pp lll; the body is the manifest's own
//! offer    := update · flags u8 · held ranges · promised ranges
//! claim    := update · wanted ranges · released ranges
//! chunk    := update · number varint · length varint · body
//! update   := origin · epoch u32 · sequence varint
//! ```

use bytes::Bytes;

use super::codec::{Put, Reader, WireError, WirePeer};
use super::frame::{put_data, read_data};
use super::lists::{put_ranges, read_ranges, read_sequence};
use super::message::{Data, GossipMessage};
use crate::id::Epoch;
use crate::log::RangeSet;
use crate::time::Instant;

/// The name of a large update.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LargeId<P> {
    /// Who published it.
    pub origin: P,
    /// The life of the origin.
    pub epoch: Epoch,
    /// Its place among the origin's updates.
    pub sequence: u64,
}

/// "These chunks can be had from me."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkOffer<P> {
    /// Of which update.
    pub update: LargeId<P>,
    /// The receiver should answer with an offer of its own.
    pub asks: bool,
    /// This is all there is: what was offered before counts no more.
    pub is_all: bool,
    /// Chunks that the sender holds.
    pub held: RangeSet,
    /// Chunks that it has claimed from others, and will have.
    pub promised: RangeSet,
}

/// "Send me these chunks, as soon as you have them." Each chunk is claimed from one neighbour at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkClaim<P> {
    /// Of which update.
    pub update: LargeId<P>,
    /// Chunks to send.
    pub wanted: RangeSet,
    /// Chunks claimed before that are not needed any more.
    pub released: RangeSet,
}

/// One chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkData<P> {
    /// Of which update.
    pub update: LargeId<P>,
    /// Its place: pages of hashes first, then the body.
    pub number: u32,
    /// Its bytes.
    pub body: Bytes,
}

pub(super) const MANIFEST: u8 = 52;
const OFFER: u8 = 53;
const CLAIM: u8 = 54;
pub(super) const CHUNK: u8 = 55;

/// The greatest header of a chunk in a frame, without the origin: version, kind, tag, epoch, sequence, number, length.
pub(crate) const UPDATE_CHUNK_HEADER_BYTES_MAX: usize = 1 + 1 + 4 + 4 + 9 + 3 + 3;

const ASKS: u8 = 1;
const IS_ALL: u8 = 2;

pub(super) fn kind<P>(message: &GossipMessage<P>) -> u8 {
    match message {
        GossipMessage::Manifest(_) => MANIFEST,
        GossipMessage::ChunkOffer(_) => OFFER,
        GossipMessage::ChunkClaim(_) => CLAIM,
        _ => CHUNK,
    }
}

pub(super) fn put_manifest<P: WirePeer>(out: &mut impl Put, data: &Data<P>, now: Instant) {
    out.put_u8(u8::from(data.keyframe) << 5 | (data.priority as u8) << 3 | data.layer & 7);
    put_data(out, data, now);
}

pub(super) fn put_offer<P: WirePeer>(out: &mut impl Put, offer: &ChunkOffer<P>) {
    put_id(out, &offer.update);
    out.put_u8(if offer.asks { ASKS } else { 0 } | if offer.is_all { IS_ALL } else { 0 });
    put_ranges(out, &offer.held);
    put_ranges(out, &offer.promised);
}

pub(super) fn put_claim<P: WirePeer>(out: &mut impl Put, claim: &ChunkClaim<P>) {
    put_id(out, &claim.update);
    put_ranges(out, &claim.wanted);
    put_ranges(out, &claim.released);
}

pub(super) fn put_chunk<P: WirePeer>(out: &mut impl Put, chunk: &ChunkData<P>) {
    put_id(out, &chunk.update);
    out.put_varint(u64::from(chunk.number));
    out.put_varint(chunk.body.len() as u64);
    out.put(&chunk.body);
}

pub(super) fn read<P: WirePeer>(
    reader: &mut Reader<'_>,
    number: u8,
    now: Instant,
) -> Result<GossipMessage<P>, WireError> {
    if number == MANIFEST {
        let flags = reader.u8()?;
        if flags & 0xc0 != 0 {
            return Err(WireError::Range);
        }
        let kind = (flags >> 3 & 3) << 5 | (flags >> 5) << 4 | flags & 7;
        return Ok(GossipMessage::Manifest(read_data(reader, kind, now)?));
    }
    let update =
        LargeId { origin: P::decode(reader)?, epoch: Epoch(reader.u32()?), sequence: read_sequence(reader)? };
    Ok(match number {
        OFFER => {
            let flags = reader.u8()?;
            if flags > (ASKS | IS_ALL) {
                return Err(WireError::Range);
            }
            let (asks, is_all) = (flags & ASKS != 0, flags & IS_ALL != 0);
            let (held, promised) = (read_ranges(reader)?, read_ranges(reader)?);
            GossipMessage::ChunkOffer(ChunkOffer { update, asks, is_all, held, promised })
        }
        CLAIM => {
            let (wanted, released) = (read_ranges(reader)?, read_ranges(reader)?);
            GossipMessage::ChunkClaim(ChunkClaim { update, wanted, released })
        }
        _ => {
            let number = u32::try_from(reader.varint()?).map_err(|_| WireError::Range)?;
            let length = reader.count(1)?;
            GossipMessage::Chunk(ChunkData { update, number, body: reader.take_kept(length)? })
        }
    })
}

fn put_id<P: WirePeer>(out: &mut impl Put, update: &LargeId<P>) {
    update.origin.encode(out);
    out.put(&update.epoch.0.to_le_bytes());
    out.put_varint(update.sequence);
}
