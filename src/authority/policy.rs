//! The vocabulary of authority: ranges of states, policies, terms, changes, limits.

use crate::id::StateId;
use crate::time::Instant;

/// A non-empty range of states, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StateRange {
    first: StateId,
    last: StateId,
}

impl StateRange {
    /// Every state.
    pub const ALL: Self = Self { first: StateId(0), last: StateId(u64::MAX) };

    /// From `first` to `last`, both included; `None` if `first` is greater.
    ///
    /// ```
    /// use suffuse::{StateId, authority::StateRange};
    /// assert!(StateRange::new(StateId(2), StateId(1)).is_none());
    /// assert!(StateRange::new(StateId(1), StateId(2)).unwrap().contains(StateId(2)));
    /// ```
    pub const fn new(first: StateId, last: StateId) -> Option<Self> {
        if first.0 <= last.0 { Some(Self { first, last }) } else { None }
    }

    /// One state.
    pub const fn single(state: StateId) -> Self {
        Self { first: state, last: state }
    }

    /// The least state.
    pub const fn first(self) -> StateId {
        self.first
    }

    /// The greatest state.
    pub const fn last(self) -> StateId {
        self.last
    }

    /// Whether `state` lies in the range.
    pub const fn contains(self, state: StateId) -> bool {
        self.first.0 <= state.0 && state.0 <= self.last.0
    }

    /// Whether the ranges share a state.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first.0 <= other.last.0 && other.first.0 <= self.last.0
    }

    /// What is left of the range without `hole`: the part below and the part above.
    pub(crate) fn without(self, hole: Self) -> [Option<Self>; 2] {
        if !self.overlaps(hole) {
            return [Some(self), None];
        }
        let below = hole.first.0.checked_sub(1).and_then(|last| Self::new(self.first, StateId(last)));
        let above = hole.last.0.checked_add(1).and_then(|first| Self::new(StateId(first), self.last));
        [below, above]
    }
}

/// Who may write a range of states.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Policy<P> {
    /// One peer, who can pass the ownership on.
    Exclusive {
        /// The owner.
        owner: P,
    },
    /// A founder and all who hold a grant that leads back to it.
    Shared {
        /// Where every chain of grants begins.
        founder: P,
    },
    /// Anybody.
    Open,
    /// Nobody.
    Frozen,
}

/// What a grant gives: always the right to write; how many times it may be granted onward; until when.
///
/// The default may not be granted onward and has no end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GrantTerms {
    /// How many more grants may follow in a chain. 0: the grantee writes but grants nothing. A granter can give at
    /// most one less than it has.
    pub onward: u8,
    /// The end: at this instant the right is gone. `None` has no end.
    pub until: Option<Instant>,
}

impl GrantTerms {
    /// Terms without an end, with `onward` more grants in a chain.
    pub const fn onward(onward: u8) -> Self {
        Self { onward, until: None }
    }

    /// The same terms with an end.
    #[must_use]
    pub const fn until(self, until: Instant) -> Self {
        Self { onward: self.onward, until: Some(until) }
    }
}

