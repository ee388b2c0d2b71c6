//! The wire format of forests: golden vectors, round trips, truncation, noise, and what hostile frames may cost.

use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use suffuse::wire::{
    Attach, Attached, Chunk, Feed, ForestMessage, FrameReader, FrameWriter, LostParent, Message, Plan,
    StreamNotice, TrackPosition, WireError, message_bytes_max,
};
use suffuse::{Epoch, Instant, RangeSet, SwarmId, SwarmTag};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Memory is measured for the whole process, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

const NOW: Instant = Instant::from_secs(100);
const TAG: SwarmTag = SwarmTag(0x1413_1211);
const SWARM: SwarmId = SwarmId(0x0807_0605_0403_0201);

type Forest = ForestMessage<u64>;

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn frame(messages: &[Forest]) -> Bytes {
    let mut writer = FrameWriter::new(64);
    for message in messages {
        writer.push(TAG, &Message::Forest(message.clone()), NOW);
    }
    writer.finish()
}

type Read = Result<Vec<(Option<SwarmTag>, Message<u64>)>, WireError>;

fn read(frame: &Bytes) -> Read {
    let mut reader = FrameReader::new(frame, NOW)?;
    let mut messages = Vec::new();
    while let Some(message) = reader.next() {
        messages.push(message?);
    }
    Ok(messages)
}

/// A frame of one message: `kind`, the tag, and `fields`.
fn raw(kind: u8, fields: &[u8]) -> Bytes {
    Bytes::from([&[1, kind, 0x11, 0x12, 0x13, 0x14], fields].concat())
}

#[track_caller]
fn assert_golden(message: Forest, kind: u8, fields: &[u8]) {
    let _alone = alone();
    let golden = raw(kind, fields);
    assert_eq!(frame(slice::from_ref(&message)), golden);
    assert_eq!(read(&golden), Ok(vec![(Some(TAG), Message::Forest(message))]));
}

fn ranges_of(list: &[(u64, u64)]) -> RangeSet {
    list.iter().map(|&(start, end)| start..end).collect()
}

fn chunk(body: &[u8]) -> Chunk {
    Chunk {
        epoch: 9,
        track: 8,
        number: 301,
        index: 1,
        data: 3,
        parity: 2,
        reed_solomon: true,
        keyframe: true,
        sequence: 5,
        captured_ms: 1_000,
        deadline_ms: None,
        seal: Bytes::new(),
        body: Bytes::copy_from_slice(body),
    }
}

#[test]
fn golden_chunk() {
    let golden = [
        9,    // epoch
        8,    // track: no seal, no deadline
        0xad, // number 301
        0x02,
        1,           // index
        3,           // data
        0b1100_0010, // Reed and Solomon, keyframe, two of parity
        5,           // sequence
        0xe8,
        0x07, // captured at 1,000 ms
        2,
        b'h',
        b'i',
    ];
    assert_golden(ForestMessage::Chunk(chunk(b"hi")), 16, &golden);
}

#[test]
fn golden_chunk_with_seal_and_deadline() {
    let chunk = Chunk {
        index: 0,
        reed_solomon: false,
        keyframe: false,
        deadline_ms: Some(300),
        seal: Bytes::from_static(b"seal"),
        ..chunk(b"")
    };
    let golden = [
        9,
        0b1100_1000, // track 8, sealed, with a deadline
        0xad,
        0x02,
        0,
        3,
        2,
        5,
        0xe8,
        0x07,
        0xac, // 300 ms
        0x02,
        4,
        b's',
        b'e',
        b'a',
        b'l',
        0,
    ];
    assert_golden(ForestMessage::Chunk(chunk), 16, &golden);
}

#[test]
fn golden_watch_refused_and_upload() {
    let golden = [1, 2, 3, 4, 5, 6, 7, 8, 0xac, 2];
    assert_golden(ForestMessage::Watch { swarm: SWARM, upload_bytes_per_s: 300 }, 17, &golden);
    assert_golden(ForestMessage::Refused { needed_bytes_per_s: 300 }, 19, &[0xac, 2]);
    assert_golden(ForestMessage::Upload { bytes_per_s: 7 }, 28, &[7]);
}

