//! When a source is hot, and sends waves.

use core::time::Duration;

use crate::time::Instant;

/// So many updates with no greater gap between two make a source hot.
const HOT_RUN: u64 = 3;
const HOT_GAP: Duration = Duration::from_secs(5);

/// One less is enough if the gap was no greater than this.
const QUICK_GAP: Duration = Duration::from_millis(500);

/// A hot source sends another wave after this many updates, and not before this time.
const WAVE_UPDATES: u64 = 64;
const WAVE_REST: Duration = Duration::from_secs(10);

/// When this node, as a source, sends its waves.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    published: Option<Instant>,
    /// Updates since the source became hot.
    run: u64,
    next_run: u64,
    waved: Option<Instant>,
}

impl Pulse {
    /// An update is published; true if a wave should go with it.
    pub(super) fn beat(&mut self, now: Instant) -> bool {
        if self.published.is_none_or(|at| now - at > HOT_GAP) {
            (self.run, self.next_run) = (0, HOT_RUN);
        }
        if self.run == 1 && self.published.is_some_and(|at| now - at <= QUICK_GAP) {
            self.next_run = HOT_RUN - 1;
        }
        self.published = Some(now);
        self.run += 1;
        let rested = self.run <= HOT_RUN || self.waved.is_none_or(|at| now - at >= WAVE_REST);
        let due = self.run >= self.next_run && rested;
        if due {
            self.next_run = self.run + WAVE_UPDATES;
            self.waved = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_source_is_hot_at_its_third_update_in_a_row_or_the_second_in_a_moment_and_waves_rarely() {
        let mut pulse = Pulse::default();
        let waves = |pulse: &mut Pulse, from_ms: u64, count: u64, gap_ms: u64| {
            let beats = (0..count).filter(|beat| pulse.beat(Instant::from_millis(from_ms + beat * gap_ms)));
            beats.collect::<Vec<_>>()
        };
        assert_eq!(waves(&mut pulse, 0, 5, 6_000), [0; 0]);
        assert_eq!(waves(&mut pulse, 100_000, 200, 100), [1, 101]);
        assert_eq!(waves(&mut pulse, 200_000, 200, 1_000), [2, 66, 130, 194]);
    }
}
