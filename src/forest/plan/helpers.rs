//! [`HelperPlan`]: who feeds whom in a group, over two links wherever the source's upload allows.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use smallvec::SmallVec;

use super::{PlanChange, PlanError, PlanStats};
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::{STRIPES_MAX, WirePeer};

/// A plan for streams of a group, in the manner of Mutualcast (Li, Chou and Zhang, 2005): the source sends each stripe to a
/// few helpers, and to as many others as it can, and the helpers send it to all the rest.
///
/// Other than in a [`ForestPlan`](super::ForestPlan) a viewer passes on as many stripes as its upload gives: a group has too
/// few viewers for one stripe each. Everybody is seated, if need be beyond what uploads give: to leave one out of a call is
/// worse than to be late. Viewers that are expected have a place before they ask for it, so that the order in which they come
/// moves nobody.
///
/// A change takes O(viewers · stripes · helpers) time.
#[derive(Clone, Debug)]
pub(crate) struct HelperPlan<P> {
    root: P,
    root_upload: u64,
    rate: u64,
    stripes: usize,
    viewers_max: usize,
    viewers: BTreeMap<P, Viewer<P>>,
    /// How many of them are here.
    present: usize,
    depth_max: usize,
    /// Somebody has found a parent of its own: what is planned does not fit it any more.
    strayed: bool,
    stats: PlanStats,
}

#[derive(Clone, Debug)]
struct Viewer<P> {
    upload: u64,
    /// Until when it is expected; `None`: it is here.
    expected_until: Option<Instant>,
    /// Its upload is what was expected of it, whatever it says: it says the same, sooner or later.
    is_expected: bool,
    /// How many others it may feed, and who feeds it, by stripe; empty until it has a place.
    room: Box<[u16]>,
    parents: Box<[P]>,
}

/// The share of uploads that is given out, in percent.
pub(crate) const HELPER_USE_PERCENT: u64 = 96;

/// More helpers than this in a stripe are more connections than they are worth, unless there is no room otherwise.
const WIDTH_MAX: usize = 4;

/// What a viewer gives of a stripe beyond its upload at a time.
const BEYOND_MAX: usize = 3;

/// In place of a viewer's number.
const ROOT: u32 = u32::MAX;

/// What a plan comes to.
struct Layout {
    rooms: Vec<[u16; STRIPES_MAX as usize]>,
    parents: Vec<[u32; STRIPES_MAX as usize]>,
    depth_max: usize,
    /// Links beyond what uploads give.
    excess: usize,
}

impl<P: WirePeer> HelperPlan<P> {
    /// A plan of `root` alone. `stripes` is at most [`STRIPES_MAX`].
    pub(crate) fn new(root: P, root_upload: u64, rate: u64, stripes: u8, viewers_max: usize) -> Self {
        Self {
            root,
            root_upload,
            rate: rate.max(1),
            stripes: usize::from(stripes.clamp(1, STRIPES_MAX)),
            viewers_max,
            viewers: BTreeMap::new(),
            present: 0,
            depth_max: 0,
            strayed: false,
            stats: PlanStats::default(),
        }
    }

    pub(crate) fn contains(&self, viewer: P) -> bool {
        self.viewers.get(&viewer).is_some_and(|viewer| viewer.expected_until.is_none())
    }

    pub(crate) fn len(&self) -> usize {
        self.present
    }

    pub(crate) fn depth_max(&self) -> usize {
        self.depth_max
    }

    pub(crate) fn stats(&self) -> PlanStats {
        self.stats
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.viewers.len() * (size_of::<(P, Viewer<P>)>() + self.stripes * (2 + size_of::<P>()))
    }

