//! How long bodies are kept, and what is kept of an update.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::id::{Epoch, Priority, StateId};
use crate::time::Instant;
use crate::wire::Data;

/// What a swarm keeps of its updates for late joiners and for repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Retention {
    /// Replicated state: of each origin and state the newest update, for as long as the swarm lives. An older update that
    /// arrives after a newer one is dropped, not delivered.
    Latest,
    /// Live media: of each origin and state everything since its newest keyframe; before the first keyframe of a state
    /// nothing of it is kept, so publish that first. What does not fit into `bytes` is
    /// not kept until the next keyframe; a keyframe always is.
    SinceKeyframe {
        /// Bytes of bodies kept, at most.
        bytes: usize,
    },
    /// Messages: everything younger than `age`, the newest `bytes` of it.
    Window {
        /// The greatest age.
        age: Duration,
        /// Bytes of bodies kept, at most.
        bytes: usize,
    },
}

impl Default for Retention {
    /// Two minutes and 4 MiB of messages.
    fn default() -> Self {
        Self::Window { age: Duration::from_secs(120), bytes: 4 << 20 }
    }
}

/// An update that is kept: everything but its source and its sequence.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// A short update in one piece: four bytes of head, when it was published, state, signature, body. It is a copy: a slice of
    /// the frame it came in would keep all of the host's buffer alive, and take as much room again beside it.
    Packed(Box<[u8]>),
    Whole(Box<Whole>),
}

#[derive(Clone, Debug)]
pub(super) struct Whole {
    head: Head,
    body: Bytes,
    signature: Bytes,
    /// Of a large update whose chunks are kept elsewhere: how long they are together.
    elsewhere_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    born: Instant,
    state: StateId,
    priority: Priority,
    keyframe: bool,
    layer: u8,
    hops: u8,
    flood: bool,
}

/// Longer bodies are not copied.
const PACKED_BODY_BYTES_MAX: usize = 4_096;

/// Of a packed record.
const HEAD_BYTES: usize = 4;

const PRIORITIES: [Priority; 4] = [Priority::Background, Priority::Normal, Priority::High, Priority::Urgent];

/// The bits of the first byte of a packed record: the priority, whether it is a keyframe, the layer.
const PRIORITY: u8 = 3;
const KEYFRAME: u8 = 4;
const LAYER_SHIFT: u8 = 3;

/// In the byte of the hops.
const FLOOD: u8 = 0x80;

/// The halves of the third byte of a packed record: how many bytes the time of publication takes, and how many the state.
const BORN_SHIFT: u8 = 4;
const STATE: u8 = 15;

impl Stored {
    pub(crate) fn new<P>(data: &Data<P>, born: Instant) -> Self {
        let head = Head {
            born,
            state: data.state,
            priority: data.priority,
            keyframe: data.keyframe,
            layer: data.layer,
            hops: data.hops.min(!FLOOD),
            flood: data.flood,
        };
        match pack(head, &data.signature, &data.body) {
            Some(packed) => Self::Packed(packed),
            None => Self::Whole(Box::new(Whole {
                head,
                body: data.body.clone(),
                signature: data.signature.clone(),
                elsewhere_bytes: 0,
            })),
        }
    }

    pub(crate) fn born(&self) -> Instant {
        self.head().born
    }

    pub(crate) fn state(&self) -> StateId {
        self.head().state
    }

    pub(crate) fn is_keyframe(&self) -> bool {
        self.head().keyframe
    }

    /// What counts against the limit of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Packed(packed) => unpack(packed).2.len(),
            Self::Whole(whole) => whole.body.len() + whole.elsewhere_bytes,
        }
    }

    /// The rest of the body is kept elsewhere, and so long. Returns how long it was said to be before.
    pub(crate) fn set_elsewhere_bytes(&mut self, bytes: usize) -> usize {
        match self {
            Self::Whole(whole) => core::mem::replace(&mut whole.elsewhere_bytes, bytes),
            Self::Packed(packed) => {
                let (head, signature, body) = unpack(packed);
                let (signature, body) = (Bytes::copy_from_slice(signature), Bytes::copy_from_slice(body));
                *self = Self::Whole(Box::new(Whole { head, body, signature, elsewhere_bytes: bytes }));
                0
            }
        }
    }

    /// The update, of this source and sequence.
    pub(crate) fn data<P>(&self, origin: P, epoch: Epoch, sequence: u64) -> Data<P> {
        let (head, signature, body) = match self {
            Self::Packed(packed) => {
                let (head, signature, body) = unpack(packed);
                (head, Bytes::copy_from_slice(signature), Bytes::copy_from_slice(body))
            }
            Self::Whole(whole) => (whole.head, whole.signature.clone(), whole.body.clone()),
        };
        Data {
            origin,
            epoch,
            sequence,
            state: head.state,
            priority: head.priority,
            keyframe: head.keyframe,
            layer: head.layer,
            hops: head.hops,
            pulled: false,
            flood: head.flood,
            born: head.born,
            body,
            signature,
        }
    }

    fn head(&self) -> Head {
        match self {
            Self::Packed(packed) => unpack(packed).0,
            Self::Whole(whole) => whole.head,
        }
    }
}

