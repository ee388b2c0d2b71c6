//! Trees from waves.
//!
//! A *wave* is a small message that every node passes on at once over all its links, so its first arrival shows the
//! fastest way from its origin; as it rests a moment at every node, a way with few links counts as faster. A hot source sends waves for a tree of its own; the root of the shared tree sends them for
//! all sources that publish too rarely to deserve one. The root is the node with the lowest lot among those that are
//! heard, so nobody elects it, and where two meet one gives way. The shared tree is walked in both directions. Neighbours that
//! lose the root tell all, and another takes its place.
//!
//! Nobody chooses a feeder that had the wave later than itself, so there are no circles.

mod resting;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

pub(super) use resting::Resting;

use super::growth::{Growth, REST};
use super::peers::Slots;
use super::{Gossip, GossipAction};
use crate::config::GossipMode;
use crate::id::Epoch;
use crate::log::{RangeSet, SourceIndex};
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{Data, GossipMessage, SourceRanges, Wave, WirePeer};

/// A new root sends its second wave this long after the first, and later ones ever more rarely: a young overlay changes.
const ROOT_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// A root that hears of a loss waits so long for others.
const LOSS_BATCH: Duration = Duration::from_secs(1);

/// Between two waves of a root, at most.
const ROOT_INTERVAL: Duration = Duration::from_secs(45);

/// After this silence of the root its waves count no more against those of others.
const ROOT_SILENCE: Duration = Duration::from_secs(90);

/// How long a node without a root waits before it could become one itself, besides its lot's share of `LOT_SPAN`.
const ROOT_PATIENCE: Duration = Duration::from_secs(1);

/// The node with the greatest lot waits this much longer: usually the lowest is heard before others begin.
const LOT_SPAN: Duration = Duration::from_secs(64);

/// Likewise after the root was lost.
const SUCCESSION_PATIENCE: Duration = Duration::from_millis(500);

/// Waves for the shared tree that are passed on in one interval of the root, at most; others are forged or stale.
const SHARED_WAVES_MAX: u8 = 16;

/// At most one wave of a source is passed on in this time.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);

/// All ways of a wave have ended by then, and the best is chosen.
const DECIDE_AFTER: Duration = Duration::from_millis(100);

/// Where frames get lost, a feeder is asked again after this time: a lost request would leave a whole branch without.
const REPEAT_AFTER: Duration = Duration::from_millis(30);

/// Updates published this long after the first wave of their source go along its own tree: by then it has grown.
const GROWN_AFTER: Duration = Duration::from_millis(370);

/// An update of a cold source goes over every link from nodes so many tenths of links from the root, by the links that it has
/// crossed: so it begins its way along the shared tree in many places. Each of them costs two copies, whatever the size of the
/// swarm, so that it goes the farther the deeper the swarm is.
const SOWING_DEPTHS_TENTHS: [u32; 3] = [44, 50, 66];

/// Numbers of waves are below it.
const NUMBER_MAX: u64 = 1 << 61;

/// A new parent has begun by then.
const FADE_AFTER: Duration = Duration::from_millis(300);

/// The tree that cold sources share.
#[derive(Debug)]
pub(super) struct SharedTree<P> {
    root: Option<Root<P>>,
    /// The last wave in the name of a root that is gone.
    gone: Option<LastWave<P>>,
    parent: Option<u8>,
    /// The parent before, which goes on until the new one is sure to have begun.
    fading: Option<u8>,
    fade_at: Option<Instant>,
    /// Updates in a row that the tree should have brought and did not.
    misses: u8,
    /// A neighbour that had such an update.
    better: Option<u8>,
    children: Slots,
    growth: Option<Growth>,
    /// New neighbours that have not been told of the root.
    unmet: Slots,
    decide_at: Option<Instant>,
    /// When this node would send a wave as the root.
    lead_at: Option<Instant>,
    /// Until the next wave, while this node is the root.
    lead_interval: Duration,
    /// The beginning of a count of waves, and the count.
    passed: (Instant, u8),
}

