//! Watching neighbours together. A node gives its neighbours signs of life, one after another, so that somebody notices soon when
//! they end, and tells them of each other: who notices asks the others before it gives the node up, and they look at once (SWIM's
//! indirect probes; Das, Gupta, Motivala 2002).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::{DOUBT_SPAN, Neighbor, ViewAction, Views};
use crate::time::Instant;
use crate::wire::{MembershipMessage, WirePeer};

/// Neighbours that a node names to each of them, at most.
const WATCHERS_MAX: usize = 16;

/// A change of neighbours is told once nothing has changed for so long: one change often brings another.
const SETTLED: Duration = Duration::from_secs(1);

/// Who pings so soon after it was told has not heard it: the frame was lost.
const REPETITION: Duration = Duration::from_secs(2);

/// A neighbour is pinged on others' word at most once in this time.
const HURRY_INTERVAL: Duration = Duration::from_secs(1);

/// Others that wait for word of a neighbour, at most.
const ASKERS_MAX: usize = 8;

/// What is known of those that watch a neighbour too, and of those that ask for it.
#[derive(Debug)]
pub(super) struct Watch<P> {
    /// The other neighbours of the neighbour.
    watchers: Box<[P]>,
    /// When it was told the neighbours of this node, and which state of them.
    told: Option<(Instant, u64)>,
    /// When it had the last sign of life, or came.
    beat: Instant,
    /// Once others have asked for it.
    asked: Option<Box<Asked<P>>>,
}

#[derive(Debug)]
struct Asked<P> {
    /// When it was pinged on others' word.
    hurried: Option<Instant>,
    /// Who wants to know whether it answers.
    askers: Vec<P>,
}

impl<P> Watch<P> {
    pub(super) fn new(now: Instant) -> Self {
        Self { watchers: Box::default(), told: None, beat: now, asked: None }
    }
}

impl<P: WirePeer> Views<P> {
    /// The neighbour whose turn it is gets a sign of life. One that does not know of the others yet pings as if it were alone,
    /// and needs none.
    pub(super) fn beat(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.beat_at = None;
        let Some(interval) = self.config.beat_interval else { return };
        let round = interval * self.active.len() as u32;
        let turn = self.active.iter_mut().min_by_key(|neighbor| (neighbor.watch.beat, neighbor.peer));
        let Some(neighbor) = turn else { return };
        neighbor.watch.beat = now;
        if neighbor.watch.told.is_some() {
            actions.push(ViewAction::Beat { peer: neighbor.peer, next: round });
        }
        self.beat_at = Some(now + interval);
    }

    /// The neighbours have settled: all that do not know them are told.
    pub(super) fn tell_neighbors(&mut self, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        self.tell_at = None;
        let state = self.changed;
        let is_stale = |neighbor: &&Neighbor<P>| neighbor.watch.told.is_none_or(|(_, told)| told != state);
        let stale: Vec<_> = self.active.iter().filter(is_stale).map(|neighbor| neighbor.peer).collect();
        for peer in stale {
            self.name_watchers(peer, now, actions);
        }
    }

    /// A neighbour has pinged this node: if it was told of the others just now, it has not heard it.
    pub fn pinged(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let neighbor = self.active.iter_mut().find(|neighbor| neighbor.peer == peer);
        let Some(neighbor) = neighbor else { return };
        if neighbor.watch.told.is_some_and(|(at, _)| now - at < REPETITION) {
            neighbor.watch.told = None;
            self.name_watchers(peer, now, actions);
        }
    }

    /// Names its fellows to a neighbour. One that knew none is promised signs of life, the first when its turn comes.
    fn name_watchers(&mut self, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let state = self.changed;
        let Some(interval) = self.config.beat_interval else { return };
        let Some(place) = self.active.iter().position(|neighbor| neighbor.peer == peer) else { return };
        let turn = (self.active[place].watch.beat, peer);
        let before = self.active.iter().filter(|other| (other.watch.beat, other.peer) < turn).count() as u32;
        let peers = self.neighbors().filter(|&other| other != peer);
        let peers = peers.take(WATCHERS_MAX.min(self.list_max)).collect();
        actions.push(ViewAction::Send { to: peer, message: MembershipMessage::Watchers { peers } });
        let told = self.active[place].watch.told.replace((now, state));
        if told.is_none() {
            actions.push(ViewAction::Beat { peer, next: interval * (before + 1) });
        }
    }

    /// A neighbour does not answer, and may be dead. The others that watch it are asked, unless it was they who said so. If
    /// half of the neighbours do not answer, new ones are looked for before any is given up.
    pub fn doubt(&mut self, peer: P, is_hearsay: bool, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let Some(neighbor) = self.active.iter_mut().find(|neighbor| neighbor.peer == peer) else { return };
        if neighbor.doubted.is_none_or(|since| now - since >= DOUBT_SPAN) {
            self.stats.doubts += 1;
        }
        neighbor.doubted = Some(now);
        if !is_hearsay {
            for &to in &neighbor.watch.watchers {
                self.stats.suspicions_sent += 1;
                actions.push(ViewAction::Send { to, message: MembershipMessage::Suspect { peer } });
            }
        }
        if self.is_lonely(now) {
            self.refill_at = Some(now);
        }
    }

