//! The engine: routes inputs to swarms, and their actions to the egress. No protocol decisions are made here.

mod defence;
mod group;
mod joined;
mod links;
mod livestream;
mod media;
mod outgoing;
mod queries;
mod swarms;
mod wakes;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::authority::{AuthorityChange, AuthorityError, AuthoritySet};
use crate::bounded::{BoundedQueue, Rush};
use crate::config::Config;
use crate::error::{CommandError, ConfigError};
use crate::gossip::PublishOptions;
use crate::id::{Epoch, StateId, SwarmId, SwarmTag, UpdateId};
use crate::io::{Class, Event, Input, Offence, Output};
use crate::link::{LinkState, Links};
use crate::log::Retention;
use crate::membership::{LocalHealth, Reputation, points_for};
use crate::propagation::{Egress, Enqueued, Item, Transmit};
use crate::rng::Seed;
use crate::stats::EngineStats;
use crate::swarm::{Guard, Swarm, SwarmActions, Topic, TopicOptions};
use crate::time::Instant;
use crate::wire::{self, ForestMessage, FrameReader, GroupMessage, MembershipMessage, Message, WirePeer};

use joined::{Joined, Swarms};
use outgoing::{Outgoing, Packed};
use wakes::{Wake, Wakes};

/// One node: any number of swarms over one set of links, one egress, one deadline.
///
/// The crate's front page tells how to drive it, in ten sentences.
#[derive(Debug)]
pub struct Engine<P: WirePeer> {
    local: P,
    config: Arc<Config>,
    seed: Seed,
    now: Instant,
    links: Links<P>,
    swarms: Swarms<P>,
    /// Swarms joined so far: each gets randomness of its own.
    joins: u64,
    /// The least epoch for the next swarm that is joined: sequences begin again at 0, so a swarm that was left before must
    /// see a new life.
    epoch_min: Epoch,
    wakes: Wakes,
    egress: Egress<P, Outgoing<P>>,
    /// Connects and disconnects, in order, before any frame.
    connections: VecDeque<Change<P>>,
    events: BoundedQueue<Event<P>>,
    events_lost: u64,
    /// A publisher was refused for a full queue and waits for room for that many bytes.
    writer_waits: Option<usize>,
    actions: SwarmActions<P>,
    actions_rush: Rush,
    packing: Vec<Outgoing<P>>,
    packed: Option<Packed<P>>,
    reputation: Reputation<P>,
    /// Who has just been found to be refused.
    offenders: Vec<P>,
    /// Neighbours that have just offended, with the points for it.
    blamed: Vec<(P, u32)>,
    prefixes: BTreeMap<P, u64>,
    health: LocalHealth,
    stats: EngineStats,
}

/// What the host is to do with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change<P> {
    Connect(P),
    Disconnect(P),
}

/// The frame's version byte.
const FRAME_HEADER_BYTES: usize = 1;

/// A peer is told at most this often that a swarm is not joined here.
const DISOWN_INTERVAL: Duration = Duration::from_millis(500);

/// The points for a second in which a peer sends three times as much as it may, or more.
const GROSS_FLOOD_POINTS: u32 = 100;

/// The least time between two wake-ups. Machines ask for "at once" now and then; none may make a host spin.
const TICK: Duration = Duration::from_micros(1);

impl<P: WirePeer> Engine<P> {
    /// An engine for the peer `local`, without swarms or links.
    ///
    /// Many engines in one process may share one configuration: give each a clone of the `Arc`. `seed` is its only randomness: 32 bytes of entropy in production. `now` is the present in the host's own time.
    ///
    /// # Errors
    /// The first field of `config` outside its range.
    pub fn new(
        local: P,
        config: impl Into<Arc<Config>>,
        seed: Seed,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let config = config.into();
        config.validate()?;
        Ok(Self {
            local,
            seed,
            now,
            links: Links::new(),
            swarms: Swarms::new(),
            joins: 0,
            epoch_min: config.epoch,
            wakes: Wakes::default(),
            egress: Egress::new(config.egress.clone(), config.frame_bytes_max, FRAME_HEADER_BYTES, now),
            connections: VecDeque::new(),
            events: BoundedQueue::new(config.events_max),
            events_lost: 0,
            writer_waits: None,
            actions: Vec::new(),
            actions_rush: Rush::default(),
            packing: Vec::new(),
            packed: None,
            reputation: Reputation::new(),
            offenders: Vec::new(),
            blamed: Vec::new(),
            prefixes: BTreeMap::new(),
            health: LocalHealth::default(),
            stats: EngineStats::default(),
            config,
        })
    }

