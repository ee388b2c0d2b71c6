//! Parity chunks: what is sent with the chunks of a frame so that lost ones can be rebuilt without asking.
//!
//! A frame is cut into `data` chunks of equal size; only the last may be shorter. Each parity chunk is
//!
//! ```text
//! parity chunk := frame bytes varint · chunk bytes varint · shard
//! ```
//!
//! where `frame bytes` is the length of the whole frame and `chunk bytes` that of every chunk but the last, so that a
//! single parity chunk tells the size of every chunk, lost or not. All shards of a frame are equally long:
//!
//! - [`Scheme::Xor`]: `chunk bytes`. Shard `j` of `p` is the exclusive or of the data chunks `i` with `i mod p == j`.
//! - [`Scheme::ReedSolomon`]: `chunk bytes` rounded up to an even number. The shards are the recovery shards, in their
//!   order, that the algorithm of Leopard-RS over GF(2^16) makes of the data chunks.
//!
//! Chunks that are shorter than the shard count as padded with zero bytes at their end; the padding never travels in
//! data chunks.
//!
//! Nothing here tells whether a chunk is genuine: check chunks before they are used, and rebuilt ones too, with
//! [`verify_chunk`](crate::forest::verify_chunk).
//!
//! ```
//! use bytes::Bytes;
//! use suffuse::forest::parity::{self, Scheme};
//!
//! let frame = [b"some ", b"media", b" data"].map(|chunk| Bytes::from_static(chunk));
//! let parity = parity::encode(Scheme::Xor, &frame, 1)?;
//!
//! let received = [Some(frame[0].clone()), None, Some(frame[2].clone()), Some(parity[0].clone())];
//! assert_eq!(parity::recover(Scheme::Xor, &received, 3), [(1, Bytes::from_static(b"media"))]);
//! # Ok::<(), suffuse::forest::parity::ParityError>(())
//! ```

use alloc::vec::Vec;

use bytes::Bytes;

use crate::wire::{Put, Reader};

#[cfg(feature = "fec")]
mod reed_solomon;

/// The most chunks of a frame, data and parity together.
pub const CHUNKS_MAX: usize = 255;

/// How many bytes longer than a data chunk a parity chunk can be: two lengths and one byte of padding.
pub const PARITY_EXTRA_BYTES_MAX: usize = 11;

/// How parity chunks are made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Scheme {
    /// Exclusive or: one loss is repaired in each class of chunks with the same index modulo the number of parity
    /// chunks. Needs no feature and next to no computation.
    #[default]
    Xor,
    /// Reed-Solomon: any `data` of all chunks rebuild the frame. Needs the feature `fec`; without it such frames can be
    /// read, but nothing of them is rebuilt.
    ///
    /// The first use in a process fills tables of 9 MB, in some 10 ms. Rebuilding takes some 0.2 ms a frame however
    /// small it is, hundreds of times what [`Self::Xor`] takes, and 128 KB of stack.
    ReedSolomon,
}

impl Scheme {
    /// The number that stands for the scheme on the wire.
    ///
    /// ```
    /// use suffuse::forest::Scheme;
    /// assert_eq!((Scheme::Xor.number(), Scheme::ReedSolomon.number()), (0, 1));
    /// ```
    pub const fn number(self) -> u8 {
        match self {
            Self::Xor => 0,
            Self::ReedSolomon => 1,
        }
    }

    /// The scheme of that number; `None` if there is none.
    ///
    /// ```
    /// use suffuse::forest::Scheme;
    /// assert_eq!(Scheme::from_number(1), Some(Scheme::ReedSolomon));
    /// assert_eq!(Scheme::from_number(2), None);
    /// ```
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Xor),
            1 => Some(Self::ReedSolomon),
            _ => None,
        }
    }

    /// Whether this build can make and use parity chunks of the scheme.
    ///
    /// ```
    /// use suffuse::forest::Scheme;
    /// assert!(Scheme::Xor.is_available());
    /// assert_eq!(Scheme::ReedSolomon.is_available(), cfg!(feature = "fec"));
    /// ```
    pub const fn is_available(self) -> bool {
        match self {
            Self::Xor => true,
            Self::ReedSolomon => cfg!(feature = "fec"),
        }
    }
}

