//! What a node remembers of stripes, peers and tracks.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use smallvec::SmallVec;

use crate::forest::track::TrackLog;
use crate::propagation::bucket::Bucket;
use crate::time::Instant;
use crate::wire::STRIPES_MAX;

/// Which tracks are wanted, one bit each: bit 8 is the base layer of the pictures, as
/// [`LivestreamTracks`](crate::LivestreamTracks) counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interest {
    /// Of these everything.
    pub tracks: u64,
    /// Of these the keyframes.
    pub keyframes: u64,
}

#[derive(Debug)]
pub(super) struct Stripe<P> {
    /// Who feeds it.
    pub(super) parent: Option<P>,
    /// Who was asked to.
    pub(super) candidate: Option<Candidate<P>>,
    pub(super) backups: SmallVec<[P; 2]>,
    /// Of the newest plan that named the parent.
    pub(super) plan_version: Option<u32>,
    /// Who refused or did not answer since it was last fed.
    pub(super) tried: SmallVec<[P; 2]>,
    pub(super) children: Vec<Child<P>>,
    /// From the parent up to the source.
    pub(super) path: Vec<P>,
    /// It has changed since the last tick, when children are told again: the first message may be lost.
    pub(super) path_news: bool,
    /// When the parent was last heard of on this stripe.
    pub(super) heard: Instant,
    /// The parent said that it lives, though nothing comes: until then it is believed.
    pub(super) believed_until: Instant,
    /// When a parent of which nothing comes was asked whether it lives.
    pub(super) probed: Option<Instant>,
    pub(super) interval_us: u32,
    pub(super) deviation_us: u32,
    /// How old chunks are when they come from the parent, smoothed.
    pub(super) delay_us: u32,
    /// How old the oldest were lately.
    pub(super) delay_peak_us: u32,
    /// Looks in a row at which this was much more than on the other stripes.
    pub(super) slow: u8,
    /// The children were told that nothing comes.
    pub(super) stalled: bool,
    /// In a group: who was the parent until then, and may still send.
    pub(super) handed_over: Option<(P, Instant)>,
    /// The parent is to be replaced, though it still sends.
    pub(super) left: bool,
    /// The parent that fell silent.
    pub(super) lost: Option<P>,
    pub(super) retry_at: Option<Instant>,
    /// By track, the next number that the parent will send.
    pub(super) edges: SmallVec<[(u8, u64); 1]>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<P> {
    pub(super) peer: P,
    pub(super) sent: Instant,
    pub(super) tries: u8,
    /// The present parent has done no wrong.
    pub(super) planned: bool,
    /// It was named by the plan and gets a second chance: a message may have been lost.
    pub(super) from_plan: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Child<P> {
    pub(super) peer: P,
    pub(super) interest: Interest,
    pub(super) feeds: u8,
    pub(super) lease: Instant,
    /// By track, the first number that is pushed to it.
    pub(super) from: SmallVec<[(u8, u64); 1]>,
}

/// What is known of the source's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockReading {
    /// How far off it may be.
    pub(super) error: Duration,
    pub(super) at: Instant,
    /// Whether the round trip was measured, not guessed: only such readings are passed on, or guesses would add up from
    /// parent to child.
    pub(super) measured: bool,
}

/// A node that feeds this one or is fed by it.
#[derive(Debug)]
pub(super) struct Peer {
    /// Stripes in which it is parent or child.
    pub(super) uses: u16,
    pub(super) rtt_us: u32,
    /// The newest question to it: token, stripes, when.
    pub(super) ask: Option<(u32, u16, Instant)>,
    pub(super) attached: Instant,
    /// Once it has asked for something.
    pub(super) serve_budget: Option<Box<Bucket>>,
}

impl Peer {
    pub(super) fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_us.into())
    }

    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
    }
}