#[derive(Clone, Copy, Debug)]
struct Root<P> {
    peer: P,
    lot: u64,
    epoch: Epoch,
    number: u64,
    heard: Instant,
    /// A neighbour of it says so.
    is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
struct LastWave<P> {
    origin: P,
    epoch: Epoch,
    number: u64,
    /// When this node heard of it.
    at: Instant,
}

impl<P> Default for SharedTree<P> {
    fn default() -> Self {
        Self {
            root: None,
            gone: None,
            parent: None,
            fading: None,
            fade_at: None,
            misses: 0,
            better: None,
            children: Slots::NONE,
            growth: None,
            unmet: Slots::NONE,
            decide_at: None,
            lead_at: None,
            lead_interval: ROOT_INTERVAL_MIN,
            passed: (Instant::ZERO, 0),
        }
    }
}

impl<P> SharedTree<P> {
    /// The links of the tree, once there is one.
    pub(super) fn links(&self) -> Option<Slots> {
        self.root.as_ref()?;
        let parents = [self.parent, self.fading].into_iter().flatten().map(Slots::one);
        Some(parents.fold(self.children, |links, parent| links | parent))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_led = self.root.as_ref().is_some_and(|root| !root.is_gone);
        let greeting = (!self.unmet.is_empty() && is_led).then_some(Instant::ZERO);
        Instant::earliest([self.decide_at, self.lead_at, self.fade_at, greeting])
    }
}

impl<P: WirePeer> Gossip<P> {
    pub(super) fn shared_neighbor_up(&mut self, slot: u8, now: Instant) {
        if self.config.mode != GossipMode::Hybrid {
            return;
        }
        self.shared.unmet |= Slots::one(slot);
        if self.shared.lead_at.is_none() {
            let wait = ROOT_PATIENCE + lot_share(self.lot(self.local));
            self.shared.lead_at = Some(now + wait);
        }
    }

    pub(super) fn shared_neighbor_down(
        &mut self,
        slot: u8,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.shared.unmet.remove(slot);
        self.shared.children.remove(slot);
        if let Some(growth) = &mut self.shared.growth {
            growth.remove(slot);
        }
        if self.shared.fading == Some(slot) {
            (self.shared.fading, self.shared.fade_at) = (None, None);
        }
        self.census.forget(slot, now);
        if self.shared.parent == Some(slot) {
            self.shared.parent = None;
            if self.shared.decide_at.is_none() {
                self.choose_parent(now, actions);
            }
        }
    }

    /// An update that should have come along the shared tree had to be asked of `slot`.
    pub(super) fn on_shared_miss(&mut self, slot: u8, actions: &mut Vec<GossipAction<P>>) {
        self.shared.misses = self.shared.misses.saturating_add(1);
        let avoid = self.conduct.avoid();
        match self.shared.parent {
            // Perhaps it does not know of its child.
            Some(parent) if parent == slot || self.shared.misses < 2 && !avoid.contains(parent) => {
                self.send(parent, GossipMessage::Attach { attached: true }, actions);
            }
            _ => self.shared.better = Some(slot),
        }
    }

    pub(super) fn is_shared_link(&self, slot: u8) -> bool {
        self.shared.links().is_some_and(|links| links.contains(slot))
    }

    /// Whether an update of a cold source goes from here over every link, beside those of the shared tree.
    pub(super) fn sows(&self, data: &Data<P>) -> bool {
        let depth_tenths = self.shared.growth.as_ref().map_or(0, Growth::depth_tenths);
        let least = SOWING_DEPTHS_TENTHS.get(usize::from(data.hops));
        !data.pulled && least.is_some_and(|&least| depth_tenths >= least)
    }

    /// The shared tree works.
    pub(super) fn on_shared_push(&mut self) {
        self.shared.misses = 0;
    }

    /// Where the tree has failed, whoever has what it should have brought becomes the parent.
    pub(super) fn mend_shared(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let parent = self.shared.parent;
        let Some(better) = self.shared.better.take().filter(|&slot| Some(slot) != parent) else { return };
        if self.shared.root.is_some_and(|root| root.peer != self.local) && self.peers.get(better).is_some() {
            self.shared.misses = 0;
            self.adopt(better, now, actions);
        }
    }

