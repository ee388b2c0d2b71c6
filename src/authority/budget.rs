//! What verification may cost.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::id::PeerId;
use crate::time::Instant;

/// How many signature checks are made at most. An Ed25519 check takes about 50 microseconds of a native core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct VerifyLimits {
    /// Checks per second on behalf of one peer. Default 200: a stream of 60 updates per second, three times.
    pub peer_per_s: u32,
    /// Checks on behalf of one peer at once. Default 100.
    pub peer_burst: u32,
    /// Checks per second in all. Default 2,000: a tenth of a core.
    pub total_per_s: u32,
    /// Checks at once in all. Default 500.
    pub total_burst: u32,
    /// Peers with an account. A peer whose account is full again needs none. While there are that many, further peers
    /// get no check. Default 1,024.
    pub peers_max: usize,
}

impl Default for VerifyLimits {
    fn default() -> Self {
        Self { peer_per_s: 200, peer_burst: 100, total_per_s: 2_000, total_burst: 500, peers_max: 1_024 }
    }
}

/// An account of signature checks for each peer, and one for all together.
///
/// [`Self::take`] comes *before* the check, in the name of the peer that sent the bytes: a flood of forgeries then
/// costs what the budget says and no more. Do not forget a peer when its connection ends, or a new connection would
/// bring a new burst.
///
/// ```
/// use suffuse::Instant;
/// use suffuse::authority::{VerifyBudget, VerifyLimits};
///
/// let mut limits = VerifyLimits::default();
/// (limits.peer_per_s, limits.peer_burst) = (10, 2);
/// let mut budget = VerifyBudget::new(limits);
/// let now = Instant::from_secs(1);
/// assert!(budget.take(7u64, 2, now));
/// assert!(!budget.take(7, 1, now), "the burst is spent");
/// assert!(budget.take(8, 1, now), "others are not concerned");
/// assert!(budget.take(7, 1, Instant::from_millis(1_100)));
/// ```
#[derive(Clone, Debug)]
pub struct VerifyBudget<P> {
    limits: VerifyLimits,
    total: Bucket,
    by_peer: BTreeMap<P, Bucket>,
    /// No account can be closed before then.
    full_again: Instant,
    now: Instant,
    refused: u64,
}

impl<P: PeerId> VerifyBudget<P> {
    /// A budget that is whole.
    pub fn new(limits: VerifyLimits) -> Self {
        Self {
            limits,
            total: Bucket::full(limits.total_burst),
            by_peer: BTreeMap::new(),
            full_again: Instant::ZERO,
            now: Instant::ZERO,
            refused: 0,
        }
    }

    /// Takes `checks` signature checks in the name of `peer`: all of them, or none and false. More than a burst is
    /// never given.
    #[must_use]
    pub fn take(&mut self, peer: P, checks: u32, now: Instant) -> bool {
        self.now = self.now.max(now);
        let taken = self.try_take(peer, checks);
        if !taken {
            self.refused = self.refused.saturating_add(1);
        }
        taken
    }

    /// How often the budget said no.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn try_take(&mut self, peer: P, checks: u32) -> bool {
        let (limits, now) = (self.limits, self.now);
        self.total.refill(limits.total_per_s, limits.total_burst, now);
        if self.total.micro_checks < micro(checks) || !self.make_room(peer) {
            return false;
        }
        let fresh = Bucket { at: now, ..Bucket::full(limits.peer_burst) };
        let bucket = self.by_peer.entry(peer).or_insert(fresh);
        bucket.refill(limits.peer_per_s, limits.peer_burst, now);
        if bucket.micro_checks < micro(checks) {
            return false;
        }
        bucket.micro_checks -= micro(checks);
        self.total.micro_checks -= micro(checks);
        true
    }

    fn make_room(&mut self, peer: P) -> bool {
        let limits = self.limits;
        if self.by_peer.len() < limits.peers_max || self.by_peer.contains_key(&peer) {
            return true;
        }
        // Walking all accounts in vain again and again would cost more than it saves.
        if self.full_again > self.now {
            return false;
        }
        let full_at = |bucket: &Bucket| bucket.full_at(limits.peer_per_s, limits.peer_burst);
        self.by_peer.retain(|_, bucket| full_at(bucket) > self.now);
        self.full_again = self.by_peer.values().map(full_at).min().unwrap_or(self.now);
        self.by_peer.len() < limits.peers_max
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Millionths of a check, so that a rate per second is one per microsecond.
    micro_checks: u64,
    at: Instant,
}

