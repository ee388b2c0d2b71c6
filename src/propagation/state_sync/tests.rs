use alloc::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn value(version: u64, bytes: u32) -> StateValue {
    StateValue { version, bytes, keyframe: true, deadline: None }
}

fn millis(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// No overhead, so that bytes are easy to count.
fn bare() -> StateSyncConfig {
    StateSyncConfig { message_overhead_bytes: 0, frame_overhead_bytes: 0, ..StateSyncConfig::default() }
}

fn sync(levels: &[InterestLevel]) -> StateSync<u8> {
    let mut sync = StateSync::new(bare(), Instant::ZERO);
    for (state, &level) in (0..).map(StateId).zip(levels) {
        sync.set_state(state, value(0, 100), Instant::ZERO).unwrap();
        sync.declare(1, state, level, None, Instant::ZERO).unwrap();
    }
    sync
}

fn tick(sync: &mut StateSync<u8>, budget: u64, now: Instant) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    sync.tick(1, budget, now, &mut out).unwrap();
    out.iter().map(|sent| (sent.state.0, sent.version)).collect()
}

use InterestLevel::{Critical, High, Low, Medium};

#[test]
fn higher_levels_first_and_the_oldest_within_a_level() {
    let mut sync = sync(&[Low, Medium, High, Critical]);
    assert_eq!(tick(&mut sync, 400, Instant::ZERO), [(3, 0), (2, 0), (1, 0), (0, 0)]);
    for (at, state) in [(10, 1), (20, 0), (30, 1)] {
        sync.declare(1, StateId(state), High, None, millis(at)).unwrap();
        sync.set_state(StateId(state), value(at, 100), millis(at)).unwrap();
    }
    assert_eq!(tick(&mut sync, 100, millis(50)), [(1, 30)], "it keeps its place since 10 ms");
    assert_eq!(tick(&mut sync, 100, millis(60)), [(0, 20)]);
    assert_eq!(sync.stats().superseded, 1);
}

#[test]
fn waiting_raises_and_nothing_starves() {
    let mut sync = sync(&[Low, Critical]);
    let mut low_at = None;
    for number in 0..100 {
        sync.set_state(StateId(1), value(number, 100), millis(number * 50)).unwrap();
        let sent = tick(&mut sync, 100, millis(number * 50));
        assert_eq!(sent.len(), 1);
        if sent[0].0 == 0 {
            assert_eq!(low_at.replace(number * 50), None);
        }
    }
    assert_eq!(
        low_at,
        Some(3_200),
        "64 times 50 ms of patience, less its own, but for the rounding of a tick"
    );
}

#[test]
fn low_gets_the_newest_keyframe_only() {
    let mut sync = sync(&[Low]);
    let delta = |version| StateValue { keyframe: false, ..value(version, 100) };
    sync.set_state(StateId(0), delta(1), millis(1)).unwrap();
    assert_eq!(tick(&mut sync, 1_000, millis(2)), [(0, 0)]);
    sync.set_state(StateId(0), delta(2), millis(3)).unwrap();
    assert_eq!(tick(&mut sync, 1_000, millis(4)), []);
    sync.declare(1, StateId(0), Medium, None, millis(5)).unwrap();
    assert_eq!(tick(&mut sync, 1_000, millis(6)), [(0, 2)]);
    sync.declare(1, StateId(0), Low, None, millis(7)).unwrap();
    assert_eq!(tick(&mut sync, 1_000, millis(8)), [], "an older keyframe after a newer value helps nobody");
}

#[test]
fn who_has_the_value_is_not_sent_it_again() {
    let mut sync = sync(&[High]);
    assert_eq!(tick(&mut sync, 1_000, millis(1)), [(0, 0)]);
    sync.declare(1, StateId(0), InterestLevel::None, None, millis(2)).unwrap();
    sync.declare(1, StateId(0), Critical, None, millis(3)).unwrap();
    assert_eq!(tick(&mut sync, 1_000, millis(4)), []);
    assert!(sync.resend(1, StateId(0), millis(5)));
    assert_eq!(tick(&mut sync, 1_000, millis(6)), [(0, 0)]);
}