#[derive(Debug)]
pub(super) struct Track<P> {
    pub(super) log: TrackLog,
    /// At a viewer, the first number of the history that it asks for, once known.
    pub(super) start: Option<u64>,
    /// Who said to have it from there on.
    pub(super) holders: SmallVec<[P; 4]>,
    /// By stripe, where its parent stood when it first fed it.
    pub(super) joined: SmallVec<[(u8, u64); 2]>,
    /// At the source.
    pub(super) next_sequence: u64,
    pub(super) newest_captured_ms: u32,
    /// Whether its history is asked for: not when it was turned on later.
    pub(super) chases: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) tries: u8,
    pub(super) history: bool,
    /// Nobody has said that it exists.
    pub(super) foreseen: bool,
    /// When it was asked for last.
    pub(super) asked: Instant,
}

/// A missed chunk that came and was passed on. Children asked for it meanwhile, and their requests are still coming.
#[derive(Debug)]
pub(super) struct PassedLate<P> {
    pub(super) track: u8,
    pub(super) number: u64,
    pub(super) at: Instant,
    /// Children whose request has come: another one means that the chunk was lost.
    pub(super) heard: SmallVec<[P; 2]>,
}

impl<P: Copy + Eq> Stripe<P> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            parent: None,
            candidate: None,
            backups: SmallVec::new(),
            plan_version: None,
            tried: SmallVec::new(),
            children: Vec::new(),
            path: Vec::new(),
            path_news: false,
            heard: now,
            believed_until: now,
            probed: None,
            interval_us: 0,
            deviation_us: 0,
            delay_us: 0,
            delay_peak_us: 0,
            slow: 0,
            stalled: false,
            handed_over: None,
            left: false,
            lost: None,
            retry_at: None,
            edges: SmallVec::new(),
        }
    }

    pub(super) fn edge(&self, track: u8) -> Option<u64> {
        self.edges.iter().find(|(edge, _)| *edge == track).map(|(_, next)| *next)
    }

    pub(super) fn set_edge(&mut self, track: u8, next: u64) {
        match self.edges.iter_mut().find(|(edge, _)| *edge == track) {
            Some((_, edge)) => *edge = next,
            None => self.edges.push((track, next)),
        }
    }
}

impl<P> Child<P> {
    /// The first number of a track that is pushed to it.
    pub(super) fn begins(&self, track: u8) -> u64 {
        self.from.iter().find(|(known, _)| *known == track).map_or(0, |(_, from)| *from)
    }
}

impl<P> Track<P> {
    /// In a box: a map of few large things would make room for ten of them.
    pub(super) fn new(bytes_max: usize) -> Box<Self> {
        Box::new(Self {
            log: TrackLog::new(bytes_max),
            start: None,
            holders: SmallVec::new(),
            joined: SmallVec::new(),
            next_sequence: 0,
            newest_captured_ms: 0,
            chases: true,
        })
    }
}

impl<P: Copy + Eq> Track<P> {
    /// The live stream of a stripe begins here with this number.
    pub(super) fn note_joined(&mut self, stripe: u8, number: u64) {
        match self.joined.iter_mut().find(|(joined, _)| *joined == stripe) {
            Some((_, end)) => *end = number,
            None => self.joined.push((stripe, number)),
        }
    }

    /// A parent has the track from this keyframe on. The newest is where to begin: earlier ones are as far away, and more
    /// to fetch. True if it is newer than what was known.
    pub(super) fn note_group(&mut self, from: P, group: u64) -> bool {
        let known = self.start;
        if !self.chases || self.log.has_started() || known.is_some_and(|start| group < start) {
            return false;
        }
        if known != Some(group) {
            self.start = Some(group);
            self.holders.clear();
        }
        if self.holders.len() < usize::from(STRIPES_MAX) && !self.holders.contains(&from) {
            self.holders.push(from);
        }
        known.is_some_and(|start| start < group)
    }
}

impl Interest {
    /// Everything of every track.
    pub const ALL: Self = Self { tracks: u64::MAX, keyframes: u64::MAX };

    pub(super) fn covers(self, track: u8, keyframe: bool) -> bool {
        self.tracks & bit(track) != 0 || keyframe && self.keyframes & bit(track) != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { tracks: self.tracks | other.tracks, keyframes: self.keyframes | other.keyframes }
    }
}

pub(super) fn bit(track: u8) -> u64 {
    1 << (track & 63)
}
