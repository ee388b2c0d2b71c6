//! The policies of one swarm and everything that changes them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;
use core::time::Duration;

use crate::authority::grants::{Grant, Grants, Settled};
use crate::authority::moderation::{Moderation, fits};
use crate::authority::voids::Voids;
use crate::authority::{
    AuthorityChange, AuthorityError, AuthorityLimits, Freshness, GrantTerms, Policy, Proof, ProofChecker,
    ProofError, StateRange, Verifier, WallTime, WriteRefusal,
};
use crate::id::{Epoch, PeerId, StateId, SwarmId};
use crate::time::Instant;
use crate::wire::WirePeer;

/// Who may write which states of one swarm.
///
/// Every range of states can have a [`Policy`]; all other states share one. Grants belong to the policy: a grant
/// "for a state" covers the whole range that holds the state.
///
/// Every change takes the peer that acts, is refused if that peer may not do it, and appends what came of it to the
/// caller's `changes`. The set trusts its caller that the acting peer is the one that acts: a change from a remote
/// peer must have been authenticated, by a signature over the update that carries it or by [`Self::present_chain`].
///
/// Grants, mutes and bans can end. [`Self::may_write`] is exact at every `now`; call [`Self::handle_timeout`] at
/// [`Self::poll_timeout`] so that it is also cheap and `changes` are told in time. A `now` before the newest one seen
/// counts as the newest.
///
/// Equal calls in equal order give equal sets, so peers that replicate the calls agree.
#[derive(Clone, Debug)]
pub struct AuthoritySet<P> {
    founder: P,
    pub(super) limits: AuthorityLimits,
    rules: BTreeMap<StateId, Rule<P>>,
    /// Of all states that no rule covers.
    others: Rule<P>,
    pub(super) voids: Voids<P>,
    pub(super) moderation: Moderation<P>,
    pub(super) proofs: ProofChecker<P>,
    pub(super) now: Instant,
    deadline: Option<Instant>,
}

/// The policy of one range, and what hangs on it.
#[derive(Clone, Debug)]
pub(super) struct Rule<P> {
    pub(super) states: StateRange,
    policy: Policy<P>,
    /// Present where the policy is shared.
    pub(super) grants: Option<Grants<P>>,
    frozen_by: Option<P>,
}

impl<P: PeerId> AuthoritySet<P> {
    /// A set for `swarm`, in which `founder` appoints moderators and sets policies, and `others` is the policy of all
    /// states that get none of their own.
    pub fn new(swarm: SwarmId, founder: P, others: Policy<P>, limits: AuthorityLimits) -> Self {
        Self {
            founder,
            limits,
            rules: BTreeMap::new(),
            others: Rule::new(StateRange::ALL, others, limits.depth_max),
            voids: Voids::new(),
            moderation: Moderation::new(founder),
            proofs: ProofChecker::new(swarm, limits.proofs),
            now: Instant::ZERO,
            deadline: None,
        }
    }

    /// The swarm.
    pub fn swarm(&self) -> SwarmId {
        self.proofs.swarm()
    }

    /// The founder of the swarm. It can be neither muted nor banned.
    pub fn founder(&self) -> P {
        self.founder
    }

    /// Whether `peer` may write `state` at `now`.
    pub fn may_write(&self, peer: P, state: StateId, now: Instant) -> bool {
        self.check_write(peer, state, now).is_ok()
    }

    /// As [`Self::may_write`], with the reason.
    pub fn check_write(&self, peer: P, state: StateId, now: Instant) -> Result<(), WriteRefusal> {
        let now = self.now.max(now);
        if self.moderation.is_banned(peer, now) {
            return Err(WriteRefusal::Banned);
        }
        self.rule(state).check(peer, now)?;
        if self.moderation.is_muted_in(peer, state, now) { Err(WriteRefusal::Muted) } else { Ok(()) }
    }

