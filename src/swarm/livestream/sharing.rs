//! What a livestream shares with the rest of its node: the upload, the others of its group, and what is heard of its parents.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Livestream;
use crate::swarm::SwarmActions;
use crate::time::Instant;
use crate::wire::WirePeer;

impl<P: WirePeer> Livestream<P> {
    /// One of several streams that share an upload, all of them talk: what is lost is asked for as early as can be.
    pub(crate) fn sharing(mut self, upload_bytes_per_s: u64) -> Self {
        self.shared_upload = Some(upload_bytes_per_s.max(1));
        self.planner = self.planner.map(|planner| Box::new(planner.with_helpers()));
        if let Some(relay) = &mut self.relay {
            relay.share_upload(upload_bytes_per_s);
        }
        self
    }

    /// Where this node plans: who will come, with what each can spend on others.
    pub(crate) fn expect(&mut self, viewers: &[(P, u64)], now: Instant, actions: &mut SwarmActions<P>) {
        if let Some(planner) = &mut self.planner {
            planner.expect(viewers, now, &mut self.planner_actions);
        }
        self.settle(now, actions);
    }

    pub(crate) fn set_redundancy(&mut self, percent: u16) {
        if let Some(relay) = self.relay.as_mut().filter(|_| self.planner.is_some()) {
            relay.set_redundancy(percent);
        }
    }

    /// How many bytes wait to be sent.
    pub(crate) fn note_backlog(&mut self, bytes: usize) {
        if let Some(relay) = &mut self.relay {
            // What waits for others is no sign that this stream promised too much.
            let bytes = match self.shared_upload {
                Some(all) => {
                    let own = u128::from(relay.upload_bytes_per_s().min(all));
                    usize::try_from(bytes as u128 * own / u128::from(all)).unwrap_or(bytes)
                }
                None => bytes,
            };
            relay.note_backlog(bytes);
        }
    }

    /// Parents of which nothing has come for a while: of them [`Self::note_heard`] is to be told.
    pub(crate) fn doubted(&self, now: Instant) -> impl Iterator<Item = P> + '_ {
        self.relay.iter().flat_map(move |relay| relay.doubted(now))
    }

    /// When anything was heard of doubted parents, in whatever swarm. To be told before what is due is done.
    pub(crate) fn note_heard(&mut self, heard: Vec<(P, Instant)>) {
        if let Some(relay) = &mut self.relay {
            relay.note_heard(heard);
        }
    }
}
