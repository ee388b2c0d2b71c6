//! [`ForestPlan`]: `k` interior-node-disjoint trees over one root and its viewers.

mod config;
mod improve;
mod place;
mod queries;
mod slab;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

pub use config::{PlanChange, PlanConfig, PlanError, PlanMode, PlanStats, stripes_for};
use slab::{COLOURLESS, NONE, Slab, class};

use crate::id::PeerId;

/// Who feeds whom in a livestream: for each stripe of the stream a tree over the root and all viewers.
///
/// Every viewer has a parent in every stripe. It feeds others in one stripe at most, its *colour*, with as many
/// *slots* as its declared upload gives; in all other stripes it is a leaf. The root feeds all stripes, its slots
/// split evenly among them. Depths count from the root, which is at 0.
///
/// # Guarantees
/// - Nobody feeds more than its slots at [`use_percent_max`](PlanConfig::use_percent_max), and what is above
///   [`use_percent`](PlanConfig::use_percent) is touched only when a stripe has no other slot. The exceptions are
///   [`set_rate`](Self::set_rate) and a lowered upload of the root, which may take more moves than one change is
///   allowed: until [`rebalance`](Self::rebalance) has nothing left to do, some may have more children than slots.
/// - Higher uploads sit nearer to the root; uploads are compared by class (slots of equal bit length). After
///   `rebalance` has nothing left to do, the depth is at most one above [`depth_optimum`](Self::depth_optimum) in
///   all mixtures that are tested. That is no bound for every mixture.
/// - The same calls give the same plan on every platform.
///
/// # Costs
/// A join or a departure takes O(stripes + slots of those involved) time, unless what remains leaves nothing but to
/// move whole subtrees to other depths. A viewer takes 40 bytes for an 8-byte `P`, 8 bytes for every stripe, a
/// sixteenth of both to spare, and 6 to 12 bytes of an index. Vacant slots are used again but not given back.
///
/// ```
/// use suffuse::{ForestPlan, PlanConfig, PlanError};
///
/// let mut config = PlanConfig::default();
/// config.stripes = 2;
/// config.rate_bytes_per_s = 100_000;
/// // The root can feed two viewers at most.
/// let mut plan = ForestPlan::new(0u64, 250_000, config)?;
/// let mut changes = Vec::new();
/// for viewer in 1..=20 {
///     plan.join(viewer, 300_000, &mut changes)?;
/// }
/// assert_eq!(plan.depth_max(), plan.depth_optimum());
///
/// changes.clear();
/// plan.leave(1, &mut changes)?;
/// assert!(changes.iter().all(|change| plan.parent(change.viewer, change.stripe) == Some(change.parent)));
/// # Ok::<(), PlanError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ForestPlan<P> {
    slab: Slab<P>,
    config: PlanConfig,
    root: P,
    root_upload: u64,
    star: bool,
    detached: Vec<P>,
    stats: PlanStats,
}

impl<P: PeerId> ForestPlan<P> {
    /// A plan of `root` alone, which can send `root_upload_bytes_per_s`.
    ///
    /// # Errors
    /// [`PlanError::OutOfRange`] if a number of the configuration is, or if the root's upload does not give one slot
    /// for every stripe; [`PlanError::StripesAboveViewers`]. Nothing was created.
    pub fn new(root: P, root_upload_bytes_per_s: u64, config: PlanConfig) -> Result<Self, PlanError> {
        config.validate()?;
        check_root(&config, root_upload_bytes_per_s)?;
        let mut plan = Self {
            slab: Slab::new(root, usize::from(config.stripes)),
            star: config.mode != PlanMode::Forest,
            config,
            root,
            root_upload: root_upload_bytes_per_s,
            detached: Vec::new(),
            stats: PlanStats::default(),
        };
        plan.set_root_slots();
        Ok(plan)
    }

    /// The same plan with its index hashed under `hash_key`; to be called before anybody has joined.
    ///
    /// The index is a hash table. Where strangers may choose their own `P`, a key that they do not know keeps them
    /// from choosing peers that collide. It has no influence on the plan.
    #[must_use]
    pub fn with_hash_key(mut self, hash_key: u64) -> Self {
        self.slab.set_hash_key(hash_key);
        self
    }

