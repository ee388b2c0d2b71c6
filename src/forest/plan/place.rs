//! Finding parents: for leaves, for nodes with children, and for the children of who is no longer there.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::slab::{COLOURLESS, NONE, Slab, class, state};
use crate::id::PeerId;

/// How many nodes of a list are looked at before the next list is.
const TRIES: usize = 8;
/// How many recolourings one change may take.
const RECOLOURINGS_MAX: usize = 32;

/// How to get slots to the stripes that are short of them.
#[derive(Default)]
pub(super) struct Recolouring {
    /// Nodes, and the stripes that they are to pass on.
    pub(super) picks: Vec<(u32, u8)>,
    /// Single slots of the root: from which stripe to which.
    pub(super) lent: SmallVec<[(u8, u8); 16]>,
}

impl Recolouring {
    pub(super) fn is_empty(&self) -> bool {
        self.picks.is_empty() && self.lent.is_empty()
    }
}

impl<P: PeerId> Slab<P> {
    /// Gives `leaf`, which has no parent in `stripe`, the shallowest one with a free slot.
    ///
    /// The slots of every stripe are kept at least as many as the viewers, so there is one.
    pub(super) fn place_leaf(&mut self, leaf: u32, stripe: usize) {
        let parent =
            self.shallowest(stripe, &state::OPEN).or_else(|| self.shallowest(stripe, &state::RESERVE));
        debug_assert!(parent.is_some(), "no slot in stripe {stripe}");
        if let Some(parent) = parent {
            self.link(leaf, stripe, parent);
        }
    }

    /// Gives `node`, of the colour `stripe`, a parent as near to the root as it deserves: a free slot, or the place
    /// of a leaf that moves down. What is below it comes along.
    pub(super) fn place_inner(&mut self, node: u32, stripe: usize) {
        let open = self.clear(stripe, &state::OPEN, node, TRIES);
        let above = self.clear(stripe, &state::LEAF, node, TRIES);
        let depth = |parent: Option<u32>| parent.map_or(u32::MAX, |parent| self.node(parent).depth);
        if self.node(node).soft >= 2 && depth(above) < depth(open) {
            return self.displace(node, stripe, above);
        }
        let anywhere = || self.clear(stripe, &state::OPEN, node, usize::MAX);
        let reserve = || self.clear(stripe, &state::RESERVE, node, usize::MAX);
        if let Some(parent) = open.or_else(anywhere).or_else(reserve) {
            return self.move_to(node, stripe, parent);
        }
        // All free slots are below the node, or below others that hang from nothing yet.
        let above = self.clear(stripe, &state::ALL, node, usize::MAX);
        self.displace(node, stripe, above);
    }

    /// Puts `node` in the place of a leaf of `above`; the leaf goes to a free slot.
    fn displace(&mut self, node: u32, stripe: usize, above: Option<u32>) {
        debug_assert!(above.is_some(), "no place in stripe {stripe}");
        let Some(above) = above else { return };
        let leaf = self.children(above).find(|&child| self.is_idle(child, stripe, node));
        let Some(leaf) = leaf else { return };
        self.unlink(node, stripe);
        if self.is_inner(leaf, stripe) {
            self.set_colour(leaf, COLOURLESS);
        }
        self.unlink(leaf, stripe);
        self.link(node, stripe, above);
        self.place_leaf(leaf, stripe);
    }

    /// Whether `child` is a leaf, or has no slots and nothing but perhaps `node` below it.
    fn is_idle(&self, child: u32, stripe: usize, node: u32) -> bool {
        let place = self.node(child);
        let last = place.used == 1 && self.parent(node, stripe) == child;
        child != node && (!self.is_inner(child, stripe) || (place.hard == 0 && (place.used == 0 || last)))
    }

    /// The shallowest node in any of `states` that hangs from the root, not by way of `avoid`, as far as `tries`
    /// nodes of each state tell. Where all states are asked for, it is one with a leaf, or a child as good as that.
    fn clear(&self, stripe: usize, states: &[usize], avoid: u32, tries: usize) -> Option<u32> {
        let with_leaf = states.len() == state::ALL.len();
        let fits = |&node: &u32| {
            (!with_leaf || self.children(node).any(|child| self.is_idle(child, stripe, avoid)))
                && self.reaches_root(node, stripe, avoid)
        };
        let first = |&state: &usize| {
            let lists = self.stripes[stripe].levels[state].values();
            lists.flat_map(|&head| self.list_from(head)).take(tries).find(fits)
        };
        states.iter().filter_map(first).min_by_key(|&node| self.node(node).depth)
    }

