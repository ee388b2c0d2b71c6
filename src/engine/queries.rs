//! What a host can ask an engine at any time.

use alloc::vec::Vec;

use super::Engine;
use crate::config::Config;
use crate::id::SwarmId;
use crate::propagation::EgressStats;
use crate::stats::{EngineStats, TopicStats};
use crate::swarm::Topic;
use crate::wire::{SourceRanges, WirePeer};

impl<P: WirePeer> Engine<P> {
    /// This peer's own name.
    pub fn local(&self) -> P {
        self.local
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters of the engine itself.
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// Bytes that wait to be sent. After [`Self::leave`] and a drain, 0 means that the host has every farewell in hand.
    pub fn queued_bytes(&self) -> usize {
        self.egress.queued_bytes()
    }

    /// Counters of what leaves it.
    pub fn egress_stats(&self) -> &EgressStats {
        self.egress.stats()
    }

    /// Counters and sizes of one swarm, if it is joined.
    pub fn topic_stats(&self, swarm: SwarmId) -> Option<TopicStats> {
        let joined =
            self.swarms.get(&swarm.tag()).filter(|joined| joined.id == swarm && joined.owner.is_none())?;
        joined.swarm.topic().map(Topic::stats)
    }

    /// The present neighbours in a swarm, in the order of their names; none if it is not joined.
    pub fn neighbors(&self, swarm: SwarmId) -> Vec<P> {
        let joined =
            self.swarms.get(&swarm.tag()).filter(|joined| joined.id == swarm && joined.owner.is_none());
        let topic = joined.and_then(|joined| joined.swarm.topic());
        let mut neighbors: Vec<_> = topic.into_iter().flat_map(|topic| topic.neighbors()).collect();
        neighbors.sort_unstable();
        neighbors
    }

    /// The present neighbours in a swarm that are not trusted to push updates to this node, in the order of their names.
    pub fn distrusted(&self, swarm: SwarmId) -> Vec<P> {
        let joined =
            self.swarms.get(&swarm.tag()).filter(|joined| joined.id == swarm && joined.owner.is_none());
        let topic = joined.and_then(|joined| joined.swarm.topic());
        let mut distrusted: Vec<_> = topic.into_iter().flat_map(|topic| topic.distrusted()).collect();
        distrusted.sort_unstable();
        distrusted
    }

    /// The fingerprint of everything known in a swarm: equal on two nodes if and only if (but for 1 in 2^64) they know the
    /// same updates.
    pub fn fingerprint(&self, swarm: SwarmId) -> Option<u64> {
        let joined =
            self.swarms.get(&swarm.tag()).filter(|joined| joined.id == swarm && joined.owner.is_none())?;
        joined.swarm.topic().map(Topic::fingerprint)
    }

    /// Which updates are known in a swarm, source by source: delivered, published, or given up. Empty if it is not
    /// joined.
    pub fn known(&self, swarm: SwarmId) -> Vec<SourceRanges<P>> {
        let joined =
            self.swarms.get(&swarm.tag()).filter(|joined| joined.id == swarm && joined.owner.is_none());
        joined.and_then(|joined| joined.swarm.topic()).map_or_else(Vec::new, Topic::known)
    }

    /// Links that are up, being set up, or being closed.
    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    /// What may wait in all: the egress always takes one frame.
    pub(super) fn queue_bytes_max(&self) -> usize {
        self.config.egress.queue_bytes_max.max(self.config.frame_bytes_max)
    }

    /// Whether the queue is half empty and takes a payload of `bytes`.
    pub(super) fn has_room_again(&self, bytes: usize) -> bool {
        let (queued, max) = (self.egress.queued_bytes(), self.queue_bytes_max());
        queued * 2 < max && queued + bytes <= max
    }
}
