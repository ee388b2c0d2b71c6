//! Any links at all, with weights.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::{Change, TopologyError};
use crate::id::PeerId;

/// A directed link from one peer to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Edge {
    /// How long a message takes.
    pub latency: Duration,
    /// How much it carries, in bytes per second; at least 1.
    pub capacity_bytes_per_s: u64,
    /// Whether it is in use. Paths and reachability go over active edges only, and only they are in the
    /// [`Change`]s.
    pub active: bool,
}

/// A way through a [`Graph`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route<P> {
    /// The peers on it, both ends included; one peer if it leads nowhere.
    pub peers: Vec<P>,
    /// The sum of the latencies; saturates.
    pub latency: Duration,
    /// The least capacity of its edges, in bytes per second; `u64::MAX` if it has none.
    pub capacity_bytes_per_s: u64,
}

/// A directed graph with weighted edges, at most one from a peer to another.
///
/// ```
/// use core::time::Duration;
/// use suffuse::{Edge, Graph, TopologyError};
///
/// let edge = |ms, capacity_bytes_per_s| Edge { latency: Duration::from_millis(ms), capacity_bytes_per_s, active: true };
/// let mut changes = Vec::new();
/// let mut graph = Graph::new(10, 4)?;
/// for peer in ["a", "b", "c"] {
///     graph.add_peer(peer)?;
/// }
/// graph.connect("a", "c", edge(50, 1_000), &mut changes)?;
/// graph.connect("a", "b", edge(10, 500), &mut changes)?;
/// graph.connect("b", "c", edge(10, 500), &mut changes)?;
/// assert_eq!(graph.fastest_path("a", "c")?.unwrap().peers, ["a", "b", "c"]);
/// assert_eq!(graph.widest_path("a", "c")?.unwrap().peers, ["a", "c"]);
/// # Ok::<(), TopologyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Graph<P> {
    nodes: BTreeMap<P, Links<P>>,
    peers_max: usize,
    edges_per_peer_max: usize,
    edges: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Links<P> {
    out: BTreeMap<P, Edge>,
    into: BTreeSet<P>,
}

impl<P: PeerId> Graph<P> {
    /// An empty graph of up to `peers_max` peers, each with up to `edges_per_peer_max` edges out and as many in.
    ///
    /// # Errors
    /// [`TopologyError::ZeroCapacity`] if a limit is zero.
    pub fn new(peers_max: usize, edges_per_peer_max: usize) -> Result<Self, TopologyError> {
        if peers_max == 0 || edges_per_peer_max == 0 {
            return Err(TopologyError::ZeroCapacity);
        }
        Ok(Self { nodes: BTreeMap::new(), peers_max, edges_per_peer_max, edges: 0 })
    }

    /// Adds a peer without edges; false if it is there already, with its edges as they are. O(log N).
    ///
    /// # Errors
    /// [`TopologyError::CapReached`] if there are as many peers as allowed.
    pub fn add_peer(&mut self, peer: P) -> Result<bool, TopologyError> {
        if self.contains(peer) {
            return Ok(false);
        }
        if self.nodes.len() >= self.peers_max {
            return Err(TopologyError::CapReached { max: self.peers_max });
        }
        self.nodes.insert(peer, Links { out: BTreeMap::new(), into: BTreeSet::new() });
        Ok(true)
    }

    /// Removes a peer and all its edges. O(degree · log N).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] for a stranger.
    pub fn remove_peer(&mut self, peer: P, changes: &mut Vec<Change<P>>) -> Result<(), TopologyError> {
        let links = self.nodes.remove(&peer).ok_or(TopologyError::UnknownPeer)?;
        self.edges -= links.out.len() + links.into.len();
        let first = changes.len();
        for (&child, edge) in &links.out {
            if let Some(node) = self.nodes.get_mut(&child) {
                node.into.remove(&peer);
            }
            if edge.active {
                changes.push(Change::Lost { child, parent: peer });
            }
        }
        for &parent in &links.into {
            let edge = self.nodes.get_mut(&parent).and_then(|node| node.out.remove(&peer));
            if edge.is_some_and(|edge| edge.active) {
                changes.push(Change::Lost { child: peer, parent });
            }
        }
        changes[first..].sort_unstable();
        Ok(())
    }

