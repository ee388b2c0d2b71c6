use alloc::vec;

use super::*;
use crate::forest::track::Held;
use crate::log::RangeSet;
use crate::wire::{FrameReader, Message};

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

    let mut viewer = Relay::viewer(2, SWARM, 1, 1, config(), now);
    viewer.learn(facts(), now);
    viewer.wants = Interest::ALL;
    viewer.stripes[0].parent = Some(1);
    viewer.clock_offset_us = source.clock_offset_us;
    viewer.clock = Some(ClockReading { error: Duration::ZERO, at: now, measured: true });
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