/// A short update in one piece, if it is one.
fn pack(head: Head, signature: &[u8], body: &[u8]) -> Option<Box<[u8]>> {
    let signature_bytes = u8::try_from(signature.len()).ok()?;
    if body.len() > PACKED_BODY_BYTES_MAX || head.layer > u8::MAX >> LAYER_SHIFT {
        return None;
    }
    let (born, state) = (head.born.as_micros(), head.state.0);
    let (born_bytes, state_bytes) = (bytes_of(born), bytes_of(state));
    let keyframe = if head.keyframe { KEYFRAME } else { 0 };
    let tags = head.priority as u8 | keyframe | (head.layer << LAYER_SHIFT);
    let room = HEAD_BYTES + born_bytes + state_bytes + signature.len() + body.len();
    let mut packed = Vec::with_capacity(room);
    let hops = head.hops | if head.flood { FLOOD } else { 0 };
    let numbers = (born_bytes << BORN_SHIFT | state_bytes) as u8;
    packed.extend_from_slice(&[tags, hops, numbers, signature_bytes]);
    packed.extend_from_slice(&born.to_le_bytes()[..born_bytes]);
    packed.extend_from_slice(&state.to_le_bytes()[..state_bytes]);
    packed.extend_from_slice(signature);
    packed.extend_from_slice(body);
    Some(packed.into_boxed_slice())
}

/// The head, the signature and the body of a packed record.
fn unpack(packed: &[u8]) -> (Head, &[u8], &[u8]) {
    let (head, rest) = packed.split_at(HEAD_BYTES);
    let (born, rest) = rest.split_at(usize::from(head[2] >> BORN_SHIFT));
    let (state, rest) = rest.split_at(usize::from(head[2] & STATE));
    let (signature, body) = rest.split_at(usize::from(head[3]));
    let head = Head {
        born: Instant::from_micros(number_of(born)),
        state: StateId(number_of(state)),
        priority: PRIORITIES[usize::from(head[0] & PRIORITY)],
        keyframe: head[0] & KEYFRAME != 0,
        layer: head[0] >> LAYER_SHIFT,
        hops: head[1] & !FLOOD,
        flood: head[1] & FLOOD != 0,
    };
    (head, signature, body)
}

/// Bytes that a number takes without the zeros at its end.
fn bytes_of(number: u64) -> usize {
    8 - number.leading_zeros() as usize / 8
}

fn number_of(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(state: u64, tags: u8, layer: u8, signature: usize, body: usize) -> Data<u64> {
        Data {
            origin: 1,
            epoch: Epoch(2),
            sequence: 3,
            state: StateId(state),
            priority: PRIORITIES[usize::from(tags & 3)],
            keyframe: tags & 4 != 0,
            layer,
            hops: tags & !FLOOD,
            pulled: false,
            flood: tags & 1 == 1,
            born: Instant::from_secs(4),
            body: Bytes::from(alloc::vec![5; body]),
            signature: Bytes::from(alloc::vec![6; signature]),
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back_as_it_was(
            state in prop_oneof![Just(0), 0u64..300, any::<u64>()],
            tags in any::<u8>(),
            layer in prop_oneof![0u8..8, any::<u8>()],
            signature in prop_oneof![Just(0usize), 0usize..300],
            born in prop_oneof![Just(0), 0u64..1 << 40, Just(u64::MAX - 1), any::<u64>()],
            body in prop_oneof![0usize..100, 4_000usize..4_200],
            elsewhere_bytes in 1usize..1_000,
        ) {
            let data = Data { born: Instant::from_micros(born), ..data(state, tags, layer, signature, body) };
            let mut stored = Stored::new(&data, data.born);
            let again = || stored.clone().data(data.origin, data.epoch, data.sequence);
            prop_assert_eq!(stored.born(), data.born);
            prop_assert_eq!(again(), data.clone());
            prop_assert_eq!((stored.state(), stored.is_keyframe()), (data.state, data.keyframe));
            prop_assert_eq!(stored.bytes(), body);
            prop_assert_eq!(stored.set_elsewhere_bytes(elsewhere_bytes), 0);
            prop_assert_eq!(stored.set_elsewhere_bytes(elsewhere_bytes), elsewhere_bytes);
            prop_assert_eq!(stored.bytes(), body + elsewhere_bytes);
            prop_assert_eq!(stored.data(data.origin, data.epoch, data.sequence), data);
        }
    }

    #[test]
    fn a_kept_update_takes_little_beside_its_body() {
        assert!(size_of::<Stored>() <= 16);
        let stored = Stored::new(&data(0, 0, 0, 0, 1_000), Instant::from_secs(60));
        assert!(matches!(&stored, Stored::Packed(packed) if packed.len() == 1_008));
    }
}