    /// The parent has lost its trust.
    pub(super) fn replace_parent(&mut self, slot: u8, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if self.shared.parent == Some(slot) && self.shared.decide_at.is_none() {
            self.choose_parent(now, actions);
        }
    }

    /// Who should have pushed an update of a source without a tree of its own.
    pub(super) fn parent(&self) -> Option<u8> {
        self.shared.parent
    }

    pub(super) fn children(&self) -> Slots {
        self.shared.children
    }

    pub(super) fn is_child(&self, slot: u8) -> bool {
        self.shared.children.contains(slot)
    }

    pub(super) fn is_root(&self) -> bool {
        self.shared.root.is_some_and(|root| root.peer == self.local)
    }

    /// The root has something to say, though not at once: more may follow.
    pub(super) fn lead_soon(&mut self, now: Instant) {
        self.lead_by(now + ROOT_INTERVAL_MIN);
    }

    /// The root finds that nodes are gone, and a part of the tree with them: a wave soon, and some more while the others look
    /// for new neighbours.
    pub(super) fn lead_anew(&mut self, now: Instant) {
        let rested = self.shared.root.map_or(now, |root| root.heard + ROOT_INTERVAL_MIN);
        self.lead_by(rested.max(now + LOSS_BATCH));
    }

    fn lead_by(&mut self, at: Instant) {
        self.shared.lead_at = Some(self.shared.lead_at.map_or(at, |before| before.min(at)));
    }

    /// A neighbour has left, or does not answer any more. If it was the root, all are told, so that another takes its place.
    pub(crate) fn note_gone(&mut self, peer: P, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if self.is_root() {
            self.lead_anew(now);
        }
        let Some(root) = self.shared.root.filter(|root| root.peer == peer && !root.is_gone) else { return };
        let slots = self.peers.slot(peer).map_or(Slots::NONE, Slots::one);
        let last = LastWave { origin: peer, epoch: root.epoch, number: root.number + 1, at: now };
        self.succeed(last, now);
        self.spread(last.wave(now), self.peers.all() & !slots, actions);
    }

    pub(super) fn on_attach(
        &mut self,
        slot: u8,
        attached: bool,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        if !attached {
            self.shared.children.remove(slot);
            self.census.forget(slot, now);
            return;
        }
        self.shared.children |= Slots::one(slot);
        self.routes.welcome(slot);
        // What went along the tree a moment ago it may have missed.
        self.tell(slot, actions);
        if self.shared.parent == Some(slot) {
            // Each took the other for nearer to the root.
            self.shared.parent = None;
            if let Some(growth) = &mut self.shared.growth {
                growth.remove(slot);
            }
            self.fade(Some(slot), now, actions);
            self.choose_parent(now, actions);
        }
    }

    pub(super) fn on_wave(
        &mut self,
        slot: u8,
        mut wave: Wave<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        self.stats.waves_received += 1;
        if self.config.mode != GossipMode::Hybrid {
            return;
        }
        if wave.origin == self.local {
            self.deny(&wave, now);
            return;
        }
        wave.born = wave.born - self.peers.rtt(slot) / 2;
        if wave.shared {
            self.on_shared_wave(slot, wave, now, actions);
        } else {
            self.on_source_wave(slot, wave, now, actions);
        }
    }

    /// Does what is due for the trees.
    pub(super) fn tend_trees(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if self.shared.lead_at.is_some_and(|at| at <= now) {
            self.lead(now, actions);
        }
        self.tend_census(now, actions);
        if self.shared.decide_at.is_some_and(|at| at <= now) {
            self.shared.decide_at = None;
            self.choose_parent(now, actions);
        }
        if self.shared.fade_at.is_some_and(|at| at <= now) {
            self.fade(None, now, actions);
        }
        if let Some(wave) = self.own_view(now).filter(|_| !self.shared.unmet.is_empty()) {
            let unmet = core::mem::take(&mut self.shared.unmet);
            self.spread(wave, unmet & self.peers.all(), actions);
        }
        while let Some((wave, to)) = self.resting.take(now) {
            self.spread(wave, to & self.peers.all(), actions);
        }
        while let Some(source) = self.routes.take_undecided(now) {
            self.choose_feeder(source, now, actions);
        }
        while let Some((source, slot)) = self.routes.take_repeat(now) {
            self.graft(source, slot, false, actions);
        }
    }

