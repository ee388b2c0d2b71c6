//! Gossip: unplanned dissemination with many writers.
//!
//! Bodies are pushed along a tree for each source that grows from first arrivals (*eager* links) and announced as ranges
//! of sequences elsewhere (*lazy* links): Plumtree (Leitão, Pereira, Rodrigues 2007) on sequences instead of hashes. A gap
//! or a missed announcement is pulled; neighbours reconcile what they know by fingerprints and, where these differ, by
//! ranges, so that nothing depends on any single message.
//!
//! | file | what it decides |
//! |---|---|
//! | `mod.rs` | the way of an update: in, to the application, on |
//! | `push.rs` | how an update goes on, and who is asked to push |
//! | `route.rs` | to whom the updates of a source are pushed |
//! | `adapt.rs` | how many eager feeders are kept |
//! | `announce.rs` | who is told of updates that were not pushed |
//! | `pull.rs` | what is asked of whom, and when again |
//! | `conduct.rs` | what neighbours may ask and say, and what they are trusted with |
//! | `pulse.rs` | when a source is hot, and sends waves |
//! | `lives.rs` | what this node publishes, and under which epoch |
//! | `page.rs` | how lists are cut to fit frames |
//! | `sync.rs` | reconciliation between two neighbours |
//! | `chunks/` | large updates |
//! | `census.rs` | how many members there are |
//! | `growth.rs` | which of the ways of a wave is the best |
//! | `wave.rs` | the trees of hot sources, and the one that cold sources share |

mod adapt;
mod announce;
mod census;
mod chunks;
mod conduct;
mod growth;
mod lives;
mod page;
mod peers;
mod pull;
mod pulse;
mod push;
mod route;
mod sync;
mod trial;
mod wave;

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use bytes::Bytes;

use crate::authority::SignedBody;
use crate::config::{GossipConfig, SharedGossip};
use crate::id::{Epoch, Priority, StateId};
use crate::io::{Class, LagReason, Offence};
use crate::log::{Log, LogLimits, RangeSet, Receipt, Retention, SourceIndex};
use crate::rng::{Rng, Seed};
use crate::stats::GossipStats;
use crate::time::Instant;
use crate::wire::{Data, GossipMessage, WirePeer};
use adapt::Adapter;
use announce::Announcer;
use census::Census;
pub(crate) use chunks::manifest_body_bytes;
use chunks::{Chunks, Manifest};
use conduct::Conduct;
use peers::{Peers, Slots};
use pull::{Cause, Puller};
use pulse::Pulse;
use route::Routes;
use sync::Syncer;
use trial::Trials;
use wave::{Resting, SharedTree};

/// What a [`Gossip`] machine wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GossipAction<P> {
    /// Send `message` to `to`.
    Send {
        /// The receiver.
        to: P,
        /// What to send.
        message: GossipMessage<P>,
        /// In which order it leaves a busy node.
        class: Class,
        /// If a message with the same key still waits for the same peer, this one takes its place.
        key: Option<u64>,
    },
    /// Pass a frame on as it came: it holds a chunk of a large update and nothing else. Only for who hands messages in with
    /// their frames.
    Forward {
        /// The receiver.
        to: P,
        /// What to send.
        frame: Bytes,
        /// In which order it leaves a busy node.
        class: Class,
    },
    /// A peer sent what no correct peer sends.
    Misbehaved {
        /// Who.
        peer: P,
        /// What it did.
        offence: Offence,
    },
    /// A new update for the application, whole.
    Deliver(Data<P>),
    /// Updates that will not come.
    Lagged {
        /// Who published them.
        origin: P,
        /// The life of the origin.
        epoch: Epoch,
        /// Their sequences.
        sequences: Range<u64>,
        /// Why.
        reason: LagReason,
    },
    /// A neighbour brings nothing, though it could: it should be one no more.
    Part {
        /// Who.
        peer: P,
    },
}