#[test]
fn golden_plan() {
    let plan = Plan {
        swarm: SWARM,
        source: 0x21,
        epoch: Epoch(0x0d0c_0b0a),
        stripes: 4,
        rate_bytes_per_s: 128,
        deadline: Duration::from_millis(2_000),
        passes_on: Some(3),
        version: 3,
        feeds: vec![
            Feed { stripe: 0, parent: 0x22, backups: vec![0x23] },
            Feed { stripe: 3, parent: 0x24, backups: vec![] },
        ],
    };
    let golden = [
        &[1, 2, 3, 4, 5, 6, 7, 8][..],      // swarm
        &[0x21, 0, 0, 0, 0, 0, 0, 0],       // source
        &[0x0a, 0x0b, 0x0c, 0x0d],          // epoch
        &[4, 4, 0x80, 1, 0xd0, 0x0f, 3],    // stripes, what it passes on, rate, deadline, version
        &[2, 0, 0x22, 0, 0, 0, 0, 0, 0, 0], // two feeds; the first
        &[1, 0x23, 0, 0, 0, 0, 0, 0, 0],    // with one backup
        &[3, 0x24, 0, 0, 0, 0, 0, 0, 0, 0], // the second, without
    ]
    .concat();
    assert_golden(ForestMessage::Plan(plan), 18, &golden);
}

#[test]
fn golden_attach() {
    let attach = Attach {
        swarm: SWARM,
        stripes: 0x8001,
        tracks: 0xff00,
        keyframes: 1,
        feeds: 6,
        planned: 0x0102,
        token: 0x0403_0201,
    };
    let golden = [
        &[1, 2, 3, 4, 5, 6, 7, 8][..],
        &[0x01, 0x80],       // stripes
        &[0x80, 0xfe, 0x03], // tracks
        &[1, 6, 0x02, 0x01], // keyframes, feeds, planned
        &[1, 2, 3, 4],       // token
    ]
    .concat();
    assert_golden(ForestMessage::Attach(attach), 20, &golden);
}

#[test]
fn golden_attached() {
    let attached = Attached {
        token: 0x0403_0201,
        epoch: Epoch(2),
        clock_us: 300,
        accepted: 3,
        paths: vec![vec![0x31], vec![]],
        tracks: vec![
            TrackPosition { track: 8, group: Some(4), end: 200 },
            TrackPosition { track: 16, group: None, end: 1 },
        ],
        redirects: vec![0x32],
        state: StreamNotice { state: 1, version: 5 },
    };
    let golden = [
        &[1, 2, 3, 4, 2, 0, 0, 0, 0xac, 2, 3, 0][..], // token, epoch, clock, accepted
        &[2, 1, 0x31, 0, 0, 0, 0, 0, 0, 0, 0],        // two paths
        &[2, 0x88, 4, 0xc8, 1, 0x10, 1],              // two tracks
        &[1, 0x32, 0, 0, 0, 0, 0, 0, 0],              // one redirect
        &[1, 5],                                      // state
    ]
    .concat();
    assert_golden(ForestMessage::Attached(attached), 21, &golden);
}

