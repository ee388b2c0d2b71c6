//! Fields that several kinds of messages have: lists, ranges, entries.

use alloc::vec::Vec;

use super::codec::{Put, Reader, WireError, WirePeer};
use super::message::{SourceRanges, ViewEntry};
use crate::id::Epoch;
use crate::log::RangeSet;

pub(super) fn put_list<T, W: Put>(out: &mut W, items: &[T], put: impl Fn(&mut W, &T)) {
    out.put_varint(items.len() as u64);
    for item in items {
        put(out, item);
    }
}

pub(super) fn read_list<T>(
    reader: &mut Reader<'_>,
    bytes_each_min: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = reader.count(bytes_each_min)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Ok(items)
}

pub(super) fn put_entry<P: WirePeer>(out: &mut impl Put, entry: &ViewEntry<P>) {
    entry.peer.encode(out);
    out.put_u8(entry.age);
}

pub(super) fn read_entry<P: WirePeer>(reader: &mut Reader<'_>) -> Result<ViewEntry<P>, WireError> {
    Ok(ViewEntry { peer: P::decode(reader)?, age: reader.u8()? })
}

pub(super) fn put_source<P: WirePeer>(out: &mut impl Put, source: &SourceRanges<P>) {
    source.origin.encode(out);
    out.put(&source.epoch.0.to_le_bytes());
    put_ranges(out, &source.ranges);
}

pub(super) fn put_ranges(out: &mut impl Put, ranges: &RangeSet) {
    out.put_varint(ranges.range_count() as u64);
    let mut at = 0;
    for range in ranges.iter() {
        // A gap of 0 can only come first; later gaps are at least 1 because ranges never touch.
        out.put_varint(range.start - at);
        out.put_varint(range.end - range.start);
        at = range.end;
    }
}

pub(super) fn read_source<P: WirePeer>(reader: &mut Reader<'_>) -> Result<SourceRanges<P>, WireError> {
    let origin = P::decode(reader)?;
    let epoch = Epoch(reader.u32()?);
    Ok(SourceRanges { origin, epoch, ranges: read_ranges(reader)? })
}

pub(super) fn read_ranges(reader: &mut Reader<'_>) -> Result<RangeSet, WireError> {
    let count = reader.count(2)?;
    let mut ranges = RangeSet::new();
    let mut at = 0u64;
    for index in 0..count {
        let gap = read_sequence(reader)?;
        let len = read_sequence(reader)?;
        if len == 0 || (index > 0 && gap == 0) || at + gap + len >= 1 << 62 {
            return Err(WireError::Range);
        }
        ranges.insert(at + gap..at + gap + len);
        at += gap + len;
    }
    Ok(ranges)
}

pub(super) fn put_bound<P: WirePeer>(out: &mut impl Put, bound: &Option<P>) {
    match bound {
        None => out.put_u8(0),
        Some(peer) => {
            out.put_u8(1);
            peer.encode(out);
        }
    }
}

pub(super) fn read_bound<P: WirePeer>(reader: &mut Reader<'_>) -> Result<Option<P>, WireError> {
    Ok(if read_bool(reader)? { Some(P::decode(reader)?) } else { None })
}

pub(super) fn read_bool(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Range),
    }
}

pub(super) fn read_sequence(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    let sequence = reader.varint()?;
    if sequence >= 1 << 62 { Err(WireError::Range) } else { Ok(sequence) }
}
