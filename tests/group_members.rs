//! Groups: who comes back, who is put out, who is reached on which way.

mod group_room;

use std::time::Duration;

use bytes::Bytes;
use group_room::*;
use suffuse::authority::{AuthorityError, AuthorityLimits, AuthoritySet, Policy};
use suffuse::sim::{Fault, NodeId};
use suffuse::wire::{FrameWriter, GroupMessage, Message, Profile, RosterEntry};
use suffuse::{
    CommandError, Config, DeliveryRoute, Departure, Engine, GroupEvent, GroupOptions, GroupRefusal,
    GroupSendOptions, GroupTarget, Guard, Input, Instant, JoinGroupOptions, ParticipantChange, Seed,
    Signature, Signer, Verifier,
};

/// Founder 0 and moderator 1; everybody may talk.
fn moderated() -> Guard<NodeId> {
    let mut set = AuthoritySet::new(ROOM, 0, Policy::Open, AuthorityLimits::default());
    set.appoint(0, 1, Instant::ZERO, &mut Vec::new()).unwrap();
    Guard::new().authority(set)
}

/// No frame of `node` reaches `hidden`.
fn hide(world: &mut Room, node: NodeId, hidden: NodeId) {
    let filter = move |_, to, frame| (to != hidden).then_some(frame);
    world.set_fault(node, Some(Fault::Filter(Box::new(filter))));
}

