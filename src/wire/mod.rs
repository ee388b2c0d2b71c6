//! The binary form of messages.
//!
//! A frame is a version byte and one or more messages, each with a kind byte:
//!
//! ```text
//! frame    := version u8 · message+
//! message  := kind u8 · [tag u32, for swarm messages unless the kind says "same swarm"] · fields
//! kind     := 1 pp k s lll   data: priority, keyframe, same swarm, layer
//!           | 0 s ······     the rest: same swarm, number
//! data     := origin · epoch u32 · sequence varint · signed, pulled and hops u8 · age u16 · state varint · length varint · body
//!             [· length varint · signature]
//! ```
//!
//! "Same swarm" means the swarm of the message before. Numbers are least byte first.

mod chunks;
mod codec;
mod forest;
mod frame;
mod group;
mod lists;
mod message;

pub(crate) use chunks::UPDATE_CHUNK_HEADER_BYTES_MAX;
pub use chunks::{ChunkClaim, ChunkData, ChunkOffer, LargeId};
pub use codec::{Measure, Put, Reader, WireError, WirePeer};
pub use forest::{
    Attach, Attached, Chunk, Feed, ForestMessage, LostParent, Plan, StreamNotice, TrackPosition,
};
pub(crate) use forest::{CHUNK_HEADER_BYTES_MAX, PARITY_MAX, STRIPES_MAX, TRACKS, chunk_bytes};
pub(crate) use frame::DATA_HEADER_BYTES_MAX_WITHOUT_PEER;
pub use frame::{FrameReader, FrameWriter, VERSION, message_bytes_max};
pub use group::{
    Ack, Beat, Directed, DirectedTarget, GroupMessage, Handover, MediaProfile, Profile, RosterEntry, Verdict,
    Welcome,
};
pub(crate) use group::{
    ROSTER_PARTS, STATUS_GONE, profile_bytes, roster_entry_bytes, verdict_bytes, verdict_bytes_max,
};
pub(crate) use message::BEAT_MAX;
pub use message::{
    Data, GossipMessage, LinkMessage, MembershipMessage, Message, NeighborRequest, SourceRanges, SyncItem,
    SyncKnown, ViewEntry, Wave,
};
