//! Who is not taken as a neighbour: those that brought nothing, those that come and go, and crowds from one network.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Ask, LOSS_SPAN, ViewAction, Views};
use crate::config::MembershipConfig;
use crate::id::PeerId;
use crate::time::Instant;
use crate::wire::{MembershipMessage, NeighborRequest, WirePeer};

/// How long a neighbour that brought nothing is not asked again.
const PARTED_FOR: Duration = Duration::from_secs(60);

/// Such peers, at most; the one parted from first makes room.
const PARTED_MAX: usize = 32;

/// Peers that this node has parted from, with the time until which it asks them no more.
#[derive(Debug)]
pub(super) struct Parted<P>(Vec<(P, Instant)>);

impl<P> Default for Parted<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A neighbour that stays so long is steady: when it goes then, it was no flap.
const STEADY: Duration = Duration::from_secs(60);

/// A peer that did not flap for so long begins anew.
const FLAPS_FORGOTTEN: Duration = Duration::from_secs(600);

/// The pause of a peer that flaps doubles so many times, at most.
const PAUSE_DOUBLINGS: u32 = 6;

/// Peers that flap of which is known, at most; the one that flapped longest ago makes room.
const FLAPPING_MAX: usize = 32;

/// Peers that were neighbours for a short time only, and how often in a row.
#[derive(Debug)]
pub(super) struct Flapping<P>(Vec<Flaps<P>>);

#[derive(Clone, Copy, Debug)]
struct Flaps<P> {
    peer: P,
    count: u32,
    last: Instant,
}

impl<P> Default for Flapping<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P: PeerId> Flapping<P> {
    /// A neighbour has gone that was one since `since`. The first time may happen to anybody.
    fn note(&mut self, peer: P, since: Instant, now: Instant) {
        let known = self.0.iter().position(|flaps| flaps.peer == peer).map(|place| self.0.remove(place));
        if now - since >= STEADY {
            return;
        }
        let before = known.filter(|flaps| now - flaps.last < FLAPS_FORGOTTEN).map_or(0, |flaps| flaps.count);
        if self.0.len() >= FLAPPING_MAX {
            self.0.remove(0);
        }
        self.0.reserve_exact(1);
        self.0.push(Flaps { peer, count: before.saturating_add(1), last: now });
    }

    /// Those that went within the last `span` were not the only ones: this time does not count.
    fn pardon(&mut self, span: Duration, now: Instant) {
        for flaps in self.0.iter_mut().filter(|flaps| now - flaps.last <= span) {
            flaps.count = flaps.count.saturating_sub(1);
        }
        self.0.retain(|flaps| flaps.count > 0);
    }

    /// Whether a peer has flapped so lately that it must wait, with this pause after its second flap.
    fn must_wait(&self, peer: P, pause: Duration, now: Instant) -> bool {
        let Some(flaps) = self.0.iter().find(|flaps| flaps.peer == peer) else { return false };
        let Some(doublings) = flaps.count.checked_sub(2) else { return false };
        now - flaps.last < pause * (1 << doublings.min(PAUSE_DOUBLINGS))
    }
}

/// The address prefixes of peers, as far as the host has told them.
#[derive(Debug)]
pub(super) struct Prefixes<P> {
    keys: BTreeMap<P, u64>,
    /// Room for the views twice over. When full, one that is neither neighbour nor known otherwise makes room.
    max: usize,
}

impl<P: PeerId> Prefixes<P> {
    pub(super) fn new(config: &MembershipConfig) -> Self {
        Self { keys: BTreeMap::new(), max: 2 * (config.passive_max + config.active_max) }
    }
}

impl<P: WirePeer> Views<P> {
    /// Tells the prefix of a peer's address as a key that only the host understands: peers with equal keys come from one
    /// network, and no more than [`MembershipConfig::prefix_max`] of them are neighbours at a time. The newest go.
    pub fn set_prefix(&mut self, peer: P, prefix: u64, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if !self.prefixes.keys.contains_key(&peer) && self.prefixes.keys.len() >= self.prefixes.max {
            let spare = self.prefixes.keys.keys().copied().find(|&known| !self.is_known(known));
            match spare {
                Some(spare) => _ = self.prefixes.keys.remove(&spare),
                None => return,
            }
        }
        self.prefixes.keys.insert(peer, prefix);
        if self.is_neighbor(peer) && self.crowds(peer) {
            self.stats.crowded += 1;
            self.dismiss(peer, now, actions);
        }
    }

