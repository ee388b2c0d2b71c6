//! The media of a group: one livestream for each track of each participant, planned by that participant.
//!
//! | file | what it decides |
//! |---|---|
//! | `mod.rs` | which livestreams are open and watched; what the application is told |
//! | `interest.rs` | whom to receive, and how well |
//! | `voice.rs` | who speaks |
//! | `relays.rs` | who passes on what others show, in large groups |
//! | `upload.rs` | what is spent on own tracks and on those of others |
//! | `options.rs` | what the application says and hears |
//!
//! A track that is switched on again is another livestream: nothing of the earlier one can come.

mod interest;
mod options;
mod relays;
mod upload;
mod voice;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

pub use options::{GroupMedia, MediaFrameOptions, MediaOptions, MediaTopology, MediaTrack};
use options::{PICTURES_PER_S, UPLOAD_MAX};

use super::{Group, Stage};
use crate::authority::LivestreamTracks;
use crate::config::Config;
use crate::error::CommandError;
use crate::id::{StateId, SwarmId};
use crate::interest::TrackKind;
use crate::io::{Event, GroupEvent};
use crate::rng::mix;
use crate::swarm::{BroadcastOptions, DeliveryOrder, StreamOrder, SwarmAction, SwarmActions, WatchOptions};
use crate::time::Instant;
use crate::wire::{MediaProfile, Profile, WirePeer};
use interest::{Member, Ranking};
use relays::{Cost, LARGE, Offer, Office, Step};
use upload::{Demand, Helped, Helper, Share};
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
    /// The roster of which the streams follow.
    revision: u64,
    /// Something else has changed since.
    stale: bool,
    /// Large pictures that are to be received, and since when: those who publish them still relay those of others.
    awaited: BTreeMap<SwarmId, Instant>,
    reviewed: Instant,
    /// What tracks take on the wire.
    costs: [Cost; TRACKS.len()],
    office: Office<P>,
}

/// A livestream of the group.
#[derive(Clone, Debug)]
struct Stream<P> {
    peer: P,
    track: MediaTrack,
    /// What it may spend, in bytes a second.
    upload: u64,
    /// Whether the application was told that frames come.
    told: bool,
    /// What is sent of it, parity included, in percent.
    redundancy: u16,
    /// Of an own track: who is expected to receive it, and what each can spend on passing it on.
    expected: Vec<(P, u64)>,
}

/// What there should be of a livestream.
#[derive(Clone, Debug)]
struct Wanted<P> {
    peer: P,
    share: Share,
    expected: Vec<(P, u64)>,
    /// Of another's track: whether some pass it on to others.
    is_relayed: bool,
}

/// Who gives to whose track, and how much, in bytes a second.
type Gifts<P> = BTreeMap<(P, P, MediaTrack), u64>;

/// A roster that changes fast is looked at no more often than this.
const REVIEW_INTERVAL: Duration = Duration::from_millis(20);

/// Uploads that change by less are left alone, as one part of so many: each change moves others.
const UPLOAD_STEP: u64 = 8;

/// So long it takes until somebody else relays what one has relayed.
const HAND_OVER: Duration = Duration::from_millis(250);

/// How much is kept for repair and late comers: so many seconds of a track, and what a large frame takes.
const RETAINED_S: u64 = 3;
const RETAINED_BYTES_MIN: u64 = 128 << 10;

/// No group has more receivers.
const VIEWERS_MAX: usize = 65_536;

const TRACKS: [MediaTrack; 4] =
    [MediaTrack::Audio, MediaTrack::Thumbnail, MediaTrack::Video, MediaTrack::Screen];

impl<P: WirePeer> Group<P> {
    // --- commands -------------------------------------------------------------------------------------------------

