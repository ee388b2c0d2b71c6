//! Interest: the departure of a peer, and what is left of a million interests that came and went.

use elara_core::NodeId;
use elara_diffusion::{InterestDeclaration, InterestLevel as TheirLevel, InterestMap as TheirMap};
use suffuse::{Instant, InterestChange, InterestLevel, InterestMap, StateId};

use crate::measure::{heap_bytes, heap_bytes_peak, interleaved, restart_peak, time};
use crate::report::{Bars, Cell, Report, Unit};

/// What both maps can do.
trait Interests {
    fn new() -> Self;
    fn register(&mut self, peer: u64, state: u64);
    fn unregister(&mut self, peer: u64, state: u64);
    fn remove(&mut self, peer: u64);
}

struct Ours {
    map: InterestMap<u64>,
    changes: Vec<InterestChange<u64>>,
}

impl Interests for Ours {
    fn new() -> Self {
        Self { map: InterestMap::default(), changes: Vec::new() }
    }

    fn register(&mut self, peer: u64, state: u64) {
        let declared = self.map.declare(peer, StateId(state), InterestLevel::High, None, Instant::ZERO);
        declared.expect("within the limits");
    }

    fn unregister(&mut self, peer: u64, state: u64) {
        self.map.withdraw(peer, StateId(state)).expect("it was declared");
    }

    fn remove(&mut self, peer: u64) {
        self.changes.clear();
        self.map.remove_peer(peer, &mut self.changes);
    }
}

struct Theirs(TheirMap);

impl Interests for Theirs {
    fn new() -> Self {
        Self(TheirMap::new())
    }

    fn register(&mut self, peer: u64, state: u64) {
        self.0.register(InterestDeclaration::new(NodeId::new(peer), state, TheirLevel::High));
    }

    fn unregister(&mut self, peer: u64, state: u64) {
        self.0.unregister(NodeId::new(peer), state);
    }

    fn remove(&mut self, peer: u64) {
        self.0.remove_node(NodeId::new(peer));
    }
}

/// Peers who stay throughout.
const OTHERS: u64 = 1_000;

fn with_states<I: Interests>(states: u64) -> I {
    let mut map = I::new();
    for state in 0..states {
        map.register(state % OTHERS, state);
    }
    map
}

const STATES: u64 = 100_000;
const STATES_OF_ONE: u64 = 4;
/// Removed one after the other under one reading of the clock, which would else be most of what is measured.
const LEAVERS: u64 = 16;

/// Microseconds per removal of one peer with a few interests.
fn removal<I: Interests>(map: &mut I) -> f64 {
    let leavers = OTHERS..OTHERS + LEAVERS;
    for peer in leavers.clone() {
        for number in 0..STATES_OF_ONE {
            map.register(peer, (peer * 7_919 + number * 24_593) % STATES);
        }
    }
    let took = time(|| leavers.for_each(|peer| map.remove(peer)));
    took.as_secs_f64() * 1e6 / LEAVERS as f64
}

/// Interests that stay throughout.
const STANDING: u64 = 10_000;

struct Heap {
    before: u64,
    peak: u64,
    after: u64,
}

impl Heap {
    fn after_relative(&self) -> f64 {
        self.after as f64 / self.before as f64 * 100.0
    }
}

/// Registers and unregisters `pairs` interests in states that nobody else wants, `at_once` at a time.
fn come_and_go<I: Interests>(pairs: u64, at_once: u64) -> Heap {
    let none = heap_bytes();
    let mut map: I = with_states(STANDING);
    let before = heap_bytes() - none;
    restart_peak();
    for begin in (STANDING..STANDING + pairs).step_by(at_once as usize) {
        let states = begin..(begin + at_once).min(STANDING + pairs);
        for state in states.clone() {
            map.register(state % OTHERS, state);
        }
        for state in states {
            map.unregister(state % OTHERS, state);
        }
    }
    Heap { before, peak: heap_bytes_peak() - none, after: heap_bytes() - none }
}

pub fn run(quick: bool, report: &mut Report, bars: &mut Bars) {
    eprintln!("interest, removal of a peer");
    let (mut ours, mut theirs) = (with_states::<Ours>(STATES), with_states::<Theirs>(STATES));
    let repetitions = if quick { 5 } else { 15 };
    let (ours, theirs) = interleaved(repetitions, || removal(&mut ours), || removal(&mut theirs));
    let (ours, theirs) = (Cell::Is(ours), Cell::Is(theirs));
    report.row("interest: remove a peer, states of others", Some(STATES), Unit::Micros, ours, theirs);
    bars.judge_ratio("removal of a peer at least 1,000 times as fast", ours, theirs, 1_000.0);

    let pairs = if quick { 100_000 } else { 1_000_000 };
    let mut worst = 100.0f64;
    for (name, at_once) in [("one by one", 1), ("all at once", pairs)] {
        eprintln!("interest, {pairs} that come and go {name}");
        let (ours, theirs) = (come_and_go::<Ours>(pairs, at_once), come_and_go::<Theirs>(pairs, at_once));
        let mut row = |what: &str, unit, ours: f64, theirs: f64| {
            let what = format!("interest: {what}, pairs {name}");
            report.row(&what, Some(pairs), unit, Cell::Is(ours), Cell::Is(theirs));
        };
        row("heap before", Unit::Bytes, ours.before as f64, theirs.before as f64);
        row("heap peak", Unit::Bytes, ours.peak as f64, theirs.peak as f64);
        row("heap after", Unit::Bytes, ours.after as f64, theirs.after as f64);
        row("after / before", Unit::Percent, ours.after_relative(), theirs.after_relative());
        if (ours.after_relative() - 100.0).abs() >= (worst - 100.0).abs() {
            worst = ours.after_relative();
        }
    }
    let holds = (!quick).then_some((99.0..=101.0).contains(&worst));
    bars.judge(
        "heap back to what it was, within 1 %, after 1,000,000 pairs",
        holds,
        format!("{worst:.2} % of before"),
    );
}
