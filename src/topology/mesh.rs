//! Everybody feeds everybody, or a few neighbours.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{Change, TopologyError};
use crate::id::PeerId;
use crate::rng::mix;

/// Peers whose links go both ways: all to all, or with a bounded number of neighbours each.
///
/// The bounded mesh consists of `degree_max / 2` rings, each through all peers in an order of its own (Law and Siu,
/// "Distributed construction of random expander networks", 2003). A peer joins each ring at a place drawn from a
/// counter, and where it leaves, its two neighbours close the gap. So nobody ever has more than `degree_max`
/// neighbours, the mesh is always connected, and with two rings or more its diameter is close to that of a random
/// graph. A peer has fewer neighbours where rings share a link; of an odd `degree_max` one is not used.
///
/// ```
/// use suffuse::{Mesh, TopologyError};
///
/// let mut changes = Vec::new();
/// let mut mesh = Mesh::full(10)?;
/// for peer in [1, 2, 3] {
///     mesh.join(peer, &mut changes)?;
/// }
/// assert_eq!(mesh.downstream(2).collect::<Vec<_>>(), [1, 3]);
///
/// let mut mesh = Mesh::bounded(1_000, 6)?;
/// for peer in 0..1_000 {
///     mesh.join(peer, &mut changes)?;
/// }
/// assert!((0..1_000).all(|peer| mesh.downstream(peer).count() <= 6));
/// # Ok::<(), TopologyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mesh<P> {
    /// Each peer's place in `order`.
    places: BTreeMap<P, usize>,
    /// The peers in an order that only serves to draw from them.
    order: Vec<P>,
    /// For each ring and each place the (previous, next) peer. No rings: a full mesh.
    rings: Vec<Vec<(P, P)>>,
    peers_max: usize,
    draws: u64,
}

impl<P: PeerId> Mesh<P> {
    /// An empty mesh of up to `peers_max` peers, in which everybody feeds all others.
    ///
    /// # Errors
    /// [`TopologyError::ZeroCapacity`] if `peers_max` is zero.
    pub fn full(peers_max: usize) -> Result<Self, TopologyError> {
        if peers_max == 0 {
            return Err(TopologyError::ZeroCapacity);
        }
        Ok(Self { places: BTreeMap::new(), order: Vec::new(), rings: Vec::new(), peers_max, draws: 0 })
    }

    /// An empty mesh of up to `peers_max` peers, in which everybody feeds at most `degree_max` others.
    ///
    /// # Errors
    /// [`TopologyError::ZeroCapacity`] if a limit is zero; [`TopologyError::DegreeTooSmall`] if `degree_max` is 1.
    pub fn bounded(peers_max: usize, degree_max: usize) -> Result<Self, TopologyError> {
        match degree_max {
            0 => Err(TopologyError::ZeroCapacity),
            1 => Err(TopologyError::DegreeTooSmall { degree: 1, min: 2 }),
            _ => {
                // More rings than peers would only repeat links.
                let rings = (degree_max / 2).min(peers_max);
                Ok(Self { rings: alloc::vec![Vec::new(); rings], ..Self::full(peers_max)? })
            }
        }
    }

