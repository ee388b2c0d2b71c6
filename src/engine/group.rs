//! The commands of groups.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Engine, check_retention};
use crate::error::CommandError;
use crate::id::{SwarmId, SwarmTag};
use crate::stats::GroupStats;
use crate::swarm::{
    Group, GroupMessageId, GroupOptions, GroupSendOptions, GroupTarget, Guard, JoinGroupOptions,
    MediaOptions, Participant, ParticipantChange, Swarm, SwarmActions,
};
use crate::time::Instant;
use crate::wire::WirePeer;

impl<P: WirePeer> Engine<P> {
    /// Creates a group, with this engine as its first participant. One engine creates it, the others join.
    ///
    /// The guard says who may moderate and who may send messages to everybody: its authority set has a founder, and
    /// moderators. Without a set everybody may send, and nobody can be thrown out.
    ///
    /// ```
    /// use suffuse::{Config, Engine, GroupOptions, Guard, Instant, ParticipantChange, Seed, SwarmId};
    ///
    /// let (room, now) = (SwarmId::from_name("room 7"), Instant::ZERO);
    /// let mut ann = Engine::new(1u64, Config::small(), Seed::from_u64(1), now).unwrap();
    /// ann.create_group(room, GroupOptions::new(), Guard::new(), now)?;
    /// ann.set_participant(room, ParticipantChange::default().audio(true).metadata("Ann"), now)?;
    /// ann.claim_screen(room, now)?;
    ///
    /// let roster = ann.group_roster(room)?;
    /// assert_eq!((roster.len(), roster[0].peer), (1, 1));
    /// assert!(roster[0].audio && roster[0].screen && !roster[0].video);
    /// assert_eq!(roster[0].metadata, "Ann");
    /// # Ok::<(), suffuse::CommandError>(())
    /// ```
    ///
    /// # Errors
    /// A swarm with this id or tag is joined already, there are too many swarms, an option is outside its range, or the
    /// group is signed and the guard has no signer or, for media, no chunk hasher. Nothing was changed.
    pub fn create_group(
        &mut self,
        swarm: SwarmId,
        options: GroupOptions,
        guard: Guard<P>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let tag = self.vacant(swarm)?;
        options.validate::<P>(self.config.group.records_max, self.config.frame_bytes_max)?;
        check_signer(&guard, options.media.is_some())?;
        check_retention(options.retention)?;
        let now = self.advance(now);
        let (local, epoch, seed) = (self.local, self.epoch_min, self.next_seed());
        let group = Group::create(local, swarm, epoch, &self.config, &options, guard, seed, now);
        self.begin_group(swarm, tag, group);
        Ok(())
    }

    /// Joins a group through any of its participants. [`GroupEvent::Admitted`](crate::GroupEvent::Admitted) tells that this
    /// engine is in, [`GroupEvent::Refused`](crate::GroupEvent::Refused) that it is not; it asks until it is answered, or
    /// [leaves](Self::leave).
    ///
    /// # Errors
    /// A swarm with this id or tag is joined already, there are too many swarms or contacts or no contact, the engine was
    /// named as its own contact, the retention cannot work, or the group is signed and the guard has no signer or, for media,
    /// no chunk hasher. Nothing was changed.
    pub fn join_group(
        &mut self,
        swarm: SwarmId,
        options: JoinGroupOptions<P>,
        guard: Guard<P>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let tag = self.vacant(swarm)?;
        if options.contacts.is_empty() {
            return Err(CommandError::NoContacts);
        }
        check_signer(&guard, options.media.is_some())?;
        self.check_peers(&options.contacts)?;
        check_retention(options.retention)?;
        options.media.as_ref().map_or(Ok(()), MediaOptions::validate)?;
        let now = self.advance(now);
        let (local, epoch, seed) = (self.local, self.epoch_min, self.next_seed());
        let group = Group::join(local, swarm, epoch, &self.config, &options, guard, seed, now);
        self.begin_group(swarm, tag, group);
        Ok(())
    }

    fn begin_group(&mut self, swarm: SwarmId, tag: SwarmTag, group: Group<P>) {
        self.add_swarm(tag, swarm, Swarm::Group(Box::new(group)), None);
        self.with_group(tag, |group, now, actions| group.begin(now, actions));
    }

