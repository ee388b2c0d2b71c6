//! The media of a group: one livestream for each track of each participant, planned by that participant.
//!
//! | file | what it decides |
//! |---|---|
//! | `mod.rs` | which livestreams are open and watched; what the application is told |
//! | `interest.rs` | whom to receive, and how well |
//! | `voice.rs` | who speaks |
//! | `upload.rs` | what is spent on own tracks and on those of others |
//! | `options.rs` | what the application says and hears |
//!
//! A track that is switched on again is another livestream: nothing of the earlier one can come.

mod interest;
mod options;
mod upload;
mod voice;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

pub use options::{GroupMedia, MediaFrameOptions, MediaOptions, MediaTopology, MediaTrack};

use super::{Group, Stage};
use crate::authority::LivestreamTracks;
use crate::error::CommandError;
use crate::forest::PlanMode;
use crate::id::{StateId, SwarmId};
use crate::interest::TrackKind;
use crate::io::{Event, GroupEvent};
use crate::rng::mix;
use crate::swarm::{BroadcastOptions, DeliveryOrder, StreamOrder, SwarmAction, SwarmActions, WatchOptions};
use crate::time::Instant;
use crate::wire::{MediaProfile, Profile, WirePeer};
use interest::{Member, Ranking};
use upload::{Demand, Share};
use voice::{AUDIBLE, SPEAKING, Voice};

/// The media of this participant and those that it receives.
#[derive(Debug)]
pub(super) struct Media<P> {
    options: MediaOptions,
    voice: Voice,
    pins: BTreeSet<P>,
    /// Open and watched livestreams.
    streams: BTreeMap<SwarmId, Stream<P>>,
    speakers: Vec<P>,
    /// Whether this participant publishes [`MediaTrack::Video`], and when it did last.
    shows: bool,
    shown: Instant,
    /// The roster of which the streams follow.
    revision: u64,
    /// Something else has changed since.
    stale: bool,
    reviewed: Instant,
}

/// A livestream of the group.
#[derive(Clone, Copy, Debug)]
struct Stream<P> {
    peer: P,
    track: MediaTrack,
    /// What it may spend, in bytes a second.
    upload: u64,
    /// Whether the application was told that frames come.
    told: bool,
    /// Until then more is spent on it: relays are of little use before all have come.
    begins_until: Option<Instant>,
    /// What is sent of it, parity included, in percent.
    redundancy: u16,
}

/// A roster that changes fast is looked at no more often than this.
const REVIEW_INTERVAL: Duration = Duration::from_millis(20);

/// Uploads that change by less are left alone, as one part of so many: each change moves others.
const UPLOAD_STEP: u64 = 8;

/// A participant that publishes no video for this long has upload to spare.
const IDLE: Duration = Duration::from_secs(3);

/// How much is kept for repair and late comers: so many seconds of a track, and what a large frame takes.
const RETAINED_S: u64 = 3;
const RETAINED_BYTES_MIN: u64 = 128 << 10;

/// No group has more receivers.
const VIEWERS_MAX: usize = 65_536;

/// How long more is spent on a track that begins to be received by all.
const BEGINNING: Duration = Duration::from_millis(500);

const TRACKS: [MediaTrack; 4] =
    [MediaTrack::Audio, MediaTrack::Thumbnail, MediaTrack::Video, MediaTrack::Screen];

impl<P> Media<P> {
    /// When an own track has begun, and less may be spent on it.
    fn begun_at(&self) -> Option<Instant> {
        self.streams.values().filter_map(|stream| stream.begins_until).min()
    }
}

impl<P: WirePeer> Group<P> {
    // --- commands -------------------------------------------------------------------------------------------------

    pub(crate) fn with_media(mut self, options: Option<&MediaOptions>, now: Instant) -> Self {
        self.media = options.map(|options| Media {
            options: options.clone(),
            voice: Voice::default(),
            pins: BTreeSet::new(),
            streams: BTreeMap::new(),
            speakers: Vec::new(),
            shows: false,
            shown: now,
            revision: 0,
            stale: true,
            reviewed: now,
        });
        self.own.profile.media = options.map(|_| MediaProfile::default());
        self
    }

