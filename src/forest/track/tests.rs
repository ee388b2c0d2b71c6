#![allow(clippy::single_range_in_vec_init, reason = "one range is what was lost")]
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const DEADLINE_MS: u32 = 200;
const GAP_MS: u32 = 33;

/// One frame of a track: its place, its chunks, and whether it stands alone.
#[derive(Clone, Copy, Debug)]
struct Planned {
    sequence: u64,
    first: u64,
    data: u8,
    parity: u8,
    keyframe: bool,
    deadline_ms: Option<u32>,
}

impl Planned {
    fn chunk(&self, index: u8) -> Chunk {
        Chunk {
            epoch: 1,
            track: 8,
            number: self.first + u64::from(index),
            index,
            data: self.data,
            parity: self.parity,
            reed_solomon: false,
            keyframe: self.keyframe,
            sequence: self.sequence,
            captured_ms: self.sequence as u32 * GAP_MS,
            deadline_ms: self.deadline_ms,
            seal: Bytes::new(),
            body: Bytes::new(),
        }
    }

    fn use_by_ms(&self) -> u64 {
        self.sequence * u64::from(GAP_MS) + u64::from(self.deadline_ms.unwrap_or(DEADLINE_MS))
    }
}

/// Frames one after the other; of each whether it stands alone, and how many chunks it has.
fn frames(list: &[(bool, u8)]) -> Vec<Planned> {
    let mut first = 0;
    let frame = |(sequence, &(keyframe, data)): (usize, &(bool, u8))| {
        let (sequence, parity) = (sequence as u64, 0);
        let frame = Planned { sequence, first, data, parity, keyframe, deadline_ms: None };
        first += u64::from(data);
        frame
    };
    list.iter().enumerate().map(frame).collect()
}

/// What stands for a chunk in the log: ten bytes.
fn encoded(number: u64) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend([0, 0]);
    Bytes::from(bytes)
}

fn insert(log: &mut TrackLog, frame: &Planned, index: u8) -> Inserted {
    let chunk = frame.chunk(index);
    log.insert(&chunk, encoded(chunk.number), DEADLINE_MS)
}

fn insert_all(log: &mut TrackLog, frame: &Planned) {
    for index in 0..frame.data {
        assert_eq!(insert(log, frame, index), Inserted::New);
    }
}

fn drain(log: &mut TrackLog, in_order: bool) -> Vec<u64> {
    core::iter::from_fn(|| log.next_ready(in_order)).map(|ready| ready.sequence).collect()
}

fn expire(log: &mut TrackLog, now_ms: u64) -> Vec<Range<u64>> {
    let mut lagged = Vec::new();
    log.expire(now_ms, &mut lagged);
    lagged
}

fn log() -> TrackLog {
    TrackLog::new(1 << 20)
}

#[test]
fn delivery_starts_at_the_first_whole_keyframe() {
    let frames = frames(&[(true, 2), (false, 1), (false, 1), (true, 2), (false, 1)]);
    let mut log = log();
    insert(&mut log, &frames[0], 1);
    insert_all(&mut log, &frames[2]);
    assert!(!log.has_started());
    assert!(drain(&mut log, true).is_empty());
    insert_all(&mut log, &frames[4]);
    insert_all(&mut log, &frames[3]);
    let ready = log.next_ready(true).unwrap();
    assert!(ready.is_first && ready.keyframe && log.has_started());
    assert_eq!((ready.sequence, ready.first, ready.captured_ms), (3, 4, 99));
    assert_eq!(ready.deadline_ms, DEADLINE_MS);
    assert_eq!(ready.chunks, [encoded(4), encoded(5)]);
    let ready = log.next_ready(true).unwrap();
    assert_eq!((ready.sequence, ready.is_first), (4, false));
    // What lies before is of no use to this application any more.
    insert(&mut log, &frames[0], 0);
    assert!(drain(&mut log, true).is_empty());
    assert!(expire(&mut log, 10_000).is_empty());
}

