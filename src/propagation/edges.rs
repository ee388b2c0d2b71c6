//! The links that a decision may use.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::PeerId;
use crate::topology::{Change, Graph, Mesh, Star, Tree};

/// What is known of the link to one peer. Sixteen bytes, so that large tables stay in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EdgeState {
    /// [`UNLIMITED`] if there is no budget.
    budget_bytes: u64,
    /// [`UNKNOWN`] if it was not measured.
    rtt_us: u32,
    active: bool,
}

const UNLIMITED: u64 = u64::MAX;
const UNKNOWN: u32 = u32::MAX;

impl Default for EdgeState {
    fn default() -> Self {
        Self::new()
    }
}

impl EdgeState {
    /// An active link without a budget, whose round-trip time is unknown.
    pub const fn new() -> Self {
        Self { budget_bytes: UNLIMITED, rtt_us: UNKNOWN, active: true }
    }

    /// The same link, in use or not.
    #[must_use]
    pub const fn with_active(self, active: bool) -> Self {
        Self { active, ..self }
    }

    /// The same link with that many bytes left to send; `None` does not limit. 2^64 - 2 at most, more counts as that.
    #[must_use]
    pub fn with_budget_bytes(self, budget_bytes: Option<u64>) -> Self {
        Self { budget_bytes: budget_bytes.map_or(UNLIMITED, |bytes| bytes.min(UNLIMITED - 1)), ..self }
    }

    /// The same link with this round-trip time; `None` if it is unknown. About 71 minutes at most, more counts as that.
    #[must_use]
    pub fn with_rtt(self, rtt: Option<Duration>) -> Self {
        let micros = |rtt: Duration| u32::try_from(rtt.as_micros()).unwrap_or(UNKNOWN).min(UNKNOWN - 1);
        Self { rtt_us: rtt.map_or(UNKNOWN, micros), ..self }
    }

    /// Whether the link is in use.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// The bytes that may still be sent; `None` if nothing limits them.
    pub fn budget_bytes(&self) -> Option<u64> {
        (self.budget_bytes != UNLIMITED).then_some(self.budget_bytes)
    }

    /// The round-trip time, if it is known.
    pub fn rtt(&self) -> Option<Duration> {
        (self.rtt_us != UNKNOWN).then(|| Duration::from_micros(self.rtt_us.into()))
    }

    /// Half of the round-trip time in microseconds; zero if it is unknown.
    #[inline]
    pub(super) const fn one_way_us(&self) -> u64 {
        if self.rtt_us == UNKNOWN { 0 } else { self.rtt_us as u64 / 2 }
    }

    /// Takes `bytes` from the budget; false, and nothing is taken, if there are not as many.
    #[inline]
    pub(super) const fn charge(&mut self, bytes: u64) -> bool {
        if self.budget_bytes < bytes {
            return false;
        }
        if self.budget_bytes != UNLIMITED {
            self.budget_bytes -= bytes;
        }
        true
    }
}

/// The links of one node, as [`Decisions::decide`](super::Decisions::decide) asks for them.
pub trait Edges<P> {
    /// The link to `to`; `None` if there is none. The decision takes accepted bytes from its budget.
    ///
    /// `index` is a small number that the interest map keeps for the peer while the peer has declarations, and may give
    /// to another peer afterwards: a hint for caches, no identity.
    fn edge(&mut self, to: P, index: u32) -> Option<&mut EdgeState>;

    /// Whether every peer has an active link without a budget and without a known round-trip time: then the links are
    /// not looked at one by one.
    #[inline]
    fn is_unrestricted(&self) -> bool {
        false
    }
}

/// Links to everybody, active and without limits: the fastest choice for who leaves budgets to an
/// [`Egress`](crate::Egress).
#[derive(Clone, Copy, Debug, Default)]
pub struct AllEdges {
    edge: EdgeState,
}

impl<P> Edges<P> for AllEdges {
    #[inline]
    fn edge(&mut self, _to: P, _index: u32) -> Option<&mut EdgeState> {
        Some(&mut self.edge)
    }

    #[inline]
    fn is_unrestricted(&self) -> bool {
        true
    }
}

/// A table of links, with budgets and round-trip times. Can follow a topology by its [`Change`]s.
///
/// A decision finds a link in `O(1)` once it has met the peer at its present index; the first time costs `O(log N)`.
///
/// ```
/// use suffuse::propagation::{EdgeState, EdgeTable};
/// use suffuse::Star;
///
/// let (mut changes, mut edges) = (Vec::new(), EdgeTable::new());
/// let mut star = Star::new(0, 10)?;
/// star.join(1, &mut changes)?;
/// edges.apply(0, &changes);
/// assert_eq!(edges.state(1), Some(EdgeState::new()));
/// edges.set(1, EdgeState::new().with_budget_bytes(Some(1_600)));
/// assert_eq!(edges.state(2), None);
/// # Ok::<(), suffuse::TopologyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct EdgeTable<P> {
    places: BTreeMap<P, u32>,
    entries: Vec<(P, EdgeState)>,
    /// The place of the peer that was last met at an index.
    by_index: Vec<u32>,
}

