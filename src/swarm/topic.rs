//! A topic: many writers, gossip among neighbours that membership finds.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::guard::Verdict;
use super::timed::Timed;
use super::{Guard, SwarmAction, SwarmActions};
use crate::authority::{AuthorityChange, AuthorityError, AuthoritySet, SignedBody, WriteRefusal};
use crate::bounded::Rush;
use crate::config::{Config, GossipMode};
use crate::gossip::{Gossip, GossipAction, PublishOptions, manifest_body_bytes};
use crate::id::{Epoch, StateId, SwarmId, UpdateId};
use crate::io::{Class, Event, Offence, Update};
use crate::log::Retention;
use crate::membership::{ViewAction, Views};
use crate::rng::Seed;
use crate::stats::{GuardStats, TopicStats};
use crate::time::Instant;
use crate::wire::{Data, GossipMessage, MembershipMessage, Message, SourceRanges, WirePeer};

/// How a topic is joined.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TopicOptions<P> {
    /// Members to join through; the first member of a topic has none. At most `MembershipConfig::passive_max`.
    pub contacts: Vec<P>,
    /// What is kept for late joiners and repair. All members should keep the same.
    pub retention: Retention,
    /// How bodies travel, if not as [`GossipConfig::mode`](crate::GossipConfig::mode) says.
    pub mode: Option<GossipMode>,
    /// Whether urgent updates may ask to go over every link, if not as
    /// [`GossipConfig::flood_on_request`](crate::GossipConfig::flood_on_request) says.
    pub flood_on_request: Option<bool>,
}

impl<P> TopicOptions<P> {
    /// Joins through `contacts`.
    pub fn through(contacts: impl IntoIterator<Item = P>) -> Self {
        Self { contacts: contacts.into_iter().collect(), ..Self::first() }
    }

    /// The first member: nobody to join through.
    pub fn first() -> Self {
        Self { contacts: Vec::new(), retention: Retention::default(), mode: None, flood_on_request: None }
    }

    /// The same, keeping what `retention` says.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The same, with its own mode.
    #[must_use]
    pub fn mode(mut self, mode: GossipMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The same, with or without leave for urgent updates to go over every link.
    #[must_use]
    pub fn flood_on_request(mut self, allowed: bool) -> Self {
        self.flood_on_request = Some(allowed);
        self
    }
}

/// One joined topic: views for who, gossip for what.
#[derive(Debug)]
pub(crate) struct Topic<P: WirePeer> {
    swarm: SwarmId,
    views: Timed<Views<P>>,
    gossip: Timed<Gossip<P>>,
    guard: Guard<P>,
    guard_stats: GuardStats,
    authority_changes: Vec<AuthorityChange<P>>,
    neighbors: usize,
    /// Part of a livestream or a group, which tells itself who has joined.
    is_part: bool,
    view_actions: Vec<ViewAction<P>>,
    gossip_actions: Vec<GossipAction<P>>,
    view_rush: Rush,
    gossip_rush: Rush,
}

impl<P: WirePeer> Topic<P> {
    #[allow(clippy::too_many_arguments, reason = "all that makes a topic")]
    pub(crate) fn new(
        local: P,
        swarm: SwarmId,
        epoch: Epoch,
        config: &Arc<Config>,
        options: &TopicOptions<P>,
        guard: Guard<P>,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let mut gossip = Arc::clone(config);
        if let Some(mode) = options.mode.filter(|&mode| mode != gossip.gossip.mode) {
            Arc::make_mut(&mut gossip).gossip.mode = mode;
        }
        if let Some(allowed) =
            options.flood_on_request.filter(|&allowed| allowed != gossip.gossip.flood_on_request)
        {
            Arc::make_mut(&mut gossip).gossip.flood_on_request = allowed;
        }
        let (gossip, retention, frame_bytes_max) = (gossip.into(), options.retention, config.frame_bytes_max);
        let mut gossip = Gossip::with_shared(local, epoch, gossip, retention, frame_bytes_max, seed.fork(2));
        if guard.is_signed() {
            gossip.sign_chunks(guard.hasher());
        }
        Self {
            swarm,
            views: Timed::new(Views::with_shared(
                local,
                swarm,
                Arc::clone(config).into(),
                frame_bytes_max,
                seed.fork(1),
                now,
            )),
            gossip: Timed::new(gossip),
            guard,
            guard_stats: GuardStats::default(),
            authority_changes: Vec::new(),
            neighbors: 0,
            is_part: false,
            view_actions: Vec::new(),
            gossip_actions: Vec::new(),
            view_rush: Rush::default(),
            gossip_rush: Rush::default(),
        }
    }

