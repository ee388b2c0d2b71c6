//! [`ForestPlan`]: `k` interior-node-disjoint trees over one root and its viewers.

mod batch;
mod change;
mod config;
mod helpers;
mod improve;
mod place;
mod queries;
mod slab;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use smallvec::SmallVec;

pub use config::{PlanChange, PlanConfig, PlanError, PlanMode, PlanStats, stripes_for};
pub(crate) use helpers::{HELPER_USE_PERCENT, HelperPlan};
use slab::Slab;

use crate::id::PeerId;

/// Who feeds whom in a livestream: for each stripe of the stream a tree over the root and all viewers.
///
/// Every viewer has a parent in every stripe. It feeds others in one stripe at most, its *colour*, with as many
/// *slots* as its declared upload gives; in all other stripes it is a leaf. The root feeds all stripes, its slots
/// split evenly among them, unless there are not viewers enough to pass every stripe on: then a stripe that nobody
/// passes on gets more. Depths count from the root, which is at 0.
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
    /// How many slots more than its even share the root gives to each stripe.
    lent: SmallVec<[i32; 16]>,
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
        config.check_root(root_upload_bytes_per_s)?;
        let mut plan = Self {
            slab: Slab::new(root, usize::from(config.stripes)),
            star: config.mode != PlanMode::Forest,
            lent: SmallVec::from_elem(0, usize::from(config.stripes)),
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

    /// Adds viewers together, or none of them. Where upload is scarce, this lets in many whom [`join`](Self::join) would
    /// refuse one by one: those who bring little need slots in all stripes at once, and those who bring much give them in
    /// one stripe only.
    ///
    /// Takes O(stripes) time for each viewer, and no more moves than as many joins. Slots that are kept by
    /// [`reserve_slots`](PlanConfig::reserve_slots) are kept if anybody brings fewer slots than it takes.
    ///
    /// # Errors
    /// [`PlanError::AlreadyJoined`], also if one is named twice, [`PlanError::IsRoot`], [`PlanError::ViewersMax`], and
    /// [`PlanError::NoCapacity`]. Nobody was added.
    ///
    /// ```
    /// use suffuse::{ForestPlan, PlanConfig};
    ///
    /// let mut config = PlanConfig::default();
    /// config.stripes = 4;
    /// config.rate_bytes_per_s = 100_000;
    /// // The root can feed one viewer.
    /// let mut plan = ForestPlan::new(0u64, 110_000, config)?;
    /// let mut changes = Vec::new();
    /// plan.join(1, 120_000, &mut changes)?;
    /// assert!(plan.join(2, 120_000, &mut changes).is_err());
    /// plan.join_all(&[(2, 120_000), (3, 120_000), (4, 120_000)], &mut changes)?;
    /// assert_eq!(plan.len(), 4);
    /// # Ok::<(), suffuse::PlanError>(())
    /// ```
    pub fn join_all(
        &mut self,
        viewers: &[(P, u64)],
        changes: &mut Vec<PlanChange<P>>,
    ) -> Result<(), PlanError> {
        let joined = self.try_join_all(viewers);
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
            self.config.check_root(upload_bytes_per_s).map(|()| {
                self.root_upload = upload_bytes_per_s;
                self.lent.fill(0);
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

fn saturated(upload: u64) -> u32 {
    u32::try_from(upload).unwrap_or(u32::MAX)
}
