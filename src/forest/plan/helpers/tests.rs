use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const RATE: u64 = 100_000;
const STRIPES: u8 = 6;

/// A plan with what its viewers were told.
struct Room {
    plan: HelperPlan<u64>,
    told: BTreeMap<(u64, u8), u64>,
}

impl Room {
    fn new(root_upload: u64) -> Self {
        Self { plan: HelperPlan::new(0, root_upload, RATE, STRIPES, 64), told: BTreeMap::new() }
    }

    fn change(&mut self, act: impl FnOnce(&mut HelperPlan<u64>, &mut Vec<PlanChange<u64>>)) -> usize {
        let mut changes = Vec::new();
        act(&mut self.plan, &mut changes);
        for change in &changes {
            self.told.insert((change.viewer, change.stripe), change.parent);
        }
        changes.len()
    }

    fn join(&mut self, viewer: u64, upload: u64) -> usize {
        self.change(|plan, changes| plan.join(viewer, upload, changes).unwrap())
    }

    /// Children of each in all stripes.
    fn used(&self, viewers: &[u64]) -> BTreeMap<u64, usize> {
        let mut used = BTreeMap::new();
        for &viewer in viewers {
            for stripe in 0..STRIPES {
                *used.entry(self.plan.parent(viewer, stripe).unwrap()).or_default() += 1;
            }
        }
        used
    }

    /// Everybody is fed in every stripe, by way of the source, and was told so.
    fn assert_seated(&self, present: &BTreeSet<u64>) {
        assert_eq!(self.plan.len(), present.len());
        for &viewer in present {
            for stripe in 0..STRIPES {
                assert_eq!(self.plan.parent(viewer, stripe), self.told.get(&(viewer, stripe)).copied());
                let mut node = viewer;
                for _ in 0..=64 {
                    node = if node == 0 { 0 } else { self.plan.parent(node, stripe).unwrap() };
                }
                assert_eq!(node, 0, "{viewer} is in a circle in stripe {stripe}");
            }
        }
    }
}

#[test]
fn helpers_carry_what_the_source_cannot_within_two_links_and_their_uploads() {
    // The source has upload for three copies and a bit, fifteen want it, and ten have one and a half to spare.
    let mut room = Room::new(RATE * 16 / 5);
    let upload = |viewer: u64| if viewer <= 10 { RATE * 3 / 2 } else { 0 };
    for viewer in 1..=15 {
        room.join(viewer, upload(viewer));
    }
    let viewers: Vec<u64> = (1..=15).collect();
    room.assert_seated(&viewers.iter().copied().collect());
    assert_eq!(room.plan.depth_max(), 2);
    for (parent, children) in room.used(&viewers) {
        let upload = if parent == 0 { RATE * 16 / 5 } else { upload(parent) };
        assert!(children <= room.plan.slots(upload), "{parent} feeds {children}");
    }
    let served = (0..STRIPES).map(|stripe| room.plan.parent(15, stripe).unwrap());
    assert!(served.collect::<BTreeSet<_>>().len() > 1, "nobody depends on one helper alone");
}

#[test]
fn everybody_is_seated_even_beyond_what_uploads_give() {
    let mut room = Room::new(RATE);
    for viewer in 1..=12 {
        room.join(viewer, 0);
    }
    room.assert_seated(&(1..=12).collect());
    assert_eq!(room.plan.depth_max(), 1);
}

#[test]
fn when_helpers_are_gone_others_share_what_they_gave() {
    let mut room = Room::new(RATE * 3);
    for viewer in 1..=15 {
        room.join(viewer, if viewer <= 5 { RATE * 5 / 2 } else { RATE / 100 });
    }
    let served = room.used(&(1..=15).collect::<Vec<_>>());
    assert!(served.keys().all(|&parent| parent <= 5), "{served:?}");
    let backups = room.plan.backups(15, 0);
    let parent = room.plan.parent(15, 0).unwrap();
    assert!(!backups.contains(&parent) && backups.iter().any(|&backup| backup != 0), "{backups:?}");
    for &backup in backups.iter().filter(|&&backup| backup != 0 && parent != 0) {
        assert_ne!(room.plan.parent(backup, 0), Some(parent), "{backup} loses it, too");
    }
    for viewer in 1..=4 {
        room.change(|plan, changes| plan.leave(viewer, changes).unwrap());
    }
    let viewers: Vec<u64> = (5..=15).collect();
    room.assert_seated(&viewers.iter().copied().collect());
    let served = room.used(&viewers);
    assert!(served[&0] <= room.plan.slots(RATE * 3), "the source gives no more than it has: {served:?}");
    let most = served.iter().filter(|&(&parent, _)| parent > 5).map(|(_, children)| *children).max();
    assert!(most <= Some(2 * BEYOND_MAX), "{served:?}");
}

