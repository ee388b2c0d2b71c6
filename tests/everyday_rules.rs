//! The rules that every host relies on, through the public interface alone: who may write, who wants what, who feeds
//! whom, and that bad input gets a clear error and changes nothing.

use core::time::Duration;

use suffuse::authority::{AuthorityLimits, GrantTerms, WriteRefusal};
use suffuse::{
    AllEdges, AuthorityError, AuthoritySet, Class, Decisions, Edge, EdgeState, EdgeTable, Egress,
    EgressConfig, Graph, Histogram, Instant, InterestError, InterestLevel, InterestLimits, InterestMap,
    InterestTarget, Item, LivestreamTracks, Mesh, Policy, Quality, Role, Star, StateId, StateRange,
    StreamTracks, SwarmId, TopologyError, TrackKind, Tree, UpdateFacts,
};

const NOW: Instant = Instant::from_secs(100);
const STATE: StateId = StateId(7);

const OWNER: u64 = 1;
const MEMBER: u64 = 2;
const STRANGER: u64 = 3;

fn governed_by(policy: Policy<u64>) -> AuthoritySet<u64> {
    let mut set = AuthoritySet::new(SwarmId(1), OWNER, Policy::Frozen, AuthorityLimits::default());
    set.set_policy(OWNER, StateRange::single(STATE), policy, NOW, &mut Vec::new()).unwrap();
    set
}

#[test]
fn an_exclusive_state_is_written_by_its_owner_only() {
    let mut set = governed_by(Policy::Exclusive { owner: OWNER });
    assert!(set.may_write(OWNER, STATE, NOW));
    assert_eq!(set.check_write(STRANGER, STATE, NOW), Err(WriteRefusal::NoRight));

    let mut changes = Vec::new();
    let refused = set.grant(OWNER, MEMBER, STATE, GrantTerms::default(), NOW, &mut changes);
    assert_eq!(refused, Err(AuthorityError::NotShared));
    assert!(changes.is_empty());
    assert!(!set.may_write(MEMBER, STATE, NOW));
}

#[test]
fn a_shared_state_is_written_by_its_founder_and_whom_it_granted() {
    let mut set = governed_by(Policy::Shared { founder: OWNER });
    let mut changes = Vec::new();
    assert!(set.may_write(OWNER, STATE, NOW));
    assert!(!set.may_write(MEMBER, STATE, NOW));

    set.grant(OWNER, MEMBER, STATE, GrantTerms::default(), NOW, &mut changes).unwrap();
    assert!(set.may_write(MEMBER, STATE, NOW));
    assert!(set.writers(STATE).eq([OWNER, MEMBER]));
    changes.clear();

    // Those without the right to grant can give nothing away.
    let by_stranger = set.grant(STRANGER, STRANGER, STATE, GrantTerms::default(), NOW, &mut changes);
    assert_eq!(by_stranger, Err(AuthorityError::NotMember));
    let by_member = set.grant(MEMBER, STRANGER, STATE, GrantTerms::default(), NOW, &mut changes);
    assert_eq!(by_member, Err(AuthorityError::Onward { wanted: 0, max: None }));
    assert!(changes.is_empty());
    assert!(!set.may_write(STRANGER, STATE, NOW));

    set.revoke(OWNER, MEMBER, STATE, NOW, &mut changes).unwrap();
    assert!(!set.may_write(MEMBER, STATE, NOW));
}

#[test]
fn an_open_state_is_written_by_anybody() {
    let set = governed_by(Policy::Open);
    assert!([OWNER, MEMBER, STRANGER, u64::MAX].iter().all(|&peer| set.may_write(peer, STATE, NOW)));
}

#[test]
fn a_frozen_state_is_written_by_nobody() {
    let set = governed_by(Policy::Frozen);
    for peer in [OWNER, MEMBER, STRANGER] {
        assert_eq!(set.check_write(peer, STATE, NOW), Err(WriteRefusal::Frozen));
    }

    let mut set = governed_by(Policy::Open);
    set.freeze(OWNER, STATE, NOW, &mut Vec::new()).unwrap();
    assert!([OWNER, MEMBER, STRANGER].iter().all(|&peer| !set.may_write(peer, STATE, NOW)));
    set.thaw(OWNER, STATE, NOW, &mut Vec::new()).unwrap();
    assert!(set.may_write(STRANGER, STATE, NOW));
}

