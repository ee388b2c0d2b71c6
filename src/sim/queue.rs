//! What happens when: a timing wheel, ordered by time and then by order of arrival.
//!
//! Most events lie within a second, so they go unsorted into buckets of 256 µs, 4,096 to a turn of the wheel. Only the
//! bucket that is due is sorted, by a heap that fits the cache. Later turns wait in lists of their own.

use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::time::Instant;

const BUCKET_BITS: u32 = 8;
const TURN_BITS: u32 = 12;
const BUCKETS: usize = 1 << TURN_BITS;
const NONE: u32 = u32::MAX;

pub(super) struct Queue<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    len: usize,
    sequence: u64,
    /// The bucket that is due, counted from the beginning of time; everything in it is in `due`.
    cursor: u64,
    due: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    /// First slots of the buckets of this turn.
    buckets: Vec<u32>,
    /// One bit per bucket that holds something.
    filled: [u64; BUCKETS / 64],
    /// First slots of the later turns.
    later: BTreeMap<u64, u32>,
}

struct Slot<T> {
    at: Instant,
    sequence: u64,
    next: u32,
    item: Option<T>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            len: 0,
            sequence: 0,
            cursor: 0,
            due: BinaryHeap::new(),
            buckets: vec![NONE; BUCKETS],
            filled: [0; BUCKETS / 64],
            later: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds `item` for the time `at`, behind everything else of that time.
    pub(super) fn push(&mut self, at: Instant, item: T) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.len += 1;
        let slot = Slot { at, sequence, next: NONE, item: Some(item) };
        let index = if self.free == NONE {
            assert!(self.slots.len() < NONE as usize, "the event queue is full");
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let index = self.free;
            let place = &mut self.slots[index as usize];
            self.free = place.next;
            *place = slot;
            index
        };
        self.place(index);
    }

    /// When the first item is due. Takes `&mut self` because the wheel may turn.
    pub(super) fn next_at(&mut self) -> Option<Instant> {
        self.turn();
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the first item.
    pub(super) fn pop(&mut self) -> Option<(Instant, T)> {
        self.turn();
        let Reverse((at, _, index)) = self.due.pop()?;
        let slot = &mut self.slots[index as usize];
        let item = slot.item.take();
        slot.next = self.free;
        self.free = index;
        self.len -= 1;
        item.map(|item| (at, item))
    }

    /// Moves the cursor until something is due.
    fn turn(&mut self) {
        while self.due.is_empty() && self.len > 0 {
            let turn = self.cursor >> TURN_BITS;
            if let Some(bucket) = self.first_filled() {
                self.cursor = (turn << TURN_BITS) + bucket as u64;
                self.filled[bucket / 64] &= !(1 << (bucket % 64));
                let head = core::mem::replace(&mut self.buckets[bucket], NONE);
                self.scatter(head);
            } else if let Some((later, head)) = self.later.pop_first() {
                self.cursor = later << TURN_BITS;
                self.scatter(head);
            }
        }
    }

    fn scatter(&mut self, head: u32) {
        let mut index = head;
        while index != NONE {
            let next = self.slots[index as usize].next;
            self.place(index);
            index = next;
        }
    }

    fn place(&mut self, index: u32) {
        let Slot { at, sequence, .. } = self.slots[index as usize];
        let bucket = at.as_micros() >> BUCKET_BITS;
        if bucket <= self.cursor {
            self.due.push(Reverse((at, sequence, index)));
            return;
        }
        let turn = bucket >> TURN_BITS;
        let head = if turn == self.cursor >> TURN_BITS {
            let bucket = bucket as usize % BUCKETS;
            self.filled[bucket / 64] |= 1 << (bucket % 64);
            &mut self.buckets[bucket]
        } else {
            self.later.entry(turn).or_insert(NONE)
        };
        self.slots[index as usize].next = core::mem::replace(head, index);
    }

    /// The first bucket of this turn that holds something. Those before the cursor are empty.
    fn first_filled(&self) -> Option<usize> {
        let from = self.cursor as usize % BUCKETS / 64;
        let words = self.filled.iter().enumerate().skip(from);
        words
            .filter(|&(_, &word)| word != 0)
            .map(|(at, word)| at * 64 + word.trailing_zeros() as usize)
            .next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(
            steps in prop::collection::vec((any::<bool>(), prop_oneof![0u64..1_000, 0u64..3_000_000, 0u64..1 << 40]), 1..200),
        ) {
            let mut queue = Queue::new();
            let mut naive = BTreeMap::new();
            let mut now = 0;
            for (number, (push, ahead)) in steps.into_iter().enumerate() {
                if push {
                    queue.push(Instant::from_micros(now + ahead), number);
                    naive.insert((now + ahead, number), number);
                } else {
                    prop_assert_eq!(queue.next_at().map(Instant::as_micros), naive.keys().next().map(|key| key.0));
                    let expected = naive.pop_first().map(|((at, _), item)| (Instant::from_micros(at), item));
                    let popped = queue.pop();
                    prop_assert_eq!(popped, expected);
                    now = popped.map_or(now, |(at, _)| at.as_micros());
                }
                prop_assert_eq!(queue.len(), naive.len());
            }
            while let Some(((at, _), item)) = naive.pop_first() {
                prop_assert_eq!(queue.pop(), Some((Instant::from_micros(at), item)));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }

    #[test]
    fn equal_times_keep_their_order_and_the_end_of_time_can_be_reached() {
        let mut queue = Queue::new();
        queue.push(Instant::MAX, 9);
        for item in 0..5 {
            queue.push(Instant::from_secs(100), item);
        }
        for item in 0..5 {
            assert_eq!(queue.pop(), Some((Instant::from_secs(100), item)));
        }
        assert_eq!(queue.pop(), Some((Instant::MAX, 9)));
        assert_eq!(queue.next_at(), None);
    }
}
