//! When a frame arrives, if at all.

use alloc::string::String;
use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;
use core::time::Duration;

use super::NodeId;
use super::regions;
use crate::rng::{Rng, Seed, mix};
use crate::time::Instant;

/// How long frames take from node to node, before jitter and queues.
///
/// The latency of a pair follows from the seed and the two names alone; it is the same in both directions and never
/// changes. No table is kept, so a million nodes cost nothing.
///
/// ```
/// use suffuse::sim::LinkModel;
///
/// let model: LinkModel = "uniform:10-50".parse().unwrap();
/// assert_eq!(model, LinkModel::default());
/// assert_eq!("regions".parse(), Ok(LinkModel::Regions));
/// assert!("uniform:50-10".parse::<LinkModel>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LinkModel {
    /// One-way latencies spread evenly between two bounds. Text form: `uniform:10-50`, in milliseconds. Default 10 to
    /// 50 ms.
    Uniform {
        /// The least one-way latency; the only one if `max` is below it.
        min: Duration,
        /// The greatest one-way latency, itself possible.
        max: Duration,
    },
    /// The inhabited world in eight regions: a table of round-trip times between them, weights for how many nodes
    /// live where, a last mile of 1 to 15 ms per node, a spread of 15 % over the pairs of two regions, and for each
    /// frame a jitter of about 2 % with a long tail. Text form: `regions`. [`Network::region`] tells who lives where.
    Regions,
}

impl LinkModel {
    /// The names of the regions of [`LinkModel::Regions`].
    pub const REGION_NAMES: [&'static str; 8] = regions::NAMES;
}

impl Default for LinkModel {
    fn default() -> Self {
        Self::Uniform { min: Duration::from_millis(10), max: Duration::from_millis(50) }
    }
}

impl fmt::Display for LinkModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { min, max } => write!(f, "uniform:{}-{}", min.as_millis(), max.as_millis()),
            Self::Regions => f.write_str("regions"),
        }
    }
}

/// Why a text is no link model.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is no link model: {why}; write `uniform:10-50` (one-way milliseconds) or `regions`")]
pub struct LinkModelError {
    text: String,
    why: &'static str,
}

impl FromStr for LinkModel {
    type Err = LinkModelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why| LinkModelError { text: String::from(text), why };
        if text == "regions" {
            return Ok(Self::Regions);
        }
        let bounds = text.strip_prefix("uniform:").ok_or_else(|| refuse("the model is unknown"))?;
        let (min, max) =
            bounds.split_once('-').ok_or_else(|| refuse("the bounds need a `-` between them"))?;
        let millis = |text: &str| text.parse::<u32>().map_err(|_| refuse("a bound is no whole number"));
        let (min, max) = (millis(min)?, millis(max)?);
        if min > max {
            return Err(refuse("the least latency is above the greatest"));
        }
        Ok(Self::Uniform { min: Duration::from_millis(min.into()), max: Duration::from_millis(max.into()) })
    }
}