    /// Sets the edge from one peer to another, and returns the one that it replaces, if there was one. O(log N).
    ///
    /// # Errors
    /// [`TopologyError::SelfEdge`] if both are one peer, [`TopologyError::ZeroCapacity`] for an edge that carries
    /// nothing, [`TopologyError::UnknownPeer`] if one is a stranger, [`TopologyError::CapReached`] if `from` has as
    /// many edges out, or `to` as many in, as allowed.
    pub fn connect(
        &mut self,
        from: P,
        to: P,
        edge: Edge,
        changes: &mut Vec<Change<P>>,
    ) -> Result<Option<Edge>, TopologyError> {
        if from == to {
            return Err(TopologyError::SelfEdge);
        }
        if edge.capacity_bytes_per_s == 0 {
            return Err(TopologyError::ZeroCapacity);
        }
        let max = self.edges_per_peer_max;
        let in_degree = self.links(to)?.into.len();
        let links = self.nodes.get_mut(&from).ok_or(TopologyError::UnknownPeer)?;
        if !links.out.contains_key(&to) && (links.out.len() >= max || in_degree >= max) {
            return Err(TopologyError::CapReached { max });
        }
        let before = links.out.insert(to, edge);
        if before.is_none() {
            self.edges += 1;
            self.nodes.entry(to).and_modify(|node| {
                node.into.insert(from);
            });
        }
        report(from, to, before.is_some_and(|edge| edge.active), edge.active, changes);
        Ok(before)
    }

    /// Removes the edge from one peer to another, and returns it. O(log N).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] if one is a stranger, [`TopologyError::UnknownEdge`] if there is none.
    pub fn disconnect(
        &mut self,
        from: P,
        to: P,
        changes: &mut Vec<Change<P>>,
    ) -> Result<Edge, TopologyError> {
        self.links(to)?;
        let links = self.nodes.get_mut(&from).ok_or(TopologyError::UnknownPeer)?;
        let edge = links.out.remove(&to).ok_or(TopologyError::UnknownEdge)?;
        self.nodes.entry(to).and_modify(|node| {
            node.into.remove(&from);
        });
        self.edges -= 1;
        report(from, to, edge.active, false, changes);
        Ok(edge)
    }

    /// Takes an edge into use, or out of it, and returns what it was before. O(log N).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] if one is a stranger, [`TopologyError::UnknownEdge`] if there is none.
    pub fn set_active(
        &mut self,
        from: P,
        to: P,
        active: bool,
        changes: &mut Vec<Change<P>>,
    ) -> Result<bool, TopologyError> {
        self.links(to)?;
        let links = self.nodes.get_mut(&from).ok_or(TopologyError::UnknownPeer)?;
        let edge = links.out.get_mut(&to).ok_or(TopologyError::UnknownEdge)?;
        let before = core::mem::replace(&mut edge.active, active);
        report(from, to, before, active, changes);
        Ok(before)
    }
}

