//! Trials. A feeder that has not pushed an update, and never brought one of others, may be waiting itself, or may forward nothing
//! at all. It is asked for the update once more, when it must have it: the honest answer. A node that finds somebody out in this
//! way tries all of its neighbours that never brought anything.

use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::peers::Slots;
use super::{Gossip, GossipAction};
use crate::id::Epoch;
use crate::log::{RangeSet, SourceIndex};
use crate::time::Instant;
use crate::wire::{GossipMessage, SourceRanges, WirePeer};

/// Whoever takes part has the update by then.
const TRIAL_AFTER: Duration = Duration::from_secs(1);

/// How long an answer may take, and how often it is asked for: some of the requests and answers get lost.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const ASKS_MAX: u8 = 3;

/// Trials at once, at most. Others have to wait for another fault.
const TRIALS_MAX: usize = 8;

/// The neighbours on trial.
#[derive(Debug)]
pub(super) struct Trials<P> {
    open: SmallVec<[Trial<P>; 0]>,
}

#[derive(Clone, Copy, Debug)]
struct Trial<P> {
    slot: u8,
    asks: u8,
    origin: P,
    epoch: Epoch,
    sequence: u64,
    due: Instant,
}

impl<P> Default for Trials<P> {
    fn default() -> Self {
        Self { open: SmallVec::new() }
    }
}

impl<P> Trials<P> {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.open.iter().map(|trial| trial.due).min()
    }

    /// The neighbour is gone, or has answered that it does not hold the update.
    pub(super) fn end(&mut self, slot: u8) {
        self.open.retain(|trial| trial.slot != slot);
    }
}

impl<P: WirePeer> Gossip<P> {
    /// Puts those on trial that should have pushed an update, and never brought one.
    pub(super) fn try_untried(&mut self, slots: Slots, source: SourceIndex, sequence: u64, now: Instant) {
        if let Some((origin, epoch)) = self.log.name(source) {
            self.open_trials(slots, origin, epoch, sequence, now);
        }
    }

    fn open_trials(&mut self, slots: Slots, origin: P, epoch: Epoch, sequence: u64, now: Instant) {
        for slot in slots.iter() {
            let is_on_trial = self.trials.open.iter().any(|trial| trial.slot == slot);
            let is_open = !self.conduct.is_proven(slot) && !self.conduct.distrusted().contains(slot);
            let has_room = self.trials.open.len() < TRIALS_MAX;
            if is_open && has_room && !is_on_trial && self.peers.get(slot).is_some_and(|peer| peer != origin)
            {
                self.trials.open.push(Trial {
                    slot,
                    asks: 0,
                    origin,
                    epoch,
                    sequence,
                    due: now + TRIAL_AFTER,
                });
            }
        }
    }

    /// Asks those whose trial is due, and judges those that did not answer.
    pub(super) fn tend_trials(&mut self, now: Instant, actions: &mut Vec<GossipAction<P>>) {
        while let Some(place) = self.trials.open.iter().position(|trial| trial.due <= now) {
            let trial = self.trials.open[place];
            // It came here by another way, so that others have it.
            let source = self.log.source(trial.origin, trial.epoch);
            let window = source.and_then(|source| self.log.window(source));
            let is_known = window.is_some_and(|window| window.contains(trial.sequence));
            if !is_known || self.conduct.is_proven(trial.slot) {
                self.trials.open.swap_remove(place);
            } else if trial.asks < ASKS_MAX {
                let place = &mut self.trials.open[place];
                (place.asks, place.due) = (trial.asks + 1, now + ANSWER_WITHIN);
                self.stats.trials_sent += 1;
                let ranges = RangeSet::from(trial.sequence..trial.sequence + 1);
                let sources = alloc::vec![SourceRanges { origin: trial.origin, epoch: trial.epoch, ranges }];
                self.send(trial.slot, GossipMessage::Want { graft: false, sources }, actions);
            } else {
                self.trials.open.swap_remove(place);
                self.convict(trial.slot, now, actions);
                // Once bitten, it wants to know of all.
                self.open_trials(self.peers.all(), trial.origin, trial.epoch, trial.sequence, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::GossipConfig;
    use crate::id::{Priority, StateId};
    use crate::log::Retention;
    use crate::rng::Seed;
    use crate::wire::Data;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn update() -> GossipMessage<u64> {
        GossipMessage::Data(Data {
            origin: 50,
            epoch: Epoch(1),
            sequence: 3,
            state: StateId(0),
            priority: Priority::Normal,
            keyframe: false,
            layer: 0,
            hops: 1,
            pulled: true,
            flood: false,
            born: at(900),
            body: Bytes::from_static(b"x"),
            signature: Bytes::new(),
        })
    }

    /// Peer 1 should have pushed what peer 2 has brought. Runs until `end`; `answer` to each request to peer 1.
    fn tried(end: Instant, answer: Option<GossipMessage<u64>>) -> (Gossip<u64>, u32) {
        let config = GossipConfig::default();
        let mut gossip = Gossip::new(99, Epoch(1), config, Retention::default(), 1_200, Seed::from_u64(1));
        let mut actions = Vec::new();
        for peer in [1, 2] {
            gossip.neighbor_up(peer, Instant::ZERO);
        }
        gossip.handle_message(2, update(), at(1_000), &mut actions);
        let source = gossip.log.source(50, Epoch(1)).unwrap();
        gossip.try_untried(Slots::one(0) | Slots::one(1), source, 3, at(1_000));
        gossip.try_untried(Slots::one(0), source, 3, at(1_100));
        assert_eq!(gossip.trials.open.len(), 1, "peer 2 has proved itself");
        let mut asked = 0;
        while let Some(now) = gossip.poll_timeout().filter(|&now| now < end) {
            actions.clear();
            gossip.handle_timeout(now, &mut actions);
            for action in core::mem::take(&mut actions) {
                let GossipAction::Send { to: 1, message: GossipMessage::Want { .. }, .. } = action else {
                    continue;
                };
                asked += 1;
                if let Some(answer) = answer.clone() {
                    gossip.handle_message(1, answer, now, &mut actions);
                }
            }
        }
        (gossip, asked)
    }

    #[test]
    fn who_never_answers_in_its_trial_is_not_to_feed() {
        let (gossip, asked) = tried(at(3_499), None);
        assert_eq!((asked, gossip.distrusted().next()), (3, None));
        let (gossip, asked) = tried(at(3_501), None);
        assert_eq!((asked, gossip.distrusted().collect::<Vec<_>>()), (3, alloc::vec![1]));
        assert_eq!((gossip.stats().trials_sent, gossip.trials.poll_timeout()), (3, None), "peer 2 is known");
    }

    #[test]
    fn any_honest_answer_ends_the_trial() {
        let ranges = RangeSet::from(3..4);
        let gone = GossipMessage::Gone {
            sources: alloc::vec![SourceRanges { origin: 50, epoch: Epoch(1), ranges }],
        };
        for (answer, is_proof) in [(update(), true), (gone, false)] {
            let (gossip, asked) = tried(at(20_000), Some(answer));
            assert_eq!((asked, gossip.distrusted().next()), (1, None));
            assert_eq!(gossip.conduct.is_proven(0), is_proof);
        }
    }

    #[test]
    fn a_trial_ends_with_the_link() {
        let (mut gossip, _) = tried(at(1_500), None);
        gossip.neighbor_down(1, at(1_500), &mut Vec::new());
        gossip.neighbor_up(7, at(1_600));
        gossip.handle_timeout(at(9_000), &mut Vec::new());
        assert_eq!((gossip.stats().trials_sent, gossip.distrusted().next()), (0, None));
    }
}