#[test]
fn in_order_a_missing_frame_holds_up_the_later_ones() {
    let frames = frames(&[(true, 1), (false, 2), (false, 1), (false, 1)]);
    for in_order in [true, false] {
        let mut log = log();
        for at in [0, 2, 3] {
            insert_all(&mut log, &frames[at]);
        }
        insert(&mut log, &frames[1], 1);
        let before = drain(&mut log, in_order);
        insert(&mut log, &frames[1], 0);
        let after = drain(&mut log, in_order);
        if in_order {
            assert_eq!((before, after), (vec![0], vec![1, 2, 3]));
        } else {
            assert_eq!((before, after), (vec![0, 2, 3], vec![1]));
        }
    }
}

#[test]
fn expiry_tells_exactly_what_is_given_up() {
    // Of 1 nothing comes, of 2 half, of 4 and 5 nothing.
    let frames = frames(&[(true, 1), (false, 1), (false, 2), (false, 1), (false, 1), (false, 1), (false, 2)]);
    let mut log = log();
    insert_all(&mut log, &frames[0]);
    insert(&mut log, &frames[2], 0);
    insert_all(&mut log, &frames[3]);
    assert_eq!(drain(&mut log, true), [0]);
    let use_by = frames[2].use_by_ms();
    assert_eq!(log.next_use_by_ms(), Some(use_by));
    assert!(expire(&mut log, use_by - 1).is_empty());
    assert_eq!(expire(&mut log, use_by), [1..3]);
    assert_eq!(drain(&mut log, true), [3]);
    // Nobody knows of frames after the newest.
    assert_eq!(log.next_use_by_ms(), None);
    assert!(expire(&mut log, 100_000).is_empty());
    insert(&mut log, &frames[6], 1);
    assert_eq!(expire(&mut log, frames[6].use_by_ms()), [4..7]);
    // Too late.
    insert(&mut log, &frames[6], 0);
    insert_all(&mut log, &frames[4]);
    assert!(drain(&mut log, true).is_empty());
}

#[test]
fn a_whole_frame_is_not_given_up_with_the_ones_before_it_of_which_nothing_came() {
    let frames = frames(&[(true, 1), (false, 1), (false, 1), (false, 1)]);
    for in_order in [true, false] {
        let mut log = log();
        for at in [0, 2, 3] {
            insert_all(&mut log, &frames[at]);
        }
        let mut delivered = drain(&mut log, in_order);
        let use_by = log.next_use_by_ms().unwrap();
        assert_eq!(use_by, frames[2].use_by_ms());
        assert_eq!(expire(&mut log, use_by), [1..2]);
        delivered.extend(drain(&mut log, in_order));
        assert_eq!(delivered, [0, 2, 3]);
    }
}

#[test]
fn a_delivered_frame_with_a_long_time_does_not_keep_the_timer_busy() {
    let mut frames = frames(&[(true, 1), (false, 1), (false, 1), (false, 2)]);
    frames[2].deadline_ms = Some(10_000);
    let mut log = log();
    insert_all(&mut log, &frames[0]);
    insert_all(&mut log, &frames[2]);
    insert(&mut log, &frames[3], 0);
    assert_eq!(drain(&mut log, false), [0, 2]);
    let mut now = 0;
    let mut lagged = Vec::new();
    while let Some(at) = log.next_use_by_ms() {
        assert!(at >= now, "due at {at} although {now} has passed and nothing is left to do");
        now = at + 1;
        log.expire(now, &mut lagged);
    }
    let all: u64 = lagged.iter().map(|range| range.end - range.start).sum();
    assert_eq!((all, now), (2, frames[2].use_by_ms() + 1));
}

#[test]
fn patience_puts_expiry_off() {
    let frames = frames(&[(true, 1), (false, 2)]);
    let mut log = log();
    insert_all(&mut log, &frames[0]);
    insert(&mut log, &frames[1], 0);
    assert_eq!(drain(&mut log, true), [0]);
    log.be_patient_until(5_000);
    assert_eq!(log.next_use_by_ms(), Some(5_000));
    assert!(expire(&mut log, 4_999).is_empty());
    assert_eq!(expire(&mut log, 5_000), [1..2]);
}