impl<P> Default for EdgeTable<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> EdgeTable<P> {
    /// No links.
    pub const fn new() -> Self {
        Self { places: BTreeMap::new(), entries: Vec::new(), by_index: Vec::new() }
    }

    /// How many links there are, active or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives every link this budget, as at the beginning of a tick; `None` does not limit. `O(N)`.
    pub fn refill(&mut self, budget_bytes: Option<u64>) {
        for (_, state) in &mut self.entries {
            *state = state.with_budget_bytes(budget_bytes);
        }
    }
}

impl<P: PeerId> EdgeTable<P> {
    /// Adds or replaces the link to `peer`. `O(log N)`.
    ///
    /// # Panics
    /// At 2^32 links.
    pub fn set(&mut self, peer: P, state: EdgeState) {
        if let Some(&place) = self.places.get(&peer) {
            self.entries[place as usize].1 = state;
        } else {
            let place = u32::try_from(self.entries.len()).expect("fewer than 2^32 links");
            self.places.insert(peer, place);
            self.entries.push((peer, state));
        }
    }

    /// Removes the link to `peer`, and returns it. `O(log N)`.
    pub fn remove(&mut self, peer: P) -> Option<EdgeState> {
        let place = self.places.remove(&peer)? as usize;
        let (_, state) = self.entries.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(*moved, place as u32);
        }
        Some(state)
    }

    /// The link to `peer`. `O(log N)`.
    pub fn state(&self, peer: P) -> Option<EdgeState> {
        self.places.get(&peer).map(|&place| self.entries[place as usize].1)
    }

    /// Follows a topology: new children of `own` get an active link without limits, lost ones lose theirs.
    /// `O(changes · log N)`.
    pub fn apply(&mut self, own: P, changes: &[Change<P>]) {
        for change in changes {
            match *change {
                Change::Gained { child, parent } if parent == own => self.set(child, EdgeState::new()),
                Change::Lost { child, parent } if parent == own => {
                    self.remove(child);
                }
                _ => {}
            }
        }
    }

    #[cold]
    fn learn(&mut self, to: P, index: u32) -> Option<&mut EdgeState> {
        let place = *self.places.get(&to)?;
        let index = index as usize;
        if index >= self.by_index.len() {
            self.by_index.resize(index + 1, u32::MAX);
        }
        self.by_index[index] = place;
        Some(&mut self.entries[place as usize].1)
    }
}

impl<P: PeerId> Edges<P> for EdgeTable<P> {
    #[inline]
    fn edge(&mut self, to: P, index: u32) -> Option<&mut EdgeState> {
        let place = self.by_index.get(index as usize).map_or(usize::MAX, |&place| place as usize);
        // The index may have passed to another peer, or the entry to another place.
        if self.entries.get(place).is_some_and(|&(peer, _)| peer == to) {
            return Some(&mut self.entries[place].1);
        }
        self.learn(to, index)
    }
}

/// A structure that knows its links; see [`Downstream`].
pub trait Topology<P> {
    /// The link over which `from` feeds `to`; `None` if there is none.
    fn edge_state(&self, from: P, to: P) -> Option<EdgeState>;
}

impl<P: PeerId> Topology<P> for Graph<P> {
    /// Twice the edge's latency as the round-trip time. `O(log N)`.
    fn edge_state(&self, from: P, to: P) -> Option<EdgeState> {
        let edge = self.edge(from, to)?;
        Some(EdgeState::new().with_active(edge.active).with_rtt(Some(edge.latency.saturating_mul(2))))
    }
}

impl<P: PeerId> Topology<P> for Star<P> {
    /// `O(log N)`.
    fn edge_state(&self, from: P, to: P) -> Option<EdgeState> {
        (self.parent(to) == Some(from)).then(EdgeState::new)
    }
}

impl<P: PeerId> Topology<P> for Tree<P> {
    /// `O(1)`.
    fn edge_state(&self, from: P, to: P) -> Option<EdgeState> {
        (self.parent(to) == Some(from)).then(EdgeState::new)
    }
}

impl<P: PeerId> Topology<P> for Mesh<P> {
    /// `O(degree + log N)`.
    fn edge_state(&self, from: P, to: P) -> Option<EdgeState> {
        self.are_linked(from, to).then(EdgeState::new)
    }
}

/// The links over which one peer of a topology feeds others, without budgets, looked up at each decision. For many
/// targets, or for budgets, keep an [`EdgeTable`] in step with the topology instead.
#[derive(Clone, Copy, Debug)]
pub struct Downstream<'a, T, P> {
    topology: &'a T,
    from: P,
    found: EdgeState,
}

impl<'a, P, T: Topology<P>> Downstream<'a, T, P> {
    /// The links of `from`.
    pub const fn new(topology: &'a T, from: P) -> Self {
        Self { topology, from, found: EdgeState::new() }
    }
}

impl<P: PeerId, T: Topology<P>> Edges<P> for Downstream<'_, T, P> {
    fn edge(&mut self, to: P, _index: u32) -> Option<&mut EdgeState> {
        self.found = self.topology.edge_state(self.from, to)?;
        Some(&mut self.found)
    }
}
