//! One swarm's partial views: HyParView (Leitão, Pereira, Rodrigues 2007), hardened.
//!
//! The active view are the neighbours, symmetric links of a random graph; the passive view is a reserve. Three things
//! differ from the paper. A joiner is not taken by its contact but by the ends of random walks, so that one contact for
//! everybody still gives a random graph. A node without a free slot gives the joiner the place *between* itself and a
//! neighbour (Law and Siu 2003), so nobody is ever evicted into isolation. And lost peers are remembered and probed, so that
//! the parts of a broken swarm find each other again.

mod defence;
mod swap;
mod upkeep;
mod watch;

use alloc::vec::Vec;
use core::time::Duration;

use self::defence::{Flapping, Parted, Prefixes};
use self::swap::Swaps;
use self::watch::Watch;
use super::passive::{Passive, Remembered};
use crate::config::{MembershipConfig, SharedMembership};
use crate::id::SwarmId;
use crate::rng::{Rng, Seed};
use crate::stats::ViewStats;
use crate::time::Instant;
use crate::wire::{MembershipMessage, NeighborRequest, WirePeer};

/// What a [`Views`] machine wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ViewAction<P> {
    /// Send `message` to `to`, connecting to it if need be.
    Send {
        /// The receiver.
        to: P,
        /// What to send.
        message: MembershipMessage<P>,
    },
    /// A new neighbour.
    NeighborUp(P),
    /// A neighbour less.
    NeighborDown(P),
    /// A neighbour is to get a sign of life, and the promise of others.
    Beat {
        /// The neighbour.
        peer: P,
        /// When the next will come.
        next: Duration,
    },
    /// Others get no answer from this neighbour: it is to be pinged at once.
    Hurry(P),
    /// Others have an answer from this neighbour, which does not answer here.
    Vouched(P),
    /// A peer sent what no correct peer sends.
    Misbehaved {
        /// Who.
        peer: P,
    },
}

/// The views of one swarm.
///
/// ```
/// use suffuse::membership::{ViewAction, Views};
/// use suffuse::{Instant, MembershipConfig, Seed, SwarmId};
///
/// let mut actions = Vec::new();
/// let config = MembershipConfig::default();
/// let mut views = Views::<u64>::new(1, SwarmId(9), config, 1_200, Seed::from_u64(1), Instant::ZERO);
/// views.join(&[2], Instant::ZERO, &mut actions);
/// assert!(matches!(actions[..], [ViewAction::Send { to: 2, .. }]));
/// ```
#[derive(Debug)]
pub struct Views<P> {
    local: P,
    swarm: SwarmId,
    config: SharedMembership,
    /// Peers that fit into one message.
    list_max: usize,
    rng: Rng,
    active: Vec<Neighbor<P>>,
    /// How often the active view has changed.
    changed: u64,
    /// When the neighbours are to be told of each other.
    tell_at: Option<Instant>,
    beat_at: Option<Instant>,
    passive: Passive<P>,
    remembered: Remembered<P>,
    contacts: Vec<P>,
    /// Requests without an answer yet.
    pending: Vec<Pending<P>>,
    /// Who was told lately that it is no neighbour.
    strangers: Vec<(P, Instant)>,
    refill_at: Option<Instant>,
    /// Requests refused or unanswered since the last success.
    refusals: u32,
    shuffle_at: Option<Instant>,
    trim_at: Option<Instant>,
    /// The beginning and the number of a run of losses.
    losses: (Instant, usize),
    swaps: Swaps<P>,
    parted: Parted<P>,
    flapping: Flapping<P>,
    prefixes: Prefixes<P>,
    stats: ViewStats,
}

#[derive(Debug)]
struct Neighbor<P> {
    peer: P,
    since: Instant,
    /// Zero until it is measured.
    rtt_us: u32,
    /// When it was last said to be of use.
    used: Option<Instant>,
    /// Since when it does not answer.
    doubted: Option<Instant>,
    watch: Watch<P>,
}