    /// The livestream of an own track that is on.
    pub(crate) fn own_stream(&self, track: MediaTrack) -> Result<SwarmId, CommandError> {
        let media = self.media.as_ref().ok_or(CommandError::NoMedia(self.swarm))?;
        let id = self.own_member().filter(|member| member.has(track)).map(|own| self.stream_id(&own, track));
        id.filter(|id| media.streams.contains_key(id)).ok_or(CommandError::TrackOff(track))
    }

    pub(crate) fn check_pin(&self, peer: P) -> Result<(), CommandError> {
        let media = self.media.as_ref().ok_or(CommandError::NoMedia(self.swarm))?;
        let max = media.options.full_max;
        if peer == self.local {
            Err(CommandError::OwnName)
        } else if !self.roster.is_in(peer) {
            Err(CommandError::UnknownParticipant)
        } else if media.pins.len() >= max && !media.pins.contains(&peer) {
            Err(CommandError::TooManyPins { max })
        } else {
            Ok(())
        }
    }

    pub(crate) fn set_pinned(&mut self, peer: P, pinned: bool, now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(media) = &mut self.media {
            media.stale |= if pinned { media.pins.insert(peer) } else { media.pins.remove(&peer) };
        }
        self.settle(now, actions);
    }

    pub(crate) fn check_media(&self) -> Result<(), CommandError> {
        if self.media.is_some() { Ok(()) } else { Err(CommandError::NoMedia(self.swarm)) }
    }

    pub(crate) fn hear_level(&mut self, level: u8, now: Instant, actions: &mut SwarmActions<P>) {
        if self.media.as_mut().is_some_and(|media| media.voice.hear(level, now)) {
            self.tell_voice(now);
        }
        self.settle(now, actions);
    }

    /// A frame of an own track is published.
    pub(crate) fn note_published(&mut self, track: MediaTrack, now: Instant, actions: &mut SwarmActions<P>) {
        let Some(media) = self.media.as_mut().filter(|_| track == MediaTrack::Video) else { return };
        media.shown = now;
        if !core::mem::replace(&mut media.shows, true) {
            media.stale = true;
            self.settle(now, actions);
        }
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = SwarmId> + '_ {
        self.media.iter().flat_map(|media| media.streams.keys().copied())
    }

