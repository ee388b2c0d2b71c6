//! Agreement where only the newest counts.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::id::{Epoch, StateId, SwarmId, UpdateId};
use crate::io::Event;
use crate::sim::checker::{Breach, Check, Published, Violation, Violations};
use crate::sim::{NodeId, Observer, StopReason};
use crate::time::Instant;

type Versions = BTreeMap<(NodeId, StateId), (Epoch, u64)>;

/// With `Retention::Latest`, everybody has the newest update of each state that anybody has.
pub(super) struct Converged {
    swarm: SwarmId,
    /// What each node has of each state: the newest epoch and sequence.
    newest: BTreeMap<NodeId, Versions>,
    lives: BTreeMap<NodeId, BTreeSet<Epoch>>,
    violations: Violations,
}

impl Converged {
    pub(super) fn new(swarm: SwarmId) -> Self {
        Self { swarm, newest: BTreeMap::new(), lives: BTreeMap::new(), violations: Violations::default() }
    }

    fn note(&mut self, node: NodeId, origin: NodeId, state: StateId, version: (Epoch, u64)) {
        let newest = self.newest.entry(node).or_default().entry((origin, state)).or_insert(version);
        *newest = version.max(*newest);
    }
}

impl Observer for Converged {
    fn started(&mut self, node: NodeId, _now: Instant) {
        self.newest.insert(node, BTreeMap::new());
    }

    fn stopped(&mut self, node: NodeId, _now: Instant, _why: StopReason) {
        self.newest.remove(&node);
    }

    fn event(&mut self, node: NodeId, _now: Instant, event: &Event<NodeId>) {
        if let Event::Delivered(update) = event {
            self.note(node, update.id.origin, update.state, (update.id.epoch, update.id.sequence));
        }
    }
}

impl Check for Converged {
    fn published(&mut self, _now: Instant, update: &Published) {
        self.lives.entry(update.id.origin).or_default().insert(update.id.epoch);
        self.note(update.id.origin, update.id.origin, update.state, (update.id.epoch, update.id.sequence));
    }

    fn finish(&mut self, now: Instant) {
        let mut all = BTreeMap::new();
        for (&key, &version) in self.newest.values().flatten() {
            let newest = all.entry(key).or_insert(version);
            *newest = version.max(*newest);
        }
        for ((origin, state), version) in all {
            // Of each origin two lives are remembered, so a state of an earlier one is nobody's duty.
            let second = self.lives.get(&origin).and_then(|lives| lives.iter().rev().nth(1));
            if second.is_some_and(|&second| version.0 < second) {
                continue;
            }
            for (&node, newest) in &self.newest {
                if newest.get(&(origin, state)) != Some(&version) {
                    let id = UpdateId { swarm: self.swarm, origin, epoch: version.0, sequence: version.1 };
                    let violation = Violation { node, at: now, update: Some(id), breach: Breach::Missing };
                    self.violations.push(violation);
                }
            }
        }
    }

    fn violations(&self) -> &Violations {
        &self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn publish(check: &mut Converged, origin: NodeId, sequence: u64) {
        let id = UpdateId { swarm: SwarmId(1), origin, epoch: Epoch(0), sequence };
        let update = Published { id, state: StateId(3), payload: Bytes::new() };
        check.published(Instant::ZERO, &update);
    }

    #[test]
    fn who_lacks_the_newest_is_named_and_who_is_gone_is_not() {
        let mut check = Converged::new(SwarmId(1));
        (0..3).for_each(|node| check.started(node, Instant::ZERO));
        publish(&mut check, 0, 0);
        publish(&mut check, 0, 4);
        check.note(1, 0, StateId(3), (Epoch(0), 4));
        check.note(2, 0, StateId(3), (Epoch(0), 0));
        check.finish(Instant::ZERO);
        let lacking: alloc::vec::Vec<_> = check.violations().kept().iter().map(|found| found.node).collect();
        assert_eq!(lacking, [2]);

        let mut check = Converged::new(SwarmId(1));
        check.started(0, Instant::ZERO);
        check.started(1, Instant::ZERO);
        publish(&mut check, 0, 0);
        check.stopped(1, Instant::ZERO, StopReason::Crashed);
        check.finish(Instant::ZERO);
        assert!(check.violations().is_empty());
    }
}
