//! Moderators, mutes and bans.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::authority::set::check_end;
use crate::authority::{AuthorityChange, AuthorityError, AuthorityLimits, AuthoritySet, StateRange};
use crate::id::{PeerId, StateId};
use crate::time::Instant;

impl<P: PeerId> AuthoritySet<P> {
    /// Makes `peer` a moderator, who may mute, unmute, ban and unban. Only for the founder of the swarm.
    pub fn appoint(
        &mut self,
        by: P,
        peer: P,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        self.moderation.appoint(by, peer, &self.limits)?;
        changes.push(AuthorityChange::Appointed { peer });
        Ok(())
    }

    /// Ends the office of a moderator; its mutes and bans stand. Only for the founder of the swarm.
    pub fn dismiss(
        &mut self,
        by: P,
        peer: P,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        self.moderation.dismiss(by, peer)?;
        changes.push(AuthorityChange::Dismissed { peer });
        Ok(())
    }

    /// Forbids `peer` to write `states`, until `until` or [`Self::unmute`]. Muting the same range again replaces the
    /// end. For moderators and the founder; the founder cannot be muted, a moderator only by the founder.
    pub fn mute(
        &mut self,
        by: P,
        peer: P,
        states: StateRange,
        until: Option<Instant>,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        let now = self.begin(by, now, changes)?;
        check_end(until, now)?;
        self.moderation.mute(by, peer, states, until, &self.limits)?;
        changes.push(AuthorityChange::Muted { peer, states, until });
        self.rearm();
        Ok(())
    }

    /// Lets `peer` write `states` again, as far as its rights go; the rest of a wider mute stands. For moderators and
    /// the founder; the founder's mutes yield to the founder only.
    pub fn unmute(
        &mut self,
        by: P,
        peer: P,
        states: StateRange,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        self.moderation.unmute(by, peer, states, &self.limits)?;
        changes.push(AuthorityChange::Unmuted { peer, states });
        self.rearm();
        Ok(())
    }

    /// Forbids `peer` to write or change anything, until `until` or [`Self::unban`]. What it granted before stands
    /// until it is revoked. For moderators and the founder; the founder cannot be banned, a moderator only by the
    /// founder.
    pub fn ban(
        &mut self,
        by: P,
        peer: P,
        until: Option<Instant>,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        let now = self.begin(by, now, changes)?;
        check_end(until, now)?;
        self.moderation.ban(by, peer, until, &self.limits)?;
        changes.push(AuthorityChange::Banned { peer, until });
        self.rearm();
        Ok(())
    }

    /// Ends a ban. For moderators and the founder; the founder's bans yield to the founder only.
    pub fn unban(
        &mut self,
        by: P,
        peer: P,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        self.moderation.unban(by, peer)?;
        changes.push(AuthorityChange::Unbanned { peer });
        self.rearm();
        Ok(())
    }

    /// Whether `peer` is a moderator. The founder, who can do all that moderators can, is none.
    pub fn is_moderator(&self, peer: P) -> bool {
        self.moderation.is_moderator(peer)
    }

    /// The moderators in ascending order.
    pub fn moderators(&self) -> impl Iterator<Item = P> + '_ {
        self.moderation.moderators()
    }

    /// Whether a mute of `peer` covers `state`.
    pub fn is_muted(&self, peer: P, state: StateId, now: Instant) -> bool {
        self.moderation.is_muted_in(peer, state, self.now.max(now))
    }

    /// Whether `peer` is banned: a host refuses its connections, too.
    pub fn is_banned(&self, peer: P, now: Instant) -> bool {
        self.moderation.is_banned(peer, self.now.max(now))
    }
}

