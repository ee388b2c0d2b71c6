//! What groups refuse, and that nothing changes then.

mod group_room;

use std::time::Duration;

use bytes::Bytes;
use group_room::*;
use proptest::prelude::*;
use suffuse::authority::{AuthorityLimits, AuthoritySet, Policy};
use suffuse::sim::NodeId;
use suffuse::wire::{
    Ack, Beat, Directed, DirectedTarget, Handover, MediaProfile, Profile, RosterEntry, Verdict, Welcome,
};
use suffuse::wire::{FrameReader, FrameWriter, GroupMessage, Message, WireError, message_bytes_max};
use suffuse::{
    CommandError, Engine, GroupOptions, GroupSendOptions, GroupTarget, Guard, Input, Instant,
    JoinGroupOptions, MediaFrameOptions, MediaTrack, ParticipantChange, PublishOptions, StateId, SwarmId,
    TopicOptions,
};

fn send(
    world: &mut Room,
    node: NodeId,
    target: GroupTarget<NodeId>,
    bytes: usize,
) -> Result<(), CommandError> {
    let (payload, options) = (Bytes::from(vec![0; bytes]), GroupSendOptions::default());
    act(world, node, |engine, now| engine.send_group(ROOM, target, payload, options, now).map(|_| ()))
}

#[test]
fn bad_commands_are_refused_and_change_nothing() {
    let mut world = room(3, 8, 1);
    world.run_for(Duration::from_secs(2));
    let before = world.host(1).unwrap().roster_fingerprint(ROOM);
    let one = |peer| GroupTarget::One(peer);
    assert_eq!(send(&mut world, 1, one(9), 1), Err(CommandError::UnknownParticipant));
    assert_eq!(send(&mut world, 1, one(1), 1), Err(CommandError::ToOneself));
    let strangers = GroupTarget::Some(vec![0, 2, 9]);
    assert_eq!(send(&mut world, 1, strangers, 1), Err(CommandError::UnknownParticipant));
    assert_eq!(send(&mut world, 1, GroupTarget::Some(vec![0, 1]), 1), Err(CommandError::ToOneself));
    assert_eq!(send(&mut world, 1, GroupTarget::Some(vec![]), 1), Err(CommandError::NoReceivers));
    assert_eq!(send(&mut world, 1, GroupTarget::Some(vec![0, 0]), 1), Err(CommandError::RepeatedReceiver));
    for target in [one(0), GroupTarget::Everybody] {
        assert!(matches!(send(&mut world, 1, target, 1_200), Err(CommandError::Oversize { .. })));
    }
    let metadata = ParticipantChange::default().video(true).metadata(vec![0; 257]);
    let refused = act(&mut world, 1, |engine, now| engine.set_participant(ROOM, metadata, now));
    assert_eq!(refused, Err(CommandError::Oversize { bytes: 257, max: 256 }));
    let refused = act(&mut world, 1, |engine, now| engine.release_screen(ROOM, now));
    assert_eq!(refused, Err(CommandError::ScreenNotHeld));
    let refused = act(&mut world, 1, |engine, now| engine.hand_over_screen(ROOM, 2, now));
    assert_eq!(refused, Err(CommandError::ScreenNotHeld));
    let refused = act(&mut world, 1, |engine, now| engine.kick(ROOM, 2, now));
    assert_eq!(refused, Err(CommandError::NoAuthority(ROOM)));
    let refused = act(&mut world, 1, |engine, now| {
        engine.publish(ROOM, StateId(1), Bytes::new(), PublishOptions::default(), now)
    });
    assert_eq!(refused, Err(CommandError::IsGroup(ROOM)));
    let refused = act(&mut world, 1, |engine, now| {
        let options = GroupSendOptions::default().deadline(Duration::ZERO);
        engine.send_group(ROOM, GroupTarget::One(0), Bytes::new(), options, now)
    });
    assert!(matches!(refused, Err(CommandError::OutOfRange { field: "deadline", .. })));
    act(&mut world, 2, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    let refused = act(&mut world, 2, |engine, now| engine.hand_over_screen(ROOM, 9, now));
    assert_eq!(refused, Err(CommandError::UnknownParticipant));
    act(&mut world, 2, |engine, now| engine.release_screen(ROOM, now)).unwrap();

    world.run_for(Duration::from_secs(1));
    assert!(heard(&world, 0).is_empty() && heard(&world, 2).is_empty(), "nothing was sent");
    let stats = world.host(1).unwrap().group_stats(ROOM).unwrap();
    assert_eq!((stats.copies_sent, stats.broadcasts_sent), (0, 0));
    assert_ne!(world.host(1).unwrap().roster_fingerprint(ROOM), before, "but for the screen of 2");
    let roster = world.host(0).unwrap().group_roster(ROOM).unwrap();
    assert!(roster.iter().all(|participant| !participant.video && participant.metadata.is_empty()));
}

#[test]
fn nobody_acts_before_it_is_in_or_after_it_has_left() {
    let mut world = room(2, 8, 2);
    let late = world.add(|birth| joiner(&birth, 0));
    let waits = Err(CommandError::NotAdmitted(ROOM));
    assert_eq!(send(&mut world, late, GroupTarget::Everybody, 1), waits);
    assert_eq!(act(&mut world, late, |engine, now| engine.claim_screen(ROOM, now)), waits);
    act(&mut world, 1, |engine, now| engine.leave(ROOM, now)).unwrap();
    let gone = Err(CommandError::UnknownSwarm(ROOM));
    assert_eq!(send(&mut world, 1, GroupTarget::Everybody, 1), gone);
    assert_eq!(act(&mut world, 1, |engine, now| engine.claim_screen(ROOM, now)), gone);
    let change = ParticipantChange::default().video(true);
    assert_eq!(act(&mut world, 1, |engine, now| engine.set_participant(ROOM, change, now)), gone);
    assert_eq!(act(&mut world, 1, |engine, now| engine.leave(ROOM, now)), gone);
}

/// Whatever a participant may do, nobody may do who is out, and those who are in see nothing of it.
#[test]
fn every_action_after_leaving_is_refused() {
    let mut world = room(3, 8, 7);
    act(&mut world, 1, |engine, now| engine.leave(ROOM, now)).unwrap();
    world.run_for(Duration::from_secs(1));
    let before = world.host(0).unwrap().roster_fingerprint(ROOM);
    let gone = CommandError::UnknownSwarm(ROOM);
    type Action = fn(&mut Engine<NodeId>, Instant) -> Result<(), CommandError>;
    let actions: [(&str, Action); 14] = [
        ("leave", |engine, now| engine.leave(ROOM, now)),
        ("claim", |engine, now| engine.claim_screen(ROOM, now)),
        ("release", |engine, now| engine.release_screen(ROOM, now)),
        ("hand over", |engine, now| engine.hand_over_screen(ROOM, 2, now)),
        ("change", |engine, now| {
            engine.set_participant(ROOM, ParticipantChange::default().metadata("gone"), now)
        }),
        ("broadcast", |engine, now| {
            let options = GroupSendOptions::default();
            engine.send_group(ROOM, GroupTarget::Everybody, Bytes::new(), options, now).map(|_| ())
        }),
        ("multicast", |engine, now| {
            let options = GroupSendOptions::default();
            engine.send_group(ROOM, GroupTarget::Some(vec![0, 2]), Bytes::new(), options, now).map(|_| ())
        }),
        ("kick", |engine, now| engine.kick(ROOM, 2, now)),
        ("ban", |engine, now| engine.set_banned(ROOM, 2, true, now)),
        ("media", |engine, now| {
            let options = MediaFrameOptions::default();
            engine.send_media(ROOM, MediaTrack::Audio, Bytes::new(), options, now).map(|_| ())
        }),
        ("level", |engine, now| engine.set_audio_level(ROOM, 9, now)),
        ("pin", |engine, now| engine.pin(ROOM, 2, now)),
        ("unpin", |engine, now| engine.unpin(ROOM, 2, now)),
        ("roster", |engine, _| engine.group_roster(ROOM).map(|_| ())),
    ];
    for (name, action) in actions {
        assert_eq!(act(&mut world, 1, action), Err(gone), "{name}");
    }
    world.run_for(Duration::from_secs(1));
    let engine = world.host(1).unwrap();
    assert_eq!((engine.roster_fingerprint(ROOM), engine.group_stats(ROOM)), (None, None));
    for node in [0, 2] {
        assert_eq!(world.host(node).unwrap().roster_fingerprint(ROOM), before);
        assert!(heard(&world, node).is_empty());
        assert_eq!(holder(&world, node), None);
    }
}

/// Moderators judge others who are in, and nobody who is not.
#[test]
fn strangers_and_oneself_cannot_be_thrown_out() {
    let mut world = room(1, 8, 8);
    act(&mut world, 0, |engine, now| engine.leave(ROOM, now)).unwrap();
    let guard = || {
        let set = AuthoritySet::new(ROOM, 0, Policy::Open, AuthorityLimits::default());
        Guard::new().authority(set)
    };
    act(&mut world, 0, |engine, now| engine.create_group(ROOM, GroupOptions::new(), guard(), now)).unwrap();
    world.add(|birth| {
        let mut engine = engine(&birth);
        engine.join_group(ROOM, JoinGroupOptions::through([0]), guard(), birth.now).unwrap();
        engine
    });
    world.run_for(Duration::from_secs(1));
    let before = world.host(0).unwrap().roster_fingerprint(ROOM);
    assert!(before.is_some() && roster(&world, 0) == [0, 1]);
    let kick = |world: &mut Room, by, peer| act(world, by, |engine, now| engine.kick(ROOM, peer, now));
    assert_eq!(kick(&mut world, 0, 9), Err(CommandError::UnknownParticipant));
    assert_eq!(kick(&mut world, 0, 0), Err(CommandError::OwnName));
    let ban =
        |world: &mut Room, by, peer| act(world, by, |engine, now| engine.set_banned(ROOM, peer, true, now));
    assert_eq!(ban(&mut world, 0, 0), Err(CommandError::OwnName));
    assert!(kick(&mut world, 1, 0).is_err() && ban(&mut world, 1, 0).is_err(), "1 is no moderator");
    world.run_for(Duration::from_secs(1));
    for node in [0, 1] {
        assert_eq!(world.host(node).unwrap().roster_fingerprint(ROOM), before, "node {node}");
    }
}

#[test]
fn groups_that_cannot_work_are_not_begun() {
    let mut world = room(1, 8, 3);
    let other = SwarmId::from_name("other");
    act(&mut world, 0, |engine: &mut Engine<NodeId>, now| {
        let create = |engine: &mut Engine<NodeId>, change: fn(&mut GroupOptions)| {
            let mut options = GroupOptions::new();
            change(&mut options);
            engine.create_group(other, options, Guard::new(), now)
        };
        let out = |refused, wanted| matches!(refused, Err(CommandError::OutOfRange { field, .. }) if field == wanted);
        assert!(out(create(engine, |options| options.participants_max = 0), "participants_max"));
        assert!(out(create(engine, |options| options.participants_max = 1 << 20), "participants_max"));
        assert!(out(create(engine, |options| options.metadata_bytes_max = 1 << 20), "metadata_bytes_max"));
        let join = |engine: &mut Engine<NodeId>, contacts: Vec<NodeId>| {
            engine.join_group(other, JoinGroupOptions::through(contacts), Guard::new(), now)
        };
        assert_eq!(join(engine, vec![]), Err(CommandError::NoContacts));
        assert_eq!(join(engine, vec![0]), Err(CommandError::OwnName));
        assert!(matches!(join(engine, (1..100).collect()), Err(CommandError::TooManyPeers { .. })));
        let again = engine.create_group(ROOM, GroupOptions::new(), Guard::new(), now);
        assert_eq!(again, Err(CommandError::AlreadyJoined(ROOM)));
        engine.join_topic(other, TopicOptions::first(), now).unwrap();
        assert_eq!(engine.claim_screen(other, now), Err(CommandError::NotGroup(other)));
    });
}

#[test]
fn too_many_messages_in_waiting_are_refused() {
    let mut world = room(2, 8, 4);
    world.crash(1);
    world.run_for(Duration::from_secs(4));
    let results: Vec<_> = (0..1_100).map(|_| send(&mut world, 0, GroupTarget::One(1), 100)).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1_024);
    let full = Err(CommandError::TooManyMessages { waiting: 1_024, bytes: 102_400 });
    assert_eq!(results[1_024], full);
}

