//! A group: every participant writes its own entry of a roster that all agree on, and nobody coordinates.
//!
//! | file | what it decides |
//! |---|---|
//! | `mod.rs` | the way of a message and of a command; what the application is told |
//! | `admission.rs` | who is let in, who is put out |
//! | `roster.rs` | which of two entries counts |
//! | `spread.rs` | how entries reach everybody, and who is suspected |
//! | `floor.rs` | who shows the screen |
//! | `talk.rs` | the way of messages: to everybody by gossip, to some by hand |
//! | `order.rs`, `direct.rs` | once, and in order |
//! | `clock.rs` | what "earlier" means |
//! | `media/` | sound, pictures and the screen |
//!
//! Entries travel beside gossip, on the same links: they replace each other, many share a frame, and nobody needs the ones
//! that were replaced. Messages to everybody are updates of the topic.

mod admission;
mod clock;
mod direct;
mod floor;
mod media;
mod options;
mod order;
mod roster;
mod spread;
mod talk;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

pub use direct::DeliveryRoute;
pub(crate) use media::media_state;
pub use media::{GroupMedia, MediaFrameOptions, MediaOptions, MediaTopology, MediaTrack};
pub use options::{
    GroupMessageId, GroupOptions, GroupSendOptions, GroupTarget, JoinGroupOptions, Participant,
    ParticipantChange,
};

use super::{Guard, SwarmAction, SwarmActions, Topic, TopicOptions};
use crate::config::{Config, GroupConfig};
use crate::error::CommandError;
use crate::id::{Epoch, Priority, StateId, SwarmId};
use crate::io::{Class, Departure, Event, GroupEvent, Offence};
use crate::rng::{Rng, Seed};
use crate::stats::GroupStats;
use crate::time::Instant;
use crate::wire::{
    Data, GossipMessage, GroupMessage, Handover, MembershipMessage, Message, Profile, RosterEntry, Verdict,
    WirePeer, profile_bytes, verdict_bytes,
};
use admission::Admission;
use clock::GroupClock;
use direct::{Inbox, Outbox};
use media::Media;
use order::Order;
use roster::{LEFT, LOST, Merged, PRESENT, Roster, SURPLUS};
use spread::Spread;

/// One joined group.
#[derive(Debug)]
pub(crate) struct Group<P: WirePeer> {
    swarm: SwarmId,
    local: P,
    config: GroupConfig,
    frame_bytes_max: usize,
    topic: Topic<P>,
    clock: GroupClock,
    stage: Stage,
    admission: Admission<P>,
    metadata_bytes_max: usize,
    own: Own<P>,
    roster: Roster<P>,
    spread: Spread<P>,
    /// Who shows the screen, as the application was told.
    holder: Option<P>,
    /// Over whom this node was told to have won.
    beaten: Vec<P>,
    outbox: Outbox<P>,
    inbox: Inbox<P>,
    order: Order<P>,
    /// `None` in a group without media.
    media: Option<Media<P>>,
    /// The stamp of the newest own message to everybody.
    broadcast_us: u64,
    broadcasts: u64,
    rng: Rng,
    stats: GroupStats,
    topic_actions: SwarmActions<P>,
}

/// Where a node is in its life in the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Joining,
    In,
    Out,
}

/// What this node says of itself.
#[derive(Debug)]
struct Own<P> {
    incarnation: u32,
    version: u32,
    profile: Profile<P>,
}

/// The state of messages to everybody.
pub(crate) const TALK: StateId = StateId(0);

/// What entries and verdicts are signed as: never the states of updates.
const ROSTER: StateId = StateId(1);
const VERDICT: StateId = StateId(2);

impl<P: WirePeer> Group<P> {
    /// The first participant's end.
    #[allow(clippy::too_many_arguments, reason = "all that makes a group")]
    pub(crate) fn create(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        config: &Arc<Config>,
        options: &GroupOptions,
        guard: Guard<P>,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let topic = TopicOptions::first().retention(options.retention);
        let mut group = Self::new(local, swarm, epoch, config, topic, guard, seed, now);
        group.roster.participants_max = options.participants_max;
        group.metadata_bytes_max = options.metadata_bytes_max;
        group.with_media(options.media.as_ref(), config, now)
    }

