//! The scene that every contestant plays: everybody joins through node 0 in 5 s, 30 s of calm, then messages.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use cpu_time::ThreadTime;
use serde::Serialize;
use suffuse::sim::{NetworkConfig, NodeId, World};
use suffuse::{Instant, Seed};

use super::machine::Machine;
use super::seat::{Field, Seat};
use super::tally::{Message, Tally};
use crate::measure::{Draws, heap_bytes};

const JOIN_SPAN: Duration = Duration::from_secs(5);
const CALM: Duration = Duration::from_secs(30);
/// The end of the calm, in which idle traffic is measured.
const IDLE_SPAN: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(100);
/// How long after the last message traffic still counts as caused by messages.
const TAIL: Duration = Duration::from_secs(1);
/// What is kept for a while has been forgotten by then.
const FORGOTTEN: Duration = Duration::from_secs(150);
/// How often it is looked whether all is done, or has taken too long.
const LOOK: Duration = Duration::from_millis(100);
/// How long messages flow after the crash.
const AFTER_CRASH: Duration = Duration::from_secs(20);
/// A message that takes longer than this, and than twice the longest before the crash, was delayed by it.
const PROMPT: Duration = Duration::from_secs(1);
const PARTITION: Duration = Duration::from_secs(60);
/// How long after the partition it is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between messages from some time after the beginning of the partition on.
const SLOW_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct Scene {
    pub nodes: u32,
    pub messages: u32,
    pub payload_bytes: usize,
    pub random_sources: bool,
    pub loss_ppm: u32,
    pub seed: u64,
    /// Whether to wait until machines have forgotten what they keep for a while, to measure their heap again.
    pub later: bool,
    /// Processor time after which a run is stopped.
    pub cap: Duration,
    /// After which time a connection to a dead or unreachable node is reported to who sends on it.
    pub reset_after: Duration,
}

/// A run without accident.
#[derive(Clone, Serialize)]
pub struct Steady {
    /// The share of all (message, node) pairs that was delivered.
    pub reliability: f64,
    pub copies: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub last_ms: f64,
    pub hops: u32,
    pub bytes_per_delivery: f64,
    pub idle_bytes_per_s: f64,
    /// Of each node while nothing is published.
    pub idle_cpu_ns_per_s: f64,
    pub cpu_ns_per_delivery: f64,
    /// Right after the messages.
    pub heap_bytes_per_node: f64,
    /// When everybody has had the time to forget.
    pub heap_bytes_per_node_later: Option<f64>,
    pub repeated: u64,
}

/// Times are nothing if they were not reached.
#[derive(Clone, Serialize)]
pub struct Crash {
    /// The share of all (message, survivor) pairs from the crash on that was delivered.
    pub reliability: f64,
    /// Of a message published since the crash.
    pub last_ms: f64,
    pub recovery_s: Option<f64>,
}

/// Times are nothing if they were not reached.
#[derive(Clone, Serialize)]
pub struct Partition {
    /// Until a message published after the partition had reached everybody.
    pub merge_s: Option<f64>,
    /// Until everybody had what was published during it.
    pub equal_s: Option<f64>,
    /// The share of what the partition kept from nodes that they have in the end.
    pub recovered: f64,
}

/// It was stopped: how far it came, in virtual seconds.
pub struct Stopped(pub f64);

pub fn steady<M: Machine>(scene: &Scene) -> Result<Steady, Stopped> {
    let mut run = Run::<M>::new(scene, scene.messages as usize);
    run.join()?;
    run.advance(CALM - IDLE_SPAN)?;
    run.world.metrics_mut().reset();
    run.field.borrow_mut().timing = true;
    run.advance(IDLE_SPAN)?;
    let idle_spans = f64::from(scene.nodes) * IDLE_SPAN.as_secs_f64();
    let idle_bytes = run.wire_bytes() as f64 / idle_spans;

    run.world.metrics_mut().reset();
    run.field.borrow_mut().bodies = 0;
    let idle_cpu = core::mem::take(&mut run.field.borrow_mut().cpu).as_nanos() as f64 / idle_spans;
    for _ in 0..scene.messages {
        run.publish();
        run.advance(INTERVAL)?;
    }
    run.advance(TAIL)?;
    let bytes = run.wire_bytes();
    let (cpu, bodies, deliveries) = {
        let mut field = run.field.borrow_mut();
        field.timing = false;
        (field.cpu, field.bodies, field.tally.deliveries.max(1) as f64)
    };
    let heap_then = heap_bytes() as f64;
    run.wait_until_all_have_all(PATIENCE)?;
    if scene.later {
        run.advance(FORGOTTEN)?;
    }
    let heap_now = heap_bytes() as f64;
    let machines = run.take_machines();
    let nodes = f64::from(scene.nodes);
    let field = run.field.borrow();
    let millis = |us: Option<u64>| us.unwrap_or(0) as f64 / 1e3;
    let tally = &field.tally;
    Ok(Steady {
        reliability: tally.deliveries as f64 / (nodes - 1.0) / f64::from(scene.messages),
        copies: bodies as f64 / deliveries,
        p50_ms: millis(tally.delay_us.p50()),
        p99_ms: millis(tally.delay_us.p99()),
        last_ms: millis(tally.delay_us.max()),
        hops: tally.hops,
        bytes_per_delivery: bytes as f64 / deliveries,
        idle_bytes_per_s: idle_bytes,
        idle_cpu_ns_per_s: idle_cpu,
        cpu_ns_per_delivery: cpu.as_nanos() as f64 / deliveries,
        heap_bytes_per_node: (machines + (heap_then - heap_now)) / nodes,
        heap_bytes_per_node_later: scene.later.then_some(machines / nodes),
        repeated: tally.repeated,
    })
}

