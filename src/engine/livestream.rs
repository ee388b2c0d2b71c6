//! The commands of livestreams.

use alloc::boxed::Box;

use bytes::Bytes;

use super::Engine;
use crate::authority::LivestreamTracks;
use crate::error::CommandError;
use crate::gossip::PublishOptions;
use crate::id::{StateId, SwarmId, SwarmTag, UpdateId};
use crate::interest::{Role, TrackKind};
use crate::stats::LivestreamStats;
use crate::swarm::{
    BroadcastOptions, Guard, Livestream, StreamQuality, StreamState, Swarm, SwarmActions, WatchOptions,
    check_quality, check_upload,
};
use crate::time::Instant;
use crate::wire::WirePeer;

impl<P: WirePeer> Engine<P> {
    /// Opens a livestream of which this engine is the source. It begins in [`StreamState::Initializing`]: viewers may come;
    /// publishing needs [`StreamState::Active`].
    ///
    /// The guard says who may publish what, as in [`Self::join_guarded_topic`]; [`Guard::new`] lets the source publish media and
    /// everybody chat.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use suffuse::{
    ///     BroadcastOptions, CommandError, Config, Engine, Guard, Instant, LivestreamTracks, PublishOptions, Seed,
    ///     StreamState, SwarmId,
    /// };
    ///
    /// let (concert, now) = (SwarmId::from_name("concert"), Instant::ZERO);
    /// let mut engine = Engine::new(0u64, Config::default(), Seed::from_u64(0), now).unwrap();
    /// // 2.5 Mbit/s of media, and four times that to send them with.
    /// engine.open_livestream(concert, BroadcastOptions::new(312_500, 1_250_000), Guard::new(), now)?;
    ///
    /// let (visual, frame) = (LivestreamTracks::default().visual(), Bytes::from(vec![0; 30_000]));
    /// let options = PublishOptions { keyframe: true, ..PublishOptions::default() };
    /// let early = engine.publish(concert, visual, frame.clone(), options, now);
    /// assert_eq!(early, Err(CommandError::NotActive(StreamState::Initializing)));
    ///
    /// engine.set_stream_state(concert, StreamState::Active, now)?;
    /// let id = engine.publish(concert, visual, frame, options, now)?;
    /// assert_eq!(LivestreamTracks::frame_number(id.sequence), 0);
    /// # Ok::<(), CommandError>(())
    /// ```
    ///
    /// # Errors
    /// A swarm with this id or tag is joined already, there are too many swarms, the engine was named as its own tracker, an
    /// option is outside its range, the source's upload does not carry the stream once ([`CommandError::Plan`]), or the guard
    /// seals and has no signer. Nothing was changed.
    pub fn open_livestream(
        &mut self,
        swarm: SwarmId,
        options: BroadcastOptions<P>,
        guard: Guard<P>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let tag = self.vacant(swarm)?;
        if options.tracker == Some(self.local) {
            return Err(CommandError::OwnName);
        }
        let now = self.advance(now);
        let (local, epoch) = (self.local, self.epoch_min);
        let seed = self.seed.fork(self.joins + 1);
        let stream = Livestream::open(local, swarm, epoch, &self.config, &options, guard, seed, now)?;
        self.begin_livestream(swarm, tag, stream);
        Ok(())
    }

    /// Watches a livestream. [`Event::Joined`](crate::Event::Joined) tells when somebody feeds every part of it,
    /// [`Event::WatchRefused`](crate::Event::WatchRefused) that there is no place for now; the engine keeps asking until
    /// [`Self::leave`].
    ///
    /// # Errors
    /// A swarm with this id or tag is joined already, there are too many swarms, the engine was named as its own source or
    /// tracker, or an option is outside its range. Nothing was changed.
    pub fn watch_livestream(
        &mut self,
        swarm: SwarmId,
        options: WatchOptions<P>,
        guard: Guard<P>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let tag = self.vacant(swarm)?;
        if options.source == self.local || options.tracker == Some(self.local) {
            return Err(CommandError::OwnName);
        }
        let now = self.advance(now);
        let (local, epoch) = (self.local, self.epoch_min);
        let seed = self.seed.fork(self.joins + 1);
        let stream = Livestream::watch(local, swarm, epoch, &self.config, &options, guard, seed, now)?;
        self.begin_livestream(swarm, tag, stream);
        Ok(())
    }