    pub(crate) fn streams_of_others(&self) -> impl Iterator<Item = (SwarmId, P, MediaTrack)> + '_ {
        let streams = self.media.iter().flat_map(|media| &media.streams);
        let others = streams.filter(|(_, stream)| stream.peer != self.local);
        others.map(|(&id, stream)| (id, stream.peer, stream.track))
    }

    // --- in -------------------------------------------------------------------------------------------------------

    /// Takes the news of one of the group's livestreams.
    pub(crate) fn on_stream_event(&mut self, id: SwarmId, news: Event<P>, actions: &mut SwarmActions<P>) {
        let Some(media) = &mut self.media else { return };
        let Some(stream) = media.streams.get_mut(&id) else { return };
        let (from, track) = (stream.peer, stream.track);
        let news = match news {
            Event::Delivered(update) => {
                self.stats.media_delivered += 1;
                GroupEvent::Media(GroupMedia {
                    from,
                    track,
                    layer: update.layer,
                    number: LivestreamTracks::frame_number(update.id.sequence),
                    keyframe: update.keyframe,
                    captured: update.born,
                    hops: update.hops,
                    payload: update.payload,
                })
            }
            Event::Lagged { sequences, .. } => {
                let count = sequences.end.saturating_sub(sequences.start);
                self.stats.media_lost += count;
                GroupEvent::MediaLost { from, track, count }
            }
            Event::Joined { .. } if !stream.told => {
                stream.told = true;
                GroupEvent::TrackOpened { from, track }
            }
            Event::KeyframeWanted { .. } => GroupEvent::KeyframeWanted { track },
            Event::WatchRefused { .. } => {
                self.stats.places_refused += 1;
                return;
            }
            _ => return,
        };
        self.tell(news, actions);
    }

    /// A livestream could not be opened or watched: there is no room for it. It is tried again with the next change.
    pub(crate) fn stream_failed(&mut self, id: SwarmId) {
        self.stats.streams_refused += 1;
        if let Some(media) = &mut self.media {
            media.streams.remove(&id);
        }
    }

    pub(super) fn media_tick(&mut self, now: Instant) {
        if let Some(media) = self.media.as_mut().filter(|media| media.shows && now - media.shown >= IDLE) {
            (media.shows, media.stale) = (false, true);
        }
        if self.media.as_mut().is_some_and(|media| media.voice.handle_timeout(now)) {
            self.tell_voice(now);
        }
    }

    pub(super) fn media_timeout(&self) -> Option<Instant> {
        let media = self.media.as_ref()?;
        let behind = media.stale || media.revision != self.roster.revision();
        let review = behind.then(|| media.reviewed + REVIEW_INTERVAL);
        let idle = media.shows.then(|| media.shown + IDLE);
        [review, media.begun_at(), media.voice.poll_timeout(), idle].into_iter().flatten().min()
    }

    /// Somebody is not in any more: a pin would keep its place.
    pub(super) fn unpin_gone(&mut self, peer: P) {
        if let Some(media) = &mut self.media {
            media.pins.remove(&peer);
        }
    }

    // --- own entry ------------------------------------------------------------------------------------------------

    /// Notes in a changed profile which tracks are on that were off.
    pub(super) fn note_openings(&self, profile: &mut Profile<P>) {
        let before = self.own.profile.switches;
        let begins = |bit| before & bit == 0 && profile.switches & bit != 0;
        let (audio, video) = (begins(super::options::AUDIO), begins(super::options::VIDEO));
        if let Some(media) = &mut profile.media {
            media.audio_openings = media.audio_openings.wrapping_add(audio.into());
            media.video_openings = media.video_openings.wrapping_add(video.into());
        }
    }

    fn tell_voice(&mut self, now: Instant) {
        let (Some(media), Stage::In) = (&self.media, self.stage) else { return };
        let voice = media.voice.state();
        let Some(before) = self.own.profile.media else { return };
        // Where everybody hears everybody nobody needs to know of a sound that may become speech.
        let told =
            if voice == AUDIBLE && self.roster.len() <= media.options.listeners_max { 0 } else { voice };
        let begins = told >= SPEAKING && before.voice < SPEAKING;
        if told == before.voice {
            return;
        }
        let turn_us = if begins { self.clock.stamp(now) } else { before.turn_us };
        let mut profile = self.own.profile.clone();
        profile.media = Some(MediaProfile { voice: told, turn_us, ..before });
        self.write(profile, now);
    }

    // --- streams --------------------------------------------------------------------------------------------------

    /// Opens, watches and closes livestreams, as the roster says.
    pub(super) fn review_media(&mut self, now: Instant, actions: &mut SwarmActions<P>) {
        let revision = self.roster.revision();
        let due = |media: &Media<P>| {
            let begun = media.begun_at().is_some_and(|at| at <= now);
            let behind = media.stale || media.revision != revision;
            begun || behind && now - media.reviewed >= REVIEW_INTERVAL
        };
        let Some(mut media) = self.media.take_if(|media| due(media)) else { return };
        (media.revision, media.stale, media.reviewed) = (revision, false, now);
        let members = self.roster.present().filter_map(|peer| self.member(peer));
        let ranking = Ranking::new(members.collect());
        let speakers = ranking.speakers(&media.options);
        if speakers != media.speakers {
            media.speakers.clone_from(&speakers);
            self.tell(GroupEvent::SpeakersChanged { speakers }, actions);
        }
        let wanted = self.wanted(&media, &ranking);
        let receivers = ranking.len().saturating_sub(1) as u64;
        self.carry_over(&mut media, &wanted, receivers, now, actions);
        self.media = Some(media);
    }

    /// Which livestreams there should be.
    fn wanted(&self, media: &Media<P>, ranking: &Ranking<P>) -> BTreeMap<SwarmId, (P, Share)> {
        let options = &media.options;
        let mut wanted = BTreeMap::new();
        let receivers = ranking.len().saturating_sub(1) as u64;
        let is_full = ranking.shown_in_full(options).any(|peer| peer == self.local);
        let is_shown = ranking.shown(options).any(|peer| peer == self.local);
        let mut spare = upload::spare(&[], options);
        if let Some(own) = ranking.get(self.local) {
            let heard = own.media.voice >= AUDIBLE || is_full;
            let is_received = |track| match track {
                MediaTrack::Audio => heard,
                MediaTrack::Thumbnail => is_shown,
                MediaTrack::Video => is_full,
                MediaTrack::Screen => true,
            };
            let on = || TRACKS.into_iter().filter(|&track| own.has(track));
            let demands = on().filter(|&track| is_received(track)).map(|track| Demand { track, receivers });
            let mut demands: Vec<_> = demands.collect();
            let shares = upload::divide(&demands, options);
            // Places are held for all; what is not sent costs nothing.
            demands.retain(|demand| demand.track != MediaTrack::Video || media.shows);
            spare = upload::spare(&upload::divide(&demands, options), options);
            for track in on() {
                let idle = || upload::idle(track, receivers, options);
                let share = shares.iter().find(|share| share.track == track).copied().unwrap_or_else(idle);
                wanted.insert(self.stream_id(own, track), (self.local, share));
            }
        }
        // What others can feed themselves needs no relays.
        let speaker = TRACKS.map(|track| Demand { track, receivers });
        let relayed: Vec<_> =
            upload::divide(&speaker[..3], options).into_iter().filter(|share| !share.whole).collect();
        let wishes = ranking.wishes(self.local, &media.pins, options);
        let is_relayed =
            |track| track == MediaTrack::Screen || relayed.iter().any(|share| share.track == track);
        let weight = |track| match track {
            track if !is_relayed(track) => 0,
            // Nobody may miss it.
            MediaTrack::Screen => 2 * upload::rate(track, options),
            track => upload::rate(track, options),
        };
        let weights: u64 = wishes.keys().map(|&(_, track)| weight(track)).sum();
        for (&(peer, track), member) in &wishes {
            let bytes_per_s = spare * weight(track) / weights.max(1);
            wanted.insert(
                self.stream_id(member, track),
                (peer, Share { track, bytes_per_s, whole: false, is_received: true, redundancy: 100 }),
            );
        }
        wanted
    }

    /// Orders what leads from the present livestreams to the wanted ones.
    fn carry_over(
        &mut self,
        media: &mut Media<P>,
        wanted: &BTreeMap<SwarmId, (P, Share)>,
        receivers: u64,
        now: Instant,
        actions: &mut SwarmActions<P>,
    ) {
        let closed: Vec<_> = media.streams.keys().copied().filter(|id| !wanted.contains_key(id)).collect();
        for id in closed {
            actions.push(order(StreamOrder::Close { id }));
            if let Some(stream) = media.streams.remove(&id).filter(|stream| stream.told) {
                self.tell(GroupEvent::TrackClosed { from: stream.peer, track: stream.track }, actions);
            }
        }
        for (&id, &(peer, mut share)) in wanted {
            let own = peer == self.local;
            let before = media.streams.get(&id);
            let mut begins_until = before.and_then(|stream| stream.begins_until).filter(|&until| now < until);
            if own && !share.whole {
                let stripes = stripes(share.track, receivers);
                let beginning = upload::beginning(share.track, receivers, stripes, &media.options);
                let was_idle = before.is_none_or(|stream| stream.upload < share.bytes_per_s);
                if share.bytes_per_s < beginning && was_idle && share.is_received {
                    begins_until = Some(now + BEGINNING);
                }
                if begins_until.is_some() {
                    share.bytes_per_s = share.bytes_per_s.max(beginning);
                }
            }
            let Share { track, bytes_per_s: upload, .. } = share;
            let Some(stream) = media.streams.get_mut(&id) else {
                media
                    .streams
                    .insert(id, Stream { peer, track, upload, told: own, begins_until, redundancy: 100 });
                let node_upload = media.options.upload_bytes_per_s;
                actions.push(order(if own {
                    media.stale = true;
                    let options = broadcast(share, receivers, &media.options);
                    StreamOrder::Open { id, options, node_upload }
                } else {
                    StreamOrder::Watch { id, options: watch(peer, share, &media.options), node_upload }
                }));
                continue;
            };
            stream.begins_until = begins_until;
            if own && stream.redundancy != share.redundancy {
                stream.redundancy = share.redundancy;
                actions.push(order(StreamOrder::SetRedundancy { id, percent: share.redundancy }));
            }
            let step = stream.upload.abs_diff(upload);
            if step > stream.upload / UPLOAD_STEP || (step > 0 && upload == 0) {
                stream.upload = upload;
                actions.push(order(StreamOrder::SetUpload { id, bytes_per_s: upload }));
            }
        }
    }

    fn own_member(&self) -> Option<Member<P>> {
        self.member(self.local)
    }

    fn member(&self, peer: P) -> Option<Member<P>> {
        let record = self.roster.record(peer)?;
        let profile = self.roster.profile(peer)?;
        let media = profile.media?;
        let is_on = |bit: u8| profile.switches & bit != 0;
        let shows = self.holder == Some(peer);
        Some(Member {
            peer,
            incarnation: record.incarnation,
            audio: is_on(super::options::AUDIO),
            video: is_on(super::options::VIDEO),
            screen_us: profile.claim_us.filter(|_| shows),
            media,
        })
    }

    /// Everybody finds the livestream of a track by what the roster says of its participant.
    fn stream_id(&self, member: &Member<P>, track: MediaTrack) -> SwarmId {
        let parts = [member.peer.digest(), member.incarnation.into(), track as u64, member.opening(track)];
        SwarmId(parts.into_iter().fold(mix(self.swarm.0), |hash, part| mix(hash ^ mix(part))))
    }
}

