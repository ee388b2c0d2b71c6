//! Large updates: cut into chunks that spread on all links at once, and are passed on before the whole is here.
//!
//! The *manifest* of a large update travels as any update does: along the trees, through announcements, requests and
//! reconciliation. The chunks follow their own way. Their origin *offers* each to one neighbour. Who claims a chunk promises
//! it at once to neighbours that lack it, so that they can claim it in their turn before it has come; it is passed on when it
//! does. Each chunk is claimed from one neighbour only, and each node promises no more than its fair share of the work as long
//! as that suffices, so that all upload is used and each body travels once to each node.
//!
//! Who was promised a chunk in vain claims it from somebody who holds it, never from somebody who has only promised it:
//! otherwise some could wait for each other.
//!
//! | file | what it does |
//! |---|---|
//! | `mod.rs` | the way of a large update: in, to the application, on |
//! | `manifest.rs` | how it is cut, and how each piece is checked |
//! | `assembly.rs` | the pieces that are here |
//! | `large.rs` | what each neighbour has, wants, and was told |
//! | `order.rs` | which chunks are lost |
//! | `send.rs` | chunks, claims and offers that leave |
//! | `tend.rs` | what is done again: claims that were not answered, offers, giving up |

mod assembly;
mod large;
mod manifest;
mod order;
mod send;
mod tend;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use super::{Gossip, GossipAction, PublishOptions};
use crate::authority::{ChunkHasher, SignedBody};
use crate::config::GossipConfig;
use crate::id::StateId;
use crate::io::{LagReason, Offence};
use crate::log::{RangeSet, SourceIndex};
use crate::time::Instant;
use crate::wire::{
    ChunkClaim, ChunkData, ChunkOffer, Data, GossipMessage, LargeId, UPDATE_CHUNK_HEADER_BYTES_MAX, WirePeer,
};
use assembly::{Assembly, Placed};
use large::Large;
pub(super) use manifest::Manifest;
use tend::{Early, Quotas};

/// A source and a sequence.
type Key = (SourceIndex, u64);

/// The large updates of one swarm.
pub(super) struct Chunks<P> {
    updates: BTreeMap<Key, Box<Large<P>>>,
    /// Offers of updates whose manifest has not come.
    early: Vec<Early<P>>,
    quotas: Quotas,
    hasher: Option<Arc<dyn ChunkHasher + Send + Sync>>,
    is_signed: bool,
    /// How long own chunks are.
    chunk_bytes: usize,
    /// The greatest body that fits a frame.
    single_bytes_max: usize,
    assembling: usize,
    assembling_bytes: usize,
    swept: Instant,
    at: Option<Instant>,
}

