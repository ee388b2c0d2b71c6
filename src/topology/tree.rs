//! A tree in which nobody feeds more children than its capacity.

use alloc::vec::Vec;

use super::arena::{NONE, Node};
use super::moves::Moves;
use super::{Change, TopologyError};
use crate::id::PeerId;

/// A tree with a bounded number of children per peer, kept shallow while peers come and go.
///
/// Every peer has a *capacity*, the number of children that it can feed: the tree's fan-out, unless
/// [`join_with_capacity`](Self::join_with_capacity) or [`set_capacity`](Self::set_capacity) says otherwise. A peer
/// of capacity 0 is always a leaf. The *depth* of the root is 0, that of its children 1, and so on.
///
/// # Guarantees
/// After any sequence of operations:
///
/// - No peer has more children than its capacity, and every peer is reached from the root.
/// - If all capacities are one number f, [`max_depth`](Self::max_depth) is at most one more than that of the
///   complete f-ary tree of as many peers, hence at most ⌈log_f N⌉ + 1. The same holds, compared with the best tree
///   for the peers that there are, if all capacities but the root's are either 0 or one number f.
/// - With any other mixture of capacities, higher ones are moved nearer to the root where that takes few moves.
///   Capacities are compared by class (0, 1, 2 to 3, 4 to 7 and so on, from 64 on all equal). After
///   [`rebalance`](Self::rebalance) has nothing left to do, all places that are three levels or more above the
///   deepest peers are taken, and below the root no peer without grandchildren is deeper than one of a lower class.
///   That is no bound on the depth. Random mixtures under random joins and departures stay within one of the
///   optimum without any rebalancing; where many weak peers come before the strong ones (2,000 of capacity 1, then
///   200 of 20) the depth lags far behind until there have been enough operations, or a `rebalance`.
/// - A join moves nobody, if all capacities are equal. A departure moves at most f + 2 others, and at most 2 if a leaf
///   departs. With mixed capacities an operation makes up to four further improvements, of at most 2f + 2 moves
///   each, f being the greatest capacity involved.
///
/// # Costs
/// An operation takes O(f + depth) time, unless it has to move a whole subtree to another depth, which it does when
/// the capacities that remain leave nothing else: then it takes the size of that subtree. A peer takes 40 bytes for
/// an 8-byte `P`, with up to an eighth to spare, and 6 to 12 bytes of an index: 50 to 57 in all. Vacant slots are
/// used again but not given back. Chains deeper than 65,535 (fan-out 1) work, but [`depth`](Self::depth) is O(N)
/// there, and [`max_depth`](Self::max_depth) stays at that number.
///
/// ```
/// use suffuse::{Change, TopologyError, Tree};
///
/// let mut changes = Vec::new();
/// let mut tree = Tree::new(0u64, 2)?;
/// for peer in 1..7 {
///     tree.join(peer, &mut changes)?;
/// }
/// assert_eq!(tree.children(0).collect::<Vec<_>>(), [1, 2]);
/// assert_eq!(tree.max_depth(), 2);
///
/// changes.clear();
/// tree.leave(6, &mut changes)?;
/// assert_eq!(changes, [Change::Lost { child: 6, parent: 2 }]);
/// # Ok::<(), TopologyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tree<P> {
    moves: Moves<P>,
    fan_out: u16,
    peers_max: usize,
}

impl<P: PeerId> Tree<P> {
    /// A tree of `root` alone, in which a peer feeds up to `fan_out` others unless said otherwise.
    ///
    /// # Errors
    /// [`TopologyError::ZeroCapacity`] if `fan_out` is zero. Nothing was created.
    pub fn new(root: P, fan_out: u16) -> Result<Self, TopologyError> {
        if fan_out == 0 {
            return Err(TopologyError::ZeroCapacity);
        }
        Ok(Self { moves: Moves::new(root, fan_out), fan_out, peers_max: PEERS_MAX })
    }

    /// The same tree with a limit on the number of peers, the root included; by default there may be 2^32 - 3.
    /// Peers that are there already stay, even if they are more.
    #[must_use]
    pub fn with_peers_max(mut self, peers_max: usize) -> Self {
        self.peers_max = peers_max.min(PEERS_MAX);
        self
    }

