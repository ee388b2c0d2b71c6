//! One track of a livestream at a relay: the chunks that are held, frame by frame, and what is owed to the application.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;

use crate::wire::Chunk;

/// Chunks and frames of one track, from the oldest that is kept to the newest that is known.
///
/// Chunks are kept as the frames in which they came, so that passing one on copies nothing.
#[derive(Debug)]
pub(super) struct TrackLog {
    /// In the order of their first chunks. Frames of which nothing came yet are not here.
    frames: VecDeque<Frame>,
    /// Everything below was let go.
    floor: u64,
    /// One past the newest chunk known of.
    end: u64,
    /// Frames below are thinned, but for those that will never be whole.
    thinned: u64,
    bytes: usize,
    bytes_max: usize,
    /// Chunks that parity gave, in their order, and how long they are. Once their frame was delivered they are not kept: what came
    /// gives them again.
    rebuilt: Vec<(u64, u32)>,
    /// Whether only keyframes are delivered.
    pub(super) keyframes_only: bool,
    /// The next frame for the application, once it has had a keyframe.
    cursor: Option<u64>,
    /// Frames are not given up before this time: who has just come catches up first.
    grace_ms: u64,
}

/// A frame of which at least one chunk came.
#[derive(Debug)]
struct Frame {
    first: u64,
    sequence: u64,
    captured_ms: u32,
    deadline_ms: u32,
    data: u8,
    /// Data chunks and parity chunks that are missing.
    missing: u8,
    keyframe: bool,
    reed_solomon: bool,
    /// It was delivered, or given up.
    settled: bool,
    chunks: Chunks,
}

/// The chunks of a frame.
#[derive(Debug)]
enum Chunks {
    /// By their index. Empty: it can be rebuilt.
    All(Box<[Option<Bytes>]>),
    /// Of a frame that is done with here, those that others get from this node, with their index; and how many there were.
    Few(Box<[(u8, Bytes)]>, u8),
}

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inserted {
    /// It is new.
    New,
    /// It was here.
    Duplicate,
    /// It is below what is kept.
    TooOld,
    /// It contradicts what is known.
    Contradiction,
}

/// A lost chunk that the frame can do without, if nothing more of it is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spare {
    /// Parity gives it.
    Data,
    /// It is parity.
    Parity,
}

/// A frame for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ready {
    pub(super) first: u64,
    /// Delivery begins with it.
    pub(super) is_first: bool,
    pub(super) sequence: u64,
    pub(super) keyframe: bool,
    pub(super) captured_ms: u32,
    pub(super) deadline_ms: u32,
    pub(super) chunks: Vec<Bytes>,
}

/// Frames that are looked at one by one before the search halves the rest.
const NEWEST: usize = 6;

/// Frames kept at most: each costs some memory of its own, however small it is.
const FRAMES_MAX: usize = 4_096;

/// Room is made for so many frames at a time.
const FRAMES_STEP: usize = 16;

