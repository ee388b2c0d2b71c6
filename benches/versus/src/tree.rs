//! Trees: joins, shape, churn and memory.

use std::time::{Duration, Instant};

use elara_core::NodeId;
use elara_diffusion::TreeTopology;
use suffuse::{Change, Tree};

use crate::measure::{Draws, heap_bytes, median, time};
use crate::report::{Bars, Cell, Report, Unit};

/// How many children a peer may have.
const FAN_OUT: u16 = 5;

const ROOT: u64 = 0;

/// What both trees can do.
trait Overlay {
    fn new() -> Self;
    fn join(&mut self, peer: u64);
    fn leave(&mut self, peer: u64);
    /// Who may have got a child by the last operation.
    fn touched(&self) -> Vec<u64>;
    fn children(&self, peer: u64) -> Vec<u64>;
}

struct Ours {
    tree: Tree<u64>,
    changes: Vec<Change<u64>>,
}

impl Overlay for Ours {
    fn new() -> Self {
        Self { tree: Tree::new(ROOT, FAN_OUT).expect("the fan-out is not zero"), changes: Vec::new() }
    }

    fn join(&mut self, peer: u64) {
        self.changes.clear();
        self.tree.join(peer, &mut self.changes).expect("the tree has no limit");
    }

    fn leave(&mut self, peer: u64) {
        self.changes.clear();
        self.tree.leave(peer, &mut self.changes).expect("the peer is no stranger and not the root");
    }

    fn touched(&self) -> Vec<u64> {
        let gained = self.changes.iter().filter_map(|change| match *change {
            Change::Gained { parent, .. } => Some(parent),
            _ => None,
        });
        gained.collect()
    }

    fn children(&self, peer: u64) -> Vec<u64> {
        self.tree.children(peer).collect()
    }
}

struct Theirs {
    tree: TreeTopology,
    touched: Vec<u64>,
}

impl Overlay for Theirs {
    fn new() -> Self {
        Self { tree: TreeTopology::new(NodeId::new(ROOT), usize::from(FAN_OUT)), touched: Vec::new() }
    }

    fn join(&mut self, peer: u64) {
        self.touched.clear();
        self.touched.push(self.tree.add_node(NodeId::new(peer)).0);
    }

    fn leave(&mut self, peer: u64) {
        let peer = NodeId::new(peer);
        self.touched.clear();
        // The children of a peer that leaves go to its parent.
        self.touched.extend(self.tree.topology.upstream(peer).into_iter().map(|parent| parent.0));
        self.tree.remove_node(peer);
    }

    fn touched(&self) -> Vec<u64> {
        self.touched.clone()
    }

    fn children(&self, peer: u64) -> Vec<u64> {
        self.tree.topology.edges_from(NodeId::new(peer)).iter().map(|edge| edge.to.0).collect()
    }
}

/// What a walk from the root finds; the same walk for both, so that neither is taken at its word.
#[derive(Clone, Copy)]
struct Shape {
    depth: u64,
    fan_out: u64,
}

fn shape<O: Overlay>(overlay: &O, peers: usize) -> Shape {
    let (mut depth, mut fan_out, mut reached) = (0, 0, 0);
    let mut level = vec![ROOT];
    loop {
        reached += level.len();
        let mut below = Vec::new();
        for &peer in &level {
            let children = overlay.children(peer);
            fan_out = fan_out.max(children.len() as u64);
            below.extend(children);
        }
        if below.is_empty() {
            break;
        }
        level = below;
        depth += 1;
    }
    assert_eq!(reached, peers, "a walk from the root must meet everybody once");
    Shape { depth, fan_out }
}

/// A side whose joins take longer by the clock on the wall is stopped, so that a run is bounded in time.
const JOINS_WAIT_MAX: Duration = Duration::from_secs(140);

struct Grown<O> {
    overlay: O,
    took: Duration,
    heap_bytes: u64,
}

/// The time so far if it takes too long.
fn grow<O: Overlay>(name: &str, joins: usize) -> Result<Grown<O>, Duration> {
    let heap = heap_bytes();
    let mut took = Duration::ZERO;
    let mut overlay = O::new();
    // At least a thousand joins under one reading of the clock.
    let parts = (joins / 1_000).min(100);
    let started = Instant::now();
    for part in 0..parts {
        let end = (part + 1) * joins / parts;
        took += time(|| {
            for peer in part * joins / parts..end {
                overlay.join(peer as u64 + 1);
            }
        });
        if took > Duration::from_secs(2) && (part + 1).is_multiple_of(parts.div_ceil(10)) {
            eprintln!("  {name}: {end} of {joins} joins in {:.1} s", took.as_secs_f64());
        }
        if started.elapsed() > JOINS_WAIT_MAX && end < joins {
            return Err(took);
        }
    }
    Ok(Grown { overlay, took, heap_bytes: heap_bytes() - heap })
}

/// As many steps as there are peers, half of them departures of somebody random, half joins; the shape in the end,
/// with the largest fan-out met on the way.
fn churn<O: Overlay>(mut overlay: O, joins: usize) -> Shape {
    let mut draws = Draws(joins as u64);
    let mut present: Vec<u64> = (1..=joins as u64).collect();
    let mut fan_out = 0;
    for step in 0..joins {
        if draws.below(2) == 0 && !present.is_empty() {
            overlay.leave(present.swap_remove(draws.below(present.len())));
        } else {
            let fresh = (joins + step + 1) as u64;
            overlay.join(fresh);
            present.push(fresh);
        }
        let touched = overlay.touched().into_iter().map(|peer| overlay.children(peer).len() as u64);
        fan_out = touched.max().unwrap_or(0).max(fan_out);
    }
    let end = shape(&overlay, present.len() + 1);
    Shape { fan_out: fan_out.max(end.fan_out), ..end }
}

