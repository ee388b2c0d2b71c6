//! From counts to figures.

use alloc::vec::Vec;
use core::time::Duration;

use super::report::{JoinMs, OnTime, OutageMs, StripesBack};
use super::tally::Tally;
use crate::sim::DelayMs;
use crate::stats::Histogram;
use crate::time::Instant;

/// A viewer that has no keyframe after this time is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// What remains of a tally once it is out of the way.
pub(super) struct Figures {
    pub(super) delay_ms: DelayMs,
    pub(super) frame_delay_ms: DelayMs,
    pub(super) worst_viewer_p99_ms: f64,
    pub(super) on_time: OnTime,
    pub(super) layers_delivered: Vec<f64>,
    pub(super) hops_max: u64,
    pub(super) bytes_delivered: u64,
    pub(super) payload_copies: f64,
    pub(super) outage_ms: OutageMs,
    pub(super) stripes_back: Option<StripesBack>,
    pub(super) join_ms: JoinMs,
    pub(super) keyframe_requests: u64,
    pub(super) keyframe_requests_per_s_max: u64,
    pub(super) viewers_refused: u64,
    pub(super) viewers_without_keyframe: u64,
    pub(super) frames_refused: u64,
}

impl Figures {
    pub(super) fn of(tally: &Tally, now: Instant) -> Self {
        let pairs = tally.pairs();
        let [ms_300, ms_500, ms_1000, ms_2000] = tally.on_time().map(|on_time| ratio(on_time, pairs));
        let (outages, cut, back) = tally.outages();
        // A crash that cut nothing is over at once.
        let [s1, s2, s3, s5] = back.map(|back| if cut == 0 { 1.0 } else { ratio(back, cut) });
        let (attach, first_frame) = tally.joins_us(now);
        let millis = |micros: Option<u64>| micros.unwrap_or(0) as f64 / 1_000.0;
        let delays = |histogram: &Histogram| DelayMs {
            p50: millis(histogram.p50()),
            p99: millis(histogram.p99()),
            max: millis(histogram.max()),
        };
        Self {
            delay_ms: delays(&tally.chunk_delay_us),
            frame_delay_ms: delays(&tally.frame_delay_us),
            worst_viewer_p99_ms: tally.worst_viewer_p99_ms() as f64,
            on_time: OnTime { ms_300, ms_500, ms_1000, ms_2000 },
            layers_delivered: tally.delivered.iter().map(|&delivered| ratio(delivered, pairs)).collect(),
            hops_max: tally.hops_max,
            bytes_delivered: tally.bytes_delivered,
            payload_copies: ratio(tally.chunks_received, tally.chunks_distinct),
            outage_ms: OutageMs {
                p50: millis(outages.p50()),
                p95: millis(outages.p95()),
                max: millis(outages.max()),
                count: outages.count(),
            },
            stripes_back: Some(StripesBack { s1, s2, s3, s5 }),
            join_ms: JoinMs { attach_p95: millis(attach.p95()), first_frame_p95: millis(first_frame.p95()) },
            keyframe_requests: tally.keyframe_requests,
            keyframe_requests_per_s_max: tally.keyframe_requests_per_s_max(),
            viewers_refused: tally.viewers_refused,
            viewers_without_keyframe: tally.without_keyframe(PATIENCE),
            frames_refused: tally.frames_refused,
        }
    }
}

/// A share; nothing of nothing is nothing.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
