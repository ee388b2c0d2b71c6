//! Golden vectors of what a participant says of itself: whoever changes them changes the protocol.

use bytes::Bytes;
use suffuse::wire::{
    FrameReader, FrameWriter, GroupMessage, Handover, MediaProfile, Message, Profile, RosterEntry,
};
use suffuse::{Instant, SwarmId};

const ROOM: SwarmId = SwarmId(0x1413_1211);

/// A roster of one entry, behind version, kind and tag.
#[track_caller]
fn assert_golden(entry: &RosterEntry<u32>, fields: &[u8]) {
    let message = Message::Group(GroupMessage::Roster { entries: vec![entry.clone()], verdicts: Vec::new() });
    let mut writer = FrameWriter::new(1_200);
    writer.push(ROOM.tag(), &message, Instant::ZERO);
    let frame = writer.finish();
    let tag = ROOM.tag().0.to_le_bytes();
    // One entry, no verdicts.
    let golden = [&[1, 43], &tag[..], &[1], fields, &[0]].concat();
    assert_eq!(frame, golden);
    let golden = Bytes::from(golden);
    let mut reader = FrameReader::new(&golden, Instant::ZERO).unwrap();
    assert_eq!(reader.next::<u32>().unwrap().unwrap(), (Some(ROOM.tag()), message));
    assert!(reader.next::<u32>().is_none());
    // Every byte is needed, and each bit of it is somebody's.
    for cut in 7..golden.len() {
        let part = golden.slice(..cut);
        let mut reader = FrameReader::new(&part, Instant::ZERO).unwrap();
        assert!(matches!(reader.next::<u32>(), Some(Err(_))), "cut after {cut}");
    }
}

fn profile() -> Profile<u32> {
    Profile {
        joined_us: 300,
        switches: 0b101,
        claim_us: None,
        handover: None,
        taken_us: 7,
        metadata: Bytes::from_static(b"Ann"),
        media: None,
    }
}

fn entry(profile: Option<Profile<u32>>, status: u8) -> RosterEntry<u32> {
    let signature = if profile.is_some() { Bytes::from_static(b"ok") } else { Bytes::new() };
    RosterEntry { peer: 0x0403_0201, incarnation: 9, version: 130, status, profile, signature }
}

const HEAD: [u8; 10] = [
    1, 2, 3, 4, // peer
    9, 0, 0, 0, // incarnation
    0x82, 0x01, // version 130
];

fn with_head(fields: &[u8]) -> Vec<u8> {
    [&HEAD[..], fields].concat()
}

#[test]
fn golden_profile_without_media() {
    let fields = [
        1, // suspected
        0xac,
        0x02,        // joined at 300
        0b0000_0101, // switches
        7,           // took a hand-over then
        3,
        b'A',
        b'n',
        b'n', // metadata
        2,
        b'o',
        b'k', // signature
    ];
    assert_golden(&entry(Some(profile()), 1), &with_head(&fields));
}

#[test]
fn golden_profile_with_everything() {
    let media = MediaProfile {
        audio_openings: 1,
        video_openings: 200,
        voice: 3,
        turn_us: 1_000,
        upload_bytes_per_s: 625_000,
        screen_us: 5,
        relay_us: 129,
    };
    let handover = Handover { to: 0x0807_0605, claim_us: 11, at_us: 12 };
    let profile = Profile { claim_us: Some(10), handover: Some(handover), media: Some(media), ..profile() };
    let fields = [
        0, // present
        0xac,
        0x02,        // joined at 300
        0b1110_0101, // claim, hand-over, media; switches
        10,          // claim
        5,
        6,
        7,
        8,
        11,
        12, // hand-over: to, claim, time
        7,  // took one then
        3,
        b'A',
        b'n',
        b'n', // metadata
        1,    // openings of the sound
        0xc8,
        0x01, // and of the video
        3,    // voice
        0xe8,
        0x07, // its turn began at 1,000
        0xe8,
        0x92,
        0x26, // upload 625,000
        5,    // screen
        0x81,
        0x01, // relays since 129
        2,
        b'o',
        b'k', // signature
    ];
    assert_golden(&entry(Some(profile), 0), &with_head(&fields));
}

#[test]
fn golden_entry_of_somebody_gone() {
    assert_golden(&entry(None, 3), &with_head(&[3]));
}
