//! One authority, many states, many observers: what each observer is sent, tick by tick, within its budget.

mod config;
mod pending;
mod select;
mod stats;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

pub use config::{StateSyncConfig, StateSyncError};
use pending::{Mark, PARKED, Queue};
pub use select::{Selected, TickReport};
pub use stats::{LevelSyncStats, StateSyncStats};

use crate::id::{PeerId, StateId};
use crate::interest::{InterestChange, InterestLevel, InterestMap, InterestTarget};
use crate::time::Instant;

/// One value of a state, as the scheduler needs to know it; the host keeps the value itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StateValue {
    /// The host's number for the value. It is handed back and never compared: a later call is a newer value.
    pub version: u64,
    /// Its encoded size.
    pub bytes: u32,
    /// Whether observers with low interest get it too.
    pub keyframe: bool,
    /// The last instant at which it is of use; `None`: until there is a newer one.
    pub deadline: Option<Instant>,
}

/// Keeps many observers up to date on many states, of which each changes faster than the budgets allow to send.
///
/// A sans-IO machine: the host tells it the values, who wants what, and once per tick and observer how many bytes may
/// leave; it answers which values to send.
///
/// # What is sent
///
/// - A newer value replaces the older one for everybody who has not got it: only the newest is ever sent. So a value
///   must be usable without the ones before it, or relative to something that the host knows the observer has.
/// - [`InterestLevel::Low`] gets keyframes only: the newest of them, even if a value that is none came after it.
/// - Who begins to want a state gets its present value, unless it has it.
/// - A value whose deadline has passed is not sent, and counted.
///
/// # Order
///
/// The value with the highest score leaves first. The score is the weight of the level
/// ([`StateSyncConfig::weights`]), times the waiting time plus [`StateSyncConfig::patience`]. The waiting time counts
/// from the first change that the observer has not got, so a newer value takes the place of the old one in the queue.
/// Within a level that is the oldest first: all states of a level take turns, and a score that grows without end
/// leaves nobody behind. What fits no more in a tick is passed over for smaller values, eight at most a tick.
///
/// # Budget
///
/// The bytes of a tick are at most its budget plus what was left before, of which one tick's budget at most is kept.
/// A value that costs more than a tick has is *parked*: it saves up half of each tick's budget until it is paid for,
/// while the other half serves the rest. One value at a time is parked, the one with the highest score. So all bytes
/// ever selected are never more than all budgets ever given, and nothing that has a positive budget starves.
///
/// # Costs
///
/// A change costs `O(observers)` with a constant of four bytes to read, and `O(1)` more for each observer that had been
/// up to date. A tick costs `O(log pending)` for each value sent, whatever the number of states. A value that waits for
/// an observer takes 8 bytes, a state 4 bytes for each observer, the interest is an [`InterestMap`].
///
/// # Example
///
/// ```
/// use core::time::Duration;
/// use suffuse::propagation::{StateSync, StateSyncConfig, StateValue};
/// use suffuse::{Instant, InterestLevel, StateId};
///
/// let (tank, now) = (StateId(7), Instant::ZERO);
/// let mut sync = StateSync::new(StateSyncConfig::default(), now);
/// let value = |version| StateValue { version, bytes: 40, keyframe: true, deadline: None };
/// sync.declare("ann", tank, InterestLevel::High, None, now)?;
/// sync.set_state(tank, value(1), now)?;
/// sync.set_state(tank, value(2), now)?;
///
/// let mut selected = Vec::new();
/// sync.tick("ann", 1_600, now + Duration::from_millis(50), &mut selected)?;
/// assert_eq!(selected.len(), 1);
/// assert_eq!((selected[0].state, selected[0].version), (tank, 2));
/// assert_eq!(sync.stats().superseded, 1);
/// # Ok::<(), suffuse::propagation::StateSyncError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StateSync<P> {
    config: StateSyncConfig,
    /// Waiting times are kept in whole milliseconds since then.
    origin: Instant,
    now: Instant,
    interest: InterestMap<P>,
    by_state: BTreeMap<StateId, u32>,
    records: Vec<Record>,
    free_records: Vec<u32>,
    by_peer: BTreeMap<P, u32>,
    observers: Vec<Observer<P>>,
    free_observers: Vec<u32>,
    changes: Vec<InterestChange<P>>,
    /// States that an interest change is about.
    touched: Vec<(StateId, u32)>,
    selected: Vec<Selected>,
    stats: StateSyncStats,
}

