//! The messages of groups: admission, the roster, and messages for some.

use alloc::vec::Vec;

use bytes::Bytes;

use super::codec::{Measure, Put, Reader, WireError, WirePeer};
use super::lists::{put_list, read_bool, read_list};
use crate::authority::Signature;
use crate::id::SwarmId;

/// The group protocol, beside gossip: who is in, and messages that are not for everybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupMessage<P> {
    /// From somebody outside to a participant: "let me in". Repeated until it is answered.
    Join {
        /// The whole id of the swarm.
        swarm: SwarmId,
        /// The life of the sender.
        incarnation: u32,
    },
    /// The answer: what the sender needs to write its entry.
    Welcome(Welcome),
    /// The other answer.
    Refused {
        /// 0 full, 1 banned.
        reason: u8,
    },
    /// Entries of the roster, new ones and others.
    Roster {
        /// What participants wrote of themselves, and what others noted.
        entries: Vec<RosterEntry<P>>,
        /// What moderators decided.
        verdicts: Vec<Verdict<P>>,
    },
    /// "I live." Also asks whether both know the same roster.
    Beat(Beat<P>),
    /// Fingerprints of the parts of the sender's roster, which differs from the receiver's.
    Digest {
        /// One for each part.
        parts: Vec<u32>,
    },
    /// "Send me these parts of the roster."
    WantRoster {
        /// One bit for each part.
        parts: u64,
    },
    /// A message for some participants.
    Directed(Directed<P>),
    /// "I have it." Goes back the way that the message came.
    Ack(Ack<P>),
}

/// What an admitted participant is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The whole id of the swarm.
    pub swarm: SwarmId,
    /// Participants, at most.
    pub participants_max: u32,
    /// Bytes of what a participant may say of itself, at most.
    pub metadata_bytes_max: u16,
    /// The group's time, in microseconds: the stamp of the admission.
    pub clock_us: u64,
    /// The least life that the participant may have: later than those that the roster knows.
    pub incarnation: u32,
    /// The participant whose place it takes in the order of joining: its own, if it is in already.
    pub joined_us: Option<u64>,
}

/// One participant in the roster. Of two entries the one with the greater `(incarnation, version, status)` counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterEntry<P> {
    /// Who.
    pub peer: P,
    /// Its life.
    pub incarnation: u32,
    /// Rises with every change in this life.
    pub version: u32,
    /// 0 present, 1 suspected, 2 lost, 3 left, 4 one too many.
    pub status: u8,
    /// What it says of itself, while it is in.
    pub profile: Option<Profile<P>>,
    /// What it signed of that; empty in groups that are not signed, and without a profile.
    pub signature: Bytes,
}

/// What a participant says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile<P> {
    /// When it joined, in the group's time.
    pub joined_us: u64,
    /// One bit each, for what the application switches on and off.
    pub switches: u8,
    /// When it claimed the screen, in the group's time.
    pub claim_us: Option<u64>,
    /// To whom it hands the screen.
    pub handover: Option<Handover<P>>,
    /// The newest hand-over that it has taken or turned down.
    pub taken_us: u64,
    /// What it shows of itself.
    pub metadata: Bytes,
    /// Its media, in groups that have some.
    pub media: Option<MediaProfile>,
}

/// What a participant says of its media.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MediaProfile {
    /// How often it has switched its sound on.
    pub audio_openings: u32,
    /// How often it has switched its video on.
    pub video_openings: u32,
    /// 0 silent, 1 a sound that may become speech, from 2 on speaking, the louder the greater.
    pub voice: u8,
    /// When it began to speak last, in the group's time; 0: never.
    pub turn_us: u64,
    /// What it may spend on media, in bytes a second.
    pub upload_bytes_per_s: u64,
    /// The claim of the newest screen of which it has sent something; 0: of none.
    pub screen_us: u64,
    /// Since when it relays for others in a large group, in the group's time; 0: it does not.
    pub relay_us: u64,
}

