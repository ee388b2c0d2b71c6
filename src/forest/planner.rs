//! The planner's side of the forest protocol: viewers come and go, and everybody concerned is told who feeds them.

mod accused;
mod audience;
mod room;
mod suspects;
#[cfg(test)]
mod tests;
mod trees;
mod unacknowledged;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::plan::{ForestPlan, PlanChange, PlanConfig, PlanError};
use crate::id::SwarmId;
use crate::io::Class;
use crate::stats::LivestreamStats;
use crate::time::Instant;
use crate::wire::{Feed, ForestMessage, LostParent, Plan, StreamNotice, WirePeer};

use super::relay::StreamFacts;
use accused::Accused;
use audience::Audience;
use room::Room;
use suspects::{SUSPECTS_MAX, Suspects, Verdict};
use trees::Trees;
use unacknowledged::Unacknowledged;

/// How a [`Planner`] works.
#[derive(Clone, Debug)]
pub struct PlannerConfig {
    /// The trees. Stripes and rate must be those of [`facts`](Self::facts).
    pub plan: PlanConfig,
    /// What the source may send, in bytes a second.
    pub source_upload_bytes_per_s: u64,
    /// The stream, as viewers are told it.
    pub facts: StreamFacts,
}

/// What a [`Planner`] wants sent.
#[derive(Debug)]
pub struct PlannerAction<P> {
    /// To whom.
    pub to: P,
    /// What.
    pub message: ForestMessage<P>,
    /// How urgently.
    pub class: Class,
}

/// Keeps a [`ForestPlan`] and tells viewers about it: part of the source, or of a tracker of its own.
///
/// ```
/// use std::time::Duration;
/// use suffuse::forest::{Planner, PlannerConfig, StreamFacts};
/// use suffuse::wire::{ForestMessage, StreamNotice};
/// use suffuse::{Epoch, Instant, PlanConfig, PlanError, SwarmId};
///
/// let (concert, now) = (SwarmId::from_name("concert"), Instant::ZERO);
/// let plan = PlanConfig::default();
/// let facts = StreamFacts {
///     epoch: Epoch(0),
///     stripes: plan.stripes,
///     rate_bytes_per_s: plan.rate_bytes_per_s,
///     deadline: Duration::from_secs(2),
/// };
/// let config = PlannerConfig { source_upload_bytes_per_s: 4 * plan.rate_bytes_per_s, plan, facts };
/// let mut planner = Planner::new(concert, 0u64, config, now)?;
///
/// let watch = ForestMessage::Watch { swarm: concert, upload_bytes_per_s: 500_000 };
/// let mut actions = Vec::new();
/// planner.handle_message(1, &watch, StreamNotice::default(), now, &mut actions);
/// assert_eq!(planner.plan().len(), 1);
/// assert!(actions.iter().any(|action| action.to == 1 && matches!(action.message, ForestMessage::Plan(_))));
/// # Ok::<(), PlanError>(())
/// ```
#[derive(Debug)]
pub struct Planner<P: WirePeer> {
    swarm: SwarmId,
    source: P,
    config: PlannerConfig,
    plan: Trees<P>,
    version: u32,
    suspects: Suspects<P>,
    accused: Accused<P>,
    unacknowledged: Unacknowledged<P>,
    /// Viewers that found a parent which the plan cannot give them, and in which stripe.
    strays: BTreeSet<(P, u8)>,
    room: Room<P>,
    changes: Vec<PlanChange<P>>,
    now: Instant,
    tick_at: Instant,
    ended: bool,
    audience: Audience<P>,
    refusals: u64,
}

/// A suspect that does not answer in this time is taken out.
const ANSWER_TIME: Duration = Duration::from_millis(700);

/// Helpers are in the middle of a talk, and most links are short.
const HELPER_ANSWER_TIME: Duration = Duration::from_millis(300);

/// Who is expected and has not come after this time has no place any more.
const EXPECTED: Duration = Duration::from_secs(2);

/// How often the plan is improved, and by how many links at a time at least.
const REBALANCE: Duration = Duration::from_secs(1);
const MOVES_MIN: usize = 4;
/// And by how many more while the trees are too deep: by one in 25 viewers, within these. Where upload is scarce every move
/// is felt, and the least has to do.
const MOVES_DEEP: usize = 32;
const MOVES_DEEP_MAX: usize = 512;

