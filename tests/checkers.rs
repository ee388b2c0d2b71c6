//! Every checker bites: an engine is wrapped in a host that breaks one promise, and the run is found out by the checker of
//! that promise, and by no other.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use suffuse::sim::{
    Birth, Breach, Budget, Caps, Check, Checkers, Complete, ExactlyOnce, Host, NetworkConfig, NodeId,
    NothingForged, Published, World,
};
use suffuse::{
    Class, Config, Engine, Epoch, Event, Input, Instant, LagReason, Output, PublishOptions, Seed, StateId,
    SwarmId, TopicOptions, UpdateId,
};

const SWARM: SwarmId = SwarmId::from_name("broken");
const NODES: u64 = 12;

/// The node that is broken; it is never the publisher.
const BROKEN: NodeId = 5;
const UPLOAD: u64 = 50_000;
const SPAN: Duration = Duration::from_secs(10);

/// How the broken node treats its application or the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Break {
    Nothing,
    DeliversTwice,
    DeliversAfterLagged,
    Alters,
    Invents,
    DeliversOwn,
    Swallows,
    TellsInsteadOfDelivering,
    DeliversLate,
    Floods,
    HidesLostNeighbors,
}

/// An engine, and a host around it that breaks one promise.
struct Wrapped {
    engine: Engine<NodeId>,
    node: NodeId,
    how: Break,
    outputs: VecDeque<Output<NodeId>>,
    late: Option<(Instant, Event<NodeId>)>,
    done: bool,
    now: Instant,
}

impl Wrapped {
    fn new(birth: Birth, how: Break) -> Self {
        let Birth { node, seed, now, .. } = birth;
        let mut config = Config::small();
        config.egress.upload_bytes_per_s = Some(UPLOAD);
        let mut engine = Engine::new(node, config, seed, now).expect("a valid configuration");
        let options = TopicOptions::through((node > 0).then_some(0));
        engine.join_topic(SWARM, options, now).expect("a fresh engine can join");
        let how = if node == BROKEN { how } else { Break::Nothing };
        Self { engine, node, how, outputs: VecDeque::new(), late: None, done: false, now }
    }

    fn pass(&mut self, output: Output<NodeId>) {
        match output {
            Output::Event(Event::Delivered(update)) if !self.done => self.deliver(update),
            Output::Event(Event::NeighborDown { .. }) if self.how == Break::HidesLostNeighbors => {}
            Output::Send { to, frame, .. } if self.how == Break::Floods => {
                // A frame of nothing but noise for each that the engine paced.
                let noise = Bytes::from(vec![0; 60_000]);
                self.outputs.push_back(Output::Send { to, frame: noise, class: Class::Normal });
                self.outputs.push_back(Output::Send { to, frame, class: Class::Normal });
            }
            other => self.outputs.push_back(other),
        }
    }

    /// The first delivery is treated as the break says, all others as they should be.
    fn deliver(&mut self, update: suffuse::Update<NodeId>) {
        self.done = true;
        let UpdateId { swarm, origin, epoch, sequence } = update.id;
        let honest = Event::Delivered(update.clone());
        let lagged = Event::Lagged {
            swarm,
            origin,
            epoch,
            sequences: sequence..sequence + 1,
            reason: LagReason::Expired,
        };
        let mut changed = update.clone();
        let events = match self.how {
            Break::Nothing | Break::Floods | Break::HidesLostNeighbors => vec![honest],
            Break::DeliversTwice => vec![honest.clone(), honest],
            Break::DeliversAfterLagged => vec![lagged, honest],
            Break::Alters => {
                changed.payload = Bytes::from_static(b"something else");
                vec![Event::Delivered(changed)]
            }
            Break::Invents => {
                changed.id.epoch = Epoch(77);
                vec![honest, Event::Delivered(changed)]
            }
            Break::DeliversOwn => {
                changed.id.origin = self.node;
                vec![honest, Event::Delivered(changed)]
            }
            Break::Swallows => vec![],
            Break::TellsInsteadOfDelivering => vec![lagged],
            Break::DeliversLate => {
                self.late = Some((self.now + SPAN / 2, honest));
                vec![]
            }
        };
        self.outputs.extend(events.into_iter().map(Output::Event));
    }
}

