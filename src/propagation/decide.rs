//! Who gets an update, in which class, at what quality, and after how much batching.

use alloc::vec::Vec;
use core::time::Duration;

use super::edges::Edges;
use crate::id::{PeerId, Priority, StateId};
use crate::interest::{InterestLevel, InterestMap, Scratch, VisitLevel};
use crate::io::Class;
use crate::time::Instant;

/// What a decision needs to know of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpdateFacts {
    /// What it is a version of.
    pub state: StateId,
    /// Its own priority. [`Priority::High`] and [`Priority::Urgent`] raise the class for everybody; the others change
    /// nothing.
    pub priority: Priority,
    /// Whether it stands alone, without the updates before it.
    pub keyframe: bool,
    /// Quality layer, 0 is the base.
    pub layer: u8,
    /// Its size as it is charged to the budgets of links.
    pub bytes: u32,
    /// The last instant at which it is of use; `None`: any time will do.
    pub deadline: Option<Instant>,
}

impl UpdateFacts {
    /// A keyframe of the base layer, of normal priority and without a deadline.
    pub const fn new(state: StateId, bytes: u32) -> Self {
        Self { state, priority: Priority::Normal, keyframe: true, layer: 0, bytes, deadline: None }
    }
}

/// How much of a state a peer gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Quality {
    /// Keyframes of the base layer.
    Keyframes,
    /// The base layer: every layer above it is dropped.
    Reduced,
    /// Everything.
    Full,
}

impl Quality {
    /// Whether an update belongs to this quality.
    pub const fn includes(self, keyframe: bool, layer: u8) -> bool {
        match self {
            Self::Full => true,
            Self::Reduced => layer == 0,
            Self::Keyframes => layer == 0 && keyframe,
        }
    }
}

/// What an interest level means for propagation.
///
/// | level | class | quality | delay |
/// |---|---|---|---|
/// | critical | urgent | full | 0 ms |
/// | high | high | full | 10 ms |
/// | medium | normal | reduced | 50 ms |
/// | low | background | keyframes | 200 ms |
/// | none | not sent | | |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LevelRule {
    /// In which order it leaves.
    pub class: Class,
    /// What is sent.
    pub quality: Quality,
    /// How long it may wait for company in a frame.
    pub delay: Duration,
}

impl LevelRule {
    /// The row of the table for `level`; `None` for [`InterestLevel::None`].
    pub const fn of(level: InterestLevel) -> Option<Self> {
        let (class, quality) = match level {
            InterestLevel::Critical => (Class::Urgent, Quality::Full),
            InterestLevel::High => (Class::High, Quality::Full),
            InterestLevel::Medium => (Class::Normal, Quality::Reduced),
            InterestLevel::Low => (Class::Background, Quality::Keyframes),
            InterestLevel::None => return None,
        };
        Some(Self { class, quality, delay: Duration::from_millis(delay_ms(class)) })
    }

    /// The row for `level` as an update of `priority` meets it.
    ///
    /// One rule: an update of priority High or Urgent leaves at least in the class of that name, with the delay of that
    /// class. Normal and Background change nothing, and no priority ever lowers a class or changes a quality.
    pub fn raised(level: InterestLevel, priority: Priority) -> Option<Self> {
        let rule = Self::of(level)?;
        if priority <= Priority::Normal {
            return Some(rule);
        }
        let class = rule.class.min(priority.into());
        Some(Self { class, delay: Duration::from_millis(delay_ms(class)), ..rule })
    }
}

/// How long a message of a class may wait for company.
const fn delay_ms(class: Class) -> u64 {
    match class {
        Class::Control | Class::Urgent => 0,
        Class::High => 10,
        Class::Normal => 50,
        Class::Background => 200,
    }
}

/// An update is to be sent to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision<P> {
    /// To whom.
    pub to: P,
    delay_us: u32,
    /// In which order it leaves.
    pub class: Class,
    /// The quality that the peer gets of this state.
    pub quality: Quality,
}

impl<P> Decision<P> {
    /// How long the update may wait for company in a frame: the delay of its class, or less if the deadline comes
    /// earlier.
    pub const fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us as u64)
    }
}

/// Why interested peers do not get an update at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Skipped {
    /// The update does not belong to the quality that their level gives.
    Quality,
    /// The deadline has passed, or will have when the update arrives (half of the round-trip time from now).
    Late,
}

/// What was decided about one update, in memory that is used again. See [`decide`](Self::decide).
#[derive(Clone, Debug)]
pub struct Decisions<P> {
    sends: Vec<Decision<P>>,
    /// Where each class ends in `sends`.
    ends: [usize; 5],
    unreachable: Vec<P>,
    over_budget: Vec<Decision<P>>,
    skipped_quality: usize,
    skipped_late: usize,
    scratch: Scratch,
}

impl<P> Default for Decisions<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Decisions<P> {
    /// No decisions.
    pub fn new() -> Self {
        Self {
            sends: Vec::new(),
            ends: [0; 5],
            unreachable: Vec::new(),
            over_budget: Vec::new(),
            skipped_quality: 0,
            skipped_late: 0,
            scratch: Scratch::default(),
        }
    }

    /// Whom to send it to, the most urgent class first; within a class in the order of the interest map.
    pub fn sends(&self) -> &[Decision<P>] {
        &self.sends
    }

    /// Those of [`sends`](Self::sends) in one class.
    pub fn in_class(&self, class: Class) -> &[Decision<P>] {
        let rank = class as usize;
        &self.sends[if rank == 0 { 0 } else { self.ends[rank - 1] }..self.ends[rank]]
    }

