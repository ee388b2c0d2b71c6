//! The log against a naive model: what is new, what is kept, what is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use suffuse::log::{Log, LogLimits, Receipt};
use suffuse::wire::Data;
use suffuse::{Epoch, Instant, Priority, RangeSet, Retention, StateId};

const LIMITS: LogLimits = LogLimits { sources_max: 64, window_max: 128, age_max: Duration::from_secs(60) };

fn data(origin: u64, epoch: u32, sequence: u64, state: u64, born: Instant, bytes: usize) -> Data<u64> {
    Data {
        origin,
        epoch: Epoch(epoch),
        sequence,
        state: StateId(state),
        priority: Priority::Normal,
        keyframe: false,
        layer: 0,
        hops: 1,
        pulled: false,
        flood: false,
        signature: Bytes::new(),
        born,
        body: Bytes::from(vec![0; bytes]),
    }
}

fn is_new(receipt: &Receipt) -> bool {
    matches!(receipt, Receipt::New { .. })
}

proptest! {
    #[test]
    fn each_update_is_new_once_and_fingerprints_agree(order in Just((0u64..40).flat_map(|s| (0u64..3).map(move |o| (o, s))).collect::<Vec<_>>()).prop_shuffle()) {
        let now = Instant::from_secs(1);
        let (mut shuffled, mut sorted) = (Log::new(LIMITS, Retention::default()), Log::new(LIMITS, Retention::default()));
        let mut seen = BTreeSet::new();
        for (origin, sequence) in order.iter().chain(&order) {
            let receipt = shuffled.receive(&data(*origin, 1, *sequence, 0, now, 8), now);
            prop_assert_eq!(is_new(&receipt), seen.insert((*origin, *sequence)));
        }
        for (origin, sequence) in &seen {
            sorted.receive(&data(*origin, 1, *sequence, 0, now, 8), now);
        }
        prop_assert_eq!(shuffled.fingerprint(), sorted.fingerprint());
        let parts = shuffled.interval(None, Some(1)).chain(shuffled.interval(Some(1), None));
        prop_assert_eq!(parts.map(|(_, _, window)| window.fingerprint()).fold(0, u64::wrapping_add), sorted.fingerprint());
    }

    #[test]
    fn latest_keeps_the_newest_of_each_state(writes in prop::collection::vec((0u64..3, 0u64..5), 1..80), seed in any::<u64>()) {
        let now = Instant::from_secs(1);
        let mut log = Log::new(LIMITS, Retention::Latest);
        let mut next = BTreeMap::new();
        let mut updates: Vec<_> = writes
            .into_iter()
            .map(|(origin, state)| {
                let sequence = next.entry(origin).or_insert(0u64);
                *sequence += 1;
                (origin, *sequence - 1, state)
            })
            .collect();
        // A deterministic disorder.
        updates.sort_by_key(|(origin, sequence, _)| (origin ^ sequence).wrapping_mul(seed | 1));
        let mut newest: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (origin, sequence, state) in updates {
            let receipt = log.receive(&data(origin, 1, sequence, state, now, 1), now);
            let best = newest.entry((origin, state)).or_insert(sequence);
            prop_assert_eq!(is_new(&receipt), *best <= sequence, "{:?}", receipt);
            *best = (*best).max(sequence);
        }
        prop_assert_eq!(log.kept(), (newest.len(), newest.len()));
        for ((origin, state), sequence) in newest {
            let source = log.source(origin, Epoch(1)).unwrap();
            prop_assert_eq!(log.body(source, sequence, now).map(|kept| kept.state), Some(StateId(state)));
        }
    }

    #[test]
    fn a_window_keeps_no_more_than_its_bytes_and_age(sizes in prop::collection::vec(1usize..400, 1..60)) {
        let retention = Retention::Window { age: Duration::from_secs(10), bytes: 1_000 };
        let mut log = Log::new(LIMITS, retention);
        let mut kept: Vec<(u64, usize)> = Vec::new();
        for (sequence, bytes) in sizes.into_iter().enumerate() {
            let now = Instant::from_secs(sequence as u64);
            log.handle_timeout(now, &mut Vec::new());
            kept.retain(|(born, _)| sequence as u64 - born < 10);
            log.receive(&data(1, 1, sequence as u64, 0, now, bytes), now);
            kept.push((sequence as u64, bytes));
            while kept.iter().map(|(_, bytes)| bytes).sum::<usize>() > 1_000 {
                kept.remove(0);
            }
            prop_assert_eq!(log.kept(), (kept.len(), kept.iter().map(|(_, bytes)| bytes).sum()));
            let source = log.source(1, Epoch(1)).unwrap();
            prop_assert_eq!(log.held(source).iter().flatten().collect::<Vec<_>>(), kept.iter().map(|(s, _)| *s).collect::<Vec<_>>());
        }
    }
}

