//! What waits for an observer: small marks and heaps of keys.

use alloc::vec::Vec;

use crate::interest::InterestLevel;

const STATE_BITS: u32 = 24;

/// A key: since when (milliseconds, 40 bits), then which state (24 bits). The least key has waited longest.
pub(super) const fn key(since_ms: u64, state: u32) -> u64 {
    let capped = if since_ms >> 40 == 0 { since_ms } else { (1 << 40) - 1 };
    capped << STATE_BITS | state as u64
}

pub(super) const fn since(key: u64) -> u64 {
    key >> STATE_BITS
}

pub(super) const fn state(key: u64) -> u32 {
    (key & ((1 << STATE_BITS) - 1)) as u32
}

/// One observer's relation to one state, in four bytes: the level, what it has, and where the state waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark(u32);

const LEVEL: u32 = 0b111;
const HAS_LATEST: u32 = 1 << 3;
const HAS_KEYFRAME: u32 = 1 << 4;
const PLACE_SHIFT: u32 = 5;
/// The place of a value that is in no queue but saved up for.
pub(super) const PARKED: Option<u32> = Some((1 << 27) - 2);

impl Mark {
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn level(self) -> InterestLevel {
        InterestLevel::from_u8((self.0 & LEVEL) as u8).unwrap_or_default()
    }

    pub(super) const fn set_level(&mut self, level: InterestLevel) {
        self.0 = self.0 & !LEVEL | level as u32;
    }

    pub(super) const fn has_latest(self) -> bool {
        self.0 & HAS_LATEST != 0
    }

    /// Whether it has the newest keyframe, or something newer.
    pub(super) const fn has_keyframe(self) -> bool {
        self.0 & HAS_KEYFRAME != 0
    }

    /// There is a newer value.
    pub(super) const fn forget(&mut self, keyframe: bool) {
        self.0 &= if keyframe { !(HAS_LATEST | HAS_KEYFRAME) } else { !HAS_LATEST };
    }

    /// It was sent the latest value, or a keyframe before it.
    pub(super) const fn obtain(&mut self, latest: bool) {
        self.0 |= if latest { HAS_LATEST | HAS_KEYFRAME } else { HAS_KEYFRAME };
    }

    pub(super) const fn is_pending(self) -> bool {
        self.0 >> PLACE_SHIFT != 0
    }

    pub(super) const fn place(self) -> Option<u32> {
        (self.0 >> PLACE_SHIFT).checked_sub(1)
    }

    pub(super) fn set_place(&mut self, place: Option<u32>) {
        let place = place.map_or(0, |place| place + 1);
        self.0 = self.0 & ((1 << PLACE_SHIFT) - 1) | place << PLACE_SHIFT;
    }
}

/// A binary heap of keys, the one that has waited longest first, which tells where each state is: `moved(state, place)`.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    keys: Vec<u64>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { keys: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.keys.iter().copied()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.keys.first().copied()
    }

    /// Adds a key that has waited no longer than any other, and returns its place: nobody moves.
    pub(super) fn push_newest(&mut self, key: u64) -> Option<u32> {
        self.grow();
        self.keys.push(key);
        Some(self.keys.len() as u32 - 1)
    }

    pub(super) fn insert(&mut self, key: u64, mut moved: impl FnMut(u32, u32)) {
        self.grow();
        self.keys.push(key);
        self.rise(self.keys.len() - 1, &mut moved);
    }

    pub(super) fn remove(&mut self, place: u32, mut moved: impl FnMut(u32, u32)) -> u64 {
        let place = place as usize;
        let key = self.keys.swap_remove(place);
        if place < self.keys.len() {
            let place = self.rise(place, &mut moved);
            self.sink(place, &mut moved);
        }
        if self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to(self.keys.capacity() / 2);
        }
        key
    }

    /// A quarter in reserve instead of as much again: most of a scheduler's memory is in these heaps.
    fn grow(&mut self) {
        if self.keys.len() == self.keys.capacity() {
            self.keys.reserve_exact(self.keys.len() / 4 + 16);
        }
    }

    fn rise(&mut self, mut place: usize, moved: &mut impl FnMut(u32, u32)) -> usize {
        let key = self.keys[place];
        while place > 0 && since(key) < since(self.keys[(place - 1) / 2]) {
            self.put(self.keys[(place - 1) / 2], place, moved);
            place = (place - 1) / 2;
        }
        self.put(key, place, moved);
        place
    }

    fn sink(&mut self, mut place: usize, moved: &mut impl FnMut(u32, u32)) {
        let key = self.keys[place];
        loop {
            let left = 2 * place + 1;
            let Some(child) =
                (left..self.keys.len().min(left + 2)).min_by_key(|&child| since(self.keys[child]))
            else {
                break;
            };
            if since(key) <= since(self.keys[child]) {
                break;
            }
            self.put(self.keys[child], place, moved);
            place = child;
        }
        self.put(key, place, moved);
    }

    fn put(&mut self, key: u64, place: usize, moved: &mut impl FnMut(u32, u32)) {
        self.keys[place] = key;
        moved(state(key), place as u32);
    }
}
