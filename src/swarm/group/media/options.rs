//! How media of a group are published and received.

use core::time::Duration;

use bytes::Bytes;

use crate::authority::CHUNK_HASH_BYTES;
use crate::error::CommandError;
use crate::forest::STREAM_RATE_MAX;
use crate::time::Instant;

/// What media a group has. Start from [`MediaOptions::new`] and change fields; all participants should have the same but for
/// [`upload_bytes_per_s`](Self::upload_bytes_per_s).
///
/// Rates are those of the payloads; room for headers is added. Publishing more than that makes relays fall behind.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MediaOptions {
    /// What this participant may spend on media, its own and that of others, in bytes a second. From 1,000. It should not exceed
    /// [`EgressConfig::upload_bytes_per_s`](crate::EgressConfig::upload_bytes_per_s).
    pub upload_bytes_per_s: u64,
    /// The rate of [`MediaTrack::Audio`] while somebody speaks, from 100. Default 4,000: 32 kbit/s.
    pub audio_bytes_per_s: u64,
    /// The rate of [`MediaTrack::Thumbnail`], from 100. Default 3,750: 30 kbit/s.
    pub thumbnail_bytes_per_s: u64,
    /// The rate of all layers of [`MediaTrack::Video`], from 100. Default 146,250: with the thumbnail 1.2 Mbit/s.
    pub video_bytes_per_s: u64,
    /// The rate of all layers of [`MediaTrack::Screen`], from 100. Default 125,000: 1 Mbit/s.
    pub screen_bytes_per_s: u64,
    /// Who feeds whom. Default: what suits the group.
    pub topology: MediaTopology,
    /// How many others are received in full, from 1 to 16: those whom the application pinned, then those who speak or spoke
    /// last. Default 3.
    pub full_max: usize,
    /// How many others are received as thumbnails, up to 64: those who spoke last. Of the rest only the sound is received.
    /// Default 9.
    pub thumbnails_max: usize,
    /// Up to so many participants, at most 256, everybody receives everybody's sound at any time. Beyond, that of those who are
    /// heard or shown: whoever begins to speak is heard a round trip later. Default 64.
    pub listeners_max: usize,
    /// How long after its capture a frame is of use, from 50 ms to 10 s. Default 500 ms.
    pub deadline: Duration,
}

/// Who feeds whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MediaTopology {
    /// Each participant feeds all others itself where its upload allows, else they relay for each other.
    #[default]
    Auto,
    /// Each participant feeds all others itself, whatever its upload.
    Mesh,
    /// No participant reserves upload to feed all others itself: they relay for each other wherever that is shorter.
    Relay,
}

/// One of the tracks of a participant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MediaTrack {
    /// Its voice.
    Audio,
    /// A small picture of it.
    Thumbnail,
    /// The large picture. It must do without the thumbnail: with more than eight participants, whoever receives the one does not
    /// receive the other.
    Video,
    /// The screen, of the participant that shows it.
    Screen,
}

/// How a media frame is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MediaFrameOptions {
    /// Whether it stands alone, without the frames before it. Late comers begin with one.
    pub keyframe: bool,
    /// The quality layer of [`MediaTrack::Video`] and [`MediaTrack::Screen`], from 0 to 7.
    pub layer: u8,
    /// When it was captured, if not just now.
    pub captured: Option<Instant>,
}

/// A media frame of a participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMedia<P> {
    /// Whose.
    pub from: P,
    /// Which track.
    pub track: MediaTrack,
    /// Its quality layer.
    pub layer: u8,
    /// Its number among the frames of its track and layer, from 0 since the track was switched on. Frames come as soon as they
    /// are complete: one that had to be repaired comes after later ones.
    pub number: u64,
    /// Whether it stands alone.
    pub keyframe: bool,
    /// When it was captured, in this engine's time, as far as the nodes on its way can tell.
    pub captured: Instant,
    /// Links that it crossed, over the longest way.
    pub hops: u8,
    /// Its bytes.
    pub payload: Bytes,
}

impl MediaOptions {
    /// The defaults, for a participant that may spend so much on media.
    pub fn new(upload_bytes_per_s: u64) -> Self {
        Self {
            upload_bytes_per_s,
            audio_bytes_per_s: 4_000,
            thumbnail_bytes_per_s: 3_750,
            video_bytes_per_s: 146_250,
            screen_bytes_per_s: 125_000,
            topology: MediaTopology::Auto,
            full_max: 3,
            thumbnails_max: 9,
            listeners_max: 64,
            deadline: Duration::from_millis(500),
        }
    }

    /// The payload rate of a track, in bytes a second.
    pub fn rate(&self, track: MediaTrack) -> u64 {
        match track {
            MediaTrack::Audio => self.audio_bytes_per_s,
            MediaTrack::Thumbnail => self.thumbnail_bytes_per_s,
            MediaTrack::Video => self.video_bytes_per_s,
            MediaTrack::Screen => self.screen_bytes_per_s,
        }
    }

    /// The same with what seals add to each frame: a signature and a hash for each of its chunks.
    pub(super) fn sealed(&self) -> Self {
        let more = |chunks: u64| SEAL_BYTES + CHUNK_HASH_BYTES as u64 * chunks;
        Self {
            audio_bytes_per_s: self.audio_bytes_per_s + SOUNDS_PER_S * more(1),
            thumbnail_bytes_per_s: self.thumbnail_bytes_per_s + THUMBNAILS_PER_S * more(1),
            video_bytes_per_s: self.video_bytes_per_s + PICTURES_PER_S * more(CHUNKS),
            screen_bytes_per_s: self.screen_bytes_per_s + PICTURES_PER_S * more(CHUNKS),
            ..self.clone()
        }
    }

    pub(crate) fn validate(&self) -> Result<(), CommandError> {
        let millis = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
        within("upload_bytes_per_s", self.upload_bytes_per_s, 1_000, UPLOAD_MAX)?;
        within("audio_bytes_per_s", self.audio_bytes_per_s, 100, STREAM_RATE_MAX)?;
        within("thumbnail_bytes_per_s", self.thumbnail_bytes_per_s, 100, STREAM_RATE_MAX)?;
        within("video_bytes_per_s", self.video_bytes_per_s, 100, STREAM_RATE_MAX)?;
        within("screen_bytes_per_s", self.screen_bytes_per_s, 100, STREAM_RATE_MAX)?;
        within("full_max", self.full_max as u64, 1, 16)?;
        within("thumbnails_max", self.thumbnails_max as u64, 0, 64)?;
        within("listeners_max", self.listeners_max as u64, 0, 256)?;
        within("deadline", millis, 50, 10_000)
    }
}

/// Frames that participants usually publish.
const SOUNDS_PER_S: u64 = 50;
const THUMBNAILS_PER_S: u64 = 10;
pub(super) const PICTURES_PER_S: u64 = 30;

/// Chunks of a picture, usually.
const CHUNKS: u64 = 5;

/// A seal without its hashes: a signature of 64 bytes and a few lengths.
const SEAL_BYTES: u64 = 72;

/// Products of uploads and counts of participants stay far below 2^64.
pub(super) const UPLOAD_MAX: u64 = 1 << 40;

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), CommandError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(CommandError::OutOfRange { field, value, min, max })
    }
}