#[derive(Clone, Copy, Debug)]
struct Pending<P> {
    peer: P,
    ask: Ask<P>,
    sent: u8,
    due: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask<P> {
    Join,
    Neighbor(NeighborRequest<P>),
    /// As `Neighbor(High)`, but to a peer that is most likely dead.
    Probe,
}

/// Requests are sent this often before they are given up.
const TRIES: u8 = 3;

/// The end of a shuffle or a reply names this many peers at most.
const HINTS: usize = 8;

/// Peers of which there was news in so many rounds of shuffles are asked first: others may be gone.
const NEWS_AGE_MAX: u8 = 1;

/// The age of a peer that is named from a passive view: nobody says when there was news of it.
const HEARSAY_AGE: u8 = 2;

/// How long a neighbour beyond the target is kept.
const TRIM_AFTER: Duration = Duration::from_secs(30);

/// A doubt counts this long; then the neighbour has answered or is lost.
const DOUBT_SPAN: Duration = Duration::from_secs(4);

/// Peers asked at once by a node whose neighbours do not answer.
const LONELY_ASKS: usize = 4;

/// At most one "you are not my neighbour" to the same peer in this time.
const STRANGER_INTERVAL: Duration = Duration::from_secs(1);

/// Peers of which the time of the last such notice is known.
const STRANGERS_MAX: usize = 16;

/// Losses within this time count together.
const LOSS_SPAN: Duration = Duration::from_secs(10);

/// Refusals after which a node of a small swarm asks for a place in a reserve.
const STUCK: u32 = 6;

/// Once in so many shuffles a node of a small swarm looks beyond its neighbours' neighbours.
const LOOK_BEYOND_EVERY: u64 = 4;

/// The longest pause between attempts to fill a slot that nobody has to spare, or to join.
const REFILL_MAX: Duration = Duration::from_secs(30);

impl<P: WirePeer> Views<P> {
    /// Empty views. `frame_bytes_max` bounds the lists in messages.
    pub fn new(
        local: P,
        swarm: SwarmId,
        config: MembershipConfig,
        frame_bytes_max: usize,
        seed: Seed,
        now: Instant,
    ) -> Self {
        Self::with_shared(local, swarm, config.into(), frame_bytes_max, seed, now)
    }

    /// As [`Self::new`], with a configuration that others have, too.
    pub(crate) fn with_shared(
        local: P,
        swarm: SwarmId,
        config: SharedMembership,
        frame_bytes_max: usize,
        seed: Seed,
        now: Instant,
    ) -> Self {
        Self {
            local,
            swarm,
            list_max: (frame_bytes_max.saturating_sub(64) / (P::WIRE_BYTES + 1)).max(1),
            rng: Rng::new(seed),
            active: Vec::new(),
            changed: 0,
            tell_at: None,
            beat_at: None,
            passive: Passive::new(config.passive_max),
            remembered: Remembered::new(config.remembered_max, config.probe_interval),
            contacts: Vec::new(),
            pending: Vec::new(),
            strangers: Vec::new(),
            refill_at: None,
            refusals: 0,
            shuffle_at: None,
            trim_at: None,
            losses: (now, 0),
            swaps: Swaps::default(),
            parted: Parted::default(),
            flapping: Flapping::default(),
            prefixes: Prefixes::new(&config),
            stats: ViewStats::default(),
            config,
        }
    }

    /// Joins through `contacts`; without any, waits for others. They are remembered, in case everybody else is lost.
    pub fn join(&mut self, contacts: &[P], now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.shuffle_at = Some(now + self.spread(self.config.shuffle_interval / 8));
        for &contact in contacts.iter().filter(|&&contact| contact != self.local) {
            if !self.contacts.contains(&contact) {
                self.contacts.push(contact);
            }
        }
        // Two of them: contacts that began apart would otherwise each gather an island of their own.
        let count = self.contacts.len();
        if let Some(&contact) = self.rng.pick(&self.contacts) {
            let first = self.contacts.iter().position(|&other| other == contact).unwrap_or(0);
            let second = self.contacts[(first + 1) % count];
            self.ask(contact, Ask::Join, now, actions);
            self.ask(second, Ask::Join, now, actions);
        }
    }

    /// Peers that the host knows from elsewhere: tried when there is room.
    pub fn add_peers(&mut self, peers: &[P], now: Instant, _actions: &mut Vec<ViewAction<P>>) {
        for &peer in peers {
            self.note_peer(peer, 0);
        }
        self.refill_soon(now);
    }

