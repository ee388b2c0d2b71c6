//! Losses by gaps: who sends what it has in the order in which it was asked for has lost what it left out.

use smallvec::SmallVec;

use super::large::common;
use crate::log::RangeSet;

/// Pieces that overtake another before it counts as lost: frames change places on their way now and then.
const OVERTAKES: u8 = 3;

/// Claims whose order is known, at most. Beyond it, older ones are as one.
const BATCHES_MAX: usize = 4;

/// In which order a neighbour was asked for pieces that it holds.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The pieces of each claim that have not come, the oldest first. Each claim is served from its lowest number on.
    batches: SmallVec<[RangeSet; 0]>,
    /// Pieces that others have overtaken, and how many did.
    overtaken: RangeSet,
    overtakes: u8,
    /// Pieces found lost before: a second loss may mean that the way is full, and is left to the timers.
    found: RangeSet,
}

impl Order {
    /// These pieces are claimed now, perhaps again.
    pub(super) fn ask(&mut self, pieces: RangeSet) {
        if pieces.is_empty() {
            return;
        }
        self.batches.iter_mut().for_each(|batch| batch.subtract(&pieces));
        self.overtaken.subtract(&pieces);
        self.batches.retain(|batch| !batch.is_empty());
        if self.batches.len() >= BATCHES_MAX {
            let oldest = self.batches.remove(0);
            self.batches[0].union_with(&oldest);
        }
        self.batches.push(pieces);
    }

    /// A piece has come; `asked` are those that have not. Returns what is lost.
    pub(super) fn arrive(&mut self, number: u32, asked: &RangeSet) -> RangeSet {
        let number = u64::from(number);
        let Some(place) = self.batches.iter().position(|batch| batch.contains(number)) else {
            return RangeSet::new();
        };
        if self.overtaken.is_empty() {
            self.overtakes = 0;
            let mut before = self.batches[place].within(0..number);
            self.batches[..place].iter().for_each(|batch| before.union_with(batch));
            self.overtaken = common(&before, asked);
        } else {
            self.overtaken = common(&self.overtaken, asked);
        }
        self.batches[place].remove(number..number + 1);
        self.overtakes += u8::from(!self.overtaken.is_empty());
        if self.overtakes < OVERTAKES {
            return RangeSet::new();
        }
        self.overtakes = 0;
        let mut lost = core::mem::take(&mut self.overtaken);
        lost.subtract(&self.found);
        self.found.union_with(&lost);
        lost
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// What is found lost when these pieces come, after these claims.
    fn lost(claims: &[core::ops::Range<u64>], arrivals: &[u32]) -> Vec<u64> {
        let (mut order, mut asked) = (Order::default(), RangeSet::new());
        for claim in claims {
            asked.insert(claim.clone());
            order.ask(RangeSet::from(claim.clone()));
        }
        let mut lost = Vec::new();
        for &number in arrivals {
            asked.remove(u64::from(number)..u64::from(number) + 1);
            lost.extend(order.arrive(number, &asked).iter().flatten());
        }
        lost
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "one range is what was asked for")]
    fn what_three_others_have_overtaken_is_lost() {
        assert_eq!(lost(&[0..10], &[0, 1, 2, 4, 5]), Vec::<u64>::new());
        assert_eq!(lost(&[0..10], &[0, 1, 2, 4, 5, 6]), [3]);
        assert_eq!(lost(&[0..10], &[4, 5, 6]), [0, 1, 2, 3]);
        assert_eq!(lost(&[0..10], &[0, 2, 3, 1, 4, 5, 6, 7]), Vec::<u64>::new(), "it was only late");
        assert_eq!(lost(&[0..20], &[0, 2, 3, 5, 6, 7]), [1], "one gap after the other");
        assert_eq!(lost(&[0..20], &[0, 2, 3, 5, 6, 7, 8]), [1, 4]);
    }

    #[test]
    fn claims_are_served_in_their_order() {
        assert_eq!(lost(&[10..14, 0..4], &[10, 11, 12, 13, 0, 1, 2, 3]), Vec::<u64>::new());
        assert_eq!(lost(&[10..14, 0..4], &[10, 11, 13, 0, 1]), [12]);
        assert_eq!(
            lost(&[0..4, 4..8, 8..12, 12..16, 16..20, 20..24], &[20, 21, 22]),
            (0..20).collect::<Vec<_>>()
        );
    }

    #[test]
    fn nothing_is_found_lost_twice() {
        let (mut order, mut asked) = (Order::default(), RangeSet::from(0..20));
        order.ask(asked.clone());
        let mut found = Vec::new();
        for number in 1..20 {
            asked.remove(number..number + 1);
            let lost = order.arrive(number as u32, &asked);
            found.extend(lost.iter().flatten());
        }
        assert_eq!(found, [0]);
    }

    #[test]
    fn what_is_asked_for_again_comes_last() {
        let (mut order, mut asked) = (Order::default(), RangeSet::from(0..10));
        order.ask(asked.clone());
        let mut found = Vec::new();
        for number in [1, 2, 3, 4, 5, 6, 7] {
            asked.remove(number..number + 1);
            let lost = order.arrive(number as u32, &asked);
            order.ask(lost.clone());
            found.extend(lost.iter().flatten());
        }
        assert_eq!(found, [0], "those that were under way when it was asked for again say nothing");
        assert!(order.arrive(77, &asked).is_empty(), "nobody asked for it");
    }
}
