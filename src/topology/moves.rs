//! How a tree rearranges itself: the few moves from which joining, leaving and re-rooting are made.

use alloc::vec::Vec;

use super::arena::{Arena, NONE, class};
use super::{Change, TopologyError};
use crate::id::PeerId;

/// Improvements that one operation makes after its own moves, at most. A tree with one class of capacity never
/// needs more than one.
const STEPS_PER_OPERATION: usize = 4;

/// A peer whose link the current operation has touched.
#[derive(Clone, Debug)]
struct Touch<P> {
    peer: P,
    /// Its parent before.
    from: Option<P>,
    /// Its parent now; filled in when the operation is over.
    to: Option<P>,
}

/// The arena of a tree with its root, and a record of the links that the current operation has touched.
#[derive(Clone, Debug)]
pub(super) struct Moves<P> {
    pub(super) arena: Arena<P>,
    pub(super) root: u32,
    /// In the order of the moves; a peer may be here more than once.
    touched: Vec<Touch<P>>,
    detached: Vec<P>,
    /// Subtrees without a parent, which the current operation has still to place.
    orphans: Vec<u32>,
}

impl<P: PeerId> Moves<P> {
    pub(super) fn new(root: P, capacity: u16) -> Self {
        let mut arena = Arena::new();
        let root = arena.insert(root, capacity);
        arena.settle_subtree(root);
        Self { arena, root, touched: Vec::new(), detached: Vec::new(), orphans: Vec::new() }
    }

    /// Places a new peer. The caller has made sure that there is a place for it.
    pub(super) fn join(&mut self, peer: P, capacity: u16) {
        let slot = self.arena.insert(peer, capacity);
        self.touched.push(Touch { peer, from: None, to: None });
        self.attach(slot);
        self.attach_orphans();
    }

    /// Whether a new peer of this capacity would find a place: a free one, or that of a peer of capacity 0.
    pub(super) fn has_place(&mut self, capacity: u16) -> Result<(), TopologyError> {
        // Without a free place, n nodes offer n - 1 places; so one of them has capacity 0, and can be displaced.
        if capacity > 0 || self.arena.shallowest_free_depth().is_some() {
            return Ok(());
        }
        Err(TopologyError::CapReached { max: self.arena.len() })
    }

    /// Takes a peer out for good.
    pub(super) fn leave(&mut self, slot: u32) {
        self.vacate(slot);
        self.arena.remove(slot);
        self.attach_orphans();
    }

    /// Makes `peer` the root; the old root becomes an ordinary node.
    pub(super) fn re_root(&mut self, slot: u32) {
        let root = self.root;
        self.vacate(slot);
        self.replace(root, slot);
        self.orphans.push(root);
        self.attach_orphans();
    }

    /// Sets the capacity of a node, handing over the children that exceed it.
    pub(super) fn set_capacity(&mut self, slot: u32, capacity: u16) {
        let node = self.arena.node(slot);
        let surplus = node.children.saturating_sub(capacity);
        if surplus > node.children - node.interior && slot != self.root {
            // Whole subtrees would have to move to other depths; giving up the position instead moves no depth.
            self.vacate(slot);
            self.orphans.push(slot);
        } else {
            self.hand_over(slot, surplus);
        }
        self.arena.update(slot, |node| node.capacity = capacity);
        self.attach_orphans();
    }

    /// Improves the tree by a few moves, then reports every link that the operation changed. `eager` as in
    /// [`improve`](Self::improve), for the first step.
    pub(super) fn finish(&mut self, eager: bool, changes: &mut Vec<Change<P>>) {
        for step in 0..STEPS_PER_OPERATION {
            if !self.improve(eager && step == 0) {
                break;
            }
        }
        self.report(changes);
    }

    /// Makes one improvement, if there is one. With `eager`, also one that does not shorten the tree at once.
    pub(super) fn improve(&mut self, eager: bool) -> bool {
        self.pack(eager) || (self.arena.is_mixed() && self.sort())
    }