#[test]
fn since_keyframe_starts_over_at_each_keyframe() {
    let now = Instant::from_secs(1);
    let mut log = Log::new(LIMITS, Retention::SinceKeyframe { bytes: 250 });
    for sequence in 0..12 {
        let keyframe = sequence % 5 == 0;
        let update = Data { keyframe, ..data(1, 1, sequence, 0, now, 100) };
        assert!(is_new(&log.receive(&update, now)));
    }
    // 10 is the newest keyframe, and one delta after it fits.
    let source = log.source(1, Epoch(1)).unwrap();
    assert_eq!(log.held(source), RangeSet::from(10..12));
    // The tail of a group that does not fit is not kept, the keyframe is.
    for sequence in 12..15 {
        log.receive(&data(1, 1, sequence, 0, now, 100), now);
    }
    assert_eq!(log.held(source), RangeSet::from(10..12));
    // An old keyframe that comes late does not replace the newest.
    let mut late = Log::new(LIMITS, Retention::SinceKeyframe { bytes: 1_000 });
    for sequence in [5, 0] {
        late.receive(&Data { keyframe: true, ..data(1, 1, sequence, 0, now, 1) }, now);
    }
    let source = late.source(1, Epoch(1)).unwrap();
    assert!(late.body(source, 5, now).is_some());
}

#[test]
fn windows_outlive_bodies() {
    let retention = Retention::Window { age: Duration::from_secs(5), bytes: 1_000 };
    let mut log = Log::new(LIMITS, retention);
    let update = data(1, 1, 0, 0, Instant::from_secs(1), 10);
    assert!(is_new(&log.receive(&update, Instant::from_secs(1))));
    let later = Instant::from_secs(30);
    log.handle_timeout(later, &mut Vec::new());
    assert_eq!(log.kept(), (0, 0));
    assert!(matches!(log.receive(&update, later), Receipt::Duplicate { .. }));
}

#[test]
fn what_is_too_old_is_noted_and_refused() {
    let mut log = Log::new(LIMITS, Retention::default());
    let now = Instant::from_secs(1_000);
    let old = data(1, 1, 0, 0, now - Duration::from_secs(61), 10);
    assert!(matches!(log.receive(&old, now), Receipt::TooOld { .. }));
    assert!(matches!(log.receive(&old, now), Receipt::Duplicate { .. }));
    assert_eq!(log.kept(), (0, 0));
}

#[test]
fn a_source_that_runs_ahead_gives_up_its_oldest() {
    let mut log = Log::new(LIMITS, Retention::default());
    let now = Instant::from_secs(1);
    log.receive(&data(1, 1, 0, 0, now, 1), now);
    let Receipt::New { given_up, .. } = log.receive(&data(1, 1, 200, 0, now, 1), now) else {
        panic!("not new")
    };
    assert_eq!(given_up, RangeSet::from(1..73));
}

#[test]
fn two_lives_of_an_origin_are_kept_and_no_more() {
    let mut log = Log::new(LIMITS, Retention::default());
    let now = Instant::from_secs(1);
    for epoch in [1, 2] {
        assert!(is_new(&log.receive(&data(1, epoch, 0, 0, now, 1), now)));
    }
    assert_eq!(log.len(), 2);
    assert!(is_new(&log.receive(&data(1, 3, 0, 0, now, 1), now)));
    assert_eq!(log.len(), 2);
    assert!(log.take_replaced().is_some());
    assert_eq!(log.receive(&data(1, 1, 1, 0, now, 1), now), Receipt::StaleEpoch);
    assert_eq!(log.latest_epoch(1).map(|(epoch, _)| epoch), Some(Epoch(3)));
}

#[test]
fn quiet_sources_go_and_busy_ones_make_the_newcomer_wait() {
    let limits = LogLimits { sources_max: 2, ..LIMITS };
    let mut log = Log::new(limits, Retention::Window { age: Duration::from_secs(5), bytes: 100 });
    let start = Instant::from_secs(1);
    log.receive(&data(1, 1, 0, 0, start, 1), start);
    log.receive(&data(2, 1, 0, 0, start, 1), start);
    assert_eq!(log.receive(&data(3, 1, 0, 0, start, 1), start), Receipt::SourcesFull);
    // After twice the age limit nothing of the first two can come back to life.
    let later = start + LIMITS.age_max * 2;
    let mut dropped = Vec::new();
    while let Some(at) = log.poll_timeout().filter(|&at| at <= later) {
        log.handle_timeout(at, &mut dropped);
    }
    assert_eq!(dropped.len(), 2);
    assert_eq!(log.fingerprint(), 0);
    assert!(is_new(&log.receive(&data(3, 1, 0, 0, later, 1), later)));
}

#[test]
fn closing_reports_what_was_missing() {
    let mut log = Log::new(LIMITS, Retention::default());
    let now = Instant::from_secs(1);
    log.receive(&data(1, 1, 5, 0, now, 1), now);
    let source = log.source(1, Epoch(1)).unwrap();
    assert_eq!(log.close(source, 2..8).iter().collect::<Vec<_>>(), [2..5, 6..8]);
    assert_eq!(log.close(source, 0..2), RangeSet::from(0..2));
    assert!(matches!(log.receive(&data(1, 1, 3, 0, now, 1), now), Receipt::Duplicate { .. }));
}