    /// The same tree with its index hashed under `hash_key`. O(N).
    ///
    /// The index is a hash table. Where strangers may choose their own `P`, a key that they do not know keeps them
    /// from choosing peers that collide. It has no influence on the shape of the tree.
    #[must_use]
    pub fn with_hash_key(mut self, hash_key: u64) -> Self {
        self.moves.arena.set_hash_key(self.moves.root, hash_key);
        self
    }

    /// Adds a peer with the tree's fan-out as its capacity; see [`join_with_capacity`](Self::join_with_capacity).
    ///
    /// # Errors
    /// [`TopologyError::CapReached`] if there are as many peers as allowed.
    pub fn join(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<Option<P>, TopologyError> {
        self.join_with_capacity(peer, self.fan_out, changes)
    }

    /// Adds a peer that can feed `capacity` others, and returns its parent.
    ///
    /// It takes the shallowest free place, or that of a weaker peer nearer to the root, which moves down. A peer
    /// that is in the tree already stays where it is, with the capacity that it has; its parent is returned, which
    /// is `None` for the root only.
    ///
    /// # Errors
    /// [`TopologyError::CapReached`] if there are as many peers as allowed, or if `capacity` is 0 and no peer has a
    /// free place.
    pub fn join_with_capacity(
        &mut self,
        peer: P,
        capacity: u16,
        changes: &mut Vec<Change<P>>,
    ) -> Result<Option<P>, TopologyError> {
        if self.contains(peer) {
            return Ok(self.parent(peer));
        }
        if self.len() >= self.peers_max {
            return Err(TopologyError::CapReached { max: self.peers_max });
        }
        self.moves.has_place(capacity)?;
        self.moves.join(peer, capacity);
        self.moves.finish(false, changes);
        Ok(self.parent(peer))
    }

    /// Removes a peer. Its children go to a leaf that takes its position, or to free places.
    ///
    /// A departure cannot be refused. If the capacities that remain are too small for the peers that remain, as many
    /// peers of capacity 0 as necessary are put out of the tree, each with a [`Change::Detached`].
    ///
    /// # Errors
    /// [`TopologyError::RootRemoval`] for the root, [`TopologyError::UnknownPeer`] for a stranger.
    pub fn leave(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<(), TopologyError> {
        let slot = self.slot(peer)?;
        if slot == self.moves.root {
            return Err(TopologyError::RootRemoval);
        }
        self.moves.leave(slot);
        self.moves.finish(true, changes);
        Ok(())
    }

    /// Makes `peer` the root. It takes over the old root's children; the old root becomes an ordinary peer. If
    /// `peer` is the root, nothing changes. Peers may be detached as in [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] for a stranger, [`TopologyError::ZeroCapacity`] for a peer of capacity 0.
    pub fn re_root(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<(), TopologyError> {
        let slot = self.slot(peer)?;
        if self.moves.arena.node(slot).capacity == 0 {
            return Err(TopologyError::ZeroCapacity);
        }
        if slot != self.moves.root {
            self.moves.re_root(slot);
            self.moves.finish(true, changes);
        }
        Ok(())
    }

    /// Sets how many others `peer` can feed. Children that exceed it are handed over to others, or the peer gives
    /// its position to another. Peers may be detached as in [`leave`](Self::leave), `peer` itself among them.
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] for a stranger, [`TopologyError::ZeroCapacity`] for 0 at the root.
    pub fn set_capacity(
        &mut self,
        peer: P,
        capacity: u16,
        changes: &mut Vec<Change<P>>,
    ) -> Result<(), TopologyError> {
        let slot = self.slot(peer)?;
        if slot == self.moves.root && capacity == 0 {
            return Err(TopologyError::ZeroCapacity);
        }
        if self.moves.arena.node(slot).capacity != capacity {
            self.moves.set_capacity(slot, capacity);
            self.moves.finish(true, changes);
        }
        Ok(())
    }

    /// Makes up to `steps_max` improvements and returns how many it made: a deep leaf moves to a free place higher
    /// up, or two peers of unequal capacity change places. Only trees of mixed capacities have any use for it, when
    /// an operation has opened more places near the root than it may fill by itself.
    pub fn rebalance(&mut self, steps_max: usize, changes: &mut Vec<Change<P>>) -> usize {
        let steps = (0..steps_max).take_while(|_| self.moves.improve(true)).count();
        self.moves.report(changes);
        steps
    }
}

/// Queries.
impl<P: PeerId> Tree<P> {
    /// The peer that feeds the others.
    pub fn root(&self) -> P {
        self.moves.arena.node(self.moves.root).peer
    }

    /// Who feeds `peer`; `None` for the root and for strangers. O(1).
    pub fn parent(&self, peer: P) -> Option<P> {
        self.ancestors(peer).next()
    }

    /// Whom `peer` feeds, in the order in which they came to it. Nobody for strangers.
    pub fn children(&self, peer: P) -> impl Iterator<Item = P> + '_ {
        let arena = &self.moves.arena;
        arena.find(peer).into_iter().flat_map(|slot| arena.children(slot)).map(|slot| arena.node(slot).peer)
    }

    /// How many `peer` feeds. O(1).
    pub fn child_count(&self, peer: P) -> Option<u16> {
        Some(self.node(peer)?.children)
    }

    /// How many `peer` can feed. O(1).
    pub fn capacity(&self, peer: P) -> Option<u16> {
        Some(self.node(peer)?.capacity)
    }

    /// How many links lie between the root and `peer`. O(1).
    pub fn depth(&self, peer: P) -> Option<usize> {
        Some(self.moves.arena.depth(self.moves.arena.find(peer)?))
    }

    /// The greatest depth of a peer. O(1).
    pub fn max_depth(&self) -> usize {
        self.moves.arena.level_count() - 1
    }

    /// `peer` and everybody whom it feeds directly or through others, parents before their children. Nobody for
    /// strangers. O(1) per step on average, without allocation.
    pub fn subtree(&self, peer: P) -> impl Iterator<Item = P> + '_ {
        let arena = &self.moves.arena;
        arena.find(peer).into_iter().flat_map(|slot| arena.subtree(slot)).map(|slot| arena.node(slot).peer)
    }