    /// Parts from a neighbour that brought nothing, unless there is hardly anybody else. It is not asked again for a while,
    /// and taken only if it has nobody else.
    pub fn part_from(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        if !self.is_neighbor(peer) || self.active.len() <= self.config.active_target / 2 {
            return;
        }
        self.stats.parted += 1;
        self.parted.0.retain(|&(other, until)| other != peer && until > now);
        if self.parted.0.len() >= PARTED_MAX {
            self.parted.0.remove(0);
        }
        self.parted.0.push((peer, now + PARTED_FOR));
        self.passive.remove(peer);
        self.dismiss(peer, now, actions);
    }

    /// Whether a peer may become a neighbour, as far as its past and its address go.
    pub(super) fn welcomes(&mut self, peer: P, now: Instant) -> bool {
        self.is_bearable(peer, now) && !self.is_parted(peer, now)
    }

    /// Whether a peer may become a neighbour if it has nobody else.
    pub(super) fn is_bearable(&mut self, peer: P, now: Instant) -> bool {
        let (crowds, flaps) = (self.crowds(peer), self.flaps(peer, now));
        self.stats.crowded += u64::from(crowds);
        self.stats.damped += u64::from(flaps);
        !crowds && !flaps
    }

    /// A neighbour has gone. If it comes and goes, it is not taken again for a while: each time the trees through it break. Not if
    /// many go at once: then it is the network that comes and goes.
    pub(super) fn note_flap(&mut self, peer: P, now: Instant) {
        let Some(neighbor) = self.active.iter().find(|neighbor| neighbor.peer == peer) else { return };
        let since = neighbor.since;
        if self.is_breaking(now) {
            self.flapping.pardon(LOSS_SPAN, now);
        } else if self.config.flap_pause.is_some() {
            self.flapping.note(peer, since, now);
        }
    }

    /// Whether a peer was lost after a short stay within the last `span`.
    pub(super) fn has_flapped(&self, peer: P, span: Duration, now: Instant) -> bool {
        self.flapping.0.iter().any(|flaps| flaps.peer == peer && now - flaps.last <= span)
    }

    /// Whether a peer comes and goes, so that it is no neighbour for now. Better one such than none at all.
    fn flaps(&self, peer: P, now: Instant) -> bool {
        let pause = self.config.flap_pause.filter(|_| !self.active.is_empty());
        pause.is_some_and(|pause| self.flapping.must_wait(peer, pause, now))
    }

    /// Whether as many neighbours as may be share the prefix of a peer.
    pub(super) fn crowds(&self, peer: P) -> bool {
        let Some(key) = self.prefixes.keys.get(&peer) else { return false };
        let alike = |other: &P| *other != peer && self.prefixes.keys.get(other) == Some(key);
        self.neighbors().filter(alike).count() >= self.config.prefix_max
    }

    /// Whether a request to a peer makes sense. One that joins two parts of a broken swarm always does.
    pub(super) fn may_ask(&self, peer: P, ask: Ask<P>, now: Instant) -> bool {
        match ask {
            Ask::Join => true,
            Ask::Probe | Ask::Neighbor(NeighborRequest::High) => !self.crowds(peer) && !self.flaps(peer, now),
            Ask::Neighbor(_) => !self.crowds(peer) && !self.flaps(peer, now) && !self.is_parted(peer, now),
        }
    }

    /// Peers of the passive view that would not be asked now.
    pub(super) fn unwelcome(&self, now: Instant) -> Vec<P> {
        if self.parted.0.is_empty() && self.flapping.0.is_empty() && self.prefixes.keys.is_empty() {
            return Vec::new();
        }
        let low = Ask::Neighbor(NeighborRequest::Low);
        self.passive.iter().filter(|&peer| !self.may_ask(peer, low, now)).collect()
    }

    fn is_parted(&self, peer: P, now: Instant) -> bool {
        self.parted.0.iter().any(|&(other, until)| other == peer && until > now)
    }

    fn is_known(&self, peer: P) -> bool {
        self.is_neighbor(peer) || self.is_pending(peer) || self.passive.iter().any(|other| other == peer)
    }