    /// Plans a livestream of another engine, `source`, which names this one as its
    /// [`tracker`](BroadcastOptions::tracker). Both should have the same options; a tracker carries no media.
    ///
    /// # Errors
    /// A swarm with this id or tag is joined already, there are too many swarms, the engine was named as the source, an
    /// option is outside its range, or the source's upload does not carry the stream once. Nothing was changed.
    pub fn track_livestream(
        &mut self,
        swarm: SwarmId,
        options: BroadcastOptions<P>,
        source: P,
        now: Instant,
    ) -> Result<(), CommandError> {
        let tag = self.vacant(swarm)?;
        if source == self.local {
            return Err(CommandError::OwnName);
        }
        let now = self.advance(now);
        let (local, epoch) = (self.local, self.epoch_min);
        let seed = self.seed.fork(self.joins + 1);
        let stream = Livestream::track(local, swarm, epoch, &self.config, &options, source, seed, now)?;
        self.begin_livestream(swarm, tag, stream);
        Ok(())
    }

    fn begin_livestream(&mut self, swarm: SwarmId, tag: SwarmTag, stream: Livestream<P>) {
        self.joins += 1;
        self.add_swarm(tag, swarm, Swarm::Livestream(Box::new(stream)), None);
        self.with_livestream(tag, |stream, now, actions| stream.begin(now, actions));
    }

    /// Starts, pauses, resumes or ends a livestream. Initializing leads to active, active to paused and back, everything to
    /// ended, which is final.
    ///
    /// # Errors
    /// The swarm is not joined, no livestream, or another engine is its source; or that step does not exist. Nothing was
    /// changed.
    pub fn set_stream_state(
        &mut self,
        swarm: SwarmId,
        state: StreamState,
        now: Instant,
    ) -> Result<(), CommandError> {
        let (tag, stream) = self.livestream(swarm)?;
        if !stream.is_source() {
            return Err(CommandError::NotSource(swarm));
        }
        let from = stream.state();
        if !from.allows(state) {
            return Err(CommandError::StreamStep { from, to: state });
        }
        self.advance(now);
        self.with_livestream(tag, |stream, now, actions| stream.set_state(state, now, actions));
        Ok(())
    }

    /// Where a livestream is in its life, as far as this engine knows; `None` if it is not joined.
    pub fn stream_state(&self, swarm: SwarmId) -> Option<StreamState> {
        self.livestream(swarm).ok().map(|(_, stream)| stream.state())
    }

    /// Which layers this viewer wants from now on. Fewer at once, more from the next keyframe.
    ///
    /// # Errors
    /// The swarm is no livestream that is watched here, or the layer is above 7. Nothing was changed.
    pub fn set_stream_quality(
        &mut self,
        swarm: SwarmId,
        quality: StreamQuality,
        now: Instant,
    ) -> Result<(), CommandError> {
        check_quality(quality)?;
        let tag = self.watched(swarm)?;
        self.advance(now);
        self.with_livestream(tag, |stream, now, actions| stream.set_quality(quality, now, actions));
        Ok(())
    }

    /// Whether this viewer watches or lurks from now on.
    ///
    /// # Errors
    /// The swarm is no livestream that is watched here. Nothing was changed.
    pub fn set_stream_role(&mut self, swarm: SwarmId, role: Role, now: Instant) -> Result<(), CommandError> {
        let tag = self.watched(swarm)?;
        self.advance(now);
        self.with_livestream(tag, |stream, now, actions| stream.set_role(role, now, actions));
        Ok(())
    }

    /// What this viewer spends on others from now on, in bytes a second; `None` feeds nobody any more. At the source: what it
    /// sends to all that it feeds. Whoever plans is told, and moves those who are too many.
    ///
    /// # Errors
    /// The swarm is no livestream that is joined here, the upload is zero, or the source's does not carry the stream once
    /// ([`CommandError::Plan`] says what does). Nothing was changed.
    pub fn set_stream_upload(
        &mut self,
        swarm: SwarmId,
        upload_bytes_per_s: Option<u64>,
        now: Instant,
    ) -> Result<(), CommandError> {
        check_upload(upload_bytes_per_s)?;
        let (tag, stream) = self.livestream(swarm)?;
        stream.check_source_upload(upload_bytes_per_s.unwrap_or(0)).map_err(CommandError::Plan)?;
        self.advance(now);
        self.with_livestream(tag, |stream, now, actions| {
            stream.set_upload(upload_bytes_per_s.unwrap_or(0), now, actions);
        });
        Ok(())
    }