    /// How many peers [`subtree`](Self::subtree) has; 0 for strangers. O(its size).
    pub fn subtree_len(&self, peer: P) -> usize {
        self.subtree(peer).count()
    }

    /// The parent of `peer`, the parent's parent, and so on up to the root. Nobody for the root and for strangers.
    pub fn ancestors(&self, peer: P) -> impl Iterator<Item = P> + '_ {
        let arena = &self.moves.arena;
        arena.find(peer).into_iter().flat_map(|slot| arena.ancestors(slot)).map(|slot| arena.node(slot).peer)
    }

    /// Whether `ancestor` feeds `peer`, directly or through others. Nobody is its own ancestor. O(depth).
    pub fn is_ancestor(&self, ancestor: P, peer: P) -> bool {
        self.ancestors(peer).any(|above| above == ancestor)
    }

    /// Everybody, parents before their children.
    pub fn iter(&self) -> impl Iterator<Item = P> + '_ {
        self.subtree(self.root())
    }

    /// Whether `peer` is in the tree. O(1).
    pub fn contains(&self, peer: P) -> bool {
        self.moves.arena.find(peer).is_some()
    }

    /// How many peers there are, with the root.
    #[expect(clippy::len_without_is_empty, reason = "a tree always has its root")]
    pub fn len(&self) -> usize {
        self.moves.arena.len()
    }

    fn node(&self, peer: P) -> Option<&Node<P>> {
        Some(self.moves.arena.node(self.moves.arena.find(peer)?))
    }

    fn slot(&self, peer: P) -> Result<u32, TopologyError> {
        self.moves.arena.find(peer).ok_or(TopologyError::UnknownPeer)
    }
}

/// Two slots are marks.
const PEERS_MAX: usize = NONE as usize - 2;

#[cfg(test)]
mod tests {
    use super::super::replay;
    use super::*;
    use crate::rng::{Rng, Seed};
    use alloc::collections::{BTreeMap, BTreeSet};
    use proptest::prelude::*;