fn profile() -> impl Strategy<Value = Profile<u64>> {
    let stamp = || 0u64..1 << 50;
    let handover =
        (any::<u64>(), stamp(), stamp()).prop_map(|(to, claim_us, at_us)| Handover { to, claim_us, at_us });
    let says = (any::<u64>(), stamp(), stamp());
    let media = (any::<u32>(), any::<u32>(), any::<u8>(), stamp(), says).prop_map(
        |(audio_openings, video_openings, voice, turn_us, (upload_bytes_per_s, screen_us, relay_us))| {
            MediaProfile {
                audio_openings,
                video_openings,
                voice,
                turn_us,
                upload_bytes_per_s,
                screen_us,
                relay_us,
            }
        },
    );
    let some = (stamp(), 0u8..32, prop::option::of(stamp()), prop::option::of(handover));
    (some, stamp(), prop::collection::vec(any::<u8>(), 0..300), prop::option::of(media)).prop_map(
        |((joined_us, switches, claim_us, handover), taken_us, metadata, media)| Profile {
            joined_us,
            switches,
            claim_us,
            handover,
            taken_us,
            media,
            metadata: metadata.into(),
        },
    )
}

fn entry() -> impl Strategy<Value = RosterEntry<u64>> {
    (any::<u64>(), any::<u32>(), any::<u32>(), 0u8..5, profile()).prop_map(
        |(peer, incarnation, version, status, profile)| RosterEntry {
            peer,
            incarnation,
            version,
            status,
            profile: (status < 2).then_some(profile),
            signature: if status < 2 { Bytes::from_static(b"signed") } else { Bytes::new() },
        },
    )
}

