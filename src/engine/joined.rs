//! The joined swarms, found by their tags.

use core::ops::Index;

use smallvec::SmallVec;

use crate::id::{SwarmId, SwarmTag};
use crate::swarm::Swarm;
use crate::time::Instant;
use crate::wire::WirePeer;

#[derive(Debug)]
pub(super) struct Joined<P: WirePeer> {
    pub(super) id: SwarmId,
    pub(super) swarm: Swarm<P>,
    /// When it is woken: most inputs leave it as it is.
    pub(super) wake: Option<Instant>,
    /// Its place among those that are.
    pub(super) place: u32,
    /// The group whose livestream it is; the application knows nothing of it.
    pub(super) owner: Option<SwarmTag>,
}

/// A map in the order of the tags. Many nodes are in one swarm alone, which is found without a search through the heap:
/// whatever happens passes here.
#[derive(Debug)]
pub(super) struct Swarms<P: WirePeer> {
    entries: SmallVec<[(SwarmTag, Joined<P>); 1]>,
}

impl<P: WirePeer> Swarms<P> {
    pub(super) fn new() -> Self {
        Self { entries: SmallVec::new() }
    }

    pub(super) fn get(&self, tag: &SwarmTag) -> Option<&Joined<P>> {
        let place = self.place(tag).ok()?;
        Some(&self.entries[place].1)
    }

    pub(super) fn get_mut(&mut self, tag: &SwarmTag) -> Option<&mut Joined<P>> {
        let place = self.place(tag).ok()?;
        Some(&mut self.entries[place].1)
    }

    pub(super) fn contains_key(&self, tag: &SwarmTag) -> bool {
        self.place(tag).is_ok()
    }

    /// Adds a swarm under a tag that none has.
    pub(super) fn insert(&mut self, tag: SwarmTag, joined: Joined<P>) {
        match self.place(&tag) {
            Ok(place) => self.entries[place].1 = joined,
            Err(place) => self.entries.insert(place, (tag, joined)),
        }
    }

    pub(super) fn remove(&mut self, tag: &SwarmTag) -> Option<Joined<P>> {
        let place = self.place(tag).ok()?;
        let (_, joined) = self.entries.remove(place);
        if self.entries.len() * 2 < self.entries.capacity() {
            self.entries.shrink_to_fit();
        }
        Some(joined)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &SwarmTag> {
        self.entries.iter().map(|(tag, _)| tag)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Joined<P>> {
        self.entries.iter().map(|(_, joined)| joined)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Joined<P>> {
        self.entries.iter_mut().map(|(_, joined)| joined)
    }

    fn place(&self, tag: &SwarmTag) -> Result<usize, usize> {
        self.entries.binary_search_by_key(tag, |(tag, _)| *tag)
    }
}

/// Of a swarm that is joined.
impl<P: WirePeer> Index<&SwarmTag> for Swarms<P> {
    type Output = Joined<P>;

    fn index(&self, tag: &SwarmTag) -> &Joined<P> {
        self.get(tag).expect("the swarm is joined")
    }
}