#[derive(Clone, Debug)]
struct Record {
    id: StateId,
    latest: StateValue,
    keyframe: Option<StateValue>,
    /// By observer; what lies beyond the end is empty.
    marks: Vec<Mark>,
}

impl Record {
    fn mark(&self, observer: u32) -> Mark {
        self.marks.get(observer as usize).copied().unwrap_or_default()
    }

    fn mark_mut(&mut self, observer: u32) -> &mut Mark {
        let observer = observer as usize;
        if observer >= self.marks.len() {
            self.marks.reserve_exact(observer + 1 - self.marks.len() + observer / 8);
            self.marks.resize(observer + 1, Mark::default());
        }
        &mut self.marks[observer]
    }

    /// What an observer of that level is sent.
    fn value(&self, level: InterestLevel) -> Option<&StateValue> {
        match level {
            InterestLevel::None => None,
            InterestLevel::Low => self.keyframe.as_ref(),
            _ => Some(&self.latest),
        }
    }

    /// The value that an observer with this mark lacks and wants.
    fn lacking(&self, mark: Mark, now: Instant) -> Option<&StateValue> {
        let value = self.value(mark.level())?;
        let has = if mark.level() == InterestLevel::Low { mark.has_keyframe() } else { mark.has_latest() };
        (!has && !is_late(value, now)).then_some(value)
    }
}

fn is_late(value: &StateValue, now: Instant) -> bool {
    value.deadline.is_some_and(|deadline| deadline < now)
}

#[derive(Clone, Debug)]
struct Observer<P> {
    /// `None` if the place is free.
    peer: Option<P>,
    /// What waits, by level from the highest.
    queues: [Queue; 4],
    /// The key of a value that is saved up for.
    parked: Option<u64>,
    savings_bytes: u64,
    carry_bytes: u64,
}

impl<P: PeerId> StateSync<P> {
    /// A scheduler without states and observers.
    pub fn new(config: StateSyncConfig, now: Instant) -> Self {
        Self {
            config: config.clamped(),
            origin: now,
            now,
            interest: InterestMap::new(config.interest),
            by_state: BTreeMap::new(),
            records: Vec::new(),
            free_records: Vec::new(),
            by_peer: BTreeMap::new(),
            observers: Vec::new(),
            free_observers: Vec::new(),
            changes: Vec::new(),
            touched: Vec::new(),
            selected: Vec::new(),
            stats: StateSyncStats::default(),
        }
    }

    /// Sets the value of a state, new or known, instead of the one before. `O(observers)`.
    ///
    /// # Errors
    /// [`StateSyncError::TooManyStates`] if the state is new and there are as many as allowed.
    pub fn set_state(
        &mut self,
        state: StateId,
        value: StateValue,
        now: Instant,
    ) -> Result<(), StateSyncError> {
        self.advance(now);
        let Some(&place) = self.by_state.get(&state) else { return self.add_state(state, value) };
        self.stats.changes += 1;
        let since = self.since();
        let (record, stats) = (&mut self.records[place as usize], &mut self.stats);
        record.latest = value;
        if value.keyframe {
            record.keyframe = Some(value);
        }
        for (mark, observer) in record.marks.iter_mut().zip(&mut self.observers) {
            if mark.is_empty() {
                continue;
            }
            mark.forget(value.keyframe);
            let level = mark.level();
            if level == InterestLevel::None || (level == InterestLevel::Low && !value.keyframe) {
                continue;
            }
            stats.offer(&value);
            if mark.is_pending() {
                stats.superseded += 1;
            } else {
                // The newest key of all is at home at the end: nobody else moves.
                mark.set_place(observer.queues[rank(level)].push_newest(pending::key(since, place)));
                stats.pending += 1;
            }
        }
        Ok(())
    }

    /// Forgets a state, for everybody; false if it is unknown. `O(observers + waiting · log pending)`.
    pub fn remove_state(&mut self, state: StateId) -> bool {
        let Some(place) = self.by_state.remove(&state) else { return false };
        for observer in 0..self.records[place as usize].marks.len() as u32 {
            if self.unqueue(observer, place).is_some() {
                self.stats.dropped_removed += 1;
            }
        }
        self.records[place as usize].marks = Vec::new();
        self.free_records.push(place);
        true
    }