impl TrackLog {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            floor: 0,
            end: 0,
            thinned: 0,
            bytes: 0,
            bytes_max,
            rebuilt: Vec::new(),
            keyframes_only: false,
            cursor: None,
            grace_ms: 0,
        }
    }

    /// Gives no frame up before this time.
    pub(super) fn be_patient_until(&mut self, ms: u64) {
        self.grace_ms = ms;
    }

    /// Everything from the first frame on is owed to the application.
    pub(super) fn begin(&mut self) {
        self.cursor = Some(0);
    }

    /// One past the newest chunk known of.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Nothing below is kept or taken.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_started(&self) -> bool {
        self.cursor.is_some()
    }

    /// The chunk `number`, as it is passed on.
    pub(super) fn get(&self, number: u64) -> Option<Held<'_>> {
        let chunk = self.slot(number)?;
        if !chunk.is_empty() {
            return Some(Held::Here(chunk));
        }
        let at = self.rebuilt.binary_search_by_key(&number, |&(rebuilt, _)| rebuilt).ok()?;
        Some(Held::Rebuildable { bytes: self.rebuilt[at].1 })
    }

    /// Whether the chunk has come, or is not needed any more.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.frame_of(number).is_some_and(|at| self.frames[at].has(number))
    }

    fn slot(&self, number: u64) -> Option<&Bytes> {
        self.frames[self.frame_of(number)?].slot(number)
    }

    /// Whether the frame of `number` is known and done with: nothing of it is worth asking for.
    pub(super) fn is_settled(&self, number: u64) -> bool {
        number < self.floor || self.frame_of(number).is_some_and(|at| self.frames[at].is_complete())
    }

    /// Whether `number` is known to belong to a keyframe.
    pub(super) fn is_keyframe(&self, number: u64) -> bool {
        self.frame_of(number).is_some_and(|at| self.frames[at].keyframe)
    }

    /// When the frame of `number`, or the next one that is known, was captured, and how long it is of use.
    pub(super) fn use_by_ms(&self, number: u64) -> Option<u64> {
        let at = self.place(|frame| frame.end() <= number);
        self.frames.get(at).map(Frame::use_by_ms)
    }

    /// The first chunk of the newest keyframe of which all data is here; failing that, of the oldest that is under way.
    pub(super) fn group(&self) -> Option<u64> {
        let whole = self.frames.iter().rev().find(|frame| frame.keyframe && frame.is_complete());
        whole.or_else(|| self.frames.iter().find(|frame| frame.keyframe)).map(|frame| frame.first)
    }

    /// The capture time of the newest keyframe of which something is here.
    pub(super) fn newest_keyframe_ms(&self) -> Option<u32> {
        self.frames.iter().rev().find(|frame| frame.keyframe).map(|frame| frame.captured_ms)
    }

    /// Takes a chunk, encoded alone in a frame. `deadline_ms` is that of the stream.
    pub(super) fn insert(&mut self, chunk: &Chunk, encoded: Bytes, deadline_ms: u32) -> Inserted {
        let first = chunk.number - u64::from(chunk.index);
        if first < self.floor {
            return Inserted::TooOld;
        }
        let at = self.place(|frame| frame.first < first);
        let fits = match self.frames.get(at) {
            Some(frame) if frame.first == first => frame.agrees(chunk),
            _ => self.fits(at, first, chunk),
        };
        if !fits {
            return Inserted::Contradiction;
        }
        if self.frames.get(at).is_none_or(|frame| frame.first != first) {
            if self.frames.len() == self.frames.capacity() {
                // Twice the room would be for twice the time.
                self.frames.reserve_exact(FRAMES_STEP);
            }
            self.frames.insert(at, Frame::new(first, chunk, deadline_ms));
        }
        let frame = &mut self.frames[at];
        let Some(slot) = frame.chunks.all_mut().map(|chunks| &mut chunks[usize::from(chunk.index)]) else {
            return Inserted::Duplicate;
        };
        if slot.is_some() {
            return Inserted::Duplicate;
        }
        self.bytes += encoded.len();
        *slot = Some(encoded);
        if chunk.index < chunk.data {
            frame.missing -= 1;
        }
        self.end = self.end.max(frame.end());
        Inserted::New
    }

    /// Takes a chunk that parity gave. It is kept until its frame is delivered.
    pub(super) fn insert_rebuilt(&mut self, chunk: &Chunk, encoded: Bytes, deadline_ms: u32) -> Inserted {
        let bytes = encoded.len() as u32;
        let inserted = self.insert(chunk, encoded, deadline_ms);
        if inserted == Inserted::New {
            let place = self.rebuilt.partition_point(|&(number, _)| number < chunk.number);
            self.rebuilt.insert(place, (chunk.number, bytes));
        }
        inserted
    }

    /// Lets go of what parity gave of a frame: it was delivered.
    fn release(&mut self, at: usize) {
        let frame = &mut self.frames[at];
        let from = self.rebuilt.partition_point(|&(number, _)| number < frame.first);
        let (first, end) = (frame.first, frame.end());
        let Some(chunks) = frame.chunks.all_mut() else { return };
        for &(number, bytes) in self.rebuilt[from..].iter().take_while(|&&(number, _)| number < end) {
            chunks[(number - first) as usize] = Some(Bytes::new());
            self.bytes -= bytes as usize;
        }
    }

    /// Whether a frame that is not known goes between its neighbours.
    fn fits(&self, at: usize, first: u64, chunk: &Chunk) -> bool {
        let end = first + u64::from(chunk.data) + u64::from(chunk.parity);
        let before = at.checked_sub(1).and_then(|at| self.frames.get(at));
        before.is_none_or(|frame| frame.end() <= first && frame.sequence < chunk.sequence)
            && self.frames.get(at).is_none_or(|frame| end <= frame.first && chunk.sequence < frame.sequence)
    }

    /// The chunks of the frame of `number`, if it lacks data but parity came: to be rebuilt.
    pub(super) fn rebuildable(&self, number: u64) -> Option<Rebuildable<'_>> {
        let frame = &self.frames[self.frame_of(number)?];
        let frame = frame.rebuildable().filter(|_| !frame.is_complete())?;
        frame.chunks.iter().skip(usize::from(frame.data)).any(Option::is_some).then_some(frame)
    }

    /// The chunks of the frame of `number`: what was rebuilt before can be again.
    pub(super) fn rebuildable_again(&self, number: u64) -> Option<Rebuildable<'_>> {
        self.frames[self.frame_of(number)?].rebuildable()
    }

    /// Whether the frame of `number` can do without it, if what is neither here nor `lost` comes; `None` if it can't, or if
    /// nothing is known of the frame.
    pub(super) fn is_spare(&self, number: u64, lost: impl Fn(u64) -> bool) -> Option<Spare> {
        let frame = &self.frames[self.frame_of(number)?];
        let chunks = frame.chunks.all()?;
        let (data, index) = (usize::from(frame.data), (number - frame.first) as usize);
        let parity = chunks.len() - data;
        if parity == 0 {
            return None;
        }
        let class = |index: usize| if index < data { index % parity } else { index - data };
        let together = |other: usize| frame.reed_solomon || class(other) == class(index);
        let lacks =
            |other: usize| other == index || chunks[other].is_none() && lost(frame.first + other as u64);
        let lost = (0..chunks.len()).filter(|&other| together(other) && lacks(other)).count();
        let spare = if frame.reed_solomon { parity } else { 1 };
        let kind = if index < data { Spare::Data } else { Spare::Parity };
        (lost <= spare).then_some(kind)
    }

    /// Data chunks of known, unsettled frames in `range` that are not here.
    pub(super) fn holes(&self, range: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let from = self.frames.partition_point(|frame| frame.end() <= range.start);
        let frames = self.frames.range(from..).take_while(move |frame| frame.first < range.end);
        frames.filter(|frame| !frame.settled && !frame.is_complete()).flat_map(|frame| {
            let data =
                frame.chunks.all().unwrap_or_default().iter().take(usize::from(frame.data)).enumerate();
            data.filter(|(_, chunk)| chunk.is_none()).map(|(index, _)| frame.first + index as u64)
        })
    }

    /// The next frame for the application, if there is one. In order: only the one after the last. Otherwise any that
    /// is complete. The first is always a keyframe.
    pub(super) fn next_ready(&mut self, in_order: bool) -> Option<Ready> {
        let keyframes_only = self.keyframes_only;
        let at = match self.cursor {
            None => self
                .frames
                .iter()
                .position(|frame| frame.keyframe && frame.is_complete() && !frame.settled)?,
            Some(cursor) if in_order && !keyframes_only => {
                let at = self.first_open(cursor);
                let frame = self.frames.get(at)?;
                if frame.sequence != cursor || !frame.is_complete() {
                    return None;
                }
                at
            }
            Some(cursor) => {
                let from = self.first_open(cursor);
                let wanted = |frame: &Frame| !frame.settled && (frame.keyframe || !keyframes_only);
                let mut open = self.frames.range(from..);
                from + open.position(|frame| wanted(frame) && frame.is_complete())?
            }
        };
        let frame = &mut self.frames[at];
        frame.settled = true;
        let ready = Ready {
            first: frame.first,
            is_first: self.cursor.is_none(),
            sequence: frame.sequence,
            keyframe: frame.keyframe,
            captured_ms: frame.captured_ms,
            deadline_ms: frame.deadline_ms,
            chunks: frame.data_chunks().cloned().collect(),
        };
        self.release(at);
        let skips = self.cursor.is_none() || keyframes_only;
        if skips {
            // What is older is of no use to this application, only to others.
            self.cursor = Some(ready.sequence + 1);
        }
        self.advance();
        Some(ready)
    }

    /// The application gets nothing more of this track, until a new keyframe.
    pub(super) fn stop_delivery(&mut self) {
        self.cursor = None;
        for frame in &mut self.frames {
            frame.settled = true;
        }
    }

    /// The application has these frames already: it published them.
    pub(super) fn skip_delivery(&mut self) {
        if let Some(frame) = self.frames.back_mut() {
            frame.settled = true;
        }
    }

    /// When [`Self::expire`] has something to do, in stream time. A frame of which nothing came has the time of the next
    /// one that is known, delivered or not.
    pub(super) fn next_use_by_ms(&self) -> Option<u64> {
        let from = self.first_open(self.cursor?);
        self.frames.get(from).map(|frame| frame.use_by_ms().max(self.grace_ms))
    }

    /// Gives up frames whose time has passed; tells which, as ranges of sequences.
    pub(super) fn expire(&mut self, now_ms: u64, lagged: &mut Vec<Range<u64>>) {
        let Some(cursor) = self.cursor else { return };
        let mut next = cursor;
        for at in self.first_open(cursor)..self.frames.len() {
            let frame = &mut self.frames[at];
            if frame.use_by_ms().max(self.grace_ms) > now_ms {
                break;
            }
            let sequence = frame.sequence;
            if frame.is_complete() && !frame.settled && !self.keyframes_only {
                // It only waited for frames of which nothing came.
                push_range(lagged, next..sequence);
                next = sequence;
                break;
            }
            let was_settled = core::mem::replace(&mut frame.settled, true);
            if !self.keyframes_only {
                // Frames of which nothing ever came lie between.
                let end = if was_settled { sequence } else { sequence + 1 };
                push_range(lagged, next..end);
            } else if frame.keyframe && !was_settled {
                push_range(lagged, sequence..sequence + 1);
            }
            next = sequence + 1;
        }
        self.cursor = Some(next);
        self.advance();
    }

    /// Lets go of what nobody needs any more: what is older than both the newest group and `keep_from_ms`, and what does
    /// not fit.
    pub(super) fn trim(&mut self, keep_from_ms: u64) {
        let whole = self.frames.iter().rev().find(|frame| frame.keyframe && frame.is_complete());
        let group = whole.map_or(self.floor, |frame| frame.first);
        while let Some(frame) = self.frames.front() {
            let old = frame.end() <= group && u64::from(frame.captured_ms) < keep_from_ms;
            let full = self.bytes > self.bytes_max || self.frames.len() > FRAMES_MAX;
            if !old && !full {
                break;
            }
            self.bytes -= frame.chunks.bytes();
            self.floor = frame.end();
            self.frames.pop_front();
        }
        if self.frames.capacity() > self.frames.len() + 2 * FRAMES_STEP {
            self.frames.shrink_to(self.frames.len() + FRAMES_STEP);
        }
        if self.rebuilt.first().is_some_and(|&(number, _)| number < self.floor) {
            self.rebuilt.retain(|&(number, _)| number >= self.floor);
        }
    }

    /// Of frames captured before `whole_from_ms` that are done with here, keeps those chunks only that others get from this
    /// node; of keyframes all.
    pub(super) fn thin(&mut self, whole_from_ms: u64, keeps: impl Fn(u64) -> bool) {
        let Some(cursor) = self.cursor else { return };
        for at in self.place(|frame| frame.end() <= self.thinned)..self.frames.len() {
            let frame = &mut self.frames[at];
            let is_done = frame.settled || frame.sequence < cursor;
            if !is_done || u64::from(frame.captured_ms) >= whole_from_ms {
                break;
            }
            self.thinned = frame.end();
            // What is missing may still come, what was rebuilt needs the others, and whoever comes begins with a keyframe.
            let is_plain = frame.missing == 0 && !frame.keyframe;
            let chunks = frame.chunks.all().filter(|_| is_plain).unwrap_or_default();
            let here = chunks.iter().enumerate().filter_map(|(index, chunk)| Some((index, chunk.as_ref()?)));
            let kept: Vec<_> = here.filter(|&(index, _)| keeps(frame.first + index as u64)).collect();
            if chunks.is_empty() || kept.iter().any(|(_, chunk)| chunk.is_empty()) {
                continue;
            }
            let kept = kept.into_iter().map(|(index, chunk)| (index as u8, chunk.clone())).collect();
            let kept = Chunks::Few(kept, chunks.len() as u8);
            self.bytes -= frame.chunks.bytes() - kept.bytes();
            frame.chunks = kept;
        }
    }

    fn frame_of(&self, number: u64) -> Option<usize> {
        let at = self.place(|frame| frame.end() <= number);
        self.frames.get(at).filter(|frame| frame.first <= number).map(|_| at)
    }

    /// Where the frames begin that may still be open.
    fn first_open(&self, cursor: u64) -> usize {
        self.place(|frame| frame.sequence < cursor)
    }

    /// The first frame that does not lie before. What is asked for is mostly new, so the search begins at the end.
    fn place(&self, before: impl Fn(&Frame) -> bool) -> usize {
        let newest = self.frames.len().saturating_sub(NEWEST);
        for at in (newest..self.frames.len()).rev() {
            if before(&self.frames[at]) {
                return at + 1;
            }
        }
        let (mut low, mut high) = (0, newest);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&self.frames[middle]) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Moves the cursor over what is settled.
    fn advance(&mut self) {
        let Some(mut cursor) = self.cursor else { return };
        for frame in self.frames.range(self.first_open(cursor)..) {
            if frame.sequence != cursor || !frame.settled {
                break;
            }
            cursor += 1;
        }
        self.cursor = Some(cursor);
    }
}

