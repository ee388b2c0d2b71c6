//! The kinds of swarms, each built from the machines below it.

mod guard;
mod topic;

use alloc::vec::Vec;

use crate::io::{Class, Event, Offence};
use crate::time::Instant;
use crate::wire::Message;
pub use guard::Guard;
pub(crate) use topic::Topic;
pub use topic::TopicOptions;

/// What a swarm wants done; the engine carries it out and decides nothing.
#[derive(Debug)]
pub(crate) enum SwarmAction<P> {
    Send {
        to: P,
        message: Message<P>,
        class: Class,
        deadline: Option<Instant>,
        key: Option<u64>,
    },
    /// The link to this peer is needed from now on.
    Hold(P),
    /// The link to this peer is not needed any more.
    Release(P),
    Misbehaved(P, Offence),
    Event(Event<P>),
}

pub(crate) type SwarmActions<P> = Vec<SwarmAction<P>>;
