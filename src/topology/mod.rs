//! Who feeds whom, as plain data: a weighted [`Graph`], a [`Star`], a bounded-degree [`Tree`] and a [`Mesh`].
//!
//! Each structure is usable alone and knows nothing of sockets, time or messages. Every operation that changes a
//! structure appends what it changed to a `Vec<Change<P>>` of the caller, so that a host can open and close links;
//! applying all changes in order to an empty set of (parent, child) pairs yields the structure's own links exactly.
//! Equal operations in equal order give equal structures on every platform.

mod arena;
mod graph;
mod mesh;
mod moves;
mod star;
mod tree;

pub use graph::{Edge, Graph, Route};
pub use mesh::Mesh;
pub use star::Star;
pub use tree::Tree;

/// One consequence of an operation on a topology.
///
/// Within the changes of one operation each link appears at most once, links that end come before links that begin,
/// and links of the same sort are ordered by child, then by parent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Change<P> {
    /// `child` no longer receives from `parent`.
    Lost {
        /// Who received.
        child: P,
        /// Who sent.
        parent: P,
    },
    /// `peer` was put out of the structure although it did not ask to leave: nobody has a free place for it. It may
    /// join again when there is capacity.
    Detached {
        /// Who was put out.
        peer: P,
    },
    /// `peer` is the root (or the hub) from now on.
    Root {
        /// The new root.
        peer: P,
    },
    /// `child` now receives from `parent`.
    Gained {
        /// Who receives.
        child: P,
        /// Who sends.
        parent: P,
    },
}

/// An operation on a topology that was refused. Every variant leaves the structure as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A peer that was named is not in the structure. Nothing was changed.
    #[error("the peer is not in the topology; nothing was changed")]
    UnknownPeer,
    /// There is no such link. Nothing was changed.
    #[error("there is no such link; nothing was changed")]
    UnknownEdge,
    /// A limit is reached: of peers, of links of one peer, or of the places that all capacities together offer.
    /// Nothing was changed.
    #[error("the limit of {max} is reached; nothing was changed")]
    CapReached {
        /// The limit.
        max: usize,
    },
    /// A peer cannot feed itself. Nothing was changed.
    #[error("a peer cannot be linked to itself; nothing was changed")]
    SelfEdge,
    /// The root (or the hub) cannot leave; make another peer the root first. Nothing was changed.
    #[error("the root cannot leave, make another peer the root first; nothing was changed")]
    RootRemoval,
    /// A capacity or a limit of zero where at least one is needed. Nothing was changed.
    #[error("a capacity of zero is not enough here; nothing was changed")]
    ZeroCapacity,
    /// A mesh with so small a degree cannot be kept connected. Nothing was created.
    #[error("a degree of {degree} is below {min}; nothing was created")]
    DegreeTooSmall {
        /// The degree that was given.
        degree: usize,
        /// The least degree that works.
        min: usize,
    },
}

/// Replays changes on plain sets, as a host would: the oracle of the tests of every structure.
#[cfg(test)]
pub(crate) mod replay {
    use super::Change;
    use crate::PeerId;
    use alloc::collections::BTreeSet;

    /// Applies `changes` to (child, parent) links. Panics if a link is lost that was not there, or gained twice.
    pub(crate) fn apply<P: PeerId>(links: &mut BTreeSet<(P, P)>, changes: &[Change<P>]) {
        let mut gaining = false;
        for change in changes {
            match *change {
                Change::Lost { child, parent } => {
                    assert!(!gaining, "a loss after a gain");
                    assert!(links.remove(&(child, parent)), "lost a link that was not there: {change:?}");
                }
                Change::Gained { child, parent } => {
                    gaining = true;
                    assert!(links.insert((child, parent)), "gained a link twice: {change:?}");
                }
                Change::Detached { .. } | Change::Root { .. } => {}
            }
        }
    }
}
