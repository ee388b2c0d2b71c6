//! Reputation: what a node thinks of others, from what it saw itself.
//!
//! Nobody's word about others counts, so nobody can be talked down. Points are for misconduct, half of them are forgotten
//! in every [`ScoreConfig::half_life`], and a peer with too many is refused for a while.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::config::ScoreConfig;
use crate::id::PeerId;
use crate::io::Offence;
use crate::time::Instant;

/// Points for misconduct that fade with time.
///
/// ```
/// use std::time::Duration;
/// use suffuse::{Instant, membership::Score};
///
/// let minute = Duration::from_secs(60);
/// let mut score = Score::default();
/// score.blame(40, minute, Instant::ZERO);
/// assert_eq!(score.points(minute, Instant::ZERO + minute), 20);
/// score.praise(5, minute, Instant::ZERO + minute);
/// assert_eq!(score.points(minute, Instant::ZERO + minute), 15);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Score {
    /// In thousandths, so that fading loses nothing that matters.
    milli: u32,
    at: Instant,
}

impl Score {
    /// Adds points.
    pub fn blame(&mut self, points: u32, half_life: Duration, now: Instant) {
        let milli = self.milli_at(half_life, now).saturating_add(points.saturating_mul(1_000));
        *self = Self { milli, at: self.at.max(now) };
    }

    /// Takes points off, as far as there are some.
    pub fn praise(&mut self, points: u32, half_life: Duration, now: Instant) {
        if self.milli > 0 {
            let milli = self.milli_at(half_life, now).saturating_sub(points.saturating_mul(1_000));
            *self = Self { milli, at: self.at.max(now) };
        }
    }

    /// The points that are left.
    pub fn points(&self, half_life: Duration, now: Instant) -> u32 {
        self.milli_at(half_life, now) / 1_000
    }

    fn milli_at(&self, half_life: Duration, now: Instant) -> u32 {
        let half_life_us = half_life.as_micros().max(1);
        let past_us = (now - self.at).as_micros();
        let halvings = u32::try_from(past_us / half_life_us).unwrap_or(u32::MAX);
        let halved = self.milli.checked_shr(halvings).unwrap_or(0);
        // Between two halvings along a straight line.
        let rest = u128::from(halved) * (past_us % half_life_us) / (2 * half_life_us);
        halved - rest as u32
    }
}

/// The points for an offence. What a peer can be made to do by others, or by a broken link, costs little.
pub(crate) fn points_for(offence: Offence) -> u32 {
    match offence {
        Offence::BadSignature | Offence::BadChunk => 25,
        Offence::Flooding => 20,
        Offence::Malformed(_) | Offence::Oversize => 5,
        Offence::NotAuthorized | Offence::Nonsense => 2,
    }
}

/// Who has offended, how much, and who is refused for it.
#[derive(Debug)]
pub(crate) struct Reputation<P> {
    records: BTreeMap<P, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    score: Score,
    refused_until: Option<Instant>,
    /// How often it was refused before: each time is twice as long.
    times: u8,
}

impl<P: PeerId> Reputation<P> {
    pub(crate) fn new() -> Self {
        Self { records: BTreeMap::new() }
    }

    /// Adds points to a peer. True if it is refused from now on, and was not before.
    pub(crate) fn blame(&mut self, peer: P, points: u32, config: &ScoreConfig, now: Instant) -> bool {
        if self.is_refused(peer, now) {
            return false;
        }
        if !self.records.contains_key(&peer) && self.records.len() >= config.refused_max {
            self.make_room(config, now);
        }
        let fresh = Record { score: Score::default(), refused_until: None, times: 0 };
        let record = self.records.entry(peer).or_insert(fresh);
        record.score.blame(points, config.half_life, now);
        if record.score.points(config.half_life, now) < config.refuse_points {
            return false;
        }
        let longer = config.refuse_for.saturating_mul(1 << record.times.min(16));
        record.refused_until = Some(now + longer.min(config.refuse_max));
        record.times = record.times.saturating_add(1);
        // It may come back on probation.
        record.score = Score::default();
        record.score.blame(config.refuse_points / 2, config.half_life, now);
        true
    }

    pub(crate) fn is_refused(&self, peer: P, now: Instant) -> bool {
        self.records.get(&peer).is_some_and(|record| record.is_refused(now))
    }

    pub(crate) fn refused(&self, now: Instant) -> usize {
        self.records.values().filter(|record| record.is_refused(now)).count()
    }

    /// Forgets the record that matters least: refused for the shortest time from now, if at all, and of the others the one
    /// with the fewest points.
    fn make_room(&mut self, config: &ScoreConfig, now: Instant) {
        let weight = |record: &Record| {
            let refused_until = record.refused_until.filter(|&until| until > now);
            (refused_until, record.score.points(config.half_life, now))
        };
        let least = self.records.iter().min_by_key(|(peer, record)| (weight(record), **peer));
        if let Some(peer) = least.map(|(&peer, _)| peer) {
            self.records.remove(&peer);
        }
    }
}

impl Record {
    fn is_refused(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ScoreConfig {
        ScoreConfig { refused_max: 3, ..ScoreConfig::default() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn points_fade_by_half_in_each_half_life_and_never_return() {
        let minute = Duration::from_secs(60);
        let mut score = Score::default();
        score.blame(64, minute, at(0));
        let left: std::vec::Vec<_> =
            [0, 30, 60, 120, 360, 420].map(|seconds| score.points(minute, at(seconds))).into();
        assert_eq!(left, [64, 48, 32, 16, 1, 0]);
        assert_eq!(score.points(minute, Instant::MAX), 0);
        score.praise(100, minute, at(60));
        assert_eq!(score.points(minute, at(60)), 0);
    }

    #[test]
    fn who_offends_too_often_is_refused_and_each_time_for_longer() {
        let config = config();
        let mut reputation = Reputation::new();
        let mut refuse = |now: Instant| {
            let mut blames = 0;
            while !reputation.blame(7u64, 20, &config, now) {
                blames += 1;
                assert!(blames < 10, "never refused");
            }
            assert!(reputation.is_refused(7, now) && !reputation.is_refused(8, now));
            let ends =
                (1..10_000).find(|&second| !reputation.is_refused(7, now + Duration::from_secs(second)));
            (blames, ends.unwrap())
        };
        assert_eq!(refuse(at(0)), (4, 60));
        assert_eq!(refuse(at(61)), (3, 120), "it is on probation");
        let later: std::vec::Vec<_> = (1..5).map(|round| refuse(at(10_000 * round)).1).collect();
        assert_eq!(later, [240, 480, 600, 600]);
    }

    #[test]
    fn an_offender_that_behaves_is_forgiven() {
        let config = config();
        let mut reputation = Reputation::new();
        for minute in 0..100 {
            assert!(!reputation.blame(7u64, 20, &config, at(60 * minute)));
        }
    }

    #[test]
    fn when_full_the_least_record_makes_room() {
        let config = config();
        let mut reputation = Reputation::new();
        assert!(reputation.blame(1u64, 100, &config, at(0)));
        assert!(reputation.blame(2, 100, &config, at(10)));
        reputation.blame(3, 5, &config, at(10));
        reputation.blame(4, 1, &config, at(10));
        assert_eq!(reputation.records.keys().copied().collect::<std::vec::Vec<_>>(), [1, 2, 4]);
        assert!(reputation.blame(5, 100, &config, at(10)));
        assert!(reputation.blame(6, 100, &config, at(10)));
        assert_eq!(reputation.refused(at(11)), 3);
        assert!(!reputation.is_refused(1, at(11)), "its time would have ended first");
    }
}
