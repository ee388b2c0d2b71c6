//! The messages of forests: media chunks, places in the trees, repair.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::codec::{Put, Reader, WireError, WirePeer};
use super::lists::{put_list, put_ranges, read_bool, read_list, read_ranges, read_sequence};
use crate::id::{Epoch, SwarmId};
use crate::log::RangeSet;

/// The forest protocol of one livestream: a source, a planner, and viewers that feed each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ForestMessage<P> {
    /// A piece of a media frame.
    Chunk(Chunk),
    /// From a viewer to the planner: "give me a place". Repeated until it is answered.
    Watch {
        /// The whole id of the swarm.
        swarm: SwarmId,
        /// What the viewer may spend on others, in bytes a second; 0 feeds nobody.
        upload_bytes_per_s: u64,
    },
    /// From the planner to a viewer (or the source): what the stream is, and who feeds it.
    Plan(Plan<P>),
    /// From a viewer to the planner: the plan of this version has come.
    PlanAck {
        /// Of the plan.
        version: u32,
    },
    /// From the planner to a viewer: there is no place.
    Refused {
        /// Upload that is missing in all, in bytes a second; 0 if there are too many viewers.
        needed_bytes_per_s: u64,
    },
    /// From a child to a parent: "feed me these stripes". Repeated now and then, so that neither end waits for a peer that
    /// has forgotten it.
    Attach(Attach),
    /// The answer to [`ForestMessage::Attach`].
    Attached(Attached<P>),
    /// From a child to a parent: "feed me these stripes no more"; or from a parent: "I feed you these no more".
    Detach {
        /// The stripes, one bit each.
        stripes: u16,
    },
    /// "Send me these chunks."
    Want {
        /// Whether they are for catching up and may wait.
        history: bool,
        /// Which, track by track.
        tracks: Vec<(u8, RangeSet)>,
    },
    /// The answer to a want that cannot be served.
    Gone {
        /// Which chunks, track by track.
        tracks: Vec<(u8, RangeSet)>,
    },
    /// From a parent to a child: "I live, but nothing comes to me."
    Stalled {
        /// The stripes, one bit each.
        stripes: u16,
    },
    /// From a parent to a child: whom these stripes come through now.
    Path {
        /// The stripes, one bit each.
        stripes: u16,
        /// From the sender's parent up to the source.
        ancestors: Vec<P>,
    },
    /// From a viewer to the planner: parents (or children) that fell silent, and who took their place.
    Report {
        /// One item for each stripe.
        lost: Vec<LostParent<P>>,
    },
    /// From a viewer to the planner: it can now spend this much, in bytes a second.
    Upload {
        /// Bytes a second.
        bytes_per_s: u64,
    },
    /// From child to parent, up to the source: "a keyframe, please".
    KeyframeWanted {
        /// Of these tracks, one bit each.
        tracks: u64,
    },
    /// From parent to child: the state of the stream.
    State(StreamNotice),
    /// From a viewer to the planner and its parents: it is gone.
    Leave,
    /// From the planner to a viewer that others miss: "do you live?" Any answer will do; a viewer repeats its watch.
    Check,
    /// From a viewer to the planner, in sealed streams: this parent passed on what the source has not sealed.
    Accuse {
        /// The parent.
        relay: P,
    },
}

/// A piece of a media frame. Nothing in it changes on the way, so that a relay passes on the very bytes that it received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The low bits of the source's epoch.
    pub epoch: u8,
    /// Kind and layer of the track, below 64.
    pub track: u8,
    /// Its place among all chunks of the track. The stripe is the remainder by the number of stripes.
    pub number: u64,
    /// Its place in the frame; from `data` on it is parity.
    pub index: u8,
    /// Chunks of the frame without parity, at least 1.
    pub data: u8,
    /// Parity chunks of the frame, at most 63.
    pub parity: u8,
    /// Whether the parity is that of Reed and Solomon, or plain exclusive or.
    pub reed_solomon: bool,
    /// Whether the frame stands alone.
    pub keyframe: bool,
    /// The frame's place among the frames of the track.
    pub sequence: u64,
    /// When the frame was captured, in milliseconds since the stream was opened.
    pub captured_ms: u32,
    /// When the frame is of no use any more, in milliseconds after its capture; `None`: as the stream says.
    pub deadline_ms: Option<u32>,
    /// Who vouches for the frame: carried by its first chunk, in signed streams.
    pub seal: Bytes,
    /// The piece.
    pub body: Bytes,
}

