//! What a participant spends on its own tracks, and on those of others. Everybody who has the same roster comes to the same
//! shares, for itself and for all others.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::options::{MediaOptions, MediaTopology, MediaTrack};
use super::relays::Cost;
use super::stripes;
use crate::config::Config;
use crate::forest::{HELPER_USE_PERCENT, wire_rate};
use crate::rng::mix;
use crate::swarm::livestream::with_seals;
use crate::wire::{CHUNK_HEADER_BYTES_MAX, WirePeer};

/// An own track that others receive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) track: MediaTrack,
    pub(super) receivers: u64,
}

/// What is spent on one track, in bytes a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Share {
    pub(super) track: MediaTrack,
    pub(super) bytes_per_s: u64,
    /// Whether it feeds all receivers.
    pub(super) whole: bool,
    /// What is sent of it, parity included, in percent.
    pub(super) redundancy: u16,
}

/// A track that its participant cannot feed to everybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helped<P> {
    pub(super) peer: P,
    pub(super) track: MediaTrack,
    /// What others must give, in bytes a second.
    pub(super) need: u64,
    /// What one stripe takes for one receiver: who gives anything gives so much, or twice as much, and so on.
    pub(super) slot: u64,
    /// Nothing was sent of it yet: places are held for it that others have, too.
    pub(super) is_idle: bool,
}

/// What plans may be given of the upload, in percent; they use [`HELPER_USE_PERCENT`] of that.
pub(super) const GIVEN_PERCENT: u64 = 93;

/// Up to this use of its upload, in percent, a participant feeds all others itself.
const MESH_PERCENT: u64 = 85;

/// Tracks that take less than this of the upload, in percent, are not worth a relay.
const SMALL_PERCENT: u64 = 25;

/// Headers of the transport and of messages, on top of a rate, in percent.
const WIRE_PERCENT: u64 = 105;

/// A source that others help has the bursts of its keyframes to send, too: what it gives, in percent of what all have to give on
/// average.
const HELPED_PERCENT: u64 = 106;

/// What a track takes on the wire for each receiver, but for what plans add, in bytes a second.
pub(super) fn rate(track: MediaTrack, options: &MediaOptions) -> u64 {
    // Small frames, and frames that do not fill their chunks, have more headers than plans assume.
    let headers = match track {
        MediaTrack::Audio => 2_500,
        MediaTrack::Thumbnail => 750,
        MediaTrack::Video | MediaTrack::Screen => 1_000,
    };
    options.rate(track) + headers
}

/// What a stripe of a track takes on its way, in large groups.
pub(super) fn cost(track: MediaTrack, options: &MediaOptions, is_sealed: bool, config: &Config) -> Cost {
    let chunk = config.frame_bytes_max.saturating_sub(CHUNK_HEADER_BYTES_MAX);
    let planned = wire_rate(rate(track, options), 100, chunk, &config.egress);
    let plan_rate = if is_sealed { with_seals(planned) } else { planned };
    // What is reckoned for headers of small frames has room for everything.
    let wire_rate = match track {
        MediaTrack::Audio | MediaTrack::Thumbnail => rate(track, options),
        MediaTrack::Video | MediaTrack::Screen => planned,
    };
    Cost { stripes: stripes(track, options).into(), plan_rate, wire_rate }
}

/// What a plan must be given to feed so many itself.
fn needed(demand: &Demand, options: &MediaOptions) -> u64 {
    // Room for headers and for rounding.
    rate(demand.track, options) * demand.receivers.max(1) * 106 / HELPER_USE_PERCENT + 1
}

/// What a plan must be given to feed one receiver with one stripe.
pub(super) fn slot(track: MediaTrack, options: &MediaOptions) -> u64 {
    let stripes = u64::from(super::stripes(track, options));
    (rate(track, options) * WIRE_PERCENT).div_ceil(stripes * HELPER_USE_PERCENT)
}

/// What participants who need help use of their uploads, in percent, if all demands on all uploads are those: about as much as
/// others. What waits behind a keyframe leaves the sooner the less is used.
pub(super) fn balanced_percent(demands: u64, uploads: u64) -> u64 {
    let percent = u128::from(demands) * u128::from(HELPED_PERCENT * 100 / HELPER_USE_PERCENT);
    u64::try_from(percent / u128::from(uploads.max(1))).unwrap_or(u64::MAX).min(GIVEN_PERCENT)
}

/// What a demand takes of uploads, in bytes a second.
pub(super) fn taken(demand: &Demand, options: &MediaOptions) -> u64 {
    (rate(demand.track, options) * WIRE_PERCENT / 100).saturating_mul(demand.receivers)
}