    /// Adds a peer; true if it is new. The others stay as they are. O(N) in a full mesh, else O(degree · log N).
    ///
    /// # Errors
    /// [`TopologyError::CapReached`] if the mesh is full.
    pub fn join(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<bool, TopologyError> {
        if self.contains(peer) {
            return Ok(false);
        }
        if self.order.len() >= self.peers_max {
            return Err(TopologyError::CapReached { max: self.peers_max });
        }
        let mut touched = Vec::new();
        let mut spots = Vec::with_capacity(self.rings.len());
        for ring in &self.rings {
            self.draws = self.draws.wrapping_add(1);
            let place = (u128::from(mix(self.draws)) * self.order.len() as u128) >> 64;
            let spot =
                self.order.get(place as usize).map_or((peer, peer), |&after| (after, ring[place as usize].1));
            spots.push(spot);
            touched.extend([(spot.0, spot.1), (peer, spot.0), (peer, spot.1)]);
        }
        let before = self.existing(&touched);
        for (ring, &(previous, next)) in self.rings.iter_mut().zip(&spots) {
            ring.push((previous, next));
            if previous != peer {
                ring[self.places[&previous]].1 = peer;
                ring[self.places[&next]].0 = peer;
            }
        }
        self.places.insert(peer, self.order.len());
        self.order.push(peer);
        self.report(peer, touched, &before, changes);
        Ok(true)
    }

    /// Removes a peer. O(N) in a full mesh, else O(degree · log N).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] for a stranger.
    pub fn leave(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<(), TopologyError> {
        let &place = self.places.get(&peer).ok_or(TopologyError::UnknownPeer)?;
        let mut touched = Vec::new();
        for &(previous, next) in self.rings.iter().map(|ring| &ring[place]) {
            touched.extend([(previous, next), (peer, previous), (peer, next)]);
        }
        let before = self.existing(&touched);
        for ring in &mut self.rings {
            let (previous, next) = ring[place];
            ring[self.places[&previous]].1 = next;
            ring[self.places[&next]].0 = previous;
            ring.swap_remove(place);
        }
        self.places.remove(&peer);
        self.order.swap_remove(place);
        if let Some(&moved) = self.order.get(place) {
            self.places.insert(moved, place);
        }
        self.report(peer, touched, &before, changes);
        Ok(())
    }

    /// Whom `peer` feeds, which are also those that feed it, in ascending order. Nobody for strangers.
    pub fn downstream(&self, peer: P) -> impl Iterator<Item = P> + '_ {
        let place = self.places.get(&peer).copied();
        let everybody = if self.rings.is_empty() { place } else { None };
        let everybody = everybody.into_iter().flat_map(|_| self.places.keys().copied());
        let around = self.rings.iter().filter_map(move |ring| Some(ring[place?]));
        let mut neighbours: Vec<P> = around.flat_map(|(previous, next)| [previous, next]).collect();
        neighbours.sort_unstable();
        neighbours.dedup();
        everybody.chain(neighbours).filter(move |&other| other != peer)
    }

    /// Whether one peer feeds another, which then feeds it too. O(degree + log N).
    pub fn are_linked(&self, one: P, other: P) -> bool {
        let (Some(&place), Some(_)) = (self.places.get(&one), self.places.get(&other)) else { return false };
        let joined = |ring: &Vec<(P, P)>| ring[place].0 == other || ring[place].1 == other;
        one != other && (self.rings.is_empty() || self.rings.iter().any(joined))
    }

    /// The peers in ascending order.
    pub fn peers(&self) -> impl DoubleEndedIterator<Item = P> + ExactSizeIterator + '_ {
        self.places.keys().copied()
    }

