//! The pieces of one large update: what is here, checked, and still missing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::manifest::{Manifest, Voucher};
use crate::authority::ChunkHasher;
use crate::log::RangeSet;

/// The pieces of one update. Memory grows with what has arrived, never with what was announced.
#[derive(Debug)]
pub(super) struct Assembly {
    manifest: Manifest,
    /// The whole body, where it was published.
    whole: Option<Bytes>,
    /// Pieces that were checked, or the frames whose ends they are: relays pass these on as they are.
    pieces: BTreeMap<u32, Bytes>,
    held: RangeSet,
    /// Pieces whose page has not come yet, with who sent them.
    unchecked: BTreeMap<u32, (Bytes, u8)>,
    bytes: usize,
}

/// What became of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Placed {
    /// These pieces are here now and checked. Those who sent others that turned out to be wrong are named.
    New {
        /// The piece, and others that waited for it.
        numbers: SmallVec<[u32; 4]>,
        /// Pieces that are missing again, with who sent them.
        forged: Vec<(u32, u8)>,
    },
    /// It waits for its page.
    Waits,
    /// It was here already.
    Duplicate,
    /// There is no such piece, or it has another length or hash.
    Wrong,
}

impl Assembly {
    /// Nothing but the manifest.
    pub(super) fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            whole: None,
            pieces: BTreeMap::new(),
            held: RangeSet::new(),
            unchecked: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Everything.
    pub(super) fn whole(manifest: Manifest, pages: Vec<Bytes>, body: Bytes) -> Self {
        let bytes = body.len() + pages.iter().map(Bytes::len).sum::<usize>();
        let held = RangeSet::from(0..u64::from(manifest.count()));
        let pieces = (0..).zip(pages).collect();
        Self { manifest, whole: Some(body), pieces, held, unchecked: BTreeMap::new(), bytes }
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Pieces that are here and checked.
    pub(super) fn held(&self) -> &RangeSet {
        &self.held
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_complete(&self) -> bool {
        self.held.len() == u64::from(self.manifest.count())
    }

    /// Whether a piece is here, checked or not.
    pub(super) fn has(&self, number: u32) -> bool {
        self.held.contains(u64::from(number)) || self.unchecked.contains_key(&number)
    }

    /// A checked piece, and the frame that it came in if that held nothing else.
    pub(super) fn piece(&self, number: u32) -> Option<(Bytes, Option<Bytes>)> {
        let len = self.manifest.piece_bytes(number)?;
        if let Some(stored) = self.pieces.get(&number) {
            let body = stored.slice(stored.len() - len..);
            return Some((body, (stored.len() > len).then(|| stored.clone())));
        }
        let whole = self.whole.as_ref()?;
        Some((whole.slice(self.manifest.body_range(number)?), None))
    }

    /// Takes a piece that `slot` sent. `frame` is the frame that ends with it, if nothing else is in it.
    pub(super) fn place(
        &mut self,
        number: u32,
        body: Bytes,
        frame: Option<&Bytes>,
        slot: u8,
        hasher: Option<&dyn ChunkHasher>,
    ) -> Placed {
        if self.has(number) {
            return Placed::Duplicate;
        }
        if self.manifest.piece_bytes(number) != Some(body.len()) {
            return Placed::Wrong;
        }
        let ends_with_it = |frame: &&Bytes| frame.ends_with(&body);
        let stored = frame.filter(ends_with_it).cloned().unwrap_or_else(|| body.clone());
        match self.vouches(number, &body, hasher) {
            Some(true) => {}
            Some(false) => return Placed::Wrong,
            None => {
                self.bytes += body.len();
                self.unchecked.insert(number, (stored, slot));
                return Placed::Waits;
            }
        }
        self.bytes += body.len();
        self.keep(number, stored);
        let (mut numbers, mut forged) = (SmallVec::from_slice(&[number]), Vec::new());
        self.check_below(number, hasher, &mut numbers, &mut forged);
        Placed::New { numbers, forged }
    }

    /// The whole body, once everything is here.
    pub(super) fn body(&self) -> Option<Bytes> {
        if let Some(whole) = &self.whole {
            return Some(whole.clone());
        }
        if !self.is_complete() {
            return None;
        }
        let mut body = BytesMut::with_capacity(self.manifest.body_bytes() as usize);
        for number in self.manifest.page_count()..self.manifest.count() {
            body.extend_from_slice(&self.piece(number)?.0);
        }
        Some(body.freeze())
    }

    /// Whether a piece has the hash that it should have; `None` if that is not known yet.
    fn vouches(&self, number: u32, body: &[u8], hasher: Option<&dyn ChunkHasher>) -> Option<bool> {
        let expected: &[u8] = match self.manifest.voucher(number)? {
            Voucher::None => return Some(true),
            Voucher::Manifest(place) => self.manifest.hash(place)?,
            Voucher::Page(page, place) => {
                let (page, _) = self.piece_of_page(page)?;
                let at = place * crate::authority::CHUNK_HASH_BYTES;
                return Some(
                    hasher.is_some_and(|hasher| page.get(at..at + 16) == Some(&hasher.hash(body)[..])),
                );
            }
        };
        Some(hasher.is_some_and(|hasher| hasher.hash(body)[..] == *expected))
    }

    fn piece_of_page(&self, page: u32) -> Option<(Bytes, Option<Bytes>)> {
        if self.held.contains(u64::from(page)) { self.piece(page) } else { None }
    }

    fn keep(&mut self, number: u32, stored: Bytes) {
        self.held.insert(u64::from(number)..u64::from(number) + 1);
        self.pieces.insert(number, stored);
    }

    /// A page has come: checks what waited for it, and for the pages that did.
    fn check_below(
        &mut self,
        page: u32,
        hasher: Option<&dyn ChunkHasher>,
        numbers: &mut SmallVec<[u32; 4]>,
        forged: &mut Vec<(u32, u8)>,
    ) {
        if self.unchecked.is_empty() || page >= self.manifest.page_count() {
            return;
        }
        let Some(below) = self.manifest.below(page) else { return };
        let waiting: Vec<u32> = self.unchecked.range(below).map(|(&number, _)| number).collect();
        for number in waiting {
            let Some((stored, slot)) = self.unchecked.remove(&number) else { continue };
            let len = self.manifest.piece_bytes(number).unwrap_or(0);
            let body = stored.slice(stored.len() - len..);
            if self.vouches(number, &body, hasher) == Some(true) {
                self.keep(number, stored);
                numbers.push(number);
                // Pages of pages: four levels at most.
                self.check_below(number, hasher, numbers, forged);
            } else {
                self.bytes -= len;
                forged.push((number, slot));
            }
        }
    }
}