#[test]
fn contradictions_change_nothing() {
    let frames = frames(&[(true, 3), (false, 3), (false, 3)]);
    let mut log = log();
    insert_all(&mut log, &frames[0]);
    insert(&mut log, &frames[1], 1);
    insert_all(&mut log, &frames[2]);
    let before = (log.bytes(), log.end());
    let honest = frames[1].chunk(0);
    let lies = [
        Chunk { sequence: 7, ..honest.clone() },
        Chunk { captured_ms: 1, ..honest.clone() },
        Chunk { data: 2, ..honest.clone() },
        Chunk { parity: 1, ..honest.clone() },
        Chunk { keyframe: true, ..honest.clone() },
        // It begins in the middle of a frame, or ends in one.
        Chunk { number: honest.number + 1, ..honest.clone() },
        Chunk { number: honest.number - 1, ..honest.clone() },
        Chunk { number: honest.number + 10, sequence: 2, ..honest.clone() },
        Chunk { number: honest.number + 10, sequence: 0, ..honest.clone() },
    ];
    for lie in lies {
        let outcome = log.insert(&lie, encoded(lie.number), DEADLINE_MS);
        assert_eq!(outcome, Inserted::Contradiction, "{lie:?}");
    }
    assert_eq!((log.bytes(), log.end()), before);
    assert_eq!(insert(&mut log, &frames[1], 1), Inserted::Duplicate);
    assert_eq!((log.bytes(), log.end()), before);
    assert_eq!(insert(&mut log, &frames[1], 0), Inserted::New);
    assert_eq!(insert(&mut log, &frames[1], 2), Inserted::New);
    assert_eq!(drain(&mut log, true), [0, 1, 2]);
}

#[test]
fn trim_keeps_the_newest_whole_group() {
    let frames = frames(&[(true, 1), (false, 1), (true, 2), (false, 1), (true, 2), (false, 1)]);
    let mut log = log();
    for frame in &frames[..4] {
        insert_all(&mut log, frame);
    }
    insert(&mut log, &frames[4], 0);
    insert_all(&mut log, &frames[5]);
    // What is young stays.
    log.trim(frames[1].chunk(0).captured_ms.into());
    assert_eq!((log.floor(), log.holds(0), log.holds(1)), (1, false, true));
    log.trim(u64::MAX);
    assert_eq!((log.floor(), log.group()), (2, Some(2)), "the newest keyframe is not whole");
    assert!(log.holds(2) && log.holds(3) && log.holds(4) && log.holds(5));
    assert_eq!(insert(&mut log, &frames[1], 0), Inserted::TooOld);
    insert(&mut log, &frames[4], 1);
    log.trim(u64::MAX);
    assert_eq!((log.floor(), log.group()), (5, Some(5)));
    assert_eq!(log.bytes(), 30);
}

#[test]
fn trim_respects_the_limits() {
    let frames = frames(&[(true, 1); 20]);
    let mut log = TrackLog::new(95);
    for frame in &frames {
        insert_all(&mut log, frame);
        log.trim(0);
        assert!(log.bytes() <= 95);
    }
    assert_eq!((log.bytes(), log.floor(), log.end()), (90, 11, 20));

    let mut log = TrackLog::new(usize::MAX);
    let many: Vec<(bool, u8)> = vec![(false, 1); FRAMES_MAX + 10];
    for frame in super::tests::frames(&many) {
        insert_all(&mut log, &frame);
        log.trim(0);
    }
    assert_eq!((log.frames.len(), log.floor()), (FRAMES_MAX, 10));
    assert_eq!(log.bytes(), FRAMES_MAX * 10);
}

#[test]
fn whoever_wants_keyframes_gets_keyframes() {
    let frames = frames(&[(true, 1), (false, 1), (true, 2), (false, 1), (true, 2), (true, 1)]);
    let mut log = log();
    log.keyframes_only = true;
    for at in [0, 1, 3, 5] {
        insert_all(&mut log, &frames[at]);
    }
    insert(&mut log, &frames[4], 0);
    assert_eq!(drain(&mut log, true), [0, 5]);
    // It is in the past already.
    insert(&mut log, &frames[4], 1);
    insert_all(&mut log, &frames[2]);
    assert!(drain(&mut log, true).is_empty());
    assert!(expire(&mut log, 100_000).is_empty());
}