pub fn crash<M: Machine>(scene: &Scene) -> Result<Crash, Stopped> {
    let after = (AFTER_CRASH.as_millis() / INTERVAL.as_millis()) as u32;
    let before = scene.messages / 2;
    let mut run = Run::<M>::new(scene, (before + after) as usize);
    run.join()?;
    run.advance(CALM)?;
    for _ in 0..before {
        run.publish();
        run.advance(INTERVAL)?;
    }
    let mut victims: Vec<NodeId> = (1..u64::from(scene.nodes)).collect();
    for _ in 0..(u64::from(scene.nodes) - 1) * 3 / 10 {
        let victim = victims.swap_remove(run.draws.below(victims.len()));
        run.world.crash(victim);
    }
    let crashed = run.world.now();
    let prompt = {
        let field = run.field.borrow();
        PROMPT.max(Duration::from_micros(field.tally.delay_us.max().unwrap_or(0)) * 2)
    };
    for _ in 0..after {
        run.publish();
        run.advance(INTERVAL)?;
    }
    run.advance(prompt + TAIL)?;
    let all = run.field.borrow().tally.messages.len();
    let missing = run.missing(before as usize..all);
    let pairs = run.world.hosts().count() * (all - before as usize);
    let field = run.field.borrow();
    let since = &field.tally.messages[before as usize..];
    let longest = since.iter().map(|message| message.last - message.published).max();
    let disturbed = since
        .iter()
        .rfind(|message| !run.has_everybody(message) || message.last - message.published > prompt);
    let recovered = disturbed.map_or(Duration::ZERO, |message| message.published + INTERVAL - crashed);
    Ok(Crash {
        reliability: 1.0 - missing as f64 / pairs as f64,
        last_ms: longest.unwrap_or_default().as_secs_f64() * 1e3,
        recovery_s: (recovered < AFTER_CRASH).then_some(recovered.as_secs_f64()),
    })
}

pub fn partition<M: Machine>(scene: &Scene) -> Result<Partition, Stopped> {
    let quick = scene.messages / 2;
    let slow = ((PARTITION + PATIENCE).as_millis() / SLOW_INTERVAL.as_millis()) as u32;
    let mut run = Run::<M>::new(scene, (2 * quick + slow) as usize);
    run.join()?;
    run.advance(CALM)?;
    for _ in 0..quick {
        run.publish();
        run.advance(INTERVAL)?;
    }
    let key = run.draws.below(1 << 40) as u64;
    run.world.partition(|node| (Draws(key ^ node << 8).below(2)) as u8);
    let begin = run.world.now();
    for _ in 0..quick {
        run.publish();
        run.advance(INTERVAL)?;
    }
    while run.world.now() < begin + PARTITION {
        run.publish();
        run.advance(SLOW_INTERVAL.min(begin + PARTITION - run.world.now()))?;
    }
    let (first, last) = (quick as usize, run.field.borrow().tally.messages.len());
    let kept_back = run.missing(first..last);
    run.world.heal();
    let healed = run.world.now();
    while run.world.now() < healed + PATIENCE {
        run.publish();
        run.advance(SLOW_INTERVAL)?;
        let field = run.field.borrow();
        let messages = &field.tally.messages;
        // Every message has had a second, so that the last are not the news of this moment.
        let merged = messages[last..].iter().any(|message| run.has_everybody(message));
        if merged && messages[..last].iter().all(|message| run.has_everybody(message)) {
            break;
        }
    }
    let still = run.missing(first..last);
    let field = run.field.borrow();
    let (before, after) = field.tally.messages.split_at(last);
    let complete = |message: &&Message| run.has_everybody(message);
    let merge = after.iter().filter(complete).map(|message| message.last).min();
    let equal = before.iter().map(|message| run.has_everybody(message).then_some(message.last));
    let equal = equal.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().max());
    let since = |at: Instant| (at.max(healed) - healed).as_secs_f64();
    Ok(Partition {
        merge_s: merge.map(since),
        equal_s: equal.map(since),
        recovered: if kept_back == 0 { 1.0 } else { 1.0 - still as f64 / kept_back as f64 },
    })
}

