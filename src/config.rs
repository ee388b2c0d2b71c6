//! Everything that can be set, with its meaning, unit, range, default, and why.

mod defence;
mod shared;

use core::time::Duration;

use crate::error::ConfigError;
use crate::id::Epoch;

pub use defence::{BudgetConfig, ScoreConfig};
pub(crate) use shared::{SharedGossip, SharedMembership};

/// The configuration of an [`Engine`](crate::Engine).
///
/// Start from a preset and change what you must:
///
/// ```
/// let mut config = suffuse::Config::medium();
/// config.frame_bytes_max = 1_400;
/// config.egress.upload_bytes_per_s = Some(2_500_000);
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Config {
    /// Which life of this peer it is. A host that restarts must give a greater one than before, or its first
    /// updates are taken for repetitions: a boot counter, or the wall clock in seconds. Default 0.
    pub epoch: Epoch,
    /// The greatest frame, in bytes: what the host's transport carries in one piece. From 256 to 1,048,576; default
    /// 1,200, which crosses almost any path in one UDP datagram (QUIC, RFC 9000, section 14).
    pub frame_bytes_max: usize,
    /// Swarms joined at once, at most. From 1 to 65,536; default 64.
    pub swarms_max: usize,
    /// Events that wait for the host, at most; beyond it the oldest are lost and [`Event::EventsLost`]
    /// says how many. From 16 to 16,777,216; default 65,536.
    ///
    /// [`Event::EventsLost`]: crate::Event::EventsLost
    pub events_max: usize,
    /// Links to other peers.
    pub link: LinkConfig,
    /// What leaves the node.
    pub egress: EgressConfig,
    /// Who is a neighbour of whom.
    pub membership: MembershipConfig,
    /// How updates spread.
    pub gossip: GossipConfig,
    /// What one neighbour may ask and say within one topic.
    pub budget: BudgetConfig,
    /// Points for misconduct, and their effects.
    pub score: ScoreConfig,
    /// Groups: signs of life, the roster, messages for some.
    pub group: GroupConfig,
}

/// Links: liveness, dialling, and how much a peer may send.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct LinkConfig {
    /// Links at once, at most. When full, the link without a neighbour that was silent longest is closed; if every link
    /// has one, the newcomer is. While the host has twice as many connects and disconnects to drain, no link is made.
    /// From 2 to 1,048,576; default 1,024.
    pub links_max: usize,
    /// How long a neighbour that promises no signs of life may be silent before it is pinged. From 50 ms to 1 h;
    /// default 1.1 s, which with `silence_min` finds a dead neighbour after 2 s in the median.
    pub ping_after: Duration,
    /// How long a neighbour that misses to give a promised sign of life must leave pings without an answer to count as
    /// lost; the time adapts to the measured round-trip time between this and `silence_max`. Thirteen sixteenths of it are
    /// enough if others get no answer either, and it is `silence_max` if one does. From 50 ms to 1 h; default 1.65 s: a host
    /// may sleep for 1.4 s.
    pub suspicion_min: Duration,
    /// The least silence after which a neighbour counts as lost; the timeout adapts to the measured round-trip time
    /// between this and `silence_max`. From 100 ms to 1 h; default 2.55 s: a host may sleep for 1.4 s after it was pinged.
    pub silence_min: Duration,
    /// The greatest such silence. From `silence_min` to 1 h; default 5 s.
    pub silence_max: Duration,
    /// How long the host may take to connect. From 10 ms to 1 h; default 5 s.
    pub connect_timeout: Duration,
    /// How long a link that no swarm needs stays open. From 0 to 1 h; default 3 s.
    pub linger: Duration,
    /// Frames a second that one peer may send; with `inbound_burst` times as many at once. What exceeds it is
    /// dropped before it is decoded, and counted. From 1 to 10,000,000; default 5,000.
    pub inbound_frames_per_s: u32,
    /// Bytes a second that one peer may send, likewise. From 1,000 to 10^12; default 12,500,000 (100 Mbit/s).
    pub inbound_bytes_per_s: u64,
    /// Seconds' worth of the two rates above that may come at once. From 1 to 60; default 2.
    pub inbound_burst: u32,
}