    /// An update is published here: a hot source sends a wave with some of them.
    pub(super) fn pulse(
        &mut self,
        source: SourceIndex,
        sequence: u64,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        if self.config.mode != GossipMode::Hybrid || !self.pulse.beat(now) {
            return;
        }
        self.routes.begin_own(source, self.local.digest(), now + GROWN_AFTER);
        let (origin, epoch) = (self.local, self.epoch);
        let wave = Wave {
            origin,
            epoch,
            number: sequence,
            shared: false,
            hops: 0,
            born: now,
            members: None,
            is_last: false,
        };
        self.spread(wave, self.peers.all(), actions);
    }

    fn on_source_wave(&mut self, slot: u8, wave: Wave<P>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let Ok(source) = self.log.track(wave.origin, wave.epoch, now) else {
            self.stats.sources_refused += 1;
            return;
        };
        self.forget_replaced();
        let growth = self.routes.growth(source, wave.origin.digest());
        if let Some(growth) = growth {
            if wave.number == growth.number {
                self.resting.note(&wave, slot);
                growth.arrive(slot, wave.hops, self.peers.rtt(slot) / 2, now);
                return;
            }
            if wave.number < growth.number || now - growth.first_at < SOURCE_INTERVAL {
                self.stats.waves_dropped += 1;
                return;
            }
        }
        *growth = Some(Box::new(Growth::new(wave.number, wave.born, slot, wave.hops, now)));
        self.routes.begin_own(source, wave.origin.digest(), wave.born + GROWN_AFTER);
        self.routes.decide(source, now + DECIDE_AFTER);
        self.rest(onward(wave), slot, now, actions);
    }

    fn choose_feeder(&mut self, source: SourceIndex, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let Some(slot) = self.routes.choose(source, self.conduct.avoid()) else { return };
        self.graft(source, slot, false, actions);
        self.routes.set_feeder(source, slot);
        self.routes.expect(source, now);
        if self.announcer.is_lossy(now) {
            self.routes.repeat(source, now + REPEAT_AFTER);
        }
    }

    fn on_shared_wave(&mut self, slot: u8, wave: Wave<P>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        if self.is_of_the_past(slot, &wave, now, actions) {
            return;
        }
        let lot = self.lot(wave.origin);
        if let Some(root) = self.shared.root {
            let name = (wave.epoch, wave.number);
            let known = (root.epoch, root.number);
            let silent = !root.is_heard(now);
            if wave.origin == root.peer && name == known {
                self.shared.unmet.remove(slot);
                self.resting.note(&wave, slot);
                if let Some(growth) = &mut self.shared.growth {
                    let latency = self.peers.rtt(slot) / 2;
                    if now - growth.first_at < DECIDE_AFTER {
                        growth.arrive(slot, wave.hops, latency, now);
                    } else {
                        growth.greet(slot, wave.hops, (now - wave.born).saturating_sub(latency), latency);
                    }
                    if self.shared.parent.is_none() && self.shared.decide_at.is_none() {
                        self.choose_parent(now, actions);
                    }
                }
                return;
            }
            let better = (lot, wave.origin) < (root.lot, root.peer);
            if !silent && !better && (wave.origin != root.peer || name <= known) {
                // Whoever follows a lesser root has not heard of this one.
                if wave.origin != root.peer {
                    self.shared.unmet |= Slots::one(slot);
                }
                return;
            }
        }
        if now - self.shared.passed.0 >= ROOT_INTERVAL {
            self.shared.passed = (now, 0);
        }
        if self.shared.passed.1 >= SHARED_WAVES_MAX {
            self.stats.waves_dropped += 1;
            return;
        }
        self.shared.passed.1 += 1;
        if wave.is_last {
            let Wave { origin, epoch, number, .. } = wave;
            self.succeed(LastWave { origin, epoch, number, at: now }, now);
            return self.rest(onward(wave), slot, now, actions);
        }
        let (peer, epoch, number) = (wave.origin, wave.epoch, wave.number);
        self.shared.root = Some(Root { peer, lot, epoch, number, heard: now, is_gone: false });
        self.census.begin_round(wave.members, now);
        self.shared.growth = Some(Growth::new(number, wave.born, slot, wave.hops, now));
        self.shared.decide_at = Some(now + DECIDE_AFTER);
        let own = self.lot(self.local);
        if (lot, peer) < (own, self.local) {
            self.shared.lead_interval = ROOT_INTERVAL_MIN;
            self.shared.lead_at = Some(now + ROOT_SILENCE + ROOT_INTERVAL / 2 + lot_share(own));
        }
        self.shared.unmet = Slots::NONE;
        self.rest(onward(wave), slot, now, actions);
    }

