//! The log of one swarm: every source's window, and the bodies that retention keeps.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::{Bound, Range};
use core::time::Duration;

use super::arrivals::Arrivals;
use super::bodies::Bodies;
use super::index::Index;
use super::ranges::RangeSet;
use super::retention::{Retention, Stored};
use super::window::Window;
use crate::id::{Epoch, StateId};
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{Data, WirePeer};

/// The limits of a [`Log`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLimits {
    /// Sources tracked, at most.
    pub sources_max: usize,
    /// Sequences between the oldest missing update of a source and its newest, at most.
    pub window_max: u64,
    /// Updates older than this are refused (not with [`Retention::Latest`]).
    pub age_max: Duration,
}

/// A source's place in a log; stable while the source is tracked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceIndex(pub u32);

/// What became of an update offered to a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Receipt {
    /// It is new: deliver it and pass it on. If the source ran too far ahead, these older ones were given up.
    New {
        /// Its source.
        source: SourceIndex,
        /// Missing updates that no longer fit the window.
        given_up: RangeSet,
    },
    /// It was known already.
    Duplicate {
        /// Its source.
        source: SourceIndex,
    },
    /// A newer update of its state is here already: noted, not to be delivered.
    Superseded {
        /// Its source.
        source: SourceIndex,
    },
    /// It is older than the age limit: noted, not to be delivered.
    TooOld {
        /// Its source.
        source: SourceIndex,
    },
    /// Two later lives of its origin are known. Nothing was changed.
    StaleEpoch,
    /// As many sources are tracked as allowed, and none can go. Nothing was changed.
    SourcesFull,
}

/// Every source's window and retained bodies; the memory of a swarm.
///
/// ```
/// use bytes::Bytes;
/// use suffuse::{Epoch, Instant, Priority, StateId};
/// use suffuse::log::{Log, LogLimits, Receipt, Retention};
/// use suffuse::wire::Data;
///
/// let limits = LogLimits { sources_max: 16, window_max: 1024, age_max: std::time::Duration::from_secs(60) };
/// let mut log = Log::<u64>::new(limits, Retention::Latest);
/// let now = Instant::from_secs(1);
/// let data = Data {
///     origin: 7, epoch: Epoch(1), sequence: 0, state: StateId(3), priority: Priority::Normal, keyframe: false,
///     layer: 0, hops: 0, pulled: false, flood: false, born: now, body: Bytes::from_static(b"x"),
///     signature: Bytes::new(),
/// };
/// assert!(matches!(log.receive(&data, now), Receipt::New { .. }));
/// assert!(matches!(log.receive(&data, now), Receipt::Duplicate { .. }));
/// ```
#[derive(Clone, Debug)]
pub struct Log<P> {
    limits: LogLimits,
    retention: Retention,
    index: Index<P>,
    slots: Vec<Option<Source<P>>>,
    free: Vec<SourceIndex>,
    /// With `Latest` and `SinceKeyframe`: the newest update (or keyframe) of each state.
    newest: BTreeMap<(P, StateId), (Epoch, u64)>,
    /// With `Window`: kept bodies by arrival; those that are gone are skipped.
    arrivals: Arrivals,
    /// When the first of them was published.
    first_born: Option<Instant>,
    bodies: usize,
    bytes: usize,
    fingerprint: u64,
    next_sweep: Option<Instant>,
    /// Sources that went to make room for a later life of their origin, until the owner asks.
    replaced: Vec<SourceIndex>,
}

#[derive(Clone, Debug)]
struct Source<P> {
    origin: P,
    epoch: Epoch,
    window: Window,
    bodies: Bodies,
    last_active: Instant,
}

