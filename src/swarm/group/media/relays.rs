//! Elected relays: in a large group those who have the most upload, and have been there the longest, pass on what others show.
//!
//! Everybody who has the same roster elects the same ones and gives them the same parts. Whoever is elected says so in its entry
//! of the roster, and from then on it keeps the office while it is there: only by itself it gives it up, once others have been
//! clearly better for a while. So nothing but the roster decides, and no two participants' clocks need to agree.
//!
//! Parts are whole slots: one stripe to one receiver. What is given by the byte is lost where it does not make a slot, and in a
//! call that takes nearly all of the uploads nothing can be lost.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::options::{MediaOptions, MediaTrack, UPLOAD_MAX};
use super::upload::{Demand, Share};
use crate::forest::HELPER_USE_PERCENT;
use crate::rng::mix;
use crate::time::Instant;
use crate::wire::WirePeer;

/// Groups with more participants elect relays.
pub(super) const LARGE: usize = 32;

/// What participants use of their uploads for media, in percent: the rest is for repair, for the roster and for messages.
const USED_PERCENT: u64 = 86;

/// The same of those who publish a large track: what waits in their queues, everybody waits for.
const SOURCE_PERCENT: u64 = 78;

/// Relays are elected until they have this part of what is needed, in percent.
const PLENTY_PERCENT: u64 = 110;

/// By how much better another must be than who holds the office, in percent.
const CLEARLY_PERCENT: u64 = 120;

/// Of a small track beside a large one its participant sends each stripe to so many, who pass it on.
const SMALL_WIDTH: u64 = 2;

/// What one stripe of a track takes on its way to one receiver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) stripes: u64,
    /// As plans reckon, in bytes a second for all stripes.
    pub(super) plan_rate: u64,
    /// As it proves to be.
    pub(super) wire_rate: u64,
}

impl Cost {
    fn slot(&self) -> u64 {
        (self.wire_rate / self.stripes).max(1)
    }

    /// What a plan must be told so that it sees so many slots.
    fn upload(&self, slots: u64) -> u64 {
        (slots * self.plan_rate * 100).div_ceil(HELPER_USE_PERCENT * self.stripes)
    }
}

/// A participant, with what others receive of it.
#[derive(Clone, Debug)]
pub(super) struct Offer<P> {
    pub(super) peer: P,
    pub(super) upload: u64,
    pub(super) joined_us: u64,
    /// Since when it holds the office; 0: it does not.
    pub(super) relay_us: u64,
    pub(super) demands: Vec<Demand>,
}

/// Who does what.
#[derive(Clone, Debug)]
pub(super) struct Allotment<P> {
    /// What participants spend on their own tracks.
    pub(super) own: BTreeMap<P, Vec<Share>>,
    /// What each gives to each track of others: who, whose, which, and how much, in bytes a second.
    pub(super) given: BTreeMap<(P, P, MediaTrack), u64>,
    /// Who holds the office: those who say so, and those who are needed besides.
    pub(super) serving: BTreeSet<P>,
    /// Those of them who say so and would not be elected again, the worst last.
    pub(super) beaten: Vec<P>,
    /// What is needed of relays, in bytes a second.
    pub(super) need: u64,
}

/// A track that its participant cannot feed to everybody.
#[derive(Clone, Copy, Debug)]
struct Helped<P> {
    peer: P,
    track: MediaTrack,
    cost: Cost,
    /// Slots that others must give.
    need: u64,
    /// How many of them one should give, and how many relays should give one more: then just those make up whole stripes, and
    /// none needs another above it.
    part: u64,
    larger: u64,
}

impl<P> Helped<P> {
    fn part_wanted(&self) -> u64 {
        self.need.min(self.part + u64::from(self.larger > 0))
    }
}

#[derive(Clone, Copy, Debug)]
struct Helper<P> {
    peer: P,
    left: u64,
}