    pub(crate) fn with_media(
        mut self,
        options: Option<&MediaOptions>,
        config: &Config,
        now: Instant,
    ) -> Self {
        let is_sealed = self.topic.is_signed();
        let options = options.map(|options| if is_sealed { options.sealed() } else { options.clone() });
        self.media = options.as_ref().map(|options| Media {
            costs: TRACKS.map(|track| upload::cost(track, options, is_sealed, config)),
            office: Office::new(now),
            options: options.clone(),
            voice: Voice::default(),
            pins: BTreeSet::new(),
            streams: BTreeMap::new(),
            speakers: Vec::new(),
            revision: 0,
            stale: true,
            awaited: BTreeMap::new(),
            reviewed: now,
        });
        self.own.profile.media = options.map(|options| MediaProfile {
            upload_bytes_per_s: options.upload_bytes_per_s,
            ..MediaProfile::default()
        });
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

    /// A frame of an own track is published. That a screen is shown is told with its first frame: what was only claimed takes
    /// nobody's upload.
    pub(crate) fn note_published(&mut self, track: MediaTrack, now: Instant, actions: &mut SwarmActions<P>) {
        let Some(screen_us) = self.own.profile.claim_us.filter(|_| track == MediaTrack::Screen) else {
            return;
        };
        let Some(before) = self.own.profile.media.filter(|media| media.screen_us != screen_us) else {
            return;
        };
        let mut profile = self.own.profile.clone();
        profile.media = Some(MediaProfile { screen_us, ..before });
        self.write(profile, now);
        self.settle(now, actions);
    }

    /// Whether this node holds the office of a relay.
    pub(crate) fn is_elected(&self) -> bool {
        self.own.profile.media.is_some_and(|media| media.relay_us > 0)
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
        if self.media.as_mut().is_some_and(|media| media.voice.handle_timeout(now)) {
            self.tell_voice(now);
        }
    }

    pub(super) fn media_timeout(&self) -> Option<Instant> {
        let media = self.media.as_ref()?;
        let behind = media.stale || media.revision != self.roster.revision();
        let review = behind.then(|| media.reviewed + REVIEW_INTERVAL);
        let awaited = media.awaited.values().min().map(|&since| since + HAND_OVER);
        let look = media.office.poll_timeout().map(|at| at.max(media.reviewed + REVIEW_INTERVAL));
        [review, awaited, look, media.voice.poll_timeout()].into_iter().flatten().min()
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
            let behind = media.stale || media.revision != revision;
            let awaited = media.awaited.values().any(|&since| now - since >= HAND_OVER);
            let looks = media.office.poll_timeout().is_some_and(|at| at <= now);
            (behind || looks) && now - media.reviewed >= REVIEW_INTERVAL || awaited
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
        let (mut wanted, step) = self.wanted(&mut media, &ranking, now);
        media.put_off(&mut wanted, self.local, now);
        self.carry_over(&mut media, wanted, ranking.len() > LARGE, actions);
        self.media = Some(media);
        if let (Some(step), Some(before)) = (step, self.own.profile.media) {
            let relay_us = if step == Step::Take { self.clock.stamp(now) } else { 0 };
            let mut profile = self.own.profile.clone();
            profile.media = Some(MediaProfile { relay_us, ..before });
            self.write(profile, now);
        }
    }

    /// Which livestreams there should be, and what this node should do about passing on those of others.
    fn wanted(
        &self,
        media: &mut Media<P>,
        ranking: &Ranking<P>,
        now: Instant,
    ) -> (BTreeMap<SwarmId, Wanted<P>>, Option<Step>) {
        let options = &media.options;
        let receivers = ranking.len().saturating_sub(1) as u64;
        let elects = ranking.len() > LARGE && options.topology == MediaTopology::Auto;
        let offer = |(member, demands): (&Member<P>, Vec<Demand>)| Offer {
            peer: member.peer,
            upload: member.media.upload_bytes_per_s,
            joined_us: member.joined_us,
            relay_us: member.media.relay_us,
            demands,
        };
        let offers: Vec<_> = ranking.demands(options).map(offer).collect();
        let cost =
            |track: MediaTrack| media.costs[TRACKS.iter().position(|&other| other == track).unwrap_or(0)];
        let allotment = elects.then(|| relays::allot(&offers, cost, options));
        let step = media.office.review(self.local, &offers, allotment.as_ref(), now);
        let (own_shares, helpers, given) = match allotment {
            Some(mut allotment) => {
                let own = allotment.own.remove(&self.local).unwrap_or_default();
                let peers = ranking.peers().map(|peer| Helper { peer, spare: 0 });
                (own, peers.collect(), allotment.given)
            }
            None => self.shares(options, ranking),
        };
        let relayed: BTreeSet<(P, MediaTrack)> =
            given.keys().map(|&(_, whose, which)| (whose, which)).collect();
        let gives = |helper: P, peer: P, track| given.get(&(helper, peer, track)).copied().unwrap_or(0);
        let mut wanted = BTreeMap::new();
        if let Some(own) = ranking.get(self.local) {
            for track in TRACKS.into_iter().filter(|&track| own.has(track)) {
                let share = own_shares.iter().find(|share| share.track == track);
                let is_received = share.is_some();
                let share = share.copied().unwrap_or_else(|| upload::idle(track, receivers, options));
                let others = helpers.iter().filter(|helper| is_received && helper.peer != self.local);
                // Whoever has anything to spare may be asked for it when others fail.
                let gift = |helper: &Helper<P>| {
                    (helper.peer, gives(helper.peer, self.local, track).max(u64::from(helper.spare > 0)))
                };
                let expected = others.map(gift).collect();
                let own_track = Wanted { peer: self.local, share, expected, is_relayed: false };
                wanted.insert(self.stream_id(own, track), own_track);
            }
        }
        for ((peer, track), member) in ranking.wishes(self.local, &media.pins, options) {
            let bytes_per_s = gives(self.local, peer, track);
            let share = Share { track, bytes_per_s, whole: false, redundancy: 100 };
            let is_relayed = track == MediaTrack::Video && relayed.contains(&(peer, track));
            let id = self.stream_id(member, track);
            wanted.insert(id, Wanted { peer, share, expected: Vec::new(), is_relayed });
        }
        (wanted, step)
    }

    /// What this node spends on its own tracks, who may help, and what each gives to the tracks of others.
    fn shares(&self, options: &MediaOptions, ranking: &Ranking<P>) -> (Vec<Share>, Vec<Helper<P>>, Gifts<P>) {
        let (mut demanded, mut uploads) = (0u64, 0);
        for (member, demands) in ranking.demands(options) {
            let taken = demands.iter().map(|demand| upload::taken(demand, options));
            demanded = taken.fold(demanded, u64::saturating_add);
            uploads += member.media.upload_bytes_per_s.min(UPLOAD_MAX);
        }
        let mut percent = upload::balanced_percent(demanded, uploads);
        loop {
            let (mut own_shares, helped, helpers) = self.shares_of(percent, options, ranking);
            // What does not make a whole slot is lost: where all is just enough, it is too little.
            if upload::suffices(&helped, &helpers) || percent >= upload::GIVEN_PERCENT {
                if helped.iter().any(|helped| !helped.is_idle) {
                    // What is left of the upload is for others.
                    own_shares.iter_mut().for_each(|share| share.redundancy = 100);
                }
                let given = upload::give(&helped, &helpers);
                return (own_shares, helpers, given);
            }
            percent += 1;
        }
    }

    /// The same if those who need help use so much of their uploads, in percent, for others and for themselves.
    fn shares_of(
        &self,
        balanced_percent: u64,
        options: &MediaOptions,
        ranking: &Ranking<P>,
    ) -> (Vec<Share>, Vec<Helped<P>>, Vec<Helper<P>>) {
        let receivers = ranking.len().saturating_sub(1) as u64;
        let (mut own_shares, mut helped, mut helpers) = (Vec::new(), Vec::new(), Vec::new());
        for (member, demands) in ranking.demands(options) {
            let upload_bytes_per_s = member.media.upload_bytes_per_s.min(UPLOAD_MAX);
            let options = MediaOptions { upload_bytes_per_s, ..options.clone() };
            let mut shares = upload::divide(&demands, balanced_percent, &options);
            for (demand, share) in demands.iter().zip(&shares) {
                let need = upload::missing(demand, share, &options);
                if need > 0 {
                    let (track, slot) = (share.track, upload::slot(share.track, &options));
                    helped.push(Helped { peer: member.peer, track, need, slot, is_idle: false });
                }
            }
            let (peer, spare) = (member.peer, upload::spare(&shares, balanced_percent, &options));
            helpers.push(Helper { peer, spare });
            if member.has_idle_screen() {
                let demand = Demand { track: MediaTrack::Screen, receivers };
                let share = upload::of_spare(&demand, spare, &options);
                let need = upload::missing(&demand, &share, &options);
                let slot = upload::slot(MediaTrack::Screen, &options);
                helped.push(Helped { peer, track: MediaTrack::Screen, need, slot, is_idle: true });
                shares.push(share);
            }
            if member.peer == self.local {
                own_shares = shares;
            }
        }
        (own_shares, helped, helpers)
    }

    /// Orders what leads from the present livestreams to the wanted ones.
    fn carry_over(
        &mut self,
        media: &mut Media<P>,
        wanted: BTreeMap<SwarmId, Wanted<P>>,
        is_exact: bool,
        actions: &mut SwarmActions<P>,
    ) {
        // Where parts are whole slots, each counts.
        let is_step =
            |before: u64, after: u64| if is_exact { before != after } else { is_step(before, after) };
        let closed: Vec<_> = media.streams.keys().copied().filter(|id| !wanted.contains_key(id)).collect();
        for id in closed {
            actions.push(order(StreamOrder::Close { id }));
            if let Some(stream) = media.streams.remove(&id).filter(|stream| stream.told) {
                self.tell(GroupEvent::TrackClosed { from: stream.peer, track: stream.track }, actions);
            }
        }
        for (id, Wanted { peer, share, expected, .. }) in wanted {
            let own = peer == self.local;
            let Share { track, bytes_per_s: upload, redundancy, .. } = share;
            let Some(stream) = media.streams.get_mut(&id) else {
                let node_upload = media.options.upload_bytes_per_s;
                if own {
                    media.stale = true;
                    let options = broadcast(share, &media.options);
                    actions.push(order(StreamOrder::Open { id, options, node_upload }));
                    actions.push(order(StreamOrder::Expect { id, viewers: expected.clone() }));
                } else {
                    let options = watch(peer, share, &media.options);
                    actions.push(order(StreamOrder::Watch { id, options, node_upload }));
                }
                let stream = Stream { peer, track, upload, told: own, redundancy: 100, expected };
                media.streams.insert(id, stream);
                continue;
            };
            if own && stream.redundancy != redundancy {
                stream.redundancy = redundancy;
                actions.push(order(StreamOrder::SetRedundancy { id, percent: redundancy }));
            }
            // The plan of an own stream counts whole places, and moves nobody for less.
            if own && stream.upload != upload || is_step(stream.upload, upload) {
                stream.upload = upload;
                actions.push(order(StreamOrder::SetUpload { id, bytes_per_s: upload }));
            }
            if own && stream.expected != expected {
                stream.expected.clone_from(&expected);
                actions.push(order(StreamOrder::Expect { id, viewers: expected }));
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
            joined_us: profile.joined_us,
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

impl<P: WirePeer> Media<P> {
    /// Large pictures that are relayed are received a little later than is decided: whoever publishes one has passed on those of
    /// others until now, and would have both to send.
    fn put_off(&mut self, wanted: &mut BTreeMap<SwarmId, Wanted<P>>, local: P, now: Instant) {
        let before = core::mem::take(&mut self.awaited);
        let is_new = |id: &SwarmId, wanted: &Wanted<P>| {
            wanted.is_relayed && wanted.peer != local && !self.streams.contains_key(id)
        };
        let new = wanted.iter().filter(|(id, wanted)| is_new(id, wanted)).map(|(id, _)| *id);
        let since = |id: SwarmId| (id, before.get(&id).copied().unwrap_or(now));
        self.awaited = new.map(since).filter(|(_, since)| now - *since < HAND_OVER).collect();
        wanted.retain(|id, _| !self.awaited.contains_key(id));
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

/// Whether an upload has changed by so much that something should be done about it.
fn is_step(before: u64, after: u64) -> bool {
    let step = before.abs_diff(after);
    step > before / UPLOAD_STEP || step > 0 && after == 0
}

fn order<P>(order: StreamOrder<P>) -> SwarmAction<P> {
    SwarmAction::Stream(alloc::boxed::Box::new(order))
}

fn retained_bytes(track: MediaTrack, options: &MediaOptions) -> usize {
    let bytes = (options.rate(track) * RETAINED_S).max(RETAINED_BYTES_MIN);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// About as many stripes as a large picture has chunks: then each relay passes on one chunk of every frame, and none of them a
/// burst now and then.
fn stripes(track: MediaTrack, options: &MediaOptions) -> u8 {
    match track {
        MediaTrack::Audio => 2,
        MediaTrack::Thumbnail => 1,
        MediaTrack::Video | MediaTrack::Screen => {
            (options.rate(track) / PICTURES_PER_S).div_ceil(CHUNK_BYTES_TYPICAL).clamp(4, 8) as u8
        }
    }
}

const CHUNK_BYTES_TYPICAL: u64 = 1_150;

fn broadcast<P>(share: Share, options: &MediaOptions) -> BroadcastOptions<P> {
    let rate = upload::rate(share.track, options);
    let mut broadcast = BroadcastOptions::new(rate, share.bytes_per_s);
    broadcast.stripes = Some(stripes(share.track, options));
    broadcast.viewers_max = VIEWERS_MAX;
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