    /// Changes what this engine says of itself to everybody.
    ///
    /// # Errors
    /// The swarm is no group that this engine is in, or the metadata is too long. Nothing was changed.
    pub fn set_participant(
        &mut self,
        swarm: SwarmId,
        change: ParticipantChange,
        now: Instant,
    ) -> Result<(), CommandError> {
        let (tag, group) = self.entered(swarm)?;
        let (bytes, max) = (change.metadata.as_ref().map_or(0, Bytes::len), group.metadata_bytes_max());
        if bytes > max {
            return Err(CommandError::Oversize { bytes, max });
        }
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.set_participant(&change, now, actions));
        Ok(())
    }

    /// Shows this engine's screen to everybody. Of two who do so at the same time the earlier one keeps it; see
    /// [`GroupEvent::ScreenLost`](crate::GroupEvent::ScreenLost) and [`GroupEvent::ScreenWon`](crate::GroupEvent::ScreenWon).
    /// Does nothing if this engine shows it already.
    ///
    /// # Errors
    /// The swarm is no group that this engine is in, or another participant shows its screen. Nothing was changed.
    pub fn claim_screen(&mut self, swarm: SwarmId, now: Instant) -> Result<(), CommandError> {
        let (tag, group) = self.entered(swarm)?;
        match group.screen_holder() {
            Some(holder) if holder == self.local => return Ok(()),
            Some(_) => return Err(CommandError::ScreenTaken),
            None => {}
        }
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.claim_screen(now, actions));
        Ok(())
    }

    /// Shows the screen no more. Anybody may show theirs then.
    ///
    /// # Errors
    /// The swarm is no group that this engine is in, or it does not show its screen. Nothing was changed.
    pub fn release_screen(&mut self, swarm: SwarmId, now: Instant) -> Result<(), CommandError> {
        let tag = self.screen_held(swarm)?;
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.release_screen(now, actions));
        Ok(())
    }

    /// Lets another participant show its screen in the place of this engine, before anybody else can.
    ///
    /// # Errors
    /// The swarm is no group that this engine is in, it does not show its screen, or `to` is no other participant. Nothing was
    /// changed.
    pub fn hand_over_screen(&mut self, swarm: SwarmId, to: P, now: Instant) -> Result<(), CommandError> {
        let tag = self.screen_held(swarm)?;
        if to == self.local {
            return Err(CommandError::OwnName);
        }
        if self.entered(swarm)?.1.participant(to).is_none() {
            return Err(CommandError::UnknownParticipant);
        }
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.hand_over_screen(to, now, actions));
        Ok(())
    }

    /// Sends a message to everybody, to some, or to one participant.
    ///
    /// To everybody: it is delivered to all who are in, and to those whom a broken network hides if it heals within the
    /// retention. To some: it is repeated until it is acknowledged; [`GroupEvent`](crate::GroupEvent) tells for each receiver
    /// on which way it was reached, or that it was not in time.
    ///
    /// # Errors
    /// The swarm is no group that this engine is in, a receiver takes no part, is named twice or is this engine, nobody is
    /// named, the payload or the deadline is outside its range, too much waits, or the guard forbids it. Nothing was sent.
    pub fn send_group(
        &mut self,
        swarm: SwarmId,
        target: GroupTarget<P>,
        payload: Bytes,
        options: GroupSendOptions,
        now: Instant,
    ) -> Result<GroupMessageId, CommandError> {
        let (tag, group) = self.entered(swarm)?;
        options.validate()?;
        let (many, mut targets) = match target {
            GroupTarget::Everybody => return self.broadcast_group(tag, payload, options, now),
            GroupTarget::Some(targets) => (true, targets),
            GroupTarget::One(target) => (false, alloc::vec![target]),
        };
        let (bytes, max) = (payload.len(), group.directed_bytes_max());
        if bytes > max {
            return Err(CommandError::Oversize { bytes, max });
        }
        if targets.is_empty() {
            return Err(CommandError::NoReceivers);
        }
        if targets.contains(&self.local) {
            return Err(CommandError::ToOneself);
        }
        targets.iter().try_for_each(|&peer| group.check_participant(peer))?;
        targets.sort_unstable();
        if targets.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(CommandError::RepeatedReceiver);
        }
        group.check_outbox(bytes)?;
        self.check_queue(bytes)?;
        self.advance(now);
        let mut id = None;
        self.with_group(tag, |group, now, actions| {
            id = Some(group.send_to(&targets, many, payload, &options, now, actions));
        });
        id.ok_or(CommandError::UnknownSwarm(swarm))
    }

    fn broadcast_group(
        &mut self,
        tag: SwarmTag,
        payload: Bytes,
        options: GroupSendOptions,
        now: Instant,
    ) -> Result<GroupMessageId, CommandError> {
        let swarm = self.swarms[&tag].id;
        let (_, group) = self.entered(swarm)?;
        let (bytes, max) = (payload.len(), group.broadcast_bytes_max());
        if bytes > max {
            return Err(CommandError::Oversize { bytes, max });
        }
        group.may_broadcast(self.now.max(now))?;
        self.check_queue(bytes)?;
        self.advance(now);
        let mut id = None;
        self.with_group(tag, |group, now, actions| {
            id = Some(group.broadcast(&payload, &options, now, actions));
        });
        id.ok_or(CommandError::UnknownSwarm(swarm))
    }

    /// Throws a participant out. It may join again.
    ///
    /// # Errors
    /// The swarm is no group that this engine is in, the peer takes no part or is this engine, this engine may not moderate
    /// it, or too many are thrown out already. Nothing was changed.
    pub fn kick(&mut self, swarm: SwarmId, peer: P, now: Instant) -> Result<(), CommandError> {
        let (tag, group) = self.entered(swarm)?;
        group.check_verdict(peer)?;
        group.check_participant(peer)?;
        let banned = group.is_banned(peer);
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.judge(peer, banned, now, actions));
        Ok(())
    }

    /// Throws a peer out, if it is in, and lets it in no more, or lets it in again.
    ///
    /// # Errors
    /// The swarm is no group that this engine is in, the peer is this engine, this engine may not moderate it, or too many are
    /// banned already. Nothing was changed.
    pub fn set_banned(
        &mut self,
        swarm: SwarmId,
        peer: P,
        banned: bool,
        now: Instant,
    ) -> Result<(), CommandError> {
        let (tag, group) = self.entered(swarm)?;
        group.check_verdict(peer)?;
        if group.is_banned(peer) == banned {
            return Ok(());
        }
        if !banned {
            group.check_unban(peer)?;
        }
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.judge(peer, banned, now, actions));
        Ok(())
    }

    /// Everybody who is in, this engine included, in the order of joining: equal at all who have heard the same news. Before this
    /// engine is in it knows nobody.
    ///
    /// # Errors
    /// The swarm is no group that is joined. Nothing was changed.
    pub fn group_roster(&self, swarm: SwarmId) -> Result<Vec<Participant<P>>, CommandError> {
        Ok(self.grouped(swarm)?.1.participants())
    }

    /// The fingerprint of the roster: equal on two engines if and only if (but for 1 in 2^64) the same participants say the
    /// same of themselves, and moderators have decided the same. `None` if the swarm is no group that is joined.
    pub fn roster_fingerprint(&self, swarm: SwarmId) -> Option<u64> {
        self.grouped(swarm).ok().map(|(_, group)| group.roster_fingerprint())
    }

    /// Counters and sizes of a group; `None` if it is not joined.
    pub fn group_stats(&self, swarm: SwarmId) -> Option<GroupStats> {
        self.grouped(swarm).ok().map(|(_, group)| group.stats())
    }

    pub(super) fn grouped(&self, swarm: SwarmId) -> Result<(SwarmTag, &Group<P>), CommandError> {
        let tag = self.joined(swarm)?;
        let group = self.swarms[&tag].swarm.group();
        group.map(|group| (tag, group)).ok_or(CommandError::NotGroup(swarm))
    }

    pub(super) fn entered(&self, swarm: SwarmId) -> Result<(SwarmTag, &Group<P>), CommandError> {
        let (tag, group) = self.grouped(swarm)?;
        group.check_in()?;
        Ok((tag, group))
    }

    fn screen_held(&self, swarm: SwarmId) -> Result<SwarmTag, CommandError> {
        let (tag, group) = self.entered(swarm)?;
        if group.screen_holder() == Some(self.local) { Ok(tag) } else { Err(CommandError::ScreenNotHeld) }
    }

    fn check_queue(&mut self, bytes: usize) -> Result<(), CommandError> {
        let (queued, max) = (self.egress.queued_bytes(), self.queue_bytes_max());
        if queued + bytes > max {
            self.writer_waits = Some(bytes);
            return Err(CommandError::QueueFull { queued, max });
        }
        Ok(())
    }

    pub(super) fn with_group(
        &mut self,
        tag: SwarmTag,
        act: impl FnOnce(&mut Group<P>, Instant, &mut SwarmActions<P>),
    ) {
        self.with_swarm(tag, |swarm, now, actions| {
            if let Some(group) = swarm.group_mut() {
                act(group, now, actions);
            }
        });
    }
}

/// Every participant says something of itself, so it must be able to sign where that is wanted. What it shows is sealed
/// there, too.
fn check_signer<P: WirePeer>(guard: &Guard<P>, media: bool) -> Result<(), CommandError> {
    if !guard.can_sign() {
        Err(CommandError::NoSigner)
    } else if media && !guard.can_seal() {
        Err(CommandError::NoChunkHasher)
    } else {
        Ok(())
    }
}