#[test]
fn a_broadcaster_writes_picture_and_sound_a_viewer_does_not_and_both_chat() {
    let (broadcaster, viewer) = (5, 6);
    let mut set = AuthoritySet::new(SwarmId(1), OWNER, Policy::Frozen, AuthorityLimits::default());
    let tracks = LivestreamTracks::new(3).unwrap();
    tracks.install(&mut set, broadcaster, NOW, &mut Vec::new()).unwrap();

    for track in [tracks.visual(), tracks.audio()] {
        assert!(set.may_write(broadcaster, track, NOW));
        assert_eq!(set.check_write(viewer, track, NOW), Err(WriteRefusal::NoRight));
    }
    assert!(set.may_write(broadcaster, tracks.chat(), NOW));
    assert!(set.may_write(viewer, tracks.chat(), NOW));
}

#[test]
fn refused_changes_of_authority_change_nothing() {
    let mut set = governed_by(Policy::Exclusive { owner: OWNER });
    let mut changes = Vec::new();
    let all = [OWNER, MEMBER, STRANGER].map(|peer| set.may_write(peer, STATE, NOW));

    let overlapping = StateRange::new(StateId(5), StateId(9)).unwrap();
    let refusals = [
        set.set_policy(STRANGER, StateRange::single(STATE), Policy::Open, NOW, &mut changes),
        set.set_policy(OWNER, overlapping, Policy::Open, NOW, &mut changes),
        set.transfer(STRANGER, STRANGER, STATE, NOW, &mut changes),
        set.freeze(STRANGER, STATE, NOW, &mut changes),
        set.thaw(OWNER, STATE, NOW, &mut changes),
    ];
    let expected = [
        AuthorityError::NotFounder,
        AuthorityError::Overlap { with: StateRange::single(STATE) },
        AuthorityError::NotOwner,
        AuthorityError::NotOwner,
        AuthorityError::NotFrozen,
    ];
    assert_eq!(refusals, expected.map(Err));
    assert!(changes.is_empty());
    assert_eq!(all, [OWNER, MEMBER, STRANGER].map(|peer| set.may_write(peer, STATE, NOW)));
}

#[test]
fn a_registered_interest_is_counted_and_its_level_read() {
    let mut map = InterestMap::default();
    map.declare(1, STATE, InterestLevel::High, None, NOW).unwrap();
    map.declare(2, STATE, InterestLevel::Low, None, NOW).unwrap();
    assert_eq!(map.count(STATE, InterestLevel::None), 2);
    assert_eq!(map.level(1, STATE), InterestLevel::High);
    assert_eq!(map.level(2, STATE), InterestLevel::Low);
    assert_eq!(map.level(3, STATE), InterestLevel::None);
    assert_eq!(map.count(StateId(8), InterestLevel::None), 0);

    map.withdraw(1, STATE).unwrap();
    assert_eq!(map.count(STATE, InterestLevel::None), 1);
    assert_eq!(map.level(1, STATE), InterestLevel::None);
}

#[test]
fn interested_peers_are_filtered_by_least_level() {
    let mut map = InterestMap::default();
    let levels = [InterestLevel::Low, InterestLevel::Medium, InterestLevel::High, InterestLevel::Critical];
    for (peer, level) in levels.into_iter().enumerate() {
        map.declare(peer, STATE, level, None, NOW).unwrap();
    }
    for (below, least) in levels.into_iter().enumerate() {
        let found: Vec<usize> = map.interested(STATE, least).map(|(peer, _)| peer).collect();
        assert_eq!(found, (below..4).rev().collect::<Vec<_>>(), "the highest come first");
        assert_eq!(map.count(STATE, least), 4 - below);
    }
}

#[test]
fn viewers_and_lurkers_are_counted_until_they_leave() {
    let stream = StreamTracks::new([(StateId(1), TrackKind::Visual), (StateId(2), TrackKind::Audio)]);
    let mut map = InterestMap::default();
    let mut changes = Vec::new();
    for (peer, role) in [(1, Role::Viewer), (2, Role::Viewer), (3, Role::Lurker)] {
        map.set_role(peer, &stream, role, None, NOW, &mut changes).unwrap();
    }
    assert_eq!((map.viewers(), map.lurkers()), (2, 1));
    assert!(map.level(1, StateId(1)) > map.level(3, StateId(1)));

    map.set_role(2, &stream, Role::Lurker, None, NOW, &mut changes).unwrap();
    assert_eq!((map.viewers(), map.lurkers()), (1, 2));

    assert_eq!(map.remove_peer(1, &mut changes), 2);
    map.remove_peer(3, &mut changes);
    assert_eq!((map.viewers(), map.lurkers()), (0, 1));
    assert_eq!(map.count(StateId(1), InterestLevel::None), 1);
}

