//! The wake-ups of many peers in one heap.

use alloc::vec::Vec;

use crate::time::Instant;

const NOWHERE: u32 = u32::MAX;

/// At most one instant for each small number; a binary heap that knows where everybody is.
///
/// Unlike [`DeadlineIndex`](crate::DeadlineIndex) it allocates only when it grows: its keys are slots, so the places
/// fit a vector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    /// The earliest, to be looked at without touching the rest.
    first: Option<Instant>,
    heap: Vec<(Instant, u32)>,
    places: Vec<u32>,
}

impl Timers {
    /// The earliest instant.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.first
    }

    /// Whether `slot` has an instant.
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.places.get(slot as usize).is_some_and(|&place| place != NOWHERE)
    }

    /// Sets or moves the instant of `slot`.
    pub(crate) fn set(&mut self, slot: u32, at: Instant) {
        if self.contains(slot) {
            let place = self.places[slot as usize] as usize;
            if self.heap[place].0 != at {
                self.heap[place].0 = at;
                let place = self.rise(place);
                self.sink(place);
                self.note_first();
            }
            return;
        }
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, NOWHERE);
        }
        self.heap.push((at, slot));
        self.rise(self.heap.len() - 1);
        self.note_first();
    }

    /// Forgets the instant of `slot`.
    pub(crate) fn remove(&mut self, slot: u32) {
        if !self.contains(slot) {
            return;
        }
        let place = self.places[slot as usize] as usize;
        self.heap.swap_remove(place);
        self.places[slot as usize] = NOWHERE;
        if place < self.heap.len() {
            let place = self.rise(place);
            self.sink(place);
        }
        self.note_first();
        while self.places.last() == Some(&NOWHERE) {
            self.places.pop();
        }
        if self.heap.capacity() > 16 && self.heap.len() * 2 < self.heap.capacity() {
            self.heap.shrink_to(self.heap.len() * 3 / 2);
            self.places.shrink_to(self.places.len() * 3 / 2);
        }
    }

    /// Removes and returns the earliest slot whose instant is at or before `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        if self.first.is_none_or(|at| at > now) {
            return None;
        }
        let &(_, slot) = self.heap.first()?;
        self.remove(slot);
        Some(slot)
    }

    fn note_first(&mut self) {
        self.first = self.heap.first().map(|&(at, _)| at);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.heap.swap(place, (place - 1) / 2);
            self.places[self.heap[place].1 as usize] = place as u32;
            place = (place - 1) / 2;
        }
        self.places[self.heap[place].1 as usize] = place as u32;
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let Some(child) = (left..self.heap.len().min(left + 2)).min_by_key(|&child| self.heap[child])
            else {
                break;
            };
            if self.heap[place] <= self.heap[child] {
                break;
            }
            self.heap.swap(place, child);
            self.places[self.heap[place].1 as usize] = place as u32;
            place = child;
        }
        self.places[self.heap[place].1 as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_a_sorted_list(operations in prop::collection::vec((0u8..4, 0u32..12, 0u64..50), 0..200)) {
            let mut timers = Timers::default();
            let mut model = BTreeMap::new();
            for (operation, slot, micros) in operations {
                let at = Instant::from_micros(micros);
                match operation {
                    0 | 1 => {
                        timers.set(slot, at);
                        model.insert(slot, at);
                    }
                    2 => {
                        timers.remove(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        let due = model.iter().map(|(&slot, &at)| (at, slot)).min().filter(|&(due, _)| due <= at);
                        prop_assert_eq!(timers.pop_due(at), due.map(|(_, slot)| slot));
                        if let Some((_, slot)) = due {
                            model.remove(&slot);
                        }
                    }
                }
                prop_assert_eq!(timers.first(), model.values().min().copied());
                prop_assert_eq!(timers.contains(slot), model.contains_key(&slot));
            }
        }
    }
}