    /// A later participant's end.
    #[allow(clippy::too_many_arguments, reason = "all that makes a group")]
    pub(crate) fn join(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        config: &Arc<Config>,
        options: &JoinGroupOptions<P>,
        guard: Guard<P>,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let topic = TopicOptions::through(options.contacts.iter().copied()).retention(options.retention);
        let mut group = Self::new(local, swarm, epoch, config, topic, guard, seed, now);
        group.admission.contacts = options.contacts.clone();
        group.with_media(options.media.as_ref(), config, now)
    }

    #[allow(clippy::too_many_arguments, reason = "all that makes a group")]
    fn new(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        config: &Arc<Config>,
        topic: TopicOptions<P>,
        guard: Guard<P>,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let topic =
            Topic::new(local, swarm, epoch, config, &topic, guard, seed.fork(1), now).within_another();
        let group = config.group.clone();
        let mut rng = Rng::new(seed.fork(2));
        let profile = Profile {
            joined_us: 0,
            switches: 0,
            claim_us: None,
            handover: None,
            taken_us: 0,
            metadata: Bytes::new(),
            media: None,
        };
        Self {
            swarm,
            local,
            frame_bytes_max: config.frame_bytes_max,
            topic,
            clock: GroupClock::new(now),
            stage: Stage::Joining,
            admission: Admission::new(now),
            metadata_bytes_max: 0,
            own: Own { incarnation: epoch.0, version: 0, profile },
            roster: Roster::new(group.records_max, group.verdicts_max),
            spread: Spread::new(&group, now, &mut rng),
            holder: None,
            beaten: Vec::new(),
            outbox: Outbox::new(),
            inbox: Inbox::new(),
            order: Order::new(group.order_waiting_max),
            media: None,
            broadcast_us: 0,
            broadcasts: 0,
            rng,
            stats: GroupStats::default(),
            topic_actions: Vec::new(),
            config: group,
        }
    }

    /// Begins, after it was made.
    pub(crate) fn begin(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let contacts = self.admission.contacts.clone();
        self.with_topic(now, actions, |topic, now, actions| topic.join(&contacts, now, actions));
        if contacts.is_empty() {
            self.enter(now, actions);
        }
        self.settle(now, actions);
    }

    // --- commands -------------------------------------------------------------------------------------------------

    pub(crate) fn check_in(&self) -> Result<(), CommandError> {
        if self.stage == Stage::In { Ok(()) } else { Err(CommandError::NotAdmitted(self.swarm)) }
    }

    pub(crate) fn check_participant(&self, peer: P) -> Result<(), CommandError> {
        let known = self.roster.is_in(peer) || self.roster.is_lost(peer);
        if known { Ok(()) } else { Err(CommandError::UnknownParticipant) }
    }

    pub(crate) fn metadata_bytes_max(&self) -> usize {
        self.metadata_bytes_max.min(options::metadata_bytes_max::<P>(self.frame_bytes_max))
    }

    pub(crate) fn screen_holder(&self) -> Option<P> {
        floor::holder(&self.roster)
    }

    pub(crate) fn participant(&self, peer: P) -> Option<Participant<P>> {
        let profile = self.roster.profile(peer)?;
        Some(options::participant(peer, profile, self.screen_holder()))
    }

    /// Everybody who is in, in the order of joining.
    pub(crate) fn participants(&self) -> Vec<Participant<P>> {
        let holder = self.screen_holder();
        let profiles = self.roster.present().filter_map(|peer| Some((peer, self.roster.profile(peer)?)));
        profiles.map(|(peer, profile)| options::participant(peer, profile, holder)).collect()
    }

    pub(crate) fn roster_fingerprint(&self) -> u64 {
        self.roster.fingerprint()
    }

    pub(crate) fn set_participant(
        &mut self,
        change: &ParticipantChange,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        let mut profile = self.own.profile.clone();
        if change.apply(&mut profile) {
            self.note_openings(&mut profile);
            self.write(profile, now);
        }
        self.settle(now, actions);
    }

