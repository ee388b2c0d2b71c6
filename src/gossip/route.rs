//! To whom the updates of a source are pushed.

use alloc::vec::Vec;
use core::time::Duration;

use super::peers::{SLOTS_MAX, Slots};
use crate::config::GossipConfig;
use crate::log::SourceIndex;
use crate::rng::mix;
use crate::time::Instant;

/// Trees that sources share until they are hot. More would learn more slowly, fewer would fit fewer sources.
const SHARED_TREES: usize = 4;

/// A source is cold for this many updates: what they teach is learned by its shared tree too.
const COLD_UPDATES: u32 = 8;

/// A source is hot for this long after its last update: the loss of its feeder is mended before anything is missed.
const HOT: Duration = Duration::from_secs(5);

/// The eager links of every source.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Route>,
    /// Where the pushes of a new source begin.
    trees: [Slots; SHARED_TREES],
    initial_fanout: usize,
    full_feeders: usize,
    extra_percent: u8,
}

#[derive(Clone, Debug, Default)]
struct Route {
    started: bool,
    /// Neighbours that get every update.
    push: Slots,
    /// Neighbours that get `share_percent` of them.
    partial: Slots,
    share_percent: u8,
    /// Neighbours that push to us, all or a share.
    feeders: Slots,
    partial_feeders: Slots,
    /// Updates in a row that had to be pulled.
    misses: u8,
    updates: u32,
    last_push: Instant,
}

impl Routes {
    pub(super) fn new(config: &GossipConfig) -> Self {
        Self {
            routes: Vec::new(),
            trees: [Slots::NONE; SHARED_TREES],
            initial_fanout: config.initial_fanout.min(SLOTS_MAX),
            full_feeders: usize::from(config.redundancy_percent / 100),
            extra_percent: (config.redundancy_percent % 100) as u8,
        }
    }

    pub(super) fn neighbor_up(&mut self, slot: u8) {
        for tree in &mut self.trees {
            if tree.len() < self.initial_fanout {
                *tree |= Slots::one(slot);
            }
        }
        for route in &mut self.routes {
            if route.started && route.push.is_empty() {
                route.push |= Slots::one(slot);
            }
        }
    }

    /// Forgets a neighbour; returns the hot sources that it fed and nobody else does.
    pub(super) fn neighbor_down(&mut self, slot: u8, now: Instant) -> Vec<SourceIndex> {
        for tree in &mut self.trees {
            tree.remove(slot);
        }
        let mut starving = Vec::new();
        for (index, route) in self.routes.iter_mut().enumerate() {
            route.push.remove(slot);
            route.partial.remove(slot);
            route.partial_feeders.remove(slot);
            if route.feeders.contains(slot) {
                route.feeders.remove(slot);
                if route.feeders.is_empty() && route.last_push + HOT > now {
                    starving.push(SourceIndex(index as u32));
                }
            }
        }
        starving
    }

    /// To whom an update is pushed.
    pub(super) fn targets(&mut self, source: SourceIndex, origin_digest: u64, sequence: u64) -> Slots {
        let route = self.route(source, origin_digest);
        route.updates = route.updates.saturating_add(1);
        let draw = mix(origin_digest ^ mix(sequence)) % 100;
        if draw < u64::from(route.share_percent) { route.push | route.partial } else { route.push }
    }

    /// To whom the updates of a source are pushed now.
    pub(super) fn pushes(&self, source: SourceIndex) -> Slots {
        self.routes.get(source.0 as usize).map_or(Slots::NONE, |route| route.push)
    }

    /// Whether little has come from a source yet.
    pub(super) fn is_cold(&self, source: SourceIndex) -> bool {
        self.routes.get(source.0 as usize).is_none_or(|route| route.updates <= COLD_UPDATES)
    }

    /// A pushed update came first from `slot`.
    pub(super) fn on_first(&mut self, source: SourceIndex, origin_digest: u64, slot: u8, now: Instant) {
        let route = self.route(source, origin_digest);
        route.feeders |= Slots::one(slot);
        // A feeder has every update before us; pushing to it would only make it take us for the better source.
        route.push.remove(slot);
        route.partial.remove(slot);
        route.misses = 0;
        route.last_push = now;
        if route.updates < COLD_UPDATES {
            *self.tree(origin_digest) |= Slots::one(slot);
        }
    }

