//! Viewers and their links in flat slabs, and the lists by which slots are found.
//!
//! A node takes 32 bytes and its peer, 8 bytes for every stripe, and 6 to 12 bytes of the index from peer to slot.
//! The root has one node for each stripe, at the front of the slab, so that nothing below treats it as special.

mod lists;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use hashbrown::HashTable;

use crate::id::PeerId;
use crate::rng::mix;

/// No node.
pub(super) const NONE: u32 = u32::MAX;
/// The colour of a node without slots.
pub(super) const COLOURLESS: u8 = u8::MAX;

/// What a listed node has to give; each state has lists of its own. A *leaf* is a child of another colour.
pub(super) mod state {
    /// No children, and slots.
    pub(in super::super) const EMPTY: usize = 0;
    /// A free slot, and no leaf.
    pub(in super::super) const OPEN_SOLID: usize = 1;
    /// A free slot, and a leaf.
    pub(in super::super) const OPEN_LEAF: usize = 2;
    /// A free slot in reserve only, and no leaf.
    pub(in super::super) const RESERVE_SOLID: usize = 3;
    /// A free slot in reserve only, and a leaf.
    pub(in super::super) const RESERVE_LEAF: usize = 4;
    /// No free slot, no leaf.
    pub(in super::super) const FULL_SOLID: usize = 5;
    /// No free slot, and a leaf.
    pub(in super::super) const FULL_LEAF: usize = 6;
    /// Part of the reserve is taken.
    pub(in super::super) const PLUS_FREE: usize = 7;
    /// All of the reserve is taken.
    pub(in super::super) const PLUS_FULL: usize = 8;
    /// More children than slots.
    pub(in super::super) const OVER: usize = 9;
    pub(super) const COUNT: usize = 10;
    /// Not in any list.
    pub(super) const UNLISTED: u8 = 254;
    /// In the list of nodes without a colour.
    pub(super) const SLOTLESS: u8 = 253;
    /// Not a node.
    pub(super) const VACANT: u8 = 255;

    /// A free slot without touching the reserve; the first is preferred among equally deep ones.
    pub(in super::super) const OPEN: [usize; 3] = [OPEN_LEAF, OPEN_SOLID, EMPTY];
    /// A free slot in reserve.
    pub(in super::super) const RESERVE: [usize; 3] = [RESERVE_LEAF, RESERVE_SOLID, PLUS_FREE];
    /// A leaf for certain.
    pub(in super::super) const LEAF: [usize; 3] = [FULL_LEAF, RESERVE_LEAF, OPEN_LEAF];
    /// No more children than slots, reserve not touched.
    pub(in super::super) const CALM: [usize; 7] =
        [EMPTY, OPEN_SOLID, OPEN_LEAF, RESERVE_SOLID, RESERVE_LEAF, FULL_SOLID, FULL_LEAF];
    /// No more children than slots, those in reserve among them.
    pub(in super::super) const SETTLED: [usize; 9] = [
        EMPTY,
        OPEN_SOLID,
        OPEN_LEAF,
        RESERVE_SOLID,
        RESERVE_LEAF,
        FULL_SOLID,
        FULL_LEAF,
        PLUS_FREE,
        PLUS_FULL,
    ];
    /// All.
    pub(in super::super) const ALL: [usize; COUNT] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
}

/// The class of a number of slots: its bit length.
pub(super) fn class(slots: u16) -> u8 {
    (u16::BITS - slots.leading_zeros()) as u8
}

#[derive(Clone, Debug)]
pub(super) struct Node<P> {
    pub(super) peer: P,
    /// Bytes per second; of the root nodes, nothing.
    pub(super) upload: u32,
    first_child: u32,
    list_next: u32,
    /// `NONE` at the first of a list.
    list_prev: u32,
    /// In the tree of its colour.
    pub(super) depth: u32,
    pub(super) used: u16,
    /// How many children have this node's colour.
    pub(super) inner: u16,
    /// Slots at the usual use of the upload.
    pub(super) soft: u16,
    /// Slots at the highest use.
    pub(super) hard: u16,
    pub(super) colour: u8,
    state: u8,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    parent: u32,
    next: u32,
}

/// The heads of the lists by depth and class.
type Levels = BTreeMap<(u32, u8), u32>;

#[derive(Clone, Debug, Default)]
pub(super) struct Stripe {
    pub(super) levels: [Levels; state::COUNT],
    pub(super) soft_total: u64,
    pub(super) hard_total: u64,
    /// How many nodes, the root not counted, have so many slots: soft, then hard.
    pub(super) histograms: [BTreeMap<u16, u32>; 2],
}

