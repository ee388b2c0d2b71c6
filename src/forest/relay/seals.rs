//! Sealed streams: nothing is kept, delivered or passed on that the source did not sign.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::authority::ChunkHasher;
use crate::authority::{Signer, Verifier, VerifyBudget, VerifyLimits};
use crate::forest::parity::Scheme;
use crate::forest::seal::{FrameHeader, FrameSeal, seal_frame, verify_chunk, verify_seal};
use crate::id::{Epoch, PeerId, SwarmId};
use crate::time::Instant;
use crate::wire::{Chunk, Put, Reader, WirePeer};

/// What seals frames and what checks seals.
///
/// A frame is sealed once, over the hashes of its chunks; its first chunk carries the seal (the first chunks, if it is long).
/// Chunks that come before it wait.
pub struct Seals<P> {
    signer: Option<Arc<dyn Signer + Send + Sync>>,
    verifier: Arc<dyn Verifier<P> + Send + Sync>,
    hasher: Arc<dyn ChunkHasher + Send + Sync>,
    budget: VerifyBudget<P>,
    frames: BTreeMap<(u8, u64), Sealed<P>>,
    held: usize,
    scratch: Vec<u8>,
}

/// What is known of a frame's seal.
#[derive(Debug)]
struct Sealed<P> {
    seal: Option<FrameSeal>,
    pieces: Vec<Option<Bytes>>,
    waiting: Vec<(P, Chunk, Bytes)>,
    captured_ms: u32,
}

/// What became of a chunk in a sealed stream.
#[derive(Debug)]
pub(super) enum Sealing<P> {
    /// It is the source's.
    Genuine,
    /// So are it and these, which waited for its seal.
    Proves(Vec<(P, Chunk, Bytes)>),
    /// It waits for the seal, or was dropped because too much waits.
    Waits,
    /// It is not the source's.
    Forged,
}

/// Chunks that wait for a seal, at most.
const HELD_MAX: usize = 512;

/// Frames of which something is known here, at most.
const FRAMES_MAX: usize = 1_024;

impl<P: PeerId> Seals<P> {
    /// For the source, which seals with `signer`.
    pub fn source(
        signer: impl Signer + Send + Sync + 'static,
        verifier: impl Verifier<P> + Send + Sync + 'static,
        hasher: impl ChunkHasher + Send + Sync + 'static,
    ) -> Self {
        Self::sharing(Some(Arc::new(signer)), Arc::new(verifier), Arc::new(hasher))
    }

    /// For a viewer: `verifier` binds the source's name to its key.
    pub fn viewer(
        verifier: impl Verifier<P> + Send + Sync + 'static,
        hasher: impl ChunkHasher + Send + Sync + 'static,
    ) -> Self {
        Self::sharing(None, Arc::new(verifier), Arc::new(hasher))
    }

