//! How long updates took to their readers.

use core::time::Duration;

use super::ledger::Ledger;
use super::{NodeId, Observer};
use crate::id::UpdateId;
use crate::io::{Event, Update};
use crate::stats::Histogram;
use crate::time::Instant;

/// Measures deliveries: an [`Observer`] that must be told of each publication, at its true time.
///
/// ```
/// use suffuse::sim::Deliveries;
/// use suffuse::{Epoch, Instant, SwarmId, UpdateId};
///
/// let mut deliveries = Deliveries::new();
/// let id = UpdateId { swarm: SwarmId(1), origin: 0, epoch: Epoch(0), sequence: 0 };
/// deliveries.published(id, Instant::ZERO);
/// assert_eq!(deliveries.reach(&id).unwrap().nodes, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    updates: Ledger<Reach>,
    latency_us: Histogram,
    hops: Histogram,
    age_error_us: Histogram,
    payload_bytes: u64,
    lagged: u64,
}

/// How far one update has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// When it was published.
    pub published: Instant,
    /// How many times it was delivered.
    pub nodes: u64,
    /// When it was delivered last, so far.
    pub last: Instant,
    /// The most links it crossed to a reader, so far: its last delivery hop.
    pub hops_max: u8,
}

impl Reach {
    /// From the publication to the last delivery.
    pub fn spread(&self) -> Duration {
        self.last - self.published
    }
}

impl Deliveries {
    /// Nothing published yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a publication. Deliveries of updates that were never reported here are not measured.
    pub fn published(&mut self, id: UpdateId<NodeId>, now: Instant) {
        self.updates.insert(id, Reach { published: now, nodes: 0, last: now, hops_max: 0 });
    }

    /// Times from publication to delivery in microseconds, one per delivery.
    pub fn latency_us(&self) -> &Histogram {
        &self.latency_us
    }

    /// Links crossed, one per delivery.
    pub fn hops(&self) -> &Histogram {
        &self.hops
    }

    /// By how much [`Update::born`] missed the true time of publication, in microseconds, one per delivery.
    pub fn age_error_us(&self) -> &Histogram {
        &self.age_error_us
    }

    /// Payload bytes delivered. What was sent, divided by it, is the copies per delivery.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Deliveries measured.
    pub fn count(&self) -> u64 {
        self.latency_us.count()
    }

    /// Pairs of update and node that were told as lagged.
    pub fn lagged(&self) -> u64 {
        self.lagged
    }

    /// How far `id` has come.
    pub fn reach(&mut self, id: &UpdateId<NodeId>) -> Option<Reach> {
        self.updates.find(id).copied()
    }

    /// How far each update has come, in the order of publication.
    pub fn reaches(&self) -> impl Iterator<Item = (UpdateId<NodeId>, Reach)> + '_ {
        self.updates.items().iter().copied()
    }

    fn delivered(&mut self, now: Instant, update: &Update<NodeId>) {
        let Some(reach) = self.updates.find(&update.id) else { return };
        reach.nodes += 1;
        reach.last = now;
        reach.hops_max = reach.hops_max.max(update.hops);
        self.latency_us.record(now.as_micros().saturating_sub(reach.published.as_micros()));
        self.hops.record(u64::from(update.hops));
        self.age_error_us.record(update.born.as_micros().abs_diff(reach.published.as_micros()));
        self.payload_bytes += update.payload.len() as u64;
    }
}

impl Observer for Deliveries {
    fn event(&mut self, _node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => self.delivered(now, update),
            Event::Lagged { swarm, origin, epoch, sequences, .. } => {
                let lagged = &mut self.lagged;
                self.updates.for_each_in((*swarm, *origin, *epoch), sequences.clone(), |_, _| *lagged += 1);
            }
            _ => {}
        }
    }
}
