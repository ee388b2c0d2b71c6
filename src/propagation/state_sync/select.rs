//! A tick: what an observer is sent within its budget.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::pending::{self, PARKED};
use super::{StateSync, StateSyncConfig, StateSyncError, StateValue, is_late, rank};
use crate::id::{PeerId, StateId};
use crate::interest::InterestLevel;
use crate::time::Instant;

/// A value that is to be sent to an observer now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Selected {
    /// Of which state.
    pub state: StateId,
    /// The host's number for the value.
    pub version: u64,
    /// The size of the value.
    pub bytes: u32,
    /// What was charged for it: the value, the message, and the frames that it began.
    pub charged_bytes: u64,
    /// Whether it is a keyframe.
    pub keyframe: bool,
    /// How much the observer wants the state.
    pub level: InterestLevel,
    /// The frame of this tick in which it begins, from 0. Frames are filled one after another.
    pub frame: u32,
}

/// What a tick sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TickReport {
    /// How many values.
    pub items: usize,
    /// In how many frames.
    pub frames: u32,
    /// What they are charged at, with all overhead.
    pub charged_bytes: u64,
}

impl TickReport {
    fn add(&mut self, other: Self) {
        self.items += other.items;
        self.frames += other.frames;
        self.charged_bytes += other.charged_bytes;
    }
}

/// How many values that do not fit are passed over in one tick.
const PASSED_OVER_MAX: usize = 8;

impl<P: PeerId> StateSync<P> {
    /// Appends to `out` what `observer` is to be sent now, in the order in which it is to be packed. It counts as
    /// received: on a lossy link, [`resend`](Self::resend) what was lost. `O((sent + 8) · log pending)`.
    ///
    /// # Errors
    /// [`StateSyncError::UnknownObserver`] if it never declared anything.
    pub fn tick(
        &mut self,
        observer: P,
        budget_bytes: u64,
        now: Instant,
        out: &mut Vec<Selected>,
    ) -> Result<TickReport, StateSyncError> {
        self.advance(now);
        let place = *self.by_peer.get(&observer).ok_or(StateSyncError::UnknownObserver)?;
        Ok(self.select(place, budget_bytes, out))
    }

    /// [`tick`](Self::tick) for every observer, each with the same budget, in an order that depends on the history of
    /// calls alone. `each` is called for observers that are sent something.
    pub fn tick_all(
        &mut self,
        budget_bytes: u64,
        now: Instant,
        mut each: impl FnMut(P, &[Selected]),
    ) -> TickReport {
        self.advance(now);
        let mut total = TickReport::default();
        let mut selected = core::mem::take(&mut self.selected);
        for place in 0..self.observers.len() {
            let Some(peer) = self.observers[place].peer else { continue };
            selected.clear();
            total.add(self.select(place as u32, budget_bytes, &mut selected));
            if !selected.is_empty() {
                each(peer, &selected);
            }
        }
        self.selected = selected;
        total
    }

    /// Takes back that `observer` was sent the value of `state`: the message was lost. The newest value waits again, if
    /// it is wanted; an observer to which a newer value is on its way gets that one twice. False if nothing of the kind is known.
    /// `O(log states + log pending)`.
    pub fn resend(&mut self, observer: P, state: StateId, now: Instant) -> bool {
        self.advance(now);
        let (Some(&place), Some(&state)) = (self.by_peer.get(&observer), self.by_state.get(&state)) else {
            return false;
        };
        let record = &mut self.records[state as usize];
        record.mark_mut(place).forget(true);
        let mark = record.mark(place);
        if !mark.is_pending() {
            if let Some(value) = record.lacking(mark, self.now) {
                self.stats.offer(value);
                self.enqueue(place, pending::key(self.since(), state));
            }
        }
        true
    }

    fn select(&mut self, place: u32, budget_bytes: u64, out: &mut Vec<Selected>) -> TickReport {
        let (first, now_ms) = (out.len(), self.since());
        let mut frames = Frames::new(&self.config);
        let taken = self.serve_parked(place, budget_bytes, &mut frames, out);
        let mut left = budget_bytes.saturating_add(self.observers[place as usize].carry_bytes) - taken;

        let mut passed_over: SmallVec<[u64; PASSED_OVER_MAX]> = SmallVec::new();
        while let Some((level, key)) = self.best(place, now_ms) {
            let state = pending::state(key);
            self.unqueue(place, state);
            let Some(&value) =
                self.records[state as usize].value(level).filter(|&value| !is_late(value, self.now))
            else {
                self.stats.dropped_late += 1;
                continue;
            };
            let cost = frames.cost(value.bytes);
            if cost <= left {
                left -= cost;
                self.send(place, key, &mut frames, out);
            } else if cost > budget_bytes
                && budget_bytes > 0
                && self.observers[place as usize].parked.is_none()
            {
                self.park(place, key);
            } else {
                passed_over.push(key);
                if passed_over.len() == PASSED_OVER_MAX || left < frames.least_cost() {
                    break;
                }
            }
        }
        for key in passed_over {
            self.enqueue(place, key);
        }
        self.observers[place as usize].carry_bytes = left.min(budget_bytes);

        let sent = &out[first..];
        let charged_bytes = sent.iter().map(|sent| sent.charged_bytes).sum();
        let report = TickReport { items: sent.len(), frames: frames.count, charged_bytes };
        self.stats.frames += u64::from(report.frames);
        self.stats.charged_bytes += report.charged_bytes;
        report
    }

