//! Who is in: one entry for each participant, written by itself, and what others noted about it.
//!
//! Entries form a lattice: of two about one peer the one with the greater life, version and status counts, so everybody who
//! has seen the same entries has the same roster, in whatever order they came. A suspicion, a loss and an eviction are
//! statuses of a version; the participant itself refutes them with its next version.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{Profile, ROSTER_PARTS, RosterEntry, STATUS_GONE, Verdict, WirePeer};

/// The statuses of an entry, in their order.
pub(super) const PRESENT: u8 = 0;
pub(super) const SUSPECTED: u8 = 1;
pub(super) const LOST: u8 = STATUS_GONE;
pub(super) const LEFT: u8 = 3;
pub(super) const SURPLUS: u8 = 4;

/// What is known of one peer.
#[derive(Clone, Debug)]
pub(super) struct Record<P> {
    pub(super) incarnation: u32,
    pub(super) version: u32,
    pub(super) status: u8,
    /// What it said of itself; `None` once it is gone.
    pub(super) profile: Option<Box<Profile<P>>>,
    /// What it signed of that.
    pub(super) signature: Bytes,
    /// When the status was first seen here.
    pub(super) since: Instant,
    /// Whether it is in: present or suspected, and not thrown out.
    listed: bool,
}

/// What an entry changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Merged {
    /// Somebody is in who was not.
    Joined,
    /// Somebody is in again that began a new life while its old one was still in.
    Rejoined,
    /// What a participant says of itself has changed.
    Changed,
    /// Only a suspicion, or its end.
    Noted,
    /// Somebody is not in any more.
    Gone { status: u8 },
    /// Nothing, as it was known.
    Known,
    /// Nothing, as something newer is known.
    Older,
    /// Nothing, for want of room.
    Full,
}

#[derive(Debug)]
pub(super) struct Roster<P> {
    records: BTreeMap<P, Record<P>>,
    /// The newest of a moderator, and the newest of the founder.
    verdicts: BTreeMap<P, [Option<Verdict<P>>; 2]>,
    /// Who is in, in the order of joining.
    order: BTreeSet<(u64, P)>,
    /// Who claims the screen or hands it over.
    claims: BTreeSet<P>,
    /// Who is suspected.
    suspects: BTreeSet<P>,
    parts: Box<[u64; ROSTER_PARTS]>,
    records_max: usize,
    verdicts_max: usize,
    pub(super) participants_max: usize,
    /// Rises whenever the entry of somebody who is in comes, changes or goes.
    revision: u64,
}