    /// Interested peers to which there is no active link, in the same order.
    pub fn unreachable(&self) -> &[P] {
        &self.unreachable
    }

    /// Decisions for which the budget of the link was too small, in the same order. Nothing was charged; the caller can
    /// queue them.
    pub fn over_budget(&self) -> &[Decision<P>] {
        &self.over_budget
    }

    /// How many interested peers do not get the update for this reason.
    pub fn skipped(&self, reason: Skipped) -> usize {
        match reason {
            Skipped::Quality => self.skipped_quality,
            Skipped::Late => self.skipped_late,
        }
    }

    /// Removes all decisions and keeps the memory.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.ends = [0; 5];
        self.unreachable.clear();
        self.over_budget.clear();
        (self.skipped_quality, self.skipped_late) = (0, 0);
    }
}

impl<P: PeerId> Decisions<P> {
    /// Decides for every peer that wants the update's state whether it is sent to it, in which class, at what quality,
    /// and after how much batching at most. What was decided before is forgotten.
    ///
    /// Every interested peer is met once: it is in [`sends`](Self::sends), [`unreachable`](Self::unreachable) or
    /// [`over_budget`](Self::over_budget), or counted in [`skipped`](Self::skipped). Quality is asked first, then the
    /// link, then the deadline, then the budget. Budgets of links shrink by what is in `sends`.
    ///
    /// Linear in the number of interested peers; allocates only when the buffers grow. Equal calls give equal
    /// decisions.
    ///
    /// ```
    /// use suffuse::propagation::{AllEdges, Decisions, Skipped, UpdateFacts};
    /// use suffuse::{Class, InterestLevel, InterestMap, Instant, StateId};
    ///
    /// let (mut map, track, now) = (InterestMap::default(), StateId(7), Instant::ZERO);
    /// map.declare("ann", track, InterestLevel::Low, None, now)?;
    /// map.declare("bob", track, InterestLevel::Critical, None, now)?;
    ///
    /// let mut decisions = Decisions::new();
    /// let delta = UpdateFacts { keyframe: false, ..UpdateFacts::new(track, 900) };
    /// decisions.decide(&delta, &map, &mut AllEdges::default(), now);
    /// assert_eq!(decisions.sends().len(), 1);
    /// assert_eq!((decisions.sends()[0].to, decisions.sends()[0].class), ("bob", Class::Urgent));
    /// assert_eq!(decisions.skipped(Skipped::Quality), 1, "ann gets keyframes only");
    /// # Ok::<(), suffuse::InterestError>(())
    /// ```
    pub fn decide(
        &mut self,
        update: &UpdateFacts,
        interest: &InterestMap<P>,
        edges: &mut impl Edges<P>,
        now: Instant,
    ) {
        self.clear();
        let time_left_us = update.deadline.map(|deadline| deadline.as_micros().checked_sub(now.as_micros()));
        let mut scratch = core::mem::take(&mut self.scratch);
        interest.visit_levels(
            update.state,
            &mut scratch,
            &mut Visitor { out: self, update, edges, time_left_us },
        );
        self.scratch = scratch;
        // A class that nobody is in ends where the one before it ends.
        for rank in 1..self.ends.len() {
            self.ends[rank] = self.ends[rank].max(self.ends[rank - 1]);
        }
    }
}

struct Visitor<'a, P, E> {
    out: &'a mut Decisions<P>,
    update: &'a UpdateFacts,
    edges: &'a mut E,
    /// Microseconds to the deadline if there is one; `Some(None)` if it has passed.
    time_left_us: Option<Option<u64>>,
}

impl<P: PeerId, E: Edges<P>> VisitLevel<P> for Visitor<'_, P, E> {
    fn visit(&mut self, level: InterestLevel, peers: impl ExactSizeIterator<Item = (u32, P)>) {
        let Some(rule) = LevelRule::raised(level, self.update.priority) else { return };
        let out = &mut *self.out;
        if !rule.quality.includes(self.update.keyframe, self.update.layer) {
            out.skipped_quality += peers.len();
            return;
        }
        let time_left_us = match self.time_left_us {
            None => u64::MAX,
            Some(Some(left)) => left,
            Some(None) => {
                out.skipped_late += peers.len();
                return;
            }
        };
        let delay_us = delay_ms(rule.class) * 1_000;
        let decision = |to, delay_us: u64| Decision {
            to,
            delay_us: delay_us as u32,
            class: rule.class,
            quality: rule.quality,
        };
        if self.edges.is_unrestricted() {
            let delay_us = delay_us.min(time_left_us);
            out.sends.extend(peers.map(|(_, to)| decision(to, delay_us)));
        } else {
            let bytes = u64::from(self.update.bytes);
            out.sends.reserve(peers.len());
            for (index, to) in peers {
                let Some(edge) = self.edges.edge(to, index).filter(|edge| edge.is_active()) else {
                    out.unreachable.push(to);
                    continue;
                };
                let Some(spare_us) = time_left_us.checked_sub(edge.one_way_us()) else {
                    out.skipped_late += 1;
                    continue;
                };
                let decision = decision(to, delay_us.min(spare_us));
                if edge.charge(bytes) {
                    out.sends.push(decision);
                } else {
                    out.over_budget.push(decision);
                }
            }
        }
        out.ends[rule.class as usize] = out.sends.len();
    }
}

#[cfg(test)]
mod tests;