fn message() -> impl Strategy<Value = GroupMessage<u64>> {
    let verdict = (any::<u64>(), any::<u64>(), 0u64..1 << 50, prop::option::of(any::<u32>()), any::<bool>())
        .prop_map(|(peer, by, at_us, out, banned)| Verdict {
            peer,
            by,
            at_us,
            out,
            banned,
            signature: Bytes::new(),
        });
    let target =
        |number: u64| (any::<u64>(), 0..number).prop_map(|(peer, after)| DirectedTarget { peer, after });
    let directed = (1u64..1 << 40).prop_flat_map(move |number| {
        let targets = prop::collection::vec(target(number), 1..20);
        (
            any::<u64>(),
            any::<u32>(),
            any::<bool>(),
            any::<bool>(),
            targets,
            prop::collection::vec(any::<u8>(), 0..200),
        )
            .prop_map(move |(origin, incarnation, relayed, many, targets, body)| {
                let body = body.into();
                GroupMessage::Directed(Directed { origin, incarnation, number, relayed, many, targets, body })
            })
    });
    let beat =
        (0u64..1 << 50, any::<u64>(), any::<bool>(), prop::collection::vec(any::<(u64, u16)>(), 0..10))
            .prop_map(|(clock_us, fingerprint, asks, neighbors)| {
                GroupMessage::Beat(Beat { swarm: ROOM, clock_us, fingerprint, asks, neighbors })
            });
    let welcome = (any::<u32>(), any::<u16>(), 0u64..1 << 50, any::<u32>(), prop::option::of(0u64..1 << 50))
        .prop_map(|(participants_max, metadata_bytes_max, clock_us, incarnation, joined_us)| {
            GroupMessage::Welcome(Welcome {
                swarm: ROOM,
                participants_max,
                metadata_bytes_max,
                clock_us,
                incarnation,
                joined_us,
            })
        });
    let ack = (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
        |(origin, incarnation, number, by, relayed)| {
            GroupMessage::Ack(Ack { origin, incarnation, number, by, relayed })
        },
    );
    let (entries, verdicts) = (prop::collection::vec(entry(), 0..6), prop::collection::vec(verdict, 0..4));
    prop_oneof![
        any::<u32>().prop_map(|incarnation| GroupMessage::Join { swarm: ROOM, incarnation }),
        welcome,
        (0u8..2).prop_map(|reason| GroupMessage::Refused { reason }),
        (entries, verdicts).prop_map(|(entries, verdicts)| GroupMessage::Roster { entries, verdicts }),
        beat,
        prop::collection::vec(any::<u32>(), 64).prop_map(|parts| GroupMessage::Digest { parts }),
        any::<u64>().prop_map(|parts| GroupMessage::WantRoster { parts }),
        directed,
        ack,
    ]
}