    /// The brute-force model: who is in, with which capacity, and the links that the changes left.
    struct Model {
        capacities: BTreeMap<u32, u16>,
        links: BTreeSet<(u32, u32)>,
        root: u32,
    }

    impl Model {
        fn new(fan_out: u16) -> Self {
            Self { capacities: BTreeMap::from([(0, fan_out)]), links: BTreeSet::new(), root: 0 }
        }

        fn apply(&mut self, changes: &[Change<u32>]) {
            replay::apply(&mut self.links, changes);
            for change in changes {
                match *change {
                    Change::Detached { peer } => {
                        assert_eq!(
                            self.capacities.remove(&peer),
                            Some(0),
                            "{peer} had capacity, yet was put out"
                        );
                    }
                    Change::Root { peer } => self.root = peer,
                    _ => {}
                }
            }
        }

        fn places(&self) -> u64 {
            self.capacities.values().map(|&capacity| u64::from(capacity)).sum::<u64>() + 1
        }

        /// The depth of the best tree: higher capacities first.
        fn optimum(&self) -> usize {
            let mut others: Vec<u64> =
                self.capacities.iter().filter(|c| *c.0 != self.root).map(|c| u64::from(*c.1)).collect();
            others.sort_by_key(|&capacity| core::cmp::Reverse(capacity));
            let (mut depth, mut places) = (0, u64::from(self.capacities[&self.root]));
            let mut others = others.as_slice();
            while !others.is_empty() {
                let (level, rest) = others.split_at(others.len().min(places as usize));
                (depth, places, others) = (depth + 1, level.iter().sum(), rest);
            }
            depth
        }

        /// Everything that must always hold, compared with the naive child to parent map.
        fn check(&self, tree: &Tree<u32>) {
            assert_eq!(tree.len(), self.capacities.len());
            assert_eq!(tree.root(), self.root);
            let parents: BTreeMap<u32, u32> = self.links.iter().copied().collect();
            assert_eq!(parents.len(), self.links.len(), "two parents");
            assert_eq!(parents.len() + 1, self.capacities.len(), "somebody has no parent");
            let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
            let (mut deepest, mut linked) = (0, 0);
            for (&peer, &capacity) in &self.capacities {
                assert_eq!(tree.parent(peer), parents.get(&peer).copied());
                assert_eq!(tree.capacity(peer), Some(capacity));
                let above = core::iter::successors(parents.get(&peer), |peer| parents.get(peer));
                let path: Vec<u32> = above.copied().take(self.capacities.len()).collect();
                assert!(peer == self.root || path.last() == Some(&self.root), "{peer} hangs loose: {path:?}");
                assert!(tree.ancestors(peer).eq(path.iter().copied()));
                assert_eq!(tree.depth(peer), Some(path.len()));
                deepest = deepest.max(path.len());
                for above in path.iter().chain([&peer]) {
                    *sizes.entry(*above).or_default() += 1;
                }
                let other = self.pick(peer.wrapping_mul(7));
                assert_eq!(tree.is_ancestor(other, peer), path.contains(&other));
                // Everybody has one parent, so the children of all cannot be fewer than the links.
                let children: BTreeSet<u32> = tree.children(peer).collect();
                assert!(children.iter().all(|child| parents.get(child) == Some(&peer)));
                linked += children.len();
                assert!(children.len() <= usize::from(capacity), "{peer} feeds more than {capacity}");
                assert_eq!(tree.child_count(peer), Some(children.len() as u16));
            }
            assert_eq!(linked, self.links.len());
            for (&peer, &size) in &sizes {
                assert_eq!(tree.subtree_len(peer), size);
            }
            assert_eq!(tree.max_depth(), deepest);
            tree.moves.arena.check(tree.moves.root);
            assert_eq!(tree.iter().collect::<BTreeSet<_>>(), self.capacities.keys().copied().collect());
        }