    /// The same with what others use, too.
    pub(crate) fn sharing(
        signer: Option<Arc<dyn Signer + Send + Sync>>,
        verifier: Arc<dyn Verifier<P> + Send + Sync>,
        hasher: Arc<dyn ChunkHasher + Send + Sync>,
    ) -> Self {
        Self {
            signer,
            verifier,
            hasher,
            budget: VerifyBudget::new(VerifyLimits::default()),
            frames: BTreeMap::new(),
            held: 0,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn can_sign(&self) -> bool {
        self.signer.is_some()
    }
}

impl<P: WirePeer> Seals<P> {
    /// The seal of a frame, with the length of its payload in front. Empty without a signer.
    pub(super) fn seal(
        &mut self,
        swarm: SwarmId,
        origin: &P,
        header: &FrameHeader,
        chunks: &[Bytes],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(signer) = &self.signer {
            let hasher = self.hasher.as_ref();
            let sealed =
                seal_frame(swarm, origin, header, chunks, signer.as_ref(), hasher, &mut self.scratch);
            if let Ok(seal) = sealed {
                bytes.put_varint(u64::from(header.payload_bytes));
                seal.encode(&mut bytes);
            }
        }
        bytes
    }

    /// Judges a chunk that is not known yet.
    pub(super) fn judge(
        &mut self,
        swarm: SwarmId,
        (origin, epoch): (&P, Epoch),
        deadline_ms: u32,
        (from, chunk, frame): (P, &Chunk, &Bytes),
        now: Instant,
    ) -> Sealing<P> {
        let key = (chunk.track, chunk.number - u64::from(chunk.index));
        if self.frames.len() >= FRAMES_MAX && !self.frames.contains_key(&key) {
            self.forget_oldest();
        }
        let sealed = self.frames.entry(key).or_insert_with(|| Sealed {
            seal: None,
            pieces: Vec::new(),
            waiting: Vec::new(),
            captured_ms: chunk.captured_ms,
        });
        if let Some(seal) = &sealed.seal {
            let genuine = verify_chunk(seal, chunk.index.into(), &chunk.body, self.hasher.as_ref());
            return if genuine { Sealing::Genuine } else { Sealing::Forged };
        }
        let Some(seal) = sealed.piece(chunk) else {
            return self.hold(key, from, chunk, frame);
        };
        let Some((payload_bytes, seal)) = seal else { return Sealing::Forged };
        if !self.budget.take(from, 1, now) {
            return Sealing::Waits;
        }
        let header = header_of(chunk, epoch, payload_bytes, deadline_ms);
        let verifier = self.verifier.as_ref();
        if !verify_seal(swarm, origin, &header, &seal, verifier, &mut self.scratch) {
            self.drop_frame(key);
            return Sealing::Forged;
        }
        if !verify_chunk(&seal, chunk.index.into(), &chunk.body, self.hasher.as_ref()) {
            return Sealing::Forged;
        }
        let Some(sealed) = self.frames.get_mut(&key) else { return Sealing::Waits };
        let waited = core::mem::take(&mut sealed.waiting);
        self.held -= waited.len();
        sealed.seal = Some(seal);
        sealed.pieces = Vec::new();
        Sealing::Proves(waited)
    }

    /// Whether a chunk that was rebuilt is the source's.
    pub(super) fn approves(&self, chunk: &Chunk) -> bool {
        let key = (chunk.track, chunk.number - u64::from(chunk.index));
        let seal = self.frames.get(&key).and_then(|sealed| sealed.seal.as_ref());
        seal.is_some_and(|seal| verify_chunk(seal, chunk.index.into(), &chunk.body, self.hasher.as_ref()))
    }

    fn hold(&mut self, key: (u8, u64), from: P, chunk: &Chunk, frame: &Bytes) -> Sealing<P> {
        if self.held < HELD_MAX {
            if let Some(sealed) = self.frames.get_mut(&key) {
                let known = sealed.waiting.iter().any(|(_, other, _)| other.number == chunk.number);
                if !known {
                    sealed.waiting.push((from, chunk.clone(), frame.clone()));
                    self.held += 1;
                }
            }
        }
        Sealing::Waits
    }

    /// Whether a chunk waits for its seal: it need not be asked for.
    pub(super) fn holds(&self, track: u8, number: u64) -> bool {
        let mut before = self.frames.range(..=(track, number)).rev();
        before
            .next()
            .is_some_and(|(_, sealed)| sealed.waiting.iter().any(|(_, chunk, _)| chunk.number == number))
    }

    /// Forgets the seals of frames captured before.
    pub(super) fn forget_before(&mut self, captured_ms: u64) {
        let held = &mut self.held;
        self.frames.retain(|_, sealed| {
            let stays = u64::from(sealed.captured_ms) >= captured_ms;
            if !stays {
                *held -= sealed.waiting.len();
            }
            stays
        });
    }

    fn forget_oldest(&mut self) {
        let oldest = self.frames.iter().min_by_key(|(key, sealed)| (sealed.captured_ms, **key));
        if let Some(key) = oldest.map(|(&key, _)| key) {
            self.drop_frame(key);
        }
    }

    fn drop_frame(&mut self, key: (u8, u64)) {
        if let Some(sealed) = self.frames.remove(&key) {
            self.held -= sealed.waiting.len();
        }
    }
}

impl<P> Sealed<P> {
    /// Takes the piece of the seal that a chunk carries: `None` while pieces are missing, `Some(None)` if they are no seal.
    #[allow(clippy::option_option, reason = "missing is not the same as wrong")]
    fn piece(&mut self, chunk: &Chunk) -> Option<Option<(u32, FrameSeal)>> {
        let (&count, piece) = chunk.seal.split_first()?;
        if self.pieces.len() != usize::from(count) {
            self.pieces = alloc::vec![None; usize::from(count)];
        }
        *self.pieces.get_mut(usize::from(chunk.index))? = Some(chunk.seal.slice_ref(piece));
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            bytes.extend_from_slice(piece.as_ref()?);
        }
        Some(decode(&Bytes::from(bytes)))
    }
}

/// Cuts a seal into pieces, each with their number in front.
pub(super) fn pieces(seal: &[u8], piece_max: usize) -> Vec<Bytes> {
    if seal.is_empty() {
        return Vec::new();
    }
    let count = seal.len().div_ceil(piece_max.max(1));
    let size = seal.len().div_ceil(count);
    let piece = |piece: &[u8]| {
        let mut bytes = Vec::with_capacity(piece.len() + 1);
        bytes.push(u8::try_from(count).unwrap_or(u8::MAX));
        bytes.extend_from_slice(piece);
        Bytes::from(bytes)
    };
    seal.chunks(size).map(piece).collect()
}

pub(super) fn header_of(chunk: &Chunk, epoch: Epoch, payload_bytes: u32, deadline_ms: u32) -> FrameHeader {
    FrameHeader {
        epoch,
        track: chunk.track,
        sequence: chunk.sequence,
        keyframe: chunk.keyframe,
        captured_ms: chunk.captured_ms,
        deadline_ms: chunk.deadline_ms.unwrap_or(deadline_ms),
        first_chunk: chunk.number - u64::from(chunk.index),
        data: chunk.data,
        parity: chunk.parity,
        scheme: if chunk.reed_solomon { Scheme::ReedSolomon } else { Scheme::Xor },
        payload_bytes,
    }
}

fn decode(bytes: &Bytes) -> Option<(u32, FrameSeal)> {
    let mut reader = Reader::new(bytes);
    let payload_bytes = u32::try_from(reader.varint().ok()?).ok()?;
    let seal = FrameSeal::decode(&mut reader).ok()?;
    (reader.remaining() == 0).then_some((payload_bytes, seal))
}

impl<P: fmt::Debug> fmt::Debug for Seals<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seals")
            .field("signs", &self.signer.is_some())
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