/// Divides uploads among all tracks.
pub(super) fn allot<P: WirePeer>(
    offers: &[Offer<P>],
    cost: impl Fn(MediaTrack) -> Cost,
    options: &MediaOptions,
) -> Allotment<P> {
    let mut allotment = Allotment::new();
    let mut helped = Vec::new();
    let mut helpers = Vec::with_capacity(offers.len());
    for offer in offers {
        let has_large = offer.demands.iter().any(|demand| !is_small(demand.track));
        let percent = if has_large { SOURCE_PERCENT } else { USED_PERCENT };
        let budget = offer.upload.min(UPLOAD_MAX) * percent / 100;
        let (shares, left) = own_shares(offer, budget, &cost, options, &mut helped);
        allotment.own.insert(offer.peer, shares);
        helpers.push(Helper { peer: offer.peer, left });
    }
    allotment.need = helped.iter().map(|helped| helped.need * helped.cost.slot()).sum();
    if allotment.need == 0 {
        return allotment;
    }
    elect(offers, &helpers, &mut allotment);
    let mut elected = helpers.clone();
    elected.retain(|helper| allotment.serving.contains(&helper.peer));
    // Sound is passed on first, by few; small pictures fill what the large ones leave.
    for tracks in [&[MediaTrack::Audio][..], &[MediaTrack::Screen, MediaTrack::Video]] {
        give_parts(tracks, &mut helped, &mut elected, &mut allotment.given);
    }
    give_rest(&mut helped, &mut elected, &mut allotment.given);
    if helped.iter().any(|helped| helped.need > 0) {
        helpers.retain(|helper| !allotment.serving.contains(&helper.peer));
        give_rest(&mut helped, &mut helpers, &mut allotment.given);
    }
    allotment
}

impl<P> Allotment<P> {
    fn new() -> Self {
        Self {
            own: BTreeMap::new(),
            given: BTreeMap::new(),
            serving: BTreeSet::new(),
            beaten: Vec::new(),
            need: 0,
        }
    }
}

fn is_small(track: MediaTrack) -> bool {
    matches!(track, MediaTrack::Audio | MediaTrack::Thumbnail)
}

/// What a participant spends on its own tracks; returns what is left, too.
fn own_shares<P: WirePeer>(
    offer: &Offer<P>,
    budget: u64,
    cost: &impl Fn(MediaTrack) -> Cost,
    options: &MediaOptions,
    helped: &mut Vec<Helped<P>>,
) -> (Vec<Share>, u64) {
    let whole = |demand: &Demand| demand.receivers.max(1) * cost(demand.track).stripes;
    let bytes = |demand: &Demand, slots: u64| slots * cost(demand.track).slot();
    let all: u64 = offer.demands.iter().map(|demand| bytes(demand, whole(demand))).sum();
    let has_large = offer.demands.iter().any(|demand| !is_small(demand.track));
    let mut left = budget;
    let mut slots: Vec<u64> = Vec::with_capacity(offer.demands.len());
    for demand in &offer.demands {
        let first = SMALL_WIDTH.min(demand.receivers.max(1)) * cost(demand.track).stripes;
        let taken = if all <= budget {
            whole(demand)
        } else if has_large && is_small(demand.track) {
            first
        } else {
            0
        };
        left = left.saturating_sub(bytes(demand, taken));
        slots.push(taken);
    }
    let open: Vec<usize> = (0..slots.len()).filter(|&place| slots[place] == 0).collect();
    let rates: u64 = open.iter().map(|&place| cost(offer.demands[place].track).wire_rate).sum();
    let rest = left;
    for &place in &open {
        let demand = &offer.demands[place];
        let cost = cost(demand.track);
        let affordable = rest * cost.wire_rate / rates.max(1) / cost.slot();
        // Each stripe leaves once, whatever it costs.
        slots[place] = affordable.clamp(cost.stripes, whole(demand).max(cost.stripes));
        left = left.saturating_sub(bytes(demand, slots[place]));
    }
    let mut shares = Vec::with_capacity(slots.len());
    for (demand, &slots) in offer.demands.iter().zip(&slots) {
        let (all, cost) = (whole(demand), cost(demand.track));
        let once = super::upload::once(demand.track, options);
        let bytes_per_s = cost.upload(slots).max(once);
        let share = Share { track: demand.track, bytes_per_s, whole: slots >= all, redundancy: 100 };
        shares.push(share);
        if slots < all {
            let width = (slots / cost.stripes).max(1);
            let others = demand.receivers.saturating_sub(width);
            let (part, larger) = ((others / width).max(1), others % width * cost.stripes);
            let (peer, track, need) = (offer.peer, demand.track, all - slots);
            helped.push(Helped { peer, track, cost, need, part, larger });
        }
    }
    (shares, left)
}

