//! Who is let in, and who is put out.
//!
//! Any participant lets others in: it gives the newcomer the group's time as the stamp of its admission, and the newcomer
//! writes its own entry. Where two let in more than there are places, everybody finds the same ones surplus: who was
//! admitted last, or of two at once the higher peer.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::roster::{Merged, SURPLUS};
use super::{Group, Stage, signed_verdict};
use crate::authority::{AuthorityChange, AuthorityError, AuthoritySet};
use crate::error::CommandError;
use crate::io::{Class, GroupEvent, GroupRefusal};
use crate::swarm::{SwarmAction, SwarmActions};
use crate::time::Instant;
use crate::wire::{GroupMessage, MembershipMessage, Profile, Verdict, Welcome, WirePeer};

/// How long an unanswered request waits before it is sent again: at first, and at most.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(2);

/// A place is kept this long for somebody who was let in and has not been heard of.
const RESERVED_FOR: Duration = Duration::from_secs(2);

/// How often a node that has heard of nobody asks, once a beat: then neighbours must tell.
const PRESENTATIONS_MAX: u32 = 32;

/// Peers that ask before this node is in, at most; others ask again.
const EARLY_MAX: usize = 64;

/// Getting in, and letting others in.
#[derive(Debug)]
pub(super) struct Admission<P> {
    pub(super) contacts: Vec<P>,
    asked: u32,
    ask_at: Instant,
    /// Who was let in here lately and is not in the roster yet.
    reserved: Vec<(P, Instant)>,
    /// Requests for the roster since this node was let in.
    wanted: u32,
    /// Who asked before this node was in itself, with its life.
    early: Vec<(P, u32)>,
}

impl<P: WirePeer> Admission<P> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            contacts: Vec::new(),
            asked: 0,
            ask_at: now,
            reserved: Vec::new(),
            early: Vec::new(),
            wanted: 0,
        }
    }

    pub(super) fn ask_at(&self) -> Option<Instant> {
        Some(self.ask_at)
    }
}

impl<P: WirePeer> Group<P> {
    /// Whether a peer is put out, and was not let in again here. Others are heard, even if this node does not know them: two
    /// parts of a group may not know each other.
    pub(super) fn is_put_out(&self, peer: P) -> bool {
        let out = self.roster.record(peer).is_some_and(|record| self.roster.is_out(peer, record.incarnation));
        let let_in = self.admission.reserved.iter().any(|(other, _)| *other == peer);
        self.roster.is_banned(peer) || out && !let_in
    }

    /// Asks the contacts in turn, for as long as it takes.
    pub(super) fn ask_to_join(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        if self.admission.ask_at > now || self.admission.contacts.is_empty() {
            return;
        }
        let contact = self.admission.contacts[self.admission.asked as usize % self.admission.contacts.len()];
        let pause = (ASK_AGAIN * (1 << (self.admission.asked / 4).min(3))).min(ASK_AGAIN_MAX);
        self.admission.asked = self.admission.asked.saturating_add(1);
        self.admission.ask_at = now + pause;
        let message = GroupMessage::Join { swarm: self.swarm, incarnation: self.own.incarnation };
        self.send(contact, message, Class::Control, actions);
    }

    pub(super) fn on_join(&mut self, from: P, incarnation: u32, now: Instant, actions: &mut SwarmActions<P>) {
        if self.stage != Stage::In {
            self.admission.early.retain(|(peer, _)| *peer != from);
            if self.stage == Stage::Joining && self.admission.early.len() < EARLY_MAX {
                self.admission.early.push((from, incarnation));
            }
            return;
        }
        if self.roster.is_banned(from) {
            self.stats.refused += 1;
            return self.send(from, GroupMessage::Refused { reason: 1 }, Class::Control, actions);
        }
        let joined_us = self.roster.profile(from).map(|profile| profile.joined_us);
        let roster = &self.roster;
        self.admission.reserved.retain(|&(peer, until)| until > now && !roster.is_in(peer));
        let reserved = self.admission.reserved.iter().filter(|(peer, _)| *peer != from).count();
        if joined_us.is_none() && self.roster.len() + reserved >= self.roster.participants_max {
            self.stats.refused += 1;
            return self.send(from, GroupMessage::Refused { reason: 0 }, Class::Control, actions);
        }
        self.admission.reserved.retain(|(peer, _)| *peer != from);
        if joined_us.is_none() {
            self.admission.reserved.push((from, now + RESERVED_FOR));
        }
        let known = self.roster.record(from).map_or(0, |record| record.incarnation.saturating_add(1));
        let out = self.roster.thrown_out(from).map_or(0, |out| out.saturating_add(1));
        self.stats.admitted += 1;
        let welcome = Welcome {
            swarm: self.swarm,
            participants_max: u32::try_from(self.roster.participants_max).unwrap_or(u32::MAX),
            metadata_bytes_max: u16::try_from(self.metadata_bytes_max).unwrap_or(u16::MAX),
            clock_us: self.clock.stamp(now),
            incarnation: incarnation.max(known).max(out),
            joined_us,
        };
        self.send(from, GroupMessage::Welcome(welcome), Class::Control, actions);
    }

