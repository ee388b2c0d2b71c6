use alloc::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::edges::{AllEdges, Downstream, EdgeState, EdgeTable, Topology};
use super::*;
use crate::topology::{Edge, Graph, Mesh, Star, Tree};

const STATE: StateId = StateId(7);
const NOW: Instant = Instant::from_secs(1);

fn map(peers: impl IntoIterator<Item = (u32, InterestLevel)>) -> InterestMap<u32> {
    let mut map = InterestMap::default();
    for (peer, level) in peers {
        map.declare(peer, STATE, level, None, NOW).unwrap();
    }
    map
}

fn one_of_each() -> InterestMap<u32> {
    map((0..5).map(|number| (u32::from(number), InterestLevel::from_u8(number).unwrap())))
}

fn decided(update: UpdateFacts) -> Vec<(u32, Class, Quality, u64)> {
    let mut decisions = Decisions::new();
    decisions.decide(&update, &one_of_each(), &mut AllEdges::default(), NOW);
    let row = |sent: &Decision<u32>| (sent.to, sent.class, sent.quality, sent.delay().as_millis() as u64);
    decisions.sends().iter().map(row).collect()
}

#[test]
fn the_table() {
    let rows = [
        (4, Class::Urgent, Quality::Full, 0),
        (3, Class::High, Quality::Full, 10),
        (2, Class::Normal, Quality::Reduced, 50),
        (1, Class::Background, Quality::Keyframes, 200),
    ];
    assert_eq!(decided(UpdateFacts::new(STATE, 1)), rows);
    assert_eq!(decided(UpdateFacts { keyframe: false, ..UpdateFacts::new(STATE, 1) }), rows[..3]);
    assert_eq!(decided(UpdateFacts { layer: 1, ..UpdateFacts::new(STATE, 1) }), rows[..2]);
}

#[test]
fn a_priority_raises_and_never_lowers() {
    let classes = |priority| {
        let rows = decided(UpdateFacts { priority, ..UpdateFacts::new(STATE, 1) });
        rows.into_iter().map(|(_, class, ..)| class).collect::<Vec<_>>()
    };
    let table = [Class::Urgent, Class::High, Class::Normal, Class::Background];
    assert_eq!(classes(Priority::Background), table);
    assert_eq!(classes(Priority::Normal), table);
    assert_eq!(classes(Priority::High), [Class::Urgent, Class::High, Class::High, Class::High]);
    assert_eq!(classes(Priority::Urgent), [Class::Urgent; 4]);
}

#[test]
fn a_deadline_shortens_the_delay_and_then_forbids() {
    let update =
        |millis| UpdateFacts { deadline: Some(Instant::from_millis(millis)), ..UpdateFacts::new(STATE, 1) };
    let delays: Vec<_> = decided(update(1_020)).iter().map(|row| row.3).collect();
    assert_eq!(delays, [0, 10, 20, 20]);
    assert_eq!(decided(update(1_000)).len(), 4);
    assert!(decided(update(999)).is_empty());

    let mut edges = EdgeTable::new();
    for peer in 1..5 {
        edges.set(peer, EdgeState::new().with_rtt(Some(Duration::from_millis(20 * u64::from(peer)))));
    }
    let mut decisions = Decisions::new();
    decisions.decide(&update(1_030), &one_of_each(), &mut edges, NOW);
    assert_eq!(decisions.skipped(Skipped::Late), 1, "40 ms away, and 30 ms are left");
    let delays: Vec<_> = decisions.sends().iter().map(|sent| (sent.to, sent.delay().as_millis())).collect();
    assert_eq!(delays, [(3, 0), (2, 10), (1, 20)]);
}

