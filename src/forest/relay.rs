//! The data path of a livestream at one node: chunks in, chunks out, repair, and who feeds whom.

mod children;
mod delivery;
mod feeds;
mod keyframes;
mod load;
mod media;
mod queries;
mod repair;
mod seals;
mod serve;
mod silence;
mod state;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::EgressConfig;
use crate::deadline::DeadlineIndex;
use crate::id::{Epoch, SwarmId};
use crate::io::Class;
use crate::propagation::bucket::Bucket;
use crate::stats::LivestreamStats;
use crate::time::Instant;
use crate::wire::{Attach, Chunk, ForestMessage, LostParent, StreamNotice, WirePeer};

use load::{Load, Quality};
pub use media::{MediaFrame, Publish};
pub use seals::Seals;
pub use state::Interest;
use state::{Candidate, Child, ClockReading, Missing, PassedLate, Peer, Stripe, Track, bit};

/// What a [`Relay`] is told at its birth.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// The greatest frame of the transport, in bytes: [`Config::frame_bytes_max`](crate::Config::frame_bytes_max).
    pub frame_bytes_max: usize,
    /// What the node may spend on others, in bytes a second; 0 feeds nobody.
    pub upload_bytes_per_s: u64,
    /// How much of each track is kept, in bytes.
    pub retained_bytes_max: usize,
    /// Whether frames are delivered in the order of their publication.
    pub in_order: bool,
    /// A keyframe is asked for at most once in this time.
    pub keyframe_interval: Duration,
}

/// What a stream is: told by its source, learnt by others from their plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamFacts {
    /// The source's life.
    pub epoch: Epoch,
    /// How many stripes there are, 1 to 16.
    pub stripes: u8,
    /// The rate on the wire, in bytes a second: all tracks and layers, with headers and parity.
    pub rate_bytes_per_s: u64,
    /// How long after its capture a frame is of use.
    pub deadline: Duration,
}

/// What a [`Relay`] wants done.
#[derive(Debug)]
pub enum RelayAction<P> {
    /// Send a message.
    Send {
        /// To whom.
        to: P,
        /// What.
        message: ForestMessage<P>,
        /// How urgently.
        class: Class,
    },
    /// Send these bytes, a whole frame.
    Pass {
        /// To whom.
        to: P,
        /// The frame.
        frame: Bytes,
        /// How urgently.
        class: Class,
        /// When it is of no use any more.
        deadline: Instant,
        /// What it is, if it may be asked for twice.
        key: Option<u64>,
    },
    /// The link to this peer is needed.
    Hold(P),
    /// It is needed no more.
    Release(P),
    /// A frame for the application.
    Deliver(MediaFrame),
    /// Frames of a track that will never be delivered: their deadline passed.
    Lagged {
        /// The track: kind and layer.
        track: u8,
        /// Their sequences among the frames of the track.
        sequences: Range<u64>,
    },
    /// At the source: somebody needs a keyframe.
    KeyframeWanted,
    /// Frames of this layer come too late, or have come in time for a while: fewer layers should be wanted, or more.
    Quality {
        /// The highest layer that should be wanted.
        layer: u8,
    },
    /// Every stripe has a parent for the first time, or again.
    Fed,
    /// No stripe has a parent any more.
    Unfed,
    /// The state of the stream has changed.
    State(StreamNotice),
    /// At the source: it can really send so much, in bytes a second. Whoever plans has to know.
    Upload {
        /// Bytes a second.
        bytes_per_s: u64,
    },
    /// The peer contradicts itself or others.
    Misbehaved(P),
    /// The peer sent a chunk of a sealed stream that is not the source's.
    Forged(P),
}