/// What the planner tells a viewer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan<P> {
    /// The whole id of the swarm.
    pub swarm: SwarmId,
    /// Who streams.
    pub source: P,
    /// The source's life.
    pub epoch: Epoch,
    /// How many stripes there are, 1 to 16.
    pub stripes: u8,
    /// The rate of the whole stream on the wire, in bytes a second.
    pub rate_bytes_per_s: u64,
    /// How long after its capture a frame is of use.
    pub deadline: Duration,
    /// The stripe that the viewer is to pass on, if any: of the others it need not keep what is old.
    pub passes_on: Option<u8>,
    /// Rises with every plan for this viewer: older ones are ignored.
    pub version: u32,
    /// Who feeds the viewer; stripes that are not named stay as they are.
    pub feeds: Vec<Feed<P>>,
}

/// Who feeds one stripe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feed<P> {
    /// The stripe.
    pub stripe: u8,
    /// Who feeds it.
    pub parent: P,
    /// Who could, should the parent fall silent; the best first.
    pub backups: Vec<P>,
}

/// What a child asks of a parent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attach {
    /// The whole id of the swarm.
    pub swarm: SwarmId,
    /// The stripes, one bit each.
    pub stripes: u16,
    /// The tracks that the child and those below it want, one bit each.
    pub tracks: u64,
    /// The tracks of which they want the keyframes only, one bit each.
    pub keyframes: u64,
    /// How many (child, stripe) pairs the child feeds in these stripes: those who feed most are fed first.
    pub feeds: u8,
    /// Stripes for which the planner named the parent, one bit each: it has room for them, or will soon.
    pub planned: u16,
    /// Repeated by the answer, to measure the round trip.
    pub token: u32,
}

/// What a parent answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached<P> {
    /// The token of the question.
    pub token: u32,
    /// The source's life.
    pub epoch: Epoch,
    /// The time at the source since the stream was opened, as the parent knows it, in microseconds;
    /// [`CLOCK_UNKNOWN`](Self::CLOCK_UNKNOWN) if it does not know it yet.
    pub clock_us: u64,
    /// The stripes that it feeds, one bit each.
    pub accepted: u16,
    /// From the parent's own parents up to the source, stripe by stripe in the order of the accepted ones.
    pub paths: Vec<Vec<P>>,
    /// Where each track stands: the first chunk of the newest group that is held, and one past the newest chunk.
    pub tracks: Vec<TrackPosition>,
    /// Who might feed the stripes that were refused.
    pub redirects: Vec<P>,
    /// The state of the stream.
    pub state: StreamNotice,
}

impl<P> Attached<P> {
    /// Stands for a clock that is not known.
    pub const CLOCK_UNKNOWN: u64 = NUMBER_END - 1;
}

/// Where a track stands at a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackPosition {
    /// Kind and layer, below 64.
    pub track: u8,
    /// The first chunk of the newest keyframe that is held; `None` if none is.
    pub group: Option<u64>,
    /// One past the newest chunk.
    pub end: u64,
}

/// The state of a stream, by its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamNotice {
    /// 0 initializing, 1 active, 2 paused, 3 ended.
    pub state: u8,
    /// Rises with every change.
    pub version: u32,
}

/// A parent that fell silent; or, if it is the adopted one, to which a viewer returned as the planned one had no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostParent<P> {
    /// The stripe.
    pub stripe: u8,
    /// Who fell silent.
    pub parent: P,
    /// Who feeds the stripe now, if somebody does.
    pub adopted: Option<P>,
}

pub(super) const CHUNK: u8 = 16;
const WATCH: u8 = 17;
const PLAN: u8 = 18;
const REFUSED: u8 = 19;
const ATTACH: u8 = 20;
const ATTACHED: u8 = 21;
const DETACH: u8 = 22;
const WANT: u8 = 23;
const GONE: u8 = 24;
const STALLED: u8 = 25;
const PATH: u8 = 26;
const REPORT: u8 = 27;
const UPLOAD: u8 = 28;
const KEYFRAME_WANTED: u8 = 29;
const STATE: u8 = 30;
const LEAVE: u8 = 31;
const CHECK: u8 = 32;
pub(super) const PLAN_ACK: u8 = 56;
pub(super) const ACCUSE: u8 = 57;

