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
    /// Bytes of these bodies, and of the chunks of large ones as they come.
    pub body_bytes_received: u64,
    /// Bodies sent.
    pub bodies_sent: u64,
    /// Urgent updates sent to neighbours because they go over every link.
    pub bodies_flooded: u64,
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
    /// Requests that a neighbour did not answer in time, as far as it was seen to have what was asked for.
    pub wants_unanswered: u64,
    /// Updates that had to be pulled though a feeder should have pushed them.
    pub unfed: u64,
    /// Requests to neighbours that owed an update and never brought one, to find out whether they ever will.
    pub trials_sent: u64,
    /// Neighbours that lost their part as feeders for it; see [`ScoreConfig`](crate::ScoreConfig).
    pub distrusted: u64,
    /// Times that the number of eager feeders was raised or lowered; see
    /// [`GossipConfig::adaptive_threshold_permille`](crate::GossipConfig::adaptive_threshold_permille).
    pub redundancy_changes: u64,
    /// Messages dropped because their sender was over its budget; see [`BudgetConfig`](crate::BudgetConfig).
    pub over_budget: u64,
    /// Missing ranges left to reconciliation because no holder answered.
    pub wants_dropped: u64,
    /// Requests to be pushed a source's updates.
    pub grafts_sent: u64,
    /// Such requests received.
    pub grafts_received: u64,
    /// Waves sent.
    pub waves_sent: u64,
    /// Waves received.
    pub waves_received: u64,
    /// Waves not passed on: older than others of their source, or too many.
    pub waves_dropped: u64,
    /// Counts of members sent to the parent in the shared tree.
    pub counts_sent: u64,
    /// Such counts received.
    pub counts_received: u64,
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
    /// Manifests of large updates received.
    pub manifests_received: u64,
    /// Large updates whose chunks were begun to be claimed.
    pub assemblies_begun: u64,
    /// Large updates not taken: too large, or for want of room.
    pub assemblies_refused: u64,
    /// Large updates for which others had to make room, or which were not taken, because the neighbour that brought them brings
    /// too many at once.
    pub assemblies_crowded: u64,
    /// Large updates given up before they were whole, and told as lagged.
    pub assemblies_given_up: u64,
    /// Chunks received, pages of hashes included.
    pub chunks_received: u64,
    /// Chunks received that were here already.
    pub chunks_duplicate: u64,
    /// Chunks asked for again because others that should have come later were here.
    pub chunks_missed: u64,
    /// Chunks refused: of unknown updates, of the wrong length, or not as signed.
    pub chunks_refused: u64,
    /// Chunks sent.
    pub chunks_sent: u64,
    /// Offers of chunks sent.
    pub offers_sent: u64,
    /// Offers of chunks received.
    pub offers_received: u64,
    /// Claims of chunks sent.
    pub claims_sent: u64,
    /// Claims of chunks received.
    pub claims_received: u64,
    /// Claims not heeded, because their sender wants too much.
    pub claims_refused: u64,
    /// Times that claims were moved from a neighbour that did not answer to others.
    pub claims_moved: u64,
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
    /// Silent peers that were given more time because others could reach them.
    pub links_vouched: u64,
    /// Links closed to make room for others.
    pub links_evicted: u64,
    /// Links not made for want of room.
    pub links_refused: u64,
    /// Connections that the host did not make in time.
    pub connects_failed: u64,
    /// Reports of misbehaviour.
    pub offences: u64,
    /// Peers refused for a while, for their offences; see [`ScoreConfig`](crate::ScoreConfig).
    pub peers_refused: u64,
    /// Frames and connections of refused peers, which were not looked at.
    pub refused_contacts: u64,
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
    /// Neighbours that did not answer for a moment.
    pub doubts: u64,
    /// Others asked whether such a neighbour answers them.
    pub suspicions_sent: u64,
    /// Neighbours pinged because others get no answer from them.
    pub suspicions_heeded: u64,
    /// Others told that they answer here.
    pub vouchers_sent: u64,
    /// Peers asked to be neighbours for a while, lest a small swarm falls into parts.
    pub looks_beyond: u64,
    /// Peers measured as candidates for a shorter link.
    pub measurements_sent: u64,
    /// Links given up so that two shorter ones replace two longer ones.
    pub shortcuts: u64,
    /// Shuffles begun.
    pub shuffles_sent: u64,
    /// Peers told that they are no neighbours.
    pub strangers_refused: u64,
    /// Neighbours parted from because they brought nothing; see [`ScoreConfig`](crate::ScoreConfig).
    pub parted: u64,
    /// Times that a peer was not taken as a neighbour because it comes and goes; see
    /// [`MembershipConfig::flap_pause`](crate::MembershipConfig::flap_pause).
    pub damped: u64,
    /// Times that the swarm had lost more than a quarter of its members between two counts, so that those lost were probed.
    pub shrunk: u64,
    /// Peers not taken as neighbours because too many share their address prefix; see
    /// [`MembershipConfig::prefix_max`](crate::MembershipConfig::prefix_max).
    pub crowded: u64,
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
    /// How many members the topic has, this node included, as the shared tree counted them last: an estimate that follows joins and
    /// losses within a minute. `None` until it has counted, and without a shared tree, in the modes
    /// [`Push`](crate::GossipMode::Push) and [`Pull`](crate::GossipMode::Pull). Any member can falsify it.
    pub members_estimated: Option<u64>,
    /// Sources tracked now.
    pub sources: usize,
    /// Bodies kept now.
    pub bodies: usize,
    /// Bytes of these bodies.
    pub body_bytes: usize,
    /// Large updates that are not whole yet.
    pub assembling: usize,
    /// Bytes of their chunks.
    pub assembling_bytes: usize,
}

