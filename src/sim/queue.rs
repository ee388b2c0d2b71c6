//! What happens when: a timing wheel, ordered by time and then by order of arrival.
//!
//! Most events lie within a second, so they go unsorted into buckets of 256 µs, 4,096 to a turn of the wheel. Only the
//! bucket that is due is sorted. Later turns wait in lists of their own. Lists are made of short runs of neighbouring
//! slots: in a large world most slots are far from any cache, and runs are written and read one after another. When a rush is
//! over, their memory is given back.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::time::Instant;

const BUCKET_BITS: u32 = 8;
const TURN_BITS: u32 = 12;
const BUCKETS: usize = 1 << TURN_BITS;
const RUN: usize = 16;
const NONE: u32 = u32::MAX;

/// Free slots that are kept beside as many as are in use.
const SPARE_MIN: usize = 1_024;

pub(super) struct Queue<T> {
    /// Runs of [`RUN`] slots; those that are bare have none.
    slots: Vec<Option<Box<[Slot<T>; RUN]>>>,
    /// For each run, the next one of its list, or the next free one.
    runs: Vec<u32>,
    free: u32,
    /// Free runs without slots.
    bare: Vec<u32>,
    /// Free runs with slots.
    spare: usize,
    len: usize,
    sequence: u64,
    /// The bucket that is due, counted from the beginning of time.
    cursor: u64,
    due: List,
    /// What was in it when it became due, the last first.
    order: Vec<Place>,
    /// What came since.
    late: BinaryHeap<Reverse<Place>>,
    /// The buckets of this turn.
    buckets: Vec<List>,
    /// One bit per bucket that holds something.
    filled: [u64; BUCKETS / 64],
    /// The later turns.
    later: BTreeMap<u64, List>,
}

struct Slot<T> {
    at: Instant,
    sequence: u64,
    item: Option<T>,
}

impl<T> Slot<T> {
    const VACANT: Self = Self { at: Instant::ZERO, sequence: 0, item: None };
}

/// When, in which order, and in which slot.
type Place = (Instant, u64, u32);

/// Slots in full runs, but for the first of them.
#[derive(Clone, Copy)]
struct List {
    run: u32,
    len: u32,
}

