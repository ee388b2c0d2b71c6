//! Counters. Each only rises, and each is fed.

pub use crate::histogram::Histogram;

/// What a [`Gossip`](crate::gossip::Gossip) machine did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GossipStats {
    /// Updates published here.
    pub published: u64,
    /// Updates handed to the application.
    pub delivered: u64,
    /// Bodies received: delivered ones, duplicates, and those refused.
    pub bodies_received: u64,
    /// Bytes of these bodies.
    pub body_bytes_received: u64,
    /// Bodies sent.
    pub bodies_sent: u64,
    /// Bodies received that were here already.
    pub duplicates: u64,
    /// Delivered updates that came on request.
    pub pulled: u64,
    /// Updates not delivered because a newer one of their state was here.
    pub superseded: u64,
    /// Updates refused because their origin may not write their state.
    pub refused: u64,
    /// Updates refused for their age.
    pub too_old: u64,
    /// Updates refused because later lives of their origin are known.
    pub stale_epochs: u64,
    /// Messages about sources that were refused because as many as allowed are tracked.
    pub sources_refused: u64,
    /// Updates reported as lagged.
    pub lagged: u64,
    /// Announcements sent.
    pub haves_sent: u64,
    /// Announcements received.
    pub haves_received: u64,
    /// Requests sent.
    pub wants_sent: u64,
    /// Requests received.
    pub wants_received: u64,
    /// Missing ranges left to reconciliation because no holder answered.
    pub wants_dropped: u64,
    /// Requests to be pushed a source's updates.
    pub grafts_sent: u64,
    /// Such requests received.
    pub grafts_received: u64,
    /// Feeders given up for faster ones.
    pub swaps: u64,
    /// Requests not to be pushed a source's updates.
    pub prunes_sent: u64,
    /// Such requests received.
    pub prunes_received: u64,
    /// Reconciliation rounds begun.
    pub syncs_sent: u64,
    /// Reconciliation pages received.
    pub syncs_received: u64,
    /// Intervals in which the two sides differed.
    pub syncs_differing: u64,
    /// Messages other than data from peers that are no neighbours.
    pub from_strangers: u64,
    /// Times that the swarm remembered a later life of this node than its own.
    pub epochs_renewed: u64,
}

/// What an [`Engine`](crate::Engine) did, apart from its swarms and its egress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct EngineStats {
    /// Frames handed to the engine.
    pub frames_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Messages read from them.
    pub messages_received: u64,
    /// Frames handed to the host.
    pub frames_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Frames that could not be read to the end.
    pub frames_malformed: u64,
    /// Frames dropped because their sender was over its budget.
    pub frames_over_budget: u64,
    /// Frames not looked at: too large, from oneself, or from a peer for which there is no link to spare.
    pub frames_refused: u64,
    /// Messages for swarms that are not joined.
    pub unknown_swarm: u64,
    /// Messages not queued: no link to spare, or no room.
    pub messages_dropped: u64,
    /// Links closed because the peer was silent for too long.
    pub links_silent: u64,
    /// Links closed to make room for others.
    pub links_evicted: u64,
    /// Links not made for want of room.
    pub links_refused: u64,
    /// Connections that the host did not make in time.
    pub connects_failed: u64,
    /// Reports of misbehaviour.
    pub offences: u64,
    /// Events lost because the host did not drain.
    pub events_lost: u64,
}

/// What a [`Views`](crate::membership::Views) machine did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ViewStats {
    /// Joins handled as a contact.
    pub joins_received: u64,
    /// Walks handled.
    pub walks_received: u64,
    /// Places between this node and a neighbour that were offered.
    pub offers_sent: u64,
    /// Neighbours given up for a joiner between.
    pub swaps: u64,
    /// Requests to be a neighbour.
    pub requests_received: u64,
    /// Own requests that were refused.
    pub requests_refused: u64,
    /// Own requests that nobody answered.
    pub requests_unanswered: u64,
    /// Neighbours lost without a farewell.
    pub neighbors_lost: u64,
    /// Probes of peers that were lost.
    pub probes_sent: u64,
    /// Peers asked to be neighbours for a while, lest a small swarm falls into parts.
    pub looks_beyond: u64,
    /// Shuffles begun.
    pub shuffles_sent: u64,
    /// Peers told that they are no neighbours.
    pub strangers_refused: u64,
}

/// What the [`Guard`](crate::Guard) of a topic refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GuardStats {
    /// Updates whose origin may not write their state.
    pub unauthorized: u64,
    /// Updates without the signature of their origin.
    pub forged: u64,
    /// Updates dropped because their sender's budget for signature checks was spent.
    pub postponed: u64,
}

/// One topic in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TopicStats {
    /// What gossip did.
    pub gossip: GossipStats,
    /// What membership did.
    pub views: ViewStats,
    /// What the guard refused.
    pub guard: GuardStats,
    /// Neighbours now.
    pub neighbors: usize,
    /// Peers in the passive view now.
    pub passive: usize,
    /// Sources tracked now.
    pub sources: usize,
    /// Bodies kept now.
    pub bodies: usize,
    /// Bytes of these bodies.
    pub body_bytes: usize,
}