fn frame(messages: &[GroupMessage<u64>]) -> Bytes {
    let mut writer = FrameWriter::new(1_200);
    for message in messages {
        writer.push(ROOM.tag(), &Message::Group(message.clone()), Instant::ZERO);
    }
    writer.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn messages_come_back_as_they_were(messages in prop::collection::vec(message(), 1..5)) {
        let frame = frame(&messages);
        let sizes: usize = messages.iter().map(|message| message_bytes_max(&Message::Group(message.clone()))).sum();
        prop_assert!(frame.len() <= 1 + sizes);
        let mut reader = FrameReader::new(&frame, Instant::ZERO).unwrap();
        for message in messages {
            let (tag, back) = reader.next::<u64>().unwrap().unwrap();
            prop_assert_eq!((tag, back), (Some(ROOM.tag()), Message::Group(message)));
        }
        prop_assert!(reader.next::<u64>().is_none());
    }

    #[test]
    fn every_cut_is_noticed(message in message(), cut in any::<prop::sample::Index>()) {
        let frame = frame(&[message]);
        let cut = 2 + cut.index(frame.len() - 2);
        let part = frame.slice(..cut);
        let mut reader = FrameReader::new(&part, Instant::ZERO).unwrap();
        let read = reader.next::<u64>();
        prop_assert!(matches!(read, Some(Err(WireError::Truncated))), "{read:?}");
    }

    /// Whatever participants and strangers send, an engine neither panics nor loses its place.
    #[test]
    fn nonsense_does_no_harm(
        messages in prop::collection::vec((0u64..6, message()), 1..30),
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut world = room(3, 8, 6);
        for (from, message) in messages {
            act(&mut world, 1, |engine, now| {
                let frame = frame(&[message]);
                engine.handle_input(Input::Received { from: if from == 1 { 7 } else { from }, frame }, now);
            });
        }
        let mut bytes = vec![1, 40 + noise.len() as u8 % 9];
        bytes.extend(ROOM.tag().0.to_le_bytes());
        bytes.extend(noise);
        let noise = Bytes::from(bytes);
        act(&mut world, 1, |engine, now| {
            engine.handle_input(Input::Received { from: 2, frame: noise }, now);
        });
        world.run_for(Duration::from_secs(5));
    }
}