#[test]
fn interest_ends_at_its_deadline() {
    let mut sync = sync(&[]);
    let ttl = Some(Duration::from_millis(10));
    sync.set_state(StateId(0), value(0, 100), Instant::ZERO).unwrap();
    sync.declare(1, InterestTarget::EVERYTHING, High, ttl, Instant::ZERO).unwrap();
    sync.set_state(StateId(9), value(0, 100), Instant::ZERO).unwrap();
    assert_eq!(sync.pending(1).count(), 2);
    assert_eq!(sync.poll_timeout(), Some(millis(10)));
    assert_eq!(tick(&mut sync, 1_000, millis(10)), []);
    assert_eq!(sync.stats().dropped_unwanted, 2);
}

#[test]
fn deadlines_drop_and_are_counted() {
    let mut sync = sync(&[High]);
    tick(&mut sync, 100, millis(1));
    let until = StateValue { deadline: Some(millis(10)), ..value(1, 100) };
    sync.set_state(StateId(0), until, millis(2)).unwrap();
    assert_eq!(tick(&mut sync, 99, millis(10)), []);
    assert_eq!(tick(&mut sync, 1_000, millis(11)), []);
    assert_eq!((sync.stats().dropped_late, sync.stats().pending), (1, 0));
}

#[test]
fn unused_budget_is_kept_for_one_tick() {
    let mut sync = sync(&[High; 6]);
    for _ in 0..5 {
        assert_eq!(tick(&mut sync, 0, Instant::ZERO), []);
    }
    assert_eq!(tick(&mut sync, 150, millis(1)).len(), 1);
    assert_eq!(tick(&mut sync, 150, millis(2)).len(), 2, "50 were left");
    let mut sync = self::sync(&[High; 6]);
    assert_eq!(tick(&mut sync, 600, millis(1)).len(), 6);
    tick(&mut sync, 150, millis(2));
    tick(&mut sync, 150, millis(3));
    for state in 0..6 {
        sync.set_state(StateId(state), value(1, 100), millis(4)).unwrap();
    }
    assert_eq!(tick(&mut sync, 150, millis(4)).len(), 3);
}

#[test]
fn what_is_larger_than_a_tick_saves_up_while_others_go_on() {
    let mut sync = sync(&[Critical, Low]);
    sync.set_state(StateId(0), value(1, 1_000), millis(1)).unwrap();
    let (mut large, mut small) = (0, 0);
    for number in 0..30 {
        let now = millis(10 + number);
        sync.set_state(StateId(1), value(number, 20), now).unwrap();
        for (state, _) in tick(&mut sync, 100, now) {
            if state == 0 {
                large += 1;
                assert!((19..=21).contains(&number), "1,000 bytes at 50 a tick, sent at tick {number}");
            } else {
                small += 1;
            }
        }
    }
    assert_eq!((large, small), (1, 30));
}

#[test]
fn frames_are_filled_and_charged() {
    let config = StateSyncConfig { frame_bytes_max: 100, ..StateSyncConfig::default() };
    let mut sync = StateSync::new(config, Instant::ZERO);
    for state in 0..4 {
        sync.set_state(StateId(state), value(0, if state == 3 { 150 } else { 40 }), Instant::ZERO).unwrap();
        sync.declare(1, StateId(state), High, None, millis(state)).unwrap();
    }
    let mut out = Vec::new();
    let report = sync.tick(1, 10_000, millis(9), &mut out).unwrap();
    assert_eq!(out.iter().map(|sent| sent.frame).collect::<Vec<_>>(), [0, 0, 1, 2]);
    assert_eq!(out.iter().map(|sent| sent.charged_bytes).collect::<Vec<_>>(), [72, 44, 72, 154 + 56]);
    assert_eq!((report.frames, report.charged_bytes, report.items), (4, 398, 4));
}