/// Why no parity chunks were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// There must be a data chunk, at most [`CHUNKS_MAX`] chunks in all, and for [`Scheme::Xor`] no more parity chunks
    /// than data chunks. Nothing was made.
    #[error("{parity} parity chunks for {data} data chunks are not possible; nothing was made")]
    Counts {
        /// Data chunks.
        data: usize,
        /// Parity chunks that were asked for.
        parity: usize,
    },
    /// The chunk at `index` is empty, longer than the first, or shorter than the first without being the last; or the
    /// chunks up to it make a frame of 4 GiB. Nothing was made.
    #[error("chunk {index} has a size that does not fit the first; nothing was made")]
    Sizes {
        /// Which chunk.
        index: usize,
    },
    /// The scheme needs a feature that this build does not have. Nothing was made.
    #[error("this build cannot make parity of the scheme {0:?}; nothing was made")]
    Unavailable(Scheme),
}

/// Makes `parity` parity chunks of the data chunks of one frame; none if `parity` is 0.
///
/// Errors leave nothing behind; see [`ParityError`].
///
/// ```
/// use bytes::Bytes;
/// use suffuse::forest::parity::{self, ParityError, Scheme};
///
/// let frame = [&b"abcd"[..], b"efgh", b"ij"].map(Bytes::copy_from_slice);
/// assert_eq!(parity::encode(Scheme::Xor, &frame, 2)?.len(), 2);
///
/// let ragged = [&b"abcd"[..], b"ef", b"gh"].map(Bytes::copy_from_slice);
/// assert_eq!(parity::encode(Scheme::Xor, &ragged, 2), Err(ParityError::Sizes { index: 1 }));
/// # Ok::<(), ParityError>(())
/// ```
pub fn encode(scheme: Scheme, chunks: &[Bytes], parity: usize) -> Result<Vec<Bytes>, ParityError> {
    let layout = Layout::of_chunks(chunks, parity)?;
    if scheme == Scheme::Xor && parity > chunks.len() {
        return Err(ParityError::Counts { data: chunks.len(), parity });
    }
    if !scheme.is_available() {
        return Err(ParityError::Unavailable(scheme));
    }
    let shards = match scheme {
        _ if parity == 0 => Vec::new(),
        Scheme::Xor => encode_xor(layout, chunks, parity),
        Scheme::ReedSolomon => {
            reed_solomon::encode(layout, chunks, parity).ok_or(ParityError::Unavailable(scheme))?
        }
    };
    Ok(shards)
}

/// Whether [`recover`] would make the frame whole, going by which chunks are there: `has` answers for the data chunks
/// `0..data` and the parity chunks `data..data + parity`. True if no data chunk is missing.
///
/// Nothing is allocated, and each chunk is asked about at most once.
///
/// ```
/// use suffuse::forest::parity::{Scheme, can_recover};
///
/// // Classes {0, 2, parity 4} and {1, 3, parity 5}.
/// assert!(can_recover(Scheme::Xor, 4, 2, |index| ![0, 3].contains(&index)));
/// assert!(!can_recover(Scheme::Xor, 4, 2, |index| ![0, 2].contains(&index)));
/// ```
#[must_use]
pub fn can_recover(scheme: Scheme, data: usize, parity: usize, has: impl Fn(usize) -> bool) -> bool {
    if !possible(data, parity) {
        return false;
    }
    if parity == 0 || !scheme.is_available() {
        return (0..data).all(has);
    }
    match scheme {
        Scheme::Xor => (0..parity).all(|class| {
            let lost = class_of(class, data, parity).filter(|&index| !has(index)).count();
            lost == 0 || (lost == 1 && has(data + class))
        }),
        Scheme::ReedSolomon => {
            let held = (0..data).filter(|&index| has(index)).count();
            held == data || held + (data..data + parity).filter(|&index| has(index)).count() >= data
        }
    }
}