    /// Declares how much an observer wants a state or a range of states, as [`InterestMap::declare`] does;
    /// the first declaration makes it an observer. `O(log declarations)` for each known state of the target.
    ///
    /// # Errors
    /// [`StateSyncError::TooManyObservers`], or [`StateSyncError::Interest`] with what the map refused.
    pub fn declare(
        &mut self,
        observer: P,
        target: impl Into<InterestTarget>,
        level: InterestLevel,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<(), StateSyncError> {
        self.advance(now);
        if !self.by_peer.contains_key(&observer) && self.by_peer.len() >= self.config.observers_max {
            return Err(StateSyncError::TooManyObservers { max: self.config.observers_max });
        }
        let change = self.interest.declare(observer, target, level, ttl, self.now)?;
        if change.to != InterestLevel::None {
            self.add_observer(observer);
        }
        self.follow(change);
        Ok(())
    }

    /// Forgets an observer, its interest and what waits for it; false if it is unknown.
    /// `O(states + own · log declarations)`.
    pub fn remove_observer(&mut self, observer: P) -> bool {
        let Some(place) = self.by_peer.remove(&observer) else { return false };
        self.changes.clear();
        self.interest.remove_peer(observer, &mut self.changes);
        self.changes.clear();
        for record in &mut self.records {
            if let Some(mark) = record.marks.get_mut(place as usize) {
                *mark = Mark::default();
            }
        }
        let waiting = self.observers[place as usize].waiting() as u64;
        self.stats.dropped_removed += waiting;
        self.stats.pending -= waiting;
        self.observers[place as usize] = Observer::new(None);
        self.free_observers.push(place);
        true
    }

    /// When [`Self::handle_timeout`] has something to do: the next end of a declaration. `O(1)`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.interest.poll_timeout()
    }

    /// Ends the declarations whose time has come. Every call with a `now` does it; only a host that makes none for long
    /// needs this one.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Who wants what.
    pub fn interest(&self) -> &InterestMap<P> {
        &self.interest
    }

    /// The newest value of a state. `O(log states)`.
    pub fn value(&self, state: StateId) -> Option<StateValue> {
        self.by_state.get(&state).map(|&place| self.records[place as usize].latest)
    }

