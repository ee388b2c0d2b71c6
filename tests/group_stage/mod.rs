//! A room with media on a virtual network.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{Birth, NetworkConfig, NodeId, Observer, SentFrame, World};
use suffuse::{
    Config, Engine, Epoch, Event, GroupEvent, GroupMedia, GroupOptions, Guard, Instant, JoinGroupOptions,
    MediaFrameOptions, MediaOptions, MediaTopology, MediaTrack, Offence, ParticipantChange, Seed, SwarmId,
};

pub(crate) const ROOM: SwarmId = SwarmId::from_name("stage");

/// What each participant may upload: 5 Mbit/s.
pub(crate) const UPLOAD: u64 = 625_000;

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) events: Vec<(NodeId, Instant, GroupEvent<NodeId>)>,
    /// Frames on the wire that carry media, by publisher and track.
    pub(crate) on_wire: BTreeMap<(NodeId, u8), u64>,
    /// Who was blamed, and what for.
    pub(crate) offences: Vec<(NodeId, Offence)>,
}

impl Observer for Heard {
    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        match event {
            Event::Group { swarm: ROOM, event } => self.events.push((node, now, event.clone())),
            Event::Misbehaved { peer, offence } => self.offences.push((*peer, *offence)),
            _ => {}
        }
    }

    fn sent(&mut self, _now: Instant, sent: &SentFrame<'_>) {
        let found = sent.frame.windows(MARK_BYTES).find(|bytes| bytes[..MARK.len()] == MARK);
        if let Some(mark) = found {
            *self.on_wire.entry((mark[4].into(), mark[5])).or_default() += 1;
        }
    }
}

/// Marks the bodies of a publisher and a track, all over.
const MARK: [u8; 4] = [0xd7, 0x5b, 0x31, 0xe9];
const MARK_BYTES: usize = 6;

pub(crate) type Stage = World<Engine<NodeId>, Heard>;

pub(crate) fn options(topology: MediaTopology) -> MediaOptions {
    let mut options = MediaOptions::new(UPLOAD);
    options.topology = topology;
    options
}

pub(crate) fn participant(birth: &Birth, media: MediaOptions, contact: Option<NodeId>) -> Engine<NodeId> {
    guarded(birth, media, contact, Guard::new())
}

pub(crate) fn guarded(
    birth: &Birth,
    media: MediaOptions,
    contact: Option<NodeId>,
    guard: Guard<NodeId>,
) -> Engine<NodeId> {
    let mut config = Config::small();
    config.epoch = Epoch(birth.life);
    config.egress.upload_bytes_per_s = Some(UPLOAD / 20 * 19);
    let mut engine = Engine::new(birth.node, config, birth.seed, birth.now).unwrap();
    match contact {
        None => {
            let mut options = GroupOptions::new();
            options.participants_max = 128;
            options.media = Some(media);
            engine.create_group(ROOM, options, guard, birth.now).unwrap();
        }
        Some(contact) => {
            let mut options = JoinGroupOptions::through([contact]);
            options.media = Some(media);
            engine.join_group(ROOM, options, guard, birth.now).unwrap();
        }
    }
    engine
}

/// `count` participants with everything switched on.
pub(crate) fn stage(count: u64, loss_ppm: u32, media: &MediaOptions, seed: u64) -> Stage {
    stage_with(count, loss_ppm, media, seed, |_| Guard::new())
}