/// Mutes and bans, and who may give them. Holds no opinion on policies.
#[derive(Clone, Debug)]
pub(super) struct Moderation<P> {
    founder: P,
    moderators: BTreeSet<P>,
    mutes: BTreeMap<P, Vec<Mute>>,
    mutes_len: usize,
    bans: BTreeMap<P, Ban>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mute {
    states: StateRange,
    until: Option<Instant>,
    by_founder: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: Option<Instant>,
    by_founder: bool,
}

impl<P: PeerId> Moderation<P> {
    pub(super) fn new(founder: P) -> Self {
        Self {
            founder,
            moderators: BTreeSet::new(),
            mutes: BTreeMap::new(),
            mutes_len: 0,
            bans: BTreeMap::new(),
        }
    }

    pub(super) fn is_moderator(&self, peer: P) -> bool {
        self.moderators.contains(&peer)
    }

    pub(super) fn moderators(&self) -> impl Iterator<Item = P> + '_ {
        self.moderators.iter().copied()
    }

    pub(super) fn is_banned(&self, peer: P, now: Instant) -> bool {
        self.bans.get(&peer).is_some_and(|ban| stands(ban.until, now))
    }

    pub(super) fn is_muted(&self, peer: P, states: StateRange, now: Instant) -> bool {
        let mut mutes = self.mutes.get(&peer).into_iter().flatten();
        mutes.any(|mute| mute.states.overlaps(states) && stands(mute.until, now))
    }

    pub(super) fn is_muted_in(&self, peer: P, state: StateId, now: Instant) -> bool {
        self.is_muted(peer, StateRange::single(state), now)
    }

    pub(super) fn appoint(&mut self, by: P, peer: P, limits: &AuthorityLimits) -> Result<(), AuthorityError> {
        if by != self.founder {
            return Err(AuthorityError::NotFounder);
        }
        if peer == self.founder {
            return Err(AuthorityError::Founder);
        }
        if self.moderators.contains(&peer) {
            return Err(AuthorityError::AlreadyModerator);
        }
        fits(self.moderators.len(), 1, "moderators_max", limits.moderators_max)?;
        self.moderators.insert(peer);
        Ok(())
    }

    pub(super) fn dismiss(&mut self, by: P, peer: P) -> Result<(), AuthorityError> {
        if by != self.founder {
            return Err(AuthorityError::NotFounder);
        }
        if self.moderators.remove(&peer) { Ok(()) } else { Err(AuthorityError::NoSuchModerator) }
    }

    pub(super) fn mute(
        &mut self,
        by: P,
        peer: P,
        states: StateRange,
        until: Option<Instant>,
        limits: &AuthorityLimits,
    ) -> Result<(), AuthorityError> {
        let by_founder = self.check_target(by, peer)?;
        let given = self.mutes.get(&peer);
        let same = given.and_then(|given| {
            given.iter().position(|mute| mute.states == states && mute.by_founder == by_founder)
        });
        let mute = Mute { states, until, by_founder };
        if let Some(index) = same {
            self.mutes.entry(peer).or_default()[index] = mute;
            return Ok(());
        }
        fits(given.map_or(0, Vec::len), 1, "mutes_per_peer_max", limits.mutes_per_peer_max)?;
        fits(self.mutes_len, 1, "mutes_max", limits.mutes_max)?;
        self.mutes.entry(peer).or_default().push(mute);
        self.mutes_len += 1;
        Ok(())
    }

