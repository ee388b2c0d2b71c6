//! How livestreams are opened and watched.

use core::time::Duration;

use crate::error::CommandError;
use crate::forest::{PlanMode, STREAM_RATE_MAX};
use crate::interest::Role;
use crate::wire::STRIPES_MAX;

/// How a livestream is opened by its source. Start from [`BroadcastOptions::new`] and change fields.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BroadcastOptions<P> {
    /// The rate of all tracks and layers together, in bytes of media a second. Room for headers and parity is added.
    /// From 100 to 10^10. Publishing more makes relays fall behind.
    pub rate_bytes_per_s: u64,
    /// What the source may spend on viewers, in bytes a second. It must carry the stream at least once, with what headers and
    /// parity add, at a use of 95 %. It should not exceed
    /// [`EgressConfig::upload_bytes_per_s`](crate::EgressConfig::upload_bytes_per_s).
    pub upload_bytes_per_s: u64,
    /// How many trees share the stream, 1 to 16. `None`, the default: what suits the rate and
    /// [`viewers_expected`](Self::viewers_expected).
    pub stripes: Option<u8>,
    /// Whether the source feeds everybody itself. Default: as long as it can, and the audience is small.
    pub mode: PlanMode,
    /// Up to this many viewers the source feeds everybody itself, if its upload allows. Default 50: beyond, a source that
    /// fails or stutters costs more than a hop.
    pub star_to_tree_threshold: usize,
    /// Viewers, at most: who comes on top is refused. From 1, and the number of stripes, to 2^24. Default 1,000,000.
    pub viewers_max: usize,
    /// How many viewers the choice of the number of stripes assumes. Default 1,000.
    pub viewers_expected: usize,
    /// The upload of viewers on average, in percent of the stream's rate, that the choice of the number of stripes assumes.
    /// Default 150. Parity counts against it. When it is tight, below 150, there are at least 8 stripes, and the source
    /// keeps a quarter of its upload for repair; when it is scarce, below 135, there are at least 12, the source keeps
    /// more, viewers give up to 95 % of their upload at once, and those who take more than they bring wait until others
    /// have come.
    pub capacity_expected_percent: u32,
    /// Parity: 125 sends a quarter more, so that a fifth of a frame may be lost. From 100, the default, to 300.
    pub redundancy_percent: u16,
    /// How long after its capture a frame is of use, from 50 ms to 60 s. Default 2 s. Longer leaves more time for repair;
    /// in order, it is also how long a lost frame may hold up the others.
    pub deadline: Duration,
    /// The source is asked for a keyframe at most once in this time, however many viewers want one. From 100 ms to
    /// 60 s. Default 1 s.
    pub keyframe_request_interval: Duration,
    /// How much of each track is kept for repair and late joiners, in bytes, from 4,096 to 2^32. Default 4 MiB. Less than
    /// what lies between two keyframes makes late joiners wait for the next.
    pub retained_bytes_max: usize,
    /// Whether there is a chat: a topic of the same swarm. Default: yes.
    pub chat: bool,
    /// Who decides who feeds whom; `None`, the default: the source itself.
    pub tracker: Option<P>,
}

/// How a livestream is watched. Start from [`WatchOptions::new`] and change fields.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct WatchOptions<P> {
    /// Who streams.
    pub source: P,
    /// Who is asked for a place; `None`, the default: the source.
    pub tracker: Option<P>,
    /// What this viewer may spend on others, in bytes a second, above 0. `None`, the default: it feeds nobody.
    pub upload_bytes_per_s: Option<u64>,
    /// Viewer, the default, or lurker: a lurker gets sound and the keyframes of the base layer.
    pub role: Role,
    /// In which order frames are delivered. Default: in order.
    pub order: DeliveryOrder,
    /// Which layers are wanted. Default: as many as arrive in time.
    pub quality: StreamQuality,
    /// How much of each track is kept for others, in bytes, from 4,096 to 2^32. Default 4 MiB. It must hold what waits for
    /// the deadline of a missing frame, too.
    pub retained_bytes_max: usize,
    /// Whether the viewer takes part in the chat. Default: yes.
    pub chat: bool,
}

/// In which order the frames of a track reach the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DeliveryOrder {
    /// As they were published. A missing frame holds up the later ones until it comes or its deadline passes.
    #[default]
    InOrder,
    /// As soon as they are complete.
    AsComplete,
}

