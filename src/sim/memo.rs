//! What was worked out for a frame, for the next receiver of the same frame.

use alloc::vec::Vec;

use bytes::Bytes;

/// Answers for the frames that were asked about last. It holds the frames, so that the address of one it knows can't
/// become that of another.
#[derive(Clone, Debug)]
pub(super) struct Memo<T> {
    entries: Vec<Option<(Bytes, T)>>,
}

const ENTRIES: usize = 1 << 10;

/// Small frames are mostly made anew for each receiver, and their answers are cheap.
const FRAME_BYTES_MIN: usize = 256;

impl<T: Copy> Memo<T> {
    /// `make(frame)`, or what it returned for the same frame before.
    pub(super) fn of(&mut self, frame: &Bytes, make: impl FnOnce(&Bytes) -> T) -> T {
        if frame.len() < FRAME_BYTES_MIN {
            return make(frame);
        }
        if self.entries.is_empty() {
            self.entries.resize_with(ENTRIES, || None);
        }
        let address = frame.as_ptr() as usize;
        let entry = &mut self.entries[(address >> 4 ^ address >> 14) % ENTRIES];
        if let Some((known, answer)) = entry {
            if known.as_ptr() as usize == address && known.len() == frame.len() {
                return *answer;
            }
        }
        let answer = make(frame);
        *entry = Some((frame.clone(), answer));
        answer
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_frame_is_asked_about_once_and_an_equal_one_by_itself() {
        let mut memo = Memo::default();
        let frame = Bytes::from(alloc::vec![1u8; 300]);
        assert_eq!(memo.of(&frame, |frame| frame.len()), 300);
        assert_eq!(memo.of(&frame.clone(), |_| 0), 300, "known");
        assert_eq!(memo.of(&frame.slice(..299), |frame| frame.len()), 299);
        for byte in 0..100 {
            // Each is freed at once but for what the memo holds.
            let frame = Bytes::from(alloc::vec![byte; 300]);
            assert_eq!(memo.of(&frame, |frame| usize::from(frame[0])), usize::from(byte));
        }
        let small = Bytes::from_static(b"small");
        assert_eq!((memo.of(&small, |_| 1), memo.of(&small, |_| 2)), (1, 2));
    }
}