    /// Takes `states` out of the mutes of `peer`, which can split some in two. A moderator leaves the founder's.
    pub(super) fn unmute(
        &mut self,
        by: P,
        peer: P,
        states: StateRange,
        limits: &AuthorityLimits,
    ) -> Result<(), AuthorityError> {
        let by_founder = self.check_moderator(by)?;
        let given = self.mutes.get(&peer).map_or(&[][..], Vec::as_slice);
        let concerned = |mute: &Mute| mute.states.overlaps(states);
        if !given.iter().any(concerned) {
            return Err(AuthorityError::NotMuted);
        }
        if !by_founder && given.iter().filter(|mute| concerned(mute)).all(|mute| mute.by_founder) {
            return Err(AuthorityError::DecidedByFounder);
        }
        let mut rest = Vec::with_capacity(given.len() + 1);
        for &mute in given {
            if mute.by_founder && !by_founder {
                rest.push(mute);
            } else {
                let pieces = mute.states.without(states).into_iter().flatten();
                rest.extend(pieces.map(|states| Mute { states, ..mute }));
            }
        }
        let (before, after) = (given.len(), rest.len());
        if after > before {
            fits(before, after - before, "mutes_per_peer_max", limits.mutes_per_peer_max)?;
            fits(self.mutes_len, after - before, "mutes_max", limits.mutes_max)?;
        }
        self.mutes_len = self.mutes_len - before + after;
        if rest.is_empty() {
            self.mutes.remove(&peer);
        } else {
            self.mutes.insert(peer, rest);
        }
        Ok(())
    }

    pub(super) fn ban(
        &mut self,
        by: P,
        peer: P,
        until: Option<Instant>,
        limits: &AuthorityLimits,
    ) -> Result<(), AuthorityError> {
        let by_founder = self.check_target(by, peer)?;
        let bans = self.bans.len();
        match self.bans.entry(peer) {
            Entry::Occupied(mut ban) => {
                if ban.get().by_founder && !by_founder {
                    return Err(AuthorityError::DecidedByFounder);
                }
                ban.insert(Ban { until, by_founder });
            }
            Entry::Vacant(slot) => {
                fits(bans, 1, "bans_max", limits.bans_max)?;
                slot.insert(Ban { until, by_founder });
            }
        }
        Ok(())
    }

    pub(super) fn unban(&mut self, by: P, peer: P) -> Result<(), AuthorityError> {
        let by_founder = self.check_moderator(by)?;
        let ban = self.bans.get(&peer).ok_or(AuthorityError::NotBanned)?;
        if ban.by_founder && !by_founder {
            return Err(AuthorityError::DecidedByFounder);
        }
        self.bans.remove(&peer);
        Ok(())
    }

    /// Forgets what has expired.
    pub(super) fn sweep(&mut self, now: Instant, changes: &mut Vec<AuthorityChange<P>>) {
        self.mutes.retain(|&peer, mutes| {
            mutes.retain(|mute| {
                let stands = stands(mute.until, now);
                if !stands {
                    changes.push(AuthorityChange::Unmuted { peer, states: mute.states });
                }
                stands
            });
            !mutes.is_empty()
        });
        self.mutes_len = self.mutes.values().map(Vec::len).sum();
        self.bans.retain(|&peer, ban| {
            let stands = stands(ban.until, now);
            if !stands {
                changes.push(AuthorityChange::Unbanned { peer });
            }
            stands
        });
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let mutes = self.mutes.values().flatten().filter_map(|mute| mute.until);
        mutes.chain(self.bans.values().filter_map(|ban| ban.until)).min()
    }

    /// Whether `by` is the founder; an error if it is no moderator either.
    fn check_moderator(&self, by: P) -> Result<bool, AuthorityError> {
        let by_founder = by == self.founder;
        if by_founder || self.is_moderator(by) { Ok(by_founder) } else { Err(AuthorityError::NotModerator) }
    }

    fn check_target(&self, by: P, peer: P) -> Result<bool, AuthorityError> {
        let by_founder = self.check_moderator(by)?;
        if peer == self.founder {
            return Err(AuthorityError::Founder);
        }
        if self.is_moderator(peer) && !by_founder {
            return Err(AuthorityError::Moderator);
        }
        Ok(by_founder)
    }
}

fn stands(until: Option<Instant>, now: Instant) -> bool {
    until.is_none_or(|until| until > now)
}

pub(super) fn fits(len: usize, more: usize, limit: &'static str, max: usize) -> Result<(), AuthorityError> {
    if len.saturating_add(more) > max { Err(AuthorityError::Full { limit, max }) } else { Ok(()) }
}
