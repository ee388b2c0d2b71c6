//! Frames: packing messages into one and reading them back.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::codec::{Measure, Put, Reader, WireError, WirePeer, age_from_wire, age_to_wire};
use super::lists::{
    put_bound, put_entry, put_list, put_source, read_bool, read_bound, read_entry, read_list, read_sequence,
    read_source,
};
use super::message::{
    Data, GossipMessage, LinkMessage, MembershipMessage, Message, NeighborRequest, SyncItem, SyncKnown, Wave,
};
use super::{chunks, forest, group};
use crate::id::{Epoch, Priority, StateId, SwarmId, SwarmTag};
use crate::time::Instant;

/// The version of the wire format that this build speaks.
pub const VERSION: u8 = 1;

/// The greatest header of an update, without the origin: kind, tag, epoch, sequence, hops, age, state, length.
pub(crate) const DATA_HEADER_BYTES_MAX_WITHOUT_PEER: usize = 1 + 4 + 4 + 10 + 1 + 2 + 10 + 5;

const HOPS_MAX: u8 = 31;
const FLOOD: u8 = 0x20;
const PULLED: u8 = 0x40;
const SIGNED: u8 = 0x80;

const DATA: u8 = 0x80;
const SAME_SWARM_DATA: u8 = 0x08;
const SAME_SWARM: u8 = 0x40;

const PING: u8 = 1;
const PONG: u8 = 2;
const JOIN: u8 = 3;
const WALK: u8 = 4;
const OFFER: u8 = 5;
const NEIGHBOR: u8 = 6;
const NEIGHBOR_REPLY: u8 = 7;
const BYE: u8 = 8;
const SHUFFLE: u8 = 9;
const SHUFFLE_REPLY: u8 = 10;
const HAVE: u8 = 11;
const WANT: u8 = 12;
const GONE: u8 = 13;
const PRUNE: u8 = 14;
const SYNC: u8 = 15;
// From 16 to 32: the kinds of `forest`.
const MEASURE: u8 = 33;
const MEASURED: u8 = 34;
const SWAP: u8 = 35;
const SWAPPED: u8 = 36;
const WAVE: u8 = 37;
const ATTACH: u8 = 38;
const BEAT: u8 = 39;
const WATCHERS: u8 = 49;
const SUSPECT: u8 = 50;
const VOUCH: u8 = 51;
const COUNT: u8 = 58;

/// In the byte of a wave's hops.
const SHARED: u8 = 0x80;

/// The size of `message` inside a frame, at most: with its swarm's tag.
pub fn message_bytes_max<P: WirePeer>(message: &Message<P>) -> usize {
    let mut measure = Measure::default();
    // The age takes two bytes whatever it is.
    put_message(&mut measure, None, SwarmTag(0), message, Instant::ZERO);
    measure.0
}

/// Packs messages into one frame.
///
/// ```
/// use suffuse::{Instant, SwarmId, wire};
///
/// let mut writer = wire::FrameWriter::new(1200);
/// let ping = wire::Message::<u64>::Link(wire::LinkMessage::Ping { token: 7 });
/// writer.push(SwarmId(1).tag(), &ping, Instant::ZERO);
/// let frame = writer.finish();
/// let mut reader = wire::FrameReader::new(&frame, Instant::ZERO).unwrap();
/// assert_eq!(reader.next(), Some(Ok((None, ping))));
/// assert_eq!(reader.next::<u64>(), None);
/// ```
#[derive(Debug)]
pub struct FrameWriter {
    out: Vec<u8>,
    swarm: Option<SwarmTag>,
}

impl FrameWriter {
    /// A frame with room for `capacity` bytes (it grows if need be).
    pub fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.push(VERSION);
        Self { out, swarm: None }
    }

    /// Appends `message` of `swarm` (ignored for link messages). Ages are as of `now`.
    pub fn push<P: WirePeer>(&mut self, swarm: SwarmTag, message: &Message<P>, now: Instant) {
        put_message(&mut self.out, self.swarm, swarm, message, now);
        if !matches!(message, Message::Link(_)) {
            self.swarm = Some(swarm);
        }
    }

    /// Appends the messages of a whole frame, made by another writer.
    pub fn push_frame(&mut self, frame: &[u8]) {
        self.out.extend_from_slice(frame.get(1..).unwrap_or_default());
        // It may end in another swarm.
        self.swarm = None;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether no message was appended.
    pub fn is_empty(&self) -> bool {
        self.out.len() <= 1
    }

    /// The frame.
    pub fn finish(self) -> Bytes {
        Bytes::from(self.out)
    }
}

