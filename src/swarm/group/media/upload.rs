//! What a participant spends on its own tracks, and what is left for those of others.

use super::options::{MediaOptions, MediaTopology, MediaTrack};

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
    /// Whether everybody is expected to receive it.
    pub(super) is_received: bool,
    /// What is sent of it, parity included, in percent.
    pub(super) redundancy: u16,
}

/// Plans use this much of what they are given, in percent; see [`PlanConfig`](crate::PlanConfig).
const USE_PERCENT: u64 = 85;

/// What plans may be given of the upload, in percent: they use up to 95 % of that where they must.
const GIVEN_PERCENT: u64 = 93;

/// Tracks that take less than this of the upload, in percent, are not worth a relay.
const SMALL_PERCENT: u64 = 25;

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

/// What a plan must be given to feed so many itself.
fn needed(demand: &Demand, options: &MediaOptions) -> u64 {
    // Room for headers and for rounding.
    rate(demand.track, options) * demand.receivers.max(1) * 106 / USE_PERCENT + 1
}

/// Divides the upload among own tracks, small ones first.
pub(super) fn divide(demands: &[Demand], options: &MediaOptions) -> alloc::vec::Vec<Share> {
    let budget = options.upload_bytes_per_s * GIVEN_PERCENT / 100;
    let all: u64 = demands.iter().map(|demand| needed(demand, options)).sum();
    let small = |need: u64| need <= options.upload_bytes_per_s * SMALL_PERCENT / 100;
    let whole = |need: u64| match options.topology {
        MediaTopology::Mesh => true,
        MediaTopology::Relay => false,
        MediaTopology::Auto => all <= options.upload_bytes_per_s || small(need),
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
    let share = |demand: &Demand| {
        let need = needed(demand, options);
        if whole(need) {
            let redundancy = redundancy(demand, all, demands, options);
            return Share {
                track: demand.track,
                bytes_per_s: need,
                whole: true,
                is_received: true,
                redundancy,
            };
        }
        let once = once(demand.track, options);
        let bytes_per_s = (left * rate(demand.track, options) / rates.max(1)).clamp(once, need.max(once));
        Share { track: demand.track, bytes_per_s, whole: false, is_received: true, redundancy: 100 }
    };
    demands.iter().map(share).collect()
}

/// What is left of the upload protects what is sent: sound twice, then pictures as far as it goes.
fn redundancy(demand: &Demand, all: u64, demands: &[Demand], options: &MediaOptions) -> u16 {
    let of = |track| {
        demands.iter().filter(move |demand| demand.track == track).map(|demand| needed(demand, options))
    };
    let audio: u64 = of(MediaTrack::Audio).sum();
    let video: u64 = of(MediaTrack::Video).sum();
    // Plans use less than they are given; the rest is for this.
    let room = (options.upload_bytes_per_s * PROTECTED_PERCENT / 100).saturating_sub(all);
    match demand.track {
        MediaTrack::Audio if audio <= room => 200,
        MediaTrack::Video => 100 + (room.saturating_sub(audio) * 100 / video.max(1)).min(25) as u16,
        _ => 100,
    }
}

/// What is given to plans and to parity, in percent: used by 85 %, and with room for headers that is rarely needed.
const PROTECTED_PERCENT: u64 = 105;

/// What a plan must be given at least.
pub(super) fn once(track: MediaTrack, options: &MediaOptions) -> u64 {
    rate(track, options) * 125 / 100
}

/// The share of a track that is on, though hardly anybody receives it.
pub(super) fn idle(track: MediaTrack, receivers: u64, options: &MediaOptions) -> Share {
    let need = needed(&Demand { track, receivers }, options);
    let whole = options.topology == MediaTopology::Mesh || need <= options.upload_bytes_per_s / 4;
    let bytes_per_s = if whole { need } else { once(track, options) };
    Share { track, bytes_per_s, whole, is_received: false, redundancy: 100 }
}

/// What a plan must be given for receivers to come one by one: each relay helps with one stripe only, so until there is one
/// for every stripe the participant feeds most of them itself.
pub(super) fn beginning(track: MediaTrack, receivers: u64, stripes: u8, options: &MediaOptions) -> u64 {
    let stripes = u64::from(stripes);
    let present = receivers.min(stripes.div_ceil(2));
    // Half as many again, as slots are not always where they are needed.
    let slots = (present * (stripes + 1 - present) + stripes) * 3 / 2;
    rate(track, options) * slots * 106 / (USE_PERCENT * stripes) + 1
}

/// What is left of the upload beside own tracks.
pub(super) fn spare(own: &[Share], options: &MediaOptions) -> u64 {
    let budget = options.upload_bytes_per_s * GIVEN_PERCENT / 100;
    budget.saturating_sub(own.iter().map(|share| share.bytes_per_s).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(receivers: u64) -> [Demand; 3] {
        [MediaTrack::Audio, MediaTrack::Thumbnail, MediaTrack::Video].map(|track| Demand { track, receivers })
    }

    #[test]
    fn four_feed_each_other_and_sixteen_need_relays() {
        let mut options = MediaOptions::new(625_000);
        assert!(divide(&full(3), &options).iter().all(|share| share.whole));
        let shares = divide(&full(15), &options);
        assert_eq!(
            shares.iter().map(|share| share.whole).collect::<alloc::vec::Vec<_>>(),
            [true, true, false]
        );
        let sum: u64 = shares.iter().map(|share| share.bytes_per_s).sum();
        assert!(sum <= 625_000, "{shares:?}");
        assert!(spare(&shares, &options) < 1_000, "a speaker keeps its upload for itself: {shares:?}");
        options.topology = MediaTopology::Mesh;
        assert!(divide(&full(15), &options).iter().all(|share| share.whole));
        options.topology = MediaTopology::Relay;
        assert!(divide(&full(3), &options).iter().all(|share| !share.whole));
    }
}