    /// Asks the source for a keyframe: after a decoder has lost its state, say. Requests of many viewers become one.
    ///
    /// # Errors
    /// The swarm is no livestream that is watched here. Nothing was changed.
    pub fn request_keyframe(&mut self, swarm: SwarmId, now: Instant) -> Result<(), CommandError> {
        let tag = self.watched(swarm)?;
        self.advance(now);
        self.with_livestream(tag, |stream, now, actions| stream.want_keyframe(now, actions));
        Ok(())
    }

    /// Counters and sizes of a livestream; `None` if it is not joined.
    pub fn livestream_stats(&self, swarm: SwarmId) -> Option<LivestreamStats> {
        self.livestream(swarm).ok().map(|(_, stream)| stream.stats(self.now))
    }

    /// The greatest media frame that can be published in a livestream, in bytes: less with parity, and less with seals.
    /// `None` if it is not joined.
    pub fn media_bytes_max(&self, swarm: SwarmId) -> Option<usize> {
        self.livestream(swarm).ok().map(|(_, stream)| stream.media_bytes_max())
    }

    /// Who feeds this engine in a livestream, stripe by stripe. Empty if it is not joined, or this is its source.
    pub fn stream_parents(&self, swarm: SwarmId) -> alloc::vec::Vec<Option<P>> {
        let relay = self.livestream(swarm).ok().and_then(|(_, stream)| stream.relay());
        relay.map_or_else(alloc::vec::Vec::new, |relay| relay.parents().collect())
    }

    fn livestream(&self, swarm: SwarmId) -> Result<(SwarmTag, &Livestream<P>), CommandError> {
        let tag = self.joined(swarm)?;
        let stream = self.swarms[&tag].swarm.livestream();
        stream.map(|stream| (tag, stream)).ok_or(CommandError::NotLivestream(swarm))
    }

    fn watched(&self, swarm: SwarmId) -> Result<SwarmTag, CommandError> {
        let (tag, stream) = self.livestream(swarm)?;
        if stream.is_source() { Err(CommandError::NotWatched(swarm)) } else { Ok(tag) }
    }

    pub(super) fn with_livestream(
        &mut self,
        tag: SwarmTag,
        act: impl FnOnce(&mut Livestream<P>, Instant, &mut SwarmActions<P>),
    ) {
        self.with_swarm(tag, |swarm, now, actions| {
            if let Some(stream) = swarm.livestream_mut() {
                act(stream, now, actions);
            }
        });
    }

    /// Whether the state is a media track of a livestream.
    pub(super) fn is_media(&self, tag: SwarmTag, state: StateId) -> bool {
        let parsed = LivestreamTracks::parse(state);
        let media = parsed.is_some_and(|(tracks, kind, _)| tracks.stream() == 0 && kind != TrackKind::Chat);
        media && self.swarms.get(&tag).is_some_and(|joined| joined.swarm.livestream().is_some())
    }

    pub(super) fn publish_media(
        &mut self,
        swarm: SwarmId,
        state: StateId,
        payload: Bytes,
        options: PublishOptions,
        now: Instant,
    ) -> Result<UpdateId<P>, CommandError> {
        let (tag, stream) = self.livestream(swarm)?;
        if !stream.is_source() {
            return Err(CommandError::NotSource(swarm));
        }
        let (stage, max) = (stream.state(), stream.media_bytes_max());
        if stage != StreamState::Active {
            return Err(CommandError::NotActive(stage));
        }
        if payload.len() > max {
            return Err(CommandError::Oversize { bytes: payload.len(), max });
        }
        if options.flood {
            return Err(CommandError::Flood);
        }
        stream.may_publish(state, self.now.max(now)).map_err(CommandError::NotAuthorized)?;
        self.advance(now);
        let mut id = None;
        self.with_livestream(tag, |stream, now, actions| {
            id = Some(stream.publish(state, payload, options, now, actions));
        });
        id.ok_or(CommandError::UnknownSwarm(swarm))
    }
}