/// Reads the messages of a frame, one by one; the first error ends it.
#[derive(Debug)]
pub struct FrameReader<'a> {
    reader: Reader<'a>,
    swarm: Option<SwarmTag>,
    now: Instant,
    failed: bool,
}

impl<'a> FrameReader<'a> {
    /// Reads `frame`, which arrived at `now`.
    pub fn new(frame: &'a Bytes, now: Instant) -> Result<Self, WireError> {
        let mut reader = Reader::new(frame);
        match reader.u8()? {
            VERSION => Ok(Self { reader, swarm: None, now, failed: false }),
            other => Err(WireError::Version(other)),
        }
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.reader.remaining() == 0
    }

    /// The next message and its swarm (`None` for link messages).
    ///
    /// Not an `Iterator`: the peer type is the caller's choice, message by message.
    #[allow(clippy::should_implement_trait, clippy::type_complexity, reason = "generic over the peer")]
    pub fn next<P: WirePeer>(&mut self) -> Option<Result<(Option<SwarmTag>, Message<P>), WireError>> {
        if self.failed || self.reader.remaining() == 0 {
            return None;
        }
        let result = self.message();
        self.failed = result.is_err();
        Some(result)
    }

    fn message<P: WirePeer>(&mut self) -> Result<(Option<SwarmTag>, Message<P>), WireError> {
        let kind = self.reader.u8()?;
        if kind & DATA != 0 {
            let swarm = self.tag(kind & SAME_SWARM_DATA != 0)?;
            let data = read_data(&mut self.reader, kind, self.now)?;
            return Ok((Some(swarm), Message::Gossip(GossipMessage::Data(data))));
        }
        let number = kind & !SAME_SWARM;
        if number == PING || number == PONG {
            if kind & SAME_SWARM != 0 {
                return Err(WireError::Kind(kind));
            }
            let token = u16::from_le_bytes(self.reader.array()?);
            let message =
                if number == PING { LinkMessage::Ping { token } } else { LinkMessage::Pong { token } };
            return Ok((None, Message::Link(message)));
        }
        if number == BEAT {
            if kind & SAME_SWARM != 0 {
                return Err(WireError::Kind(kind));
            }
            return Ok((None, Message::Link(LinkMessage::Beat { next_tenths: self.reader.u8()? })));
        }
        let known = (JOIN..=ATTACH).contains(&number)
            || (forest::PLAN_ACK..=forest::ACCUSE).contains(&number)
            || (group::JOIN..=group::ACK).contains(&number)
            || (WATCHERS..=VOUCH).contains(&number)
            || number == COUNT
            || (chunks::MANIFEST..=chunks::CHUNK).contains(&number);
        if !known {
            return Err(WireError::Kind(kind));
        }
        let swarm = self.tag(kind & SAME_SWARM != 0)?;
        let message = match number {
            JOIN..=SHUFFLE_REPLY | MEASURE..=SWAPPED | WATCHERS..=VOUCH => {
                Message::Membership(read_membership(&mut self.reader, number)?)
            }
            HAVE..=SYNC | WAVE | ATTACH | COUNT => {
                Message::Gossip(read_gossip(&mut self.reader, number, self.now)?)
            }
            chunks::MANIFEST..=chunks::CHUNK => {
                Message::Gossip(chunks::read(&mut self.reader, number, self.now)?)
            }
            group::JOIN..=group::ACK => Message::Group(group::read(&mut self.reader, number)?),
            _ => Message::Forest(forest::read(&mut self.reader, number)?),
        };
        Ok((Some(swarm), message))
    }