    /// The same, as a part of a livestream or a group: it says nothing of having joined.
    pub(crate) fn within_another(mut self) -> Self {
        self.is_part = true;
        self
    }

    pub(crate) fn join(&mut self, contacts: &[P], now: Instant, actions: &mut SwarmActions<P>) {
        self.views.join(contacts, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    pub(crate) fn add_peers(&mut self, peers: &[P], now: Instant, actions: &mut SwarmActions<P>) {
        self.views.add_peers(peers, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    /// Looks whether a peer that was lost can be a neighbour again.
    pub(crate) fn reach(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.views.reach(peer, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    pub(crate) fn leave(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        self.views.leave(&mut self.view_actions);
        self.settle(now, actions);
    }

    pub(crate) fn publish(
        &mut self,
        origin: P,
        state: StateId,
        payload: Bytes,
        options: PublishOptions,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) -> UpdateId<P> {
        let (guard, swarm) = (&mut self.guard, self.swarm);
        let sequence = if self.gossip.is_large(payload.len(), guard.seal_bytes_max()) {
            let seal = |data: &Data<P>, body: SignedBody<'_>| guard.seal_as(swarm, data, body);
            self.gossip.publish_large(state, payload, options, seal, now, &mut self.gossip_actions)
        } else {
            let seal = |data: &Data<P>| guard.seal(swarm, data);
            self.gossip.publish_sealed(state, payload, options, seal, now, &mut self.gossip_actions)
        };
        let id = UpdateId { swarm: self.swarm, origin, epoch: self.gossip.epoch(), sequence };
        self.settle(now, actions);
        id
    }

    pub(crate) fn handle_membership(
        &mut self,
        from: P,
        message: MembershipMessage<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        self.keep_tree(now);
        if message == (MembershipMessage::Bye { leaving: true }) {
            self.gossip.note_gone(from, now, &mut self.gossip_actions);
        }
        self.views.handle_message(from, message, now, &mut self.view_actions);
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
        if !self.gossip.is_neighbor(from) {
            self.views.refuse_stranger(from, now, &mut self.view_actions);
        }
        if carries_updates(&message) {
            self.views.calmly().note_use(from, now);
        }
        if self.gossip.admit(from, &message, now, &mut self.gossip_actions)
            && self.admits(from, &message, now, actions)
        {
            self.gossip.handle_admitted(from, message, frame, now, &mut self.gossip_actions);
        }
        self.settle(now, actions);
    }

    /// Whether a message may reach the gossip machine: new updates must be authorised and, in a signed topic, signed.
    fn admits(
        &mut self,
        from: P,
        message: &GossipMessage<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) -> bool {
        let (data, body) = match message {
            GossipMessage::Data(data) => (data, SignedBody::Whole(&data.body)),
            GossipMessage::Manifest(data) => {
                // Its own length is not that of the body, which it says itself.
                let Some(body_bytes) = manifest_body_bytes(&data.body) else { return true };
                (data, SignedBody::Digest { body_bytes, digest: &data.body })
            }
            _ => return true,
        };
        if self.gossip.log().knows(data.origin, data.epoch, data.sequence) {
            return true;
        }
        match self.guard.judge(from, self.swarm, data, body, now) {
            Verdict::Pass => true,
            Verdict::Refuse(offence) => {
                self.guard_stats.unauthorized += 1;
                self.gossip.refuse(data, now);
                actions.push(SwarmAction::Misbehaved(from, offence));
                false
            }
            Verdict::Forged(offence) => {
                self.guard_stats.forged += 1;
                actions.push(SwarmAction::Misbehaved(from, offence));
                false
            }
            Verdict::Postpone => {
                self.guard_stats.postponed += 1;
                false
            }
        }
    }

    pub(crate) fn authority(&self) -> Option<&AuthoritySet<P>> {
        self.guard.set()
    }

    /// Lets the host change the rights; `None` if the topic has none.
    pub(crate) fn change_authority(
        &mut self,
        change: impl FnOnce(&mut AuthoritySet<P>, &mut Vec<AuthorityChange<P>>) -> Result<(), AuthorityError>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) -> Option<Result<(), AuthorityError>> {
        let set = self.guard.set_mut()?;
        let result = change(set, &mut self.authority_changes);
        self.settle(now, actions);
        Some(result)
    }

    pub(crate) fn may_publish(&self, local: P, state: StateId, now: Instant) -> Result<(), WriteRefusal> {
        self.guard.may_publish(local, state, now)
    }

    /// Whether an update with these options may ask to go over every link.
    pub(crate) fn may_flood(&self, options: &PublishOptions) -> bool {
        self.gossip.may_flood(options)
    }

    /// The greatest update that can be published.
    pub(crate) fn update_bytes_max(&self) -> usize {
        self.gossip.update_bytes_max()
    }

    /// Whether an update of this length travels in chunks.
    pub(crate) fn is_large(&self, bytes: usize) -> bool {
        self.gossip.is_large(bytes, self.guard.seal_bytes_max())
    }

    /// Whether large updates can be published.
    pub(crate) fn can_check_chunks(&self) -> bool {
        self.gossip.can_check_chunks()
    }

    pub(crate) fn can_sign(&self) -> bool {
        self.guard.can_sign()
    }

    /// The guard of a stream that belongs to the topic.
    pub(crate) fn media_guard(&self) -> Guard<P> {
        self.guard.of_media()
    }

    pub(crate) fn seal_bytes_max(&self) -> usize {
        self.guard.seal_bytes_max()
    }

    /// Whether updates, and whatever else is said in the name of somebody, must be signed.
    pub(crate) fn is_signed(&self) -> bool {
        self.guard.is_signed()
    }

    /// The signature of something that this node says beside gossip; nothing in a topic that is not signed.
    pub(crate) fn seal(&mut self, data: &Data<P>) -> Bytes {
        self.guard.seal(self.swarm, data)
    }

    /// Judges the signature of something that was said beside gossip.
    pub(crate) fn verify(&mut self, from: P, data: &Data<P>, now: Instant) -> Verdict {
        let verdict = self.guard.verify(from, self.swarm, data, now);
        match verdict {
            Verdict::Forged(_) => self.guard_stats.forged += 1,
            Verdict::Postpone => self.guard_stats.postponed += 1,
            Verdict::Pass | Verdict::Refuse(_) => {}
        }
        verdict
    }

    /// A peer that is no neighbour behaves as if it were.
    pub(crate) fn refuse_stranger(&mut self, from: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.views.refuse_stranger(from, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    pub(crate) fn peer_lost(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        if self.views.is_neighbor(peer) {
            self.gossip.note_gone(peer, now, &mut self.gossip_actions);
        }
        self.views.peer_lost(peer, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    pub(crate) fn set_rtt(&mut self, peer: P, rtt: Duration, deviation: Duration) {
        self.views.set_rtt(peer, rtt);
        self.gossip.set_rtt(peer, rtt, deviation);
    }

    /// A peer has offended.
    pub(crate) fn blame(&mut self, peer: P, points: u32, now: Instant, actions: &mut SwarmActions<P>) {
        self.gossip.blame(peer, points, now, &mut self.gossip_actions);
        self.settle(now, actions);
    }

    /// The addresses of peers share a prefix if they have the same key.
    pub(crate) fn set_prefix(&mut self, peer: P, prefix: u64, now: Instant, actions: &mut SwarmActions<P>) {
        self.views.set_prefix(peer, prefix, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    /// A neighbour does not answer.
    pub(crate) fn doubt(&mut self, peer: P, is_hearsay: bool, now: Instant, actions: &mut SwarmActions<P>) {
        self.views.doubt(peer, is_hearsay, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    /// A peer has pinged this node.
    pub(crate) fn pinged(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.views.pinged(peer, now, &mut self.view_actions);
        self.settle(now, actions);
    }

    /// A neighbour has answered a ping.
    pub(crate) fn answered(&mut self, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        self.views.answered(peer, &mut self.view_actions);
        self.settle(now, actions);
    }

    pub(crate) fn note_loss(&mut self, now: Instant) {
        self.gossip.note_loss(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.views.deadline(Views::poll_timeout).is_some_and(|at| at <= now) {
            self.keep_tree(now);
            self.views.handle_timeout(now, &mut self.view_actions);
        }
        if self.gossip.deadline(Gossip::poll_timeout).is_some_and(|at| at <= now) {
            self.gossip.handle_timeout(now, &mut self.gossip_actions);
        }
        if self.guard.poll_timeout().is_some_and(|at| at <= now) {
            self.guard.handle_timeout(now, &mut self.authority_changes);
        }
        self.settle(now, actions);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let (views, gossip) =
            (self.views.deadline(Views::poll_timeout), self.gossip.deadline(Gossip::poll_timeout));
        Instant::earliest([views, gossip, self.guard.poll_timeout()])
    }

    pub(crate) fn neighbors(&self) -> impl Iterator<Item = P> + '_ {
        self.views.neighbors()
    }

    /// Neighbours that are not trusted to push updates to this node.
    pub(crate) fn distrusted(&self) -> impl Iterator<Item = P> + '_ {
        self.gossip.distrusted()
    }

    pub(crate) fn stats(&self) -> TopicStats {
        let (bodies, body_bytes) = self.gossip.log().kept();
        let (assembling, assembling_bytes) = self.gossip.assembling();
        TopicStats {
            gossip: *self.gossip.stats(),
            views: *self.views.stats(),
            guard: self.guard_stats,
            neighbors: self.neighbors,
            passive: self.views.passive().count(),
            members_estimated: self.gossip.members_estimated(),
            sources: self.gossip.log().len(),
            bodies,
            body_bytes,
            assembling,
            assembling_bytes,
        }
    }

    /// The life in which this node publishes.
    pub(crate) fn epoch(&self) -> Epoch {
        self.gossip.epoch()
    }

    pub(crate) fn known(&self) -> Vec<SourceRanges<P>> {
        let sources = self.gossip.log().interval(None, None);
        sources
            .map(|(origin, epoch, window)| SourceRanges { origin, epoch, ranges: window.known() })
            .collect()
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.gossip.log().fingerprint()
    }

    /// Links that the shared tree uses are not to be swapped: it would be broken when the next update comes.
    fn keep_tree(&mut self, now: Instant) {
        for peer in self.gossip.tree_neighbors() {
            self.views.calmly().note_use(peer, now);
        }
    }

    /// Hands the actions of the machines up, and news of neighbours across.
    fn settle(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.gossip.is_changed() {
            for update in self.gossip.take_unsaid() {
                let (guard, swarm) = (&mut self.guard, self.swarm);
                let seal_bytes = guard.seal_bytes_max();
                let seal = |data: &Data<P>, body: SignedBody<'_>| guard.seal_as(swarm, data, body);
                self.gossip.publish_again(update, seal, seal_bytes, now, &mut self.gossip_actions);
            }
            if self.gossip.take_shrunk() {
                self.views.note_shrunk(now);
            }
        }
        for change in self.authority_changes.drain(..) {
            let event = Event::AuthorityChanged { swarm: self.swarm, change };
            actions.push(SwarmAction::Event(event));
        }
        for action in &self.gossip_actions {
            if let GossipAction::Part { peer } = *action {
                self.views.part_from(peer, now, &mut self.view_actions);
            }
        }
        let count = self.view_actions.len();
        for action in self.view_actions.drain(..) {
            match action {
                ViewAction::Send { to, message } => actions.push(SwarmAction::Send {
                    to,
                    message: Arc::new(Message::Membership(message)),
                    class: Class::Control,
                    deadline: None,
                    key: None,
                }),
                ViewAction::NeighborUp(peer) => {
                    self.gossip.neighbor_up(peer, now);
                    self.neighbors += 1;
                    actions.push(SwarmAction::Hold(peer));
                    if self.neighbors == 1 && !self.is_part {
                        actions.push(SwarmAction::Event(Event::Joined { swarm: self.swarm }));
                    }
                    actions.push(SwarmAction::Event(Event::NeighborUp { swarm: self.swarm, peer }));
                }
                ViewAction::NeighborDown(peer) => {
                    self.gossip.neighbor_down(peer, now, &mut self.gossip_actions);
                    actions.push(SwarmAction::Release(peer));
                    actions.push(SwarmAction::Event(Event::NeighborDown { swarm: self.swarm, peer }));
                    self.neighbors -= 1;
                    if self.neighbors == 0 && !self.is_part {
                        actions.push(SwarmAction::Event(Event::Isolated { swarm: self.swarm }));
                    }
                }
                ViewAction::Beat { peer, next } => actions.push(SwarmAction::Beat(peer, next)),
                ViewAction::Hurry(peer) => actions.push(SwarmAction::Hurry(peer)),
                ViewAction::Vouched(peer) => actions.push(SwarmAction::Vouched(peer)),
                ViewAction::Misbehaved { peer } => {
                    actions.push(SwarmAction::Misbehaved(peer, Offence::Nonsense));
                }
            }
        }
        self.view_rush.passed(&mut self.view_actions, count);
        if self.gossip.is_changed() {
            self.settle_gossip(now, actions);
        }
        self.views.note_deadline(Views::poll_timeout);
        self.gossip.note_deadline(Gossip::poll_timeout);
    }

    fn settle_gossip(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let count = self.gossip_actions.len();
        let mut last = None;
        for action in self.gossip_actions.drain(..) {
            actions.push(match action {
                GossipAction::Send { to, message, class, key } => {
                    if carries_updates(&message) {
                        self.views.calmly().note_use(to, now);
                    }
                    let message = shared(&mut last, Message::Gossip(message));
                    SwarmAction::Send { to, message, class, deadline: None, key }
                }
                GossipAction::Forward { to, frame, class } => {
                    self.views.calmly().note_use(to, now);
                    SwarmAction::Pass { to, frame, class, deadline: None, key: None }
                }
                GossipAction::Misbehaved { peer, offence } => SwarmAction::Misbehaved(peer, offence),
                GossipAction::Part { .. } => continue,
                GossipAction::Deliver(data) => SwarmAction::Event(Event::Delivered(update(self.swarm, data))),
                GossipAction::Lagged { origin, epoch, sequences, reason } => {
                    SwarmAction::Event(Event::Lagged { swarm: self.swarm, origin, epoch, sequences, reason })
                }
            });
        }
        self.gossip_rush.passed(&mut self.gossip_actions, count);
        if self.gossip.take_silence() {
            actions.push(SwarmAction::SuspectNeighbors);
        }
    }
}

/// What is sent to several neighbours in a row is one message for all, so that it is put into a frame only once.
fn shared<P: WirePeer>(last: &mut Option<Arc<Message<P>>>, message: Message<P>) -> Arc<Message<P>> {
    match last {
        Some(last) if **last == message => Arc::clone(last),
        _ => Arc::clone(last.insert(Arc::new(message))),
    }
}

/// Whether a link is used for more than news, or is about to be.
fn carries_updates<P>(message: &GossipMessage<P>) -> bool {
    use GossipMessage::{Chunk, Data, Manifest, Want};
    matches!(message, Data(_) | Manifest(_) | Chunk(_) | Want { graft: true, .. })
}

fn update<P>(swarm: SwarmId, data: Data<P>) -> Update<P> {
    Update {
        id: UpdateId { swarm, origin: data.origin, epoch: data.epoch, sequence: data.sequence },
        state: data.state,
        priority: data.priority,
        keyframe: data.keyframe,
        layer: data.layer,
        hops: data.hops,
        born: data.born,
        payload: data.body,
    }
}