/// What the virtual network does to frames. The default is a clean network of 10 to 50 ms, without loss or limits.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Latencies between pairs. Default: uniform, 10 to 50 ms.
    pub links: LinkModel,
    /// Frames lost, each independently, in parts per million. Default 0; 10,000 is 1 %.
    pub loss_ppm: u32,
    /// Frames that arrive twice, in parts per million; the second comes up to `reorder_by` later. Default 0. Datagrams
    /// only.
    pub duplicate_ppm: u32,
    /// Frames held back, in parts per million. Default 0.
    pub reorder_ppm: u32,
    /// How long a frame is held back at most. Default 20 ms.
    pub reorder_by: Duration,
    /// The greatest random addition to each frame's latency, evenly spread. More than the gap between two frames
    /// also reorders them, unless the transport is reliable. Default 0.
    pub jitter: Duration,
    /// Upload of each node, in bits per second; frames leave one after another at this rate. `None`: unlimited, the
    /// default. [`World::set_upload`](super::World::set_upload) sets it for one node.
    pub upload_bits_per_s: Option<NonZeroU64>,
    /// How much may wait in front of a node's uplink, as time; what comes on top is dropped and counted. Default 1 s.
    pub uplink_queue: Duration,
    /// Bytes that the layers below add to each frame. Default 28: UDP over IPv4.
    pub frame_overhead_bytes: u32,
    /// Connections instead of datagrams: what is sent to a connected peer arrives, once and in order. Each loss
    /// delays the frame, and what follows it to the same peer, by the time of a retransmission. A frame that meets a dead
    /// node or a partition breaks its connection: nothing follows it until one end dials again. Default `false`.
    pub reliable: bool,
    /// After which time an attempt to connect to a node that does not answer has failed. Default 1 s. Reliable only.
    pub connect_timeout: Duration,
    /// After which time a connection that met a dead node or a partition is reported as lost to who sends on it.
    /// `None`, the default: never; protocols must find out by themselves. Reliable only.
    pub reset_after: Option<Duration>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            links: LinkModel::default(),
            loss_ppm: 0,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            reorder_by: Duration::from_millis(20),
            jitter: Duration::ZERO,
            upload_bits_per_s: None,
            uplink_queue: Duration::from_secs(1),
            frame_overhead_bytes: 28,
            reliable: false,
            connect_timeout: Duration::from_secs(1),
            reset_after: None,
        }
    }
}

/// The virtual network between the nodes: asks the configuration and the dice what happens to each frame.
///
/// [`World`](super::World) owns one; alone it serves other simulators.
///
/// ```
/// use suffuse::{Seed, sim::{Network, NetworkConfig}};
///
/// let mut network = Network::new(NetworkConfig::default(), Seed::from_u64(1));
/// assert_eq!(network.latency(3, 8), network.latency(8, 3));
/// assert_eq!(network.carry(3, 8).arrives, Some(network.latency(3, 8)));
/// ```
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    key: u64,
    rng: Rng,
}

/// What happens to one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// How long after its departure it arrives; `None` if it is lost.
    pub arrives: Option<Duration>,
    /// When a duplicate made by the network arrives.
    pub duplicate: Option<Duration>,
}

/// What happens to one frame on a reliable connection, if nothing is ahead of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReliablePassage {
    /// How long after its departure it arrives.
    pub arrives: Duration,
    /// How often it had to be sent again.
    pub retransmissions: u32,
}

impl Network {
    /// A network whose latencies and dice follow from `seed`.
    pub fn new(config: NetworkConfig, seed: Seed) -> Self {
        let mut rng = Rng::new(seed);
        let key = rng.next_u64();
        Self { config, key, rng }
    }

    /// The configuration.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The configuration, to change it while the world runs: a burst of loss, say. Frames under way are not affected;
    /// [`NetworkConfig::reliable`] must stay as it was.
    pub fn config_mut(&mut self) -> &mut NetworkConfig {
        &mut self.config
    }

    /// The one-way latency between two nodes, without jitter and queues; the same in both directions.
    pub fn latency(&self, a: NodeId, b: NodeId) -> Duration {
        Duration::from_micros(self.latency_us(a, b))
    }

    /// The region of `node` in [`LinkModel::Regions`], as an index into [`LinkModel::REGION_NAMES`].
    pub fn region(&self, node: NodeId) -> usize {
        regions::region_of(self.key, node)
    }

    /// Rolls the dice for one datagram.
    pub fn carry(&mut self, from: NodeId, to: NodeId) -> Passage {
        if self.chance_ppm(self.config.loss_ppm) {
            return Passage { arrives: None, duplicate: None };
        }
        let delay_us = self.delay_us(from, to);
        let duplicate = self.chance_ppm(self.config.duplicate_ppm).then(|| {
            let behind_us = self.rng.between(0, micros(self.config.reorder_by) + 1);
            Duration::from_micros(delay_us + behind_us)
        });
        Passage { arrives: Some(Duration::from_micros(delay_us)), duplicate }
    }