#[test]
fn of_what_is_given_up_only_keyframes_are_told_where_only_they_are_wanted() {
    let frames = frames(&[(true, 1), (false, 2), (true, 2), (false, 2), (true, 2)]);
    let mut log = log();
    log.keyframes_only = true;
    insert_all(&mut log, &frames[0]);
    for frame in &frames[1..] {
        insert(&mut log, frame, 0);
    }
    assert_eq!(drain(&mut log, true), [0]);
    assert_eq!(expire(&mut log, 100_000), [2..3, 4..5]);
}

#[test]
fn stopped_delivery_begins_again_at_a_new_keyframe() {
    let frames = frames(&[(true, 1), (false, 1), (false, 1), (true, 1)]);
    let mut log = log();
    insert_all(&mut log, &frames[0]);
    assert_eq!(drain(&mut log, true), [0]);
    insert_all(&mut log, &frames[1]);
    log.stop_delivery();
    insert_all(&mut log, &frames[2]);
    assert_eq!((drain(&mut log, true), log.next_use_by_ms()), (vec![], None));
    assert!(expire(&mut log, 100_000).is_empty());
    insert_all(&mut log, &frames[3]);
    assert_eq!(drain(&mut log, true), [3]);
}

#[test]
fn a_lost_chunk_is_spare_while_parity_gives_it() {
    // Classes {10, 12, parity 14} and {11, 13, parity 15}.
    let frame = Planned { sequence: 0, first: 10, data: 4, parity: 2, keyframe: true, deadline_ms: None };
    let mut log = log();
    assert_eq!(log.is_spare(12, |_| false), None, "nothing is known of the frame");
    insert(&mut log, &frame, 0);
    assert_eq!(log.is_spare(12, |_| false), Some(Spare::Data));
    assert_eq!(log.is_spare(12, |number| number == 11), Some(Spare::Data), "of the other class");
    assert_eq!(log.is_spare(12, |number| number == 14), None, "its parity is lost, too");
    assert_eq!(log.is_spare(14, |_| false), Some(Spare::Parity));
    assert_eq!(log.is_spare(14, |number| number == 12), None);
    insert(&mut log, &frame, 4);
    assert_eq!(log.is_spare(12, |number| number == 14), Some(Spare::Data), "it came after all");

    let plain = Planned { sequence: 1, first: 16, data: 2, parity: 0, keyframe: false, deadline_ms: None };
    insert(&mut log, &plain, 0);
    assert_eq!(log.is_spare(17, |_| false), None, "no parity");

    let any = Planned { sequence: 2, first: 18, data: 3, parity: 2, keyframe: false, deadline_ms: None };
    let chunk = Chunk { reed_solomon: true, ..any.chunk(0) };
    log.insert(&chunk, Bytes::from_static(b"chunk"), DEADLINE_MS);
    assert_eq!(log.is_spare(19, |number| number == 20), Some(Spare::Data), "any two may be lost");
    assert_eq!(log.is_spare(19, |number| number > 19), None);
}

#[test]
fn frames_that_lack_data_and_have_parity_can_be_rebuilt() {
    let frame = Planned { sequence: 0, first: 10, data: 3, parity: 2, keyframe: true, deadline_ms: None };
    let mut log = log();
    assert!(log.rebuildable(10).is_none());
    insert(&mut log, &frame, 0);
    insert(&mut log, &frame, 2);
    assert!(log.rebuildable(10).is_none(), "no parity yet");
    assert_eq!(log.holes(0..100).collect::<Vec<_>>(), [11]);
    insert(&mut log, &frame, 4);
    let rebuildable = log.rebuildable(12).unwrap();
    assert_eq!((rebuildable.first, rebuildable.data, rebuildable.reed_solomon), (10, 3, false));
    let there: Vec<bool> = rebuildable.chunks.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true, false, true]);
    assert!(drain(&mut log, true).is_empty());
    insert(&mut log, &frame, 1);
    assert!(log.rebuildable(10).is_none() && log.is_settled(13));
    assert_eq!(log.holes(0..100).count(), 0);
    let ready = log.next_ready(true).unwrap();
    assert_eq!(ready.chunks, [encoded(10), encoded(11), encoded(12)], "parity is not part of the payload");
    assert_eq!(log.end(), 15);
}