    /// Says farewell to everybody. The views are empty afterwards.
    pub fn leave(&mut self, actions: &mut Vec<ViewAction<P>>) {
        for neighbor in core::mem::take(&mut self.active) {
            let message = MembershipMessage::Bye { leaving: true };
            actions.push(ViewAction::Send { to: neighbor.peer, message });
            actions.push(ViewAction::NeighborDown(neighbor.peer));
        }
        self.pending.clear();
        self.contacts.clear();
        self.passive = Passive::new(0);
        self.remembered = Remembered::new(0, self.config.probe_interval);
        self.swaps = Swaps::default();
        (self.refill_at, self.shuffle_at, self.trim_at) = (None, None, None);
        (self.beat_at, self.tell_at) = (None, None);
    }

    /// A message from a peer, neighbour or not.
    pub fn handle_message(
        &mut self,
        from: P,
        message: MembershipMessage<P>,
        now: Instant,
        actions: &mut Vec<ViewAction<P>>,
    ) {
        match message {
            MembershipMessage::Join { wanted, .. } => self.on_join(from, wanted, now, actions),
            MembershipMessage::Walk { joiner, hops_left } => {
                self.on_walk(from, joiner, hops_left, now, actions)
            }
            MembershipMessage::Offer { partner, .. } => self.on_offer(from, partner, now, actions),
            MembershipMessage::Neighbor { request, .. } => self.on_request(from, request, now, actions),
            MembershipMessage::NeighborReply { accepted, peers } => {
                for (place, &peer) in peers.iter().take(self.list_max).enumerate() {
                    self.note_peer(peer, if place < HINTS / 2 { 0 } else { HEARSAY_AGE });
                }
                self.on_reply(from, accepted, now, actions);
            }
            MembershipMessage::Bye { leaving } => self.on_bye(from, leaving, now, actions),
            MembershipMessage::Shuffle { origin, hops_left, entries } => {
                self.on_shuffle(from, origin, hops_left, entries, actions);
            }
            MembershipMessage::ShuffleReply { entries } => self.integrate(&entries),
            MembershipMessage::Measure { .. } => self.on_measure(from, now, actions),
            MembershipMessage::Measured { longest } => self.on_measured(from, longest, now, actions),
            MembershipMessage::Swap { candidate, leaving, gain_us } => {
                self.on_swap(from, candidate, leaving, gain_us, now, actions);
            }
            MembershipMessage::Swapped { candidate } => self.on_swapped(from, candidate, now, actions),
            MembershipMessage::Watchers { peers } => self.on_watchers(from, peers),
            MembershipMessage::Suspect { peer } => self.on_suspect(from, peer, now, actions),
            MembershipMessage::Vouch { peer } => self.on_vouch(from, peer, now, actions),
        }
    }

    /// The link to a peer is gone, or could not be made.
    pub fn peer_lost(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let was_pending = self.pending.iter().any(|pending| pending.peer == peer);
        if self.pending.iter().any(|pending| pending.peer == peer && pending.ask == Ask::Join) {
            self.remembered.add(peer, now, &mut self.rng);
        }
        self.pending.retain(|pending| pending.peer != peer);
        if self.is_neighbor(peer) {
            self.note_loss(peer, now);
            self.note_flap(peer, now);
        }
        if self.drop_neighbor(peer, now, actions) {
            self.stats.neighbors_lost += 1;
            self.passive.remove(peer);
            self.remembered.add(peer, now, &mut self.rng);
            self.swap_again();
        } else if was_pending {
            self.passive.remove(peer);
            self.refusals += 1;
        }
        self.refill_soon(now);
    }