        /// Runs one step on both; returns the changes.
        fn step(
            &mut self,
            tree: &mut Tree<u32>,
            step: Step,
            capacity_of: impl Fn(u16) -> u16,
        ) -> Vec<Change<u32>> {
            let mut changes = Vec::new();
            match step {
                Step::Join(peer, capacity) => {
                    let capacity = capacity_of(capacity);
                    let known = self.capacities.contains_key(&peer);
                    let room = capacity > 0 || self.places() > self.capacities.len() as u64;
                    let joined = tree.join_with_capacity(peer, capacity, &mut changes);
                    assert_eq!(joined.is_ok(), known || room, "{joined:?}");
                    if !known && room {
                        self.capacities.insert(peer, capacity);
                    } else {
                        assert!(changes.is_empty());
                    }
                }
                Step::Leave(pick) => {
                    let peer = self.pick(pick);
                    let left = tree.leave(peer, &mut changes);
                    if peer == self.root {
                        assert_eq!(left, Err(TopologyError::RootRemoval));
                    } else {
                        assert_eq!(left, Ok(()));
                        self.capacities.remove(&peer);
                    }
                }
                Step::ReRoot(pick) => {
                    let peer = self.pick(pick);
                    let done = tree.re_root(peer, &mut changes);
                    assert_eq!(done.is_ok(), self.capacities[&peer] > 0);
                }
                Step::SetCapacity(pick, capacity) => {
                    let (peer, capacity) = (self.pick(pick), capacity_of(capacity));
                    let done = tree.set_capacity(peer, capacity, &mut changes);
                    assert_eq!(done.is_ok(), capacity > 0 || peer != self.root);
                    if done.is_ok() {
                        self.capacities.insert(peer, capacity);
                    }
                }
            }
            // What is put out must be needed: the places of all that stay are taken then.
            let put_out = changes.iter().any(|change| matches!(change, Change::Detached { .. }));
            self.apply(&changes);
            assert!(!put_out || self.places() == self.capacities.len() as u64, "put out without need");
            changes
        }

        fn pick(&self, pick: u32) -> u32 {
            *self.capacities.keys().nth(pick as usize % self.capacities.len()).unwrap()
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Join(u32, u16),
        Leave(u32),
        ReRoot(u32),
        SetCapacity(u32, u16),
    }

