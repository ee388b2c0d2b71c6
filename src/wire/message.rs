//! The messages that engines exchange.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::chunks::{ChunkClaim, ChunkData, ChunkOffer};
use super::forest::ForestMessage;
use super::group::GroupMessage;
use crate::id::{Epoch, Priority, StateId, SwarmId};
use crate::log::RangeSet;
use crate::time::Instant;

/// Anything that travels between two engines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<P> {
    /// Between the two ends of a link, whatever swarms they share.
    Link(LinkMessage),
    /// Who is a neighbour of whom, inside one swarm.
    Membership(MembershipMessage<P>),
    /// Updates and what is known about them, inside one swarm.
    Gossip(GossipMessage<P>),
    /// Media chunks and who feeds whom, inside one livestream.
    Forest(ForestMessage<P>),
    /// Who takes part, and messages for some, inside one group.
    Group(GroupMessage<P>),
}

/// A sign of life promises the next for so long after it, at most.
pub(crate) const BEAT_MAX: Duration = Duration::from_millis(25_500);

/// Liveness and round-trip time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkMessage {
    /// Asks for a [`LinkMessage::Pong`] with the same token.
    Ping {
        /// Repeated by the answer.
        token: u16,
    },
    /// The answer to a ping.
    Pong {
        /// The token of the ping.
        token: u16,
    },
    /// "I am alive, and say so again." It needs no answer, and saves the receiver its pings.
    Beat {
        /// When the next will come at the latest, in tenths of a second.
        next_tenths: u8,
    },
}

/// The membership protocol: HyParView's two views, with walks on join and swaps instead of evictions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipMessage<P> {
    /// To a contact: "find me neighbours".
    Join {
        /// The whole id of the swarm.
        swarm: SwarmId,
        /// How many neighbours the sender lacks.
        wanted: u8,
    },
    /// A random walk that looks for a place for `joiner`.
    Walk {
        /// Who looks for neighbours.
        joiner: P,
        /// Steps left.
        hops_left: u8,
    },
    /// The end of a walk at a node without a free slot: "take the place between me and `partner`".
    Offer {
        /// The whole id of the swarm.
        swarm: SwarmId,
        /// The neighbour that the sender would give up for the receiver.
        partner: P,
    },
    /// Asks the receiver to become a neighbour.
    Neighbor {
        /// The whole id of the swarm.
        swarm: SwarmId,
        /// On which grounds.
        request: NeighborRequest<P>,
    },
    /// The answer to [`MembershipMessage::Neighbor`].
    NeighborReply {
        /// Whether the two are neighbours now.
        accepted: bool,
        /// Others to try: a redirect where refused, a start for the passive view where accepted.
        peers: Vec<P>,
    },
    /// "You are not my neighbour (any more)."
    Bye {
        /// The sender leaves the swarm altogether and should be forgotten.
        leaving: bool,
    },
    /// A walk that exchanges entries of the passive view.
    Shuffle {
        /// Who began it and gets the answer.
        origin: P,
        /// Steps left.
        hops_left: u8,
        /// What the origin offers.
        entries: Vec<ViewEntry<P>>,
    },
    /// What the end of a shuffle offers in return.
    ShuffleReply {
        /// Its entries.
        entries: Vec<ViewEntry<P>>,
    },
    /// Asks for a [`MembershipMessage::Measured`]: the time until it comes is the round-trip time.
    Measure {
        /// The whole id of the swarm.
        swarm: SwarmId,
    },
    /// The answer to a measurement.
    Measured {
        /// The neighbour that the sender would give up first, and the round-trip time to it in microseconds.
        longest: Option<(P, u32)>,
    },
    /// To a neighbour: "let us part, and you take `leaving` while I take `candidate`, which part too."
    Swap {
        /// Whom the sender would take.
        candidate: P,
        /// Whom the receiver would take, now a neighbour of `candidate`.
        leaving: P,
        /// What the sender's side gains: the receiver's new link must have a round-trip time below it. In microseconds.
        gain_us: u32,
    },
    /// The consent to [`MembershipMessage::Swap`]: the two are no neighbours any more.
    Swapped {
        /// The candidate of the swap.
        candidate: P,
    },
    /// To a neighbour: "these are my neighbours, and watch me as you do".
    Watchers {
        /// The neighbours of the sender, without the receiver.
        peers: Vec<P>,
    },
    /// To another neighbour of `peer`: "it does not answer me; does it answer you?"
    Suspect {
        /// Who does not answer.
        peer: P,
    },
    /// The answer to [`MembershipMessage::Suspect`], if it does.
    Vouch {
        /// Who has answered.
        peer: P,
    },
}

/// On which grounds a peer asks to be a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighborRequest<P> {
    /// If there is a free slot.
    Low,
    /// The sender has no other neighbour, or joins two parts of a broken swarm: also into the reserve.
    High,
    /// In the place of `leaving`, which was told to come to the sender too.
    Replace {
        /// The neighbour to give up.
        leaving: P,
    },
}

