//! What goes wrong: single nodes that misbehave, and a schedule of incidents.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

use bytes::Bytes;

use super::{Host, NodeId, Observer, World};
use crate::id::SwarmTag;
use crate::time::Instant;
use crate::wire::{FrameReader, FrameWriter, GossipMessage, Message};

/// Looks at each frame that a node sends, with the time and the receiver, and returns what really goes out.
pub type FrameFilter = Box<dyn FnMut(Instant, NodeId, Bytes) -> Option<Bytes> + Send>;

/// How a node misbehaves. It receives and runs as ever; only what it sends is touched. See
/// [`World::set_fault`].
pub enum Fault {
    /// Sends nothing at all.
    Mute,
    /// Takes part in everything, but forwards no update of others: bodies of other origins are cut out of its frames
    /// (in this crate's wire format; other frames pass).
    Freeload,
    /// As `Freeload`, and forwards no news of others' updates either: their waves and announcements are cut out, too.
    Silent,
    /// Everything leaves that much later.
    Slow(Duration),
    /// Anything else: drop, corrupt or replace frames.
    Filter(FrameFilter),
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mute => f.write_str("Mute"),
            Self::Freeload => f.write_str("Freeload"),
            Self::Silent => f.write_str("Silent"),
            Self::Slow(by) => f.debug_tuple("Slow").field(by).finish(),
            Self::Filter(_) => f.write_str("Filter(..)"),
        }
    }
}

impl Fault {
    /// What becomes of a frame, and by how much it is delayed.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        from: NodeId,
        to: NodeId,
        frame: Bytes,
    ) -> Option<(Bytes, Duration)> {
        match self {
            Self::Mute => None,
            Self::Freeload => without(is_update, now, from, frame).map(|frame| (frame, Duration::ZERO)),
            Self::Silent => without(is_news, now, from, frame).map(|frame| (frame, Duration::ZERO)),
            Self::Slow(by) => Some((frame, *by)),
            Self::Filter(filter) => filter(now, to, frame).map(|frame| (frame, Duration::ZERO)),
        }
    }
}

/// One thing that goes wrong, or right again, at a time that a [`FaultSchedule`] gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incident {
    /// Nodes stop without a word.
    Crash(Vec<NodeId>),
    /// The network falls apart: the group of each node by its index; nodes beyond the list are in group 0.
    Partition(Vec<u8>),
    /// The network is whole again.
    Heal,
    /// From now on that many frames in a million are lost.
    Loss {
        /// Parts per million.
        ppm: u32,
    },
    /// Nodes fall silent ([`Fault::Mute`]).
    Mute(Vec<NodeId>),
    /// Nodes stop forwarding ([`Fault::Freeload`]).
    Freeload(Vec<NodeId>),
    /// Nodes become slow ([`Fault::Slow`]).
    Slow {
        /// Which.
        nodes: Vec<NodeId>,
        /// By how much.
        by: Duration,
    },
    /// Nodes behave again.
    Recover(Vec<NodeId>),
    /// A node's upload changes.
    Upload {
        /// Whose.
        node: NodeId,
        /// To what; `None` is unlimited.
        bits_per_s: Option<NonZeroU64>,
    },
}

/// Incidents in the order of time; those of one time in the order in which they were added.
///
/// ```
/// use suffuse::{Instant, sim::{FaultSchedule, Incident}};
///
/// let mut schedule = FaultSchedule::new();
/// schedule.add(Instant::from_secs(70), Incident::Heal);
/// schedule.add(Instant::from_secs(10), Incident::Partition(vec![0, 0, 1, 1]));
/// assert_eq!(schedule.next_at(), Some(Instant::from_secs(10)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultSchedule {
    incidents: Vec<(Instant, Incident)>,
    fired: usize,
}

impl FaultSchedule {
    /// A schedule without incidents.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an incident. One that lies before those that have fired already fires next.
    pub fn add(&mut self, at: Instant, incident: Incident) {
        let waiting = &self.incidents[self.fired..];
        let place = self.fired + waiting.partition_point(|&(other, _)| other <= at);
        self.incidents.insert(place, (at, incident));
    }

    /// When the next incident is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.incidents.get(self.fired).map(|&(at, _)| at)
    }

    /// How many incidents have happened.
    pub fn fired(&self) -> usize {
        self.fired
    }

    /// How many are still to come. A test whose faults never happened proves nothing: check that it is zero.
    pub fn waiting(&self) -> usize {
        self.incidents.len() - self.fired
    }

    fn next_until(&mut self, until: Instant) -> Option<(Instant, Incident)> {
        let next = self.incidents.get(self.fired).filter(|&&(at, _)| at <= until)?;
        self.fired += 1;
        Some(next.clone())
    }
}

impl<H: Host<NodeId>, O: Observer> World<H, O> {
    /// Runs until `until`, with the incidents of `schedule` that are due by then.
    pub fn run_with_faults(&mut self, schedule: &mut FaultSchedule, until: Instant) {
        while let Some((at, incident)) = schedule.next_until(until) {
            self.run_until(at);
            self.apply(incident);
        }
        self.run_until(until);
    }

