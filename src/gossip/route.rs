//! To whom the updates of a source are pushed.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::growth::Growth;
use super::peers::{SLOTS_MAX, Slots};
use crate::config::GossipConfig;
use crate::log::SourceIndex;
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{Data, WirePeer};

/// Trees that sources share until they are hot. More would learn more slowly, fewer would fit fewer sources.
const SHARED_TREES: usize = 4;

/// A source is cold for this many updates: what they teach is learned by its shared tree too.
const COLD_UPDATES: u32 = 8;

/// A source is hot for this long after its last update: the loss of its feeder is mended before anything is missed.
const HOT: Duration = Duration::from_secs(5);

/// A source that was silent for this long is cold again, and its own tree is forgotten.
const OWN_TREE_MAX: Duration = Duration::from_secs(30);

/// A source whose updates come more rarely does not starve within a time that matters.
const STARVING_GAP_MAX: Duration = Duration::from_secs(1);

/// How much longer than twice the usual gap a hot source may be silent before others are asked, and how much longer still
/// for each link between: whoever is nearer to what broke asks first, and the others need not.
const STARVING_AFTER: Duration = Duration::from_millis(80);
const STARVING_PER_HOP: Duration = Duration::from_millis(20);

/// Routes that may be looked through with every update.
const FEW_ROUTES: usize = 4;

/// Neighbours asked in one silence of a source, at most.
const TRIES_MAX: u8 = 8;

/// The eager links of every source.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Route>,
    /// Where the pushes of a new source begin.
    trees: [Slots; SHARED_TREES],
    initial_fanout: usize,
    full_feeders: usize,
    extra_percent: u8,
    /// Sources whose waves have just come, and when the best way is chosen; in the order of time.
    undecided: VecDeque<(Instant, SourceIndex)>,
    /// Requests to feed that are repeated, in case they were lost; in the order of time.
    repeats: VecDeque<(Instant, SourceIndex)>,
    /// No source starves before that.
    alarm: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Route {
    started: bool,
    /// Neighbours that get every update, while the source has no tree of its own and there is no shared one.
    push: Slots,
    /// Neighbours that want every update beside the shared tree's, and those of the tree that do not.
    asked: Slots,
    refused: Slots,
    /// Updates published from then on go along the source's own tree.
    own_from: Option<Instant>,
    /// Updates that went along it.
    carried: u32,
    /// Neighbours that get every update along that tree.
    children: Slots,
    growth: Option<Box<Growth>>,
    /// Who was asked to feed along it.
    own_feeder: Option<u8>,
    last_born: Instant,
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
    /// Between two pushes: a peak that decays.
    gap: Duration,
    /// When the silence will be too long, who was asked in it, and how often somebody was.
    alarm: Option<Instant>,
    tried: Slots,
    tries: u8,
}

impl Route {
    fn pushes(&self) -> Slots {
        if self.own_from.is_some() { self.children } else { self.push }
    }

    /// Whether updates come so often that their absence shows within a time that matters.
    fn is_steady(&self) -> bool {
        !self.gap.is_zero() && self.gap <= STARVING_GAP_MAX
    }
}

impl Routes {
    pub(super) fn new(config: &GossipConfig) -> Self {
        Self {
            routes: Vec::new(),
            trees: [Slots::NONE; SHARED_TREES],
            initial_fanout: config.initial_fanout.min(SLOTS_MAX),
            full_feeders: usize::from(config.redundancy_percent / 100),
            extra_percent: (config.redundancy_percent % 100) as u8,
            undecided: VecDeque::new(),
            repeats: VecDeque::new(),
            alarm: None,
        }
    }

    pub(super) fn set_redundancy(&mut self, percent: u16) {
        self.full_feeders = usize::from(percent / 100);
        self.extra_percent = (percent % 100) as u8;
    }