/// The egress: budgets, queues, fairness.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct EgressConfig {
    /// Bytes a second to all peers together; `None` does not limit. From 1,000 to 10^12; default `None`.
    pub upload_bytes_per_s: Option<u64>,
    /// Bytes a second to one peer; `None` does not limit. From 1,000 to 10^12; default `None`.
    pub peer_bytes_per_s: Option<u64>,
    /// How much of the budgets may be saved up, as time. At least one frame can always be saved. From 0 to 10 s;
    /// default 5 ms: a pacer, not a reservoir.
    pub burst: Duration,
    /// Bytes that transport and network add to each frame; counted against the budgets. From 0 to 1,024;
    /// default 28 (UDP over IPv4).
    pub frame_overhead_bytes: usize,
    /// Bytes that may wait for one peer. When full, waiting items of a lower class make room, oldest first; if there
    /// are none, the new item is dropped. From 4,096 to 2^32; default 262,144.
    pub peer_queue_bytes_max: usize,
    /// Bytes that may wait in all. From 4,096 to 2^40; default 16,777,216.
    pub queue_bytes_max: usize,
    /// Backpressure from the host: bytes that may be handed out for a peer before the host returns credit with
    /// [`Input::SendCredit`](crate::Input::SendCredit). `None`: the host takes everything. From 1 to 2^40; default
    /// `None`.
    pub credit_bytes: Option<u64>,
    /// The share of a busy upload that background items get at least, in percent. From 0 to 50; default 5.
    pub background_percent: u8,
}

/// Membership: HyParView's views, hardened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct MembershipConfig {
    /// Neighbours to have. From 2 to 32; default 8, which keeps 99.6 % of a large swarm in one piece when half of it
    /// dies at once (5 keeps 95 %).
    pub active_target: usize,
    /// Neighbours at most: the target and a reserve for peers that have nobody else. From `active_target` to 64;
    /// default 10.
    pub active_max: usize,
    /// Entries of the passive view. From 4 to 1,024; default 48: at 90 % loss, 0.6 % of the nodes hold no live spare.
    pub passive_max: usize,
    /// Steps of a joiner's walks. From 1 to 64; default 10: about what a random walk on 10,000 nodes of degree 8
    /// needs to forget where it began.
    pub walk_hops: u8,
    /// Steps of a shuffle. From 1 to 64; default 4.
    pub shuffle_hops: u8,
    /// Time between signs of life, each to another neighbour: of eight, one notices within this time that a node is dead, and
    /// asks the others at once. From 50 ms to 25.5 s divided by `active_max`, as no sign can promise the next one to the same
    /// neighbour for later than that; or `None` to have the neighbours ping each other. Default 300 ms.
    pub beat_interval: Option<Duration>,
    /// Entries in a shuffle. From 1 to 64; default 8.
    pub shuffle_entries: usize,
    /// Time between shuffles, spread by a quarter. From 100 ms to 1 h; default 15 s.
    pub shuffle_interval: Duration,
    /// How long the answer to a request may take before it is repeated, and after three times given up. From 10 ms
    /// to 1 min; default 500 ms.
    pub reply_timeout: Duration,
    /// Time between attempts to fill a free slot. From 10 ms to 1 min; default 250 ms.
    pub refill_interval: Duration,
    /// Time between probes of peers that were lost, so that partitions heal with no help. From 100 ms to 1 h;
    /// default 2 s, with backoff to 16 times that.
    pub probe_interval: Duration,
    /// Lost peers and contacts to remember for that. From 0 to 1,024; default 16.
    pub remembered_max: usize,
    /// Time between attempts to swap the link to the farthest neighbour for a shorter one, while they succeed; later they
    /// are up to 64 times as rare. From 100 ms to 1 h, or `None` to leave the overlay as it grew; default 1 s.
    pub swap_interval: Option<Duration>,
    /// Links that are never swapped, whatever their delay, so that the overlay stays in one piece. From 0 to 32;
    /// default 2.
    pub lasting_links: usize,
    /// Neighbours whose addresses share a prefix ([`Input::PeerAddress`](crate::Input::PeerAddress)), at most, so that
    /// nobody surrounds a node from one network. From 1 to 64; default 2. Peers of which no address is told do not count.
    pub prefix_max: usize,
    /// How long a peer that has come and gone twice, each time within a minute, is not taken as a neighbour; each time more
    /// doubles it, up to 64 times, and a minute's stay ends it. From 100 ms to 10 min, or `None` to take it at once; default 5 s.
    pub flap_pause: Option<Duration>,
}

