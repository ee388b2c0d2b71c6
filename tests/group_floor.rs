//! Two who show their screen at the same time: everybody names the same one of them, always.

mod group_room;

use std::time::Duration;

use group_room::*;
use suffuse::sim::NodeId;
use suffuse::{CommandError, GroupEvent};

const NODES: u64 = 6;
const ROUNDS: u64 = 10;

/// A number that follows from the seed and the place it is used at.
fn draw(seed: u64, place: u64, below: u64) -> u64 {
    let mixed = (seed * 31 + place).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % below
}

/// Claims of two or three at most 100 ms apart, in every fourth round over a network that is broken for a moment.
fn round(world: &mut Room, seed: u64) {
    let claimers: Vec<NodeId> = {
        let first = draw(seed, 1, NODES);
        let mut others = vec![first, (first + 1 + draw(seed, 2, NODES - 1)) % NODES];
        if draw(seed, 3, 3) == 0 {
            others.push((first + 1 + draw(seed, 4, NODES - 1)) % NODES);
        }
        others
    };
    if seed % 4 == 0 {
        world.partition(|node| u8::from(node % 2 == draw(seed, 5, 2)));
    }
    let before = world.observer().events.len();
    let mut claimed = Vec::new();
    for (place, &node) in claimers.iter().enumerate() {
        match act(world, node, |engine, now| engine.claim_screen(ROOM, now)) {
            Ok(()) => claimed.push(node),
            Err(error) => assert_eq!(error, CommandError::ScreenTaken, "seed {seed}"),
        }
        world.run_for(ms(draw(seed, 6 + place as u64, 100)));
    }
    world.run_for(ms(500));
    world.heal();
    world.run_for(Duration::from_secs(2));
    let winner = holder(world, 0);
    assert!(winner.is_some_and(|winner| claimed.contains(&winner)), "seed {seed}: {winner:?} of {claimed:?}");
    for node in 0..NODES {
        assert_eq!(holder(world, node), winner, "seed {seed}, node {node}");
    }
    claimed.sort_unstable();
    claimed.dedup();
    for &loser in claimed.iter().filter(|&&node| Some(node) != winner) {
        let told = world.observer().events[before..]
            .iter()
            .any(|(at, _, event)| *at == loser && matches!(event, GroupEvent::ScreenLost { .. }));
        assert!(told, "seed {seed}: {loser} was not told");
    }
    act(world, winner.unwrap(), |engine, now| engine.release_screen(ROOM, now)).unwrap();
    world.run_for(ms(600));
    assert!((0..NODES).all(|node| holder(world, node).is_none()), "seed {seed}: not free again");
}

#[test]
fn a_thousand_seeds_have_one_winner_each() {
    for seed in 0..1_000 / ROUNDS {
        let mut world = room(NODES, 16, seed);
        for number in 0..ROUNDS {
            round(&mut world, seed * ROUNDS + number);
        }
    }
}

#[test]
fn the_winner_is_told_too() {
    let mut world = room(4, 16, 7);
    act(&mut world, 1, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    act(&mut world, 2, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    world.run_for(Duration::from_secs(1));
    let winner = holder(&world, 0).unwrap();
    let loser = 3 - winner;
    assert!(has(&world, winner, |event| *event == GroupEvent::ScreenWon { over: loser }));
    assert!(has(&world, loser, |event| *event == GroupEvent::ScreenLost { to: winner }));
}

#[test]
fn leaving_frees_the_screen() {
    let mut world = room(4, 16, 8);
    act(&mut world, 1, |engine, now| engine.claim_screen(ROOM, now)).unwrap();
    world.run_for(ms(500));
    world.leave(1, ms(500), |engine, now| engine.leave(ROOM, now).unwrap());
    world.run_for(ms(500));
    assert!([0, 2, 3].iter().all(|&node| holder(&world, node).is_none()));
}