    /// Appends the net effect of all moves since the last report.
    pub(super) fn report(&mut self, changes: &mut Vec<Change<P>>) {
        // A stable sort keeps the first touch of a peer first; it has the parent before the operation.
        self.touched.sort_by_key(|touch| touch.peer);
        self.touched.dedup_by_key(|touch| touch.peer);
        let arena = &self.arena;
        for touch in &mut self.touched {
            let parent =
                arena.find(touch.peer).map(|slot| arena.node(slot).parent).filter(|&slot| slot != NONE);
            touch.to = parent.map(|slot| arena.node(slot).peer);
        }
        self.touched.retain(|touch| touch.from != touch.to);
        let lost = |touch: &Touch<P>| Some(Change::Lost { child: touch.peer, parent: touch.from? });
        let gained = |touch: &Touch<P>| Some(Change::Gained { child: touch.peer, parent: touch.to? });
        changes.extend(self.touched.iter().filter_map(lost));
        changes.extend(self.detached.iter().map(|&peer| Change::Detached { peer }));
        let root = arena.node(self.root).peer;
        if self.touched.iter().any(|touch| touch.peer == root) {
            changes.push(Change::Root { peer: root });
        }
        changes.extend(self.touched.iter().filter_map(gained));
        self.touched.clear();
        self.detached.clear();
    }
}

/// Single moves. A *floating* node is in no list and has no parent; between operations only vacant slots float.
impl<P: PeerId> Moves<P> {
    fn cut(&mut self, child: u32) {
        let parent = self.arena.node(child).parent;
        let from = Some(self.arena.node(parent).peer);
        self.touched.push(Touch { peer: self.arena.node(child).peer, from, to: None });
        self.arena.cut(child);
    }

    /// Takes an attached node with all below it off its parent.
    fn float(&mut self, slot: u32) {
        self.cut(slot);
        self.arena.float_subtree(slot);
    }

    /// Puts a floating node with all below it under an attached one.
    fn place(&mut self, slot: u32, parent: u32) {
        self.arena.hang(slot, parent);
        self.arena.settle_subtree(slot);
    }

    /// Puts a floating node in the shallowest free place. If there is none, it takes the place of a node of
    /// capacity 0, which becomes an orphan; or, if it has capacity 0 itself, it is detached.
    fn attach(&mut self, slot: u32) {
        if let Some(parent) = self.shallowest_free() {
            return self.place(slot, parent);
        }
        let node = self.arena.node(slot);
        let displaced = if node.capacity > 0 { self.arena.shallowest_incapable() } else { None };
        if let Some(displaced) = displaced {
            let parent = self.arena.node(displaced).parent;
            self.float(displaced);
            self.place(slot, parent);
            self.orphans.push(displaced);
            return;
        }
        debug_assert_eq!(node.capacity, 0, "{:?} has capacity, but no place was found for it", node.peer);
        self.detached.push(node.peer);
        self.arena.remove(slot);
    }

    /// Attaches the orphans, the strongest first: they bring the places that the others need. Those that are
    /// displaced come last, when all places are known.
    fn attach_orphans(&mut self) {
        while !self.orphans.is_empty() {
            let mut orphans = core::mem::take(&mut self.orphans);
            orphans.sort_by_key(|&slot| core::cmp::Reverse(class(self.arena.node(slot).capacity)));
            // The weak wait for whoever the strong displace.
            let strong = orphans.partition_point(|&slot| self.arena.node(slot).capacity > 0);
            if strong > 0 {
                self.orphans = orphans.split_off(strong);
            }
            for slot in orphans {
                self.attach(slot);
            }
        }
    }

    fn shallowest_free(&mut self) -> Option<u32> {
        let depth = self.arena.shallowest_free_depth()?;
        self.arena.free_node_at(depth)
    }

    /// Makes `count` children of an attached node orphans, childless ones first.
    fn hand_over(&mut self, slot: u32, count: u16) {
        if count == 0 {
            return;
        }
        let mut children: Vec<u32> = self.arena.children(slot).collect();
        children.sort_by_key(|&child| self.arena.node(child).children > 0);
        children.truncate(usize::from(count));
        for child in children {
            self.float(child);
            self.orphans.push(child);
        }
    }

