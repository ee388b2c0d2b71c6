//! Levels, targets and changes.

use core::fmt;
use core::ops::{Bound, RangeBounds};

use super::aggregate::AggregateChange;
use super::limits::InterestError;
use crate::id::StateId;

/// How much a peer wants a state, from not at all to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum InterestLevel {
    /// Not at all. Declaring it withdraws.
    #[default]
    None = 0,
    /// Barely: keyframes, in the background.
    Low = 1,
    /// Some: at reduced quality and rate.
    Medium = 2,
    /// Much: all of it, soon.
    High = 3,
    /// The most: all of it, at once.
    Critical = 4,
}

impl InterestLevel {
    /// The levels above [`InterestLevel::None`], from the highest to the lowest: the order of all iteration.
    pub const DESCENDING: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// The level with that number (0 is none, 4 is critical), or `None` for any other number.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Low,
            2 => Self::Medium,
            3 => Self::High,
            4 => Self::Critical,
            _ => return None,
        })
    }

    /// The number of the level: 0 is none, 4 is critical.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Its place in [`Self::DESCENDING`]; 4 for [`Self::None`].
    pub(super) const fn rank(self) -> usize {
        4 - self as usize
    }
}

/// What a declaration is about: one state, or all states from a first to a last.
///
/// Targets with the same first and last state are the same target, however they were made. A prefix is a range.
///
/// ```
/// use suffuse::{InterestTarget, StateId};
///
/// let prefix = InterestTarget::prefix(StateId(0xab_0000_0000_0012), 16)?;
/// assert_eq!(prefix, InterestTarget::range(StateId(0xab_0000_0000_0000)..StateId(0xac_0000_0000_0000))?);
/// assert!(prefix.contains(StateId(0xab_1234_5678_9abc)));
/// assert!(InterestTarget::range(StateId(5)..StateId(5)).is_err());
/// # Ok::<(), suffuse::InterestError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterestTarget {
    first: StateId,
    last: StateId,
}

impl InterestTarget {
    /// Every state.
    pub const EVERYTHING: Self = Self { first: StateId(0), last: StateId(u64::MAX) };

    /// One state.
    pub const fn state(state: StateId) -> Self {
        Self { first: state, last: state }
    }

    /// The states of a range, half-open (`a..b`), inclusive (`a..=b`) or unbounded (`a..`).
    ///
    /// # Errors
    ///
    /// [`InterestError::EmptyRange`] if the range holds no state.
    pub fn range(states: impl RangeBounds<StateId>) -> Result<Self, InterestError> {
        let first = match states.start_bound() {
            Bound::Included(start) => Some(start.0),
            Bound::Excluded(start) => start.0.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let last = match states.end_bound() {
            Bound::Included(end) => Some(end.0),
            Bound::Excluded(end) => end.0.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => {
                Ok(Self { first: StateId(first), last: StateId(last) })
            }
            _ => Err(InterestError::EmptyRange),
        }
    }

    /// The states whose number has the same `bits` most significant bits as `state`. 0 bits are
    /// [`InterestTarget::EVERYTHING`], 64 bits are the state alone.
    ///
    /// # Errors
    ///
    /// [`InterestError::PrefixBits`] if `bits` exceeds 64.
    pub const fn prefix(state: StateId, bits: u8) -> Result<Self, InterestError> {
        if bits > 64 {
            return Err(InterestError::PrefixBits(bits));
        }
        let below = match u64::MAX.checked_shr(bits as u32) {
            Some(below) => below,
            None => 0,
        };
        Ok(Self { first: StateId(state.0 & !below), last: StateId(state.0 | below) })
    }

    /// The first state.
    pub const fn first(self) -> StateId {
        self.first
    }

    /// The last state; it belongs to the target.
    pub const fn last(self) -> StateId {
        self.last
    }

    /// Whether the target is one single state.
    pub const fn is_state(self) -> bool {
        self.first.0 == self.last.0
    }

    /// Whether `state` belongs to the target.
    pub const fn contains(self, state: StateId) -> bool {
        self.first.0 <= state.0 && state.0 <= self.last.0
    }

    /// Whether every state of `other` belongs to the target. A target covers itself.
    pub const fn covers(self, other: Self) -> bool {
        self.first.0 <= other.first.0 && other.last.0 <= self.last.0
    }

    /// The size class: 0 for one state, else how many binary digits `last - first` has. Targets of one class differ
    /// in size by less than a factor of two, so those that contain a state begin within a short stretch before it.
    pub(super) const fn class(self) -> u8 {
        (u64::BITS - (self.last.0 - self.first.0).leading_zeros()) as u8
    }
}

impl From<StateId> for InterestTarget {
    fn from(state: StateId) -> Self {
        Self::state(state)
    }
}

impl fmt::Debug for InterestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_state() {
            write!(f, "{:#x}", self.first.0)
        } else {
            write!(f, "{:#x}..={:#x}", self.first.0, self.last.0)
        }
    }
}

/// What a call did to one peer's declaration for one target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterestChange<P> {
    /// Whose declaration it is.
    pub peer: P,
    /// What it is about.
    pub target: InterestTarget,
    /// The declared level before; [`InterestLevel::None`] if there was no declaration.
    pub from: InterestLevel,
    /// The declared level now; [`InterestLevel::None`] if there is none any more.
    pub to: InterestLevel,
    /// What that did to the maximum over all peers; `None` if the maximum stayed.
    pub aggregate: Option<AggregateChange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_numbered() {
        for number in 0..=4 {
            assert_eq!(InterestLevel::from_u8(number).map(InterestLevel::as_u8), Some(number));
        }
        assert_eq!(InterestLevel::from_u8(5), None);
        assert!(InterestLevel::DESCENDING.is_sorted_by(|a, b| a > b));
        for (rank, level) in InterestLevel::DESCENDING.into_iter().enumerate() {
            assert_eq!(level.rank(), rank);
        }
    }

    #[test]
    fn the_ends_of_the_number_line_are_safe() {
        let (zero, max) = (StateId(0), StateId(u64::MAX));
        assert_eq!(InterestTarget::range(..), Ok(InterestTarget::EVERYTHING));
        assert_eq!(InterestTarget::range(zero..=max), Ok(InterestTarget::EVERYTHING));
        assert_eq!(InterestTarget::prefix(max, 0), Ok(InterestTarget::EVERYTHING));
        assert_eq!(InterestTarget::prefix(max, 64), Ok(InterestTarget::state(max)));
        assert_eq!(InterestTarget::prefix(max, 65), Err(InterestError::PrefixBits(65)));
        assert_eq!(InterestTarget::range(..zero), Err(InterestError::EmptyRange));
        assert_eq!(
            InterestTarget::range((Bound::Excluded(max), Bound::Unbounded)),
            Err(InterestError::EmptyRange)
        );
        assert_eq!(InterestTarget::range(zero..StateId(1)), Ok(InterestTarget::state(zero)));
        assert_eq!(InterestTarget::EVERYTHING.class(), 64);
        assert_eq!(InterestTarget::state(max).class(), 0);
        assert_eq!(InterestTarget::range(zero..=StateId(1)).map(InterestTarget::class), Ok(1));
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges, reason = "the point of the test")]
    fn a_reversed_range_is_empty() {
        assert_eq!(InterestTarget::range(StateId(7)..=StateId(3)), Err(InterestError::EmptyRange));
    }
}
