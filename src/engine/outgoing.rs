//! What waits in the egress, and how it becomes a frame.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::id::SwarmTag;
use crate::time::Instant;
use crate::wire::{FrameWriter, Message, WirePeer, message_bytes_max};

/// Something that is to leave.
#[derive(Debug)]
pub(super) enum Outgoing<P: WirePeer> {
    /// A message of a swarm. In a box, because most of what waits are frames of media, and they are small.
    Message(SwarmTag, Box<Message<P>>),
    /// A frame that is ready: a relay passes on what it received, without a copy.
    Frame(Bytes),
}

impl<P: WirePeer> Outgoing<P> {
    /// What it takes in a frame, at most.
    pub(super) fn bytes_max(&self) -> usize {
        match self {
            Self::Message(_, message) => message_bytes_max(message),
            // Without its version byte.
            Self::Frame(frame) => frame.len().saturating_sub(1),
        }
    }
}

/// Makes one frame of at most `bytes` of what leaves together; `None` of nothing. Takes all `items`.
pub(super) fn pack<P: WirePeer>(items: &mut Vec<Outgoing<P>>, bytes: usize, now: Instant) -> Option<Bytes> {
    if let [Outgoing::Frame(frame)] = items.as_mut_slice() {
        let frame = core::mem::take(frame);
        items.clear();
        return Some(frame);
    }
    let mut writer = FrameWriter::new(bytes);
    for item in items.drain(..) {
        match item {
            Outgoing::Message(tag, message) => writer.push(tag, &message, now),
            Outgoing::Frame(frame) => writer.push_frame(&frame),
        }
    }
    (!writer.is_empty()).then(|| writer.finish())
}