/// One node of a livestream: its source, or a viewer that feeds others.
///
/// It is told who feeds it (by [`ForestMessage::Plan`]) and finds somebody else by itself when that peer falls silent. It knows
/// peers, not links; see [`ForestPlan`](super::ForestPlan) for the other half.
#[derive(Debug)]
pub struct Relay<P: WirePeer> {
    local: P,
    swarm: SwarmId,
    source: P,
    /// `None` at the source.
    planner: Option<P>,
    config: RelayConfig,
    facts: Option<StreamFacts>,
    /// Stream time in microseconds is the local time plus this.
    clock_offset_us: i64,
    /// How well it is known; `None` if not at all.
    clock: Option<ClockReading>,
    notice: StreamNotice,
    stripes: Vec<Stripe<P>>,
    /// Who asked to be fed before the plan came.
    early: Vec<(P, Attach)>,
    refused: Option<P>,
    /// Peers that passed on forgeries: they are no parents any more.
    banned: Vec<P>,
    /// When anything was heard of silent parents, in a group.
    heard_of: Vec<(P, Instant)>,
    accused_at: Option<Instant>,
    refused_at: Instant,
    /// The stripe that the plan wants it to pass on.
    passes_on: Option<u8>,
    peers: BTreeMap<P, Peer>,
    tracks: BTreeMap<u8, Box<Track<P>>>,
    /// What the application wants: whole tracks, and tracks of which it wants the keyframes.
    wants: Interest,
    /// Tracks that the application turned on after others had begun: they begin with their next keyframe.
    later: u64,
    /// What parents were told is wanted, here and below.
    told: Interest,
    token: u32,
    missing: BTreeMap<(u8, u64), Missing>,
    missing_at: DeadlineIndex<(u8, u64)>,
    /// Chunks from before this node came that are to be asked for.
    history: BTreeSet<(u8, u64)>,
    history_at: Option<Instant>,
    history_flying: usize,
    history_window: usize,
    /// Chunks that were asked for here and are asked for by us: who waits for them.
    owed: BTreeMap<(u8, u64), SmallVec<[P; 2]>>,
    /// Missed chunks that came and were passed on a moment ago.
    passed_late: VecDeque<PassedLate<P>>,
    repair_budget: Option<Bucket>,
    serve_budget: Option<Bucket>,
    /// How long answers take, queues at the other end included, smoothed.
    repair_time: Duration,
    /// In a group: how much later than usual a chunk may be before it is missed.
    lateness_us: u32,
    check_at: Option<Instant>,
    /// After a pause or the end: until when, and when next, what was lost last is looked for.
    settle_until: Instant,
    settle_at: Option<Instant>,
    expire_at: Option<Instant>,
    /// When a keyframe is asked for, if none has come by then.
    picture_at: Option<Instant>,
    /// The stream had not begun when this node came: it is owed all of it.
    from_beginning: bool,
    tick_at: Instant,
    watch_at: Option<Instant>,
    watch_tries: u8,
    asked_keyframe: Option<Instant>,
    sent_at: Instant,
    publish_gap_us: u32,
    stalled_said: Instant,
    fed: bool,
    lost: Vec<LostParent<P>>,
    parity_debt: u32,
    /// At the source of a stream of a group: copies of the frame before, of which there is one chunk.
    held_back: Vec<(Chunk, Bytes)>,
    redundancy_percent: u16,
    /// What this node spends on this stream and others of its group, in bytes a second, if there are such.
    shared_upload: Option<u64>,
    last_delivery: Option<(Instant, Instant)>,
    active_since: Option<Instant>,
    lagged: Vec<Range<u64>>,
    load: Load,
    quality: Quality,
    seals: Option<Seals<P>>,
    stats: LivestreamStats,
}

/// The tree of a stripe is deeper than any plan when a path is longer.
const PATH_MAX: usize = 32;

/// A parent is asked again so often, as a sign of life and to compare clocks.
const REFRESH: Duration = Duration::from_secs(5);

/// A child that does not repeat itself is forgotten after this time.
const LEASE: Duration = Duration::from_secs(16);

const TICK: Duration = Duration::from_secs(1);

/// Before the plan has come the watch is repeated, at first after this time.
const WATCH_RETRY: Duration = Duration::from_millis(250);