    /// Takes children from a node until it has no more than its slots, or `moves_max` are moved. Returns how many.
    pub(super) fn shed(&mut self, node: u32, moves_max: usize) -> usize {
        let stripe = usize::from(self.node(node).colour);
        let over = |slab: &Self| usize::from(slab.node(node).used.saturating_sub(slab.node(node).hard));
        let many = over(self).min(moves_max);
        let mut children: Vec<u32> = self.children(node).collect();
        children.sort_by_key(|&child| self.is_inner(child, stripe));
        for child in children.into_iter().take(many) {
            if self.is_inner(child, stripe) {
                self.place_inner(child, stripe);
            } else {
                self.unlink(child, stripe);
                self.place_leaf(child, stripe);
            }
        }
        if self.node(node).hard == 0 && self.node(node).used == 0 {
            self.set_colour(node, COLOURLESS);
        }
        many
    }

    /// Hands the children of `gone`, which has neither slots nor a parent any more, to a substitute that takes its
    /// place below `above`, and to free slots.
    pub(super) fn vacate(&mut self, gone: u32, above: u32) {
        let stripe = usize::from(self.node(gone).colour);
        let (depth, inner) = (self.node(gone).depth, self.node(gone).inner);
        let open = self.shallowest(stripe, &state::OPEN).map(|open| self.node(open).depth);
        let mut children: Vec<u32> = self.children(gone).collect();
        children.sort_by_key(|&child| !self.is_inner(child, stripe));
        let scatter = children.is_empty() || (inner == 0 && open.is_some_and(|open| open <= depth));
        let substitute = if scatter { None } else { self.substitute(gone, stripe) };
        let mut leaves: SmallVec<[u32; 8]> = SmallVec::new();
        if let Some(node) = substitute {
            self.unlink(node, stripe);
            let usable = !self.is_vacant(above)
                && self.is_inner(above, stripe)
                && self.node(above).used < self.node(above).hard
                && self.reaches_root(above, stripe, NONE);
            if usable {
                self.link(node, stripe, above);
            } else {
                self.place_inner(node, stripe);
            }
            // The substitute may have been a child itself.
            children.retain(|&child| child != node);
        }
        for child in children {
            if !self.is_inner(child, stripe) {
                self.unlink(child, stripe);
                self.place_leaf(child, stripe);
                continue;
            }
            let Some(node) = substitute else {
                self.place_inner(child, stripe);
                continue;
            };
            if self.node(node).used >= self.node(node).soft {
                let leaf = self.children(node).find(|&leaf| !self.is_inner(leaf, stripe));
                let Some(leaf) = leaf else {
                    self.place_inner(child, stripe);
                    continue;
                };
                self.unlink(leaf, stripe);
                leaves.push(leaf);
            }
            self.move_to(child, stripe, node);
        }
        for leaf in leaves {
            self.place_leaf(leaf, stripe);
        }
    }

    /// A node that can take the place of `gone`: with few children of its own, from as deep as possible.
    fn substitute(&self, gone: u32, stripe: usize) -> Option<u32> {
        let needed = self.node(gone).used;
        let levels = &self.stripes[stripe].levels;
        let empty = &levels[state::EMPTY];
        let enough =
            empty.iter().rev().filter(|&(&(_, size), _)| size >= class(needed)).find_map(|(_, &head)| {
                self.list_from(head)
                    .take(TRIES)
                    .find(|&node| self.node(node).soft >= needed && !self.is_root(node))
            });
        if enough.is_some() {
            return enough;
        }
        let gain = |node: u32| {
            let node = self.node(node);
            i32::from(node.soft.min(needed)) - i32::from(node.used)
        };
        let empties = empty.values().copied();
        let bottom = state::LEAF.into_iter().flat_map(|state| {
            let lists = levels[state].range((self.node(gone).depth, 0)..).rev().take(TRIES);
            let nodes = lists.flat_map(|(_, &head)| self.list_from(head).take(TRIES));
            nodes.filter(|&node| self.node(node).inner == 0)
        });
        // The last of equal ones: the deepest empty one.
        let nodes = bottom.chain(empties).filter(|&node| !self.is_root(node));
        nodes.max_by_key(|&node| gain(node)).filter(|&node| gain(node) > 0)
    }
}

