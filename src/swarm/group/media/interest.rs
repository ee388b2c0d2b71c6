//! Whom to receive, and how well: everybody who has the same roster comes to the same order of participants, so those whom
//! nobody looks at send nothing, and what one receives does not grow with the group.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::options::{MediaOptions, MediaTrack};
use super::upload::Demand;
use super::voice::{AUDIBLE, SPEAKING};
use crate::wire::{MediaProfile, WirePeer};

/// With more participants than this, whoever is shown large is not shown small, too.
const SPARING: usize = 8;

/// A participant, as far as its media are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<P> {
    pub(super) peer: P,
    pub(super) incarnation: u32,
    pub(super) joined_us: u64,
    pub(super) audio: bool,
    pub(super) video: bool,
    /// The claim with which it shows its screen.
    pub(super) screen_us: Option<u64>,
    pub(super) media: MediaProfile,
}

impl<P: WirePeer> Member<P> {
    pub(super) fn has(&self, track: MediaTrack) -> bool {
        match track {
            MediaTrack::Audio => self.audio,
            MediaTrack::Thumbnail | MediaTrack::Video => self.video,
            MediaTrack::Screen => self.screen_us.is_some(),
        }
    }

    /// Whether it has the screen and has not shown anything yet.
    pub(super) fn has_idle_screen(&self) -> bool {
        self.screen_us.is_some_and(|claim_us| claim_us != self.media.screen_us)
    }

    /// Tells the openings of a track apart.
    pub(super) fn opening(&self, track: MediaTrack) -> u64 {
        match track {
            MediaTrack::Audio => self.media.audio_openings.into(),
            MediaTrack::Thumbnail | MediaTrack::Video => self.media.video_openings.into(),
            MediaTrack::Screen => self.screen_us.unwrap_or(0),
        }
    }
}

/// The participants in the order of their importance: who speaks, the loudest first, then who spoke last, then who came
/// first.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranking<P> {
    members: Vec<Member<P>>,
}

impl<P: WirePeer> Ranking<P> {
    /// Of participants in the order of joining.
    pub(super) fn new(mut members: Vec<Member<P>>) -> Self {
        members.sort_by_key(|member| {
            let MediaProfile { voice, turn_us, .. } = member.media;
            if voice >= SPEAKING {
                (Reverse(voice), Reverse(0), turn_us)
            } else {
                (Reverse(0), Reverse(turn_us), 0)
            }
        });
        Self { members }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = P> + '_ {
        self.members.iter().map(|member| member.peer)
    }

    pub(super) fn get(&self, peer: P) -> Option<&Member<P>> {
        self.members.iter().find(|member| member.peer == peer)
    }

    /// Who speaks, those whom everybody sees first.
    pub(super) fn speakers(&self, options: &MediaOptions) -> Vec<P> {
        let speaking = self.members.iter().filter(|member| member.audio && member.media.voice >= SPEAKING);
        speaking.map(|member| member.peer).take(options.full_max).collect()
    }

