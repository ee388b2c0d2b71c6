//! What goes into an engine and what comes out.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::Bytes;

use crate::authority::AuthorityChange;
use crate::id::{Epoch, Priority, StateId, SwarmId, UpdateId};
use crate::swarm::{DeliveryRoute, GroupMedia, GroupMessageId, MediaTrack, Participant, StreamState};
use crate::time::Instant;
use crate::wire::WireError;

/// A fact that the host reports with [`Engine::handle_input`](crate::Engine::handle_input).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<P> {
    /// The transport can now carry frames to `peer`: the answer to [`Output::Connect`], or a connection that the peer
    /// opened. A host without connections (UDP) reports it at once.
    ///
    /// Reporting it for a peer that is connected already means that the peer has begun anew: what was queued for it
    /// and what was known of it is dropped.
    PeerConnected {
        /// Who.
        peer: P,
    },
    /// The transport lost `peer`, or could not reach it.
    PeerDisconnected {
        /// Who.
        peer: P,
    },
    /// A frame arrived. A frame from a peer that is not connected also reports it as connected.
    Received {
        /// Who sent it, as the transport has verified or assumes.
        from: P,
        /// The frame, whole.
        frame: Bytes,
    },
    /// What the transport measured of the link to `peer`. Optional: the engine measures round-trip times itself.
    LinkQuality {
        /// To whom.
        peer: P,
        /// The smoothed round-trip time.
        rtt: Duration,
        /// Frames lost, in parts per million.
        loss_ppm: u32,
        /// What the link carries towards the peer, if known: from then on its pace.
        bytes_per_s: Option<u64>,
    },
    /// Where `peer` lives, as far as it matters: a key for the prefix of its address (its /24 or /48, or its operator,
    /// hashed, say). At most [`MembershipConfig::prefix_max`](crate::MembershipConfig::prefix_max) neighbours share a key,
    /// so that nobody surrounds this node with names of its own making. Optional; best told before the connection.
    PeerAddress {
        /// Who.
        peer: P,
        /// Equal for peers in one network, and for no others.
        prefix: u64,
    },
    /// The transport has taken that many more bytes for `peer`; see
    /// [`EgressConfig::credit_bytes`](crate::EgressConfig::credit_bytes).
    SendCredit {
        /// For whom.
        peer: P,
        /// How many bytes.
        bytes: u64,
    },
}

/// What the host must do, from [`Engine::poll_output`](crate::Engine::poll_output).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output<P> {
    /// Send `frame` to `to`.
    Send {
        /// The receiver.
        to: P,
        /// At most [`Config::frame_bytes_max`](crate::Config::frame_bytes_max) bytes.
        frame: Bytes,
        /// The most urgent class inside, for transports that have priorities of their own.
        class: Class,
    },
    /// Connect to `peer`, and report [`Input::PeerConnected`] or [`Input::PeerDisconnected`].
    Connect {
        /// To whom.
        peer: P,
    },
    /// No swarm needs `peer` any more: its connection may be closed. It comes after the last frame for that peer; no
    /// answer is expected.
    Disconnect {
        /// From whom.
        peer: P,
    },
    /// News for the application.
    Event(Event<P>),
}

/// In which order frames leave a busy node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Class {
    /// Protocol messages: small, always first.
    Control,
    /// Urgent updates: before everything but control.
    Urgent,
    /// High updates and repair.
    High,
    /// Normal updates.
    Normal,
    /// History and bulk: what is left, but never nothing.
    Background,
}

impl Class {
    /// All classes, the first to leave first.
    pub const ALL: [Self; 5] = [Self::Control, Self::Urgent, Self::High, Self::Normal, Self::Background];
}

impl From<Priority> for Class {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Background => Self::Background,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
            Priority::Urgent => Self::Urgent,
        }
    }
}

/// An update as the application gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update<P> {
    /// Its identity: swarm, origin, epoch, sequence.
    pub id: UpdateId<P>,
    /// What it is a version of.
    pub state: StateId,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether it stands alone, without the updates before it.
    pub keyframe: bool,
    /// Quality layer, 0 is the base.
    pub layer: u8,
    /// Links it crossed to get here, at most 32. Of a media frame those of the longest way that a part of it may take.
    pub hops: u8,
    /// When it was published, in this engine's time, as far as the nodes on its way can tell: time inside them is
    /// counted exactly, time on links as half the measured round-trip time.
    ///
    /// Of a media frame when it was captured, which is off by half the difference between ways there and back, added up
    /// from the source on.
    pub born: Instant,
    /// The payload: a slice of the received frame, or a copy if it was a small part of one.
    pub payload: Bytes,
}

