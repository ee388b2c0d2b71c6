//! Peers that are known but no neighbours: the passive view, and the memory of lost ones.

use alloc::vec::Vec;
use core::time::Duration;

use crate::id::PeerId;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::ViewEntry;

/// The passive view: a bounded sample of the swarm, with ages (Cyclon; Voulgaris, Gavidia, van Steen 2005).
#[derive(Debug)]
pub(super) struct Passive<P> {
    peers: Vec<P>,
    /// Of each: rounds of shuffles since there was news. Apart from the names, because together they would take up to twice
    /// the room.
    ages: Vec<u8>,
    max: usize,
}

impl<P: PeerId> Passive<P> {
    pub(super) fn new(max: usize) -> Self {
        Self { peers: Vec::new(), ages: Vec::new(), max }
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = P> + '_ {
        self.peers.iter().copied()
    }

    /// Adds or renews a peer; the oldest entry makes room.
    pub(super) fn add(&mut self, peer: P, age: u8) {
        if let Some(place) = self.place(peer) {
            self.ages[place] = self.ages[place].min(age);
            return;
        }
        if self.len() >= self.max {
            let oldest = self.ages.iter().enumerate().max_by_key(|&(_, age)| age);
            if let Some((place, _)) = oldest {
                self.remove_at(place);
            }
        }
        if self.len() == self.peers.capacity() {
            let more = self.len() / 2 + 4;
            self.peers.reserve_exact(more);
            self.ages.reserve_exact(more);
        }
        self.peers.push(peer);
        self.ages.push(age);
    }

    pub(super) fn remove(&mut self, peer: P) {
        if let Some(place) = self.place(peer) {
            self.remove_at(place);
        }
    }

    fn place(&self, peer: P) -> Option<usize> {
        self.peers.iter().position(|&other| other == peer)
    }

    fn remove_at(&mut self, place: usize) {
        self.peers.swap_remove(place);
        self.ages.swap_remove(place);
    }

    /// One more round of shuffles without news.
    pub(super) fn grow_older(&mut self) {
        for age in &mut self.ages {
            *age = age.saturating_add(1);
        }
    }

    /// At most `count` entries at random.
    pub(super) fn sample(&self, count: usize, rng: &mut Rng) -> Vec<ViewEntry<P>> {
        let entries = self.peers.iter().zip(&self.ages);
        let mut entries: Vec<_> = entries.map(|(&peer, &age)| ViewEntry { peer, age }).collect();
        let count = count.min(entries.len());
        for place in 0..count {
            entries.swap(place, place + rng.below(self.len() - place));
        }
        entries.truncate(count);
        entries
    }

    pub(super) fn pick(&self, rng: &mut Rng, fits: impl Fn(P) -> bool) -> Option<P> {
        self.pick_young(u8::MAX, rng, fits)
    }

    /// A fitting peer of which there was news in the last `age_max` rounds.
    pub(super) fn pick_young(&self, age_max: u8, rng: &mut Rng, fits: impl Fn(P) -> bool) -> Option<P> {
        let young =
            self.peers.iter().zip(&self.ages).filter(|&(_, &age)| age <= age_max).map(|(&peer, _)| peer);
        let fitting: Vec<_> = young.filter(|&peer| fits(peer)).collect();
        rng.pick(&fitting).copied()
    }
}

/// Peers that were lost without a farewell: perhaps the network broke, not they.
#[derive(Debug)]
pub(super) struct Remembered<P> {
    lost: Vec<Lost<P>>,
    max: usize,
    interval: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Lost<P> {
    peer: P,
    next: Instant,
    failures: u8,
}

/// The interval doubles this often, to 16 times.
const BACKOFF_MAX: u8 = 4;

impl<P: PeerId> Remembered<P> {
    pub(super) fn new(max: usize, interval: Duration) -> Self {
        Self { lost: Vec::new(), max, interval }
    }

    /// Remembers a peer; the one that failed most often makes room.
    pub(super) fn add(&mut self, peer: P, now: Instant, rng: &mut Rng) {
        let next = now + self.interval_after(0, rng);
        if let Some(lost) = self.lost.iter_mut().find(|lost| lost.peer == peer) {
            *lost = Lost { peer, next, failures: 0 };
            return;
        }
        if self.max == 0 {
            return;
        }
        if self.lost.len() >= self.max {
            let worst =
                self.lost.iter().enumerate().max_by_key(|(place, lost)| (lost.failures, usize::MAX - place));
            if let Some((place, _)) = worst {
                self.lost.remove(place);
            }
        }
        self.lost.push(Lost { peer, next, failures: 0 });
    }

    pub(super) fn forget(&mut self, peer: P) {
        self.lost.retain(|lost| lost.peer != peer);
    }

    /// Many peers were lost at once: probe all of them soon.
    pub(super) fn hurry(&mut self, now: Instant, rng: &mut Rng) {
        for place in 0..self.lost.len() {
            let soon = now + self.interval_after(0, rng);
            let lost = &mut self.lost[place];
            lost.failures = 0;
            lost.next = lost.next.min(soon);
        }
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.lost.iter().map(|lost| lost.next).min()
    }

    /// The peer whose turn it is, if one's is.
    pub(super) fn due(&mut self, now: Instant, rng: &mut Rng) -> Option<P> {
        let place = self.lost.iter().position(|lost| lost.next <= now)?;
        let failures = (self.lost[place].failures + 1).min(BACKOFF_MAX);
        let next = now + self.interval_after(failures, rng);
        let lost = &mut self.lost[place];
        lost.failures = failures;
        lost.next = next;
        Some(lost.peer)
    }

    fn interval_after(&self, failures: u8, rng: &mut Rng) -> Duration {
        let micros = self.interval.as_micros() as u64 * (1 << failures);
        Duration::from_micros(rng.between(micros * 3 / 4, micros * 5 / 4 + 1))
    }
}