/// Gossip: eager and lazy push, pull, anti-entropy.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct GossipConfig {
    /// How bodies travel. Default [`GossipMode::Hybrid`].
    pub mode: GossipMode,
    /// Neighbours that get the bodies of a new source at once; the others get announcements. The tree is pruned from
    /// there. From 1 to 64; default 4.
    pub initial_fanout: usize,
    /// Eager feeders to keep, in percent: 100 is a tree, 200 every update twice, 120 a second feeder for one update in
    /// five. From 100 to 300; default 100.
    pub redundancy_percent: u16,
    /// The share of the updates that must come by push, in thousandths, or `None` to keep `redundancy_percent` whatever
    /// happens. Where more come late, on request, the node takes half a feeder more every two seconds, and gives it back once
    /// none does. From 500 to 1,000; default `None`; 999 in [`Config::alerts`].
    pub adaptive_threshold_permille: Option<u16>,
    /// Up to where that may raise the redundancy, in percent. From `redundancy_percent` to 300; default 300.
    pub redundancy_max_percent: u16,
    /// Whether urgent updates go over every link and not along trees: the fastest way and the surest, at as many copies as a
    /// node has neighbours but one. All members should have the same. Default no; yes in [`Config::alerts`].
    pub flood_urgent: bool,
    /// Whether an urgent update that asks for it ([`PublishOptions::flood`](crate::PublishOptions::flood)) goes over every link, too.
    /// All members should have the same; who does not allow it passes such updates on along trees, and publishes none. Default
    /// yes.
    pub flood_on_request: bool,
    /// The time between announcements, each to another neighbour, of all that it was not told yet; with more than eight
    /// neighbours it is as much shorter. From 0 to 10 s; default 300 ms.
    pub have_interval: Duration,
    /// The least time between news of a missing update and asking for it. From 0 to 10 s; default 10 ms. The real
    /// one grows with the measured lateness.
    pub want_delay_min: Duration,
    /// Time between reconciliations with one random neighbour: the least, right after one that found a difference.
    /// From 10 ms to 1 h; default 500 ms.
    pub sync_interval_min: Duration,
    /// The greatest, after some that found none. From `sync_interval_min` to 1 h; default 4 s.
    pub sync_interval_max: Duration,
    /// Updates asked for and not here yet, at most. From 1 to 65,536; default 256.
    pub wants_outstanding_max: usize,
    /// Sources (origin and epoch) tracked, at most. When full, the source that was quiet longest goes if it is beyond
    /// the age limit; if none is, the newcomer's updates are refused and counted. From 1 to 1,048,576; default 4,096.
    pub sources_max: usize,
    /// How far the newest update of a source may be ahead of the oldest missing one, in updates. Beyond it the oldest
    /// missing are given up, and the application is told. From 64 to 1,048,576; default 65,536 (8 KiB of bits).
    pub window_max: usize,
    /// Updates older than this are refused, and their source is forgotten after twice as long. From 1 s to 24 h; default
    /// 10 min. A state kept by `Retention::Latest` does not age.
    pub age_max: Duration,
    /// Updates with more bytes than this, or than fit a frame, travel in chunks. From 1,024 to 2^20; default 4,096: below, chunks
    /// cost more messages than they save time.
    pub chunk_above_bytes: usize,
    /// The length of these chunks, if they fit a frame. From 64 to 16,384; default 16,384.
    pub chunk_bytes_max: usize,
    /// The greatest update, published or received, as far as 131,072 chunks reach. What is larger is refused here and told as
    /// lagged there. From 1,024 to 2^30; default 16 MiB.
    pub update_bytes_max: usize,
    /// Large updates put together at once, at most. When full, one of which nothing has come for 5 s makes room; if there is
    /// none, the newcomer is not taken for now and counted. From 1 to 65,536; default 64.
    pub assemblies_max: usize,
    /// The same of one origin. From 1 to 65,536; default 16.
    pub assemblies_per_origin_max: usize,
    /// The same of one neighbour that brings them, and of all strangers together. From 1 to 65,536; default 48, so that no neighbour
    /// can keep out what the others bring.
    pub assemblies_per_peer_max: usize,
    /// Bytes of chunks of updates that are not whole yet, at most; then, of those that the neighbour has brought that fills most of
    /// it, the update of which nothing has come for longest is given up, and the application is told. Whole ones that retention does not keep may take as much for 10 s. From 1,024 to 2^40;
    /// default 64 MiB.
    pub assembly_bytes_max: usize,
    /// Bytes of chunks claimed from one neighbour in a second, at most: stay below what
    /// [`LinkConfig::inbound_bytes_per_s`] and [`LinkConfig::inbound_frames_per_s`] let in. From 1,000 to 10^12; default
    /// 3,000,000, which is half of these limits with frames of 1,200 bytes.
    pub chunk_claim_bytes_per_s: u64,
}

