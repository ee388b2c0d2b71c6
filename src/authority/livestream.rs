//! The tracks of a livestream and who may write them.
//!
//! ```text
//! bit    63 ···················· 6   5 4 3   2 1 0
//!        number of the stream        kind    layer
//! kind   0 the application's own, 1 visual, 2 audio, 3 chat, 4 data, 5 to 7 reserved
//! ```
//!
//! Every track has its own combination of the three, so no two are equal. The kind is in the low bits because states
//! travel as varints: the tracks of the streams 0 and 1 take one byte. All layers of a kind, and all tracks of a
//! stream, are one range.

use alloc::vec::Vec;

use crate::authority::{AuthorityChange, AuthorityError, AuthoritySet, Policy, StateRange};
use crate::id::{PeerId, StateId};
use crate::interest::{StreamTracks, TrackKind};
use crate::time::Instant;

/// Layers per kind of track.
pub const LAYERS: u8 = 8;

/// The states of one livestream inside a swarm, by construction distinct from those of every other number.
///
/// A state is always meant inside its swarm, so the streams of two swarms never meet. The number tells several
/// streams of one swarm apart.
///
/// ```
/// use suffuse::authority::{AuthorityLimits, AuthoritySet, LivestreamTracks, Policy};
/// use suffuse::{Instant, SwarmId};
///
/// let (broadcaster, moderator, viewer) = (1u64, 2, 3);
/// let (now, mut changes) = (Instant::ZERO, Vec::new());
/// let mut set = AuthoritySet::new(SwarmId(7), broadcaster, Policy::Frozen, AuthorityLimits::default());
/// let tracks = LivestreamTracks::default();
/// tracks.install(&mut set, broadcaster, now, &mut changes)?;
///
/// assert!(set.may_write(broadcaster, tracks.visual(), now));
/// assert!(!set.may_write(viewer, tracks.audio(), now));
/// assert!(set.may_write(viewer, tracks.chat(), now));
///
/// set.appoint(broadcaster, moderator, now, &mut changes)?;
/// set.mute(moderator, viewer, tracks.chat_range(), None, now, &mut changes)?;
/// assert!(!set.may_write(viewer, tracks.chat(), now));
/// # Ok::<(), suffuse::AuthorityError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LivestreamTracks {
    stream: u64,
}

impl LivestreamTracks {
    /// The greatest number of a stream.
    pub const STREAM_MAX: u64 = u64::MAX >> 6;

    /// The tracks of a stream; `None` if the number is above [`Self::STREAM_MAX`]. The only stream of a swarm is
    /// number 0, which is also the default.
    pub const fn new(stream: u64) -> Option<Self> {
        if stream <= Self::STREAM_MAX { Some(Self { stream }) } else { None }
    }

    /// Which stream, kind and layer a state is; `None` if it is the application's own or reserved.
    pub const fn parse(state: StateId) -> Option<(Self, TrackKind, u8)> {
        let kind = match state.0 >> 3 & 7 {
            1 => TrackKind::Visual,
            2 => TrackKind::Audio,
            3 => TrackKind::Chat,
            4 => TrackKind::Data,
            _ => return None,
        };
        Some((Self { stream: state.0 >> 6 }, kind, (state.0 & 7) as u8))
    }

    /// A state that is no track of any stream, for the application's own use; `None` from 2^61 on. Distinct numbers
    /// give distinct states.
    pub const fn application(number: u64) -> Option<StateId> {
        if number >> 61 == 0 { Some(StateId((number >> 3) << 6 | (number & 7))) } else { None }
    }

    /// The number of a media frame among those of its track, from the sequence of its
    /// [`UpdateId`](crate::UpdateId): the lower 48 bits. The bits above tell tracks and chat apart.
    pub const fn frame_number(sequence: u64) -> u64 {
        sequence & ((1 << 48) - 1)
    }

    /// The number of the stream.
    pub const fn stream(self) -> u64 {
        self.stream
    }

    /// The pictures, base layer.
    pub const fn visual(self) -> StateId {
        self.base(TrackKind::Visual)
    }

    /// The sound, base layer.
    pub const fn audio(self) -> StateId {
        self.base(TrackKind::Audio)
    }

    /// The chat, first room.
    pub const fn chat(self) -> StateId {
        self.base(TrackKind::Chat)
    }

    /// Captions, scores, telemetry; first of its kind.
    pub const fn data(self) -> StateId {
        self.base(TrackKind::Data)
    }

    /// One layer of a kind, or one room of the chat; `None` from [`LAYERS`] on.
    pub const fn layer(self, kind: TrackKind, layer: u8) -> Option<StateId> {
        if layer < LAYERS { Some(StateId(self.base(kind).0 | layer as u64)) } else { None }
    }

    /// All layers of the pictures.
    pub const fn visual_range(self) -> StateRange {
        self.range(TrackKind::Visual)
    }

    /// All layers of the sound.
    pub const fn audio_range(self) -> StateRange {
        self.range(TrackKind::Audio)
    }

    /// All rooms of the chat.
    pub const fn chat_range(self) -> StateRange {
        self.range(TrackKind::Chat)
    }

    /// All data of the stream.
    pub const fn data_range(self) -> StateRange {
        self.range(TrackKind::Data)
    }

    /// Every state of the stream, reserved ones too: what a broadcaster's mute-all covers.
    pub const fn all(self) -> StateRange {
        let first = self.stream << 6;
        ordered(first, first | 0x3f)
    }

