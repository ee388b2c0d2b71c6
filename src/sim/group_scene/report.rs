//! What a group showed.

use crate::sim::{DelayMs, UploadUse};

/// What a [`GroupScene`](crate::sim::GroupScene) showed.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupReport {
    /// The share of its upload that a participant used in the measured span.
    pub upload_use: UploadUse,
    /// What a participant received in the measured span.
    pub download_kbps: DownloadKbps,
    /// From the last command to join until everybody had the same roster with everybody in it.
    pub join_converged_s: f64,
    /// From the crash, or from the end of the partition, until all who were up had the same roster with just them in it; as
    /// `join_converged_s` if neither happened.
    pub roster_converged_s: f64,
    /// Pairs of participants that claimed the screen at the same time.
    pub screen_share_claims: u64,
    /// Such pairs after which, a second later, not everybody named the same one of them.
    pub screen_share_conflicts: u64,
    /// What became of messages.
    pub messages: GroupMessages,
    /// How media came; `None` if the scene has none.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub media: Option<MediaReport>,
    /// Heap for each participant at the end, everything included: bodies, frames under way, the simulator. 0 if the probe does
    /// not measure.
    pub heap_bytes_per_participant: u64,
    /// Suspicions of participants that were up and on the same side.
    pub false_suspicions: u64,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// A hash of everything that happened.
    #[cfg_attr(feature = "serde", serde(serialize_with = "hexadecimal"))]
    pub trace_hash: u64,
}

/// How media came.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MediaReport {
    /// From the publication of a frame to its delivery. Of frames published after the receiver had begun to receive the track;
    /// what was never delivered is not in it.
    pub delay_ms: MediaDelays,
    /// The share of those frames that was delivered. Frames under way when a track was closed count as missed.
    pub delivered: f64,
    /// How many there were.
    pub frames_expected: u64,
    /// The longest way of a frame.
    pub hops_max: u8,
    /// At the end: `mesh` if every speaker fed all others itself, else `relay`.
    pub mode: &'static str,
    /// At the end: how many passed on tracks of others.
    pub relays: u64,
    /// Stripes that a crashed participant fed, of participants that went on.
    pub failovers: u64,
    /// From the crash until somebody else fed them.
    pub failover_ms: FailoverMs,
}

/// Delays of the tracks.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MediaDelays {
    /// Sound.
    pub audio: DelayMs,
    /// Small pictures.
    pub thumbnail: DelayMs,
    /// Large pictures.
    pub video: DelayMs,
}

/// Failovers in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FailoverMs {
    /// The median.
    pub p50: f64,
    /// One in twenty took longer.
    pub p95: f64,
}

/// What participants received, in kbit/s.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DownloadKbps {
    /// The median over the participants.
    pub p50: f64,
    /// The most.
    pub max: f64,
}

/// What became of messages.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupMessages {
    /// The share of (message, receiver) pairs that were delivered; of receivers that were in when it was sent and up to the
    /// end.
    pub reliability: f64,
    /// Messages delivered again to the same receiver.
    pub duplicates: u64,
    /// Messages delivered after a later one of the same sender and kind.
    pub order_violations: u64,
    /// Messages to one that reached it over a link of its own.
    pub unicast_direct: u64,
    /// Through another participant.
    pub unicast_relayed: u64,
    /// After they had waited for it.
    pub unicast_stored: u64,
    /// Not in time.
    pub unicast_failed: u64,
}

#[cfg(feature = "serde")]
fn hexadecimal<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:016x}"))
}
