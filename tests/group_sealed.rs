//! Signed groups: media that their participant did not sign are neither delivered nor passed on, and whoever sends them is named.

mod group_stage;

use bytes::Bytes;
use group_stage::*;
use suffuse::authority::{CHUNK_HASH_BYTES, ChunkHasher};
use suffuse::sim::{Fault, NodeId};
use suffuse::wire::{ForestMessage, FrameReader, Message};
use suffuse::{
    CommandError, Config, Engine, GroupEvent, GroupOptions, Guard, Instant, JoinGroupOptions, MediaTopology,
    MediaTrack, Offence, Seed, Signature, Signer, Verifier,
};

/// Keyed sums instead of hashes and signatures: quick, and enough to tell the right key from a wrong one.
struct Key(NodeId);

/// What binds names to keys.
struct Keys;

struct Sums;

/// Keys of somebody who believes other ones.
struct OtherKeys;

fn sum(salt: u64, message: &[u8]) -> u64 {
    message.iter().fold(salt + 7, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(&[sum(self.0, message).to_le_bytes(); 8].concat()).unwrap()
    }
}

impl Verifier<NodeId> for Keys {
    fn verify(&self, signer: &NodeId, message: &[u8], signature: &[u8]) -> bool {
        Key(*signer).sign(message).as_bytes() == signature
    }
}

impl Verifier<NodeId> for OtherKeys {
    fn verify(&self, signer: &NodeId, message: &[u8], signature: &[u8]) -> bool {
        // Whoever shows something has another key here.
        !message.starts_with(b"suffuse frame\0") && Keys.verify(signer, message, signature)
    }
}

impl ChunkHasher for Sums {
    fn hash(&self, bytes: &[u8]) -> [u8; CHUNK_HASH_BYTES] {
        let half = sum(3, bytes).to_le_bytes();
        [half, half].concat().try_into().unwrap()
    }
}

fn signed(node: NodeId) -> Guard<NodeId> {
    Guard::new().signed(Key(node), Keys).chunk_hasher(Sums)
}

/// Whether every frame that was delivered is one that was published.
fn all_genuine(stage: &Stage) -> bool {
    stage.observer().events.iter().all(|(_, _, event)| match event {
        GroupEvent::Media(media) => {
            media.payload == payload(media.from, media.track, number(media), media.payload.len())
        }
        _ => true,
    })
}

/// Who passes on the video of `from`, the busiest first.
fn relays(stage: &Stage, from: NodeId) -> Vec<NodeId> {
    let nodes = stage.hosts().map(|(node, _)| node).filter(|&node| node != from);
    let mut relays: Vec<NodeId> = nodes
        .flat_map(|node| stage.host(node).unwrap().group_media_parents(ROOM))
        .filter(|(source, track, _)| (*source, *track) == (from, MediaTrack::Video))
        .flat_map(|(_, _, parents)| parents.into_iter().flatten().filter(move |&parent| parent != from))
        .collect();
    relays.sort_unstable();
    let all = relays.clone();
    relays.dedup();
    relays.sort_by_key(|relay| std::cmp::Reverse(all.iter().filter(|other| *other == relay).count()));
    relays
}

#[test]
fn in_a_signed_group_media_are_sealed_and_reach_everybody() {
    let mut stage = stage_with(10, 10_000, &options(MediaTopology::Relay), 1, signed);
    let shows = [(0, MediaTrack::Audio), (0, MediaTrack::Video), (3, MediaTrack::Audio)];
    play(&mut stage, &shows, 0..90);
    stage.run_for(ms(800));
    assert!(!relays(&stage, 0).is_empty(), "nobody relays: the test proves little");
    for (from, track) in shows {
        for node in (0..10).filter(|&node| node != from) {
            // Whoever has missed a part of the first picture begins with the next that stands alone.
            let late = got(&stage, node, from, track).iter().filter(|&&number| number >= 30).count();
            assert!(late >= 58, "{track:?} of {from} at {node}: {late} of the last 60 frames");
        }
    }
    assert!(all_genuine(&stage));
    assert!(stage.observer().offences.is_empty(), "{:?}", stage.observer().offences);
}