    /// Rolls the dice for one frame on a reliable connection.
    ///
    /// A loss costs a round trip and a quarter, at least 10 ms, and twice as much for each further loss of the same
    /// frame, as retransmission timers do.
    pub fn carry_reliably(&mut self, from: NodeId, to: NodeId) -> ReliablePassage {
        let mut timer_us = (self.latency_us(from, to) * 5 / 2).max(10_000);
        let (mut arrives_us, mut retransmissions) = (self.delay_us(from, to), 0);
        while retransmissions < RETRANSMISSIONS_MAX && self.chance_ppm(self.config.loss_ppm) {
            arrives_us += timer_us;
            timer_us *= 2;
            retransmissions += 1;
        }
        ReliablePassage { arrives: Duration::from_micros(arrives_us), retransmissions }
    }

    pub(super) fn latency_us(&self, a: NodeId, b: NodeId) -> u64 {
        let pair = mix(self.key ^ mix(a.min(b)) ^ mix(a.max(b)).rotate_left(32));
        match self.config.links {
            LinkModel::Uniform { min, max } => {
                let span = micros(max).saturating_sub(micros(min)) + 1;
                micros(min) + share(pair, span)
            }
            LinkModel::Regions => regions::latency_us(self.key, a, b, pair),
        }
    }

    pub(super) fn rtt_us(&self, a: NodeId, b: NodeId) -> u64 {
        self.latency_us(a, b) * 2
    }

    fn delay_us(&mut self, from: NodeId, to: NodeId) -> u64 {
        let mut delay_us = self.latency_us(from, to);
        if self.config.links == LinkModel::Regions {
            delay_us += regions::jitter_us(delay_us, self.rng.next_u64());
        }
        if self.config.jitter > Duration::ZERO {
            delay_us += self.rng.between(0, micros(self.config.jitter) + 1);
        }
        if self.chance_ppm(self.config.reorder_ppm) {
            delay_us += self.rng.between(0, micros(self.config.reorder_by) + 1);
        }
        delay_us
    }

    fn chance_ppm(&mut self, ppm: u32) -> bool {
        // No dice for what cannot happen: a clean network costs no random numbers.
        ppm > 0 && self.rng.chance((u64::from(ppm) << 32) / 1_000_000)
    }
}

/// With a loss of 100 % a reliable frame would never arrive, and time would run away.
const RETRANSMISSIONS_MAX: u32 = 12;

/// The queue in front of a node's uplink: frames leave one after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Uplink {
    /// In nanoseconds, so that rounding does not add up.
    free_at_ns: u64,
}

