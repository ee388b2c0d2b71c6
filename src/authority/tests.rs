//! Tests of the whole set: policies, delegation, moderation, proofs, chains.

use alloc::format;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::toy::{ToyKeys, ToySigner};
use super::*;
use crate::id::{Epoch, StateId, SwarmId};
use crate::time::Instant;

type Set = AuthoritySet<u32>;
type Changes = Vec<AuthorityChange<u32>>;

const SWARM: SwarmId = SwarmId(7);
const FOUNDER: u32 = 0;
const OWNER: u32 = 1;
const ROOT: u32 = 2;
const STRANGER: u32 = 99;
const NOW: Instant = Instant::from_secs(1);
const OWNED: StateId = StateId(10);
const SHARED: StateId = StateId(25);
const OPEN: StateId = StateId(30);
const FROZEN: StateId = StateId(1_000);

fn shared() -> StateRange {
    StateRange::new(StateId(20), StateId(29)).unwrap()
}

/// 10 is owned, 20 to 29 are shared, 30 is open, all others are frozen.
fn set_with(limits: AuthorityLimits) -> Set {
    let mut set = AuthoritySet::new(SWARM, FOUNDER, Policy::Frozen, limits);
    let out = &mut Vec::new();
    set.set_policy(FOUNDER, StateRange::single(OWNED), Policy::Exclusive { owner: OWNER }, NOW, out).unwrap();
    set.set_policy(FOUNDER, shared(), Policy::Shared { founder: ROOT }, NOW, out).unwrap();
    set.set_policy(FOUNDER, StateRange::single(OPEN), Policy::Open, NOW, out).unwrap();
    set
}

fn set() -> Set {
    set_with(AuthorityLimits::default())
}

fn give(set: &mut Set, from: u32, to: u32, onward: u8) -> Result<Changes, AuthorityError> {
    let mut changes = Vec::new();
    set.grant(from, to, SHARED, GrantTerms::onward(onward), NOW, &mut changes).map(|()| changes)
}

fn take(set: &mut Set, from: u32, to: u32) -> Result<Changes, AuthorityError> {
    let mut changes = Vec::new();
    set.revoke(from, to, SHARED, NOW, &mut changes).map(|()| changes)
}

fn lost(peer: u32) -> AuthorityChange<u32> {
    AuthorityChange::Lost { peer, states: shared() }
}

fn gained(peer: u32) -> AuthorityChange<u32> {
    AuthorityChange::Gained { peer, states: shared() }
}

fn at(ms: u64) -> WallTime {
    WallTime::from_unix_ms(ms)
}

fn link(from: u32, to: u32, onward: u8, epoch: u32) -> SignedCertificate<u32> {
    let certificate = Certificate {
        granter: from,
        grantee: to,
        swarm: SWARM,
        states: shared(),
        epoch: Epoch(epoch),
        valid_from: at(1_000),
        valid_until: at(5_000),
        onward,
    };
    SignedCertificate::sign(certificate, &ToySigner(from))
}

fn resign(
    signed: SignedCertificate<u32>,
    change: impl FnOnce(&mut Certificate<u32>),
) -> SignedCertificate<u32> {
    let mut certificate = signed.certificate;
    change(&mut certificate);
    SignedCertificate::sign(certificate, &ToySigner(certificate.granter))
}

fn present(set: &mut Set, chain: &[SignedCertificate<u32>]) -> (usize, Result<ChainOutcome, ProofError>) {
    let report = set.present_chain(chain, NOW, at(2_000), &ToyKeys, &mut Vec::new());
    (report.signature_checks, report.outcome)
}

#[test]
fn policies_decide_who_writes() {
    let mut set = set();
    give(&mut set, ROOT, 3, 0).unwrap();
    let writers = |state| (0..5).filter(|&peer| set.may_write(peer, state, NOW)).collect::<Vec<_>>();
    assert_eq!(writers(OWNED), [OWNER]);
    assert_eq!(writers(SHARED), [ROOT, 3]);
    assert_eq!(writers(OPEN), [0, 1, 2, 3, 4]);
    assert!(writers(FROZEN).is_empty());
    assert_eq!(set.check_write(3, OWNED, NOW), Err(WriteRefusal::NoRight));
    assert_eq!(set.check_write(3, FROZEN, NOW), Err(WriteRefusal::Frozen));
    assert_eq!(set.range_of(SHARED), shared());
    assert_eq!(set.range_of(FROZEN), StateRange::ALL);
    assert_eq!(set.policy(OPEN), Policy::Open);
    assert_eq!(set.writers(SHARED).collect::<Vec<_>>(), [ROOT, 3]);
}

