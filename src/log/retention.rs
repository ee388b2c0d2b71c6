//! How long bodies are kept, and the bodies of one source.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use bytes::Bytes;

use crate::id::{Priority, StateId};
use crate::time::Instant;

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

/// An update that is kept: everything but its source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) state: StateId,
    pub(crate) born: Instant,
    pub(crate) body: Bytes,
    pub(crate) priority: Priority,
    pub(crate) keyframe: bool,
    pub(crate) layer: u8,
    pub(crate) hops: u8,
    /// Of a large update whose chunks are kept elsewhere: how long they are together.
    pub(crate) elsewhere_bytes: usize,
    /// Boxed, as most topics are not signed.
    pub(crate) signature: Option<Box<Bytes>>,
}

impl Stored {
    /// What counts against the limit of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.elsewhere_bytes
    }
}

/// The bodies kept of one source, in the order of their sequences: appended at the end and dropped at the front
/// almost always.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies {
    stored: VecDeque<Stored>,
}

impl Bodies {
    pub(crate) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.stored.iter()
    }

    pub(crate) fn find(&self, sequence: u64) -> Option<&Stored> {
        let place = self.stored.partition_point(|stored| stored.sequence < sequence);
        self.stored.get(place).filter(|stored| stored.sequence == sequence)
    }

    pub(crate) fn find_mut(&mut self, sequence: u64) -> Option<&mut Stored> {
        let place = self.stored.partition_point(|stored| stored.sequence < sequence);
        self.stored.get_mut(place).filter(|stored| stored.sequence == sequence)
    }

    pub(crate) fn insert(&mut self, stored: Stored) {
        let place = self.stored.partition_point(|other| other.sequence < stored.sequence);
        if self.stored.len() == self.stored.capacity() {
            // Many sources keep a few bodies each: doubling would waste more than it saves.
            self.stored.reserve_exact(self.stored.len() / 4 + 4);
        }
        self.stored.insert(place, stored);
    }

    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Stored> {
        let place = self.stored.partition_point(|stored| stored.sequence < sequence);
        if self.stored.get(place)?.sequence != sequence {
            return None;
        }
        let removed = self.stored.remove(place);
        if self.stored.is_empty()
            || self.stored.capacity() > 64 && self.stored.len() * 4 < self.stored.capacity()
        {
            self.stored.shrink_to(self.stored.len() * 2);
        }
        removed
    }
}