/// Queries.
impl<P: PeerId> Graph<P> {
    /// The peers in ascending order.
    pub fn peers(&self) -> impl DoubleEndedIterator<Item = P> + ExactSizeIterator + '_ {
        self.nodes.keys().copied()
    }

    /// Whether `peer` is in the graph. O(log N).
    pub fn contains(&self, peer: P) -> bool {
        self.nodes.contains_key(&peer)
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no peers.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many edges there are, active or not.
    pub fn edge_count(&self) -> usize {
        self.edges
    }

    /// The edge from one peer to another. O(log N).
    pub fn edge(&self, from: P, to: P) -> Option<Edge> {
        self.nodes.get(&from)?.out.get(&to).copied()
    }

    /// The peers that `peer` has edges to, active or not, in ascending order. Nobody for strangers.
    pub fn downstream(&self, peer: P) -> impl Iterator<Item = (P, Edge)> + '_ {
        self.nodes.get(&peer).into_iter().flat_map(|links| &links.out).map(|(&to, &edge)| (to, edge))
    }

    /// The peers that have edges to `peer`, active or not, in ascending order. Nobody for strangers.
    pub fn upstream(&self, peer: P) -> impl Iterator<Item = (P, Edge)> + '_ {
        let sources = self.nodes.get(&peer).into_iter().flat_map(|links| &links.into);
        sources.filter_map(move |&from| Some((from, self.edge(from, peer)?)))
    }

    /// Everybody whom `from` reaches over active edges, itself included, in ascending order.
    /// O((N + E) · log N).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] for a stranger.
    pub fn reachable(&self, from: P) -> Result<BTreeSet<P>, TopologyError> {
        self.links(from)?;
        let mut reached = BTreeSet::from([from]);
        let mut open = Vec::from([from]);
        while let Some(peer) = open.pop() {
            open.extend(self.active(peer).map(|(to, _)| to).filter(|&to| reached.insert(to)));
        }
        Ok(reached)
    }

    /// The way over active edges with the least latency, and among those one with the fewest edges; `None` if there
    /// is none. Of equal ways always the same one is found. O((N + E) · log N).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] if one is a stranger.
    pub fn fastest_path(&self, from: P, to: P) -> Result<Option<Route<P>>, TopologyError> {
        self.fastest_path_of_width(from, to, 0)
    }

    /// The way over active edges whose narrowest edge carries the most, and among those the fastest one; `None` if
    /// there is none. Of equal ways always the same one is found. O((N + E) · log N).
    ///
    /// # Errors
    /// [`TopologyError::UnknownPeer`] if one is a stranger.
    pub fn widest_path(&self, from: P, to: P) -> Result<Option<Route<P>>, TopologyError> {
        self.links(from)?;
        self.links(to)?;
        match self.greatest_width(from, to) {
            Some(width) => self.fastest_path_of_width(from, to, width),
            None => Ok(None),
        }
    }

    /// Dijkstra's search over edges that carry at least `width`.
    fn fastest_path_of_width(&self, from: P, to: P, width: u64) -> Result<Option<Route<P>>, TopologyError> {
        self.links(from)?;
        self.links(to)?;
        // Counting edges too makes the cost rise with each step, also over edges of no latency, so that following
        // `before` ends.
        let mut best = BTreeMap::from([(from, ((Duration::ZERO, 0u32), from))]);
        let mut open = BinaryHeap::from([Reverse((Duration::ZERO, 0u32, from))]);
        while let Some(Reverse((latency, hops, peer))) = open.pop() {
            if peer == to {
                break;
            }
            if best.get(&peer).is_some_and(|&(cost, _)| cost < (latency, hops)) {
                continue;
            }
            for (next, edge) in self.active(peer).filter(|(_, edge)| edge.capacity_bytes_per_s >= width) {
                let cost = (latency.saturating_add(edge.latency), hops + 1);
                let known = best.get(&next).copied();
                if known.is_none_or(|known| (cost, peer) < known) {
                    best.insert(next, (cost, peer));
                }
                if known.is_none_or(|(known, _)| cost < known) {
                    open.push(Reverse((cost.0, cost.1, next)));
                }
            }
        }
        let Some(&((latency, _), _)) = best.get(&to) else { return Ok(None) };
        let mut peers = Vec::from([to]);
        let mut capacity_bytes_per_s = u64::MAX;
        let mut at = to;
        while at != from {
            let before = best[&at].1;
            let edge_capacity = self.edge(before, at).map_or(0, |edge| edge.capacity_bytes_per_s);
            capacity_bytes_per_s = capacity_bytes_per_s.min(edge_capacity);
            peers.push(before);
            at = before;
        }
        peers.reverse();
        Ok(Some(Route { peers, latency, capacity_bytes_per_s }))
    }

    fn greatest_width(&self, from: P, to: P) -> Option<u64> {
        let mut best = BTreeMap::from([(from, u64::MAX)]);
        let mut open = BinaryHeap::from([(u64::MAX, from)]);
        while let Some((width, peer)) = open.pop() {
            if peer == to {
                return Some(width);
            }
            for (next, edge) in self.active(peer) {
                let width = width.min(edge.capacity_bytes_per_s);
                if best.get(&next).is_none_or(|&known| known < width) {
                    best.insert(next, width);
                    open.push((width, next));
                }
            }
        }
        None
    }

    fn active(&self, peer: P) -> impl Iterator<Item = (P, Edge)> + '_ {
        self.downstream(peer).filter(|(_, edge)| edge.active)
    }

    fn links(&self, peer: P) -> Result<&Links<P>, TopologyError> {
        self.nodes.get(&peer).ok_or(TopologyError::UnknownPeer)
    }
}

