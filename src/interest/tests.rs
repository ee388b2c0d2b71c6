//! The map against a naive model, and each behaviour by itself.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::StateId;
use crate::time::Instant;

use InterestLevel::{Critical, High, Low, Medium, None as No};

type Map = InterestMap<u16>;

const FOREVER: Option<Duration> = None;

fn ttl_micros(micros: u64) -> Option<Duration> {
    Some(Duration::from_micros(micros))
}

/// The definition, word for word: a list of declarations, scanned for every answer.
#[derive(Clone, Default)]
struct Naive {
    declarations: BTreeMap<(u16, InterestTarget), (InterestLevel, Option<Instant>)>,
    now: Instant,
}

impl Naive {
    fn levels(&self, state: StateId) -> BTreeMap<u16, InterestLevel> {
        let mut levels = BTreeMap::new();
        for (&(peer, target), &(level, _)) in &self.declarations {
            if target.contains(state) {
                let highest = levels.entry(peer).or_insert(level);
                *highest = level.max(*highest);
            }
        }
        levels
    }

    fn max_level(&self, state: StateId) -> InterestLevel {
        self.levels(state).into_values().max().unwrap_or_default()
    }

    fn aggregates(&self) -> BTreeMap<InterestTarget, InterestLevel> {
        let mut aggregates = BTreeMap::new();
        for (&(_, target), &(level, _)) in &self.declarations {
            let highest = aggregates.entry(target).or_insert(level);
            *highest = level.max(*highest);
        }
        aggregates
    }

    fn aggregate(&self, target: InterestTarget) -> InterestLevel {
        self.aggregates().get(&target).copied().unwrap_or_default()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.declarations.values().filter_map(|&(_, expires)| expires).min()
    }

    fn refusal(&self, limits: &InterestLimits, peer: u16, target: InterestTarget) -> Option<InterestError> {
        if self.declarations.contains_key(&(peer, target)) {
            return None;
        }
        let targets: BTreeSet<_> = self.declarations.keys().map(|&(_, target)| target).collect();
        let ranges = targets.iter().filter(|target| !target.is_state()).count();
        let peers: BTreeSet<_> = self.declarations.keys().map(|&(peer, _)| peer).collect();
        let own = self.declarations.keys().filter(|&&(owner, _)| owner == peer).count();
        if !peers.contains(&peer) && peers.len() == limits.peers_max {
            Some(InterestError::TooManyPeers { max: limits.peers_max })
        } else if own == limits.declarations_per_peer_max {
            Some(InterestError::TooManyOfPeer { max: limits.declarations_per_peer_max })
        } else if self.declarations.len() == limits.declarations_max {
            Some(InterestError::TooManyDeclarations { max: limits.declarations_max })
        } else if targets.contains(&target) {
            None
        } else if targets.len() == limits.targets_max {
            Some(InterestError::TooManyTargets { max: limits.targets_max })
        } else if !target.is_state() && ranges == limits.ranges_max {
            Some(InterestError::TooManyRanges { max: limits.ranges_max })
        } else {
            None
        }
    }

    fn set(&mut self, peer: u16, target: InterestTarget, level: InterestLevel, expires: Option<Instant>) {
        if level == No {
            self.declarations.remove(&(peer, target));
        } else {
            self.declarations.insert((peer, target), (level, expires));
        }
    }
}

const STATES: u64 = 10;

fn states() -> impl Iterator<Item = StateId> {
    (0..STATES).map(StateId).chain([StateId(1 << 40), StateId(u64::MAX)])
}