/// A peer in a passive view, with its age in shuffle rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ViewEntry<P> {
    /// The peer.
    pub peer: P,
    /// Rounds since somebody had direct news of it.
    pub age: u8,
}

/// The gossip protocol: eager push, announcements, pull, reconciliation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GossipMessage<P> {
    /// An update with its body.
    Data(Data<P>),
    /// "I have these updates."
    Have {
        /// Which.
        sources: Vec<SourceRanges<P>>,
    },
    /// "Send me these updates."
    Want {
        /// Also push me the later ones of these sources.
        graft: bool,
        /// Which.
        sources: Vec<SourceRanges<P>>,
    },
    /// The answer to a want that cannot be served: "I knew these updates, but no longer hold them."
    Gone {
        /// Which.
        sources: Vec<SourceRanges<P>>,
    },
    /// "Push me no more than this share of the updates of `origin`; announce the rest."
    Prune {
        /// Whose updates.
        origin: P,
        /// The share still wanted, in percent.
        share_percent: u8,
    },
    /// Spreads at once over every link, and shows by its first arrival the fastest way from its origin.
    Wave(Wave<P>),
    /// "You are my way to the root of the shared tree", or no longer.
    Attach {
        /// Whether the sender wants the updates of the shared tree from the receiver.
        attached: bool,
    },
    /// To the sender's way to the root of the shared tree: how many members there are below it.
    Count {
        /// Members, the sender included.
        nodes: u64,
    },
    /// A large update without its body: the body of the message says how long that is and into which chunks it is cut.
    Manifest(Data<P>),
    /// Which chunks of a large update can be had from the sender.
    ChunkOffer(ChunkOffer<P>),
    /// Which chunks of a large update the receiver is to send.
    ChunkClaim(ChunkClaim<P>),
    /// A chunk of a large update.
    Chunk(ChunkData<P>),
    /// One page of reconciliation: what the sender knows of the origins from `lower` up to the last item's bound.
    Sync {
        /// The least origin covered; `None` is the least of all.
        lower: Option<P>,
        /// The items, in the order of origins, each from the end of the one before.
        items: Vec<SyncItem<P>>,
    },
}

/// An update on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Data<P> {
    /// Who published it.
    pub origin: P,
    /// The life of the origin.
    pub epoch: Epoch,
    /// Its place among the origin's updates.
    pub sequence: u64,
    /// What it is a version of.
    pub state: StateId,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether it stands alone, without the updates before it.
    pub keyframe: bool,
    /// Quality layer, 0 (base) to 7.
    pub layer: u8,
    /// Links crossed before this one, at most 31.
    pub hops: u8,
    /// Sent on request, not pushed.
    pub pulled: bool,
    /// Asks to go over every link, if it is urgent.
    pub flood: bool,
    /// When it was published, in the holder's own time. It travels as an age, so no clocks need to agree.
    pub born: Instant,
    /// The payload.
    pub body: Bytes,
    /// What the origin signed of it; empty in topics that are not signed.
    pub signature: Bytes,
}

#[cfg(test)]
impl Data<u64> {
    /// The first update of origin 1, for tests that look at one part of it only.
    pub(crate) fn sample(state: u64, body: &'static [u8], born: Instant) -> Self {
        Self {
            origin: 1,
            epoch: Epoch(1),
            sequence: 0,
            state: StateId(state),
            priority: Priority::Normal,
            keyframe: false,
            layer: 0,
            hops: 0,
            pulled: false,
            flood: false,
            born,
            body: Bytes::from_static(body),
            signature: Bytes::new(),
        }
    }
}

/// A wave that grows a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wave<P> {
    /// Who began it: a source, or the root of the shared tree.
    pub origin: P,
    /// The life of the origin.
    pub epoch: Epoch,
    /// Rises with every wave of this life.
    pub number: u64,
    /// For the tree that cold sources share, not for one of the origin's own.
    pub shared: bool,
    /// Links crossed before this one, at most 127.
    pub hops: u8,
    /// When it began, in the holder's own time. It travels as an age.
    pub born: Instant,
    /// In the shared tree: how many members the swarm has, once the root has counted them. Less than 2^62.
    pub members: Option<u64>,
    /// In the shared tree: the root is gone, says a neighbour that it had.
    pub is_last: bool,
}

/// Some updates of one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceRanges<P> {
    /// Who published them.
    pub origin: P,
    /// The life of the origin.
    pub epoch: Epoch,
    /// Their sequences.
    pub ranges: RangeSet,
}

/// What a reconciliation page says about one interval of origins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncItem<P> {
    /// One past the interval: origins below this one. `None` is the end of all.
    pub upper: Option<P>,
    /// What is known there.
    pub known: SyncKnown<P>,
}

/// What the sender of a page knows inside an interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncKnown<P> {
    /// Nothing is said.
    Skip,
    /// Only a fingerprint of everything.
    Fingerprint(u64),
    /// Everything, source by source.
    Sources(Vec<SourceRanges<P>>),
    /// As `Sources`, in answer to `Sources`: to be acted on, not answered.
    Answer(Vec<SourceRanges<P>>),
}