/// The greatest header of a chunk, with the frame's version byte: kind, tag, epoch, flags, track, number, index,
/// counts, sequence, capture, deadline, length.
pub(crate) const CHUNK_HEADER_BYTES_MAX: usize = 1 + 1 + 4 + 1 + 1 + 1 + 5 + 1 + 1 + 1 + 5 + 5 + 5 + 3;

/// Parity chunks of a frame, at most.
pub(crate) const PARITY_MAX: u8 = 63;

/// Tracks are told apart by kind (3 bits) and layer (3 bits).
pub(crate) const TRACKS: u8 = 64;

/// Chunk numbers and frame sequences stay below this, so that sums never overflow.
const NUMBER_END: u64 = 1 << 48;

/// Stripes, at most.
pub(crate) const STRIPES_MAX: u8 = 16;

const SEALED: u8 = 0x80;
const DEADLINE: u8 = 0x40;
const REED_SOLOMON: u8 = 0x80;
const KEYFRAME: u8 = 0x40;

pub(super) fn kind<P>(message: &ForestMessage<P>) -> u8 {
    match message {
        ForestMessage::Chunk(_) => CHUNK,
        ForestMessage::Watch { .. } => WATCH,
        ForestMessage::Plan(_) => PLAN,
        ForestMessage::Refused { .. } => REFUSED,
        ForestMessage::Attach(_) => ATTACH,
        ForestMessage::Attached(_) => ATTACHED,
        ForestMessage::Detach { .. } => DETACH,
        ForestMessage::Want { .. } => WANT,
        ForestMessage::Gone { .. } => GONE,
        ForestMessage::Stalled { .. } => STALLED,
        ForestMessage::Path { .. } => PATH,
        ForestMessage::Report { .. } => REPORT,
        ForestMessage::Upload { .. } => UPLOAD,
        ForestMessage::KeyframeWanted { .. } => KEYFRAME_WANTED,
        ForestMessage::State(_) => STATE,
        ForestMessage::Leave => LEAVE,
        ForestMessage::Check => CHECK,
        ForestMessage::PlanAck { .. } => PLAN_ACK,
        ForestMessage::Accuse { .. } => ACCUSE,
    }
}

pub(super) fn put<P: WirePeer>(out: &mut impl Put, message: &ForestMessage<P>) {
    match message {
        ForestMessage::Chunk(chunk) => put_chunk(out, chunk),
        ForestMessage::Watch { swarm, upload_bytes_per_s } => {
            out.put(&swarm.0.to_le_bytes());
            out.put_varint(*upload_bytes_per_s);
        }
        ForestMessage::Plan(plan) => put_plan(out, plan),
        ForestMessage::PlanAck { version } => out.put_varint(u64::from(*version)),
        ForestMessage::Accuse { relay } => relay.encode(out),
        ForestMessage::Refused { needed_bytes_per_s } => out.put_varint(*needed_bytes_per_s),
        ForestMessage::Attach(attach) => {
            out.put(&attach.swarm.0.to_le_bytes());
            out.put(&attach.stripes.to_le_bytes());
            out.put_varint(attach.tracks);
            out.put_varint(attach.keyframes);
            out.put_u8(attach.feeds);
            out.put(&attach.planned.to_le_bytes());
            out.put(&attach.token.to_le_bytes());
        }
        ForestMessage::Attached(attached) => put_attached(out, attached),
        ForestMessage::Detach { stripes } | ForestMessage::Stalled { stripes } => {
            out.put(&stripes.to_le_bytes());
        }
        ForestMessage::Want { history, tracks } => {
            out.put_u8(u8::from(*history));
            put_chunks(out, tracks);
        }
        ForestMessage::Gone { tracks } => put_chunks(out, tracks),
        ForestMessage::Path { stripes, ancestors } => {
            out.put(&stripes.to_le_bytes());
            put_list(out, ancestors, |out, peer| peer.encode(out));
        }
        ForestMessage::Report { lost } => put_list(out, lost, |out, lost| {
            out.put_u8(lost.stripe | if lost.adopted.is_some() { 0x80 } else { 0 });
            lost.parent.encode(out);
            if let Some(adopted) = &lost.adopted {
                adopted.encode(out);
            }
        }),
        ForestMessage::Upload { bytes_per_s } => out.put_varint(*bytes_per_s),
        ForestMessage::KeyframeWanted { tracks } => out.put_varint(*tracks),
        ForestMessage::State(notice) => put_notice(out, notice),
        ForestMessage::Leave | ForestMessage::Check => {}
    }
}

