//! A livestream: one source, a forest of viewers, and a chat beside it.

mod options;
mod planning;
mod sharing;
mod tracker;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

pub use options::{BroadcastOptions, DeliveryOrder, StreamQuality, StreamState, WatchOptions};
pub(crate) use options::{check_quality, check_upload};
use planning::{check_source_upload, planner_config};
use tracker::{ANNOUNCE, Tracked};

use super::{Guard, SwarmAction, SwarmActions, Topic, TopicOptions};
use crate::authority::{LivestreamTracks, WriteRefusal};
use crate::bounded::Rush;
use crate::config::Config;
use crate::error::CommandError;
use crate::forest::{
    Interest, PlanError, Planner, PlannerAction, Publish, Relay, RelayAction, RelayConfig, Seals,
};
use crate::gossip::PublishOptions;
use crate::id::{Epoch, Priority, StateId, SwarmId, UpdateId};
use crate::interest::{Role, TrackKind};
use crate::io::{Class, Event, LagReason, Offence, Update};
use crate::rng::{Seed, mix};
use crate::stats::LivestreamStats;
use crate::time::Instant;
use crate::wire::{ForestMessage, MembershipMessage, Message, StreamNotice, WirePeer};

/// One livestream at one node: its source, a viewer, or a tracker.
#[derive(Debug)]
pub(crate) struct Livestream<P: WirePeer> {
    swarm: SwarmId,
    local: P,
    source: P,
    epoch: Epoch,
    /// Who is asked for places; `None` where this node plans.
    tracker: Option<P>,
    /// None at a tracker.
    relay: Option<Relay<P>>,
    planner: Option<Box<Planner<P>>>,
    chat: Option<Box<Topic<P>>>,
    /// Who may publish, where there is no chat to ask.
    guard: Guard<P>,
    role: Role,
    quality: StreamQuality,
    /// The highest layer that is delivered now.
    layer: u8,
    layer_changed: bool,
    quality_changes: u64,
    told_tracker: Instant,
    /// At a tracker: what its source says.
    tracked: Option<Box<Tracked>>,
    relay_actions: Vec<RelayAction<P>>,
    relay_rush: Rush,
    planner_actions: Vec<PlannerAction<P>>,
    /// What this node spends on this and other streams, in bytes a second, if they share it.
    shared_upload: Option<u64>,
}

/// What seals add to the rate, in percent.
const SEAL_PERCENT: u64 = 3;

/// A rate with its seals.
pub(crate) fn with_seals(rate_bytes_per_s: u64) -> u64 {
    rate_bytes_per_s.saturating_add(rate_bytes_per_s / 100 * SEAL_PERCENT)
}

/// Numbers of media frames begin here, track by track: they share the sequences of their origin with its chat.
const TRACK_SEQUENCES: u32 = 48;

impl<P: WirePeer> Livestream<P> {
    /// The source's end.
    #[allow(clippy::too_many_arguments, reason = "all that makes a livestream")]
    pub(crate) fn open(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        config: &Arc<Config>,
        options: &BroadcastOptions<P>,
        mut guard: Guard<P>,
        seed: Seed,
        now: Instant,
    ) -> Result<Self, CommandError> {
        options.validate()?;
        let seals = guard.take_seals();
        if seals.as_ref().is_some_and(|seals| !seals.can_sign()) {
            return Err(CommandError::NoSigner);
        }
        let mut planner_config = planner_config(config, options, epoch);
        if seals.is_some() {
            let rate = with_seals(planner_config.facts.rate_bytes_per_s);
            planner_config.facts.rate_bytes_per_s = rate;
            planner_config.plan.rate_bytes_per_s = rate;
        }
        let facts = planner_config.facts;
        let planner = match options.tracker {
            Some(_) => None,
            None => Some(Planner::new(swarm, local, planner_config, now).map_err(CommandError::Plan)?),
        };
        let relay_config = RelayConfig {
            frame_bytes_max: config.frame_bytes_max,
            upload_bytes_per_s: options.upload_bytes_per_s,
            retained_bytes_max: options.retained_bytes_max,
            in_order: true,
            keyframe_interval: options.keyframe_request_interval,
        };
        let relay = Relay::source(local, swarm, relay_config, facts, options.redundancy_percent, now);
        let chat = options.chat.then(Vec::new);
        let mut stream = Self::new(local, swarm, epoch, local, config, chat, guard, seed, now);
        stream.tracker = options.tracker;
        stream.planner = planner.map(Box::new);
        stream.relay = Some(sealed(relay, seals));
        Ok(stream)
    }