    pub(super) fn on_welcome(
        &mut self,
        from: P,
        welcome: &Welcome,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        // A second answer to a request that was repeated.
        if self.stage != Stage::Joining || !self.admission.contacts.contains(&from) {
            return;
        }
        self.roster.participants_max = (welcome.participants_max as usize).max(1);
        self.metadata_bytes_max = welcome.metadata_bytes_max.into();
        self.clock.adopt(welcome.clock_us, now);
        self.order.begin(welcome.clock_us);
        self.own.incarnation = self.own.incarnation.max(welcome.incarnation);
        let joined_us = welcome.joined_us.unwrap_or(welcome.clock_us);
        self.own.profile = Profile { joined_us, ..self.own.profile.clone() };
        self.enter(now, actions);
        self.present_to(from, actions);
    }

    /// Shows its entry to a contact, which spreads the news before this node has a neighbour, and asks it for the roster.
    fn present_to(&mut self, contact: P, actions: &mut SwarmActions<P>) {
        let entry = self.own_entry();
        let message = GroupMessage::Roster { entries: alloc::vec![entry], verdicts: Vec::new() };
        self.send(contact, message, Class::High, actions);
        self.send(contact, GroupMessage::WantRoster { parts: u64::MAX }, Class::Control, actions);
    }

    /// Asks the contacts again while this node has heard of nobody: the first news were lost.
    pub(super) fn repeat_presentation(&mut self, actions: &mut SwarmActions<P>) {
        let contacts = self.admission.contacts.len();
        if self.roster.len() > 1 || contacts == 0 || self.admission.wanted >= PRESENTATIONS_MAX {
            return;
        }
        let contact = self.admission.contacts[self.admission.wanted as usize % contacts];
        self.admission.wanted += 1;
        self.present_to(contact, actions);
    }

    /// This node is in.
    pub(super) fn enter(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        self.stage = Stage::In;
        let participants_max = self.roster.participants_max;
        self.tell(GroupEvent::Admitted { participants_max }, actions);
        self.write(self.own.profile.clone(), now);
        self.spread.begin(now);
        for (peer, incarnation) in core::mem::take(&mut self.admission.early) {
            self.on_join(peer, incarnation, now, actions);
        }
    }

    pub(super) fn on_refused(&mut self, from: P, reason: u8, now: Instant, actions: &mut SwarmActions<P>) {
        if self.stage != Stage::Joining || !self.admission.contacts.contains(&from) {
            return;
        }
        let reason = if reason == 0 { GroupRefusal::Full } else { GroupRefusal::Banned };
        self.tell(GroupEvent::Refused { reason }, actions);
        self.go(now, actions);
    }

    /// Puts out whoever came when all places were taken.
    pub(super) fn evict_surplus(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let surplus = self.roster.surplus();
        for &peer in &surplus {
            if peer != self.local && self.roster.set_status(peer, SURPLUS, now) {
                self.tell_merged(peer, Merged::Gone { status: SURPLUS }, now, actions);
                self.spread.note(peer, None, now);
                self.send_entry(peer, peer, actions);
            }
        }
        if surplus.contains(&self.local) {
            self.roster.set_status(self.local, SURPLUS, now);
            self.spread.note(self.local, None, now);
            self.put_out(GroupRefusal::Full, now, actions);
        }
    }

    /// This node has no place any more.
    pub(super) fn put_out(&mut self, reason: GroupRefusal, now: Instant, actions: &mut SwarmActions<P>) {
        self.tell(GroupEvent::Removed { reason }, actions);
        self.flush(now, actions);
        self.go(now, actions);
    }

    fn go(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        self.stage = Stage::Out;
        self.with_topic(now, actions, |topic, now, actions| topic.leave(now, actions));
        actions.push(SwarmAction::Gone);
    }