#[derive(Clone, Debug)]
pub(super) struct Slab<P> {
    pub(super) k: usize,
    pub(super) nodes: Vec<Node<P>>,
    links: Vec<Link>,
    /// From viewer to node. Never iterated.
    index: HashTable<u32>,
    hash_key: u64,
    vacant: u32,
    pub(super) stripes: Vec<Stripe>,
    pub(super) slotless: u32,
    /// Links as they were before this call: node, stripe, parent.
    touched: Vec<(u32, u8, u32)>,
}

impl<P: PeerId> Slab<P> {
    pub(super) fn new(root: P, k: usize) -> Self {
        let mut slab = Self {
            k,
            nodes: Vec::new(),
            links: vec![Link { parent: NONE, next: NONE }; k * k],
            index: HashTable::new(),
            hash_key: 0,
            vacant: NONE,
            stripes: vec![Stripe::default(); k],
            slotless: NONE,
            touched: Vec::new(),
        };
        slab.nodes = (0..k).map(|stripe| Node { colour: stripe as u8, ..Node::new(root, 0) }).collect();
        (0..k as u32).for_each(|node| slab.list(node));
        slab
    }

    /// The number of viewers.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn node(&self, node: u32) -> &Node<P> {
        &self.nodes[node as usize]
    }

    fn node_mut(&mut self, node: u32) -> &mut Node<P> {
        &mut self.nodes[node as usize]
    }

    pub(super) fn is_root(&self, node: u32) -> bool {
        (node as usize) < self.k
    }

    pub(super) fn find(&self, viewer: P) -> Option<u32> {
        let hash = hash_of(&viewer, self.hash_key);
        self.index.find(hash, |&node| self.node(node).peer == viewer).copied()
    }

    /// A node without links, slots or colour.
    pub(super) fn insert(&mut self, viewer: P, upload: u32) -> u32 {
        let fresh = Node::new(viewer, upload);
        let node = if self.vacant == NONE {
            if self.nodes.len() == self.nodes.capacity() {
                // Doubling would leave up to half of the slabs unused.
                let more = self.nodes.len() / 16 + 8;
                self.nodes.reserve_exact(more);
                self.links.reserve_exact(more * self.k);
            }
            self.nodes.push(fresh);
            self.links.resize(self.links.len() + self.k, Link { parent: NONE, next: NONE });
            (self.nodes.len() - 1) as u32
        } else {
            let node = self.vacant;
            self.vacant = self.node(node).list_next;
            *self.node_mut(node) = fresh;
            node
        };
        let (nodes, key) = (&self.nodes, self.hash_key);
        let rehash = |&node: &u32| hash_of(&nodes[node as usize].peer, key);
        self.index.insert_unique(hash_of(&viewer, key), node, rehash);
        self.list(node);
        (0..self.k).for_each(|stripe| self.touched.push((node, stripe as u8, NONE)));
        node
    }

    /// Hashes the empty index with another key.
    pub(super) fn set_hash_key(&mut self, hash_key: u64) {
        if self.index.is_empty() {
            self.hash_key = hash_key;
        }
    }

    /// Takes a viewer out of the index; its node stays until it is freed.
    pub(super) fn forget(&mut self, node: u32) {
        let hash = hash_of(&self.node(node).peer, self.hash_key);
        if let Ok(entry) = self.index.find_entry(hash, |&found| found == node) {
            entry.remove();
        }
    }

    /// Takes a node out of its list for good: it gets nothing any more.
    pub(super) fn withdraw(&mut self, node: u32) {
        self.unlist(node);
    }

    /// Gives back a node without links.
    pub(super) fn free(&mut self, node: u32) {
        self.withdraw(node);
        let vacant = self.vacant;
        let place = self.node_mut(node);
        (place.state, place.list_next) = (state::VACANT, vacant);
        self.vacant = node;
    }

    pub(super) fn is_vacant(&self, node: u32) -> bool {
        self.node(node).state == state::VACANT
    }

    pub(super) fn parent(&self, node: u32, stripe: usize) -> u32 {
        self.links[node as usize * self.k + stripe].parent
    }

    fn link_mut(&mut self, node: u32, stripe: usize) -> &mut Link {
        &mut self.links[node as usize * self.k + stripe]
    }

    pub(super) fn is_inner(&self, node: u32, stripe: usize) -> bool {
        usize::from(self.node(node).colour) == stripe
    }

    /// The children, all in the stripe of the node's colour; the latest first.
    pub(super) fn children(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let stripe = usize::from(self.node(node).colour);
        let real = |node: u32| Some(node).filter(|&node| node != NONE);
        core::iter::successors(real(self.node(node).first_child), move |&child| {
            real(self.links[child as usize * self.k + stripe].next)
        })
    }

    /// How deep a node is in a stripe; the root is at 0.
    pub(super) fn depth(&self, node: u32, stripe: usize) -> u32 {
        if self.is_inner(node, stripe) {
            return self.node(node).depth;
        }
        match self.parent(node, stripe) {
            NONE => 0,
            parent => self.node(parent).depth + 1,
        }
    }

    /// Whether `node`, a node of that stripe, hangs from the root, and not by way of `avoid`.
    pub(super) fn reaches_root(&self, node: u32, stripe: usize, avoid: u32) -> bool {
        let mut at = node;
        while at != avoid && at != NONE {
            if self.is_root(at) {
                return true;
            }
            at = self.parent(at, stripe);
        }
        false
    }

    /// The child of the root above `node`, or the node itself; the root's is `NONE`.
    pub(super) fn branch(&self, node: u32, stripe: usize) -> u32 {
        let mut at = node;
        let mut below = NONE;
        while !self.is_root(at) {
            below = at;
            at = self.parent(at, stripe);
        }
        below
    }

    /// How many links may have been changed in this call.
    pub(super) fn touched_len(&self) -> usize {
        self.touched.len()
    }

    /// Hands out the links that this call changed: node, stripe, and whether the viewer was there before.
    pub(super) fn take_touched(&mut self) -> Vec<(u32, u8, bool)> {
        // A stable sort keeps the oldest record of a link in front.
        self.touched.sort_by_key(|&(node, stripe, _)| (node, stripe));
        self.touched.dedup_by_key(|&mut (node, stripe, _)| (node, stripe));
        let mut changed = Vec::with_capacity(self.touched.len());
        for &(node, stripe, before) in &self.touched {
            let now = self.parent(node, usize::from(stripe));
            if !self.is_vacant(node) && now != before && now != NONE {
                changed.push((node, stripe, before != NONE));
            }
        }
        self.touched.clear();
        if self.touched.capacity() > 4_096 {
            self.touched = Vec::new();
        }
        changed
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let entries: usize =
            self.stripes.iter().flat_map(|stripe| &stripe.levels).map(BTreeMap::len).sum::<usize>() * 24;
        self.nodes.capacity() * size_of::<Node<P>>()
            + self.links.capacity() * size_of::<Link>()
            + self.index.allocation_size()
            + self.stripes.capacity() * size_of::<Stripe>()
            + self.touched.capacity() * size_of::<(u32, u8, u32)>()
            + entries
    }
}

