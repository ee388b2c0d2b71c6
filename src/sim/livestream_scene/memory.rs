//! What is remembered of each viewer: little.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// Chunks that a viewer must have got for a percentile of its own.
const OWN_PERCENTILE_CHUNKS: u64 = 100;

/// Which of the newest numbers were seen: a ring of bits. What fell out of it counts as seen.
#[derive(Debug)]
pub(super) struct Seen {
    bits: Box<[u64]>,
    next: u64,
}

impl Seen {
    /// Tells at least so many numbers apart.
    pub(super) fn new(window: usize) -> Self {
        Self { bits: vec![0; window.div_ceil(64).max(1)].into(), next: 0 }
    }

    /// Notes a number, and tells whether it is new.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let window = self.bits.len() as u64 * 64;
        if number + window < self.next {
            return false;
        }
        for passed in self.next.max((number + 1).saturating_sub(window))..=number {
            let (word, bit) = self.place(passed);
            self.bits[word] &= !bit;
        }
        self.next = self.next.max(number + 1);
        let (word, bit) = self.place(number);
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }

    fn place(&self, number: u64) -> (usize, u64) {
        ((number / 64) as usize % self.bits.len(), 1 << (number % 64))
    }
}

/// The delays of one viewer in 2 KiB: exact to 2 ms below half a second, to 16 ms up to 4.6 s.
#[derive(Debug, Default)]
pub(super) struct Delays {
    counts: Vec<u32>,
    count: u64,
    max_ms: u64,
}

impl Delays {
    const FINE: u64 = 256;
    const FINE_MS: u64 = 2;
    const COARSE_MS: u64 = 16;
    const BUCKETS: usize = 512;

    /// Notes a delay.
    pub(super) fn record(&mut self, ms: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; Self::BUCKETS];
        }
        let fine_end = Self::FINE * Self::FINE_MS;
        let bucket =
            if ms < fine_end { ms / Self::FINE_MS } else { Self::FINE + (ms - fine_end) / Self::COARSE_MS };
        self.counts[(bucket as usize).min(Self::BUCKETS - 1)] += 1;
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    /// The upper end of the bucket with the 99th percentile, if there are enough values.
    pub(super) fn p99_ms(&self) -> Option<u64> {
        let rank = (self.count * 99).div_ceil(100);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|&count| {
            seen += u64::from(count);
            seen >= rank
        })? as u64;
        let end = if bucket < Self::FINE {
            (bucket + 1) * Self::FINE_MS
        } else if bucket + 1 < Self::BUCKETS as u64 {
            Self::FINE * Self::FINE_MS + (bucket + 1 - Self::FINE) * Self::COARSE_MS
        } else {
            self.max_ms
        };
        (self.count >= OWN_PERCENTILE_CHUNKS).then_some(end.min(self.max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once_while_the_window_lasts() {
        let mut seen = Seen::new(128);
        assert!(seen.insert(5) && !seen.insert(5) && seen.insert(3));
        assert!(seen.insert(132), "5 is still inside");
        assert!(!seen.insert(5) && seen.insert(6));
        assert!(seen.insert(1_000_000) && !seen.insert(132), "what fell out counts as seen");
        assert!(seen.insert(999_900) && !seen.insert(999_900));
    }

    #[test]
    fn own_percentiles_are_those_of_sorted_delays() {
        let mut delays = Delays::default();
        for ms in 1..=99 {
            delays.record(ms);
        }
        assert_eq!(delays.p99_ms(), None, "too few");
        delays.record(9_000);
        assert_eq!(delays.p99_ms(), Some(100));
        for _ in 0..5 {
            delays.record(9_000);
        }
        assert_eq!(delays.p99_ms(), Some(9_000));
    }
}
