//! Entries under small, stable, reused indices.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::{Index, IndexMut};

/// A table whose indices stay valid until removal. The lowest free index is used first and the free tail is cut off,
/// so that the table shrinks again after a peak. It grows chunk by chunk: nothing is copied, nothing held in reserve.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    /// All but the last are full.
    chunks: Vec<Vec<Option<T>>>,
    /// Free indices. Those beyond the end were cut off; the table does not grow before they are thrown away.
    free: BinaryHeap<Reverse<u32>>,
    end: usize,
    len: usize,
}

const CHUNK: usize = 64;

const IN_USE: &str = "the map refers only to indices in use";

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), free: BinaryHeap::new(), end: 0, len: 0 }
    }

    /// One past the greatest index in use.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(Reverse(index)) = self.free.pop() {
            if (index as usize) < self.end {
                *self.entry(index) = Some(value);
                return index;
            }
            // The lowest was cut off, so all were.
            self.free = BinaryHeap::new();
        }
        if self.end % CHUNK == 0 {
            // The first chunk grows as it must, for small maps.
            self.chunks.push(if self.end == 0 { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        self.chunks[self.end / CHUNK].push(Some(value));
        self.end += 1;
        (self.end - 1) as u32
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        let value = self.entry(index).take().expect(IN_USE);
        self.len -= 1;
        if index as usize + 1 < self.end {
            self.free.push(Reverse(index));
        } else {
            self.cut_tail();
        }
        value
    }

    fn entry(&mut self, index: u32) -> &mut Option<T> {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn cut_tail(&mut self) {
        while let Some(chunk) = self.chunks.last_mut() {
            while let Some(None) = chunk.last() {
                chunk.pop();
                self.end -= 1;
            }
            if !chunk.is_empty() {
                break;
            }
            self.chunks.pop();
        }
        if self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        // Cut-off indices may be most of the heap; throwing them away costs no more than pushing them did.
        if self.free.len() > 2 * (self.end - self.len) {
            let end = self.end;
            self.free.retain(|&Reverse(index)| (index as usize) < end);
        }
        if self.free.len() < self.free.capacity() / 4 {
            self.free.shrink_to(self.free.len() * 2);
        }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.chunks[index as usize / CHUNK][index as usize % CHUNK].as_ref().expect(IN_USE)
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.entry(index).as_mut().expect(IN_USE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0usize..200), 1..400)) {
            let mut slab = Slab::new();
            let mut naive = BTreeMap::new();
            for (step, (insert, pick)) in steps.into_iter().enumerate() {
                if insert {
                    let index = slab.insert(step);
                    prop_assert_eq!(naive.insert(index, step), None, "index {} was in use", index);
                } else if let Some(&index) = naive.keys().nth(pick % naive.len().max(1)) {
                    prop_assert_eq!(Some(slab.remove(index)), naive.remove(&index));
                }
                prop_assert_eq!(slab.len, naive.len());
                prop_assert_eq!(slab.end(), naive.keys().last().map_or(0, |&last| last as usize + 1));
                prop_assert!(naive.iter().all(|(&index, value)| slab[index] == *value));
            }
        }
    }

    #[test]
    fn shrinks_after_a_peak() {
        let mut slab = Slab::new();
        let kept: Vec<_> = (0..10).map(|value| slab.insert(value)).collect();
        let peak: Vec<_> = (0..10_000).map(|value| slab.insert(value)).collect();
        for index in peak {
            slab.remove(index);
        }
        assert!(slab.chunks.capacity() <= 4 && slab.free.capacity() <= 4, "memory is kept after a peak");
        assert!(kept.iter().all(|&index| slab[index] < 10));
    }
}
