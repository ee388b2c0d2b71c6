//! How an update goes on: to those that are fed from here at once, to the others as an announcement; and who is asked to feed.

use alloc::vec::Vec;
use core::time::Duration;

use super::peers::Slots;
use super::{Gossip, GossipAction, PublishOptions};
use crate::config::GossipMode;
use crate::id::Priority;
use crate::io::Class;
use crate::log::SourceIndex;
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{Data, GossipMessage, SourceRanges, WirePeer};

/// Bodies older than this are not pushed on when they arrive by request: their readers have most likely asked others too,
/// and an announcement costs less than a copy.
pub(super) const PUSH_AGE_MAX: Duration = Duration::from_secs(1);

impl<P: WirePeer> Gossip<P> {
    /// Pushes a new update on along its tree and notes it for announcement to the others.
    pub(super) fn forward(
        &mut self,
        source: SourceIndex,
        data: &Data<P>,
        have_it: Slots,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let late = data.pulled && now - data.born > PUSH_AGE_MAX;
        let targets = if self.config.mode == GossipMode::Pull || late {
            Slots::NONE
        } else if self.floods(data) {
            let targets = self.peers.all() & !have_it;
            self.stats.bodies_flooded += targets.len() as u64;
            targets
        } else {
            let links = self.shared.links();
            let shared = links.map(|links| if self.sows(data) { self.peers.all() } else { links });
            self.routes.targets(source, data.origin.digest(), data.sequence, data.born, shared) & !have_it
        };
        for slot in targets.iter() {
            let data = Data { pulled: false, ..data.clone() };
            self.send_data(slot, data, actions);
        }
        if self.config.mode == GossipMode::Hybrid {
            self.announcer.note_push(source, data.sequence, targets, now);
        }
        if self.config.mode != GossipMode::Push && self.peers.len() > (targets | have_it).len() {
            self.announcer.note(source, data.sequence, targets | have_it);
            let own_tree = self.routes.has_own_tree(source);
            let tests = self.conduct.tests(own_tree, self.routes.carried(source), now);
            if self.config.mode == GossipMode::Pull || self.announcer.is_full() || tests && !late {
                self.announce_all(actions);
            } else {
                self.announcer.wake(now, self.config.have_interval, &mut self.rng);
            }
        }
    }

    /// Whether an update goes over every link, whatever the trees say.
    pub(super) fn floods(&self, data: &Data<P>) -> bool {
        let may = self.config.flood_urgent || self.config.flood_on_request && data.flood;
        may && data.priority == Priority::Urgent
    }

    /// Whether an update with these options may ask to go over every link.
    pub fn may_flood(&self, options: &PublishOptions) -> bool {
        self.config.flood_on_request && options.priority == Priority::Urgent
    }

    pub(super) fn send_data(&mut self, slot: u8, data: Data<P>, actions: &mut Vec<GossipAction<P>>) {
        let Some(to) = self.peers.get(slot) else { return };
        let class = match Class::from(data.priority) {
            // What was asked for is late already.
            Class::Normal if data.pulled => Class::High,
            class => class,
        };
        let key = self.supersedes.then(|| mix(data.origin.digest() ^ mix(data.state.0)));
        let message = self.message_of(data);
        self.stats.bodies_sent += u64::from(matches!(message, GossipMessage::Data(_)));
        actions.push(GossipAction::Send { to, message, class, key });
    }

    pub(super) fn send(&self, slot: u8, message: GossipMessage<P>, actions: &mut Vec<GossipAction<P>>) {
        if let Some(to) = self.peers.get(slot) {
            actions.push(GossipAction::Send { to, message, class: Class::Control, key: None });
        }
    }

    pub(super) fn on_duplicate(
        &mut self,
        source: SourceIndex,
        data: &Data<P>,
        slot: u8,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        let origin = data.origin;
        if let Some(share_percent) = self.routes.on_duplicate(source, origin.digest(), slot, data.born) {
            self.stats.prunes_sent += 1;
            self.send(slot, GossipMessage::Prune { origin, share_percent }, actions);
        }
    }

    /// The feeder of a hot source is gone: another neighbour is asked to push, before anything is missed.
    pub(super) fn graft_other(
        &mut self,
        source: SourceIndex,
        now: Instant,
        actions: &mut Vec<GossipAction<P>>,
    ) {
        if self.log.name(source).is_none_or(|(origin, _)| origin == self.local) {
            return;
        }
        if self.routes.has_own_tree(source) {
            match self.routes.other_feeder(source, self.conduct.avoid()) {
                Some(slot) => {
                    self.graft(source, slot, true, actions);
                    self.routes.watch_new_feeder(source, now);
                }
                None => self.feed_starving(source, now, actions),
            }
            return;
        }
        // A shared tree has mended itself.
        if self.parent().is_some() {
            return;
        }
        let candidates = self.peers.all() & !self.routes.pushes(source);
        let candidates = if candidates.is_empty() { self.peers.all() } else { candidates };
        let candidates = candidates.unless_empty(candidates & !self.conduct.distrusted());
        if let Some(slot) = candidates.pick(&mut self.rng) {
            self.graft(source, slot, false, actions);
        }
    }

    /// Asks an announcer to push, if redundancy wants one more feeder.
    pub(super) fn add_feeder(&mut self, slot: u8, has: &SourceRanges<P>, actions: &mut Vec<GossipAction<P>>) {
        let Some(source) = self.log.source(has.origin, has.epoch) else { return };
        if has.origin != self.local && self.routes.wants_feeder(source, slot) {
            self.graft(source, slot, false, actions);
        }
    }
}
