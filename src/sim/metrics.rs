//! What crossed the virtual network, and what it cost.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::NodeId;
use crate::io::Class;
use crate::time::Instant;
use crate::wire::{FrameReader, GossipMessage, Message};

/// Frames and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Traffic {
    /// How many frames.
    pub frames: u64,
    /// Their bytes with the overhead of the layers below.
    pub wire_bytes: u64,
    /// The bytes of update bodies inside; zero unless [`World::meter_payload`](super::World::meter_payload) was asked
    /// to look for them.
    pub payload_bytes: u64,
}

impl Traffic {
    fn add(&mut self, wire_bytes: u64, payload_bytes: u64) {
        self.frames += 1;
        self.wire_bytes += wire_bytes;
        self.payload_bytes += payload_bytes;
    }

    /// What is neither body nor overhead of the layers below: headers and control, in bytes.
    pub fn protocol_bytes(&self, frame_overhead_bytes: u32) -> u64 {
        self.wire_bytes - self.payload_bytes - self.frames * u64::from(frame_overhead_bytes)
    }
}

/// Why a frame did not arrive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DropReason {
    /// The dice.
    Loss,
    /// Sender and receiver were in different groups of a partition.
    Partition,
    /// The queue in front of the sender's uplink was full. The frame took no bytes on the wire.
    UplinkFull,
    /// The receiver was not running, or never existed.
    Down,
    /// The sender crashed before the frame had left.
    Unsent,
    /// Reliable transport only: there was no connection, or it had broken.
    NotConnected,
    /// A [`Fault`](super::Fault) of the sender swallowed it.
    Fault,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Loss,
        Self::Partition,
        Self::UplinkFull,
        Self::Down,
        Self::Unsent,
        Self::NotConnected,
        Self::Fault,
    ];
}

/// Counters of a [`World`](super::World).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metrics {
    classes: [Traffic; Class::ALL.len()],
    drops: [u64; DropReason::ALL.len()],
    arrived: u64,
    duplicated: u64,
    retransmitted: Traffic,
    events: u64,
    node_wire_bytes: Vec<u64>,
    windows: Option<Vec<WindowMeter>>,
}

impl Metrics {
    /// What left the nodes in frames of `class`.
    pub fn class(&self, class: Class) -> Traffic {
        self.classes[class as usize]
    }

    /// What left the nodes. Every frame is here once, whether it arrived or not; retransmissions are not.
    pub fn total(&self) -> Traffic {
        self.classes.iter().fold(Traffic::default(), |sum, class| Traffic {
            frames: sum.frames + class.frames,
            wire_bytes: sum.wire_bytes + class.wire_bytes,
            payload_bytes: sum.payload_bytes + class.payload_bytes,
        })
    }

    /// Frames that did not arrive for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Frames handed to hosts, duplicates included.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Frames that the network doubled.
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// What a reliable transport had to send again. It takes time on the sender's uplink, and is in no other counter.
    pub fn retransmitted(&self) -> Traffic {
        self.retransmitted
    }

    /// Events that hosts gave to their applications.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes that `node` has put on the wire.
    pub fn node_wire_bytes(&self, node: NodeId) -> u64 {
        usize::try_from(node).ok().and_then(|index| self.node_wire_bytes.get(index)).copied().unwrap_or(0)
    }

    /// From now on notes for each node the most bytes that it emitted in any second: up to 16 bytes for each frame of
    /// the last second.
    pub fn watch_windows(&mut self) {
        if self.windows.is_none() {
            let meters = self.node_wire_bytes.iter().map(|_| WindowMeter::default()).collect();
            self.windows = Some(meters);
        }
    }

    /// The most bytes that `node` emitted in any second since [`Metrics::watch_windows`]: `None` before that.
    ///
    /// Counted when the host hands the frame out, before any queue of the simulated uplink: it shows how well the host
    /// itself keeps to a budget.
    pub fn busiest_second(&self, node: NodeId) -> Option<u64> {
        let windows = self.windows.as_ref()?;
        usize::try_from(node).ok().and_then(|index| windows.get(index)).map(WindowMeter::peak_bytes)
    }

    /// Sets everything to zero, to leave a warm-up out. Windows are watched on if they were.
    pub fn reset(&mut self) {
        let nodes = self.node_wire_bytes.len();
        let watched = self.windows.is_some();
        *self = Self { node_wire_bytes: alloc::vec![0; nodes], ..Self::default() };
        if watched {
            self.watch_windows();
        }
    }

    pub(super) fn add_node(&mut self) {
        self.node_wire_bytes.push(0);
        if let Some(windows) = &mut self.windows {
            windows.push(WindowMeter::default());
        }
    }

    pub(super) fn note_emitted(&mut self, node: usize, now: Instant, wire_bytes: u64) {
        if let Some(windows) = &mut self.windows {
            windows[node].record(now, wire_bytes);
        }
    }

    pub(super) fn note_sent(&mut self, node: usize, class: Class, wire_bytes: u64, payload_bytes: u64) {
        self.classes[class as usize].add(wire_bytes, payload_bytes);
        self.node_wire_bytes[node] += wire_bytes;
    }

