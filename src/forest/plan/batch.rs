//! Viewers that join together.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::slab::COLOURLESS;
use super::{ForestPlan, PlanError, PlanMode, saturated};
use crate::id::PeerId;

/// Who is about to join, with its slots, and what it is to pass on.
#[derive(Clone, Copy)]
struct Newcomer<P> {
    viewer: P,
    upload: u32,
    soft: u16,
    hard: u16,
    colour: u8,
}

impl<P: PeerId> ForestPlan<P> {
    pub(super) fn try_join_all(&mut self, viewers: &[(P, u64)]) -> Result<(), PlanError> {
        let mut newcomers = self.newcomers(viewers)?;
        let (total, k) = (self.len() + newcomers.len(), self.slab.k);
        if self.config.mode == PlanMode::Star && total > self.root_slots() {
            return Err(self.no_capacity(&self.slab.spare(total, false)));
        }
        let (mut spare, mut soft_spare) = (self.slab.spare(total, false), self.slab.spare(total, true));
        for newcomer in newcomers.iter_mut().filter(|newcomer| newcomer.hard > 0) {
            // The strongest first, each where most is lacking.
            let poorest = (0..k).min_by_key(|&stripe| (soft_spare[stripe], spare[stripe])).unwrap_or(0);
            soft_spare[poorest] += i64::from(newcomer.soft);
            spare[poorest] += i64::from(newcomer.hard);
            newcomer.colour = poorest as u8;
        }
        let weak = newcomers.iter().any(|newcomer| usize::from(newcomer.hard) < k);
        if weak && spare.iter().sum::<i64>() < i64::from(self.config.reserve_slots) {
            return Err(self.no_capacity(&spare));
        }
        let recolouring = self.slab.plan_recolouring(spare.clone(), false);
        let recolouring = recolouring.ok_or_else(|| self.no_capacity(&spare))?;
        let short = soft_spare.iter().any(|&spare| spare < 0) && recolouring.is_empty();
        let soft_recolouring = if short { self.slab.plan_recolouring(soft_spare, true) } else { None };
        let nodes: Vec<u32> = newcomers.iter().map(|newcomer| self.settle_in(newcomer)).collect();
        // All slots are there before any other is taken away.
        self.recolour(recolouring);
        self.recolour(soft_recolouring.unwrap_or_default());
        for (&node, newcomer) in nodes.iter().zip(&newcomers) {
            for stripe in (0..k).filter(|&stripe| usize::from(newcomer.colour) != stripe) {
                self.slab.place_leaf(node, stripe);
            }
        }
        let mut moves = self.config.moves_max;
        for (&node, newcomer) in nodes.iter().zip(&newcomers).filter(|(_, newcomer)| newcomer.soft > 0) {
            let stripe = usize::from(newcomer.colour);
            if self.slab.is_inner(node, stripe) {
                moves -= self.slab.promote(node, stripe, moves);
            }
        }
        (0..k).for_each(|stripe| self.tidy(stripe as u8));
        self.stats.joins += newcomers.len() as u64;
        Ok(())
    }

    /// Who is named, the strongest first, without colours.
    fn newcomers(&self, viewers: &[(P, u64)]) -> Result<Vec<Newcomer<P>>, PlanError> {
        let mut named = BTreeSet::new();
        let mut newcomers = Vec::with_capacity(viewers.len());
        for &(viewer, upload) in viewers {
            match self.slot(viewer) {
                Err(PlanError::Unknown) if named.insert(viewer) => {}
                Err(error) if error != PlanError::Unknown => return Err(error),
                _ => return Err(PlanError::AlreadyJoined),
            }
            let upload = saturated(upload);
            let (soft, hard) = self.slots_of(upload);
            newcomers.push(Newcomer { viewer, upload, soft, hard, colour: COLOURLESS });
        }
        if self.len() + newcomers.len() > self.config.viewers_max {
            return Err(PlanError::ViewersMax { max: self.config.viewers_max });
        }
        newcomers.sort_by_key(|newcomer| core::cmp::Reverse((newcomer.hard, newcomer.soft)));
        Ok(newcomers)
    }

    /// Puts a newcomer into the tree that it passes on; in the others it has no parent yet.
    fn settle_in(&mut self, newcomer: &Newcomer<P>) -> u32 {
        let node = self.slab.insert(newcomer.viewer, newcomer.upload);
        if newcomer.colour != COLOURLESS {
            self.slab.set_colour(node, newcomer.colour);
            self.slab.set_slots(node, newcomer.soft, newcomer.hard);
            self.slab.place_inner(node, usize::from(newcomer.colour));
        }
        node
    }
}
