//! Bad input about media gets a clear error and changes nothing.

mod group_stage;

use bytes::Bytes;
use group_stage::*;
use suffuse::{
    CommandError, Config, Engine, GroupOptions, Guard, Instant, JoinGroupOptions, MediaFrameOptions,
    MediaOptions, MediaTopology, MediaTrack, ParticipantChange, Seed,
};

fn lonely(media: Option<MediaOptions>) -> Engine<u64> {
    let mut engine = Engine::new(1, Config::small(), Seed::from_u64(1), Instant::ZERO).unwrap();
    let mut options = GroupOptions::new();
    options.media = media;
    engine.create_group(ROOM, options, Guard::new(), Instant::ZERO).unwrap();
    engine
}

#[test]
fn options_outside_their_range_are_refused() {
    let changes: [fn(&mut MediaOptions); 9] = [
        |media| media.upload_bytes_per_s = 999,
        |media| media.audio_bytes_per_s = 0,
        |media| media.thumbnail_bytes_per_s = 99,
        |media| media.video_bytes_per_s = u64::MAX,
        |media| media.screen_bytes_per_s = 0,
        |media| media.full_max = 17,
        |media| media.thumbnails_max = 65,
        |media| media.listeners_max = 257,
        |media| media.deadline = ms(10),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut media = options(MediaTopology::Auto);
        change(&mut media);
        let mut engine = Engine::new(1u64, Config::small(), Seed::from_u64(1), Instant::ZERO).unwrap();
        let mut create = GroupOptions::new();
        create.media = Some(media.clone());
        let created = engine.create_group(ROOM, create, Guard::new(), Instant::ZERO);
        assert!(matches!(created, Err(CommandError::OutOfRange { .. })), "change {number}: {created:?}");
        let mut join = JoinGroupOptions::through([2]);
        join.media = Some(media);
        let joined = engine.join_group(ROOM, join, Guard::new(), Instant::ZERO);
        assert!(matches!(joined, Err(CommandError::OutOfRange { .. })), "change {number}: {joined:?}");
        assert!(engine.group_stats(ROOM).is_none());
    }
}

#[test]
fn a_group_without_media_has_none() {
    let (mut engine, now) = (lonely(None), Instant::from_micros(100_000));
    engine.set_participant(ROOM, ParticipantChange::default().audio(true), now).unwrap();
    let none = CommandError::NoMedia(ROOM);
    let plain = MediaFrameOptions::default();
    assert_eq!(engine.send_media(ROOM, MediaTrack::Audio, Bytes::new(), plain, now), Err(none));
    assert_eq!(engine.set_audio_level(ROOM, 1, now), Err(none));
    assert_eq!(engine.pin(ROOM, 2, now), Err(none));
    assert_eq!(engine.unpin(ROOM, 2, now), Err(none));
}

#[test]
fn frames_of_tracks_that_are_off_and_frames_too_large_are_refused() {
    let (mut engine, now) = (lonely(Some(options(MediaTopology::Auto))), Instant::from_micros(100_000));
    let plain = MediaFrameOptions::default();
    let send = |engine: &mut Engine<u64>, track, bytes: usize, layer| {
        let options = MediaFrameOptions { layer, ..plain };
        engine.send_media(ROOM, track, Bytes::from(vec![0; bytes]), options, now)
    };
    for track in [MediaTrack::Audio, MediaTrack::Thumbnail, MediaTrack::Video, MediaTrack::Screen] {
        assert_eq!(send(&mut engine, track, 10, 0), Err(CommandError::TrackOff(track)));
    }
    engine.set_participant(ROOM, ParticipantChange::default().audio(true).video(true), now).unwrap();
    assert_eq!(send(&mut engine, MediaTrack::Screen, 10, 0), Err(CommandError::TrackOff(MediaTrack::Screen)));
    assert_eq!(send(&mut engine, MediaTrack::Video, 10, 8), Err(CommandError::Layer(8)));
    assert_eq!(send(&mut engine, MediaTrack::Audio, 10, 1), Err(CommandError::Layer(1)));
    let large = send(&mut engine, MediaTrack::Video, 10_000_000, 0);
    assert!(matches!(large, Err(CommandError::Oversize { bytes: 10_000_000, .. })), "{large:?}");
    assert_eq!(send(&mut engine, MediaTrack::Video, 10, 0), Ok(0), "none of that took a number");
    assert_eq!(send(&mut engine, MediaTrack::Video, 10, 7), Ok(0), "each layer has its own");
}

#[test]
fn only_others_who_take_part_can_be_pinned_and_not_too_many() {
    let mut stage = stage(6, 0, &options(MediaTopology::Auto), 1);
    let pin = |stage: &mut Stage, peer| act(stage, 0, |engine, now| engine.pin(ROOM, peer, now));
    assert_eq!(pin(&mut stage, 0), Err(CommandError::OwnName));
    assert_eq!(pin(&mut stage, 77), Err(CommandError::UnknownParticipant));
    for peer in [3, 4, 5, 5] {
        assert_eq!(pin(&mut stage, peer), Ok(()));
    }
    assert_eq!(pin(&mut stage, 1), Err(CommandError::TooManyPins { max: 3 }));
    stage.run_for(ms(500));
    assert_eq!(watched(&stage, 0, MediaTrack::Video), [3, 4, 5]);
    assert_eq!(act(&mut stage, 0, |engine, now| engine.unpin(ROOM, 77, now)), Ok(()));
}

#[test]
fn the_streams_of_a_group_are_nobody_elses() {
    let mut stage = stage(4, 0, &options(MediaTopology::Auto), 2);
    let stats = stage.host(0).unwrap().group_stats(ROOM).unwrap();
    assert!(stats.streams > 4, "{stats:?}");
    // They are not among the swarms that the application may join.
    let max = stage.host(0).unwrap().config().swarms_max;
    for number in 1..max as u64 {
        act(&mut stage, 0, |engine, now| {
            engine.join_topic(suffuse::SwarmId(number), suffuse::TopicOptions::first(), now)
        })
        .unwrap();
    }
    let full = act(&mut stage, 0, |engine, now| {
        engine.join_topic(suffuse::SwarmId(9_999), suffuse::TopicOptions::first(), now)
    });
    assert_eq!(full, Err(CommandError::TooManySwarms { max }));
}