    /// A neighbour has answered a ping: those that asked are told.
    pub fn answered(&mut self, peer: P, actions: &mut Vec<ViewAction<P>>) {
        let Some(neighbor) = self.active.iter_mut().find(|neighbor| neighbor.peer == peer) else { return };
        let askers = neighbor.watch.asked.as_mut().map(|asked| core::mem::take(&mut asked.askers));
        for to in askers.unwrap_or_default() {
            self.stats.vouchers_sent += 1;
            actions.push(ViewAction::Send { to, message: MembershipMessage::Vouch { peer } });
        }
    }

    pub(super) fn on_watchers(&mut self, from: P, mut peers: Vec<P>) {
        let local = self.local;
        let Some(neighbor) = self.active.iter_mut().find(|neighbor| neighbor.peer == from) else { return };
        peers.retain(|&peer| peer != local && peer != from);
        peers.truncate(WATCHERS_MAX);
        neighbor.watch.watchers = peers.into_boxed_slice();
    }

    /// Another neighbour of one of ours gets no answer from it.
    pub(super) fn on_suspect(&mut self, from: P, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let is_ours = self.is_neighbor(from);
        let Some(neighbor) = self.active.iter_mut().find(|neighbor| neighbor.peer == peer) else { return };
        let watch = &mut neighbor.watch;
        let may_watch = is_ours || watch.watchers.is_empty() || watch.watchers.contains(&from);
        if from == peer || from == self.local || !may_watch {
            return;
        }
        let fresh = || Box::new(Asked { hurried: None, askers: Vec::new() });
        let asked = watch.asked.get_or_insert_with(fresh);
        if asked.askers.len() < ASKERS_MAX && !asked.askers.contains(&from) {
            asked.askers.push(from);
        }
        if asked.hurried.is_none_or(|at| now - at >= HURRY_INTERVAL) {
            asked.hurried = Some(now);
            self.stats.suspicions_heeded += 1;
            actions.push(ViewAction::Hurry(peer));
        }
    }

    /// Another neighbour of one of ours has an answer from it.
    pub(super) fn on_vouch(&mut self, from: P, peer: P, now: Instant, actions: &mut Vec<ViewAction<P>>) {
        let fits = |neighbor: &&Neighbor<P>| {
            let doubted = neighbor.doubted.is_some_and(|since| now - since < DOUBT_SPAN);
            neighbor.peer == peer && doubted && from != peer && neighbor.watch.watchers.contains(&from)
        };
        if self.active.iter().any(|neighbor| fits(&neighbor)) {
            actions.push(ViewAction::Vouched(peer));
        }
    }