/// Colours.
impl<P: PeerId> Slab<P> {
    /// How many slots more than `viewers` each stripe has.
    pub(super) fn spare(&self, viewers: usize, soft: bool) -> SmallVec<[i64; 16]> {
        let total = |stripe: &super::slab::Stripe| if soft { stripe.soft_total } else { stripe.hard_total };
        self.stripes.iter().map(|stripe| total(stripe) as i64 - viewers as i64).collect()
    }

    /// What has to change so that no stripe is short; `None` if that is not to be had. With `soft` only nodes with
    /// few children are taken, and nothing from the root.
    pub(super) fn plan_recolouring(&self, mut spare: SmallVec<[i64; 16]>, soft: bool) -> Option<Recolouring> {
        let mut picks: Vec<(u32, u8)> = Vec::new();
        let mut lent: SmallVec<[(u8, u8); 16]> = SmallVec::new();
        loop {
            let (poor, &least) = spare.iter().enumerate().min_by_key(|&(_, &spare)| spare)?;
            if least >= 0 {
                return Some(Recolouring { picks, lent });
            }
            if picks.len() == RECOLOURINGS_MAX {
                return None;
            }
            let mut donors: SmallVec<[usize; 16]> = (0..self.k).filter(|&donor| spare[donor] > 0).collect();
            donors.sort_by_key(|&donor| -spare[donor]);
            let pick = |&donor: &usize| Some((donor, self.recolourable(donor, spare[donor], soft, &picks)?));
            let Some((donor, node)) = donors.iter().find_map(pick) else {
                let lender = |&&donor: &&usize| {
                    let gone = lent.iter().filter(|&&(from, _)| usize::from(from) == donor).count();
                    !soft && usize::from(self.node(donor as u32).hard) > gone + 1
                };
                let &donor = donors.iter().find(lender)?;
                spare[donor] -= 1;
                spare[poor] += 1;
                lent.push((donor as u8, poor as u8));
                continue;
            };
            let slots = if soft { self.node(node).soft } else { self.node(node).hard };
            spare[donor] -= i64::from(slots);
            spare[poor] += i64::from(slots);
            picks.push((node, poor as u8));
        }
    }

    /// A node of at most `spare` slots with no children, or with leaves only, or, unless `soft`, with any.
    fn recolourable(&self, stripe: usize, spare: i64, soft: bool, taken: &[(u32, u8)]) -> Option<u32> {
        let slots = |node: u32| if soft { self.node(node).soft } else { self.node(node).hard };
        let fits = |&node: &u32| {
            let few = self.node(node).inner == 0 && (!soft || usize::from(self.node(node).used) <= TRIES);
            slots(node) > 0
                && i64::from(slots(node)) <= spare
                && !self.is_root(node)
                && (few || !soft)
                && taken.iter().all(|&(other, _)| other != node)
        };
        let levels = &self.stripes[stripe].levels;
        let empties = levels[state::EMPTY].values().flat_map(|&head| self.list_from(head).take(TRIES));
        let empty = empties.filter(fits).max_by_key(|&node| slots(node));
        let others = || {
            let lists = state::ALL[1..].iter().flat_map(|&state| levels[state].values().rev().take(TRIES));
            let nodes = lists.flat_map(|&head| self.list_from(head).take(TRIES));
            nodes.filter(fits).min_by_key(|&node| (self.node(node).inner, self.node(node).used))
        };
        empty.or_else(others)
    }

    /// Makes `node` pass on `stripe` in place of what it does, with the same slots.
    pub(super) fn recolour(&mut self, node: u32, stripe: u8) {
        let (soft, hard) = (self.node(node).soft, self.node(node).hard);
        if self.node(node).colour != COLOURLESS {
            // Without slots it is no parent for its own children.
            self.set_slots(node, 0, 0);
            self.shed(node, usize::MAX);
        }
        self.set_colour(node, stripe);
        self.set_slots(node, soft, hard);
    }

    /// The viewer whose loss hurts least: one without slots, else one of the fewest.
    pub(super) fn victim(&self) -> Option<u32> {
        if self.slotless != NONE {
            return Some(self.slotless);
        }
        let lists =
            self.stripes.iter().flat_map(|stripe| stripe.levels.iter().flat_map(|levels| levels.values()));
        let nodes = lists.flat_map(|&head| self.list_from(head).take(2));
        nodes
            .filter(|&node| !self.is_root(node))
            .min_by_key(|&node| (self.node(node).hard, self.node(node).used))
    }
}