fn report<P>(parent: P, child: P, before: bool, after: bool, changes: &mut Vec<Change<P>>) {
    match (before, after) {
        (true, false) => changes.push(Change::Lost { child, parent }),
        (false, true) => changes.push(Change::Gained { child, parent }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay;
    use super::*;
    use proptest::prelude::*;

    fn edge(latency_ms: u64, capacity_bytes_per_s: u64) -> Edge {
        Edge { latency: Duration::from_millis(latency_ms), capacity_bytes_per_s, active: true }
    }

    #[test]
    fn bad_input_changes_nothing() {
        assert_eq!(Graph::<u8>::new(0, 1), Err(TopologyError::ZeroCapacity));
        assert_eq!(Graph::<u8>::new(1, 0), Err(TopologyError::ZeroCapacity));
        let mut changes = Vec::new();
        let mut graph = Graph::new(4, 2).unwrap();
        for peer in 0..4 {
            assert_eq!(graph.add_peer(peer), Ok(true));
        }
        graph.connect(0, 1, edge(1, 1), &mut changes).unwrap();
        graph.connect(0, 2, edge(1, 1), &mut changes).unwrap();
        graph.connect(3, 1, edge(1, 1), &mut changes).unwrap();
        changes.clear();
        let before = graph.clone();
        assert_eq!(graph.add_peer(0), Ok(false));
        assert_eq!(graph.add_peer(4), Err(TopologyError::CapReached { max: 4 }));
        assert_eq!(graph.connect(1, 1, edge(1, 1), &mut changes), Err(TopologyError::SelfEdge));
        assert_eq!(graph.connect(1, 2, edge(1, 0), &mut changes), Err(TopologyError::ZeroCapacity));
        assert_eq!(graph.connect(0, 9, edge(1, 1), &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(graph.connect(9, 0, edge(1, 1), &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(graph.connect(0, 3, edge(1, 1), &mut changes), Err(TopologyError::CapReached { max: 2 }));
        assert_eq!(graph.connect(2, 1, edge(1, 1), &mut changes), Err(TopologyError::CapReached { max: 2 }));
        assert_eq!(graph.connect(0, 1, edge(1, 1), &mut changes), Ok(Some(edge(1, 1))));
        assert_eq!(graph.disconnect(1, 0, &mut changes), Err(TopologyError::UnknownEdge));
        assert_eq!(graph.disconnect(1, 9, &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(graph.set_active(1, 0, true, &mut changes), Err(TopologyError::UnknownEdge));
        assert_eq!(graph.set_active(9, 0, true, &mut changes), Err(TopologyError::UnknownPeer));
        assert_eq!(graph.remove_peer(9, &mut changes), Err(TopologyError::UnknownPeer));
        assert!(
            graph.reachable(9).is_err()
                && graph.fastest_path(0, 9).is_err()
                && graph.widest_path(9, 0).is_err()
        );
        assert_eq!(graph, before);
        assert!(changes.is_empty());
    }

    #[test]
    fn a_second_edge_replaces_the_first() {
        let mut changes = Vec::new();
        let mut graph = Graph::new(2, 1).unwrap();
        graph.add_peer(1).unwrap();
        graph.add_peer(2).unwrap();
        assert_eq!(graph.connect(1, 2, edge(5, 5), &mut changes), Ok(None));
        assert_eq!(graph.connect(1, 2, edge(7, 9), &mut changes), Ok(Some(edge(5, 5))));
        assert_eq!(graph.edge_count(), 1);
        assert_eq!(graph.downstream(1).collect::<Vec<_>>(), [(2, edge(7, 9))]);
        assert_eq!(graph.upstream(2).collect::<Vec<_>>(), [(1, edge(7, 9))]);
        assert_eq!(changes.len(), 1);
        assert_eq!(graph.fastest_path(1, 1).unwrap().unwrap().peers, [1]);
    }

    type Naive = BTreeMap<(u8, u8), Edge>;

    /// Every simple way from one peer to another: (latency, edges, width, peers).
    fn all_paths(edges: &Naive, from: u8, to: u8) -> Vec<(Duration, usize, u64, Vec<u8>)> {
        let (mut found, mut open) = (Vec::new(), Vec::from([(Duration::ZERO, u64::MAX, Vec::from([from]))]));
        while let Some((latency, width, peers)) = open.pop() {
            let last = peers[peers.len() - 1];
            if last == to {
                found.push((latency, peers.len() - 1, width, peers));
                continue;
            }
            for (&(_, next), edge) in edges.iter().filter(|(link, edge)| link.0 == last && edge.active) {
                if !peers.contains(&next) {
                    let mut longer = peers.clone();
                    longer.push(next);
                    open.push((latency + edge.latency, width.min(edge.capacity_bytes_per_s), longer));
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_edges(
            steps in prop::collection::vec((0u8..8, 0u8..7, 0u8..7, 0u64..4, 1u64..5, any::<bool>()), 1..80),
        ) {
            let mut graph = Graph::new(6, 4).unwrap();
            let (mut peers, mut edges, mut links) = (BTreeSet::new(), Naive::new(), BTreeSet::new());
            for peer in 0..6u8 {
                graph.add_peer(peer).unwrap();
                peers.insert(peer);
            }
            for (step, from, to, latency, capacity, active) in steps {
                let mut changes = Vec::new();
                match step {
                    0 => {
                        prop_assert_eq!(graph.remove_peer(from, &mut changes).is_ok(), peers.remove(&from));
                        edges.retain(|link, _| link.0 != from && link.1 != from);
                    }
                    1 => {
                        let fits = peers.contains(&from) || peers.len() < 6;
                        prop_assert_eq!(graph.add_peer(from).is_ok(), fits);
                        if fits {
                            peers.insert(from);
                        }
                    }
                    2 => {
                        let known = edges.remove(&(from, to));
                        prop_assert_eq!(graph.disconnect(from, to, &mut changes).ok(), known);
                    }
                    3 => {
                        let done = graph.set_active(from, to, active, &mut changes);
                        prop_assert_eq!(done.ok(), edges.get(&(from, to)).map(|edge| edge.active));
                        edges.entry((from, to)).and_modify(|edge| edge.active = active);
                    }
                    _ => {
                        let edge = Edge { active, ..edge(latency, capacity) };
                        let full = edges.keys().filter(|link| link.0 == from).count() == 4
                            || edges.keys().filter(|link| link.1 == to).count() == 4;
                        let known = edges.contains_key(&(from, to));
                        let good = from != to && peers.contains(&from) && peers.contains(&to) && (known || !full);
                        let done = graph.connect(from, to, edge, &mut changes);
                        prop_assert_eq!(done.is_ok(), good);
                        if good {
                            prop_assert_eq!(done, Ok(edges.insert((from, to), edge)));
                        }
                    }
                }
                replay::apply(&mut links, &changes);
                let active = edges.iter().filter(|(_, edge)| edge.active).map(|(&(from, to), _)| (to, from));
                prop_assert_eq!(&links, &active.collect());
                prop_assert_eq!(graph.edge_count(), edges.len());
                prop_assert!(graph.peers().eq(peers.iter().copied()));
                for peer in 0..7 {
                    let out: Vec<_> = edges.iter().filter(|e| e.0.0 == peer).map(|e| (e.0.1, *e.1)).collect();
                    let into: Vec<_> = edges.iter().filter(|e| e.0.1 == peer).map(|e| (e.0.0, *e.1)).collect();
                    prop_assert_eq!(graph.downstream(peer).collect::<Vec<_>>(), out);
                    prop_assert_eq!(graph.upstream(peer).collect::<Vec<_>>(), into);
                }
            }
            for &from in &peers {
                let mut reached = BTreeSet::new();
                for &to in &peers {
                    let paths = all_paths(&edges, from, to);
                    let fastest = graph.fastest_path(from, to).unwrap();
                    let widest = graph.widest_path(from, to).unwrap();
                    prop_assert_eq!(fastest.is_some(), !paths.is_empty());
                    prop_assert_eq!(widest.is_some(), !paths.is_empty());
                    if let (Some(fastest), Some(widest)) = (fastest, widest) {
                        reached.insert(to);
                        let best = paths.iter().map(|path| (path.0, path.1)).min().unwrap();
                        prop_assert_eq!((fastest.latency, fastest.peers.len() - 1), best);
                        let width = paths.iter().map(|path| path.2).max().unwrap();
                        let best = paths.iter().filter(|path| path.2 == width).map(|path| (path.0, path.1)).min();
                        prop_assert_eq!(Some((widest.latency, widest.peers.len() - 1)), best);
                        prop_assert_eq!(widest.capacity_bytes_per_s, width);
                        for path in [fastest, widest] {
                            let found = (path.latency, path.peers.len() - 1, path.capacity_bytes_per_s, path.peers);
                            prop_assert!(paths.contains(&found), "{found:?} is not a way");
                        }
                    }
                }
                prop_assert_eq!(graph.reachable(from).unwrap(), reached);
            }
        }
    }
}