    /// The active view is another.
    pub(super) fn note_change(&mut self, now: Instant) {
        self.changed += 1;
        if let Some(interval) = self.config.beat_interval {
            self.tell_at = Some(now + SETTLED);
            self.beat_at.get_or_insert(now + interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::config::MembershipConfig;
    use crate::id::SwarmId;
    use crate::rng::Seed;
    use crate::wire::NeighborRequest;

    const SWARM: SwarmId = SwarmId(9);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Node 1 with the neighbours 2, 3 and 4; 2 has told that 5, 1 and 6 watch it.
    fn watching() -> Views<u64> {
        let config = MembershipConfig::default();
        let mut views = Views::new(1, SWARM, config, 1_200, Seed::from_u64(1), Instant::ZERO);
        let mut actions = Vec::new();
        for peer in [2, 3, 4] {
            let message = MembershipMessage::Neighbor { swarm: SWARM, request: NeighborRequest::High };
            views.handle_message(peer, message, Instant::ZERO, &mut actions);
        }
        actions.clear();
        views.handle_message(2, MembershipMessage::Watchers { peers: vec![5, 1, 6] }, at(0), &mut actions);
        assert_eq!(actions, []);
        views
    }

    fn sent(actions: &[ViewAction<u64>]) -> Vec<(u64, MembershipMessage<u64>)> {
        let sent = actions.iter().filter_map(|action| match action {
            ViewAction::Send { to, message } => Some((*to, message.clone())),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn neighbours_are_named_when_they_have_settled_and_then_get_signs_of_life_in_turn() {
        let mut views = watching();
        let interval = MembershipConfig::default().beat_interval.unwrap();
        let mut promised = alloc::collections::BTreeMap::new();
        let mut beats = 0;
        while let Some(now) = views.poll_timeout().filter(|&now| now < at(14_000)) {
            let mut actions = Vec::new();
            views.handle_timeout(now, &mut actions);
            for action in actions {
                match action {
                    ViewAction::Send { to, message: MembershipMessage::Watchers { peers } } => {
                        let others: Vec<_> = [2, 3, 4].into_iter().filter(|&other| other != to).collect();
                        assert_eq!((now, peers), (at(1_000), others), "{to} is told once");
                    }
                    ViewAction::Beat { peer, next } => {
                        assert!(next <= interval * 3);
                        let kept = promised.insert(peer, now + next).is_none_or(|promise| now <= promise);
                        assert!(kept, "{peer} waits");
                        beats += 1;
                    }
                    _ => {}
                }
            }
        }
        // Three promises, and then one sign of life an interval from 1.0 s to 14 s.
        assert_eq!((promised.len(), beats), (3, 3 + 43));
    }

    #[test]
    fn who_pings_right_after_it_was_told_is_told_again() {
        let mut views = watching();
        let mut actions = Vec::new();
        views.pinged(2, at(500), &mut actions);
        assert_eq!(actions, []);
        views.tell_neighbors(at(1_000), &mut Vec::new());
        views.pinged(2, at(2_500), &mut actions);
        assert_eq!(sent(&actions), [(2, MembershipMessage::Watchers { peers: vec![3, 4] })]);
        assert!(matches!(actions[..], [_, ViewAction::Beat { peer: 2, .. }]));
        actions.clear();
        views.pinged(2, at(60_000), &mut actions);
        assert_eq!(actions, []);
    }

    #[test]
    fn of_a_newcomer_all_are_told_and_it_is_told_of_all() {
        let mut views = watching();
        views.tell_neighbors(at(1_000), &mut Vec::new());
        let mut actions = Vec::new();
        let request = MembershipMessage::Neighbor { swarm: SWARM, request: NeighborRequest::High };
        views.handle_message(9, request, at(2_000), &mut Vec::new());
        views.tell_neighbors(at(3_000), &mut actions);
        let named = |to, peers: [u64; 3]| (to, MembershipMessage::Watchers { peers: peers.to_vec() });
        let expected = [named(2, [3, 4, 9]), named(3, [2, 4, 9]), named(4, [2, 3, 9]), named(9, [2, 3, 4])];
        assert_eq!(sent(&actions), expected);
        actions.clear();
        views.tell_neighbors(at(5_000), &mut actions);
        assert_eq!(sent(&actions), [], "all is known");
    }

    #[test]
    fn a_neighbour_cannot_name_more_than_there_is_room_for() {
        let mut views = watching();
        let mut actions = Vec::new();
        let peers = (0..150).collect();
        views.handle_message(2, MembershipMessage::Watchers { peers }, at(0), &mut actions);
        views.doubt(2, false, at(5_000), &mut actions);
        let asked: Vec<_> = sent(&actions).into_iter().map(|(to, _)| to).collect();
        assert_eq!(asked, [0].into_iter().chain(3..18).collect::<Vec<_>>());
    }

    #[test]
    fn who_finds_a_neighbour_silent_asks_the_others_that_watch_it() {
        let mut views = watching();
        let mut actions = Vec::new();
        views.doubt(2, false, at(5_000), &mut actions);
        let asked = MembershipMessage::Suspect { peer: 2 };
        assert_eq!(sent(&actions), [(5, asked.clone()), (6, asked)]);
        actions.clear();
        views.doubt(2, true, at(5_500), &mut actions);
        assert_eq!(sent(&actions), [], "they know");
    }

    #[test]
    fn a_suspect_is_pinged_at_once_and_vouched_for_if_it_answers() {
        let mut views = watching();
        let mut actions = Vec::new();
        let suspect = MembershipMessage::Suspect { peer: 2 };
        views.handle_message(5, suspect.clone(), at(5_000), &mut actions);
        views.handle_message(6, suspect.clone(), at(5_001), &mut actions);
        assert_eq!(actions, [ViewAction::Hurry(2)], "one ping is enough for both");
        actions.clear();
        views.answered(2, &mut actions);
        let vouch = MembershipMessage::Vouch { peer: 2 };
        assert_eq!(sent(&actions), [(5, vouch.clone()), (6, vouch)]);
        actions.clear();
        views.answered(2, &mut actions);
        views.handle_message(77, suspect, at(9_000), &mut actions);
        assert_eq!(actions, [], "a stranger's word moves nobody");
    }

    #[test]
    fn only_those_that_watch_a_doubted_neighbour_can_vouch_for_it() {
        let mut views = watching();
        let vouch = |views: &mut Views<u64>, from, millis| {
            let mut actions = Vec::new();
            views.handle_message(from, MembershipMessage::Vouch { peer: 2 }, at(millis), &mut actions);
            actions
        };
        assert_eq!(vouch(&mut views, 5, 1_000), [], "it is not in doubt");
        views.doubt(2, false, at(2_000), &mut Vec::new());
        assert_eq!(vouch(&mut views, 77, 2_100), []);
        assert_eq!(vouch(&mut views, 2, 2_100), []);
        assert_eq!(vouch(&mut views, 5, 2_100), [ViewAction::Vouched(2)]);
        assert_eq!(vouch(&mut views, 5, 60_000), [], "that was long ago");
    }
}