#[test]
fn who_is_expected_has_a_place_and_its_coming_moves_nobody() {
    let mut room = Room::new(RATE * 2);
    let expected: Vec<_> = (1..=8).map(|viewer| (viewer, RATE * 2)).collect();
    let until = Instant::from_secs(2);
    assert_eq!(
        room.change(|plan, changes| plan.expect(&expected, until, changes)),
        0,
        "nobody is here to be told"
    );
    assert_eq!(room.plan.expected_until(), Some(until));
    let places: Vec<_> = (1..=8).map(|viewer| room.plan.parent(viewer, 0)).collect();
    // Its upload is what was expected, whatever it says.
    for viewer in (1..=8).rev() {
        assert_eq!(room.join(viewer, 0), 0);
    }
    assert_eq!((1..=8).map(|viewer| room.plan.parent(viewer, 0)).collect::<Vec<_>>(), places);
    assert_eq!((room.plan.len(), room.plan.expected_until()), (8, None));
}

#[test]
fn who_does_not_come_loses_its_place() {
    let mut room = Room::new(RATE * 4);
    room.change(|plan, changes| plan.expect(&[(1, RATE), (2, RATE)], Instant::from_secs(2), changes));
    room.join(1, RATE);
    room.change(|plan, changes| plan.forget_expected(Instant::from_secs(2), changes));
    assert_eq!((room.plan.parent(2, 0), room.plan.expected_until()), (None, None));
    assert!(room.plan.contains(1) && !room.plan.contains(2));
}

#[test]
fn a_parent_of_ones_own_choice_holds_until_the_plan_is_improved() {
    let mut room = Room::new(RATE * 8);
    for viewer in 1..=4 {
        room.join(viewer, RATE * 2);
    }
    let stripe = 2;
    room.plan.reparented(1, stripe, 2).unwrap();
    assert_eq!(room.plan.parent(1, stripe), Some(2));
    assert_eq!(room.plan.reparented(2, stripe, 1), Err(PlanError::Cycle));
    assert_eq!(room.plan.reparented(1, stripe, 9), Err(PlanError::Unknown));
    assert!(matches!(room.plan.reparented(1, STRIPES, 2), Err(PlanError::OutOfRange { .. })));
    assert!(!room.plan.backups(2, stripe).contains(&1), "1 has it of 2");
    room.change(|plan, changes| assert!(plan.rebalance(changes) > 0));
    assert_eq!(room.plan.parent(1, stripe), Some(0), "the source has upload for all");
    assert_eq!(room.change(|plan, changes| assert_eq!(plan.rebalance(changes), 0)), 0);
}

proptest! {
    #[test]
    fn whoever_comes_and_goes_all_are_fed(
        root_upload in 0u64..20,
        steps in proptest::collection::vec((0u8..4, 1u64..16, 0u64..12), 1..60),
    ) {
        let mut room = Room::new(root_upload * RATE / 4);
        let mut present = BTreeSet::new();
        for (step, (kind, viewer, upload)) in steps.into_iter().enumerate() {
            let upload = upload * RATE / 4;
            match kind {
                0 | 1 if present.insert(viewer) => _ = room.join(viewer, upload),
                2 if present.remove(&viewer) => {
                    room.change(|plan, changes| plan.leave(viewer, changes).unwrap());
                    room.told.retain(|(other, _), _| *other != viewer);
                }
                3 => {
                    let expected = [(viewer, upload)];
                    let until = Instant::from_secs(step as u64);
                    room.change(|plan, changes| plan.expect(&expected, until, changes));
                }
                _ => _ = room.change(|plan, changes| _ = plan.set_upload(viewer, upload, changes)),
            }
            // Who was expected and comes was not told before.
            for &viewer in &present {
                for stripe in 0..STRIPES {
                    let parent = room.plan.parent(viewer, stripe).unwrap();
                    room.told.entry((viewer, stripe)).or_insert(parent);
                }
            }
            room.assert_seated(&present);
        }
    }
}

#[test]
fn who_gives_little_in_a_stripe_changes_places_with_another() {
    const NONE: [u16; STRIPES_MAX as usize] = [0; STRIPES_MAX as usize];
    let rooms_of = |parts: [[u16; 3]; 3]| {
        parts.map(|part| {
            let mut rooms = NONE;
            rooms[..3].copy_from_slice(&part);
            rooms
        })
    };
    // The source feeds two in each stripe; in the first one three are to pass it on.
    let widths = [2, 2, 2];
    let mut rooms = rooms_of([[6, 7, 0], [6, 0, 7], [1, 6, 6]]);
    merge_parts(0, widths[0], &widths, &mut rooms);
    let given = |rooms: &[[u16; STRIPES_MAX as usize]; 3]| rooms.map(|room| room.iter().sum::<u16>());
    assert_eq!(rooms, rooms_of([[7, 6, 0], [6, 0, 7], [0, 7, 6]]), "each gives as much as before");
    assert_eq!(given(&rooms), [13, 13, 13]);
    // Where nobody can take its place it stays.
    let mut rooms = rooms_of([[6, 0, 0], [6, 0, 0], [1, 6, 6]]);
    let before = rooms;
    merge_parts(0, widths[0], &widths, &mut rooms);
    assert_eq!(rooms, before);
}
