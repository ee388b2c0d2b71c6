//! When links and swarms are woken.

use alloc::vec::Vec;

use crate::id::SwarmTag;
use crate::propagation::Timers;
use crate::time::Instant;

/// The deadlines of links, by their places in the table, and of swarms, by places that they get here.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// A link's number is twice its place, a swarm's one more than twice its own.
    timers: Timers,
    swarms: Vec<Option<SwarmTag>>,
}

/// Whose deadline it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wake {
    Swarm(SwarmTag),
    Link(u32),
}

impl Wakes {
    /// Gives a swarm a place.
    pub(super) fn add_swarm(&mut self, tag: SwarmTag) -> u32 {
        if let Some(place) = self.swarms.iter().position(Option::is_none) {
            self.swarms[place] = Some(tag);
            return place as u32;
        }
        self.swarms.push(Some(tag));
        self.swarms.len() as u32 - 1
    }

    pub(super) fn remove_swarm(&mut self, place: u32) {
        self.set_swarm(place, None);
        if let Some(swarm) = self.swarms.get_mut(place as usize) {
            *swarm = None;
        }
    }

    pub(super) fn set_swarm(&mut self, place: u32, at: Option<Instant>) {
        self.set(place * 2 + 1, at);
    }

    pub(super) fn set_link(&mut self, place: u32, at: Option<Instant>) {
        self.set(place * 2, at);
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// Whose deadline has come, the earliest first. It has none then.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Wake> {
        loop {
            let number = self.timers.pop_due(now)?;
            if number % 2 == 0 {
                return Some(Wake::Link(number / 2));
            }
            if let Some(&Some(tag)) = self.swarms.get(number as usize / 2) {
                return Some(Wake::Swarm(tag));
            }
        }
    }

    fn set(&mut self, number: u32, at: Option<Instant>) {
        // The end of time never comes.
        match at.filter(|&at| at < Instant::MAX) {
            Some(at) => self.timers.set(number, at),
            None => self.timers.remove(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_swarms_are_woken_in_the_order_of_time() {
        let mut wakes = Wakes::default();
        let (one, two) = (wakes.add_swarm(SwarmTag(7)), wakes.add_swarm(SwarmTag(8)));
        let at = |second| Some(Instant::from_secs(second));
        wakes.set_link(one, at(2));
        wakes.set_swarm(one, at(3));
        wakes.set_swarm(two, at(1));
        wakes.set_link(9, Some(Instant::MAX));
        assert_eq!(wakes.next(), at(1));
        wakes.remove_swarm(two);
        assert_eq!(wakes.next(), at(2));
        let now = Instant::from_secs(9);
        assert_eq!(wakes.pop_due(now), Some(Wake::Link(one)));
        assert_eq!(wakes.pop_due(now), Some(Wake::Swarm(SwarmTag(7))));
        assert_eq!(wakes.pop_due(now), None);
        assert_eq!(wakes.add_swarm(SwarmTag(9)), two, "its place is free");
    }
}