    fn steps(joins: u32, leaves: u32) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            joins => (0u32..300, any::<u16>()).prop_map(|(peer, capacity)| Step::Join(peer, capacity)),
            leaves => any::<u32>().prop_map(Step::Leave),
            1 => any::<u32>().prop_map(Step::ReRoot),
            2 => (any::<u32>(), any::<u16>()).prop_map(|(pick, capacity)| Step::SetCapacity(pick, capacity)),
        ];
        // A run of joins first, so that there is a tree of some depth to take apart.
        let grown = prop::collection::vec((300u32..600, any::<u16>()), 0..120);
        (grown, prop::collection::vec(step, 0..150)).prop_map(|(grown, steps)| {
            let joins = grown.into_iter().map(|(peer, capacity)| Step::Join(peer, capacity));
            joins.chain(steps).collect()
        })
    }

    fn moved(changes: &[Change<u32>]) -> usize {
        let losses: BTreeSet<u32> = changes
            .iter()
            .filter_map(|change| if let Change::Lost { child, .. } = change { Some(*child) } else { None })
            .collect();
        let gains =
            changes.iter().filter(|c| matches!(c, Change::Gained { child, .. } if losses.contains(child)));
        gains.count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_uniform_tree_stays_within_one_of_the_optimum(
            fan_out in 1u16..7,
            steps in prop_oneof![steps(4, 4), steps(1, 8)],
        ) {
            let mut tree = Tree::new(0, fan_out).unwrap();
            let mut model = Model::new(fan_out);
            for step in steps {
                let changes = model.step(&mut tree, step, |_| fan_out);
                model.check(&tree);
                prop_assert!(tree.max_depth() <= model.optimum() + 1);
                match step {
                    Step::Join(..) => prop_assert_eq!(moved(&changes), 0),
                    Step::Leave(_) => prop_assert!(moved(&changes) <= usize::from(fan_out) + 2),
                    _ => {}
                }
            }
        }

        #[test]
        fn relays_and_leaves_stay_within_one_of_the_optimum(
            fan_out in 1u16..7,
            root_capacity in prop::option::of(1u16..12),
            relays_in_eight in 1u16..8,
            steps in prop_oneof![steps(4, 4), steps(1, 8)],
        ) {
            let mut tree = Tree::new(0, root_capacity.unwrap_or(fan_out)).unwrap();
            let mut model = Model::new(root_capacity.unwrap_or(fan_out));
            for step in steps {
                // A root unlike the others has to stay the root.
                let on_root = match step {
                    Step::ReRoot(_) => true,
                    Step::SetCapacity(pick, _) => model.pick(pick) == model.root,
                    _ => false,
                };
                if root_capacity.is_some() && on_root {
                    continue;
                }
                model.step(&mut tree, step, |capacity| if capacity % 8 < relays_in_eight { fan_out } else { 0 });
                model.check(&tree);
                prop_assert!(tree.max_depth() <= model.optimum() + 1);
            }
        }

        #[test]
        fn a_mixed_tree_keeps_capacities_and_can_be_put_in_order(
            steps in prop_oneof![steps(4, 4), steps(1, 8)],
            most in 1u16..20,
        ) {
            let mut tree = Tree::new(0, 2).unwrap();
            let mut model = Model::new(2);
            for step in steps {
                model.step(&mut tree, step, |capacity| capacity % (most + 1));
                model.check(&tree);
            }
            let mut changes = Vec::new();
            tree.rebalance(usize::MAX, &mut changes);
            model.apply(&changes);
            model.check(&tree);
            prop_assert_eq!(tree.rebalance(1, &mut changes), 0);
            let deepest = tree.max_depth();
            for peer in tree.iter() {
                let (depth, class) = (tree.depth(peer).unwrap(), super::super::arena::class(tree.capacity(peer).unwrap()));
                prop_assert!(depth + 3 > deepest || tree.child_count(peer) == tree.capacity(peer));
                for below in tree.iter().filter(|&below| tree.depth(below) > Some(depth) && peer != tree.root()) {
                    let has_grandchildren = tree.children(below).any(|child| tree.child_count(child) > Some(0));
                    let stronger = super::super::arena::class(tree.capacity(below).unwrap()) > class;
                    prop_assert!(!stronger || has_grandchildren, "{} is weaker than {} below it", peer, below);
                }
            }
        }

        #[test]
        fn equal_operations_give_equal_trees_whatever_the_hash_key(steps in steps(4, 3), key: u64) {
            let mut one = Tree::new(0, 3).unwrap();
            let mut two = Tree::new(0, 3).unwrap().with_hash_key(key);
            let (mut model, mut again) = (Model::new(3), Model::new(3));
            for step in steps {
                let changes = model.step(&mut one, step, |capacity| capacity % 5);
                prop_assert_eq!(changes, again.step(&mut two, step, |capacity| capacity % 5));
            }
            prop_assert!(one.iter().eq(two.iter()));
        }
    }

    #[test]
    fn seven_nodes_of_fan_out_two_have_two_children_at_the_root() {
        let mut changes = Vec::new();
        let mut tree = Tree::new(0u64, 2).unwrap();
        for peer in 1..7 {
            assert!(tree.join(peer, &mut changes).unwrap().is_some());
        }
        assert_eq!(tree.children(0).count(), 2);
        assert_eq!(tree.max_depth(), 2);
        assert_eq!(tree.subtree_len(1), 3);
    }

    #[test]
    fn bad_input_changes_nothing() {
        assert!(matches!(Tree::new(0u64, 0), Err(TopologyError::ZeroCapacity)));
        let mut changes = Vec::new();
        let mut tree = Tree::new(0u64, 1).unwrap().with_peers_max(3);
        tree.join_with_capacity(1, 0, &mut changes).unwrap();
        changes.clear();
        assert_eq!(tree.join(1, &mut changes), Ok(Some(0)));
        assert_eq!(tree.join(0, &mut changes), Ok(None));
        assert_eq!(tree.join_with_capacity(2, 0, &mut changes), Err(TopologyError::CapReached { max: 2 }));
        assert_eq!(tree.leave(0, &mut changes), Err(TopologyError::RootRemoval));
        assert_eq!(tree.leave(9, &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(tree.re_root(9, &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(tree.re_root(1, &mut changes), Err(TopologyError::ZeroCapacity));
        assert_eq!(tree.set_capacity(0, 0, &mut changes), Err(TopologyError::ZeroCapacity));
        assert_eq!(tree.set_capacity(9, 1, &mut changes), Err(TopologyError::UnknownPeer));
        assert!(changes.is_empty());
        assert_eq!((tree.parent(1), tree.capacity(1), tree.len()), (Some(0), Some(0), 2));

        tree.join(2, &mut changes).unwrap();
        assert_eq!(tree.parent(1), Some(2), "a relay takes the place of a leaf");
        changes.clear();
        assert_eq!(tree.join(3, &mut changes), Err(TopologyError::CapReached { max: 3 }));
        assert!(changes.is_empty());
    }

    #[test]
    fn a_departure_that_leaves_too_few_places_detaches_leaves() {
        let mut changes = Vec::new();
        let mut tree = Tree::new(0u64, 1).unwrap();
        tree.join_with_capacity(1, 3, &mut changes).unwrap();
        for leaf in 2..5 {
            tree.join_with_capacity(leaf, 0, &mut changes).unwrap();
        }
        changes.clear();
        tree.leave(1, &mut changes).unwrap();
        let detached = changes.iter().filter(|change| matches!(change, Change::Detached { .. })).count();
        assert_eq!((detached, tree.len()), (2, 2));
    }

    #[test]
    fn random_mixtures_stay_within_one_of_the_optimum() {
        let mixtures: [fn(u64) -> u16; 4] = [
            |drawn| (drawn % 9) as u16,
            |drawn| if drawn % 10 == 0 { 20 } else { 1 },
            |drawn| [0, 0, 0, 0, 1, 1, 3, 16][(drawn % 8) as usize],
            |drawn| (1 << (drawn | 1 << 8).trailing_zeros()) / 2,
        ];
        for mixture in mixtures {
            let mut rng = Rng::new(Seed::from_u64(5));
            let mut tree = Tree::new(0, 5).unwrap();
            let mut model = Model::new(5);
            for count in 0..6_000 {
                let join = count < 1_000 || rng.below(2) == 0;
                let step = if join {
                    Step::Join(count, mixture(rng.next_u64()))
                } else {
                    Step::Leave(rng.next_u64() as u32)
                };
                model.step(&mut tree, step, |capacity| capacity);
                if count % 50 == 0 {
                    assert!(tree.max_depth() <= model.optimum() + 1);
                }
            }
            model.check(&tree);
        }
    }

    #[test]
    fn nobody_is_put_out_while_there_is_a_place() {
        let mut rng = Rng::new(Seed::from_u64(6));
        let mut detached = 0;
        for _ in 0..400 {
            let (mut tree, mut model) = (Tree::new(0, 3).unwrap(), Model::new(3));
            for count in 1..150 {
                let step = match rng.below(8) {
                    0 => Step::Leave(rng.next_u64() as u32),
                    1 => Step::SetCapacity(rng.next_u64() as u32, rng.next_u64() as u16),
                    2 => Step::ReRoot(rng.next_u64() as u32),
                    _ => Step::Join(count, rng.next_u64() as u16),
                };
                // The model panics if somebody is put out without need.
                let changes =
                    model.step(&mut tree, step, |drawn| [0, 0, 0, 0, 1, 2, 4, 5][usize::from(drawn % 8)]);
                detached += changes.iter().filter(|change| matches!(change, Change::Detached { .. })).count();
            }
            model.check(&tree);
        }
        assert!(detached > 100, "only {detached} were put out");
    }

    #[test]
    fn a_chain_works() {
        let mut changes = Vec::new();
        let mut tree = Tree::new(0u32, 1).unwrap();
        for peer in 1..70_000 {
            tree.join(peer, &mut changes).unwrap();
        }
        assert_eq!(tree.depth(69_999), Some(69_999));
        for peer in (1..70_000).step_by(7) {
            changes.clear();
            tree.leave(peer, &mut changes).unwrap();
        }
        assert_eq!(tree.len(), 60_000);
        assert_eq!(tree.max_depth(), 59_999);
    }
}
