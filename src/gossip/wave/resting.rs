//! Waves that rest a moment at a node.

use alloc::collections::VecDeque;

use crate::gossip::peers::Slots;
use crate::time::Instant;
use crate::wire::{Wave, WirePeer};

/// Waves that rest at once, at most; others are passed on without.
const RESTING_MAX: usize = 64;

/// Waves that are passed on soon, in the order of time, and to whom.
#[derive(Debug)]
pub(in crate::gossip) struct Resting<P> {
    waves: VecDeque<(Instant, Wave<P>, Slots)>,
}

impl<P> Default for Resting<P> {
    fn default() -> Self {
        Self { waves: VecDeque::new() }
    }
}

impl<P: WirePeer> Resting<P> {
    /// `slot` has a wave already.
    pub(super) fn note(&mut self, wave: &Wave<P>, slot: u8) {
        let name = (wave.shared, wave.number, wave.epoch, wave.origin);
        let same = |(_, other, _): &&mut (Instant, Wave<P>, Slots)| {
            (other.shared, other.number, other.epoch, other.origin) == name
        };
        if let Some((_, _, to)) = self.waves.iter_mut().find(same) {
            to.remove(slot);
        }
    }

    /// Puts a wave to rest until then; false if too many do.
    pub(super) fn push(&mut self, until: Instant, wave: Wave<P>, to: Slots) -> bool {
        let fits = self.waves.len() < RESTING_MAX;
        if fits {
            self.waves.push_back((until, wave, to));
        }
        fits
    }

    pub(super) fn take(&mut self, now: Instant) -> Option<(Wave<P>, Slots)> {
        self.waves.front().filter(|(at, ..)| *at <= now)?;
        let (_, wave, to) = self.waves.pop_front()?;
        if self.waves.is_empty() {
            // They come rarely.
            self.waves = VecDeque::new();
        }
        Some((wave, to))
    }

    pub(in crate::gossip) fn poll_timeout(&self) -> Option<Instant> {
        self.waves.front().map(|&(at, ..)| at)
    }
}