/// What a link may take, as long as nothing was measured.
const RTT_GUESS: Duration = Duration::from_millis(100);

impl<P: WirePeer> Relay<P> {
    /// The source of a stream, with its clock at zero now. `redundancy_percent` is how much is sent: 100 without parity, to
    /// 300.
    pub fn source(
        local: P,
        swarm: SwarmId,
        config: RelayConfig,
        facts: StreamFacts,
        redundancy_percent: u16,
        now: Instant,
    ) -> Self {
        let mut relay = Self::new(local, swarm, local, None, config, now);
        relay.clock_offset_us = -(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        relay.redundancy_percent = redundancy_percent;
        relay.learn(facts, now);
        relay
    }

    /// A viewer of what `source` streams. It asks `planner` for a place, at the next [`Self::handle_timeout`].
    pub fn viewer(
        local: P,
        swarm: SwarmId,
        source: P,
        planner: P,
        config: RelayConfig,
        now: Instant,
    ) -> Self {
        let mut relay = Self::new(local, swarm, source, Some(planner), config, now);
        relay.watch_at = Some(now);
        relay
    }

    fn new(
        local: P,
        swarm: SwarmId,
        source: P,
        planner: Option<P>,
        config: RelayConfig,
        now: Instant,
    ) -> Self {
        Self {
            local,
            swarm,
            source,
            planner,
            config,
            facts: None,
            clock_offset_us: 0,
            clock: None,
            notice: StreamNotice::default(),
            stripes: Vec::new(),
            early: Vec::new(),
            refused: None,
            banned: Vec::new(),
            heard_of: Vec::new(),
            accused_at: None,
            refused_at: Instant::ZERO,
            passes_on: None,
            peers: BTreeMap::new(),
            tracks: BTreeMap::new(),
            wants: Interest::default(),
            later: 0,
            told: Interest::default(),
            token: 0,
            missing: BTreeMap::new(),
            missing_at: DeadlineIndex::new(),
            history: BTreeSet::new(),
            history_at: None,
            history_flying: 0,
            history_window: repair::HISTORY_WINDOW_MAX,
            owed: BTreeMap::new(),
            passed_late: VecDeque::new(),
            repair_budget: None,
            serve_budget: None,
            repair_time: Duration::ZERO,
            lateness_us: repair::LATENESS.as_micros() as u32,
            check_at: None,
            settle_until: now,
            settle_at: None,
            expire_at: None,
            picture_at: None,
            from_beginning: false,
            tick_at: now + TICK,
            watch_at: None,
            watch_tries: 0,
            asked_keyframe: None,
            sent_at: now,
            publish_gap_us: 0,
            stalled_said: now,
            fed: false,
            lost: Vec::new(),
            parity_debt: 0,
            held_back: Vec::new(),
            redundancy_percent: 100,
            shared_upload: None,
            last_delivery: None,
            active_since: None,
            lagged: Vec::new(),
            load: Load::new(now),
            quality: Quality::default(),
            seals: None,
            stats: LivestreamStats::default(),
        }
    }

    /// The same, in a stream whose frames are sealed. To be called before anything comes.
    #[must_use]
    pub fn sealed(mut self, seals: Seals<P>) -> Self {
        self.seals = Some(seals);
        self
    }

    /// Takes a message of a peer. A chunk that was alone in its frame comes with that frame, which is then kept and passed
    /// on as it is.
    ///
    /// Never fails: what no correct peer sends is dropped, counted, and told by [`RelayAction::Misbehaved`] if it contradicts
    /// what is known.
    pub fn handle_message(
        &mut self,
        from: P,
        message: ForestMessage<P>,
        frame: Option<&Bytes>,
        now: Instant,
        actions: &mut Vec<RelayAction<P>>,
    ) {
        match message {
            ForestMessage::Chunk(chunk) => self.on_chunk(from, chunk, frame, now, actions),
            ForestMessage::Plan(plan) => self.on_plan(from, plan, now, actions),
            ForestMessage::Attach(attach) => self.on_attach(from, &attach, now, actions),
            ForestMessage::Attached(attached) => self.on_attached(from, attached, now, actions),
            ForestMessage::Detach { stripes } => self.on_detach(from, stripes, now, actions),
            ForestMessage::Want { history, tracks } => self.on_want(from, history, &tracks, now, actions),
            ForestMessage::Gone { tracks } => self.on_gone(from, &tracks, now),
            ForestMessage::Stalled { stripes } => self.on_stalled(from, stripes, now, actions),
            ForestMessage::Path { stripes, ancestors } => {
                self.on_path(from, stripes, &ancestors, now, actions);
            }
            ForestMessage::KeyframeWanted { .. } => self.on_keyframe_wanted(from, now, actions),
            ForestMessage::State(notice) => self.on_notice(from, notice, now, actions),
            ForestMessage::Leave => {
                self.peer_lost(from, now, actions);
            }
            ForestMessage::Check => {
                if self.planner == Some(from) {
                    self.say_watch(actions);
                }
            }
            ForestMessage::Refused { .. } => {
                if self.planner == Some(from) && self.watch_at.is_none() {
                    self.watch_at = Some(now + WATCH_RETRY * 4);
                }
            }
            ForestMessage::Watch { .. }
            | ForestMessage::PlanAck { .. }
            | ForestMessage::Accuse { .. }
            | ForestMessage::Report { .. }
            | ForestMessage::Upload { .. } => {}
        }
        self.pump(now, actions);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if self.watch_at.is_some_and(|at| at <= now) {
            self.watch_tries = self.watch_tries.saturating_add(1);
            let wait = WATCH_RETRY * (1 << self.watch_tries.min(4));
            self.watch_at = Some(now + wait / 2);
            self.say_watch(actions);
        }
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_stripes(now, actions);
        }
        if self.expire_at.is_some_and(|at| at <= now) {
            self.expire(now, actions);
        }
        if self.picture_at.is_some_and(|at| at <= now) {
            self.want_first_picture(now, actions);
        }
        if self.tick_at <= now {
            self.tick(now, actions);
            self.tick_at = now + TICK;
        }
        self.pump(now, actions);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let missing = self.missing_at.next();
        let own = [missing, self.history_at, self.check_at, self.expire_at, self.picture_at, self.watch_at];
        own.into_iter().flatten().chain([self.tick_at]).min()
    }

