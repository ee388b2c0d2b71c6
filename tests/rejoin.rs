//! A swarm that was left can be joined again: what is published then is not taken for a repetition.

use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{NetworkConfig, NodeId, Observer, World};
use suffuse::{Config, Engine, Event, Instant, PublishOptions, Seed, StateId, SwarmId, TopicOptions};

const SWARM: SwarmId = SwarmId::from_name("rejoin");

#[derive(Default)]
struct Got(Vec<(NodeId, Bytes)>);

impl Observer for Got {
    fn event(&mut self, node: NodeId, _now: Instant, event: &Event<NodeId>) {
        if let Event::Delivered(update) = event {
            self.0.push((node, update.payload.clone()));
        }
    }
}

#[test]
fn what_is_published_after_a_rejoin_reaches_everybody() {
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(1), Got::default());
    for _ in 0..5 {
        world.add(|birth| {
            let mut engine = Engine::new(birth.node, Config::small(), birth.seed, birth.now).unwrap();
            let contact = (birth.node > 0).then_some(0);
            engine.join_topic(SWARM, TopicOptions::through(contact), birth.now).unwrap();
            engine
        });
    }
    world.run_for(Duration::from_secs(3));
    let publish = |engine: &mut Engine<NodeId>, text: &'static str, now| {
        let body = Bytes::from_static(text.as_bytes());
        engine.publish(SWARM, StateId(0), body, PublishOptions::default(), now).unwrap()
    };
    let old = world.with_host(3, |engine, now| publish(engine, "old", now)).unwrap();
    world.run_for(Duration::from_secs(2));
    let new = world.with_host(3, |engine, now| {
        engine.leave(SWARM, now).unwrap();
        engine.join_topic(SWARM, TopicOptions::through([0]), now).unwrap();
        publish(engine, "new 0", now);
        publish(engine, "new 1", now)
    });
    world.run_for(Duration::from_secs(10));
    assert!(new.unwrap().epoch > old.epoch);
    for text in ["old", "new 0", "new 1"] {
        let mut readers: Vec<_> = world
            .observer()
            .0
            .iter()
            .filter(|(_, body)| body == text.as_bytes())
            .map(|(node, _)| *node)
            .collect();
        readers.retain(|&node| node != 3);
        readers.sort_unstable();
        assert_eq!(readers, [0, 1, 2, 4], "{text}");
    }
}