/// Changes the last byte of every chunk.
fn forging() -> Fault {
    Fault::Filter(Box::new(|now, _, frame| {
        let mut reader = FrameReader::new(&frame, now).ok()?;
        let first = reader.next::<NodeId>();
        if !matches!(first, Some(Ok((_, Message::Forest(ForestMessage::Chunk(_)))))) || frame.len() < 200 {
            return Some(frame);
        }
        let mut changed = frame.to_vec();
        let at = changed.len() - 3;
        changed[at] ^= 0x55;
        Some(Bytes::from(changed))
    }))
}

#[test]
fn a_helper_that_forges_is_named_and_feeds_nobody_any_more() {
    let mut stage = stage_with(12, 0, &options(MediaTopology::Relay), 2, signed);
    let shows = [(0, MediaTrack::Audio), (0, MediaTrack::Video)];
    play(&mut stage, &shows, 0..60);
    let forger = relays(&stage, 0)[0];
    stage.set_fault(forger, Some(forging()));
    play(&mut stage, &shows, 60..210);
    stage.run_for(ms(800));

    assert!(all_genuine(&stage), "what the helper has changed was delivered");
    let offences = &stage.observer().offences;
    assert!(!offences.is_empty(), "nobody has found out");
    let honest: Vec<_> =
        offences.iter().filter(|offence| **offence != (forger, Offence::BadSignature)).collect();
    assert!(honest.is_empty(), "somebody passed a lie on: {honest:?}");
    let forged = |node| stage.host(node).unwrap().group_media_stats(ROOM).unwrap().chunks_forged;
    assert!((0..12).map(forged).sum::<u64>() > 0);
    assert!(!relays(&stage, 0).contains(&forger), "it still feeds somebody");
    for node in (1..12).filter(|&node| node != forger) {
        let video = got(&stage, node, 0, MediaTrack::Video);
        let late = video.iter().filter(|&&number| number >= 120).count();
        assert!(late >= 88, "node {node} got {late} of the last 90 frames");
    }
}

#[test]
fn whoever_believes_other_keys_delivers_nothing() {
    let guard = |node| match node {
        2 => Guard::new().signed(Key(2), OtherKeys).chunk_hasher(Sums),
        node => signed(node),
    };
    let mut stage = stage_with(4, 0, &options(MediaTopology::Auto), 3, guard);
    play(&mut stage, &[(0, MediaTrack::Video)], 0..30);
    stage.run_for(ms(500));
    assert!(whole(got(&stage, 1, 0, MediaTrack::Video), 0..30));
    assert_eq!(got(&stage, 2, 0, MediaTrack::Video), []);
}

#[test]
fn a_signed_group_with_media_needs_a_chunk_hasher() {
    let mut engine = Engine::new(1u64, Config::small(), Seed::from_u64(1), Instant::ZERO).unwrap();
    let media = Some(options(MediaTopology::Auto));
    let mut create = GroupOptions::new();
    create.media.clone_from(&media);
    let mut join = JoinGroupOptions::through([2]);
    join.media = media;
    let guard = || Guard::new().signed(Key(1), Keys);
    let before = *engine.stats();
    let refused = engine.join_group(ROOM, join, guard(), Instant::ZERO);
    assert_eq!(refused, Err(CommandError::NoChunkHasher));
    let refused = engine.create_group(ROOM, create.clone(), guard(), Instant::ZERO);
    assert_eq!(refused, Err(CommandError::NoChunkHasher));
    let listens = engine.create_group(ROOM, create.clone(), Guard::new().verified(Keys), Instant::ZERO);
    assert_eq!(listens, Err(CommandError::NoSigner));
    assert_eq!((*engine.stats(), engine.poll_output()), (before, None));
    assert!(engine.group_stats(ROOM).is_none());
    assert_eq!(engine.create_group(ROOM, create, guard().chunk_hasher(Sums), Instant::ZERO), Ok(()));
}
