//! Propagation: to whom an update goes, how urgently, at which quality.

use elara_core::{NodeId, StateTime};
use elara_diffusion::{
    InterestDeclaration, InterestLevel as TheirLevel, InterestMap as TheirMap, PropagationScheduler,
    PropagationTopology, StateUpdate,
};
use suffuse::propagation::{AllEdges, Decisions, EdgeState, EdgeTable, UpdateFacts};
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
        let (our_interests, their_interests) = (our_map(peers), their_map(peers));
        let mut buckets = LevelBuckets::new();
        let (ours, theirs) = interleaved(
            repetitions,
            || {
                per_peer(peers, || {
                    our_interests.collect_interested(StateId(STATE), InterestLevel::Low, &mut buckets)
                })
            },
            || per_peer(peers, || their_interests.interested_nodes(STATE)),
        );
        let row = "interest: list who wants a state, per peer";
        report.row(row, Some(peers), Unit::Nanos, Cell::Is(ours), Cell::Is(theirs));

        let scheduler = their_scheduler(peers);
        let their_update = StateUpdate::new(STATE, NodeId::new(SOURCE), 1, StateTime::from_millis(0));
        assert_eq!(scheduler.schedule(&their_update).len(), peers as usize, "a decision about everybody");

        // A keyframe, so that nobody is left out for its quality.
        let update = UpdateFacts::new(StateId(STATE), 1_000);
        let mut table = EdgeTable::new();
        (1..=peers).for_each(|peer| table.set(peer, EdgeState::new()));
        let mut decisions = Decisions::new();
        let (ours, theirs) = interleaved(
            repetitions,
            || {
                per_peer(peers, || {
                    decisions.decide(&update, &our_interests, &mut table, Instant::ZERO);
                    assert_eq!(decisions.sends().len(), peers as usize, "a decision about everybody");
                })
            },
            || per_peer(peers, || scheduler.schedule(&their_update)),
        );
        let row = "propagation: one decision, its link looked up";
        let (ours, theirs) = (Cell::Is(ours), Cell::Is(theirs));
        report.row(row, Some(peers), Unit::Nanos, ours, theirs);
        if peers == 100_000 {
            bars.judge_ratio("decisions at 100,000 peers at least as fast", ours, theirs, 1.0);
        }

        let alone = (0..repetitions).map(|_| {
            per_peer(peers, || {
                decisions.decide(&update, &our_interests, &mut AllEdges::default(), Instant::ZERO);
                assert_eq!(decisions.sends().len(), peers as usize, "a decision about everybody");
            })
        });
        let alone = Cell::Is(median(alone.collect()));
        let absent = Cell::Absent("there is no such way: every peer is looked up");
        report.row("propagation: one decision, all links free", Some(peers), Unit::Nanos, alone, absent);
    }
}