/// The screen on its way from one participant to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handover<P> {
    /// To whom.
    pub to: P,
    /// The claim that goes with it.
    pub claim_us: u64,
    /// When it was handed over, in the group's time.
    pub at_us: u64,
}

/// What a moderator decided about a peer. That about the latest life counts, and of two the newer one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict<P> {
    /// About whom.
    pub peer: P,
    /// By whom.
    pub by: P,
    /// When, in the group's time.
    pub at_us: u64,
    /// Lives up to this one are thrown out; `None`: none is.
    pub out: Option<u32>,
    /// Whether later lives are kept out.
    pub banned: bool,
    /// What the moderator signed of that; empty in groups that are not signed.
    pub signature: Bytes,
}

/// A sign of life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beat<P> {
    /// The whole id of the swarm.
    pub swarm: SwarmId,
    /// The group's time, in microseconds.
    pub clock_us: u64,
    /// Of everybody who is in, as the sender knows it.
    pub fingerprint: u64,
    /// Whether the sender wants a beat in return.
    pub asks: bool,
    /// The sender's neighbours with the round trips to them in milliseconds; empty: as before.
    pub neighbors: Vec<(P, u16)>,
}

/// A message for some participants, on one link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directed<P> {
    /// Who sent it first.
    pub origin: P,
    /// The origin's life.
    pub incarnation: u32,
    /// Its place among the messages of this life.
    pub number: u64,
    /// Whether it has come over a participant between.
    pub relayed: bool,
    /// Whether others get it, too.
    pub many: bool,
    /// For whom this copy is.
    pub targets: Vec<DirectedTarget<P>>,
    /// The payload.
    pub body: Bytes,
}

/// One receiver of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectedTarget<P> {
    /// Who.
    pub peer: P,
    /// The message that must come before this one; 0 if none must.
    pub after: u64,
}

/// The receipt of one message by one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<P> {
    /// Whose message it was.
    pub origin: P,
    /// The origin's life.
    pub incarnation: u32,
    /// The message.
    pub number: u64,
    /// Who has it.
    pub by: P,
    /// Whether it came over a participant between.
    pub relayed: bool,
}

/// Parts of a roster that are compared with each other.
pub(crate) const ROSTER_PARTS: usize = 64;

/// The first status of somebody who is not in any more.
pub(crate) const STATUS_GONE: u8 = 2;

const STATUS_MAX: u8 = 4;

pub(super) const JOIN: u8 = 40;
const WELCOME: u8 = 41;
const REFUSED: u8 = 42;
const ROSTER: u8 = 43;
const BEAT: u8 = 44;
const DIGEST: u8 = 45;
const WANT_ROSTER: u8 = 46;
const DIRECTED: u8 = 47;
pub(super) const ACK: u8 = 48;

const HAS_CLAIM: u8 = 0x80;
const HAS_HANDOVER: u8 = 0x40;
const HAS_MEDIA: u8 = 0x20;
const HAS: u8 = HAS_CLAIM | HAS_HANDOVER | HAS_MEDIA;

/// What an entry takes in a message.
pub(crate) fn roster_entry_bytes<P: WirePeer>(entry: &RosterEntry<P>) -> usize {
    let mut measure = Measure::default();
    put_entry(&mut measure, entry);
    measure.0
}

/// What a verdict takes in a message, at most.
pub(crate) fn verdict_bytes_max<P: WirePeer>() -> usize {
    2 * P::WIRE_BYTES + 10 + 1 + 4 + 1 + Signature::BYTES_MAX
}

/// What a participant signs of itself.
pub(crate) fn profile_bytes<P: WirePeer>(profile: &Profile<P>) -> Bytes {
    let mut bytes = Vec::new();
    put_profile(&mut bytes, profile);
    Bytes::from(bytes)
}

/// What a moderator signs of its decision.
pub(crate) fn verdict_bytes<P: WirePeer>(verdict: &Verdict<P>) -> Bytes {
    let mut bytes = Vec::new();
    put_verdict(&mut bytes, &Verdict { signature: Bytes::new(), ..verdict.clone() });
    Bytes::from(bytes)
}

