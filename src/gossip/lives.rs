//! The lives of this node: what it publishes belongs to one, and a life that is taken is left for a new one.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::{Gossip, PublishOptions};
use crate::id::{Epoch, StateId};
use crate::time::Instant;
use crate::wire::{Data, WirePeer};

/// At most one new life in this time.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

impl<P: WirePeer> Gossip<P> {
    /// Whether a peer knows updates of this node that this life has not published: it restarted without a greater epoch.
    pub(super) fn is_from_unknown_life(&self, origin: P, epoch: Epoch, end: u64) -> bool {
        origin == self.local && (epoch > self.epoch || epoch == self.epoch && end > self.next_sequence)
    }

    /// Begins a life that the swarm has not seen; what this one published and still holds is to be said again.
    pub(super) fn renew_epoch(&mut self, taken: Epoch, now: Instant) {
        let Some(next) = taken.0.checked_add(1) else { return };
        // Whoever forges lives of this node gets no more than one answer in that time.
        if self.renewed_at.is_some_and(|at| now - at < RENEWAL_INTERVAL) {
            return;
        }
        self.renewed_at = Some(now);
        self.stats.epochs_renewed += 1;
        let mut again = Vec::new();
        if let Some(source) = self.log.source(self.local, self.epoch) {
            let updates: Vec<_> = self.log.updates(source, now).collect();
            again.extend(updates.into_iter().map(|data| self.unpack(source, data)));
            self.log.remove(source);
            self.forget(source);
        }
        self.epoch = Epoch(next);
        self.next_sequence = 0;
        self.unsaid.extend(again);
    }

    /// An update of this node, not signed yet.
    pub(super) fn own_data(
        &self,
        state: StateId,
        body: Bytes,
        options: PublishOptions,
        now: Instant,
    ) -> Data<P> {
        Data {
            origin: self.local,
            epoch: self.epoch,
            sequence: self.next_sequence,
            state,
            priority: options.priority,
            keyframe: options.keyframe,
            layer: options.layer,
            hops: 0,
            pulled: false,
            flood: options.flood,
            born: now,
            body,
            signature: Bytes::new(),
        }
    }
}