    /// Whether `peer` may write every state of `states`.
    pub fn check_write_all(&self, peer: P, states: StateRange, now: Instant) -> Result<(), WriteRefusal> {
        let now = self.now.max(now);
        if self.moderation.is_banned(peer, now) {
            return Err(WriteRefusal::Banned);
        }
        let mut next = Some(states.first());
        while let Some(state) = next.filter(|&state| state <= states.last()) {
            let rule = self.rule(state);
            rule.check(peer, now)?;
            next = if rule.states == StateRange::ALL {
                // A gap, up to the next rule.
                let above = self.rules.range((Bound::Excluded(state), Bound::Unbounded)).next();
                above.map(|(&first, _)| first)
            } else {
                rule.states.last().0.checked_add(1).map(StateId)
            };
        }
        if self.moderation.is_muted(peer, states, now) { Err(WriteRefusal::Muted) } else { Ok(()) }
    }

    /// The policy of `state`; [`Policy::Frozen`] while it is frozen by a call.
    pub fn policy(&self, state: StateId) -> Policy<P> {
        let rule = self.rule(state);
        if rule.frozen_by.is_some() { Policy::Frozen } else { rule.policy }
    }

    /// The range that shares its policy and grants with `state`: [`StateRange::ALL`] if `state` has none of its own.
    pub fn range_of(&self, state: StateId) -> StateRange {
        self.rule(state).states
    }

