//! A host for some engines in one process: virtual time, latencies, losses, and several ways to be a bad host.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use suffuse::wire::{FrameReader, FrameWriter, Message};
use suffuse::{
    Config, Engine, Event, Input, Instant, Output, PublishOptions, Seed, StateId, SwarmId, SwarmTag,
    TopicOptions, UpdateId,
};

pub(crate) const SWARM: SwarmId = SwarmId::from_name("contract");

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Random numbers for tests: a counter, mixed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// How a host drives its engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// Drains after each input, and wakes the engine exactly when it asks for it.
    Exact,
    /// Feeds whatever has arrived, and wakes and drains only this often.
    Batched(Duration),
    /// Early, late, twice, not at all, and with a clock that runs back.
    Sloppy,
}

pub(crate) struct Host {
    pub(crate) engine: Engine<u64>,
    pub(crate) up: bool,
    pub(crate) events: Vec<(Instant, Event<u64>)>,
    pub(crate) delivered: BTreeMap<UpdateId<u64>, u32>,
    /// Peers that the host was told to disconnect from and has heard nothing of since.
    closed: BTreeSet<u64>,
    /// Peers that it was told to connect to.
    dialled: Vec<u64>,
    wake: Instant,
    newest: Instant,
    /// Until when the process does not run; what arrives waits.
    asleep: Option<Instant>,
    backlog: Vec<Input<u64>>,
}

impl Host {
    pub(crate) fn downs_of(&self, peer: u64) -> usize {
        let is_down =
            |event: &Event<u64>| matches!(event, Event::NeighborDown { peer: lost, .. } if *lost == peer);
        self.events.iter().filter(|(_, event)| is_down(event)).count()
    }
}

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) style: Style,
    pub(crate) loss_percent: u64,
    /// How often `poll_timeout` is asked where once would do.
    pub(crate) asks: u32,
    /// Everything that came out, if it is wanted.
    pub(crate) trace: Option<String>,
    /// Every frame sent, if it is wanted.
    pub(crate) captured: Option<Vec<Bytes>>,
    pub(crate) published: Vec<UpdateId<u64>>,
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    flights: BTreeMap<(Instant, u64), (u64, u64, Bytes)>,
    sent: u64,
}

impl Net {
    pub(crate) fn new(style: Style, seed: u64) -> Self {
        Self {
            now: Instant::from_secs(10),
            hosts: Vec::new(),
            style,
            loss_percent: 0,
            asks: 1,
            trace: None,
            captured: None,
            published: Vec::new(),
            seed,
            dice: Dice::new(seed),
            flights: BTreeMap::new(),
            sent: 0,
        }
    }

    /// `count` members of one topic, joined through node 0 within half a second, and `settle` to calm down.
    pub(crate) fn swarm(style: Style, seed: u64, count: u64, config: &Config, settle: Duration) -> Self {
        let mut net = Self::new(style, seed);
        for _ in 0..count {
            net.add(config.clone());
            net.run(ms(500) / count as u32);
        }
        net.run(settle);
        net
    }

    /// A new node, which joins through node 0.
    pub(crate) fn add(&mut self, config: Config) -> u64 {
        let name = self.hosts.len() as u64;
        let mut engine = self.engine(name, config);
        engine.join_topic(SWARM, TopicOptions::through((name > 0).then_some(0)), self.now).unwrap();
        self.hosts.push(Host {
            engine,
            up: true,
            events: Vec::new(),
            delivered: BTreeMap::new(),
            closed: BTreeSet::new(),
            dialled: Vec::new(),
            wake: self.now,
            newest: self.now,
            asleep: None,
            backlog: Vec::new(),
        });
        self.settle(name);
        name
    }

    pub(crate) fn engine(&self, name: u64, config: Config) -> Engine<u64> {
        Engine::new(name, config, Seed::from_u64(self.seed << 16 | name), self.now).unwrap()
    }

    pub(crate) fn publish(&mut self, node: u64, payload: Bytes) -> UpdateId<u64> {
        let now = self.now;
        let engine = &mut self.hosts[node as usize].engine;
        let id = engine.publish(SWARM, StateId(1), payload, PublishOptions::default(), now).unwrap();
        self.published.push(id);
        self.settle(node);
        id
    }

    /// Calls a command and drains.
    pub(crate) fn with<R>(&mut self, node: u64, command: impl FnOnce(&mut Engine<u64>, Instant) -> R) -> R {
        let now = self.now;
        let result = command(&mut self.hosts[node as usize].engine, now);
        self.settle(node);
        result
    }