    /// The link to a peer is gone, or the peer has left. True if it was a child.
    pub fn peer_lost(&mut self, peer: P, now: Instant, actions: &mut Vec<RelayAction<P>>) -> bool {
        let mut was_child = false;
        for stripe in 0..self.stripes.len() {
            if self.remove_child(stripe, peer, actions) {
                was_child = true;
                self.lost.push(LostParent { stripe: stripe as u8, parent: peer, adopted: None });
            }
            if self.stripes[stripe].parent == Some(peer) {
                self.parent_failed(stripe, now, actions);
            } else if self.stripes[stripe].candidate.is_some_and(|candidate| candidate.peer == peer) {
                self.candidate_failed(stripe, now, actions);
            }
        }
        self.note_wanted(now, actions);
        self.flush_reports(actions);
        was_child
    }

    /// What the application wants from now on: fewer tracks at once, more from their next keyframes. Nothing at first.
    pub fn set_interest(&mut self, wants: Interest, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        if self.wants == wants {
            return;
        }
        let before = core::mem::replace(&mut self.wants, wants);
        if self.tracks.values().any(|track| track.log.has_started()) {
            self.later |= wants.tracks & !before.tracks;
        }
        for (&id, track) in &mut self.tracks {
            track.log.keyframes_only = wants.tracks & bit(id) == 0;
            let ends = before.covers(id, true) && !wants.covers(id, true);
            let begins = !before.covers(id, true) && wants.covers(id, true);
            if ends || begins || before.tracks & bit(id) < wants.tracks & bit(id) {
                // Never inside a group: what is turned on begins with its next keyframe.
                track.log.stop_delivery();
            }
        }
        self.told = self.wanted();
        self.forget_unwanted();
        self.refresh(true, now, actions);
    }

