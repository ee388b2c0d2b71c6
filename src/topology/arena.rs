//! The nodes of a tree in one slab, with what finding places among them needs.
//!
//! A node takes 32 bytes and its peer, and 6 to 12 bytes of the index from peer to slot. Every attached node is in
//! one list, that of its depth, its state and the class of its capacity; so the shallowest free place, the deepest
//! leaf and the weakest node of a level are each a few bit operations away.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use hashbrown::HashTable;

use crate::id::PeerId;
use crate::rng::mix;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;
/// In `list_prev`: the node is in no list, because it is not attached.
const FLOATING: u32 = u32::MAX - 1;
/// The greatest depth with lists of its own; deeper nodes (only chains get there) share the last.
const LEVEL_MAX: u16 = u16::MAX;

/// How many classes of capacity there are: 0, 1, 2 to 3, 4 to 7 and so on, the last one from 64.
const CLASSES: u32 = 8;
const CLASS_MASK: u64 = (1 << CLASSES) - 1;
/// The states of an attached node, each a group of `CLASSES` lists. *Lower* nodes have only childless children.
const CHILDLESS: u32 = 0;
const LOWER_FREE: u32 = 1;
const LOWER_FULL: u32 = 2;
const UPPER_FREE: u32 = 3;
const UPPER_FULL: u32 = 4;
const LISTS: usize = (CLASSES * 5) as usize;

/// The class of a capacity: its bit length, at most 7.
pub(super) fn class(capacity: u16) -> u32 {
    (u16::BITS - capacity.leading_zeros()).min(CLASSES - 1)
}

#[derive(Clone, Debug)]
pub(super) struct Node<P> {
    pub(super) peer: P,
    pub(super) parent: u32,
    pub(super) first_child: u32,
    /// `NONE` at the last sibling.
    pub(super) next: u32,
    /// The first sibling's is the last sibling, so that children can be appended at once.
    prev: u32,
    /// `NONE` at the last of the list.
    list_next: u32,
    /// The first one's is the last one, or `FLOATING`.
    list_prev: u32,
    pub(super) capacity: u16,
    pub(super) children: u16,
    /// How many children have children.
    pub(super) interior: u16,
    depth: u16,
}

/// The attached nodes of one depth.
#[derive(Clone, Debug)]
struct Level {
    heads: [u32; LISTS],
    /// A bit for each list that is not empty.
    mask: u64,
    nodes: u32,
    /// Free places, that is, places for nodes of the next level.
    free: u64,
}

impl Level {
    const EMPTY: Self = Self { heads: [NONE; LISTS], mask: 0, nodes: 0, free: 0 };

    fn classes(&self, state: u32) -> u64 {
        (self.mask >> (state * CLASSES)) & CLASS_MASK
    }
}

#[derive(Clone, Debug)]
pub(super) struct Arena<P> {
    nodes: Vec<Node<P>>,
    /// Vacant slots, chained by `parent`.
    vacant: u32,
    /// From peer to slot. Never iterated.
    index: HashTable<u32>,
    hash_key: u64,
    levels: Vec<Level>,
    /// No level above this one has a free place.
    free_from: usize,
    /// Attached nodes by class.
    class_counts: [u32; CLASSES as usize],
}

impl<P: PeerId> Arena<P> {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            vacant: NONE,
            index: HashTable::new(),
            hash_key: 0,
            levels: Vec::new(),
            free_from: 0,
            class_counts: [0; CLASSES as usize],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn node(&self, slot: u32) -> &Node<P> {
        &self.nodes[slot as usize]
    }

    fn node_mut(&mut self, slot: u32) -> &mut Node<P> {
        &mut self.nodes[slot as usize]
    }

    pub(super) fn find(&self, peer: P) -> Option<u32> {
        let hash = hash_of(&peer, self.hash_key);
        self.index.find(hash, |&slot| self.nodes[slot as usize].peer == peer).copied()
    }

    /// A slot for a peer that has none yet. It floats.
    pub(super) fn insert(&mut self, peer: P, capacity: u16) -> u32 {
        let node = Node {
            peer,
            parent: NONE,
            first_child: NONE,
            next: NONE,
            prev: NONE,
            list_next: NONE,
            list_prev: FLOATING,
            capacity,
            children: 0,
            interior: 0,
            depth: 0,
        };
        let slot = if self.vacant == NONE {
            if self.nodes.len() == self.nodes.capacity() {
                // Doubling would leave up to half of the slab unused.
                self.nodes.reserve_exact(self.nodes.len() / 8 + 4);
            }
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let slot = self.vacant;
            self.vacant = self.node(slot).parent;
            *self.node_mut(slot) = node;
            slot
        };
        let (nodes, key) = (&self.nodes, self.hash_key);
        let rehash = |&slot: &u32| hash_of(&nodes[slot as usize].peer, key);
        self.index.insert_unique(hash_of(&peer, key), slot, rehash);
        slot
    }