pub(super) fn read<P: WirePeer>(reader: &mut Reader<'_>, number: u8) -> Result<ForestMessage<P>, WireError> {
    Ok(match number {
        CHUNK => ForestMessage::Chunk(read_chunk(reader)?),
        WATCH => ForestMessage::Watch { swarm: SwarmId(reader.u64()?), upload_bytes_per_s: reader.varint()? },
        PLAN => ForestMessage::Plan(read_plan(reader)?),
        REFUSED => ForestMessage::Refused { needed_bytes_per_s: reader.varint()? },
        ATTACH => ForestMessage::Attach(Attach {
            swarm: SwarmId(reader.u64()?),
            stripes: read_u16(reader)?,
            tracks: reader.varint()?,
            keyframes: reader.varint()?,
            feeds: reader.u8()?,
            planned: read_u16(reader)?,
            token: reader.u32()?,
        }),
        ATTACHED => ForestMessage::Attached(read_attached(reader)?),
        DETACH => ForestMessage::Detach { stripes: read_u16(reader)? },
        WANT => ForestMessage::Want { history: read_bool(reader)?, tracks: read_chunks(reader)? },
        GONE => ForestMessage::Gone { tracks: read_chunks(reader)? },
        STALLED => ForestMessage::Stalled { stripes: read_u16(reader)? },
        PATH => ForestMessage::Path {
            stripes: read_u16(reader)?,
            ancestors: read_list(reader, P::WIRE_BYTES, P::decode)?,
        },
        REPORT => ForestMessage::Report { lost: read_list(reader, 1 + P::WIRE_BYTES, read_lost)? },
        UPLOAD => ForestMessage::Upload { bytes_per_s: reader.varint()? },
        KEYFRAME_WANTED => ForestMessage::KeyframeWanted { tracks: reader.varint()? },
        STATE => ForestMessage::State(read_notice(reader)?),
        LEAVE => ForestMessage::Leave,
        CHECK => ForestMessage::Check,
        PLAN_ACK => ForestMessage::PlanAck { version: read_u32_varint(reader)? },
        ACCUSE => ForestMessage::Accuse { relay: P::decode(reader)? },
        other => return Err(WireError::Kind(other)),
    })
}

fn put_chunk(out: &mut impl Put, chunk: &Chunk) {
    out.put_u8(chunk.epoch);
    let sealed = if chunk.seal.is_empty() { 0 } else { SEALED };
    let deadline = if chunk.deadline_ms.is_some() { DEADLINE } else { 0 };
    out.put_u8(chunk.track & (TRACKS - 1) | sealed | deadline);
    out.put_varint(chunk.number);
    out.put_u8(chunk.index);
    out.put_u8(chunk.data);
    let scheme = if chunk.reed_solomon { REED_SOLOMON } else { 0 };
    let keyframe = if chunk.keyframe { KEYFRAME } else { 0 };
    out.put_u8(chunk.parity.min(PARITY_MAX) | scheme | keyframe);
    out.put_varint(chunk.sequence);
    out.put_varint(u64::from(chunk.captured_ms));
    if let Some(deadline_ms) = chunk.deadline_ms {
        out.put_varint(u64::from(deadline_ms));
    }
    if !chunk.seal.is_empty() {
        out.put_varint(chunk.seal.len() as u64);
        out.put(&chunk.seal);
    }
    out.put_varint(chunk.body.len() as u64);
    out.put(&chunk.body);
}

fn read_chunk(reader: &mut Reader<'_>) -> Result<Chunk, WireError> {
    let epoch = reader.u8()?;
    let track = reader.u8()?;
    let number = read_number(reader)?;
    let (index, data, counts) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let parity = counts & PARITY_MAX;
    let all = u16::from(data) + u16::from(parity);
    if data == 0 || u16::from(index) >= all || u64::from(index) > number {
        return Err(WireError::Range);
    }
    let sequence = read_number(reader)?;
    let captured_ms = read_u32_varint(reader)?;
    let deadline_ms = if track & DEADLINE == 0 { None } else { Some(read_u32_varint(reader)?) };
    let seal = if track & SEALED == 0 {
        Bytes::new()
    } else {
        let length = reader.count(1)?;
        if length == 0 {
            return Err(WireError::Range);
        }
        reader.take_bytes(length)?
    };
    let length = reader.count(1)?;
    let body = reader.take_kept(length)?;
    Ok(Chunk {
        epoch,
        track: track & (TRACKS - 1),
        number,
        index,
        data,
        parity,
        reed_solomon: counts & REED_SOLOMON != 0,
        keyframe: counts & KEYFRAME != 0,
        sequence,
        captured_ms,
        deadline_ms,
        seal,
        body,
    })
}