/// One group in numbers, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GroupStats {
    /// Participants now, this node included.
    pub participants: usize,
    /// Records of the roster now, those of participants that are gone included.
    pub records: usize,
    /// Others let in here.
    pub admitted: u64,
    /// Others not let in here.
    pub refused: u64,
    /// Messages of peers that were thrown out or banned.
    pub put_out_refused: u64,
    /// Entries received that said something new.
    pub entries_new: u64,
    /// Entries received that were known, or older than what was known.
    pub entries_known: u64,
    /// Entries and verdicts refused: from strangers, without the right, or for want of room.
    pub entries_refused: u64,
    /// Signs of life sent.
    pub beats_sent: u64,
    /// Comparisons of the roster with somebody else's.
    pub syncs_sent: u64,
    /// Requests for parts of the roster that were not answered, for want of budget.
    pub syncs_refused: u64,
    /// Others suspected here.
    pub suspicions: u64,
    /// Suspicions of this node that it refuted.
    pub refutations: u64,
    /// Messages to everybody sent.
    pub broadcasts_sent: u64,
    /// Messages delivered to the application, of all kinds.
    pub messages_delivered: u64,
    /// Messages to everybody given up by the receiver.
    pub messages_lost: u64,
    /// Messages that wait here for earlier ones of their senders.
    pub messages_waiting: usize,
    /// Messages refused: of strangers, of earlier lives, or for want of room.
    pub messages_refused: u64,
    /// Messages for some that were here already.
    pub duplicates: u64,
    /// Copies of messages for some that were sent, repetitions included.
    pub copies_sent: u64,
    /// Messages of others passed on to their receivers.
    pub relayed: u64,
    /// Receivers reached directly.
    pub delivered_direct: u64,
    /// Receivers reached through another participant.
    pub delivered_relayed: u64,
    /// Receivers reached after their return.
    pub delivered_stored: u64,
    /// Receivers not reached in time.
    pub failed: u64,
    /// Livestreams of media that are open or watched now.
    pub streams: usize,
    /// Livestreams that could not be opened or watched here, for want of room.
    pub streams_refused: u64,
    /// Requests for media that were refused, because all uploads together are too small.
    pub places_refused: u64,
    /// Media frames delivered to the application.
    pub media_delivered: u64,
    /// Media frames that did not come in time.
    pub media_lost: u64,
}