/// Divides the upload among own tracks, small ones first. Of a participant that needs help not more than the balanced share is
/// used.
pub(super) fn divide(demands: &[Demand], balanced_percent: u64, options: &MediaOptions) -> Vec<Share> {
    let budget = options.upload_bytes_per_s * GIVEN_PERCENT / 100;
    let held_back = options.upload_bytes_per_s * (GIVEN_PERCENT - balanced_percent.min(GIVEN_PERCENT)) / 100;
    let all: u64 = demands.iter().map(|demand| needed(demand, options)).sum();
    let small = |need: u64| need <= options.upload_bytes_per_s * SMALL_PERCENT / 100;
    let whole = |need: u64| match options.topology {
        MediaTopology::Mesh => true,
        MediaTopology::Relay => false,
        MediaTopology::Auto => {
            all * HELPER_USE_PERCENT <= options.upload_bytes_per_s * MESH_PERCENT || small(need)
        }
    };
    let (mut left, mut rates) = (budget, 0);
    for demand in demands {
        let need = needed(demand, options);
        if whole(need) {
            left = left.saturating_sub(need);
        } else {
            rates += rate(demand.track, options);
        }
    }
    let left = left.saturating_sub(held_back);
    let share = |demand: &Demand| {
        let need = needed(demand, options);
        if whole(need) {
            let redundancy = redundancy(demand, demands, options);
            return Share { track: demand.track, bytes_per_s: need, whole: true, redundancy };
        }
        let once = once(demand.track, options);
        let bytes_per_s = (left * rate(demand.track, options) / rates.max(1)).clamp(once, need.max(once));
        let whole = bytes_per_s >= need && options.topology != MediaTopology::Relay;
        Share { track: demand.track, bytes_per_s, whole, redundancy: 100 }
    };
    demands.iter().map(share).collect()
}

/// What is left of the upload protects what is sent: sound twice, then pictures as far as it goes.
fn redundancy(demand: &Demand, demands: &[Demand], options: &MediaOptions) -> u16 {
    let used = |demand: &Demand| rate(demand.track, options) * demand.receivers;
    let of = |track| demands.iter().filter(move |demand| demand.track == track).map(used);
    let audio: u64 = of(MediaTrack::Audio).sum();
    let video: u64 = of(MediaTrack::Video).sum();
    // Plans are given more than is used; the rest is for this.
    let all: u64 = demands.iter().map(used).sum();
    let room = (options.upload_bytes_per_s * PROTECTED_PERCENT / 100).saturating_sub(all);
    match demand.track {
        MediaTrack::Audio if audio <= room => 200,
        MediaTrack::Video => 100 + (room.saturating_sub(audio) * 100 / video.max(1)).min(13) as u16,
        _ => 100,
    }
}

/// How much of the upload may be used if parity is counted, in percent.
const PROTECTED_PERCENT: u64 = 90;

/// What a plan must be given at least.
pub(super) fn once(track: MediaTrack, options: &MediaOptions) -> u64 {
    rate(track, options) * 125 / 100
}

/// The share of a track that is on, though hardly anybody receives it.
pub(super) fn idle(track: MediaTrack, receivers: u64, options: &MediaOptions) -> Share {
    let need = needed(&Demand { track, receivers }, options);
    let whole = options.topology == MediaTopology::Mesh || need <= options.upload_bytes_per_s / 4;
    let bytes_per_s = if whole { need } else { once(track, options) };
    Share { track, bytes_per_s, whole, redundancy: 100 }
}

/// What is left of the upload beside own tracks.
pub(super) fn spare(own: &[Share], balanced_percent: u64, options: &MediaOptions) -> u64 {
    let helped_percent = balanced_percent.min(GIVEN_PERCENT);
    let percent = if own.iter().all(|share| share.whole) { GIVEN_PERCENT } else { helped_percent };
    let budget = options.upload_bytes_per_s * percent / 100;
    budget.saturating_sub(own.iter().map(|share| share.bytes_per_s).sum())
}

/// The share of a track of which nothing was sent yet: what is to spare.
pub(super) fn of_spare(demand: &Demand, spare: u64, options: &MediaOptions) -> Share {
    let (need, once) = (needed(demand, options), once(demand.track, options));
    let bytes_per_s = spare.clamp(once, need.max(once));
    Share { track: demand.track, bytes_per_s, whole: bytes_per_s >= need, redundancy: 100 }
}