impl<P: WirePeer> Chunks<P> {
    pub(super) fn new(config: &GossipConfig, frame_bytes_max: usize) -> Self {
        let room = frame_bytes_max.saturating_sub(UPDATE_CHUNK_HEADER_BYTES_MAX + P::WIRE_BYTES);
        let header = 1 + P::WIRE_BYTES + crate::wire::DATA_HEADER_BYTES_MAX_WITHOUT_PEER;
        Self {
            updates: BTreeMap::new(),
            early: Vec::new(),
            quotas: Quotas::default(),
            hasher: None,
            is_signed: false,
            chunk_bytes: manifest::chunk_bytes_for(room, config.chunk_bytes_max),
            single_bytes_max: frame_bytes_max.saturating_sub(header),
            assembling: 0,
            assembling_bytes: 0,
            swept: Instant::ZERO,
            at: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    fn wake(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    fn hasher(&self) -> Option<&dyn ChunkHasher> {
        self.hasher.as_deref().map(|hasher| hasher as &dyn ChunkHasher)
    }

    /// Ends what was counted for an update that was in assembly.
    fn settle(&mut self, large: &Large<P>) {
        if large.completed.is_none() {
            self.assembling -= 1;
            self.assembling_bytes -= large.assembly.bytes();
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for Chunks<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("updates", &self.updates.len()).finish_non_exhaustive()
    }
}

impl<P: WirePeer> Gossip<P> {
    /// The swarm is signed: chunks are checked with `hasher` before they are passed on, and without one no large update is
    /// taken or published.
    pub fn sign_chunks(&mut self, hasher: Option<Arc<dyn ChunkHasher + Send + Sync>>) {
        (self.chunks.is_signed, self.chunks.hasher) = (true, hasher);
    }

    /// Whether a body of this length travels in chunks. `seal_bytes` are taken in its frame by a signature.
    pub fn is_large(&self, body_bytes: usize, seal_bytes: usize) -> bool {
        body_bytes > self.config.chunk_above_bytes || body_bytes + seal_bytes > self.chunks.single_bytes_max
    }

    /// The greatest body that can be published.
    pub fn update_bytes_max(&self) -> usize {
        let in_chunks = self.chunks.chunk_bytes.saturating_mul(manifest::CHUNKS_MAX as usize);
        self.config.update_bytes_max.min(in_chunks)
    }

    /// Whether large updates can be checked, if they must be.
    pub fn can_check_chunks(&self) -> bool {
        !self.chunks.is_signed || self.chunks.hasher.is_some()
    }

    /// Large updates that are not whole yet, and the bytes of their chunks.
    pub fn assembling(&self) -> (usize, usize) {
        (self.chunks.assembling, self.chunks.assembling_bytes)
    }

    /// As [`Self::publish_sealed`], for an update that travels in chunks; `seal` gets what stands for its body in the
    /// signature.
    pub fn publish_large(
        &mut self,
        state: StateId,
        body: Bytes,
        options: PublishOptions,
        seal: impl FnOnce(&Data<P>, SignedBody<'_>) -> Bytes,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> u64 {
        let data = self.own_data(state, body, options, now);
        let sequence = data.sequence;
        self.stats.published += 1;
        self.enter_large(data, seal, now, actions);
        sequence
    }

    /// Cuts an own update and spreads it.
    pub(super) fn enter_large(
        &mut self,
        data: Data<P>,
        seal: impl FnOnce(&Data<P>, SignedBody<'_>) -> Bytes,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let body = data.body.clone();
        let hasher = if self.chunks.is_signed { self.chunks.hasher() } else { None };
        let Some((manifest, pages)) = Manifest::of(&body, self.chunks.chunk_bytes, hasher) else {
            // Nobody could take it.
            return self.enter(data, now, actions);
        };
        let data = Data { body: manifest.encode(), ..data };
        let signed = SignedBody::Digest { body_bytes: body.len() as u64, digest: &data.body };
        let signature = seal(&data, signed);
        let data = Data { signature, ..data };
        // It must be known as a large one before its manifest is sent.
        let Ok(source) = self.log.track(data.origin, data.epoch, now) else { return };
        self.forget_replaced();
        let key = (source, data.sequence);
        let assembly = Assembly::whole(manifest, pages, body.clone());
        let large = Large::new(data.clone(), assembly, now);
        self.chunks.updates.insert(key, Box::new(large));
        self.enter(data, now, actions);
        let Some(mut large) = self.chunks.updates.remove(&key) else { return };
        self.log.weigh(key.0, key.1, body.len());
        large.was_kept = self.log.holds(key.0, key.1);
        let neighbors = self.peers.all();
        let first = self.rng.below(neighbors.len().max(1));
        if !neighbors.is_empty() {
            large.deal(neighbors, first, now);
        }
        for slot in neighbors.iter() {
            let side = large.side(slot, now);
            side.told_held = side.told.clone();
            let held = side.told.clone();
            self.send_offer(slot, &large, (false, false), held, RangeSet::new(), actions);
        }
        self.put_back(key, large, now);
    }

    /// A manifest has come.
    pub(super) fn on_manifest(
        &mut self,
        slot: Option<u8>,
        data: Data<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.manifests_received += 1;
        let manifest =
            Manifest::read(&data.body).filter(|manifest| manifest.is_signed() == self.chunks.is_signed);
        let Some(manifest) = manifest else { return self.misbehaved(slot, Offence::Nonsense, actions) };
        let is_known = self.log.knows(data.origin, data.epoch, data.sequence);
        if !is_known {
            let too_large = manifest.body_bytes() > self.config.update_bytes_max as u64;
            if too_large || !self.can_check_chunks() {
                return self.refuse_large(&data, now, actions);
            }
            if !self.has_place(slot, &data, now, actions) {
                self.stats.assemblies_refused += 1;
                return;
            }
        }
        self.on_update(slot, data, Some(manifest), now, actions);
    }

    /// A new large update: its chunks are to be had.
    pub(super) fn begin_assembly(
        &mut self,
        source: SourceIndex,
        slot: Option<u8>,
        data: &Data<P>,
        manifest: Manifest,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.assemblies_begun += 1;
        self.chunks.assembling += 1;
        let key = (source, data.sequence);
        let mut large = Box::new(Large::new(data.clone(), Assembly::new(manifest), now));
        large.is_young = !data.pulled || now - data.born <= super::push::PUSH_AGE_MAX;
        large.was_kept = self.log.holds(source, data.sequence);
        large.brought_by = slot;
        if let (Some(slot), false) = (slot, data.pulled) {
            // Who pushes a manifest has it from somebody who has the pages, and so on.
            let pages = u64::from(large.assembly.manifest().page_count());
            large.note_offer(slot, false, &RangeSet::new(), &RangeSet::from(0..pages), now);
        }
        let id = LargeId { origin: data.origin, epoch: data.epoch, sequence: data.sequence };
        if let Some(early) = self.chunks.take_early(id) {
            for (slot, held, promised) in early.sides {
                large.note_offer(slot, false, &held, &promised, now);
            }
        }
        let slots: Vec<u8> = large.sides.keys().copied().collect();
        for slot in slots {
            self.claim_from(slot, &mut large, u64::MAX, now, actions);
        }
        if !large.is_young {
            self.query(&mut large, now, actions);
        }
        self.tell_all(&mut large, None, now, actions);
        self.put_back(key, large, now);
    }

    /// A neighbour says which chunks can be had from it.
    pub(super) fn on_offer(
        &mut self,
        slot: u8,
        offer: ChunkOffer<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.offers_received += 1;
        let id = offer.update;
        let Some((key, mut large)) = self.take_large(&id) else {
            if offer.asks {
                self.say_nothing_held(slot, id, actions);
            } else if !self.log.knows(id.origin, id.epoch, id.sequence) {
                self.note_early(slot, offer, now);
            }
            return;
        };
        large.note_offer(slot, offer.is_all, &offer.held, &offer.promised, now);
        if offer.asks {
            large.side(slot, now).is_interested = true;
            self.tell_chunks(slot, &mut large, true, now, actions);
        }
        if large.completed.is_none() && self.claim_from(slot, &mut large, u64::MAX, now, actions) {
            self.tell_all(&mut large, Some(slot), now, actions);
        }
        self.put_back(key, large, now);
    }

    /// A neighbour claims chunks.
    pub(super) fn on_claim(
        &mut self,
        slot: u8,
        claim: &ChunkClaim<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.claims_received += 1;
        let Some((key, mut large)) = self.take_large(&claim.update) else {
            if !claim.wanted.is_empty() {
                self.say_nothing_held(slot, claim.update, actions);
            }
            return;
        };
        match large.note_claim(slot, &claim.wanted, &claim.released, now) {
            Some(at_once) => {
                for number in at_once.iter().flatten() {
                    self.send_chunk(slot, &mut large, number as u32, now, actions);
                }
            }
            None => self.stats.claims_refused += 1,
        }
        self.put_back(key, large, now);
    }

    /// A chunk has come. `frame` is its frame if nothing else was in it.
    pub(super) fn on_chunk(
        &mut self,
        slot: u8,
        chunk: ChunkData<P>,
        frame: Option<&Bytes>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.chunks_received += 1;
        let Some((key, mut large)) = self.take_large(&chunk.update) else {
            self.stats.chunks_refused += 1;
            return;
        };
        let number = chunk.number;
        if number >= large.assembly.manifest().page_count() {
            self.stats.body_bytes_received += chunk.body.len() as u64;
        }
        let before = large.assembly.bytes();
        let placed = large.assembly.place(number, chunk.body, frame, slot, self.chunks.hasher());
        if large.completed.is_none() {
            self.chunks.assembling_bytes += large.assembly.bytes();
            self.chunks.assembling_bytes -= before;
        }
        match placed {
            Placed::New { numbers, forged } => {
                self.note_arrival(slot, &mut large, number, now, actions);
                for (number, sender) in forged {
                    self.distrust(sender, &mut large, actions);
                    large.unclaim(&RangeSet::from(large::one(number)));
                }
                for number in numbers {
                    self.pass_on(&mut large, number, now, actions);
                }
            }
            Placed::Waits => self.note_arrival(slot, &mut large, number, now, actions),
            Placed::Duplicate => {
                self.stats.chunks_duplicate += 1;
                self.note_arrival(slot, &mut large, number, now, actions);
            }
            Placed::Wrong => {
                self.stats.chunks_refused += 1;
                self.distrust(slot, &mut large, actions);
            }
        }
        if large.completed.is_none() {
            let asked = large.sides.get(&slot).map_or(0, |side| side.asked.len());
            if asked * 2 <= large.window() && !large.unclaimed.is_empty() {
                self.claim_from(slot, &mut large, u64::MAX, now, actions);
            }
            if large.assembly.is_complete() {
                self.complete(key, &mut large, now, actions);
            }
        }
        self.put_back(key, large, now);
        if self.chunks.assembling_bytes > self.config.assembly_bytes_max {
            self.make_room(Some(key), now, actions);
        }
    }

    pub(super) fn chunks_neighbor_up(&mut self, slot: u8, now: Instant) {
        for large in self.chunks.updates.values_mut() {
            let is_busy = large.completed.is_none();
            large.side(slot, now).is_interested |= is_busy;
            if is_busy {
                large.queried = None;
                large.tick_at = Some(now);
                self.chunks.at = Some(now);
            }
        }
    }

    pub(super) fn chunks_neighbor_down(&mut self, slot: u8, now: Instant) {
        self.chunks.forget_early(slot);
        for large in self.chunks.updates.values_mut() {
            large.forget_side(slot);
            if large.completed.is_none() {
                large.tick_at = Some(now);
                self.chunks.at = Some(now);
            }
        }
    }

    /// A source is forgotten, and its large updates with it.
    pub(super) fn forget_large(&mut self, source: SourceIndex) {
        let keys: Vec<_> =
            self.chunks.updates.range((source, 0)..=(source, u64::MAX)).map(|(&key, _)| key).collect();
        for key in keys {
            if let Some(large) = self.chunks.updates.remove(&key) {
                self.chunks.settle(&large);
            }
        }
    }

    /// An own update with its whole body, if it is a large one.
    pub(super) fn unpack(&self, source: SourceIndex, data: Data<P>) -> Data<P> {
        let large = self.chunks.updates.get(&(source, data.sequence));
        match large.and_then(|large| large.assembly.body()) {
            Some(body) => Data { body, ..data },
            None => data,
        }
    }

    /// The message that carries an update.
    pub(super) fn message_of(&self, data: Data<P>) -> GossipMessage<P> {
        let is_large = !self.chunks.updates.is_empty()
            && self
                .log
                .source(data.origin, data.epoch)
                .is_some_and(|source| self.chunks.updates.contains_key(&(source, data.sequence)));
        if is_large { GossipMessage::Manifest(data) } else { GossipMessage::Data(data) }
    }

    /// A chunk has come from a neighbour. What it has left out is asked for again at once.
    fn note_arrival(
        &mut self,
        slot: u8,
        large: &mut Large<P>,
        number: u32,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let lost = large.note_arrival(number, slot, now);
        if lost.is_empty() || large.completed.is_some() {
            return;
        }
        self.stats.chunks_missed += lost.len();
        large.claim_again(slot, &lost);
        self.send_claim(slot, large, lost, actions);
    }

    /// Everything is here.
    fn complete(&mut self, key: Key, large: &mut Large<P>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let Some(body) = large.assembly.body() else { return };
        self.chunks.settle(large);
        large.completed = Some(now);
        self.log.weigh(key.0, key.1, body.len());
        self.stats.bodies_received += 1;
        self.stats.delivered += 1;
        let data = Data { body, ..large.header.clone() };
        actions.push(GossipAction::Deliver(data));
        self.tell_all(large, None, now, actions);
    }

    /// A neighbour has sent a wrong chunk: nothing more of this update is claimed from it.
    fn distrust(&mut self, slot: u8, large: &mut Large<P>, actions: &mut Vec<GossipAction<P>>) {
        if let Some(side) = large.sides.get_mut(&slot) {
            side.is_distrusted = true;
            let asked = core::mem::take(&mut side.asked);
            large.unclaim(&asked);
        }
        self.misbehaved(Some(slot), Offence::BadChunk, actions);
    }

    fn misbehaved(&mut self, slot: Option<u8>, offence: Offence, actions: &mut Vec<GossipAction<P>>) {
        if let Some(peer) = slot.and_then(|slot| self.peers.get(slot)) {
            actions.push(GossipAction::Misbehaved { peer, offence });
        }
    }

    /// A large update that cannot be taken here, whoever brings it.
    fn refuse_large(&mut self, data: &Data<P>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let is_new = self.log.note(data, now);
        self.forget_replaced();
        let Some(source) = self.log.source(data.origin, data.epoch).filter(|_| is_new) else { return };
        self.settle(source, data.sequence, data.pulled, now);
        self.stats.assemblies_refused += 1;
        let lost = RangeSet::from(data.sequence..data.sequence + 1);
        self.report_lag(source, &lost, LagReason::NoRoom, actions);
    }

    fn take_large(&mut self, id: &LargeId<P>) -> Option<(Key, Box<Large<P>>)> {
        if self.chunks.updates.is_empty() {
            return None;
        }
        let key = (self.log.source(id.origin, id.epoch)?, id.sequence);
        Some((key, self.chunks.updates.remove(&key)?))
    }

    fn put_back(&mut self, key: Key, mut large: Box<Large<P>>, now: Instant) {
        self.plan_tick(&mut large, now);
        if let Some(at) = large.tick_at {
            self.chunks.wake(at);
        }
        self.chunks.updates.insert(key, large);
    }
}

impl<P: WirePeer> Large<P> {
    fn id(&self) -> LargeId<P> {
        let header = &self.header;
        LargeId { origin: header.origin, epoch: header.epoch, sequence: header.sequence }
    }
}

/// How long the body is that a manifest stands for; `None` if it is no manifest.
pub(crate) fn manifest_body_bytes(manifest: &Bytes) -> Option<u64> {
    Manifest::read(manifest).map(|manifest| manifest.body_bytes())
}
