//! The bodies of one source.

use alloc::collections::VecDeque;

use smallvec::SmallVec;

use super::retention::Stored;

/// The bodies kept of one source, in the order of their sequences: appended at the end and dropped at the front almost
/// always. Most follow one another, so their sequences are kept by runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Bodies {
    stored: VecDeque<Stored>,
    runs: SmallVec<[Run; 1]>,
    /// How many have gone at the front, of all that places are counted from.
    gone: u64,
}

/// Bodies whose sequences follow one another, up to the next run or the end.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The sequence of the first.
    first: u64,
    /// The place of the first, counted from the beginning of time.
    place: u64,
}

impl Bodies {
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// All of them, with their sequences.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Stored)> {
        let mut runs = self.runs.iter().peekable();
        let mut run = Run { first: 0, place: self.gone };
        (self.gone..).zip(&self.stored).map(move |(place, stored)| {
            if let Some(next) = runs.next_if(|next| next.place <= place) {
                run = *next;
            }
            (run.first + (place - run.place), stored)
        })
    }

    pub(super) fn find(&self, sequence: u64) -> Option<&Stored> {
        let place = self.place(sequence)?;
        self.stored.get(place)
    }

    pub(super) fn find_mut(&mut self, sequence: u64) -> Option<&mut Stored> {
        let place = self.place(sequence)?;
        self.stored.get_mut(place)
    }

    /// Adds a body, in the place of another of the same sequence.
    pub(super) fn insert(&mut self, sequence: u64, stored: Stored) {
        if let Some(before) = self.find_mut(sequence) {
            *before = stored;
            return;
        }
        if self.stored.len() == self.stored.capacity() {
            // Many sources keep a few bodies each: doubling would waste more than it saves.
            self.stored.reserve_exact(self.stored.len() / 8 + 4);
        }
        let next = self.runs.partition_point(|run| run.first <= sequence);
        let place = self.start_of(next);
        for run in &mut self.runs[next..] {
            run.place += 1;
        }
        self.stored.insert((place - self.gone) as usize, stored);
        let follows = next > 0 && self.runs[next - 1].end(place) == sequence;
        let precedes = self.runs.get(next).is_some_and(|run| run.first.checked_sub(1) == Some(sequence));
        match (follows, precedes) {
            (true, true) => {
                self.runs.remove(next);
            }
            (true, false) => {}
            (false, true) => self.runs[next] = Run { first: sequence, place },
            (false, false) => self.insert_run(next, Run { first: sequence, place }),
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Stored> {
        let index = self.place(sequence)?;
        let place = self.gone + index as u64;
        let next = self.runs.partition_point(|run| run.first <= sequence);
        let (run, end) = (self.runs[next - 1], self.start_of(next));
        let removed = self.stored.remove(index);
        match (run.place == place, place + 1 == end) {
            (true, true) => {
                self.runs.remove(next - 1);
            }
            (true, false) => self.runs[next - 1].first += 1,
            (false, true) => {}
            (false, false) => self.insert_run(next, Run { first: sequence + 1, place: place + 1 }),
        }
        if index == 0 {
            // The others keep their places, but for the new first.
            self.gone += 1;
            if let Some(first) = self.runs.first_mut() {
                first.place = self.gone;
            }
        } else {
            let behind = self.runs.partition_point(|run| run.place <= place);
            for run in &mut self.runs[behind..] {
                run.place -= 1;
            }
        }
        let is_sparse = self.stored.capacity() > 64 && self.stored.len() * 4 < self.stored.capacity();
        if self.stored.is_empty() || is_sparse {
            self.stored.shrink_to(self.stored.len() * 2);
            self.runs.shrink_to_fit();
        }
        removed
    }

    /// Where the body of `sequence` is.
    fn place(&self, sequence: u64) -> Option<usize> {
        let next = self.runs.partition_point(|run| run.first <= sequence);
        let run = self.runs.get(next.checked_sub(1)?)?;
        let place = run.place.checked_add(sequence - run.first)?;
        (place < self.start_of(next)).then_some((place - self.gone) as usize)
    }

    /// The place of the first body of a run, or of the end.
    fn start_of(&self, run: usize) -> u64 {
        self.runs.get(run).map_or(self.gone + self.stored.len() as u64, |run| run.place)
    }

    fn insert_run(&mut self, at: usize, run: Run) {
        if self.runs.len() == self.runs.capacity() {
            self.runs.reserve_exact(self.runs.len() / 4 + 1);
        }
        self.runs.insert(at, run);
    }
}

impl Run {
    /// The sequence behind its last, if it ends before `place`.
    fn end(&self, place: u64) -> u64 {
        self.first.wrapping_add(place - self.place)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::time::Instant;
    use crate::wire::Data;

    fn stored(state: u64) -> Stored {
        let data = Data::sample(state, b"", Instant::ZERO);
        Stored::new(&data, data.born)
    }

    proptest! {
        #[test]
        fn they_are_a_map(
            start in prop_oneof![Just(0), Just(u64::MAX - 15), any::<u64>().prop_map(|start| start >> 1)],
            steps in prop::collection::vec((0u8..4, 0u64..16), 0..200),
        ) {
            let (mut bodies, mut model) = (Bodies::default(), BTreeMap::new());
            for (step, (kind, ahead)) in (0..).zip(steps) {
                let sequence = start + ahead;
                match kind {
                    0 | 1 => {
                        bodies.insert(sequence, stored(step));
                        model.insert(sequence, step);
                    }
                    2 => {
                        let removed = bodies.remove(sequence).map(|stored| stored.state().0);
                        prop_assert_eq!(removed, model.remove(&sequence));
                    }
                    _ => {
                        let first = model.pop_first();
                        let removed = first.and_then(|(first, _)| bodies.remove(first));
                        prop_assert_eq!(removed.map(|stored| stored.state().0), first.map(|(_, step)| step));
                    }
                }
                let listed: Vec<_> = bodies.iter().map(|(at, stored)| (at, stored.state().0)).collect();
                prop_assert_eq!(listed, model.iter().map(|(&at, &step)| (at, step)).collect::<Vec<_>>());
                prop_assert_eq!(bodies.is_empty(), model.is_empty());
                for ahead in 0..16 {
                    let at = start + ahead;
                    let found = bodies.find(at).map(|stored| stored.state().0);
                    prop_assert_eq!(found, model.get(&at).copied());
                    prop_assert_eq!(bodies.find_mut(at).is_some(), found.is_some());
                }
                let gaps = model.keys().zip(model.keys().skip(1)).filter(|&(one, next)| one + 1 < *next).count();
                prop_assert_eq!(bodies.runs.len(), if model.is_empty() { 0 } else { gaps + 1 });
            }
        }
    }
}
