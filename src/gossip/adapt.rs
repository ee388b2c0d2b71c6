//! How many eager feeders a node keeps, by how many updates come late.

use core::time::Duration;

use crate::config::GossipConfig;
use crate::time::Instant;

/// Updates over which is judged.
const WINDOW: u32 = 64;

/// Between two steps; fewer updates than a window in many times that say nothing.
const STEP_INTERVAL: Duration = Duration::from_secs(2);

/// A step, in percent of a feeder.
const STEP_PERCENT: u16 = 50;

/// So many windows in a row without need bring a step down.
const CALM_WINDOWS: u8 = 3;

/// Raises the redundancy where more updates come late than may, and lowers it where none do any more: one step at a
/// time, and down only after some windows in a row.
#[derive(Debug)]
pub(super) struct Adapter {
    threshold_permille: Option<u16>,
    least_percent: u16,
    most_percent: u16,
    percent: u16,
    arrived: u32,
    late: u32,
    calm: u8,
    stepped: Instant,
}

impl Adapter {
    pub(super) fn new(config: &GossipConfig) -> Self {
        Self {
            threshold_permille: config.adaptive_threshold_permille,
            least_percent: config.redundancy_percent,
            most_percent: config.redundancy_max_percent,
            percent: config.redundancy_percent,
            arrived: 0,
            late: 0,
            calm: 0,
            stepped: Instant::ZERO,
        }
    }

    /// The redundancy now, in percent.
    pub(super) fn percent(&self) -> u16 {
        self.percent
    }

    /// A new update has come, pushed or late on request. Returns the redundancy if it changes.
    pub(super) fn note(&mut self, late: bool, now: Instant) -> Option<u16> {
        let on_time = self.threshold_permille?;
        self.arrived += 1;
        self.late += u32::from(late);
        if self.arrived < WINDOW || now - self.stepped < STEP_INTERVAL {
            return None;
        }
        let too_late = self.late * 1_000 > self.arrived * u32::from(1_000 - on_time);
        let none_late = self.late == 0;
        (self.arrived, self.late, self.stepped) = (0, 0, now);
        self.calm = if none_late { self.calm + 1 } else { 0 };
        let before = self.percent;
        if too_late {
            self.percent = (before + STEP_PERCENT).min(self.most_percent);
        } else if self.calm >= CALM_WINDOWS {
            self.calm = 0;
            self.percent = before.saturating_sub(STEP_PERCENT).max(self.least_percent);
        }
        (self.percent != before).then_some(self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter() -> Adapter {
        let config = GossipConfig { adaptive_threshold_permille: Some(990), ..GossipConfig::default() };
        Adapter::new(&config)
    }

    /// Feeds windows of which `late` updates are late, three seconds apart; returns the redundancy after each.
    fn play(adapter: &mut Adapter, start_s: u64, windows: &[u32]) -> alloc::vec::Vec<u16> {
        let window = |(number, &late): (usize, &u32)| {
            let now = Instant::from_secs(start_s + 3 * number as u64);
            for update in 0..WINDOW {
                adapter.note(update < late, now);
            }
            adapter.percent()
        };
        windows.iter().enumerate().map(window).collect()
    }

    #[test]
    fn late_updates_raise_it_step_by_step_to_the_maximum() {
        let mut adapter = adapter();
        assert_eq!(play(&mut adapter, 10, &[1, 2, 9, 64, 64]), [150, 200, 250, 300, 300]);
        assert_eq!(play(&mut adapter, 100, &[0, 0, 0, 0, 0, 0]), [300, 300, 250, 250, 250, 200]);
        assert_eq!(play(&mut adapter, 200, &[0, 0, 1, 0, 0, 0]), [200, 200, 250, 250, 250, 200]);
    }

    #[test]
    fn steps_are_at_least_two_seconds_apart_and_off_means_off() {
        let mut adapter = adapter();
        let now = Instant::from_secs(10);
        let steps = (0..1_000).filter(|_| adapter.note(true, now).is_some()).count();
        assert_eq!(steps, 1);
        let mut off = Adapter::new(&GossipConfig::default());
        assert!((0..1_000).all(|_| off.note(true, now).is_none()));
    }
}
