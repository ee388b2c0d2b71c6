//! Roles in the audience of a livestream: active viewers and lurkers.

use alloc::vec::Vec;
use core::time::Duration;

use super::limits::InterestError;
use super::map::{InterestMap, InterestTotals};
use super::types::{InterestChange, InterestLevel, InterestTarget};
use crate::id::{PeerId, StateId};
use crate::time::Instant;

/// How a peer follows a livestream. It decides the levels of all tracks at once, by a [`RoleTable`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// It watches now.
    Viewer,
    /// It keeps the stream at hand: a muted tab, a tile in a list, an application in the background.
    Lurker,
}

/// What a track of a livestream carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TrackKind {
    /// Pictures: a camera, a screen.
    Visual,
    /// Sound.
    Audio,
    /// Messages among the audience.
    Chat,
    /// Anything else: captions, scores, telemetry.
    Data,
}

/// One track of a livestream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Track {
    /// The state that carries it.
    pub state: StateId,
    /// What it carries.
    pub kind: TrackKind,
}

/// The levels that one role gives to each kind of track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RoleLevels {
    /// For [`TrackKind::Visual`].
    pub visual: InterestLevel,
    /// For [`TrackKind::Audio`].
    pub audio: InterestLevel,
    /// For [`TrackKind::Chat`].
    pub chat: InterestLevel,
    /// For [`TrackKind::Data`].
    pub data: InterestLevel,
}

/// Which role wants which kind of track how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct RoleTable {
    /// Default: audio critical, because a gap in sound disturbs more than one in the picture; visual high; chat and
    /// data medium.
    pub viewer: RoleLevels,
    /// Default: audio medium; visual low, which is keyframes only, so that a lurker who turns to the stream has a
    /// picture at once; chat and data low.
    pub lurker: RoleLevels,
}

impl Default for RoleTable {
    fn default() -> Self {
        use InterestLevel::{Critical, High, Low, Medium};
        Self {
            viewer: RoleLevels { visual: High, audio: Critical, chat: Medium, data: Medium },
            lurker: RoleLevels { visual: Low, audio: Medium, chat: Low, data: Low },
        }
    }
}

impl RoleTable {
    /// How much that role wants that kind of track.
    pub const fn level(&self, role: Role, kind: TrackKind) -> InterestLevel {
        let levels = match role {
            Role::Viewer => &self.viewer,
            Role::Lurker => &self.lurker,
        };
        match kind {
            TrackKind::Visual => levels.visual,
            TrackKind::Audio => levels.audio,
            TrackKind::Chat => levels.chat,
            TrackKind::Data => levels.data,
        }
    }
}

/// The tracks of one livestream, and what the roles want of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct StreamTracks {
    /// The tracks.
    pub tracks: Vec<Track>,
    /// What the roles want.
    pub table: RoleTable,
}

impl StreamTracks {
    /// A stream with these tracks and the default table.
    pub fn new(tracks: impl IntoIterator<Item = (StateId, TrackKind)>) -> Self {
        let tracks = tracks.into_iter().map(|(state, kind)| Track { state, kind }).collect();
        Self { tracks, table: RoleTable::default() }
    }

    /// What that role wants of each track.
    pub fn levels(&self, role: Role) -> impl Iterator<Item = (InterestTarget, InterestLevel)> + '_ {
        self.tracks.iter().map(move |track| (track.state.into(), self.table.level(role, track.kind)))
    }
}

/// The audience. A map knows one role per peer, so a map belongs to one livestream, as a swarm does.
impl<P: PeerId> InterestMap<P> {
    /// Gives `peer` a role: every track of the stream gets the level that the role gives it, all at once or not at
    /// all, instead of what the peer had declared for the track. Declarations for other targets stay. Appends to
    /// `changes` as [`Self::declare_all`] does.
    ///
    /// The role lasts as long as the peer has any declaration: if the time to live ends and nothing else is declared,
    /// the peer has left the audience. So has one whose role wants none of the tracks.
    ///
    /// ```
    /// use suffuse::{InterestLevel, InterestMap, Instant, Role, StateId, StreamTracks, TrackKind};
    ///
    /// let (picture, sound) = (StateId(1), StateId(2));
    /// let stream = StreamTracks::new([(picture, TrackKind::Visual), (sound, TrackKind::Audio)]);
    /// let mut map = InterestMap::default();
    /// let mut changes = Vec::new();
    ///
    /// map.set_role("ann", &stream, Role::Viewer, None, Instant::ZERO, &mut changes)?;
    /// map.set_role("bob", &stream, Role::Viewer, None, Instant::ZERO, &mut changes)?;
    /// map.set_role("bob", &stream, Role::Lurker, None, Instant::ZERO, &mut changes)?;
    /// assert_eq!((map.viewers(), map.lurkers()), (1, 1));
    /// assert_eq!(map.level("bob", picture), InterestLevel::Low);
    /// assert_eq!(map.count(picture, InterestLevel::High), 1);
    ///
    /// map.remove_peer("bob", &mut changes);
    /// assert_eq!((map.viewers(), map.lurkers()), (1, 0));
    /// # Ok::<(), suffuse::InterestError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::declare_all`]. Nothing was changed, neither a level nor a role.
    pub fn set_role(
        &mut self,
        peer: P,
        stream: &StreamTracks,
        role: Role,
        ttl: Option<Duration>,
        now: Instant,
        changes: &mut Vec<InterestChange<P>>,
    ) -> Result<(), InterestError> {
        self.declare_all(peer, stream.levels(role), ttl, now, changes)?;
        self.change_role(peer, Some(role));
        Ok(())
    }

    /// Takes the peer's role away and withdraws every track of the stream; declarations for other targets stay. For a
    /// peer without role and tracks, nothing happens. Appends the changes, in the order of the tracks.
    pub fn clear_role(&mut self, peer: P, stream: &StreamTracks, changes: &mut Vec<InterestChange<P>>) {
        self.change_role(peer, None);
        for track in &stream.tracks {
            changes.extend(self.withdraw(peer, track.state).ok());
        }
    }

    /// The role of the peer. `O(log peers)`.
    pub fn role(&self, peer: P) -> Option<Role> {
        let &slot = self.by_peer.get(&peer)?;
        self.peers[slot].role
    }

    /// How many peers are active viewers. `O(1)`.
    pub fn viewers(&self) -> usize {
        self.totals.viewers
    }

    /// How many peers are lurkers. `O(1)`.
    pub fn lurkers(&self) -> usize {
        self.totals.lurkers
    }

    fn change_role(&mut self, peer: P, to: Option<Role>) {
        if let Some(&slot) = self.by_peer.get(&peer) {
            let from = core::mem::replace(&mut self.peers[slot].role, to);
            self.totals.count_role(from, to);
        }
    }
}

impl InterestTotals {
    pub(super) fn count_role(&mut self, from: Option<Role>, to: Option<Role>) {
        match from {
            Some(Role::Viewer) => self.viewers -= 1,
            Some(Role::Lurker) => self.lurkers -= 1,
            None => {}
        }
        match to {
            Some(Role::Viewer) => self.viewers += 1,
            Some(Role::Lurker) => self.lurkers += 1,
            None => {}
        }
    }
}
