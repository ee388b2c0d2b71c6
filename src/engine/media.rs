//! The commands of groups that concern media, and the livestreams that groups keep.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Engine;
use crate::error::CommandError;
use crate::gossip::PublishOptions;
use crate::id::{SwarmId, SwarmTag};
use crate::stats::GroupMediaStats;
use crate::swarm::{Livestream, MediaFrameOptions, MediaTrack, StreamOrder, StreamState, Swarm, media_state};
use crate::time::Instant;
use crate::wire::WirePeer;

impl<P: WirePeer> Engine<P> {
    /// Publishes a media frame of a group to those who receive the track; returns its number among the frames of its track and
    /// layer.
    ///
    /// Tracks are on while this participant says so: [`MediaTrack::Audio`] by [`ParticipantChange::audio`],
    /// [`MediaTrack::Thumbnail`] and [`MediaTrack::Video`] by [`ParticipantChange::video`], [`MediaTrack::Screen`] while it shows
    /// its screen. Nothing is sent of a track that nobody receives.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use suffuse::{
    ///     CommandError, Config, Engine, GroupOptions, Guard, Instant, MediaFrameOptions, MediaOptions, MediaTrack,
    ///     ParticipantChange, Seed, SwarmId,
    /// };
    ///
    /// let (room, now) = (SwarmId::from_name("room 7"), Instant::ZERO);
    /// let mut ann = Engine::new(1u64, Config::small(), Seed::from_u64(1), now).unwrap();
    /// // 5 Mbit/s for the own tracks and those of others.
    /// let mut options = GroupOptions::new();
    /// options.media = Some(MediaOptions::new(625_000));
    /// ann.create_group(room, options, Guard::new(), now)?;
    ///
    /// let (sound, plain) = (Bytes::from_static(&[0; 80]), MediaFrameOptions::default());
    /// let muted = ann.send_media(room, MediaTrack::Audio, sound.clone(), plain, now);
    /// assert_eq!(muted, Err(CommandError::TrackOff(MediaTrack::Audio)));
    ///
    /// let now = Instant::from_micros(100_000);
    /// ann.set_participant(room, ParticipantChange::default().audio(true), now)?;
    /// ann.set_audio_level(room, 120, now)?;
    /// assert_eq!(ann.send_media(room, MediaTrack::Audio, sound, plain, now)?, 0);
    /// # Ok::<(), CommandError>(())
    /// ```
    ///
    /// [`ParticipantChange::audio`]: crate::ParticipantChange::audio
    /// [`ParticipantChange::video`]: crate::ParticipantChange::video
    ///
    /// # Errors
    /// The swarm is no group with media that this engine is in, the track is off, or the layer or the payload is too large.
    /// Nothing was published.
    pub fn send_media(
        &mut self,
        swarm: SwarmId,
        track: MediaTrack,
        payload: Bytes,
        options: MediaFrameOptions,
        now: Instant,
    ) -> Result<u64, CommandError> {
        let (tag, group) = self.entered(swarm)?;
        let id = group.own_stream(track)?;
        let state = media_state(track, options.layer)?;
        let stream = self.swarms.get(&id.tag()).and_then(|joined| joined.swarm.livestream());
        let max = stream.ok_or(CommandError::TrackOff(track))?.media_bytes_max();
        if payload.len() > max {
            return Err(CommandError::Oversize { bytes: payload.len(), max });
        }
        self.advance(now);
        let (keyframe, captured) = (options.keyframe, options.captured);
        let options = PublishOptions { keyframe, captured, ..PublishOptions::default() };
        let mut number = 0;
        let backlog = self.egress.queued_bytes();
        self.with_livestream(id.tag(), |stream, now, actions| {
            stream.note_backlog(backlog);
            let sequence = stream.publish(state, payload, options, now, actions).sequence;
            number = crate::authority::LivestreamTracks::frame_number(sequence);
        });
        self.with_group(tag, |group, now, actions| group.note_published(track, now, actions));
        Ok(number)
    }

    /// Of parents that are silent in a stream of a group: when anything was heard of them.
    pub(super) fn heard_of_parents(&self, tag: SwarmTag, now: Instant) -> Vec<(P, Instant)> {
        let stream = self.swarms.get(&tag).and_then(|joined| joined.swarm.livestream());
        let doubted = stream.into_iter().flat_map(|stream| stream.doubted(now));
        let heard = doubted.filter_map(|peer| Some((peer, self.links.get(&peer)?.liveness.last_heard())));
        heard.collect()
    }