pub(super) fn kind<P>(message: &GroupMessage<P>) -> u8 {
    match message {
        GroupMessage::Join { .. } => JOIN,
        GroupMessage::Welcome(_) => WELCOME,
        GroupMessage::Refused { .. } => REFUSED,
        GroupMessage::Roster { .. } => ROSTER,
        GroupMessage::Beat(_) => BEAT,
        GroupMessage::Digest { .. } => DIGEST,
        GroupMessage::WantRoster { .. } => WANT_ROSTER,
        GroupMessage::Directed(_) => DIRECTED,
        GroupMessage::Ack(_) => ACK,
    }
}

pub(super) fn put<P: WirePeer>(out: &mut impl Put, message: &GroupMessage<P>) {
    match message {
        GroupMessage::Join { swarm, incarnation } => {
            out.put(&swarm.0.to_le_bytes());
            out.put(&incarnation.to_le_bytes());
        }
        GroupMessage::Welcome(welcome) => {
            out.put(&welcome.swarm.0.to_le_bytes());
            out.put_varint(welcome.participants_max.into());
            out.put_varint(welcome.metadata_bytes_max.into());
            out.put_varint(welcome.clock_us);
            out.put(&welcome.incarnation.to_le_bytes());
            put_optional(out, welcome.joined_us);
        }
        GroupMessage::Refused { reason } => out.put_u8(*reason),
        GroupMessage::Roster { entries, verdicts } => {
            put_list(out, entries, put_entry);
            put_list(out, verdicts, put_verdict);
        }
        GroupMessage::Beat(beat) => {
            out.put(&beat.swarm.0.to_le_bytes());
            out.put_varint(beat.clock_us);
            out.put(&beat.fingerprint.to_le_bytes());
            out.put_u8(u8::from(beat.asks));
            put_list(out, &beat.neighbors, |out, (peer, rtt_ms)| {
                peer.encode(out);
                out.put_varint((*rtt_ms).into());
            });
        }
        GroupMessage::Digest { parts } => {
            put_list(out, parts, |out, part| out.put(&part.to_le_bytes()));
        }
        GroupMessage::WantRoster { parts } => out.put(&parts.to_le_bytes()),
        GroupMessage::Directed(directed) => {
            directed.origin.encode(out);
            out.put(&directed.incarnation.to_le_bytes());
            out.put_varint(directed.number);
            out.put_u8(u8::from(directed.relayed) | u8::from(directed.many) << 1);
            put_list(out, &directed.targets, |out, target| {
                target.peer.encode(out);
                out.put_varint(target.after);
            });
            out.put_varint(directed.body.len() as u64);
            out.put(&directed.body);
        }
        GroupMessage::Ack(ack) => {
            ack.origin.encode(out);
            out.put(&ack.incarnation.to_le_bytes());
            out.put_varint(ack.number);
            ack.by.encode(out);
            out.put_u8(u8::from(ack.relayed));
        }
    }
}