    /// Somebody is here.
    pub(crate) fn join(
        &mut self,
        viewer: P,
        upload: u64,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        if viewer == self.root {
            return Err(PlanError::IsRoot);
        }
        if self.contains(viewer) {
            return Err(PlanError::AlreadyJoined);
        }
        if !self.viewers.contains_key(&viewer) && self.viewers.len() >= self.viewers_max {
            return Err(PlanError::ViewersMax { max: self.viewers_max });
        }
        let before = self.viewers.get(&viewer).map(|viewer| self.slots(viewer.upload));
        let entry = self.viewers.entry(viewer).or_insert_with(|| Viewer::new(upload));
        let upload = if entry.is_expected { entry.upload } else { upload };
        (entry.upload, entry.expected_until) = (upload, None);
        self.present += 1;
        self.stats.joins += 1;
        if before != Some(self.slots(upload)) {
            self.replan(changes);
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self, viewer: P, changes: &mut Vec<PlanChange<P>>) -> Result<(), PlanError> {
        if viewer == self.root {
            return Err(PlanError::IsRoot);
        }
        let gone = self.viewers.remove(&viewer).ok_or(PlanError::Unknown)?;
        self.present -= usize::from(gone.expected_until.is_none());
        self.stats.leaves += 1;
        self.replan(changes);
        Ok(())
    }

    pub(crate) fn set_upload(
        &mut self,
        peer: P,
        upload: u64,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        let before = if peer == self.root {
            core::mem::replace(&mut self.root_upload, upload)
        } else {
            let viewer = self.viewers.get_mut(&peer).ok_or(PlanError::Unknown)?;
            if viewer.is_expected {
                return Ok(());
            }
            core::mem::replace(&mut viewer.upload, upload)
        };
        if self.slots(before) != self.slots(upload) {
            self.replan(changes);
        }
        Ok(())
    }

    /// Who is expected to come until `until`, with its upload: all of them. Others that are not here are not expected any
    /// more; those who are here, and are named, have that upload from now on.
    pub(crate) fn expect(&mut self, expected: &[(P, u64)], until: Instant, changes: &mut Vec<PlanChange<P>>) {
        let mut changed = false;
        let before = self.viewers.len();
        self.viewers.retain(|peer, viewer| {
            viewer.is_expected = expected.iter().any(|(other, _)| other == peer);
            viewer.expected_until.is_none() || viewer.is_expected
        });
        changed |= before != self.viewers.len();
        for &(peer, upload) in expected.iter().filter(|&&(peer, _)| peer != self.root) {
            let slots = self.slots(upload);
            match self.viewers.get(&peer) {
                Some(known) if self.slots(known.upload) == slots => {}
                None if self.viewers.len() >= self.viewers_max => {}
                known => {
                    changed = true;
                    let until = known.map_or(Some(until), |known| known.expected_until);
                    let entry = self.viewers.entry(peer).or_insert_with(|| Viewer::new(upload));
                    (entry.upload, entry.expected_until, entry.is_expected) = (upload, until, true);
                }
            }
        }
        if changed {
            self.replan(changes);
        }
    }

    /// When somebody is not expected any more.
    pub(crate) fn expected_until(&self) -> Option<Instant> {
        self.viewers.values().filter_map(|viewer| viewer.expected_until).min()
    }

    pub(crate) fn forget_expected(&mut self, now: Instant, changes: &mut Vec<PlanChange<P>>) {
        let before = self.viewers.len();
        self.viewers.retain(|_, viewer| viewer.expected_until.is_none_or(|until| until > now));
        if before != self.viewers.len() {
            self.replan(changes);
        }
    }

    /// Somebody takes a stripe from a parent of its own choice, until the next [`Self::rebalance`].
    pub(crate) fn reparented(&mut self, viewer: P, stripe: u8, parent: P) -> Result<(), PlanError> {
        let stripe = usize::from(stripe);
        if stripe >= self.stripes {
            let (value, max) = (stripe as u64, self.stripes as u64 - 1);
            return Err(PlanError::OutOfRange { field: "stripe", value, min: 0, max });
        }
        if parent != self.root && !self.viewers.contains_key(&parent) {
            return Err(PlanError::Unknown);
        }
        if self.is_above(viewer, stripe, parent) {
            return Err(PlanError::Cycle);
        }
        let entry = self.viewers.get_mut(&viewer).ok_or(PlanError::Unknown)?;
        if let Some(place) = entry.parents.get_mut(stripe).filter(|place| **place != parent) {
            *place = parent;
            self.strayed = true;
        }
        Ok(())
    }

    /// Whether `viewer` is `node`, or feeds it, by whatever way.
    fn is_above(&self, viewer: P, stripe: usize, mut node: P) -> bool {
        for _ in 0..=self.viewers.len() {
            if node == viewer {
                return true;
            }
            let above = self.viewers.get(&node).and_then(|node| node.parents.get(stripe));
            match above {
                Some(&parent) if parent != self.root => node = parent,
                _ => return false,
            }
        }
        true
    }

    /// Finds places within the uploads for those who found one of their own; returns whether anything was to do.
    pub(crate) fn rebalance(&mut self, changes: &mut Vec<PlanChange<P>>) -> usize {
        if !core::mem::take(&mut self.strayed) {
            return 0;
        }
        let before = changes.len();
        self.replan(changes);
        changes.len() - before
    }

    pub(crate) fn parent(&self, viewer: P, stripe: u8) -> Option<P> {
        self.viewers.get(&viewer)?.parents.get(usize::from(stripe)).copied()
    }

    /// Who can feed a stripe in the parent's place: others who have it from elsewhere, those first who have the most room to
    /// spare, then the source.
    pub(crate) fn backups(&self, viewer: P, stripe: u8) -> SmallVec<[P; 2]> {
        let (place, parent) = (usize::from(stripe), self.parent(viewer, stripe));
        let mut used: BTreeMap<P, usize> = BTreeMap::new();
        for parents in self.viewers.values().map(|viewer| &viewer.parents) {
            parents.iter().for_each(|parent| *used.entry(*parent).or_default() += 1);
        }
        let spare =
            |peer: P, upload: u64| self.slots(upload) as i64 - used.get(&peer).copied().unwrap_or(0) as i64;
        let fits = |&(&peer, other): &(&P, &Viewer<P>)| {
            // Whoever is fed by the parent loses it, too.
            let shares_parent = parent != Some(self.root) && other.parents.get(place).copied() == parent;
            peer != viewer
                && Some(peer) != parent
                && !shares_parent
                && other.can_help()
                && !self.is_above(viewer, place, peer)
        };
        let mut helpers: Vec<_> = self.viewers.iter().filter(fits).collect();
        // Those who are turned to are not all the same. Whoever has nothing to spare still gives a little for a while; the source
        // alone could not feed all who have lost their parent.
        let turn = |peer: P| mix(peer.digest() ^ mix(viewer.digest() ^ u64::from(stripe)));
        helpers.sort_by_key(|&(&peer, helper)| {
            let is_near = helper.parents.get(place) == Some(&self.root);
            (Reverse(spare(peer, helper.upload).clamp(0, 2)), !is_near, turn(peer))
        });
        let mut backups: SmallVec<[P; 2]> =
            helpers.iter().map(|&(&peer, _)| peer).take(BACKUPS_MAX).collect();
        if parent != Some(self.root) {
            backups.push(self.root);
        }
        backups
    }

    fn slots(&self, upload: u64) -> usize {
        let share = u128::from(upload) * u128::from(HELPER_USE_PERCENT) * self.stripes as u128;
        usize::try_from(share / (u128::from(self.rate) * 100)).unwrap_or(usize::MAX)
    }

    /// Makes a new plan out of the present one; a wholly new one if that is flatter.
    fn replan(&mut self, changes: &mut Vec<PlanChange<P>>) {
        let mut layout = self.layout(true);
        if layout.excess > 0 || layout.depth_max > 2 {
            let fresh = self.layout(false);
            if (fresh.excess, fresh.depth_max) < (layout.excess, layout.depth_max) {
                layout = fresh;
            }
        }
        self.depth_max = layout.depth_max;
        self.strayed = false;
        let peers: Vec<P> = self.viewers.keys().copied().collect();
        for ((&viewer, entry), (room, parents)) in
            self.viewers.iter_mut().zip(layout.rooms.iter().zip(&layout.parents))
        {
            let name = |&number: &u32| peers.get(number as usize).copied().unwrap_or(self.root);
            let parents: Box<[P]> = parents[..self.stripes].iter().map(name).collect();
            entry.room = room[..self.stripes].into();
            let before = core::mem::replace(&mut entry.parents, parents);
            if entry.expected_until.is_some() {
                continue;
            }
            for (stripe, &parent) in entry.parents.iter().enumerate() {
                if before.get(stripe) != Some(&parent) {
                    self.stats.moves += u64::from(!before.is_empty());
                    changes.push(PlanChange { viewer, stripe: stripe as u8, parent });
                }
            }
        }
    }

    /// A plan for those who are here and expected. Helpers keep their stripes if it `keeps` them; children keep their parents
    /// wherever these have room.
    fn layout(&self, keeps: bool) -> Layout {
        let (peers, viewers): (Vec<P>, Vec<&Viewer<P>>) = self.viewers.iter().map(|(&p, v)| (p, v)).unzip();
        let count = peers.len();
        let root_slots = self.slots(self.root_upload).max(self.stripes);
        let root_room = |stripe: usize| {
            let even = root_slots / self.stripes + usize::from(stripe < root_slots % self.stripes);
            even.min(count)
        };
        let mut layout = Layout {
            rooms: vec![Default::default(); count],
            parents: vec![[ROOT; STRIPES_MAX as usize]; count],
            depth_max: 0,
            excess: 0,
        };
        let widths: SmallVec<[usize; 16]> = (0..self.stripes).map(root_room).collect();
        self.allot(keeps, &peers, &viewers, &widths, &mut layout);
        for (stripe, &width) in widths.iter().enumerate() {
            merge_parts(stripe, width, &widths, &mut layout.rooms);
        }
        for (stripe, &width) in widths.iter().enumerate() {
            self.seat(keeps, stripe, width, &peers, &viewers, &mut layout);
        }
        layout
    }

    /// Which stripes each helper passes on, and to how many.
    fn allot(&self, keeps: bool, peers: &[P], viewers: &[&Viewer<P>], widths: &[usize], layout: &mut Layout) {
        let count = peers.len();
        let others = count.saturating_sub(1);
        let mut left: Vec<usize> =
            viewers.iter().map(|viewer| self.slots(viewer.upload).min(others * self.stripes)).collect();
        let mut beyond = vec![0; count];
        let mut need: SmallVec<[usize; 16]> = widths.iter().map(|width| count - width).collect();
        let mut helpers: Vec<usize> = (0..count).filter(|&helper| left[helper] > 0).collect();
        let key = mix(self.root.digest());
        helpers.sort_by_key(|&helper| (Reverse(left[helper]), mix(peers[helper].digest() ^ key)));
        for &helper in helpers.iter().filter(|_| keeps) {
            for (stripe, &room) in viewers[helper].room.iter().enumerate() {
                let kept = usize::from(room).min(left[helper]).min(need[stripe]);
                layout.rooms[helper][stripe] = kept as u16;
                left[helper] -= kept;
                need[stripe] -= kept;
            }
        }
        loop {
            let Some((stripe, &needed)) =
                need.iter().enumerate().max_by_key(|&(stripe, &needed)| (needed, Reverse(stripe)))
            else {
                return;
            };
            if needed == 0 {
                return;
            }
            let serves = |helper: usize| layout.rooms[helper][stripe] > 0;
            let serving = helpers.iter().filter(|&&helper| serves(helper)).count();
            let width = widths[stripe].clamp(1, WIDTH_MAX);
            let free =
                helpers.iter().filter(|&&helper| left[helper] > 0 && (!serves(helper) || serving >= width));
            // The first of the best.
            let best = free.min_by_key(|&&helper| {
                let full = usize::from(layout.rooms[helper][stripe]) >= others;
                (full, serving >= width && !serves(helper), Reverse(left[helper]))
            });
            let full = |helper: usize| usize::from(layout.rooms[helper][stripe]) >= others;
            let best = best.copied().filter(|&helper| !full(helper));
            let best =
                best.or_else(|| helpers.iter().copied().find(|&helper| left[helper] > 0 && !full(helper)));
            let share = (count - widths[stripe]).div_ceil(width).max(1);
            let room = |helper: usize| others - usize::from(layout.rooms[helper][stripe]);
            let (helper, given) = match best {
                Some(helper) => {
                    let given = left[helper].min(needed).min(share).min(room(helper));
                    left[helper] -= given;
                    (helper, given)
                }
                None => {
                    // Beyond what uploads give everybody gives a little who gives anything, if possible those who do already.
                    let able = (0..count).filter(|&viewer| viewers[viewer].can_help());
                    let feeds = |helper: usize| {
                        let parents = viewers.iter().filter_map(|viewer| viewer.parents.get(stripe));
                        parents.filter(|&&parent| parent == peers[helper]).count()
                    };
                    let least = able.filter(|&viewer| room(viewer) > 0).min_by_key(|&viewer| {
                        let turn = mix(peers[viewer].digest() ^ key);
                        (beyond[viewer], Reverse(feeds(viewer)), turn)
                    });
                    let Some(helper) = least else {
                        need[stripe] = 0;
                        continue;
                    };
                    let given = needed.min(share).min(BEYOND_MAX).min(room(helper));
                    beyond[helper] += given;
                    layout.excess += given;
                    (helper, given)
                }
            };
            layout.rooms[helper][stripe] += given as u16;
            need[stripe] -= given;
        }
    }

    /// Gives everybody a parent in a stripe.
    fn seat(
        &self,
        keeps: bool,
        stripe: usize,
        root_room: usize,
        peers: &[P],
        viewers: &[&Viewer<P>],
        layout: &mut Layout,
    ) {
        let count = peers.len();
        let before = |viewer: usize| -> Option<u32> {
            let parent = *viewers[viewer].parents.get(stripe)?;
            if parent == self.root {
                return Some(ROOT);
            }
            peers.binary_search(&parent).ok().map(|number| number as u32)
        };
        let room = |layout: &Layout, viewer: usize| i64::from(layout.rooms[viewer][stripe]);
        let mut helpers: Vec<usize> = (0..count).filter(|&viewer| room(layout, viewer) > 0).collect();
        helpers.sort_by_key(|&helper| {
            (Reverse(room(layout, helper)), keeps && before(helper) != Some(ROOT), peers[helper])
        });
        let mut root_left = root_room as i64;
        let mut left: Vec<i64> = (0..count).map(|viewer| room(layout, viewer)).collect();
        let mut depth = vec![0usize; count];
        for (place, &helper) in helpers.iter().enumerate() {
            let above = helpers[..place].iter().copied().find(|&above| left[above] > 0);
            let parent = if root_left > 0 { None } else { above };
            layout.excess += usize::from(parent.is_none() && root_left <= 0);
            match parent {
                None => root_left -= 1,
                Some(above) => left[above] -= 1,
            }
            layout.parents[helper][stripe] = parent.map_or(ROOT, |above| above as u32);
            depth[helper] = parent.map_or(0, |above| depth[above]) + 1;
        }
        let leaves = || (0..count).filter(|viewer| !helpers.contains(viewer));
        let mut seated = vec![false; count];
        for leaf in leaves() {
            let Some(parent) = before(leaf) else { continue };
            let has = if parent == ROOT { &mut root_left } else { &mut left[parent as usize] };
            if *has > 0 {
                *has -= 1;
                seated[leaf] = true;
                layout.parents[leaf][stripe] = parent;
            }
        }
        for leaf in leaves().filter(|&leaf| !seated[leaf]) {
            // The source first, then whoever has the most room, if only by being over it the least.
            let best = helpers.iter().copied().max_by_key(|&helper| (left[helper], Reverse(depth[helper])));
            let parent = match best {
                Some(helper) if root_left <= 0 && left[helper] >= root_left => Some(helper),
                _ => None,
            };
            let has = parent.map_or(&mut root_left, |helper| &mut left[helper]);
            layout.excess += usize::from(*has <= 0);
            *has -= 1;
            layout.parents[leaf][stripe] = parent.map_or(ROOT, |helper| helper as u32);
        }
        for viewer in 0..count {
            let above = layout.parents[viewer][stripe];
            let above = if above == ROOT { 0 } else { depth[above as usize] };
            layout.depth_max = layout.depth_max.max(above + 1);
        }
    }
}

/// Whoever feeds few in a stripe that has more helpers than the source can feed changes places with another one: it gives as much
/// in another stripe instead. A helper above another is a way longer than need be.
fn merge_parts(stripe: usize, width: usize, widths: &[usize], rooms: &mut [[u16; STRIPES_MAX as usize]]) {
    let serving = |rooms: &[[u16; STRIPES_MAX as usize]], stripe: usize| {
        rooms.iter().filter(|room| room[stripe] > 0).count()
    };
    for _ in width..serving(rooms, stripe) {
        let helpers: SmallVec<[usize; 16]> =
            (0..rooms.len()).filter(|&place| rooms[place][stripe] > 0).collect();
        let Some(&least) = helpers.iter().min_by_key(|&&place| (rooms[place][stripe], place)) else { return };
        let part = rooms[least][stripe];
        let swap = helpers.iter().filter(|&&place| place != least).find_map(|&place| {
            let others = (0..widths.len()).filter(|&other| other != stripe && rooms[place][other] >= part);
            let mut free = others.filter(|&other| {
                let is_new = rooms[least][other] == 0 && rooms[place][other] > part;
                !is_new || serving(rooms, other) < widths[other]
            });
            free.next().map(|other| (place, other))
        });
        let Some((place, other)) = swap else { return };
        rooms[least][stripe] = 0;
        rooms[least][other] += part;
        rooms[place][stripe] += part;
        rooms[place][other] -= part;
    }
}

/// Backups that a viewer is told for each stripe, the source not counted.
const BACKUPS_MAX: usize = 3;

impl<P> Viewer<P> {
    fn new(upload: u64) -> Self {
        Self {
            upload,
            expected_until: None,
            is_expected: false,
            room: Box::default(),
            parents: Box::default(),
        }
    }

    /// Whether it is here and gives anything.
    fn can_help(&self) -> bool {
        self.expected_until.is_none() && self.upload > 0
    }
}