#[test]
fn a_policy_is_replaced_and_removed_with_its_rights() {
    let mut set = set();
    give(&mut set, ROOT, 3, 0).unwrap();
    let mut changes = Vec::new();
    let policy = Policy::Exclusive { owner: 3 };
    set.set_policy(FOUNDER, shared(), Policy::Shared { founder: ROOT }, NOW, &mut changes).unwrap();
    assert!(changes.is_empty() && set.may_write(3, SHARED, NOW), "the same policy changes nothing");
    set.set_policy(FOUNDER, shared(), policy, NOW, &mut changes).unwrap();
    assert_eq!(changes, [AuthorityChange::PolicySet { states: shared(), policy }, lost(ROOT)]);
    changes.clear();
    set.remove_policy(FOUNDER, shared(), NOW, &mut changes).unwrap();
    let policy = Policy::Frozen;
    assert_eq!(changes, [AuthorityChange::PolicySet { states: shared(), policy }, lost(3)]);
    set.set_policy(FOUNDER, StateRange::ALL, Policy::Shared { founder: 4 }, NOW, &mut changes).unwrap();
    assert!(set.may_write(4, SHARED, NOW) && set.may_write(4, FROZEN, NOW) && !set.may_write(4, OWNED, NOW));
}

#[test]
fn revoking_cascades_but_not_over_another_chain() {
    let mut set = set();
    for (from, to, onward) in [(ROOT, 3, 3), (ROOT, 4, 3), (3, 5, 1), (4, 5, 0), (5, 6, 0), (3, 7, 0)] {
        assert_eq!(give(&mut set, from, to, onward).unwrap().len(), usize::from((from, to) != (4, 5)));
    }
    // 5 stays, by 4, but can grant no more, so 6 falls; 7 falls with 3.
    assert_eq!(take(&mut set, ROOT, 3).unwrap(), [lost(3), lost(6), lost(7)]);
    assert!(set.may_write(5, SHARED, NOW));
    assert_eq!(take(&mut set, 4, 5).unwrap(), [lost(5)]);
    // A new grant brings the peer back, and nobody with it.
    assert_eq!(give(&mut set, ROOT, 3, 3).unwrap(), [gained(3)]);
}

#[test]
fn founders_revoke_whatever_the_granter() {
    for founder in [FOUNDER, ROOT] {
        let mut set = set();
        give(&mut set, ROOT, 3, 3).unwrap();
        give(&mut set, 3, 4, 0).unwrap();
        assert_eq!(take(&mut set, founder, 4).unwrap(), [lost(4)]);
    }
}

#[test]
fn lesser_terms_replace_greater_ones() {
    let mut set = set();
    give(&mut set, ROOT, 3, 3).unwrap();
    give(&mut set, 3, 4, 2).unwrap();
    assert_eq!(give(&mut set, ROOT, 3, 0).unwrap(), [lost(4)]);
}

#[test]
fn grants_end_on_time_with_all_that_hangs_on_them() {
    let (mut set, mut changes) = (set(), Vec::new());
    let end = Instant::from_secs(5);
    set.grant(ROOT, 3, SHARED, GrantTerms::onward(2).until(end), NOW, &mut changes).unwrap();
    give(&mut set, 3, 4, 0).unwrap();
    assert_eq!(set.poll_timeout(), Some(end));
    let before = end - core::time::Duration::from_micros(1);
    assert!(set.may_write(4, SHARED, before) && !set.may_write(4, SHARED, end));
    changes.clear();
    set.handle_timeout(before, &mut changes);
    assert_eq!(changes, []);
    set.handle_timeout(end, &mut changes);
    assert_eq!(changes, [lost(3), lost(4)]);
    assert_eq!(set.poll_timeout(), None);
    assert!(!set.may_write(4, SHARED, Instant::ZERO), "time never falls");
    set.handle_timeout(NOW, &mut changes);
    assert_eq!(set.ban(FOUNDER, 4, Some(end), NOW, &mut changes), Err(AuthorityError::Lapsed));
}

#[test]
fn ownership_is_passed_on() {
    let (mut set, mut changes, states) = (set(), Vec::new(), StateRange::single(OWNED));
    set.transfer(OWNER, 5, OWNED, NOW, &mut changes).unwrap();
    assert_eq!(
        changes,
        [AuthorityChange::Lost { peer: OWNER, states }, AuthorityChange::Gained { peer: 5, states }]
    );
    assert!(set.may_write(5, OWNED, NOW) && !set.may_write(OWNER, OWNED, NOW));
    assert_eq!(set.transfer(OWNER, OWNER, OWNED, NOW, &mut changes), Err(AuthorityError::NotOwner));
    assert_eq!(set.transfer(ROOT, OWNER, SHARED, NOW, &mut changes), Err(AuthorityError::NotExclusive));
    set.transfer(FOUNDER, OWNER, OWNED, NOW, &mut changes).unwrap();
}

