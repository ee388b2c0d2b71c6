//! What the egress counts.

use crate::io::Class;

/// What left in one class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct ClassStats {
    /// Frames whose most urgent item was of this class.
    pub frames: u64,
    /// Items of this class, in whichever frame.
    pub items: u64,
    /// Bytes of these items, without frame headers.
    pub bytes: u64,
}

/// Counters of an [`Egress`](crate::Egress), from its creation.
///
/// Nothing is ever lost uncounted: `offered` is the sum of the items sent, `superseded`, [`dropped`](Self::dropped),
/// and the items that wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct EgressStats {
    /// Items given to [`Egress::enqueue`](crate::Egress::enqueue), accepted or not.
    pub offered: u64,
    /// What left, by class, in the order of [`Class::ALL`]; see [`sent`](Self::sent).
    pub classes: [ClassStats; 5],
    /// Bytes charged to the budget: items, frame headers, and the overhead of each frame.
    pub charged_bytes: u64,
    /// Items replaced by a newer one of the same key while they waited.
    pub superseded: u64,
    /// Items dropped because a queue was full: refused, or waiting ones that made room for a more urgent one.
    pub dropped_full: u64,
    /// Items whose deadline had passed, at the door or at the head of their queue.
    pub dropped_late: u64,
    /// Items that fit no frame.
    pub dropped_oversize: u64,
    /// Items for a peer that is closing.
    pub dropped_closing: u64,
    /// Items for a peer that is not open.
    pub dropped_unknown: u64,
    /// Items that waited for a peer when its connection was lost.
    pub dropped_reset: u64,
}

impl EgressStats {
    /// What left in `class`.
    pub fn sent(&self, class: Class) -> &ClassStats {
        &self.classes[class as usize]
    }

    /// Items dropped for whatever reason. Superseded ones are not counted here.
    pub fn dropped(&self) -> u64 {
        self.dropped_full
            + self.dropped_late
            + self.dropped_oversize
            + self.dropped_closing
            + self.dropped_unknown
            + self.dropped_reset
    }
}