/// Finds those who hold the office.
fn elect<P: WirePeer>(offers: &[Offer<P>], helpers: &[Helper<P>], allotment: &mut Allotment<P>) {
    let enough = allotment.need.saturating_mul(PLENTY_PERCENT) / 100;
    let mut ranked: Vec<usize> = (0..offers.len()).filter(|&place| helpers[place].left > 0).collect();
    let scores = scores(offers);
    ranked.sort_by_key(|&place| (Reverse(scores[place]), mix(offers[place].peer.digest())));
    let mut sum = 0;
    for &place in &ranked {
        if offers[place].relay_us == 0 {
            continue;
        }
        sum += helpers[place].left;
        allotment.serving.insert(offers[place].peer);
    }
    let mut merited = 0;
    for &place in &ranked {
        let (offer, left) = (&offers[place], helpers[place].left);
        if merited >= enough && offer.relay_us > 0 {
            allotment.beaten.push(offer.peer);
        }
        merited += left;
        if offer.relay_us == 0 && sum < enough {
            sum += left;
            allotment.serving.insert(offer.peer);
        }
    }
}

/// How well each would do: five parts upload, two parts age, each as the share of the others that it surpasses, in thousandths.
fn scores<P: WirePeer>(offers: &[Offer<P>]) -> Vec<u64> {
    let mut uploads: Vec<u64> = offers.iter().map(|offer| offer.upload).collect();
    let mut joined: Vec<u64> = offers.iter().map(|offer| offer.joined_us).collect();
    uploads.sort_unstable();
    joined.sort_unstable();
    let others = offers.len().saturating_sub(1).max(1);
    let score = |offer: &Offer<P>| {
        let weaker = uploads.partition_point(|&upload| upload < offer.upload);
        let younger = joined.len() - joined.partition_point(|&at| at <= offer.joined_us);
        let score = (5 * weaker + 2 * younger) as u64 * 1_000 / (7 * others as u64) + 100;
        if offer.relay_us > 0 { score * CLEARLY_PERCENT / 100 } else { score }
    };
    offers.iter().map(score).collect()
}

/// Gives each relay few parts, one if possible. When tracks come and go, most of the others keep their relays (rendezvous
/// hashing, Thaler and Ravishankar, 1998).
fn give_parts<P: WirePeer>(
    tracks: &[MediaTrack],
    helped: &mut [Helped<P>],
    helpers: &mut [Helper<P>],
    given: &mut BTreeMap<(P, P, MediaTrack), u64>,
) {
    let mut pairs = Vec::with_capacity(helped.len() * helpers.len());
    for (number, helped) in helped.iter().enumerate().filter(|(_, helped)| tracks.contains(&helped.track)) {
        let key = mix(helped.peer.digest() ^ helped.track as u64);
        let others = helpers.iter().enumerate().filter(|(_, helper)| helper.peer != helped.peer);
        pairs.extend(others.map(|(place, helper)| (mix(helper.peer.digest() ^ key), place, number)));
    }
    pairs.sort_unstable();
    // Whole parts first.
    for partial in [false, true] {
        for &(_, place, number) in &pairs {
            let (helper, helped) = (&mut helpers[place], &mut helped[number]);
            let wanted = helped.part_wanted();
            let slots = wanted.min(helper.left / helped.cost.slot());
            if slots > 0 && (partial || slots + 1 >= wanted) {
                helped.larger -= u64::from(slots > helped.part);
                hand_over(helper, helped, slots, given);
            }
        }
    }
}