/// Rebuilds lost data chunks from `chunks`: first the `data` data chunks, then all parity chunks, `None` for those that
/// are missing. Returns the chunks that could be rebuilt with their indexes, in ascending order.
///
/// Never fails: chunks that contradict each other in their sizes rebuild nothing, and neither do counts that no frame
/// can have. No more memory is taken than a constant times that of the chunks given.
///
/// ```
/// use bytes::Bytes;
/// use suffuse::forest::parity::{self, Scheme};
///
/// let frame = [&b"abcd"[..], b"efgh", b"ij"].map(Bytes::copy_from_slice);
/// let parity = parity::encode(Scheme::Xor, &frame, 2)?;
///
/// // The chunks 0 and 2 are of one class: two losses in it are too many, but 1 is of the other.
/// let received = [None, None, None, Some(parity[0].clone()), Some(parity[1].clone())];
/// assert_eq!(parity::recover(Scheme::Xor, &received, 3), [(1, frame[1].clone())]);
/// # Ok::<(), parity::ParityError>(())
/// ```
#[must_use]
pub fn recover(scheme: Scheme, chunks: &[Option<Bytes>], data: usize) -> Vec<(usize, Bytes)> {
    let Some((originals, parity)) = chunks.split_at_checked(data) else { return Vec::new() };
    let whole = originals.iter().all(Option::is_some);
    if whole || !possible(data, parity.len()) || !scheme.is_available() {
        return Vec::new();
    }
    let Some(layout) = Layout::of_received(scheme, chunks, data) else { return Vec::new() };
    match scheme {
        Scheme::Xor => recover_xor(layout, chunks),
        Scheme::ReedSolomon => reed_solomon::recover(layout, chunks).unwrap_or_default(),
    }
}

/// The sizes of a frame's chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    data: usize,
    chunk_bytes: usize,
    frame_bytes: u32,
}

impl Layout {
    fn new(data: usize, chunk_bytes: u64, frame_bytes: u64) -> Option<Self> {
        let before_last = (data as u64).checked_sub(1)?.checked_mul(chunk_bytes)?;
        let last_bytes = frame_bytes.checked_sub(before_last)?;
        if last_bytes == 0 || last_bytes > chunk_bytes {
            return None;
        }
        let (chunk_bytes, frame_bytes) = (chunk_bytes.try_into().ok()?, frame_bytes.try_into().ok()?);
        Some(Self { data, chunk_bytes, frame_bytes })
    }

    fn of_chunks(chunks: &[Bytes], parity: usize) -> Result<Self, ParityError> {
        let data = chunks.len();
        if !possible(data, parity) {
            return Err(ParityError::Counts { data, parity });
        }
        let (chunk_bytes, last) = (chunks[0].len(), data - 1);
        let misfit = chunks[..last].iter().position(|chunk| chunk.len() != chunk_bytes);
        if let Some(index) = misfit {
            return Err(ParityError::Sizes { index });
        }
        let frame_bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self::new(data, chunk_bytes as u64, frame_bytes).ok_or(ParityError::Sizes { index: last })
    }

    /// What the parity chunks say, if all chunks agree to it and there is a parity chunk.
    fn of_received(scheme: Scheme, chunks: &[Option<Bytes>], data: usize) -> Option<Self> {
        let (originals, parity) = chunks.split_at(data);
        let mut layouts = parity.iter().flatten().map(|chunk| Self::of_parity(scheme, chunk, data));
        let layout = layouts.next()??;
        let agreed = layouts.all(|other| other == Some(layout))
            && (0..).zip(originals).all(|(index, chunk)| match chunk {
                Some(chunk) => chunk.len() == layout.bytes_of(index),
                None => true,
            });
        agreed.then_some(layout)
    }