/// Groups: failure detection, the roster, messages for some.
///
/// A participant that crashes is gone everywhere after `silence`, `suspicion` and one beat, and what news take.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct GroupConfig {
    /// Time between two signs of life to each neighbour. From 50 ms to 10 s; default 400 ms.
    pub beat_interval: Duration,
    /// The silence after which a neighbour is suspected. From twice `beat_interval` to 1 min; default 1.4 s: three signs of
    /// life in a row must be lost.
    pub silence: Duration,
    /// How long a suspect has to answer before it is gone. Everybody should have the same. From 100 ms to 1 min; default
    /// 1 s, in which news cross the largest group there and back.
    pub suspicion: Duration,
    /// Records in a roster, those of participants that are gone included, at most. When full, the one gone longest makes
    /// room; if all are in, the newcomer is not known here. From 2 to 1,048,576; default 8,192.
    pub records_max: usize,
    /// Peers that moderators have thrown out or banned, at most; beyond it the command is refused. From 1 to 65,536;
    /// default 1,024.
    pub verdicts_max: usize,
    /// How long records of participants that are gone are kept, and messages of lives thrown out refused. From 1 s to 24 h;
    /// default 10 min.
    pub gone_age: Duration,
    /// Own messages for some that are not acknowledged yet, at most; beyond it the command is refused. From 1 to 65,536;
    /// default 1,024.
    pub messages_waiting_max: usize,
    /// Bytes of these messages, at most. From 1,024 to 2^30; default 1 MiB.
    pub messages_waiting_bytes_max: usize,
    /// Messages to everybody that wait for earlier ones of their sender, at most; beyond it the missing ones are given up and
    /// the application is told. From 1 to 65,536; default 1,024.
    pub order_waiting_max: usize,
}

/// How bodies travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum GossipMode {
    /// Eager push on every link that wants it, no announcements; losses are mended by anti-entropy alone.
    Push,
    /// Announcements on every link; bodies only on request. The fewest copies, at three times the latency.
    Pull,
    /// Eager push along a tree, announcements elsewhere, pull where the tree fails.
    #[default]
    Hybrid,
}

impl Config {
    /// Fewer than 50 peers: everybody may be everybody's neighbour.
    pub fn small() -> Self {
        let mut config = Self::medium();
        config.membership.active_target = 6;
        config.membership.active_max = 8;
        config.membership.passive_max = 24;
        config.membership.walk_hops = 4;
        config.gossip.initial_fanout = 6;
        config.gossip.have_interval = Duration::from_millis(100);
        config
    }

    /// From 50 to 500 peers, and right for most: the default.
    pub fn medium() -> Self {
        Self {
            epoch: Epoch(0),
            frame_bytes_max: 1_200,
            swarms_max: 64,
            events_max: 65_536,
            link: LinkConfig::default(),
            egress: EgressConfig::default(),
            membership: MembershipConfig::default(),
            gossip: GossipConfig::default(),
            budget: BudgetConfig::default(),
            score: ScoreConfig::default(),
            group: GroupConfig::default(),
        }
    }