/// Everything that can be asked, compared.
fn check(map: &Map, naive: &Naive) -> Result<(), TestCaseError> {
    prop_assert_eq!(map.poll_timeout(), naive.poll_timeout());
    let mut buckets = LevelBuckets::new();
    for state in states() {
        let levels = naive.levels(state);
        prop_assert_eq!(map.max_level(state), naive.max_level(state));
        for peer in 0..8 {
            prop_assert_eq!(map.level(peer, state), levels.get(&peer).copied().unwrap_or_default());
        }
        for min in [No, Low, Medium, High, Critical] {
            let expected: BTreeMap<_, _> = levels
                .iter()
                .map(|(&peer, &level)| (peer, level))
                .filter(|&(_, level)| level >= min)
                .collect();
            let interested = map.interested(state, min);
            prop_assert_eq!(interested.len(), expected.len());
            let listed: Vec<_> = interested.collect();
            prop_assert!(listed.is_sorted_by(|a, b| a.1 >= b.1), "levels out of order: {:?}", listed);
            prop_assert_eq!(listed.len(), expected.len(), "a peer came twice: {:?}", listed);
            prop_assert_eq!(listed.iter().copied().collect::<BTreeMap<_, _>>(), expected.clone());
            prop_assert_eq!(map.count(state, min), expected.len());

            map.collect_interested(state, min, &mut buckets);
            prop_assert_eq!(buckets.len(), expected.len());
            for level in InterestLevel::DESCENDING {
                let at: Vec<_> =
                    listed.iter().filter(|&&(_, own)| own == level).map(|&(peer, _)| peer).collect();
                prop_assert_eq!(buckets.at(level), at);
                let at_least: Vec<_> =
                    listed.iter().filter(|&&(_, own)| own >= level).map(|&(peer, _)| peer).collect();
                prop_assert_eq!(buckets.at_least(level), at_least);
            }
            prop_assert_eq!(buckets.at(No), &[] as &[u16]);
        }
    }

    let aggregates = naive.aggregates();
    prop_assert_eq!(map.aggregates().collect::<BTreeMap<_, _>>(), aggregates.clone());
    prop_assert_eq!(map.aggregates().count(), aggregates.len());
    for (&target, &level) in &aggregates {
        prop_assert_eq!(map.aggregate(target), level);
    }
    for (&(peer, target), &(level, expires)) in &naive.declarations {
        prop_assert_eq!(map.declared(peer, target), level);
        prop_assert_eq!(map.expires(peer, target), expires);
    }
    let mut own = 0;
    for peer in 0..8 {
        let listed: Vec<_> = map.states_of(peer).collect();
        own += listed.len();
        prop_assert!(
            listed.is_sorted_by_key(|&(target, _)| (target.class() > 0).then_some((target.class(), target)))
        );
        for (target, level) in listed {
            prop_assert_eq!(naive.declarations.get(&(peer, target)).map(|&(level, _)| level), Some(level));
        }
    }
    prop_assert_eq!(own, naive.declarations.len());

    let totals = map.totals();
    let peers: BTreeSet<_> = naive.declarations.keys().map(|&(peer, _)| peer).collect();
    prop_assert_eq!(map.peers().collect::<BTreeSet<_>>(), peers.clone());
    prop_assert_eq!(totals.peers, peers.len());
    prop_assert_eq!(totals.targets, aggregates.len());
    prop_assert_eq!(totals.ranges, aggregates.keys().filter(|target| !target.is_state()).count());
    prop_assert_eq!(totals.declarations, naive.declarations.len());
    prop_assert_eq!(map.len(), naive.declarations.len());
    prop_assert_eq!(map.is_empty(), naive.declarations.is_empty());
    for (rank, level) in InterestLevel::DESCENDING.into_iter().enumerate() {
        let count = naive.declarations.values().filter(|&&(own, _)| own == level).count();
        prop_assert_eq!(totals.declarations_by_level[rank], count);
    }
    Ok(())
}