    pub(super) fn neighbor_up(&mut self, slot: u8) {
        for tree in &mut self.trees {
            if tree.len() < self.initial_fanout {
                *tree |= Slots::one(slot);
            }
        }
        for route in &mut self.routes {
            if route.started && route.own_from.is_none() && route.push.is_empty() {
                route.push |= Slots::one(slot);
            }
            // An origin that has nobody to push to does not wait to be asked.
            if route.own_from.is_some() && (route.children | route.feeders).is_empty() {
                route.children |= Slots::one(slot);
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
            for slots in [
                &mut route.push,
                &mut route.asked,
                &mut route.refused,
                &mut route.children,
                &mut route.partial,
                &mut route.partial_feeders,
                &mut route.tried,
            ] {
                slots.remove(slot);
            }
            if let Some(growth) = &mut route.growth {
                growth.remove(slot);
            }
            if route.feeders.contains(slot) {
                route.feeders.remove(slot);
                if route.feeders.is_empty() && route.last_push + HOT > now {
                    starving.push(SourceIndex(index as u32));
                }
            }
        }
        starving
    }

    /// To whom an update is pushed; `shared` are the links of the shared tree, if there is one.
    pub(super) fn targets(
        &mut self,
        source: SourceIndex,
        origin_digest: u64,
        sequence: u64,
        born: Instant,
        shared: Option<Slots>,
    ) -> Slots {
        let route = self.route(source, origin_digest);
        route.updates = route.updates.saturating_add(1);
        if born - route.last_born > OWN_TREE_MAX {
            (route.own_from, route.growth, route.carried) = (None, None, 0);
            (route.children, route.refused) = (Slots::NONE, Slots::NONE);
        }
        route.last_born = route.last_born.max(born);
        let all = if route.own_from.is_some_and(|from| from <= born) {
            route.carried = route.carried.saturating_add(1);
            route.children
        } else if let Some(links) = shared {
            (links | route.asked) & !route.refused
        } else {
            route.push
        };
        let draw = mix(origin_digest ^ mix(sequence)) % 100;
        if draw < u64::from(route.share_percent) { all | route.partial } else { all }
    }

    /// To whom the updates of a source are pushed now.
    pub(super) fn pushes(&self, source: SourceIndex) -> Slots {
        self.routes.get(source.0 as usize).map_or(Slots::NONE, Route::pushes)
    }

    /// The wave of a source that came last.
    pub(super) fn growth(&mut self, source: SourceIndex, origin_digest: u64) -> &mut Option<Box<Growth>> {
        &mut self.route(source, origin_digest).growth
    }

    /// A wave of the source has come: what is published from then on goes along its own tree.
    pub(super) fn begin_own(&mut self, source: SourceIndex, origin_digest: u64, from: Instant) {
        let route = self.route(source, origin_digest);
        if route.own_from.is_none() {
            route.own_from = Some(from);
            // Those of the shared tree do not feed this one.
            (route.feeders, route.partial_feeders, route.partial) = (Slots::NONE, Slots::NONE, Slots::NONE);
            route.last_born = route.last_born.max(from);
        }
    }

    /// The best way to a source will be chosen at `at`.
    pub(super) fn decide(&mut self, source: SourceIndex, at: Instant) {
        self.undecided.push_back((at, source));
    }

    pub(super) fn next_decision(&self) -> Option<Instant> {
        [&self.undecided, &self.repeats].into_iter().filter_map(VecDeque::front).map(|&(at, _)| at).min()
    }

    pub(super) fn take_undecided(&mut self, now: Instant) -> Option<SourceIndex> {
        let (_, source) = *self.undecided.front().filter(|(at, _)| *at <= now)?;
        self.undecided.pop_front();
        Some(source)
    }

    /// The neighbour that was asked to feed a source will be asked again at `at`.
    pub(super) fn repeat(&mut self, source: SourceIndex, at: Instant) {
        self.repeats.push_back((at, source));
    }

    /// A source whose feeder is to be asked again, as it has not begun.
    pub(super) fn take_repeat(&mut self, now: Instant) -> Option<(SourceIndex, u8)> {
        while let Some(&(_, source)) = self.repeats.front().filter(|(at, _)| *at <= now) {
            self.repeats.pop_front();
            if let Some(slot) = self.own_feeder(source) {
                return Some((source, slot));
            }
        }
        None
    }

    /// A feeder was asked to begin with the updates published from a time not long ago or to come: if it does not, it
    /// starves this node.
    pub(super) fn expect(&mut self, source: SourceIndex, now: Instant) {
        let Some(route) = self.routes.get(source.0 as usize) else { return };
        let (Some(from), Some(growth)) = (route.own_from, &route.growth) else { return };
        if route.alarm.is_none() && route.is_steady() && now - route.last_push <= route.gap * 2 {
            let patience = route.gap * 2 + STARVING_AFTER + STARVING_PER_HOP * u32::from(growth.hops());
            self.set_alarm(source, from.max(now) + patience);
        }
    }

    /// The neighbour that should feed a source's updates, if it does not yet.
    pub(super) fn choose(&self, source: SourceIndex, avoid: Slots) -> Option<u8> {
        let route = self.routes.get(source.0 as usize)?;
        let full = route.feeders & !route.partial_feeders;
        let growth = route.growth.as_ref()?;
        let current = if self.full_feeders == 1 { full.iter().next() } else { None };
        growth
            .best(current, route.children, avoid)
            .filter(|&slot| route.own_feeder != Some(slot) || !full.contains(slot))
    }

    /// `slot` was asked to be the feeder. Another one goes on until it proves the slower.
    pub(super) fn set_feeder(&mut self, source: SourceIndex, slot: u8) {
        let full_feeders = self.full_feeders;
        if let Some(route) = self.routes.get_mut(source.0 as usize) {
            route.own_feeder = Some(slot);
            if full_feeders == 1 {
                route.feeders = route.feeders & route.partial_feeders | Slots::one(slot);
            }
            route.children.remove(slot);
        }
    }

    /// The best way that is left to a source whose feeder is gone.
    pub(super) fn other_feeder(&self, source: SourceIndex, avoid: Slots) -> Option<u8> {
        let route = self.routes.get(source.0 as usize)?;
        let growth = route.growth.as_ref()?;
        growth.other(route.children | avoid).or_else(|| growth.other(route.children))
    }

    /// Who should have pushed an update.
    pub(super) fn own_feeder(&self, source: SourceIndex) -> Option<u8> {
        let route = self.routes.get(source.0 as usize)?;
        route.own_feeder.filter(|&slot| route.feeders.contains(slot))
    }

    /// The hot sources that `slot` feeds along trees of their own.
    pub(super) fn fed_by(&self, slot: u8, now: Instant) -> Vec<SourceIndex> {
        let fed = self.routes.iter().enumerate().filter(|(_, route)| {
            route.own_from.is_some() && route.own_feeder == Some(slot) && route.last_born + OWN_TREE_MAX > now
        });
        fed.map(|(index, _)| SourceIndex(index as u32)).collect()
    }

    /// A source that has been silent for too long, if there is one.
    pub(super) fn take_starving(&mut self, now: Instant) -> Option<SourceIndex> {
        self.alarm.filter(|&at| at <= now)?;
        let due = |route: &Route| route.alarm.is_some_and(|at| at <= now);
        let Some(index) = self.routes.iter().position(due) else {
            self.alarm = self.routes.iter().filter_map(|route| route.alarm).min();
            return None;
        };
        self.routes[index].alarm = None;
        Some(SourceIndex(index as u32))
    }

    /// The feeder of a hot source was replaced, as it is gone: if the new one does not begin, others are asked.
    pub(super) fn watch_new_feeder(&mut self, source: SourceIndex, now: Instant) {
        let Some(route) = self.routes.get_mut(source.0 as usize) else { return };
        if route.is_steady() && route.alarm.is_none() {
            (route.tried, route.tries) = (Slots::NONE, 0);
            let at = now + route.gap * 2 + STARVING_AFTER;
            self.set_alarm(source, at);
        }
    }

    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarm
    }