#[test]
fn every_topology_knows_its_links() {
    let mut changes = Vec::new();
    let mut star = Star::new(0, 9).unwrap();
    let mut tree = Tree::new(0, 2).unwrap();
    let mut mesh = Mesh::full(9).unwrap();
    let mut graph = Graph::new(9, 9).unwrap();
    mesh.join(0, &mut changes).unwrap();
    graph.add_peer(0).unwrap();
    for peer in 1..5 {
        star.join(peer, &mut changes).unwrap();
        mesh.join(peer, &mut changes).unwrap();
        graph.add_peer(peer).unwrap();
        let edge = Edge { latency: Duration::from_millis(3), capacity_bytes_per_s: 1, active: peer != 2 };
        graph.connect(0, peer, edge, &mut changes).unwrap();
    }
    changes.clear();
    for peer in 1..5 {
        tree.join(peer, &mut changes).unwrap();
    }

    fn sends<T: Topology<u32>>(topology: &T) -> (Vec<u32>, Vec<u32>) {
        let mut decisions = Decisions::new();
        let update = UpdateFacts::new(STATE, 1);
        decisions.decide(&update, &one_of_each(), &mut Downstream::new(topology, 0), NOW);
        (decisions.sends().iter().map(|sent| sent.to).collect(), decisions.unreachable().to_vec())
    }
    let everybody = (alloc::vec![4, 3, 2, 1], Vec::new());
    assert_eq!(sends(&star), everybody);
    assert_eq!(sends(&mesh), everybody);
    assert_eq!(sends(&graph), (alloc::vec![4, 3, 1], alloc::vec![2]));
    assert_eq!(sends(&tree), (alloc::vec![2, 1], alloc::vec![4, 3]));
    assert_eq!(graph.edge_state(0, 1).unwrap().rtt(), Some(Duration::from_millis(6)));

    let mut table = EdgeTable::new();
    table.apply(0, &changes);
    assert_eq!((table.len(), table.state(1)), (2, Some(EdgeState::new())));
    changes.clear();
    tree.leave(1, &mut changes).unwrap();
    table.apply(0, &changes);
    assert!(table.state(1).is_none());
}

#[test]
fn an_index_that_passes_to_another_peer_misleads_nobody() {
    let (mut map, mut decisions) = (InterestMap::default(), Decisions::new());
    let mut edges = EdgeTable::new();
    edges.set(1, EdgeState::new().with_budget_bytes(Some(5)));
    edges.set(2, EdgeState::new().with_budget_bytes(Some(50)));
    for (peer, left) in [(1, Some(4)), (2, Some(49)), (1, Some(3))] {
        map.declare(peer, STATE, InterestLevel::High, None, NOW).unwrap();
        decisions.decide(&UpdateFacts::new(STATE, 1), &map, &mut edges, NOW);
        assert_eq!(decisions.sends().len(), 1);
        assert_eq!(edges.state(peer).unwrap().budget_bytes(), left);
        map.withdraw(peer, STATE).unwrap();
    }
}

#[test]
fn the_memory_is_used_again() {
    let mut map = map((0..1_000).map(|peer| (peer, InterestLevel::High)));
    for peer in 0..1_000 {
        map.declare(peer, crate::InterestTarget::EVERYTHING, InterestLevel::Low, None, NOW).unwrap();
    }
    let (mut edges, mut decisions) = (EdgeTable::new(), Decisions::new());
    for peer in 0..900 {
        edges.set(peer, EdgeState::new().with_budget_bytes(Some(u64::from(peer % 2))));
    }
    decisions.decide(&UpdateFacts::new(STATE, 1), &map, &mut edges, NOW);
    let buffers = |of: &Decisions<u32>| {
        (of.sends.as_ptr(), of.unreachable.as_ptr(), of.over_budget.as_ptr(), of.sends.capacity())
    };
    let before = buffers(&decisions);
    for _ in 0..3 {
        edges.refill(Some(1));
        decisions.decide(&UpdateFacts::new(STATE, 1), &map, &mut edges, NOW);
        assert_eq!((decisions.sends().len(), decisions.unreachable().len()), (900, 100));
        assert_eq!(buffers(&decisions), before);
    }
}