pub(super) fn read<P: WirePeer>(reader: &mut Reader<'_>, number: u8) -> Result<GroupMessage<P>, WireError> {
    Ok(match number {
        JOIN => GroupMessage::Join { swarm: SwarmId(reader.u64()?), incarnation: reader.u32()? },
        WELCOME => GroupMessage::Welcome(Welcome {
            swarm: SwarmId(reader.u64()?),
            participants_max: read_u32(reader)?,
            metadata_bytes_max: read_u16(reader)?,
            clock_us: read_stamp(reader)?,
            incarnation: reader.u32()?,
            joined_us: read_optional(reader)?,
        }),
        REFUSED => match reader.u8()? {
            reason @ 0..=1 => GroupMessage::Refused { reason },
            _ => return Err(WireError::Range),
        },
        ROSTER => GroupMessage::Roster {
            entries: read_list(reader, P::WIRE_BYTES + 6, read_entry)?,
            verdicts: read_list(reader, 2 * P::WIRE_BYTES + 2, read_verdict)?,
        },
        BEAT => GroupMessage::Beat(Beat {
            swarm: SwarmId(reader.u64()?),
            clock_us: read_stamp(reader)?,
            fingerprint: reader.u64()?,
            asks: read_bool(reader)?,
            neighbors: read_list(reader, P::WIRE_BYTES + 1, |reader| {
                Ok((P::decode(reader)?, read_u16(reader)?))
            })?,
        }),
        DIGEST => {
            let parts = read_list(reader, 4, |reader| reader.u32())?;
            if parts.len() != ROSTER_PARTS {
                return Err(WireError::Range);
            }
            GroupMessage::Digest { parts }
        }
        WANT_ROSTER => GroupMessage::WantRoster { parts: reader.u64()? },
        DIRECTED => GroupMessage::Directed(read_directed(reader)?),
        ACK => GroupMessage::Ack(Ack {
            origin: P::decode(reader)?,
            incarnation: reader.u32()?,
            number: reader.varint()?,
            by: P::decode(reader)?,
            relayed: read_bool(reader)?,
        }),
        other => return Err(WireError::Kind(other)),
    })
}

fn put_entry<P: WirePeer>(out: &mut impl Put, entry: &RosterEntry<P>) {
    entry.peer.encode(out);
    out.put(&entry.incarnation.to_le_bytes());
    out.put_varint(entry.version.into());
    out.put_u8(entry.status);
    let Some(profile) = entry.profile.as_ref().filter(|_| entry.status < STATUS_GONE) else { return };
    put_profile(out, profile);
    put_signature(out, &entry.signature);
}

fn put_profile<P: WirePeer>(out: &mut impl Put, profile: &Profile<P>) {
    out.put_varint(profile.joined_us);
    let claim = if profile.claim_us.is_some() { HAS_CLAIM } else { 0 };
    let handover = if profile.handover.is_some() { HAS_HANDOVER } else { 0 };
    let media = if profile.media.is_some() { HAS_MEDIA } else { 0 };
    out.put_u8(profile.switches & !HAS | claim | handover | media);
    if let Some(claim_us) = profile.claim_us {
        out.put_varint(claim_us);
    }
    if let Some(handover) = &profile.handover {
        handover.to.encode(out);
        out.put_varint(handover.claim_us);
        out.put_varint(handover.at_us);
    }
    out.put_varint(profile.taken_us);
    out.put_varint(profile.metadata.len() as u64);
    out.put(&profile.metadata);
    if let Some(media) = &profile.media {
        out.put_varint(media.audio_openings.into());
        out.put_varint(media.video_openings.into());
        out.put_u8(media.voice);
        out.put_varint(media.turn_us);
        out.put_varint(media.upload_bytes_per_s);
        out.put_varint(media.screen_us);
        out.put_varint(media.relay_us);
    }
}

fn read_entry<P: WirePeer>(reader: &mut Reader<'_>) -> Result<RosterEntry<P>, WireError> {
    let peer = P::decode(reader)?;
    let incarnation = reader.u32()?;
    let version = read_u32(reader)?;
    let status = reader.u8()?;
    if status > STATUS_MAX {
        return Err(WireError::Range);
    }
    let (profile, signature) = if status < STATUS_GONE {
        (Some(read_profile(reader)?), read_signature(reader)?)
    } else {
        (None, Bytes::new())
    };
    Ok(RosterEntry { peer, incarnation, version, status, profile, signature })
}