    /// Those with a right to `state` by name, in ascending order: the owner, or the founder and everybody with a
    /// live chain of grants. Mutes, bans and freezes are not looked at.
    pub fn writers(&self, state: StateId) -> impl Iterator<Item = P> + '_ {
        self.rule(state).writers()
    }

    /// Gives exactly the range `states` a policy. Only for the founder of the swarm.
    ///
    /// A range that has one already gets the new one: its grants, and a freeze, are gone, unless the policy is the
    /// same, which changes nothing. Certificates that are still valid can be presented again for a new shared policy
    /// with the same founder: revoke what must not come back. [`StateRange::ALL`] sets the policy of all states that
    /// have none of their own.
    pub fn set_policy(
        &mut self,
        by: P,
        states: StateRange,
        policy: Policy<P>,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        self.check_founder(by)?;
        let old = match self.rule_of_range(states) {
            Ok(rule) if rule.policy == policy => return Ok(()),
            Ok(rule) => rule.writers().collect(),
            Err(_) => {
                if let Some(with) = self.overlapping(states) {
                    return Err(AuthorityError::Overlap { with });
                }
                fits(self.rules.len(), 1, "policies_max", self.limits.policies_max)?;
                BTreeSet::new()
            }
        };
        let rule = Rule::new(states, policy, self.limits.depth_max);
        changes.push(AuthorityChange::PolicySet { states, policy });
        report(&old, &rule.writers().collect(), states, changes);
        if states == StateRange::ALL {
            self.others = rule;
        } else {
            self.rules.insert(states.first(), rule);
        }
        self.rearm();
        Ok(())
    }

    /// Takes the policy of exactly the range `states` away, with its grants. Only for the founder of the swarm.
    pub fn remove_policy(
        &mut self,
        by: P,
        states: StateRange,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        self.check_founder(by)?;
        let known = states != StateRange::ALL && self.rule_of_range(states).is_ok();
        let rule = if known { self.rules.remove(&states.first()) } else { None };
        let rule = rule.ok_or(AuthorityError::UnknownRange(states))?;
        changes.push(AuthorityChange::PolicySet { states, policy: self.others.policy });
        report(&rule.writers().collect(), &self.others.writers().collect(), states, changes);
        self.rearm();
        Ok(())
    }

    /// `granter` gives `grantee` the right to write the range of `state`.
    ///
    /// The granter needs a live chain to the founder of these states, with at least one more onward grant than it
    /// gives. Several can grant to one peer: it keeps the right while one chain lives. Granting again replaces the
    /// terms, also by lesser ones.
    pub fn grant(
        &mut self,
        granter: P,
        grantee: P,
        state: StateId,
        terms: GrantTerms,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        let now = self.begin(granter, now, changes)?;
        check_end(terms.until, now)?;
        let (limits, total) = (self.limits, self.grants_len());
        let rule = self.rule_mut(state);
        let grants = rule.grants.as_mut().ok_or(AuthorityError::NotShared)?;
        grants.check(granter, grantee, terms.onward, now)?;
        check_room(grants, granter, grantee, total, &limits)?;
        grants.insert(granter, grantee, Grant { terms, issued: None });
        let (by_root, settled) = (granter == grants.root(), grants.settle(now));
        rule.report(&settled, changes);
        let states = rule.states;
        self.voids.lift(states, granter, grantee, by_root);
        self.void_cascaded(states, &settled);
        self.rearm();
        Ok(())
    }

    /// `revoker` takes back the right of `target` to the range of `state`: the founder of these states, or of the
    /// swarm, all its grants; anybody else only the one that it gave.
    ///
    /// All that `target` granted onward falls with it, unless another chain holds it. Certificates for what was
    /// revoked are refused until all that were signed before have expired, or until a direct grant.
    pub fn revoke(
        &mut self,
        revoker: P,
        target: P,
        state: StateId,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        let now = self.begin(revoker, now, changes)?;
        let (founder, until) = (self.founder, self.void_until());
        let rule = self.rule_mut(state);
        let (states, grants) = (rule.states, rule.grants.as_mut().ok_or(AuthorityError::NotShared)?);
        if target == grants.root() {
            return Err(AuthorityError::Founder);
        }
        let by_founder = revoker == grants.root() || revoker == founder;
        let removed = if by_founder { grants.remove_to(target) } else { grants.remove(revoker, target) };
        if !removed && !by_founder {
            if target != revoker && grants.reaches(target, revoker) {
                return Err(AuthorityError::OwnGranter);
            }
            if grants.level(revoker, now).is_none_or(|level| level == 0) {
                return Err(AuthorityError::NotMember);
            }
        }
        let settled = grants.settle(now);
        rule.report(&settled, changes);
        // Also where no grant is known: its certificate may be on the way.
        if by_founder {
            self.voids.add_to(states, target, until);
        } else {
            self.voids.add_pair(states, revoker, target, until, self.limits.grants_per_peer_max);
        }
        self.void_cascaded(states, &settled);
        self.rearm();
        if removed { Ok(()) } else { Err(AuthorityError::NotGranted) }
    }

    /// Passes the exclusive ownership of the range of `state` on. For the owner and the founder of the swarm.
    pub fn transfer(
        &mut self,
        by: P,
        to: P,
        state: StateId,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        let founder = self.founder;
        let rule = self.rule_mut(state);
        let Policy::Exclusive { owner } = rule.policy else { return Err(AuthorityError::NotExclusive) };
        if by != owner && by != founder {
            return Err(AuthorityError::NotOwner);
        }
        rule.policy = Policy::Exclusive { owner: to };
        report(&BTreeSet::from([owner]), &BTreeSet::from([to]), rule.states, changes);
        Ok(())
    }

    /// Stops all writing to the range of `state`, and keeps its policy and grants for [`Self::thaw`]. For its owner
    /// or founder and the founder of the swarm.
    pub fn freeze(
        &mut self,
        by: P,
        state: StateId,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        let founder = self.founder;
        let rule = self.rule_mut(state);
        if by != founder && rule.head() != Some(by) {
            return Err(AuthorityError::NotOwner);
        }
        if rule.frozen_by.is_some() {
            return Err(AuthorityError::AlreadyFrozen);
        }
        rule.frozen_by = Some(by);
        changes.push(AuthorityChange::Frozen { states: rule.states });
        Ok(())
    }

    /// Ends a freeze. For the founder of the swarm, and for the owner or founder of the range if the freeze was not
    /// the swarm's founder's.
    pub fn thaw(
        &mut self,
        by: P,
        state: StateId,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        self.begin(by, now, changes)?;
        let founder = self.founder;
        let rule = self.rule_mut(state);
        if by != founder && rule.head() != Some(by) {
            return Err(AuthorityError::NotOwner);
        }
        let frozen_by = rule.frozen_by.ok_or(AuthorityError::NotFrozen)?;
        if by != founder && frozen_by == founder {
            return Err(AuthorityError::DecidedByFounder);
        }
        rule.frozen_by = None;
        changes.push(AuthorityChange::Thawed { states: rule.states });
        Ok(())
    }

    /// When the next grant, mute or ban ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Carries out the expiries that are due.
    pub fn handle_timeout(&mut self, now: Instant, changes: &mut Vec<AuthorityChange<P>>) {
        self.now = self.now.max(now);
        if self.deadline.is_none_or(|deadline| deadline > self.now) {
            return;
        }
        for rule in self.rules.values_mut().chain([&mut self.others]) {
            let Some(grants) = rule.grants.as_mut() else { continue };
            if grants.next_expiry().is_some_and(|expiry| expiry <= self.now) {
                let settled = grants.settle(self.now);
                rule.report(&settled, changes);
            }
        }
        self.moderation.sweep(self.now, changes);
        self.rearm();
    }

    /// The epoch of the newest claim accepted from `claimer`, while it is remembered: a host can refuse what the
    /// claimer signed in lower epochs.
    pub fn claimed_epoch(&self, claimer: P) -> Option<Epoch> {
        self.proofs.claimed_epoch(claimer)
    }

    /// Expiries first, then whether `actor` may act at all; the time that counts.
    pub(super) fn begin(
        &mut self,
        actor: P,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<Instant, AuthorityError> {
        self.handle_timeout(now, changes);
        if self.moderation.is_banned(actor, self.now) { Err(AuthorityError::Banned) } else { Ok(self.now) }
    }

    pub(super) fn rearm(&mut self) {
        let rules = self.rules.values().chain([&self.others]);
        let grants = rules.filter_map(|rule| rule.grants.as_ref()?.next_expiry()).min();
        self.deadline = grants.into_iter().chain(self.moderation.next_expiry()).min();
    }

    /// What fell because its granter fell is revoked, too: its certificates must not bring it back.
    pub(super) fn void_cascaded(&mut self, states: StateRange, settled: &Settled<P>) {
        let until = self.void_until();
        for &(granter, grantee) in &settled.cascaded {
            self.voids.add_pair(states, granter, grantee, until, self.limits.grants_per_peer_max);
        }
        self.voids.trim(self.now, until, self.limits.revocations_max);
    }

    /// When the last certificate that could have been signed before now has expired.
    fn void_until(&self) -> Instant {
        self.now + Duration::from_millis(self.limits.proofs.lifetime_ms_max)
    }

    pub(super) fn grants_len(&self) -> usize {
        let rules = self.rules.values().chain([&self.others]);
        rules.map(|rule| rule.grants.as_ref().map_or(0, Grants::len)).sum()
    }

    pub(super) fn rule_of_range(&self, states: StateRange) -> Result<&Rule<P>, AuthorityError> {
        let rule =
            if states == StateRange::ALL { Some(&self.others) } else { self.rules.get(&states.first()) };
        rule.filter(|rule| rule.states == states).ok_or(AuthorityError::UnknownRange(states))
    }

    pub(super) fn rule_of_range_mut(&mut self, states: StateRange) -> Result<&mut Rule<P>, AuthorityError> {
        self.rule_of_range(states)?;
        Ok(if states == StateRange::ALL { &mut self.others } else { self.rule_mut(states.first()) })
    }

    fn check_founder(&self, by: P) -> Result<(), AuthorityError> {
        if by == self.founder { Ok(()) } else { Err(AuthorityError::NotFounder) }
    }

    fn rule(&self, state: StateId) -> &Rule<P> {
        let below = self.rules.range(..=state).next_back();
        below.map(|(_, rule)| rule).filter(|rule| rule.states.contains(state)).unwrap_or(&self.others)
    }

    fn rule_mut(&mut self, state: StateId) -> &mut Rule<P> {
        let below = self.rules.range_mut(..=state).next_back();
        below.map(|(_, rule)| rule).filter(|rule| rule.states.contains(state)).unwrap_or(&mut self.others)
    }

    fn overlapping(&self, states: StateRange) -> Option<StateRange> {
        let below = self.rules.range(..=states.last()).next_back()?.1.states;
        below.overlaps(states).then_some(below)
    }
}