    /// More than 500 peers.
    pub fn large() -> Self {
        let mut config = Self::medium();
        config.membership.walk_hops = 12;
        config.gossip.sync_interval_max = Duration::from_secs(8);
        config
    }

    /// More than 100,000 peers.
    pub fn huge() -> Self {
        let mut config = Self::large();
        config.membership.active_target = 12;
        config.membership.active_max = 14;
        config.membership.passive_max = 64;
        config.membership.walk_hops = 16;
        config.gossip.sources_max = 16_384;
        config
    }

    /// Few messages that everybody must have at once: each comes twice, where that is not enough three times, and urgent ones
    /// over every link. For more than 500 peers; with less, `membership` and `gossip.initial_fanout` are better taken from
    /// [`Self::medium`].
    ///
    /// It suits the move from a network that floods, too: begin with `redundancy_percent` at 300 and lower it while
    /// [`GossipStats::pulled`](crate::GossipStats::pulled) stays small.
    pub fn alerts() -> Self {
        let mut config = Self::large();
        config.gossip.redundancy_percent = 200;
        config.gossip.adaptive_threshold_permille = Some(999);
        config.gossip.flood_urgent = true;
        config.gossip.have_interval = Duration::from_millis(100);
        config
    }

    /// Checks every field; [`Engine::new`](crate::Engine::new) does it too.
    ///
    /// # Errors
    /// The first field outside its range, with the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        within("frame_bytes_max", self.frame_bytes_max as u64, 256, 1 << 20)?;
        within("swarms_max", self.swarms_max as u64, 1, 65_536)?;
        within("events_max", self.events_max as u64, 16, 1 << 24)?;
        self.link.validate()?;
        self.egress.validate()?;
        self.membership.validate()?;
        self.gossip.validate()?;
        self.budget.validate()?;
        self.score.validate()?;
        self.group.validate()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::medium()
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            links_max: 1_024,
            ping_after: Duration::from_millis(1_100),
            suspicion_min: Duration::from_millis(1_650),
            silence_min: Duration::from_millis(2_550),
            silence_max: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(3),
            inbound_frames_per_s: 5_000,
            inbound_bytes_per_s: 12_500_000,
            inbound_burst: 2,
        }
    }
}

impl LinkConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("link.links_max", self.links_max as u64, 2, 1 << 20)?;
        span("link.ping_after", self.ping_after, Duration::from_millis(50), HOUR)?;
        span("link.suspicion_min", self.suspicion_min, Duration::from_millis(50), HOUR)?;
        span("link.silence_min", self.silence_min, Duration::from_millis(100), HOUR)?;
        span("link.silence_max", self.silence_max, Duration::from_millis(100), HOUR)?;
        ordered("link.ping_after", self.ping_after, "link.silence_min", self.silence_min)?;
        ordered("link.silence_min", self.silence_min, "link.silence_max", self.silence_max)?;
        span("link.connect_timeout", self.connect_timeout, Duration::from_millis(10), HOUR)?;
        span("link.linger", self.linger, Duration::ZERO, HOUR)?;
        within("link.inbound_frames_per_s", u64::from(self.inbound_frames_per_s), 1, 10_000_000)?;
        within("link.inbound_bytes_per_s", self.inbound_bytes_per_s, 1_000, RATE_MAX)?;
        within("link.inbound_burst", u64::from(self.inbound_burst), 1, 60)
    }
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            upload_bytes_per_s: None,
            peer_bytes_per_s: None,
            burst: Duration::from_millis(5),
            frame_overhead_bytes: 28,
            peer_queue_bytes_max: 262_144,
            queue_bytes_max: 16_777_216,
            credit_bytes: None,
            background_percent: 5,
        }
    }
}

impl EgressConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field outside its range, with the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if let Some(rate) = self.upload_bytes_per_s {
            within("egress.upload_bytes_per_s", rate, 1_000, RATE_MAX)?;
        }
        if let Some(rate) = self.peer_bytes_per_s {
            within("egress.peer_bytes_per_s", rate, 1_000, RATE_MAX)?;
        }
        span("egress.burst", self.burst, Duration::ZERO, Duration::from_secs(10))?;
        within("egress.frame_overhead_bytes", self.frame_overhead_bytes as u64, 0, 1_024)?;
        within("egress.peer_queue_bytes_max", self.peer_queue_bytes_max as u64, 4_096, 1 << 32)?;
        within("egress.queue_bytes_max", self.queue_bytes_max as u64, 4_096, 1 << 40)?;
        if let Some(credit) = self.credit_bytes {
            within("egress.credit_bytes", credit, 1, 1 << 40)?;
        }
        within("egress.background_percent", u64::from(self.background_percent), 0, 50)
    }
}

