//! The map itself: declarations, their deadlines, and the indices over them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use super::index::{OwnRange, Place};
use super::limits::{InterestError, InterestLimits};
use super::roles::Role;
use super::slab::Slab;
use super::subscribers::Subscribers;
use super::types::{InterestChange, InterestLevel, InterestTarget};
use crate::id::PeerId;
use crate::time::Instant;

/// How much each peer wants each state. See the [module](crate::interest) for an example.
///
/// A peer has at most one declaration per target, and its interest in a state is the maximum over its declarations
/// that contain the state. In the costs below, *own* are the declarations of the peer in question, and *ranges* are
/// the declared ranges and prefixes that contain the state in question.
#[derive(Clone, Debug)]
pub struct InterestMap<P> {
    pub(super) limits: InterestLimits,
    /// The newest time seen.
    now: Instant,
    pub(super) by_peer: BTreeMap<P, u32>,
    pub(super) peers: Slab<Peer<P>>,
    pub(super) states: BTreeMap<u64, u32>,
    /// By size class, first and last state.
    pub(super) ranges: BTreeMap<(u8, u64, u64), u32>,
    /// Bit `class - 1`: whether any range has that size class.
    pub(super) range_classes: u64,
    pub(super) targets: Slab<Target>,
    /// The declarations for single states, by peer and target.
    pub(super) own_states: BTreeMap<(u32, u32), u32>,
    /// The declarations for ranges, by peer and extent.
    pub(super) own_ranges: BTreeMap<OwnRange, u32>,
    pub(super) declarations: Slab<Declaration>,
    pub(super) deadlines: BTreeSet<(Instant, u32)>,
    /// The first of `deadlines`, or [`NEVER`].
    pub(super) next_deadline: Instant,
    pub(super) totals: InterestTotals,
}

/// How much a map holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InterestTotals {
    /// Peers with at least one declaration.
    pub peers: usize,
    /// Different targets, states and ranges together.
    pub targets: usize,
    /// Different targets that are ranges or prefixes.
    pub ranges: usize,
    /// Declarations.
    pub declarations: usize,
    /// Declarations by level, in the order of [`InterestLevel::DESCENDING`].
    pub declarations_by_level: [usize; 4],
    /// Peers in the role of an active viewer.
    pub viewers: usize,
    /// Peers in the role of a lurker.
    pub lurkers: usize,
}

/// The deadline of a declaration without one.
pub(super) const NEVER: Instant = Instant::MAX;

#[derive(Clone, Debug)]
pub(super) struct Peer<P> {
    pub(super) id: P,
    /// Bit `class - 1`: whether the peer has declared any range of that size class.
    pub(super) range_classes: u64,
    pub(super) declarations: u32,
    pub(super) role: Option<Role>,
}

#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) extent: InterestTarget,
    pub(super) subscribers: Subscribers,
}

#[derive(Clone, Debug)]
pub(super) struct Declaration {
    pub(super) slot: u32,
    pub(super) target: u32,
    /// Where it is among the target's subscribers.
    pub(super) position: u32,
    pub(super) level: InterestLevel,
    /// [`NEVER`] if it has no time to live.
    pub(super) expires: Instant,
}

impl<P: PeerId> Default for InterestMap<P> {
    fn default() -> Self {
        Self::new(InterestLimits::default())
    }
}

impl<P: PeerId> InterestMap<P> {
    /// An empty map.
    pub fn new(limits: InterestLimits) -> Self {
        Self {
            limits: limits.clamped(),
            now: Instant::ZERO,
            by_peer: BTreeMap::new(),
            peers: Slab::new(),
            states: BTreeMap::new(),
            ranges: BTreeMap::new(),
            range_classes: 0,
            targets: Slab::new(),
            own_states: BTreeMap::new(),
            own_ranges: BTreeMap::new(),
            declarations: Slab::new(),
            deadlines: BTreeSet::new(),
            next_deadline: NEVER,
            totals: InterestTotals::default(),
        }
    }

