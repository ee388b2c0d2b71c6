//! How the world carries frames: datagrams, and connections that keep order and lose nothing.

use core::time::Duration;

use bytes::Bytes;

use super::metrics::DropReason;
use super::network::micros;
use super::world::{Flight, Happening, Link, World, index_of};
use super::{Host, NodeId, Observer, SentFrame};
use crate::io::{Class, Input};
use crate::time::Instant;

impl<H: Host<NodeId>, O: Observer> World<H, O> {
    pub(super) fn send(&mut self, index: usize, to: NodeId, frame: Bytes, class: Class) {
        let (from, now) = (index as NodeId, self.now);
        let (frame, held) = match &mut self.nodes[index].fault {
            None => (frame, Duration::ZERO),
            Some(fault) => match fault.apply(now, from, to, frame.clone()) {
                Some(applied) => applied,
                None => return self.dropped(from, to, &frame, DropReason::Fault),
            },
        };
        let config = self.network.config();
        let (reliable, queue) = (config.reliable, config.uplink_queue);
        let wire_bytes = frame.len() as u64 + u64::from(config.frame_overhead_bytes);
        self.metrics.note_emitted(index, now, wire_bytes);
        self.observer.sent(now, &SentFrame { from, to, frame: &frame, class, wire_bytes });

        let node = &mut self.nodes[index];
        if reliable && node.links.get(&to).is_none_or(|link| link.broken) {
            return self.dropped(from, to, &frame, DropReason::NotConnected);
        }
        let Some(departed) = node.uplink.send(now, wire_bytes, node.upload_bits_per_s, queue) else {
            return self.dropped(from, to, &frame, DropReason::UplinkFull);
        };
        let departed = departed + held;
        let payload_bytes = self.body_bytes.map_or(0, |body_bytes| body_bytes(&frame));
        self.metrics.note_sent(index, class, wire_bytes, payload_bytes);

        if !self.reaches(from, to) {
            let known = index_of(to) < self.nodes.len();
            if reliable {
                self.break_link(from, to);
            }
            let reason = if known { DropReason::Partition } else { DropReason::Down };
            return self.dropped(from, to, &frame, reason);
        }
        if reliable {
            self.fly_reliably(index, to, frame, departed, payload_bytes, wire_bytes);
        } else {
            self.fly(index, to, frame, departed);
        }
    }

    fn fly(&mut self, index: usize, to: NodeId, frame: Bytes, departed: Instant) {
        let passage = self.network.carry(index as NodeId, to);
        let Some(after) = passage.arrives else {
            return self.dropped(index as NodeId, to, &frame, DropReason::Loss);
        };
        let life = self.nodes[index].life;
        let flight =
            |frame| Flight { frame, departed, from: index as u32, to: to as u32, life, connection: 0 };
        if let Some(later) = passage.duplicate {
            self.metrics.note_duplicated();
            self.queue.push(departed + after, Happening::Arrival(flight(frame.clone())));
            self.queue.push(departed + later, Happening::Arrival(flight(frame)));
        } else {
            self.queue.push(departed + after, Happening::Arrival(flight(frame)));
        }
    }

    fn fly_reliably(
        &mut self,
        index: usize,
        to: NodeId,
        frame: Bytes,
        departed: Instant,
        payload_bytes: u64,
        wire_bytes: u64,
    ) {
        let passage = self.network.carry_reliably(index as NodeId, to);
        let node = &mut self.nodes[index];
        for _ in 0..passage.retransmissions {
            self.metrics.note_retransmitted(index, wire_bytes, payload_bytes);
            // The copy takes its time on the uplink, whatever waits there.
            node.uplink.send(self.now, wire_bytes, node.upload_bits_per_s, Duration::MAX);
        }
        let Some(link) = node.links.get_mut(&to) else { return };
        link.last_arrival = link.last_arrival.max(departed + passage.arrives);
        let flight = Flight {
            frame,
            departed,
            from: index as u32,
            to: to as u32,
            life: node.life,
            connection: link.connection,
        };
        self.queue.push(link.last_arrival, Happening::Arrival(flight));
    }

    pub(super) fn arrive(&mut self, flight: Flight) {
        let Flight { frame, departed, life, connection, .. } = flight;
        let (from, to) = (NodeId::from(flight.from), NodeId::from(flight.to));
        // In a large world the sender is far from any cache: nobody looks at it without need.
        if self.crashed && self.died_before(flight.from, life, departed) {
            return self.dropped(from, to, &frame, DropReason::Unsent);
        }
        let receiver = &self.nodes[flight.to as usize];
        if receiver.host.is_none() {
            if connection != 0 {
                self.break_link(from, to);
            }
            return self.dropped(from, to, &frame, DropReason::Down);
        }
        if connection != 0 && receiver.links.get(&from).is_none_or(|link| link.connection != connection) {
            // The receiver knows nothing of this connection (any more), and says so.
            if self.reaches(to, from) {
                let after = Duration::from_micros(self.network.latency_us(from, to));
                let reset = Happening::Closed { node: flight.from, peer: flight.to, connection };
                self.queue.push(self.now + after, reset);
            }
            return self.dropped(from, to, &frame, DropReason::NotConnected);
        }
        self.trace.frame(self.now, from, to, &frame);
        self.metrics.note_arrived();
        self.observer.arrived(self.now, from, to, &frame);
        self.tell(flight.to as usize, Input::Received { from, frame });
    }

