//! How a large update is cut, and how each piece of it is checked alone.
//!
//! In topics that are not signed the chunks are the body, cut into equal parts. In signed ones there are *pages* of hashes
//! too: a page holds the hashes of the chunks (or pages) below it, the manifest those of the topmost, and the origin signs
//! the manifest. Pages come first, the topmost before all others, so that what is needed to check a chunk has a lower
//! number than the chunk.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::authority::{CHUNK_HASH_BYTES, ChunkHasher};
use crate::wire::{Put, Reader};

/// A chunk, at most.
pub(crate) const CHUNK_BYTES_MAX: usize = 16 << 10;

/// Smaller chunks would be mostly headers.
const CHUNK_BYTES_MIN: usize = 64;

/// Chunks of one update, at most: with the smallest frames, 16 MiB take 76,000.
pub(super) const CHUNKS_MAX: u64 = 1 << 17;

type Hash = [u8; CHUNK_HASH_BYTES];

/// What an origin says of a large update, in the place of its body.
///
/// ```text
/// manifest := body length varint · chunk length varint · hash 16 bytes *
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::gossip) struct Manifest {
    body_bytes: u64,
    chunk_bytes: usize,
    /// Of the topmost pages, or of all chunks if these are few; none in a topic that is not signed.
    hashes: Vec<Hash>,
    /// Chunks, pages of their hashes, pages of the hashes of these, and so on: how many of each.
    levels: SmallVec<[u32; 4]>,
}

/// Where the hash of a piece is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Voucher {
    /// Nowhere: nothing is signed.
    None,
    /// In the manifest.
    Manifest(usize),
    /// In a page: its number, and the place in it.
    Page(u32, usize),
}

impl Manifest {
    /// Cuts a body; returns the manifest and its pages, the topmost first.
    pub(super) fn of(
        body: &Bytes,
        chunk_bytes: usize,
        hasher: Option<&dyn ChunkHasher>,
    ) -> Option<(Self, Vec<Bytes>)> {
        let levels = levels(body.len() as u64, chunk_bytes, hasher.is_some())?;
        let mut manifest = Self { body_bytes: body.len() as u64, chunk_bytes, hashes: Vec::new(), levels };
        let Some(hasher) = hasher else { return Some((manifest, Vec::new())) };
        manifest.hashes = body.chunks(chunk_bytes).map(|chunk| hasher.hash(chunk)).collect();
        let mut pages: Vec<Vec<Bytes>> = Vec::new();
        for _ in 1..manifest.levels.len() {
            let per_page = hashes_per_page(chunk_bytes);
            let level: Vec<_> =
                manifest.hashes.chunks(per_page).map(|hashes| Bytes::from(hashes.concat())).collect();
            manifest.hashes = level.iter().map(|page| hasher.hash(page)).collect();
            pages.push(level);
        }
        Some((manifest, pages.into_iter().rev().flatten().collect()))
    }

    /// Reads a manifest; `None` if it is not one.
    pub(super) fn read(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let body_bytes = reader.varint().ok()?;
        let chunk_bytes = usize::try_from(reader.varint().ok()?).ok()?;
        let signed = reader.remaining() > 0;
        let levels = levels(body_bytes, chunk_bytes, signed)?;
        let count = if signed { *levels.last()? as usize } else { 0 };
        if reader.remaining() != count * CHUNK_HASH_BYTES {
            return None;
        }
        let hashes = (0..count).map(|_| reader.array()).collect::<Result<_, _>>().ok()?;
        Some(Self { body_bytes, chunk_bytes, hashes, levels })
    }

    /// The form that travels.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_varint(self.body_bytes);
        out.put_varint(self.chunk_bytes as u64);
        self.hashes.iter().for_each(|hash| out.put(hash));
        Bytes::from(out)
    }

    pub(super) fn is_signed(&self) -> bool {
        !self.hashes.is_empty()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Pages and chunks.
    pub(super) fn count(&self) -> u32 {
        self.levels.iter().sum()
    }

    /// Pages, which have the lowest numbers.
    pub(super) fn page_count(&self) -> u32 {
        self.levels[1..].iter().sum()
    }

    /// The length of a piece; `None` if there is no such piece.
    pub(super) fn piece_bytes(&self, number: u32) -> Option<usize> {
        let (level, place) = self.place(number)?;
        if level == 0 {
            let at = u64::from(place) * self.chunk_bytes as u64;
            return Some((self.body_bytes - at).min(self.chunk_bytes as u64) as usize);
        }
        let per_page = hashes_per_page(self.chunk_bytes);
        let below = self.levels[level - 1] as usize - place as usize * per_page;
        Some(below.min(per_page) * CHUNK_HASH_BYTES)
    }

    /// Which part of the body a chunk is; `None` of a page.
    pub(super) fn body_range(&self, number: u32) -> Option<Range<usize>> {
        let place = number.checked_sub(self.page_count())? as usize;
        let at = place * self.chunk_bytes;
        Some(at..at + self.piece_bytes(number)?)
    }

    /// Where the hash of a piece is.
    pub(super) fn voucher(&self, number: u32) -> Option<Voucher> {
        if !self.is_signed() {
            return Some(Voucher::None);
        }
        let (level, place) = self.place(number)?;
        if level + 1 == self.levels.len() {
            return Some(Voucher::Manifest(place as usize));
        }
        let per_page = hashes_per_page(self.chunk_bytes);
        let page = self.base(level + 1) + place / per_page as u32;
        Some(Voucher::Page(page, place as usize % per_page))
    }

    pub(super) fn hash(&self, place: usize) -> Option<&Hash> {
        self.hashes.get(place)
    }

    /// The pieces whose hashes are in a page.
    pub(super) fn below(&self, page: u32) -> Option<Range<u32>> {
        let (level, place) = self.place(page)?;
        let below = level.checked_sub(1)?;
        let per_page = hashes_per_page(self.chunk_bytes) as u32;
        let first = place * per_page;
        let base = self.base(below);
        Some(base + first..base + (first + per_page).min(self.levels[below]))
    }

    /// The level of a piece, and its place there.
    fn place(&self, number: u32) -> Option<(usize, u32)> {
        let mut at = number;
        for (level, &count) in self.levels.iter().enumerate().rev() {
            if at < count {
                return Some((level, at));
            }
            at -= count;
        }
        None
    }

    /// The first number of a level.
    fn base(&self, level: usize) -> u32 {
        self.levels[level + 1..].iter().sum()
    }
}

/// How long the chunks of own updates are: as long as fits `room`.
pub(super) fn chunk_bytes_for(room: usize, max: usize) -> usize {
    room.min(max).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

fn hashes_per_page(chunk_bytes: usize) -> usize {
    chunk_bytes / CHUNK_HASH_BYTES
}

/// How many pieces there are of each level; `None` of what cannot be.
fn levels(body_bytes: u64, chunk_bytes: usize, signed: bool) -> Option<SmallVec<[u32; 4]>> {
    if body_bytes == 0 || !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes) {
        return None;
    }
    let chunks = body_bytes.div_ceil(chunk_bytes as u64);
    if chunks > CHUNKS_MAX {
        return None;
    }
    let mut levels = SmallVec::from_slice(&[chunks as u32]);
    // The manifest must fit a frame with its signature.
    let in_manifest = (hashes_per_page(chunk_bytes) / 4).max(1) as u32;
    let per_page = hashes_per_page(chunk_bytes) as u32;
    let mut top = chunks as u32;
    while signed && top > in_manifest {
        top = top.div_ceil(per_page);
        levels.push(top);
    }
    Some(levels)
}
