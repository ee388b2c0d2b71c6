//! A queue with a limit, a drop rule and a counter.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A first-in, first-out queue that holds at most `max` items. When it is full the *oldest* item makes room for the
/// new one, and is counted.
///
/// ```
/// let mut queue = suffuse::BoundedQueue::new(2);
/// assert_eq!(queue.push(1), None);
/// assert_eq!(queue.push(2), None);
/// assert_eq!(queue.push(3), Some(1));
/// assert_eq!((queue.pop(), queue.dropped()), (Some(2), 1));
/// ```
#[derive(Clone, Debug)]
pub struct BoundedQueue<T> {
    items: VecDeque<T>,
    max: usize,
    dropped: u64,
}

impl<T> BoundedQueue<T> {
    /// An empty queue for at most `max` items (at least one).
    pub fn new(max: usize) -> Self {
        Self { items: VecDeque::new(), max: max.max(1), dropped: 0 }
    }

    /// Appends `item`; returns the oldest one if it had to make room.
    pub fn push(&mut self, item: T) -> Option<T> {
        let oldest = if self.items.len() >= self.max {
            self.dropped += 1;
            self.items.pop_front()
        } else {
            None
        };
        if self.items.len() == self.items.capacity() {
            // Most queues hold next to nothing.
            self.items.reserve_exact(self.items.len() / 2 + 1);
        }
        self.items.push_back(item);
        oldest
    }

    /// Removes and returns the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Items held.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Items that made room since the queue was created.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Gives back the room of a list that is filled and emptied again and again, when the rush that needed it has passed.
/// Steady work does not allocate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rush {
    peak: u32,
    uses: u32,
}

/// So many uses tell what is usual.
const USES: u32 = 16;

/// Room for less is not worth giving back.
const KEPT: usize = 2;

impl Rush {
    /// `list` is empty now and held `count` items before.
    pub(crate) fn passed<T>(&mut self, list: &mut Vec<T>, count: usize) {
        self.peak = self.peak.max(u32::try_from(count).unwrap_or(u32::MAX));
        self.uses += 1;
        if self.uses >= USES {
            let usual = (self.peak as usize).max(KEPT);
            if list.capacity() > usual {
                list.shrink_to(usual);
            }
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_rush_is_given_back_and_that_of_every_day_kept() {
        let (mut list, mut rush) = (Vec::new(), Rush::default());
        let mut capacities = Vec::new();
        for use_ in 0..3 * USES as usize {
            let count = if use_ == 5 { 1_000 } else { use_ % 7 };
            list.extend(0..count);
            list.clear();
            rush.passed(&mut list, count);
            capacities.push(list.capacity());
        }
        let uses = USES as usize;
        assert!(capacities[5] >= 1_000 && capacities[uses - 2] >= 1_000);
        let later = &capacities[2 * uses..];
        assert!(later.iter().all(|&capacity| capacity == 6), "{later:?}");
    }
}