/// A change against the model before and after it.
fn check_change(change: InterestChange<u16>, before: &Naive, after: &Naive) -> Result<(), TestCaseError> {
    let target = change.target;
    let level =
        |naive: &Naive| naive.declarations.get(&(change.peer, target)).map_or(No, |&(level, _)| level);
    prop_assert_eq!((change.from, change.to), (level(before), level(after)));
    let (from, to) = (before.aggregate(target), after.aggregate(target));
    prop_assert_eq!(change.aggregate.is_some(), from != to, "{:?}", change);
    if let Some(aggregate) = change.aggregate {
        prop_assert_eq!((aggregate.target, aggregate.from, aggregate.to), (target, from, to));
        let wider =
            after.aggregates().into_iter().filter(|&(wider, _)| wider != target && wider.covers(target));
        prop_assert_eq!(aggregate.covered, wider.map(|(_, level)| level).max().unwrap_or_default());
        if target.is_state() {
            let state = target.first();
            prop_assert_eq!(aggregate.effective(), (before.max_level(state), after.max_level(state)));
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Declare(u16, InterestTarget, InterestLevel, Option<Duration>),
    DeclareAll(u16, Vec<(InterestTarget, InterestLevel)>, Option<Duration>),
    Withdraw(u16, InterestTarget),
    Remove(u16),
    Wait(u64),
}

fn level() -> impl Strategy<Value = InterestLevel> {
    prop::sample::select(&[No, Low, Medium, High, Critical][..])
}

fn target() -> impl Strategy<Value = InterestTarget> {
    let state = || (0..STATES).prop_map(StateId);
    prop_oneof![
        4 => state().prop_map(InterestTarget::state),
        1 => Just(InterestTarget::state(StateId(u64::MAX))),
        3 => (state(), state()).prop_map(|(a, b)| InterestTarget::range(a.min(b)..=a.max(b)).unwrap()),
        2 => (state(), 0u8..=64).prop_map(|(state, bits)| InterestTarget::prefix(state, bits).unwrap()),
        1 => state().prop_map(|state| InterestTarget::range(state..).unwrap()),
    ]
}

const BAD_TTLS: &[Duration] = &[Duration::ZERO, Duration::MAX, Duration::from_nanos(999)];

fn ttl() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        3 => Just(None),
        6 => (1u64..30).prop_map(ttl_micros),
        1 => prop::sample::select(BAD_TTLS).prop_map(Some),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 0u16..6;
    prop_oneof![
        8 => (peer(), target(), level(), ttl()).prop_map(|(p, t, l, ttl)| Step::Declare(p, t, l, ttl)),
        2 => (peer(), prop::collection::vec((target(), level()), 0..5), ttl())
            .prop_map(|(p, all, ttl)| Step::DeclareAll(p, all, ttl)),
        2 => (peer(), target()).prop_map(|(p, t)| Step::Withdraw(p, t)),
        1 => peer().prop_map(Step::Remove),
        2 => (0u64..12).prop_map(Step::Wait),
    ]
}

fn expiry(now: Instant, ttl: Option<Duration>) -> Result<Option<Instant>, InterestError> {
    match ttl {
        None => Ok(None),
        Some(Duration::MAX) => Err(InterestError::TtlTooLong),
        Some(ttl) if ttl < Duration::from_micros(1) => Err(InterestError::ZeroTtl),
        Some(ttl) => Ok(Some(now + ttl)),
    }
}

/// Runs one step on both, and says what changed.
fn run(
    map: &mut Map,
    naive: &mut Naive,
    limits: &InterestLimits,
    step: Step,
) -> Result<Vec<AggregateChange>, TestCaseError> {
    let before = naive.clone();
    let now = naive.now;
    let mut changes = Vec::new();
    match step {
        Step::Declare(peer, target, level, ttl) => {
            let expected = match expiry(now, ttl) {
                _ if level == No => Ok(None),
                Ok(expires) => naive.refusal(limits, peer, target).map_or(Ok(expires), Err),
                Err(error) => Err(error),
            };
            let result = map.declare(peer, target, level, ttl, now);
            match expected {
                Ok(expires) => {
                    naive.set(peer, target, level, expires);
                    let change = result.expect("the model accepts it");
                    prop_assert_eq!((change.peer, change.target), (peer, target));
                    check_change(change, &before, naive)?;
                    changes.push(change);
                }
                Err(error) => prop_assert_eq!(result, Err(error)),
            }
        }
        Step::DeclareAll(peer, all, ttl) => {
            let last: BTreeMap<_, _> = all.iter().copied().collect();
            let granted: Vec<_> = last.iter().filter(|&(_, &level)| level != No).collect();
            let withdrawn = last.iter().filter(|&(_, &level)| level == No);
            // Withdrawing first shows whether the end result fits.
            let mut end = naive.clone();
            let mut fits = true;
            for (&target, _) in withdrawn.clone() {
                end.set(peer, target, No, None);
            }
            for &(&target, &level) in &granted {
                fits &= end.refusal(limits, peer, target).is_none() && expiry(now, ttl).is_ok();
                end.set(peer, target, level, expiry(now, ttl).ok().flatten());
            }
            let result = map.declare_all(peer, all.iter().copied(), ttl, now, &mut changes);
            prop_assert_eq!(result.is_ok(), fits, "{:?}", result);
            if fits {
                let mut reported = changes.iter().copied();
                for (&target, &level) in granted.into_iter().chain(withdrawn) {
                    let previous = naive.clone();
                    naive.set(peer, target, level, expiry(now, ttl).ok().flatten());
                    let declared =
                        |naive: &Naive| naive.declarations.get(&(peer, target)).map(|&(level, _)| level);
                    if declared(&previous) != declared(naive) {
                        let change = reported.next().expect("a change is reported");
                        prop_assert_eq!((change.peer, change.target), (peer, target));
                        check_change(change, &previous, naive)?;
                    }
                }
                prop_assert_eq!(reported.next(), None);
            } else {
                prop_assert!(changes.is_empty());
            }
        }
        Step::Withdraw(peer, target) => match map.withdraw(peer, target) {
            Ok(change) => {
                prop_assert!(naive.declarations.remove(&(peer, target)).is_some());
                check_change(change, &before, naive)?;
                changes.push(change);
            }
            Err(error) => {
                let known = naive.declarations.keys().any(|&(owner, _)| owner == peer);
                prop_assert!(!naive.declarations.contains_key(&(peer, target)));
                let expected = if known { InterestError::NotDeclared } else { InterestError::UnknownPeer };
                prop_assert_eq!(error, expected);
            }
        },
        Step::Remove(peer) => {
            let own: BTreeSet<_> =
                naive.declarations.keys().filter(|&&(owner, _)| owner == peer).copied().collect();
            prop_assert_eq!(map.remove_peer(peer, &mut changes), own.len());
            prop_assert_eq!(
                changes.iter().map(|change| (change.peer, change.target)).collect::<BTreeSet<_>>(),
                own
            );
            check_endings(&changes, naive)?;
        }
        Step::Wait(micros) => {
            naive.now += Duration::from_micros(micros);
            let due: BTreeSet<_> = naive
                .declarations
                .iter()
                .filter(|(_, (_, expires))| expires.is_some_and(|at| at <= naive.now))
                .map(|(&key, _)| key)
                .collect();
            map.handle_timeout(naive.now, &mut changes);
            prop_assert_eq!(
                changes.iter().map(|change| (change.peer, change.target)).collect::<BTreeSet<_>>(),
                due
            );
            check_endings(&changes, naive)?;
            prop_assert!(map.poll_timeout().is_none_or(|at| at > naive.now));
        }
    }
    Ok(changes.into_iter().filter_map(|change| change.aggregate).collect())
}

/// Applies the ends of declarations to the model, one by one.
fn check_endings(changes: &[InterestChange<u16>], naive: &mut Naive) -> Result<(), TestCaseError> {
    for &change in changes {
        let before = naive.clone();
        naive.set(change.peer, change.target, No, None);
        check_change(change, &before, naive)?;
    }
    Ok(())
}

fn limits() -> impl Strategy<Value = InterestLimits> {
    let tight = (0usize..6, 0usize..12, 0usize..8, 0usize..8, 0usize..30).prop_map(|(a, b, c, d, e)| {
        InterestLimits {
            peers_max: a,
            targets_max: b,
            ranges_max: c,
            declarations_per_peer_max: d,
            declarations_max: e,
        }
    });
    prop_oneof![3 => Just(InterestLimits::default()), 1 => tight]
}

proptest! {
    #[test]
    fn agrees_with_the_definition(limits in limits(), steps in prop::collection::vec(step(), 1..60)) {
        let mut map = Map::new(limits);
        let mut naive = Naive::default();
        for step in steps {
            run(&mut map, &mut naive, &limits, step)?;
            check(&map, &naive)?;
        }
    }

    /// A relay that tells its parent only what `SubtreeInterest` yields: once all is told, the parent knows of every
    /// state exactly what the children want.
    #[test]
    fn a_parent_learns_what_the_subtree_wants(
        steps in prop::collection::vec((step(), 0usize..4, 0u8..20), 1..80),
    ) {
        let limits = InterestLimits::default();
        let (mut map, mut naive) = (Map::new(limits), Naive::default());
        let (mut parent, mut subtree) = (Map::new(limits), SubtreeInterest::new());
        let tell = |parent: &mut Map, subtree: &mut SubtreeInterest| {
            let told = subtree.poll_change()?;
            Some((told, parent.declare(0, told.target, told.level, FOREVER, Instant::ZERO).unwrap()))
        };
        for (step, polls, event) in steps {
            subtree.extend(run(&mut map, &mut naive, &limits, step)?);
            for _ in 0..polls {
                if let Some((told, change)) = tell(&mut parent, &mut subtree) {
                    prop_assert!(change.from != change.to || told.level != No, "told for nothing: {:?}", told);
                    prop_assert_eq!(told.level, map.aggregate(told.target));
                }
            }
            match event {
                0 => subtree.renew(),
                1 => {
                    parent = Map::new(limits);
                    subtree.reset();
                    prop_assert_eq!(subtree.untold_count(), map.totals().targets);
                }
                _ => {}
            }
            for (target, level) in map.aggregates() {
                prop_assert_eq!(subtree.wanted(target), level);
            }
        }
        while tell(&mut parent, &mut subtree).is_some() {}
        prop_assert_eq!(parent.aggregates().collect::<Vec<_>>(), map.aggregates().collect::<Vec<_>>());
        for state in states() {
            prop_assert_eq!(parent.max_level(state), map.max_level(state));
        }
        subtree.renew();
        prop_assert_eq!(subtree.untold_count(), map.totals().targets);
    }
}

#[test]
fn register_count_and_filter() {
    let mut map = Map::default();
    let state = StateId(3);
    for (peer, level) in [(1, Low), (2, Critical), (3, Medium), (4, High), (5, Medium)] {
        map.declare(peer, state, level, FOREVER, Instant::ZERO).unwrap();
    }
    assert_eq!(map.count(state, Low), 5);
    assert_eq!(map.count(state, Medium), 4);
    assert_eq!(map.count(state, Critical), 1);
    assert_eq!(map.level(4, state), High);
    assert_eq!(map.level(9, state), No);
    let mut filtered: Vec<_> = map.interested(state, Medium).collect();
    filtered.sort_unstable();
    assert_eq!(filtered, [(2, Critical), (3, Medium), (4, High), (5, Medium)]);
    assert_eq!(map.interested(StateId(4), No).count(), 0);
}

#[test]
fn the_aggregate_changes_only_with_the_maximum() {
    let mut map = Map::default();
    let target = InterestTarget::prefix(StateId(7 << 32), 32).unwrap();
    let mut declare =
        |peer, level| map.declare(peer, target, level, FOREVER, Instant::ZERO).unwrap().aggregate;
    let change = |from, to| Some(AggregateChange { target, from, to, covered: No });
    assert_eq!(declare(1, High), change(No, High));
    assert_eq!(declare(2, Low), None);
    assert_eq!(declare(3, High), None);
    assert_eq!(declare(3, Medium), None);
    let mut changes = Vec::new();
    assert_eq!(map.remove_peer(1, &mut changes), 1);
    assert_eq!(changes[0].aggregate, change(High, Medium));
    assert_eq!(map.withdraw(2, target).unwrap().aggregate, None);
    assert_eq!(map.withdraw(3, target).unwrap().aggregate, change(Medium, No));
    assert_eq!(map.totals(), InterestTotals::default());
}

#[test]
fn a_wider_target_hides_a_narrower_change() {
    let mut map = Map::default();
    map.declare(1, InterestTarget::EVERYTHING, High, FOREVER, Instant::ZERO).unwrap();
    let hidden = map.declare(2, StateId(5), Low, FOREVER, Instant::ZERO).unwrap().aggregate.unwrap();
    assert_eq!(hidden.effective(), (High, High));
    let visible = map.declare(2, StateId(5), Critical, FOREVER, Instant::ZERO).unwrap().aggregate.unwrap();
    assert_eq!(visible.effective(), (High, Critical));
}

#[test]
fn a_declaration_ends_at_its_deadline_and_not_before() {
    let mut map = Map::default();
    let at = Instant::from_micros;
    let mut changes = Vec::new();
    map.declare(1, StateId(1), High, ttl_micros(10), at(5)).unwrap();
    assert_eq!(map.poll_timeout(), Some(at(15)));
    map.handle_timeout(at(14), &mut changes);
    assert!(changes.is_empty());
    map.declare(1, StateId(1), High, ttl_micros(10), at(14)).unwrap();
    map.handle_timeout(at(23), &mut changes);
    assert!(changes.is_empty(), "the second declaration renewed the first");
    map.handle_timeout(at(24), &mut changes);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].from, changes[0].to), (High, No));
    assert_eq!(map.poll_timeout(), None);
    assert!(map.is_empty());

    // An older time counts as the newest seen.
    map.declare(1, StateId(1), High, ttl_micros(10), at(0)).unwrap();
    assert_eq!(map.poll_timeout(), Some(at(34)));
    map.declare(1, StateId(1), High, FOREVER, at(30)).unwrap();
    assert_eq!(map.poll_timeout(), None, "no time to live replaced the old one");
}

