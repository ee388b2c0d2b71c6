//! A ready-made scene: one authority, many moving entities, observers with moving areas of interest.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::scene::Probe;
use super::trace::Trace;
use crate::id::StateId;
use crate::interest::InterestLevel;
use crate::propagation::{Selected, StateSync, StateSyncConfig, StateSyncStats, StateValue};
use crate::rng::{Rng, Seed};
use crate::time::Instant;

/// How much each observer may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateBudget {
    /// That many bytes a second.
    BytesPerS(u64),
    /// Half of what it takes to send everything, as measured in two seconds without a budget.
    Half,
}

/// Entities that move in a plane, and observers that walk through it and want what is near: the nearest 4 or so
/// critically, 16 more highly, 50 more at medium and 300 more at low level. Everything moves at every tick; a tick is
/// also when each observer is sent something. One in `rate_hz` values is a keyframe.
///
/// ```
/// use suffuse::sim::{StateBudget, StateScene};
///
/// let mut scene = StateScene::new(200, 10);
/// scene.seconds = 2;
/// scene.budget = StateBudget::Half;
/// let report = scene.run(&mut ());
/// assert_eq!((report.over_budget_bytes, report.starved_states), (0, 0));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StateScene {
    /// Entities, each one state.
    pub states: u32,
    /// Observers.
    pub observers: u32,
    /// What each observer may be sent. Default 32,000 bytes a second, two fifths of what it takes at 20 Hz.
    pub budget: StateBudget,
    /// Ticks a second, from 1 to 1,000. Default 20.
    pub rate_hz: u32,
    /// How long it lasts. Default 20 s.
    pub seconds: u32,
    /// Where everything random comes from. Default 1.
    pub seed: u64,
    /// The scheduler. Its limits are raised to what the scene needs.
    pub config: StateSyncConfig,
}

impl StateScene {
    /// A scene of 20 s at 20 Hz.
    pub fn new(states: u32, observers: u32) -> Self {
        let budget = StateBudget::BytesPerS(32_000);
        Self {
            states,
            observers,
            budget,
            rate_hz: 20,
            seconds: 20,
            seed: 1,
            config: StateSyncConfig::default(),
        }
    }

    /// Runs the scene. `probe` measures what a simulation cannot know.
    pub fn run(&self, probe: &mut dyn Probe) -> StateReport {
        let ticks_per_s = u64::from(self.rate_hz.clamp(1, 1_000));
        let needed_bytes_per_s = {
            let mut trial = Run::new(self, u64::MAX / 2);
            for _ in 0..2 * ticks_per_s {
                trial.tick(&mut ());
            }
            trial.sync.stats().charged_bytes / 2 / u64::from(self.observers.max(1))
        };
        let budget_bytes_per_s = match self.budget {
            StateBudget::BytesPerS(bytes) => bytes,
            StateBudget::Half => needed_bytes_per_s / 2,
        };
        let mut run = Run::new(self, budget_bytes_per_s / ticks_per_s);
        let end = Instant::from_secs(self.seconds.into());
        for tick in 0..ticks_per_s * u64::from(self.seconds) {
            run.tick(probe);
            if tick % ticks_per_s == 0 {
                probe.progress(run.now, end);
                run.look_for_starved();
            }
        }
        run.look_for_starved();
        run.report(self, needed_bytes_per_s, budget_bytes_per_s)
    }
}

/// What a [`StateScene`] showed.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StateReport {
    /// For how long observers had been out of date when they were sent a value.
    pub staleness_ms: StalenessMs,
    /// What each observer might be sent, in bytes a second.
    pub budget_bytes_per_s: u64,
    /// What each observer was sent on average, in bytes a second.
    pub sent_bytes_per_s: u64,
    /// What it would take to send everything, as measured in two seconds without a budget.
    pub needed_bytes_per_s: u64,
    /// Bytes beyond a token bucket that fills at the budget and holds one tick and one message.
    pub over_budget_bytes: u64,
    /// Values replaced before they were sent.
    pub superseded: u64,
    /// The most (observer, state) pairs that had waited for more than ten seconds at once, looked for once a second.
    pub starved_states: u64,
    /// Values offered to observers and values sent, for each second of processor time spent on changes and ticks; 0 if
    /// it was not measured.
    pub decisions_per_s: u64,
    /// Equal for equal scenes.
    pub trace_hash: u64,
    /// All counters of the scheduler.
    pub stats: StateSyncStats,
}

/// Staleness by interest level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StalenessMs {
    /// At [`InterestLevel::Critical`].
    pub critical: LevelStaleness,
    /// At [`InterestLevel::High`].
    pub high: LevelStaleness,
    /// At [`InterestLevel::Medium`].
    pub medium: LevelStaleness,
    /// At [`InterestLevel::Low`].
    pub low: LevelStaleness,
}

