//! Peers that offend are refused for a while; peers from one network are not taken in crowds.

use alloc::vec::Vec;

use super::{Change, Engine};
use crate::id::SwarmTag;
use crate::time::Instant;
use crate::wire::WirePeer;

impl<P: WirePeer> Engine<P> {
    /// Peers that are refused now, for their offences.
    pub fn refused_count(&self) -> usize {
        self.reputation.refused(self.now)
    }

    /// Adds points to a peer, here and in all swarms.
    pub(super) fn blame(&mut self, peer: P, points: u32) {
        let now = self.now;
        if self.reputation.blame(peer, points, &self.config.score, now) {
            self.stats.peers_refused += 1;
            diagnose!(warn, ?peer, "refused for a while");
            self.offenders.push(peer);
            return;
        }
        if self.links.get(&peer).is_some_and(|link| link.holders > 0) {
            self.blamed.push((peer, points));
        }
    }

    /// Carries out what [`Self::blame`] has found, once no swarm is at work.
    pub(super) fn refuse_offenders(&mut self, now: Instant) {
        for (peer, points) in core::mem::take(&mut self.blamed) {
            let tags: Vec<_> = self.swarms.keys().copied().collect();
            for tag in tags {
                self.with_swarm(tag, |swarm, now, actions| swarm.blame(peer, points, now, actions));
            }
        }
        for peer in core::mem::take(&mut self.offenders) {
            if self.links.contains_key(&peer) {
                self.disconnect(peer, now);
            }
        }
    }

    /// Whether a connection of a peer is refused; then the host is told to close it.
    pub(super) fn turns_away(&mut self, peer: P, now: Instant) -> bool {
        if !self.reputation.is_refused(peer, now) {
            return false;
        }
        self.stats.refused_contacts += 1;
        let disconnect = Change::Disconnect(peer);
        let drained = self.connections.len() < self.config.link.links_max * 2;
        if drained && !self.connections.contains(&disconnect) {
            self.connections.push_back(disconnect);
        }
        true
    }

    pub(super) fn on_address(&mut self, peer: P, prefix: u64) {
        let max = self.config.link.links_max * 2;
        if !self.prefixes.contains_key(&peer) && self.prefixes.len() >= max {
            let spare = self.prefixes.keys().copied().find(|known| !self.links.contains_key(known));
            if let Some(spare) = spare {
                self.prefixes.remove(&spare);
            }
        }
        self.prefixes.insert(peer, prefix);
        let tags: Vec<_> = self.swarms.keys().copied().collect();
        for tag in tags {
            self.with_topic(tag, |topic, now, actions| topic.set_prefix(peer, prefix, now, actions));
        }
    }

    /// Tells a new swarm what is known of addresses.
    pub(super) fn tell_prefixes(&mut self, tag: SwarmTag) {
        let known: Vec<_> = self.prefixes.iter().map(|(&peer, &prefix)| (peer, prefix)).collect();
        for (peer, prefix) in known {
            self.with_topic(tag, |topic, now, actions| topic.set_prefix(peer, prefix, now, actions));
        }
    }
}