    /// Whom everybody receives in full who has nobody pinned.
    pub(super) fn shown_in_full(&self, options: &MediaOptions) -> impl Iterator<Item = P> + '_ {
        // In a small group one place more is nobody's burden: nobody watches itself.
        let places = options.full_max + usize::from(self.len() <= options.full_max + 1);
        self.with_video().take(places)
    }

    /// Whom everybody receives at least as a thumbnail.
    pub(super) fn shown(&self, options: &MediaOptions) -> impl Iterator<Item = P> + '_ {
        self.with_video().take(options.full_max + options.thumbnails_max)
    }

    fn with_video(&self) -> impl Iterator<Item = P> + '_ {
        self.members.iter().filter(|member| member.video).map(|member| member.peer)
    }

    /// The tracks of each participant that all others are expected to receive. Pins are not known to others.
    pub(super) fn demands(&self, options: &MediaOptions) -> impl Iterator<Item = (&Member<P>, Vec<Demand>)> {
        let full: BTreeSet<P> = self.shown_in_full(options).collect();
        let shown: BTreeSet<P> = self.shown(options).collect();
        let receivers = self.len().saturating_sub(1) as u64;
        let is_sparing = self.len() > SPARING;
        self.members.iter().map(move |member| {
            let is_full = full.contains(&member.peer);
            let received = [
                (MediaTrack::Audio, member.media.voice >= AUDIBLE || is_full),
                (MediaTrack::Thumbnail, shown.contains(&member.peer) && !(is_sparing && is_full)),
                (MediaTrack::Video, is_full),
                (MediaTrack::Screen, !member.has_idle_screen()),
            ];
            let on = received.into_iter().filter(|&(track, received)| received && member.has(track));
            (member, on.map(|(track, _)| Demand { track, receivers }).collect())
        })
    }

    /// Whether everybody receives the sound of everybody who lets itself be heard.
    pub(super) fn all_listen(&self, options: &MediaOptions) -> bool {
        self.len() <= options.listeners_max
    }

    /// What `local` wants to receive of the others.
    pub(super) fn wishes(
        &self,
        local: P,
        pins: &BTreeSet<P>,
        options: &MediaOptions,
    ) -> BTreeMap<(P, MediaTrack), &Member<P>> {
        let pinned = self.with_video().filter(|peer| pins.contains(peer)).take(options.full_max);
        let mut full: BTreeSet<P> = pinned.collect();
        let places = full.len();
        for peer in self.shown_in_full(options).filter(|&peer| peer != local) {
            if full.len() < options.full_max.max(places) {
                full.insert(peer);
            }
        }
        let shown: BTreeSet<P> = self.shown(options).chain(full.iter().copied()).collect();
        let all_listen = self.all_listen(options);
        // Where many watch nothing is to spare for a small picture beside the large one.
        let is_sparing = self.len() > SPARING;
        let mut wishes = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.peer != local) {
            let peer = member.peer;
            let heard = all_listen || member.media.voice >= AUDIBLE || shown.contains(&peer);
            let wanted = [
                (MediaTrack::Audio, heard),
                (MediaTrack::Thumbnail, shown.contains(&peer) && !(is_sparing && full.contains(&peer))),
                (MediaTrack::Video, full.contains(&peer)),
                (MediaTrack::Screen, true),
            ];
            for (track, _) in wanted.into_iter().filter(|&(track, wanted)| wanted && member.has(track)) {
                wishes.insert((peer, track), member);
            }
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(peer: u64, voice: u8, turn_us: u64) -> Member<u64> {
        let media = MediaProfile { voice, turn_us, ..MediaProfile::default() };
        Member { peer, incarnation: 0, joined_us: peer, audio: true, video: true, screen_us: None, media }
    }

    fn received(ranking: &Ranking<u64>, local: u64, pins: &[u64], track: MediaTrack) -> Vec<u64> {
        let pins = pins.iter().copied().collect();
        let wishes = ranking.wishes(local, &pins, &MediaOptions::new(625_000));
        wishes.into_keys().filter(|(_, other)| *other == track).map(|(peer, _)| peer).collect()
    }

    /// Three speak.
    fn talk(count: u64) -> Ranking<u64> {
        let members = (0..count).map(|peer| match peer {
            7 | 9 => member(peer, SPEAKING, 100 + peer),
            3 => member(peer, SPEAKING + 1, 500),
            _ => member(peer, 0, peer % 20),
        });
        Ranking::new(members.collect())
    }

    #[test]
    fn speakers_are_shown_in_full_and_the_last_ones_small() {
        let ranking = talk(32);
        assert_eq!(ranking.speakers(&MediaOptions::new(625_000)), [3, 7, 9]);
        assert_eq!(received(&ranking, 0, &[], MediaTrack::Video), [3, 7, 9]);
        assert_eq!(received(&ranking, 7, &[], MediaTrack::Video), [3, 9], "nobody receives itself");
        assert_eq!(received(&ranking, 0, &[], MediaTrack::Thumbnail).len(), 9, "nobody is sent twice");
        assert_eq!(received(&talk(8), 0, &[], MediaTrack::Thumbnail).len(), 7, "few can afford both");
        assert_eq!(received(&ranking, 0, &[], MediaTrack::Audio).len(), 31);
        assert_eq!(received(&ranking, 0, &[21], MediaTrack::Video), [3, 7, 21], "a pin takes a place");
        let small = received(&ranking, 0, &[21], MediaTrack::Thumbnail);
        assert!(small.contains(&9) && !small.contains(&21), "whose place it takes is shown small: {small:?}");
    }

    #[test]
    fn in_large_groups_who_is_shown_in_full_is_not_shown_small_besides() {
        let ranking = talk(40);
        assert_eq!(received(&ranking, 0, &[], MediaTrack::Video), [3, 7, 9]);
        assert_eq!(received(&ranking, 0, &[], MediaTrack::Audio).len(), 39);
        let small = received(&ranking, 0, &[], MediaTrack::Thumbnail);
        assert_eq!(small.len(), 9);
        assert!(!small.iter().any(|peer| [3, 7, 9].contains(peer)), "{small:?}");
        let small = received(&ranking, 0, &[21], MediaTrack::Thumbnail);
        assert!(small.contains(&9) && !small.contains(&21), "9 has lost its place to 21: {small:?}");
        let options = MediaOptions::new(625_000);
        let demands = |peer| ranking.demands(&options).find(|(member, _)| member.peer == peer).unwrap().1;
        assert!(demands(3).iter().all(|demand| demand.track != MediaTrack::Thumbnail));
        assert!(demands(19).iter().any(|demand| demand.track == MediaTrack::Thumbnail));
    }

    #[test]
    fn large_groups_hear_who_is_heard_or_shown() {
        let members = (0..100).map(|peer| member(peer, u8::from(peer == 90), peer.min(50)));
        let ranking = Ranking::new(members.collect());
        let heard = received(&ranking, 0, &[], MediaTrack::Audio);
        assert!(heard.len() <= 13 && heard.contains(&90), "{heard:?}");
    }
}
