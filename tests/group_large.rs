//! Rooms of fifty and of two hundred: one roster, one screen, and media that arrive.

mod group_stage;

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use group_stage::*;
use suffuse::sim::{NetworkConfig, NodeId, World};
use suffuse::{
    Config, Engine, Epoch, GroupOptions, Guard, JoinGroupOptions, MediaTopology, MediaTrack,
    ParticipantChange, Seed,
};

/// `count` participants, each tenth of them with four times the upload of the others.
fn large(count: u64, seed: u64) -> Stage {
    let mut network = NetworkConfig::default();
    network.loss_ppm = 2_000;
    let mut world = World::with_observer(network, Seed::from_u64(seed), Heard::default());
    for node in 0..count {
        let upload = upload(node);
        world.add(|birth| {
            let mut config = Config::medium();
            config.epoch = Epoch(birth.life);
            config.link.links_max = 1_024;
            config.egress.upload_bytes_per_s = Some(upload / 20 * 19);
            let mut engine = Engine::new(birth.node, config, birth.seed, birth.now).unwrap();
            let mut media = options(MediaTopology::Auto);
            media.upload_bytes_per_s = upload;
            if node == 0 {
                let mut options = GroupOptions::new();
                options.participants_max = count as usize;
                options.media = Some(media);
                engine.create_group(ROOM, options, Guard::new(), birth.now).unwrap();
            } else {
                let mut options = JoinGroupOptions::through([node / 2]);
                options.media = Some(media);
                engine.join_group(ROOM, options, Guard::new(), birth.now).unwrap();
            }
            engine
        });
        world.set_upload(node, NonZeroU64::new(upload * 8));
        world.run_for(ms(10));
    }
    world.run_for(ms(2_000));
    world
}

fn upload(node: NodeId) -> u64 {
    if node % 10 == 3 { UPLOAD * 4 } else { UPLOAD }
}

fn agree_on_roster_and_screen(stage: &mut Stage, count: u64) {
    let prints: BTreeSet<_> =
        (0..count).map(|node| stage.host(node).unwrap().roster_fingerprint(ROOM)).collect();
    assert_eq!(prints.len(), 1, "several rosters");
    let roster = stage.host(count - 1).unwrap().group_roster(ROOM).unwrap();
    assert_eq!(roster.len() as u64, count);
    // Two at once.
    for node in [count - 1, count / 2] {
        act(stage, node, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    }
    stage.run_for(ms(1_000));
    let holders: BTreeSet<Option<NodeId>> = (0..count)
        .map(|node| {
            let roster = stage.host(node).unwrap().group_roster(ROOM).unwrap();
            roster.iter().find(|participant| participant.screen).map(|participant| participant.peer)
        })
        .collect();
    assert_eq!(holders.len(), 1, "{holders:?}");
    let holder = holders.into_iter().next().flatten().expect("somebody shows the screen");
    assert!([count - 1, count / 2].contains(&holder));
    act(stage, holder, |engine, now| engine.release_screen(ROOM, now)).unwrap();
    stage.run_for(ms(300));
}

/// Who holds the office of a relay.
fn relays(stage: &Stage) -> BTreeSet<NodeId> {
    let stats = |node| stage.host(node).unwrap().group_media_stats(ROOM).unwrap();
    stage.hosts().map(|(node, _)| node).filter(|&node| stats(node).elected > 0).collect()
}

#[test]
fn in_a_room_of_fifty_the_strong_pass_on_and_another_takes_the_place_of_one_that_crashes() {
    let count = 50;
    let mut stage = large(count, 1);
    agree_on_roster_and_screen(&mut stage, count);
    let change = ParticipantChange::default().audio(true).video(true);
    switch(&mut stage, 7, change);
    stage.run_for(ms(500));
    let shows = [(7, MediaTrack::Audio), (7, MediaTrack::Video)];
    play(&mut stage, &shows, 0..60);
    stage.run_for(ms(300));
    for node in (0..count).filter(|&node| node != 7) {
        let sound = got(&stage, node, 7, MediaTrack::Audio);
        let video = got(&stage, node, 7, MediaTrack::Video);
        let late = video.iter().filter(|&&number| number >= 30).count();
        assert!(sound.len() >= 50 && late >= 27, "node {node}: {} sounds, {late} pictures", sound.len());
    }
    let elected = relays(&stage);
    assert!(!elected.is_empty() && elected.iter().all(|&node| upload(node) > UPLOAD), "{elected:?}");
    assert!(elected.len() <= 5, "as few as can do it: {elected:?}");
    let passes_on = |&node: &NodeId| {
        stage.host(node).unwrap().group_media_stats(ROOM).is_some_and(|stats| stats.passes_on > 0)
    };
    assert!(elected.iter().all(passes_on), "who is elected passes on: {elected:?}");
    // One that crashes is replaced, and the others go on.
    let doomed = *elected.iter().next().unwrap();
    stage.crash(doomed);
    play(&mut stage, &shows, 60..150);
    stage.run_for(ms(300));
    let now = relays(&stage);
    assert!(elected.iter().filter(|&&node| node != doomed).all(|node| now.contains(node)), "{now:?}");
    for node in (0..count).filter(|&node| node != 7 && node != doomed) {
        let video = got(&stage, node, 7, MediaTrack::Video);
        let late = video.iter().filter(|&&number| number >= 120).count();
        assert!(late >= 27, "node {node} got {late} of the last 30 pictures");
    }
}

#[test]
fn in_a_room_of_two_hundred_everybody_hears_who_speaks() {
    let count = 200;
    let mut stage = large(count, 2);
    agree_on_roster_and_screen(&mut stage, count);
    switch(&mut stage, 120, ParticipantChange::default().audio(true));
    stage.run_for(ms(500));
    // Who is heard is received; before that, nobody listens.
    play(&mut stage, &[(120, MediaTrack::Audio)], 0..60);
    stage.run_for(Duration::from_millis(300));
    for node in (0..count).filter(|&node| node != 120) {
        assert_eq!(speakers(&stage, node), [120], "node {node}");
        let late = got(&stage, node, 120, MediaTrack::Audio).iter().filter(|&&number| number >= 30).count();
        assert!(late >= 28, "node {node} heard {late} of the last 30 sounds");
    }
}
