use alloc::vec;

use super::*;
use crate::forest::track::Held;
use crate::log::RangeSet;
use crate::wire::{Attached, Feed, FrameReader, Message, Plan, TrackPosition};

const SWARM: SwarmId = SwarmId::from_name("stream");
const PICTURES: u8 = 8;

fn config() -> RelayConfig {
    RelayConfig {
        frame_bytes_max: 1_200,
        upload_bytes_per_s: 10_000_000,
        retained_bytes_max: 1 << 20,
        in_order: false,
        keyframe_interval: Duration::from_secs(1),
    }
}

fn facts() -> StreamFacts {
    let deadline = Duration::from_secs(2);
    StreamFacts { epoch: Epoch(1), stripes: 1, rate_bytes_per_s: 100_000, deadline }
}

fn attach() -> ForestMessage<u64> {
    let (tracks, keyframes) = (u64::MAX, u64::MAX);
    ForestMessage::Attach(Attach {
        swarm: SWARM,
        stripes: 1,
        tracks,
        keyframes,
        feeds: 0,
        planned: 0,
        token: 1,
    })
}

fn say(
    relay: &mut Relay<u64>,
    from: u64,
    message: ForestMessage<u64>,
    now: Instant,
) -> Vec<RelayAction<u64>> {
    let mut actions = Vec::new();
    relay.handle_message(from, message, None, now, &mut actions);
    actions
}

fn pass(relay: &mut Relay<u64>, from: u64, frame: &Bytes, now: Instant) -> Vec<RelayAction<u64>> {
    let (_, message) = FrameReader::new(frame, now).unwrap().next::<u64>().unwrap().unwrap();
    let Message::Forest(message) = message else { panic!("{message:?}") };
    let mut actions = Vec::new();
    relay.handle_message(from, message, Some(frame), now, &mut actions);
    actions
}

fn frames_to(actions: &[RelayAction<u64>], peer: u64) -> Vec<Bytes> {
    let frames = actions.iter().filter_map(|action| match action {
        RelayAction::Pass { to, frame, .. } if *to == peer => Some(frame.clone()),
        _ => None,
    });
    frames.collect()
}

/// A viewer that gets its only stripe from `parent`, and knows the clock of the source.
fn viewer_of(source: &Relay<u64>, name: u64, parent: u64, now: Instant) -> Relay<u64> {
    let mut viewer = Relay::viewer(name, SWARM, 1, 1, config(), now);
    viewer.learn(facts(), now);
    viewer.wants = Interest::ALL;
    viewer.stripes[0].parent = Some(parent);
    viewer.clock_offset_us = source.clock_offset_us;
    viewer.clock = Some(ClockReading { error: Duration::ZERO, at: now, measured: true });
    viewer
}

#[test]
fn a_chunk_that_parity_gave_goes_to_who_asks_though_it_is_not_kept() {
    let now = Instant::from_secs(10);
    let mut source = Relay::source(1, SWARM, config(), facts(), 150, now);
    say(&mut source, 2, attach(), now);
    let payload: Bytes = (0..3_000u32).map(|at| (at * 7 % 251) as u8).collect();
    let frame =
        Publish { track: PICTURES, keyframe: true, captured: now, deadline: None, payload: payload.clone() };
    let mut actions = Vec::new();
    source.publish(frame, now, &mut actions);
    let sent = frames_to(&actions, 2);
    assert_eq!(sent.len(), 4, "three chunks and one of parity");

    let mut viewer = viewer_of(&source, 2, 1, now);
    let kept = [0, 2, 3].map(|number: usize| sent[number].clone());
    let actions: Vec<_> = kept.iter().flat_map(|frame| pass(&mut viewer, 1, frame, now)).collect();
    let delivered = actions.iter().find_map(|action| match action {
        RelayAction::Deliver(frame) => Some(frame.payload.clone()),
        _ => None,
    });
    assert_eq!(delivered, Some(payload));
    assert_eq!(viewer.stats(now).chunks_rebuilt, 1);
    assert_eq!(viewer.stats(now).retained_bytes, kept.iter().map(|frame| frame.len() as u64).sum::<u64>());
    assert!(matches!(viewer.tracks[&PICTURES].log.get(1), Some(Held::Rebuildable { .. })));

    say(&mut viewer, 3, attach(), now);
    for history in [true, false] {
        let tracks = vec![(PICTURES, RangeSet::from(0..3))];
        let answers = say(&mut viewer, 3, ForestMessage::Want { history, tracks }, now);
        assert_eq!(frames_to(&answers, 3), sent[..3], "byte for byte what the source sent");
    }
}

