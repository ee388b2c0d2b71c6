//! Who is not taken as a neighbour: those that brought nothing, and crowds from one network.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Ask, ViewAction, Views};
use crate::config::MembershipConfig;
use crate::id::PeerId;
use crate::time::Instant;
use crate::wire::{MembershipMessage, NeighborRequest, WirePeer};

/// How long a neighbour that brought nothing is not asked again.
const PARTED_FOR: Duration = Duration::from_secs(60);

/// Such peers, at most; the one parted from first makes room.
const PARTED_MAX: usize = 32;

/// Peers that this node has parted from, with the time until which it asks them no more.
#[derive(Debug)]
pub(super) struct Parted<P>(Vec<(P, Instant)>);

impl<P> Default for Parted<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The address prefixes of peers, as far as the host has told them.
#[derive(Debug)]
pub(super) struct Prefixes<P> {
    keys: BTreeMap<P, u64>,
    /// Room for the views twice over. When full, one that is neither neighbour nor known otherwise makes room.
    max: usize,
}

impl<P: PeerId> Prefixes<P> {
    pub(super) fn new(config: &MembershipConfig) -> Self {
        Self { keys: BTreeMap::new(), max: 2 * (config.passive_max + config.active_max) }
    }
}

impl<P: WirePeer> Views<P> {
    /// Tells the prefix of a peer's address as a key that only the host understands: peers with equal keys come from one
    /// network, and no more than [`MembershipConfig::prefix_max`] of them are neighbours at a time. The newest go.
    pub fn set_prefix(&mut self, peer: P, prefix: u64, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if !self.prefixes.keys.contains_key(&peer) && self.prefixes.keys.len() >= self.prefixes.max {
            let spare = self.prefixes.keys.keys().copied().find(|&known| !self.is_known(known));
            match spare {
                Some(spare) => _ = self.prefixes.keys.remove(&spare),
                None => return,
            }
        }
        self.prefixes.keys.insert(peer, prefix);
        if self.is_neighbor(peer) && self.crowds(peer) {
            self.stats.crowded += 1;
            self.dismiss(peer, now, actions);
        }
    }

    /// Parts from a neighbour that brought nothing, unless there is hardly anybody else. It is not asked again for a while,
    /// and taken only if it has nobody else.
    pub fn part_from(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if !self.is_neighbor(peer) || self.active.len() <= self.config.active_target / 2 {
            return;
        }
        self.stats.parted += 1;
        self.parted.0.retain(|&(other, until)| other != peer && until > now);
        if self.parted.0.len() >= PARTED_MAX {
            self.parted.0.remove(0);
        }
        self.parted.0.push((peer, now + PARTED_FOR));
        self.passive.remove(peer);
        self.dismiss(peer, now, actions);
    }

    /// Whether a peer may become a neighbour, as far as its past and its address go.
    pub(super) fn welcomes(&mut self, peer: P, now: Instant) -> bool {
        let crowds = self.crowds(peer);
        self.stats.crowded += u64::from(crowds);
        !crowds && !self.is_parted(peer, now)
    }

    /// Whether as many neighbours as may be share the prefix of a peer.
    pub(super) fn crowds(&self, peer: P) -> bool {
        let Some(key) = self.prefixes.keys.get(&peer) else { return false };
        let alike = |other: &P| *other != peer && self.prefixes.keys.get(other) == Some(key);
        self.neighbors().filter(alike).count() >= self.config.prefix_max
    }

    /// Whether a request to a peer makes sense. One that joins two parts of a broken swarm always does.
    pub(super) fn may_ask(&self, peer: P, ask: Ask<P>, now: Instant) -> bool {
        match ask {
            Ask::Join => true,
            Ask::Probe | Ask::Neighbor(NeighborRequest::High) => !self.crowds(peer),
            Ask::Neighbor(_) => !self.crowds(peer) && !self.is_parted(peer, now),
        }
    }

    /// Peers of the passive view that would not be asked now.
    pub(super) fn unwelcome(&self, now: Instant) -> Vec<P> {
        if self.parted.0.is_empty() && self.prefixes.keys.is_empty() {
            return Vec::new();
        }
        let low = Ask::Neighbor(NeighborRequest::Low);
        self.passive.iter().filter(|&peer| !self.may_ask(peer, low, now)).collect()
    }

    fn is_parted(&self, peer: P, now: Instant) -> bool {
        self.parted.0.iter().any(|&(other, until)| other == peer && until > now)
    }

    fn is_known(&self, peer: P) -> bool {
        self.is_neighbor(peer) || self.is_pending(peer) || self.passive.iter().any(|other| other == peer)
    }

    fn dismiss(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        actions.push(ViewAction::Send { to: peer, message: MembershipMessage::Bye { leaving: false } });
        self.drop_neighbor(peer, now, actions);
    }
}
