//! What leaves a node for large updates: chunks, claims, offers.

use alloc::vec::Vec;

use super::large::{self, Large};
use crate::gossip::peers::Slots;
use crate::gossip::{Gossip, GossipAction};
use crate::id::Priority;
use crate::io::Class;
use crate::log::RangeSet;
use crate::time::Instant;
use crate::wire::{ChunkClaim, ChunkData, ChunkOffer, GossipMessage, LargeId, WirePeer};

impl<P: WirePeer> Gossip<P> {
    pub(super) fn pass_on(
        &mut self,
        large: &mut Large<P>,
        number: u32,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let wants = |side: &large::Side| side.wanted.contains(u64::from(number));
        let slots: Slots = large
            .sides
            .iter()
            .filter(|(_, side)| wants(side))
            .fold(Slots::NONE, |slots, (&slot, _)| slots | Slots::one(slot));
        for slot in slots.iter() {
            large.side(slot, now).wanted.remove(large::one(number));
            self.send_chunk(slot, large, number, now, actions);
        }
    }

    pub(super) fn send_chunk(
        &mut self,
        slot: u8,
        large: &mut Large<P>,
        number: u32,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let (Some(to), Some((body, frame))) = (self.peers.get(slot), large.assembly.piece(number)) else {
            return;
        };
        large.side(slot, now).note_sent(number);
        self.stats.chunks_sent += 1;
        let header = &large.header;
        let is_page = number < large.assembly.manifest().page_count();
        let class = if is_page { Class::from(header.priority) } else { chunk_class(header.priority) };
        actions.push(match frame {
            Some(frame) => GossipAction::Forward { to, frame, class },
            None => {
                let message = GossipMessage::Chunk(ChunkData { update: large.id(), number, body });
                GossipAction::Send { to, message, class, key: None }
            }
        });
    }

    /// Claims what a neighbour offers; true if anything was claimed.
    pub(super) fn claim_from(
        &mut self,
        slot: u8,
        large: &mut Large<P>,
        quota: u64,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> bool {
        let chunk_bytes = large.assembly.manifest().chunk_bytes();
        let rate = self.config.chunk_claim_bytes_per_s / chunk_bytes as u64;
        let quota = quota.min(self.chunks.quotas.left(slot, rate.max(1), large.window(), now));
        let wanted = large.claim(slot, quota, now);
        if wanted.is_empty() {
            return false;
        }
        self.chunks.quotas.take(slot, wanted.len());
        self.send_claim(slot, large, wanted, actions);
        true
    }

    pub(super) fn send_claim(
        &mut self,
        slot: u8,
        large: &mut Large<P>,
        wanted: RangeSet,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let Some(side) = large.sides.get_mut(&slot) else { return };
        let (mut wanted, mut released) = (wanted, core::mem::take(&mut side.released));
        while !wanted.is_empty() || !released.is_empty() {
            let room = self.ranges_max();
            let wanted = first_ranges(&mut wanted, room);
            let released = first_ranges(&mut released, room - wanted.range_count());
            self.stats.claims_sent += 1;
            let claim = ChunkClaim { update: large.id(), wanted, released };
            self.send(slot, GossipMessage::ChunkClaim(claim), actions);
        }
    }

    pub(super) fn send_offer(
        &mut self,
        slot: u8,
        large: &Large<P>,
        (asks, is_all): (bool, bool),
        mut held: RangeSet,
        mut promised: RangeSet,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        for page in 0..OFFER_PAGES_MAX {
            let room = self.ranges_max();
            let some_held = first_ranges(&mut held, room);
            let some_promised = first_ranges(&mut promised, room - some_held.range_count());
            let is_last = held.is_empty() && promised.is_empty();
            self.stats.offers_sent += 1;
            let offer = ChunkOffer {
                update: large.id(),
                asks: asks && page == 0,
                is_all: is_all && page == 0,
                held: some_held,
                promised: some_promised,
            };
            self.send(slot, GossipMessage::ChunkOffer(offer), actions);
            if is_last {
                return;
            }
        }
    }

    /// Ranges that fit a message, whatever they are.
    fn ranges_max(&self) -> usize {
        self.list_bytes_max.saturating_sub(P::WIRE_BYTES + ID_BYTES) / RANGE_BYTES
    }

    pub(super) fn say_nothing_held(
        &mut self,
        slot: u8,
        update: LargeId<P>,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.offers_sent += 1;
        let (held, promised) = (RangeSet::new(), RangeSet::new());
        let offer = ChunkOffer { update, asks: false, is_all: true, held, promised };
        self.send(slot, GossipMessage::ChunkOffer(offer), actions);
    }
}

/// Messages in which a neighbour is told what can be had here, at most. It asks again if it needs more.
const OFFER_PAGES_MAX: usize = 4;

/// The name of an update without its origin, flags and counts.
const ID_BYTES: usize = 4 + 9 + 1 + 4;

/// A range on the wire, at most: numbers stay below 2^21.
const RANGE_BYTES: usize = 6;

/// Takes the first ranges of a set, at most `count`.
fn first_ranges(ranges: &mut RangeSet, count: usize) -> RangeSet {
    if ranges.range_count() <= count {
        return core::mem::take(ranges);
    }
    let first: RangeSet = ranges.iter().take(count).collect();
    *ranges = ranges.iter().skip(count).collect();
    first
}

/// Chunks travel below small updates of the same priority.
fn chunk_class(priority: Priority) -> Class {
    match priority {
        Priority::Urgent => Class::High,
        Priority::High => Class::Normal,
        Priority::Normal | Priority::Background => Class::Background,
    }
}
