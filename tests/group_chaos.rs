//! Groups under everything at once: joins, farewells, crashes, restarts, partitions, toggles, claims and messages. Whatever
//! happened, in the end everybody who is up agrees, and nothing was delivered twice or out of order.

mod group_room;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use group_room::*;
use suffuse::sim::NodeId;
use suffuse::{Audience, GroupEvent, GroupTarget, ParticipantChange};

/// A number that follows from the seed and the place it is used at.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % bound
    }
}

/// Who is in. A newcomer whose contact went before it answered waits outside.
fn up(world: &Room) -> Vec<NodeId> {
    let is_in =
        |node: NodeId| world.host(node).unwrap().group_roster(ROOM).is_ok_and(|roster| !roster.is_empty());
    world.hosts().map(|(node, _)| node).filter(|&node| is_in(node)).collect()
}

fn play(seed: u64) -> Room {
    let mut dice = Dice(seed);
    let mut world = room(6, 64, seed);
    let mut split = false;
    let mut lives: BTreeMap<NodeId, u64> = BTreeMap::new();
    for step in 0..60u64 {
        let inside = up(&world);
        let node = inside[dice.below(inside.len() as u64) as usize];
        let other = inside[dice.below(inside.len() as u64) as usize];
        match dice.below(14) {
            0 if inside.len() < 12 => {
                world.add(|birth| joiner(&birth, node));
            }
            1 if inside.len() > 4 => world.crash(node),
            2 if inside.len() > 4 => {
                world.leave(node, ms(300), |engine, now| engine.leave(ROOM, now).unwrap())
            }
            3 if node != other => {
                *lives.entry(node).or_default() += 1;
                world.restart(node, |birth| joiner(&birth, other));
            }
            4 => {
                split = !split;
                let cut = dice.below(3);
                if split { world.partition(|node| u8::from(node % 3 == cut)) } else { world.heal() }
            }
            5 | 6 => {
                let change = ParticipantChange::default().video(dice.below(2) == 0).audio(dice.below(2) == 0);
                act(&mut world, node, |engine, now| engine.set_participant(ROOM, change, now).is_ok());
            }
            7 | 8 => {
                act(&mut world, node, |engine, now| engine.claim_screen(ROOM, now).is_ok());
            }
            9 => {
                act(&mut world, node, |engine, now| engine.release_screen(ROOM, now).is_ok());
            }
            10 => {
                act(&mut world, node, |engine, now| engine.hand_over_screen(ROOM, other, now).is_ok());
            }
            11 | 12 => {
                let target = GroupTarget::Everybody;
                let text = format!("{step}").into_bytes().into();
                act(&mut world, node, |engine, now| {
                    engine.send_group(ROOM, target, text, Default::default(), now).is_ok()
                });
            }
            _ => {
                let text = format!("{step}").into_bytes().into();
                act(&mut world, node, |engine, now| {
                    engine.send_group(ROOM, GroupTarget::One(other), text, Default::default(), now).is_ok()
                });
            }
        }
        let pause = dice.below(1_000);
        world.run_for(ms(pause));
    }
    world.heal();
    world.run_for(Duration::from_secs(30));
    world
}

/// Each life of each node hears each message once, and those of one sender and kind in its order. Messages are numbered by
/// the steps in which they were sent.
fn check_messages(world: &Room, seed: u64) -> usize {
    let mut heard: BTreeMap<(NodeId, NodeId, Kind), u64> = BTreeMap::new();
    let mut seen: BTreeSet<(NodeId, NodeId, u64)> = BTreeSet::new();
    for (node, at, event) in &world.observer().events {
        match event {
            GroupEvent::Admitted { .. } => {
                heard.retain(|(receiver, _, _), _| receiver != node);
                seen.retain(|(receiver, _, _)| receiver != node);
            }
            GroupEvent::Message(mail) => {
                let number: u64 = std::str::from_utf8(&mail.payload).unwrap().parse().unwrap();
                let audience = Kind::from(mail.audience);
                assert!(
                    seen.insert((*node, mail.from, number)),
                    "seed {seed}: {node} heard {number} twice, at {at:?}"
                );
                let newest = heard.entry((*node, mail.from, audience)).or_insert(number);
                assert!(
                    *newest <= number,
                    "seed {seed}: {node} heard {number} after {newest} of {}",
                    mail.from
                );
                *newest = number;
            }
            _ => {}
        }
    }
    seen.len()
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Everybody,
    Some,
}

impl From<Audience> for Kind {
    fn from(audience: Audience) -> Self {
        if audience == Audience::Everybody { Self::Everybody } else { Self::Some }
    }
}

#[test]
fn in_the_end_everybody_agrees() {
    let mut heard = 0;
    for seed in 0..80 {
        let world = play(seed);
        let inside = up(&world);
        let first = roster(&world, inside[0]);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, inside, "seed {seed}: who is in is in the roster");
        for &node in &inside {
            assert_eq!(roster(&world, node), first, "seed {seed}, node {node}");
            assert_eq!(holder(&world, node), holder(&world, inside[0]), "seed {seed}, node {node}");
        }
        let print = |node: NodeId| world.host(node).unwrap().roster_fingerprint(ROOM);
        assert!(inside.iter().all(|&node| print(node) == print(inside[0])), "seed {seed}");
        heard += check_messages(&world, seed);
    }
    assert!(heard > 1_000, "messages flowed: {heard}");
}
