//! Lists of sources, cut so that every message fits one frame.

use alloc::vec::Vec;

use crate::id::Epoch;
use crate::log::RangeSet;
use crate::wire::{SourceRanges, WirePeer};

/// Ranges of one source in a message, at most; the rest follows when these are mended.
const RANGES_MAX: usize = 32;

/// Cuts a list into messages that fit `bytes_max`, and sources with very many ranges to the first of them.
pub(super) fn pages<P: WirePeer>(
    list: Vec<SourceRanges<P>>,
    bytes_max: usize,
) -> impl Iterator<Item = Vec<SourceRanges<P>>> {
    let mut rest =
        list.into_iter().map(|source| known(source.origin, source.epoch, source.ranges)).peekable();
    core::iter::from_fn(move || {
        let mut bytes = 0;
        let mut page = Vec::new();
        while let Some(source) =
            rest.next_if(|source| page.is_empty() || bytes + source_bytes(source) <= bytes_max)
        {
            bytes += source_bytes(&source);
            page.push(source);
        }
        (!page.is_empty()).then_some(page)
    })
}

/// Some updates of one source, as many ranges of them as one message takes.
pub(super) fn known<P>(origin: P, epoch: Epoch, ranges: RangeSet) -> SourceRanges<P> {
    let ranges =
        if ranges.range_count() > RANGES_MAX { ranges.iter().take(RANGES_MAX).collect() } else { ranges };
    SourceRanges { origin, epoch, ranges }
}

/// The size of a source's ranges on the wire, at most.
pub(super) fn source_bytes<P: WirePeer>(source: &SourceRanges<P>) -> usize {
    let varint = |number: u64| (70 - (number | 1).leading_zeros() as usize) / 7;
    let mut at = 0;
    let ranges = source.ranges.iter().map(|range| {
        let bytes = varint(range.start - at) + varint(range.end - range.start);
        at = range.end;
        bytes
    });
    P::WIRE_BYTES + 4 + 2 + ranges.sum::<usize>()
}