    /// A peer that is no neighbour sends what only neighbours should: it is told so, not too often.
    pub fn refuse_stranger(&mut self, from: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        // Its acceptance may still be on its way.
        if self.pending.iter().any(|pending| pending.peer == from) {
            return;
        }
        self.strangers.retain(|(_, at)| now - *at < STRANGER_INTERVAL);
        if self.strangers.len() < STRANGERS_MAX && self.strangers.iter().all(|(peer, _)| *peer != from) {
            self.strangers.push((from, now));
            self.stats.strangers_refused += 1;
            actions.push(ViewAction::Send { to: from, message: MembershipMessage::Bye { leaving: false } });
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.retry(now, actions);
        if self.shuffle_at.is_some_and(|at| at <= now) {
            self.shuffle_at = Some(now + self.spread(self.config.shuffle_interval));
            self.begin_shuffle(actions);
            self.look_beyond(now, actions);
        }
        self.swaps_due(now, actions);
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell_neighbors(now, actions);
        }
        if self.beat_at.is_some_and(|at| at <= now) {
            self.beat(now, actions);
        }
        while let Some(peer) = self.remembered.due(now, &mut self.rng) {
            self.probe(peer, now, actions);
        }
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim(now, actions);
        }
        if self.refill_at.is_some_and(|at| at <= now) {
            self.refill(now, actions);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.iter().map(|pending| pending.due).min();
        Instant::earliest([
            pending,
            self.shuffle_at,
            self.remembered.next_at(),
            self.trim_at,
            self.refill_at,
            self.swaps.poll_timeout(),
            self.beat_at,
            self.tell_at,
        ])
    }

    /// The active view.
    pub fn neighbors(&self) -> impl Iterator<Item = P> + '_ {
        self.active.iter().map(|neighbor| neighbor.peer)
    }

    /// Whether `peer` is in the active view.
    pub fn is_neighbor(&self, peer: P) -> bool {
        self.active.iter().any(|neighbor| neighbor.peer == peer)
    }

