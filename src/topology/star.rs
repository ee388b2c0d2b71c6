//! One hub that feeds everybody.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{Change, TopologyError};
use crate::id::PeerId;

/// A hub and its leaves: the hub feeds every leaf, and nobody else feeds anybody.
///
/// ```
/// use suffuse::{Star, TopologyError};
///
/// let mut changes = Vec::new();
/// let mut star = Star::new(0, 3)?;
/// for leaf in [1, 2, 3] {
///     star.join(leaf, &mut changes)?;
/// }
/// assert_eq!(star.downstream(0).collect::<Vec<_>>(), [1, 2, 3]);
/// assert_eq!(star.join(4, &mut changes), Err(TopologyError::CapReached { max: 3 }));
/// # Ok::<(), TopologyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Star<P> {
    hub: P,
    leaves: BTreeSet<P>,
    leaves_max: usize,
}

impl<P: PeerId> Star<P> {
    /// A star of `hub` alone, which will take up to `leaves_max` leaves.
    ///
    /// # Errors
    /// [`TopologyError::ZeroCapacity`] if `leaves_max` is zero.
    pub fn new(hub: P, leaves_max: usize) -> Result<Self, TopologyError> {
        if leaves_max == 0 {
            return Err(TopologyError::ZeroCapacity);
        }
        Ok(Self { hub, leaves: BTreeSet::new(), leaves_max })
    }

    /// Adds a leaf; true if it is new. The hub and the present leaves stay as they are. O(log N).
    ///
    /// # Errors
    /// [`TopologyError::CapReached`] if the star is full.
    pub fn join(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<bool, TopologyError> {
        if self.contains(peer) {
            return Ok(false);
        }
        if self.leaves.len() >= self.leaves_max {
            return Err(TopologyError::CapReached { max: self.leaves_max });
        }
        self.leaves.insert(peer);
        changes.push(Change::Gained { child: peer, parent: self.hub });
        Ok(true)
    }

    /// Removes a leaf. O(log N).
    ///
    /// # Errors
    /// [`TopologyError::RootRemoval`] for the hub, [`TopologyError::UnknownPeer`] for a stranger.
    pub fn leave(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<(), TopologyError> {
        if peer == self.hub {
            return Err(TopologyError::RootRemoval);
        }
        if !self.leaves.remove(&peer) {
            return Err(TopologyError::UnknownPeer);
        }
        changes.push(Change::Lost { child: peer, parent: self.hub });
        Ok(())
    }

    /// Makes a leaf the hub; the old hub becomes a leaf. Every link changes: O(N log N). The hub itself changes
    /// nothing.
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] for a stranger.
    pub fn re_root(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<(), TopologyError> {
        if peer == self.hub {
            return Ok(());
        }
        if !self.leaves.contains(&peer) {
            return Err(TopologyError::UnknownPeer);
        }
        changes.extend(self.leaves.iter().map(|&child| Change::Lost { child, parent: self.hub }));
        self.leaves.remove(&peer);
        self.leaves.insert(self.hub);
        self.hub = peer;
        changes.push(Change::Root { peer });
        changes.extend(self.leaves.iter().map(|&child| Change::Gained { child, parent: peer }));
        Ok(())
    }

    /// The one that feeds the others.
    pub fn hub(&self) -> P {
        self.hub
    }

    /// The leaves in ascending order.
    pub fn leaves(&self) -> impl DoubleEndedIterator<Item = P> + ExactSizeIterator + '_ {
        self.leaves.iter().copied()
    }

    /// Whom `peer` feeds, in ascending order: the leaves if it is the hub, else nobody.
    pub fn downstream(&self, peer: P) -> impl Iterator<Item = P> + '_ {
        self.leaves.iter().copied().filter(move |_| peer == self.hub)
    }

    /// Who feeds `peer`: the hub, if it is a leaf. O(log N).
    pub fn parent(&self, peer: P) -> Option<P> {
        self.leaves.contains(&peer).then_some(self.hub)
    }

    /// Whether `peer` is the hub or a leaf. O(log N).
    pub fn contains(&self, peer: P) -> bool {
        peer == self.hub || self.leaves.contains(&peer)
    }

    /// How many peers there are, with the hub.
    #[expect(clippy::len_without_is_empty, reason = "a star always has its hub")]
    pub fn len(&self) -> usize {
        self.leaves.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_leaves_are_downstream_of_the_hub() {
        let mut changes = Vec::new();
        let mut star = Star::new(9, 5).unwrap();
        for leaf in [3, 1, 2] {
            assert_eq!(star.join(leaf, &mut changes), Ok(true));
        }
        assert_eq!(star.downstream(9).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(star.downstream(1).count(), 0);
        assert_eq!(star.parent(1), Some(9));
        assert_eq!(star.parent(9), None);
    }

    #[test]
    fn bad_input_changes_nothing() {
        assert_eq!(Star::new(0, 0), Err(TopologyError::ZeroCapacity));
        let mut changes = Vec::new();
        let mut star = Star::new(0, 1).unwrap();
        star.join(1, &mut changes).unwrap();
        changes.clear();
        let before = star.clone();
        assert_eq!(star.join(1, &mut changes), Ok(false));
        assert_eq!(star.join(0, &mut changes), Ok(false));
        assert_eq!(star.join(2, &mut changes), Err(TopologyError::CapReached { max: 1 }));
        assert_eq!(star.leave(0, &mut changes), Err(TopologyError::RootRemoval));
        assert_eq!(star.leave(7, &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(star.re_root(7, &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(star.re_root(0, &mut changes), Ok(()));
        assert_eq!(star, before);
        assert!(changes.is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_a_hub_and_a_set(steps in prop::collection::vec((0u8..3, 0u8..12), 0..80)) {
            let mut star = Star::new(0u8, 6).unwrap();
            let (mut hub, mut leaves, mut links) = (0u8, BTreeSet::new(), BTreeSet::new());
            for (step, peer) in steps {
                let mut changes = Vec::new();
                match step {
                    0 => {
                        let refused = peer != hub && !leaves.contains(&peer) && leaves.len() == 6;
                        prop_assert_eq!(star.join(peer, &mut changes).is_err(), refused);
                        if !refused && peer != hub {
                            leaves.insert(peer);
                        }
                    }
                    1 => {
                        let known = leaves.remove(&peer);
                        prop_assert_eq!(star.leave(peer, &mut changes).is_ok(), known);
                    }
                    _ => {
                        let known = peer == hub || leaves.contains(&peer);
                        prop_assert_eq!(star.re_root(peer, &mut changes).is_ok(), known);
                        if known && peer != hub {
                            leaves.remove(&peer);
                            leaves.insert(hub);
                            hub = peer;
                        }
                    }
                }
                replay::apply(&mut links, &changes);
                prop_assert_eq!(star.hub(), hub);
                prop_assert!(star.leaves().eq(leaves.iter().copied()));
                prop_assert_eq!(star.len(), leaves.len() + 1);
                prop_assert!(links.iter().copied().eq(leaves.iter().map(|&leaf| (leaf, hub))));
            }
        }
    }
}