    fn of_parity(scheme: Scheme, chunk: &Bytes, data: usize) -> Option<Self> {
        let mut reader = Reader::new(chunk);
        let (frame_bytes, chunk_bytes) = (reader.varint().ok()?, reader.varint().ok()?);
        let layout = Self::new(data, chunk_bytes, frame_bytes)?;
        (reader.remaining() == layout.shard_bytes(scheme)).then_some(layout)
    }

    fn bytes_of(self, index: usize) -> usize {
        if index + 1 < self.data {
            self.chunk_bytes
        } else {
            self.frame_bytes as usize - (self.data - 1) * self.chunk_bytes
        }
    }

    fn shard_bytes(self, scheme: Scheme) -> usize {
        match scheme {
            Scheme::Xor => self.chunk_bytes,
            Scheme::ReedSolomon => self.chunk_bytes.saturating_add(self.chunk_bytes % 2),
        }
    }

    fn parity_chunk(self, shard: &[u8]) -> Bytes {
        let mut chunk = Vec::with_capacity(shard.len() + PARITY_EXTRA_BYTES_MAX);
        chunk.put_varint(self.frame_bytes.into());
        chunk.put_varint(self.chunk_bytes as u64);
        chunk.put(shard);
        Bytes::from(chunk)
    }

    /// The shard in a parity chunk that this layout was read from.
    fn shard(self, scheme: Scheme, chunk: &Bytes) -> &[u8] {
        &chunk[chunk.len() - self.shard_bytes(scheme)..]
    }
}

fn possible(data: usize, parity: usize) -> bool {
    data > 0 && data <= CHUNKS_MAX && parity <= CHUNKS_MAX - data
}

/// The data chunks that one parity chunk of [`Scheme::Xor`] covers.
fn class_of(class: usize, data: usize, parity: usize) -> impl Iterator<Item = usize> {
    (class..data).step_by(parity)
}

fn encode_xor(layout: Layout, chunks: &[Bytes], parity: usize) -> Vec<Bytes> {
    let mut shard = Vec::with_capacity(layout.chunk_bytes);
    let encode_class = |class| {
        shard.clear();
        shard.resize(layout.chunk_bytes, 0);
        class_of(class, chunks.len(), parity).for_each(|index| xor_into(&mut shard, &chunks[index]));
        layout.parity_chunk(&shard)
    };
    (0..parity).map(encode_class).collect()
}

fn recover_xor(layout: Layout, chunks: &[Option<Bytes>]) -> Vec<(usize, Bytes)> {
    let (data, parity) = (layout.data, chunks.len() - layout.data);
    let recover_class = |class: usize| {
        let parity_chunk = chunks[data + class].as_ref()?;
        let mut missing = class_of(class, data, parity).filter(|&index| chunks[index].is_none());
        let lost = missing.next()?;
        if missing.next().is_some() {
            return None;
        }
        let mut sum = layout.shard(Scheme::Xor, parity_chunk).to_vec();
        for chunk in class_of(class, data, parity).filter_map(|index| chunks[index].as_ref()) {
            xor_into(&mut sum, chunk);
        }
        sum.truncate(layout.bytes_of(lost));
        Some((lost, Bytes::from(sum)))
    };
    let mut recovered: Vec<_> = (0..parity).filter_map(recover_class).collect();
    recovered.sort_unstable_by_key(|&(index, _)| index);
    recovered
}

fn xor_into(sum: &mut [u8], chunk: &[u8]) {
    for (sum, byte) in sum.iter_mut().zip(chunk) {
        *sum ^= byte;
    }
}

#[cfg(not(feature = "fec"))]
mod reed_solomon {
    use super::{Bytes, Layout, Vec};

    pub(super) fn encode(_: Layout, _: &[Bytes], _: usize) -> Option<Vec<Bytes>> {
        None
    }

    pub(super) fn recover(_: Layout, _: &[Option<Bytes>]) -> Option<Vec<(usize, Bytes)>> {
        None
    }
}

#[cfg(test)]
mod tests;