#[test]
fn a_freeze_stops_everybody_and_a_thaw_restores() {
    let (mut set, mut changes) = (set(), Vec::new());
    give(&mut set, ROOT, 3, 0).unwrap();
    assert_eq!(set.freeze(3, SHARED, NOW, &mut changes), Err(AuthorityError::NotOwner));
    assert_eq!(set.thaw(ROOT, SHARED, NOW, &mut changes), Err(AuthorityError::NotFrozen));
    set.freeze(ROOT, SHARED, NOW, &mut changes).unwrap();
    assert_eq!(set.freeze(FOUNDER, SHARED, NOW, &mut changes), Err(AuthorityError::AlreadyFrozen));
    assert!(!set.may_write(ROOT, SHARED, NOW) && !set.may_write(3, SHARED, NOW));
    assert_eq!(set.policy(SHARED), Policy::Frozen);
    assert_eq!(set.thaw(3, SHARED, NOW, &mut changes), Err(AuthorityError::NotOwner));
    set.thaw(ROOT, SHARED, NOW, &mut changes).unwrap();
    assert!(set.may_write(3, SHARED, NOW));
    let states = shared();
    assert_eq!(changes, [AuthorityChange::Frozen { states }, AuthorityChange::Thawed { states }]);
    set.freeze(FOUNDER, SHARED, NOW, &mut changes).unwrap();
    assert_eq!(set.thaw(ROOT, SHARED, NOW, &mut changes), Err(AuthorityError::DecidedByFounder));
    set.thaw(FOUNDER, SHARED, NOW, &mut changes).unwrap();
}

#[test]
fn each_refused_grant_or_revocation_has_its_error() {
    let mut set = set();
    give(&mut set, ROOT, 3, 1).unwrap();
    give(&mut set, 3, 4, 0).unwrap();
    let out = &mut Vec::new();
    assert_eq!(give(&mut set, STRANGER, 5, 0), Err(AuthorityError::NotMember));
    assert_eq!(give(&mut set, 4, 5, 0), Err(AuthorityError::Onward { wanted: 0, max: None }));
    assert_eq!(give(&mut set, 3, 5, 1), Err(AuthorityError::Onward { wanted: 1, max: Some(0) }));
    assert_eq!(give(&mut set, ROOT, 5, 8), Err(AuthorityError::Onward { wanted: 8, max: Some(7) }));
    for grantee in [3, ROOT] {
        assert_eq!(give(&mut set, 3, grantee, 0), Err(AuthorityError::Cycle));
    }
    let lapsed = GrantTerms::default().until(NOW);
    assert_eq!(set.grant(ROOT, 5, SHARED, lapsed, NOW, out), Err(AuthorityError::Lapsed));
    assert_eq!(set.grant(OWNER, 5, OWNED, GrantTerms::default(), NOW, out), Err(AuthorityError::NotShared));
    assert_eq!(set.revoke(OWNER, 5, OPEN, NOW, out), Err(AuthorityError::NotShared));
    assert_eq!(take(&mut set, 3, ROOT), Err(AuthorityError::Founder));
    assert_eq!(take(&mut set, 4, 3), Err(AuthorityError::OwnGranter));
    assert_eq!(take(&mut set, STRANGER, 3), Err(AuthorityError::NotMember));
    assert_eq!(take(&mut set, 3, 5), Err(AuthorityError::NotGranted));
    assert_eq!(take(&mut set, ROOT, 5), Err(AuthorityError::NotGranted));
    assert!(set.may_write(3, SHARED, NOW) && set.may_write(4, SHARED, NOW));
}

#[test]
fn each_refused_policy_has_its_error() {
    let (mut set, out) = (set(), &mut Vec::new());
    let policy = Policy::Open;
    let wide = StateRange::new(StateId(0), StateId(20)).unwrap();
    assert_eq!(set.set_policy(OWNER, wide, policy, NOW, out), Err(AuthorityError::NotFounder));
    let overlap = Err(AuthorityError::Overlap { with: shared() });
    assert_eq!(set.set_policy(FOUNDER, wide, policy, NOW, out), overlap);
    let inside = StateRange::single(SHARED);
    assert_eq!(set.set_policy(FOUNDER, inside, policy, NOW, out), overlap);
    for range in [wide, inside, StateRange::ALL] {
        assert_eq!(set.remove_policy(FOUNDER, range, NOW, out), Err(AuthorityError::UnknownRange(range)));
    }
    assert_eq!(set.remove_policy(OWNER, shared(), NOW, out), Err(AuthorityError::NotFounder));
}