fn level() -> impl Strategy<Value = InterestLevel> {
    (0u8..=4).prop_map(|number| InterestLevel::from_u8(number).unwrap())
}

proptest! {
    /// Against a sorted list of everybody, with overlapping declarations and every kind of link.
    #[test]
    fn agrees_with_a_naive_decision(
        levels in prop::collection::vec((level(), level()), 1..60),
        links in prop::collection::vec(prop::option::of((any::<bool>(), prop::option::of(0u64..300), 0u64..60)), 60),
        priority in prop_oneof![
            Just(Priority::Background), Just(Priority::Normal), Just(Priority::High), Just(Priority::Urgent)
        ],
        keyframe: bool,
        layer in 0u8..3,
        time_left in prop::option::of(0u64..100),
        rounds in 1usize..4,
    ) {
        let (mut map, mut edges) = (InterestMap::default(), EdgeTable::new());
        let (mut wanted, mut budgets) = (BTreeMap::new(), BTreeMap::new());
        for (peer, (exact, wide)) in (0u32..).zip(levels) {
            map.declare(peer, STATE, exact, None, NOW).unwrap();
            let all = crate::InterestTarget::EVERYTHING;
            map.declare(peer, all, wide, None, NOW).unwrap();
            wanted.insert(peer, exact.max(wide));
        }
        for (peer, link) in (0u32..).zip(&links) {
            if let &Some((active, budget, rtt)) = link {
                let state = EdgeState::new().with_active(active).with_budget_bytes(budget);
                edges.set(peer, state.with_rtt(Some(Duration::from_millis(rtt))));
                budgets.insert(peer, budget);
            }
        }
        let deadline = time_left.map(|left| NOW + Duration::from_millis(left));
        let update = UpdateFacts { state: STATE, priority, keyframe, layer, bytes: 100, deadline };
        let mut decisions = Decisions::new();
        for _ in 0..rounds {
            decisions.decide(&update, &map, &mut edges, NOW);
            let (mut sends, mut over) = (BTreeSet::new(), BTreeSet::new());
            let (mut unreachable, mut quality, mut late) = (BTreeSet::new(), 0, 0);
            for (&peer, &level) in &wanted {
                let Some(rule) = LevelRule::raised(level, priority) else { continue };
                if !rule.quality.includes(keyframe, layer) {
                    quality += 1;
                    continue;
                }
                let Some((true, _, rtt)) = links[peer as usize] else {
                    unreachable.insert(peer);
                    continue;
                };
                if time_left.is_some_and(|left| left * 2 < rtt) {
                    late += 1;
                    continue;
                }
                match budgets.get_mut(&peer).unwrap() {
                    Some(budget) if *budget < 100 => over.insert(peer),
                    budget => {
                        *budget = budget.map(|budget| budget - 100);
                        sends.insert(peer)
                    }
                };
            }
            prop_assert_eq!(decisions.sends().iter().map(|sent| sent.to).collect::<BTreeSet<_>>(), sends);
            prop_assert_eq!(decisions.over_budget().iter().map(|sent| sent.to).collect::<BTreeSet<_>>(), over);
            prop_assert_eq!(decisions.unreachable().iter().copied().collect::<BTreeSet<_>>(), unreachable);
            prop_assert_eq!((decisions.skipped(Skipped::Quality), decisions.skipped(Skipped::Late)), (quality, late));
            prop_assert!(decisions.sends().is_sorted_by_key(|sent| sent.class));
            for class in Class::ALL {
                prop_assert!(decisions.in_class(class).iter().all(|sent| sent.class == class));
            }
            prop_assert_eq!(
                Class::ALL.iter().map(|&class| decisions.in_class(class).len()).sum::<usize>(),
                decisions.sends().len()
            );
            for (&peer, &budget) in &budgets {
                prop_assert_eq!(edges.state(peer).unwrap().budget_bytes(), budget);
            }
        }
    }
}
