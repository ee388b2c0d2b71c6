//! Groups: who is in, what they say of themselves, who shows the screen, and messages.

mod group_room;

use std::time::Duration;

use group_room::*;
use suffuse::sim::NodeId;
use suffuse::{Audience, DeliveryRoute, GroupEvent, GroupTarget, ParticipantChange};

#[test]
fn three_join_and_count_to_three() {
    let world = room(3, 8, 1);
    for node in 0..3 {
        assert_eq!(roster(&world, node), [0, 1, 2], "node {node}");
    }
    let prints: Vec<_> = world.hosts().map(|(_, host)| host.roster_fingerprint(ROOM)).collect();
    assert!(prints.iter().all(|print| *print == prints[0]));
}

#[test]
fn toggles_are_seen_by_everybody() {
    let mut world = room(5, 8, 2);
    let change = ParticipantChange::default().video(true).hand_raised(true).metadata("Carl");
    act(&mut world, 3, |engine, now| engine.set_participant(ROOM, change, now)).unwrap();
    world.run_for(ms(500));
    for node in 0..5 {
        let roster = world.host(node).unwrap().group_roster(ROOM).unwrap();
        let carl = roster.iter().find(|participant| participant.peer == 3).unwrap();
        assert!(carl.video && carl.hand_raised && !carl.audio);
        assert_eq!(carl.metadata, "Carl");
    }
}

#[test]
fn one_screen_at_a_time_and_free_again_after_stop() {
    let mut world = room(4, 8, 3);
    act(&mut world, 2, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    world.run_for(ms(500));
    assert!((0..4).all(|node| holder(&world, node) == Some(2)));
    assert!(act(&mut world, 1, |engine, now| engine.claim_screen(ROOM, now)).is_err());
    act(&mut world, 2, |engine, now| engine.release_screen(ROOM, now)).unwrap();
    world.run_for(ms(500));
    assert!((0..4).all(|node| holder(&world, node).is_none()));
    act(&mut world, 1, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    act(&mut world, 1, |engine, now| engine.hand_over_screen(ROOM, 3, now)).unwrap();
    world.run_for(ms(500));
    assert!((0..4).all(|node| holder(&world, node) == Some(3)));
    world.crash(3);
    world.run_for(Duration::from_secs(4));
    assert!((0..3).all(|node| holder(&world, node).is_none()), "a crash frees the screen");
}

#[test]
fn a_full_group_refuses_and_lets_a_present_member_in_again() {
    let mut world = room(3, 3, 4);
    let late = world.add(|birth| joiner(&birth, 1));
    world.run_for(Duration::from_secs(1));
    assert!(has(&world, late, |event| matches!(event, GroupEvent::Refused { .. })));
    assert!(world.host(late).unwrap().group_roster(ROOM).is_err(), "nothing is left of the attempt");
    world.restart(2, |birth| joiner(&birth, 0));
    world.run_for(Duration::from_secs(1));
    assert!((0..3).all(|node| roster(&world, node).len() == 3));
    assert!(!has(&world, 2, |event| matches!(event, GroupEvent::Refused { .. })));
}

#[test]
fn a_crashed_participant_is_gone_everywhere_within_three_seconds() {
    for seed in 0..10 {
        let mut world = room(16, 32, seed);
        assert!((0..16).all(|node| roster(&world, node).len() == 16), "seed {seed}");
        world.crash(7);
        world.run_for(Duration::from_secs(3));
        for node in (0..16).filter(|&node| node != 7) {
            assert_eq!(roster(&world, node).len(), 15, "seed {seed}, node {node}");
        }
    }
}

#[test]
fn messages_reach_everybody_some_and_one() {
    let mut world = room(8, 16, 5);
    for number in 0..5 {
        say(&mut world, 1, GroupTarget::Everybody, &format!("all {number}"));
        say(&mut world, 1, GroupTarget::Some(vec![2, 5]), &format!("some {number}"));
        say(&mut world, 1, GroupTarget::One(6), &format!("one {number}"));
    }
    world.run_for(Duration::from_secs(3));
    for node in (0..8).filter(|&node| node != 1) {
        let heard = heard(&world, node);
        let of = |audience| -> Vec<String> {
            heard.iter().filter(|mail| mail.1 == audience).map(|mail| mail.2.clone()).collect()
        };
        let numbered =
            |name: &str| -> Vec<String> { (0..5).map(|number| format!("{name} {number}")).collect() };
        assert_eq!(of(Audience::Everybody), numbered("all"), "node {node}");
        let some = if [2, 5].contains(&node) { numbered("some") } else { Vec::new() };
        assert_eq!(of(Audience::Some), some);
        assert_eq!(of(Audience::One), if node == 6 { numbered("one") } else { Vec::new() });
    }
    let told = |event: &GroupEvent<NodeId>| {
        matches!(event, GroupEvent::MessageDelivered { to: 6, route: DeliveryRoute::Direct, .. })
    };
    assert!(has(&world, 1, told));
}

#[test]
fn both_sides_of_a_partition_talk_and_merge_without_loss() {
    for seed in 0..5 {
        let mut world = room(16, 32, 100 + seed);
        world.partition(|node| u8::from(node % 2 == 1));
        let mut expected = vec![Vec::new(); 16];
        for number in 0..100 {
            world.run_for(ms(200));
            let from = number % 16;
            say(&mut world, from, GroupTarget::Everybody, &format!("{from}:{number}"));
            for node in (0..16).filter(|&node| node != from) {
                expected[node as usize].push(format!("{from}:{number}"));
            }
        }
        assert_eq!(roster(&world, 0).len(), 8, "seed {seed}");
        world.heal();
        world.run_for(Duration::from_secs(5));
        for node in 0..16 {
            assert_eq!(roster(&world, node).len(), 16, "seed {seed}, node {node}");
        }
        world.run_for(Duration::from_secs(5));
        for node in 0..16 {
            let heard = heard(&world, node);
            let mut texts: Vec<_> = heard.iter().map(|mail| mail.2.clone()).collect();
            for sender in 0..16 {
                let of: Vec<_> =
                    heard.iter().filter(|mail| mail.0 == sender).map(|mail| mail.2.clone()).collect();
                let number = |text: &String| text.split(':').nth(1).unwrap().parse::<u64>().unwrap();
                assert!(of.is_sorted_by_key(number), "seed {seed}: node {node} heard {of:?}");
            }
            texts.sort();
            expected[node as usize].sort();
            assert_eq!(texts, expected[node as usize], "seed {seed}, node {node}");
        }
    }
}
