//! In which order bodies arrived.

use alloc::collections::VecDeque;

use super::store::SourceIndex;

/// Bodies in the order of their arrival, in runs: most sources' updates arrive one after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    runs: VecDeque<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    source: SourceIndex,
    count: u32,
    /// The sequence of the first.
    first: u64,
}

impl Arrivals {
    pub(super) fn push_back(&mut self, source: SourceIndex, sequence: u64) {
        if let Some(last) = self.runs.back_mut() {
            let follows = last.source == source && last.first + u64::from(last.count) == sequence;
            if follows && last.count < u32::MAX {
                last.count += 1;
                return;
            }
        }
        if self.runs.len() == self.runs.capacity() {
            self.runs.reserve_exact(self.runs.len() / 4 + 1);
        }
        self.runs.push_back(Run { source, count: 1, first: sequence });
    }

    pub(super) fn push_front(&mut self, source: SourceIndex, sequence: u64) {
        self.runs.push_front(Run { source, count: 1, first: sequence });
    }

    pub(super) fn front(&self) -> Option<(SourceIndex, u64)> {
        self.runs.front().map(|run| (run.source, run.first))
    }

    pub(super) fn pop_front(&mut self) -> Option<(SourceIndex, u64)> {
        let run = self.runs.front_mut()?;
        let front = (run.source, run.first);
        (run.first, run.count) = (run.first + 1, run.count - 1);
        if run.count == 0 {
            self.runs.pop_front();
            if self.runs.capacity() > 64 && self.runs.len() * 4 < self.runs.capacity() {
                self.runs.shrink_to(self.runs.len() * 2);
            }
        }
        Some(front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn what_arrived_first_goes_first_and_runs_share_an_entry() {
        let arrived = [(0, 5), (0, 6), (1, 7), (0, 7), (0, 8), (0, 10), (1, 8)];
        let mut arrivals = Arrivals::default();
        for (source, sequence) in arrived {
            arrivals.push_back(SourceIndex(source), sequence);
        }
        assert_eq!(arrivals.runs.len(), 5);
        let first = arrivals.pop_front().unwrap();
        assert_eq!(arrivals.front(), Some((SourceIndex(0), 6)));
        arrivals.push_front(first.0, first.1);
        let left: Vec<_> =
            core::iter::from_fn(|| arrivals.pop_front()).map(|(source, at)| (source.0, at)).collect();
        assert_eq!(left, arrived);
        assert_eq!(arrivals.front(), None);
    }
}
