//! One peer floods its neighbours, in the scene of a topic.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::{Run, TOPIC, TopicScene};
use crate::id::{Epoch, Priority, StateId};
use crate::io::Class;
use crate::log::RangeSet;
use crate::rng::Rng;
use crate::sim::NodeId;
use crate::time::Instant;
use crate::wire::{Data, FrameWriter, GossipMessage, LinkMessage, Message, SourceRanges};

/// The peer that floods.
const FLOODER: NodeId = 1;

/// How often it sends a batch.
const BEAT: Duration = Duration::from_millis(5);

/// What a flood brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FloodReport {
    /// Neighbours that were flooded.
    pub victims: u64,
    /// Frames sent to them.
    pub frames: u64,
    /// Frames that they dropped because the flooder was over its budget.
    pub frames_over_budget: u64,
    /// Frames that they did not look at because they refused the flooder.
    pub frames_refused: u64,
    /// Messages that they dropped because the flooder was over its budget in the topic.
    pub messages_over_budget: u64,
    /// Victims that refused the flooder before the end.
    pub refusals: u64,
    /// The most sources that a node other than the flooder tracked; `GossipConfig::sources_max` is the cap.
    pub sources_peak: u64,
    /// The most bytes that waited in the egress of such a node; `EgressConfig::queue_bytes_max` is the cap.
    pub queued_bytes_peak: u64,
    /// The most links of such a node; `LinkConfig::links_max` is the cap.
    pub links_peak: u64,
}

/// The flood under way.
#[derive(Debug)]
pub(super) struct Flood {
    victims: Vec<NodeId>,
    rng: Rng,
    per_beat: u32,
    next: Instant,
    report: FloodReport,
}

impl Run<'_> {
    /// Begins the flood, if there is to be one.
    pub(super) fn begin_flood(&mut self) {
        let Some(times) = self.scene.flood else { return };
        let victims = self.world.host(FLOODER).map(|host| host.neighbors(TOPIC)).unwrap_or_default();
        // Its own uplink shall not hold it back.
        self.world.set_upload(FLOODER, None);
        self.world.observer_mut().exempt.insert(FLOODER);
        let per_s = u64::from(self.scene.config.link.inbound_frames_per_s) * u64::from(times);
        self.flood = Some(Flood {
            report: FloodReport { victims: victims.len() as u64, ..FloodReport::default() },
            victims,
            rng: Rng::new(crate::rng::Seed::from_u64(self.scene.seed ^ 0x0066_6c6f_6f64)),
            per_beat: u32::try_from(per_s * BEAT.as_millis() as u64 / 1_000).unwrap_or(u32::MAX),
            next: self.world.now(),
        });
    }

    /// When the flooder wants to be looked after.
    pub(super) fn next_beat(&self) -> Option<Instant> {
        self.flood.as_ref().map(|flood| flood.next)
    }

    /// Sends what is due, and measures.
    pub(super) fn beat(&mut self) {
        let now = self.world.now();
        let Some(mut flood) = self.flood.take_if(|flood| flood.next <= now) else { return };
        flood.next = now + BEAT;
        for &victim in &flood.victims {
            for number in 0..flood.per_beat {
                let frame = frame(self.scene, number % 5, &mut flood.rng, now);
                self.world.send(FLOODER as usize, victim, frame, Class::Normal);
            }
            flood.report.frames += u64::from(flood.per_beat);
            let Some(host) = self.world.host(victim) else { continue };
            let topic = host.topic_stats(TOPIC).unwrap_or_default();
            let report = &mut flood.report;
            report.sources_peak = report.sources_peak.max(topic.sources as u64);
            report.queued_bytes_peak = report.queued_bytes_peak.max(host.queued_bytes() as u64);
            report.links_peak = report.links_peak.max(host.link_count() as u64);
        }
        self.flood = Some(flood);
    }

    /// Ends the flood, and adds up what the nodes counted.
    pub(super) fn end_flood(&mut self) -> Option<FloodReport> {
        let flood = self.flood.take()?;
        let mut report = flood.report;
        for (node, host) in self.world.hosts().filter(|&(node, _)| node != FLOODER) {
            let (stats, topic) = (host.stats(), host.topic_stats(TOPIC).unwrap_or_default());
            report.frames_over_budget += stats.frames_over_budget;
            report.frames_refused += stats.refused_contacts;
            report.messages_over_budget += topic.gossip.over_budget;
            report.refusals += u64::from(flood.victims.contains(&node) && stats.peers_refused > 0);
            report.sources_peak = report.sources_peak.max(topic.sources as u64);
        }
        Some(report)
    }
}

/// A frame of one of five kinds: a request for everything, announcements of made-up sources, an update of one, a ping, noise.
fn frame(scene: &TopicScene, kind: u32, rng: &mut Rng, now: Instant) -> Bytes {
    let mut writer = FrameWriter::new(scene.config.frame_bytes_max);
    let epoch = Epoch(0);
    let mut made_up = || (1 << 40) + rng.next_u64() % (1 << 40);
    let message = match kind {
        0 => {
            let sources = alloc::vec![SourceRanges { origin: 0, epoch, ranges: RangeSet::from(0..1_000) }];
            Message::Gossip(GossipMessage::Want { graft: false, sources })
        }
        1 => {
            let sources = (0..20)
                .map(|_| SourceRanges { origin: made_up(), epoch, ranges: RangeSet::from(0..1_000) })
                .collect();
            Message::Gossip(GossipMessage::Have { sources })
        }
        2 => Message::Gossip(GossipMessage::Data(Data {
            origin: made_up(),
            epoch,
            sequence: 0,
            state: StateId(0),
            priority: Priority::Urgent,
            keyframe: false,
            layer: 0,
            hops: 0,
            pulled: false,
            flood: false,
            born: now,
            body: Bytes::from_static(&[0; 64]),
            signature: Bytes::new(),
        })),
        3 => Message::Link(LinkMessage::Ping { token: 7 }),
        _ => return (0..64).map(|_| rng.next_u64() as u8).collect(),
    };
    writer.push(TOPIC.tag(), &message, now);
    writer.finish()
}