/// What is still needed, of those who have the most left.
fn give_rest<P: WirePeer>(
    helped: &mut [Helped<P>],
    helpers: &mut [Helper<P>],
    given: &mut BTreeMap<(P, P, MediaTrack), u64>,
) {
    for helped in helped.iter_mut().rev() {
        let key = mix(helped.peer.digest() ^ helped.track as u64);
        let mut places: Vec<usize> = (0..helpers.len()).collect();
        places.sort_by_key(|&place| {
            let helper = &helpers[place];
            (Reverse(helper.left / helped.cost.slot()), mix(helper.peer.digest() ^ key))
        });
        for place in places {
            let helper = &mut helpers[place];
            let slots = helped.part_wanted().min(helper.left / helped.cost.slot());
            if slots > 0 && helper.peer != helped.peer {
                hand_over(helper, helped, slots, given);
            }
        }
    }
}

fn hand_over<P: WirePeer>(
    helper: &mut Helper<P>,
    helped: &mut Helped<P>,
    slots: u64,
    given: &mut BTreeMap<(P, P, MediaTrack), u64>,
) {
    helped.need -= slots;
    helper.left -= slots * helped.cost.slot();
    *given.entry((helper.peer, helped.peer, helped.track)).or_default() += helped.cost.upload(slots);
}

/// What a participant does about the office by itself.
#[derive(Clone, Debug)]
pub(super) struct Office<P> {
    /// Who held it at the last look, and since when just these.
    holders: BTreeSet<P>,
    changed: Instant,
    /// Since when others are clearly better.
    beaten_since: Option<Instant>,
    look_at: Option<Instant>,
}

/// What is to be said of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Take,
    GiveUp,
}

/// Whoever is beaten stays for so long.
const HOLD: Duration = Duration::from_secs(15);

/// And others who are beaten, too, go one after the other, so far apart.
const MOVE_INTERVAL: Duration = Duration::from_secs(5);

impl<P: WirePeer> Office<P> {
    pub(super) fn new(now: Instant) -> Self {
        Self { holders: BTreeSet::new(), changed: now, beaten_since: None, look_at: None }
    }

