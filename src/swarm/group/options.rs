//! How groups are created and joined, and what the application says and hears in them.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::media::{MediaOptions, speaks};
use crate::authority::Signature;
use crate::error::CommandError;
use crate::id::Priority;
use crate::log::Retention;
use crate::wire::{Profile, WirePeer};

/// How a group is created by its first participant. Start from [`GroupOptions::new`] and change fields.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GroupOptions {
    /// Participants, at most: who comes on top is refused. From 1 to 65,536, and no more than
    /// [`GroupConfig::records_max`](crate::GroupConfig::records_max). Default 64.
    pub participants_max: usize,
    /// Bytes of [`ParticipantChange::metadata`], at most. From 0 to 1,024, and what fits a frame; default 256.
    pub metadata_bytes_max: usize,
    /// What is kept of the messages to everybody, for repair and after partitions. Default: two minutes, 4 MiB.
    pub retention: Retention,
    /// Sound, pictures and screens; `None`, the default: there are none.
    pub media: Option<MediaOptions>,
}

/// How a group is joined. Start from [`JoinGroupOptions::through`] and change fields.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct JoinGroupOptions<P> {
    /// Participants to join through, at least one. At most `MembershipConfig::passive_max`.
    pub contacts: Vec<P>,
    /// As [`GroupOptions::retention`]; everybody should keep the same.
    pub retention: Retention,
    /// As [`GroupOptions::media`].
    pub media: Option<MediaOptions>,
}

/// What a participant changes of itself; `None` leaves it as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ParticipantChange {
    /// Whether it shows its video.
    pub video: Option<bool>,
    /// Whether it lets itself be heard.
    pub audio: Option<bool>,
    /// Whether it has raised its hand.
    pub hand_raised: Option<bool>,
    /// What it shows of itself: a name, say. At most [`GroupOptions::metadata_bytes_max`].
    pub metadata: Option<Bytes>,
}

/// A participant as everybody sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Participant<P> {
    /// Who.
    pub peer: P,
    /// When it joined, in the group's time: since the group was created.
    pub joined: Duration,
    /// Whether it shows its video.
    pub video: bool,
    /// Whether it lets itself be heard.
    pub audio: bool,
    /// Whether it has raised its hand.
    pub hand_raised: bool,
    /// Whether it speaks; see [`Engine::set_audio_level`](crate::Engine::set_audio_level).
    pub speaking: bool,
    /// Whether it shows its screen. At most one participant does.
    pub screen: bool,
    /// What it shows of itself.
    pub metadata: Bytes,
}

/// For whom a message is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupTarget<P> {
    /// Everybody who is in, and whoever a broken network hides for now. Reliable within the retention.
    Everybody,
    /// These participants. One copy crosses each link.
    Some(Vec<P>),
    /// This participant.
    One(P),
}

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GroupSendOptions {
    /// How urgent it is. Default: normal.
    pub priority: Priority,
    /// How long a message for some is kept for those who cannot be reached, from 100 ms to 1 h. Default 60 s.
    pub deadline: Duration,
}

/// Names a message among those that this engine sent to the group, until it leaves. Messages to everybody and messages for
/// some are numbered apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupMessageId(pub u64);

impl GroupOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { participants_max: 64, metadata_bytes_max: 256, retention: Retention::default(), media: None }
    }

    pub(crate) fn validate<P: WirePeer>(
        &self,
        records_max: usize,
        frame_bytes_max: usize,
    ) -> Result<(), CommandError> {
        let metadata_max = METADATA_BYTES_MAX.min(metadata_bytes_max::<P>(frame_bytes_max));
        within("participants_max", self.participants_max, 1, PARTICIPANTS_MAX.min(records_max))?;
        within("metadata_bytes_max", self.metadata_bytes_max, 0, metadata_max)?;
        self.media.as_ref().map_or(Ok(()), MediaOptions::validate)
    }
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> JoinGroupOptions<P> {
    /// Joins through one or more participants.
    pub fn through(contacts: impl IntoIterator<Item = P>) -> Self {
        Self { contacts: contacts.into_iter().collect(), retention: Retention::default(), media: None }
    }
}

impl ParticipantChange {
    /// The same, with the video switched on or off.
    #[must_use]
    pub fn video(mut self, on: bool) -> Self {
        self.video = Some(on);
        self
    }

    /// The same, with the sound switched on or off.
    #[must_use]
    pub fn audio(mut self, on: bool) -> Self {
        self.audio = Some(on);
        self
    }

    /// The same, with the hand up or down.
    #[must_use]
    pub fn hand_raised(mut self, up: bool) -> Self {
        self.hand_raised = Some(up);
        self
    }

    /// The same, with other metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// Writes the change into a profile; false if it changes nothing.
    pub(super) fn apply<P>(&self, profile: &mut Profile<P>) -> bool {
        let before = profile.switches;
        for (bit, switch) in [(VIDEO, self.video), (AUDIO, self.audio), (HAND, self.hand_raised)] {
            match switch {
                Some(true) => profile.switches |= bit,
                Some(false) => profile.switches &= !bit,
                None => {}
            }
        }
        let mut changed = profile.switches != before;
        if let Some(metadata) = self.metadata.as_ref().filter(|metadata| **metadata != profile.metadata) {
            profile.metadata = metadata.clone();
            changed = true;
        }
        changed
    }
}

impl Default for GroupSendOptions {
    fn default() -> Self {
        Self { priority: Priority::Normal, deadline: Duration::from_secs(60) }
    }
}

impl GroupSendOptions {
    /// The defaults, with another deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), CommandError> {
        let millis = usize::try_from(self.deadline.as_millis()).unwrap_or(usize::MAX);
        within("deadline", millis, 100, 3_600_000)
    }
}

pub(super) fn participant<P: WirePeer>(peer: P, profile: &Profile<P>, holder: Option<P>) -> Participant<P> {
    let is_on = |bit: u8| profile.switches & bit != 0;
    Participant {
        peer,
        joined: Duration::from_micros(profile.joined_us),
        video: is_on(VIDEO),
        audio: is_on(AUDIO),
        hand_raised: is_on(HAND),
        speaking: is_on(AUDIO) && profile.media.as_ref().is_some_and(speaks),
        screen: holder == Some(peer),
        metadata: profile.metadata.clone(),
    }
}

/// Room for metadata where a frame carries one entry: beside it two peers, ten numbers, a signature, and what is around
/// them.
pub(super) fn metadata_bytes_max<P: WirePeer>(frame_bytes_max: usize) -> usize {
    frame_bytes_max.saturating_sub(2 * P::WIRE_BYTES + 120 + 1 + Signature::BYTES_MAX)
}

pub(super) const VIDEO: u8 = 1;
pub(super) const AUDIO: u8 = 2;
const HAND: u8 = 4;

const PARTICIPANTS_MAX: usize = 65_536;
const METADATA_BYTES_MAX: usize = 1_024;

fn within(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), CommandError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(CommandError::OutOfRange { field, value: value as u64, min: min as u64, max: max as u64 })
    }
}
