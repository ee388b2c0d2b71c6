//! A running hash over everything that happens, to compare two runs.

use alloc::format;

use crate::id::UpdateId;
use crate::io::{Event, Update};
use crate::rng::mix;
use crate::time::Instant;

use bytes::Bytes;

use super::NodeId;
use super::memo::Memo;

/// Equal on every platform and in every build profile, if the hosts are.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    /// Relays pass on the very frames that they got, and neighbours often get one frame.
    contents: Memo<u64>,
}

impl Trace {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn frame(&mut self, now: Instant, from: NodeId, to: NodeId, frame: &Bytes) {
        let content = self.contents.of(frame, |frame| content_hash(frame));
        for word in [now.as_micros(), from, to, content] {
            self.word(word);
        }
    }

    pub(super) fn event(&mut self, now: Instant, node: NodeId, event: &Event<NodeId>) {
        self.word(now.as_micros());
        self.word(node);
        match event {
            Event::Delivered(update) => self.update(update),
            Event::NeighborUp { swarm, peer } => {
                [1, swarm.0, *peer].into_iter().for_each(|word| self.word(word))
            }
            Event::NeighborDown { swarm, peer } => {
                [2, swarm.0, *peer].into_iter().for_each(|word| self.word(word))
            }
            // Rare, and their derived text holds whole numbers only.
            other => self.word(content_hash(format!("{other:?}").as_bytes())),
        }
    }

    fn update(&mut self, update: &Update<NodeId>) {
        let UpdateId { swarm, origin, epoch, sequence } = update.id;
        // Often many get the same.
        let payload = self.contents.of(&update.payload, |payload| content_hash(payload));
        let flags = u64::from(update.keyframe) | u64::from(update.layer) << 8 | u64::from(update.hops) << 16;
        for word in [
            swarm.0,
            origin,
            u64::from(epoch.0),
            sequence,
            update.state.0,
            update.priority as u64,
            flags,
            update.born.as_micros(),
            payload,
        ] {
            self.word(word);
        }
    }

    pub(super) fn word(&mut self, word: u64) {
        self.hash = mix(self.hash ^ word);
    }
}

/// Four lanes, because one multiplication after another would wait for each other. Not for adversaries.
pub(super) fn content_hash(bytes: &[u8]) -> u64 {
    const FACTORS: [u64; 4] =
        [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];
    let mut lanes = FACTORS;
    let mut step = |block: &[u8; 32]| {
        for (lane, word) in block.chunks_exact(8).enumerate() {
            let mut number = [0; 8];
            number.copy_from_slice(word);
            let mixed = (lanes[lane] ^ u64::from_le_bytes(number)).wrapping_mul(FACTORS[lane]);
            lanes[lane] = mixed ^ (mixed >> 32);
        }
    };
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        let mut copy = [0; 32];
        copy.copy_from_slice(block);
        step(&copy);
    }
    let rest = blocks.remainder();
    if !rest.is_empty() {
        let mut last = [0; 32];
        last[..rest.len()].copy_from_slice(rest);
        step(&last);
    }
    lanes.into_iter().fold(bytes.len() as u64, |hash, lane| mix(hash ^ lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_length_count() {
        let mut bytes = [7u8; 100];
        let whole = content_hash(&bytes);
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            assert_ne!(content_hash(&bytes), whole, "byte {index}");
            bytes[index] ^= 1;
        }
        assert_ne!(content_hash(&[0; 5]), content_hash(&[0; 6]));
        assert_ne!(content_hash(&[]), content_hash(&[0]));
    }

    #[test]
    fn the_hash_is_the_same_on_every_platform() {
        assert_eq!(content_hash(b"suffuse: the same bytes, the same hash, everywhere"), GOLDEN);
    }

    const GOLDEN: u64 = 524_100_639_433_760_908;
}