/// How an update is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct PublishOptions {
    /// How urgent it is. Default: normal.
    pub priority: Priority,
    /// Whether it stands alone, without the updates of its state before it. Default: no.
    pub keyframe: bool,
    /// Whether it goes over every link and not along trees: the fastest way and the surest, at about as many copies as a node has
    /// neighbours but one. Only urgent updates may ask for it, where [`GossipConfig::flood_on_request`] allows it. Default: no.
    pub flood: bool,
    /// Quality layer, 0 (base, the default) to 7. In livestreams the state says it.
    pub layer: u8,
    /// In livestreams, when the frame was captured. Default: when it is published.
    pub captured: Option<Instant>,
    /// In livestreams, how long after its capture the frame is of use, if not as long as the stream says.
    pub deadline: Option<Duration>,
}

/// The gossip machine of one swarm.
///
/// It knows neighbours, not links or sockets: the owner tells it who is one, hands it their messages, and carries out
/// its actions. See `examples/gossip_only.rs`.
#[derive(Debug)]
pub struct Gossip<P: WirePeer> {
    local: P,
    epoch: Epoch,
    next_sequence: u64,
    config: SharedGossip,
    supersedes: bool,
    log: Log<P>,
    peers: Peers<P>,
    routes: Routes,
    announcer: Announcer,
    puller: Puller,
    conduct: Conduct,
    adapter: Adapter,
    syncer: Syncer,
    shared: SharedTree<P>,
    census: Census,
    trials: Trials<P>,
    pulse: Pulse,
    chunks: Chunks<P>,
    resting: Resting<P>,
    /// Room for the list of a message: a frame without its own header.
    list_bytes_max: usize,
    rng: Rng,
    unsaid: Vec<Data<P>>,
    renewed_at: Option<Instant>,
    /// See [`Self::take_silence`].
    silence: bool,
    stats: GossipStats,
}

impl<P: WirePeer> Gossip<P> {
    /// A machine without neighbours that knows nothing.
    pub fn new(
        local: P,
        epoch: Epoch,
        config: GossipConfig,
        retention: Retention,
        frame_bytes_max: usize,
        seed: Seed,
    ) -> Self {
        Self::with_shared(local, epoch, config.into(), retention, frame_bytes_max, seed)
    }

    /// As [`Self::new`], with a configuration that others have, too.
    pub(crate) fn with_shared(
        local: P,
        epoch: Epoch,
        config: SharedGossip,
        retention: Retention,
        frame_bytes_max: usize,
        seed: Seed,
    ) -> Self {
        let limits = LogLimits {
            sources_max: config.sources_max,
            window_max: config.window_max as u64,
            age_max: config.age_max,
        };
        Self {
            local,
            epoch,
            next_sequence: 0,
            supersedes: retention == Retention::Latest,
            log: Log::new(limits, retention),
            peers: Peers::default(),
            routes: Routes::new(&config),
            announcer: Announcer::default(),
            puller: Puller::new(&config),
            conduct: Conduct::new(config.clone()),
            adapter: Adapter::new(&config),
            syncer: Syncer::new(&config),
            trials: Trials::default(),
            shared: SharedTree::default(),
            census: Census::default(),
            pulse: Pulse::default(),
            chunks: Chunks::new(&config, frame_bytes_max),
            resting: Resting::default(),
            list_bytes_max: frame_bytes_max.saturating_sub(LIST_HEADER_BYTES),
            config,
            rng: Rng::new(seed),
            unsaid: Vec::new(),
            renewed_at: None,
            silence: false,
            stats: GossipStats::default(),
        }
    }