#[test]
fn limits_are_named_and_change_nothing() {
    let config = StateSyncConfig { states_max: 1, observers_max: 1, ..bare() };
    let mut sync = StateSync::new(config, Instant::ZERO);
    sync.set_state(StateId(1), value(1, 1), Instant::ZERO).unwrap();
    let refused = sync.set_state(StateId(2), value(1, 1), Instant::ZERO);
    assert_eq!(refused, Err(StateSyncError::TooManyStates { max: 1 }));
    sync.declare(1, StateId(1), High, None, Instant::ZERO).unwrap();
    let refused = sync.declare(2, StateId(1), High, None, Instant::ZERO);
    assert_eq!(refused, Err(StateSyncError::TooManyObservers { max: 1 }));
    assert_eq!(sync.tick(2, 1, Instant::ZERO, &mut Vec::new()), Err(StateSyncError::UnknownObserver));
    assert!(sync.remove_observer(1) && !sync.remove_observer(1));
    assert!(sync.remove_state(StateId(1)) && !sync.remove_state(StateId(1)));
    assert_eq!((sync.stats().dropped_removed, sync.stats().pending), (1, 0));
    sync.declare(2, StateId(2), High, None, Instant::ZERO).unwrap();
    sync.set_state(StateId(2), value(1, 1), Instant::ZERO).unwrap();
    assert_eq!(sync.pending(2).count(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Set { state: u64, bytes: u32, keyframe: bool, ttl: Option<u64> },
    Declare { observer: u8, first: u64, len: u64, level: u8, ttl: Option<u64> },
    Tick { observer: u8, budget: u64 },
    RemoveState(u64),
    RemoveObserver(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..8, 1u32..400, any::<bool>(), prop::option::of(0u64..80))
            .prop_map(|(state, bytes, keyframe, ttl)| Step::Set { state, bytes, keyframe, ttl }),
        3 => (0u8..3, 0u64..8, 1u64..4, 0u8..5, prop::option::of(1u64..200)).prop_map(
            |(observer, first, len, level, ttl)| Step::Declare { observer, first, len, level, ttl }
        ),
        6 => (0u8..3, 0u64..300).prop_map(|(observer, budget)| Step::Tick { observer, budget }),
        1 => (0u64..8).prop_map(Step::RemoveState),
        1 => (0u8..3).prop_map(Step::RemoveObserver),
        4 => (0u64..60).prop_map(Step::Wait),
    ]
}

/// What every observer wants and lacks, by looking at everything every time.
#[derive(Default)]
struct Model {
    latest: BTreeMap<u64, StateValue>,
    keyframes: BTreeMap<u64, StateValue>,
    /// The newest version that each observer has.
    has: BTreeMap<(u8, u64), u64>,
}

impl Model {
    fn lacks(&self, observer: u8, state: u64, level: InterestLevel, now: Instant) -> Option<StateValue> {
        let value = match level {
            InterestLevel::None => None,
            Low => self.keyframes.get(&state),
            _ => self.latest.get(&state),
        }?;
        let has = self.has.get(&(observer, state)).is_some_and(|&has| has >= value.version);
        (!has && !is_late(value, now)).then_some(*value)
    }

    fn check(&self, sync: &StateSync<u8>, now: Instant) -> Result<(), TestCaseError> {
        for observer in 0..3 {
            let waiting: BTreeMap<_, _> =
                sync.pending(observer).map(|(state, level, waited)| (state.0, (level, waited))).collect();
            for state in 0..8 {
                let level = sync.interest().level(observer, StateId(state));
                let lacks = self.lacks(observer, state, level, now);
                prop_assert!(lacks.is_none() || waiting.contains_key(&state), "{observer} lacks {state}");
                if let Some((at, _)) = waiting.get(&state) {
                    prop_assert_eq!(*at, level);
                    let value = self.lacks(observer, state, level, Instant::ZERO);
                    prop_assert!(value.is_some(), "{} waits for what it has", observer);
                }
            }
        }
        let stats = sync.stats();
        prop_assert_eq!(stats.offered, stats.sent() + stats.superseded + stats.dropped() + stats.pending);
        prop_assert_eq!(
            stats.pending,
            (0..3).map(|observer| sync.pending(observer).count() as u64).sum::<u64>()
        );
        Ok(())
    }
}

fn run(config: StateSyncConfig, steps: &[Step]) -> Result<Vec<(u8, Selected)>, TestCaseError> {
    let mut sync = StateSync::new(config, Instant::ZERO);
    let (mut model, mut now, mut sent) = (Model::default(), Instant::ZERO, Vec::new());
    let (mut given, mut charged) = ([0; 3], [0; 3]);
    let mut tick = |sync: &mut StateSync<u8>, model: &mut Model, observer: u8, budget: u64, now: Instant| {
        let mut out = Vec::new();
        let Ok(report) = sync.tick(observer, budget, now, &mut out) else { return Ok(()) };
        given[usize::from(observer)] += budget;
        charged[usize::from(observer)] += report.charged_bytes;
        prop_assert!(charged[usize::from(observer)] <= given[usize::from(observer)], "over budget");
        prop_assert_eq!(report.charged_bytes, out.iter().map(|sent| sent.charged_bytes).sum::<u64>());
        for selected in out {
            let level = sync.interest().level(observer, selected.state);
            prop_assert_eq!(level, selected.level);
            let wanted = model.lacks(observer, selected.state.0, level, now);
            prop_assert_eq!(wanted.map(|value| value.version), Some(selected.version), "not the newest");
            model.has.insert((observer, selected.state.0), selected.version);
            sent.push((observer, selected));
        }
        Ok(())
    };
    for (version, step) in (1..).zip(steps) {
        match *step {
            Step::Set { state, bytes, keyframe, ttl } => {
                let deadline = ttl.map(|ttl| now + Duration::from_millis(ttl));
                let value = StateValue { version, bytes, keyframe, deadline };
                sync.set_state(StateId(state), value, now).unwrap();
                model.latest.insert(state, value);
                if keyframe {
                    model.keyframes.insert(state, value);
                }
            }
            Step::Declare { observer, first, len, level, ttl } => {
                let target = InterestTarget::range(StateId(first)..StateId(first + len)).unwrap();
                let level = InterestLevel::from_u8(level).unwrap();
                sync.declare(observer, target, level, ttl.map(Duration::from_millis), now).unwrap();
            }
            Step::Tick { observer, budget } => tick(&mut sync, &mut model, observer, budget, now)?,
            Step::RemoveState(state) => {
                sync.remove_state(StateId(state));
                model.latest.remove(&state);
                model.keyframes.remove(&state);
                model.has.retain(|&(_, of), _| of != state);
            }
            Step::RemoveObserver(observer) => {
                sync.remove_observer(observer);
                model.has.retain(|&(of, _), _| of != observer);
            }
            Step::Wait(millis) => now += Duration::from_millis(millis),
        }
        sync.handle_timeout(now);
        model.check(&sync, now)?;
    }
    // Whatever waits is sent: each tick spends its budget but for what does not fit, and half of it on a parked value.
    for observer in 0..3 {
        let cost: u64 = sync
            .pending(observer)
            .map(|(state, level, _)| {
                let value = if level == Low { model.keyframes[&state.0] } else { model.latest[&state.0] };
                let message = u64::from(value.bytes + config.message_overhead_bytes);
                message
                    + message.div_ceil(config.frame_bytes_max.into()) * u64::from(config.frame_overhead_bytes)
            })
            .sum();
        let ticks = 2 * cost / 50 + sync.pending(observer).count() as u64 + 1;
        for _ in 0..ticks {
            tick(&mut sync, &mut model, observer, 50, now)?;
        }
        prop_assert_eq!(sync.pending(observer).count(), 0, "starved in {} ticks", ticks);
    }
    model.check(&sync, now)?;
    Ok(sent)
}

proptest! {
    #[test]
    fn agrees_with_the_model_and_repeats(steps in prop::collection::vec(step(), 0..150), bare_config: bool) {
        let config = if bare_config {
            bare()
        } else {
            StateSyncConfig { frame_bytes_max: 120, frame_overhead_bytes: 7, ..StateSyncConfig::default() }
        };
        let sent = run(config, &steps)?;
        prop_assert_eq!(sent, run(config, &steps)?);
    }
}