    /// A viewer's end.
    #[allow(clippy::too_many_arguments, reason = "all that makes a livestream")]
    pub(crate) fn watch(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        config: &Arc<Config>,
        options: &WatchOptions<P>,
        mut guard: Guard<P>,
        seed: Seed,
        now: Instant,
    ) -> Result<Self, CommandError> {
        options.validate()?;
        let relay_config = RelayConfig {
            frame_bytes_max: config.frame_bytes_max,
            upload_bytes_per_s: options.upload_bytes_per_s.unwrap_or(0),
            retained_bytes_max: options.retained_bytes_max,
            in_order: options.order == DeliveryOrder::InOrder,
            keyframe_interval: Duration::from_secs(1),
        };
        let tracker = options.tracker.unwrap_or(options.source);
        let seals = guard.take_seals();
        let relay = Relay::viewer(local, swarm, options.source, tracker, relay_config, now);
        let chat = options.chat.then(|| alloc::vec![options.source]);
        let mut stream = Self::new(local, swarm, epoch, options.source, config, chat, guard, seed, now);
        stream.tracker = Some(tracker);
        stream.relay = Some(sealed(relay, seals));
        stream.role = options.role;
        stream.quality = options.quality;
        stream.layer = match options.quality {
            StreamQuality::Auto => LAYER_MAX,
            StreamQuality::UpTo(layer) => layer,
        };
        Ok(stream)
    }

    /// A tracker's end: it plans for `source` and carries no media.
    #[allow(clippy::too_many_arguments, reason = "all that makes a livestream")]
    pub(crate) fn track(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        config: &Arc<Config>,
        options: &BroadcastOptions<P>,
        source: P,
        seed: Seed,
        now: Instant,
    ) -> Result<Self, CommandError> {
        options.validate()?;
        let planned = planner_config(config, options, Epoch(0));
        let planner = Planner::new(swarm, source, planned.clone(), now).map_err(CommandError::Plan)?;
        let mut stream = Self::new(local, swarm, epoch, source, config, None, Guard::new(), seed, now);
        stream.planner = Some(Box::new(planner));
        stream.tracked = Some(Box::new(Tracked { config: planned, notice: StreamNotice::default() }));
        Ok(stream)
    }

    #[allow(clippy::too_many_arguments, reason = "all that makes a livestream")]
    fn new(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        source: P,
        config: &Arc<Config>,
        chat: Option<Vec<P>>,
        guard: Guard<P>,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let (chat, guard) = match chat {
            Some(contacts) => {
                let options = TopicOptions::through(contacts);
                let topic = Topic::new(local, swarm, epoch, config, &options, guard, seed, now);
                (Some(Box::new(topic.within_another())), Guard::new())
            }
            None => (None, guard),
        };
        Self {
            swarm,
            local,
            source,
            epoch,
            tracker: None,
            relay: None,
            planner: None,
            chat,
            guard,
            role: Role::Viewer,
            quality: StreamQuality::Auto,
            layer: LAYER_MAX,
            layer_changed: false,
            quality_changes: 0,
            told_tracker: now,
            tracked: None,
            relay_actions: Vec::new(),
            relay_rush: Rush::default(),
            planner_actions: Vec::new(),
            shared_upload: None,
        }
    }

    /// Begins: the chat joins, the viewer asks for a place.
    pub(crate) fn begin(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let contacts = if self.is_source() { Vec::new() } else { alloc::vec![self.source] };
        if let Some(chat) = &mut self.chat {
            chat.join(&contacts, now, actions);
        }
        self.tell_tracker(now);
        let wants = self.interest();
        let is_source = self.is_source();
        if let Some(relay) = &mut self.relay {
            if !is_source {
                relay.set_interest(wants, now, &mut self.relay_actions);
            }
            relay.handle_timeout(now, &mut self.relay_actions);
        }
        self.settle(now, actions);
    }

    pub(crate) fn chat(&self) -> Option<&Topic<P>> {
        self.chat.as_deref()
    }

    pub(crate) fn chat_mut(&mut self) -> Option<&mut Topic<P>> {
        self.chat.as_deref_mut()
    }

    pub(crate) fn is_source(&self) -> bool {
        self.local == self.source
    }

    /// Whether the source could do with that upload; anything will do elsewhere.
    pub(crate) fn check_source_upload(&self, upload_bytes_per_s: u64) -> Result<(), PlanError> {
        let facts = self.relay.as_ref().and_then(Relay::facts).filter(|_| self.is_source());
        facts.map_or(Ok(()), |facts| check_source_upload(facts, upload_bytes_per_s))
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch.max(self.chat.as_ref().map_or(self.epoch, |chat| chat.epoch()))
    }