/// News for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event<P> {
    /// An update of a joined swarm, each exactly once. Own updates are not delivered to oneself.
    Delivered(Update<P>),
    /// Updates that nobody holds any more, or that were given up: they will never be delivered.
    ///
    /// Of a livestream they are frames of one track; see
    /// [`LivestreamTracks::frame_number`](crate::LivestreamTracks::frame_number).
    Lagged {
        /// The swarm.
        swarm: SwarmId,
        /// Who published them.
        origin: P,
        /// The life of the origin.
        epoch: Epoch,
        /// Their sequences.
        sequences: Range<u64>,
        /// Why.
        reason: LagReason,
    },
    /// The first neighbour in the swarm: updates now flow. In a livestream: somebody feeds every stripe; its chat, if it
    /// was joined with one, tells its first neighbour with this event, too.
    Joined {
        /// The swarm.
        swarm: SwarmId,
    },
    /// The last neighbour in the swarm is gone; the engine keeps looking for others. In a livestream: nobody feeds any
    /// stripe any more, or its chat has no neighbour any more.
    Isolated {
        /// The swarm.
        swarm: SwarmId,
    },
    /// A new neighbour in the swarm.
    NeighborUp {
        /// The swarm.
        swarm: SwarmId,
        /// The neighbour.
        peer: P,
    },
    /// A neighbour less in the swarm.
    NeighborDown {
        /// The swarm.
        swarm: SwarmId,
        /// Who it was.
        peer: P,
    },
    /// A peer sent what no correct peer sends. The frame's remainder was dropped; nothing else was changed.
    Misbehaved {
        /// Who.
        peer: P,
        /// What it did.
        offence: Offence,
    },
    /// Who may write what in a swarm has changed, by a command or because a right or a penalty has run out.
    AuthorityChanged {
        /// The swarm.
        swarm: SwarmId,
        /// What has changed.
        change: AuthorityChange<P>,
    },
    /// The state of a livestream has changed.
    StreamState {
        /// The swarm.
        swarm: SwarmId,
        /// What it is now.
        state: StreamState,
    },
    /// At the source of a livestream: somebody needs a keyframe. Comes at most once in
    /// [`BroadcastOptions::keyframe_request_interval`](crate::BroadcastOptions::keyframe_request_interval).
    KeyframeWanted {
        /// The swarm.
        swarm: SwarmId,
    },
    /// There is no place in a livestream for now. The engine keeps asking.
    WatchRefused {
        /// The swarm.
        swarm: SwarmId,
        /// How much more upload among the viewers would make one, in bytes a second; 0 if there are too many viewers.
        needed_bytes_per_s: u64,
    },
    /// A viewer's automatic quality has changed.
    QualityChanged {
        /// The swarm.
        swarm: SwarmId,
        /// The highest layer that is wanted now.
        layer: u8,
    },
    /// News of a group.
    Group {
        /// The swarm.
        swarm: SwarmId,
        /// What happened.
        event: GroupEvent<P>,
    },
    /// After [`CommandError::QueueFull`](crate::CommandError::QueueFull): there is room again.
    Writable,
    /// The host drained too late, and that many of the oldest events were lost
    /// ([`Config::events_max`](crate::Config::events_max)).
    EventsLost {
        /// How many.
        count: u64,
    },
}