    /// Suspends a process: its timers come late, and what arrived in the meantime comes after them.
    pub(crate) fn sleep(&mut self, node: u64, span: Duration) {
        let host = &mut self.hosts[node as usize];
        host.wake = self.now + span;
        host.asleep = Some(host.wake);
    }

    /// Starts a node anew, with another engine under the same name.
    pub(crate) fn restart(&mut self, node: u64, config: Config, contact: u64) {
        let mut engine = self.engine(node, config);
        engine.join_topic(SWARM, TopicOptions::through([contact]), self.now).unwrap();
        let host = &mut self.hosts[node as usize];
        host.engine = engine;
        host.up = true;
        host.events.clear();
        host.delivered.clear();
        host.closed.clear();
        self.settle(node);
    }

    /// Feeds one input at once, whatever the style.
    pub(crate) fn input(&mut self, node: u64, input: Input<u64>) {
        self.feed(node, input);
        self.settle(node);
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let flight = self.flights.first_key_value().map(|(&(at, _), _)| at);
            let wake = self.hosts.iter().filter(|host| host.up).map(|host| host.wake).min();
            let Some(at) = flight.into_iter().chain(wake).min().filter(|&at| at <= end) else { break };
            self.now = self.now.max(at);
            if flight == Some(at) {
                let Some((_, (from, to, frame))) = self.flights.pop_first() else { break };
                if !self.hosts[to as usize].up {
                    continue;
                }
                let host = &mut self.hosts[to as usize];
                if host.asleep.is_some() {
                    host.backlog.push(Input::Received { from, frame });
                    continue;
                }
                self.feed(to, Input::Received { from, frame });
                match self.style {
                    Style::Batched(_) => {}
                    Style::Exact => self.settle(to),
                    // One that drains now and then, but after an input looks at the clock.
                    Style::Sloppy if self.dice.percent(70) => self.settle(to),
                    Style::Sloppy => {}
                }
            } else if let Some(node) = self.hosts.iter().position(|host| host.up && host.wake <= self.now) {
                self.wake(node as u64);
            }
        }
        self.now = end;
    }

    fn wake(&mut self, node: u64) {
        let (now, seed) = (self.now, self.seed);
        let times = if self.style == Style::Sloppy { self.dice.below(3) } else { 1 };
        for _ in 0..times {
            let back = if self.style == Style::Sloppy { ms(self.dice.below(300)) } else { Duration::ZERO };
            let host = &mut self.hosts[node as usize];
            host.newest = host.newest.max(now - back);
            host.engine.handle_timeout(now - back);
            self.drain(node);
            let host = &self.hosts[node as usize];
            let deadline = host.engine.poll_timeout();
            assert!(
                deadline.is_none_or(|deadline| deadline > host.newest),
                "seed {seed}: node {node} would spin at {:?}: its deadline is {deadline:?}",
                host.newest,
            );
        }
        self.hosts[node as usize].asleep = None;
        for input in std::mem::take(&mut self.hosts[node as usize].backlog) {
            self.feed(node, input);
        }
        self.settle(node);
    }

    /// Drains and decides when to wake the engine.
    pub(crate) fn settle(&mut self, node: u64) {
        self.drain(node);
        while let Some(peer) = self.hosts[node as usize].dialled.pop() {
            self.feed(node, Input::PeerConnected { peer });
            self.drain(node);
        }
        let engine = &self.hosts[node as usize].engine;
        for _ in 1..self.asks {
            std::hint::black_box(engine.poll_timeout());
        }
        let deadline = engine.poll_timeout().unwrap_or(Instant::MAX).max(self.now);
        let wake = match self.style {
            Style::Exact => deadline,
            Style::Batched(every) => {
                let every = every.as_micros() as u64;
                Instant::from_micros((self.now.as_micros() / every + 1) * every)
            }
            Style::Sloppy => {
                let wait = (deadline - self.now).as_micros() as u64;
                match self.dice.below(100) {
                    0..30 => self.now + Duration::from_micros(1 + self.dice.below(wait)),
                    30..60 => deadline + ms(1),
                    60..99 => deadline + ms(self.dice.below(150)),
                    _ => deadline + ms(3_000),
                }
            }
        };
        self.hosts[node as usize].wake = wake;
    }

    fn feed(&mut self, node: u64, input: Input<u64>) {
        let back = if self.style == Style::Sloppy { ms(self.dice.below(100)) } else { Duration::ZERO };
        let host = &mut self.hosts[node as usize];
        if let Input::Received { from: peer, .. } | Input::PeerConnected { peer } = &input {
            host.closed.remove(peer);
        }
        host.newest = host.newest.max(self.now - back);
        host.engine.handle_input(input, self.now - back);
    }

    fn drain(&mut self, node: u64) {
        while let Some(output) = self.hosts[node as usize].engine.poll_output() {
            if let Some(trace) = &mut self.trace {
                writeln!(trace, "{:?} {node} {output:?}", self.now).unwrap();
            }
            match output {
                Output::Send { to, frame, .. } => {
                    let host = &self.hosts[node as usize];
                    assert!(frame.len() <= host.engine.config().frame_bytes_max);
                    assert!(
                        !host.closed.contains(&to),
                        "seed {}: node {node} sends to {to} after it disconnected from it, at {:?}",
                        self.seed,
                        self.now
                    );
                    if let Some(captured) = &mut self.captured {
                        captured.push(frame.clone());
                    }
                    self.fly(node, to, frame);
                }
                Output::Connect { peer } => {
                    let host = &mut self.hosts[node as usize];
                    host.closed.remove(&peer);
                    host.dialled.push(peer);
                }
                Output::Disconnect { peer } => {
                    self.hosts[node as usize].closed.insert(peer);
                }
                Output::Event(event) => {
                    let host = &mut self.hosts[node as usize];
                    if let Event::Delivered(update) = &event {
                        *host.delivered.entry(update.id).or_default() += 1;
                    }
                    host.events.push((self.now, event));
                }
            }
        }
    }

    fn fly(&mut self, from: u64, to: u64, frame: Bytes) {
        self.sent += 1;
        let lost = self.loss_percent > 0 && self.dice.percent(self.loss_percent);
        if !lost && (to as usize) < self.hosts.len() {
            let latency = Dice::new(self.seed ^ from.min(to) << 20 ^ from.max(to)).below(30_000);
            let at = self.now + Duration::from_micros(10_000 + latency);
            self.flights.insert((at, self.sent), (from, to, frame));
        }
    }

    /// Every update published so far was delivered exactly once to everybody up but its origin.
    pub(crate) fn assert_exactly_once(&self) {
        for (node, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.up) {
            for id in self.published.iter().filter(|id| id.origin != node as u64) {
                let times = host.delivered.get(id).copied().unwrap_or(0);
                assert_eq!(
                    times, 1,
                    "seed {}, {:?}: node {node} got {id:?} {times} times",
                    self.seed, self.style
                );
            }
            let epoch = host.engine.config().epoch;
            let own =
                host.delivered.keys().filter(|id| id.origin == node as u64 && id.epoch == epoch).count();
            assert_eq!(own, 0, "seed {}: node {node} got its own updates", self.seed);
        }
    }
}

