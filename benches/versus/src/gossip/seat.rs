//! What drives each contestant in the virtual network: the same dialling, counting and timing for all of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use cpu_time::ThreadTime;
use iroh_gossip::proto::DeliveryScope;
use suffuse::sim::{Birth, Host, NodeId};
use suffuse::{Class, Input, Instant, Output};

use super::machine::{Action, Hops, Machine};
use super::tally::Tally;
use crate::measure::Draws;

/// What all seats of a world share.
pub struct Field {
    pub tally: Tally,
    /// Processor time inside the machines, while `timing`.
    pub cpu: Duration,
    pub timing: bool,
    /// Payloads that arrived, repeated ones too.
    pub bodies: u64,
    reliable: bool,
    nodes: u32,
    seed: u64,
    payload_bytes: u64,
    /// What reading the clock costs.
    clock: Duration,
    outputs: VecDeque<Output<NodeId>>,
    actions: Vec<Action>,
}

impl Field {
    pub fn new(tally: Tally, reliable: bool, nodes: u32, seed: u64, payload_bytes: u64) -> Self {
        Self {
            tally,
            cpu: Duration::ZERO,
            timing: false,
            bodies: 0,
            reliable,
            nodes,
            seed,
            payload_bytes,
            clock: clock_cost(),
            outputs: VecDeque::new(),
            actions: Vec::new(),
        }
    }
}

/// The median of many readings.
fn clock_cost() -> Duration {
    let mut costs: Vec<_> = (0..1_001).map(|_| ThreadTime::now().elapsed()).collect();
    costs.sort();
    costs[costs.len() / 2]
}

/// A node: a machine, and the connections it needs.
pub struct Seat<M> {
    node: NodeId,
    /// In a box, so that its heap can be told from that of the simulator.
    machine: Option<Box<M>>,
    deadline: Option<Instant>,
    links: BTreeMap<NodeId, Link>,
    field: Rc<RefCell<Field>>,
}

enum Link {
    Dialling(Vec<Bytes>),
    Up,
}

impl<M: Machine> Seat<M> {
    /// A node that joins through node 0.
    pub fn new(birth: Birth, field: &Rc<RefCell<Field>>) -> Self {
        let (node, now) = (birth.node, birth.now);
        let (nodes, seed) = (field.borrow().nodes, field.borrow().seed);
        let entropy = Draws(seed.rotate_left(32) ^ node).below(usize::MAX) as u64;
        let machine = M::new(birth, (node != 0).then_some(0), nodes, entropy);
        let mut seat = Self {
            node,
            machine: Some(Box::new(machine)),
            deadline: None,
            links: BTreeMap::new(),
            field: field.clone(),
        };
        seat.call(|machine, actions| machine.start(now, actions));
        seat
    }

    pub fn publish(&mut self, payload: Bytes, now: Instant) {
        self.call(|machine, actions| machine.publish(payload, now, actions));
    }

    /// Takes the machine out, and with it its heap.
    pub fn take(&mut self) -> Option<Box<M>> {
        self.deadline = None;
        self.machine.take()
    }

    fn call(&mut self, work: impl FnOnce(&mut M, &mut Vec<Action>)) {
        let Some(machine) = &mut self.machine else { return };
        let field = &mut *self.field.borrow_mut();
        let mut actions = core::mem::take(&mut field.actions);
        if field.timing {
            let begin = ThreadTime::now();
            work(machine, &mut actions);
            self.deadline = machine.deadline();
            field.cpu += begin.elapsed().saturating_sub(field.clock);
        } else {
            work(machine, &mut actions);
            self.deadline = machine.deadline();
        }
        for action in actions.drain(..) {
            translate::<M>(&mut self.links, self.node, action, field);
        }
        field.actions = actions;
    }
}

fn translate<M: Machine>(
    links: &mut BTreeMap<NodeId, Link>,
    node: NodeId,
    action: Action,
    field: &mut Field,
) {
    let dials = field.reliable && !M::DIALS;
    match action {
        Action::Send { to, frame } if dials => match links.get_mut(&to) {
            Some(Link::Up) => field.outputs.push_back(Output::Send { to, frame, class: Class::Normal }),
            Some(Link::Dialling(waiting)) => waiting.push(frame),
            None => {
                links.insert(to, Link::Dialling(vec![frame]));
                field.outputs.push_back(Output::Connect { peer: to });
            }
        },
        Action::Send { to, frame } => {
            field.outputs.push_back(Output::Send { to, frame, class: Class::Normal });
        }
        Action::Connect { peer } => field.outputs.push_back(Output::Connect { peer }),
        Action::Close { peer } => {
            links.remove(&peer);
            if field.reliable {
                field.outputs.push_back(Output::Disconnect { peer });
            }
        }
        Action::Deliver { payload, hops } => {
            let hops = match hops {
                Hops::Links(links) => links,
                Hops::Scope(scope) => links_of(scope),
            };
            field.tally.deliver(node, &payload, hops);
        }
    }
}

/// The rounds of iroh-gossip begin at 0, and only its binary form tells them.
fn links_of(scope: DeliveryScope) -> u32 {
    let encoded = postcard::to_allocvec(&scope).unwrap_or_default();
    let round: Option<u16> = encoded.get(1..).and_then(|round| postcard::from_bytes(round).ok());
    round.map_or(0, |round| u32::from(round) + 1)
}

impl<M: Machine> Host<NodeId> for Seat<M> {
    fn handle_input(&mut self, input: Input<NodeId>, now: Instant) {
        self.field.borrow_mut().tally.now = now;
        match input {
            Input::Received { from, frame } => {
                // Nodes on different machines share no memory.
                let frame = Bytes::copy_from_slice(&frame);
                {
                    let mut field = self.field.borrow_mut();
                    field.bodies += M::bodies(&frame, field.payload_bytes);
                }
                self.call(|machine, actions| machine.received(from, frame, now, actions));
            }
            Input::PeerConnected { peer } => {
                if !M::DIALS
                    && let Some(Link::Dialling(waiting)) = self.links.insert(peer, Link::Up)
                {
                    let field = &mut *self.field.borrow_mut();
                    let sends = waiting.into_iter().map(|frame| {
                        let class = Class::Normal;
                        Output::Send { to: peer, frame, class }
                    });
                    field.outputs.extend(sends);
                }
                self.call(|machine, actions| machine.connected(peer, now, actions));
            }
            Input::PeerDisconnected { peer } => {
                self.links.remove(&peer);
                self.call(|machine, actions| machine.disconnected(peer, now, actions));
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.field.borrow_mut().tally.now = now;
        self.call(|machine, actions| machine.timeout(now, actions));
    }

    fn poll_output(&mut self) -> Option<Output<NodeId>> {
        self.field.borrow_mut().outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }
}