    /// What is wanted, here and below.
    fn wanted(&self) -> Interest {
        let children = self.stripes.iter().flat_map(|stripe| &stripe.children);
        children.fold(self.wants, |all, child| all.union(child.interest))
    }

    /// Tells the parents if more is wanted than they know, or less.
    fn note_wanted(&mut self, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let wanted = self.wanted();
        if self.told != wanted {
            self.told = wanted;
            self.forget_unwanted();
            self.refresh(true, now, actions);
        }
    }

    /// Tracks that nobody here or below wants any more are not missed.
    fn forget_unwanted(&mut self) {
        for index in 0..self.stripes.len() {
            let mut edges = core::mem::take(&mut self.stripes[index].edges);
            edges.retain(|(track, _)| self.subtree_wants(index, *track));
            self.stripes[index].edges = edges;
        }
        let wanted = self.wanted();
        let unwanted = |id: u8| !wanted.covers(id, true);
        let gone: Vec<(u8, u64)> = self.missing.keys().copied().filter(|(id, _)| unwanted(*id)).collect();
        for (id, number) in gone {
            self.found(id, number);
        }
    }

    /// What the node may spend on others from now on, in bytes a second; 0 feeds nobody. The planner is told.
    pub fn set_upload(&mut self, upload_bytes_per_s: u64, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        self.config.upload_bytes_per_s = upload_bytes_per_s;
        self.set_serve_budget(now);
        self.load.upload_bytes_per_s = None;
        self.tell_upload(upload_bytes_per_s, actions);
        // That may be lost.
        self.remind_planner();
    }

    /// At the source: the state of the stream from now on, as a [`StreamState`](crate::StreamState) counts: 0 initializing,
    /// 1 active, 2 paused, 3 ended. Children are told, and tell theirs.
    pub fn set_state(&mut self, state: u8, now: Instant, actions: &mut Vec<RelayAction<P>>) {
        let notice = StreamNotice { state, version: self.notice.version + 1 };
        self.take_notice(notice, now, actions);
    }

    /// At the source: how much is sent of the next frames, parity included, in percent: from 100 to 300.
    pub fn set_redundancy(&mut self, percent: u16) {
        self.redundancy_percent = percent.clamp(100, 300);
    }

    /// This is one of several streams of a group, which share so much upload, in bytes a second. The plan knows best how it
    /// is divided, and repair begins earlier, now and then too early: people talk.
    pub fn share_upload(&mut self, all_bytes_per_s: u64) {
        self.shared_upload = Some(all_bytes_per_s);
        self.config.keyframe_interval = self.config.keyframe_interval.min(keyframes::INTERVAL_SHARED);
    }

    /// Whether this is one of the streams of a group.
    fn is_shared(&self) -> bool {
        self.shared_upload.is_some()
    }

    /// Says goodbye to everybody, and releases all links. The relay is of no use afterwards.
    pub fn leave(&mut self, actions: &mut Vec<RelayAction<P>>) {
        let mut told: Vec<P> = self.peers.keys().copied().collect();
        if let Some(planner) = self.planner.filter(|planner| !told.contains(planner)) {
            told.push(planner);
        }
        for to in told {
            actions.push(RelayAction::Send { to, message: ForestMessage::Leave, class: Class::Control });
        }
        for peer in core::mem::take(&mut self.peers).into_keys() {
            actions.push(RelayAction::Release(peer));
        }
        self.stripes.clear();
    }

    fn is_source(&self) -> bool {
        self.planner.is_none()
    }