#[test]
fn tables_are_bounded() {
    let limits = AuthorityLimits {
        policies_max: 3,
        grants_max: 4,
        grants_per_peer_max: 1,
        moderators_max: 1,
        mutes_max: 2,
        mutes_per_peer_max: 1,
        bans_max: 1,
        ..AuthorityLimits::default()
    };
    let (mut set, out) = (set_with(limits), &mut Vec::new());
    let full = |limit, max| Err(AuthorityError::Full { limit, max });
    assert_eq!(
        set.set_policy(FOUNDER, StateRange::single(FROZEN), Policy::Open, NOW, out),
        full("policies_max", 3)
    );
    give(&mut set, ROOT, 3, 3).unwrap();
    give(&mut set, 3, 4, 0).unwrap();
    assert_eq!(give(&mut set, 3, 5, 0).map(drop), full("grants_per_peer_max", 1));
    give(&mut set, ROOT, 5, 0).unwrap();
    give(&mut set, ROOT, 6, 0).unwrap();
    assert_eq!(give(&mut set, ROOT, 7, 0).map(drop), full("grants_max", 4));
    give(&mut set, ROOT, 6, 1).unwrap();

    set.appoint(FOUNDER, 3, NOW, out).unwrap();
    assert_eq!(set.appoint(FOUNDER, 4, NOW, out), full("moderators_max", 1));
    let end = Some(Instant::from_secs(9));
    set.mute(3, 50, shared(), end, NOW, out).unwrap();
    set.mute(3, 50, shared(), None, NOW, out).unwrap();
    assert_eq!(set.mute(3, 50, StateRange::ALL, None, NOW, out), full("mutes_per_peer_max", 1));
    let middle = StateRange::single(SHARED);
    assert_eq!(set.unmute(3, 50, middle, NOW, out), full("mutes_per_peer_max", 1));
    set.mute(3, 51, shared(), None, NOW, out).unwrap();
    assert_eq!(set.mute(3, 52, shared(), None, NOW, out), full("mutes_max", 2));
    set.ban(3, 50, end, NOW, out).unwrap();
    assert_eq!(set.ban(3, 51, None, NOW, out), full("bans_max", 1));
    // What was lifted makes room, and so does what has expired.
    for peer in 60..70 {
        set.unmute(3, if peer == 60 { 51 } else { peer - 1 }, shared(), NOW, out).unwrap();
        set.mute(3, peer, shared(), None, NOW, out).unwrap();
    }
    set.ban(3, 51, None, Instant::from_secs(9), out).unwrap();
}

#[test]
fn moderators_mute_and_unmute() {
    let (mut set, mut changes) = (set(), Vec::new());
    set.appoint(FOUNDER, 3, NOW, &mut changes).unwrap();
    assert!(set.is_moderator(3) && set.moderators().eq([3]));
    let (chat, end) = (StateRange::single(OPEN), Instant::from_secs(5));
    changes.clear();
    set.mute(3, 8, chat, Some(end), NOW, &mut changes).unwrap();
    assert_eq!(changes, [AuthorityChange::Muted { peer: 8, states: chat, until: Some(end) }]);
    assert_eq!(set.check_write(8, OPEN, NOW), Err(WriteRefusal::Muted));
    assert!(set.is_muted(8, OPEN, NOW) && !set.is_muted(8, SHARED, NOW) && set.may_write(9, OPEN, NOW));
    assert_eq!(set.poll_timeout(), Some(end));
    assert!(set.may_write(8, OPEN, end));
    changes.clear();
    set.handle_timeout(end, &mut changes);
    assert_eq!(changes, [AuthorityChange::Unmuted { peer: 8, states: chat }]);

    // A wide mute is lifted in part.
    set.mute(3, 8, StateRange::ALL, None, end, &mut changes).unwrap();
    set.unmute(3, 8, chat, end, &mut changes).unwrap();
    assert!(
        set.may_write(8, OPEN, end) && set.is_muted(8, StateId(29), end) && set.is_muted(8, StateId(31), end)
    );
    set.unmute(3, 8, StateRange::ALL, end, &mut changes).unwrap();
    assert!(!set.is_muted(8, StateId(29), end));
    assert_eq!(set.unmute(3, 8, StateRange::ALL, end, &mut changes), Err(AuthorityError::NotMuted));

    set.dismiss(FOUNDER, 3, end, &mut changes).unwrap();
    assert_eq!(set.mute(3, 8, chat, None, end, &mut changes), Err(AuthorityError::NotModerator));
}