    /// The observers in ascending order.
    pub fn observers(&self) -> impl ExactSizeIterator<Item = P> + '_ {
        self.by_peer.keys().copied()
    }

    /// What waits for an observer, with its level and for how long, in no particular order; nothing for strangers. May
    /// hold values whose deadline has passed.
    pub fn pending(&self, observer: P) -> impl Iterator<Item = (StateId, InterestLevel, Duration)> + '_ {
        let place = self.by_peer.get(&observer).copied();
        place.into_iter().flat_map(move |place| {
            let observer = &self.observers[place as usize];
            let keys = observer.queues.iter().flat_map(Queue::iter).chain(observer.parked);
            keys.map(move |key| {
                let record = &self.records[pending::state(key) as usize];
                let waited = Duration::from_millis(self.since() - pending::since(key));
                (record.id, record.mark(place).level(), waited)
            })
        })
    }

    /// How many states there are.
    pub fn state_count(&self) -> usize {
        self.by_state.len()
    }

    /// What happened so far.
    pub fn stats(&self) -> &StateSyncStats {
        &self.stats
    }

    fn since(&self) -> u64 {
        (self.now - self.origin).as_millis() as u64
    }

    /// Moves time, and ends declarations.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.interest.poll_timeout().is_some_and(|at| at <= self.now) {
            let mut changes = core::mem::take(&mut self.changes);
            self.interest.handle_timeout(self.now, &mut changes);
            for change in changes.drain(..) {
                self.follow(change);
            }
            self.changes = changes;
        }
    }

    fn add_state(&mut self, id: StateId, value: StateValue) -> Result<(), StateSyncError> {
        let max = self.config.states_max;
        if self.by_state.len() >= max {
            return Err(StateSyncError::TooManyStates { max });
        }
        self.stats.changes += 1;
        let record =
            Record { id, latest: value, keyframe: value.keyframe.then_some(value), marks: Vec::new() };
        let place = if let Some(place) = self.free_records.pop() {
            self.records[place as usize] = record;
            place
        } else {
            self.records.push(record);
            self.records.len() as u32 - 1
        };
        self.by_state.insert(id, place);
        let wanting: Vec<_> = self.interest.interested(id, InterestLevel::Low).collect();
        for (peer, level) in wanting {
            self.set_level(self.by_peer[&peer], place, level);
        }
        Ok(())
    }

    fn add_observer(&mut self, peer: P) {
        if self.by_peer.contains_key(&peer) {
            return;
        }
        let observer = Observer::new(Some(peer));
        let place = if let Some(place) = self.free_observers.pop() {
            self.observers[place as usize] = observer;
            place
        } else {
            self.observers.push(observer);
            self.observers.len() as u32 - 1
        };
        self.by_peer.insert(peer, place);
    }

    /// Brings the marks in line with a change of interest.
    fn follow(&mut self, change: InterestChange<P>) {
        if change.from == change.to {
            return;
        }
        let Some(&observer) = self.by_peer.get(&change.peer) else { return };
        let (first, last) = (change.target.first(), change.target.last());
        let mut touched = core::mem::take(&mut self.touched);
        touched.extend(self.by_state.range(first..=last).map(|(&id, &place)| (id, place)));
        for (id, place) in touched.drain(..) {
            let level = self.interest.level(change.peer, id);
            self.set_level(observer, place, level);
        }
        self.touched = touched;
    }

    fn set_level(&mut self, observer: u32, place: u32, level: InterestLevel) {
        if self.records[place as usize].mark(observer).level() == level {
            return;
        }
        let parked = self.records[place as usize].mark(observer).place() == PARKED;
        let queued = self.unqueue(observer, place);
        let since = self.since();
        let record = &mut self.records[place as usize];
        record.mark_mut(observer).set_level(level);
        let lacking = record.lacking(record.mark(observer), self.now).copied();
        match (queued, lacking) {
            (Some(_), None) if record.value(level).is_some_and(|value| is_late(value, self.now)) => {
                self.stats.dropped_late += 1;
            }
            (Some(_), None) => self.stats.dropped_unwanted += 1,
            (None, Some(value)) => self.stats.offer(&value),
            _ => {}
        }
        if lacking.is_some() {
            let key = queued.unwrap_or(pending::key(since, place));
            if parked {
                self.park(observer, key);
            } else {
                self.enqueue(observer, key);
            }
        }
    }

    /// Takes a value from whatever it waits in, and returns its key.
    fn unqueue(&mut self, observer: u32, place: u32) -> Option<u64> {
        let mark = self.records[place as usize].mark(observer);
        if !mark.is_pending() {
            return None;
        }
        self.stats.pending -= 1;
        self.records[place as usize].mark_mut(observer).set_place(None);
        let waiting = &mut self.observers[observer as usize];
        if mark.place() == PARKED {
            return waiting.parked.take();
        }
        let records = &mut self.records;
        let at = mark.place().unwrap_or_default();
        Some(waiting.queues[rank(mark.level())].remove(at, |state, place| {
            records[state as usize].mark_mut(observer).set_place(Some(place));
        }))
    }

    /// Puts a key in the queue of its level.
    fn enqueue(&mut self, observer: u32, key: u64) {
        self.stats.pending += 1;
        let level = self.records[pending::state(key) as usize].mark(observer).level();
        let records = &mut self.records;
        self.observers[observer as usize].queues[rank(level)].insert(key, |state, place| {
            records[state as usize].mark_mut(observer).set_place(Some(place));
        });
    }

    fn park(&mut self, observer: u32, key: u64) {
        self.stats.pending += 1;
        self.records[pending::state(key) as usize].mark_mut(observer).set_place(PARKED);
        self.observers[observer as usize].parked = Some(key);
    }
}

impl<P> Observer<P> {
    const fn new(peer: Option<P>) -> Self {
        let queues = [Queue::new(), Queue::new(), Queue::new(), Queue::new()];
        Self { peer, queues, parked: None, savings_bytes: 0, carry_bytes: 0 }
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(Queue::len).sum::<usize>() + usize::from(self.parked.is_some())
    }
}

/// The place of a level in [`InterestLevel::DESCENDING`].
const fn rank(level: InterestLevel) -> usize {
    4 - level as usize
}