#[test]
fn whoever_begins_anew_keeps_nothing_of_its_old_life() {
    for seed in 0..10 {
        let mut world = room(6, 8, seed);
        let change = ParticipantChange::default().video(true).metadata("old");
        act(&mut world, 4, |engine, now| engine.set_participant(ROOM, change, now)).unwrap();
        act(&mut world, 4, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
        world.run_for(ms(500));
        world.restart(4, |birth| joiner(&birth, 2));
        world.run_for(Duration::from_secs(1));
        for node in 0..6 {
            let roster = world.host(node).unwrap().group_roster(ROOM).unwrap();
            let four = roster.iter().find(|participant| participant.peer == 4).unwrap();
            assert!(!four.video && !four.screen && four.metadata.is_empty(), "seed {seed}, node {node}");
            assert_eq!(roster.len(), 6);
        }
        world.run_for(Duration::from_secs(4));
        assert!(everybody_agrees(&world) && roster(&world, 0).len() == 6, "seed {seed}");
        say(&mut world, 4, GroupTarget::Everybody, "new");
        say(&mut world, 4, GroupTarget::One(0), "just you");
        world.run_for(Duration::from_secs(1));
        assert_eq!(heard(&world, 0).len(), 2, "seed {seed}");
    }
}

#[test]
fn leaving_forgets_everything() {
    let mut world = room(3, 8, 1);
    let change = ParticipantChange::default().audio(true);
    act(&mut world, 2, |engine, now| engine.set_participant(ROOM, change, now)).unwrap();
    act(&mut world, 2, |engine, now| engine.leave(ROOM, now)).unwrap();
    world.run_for(ms(300));
    assert_eq!(roster(&world, 0), [0, 1]);
    assert!(has(&world, 0, |event| {
        *event == GroupEvent::ParticipantLeft { peer: 2, reason: Departure::Left }
    }));
    let gone = act(&mut world, 2, |engine, _| engine.group_roster(ROOM));
    assert_eq!(gone, Err(CommandError::UnknownSwarm(ROOM)));
    act(&mut world, 2, |engine, now| {
        engine.join_group(ROOM, JoinGroupOptions::through([1]), Guard::new(), now)
    })
    .unwrap();
    world.run_for(Duration::from_secs(1));
    let roster = world.host(0).unwrap().group_roster(ROOM).unwrap();
    let two = roster.iter().find(|participant| participant.peer == 2).unwrap();
    assert!(!two.audio);
}

#[test]
fn of_too_many_the_last_have_to_go_everywhere() {
    for seed in 0..10 {
        let mut world = room(6, 8, seed);
        let side = |node: NodeId| u8::from(node % 2 == 1);
        world.partition(side);
        world.run_for(Duration::from_secs(4));
        let mut inside = roster(&world, 0);
        inside.sort_unstable();
        assert_eq!(inside, [0, 2, 4], "seed {seed}");
        for _ in 0..4 {
            for contact in [0, 1] {
                let node = world.add(|birth| joiner(&birth, contact));
                assert_eq!(side(node), contact as u8);
                world.partition(side);
                world.run_for(ms(150));
            }
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!((roster(&world, 0).len(), roster(&world, 1).len()), (7, 7), "seed {seed}");
        world.heal();
        world.run_for(Duration::from_secs(6));
        let stayed = roster(&world, 0);
        assert_eq!(stayed.len(), 8, "seed {seed}: {stayed:?}");
        assert!((0..6).all(|node| stayed.contains(&node)), "seed {seed}: the first stay");
        for node in 0..14 {
            let full = GroupEvent::Removed { reason: GroupRefusal::Full };
            if stayed.contains(&node) {
                assert_eq!(roster(&world, node), stayed, "seed {seed}, node {node}");
            } else {
                assert!(has(&world, node, |event| *event == full), "seed {seed}, node {node} was not told");
                assert!(world.host(node).unwrap().group_roster(ROOM).is_err());
            }
        }
    }
}

#[test]
fn moderators_throw_out_and_ban() {
    let mut world = guarded_room(6, 3, moderated);
    let refused = act(&mut world, 4, |engine, now| engine.kick(ROOM, 3, now));
    assert_eq!(refused, Err(CommandError::Authority(AuthorityError::NotModerator)));
    let refused = act(&mut world, 1, |engine, now| engine.kick(ROOM, 0, now));
    assert_eq!(refused, Err(CommandError::Authority(AuthorityError::Founder)));
    act(&mut world, 1, |engine, now| engine.kick(ROOM, 3, now)).unwrap();
    act(&mut world, 0, |engine, now| engine.set_banned(ROOM, 4, true, now)).unwrap();
    world.run_for(ms(600));
    for node in [0, 1, 2, 5] {
        assert_eq!(roster(&world, node), [0, 1, 2, 5], "node {node}");
    }
    assert!(has(&world, 3, |event| *event == GroupEvent::Removed { reason: GroupRefusal::ThrownOut }));
    assert!(has(&world, 4, |event| *event == GroupEvent::Removed { reason: GroupRefusal::Banned }));
    let reason = Departure::ThrownOut;
    assert!(has(&world, 5, |event| *event == GroupEvent::ParticipantLeft { peer: 3, reason }));

    world.restart(3, |birth| guarded_joiner(&birth, 2, moderated));
    world.restart(4, |birth| guarded_joiner(&birth, 2, moderated));
    world.run_for(Duration::from_secs(1));
    assert!(roster(&world, 0).contains(&3), "who was thrown out may come again");
    assert!(!roster(&world, 0).contains(&4));
    assert!(has(&world, 4, |event| *event == GroupEvent::Refused { reason: GroupRefusal::Banned }));

    let refused = act(&mut world, 1, |engine, now| engine.set_banned(ROOM, 4, false, now));
    assert_eq!(refused, Err(CommandError::Authority(AuthorityError::DecidedByFounder)));
    act(&mut world, 0, |engine, now| engine.set_banned(ROOM, 4, false, now)).unwrap();
    world.run_for(ms(600));
    world.restart(4, |birth| guarded_joiner(&birth, 5, moderated));
    world.run_for(Duration::from_secs(1));
    assert_eq!(roster(&world, 0).len(), 6);
    assert!(everybody_agrees(&world));
}

#[test]
fn who_cannot_be_reached_directly_is_reached_through_another() {
    for seed in 0..5 {
        let mut world = room(4, 8, seed);
        hide(&mut world, 1, 2);
        hide(&mut world, 2, 1);
        world.run_for(Duration::from_secs(6));
        assert!((0..4).all(|node| roster(&world, node).len() == 4), "seed {seed}: they see each other still");
        for number in 0..5 {
            say(&mut world, 1, GroupTarget::One(2), &format!("{number}"));
        }
        world.run_for(Duration::from_secs(3));
        let texts: Vec<_> = heard(&world, 2).into_iter().map(|mail| mail.2).collect();
        assert_eq!(texts, ["0", "1", "2", "3", "4"], "seed {seed}");
        let relayed = |event: &GroupEvent<NodeId>| {
            matches!(event, GroupEvent::MessageDelivered { to: 2, route: DeliveryRoute::Relayed, .. })
        };
        assert_eq!(
            world.observer().events.iter().filter(|(at, _, event)| *at == 1 && relayed(event)).count(),
            5
        );
    }
}

#[test]
fn a_message_waits_for_who_is_away_or_fails_in_time() {
    let mut world = room(4, 8, 5);
    world.partition(|node| u8::from(node == 3));
    world.run_for(Duration::from_secs(4));
    assert_eq!(roster(&world, 0), [0, 1, 2]);
    say(&mut world, 0, GroupTarget::One(3), "later");
    let options = GroupSendOptions::default().deadline(Duration::from_secs(1));
    let short = act(&mut world, 0, |engine, now| {
        engine.send_group(ROOM, GroupTarget::Some(vec![1, 3]), "now".into(), options, now)
    })
    .unwrap();
    world.run_for(Duration::from_secs(2));
    assert!(has(&world, 0, |event| matches!(event, GroupEvent::MessageStored { to: 3, .. })));
    assert!(has(&world, 0, |event| *event == GroupEvent::MessageFailed { id: short, to: 3 }));
    assert_eq!(heard(&world, 1).len(), 1);
    world.heal();
    world.run_for(Duration::from_secs(4));
    let texts: Vec<_> = heard(&world, 3).into_iter().map(|mail| mail.2).collect();
    assert_eq!(texts, ["later"]);
    assert!(has(&world, 0, |event| {
        matches!(event, GroupEvent::MessageDelivered { to: 3, route: DeliveryRoute::Stored, .. })
    }));
}

/// A keyed hash instead of a signature scheme: enough to tell the right key from a wrong one.
struct Key(NodeId);

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Signature {
        let digest = message.iter().fold(self.0 + 77, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
        });
        Signature::new(&digest.to_le_bytes()).unwrap()
    }
}