#[test]
fn a_ban_stops_every_act() {
    let (mut set, mut changes) = (set(), Vec::new());
    give(&mut set, ROOT, 3, 3).unwrap();
    set.appoint(FOUNDER, 4, NOW, &mut changes).unwrap();
    set.ban(4, 3, Some(Instant::from_secs(5)), NOW, &mut changes).unwrap();
    assert!(set.is_banned(3, NOW));
    assert_eq!(set.check_write(3, OPEN, NOW), Err(WriteRefusal::Banned));
    assert_eq!(set.check_write_all(3, shared(), NOW), Err(WriteRefusal::Banned));
    assert_eq!(give(&mut set, 3, 5, 0), Err(AuthorityError::Banned));
    assert_eq!(present(&mut set, &[link(3, 5, 0, 1)]), (0, Err(AuthorityError::Banned.into())));
    changes.clear();
    set.handle_timeout(Instant::from_secs(5), &mut changes);
    assert_eq!(changes, [AuthorityChange::Unbanned { peer: 3 }]);
    assert!(set.may_write(3, SHARED, NOW));
    assert_eq!(set.unban(4, 3, NOW, &mut changes), Err(AuthorityError::NotBanned));
    set.ban(4, 3, None, NOW, &mut changes).unwrap();
    set.unban(4, 3, NOW, &mut changes).unwrap();
}

#[test]
fn the_founder_stands_above_moderators() {
    let (mut set, out) = (set(), &mut Vec::new());
    let all = StateRange::ALL;
    assert_eq!(set.appoint(3, 3, NOW, out), Err(AuthorityError::NotFounder));
    assert_eq!(set.appoint(FOUNDER, FOUNDER, NOW, out), Err(AuthorityError::Founder));
    set.appoint(FOUNDER, 3, NOW, out).unwrap();
    set.appoint(FOUNDER, 4, NOW, out).unwrap();
    assert_eq!(set.appoint(FOUNDER, 4, NOW, out), Err(AuthorityError::AlreadyModerator));
    assert_eq!(set.dismiss(3, 4, NOW, out), Err(AuthorityError::NotFounder));
    assert_eq!(set.dismiss(FOUNDER, 5, NOW, out), Err(AuthorityError::NoSuchModerator));
    for by in [3, FOUNDER] {
        assert_eq!(set.mute(by, FOUNDER, all, None, NOW, out), Err(AuthorityError::Founder));
        assert_eq!(set.ban(by, FOUNDER, None, NOW, out), Err(AuthorityError::Founder));
    }
    assert_eq!(set.mute(3, 4, all, None, NOW, out), Err(AuthorityError::Moderator));
    assert_eq!(set.ban(3, 4, None, NOW, out), Err(AuthorityError::Moderator));
    assert_eq!(set.ban(5, 6, None, NOW, out), Err(AuthorityError::NotModerator));
    assert_eq!(set.unban(5, 6, NOW, out), Err(AuthorityError::NotModerator));
    assert_eq!(set.ban(3, 6, Some(NOW), NOW, out), Err(AuthorityError::Lapsed));
    assert_eq!(set.mute(3, 6, all, Some(NOW), NOW, out), Err(AuthorityError::Lapsed));

    set.mute(FOUNDER, 6, all, None, NOW, out).unwrap();
    set.ban(FOUNDER, 6, None, NOW, out).unwrap();
    assert_eq!(set.unmute(3, 6, all, NOW, out), Err(AuthorityError::DecidedByFounder));
    assert_eq!(set.unban(3, 6, NOW, out), Err(AuthorityError::DecidedByFounder));
    assert_eq!(set.ban(3, 6, Some(Instant::from_secs(2)), NOW, out), Err(AuthorityError::DecidedByFounder));
    // A moderator's shorter mute does not soften the founder's.
    set.mute(3, 6, all, Some(Instant::from_secs(2)), NOW, out).unwrap();
    set.unban(FOUNDER, 6, NOW, out).unwrap();
    set.unmute(3, 6, all, NOW, out).unwrap();
    assert_eq!(set.unmute(3, 6, all, NOW, out), Err(AuthorityError::DecidedByFounder));
    assert!(set.is_muted(6, OPEN, Instant::from_secs(3)));
    set.ban(FOUNDER, 4, None, NOW, out).unwrap();
    assert_eq!(set.mute(4, 9, all, None, NOW, out), Err(AuthorityError::Banned));
}