fn read_profile<P: WirePeer>(reader: &mut Reader<'_>) -> Result<Profile<P>, WireError> {
    let joined_us = read_stamp(reader)?;
    let flags = reader.u8()?;
    let claim_us = if flags & HAS_CLAIM != 0 { Some(read_stamp(reader)?) } else { None };
    let handover = if flags & HAS_HANDOVER != 0 {
        Some(Handover { to: P::decode(reader)?, claim_us: read_stamp(reader)?, at_us: read_stamp(reader)? })
    } else {
        None
    };
    let taken_us = read_stamp(reader)?;
    let length = reader.count(1)?;
    let metadata = reader.take(length).map(Bytes::copy_from_slice)?;
    let media = if flags & HAS_MEDIA != 0 {
        Some(MediaProfile {
            audio_openings: read_u32(reader)?,
            video_openings: read_u32(reader)?,
            voice: reader.u8()?,
            turn_us: read_stamp(reader)?,
            upload_bytes_per_s: reader.varint()?,
            screen_us: read_stamp(reader)?,
            relay_us: read_stamp(reader)?,
        })
    } else {
        None
    };
    Ok(Profile { joined_us, switches: flags & !HAS, claim_us, handover, taken_us, metadata, media })
}

fn put_verdict<P: WirePeer>(out: &mut impl Put, verdict: &Verdict<P>) {
    verdict.peer.encode(out);
    verdict.by.encode(out);
    out.put_varint(verdict.at_us);
    out.put_u8(u8::from(verdict.out.is_some()) | u8::from(verdict.banned) << 1);
    if let Some(incarnation) = verdict.out {
        out.put(&incarnation.to_le_bytes());
    }
    put_signature(out, &verdict.signature);
}

fn put_signature(out: &mut impl Put, signature: &Bytes) {
    out.put_varint(signature.len() as u64);
    out.put(signature);
}

fn read_signature(reader: &mut Reader<'_>) -> Result<Bytes, WireError> {
    let length = reader.count(1)?;
    reader.take(length).map(Bytes::copy_from_slice)
}

fn read_verdict<P: WirePeer>(reader: &mut Reader<'_>) -> Result<Verdict<P>, WireError> {
    let (peer, by) = (P::decode(reader)?, P::decode(reader)?);
    let at_us = read_stamp(reader)?;
    let flags = reader.u8()?;
    if flags > 3 {
        return Err(WireError::Range);
    }
    let out = if flags & 1 != 0 { Some(reader.u32()?) } else { None };
    let signature = read_signature(reader)?;
    Ok(Verdict { peer, by, at_us, out, banned: flags & 2 != 0, signature })
}

fn read_directed<P: WirePeer>(reader: &mut Reader<'_>) -> Result<Directed<P>, WireError> {
    let origin = P::decode(reader)?;
    let incarnation = reader.u32()?;
    let number = reader.varint()?;
    let flags = reader.u8()?;
    if flags > 3 {
        return Err(WireError::Range);
    }
    let targets = read_list(reader, P::WIRE_BYTES + 1, |reader| {
        Ok(DirectedTarget { peer: P::decode(reader)?, after: reader.varint()? })
    })?;
    if targets.is_empty() || number == 0 || targets.iter().any(|target| target.after >= number) {
        return Err(WireError::Range);
    }
    let length = reader.count(1)?;
    let body = reader.take_kept(length)?;
    let (relayed, many) = (flags & 1 != 0, flags & 2 != 0);
    Ok(Directed { origin, incarnation, number, relayed, many, targets, body })
}

fn put_optional(out: &mut impl Put, number: Option<u64>) {
    match number {
        None => out.put_u8(0),
        Some(number) => {
            out.put_u8(1);
            out.put_varint(number);
        }
    }
}

fn read_optional(reader: &mut Reader<'_>) -> Result<Option<u64>, WireError> {
    Ok(if read_bool(reader)? { Some(read_stamp(reader)?) } else { None })
}

/// Stamps stay below 2^62, so that sums never overflow: 146,000 years.
fn read_stamp(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    super::lists::read_sequence(reader)
}

fn read_u32(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    u32::try_from(reader.varint()?).map_err(|_| WireError::Range)
}

fn read_u16(reader: &mut Reader<'_>) -> Result<u16, WireError> {
    u16::try_from(reader.varint()?).map_err(|_| WireError::Range)
}