impl<P: WirePeer> Planner<P> {
    /// A plan without viewers.
    ///
    /// # Errors
    /// [`PlanError::OutOfRange`] or [`PlanError::StripesAboveViewers`], as in [`ForestPlan::new`]; nothing was created.
    pub fn new(swarm: SwarmId, source: P, config: PlannerConfig, now: Instant) -> Result<Self, PlanError> {
        let plan = ForestPlan::new(source, config.source_upload_bytes_per_s, config.plan.clone())?;
        Ok(Self {
            swarm,
            source,
            config,
            plan: Trees::new(plan),
            version: 0,
            suspects: Suspects::new(),
            accused: Accused::new(),
            unacknowledged: Unacknowledged::new(),
            strays: BTreeSet::new(),
            room: Room::new(),
            changes: Vec::new(),
            now,
            tick_at: now + REBALANCE,
            ended: false,
            audience: Audience::new(),
            refusals: 0,
        })
    }

    /// The same for a stream of a group: viewers are seated as [`HelperPlan`](super::plan::HelperPlan) says. To be called
    /// before anybody has come.
    pub(crate) fn with_helpers(mut self) -> Self {
        self.plan.use_helpers(self.config.source_upload_bytes_per_s);
        self
    }

    /// The plan.
    pub fn plan(&self) -> &ForestPlan<P> {
        self.plan.forest()
    }

    /// Whether the viewer has a place.
    pub(crate) fn contains(&self, viewer: P) -> bool {
        self.plan.contains(viewer)
    }

    /// Where there are helpers: who is expected to come soon, with what it can spend on others. Whoever is named here and has
    /// come has that upload from now on.
    pub(crate) fn expect(
        &mut self,
        expected: &[(P, u64)],
        now: Instant,
        actions: &mut Vec<PlannerAction<P>>,
    ) {
        self.plan.expect(expected, now + EXPECTED, &mut self.changes);
        self.tell_changes(&[], actions);
    }

