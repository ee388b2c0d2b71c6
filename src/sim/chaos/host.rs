//! A host around an engine, whose clock jumps, which stands still for a while, or attacks.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::Dice;
use crate::engine::Engine;
use crate::io::{Class, Input, Output};
use crate::sim::{Host, NodeId};
use crate::time::Instant;

/// While it floods: a hundred times and more what a node sends that has nothing to say.
const FLOOD_EVERY: Duration = Duration::from_millis(50);
const FLOOD_FRAMES: u64 = 25;
/// Frames of its own that a flooder repeats.
const REPEATED_MAX: usize = 16;

pub(super) struct ChaosHost {
    engine: Engine<NodeId>,
    /// By how much its clock is ahead of the world's, and behind. Both only grow.
    ahead: Duration,
    behind: Duration,
    stands_until: Option<Instant>,
    /// What came while it stood still.
    waiting: VecDeque<Input<NodeId>>,
    flood: Option<Flood>,
}

struct Flood {
    dice: Dice,
    next: Instant,
    /// What it said last, and to whom.
    said: VecDeque<(NodeId, Bytes)>,
    outputs: Vec<Output<NodeId>>,
}

impl ChaosHost {
    pub(super) fn new(engine: Engine<NodeId>) -> Self {
        Self {
            engine,
            ahead: Duration::ZERO,
            behind: Duration::ZERO,
            stands_until: None,
            waiting: VecDeque::new(),
            flood: None,
        }
    }

    pub(super) fn engine(&self) -> &Engine<NodeId> {
        &self.engine
    }

    /// Calls the engine as an application would.
    pub(super) fn command<R>(
        &mut self,
        now: Instant,
        command: impl FnOnce(&mut Engine<NodeId>, Instant) -> R,
    ) -> R {
        let now = self.local(now);
        command(&mut self.engine, now)
    }

    /// Its clock jumps ahead, and it looks at it at once.
    pub(super) fn jump_forward(&mut self, by: Duration, now: Instant) {
        self.ahead += by;
        if !self.stands_still() {
            let now = self.local(now);
            self.engine.handle_timeout(now);
        }
    }

    /// Its clock is set back.
    pub(super) fn jump_back(&mut self, by: Duration) {
        self.behind += by;
    }

    /// It does nothing until then: not even listen.
    pub(super) fn stand_still(&mut self, until: Instant) {
        self.stands_until = Some(self.stands_until.map_or(until, |earlier| earlier.max(until)));
    }

    pub(super) fn stands_still(&self) -> bool {
        self.stands_until.is_some()
    }

    /// Sends its last frames again and again, pieces of them and noise, to whom it sent them.
    pub(super) fn flood(&mut self, seed: u64, now: Instant) {
        let next = now + FLOOD_EVERY;
        self.flood.get_or_insert_with(|| Flood {
            dice: Dice(seed),
            next,
            said: VecDeque::new(),
            outputs: Vec::new(),
        });
    }

    pub(super) fn floods(&self) -> bool {
        self.flood.is_some()
    }

    /// Goes on, with all that came in the meantime.
    pub(super) fn resume(&mut self, now: Instant) {
        self.stands_until = None;
        let now = self.local(now);
        for input in self.waiting.drain(..) {
            self.engine.handle_input(input, now);
        }
        self.engine.handle_timeout(now);
    }

    /// What its clock shows.
    fn local(&self, now: Instant) -> Instant {
        Instant::from_micros((now + self.ahead).as_micros().saturating_sub(self.behind.as_micros() as u64))
    }

    /// When its clock shows `local`.
    fn global(&self, local: Instant) -> Instant {
        let (ahead, behind) = (self.ahead.as_micros() as u64, self.behind.as_micros() as u64);
        Instant::from_micros(local.as_micros().saturating_add(behind).saturating_sub(ahead))
    }
}

