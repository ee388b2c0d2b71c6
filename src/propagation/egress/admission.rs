//! Which items get in, and which make room for them.

use alloc::boxed::Box;

use super::{DropReason, Egress, Hold, Item, SPARE_MAX, Waiting};
use crate::id::PeerId;
use crate::io::Class;
use crate::propagation::queue::{NIL, Node};

impl<P: PeerId, M> Egress<P, M> {
    pub(super) fn accept(&mut self, to: P, item: Item<M>) -> Result<bool, DropReason> {
        let slot = self.peers.place(&to).ok_or(DropReason::Unknown)?;
        let peer = &self.peers[slot];
        let bytes = item.bytes.max(1);
        if peer.closing {
            return Err(DropReason::Closing);
        }
        if bytes as usize > self.frame_bytes_max - self.frame_header_bytes {
            return Err(DropReason::Oversize);
        }
        if item.deadline.is_some_and(|deadline| deadline < self.now) {
            return Err(DropReason::Late);
        }
        let older = item.key.and_then(|key| peer.waiting.as_ref()?.keys.get(&key).copied());
        let class = match older {
            Some(older) => item.class.min(self.items.node(older).lane),
            None => item.class,
        };
        let evict = self.make_room(slot, class, bytes as usize, older)?;
        let node = Node::new(item.message, bytes, class, item.key, item.deadline);
        match older {
            Some(older) if self.items.node(older).lane == class => {
                self.evict(slot, evict);
                self.replace(slot, older, node);
            }
            Some(older) => {
                drop(self.take(slot, older));
                self.evict(slot, evict);
                self.push(slot, node);
            }
            None => {
                self.evict(slot, evict);
                self.push(slot, node);
            }
        }
        // The next frame may now be smaller than the one that tokens or credit did not suffice for.
        let smaller = class <= Class::Urgent || older.is_some() || evict > 0;
        if smaller && self.peers[slot].hold != Hold::None {
            self.release(slot);
        }
        Ok(older.is_some())
    }

    /// How many bytes of less urgent items must go before an item gets in, or that it can't.
    fn make_room(
        &self,
        slot: u32,
        class: Class,
        bytes: usize,
        older: Option<u32>,
    ) -> Result<usize, DropReason> {
        let peer = &self.peers[slot];
        let (freed, freed_from) = older.map_or((0, class), |older| {
            let older = self.items.node(older);
            (older.bytes as usize, older.lane)
        });
        let own = peer.queued_bytes() - freed + bytes;
        let all = self.queued_bytes - freed + bytes;
        let mut excess = own.saturating_sub(self.config.peer_queue_bytes_max);
        // Others' backlogs may not silence a peer for which no more than a frame waits.
        let shared = all.saturating_sub(self.config.queue_bytes_max);
        excess = excess.max(shared.min(own.saturating_sub(self.frame_bytes_max)));
        let lower = Class::ALL.into_iter().skip(class as usize + 1);
        let mut evictable: usize = lower.map(|lower| peer.lane(lower).bytes).sum();
        if freed_from > class {
            evictable -= freed;
        }
        if evictable < excess { Err(DropReason::Full) } else { Ok(excess) }
    }

    fn evict(&mut self, slot: u32, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut gone = 0;
        for class in Class::ALL.into_iter().rev() {
            while gone < bytes {
                let Some((size, _message)) = self.take_head(slot, class) else {
                    break;
                };
                gone += size;
                self.stats.dropped_full += 1;
            }
        }
    }

    fn push(&mut self, slot: u32, node: Node<M>) {
        let peer = &mut self.peers[slot];
        let spare = &mut self.spare;
        let fresh = || spare.pop().unwrap_or_else(|| Box::new(Waiting::NOTHING));
        let waiting = peer.waiting.get_or_insert_with(fresh);
        let (class, key, bytes) = (node.lane, node.key, node.bytes as usize);
        let lane = &mut waiting.lanes[class as usize];
        let first = lane.is_empty();
        let index = self.items.push(lane, node);
        if let Some(key) = key {
            waiting.keys.insert(key, index);
        }
        waiting.bytes += bytes;
        self.queued_bytes += bytes;
        self.is_idle = false;
        if first {
            if class == Class::Background {
                self.background_moved(slot);
            }
            self.enter_rings(slot);
        }
    }

    fn replace(&mut self, slot: u32, index: u32, node: Node<M>) {
        let Some(waiting) = &mut self.peers[slot].waiting else { return };
        let lane = &mut waiting.lanes[node.lane as usize];
        let (before, after) = (self.items.node(index).bytes as usize, node.bytes as usize);
        self.items.replace(lane, index, node);
        waiting.bytes = waiting.bytes - before + after;
        self.queued_bytes = self.queued_bytes - before + after;
    }

    pub(super) fn take_head(&mut self, slot: u32, class: Class) -> Option<(usize, M)> {
        let index = self.peers[slot].lane(class).head;
        if index == NIL { None } else { self.take(slot, index) }
    }

    pub(super) fn take(&mut self, slot: u32, index: u32) -> Option<(usize, M)> {
        let peer = &mut self.peers[slot];
        let waiting = peer.waiting.as_mut()?;
        let node = self.items.node(index);
        let (bytes, class) = (node.bytes as usize, node.lane);
        if let Some(key) = node.key {
            waiting.keys.remove(&key);
        }
        waiting.bytes -= bytes;
        self.queued_bytes -= bytes;
        let message = self.items.remove(&mut waiting.lanes[class as usize], index)?;
        let empty = peer.waiting.take_if(|waiting| waiting.bytes == 0);
        self.spare.extend(empty.filter(|_| self.spare.len() < SPARE_MAX));
        Some((bytes, message))
    }
}
