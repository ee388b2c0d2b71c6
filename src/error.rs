//! What can go wrong on the caller's side. Remote faults are never errors: they become
//! [`Event::Misbehaved`](crate::Event::Misbehaved) and counters.

use crate::authority::{AuthorityError, WriteRefusal};
use crate::forest::PlanError;
use crate::id::SwarmId;
use crate::swarm::{MediaTrack, StreamState};

/// A configuration that cannot work. Nothing was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field is outside its range.
    #[error("`{field}` is {value}, but must be from {min} to {max}; nothing was created")]
    OutOfRange {
        /// The field, with its path from [`Config`](crate::Config).
        field: &'static str,
        /// What it is (durations in microseconds).
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// Two fields contradict each other.
    #[error("`{lesser}` must not exceed `{greater}`; nothing was created")]
    Order {
        /// The field that must be the smaller one.
        lesser: &'static str,
        /// The field that must be the greater one.
        greater: &'static str,
    },
}

/// A command that was refused. Every variant leaves the engine as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The engine is not a member of that swarm: never joined, or left. Nothing was changed.
    #[error("swarm {0:?} is not joined; nothing was changed")]
    UnknownSwarm(SwarmId),
    /// The engine is a member of that swarm already. Nothing was changed.
    #[error("swarm {0:?} is joined already; nothing was changed")]
    AlreadyJoined(SwarmId),
    /// Another joined swarm has the same 32-bit tag. Choose another id. Nothing was changed.
    #[error("swarm {0:?} has the tag of another joined swarm; nothing was changed")]
    TagTaken(SwarmId),
    /// As many swarms are joined as the configuration allows. Nothing was changed.
    #[error("{max} swarms are joined, which is the limit; nothing was changed")]
    TooManySwarms {
        /// The limit, `Config::swarms_max`.
        max: usize,
    },
    /// The payload does not fit. Nothing was published.
    #[error("the payload has {bytes} bytes, the limit is {max}; nothing was published")]
    Oversize {
        /// Its size.
        bytes: usize,
        /// The greatest that fits.
        max: usize,
    },
    /// The layer is above 7. Nothing was published.
    #[error("layer {0} is above 7; nothing was published")]
    Layer(u8),
    /// Only urgent updates may ask to go over every link, and only where
    /// [`GossipConfig::flood_on_request`](crate::GossipConfig::flood_on_request) allows it. Nothing was published.
    #[error("the update must not ask to go over every link; nothing was published")]
    Flood,
    /// This peer may not write that state. Nothing was published.
    #[error("the state must not be written: {0}; nothing was published")]
    NotAuthorized(WriteRefusal),
    /// The topic is signed, and its guard has no signer. Nothing was published.
    #[error("the topic is signed and the guard has no signer; nothing was published")]
    NoSigner,
    /// The topic is signed, and its guard has no hash for the chunks of large updates, or of media. Nothing was published or
    /// changed.
    #[error("the topic is signed and the guard has no chunk hasher; nothing was published")]
    NoChunkHasher,
    /// The topic has no rights to change: it was joined without an authority set. Nothing was changed.
    #[error("swarm {0:?} has no authority set; nothing was changed")]
    NoAuthority(SwarmId),
    /// The authority set refused the change.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The engine's own name cannot be a contact or a peer. Nothing was changed.
    #[error("the engine's own name was given as a peer; nothing was changed")]
    OwnName,
    /// A field of the options is outside its range. Nothing was changed.
    #[error("`{field}` is {value}, but must be from {min} to {max}; nothing was changed")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it is (durations in microseconds).
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// So much waits to be sent that publishing more would only drop it. Drain the output, wait for
    /// [`Event::Writable`](crate::Event::Writable), and try again. Nothing was published.
    #[error("{queued} bytes wait to be sent, the limit is {max}; nothing was published")]
    QueueFull {
        /// Bytes waiting.
        queued: usize,
        /// The limit, `EgressConfig::queue_bytes_max`.
        max: usize,
    },
    /// As many contacts or known peers as the configuration allows. Nothing was changed.
    #[error("{given} peers were given, the limit is {max}; nothing was changed")]
    TooManyPeers {
        /// How many were given.
        given: usize,
        /// The limit.
        max: usize,
    },
    /// The swarm is no livestream. Nothing was changed.
    #[error("swarm {0:?} is no livestream; nothing was changed")]
    NotLivestream(SwarmId),
    /// Only the source of a livestream can do this. Nothing was changed.
    #[error("this engine is not the source of livestream {0:?}; nothing was changed")]
    NotSource(SwarmId),
    /// Only a viewer of a livestream can do this. Nothing was changed.
    #[error("this engine is the source of livestream {0:?} and does not watch it; nothing was changed")]
    NotWatched(SwarmId),
    /// The livestream is not active. Nothing was published.
    #[error("the livestream is {0:?}, not active; nothing was published")]
    NotActive(StreamState),
    /// The livestream cannot take that step. Nothing was changed.
    #[error("a livestream cannot go from {from:?} to {to:?}; nothing was changed")]
    StreamStep {
        /// What it is.
        from: StreamState,
        /// What it was to be.
        to: StreamState,
    },
    /// The livestream was joined without its chat. Nothing was published.
    #[error("livestream {0:?} was joined without its chat; nothing was published")]
    NoChat(SwarmId),
    /// The swarm is no group. Nothing was changed.
    #[error("swarm {0:?} is no group; nothing was changed")]
    NotGroup(SwarmId),
    /// Messages to a group go through [`Engine::send_group`](crate::Engine::send_group). Nothing was published.
    #[error("swarm {0:?} is a group, which has messages instead of states; nothing was published")]
    IsGroup(SwarmId),
    /// This engine waits to be let in; see [`GroupEvent::Admitted`](crate::GroupEvent::Admitted). Nothing was changed.
    #[error("this engine has not been let into group {0:?} yet; nothing was changed")]
    NotAdmitted(SwarmId),
    /// A group can be joined only through somebody. Nothing was changed.
    #[error("no participant was given to join through; nothing was changed")]
    NoContacts,
    /// A peer that was named takes no part in the group. Nothing was changed.
    #[error("a peer that was named takes no part in the group; nothing was changed")]
    UnknownParticipant,
    /// The engine itself was named as a receiver. Nothing was sent.
    #[error("a message to oneself needs no network; nothing was sent")]
    ToOneself,
    /// A message for nobody. Nothing was sent.
    #[error("the message names no receiver; nothing was sent")]
    NoReceivers,
    /// A receiver was named twice. Nothing was sent.
    #[error("a receiver was named twice; nothing was sent")]
    RepeatedReceiver,
    /// As many messages for some wait to be acknowledged as the configuration allows. Nothing was sent.
    #[error(
        "{waiting} messages of {bytes} bytes wait to be acknowledged, which is the limit; nothing was sent"
    )]
    TooManyMessages {
        /// How many wait.
        waiting: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The group was joined without media. Nothing was changed.
    #[error("group {0:?} was joined without media; nothing was changed")]
    NoMedia(SwarmId),
    /// This participant has switched that track off, or does not show its screen. Nothing was published.
    #[error("the track {0:?} is off; nothing was published")]
    TrackOff(MediaTrack),
    /// As many participants are pinned as can be received in full. Nothing was changed.
    #[error("{max} participants are pinned, which is the limit; nothing was changed")]
    TooManyPins {
        /// The limit, `MediaOptions::full_max`.
        max: usize,
    },
    /// Another participant shows its screen. Nothing was changed.
    #[error("another participant shows its screen; nothing was changed")]
    ScreenTaken,
    /// This engine does not show its screen. Nothing was changed.
    #[error("this engine does not show its screen; nothing was changed")]
    ScreenNotHeld,
    /// As many peers are thrown out or banned as the configuration allows. Nothing was changed.
    #[error("{max} peers are thrown out or banned, which is the limit; nothing was changed")]
    TooManyVerdicts {
        /// The limit, `GroupConfig::verdicts_max`.
        max: usize,
    },
    /// The livestream cannot be planned. Nothing was created.
    #[error("the livestream cannot be planned: {0}")]
    Plan(PlanError),
}