#[test]
fn in_a_group_the_copy_of_a_small_frame_leaves_with_the_next_one() {
    let sent = |is_shared: bool| {
        let now = Instant::from_secs(10);
        let mut source = Relay::source(1, SWARM, config(), facts(), 200, now);
        if is_shared {
            source.share_upload(10_000_000);
        }
        say(&mut source, 2, attach(), now);
        [0, 20, 40].map(|ms| {
            let now = now + Duration::from_millis(ms);
            let payload = Bytes::from_static(&[7; 80]);
            let frame = Publish { track: PICTURES, keyframe: true, captured: now, deadline: None, payload };
            let mut actions = Vec::new();
            source.publish(frame, now, &mut actions);
            frames_to(&actions, 2).len()
        })
    };
    assert_eq!(sent(true), [1, 2, 2]);
    assert_eq!(sent(false), [2, 2, 2]);
}

fn keyframe(bytes: usize, now: Instant) -> Publish {
    let payload = Bytes::from(vec![7; bytes]);
    Publish { track: PICTURES, keyframe: true, captured: now, deadline: None, payload }
}

/// A source of a group that feeds 2 and 3, and 4, which feeds others; 3 is the farthest.
fn shared_source(stripes: u8, now: Instant) -> Relay<u64> {
    let mut source = Relay::source(1, SWARM, config(), StreamFacts { stripes, ..facts() }, 100, now);
    source.share_upload(10_000_000);
    for (peer, feeds) in [(2, 0), (3, 0), (4, 5)] {
        let ForestMessage::Attach(attach) = attach() else { unreachable!() };
        let stripes = (1 << stripes) - 1;
        say(&mut source, peer, ForestMessage::Attach(Attach { stripes, feeds, ..attach }), now);
    }
    for (peer, ms) in [(2, 20), (3, 90), (4, 30)] {
        source.set_rtt(peer, Duration::from_millis(ms));
    }
    source
}