    fn choose_parent(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let before = self.shared.parent;
        let avoid = self.conduct.avoid();
        let Some(growth) = &self.shared.growth else { return };
        let best = growth.best_shared(before, self.shared.children, avoid);
        if best == before {
            return;
        }
        if let Some(best) = best {
            self.adopt(best, now, actions);
        }
    }

    fn adopt(&mut self, parent: u8, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let before = self.shared.parent.replace(parent);
        self.fade(before, now, actions);
        self.routes.welcome(parent);
        self.send(parent, GossipMessage::Attach { attached: true }, actions);
        self.census.introduce(now);
    }

    /// Lets a parent go in a while.
    fn fade(&mut self, parent: Option<u8>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let last = self.shared.fading.take().filter(|&last| Some(last) != self.shared.parent);
        if let Some(last) = last {
            self.send(last, GossipMessage::Attach { attached: false }, actions);
        }
        self.shared.fading = parent;
        self.shared.fade_at = parent.map(|_| now + FADE_AFTER);
    }

    /// Sends a wave as the root, unless a better one is heard.
    fn lead(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let lot = self.lot(self.local);
        let yields = self
            .shared
            .root
            .is_some_and(|root| (root.lot, root.peer) < (lot, self.local) && root.is_heard(now));
        if yields || self.peers.is_empty() {
            self.shared.lead_at = None;
            if yields {
                self.shared.lead_at = Some(now + ROOT_SILENCE + lot_share(lot));
            }
            return;
        }
        let old = self.shared.parent.take();
        self.fade(old, now, actions);
        let before = self.shared.root.filter(|root| root.peer == self.local);
        let number = (now.as_micros() / 1_000).max(before.map_or(0, |root| root.number + 1));
        let (peer, epoch) = (self.local, self.epoch);
        self.shared.root = Some(Root { peer, lot, epoch, number, heard: now, is_gone: false });
        self.count_as_root(before.is_none(), now);
        self.shared.growth = None;
        self.shared.decide_at = None;
        self.shared.lead_at = Some(now + self.shared.lead_interval);
        self.shared.lead_interval = (self.shared.lead_interval * 3 / 2).min(ROOT_INTERVAL);
        self.shared.unmet = self.peers.all();
    }

    /// The shared tree's wave as this node would pass it on, had it just come.
    fn own_view(&self, now: Instant) -> Option<Wave<P>> {
        let root = self.shared.root.filter(|root| !root.is_gone)?;
        let (hops, born) = match &self.shared.growth {
            Some(growth) => (growth.first_hops.saturating_add(1), now - growth.delay()),
            None => (0, now),
        };
        Some(Wave {
            origin: root.peer,
            epoch: root.epoch,
            number: root.number,
            shared: true,
            hops,
            born,
            members: self.members_estimated(),
            is_last: false,
        })
    }