impl<P: WirePeer> AuthoritySet<P> {
    /// Judges a proof: its swarm, validity, epoch, the claimer's right to all the states, its signature; the
    /// signature last, so that nothing else costs more than a look-up. At most one signature check.
    ///
    /// `wall` is the time on the clock that claims are dated with, see [`WallTime`].
    pub fn present(
        &mut self,
        proof: &Proof<P>,
        now: Instant,
        wall: WallTime,
        verifier: &(impl Verifier<P> + ?Sized),
    ) -> Result<Freshness, ProofError> {
        self.proofs.precheck(&proof.claim, wall)?;
        let claim = &proof.claim;
        self.check_write_all(claim.claimer, claim.states, now).map_err(ProofError::NotAuthorised)?;
        self.proofs.check(proof, wall, verifier)
    }
}

impl<P: PeerId> Rule<P> {
    fn new(states: StateRange, policy: Policy<P>, depth_max: u8) -> Self {
        let grants = match policy {
            Policy::Shared { founder } => Some(Grants::new(founder, depth_max)),
            _ => None,
        };
        Self { states, policy, grants, frozen_by: None }
    }

    fn check(&self, peer: P, now: Instant) -> Result<(), WriteRefusal> {
        if self.frozen_by.is_some() {
            return Err(WriteRefusal::Frozen);
        }
        let right = match self.policy {
            Policy::Exclusive { owner } => owner == peer,
            Policy::Shared { .. } => {
                self.grants.as_ref().is_some_and(|grants| grants.level(peer, now).is_some())
            }
            Policy::Open => true,
            Policy::Frozen => return Err(WriteRefusal::Frozen),
        };
        if right { Ok(()) } else { Err(WriteRefusal::NoRight) }
    }