pub(crate) fn frame(messages: &[Message<u64>], now: Instant) -> Bytes {
    frame_of(SWARM.tag(), messages, now)
}

pub(crate) fn frame_of(tag: SwarmTag, messages: &[Message<u64>], now: Instant) -> Bytes {
    let mut writer = FrameWriter::new(1_200);
    for message in messages {
        writer.push(tag, message, now);
    }
    writer.finish()
}

pub(crate) fn messages(frame: &Bytes, now: Instant) -> Vec<Message<u64>> {
    let mut reader = FrameReader::new(frame, now).unwrap();
    std::iter::from_fn(|| reader.next().map(|message| message.unwrap().1)).collect()
}

/// Whether a frame is read to its end.
pub(crate) fn is_readable(frame: &Bytes, now: Instant) -> bool {
    let Ok(mut reader) = FrameReader::new(frame, now) else { return false };
    while let Some(message) = reader.next::<u64>() {
        if message.is_err() {
            return false;
        }
    }
    true
}

/// Drains an engine whose host connects at once. Returns what came out but for the connects.
pub(crate) fn drain(engine: &mut Engine<u64>, now: Instant) -> Vec<Output<u64>> {
    let mut outputs = Vec::new();
    while let Some(output) = engine.poll_output() {
        if let Output::Connect { peer } = output {
            engine.handle_input(Input::PeerConnected { peer }, now);
        } else {
            outputs.push(output);
        }
    }
    outputs
}

/// All messages to `to` among some outputs.
pub(crate) fn sent_to(outputs: &[Output<u64>], to: u64, now: Instant) -> Vec<Message<u64>> {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Send { to: receiver, frame, .. } if *receiver == to => Some(frame),
        _ => None,
    });
    frames.flat_map(|frame| messages(frame, now)).collect()
}
