//! What a livestream showed.

use crate::sim::DelayMs;

/// What a [`LivestreamScene`](crate::sim::LivestreamScene) showed. Everything is about the measured span, unless it says
/// otherwise.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LivestreamReport {
    /// From the capture of a frame to the first arrival of each of its chunks at each viewer, for frames captured after
    /// the viewer had its first keyframe.
    pub delay_ms: DelayMs,
    /// From the capture of a frame of the lowest layer to its delivery, likewise.
    pub frame_delay_ms: DelayMs,
    /// The greatest, over the viewers that got at least 100 chunks, of a viewer's own 99th percentile of `delay_ms`.
    pub worst_viewer_p99_ms: f64,
    /// The share of (frame of the lowest layer, viewer) pairs that were complete in time.
    pub on_time: OnTime,
    /// The share of such pairs that were delivered at all, layer by layer.
    pub layers_delivered: alloc::vec::Vec<f64>,
    /// Bytes beyond the declared upload in the busiest second of each node, added up, over the whole run.
    pub upload_over_cap_bytes: u64,
    /// The share of its declared upload that a node used, for nodes present for a second or more.
    pub upload_use: UploadUse,
    /// The media rate as a share of the greatest that the uploads could carry.
    pub rate_over_fluid_bound: f64,
    /// Links from the source to a viewer, at most, as planned.
    pub depth_max: u64,
    /// Links that a delivered frame crossed, at most.
    pub hops_max: u64,
    /// Trees that share the stream.
    pub stripes: u64,
    /// Bytes on the wire, everything included, for each byte of media delivered.
    pub bytes_per_delivery: f64,
    /// Chunks received, parity included, for each distinct chunk of media.
    pub payload_copies: f64,
    /// The share of the received chunks that came on request.
    pub repair_share: f64,
    /// From the crash of a viewer's parent in a stripe to the next chunk of that stripe from another peer.
    pub outage_ms: OutageMs,
    /// The share of the stripes cut by the crash in the middle that flowed again in time, among surviving viewers; `None`
    /// without that crash.
    pub stripes_back: Option<StripesBack>,
    /// How long joining took: of viewers that came in the span if there are any, else of all.
    pub join_ms: JoinMs,
    /// Requests for a keyframe that reached the source's application, over the whole run.
    pub keyframe_requests: u64,
    /// The most such requests in one second.
    pub keyframe_requests_per_s_max: u64,
    /// Viewers moved by the plan for each viewer that left.
    pub plan_moves_per_leave: f64,
    /// Heap of a viewer's engine at the end, without the media it keeps; 0 if the probe does not measure.
    pub heap_bytes_per_viewer: u64,
    /// Media kept at the end by each viewer.
    pub media_bytes_per_viewer: u64,
    /// Heap of the plan at the end.
    pub heap_bytes_planner: u64,
    /// Viewers present at the end.
    pub viewers_end: u64,
    /// Viewers that were turned away for want of upload, over the whole run.
    pub viewers_refused: u64,
    /// Viewers present at the end, and for at least 5 s, that never got a keyframe.
    pub viewers_without_keyframe: u64,
    /// Frames that the source's engine did not take, over the whole run.
    pub frames_refused: u64,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// A hash of everything that happened.
    #[cfg_attr(feature = "serde", serde(serialize_with = "hexadecimal"))]
    pub trace_hash: u64,
}

/// Shares of (frame, viewer) pairs complete within so many milliseconds of the capture.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OnTime {
    /// Within 300 ms.
    #[cfg_attr(feature = "serde", serde(rename = "300"))]
    pub ms_300: f64,
    /// Within 500 ms.
    #[cfg_attr(feature = "serde", serde(rename = "500"))]
    pub ms_500: f64,
    /// Within a second.
    #[cfg_attr(feature = "serde", serde(rename = "1000"))]
    pub ms_1000: f64,
    /// Within two seconds.
    #[cfg_attr(feature = "serde", serde(rename = "2000"))]
    pub ms_2000: f64,
}

/// Shares of declared uploads.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct UploadUse {
    /// The mean over the nodes.
    pub mean: f64,
    /// The greatest.
    pub max: f64,
}

/// Percentiles of outages, in milliseconds; 0 if there were none.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OutageMs {
    /// The median.
    pub p50: f64,
    /// 95 of 100 are below.
    pub p95: f64,
    /// The greatest.
    pub max: f64,
    /// How many there were.
    pub count: u64,
}

/// Shares of stripes that flowed again so soon after a crash.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StripesBack {
    /// Within a second.
    #[cfg_attr(feature = "serde", serde(rename = "1s"))]
    pub s1: f64,
    /// Within two.
    #[cfg_attr(feature = "serde", serde(rename = "2s"))]
    pub s2: f64,
    /// Within three.
    #[cfg_attr(feature = "serde", serde(rename = "3s"))]
    pub s3: f64,
    /// Within five.
    #[cfg_attr(feature = "serde", serde(rename = "5s"))]
    pub s5: f64,
}

/// From the command to watch, in milliseconds. Who still waited at the end counts with that wait.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct JoinMs {
    /// To a place in every stripe, for 95 of 100 viewers.
    pub attach_p95: f64,
    /// To the first keyframe, for 95 of 100 viewers.
    pub first_frame_p95: f64,
}

#[cfg(feature = "serde")]
fn hexadecimal<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:016x}"))
}
