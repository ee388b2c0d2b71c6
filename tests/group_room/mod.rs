//! A room on a virtual network.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{Birth, NetworkConfig, NodeId, Observer, World};
use suffuse::{
    Audience, Config, Engine, Epoch, Event, GroupEvent, GroupMail, GroupOptions, GroupSendOptions,
    GroupTarget, Guard, Instant, JoinGroupOptions, Seed, SwarmId,
};

pub(crate) const ROOM: SwarmId = SwarmId::from_name("room");

#[derive(Default)]
pub(crate) struct News {
    pub(crate) events: Vec<(NodeId, Instant, GroupEvent<NodeId>)>,
}

impl Observer for News {
    fn event(&mut self, node: NodeId, now: Instant, event: &Event<NodeId>) {
        if let Event::Group { swarm: ROOM, event } = event {
            self.events.push((node, now, event.clone()));
        }
    }
}

pub(crate) type Room = World<Engine<NodeId>, News>;

pub(crate) fn engine(birth: &Birth) -> Engine<NodeId> {
    let mut config = Config::small();
    config.epoch = Epoch(birth.life);
    Engine::new(birth.node, config, birth.seed, birth.now).unwrap()
}

pub(crate) fn joiner(birth: &Birth, contact: NodeId) -> Engine<NodeId> {
    let mut engine = engine(birth);
    engine.join_group(ROOM, JoinGroupOptions::through([contact]), Guard::new(), birth.now).unwrap();
    engine
}

/// `count` participants in a room for `max`, on links with 1 % loss.
pub(crate) fn room(count: u64, max: usize, seed: u64) -> Room {
    let mut world = World::with_observer(network(), Seed::from_u64(seed), News::default());
    world.add(|birth| {
        let mut engine = engine(&birth);
        let mut options = GroupOptions::new();
        options.participants_max = max;
        engine.create_group(ROOM, options, Guard::new(), birth.now).unwrap();
        engine
    });
    for _ in 1..count {
        world.run_for(ms(20));
        world.add(|birth| joiner(&birth, 0));
    }
    world.run_for(Duration::from_secs(2));
    world
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn roster(world: &Room, node: NodeId) -> Vec<NodeId> {
    let roster = world.host(node).unwrap().group_roster(ROOM).unwrap();
    roster.iter().map(|participant| participant.peer).collect()
}

pub(crate) fn holder(world: &Room, node: NodeId) -> Option<NodeId> {
    let roster = world.host(node).unwrap().group_roster(ROOM).unwrap();
    roster.iter().find(|participant| participant.screen).map(|participant| participant.peer)
}

pub(crate) fn act<R>(
    world: &mut Room,
    node: NodeId,
    command: impl FnOnce(&mut Engine<NodeId>, Instant) -> R,
) -> R {
    world.with_host(node, command).unwrap()
}

pub(crate) fn say(world: &mut Room, node: NodeId, target: GroupTarget<NodeId>, text: &str) {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    act(world, node, |engine, now| {
        engine.send_group(ROOM, target, payload, GroupSendOptions::default(), now)
    })
    .unwrap();
}

pub(crate) fn heard(world: &Room, node: NodeId) -> Vec<(NodeId, Audience, String)> {
    let mails = world.observer().events.iter().filter_map(|(at, _, event)| match event {
        GroupEvent::Message(GroupMail { from, audience, payload }) if *at == node => {
            Some((*from, *audience, String::from_utf8(payload.to_vec()).unwrap()))
        }
        _ => None,
    });
    mails.collect()
}

pub(crate) fn has(world: &Room, node: NodeId, wanted: impl Fn(&GroupEvent<NodeId>) -> bool) -> bool {
    world.observer().events.iter().any(|(at, _, event)| *at == node && wanted(event))
}

/// Links of 10 to 50 ms with 1 % loss.
fn network() -> NetworkConfig {
    let mut network = NetworkConfig::default();
    network.loss_ppm = 10_000;
    network
}

/// Lets a guard be chosen for each node.
pub(crate) fn guarded_room(count: u64, seed: u64, guard: fn() -> Guard<NodeId>) -> Room {
    let mut world = World::with_observer(network(), Seed::from_u64(seed), News::default());
    world.add(|birth| {
        let mut engine = engine(&birth);
        engine.create_group(ROOM, GroupOptions::new(), guard(), birth.now).unwrap();
        engine
    });
    for _ in 1..count {
        world.run_for(ms(20));
        world.add(|birth| guarded_joiner(&birth, 0, guard));
    }
    world.run_for(Duration::from_secs(2));
    world
}

pub(crate) fn guarded_joiner(birth: &Birth, contact: NodeId, guard: fn() -> Guard<NodeId>) -> Engine<NodeId> {
    let mut engine = engine(birth);
    engine.join_group(ROOM, JoinGroupOptions::through([contact]), guard(), birth.now).unwrap();
    engine
}

pub(crate) fn everybody_agrees(world: &Room) -> bool {
    let mut prints = world.hosts().filter_map(|(_, host)| host.roster_fingerprint(ROOM));
    let first = prints.next();
    prints.all(|print| Some(print) == first)
}