#[test]
fn a_claim_must_be_covered_as_a_whole() {
    let mut set = set();
    let claim = |claimer, first, last, epoch| {
        let claim = Claim {
            claimer,
            swarm: SWARM,
            states: StateRange::new(StateId(first), StateId(last)).unwrap(),
            epoch: Epoch(epoch),
            valid_from: at(1_000),
            valid_until: at(5_000),
        };
        Proof::sign(claim, &ToySigner(claimer))
    };
    let mut present = |proof| set.present(&proof, NOW, at(2_000), &ToyKeys);
    let refused = |refusal| Err(ProofError::NotAuthorised(refusal));
    assert_eq!(present(claim(OWNER, 10, 10, 4)), Ok(Freshness::New));
    assert_eq!(present(claim(OWNER, 10, 10, 4)), Ok(Freshness::Repeated));
    assert_eq!(present(claim(OWNER, 10, 10, 3)), Err(ProofError::Stale { seen: Epoch(4) }));
    assert_eq!(present(claim(OWNER, 10, 11, 5)), refused(WriteRefusal::Frozen));
    assert_eq!(present(claim(OWNER, 9, 10, 5)), refused(WriteRefusal::Frozen));
    assert_eq!(present(claim(OWNER, 29, 30, 5)), refused(WriteRefusal::NoRight));
    assert_eq!(present(claim(ROOT, 20, 30, 1)), Ok(Freshness::New));
    assert_eq!(present(claim(ROOT, 20, 31, 2)), refused(WriteRefusal::Frozen));
    assert_eq!(present(claim(ROOT, 30, u64::MAX, 2)), refused(WriteRefusal::Frozen));
    assert_eq!(set.claimed_epoch(OWNER), Some(Epoch(4)));
    set.mute(FOUNDER, ROOT, StateRange::single(OPEN), None, NOW, &mut Vec::new()).unwrap();
    let proof = claim(ROOT, 20, 30, 1);
    assert_eq!(set.present(&proof, NOW, at(2_000), &ToyKeys), refused(WriteRefusal::Muted));
}

#[test]
fn a_chain_grants_all_or_nothing() {
    let (mut set, mut changes) = (set(), Vec::new());
    let chain = [link(ROOT, 3, 2, 1), link(3, 4, 1, 1), link(4, 5, 0, 1)];
    let report = set.present_chain(&chain, NOW, at(2_000), &ToyKeys, &mut changes);
    assert_eq!(report, ChainReport { signature_checks: 3, outcome: Ok(ChainOutcome::Granted) });
    assert_eq!(changes, [gained(3), gained(4), gained(5)]);
    assert_eq!(present(&mut set, &chain), (3, Ok(ChainOutcome::Known)));
    // It can begin at anybody with a live grant, and ends with its validity.
    assert_eq!(present(&mut set, &[link(4, 6, 0, 1)]), (1, Ok(ChainOutcome::Granted)));
    assert!(set.may_write(6, SHARED, Instant::from_micros(3_999_999)));
    assert!(!set.may_write(6, SHARED, Instant::from_secs(4)), "3 s of validity were left at 1 s");

    let mut half = set_with(AuthorityLimits { grants_max: 2, ..AuthorityLimits::default() });
    let before = format!("{half:?}");
    let full = AuthorityError::Full { limit: "grants_max", max: 2 };
    assert_eq!(present(&mut half, &chain), (3, Err(full.into())));
    assert_eq!(format!("{half:?}"), before);
}