impl Uplink {
    /// When the last of `bytes` has left, or `None` if more than `queue` waits already.
    pub(super) fn send(
        &mut self,
        now: Instant,
        bytes: u64,
        bits_per_s: Option<NonZeroU64>,
        queue: Duration,
    ) -> Option<Instant> {
        let Some(bits_per_s) = bits_per_s else { return Some(now) };
        let now_ns = now.as_micros().saturating_mul(1_000);
        let free_at_ns = self.free_at_ns.max(now_ns);
        if u128::from(free_at_ns - now_ns) > queue.as_nanos() {
            return None;
        }
        let takes_ns = match bytes.checked_mul(8 * 1_000_000_000) {
            Some(bits_e9) => bits_e9 / bits_per_s,
            None => {
                let takes_ns = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(bits_per_s.get());
                u64::try_from(takes_ns).unwrap_or(u64::MAX)
            }
        };
        self.free_at_ns = free_at_ns.saturating_add(takes_ns);
        Some(Instant::from_micros(self.free_at_ns.div_ceil(1_000)))
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

/// A number below `span`, by the high bits of `hash`.
pub(super) fn share(hash: u64, span: u64) -> u64 {
    ((u128::from(hash) * u128::from(span)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn network(config: NetworkConfig) -> Network {
        Network::new(config, Seed::from_u64(5))
    }

    #[test]
    fn latencies_are_symmetric_fixed_and_fill_their_bounds() {
        let network = network(NetworkConfig::default());
        let (mut least, mut most) = (u64::MAX, 0);
        for a in 0..100 {
            for b in 0..a {
                let us = network.latency_us(a, b);
                assert_eq!(us, network.latency_us(b, a));
                assert!((10_000..=50_000).contains(&us));
                least = least.min(us);
                most = most.max(us);
            }
        }
        assert!(least < 10_200 && most > 49_800, "{least} {most}");
    }

    #[test]
    fn the_loss_rate_is_the_one_asked_for() {
        let mut network = network(NetworkConfig { loss_ppm: 10_000, ..NetworkConfig::default() });
        let lost = (0..1_000_000).filter(|_| network.carry(1, 2).arrives.is_none()).count();
        // Five standard deviations of a binomial distribution.
        assert!(lost.abs_diff(10_000) < 500, "{lost}");
    }

    #[test]
    fn held_back_and_doubled_frames_stay_within_their_bounds() {
        let mut network = network(NetworkConfig {
            duplicate_ppm: 500_000,
            reorder_ppm: 500_000,
            jitter: Duration::from_millis(3),
            ..NetworkConfig::default()
        });
        let base = network.latency(1, 2);
        let (mut doubled, mut held) = (0, 0);
        for _ in 0..10_000 {
            let passage = network.carry(1, 2);
            let arrives = passage.arrives.unwrap();
            assert!(arrives >= base && arrives <= base + Duration::from_millis(23));
            held += u32::from(arrives > base + Duration::from_millis(3));
            if let Some(second) = passage.duplicate {
                assert!(second >= arrives && second <= arrives + Duration::from_millis(20));
                doubled += 1;
            }
        }
        assert!((4_700..5_300).contains(&doubled), "{doubled}");
        assert!((4_000..5_000).contains(&held), "{held}");
    }

    #[test]
    fn serialisation_is_exact_and_rounding_does_not_add_up() {
        let mut uplink = Uplink::default();
        let rate = NonZeroU64::new(7_000_000);
        let start = Instant::from_secs(3);
        let mut left = start;
        for _ in 0..7_000 {
            left = uplink.send(start, 125, rate, Duration::MAX).unwrap();
        }
        // 7,000 times 1,000 bits at 7 Mbit/s; each alone takes 142.857 µs.
        assert!(left <= start + Duration::from_secs(1) && left >= start + Duration::from_micros(999_990));
        assert_eq!(uplink.send(start, 125, rate, Duration::from_millis(900)), None);
        let later = start + Duration::from_secs(9);
        let alone = uplink.send(later, 1_228, NonZeroU64::new(1_000_000), Duration::ZERO);
        assert_eq!(alone, Some(later + Duration::from_micros(9_824)));
        assert_eq!(uplink.send(start, 1_228, None, Duration::ZERO), Some(start));
    }

    #[test]
    fn reliable_frames_pay_for_losses_with_time() {
        let mut network = network(NetworkConfig { loss_ppm: 100_000, ..NetworkConfig::default() });
        let base = network.latency(1, 2);
        let mut again = 0;
        for _ in 0..10_000 {
            let passage = network.carry_reliably(1, 2);
            let extra = base.saturating_mul(5) / 2 * ((1 << passage.retransmissions) - 1);
            assert!(passage.arrives.abs_diff(base + extra) < Duration::from_micros(100));
            again += passage.retransmissions;
        }
        assert!((1_000..1_230).contains(&again), "{again}");
        network.config_mut().loss_ppm = 1_000_000;
        assert_eq!(network.carry_reliably(1, 2).retransmissions, RETRANSMISSIONS_MAX);
    }

    #[test]
    fn link_models_parse_and_refusals_say_why() {
        for text in ["uniform:0-0", "uniform:5-120", "regions"] {
            assert_eq!(text.parse::<LinkModel>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("mesh", "unknown"),
            ("uniform:10", "`-`"),
            ("uniform:a-10", "whole number"),
            ("uniform:20-10", "above"),
        ] {
            let error = text.parse::<LinkModel>().unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
