//! What a relay can be asked.

use super::{Relay, StreamFacts};
use crate::stats::LivestreamStats;
use crate::time::Instant;
use crate::wire::{StreamNotice, WirePeer};

impl<P: WirePeer> Relay<P> {
    /// Counters and sizes.
    pub fn stats(&self, now: Instant) -> LivestreamStats {
        let mut stats = self.stats;
        stats.stripes = self.stripes.len() as u64;
        stats.stripes_fed = self.stripes.iter().filter(|stripe| stripe.parent.is_some()).count() as u64;
        stats.depth_max = self.stripes.iter().map(|stripe| stripe.path.len()).max().unwrap_or(0) as u64;
        stats.children = self.children_count() as u64;
        stats.retained_bytes = self.tracks.values().map(|track| track.log.bytes() as u64).sum();
        stats.duration_us = self.active_since.map_or(0, |since| (now - since).as_micros() as u64);
        stats
    }

    /// The state of the stream as this node knows it.
    pub fn notice(&self) -> StreamNotice {
        self.notice
    }

    /// What the stream is; `None` at a viewer before its plan came.
    pub fn facts(&self) -> Option<&StreamFacts> {
        self.facts.as_ref()
    }

    /// The peers that feed this node, stripe by stripe; `None` for a stripe without a parent. Empty before the plan came.
    pub fn parents(&self) -> impl Iterator<Item = Option<P>> + '_ {
        self.stripes.iter().map(|stripe| stripe.parent)
    }

    /// The peers that this node feeds in a stripe, those first who feed most themselves. Empty if there is no such stripe.
    pub fn children(&self, stripe: u8) -> impl Iterator<Item = P> + '_ {
        let stripe = self.stripes.get(usize::from(stripe));
        stripe.into_iter().flat_map(|stripe| stripe.children.iter().map(|child| child.peer))
    }

    /// What the node may spend on others, in bytes a second.
    pub fn upload_bytes_per_s(&self) -> u64 {
        self.config.upload_bytes_per_s
    }

    /// Whether anybody is fed here.
    pub fn has_children(&self) -> bool {
        self.stripes.iter().any(|stripe| !stripe.children.is_empty())
    }
}
