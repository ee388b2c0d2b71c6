//! What the comparison asks of each contestant.

use bytes::Bytes;
use suffuse::Instant;
use suffuse::sim::{Birth, NodeId};

/// What a machine wants done.
pub enum Action {
    /// Send a frame.
    Send { to: NodeId, frame: Bytes },
    /// Connect to a peer; only from machines with [`Machine::DIALS`].
    Connect { peer: NodeId },
    /// Close the connection to a peer, behind everything that was sent to it.
    Close { peer: NodeId },
    /// Give a payload to the application.
    Deliver { payload: Bytes, hops: Hops },
}

/// How far a payload came.
pub enum Hops {
    /// Links crossed.
    Links(u32),
    /// As iroh-gossip tells it; translated outside of what is timed.
    Scope(iroh_gossip::proto::DeliveryScope),
}

/// One node of a contestant: its protocol, and its binary form.
///
/// Every call may push actions; all of it, decoding and encoding included, is its processor time.
pub trait Machine {
    /// Whether it asks for connections itself. For the others the seat dials whomever they send to.
    const DIALS: bool = false;
    /// Whether it was made for connections that lose nothing.
    const CONNECTIONS: bool;

    fn new(birth: Birth, contact: Option<NodeId>, nodes: u32, entropy: u64) -> Self;
    /// Begins to join; `now` is that of the birth.
    fn start(&mut self, now: Instant, actions: &mut Vec<Action>);
    fn received(&mut self, from: NodeId, frame: Bytes, now: Instant, actions: &mut Vec<Action>);
    fn connected(&mut self, _peer: NodeId, _now: Instant, _actions: &mut Vec<Action>) {}
    fn disconnected(&mut self, peer: NodeId, now: Instant, actions: &mut Vec<Action>);
    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>);
    fn deadline(&self) -> Option<Instant>;
    fn publish(&mut self, payload: Bytes, now: Instant, actions: &mut Vec<Action>);
    /// How many payloads are in a frame of its own.
    fn bodies(frame: &Bytes, payload_bytes: u64) -> u64;
}
