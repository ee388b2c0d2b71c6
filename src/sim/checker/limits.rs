//! Checks of sizes and rates.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Breach, Check, Violation, Violations};
use crate::id::SwarmId;
use crate::io::Event;
use crate::sim::{NodeId, Observer, SentFrame, StopReason, WindowMeter};
use crate::time::Instant;

/// Nothing grows beyond its limit: what the test measures with [`Check::gauge`], and the neighbours that events tell of.
#[derive(Clone, Debug, Default)]
pub struct Caps {
    neighbors_max: Option<u64>,
    neighbors: BTreeMap<(NodeId, SwarmId), u64>,
    violations: Violations,
}

impl Caps {
    /// A checker of gauges alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also: no node has more neighbours than this in a swarm.
    #[must_use]
    pub fn with_neighbors_max(mut self, neighbors_max: u64) -> Self {
        self.neighbors_max = Some(neighbors_max);
        self
    }
}

impl Observer for Caps {
    fn stopped(&mut self, node: NodeId, _now: Instant, _why: StopReason) {
        self.neighbors.retain(|&(other, _), _| other != node);
    }

    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        let Some(limit) = self.neighbors_max else { return };
        match event {
            Event::NeighborUp { swarm, .. } => {
                let count = self.neighbors.entry((node, *swarm)).or_default();
                *count += 1;
                let value = *count;
                self.gauge(now, node, "neighbours", value, limit);
            }
            Event::NeighborDown { swarm, .. } => {
                let count = self.neighbors.entry((node, *swarm)).or_default();
                *count = count.saturating_sub(1);
            }
            _ => {}
        }
    }
}

impl Check for Caps {
    fn gauge(&mut self, now: Instant, node: NodeId, name: &'static str, value: u64, limit: u64) {
        if value > limit {
            let breach = Breach::OverCap { name, value, limit };
            self.violations.push(Violation { node, at: now, update: None, breach });
        }
    }

    fn violations(&self) -> &Violations {
        &self.violations
    }
}

/// No node emits more in any one second than its upload allows, with the overhead of the layers below, and a burst on
/// top. A second of excess is reported once, however many frames are in it.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes_per_s: Option<u64>,
    burst_bytes: u64,
    nodes: Vec<Option<Meter>>,
    violations: Violations,
}

#[derive(Clone, Debug)]
struct Meter {
    window: WindowMeter,
    bytes_per_s: Option<u64>,
    over: bool,
}

impl Budget {
    /// A checker that grants each node `bytes_per_s` (`None`: unlimited) and `burst_bytes` on top.
    pub fn new(bytes_per_s: Option<u64>, burst_bytes: u64) -> Self {
        Self { bytes_per_s, burst_bytes, nodes: Vec::new(), violations: Violations::default() }
    }

    /// Grants one node another upload.
    pub fn set_upload(&mut self, node: NodeId, bytes_per_s: Option<u64>) {
        self.meter(node).bytes_per_s = bytes_per_s;
    }

    /// The most bytes that `node` has emitted in any second.
    pub fn busiest_second(&self, node: NodeId) -> u64 {
        self.nodes.get(node as usize).and_then(Option::as_ref).map_or(0, |meter| meter.window.peak_bytes())
    }

    fn meter(&mut self, node: NodeId) -> &mut Meter {
        let index = node as usize;
        if index >= self.nodes.len() {
            self.nodes.resize_with(index + 1, || None);
        }
        let bytes_per_s = self.bytes_per_s;
        let fresh = || Meter { window: WindowMeter::default(), bytes_per_s, over: false };
        self.nodes[index].get_or_insert_with(fresh)
    }
}

impl Observer for Budget {
    fn sent(&mut self, now: Instant, sent: &SentFrame<'_>) {
        let burst_bytes = self.burst_bytes;
        let meter = self.meter(sent.from);
        meter.window.record(now, sent.wire_bytes);
        let Some(bytes_per_s) = meter.bytes_per_s else { return };
        let (bytes, limit_bytes) = (meter.window.bytes(), bytes_per_s + burst_bytes);
        let over = bytes > limit_bytes;
        let begins = over && !meter.over;
        meter.over = over;
        if begins {
            let breach = Breach::OverBudget { bytes, limit_bytes };
            self.violations.push(Violation { node: sent.from, at: now, update: None, breach });
        }
    }
}

impl Check for Budget {
    fn violations(&self) -> &Violations {
        &self.violations
    }
}
