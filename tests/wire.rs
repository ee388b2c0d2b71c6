//! The wire format: golden vectors, round trips, truncation, and noise.

use bytes::Bytes;
use proptest::prelude::*;
use suffuse::wire::{
    ChunkClaim, ChunkData, ChunkOffer, Data, FrameReader, FrameWriter, GossipMessage, LargeId, LinkMessage,
    MembershipMessage, Message, NeighborRequest, SourceRanges, SyncItem, SyncKnown, ViewEntry, Wave,
    WireError, message_bytes_max,
};
use suffuse::{Epoch, Instant, Priority, RangeSet, StateId, SwarmId, SwarmTag};

const NOW: Instant = Instant::from_secs(100);

fn data(sequence: u64, state: u64, body: &'static [u8]) -> Data<u64> {
    Data {
        origin: 0x0807_0605_0403_0201,
        epoch: Epoch(0x0d0c_0b0a),
        sequence,
        state: StateId(state),
        priority: Priority::High,
        keyframe: true,
        layer: 2,
        hops: 3,
        pulled: false,
        flood: false,
        signature: Bytes::new(),
        born: NOW - std::time::Duration::from_millis(500),
        body: Bytes::from_static(body),
    }
}

fn frame(messages: &[(SwarmTag, Message<u64>)]) -> Bytes {
    let mut writer = FrameWriter::new(64);
    for (tag, message) in messages {
        writer.push(*tag, message, NOW);
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

#[test]
fn golden_data_frame() {
    let frame = frame(&[(SwarmTag(0x1413_1211), Message::Gossip(GossipMessage::Data(data(300, 5, b"hi"))))]);
    let golden = [
        1,           // version
        0b1101_0010, // data, high, keyframe, layer 2
        0x11,
        0x12,
        0x13,
        0x14, // swarm tag
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8, // origin
        0x0a,
        0x0b,
        0x0c,
        0x0d, // epoch
        0xac,
        0x02, // sequence 300
        3,    // hops
        0xf4,
        0x01, // age 500 ms
        5,    // state
        2,
        b'h',
        b'i',
    ];
    assert_eq!(&frame[..], golden);
}

#[test]
fn golden_control_frame() {
    let mut ranges = RangeSet::from(0..4);
    ranges.insert(6..7);
    let tag = SwarmTag(7);
    let source = SourceRanges { origin: 9, epoch: Epoch(1), ranges };
    let frame = frame(&[
        (tag, Message::Link(LinkMessage::Ping { token: 0x0201 })),
        (tag, Message::Gossip(GossipMessage::Have { sources: vec![source] })),
        (tag, Message::Membership(MembershipMessage::Bye { leaving: true })),
    ]);
    let golden = [
        1, // version
        1, 1, 2, // ping
        11, 7, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 4, 2, 1, // have 0..4 and 6..7
        0x48, 1, // bye of the same swarm, leaving
    ];
    assert_eq!(&frame[..], golden);
}

#[test]
fn golden_shared_tree_frame() {
    let born = NOW - std::time::Duration::from_millis(20);
    let (origin, epoch, number) = (9, Epoch(1), 300);
    let wave =
        Wave { origin, epoch, number, shared: true, hops: 3, born, members: Some(1_000), is_last: false };
    let tag = SwarmTag(7);
    let frame = frame(&[
        (tag, Message::Gossip(GossipMessage::Wave(wave))),
        (
            tag,
            Message::Gossip(GossipMessage::Wave(Wave { number: 301, members: None, is_last: true, ..wave })),
        ),
        (tag, Message::Gossip(GossipMessage::Wave(Wave { shared: false, members: None, ..wave }))),
        (tag, Message::Gossip(GossipMessage::Count { nodes: 1_000 })),
    ]);
    let golden = [
        1, // version
        37, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xac, 2, 0x83, 20, 0, 0xd2,
        0x0f, // of 1,000 members
        0x65, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xad, 2, 0x83, 20, 0, 1, // the last
        0x65, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xac, 2, 3, 20, 0, // of a source
        0x7a, 0xe8, 7, // 1,000 below
    ];
    assert_eq!(&frame[..], golden);
}

#[test]
fn golden_flood_flag() {
    let one = |flood| {
        let data = Data { flood, pulled: true, ..data(1, 5, b"hi") };
        frame(&[(SwarmTag(7), Message::Gossip(GossipMessage::Data(data)))])
    };
    let differing: Vec<_> = (0..).zip(one(true).iter().zip(one(false).iter()).map(|(a, b)| a ^ b)).collect();
    let differing: Vec<_> = differing.into_iter().filter(|&(_, bits)| bits != 0).collect();
    assert_eq!(differing, [(19, 0x20)], "in the byte of the hops");
}

#[test]
fn golden_large_update_frame() {
    let tag = SwarmTag(7);
    let update = LargeId { origin: 9, epoch: Epoch(1), sequence: 300 };
    let manifest = Data { origin: 9, epoch: Epoch(1), ..data(300, 5, b"\x90\x4e\x80\x08") };
    let mut wanted = RangeSet::from(0..4);
    wanted.insert(6..7);
    let offer = ChunkOffer {
        update,
        asks: true,
        is_all: false,
        held: RangeSet::from(2..5),
        promised: RangeSet::new(),
    };
    let frame = frame(&[
        (tag, Message::Gossip(GossipMessage::Manifest(manifest))),
        (tag, Message::Gossip(GossipMessage::ChunkOffer(offer.clone()))),
        (tag, Message::Gossip(GossipMessage::ChunkOffer(ChunkOffer { asks: false, is_all: true, ..offer }))),
        (
            tag,
            Message::Gossip(GossipMessage::ChunkClaim(ChunkClaim {
                update,
                wanted,
                released: RangeSet::from(8..9),
            })),
        ),
        (
            tag,
            Message::Gossip(GossipMessage::Chunk(ChunkData {
                update,
                number: 200,
                body: Bytes::from_static(b"hi"),
            })),
        ),
    ]);
    const ID: [u8; 14] = [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xac, 0x02];
    let golden = [
        &[1, 52, 7, 0, 0, 0, 0b0011_0010][..], // version, manifest, tag; high, keyframe, layer 2
        &ID,
        &[3, 0xf4, 0x01, 5, 4, 0x90, 0x4e, 0x80, 0x08], // hops, age, state; 10,000 bytes in chunks of 1,024
        &[0x40 | 53],
        &ID,
        &[1, 1, 2, 3, 0], // asks; holds 2..5
        &[0x40 | 53],
        &ID,
        &[2, 1, 2, 3, 0], // that is all
        &[0x40 | 54],
        &ID,
        &[2, 0, 4, 2, 1, 1, 8, 1], // wants 0..4 and 6..7, no longer 8
        &[0x40 | 55],
        &ID,
        &[0xc8, 0x01, 2, b'h', b'i'], // chunk 200
    ];
    assert_eq!(frame, golden.concat());
}

#[test]
fn the_header_of_a_data_frame_takes_28_bytes_at_most() {
    // Sequences to 2^28, states below 128 and bodies below 16 KiB: what a frame of an ordinary topic carries.
    let body: &'static [u8] = &[7; 1_100];
    let data = data((1 << 28) - 1, 127, body);
    let frame = frame(&[(SwarmId::from_name("topic").tag(), Message::Gossip(GossipMessage::Data(data)))]);
    assert_eq!(frame.len() - body.len(), 28);
}

#[test]
fn a_foreign_version_is_named() {
    assert_eq!(read(&Bytes::from_static(&[2, 1, 0, 0, 0, 0])), Err(WireError::Version(2)));
    assert_eq!(read(&Bytes::new()), Err(WireError::Truncated));
    assert_eq!(read(&Bytes::from_static(&[1, 63])), Err(WireError::Kind(63)));
}

#[test]
fn bodies_are_slices_of_the_frame() {
    let frame = frame(&[(SwarmTag(1), Message::Gossip(GossipMessage::Data(data(0, 0, &[9; 100]))))]);
    let messages = read(&frame).unwrap();
    let Message::Gossip(GossipMessage::Data(data)) = &messages[0].1 else { panic!("not data") };
    let frame_start = frame.as_ptr() as usize;
    let body_start = data.body.as_ptr() as usize;
    assert!((frame_start..frame_start + frame.len()).contains(&body_start), "the body was copied");
}

fn ranges() -> impl Strategy<Value = RangeSet> {
    prop::collection::vec((0u64..1 << 40, 1u64..1 << 20), 0..6)
        .prop_map(|list| list.into_iter().map(|(start, len)| start..start + len).collect())
}

fn sources() -> impl Strategy<Value = Vec<SourceRanges<u64>>> {
    let source = (any::<u64>(), any::<u32>(), ranges()).prop_map(|(origin, epoch, ranges)| SourceRanges {
        origin,
        epoch: Epoch(epoch),
        ranges,
    });
    prop::collection::vec(source, 0..5)
}

fn entries() -> impl Strategy<Value = Vec<ViewEntry<u64>>> {
    prop::collection::vec((any::<u64>(), any::<u8>()).prop_map(|(peer, age)| ViewEntry { peer, age }), 0..9)
}

fn sync() -> impl Strategy<Value = GossipMessage<u64>> {
    let known = prop_oneof![
        Just(SyncKnown::Skip),
        any::<u64>().prop_map(SyncKnown::Fingerprint),
        sources().prop_map(SyncKnown::Sources),
        sources().prop_map(SyncKnown::Answer),
    ];
    (prop::collection::btree_set(1u64.., 0..5), prop::collection::vec(known, 6), any::<bool>()).prop_map(
        |(bounds, known, endless)| {
            let mut uppers: Vec<_> = bounds.into_iter().map(Some).collect();
            if endless || uppers.is_empty() {
                uppers.push(None);
            }
            let items =
                uppers.into_iter().zip(known).map(|(upper, known)| SyncItem { upper, known }).collect();
            GossipMessage::Sync { lower: Some(0), items }
        },
    )
}

fn message() -> impl Strategy<Value = Message<u64>> {
    let request = prop_oneof![
        Just(NeighborRequest::Low),
        Just(NeighborRequest::High),
        any::<u64>().prop_map(|leaving| NeighborRequest::Replace { leaving }),
    ];
    let priority = prop_oneof![
        Just(Priority::Background),
        Just(Priority::Normal),
        Just(Priority::High),
        Just(Priority::Urgent)
    ];
    let data = (
        (any::<u64>(), any::<u32>(), 0u64..1 << 62, any::<u64>(), priority),
        (
            any::<bool>(),
            0u8..8,
            0u8..32,
            any::<[bool; 2]>(),
            0u64..2_000,
            prop::collection::vec(any::<u8>(), 0..40),
        ),
        prop::collection::vec(any::<u8>(), 0..97),
    )
        .prop_map(
            |(
                (origin, epoch, sequence, state, priority),
                (keyframe, layer, hops, [pulled, flood], age, body),
                signature,
            )| Data {
                origin,
                epoch: Epoch(epoch),
                sequence,
                state: StateId(state),
                priority,
                keyframe,
                layer,
                hops,
                pulled,
                flood,
                signature: Bytes::from(signature),
                born: NOW - std::time::Duration::from_millis(age),
                body: Bytes::from(body),
            },
        );
    let membership = prop_oneof![
        (any::<u64>(), any::<u8>())
            .prop_map(|(id, wanted)| MembershipMessage::Join { swarm: SwarmId(id), wanted }),
        (any::<u64>(), any::<u8>())
            .prop_map(|(joiner, hops_left)| MembershipMessage::Walk { joiner, hops_left }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(id, partner)| MembershipMessage::Offer { swarm: SwarmId(id), partner }),
        (any::<u64>(), request)
            .prop_map(|(id, request)| MembershipMessage::Neighbor { swarm: SwarmId(id), request }),
        (any::<bool>(), prop::collection::vec(any::<u64>(), 0..9))
            .prop_map(|(accepted, peers)| MembershipMessage::NeighborReply { accepted, peers }),
        any::<bool>().prop_map(|leaving| MembershipMessage::Bye { leaving }),
        (any::<u64>(), any::<u8>(), entries()).prop_map(|(origin, hops_left, entries)| {
            MembershipMessage::Shuffle { origin, hops_left, entries }
        }),
        entries().prop_map(|entries| MembershipMessage::ShuffleReply { entries }),
        any::<u64>().prop_map(|id| MembershipMessage::Measure { swarm: SwarmId(id) }),
        prop::option::of(any::<(u64, u32)>()).prop_map(|longest| MembershipMessage::Measured { longest }),
        any::<(u64, u64, u32)>().prop_map(|(candidate, leaving, gain_us)| MembershipMessage::Swap {
            candidate,
            leaving,
            gain_us
        }),
        any::<u64>().prop_map(|candidate| MembershipMessage::Swapped { candidate }),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(|peers| MembershipMessage::Watchers { peers }),
        any::<u64>().prop_map(|peer| MembershipMessage::Suspect { peer }),
        any::<u64>().prop_map(|peer| MembershipMessage::Vouch { peer }),
    ];
    let gossip = prop_oneof![
        data.clone().prop_map(GossipMessage::Data),
        data.prop_map(GossipMessage::Manifest),
        large(),
        sources().prop_map(|sources| GossipMessage::Have { sources }),
        (any::<bool>(), sources()).prop_map(|(graft, sources)| GossipMessage::Want { graft, sources }),
        sources().prop_map(|sources| GossipMessage::Gone { sources }),
        (any::<u64>(), 0u8..=100)
            .prop_map(|(origin, share_percent)| GossipMessage::Prune { origin, share_percent }),
        wave().prop_map(GossipMessage::Wave),
        any::<bool>().prop_map(|attached| GossipMessage::Attach { attached }),
        any::<u64>().prop_map(|nodes| GossipMessage::Count { nodes }),
        sync(),
    ];
    prop_oneof![
        any::<u16>().prop_map(|token| Message::Link(LinkMessage::Ping { token })),
        any::<u16>().prop_map(|token| Message::Link(LinkMessage::Pong { token })),
        any::<u8>().prop_map(|next_tenths| Message::Link(LinkMessage::Beat { next_tenths })),
        membership.prop_map(Message::Membership),
        gossip.prop_map(Message::Gossip),
    ]
}

fn large() -> impl Strategy<Value = GossipMessage<u64>> {
    let update = (any::<u64>(), any::<u32>(), 0..1u64 << 62).prop_map(|(origin, epoch, sequence)| LargeId {
        origin,
        epoch: Epoch(epoch),
        sequence,
    });
    let ranges = || sources().prop_map(|sources| sources.into_iter().map(|source| source.ranges).next());
    let ranges = move || ranges().prop_map(Option::unwrap_or_default);
    prop_oneof![
        (update.clone(), any::<bool>(), any::<bool>(), ranges(), ranges()).prop_map(
            |(update, asks, is_all, held, promised)| GossipMessage::ChunkOffer(ChunkOffer {
                update,
                asks,
                is_all,
                held,
                promised
            })
        ),
        (update.clone(), ranges(), ranges()).prop_map(|(update, wanted, released)| {
            GossipMessage::ChunkClaim(ChunkClaim { update, wanted, released })
        }),
        (update, any::<u32>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(
            |(update, number, body)| GossipMessage::Chunk(ChunkData {
                update,
                number,
                body: Bytes::from(body)
            })
        ),
    ]
}

fn wave() -> impl Strategy<Value = Wave<u64>> {
    let said = (prop::option::of(0..(1u64 << 62) - 1), any::<bool>());
    (any::<u64>(), any::<u32>(), 0..1u64 << 62, any::<bool>(), 0u8..=127, 0u64..1_000, said).prop_map(
        |(origin, epoch, number, shared, hops, age_ms, (members, is_last))| Wave {
            origin,
            epoch: Epoch(epoch),
            number,
            shared,
            hops,
            born: NOW - std::time::Duration::from_millis(age_ms),
            members: members.filter(|_| shared),
            is_last: is_last && shared,
        },
    )
}

proptest! {
    #[test]
    fn everything_comes_back_as_it_was(messages in prop::collection::vec((any::<u32>().prop_map(SwarmTag), message()), 1..6)) {
        let frame = frame(&messages);
        let sizes: usize = messages.iter().map(|(_, message)| message_bytes_max(message)).sum();
        prop_assert!(frame.len() <= 1 + sizes, "a frame of {} bytes, measured as {}", frame.len(), 1 + sizes);
        let back = read(&frame).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(back.len(), messages.len());
        for ((tag, message), (back_tag, back_message)) in messages.iter().zip(&back) {
            let expected = (!matches!(message, Message::Link(_))).then_some(*tag);
            prop_assert_eq!(&expected, back_tag);
            prop_assert_eq!(message, back_message);
        }
    }

    #[test]
    fn cut_anywhere_it_is_an_error_or_fewer_messages(message in message()) {
        let whole = frame(&[(SwarmTag(3), message)]);
        for len in 0..whole.len() {
            let cut = whole.slice(..len);
            match read(&cut) {
                Ok(messages) => prop_assert!(messages.is_empty() && len == 1, "cut at {} of {}", len, whole.len()),
                Err(error) => prop_assert_ne!(error, WireError::Version(1)),
            }
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = vec![1];
        framed.extend(noise);
        let _ = read(&Bytes::from(framed));
    }
}