impl Default for MembershipConfig {
    fn default() -> Self {
        Self {
            active_target: 8,
            active_max: 10,
            passive_max: 48,
            walk_hops: 10,
            shuffle_hops: 4,
            shuffle_entries: 8,
            shuffle_interval: Duration::from_secs(15),
            reply_timeout: Duration::from_millis(500),
            refill_interval: Duration::from_millis(250),
            probe_interval: Duration::from_secs(2),
            remembered_max: 16,
            beat_interval: Some(Duration::from_millis(300)),
            swap_interval: Some(Duration::from_secs(1)),
            lasting_links: 2,
            prefix_max: 2,
            flap_pause: Some(Duration::from_secs(5)),
        }
    }
}

impl MembershipConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field outside its range, with the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let minute = Duration::from_secs(60);
        let ten_ms = Duration::from_millis(10);
        within("membership.active_target", self.active_target as u64, 2, 32)?;
        within("membership.active_max", self.active_max as u64, self.active_target as u64, 64)?;
        within("membership.passive_max", self.passive_max as u64, 4, 1_024)?;
        within("membership.walk_hops", u64::from(self.walk_hops), 1, 64)?;
        within("membership.shuffle_hops", u64::from(self.shuffle_hops), 1, 64)?;
        within("membership.shuffle_entries", self.shuffle_entries as u64, 1, 64)?;
        span("membership.shuffle_interval", self.shuffle_interval, Duration::from_millis(100), HOUR)?;
        span("membership.reply_timeout", self.reply_timeout, ten_ms, minute)?;
        span("membership.refill_interval", self.refill_interval, ten_ms, minute)?;
        span("membership.probe_interval", self.probe_interval, Duration::from_millis(100), HOUR)?;
        within("membership.remembered_max", self.remembered_max as u64, 0, 1_024)?;
        if let Some(interval) = self.beat_interval {
            let most = crate::wire::BEAT_MAX / self.active_max as u32;
            span("membership.beat_interval", interval, Duration::from_millis(50), most)?;
        }
        if let Some(interval) = self.swap_interval {
            span("membership.swap_interval", interval, Duration::from_millis(100), HOUR)?;
        }
        within("membership.lasting_links", self.lasting_links as u64, 0, 32)?;
        if let Some(pause) = self.flap_pause {
            span("membership.flap_pause", pause, Duration::from_millis(100), minute * 10)?;
        }
        within("membership.prefix_max", self.prefix_max as u64, 1, 64)
    }
}

impl Default for GossipConfig {
    fn default() -> Self {
        Self {
            mode: GossipMode::Hybrid,
            initial_fanout: 4,
            redundancy_percent: 100,
            adaptive_threshold_permille: None,
            redundancy_max_percent: 300,
            flood_urgent: false,
            flood_on_request: true,
            have_interval: Duration::from_millis(300),
            want_delay_min: Duration::from_millis(10),
            sync_interval_min: Duration::from_millis(500),
            sync_interval_max: Duration::from_secs(4),
            wants_outstanding_max: 256,
            sources_max: 4_096,
            window_max: 65_536,
            age_max: Duration::from_secs(600),
            chunk_above_bytes: 4_096,
            chunk_bytes_max: 16 << 10,
            update_bytes_max: 16 << 20,
            assemblies_max: 64,
            assemblies_per_origin_max: 16,
            assemblies_per_peer_max: 48,
            assembly_bytes_max: 64 << 20,
            chunk_claim_bytes_per_s: 3_000_000,
        }
    }
}