impl List {
    const EMPTY: Self = Self { run: NONE, len: 0 };
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            runs: Vec::new(),
            free: NONE,
            bare: Vec::new(),
            spare: 0,
            len: 0,
            sequence: 0,
            cursor: 0,
            due: List::EMPTY,
            order: Vec::new(),
            late: BinaryHeap::new(),
            buckets: vec![List::EMPTY; BUCKETS],
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
        self.place(Slot { at, sequence, item: Some(item) });
    }

    /// When the first item is due. Takes `&mut self` because the wheel may turn.
    pub(super) fn next_at(&mut self) -> Option<Instant> {
        self.turn();
        let (ordered, late) = (self.order.last(), self.late.peek().map(|Reverse(place)| place));
        ordered.into_iter().chain(late).map(|&(at, _, _)| at).min()
    }

    /// Takes the first item.
    pub(super) fn pop(&mut self) -> Option<(Instant, T)> {
        self.turn();
        let is_late = match (self.order.last(), self.late.peek()) {
            (Some(ordered), Some(Reverse(late))) => late < ordered,
            (ordered, _) => ordered.is_none(),
        };
        let (at, _, index) =
            if is_late { self.late.pop().map(|Reverse(place)| place)? } else { self.order.pop()? };
        self.len -= 1;
        self.run_mut(index / RUN as u32)[index as usize % RUN].item.take().map(|item| (at, item))
    }

    /// Moves the cursor until something is due.
    fn turn(&mut self) {
        while self.order.is_empty() && self.late.is_empty() && self.len > 0 {
            let done = core::mem::replace(&mut self.due, List::EMPTY);
            self.release(done);
            if let Some(bucket) = self.first_filled() {
                self.cursor = (self.cursor >> TURN_BITS << TURN_BITS) + bucket as u64;
                self.filled[bucket / 64] &= !(1 << (bucket % 64));
                self.due = core::mem::replace(&mut self.buckets[bucket], List::EMPTY);
                self.sort();
            } else if let Some((later, list)) = self.later.pop_first() {
                self.cursor = later << TURN_BITS;
                self.scatter(list);
            }
        }
    }

    /// Puts what is due in its order.
    fn sort(&mut self) {
        let (mut run, mut count) = (self.due.run, first_run(self.due.len));
        while run != NONE {
            if let Some(slots) = &self.slots[run as usize] {
                let slots = (run * RUN as u32..).zip(&slots[..count]);
                self.order.extend(slots.map(|(index, slot)| (slot.at, slot.sequence, index)));
            }
            (run, count) = (self.runs[run as usize], RUN);
        }
        self.order.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// Hands out a list of a later turn to its buckets.
    fn scatter(&mut self, list: List) {
        let (mut run, mut count) = (list.run, first_run(list.len));
        while run != NONE {
            for within in 0..count {
                let slot = &mut self.run_mut(run)[within];
                let slot = Slot { at: slot.at, sequence: slot.sequence, item: slot.item.take() };
                self.place(slot);
            }
            (run, count) = (self.runs[run as usize], RUN);
        }
        self.release(list);
    }

    fn place(&mut self, slot: Slot<T>) {
        let (at, sequence) = (slot.at, slot.sequence);
        let bucket = at.as_micros() >> BUCKET_BITS;
        if bucket <= self.cursor {
            let (list, index) = self.append(self.due, slot);
            self.due = list;
            self.late.push(Reverse((at, sequence, index)));
            return;
        }
        let turn = bucket >> TURN_BITS;
        if turn == self.cursor >> TURN_BITS {
            let bucket = bucket as usize % BUCKETS;
            self.filled[bucket / 64] |= 1 << (bucket % 64);
            self.buckets[bucket] = self.append(self.buckets[bucket], slot).0;
        } else {
            let list = self.later.get(&turn).copied().unwrap_or(List::EMPTY);
            let list = self.append(list, slot).0;
            self.later.insert(turn, list);
        }
    }

    /// The list with one slot more, and where that is.
    fn append(&mut self, mut list: List, slot: Slot<T>) -> (List, u32) {
        let within = list.len as usize % RUN;
        if within == 0 {
            let run = self.vacant_run();
            self.runs[run as usize] = core::mem::replace(&mut list.run, run);
        }
        list.len += 1;
        self.run_mut(list.run)[within] = slot;
        (list, list.run * RUN as u32 + within as u32)
    }

    fn run_mut(&mut self, run: u32) -> &mut [Slot<T>; RUN] {
        self.slots[run as usize].as_deref_mut().expect("a run in use has slots")
    }

    fn vacant_run(&mut self) -> u32 {
        if self.free != NONE {
            self.spare -= 1;
            let run = self.free;
            self.free = self.runs[run as usize];
            return run;
        }
        let slots = Some(Box::new([const { Slot::VACANT }; RUN]));
        if let Some(run) = self.bare.pop() {
            self.slots[run as usize] = slots;
            return run;
        }
        assert!(self.slots.len() < NONE as usize / RUN - 1, "the event queue is full");
        self.slots.push(slots);
        self.runs.push(NONE);
        (self.runs.len() - 1) as u32
    }

    fn release(&mut self, list: List) {
        let mut run = list.run;
        while run != NONE {
            let next = self.runs[run as usize];
            if self.spare * RUN <= self.len + SPARE_MIN {
                self.spare += 1;
                self.runs[run as usize] = core::mem::replace(&mut self.free, run);
            } else {
                self.slots[run as usize] = None;
                self.bare.push(run);
            }
            run = next;
        }
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

/// How many slots the first run of a list of that length has.
fn first_run(len: u32) -> usize {
    match len as usize % RUN {
        0 => RUN,
        rest => rest,
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