    /// The pictures and the sound: what a broadcaster claims.
    pub const fn media(self) -> StateRange {
        ordered(self.base(TrackKind::Visual).0, self.base(TrackKind::Audio).0 | 7)
    }

    /// Sets the policies: `broadcaster` alone writes pictures, sound and data, everybody writes chat. In the name of the
    /// swarm's founder. If a policy cannot be set, those before it stay.
    pub fn install<P: PeerId>(
        self,
        set: &mut AuthoritySet<P>,
        broadcaster: P,
        now: Instant,
        changes: &mut Vec<AuthorityChange<P>>,
    ) -> Result<(), AuthorityError> {
        let founder = set.founder();
        let media = Policy::Exclusive { owner: broadcaster };
        set.set_policy(founder, self.visual_range(), media, now, changes)?;
        set.set_policy(founder, self.audio_range(), media, now, changes)?;
        set.set_policy(founder, self.data_range(), media, now, changes)?;
        set.set_policy(founder, self.chat_range(), Policy::Open, now, changes)
    }

    const fn base(self, kind: TrackKind) -> StateId {
        let kind = match kind {
            TrackKind::Visual => 1,
            TrackKind::Audio => 2,
            TrackKind::Chat => 3,
            TrackKind::Data => 4,
        };
        StateId(self.stream << 6 | kind << 3)
    }

    const fn range(self, kind: TrackKind) -> StateRange {
        let first = self.base(kind).0;
        ordered(first, first | 7)
    }
}

/// The base tracks of each kind, for [`InterestMap::set_role`](crate::InterestMap::set_role): a viewer's or lurker's interest
/// in all of them changes at once.
impl From<LivestreamTracks> for StreamTracks {
    fn from(tracks: LivestreamTracks) -> Self {
        Self::new([
            (tracks.visual(), TrackKind::Visual),
            (tracks.audio(), TrackKind::Audio),
            (tracks.chat(), TrackKind::Chat),
            (tracks.data(), TrackKind::Data),
        ])
    }
}

const fn ordered(first: u64, last: u64) -> StateRange {
    match StateRange::new(StateId(first), StateId(last)) {
        Some(range) => range,
        None => panic!("a track range is upside down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::AuthorityLimits;
    use crate::id::SwarmId;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    const KINDS: [TrackKind; 4] = [TrackKind::Visual, TrackKind::Audio, TrackKind::Chat, TrackKind::Data];

    #[test]
    fn broadcaster_and_viewer_have_their_tracks() {
        let (broadcaster, viewer, now, mut changes) = (1u64, 2, Instant::ZERO, Vec::new());
        let mut set = AuthoritySet::new(SwarmId(1), broadcaster, Policy::Frozen, AuthorityLimits::default());
        let tracks = LivestreamTracks::new(5).unwrap();
        tracks.install(&mut set, broadcaster, now, &mut changes).unwrap();
        for layer in 0..LAYERS {
            let at = |kind| tracks.layer(kind, layer).unwrap();
            assert!(set.may_write(broadcaster, at(TrackKind::Visual), now));
            assert!(set.may_write(broadcaster, at(TrackKind::Audio), now));
            assert!(!set.may_write(viewer, at(TrackKind::Visual), now));
            assert!(!set.may_write(viewer, at(TrackKind::Audio), now));
            assert!(set.may_write(broadcaster, at(TrackKind::Chat), now));
            assert!(set.may_write(viewer, at(TrackKind::Chat), now));
        }
        let other = LivestreamTracks::default();
        assert!(!set.may_write(broadcaster, other.visual(), now));
        assert_eq!(set.check_write_all(broadcaster, tracks.media(), now), Ok(()));
    }

    #[test]
    fn golden_layout() {
        let tracks = LivestreamTracks::new(1).unwrap();
        assert_eq!((tracks.visual(), tracks.audio(), tracks.chat()), (StateId(72), StateId(80), StateId(88)));
        assert_eq!(tracks.layer(TrackKind::Visual, 7), Some(StateId(79)));
        assert_eq!(tracks.layer(TrackKind::Visual, 8), None);
        assert!(LivestreamTracks::new(LivestreamTracks::STREAM_MAX + 1).is_none());
        assert_eq!(
            LivestreamTracks::new(LivestreamTracks::STREAM_MAX).unwrap().all().last(),
            StateId(u64::MAX)
        );
        assert_eq!(LivestreamTracks::application(9), Some(StateId(65)));
        assert_eq!(LivestreamTracks::application(1 << 61), None);
    }

    proptest! {
        #[test]
        fn states_are_distinct_and_readable(
            streams in prop::collection::btree_set(0..=LivestreamTracks::STREAM_MAX, 1..8),
            numbers in prop::collection::btree_set(0u64..1 << 61, 1..8),
        ) {
            let mut seen = BTreeSet::new();
            for tracks in streams.into_iter().map(|stream| LivestreamTracks::new(stream).unwrap()) {
                for kind in KINDS {
                    for layer in 0..LAYERS {
                        let state = tracks.layer(kind, layer).unwrap();
                        prop_assert!(seen.insert(state));
                        prop_assert!(tracks.all().contains(state));
                        prop_assert_eq!(LivestreamTracks::parse(state), Some((tracks, kind, layer)));
                        let media = matches!(kind, TrackKind::Visual | TrackKind::Audio);
                        prop_assert_eq!(tracks.media().contains(state), media);
                    }
                }
            }
            for number in numbers {
                let state = LivestreamTracks::application(number).unwrap();
                prop_assert!(seen.insert(state));
                prop_assert_eq!(LivestreamTracks::parse(state), None);
            }
        }
    }
}
