//! How a plan is changed.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::place::Recolouring;
use super::slab::{self, COLOURLESS, NONE, class};
use super::{ForestPlan, PlanChange, PlanError, PlanMode, saturated};
use crate::id::PeerId;

/// How it is done.
impl<P: PeerId> ForestPlan<P> {
    pub(super) fn slot(&self, viewer: P) -> Result<u32, PlanError> {
        if viewer == self.root {
            return Err(PlanError::IsRoot);
        }
        self.slab.find(viewer).ok_or(PlanError::Unknown)
    }

    /// Soft and hard slots of a viewer.
    pub(super) fn slots_of(&self, upload: u32) -> (u16, u16) {
        let slots = |percent| {
            let slots = self.config.slots(u64::from(upload), percent);
            slots.min(u64::from(self.config.degree_max)) as u16
        };
        (slots(self.config.use_percent), slots(self.config.use_percent_max))
    }

    pub(super) fn try_join(&mut self, viewer: P, upload: u64) -> Result<(), PlanError> {
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
            let own = &mut spare[usize::from(colour)];
            let with = *own + i64::from(if of_soft { soft } else { hard });
            // Its slots cannot make room for others before it is there.
            *own = with.min((*own).max(0));
            spare
        };
        if self.config.mode == PlanMode::Star && viewers > self.root_slots() {
            return Err(self.no_capacity(&self.slab.spare(viewers, false)));
        }
        let needed = spare(self, false);
        let left: i64 = needed.iter().sum();
        if usize::from(hard) < self.slab.k && left < i64::from(self.config.reserve_slots) {
            // Whoever brings more than it takes must still get in, or nobody ever would.
            return Err(self.no_capacity(&needed));
        }
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

    pub(super) fn try_reparent(&mut self, viewer: P, stripe: u8, parent: P) -> Result<(), PlanError> {
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

    pub(super) fn set_viewer_upload(&mut self, node: u32, upload: u32) {
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
    pub(super) fn give_slots(&mut self, node: u32, soft: u16, hard: u16) {
        if hard > 0 && self.slab.node(node).colour == COLOURLESS {
            let colour = self.poorest();
            self.slab.set_colour(node, colour);
        }
        self.slab.set_slots(node, soft, hard);
        if hard == 0 && self.slab.node(node).used == 0 {
            self.slab.set_colour(node, COLOURLESS);
        }
    }

    pub(super) fn set_root_slots(&mut self) {
        let stripes = u64::from(self.config.stripes);
        for stripe in 0..stripes {
            let share = |percent: u8| {
                let percent = percent.min(self.config.root_use_percent);
                let slots = self.config.slots(self.root_upload, percent).max(stripes);
                let even = (slots / stripes + u64::from(stripe < slots % stripes)).min(u64::from(u16::MAX));
                (even as i64 + i64::from(self.lent[stripe as usize])).clamp(0, i64::from(u16::MAX)) as u16
            };
            let (soft, hard) = (share(self.config.use_percent), share(self.config.use_percent_max));
            self.slab.set_slots(stripe as u32, soft, hard);
        }
    }

    pub(super) fn set_all_slots(&mut self) {
        self.lent.fill(0);
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

    pub(super) fn shed_some(&mut self) {
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
    pub(super) fn poorest(&self) -> u8 {
        let totals = self.slab.stripes.iter().map(|stripe| stripe.soft_total).enumerate();
        totals.min_by_key(|&(_, total)| total).map_or(0, |(stripe, _)| stripe as u8)
    }

    pub(super) fn recolour(&mut self, recolouring: Recolouring) {
        for (node, stripe) in recolouring.picks {
            self.slab.recolour(node, stripe);
            self.stats.recolourings += 1;
        }
        for (from, to) in recolouring.lent {
            self.lend(from, to);
        }
    }

    /// Makes the root give one slot of one stripe to another.
    pub(super) fn lend(&mut self, from: u8, to: u8) {
        self.lent[usize::from(from)] -= 1;
        self.lent[usize::from(to)] += 1;
        self.set_root_slots();
        self.slab.shed(u32::from(from), usize::MAX);
    }

    /// Makes the root take back a slot that it lent, once the other stripe has enough without it.
    pub(super) fn take_back(&mut self) -> usize {
        let enough = (self.len() + self.len() / 64) as u64;
        let stripes = || 0..self.slab.k;
        let rich = stripes().find(|&to| self.lent[to] > 0 && self.slab.stripes[to].soft_total > enough);
        let poor = stripes().find(|&from| self.lent[from] < 0);
        let (Some(rich), Some(poor)) = (rich, poor) else { return 0 };
        self.lend(rich as u8, poor as u8);
        1
    }

    /// Removes `leaving`, if any, and makes sure that every stripe has slots for all: by other colours, and where
    /// that is not enough by putting viewers out.
    pub(super) fn settle(&mut self, leaving: Option<u32>) {
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
    pub(super) fn cut_off(&mut self, node: u32) -> u32 {
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
    pub(super) fn tidy(&mut self, colour: u8) {
        if colour != COLOURLESS {
            for _ in 0..2 {
                self.slab.lift_leaf(usize::from(colour), 2);
            }
        }
    }

    pub(super) fn improve_all(&mut self, moves_max: usize) -> usize {
        let mut moves = 0;
        // The deepest stripe first: the moves may not be enough for all.
        let excess = |stripe: usize| self.stripe_depth(stripe).saturating_sub(self.stripe_optimum(stripe));
        let mut stripes: SmallVec<[(usize, usize); 16]> =
            (0..self.slab.k).map(|stripe| (excess(stripe), stripe)).collect();
        stripes.sort_by_key(|&(excess, _)| core::cmp::Reverse(excess));
        for (excess, stripe) in stripes {
            let gain = if self.star || excess > 0 { 1 } else { 2 };
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
        while moves < moves_max && self.take_back() > 0 {
            moves += 1;
        }
        moves
    }

    /// Star or forest, after a change.
    pub(super) fn choose_mode(&mut self) {
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
    pub(super) fn root_slots(&self) -> usize {
        (0..self.slab.k as u32).map(|node| usize::from(self.slab.node(node).soft)).min().unwrap_or(0)
    }

    pub(super) fn no_capacity(&self, spare: &[i64]) -> PlanError {
        let sum = |sign: i64| spare.iter().map(|&spare| (spare * sign).max(0) as u64).sum::<u64>();
        PlanError::NoCapacity {
            needed_bytes_per_s: self.config.upload_for(sum(-1).max(1)),
            spare_bytes_per_s: sum(1).saturating_mul(self.config.rate_bytes_per_s)
                / u64::from(self.config.stripes),
        }
    }

    /// The end of every call: draws a star together, and reports.
    pub(super) fn finish(
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