fn push_range(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// A frame that parity may complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rebuildable<'a> {
    pub(super) first: u64,
    pub(super) data: u8,
    pub(super) reed_solomon: bool,
    /// Encoded, data first. Those that were rebuilt before may be empty.
    pub(super) chunks: &'a [Option<Bytes>],
}

/// A chunk that can be passed on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held<'a> {
    Here(&'a Bytes),
    /// It is not kept: the others of its frame give it.
    Rebuildable {
        bytes: u32,
    },
}

impl<'a> Held<'a> {
    pub(super) fn here(self) -> Option<&'a Bytes> {
        match self {
            Self::Here(chunk) => Some(chunk),
            Self::Rebuildable { .. } => None,
        }
    }

    /// How long it is.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Here(chunk) => chunk.len() as u64,
            Self::Rebuildable { bytes } => bytes.into(),
        }
    }
}

impl Frame {
    fn new(first: u64, chunk: &Chunk, deadline_ms: u32) -> Self {
        Self {
            first,
            sequence: chunk.sequence,
            captured_ms: chunk.captured_ms,
            deadline_ms: chunk.deadline_ms.unwrap_or(deadline_ms),
            data: chunk.data,
            missing: chunk.data,
            keyframe: chunk.keyframe,
            reed_solomon: chunk.reed_solomon,
            settled: false,
            chunks: Chunks::All(
                vec![None; usize::from(chunk.data) + usize::from(chunk.parity)].into_boxed_slice(),
            ),
        }
    }

    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// Whether the chunk has come, or is not needed any more.
    fn has(&self, number: u64) -> bool {
        self.chunks.all().is_none_or(|chunks| chunks[(number - self.first) as usize].is_some())
    }