    pub(super) fn connect(&mut self, index: usize, to: NodeId) {
        if !self.network.config().reliable {
            self.answers.push(Input::PeerConnected { peer: to });
            return;
        }
        let from = index as u32;
        let life = self.nodes[index].life;
        if index_of(to) >= self.nodes.len() || to == index as NodeId {
            let at = self.now + self.network.config().connect_timeout;
            self.queue.push(at, Happening::DialFailed { from, to, life });
        } else {
            let rtt = Duration::from_micros(self.network.rtt_us(index as NodeId, to));
            let dialled = Happening::Dialled { from, to: to as u32, life, since: self.now };
            self.queue.push(self.now + rtt, dialled);
        }
    }

    /// A round trip after the dial: both ends learn of the connection now, or the dialler gives up later.
    pub(super) fn dialled(&mut self, from: u32, to: u32, life: u32, since: Instant) {
        let (dialler, target) = (NodeId::from(from), NodeId::from(to));
        if !self.lives(from, life) {
            return;
        }
        if self.nodes[to as usize].host.is_none() || !self.reaches(dialler, target) {
            let at = since + self.network.config().connect_timeout;
            self.queue.push(at.max(self.now), Happening::DialFailed { from, to: target, life });
            return;
        }
        let sound = |link: &&Link| !link.broken;
        let near = self.nodes[from as usize].links.get(&target).filter(sound).map(|link| link.connection);
        let far = self.nodes[to as usize].links.get(&dialler).filter(sound).map(|link| link.connection);
        if near.is_some() && near == far {
            // Both dialled at once, and the other dial was first: they have been told already.
            return;
        }
        self.connections += 1;
        for (node, peer) in [(from, target), (to, dialler)] {
            let link = Link { connection: self.connections, last_arrival: Instant::ZERO, broken: false };
            self.nodes[node as usize].links.insert(peer, link);
        }
        for (node, peer) in [(from, target), (to, dialler)] {
            self.tell(node as usize, Input::PeerConnected { peer });
        }
    }

    pub(super) fn dial_failed(&mut self, from: u32, to: NodeId, life: u32) {
        // The other end may have dialled successfully in the meantime.
        if self.lives(from, life) && !self.nodes[from as usize].links.contains_key(&to) {
            self.tell(from as usize, Input::PeerDisconnected { peer: to });
        }
    }

    pub(super) fn disconnect(&mut self, index: usize, peer: NodeId) {
        if let Some(link) = self.nodes[index].links.remove(&peer) {
            self.close_towards(index as u32, peer as u32, &link);
        }
    }

    /// Tells the peer that the connection is closed, after everything that was sent on it.
    pub(super) fn close_towards(&mut self, node: u32, peer: u32, link: &Link) {
        let (near, far) = (NodeId::from(node), NodeId::from(peer));
        if self.reaches(near, far) {
            let after = Duration::from_micros(self.network.latency_us(near, far));
            let at = link.last_arrival.max(self.now + after);
            let closed = Happening::Closed { node: peer, peer: node, connection: link.connection };
            self.queue.push(at, closed);
        }
    }

    pub(super) fn closed(&mut self, node: u32, peer: u32, connection: u32) {
        let peer = NodeId::from(peer);
        let links = &mut self.nodes[node as usize].links;
        if links.get(&peer).is_some_and(|link| link.connection == connection) {
            links.remove(&peer);
            self.tell(node as usize, Input::PeerDisconnected { peer });
        }
    }

    /// A frame was lost for good: nothing may follow it on this connection, and the sender learns of it, if at all,
    /// after the configured time.
    fn break_link(&mut self, from: NodeId, to: NodeId) {
        let Some(link) = self.nodes[from as usize].links.get_mut(&to).filter(|link| !link.broken) else {
            return;
        };
        link.broken = true;
        if let Some(after) = self.network.config().reset_after {
            let connection = link.connection;
            let closed = Happening::Closed { node: from as u32, peer: to as u32, connection };
            self.queue.push(self.now + Duration::from_micros(micros(after)), closed);
        }
    }

    fn tell(&mut self, index: usize, input: Input<NodeId>) {
        if let Some(host) = &mut self.nodes[index].host {
            host.handle_input(input, self.now);
            self.settle(index);
        }
    }

    fn dropped(&mut self, from: NodeId, to: NodeId, frame: &Bytes, reason: DropReason) {
        self.metrics.note_dropped(reason);
        self.observer.dropped(self.now, from, to, frame, reason);
    }

    /// Whether both exist and no partition is between them.
    fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let group = |node: NodeId| self.nodes.get(index_of(node)).map(|node| node.group);
        group(to).is_some() && group(from) == group(to)
    }

    /// Whether a life of a node ended, by a crash, before `departed`.
    fn died_before(&self, node: u32, life: u32, departed: Instant) -> bool {
        let node = &self.nodes[node as usize];
        (node.host.is_none() || node.life != life) && departed > node.died_at
    }

    fn lives(&self, node: u32, life: u32) -> bool {
        let node = &self.nodes[node as usize];
        node.life == life && node.host.is_some()
    }
}
