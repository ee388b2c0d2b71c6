//! Bounded improvements. Each makes one sum smaller and none greater that comes before it: overload, then the depth
//! of the strong, then the depth of the leaves. So they come to an end, wherever they begin.

use alloc::vec::Vec;

use super::slab::{Slab, class, state};
use crate::id::PeerId;

/// How many levels are looked at from either end.
const TRIES: usize = 8;

/// Classes 0 to 16.
const CLASSES: usize = 17;

impl<P: PeerId> Slab<P> {
    /// Makes one improvement in `stripe` of at most `moves_max` moves and returns how many it took. What takes a
    /// free slot must come up by `gain` levels at least.
    pub(super) fn improve(&mut self, stripe: usize, gain: u32, moves_max: usize) -> usize {
        if moves_max == 0 {
            return 0;
        }
        let over = self.shallowest(stripe, &[state::OVER]).map_or(0, |node| self.shed(node, moves_max));
        if over > 0 {
            return over;
        }
        let relieved = self.relieve(stripe);
        if relieved > 0 {
            return relieved;
        }
        let risen = self.raise(stripe, gain);
        if risen > 0 || moves_max < 2 {
            return risen;
        }
        let swapped = self.raise_over_leaf(stripe, gain);
        if swapped > 0 {
            return swapped;
        }
        let exchanged = self.exchange_any(stripe, moves_max);
        if exchanged > 0 {
            return exchanged;
        }
        self.lift_leaf(stripe, gain)
    }

    /// Gives back a slot of the reserve, once there are slots enough without it.
    fn relieve(&mut self, stripe: usize) -> usize {
        let viewers = self.len() as u64;
        if self.stripes[stripe].soft_total <= viewers + viewers / 64 {
            return 0;
        }
        let node = self.deepest(stripe, &[state::PLUS_FREE, state::PLUS_FULL]);
        let open = self.shallowest(stripe, &state::OPEN);
        let leaf = node.and_then(|node| self.children(node).find(|&child| !self.is_inner(child, stripe)));
        let (Some(leaf), Some(open)) = (leaf, open) else { return 0 };
        self.move_to(leaf, stripe, open);
        1
    }

    /// Moves the deepest inner node to the shallowest free slot.
    fn raise(&mut self, stripe: usize, gain: u32) -> usize {
        let open = self.shallowest(stripe, &state::OPEN);
        let deep = self.deepest(stripe, &state::ALL);
        let (Some(open), Some(deep)) = (open, deep) else { return 0 };
        if self.node(deep).depth < self.node(open).depth + 1 + gain {
            return 0;
        }
        self.move_to(deep, stripe, open);
        1
    }

    /// Lets the deepest node with a slot change places with a leaf nearer to the root.
    fn raise_over_leaf(&mut self, stripe: usize, gain: u32) -> usize {
        // Chains of single slots matter only where the depth does.
        let least = match gain {
            2.. => class(2),
            // Those who have a slot in reserve only.
            _ if self.needs_reserve(stripe) => 0,
            _ => class(1),
        };
        let levels = &self.stripes[stripe].levels;
        let strong = |state: usize| {
            levels[state].iter().rev().find(|&(&(_, size), _)| size >= least).map(|(_, &node)| node)
        };
        let deep = state::ALL.into_iter().filter_map(strong).max_by_key(|&node| self.node(node).depth);
        let above = self.leafy(stripe).min_by_key(|&node| self.node(node).depth);
        let (Some(deep), Some(above)) = (deep, above) else { return 0 };
        if self.node(deep).depth <= self.node(above).depth + 1 {
            return 0;
        }
        let below = self.parent(deep, stripe);
        let Some(leaf) = self.children(above).find(|&child| !self.is_inner(child, stripe)) else { return 0 };
        self.unlink(leaf, stripe);
        self.move_to(deep, stripe, above);
        self.link(leaf, stripe, below);
        2
    }