    /// Publishes an update; returns its sequence. The caller has checked its size.
    pub fn publish(
        &mut self,
        state: StateId,
        body: Bytes,
        options: PublishOptions,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> u64 {
        if self.is_large(body.len(), 0) {
            return self.publish_large(state, body, options, |_, _| Bytes::new(), now, actions);
        }
        self.publish_sealed(state, body, options, |_| Bytes::new(), now, actions)
    }

    /// As [`Self::publish`], with a signature that `seal` makes once everything else is settled, for a body that fits a frame.
    pub fn publish_sealed(
        &mut self,
        state: StateId,
        body: Bytes,
        options: PublishOptions,
        seal: impl FnOnce(&Data<P>) -> Bytes,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) -> u64 {
        let data = self.own_data(state, body, options, now);
        let sequence = data.sequence;
        let signature = seal(&data);
        self.stats.published += 1;
        self.enter(Data { signature, ..data }, now, actions);
        sequence
    }

    /// Says again in a new life what was said in one that the swarm had already seen; see [`Self::take_unsaid`].
    pub fn publish_again(
        &mut self,
        update: Data<P>,
        seal: impl FnOnce(&Data<P>, SignedBody<'_>) -> Bytes,
        seal_bytes: usize,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let signature = Bytes::new();
        let data = Data { epoch: self.epoch, sequence: self.next_sequence, signature, ..update };
        if self.is_large(data.body.len(), seal_bytes) {
            return self.enter_large(data, seal, now, actions);
        }
        let signature = seal(&data, SignedBody::Whole(&data.body));
        self.enter(Data { signature, ..data }, now, actions);
    }

    /// What this life published under an epoch that turned out to be taken: the owner publishes it again.
    pub fn take_unsaid(&mut self) -> Vec<Data<P>> {
        core::mem::take(&mut self.unsaid)
    }

    /// Refuses an update for good: it counts as known, is not delivered, not forwarded, and not asked for.
    pub fn refuse(&mut self, data: &Data<P>, now: Instant) {
        self.stats.bodies_received += 1;
        self.stats.body_bytes_received += data.body.len() as u64;
        if self.log.note(data, now) {
            self.stats.refused += 1;
        }
        self.forget_replaced();
        if let Some(source) = self.log.source(data.origin, data.epoch) {
            self.settle(source, data.sequence, data.pulled, now);
        }
    }

    /// A new neighbour.
    pub fn neighbor_up(&mut self, peer: P, now: Instant) {
        let Some(slot) = self.peers.add(peer) else { return };
        self.routes.neighbor_up(slot);
        self.conduct.neighbor_up(slot);
        self.trials.end(slot);
        self.syncer.neighbor_up(slot, now, &mut self.rng);
        self.shared_neighbor_up(slot, now);
        self.chunks_neighbor_up(slot, now);
    }

    /// A neighbour less. If it fed hot sources, others are asked to.
    pub fn neighbor_down(&mut self, peer: P, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let Some(slot) = self.peers.remove(peer) else { return };
        self.announcer.neighbor_down(slot);
        self.puller.neighbor_down(slot, now);
        self.syncer.neighbor_down(slot);
        self.trials.end(slot);
        self.chunks_neighbor_down(slot, now);
        self.shared_neighbor_down(slot, now, actions);
        for source in self.routes.neighbor_down(slot, now) {
            self.graft_other(source, now, actions);
        }
    }

    /// The measured round-trip time to a neighbour, and its deviation.
    pub fn set_rtt(&mut self, peer: P, rtt: Duration, deviation: Duration) {
        self.peers.set_rtt(peer, rtt, deviation);
    }

    /// A frame to or from a neighbour was lost, as its pings show.
    pub fn note_loss(&mut self, now: Instant) {
        self.announcer.note_loss(now);
    }

    /// A message from a peer. Data is welcome from anybody; the rest is heeded from neighbours only. What exceeds the
    /// sender's budget is dropped.
    pub fn handle_message(
        &mut self,
        from: P,
        message: GossipMessage<P>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        if self.admit(from, &message, now, actions) {
            self.handle_admitted(from, message, None, now, actions);
        }
    }

    /// A message within its sender's budget, with the frame that it came in, if nothing else was in it: a chunk of a large
    /// update is then passed on as it is.
    pub(crate) fn handle_admitted(
        &mut self,
        from: P,
        message: GossipMessage<P>,
        frame: Option<&Bytes>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let slot = self.peers.slot(from);
        match (message, slot) {
            (GossipMessage::Data(data), slot) => self.on_data(slot, data, now, actions),
            (GossipMessage::Manifest(data), slot) => self.on_manifest(slot, data, now, actions),
            (_, None) => self.stats.from_strangers += 1,
            (GossipMessage::ChunkOffer(offer), Some(slot)) => self.on_offer(slot, offer, now, actions),
            (GossipMessage::ChunkClaim(claim), Some(slot)) => self.on_claim(slot, &claim, now, actions),
            (GossipMessage::Chunk(chunk), Some(slot)) => self.on_chunk(slot, chunk, frame, now, actions),
            (GossipMessage::Have { sources }, Some(slot)) => {
                self.stats.haves_received += 1;
                for has in sources {
                    self.note_holder(slot, &has, Cause::Announced, now);
                    self.add_feeder(slot, &has, actions);
                }
                self.pump(now, actions);
            }
            (GossipMessage::Want { graft, sources }, Some(slot)) => {
                self.on_want(slot, graft, &sources, now, actions);
            }
            (GossipMessage::Gone { sources }, Some(slot)) => self.on_gone(slot, &sources, now, actions),
            (GossipMessage::Prune { origin, share_percent }, Some(slot)) => {
                self.stats.prunes_received += 1;
                if let Some((_, source)) = self.log.latest_epoch(origin) {
                    self.routes.on_prune(source, origin.digest(), slot, share_percent);
                }
            }
            (GossipMessage::Wave(wave), Some(slot)) => self.on_wave(slot, wave, now, actions),
            (GossipMessage::Attach { attached }, Some(slot)) => {
                self.on_attach(slot, attached, now, actions);
            }
            (GossipMessage::Count { nodes }, Some(slot)) => self.on_count(slot, nodes, now, actions),
            (GossipMessage::Sync { lower, items }, Some(slot)) => {
                self.on_sync(slot, lower, items, now, actions);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        let mut dropped = Vec::new();
        self.log.handle_timeout(now, &mut dropped);
        for source in dropped {
            self.forget(source);
        }
        self.sweep_chunks(now);
        self.tend_chunks(now, actions);
        self.conduct.refresh(now);
        self.tend_trials(now, actions);
        self.tend_trees(now, actions);
        while let Some(source) = self.routes.take_starving(now) {
            self.feed_starving(source, now, actions);
        }
        self.announce_tail(now, actions);
        if self.announcer.is_due(now) {
            self.announce(now, actions);
        }
        if self.puller.is_due(now) {
            self.pump(now, actions);
        }
        if self.syncer.is_due(now) {
            self.begin_sync(now, actions);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sync = if self.peers.is_empty() { None } else { self.syncer.poll_timeout() };
        Instant::earliest([
            self.announcer.poll_timeout(),
            self.puller.poll_timeout(),
            sync,
            self.log.poll_timeout(),
            self.routes.next_decision(),
            self.routes.next_alarm(),
            self.shared.poll_timeout(),
            self.census.poll_timeout(),
            self.resting.poll_timeout(),
            self.chunks.poll_timeout(),
            self.trials.poll_timeout(),
        ])
    }

    /// Whether a peer is a neighbour.
    pub(crate) fn is_neighbor(&self, peer: P) -> bool {
        self.peers.slot(peer).is_some()
    }

    /// The neighbours along the shared tree: links that should last while it stands.
    pub(crate) fn tree_neighbors(&self) -> impl Iterator<Item = P> + '_ {
        let slots = self.shared.links().unwrap_or(Slots::NONE);
        slots.iter().filter_map(|slot| self.peers.get(slot))
    }

    /// What is known and held.
    pub fn log(&self) -> &Log<P> {
        &self.log
    }

    /// The life in which this node publishes. It rises by itself if the swarm remembers a later one.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The redundancy that is aimed at now, in percent: [`GossipConfig::redundancy_percent`], or more while updates come
    /// late and [`GossipConfig::adaptive_threshold_permille`] does not allow it.
    pub fn redundancy_percent(&self) -> u16 {
        self.adapter.percent()
    }

    /// Counters since the machine was made.
    pub fn stats(&self) -> &GossipStats {
        &self.stats
    }

    fn on_data(&mut self, slot: Option<u8>, data: Data<P>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        self.stats.bodies_received += 1;
        self.stats.body_bytes_received += data.body.len() as u64;
        self.on_update(slot, data, None, now, actions);
    }

    /// An update has come: with its body, or a large one's manifest.
    fn on_update(
        &mut self,
        slot: Option<u8>,
        mut data: Data<P>,
        manifest: Option<Manifest>,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        data.hops = data.hops.saturating_add(1);
        data.born = data.born - slot.map_or(Duration::ZERO, |slot| self.peers.rtt(slot) / 2);
        if self.is_from_unknown_life(data.origin, data.epoch, data.sequence + 1) {
            self.renew_epoch(data.epoch, now);
        }
        let from = slot.map_or(Slots::NONE, Slots::one);
        let receipt = self.log.receive(&data, now);
        self.forget_replaced();
        match receipt {
            Receipt::New { source, given_up } => {
                self.report_lag(source, &given_up, LagReason::WindowFull, actions);
                let holders = self.settle(source, data.sequence, data.pulled, now);
                if let Some(slot) = slot {
                    self.note_brought(slot, &data, true, now);
                }
                if let Some(percent) = self.adapter.note(data.pulled, now) {
                    self.routes.set_redundancy(percent);
                    self.stats.redundancy_changes += 1;
                }
                let is_cold = !self.routes.has_own_tree(source);
                if data.pulled {
                    self.stats.pulled += 1;
                    if let Some(slot) = slot {
                        self.on_pulled(source, slot, is_cold, now, actions);
                    }
                } else if let Some(slot) = slot {
                    self.routes.on_first(source, &data, slot, now);
                    if is_cold {
                        self.on_shared_push();
                    }
                }
                match manifest {
                    None => {
                        self.stats.delivered += 1;
                        actions.push(GossipAction::Deliver(data.clone()));
                    }
                    Some(manifest) => self.begin_assembly(source, slot, &data, manifest, now, actions),
                }
                self.forward(source, &data, from | holders, now, actions);
                if let Some(slot) = slot {
                    self.note_gap(source, slot, data.sequence, now);
                }
                self.pump(now, actions);
            }
            Receipt::Duplicate { source } => {
                self.stats.duplicates += u64::from(manifest.is_none());
                self.announcer.mark(source, data.sequence..data.sequence + 1, from);
                if let Some(slot) = slot {
                    self.note_brought(slot, &data, false, now);
                }
                let asks = data.flood && data.priority == Priority::Urgent;
                let of_a_tree = !data.pulled && !asks && !self.floods(&data);
                if let (Some(slot), true) = (slot, of_a_tree) {
                    if self.routes.has_own_tree(source) || !self.is_shared_link(slot) {
                        self.on_duplicate(source, &data, slot, actions);
                    } else {
                        // It was only late. Two trees overlap while one takes the other's place.
                        self.on_shared_push();
                    }
                }
            }
            Receipt::Superseded { source } => {
                self.stats.superseded += 1;
                self.settle(source, data.sequence, data.pulled, now);
            }
            Receipt::TooOld { source } => {
                self.stats.too_old += 1;
                self.settle(source, data.sequence, data.pulled, now);
                let late = RangeSet::from(data.sequence..data.sequence + 1);
                self.report_lag(source, &late, LagReason::Expired, actions);
            }
            Receipt::StaleEpoch => self.stats.stale_epochs += 1,
            Receipt::SourcesFull => self.stats.sources_refused += 1,
        }
    }

    /// A new update came on request, which its tree should have brought.
    fn on_pulled(
        &mut self,
        source: SourceIndex,
        slot: u8,
        is_cold: bool,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        if is_cold {
            self.on_shared_miss(slot, actions);
        } else if self.routes.take_tried(source, slot, now) {
            self.graft(source, slot, true, actions);
            // Whoever fed this node before may be gone, and must not make the new feeder look like one too many.
            self.routes.set_feeder(source, slot);
        }
    }

    fn report_lag(
        &mut self,
        source: SourceIndex,
        lost: &RangeSet,
        reason: LagReason,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let Some((origin, epoch)) = self.log.name(source) else { return };
        for sequences in lost.iter() {
            self.stats.lagged = self.stats.lagged.saturating_add(sequences.end - sequences.start);
            self.puller.drop_range(source, sequences.clone());
            actions.push(GossipAction::Lagged { origin, epoch, sequences, reason });
        }
    }

    fn enter(&mut self, data: Data<P>, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        self.next_sequence += 1;
        let receipt = self.log.receive(&data, now);
        self.forget_replaced();
        if let Receipt::New { source, .. } = receipt {
            // A wave goes ahead of the body, which would hold it up.
            self.pulse(source, data.sequence, now, actions);
            self.forward(source, &data, Slots::NONE, now, actions);
        }
    }

    fn forget_replaced(&mut self) {
        while let Some(source) = self.log.take_replaced() {
            self.forget(source);
        }
    }

    fn forget(&mut self, source: SourceIndex) {
        self.routes.forget(source);
        self.announcer.forget(source);
        self.puller.forget(source);
        self.forget_large(source);
    }
}

/// A frame's version, and the kind, tag, flags and counts of a message around its list.
const LIST_HEADER_BYTES: usize = 48;