    /// Declares that `peer` wants `target` at `level`, instead of what it declared for this very target before.
    ///
    /// With a time to live the declaration ends at `now + ttl`, unless it is declared again before
    /// [`Self::handle_timeout`] has met that deadline; the new time to live (or none) replaces the old one. An older
    /// `now` than one seen before counts as that one. [`InterestLevel::None`] withdraws, whatever `ttl`; if there is
    /// nothing to withdraw, nothing happens and the change is from none to none.
    ///
    /// Costs `O(log declarations)`, and `O(log ranges + ranges)` more when the aggregate changes.
    ///
    /// # Errors
    ///
    /// [`InterestError::ZeroTtl`], [`InterestError::TtlTooLong`], or the limit that was met. Nothing was changed.
    pub fn declare(
        &mut self,
        peer: P,
        target: impl Into<InterestTarget>,
        level: InterestLevel,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<InterestChange<P>, InterestError> {
        let target = target.into();
        let place = self.locate(peer, target);
        if level == InterestLevel::None {
            return Ok(self.put(peer, target, level, NEVER, place));
        }
        let now = now.max(self.now);
        let expires = deadline(now, ttl)?;
        if place.declaration.is_none() {
            let mut new = Growth::default();
            new.count(&place, target);
            self.check_room(place.slot, new, Growth::default())?;
        }
        self.now = now;
        Ok(self.put(peer, target, level, expires, place))
    }

    /// Declares all of these at once, or nothing: as [`Self::declare`] for each, with one time to live. Of a target
    /// that is given twice, the later level counts. Appends to `changes` whatever changed in the order it did: first what
    /// is wanted, by target, then what is withdrawn, by target; a mere renewal is no change.
    /// `O(n log n + n log declarations)`.
    ///
    /// # Errors
    ///
    /// As [`Self::declare`]; room that the same call frees by withdrawing counts. Nothing was changed.
    pub fn declare_all(
        &mut self,
        peer: P,
        levels: impl IntoIterator<Item = (InterestTarget, InterestLevel)>,
        ttl: Option<Duration>,
        now: Instant,
        changes: &mut Vec<InterestChange<P>>,
    ) -> Result<(), InterestError> {
        let mut levels: SmallVec<[_; 8]> = levels.into_iter().collect();
        // The sort is stable, so that after the reversal the last one given is the first of its target.
        levels.reverse();
        levels.sort_by_key(|&(target, _)| target);
        levels.dedup_by_key(|&mut (target, _)| target);

        let now = now.max(self.now);
        let (mut new, mut freed) = (Growth::default(), Growth::default());
        let mut expires = NEVER;
        for &(target, level) in &levels {
            let place = self.locate(peer, target);
            if level != InterestLevel::None {
                expires = deadline(now, ttl)?;
                if place.declaration.is_none() {
                    new.count(&place, target);
                }
            } else if let Some(declaration) = place.declaration {
                freed.declarations += 1;
                let target = &self.targets[self.declarations[declaration].target];
                if target.subscribers.len() == 1 {
                    freed.targets += 1;
                    freed.ranges += usize::from(!target.extent.is_state());
                }
            }
        }
        self.check_room(self.by_peer.get(&peer).copied(), new, freed)?;

        self.now = now;
        // Withdrawals come last, so that a peer which keeps something is never without any declaration in between.
        for withdraw in [false, true] {
            for &(target, level) in &levels {
                if (level == InterestLevel::None) == withdraw {
                    let place = self.locate(peer, target);
                    let change = self.put(peer, target, level, expires, place);
                    changes.extend((change.from != change.to).then_some(change));
                }
            }
        }
        Ok(())
    }

    /// Ends the peer's declaration for this very target; its wider and narrower declarations stay. For a withdrawal that
    /// may come twice, [`Self::declare`] [`InterestLevel::None`]. `O(log declarations)`.
    ///
    /// # Errors
    ///
    /// [`InterestError::UnknownPeer`] if the peer has no declaration at all, [`InterestError::NotDeclared`] if it has
    /// none for this target. Nothing was changed.
    pub fn withdraw(
        &mut self,
        peer: P,
        target: impl Into<InterestTarget>,
    ) -> Result<InterestChange<P>, InterestError> {
        let target = target.into();
        let place = self.locate(peer, target);
        match (place.slot, place.declaration) {
            (None, _) => Err(InterestError::UnknownPeer),
            (_, None) => Err(InterestError::NotDeclared),
            (_, Some(declaration)) => Ok(self.detach(declaration)),
        }
    }

    /// Ends all declarations of the peer, and its role. Appends the changes and returns how many they are: 0 for a peer
    /// that has declared nothing, which is no error. `O(own · log declarations)`, whatever others have declared.
    pub fn remove_peer(&mut self, peer: P, changes: &mut Vec<InterestChange<P>>) -> usize {
        let begin = changes.len();
        if let Some(&slot) = self.by_peer.get(&peer) {
            // Counted beforehand, because the peer's slot goes with its last declaration.
            for _ in 0..self.peers[slot].declarations {
                let next = self.own(slot).next();
                changes.extend(next.map(|declaration| self.detach(declaration)));
            }
        }
        changes.len() - begin
    }

    /// When [`Self::handle_timeout`] has something to do. `O(1)`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.next_deadline != NEVER).then_some(self.next_deadline)
    }

