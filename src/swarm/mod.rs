//! The kinds of swarms, each built from the machines below it.

mod group;
mod guard;
mod livestream;
mod timed;
mod topic;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::id::{Epoch, SwarmId};
use crate::io::{Class, Event, Offence};
use crate::time::Instant;
use crate::wire::{GossipMessage, MembershipMessage, Message, WirePeer};
pub(crate) use group::Group;
pub(crate) use group::media_state;
pub use group::{
    DeliveryRoute, GroupMedia, GroupMessageId, GroupOptions, GroupSendOptions, GroupTarget, JoinGroupOptions,
    MediaFrameOptions, MediaOptions, MediaTopology, MediaTrack, Participant, ParticipantChange,
};
pub use guard::Guard;
pub use livestream::{BroadcastOptions, DeliveryOrder, StreamQuality, StreamState, WatchOptions};
pub(crate) use livestream::{Livestream, check_quality, check_upload};
pub(crate) use topic::Topic;
pub use topic::TopicOptions;

/// What a swarm wants done; the engine carries it out and decides nothing.
#[derive(Debug)]
pub(crate) enum SwarmAction<P> {
    Send {
        to: P,
        /// Not in here, because most actions pass media on, and they are small; and often many peers get the same.
        message: Arc<Message<P>>,
        class: Class,
        deadline: Option<Instant>,
        key: Option<u64>,
    },
    /// A frame that is ready to leave.
    Pass {
        to: P,
        frame: Bytes,
        class: Class,
        deadline: Option<Instant>,
        key: Option<u64>,
    },
    /// The link to this peer is needed from now on.
    Hold(P),
    /// The link to this peer is not needed any more.
    Release(P),
    /// This peer is to get a sign of life, and the promise of another after that time.
    Beat(P, Duration),
    /// Others get no answer from this peer.
    Hurry(P),
    /// Others have one.
    Vouched(P),
    /// The neighbours may be dead, but for those that were heard of just now.
    SuspectNeighbors,
    Misbehaved(P, Offence),
    Event(Event<P>),
    /// Of a group: something about the livestreams of its participants.
    Stream(Box<StreamOrder<P>>),
    /// The swarm was left, and is to be forgotten.
    Gone,
}

/// What a group wants done with a livestream of its own. `node_upload` is what the node spends on all of them, in bytes a
/// second.
#[derive(Debug)]
pub(crate) enum StreamOrder<P> {
    /// Publish it.
    Open { id: SwarmId, options: BroadcastOptions<P>, node_upload: u64 },
    /// Receive it.
    Watch { id: SwarmId, options: WatchOptions<P>, node_upload: u64 },
    /// Spend this much on it, in bytes a second.
    SetUpload { id: SwarmId, bytes_per_s: u64 },
    /// Expect these to receive it, each of whom can spend so much on passing it on, in bytes a second.
    Expect { id: SwarmId, viewers: Vec<(P, u64)> },
    /// Send so much of it, parity included, in percent.
    SetRedundancy { id: SwarmId, percent: u16 },
    /// Neither publish nor receive it any more.
    Close { id: SwarmId },
}

pub(crate) type SwarmActions<P> = Vec<SwarmAction<P>>;

/// A joined swarm of either kind.
#[derive(Debug)]
pub(crate) enum Swarm<P: WirePeer> {
    Topic(Box<Topic<P>>),
    Livestream(Box<Livestream<P>>),
    Group(Box<Group<P>>),
}

impl<P: WirePeer> Swarm<P> {
    /// The topic: the swarm itself, the chat of a livestream, or what carries a group's messages to everybody.
    pub(crate) fn topic(&self) -> Option<&Topic<P>> {
        match self {
            Self::Topic(topic) => Some(topic),
            Self::Livestream(stream) => stream.chat(),
            Self::Group(group) => Some(group.topic()),
        }
    }

    /// Lets the topic act, if there is one.
    pub(crate) fn with_topic(
        &mut self,
        now: Instant,
        actions: &mut SwarmActions<P>,
        act: impl FnOnce(&mut Topic<P>, Instant, &mut SwarmActions<P>),
    ) {
        match self {
            Self::Topic(topic) => act(topic, now, actions),
            Self::Livestream(stream) => {
                if let Some(chat) = stream.chat_mut() {
                    act(chat, now, actions);
                }
            }
            Self::Group(group) => group.with_topic(now, actions, act),
        }
    }

    pub(crate) fn handle_gossip(
        &mut self,
        from: P,
        message: GossipMessage<P>,
        frame: Option<&Bytes>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        match self {
            Self::Group(group) => group.handle_gossip(from, message, frame, now, actions),
            other => other.with_topic(now, actions, |topic, now, actions| {
                topic.handle_gossip(from, message, frame, now, actions);
            }),
        }
    }