    /// Forgets a floating node without children.
    pub(super) fn remove(&mut self, slot: u32) {
        debug_assert!(self.is_floating(slot) && self.node(slot).children == 0);
        let hash = hash_of(&self.node(slot).peer, self.hash_key);
        if let Ok(entry) = self.index.find_entry(hash, |&found| found == slot) {
            entry.remove();
        }
        self.node_mut(slot).parent = self.vacant;
        self.vacant = slot;
    }

    /// Hashes the index anew, with another key. `root` is the root of all nodes.
    pub(super) fn set_hash_key(&mut self, root: u32, hash_key: u64) {
        let slots: Vec<u32> = self.subtree(root).collect();
        let mut index = HashTable::with_capacity(slots.len());
        let hash = |&slot: &u32| hash_of(&self.nodes[slot as usize].peer, hash_key);
        for slot in slots {
            index.insert_unique(hash(&slot), slot, hash);
        }
        (self.index, self.hash_key) = (index, hash_key);
    }

    pub(super) fn is_floating(&self, slot: u32) -> bool {
        self.node(slot).list_prev == FLOATING
    }

    /// The depth of an attached node, the root's being 0.
    pub(super) fn depth(&self, slot: u32) -> usize {
        let depth = self.node(slot).depth;
        if depth < LEVEL_MAX { usize::from(depth) } else { self.ancestors(slot).count() }
    }

    /// The slots from the parent of `slot` to the root.
    pub(super) fn ancestors(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let up = |slot: u32| Some(self.node(slot).parent).filter(|&parent| parent != NONE);
        core::iter::successors(up(slot), move |&slot| up(slot))
    }

    /// The children in the order in which they came.
    pub(super) fn children(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let real = |slot: u32| Some(slot).filter(|&slot| slot != NONE);
        core::iter::successors(real(self.node(slot).first_child), move |&slot| real(self.node(slot).next))
    }

    /// `slot` and everything below it, parents before children.
    pub(super) fn subtree(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        core::iter::successors(Some(slot), move |&at| self.next_in_subtree(slot, at))
    }

    fn next_in_subtree(&self, top: u32, mut at: u32) -> Option<u32> {
        if self.node(at).first_child != NONE {
            return Some(self.node(at).first_child);
        }
        while at != top {
            if self.node(at).next != NONE {
                return Some(self.node(at).next);
            }
            at = self.node(at).parent;
        }
        None
    }
}

/// Links.
impl<P: PeerId> Arena<P> {
    /// Ends the link between `child` and its parent. The child keeps its children, and its lists.
    pub(super) fn cut(&mut self, child: u32) {
        let Node { parent, next, prev, .. } = *self.node(child);
        let first = self.node(parent).first_child;
        if first == child {
            self.node_mut(parent).first_child = next;
        } else {
            self.node_mut(prev).next = next;
        }
        if next != NONE {
            self.node_mut(next).prev = prev;
        } else if first != child {
            self.node_mut(first).prev = prev;
        }
        let interior = u16::from(self.node(child).children > 0);
        self.update(parent, |node| {
            node.children -= 1;
            node.interior -= interior;
        });
        self.node_mut(child).parent = NONE;
        let Node { parent: above, children, .. } = *self.node(parent);
        if children == 0 && above != NONE {
            self.update(above, |node| node.interior -= 1);
        }
    }

    /// Makes `child`, which has no parent, the last child of `parent`.
    pub(super) fn hang(&mut self, child: u32, parent: u32) {
        let first = self.node(parent).first_child;
        if first == NONE {
            self.node_mut(parent).first_child = child;
            self.node_mut(child).prev = child;
        } else {
            let last = self.node(first).prev;
            self.node_mut(last).next = child;
            self.node_mut(child).prev = last;
            self.node_mut(first).prev = child;
        }
        let interior = u16::from(self.node(child).children > 0);
        let node = self.node_mut(child);
        node.next = NONE;
        node.parent = parent;
        self.update(parent, |node| {
            node.children += 1;
            node.interior += interior;
        });
        let Node { parent: above, children, .. } = *self.node(parent);
        if children == 1 && above != NONE {
            self.update(above, |node| node.interior += 1);
        }
    }

    /// Changes counts or the capacity of a node, which may move it to another list.
    pub(super) fn update(&mut self, slot: u32, change: impl FnOnce(&mut Node<P>)) {
        let attached = !self.is_floating(slot);
        if attached {
            self.delist(slot);
        }
        change(self.node_mut(slot));
        if attached {
            self.enlist(slot);
        }
    }

