//! Randomness as the host gives it: one 32-byte seed, and a portable generator behind it.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// The only source of randomness of an engine: 32 bytes from the host.
///
/// In production fill it from the operating system's entropy; in tests use [`Seed::from_u64`]. Equal seeds, inputs
/// and times give equal outputs on every platform.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed from 32 bytes of entropy.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A seed for tests and simulations. Its entropy is that of the number.
    pub fn from_u64(number: u64) -> Self {
        let mut bytes = [0; 32];
        for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&mix(number.wrapping_add(index as u64)).to_le_bytes());
        }
        Self(bytes)
    }

    /// An independent seed for the part of the program that `label` names.
    #[must_use]
    pub fn fork(&self, label: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(self.0);
        rng.set_stream(label);
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The private generator: xoshiro256** seeded through ChaCha. 32 bytes of state, integers only, portable.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    pub(crate) fn new(seed: Seed) -> Self {
        let mut chacha = ChaCha8Rng::from_seed(seed.0);
        let mut state = [0; 4];
        for word in &mut state {
            *word = chacha.next_u64();
        }
        // An all-zero state would stay zero for ever.
        state[0] |= 1;
        Self { state }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`, or zero if `bound` is zero. The bias is below 2^-32 for bounds below 2^32.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number from `low` up to, but not including, `high`; `low` if the range is empty.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low);
        low + ((u128::from(self.next_u64()) * u128::from(span)) >> 64) as u64
    }

    /// True with probability `parts` in 2^32.
    #[cfg(feature = "sim")]
    pub(crate) fn chance(&mut self, parts: u64) -> bool {
        (self.next_u64() >> 32) < parts
    }

    /// Orders `items` at random (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }

    /// One of `items`, or `None` if there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

/// A good 64-bit mix (the finaliser of SplitMix64): for keyed hashes that must be equal on every platform.
pub(crate) const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_differ_from_each_other_and_repeat() {
        let seed = Seed::from_u64(7);
        assert_eq!(seed.fork(1), seed.fork(1));
        assert_ne!(seed.fork(1), seed.fork(2));
        assert_ne!(seed.fork(1), seed);
    }

    #[test]
    fn the_generator_is_the_same_on_every_platform() {
        let mut rng = Rng::new(Seed::from_u64(1));
        let drawn = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(drawn, GOLDEN);
    }

    const GOLDEN: [u64; 3] =
        [10_629_673_958_543_571_223, 4_402_980_828_951_714_811, 1_512_845_438_711_136_605];

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut rng = Rng::new(Seed::from_u64(2));
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[rng.below(10)] = true;
        }
        assert!(seen.iter().all(|&hit| hit));
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.between(5, 5), 5);
    }
}