#[test]
fn refused_interests_change_nothing() {
    let limits =
        InterestLimits { peers_max: 2, declarations_per_peer_max: 1, ranges_max: 0, ..Default::default() };
    let mut map = InterestMap::new(limits);
    map.declare(1, STATE, InterestLevel::Medium, None, NOW).unwrap();
    map.declare(2, STATE, InterestLevel::Low, None, NOW).unwrap();
    let before = (map.totals(), map.poll_timeout());

    let other = StateId(8);
    let ttl = |duration| Some(duration);
    let high = InterestLevel::High;
    let refusals = [
        map.declare(1, STATE, high, ttl(Duration::MAX), NOW),
        map.declare(1, STATE, high, ttl(Duration::from_secs(1)), Instant::MAX),
        map.declare(1, STATE, high, ttl(Duration::ZERO), NOW),
        map.declare(3, STATE, high, None, NOW),
        map.declare(1, other, high, None, NOW),
        map.withdraw(3, STATE),
        map.withdraw(1, other),
    ];
    let expected = [
        InterestError::TtlTooLong,
        InterestError::TtlTooLong,
        InterestError::ZeroTtl,
        InterestError::TooManyPeers { max: 2 },
        InterestError::TooManyOfPeer { max: 1 },
        InterestError::UnknownPeer,
        InterestError::NotDeclared,
    ];
    assert_eq!(refusals, expected.map(Err));

    let mut changes = Vec::new();
    let wide = [(InterestTarget::EVERYTHING, high), (STATE.into(), InterestLevel::None)];
    let refused = map.declare_all(1, wide, None, NOW, &mut changes);
    assert_eq!(refused, Err(InterestError::TooManyRanges { max: 0 }));
    assert_eq!(map.remove_peer(3, &mut changes), 0);
    assert!(changes.is_empty());

    assert_eq!((map.totals(), map.poll_timeout()), before);
    assert_eq!((map.level(1, STATE), map.level(2, STATE)), (InterestLevel::Medium, InterestLevel::Low));

    // A refused call must not have moved the time either: a short life still begins at `NOW`.
    map.declare(1, STATE, high, ttl(Duration::from_secs(1)), NOW).unwrap();
    assert_eq!(map.poll_timeout(), Some(NOW + Duration::from_secs(1)));
}

#[test]
fn whoever_wants_it_most_is_scheduled_first() {
    let mut map = InterestMap::default();
    for (peer, level) in [
        (1, InterestLevel::Low),
        (2, InterestLevel::Critical),
        (3, InterestLevel::Medium),
        (4, InterestLevel::High),
    ] {
        map.declare(peer, STATE, level, None, NOW).unwrap();
    }
    let mut decisions = Decisions::new();
    decisions.decide(&UpdateFacts::new(STATE, 1_000), &map, &mut AllEdges::default(), NOW);
    let found: Vec<_> = decisions.sends().iter().map(|d| (d.to, d.class, d.quality, d.delay())).collect();
    let millis = Duration::from_millis;
    assert_eq!(
        found,
        [
            (2, Class::Urgent, Quality::Full, millis(0)),
            (4, Class::High, Quality::Full, millis(10)),
            (3, Class::Normal, Quality::Reduced, millis(50)),
            (1, Class::Background, Quality::Keyframes, millis(200)),
        ]
    );
}

