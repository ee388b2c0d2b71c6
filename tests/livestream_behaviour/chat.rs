//! The chat of a livestream: a topic of the same swarm, with the same authorities.

use bytes::Bytes;
use suffuse::authority::{AuthorityLimits, AuthoritySet, Policy, WriteRefusal};
use suffuse::sim::NodeId;
use suffuse::{CommandError, Guard, Instant, PublishOptions, StateId, StreamState};

use crate::stage::{RATE, SOURCE, STREAM, Stage, TRACKS};

const MODERATOR: NodeId = 1;
const RUDE: NodeId = 3;
const VIEWERS: u64 = 6;

/// The source alone writes pictures and sound, everybody the chat, and one viewer moderates.
fn guard() -> Guard<NodeId> {
    let mut set = AuthoritySet::new(STREAM, SOURCE, Policy::Frozen, AuthorityLimits::default());
    let mut changes = Vec::new();
    TRACKS.install(&mut set, SOURCE, Instant::ZERO, &mut changes).unwrap();
    set.appoint(SOURCE, MODERATOR, Instant::ZERO, &mut changes).unwrap();
    Guard::new().authority(set)
}

fn stage(seed: u64) -> Stage {
    let mut stage = Stage::open(seed, 0, RATE * 4, guard(), |options| options.chat = true);
    for _ in 0..VIEWERS {
        stage.watch_with(RATE, guard(), |options| options.chat = true);
        stage.run_ms(20);
    }
    stage.run_ms(3_000);
    stage.set_state(StreamState::Active);
    stage
}

fn write(stage: &mut Stage, node: NodeId, state: StateId, text: &'static str) -> Result<(), CommandError> {
    let done = stage.world.with_host(node, |engine, now| {
        engine.publish(STREAM, state, Bytes::from_static(text.as_bytes()), PublishOptions::default(), now)
    });
    done.unwrap().map(|_| ())
}

fn heard(stage: &Stage, text: &'static str) -> Vec<NodeId> {
    let chat = stage.log().chat.iter();
    let heard = chat.filter(|(_, lines)| lines.iter().any(|(_, line)| *line == text));
    heard.map(|(node, _)| *node).collect()
}

#[test]
fn everybody_chats_while_the_stream_runs() {
    let mut stage = stage(1);
    stage.play(30);
    write(&mut stage, 2, TRACKS.chat(), "bravo").unwrap();
    write(&mut stage, SOURCE, TRACKS.chat(), "thanks").unwrap();
    stage.play(60);
    stage.run_ms(1_000);
    assert_eq!(heard(&stage, "bravo"), [0, 1, 3, 4, 5, 6]);
    assert_eq!(heard(&stage, "thanks"), [1, 2, 3, 4, 5, 6]);
    for node in 1..=VIEWERS {
        assert_eq!(stage.log().numbers(node, TRACKS.visual()), (0..90).collect::<Vec<_>>(), "viewer {node}");
    }
    // The chat outlives a pause of the media.
    stage.set_state(StreamState::Paused);
    write(&mut stage, 4, TRACKS.chat(), "hello?").unwrap();
    stage.run_ms(2_000);
    assert_eq!(heard(&stage, "hello?"), [0, 1, 2, 3, 5, 6]);
    assert_eq!(stage.log().offences, []);
    stage.log().assert_sound();
}

#[test]
fn pictures_and_sound_are_the_sources_alone() {
    let mut stage = stage(2);
    for node in [MODERATOR, 2] {
        for state in [TRACKS.visual(), TRACKS.audio(), TRACKS.data()] {
            let refused = write(&mut stage, node, state, "mine");
            assert_eq!(refused, Err(CommandError::NotSource(STREAM)), "viewer {node}, {state:?}");
        }
    }
    // A source that has lost the right to its pictures keeps its sound.
    let freeze = |stage: &mut Stage, node| {
        let done = stage.world.with_host(node, |engine, now| {
            let visual = TRACKS.visual();
            engine.change_authority(STREAM, |set, changes| set.freeze(SOURCE, visual, now, changes), now)
        });
        done.unwrap().unwrap();
    };
    for node in 0..=VIEWERS {
        freeze(&mut stage, node);
    }
    let refused = write(&mut stage, SOURCE, TRACKS.visual(), "picture");
    assert_eq!(refused, Err(CommandError::NotAuthorized(WriteRefusal::Frozen)));
    write(&mut stage, SOURCE, TRACKS.audio(), "sound").unwrap();
    stage.run_ms(1_000);
    assert!(stage.log().frames.values().flatten().all(|frame| frame.state == TRACKS.audio()));
}

/// The host of each node carries a moderator's word out. Who ignores it is not heard by the others.
#[test]
fn a_moderator_silences_a_viewer() {
    let mut stage = stage(3);
    let mute = |stage: &mut Stage, node, by| {
        let done = stage.world.with_host(node, |engine, now| {
            let range = TRACKS.chat_range();
            let mute = |set: &mut AuthoritySet<NodeId>, changes: &mut Vec<_>| {
                set.mute(by, RUDE, range, None, now, changes)
            };
            engine.change_authority(STREAM, mute, now)
        });
        done.unwrap()
    };
    write(&mut stage, RUDE, TRACKS.chat(), "boo").unwrap();
    stage.run_ms(1_000);
    assert_eq!(heard(&stage, "boo"), [0, 1, 2, 4, 5, 6]);
    assert!(matches!(mute(&mut stage, 2, 2), Err(CommandError::Authority(_))), "viewer 2 is no moderator");
    for node in (0..=VIEWERS).filter(|&node| node != RUDE) {
        mute(&mut stage, node, MODERATOR).unwrap();
    }
    // It has not muted itself: its engine lets it write, the others do not listen, and do not pass it on.
    write(&mut stage, RUDE, TRACKS.chat(), "boo again").unwrap();
    write(&mut stage, 5, TRACKS.chat(), "peace").unwrap();
    stage.run_ms(3_000);
    assert_eq!(heard(&stage, "boo again"), [0; 0]);
    assert_eq!(heard(&stage, "peace"), [0, 1, 2, 3, 4, 6]);

    mute(&mut stage, RUDE, MODERATOR).unwrap();
    let refused = write(&mut stage, RUDE, TRACKS.chat(), "boo");
    assert!(matches!(refused, Err(CommandError::NotAuthorized(_))), "{refused:?}");
}

#[test]
fn without_a_chat_nothing_is_written() {
    let mut stage = Stage::new(4, 0, RATE * 4);
    let viewer = stage.watch(RATE);
    stage.run_ms(500);
    for node in [SOURCE, viewer] {
        assert_eq!(write(&mut stage, node, TRACKS.chat(), "hello"), Err(CommandError::NoChat(STREAM)));
    }
}