impl GossipConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field outside its range, with the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ten_s = Duration::from_secs(10);
        let ten_ms = Duration::from_millis(10);
        within("gossip.initial_fanout", self.initial_fanout as u64, 1, 64)?;
        within("gossip.redundancy_percent", u64::from(self.redundancy_percent), 100, 300)?;
        if let Some(threshold) = self.adaptive_threshold_permille {
            within("gossip.adaptive_threshold_permille", u64::from(threshold), 500, 1_000)?;
        }
        let (least, most) = (u64::from(self.redundancy_percent), u64::from(self.redundancy_max_percent));
        within("gossip.redundancy_max_percent", most, least, 300)?;
        span("gossip.have_interval", self.have_interval, Duration::ZERO, ten_s)?;
        span("gossip.want_delay_min", self.want_delay_min, Duration::ZERO, ten_s)?;
        span("gossip.sync_interval_min", self.sync_interval_min, ten_ms, HOUR)?;
        span("gossip.sync_interval_max", self.sync_interval_max, ten_ms, HOUR)?;
        ordered(
            "gossip.sync_interval_min",
            self.sync_interval_min,
            "gossip.sync_interval_max",
            self.sync_interval_max,
        )?;
        within("gossip.wants_outstanding_max", self.wants_outstanding_max as u64, 1, 65_536)?;
        within("gossip.sources_max", self.sources_max as u64, 1, 1 << 20)?;
        within("gossip.window_max", self.window_max as u64, 64, 1 << 20)?;
        span("gossip.age_max", self.age_max, Duration::from_secs(1), HOUR * 24)?;
        within("gossip.chunk_above_bytes", self.chunk_above_bytes as u64, 1_024, 1 << 20)?;
        within("gossip.chunk_bytes_max", self.chunk_bytes_max as u64, 64, 16 << 10)?;
        within("gossip.update_bytes_max", self.update_bytes_max as u64, 1_024, 1 << 30)?;
        within("gossip.assemblies_max", self.assemblies_max as u64, 1, 65_536)?;
        within("gossip.assemblies_per_origin_max", self.assemblies_per_origin_max as u64, 1, 65_536)?;
        within("gossip.assemblies_per_peer_max", self.assemblies_per_peer_max as u64, 1, 65_536)?;
        within("gossip.assembly_bytes_max", self.assembly_bytes_max as u64, 1_024, 1 << 40)?;
        within("gossip.chunk_claim_bytes_per_s", self.chunk_claim_bytes_per_s, 1_000, RATE_MAX)
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_millis(400),
            silence: Duration::from_millis(1_400),
            suspicion: Duration::from_secs(1),
            records_max: 8_192,
            verdicts_max: 1_024,
            gone_age: Duration::from_secs(600),
            messages_waiting_max: 1_024,
            messages_waiting_bytes_max: 1 << 20,
            order_waiting_max: 1_024,
        }
    }
}

impl GroupConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let minute = Duration::from_secs(60);
        span("group.beat_interval", self.beat_interval, Duration::from_millis(50), Duration::from_secs(10))?;
        span("group.silence", self.silence, self.beat_interval * 2, minute)?;
        span("group.suspicion", self.suspicion, Duration::from_millis(100), minute)?;
        within("group.records_max", self.records_max as u64, 2, 1 << 20)?;
        within("group.verdicts_max", self.verdicts_max as u64, 1, 65_536)?;
        span("group.gone_age", self.gone_age, Duration::from_secs(1), HOUR * 24)?;
        within("group.messages_waiting_max", self.messages_waiting_max as u64, 1, 65_536)?;
        let bytes = self.messages_waiting_bytes_max as u64;
        within("group.messages_waiting_bytes_max", bytes, 1_024, 1 << 30)?;
        within("group.order_waiting_max", self.order_waiting_max as u64, 1, 65_536)
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
const RATE_MAX: u64 = 1_000_000_000_000;

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::OutOfRange { field, value, min, max })
    }
}

fn span(field: &'static str, value: Duration, min: Duration, max: Duration) -> Result<(), ConfigError> {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    within(field, micros(value), micros(min), micros(max))
}

fn ordered(
    lesser: &'static str,
    low: Duration,
    greater: &'static str,
    high: Duration,
) -> Result<(), ConfigError> {
    if low <= high { Ok(()) } else { Err(ConfigError::Order { lesser, greater }) }
}

#[cfg(test)]
mod tests;