    fn head(&self) -> Option<P> {
        match self.policy {
            Policy::Exclusive { owner } => Some(owner),
            Policy::Shared { founder } => Some(founder),
            Policy::Open | Policy::Frozen => None,
        }
    }

    fn writers(&self) -> impl Iterator<Item = P> + '_ {
        let owner = match self.policy {
            Policy::Exclusive { owner } => Some(owner),
            _ => None,
        };
        owner.into_iter().chain(self.grants.iter().flat_map(Grants::members))
    }

    /// Puts a settled copy in the place of the grants; `cascaded` is what fell in it.
    pub(super) fn replace_grants(&mut self, next: Grants<P>, cascaded: Vec<(P, P)>) -> Settled<P> {
        let old: BTreeSet<P> = self.writers().collect();
        let new: BTreeSet<P> = next.members().collect();
        self.grants = Some(next);
        let gained = new.difference(&old).copied().collect();
        let lost = old.difference(&new).copied().collect();
        Settled { gained, lost, cascaded }
    }

    pub(super) fn report(&self, settled: &Settled<P>, changes: &mut Vec<AuthorityChange<P>>) {
        let states = self.states;
        changes.extend(settled.lost.iter().map(|&peer| AuthorityChange::Lost { peer, states }));
        changes.extend(settled.gained.iter().map(|&peer| AuthorityChange::Gained { peer, states }));
    }
}

/// Whether one more grant fits; replacing one always does.
pub(super) fn check_room<P: PeerId>(
    grants: &Grants<P>,
    granter: P,
    grantee: P,
    total: usize,
    limits: &AuthorityLimits,
) -> Result<(), AuthorityError> {
    if grants.grant(granter, grantee).is_some() {
        return Ok(());
    }
    if granter != grants.root() {
        fits(grants.len_from(granter), 1, "grants_per_peer_max", limits.grants_per_peer_max)?;
    }
    fits(total, 1, "grants_max", limits.grants_max)
}

pub(super) fn check_end(until: Option<Instant>, now: Instant) -> Result<(), AuthorityError> {
    if until.is_some_and(|until| until <= now) { Err(AuthorityError::Lapsed) } else { Ok(()) }
}

fn report<P: PeerId>(
    old: &BTreeSet<P>,
    new: &BTreeSet<P>,
    states: StateRange,
    changes: &mut Vec<AuthorityChange<P>>,
) {
    changes.extend(old.difference(new).map(|&peer| AuthorityChange::Lost { peer, states }));
    changes.extend(new.difference(old).map(|&peer| AuthorityChange::Gained { peer, states }));
}