    pub(crate) fn state(&self) -> StreamState {
        StreamState::from_wire(self.notice().state).unwrap_or_default()
    }

    fn notice(&self) -> StreamNotice {
        match (&self.relay, &self.tracked) {
            (Some(relay), _) => relay.notice(),
            (None, Some(tracked)) => tracked.notice,
            (None, None) => StreamNotice::default(),
        }
    }

    pub(crate) fn media_bytes_max(&self) -> usize {
        self.relay.as_ref().map_or(0, Relay::media_bytes_max)
    }

    pub(crate) fn may_publish(&self, state: StateId, now: Instant) -> Result<(), WriteRefusal> {
        match &self.chat {
            Some(chat) => chat.may_publish(self.local, state, now),
            None => self.guard.may_publish(self.local, state, now),
        }
    }

    pub(crate) fn set_state(&mut self, state: StreamState, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(relay) = &mut self.relay {
            relay.set_state(state as u8, now, &mut self.relay_actions);
        }
        if let Some(planner) = self.planner.as_mut().filter(|_| state == StreamState::Ended) {
            planner.end();
        }
        self.tell_tracker(now);
        self.settle(now, actions);
    }

    pub(crate) fn set_quality(
        &mut self,
        quality: StreamQuality,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        self.quality = quality;
        self.layer = match quality {
            StreamQuality::Auto => LAYER_MAX,
            StreamQuality::UpTo(layer) => layer,
        };
        if let Some(relay) = &mut self.relay {
            relay.restart_quality();
        }
        self.want(now, actions);
    }

    pub(crate) fn set_role(&mut self, role: Role, now: Instant, actions: &mut SwarmActions<P>) {
        self.role = role;
        self.want(now, actions);
    }

    pub(crate) fn set_upload(
        &mut self,
        upload_bytes_per_s: u64,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        if let Some(relay) = &mut self.relay {
            // It tells whoever plans.
            relay.set_upload(upload_bytes_per_s, now, &mut self.relay_actions);
        } else if let Some(planner) = &mut self.planner {
            planner.set_source_upload(upload_bytes_per_s, &mut self.planner_actions);
        }
        self.settle(now, actions);
    }

    pub(crate) fn want_keyframe(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(relay) = &mut self.relay {
            relay.want_keyframe(now, &mut self.relay_actions);
        }
        self.settle(now, actions);
    }

    /// Publishes a media frame; the caller has checked everything.
    pub(crate) fn publish(
        &mut self,
        state: StateId,
        payload: Bytes,
        options: PublishOptions,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) -> UpdateId<P> {
        let track = (state.0 & 63) as u8;
        let publish = Publish {
            track,
            keyframe: options.keyframe,
            captured: options.captured.unwrap_or(now).min(now),
            deadline: options.deadline,
            payload,
        };
        let relay = self.relay.as_mut();
        let number = relay.map_or(0, |relay| relay.publish(publish, now, &mut self.relay_actions));
        self.settle(now, actions);
        self.update_id(track, number)
    }

    pub(crate) fn handle_forest(
        &mut self,
        from: P,
        message: ForestMessage<P>,
        frame: Option<&Bytes>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        if let ForestMessage::Refused { needed_bytes_per_s } = message {
            if self.tracker == Some(from) {
                let event = Event::WatchRefused { swarm: self.swarm, needed_bytes_per_s };
                actions.push(SwarmAction::Event(event));
            }
        }
        if from == self.source && self.tracked.is_some() {
            self.hear_source(&message, now, actions);
        }
        let notice = self.notice();
        if let Some(planner) = &mut self.planner {
            let reminds = matches!(message, ForestMessage::Upload { .. });
            if reminds && from != self.source && !planner.contains(from) {
                // It was taken for dead, and lives: asked so, it comes again.
                send(from, ForestMessage::Check, Class::High, actions);
            }
            if !matches!(message, ForestMessage::Chunk(_)) {
                planner.handle_message(from, &message, notice, now, &mut self.planner_actions);
            }
        }
        if let Some(relay) = &mut self.relay {
            relay.handle_message(from, message, frame, now, &mut self.relay_actions);
        }
        self.settle(now, actions);
    }

    pub(crate) fn handle_membership(
        &mut self,
        from: P,
        message: MembershipMessage<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        if matches!(message, MembershipMessage::Bye { leaving: true }) {
            self.peer_lost(from, now, actions);
        }
        if let Some(chat) = &mut self.chat {
            chat.handle_membership(from, message, now, actions);
        }
    }