    fn slot(&self, number: u64) -> Option<&Bytes> {
        let index = (number - self.first) as usize;
        match &self.chunks {
            Chunks::All(chunks) => chunks[index].as_ref(),
            Chunks::Few(kept, _) => {
                kept.iter().find(|&&(kept, _)| usize::from(kept) == index).map(|(_, chunk)| chunk)
            }
        }
    }

    /// What came of its data.
    fn data_chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.all().unwrap_or_default().iter().take(usize::from(self.data)).flatten()
    }

    fn rebuildable(&self) -> Option<Rebuildable<'_>> {
        let (first, data, reed_solomon) = (self.first, self.data, self.reed_solomon);
        self.chunks.all().map(|chunks| Rebuildable { first, data, reed_solomon, chunks })
    }

    fn is_complete(&self) -> bool {
        self.missing == 0
    }

    fn use_by_ms(&self) -> u64 {
        u64::from(self.captured_ms) + u64::from(self.deadline_ms)
    }

    fn agrees(&self, chunk: &Chunk) -> bool {
        self.sequence == chunk.sequence
            && self.captured_ms == chunk.captured_ms
            && self.data == chunk.data
            && self.chunks.len() == usize::from(chunk.data) + usize::from(chunk.parity)
            && self.keyframe == chunk.keyframe
    }
}

impl Chunks {
    /// All of them, unless only few are kept.
    fn all(&self) -> Option<&[Option<Bytes>]> {
        match self {
            Self::All(chunks) => Some(chunks),
            Self::Few(..) => None,
        }
    }

    fn all_mut(&mut self) -> Option<&mut [Option<Bytes>]> {
        match self {
            Self::All(chunks) => Some(chunks),
            Self::Few(..) => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::All(chunks) => chunks.len(),
            Self::Few(_, count) => usize::from(*count),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::All(chunks) => chunks.iter().flatten().map(Bytes::len).sum(),
            Self::Few(kept, _) => kept.iter().map(|(_, chunk)| chunk.len()).sum(),
        }
    }
}
