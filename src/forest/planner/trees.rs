//! The plan of a planner, of either kind.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::forest::plan::{ForestPlan, HelperPlan, PlanChange, PlanError, PlanStats};
use crate::time::Instant;
use crate::wire::WirePeer;

/// A forest, or helpers in its place.
#[derive(Debug)]
pub(super) struct Trees<P> {
    forest: ForestPlan<P>,
    helpers: Option<Box<HelperPlan<P>>>,
}

/// Hands a question to the plan that is in use.
macro_rules! ask {
    ($trees:expr, $plan:ident => $answer:expr) => {
        match &$trees.helpers {
            Some($plan) => $answer,
            None => {
                let $plan = &$trees.forest;
                $answer
            }
        }
    };
    (mut $trees:expr, $plan:ident => $answer:expr) => {
        match &mut $trees.helpers {
            Some($plan) => $answer,
            None => {
                let $plan = &mut $trees.forest;
                $answer
            }
        }
    };
}

impl<P: WirePeer> Trees<P> {
    pub(super) fn new(forest: ForestPlan<P>) -> Self {
        Self { forest, helpers: None }
    }

    /// From now on there are helpers. To be called before anybody has come.
    pub(super) fn use_helpers(&mut self, root_upload: u64) {
        let config = self.forest.config();
        let (rate, stripes, viewers_max) = (config.rate_bytes_per_s, config.stripes, config.viewers_max);
        let plan = HelperPlan::new(self.forest.root(), root_upload, rate, stripes, viewers_max);
        self.helpers = Some(Box::new(plan));
    }

    pub(super) fn has_helpers(&self) -> bool {
        self.helpers.is_some()
    }

    pub(super) fn forest(&self) -> &ForestPlan<P> {
        &self.forest
    }

    pub(super) fn forest_mut(&mut self) -> &mut ForestPlan<P> {
        &mut self.forest
    }

    pub(super) fn contains(&self, viewer: P) -> bool {
        ask!(self, plan => plan.contains(viewer))
    }

    pub(super) fn len(&self) -> usize {
        ask!(self, plan => plan.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn join(
        &mut self,
        viewer: P,
        upload: u64,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        ask!(mut self, plan => plan.join(viewer, upload, changes))
    }

    pub(super) fn leave(&mut self, viewer: P, changes: &mut Vec<PlanChange<P>>) -> Result<(), PlanError> {
        ask!(mut self, plan => plan.leave(viewer, changes))
    }

    pub(super) fn set_upload(
        &mut self,
        peer: P,
        upload: u64,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        ask!(mut self, plan => plan.set_upload(peer, upload, changes))
    }

    pub(super) fn reparented(
        &mut self,
        viewer: P,
        stripe: u8,
        parent: P,
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        match &mut self.helpers {
            Some(helpers) => helpers.reparented(viewer, stripe, parent),
            None => self.forest.reparented(viewer, stripe, parent, changes),
        }
    }

    pub(super) fn rebalance(&mut self, moves_max: usize, changes: &mut Vec<PlanChange<P>>) -> usize {
        match &mut self.helpers {
            Some(helpers) => helpers.rebalance(changes),
            None => self.forest.rebalance(moves_max, changes),
        }
    }

    pub(super) fn expect(&mut self, expected: &[(P, u64)], until: Instant, changes: &mut Vec<PlanChange<P>>) {
        if let Some(helpers) = &mut self.helpers {
            helpers.expect(expected, until, changes);
        }
    }

    pub(super) fn expected_until(&self) -> Option<Instant> {
        self.helpers.as_ref()?.expected_until()
    }

    pub(super) fn forget_expected(&mut self, now: Instant, changes: &mut Vec<PlanChange<P>>) {
        if let Some(helpers) = &mut self.helpers {
            helpers.forget_expected(now, changes);
        }
    }

    pub(super) fn parent(&self, viewer: P, stripe: u8) -> Option<P> {
        ask!(self, plan => plan.parent(viewer, stripe))
    }

    /// The stripe that `viewer` is to pass on, where each has one of its own.
    pub(super) fn passes_on(&self, viewer: P) -> Option<u8> {
        self.helpers.as_ref().map_or_else(|| self.forest.colour(viewer), |_| None)
    }

    pub(super) fn backups(&self, viewer: P, stripe: u8) -> SmallVec<[P; 2]> {
        ask!(self, plan => plan.backups(viewer, stripe))
    }

    pub(super) fn depth_max(&self) -> usize {
        ask!(self, plan => plan.depth_max())
    }

    pub(super) fn stats(&self) -> PlanStats {
        ask!(self, plan => plan.stats())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let helpers = self.helpers.as_ref().map_or(0, |helpers| helpers.heap_bytes());
        helpers + self.forest.heap_bytes()
    }

    pub(super) fn take_detached(&mut self) -> Vec<P> {
        self.forest.take_detached()
    }
}