/// Links.
impl<P: PeerId> Slab<P> {
    /// Ends the link of `child` in `stripe`, if it has one. What is below it stays as it is, and listed.
    pub(super) fn unlink(&mut self, child: u32, stripe: usize) {
        let Link { parent, next } = *self.link_mut(child, stripe);
        if parent == NONE {
            return;
        }
        self.touched.push((child, stripe as u8, parent));
        let first = self.node(parent).first_child;
        if first == child {
            self.node_mut(parent).first_child = next;
        } else {
            let mut at = first;
            while self.link_mut(at, stripe).next != child {
                at = self.link_mut(at, stripe).next;
            }
            self.link_mut(at, stripe).next = next;
        }
        *self.link_mut(child, stripe) = Link { parent: NONE, next: NONE };
        let inner = u16::from(self.is_inner(child, stripe));
        let node = self.node_mut(parent);
        node.used -= 1;
        node.inner -= inner;
        self.relist(parent);
    }

    /// Hangs `child`, which has no parent in `stripe`, below `parent`, and tells what is below it its depth.
    pub(super) fn link(&mut self, child: u32, stripe: usize, parent: u32) {
        debug_assert!(self.is_inner(parent, stripe) && self.parent(child, stripe) == NONE);
        let next = self.node(parent).first_child;
        *self.link_mut(child, stripe) = Link { parent, next };
        let inner = self.is_inner(child, stripe);
        let node = self.node_mut(parent);
        node.first_child = child;
        node.used += 1;
        node.inner += u16::from(inner);
        let depth = node.depth + 1;
        self.relist(parent);
        if inner {
            self.set_depth(child, depth);
        }
    }

    /// Moves `child`, with what is below it.
    pub(super) fn move_to(&mut self, child: u32, stripe: usize, parent: u32) {
        self.unlink(child, stripe);
        self.link(child, stripe, parent);
    }