impl<P: WirePeer> Roster<P> {
    pub(super) fn new(records_max: usize, verdicts_max: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            order: BTreeSet::new(),
            claims: BTreeSet::new(),
            suspects: BTreeSet::new(),
            parts: Box::new([0; ROSTER_PARTS]),
            records_max,
            verdicts_max,
            participants_max: usize::MAX,
            revision: 0,
        }
    }

    /// Takes an entry in.
    pub(super) fn merge(&mut self, entry: &RosterEntry<P>, now: Instant) -> Merged {
        let peer = entry.peer;
        let gone = entry.status >= STATUS_GONE;
        let key = (entry.incarnation, entry.version, entry.status);
        let before = self.records.get(&peer);
        let was_in = before.is_some_and(|record| record.listed);
        let was = before.map(|record| (record.incarnation, record.version, record.status));
        match was {
            Some(was) if was == key => return Merged::Known,
            Some(was) if was > key => return Merged::Older,
            Some(_) => {}
            None if self.records.len() >= self.records_max && !self.make_room() => return Merged::Full,
            None => {}
        }
        self.unlist(peer);
        let record = Record {
            incarnation: entry.incarnation,
            version: entry.version,
            status: entry.status,
            profile: entry.profile.clone().filter(|_| !gone).map(Box::new),
            signature: entry.signature.clone(),
            since: now,
            listed: false,
        };
        self.records.insert(peer, record);
        match (was_in, self.list(peer)) {
            (false, true) => Merged::Joined,
            (true, false) => Merged::Gone { status: entry.status.max(LOST) },
            // It is worth spreading, but nobody need be told.
            (false, false) => Merged::Noted,
            (true, true) => match was {
                Some((incarnation, _, _)) if incarnation < entry.incarnation => Merged::Rejoined,
                Some((_, version, _)) if version < entry.version => Merged::Changed,
                _ => Merged::Noted,
            },
        }
    }

    /// Takes a verdict in, of the founder or of a moderator; true if it says something new. Whoever it throws out is not in any
    /// more.
    pub(super) fn judge(&mut self, verdict: &Verdict<P>, by_founder: bool) -> bool {
        let peer = verdict.peer;
        if !self.verdicts.contains_key(&peer) && self.has_no_room_for_verdicts() {
            return false;
        }
        let place = usize::from(by_founder);
        let known = self.verdicts.get(&peer).and_then(|verdicts| verdicts[place].as_ref());
        // Who knew the later life knows better.
        let rank = |verdict: &Verdict<P>| (verdict.out, verdict.at_us, verdict.by, verdict.banned);
        if known.is_some_and(|known| rank(known) >= rank(verdict)) {
            return false;
        }
        self.unlist(peer);
        let before = self.ban_hash(peer);
        self.verdicts.entry(peer).or_insert([None, None])[place] = Some(verdict.clone());
        self.add_to_part(peer, self.ban_hash(peer).wrapping_sub(before));
        self.list(peer);
        true
    }

    /// Notes a status beyond the present one; true if it is news.
    pub(super) fn set_status(&mut self, peer: P, status: u8, now: Instant) -> bool {
        if self.records.get(&peer).is_none_or(|record| record.status >= status) {
            return false;
        }
        self.unlist(peer);
        if let Some(record) = self.records.get_mut(&peer) {
            record.status = status;
            record.since = now;
            if status >= STATUS_GONE {
                record.profile = None;
                record.signature = Bytes::new();
            }
        }
        self.list(peer);
        true
    }

    /// The entry about a peer, to be sent.
    pub(super) fn entry(&self, peer: P) -> Option<RosterEntry<P>> {
        self.records.get(&peer).map(|record| RosterEntry {
            peer,
            incarnation: record.incarnation,
            version: record.version,
            status: record.status,
            profile: record.profile.as_deref().cloned(),
            signature: record.signature.clone(),
        })
    }

    pub(super) fn record(&self, peer: P) -> Option<&Record<P>> {
        self.records.get(&peer)
    }

    /// What somebody who is in says of itself.
    pub(super) fn profile(&self, peer: P) -> Option<&Profile<P>> {
        self.records.get(&peer).filter(|record| record.listed)?.profile.as_deref()
    }

    pub(super) fn is_in(&self, peer: P) -> bool {
        self.records.get(&peer).is_some_and(|record| record.listed)
    }

    /// Whether the peer fell silent, and may be back some time.
    pub(super) fn is_lost(&self, peer: P) -> bool {
        self.records.get(&peer).is_some_and(|record| record.status == LOST)
    }

    /// What is decided about a peer.
    pub(super) fn verdicts(&self, peer: P) -> impl Iterator<Item = &Verdict<P>> + '_ {
        self.verdicts.get(&peer).into_iter().flatten().flatten()
    }

    /// Whether the peer is banned. What the founder decides only the founder can undo.
    pub(super) fn is_banned(&self, peer: P) -> bool {
        let Some([by_moderator, by_founder]) = self.verdicts.get(&peer) else { return false };
        let founder_us = by_founder.as_ref().map_or(0, |verdict| verdict.at_us);
        by_founder.as_ref().is_some_and(|verdict| verdict.banned)
            || by_moderator.as_ref().is_some_and(|verdict| verdict.banned && verdict.at_us > founder_us)
    }

    pub(super) fn is_banned_by_founder(&self, peer: P) -> bool {
        let by_founder = self.verdicts.get(&peer).and_then(|verdicts| verdicts[1].as_ref());
        by_founder.is_some_and(|verdict| verdict.banned)
    }

    /// The newest life of a peer that was thrown out.
    pub(super) fn thrown_out(&self, peer: P) -> Option<u32> {
        self.verdicts(peer).filter_map(|verdict| verdict.out).max()
    }

    pub(super) fn has_no_room_for_verdicts(&self) -> bool {
        self.verdicts.len() >= self.verdicts_max
    }

    /// Whether that life of the peer was thrown out, or the peer is banned.
    pub(super) fn is_out(&self, peer: P, incarnation: u32) -> bool {
        self.is_banned(peer) || self.thrown_out(peer) >= Some(incarnation)
    }

    /// Who is in and has a place, in the order of joining.
    pub(super) fn present(&self) -> impl Iterator<Item = P> + '_ {
        self.order.iter().take(self.participants_max).map(|&(_, peer)| peer)
    }

    /// How many are in, those without a place included.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Records kept, those of peers that are gone included.
    pub(super) fn record_count(&self) -> usize {
        self.records.len()
    }

    /// Who came when all places were taken.
    pub(super) fn surplus(&self) -> Vec<P> {
        if self.order.len() <= self.participants_max {
            return Vec::new();
        }
        self.order.iter().skip(self.participants_max).map(|&(_, peer)| peer).collect()
    }

    /// Who claims the screen or hands it over.
    pub(super) fn claims(&self) -> impl Iterator<Item = P> + '_ {
        self.claims.iter().copied()
    }

    pub(super) fn suspects(&self) -> impl Iterator<Item = P> + '_ {
        self.suspects.iter().copied()
    }

    /// Everybody who fell silent.
    pub(super) fn lost(&self) -> impl Iterator<Item = (P, Instant)> + '_ {
        let lost = self.records.iter().filter(|(_, record)| record.status == LOST);
        lost.map(|(&peer, record)| (peer, record.since))
    }

    /// Equal where the same participants say the same of themselves. Suspicions and those who are gone do not count.
    pub(super) fn fingerprint(&self) -> u64 {
        self.parts.iter().fold(0, |sum, &part| sum.wrapping_add(mix(part)))
    }

    pub(super) fn digest(&self) -> Vec<u32> {
        self.parts.iter().map(|&part| (mix(part) >> 32) as u32).collect()
    }

    /// Which parts differ from those of somebody else, one bit each.
    pub(super) fn differing(&self, theirs: &[u32]) -> u64 {
        let pairs = self.digest().into_iter().zip(theirs);
        pairs.enumerate().fold(0, |bits, (part, (own, &other))| bits | u64::from(own != other) << part)
    }

    /// Everybody of whom something is known in these parts.
    pub(super) fn in_parts(&self, parts: u64) -> (Vec<P>, Vec<P>) {
        let inside = |peer: &&P| parts >> part_of(**peer) & 1 == 1;
        (
            self.records.keys().filter(inside).copied().collect(),
            self.verdicts.keys().filter(inside).copied().collect(),
        )
    }

    /// Forgets who has been gone for that long, and thrown-out lives with them. Bans stay.
    pub(super) fn forget_gone(&mut self, age: Duration, now: Instant, now_us: u64) {
        let old = |record: &Record<P>| record.status >= STATUS_GONE && now - record.since >= age;
        let gone: Vec<_> =
            self.records.iter().filter(|(_, record)| old(record)).map(|(&peer, _)| peer).collect();
        for peer in gone {
            self.records.remove(&peer);
        }
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let old = |verdict: &Verdict<P>| now_us.saturating_sub(verdict.at_us) >= age_us;
        let settled = |peer: P| !self.is_banned(peer) && self.verdicts(peer).all(old);
        let settled: Vec<_> = self.verdicts.keys().copied().filter(|&peer| settled(peer)).collect();
        for peer in settled {
            if !self.records.contains_key(&peer) {
                self.verdicts.remove(&peer);
            }
        }
    }

    /// Whoever has been gone longest makes room.
    fn make_room(&mut self) -> bool {
        let gone = self.records.iter().filter(|(_, record)| record.status >= STATUS_GONE);
        let oldest = gone.min_by_key(|(peer, record)| (record.since, **peer)).map(|(&peer, _)| peer);
        oldest.is_some_and(|peer| self.records.remove(&peer).is_some())
    }

    fn unlist(&mut self, peer: P) {
        let Some(record) = self.records.get_mut(&peer).filter(|record| record.listed) else { return };
        record.listed = false;
        let joined_us = record.profile.as_ref().map_or(0, |profile| profile.joined_us);
        let hash = record_hash(peer, record);
        self.order.remove(&(joined_us, peer));
        self.claims.remove(&peer);
        self.suspects.remove(&peer);
        self.revision += 1;
        self.add_to_part(peer, 0u64.wrapping_sub(hash));
    }

    /// Lists a record if it is in, and tells whether it is.
    fn list(&mut self, peer: P) -> bool {
        let Some(record) = self.records.get(&peer) else { return false };
        if record.status >= STATUS_GONE || self.is_out(peer, record.incarnation) {
            return false;
        }
        let Some(record) = self.records.get_mut(&peer) else { return false };
        let Some(profile) = record.profile.as_deref() else { return false };
        record.listed = true;
        let claims = profile.claim_us.is_some() || profile.handover.is_some();
        let (joined_us, suspected) = (profile.joined_us, record.status == SUSPECTED);
        let hash = record_hash(peer, record);
        self.order.insert((joined_us, peer));
        if claims {
            self.claims.insert(peer);
        }
        if suspected {
            self.suspects.insert(peer);
        }
        self.revision += 1;
        self.add_to_part(peer, hash);
        true
    }

    /// What a ban adds to the fingerprint. Who is thrown out is missed there as it is.
    fn ban_hash(&self, peer: P) -> u64 {
        if self.is_banned(peer) { mix(peer.digest().rotate_left(17)) } else { 0 }
    }

    fn add_to_part(&mut self, peer: P, hash: u64) {
        let part = &mut self.parts[part_of(peer)];
        *part = part.wrapping_add(hash);
    }
}