#[test]
fn a_bad_time_to_live_is_refused() {
    let mut map = Map::default();
    let mut declare = |ttl, now| map.declare(1, StateId(1), Low, Some(ttl), now);
    assert_eq!(declare(Duration::ZERO, Instant::ZERO), Err(InterestError::ZeroTtl));
    assert_eq!(declare(Duration::from_nanos(1), Instant::ZERO), Err(InterestError::ZeroTtl));
    assert_eq!(declare(Duration::MAX, Instant::ZERO), Err(InterestError::TtlTooLong));
    let late = Instant::MAX - Duration::from_micros(10);
    assert_eq!(declare(Duration::from_micros(10), late), Err(InterestError::TtlTooLong));
    assert!(declare(Duration::from_micros(9), late).is_ok());
}

#[test]
fn a_refused_call_changes_nothing() {
    let limits = InterestLimits {
        peers_max: 2,
        targets_max: 3,
        ranges_max: 1,
        declarations_per_peer_max: 2,
        declarations_max: 3,
    };
    let mut map = Map::new(limits);
    let range = |start| InterestTarget::range(StateId(start)..StateId(start + 2)).unwrap();
    let mut changes = Vec::new();
    map.declare(1, StateId(1), Low, FOREVER, Instant::ZERO).unwrap();
    map.declare(2, range(1), Low, FOREVER, Instant::ZERO).unwrap();
    let mut refused = |map: &mut Map, peer, target: InterestTarget| {
        let totals = map.totals();
        let error = map.declare(peer, target, High, FOREVER, Instant::ZERO).unwrap_err();
        let all = [(StateId(1).into(), Critical), (target, High)];
        assert!(map.declare_all(peer, all, FOREVER, Instant::ZERO, &mut changes).is_err());
        assert!(changes.is_empty());
        assert_eq!(map.totals(), totals);
        assert_eq!(map.aggregates().collect::<Vec<_>>(), [(StateId(1).into(), Low), (range(1), Low)]);
        error
    };
    assert_eq!(refused(&mut map, 3, StateId(1).into()), InterestError::TooManyPeers { max: 2 });
    assert_eq!(refused(&mut map, 1, range(5)), InterestError::TooManyRanges { max: 1 });
    map.declare(1, range(1), Low, FOREVER, Instant::ZERO).unwrap();
    assert_eq!(refused(&mut map, 1, StateId(4).into()), InterestError::TooManyOfPeer { max: 2 });
    assert_eq!(refused(&mut map, 2, StateId(4).into()), InterestError::TooManyDeclarations { max: 3 });

    assert_eq!(map.withdraw(9, StateId(1)), Err(InterestError::UnknownPeer));
    assert_eq!(map.withdraw(2, StateId(1)), Err(InterestError::NotDeclared));
    assert_eq!(map.remove_peer(9, &mut changes), 0);

    // Withdrawing in the same call makes room.
    let swap = [(range(1), No), (StateId(4).into(), High)];
    map.declare_all(1, swap, FOREVER, Instant::ZERO, &mut changes).unwrap();
    assert_eq!(map.states_of(1).collect::<Vec<_>>(), [(StateId(1).into(), Low), (StateId(4).into(), High)]);
}