    fn dismiss(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        actions.push(ViewAction::Send { to: peer, message: MembershipMessage::Bye { leaving: false } });
        self.drop_neighbor(peer, now, actions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SwarmId;
    use crate::rng::Seed;

    const SWARM: SwarmId = SwarmId(9);
    const FLAPPER: u64 = 7;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    fn views(config: MembershipConfig) -> Views<u64> {
        let mut views = Views::new(1, SWARM, config, 1_200, Seed::from_u64(1), Instant::ZERO);
        for peer in 10..14 {
            assert!(comes(&mut views, peer, at(0)));
        }
        views
    }

    /// A peer that has nobody else asks; whether it is taken.
    fn comes(views: &mut Views<u64>, peer: u64, now: Instant) -> bool {
        let message = MembershipMessage::Neighbor { swarm: SWARM, request: NeighborRequest::High };
        views.handle_message(peer, message, now, &mut Vec::new());
        views.is_neighbor(peer)
    }

    /// How long after it went the peer is taken again, in seconds.
    fn waits(views: &mut Views<u64>, now: Instant) -> u64 {
        (0..2_000)
            .find(|&wait| comes(views, FLAPPER, now + Duration::from_secs(wait)))
            .expect("never taken again")
    }

    #[test]
    fn who_comes_and_goes_waits_ever_longer_until_it_stays() {
        let mut views = views(MembershipConfig::default());
        let mut now = at(100);
        let mut waited = Vec::new();
        assert!(comes(&mut views, FLAPPER, now));
        for _ in 0..10 {
            now += Duration::from_secs(1);
            views.peer_lost(FLAPPER, now, &mut Vec::new());
            let wait = waits(&mut views, now);
            waited.push(wait);
            now += Duration::from_secs(wait);
        }
        assert_eq!(waited, [0, 5, 10, 20, 40, 80, 160, 320, 320, 320]);
        assert!(views.stats().damped > 0);
        now += STEADY;
        views.peer_lost(FLAPPER, now, &mut Vec::new());
        assert_eq!(waits(&mut views, now), 0, "it stayed, so all is forgiven");
    }

    #[test]
    fn who_comes_and_goes_is_not_asked_either() {
        let mut views = views(MembershipConfig::default());
        for second in 0..3 {
            comes(&mut views, FLAPPER, at(100 + 20 * second));
            assert!(views.is_neighbor(FLAPPER), "{second}");
            let leaving = MembershipMessage::Bye { leaving: true };
            views.handle_message(FLAPPER, leaving, at(101 + 20 * second), &mut Vec::new());
        }
        let asked = |views: &mut Views<u64>, now| {
            let mut actions = Vec::new();
            views.ask(FLAPPER, Ask::Probe, now, &mut actions);
            !actions.is_empty()
        };
        assert!(!asked(&mut views, at(150)) && asked(&mut views, at(152)));
    }

    #[test]
    fn when_the_network_breaks_nobody_is_blamed_and_the_last_hope_is_taken() {
        let mut views = views(MembershipConfig::default());
        for round in 0..5 {
            let now = at(100 + 20 * round);
            assert!(comes(&mut views, FLAPPER, now));
            // Enough others go with it.
            for peer in 10..14 {
                views.peer_lost(peer, now + Duration::from_secs(1), &mut Vec::new());
            }
            views.peer_lost(FLAPPER, now + Duration::from_secs(1), &mut Vec::new());
            (10..14)
                .for_each(|peer| assert!(comes(&mut views, peer, now + Duration::from_secs(15)), "{peer}"));
        }
        let mut alone = Views::new(1, SWARM, MembershipConfig::default(), 1_200, Seed::from_u64(1), at(0));
        for second in 0..10 {
            assert!(comes(&mut alone, FLAPPER, at(second)), "it is better than nobody");
            alone.peer_lost(FLAPPER, at(second), &mut Vec::new());
        }
    }

    #[test]
    fn only_so_many_are_remembered_and_damping_can_be_switched_off() {
        let mut flapping = Flapping::default();
        for round in 0..3 {
            (0..100u64).for_each(|peer| flapping.note(peer, at(round), at(round)));
        }
        assert_eq!(flapping.0.len(), FLAPPING_MAX);
        let config = MembershipConfig { flap_pause: None, ..MembershipConfig::default() };
        let mut views = views(config);
        for second in 100..110 {
            assert!(comes(&mut views, FLAPPER, at(second)));
            views.peer_lost(FLAPPER, at(second), &mut Vec::new());
        }
    }
}