/// What others must give for a track that gets this share of its participant's upload.
pub(super) fn missing(demand: &Demand, share: &Share, options: &MediaOptions) -> u64 {
    if share.whole {
        return 0;
    }
    let slot = slot(demand.track, options);
    let slots = demand.receivers * u64::from(super::stripes(demand.track, options));
    slots.saturating_sub(share.bytes_per_s / slot) * slot
}

/// A participant, with what its own tracks leave of its upload, in bytes a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper<P> {
    pub(super) peer: P,
    pub(super) spare: u64,
}

/// Whether those who have anything to spare can give all that is needed now, in whole slots.
pub(super) fn suffices<P: WirePeer>(helped: &[Helped<P>], helpers: &[Helper<P>]) -> bool {
    let busy = helped.iter().filter(|helped| !helped.is_idle);
    let Some(slot) = busy.clone().map(|helped| helped.slot).max() else { return true };
    let able: u64 = helpers.iter().map(|helper| helper.spare / slot * slot).sum();
    able >= busy.map(|helped| helped.need).sum()
}

/// What each participant gives to each track of others: who, whose, which, and how much, in bytes a second.
///
/// Everybody serves few tracks, one if possible: a helper of many would pass on much at once now and then, and each of its
/// children would wait for the others. And when tracks come and go, most of the others keep their helpers (rendezvous
/// hashing, Thaler and Ravishankar, 1998).
pub(super) fn give<P: WirePeer>(
    helped: &[Helped<P>],
    helpers: &[Helper<P>],
) -> BTreeMap<(P, P, MediaTrack), u64> {
    let need: u64 = helped.iter().map(|helped| helped.need).sum();
    let busy: u64 = helped.iter().filter(|helped| !helped.is_idle).map(|helped| helped.need).sum();
    let spare: u64 = helpers.iter().map(|helper| helper.spare).sum();
    if need == 0 || spare == 0 {
        return BTreeMap::new();
    }
    // Where there is more than enough, everybody gives less, not a few everything.
    let asked = if busy == 0 { spare } else { (busy + busy / 64).min(spare) };
    // Places that are only held change nothing for those who need some now.
    let counts = |helped: &&Helped<P>| busy == 0 || !helped.is_idle;
    let slot = helped.iter().filter(counts).map(|helped| helped.slot).max().unwrap_or(1).max(1);
    // What a keyframe adds for a while follows from what is given alone, so nobody gives much more than others.
    let able = helpers.iter().filter(|helper| helper.spare >= slot).count().max(1) as u64;
    let even = (asked / able * EVEN_PERCENT / 100).next_multiple_of(slot);
    let share =
        |spare_of: u64| ((u128::from(spare_of) * u128::from(asked) / u128::from(spare)) as u64).min(even);
    let mut left: Vec<u64> = helpers.iter().map(|helper| share(helper.spare) / slot * slot).collect();
    let mut lacking = asked.saturating_sub(left.iter().sum());
    let mut order: Vec<usize> = (0..helpers.len()).collect();
    // Those first who had to give up the most by rounding.
    order.sort_by_key(|&helper| (Reverse(share(helpers[helper].spare) % slot), helpers[helper].peer));
    for limit in [even, spare] {
        for &helper in &order {
            let room = limit.min(helpers[helper].spare).saturating_sub(left[helper]) / slot * slot;
            let more = if limit == even { room.min(slot) } else { room.min(lacking.next_multiple_of(slot)) };
            if lacking > 0 {
                left[helper] += more;
                lacking = lacking.saturating_sub(more);
            }
        }
    }
    let mut needs: Vec<u64> = helped.iter().map(|helped| helped.need).collect();
    let mut pairs = Vec::with_capacity(helped.len() * helpers.len());
    for (track, helped) in helped.iter().enumerate() {
        let key = mix(helped.peer.digest() ^ helped.track as u64);
        let others = helpers.iter().enumerate().filter(|(_, helper)| helper.peer != helped.peer);
        pairs.extend(others.map(|(place, helper)| {
            // Large tracks last: what they need can come from anybody.
            let large = !matches!(helped.track, MediaTrack::Audio | MediaTrack::Screen);
            (large, mix(helper.peer.digest() ^ key), place, track)
        }));
    }
    pairs.sort_unstable();
    let mut given = BTreeMap::new();
    for (_, _, helper, track) in pairs {
        // Nobody carries a track alone.
        let slot = helped[track].slot;
        let half = (helped[track].need / 2).next_multiple_of(slot);
        let amount = left[helper].min(needs[track]).min(half) / slot * slot;
        if amount > 0 {
            if !helped[track].is_idle {
                left[helper] -= amount;
            }
            needs[track] -= amount;
            given.insert((helpers[helper].peer, helped[track].peer, helped[track].track), amount);
        }
    }
    given
}