    /// Ends the declarations whose time has come: those with a deadline at or before `now`, the earliest first.
    /// Appends the changes. Early, late and repeated calls are harmless. `O(ended · log declarations)`.
    pub fn handle_timeout(&mut self, now: Instant, changes: &mut Vec<InterestChange<P>>) {
        self.now = self.now.max(now);
        while let Some(&(at, declaration)) = self.deadlines.first() {
            if at > self.now {
                break;
            }
            changes.push(self.detach(declaration));
        }
    }

    fn check_room(&self, slot: Option<u32>, new: Growth, freed: Growth) -> Result<(), InterestError> {
        let full = |have: usize, new: usize, freed: usize, max: usize| new > 0 && have + new - freed > max;
        let (totals, limits) = (&self.totals, &self.limits);
        let own = slot.map_or(0, |slot| self.peers[slot].declarations as usize);
        if full(totals.peers, usize::from(slot.is_none() && new.declarations > 0), 0, limits.peers_max) {
            Err(InterestError::TooManyPeers { max: limits.peers_max })
        } else if full(own, new.declarations, freed.declarations, limits.declarations_per_peer_max) {
            Err(InterestError::TooManyOfPeer { max: limits.declarations_per_peer_max })
        } else if full(totals.declarations, new.declarations, freed.declarations, limits.declarations_max) {
            Err(InterestError::TooManyDeclarations { max: limits.declarations_max })
        } else if full(totals.targets, new.targets, freed.targets, limits.targets_max) {
            Err(InterestError::TooManyTargets { max: limits.targets_max })
        } else if full(totals.ranges, new.ranges, freed.ranges, limits.ranges_max) {
            Err(InterestError::TooManyRanges { max: limits.ranges_max })
        } else {
            Ok(())
        }
    }
}

/// What a call would add or free.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    declarations: usize,
    targets: usize,
    ranges: usize,
}

impl Growth {
    fn count(&mut self, place: &Place, target: InterestTarget) {
        self.declarations += 1;
        self.targets += usize::from(place.target.is_none());
        self.ranges += usize::from(place.target.is_none() && !target.is_state());
    }
}

fn deadline(now: Instant, ttl: Option<Duration>) -> Result<Instant, InterestError> {
    let Some(ttl) = ttl else { return Ok(NEVER) };
    let expires = now + ttl;
    if expires == NEVER {
        Err(InterestError::TtlTooLong)
    } else if expires <= now {
        Err(InterestError::ZeroTtl)
    } else {
        Ok(expires)
    }
}
