//! Who shows the screen: one at a time.
//!
//! A claim is part of a participant's own entry, with the stamp of when it was made. The earliest claim holds the screen; of
//! two at the same time the one of the lower peer. So everybody who has seen the same entries names the same holder, and a
//! loser withdraws as soon as it sees the better claim. A claim can be handed over: it then counts for the other until that
//! one has taken it.

use super::roster::Roster;
use crate::wire::{Handover, Profile, WirePeer};

/// Who holds the screen.
pub(super) fn holder<P: WirePeer>(roster: &Roster<P>) -> Option<P> {
    let best = roster.claims().filter_map(|peer| {
        let profile = roster.profile(peer)?;
        let own = profile.claim_us.map(|claim_us| (claim_us, peer));
        let handed = profile.handover.as_ref().filter(|handover| is_open(roster, handover));
        let handed = handed.map(|handover| (handover.claim_us, handover.to));
        [own, handed].into_iter().flatten().min()
    });
    best.min().map(|(_, peer)| peer)
}

/// What a participant must change in its own entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct FloorChange {
    /// It has lost the screen to whoever holds it.
    pub(super) lost: bool,
    /// It takes a screen that was handed to it: the claim, and the stamp of the hand-over.
    pub(super) takes: Option<(u64, u64)>,
    /// Its own hand-over is over.
    pub(super) handed: bool,
}

/// Looks at the roster with the eyes of `local`, whose own profile is `own`.
pub(super) fn review<P: WirePeer>(roster: &Roster<P>, local: P, own: &Profile<P>) -> FloorChange {
    let takes = roster.claims().filter_map(|peer| {
        let handover = roster.profile(peer)?.handover.as_ref()?;
        (peer != local && handover.to == local && handover.at_us > own.taken_us)
            .then_some((handover.claim_us, handover.at_us))
    });
    let takes = takes.max_by_key(|&(_, at_us)| at_us);
    FloorChange {
        lost: own.claim_us.is_some() && takes.is_none() && holder(roster) != Some(local),
        takes,
        handed: own.handover.as_ref().is_some_and(|handover| !is_open(roster, handover)),
    }
}

/// The others who claim what `local` holds.
pub(super) fn rivals<P: WirePeer>(roster: &Roster<P>, local: P) -> impl Iterator<Item = P> + '_ {
    let claims = |peer: &P| roster.profile(*peer).is_some_and(|profile| profile.claim_us.is_some());
    roster.claims().filter(move |&peer| peer != local).filter(claims)
}

/// Whether a hand-over still waits to be taken.
fn is_open<P: WirePeer>(roster: &Roster<P>, handover: &Handover<P>) -> bool {
    roster.profile(handover.to).is_some_and(|profile| profile.taken_us < handover.at_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;
    use crate::wire::RosterEntry;
    use alloc::vec::Vec;
    use bytes::Bytes;

    fn profile(claim_us: Option<u64>) -> Profile<u64> {
        let metadata = Bytes::new();
        Profile { joined_us: 1, switches: 0, claim_us, handover: None, taken_us: 0, metadata, media: None }
    }

    fn put(roster: &mut Roster<u64>, peer: u64, version: u32, profile: Profile<u64>) {
        let signature = Bytes::new();
        let entry =
            RosterEntry { peer, incarnation: 1, version, status: 0, profile: Some(profile), signature };
        roster.merge(&entry, Instant::ZERO);
    }

    #[test]
    fn the_earlier_claim_holds_and_the_lower_peer_of_two_at_once() {
        let mut roster = Roster::new(9, 9);
        put(&mut roster, 5, 1, profile(Some(30)));
        assert_eq!(holder(&roster), Some(5));
        put(&mut roster, 7, 1, profile(Some(20)));
        assert_eq!(holder(&roster), Some(7));
        put(&mut roster, 6, 1, profile(Some(20)));
        assert_eq!(holder(&roster), Some(6));
        assert!(review(&roster, 5, &profile(Some(30))).lost);
        assert!(!review(&roster, 6, &profile(Some(20))).lost);
        assert_eq!(rivals(&roster, 6).collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn a_handed_claim_counts_until_it_is_taken_and_not_after() {
        let mut roster = Roster::new(9, 9);
        put(&mut roster, 2, 1, profile(None));
        let handover = Some(Handover { to: 2, claim_us: 10, at_us: 40 });
        let giver = Profile { handover, ..profile(None) };
        put(&mut roster, 1, 1, giver.clone());
        assert_eq!(holder(&roster), Some(2), "nobody can slip between");
        assert_eq!(review(&roster, 2, &profile(None)).takes, Some((10, 40)));
        // It takes the screen and puts it down again before the giver has seen either.
        put(&mut roster, 2, 2, Profile { taken_us: 40, ..profile(Some(10)) });
        assert!(review(&roster, 1, &giver).handed);
        put(&mut roster, 2, 3, Profile { taken_us: 40, ..profile(None) });
        assert_eq!(holder(&roster), None);
    }
}