    /// The root is gone, as a last wave in its name says: its word counts no more against that of others, and this node would
    /// take its place if no better one does.
    fn succeed(&mut self, last: LastWave<P>, now: Instant) {
        let own = self.lot(self.local);
        let Some(root) = &mut self.shared.root else { return };
        root.is_gone = true;
        self.shared.gone = Some(last);
        self.shared.lead_interval = ROOT_INTERVAL_MIN;
        self.shared.lead_at = Some(now + SUCCESSION_PATIENCE + lot_share(own));
    }

    /// Whether a wave is no later than the last of a root that is gone, or a last one of no root. Who does not know that it is the
    /// last is told.
    fn is_of_the_past(
        &mut self,
        slot: u8,
        wave: &Wave<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> bool {
        let last = self.shared.gone.filter(|last| last.origin == wave.origin && now - last.at < ROOT_SILENCE);
        if let Some(last) = last {
            if (wave.epoch, wave.number) <= (last.epoch, last.number) {
                self.resting.note(wave, slot);
                if !wave.is_last {
                    self.spread(last.wave(now), Slots::one(slot), actions);
                }
                return true;
            }
            if !wave.is_last {
                self.shared.gone = None;
            }
        }
        let known = self.shared.root.filter(|root| root.peer == wave.origin);
        // Its root could not deny one with a greater number.
        let is_beyond = wave.number >= NUMBER_MAX;
        let is_news = known.is_some_and(|root| (wave.epoch, wave.number) > (root.epoch, root.number));
        wave.is_last && (is_beyond || !is_news)
    }

    /// A wave in this node's own name: a last one, though it is the root, is answered with the next.
    fn deny(&mut self, wave: &Wave<P>, now: Instant) {
        let (local, epoch) = (self.local, self.epoch);
        let Some(root) = self.shared.root.as_mut().filter(|root| root.peer == local) else { return };
        if wave.is_last && wave.epoch == epoch && wave.number > root.number && wave.number < NUMBER_MAX {
            root.number = wave.number;
            self.shared.lead_at = Some(now);
        }
    }

    /// Passes a wave on after a rest.
    fn rest(&mut self, wave: Wave<P>, from: u8, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let to = self.peers.all() & !Slots::one(from);
        if !self.resting.push(now + REST, wave, to) {
            self.spread(wave, to, actions);
        }
    }

    fn spread(&mut self, wave: Wave<P>, to: Slots, actions: &mut Vec<GossipAction<P>>) {
        for slot in to.iter() {
            self.stats.waves_sent += 1;
            self.send(slot, GossipMessage::Wave(wave), actions);
        }
    }

    /// Asks a neighbour to push, and, to `catch_up`, for what it has got already.
    pub(super) fn graft(
        &mut self,
        source: SourceIndex,
        slot: u8,
        catch_up: bool,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let Some((origin, epoch)) = self.log.name(source) else { return };
        self.routes.on_graft_sent(source, slot);
        self.stats.grafts_sent += 1;
        let ranges = if catch_up { self.ahead(source) } else { RangeSet::new() };
        let sources = alloc::vec![SourceRanges { origin, epoch, ranges }];
        self.send(slot, GossipMessage::Want { graft: true, sources }, actions);
    }

    /// Who is the root is drawn by lot, blind to everything but the name.
    fn lot(&self, peer: P) -> u64 {
        mix(peer.digest() ^ 0x726f_6f74)
    }
}

impl<P: WirePeer> LastWave<P> {
    fn wave(self, now: Instant) -> Wave<P> {
        Wave {
            origin: self.origin,
            epoch: self.epoch,
            number: self.number,
            shared: true,
            hops: 0,
            born: now,
            members: None,
            is_last: true,
        }
    }
}

impl<P> Root<P> {
    fn is_heard(&self, now: Instant) -> bool {
        !self.is_gone && now - self.heard < ROOT_SILENCE
    }
}

fn onward<P>(wave: Wave<P>) -> Wave<P> {
    Wave { hops: wave.hops.saturating_add(1).min(127), ..wave }
}

/// The part of `LOT_SPAN` that a lot stands for.
fn lot_share(lot: u64) -> Duration {
    Duration::from_micros(((LOT_SPAN.as_micros() as u64 >> 10) * (lot >> 32)) >> 22)
}

#[cfg(test)]
mod tests;
