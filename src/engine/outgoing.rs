//! What waits in the egress, and how it becomes a frame.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::id::SwarmTag;
use crate::time::Instant;
use crate::wire::{FrameWriter, Message, WirePeer, message_bytes_max};

/// Something that is to leave.
#[derive(Debug)]
pub(super) enum Outgoing<P: WirePeer> {
    /// A message of a swarm. Not in here, because most of what waits are frames of media, and they are small.
    Message(SwarmTag, Arc<Message<P>>),
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

/// The frame of a message that waits for others, too: at the same time they get the same one.
#[derive(Debug)]
pub(super) struct Packed<P: WirePeer> {
    message: Arc<Message<P>>,
    at: Instant,
    frame: Bytes,
}

/// Makes one frame of at most `bytes` of what leaves together; `None` of nothing. Takes all `items`.
pub(super) fn pack<P: WirePeer>(
    items: &mut Vec<Outgoing<P>>,
    bytes: usize,
    now: Instant,
    last: &mut Option<Packed<P>>,
) -> Option<Bytes> {
    if let [item] = items.as_mut_slice() {
        let frame = match item {
            Outgoing::Frame(frame) => core::mem::take(frame),
            Outgoing::Message(tag, message) => pack_one(*tag, message, bytes, now, last),
        };
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

fn pack_one<P: WirePeer>(
    tag: SwarmTag,
    message: &Arc<Message<P>>,
    bytes: usize,
    now: Instant,
    last: &mut Option<Packed<P>>,
) -> Bytes {
    if let Some(known) = last.as_ref().filter(|last| last.at == now && Arc::ptr_eq(&last.message, message)) {
        return known.frame.clone();
    }
    let mut writer = FrameWriter::new(bytes);
    writer.push(tag, message, now);
    let frame = writer.finish();
    if Arc::strong_count(message) > 1 {
        *last = Some(Packed { message: Arc::clone(message), at: now, frame: frame.clone() });
    }
    frame
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::time::Duration;

    use super::*;
    use crate::wire::{Data, FrameReader, GossipMessage};

    fn update(born: Instant) -> Arc<Message<u64>> {
        Arc::new(Message::Gossip(GossipMessage::Data(Data::sample(0, b"to everybody", born))))
    }

    #[test]
    fn what_goes_to_several_is_put_into_one_frame_but_never_into_an_older_one() {
        let (born, tag) = (Instant::from_secs(1), SwarmTag(7));
        let (message, mut last) = (update(born), None);
        let mut pack_at = |now, message: &Arc<Message<u64>>| {
            let mut items = vec![Outgoing::Message(tag, Arc::clone(message))];
            let frame = pack(&mut items, 100, now, &mut last).expect("there was something");
            assert!(items.is_empty());
            frame
        };
        let now = Instant::from_secs(2);
        let (first, second) = (pack_at(now, &message), pack_at(now, &message));
        assert_eq!(first.as_ptr(), second.as_ptr());
        let other = pack_at(now, &update(born));
        assert_eq!(other, first);
        assert_ne!(other.as_ptr(), first.as_ptr(), "an equal message that is not the same");
        let later = now + Duration::from_secs(3);
        let frame = pack_at(later, &message);
        let mut reader = FrameReader::new(&frame, later).expect("it is whole");
        let Some(Ok((Some(read), Message::Gossip(GossipMessage::Data(data))))) = reader.next::<u64>() else {
            panic!("an update was sent")
        };
        assert_eq!((read, later - data.born), (tag, Duration::from_secs(4)), "it has grown older");
    }
}