/// How much more than others a helper gives, in percent of the average, unless there is no other way.
const EVEN_PERCENT: u64 = 105;

#[cfg(test)]
mod tests {
    use super::*;

    fn full(receivers: u64) -> [Demand; 3] {
        [MediaTrack::Audio, MediaTrack::Thumbnail, MediaTrack::Video].map(|track| Demand { track, receivers })
    }

    #[test]
    fn four_feed_each_other_and_sixteen_need_relays() {
        let mut options = MediaOptions::new(625_000);
        assert!(divide(&full(3), 100, &options).iter().all(|share| share.whole));
        let shares = divide(&full(15), 100, &options);
        assert_eq!(
            shares.iter().map(|share| share.whole).collect::<alloc::vec::Vec<_>>(),
            [true, true, false]
        );
        let sum: u64 = shares.iter().map(|share| share.bytes_per_s).sum();
        assert!(sum <= 625_000, "{shares:?}");
        assert!(spare(&shares, 100, &options) < 1_000, "a speaker keeps its upload for itself: {shares:?}");
        assert!(missing(&full(15)[2], &shares[2], &options) > 1_500_000);
        options.topology = MediaTopology::Mesh;
        assert!(divide(&full(15), 100, &options).iter().all(|share| share.whole));
        options.topology = MediaTopology::Relay;
        assert!(divide(&full(3), 100, &options).iter().all(|share| !share.whole));
    }

    #[test]
    fn helpers_serve_few_tracks_and_keep_them() {
        let helped = |peers: &[u64]| -> Vec<_> {
            let video =
                |&peer| Helped { peer, track: MediaTrack::Video, need: 2_000_000, slot: 1, is_idle: false };
            peers.iter().map(video).collect()
        };
        let given = |speakers: &[u64]| {
            let others = (0..16u64).filter(|peer| !speakers.contains(peer));
            let helpers: Vec<_> = others.map(|peer| Helper { peer, spare: 480_000 }).collect();
            give(&helped(speakers), &helpers)
        };
        let before = given(&[3, 5, 9]);
        for speaker in [3, 5, 9] {
            let gifts = before.iter().filter(|((_, source, _), _)| *source == speaker);
            assert_eq!(gifts.map(|(_, given)| given).sum::<u64>(), 2_000_000);
        }
        assert!(before.len() <= 13 + 3, "a helper serves two only where one has enough: {before:?}");
        assert!(before.keys().all(|(helper, source, _)| helper != source));
        // Somebody else speaks.
        let after = given(&[3, 5, 11]);
        let stays = |(helper, source, _): &&(u64, u64, MediaTrack)| *source != 9 && *helper != 11;
        let (all, kept) = (before.keys().filter(stays).count(), before.keys().filter(stays));
        let kept = kept.filter(|gift| after.contains_key(gift)).count();
        assert!(kept * 2 >= all, "{kept} of {all}");
    }

    #[test]
    fn what_makes_no_whole_slot_counts_for_nothing() {
        let helped = |need, is_idle| Helped { peer: 1u64, track: MediaTrack::Video, need, slot: 10, is_idle };
        let helpers = |spare| [2u64, 3, 4].map(|peer| Helper { peer, spare });
        assert!(suffices(&[helped(60, false)], &helpers(20)));
        assert!(suffices(&[helped(60, false)], &helpers(29)));
        assert!(!suffices(&[helped(70, false)], &helpers(29)), "29 are two slots, not three");
        assert!(suffices(&[helped(60, false), helped(900, true)], &helpers(20)), "what is only held waits");
    }

    #[test]
    fn a_place_that_is_only_held_moves_nobody() {
        let video = |peer| Helped { peer, track: MediaTrack::Video, need: 2_000, slot: 100, is_idle: false };
        let screen = Helped { peer: 7, track: MediaTrack::Screen, need: 3_000, slot: 170, is_idle: true };
        let helpers: Vec<_> = (4..16u64).map(|peer| Helper { peer, spare: 560 }).collect();
        let before = give(&[video(1), video(2), video(3)], &helpers);
        let mut after = give(&[video(1), video(2), video(3), screen], &helpers);
        after.retain(|(_, _, track), _| *track != MediaTrack::Screen);
        assert_eq!(before, after);
    }
}
