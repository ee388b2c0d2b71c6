//! IVF, a container for VP8: a header of 32 bytes, then before each frame 12 bytes with its size and its timestamp.
//! And how its frames travel, so that whoever comes late can write a correct file too.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A file in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Clip {
    pub(crate) header: Header,
    pub(crate) frames: Vec<Frame>,
}

impl Clip {
    pub(crate) fn parse(mut file: Bytes) -> Result<Self, String> {
        let header = Header::take(&mut file)?;
        let mut frames = Vec::new();
        while !file.is_empty() {
            if file.len() < FRAME_HEADER_BYTES {
                return Err(format!("frame {} has no whole header", frames.len()));
            }
            let (len, timestamp) = (file.get_u32_le() as usize, file.get_u64_le());
            if file.len() < len {
                return Err(format!("frame {} has {} of {len} bytes", frames.len(), file.len()));
            }
            frames.push(Frame { timestamp, data: file.split_to(len) });
        }
        Ok(Self { header, frames })
    }

    /// The file with these frames alone.
    pub(crate) fn to_file(&self, frames: Range<usize>) -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(io::Cursor::new(Vec::new()), &self.header)?;
        self.frames[frames].iter().try_for_each(|frame| writer.write(frame))?;
        Ok(writer.finish()?.into_inner())
    }

    /// When a frame is due, from the first one on.
    pub(crate) fn due(&self, frame: usize) -> Duration {
        self.header.time(self.frames[frame].timestamp.saturating_sub(self.frames[0].timestamp))
    }

    /// Ticks from the first frame to the end of the last, which is taken to last as long as the one before it.
    pub(crate) fn ticks(&self) -> u64 {
        match self.frames.as_slice() {
            [first, .., before, last] => {
                (2 * last.timestamp).saturating_sub(before.timestamp + first.timestamp)
            }
            _ => 1,
        }
    }
}

/// The first 32 bytes of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header(Bytes);

impl Header {
    fn take(bytes: &mut Bytes) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES {
            return Err("no whole header".to_owned());
        }
        let header = Self(bytes.split_to(HEADER_BYTES));
        let len = usize::from(u16::from_le_bytes([header.0[6], header.0[7]]));
        if !header.0.starts_with(b"DKIF") || len != HEADER_BYTES || &header.0[8..12] != b"VP80" {
            return Err("no IVF file with VP8".to_owned());
        }
        if header.rate() == 0 {
            return Err("no time base".to_owned());
        }
        Ok(header)
    }

    fn rate(&self) -> u32 {
        (&self.0[16..20]).get_u32_le()
    }

    pub(crate) fn time(&self, ticks: u64) -> Duration {
        let micros = u128::from(ticks) * u128::from((&self.0[20..24]).get_u32_le()) * 1_000_000;
        Duration::from_micros((micros / u128::from(self.rate())) as u64)
    }
}

/// A picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    /// In ticks of the header's time base.
    pub(crate) timestamp: u64,
    pub(crate) data: Bytes,
}

impl Frame {
    pub(crate) fn is_keyframe(&self) -> bool {
        self.data.first().is_some_and(|first| first & 1 == 0)
    }

    /// As a payload: a flag, if it is set the file's header, the timestamp, the picture. Keyframes carry the header.
    pub(crate) fn pack(&self, header: &Header) -> Bytes {
        let mut payload = BytesMut::with_capacity(PACKED_BYTES_MAX + self.data.len());
        payload.put_u8(u8::from(self.is_keyframe()));
        if self.is_keyframe() {
            payload.put_slice(&header.0);
        }
        payload.put_u64_le(self.timestamp);
        payload.put_slice(&self.data);
        payload.freeze()
    }

    /// The other way round; the header too if it came along.
    pub(crate) fn unpack(mut payload: Bytes) -> Result<(Option<Header>, Self), String> {
        let header = match payload.try_get_u8() {
            Ok(0) => None,
            Ok(1) => Some(Header::take(&mut payload)?),
            _ => return Err("a payload with no known flag".to_owned()),
        };
        let timestamp = payload.try_get_u64_le().map_err(|_| "a payload with no timestamp")?;
        Ok((header, Self { timestamp, data: payload }))
    }
}

/// Writes a file frame by frame.
pub(crate) struct Writer<W> {
    file: W,
    frames: u32,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut file: W, header: &Header) -> io::Result<Self> {
        file.write_all(&header.0)?;
        Ok(Self { file, frames: 0 })
    }

    pub(crate) fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.file.write_all(&(frame.data.len() as u32).to_le_bytes())?;
        self.file.write_all(&frame.timestamp.to_le_bytes())?;
        self.file.write_all(&frame.data)?;
        self.frames += 1;
        Ok(())
    }

    /// The header came from a file with another number of frames.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.file.seek(SeekFrom::Start(FRAME_COUNT_AT))?;
        self.file.write_all(&self.frames.to_le_bytes())?;
        self.file.flush()?;
        Ok(self.file)
    }
}

const HEADER_BYTES: usize = 32;
const FRAME_COUNT_AT: u64 = 24;
const FRAME_HEADER_BYTES: usize = 12;
const PACKED_BYTES_MAX: usize = 1 + HEADER_BYTES + 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn asset() -> Bytes {
        Bytes::from_static(include_bytes!("../assets/clip.ivf"))
    }

    #[test]
    fn the_asset_comes_back_byte_for_byte() {
        let clip = Clip::parse(asset()).unwrap();
        assert_eq!(clip.frames.len(), 90);
        assert_eq!(clip.to_file(0..90).unwrap(), asset());
    }

    #[test]
    fn the_asset_lasts_six_seconds_and_has_a_keyframe_in_each() {
        let clip = Clip::parse(asset()).unwrap();
        assert_eq!(clip.header.time(clip.ticks()), Duration::from_secs(6));
        assert_eq!(clip.due(45), Duration::from_secs(3));
        let keyframes = (0..90).filter(|&frame| clip.frames[frame].is_keyframe());
        assert_eq!(keyframes.collect::<Vec<_>>(), [0, 15, 30, 45, 60, 75]);
    }

    #[test]
    fn a_file_that_begins_late_counts_its_own_frames() {
        let clip = Clip::parse(asset()).unwrap();
        let tail = Clip::parse(clip.to_file(30..90).unwrap().into()).unwrap();
        assert_eq!(tail.frames, clip.frames[30..]);
        assert_eq!((&tail.header.0[24..28]).get_u32_le(), 60);
    }

    #[test]
    fn frames_travel_whole_and_keyframes_with_the_header() {
        let clip = Clip::parse(asset()).unwrap();
        for frame in &clip.frames {
            let (header, unpacked) = Frame::unpack(frame.pack(&clip.header)).unwrap();
            assert_eq!(unpacked, *frame);
            assert_eq!(header, frame.is_keyframe().then(|| clip.header.clone()));
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let file = asset();
        for len in [0, 31, 40, 32 + 12 + 100, file.len() - 1] {
            assert!(Clip::parse(file.slice(..len)).is_err(), "{len} bytes");
        }
        let payload = Clip::parse(file).unwrap().frames[0].pack(&Header(asset().slice(..32)));
        for len in [0, 1, 32, 40] {
            assert!(Frame::unpack(payload.slice(..len)).is_err(), "{len} bytes");
        }
        assert!(Frame::unpack(Bytes::from_static(&[2; 64])).is_err());
    }
}