/// Percentiles of the staleness at one level, in milliseconds; 0 if nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LevelStaleness {
    /// The median.
    pub p50: u64,
    /// 99 of 100 are below.
    pub p99: u64,
}

/// Positions are in sixteenths.
const UNIT: i64 = 16;
/// The plane has 500 square units for each entity.
const AREA_PER_STATE: u64 = 500;
/// Around 4, 20, 70 and 370 entities are within these.
const RADII: [i64; 4] = [25, 56, 106, 243];
const STARVED_AFTER: Duration = Duration::from_secs(10);

/// Something that moves in a plane without edges.
#[derive(Clone, Copy)]
struct Walker {
    at: [i64; 2],
    step: [i64; 2],
}

impl Walker {
    fn new(side: i64, step_max: u64, rng: &mut Rng) -> Self {
        let mut coordinate = || rng.between(0, side as u64) as i64;
        let at = [coordinate(), coordinate()];
        let mut walker = Self { at, step: [0; 2] };
        walker.turn(step_max, rng);
        walker
    }

    fn turn(&mut self, step_max: u64, rng: &mut Rng) {
        self.step = [(); 2].map(|()| rng.between(0, 2 * step_max + 1) as i64 - step_max as i64);
    }

    fn walk(&mut self, side: i64) {
        for (at, step) in self.at.iter_mut().zip(self.step) {
            *at = (*at + step).rem_euclid(side);
        }
    }

    fn distance_squared(&self, other: &Self, side: i64) -> i64 {
        let along = |axis: usize| {
            let apart = (self.at[axis] - other.at[axis]).abs();
            apart.min(side - apart)
        };
        along(0).pow(2) + along(1).pow(2)
    }
}

struct Run {
    sync: StateSync<u32>,
    rng: Rng,
    trace: Trace,
    now: Instant,
    interval: Duration,
    tick: u64,
    rate_hz: u64,
    side: i64,
    entities: Vec<Walker>,
    observers: Vec<Walker>,
    /// What each observer has declared for each state.
    levels: Vec<InterestLevel>,
    budget_bytes: u64,
    /// Independent of the scheduler: what each observer may still be sent.
    tokens: Vec<u64>,
    over_budget_bytes: u64,
    starved: u64,
    cpu_ns: u64,
    selected: Vec<Selected>,
}

impl Run {
    fn new(scene: &StateScene, budget_bytes: u64) -> Self {
        let mut rng = Rng::new(Seed::from_u64(scene.seed));
        let (states, observers) = (scene.states as usize, scene.observers as usize);
        let mut config = scene.config;
        config.states_max = config.states_max.max(states);
        config.observers_max = config.observers_max.max(observers);
        config.interest.declarations_max = config.interest.declarations_max.max(states * observers);
        let side = (u64::from(scene.states) * AREA_PER_STATE).isqrt().max(1) as i64 * UNIT;
        let rate_hz = u64::from(scene.rate_hz.clamp(1, 1_000));
        let entities = (0..states).map(|_| Walker::new(side, 2 * UNIT as u64, &mut rng)).collect();
        let watching = (0..observers).map(|_| Walker::new(side, UNIT as u64, &mut rng)).collect();
        Self {
            sync: StateSync::new(config, Instant::ZERO),
            rng,
            trace: Trace::default(),
            now: Instant::ZERO,
            interval: Duration::from_micros(1_000_000 / rate_hz),
            tick: 0,
            rate_hz,
            side,
            entities,
            observers: watching,
            levels: vec![InterestLevel::None; states * observers],
            budget_bytes,
            tokens: vec![0; observers],
            over_budget_bytes: 0,
            starved: 0,
            cpu_ns: 0,
            selected: Vec::new(),
        }
    }

    fn tick(&mut self, probe: &mut dyn Probe) {
        self.move_observers();
        let cpu_before = probe.cpu_ns();
        self.move_entities();
        for observer in 0..self.observers.len() {
            self.send(observer);
        }
        self.cpu_ns += probe.cpu_ns() - cpu_before;
        self.tick += 1;
        self.now += self.interval;
    }

    fn move_entities(&mut self) {
        for (state, entity) in (0u64..).zip(&mut self.entities) {
            if self.rng.below(64) == 0 {
                entity.turn(2 * UNIT as u64, &mut self.rng);
            }
            entity.walk(self.side);
            let keyframe = (self.tick + state) % self.rate_hz == 0 || self.tick == 0;
            let bytes = if keyframe { 48 } else { self.rng.between(24, 41) as u32 };
            let value = StateValue { version: self.tick, bytes, keyframe, deadline: None };
            self.sync.set_state(StateId(state), value, self.now).expect("the limits were raised");
        }
    }