fn stream() -> StreamTracks {
    StreamTracks::new([
        (StateId(1), TrackKind::Visual),
        (StateId(2), TrackKind::Audio),
        (StateId(3), TrackKind::Chat),
        (StateId(4), TrackKind::Data),
    ])
}

#[test]
fn a_role_moves_every_track_at_once() {
    let mut map = Map::default();
    let mut changes = Vec::new();
    let levels = |map: &Map| [1, 2, 3, 4].map(|state| map.level(7, StateId(state)));
    map.set_role(7, &stream(), Role::Viewer, FOREVER, Instant::ZERO, &mut changes).unwrap();
    assert_eq!(levels(&map), [High, Critical, Medium, Medium]);
    assert_eq!(changes.len(), 4);
    changes.clear();
    map.set_role(7, &stream(), Role::Lurker, FOREVER, Instant::ZERO, &mut changes).unwrap();
    assert_eq!(levels(&map), [Low, Medium, Low, Low]);
    assert_eq!(changes.len(), 4);
    changes.clear();
    map.set_role(7, &stream(), Role::Lurker, FOREVER, Instant::ZERO, &mut changes).unwrap();
    assert!(changes.is_empty(), "a renewal is no change");
    assert_eq!((map.role(7), map.viewers(), map.lurkers()), (Some(Role::Lurker), 0, 1));
}