    fn tag(&mut self, same: bool) -> Result<SwarmTag, WireError> {
        let tag = if same { self.swarm.ok_or(WireError::Range)? } else { SwarmTag(self.reader.u32()?) };
        self.swarm = Some(tag);
        Ok(tag)
    }
}

fn put_message<P: WirePeer>(
    out: &mut impl Put,
    previous: Option<SwarmTag>,
    swarm: SwarmTag,
    message: &Message<P>,
    now: Instant,
) {
    let same = previous == Some(swarm);
    match message {
        Message::Link(LinkMessage::Ping { token }) => {
            out.put_u8(PING);
            out.put(&token.to_le_bytes());
        }
        Message::Link(LinkMessage::Pong { token }) => {
            out.put_u8(PONG);
            out.put(&token.to_le_bytes());
        }
        Message::Link(LinkMessage::Beat { next_tenths }) => {
            out.put_u8(BEAT);
            out.put_u8(*next_tenths);
        }
        Message::Membership(message) => {
            put_kind(out, membership_kind(message), same, swarm);
            put_membership(out, message);
        }
        Message::Gossip(GossipMessage::Data(data)) => {
            let same_bit = if same { SAME_SWARM_DATA } else { 0 };
            let keyframe = u8::from(data.keyframe) << 4;
            out.put_u8(DATA | (data.priority as u8) << 5 | keyframe | same_bit | data.layer & 7);
            if !same {
                out.put(&swarm.0.to_le_bytes());
            }
            put_data(out, data, now);
        }
        Message::Gossip(message) => {
            put_kind(out, gossip_kind(message), same, swarm);
            put_gossip(out, message, now);
        }
        Message::Forest(message) => {
            put_kind(out, forest::kind(message), same, swarm);
            forest::put(out, message);
        }
        Message::Group(message) => {
            put_kind(out, group::kind(message), same, swarm);
            group::put(out, message);
        }
    }
}

fn put_kind(out: &mut impl Put, number: u8, same: bool, swarm: SwarmTag) {
    if same {
        out.put_u8(number | SAME_SWARM);
    } else {
        out.put_u8(number);
        out.put(&swarm.0.to_le_bytes());
    }
}

pub(super) fn put_data<P: WirePeer>(out: &mut impl Put, data: &Data<P>, now: Instant) {
    data.origin.encode(out);
    out.put(&data.epoch.0.to_le_bytes());
    out.put_varint(data.sequence);
    let signed = if data.signature.is_empty() { 0 } else { SIGNED };
    let flood = if data.flood { FLOOD } else { 0 };
    out.put_u8(data.hops.min(HOPS_MAX) | flood | if data.pulled { PULLED } else { 0 } | signed);
    put_age(out, data.born, now);
    out.put_varint(data.state.0);
    out.put_varint(data.body.len() as u64);
    out.put(&data.body);
    if !data.signature.is_empty() {
        out.put_varint(data.signature.len() as u64);
        out.put(&data.signature);
    }
}

pub(super) fn read_data<P: WirePeer>(
    reader: &mut Reader<'_>,
    kind: u8,
    now: Instant,
) -> Result<Data<P>, WireError> {
    let priority = match kind >> 5 & 3 {
        0 => Priority::Background,
        1 => Priority::Normal,
        2 => Priority::High,
        _ => Priority::Urgent,
    };
    let origin = P::decode(reader)?;
    let epoch = Epoch(reader.u32()?);
    let sequence = read_sequence(reader)?;
    let hops = reader.u8()?;
    let born = read_born(reader, now)?;
    let state = StateId(reader.varint()?);
    let length = reader.count(1)?;
    let body = reader.take_kept(length)?;
    let signature = if hops & SIGNED == 0 {
        Bytes::new()
    } else {
        let length = reader.count(1)?;
        if length == 0 {
            return Err(WireError::Range);
        }
        reader.take_kept(length)?
    };
    Ok(Data {
        origin,
        epoch,
        sequence,
        state,
        priority,
        keyframe: kind & 0x10 != 0,
        layer: kind & 7,
        hops: hops & HOPS_MAX,
        pulled: hops & PULLED != 0,
        flood: hops & FLOOD != 0,
        born,
        body,
        signature,
    })
}

