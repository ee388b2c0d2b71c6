//! Clocks, medians, heap and draws.

use std::time::Duration;

use cpu_time::ThreadTime;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap in use, in bytes.
pub fn heap_bytes() -> u64 {
    HEAP.current_usage() as u64
}

/// The most heap in use since [`restart_peak`], in bytes.
pub fn heap_bytes_peak() -> u64 {
    HEAP.peak_usage() as u64
}

/// Forgets the peak.
pub fn restart_peak() {
    HEAP.reset_peak_usage();
}

/// How long `work` takes of a processor, so that whatever else runs on the machine is not counted. What it returns is
/// dropped after the clock is read.
pub fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = ThreadTime::now();
    let kept = std::hint::black_box(work());
    let elapsed = begin.elapsed();
    drop(kept);
    elapsed
}

/// The medians of two measurements that take turns, and take turns in going first.
pub fn interleaved(
    repetitions: usize,
    mut ours: impl FnMut() -> f64,
    mut theirs: impl FnMut() -> f64,
) -> (f64, f64) {
    let mut found = (Vec::new(), Vec::new());
    for repetition in 0..repetitions {
        if repetition % 2 == 0 {
            found.0.push(ours());
            found.1.push(theirs());
        } else {
            found.1.push(theirs());
            found.0.push(ours());
        }
    }
    (median(found.0), median(found.1))
}

/// The middle one; the mean of the two middle ones.
pub fn median(mut found: Vec<f64>) -> f64 {
    found.sort_by(f64::total_cmp);
    let middle = found.len() / 2;
    if found.len() % 2 == 1 { found[middle] } else { (found[middle - 1] + found[middle]) / 2.0 }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): both sides get the same draws, in every run.
pub struct Draws(pub u64);

impl Draws {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * end as u128) >> 64) as usize
    }
}