/// The same, of participants with guards.
pub(crate) fn stage_with(
    count: u64,
    loss_ppm: u32,
    media: &MediaOptions,
    seed: u64,
    guard: impl Fn(NodeId) -> Guard<NodeId>,
) -> Stage {
    let mut network = NetworkConfig::default();
    network.loss_ppm = loss_ppm;
    network.upload_bits_per_s = NonZeroU64::new(UPLOAD * 8);
    let mut world = World::with_observer(network, Seed::from_u64(seed), Heard::default());
    world.add(|birth| guarded(&birth, media.clone(), None, guard(birth.node)));
    for _ in 1..count {
        world.run_for(ms(20));
        world.add(|birth| guarded(&birth, media.clone(), Some(0), guard(birth.node)));
    }
    world.run_for(ms(1_500));
    for node in 0..count {
        switch(&mut world, node, ParticipantChange::default().audio(true).video(true));
    }
    world.run_for(ms(1_500));
    world
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn act<R>(
    world: &mut Stage,
    node: NodeId,
    command: impl FnOnce(&mut Engine<NodeId>, Instant) -> R,
) -> R {
    world.with_host(node, command).unwrap()
}

pub(crate) fn switch(world: &mut Stage, node: NodeId, change: ParticipantChange) {
    act(world, node, |engine, now| engine.set_participant(ROOM, change, now)).unwrap();
}

/// A frame of a track, numbered, and recognisable on the wire.
pub(crate) fn payload(node: NodeId, track: MediaTrack, number: u64, bytes: usize) -> Bytes {
    let mut payload = number.to_le_bytes().to_vec();
    while payload.len() < bytes {
        payload.extend(MARK);
        payload.extend([node as u8, track as u8]);
    }
    Bytes::from(payload)
}

pub(crate) fn send(world: &mut Stage, node: NodeId, track: MediaTrack, number: u64, bytes: usize) {
    let payload = payload(node, track, number, bytes);
    let options = MediaFrameOptions { keyframe: number % 30 == 0, ..MediaFrameOptions::default() };
    act(world, node, |engine, now| engine.send_media(ROOM, track, payload, options, now)).unwrap();
}

/// Lets some publish a track for a while, thirty frames a second, and speak if it is their sound.
pub(crate) fn play(world: &mut Stage, shows: &[(NodeId, MediaTrack)], frames: std::ops::Range<u64>) {
    for number in frames {
        for &(node, track) in shows {
            let bytes = match track {
                MediaTrack::Audio => 100,
                MediaTrack::Thumbnail => 120,
                MediaTrack::Video | MediaTrack::Screen => 4_000,
            };
            send(world, node, track, number, bytes);
            if track == MediaTrack::Audio && number % 3 == 0 {
                act(world, node, |engine, now| engine.set_audio_level(ROOM, 100, now)).unwrap();
            }
        }
        world.run_for(Duration::from_micros(33_333));
    }
}

/// The numbers of the frames that a participant got of a track, in the order of their coming.
pub(crate) fn got(world: &Stage, node: NodeId, from: NodeId, track: MediaTrack) -> Vec<u64> {
    let frames = world.observer().events.iter().filter_map(|(at, _, event)| match event {
        GroupEvent::Media(media) if (*at, media.from, media.track) == (node, from, track) => {
            Some(number(media))
        }
        _ => None,
    });
    frames.collect()
}

pub(crate) fn number(media: &GroupMedia<NodeId>) -> u64 {
    u64::from_le_bytes(media.payload[..8].try_into().unwrap())
}

/// Whether every number is there, once.
pub(crate) fn whole(mut got: Vec<u64>, frames: std::ops::Range<u64>) -> bool {
    got.retain(|number| frames.contains(number));
    got.sort_unstable();
    got.into_iter().eq(frames)
}

pub(crate) fn speakers(world: &Stage, node: NodeId) -> Vec<NodeId> {
    let told = world.observer().events.iter().rev().find_map(|(at, _, event)| match event {
        GroupEvent::SpeakersChanged { speakers } if *at == node => Some(speakers.clone()),
        _ => None,
    });
    told.unwrap_or_default()
}

pub(crate) fn on_wire(world: &Stage, node: NodeId, track: MediaTrack) -> u64 {
    world.observer().on_wire.get(&(node, track as u8)).copied().unwrap_or(0)
}

pub(crate) fn watched(world: &Stage, node: NodeId, track: MediaTrack) -> Vec<NodeId> {
    let parents = world.host(node).unwrap().group_media_parents(ROOM);
    let mut from: Vec<_> =
        parents.into_iter().filter(|(_, other, _)| *other == track).map(|(from, ..)| from).collect();
    from.sort_unstable();
    from
}