/// Sequences stay below 2^62, so that "one past" never overflows.
fn membership_kind<P>(message: &MembershipMessage<P>) -> u8 {
    match message {
        MembershipMessage::Join { .. } => JOIN,
        MembershipMessage::Walk { .. } => WALK,
        MembershipMessage::Offer { .. } => OFFER,
        MembershipMessage::Neighbor { .. } => NEIGHBOR,
        MembershipMessage::NeighborReply { .. } => NEIGHBOR_REPLY,
        MembershipMessage::Bye { .. } => BYE,
        MembershipMessage::Shuffle { .. } => SHUFFLE,
        MembershipMessage::ShuffleReply { .. } => SHUFFLE_REPLY,
        MembershipMessage::Measure { .. } => MEASURE,
        MembershipMessage::Measured { .. } => MEASURED,
        MembershipMessage::Swap { .. } => SWAP,
        MembershipMessage::Swapped { .. } => SWAPPED,
        MembershipMessage::Watchers { .. } => WATCHERS,
        MembershipMessage::Suspect { .. } => SUSPECT,
        MembershipMessage::Vouch { .. } => VOUCH,
    }
}

fn put_membership<P: WirePeer>(out: &mut impl Put, message: &MembershipMessage<P>) {
    match message {
        MembershipMessage::Join { swarm, wanted } => {
            out.put(&swarm.0.to_le_bytes());
            out.put_u8(*wanted);
        }
        MembershipMessage::Walk { joiner, hops_left } => {
            joiner.encode(out);
            out.put_u8(*hops_left);
        }
        MembershipMessage::Offer { swarm, partner } => {
            out.put(&swarm.0.to_le_bytes());
            partner.encode(out);
        }
        MembershipMessage::Neighbor { swarm, request } => {
            out.put(&swarm.0.to_le_bytes());
            match request {
                NeighborRequest::Low => out.put_u8(0),
                NeighborRequest::High => out.put_u8(1),
                NeighborRequest::Replace { leaving } => {
                    out.put_u8(2);
                    leaving.encode(out);
                }
            }
        }
        MembershipMessage::NeighborReply { accepted, peers } => {
            out.put_u8(u8::from(*accepted));
            put_list(out, peers, |out, peer| peer.encode(out));
        }
        MembershipMessage::Bye { leaving } => out.put_u8(u8::from(*leaving)),
        MembershipMessage::Shuffle { origin, hops_left, entries } => {
            origin.encode(out);
            out.put_u8(*hops_left);
            put_list(out, entries, put_entry);
        }
        MembershipMessage::ShuffleReply { entries } => put_list(out, entries, put_entry),
        MembershipMessage::Measure { swarm } => out.put(&swarm.0.to_le_bytes()),
        MembershipMessage::Measured { longest } => {
            put_bound(out, &longest.map(|(peer, _)| peer));
            if let Some((_, rtt_us)) = longest {
                out.put(&rtt_us.to_le_bytes());
            }
        }
        MembershipMessage::Swap { candidate, leaving, gain_us } => {
            candidate.encode(out);
            leaving.encode(out);
            out.put(&gain_us.to_le_bytes());
        }
        MembershipMessage::Swapped { candidate } => candidate.encode(out),
        MembershipMessage::Watchers { peers } => put_list(out, peers, |out, peer| peer.encode(out)),
        MembershipMessage::Suspect { peer } | MembershipMessage::Vouch { peer } => peer.encode(out),
    }
}