pub fn run(quick: bool, report: &mut Report, bars: &mut Bars) {
    let theirs_joins_max = if quick { 10_000 } else { 100_000 };
    let mut kept_cap = true;
    for joins in [1_000, 10_000, 100_000, 1_000_000] {
        eprintln!("tree, {joins} joins");
        let repetitions = match joins {
            1_000 => 9,
            10_000 => 5,
            100_000 => 4,
            _ => 3,
        };
        let theirs_repetitions = match joins {
            joins if joins > theirs_joins_max => 0,
            100_000 => 1,
            _ => repetitions,
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut our_last, mut their_last, mut their_seconds) = (None, None, None);
        for repetition in 0..repetitions {
            our_last = None;
            let grown: Grown<Ours> = grow("suffuse", joins).expect("a million joins take a second");
            ours.push(grown.took.as_secs_f64());
            our_last.replace(grown);
            // A single run of the other side has runs of this one before and after it.
            if theirs.len() < theirs_repetitions
                && (theirs_repetitions > 1 || repetition + 1 == repetitions / 2)
            {
                their_last = None;
                match grow::<Theirs>("elara-diffusion", joins) {
                    Ok(grown) => {
                        theirs.push(grown.took.as_secs_f64());
                        their_last.replace(grown);
                    }
                    Err(took) => their_seconds = Some(Cell::AtLeast(took.as_secs_f64())),
                }
            }
        }

        let our_last = our_last.expect("there was a repetition");
        let ours = median(ours);
        let our_shape = shape(&our_last.overlay, joins + 1);
        let our_node_bytes = our_last.heap_bytes as f64 / (joins + 1) as f64;
        let our_churned = churn(our_last.overlay, joins);
        let absent = Cell::Absent(match joins {
            1_000_000 => {
                "not attempted: a join walks a chain of a fifth of all peers, so this takes 100 times as long as 100,000 joins"
            }
            _ if theirs_repetitions > 0 => "stopped before the last join",
            _ => "not attempted in a quick run",
        });
        let mut their_seconds = their_seconds.unwrap_or(absent);
        let (mut their_depth, mut their_fan_out, mut their_bytes) = (absent, absent, absent);
        let mut their_churned_cells = (absent, absent);
        if let Some(last) = their_last {
            let shape = shape(&last.overlay, joins + 1);
            their_seconds = Cell::Is(median(theirs));
            their_depth = Cell::Is(shape.depth as f64);
            their_fan_out = Cell::Is(shape.fan_out as f64);
            their_bytes = Cell::Is(last.heap_bytes as f64 / (joins + 1) as f64);
            their_churned_cells = if joins <= 10_000 {
                eprintln!("  elara-diffusion: churn");
                let churned = churn(last.overlay, joins);
                (Cell::Is(churned.depth as f64), Cell::Is(churned.fan_out as f64))
            } else {
                let reason =
                    Cell::Absent("not attempted: a departure visits all peers, so this takes minutes");
                (reason, reason)
            };
        }

        let at = Some(joins as u64);
        let our_seconds = Cell::Is(ours);
        report.row("tree: all joins", at, Unit::Seconds, our_seconds, their_seconds);
        report.row(
            "tree: depth after the joins",
            at,
            Unit::Count,
            Cell::Is(our_shape.depth as f64),
            their_depth,
        );
        let fan_out = Cell::Is(our_shape.fan_out as f64);
        report.row("tree: largest fan-out, cap 5", at, Unit::Count, fan_out, their_fan_out);
        let (depth, fan_out) = (Cell::Is(our_churned.depth as f64), Cell::Is(our_churned.fan_out as f64));
        report.row("tree: depth after churn", at, Unit::Count, depth, their_churned_cells.0);
        report.row("tree: largest fan-out in churn, cap 5", at, Unit::Count, fan_out, their_churned_cells.1);
        kept_cap &= our_shape.fan_out.max(our_churned.fan_out) <= u64::from(FAN_OUT);
        if joins == 100_000 {
            report.row("tree: heap per peer", at, Unit::Bytes, Cell::Is(our_node_bytes), their_bytes);
            let depth = our_shape.depth.max(our_churned.depth);
            bars.judge(
                "depth at 100,000 peers at most 9, also after churn",
                Some(depth <= 9),
                format!("{depth}"),
            );
            bars.judge_ratio("100,000 joins at least 400 times as fast", our_seconds, their_seconds, 400.0);
            bars.judge(
                "at most 64 heap bytes per peer of a tree",
                Some(our_node_bytes <= 64.0),
                format!("{our_node_bytes:.1}"),
            );
        }
        if joins == 1_000_000 {
            bars.judge("1,000,000 joins within 2 s", Some(ours <= 2.0), format!("{ours:.3} s"));
        }
    }
    bars.judge(
        "fan-out cap of 5 never exceeded",
        Some(kept_cap),
        if kept_cap { "never" } else { "exceeded" }.to_owned(),
    );
}