    /// Takes a fact from the host. It never fails: what a peer did wrong becomes an event and a counter.
    pub fn handle_input(&mut self, input: Input<P>, now: Instant) {
        let now = self.advance(now);
        match input {
            Input::PeerConnected { peer } => self.on_connected(peer, now),
            Input::PeerDisconnected { peer } => self.on_disconnected(peer, now),
            Input::Received { from, frame } => self.on_frame(from, &frame, now),
            Input::LinkQuality { peer, rtt, loss_ppm: _, bytes_per_s } => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.liveness.note_rtt(rtt);
                    self.egress.set_peer_rate(peer, bytes_per_s, now);
                    self.spread_rtt(peer);
                }
            }
            Input::PeerAddress { peer, prefix } => self.on_address(peer, prefix),
            Input::SendCredit { peer, bytes } => self.egress.credit(peer, bytes),
        }
        self.refuse_offenders(now);
    }

    /// Does what is due at `now`. Early, late and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        while let Some(wake) = self.wakes.pop_due(now) {
            match wake {
                Wake::Swarm(tag) => {
                    if let Some(joined) = self.swarms.get_mut(&tag) {
                        joined.wake = None;
                    }
                    let backlog = self.egress.queued_bytes();
                    let heard = self.heard_of_parents(tag, now);
                    self.with_swarm(tag, |swarm, now, actions| {
                        if let Some(stream) = swarm.livestream_mut() {
                            stream.note_backlog(backlog);
                            stream.note_heard(heard);
                        }
                        swarm.handle_timeout(now, actions);
                    });
                }
                Wake::Link(place) => {
                    if let Some(peer) = self.links.peer_at(place) {
                        self.on_link_timeout(peer, now);
                    }
                }
            }
        }
        self.refuse_offenders(now);
    }

    /// The next thing that the host must do, or `None` when it has done all.
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        if let Some(change) = self.connections.pop_front() {
            if self.connections.is_empty() {
                // Rare.
                self.connections = VecDeque::new();
            }
            return Some(match change {
                Change::Connect(peer) => Output::Connect { peer },
                Change::Disconnect(peer) => Output::Disconnect { peer },
            });
        }
        if let Some(output) = self.poll_frame() {
            return Some(output);
        }
        if self.writer_waits.is_some_and(|bytes| self.has_room_again(bytes)) {
            self.writer_waits = None;
            return Some(Output::Event(Event::Writable));
        }
        if self.events_lost > 0 {
            let count = core::mem::take(&mut self.events_lost);
            return Some(Output::Event(Event::EventsLost { count }));
        }
        self.events.pop().map(Output::Event)
    }

    /// When [`Self::handle_timeout`] must be called next. Ask again after every input and every drain; it costs nothing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.wakes.next(), self.egress.poll_timeout()) {
            (Some(deadline), Some(egress)) => Some(deadline.min(egress)),
            (deadline, egress) => deadline.or(egress),
        }
    }

    /// Joins a topic. [`Event::Joined`] tells when the first neighbour is there; publishing before is fine.
    ///
    /// # Errors
    /// A swarm with this id or tag is joined already, there are too many swarms or contacts, the engine was named as its
    /// own contact, or the retention cannot work.
    pub fn join_topic(
        &mut self,
        swarm: SwarmId,
        options: TopicOptions<P>,
        now: Instant,
    ) -> Result<(), CommandError> {
        self.join_guarded_topic(swarm, options, Guard::new(), now)
    }

    /// Joins a topic in which not everybody may write everything, or in which updates are signed. All members should
    /// have the same guard, but for their own signer.
    ///
    /// # Errors
    /// As [`Self::join_topic`].
    pub fn join_guarded_topic(
        &mut self,
        swarm: SwarmId,
        options: TopicOptions<P>,
        guard: Guard<P>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let tag = self.vacant(swarm)?;
        self.check_peers(&options.contacts)?;
        check_retention(options.retention)?;
        let now = self.advance(now);
        let seed = self.next_seed();
        let topic = Topic::new(self.local, swarm, self.epoch_min, &self.config, &options, guard, seed, now);
        self.add_swarm(tag, swarm, Swarm::Topic(Box::new(topic)), None);
        self.tell_prefixes(tag);
        self.with_topic(tag, |topic, now, actions| topic.join(&options.contacts, now, actions));
        Ok(())
    }

    /// Tells a swarm of members that the host knows from elsewhere: a tracker, a directory, another overlay.
    ///
    /// # Errors
    /// The swarm is not joined, the engine itself is among the peers, or they are too many.
    pub fn add_peers(&mut self, swarm: SwarmId, peers: &[P], now: Instant) -> Result<(), CommandError> {
        let tag = self.joined(swarm)?;
        self.check_peers(peers)?;
        self.advance(now);
        self.with_topic(tag, |topic, now, actions| topic.add_peers(peers, now, actions));
        Ok(())
    }

    /// Leaves a swarm, with a farewell to its neighbours. No event of this swarm comes after those that wait already.
    ///
    /// # Errors
    /// The swarm is not joined.
    pub fn leave(&mut self, swarm: SwarmId, now: Instant) -> Result<(), CommandError> {
        let tag = self.joined(swarm)?;
        self.advance(now);
        self.with_swarm(tag, |swarm, now, actions| swarm.leave(now, actions));
        self.forget_swarm(tag);
        Ok(())
    }

    /// Publishes an update to everybody in the swarm.
    ///
    /// # Errors
    /// The swarm is not joined, the payload or layer is too large, it must not be flooded, or too much waits to be sent.
    pub fn publish(
        &mut self,
        swarm: SwarmId,
        state: StateId,
        payload: Bytes,
        options: PublishOptions,
        now: Instant,
    ) -> Result<UpdateId<P>, CommandError> {
        let tag = self.joined(swarm)?;
        if self.swarms[&tag].swarm.group().is_some() {
            return Err(CommandError::IsGroup(swarm));
        }
        if self.is_media(tag, state) {
            return self.publish_media(swarm, state, payload, options, now);
        }
        let Some(topic) = self.swarms[&tag].swarm.topic() else { return Err(CommandError::NoChat(swarm)) };
        let max = topic.update_bytes_max();
        if payload.len() > max {
            return Err(CommandError::Oversize { bytes: payload.len(), max });
        }
        let is_large = topic.is_large(payload.len());
        if is_large && !topic.can_check_chunks() {
            return Err(CommandError::NoChunkHasher);
        }
        if options.layer > 7 {
            return Err(CommandError::Layer(options.layer));
        }
        if options.flood && !topic.may_flood(&options) {
            return Err(CommandError::Flood);
        }
        topic.may_publish(self.local, state, self.now.max(now)).map_err(CommandError::NotAuthorized)?;
        if !topic.can_sign() {
            return Err(CommandError::NoSigner);
        }
        let (queued, max) = (self.egress.queued_bytes(), self.queue_bytes_max());
        // Of a large update, no more waits at once than its neighbours have asked for.
        let waiting =
            if is_large { payload.len().min(self.config.egress.peer_queue_bytes_max) } else { payload.len() };
        if queued + waiting > max {
            self.writer_waits = Some(waiting);
            return Err(CommandError::QueueFull { queued, max });
        }
        self.advance(now);
        let local = self.local;
        let mut id = None;
        self.with_topic(tag, |topic, now, actions| {
            id = Some(topic.publish(local, state, payload, options, now, actions));
        });
        id.ok_or(CommandError::UnknownSwarm(swarm))
    }

    /// The rights in a topic that was joined with some.
    pub fn authority(&self, swarm: SwarmId) -> Option<&AuthoritySet<P>> {
        let joined = &self.swarms[&self.joined(swarm).ok()?];
        joined.swarm.topic()?.authority()
    }

    /// Changes the rights in a topic: grants, revocations, bans. What changed comes as
    /// [`Event::AuthorityChanged`]. Only this node is concerned; the host tells the others, by an update in the same swarm
    /// for example.
    ///
    /// # Errors
    /// The swarm is not joined or has no rights to change, or the set refused.
    pub fn change_authority(
        &mut self,
        swarm: SwarmId,
        change: impl FnOnce(&mut AuthoritySet<P>, &mut Vec<AuthorityChange<P>>) -> Result<(), AuthorityError>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let tag = self.joined(swarm)?;
        self.advance(now);
        let mut result = None;
        self.with_topic(tag, |topic, now, actions| result = topic.change_authority(change, now, actions));
        result.ok_or(CommandError::NoAuthority(swarm))?.map_err(CommandError::Authority)
    }

    /// The greatest payload that fits into one frame, whatever its sequence and state. Signed topics take
    /// [`Signature::BYTES_MAX`](crate::Signature::BYTES_MAX)` + 1` of it. In topics, larger ones up to
    /// [`GossipConfig::update_bytes_max`](crate::GossipConfig::update_bytes_max) travel in chunks.
    pub fn payload_bytes_max(&self) -> usize {
        let header = FRAME_HEADER_BYTES + P::WIRE_BYTES + wire::DATA_HEADER_BYTES_MAX_WITHOUT_PEER;
        self.config.frame_bytes_max.saturating_sub(header)
    }

    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// The tag of a swarm that can be joined.
    fn vacant(&self, swarm: SwarmId) -> Result<SwarmTag, CommandError> {
        let tag = swarm.tag();
        match self.swarms.get(&tag) {
            Some(joined) if joined.id == swarm => Err(CommandError::AlreadyJoined(swarm)),
            Some(_) => Err(CommandError::TagTaken(swarm)),
            None if self.joined_count() >= self.config.swarms_max => {
                Err(CommandError::TooManySwarms { max: self.config.swarms_max })
            }
            None => Ok(tag),
        }
    }

    /// Swarms that the application has joined.
    fn joined_count(&self) -> usize {
        self.swarms.values().filter(|joined| joined.owner.is_none()).count()
    }

    /// Each swarm gets randomness of its own.
    fn next_seed(&mut self) -> Seed {
        self.joins += 1;
        self.seed.fork(self.joins)
    }

    fn joined(&self, swarm: SwarmId) -> Result<SwarmTag, CommandError> {
        let tag = swarm.tag();
        match self.swarms.get(&tag) {
            Some(joined) if joined.id == swarm && joined.owner.is_none() => Ok(tag),
            _ => Err(CommandError::UnknownSwarm(swarm)),
        }
    }

    fn check_peers(&self, peers: &[P]) -> Result<(), CommandError> {
        let max = self.config.membership.passive_max;
        if peers.len() > max {
            return Err(CommandError::TooManyPeers { given: peers.len(), max });
        }
        if peers.contains(&self.local) { Err(CommandError::OwnName) } else { Ok(()) }
    }

    // --- in -------------------------------------------------------------------------------------------------------

    fn on_connected(&mut self, peer: P, now: Instant) {
        if peer == self.local || self.turns_away(peer, now) {
            return;
        }
        let Some(link) = self.links.get_mut(&peer) else {
            self.open_link(peer, LinkState::Up, now);
            return;
        };
        let answered = core::mem::take(&mut link.dialing);
        if matches!(link.state, LinkState::Closing { .. }) {
            self.reopen(peer, now);
        } else if !self.mark_up(peer, now) && !answered {
            // The peer began anew, so nothing of the old connection counts.
            self.drop_link(peer, now);
            self.open_link(peer, LinkState::Up, now);
        }
    }

    fn on_disconnected(&mut self, peer: P, now: Instant) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let failed_dial = core::mem::take(&mut link.dialing);
        // The peer's own connection came first and stands, though ours did not.
        if failed_dial && link.state == LinkState::Up {
            return;
        }
        self.drop_link(peer, now);
    }

    fn on_frame(&mut self, from: P, frame: &Bytes, now: Instant) {
        self.stats.frames_received += 1;
        self.stats.bytes_received += frame.len() as u64;
        if from == self.local {
            self.stats.frames_refused += 1;
            return;
        }
        match self.links.get(&from).map(|link| link.state) {
            None if self.reputation.is_refused(from, now) => {
                self.stats.refused_contacts += 1;
                return;
            }
            None if !self.open_link(from, LinkState::Up, now) => {
                self.stats.frames_refused += 1;
                return;
            }
            Some(LinkState::Connecting { .. }) => {
                self.mark_up(from, now);
            }
            _ => {}
        }
        let Some(link) = self.links.get_mut(&from) else { return };
        if !link.admit(frame.len(), &self.config.link, now) {
            self.stats.frames_over_budget += 1;
            let gross = link.is_gross(&self.config.link, now);
            if link.report_flood(now) {
                self.misbehaved(from, Offence::Flooding);
            }
            if gross {
                self.blame(from, GROSS_FLOOD_POINTS);
            }
            return;
        }
        link.liveness.heard(now);
        link.used = now;
        if frame.len() > self.config.frame_bytes_max {
            self.stats.frames_refused += 1;
            self.misbehaved(from, Offence::Oversize);
            return;
        }
        let mut reader = match FrameReader::new(frame, now) {
            Ok(reader) => reader,
            Err(error) => return self.malformed(from, error),
        };
        let mut is_first = true;
        while let Some(message) = reader.next::<P>() {
            let alone = core::mem::take(&mut is_first) && reader.is_done();
            match message {
                Ok((tag, message)) => self.on_message(from, tag, message, alone.then_some(frame), now),
                Err(error) => return self.malformed(from, error),
            }
        }
    }

    /// `frame` is the frame if there is nothing else in it.
    fn on_message(
        &mut self,
        from: P,
        tag: Option<SwarmTag>,
        message: Message<P>,
        frame: Option<&Bytes>,
        now: Instant,
    ) {
        self.stats.messages_received += 1;
        let Some(tag) = tag else {
            if let Message::Link(message) = message {
                self.on_link_message(from, message, now);
            }
            return;
        };
        let known = self.swarms.get(&tag).is_some_and(|joined| match &message {
            Message::Membership(
                MembershipMessage::Join { swarm, .. }
                | MembershipMessage::Offer { swarm, .. }
                | MembershipMessage::Neighbor { swarm, .. }
                | MembershipMessage::Measure { swarm },
            ) => *swarm == joined.id,
            Message::Forest(ForestMessage::Watch { swarm, .. }) => *swarm == joined.id,
            Message::Forest(ForestMessage::Plan(plan)) => plan.swarm == joined.id,
            Message::Forest(ForestMessage::Attach(attach)) => attach.swarm == joined.id,
            Message::Group(GroupMessage::Join { swarm, .. }) => *swarm == joined.id,
            Message::Group(GroupMessage::Welcome(welcome)) => welcome.swarm == joined.id,
            Message::Group(GroupMessage::Beat(beat)) => beat.swarm == joined.id,
            _ => true,
        });
        if !known {
            self.stats.unknown_swarm += 1;
            // A neighbour that does not know we left would wait for us for ever.
            let farewell = matches!(
                message,
                Message::Membership(MembershipMessage::Bye { .. }) | Message::Forest(ForestMessage::Leave)
            );
            if !farewell {
                self.say_bye(from, tag, now);
            }
            return;
        }
        match message {
            Message::Link(_) => {}
            Message::Membership(message) => {
                self.with_swarm(tag, |swarm, now, actions| {
                    swarm.handle_membership(from, message, now, actions)
                });
            }
            Message::Gossip(message) => {
                self.with_swarm(tag, |swarm, now, actions| {
                    swarm.handle_gossip(from, message, frame, now, actions)
                });
            }
            Message::Forest(message) => {
                let backlog = self.egress.queued_bytes();
                self.with_livestream(tag, |stream, now, actions| {
                    stream.note_backlog(backlog);
                    stream.handle_forest(from, message, frame, now, actions)
                });
            }
            Message::Group(message) => {
                self.with_group(tag, |group, now, actions| group.handle_group(from, message, now, actions));
            }
        }
    }

    /// Tells a peer that this engine is not in a swarm, not too often.
    fn say_bye(&mut self, to: P, tag: SwarmTag, now: Instant) {
        let Some(link) = self.links.get_mut(&to) else { return };
        if link.disowned.is_none_or(|at| now - at >= DISOWN_INTERVAL) {
            link.disowned = Some(now);
            let message = Message::Membership(MembershipMessage::Bye { leaving: true });
            self.send(to, tag, message, Class::Control, now);
        }
    }

    fn malformed(&mut self, from: P, error: wire::WireError) {
        self.stats.frames_malformed += 1;
        self.misbehaved(from, Offence::Malformed(error));
    }

    fn misbehaved(&mut self, peer: P, offence: Offence) {
        self.stats.offences += 1;
        diagnose!(warn, ?peer, ?offence, "a peer misbehaves");
        self.event(Event::Misbehaved { peer, offence });
        self.blame(peer, points_for(offence));
    }

    // --- out ------------------------------------------------------------------------------------------------------

    fn send(&mut self, to: P, tag: SwarmTag, message: Message<P>, class: Class, now: Instant) {
        self.enqueue(to, Outgoing::Message(tag, Arc::new(message)), class, None, None, now);
    }

    fn enqueue(
        &mut self,
        to: P,
        message: Outgoing<P>,
        class: Class,
        deadline: Option<Instant>,
        key: Option<u64>,
        now: Instant,
    ) {
        match self.links.get_mut(&to) {
            Some(link) if matches!(link.state, LinkState::Closing { .. }) => self.reopen(to, now),
            Some(link) => (link.used, link.sent) = (now, now),
            None if self.reputation.is_refused(to, now) => {
                self.stats.messages_dropped += 1;
                return;
            }
            None => {
                let state = LinkState::Connecting { deadline: now + self.config.link.connect_timeout };
                if to == self.local || !self.open_link(to, state, now) {
                    self.stats.messages_dropped += 1;
                    return;
                }
                self.connections.push_back(Change::Connect(to));
            }
        }
        let bytes = message.bytes_max() as u32;
        let item = Item { message, bytes, class, deadline, key };
        if let Enqueued::Dropped(_) = self.egress.enqueue(to, item, now) {
            self.stats.messages_dropped += 1;
        }
    }

    fn poll_frame(&mut self) -> Option<Output<P>> {
        loop {
            self.packing.clear();
            let Some(transmit) = self.egress.poll(self.now, &mut self.packing) else {
                self.packed = None;
                return None;
            };
            match transmit {
                Transmit::Closed { peer } => {
                    self.remove_link(&peer);
                    return Some(Output::Disconnect { peer });
                }
                Transmit::Frame { to, class, bytes } => {
                    let frame = outgoing::pack(&mut self.packing, bytes, self.now, &mut self.packed);
                    let Some(frame) = frame else { continue };
                    // Sizes are upper bounds; the host gives credit back for what the frame really has.
                    self.egress.credit(to, (bytes - frame.len().min(bytes)) as u64);
                    self.stats.frames_sent += 1;
                    self.stats.bytes_sent += frame.len() as u64;
                    return Some(Output::Send { to, frame, class });
                }
            }
        }
    }
}

fn check_retention(retention: Retention) -> Result<(), CommandError> {
    let (field, value) = match retention {
        Retention::Latest => return Ok(()),
        Retention::SinceKeyframe { bytes } => ("retention.bytes", bytes),
        Retention::Window { age, bytes } => {
            if age.is_zero() {
                return Err(CommandError::OutOfRange {
                    field: "retention.age",
                    value: 0,
                    min: 1,
                    max: u64::MAX,
                });
            }
            ("retention.bytes", bytes)
        }
    };
    if value == 0 {
        return Err(CommandError::OutOfRange { field, value: 0, min: 1, max: usize::MAX as u64 });
    }
    Ok(())
}