#[test]
fn the_audience_is_counted_whichever_way_peers_leave() {
    let mut map = Map::default();
    let mut changes = Vec::new();
    for peer in 0..10 {
        let role = if peer < 6 { Role::Viewer } else { Role::Lurker };
        let ttl = (peer % 2 == 0).then_some(Duration::from_secs(1));
        map.set_role(peer, &stream(), role, ttl, Instant::ZERO, &mut changes).unwrap();
    }
    assert_eq!((map.viewers(), map.lurkers()), (6, 4));
    map.handle_timeout(Instant::from_secs(1), &mut changes);
    assert_eq!((map.viewers(), map.lurkers()), (3, 2));
    map.remove_peer(1, &mut changes);
    map.clear_role(9, &stream(), &mut changes);
    assert_eq!((map.viewers(), map.lurkers()), (2, 1));
    for state in 1..=4 {
        map.withdraw(3, StateId(state)).unwrap();
    }
    assert_eq!((map.viewers(), map.lurkers()), (1, 1));

    // A declaration elsewhere keeps the peer, but not its role.
    map.declare(5, StateId(99), Low, FOREVER, Instant::ZERO).unwrap();
    map.clear_role(5, &stream(), &mut changes);
    assert_eq!((map.role(5), map.viewers()), (None, 0));
    assert_eq!(map.level(5, StateId(99)), Low);
}

