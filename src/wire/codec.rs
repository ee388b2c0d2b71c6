//! Bytes in and out: varints, peers, ranges, coarse ages. Reading never panics and never trusts a length.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::id::PeerId;

/// Why a frame could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The frame ended inside a field.
    #[error("the frame ends inside a field")]
    Truncated,
    /// The frame is of a version that this build does not speak.
    #[error("version {0} is not spoken here")]
    Version(u8),
    /// A message kind that this version does not know.
    #[error("message kind {0} is unknown")]
    Kind(u8),
    /// A field has a value outside its range.
    #[error("a field is outside its range")]
    Range,
}

/// Where encoded bytes go: a buffer, or a counter that only measures.
pub trait Put {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// Appends `number` with 7 bits a byte, the least first; the high bit says that more follow.
    fn put_varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.put_u8(number as u8);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what would be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measure(pub usize);

impl Put for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// A cursor over a received frame. Bodies come out as slices of it, without a copy.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `frame` from its first byte.
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        if len > self.remaining() {
            return Err(WireError::Truncated);
        }
        let bytes = &self.frame[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    /// The next `len` bytes as a slice that shares the frame's memory.
    pub fn take_bytes(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.remaining() {
            return Err(WireError::Truncated);
        }
        let bytes = self.frame.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    /// The next `len` bytes, to be kept: a slice of the frame, or a copy if the rest of the frame would be kept alive for
    /// much less than itself.
    pub fn take_kept(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len * 2 >= self.frame.len() {
            self.take_bytes(len)
        } else {
            self.take(len).map(Bytes::copy_from_slice)
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next four bytes, least first.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes, least first.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next varint. Only the shortest form is accepted, so that every message has one encoding.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(WireError::Range);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded { Err(WireError::Range) } else { Ok(number) };
            }
        }
        Err(WireError::Range)
    }

    /// A count of things that take at least `bytes_each` bytes: never more than the frame can hold.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, WireError> {
        let count = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        if count > self.remaining() / bytes_each.max(1) {
            return Err(WireError::Truncated);
        }
        Ok(count)
    }
}

/// A peer name that can travel: fixed size, one encoding.
///
/// Implemented for `u32`, `u64`, `u128` and `[u8; 32]`.
pub trait WirePeer: PeerId {
    /// Bytes on the wire.
    const WIRE_BYTES: usize;

    /// Appends the name.
    fn encode(&self, out: &mut impl Put);

    /// Reads a name.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError>;

    /// A hash of the name that is equal on every platform.
    fn digest(&self) -> u64;
}

macro_rules! number_peer {
    ($type:ty) => {
        impl WirePeer for $type {
            const WIRE_BYTES: usize = size_of::<$type>();

            fn encode(&self, out: &mut impl Put) {
                out.put(&self.to_le_bytes());
            }

            fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
                Ok(Self::from_le_bytes(reader.array()?))
            }

            fn digest(&self) -> u64 {
                digest_bytes(&self.to_le_bytes())
            }
        }
    };
}

number_peer!(u32);
number_peer!(u64);
number_peer!(u128);

impl WirePeer for [u8; 32] {
    const WIRE_BYTES: usize = 32;

    fn encode(&self, out: &mut impl Put) {
        out.put(self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        reader.array()
    }

    fn digest(&self) -> u64 {
        digest_bytes(self)
    }
}

fn digest_bytes(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = crate::rng::mix(hash ^ u64::from_le_bytes(word));
    }
    hash
}

/// An age in milliseconds as 16 bits: 11 bits of mantissa, 5 of exponent. Rounded up, so that ages only grow;
/// exact below 2,048 ms, within 0.1 % up to 12 days at each step, and "for ever" above.
pub(crate) fn age_to_wire(millis: u64) -> u16 {
    let mut exponent = 0;
    let mut mantissa = millis;
    while mantissa >= 1 << 11 {
        mantissa = mantissa.div_ceil(2);
        exponent += 1;
    }
    if exponent > 31 {
        return u16::MAX;
    }
    (exponent << 11) | mantissa as u16
}

pub(crate) fn age_from_wire(wire: u16) -> u64 {
    u64::from(wire & 0x7ff) << (wire >> 11)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn varints_round_trip_and_have_one_form() {
        for number in [0, 1, 127, 128, 16_383, 16_384, 1 << 28, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            out.put_varint(number);
            let frame = Bytes::from(out);
            let mut reader = Reader::new(&frame);
            assert_eq!(reader.varint(), Ok(number));
            assert_eq!(reader.remaining(), 0);
        }
        let padded = Bytes::from(vec![0x80, 0x00]);
        assert_eq!(Reader::new(&padded).varint(), Err(WireError::Range));
        let long = Bytes::from(vec![0xff; 11]);
        assert_eq!(Reader::new(&long).varint(), Err(WireError::Range));
    }

    #[test]
    fn counts_never_exceed_what_the_frame_can_hold() {
        let mut out = Vec::new();
        out.put_varint(1_000_000);
        out.extend_from_slice(&[0; 16]);
        let frame = Bytes::from(out);
        assert_eq!(Reader::new(&frame).count(8), Err(WireError::Truncated));
    }

    #[test]
    fn ages_never_shrink_and_stay_close() {
        let mut age = 0u64;
        while age < 1_000_000_000 {
            let back = age_from_wire(age_to_wire(age));
            assert!(back >= age, "{age} came back as {back}");
            assert!(back - age <= age / 1_000 + 1, "{age} came back as {back}");
            age = age * 9 / 8 + 1;
        }
        assert_eq!(age_to_wire(u64::MAX), u16::MAX);
    }
}