#[test]
fn whoever_has_no_link_or_no_budget_is_named_and_not_sent_to() {
    let mut map = InterestMap::default();
    let mut edges = EdgeTable::new();
    for peer in [1, 2, 3] {
        map.declare(peer, STATE, InterestLevel::High, None, NOW).unwrap();
    }
    edges.set(1, EdgeState::new().with_budget_bytes(Some(1_500)));
    edges.set(2, EdgeState::new().with_active(false));

    let mut decisions = Decisions::new();
    let mut decide = |edges: &mut EdgeTable<_>| {
        decisions.decide(&UpdateFacts::new(STATE, 1_000), &map, edges, NOW);
        let to = |found: &[suffuse::Decision<_>]| found.iter().map(|d| d.to).collect::<Vec<_>>();
        (to(decisions.sends()), to(decisions.over_budget()), decisions.unreachable().to_vec())
    };
    assert_eq!(decide(&mut edges), (vec![1], vec![], vec![2, 3]));
    assert_eq!(edges.state(1).unwrap().budget_bytes(), Some(500));
    assert_eq!(decide(&mut edges), (vec![], vec![1], vec![2, 3]));
    assert_eq!(edges.state(1).unwrap().budget_bytes(), Some(500), "a refusal takes nothing");
}

#[test]
fn statistics_count_sum_and_keep_the_peak() {
    let mut egress = Egress::new(EgressConfig::default(), 1_500, 10, NOW);
    egress.open(1, true, NOW);
    let sizes = [1_000, 400, 700];
    for (message, bytes) in sizes.into_iter().enumerate() {
        let item = Item { message, bytes, class: Class::Normal, deadline: None, key: None };
        let _ = egress.enqueue(1, item, NOW);
    }
    while egress.poll(NOW, &mut Vec::new()).is_some() {}
    let sent = egress.stats().sent(Class::Normal);
    assert_eq!((egress.stats().offered, sent.items, sent.bytes), (3, 3, 2_100));
    assert_eq!(egress.stats().dropped(), 0);

    let to_stranger = Item { message: 9, bytes: 100, class: Class::Normal, deadline: None, key: None };
    let _ = egress.enqueue(2, to_stranger, NOW);
    assert_eq!((egress.stats().offered, egress.stats().dropped()), (4, 1));

    let mut latency_ms = Histogram::new();
    for latency in [50, 100, 75] {
        latency_ms.record(latency);
    }
    assert_eq!((latency_ms.count(), latency_ms.sum(), latency_ms.max()), (3, 225, Some(100)));
    assert_eq!(latency_ms.mean(), Some(75));
}

