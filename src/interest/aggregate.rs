//! What a whole subtree wants, and what a relay tells its parent about it.

use alloc::collections::{BTreeMap, BTreeSet};

use super::types::{InterestLevel, InterestTarget};

/// The maximum over all peers' declarations for one target changed.
///
/// The aggregate of a target counts the declarations for this very target. Because a peer's interest in a state is the
/// maximum over its declarations, a parent that holds a relay's aggregates as the relay's declarations computes
/// exactly what the subtree wants of every state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AggregateChange {
    /// The target.
    pub target: InterestTarget,
    /// The maximum before.
    pub from: InterestLevel,
    /// The maximum now.
    pub to: InterestLevel,
    /// The highest aggregate among the wider targets that contain this one.
    pub covered: InterestLevel,
}

impl AggregateChange {
    /// The change with wider targets taken into account: `from` and `to`, each raised to `covered`.
    ///
    /// For a single state this is [`max_level`](super::InterestMap::max_level) before and after the change. For a
    /// range it holds wherever no narrower or partly overlapping target asks for more. Equal levels mean that no
    /// state's maximum changed.
    pub fn effective(&self) -> (InterestLevel, InterestLevel) {
        (self.from.max(self.covered), self.to.max(self.covered))
    }
}

/// One thing that a relay should declare to its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubtreeChange {
    /// The target.
    pub target: InterestTarget,
    /// What the subtree wants of it now; [`InterestLevel::None`] withdraws.
    pub level: InterestLevel,
}

/// What a relay has told its parent about its subtree, and what it has yet to tell.
///
/// Changes that cancel each other before they are told are never told. Withdrawals come first: that bounds the memory
/// by twice the number of targets that the map may hold, however rarely the relay tells anything. Then come the
/// highest levels.
///
/// ```
/// use suffuse::{InterestLevel, InterestMap, Instant, StateId, SubtreeInterest};
///
/// let mut children = InterestMap::default();
/// let mut subtree = SubtreeInterest::new();
/// let (track, now) = (StateId(7), Instant::ZERO);
///
/// for (child, level) in [(1, InterestLevel::High), (2, InterestLevel::Low)] {
///     let change = children.declare(child, track, level, None, now)?;
///     subtree.extend(change.aggregate);
/// }
/// let told = subtree.poll_change().expect("the parent knows nothing yet");
/// assert_eq!(told.level, InterestLevel::High);
/// assert_eq!(subtree.poll_change(), None, "the second child changes nothing");
///
/// subtree.extend(children.withdraw(1, track)?.aggregate);
/// assert_eq!(subtree.poll_change().map(|told| told.level), Some(InterestLevel::Low));
/// # Ok::<(), suffuse::InterestError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SubtreeInterest {
    targets: BTreeMap<InterestTarget, Levels>,
    /// The targets that are to be told, by urgency.
    untold: BTreeSet<(u8, InterestTarget)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    wanted: InterestLevel,
    told: InterestLevel,
    /// Told before, to a parent that is about to forget.
    stale: bool,
    /// The urgency under which it is among the untold.
    queued: Option<u8>,
}

impl Levels {
    fn urgency(&self) -> Option<u8> {
        match self.wanted {
            InterestLevel::None => (self.told != InterestLevel::None).then_some(0),
            wanted => (self.stale || wanted != self.told).then_some(1 + wanted.rank() as u8),
        }
    }
}

impl SubtreeInterest {
    /// A subtree that wants nothing, and a parent that was told nothing.
    pub const fn new() -> Self {
        Self { targets: BTreeMap::new(), untold: BTreeSet::new() }
    }

    /// Notes that the aggregate of a target changed. `O(log targets)`.
    pub fn note(&mut self, change: AggregateChange) {
        let mut levels = self.targets.get(&change.target).copied().unwrap_or_default();
        levels.wanted = change.to;
        self.settle(change.target, levels);
    }

    /// The next thing to declare to the parent; it counts as told. Withdrawals first, then by level from the highest,
    /// then by target. `O(log targets)`.
    pub fn poll_change(&mut self) -> Option<SubtreeChange> {
        let &(_, target) = self.untold.first()?;
        let &levels = self.targets.get(&target)?;
        self.settle(target, Levels { told: levels.wanted, stale: false, ..levels });
        Some(SubtreeChange { target, level: levels.wanted })
    }

    /// Everything is to be told again, because declarations with a time to live are due for renewal. The parent keeps
    /// what it has, so withdrawals not yet told remain to be told. `O(targets · log targets)`.
    pub fn renew(&mut self) {
        for (&target, levels) in &mut self.targets {
            levels.stale = true;
            requeue(&mut self.untold, target, levels);
        }
    }

    /// There is a new parent, which was told nothing. `O(targets · log targets)`.
    pub fn reset(&mut self) {
        self.untold.clear();
        let untold = &mut self.untold;
        self.targets.retain(|&target, levels| {
            *levels = Levels { wanted: levels.wanted, ..Levels::default() };
            requeue(untold, target, levels);
            levels.queued.is_some()
        });
    }

    /// What the subtree wants of this very target, told or not. `O(log targets)`.
    pub fn wanted(&self, target: impl Into<InterestTarget>) -> InterestLevel {
        self.targets.get(&target.into()).map_or(InterestLevel::None, |levels| levels.wanted)
    }

    /// How many targets remain to be told.
    pub fn untold_count(&self) -> usize {
        self.untold.len()
    }

    fn settle(&mut self, target: InterestTarget, mut levels: Levels) {
        requeue(&mut self.untold, target, &mut levels);
        if levels.wanted == InterestLevel::None && levels.queued.is_none() {
            self.targets.remove(&target);
        } else {
            self.targets.insert(target, levels);
        }
    }
}

fn requeue(untold: &mut BTreeSet<(u8, InterestTarget)>, target: InterestTarget, levels: &mut Levels) {
    let urgency = levels.urgency();
    if levels.queued == urgency {
        return;
    }
    if let Some(before) = levels.queued {
        untold.remove(&(before, target));
    }
    if let Some(after) = urgency {
        untold.insert((after, target));
    }
    levels.queued = urgency;
}

impl Extend<AggregateChange> for SubtreeInterest {
    fn extend<I: IntoIterator<Item = AggregateChange>>(&mut self, changes: I) {
        for change in changes {
            self.note(change);
        }
    }
}