#[test]
fn in_a_group_helpers_are_fed_first_and_then_the_farthest() {
    let now = Instant::from_secs(10);
    let mut source = shared_source(2, now);
    let mut actions = Vec::new();
    source.publish(keyframe(2_000, now), now, &mut actions);
    let order: Vec<u64> = actions
        .iter()
        .filter_map(|action| match action {
            RelayAction::Pass { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(order, [4, 4, 3, 3, 2, 2], "over both chunks");
}

/// A viewer of a group that gets its only stripe from `parent`, and feeds 7.
fn shared_viewer(source: &Relay<u64>, parent: u64, now: Instant) -> Relay<u64> {
    let mut viewer = viewer_of(source, 4, parent, now);
    viewer.share_upload(10_000_000);
    viewer.notice.state = 1;
    viewer.peer(parent, now, &mut Vec::new()).set_rtt(Duration::from_millis(40));
    say(&mut viewer, 7, attach(), now);
    viewer
}

/// Whom the viewer asks for what, until then.
fn wants(viewer: &mut Relay<u64>, until: Instant) -> Vec<(Instant, u64, RangeSet)> {
    let mut asked = Vec::new();
    while let Some(at) = viewer.poll_timeout().filter(|at| *at <= until) {
        let mut actions = Vec::new();
        viewer.handle_timeout(at, &mut actions);
        asked.extend(wants_in(actions, at));
    }
    asked
}

fn wants_in(actions: Vec<RelayAction<u64>>, at: Instant) -> Vec<(Instant, u64, RangeSet)> {
    let mut asked = Vec::new();
    for action in actions {
        if let RelayAction::Send { to, message: ForestMessage::Want { tracks, .. }, .. } = action {
            asked.extend(tracks.into_iter().map(|(_, numbers)| (at, to, numbers)));
        }
    }
    asked
}

#[test]
fn in_a_group_a_helper_asks_for_what_does_not_come_when_it_should() {
    let ms = Duration::from_millis;
    let start = Instant::from_secs(10);
    let mut source = shared_source(1, start);
    let mut viewer = shared_viewer(&source, 1, start);
    for number in 0..30 {
        let now = start + ms(33) * number;
        let mut actions = Vec::new();
        source.publish(keyframe(900, now), now, &mut actions);
        let arrived = now + ms(20);
        assert!(wants(&mut viewer, arrived).is_empty(), "chunk {number} is not late");
        pass(&mut viewer, 1, &frames_to(&actions, 4)[0], arrived);
    }
    // The next one is lost. Its gap would be seen 66 ms after the last one, when another has come.
    let last = start + ms(33) * 29 + ms(20);
    let asked = wants(&mut viewer, last + ms(300));
    assert_eq!(asked.len(), 1, "what nobody has seen is asked for once: {asked:?}");
    let (at, to, numbers) = &asked[0];
    assert_eq!((*to, numbers), (1, &RangeSet::from(30..31)));
    assert!(*at - last > ms(33) && *at - last < ms(66), "{:?}", *at - last);
}

#[test]
fn what_a_new_parent_has_had_is_asked_for_until_it_comes() {
    let now = Instant::from_secs(10);
    let mut source = Relay::source(1, SWARM, config(), facts(), 100, now);
    say(&mut source, 4, attach(), now);
    let mut actions = Vec::new();
    source.publish(keyframe(900, now), now, &mut actions);
    let mut viewer = viewer_of(&source, 4, 1, now);
    pass(&mut viewer, 1, &frames_to(&actions, 4)[0], now);

    // It has had two chunks more, and all requests are lost.
    viewer.stripes[0].parent = Some(2);
    let positions = [TrackPosition { track: PICTURES, group: Some(0), end: 3 }];
    viewer.catch_up(0, 2, &positions, true, false, now);
    let asked = wants(&mut viewer, now + Duration::from_secs(1));
    assert!(
        asked.len() > 3 && asked.iter().all(|(_, _, numbers)| *numbers == RangeSet::from(1..3)),
        "{asked:?}"
    );
}

#[test]
fn in_a_group_patience_grows_where_chunks_are_late_and_shrinks_where_they_are_lost() {
    let now = Instant::from_secs(10);
    let source = shared_source(1, now);
    let mut viewer = shared_viewer(&source, 1, now);
    let before = viewer.lateness_us;
    let missing =
        |ms| Missing { tries: 1, history: false, foreseen: false, asked: now - Duration::from_millis(ms) };
    // Sooner than the parent could answer.
    viewer.learn_lateness(0, 1, missing(5), now);
    assert!(viewer.lateness_us > before);
    let most = (0..100).map(|_| {
        viewer.learn_lateness(0, 1, missing(5), now);
        viewer.lateness_us
    });
    assert_eq!(most.max(), Some(60_000));
    for _ in 0..200 {
        viewer.learn_lateness(0, 1, missing(45), now);
    }
    assert!(viewer.lateness_us < 13_000, "{}", viewer.lateness_us);
}

#[test]
fn in_a_group_a_helper_that_sends_something_else_is_busy_and_not_dead() {
    let ms = Duration::from_millis;
    let start = Instant::from_secs(10);
    let failed_after = |heard_for: Duration| {
        let source = shared_source(1, start);
        let mut viewer = shared_viewer(&source, 2, start);
        let mut now = start;
        for _ in 0..20 {
            now += ms(33);
            viewer.stripes[0].note_heard(now);
        }
        let last = now;
        viewer.check_soon(now);
        while viewer.stats(now).failovers == 0 && now < last + Duration::from_secs(3) {
            now = viewer.poll_timeout().unwrap_or(Instant::MAX).max(now);
            if viewer.doubted(now).any(|peer| peer == 2) {
                viewer.note_heard(vec![(2, now.min(last + heard_for))]);
            }
            viewer.handle_timeout(now, &mut Vec::new());
        }
        now - last
    };
    let dead = failed_after(Duration::ZERO);
    assert!(dead > ms(80) && dead < ms(200), "{dead:?}");
    let busy = failed_after(ms(250));
    assert!(busy > ms(300) && busy < ms(400), "{busy:?}");
    let mute = failed_after(Duration::from_secs(10));
    assert!(mute < ms(650), "it is believed for a while: {mute:?}");
}

/// Parent `stripe + 2` of a newcomer feeds that stripe, and holds a group of which ten chunks of a stripe have come. Returns what
/// is asked for then.
fn answer(viewer: &mut Relay<u64>, stripe: u8, now: Instant) -> Vec<(Instant, u64, RangeSet)> {
    let attached = Attached {
        token: 0,
        epoch: Epoch(1),
        clock_us: 60_000_000,
        accepted: 1 << stripe,
        paths: vec![vec![1]],
        tracks: vec![TrackPosition { track: PICTURES, group: Some(40), end: 60 }],
        redirects: Vec::new(),
        state: StreamNotice { state: 1, ..StreamNotice::default() },
    };
    wants_in(say(viewer, u64::from(stripe) + 2, ForestMessage::Attached(attached), now), now)
}

#[test]
fn the_first_picture_does_not_wait_for_a_place_in_every_stripe() {
    let ms = Duration::from_millis;
    let start = Instant::from_secs(100);
    let asked_of = |second_after: Option<Duration>| {
        let mut viewer = Relay::viewer(4, SWARM, 1, 1, config(), start);
        viewer.wants = Interest::ALL;
        say(&mut viewer, 1, plan_of(&[(0, 2), (1, 3)], 2), start);
        let mut asked = answer(&mut viewer, 0, start);
        if let Some(after) = second_after {
            asked.extend(wants(&mut viewer, start + after));
            asked.extend(answer(&mut viewer, 1, start + after));
        }
        asked.extend(wants(&mut viewer, start + ms(60)));
        let mut numbers: Vec<(u64, u64, Duration)> = Vec::new();
        for (at, to, ranges) in asked {
            let all = ranges.iter().flat_map(|range| range.start..range.end);
            numbers.extend(all.map(|number| (number, to, at - start)));
        }
        numbers.sort_unstable();
        numbers
    };
    let alone = asked_of(None);
    assert_eq!(alone.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), (40..60).collect::<Vec<_>>());
    for (number, to, after) in alone {
        assert_eq!(to, 2, "chunk {number}");
        assert_eq!(after >= ms(30), number % 2 == 1, "chunk {number} after {after:?}");
    }
    let together = asked_of(Some(ms(10)));
    assert_eq!(together.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), (40..60).collect::<Vec<_>>());
    for (number, to, after) in together {
        assert_eq!(to, 2 + number % 2, "chunk {number} after {after:?}");
        assert!(after < ms(30), "chunk {number} after {after:?}");
    }
}

#[test]
fn a_long_queue_does_not_keep_first_pictures_waiting_and_who_wants_too_much_is_told() {
    let now = Instant::from_secs(10);
    let mut source = Relay::source(1, SWARM, config(), facts(), 100, now);
    for number in 0..300 {
        let is_key = number < 250;
        source.publish(Publish { keyframe: is_key, ..keyframe(900, now) }, now, &mut Vec::new());
    }
    say(&mut source, 2, attach(), now);
    source.note_backlog(50_000_000);
    let mut want = |numbers: Range<u64>| {
        let tracks = vec![(PICTURES, RangeSet::from(numbers))];
        let answers = say(&mut source, 2, ForestMessage::Want { history: true, tracks }, now);
        let is_gone = |action: &RelayAction<u64>| {
            matches!(action, RelayAction::Send { message: ForestMessage::Gone { .. }, .. })
        };
        (frames_to(&answers, 2).len(), answers.iter().any(is_gone))
    };
    assert_eq!(want(250..300), (0, false), "the others can wait");
    assert_eq!(want(0..20), (20, false));
    let (sent, is_told) = want(20..250);
    assert!(sent > 0 && sent < 230 && is_told, "{sent} of 230, {is_told}");
}

#[test]
fn a_first_picture_goes_before_live_media_but_not_in_a_group_nor_where_upload_is_scarce() {
    let now = Instant::from_secs(10);
    let class_of_history = |is_shared: bool, is_key: bool, stripes: u8| {
        let facts = StreamFacts { stripes, ..facts() };
        let mut source = Relay::source(1, SWARM, config(), facts, 100, now);
        if is_shared {
            source.share_upload(10_000_000);
        }
        source.publish(Publish { keyframe: is_key, ..keyframe(900, now) }, now, &mut Vec::new());
        say(&mut source, 2, attach(), now);
        let tracks = vec![(PICTURES, RangeSet::from(0..1))];
        let answers = say(&mut source, 2, ForestMessage::Want { history: true, tracks }, now);
        let mut classes = answers.iter().filter_map(|action| match action {
            RelayAction::Pass { class, .. } => Some(*class),
            _ => None,
        });
        classes.next()
    };
    assert_eq!(class_of_history(false, true, 1), Some(Class::Urgent));
    assert_eq!(class_of_history(true, true, 1), Some(Class::Normal));
    assert_eq!(class_of_history(false, true, 16), Some(Class::Normal));
    assert_eq!(class_of_history(false, false, 1), Some(Class::Background));
}

fn plan_of(feeds: &[(u8, u64)], stripes: u8) -> ForestMessage<u64> {
    let feeds = feeds.iter().map(|&(stripe, parent)| Feed { stripe, parent, backups: Vec::new() });
    ForestMessage::Plan(Plan {
        swarm: SWARM,
        source: 1,
        epoch: Epoch(1),
        stripes,
        rate_bytes_per_s: 100_000,
        deadline: Duration::from_secs(2),
        passes_on: None,
        version: 1,
        feeds: feeds.collect(),
    })
}

/// What a viewer of one stripe, fed by 2, does until then; whoever is asked for a place is full.
fn refused(viewer: &mut Relay<u64>, first: Vec<RelayAction<u64>>, until: Instant) -> Vec<RelayAction<u64>> {
    let (mut actions, mut seen) = (first, Vec::new());
    loop {
        let mut answers = Vec::new();
        for action in core::mem::take(&mut actions) {
            if let RelayAction::Send { to, message: ForestMessage::Attach(attach), .. } = &action {
                answers.push((*to, attach.token));
            }
            seen.push(action);
        }
        let Some(at) = viewer.poll_timeout().filter(|at| *at <= until) else { return seen };
        for (peer, token) in answers {
            let full = Attached {
                token,
                epoch: Epoch(1),
                clock_us: 60_000_000,
                accepted: 0,
                paths: Vec::new(),
                tracks: Vec::new(),
                redirects: Vec::new(),
                state: StreamNotice::default(),
            };
            actions.extend(say(viewer, peer, ForestMessage::Attached(full), at));
        }
        viewer.handle_timeout(at, &mut actions);
    }
}

#[test]
fn a_planned_parent_that_is_full_is_asked_again_and_then_reported() {
    let now = Instant::from_secs(10);
    let mut viewer = Relay::viewer(4, SWARM, 1, 1, config(), now);
    viewer.learn(facts(), now);
    viewer.stripes[0].parent = Some(2);
    viewer.peer(2, now, &mut Vec::new()).attached = now;
    let asked = say(&mut viewer, 1, plan_of(&[(0, 3)], 1), now);
    let done = refused(&mut viewer, asked, now + Duration::from_secs(2));
    let asked = done.iter().filter(|action| {
        matches!(action, RelayAction::Send { to: 3, message: ForestMessage::Attach(_), .. })
    });
    assert_eq!(asked.count(), 3);
    let reports: Vec<_> = done
        .iter()
        .filter_map(|action| match action {
            RelayAction::Send { to: 1, message: ForestMessage::Report { lost }, .. } => Some(lost.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(reports, [[LostParent { stripe: 0, parent: 2, adopted: Some(2) }]], "it stays with 2");
    assert_eq!(viewer.parents().collect::<Vec<_>>(), [Some(2)]);
}

#[test]
fn a_path_that_changed_is_told_once_more_as_the_first_message_may_be_lost() {
    let now = Instant::from_secs(10);
    let mut viewer = Relay::viewer(4, SWARM, 1, 1, config(), now);
    viewer.learn(facts(), now);
    (viewer.stripes[0].parent, viewer.stripes[0].path) = (Some(2), vec![2, 1]);
    say(&mut viewer, 7, attach(), now);
    let told = |actions: &[RelayAction<u64>]| {
        let paths = actions.iter().filter(|action| {
            matches!(action, RelayAction::Send { to: 7, message: ForestMessage::Path { ancestors, .. }, .. }
                if *ancestors == [2, 3, 1])
        });
        paths.count()
    };
    let actions = say(&mut viewer, 2, ForestMessage::Path { stripes: 1, ancestors: vec![3, 1] }, now);
    assert_eq!(told(&actions), 1);
    let mut actions = Vec::new();
    viewer.handle_timeout(now + Duration::from_secs(1), &mut actions);
    assert_eq!(told(&actions), 1);
    actions.clear();
    viewer.handle_timeout(now + Duration::from_secs(2), &mut actions);
    assert_eq!(told(&actions), 0);
}
