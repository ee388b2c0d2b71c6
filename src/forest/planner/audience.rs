//! How many viewers a stream has had.

use alloc::collections::{BTreeMap, VecDeque};

/// Who went is remembered until so many others have gone.
const DEPARTED_MAX: usize = 65_536;

/// Counts viewers, each once, however often it comes again.
#[derive(Debug)]
pub(super) struct Audience<P> {
    unique: u64,
    peak: u64,
    goings: u64,
    /// Who went, and the number of that going.
    departed: BTreeMap<P, u64>,
    /// The same by age. Who has come again, or went again, is passed over.
    order: VecDeque<(P, u64)>,
}

impl<P: Copy + Ord> Audience<P> {
    pub(super) fn new() -> Self {
        Self { unique: 0, peak: 0, goings: 0, departed: BTreeMap::new(), order: VecDeque::new() }
    }

    /// How many came, but for those who came again.
    pub(super) fn unique(&self) -> u64 {
        self.unique
    }

    /// The most at a time.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    /// Somebody has a place; with it, `now` viewers do.
    pub(super) fn came(&mut self, peer: P, now: usize) {
        self.unique += u64::from(self.departed.remove(&peer).is_none());
        self.peak = self.peak.max(now as u64);
    }

    /// Somebody has no place any more.
    pub(super) fn went(&mut self, peer: P) {
        self.goings += 1;
        self.departed.insert(peer, self.goings);
        self.order.push_back((peer, self.goings));
        if self.order.len() > DEPARTED_MAX {
            if let Some((oldest, going)) = self.order.pop_front() {
                if self.departed.get(&oldest) == Some(&going) {
                    self.departed.remove(&oldest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_is_counted_once_and_little_is_remembered() {
        let mut audience = Audience::new();
        for peer in 0..3u32 {
            audience.came(peer, peer as usize + 1);
        }
        for _ in 0..5 {
            audience.went(1);
            audience.came(1, 3);
        }
        assert_eq!((audience.unique(), audience.peak()), (3, 3));
        audience.went(2);
        for peer in 0..DEPARTED_MAX as u32 {
            audience.came(10 + peer, 3);
            audience.went(10 + peer);
        }
        assert_eq!((audience.departed.len(), audience.order.len()), (DEPARTED_MAX, DEPARTED_MAX));
        let before = audience.unique();
        audience.came(2, 3);
        assert_eq!(audience.unique(), before + 1, "it was forgotten meanwhile");
        audience.came(10, 3);
        assert_eq!(audience.unique(), before + 1, "the newest are known");
    }
}