/// What the application sees.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Frame(u64),
    Lagged(u64),
}

/// The rules of delivery, written down without any regard to cost.
#[derive(Default)]
struct Model {
    arrived: BTreeMap<u64, BTreeSet<u8>>,
    started: bool,
    /// From here on frames are owed.
    next: u64,
    done: BTreeSet<u64>,
    seen: Vec<Seen>,
}

impl Model {
    fn is_whole(&self, frame: &Planned) -> bool {
        self.arrived.get(&frame.sequence).is_some_and(|chunks| chunks.len() == usize::from(frame.data))
    }

    fn deliver(&mut self, frames: &[Planned], in_order: bool) {
        if !self.started {
            let start = frames.iter().find(|frame| frame.keyframe && self.is_whole(frame));
            let Some(start) = start else { return };
            self.started = true;
            self.next = start.sequence + 1;
            self.seen.push(Seen::Frame(start.sequence));
        }
        for frame in frames {
            if frame.sequence < self.next || self.done.contains(&frame.sequence) {
                continue;
            }
            if self.is_whole(frame) {
                self.done.insert(frame.sequence);
                self.seen.push(Seen::Frame(frame.sequence));
            } else if in_order {
                break;
            }
        }
    }

    /// A frame of which nothing came has the time of the next one that is known.
    fn expire(&mut self, frames: &[Planned], now_ms: u64, in_order: bool) {
        while self.started {
            let Some(frame) = frames
                .iter()
                .find(|frame| frame.sequence >= self.next && !self.done.contains(&frame.sequence))
            else {
                return;
            };
            let mut known = frames[frame.sequence as usize..].iter();
            let known = known.find(|frame| self.arrived.contains_key(&frame.sequence));
            if known.is_none_or(|known| known.use_by_ms() > now_ms) {
                return;
            }
            self.done.insert(frame.sequence);
            self.seen.push(Seen::Lagged(frame.sequence));
            self.deliver(frames, in_order);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Chunk(prop::sample::Index),
    Wait(u64),
    /// What is older than this is kept in part.
    Thin(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Sixty draws of some thirty chunks: some come twice, some never.
    let step = prop_oneof![
        6 => any::<prop::sample::Index>().prop_map(Step::Chunk),
        1 => (0u64..60).prop_map(Step::Wait),
        1 => (0u64..200).prop_map(Step::Thin),
    ];
    prop::collection::vec(step, 0..90)
}

proptest! {
    #[test]
    fn every_frame_is_delivered_once_or_told_as_lagged(
        list in prop::collection::vec((prop::bool::weighted(0.3), 1u8..4), 1..15),
        deadlines in prop::collection::vec(prop::option::weighted(0.2, 20u32..600), 15),
        steps in steps(),
        in_order in any::<bool>(),
    ) {
        let mut frames = frames(&list);
        for (frame, deadline) in frames.iter_mut().zip(deadlines) {
            // Out of order, a frame that was delivered may hide the time of those around it.
            frame.deadline_ms = deadline.filter(|_| in_order);
        }
        let chunks: Vec<(Planned, u8)> =
            frames.iter().flat_map(|frame| (0..frame.data).map(|index| (*frame, index))).collect();
        let (mut log, mut model) = (log(), Model::default());
        let (mut now, mut seen) = (0, Vec::new());
        for step in steps.into_iter().chain([Step::Wait(10_000)]) {
            match step {
                Step::Chunk(which) => {
                    let (frame, index) = which.get(&chunks);
                    let is_new = model.arrived.entry(frame.sequence).or_default().insert(*index);
                    let expected = if is_new { Inserted::New } else { Inserted::Duplicate };
                    prop_assert_eq!(insert(&mut log, frame, *index), expected);
                    model.deliver(&frames, in_order);
                }
                Step::Wait(ms) => {
                    now += ms;
                    model.expire(&frames, now, in_order);
                }
                Step::Thin(age) => log.thin(now.saturating_sub(age), |number| number % 3 == 0),
            }
            seen.extend(drain(&mut log, in_order).into_iter().map(Seen::Frame));
            let mut rounds = 0;
            while matches!(step, Step::Wait(_)) && log.next_use_by_ms().is_some_and(|at| at <= now) {
                seen.extend(expire(&mut log, now).into_iter().flatten().map(Seen::Lagged));
                seen.extend(drain(&mut log, in_order).into_iter().map(Seen::Frame));
                rounds += 1;
                prop_assert!(rounds <= 2 * frames.len(), "the timer does not come to rest");
            }
            if in_order {
                prop_assert_eq!(&seen, &model.seen);
            }
        }
        let mut all: Vec<u64> = seen
            .iter()
            .map(|seen| match seen {
                Seen::Frame(sequence) | Seen::Lagged(sequence) => *sequence,
            })
            .collect();
        if let Some(first) = all.first().copied() {
            prop_assert!(frames[first as usize].keyframe);
            prop_assert_eq!(&seen[0], &Seen::Frame(first));
            if in_order {
                prop_assert!(all.is_sorted());
            }
            all.sort_unstable();
            let newest = model.arrived.keys().last().copied().unwrap_or(0);
            prop_assert_eq!(all, (first..=newest).collect::<Vec<_>>());
        }
        let sorted = |mut list: Vec<Seen>| {
            list.sort_by_key(|seen| match seen {
                Seen::Frame(sequence) | Seen::Lagged(sequence) => *sequence,
            });
            list
        };
        prop_assert_eq!(sorted(seen), sorted(model.seen));
    }
}

#[test]
fn what_parity_gave_is_let_go_of_once_it_is_delivered() {
    let frame = Planned { sequence: 0, first: 0, data: 3, parity: 1, keyframe: true, deadline_ms: None };
    let next = Planned { sequence: 1, first: 4, keyframe: false, ..frame };
    let mut log = log();
    insert(&mut log, &frame, 0);
    insert(&mut log, &frame, 3);
    insert(&mut log, &frame, 2);
    let rebuildable = log.rebuildable(3).unwrap();
    assert_eq!((rebuildable.first, rebuildable.data, rebuildable.chunks.len()), (0, 3, 4));
    let rebuilt = frame.chunk(1);
    assert_eq!(log.insert_rebuilt(&rebuilt, encoded(1), DEADLINE_MS), Inserted::New);
    assert_eq!(log.insert_rebuilt(&rebuilt, encoded(1), DEADLINE_MS), Inserted::Duplicate);
    assert!(log.rebuildable(3).is_none(), "it is complete");
    assert!(matches!(log.get(1), Some(Held::Here(chunk)) if *chunk == encoded(1)));
    assert_eq!(log.bytes(), 40);
    let ready = log.next_ready(true).unwrap();
    assert_eq!(ready.chunks, [encoded(0), encoded(1), encoded(2)]);

    // It is still here to all who ask, but takes no room.
    assert_eq!(log.bytes(), 30);
    assert!(log.holds(1) && log.is_settled(1));
    let held = log.get(1).unwrap();
    assert_eq!((held.here(), held.bytes()), (None, 10));
    assert_eq!(insert(&mut log, &frame, 1), Inserted::Duplicate);
    let again = log.rebuildable_again(1).unwrap();
    assert_eq!(again.chunks[1], Some(Bytes::new()));
    assert_eq!(again.chunks.iter().flatten().filter(|chunk| !chunk.is_empty()).count(), 3);

    // It goes with its frame.
    insert_all(&mut log, &Planned { sequence: 2, first: 8, keyframe: true, ..next });
    log.trim(10_000);
    assert_eq!((log.floor(), log.bytes()), (4, 30));
    assert!(log.rebuilt.is_empty() && log.get(1).is_none());
}

#[test]
fn of_old_frames_only_what_others_get_from_here_is_kept() {
    // Chunks 0; 1 to 3; 4 to 7; 8 and 9; 10 to 12; 13 and 14; 15 and 16.
    let frames = frames(&[(true, 1), (false, 3), (false, 4), (false, 2), (false, 3), (false, 2), (true, 2)]);
    let keeps = |number: u64| number % 4 == 2;
    let mut log = log();
    for frame in &frames {
        for index in 0..frame.data {
            // The fourth frame lacks its end, and is given up.
            if (frame.sequence, index) != (3, 1) {
                insert(&mut log, frame, index);
            }
        }
    }
    log.thin(u64::MAX, keeps);
    assert_eq!(log.bytes(), 160, "nothing was delivered yet");
    assert_eq!(drain(&mut log, true), [0, 1, 2]);
    log.thin(u64::from(GAP_MS) * 2, keeps);
    assert_eq!(
        log.bytes(),
        140,
        "the keyframe is kept whole, of the next one chunk of three, and the third is young"
    );
    assert!(log.get(1).is_none() && log.get(2).unwrap().here() == Some(&encoded(2)));
    assert!(log.get(0).is_some() && log.get(4).is_some());

    // What was let go of is not missed, and is not new when it comes again.
    assert!(log.holds(1) && log.is_settled(1) && log.holes(0..4).next().is_none());
    assert_eq!(insert(&mut log, &frames[1], 0), Inserted::Duplicate);
    assert!(log.rebuildable(1).is_none() && log.rebuildable_again(1).is_none());
    assert_eq!((log.group(), log.newest_keyframe_ms()), (Some(15), Some(6 * GAP_MS)));

    // The rest waits for the fourth frame, which stays as it is: what it lacks may still come.
    log.thin(u64::MAX, keeps);
    assert_eq!(log.bytes(), 110);
    assert_eq!(expire(&mut log, frames[3].use_by_ms()), [3..4]);
    assert_eq!(drain(&mut log, true), [4, 5, 6]);
    log.thin(u64::MAX, keeps);
    assert_eq!(log.bytes(), 80, "chunks 0, 2, 6, 8, 10, 14, 15 and 16");
    assert_eq!(insert(&mut log, &frames[3], 1), Inserted::New);
    assert_eq!(insert(&mut log, &frames[3], 0), Inserted::Duplicate);
    log.trim(u64::MAX);
    assert_eq!((log.floor(), log.bytes()), (15, 20));
}

#[test]
fn a_frame_stays_whole_if_what_parity_gave_of_it_is_to_be_given_again() {
    let frame = Planned { sequence: 1, first: 1, data: 3, parity: 1, keyframe: false, deadline_ms: None };
    let mut log = log();
    insert(&mut log, &Planned { sequence: 0, first: 0, data: 1, parity: 0, keyframe: true, ..frame }, 0);
    for index in [0, 2, 3] {
        insert(&mut log, &frame, index);
    }
    assert_eq!(log.insert_rebuilt(&frame.chunk(1), encoded(2), DEADLINE_MS), Inserted::New);
    assert_eq!(drain(&mut log, true), [0, 1]);
    log.thin(u64::MAX, |number| number == 2);
    assert!(log.rebuildable_again(2).is_some() && log.bytes() == 40);

    let next = Planned { sequence: 2, first: 5, ..frame };
    for index in [0, 2, 3] {
        insert(&mut log, &next, index);
    }
    assert_eq!(log.insert_rebuilt(&next.chunk(1), encoded(6), DEADLINE_MS), Inserted::New);
    assert_eq!(drain(&mut log, true), [2]);
    log.thin(u64::MAX, |number| number == 5);
    assert_eq!((log.bytes(), log.get(5).unwrap().bytes()), (50, 10), "here nobody asks for it");
}