    /// The passive view.
    pub fn passive(&self) -> impl Iterator<Item = P> + '_ {
        self.passive.iter()
    }

    /// Counters since the machine was made.
    pub fn stats(&self) -> &ViewStats {
        &self.stats
    }

    // --- joining --------------------------------------------------------------------------------------------------

    fn on_join(&mut self, from: P, wanted: u8, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if from == self.local {
            actions.push(ViewAction::Misbehaved { peer: from });
            return;
        }
        self.stats.joins_received += 1;
        // A neighbour that joins has forgotten that it is one.
        let stale = self
            .active
            .iter()
            .any(|neighbor| neighbor.peer == from && now - neighbor.since > self.patience());
        if stale {
            self.note_flap(from, now);
            self.drop_neighbor(from, now, actions);
        }
        let mut wanted = usize::from(wanted).min(self.config.active_max);
        let may = self.taken() < (self.config.active_target / 2).max(1) && self.welcomes(from, now);
        let accepted = self.is_neighbor(from) || may;
        if accepted {
            self.accept(from, now, actions);
            wanted = wanted.saturating_sub(1);
        }
        self.reply(from, accepted, actions);
        let mut starts: Vec<_> = self.neighbors().filter(|&peer| peer != from).collect();
        self.rng.shuffle(&mut starts);
        // Most walks end at a node without a free slot, and bring two neighbours each.
        for &start in starts.iter().take(wanted.div_ceil(2)) {
            let message = MembershipMessage::Walk { joiner: from, hops_left: self.config.walk_hops };
            actions.push(ViewAction::Send { to: start, message });
        }
    }

    fn on_walk(&mut self, from: P, joiner: P, hops_left: u8, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.stats.walks_received += 1;
        let hops_left = hops_left.min(self.config.walk_hops);
        let onward: Vec<_> = self.neighbors().filter(|&peer| peer != from && peer != joiner).collect();
        let far_enough = hops_left <= self.config.walk_hops / 2;
        let may_end = joiner != self.local && !self.is_neighbor(joiner) && !self.is_pending(joiner);
        let ends = hops_left == 0 || onward.is_empty() || may_end && far_enough && self.free() > 0;
        if !ends {
            if hops_left == self.config.walk_hops / 2 {
                self.note_peer(joiner, 0);
            }
            if let Some(&next) = self.rng.pick(&onward) {
                let message = MembershipMessage::Walk { joiner, hops_left: hops_left - 1 };
                actions.push(ViewAction::Send { to: next, message });
            }
        } else if may_end {
            self.note_peer(joiner, 0);
            self.place(joiner, now, actions);
        }
    }

    /// Gives a peer that looks for neighbours a free slot, or the place between this node and a neighbour.
    fn place(&mut self, joiner: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if self.free() > 0 {
            self.ask(joiner, Ask::Neighbor(NeighborRequest::Low), now, actions);
            return;
        }
        let mut partners = self.idle_neighbors(now);
        partners.retain(|&peer| peer != joiner);
        if let Some(&partner) = self.rng.pick(&partners) {
            self.stats.offers_sent += 1;
            let message = MembershipMessage::Offer { swarm: self.swarm, partner };
            actions.push(ViewAction::Send { to: joiner, message });
        }
    }

    fn on_offer(&mut self, from: P, partner: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if partner == self.local || partner == from {
            actions.push(ViewAction::Misbehaved { peer: from });
            return;
        }
        self.note_peer(from, 0);
        self.note_peer(partner, 0);
        let known = [from, partner].iter().any(|&peer| self.is_neighbor(peer) || self.is_pending(peer));
        if self.free() >= 2 && !known {
            self.ask(from, Ask::Neighbor(NeighborRequest::Replace { leaving: partner }), now, actions);
            self.ask(partner, Ask::Neighbor(NeighborRequest::Replace { leaving: from }), now, actions);
        }
    }

    // --- requests and answers -------------------------------------------------------------------------------------

    fn on_request(
        &mut self,
        from: P,
        request: NeighborRequest<P>,
        now: Instant,
        actions: &mut Vec<ViewAction<P>>,
    ) {
        if from == self.local || request == (NeighborRequest::Replace { leaving: from }) {
            actions.push(ViewAction::Misbehaved { peer: from });
            return;
        }
        self.stats.requests_received += 1;
        // Asked again by a neighbour of long standing: it has begun anew and knows nothing of us.
        let stale = self
            .active
            .iter()
            .any(|neighbor| neighbor.peer == from && now - neighbor.since > self.patience());
        if stale {
            self.note_flap(from, now);
            self.drop_neighbor(from, now, actions);
        }
        // Both asked each other, so both want it; but the reserve may have been filled in the meantime.
        let mutual = self.is_pending(from) && self.active.len() < self.config.active_max;
        let admits = |views: &mut Self, actions: &mut Vec<_>| {
            // Who has nobody else is taken even if it was parted from, unless it brings a crowd.
            let welcome =
                views.welcomes(from, now) || request == NeighborRequest::High && views.is_bearable(from, now);
            welcome && (mutual || views.admits(request, now, actions))
        };
        let accepted = self.is_neighbor(from) || admits(self, actions);
        if accepted {
            self.accept(from, now, actions);
        } else {
            self.note_peer(from, 0);
        }
        self.reply(from, accepted, actions);
        if !accepted && request == NeighborRequest::High {
            self.place(from, now, actions);
        }
    }

    /// Whether a request finds a slot. A replacement makes its own.
    fn admits(
        &mut self,
        request: NeighborRequest<P>,
        now: Instant,
        actions: &mut Vec<ViewAction<P>>,
    ) -> bool {
        match request {
            NeighborRequest::Replace { leaving }
                if self.is_neighbor(leaving) && !self.is_needed(leaving, now) =>
            {
                self.stats.swaps += 1;
                // The other side was told to do the same; if it was not, this makes it look for another.
                let message = MembershipMessage::Bye { leaving: false };
                actions.push(ViewAction::Send { to: leaving, message });
                self.drop_neighbor(leaving, now, actions);
                self.note_peer(leaving, 0);
                true
            }
            NeighborRequest::Low | NeighborRequest::Replace { .. } => self.free() > 0,
            NeighborRequest::High => self.active.len() < self.config.active_max,
        }
    }

    fn on_reply(&mut self, from: P, accepted: bool, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let Some(place) = self.pending.iter().position(|pending| pending.peer == from) else {
            // An answer to what was given up: the other side must not wait for us.
            if accepted && !self.is_neighbor(from) {
                actions
                    .push(ViewAction::Send { to: from, message: MembershipMessage::Bye { leaving: false } });
            }
            return;
        };
        let pending = self.pending.remove(place);
        let has_room = self.active.len() < self.config.active_max && !self.crowds(from);
        if accepted && (self.is_neighbor(from) || has_room) {
            self.accept(from, now, actions);
            self.refusals = 0;
        } else if accepted {
            actions.push(ViewAction::Send { to: from, message: MembershipMessage::Bye { leaving: false } });
        } else if pending.ask != Ask::Join {
            self.stats.requests_refused += 1;
            self.refusals += 1;
        }
        if self.refill_at.is_none() {
            self.refill_soon(now);
        }
    }

    fn on_bye(&mut self, from: P, leaving: bool, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.pending.retain(|pending| pending.peer != from);
        if leaving {
            self.note_flap(from, now);
            self.passive.remove(from);
            self.remembered.forget(from);
        }
        if self.drop_neighbor(from, now, actions) {
            if !leaving {
                self.note_peer(from, 1);
            }
            self.refill_soon(now);
        }
    }

    fn accept(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.pending.retain(|pending| pending.peer != peer);
        self.passive.remove(peer);
        self.remembered.forget(peer);
        if self.is_neighbor(peer) {
            return;
        }
        self.note_change(now);
        let watch = Watch::new(now);
        self.active.reserve_exact(1);
        self.active.push(Neighbor { peer, since: now, rtt_us: 0, used: None, doubted: None, watch });
        actions.push(ViewAction::NeighborUp(peer));
        self.begin_swaps(now);
        if self.active.len() > self.config.active_target {
            self.trim_at.get_or_insert(now + TRIM_AFTER);
        }
    }

    fn drop_neighbor(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) -> bool {
        let Some(place) = self.active.iter().position(|neighbor| neighbor.peer == peer) else { return false };
        self.active.remove(place);
        self.note_change(now);
        actions.push(ViewAction::NeighborDown(peer));
        self.refill_soon(now);
        true
    }

    fn reply(&mut self, to: P, accepted: bool, actions: &mut Vec<ViewAction<P>>) {
        let mut peers: Vec<_> = self.neighbors().filter(|&peer| peer != to).collect();
        self.rng.shuffle(&mut peers);
        peers.truncate(HINTS / 2);
        let hints = self.passive.sample(HINTS, &mut self.rng);
        peers.extend(hints.iter().map(|entry| entry.peer).filter(|&peer| peer != to));
        peers.truncate(HINTS.min(self.list_max));
        actions.push(ViewAction::Send { to, message: MembershipMessage::NeighborReply { accepted, peers } });
    }

    fn ask(&mut self, peer: P, ask: Ask<P>, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if peer == self.local || self.is_pending(peer) || !self.may_ask(peer, ask, now) {
            return;
        }
        self.pending.push(Pending { peer, ask, sent: 0, due: now });
        self.retry(now, actions);
    }

    /// Sends what is due, again if need be, and gives up what was sent often enough.
    fn retry(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let wanted = self.config.active_target.saturating_sub(self.active.len()).clamp(1, 255) as u8;
        let swarm = self.swarm;
        let timeout = self.config.reply_timeout;
        let mut given_up = Vec::new();
        self.pending.retain_mut(|pending| {
            if pending.due > now {
                return true;
            }
            let tries = if pending.ask == Ask::Probe { 1 } else { TRIES };
            if pending.sent >= tries {
                given_up.push((pending.peer, pending.ask));
                return false;
            }
            pending.sent += 1;
            pending.due = now + timeout * u32::from(pending.sent);
            let message = match pending.ask {
                Ask::Join => MembershipMessage::Join { swarm, wanted },
                Ask::Neighbor(request) => MembershipMessage::Neighbor { swarm, request },
                Ask::Probe => MembershipMessage::Neighbor { swarm, request: NeighborRequest::High },
            };
            actions.push(ViewAction::Send { to: pending.peer, message });
            true
        });
        if self.pending.is_empty() {
            // As mostly.
            self.pending = Vec::new();
        }
        for (peer, ask) in given_up {
            self.stats.requests_unanswered += 1;
            if ask == Ask::Join {
                // Perhaps the network is broken, and others are behind the contact.
                self.remembered.add(peer, now, &mut self.rng);
            }
            if ask != Ask::Probe {
                self.passive.remove(peer);
                self.refusals += 1;
                self.refill_soon(now);
            }
        }
    }
}
