//! Propagation: to whom an update goes, how urgently, at which quality.

use elara_core::{NodeId, StateTime};
use elara_diffusion::{
    InterestDeclaration, InterestLevel as TheirLevel, InterestMap as TheirMap, PropagationScheduler,
    PropagationTopology, StateUpdate,
};
use suffuse::{Instant, InterestLevel, InterestMap, LevelBuckets, StateId};

use crate::measure::{interleaved, median, time};
use crate::report::{Bars, Cell, Report, Unit};

const STATE: u64 = 7;
const SOURCE: u64 = 0;

/// All four levels in equal parts, in no order.
fn level(peer: u64) -> (InterestLevel, TheirLevel) {
    match peer.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62 {
        0 => (InterestLevel::Low, TheirLevel::Low),
        1 => (InterestLevel::Medium, TheirLevel::Medium),
        2 => (InterestLevel::High, TheirLevel::High),
        _ => (InterestLevel::Critical, TheirLevel::Critical),
    }
}

fn our_map(peers: u64) -> InterestMap<u64> {
    let mut map = InterestMap::default();
    for peer in 1..=peers {
        let declared = map.declare(peer, StateId(STATE), level(peer).0, None, Instant::ZERO);
        declared.expect("within the limits");
    }
    map
}

fn their_map(peers: u64) -> TheirMap {
    let mut map = TheirMap::new();
    for peer in 1..=peers {
        map.register(InterestDeclaration::new(NodeId::new(peer), STATE, level(peer).1));
    }
    map
}

/// Everybody whom the scheduler decides about is in its topology.
fn their_scheduler(peers: u64) -> PropagationScheduler {
    let mut topology = PropagationTopology::new();
    for peer in 0..=peers {
        topology.add_node(NodeId::new(peer));
    }
    PropagationScheduler::new(their_map(peers), topology)
}

/// Nanoseconds per peer of a call that is about `peers`, made often enough for the clock.
fn per_peer<T>(peers: u64, mut call: impl FnMut() -> T) -> f64 {
    let calls = 100_000 / peers;
    let took = time(|| (0..calls).for_each(|_| drop(std::hint::black_box(call()))));
    took.as_secs_f64() * 1e9 / (calls * peers) as f64
}

pub fn run(quick: bool, report: &mut Report, bars: &mut Bars) {
    let repetitions = if quick { 9 } else { 25 };
    for peers in [1_000, 10_000, 100_000] {
        eprintln!("propagation, {peers} interested peers");
        let (ours, theirs) = (our_map(peers), their_map(peers));
        let mut buckets = LevelBuckets::new();
        let (ours, theirs) = interleaved(
            repetitions,
            || per_peer(peers, || ours.collect_interested(StateId(STATE), InterestLevel::Low, &mut buckets)),
            || per_peer(peers, || theirs.interested_nodes(STATE)),
        );
        let row = "interest: list who wants a state, per peer";
        report.row(row, Some(peers), Unit::Nanos, Cell::Is(ours), Cell::Is(theirs));

        let scheduler = their_scheduler(peers);
        let update = StateUpdate::new(STATE, NodeId::new(SOURCE), 1, StateTime::from_millis(0));
        assert_eq!(scheduler.schedule(&update).len(), peers as usize, "a decision about everybody");
        let theirs = (0..repetitions).map(|_| per_peer(peers, || scheduler.schedule(&update))).collect();
        let ours = Cell::Absent("not measured: suffuse has no interface for this yet");
        let theirs = Cell::Is(median(theirs));
        report.row("propagation: one decision", Some(peers), Unit::Nanos, ours, theirs);
        if peers == 100_000 {
            bars.judge_ratio("decisions at 100,000 peers at least as fast", ours, theirs, 1.0);
        }
    }
}