    /// Claims the screen, which nobody is known to show.
    pub(crate) fn claim_screen(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let claim_us = self.clock.stamp(now);
        self.write(Profile { claim_us: Some(claim_us), ..self.own.profile.clone() }, now);
        self.settle(now, actions);
    }

    pub(crate) fn release_screen(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        self.write(Profile { claim_us: None, handover: None, ..self.own.profile.clone() }, now);
        self.settle(now, actions);
    }

    /// Hands the screen, which this node shows, to another.
    pub(crate) fn hand_over_screen(&mut self, to: P, now: Instant, actions: &mut SwarmActions<P>) {
        let Some(claim_us) = self.own.profile.claim_us else { return };
        let handover = Some(Handover { to, claim_us, at_us: self.clock.stamp(now) });
        self.write(Profile { claim_us: None, handover, ..self.own.profile.clone() }, now);
        self.settle(now, actions);
    }

    pub(crate) fn leave(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.stage == Stage::In {
            self.own.version = self.own.version.saturating_add(1);
            let (peer, incarnation, version) = (self.local, self.own.incarnation, self.own.version);
            let signature = Bytes::new();
            let entry = RosterEntry { peer, incarnation, version, status: LEFT, profile: None, signature };
            self.roster.merge(&entry, now);
            self.spread.note(self.local, None, now);
            self.flush(now, actions);
        }
        self.stage = Stage::Out;
        self.with_topic(now, actions, |topic, now, actions| topic.leave(now, actions));
    }

    // --- in -------------------------------------------------------------------------------------------------------