fn part_of<P: WirePeer>(peer: P) -> usize {
    (mix(peer.digest()) % ROSTER_PARTS as u64) as usize
}

fn record_hash<P: WirePeer>(peer: P, record: &Record<P>) -> u64 {
    mix(peer.digest() ^ mix(u64::from(record.incarnation) << 32 | u64::from(record.version)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(peer: u64, incarnation: u32, version: u32, status: u8) -> RosterEntry<u64> {
        let profile = Profile {
            joined_us: u64::from(incarnation) * 100 + peer,
            switches: (version % 4) as u8,
            claim_us: None,
            handover: None,
            taken_us: 0,
            metadata: Bytes::new(),
            media: None,
        };
        let profile = (status < STATUS_GONE).then_some(profile);
        RosterEntry { peer, incarnation, version, status, profile, signature: Bytes::new() }
    }

    fn roster() -> Roster<u64> {
        let mut roster = Roster::new(64, 64);
        roster.participants_max = 4;
        roster
    }

    #[test]
    fn a_new_life_beats_whatever_was_said_of_the_old_one() {
        let mut roster = roster();
        let now = Instant::ZERO;
        assert_eq!(roster.merge(&entry(1, 1, 9, PRESENT), now), Merged::Joined);
        assert_eq!(roster.merge(&entry(1, 1, 9, LOST), now), Merged::Gone { status: LOST });
        assert_eq!(roster.merge(&entry(1, 2, 1, PRESENT), now), Merged::Joined);
        assert_eq!(roster.merge(&entry(1, 1, 10, PRESENT), now), Merged::Older);
    }

    #[test]
    fn a_suspicion_is_refuted_by_the_next_version_only() {
        let mut roster = roster();
        let now = Instant::ZERO;
        roster.merge(&entry(1, 1, 1, PRESENT), now);
        assert!(roster.set_status(1, SUSPECTED, now));
        assert_eq!(roster.merge(&entry(1, 1, 1, PRESENT), now), Merged::Older);
        assert_eq!(roster.suspects().count(), 1);
        assert_eq!(roster.merge(&entry(1, 1, 2, PRESENT), now), Merged::Changed);
        assert_eq!(roster.suspects().count(), 0);
    }

    #[test]
    fn the_last_to_join_have_no_place() {
        let mut roster = roster();
        for peer in [9, 3, 7, 1, 8, 2] {
            roster.merge(&entry(peer, 1, 1, PRESENT), Instant::ZERO);
        }
        assert_eq!(roster.surplus(), [8, 9]);
        assert_eq!(roster.present().collect::<Vec<_>>(), [1, 2, 3, 7]);
    }

    #[test]
    fn a_life_that_was_thrown_out_stays_out() {
        let mut roster = roster();
        let now = Instant::ZERO;
        roster.merge(&entry(1, 3, 1, PRESENT), now);
        let verdict =
            Verdict { peer: 1, by: 2, at_us: 5, out: Some(3), banned: false, signature: Bytes::new() };
        assert!(roster.judge(&verdict, false) && !roster.is_in(1));
        assert_eq!(roster.merge(&entry(1, 3, 7, PRESENT), now), Merged::Noted);
        assert_eq!(roster.merge(&entry(1, 4, 1, PRESENT), now), Merged::Joined);
        let ban = Verdict { at_us: 6, banned: true, ..verdict.clone() };
        assert!(roster.judge(&ban, false) && !roster.is_in(1));
        assert!(!roster.judge(&verdict, false), "an older verdict says nothing new");
        assert_eq!(roster.merge(&entry(1, 5, 1, PRESENT), now), Merged::Noted);
        assert!(!roster.is_in(1));
    }

    #[test]
    fn what_the_founder_decided_only_the_founder_undoes() {
        let mut roster = roster();
        let verdict =
            |by, at_us, banned| Verdict { peer: 1u64, by, at_us, out: None, banned, signature: Bytes::new() };
        roster.judge(&verdict(0, 5, true), true);
        roster.judge(&verdict(2, 6, false), false);
        assert!(roster.is_banned(1));
        roster.judge(&verdict(2, 7, true), false);
        roster.judge(&verdict(0, 8, false), true);
        assert!(!roster.is_banned(1), "an earlier ban of a moderator is undone with it");
        roster.judge(&verdict(2, 9, true), false);
        assert!(roster.is_banned(1));
    }

    proptest! {
        /// Whatever the order in which entries and verdicts come, everybody ends with the same.
        #[test]
        fn rosters_converge(
            entries in prop::collection::vec((0u64..4, 1u32..3, 1u32..4, 0u8..5), 1..24),
            verdicts in prop::collection::vec((0u64..4, 0u64..4, prop::option::of(1u32..3), any::<bool>()), 0..4),
            shuffle in any::<u64>(),
        ) {
            let mut steps: Vec<_> = (0..entries.len() + verdicts.len()).collect();
            let play = |steps: &[usize]| {
                let mut roster = roster();
                for &step in steps.iter().chain(steps) {
                    match entries.get(step) {
                        Some(&(peer, incarnation, version, status)) => {
                            roster.merge(&entry(peer, incarnation, version, status), Instant::ZERO);
                        }
                        None => {
                            let (peer, by, out, banned) = verdicts[step - entries.len()];
                            let at_us = by;
                            roster.judge(&Verdict { peer, by, at_us, out, banned, signature: Bytes::new() }, by == 0);
                        }
                    }
                }
                (roster.fingerprint(), roster.present().collect::<Vec<_>>(), roster.digest())
            };
            let first = play(&steps);
            crate::rng::Rng::new(crate::rng::Seed::from_u64(shuffle)).shuffle(&mut steps);
            prop_assert_eq!(first, play(&steps));
        }
    }
}