struct Run<'a, M: Machine> {
    scene: &'a Scene,
    world: World<Seat<M>>,
    field: Rc<RefCell<Field>>,
    draws: Draws,
    started: ThreadTime,
}

impl<'a, M: Machine> Run<'a, M> {
    fn new(scene: &'a Scene, messages: usize) -> Self {
        let mut network = NetworkConfig::default();
        network.loss_ppm = scene.loss_ppm;
        network.upload_bits_per_s = NonZeroU64::new(20_000_000);
        network.reliable = M::CONNECTIONS;
        network.reset_after = Some(scene.reset_after);
        if M::CONNECTIONS {
            // A connection holds back what it cannot send yet.
            network.uplink_queue = Duration::from_secs(3_600);
        }
        let tally = Tally::new(scene.nodes, messages);
        let field = Field::new(tally, M::CONNECTIONS, scene.nodes, scene.seed, scene.payload_bytes as u64);
        Self {
            scene,
            world: World::new(network, Seed::from_u64(scene.seed)),
            field: Rc::new(RefCell::new(field)),
            draws: Draws(scene.seed ^ 0x5eed),
            started: ThreadTime::now(),
        }
    }

    fn join(&mut self) -> Result<(), Stopped> {
        let gap = JOIN_SPAN / self.scene.nodes;
        for node in 0..self.scene.nodes {
            self.run_until(Instant::ZERO + gap * node)?;
            let field = &self.field;
            self.world.add(|birth| Seat::new(birth, field));
        }
        self.run_until(Instant::ZERO + JOIN_SPAN)
    }

    fn publish(&mut self) {
        let origin = if self.scene.random_sources {
            let up: Vec<NodeId> = self.world.hosts().map(|(node, _)| node).collect();
            up[self.draws.below(up.len())]
        } else {
            0
        };
        let now = self.world.now();
        let payload = {
            let mut field = self.field.borrow_mut();
            field.tally.now = now;
            field.tally.publish(origin, self.scene.payload_bytes, now)
        };
        self.world.with_host(origin, |seat, now| seat.publish(payload, now));
    }

    fn advance(&mut self, by: Duration) -> Result<(), Stopped> {
        self.run_until(self.world.now() + by)
    }

    fn run_until(&mut self, until: Instant) -> Result<(), Stopped> {
        while self.world.now() < until {
            let next = until.min(self.world.now() + LOOK);
            self.world.run_until(next);
            if self.started.elapsed() > self.scene.cap {
                return Err(Stopped(self.world.now().as_micros() as f64 / 1e6));
            }
        }
        Ok(())
    }

    fn wait_until_all_have_all(&mut self, patience: Duration) -> Result<(), Stopped> {
        let end = self.world.now() + patience;
        let messages = self.field.borrow().tally.messages.len();
        while self.world.now() < end && self.missing(0..messages) > 0 {
            self.advance(LOOK)?;
        }
        Ok(())
    }

    fn has_everybody(&self, message: &Message) -> bool {
        self.world.hosts().all(|(node, _)| message.has(node))
    }

    fn missing(&self, messages: std::ops::Range<usize>) -> usize {
        let field = self.field.borrow();
        let missing = |message: &Message| self.world.hosts().filter(|&(node, _)| !message.has(node)).count();
        field.tally.messages[messages].iter().map(missing).sum()
    }

    fn wire_bytes(&self) -> u64 {
        let metrics = self.world.metrics();
        metrics.total().wire_bytes + metrics.retransmitted().wire_bytes
    }

    /// Drops all machines and returns the heap they held.
    fn take_machines(&mut self) -> f64 {
        let mut freed = 0.0;
        for node in 0..u64::from(self.scene.nodes) {
            self.world.with_host(node, |seat, _| {
                let before = heap_bytes() as f64;
                drop(seat.take());
                freed += before - heap_bytes() as f64;
            });
        }
        freed
    }
}