fn read_membership<P: WirePeer>(
    reader: &mut Reader<'_>,
    number: u8,
) -> Result<MembershipMessage<P>, WireError> {
    Ok(match number {
        JOIN => MembershipMessage::Join { swarm: SwarmId(reader.u64()?), wanted: reader.u8()? },
        WALK => MembershipMessage::Walk { joiner: P::decode(reader)?, hops_left: reader.u8()? },
        OFFER => MembershipMessage::Offer { swarm: SwarmId(reader.u64()?), partner: P::decode(reader)? },
        NEIGHBOR => MembershipMessage::Neighbor {
            swarm: SwarmId(reader.u64()?),
            request: match reader.u8()? {
                0 => NeighborRequest::Low,
                1 => NeighborRequest::High,
                2 => NeighborRequest::Replace { leaving: P::decode(reader)? },
                _ => return Err(WireError::Range),
            },
        },
        NEIGHBOR_REPLY => MembershipMessage::NeighborReply {
            accepted: read_bool(reader)?,
            peers: read_list(reader, P::WIRE_BYTES, P::decode)?,
        },
        BYE => MembershipMessage::Bye { leaving: read_bool(reader)? },
        SHUFFLE => MembershipMessage::Shuffle {
            origin: P::decode(reader)?,
            hops_left: reader.u8()?,
            entries: read_list(reader, P::WIRE_BYTES + 1, read_entry)?,
        },
        MEASURE => MembershipMessage::Measure { swarm: SwarmId(reader.u64()?) },
        MEASURED => {
            let longest = match read_bound(reader)? {
                Some(peer) => Some((peer, reader.u32()?)),
                None => None,
            };
            MembershipMessage::Measured { longest }
        }
        SWAP => MembershipMessage::Swap {
            candidate: P::decode(reader)?,
            leaving: P::decode(reader)?,
            gain_us: reader.u32()?,
        },
        SWAPPED => MembershipMessage::Swapped { candidate: P::decode(reader)? },
        WATCHERS => MembershipMessage::Watchers { peers: read_list(reader, P::WIRE_BYTES, P::decode)? },
        SUSPECT => MembershipMessage::Suspect { peer: P::decode(reader)? },
        VOUCH => MembershipMessage::Vouch { peer: P::decode(reader)? },
        _ => MembershipMessage::ShuffleReply { entries: read_list(reader, P::WIRE_BYTES + 1, read_entry)? },
    })
}

fn gossip_kind<P>(message: &GossipMessage<P>) -> u8 {
    match message {
        GossipMessage::Data(_) => DATA,
        GossipMessage::Have { .. } => HAVE,
        GossipMessage::Want { .. } => WANT,
        GossipMessage::Gone { .. } => GONE,
        GossipMessage::Prune { .. } => PRUNE,
        GossipMessage::Wave(_) => WAVE,
        GossipMessage::Attach { .. } => ATTACH,
        GossipMessage::Count { .. } => COUNT,
        GossipMessage::Sync { .. } => SYNC,
        GossipMessage::Manifest(_)
        | GossipMessage::ChunkOffer(_)
        | GossipMessage::ChunkClaim(_)
        | GossipMessage::Chunk(_) => chunks::kind(message),
    }
}

fn put_gossip<P: WirePeer>(out: &mut impl Put, message: &GossipMessage<P>, now: Instant) {
    match message {
        GossipMessage::Data(data) => put_data(out, data, now),
        GossipMessage::Manifest(data) => chunks::put_manifest(out, data, now),
        GossipMessage::ChunkOffer(offer) => chunks::put_offer(out, offer),
        GossipMessage::ChunkClaim(claim) => chunks::put_claim(out, claim),
        GossipMessage::Chunk(chunk) => chunks::put_chunk(out, chunk),
        GossipMessage::Wave(wave) => put_wave(out, wave, now),
        GossipMessage::Attach { attached } => out.put_u8(u8::from(*attached)),
        GossipMessage::Count { nodes } => out.put_varint(*nodes),
        GossipMessage::Have { sources } | GossipMessage::Gone { sources } => {
            put_list(out, sources, put_source);
        }
        GossipMessage::Want { graft, sources } => {
            out.put_u8(u8::from(*graft));
            put_list(out, sources, put_source);
        }
        GossipMessage::Prune { origin, share_percent } => {
            origin.encode(out);
            out.put_u8(*share_percent);
        }
        GossipMessage::Sync { lower, items } => {
            put_bound(out, lower);
            put_list(out, items, |out, item| {
                put_bound(out, &item.upper);
                match &item.known {
                    SyncKnown::Skip => out.put_u8(0),
                    SyncKnown::Fingerprint(sum) => {
                        out.put_u8(1);
                        out.put(&sum.to_le_bytes());
                    }
                    SyncKnown::Sources(sources) => {
                        out.put_u8(2);
                        put_list(out, sources, put_source);
                    }
                    SyncKnown::Answer(sources) => {
                        out.put_u8(3);
                        put_list(out, sources, put_source);
                    }
                }
            });
        }
    }
}