    fn move_observers(&mut self) {
        let radii = RADII.map(|radius| (radius * UNIT).pow(2));
        for (place, observer) in self.observers.iter_mut().enumerate() {
            if self.rng.below(64) == 0 {
                observer.turn(UNIT as u64, &mut self.rng);
            }
            observer.walk(self.side);
            let declared = &mut self.levels[place * self.entities.len()..][..self.entities.len()];
            for (state, (entity, declared)) in (0u64..).zip(self.entities.iter().zip(declared)) {
                let distance = observer.distance_squared(entity, self.side);
                let rank = radii.iter().position(|&radius| distance < radius);
                let level = rank.map_or(InterestLevel::None, |rank| InterestLevel::DESCENDING[rank]);
                if level != *declared {
                    *declared = level;
                    let refused = self.sync.declare(place as u32, StateId(state), level, None, self.now);
                    refused.expect("the limits were raised");
                }
            }
        }
    }

    fn send(&mut self, observer: usize) {
        self.selected.clear();
        // Who has nothing around is no observer yet.
        let sent = self.sync.tick(observer as u32, self.budget_bytes, self.now, &mut self.selected);
        let spent = sent.unwrap_or_default().charged_bytes;
        let message = self.selected.iter().map(|sent| sent.charged_bytes).max().unwrap_or(0);
        let tokens = &mut self.tokens[observer];
        *tokens = tokens.saturating_add(self.budget_bytes);
        self.over_budget_bytes += spent.saturating_sub(*tokens);
        *tokens = tokens.saturating_sub(spent).min(self.budget_bytes + message);
        self.trace.word(self.now.as_micros());
        for sent in &self.selected {
            for word in [observer as u64, sent.state.0, sent.version, sent.charged_bytes] {
                self.trace.word(word);
            }
        }
    }

    fn look_for_starved(&mut self) {
        let waiting = (0..self.observers.len() as u32).flat_map(|observer| self.sync.pending(observer));
        let starved = waiting.filter(|&(_, _, waited)| waited > STARVED_AFTER).count() as u64;
        self.starved = self.starved.max(starved);
    }

    fn report(self, scene: &StateScene, needed_bytes_per_s: u64, budget_bytes_per_s: u64) -> StateReport {
        let stats = self.sync.stats().clone();
        let at = |level| {
            let staleness = stats.at(level).map(|level| &level.staleness_ms);
            let quantile = |ppm| staleness.and_then(|histogram| histogram.quantile_ppm(ppm)).unwrap_or(0);
            LevelStaleness { p50: quantile(500_000), p99: quantile(990_000) }
        };
        let decisions = u128::from(stats.offered + stats.sent()) * 1_000_000_000;
        let pairs = u64::from(scene.observers.max(1)) * u64::from(scene.seconds.max(1));
        StateReport {
            staleness_ms: StalenessMs {
                critical: at(InterestLevel::Critical),
                high: at(InterestLevel::High),
                medium: at(InterestLevel::Medium),
                low: at(InterestLevel::Low),
            },
            budget_bytes_per_s,
            sent_bytes_per_s: stats.charged_bytes / pairs,
            needed_bytes_per_s,
            over_budget_bytes: self.over_budget_bytes,
            superseded: stats.superseded,
            starved_states: self.starved,
            decisions_per_s: decisions.checked_div(self.cpu_ns.into()).unwrap_or(0) as u64,
            trace_hash: self.trace.hash(),
            stats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_budget_keeps_the_critical_fresh_and_starves_nobody() {
        let mut scene = StateScene::new(300, 12);
        (scene.budget, scene.seconds) = (StateBudget::Half, 12);
        let report = scene.run(&mut ());
        assert_eq!((report.over_budget_bytes, report.starved_states), (0, 0));
        assert!(report.staleness_ms.critical.p99 <= 100, "{:?}", report.staleness_ms);
        assert!(report.superseded > 0 && report.sent_bytes_per_s <= report.budget_bytes_per_s);
        let stats = &report.stats;
        assert_eq!(stats.offered, stats.sent() + stats.superseded + stats.dropped() + stats.pending);
    }

    #[test]
    fn equal_scenes_are_equal() {
        let mut scene = StateScene::new(100, 5);
        scene.seconds = 2;
        let hash = scene.run(&mut ()).trace_hash;
        assert_eq!(scene.run(&mut ()).trace_hash, hash);
        scene.seed = 2;
        assert_ne!(scene.run(&mut ()).trace_hash, hash);
    }
}