struct Keys;

impl Verifier<NodeId> for Keys {
    fn verify(&self, signer: &NodeId, message: &[u8], signature: &[u8]) -> bool {
        Key(*signer).sign(message).as_bytes() == signature
    }
}

#[test]
fn in_a_signed_group_nobody_speaks_for_another() {
    let guard = |node| Guard::new().signed(Key(node), Keys);
    let mut world = room(1, 8, 6);
    act(&mut world, 0, |engine, now| engine.leave(ROOM, now)).unwrap();
    act(&mut world, 0, |engine, now| engine.create_group(ROOM, GroupOptions::new(), guard(0), now)).unwrap();
    for node in 1..4 {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::small(), birth.seed, birth.now).unwrap();
            engine.join_group(ROOM, JoinGroupOptions::through([0]), guard(node), birth.now).unwrap();
            engine
        });
    }
    world.run_for(Duration::from_secs(1));
    assert!((0..4).all(|node| roster(&world, node).len() == 4));
    let change = ParticipantChange::default().audio(true);
    act(&mut world, 2, |engine, now| engine.set_participant(ROOM, change, now)).unwrap();
    say(&mut world, 2, GroupTarget::Everybody, "genuine");
    world.run_for(Duration::from_secs(1));
    let audio = |world: &Room| {
        let roster = world.host(0).unwrap().group_roster(ROOM).unwrap();
        roster.iter().find(|participant| participant.peer == 2).unwrap().audio
    };
    assert!(audio(&world));
    assert_eq!(heard(&world, 0).len(), 1);

    // 1 says that 2 has switched off its sound, with a signature of its own.
    let profile = Profile {
        joined_us: 0,
        switches: 0,
        claim_us: Some(1),
        handover: None,
        taken_us: 0,
        media: None,
        metadata: Bytes::new(),
    };
    for signature in [Bytes::new(), Bytes::copy_from_slice(Key(1).sign(b"2").as_bytes())] {
        let profile = Some(profile.clone());
        let entry = RosterEntry { peer: 2u64, incarnation: 9, version: 900, status: 0, profile, signature };
        let message = GroupMessage::Roster { entries: vec![entry], verdicts: Vec::new() };
        let mut writer = FrameWriter::new(1_200);
        writer.push(ROOM.tag(), &Message::Group(message), world.now());
        let frame = writer.finish();
        act(&mut world, 0, |engine, now| engine.handle_input(Input::Received { from: 1, frame }, now));
    }
    assert!(audio(&world) && holder(&world, 0).is_none());
    assert_eq!(world.host(0).unwrap().group_stats(ROOM).unwrap().entries_refused, 2);

    let listener = Guard::new().verified(Keys);
    let mut engine = Engine::new(9u64, Config::small(), Seed::from_u64(9), Instant::ZERO).unwrap();
    let refused = engine.create_group(ROOM, GroupOptions::new(), listener, Instant::ZERO);
    assert_eq!(refused, Err(CommandError::NoSigner));
}

#[test]
fn a_newcomer_whose_first_news_are_lost_tells_them_again() {
    for seed in 0..20 {
        let mut world = room(4, 16, seed);
        world.network_mut().config_mut().loss_ppm = 400_000;
        for contact in 0..4 {
            world.add(|birth| joiner(&birth, contact));
        }
        world.run_for(ms(700));
        world.network_mut().config_mut().loss_ppm = 10_000;
        world.run_for(Duration::from_secs(3));
        for node in 0..8 {
            assert_eq!(roster(&world, node).len(), 8, "seed {seed}, node {node}");
        }
    }
}