    /// Adds a viewer that can send `upload_bytes_per_s`; more than 2^32 - 1 counts as that.
    ///
    /// It takes the shallowest free slot of every stripe. In the stripe that it passes on it may take the place of a
    /// leaf or of a weaker viewer, which moves down.
    ///
    /// # Errors
    /// [`PlanError::AlreadyJoined`], [`PlanError::IsRoot`], [`PlanError::ViewersMax`], and
    /// [`PlanError::NoCapacity`] if all uploads, its own included, are too small to feed one viewer more.
    pub fn join(
        &mut self,
        viewer: P,
        upload_bytes_per_s: u64,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        let joined = self.try_join(viewer, upload_bytes_per_s);
        self.finish(joined, changes)
    }

    /// Removes a viewer. Its children go to a viewer of the same colour that takes its place, and to free slots.
    ///
    /// A departure cannot be refused. If the uploads that remain are too small for the viewers that remain, as many
    /// as necessary are put out; see [`take_detached`](Self::take_detached).
    ///
    /// # Errors
    /// [`PlanError::Unknown`], [`PlanError::IsRoot`].
    pub fn leave(&mut self, viewer: P, changes: &mut Vec<PlanChange<P>>) -> Result<(), PlanError> {
        let left = self.slot(viewer).map(|node| {
            self.stats.leaves += 1;
            let stripe = self.slab.node(node).colour;
            self.settle(Some(node));
            self.tidy(stripe);
        });
        self.finish(left, changes)
    }

    /// Tells what `viewer`, or the root, can really send. Children that exceed it go elsewhere.
    ///
    /// Viewers may be put out as in [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`PlanError::Unknown`]; [`PlanError::OutOfRange`] if it is the root's and does not give one slot for every
    /// stripe.
    pub fn set_upload(
        &mut self,
        viewer: P,
        upload_bytes_per_s: u64,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        let set = if viewer == self.root {
            check_root(&self.config, upload_bytes_per_s).map(|()| {
                self.root_upload = upload_bytes_per_s;
                self.set_root_slots();
                self.settle(None);
                self.shed_some();
            })
        } else {
            self.slot(viewer).map(|node| self.set_viewer_upload(node, saturated(upload_bytes_per_s)))
        };
        self.finish(set, changes)
    }

    /// Tells the rate of the whole stream on the wire. O(viewers), but no more than
    /// [`moves_max`](PlanConfig::moves_max) are moved; the rest is left to [`rebalance`](Self::rebalance).
    ///
    /// Viewers may be put out as in [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`PlanError::OutOfRange`] if the rate is 0, or so high that the root cannot send every stripe once.
    pub fn set_rate(
        &mut self,
        rate_bytes_per_s: u64,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        let max = u64::try_from(u128::from(self.root_upload) * u128::from(self.config.use_percent_max) / 100)
            .unwrap_or(u64::MAX);
        let set = if rate_bytes_per_s == 0 || rate_bytes_per_s > max {
            Err(PlanError::OutOfRange { field: "rate_bytes_per_s", value: rate_bytes_per_s, min: 1, max })
        } else {
            self.config.rate_bytes_per_s = rate_bytes_per_s;
            self.set_all_slots();
            Ok(())
        };
        self.finish(set, changes)
    }

    /// Tells that `viewer` takes `stripe` from `parent` now, by its own choice.
    ///
    /// # Errors
    /// [`PlanError::Unknown`], [`PlanError::IsRoot`], [`PlanError::OutOfRange`] for the stripe,
    /// [`PlanError::NotInterior`], [`PlanError::Cycle`], [`PlanError::ParentFull`]. The viewer should then go back.
    pub fn reparented(
        &mut self,
        viewer: P,
        stripe: u8,
        parent: P,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        let moved = self.try_reparent(viewer, stripe, parent);
        self.finish(moved, changes)
    }

