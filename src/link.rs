//! One connected peer, as the engine sees it.

use alloc::boxed::Box;
use core::time::Duration;

use crate::config::LinkConfig;
use crate::id::PeerId;
use crate::membership::{Liveness, MOMENT};
use crate::table::Table;
use crate::time::Instant;

/// The state of a link. The engine owns it; what waits to be sent is the egress's.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    /// The host was asked to connect and has not answered.
    pub(crate) dialing: bool,
    /// Swarms that need the link.
    pub(crate) holders: u32,
    /// When it was last of use.
    pub(crate) used: Instant,
    /// When something was last sent.
    pub(crate) sent: Instant,
    /// By when the peer was promised the next sign of life, and how often, or 0.
    promised_by: Instant,
    pub(crate) promised_tenths: u8,
    pub(crate) liveness: Liveness,
    /// When the peer was last told that a swarm is not joined here.
    pub(crate) disowned: Option<Instant>,
    budget: InboundBudget,
}

/// All links, each in a place that it keeps.
#[derive(Debug)]
pub(crate) struct Links<P> {
    links: Table<P, Link>,
}

impl<P: PeerId> Links<P> {
    pub(crate) const fn new() -> Self {
        Self { links: Table::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn contains_key(&self, peer: &P) -> bool {
        self.place(peer).is_some()
    }

    pub(crate) fn place(&self, peer: &P) -> Option<u32> {
        self.links.place(peer)
    }

    /// Whose link is in a place.
    pub(crate) fn peer_at(&self, place: u32) -> Option<P> {
        self.links.name(place)
    }

    pub(crate) fn at(&self, place: u32) -> Option<&Link> {
        self.links.get(place)
    }

    pub(crate) fn get(&self, peer: &P) -> Option<&Link> {
        self.at(self.place(peer)?)
    }

    pub(crate) fn get_mut(&mut self, peer: &P) -> Option<&mut Link> {
        let place = self.place(peer)?;
        self.links.get_mut(place)
    }

    /// Adds a link to a peer that has none.
    pub(crate) fn insert(&mut self, peer: P, link: Link) {
        self.links.insert(peer, link);
    }

    /// Forgets a link; returns where it was.
    pub(crate) fn remove(&mut self, peer: &P) -> Option<u32> {
        let place = self.place(peer)?;
        self.links.remove(place);
        Some(place)
    }

    /// All links, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&P, &Link)> {
        self.links.iter()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkState {
    /// The host was asked to connect by then.
    Connecting {
        deadline: Instant,
    },
    Up,
    /// What waits is still being sent, until then.
    Closing {
        deadline: Instant,
    },
}

impl Link {
    pub(crate) fn new(state: LinkState, patient: bool, config: &LinkConfig, now: Instant) -> Self {
        let liveness = Liveness::new(config, now);
        Self {
            state,
            dialing: matches!(state, LinkState::Connecting { .. }),
            holders: 0,
            used: now,
            sent: Instant::ZERO,
            promised_by: Instant::ZERO,
            promised_tenths: 0,
            liveness: if patient { liveness.patient() } else { liveness },
            disowned: None,
            budget: InboundBudget::new(now),
        }
    }

    /// Whether what was last sent keeps the promise of a sign of life by the next turn, which is after `next`, too. The peer then
    /// takes the promise for renewed.
    pub(crate) fn stands_for_beat(&mut self, next: Duration, now: Instant) -> bool {
        let renewed = self.promised_by + tenths(self.promised_tenths);
        let stands =
            self.promised_tenths > 0 && self.sent + MOMENT >= self.promised_by && renewed >= now + next;
        if stands {
            self.promised_by = renewed;
        }
        stands
    }

    /// The peer is promised the next sign of life.
    pub(crate) fn promise_beat(&mut self, next_tenths: u8, now: Instant) {
        (self.promised_by, self.promised_tenths) = (now + tenths(next_tenths), next_tenths);
    }

    /// Whether a frame of `bytes` is within what the peer may send.
    pub(crate) fn admit(&mut self, bytes: usize, config: &LinkConfig, now: Instant) -> bool {
        self.budget.admit(bytes, config, now)
    }

    /// Notes a frame beyond the budget. True, once in a second, if it is far beyond: twice the rate on top of it.
    pub(crate) fn is_gross(&mut self, config: &LinkConfig, now: Instant) -> bool {
        let flood = self.budget.flood(now);
        if now - flood.since >= Duration::from_secs(1) {
            (flood.since, flood.excess) = (now, 0);
        }
        flood.excess = flood.excess.saturating_add(1);
        flood.excess == config.inbound_frames_per_s.saturating_mul(2)
    }

    /// Whether this flood was not reported yet.
    pub(crate) fn report_flood(&mut self, now: Instant) -> bool {
        let flood = self.budget.flood(now);
        let first = flood.reported.is_none_or(|at| now - at >= Duration::from_secs(1));
        if first {
            flood.reported = Some(now);
        }
        first
    }

    /// When the engine must look at the link again.
    pub(crate) fn poll_timeout(&self, config: &LinkConfig) -> Option<Instant> {
        match self.state {
            LinkState::Connecting { deadline } | LinkState::Closing { deadline } => Some(deadline),
            LinkState::Up if self.holders > 0 => self.liveness.poll_timeout(),
            LinkState::Up => Some(self.used + config.linger),
        }
    }
}

fn tenths(tenths: u8) -> Duration {
    Duration::from_millis(u64::from(tenths) * 100)
}

/// What a peer may still send: two token buckets in microseconds of their rates, so that no remainder is ever lost.
#[derive(Clone, Debug)]
struct InboundBudget {
    /// The time at which the frames, and the bytes, received so far would have been due at the allowed rate.
    frames_due: Instant,
    bytes_due: Instant,
    /// Once it was exceeded.
    flood: Option<Box<Flood>>,
}

/// What a peer sent beyond its budget.
#[derive(Clone, Copy, Debug)]
struct Flood {
    reported: Option<Instant>,
    /// Frames since the second began.
    excess: u32,
    since: Instant,
}

impl InboundBudget {
    fn new(now: Instant) -> Self {
        Self { frames_due: now, bytes_due: now, flood: None }
    }

    fn flood(&mut self, now: Instant) -> &mut Flood {
        self.flood.get_or_insert_with(|| Box::new(Flood { reported: None, excess: 0, since: now }))
    }

    /// The generic cell rate algorithm (ITU-T I.371): a frame conforms if what came before it is due no later than a burst
    /// from now.
    fn admit(&mut self, bytes: usize, config: &LinkConfig, now: Instant) -> bool {
        let burst = Duration::from_secs(u64::from(config.inbound_burst));
        let frames_due = self.frames_due.max(now);
        let bytes_due = self.bytes_due.max(now);
        if frames_due > now + burst || bytes_due > now + burst {
            return false;
        }
        let micros =
            |amount: u64, rate: u64| Duration::from_micros(amount.saturating_mul(1_000_000) / rate.max(1));
        self.frames_due = frames_due + micros(1, u64::from(config.inbound_frames_per_s));
        self.bytes_due = bytes_due + micros(bytes as u64, config.inbound_bytes_per_s);
        true
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::collections::btree_map::Entry;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_table_equals_a_map(steps in prop::collection::vec((any::<bool>(), 0u64..12), 0..200)) {
            let mut links = Links::new();
            let mut model = BTreeMap::new();
            for (step, (add, peer)) in steps.into_iter().enumerate() {
                let now = Instant::from_micros(step as u64);
                if !add {
                    prop_assert_eq!(links.remove(&peer).is_some(), model.remove(&peer).is_some());
                } else if let Entry::Vacant(vacant) = model.entry(peer) {
                    links.insert(peer, Link::new(LinkState::Up, false, &LinkConfig::default(), now));
                    vacant.insert(now);
                }
                prop_assert_eq!(links.len(), model.len());
                for (peer, &used) in &model {
                    prop_assert_eq!(links.get(peer).map(|link| link.used), Some(used));
                    prop_assert_eq!(links.place(peer).and_then(|place| links.peer_at(place)), Some(*peer));
                }
                let listed: BTreeMap<_, _> = links.iter().map(|(&peer, link)| (peer, link.used)).collect();
                prop_assert_eq!(&listed, &model);
            }
        }
    }

    #[test]
    fn a_frame_stands_for_a_sign_of_life_only_if_it_keeps_the_promise() {
        let second = Duration::from_secs(1);
        let mut link = Link::new(LinkState::Up, false, &LinkConfig::default(), Instant::ZERO);
        let at = Instant::from_millis;
        link.sent = at(9_900);
        assert!(!link.stands_for_beat(second, at(10_000)), "nothing was promised");
        link.promise_beat(20, at(10_000));
        link.sent = at(11_499);
        assert!(!link.stands_for_beat(second, at(11_500)), "it will be forgotten by then");
        link.sent = at(11_500);
        assert!(
            !link.stands_for_beat(Duration::from_millis(2_501), at(11_500)),
            "the next turn would be late"
        );
        assert!(link.stands_for_beat(second, at(11_500)));
        // The promise is renewed until 14 s.
        link.sent = at(13_499);
        assert!(!link.stands_for_beat(second, at(13_500)));
        link.sent = at(13_500);
        assert!(link.stands_for_beat(second, at(13_500)));
    }

    #[test]
    fn a_flood_is_cut_to_the_budget() {
        let config = LinkConfig { inbound_frames_per_s: 100, inbound_burst: 1, ..LinkConfig::default() };
        let mut budget = InboundBudget::new(Instant::ZERO);
        let mut admitted = 0;
        for micros in (0..10_000_000).step_by(100) {
            admitted += u32::from(budget.admit(100, &config, Instant::from_micros(micros)));
        }
        assert!((1_000..=1_110).contains(&admitted), "{admitted} frames in 10 s at 100/s and a burst of 1 s");
    }
}