    /// Whether `peer` is in the mesh. O(log N).
    pub fn contains(&self, peer: P) -> bool {
        self.places.contains_key(&peer)
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are no peers.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Which of the pairs are linked.
    fn existing(&self, pairs: &[(P, P)]) -> Vec<bool> {
        pairs.iter().map(|&(one, other)| self.are_linked(one, other)).collect()
    }

    /// Reports what has become of the touched pairs, or in a full mesh of all pairs with `peer`.
    fn report(&self, peer: P, touched: Vec<(P, P)>, before: &[bool], changes: &mut Vec<Change<P>>) {
        let first = changes.len();
        let mut push = |one, other, gained| {
            for (child, parent) in [(one, other), (other, one)] {
                changes.push(if gained {
                    Change::Gained { child, parent }
                } else {
                    Change::Lost { child, parent }
                });
            }
        };
        if self.rings.is_empty() {
            let gained = self.contains(peer);
            self.peers().filter(|&other| other != peer).for_each(|other| push(peer, other, gained));
        }
        let mut seen = BTreeSet::new();
        for (&(one, other), &linked) in touched.iter().zip(before) {
            if self.are_linked(one, other) != linked && seen.insert((one.min(other), one.max(other))) {
                push(one, other, !linked);
            }
        }
        changes[first..].sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn in_a_mesh_of_three_everybody_feeds_two() {
        for mesh in [Mesh::full(3), Mesh::bounded(3, 4)] {
            let (mut mesh, mut changes) = (mesh.unwrap(), Vec::new());
            for peer in [5, 6, 7] {
                assert_eq!(mesh.join(peer, &mut changes), Ok(true));
            }
            assert_eq!(mesh.downstream(6).collect::<Vec<_>>(), [5, 7]);
            assert!((5..8).all(|peer| mesh.downstream(peer).count() == 2));
            assert_eq!(changes.len(), 6);
        }
    }

    #[test]
    fn bad_input_changes_nothing() {
        assert_eq!(Mesh::<u8>::full(0), Err(TopologyError::ZeroCapacity));
        assert_eq!(Mesh::<u8>::bounded(0, 2), Err(TopologyError::ZeroCapacity));
        assert_eq!(Mesh::<u8>::bounded(2, 0), Err(TopologyError::ZeroCapacity));
        assert_eq!(Mesh::<u8>::bounded(2, 1), Err(TopologyError::DegreeTooSmall { degree: 1, min: 2 }));
        for mesh in [Mesh::full(2), Mesh::bounded(2, 2)] {
            let (mut mesh, mut changes) = (mesh.unwrap(), Vec::new());
            mesh.join(1, &mut changes).unwrap();
            mesh.join(2, &mut changes).unwrap();
            changes.clear();
            let before = mesh.clone();
            assert_eq!(mesh.join(1, &mut changes), Ok(false));
            assert_eq!(mesh.join(3, &mut changes), Err(TopologyError::CapReached { max: 2 }));
            assert_eq!(mesh.leave(3, &mut changes), Err(TopologyError::UnknownPeer));
            assert_eq!(mesh.downstream(3).count(), 0);
            assert_eq!(mesh, before);
            assert!(changes.is_empty());
        }
    }

    #[test]
    fn a_bounded_mesh_is_narrow() {
        let (mut mesh, mut changes) = (Mesh::bounded(10_000, 8).unwrap(), Vec::new());
        for peer in 0..10_000 {
            mesh.join(peer, &mut changes).unwrap();
        }
        let (mut reached, mut edge, mut hops) = (BTreeSet::from([0]), Vec::from([0]), 0);
        while reached.len() < mesh.len() {
            let next: BTreeSet<i32> = edge.iter().flat_map(|&peer| mesh.downstream(peer)).collect();
            edge = next.into_iter().filter(|&peer| reached.insert(peer)).collect();
            hops += 1;
        }
        assert!(hops <= 8, "{hops} hops");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn stays_connected_and_within_its_degree(
            degree_max in prop::option::of(2usize..9),
            steps in prop::collection::vec((any::<bool>(), 0u8..30), 0..150),
        ) {
            let mesh = degree_max.map_or_else(|| Mesh::full(20), |degree_max| Mesh::bounded(20, degree_max));
            let (mut mesh, mut peers, mut links) = (mesh.unwrap(), BTreeSet::new(), BTreeSet::new());
            for (join, peer) in steps {
                let mut changes = Vec::new();
                if join {
                    let fits = peers.contains(&peer) || peers.len() < 20;
                    prop_assert_eq!(mesh.join(peer, &mut changes).ok(), fits.then(|| peers.insert(peer)));
                } else {
                    prop_assert_eq!(mesh.leave(peer, &mut changes).is_ok(), peers.remove(&peer));
                }
                replay::apply(&mut links, &changes);
                prop_assert!(mesh.peers().eq(peers.iter().copied()));
                prop_assert_eq!(mesh.len(), peers.len());
                let own = peers.iter().flat_map(|&peer| mesh.downstream(peer).map(move |child| (child, peer)));
                prop_assert_eq!(&links, &own.collect());
                for &(child, parent) in &links {
                    prop_assert!(links.contains(&(parent, child)) && mesh.are_linked(child, parent));
                }
                for &peer in &peers {
                    let degree = mesh.downstream(peer).count();
                    match degree_max {
                        Some(degree_max) => prop_assert!(degree <= degree_max),
                        None => prop_assert_eq!(degree, peers.len() - 1),
                    }
                }
                let mut reached: BTreeSet<u8> = peers.first().copied().into_iter().collect();
                for _ in 0..peers.len() {
                    let near: Vec<u8> = reached.iter().flat_map(|&peer| mesh.downstream(peer)).collect();
                    reached.extend(near);
                }
                prop_assert_eq!(&reached, &peers);
            }
        }
    }
}