impl Host<NodeId> for ChaosHost {
    fn handle_input(&mut self, input: Input<NodeId>, now: Instant) {
        if self.stands_still() {
            self.waiting.push_back(input);
        } else {
            let now = self.local(now);
            self.engine.handle_input(input, now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.stands_until {
            Some(until) if now < until => return,
            Some(_) => self.resume(now),
            None => {
                let local = self.local(now);
                self.engine.handle_timeout(local);
            }
        }
        if let Some(flood) = self.flood.as_mut().filter(|flood| flood.next <= now) {
            flood.next = now + FLOOD_EVERY;
            flood.shout();
        }
    }

    fn poll_output(&mut self) -> Option<Output<NodeId>> {
        if self.stands_still() {
            return None;
        }
        let output = self.engine.poll_output();
        let Some(flood) = &mut self.flood else { return output };
        if let Some(Output::Send { to, frame, .. }) = &output {
            flood.said.push_back((*to, frame.clone()));
            if flood.said.len() > REPEATED_MAX {
                flood.said.pop_front();
            }
        }
        output.or_else(|| flood.outputs.pop())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.stands_still() {
            return self.stands_until;
        }
        let due = self.engine.poll_timeout().map(|due| self.global(due));
        let flood = self.flood.as_ref().map(|flood| flood.next);
        due.into_iter().chain(flood).min()
    }
}

impl Flood {
    fn shout(&mut self) {
        if self.said.is_empty() {
            return;
        }
        for _ in 0..FLOOD_FRAMES {
            let (to, frame) = &self.said[self.dice.roll(self.said.len() as u64) as usize];
            let frame = match self.dice.roll(4) {
                0 => {
                    let bytes = 1 + self.dice.roll(200) as usize;
                    (0..bytes).map(|_| self.dice.roll(256) as u8).collect()
                }
                1 => frame.slice(..self.dice.roll(frame.len() as u64 + 1) as usize),
                _ => frame.clone(),
            };
            self.outputs.push(Output::Send { to: *to, frame, class: Class::Control });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::id::SwarmId;
    use crate::rng::Seed;
    use crate::swarm::TopicOptions;

    fn host() -> ChaosHost {
        let now = Instant::from_secs(100);
        let mut engine = Engine::new(1, Config::small(), Seed::from_u64(1), now).unwrap();
        engine.join_topic(SwarmId(1), TopicOptions::through([2]), now).unwrap();
        ChaosHost::new(engine)
    }

    fn drain(host: &mut ChaosHost) -> usize {
        let mut sent = 0;
        while let Some(output) = host.poll_output() {
            sent += usize::from(matches!(output, Output::Send { .. }));
        }
        sent
    }

    #[test]
    fn jumps_move_the_clock_and_the_deadline_against_each_other() {
        let (mut host, now) = (host(), Instant::from_secs(101));
        drain(&mut host);
        let due = host.poll_timeout().unwrap();
        host.jump_back(Duration::from_secs(7));
        assert_eq!(host.local(now), Instant::from_secs(94));
        assert_eq!(host.poll_timeout(), Some(due + Duration::from_secs(7)));
        host.jump_forward(Duration::from_secs(9), now);
        assert_eq!(host.local(now), Instant::from_secs(103));
        drain(&mut host);
        let due = host.poll_timeout().unwrap();
        assert!(due > now, "{due:?}");
        assert_eq!(host.global(host.local(now)), now);
    }

    #[test]
    fn who_stands_still_says_nothing_and_hears_everything_later() {
        let (mut host, now) = (host(), Instant::from_secs(101));
        let until = now + Duration::from_secs(3);
        host.stand_still(until);
        host.handle_input(Input::PeerConnected { peer: 2 }, now);
        host.handle_timeout(now);
        assert_eq!((drain(&mut host), host.waiting.len(), host.poll_timeout()), (0, 1, Some(until)));
        host.handle_timeout(until);
        assert!(drain(&mut host) > 0);
        assert!(!host.stands_still() && host.waiting.is_empty());
    }

    #[test]
    fn a_flooder_repeats_itself() {
        let (mut host, now) = (host(), Instant::from_secs(101));
        host.flood(3, now);
        host.handle_input(Input::PeerConnected { peer: 2 }, now);
        assert!(drain(&mut host) > 0);
        let at = now + FLOOD_EVERY;
        assert!(host.poll_timeout().is_some_and(|due| due <= at));
        host.handle_timeout(at);
        assert!(drain(&mut host) as u64 >= FLOOD_FRAMES);
        assert!(host.poll_timeout().is_some_and(|due| due > at));
    }
}
