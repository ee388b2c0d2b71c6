//! What a simulation cannot know.

use std::io::IsTerminal;

use cpu_time::ProcessTime;
use indicatif::{ProgressBar, ProgressStyle};
use suffuse::Instant;
use suffuse::sim::Probe;

use crate::HEAP;

/// Reads the clocks that the library must not, and draws the progress bar.
pub(crate) struct Meter {
    pub(crate) wall: suffuse::Clock,
    bar: Option<ProgressBar>,
}

impl Meter {
    pub(crate) fn new(may_draw: bool) -> Self {
        let bar = (may_draw && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} virtual seconds, {elapsed}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { wall: suffuse::Clock::new(), bar }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Probe for Meter {
    fn cpu_ns(&mut self) -> u64 {
        ProcessTime::now().as_duration().as_nanos() as u64
    }

    fn heap_bytes(&mut self) -> u64 {
        HEAP.current_usage() as u64
    }

    fn progress(&mut self, now: Instant, end: Instant) {
        if let Some(bar) = &self.bar {
            bar.set_length(end.as_micros() / 1_000_000);
            bar.set_position(now.as_micros() / 1_000_000);
        }
    }
}