    /// Makes improvements of up to `moves_max` moves together and returns how many moves it made: overload is taken
    /// away, the strong rise, free slots near the root are filled, colours are evened out.
    ///
    /// 0 means that nothing is worth it, or that the next thing needs more than `moves_max` moves (two times
    /// [`degree_max`](PlanConfig::degree_max) are always enough). Repeated calls come to that point; they never move
    /// back and forth.
    pub fn rebalance(&mut self, moves_max: usize, changes: &mut Vec<PlanChange<P>>) -> usize {
        let moves = self.improve_all(moves_max);
        let _ = self.finish(Ok(()), changes);
        moves
    }

    /// Hands out the viewers that were put out since the last time, for want of capacity, in the order in which they
    /// were. They are in the plan no more and may join again when there is capacity.
    pub fn take_detached(&mut self) -> Vec<P> {
        core::mem::take(&mut self.detached)
    }
}

/// How it is done.
impl<P: PeerId> ForestPlan<P> {
    fn slot(&self, viewer: P) -> Result<u32, PlanError> {
        if viewer == self.root {
            return Err(PlanError::IsRoot);
        }
        self.slab.find(viewer).ok_or(PlanError::Unknown)
    }

    /// Soft and hard slots of a viewer.
    fn slots_of(&self, upload: u32) -> (u16, u16) {
        let slots = |percent| {
            let slots = self.config.slots(u64::from(upload), percent);
            slots.min(u64::from(self.config.degree_max)) as u16
        };
        (slots(self.config.use_percent), slots(self.config.use_percent_max))
    }

    fn try_join(&mut self, viewer: P, upload: u64) -> Result<(), PlanError> {
        match self.slot(viewer) {
            Ok(_) => return Err(PlanError::AlreadyJoined),
            Err(PlanError::Unknown) => {}
            Err(error) => return Err(error),
        }
        if self.len() >= self.config.viewers_max {
            return Err(PlanError::ViewersMax { max: self.config.viewers_max });
        }
        let upload = saturated(upload);
        let (soft, hard) = self.slots_of(upload);
        let colour = self.poorest();
        let viewers = self.len() + 1;
        let spare = |plan: &Self, of_soft: bool| {
            let mut spare = plan.slab.spare(viewers, of_soft);
            spare[usize::from(colour)] += i64::from(if of_soft { soft } else { hard });
            spare
        };
        if self.config.mode == PlanMode::Star && viewers > self.root_slots() {
            return Err(self.no_capacity(&self.slab.spare(viewers, false)));
        }
        let needed = spare(self, false);
        let picks = self.slab.plan_recolouring(needed.clone(), false);
        let picks = picks.ok_or_else(|| self.no_capacity(&needed))?;
        self.recolour(picks);
        let wanted = spare(self, true);
        if wanted.iter().any(|&spare| spare < 0) && wanted.iter().any(|&spare| spare > 0) {
            let picks = self.slab.plan_recolouring(wanted, true);
            self.recolour(picks.unwrap_or_default());
        }
        let node = self.slab.insert(viewer, upload);
        let stripe = usize::from(colour);
        if hard > 0 {
            self.slab.set_colour(node, colour);
            self.slab.set_slots(node, soft, hard);
            self.slab.place_inner(node, stripe);
            if soft > 0 {
                self.slab.promote(node, stripe, self.config.moves_max);
            }
        }
        for other in (0..self.slab.k).filter(|&other| hard == 0 || other != stripe) {
            self.slab.place_leaf(node, other);
        }
        self.tidy(if hard > 0 { colour } else { COLOURLESS });
        self.stats.joins += 1;
        Ok(())
    }

    fn try_reparent(&mut self, viewer: P, stripe: u8, parent: P) -> Result<(), PlanError> {
        let node = self.slot(viewer)?;
        if stripe >= self.config.stripes {
            let (value, max) = (u64::from(stripe), u64::from(self.config.stripes - 1));
            return Err(PlanError::OutOfRange { field: "stripe", value, min: 0, max });
        }
        let above = if parent == self.root {
            u32::from(stripe)
        } else {
            self.slab.find(parent).ok_or(PlanError::Unknown)?
        };
        let stripe = usize::from(stripe);
        if !self.slab.is_inner(above, stripe) {
            return Err(if above == node { PlanError::Cycle } else { PlanError::NotInterior });
        }
        if !self.slab.reaches_root(above, stripe, node) {
            return Err(PlanError::Cycle);
        }
        if self.slab.parent(node, stripe) == above {
            return Ok(());
        }
        let place = self.slab.node(above);
        if place.used >= place.hard {
            return Err(PlanError::ParentFull { slots: place.hard });
        }
        self.slab.move_to(node, stripe, above);
        Ok(())
    }