/// What changed, for a host that acts on it. Ranges are those of the policy concerned; states without a policy of
/// their own are reported as [`StateRange::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AuthorityChange<P> {
    /// `peer` has a right that it did not have: by a grant, by ownership, by a new policy. A mute, a ban or a freeze
    /// can still stand against it.
    Gained {
        /// Who.
        peer: P,
        /// Which states.
        states: StateRange,
    },
    /// `peer` has lost a right, by a revocation, its cascade, an expiry, a transfer or a new policy.
    Lost {
        /// Who.
        peer: P,
        /// Which states.
        states: StateRange,
    },
    /// A range has a new policy. Peers that have rights by name are reported one by one beside it.
    PolicySet {
        /// Which states.
        states: StateRange,
        /// The policy; of a removed one, the policy of all other states.
        policy: Policy<P>,
    },
    /// Nobody may write the range, until it is thawed.
    Frozen {
        /// Which states.
        states: StateRange,
    },
    /// The range is as it was before the freeze.
    Thawed {
        /// Which states.
        states: StateRange,
    },
    /// `peer` is a moderator.
    Appointed {
        /// Who.
        peer: P,
    },
    /// `peer` is no moderator any more.
    Dismissed {
        /// Who.
        peer: P,
    },
    /// `peer` may not write the states.
    Muted {
        /// Who.
        peer: P,
        /// Which states.
        states: StateRange,
        /// The end, if it has one.
        until: Option<Instant>,
    },
    /// A mute was lifted or has expired. Another one may still stand.
    Unmuted {
        /// Who.
        peer: P,
        /// Which states.
        states: StateRange,
    },
    /// `peer` may not write at all.
    Banned {
        /// Who.
        peer: P,
        /// The end, if it has one.
        until: Option<Instant>,
    },
    /// A ban was lifted or has expired.
    Unbanned {
        /// Who.
        peer: P,
    },
}

/// How much an [`AuthoritySet`](crate::AuthoritySet) remembers. What would exceed a limit is refused with
/// [`AuthorityError::Full`](crate::AuthorityError::Full); taking rights away never is.
///
/// The defaults suit a swarm of some thousand writers and take below 3 MB with 32-byte peers when all tables are full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct AuthorityLimits {
    /// Ranges with a policy of their own. Default 256.
    pub policies_max: usize,
    /// Grants, over all ranges. Default 1,024.
    pub grants_max: usize,
    /// Grants from one peer in one range, unless it is the founder there: one member must not use up the table.
    /// Default 64.
    pub grants_per_peer_max: usize,
    /// Grants in a chain, and so signature checks in one call. Default 8.
    pub depth_max: u8,
    /// Moderators. Default 32.
    pub moderators_max: usize,
    /// Mutes, over all peers. Default 1,024.
    pub mutes_max: usize,
    /// Mutes of one peer, counting the pieces that a partial unmute leaves. Default 16.
    pub mutes_per_peer_max: usize,
    /// Bans. Default 1,024.
    pub bans_max: usize,
    /// Revocations that certificates are checked against. Beyond it *no* certificate is accepted until [`ProofLimits::lifetime_ms_max`](crate::authority::ProofLimits::lifetime_ms_max) has passed:
    /// a revoked right must not come back. Default 1,024.
    pub revocations_max: usize,
    /// What proofs may cost.
    pub proofs: super::ProofLimits,
}

impl Default for AuthorityLimits {
    fn default() -> Self {
        Self {
            policies_max: 256,
            grants_max: 1_024,
            grants_per_peer_max: 64,
            depth_max: 8,
            moderators_max: 32,
            mutes_max: 1_024,
            mutes_per_peer_max: 16,
            bans_max: 1_024,
            revocations_max: 1_024,
            proofs: super::ProofLimits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hole_takes_exactly_its_states(a in 0u64..20, b in 0u64..20, c in 0u64..20, d in 0u64..20) {
            let range = StateRange::new(StateId(a.min(b)), StateId(a.max(b))).unwrap();
            let hole = StateRange::new(StateId(c.min(d)), StateId(c.max(d))).unwrap();
            let rest = range.without(hole);
            for state in (0..25).map(StateId) {
                let expected = range.contains(state) && !hole.contains(state);
                let found = rest.iter().flatten().filter(|piece| piece.contains(state)).count();
                prop_assert_eq!(found, usize::from(expected));
            }
        }
    }

    #[test]
    fn holes_at_both_ends_of_the_number_line_are_safe() {
        assert_eq!(StateRange::ALL.without(StateRange::ALL), [None, None]);
        let top = StateRange::single(StateId(u64::MAX));
        assert_eq!(StateRange::ALL.without(top)[0].unwrap().last(), StateId(u64::MAX - 1));
        let bottom = StateRange::single(StateId(0));
        assert_eq!(StateRange::ALL.without(bottom)[1].unwrap().first(), StateId(1));
    }
}