    /// Tells how loud this participant is: every 100 ms while it makes a sound, from 1 to 255; 0, or no call at all, is
    /// silence. After 300 ms of sound it speaks, and after 2 s of silence it does not any more.
    ///
    /// # Errors
    /// The swarm is no group with media that this engine is in. Nothing was changed.
    pub fn set_audio_level(&mut self, swarm: SwarmId, level: u8, now: Instant) -> Result<(), CommandError> {
        let (tag, group) = self.entered(swarm)?;
        group.check_media()?;
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.hear_level(level, now, actions));
        Ok(())
    }

    /// Receives a participant in full, whoever speaks, until it is unpinned or leaves. It takes the place of the least important
    /// of those who speak.
    ///
    /// # Errors
    /// The swarm is no group with media that this engine is in, the peer takes no part or is this engine, or too many are
    /// pinned. Nothing was changed.
    pub fn pin(&mut self, swarm: SwarmId, peer: P, now: Instant) -> Result<(), CommandError> {
        let (tag, group) = self.entered(swarm)?;
        group.check_pin(peer)?;
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.set_pinned(peer, true, now, actions));
        Ok(())
    }

    /// Undoes [`Self::pin`]; does nothing if the peer is not pinned.
    ///
    /// # Errors
    /// The swarm is no group with media that this engine is in. Nothing was changed.
    pub fn unpin(&mut self, swarm: SwarmId, peer: P, now: Instant) -> Result<(), CommandError> {
        let (tag, group) = self.entered(swarm)?;
        group.check_media()?;
        self.advance(now);
        self.with_group(tag, |group, now, actions| group.set_pinned(peer, false, now, actions));
        Ok(())
    }

    /// What this engine does for the media of a group; `None` if the swarm is no group that is joined.
    pub fn group_media_stats(&self, swarm: SwarmId) -> Option<GroupMediaStats> {
        let (_, group) = self.grouped(swarm).ok()?;
        let mut sum = GroupMediaStats { elected: group.is_elected().into(), ..GroupMediaStats::default() };
        for id in group.streams() {
            let joined = self.swarms.get(&id.tag()).and_then(|joined| joined.swarm.livestream());
            let Some(stream) = joined else { continue };
            let stats = stream.stats(self.now);
            let relayed = stats.plan_depth_max > 1;
            sum.published += u64::from(stream.is_source());
            sum.relayed += u64::from(stream.is_source() && relayed);
            sum.watched += u64::from(!stream.is_source());
            sum.passes_on += u64::from(!stream.is_source() && stream.feeds_anybody());
            sum.receivers += stats.viewers;
            sum.failovers += stats.failovers;
            sum.chunks_repaired += stats.chunks_repaired;
            sum.chunks_forwarded += stats.chunks_forwarded;
            sum.attaches_refused += stats.attaches_refused;
            sum.chunks_unserved += stats.chunks_unserved;
            sum.frames_published += stats.frames_published;
            sum.chunks_forged += stats.forged;
        }
        Some(sum)
    }

    /// Who feeds this engine with the tracks of others: participant, track, and one peer for each stripe. Empty if the swarm is
    /// no group that is joined.
    pub fn group_media_parents(&self, swarm: SwarmId) -> Vec<(P, MediaTrack, Vec<Option<P>>)> {
        let Ok((_, group)) = self.grouped(swarm) else { return Vec::new() };
        let streams = group.streams_of_others().filter_map(|(id, peer, track)| {
            let relay = self.swarms.get(&id.tag())?.swarm.livestream()?.relay()?;
            Some((peer, track, relay.parents().collect()))
        });
        streams.collect()
    }

    /// Carries out what a group wants done with its livestreams.
    pub(super) fn on_stream_order(&mut self, group: SwarmTag, order: StreamOrder<P>, now: Instant) {
        let (local, epoch) = (self.local, self.epoch_min);
        let owner = self.swarms.get(&group).and_then(|joined| joined.swarm.group());
        let guard = owner.map(|group| group.topic().media_guard()).unwrap_or_default();
        let (id, stream) = match order {
            StreamOrder::Open { id, options, node_upload } => {
                let seed = self.seed.fork(self.joins + 1);
                let stream = Livestream::open(local, id, epoch, &self.config, &options, guard, seed, now);
                (id, stream.map(|stream| stream.sharing(node_upload)))
            }
            StreamOrder::Watch { id, options, node_upload } => {
                let seed = self.seed.fork(self.joins + 1);
                let stream = Livestream::watch(local, id, epoch, &self.config, &options, guard, seed, now);
                (id, stream.map(|stream| stream.sharing(node_upload)))
            }
            StreamOrder::SetRedundancy { id, percent } => {
                return self.with_livestream(id.tag(), |stream, _, _| stream.set_redundancy(percent));
            }
            StreamOrder::Expect { id, viewers } => {
                return self.with_livestream(id.tag(), |stream, now, actions| {
                    stream.expect(&viewers, now, actions);
                });
            }
            StreamOrder::SetUpload { id, bytes_per_s } => {
                return self.with_livestream(id.tag(), |stream, now, actions| {
                    stream.set_upload(bytes_per_s, now, actions);
                });
            }
            StreamOrder::Close { id } => return self.close_stream(group, id),
        };
        let tag = id.tag();
        let (Ok(stream), false) = (stream, self.swarms.contains_key(&tag)) else {
            return self.with_group(group, |group, _, _| group.stream_failed(id));
        };
        self.joins += 1;
        let is_source = stream.is_source();
        let swarm = Swarm::Livestream(Box::new(stream));
        self.add_swarm(tag, id, swarm, Some(group));
        self.with_livestream(tag, |stream, now, actions| {
            stream.begin(now, actions);
            if is_source {
                stream.set_state(StreamState::Active, now, actions);
            }
        });
    }

    fn close_stream(&mut self, group: SwarmTag, id: SwarmId) {
        let tag = id.tag();
        if self.swarms.get(&tag).is_some_and(|joined| joined.id == id && joined.owner == Some(group)) {
            self.with_swarm(tag, |swarm, now, actions| swarm.leave(now, actions));
            self.forget_swarm(tag);
        }
    }

    /// The group is forgotten, and its livestreams with it.
    pub(super) fn close_streams_of(&mut self, group: SwarmTag) {
        let owned = self.swarms.values().filter(|joined| joined.owner == Some(group));
        let owned: Vec<_> = owned.map(|joined| joined.id).collect();
        for id in owned {
            self.close_stream(group, id);
        }
    }
}