    /// Saves up for what is parked, and sends it when it is paid for. Returns what it took from the tick.
    fn serve_parked(
        &mut self,
        place: u32,
        budget_bytes: u64,
        frames: &mut Frames,
        out: &mut Vec<Selected>,
    ) -> u64 {
        let observer = &mut self.observers[place as usize];
        let Some(key) = observer.parked else {
            // What was saved for something that nobody wants any more is spare, within the bounds of spare bytes.
            let spare = core::mem::take(&mut observer.savings_bytes).min(budget_bytes);
            observer.carry_bytes = observer.carry_bytes.max(spare);
            return 0;
        };
        let share = budget_bytes.div_ceil(2);
        let saved = observer.savings_bytes.saturating_add(share);
        let record = &self.records[pending::state(key) as usize];
        debug_assert_eq!(record.mark(place).place(), PARKED);
        let value = record.value(record.mark(place).level()).filter(|&value| !is_late(value, self.now));
        let cost = value.map(|value| frames.cost(value.bytes));
        if cost.is_some_and(|cost| cost > saved) {
            self.observers[place as usize].savings_bytes = saved;
            return share;
        }
        self.unqueue(place, pending::state(key));
        if cost.is_some() {
            self.send(place, key, frames, out);
        } else {
            self.stats.dropped_late += 1;
        }
        let before = core::mem::take(&mut self.observers[place as usize].savings_bytes);
        cost.unwrap_or(0).saturating_sub(before)
    }

    /// The level with the highest score, and its first key.
    fn best(&self, place: u32, now_ms: u64) -> Option<(InterestLevel, u64)> {
        let observer = &self.observers[place as usize];
        let patience = self.config.patience.as_millis() as u64;
        let mut best: Option<(u64, InterestLevel, u64)> = None;
        for level in InterestLevel::DESCENDING {
            let Some(key) = observer.queues[rank(level)].first() else { continue };
            let waited = now_ms - pending::since(key) + patience;
            let score = waited.saturating_mul(self.config.weights[rank(level)].into());
            if best.is_none_or(|(highest, ..)| score > highest) {
                best = Some((score, level, key));
            }
        }
        best.map(|(_, level, key)| (level, key))
    }

    fn send(&mut self, place: u32, key: u64, frames: &mut Frames, out: &mut Vec<Selected>) {
        let waited_ms = self.since() - pending::since(key);
        let record = &mut self.records[pending::state(key) as usize];
        let level = record.mark(place).level();
        let Some(&value) = record.value(level) else { return };
        let latest = level != InterestLevel::Low || record.latest.keyframe;
        record.mark_mut(place).obtain(latest);
        let (frame, charged_bytes) = frames.put(value.bytes);
        let StateValue { version, bytes, keyframe, .. } = value;
        out.push(Selected { state: record.id, version, bytes, charged_bytes, keyframe, level, frame });
        let stats = &mut self.stats.levels[rank(level)];
        stats.sent += 1;
        stats.bytes += u64::from(bytes);
        stats.staleness_ms.record(waited_ms);
    }
}

/// Packs messages into frames, and knows what that costs.
struct Frames {
    payload: u64,
    frame_overhead: u64,
    message_overhead: u64,
    /// Room in the last frame.
    room: u64,
    count: u32,
}

impl Frames {
    fn new(config: &StateSyncConfig) -> Self {
        Self {
            payload: config.frame_bytes_max.into(),
            frame_overhead: config.frame_overhead_bytes.into(),
            message_overhead: config.message_overhead_bytes.into(),
            room: 0,
            count: 0,
        }
    }

    /// What the smallest message costs.
    fn least_cost(&self) -> u64 {
        self.cost(1)
    }

    fn cost(&self, bytes: u32) -> u64 {
        let message = u64::from(bytes) + self.message_overhead;
        if message <= self.room {
            message
        } else {
            message + message.div_ceil(self.payload) * self.frame_overhead
        }
    }

    /// The frame in which the message begins, and its cost.
    fn put(&mut self, bytes: u32) -> (u32, u64) {
        let (message, cost) = (u64::from(bytes) + self.message_overhead, self.cost(bytes));
        if message <= self.room {
            self.room -= message;
            return (self.count - 1, cost);
        }
        let (begun, frames) = (self.count, message.div_ceil(self.payload));
        self.count += frames as u32;
        self.room = frames * self.payload - message;
        (begun, cost)
    }
}
