//! The items that wait: one slab for all peers, a linked lane per peer and class.

use alloc::vec::Vec;

use crate::io::Class;
use crate::time::Instant;

pub(super) const NIL: u32 = u32::MAX;

/// Places that an idle slab keeps.
const KEPT: usize = 4;

/// The items of one peer and class, first in, first out.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) head: u32,
    tail: u32,
    pub(super) bytes: usize,
}

impl Lane {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL, bytes: 0 };

    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }
}

/// A waiting item and its neighbours.
#[derive(Clone, Debug)]
pub(super) struct Node<M> {
    message: Option<M>,
    pub(super) bytes: u32,
    pub(super) lane: Class,
    pub(super) key: Option<u64>,
    /// `Instant::MAX` if it has none.
    pub(super) deadline: Instant,
    prev: u32,
    pub(super) next: u32,
}

impl<M> Node<M> {
    pub(super) fn new(
        message: M,
        bytes: u32,
        lane: Class,
        key: Option<u64>,
        deadline: Option<Instant>,
    ) -> Self {
        let deadline = deadline.unwrap_or(Instant::MAX);
        Self { message: Some(message), bytes, lane, key, deadline, prev: NIL, next: NIL }
    }
}

/// The slab. Lanes are linked through it because an item must be found by its key, replaced where it is, and taken
/// from the middle, all in constant time, and because an idle peer must cost two numbers a lane and no allocation.
#[derive(Clone, Debug)]
pub(super) struct Items<M> {
    nodes: Vec<Node<M>>,
    free: u32,
    live: usize,
    peak: usize,
}

impl<M> Items<M> {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), free: NIL, live: 0, peak: 0 }
    }

    pub(super) fn node(&self, index: u32) -> &Node<M> {
        &self.nodes[index as usize]
    }

    /// Appends to `lane`; returns where the item is from now on.
    pub(super) fn push(&mut self, lane: &mut Lane, mut node: Node<M>) -> u32 {
        let bytes = node.bytes as usize;
        node.prev = lane.tail;
        let index = if self.free == NIL {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        match lane.tail {
            NIL => lane.head = index,
            tail => self.nodes[tail as usize].next = index,
        }
        lane.tail = index;
        lane.bytes += bytes;
        self.live += 1;
        self.peak = self.peak.max(self.live);
        index
    }

    /// Takes an item out of `lane`, its lane.
    pub(super) fn remove(&mut self, lane: &mut Lane, index: u32) -> Option<M> {
        let node = &mut self.nodes[index as usize];
        let (prev, next) = (node.prev, node.next);
        let message = node.message.take();
        lane.bytes -= node.bytes as usize;
        node.next = self.free;
        self.free = index;
        match prev {
            NIL => lane.head = next,
            prev => self.nodes[prev as usize].next = next,
        }
        match next {
            NIL => lane.tail = prev,
            next => self.nodes[next as usize].prev = prev,
        }
        self.live -= 1;
        if self.live == 0 {
            self.rest();
        }
        message
    }

    /// Puts `fresh` in the place of the item at `index`.
    pub(super) fn replace(&mut self, lane: &mut Lane, index: u32, fresh: Node<M>) {
        let node = &mut self.nodes[index as usize];
        lane.bytes = lane.bytes - node.bytes as usize + fresh.bytes as usize;
        node.message = fresh.message;
        node.bytes = fresh.bytes;
        node.deadline = fresh.deadline;
    }

    /// Gives memory back when a rush is over, a half at a time and only if the last busy time needed less than a
    /// quarter: steady work does not allocate.
    fn rest(&mut self) {
        self.nodes.clear();
        self.free = NIL;
        let capacity = self.nodes.capacity();
        if capacity > KEPT && self.peak < capacity / 4 {
            self.nodes.shrink_to((capacity / 2).max(KEPT));
        }
        self.peak = 0;
    }
}
