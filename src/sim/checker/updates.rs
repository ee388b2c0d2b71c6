//! Checks of single deliveries.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use bytes::Bytes;

use super::{Breach, Check, Published, Violation, Violations};
use crate::id::{Epoch, StateId, SwarmId, UpdateId};
use crate::io::{Event, Update};
use crate::sim::ledger::{Ledger, NodeSet};
use crate::sim::{NodeId, Observer};
use crate::time::Instant;

/// No update is delivered twice to one life of a node, nor to the life of its origin that published it, nor after it was
/// told as lagged. A node that lost its memory may get back what it said in a former life.
///
/// Two bits per update and node.
#[derive(Clone, Debug, Default)]
pub struct ExactlyOnce {
    updates: Ledger<Told>,
    /// Deliveries of what nobody published: they count once too.
    unpublished: BTreeSet<(NodeId, UpdateId<NodeId>)>,
    /// Nodes that were told anything: only these have something to forget in a new life.
    known: NodeSet,
    violations: Violations,
}

#[derive(Clone, Debug, Default)]
struct Told {
    /// The node that published it, while that life lasts.
    author: Option<NodeId>,
    delivered: NodeSet,
    lagged: NodeSet,
}

impl ExactlyOnce {
    /// A checker that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn delivered(&mut self, node: NodeId, now: Instant, id: UpdateId<NodeId>) {
        self.known.insert(node);
        let (first, lagged, own) = match self.updates.find(&id) {
            Some(told) => {
                (told.delivered.insert(node), told.lagged.contains(node), told.author == Some(node))
            }
            None => (self.unpublished.insert((node, id)), false, id.origin == node),
        };
        let mut report = |breach| self.violations.push(Violation { node, at: now, update: Some(id), breach });
        if !first {
            report(Breach::DeliveredTwice);
        }
        if lagged {
            report(Breach::DeliveredAfterLagged);
        }
        if own {
            report(Breach::DeliveredToOrigin);
        }
    }
}

impl Observer for ExactlyOnce {
    fn started(&mut self, node: NodeId, _now: Instant) {
        if !self.known.contains(node) {
            return;
        }
        self.known.remove(node);
        for told in self.updates.items_mut() {
            told.delivered.remove(node);
            told.lagged.remove(node);
            told.author = told.author.filter(|&author| author != node);
        }
        self.unpublished.retain(|&(other, _)| other != node);
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => self.delivered(node, now, update.id),
            Event::Lagged { swarm, origin, epoch, sequences, .. } => {
                self.known.insert(node);
                self.updates.for_each_in((*swarm, *origin, *epoch), sequences.clone(), |_, told| {
                    told.lagged.insert(node);
                });
            }
            _ => {}
        }
    }
}

impl Check for ExactlyOnce {
    fn published(&mut self, _now: Instant, update: &Published) {
        self.known.insert(update.id.origin);
        self.updates.insert(update.id, Told { author: Some(update.id.origin), ..Told::default() });
    }

    fn violations(&self) -> &Violations {
        &self.violations
    }
}

/// Only what was published is delivered, with the very bytes it was published with; if asked, nothing too old, and
/// nothing from an earlier life of an origin after something from a later one.
///
/// Keeps the payloads, which share their memory with the publisher's.
#[derive(Clone, Debug, Default)]
pub struct NothingForged {
    age_max: Option<Duration>,
    epochs_in_order: bool,
    updates: Ledger<Original>,
    /// Which nodes were given something of which life of an origin.
    readers: BTreeMap<(SwarmId, NodeId), BTreeMap<Epoch, NodeSet>>,
    violations: Violations,
}

#[derive(Clone, Debug)]
struct Original {
    at: Instant,
    state: StateId,
    payload: Bytes,
}

impl NothingForged {
    /// A checker without limits to age.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also: nothing is delivered later than this after its publication.
    #[must_use]
    pub fn with_age_max(mut self, age_max: Duration) -> Self {
        self.age_max = Some(age_max);
        self
    }

    /// Also: once a node was given an update of a later life of an origin, it is given none of an earlier life.
    #[must_use]
    pub fn with_epochs_in_order(mut self) -> Self {
        self.epochs_in_order = true;
        self
    }

    fn delivered(&mut self, node: NodeId, now: Instant, update: &Update<NodeId>) {
        let id = update.id;
        let mut report = |breach| self.violations.push(Violation { node, at: now, update: Some(id), breach });
        match self.updates.find(&id) {
            None => report(Breach::NeverPublished),
            Some(original) => {
                if original.state != update.state || original.payload != update.payload {
                    report(Breach::Altered);
                }
                let age = now - original.at;
                if self.age_max.is_some_and(|age_max| age > age_max) {
                    report(Breach::TooOld { age });
                }
            }
        }
        if self.epochs_in_order {
            let lives = self.readers.entry((id.swarm, id.origin)).or_default();
            if lives
                .iter()
                .rev()
                .take_while(|&(&epoch, _)| epoch > id.epoch)
                .any(|(_, readers)| readers.contains(node))
            {
                report(Breach::OldEpoch);
            }
            lives.entry(id.epoch).or_default().insert(node);
        }
    }
}

impl Observer for NothingForged {
    fn started(&mut self, node: NodeId, _now: Instant) {
        for readers in self.readers.values_mut().flat_map(BTreeMap::values_mut) {
            readers.remove(node);
        }
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        if let Event::Delivered(update) = event {
            self.delivered(node, now, update);
        }
    }
}

impl Check for NothingForged {
    fn published(&mut self, now: Instant, update: &Published) {
        let original = Original { at: now, state: update.state, payload: update.payload.clone() };
        self.updates.insert(update.id, original);
    }

    fn violations(&self) -> &Violations {
        &self.violations
    }
}