fn put_wave<P: WirePeer>(out: &mut impl Put, wave: &Wave<P>, now: Instant) {
    wave.origin.encode(out);
    out.put(&wave.epoch.0.to_le_bytes());
    out.put_varint(wave.number);
    out.put_u8(wave.hops.min(!SHARED) | if wave.shared { SHARED } else { 0 });
    put_age(out, wave.born, now);
    if wave.shared {
        // Zero: not counted yet.
        out.put_varint(
            wave.members.map_or(0, |members| members.saturating_add(1)) << 1 | u64::from(wave.is_last),
        );
    }
}

fn read_wave<P: WirePeer>(reader: &mut Reader<'_>, now: Instant) -> Result<Wave<P>, WireError> {
    let origin = P::decode(reader)?;
    let epoch = Epoch(reader.u32()?);
    let number = read_sequence(reader)?;
    let hops = reader.u8()?;
    let born = read_born(reader, now)?;
    let shared = hops & SHARED != 0;
    let said = if shared { reader.varint()? } else { 0 };
    let (members, is_last) = ((said >> 1).checked_sub(1), said & 1 == 1);
    Ok(Wave { origin, epoch, number, shared, hops: hops & !SHARED, born, members, is_last })
}

fn put_age(out: &mut impl Put, born: Instant, now: Instant) {
    let age_ms = (now - born).as_micros().div_ceil(1_000);
    out.put(&age_to_wire(u64::try_from(age_ms).unwrap_or(u64::MAX)).to_le_bytes());
}

fn read_born(reader: &mut Reader<'_>, now: Instant) -> Result<Instant, WireError> {
    Ok(now - Duration::from_millis(age_from_wire(u16::from_le_bytes(reader.array()?))))
}

fn read_gossip<P: WirePeer>(
    reader: &mut Reader<'_>,
    number: u8,
    now: Instant,
) -> Result<GossipMessage<P>, WireError> {
    let source_bytes_min = P::WIRE_BYTES + 4 + 1;
    Ok(match number {
        HAVE => GossipMessage::Have { sources: read_list(reader, source_bytes_min, read_source)? },
        WANT => GossipMessage::Want {
            graft: read_bool(reader)?,
            sources: read_list(reader, source_bytes_min, read_source)?,
        },
        GONE => GossipMessage::Gone { sources: read_list(reader, source_bytes_min, read_source)? },
        PRUNE => {
            let origin = P::decode(reader)?;
            let share_percent = reader.u8()?;
            if share_percent > 100 {
                return Err(WireError::Range);
            }
            GossipMessage::Prune { origin, share_percent }
        }
        WAVE => GossipMessage::Wave(read_wave(reader, now)?),
        ATTACH => GossipMessage::Attach { attached: read_bool(reader)? },
        COUNT => GossipMessage::Count { nodes: reader.varint()? },
        _ => {
            let lower = read_bound(reader)?;
            let items = read_list(reader, 2, |reader| {
                let upper = read_bound(reader)?;
                let known = match reader.u8()? {
                    0 => SyncKnown::Skip,
                    1 => SyncKnown::Fingerprint(reader.u64()?),
                    2 => SyncKnown::Sources(read_list(reader, source_bytes_min, read_source)?),
                    3 => SyncKnown::Answer(read_list(reader, source_bytes_min, read_source)?),
                    _ => return Err(WireError::Range),
                };
                Ok(SyncItem { upper, known })
            })?;
            // The intervals must ascend: everything after an endless one would be empty.
            let mut reached = lower;
            for (index, item) in items.iter().enumerate() {
                let ascends = match (reached, item.upper) {
                    (_, None) => index + 1 == items.len(),
                    (None, Some(_)) => true,
                    (Some(low), Some(high)) => low < high,
                };
                if !ascends {
                    return Err(WireError::Range);
                }
                reached = item.upper;
            }
            GossipMessage::Sync { lower, items }
        }
    })
}