/// The piece of media in a frame whose first message is a chunk. Nothing is checked but the lengths: for frames that were
/// read before.
pub(crate) fn chunk_bytes(frame: &Bytes) -> Option<&[u8]> {
    let mut reader = Reader::new(frame);
    let [_version, kind] = reader.array().ok()?;
    if kind != CHUNK {
        return None;
    }
    let [_tag @ .., _epoch, track] = reader.array::<6>().ok()?;
    reader.varint().ok()?;
    reader.take(3).ok()?;
    reader.varint().ok()?;
    reader.varint().ok()?;
    if track & DEADLINE != 0 {
        reader.varint().ok()?;
    }
    if track & SEALED != 0 {
        let length = reader.count(1).ok()?;
        reader.take(length).ok()?;
    }
    let length = reader.count(1).ok()?;
    reader.take(length).ok()
}

fn put_plan<P: WirePeer>(out: &mut impl Put, plan: &Plan<P>) {
    out.put(&plan.swarm.0.to_le_bytes());
    plan.source.encode(out);
    out.put(&plan.epoch.0.to_le_bytes());
    out.put_u8(plan.stripes);
    out.put_u8(plan.passes_on.map_or(0, |stripe| stripe + 1));
    out.put_varint(plan.rate_bytes_per_s);
    out.put_varint(u64::try_from(plan.deadline.as_millis()).unwrap_or(u64::MAX));
    out.put_varint(u64::from(plan.version));
    put_list(out, &plan.feeds, |out, feed| {
        out.put_u8(feed.stripe);
        feed.parent.encode(out);
        put_list(out, &feed.backups, |out, peer| peer.encode(out));
    });
}

fn read_plan<P: WirePeer>(reader: &mut Reader<'_>) -> Result<Plan<P>, WireError> {
    let plan = Plan {
        swarm: SwarmId(reader.u64()?),
        source: P::decode(reader)?,
        epoch: Epoch(reader.u32()?),
        stripes: reader.u8()?,
        passes_on: reader.u8()?.checked_sub(1),
        rate_bytes_per_s: reader.varint()?,
        deadline: Duration::from_millis(u64::from(read_u32_varint(reader)?)),
        version: read_u32_varint(reader)?,
        feeds: read_list(reader, 2 + P::WIRE_BYTES, |reader| {
            Ok(Feed {
                stripe: reader.u8()?,
                parent: P::decode(reader)?,
                backups: read_list(reader, P::WIRE_BYTES, P::decode)?,
            })
        })?,
    };
    let mut named = plan.feeds.iter().map(|feed| feed.stripe).chain(plan.passes_on);
    let sound = (1..=STRIPES_MAX).contains(&plan.stripes) && named.all(|stripe| stripe < plan.stripes);
    if sound { Ok(plan) } else { Err(WireError::Range) }
}

fn put_attached<P: WirePeer>(out: &mut impl Put, attached: &Attached<P>) {
    out.put(&attached.token.to_le_bytes());
    out.put(&attached.epoch.0.to_le_bytes());
    out.put_varint(attached.clock_us);
    out.put(&attached.accepted.to_le_bytes());
    put_list(out, &attached.paths, |out, path| put_list(out, path, |out, peer| peer.encode(out)));
    put_list(out, &attached.tracks, |out, position| {
        out.put_u8(position.track | if position.group.is_some() { 0x80 } else { 0 });
        if let Some(group) = position.group {
            out.put_varint(group);
        }
        out.put_varint(position.end);
    });
    put_list(out, &attached.redirects, |out, peer| peer.encode(out));
    put_notice(out, &attached.state);
}