    /// Takes an attached node other than the root out of its position; it floats, alone. Its children become
    /// orphans, or go to a successor that takes the position.
    fn vacate(&mut self, slot: u32) {
        let node = self.arena.node(slot);
        let (children, interior) = (node.children, node.interior);
        let successor = if interior > 0 { self.successor() } else { None };
        if let Some(successor) = successor {
            self.float(successor);
            self.replace(slot, successor);
        } else {
            self.hand_over(slot, children);
            self.float(slot);
        }
    }

    /// The movable node of the highest class, and of those one that is childless and deep.
    fn successor(&self) -> Option<u32> {
        if !self.arena.is_mixed() {
            return self.arena.deepest_leaf();
        }
        let levels = 1..self.arena.level_count();
        let best =
            levels.clone().rev().filter_map(|depth| self.arena.strongest_movable_class(depth)).max()?;
        let found = levels.rev().filter_map(|depth| self.arena.movable_at(depth, best));
        let (mut childless, mut lower) = (None, None);
        for candidate in found {
            let kind = if self.arena.node(candidate).children == 0 { &mut childless } else { &mut lower };
            kind.get_or_insert(candidate);
            if childless.is_some() {
                break;
            }
        }
        childless.or(lower)
    }

    /// Puts `successor`, which floats, perhaps with childless children, in the position of the attached `slot`,
    /// which floats alone afterwards. Children that do not fit become orphans.
    fn replace(&mut self, slot: u32, successor: u32) {
        let (children, parent) = (self.arena.node(slot).children, self.arena.node(slot).parent);
        let (capacity, own) = (self.arena.node(successor).capacity, self.arena.node(successor).children);
        let overflow = (u32::from(children) + u32::from(own)).saturating_sub(u32::from(capacity));
        for _ in 0..overflow.min(u32::from(own)) {
            let child = self.arena.node(successor).first_child;
            self.cut(child);
            self.orphans.push(child);
        }
        self.hand_over(slot, children.saturating_sub(capacity));
        if parent == NONE {
            self.touched.push(Touch { peer: self.arena.node(slot).peer, from: None, to: None });
            self.root = successor;
        } else {
            self.cut(slot);
            self.arena.hang(successor, parent);
        }
        self.arena.float_alone(slot);
        self.arena.settle_subtree(successor);
        while self.arena.node(slot).first_child != NONE {
            let child = self.arena.node(slot).first_child;
            self.cut(child);
            self.arena.hang(child, successor);
        }
    }
}

/// Improvements. Each lessens the sum over all nodes of depth times (class + 1), so they come to an end.
impl<P: PeerId> Moves<P> {
    /// Moves a deepest leaf up, if that gains two levels; or one level, if the deepest one can be emptied so.
    fn pack(&mut self, eager: bool) -> bool {
        let deepest = self.arena.level_count() - 1;
        let Some(depth) = self.arena.shallowest_free_depth() else { return false };
        let empties = || depth + 2 == deepest && self.arena.free_at(depth) >= self.arena.nodes_at(deepest);
        if depth + 3 > deepest && !(eager && empties()) {
            return false;
        }
        let Some(leaf) = self.arena.deepest_leaf() else { return false };
        self.float(leaf);
        self.attach(leaf);
        true
    }

    /// Exchanges a node with a stronger one from below it that has no grandchildren, if there are such.
    fn sort(&mut self) -> bool {
        let levels = self.arena.level_count();
        let strongest = |from: usize| {
            let classes =
                (from..levels).filter_map(|depth| Some((self.arena.strongest_movable_class(depth)?, depth)));
            classes.max()
        };
        let Some((mut best, mut best_depth)) = strongest(1) else { return false };
        for depth in 1..levels {
            if best_depth <= depth {
                let Some(deeper) = strongest(depth + 1) else { return false };
                (best, best_depth) = deeper;
            }
            let Some(weakest) = self.arena.weakest_class(depth) else { continue };
            if weakest < best {
                let weak = self.arena.weak_node_at(depth, weakest);
                let strong = self.arena.movable_at(best_depth, best);
                let (Some(weak), Some(strong)) = (weak, strong) else { return false };
                self.float(strong);
                self.replace(weak, strong);
                self.attach(weak);
                self.attach_orphans();
                return true;
            }
        }
        false
    }
}