#[test]
fn each_refused_chain_has_its_error() {
    let mut set = set();
    give(&mut set, ROOT, 9, 0).unwrap();
    let good = link(ROOT, 3, 2, 1);
    let mut refused = |chain: &[_]| {
        let before = format!("{set:?}");
        let (checks, outcome) = present(&mut set, chain);
        assert_eq!(format!("{set:?}"), before);
        (checks, outcome.unwrap_err())
    };
    assert_eq!(refused(&[]), (0, ProofError::ChainLength { certificates: 0, max: 8 }));
    assert_eq!(refused(&[good; 9]), (0, ProofError::ChainLength { certificates: 9, max: 8 }));
    let broken =
        [link(4, 5, 1, 1), link(3, 4, 2, 1), resign(link(3, 4, 1, 1), |it| it.states = StateRange::ALL)];
    for next in broken {
        assert_eq!(refused(&[good, next]), (0, ProofError::ChainBroken { at: 1 }));
    }
    let elsewhere = resign(good, |it| it.swarm = SwarmId(8));
    assert_eq!(refused(&[elsewhere]), (0, ProofError::WrongSwarm(SwarmId(8))));
    let expired = resign(good, |it| it.valid_until = at(2_000));
    assert_eq!(refused(&[expired]), (0, ProofError::Expired(at(2_000))));
    let early = resign(good, |it| it.valid_from = at(2_001));
    assert_eq!(refused(&[early]), (0, ProofError::NotYetValid(at(2_001))));
    let long = resign(good, |it| it.valid_until = at(1_001 + 86_400_000));
    let lifetime = ProofError::Lifetime { lifetime_ms: 86_400_001, max: 86_400_000 };
    assert_eq!(refused(&[long]), (0, lifetime));
    let range = StateRange::single(SHARED);
    let part = resign(good, |it| it.states = range);
    assert_eq!(refused(&[part]), (0, AuthorityError::UnknownRange(range).into()));
    let open = resign(good, |it| it.states = StateRange::single(OPEN));
    assert_eq!(refused(&[open]), (0, AuthorityError::NotShared.into()));
    assert_eq!(refused(&[link(STRANGER, 3, 0, 1)]), (0, AuthorityError::NotMember.into()));
    assert_eq!(refused(&[link(9, 3, 0, 1)]), (0, AuthorityError::Onward { wanted: 0, max: None }.into()));
    let forged = SignedCertificate { signature: link(ROOT, 4, 2, 1).signature, ..good };
    assert_eq!(refused(&[forged, link(3, 4, 1, 1)]), (1, ProofError::BadSignature));
    let forged = SignedCertificate { signature: good.signature, ..link(3, 4, 1, 1) };
    assert_eq!(refused(&[good, forged]), (2, ProofError::BadSignature));
    assert_eq!(refused(&[good, link(3, 4, 1, 1), link(4, 3, 0, 1)]), (3, AuthorityError::Cycle.into()));
}

#[test]
fn newer_certificates_win_and_direct_grants_stand() {
    let mut set = set();
    assert_eq!(present(&mut set, &[link(ROOT, 3, 2, 5)]).1, Ok(ChainOutcome::Granted));
    let stale = Err(ProofError::Stale { seen: Epoch(5) });
    assert_eq!(present(&mut set, &[link(ROOT, 3, 7, 4)]), (0, stale));
    assert_eq!(present(&mut set, &[link(ROOT, 3, 3, 5)]), (0, stale));
    assert_eq!(present(&mut set, &[link(3, 4, 0, 1)]).1, Ok(ChainOutcome::Granted));
    assert_eq!(present(&mut set, &[link(ROOT, 3, 0, 6)]).1, Ok(ChainOutcome::Granted));
    assert!(!set.may_write(4, SHARED, NOW), "the newer certificate allows nothing onward");
    give(&mut set, ROOT, 3, 4).unwrap();
    assert_eq!(present(&mut set, &[link(ROOT, 3, 0, 7)]).1, Ok(ChainOutcome::Known));
    assert!(give(&mut set, 3, 4, 3).is_ok());
}

#[test]
fn a_revoked_certificate_does_not_come_back() {
    let mut set = set();
    let chain = [link(ROOT, 3, 2, 1), link(3, 4, 1, 1), link(4, 5, 0, 1)];
    present(&mut set, &chain).1.unwrap();
    take(&mut set, 3, 4).unwrap();
    assert_eq!(present(&mut set, &chain), (0, Err(ProofError::Revoked { at: 1 })));
    assert_eq!(present(&mut set, &[link(3, 4, 1, 2)]), (0, Err(ProofError::Revoked { at: 0 })));
    // A direct grant says that the revocation is over, for this pair and for nobody behind it.
    give(&mut set, 3, 4, 1).unwrap();
    assert_eq!(present(&mut set, &chain), (0, Err(ProofError::Revoked { at: 2 })));
    // Also certificates that were never seen before the revocation, and whoever gave them.
    assert_eq!(take(&mut set, ROOT, 8), Err(AuthorityError::NotGranted));
    assert_eq!(present(&mut set, &[link(3, 8, 0, 1)]), (0, Err(ProofError::Revoked { at: 0 })));
    // Neither a new policy nor its removal forgets it.
    let out = &mut Vec::new();
    set.remove_policy(FOUNDER, shared(), NOW, out).unwrap();
    set.set_policy(FOUNDER, shared(), Policy::Shared { founder: ROOT }, NOW, out).unwrap();
    assert_eq!(present(&mut set, &[link(ROOT, 8, 0, 1)]), (0, Err(ProofError::Revoked { at: 0 })));
}