    pub(crate) fn group(&self) -> Option<&Group<P>> {
        match self {
            Self::Group(group) => Some(group),
            Self::Topic(_) | Self::Livestream(_) => None,
        }
    }

    pub(crate) fn group_mut(&mut self) -> Option<&mut Group<P>> {
        match self {
            Self::Group(group) => Some(group),
            Self::Topic(_) | Self::Livestream(_) => None,
        }
    }

    pub(crate) fn livestream(&self) -> Option<&Livestream<P>> {
        match self {
            Self::Topic(_) | Self::Group(_) => None,
            Self::Livestream(stream) => Some(stream),
        }
    }

    pub(crate) fn livestream_mut(&mut self) -> Option<&mut Livestream<P>> {
        match self {
            Self::Topic(_) | Self::Group(_) => None,
            Self::Livestream(stream) => Some(stream),
        }
    }

    /// The life in which this node publishes.
    pub(crate) fn epoch(&self) -> Epoch {
        match self {
            Self::Topic(topic) => topic.epoch(),
            Self::Livestream(stream) => stream.epoch(),
            Self::Group(group) => group.topic().epoch(),
        }
    }

    pub(crate) fn handle_membership(
        &mut self,
        from: P,
        message: MembershipMessage<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        match self {
            Self::Topic(topic) => topic.handle_membership(from, message, now, actions),
            Self::Livestream(stream) => stream.handle_membership(from, message, now, actions),
            Self::Group(group) => group.handle_membership(from, message, now, actions),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        match self {
            Self::Topic(topic) => topic.handle_timeout(now, actions),
            Self::Livestream(stream) => stream.handle_timeout(now, actions),
            Self::Group(group) => group.handle_timeout(now, actions),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Topic(topic) => topic.poll_timeout(),
            Self::Livestream(stream) => stream.poll_timeout(),
            Self::Group(group) => group.poll_timeout(),
        }
    }

    /// A peer that is no neighbour behaves as if it were.
    pub(crate) fn refuse_stranger(&mut self, from: P, now: Instant, actions: &mut SwarmActions<P>) {
        match self {
            Self::Topic(topic) => topic.refuse_stranger(from, now, actions),
            Self::Livestream(stream) => stream.refuse_stranger(from, now, actions),
            Self::Group(group) => group.refuse_stranger(from, now, actions),
        }
    }

    pub(crate) fn peer_lost(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        match self {
            Self::Topic(topic) => topic.peer_lost(peer, now, actions),
            Self::Livestream(stream) => stream.peer_lost(peer, now, actions),
            Self::Group(group) => group.peer_lost(peer, now, actions),
        }
    }

    pub(crate) fn set_rtt(&mut self, peer: P, rtt: Duration, deviation: Duration) {
        match self {
            Self::Topic(topic) => topic.set_rtt(peer, rtt, deviation),
            Self::Livestream(stream) => stream.set_rtt(peer, rtt, deviation),
            Self::Group(group) => group.set_rtt(peer, rtt, deviation),
        }
    }

    /// A peer has offended.
    pub(crate) fn blame(&mut self, peer: P, points: u32, now: Instant, actions: &mut SwarmActions<P>) {
        self.with_topic(now, actions, |topic, now, actions| topic.blame(peer, points, now, actions));
    }

    /// A neighbour does not answer.
    pub(crate) fn doubt(&mut self, peer: P, is_hearsay: bool, now: Instant, actions: &mut SwarmActions<P>) {
        self.with_topic(now, actions, |topic, now, actions| topic.doubt(peer, is_hearsay, now, actions));
    }

    /// A peer has pinged this node.
    pub(crate) fn pinged(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.with_topic(now, actions, |topic, now, actions| topic.pinged(peer, now, actions));
    }

    /// A neighbour has answered a ping.
    pub(crate) fn answered(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.with_topic(now, actions, |topic, now, actions| topic.answered(peer, now, actions));
    }

    /// A frame to or from a neighbour was lost.
    pub(crate) fn note_loss(&mut self, now: Instant) {
        match self {
            Self::Topic(topic) => topic.note_loss(now),
            Self::Livestream(stream) => stream.note_loss(now),
            Self::Group(group) => group.note_loss(now),
        }
    }

    pub(crate) fn leave(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        match self {
            Self::Topic(topic) => topic.leave(now, actions),
            Self::Livestream(stream) => stream.leave(now, actions),
            Self::Group(group) => group.leave(now, actions),
        }
    }
}