    /// Takes `slot` and everything below it out of the lists.
    pub(super) fn float_subtree(&mut self, slot: u32) {
        let mut at = Some(slot);
        while let Some(node) = at {
            self.delist(node);
            self.trim_levels();
            at = self.next_in_subtree(slot, node);
        }
    }

    /// Takes `slot` out of its list, but not its children out of theirs.
    pub(super) fn float_alone(&mut self, slot: u32) {
        self.delist(slot);
    }

    /// Puts `slot`, which is the root or hangs from an attached node, and everything below it into the lists.
    pub(super) fn settle_subtree(&mut self, slot: u32) {
        let mut at = Some(slot);
        while let Some(node) = at {
            let parent = self.node(node).parent;
            let depth = if parent == NONE { 0 } else { self.node(parent).depth.saturating_add(1) };
            self.node_mut(node).depth = depth;
            self.enlist(node);
            at = self.next_in_subtree(slot, node);
        }
    }
}

/// Lists.
impl<P: PeerId> Arena<P> {
    fn list_of(node: &Node<P>) -> usize {
        let free = node.children < node.capacity;
        let state = match (node.children, node.interior) {
            (0, _) => CHILDLESS,
            (_, 0) if free => LOWER_FREE,
            (_, 0) => LOWER_FULL,
            _ if free => UPPER_FREE,
            _ => UPPER_FULL,
        };
        (state * CLASSES + class(node.capacity)) as usize
    }

    fn enlist(&mut self, slot: u32) {
        let node = &self.nodes[slot as usize];
        let (list, depth) = (Self::list_of(node), usize::from(node.depth));
        let (free, class) = (u64::from(node.capacity - node.children), class(node.capacity) as usize);
        while self.levels.len() <= depth {
            self.levels.push(Level::EMPTY);
        }
        let level = &mut self.levels[depth];
        let head = level.heads[list];
        if head == NONE {
            level.heads[list] = slot;
        }
        level.mask |= 1 << list;
        level.nodes += 1;
        level.free += free;
        self.class_counts[class] += 1;
        if free > 0 {
            self.free_from = self.free_from.min(depth);
        }
        let mut last = slot;
        if head != NONE {
            last = core::mem::replace(&mut self.node_mut(head).list_prev, slot);
            self.node_mut(last).list_next = slot;
        }
        let node = self.node_mut(slot);
        (node.list_prev, node.list_next) = (last, NONE);
    }

    fn delist(&mut self, slot: u32) {
        let node = &self.nodes[slot as usize];
        let (list, depth) = (Self::list_of(node), usize::from(node.depth));
        let (free, class) = (u64::from(node.capacity - node.children), class(node.capacity) as usize);
        let (list_prev, list_next) = (node.list_prev, node.list_next);
        let level = &mut self.levels[depth];
        let head = level.heads[list];
        if head == slot {
            level.heads[list] = list_next;
            if list_next == NONE {
                level.mask &= !(1 << list);
            }
        }
        level.nodes -= 1;
        level.free -= free;
        self.class_counts[class] -= 1;
        if head != slot {
            self.node_mut(list_prev).list_next = list_next;
        }
        if list_next != NONE {
            self.node_mut(list_next).list_prev = list_prev;
        } else if head != slot {
            self.node_mut(head).list_prev = list_prev;
        }
        self.node_mut(slot).list_prev = FLOATING;
    }

    fn trim_levels(&mut self) {
        while self.levels.last().is_some_and(|level| level.nodes == 0) {
            self.levels.pop();
        }
        self.free_from = self.free_from.min(self.levels.len());
    }
}

/// Searches.
impl<P: PeerId> Arena<P> {
    /// How many levels have nodes.
    pub(super) fn level_count(&self) -> usize {
        self.levels.len()
    }

    pub(super) fn nodes_at(&self, depth: usize) -> u64 {
        u64::from(self.levels[depth].nodes)
    }

    pub(super) fn free_at(&self, depth: usize) -> u64 {
        self.levels[depth].free
    }

    /// Whether the attached nodes are of more than one class.
    pub(super) fn is_mixed(&self) -> bool {
        self.class_counts.iter().filter(|&&count| count > 0).nth(1).is_some()
    }

    /// The least depth at which a node has a free place.
    pub(super) fn shallowest_free_depth(&mut self) -> Option<usize> {
        while self.levels.get(self.free_from)?.free == 0 {
            self.free_from += 1;
        }
        Some(self.free_from)
    }