fn read_attached<P: WirePeer>(reader: &mut Reader<'_>) -> Result<Attached<P>, WireError> {
    Ok(Attached {
        token: reader.u32()?,
        epoch: Epoch(reader.u32()?),
        clock_us: read_number(reader)?,
        accepted: read_u16(reader)?,
        paths: read_list(reader, 1, |reader| read_list(reader, P::WIRE_BYTES, P::decode))?,
        tracks: read_list(reader, 2, |reader| {
            let first = reader.u8()?;
            let group = if first & 0x80 == 0 { None } else { Some(read_number(reader)?) };
            let position = TrackPosition { track: first & 0x7f, group, end: read_number(reader)? };
            let sound = position.track < TRACKS && position.group.is_none_or(|group| group <= position.end);
            if sound { Ok(position) } else { Err(WireError::Range) }
        })?,
        redirects: read_list(reader, P::WIRE_BYTES, P::decode)?,
        state: read_notice(reader)?,
    })
}

fn put_notice(out: &mut impl Put, notice: &StreamNotice) {
    out.put_u8(notice.state);
    out.put_varint(u64::from(notice.version));
}

fn read_notice(reader: &mut Reader<'_>) -> Result<StreamNotice, WireError> {
    let notice = StreamNotice { state: reader.u8()?, version: read_u32_varint(reader)? };
    if notice.state <= 3 { Ok(notice) } else { Err(WireError::Range) }
}

fn read_lost<P: WirePeer>(reader: &mut Reader<'_>) -> Result<LostParent<P>, WireError> {
    let first = reader.u8()?;
    let (stripe, parent) = (first & 0x7f, P::decode(reader)?);
    let adopted = if first & 0x80 == 0 { None } else { Some(P::decode(reader)?) };
    if stripe < STRIPES_MAX { Ok(LostParent { stripe, parent, adopted }) } else { Err(WireError::Range) }
}

fn put_chunks(out: &mut impl Put, tracks: &[(u8, RangeSet)]) {
    put_list(out, tracks, |out, (track, ranges)| {
        out.put_u8(*track);
        put_ranges(out, ranges);
    });
}

fn read_chunks(reader: &mut Reader<'_>) -> Result<Vec<(u8, RangeSet)>, WireError> {
    read_list(reader, 2, |reader| {
        let track = reader.u8()?;
        let ranges = read_ranges(reader)?;
        if track < TRACKS { Ok((track, ranges)) } else { Err(WireError::Range) }
    })
}

fn read_number(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    let number = read_sequence(reader)?;
    if number < NUMBER_END { Ok(number) } else { Err(WireError::Range) }
}

fn read_u16(reader: &mut Reader<'_>) -> Result<u16, WireError> {
    Ok(u16::from_le_bytes(reader.array()?))
}

fn read_u32_varint(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    u32::try_from(reader.varint()?).map_err(|_| WireError::Range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SwarmTag;
    use crate::time::Instant;
    use crate::wire::{FrameReader, FrameWriter, Message};

    #[test]
    fn the_body_of_a_chunk_is_found_without_reading_the_rest() {
        let seals = [Bytes::new(), Bytes::from(alloc::vec![7; 300])];
        for (seal, deadline_ms) in seals.into_iter().zip([None, Some(70_000)]) {
            for bytes in [0, 1, 127, 128, 1_150] {
                let chunk = Chunk {
                    epoch: 3,
                    track: 8,
                    number: 1 << 40,
                    index: 2,
                    data: 9,
                    parity: 1,
                    reed_solomon: true,
                    keyframe: true,
                    sequence: 1 << 33,
                    captured_ms: 1 << 20,
                    deadline_ms,
                    seal: seal.clone(),
                    body: Bytes::from(alloc::vec![5; bytes]),
                };
                let mut writer = FrameWriter::new(1_500);
                let message = Message::<u64>::Forest(ForestMessage::Chunk(chunk.clone()));
                writer.push(SwarmTag(1), &message, Instant::ZERO);
                let frame = writer.finish();
                assert_eq!(chunk_bytes(&frame), Some(&chunk.body[..]));
                let read = FrameReader::new(&frame, Instant::ZERO).unwrap().next();
                assert_eq!(read, Some(Ok((Some(SwarmTag(1)), message))));
                for end in 0..frame.len() {
                    assert_eq!(chunk_bytes(&frame.slice(..end)), None, "{end} of {}", frame.len());
                }
            }
        }
        let mut writer = FrameWriter::new(16);
        writer.push(SwarmTag(1), &Message::<u64>::Forest(ForestMessage::Leave), Instant::ZERO);
        assert_eq!(chunk_bytes(&writer.finish()), None);
    }
}
