//! What a plan can be asked.

use smallvec::SmallVec;

use super::slab::{COLOURLESS, NONE, state};
use super::{ForestPlan, PlanConfig, PlanMode, PlanStats};
use crate::id::PeerId;
use crate::rng::mix;

/// How many nodes are looked at for a backup.
const CANDIDATES: usize = 64;

/// Queries.
impl<P: PeerId> ForestPlan<P> {
    /// Who feeds the others, and is fed by nobody.
    pub fn root(&self) -> P {
        self.root
    }

    /// The number of stripes.
    pub fn stripes(&self) -> u8 {
        self.config.stripes
    }

    /// The configuration, with the rate as [`set_rate`](Self::set_rate) left it.
    pub fn config(&self) -> &PlanConfig {
        &self.config
    }

    /// [`PlanMode::Star`] or [`PlanMode::Forest`]. After a change to the star the last viewers may take some more
    /// calls until the root feeds them.
    pub fn mode(&self) -> PlanMode {
        if self.star { PlanMode::Star } else { PlanMode::Forest }
    }

    /// The number of viewers. The root is none.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are no viewers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `peer` is a viewer.
    pub fn contains(&self, peer: P) -> bool {
        self.slab.find(peer).is_some()
    }

    /// All viewers, in an order that depends on the calls made so far only.
    pub fn viewers(&self) -> impl Iterator<Item = P> + '_ {
        let nodes = self.slab.k as u32..self.slab.nodes.len() as u32;
        nodes.filter(|&node| !self.slab.is_vacant(node)).map(|node| self.slab.node(node).peer)
    }

    /// Who feeds `viewer` with `stripe`; `None` for the root, a stranger, and a stripe that there is not.
    pub fn parent(&self, viewer: P, stripe: u8) -> Option<P> {
        let (node, stripe) = self.place(viewer, stripe)?;
        let parent = self.slab.parent(node, stripe);
        (parent != NONE).then(|| self.slab.node(parent).peer)
    }

    /// Whom `peer`, a viewer or the root, feeds, and with which stripe. Empty for a stranger.
    pub fn children(&self, peer: P) -> impl Iterator<Item = (u8, P)> + '_ {
        self.nodes_of(peer).flat_map(move |node| {
            let stripe = self.slab.node(node).colour;
            self.slab.children(node).map(move |child| (stripe, self.slab.node(child).peer))
        })
    }

    /// Up to two peers that `viewer` can take `stripe` from when its parent fails, the better first.
    ///
    /// They pass on that stripe, are not below the viewer, and share no ancestor but the root with its parent; if
    /// possible they have a free slot, and share no ancestor with each other. The root is the last resort, if it has
    /// a slot and is not the parent. Equal plans give equal backups. Looks at some hundred viewers at most.
    pub fn backups(&self, viewer: P, stripe: u8) -> SmallVec<[P; 2]> {
        let mut found: SmallVec<[P; 2]> = SmallVec::new();
        let Some((node, index)) = self.place(viewer, stripe) else { return found };
        let parent = self.slab.parent(node, index);
        if parent == NONE {
            return found;
        }
        let inner = self.slab.is_inner(node, index);
        // The branch of who hangs from the root directly is its own.
        let own = if self.slab.is_root(parent) { NONE } else { self.slab.branch(parent, index) };
        let mut branches: SmallVec<[u32; 2]> = SmallVec::new();
        let mut consider = |candidate: u32, apart: bool| {
            let branch = self.slab.branch(candidate, index);
            let fits = found.len() < 2
                && branch != NONE
                && branch != own
                && candidate != node
                && !(apart && branches.contains(&branch))
                && !found.contains(&self.slab.node(candidate).peer)
                && (!inner || self.slab.reaches_root(candidate, index, node));
            if fits {
                branches.push(branch);
                found.push(self.slab.node(candidate).peer);
            }
        };
        let levels = &self.slab.stripes[index].levels;
        let start = mix(u64::from(node) << 8 | index as u64) as usize;
        for states in [state::OPEN, state::RESERVE] {
            let mut free: SmallVec<[u32; CANDIDATES]> = SmallVec::new();
            for state in states {
                let heads = levels[state].values();
                let nodes = heads.flat_map(|&head| self.slab.list_from(head));
                free.extend(nodes.filter(|&node| !self.slab.is_root(node)).take(CANDIDATES / 3));
            }
            // Everybody's first choice must not be the same.
            let turn = start % free.len().max(1);
            free.rotate_left(turn);
            free.sort_by_key(|&candidate| self.slab.node(candidate).depth);
            free.iter().for_each(|&candidate| consider(candidate, true));
            free.iter().for_each(|&candidate| consider(candidate, false));
        }
        let top = self.slab.children(index as u32).filter(|&child| self.slab.is_inner(child, index));
        let mut top: SmallVec<[u32; CANDIDATES]> = top.take(CANDIDATES).collect();
        let turn = start % top.len().max(1);
        top.rotate_left(turn);
        top.into_iter()
            .filter(|&child| self.slab.node(child).hard > 0)
            .for_each(|child| consider(child, true));
        let root = self.slab.node(index as u32);
        if found.len() < 2 && !self.slab.is_root(parent) && root.used < root.hard {
            found.push(self.root);
        }
        found
    }

    /// How far `viewer` is from the root in `stripe`; `None` for a stranger, 0 for the root.
    pub fn depth(&self, viewer: P, stripe: u8) -> Option<usize> {
        if viewer == self.root {
            return (stripe < self.stripes()).then_some(0);
        }
        let (node, stripe) = self.place(viewer, stripe)?;
        Some(self.slab.depth(node, stripe) as usize)
    }

    /// The greatest depth of all viewers and stripes.
    pub fn depth_max(&self) -> usize {
        (0..self.slab.k).map(|stripe| self.stripe_depth(stripe)).max().unwrap_or(0)
    }

    /// The least depth that is possible with the slots and colours that there are, in the worst stripe: levels
    /// filled one after the other, the viewers with the most slots first.
    pub fn depth_optimum(&self) -> usize {
        (0..self.slab.k).map(|stripe| self.stripe_optimum(stripe)).max().unwrap_or(0)
    }

    /// How many children `peer`, a viewer or the root, may have over all stripes at the usual use of its upload.
    pub fn slots(&self, peer: P) -> usize {
        self.nodes_of(peer).map(|node| usize::from(self.slab.node(node).soft)).sum()
    }

    /// How many children `peer`, a viewer or the root, may have over all stripes at the highest use of its upload.
    pub fn slots_max(&self, peer: P) -> usize {
        self.nodes_of(peer).map(|node| usize::from(self.slab.node(node).hard)).sum()
    }

    /// How many children `peer`, a viewer or the root, has over all stripes.
    pub fn used(&self, peer: P) -> usize {
        self.nodes_of(peer).map(|node| usize::from(self.slab.node(node).used)).sum()
    }

    /// The stripe that `viewer` passes on; `None` for one without slots, for the root and for a stranger.
    pub fn colour(&self, viewer: P) -> Option<u8> {
        let colour = self.slab.node(self.slab.find(viewer)?).colour;
        (colour != COLOURLESS).then_some(colour)
    }

    /// What the plan holds on the heap, in bytes; an estimate.
    pub fn heap_bytes(&self) -> usize {
        self.slab.heap_bytes() + self.detached.capacity() * size_of::<P>()
    }

    /// What the plan has done so far.
    pub fn stats(&self) -> PlanStats {
        self.stats
    }

    pub(super) fn stripe_depth(&self, stripe: usize) -> usize {
        let lasts = self.slab.stripes[stripe].levels.iter().filter_map(|levels| levels.last_key_value());
        let depth =
            |node: u32| self.slab.node(node).depth as usize + usize::from(self.slab.node(node).used > 0);
        lasts.map(|(_, &node)| depth(node)).max().unwrap_or(0)
    }

    pub(super) fn stripe_optimum(&self, stripe: usize) -> usize {
        let root = self.slab.node(stripe as u32);
        let stripe = &self.slab.stripes[stripe];
        let mut viewers = self.len() as u64;
        let enough = stripe.soft_total >= viewers;
        let mut strongest = stripe.histograms[usize::from(!enough)].iter().rev();
        let mut places = u64::from(if enough { root.soft } else { root.hard });
        let (mut slots, mut count) = (0, 0);
        let mut depth = 0;
        while viewers > 0 && places > 0 {
            depth += 1;
            let mut nodes = places.min(viewers);
            viewers -= nodes;
            places = 0;
            while nodes > 0 {
                if count == 0 {
                    let Some((&next_slots, &next_count)) = strongest.next() else { break };
                    (slots, count) = (u64::from(next_slots), u64::from(next_count));
                }
                let taken = nodes.min(count);
                places += taken * slots;
                count -= taken;
                nodes -= taken;
            }
        }
        depth
    }

    fn place(&self, viewer: P, stripe: u8) -> Option<(u32, usize)> {
        let node = self.slab.find(viewer)?;
        (stripe < self.config.stripes).then_some((node, usize::from(stripe)))
    }

    /// A viewer's node, or the root's nodes.
    fn nodes_of(&self, peer: P) -> impl Iterator<Item = u32> + '_ {
        let roots = if peer == self.root { 0..self.slab.k as u32 } else { 0..0 };
        roots.chain(self.slab.find(peer))
    }
}
