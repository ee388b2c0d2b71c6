//! The lists of nodes by state, depth and class: where a slot is found.

use super::{Levels, NONE, Node, Slab, class, state};
use crate::id::PeerId;

/// Lists.
impl<P: PeerId> Slab<P> {
    fn head(&mut self, node: u32) -> Option<&mut Levels> {
        let &Node { colour, state, .. } = self.node(node);
        self.stripes.get_mut(usize::from(colour)).and_then(|stripe| stripe.levels.get_mut(usize::from(state)))
    }

    pub(super) fn list(&mut self, node: u32) {
        let state = self.node(node).state_now();
        let place = self.node_mut(node);
        place.state = state;
        let key = (place.depth, class(place.soft));
        let next = match self.head(node) {
            Some(levels) => levels.insert(key, node).unwrap_or(NONE),
            None => core::mem::replace(&mut self.slotless, node),
        };
        let place = self.node_mut(node);
        (place.list_next, place.list_prev) = (next, NONE);
        if next != NONE {
            self.node_mut(next).list_prev = node;
        }
    }

    pub(super) fn unlist(&mut self, node: u32) {
        let &Node { list_next, list_prev, depth, soft, state, .. } = self.node(node);
        if state == state::UNLISTED {
            return;
        }
        if list_next != NONE {
            self.node_mut(list_next).list_prev = list_prev;
        }
        if list_prev != NONE {
            self.node_mut(list_prev).list_next = list_next;
        } else if let Some(levels) = self.head(node) {
            let key = (depth, class(soft));
            if list_next == NONE {
                levels.remove(&key);
            } else {
                levels.insert(key, list_next);
            }
        } else {
            self.slotless = list_next;
        }
        self.node_mut(node).state = state::UNLISTED;
    }

    /// Puts a node that has gained or lost children where it belongs.
    pub(super) fn relist(&mut self, node: u32) {
        let state = self.node(node).state;
        if state != state::UNLISTED && state != self.node(node).state_now() {
            self.unlist(node);
            self.list(node);
        }
    }

    /// The nodes of one list, from `head`.
    pub(in super::super) fn list_from(&self, head: u32) -> impl Iterator<Item = u32> + '_ {
        let real = |node: u32| Some(node).filter(|&node| node != NONE);
        core::iter::successors(real(head), move |&node| real(self.node(node).list_next))
    }

    /// The least deep node in any of `states`.
    pub(in super::super) fn shallowest(&self, stripe: usize, states: &[usize]) -> Option<u32> {
        let levels = &self.stripes[stripe].levels;
        let firsts = states.iter().filter_map(|&state| levels[state].first_key_value());
        firsts.min_by_key(|&(&(depth, _), _)| depth).map(|(_, &node)| node)
    }

    /// The deepest node in any of `states`.
    pub(in super::super) fn deepest(&self, stripe: usize, states: &[usize]) -> Option<u32> {
        let levels = &self.stripes[stripe].levels;
        let lasts = states.iter().filter_map(|&state| levels[state].last_key_value());
        lasts.max_by_key(|&(&(depth, _), _)| depth).map(|(_, &node)| node)
    }
}