impl Bucket {
    fn full(burst: u32) -> Self {
        Self { micro_checks: micro(burst), at: Instant::ZERO }
    }

    fn refill(&mut self, per_s: u32, burst: u32, now: Instant) {
        let elapsed_us = u64::try_from((now - self.at).as_micros()).unwrap_or(u64::MAX);
        let more = elapsed_us.saturating_mul(u64::from(per_s));
        self.micro_checks = self.micro_checks.saturating_add(more).min(micro(burst));
        self.at = now;
    }

    fn full_at(&self, per_s: u32, burst: u32) -> Instant {
        let missing = micro(burst) - self.micro_checks;
        match (missing, u64::from(per_s)) {
            (0, _) => self.at,
            (_, 0) => Instant::MAX,
            (missing, per_us) => self.at + Duration::from_micros(missing.div_ceil(per_us)),
        }
    }
}

fn micro(checks: u32) -> u64 {
    u64::from(checks) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> VerifyLimits {
        VerifyLimits { peer_per_s: 10, peer_burst: 5, total_per_s: 20, total_burst: 8, peers_max: 2 }
    }

    #[test]
    fn the_total_bounds_all_peers_together() {
        let mut budget = VerifyBudget::new(limits());
        let now = Instant::from_secs(1);
        assert!(budget.take(1u64, 5, now));
        assert!(!budget.take(2, 5, now));
        assert!(budget.take(2, 3, now));
        assert_eq!(budget.refused(), 1);
    }

    #[test]
    fn only_full_accounts_make_room() {
        let mut budget = VerifyBudget::new(limits());
        assert!(budget.take(1u64, 1, Instant::ZERO));
        assert!(budget.take(2, 5, Instant::ZERO));
        assert!(!budget.take(3, 1, Instant::from_millis(99)));
        assert!(budget.take(3, 1, Instant::from_millis(100)), "peer 1 has its burst again");
        assert!(!budget.take(4, 1, Instant::from_millis(199)));
        assert!(budget.take(1, 5, Instant::from_millis(1_000)));
    }

    #[test]
    fn more_than_a_burst_is_never_given_and_time_never_falls() {
        let mut budget = VerifyBudget::new(limits());
        assert!(!budget.take(1u64, 6, Instant::MAX));
        assert!(budget.take(1, 5, Instant::from_secs(5)));
        assert!(!budget.take(1, 1, Instant::ZERO));
        let mut none = VerifyBudget::new(VerifyLimits { peers_max: 0, ..limits() });
        assert!(!none.take(1u64, 0, Instant::ZERO));
    }

    proptest! {
        #[test]
        fn no_schedule_gets_more_than_rate_and_burst(
            steps in prop::collection::vec((0u64..4, 0u32..4, 0u64..300_000), 1..200),
        ) {
            let mut budget = VerifyBudget::new(limits());
            let (mut now, mut total, mut by_peer) = (Instant::ZERO, 0, [0; 4]);
            for (peer, checks, wait_us) in steps {
                now += Duration::from_micros(wait_us);
                if budget.take(peer, checks, now) {
                    total += u64::from(checks);
                    by_peer[peer as usize] += u64::from(checks);
                }
                let elapsed_us = now.as_micros();
                prop_assert!(total * 1_000_000 <= 8_000_000 + 20 * elapsed_us);
                for taken in by_peer {
                    prop_assert!(taken * 1_000_000 <= 5_000_000 + 10 * elapsed_us);
                }
            }
        }
    }
}
