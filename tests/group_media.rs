//! Media of groups: tracks open and close, who is received and how well, relays, and what a crash costs.

mod group_stage;

use std::time::Duration;

use group_stage::*;
use suffuse::{GroupEvent, MediaTopology, MediaTrack, ParticipantChange};

#[test]
fn sound_and_pictures_of_four_reach_everybody() {
    let mut stage = stage(4, 10_000, &options(MediaTopology::Auto), 1);
    let shows: Vec<_> =
        (0..4).flat_map(|node| [(node, MediaTrack::Audio), (node, MediaTrack::Video)]).collect();
    play(&mut stage, &shows, 0..90);
    stage.run_for(ms(800));
    for (from, track) in shows {
        for node in (0..4).filter(|&node| node != from) {
            assert!(whole(got(&stage, node, from, track), 0..90), "{track:?} of {from} at {node}");
        }
    }
    let stats = stage.host(0).unwrap().group_media_stats(ROOM).unwrap();
    assert_eq!((stats.published, stats.relayed, stats.passes_on), (3, 0, 0), "a mesh: {stats:?}");
}

#[test]
fn a_muted_track_puts_nothing_on_the_wire_and_comes_back() {
    let mut stage = stage(5, 10_000, &options(MediaTopology::Auto), 2);
    let shows = [(1, MediaTrack::Audio), (1, MediaTrack::Thumbnail)];
    play(&mut stage, &shows, 0..60);
    assert!(on_wire(&stage, 1, MediaTrack::Audio) > 200);
    switch(&mut stage, 1, ParticipantChange::default().audio(false));
    let before = on_wire(&stage, 1, MediaTrack::Audio);
    play(&mut stage, &shows[1..], 60..120);
    assert_eq!(on_wire(&stage, 1, MediaTrack::Audio), before, "not a byte after the mute");
    assert!(whole(got(&stage, 4, 1, MediaTrack::Thumbnail), 60..115), "the picture goes on");
    assert!(
        stage
            .host(4)
            .unwrap()
            .group_media_parents(ROOM)
            .iter()
            .all(|(from, track, _)| { (*from, *track) != (1, MediaTrack::Audio) })
    );
    switch(&mut stage, 1, ParticipantChange::default().audio(true));
    stage.run_for(ms(600));
    play(&mut stage, &shows, 120..180);
    stage.run_for(ms(800));
    for node in [0, 2, 3, 4] {
        let sound = got(&stage, node, 1, MediaTrack::Audio);
        assert!(whole(sound.clone(), 120..180), "node {node} got {sound:?}");
        let closings = stage.observer().events.iter().filter(|(at, _, event)| {
            *at == node && matches!(event, GroupEvent::TrackClosed { from: 1, track: MediaTrack::Audio })
        });
        assert_eq!(closings.count(), 1, "node {node}");
    }
}

#[test]
fn a_voice_takes_the_floor_after_its_attack_and_leaves_it_after_its_release() {
    let mut stage = stage(6, 0, &options(MediaTopology::Auto), 3);
    let start = stage.now();
    play(&mut stage, &[(4, MediaTrack::Audio)], 0..30);
    let told = stage.observer().events.iter().find_map(|(at, when, event)| match event {
        GroupEvent::SpeakersChanged { speakers } if *at == 2 && speakers.contains(&4) => Some(*when - start),
        _ => None,
    });
    let told = told.expect("node 2 was told who speaks");
    assert!((ms(300)..ms(550)).contains(&told), "{told:?}");
    assert!(watched(&stage, 2, MediaTrack::Video).contains(&4));
    stage.run_for(ms(1_700));
    assert_eq!(speakers(&stage, 2), [4], "not released yet");
    stage.run_for(ms(700));
    assert_eq!(speakers(&stage, 2), []);
    // Too short for a turn.
    play(&mut stage, &[(5, MediaTrack::Audio)], 30..36);
    stage.run_for(ms(300));
    assert_eq!(speakers(&stage, 2), []);
}

#[test]
fn the_last_who_spoke_are_shown_and_pins_come_first() {
    let media = options(MediaTopology::Auto);
    let mut stage = stage(20, 0, &media, 4);
    for speaker in [15, 16, 17, 18] {
        play(&mut stage, &[(speaker, MediaTrack::Audio)], 0..15);
        stage.run_for(ms(2_300));
    }
    stage.run_for(ms(500));
    for node in [0, 9, 15, 18] {
        let full: Vec<_> = [16, 17, 18].into_iter().filter(|&other| other != node).collect();
        assert_eq!(watched(&stage, node, MediaTrack::Video), full, "node {node}");
        let small = watched(&stage, node, MediaTrack::Thumbnail);
        assert!(small.len() <= media.full_max + media.thumbnails_max, "node {node}: {small:?}");
        assert!(full.iter().all(|other| !small.contains(other)), "nobody is sent twice: {small:?}");
        assert_eq!(watched(&stage, node, MediaTrack::Audio).len(), 19);
    }
    act(&mut stage, 9, |engine, now| engine.pin(ROOM, 12, now)).unwrap();
    stage.run_for(ms(500));
    let full = watched(&stage, 9, MediaTrack::Video);
    assert!(full.contains(&12) && full.len() == 3, "{full:?}");
    let small = watched(&stage, 9, MediaTrack::Thumbnail);
    assert!(
        [16, 17, 18].iter().any(|other| small.contains(other)),
        "whose place it takes is shown small: {small:?}"
    );
    act(&mut stage, 9, |engine, now| engine.unpin(ROOM, 12, now)).unwrap();
    stage.run_for(ms(500));
    assert_eq!(watched(&stage, 9, MediaTrack::Video), [16, 17, 18]);
}

