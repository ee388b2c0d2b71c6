//! Names: peers, swarms, states, epochs and updates.

use core::fmt::Debug;
use core::hash::Hash;

use crate::rng::mix;

/// The host's own name for a peer: a number, a 32-byte key, a slab handle.
///
/// Implemented for every type that is cheap to copy, ordered and hashable; there is nothing to write.
pub trait PeerId: Copy + Ord + Hash + Debug + 'static {}

impl<T: Copy + Ord + Hash + Debug + 'static> PeerId for T {}

/// The name of a swarm: a set of peers that share one distribution.
///
/// All members must use the same number. [`SwarmId::from_name`] makes one from a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SwarmId(pub u64);

impl SwarmId {
    /// The swarm that everybody who hashes the same name means.
    ///
    /// ```
    /// use suffuse::SwarmId;
    /// assert_eq!(SwarmId::from_name("weather"), SwarmId::from_name("weather"));
    /// assert_ne!(SwarmId::from_name("weather"), SwarmId::from_name("traffic"));
    /// ```
    pub const fn from_name(name: &str) -> Self {
        let bytes = name.as_bytes();
        let mut hash = mix(bytes.len() as u64);
        let mut index = 0;
        while index < bytes.len() {
            hash = mix(hash ^ bytes[index] as u64);
            index += 1;
        }
        Self(hash)
    }

    /// The 32 bits that stand for the swarm in frames between peers that have agreed on the whole id.
    pub const fn tag(self) -> SwarmTag {
        let folded = mix(self.0);
        SwarmTag((folded >> 32) as u32)
    }
}

/// A swarm's short form on the wire; see [`SwarmId::tag`].
///
/// Links are made with the whole [`SwarmId`], so two swarms with one tag never mix; an engine refuses to join a
/// second swarm with a tag that it already uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SwarmTag(pub u32);

/// One independently versioned thing inside a swarm: a track, an entity, a chat log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StateId(pub u64);

/// Which life of an origin an update belongs to. A later life has a greater epoch.
///
/// A host that restarts must present a greater epoch than before: a boot counter, or the wall clock in seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Epoch(pub u32);

/// The identity of an update. No two updates share one, whatever their payloads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UpdateId<P> {
    /// The swarm it was published to.
    pub swarm: SwarmId,
    /// Who published it.
    pub origin: P,
    /// The life of the origin.
    pub epoch: Epoch,
    /// Its place among the updates of this origin in this swarm and epoch, contiguous from 0.
    pub sequence: u64,
}

/// How urgent an update is, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Priority {
    /// History, bulk data: gets what the others leave, but never nothing.
    Background,
    /// The usual.
    #[default]
    Normal,
    /// Ahead of normal updates.
    High,
    /// Ahead of everything but control messages, on every hop.
    Urgent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_spread_over_tags() {
        let a = SwarmId::from_name("a");
        let b = SwarmId::from_name("b");
        assert_ne!(a.tag(), b.tag());
        assert_ne!(SwarmId(0).tag(), SwarmId(1).tag());
    }
}