    pub(super) fn note_retransmitted(&mut self, node: usize, wire_bytes: u64, payload_bytes: u64) {
        self.retransmitted.add(wire_bytes, payload_bytes);
        self.node_wire_bytes[node] += wire_bytes;
    }

    pub(super) fn note_dropped(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    pub(super) fn note_arrived(&mut self) {
        self.arrived += 1;
    }

    pub(super) fn note_duplicated(&mut self) {
        self.duplicated += 1;
    }

    pub(super) fn note_event(&mut self) {
        self.events += 1;
    }
}

/// The most that was sent in any window of a fixed length, exactly.
///
/// A window is half open: what was sent one window length ago or earlier is out of it.
///
/// ```
/// use std::time::Duration;
/// use suffuse::{Instant, sim::WindowMeter};
///
/// let mut meter = WindowMeter::new(Duration::from_secs(1));
/// meter.record(Instant::from_millis(0), 400);
/// meter.record(Instant::from_millis(999), 500);
/// meter.record(Instant::from_millis(1_000), 300);
/// assert_eq!(meter.peak_bytes(), 900);
/// assert_eq!(meter.bytes(), 800);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WindowMeter {
    window: Duration,
    recent: VecDeque<(Instant, u32)>,
    bytes: u64,
    peak_bytes: u64,
    peak_at: Instant,
}

impl WindowMeter {
    /// A meter for windows of that length.
    pub fn new(window: Duration) -> Self {
        Self { window, recent: VecDeque::new(), bytes: 0, peak_bytes: 0, peak_at: Instant::ZERO }
    }

    /// Notes that `bytes` were sent at `now`, which must not lie before the last call.
    pub fn record(&mut self, now: Instant, bytes: u64) {
        while let Some(&(at, old)) = self.recent.front() {
            if now - at < self.window {
                break;
            }
            self.bytes -= u64::from(old);
            self.recent.pop_front();
        }
        self.bytes += bytes;
        let mut left = bytes;
        if let Some((at, last)) = self.recent.back_mut() {
            if *at == now {
                let taken = left.min(u64::from(u32::MAX - *last));
                *last += taken as u32;
                left -= taken;
            }
        }
        while left > 0 {
            let part = left.min(u64::from(u32::MAX));
            self.recent.push_back((now, part as u32));
            left -= part;
        }
        if self.bytes > self.peak_bytes {
            self.peak_bytes = self.bytes;
            self.peak_at = now;
        }
    }

    /// Bytes in the window that ended with the last call of [`WindowMeter::record`].
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most bytes of any window so far.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// When the fullest window ended.
    pub fn peak_at(&self) -> Instant {
        self.peak_at
    }
}

impl Default for WindowMeter {
    /// A window of one second.
    fn default() -> Self {
        Self::new(Duration::from_secs(1))
    }
}

/// Version, kind, swarm and origin: a frame that has no more has no body.
const HEADERS_BYTES_MIN: usize = 1 + 1 + 4 + 8;

/// The bytes of update bodies, whole or in chunks, in a frame of this crate's wire format; for [`World::meter_payload`].
///
/// [`World::meter_payload`]: super::World::meter_payload
pub fn body_bytes(frame: &Bytes) -> u64 {
    if frame.len() <= HEADERS_BYTES_MIN {
        return 0;
    }
    let Ok(mut reader) = FrameReader::new(frame, Instant::ZERO) else { return 0 };
    let mut bytes = 0;
    while let Some(Ok((_, message))) = reader.next::<NodeId>() {
        match message {
            Message::Gossip(GossipMessage::Data(data)) => bytes += data.body.len() as u64,
            Message::Gossip(GossipMessage::Chunk(chunk)) => bytes += chunk.body.len() as u64,
            _ => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_are_exact(gaps in prop::collection::vec((0u64..700, 0u64..2_000), 1..80)) {
            let mut meter = WindowMeter::default();
            let mut sends = Vec::new();
            let (mut now, mut peak) = (0, 0);
            for (gap_ms, bytes) in gaps {
                now += gap_ms;
                sends.push((now, bytes));
                meter.record(Instant::from_millis(now), bytes);
                let within = sends.iter().filter(|&&(at, _)| now - at < 1_000);
                let naive: u64 = within.map(|&(_, bytes)| bytes).sum();
                prop_assert_eq!(meter.bytes(), naive);
                peak = peak.max(naive);
                prop_assert_eq!(meter.peak_bytes(), peak);
            }
        }
    }

    #[test]
    fn a_window_holds_more_than_four_gigabytes_at_one_instant() {
        let mut meter = WindowMeter::default();
        meter.record(Instant::ZERO, 5 << 32);
        meter.record(Instant::ZERO, 7);
        assert_eq!(meter.peak_bytes(), (5 << 32) + 7);
        meter.record(Instant::from_secs(1), 1);
        assert_eq!((meter.bytes(), meter.peak_at()), (1, Instant::ZERO));
    }
}
