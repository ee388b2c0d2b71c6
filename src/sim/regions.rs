//! The world in eight regions.

use super::NodeId;
use super::network::share;
use crate::rng::mix;

pub(super) const NAMES: [&str; 8] = [
    "north america east",
    "north america west",
    "south america",
    "europe",
    "africa",
    "south asia",
    "east asia",
    "oceania",
];

/// How many of a hundred nodes live in each region: connected homes, roughly.
const WEIGHTS: [u64; 8] = [14, 8, 10, 24, 6, 18, 17, 3];

/// Round-trip times between the regions' backbones in milliseconds: the order of what public clouds report between
/// their sites, rounded to 5. The diagonal is a trip within the region. Row and column order is that of `NAMES`.
const RTT_MS: [[u16; 8]; 8] = [
    [20, 65, 120, 90, 230, 200, 165, 205],
    [65, 20, 175, 145, 290, 230, 110, 145],
    [120, 175, 30, 200, 340, 305, 265, 315],
    [90, 145, 200, 20, 155, 125, 225, 270],
    [230, 290, 340, 155, 40, 270, 350, 400],
    [200, 230, 305, 125, 270, 30, 125, 150],
    [165, 110, 265, 225, 350, 125, 35, 110],
    [205, 145, 315, 270, 400, 150, 110, 25],
];

const ACCESS_MIN_US: u64 = 1_000;
const ACCESS_SPAN_US: u64 = 14_001;

pub(super) fn region_of(key: u64, node: NodeId) -> usize {
    let mut point = share(mix(key ^ mix(node ^ 0x7265_6769_6f6e)), 100);
    for (region, &weight) in WEIGHTS.iter().enumerate() {
        if point < weight {
            return region;
        }
        point -= weight;
    }
    0
}

/// One way: both last miles, and half the round trip of the backbone, up to 15 % more by the pair.
pub(super) fn latency_us(key: u64, a: NodeId, b: NodeId, pair: u64) -> u64 {
    let backbone_us = u64::from(RTT_MS[region_of(key, a)][region_of(key, b)]) * 500;
    access_us(key, a) + access_us(key, b) + backbone_us + share(pair, backbone_us * 15 / 100 + 1)
}

/// Queues on the way: mean 2.3 % of the latency; each further 1.6 % is half as likely, up to 20 %.
pub(super) fn jitter_us(latency_us: u64, dice: u64) -> u64 {
    let halvings = u64::from(dice.trailing_zeros().min(12));
    let within = dice >> 54;
    latency_us * (halvings * 1_024 + within) / (64 * 1_024)
}

fn access_us(key: u64, node: NodeId) -> u64 {
    ACCESS_MIN_US + share(mix(key ^ mix(node ^ 0x6163_6365_7373)), ACCESS_SPAN_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Seed};
    use crate::sim::{LinkModel, Network, NetworkConfig};

    #[test]
    fn the_table_is_symmetric_and_the_weights_are_whole() {
        assert_eq!(WEIGHTS.iter().sum::<u64>(), 100);
        for (a, row) in RTT_MS.iter().enumerate() {
            for (b, &rtt_ms) in row.iter().enumerate() {
                assert_eq!(rtt_ms, RTT_MS[b][a]);
            }
        }
    }

    #[test]
    fn nodes_settle_by_weight_and_latencies_are_symmetric() {
        let config = NetworkConfig { links: LinkModel::Regions, ..NetworkConfig::default() };
        let network = Network::new(config, Seed::from_u64(1));
        let mut settled = [0u64; 8];
        for node in 0..10_000 {
            settled[network.region(node)] += 1;
            let us = network.latency_us(node, node / 2);
            assert_eq!(us, network.latency_us(node / 2, node));
            assert!((12_000..=262_000).contains(&us), "{us}");
        }
        for (count, weight) in settled.into_iter().zip(WEIGHTS) {
            assert!(count.abs_diff(weight * 100) < 250, "{count} for {weight}");
        }
    }

    #[test]
    fn jitter_has_a_small_mean_and_a_bounded_tail() {
        let mut rng = Rng::new(Seed::from_u64(1));
        let drawn: Vec<u64> = (0..100_000).map(|_| jitter_us(100_000, rng.next_u64())).collect();
        let mean = drawn.iter().sum::<u64>() / 100_000;
        assert!((2_200..2_500).contains(&mean), "{mean}");
        let most = drawn.iter().copied().max().unwrap();
        assert!((12_000..=20_400).contains(&most), "{most}");
    }

    use alloc::vec::Vec;
}