#[test]
fn a_star_of_three_leaves_has_three_downstream() {
    let mut star = Star::new(0, 10).unwrap();
    for leaf in [1, 2, 3] {
        assert_eq!(star.join(leaf, &mut Vec::new()), Ok(true));
    }
    assert_eq!(star.downstream(0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(star.downstream(1).count(), 0);
}

#[test]
fn a_tree_of_fan_out_two_with_seven_peers_has_two_children_at_the_root() {
    let mut tree = Tree::new(0, 2).unwrap();
    for peer in 1..7 {
        tree.join(peer, &mut Vec::new()).unwrap();
    }
    assert_eq!(tree.len(), 7);
    assert_eq!(tree.children(0).count(), 2);
    assert_eq!(tree.max_depth(), 2);
}

#[test]
fn in_a_mesh_of_three_everybody_has_two_downstream() {
    let mut mesh = Mesh::full(10).unwrap();
    for peer in [1, 2, 3] {
        mesh.join(peer, &mut Vec::new()).unwrap();
    }
    assert_eq!(mesh.downstream(1).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(mesh.downstream(2).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(mesh.downstream(3).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_capacity_of_zero_is_refused() {
    assert_eq!(Star::new(0, 0), Err(TopologyError::ZeroCapacity));
    assert!(matches!(Tree::new(0, 0), Err(TopologyError::ZeroCapacity)));
    assert_eq!(Mesh::<u64>::full(0), Err(TopologyError::ZeroCapacity));
    assert_eq!(Mesh::<u64>::bounded(10, 0), Err(TopologyError::ZeroCapacity));
    assert_eq!(Graph::<u64>::new(0, 1), Err(TopologyError::ZeroCapacity));
    assert_eq!(Graph::<u64>::new(1, 0), Err(TopologyError::ZeroCapacity));
}

#[test]
fn refused_operations_on_a_star_change_nothing() {
    let mut changes = Vec::new();
    let mut star = Star::new(0, 1).unwrap();
    star.join(1, &mut changes).unwrap();
    changes.clear();
    let before = star.clone();

    assert_eq!(star.join(2, &mut changes), Err(TopologyError::CapReached { max: 1 }));
    assert_eq!(star.join(0, &mut changes), Ok(false), "the hub is no leaf of its own");
    assert_eq!(star.leave(0, &mut changes), Err(TopologyError::RootRemoval));
    assert_eq!(star.leave(9, &mut changes), Err(TopologyError::UnknownPeer));
    assert_eq!(star.re_root(9, &mut changes), Err(TopologyError::UnknownPeer));
    assert_eq!(star, before);
    assert!(changes.is_empty());
}

#[test]
fn refused_operations_on_a_tree_change_nothing() {
    let mut changes = Vec::new();
    let mut tree = Tree::new(0, 2).unwrap().with_peers_max(3);
    for peer in [1, 2] {
        tree.join(peer, &mut changes).unwrap();
    }
    changes.clear();

    assert_eq!(tree.join(3, &mut changes), Err(TopologyError::CapReached { max: 3 }));
    assert_eq!(tree.leave(0, &mut changes), Err(TopologyError::RootRemoval));
    assert_eq!(tree.leave(9, &mut changes), Err(TopologyError::UnknownPeer));
    assert_eq!(tree.re_root(9, &mut changes), Err(TopologyError::UnknownPeer));
    assert_eq!(tree.set_capacity(9, 1, &mut changes), Err(TopologyError::UnknownPeer));
    assert_eq!(tree.set_capacity(0, 0, &mut changes), Err(TopologyError::ZeroCapacity));
    assert!(changes.is_empty());
    assert_eq!(tree.root(), 0);
    assert_eq!(tree.children(0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(tree.capacity(0), Some(2));

    assert_eq!(tree.parent(9), None);
    assert_eq!(tree.depth(9), None);
    assert_eq!(tree.subtree_len(9), 0);
}

#[test]
fn refused_operations_on_a_mesh_change_nothing() {
    let mut changes = Vec::new();
    let mut mesh = Mesh::full(2).unwrap();
    for peer in [1, 2] {
        mesh.join(peer, &mut changes).unwrap();
    }
    changes.clear();
    let before = mesh.clone();

    assert_eq!(mesh.join(3, &mut changes), Err(TopologyError::CapReached { max: 2 }));
    assert_eq!(mesh.leave(9, &mut changes), Err(TopologyError::UnknownPeer));
    assert!(!mesh.are_linked(1, 1), "nobody is a neighbour of itself");
    assert_eq!(mesh, before);
    assert!(changes.is_empty());
}

#[test]
fn refused_operations_on_a_graph_change_nothing() {
    let edge = Edge { latency: Duration::from_millis(10), capacity_bytes_per_s: 1_000, active: true };
    let mut changes = Vec::new();
    let mut graph = Graph::new(3, 1).unwrap();
    for peer in [1, 2, 3] {
        graph.add_peer(peer).unwrap();
    }
    graph.connect(1, 2, edge, &mut changes).unwrap();
    changes.clear();
    let before = graph.clone();

    let refusals = [
        graph.connect(1, 1, edge, &mut changes),
        graph.connect(1, 9, edge, &mut changes),
        graph.connect(9, 1, edge, &mut changes),
        graph.connect(1, 3, edge, &mut changes),
        graph.connect(2, 3, Edge { capacity_bytes_per_s: 0, ..edge }, &mut changes),
    ];
    let expected = [
        TopologyError::SelfEdge,
        TopologyError::UnknownPeer,
        TopologyError::UnknownPeer,
        TopologyError::CapReached { max: 1 },
        TopologyError::ZeroCapacity,
    ];
    assert_eq!(refusals, expected.map(Err));
    assert_eq!(graph.add_peer(4), Err(TopologyError::CapReached { max: 3 }));
    assert_eq!(graph.remove_peer(9, &mut changes), Err(TopologyError::UnknownPeer));
    assert_eq!(graph.disconnect(2, 1, &mut changes), Err(TopologyError::UnknownEdge));
    assert_eq!(graph.set_active(2, 1, false, &mut changes), Err(TopologyError::UnknownEdge));
    assert_eq!(graph, before);
    assert!(changes.is_empty());
}

#[test]
fn every_refusal_says_what_it_left() {
    let refusals: [&dyn core::fmt::Display; 6] = [
        &TopologyError::SelfEdge,
        &TopologyError::RootRemoval,
        &TopologyError::CapReached { max: 3 },
        &InterestError::UnknownPeer,
        &InterestError::TtlTooLong,
        &AuthorityError::NotFounder,
    ];
    for refusal in refusals {
        assert!(refusal.to_string().ends_with("nothing was changed"), "{refusal}");
    }
}