    pub(super) fn set_alarm(&mut self, source: SourceIndex, at: Instant) {
        let Some(route) = self.routes.get_mut(source.0 as usize) else { return };
        route.alarm = Some(at);
        // Every update of a steady source puts its alarm off. Among few the next one is found at once, so that nobody is woken
        // to find nothing due.
        self.alarm = if self.routes.len() <= FEW_ROUTES {
            self.routes.iter().filter_map(|route| route.alarm).min()
        } else {
            Some(self.alarm.map_or(at, |before| before.min(at)))
        };
    }

    /// Who is asked next for the updates of a source that starves: those that had its wave from elsewhere, those that have
    /// become neighbours since, and at last those that are fed from here, as they look for others too.
    pub(super) fn try_feeder(&mut self, source: SourceIndex, all: Slots) -> Option<u8> {
        let route = self.routes.get_mut(source.0 as usize)?;
        if route.own_from.is_none() || route.tries >= TRIES_MAX {
            return None;
        }
        let growth = route.growth.as_ref()?;
        let besides = route.children | route.feeders;
        let last = route.tried.iter().last().unwrap_or(63);
        let slot = growth
            .other(besides | route.tried)
            .or_else(|| (all & !besides & !route.tried).next_after(last))
            .or_else(|| (all & !route.feeders & !route.tried).next_after(last))
            .or_else(|| {
                route.tried = Slots::NONE;
                growth.other(besides).or_else(|| (all & !route.feeders).next_after(last))
            })?;
        route.tried |= Slots::one(slot);
        route.tries += 1;
        Some(slot)
    }

    /// How many neighbours were asked in the silence of a source.
    pub(super) fn tries(&self, source: SourceIndex) -> u8 {
        self.routes.get(source.0 as usize).map_or(0, |route| route.tries)
    }