    /// A node with a free place at `depth`, one that relays already if there is one.
    pub(super) fn free_node_at(&self, depth: usize) -> Option<u32> {
        let level = &self.levels[depth];
        [UPPER_FREE, LOWER_FREE].into_iter().find_map(|state| self.strongest(depth, state)).or_else(|| {
            // The lowest bit of the childless is class 0, which has no place to give.
            (level.classes(CHILDLESS) > 1).then(|| self.strongest(depth, CHILDLESS)).flatten()
        })
    }

    /// The childless node of the highest class on the deepest level that came there last.
    pub(super) fn deepest_leaf(&self) -> Option<u32> {
        let first = self.strongest(self.levels.len() - 1, CHILDLESS)?;
        Some(self.node(first).list_prev)
    }

    /// The shallowest node of class 0.
    pub(super) fn shallowest_incapable(&self) -> Option<u32> {
        let level = self.levels.iter().find(|level| level.classes(CHILDLESS) & 1 != 0)?;
        Some(level.heads[(CHILDLESS * CLASSES) as usize])
    }

    /// The class of the strongest node at `depth` that could move up with its children: one that is childless or
    /// lower.
    pub(super) fn strongest_movable_class(&self, depth: usize) -> Option<u32> {
        let level = &self.levels[depth];
        highest(level.classes(CHILDLESS) | level.classes(LOWER_FREE) | level.classes(LOWER_FULL))
    }

    /// A movable node of `class` at `depth`: a childless one if there is one.
    pub(super) fn movable_at(&self, depth: usize, class: u32) -> Option<u32> {
        [CHILDLESS, LOWER_FREE, LOWER_FULL].into_iter().find_map(|state| self.head(depth, state, class))
    }

    /// The class of the weakest node at `depth`.
    pub(super) fn weakest_class(&self, depth: usize) -> Option<u32> {
        let level = &self.levels[depth];
        let classes = (0..5).map(|state| level.classes(state)).fold(0, |all, some| all | some);
        (classes != 0).then(|| classes.trailing_zeros())
    }

    /// A node of `class` at `depth`, one with as few children as possible by state.
    pub(super) fn weak_node_at(&self, depth: usize, class: u32) -> Option<u32> {
        [CHILDLESS, LOWER_FREE, LOWER_FULL, UPPER_FREE, UPPER_FULL]
            .into_iter()
            .find_map(|state| self.head(depth, state, class))
    }

    fn strongest(&self, depth: usize, state: u32) -> Option<u32> {
        let class = highest(self.levels[depth].classes(state))?;
        self.head(depth, state, class)
    }

    fn head(&self, depth: usize, state: u32, class: u32) -> Option<u32> {
        let head = self.levels[depth].heads[(state * CLASSES + class) as usize];
        (head != NONE).then_some(head)
    }
}

fn highest(classes: u64) -> Option<u32> {
    classes.checked_ilog2()
}

/// A keyed hash that is equal on every platform for peers whose `Hash` is (numbers, byte arrays).
fn hash_of<P: Hash>(peer: &P, key: u64) -> u64 {
    let mut hasher = Mixer(key);
    peer.hash(&mut hasher);
    hasher.finish()
}

struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
impl<P: PeerId> Arena<P> {
    /// Compares all lists and counts with a scan of the nodes below `root`.
    pub(super) fn check(&self, root: u32) {
        let mut levels = alloc::vec![(0u32, 0u64, 0u64); self.levels.len()];
        for slot in self.subtree(root) {
            let node = self.node(slot);
            assert!(!self.is_floating(slot));
            assert_eq!(usize::from(node.children), self.children(slot).count());
            let interior = self.children(slot).filter(|&child| self.node(child).children > 0);
            assert_eq!(usize::from(node.interior), interior.count());
            let level = &mut levels[usize::from(node.depth)];
            level.0 += 1;
            level.1 += u64::from(node.capacity - node.children);
            level.2 |= 1 << Self::list_of(node);
        }
        let found: Vec<_> = self.levels.iter().map(|level| (level.nodes, level.free, level.mask)).collect();
        assert_eq!(levels, found);
        assert!(self.levels[..self.free_from].iter().all(|level| level.free == 0));
        let mut listed = 0;
        for (depth, level) in self.levels.iter().enumerate() {
            for (list, &head) in level.heads.iter().enumerate() {
                let (mut slot, mut before) = (head, None);
                while slot != NONE {
                    let node = self.node(slot);
                    assert_eq!((Self::list_of(node), usize::from(node.depth)), (list, depth));
                    assert!(before.is_none_or(|before| node.list_prev == before));
                    (slot, before, listed) = (node.list_next, Some(slot), listed + 1);
                }
                assert!(before.is_none_or(|last| self.node(head).list_prev == last));
            }
        }
        assert_eq!(listed, self.len());
        let counts = self.class_counts.iter().sum::<u32>();
        assert_eq!(counts as usize, self.len());
    }
}