    /// Takes a message of a viewer; `notice` is the state of the stream, for those who come after its end. Messages that are
    /// not for planners do nothing, but prove that their sender lives.
    pub fn handle_message(
        &mut self,
        from: P,
        message: &ForestMessage<P>,
        notice: StreamNotice,
        now: Instant,
        actions: &mut Vec<PlannerAction<P>>,
    ) {
        self.now = self.now.max(now);
        self.suspects.clear(from);
        match message {
            ForestMessage::Watch { swarm, upload_bytes_per_s } if *swarm == self.swarm => {
                self.on_watch(from, *upload_bytes_per_s, notice, now, actions);
            }
            ForestMessage::Upload { bytes_per_s } if !self.accused.is_demoted(from) => {
                let set = self.plan.set_upload(from, *bytes_per_s, &mut self.changes);
                if set.is_ok() {
                    self.room.stir(now);
                }
            }
            ForestMessage::Report { lost } => self.on_report(from, lost, now, actions),
            ForestMessage::PlanAck { version } => self.unacknowledged.acknowledge(from, *version),
            ForestMessage::Accuse { relay } => self.on_accuse(from, *relay),
            ForestMessage::Leave => self.remove(from, now),
            _ => {}
        }
        self.tell_changes(&[], actions);
        self.tell_detached(actions);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, actions: &mut Vec<PlannerAction<P>>) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.now = self.now.max(now);
        while let Some(verdict) = self.suspects.pop_due(now) {
            match verdict {
                Verdict::Ask(peer) => ask_whether_it_lives(peer, actions),
                Verdict::Gone(peer) => self.remove(peer, now),
            }
        }
        if self.tick_at <= now {
            self.tick_at = now + REBALANCE;
            let is_scarce = self.config.plan.reserve_slots > 0;
            let is_deep =
                !self.plan.has_helpers() && self.plan.depth_max() > self.plan.forest().depth_optimum() + 1;
            let deep =
                if is_scarce { MOVES_DEEP } else { (self.plan.len() / 25).clamp(MOVES_DEEP, MOVES_DEEP_MAX) };
            let moves = MOVES_MIN + self.plan.len() / 100 + if is_deep { deep } else { 0 };
            self.plan.rebalance(moves, &mut self.changes);
            self.call_back_strays();
            self.room.forget_silent(now);
        }
        if self.plan.expected_until().is_some_and(|at| at <= now) {
            self.plan.forget_expected(now, &mut self.changes);
        }
        while let Some((viewer, stripes)) = self.unacknowledged.pop_due(now) {
            for stripe in stripes {
                if let Some(parent) = self.plan.parent(viewer, stripe) {
                    self.changes.push(PlanChange { viewer, stripe, parent });
                }
            }
        }
        let mut admitted = Vec::new();
        if self.room.poll_timeout().is_some_and(|at| at <= now) {
            admitted = self.room.admit(now, self.plan.forest_mut(), &mut self.changes);
            for &peer in &admitted {
                self.audience.came(peer, self.plan.len());
            }
        }
        self.tell_changes(&admitted, actions);
        self.tell_detached(actions);
    }

    /// When [`Self::handle_timeout`] is due; `None` while there are no viewers and none waits for a place.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tick = (!self.plan.is_empty() || !self.room.is_empty()).then_some(self.tick_at);
        let repeats = self.unacknowledged.poll_timeout();
        let expected = self.plan.expected_until();
        self.suspects
            .poll_timeout()
            .into_iter()
            .chain(repeats)
            .chain(tick)
            .chain(self.room.poll_timeout())
            .chain(expected)
            .min()
    }

    /// A peer's link failed: if it is a viewer it is asked whether it lives, once more after 0.3 s, and taken out if it does
    /// not answer within 0.7 s.
    pub fn peer_lost(&mut self, peer: P, now: Instant, actions: &mut Vec<PlannerAction<P>>) {
        self.suspect(peer, now, actions);
    }

    /// The stream is over: nobody is admitted any more.
    pub fn end(&mut self) {
        self.ended = true;
        self.room.clear();
    }

    /// What the source may send from now on, in bytes a second; nothing changes if that does not carry the stream once.
    pub fn set_source_upload(&mut self, upload_bytes_per_s: u64, actions: &mut Vec<PlannerAction<P>>) {
        if self.plan.set_upload(self.source, upload_bytes_per_s, &mut self.changes).is_ok() {
            self.config.source_upload_bytes_per_s = upload_bytes_per_s;
        }
        self.tell_changes(&[], actions);
        self.tell_detached(actions);
    }

    /// Sets the planner's counters in `stats`, and leaves the others.
    pub fn add_stats(&self, stats: &mut LivestreamStats) {
        let plan = self.plan.stats();
        stats.viewers = self.plan.len() as u64;
        stats.viewers_peak = self.audience.peak();
        stats.viewers_unique = self.audience.unique();
        stats.plan_leaves = plan.leaves;
        stats.plan_moves = plan.moves;
        stats.plan_refusals = self.refusals;
        stats.plan_demotions = self.accused.demoted() as u64;
        stats.plan_depth_max = self.plan.depth_max() as u64;
        stats.plan_heap_bytes = self.plan.heap_bytes() as u64;
    }

    fn on_watch(
        &mut self,
        from: P,
        upload: u64,
        notice: StreamNotice,
        now: Instant,
        actions: &mut Vec<PlannerAction<P>>,
    ) {
        if self.ended {
            let message = ForestMessage::State(notice);
            actions.push(PlannerAction { to: from, message, class: Class::Control });
            return;
        }
        if self.plan.contains(from) {
            return self.tell_changes(&[from], actions);
        }
        let upload = if self.accused.is_demoted(from) { 0 } else { upload };
        if self.room.contains(from) {
            return self.let_wait(from, upload, now, actions);
        }
        match self.plan.join(from, upload, &mut self.changes) {
            Ok(()) => {
                self.audience.came(from, self.plan.len());
                self.tell_changes(&[from], actions);
            }
            Err(PlanError::NoCapacity { needed_bytes_per_s, .. }) => {
                self.room.note_needed(needed_bytes_per_s);
                self.let_wait(from, upload, now, actions);
            }
            Err(_) => self.refuse(from, 0, actions),
        }
    }

    /// There is no place for `from` alone; perhaps with others.
    fn let_wait(&mut self, from: P, upload: u64, now: Instant, actions: &mut Vec<PlannerAction<P>>) {
        if !self.room.wait(from, upload, now) {
            self.refuse(from, self.room.needed_bytes_per_s(), actions);
        }
    }

    fn refuse(&mut self, to: P, needed_bytes_per_s: u64, actions: &mut Vec<PlannerAction<P>>) {
        self.refusals += 1;
        let message = ForestMessage::Refused { needed_bytes_per_s };
        actions.push(PlannerAction { to, message, class: Class::High });
    }

    fn on_report(
        &mut self,
        from: P,
        lost: &[LostParent<P>],
        now: Instant,
        actions: &mut Vec<PlannerAction<P>>,
    ) {
        if !self.plan.contains(from) {
            // It was taken for dead, or comes from before this planner.
            actions.push(PlannerAction { to: from, message: ForestMessage::Check, class: Class::High });
            return;
        }
        let mut blamed: Vec<P> = Vec::new();
        for item in lost {
            let parent = self.plan.parent(from, item.stripe) == Some(item.parent);
            let child = self.plan.parent(item.parent, item.stripe) == Some(from);
            if !parent && !child && item.adopted.is_none() {
                continue;
            }
            if let Some(adopted) = item.adopted {
                let agreed = self.plan.reparented(from, item.stripe, adopted, &mut self.changes);
                if agreed.is_err() && self.strays.len() < SUSPECTS_MAX {
                    self.strays.insert((from, item.stripe));
                }
            }
            if item.adopted != Some(item.parent) && !blamed.contains(&item.parent) {
                blamed.push(item.parent);
                self.suspect(item.parent, now, actions);
            }
        }
        // What it has found itself needs no telling.
        self.changes.retain(|change| {
            change.viewer != from
                || !lost
                    .iter()
                    .any(|item| item.stripe == change.stripe && item.adopted == Some(change.parent))
        });
    }

    /// Whoever forges, as several of its children say, gets none from now on, and loses those for which others have room.
    fn on_accuse(&mut self, from: P, relay: P) {
        let is_fed = |stripe| {
            self.plan.parent(from, stripe) == Some(relay) || self.plan.backups(from, stripe).contains(&relay)
        };
        let may_know =
            relay != self.source && self.plan.contains(relay) && (0..self.config.facts.stripes).any(is_fed);
        if may_know && self.accused.accuse(from, relay) {
            // It cannot fail: the plan knows the viewer.
            let _ = self.plan.set_upload(relay, 0, &mut self.changes);
        }
    }

    fn suspect(&mut self, peer: P, now: Instant, actions: &mut Vec<PlannerAction<P>>) {
        let answer_time = if self.plan.has_helpers() { HELPER_ANSWER_TIME } else { ANSWER_TIME };
        if peer != self.source && self.plan.contains(peer) && self.suspects.note(peer, answer_time, now) {
            ask_whether_it_lives(peer, actions);
        }
    }

    /// Whose planned parent lives after all returns to it.
    fn call_back_strays(&mut self) {
        for (viewer, stripe) in core::mem::take(&mut self.strays) {
            let Some(parent) = self.plan.parent(viewer, stripe) else { continue };
            if self.suspects.contains(parent) {
                self.strays.insert((viewer, stripe));
            } else {
                self.changes.push(PlanChange { viewer, stripe, parent });
            }
        }
    }

    /// Whoever has no place any more is told, and asks again.
    fn tell_detached(&mut self, actions: &mut Vec<PlannerAction<P>>) {
        for to in self.plan.take_detached() {
            self.audience.went(to);
            self.unacknowledged.forget(to);
            let message = ForestMessage::Refused { needed_bytes_per_s: 1 };
            actions.push(PlannerAction { to, message, class: Class::High });
        }
    }

    fn remove(&mut self, peer: P, now: Instant) {
        self.room.remove(peer);
        self.unacknowledged.forget(peer);
        if self.plan.leave(peer, &mut self.changes).is_ok() {
            self.audience.went(peer);
            self.room.stir(now);
        }
    }

    /// Tells viewers what has changed for them, until they say that they know; those in `whole` are told everything.
    fn tell_changes(&mut self, whole: &[P], actions: &mut Vec<PlannerAction<P>>) {
        let mut feeds: BTreeMap<P, Vec<u8>> = BTreeMap::new();
        for change in self.changes.drain(..) {
            if change.viewer != self.source {
                let stripes = feeds.entry(change.viewer).or_default();
                if !stripes.contains(&change.stripe) {
                    stripes.push(change.stripe);
                }
            }
        }
        for &peer in whole {
            feeds.insert(peer, (0..self.config.facts.stripes).collect());
        }
        for (to, stripes) in feeds {
            self.version = self.version.wrapping_add(1);
            // Whoever asks for its whole plan asks again if it does not come. Where upload is scarce who is not let in has found
            // another parent, and the plan follows it.
            let is_whole = whole.contains(&to);
            if !is_whole && self.config.plan.reserve_slots == 0 {
                self.unacknowledged.told(to, self.version, &stripes, self.now);
            }
            let feeds = stripes.into_iter().filter_map(|stripe| {
                let parent = self.plan.parent(to, stripe)?;
                Some(Feed { stripe, parent, backups: self.plan.backups(to, stripe).into_iter().collect() })
            });
            let message = ForestMessage::Plan(Plan {
                swarm: self.swarm,
                source: self.source,
                epoch: self.config.facts.epoch,
                stripes: self.config.facts.stripes,
                rate_bytes_per_s: self.config.facts.rate_bytes_per_s,
                deadline: self.config.facts.deadline,
                passes_on: self.plan.passes_on(to),
                version: self.version,
                feeds: feeds.collect(),
            });
            // Whoever waits for its first plan sees nothing yet.
            let class = if is_whole { Class::Control } else { Class::High };
            actions.push(PlannerAction { to, message, class });
        }
    }
}

fn ask_whether_it_lives<P>(to: P, actions: &mut Vec<PlannerAction<P>>) {
    actions.push(PlannerAction { to, message: ForestMessage::Check, class: Class::Control });
}
