//! The scene in which livestreams are measured: one source, viewers with unequal uploads, a warm-up, then a span in which
//! viewers come, go and crash while every chunk is timed.

mod figures;
mod memory;
mod report;
mod run;
mod tally;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

pub use report::{JoinMs, LivestreamReport, OnTime, OutageMs, StripesBack, UploadUse};

use super::NetworkConfig;
use super::scene::Probe;
use crate::config::Config;
use crate::{DeliveryOrder, PlanMode};
use run::Run;

/// What the viewers may upload.
///
/// ```
/// use suffuse::sim::Uploads;
///
/// assert_eq!("hetero".parse(), Ok(Uploads::Hetero { base_bytes_per_s: None }));
/// assert_eq!("uniform:3000".parse(), Ok(Uploads::Uniform { bytes_per_s: 375_000 }));
/// assert!("uniform:fast".parse::<Uploads>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uploads {
    /// Everybody the same. Text form: `uniform:3000`, in kbit/s.
    Uniform {
        /// That much.
        bytes_per_s: u64,
    },
    /// 25 % of the viewers have 0.5 times the base, 50 % 1.2 times, 20 % 3 times and 5 % 10 times. Text form: `hetero`,
    /// or `hetero:2500` with the base in kbit/s.
    Hetero {
        /// The base; without one, [`LivestreamScene::rate_bytes_per_s`].
        base_bytes_per_s: Option<u64>,
    },
}

/// Up to which percentile of the viewers, how many thousandths of the base.
const HETERO: [(u64, u64); 4] = [(25, 500), (75, 1_200), (95, 3_000), (100, 10_000)];

/// Bytes a second in 1 kbit/s.
const KBIT: u64 = 125;

impl fmt::Display for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { bytes_per_s } => write!(f, "uniform:{}", bytes_per_s / KBIT),
            Self::Hetero { base_bytes_per_s: Some(base) } => write!(f, "hetero:{}", base / KBIT),
            Self::Hetero { base_bytes_per_s: None } => f.write_str("hetero"),
        }
    }
}

/// Why a text says nothing about uploads.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} names no uploads: {why}; write `uniform:3000`, `hetero` or `hetero:2500` (kbit/s)")]
pub struct UploadsError {
    text: String,
    why: &'static str,
}

impl FromStr for Uploads {
    type Err = UploadsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why| UploadsError { text: String::from(text), why };
        let (kind, rate) = text.split_once(':').map_or((text, None), |(kind, rate)| (kind, Some(rate)));
        let rate = rate.map(|rate| match rate.parse::<u64>() {
            Ok(kbps) if (100..=100_000_000).contains(&kbps) => Ok(kbps * KBIT),
            _ => Err(refuse("the rate is no whole number from 100 to 100,000,000")),
        });
        match (kind, rate.transpose()?) {
            ("uniform", Some(bytes_per_s)) => Ok(Self::Uniform { bytes_per_s }),
            ("uniform", None) => Err(refuse("the rate is missing")),
            ("hetero", base_bytes_per_s) => Ok(Self::Hetero { base_bytes_per_s }),
            _ => Err(refuse("the kind is unknown")),
        }
    }
}

/// What is to be simulated. Start from [`LivestreamScene::new`] and change fields.
///
/// The source is node 0 and opens the stream at time zero. Viewers come evenly within 5 s. After 5 s more the measured
/// span begins, in which viewers may come and go; it ends with the last frame. Then what is under way gets 3 s to arrive.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct LivestreamScene {
    /// Viewers, at least 1.
    pub viewers: u32,
    /// The media rate, all layers together. Default 2.5 Mbit/s.
    pub rate_bytes_per_s: u64,
    /// Frames a second of every layer. Default 30.
    pub fps: u32,
    /// Time between keyframes, if nobody asks for one earlier. Default 2 s.
    pub keyframe_interval: Duration,
    /// The size of a keyframe, in percent of another frame. Default 300.
    pub keyframe_percent: u32,
    /// Layers, from 1 to 8. The lowest of several takes 40 % of the rate, the others share the rest. Default 1.
    pub layers: u8,
    /// What the viewers may upload; the source has 10 times the base, or 10 times `rate_bytes_per_s` if all viewers have
    /// the same. Default: unequal.
    pub uploads: Uploads,
    /// The media rate as a share of [`LivestreamScene::fluid_bound`], in parts per million. `rate_bytes_per_s` is then
    /// only the base for the uploads. Default `None`.
    pub utilization_ppm: Option<u32>,
    /// The network. Default: 10 to 50 ms, datagrams, 1 % loss. The uplinks are those of `uploads`.
    pub network: NetworkConfig,
    /// The mean time that a viewer stays before it crashes (half of them) or leaves, and within a second another with the
    /// same upload comes in its place, in the measured span. Default `None`: nobody goes.
    pub churn: Option<Duration>,
    /// The share of the viewers, in parts per million, that crash at once in the middle of the span. Default 0.
    pub crash_ppm: u32,
    /// Viewers that come on top, evenly within 10 s from the beginning of the span. Default 0.
    pub flash: u32,
    /// How much is sent, in percent, to survive losses without asking. Default 100: no more than the media.
    pub redundancy_percent: u16,
    /// Trees that share the stream. Default `None`: by formula.
    pub stripes: Option<u8>,
    /// How long is measured. Default 30 s.
    pub measured: Duration,
    /// After which time from capture a frame is given up. Default 2 s.
    pub deadline: Duration,
    /// The form of the plan. Default: whatever suits.
    pub mode: PlanMode,
    /// In which order viewers get frames. Default: as they are complete.
    pub order: DeliveryOrder,
    /// The configuration of every node, but for uploads and links. Default [`Config::large`].
    pub config: Config,
    /// Everything random comes from here. Default 1.
    pub seed: u64,
}