    fn set_viewer_upload(&mut self, node: u32, upload: u32) {
        let (soft, hard) = self.slots_of(upload);
        self.slab.set_upload(node, upload);
        let before = self.slab.node(node).soft;
        self.give_slots(node, soft, hard);
        self.settle(None);
        if self.slab.is_vacant(node) || self.slab.node(node).colour == COLOURLESS {
            return;
        }
        self.slab.shed(node, usize::MAX);
        let colour = self.slab.node(node).colour;
        if colour != COLOURLESS && class(soft) > class(before) {
            self.slab.promote(node, usize::from(colour), self.config.moves_max);
        }
        self.tidy(colour);
    }

    /// Slots for a viewer that is in the plan; it gets a colour with the first of them.
    fn give_slots(&mut self, node: u32, soft: u16, hard: u16) {
        if hard > 0 && self.slab.node(node).colour == COLOURLESS {
            let colour = self.poorest();
            self.slab.set_colour(node, colour);
        }
        self.slab.set_slots(node, soft, hard);
        if hard == 0 && self.slab.node(node).used == 0 {
            self.slab.set_colour(node, COLOURLESS);
        }
    }

    fn set_root_slots(&mut self) {
        let stripes = u64::from(self.config.stripes);
        for stripe in 0..stripes {
            let share = |percent| {
                let slots = self.config.slots(self.root_upload, percent);
                (slots / stripes + u64::from(stripe < slots % stripes)).min(u64::from(u16::MAX)) as u16
            };
            let (soft, hard) = (share(self.config.use_percent), share(self.config.use_percent_max));
            self.slab.set_slots(stripe as u32, soft, hard);
        }
    }

    fn set_all_slots(&mut self) {
        self.set_root_slots();
        for node in self.slab.k as u32..self.slab.nodes.len() as u32 {
            if !self.slab.is_vacant(node) {
                let (soft, hard) = self.slots_of(self.slab.node(node).upload);
                self.give_slots(node, soft, hard);
            }
        }
        self.settle(None);
        self.shed_some();
    }

    fn shed_some(&mut self) {
        let mut rest = self.config.moves_max;
        for stripe in 0..self.slab.k {
            while let Some(node) = self.slab.shallowest(stripe, &[slab::state::OVER]) {
                if rest == 0 {
                    return;
                }
                rest -= self.slab.shed(node, rest);
            }
        }
    }

    /// The stripe with the least capacity.
    fn poorest(&self) -> u8 {
        let totals = self.slab.stripes.iter().map(|stripe| stripe.soft_total).enumerate();
        totals.min_by_key(|&(_, total)| total).map_or(0, |(stripe, _)| stripe as u8)
    }

    fn recolour(&mut self, picks: Vec<(u32, u8)>) {
        for (node, stripe) in picks {
            self.slab.recolour(node, stripe);
            self.stats.recolourings += 1;
        }
    }

    /// Removes `leaving`, if any, and makes sure that every stripe has slots for all: by other colours, and where
    /// that is not enough by putting viewers out.
    fn settle(&mut self, leaving: Option<u32>) {
        let mut gone: Vec<(u32, u32)> = Vec::new();
        gone.extend(leaving.map(|node| (node, self.cut_off(node))));
        loop {
            let spare = self.slab.spare(self.len(), false);
            if spare.iter().all(|&spare| spare >= 0) {
                break;
            }
            if let Some(picks) = self.slab.plan_recolouring(spare, false) {
                self.recolour(picks);
                break;
            }
            let Some(node) = self.slab.victim() else { break };
            self.detached.push(self.slab.node(node).peer);
            self.stats.detached += 1;
            gone.push((node, self.cut_off(node)));
        }
        for &(node, above) in &gone {
            if above != NONE {
                self.slab.vacate(node, above);
            }
        }
        for (node, _) in gone {
            self.slab.free(node);
        }
    }