#[test]
fn a_refused_role_changes_nothing() {
    let limits = InterestLimits { declarations_per_peer_max: 3, ..InterestLimits::default() };
    let mut map = Map::new(limits);
    let mut changes = Vec::new();
    let result = map.set_role(1, &stream(), Role::Viewer, FOREVER, Instant::ZERO, &mut changes);
    assert_eq!(result, Err(InterestError::TooManyOfPeer { max: 3 }));
    assert_eq!(map.totals(), InterestTotals::default());
    assert!(changes.is_empty());
}

/// Both ways of meeting each peer once (sorting few entries, marking many slots) give the same order.
#[test]
fn few_and_many_overlapping_declarations_agree() {
    let mut map = Map::default();
    let state = StateId(1);
    for peer in 0..1_000 {
        map.declare(peer, StateId(2), Low, FOREVER, Instant::ZERO).unwrap();
    }
    for peer in (0..30).rev() {
        let level = InterestLevel::DESCENDING[usize::from(peer % 4)];
        map.declare(peer, state, level, FOREVER, Instant::ZERO).unwrap();
        map.declare(peer + 15, InterestTarget::EVERYTHING, Medium, FOREVER, Instant::ZERO).unwrap();
    }
    let few: Vec<_> = map.interested(state, Low).collect();
    for peer in 45..1_000 {
        map.declare(peer, InterestTarget::prefix(state, 62).unwrap(), Low, FOREVER, Instant::ZERO).unwrap();
    }
    let many: Vec<_> = map.interested(state, Low).filter(|&(peer, _)| peer < 45).collect();
    assert_eq!(few.len(), 45);
    assert_eq!(few, many);
}