    /// When to look again though nothing has changed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// Draws the conclusions for `local` from an election, or from there being none in a small group.
    pub(super) fn review(
        &mut self,
        local: P,
        offers: &[Offer<P>],
        allotment: Option<&Allotment<P>>,
        now: Instant,
    ) -> Option<Step> {
        let holders: BTreeSet<P> =
            offers.iter().filter(|offer| offer.relay_us > 0).map(|offer| offer.peer).collect();
        let holds = holders.contains(&local);
        if holders != self.holders {
            (self.holders, self.changed) = (holders, now);
        }
        self.look_at = None;
        let Some(allotment) = allotment else {
            self.beaten_since = None;
            return holds.then_some(Step::GiveUp);
        };
        if !holds {
            self.beaten_since = None;
            return allotment.serving.contains(&local).then_some(Step::Take);
        }
        if !allotment.beaten.contains(&local) {
            self.beaten_since = None;
            return None;
        }
        let since = *self.beaten_since.get_or_insert(now);
        let due = (since + HOLD).max(self.changed + MOVE_INTERVAL);
        let is_worst = allotment.beaten.last() == Some(&local);
        if is_worst && due <= now {
            self.beaten_since = None;
            return Some(Step::GiveUp);
        }
        self.look_at = Some(due.max(now + MOVE_INTERVAL / 5));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::forest::HelperPlan;
    use crate::swarm::group::media::upload;

    const UPLOAD: u64 = 625_000;

    fn cost(track: MediaTrack) -> Cost {
        upload::cost(track, &MediaOptions::new(UPLOAD), false, &Config::medium())
    }

    fn demand(track: MediaTrack, receivers: u64) -> Demand {
        Demand { track, receivers }
    }

    /// A call of which three are shown in full, nine small, and everybody may upload the same.
    fn call(count: u64) -> Vec<Offer<u64>> {
        let offer = |peer: u64| {
            let mut demands = Vec::new();
            if peer < 3 {
                demands.push(demand(MediaTrack::Audio, count - 1));
            }
            if (3..12).contains(&peer) {
                demands.push(demand(MediaTrack::Thumbnail, count - 1));
            }
            if peer < 3 {
                demands.push(demand(MediaTrack::Video, count - 1));
            }
            Offer { peer: peer * 77 + 5, upload: UPLOAD, joined_us: peer, relay_us: 0, demands }
        };
        (0..count).map(offer).collect()
    }

    /// What each participant uses of its upload if all plans are carried out, in percent, and the depth of the deepest plan for
    /// pictures and for sound.
    fn carry_out(offers: &[Offer<u64>], allotment: &Allotment<u64>) -> (BTreeMap<u64, u64>, [usize; 2]) {
        let mut used: BTreeMap<u64, u64> = BTreeMap::new();
        let mut depths = [0; 2];
        for offer in offers {
            for share in &allotment.own[&offer.peer] {
                let cost = cost(share.track);
                let mut plan = HelperPlan::new(
                    offer.peer,
                    share.bytes_per_s,
                    cost.plan_rate,
                    cost.stripes as u8,
                    offers.len(),
                );
                let others: Vec<u64> =
                    offers.iter().map(|other| other.peer).filter(|&peer| peer != offer.peer).collect();
                let gift = |peer| allotment.given.get(&(peer, offer.peer, share.track)).copied().unwrap_or(0);
                let expected: Vec<_> = others.iter().map(|&peer| (peer, gift(peer))).collect();
                plan.expect(&expected, Instant::from_secs(2), &mut Vec::new());
                for &peer in &others {
                    for stripe in 0..cost.stripes as u8 {
                        let parent = plan.parent(peer, stripe).expect("everybody has a place");
                        *used.entry(parent).or_default() += cost.slot();
                    }
                }
                let place = usize::from(share.track == MediaTrack::Audio);
                if share.track != MediaTrack::Thumbnail {
                    depths[place] = plan.depth_max().max(depths[place]);
                }
            }
        }
        (used.into_iter().map(|(peer, bytes)| (peer, bytes * 100 / UPLOAD)).collect(), depths)
    }

    #[test]
    fn fifty_and_two_hundred_fit_their_uploads() {
        for (count, depths_max) in [(50, [3, 2]), (200, [3, 2])] {
            let offers = call(count);
            let allotment = allot(&offers, cost, &MediaOptions::new(UPLOAD));
            let (used, depths) = carry_out(&offers, &allotment);
            let most = used.values().copied().max().unwrap_or(0);
            assert!(most <= 89, "{count}: {used:?}");
            assert!(depths[0] <= depths_max[0] && depths[1] <= depths_max[1], "{count}: {depths:?}");
        }
    }

    /// Everybody passes on one video of few; the strong could do it alone.
    fn mixed(count: u64) -> Vec<Offer<u64>> {
        let offer = |peer: u64| {
            let receivers = count - 1;
            let demands =
                if peer == 0 { alloc::vec![demand(MediaTrack::Video, receivers)] } else { Vec::new() };
            let upload = if peer % 5 == 4 { 4 * UPLOAD } else { UPLOAD };
            Offer { peer, upload, joined_us: 1_000 + peer, relay_us: 0, demands }
        };
        (0..count).map(offer).collect()
    }

    fn elected(offers: &[Offer<u64>]) -> Allotment<u64> {
        allot(offers, cost, &MediaOptions::new(UPLOAD))
    }

    fn declare(offers: &mut [Offer<u64>], serving: &BTreeSet<u64>, at_us: u64) {
        for offer in offers.iter_mut().filter(|offer| serving.contains(&offer.peer)) {
            offer.relay_us = at_us;
        }
    }

    #[test]
    fn the_strong_are_elected_and_of_equals_who_came_first() {
        let offers = mixed(60);
        let allotment = elected(&offers);
        let few: Vec<u64> = allotment.serving.iter().copied().collect();
        assert_eq!(few, [4, 9, 14, 19, 24], "as many as are needed");
        assert!(allotment.given.keys().all(|(helper, _, _)| few.contains(helper)));
        assert!(allotment.beaten.is_empty());
        let (used, depths) = carry_out(&offers, &allotment);
        assert!(depths[0] <= 3 && used.values().all(|&percent| percent <= 4 * 89), "{depths:?}: {used:?}");
        let mut shuffled = offers.clone();
        shuffled.reverse();
        assert_eq!(elected(&shuffled).serving, allotment.serving, "everybody elects the same");
        assert_eq!(elected(&shuffled).given, allotment.given);
    }

    #[test]
    fn who_serves_goes_on_until_it_is_gone_or_clearly_beaten() {
        let mut offers = mixed(60);
        let first = elected(&offers).serving;
        declare(&mut offers, &first, 5);
        // Equals who came earlier change nothing, nor does one that is a little stronger.
        offers[54].joined_us = 1;
        offers[59].upload += UPLOAD / 4;
        let again = elected(&offers);
        assert_eq!((&again.serving, again.beaten.len()), (&first, 0));
        // One that leaves is replaced at once, and nobody else moves.
        let without: Vec<_> = offers.iter().filter(|offer| offer.peer != 14).cloned().collect();
        let serving = elected(&without).serving;
        assert!(first.iter().filter(|&&peer| peer != 14).all(|peer| serving.contains(peer)));
        assert_eq!(serving.len(), first.len(), "{serving:?}");
        // The weak who serve for want of others are beaten when the strong come, and serve until they give it up.
        let mut offers = mixed(60);
        let weak: BTreeSet<u64> = (1..60).filter(|peer| peer % 5 != 4).take(20).collect();
        declare(&mut offers, &weak, 5);
        let allotment = elected(&offers);
        assert_eq!(allotment.serving, weak);
        assert!(allotment.beaten.len() > 10, "{:?}", allotment.beaten);
    }

    #[test]
    fn the_office_is_held_for_a_while_and_given_up_one_by_one() {
        let mut offers = mixed(60);
        let weak: BTreeSet<u64> = (1..60).filter(|peer| peer % 5 != 4).take(20).collect();
        declare(&mut offers, &weak, 5);
        let start = Instant::from_secs(100);
        let mut offices: BTreeMap<u64, Office<u64>> =
            weak.iter().map(|&peer| (peer, Office::new(start))).collect();
        let mut given_up: Vec<Duration> = Vec::new();
        for tick in 0..240 {
            let now = start + Duration::from_millis(250) * tick;
            let allotment = elected(&offers);
            for (&peer, office) in &mut offices {
                if office.review(peer, &offers, Some(&allotment), now) == Some(Step::GiveUp) {
                    given_up.push(now - start);
                    assert_eq!(allotment.beaten.last(), Some(&peer), "the worst goes first");
                    offers[peer as usize].relay_us = 0;
                }
            }
        }
        assert!(given_up.len() > 3, "{given_up:?}");
        assert!(given_up[0] >= HOLD, "{given_up:?}");
        assert!(given_up.windows(2).all(|pair| pair[1] - pair[0] >= MOVE_INTERVAL), "{given_up:?}");
        // Whoever is needed says so, and in a small group nobody holds an office.
        let mut office = Office::new(start);
        let offers = mixed(60);
        assert_eq!(office.review(4, &offers, Some(&elected(&offers)), start), Some(Step::Take));
        assert_eq!(office.review(5, &offers, Some(&elected(&offers)), start), None);
        let mut offers = mixed(60);
        declare(&mut offers, &BTreeSet::from([4]), 5);
        assert_eq!(office.review(4, &offers, None, start), Some(Step::GiveUp));
        assert_eq!(office.review(5, &offers, None, start), None);
    }
}