impl<P: WirePeer> Log<P> {
    /// An empty log.
    pub fn new(limits: LogLimits, retention: Retention) -> Self {
        Self {
            limits,
            retention,
            index: Index::default(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: BTreeMap::new(),
            arrivals: Arrivals::default(),
            first_born: None,
            bodies: 0,
            bytes: 0,
            fingerprint: 0,
            next_sweep: None,
            replaced: Vec::new(),
        }
    }

    /// Offers an update.
    pub fn receive(&mut self, data: &Data<P>, now: Instant) -> Receipt {
        let index = match self.track(data.origin, data.epoch, now) {
            Ok(index) => index,
            Err(refusal) => return refusal,
        };
        let too_old = self.is_too_old(data.born, now);
        let window_max = self.limits.window_max;
        let (new, given_up) = self.change_window(index, |window| {
            if window.contains(data.sequence) {
                return (false, RangeSet::new());
            }
            let given_up = window.give_up_below((data.sequence + 1).saturating_sub(window_max));
            (window.insert(data.sequence), given_up)
        });
        // A sequence that was just given up counts as new: its body is here.
        let new = new || given_up.contains(data.sequence);
        if !new {
            return Receipt::Duplicate { source: index };
        }
        self.source_mut(index).last_active = now;
        if too_old {
            return Receipt::TooOld { source: index };
        }
        if self.is_superseded(data) {
            return Receipt::Superseded { source: index };
        }
        self.keep(index, data, now);
        Receipt::New { source: index, given_up }
    }

    /// Notes an update as known although it is refused: it will not be asked for again. False if it was known.
    pub fn note(&mut self, data: &Data<P>, now: Instant) -> bool {
        let Ok(index) = self.track(data.origin, data.epoch, now) else { return false };
        let window_max = self.limits.window_max;
        self.change_window(index, |window| {
            let near = data.sequence < window.base().saturating_add(window_max);
            near && window.insert(data.sequence)
        })
    }

    /// Whether an update is known.
    pub fn knows(&self, origin: P, epoch: Epoch, sequence: u64) -> bool {
        let window = self.source(origin, epoch).and_then(|source| self.window(source));
        window.is_some_and(|window| window.contains(sequence))
    }

    /// The tracked source, if it is.
    pub fn source(&self, origin: P, epoch: Epoch) -> Option<SourceIndex> {
        self.index.get(origin, epoch)
    }

    /// The latest life of `origin` that is tracked.
    pub fn latest_epoch(&self, origin: P) -> Option<(Epoch, SourceIndex)> {
        let range = (Bound::Included((origin, Epoch(0))), Bound::Included((origin, Epoch(u32::MAX))));
        self.index.range(range).next_back().map(|((_, epoch), index)| (epoch, index))
    }

    /// Starts to track a source, if there is room.
    ///
    /// # Errors
    /// [`Receipt::StaleEpoch`] or [`Receipt::SourcesFull`]; nothing was changed.
    pub fn track(&mut self, origin: P, epoch: Epoch, now: Instant) -> Result<SourceIndex, Receipt> {
        if let Some(index) = self.source(origin, epoch) {
            return Ok(index);
        }
        let range = (Bound::Included((origin, Epoch(0))), Bound::Included((origin, Epoch(u32::MAX))));
        let mut lives = self.index.range(range).map(|((_, life), index)| (life, index));
        let (first, second) = (lives.next(), lives.next());
        drop(lives);
        if let (Some((oldest, index)), Some(_)) = (first, second) {
            if epoch < oldest {
                return Err(Receipt::StaleEpoch);
            }
            self.forget(index);
            self.replaced.push(index);
        } else if self.index.len() >= self.limits.sources_max {
            return Err(Receipt::SourcesFull);
        }
        let salt = mix(origin.digest() ^ u64::from(epoch.0));
        let source =
            Source { origin, epoch, window: Window::new(salt), bodies: Bodies::default(), last_active: now };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                // Most topics have few sources, and some have many.
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(self.slots.len() / 4 + 1);
                }
                self.slots.push(None);
                SourceIndex(self.slots.len() as u32 - 1)
            }
        };
        self.slots[index.0 as usize] = Some(source);
        self.index.insert(origin, epoch, index);
        let sweep = now + self.limits.age_max;
        self.next_sweep = Some(self.next_sweep.map_or(sweep, |at| at.min(sweep)));
        Ok(index)
    }

    /// The origin and epoch of a source.
    pub fn name(&self, source: SourceIndex) -> Option<(P, Epoch)> {
        self.slots.get(source.0 as usize)?.as_ref().map(|source| (source.origin, source.epoch))
    }

    /// A source's window.
    pub fn window(&self, source: SourceIndex) -> Option<&Window> {
        self.slots.get(source.0 as usize)?.as_ref().map(|source| &source.window)
    }

    /// The sequences of a source whose bodies are here.
    pub fn held(&self, source: SourceIndex) -> RangeSet {
        let Some(source) = self.slots.get(source.0 as usize).and_then(Option::as_ref) else {
            return RangeSet::new();
        };
        source.bodies.iter().map(|(sequence, _)| sequence..sequence + 1).collect()
    }

    /// An update whose body is here and young enough to be passed on.
    pub fn body(&self, source: SourceIndex, sequence: u64, now: Instant) -> Option<Data<P>> {
        let source = self.slots.get(source.0 as usize)?.as_ref()?;
        let stored = source.bodies.find(sequence)?;
        if self.is_too_old(stored.born(), now) {
            return None;
        }
        Some(stored.data(source.origin, source.epoch, sequence))
    }

    /// Gives up what of `range` is missing: it counts as known from now on. Returns what was missing.
    pub fn close(&mut self, source: SourceIndex, range: Range<u64>) -> RangeSet {
        // Far ahead of the base, closing would cost a bit per sequence.
        let window_max = self.limits.window_max;
        self.change_window(source, |window| {
            let end = if range.start <= window.base() {
                range.end
            } else {
                range.end.min(window.base().saturating_add(window_max))
            };
            window.close(range.start..end)
        })
    }

    /// Sources tracked.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no source is tracked.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bodies kept, and their bytes.
    pub fn kept(&self) -> (usize, usize) {
        (self.bodies, self.bytes)
    }

    /// The fingerprint of everything known.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The sources with an origin from `lower` (included) up to `upper` (excluded); `None` is the end of the line.
    pub fn interval(&self, lower: Option<P>, upper: Option<P>) -> impl Iterator<Item = (P, Epoch, &Window)> {
        let lower = lower.map_or(Bound::Unbounded, |origin| Bound::Included((origin, Epoch(0))));
        let upper = upper.map_or(Bound::Unbounded, |origin| Bound::Excluded((origin, Epoch(0))));
        let valid = match (&lower, &upper) {
            (Bound::Included(low), Bound::Excluded(high)) => low < high,
            _ => true,
        };
        let range = if valid { (lower, upper) } else { (Bound::Unbounded, Bound::Unbounded) };
        let entries = self.index.range(range).take(if valid { usize::MAX } else { 0 });
        entries.filter_map(|((origin, epoch), index)| Some((origin, epoch, self.window(index)?)))
    }

    /// The kept updates of an origin's life, the oldest first.
    pub fn updates(&self, source: SourceIndex, now: Instant) -> impl Iterator<Item = Data<P>> + '_ {
        let slot = self.slots.get(source.0 as usize).and_then(Option::as_ref);
        let sequences = slot.into_iter().flat_map(|slot| slot.bodies.iter().map(|(sequence, _)| sequence));
        sequences.filter_map(move |sequence| self.body(source, sequence, now))
    }

    /// A source that has gone since the last call, to make room for a later life of its origin. Its index may already
    /// mean the new one.
    pub fn take_replaced(&mut self) -> Option<SourceIndex> {
        self.replaced.pop()
    }

    /// Stops tracking a source, whatever it holds.
    pub fn remove(&mut self, source: SourceIndex) {
        if self.name(source).is_some() {
            self.forget(source);
        }
    }

    /// Drops bodies that are too old, and sources that have been quiet for twice the age limit and hold no body. The
    /// indices of dropped sources are appended to `dropped`.
    pub fn handle_timeout(&mut self, now: Instant, dropped: &mut Vec<SourceIndex>) {
        while self.first_born.is_some_and(|born| self.is_expired(born, now)) {
            if let Some((source, sequence)) = self.arrivals.pop_front() {
                self.drop_body(source, sequence);
            }
            self.note_first();
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            let quiet = self.limits.age_max * 2;
            for index in (0..self.slots.len() as u32).map(SourceIndex) {
                let gone = |source: &Source<P>| source.bodies.is_empty() && now - source.last_active >= quiet;
                if self.slots[index.0 as usize].as_ref().is_some_and(gone) {
                    self.forget(index);
                    dropped.push(index);
                }
            }
            self.next_sweep = (!self.index.is_empty()).then(|| now + self.limits.age_max);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = match self.retention {
            Retention::Window { age, .. } => self.first_born.map(|born| born + age),
            Retention::Latest | Retention::SinceKeyframe { .. } => None,
        };
        Instant::earliest([expiry, self.next_sweep])
    }

    /// The rest of the body of a kept update is here, though not in this log: it counts against what is kept. The update stays
    /// even if it alone is more than that.
    pub(crate) fn weigh(&mut self, index: SourceIndex, sequence: u64, bytes: usize) {
        let bytes_max = match self.retention {
            Retention::Latest => usize::MAX,
            Retention::SinceKeyframe { bytes } | Retention::Window { bytes, .. } => bytes,
        };
        let is_window = matches!(self.retention, Retention::Window { .. });
        let Some(source) = self.slots.get_mut(index.0 as usize).and_then(Option::as_mut) else { return };
        let Some(stored) = source.bodies.find_mut(sequence) else { return };
        let (before, keyframe) = (stored.set_elsewhere_bytes(bytes), stored.is_keyframe());
        self.bytes = self.bytes - before + bytes;
        if self.bytes <= bytes_max {
            return;
        }
        if !is_window {
            if !keyframe {
                self.drop_body(index, sequence);
            }
            return;
        }
        let mut skipped = None;
        while self.bytes > bytes_max {
            let Some(arrival) = self.arrivals.pop_front() else { break };
            if arrival == (index, sequence) {
                skipped = Some(arrival);
            } else {
                self.drop_body(arrival.0, arrival.1);
            }
        }
        if let Some((source, sequence)) = skipped {
            self.arrivals.push_front(source, sequence);
        }
        self.note_first();
    }

    fn source_mut(&mut self, index: SourceIndex) -> &mut Source<P> {
        self.slots[index.0 as usize].as_mut().expect("a tracked source has a slot")
    }

    /// Changes a window and keeps the sum of all fingerprints right.
    fn change_window<T>(&mut self, index: SourceIndex, change: impl FnOnce(&mut Window) -> T) -> T {
        let window = &mut self.source_mut(index).window;
        let before = window.fingerprint();
        let result = change(window);
        let after = window.fingerprint();
        self.fingerprint = self.fingerprint.wrapping_sub(before).wrapping_add(after);
        result
    }

    /// Whether an update is older than what is taken.
    pub(crate) fn is_too_old(&self, born: Instant, now: Instant) -> bool {
        match self.retention {
            Retention::Latest => false,
            Retention::SinceKeyframe { .. } => now - born > self.limits.age_max,
            Retention::Window { age, .. } => now - born > age.min(self.limits.age_max),
        }
    }

    fn is_expired(&self, born: Instant, now: Instant) -> bool {
        match self.retention {
            Retention::Window { age, .. } => born + age <= now,
            Retention::Latest | Retention::SinceKeyframe { .. } => false,
        }
    }

    fn is_superseded(&self, data: &Data<P>) -> bool {
        self.retention == Retention::Latest
            && self
                .newest
                .get(&(data.origin, data.state))
                .is_some_and(|&newest| newest > (data.epoch, data.sequence))
    }

    fn keep(&mut self, index: SourceIndex, data: &Data<P>, now: Instant) {
        let key = (data.origin, data.state);
        let bytes_max = match self.retention {
            Retention::Latest => {
                if let Some((epoch, sequence)) = self.newest.insert(key, (data.epoch, data.sequence)) {
                    self.drop_named(data.origin, epoch, sequence);
                }
                usize::MAX
            }
            Retention::SinceKeyframe { bytes } => {
                if data.keyframe {
                    self.start_group(data);
                } else if self.bytes + data.body.len() > bytes || self.is_before_group(data) {
                    return;
                }
                usize::MAX
            }
            Retention::Window { bytes, .. } => bytes,
        };
        self.bodies += 1;
        self.bytes += data.body.len();
        // Nothing is younger than the present.
        let born = data.born.min(now);
        self.source_mut(index).bodies.insert(data.sequence, Stored::new(data, born));
        if bytes_max == usize::MAX {
            return;
        }
        self.arrivals.push_back(index, data.sequence);
        if self.first_born.is_some() && self.bytes <= bytes_max {
            return;
        }
        while self.bytes > bytes_max {
            let Some((source, sequence)) = self.arrivals.pop_front() else { break };
            self.drop_body(source, sequence);
        }
        self.note_first();
    }

    /// Skips what is gone, and notes when the first body was published.
    fn note_first(&mut self) {
        self.first_born = loop {
            let Some((source, sequence)) = self.arrivals.front() else { break None };
            if let Some(stored) = self.stored(source, sequence) {
                break Some(stored.born());
            }
            self.arrivals.pop_front();
        };
    }

    /// A new keyframe: what its state had before goes.
    fn start_group(&mut self, data: &Data<P>) {
        let newest = self.newest.entry((data.origin, data.state)).or_insert((data.epoch, data.sequence));
        if *newest > (data.epoch, data.sequence) {
            return;
        }
        *newest = (data.epoch, data.sequence);
        let range = (Bound::Included((data.origin, Epoch(0))), Bound::Included((data.origin, data.epoch)));
        let lives: Vec<_> = self.index.range(range).map(|((_, epoch), index)| (epoch, index)).collect();
        for (epoch, index) in lives {
            let source = self.source_mut(index);
            let old: Vec<_> = source
                .bodies
                .iter()
                .filter(|&(sequence, stored)| {
                    stored.state() == data.state && (epoch, sequence) < (data.epoch, data.sequence)
                })
                .map(|(sequence, _)| sequence)
                .collect();
            for sequence in old {
                self.drop_body(index, sequence);
            }
        }
    }

    fn is_before_group(&self, data: &Data<P>) -> bool {
        self.newest
            .get(&(data.origin, data.state))
            .is_none_or(|&keyframe| keyframe > (data.epoch, data.sequence))
    }

    /// Whether the body of an update is kept.
    pub(crate) fn holds(&self, index: SourceIndex, sequence: u64) -> bool {
        self.stored(index, sequence).is_some()
    }

    fn stored(&self, index: SourceIndex, sequence: u64) -> Option<&Stored> {
        self.slots.get(index.0 as usize)?.as_ref()?.bodies.find(sequence)
    }

    fn drop_named(&mut self, origin: P, epoch: Epoch, sequence: u64) {
        if let Some(index) = self.source(origin, epoch) {
            self.drop_body(index, sequence);
        }
    }

    /// Lets go of the body of an update.
    pub(crate) fn drop_body(&mut self, index: SourceIndex, sequence: u64) {
        let Some(source) = self.slots.get_mut(index.0 as usize).and_then(Option::as_mut) else { return };
        if let Some(stored) = source.bodies.remove(sequence) {
            self.bodies -= 1;
            self.bytes -= stored.bytes();
        }
    }

    fn forget(&mut self, index: SourceIndex) {
        let Some(source) = self.slots[index.0 as usize].take() else { return };
        self.index.remove(source.origin, source.epoch);
        self.free.push(index);
        self.fingerprint = self.fingerprint.wrapping_sub(source.window.fingerprint());
        for (sequence, stored) in source.bodies.iter() {
            self.bodies -= 1;
            self.bytes -= stored.bytes();
            let key = (source.origin, stored.state());
            if self.newest.get(&key) == Some(&(source.epoch, sequence)) {
                self.newest.remove(&key);
            }
        }
    }
}