impl LivestreamScene {
    /// 30 s of 2.5 Mbit/s at 30 frames a second, to viewers with unequal uploads, with 1 % loss.
    pub fn new(viewers: u32) -> Self {
        Self {
            viewers,
            rate_bytes_per_s: 2_500 * KBIT,
            fps: 30,
            keyframe_interval: Duration::from_secs(2),
            keyframe_percent: 300,
            layers: 1,
            uploads: Uploads::Hetero { base_bytes_per_s: None },
            utilization_ppm: None,
            network: NetworkConfig { loss_ppm: 10_000, ..NetworkConfig::default() },
            churn: None,
            crash_ppm: 0,
            flash: 0,
            redundancy_percent: 100,
            stripes: None,
            measured: Duration::from_secs(30),
            deadline: Duration::from_secs(2),
            mode: PlanMode::Auto,
            order: DeliveryOrder::AsComplete,
            config: Config::large(),
            seed: 1,
        }
    }

    /// Runs the scene. `probe` measures what a simulation cannot know.
    pub fn run(&self, probe: &mut dyn Probe) -> LivestreamReport {
        Run::new(self, probe).play()
    }

    /// What the source may upload, in bytes a second.
    pub fn source_upload(&self) -> u64 {
        10 * self.base()
    }

    /// What each of `viewers` viewers may upload, in bytes a second, the least first. The scene deals them out by chance.
    pub fn viewer_uploads(&self, viewers: u32) -> Vec<u64> {
        let of = |place: u64| match self.uploads {
            Uploads::Uniform { bytes_per_s } => bytes_per_s,
            Uploads::Hetero { .. } => {
                let percentile = place * 100 / u64::from(viewers);
                let class = HETERO.iter().find(|&&(end, _)| percentile < end);
                self.base() * class.map_or(1_000, |&(_, thousandths)| thousandths) / 1_000
            }
        };
        (0..u64::from(viewers)).map(of).collect()
    }

    /// The greatest rate at which these uploads can carry any stream to all viewers, in bytes a second: what the source
    /// can send, or what all together can send, shared by all viewers (Kumar, Liu and Ross).
    pub fn fluid_bound(&self) -> u64 {
        let source = self.source_upload();
        let all = source + self.viewer_uploads(self.viewers).iter().sum::<u64>();
        source.min(all / u64::from(self.viewers.max(1)))
    }

    /// The media rate of the stream, in bytes a second.
    pub fn stream_bytes_per_s(&self) -> u64 {
        match self.utilization_ppm {
            None => self.rate_bytes_per_s,
            Some(ppm) => (u128::from(self.fluid_bound()) * u128::from(ppm) / 1_000_000) as u64,
        }
    }

    /// What viewers may upload on average, in percent of the stream's rate.
    pub fn capacity_percent(&self) -> u32 {
        let uploads: u64 = self.viewer_uploads(self.viewers).iter().sum();
        let percent =
            uploads.saturating_mul(100) / (self.stream_bytes_per_s() * u64::from(self.viewers)).max(1);
        u32::try_from(percent).unwrap_or(u32::MAX)
    }

    /// The bytes of a frame of `layer`. They follow from the number of the frame alone, and spread by a tenth around
    /// what gives the rate.
    pub fn frame_bytes(&self, layer: u8, frame: u64, keyframe: bool) -> usize {
        let rate = u128::from(self.layer_bytes_per_s(layer));
        let (group, percent) = (u128::from(self.group_frames()), u128::from(self.keyframe_percent));
        let mine = if keyframe { percent } else { 100 };
        let group_percent = (group - 1) * 100 + percent;
        let spread = 900_000 + crate::rng::mix(self.seed ^ frame << 8 ^ u64::from(layer)) % 200_001;
        let bytes = rate * group * mine * u128::from(spread);
        (bytes / (u128::from(self.fps.max(1)) * group_percent * 1_000_000)).max(16) as usize
    }

    /// Frames from one keyframe to the next.
    fn group_frames(&self) -> u64 {
        let frames = self.keyframe_interval.as_micros() * u128::from(self.fps);
        (((frames + 500_000) / 1_000_000) as u64).max(1)
    }

    fn layer_bytes_per_s(&self, layer: u8) -> u64 {
        let rate = self.stream_bytes_per_s();
        match (self.layers, layer) {
            (0 | 1, _) => rate,
            (_, 0) => rate * 2 / 5,
            (layers, _) => rate * 3 / 5 / u64::from(layers - 1),
        }
    }

    fn base(&self) -> u64 {
        match self.uploads {
            Uploads::Hetero { base_bytes_per_s: Some(base) } => base,
            _ => self.rate_bytes_per_s,
        }
    }

    /// What a node's egress is set to, so that no second holds more than the declared upload: the bucket lets out what it
    /// has saved on top of its rate.
    fn paced(&self, upload_bytes_per_s: u64) -> u64 {
        let frame = self.config.frame_bytes_max as u64 + u64::from(self.network.frame_overhead_bytes);
        (upload_bytes_per_s.saturating_sub(frame) * 995 / 1_000).max(1_000)
    }
}
