//! Viewers and lurkers, track by track.

use std::time::Duration;

use suffuse::{Guard, Instant, Role, StreamState};

use crate::stage::{FPS, RATE, STREAM, Stage, TRACKS};

fn tracks() -> [(suffuse::StateId, usize); 3] {
    let frame = (RATE / FPS) as usize;
    [(TRACKS.visual(), frame * 8 / 10), (TRACKS.audio(), frame / 10), (TRACKS.data(), 50)]
}

fn play(stage: &mut Stage, frames: u64) {
    for _ in 0..frames {
        stage.publish(&tracks());
    }
}

fn delta_bytes(stage: &Stage, node: u64, since: Instant) -> u64 {
    let arrivals = stage.log().arrivals[&node].iter();
    let deltas = arrivals
        .filter(|arrival| arrival.state == TRACKS.visual() && !arrival.keyframe && arrival.at >= since);
    deltas.map(|arrival| arrival.bytes).sum()
}

#[test]
fn a_lurker_gets_sound_and_keyframes_until_it_watches() {
    let mut stage = Stage::new(1, 0, RATE * 10);
    let viewer = stage.watch(RATE);
    let lurker = stage.watch_with(0, Guard::new(), |options| options.role = Role::Lurker);
    stage.run_ms(500);
    stage.set_state(StreamState::Active);
    play(&mut stage, 100);
    stage.run_ms(200);

    let log = stage.log();
    for (state, _) in tracks() {
        assert_eq!(log.numbers(viewer, state), (0..100).collect::<Vec<_>>(), "{state:?}");
    }
    assert_eq!(log.numbers(lurker, TRACKS.visual()), [0, 30, 60, 90]);
    assert_eq!(log.numbers(lurker, TRACKS.audio()), (0..100).collect::<Vec<_>>());
    assert_eq!(log.numbers(lurker, TRACKS.data()), [0; 0]);
    assert_eq!(delta_bytes(&stage, lurker, Instant::ZERO), 0, "no other picture reaches it");
    assert_eq!(log.bytes_since(lurker, TRACKS.data(), Instant::ZERO), 0);
    assert!(log.lags.is_empty(), "what is not wanted is not missed: {:?}", log.lags);

    let set_role = |stage: &mut Stage, role| {
        let done = stage.world.with_host(lurker, |engine, now| engine.set_stream_role(STREAM, role, now));
        done.unwrap().unwrap();
        stage.now()
    };
    let watches = set_role(&mut stage, Role::Viewer);
    play(&mut stage, 50);
    stage.run_ms(200);
    let log = stage.log();
    let pictures: Vec<_> = log.track(lurker, TRACKS.visual());
    let later: Vec<u64> =
        pictures.iter().filter(|frame| frame.at > watches).map(|frame| frame.number).collect();
    assert_eq!(later, (120..150).collect::<Vec<_>>(), "from the next keyframe on, everything");
    assert_eq!(log.numbers(lurker, TRACKS.audio()), (0..150).collect::<Vec<_>>(), "the sound went on");
    assert!(log.numbers(lurker, TRACKS.data()).last() == Some(&149));

    let lurks = set_role(&mut stage, Role::Lurker);
    play(&mut stage, 60);
    stage.run_ms(200);
    assert_eq!(delta_bytes(&stage, lurker, lurks + Duration::from_millis(150)), 0);
    let log = stage.log();
    let pictures = log.track(lurker, TRACKS.visual()).into_iter().filter(|frame| frame.at > lurks);
    assert_eq!(pictures.map(|frame| frame.number).collect::<Vec<_>>(), [150, 180]);
    assert!(log.lags.is_empty(), "{:?}", log.lags);
    log.assert_sound();
}

/// The only way to the viewer leads through the lurker, which carries what it does not want itself.
#[test]
fn a_lurker_relays_what_viewers_below_it_want() {
    let mut stage = Stage::open(2, 0, RATE * 6 / 5, Guard::new(), |options| options.stripes = Some(1));
    let lurker = stage.watch_with(RATE * 2, Guard::new(), |options| options.role = Role::Lurker);
    stage.run_ms(500);
    let viewer = stage.watch(0);
    stage.run_ms(1_000);
    assert!(stage.parents(viewer).iter().all(|parent| *parent == Some(lurker)));
    stage.set_state(StreamState::Active);
    play(&mut stage, 65);
    stage.run_ms(500);
    let log = stage.log();
    assert_eq!(log.numbers(viewer, TRACKS.visual()), (0..65).collect::<Vec<_>>());
    assert_eq!(log.numbers(lurker, TRACKS.visual()), [0, 30, 60]);
    assert!(delta_bytes(&stage, lurker, Instant::ZERO) > 0, "it relays them");

    let gone = stage.now();
    stage.world.with_host(viewer, |engine, now| engine.leave(STREAM, now).unwrap());
    play(&mut stage, 30);
    assert_eq!(delta_bytes(&stage, lurker, gone + Duration::from_millis(300)), 0, "nobody wants them now");
}