    // --- moderation -----------------------------------------------------------------------------------------------

    /// Whether `by` may put `peer` out.
    pub(super) fn may_judge(&self, by: P, peer: P) -> Result<(), CommandError> {
        let set = self.topic.authority().ok_or(CommandError::NoAuthority(self.swarm))?;
        let by_founder = by == set.founder();
        let refusal = if !by_founder && !set.is_moderator(by) {
            AuthorityError::NotModerator
        } else if peer == set.founder() {
            AuthorityError::Founder
        } else if set.is_moderator(peer) && !by_founder {
            AuthorityError::Moderator
        } else {
            return Ok(());
        };
        Err(CommandError::Authority(refusal))
    }

    /// Checks a verdict of this node before it is passed.
    pub(crate) fn check_verdict(&self, peer: P) -> Result<(), CommandError> {
        self.check_in()?;
        if peer == self.local {
            return Err(CommandError::OwnName);
        }
        self.may_judge(self.local, peer)?;
        if self.roster.verdicts(peer).next().is_none() && self.roster.has_no_room_for_verdicts() {
            return Err(CommandError::TooManyVerdicts { max: self.config.verdicts_max });
        }
        Ok(())
    }

    /// Checks that this node may let a banned peer in again.
    pub(crate) fn check_unban(&self, peer: P) -> Result<(), CommandError> {
        let by_founder = self.topic.authority().is_some_and(|set| set.founder() == self.local);
        if self.roster.is_banned_by_founder(peer) && !by_founder {
            return Err(CommandError::Authority(AuthorityError::DecidedByFounder));
        }
        Ok(())
    }

    /// Throws a peer out, bans it, or lets it come again.
    pub(crate) fn judge(&mut self, peer: P, banned: bool, now: Instant, actions: &mut SwarmActions<P>) {
        let out = self.roster.record(peer).map(|record| record.incarnation);
        let (by, at_us, signature) = (self.local, self.clock.stamp(now), Bytes::new());
        let out = out.max(self.roster.thrown_out(peer));
        let mut verdict = Verdict { peer, by, at_us, out, banned, signature };
        verdict.signature = self.topic.seal(&signed_verdict(&verdict));
        self.take_verdict(&verdict, None, now, actions);
        self.send(
            peer,
            GroupMessage::Roster { entries: Vec::new(), verdicts: alloc::vec![verdict] },
            Class::High,
            actions,
        );
        self.settle(now, actions);
    }

    pub(crate) fn is_banned(&self, peer: P) -> bool {
        self.roster.is_banned(peer)
    }

    /// Takes a verdict of somebody who may pass it.
    pub(super) fn take_verdict(
        &mut self,
        verdict: &Verdict<P>,
        from: Option<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        let was_in = self.roster.is_in(verdict.peer);
        let was_banned = self.is_banned(verdict.peer);
        let by_founder = self.topic.authority().is_some_and(|set| set.founder() == verdict.by);
        if !self.roster.judge(verdict, by_founder) {
            return;
        }
        self.spread.note_verdict(verdict.peer, from, now);
        if self.is_banned(verdict.peer) != was_banned {
            self.enforce_ban(verdict.by, verdict.peer, now, actions);
        }
        if was_in && !self.roster.is_in(verdict.peer) {
            self.order.drop_waiting(verdict.peer);
            if verdict.peer == self.local {
                let banned = self.is_banned(self.local);
                let reason = if banned { GroupRefusal::Banned } else { GroupRefusal::ThrownOut };
                self.put_out(reason, now, actions);
            } else {
                let status = super::LEFT;
                self.tell_merged(verdict.peer, Merged::Gone { status }, now, actions);
            }
        }
    }

    /// Who is banned may write nothing, and is nobody's neighbour.
    fn enforce_ban(&mut self, by: P, peer: P, now: Instant, actions: &mut SwarmActions<P>) {
        let banned = self.is_banned(peer);
        self.with_topic(now, actions, |topic, now, actions| {
            let change = |set: &mut AuthoritySet<P>, changes: &mut Vec<AuthorityChange<P>>| {
                if banned { set.ban(by, peer, None, now, changes) } else { set.unban(by, peer, now, changes) }
            };
            // The set may have been told already.
            let _ = topic.change_authority(change, now, actions);
            if banned {
                let farewell = MembershipMessage::Bye { leaving: true };
                topic.handle_membership(peer, farewell, now, actions);
            }
        });
    }
}