    /// Takes all links to its parents, its slots and its name from a viewer; returns its parent in its own stripe.
    fn cut_off(&mut self, node: u32) -> u32 {
        let colour = self.slab.node(node).colour;
        let above = if colour == COLOURLESS { NONE } else { self.slab.parent(node, usize::from(colour)) };
        (0..self.slab.k).for_each(|stripe| self.slab.unlink(node, stripe));
        if colour != COLOURLESS {
            self.slab.set_slots(node, 0, 0);
        }
        self.slab.forget(node);
        self.slab.withdraw(node);
        above
    }

    /// A few improvements after a change in the stripe `colour`.
    fn tidy(&mut self, colour: u8) {
        if colour != COLOURLESS {
            for _ in 0..2 {
                self.slab.lift_leaf(usize::from(colour), 2);
            }
        }
    }

    fn improve_all(&mut self, moves_max: usize) -> usize {
        let mut moves = 0;
        for stripe in 0..self.slab.k {
            let deep = self.star || self.stripe_depth(stripe) > self.stripe_optimum(stripe);
            let gain = if deep { 1 } else { 2 };
            loop {
                let taken = self.slab.improve(stripe, gain, moves_max.saturating_sub(moves));
                if taken == 0 {
                    break;
                }
                moves += taken;
            }
        }
        while moves < moves_max && self.slab.even_out() > 0 {
            self.stats.recolourings += 1;
            moves += 1;
        }
        moves
    }

    /// Star or forest, after a change.
    fn choose_mode(&mut self) {
        let (viewers, threshold) = (self.len(), self.config.star_to_tree_threshold);
        let slots = self.root_slots();
        let star = match self.config.mode {
            PlanMode::Star => true,
            PlanMode::Forest => false,
            PlanMode::Auto if self.star => viewers <= threshold && viewers <= slots,
            PlanMode::Auto => viewers * 10 <= threshold * 7 && viewers * 10 <= slots * 9,
        };
        if star != self.star {
            self.star = star;
            self.stats.mode_switches += 1;
        }
    }

    /// How many viewers the root can feed with all stripes.
    fn root_slots(&self) -> usize {
        (0..self.slab.k as u32).map(|node| usize::from(self.slab.node(node).soft)).min().unwrap_or(0)
    }

    fn no_capacity(&self, spare: &[i64]) -> PlanError {
        let sum = |sign: i64| spare.iter().map(|&spare| (spare * sign).max(0) as u64).sum::<u64>();
        PlanError::NoCapacity {
            needed_bytes_per_s: self.config.upload_for(sum(-1).max(1)),
            spare_bytes_per_s: sum(1).saturating_mul(self.config.rate_bytes_per_s)
                / u64::from(self.config.stripes),
        }
    }

    /// The end of every call: draws a star together, and reports.
    fn finish(
        &mut self,
        result: Result<(), PlanError>,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        if result.is_err() {
            self.stats.refusals += 1;
            return result;
        }
        self.choose_mode();
        if self.star {
            let rest = self.config.moves_max.saturating_sub(self.slab.touched_len());
            self.improve_all(rest);
        }
        for (node, stripe, moved) in self.slab.take_touched() {
            let parent = self.slab.node(self.slab.parent(node, usize::from(stripe))).peer;
            self.stats.moves += u64::from(moved);
            changes.push(PlanChange { viewer: self.slab.node(node).peer, stripe, parent });
        }
        result
    }
}

fn check_root(config: &PlanConfig, upload: u64) -> Result<(), PlanError> {
    let stripes = u64::from(config.stripes);
    if config.slots(upload, config.use_percent_max) < stripes {
        let min = config.upload_for(stripes);
        return Err(PlanError::OutOfRange {
            field: "root_upload_bytes_per_s",
            value: upload,
            min,
            max: u64::MAX,
        });
    }
    Ok(())
}

fn saturated(upload: u64) -> u32 {
    u32::try_from(upload).unwrap_or(u32::MAX)
}