    /// The shallowest and the deepest nodes with a leaf, those that use the reserve among them.
    fn leafy(&self, stripe: usize) -> impl Iterator<Item = u32> + '_ {
        let states = state::LEAF.into_iter().chain([state::PLUS_FREE, state::PLUS_FULL]);
        let has_leaf = |&node: &u32| self.node(node).inner < self.node(node).used;
        states.flat_map(move |state| {
            let levels = &self.stripes[stripe].levels[state];
            let first = levels.values().copied().take(TRIES).find(has_leaf);
            let last = levels.values().rev().copied().take(TRIES).find(has_leaf);
            first.into_iter().chain(last)
        })
    }

    /// Moves a leaf of the deepest to the shallowest free slot.
    pub(super) fn lift_leaf(&mut self, stripe: usize, gain: u32) -> usize {
        let open = self.shallowest(stripe, &state::OPEN);
        let deep = self.leafy(stripe).max_by_key(|&node| self.node(node).depth);
        let (Some(open), Some(deep)) = (open, deep) else { return 0 };
        if self.node(deep).depth < self.node(open).depth + gain {
            return 0;
        }
        let Some(leaf) = self.children(deep).find(|&child| !self.is_inner(child, stripe)) else { return 0 };
        self.move_to(leaf, stripe, open);
        1
    }

    /// Lets a strong node change places with one of a lower class nearer to the root: the strongest for which there
    /// is one, the deepest of those, with the weakest.
    fn exchange_any(&mut self, stripe: usize, moves_max: usize) -> usize {
        let mut shallow = [u32::MAX; CLASSES];
        let mut deep = [0; CLASSES];
        for &state in self.settled(stripe) {
            for &(depth, size) in self.stripes[stripe].levels[state].keys().filter(|&&(depth, _)| depth > 0) {
                let size = usize::from(size);
                shallow[size] = shallow[size].min(depth);
                deep[size] = deep[size].max(depth);
            }
        }
        for strong in (1..CLASSES).rev() {
            for weak in (0..strong).filter(|&weak| shallow[weak] < deep[strong]) {
                let above = self.least_used(stripe, (shallow[weak], weak as u8));
                let below = self.least_used(stripe, (deep[strong], strong as u8));
                if let (Some(above), Some(below)) = (above, below) {
                    let moves = self.exchange(above, below, stripe, moves_max);
                    if moves > 0 {
                        return moves;
                    }
                }
            }
        }
        0
    }

    /// The states of nodes that may change places.
    fn settled(&self, stripe: usize) -> &'static [usize] {
        if self.needs_reserve(stripe) { &state::SETTLED } else { &state::CALM }
    }

    /// Whether there are too few slots without the reserve.
    fn needs_reserve(&self, stripe: usize) -> bool {
        self.stripes[stripe].soft_total < self.len() as u64
    }

    fn least_used(&self, stripe: usize, key: (u32, u8)) -> Option<u32> {
        let heads =
            self.settled(stripe).iter().filter_map(|&state| self.stripes[stripe].levels[state].get(&key));
        heads.copied().min_by_key(|&node| self.node(node).used)
    }

    /// Brings `node` nearer to the root, in the place of one of a lower class, which in turn may do the same.
    /// Returns the moves.
    pub(super) fn promote(&mut self, node: u32, stripe: usize, moves_max: usize) -> usize {
        let mut moves = 0;
        let mut rising = node;
        for _ in 0..3 {
            let (depth, size) = (self.node(rising).depth, class(self.node(rising).soft));
            let weaker = self.settled(stripe).iter().filter_map(|&state| {
                let levels = self.stripes[stripe].levels[state].range((1, 0)..(depth, 0));
                levels.filter(|&(&(_, other), _)| other < size).map(|(&key, _)| key).next()
            });
            let Some(above) = weaker.min().and_then(|key| self.least_used(stripe, key)) else { break };
            let taken = self.exchange(above, rising, stripe, moves_max.saturating_sub(moves));
            if taken == 0 {
                break;
            }
            moves += taken;
            rising = above;
        }
        moves
    }

    /// Lets `strong`, which is deeper, change places with `weak`. The children of `weak` stay where they are; those
    /// of `strong` come up with it as far as it has slots. Nothing happens if it takes more than `moves_max` moves.
    fn exchange(&mut self, weak: u32, strong: u32, stripe: usize, moves_max: usize) -> usize {
        let above = self.parent(weak, stripe);
        let below = self.parent(strong, stripe);
        let direct = u16::from(below == weak);
        let passed = self.node(weak).used - direct;
        // Where the reserve is needed, it counts.
        let needs_reserve = self.needs_reserve(stripe);
        let slots = |node: u32| if needs_reserve { self.node(node).hard } else { self.node(node).soft };
        let Some(room) = slots(strong).checked_sub(passed + direct) else { return 0 };
        let kept = usize::from(self.node(strong).used.min(room));
        let mut own: Vec<u32> = self.children(strong).collect();
        let moves = usize::from(passed) + own.len() - kept + 2;
        // What cannot stay with the strong one must fit below the weak one.
        if moves > moves_max || own.len() - kept > usize::from(slots(weak)) {
            return 0;
        }
        own.sort_by_key(|&child| !self.is_inner(child, stripe));
        let passed: Vec<u32> = self.children(weak).filter(|&child| child != strong).collect();
        self.unlink(strong, stripe);
        self.unlink(weak, stripe);
        for child in own.split_off(kept) {
            self.unlink(child, stripe);
            self.link(child, stripe, weak);
        }
        self.link(strong, stripe, above);
        for child in passed {
            self.move_to(child, stripe, strong);
        }
        self.link(weak, stripe, if direct == 1 { strong } else { below });
        moves
    }

    /// Gives a node without children of the richest stripe to the poorest, where they are far apart.
    pub(super) fn even_out(&mut self) -> usize {
        let viewers = self.len() as u64;
        let soft = |stripe: usize| self.stripes[stripe].soft_total;
        let Some(rich) = (0..self.k).max_by_key(|&stripe| soft(stripe)) else { return 0 };
        let Some(poor) = (0..self.k).min_by_key(|&stripe| soft(stripe)) else { return 0 };
        let apart = soft(rich) - soft(poor);
        let fits = |node: &u32| apart > viewers / 8 + 2 * u64::from(self.node(*node).soft);
        let levels = self.stripes[rich].levels[state::EMPTY].iter().rev();
        let node = levels.map(|(_, &head)| head).filter(|&node| !self.is_root(node)).find(fits);
        let Some(node) = node else { return 0 };
        self.recolour(node, poor as u8);
        1
    }
}