impl Host<NodeId> for Wrapped {
    fn handle_input(&mut self, input: Input<NodeId>, now: Instant) {
        self.now = now;
        self.engine.handle_input(input, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if let Some((_, event)) = self.late.take_if(|(at, _)| *at <= now) {
            self.outputs.push_back(Output::Event(event));
        }
        self.engine.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output<NodeId>> {
        while let Some(output) = self.engine.poll_output() {
            self.pass(output);
        }
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let late = self.late.as_ref().map(|(at, _)| *at);
        [late, self.engine.poll_timeout()].into_iter().flatten().min()
    }
}

/// Plays a small scene with one broken node; returns what was found at it, each kind once.
fn found(how: Break) -> BTreeSet<&'static str> {
    let config = Config::small();
    let mut checkers = Checkers::new();
    checkers.add(ExactlyOnce::new());
    checkers.add(NothingForged::new().with_age_max(Duration::from_secs(2)));
    checkers.add(Complete::new(SPAN));
    checkers.add(Caps::new().with_neighbors_max(config.membership.active_max as u64));
    checkers.add(Budget::new(Some(UPLOAD), 2 * config.frame_bytes_max as u64));
    let mut world = World::with_observer(NetworkConfig::default(), Seed::from_u64(4), checkers);
    for _ in 0..NODES {
        world.add(|birth| Wrapped::new(birth, how));
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_secs(5));
    if how == Break::HidesLostNeighbors {
        // Neighbours come and go, but the application only hears of those that come.
        for round in 0..6 {
            for node in (1..NODES).filter(|&node| node != BROKEN && node % 2 == round % 2) {
                world.restart(node, |birth| Wrapped::new(birth, how));
            }
            world.run_for(Duration::from_secs(5));
        }
    }
    for number in 0..20u8 {
        let payload = Bytes::from(vec![number; 100]);
        let state = StateId(u64::from(number));
        let body = payload.clone();
        let publish =
            |host: &mut Wrapped, now| host.engine.publish(SWARM, state, body, PublishOptions::default(), now);
        let id = world.with_host(0, publish).expect("it is up").expect("it may publish");
        let now = world.now();
        world.observer_mut().published(now, &Published { id, state, payload });
        world.run_for(Duration::from_millis(50));
    }
    world.run_for(SPAN + Duration::from_secs(1));
    let now = world.now();
    world.observer_mut().finish(now);
    let violations: Vec<_> = world.observer().violations().cloned().collect();
    assert!(violations.iter().all(|violation| violation.node == BROKEN), "{how:?}: {violations:#?}");
    let name = |breach| match breach {
        Breach::DeliveredTwice => "twice",
        Breach::DeliveredToOrigin => "own",
        Breach::DeliveredAfterLagged => "after lagged",
        Breach::NeverPublished => "invented",
        Breach::Altered => "altered",
        Breach::TooOld { .. } => "late",
        Breach::Missing => "missing",
        Breach::OverCap { .. } => "over cap",
        Breach::OverBudget { .. } => "over budget",
        _ => "another",
    };
    violations.iter().map(|violation| name(violation.breach)).collect()
}

#[test]
fn an_honest_host_passes() {
    assert_eq!(found(Break::Nothing), BTreeSet::new());
}

#[test]
fn an_application_may_be_told_instead() {
    assert_eq!(found(Break::TellsInsteadOfDelivering), BTreeSet::new());
}

#[test]
fn exactly_once_bites() {
    assert_eq!(found(Break::DeliversTwice), BTreeSet::from(["twice"]));
    assert_eq!(found(Break::DeliversAfterLagged), BTreeSet::from(["after lagged"]));
    // What a node never said is invented too.
    assert_eq!(found(Break::DeliversOwn), BTreeSet::from(["own", "invented"]));
}

#[test]
fn nothing_forged_bites() {
    assert_eq!(found(Break::Alters), BTreeSet::from(["altered"]));
    assert_eq!(found(Break::Invents), BTreeSet::from(["invented"]));
    assert_eq!(found(Break::DeliversLate), BTreeSet::from(["late"]));
}

#[test]
fn complete_bites() {
    assert_eq!(found(Break::Swallows), BTreeSet::from(["missing"]));
}

#[test]
fn budget_bites() {
    assert_eq!(found(Break::Floods), BTreeSet::from(["over budget"]));
}

#[test]
fn caps_bite() {
    assert_eq!(found(Break::HidesLostNeighbors), BTreeSet::from(["over cap"]));
}

/// A gauge that the test takes itself.
#[test]
fn gauges_bite() {
    let mut caps = Caps::new();
    caps.gauge(Instant::ZERO, 3, "queue", 8, 8);
    assert!(caps.violations().is_empty());
    caps.gauge(Instant::ZERO, 3, "queue", 9, 8);
    assert_eq!(caps.violations().count(), 1);
}
