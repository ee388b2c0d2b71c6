//! A queue with a limit, a drop rule and a counter.

use alloc::collections::VecDeque;

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