/// The media of a group in numbers, all livestreams that this node opens or watches now taken together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GroupMediaStats {
    /// Own tracks that are on.
    pub published: u64,
    /// Own tracks that others relay for each other; the rest goes directly to everybody who receives it.
    pub relayed: u64,
    /// Tracks of others that are received.
    pub watched: u64,
    /// Tracks of others that are passed on.
    pub passes_on: u64,
    /// 1 while this participant is one of the elected relays of a large group.
    pub elected: u64,
    /// Receivers of own tracks, each track counted.
    pub receivers: u64,
    /// Relays that fell silent and were replaced.
    pub failovers: u64,
    /// Chunks that came after they were missed.
    pub chunks_repaired: u64,
    /// Chunks of others passed on.
    pub chunks_forwarded: u64,
    /// Requests to be fed that were refused, for want of upload.
    pub attaches_refused: u64,
    /// Chunks asked for here that could not be served, for want of them or of budget.
    pub chunks_unserved: u64,
    /// Own frames published.
    pub frames_published: u64,
    /// Chunks of others that they had not signed, of a signed group.
    pub chunks_forged: u64,
}

/// One livestream in numbers, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LivestreamStats {
    /// At the planner: viewers now.
    pub viewers: u64,
    /// At the planner: the most viewers at a time.
    pub viewers_peak: u64,
    /// At the planner: how many different viewers came. Who comes again is counted again only after 65,536 others have gone.
    pub viewers_unique: u64,
    /// At the planner: viewers that went or were lost.
    pub plan_leaves: u64,
    /// At the planner: links moved.
    pub plan_moves: u64,
    /// At the planner: requests refused for want of upload or room.
    pub plan_refusals: u64,
    /// Viewers that feed nobody any more, because several of their children were sent forgeries.
    pub plan_demotions: u64,
    /// At the planner: the depth of the deepest tree.
    pub plan_depth_max: u64,
    /// At the planner: bytes of heap of the plan.
    pub plan_heap_bytes: u64,
    /// How many stripes the stream has; 0 before the plan came.
    pub stripes: u64,
    /// Hops from the source, over the deepest stripe.
    pub depth_max: u64,
    /// Stripes that are fed now.
    pub stripes_fed: u64,
    /// (Child, stripe) pairs fed now.
    pub children: u64,
    /// Since the stream became active here, in microseconds, pauses included.
    pub duration_us: u64,
    /// Frames published here.
    pub frames_published: u64,
    /// Bytes of these frames.
    pub bytes_published: u64,
    /// Frames delivered to the application.
    pub frames_delivered: u64,
    /// Bytes of these frames.
    pub bytes_delivered: u64,
    /// Frames delivered after half of their time had passed.
    pub frames_late: u64,
    /// Frames given up and told as lagged.
    pub frames_lagged: u64,
    /// Chunks received, whatever became of them.
    pub chunks_received: u64,
    /// Chunks that were here already.
    pub chunks_duplicate: u64,
    /// Chunks refused: of another life of the source, contradicting others, too old or too far ahead.
    pub chunks_refused: u64,
    /// Chunks that came after they were missed.
    pub chunks_repaired: u64,
    /// Chunks from before this viewer came, got on request.
    pub chunks_caught_up: u64,
    /// Chunks rebuilt from parity.
    pub chunks_rebuilt: u64,
    /// Chunks passed on to children.
    pub chunks_forwarded: u64,
    /// Chunks sent on request.
    pub chunks_served: u64,
    /// Chunks asked for here that could not be served, for want of them or of budget.
    pub chunks_unserved: u64,
    /// Requests for chunks sent.
    pub wants_sent: u64,
    /// Requests for chunks received.
    pub wants_received: u64,
    /// Parents replaced because they were silent, or lagged behind the others.
    pub failovers: u64,
    /// Requests of children refused for want of upload.
    pub attaches_refused: u64,
    /// Times that a delivered frame was more than its own time behind the one before.
    pub stalls: u64,
    /// How long these stalls were in all, in microseconds.
    pub stalled_us: u64,
    /// Keyframes asked for: by this viewer, or of the application at the source.
    pub keyframe_requests: u64,
    /// Changes of quality.
    pub quality_changes: u64,
    /// Frames or chunks whose seal was not that of the source.
    pub forged: u64,
    /// Bytes of media kept for repair and late joiners.
    pub retained_bytes: u64,
}