    /// A pushed update came again, from `slot`. Returns the share that it should be told to push from now on, if it is to
    /// be told anything.
    pub(super) fn on_duplicate(&mut self, source: SourceIndex, origin_digest: u64, slot: u8) -> Option<u8> {
        let (full_feeders, extra_percent) = (self.full_feeders, self.extra_percent);
        let route = self.route(source, origin_digest);
        let mut others = route.feeders & !route.partial_feeders;
        others.remove(slot);
        if others.len() < full_feeders && !route.partial_feeders.contains(slot) {
            // Two that feed each other do so both ways: whoever has an update first passes it on.
            route.feeders |= Slots::one(slot);
            return None;
        }
        route.push.remove(slot);
        if route.partial_feeders.contains(slot) {
            return None;
        }
        if extra_percent > 0 && route.partial_feeders.is_empty() {
            route.feeders |= Slots::one(slot);
            route.partial_feeders |= Slots::one(slot);
            return Some(extra_percent);
        }
        route.feeders.remove(slot);
        if route.updates <= COLD_UPDATES {
            self.tree(origin_digest).remove(slot);
        }
        Some(0)
    }

    /// `slot` asks for no more than a share.
    pub(super) fn on_prune(&mut self, source: SourceIndex, origin_digest: u64, slot: u8, share_percent: u8) {
        let route = self.route(source, origin_digest);
        route.push.remove(slot);
        route.partial.remove(slot);
        if share_percent > 0 {
            route.partial |= Slots::one(slot);
            route.share_percent = share_percent;
        } else if route.updates <= COLD_UPDATES {
            self.tree(origin_digest).remove(slot);
        }
    }

    /// `slot` asks for every update.
    pub(super) fn on_graft(&mut self, source: SourceIndex, origin_digest: u64, slot: u8) {
        let route = self.route(source, origin_digest);
        route.partial.remove(slot);
        route.push |= Slots::one(slot);
        if route.updates <= COLD_UPDATES {
            *self.tree(origin_digest) |= Slots::one(slot);
        }
    }

    /// `slot` was asked to push to us.
    pub(super) fn on_graft_sent(&mut self, source: SourceIndex, slot: u8) {
        if let Some(route) = self.routes.get_mut(source.0 as usize) {
            route.feeders |= Slots::one(slot);
            route.misses = 0;
        }
    }

    /// Whether `slot` should be asked to push too, for the redundancy that is wanted. Not those we push to: they have
    /// everything later than we do.
    pub(super) fn wants_feeder(&self, source: SourceIndex, slot: u8) -> bool {
        let Some(route) = self.routes.get(source.0 as usize).filter(|route| route.started) else {
            return false;
        };
        let full = (route.feeders & !route.partial_feeders).len();
        let lacks = full < self.full_feeders || self.extra_percent > 0 && route.partial_feeders.is_empty();
        full > 0 && lacks && !(route.feeders | route.push).contains(slot)
    }

    /// Whether `slot` may become the feeder: not if it gets its updates from us.
    pub(super) fn may_swap(&self, source: SourceIndex, slot: u8) -> bool {
        let route = self.routes.get(source.0 as usize).filter(|route| route.started);
        route.is_some_and(|route| self.full_feeders == 1 && !route.push.contains(slot))
    }

    /// `slot` was told to push no more.
    pub(super) fn on_swap(&mut self, source: SourceIndex, slot: u8) {
        if let Some(route) = self.routes.get_mut(source.0 as usize) {
            route.feeders.remove(slot);
            route.partial_feeders.remove(slot);
        }
    }

    /// An update has to be pulled. True if the tree has failed: no feeder, or the second miss in a row.
    pub(super) fn on_miss(&mut self, source: SourceIndex, origin_digest: u64) -> bool {
        let route = self.route(source, origin_digest);
        route.misses = route.misses.saturating_add(1);
        route.feeders.is_empty() || route.misses >= 2
    }

    pub(super) fn forget(&mut self, source: SourceIndex) {
        if let Some(route) = self.routes.get_mut(source.0 as usize) {
            *route = Route::default();
        }
    }

    fn route(&mut self, source: SourceIndex, origin_digest: u64) -> &mut Route {
        let index = source.0 as usize;
        if index >= self.routes.len() {
            self.routes.resize(index + 1, Route::default());
        }
        let push = *self.tree(origin_digest);
        let route = &mut self.routes[index];
        if !route.started {
            *route = Route { started: true, push, ..Route::default() };
        }
        route
    }

    fn tree(&mut self, origin_digest: u64) -> &mut Slots {
        &mut self.trees[(origin_digest % SHARED_TREES as u64) as usize]
    }
}