    pub(crate) fn handle_group(
        &mut self,
        from: P,
        message: GroupMessage<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        let asks_in = matches!(message, GroupMessage::Join { .. });
        if !asks_in && self.is_put_out(from) {
            self.stats.put_out_refused += 1;
            return;
        }
        match message {
            GroupMessage::Join { incarnation, .. } => self.on_join(from, incarnation, now, actions),
            GroupMessage::Welcome(welcome) => self.on_welcome(from, &welcome, now, actions),
            GroupMessage::Refused { reason } => self.on_refused(from, reason, now, actions),
            GroupMessage::Roster { entries, verdicts } => {
                self.on_roster(from, &entries, &verdicts, now, actions);
            }
            GroupMessage::Beat(beat) => self.on_beat(from, beat, now, actions),
            GroupMessage::Digest { parts } => self.on_digest(from, &parts, now, actions),
            GroupMessage::WantRoster { parts } => self.send_parts(from, parts, now, actions),
            GroupMessage::Directed(directed) => self.on_directed(from, directed, now, actions),
            GroupMessage::Ack(ack) => self.on_ack(from, ack, now, actions),
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
        // Whoever says so without having said goodbye has begun anew, and knows nothing of the group.
        let stranger = matches!(message, MembershipMessage::Bye { leaving: true });
        self.with_topic(now, actions, |topic, now, actions| {
            topic.handle_membership(from, message, now, actions);
        });
        if stranger {
            self.suspect(from, now);
        }
        self.settle(now, actions);
    }

    pub(crate) fn handle_gossip(
        &mut self,
        from: P,
        message: GossipMessage<P>,
        frame: Option<&Bytes>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        self.with_topic(now, actions, |topic, now, actions| {
            topic.handle_gossip(from, message, frame, now, actions);
        });
        self.settle(now, actions);
    }

    pub(crate) fn peer_lost(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        let was_neighbor = self.spread.is_neighbor(peer);
        self.with_topic(now, actions, |topic, now, actions| topic.peer_lost(peer, now, actions));
        if was_neighbor {
            self.suspect(peer, now);
        }
        self.settle(now, actions);
    }

    pub(crate) fn refuse_stranger(&mut self, from: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.with_topic(now, actions, |topic, now, actions| topic.refuse_stranger(from, now, actions));
    }

    pub(crate) fn set_rtt(&mut self, peer: P, rtt: Duration, deviation: Duration) {
        self.topic.set_rtt(peer, rtt, deviation);
        self.spread.set_rtt(peer, rtt);
    }

    /// A frame to or from a neighbour was lost.
    pub(crate) fn note_loss(&mut self, now: Instant) {
        self.topic.note_loss(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.topic.poll_timeout().is_some_and(|at| at <= now) {
            self.with_topic(now, actions, |topic, now, actions| topic.handle_timeout(now, actions));
        }
        match self.stage {
            Stage::Joining => self.ask_to_join(now, actions),
            Stage::In => {
                self.media_tick(now);
                self.tick(now, actions);
            }
            Stage::Out => {}
        }
        self.settle(now, actions);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.stage {
            Stage::Joining => [self.admission.ask_at(), None, None],
            Stage::In => [self.spread.poll_timeout(), self.outbox.poll_timeout(), self.media_timeout()],
            Stage::Out => [None, None, None],
        };
        [self.topic.poll_timeout(), own[0], own[1], own[2]].into_iter().flatten().min()
    }

    pub(crate) fn topic(&self) -> &Topic<P> {
        &self.topic
    }

    /// Lets the topic act, and takes from its actions what concerns the group.
    pub(crate) fn with_topic(
        &mut self,
        now: Instant,
        actions: &mut SwarmActions<P>,
        act: impl FnOnce(&mut Topic<P>, Instant, &mut SwarmActions<P>),
    ) {
        let mut done = core::mem::take(&mut self.topic_actions);
        act(&mut self.topic, now, &mut done);
        for action in done.drain(..) {
            match action {
                SwarmAction::Event(Event::Delivered(update)) => self.on_broadcast(update, actions),
                SwarmAction::Event(Event::Lagged { origin, epoch, sequences, reason, .. }) => {
                    self.on_broadcasts_lost(origin, epoch, sequences, reason, actions);
                }
                SwarmAction::Event(Event::NeighborUp { swarm, peer }) => {
                    self.neighbor_up(peer, now, actions);
                    actions.push(SwarmAction::Event(Event::NeighborUp { swarm, peer }));
                }
                SwarmAction::Event(Event::NeighborDown { swarm, peer }) => {
                    self.neighbor_down(peer, now);
                    actions.push(SwarmAction::Event(Event::NeighborDown { swarm, peer }));
                }
                other => actions.push(other),
            }
        }
        self.topic_actions = done;
    }

    pub(crate) fn stats(&self) -> GroupStats {
        GroupStats {
            participants: self.roster.len().min(self.roster.participants_max),
            records: self.roster.record_count(),
            messages_waiting: self.order.waiting(),
            streams: self.streams().count(),
            ..self.stats
        }
    }

    // --- own entry, events ----------------------------------------------------------------------------------------

    /// What this node says of itself, signed in a signed group.
    fn own_entry(&mut self) -> RosterEntry<P> {
        let own = &self.own;
        let data = signed_entry(self.local, own.incarnation, own.version, &own.profile, &Bytes::new());
        let signature = self.topic.seal(&data);
        RosterEntry {
            peer: self.local,
            incarnation: self.own.incarnation,
            version: self.own.version,
            status: PRESENT,
            profile: Some(self.own.profile.clone()),
            signature,
        }
    }

    /// Says something else of this node.
    fn write(&mut self, profile: Profile<P>, now: Instant) {
        self.own.profile = profile;
        self.own.version = self.own.version.saturating_add(1);
        let entry = self.own_entry();
        self.roster.merge(&entry, now);
        self.spread.note(self.local, None, now);
    }

    /// Draws the conclusions from a changed roster, until nothing changes any more, and sends what is due.
    fn settle(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.stage == Stage::In {
            self.review_floor(now, actions);
            self.spread.watch_surplus(self.roster.len() > self.roster.participants_max, now);
            self.review_media(now, actions);
            self.send_due(now, actions);
        }
    }

    fn review_floor(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let change = floor::review(&self.roster, self.local, &self.own.profile);
        if change.lost || change.takes.is_some() || change.handed {
            let mut profile = self.own.profile.clone();
            if change.handed {
                profile.handover = None;
            }
            if let Some((claim_us, at_us)) = change.takes {
                profile.claim_us = Some(profile.claim_us.map_or(claim_us, |own| own.min(claim_us)));
                profile.taken_us = at_us;
            }
            if change.lost {
                profile.claim_us = None;
                if let Some(to) = floor::holder(&self.roster) {
                    self.tell(GroupEvent::ScreenLost { to }, actions);
                }
            }
            self.write(profile, now);
        }
        let holder = floor::holder(&self.roster);
        if holder == Some(self.local) {
            let rivals: Vec<_> = floor::rivals(&self.roster, self.local).collect();
            for &over in rivals.iter().filter(|rival| !self.beaten.contains(rival)) {
                actions.push(event(self.swarm, GroupEvent::ScreenWon { over }));
            }
            self.beaten = rivals;
        } else {
            self.beaten.clear();
        }
        if holder != self.holder {
            self.holder = holder;
            self.tell(GroupEvent::ScreenChanged { holder }, actions);
        }
    }

    /// Tells the application what an entry has changed.
    fn tell_merged(&mut self, peer: P, merged: Merged, now: Instant, actions: &mut SwarmActions<P>) {
        match merged {
            Merged::Joined => self.tell_joined(peer, now, actions),
            Merged::Rejoined => {
                self.tell(GroupEvent::ParticipantLeft { peer, reason: Departure::Rejoined }, actions);
                self.tell_joined(peer, now, actions);
            }
            Merged::Changed => {
                if let Some(participant) = self.participant(peer) {
                    self.tell(GroupEvent::ParticipantChanged { participant }, actions);
                }
            }
            Merged::Gone { status } => {
                let reason = match status {
                    LOST => Departure::Lost,
                    SURPLUS => Departure::Surplus,
                    _ if self.is_thrown_out(peer) => Departure::ThrownOut,
                    _ => Departure::Left,
                };
                self.unpin_gone(peer);
                self.tell(GroupEvent::ParticipantLeft { peer, reason }, actions);
            }
            Merged::Noted | Merged::Known | Merged::Older | Merged::Full => {}
        }
    }

    fn tell_joined(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(participant) = self.participant(peer) {
            self.tell(GroupEvent::ParticipantJoined { participant }, actions);
        }
        self.outbox.returned(peer, now);
        self.deliver_broadcasts(peer, actions);
    }

    fn is_thrown_out(&self, peer: P) -> bool {
        let record = self.roster.record(peer);
        record.is_some_and(|record| self.roster.is_out(peer, record.incarnation))
    }

    fn tell(&self, news: GroupEvent<P>, actions: &mut SwarmActions<P>) {
        actions.push(event(self.swarm, news));
    }

    fn send(&self, to: P, message: GroupMessage<P>, class: Class, actions: &mut SwarmActions<P>) {
        let message = Arc::new(Message::Group(message));
        actions.push(SwarmAction::Send { to, message, class, deadline: None, key: None });
    }

    fn misbehaved(&self, peer: P, actions: &mut SwarmActions<P>) {
        actions.push(SwarmAction::Misbehaved(peer, Offence::Nonsense));
    }
}

/// An entry in the form in which it is signed: as an update of its participant.
fn signed_entry<P: WirePeer>(
    peer: P,
    incarnation: u32,
    version: u32,
    profile: &Profile<P>,
    signature: &Bytes,
) -> Data<P> {
    signed(peer, Epoch(incarnation), version.into(), ROSTER, profile_bytes(profile), signature)
}

/// A verdict in the form in which it is signed: as an update of its moderator.
fn signed_verdict<P: WirePeer>(verdict: &Verdict<P>) -> Data<P> {
    let body = verdict_bytes(verdict);
    signed(verdict.by, Epoch(0), verdict.at_us, VERDICT, body, &verdict.signature)
}

fn signed<P>(
    origin: P,
    epoch: Epoch,
    sequence: u64,
    state: StateId,
    body: Bytes,
    signature: &Bytes,
) -> Data<P> {
    Data {
        origin,
        epoch,
        sequence,
        state,
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 0,
        pulled: false,
        flood: false,
        born: Instant::ZERO,
        body,
        signature: signature.clone(),
    }
}

fn event<P>(swarm: SwarmId, event: GroupEvent<P>) -> SwarmAction<P> {
    SwarmAction::Event(Event::Group { swarm, event })
}
