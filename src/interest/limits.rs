//! What a map may hold at most, and the errors for what it refuses.

/// The most that an [`InterestMap`](super::InterestMap) holds.
///
/// A declaration that would exceed a limit is refused with an error that names it; nothing is ever evicted. A limit
/// of 0 allows nothing. Limits above 2,147,483,647 count as that.
///
/// One declaration takes from 60 bytes (many peers, few states, no time to live) to 170 (a state of its own, with a time
/// to live), plus the peer's own size, so the defaults bound a map to some 350 MB; a small device sets them lower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct InterestLimits {
    /// Peers with at least one declaration. Default 1,048,576.
    pub peers_max: usize,
    /// Different targets, states and ranges together. Default 1,048,576.
    pub targets_max: usize,
    /// Different targets that are ranges or prefixes. They count in `targets_max` too. Every query meets all ranges
    /// that contain its state, so this bounds what a hostile peer can make a query cost. Default 4,096.
    pub ranges_max: usize,
    /// Declarations of one peer. A relay declares for its whole subtree, so this should be as many as a subtree
    /// wants at once. Default 131,072.
    pub declarations_per_peer_max: usize,
    /// Declarations of all peers together. Default 2,097,152.
    pub declarations_max: usize,
}

impl Default for InterestLimits {
    fn default() -> Self {
        Self {
            peers_max: 1 << 20,
            targets_max: 1 << 20,
            ranges_max: 1 << 12,
            declarations_per_peer_max: 1 << 17,
            declarations_max: 1 << 21,
        }
    }
}

impl InterestLimits {
    /// Limits that leave room for the 32-bit indices inside the map.
    pub(super) fn clamped(self) -> Self {
        let clamp = |limit: usize| limit.min(i32::MAX as usize);
        Self {
            peers_max: clamp(self.peers_max),
            targets_max: clamp(self.targets_max),
            ranges_max: clamp(self.ranges_max),
            declarations_per_peer_max: clamp(self.declarations_per_peer_max),
            declarations_max: clamp(self.declarations_max),
        }
    }
}

/// A call that was refused. Every variant leaves the map as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterestError {
    /// The range holds no state. Nothing was changed.
    #[error("the range holds no state; nothing was changed")]
    EmptyRange,
    /// A state's number has 64 bits, a prefix cannot have more. Nothing was changed.
    #[error("the prefix has {0} bits, the limit is 64; nothing was changed")]
    PrefixBits(u8),
    /// The time to live is shorter than a microsecond. Withdraw instead. Nothing was changed.
    #[error("the time to live is less than 1 microsecond; nothing was changed")]
    ZeroTtl,
    /// The declaration would live to the end of time ([`Instant::MAX`](crate::Instant::MAX)) or beyond. Declare it
    /// without a time to live. Nothing was changed.
    #[error("the time to live reaches beyond the end of time, 2^64 - 1 microseconds; nothing was changed")]
    TtlTooLong,
    /// The peer has no declaration at all. Nothing was changed.
    #[error("the peer has declared nothing; nothing was changed")]
    UnknownPeer,
    /// The peer has declarations, but none for this very target. Nothing was changed.
    #[error("the peer has not declared this target; nothing was changed")]
    NotDeclared,
    /// As many peers have declarations as allowed. Nothing was changed.
    #[error("{max} peers have declarations, which is the limit; nothing was changed")]
    TooManyPeers {
        /// The limit, [`InterestLimits::peers_max`].
        max: usize,
    },
    /// As many different targets are declared as allowed. Nothing was changed.
    #[error("{max} targets are declared, which is the limit; nothing was changed")]
    TooManyTargets {
        /// The limit, [`InterestLimits::targets_max`].
        max: usize,
    },
    /// As many different ranges and prefixes are declared as allowed. Nothing was changed.
    #[error("{max} ranges are declared, which is the limit; nothing was changed")]
    TooManyRanges {
        /// The limit, [`InterestLimits::ranges_max`].
        max: usize,
    },
    /// The peer has as many declarations as one peer may. Nothing was changed.
    #[error("the peer would have more than {max} declarations, which is the limit; nothing was changed")]
    TooManyOfPeer {
        /// The limit, [`InterestLimits::declarations_per_peer_max`].
        max: usize,
    },
    /// There are as many declarations as allowed. Nothing was changed.
    #[error("{max} declarations exist, which is the limit; nothing was changed")]
    TooManyDeclarations {
        /// The limit, [`InterestLimits::declarations_max`].
        max: usize,
    },
}