    /// Lets one incident happen now.
    pub fn apply(&mut self, incident: Incident) {
        match incident {
            Incident::Crash(nodes) => nodes.into_iter().for_each(|node| self.crash(node)),
            Incident::Partition(groups) => {
                self.partition(|node| groups.get(node as usize).copied().unwrap_or(0));
            }
            Incident::Heal => self.heal(),
            Incident::Loss { ppm } => self.network_mut().config_mut().loss_ppm = ppm,
            Incident::Mute(nodes) => {
                nodes.into_iter().for_each(|node| self.set_fault(node, Some(Fault::Mute)))
            }
            Incident::Freeload(nodes) => {
                nodes.into_iter().for_each(|node| self.set_fault(node, Some(Fault::Freeload)));
            }
            Incident::Slow { nodes, by } => {
                nodes.into_iter().for_each(|node| self.set_fault(node, Some(Fault::Slow(by))));
            }
            Incident::Recover(nodes) => nodes.into_iter().for_each(|node| self.set_fault(node, None)),
            Incident::Upload { node, bits_per_s } => self.set_upload(node, bits_per_s),
        }
    }
}

/// Cuts out what is `foreign`; `None` if nothing else was in the frame.
fn without(
    foreign: impl Fn(&GossipMessage<NodeId>, NodeId) -> bool,
    now: Instant,
    own: NodeId,
    frame: Bytes,
) -> Option<Bytes> {
    let Ok(mut reader) = FrameReader::new(&frame, now) else { return Some(frame) };
    let mut rest = FrameWriter::new(frame.len());
    let mut cut = false;
    while let Some(next) = reader.next::<NodeId>() {
        let Ok((swarm, message)) = next else { return Some(frame) };
        match &message {
            Message::Gossip(gossip) if foreign(gossip, own) => cut = true,
            _ => rest.push(swarm.unwrap_or(SwarmTag(0)), &message, now),
        }
    }
    match (cut, rest.is_empty()) {
        (false, _) => Some(frame),
        (true, true) => None,
        (true, false) => Some(rest.finish()),
    }
}

/// An update of somebody else.
fn is_update(message: &GossipMessage<NodeId>, own: NodeId) -> bool {
    match message {
        GossipMessage::Data(data) | GossipMessage::Manifest(data) => data.origin != own,
        GossipMessage::Chunk(chunk) => chunk.update.origin != own,
        _ => false,
    }
}

/// An update of somebody else, or word of one.
fn is_news(message: &GossipMessage<NodeId>, own: NodeId) -> bool {
    match message {
        GossipMessage::Wave(wave) => wave.origin != own,
        GossipMessage::Have { sources } => sources.iter().any(|source| source.origin != own),
        GossipMessage::ChunkOffer(offer) => offer.update.origin != own,
        _ => is_update(message, own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, Priority, StateId, SwarmId};
    use crate::wire::{Data, LinkMessage};

    fn data(origin: NodeId) -> Message<NodeId> {
        Message::Gossip(GossipMessage::Data(Data {
            origin,
            epoch: Epoch(1),
            sequence: 4,
            state: StateId(2),
            priority: Priority::High,
            keyframe: true,
            layer: 3,
            hops: 5,
            pulled: false,
            flood: false,
            signature: Bytes::new(),
            born: Instant::from_millis(700),
            body: Bytes::from_static(b"body"),
        }))
    }

    fn frame(messages: &[Message<NodeId>]) -> Bytes {
        let mut writer = FrameWriter::new(100);
        for message in messages {
            writer.push(SwarmId(1).tag(), message, Instant::from_secs(1));
        }
        writer.finish()
    }

    #[test]
    fn freeloaders_send_everything_but_the_updates_of_others() {
        let now = Instant::from_secs(1);
        let ping = Message::Link(LinkMessage::Ping { token: 1 });
        let mixed = frame(&[data(7), ping.clone(), data(8)]);
        assert_eq!(without(is_update, now, 7, mixed), Some(frame(&[data(7), ping])));
        assert_eq!(without(is_update, now, 7, frame(&[data(8)])), None);
        assert_eq!(without(is_update, now, 8, frame(&[data(8)])), Some(frame(&[data(8)])));
        let foreign = Bytes::from_static(b"another protocol");
        assert_eq!(without(is_news, now, 7, foreign.clone()), Some(foreign));
    }

    #[test]
    fn incidents_come_in_the_order_of_time() {
        let mut schedule = FaultSchedule::new();
        schedule.add(Instant::from_secs(2), Incident::Heal);
        schedule.add(Instant::from_secs(1), Incident::Loss { ppm: 1 });
        schedule.add(Instant::from_secs(1), Incident::Loss { ppm: 2 });
        let first = schedule.next_until(Instant::from_secs(1));
        assert_eq!(first, Some((Instant::from_secs(1), Incident::Loss { ppm: 1 })));
        assert_eq!(
            schedule.next_until(Instant::from_secs(1)).map(|next| next.1),
            Some(Incident::Loss { ppm: 2 })
        );
        assert_eq!(schedule.next_until(Instant::from_secs(1)), None);
        assert_eq!((schedule.fired(), schedule.waiting()), (2, 1));
    }
}
