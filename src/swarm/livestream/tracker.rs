//! A tracker of its own, and the source that tells it what to plan.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Livestream, StreamState, send};
use crate::forest::{Planner, PlannerAction, PlannerConfig, Relay, StreamFacts};
use crate::io::{Class, Event};
use crate::swarm::{SwarmAction, SwarmActions};
use crate::time::Instant;
use crate::wire::{ForestMessage, Plan, StreamNotice, WirePeer};

/// A source tells its tracker about the stream this often.
pub(super) const ANNOUNCE: Duration = Duration::from_secs(5);

/// What a tracker knows of the stream.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) config: PlannerConfig,
    pub(super) notice: StreamNotice,
}

impl<P: WirePeer> Livestream<P> {
    /// A tracker takes what its source says of the stream. A source that began anew is planned for anew: those who watched
    /// the old one are asked whether they live, and come again.
    pub(super) fn hear_source(
        &mut self,
        message: &ForestMessage<P>,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        let Some(tracked) = &mut self.tracked else { return };
        match message {
            ForestMessage::Plan(told) => {
                let facts = StreamFacts {
                    epoch: told.epoch,
                    stripes: told.stripes,
                    rate_bytes_per_s: told.rate_bytes_per_s,
                    deadline: told.deadline,
                };
                if tracked.config.facts == facts {
                    return;
                }
                let mut config = PlannerConfig { facts, ..tracked.config.clone() };
                (config.plan.stripes, config.plan.rate_bytes_per_s) = (told.stripes, told.rate_bytes_per_s);
                let Ok(planner) = Planner::new(self.swarm, self.source, config.clone(), now) else { return };
                **tracked = Tracked { config, notice: StreamNotice::default() };
                let before = self.planner.replace(Box::new(planner));
                for viewer in before.iter().flat_map(|planner| planner.plan().viewers()) {
                    send(viewer, ForestMessage::Check, Class::High, actions);
                }
            }
            ForestMessage::State(notice) if notice.version > tracked.notice.version => {
                let Some(state) = StreamState::from_wire(notice.state) else { return };
                tracked.notice = *notice;
                if let Some(planner) = self.planner.as_mut().filter(|_| state == StreamState::Ended) {
                    planner.end();
                }
                actions.push(SwarmAction::Event(Event::StreamState { swarm: self.swarm, state }));
            }
            _ => {}
        }
    }

    /// The source tells its tracker what the stream is, and where it is in its life.
    pub(super) fn tell_tracker(&mut self, now: Instant) {
        self.told_tracker = now;
        let (Some(tracker), true) = (self.tracker, self.is_source()) else { return };
        if let Some(facts) = self.relay.as_ref().and_then(Relay::facts) {
            let message = ForestMessage::Plan(Plan {
                swarm: self.swarm,
                source: self.source,
                epoch: facts.epoch,
                stripes: facts.stripes,
                rate_bytes_per_s: facts.rate_bytes_per_s,
                deadline: facts.deadline,
                passes_on: None,
                version: 0,
                feeds: Vec::new(),
            });
            self.planner_actions.push(PlannerAction { to: tracker, message, class: Class::High });
            let message = ForestMessage::State(self.notice());
            self.planner_actions.push(PlannerAction { to: tracker, message, class: Class::High });
        }
    }
}