    /// Takes what the stream is; a new life of its source makes everything new.
    fn learn(&mut self, facts: StreamFacts, now: Instant) {
        self.facts = Some(facts);
        // Another life has another clock.
        self.clock = None;
        self.later = 0;
        self.active_since = None;
        self.last_delivery = None;
        let rate = facts.rate_bytes_per_s;
        let burst = Duration::from_millis(250);
        self.set_serve_budget(now);
        self.repair_budget = Some(if self.is_shared() {
            // Where all relay as much as they can, haste makes what is late later.
            Bucket::new((rate / 16).max(12_000), burst, 24 * 1_500, now)
        } else {
            Bucket::new((rate / 2).max(20_000), burst, 64 * 1_500, now)
        });
        self.stripes = (0..facts.stripes).map(|_| Stripe::new(now)).collect();
        self.tracks.clear();
        self.missing.clear();
        self.missing_at = DeadlineIndex::new();
        self.history.clear();
        self.history_flying = 0;
        self.owed.clear();
        self.passed_late.clear();
    }

    fn say_watch(&mut self, actions: &mut Vec<RelayAction<P>>) {
        if let Some(to) = self.planner {
            // The whole plan will come, and from a planner that began anew its versions are small again.
            for stripe in &mut self.stripes {
                stripe.plan_version = None;
            }
            let message = ForestMessage::Watch {
                swarm: self.swarm,
                upload_bytes_per_s: self.config.upload_bytes_per_s,
            };
            actions.push(RelayAction::Send { to, message, class: Class::Control });
        }
    }

    fn stripe_of(&self, number: u64) -> usize {
        (number % self.stripes.len().max(1) as u64) as usize
    }

    fn stream_us(&self, now: Instant) -> u64 {
        let us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX).saturating_add(self.clock_offset_us);
        u64::try_from(us).unwrap_or(0)
    }

    fn stream_ms(&self, now: Instant) -> u64 {
        self.stream_us(now) / 1_000
    }

    /// The local time of a point in stream time.
    fn local_time(&self, stream_ms: u64) -> Instant {
        let us = i64::try_from(stream_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        Instant::from_micros(u64::try_from(us.saturating_sub(self.clock_offset_us)).unwrap_or(0))
    }

    fn children_count(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.children.len()).sum()
    }

    /// How many (child, stripe) pairs the upload carries. A little more than a plan hands out, for those who lost
    /// their parent.
    fn slots(&self) -> usize {
        self.slots_of(self.load.upload_bytes_per_s.unwrap_or(self.config.upload_bytes_per_s))
    }

    fn slots_of(&self, upload: u64) -> usize {
        let Some(facts) = &self.facts else { return 0 };
        let all = u128::from(upload) * u128::from(facts.stripes) * SLOT_PERCENT;
        let each = u128::from(facts.rate_bytes_per_s.max(1)) * 100;
        usize::try_from(all / each).unwrap_or(usize::MAX).min(SLOTS_MAX)
    }

    fn send(&self, to: P, message: ForestMessage<P>, actions: &mut Vec<RelayAction<P>>) {
        actions.push(RelayAction::Send { to, message, class: Class::Control });
    }
}

/// How much of the upload is given out, in percent.
const SLOT_PERCENT: u128 = 95;

/// (Child, stripe) pairs, at most: each costs a send for every chunk of the stripe.
const SLOTS_MAX: usize = 4_096;

/// The stripes of a mask that exist.
fn stripes_of(mask: u16, stripes: usize) -> impl Iterator<Item = usize> {
    (0..stripes.min(16)).filter(move |stripe| mask >> stripe & 1 == 1)
}

/// The overhead that a host's transport adds is part of the rate.
pub(crate) fn wire_rate(
    rate_bytes_per_s: u64,
    redundancy_percent: u16,
    chunk_bytes: usize,
    config: &EgressConfig,
) -> u64 {
    let chunk = chunk_bytes.max(1) as u128;
    let wire = chunk + HEADER_BYTES_TYPICAL + config.frame_overhead_bytes as u128;
    let rate = u128::from(rate_bytes_per_s) * u128::from(redundancy_percent) * wire / (chunk * 100);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

const HEADER_BYTES_TYPICAL: u128 = 22;