#[test]
fn everybody_receives_the_screen() {
    let mut stage = stage(10, 10_000, &options(MediaTopology::Auto), 5);
    act(&mut stage, 7, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    stage.run_for(ms(1_000));
    play(&mut stage, &[(7, MediaTrack::Screen)], 0..60);
    stage.run_for(ms(800));
    for node in (0..10).filter(|&node| node != 7) {
        let screen = got(&stage, node, 7, MediaTrack::Screen);
        assert!(screen.len() >= 59, "node {node} got {} frames", screen.len());
    }
    act(&mut stage, 7, |engine, now| engine.release_screen(ROOM, now)).unwrap();
    let before = on_wire(&stage, 7, MediaTrack::Screen);
    stage.run_for(ms(500));
    assert!((0..10).all(|node| watched(&stage, node, MediaTrack::Screen).is_empty()));
    assert_eq!(on_wire(&stage, 7, MediaTrack::Screen), before);
}

#[test]
fn a_mesh_that_becomes_a_forest_loses_nothing() {
    let media = options(MediaTopology::Auto);
    let mut stage = stage(4, 0, &media, 6);
    let shows = [(0, MediaTrack::Audio), (0, MediaTrack::Video)];
    play(&mut stage, &shows, 0..60);
    let relayed = |stage: &Stage| stage.host(0).unwrap().group_media_stats(ROOM).unwrap().relayed;
    assert_eq!(relayed(&stage), 0);
    for late in 0..6 {
        let newcomer = stage.add(|birth| participant(&birth, media.clone(), Some(1)));
        play(&mut stage, &shows, 60 + late * 30..90 + late * 30);
        switch(&mut stage, newcomer, ParticipantChange::default().audio(true).video(true));
    }
    play(&mut stage, &shows, 240..300);
    stage.run_for(ms(800));
    assert!(relayed(&stage) > 0, "ten are more than one upload feeds");
    for node in 1..4 {
        for (from, track) in shows {
            let got = got(&stage, node, from, track);
            let lost: Vec<_> = (0..300).filter(|number| !got.contains(number)).collect();
            assert!(whole(got, 0..300), "{track:?} at {node} lacks {lost:?}");
        }
    }
}

#[test]
fn who_comes_again_gets_nothing_stale() {
    let media = options(MediaTopology::Auto);
    let mut stage = stage(4, 10_000, &media, 7);
    let shows = [(2, MediaTrack::Audio), (2, MediaTrack::Video)];
    play(&mut stage, &shows, 0..60);
    stage.restart(3, |birth| participant(&birth, media.clone(), Some(0)));
    let again = stage.now();
    play(&mut stage, &shows, 60..150);
    stage.run_for(ms(500));
    let fresh: Vec<_> = stage
        .observer()
        .events
        .iter()
        .filter_map(|(at, when, event)| match event {
            GroupEvent::Media(media) if *at == 3 && *when >= again => Some(number(media)),
            _ => None,
        })
        .collect();
    assert!(fresh.len() > 60, "{} frames", fresh.len());
    // What was published within the deadline may be shown, to begin with a keyframe.
    assert!(fresh.iter().all(|&number| number >= 30), "{fresh:?}");
    // And who publishes anew begins anew.
    stage.restart(2, |birth| participant(&birth, media.clone(), Some(0)));
    stage.run_for(ms(1_500));
    switch(&mut stage, 2, ParticipantChange::default().audio(true).video(true));
    stage.run_for(ms(800));
    play(&mut stage, &shows, 1_020..1_080);
    stage.run_for(ms(800));
    for node in [0, 1, 3] {
        assert!(whole(got(&stage, node, 2, MediaTrack::Audio), 1_020..1_080), "node {node}");
    }
}

#[test]
fn a_crashed_relay_is_replaced_and_its_own_tracks_close() {
    let mut stage = stage(12, 0, &options(MediaTopology::Relay), 8);
    let shows = [(0, MediaTrack::Audio), (0, MediaTrack::Video)];
    play(&mut stage, &shows, 0..60);
    let relays = |stage: &Stage| -> Vec<_> {
        let parents = (1..12).filter(|&node| stage.is_up(node)).flat_map(|node| {
            let parents = stage.host(node).unwrap().group_media_parents(ROOM);
            parents.into_iter().filter(|(from, track, _)| (*from, *track) == (0, MediaTrack::Video))
        });
        parents
            .flat_map(|(_, _, parents)| parents.into_iter().flatten())
            .filter(|&parent| parent != 0)
            .collect()
    };
    let doomed = relays(&stage)[0];
    stage.crash(doomed);
    play(&mut stage, &shows, 60..210);
    assert!(!relays(&stage).contains(&doomed), "somebody else feeds its children");
    play(&mut stage, &shows, 210..270);
    stage.run_for(ms(800));
    for node in (1..12).filter(|&node| node != doomed) {
        assert!(whole(got(&stage, node, 0, MediaTrack::Video), 220..270), "node {node}");
        assert!(!watched(&stage, node, MediaTrack::Audio).contains(&doomed));
    }
}

#[test]
fn whoever_leaves_takes_its_streams_along() {
    let mut stage = stage(4, 0, &options(MediaTopology::Auto), 9);
    play(&mut stage, &[(1, MediaTrack::Audio)], 0..30);
    act(&mut stage, 1, |engine, now| engine.leave(ROOM, now)).unwrap();
    stage.run_for(Duration::from_secs(1));
    assert!(
        (0..4).filter(|&node| node != 1).all(|node| !watched(&stage, node, MediaTrack::Audio).contains(&1))
    );
    assert!(stage.host(1).unwrap().group_media_stats(ROOM).is_none());
    assert_eq!(stage.host(1).unwrap().queued_bytes(), 0);
}