#[test]
fn golden_masks_and_signals() {
    assert_golden(ForestMessage::Detach { stripes: 0x0201 }, 22, &[1, 2]);
    assert_golden(ForestMessage::Stalled { stripes: 0x0201 }, 25, &[1, 2]);
    assert_golden(ForestMessage::KeyframeWanted { tracks: 0x100 }, 29, &[0x80, 2]);
    assert_golden(ForestMessage::State(StreamNotice { state: 3, version: 200 }), 30, &[3, 0xc8, 1]);
    assert_golden(ForestMessage::Leave, 31, &[]);
    assert_golden(ForestMessage::Check, 32, &[]);
    assert_golden(ForestMessage::PlanAck { version: 200 }, 56, &[0xc8, 1]);
    assert_golden(ForestMessage::Accuse { relay: 0x41 }, 57, &[0x41, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn golden_want_and_gone() {
    let tracks = vec![(8, ranges_of(&[(0, 4), (6, 7)])), (16, ranges_of(&[(300, 301)]))];
    let listed = [2, 8, 2, 0, 4, 2, 1, 16, 1, 0xac, 2, 1];
    let want = ForestMessage::Want { history: true, tracks: tracks.clone() };
    assert_golden(want, 23, &[&[1][..], &listed].concat());
    assert_golden(ForestMessage::Gone { tracks }, 24, &listed);
}

#[test]
fn golden_path_and_report() {
    let path = ForestMessage::Path { stripes: 0x0201, ancestors: vec![0x41] };
    assert_golden(path, 26, &[1, 2, 1, 0x41, 0, 0, 0, 0, 0, 0, 0]);
    let lost = vec![
        LostParent { stripe: 2, parent: 0x42, adopted: Some(0x43) },
        LostParent { stripe: 5, parent: 0x44, adopted: None },
    ];
    let golden = [
        &[2, 0x82, 0x42, 0, 0, 0, 0, 0, 0, 0, 0x43, 0, 0, 0, 0, 0, 0, 0][..],
        &[5, 0x44, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_golden(ForestMessage::Report { lost }, 27, &golden);
}

/// The header of a 1,157-byte chunk, late in a stream of 30 frames of four chunks a second.
fn header_bytes_after(stream: Duration) -> usize {
    let body = [7; 1_157];
    let frames = stream.as_secs() * 30;
    let late = Chunk {
        number: frames * 4,
        index: 3,
        data: 4,
        parity: 1,
        sequence: frames,
        captured_ms: u32::try_from(stream.as_millis()).unwrap(),
        ..chunk(&body)
    };
    let header = frame(&[ForestMessage::Chunk(late)]).len() - body.len();
    let percent = header as f64 * 100.0 / (header + body.len()) as f64;
    println!(
        "after {stream:?} the header of a {}-byte chunk takes {header} bytes, {percent:.2} %",
        body.len()
    );
    header
}

#[test]
fn the_header_of_a_chunk_takes_22_bytes_in_the_first_half_hour_and_25_after_a_day() {
    let _alone = alone();
    assert_eq!(header_bytes_after(Duration::from_secs(30 * 60)), 22);
    assert!(header_bytes_after(Duration::from_secs(4 * 3_600)) <= 23);
    assert!(header_bytes_after(Duration::from_secs(24 * 3_600)) <= 25);
}

#[test]
fn a_chunk_alone_is_passed_on_byte_for_byte() {
    let _alone = alone();
    let sealed = Chunk { deadline_ms: Some(90), seal: Bytes::from_static(b"seal"), ..chunk(&[3; 1_157]) };
    for original in [chunk(b"hi"), chunk(&[3; 1_157]), sealed] {
        let received = frame(&[ForestMessage::Chunk(original.clone())]);
        let messages = read(&received).unwrap();
        let [(Some(TAG), Message::Forest(ForestMessage::Chunk(read)))] = &messages[..] else {
            panic!("not a chunk: {messages:?}")
        };
        assert_eq!(*read, original);
        // Who made it anew would send the same bytes, at any time.
        let mut writer = FrameWriter::new(0);
        writer.push(TAG, &Message::<u64>::Forest(ForestMessage::Chunk(read.clone())), Instant::ZERO);
        assert_eq!(writer.finish(), received);
    }
}

#[test]
fn the_body_of_a_chunk_is_a_slice_of_the_frame() {
    let _alone = alone();
    let received = frame(&[ForestMessage::Chunk(chunk(&[3; 1_157]))]);
    let messages = read(&received).unwrap();
    let Message::Forest(ForestMessage::Chunk(read)) = &messages[0].1 else { panic!("not a chunk") };
    assert!(received.as_ptr_range().contains(&read.body.as_ptr()), "the body was copied");
}

#[test]
fn impossible_values_are_refused() {
    let _alone = alone();
    let chunk = |fields: &[u8]| read(&raw(16, fields));
    assert!(chunk(&[0, 8, 5, 0, 1, 0, 0, 0, 0]).is_ok());
    let outside = Err(WireError::Range);
    assert_eq!(chunk(&[0, 8, 5, 0, 0, 0, 0, 0, 0]), outside, "no data");
    assert_eq!(chunk(&[0, 8, 5, 2, 1, 1, 0, 0, 0]), outside, "beyond the frame");
    assert_eq!(chunk(&[0, 8, 5, 6, 9, 0, 0, 0, 0]), outside, "the frame begins below zero");
    assert_eq!(chunk(&[0, 0x88, 5, 0, 1, 0, 0, 0, 0, 0]), outside, "an empty seal");
    assert_eq!(chunk(&[0, 8, 5, 0, 1, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0]), outside, "2^32 ms");
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    let number = [&[0, 8][..], &huge, &[0, 1, 0, 0, 0, 0]].concat();
    assert_eq!(chunk(&number), outside, "number 2^48");
    let sequence = [&[0, 8, 5, 0, 1, 0][..], &huge, &[0, 0]].concat();
    assert_eq!(chunk(&sequence), outside, "sequence 2^48");

    let refused =
        |message: Forest| assert_eq!(read(&frame(slice::from_ref(&message))), outside, "{message:?}");
    for (stripes, stripe) in [(0, None), (17, None), (255, None), (4, Some(4)), (16, Some(16))] {
        let feeds = stripe.map(|stripe| Feed { stripe, parent: 1, backups: vec![] }).into_iter().collect();
        refused(ForestMessage::Plan(Plan { stripes, feeds, ..plan() }));
    }
    refused(ForestMessage::Plan(Plan { passes_on: Some(4), ..plan() }));
    for track in [64, 127] {
        let tracks = vec![(track, ranges_of(&[(0, 1)]))];
        refused(ForestMessage::Gone { tracks: tracks.clone() });
        refused(ForestMessage::Want { history: false, tracks });
        refused(attached(TrackPosition { track, group: None, end: 0 }));
    }
    refused(attached(TrackPosition { track: 1, group: Some(8), end: 7 }));
    refused(attached(TrackPosition { track: 1, group: None, end: 1 << 48 }));
    refused(ForestMessage::State(StreamNotice { state: 4, version: 0 }));
    refused(ForestMessage::Report { lost: vec![LostParent { stripe: 16, parent: 1, adopted: None }] });
    assert_eq!(read(&raw(23, &[2, 0])), outside, "history is 0 or 1");
    assert_eq!(read(&raw(59, &[])), Err(WireError::Kind(59)), "a kind that nobody has");
}

fn plan() -> Plan<u64> {
    Plan {
        swarm: SWARM,
        source: 1,
        epoch: Epoch(1),
        stripes: 4,
        rate_bytes_per_s: 1,
        deadline: Duration::ZERO,
        passes_on: None,
        version: 1,
        feeds: Vec::new(),
    }
}

fn attached(position: TrackPosition) -> Forest {
    ForestMessage::Attached(Attached {
        token: 0,
        epoch: Epoch(0),
        clock_us: 0,
        accepted: 0,
        paths: Vec::new(),
        tracks: vec![position],
        redirects: Vec::new(),
        state: StreamNotice::default(),
    })
}

/// What is taken from the heap while `frame` is read, at most. The least of some times: the test harness has a thread of
/// its own, which takes memory now and then.
fn heap_bytes(frame: &Bytes) -> usize {
    let once = || {
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        let _ = read(frame);
        HEAP.peak_usage().saturating_sub(before)
    };
    (0..50).map(|_| once()).min().unwrap_or(0)
}

/// A byte of a frame may stand for a small struct, not for more.
fn allowed_bytes(frame: &Bytes) -> usize {
    4_096 + 64 * frame.len()
}

#[test]
fn lists_that_claim_more_than_there_is_cost_nothing() {
    let _alone = alone();
    let claims: [&[u8]; 4] = [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0x03],
    ];
    let before: [(u8, Vec<u8>); 9] = [
        (18, [&[0; 20][..], &[4, 0, 0, 0]].concat()), // feeds of a plan
        (18, [&[0; 20][..], &[4, 0, 0, 0, 1, 0], &[0; 8]].concat()), // backups of a feed
        (21, vec![0; 11]),                            // paths
        (21, [&[0; 11][..], &[1]].concat()),          // ancestors on a path
        (21, vec![0; 12]),                            // tracks
        (21, vec![0; 13]),                            // redirects
        (24, vec![]),                                 // tracks of a gone
        (24, vec![1, 0]),                             // their ranges
        (27, vec![]),                                 // lost parents
    ];
    for (kind, fields) in before {
        for claim in claims {
            let hostile = raw(kind, &[&fields[..], claim, &[0; 40]].concat());
            assert!(read(&hostile).is_err(), "kind {kind} with {} bytes before", fields.len());
            let took = heap_bytes(&hostile);
            assert!(took <= allowed_bytes(&hostile), "kind {kind}: {took} bytes for {}", hostile.len());
        }
    }
}

#[test]
fn full_frames_of_small_items_cost_little() {
    let _alone = alone();
    let count = [0xe8, 0x07];
    let empty_paths = [&[0; 11][..], &count, &[0; 1_100]].concat();
    let empty_ranges = [&count[..], &[0; 2_100]].concat();
    for frame in [raw(21, &empty_paths), raw(24, &empty_ranges)] {
        let took = heap_bytes(&frame);
        println!("{took} bytes of heap for a frame of {}", frame.len());
        assert!(took <= allowed_bytes(&frame), "{took} bytes for {}", frame.len());
    }
}

fn peers() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(any::<u64>(), 0..6)
}

fn tracks() -> impl Strategy<Value = Vec<(u8, RangeSet)>> {
    let ranges = prop::collection::vec((0u64..1 << 40, 1u64..1 << 20), 0..6)
        .prop_map(|list| list.into_iter().map(|(start, len)| start..start + len).collect());
    prop::collection::vec((0u8..64, ranges), 0..5)
}

fn notice() -> impl Strategy<Value = StreamNotice> {
    (0u8..4, any::<u32>()).prop_map(|(state, version)| StreamNotice { state, version })
}

fn chunks() -> impl Strategy<Value = Chunk> {
    let place = (0u64..1 << 47, any::<u8>(), 1u8.., 0u8..64, 0u64..1 << 48);
    let bytes = (prop::collection::vec(any::<u8>(), 0..97), prop::collection::vec(any::<u8>(), 0..60));
    let rest = (
        any::<u8>(),
        0u8..64,
        any::<bool>(),
        any::<bool>(),
        any::<u32>(),
        proptest::option::of(any::<u32>()),
    );
    (place, bytes, rest).prop_map(
        |(
            (first, index, data, parity, sequence),
            (seal, body),
            (epoch, track, reed_solomon, keyframe, captured_ms, deadline_ms),
        )| {
            let index = (u16::from(index) % (u16::from(data) + u16::from(parity))) as u8;
            Chunk {
                epoch,
                track,
                number: first + u64::from(index),
                index,
                data,
                parity,
                reed_solomon,
                keyframe,
                sequence,
                captured_ms,
                deadline_ms,
                seal: Bytes::from(seal),
                body: Bytes::from(body),
            }
        },
    )
}

fn plans() -> impl Strategy<Value = Plan<u64>> {
    let feed = (any::<u8>(), any::<u64>(), peers());
    let head = (any::<u64>(), any::<u64>(), any::<u32>(), 1u8..=16, prop::option::of(any::<u8>()));
    (head, any::<u64>(), any::<u32>(), any::<u32>(), prop::collection::vec(feed, 0..5)).prop_map(
        |((swarm, source, epoch, stripes, passes_on), rate_bytes_per_s, deadline, version, feeds)| Plan {
            swarm: SwarmId(swarm),
            source,
            epoch: Epoch(epoch),
            stripes,
            rate_bytes_per_s,
            deadline: Duration::from_millis(deadline.into()),
            passes_on: passes_on.map(|stripe| stripe % stripes),
            version,
            feeds: feeds
                .into_iter()
                .map(|(stripe, parent, backups)| Feed { stripe: stripe % stripes, parent, backups })
                .collect(),
        },
    )
}

fn attacheds() -> impl Strategy<Value = Attached<u64>> {
    let position = (0u8..64, proptest::option::of(0u64..1 << 47), 0u64..1 << 47)
        .prop_map(|(track, group, more)| TrackPosition { track, group, end: group.unwrap_or(0) + more });
    let lists = (prop::collection::vec(peers(), 0..5), prop::collection::vec(position, 0..5), peers());
    (any::<u32>(), any::<u32>(), 0u64..1 << 48, any::<u16>(), lists, notice()).prop_map(
        |(token, epoch, clock_us, accepted, (paths, tracks, redirects), state)| Attached {
            token,
            epoch: Epoch(epoch),
            clock_us,
            accepted,
            paths,
            tracks,
            redirects,
            state,
        },
    )
}

fn message() -> impl Strategy<Value = Forest> {
    let attach = (any::<u64>(), any::<(u16, u16)>(), any::<(u64, u64)>(), any::<u8>(), any::<u32>())
        .prop_map(|(swarm, (stripes, planned), (tracks, keyframes), feeds, token)| Attach {
            swarm: SwarmId(swarm),
            stripes,
            tracks,
            keyframes,
            feeds,
            planned,
            token,
        });
    let lost = (0u8..16, any::<u64>(), any::<Option<u64>>())
        .prop_map(|(stripe, parent, adopted)| LostParent { stripe, parent, adopted });
    prop_oneof![
        chunks().prop_map(ForestMessage::Chunk),
        any::<(u64, u64)>().prop_map(|(swarm, upload_bytes_per_s)| ForestMessage::Watch {
            swarm: SwarmId(swarm),
            upload_bytes_per_s
        }),
        plans().prop_map(ForestMessage::Plan),
        any::<u64>().prop_map(|needed_bytes_per_s| ForestMessage::Refused { needed_bytes_per_s }),
        attach.prop_map(ForestMessage::Attach),
        attacheds().prop_map(ForestMessage::Attached),
        any::<u16>().prop_map(|stripes| ForestMessage::Detach { stripes }),
        (any::<bool>(), tracks()).prop_map(|(history, tracks)| ForestMessage::Want { history, tracks }),
        tracks().prop_map(|tracks| ForestMessage::Gone { tracks }),
        any::<u16>().prop_map(|stripes| ForestMessage::Stalled { stripes }),
        (any::<u16>(), peers()).prop_map(|(stripes, ancestors)| ForestMessage::Path { stripes, ancestors }),
        prop::collection::vec(lost, 0..6).prop_map(|lost| ForestMessage::Report { lost }),
        any::<u64>().prop_map(|bytes_per_s| ForestMessage::Upload { bytes_per_s }),
        any::<u64>().prop_map(|tracks| ForestMessage::KeyframeWanted { tracks }),
        notice().prop_map(ForestMessage::State),
        Just(ForestMessage::Leave),
        Just(ForestMessage::Check),
        any::<u32>().prop_map(|version| ForestMessage::PlanAck { version }),
        any::<u64>().prop_map(|relay| ForestMessage::Accuse { relay }),
    ]
}

proptest! {
    #[test]
    fn everything_comes_back_as_it_was(messages in prop::collection::vec(message(), 1..6)) {
        let _alone = alone();
        let frame = frame(&messages);
        let sizes: usize =
            messages.iter().map(|message| message_bytes_max(&Message::Forest(message.clone()))).sum();
        prop_assert!(frame.len() <= 1 + sizes, "a frame of {} bytes, measured as {}", frame.len(), 1 + sizes);
        let back = read(&frame).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(back.len(), messages.len());
        for (message, (tag, back)) in messages.into_iter().zip(back) {
            prop_assert_eq!(tag, Some(TAG));
            prop_assert_eq!(Message::Forest(message), back);
        }
    }

    #[test]
    fn cut_anywhere_it_is_an_error(message in message()) {
        let _alone = alone();
        let whole = frame(&[message]);
        for len in 0..whole.len() {
            let cut = whole.slice(..len);
            match read(&cut) {
                Ok(messages) => prop_assert!(messages.is_empty() && len == 1, "cut at {} of {}", len, whole.len()),
                Err(error) => prop_assert_ne!(error, WireError::Version(1)),
            }
        }
    }

    #[test]
    fn noise_never_panics_and_costs_little(
        kind in 16u8..=33,
        noise in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(1), Just(0xff)], 0..600),
    ) {
        let _alone = alone();
        let framed = raw(kind, &noise);
        let took = heap_bytes(&framed);
        prop_assert!(took <= allowed_bytes(&framed), "{} bytes of heap for a frame of {}", took, framed.len());
    }

    #[test]
    fn a_byte_that_changed_never_panics(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let _alone = alone();
        let mut changed = frame(&[message]).to_vec();
        let at = at.index(changed.len());
        changed[at] = byte;
        let changed = Bytes::from(changed);
        let took = heap_bytes(&changed);
        prop_assert!(took <= allowed_bytes(&changed), "{} bytes of heap for a frame of {}", took, changed.len());
    }
}