#[derive(Clone, Debug)]
enum Act {
    Grant(u32, u32, u8, Option<u64>),
    Chain(u32, u32, u8, u32),
    Revoke(u32, u32),
    Freeze(u32, bool),
    Moderate(u32, u32, u8, Option<u64>),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let (a, b) = (0u32..7, 0u32..7);
    let end = || prop::option::weighted(0.5, 1u64..20);
    prop_oneof![
        4 => (a.clone(), b.clone(), 0u8..4, end()).prop_map(|(a, b, onward, end)| Act::Grant(a, b, onward, end)),
        2 => (a.clone(), b.clone(), 0u8..4, 0u32..3).prop_map(|(a, b, onward, epoch)| Act::Chain(a, b, onward, epoch)),
        2 => (a.clone(), b.clone()).prop_map(|(a, b)| Act::Revoke(a, b)),
        1 => (a.clone(), any::<bool>()).prop_map(|(a, thaw)| Act::Freeze(a, thaw)),
        2 => (a, b, 0u8..6, end()).prop_map(|(a, b, what, end)| Act::Moderate(a, b, what, end)),
        1 => (1u64..10).prop_map(Act::Wait),
    ]
}

proptest! {
    #[test]
    fn errors_change_nothing_and_changes_tell_all(acts in prop::collection::vec(act(), 1..80)) {
        let mut limits = AuthorityLimits::default();
        (limits.grants_max, limits.grants_per_peer_max, limits.revocations_max) = (8, 3, 6);
        (limits.mutes_max, limits.mutes_per_peer_max, limits.bans_max) = (4, 2, 2);
        let mut set = set_with(limits);
        let (mut now, mut changes) = (NOW, Vec::new());
        let mut known: Vec<u32> = set.writers(SHARED).collect();
        for act in acts {
            let end = |end: Option<u64>| end.map(|secs| now + core::time::Duration::from_secs(secs));
            let wall = at(now.as_micros() / 1_000);
            changes.clear();
            set.handle_timeout(now, &mut changes);
            let before = set.clone();
            let out = &mut changes;
            let outcome = match act {
                Act::Grant(from, to, onward, until) => {
                    set.grant(from, to, SHARED, GrantTerms { onward, until: end(until) }, now, out)
                }
                Act::Chain(from, to, onward, epoch) => {
                    let chain = [link(from, to, onward, epoch)];
                    let report = set.present_chain(&chain, now, wall, &ToyKeys, out);
                    report.outcome.map(drop).map_err(|_| AuthorityError::NotMember)
                }
                Act::Revoke(from, to) => {
                    let outcome = set.revoke(from, to, SHARED, now, out);
                    if outcome == Err(AuthorityError::OwnGranter) {
                        prop_assert!(set.may_write(to, SHARED, now) == before.may_write(to, SHARED, now));
                    }
                    outcome
                }
                Act::Freeze(by, false) => set.freeze(by, SHARED, now, out),
                Act::Freeze(by, true) => set.thaw(by, SHARED, now, out),
                Act::Moderate(by, peer, what, until) => match what {
                    0 => set.appoint(by, peer, now, out),
                    1 => set.dismiss(by, peer, now, out),
                    2 => set.mute(by, peer, StateRange::single(StateId(20 + u64::from(peer))), end(until), now, out),
                    3 => set.unmute(by, peer, shared(), now, out),
                    4 => set.ban(by, peer, end(until), now, out),
                    _ => set.unban(by, peer, now, out),
                },
                Act::Wait(secs) => {
                    now += core::time::Duration::from_secs(secs);
                    Ok(())
                }
            };
            if outcome.is_err_and(|error| error != AuthorityError::NotGranted) {
                prop_assert_eq!(format!("{:?}", set), format!("{:?}", before), "{:?}", outcome);
            }
            for change in &changes {
                match *change {
                    AuthorityChange::Gained { peer, .. } => {
                        prop_assert!(!known.contains(&peer));
                        known.push(peer);
                    }
                    AuthorityChange::Lost { peer, .. } => {
                        prop_assert!(known.contains(&peer));
                        known.retain(|&other| other != peer);
                    }
                    _ => {}
                }
            }
            known.sort_unstable();
            prop_assert_eq!(&known, &set.writers(SHARED).collect::<Vec<_>>());
            prop_assert!(known.contains(&ROOT));
            prop_assert!(!set.is_banned(FOUNDER, now) && !set.is_muted(FOUNDER, SHARED, now));
        }
    }
}
