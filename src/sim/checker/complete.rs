//! Nothing is lost in silence.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Breach, Check, Published, Violation, Violations};
use crate::id::SwarmId;
use crate::io::Event;
use crate::sim::ledger::{Ledger, NodeSet};
use crate::sim::{NodeId, Observer, StopReason};
use crate::time::Instant;

/// Every node that was in the swarm from the publication of an update until the end of its retention was given the
/// update, or told that it lags.
///
/// A node is in a swarm from its [`Event::Joined`], or from [`Check::joined`], until [`Check::left`] or its stop. A node
/// is asked when it leaves, and in [`Check::finish`]: updates whose retention has not ended by then are not asked for.
/// One bit per update and node.
#[derive(Clone, Debug)]
pub struct Complete {
    retention: Duration,
    updates: Ledger<Readers>,
    /// By node: the swarms it is in, and since when.
    members: Vec<Vec<(SwarmId, Instant)>>,
    exempt: NodeSet,
    excuses_lost: bool,
    violations: Violations,
}

#[derive(Clone, Debug, Default)]
struct Readers {
    at: Instant,
    told: NodeSet,
    /// Whether the life that published it lasts.
    author_up: bool,
    /// Nodes that were given it in their present life. Only kept if lost updates are excused.
    holders: NodeSet,
    holder_count: usize,
}

impl Complete {
    /// A checker for updates that are kept that long.
    pub fn new(retention: Duration) -> Self {
        Self {
            retention,
            updates: Ledger::default(),
            members: Vec::new(),
            exempt: NodeSet::default(),
            excuses_lost: false,
            violations: Violations::default(),
        }
    }

    /// Does not ask for an update that died with its publisher and everybody who had it: nobody could have passed it on.
    #[must_use]
    pub fn excusing_lost(mut self) -> Self {
        self.excuses_lost = true;
        self
    }

    /// Asks nothing of `node`, which has a fault.
    pub fn exempt(&mut self, node: NodeId) {
        self.exempt.insert(node);
    }

    fn since(&self, node: NodeId, swarm: SwarmId) -> Option<Instant> {
        let swarms = self.members.get(node as usize)?;
        swarms.iter().find(|member| member.0 == swarm).map(|member| member.1)
    }

    /// Asks for what was published from `since` on, and was kept until `now` at most.
    fn ask(&mut self, now: Instant, node: NodeId, swarm: SwarmId, since: Instant) {
        if self.exempt.contains(node) {
            return;
        }
        let from = self.updates.items().partition_point(|(_, readers)| readers.at < since);
        for (id, readers) in &self.updates.items()[from..] {
            if readers.at + self.retention > now {
                break;
            }
            if self.excuses_lost && !readers.author_up && readers.holder_count == 0 {
                continue;
            }
            if id.swarm == swarm && id.origin != node && !readers.told.contains(node) {
                let violation =
                    Violation { node, at: readers.at, update: Some(*id), breach: Breach::Missing };
                self.violations.push(violation);
            }
        }
    }
}

impl Observer for Complete {
    fn stopped(&mut self, node: NodeId, now: Instant, _why: StopReason) {
        let swarms = self.members.get_mut(node as usize).map(core::mem::take).unwrap_or_default();
        for (swarm, since) in swarms {
            self.ask(now, node, swarm, since);
        }
        if self.excuses_lost {
            for (id, readers) in self.updates.entries_mut() {
                readers.author_up &= id.origin != node;
                if readers.holders.contains(node) {
                    readers.holders.remove(node);
                    readers.holder_count -= 1;
                }
            }
        }
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Delivered(update) => {
                let since = self.since(node, update.id.swarm);
                let keeps_holders = self.excuses_lost;
                if let Some(readers) = self.updates.find(&update.id) {
                    if keeps_holders && readers.holders.insert(node) {
                        readers.holder_count += 1;
                    }
                    // What a later life is given does not excuse the earlier one.
                    if since.is_some_and(|since| since <= readers.at) {
                        readers.told.insert(node);
                    }
                }
            }
            Event::Lagged { swarm, origin, epoch, sequences, .. } => {
                let Some(since) = self.since(node, *swarm) else { return };
                self.updates.for_each_in((*swarm, *origin, *epoch), sequences.clone(), |_, readers| {
                    if since <= readers.at {
                        readers.told.insert(node);
                    }
                });
            }
            Event::Joined { swarm } => self.joined(now, node, *swarm),
            _ => {}
        }
    }
}

impl Check for Complete {
    fn published(&mut self, now: Instant, update: &Published) {
        self.updates.insert(update.id, Readers { at: now, author_up: true, ..Readers::default() });
    }

    fn joined(&mut self, now: Instant, node: NodeId, swarm: SwarmId) {
        if self.since(node, swarm).is_none() {
            let index = node as usize;
            if index >= self.members.len() {
                self.members.resize_with(index + 1, Vec::new);
            }
            self.members[index].push((swarm, now));
        }
    }

    fn left(&mut self, now: Instant, node: NodeId, swarm: SwarmId) {
        if let Some(since) = self.since(node, swarm) {
            self.members[node as usize].retain(|member| member.0 != swarm);
            self.ask(now, node, swarm, since);
        }
    }

    fn finish(&mut self, now: Instant) {
        for index in 0..self.members.len() {
            for (swarm, since) in self.members[index].clone() {
                self.ask(now, index as NodeId, swarm, since);
            }
            if now < Instant::ZERO + self.retention {
                continue;
            }
            // What was asked for is not asked for again.
            let open_since = now - self.retention + Duration::from_micros(1);
            for member in &mut self.members[index] {
                member.1 = member.1.max(open_since);
            }
        }
    }

    fn violations(&self) -> &Violations {
        &self.violations
    }
}