/// What happened in a group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GroupEvent<P> {
    /// This engine is in. News of the others follow as they come.
    Admitted {
        /// Participants, at most.
        participants_max: usize,
    },
    /// This engine was not let in, and is not in the swarm any more.
    Refused {
        /// Why.
        reason: GroupRefusal,
    },
    /// This engine was put out, and is not in the swarm any more.
    Removed {
        /// Why.
        reason: GroupRefusal,
    },
    /// Somebody else is in now, or again.
    ParticipantJoined {
        /// Who, and what it says of itself.
        participant: Participant<P>,
    },
    /// A participant has changed what it says of itself.
    ParticipantChanged {
        /// What it says now.
        participant: Participant<P>,
    },
    /// Somebody is not in any more.
    ParticipantLeft {
        /// Who.
        peer: P,
        /// Why.
        reason: Departure,
    },
    /// Somebody else shows the screen now, perhaps this participant, or nobody does.
    ScreenChanged {
        /// Who.
        holder: Option<P>,
    },
    /// This engine claimed the screen at the same time as another participant, and keeps it.
    ScreenWon {
        /// Who claimed it later.
        over: P,
    },
    /// This engine has lost the screen to an earlier claim of another participant.
    ScreenLost {
        /// To whom.
        to: P,
    },
    /// A message from a participant. Those to everybody come in the order in which it sent them, and those for some, too.
    Message(GroupMail<P>),
    /// Messages of a participant to everybody that were given up; see [`LagReason`].
    MessagesLost {
        /// Whose.
        from: P,
        /// How many.
        count: u64,
        /// Why.
        reason: LagReason,
    },
    /// An own message for some waits for a receiver that cannot be reached now.
    MessageStored {
        /// The message.
        id: GroupMessageId,
        /// The receiver.
        to: P,
    },
    /// An own message for some has reached a receiver.
    MessageDelivered {
        /// The message.
        id: GroupMessageId,
        /// The receiver.
        to: P,
        /// On which way.
        route: DeliveryRoute,
    },
    /// A media frame of a participant.
    Media(GroupMedia<P>),
    /// Media frames that did not come before their deadline: they will never be delivered.
    MediaLost {
        /// Whose.
        from: P,
        /// Of which track.
        track: MediaTrack,
        /// How many.
        count: u64,
    },
    /// From now on a track of a participant is received.
    TrackOpened {
        /// Whose.
        from: P,
        /// Which.
        track: MediaTrack,
    },
    /// A track is not received any more: it was switched off, its participant is gone, or others are more important now.
    TrackClosed {
        /// Whose.
        from: P,
        /// Which.
        track: MediaTrack,
    },
    /// Somebody needs a keyframe of an own track.
    KeyframeWanted {
        /// Of which.
        track: MediaTrack,
    },
    /// Others speak now.
    SpeakersChanged {
        /// Who, the loudest first: at most [`MediaOptions::full_max`](crate::MediaOptions::full_max).
        speakers: Vec<P>,
    },
    /// An own message for some has not reached a receiver in time, as far as this engine can tell.
    MessageFailed {
        /// The message.
        id: GroupMessageId,
        /// The receiver.
        to: P,
    },
}

/// A message in a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMail<P> {
    /// Who sent it.
    pub from: P,
    /// For how many it is.
    pub audience: Audience,
    /// The payload.
    pub payload: Bytes,
}

/// For how many a message is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Audience {
    /// Everybody.
    Everybody,
    /// Some, this engine among them.
    Some,
    /// This engine alone.
    One,
}

/// Why somebody is not let in, or is put out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum GroupRefusal {
    /// All places are taken; whoever joined last goes first.
    Full,
    /// A moderator has thrown it out. It may join again.
    ThrownOut,
    /// A moderator has banned it.
    Banned,
}

/// Why a participant is not in any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Departure {
    /// It said goodbye.
    Left,
    /// It fell silent: it crashed, or the network broke. It comes back by itself if it was the network.
    Lost,
    /// All places were taken, and it joined last.
    Surplus,
    /// A moderator has thrown it out, or banned it.
    ThrownOut,
    /// It began anew, and is in with its new life.
    Rejoined,
}

/// Why updates will never be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LagReason {
    /// No neighbour holds them any more.
    Expired,
    /// The source ran further ahead than `GossipConfig::window_max`.
    WindowFull,
    /// They did not come before their deadline.
    Late,
    /// A large update is larger than `GossipConfig::update_bytes_max`, or had to make room for others while it was put
    /// together (`GossipConfig::assembly_bytes_max`).
    NoRoom,
}

/// What a peer did that no correct peer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Offence {
    /// A frame that cannot be read.
    Malformed(WireError),
    /// More frames or bytes than its budget ([`LinkConfig`](crate::LinkConfig)); reported once a second at most.
    Flooding,
    /// A frame larger than the greatest allowed.
    Oversize,
    /// An update whose origin may not write its state; the sender should not have passed it on.
    NotAuthorized,
    /// In a signed topic, an update without the signature of its origin.
    BadSignature,
    /// A chunk of a large update that is not what its origin signed, or has no place in it.
    BadChunk,
    /// A request that names this engine where it must name another, or the other way round.
    Nonsense,
}