/// Whether somebody who says that of its media speaks.
pub(super) fn speaks(media: &MediaProfile) -> bool {
    media.voice >= SPEAKING
}

/// The state of a frame inside its livestream.
pub(crate) fn media_state(track: MediaTrack, layer: u8) -> Result<StateId, CommandError> {
    let tracks = LivestreamTracks::default();
    let kind = if track == MediaTrack::Audio { TrackKind::Audio } else { TrackKind::Visual };
    let has_layers = matches!(track, MediaTrack::Video | MediaTrack::Screen);
    tracks.layer(kind, layer).filter(|_| has_layers || layer == 0).ok_or(CommandError::Layer(layer))
}

fn order<P>(order: StreamOrder<P>) -> SwarmAction<P> {
    SwarmAction::Stream(alloc::boxed::Box::new(order))
}

fn retained_bytes(track: MediaTrack, options: &MediaOptions) -> usize {
    let bytes = (options.rate(track) * RETAINED_S).max(RETAINED_BYTES_MIN);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// As many relays as there are stripes feed everybody over two links; more would be more connections than it is worth.
fn stripes(track: MediaTrack, receivers: u64) -> u8 {
    match track {
        MediaTrack::Audio => 2,
        MediaTrack::Thumbnail => 1,
        MediaTrack::Video | MediaTrack::Screen => receivers.saturating_sub(2).clamp(4, 16) as u8,
    }
}

fn broadcast<P>(share: Share, receivers: u64, options: &MediaOptions) -> BroadcastOptions<P> {
    let rate = upload::rate(share.track, options);
    let mut broadcast = BroadcastOptions::new(rate, share.bytes_per_s);
    broadcast.stripes = Some(stripes(share.track, receivers));
    broadcast.mode = match options.topology {
        MediaTopology::Auto => PlanMode::Auto,
        MediaTopology::Mesh => PlanMode::Star,
        MediaTopology::Relay => PlanMode::Forest,
    };
    broadcast.star_to_tree_threshold = VIEWERS_MAX;
    broadcast.deadline = options.deadline;
    broadcast.retained_bytes_max = retained_bytes(share.track, options);
    broadcast.chat = false;
    broadcast
}

fn watch<P>(source: P, share: Share, options: &MediaOptions) -> WatchOptions<P> {
    let mut watch = WatchOptions::new(source);
    watch.upload_bytes_per_s = Some(share.bytes_per_s).filter(|&upload| upload > 0);
    watch.order = DeliveryOrder::AsComplete;
    watch.quality = crate::swarm::StreamQuality::UpTo(7);
    watch.retained_bytes_max = retained_bytes(share.track, options);
    watch.chat = false;
    watch
}