    fn set_depth(&mut self, top: u32, depth: u32) {
        let mut rest = vec![(top, depth)];
        while let Some((node, depth)) = rest.pop() {
            if self.node(node).depth == depth {
                continue;
            }
            self.unlist(node);
            self.node_mut(node).depth = depth;
            self.list(node);
            if self.node(node).inner > 0 {
                let stripe = usize::from(self.node(node).colour);
                let inner = self.children(node).filter(|&child| self.is_inner(child, stripe));
                rest.extend(inner.map(|child| (child, depth + 1)));
            }
        }
    }

    /// Gives a node slots; whether it has more children than that is up to the caller.
    pub(super) fn set_slots(&mut self, node: u32, soft: u16, hard: u16) {
        self.unlist(node);
        self.count(node, false);
        let place = self.node_mut(node);
        (place.soft, place.hard) = (soft, hard);
        self.count(node, true);
        self.list(node);
    }

    /// Gives a node without children another colour.
    pub(super) fn set_colour(&mut self, node: u32, colour: u8) {
        debug_assert_eq!(self.node(node).used, 0);
        self.unlist(node);
        self.count(node, false);
        self.tell_parent(node, false);
        self.node_mut(node).colour = colour;
        self.tell_parent(node, true);
        if colour != COLOURLESS {
            let parent = self.parent(node, usize::from(colour));
            self.node_mut(node).depth = if parent == NONE { 0 } else { self.node(parent).depth + 1 };
        }
        self.count(node, true);
        self.list(node);
    }

    pub(super) fn set_upload(&mut self, node: u32, upload: u32) {
        self.node_mut(node).upload = upload;
    }

    /// Adds a node's slots to the totals of its stripe, or takes them away.
    fn count(&mut self, node: u32, add: bool) {
        let &Node { colour, soft, hard, .. } = self.node(node);
        if colour == COLOURLESS {
            return;
        }
        let root = self.is_root(node);
        let stripe = &mut self.stripes[usize::from(colour)];
        let totals = [(&mut stripe.soft_total, soft), (&mut stripe.hard_total, hard)];
        for ((total, slots), histogram) in totals.into_iter().zip(&mut stripe.histograms) {
            *total = if add { *total + u64::from(slots) } else { *total - u64::from(slots) };
            if root || slots == 0 {
                continue;
            }
            let count = histogram.entry(slots).or_default();
            *count = if add { *count + 1 } else { *count - 1 };
            if *count == 0 {
                histogram.remove(&slots);
            }
        }
    }

    /// Counts a node among its parent's inner children, or no longer.
    fn tell_parent(&mut self, node: u32, add: bool) {
        let colour = self.node(node).colour;
        if colour == COLOURLESS {
            return;
        }
        let parent = self.parent(node, usize::from(colour));
        if parent != NONE {
            let above = self.node_mut(parent);
            above.inner = if add { above.inner + 1 } else { above.inner - 1 };
            self.relist(parent);
        }
    }
}

impl<P> Node<P> {
    fn new(peer: P, upload: u32) -> Self {
        Self {
            peer,
            upload,
            first_child: NONE,
            list_next: NONE,
            list_prev: NONE,
            depth: 0,
            used: 0,
            inner: 0,
            soft: 0,
            hard: 0,
            colour: COLOURLESS,
            state: state::UNLISTED,
        }
    }

    fn state_now(&self) -> u8 {
        let leaf = self.inner < self.used;
        let state = if self.colour == COLOURLESS {
            return state::SLOTLESS;
        } else if self.used > self.hard {
            state::OVER
        } else if self.used > self.soft {
            if self.used < self.hard { state::PLUS_FREE } else { state::PLUS_FULL }
        } else if self.used == self.soft {
            match (self.soft < self.hard, leaf) {
                (true, true) => state::RESERVE_LEAF,
                (true, false) => state::RESERVE_SOLID,
                (false, true) => state::FULL_LEAF,
                (false, false) => state::FULL_SOLID,
            }
        } else if self.used == 0 {
            state::EMPTY
        } else if leaf {
            state::OPEN_LEAF
        } else {
            state::OPEN_SOLID
        };
        state as u8
    }
}

fn hash_of<P: Hash>(peer: &P, key: u64) -> u64 {
    let mut hasher = MixHasher(key);
    peer.hash(&mut hasher);
    hasher.finish()
}

/// The crate's mixing function as a hasher.
struct MixHasher(u64);

impl Hasher for MixHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = mix(self.0 ^ u64::from_le_bytes(word)).wrapping_add(chunk.len() as u64);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