    pub(crate) fn peer_lost(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(relay) = &mut self.relay {
            let fed = relay.peer_lost(peer, now, &mut self.relay_actions);
            if let Some(planner) = self.planner.as_mut().filter(|_| fed) {
                planner.peer_lost(peer, now, &mut self.planner_actions);
            }
        }
        if let Some(chat) = &mut self.chat {
            chat.peer_lost(peer, now, actions);
        }
        self.settle(now, actions);
    }

    pub(crate) fn refuse_stranger(&mut self, from: P, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(chat) = &mut self.chat {
            chat.refuse_stranger(from, now, actions);
        }
    }

    pub(crate) fn set_rtt(&mut self, peer: P, rtt: Duration, deviation: Duration) {
        if let Some(relay) = &mut self.relay {
            relay.set_rtt(peer, rtt);
        }
        if let Some(chat) = &mut self.chat {
            chat.set_rtt(peer, rtt, deviation);
        }
    }

    pub(crate) fn note_loss(&mut self, now: Instant) {
        if let Some(chat) = &mut self.chat {
            chat.note_loss(now);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(chat) = self.chat.as_mut().filter(|chat| chat.poll_timeout().is_some_and(|at| at <= now))
        {
            chat.handle_timeout(now, actions);
        }
        if let Some(relay) =
            self.relay.as_mut().filter(|relay| relay.poll_timeout().is_some_and(|at| at <= now))
        {
            relay.handle_timeout(now, &mut self.relay_actions);
        }
        if let Some(planner) = &mut self.planner {
            planner.handle_timeout(now, &mut self.planner_actions);
        }
        if self.is_source() && now - self.told_tracker >= ANNOUNCE {
            self.tell_tracker(now);
        }
        self.settle(now, actions);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let chat = self.chat.as_ref().and_then(|chat| chat.poll_timeout());
        let relay = self.relay.as_ref().and_then(Relay::poll_timeout);
        let planner = self.planner.as_ref().and_then(|planner| planner.poll_timeout());
        let announce = self.tracker.filter(|_| self.is_source()).map(|_| self.told_tracker + ANNOUNCE);
        [chat, relay, planner, announce].into_iter().flatten().min()
    }

    pub(crate) fn leave(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(relay) = &mut self.relay {
            relay.leave(&mut self.relay_actions);
        }
        if let Some(chat) = &mut self.chat {
            chat.leave(now, actions);
        }
        self.settle(now, actions);
    }

    pub(crate) fn stats(&self, now: Instant) -> LivestreamStats {
        let mut stats = self.relay.as_ref().map_or_else(LivestreamStats::default, |relay| relay.stats(now));
        if let Some(planner) = &self.planner {
            planner.add_stats(&mut stats);
        }
        stats.quality_changes = self.quality_changes;
        stats
    }

    /// Whether this node passes the stream on.
    pub(crate) fn feeds_anybody(&self) -> bool {
        self.relay.as_ref().is_some_and(Relay::has_children)
    }

    pub(crate) fn relay(&self) -> Option<&Relay<P>> {
        self.relay.as_ref()
    }

    fn want(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let wants = self.interest();
        if let Some(relay) = self.relay.as_mut().filter(|_| self.local != self.source) {
            relay.set_interest(wants, now, &mut self.relay_actions);
        }
        self.settle(now, actions);
    }

    /// What the role and the quality come to.
    fn interest(&self) -> Interest {
        let all = |kind: TrackKind, layers: u8| -> u64 {
            let base = LivestreamTracks::default().layer(kind, 0).map_or(0, |state| state.0);
            (0..=u64::from(layers.min(LAYER_MAX))).fold(0, |mask, layer| mask | 1 << (base + layer))
        };
        let sound = all(TrackKind::Audio, LAYER_MAX) | all(TrackKind::Data, LAYER_MAX);
        match self.role {
            Role::Viewer => {
                let tracks = sound | all(TrackKind::Visual, self.layer);
                Interest { tracks, keyframes: tracks }
            }
            Role::Lurker => {
                let audio = all(TrackKind::Audio, LAYER_MAX);
                Interest { tracks: audio, keyframes: audio | all(TrackKind::Visual, 0) }
            }
        }
    }

    /// At the source: it can send so much, as its own planner or its tracker has to know.
    fn tell_planner(&mut self, bytes_per_s: u64, actions: &mut SwarmActions<P>) {
        if let Some(planner) = &mut self.planner {
            planner.set_source_upload(bytes_per_s, &mut self.planner_actions);
        } else if let Some(tracker) = self.tracker {
            send(tracker, ForestMessage::Upload { bytes_per_s }, Class::High, actions);
        }
    }

    fn update_id(&self, track: u8, number: u64) -> UpdateId<P> {
        let epoch = self.relay.as_ref().and_then(Relay::facts).map_or(self.epoch, |facts| facts.epoch);
        let sequence = media_sequence(track, number);
        UpdateId { swarm: self.swarm, origin: self.source, epoch, sequence }
    }

    /// Hands the actions of the machines up.
    fn settle(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let mut relayed = core::mem::take(&mut self.relay_actions);
        let count = relayed.len();
        for action in relayed.drain(..) {
            self.carry_up(action, now, actions);
        }
        self.relay_rush.passed(&mut relayed, count);
        self.relay_actions = relayed;
        let mut planned = core::mem::take(&mut self.planner_actions);
        for PlannerAction { to, message, class } in planned.drain(..) {
            send(to, message, class, actions);
        }
        self.planner_actions = planned;
        if core::mem::take(&mut self.layer_changed) {
            self.want(now, actions);
        }
    }

    fn carry_up(&mut self, action: RelayAction<P>, now: Instant, actions: &mut SwarmActions<P>) {
        let swarm = self.swarm;
        let event = match action {
            RelayAction::Send { to, message, class } => return send(to, message, class, actions),
            RelayAction::Pass { to, frame, class, deadline, key } => {
                let deadline = (deadline < Instant::MAX).then_some(deadline);
                // Other streams number their chunks alike.
                let key = key.map(|key| mix(key ^ swarm.0));
                return actions.push(SwarmAction::Pass { to, frame, class, deadline, key });
            }
            RelayAction::Hold(peer) => return actions.push(SwarmAction::Hold(peer)),
            RelayAction::Release(peer) => return actions.push(SwarmAction::Release(peer)),
            RelayAction::Upload { bytes_per_s } => return self.tell_planner(bytes_per_s, actions),
            RelayAction::Misbehaved(peer) => {
                return actions.push(SwarmAction::Misbehaved(peer, Offence::Nonsense));
            }
            RelayAction::Forged(peer) => {
                return actions.push(SwarmAction::Misbehaved(peer, Offence::BadSignature));
            }
            RelayAction::Deliver(frame) => {
                let state = StateId(frame.track.into());
                let may_write = match &self.chat {
                    Some(chat) => chat.may_publish(self.source, state, now),
                    None => self.guard.may_publish(self.source, state, now),
                };
                if may_write.is_err() {
                    return;
                }
                Event::Delivered(Update {
                    id: self.update_id(frame.track, frame.sequence),
                    state,
                    priority: if frame.keyframe { Priority::High } else { Priority::Normal },
                    keyframe: frame.keyframe,
                    layer: frame.track & 7,
                    hops: frame.hops,
                    born: frame.captured,
                    payload: frame.payload,
                })
            }
            RelayAction::Lagged { track, sequences } => {
                let first = self.update_id(track, sequences.start);
                Event::Lagged {
                    swarm,
                    origin: first.origin,
                    epoch: first.epoch,
                    sequences: first.sequence..media_sequence(track, sequences.end),
                    reason: LagReason::Late,
                }
            }
            RelayAction::Quality { layer } => {
                if self.quality != StreamQuality::Auto {
                    return;
                }
                self.layer = layer;
                self.layer_changed = true;
                self.quality_changes += 1;
                Event::QualityChanged { swarm, layer }
            }
            RelayAction::KeyframeWanted => Event::KeyframeWanted { swarm },
            RelayAction::Fed => Event::Joined { swarm },
            RelayAction::Unfed => Event::Isolated { swarm },
            RelayAction::State(notice) => {
                let Some(state) = StreamState::from_wire(notice.state) else { return };
                Event::StreamState { swarm, state }
            }
        };
        actions.push(SwarmAction::Event(event));
    }
}

fn sealed<P: WirePeer>(relay: Relay<P>, seals: Option<Seals<P>>) -> Relay<P> {
    match seals {
        Some(seals) => relay.sealed(seals),
        None => relay,
    }
}

/// The highest layer of a track.
const LAYER_MAX: u8 = 7;

fn send<P>(to: P, message: ForestMessage<P>, class: Class, actions: &mut SwarmActions<P>) {
    let message = Arc::new(Message::Forest(message));
    actions.push(SwarmAction::Send { to, message, class, deadline: None, key: None });
}

/// The place of a media frame among the sequences of its origin.
fn media_sequence(track: u8, number: u64) -> u64 {
    (u64::from(track) + 1) << TRACK_SEQUENCES | number
}