    /// An update came on request: whether because the source starves, so that who sent it is to be the feeder.
    pub(super) fn take_tried(&mut self, source: SourceIndex, slot: u8, now: Instant) -> bool {
        let Some(route) = self.routes.get_mut(source.0 as usize) else { return false };
        let hops = route.growth.as_ref().map_or(0, |growth| u32::from(growth.hops()));
        let patience = route.gap * 2 + STARVING_AFTER + STARVING_PER_HOP * hops;
        // Somebody was asked since the last push, or nobody is any more.
        let is_open = route.tries > 0 || route.alarm.is_none();
        let starves = route.is_steady() && is_open && now - route.last_push > patience;
        if !route.tried.contains(slot) && !starves {
            return false;
        }
        (route.tried, route.tries) = (Slots::NONE, 0);
        let at = now + route.gap * 2 + STARVING_AFTER;
        self.set_alarm(source, at);
        true
    }

    /// A link of the shared tree is new: what was refused along it before is welcome.
    pub(super) fn welcome(&mut self, slot: u8) {
        for route in &mut self.routes {
            route.refused.remove(slot);
        }
    }

    pub(super) fn has_own_tree(&self, source: SourceIndex) -> bool {
        self.routes.get(source.0 as usize).is_some_and(|route| route.own_from.is_some())
    }

    /// Updates that went along the source's own tree.
    pub(super) fn carried(&self, source: SourceIndex) -> u32 {
        self.routes.get(source.0 as usize).map_or(0, |route| route.carried)
    }

    pub(super) fn is_feeder(&self, source: SourceIndex, slot: u8) -> bool {
        self.routes.get(source.0 as usize).is_some_and(|route| route.feeders.contains(slot))
    }

    /// A pushed update came first from `slot`.
    pub(super) fn on_first<P: WirePeer>(
        &mut self,
        source: SourceIndex,
        data: &Data<P>,
        slot: u8,
        now: Instant,
    ) {
        let full_feeders = self.full_feeders;
        let (origin_digest, born) = (data.origin.digest(), data.born);
        let route = self.route(source, origin_digest);
        route.misses = 0;
        // What comes at last after a break says by its birth how often there is something.
        let gap = (now - route.last_push).min(born - route.last_born);
        route.last_push = now;
        route.gap = if gap < HOT { gap.max(route.gap * 7 / 8) } else { Duration::ZERO };
        match route.own_from {
            Some(from) if born >= from => {
                if full_feeders == 1 {
                    route.feeders = route.feeders & route.partial_feeders;
                }
                route.children.remove(slot);
                (route.alarm, route.tried, route.tries) = (None, Slots::NONE, 0);
                if route.is_steady() {
                    let patience = route.gap * 2 + STARVING_AFTER + STARVING_PER_HOP * u32::from(data.hops);
                    self.set_alarm(source, now + patience);
                }
            }
            // It says nothing about the own tree, which is still growing, but when to expect something of it.
            Some(_) => {
                if route.own_feeder.is_some() {
                    self.expect(source, now);
                }
                return;
            }
            None => {}
        }
        let route = self.route(source, origin_digest);
        route.feeders |= Slots::one(slot);
        // A feeder has every update before us; pushing to it would only make it take us for the better source.
        route.push.remove(slot);
        route.partial.remove(slot);
        if route.updates < COLD_UPDATES {
            *self.tree(origin_digest) |= Slots::one(slot);
        }
    }

    /// A pushed update came again, from `slot`. Returns the share that it should be told to push from now on, if it is to
    /// be told anything.
    pub(super) fn on_duplicate(
        &mut self,
        source: SourceIndex,
        origin_digest: u64,
        slot: u8,
        born: Instant,
    ) -> Option<u8> {
        let (full_feeders, extra_percent) = (self.full_feeders, self.extra_percent);
        let route = self.route(source, origin_digest);
        if route.own_from.is_some_and(|from| born < from) {
            return None;
        }
        let mut others = route.feeders & !route.partial_feeders;
        others.remove(slot);
        if others.len() < full_feeders && !route.partial_feeders.contains(slot) {
            // Two that feed each other do so both ways: whoever has an update first passes it on.
            route.feeders |= Slots::one(slot);
            return None;
        }
        route.push.remove(slot);
        route.children.remove(slot);
        route.refused |= Slots::one(slot);
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
        for slots in [&mut route.push, &mut route.asked, &mut route.children, &mut route.partial] {
            slots.remove(slot);
        }
        route.refused |= Slots::one(slot);
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
        route.refused.remove(slot);
        if route.own_from.is_some() {
            // The shared tree goes on as it is until the own one has grown.
            route.children |= Slots::one(slot);
            return;
        }
        route.push |= Slots::one(slot);
        route.asked |= Slots::one(slot);
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
        full > 0 && lacks && !(route.feeders | route.pushes()).contains(slot)
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
            // Most topics have few sources, and some have many.
            if index >= self.routes.capacity() {
                self.routes.reserve_exact(index + 1 + index / 4 - self.routes.len());
            }
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

#[cfg(test)]
mod tests;