/// Which layers a viewer wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StreamQuality {
    /// As many as arrive in time: a layer is given up when frames are late, and tried again later.
    #[default]
    Auto,
    /// The base and the layers up to this one, 0 to 7.
    UpTo(u8),
}

/// Where a livestream is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StreamState {
    /// Viewers may come; nothing is published yet.
    #[default]
    Initializing,
    /// Media flow.
    Active,
    /// Nothing is published for now; viewers may come and stay.
    Paused,
    /// Over, for good. Nobody is admitted any more.
    Ended,
}

impl<P> BroadcastOptions<P> {
    /// A stream of `rate_bytes_per_s` from a source that may send `upload_bytes_per_s`. Everything else has its default.
    pub fn new(rate_bytes_per_s: u64, upload_bytes_per_s: u64) -> Self {
        Self {
            rate_bytes_per_s,
            upload_bytes_per_s,
            stripes: None,
            mode: PlanMode::Auto,
            star_to_tree_threshold: 50,
            viewers_max: 1_000_000,
            viewers_expected: 1_000,
            capacity_expected_percent: 150,
            redundancy_percent: 100,
            deadline: Duration::from_secs(2),
            keyframe_request_interval: Duration::from_secs(1),
            retained_bytes_max: 4 << 20,
            chat: true,
            tracker: None,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), CommandError> {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        within("rate_bytes_per_s", self.rate_bytes_per_s, 100, STREAM_RATE_MAX)?;
        within("upload_bytes_per_s", self.upload_bytes_per_s, 1, u64::MAX)?;
        if let Some(stripes) = self.stripes {
            within("stripes", stripes.into(), 1, STRIPES_MAX.into())?;
            within("stripes", stripes.into(), 1, self.viewers_max as u64)?;
        }
        within("viewers_max", self.viewers_max as u64, 1, 1 << 24)?;
        within("redundancy_percent", self.redundancy_percent.into(), 100, 300)?;
        within("deadline", millis(self.deadline), 50, 60_000)?;
        within("keyframe_request_interval", millis(self.keyframe_request_interval), 100, 60_000)?;
        within("retained_bytes_max", self.retained_bytes_max as u64, 4_096, 1 << 32)
    }
}

impl<P> WatchOptions<P> {
    /// Watches what `source` streams, and feeds nobody.
    pub fn new(source: P) -> Self {
        Self {
            source,
            tracker: None,
            upload_bytes_per_s: None,
            role: Role::Viewer,
            order: DeliveryOrder::InOrder,
            quality: StreamQuality::Auto,
            retained_bytes_max: 4 << 20,
            chat: true,
        }
    }

    /// The same, spending this much upload on others, in bytes a second.
    #[must_use]
    pub fn upload(mut self, bytes_per_s: u64) -> Self {
        self.upload_bytes_per_s = Some(bytes_per_s);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), CommandError> {
        check_upload(self.upload_bytes_per_s)?;
        check_quality(self.quality)?;
        within("retained_bytes_max", self.retained_bytes_max as u64, 4_096, 1 << 32)
    }
}

/// Nothing is said by `None`; zero is more likely a mistake than a wish.
pub(crate) fn check_upload(upload_bytes_per_s: Option<u64>) -> Result<(), CommandError> {
    upload_bytes_per_s.map_or(Ok(()), |rate| within("upload_bytes_per_s", rate, 1, u64::MAX))
}

pub(crate) fn check_quality(quality: StreamQuality) -> Result<(), CommandError> {
    match quality {
        StreamQuality::UpTo(layer) if layer > 7 => Err(CommandError::Layer(layer)),
        _ => Ok(()),
    }
}

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), CommandError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(CommandError::OutOfRange { field, value, min, max })
    }
}

impl StreamState {
    pub(crate) fn from_wire(number: u8) -> Option<Self> {
        [Self::Initializing, Self::Active, Self::Paused, Self::Ended].get(usize::from(number)).copied()
    }

    /// Whether the source may go from this state to `next`.
    pub(crate) fn allows(self, next: Self) -> bool {
        use StreamState::{Active, Ended, Initializing, Paused};
        matches!(
            (self, next),
            (Initializing, Active | Ended) | (Active, Paused | Ended) | (Paused, Active | Ended)
        )
    }
}
