//! What goes wrong.

use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use super::{CONTACTS, NODES_MAX, Run, SWARM};
use crate::sim::{Fault, NodeId};

/// Epochs of nodes that lost their disk are seconds of a wall clock: greater than any number of lives.
const WALL_CLOCK_S: u32 = 1_000_000;

/// How far clocks jump at most. A node that jumps ahead ages what it holds; see [`super::RETENTION`].
const FORWARD_MS_MAX: u64 = 20_000;
const BACK_MS_MAX: u64 = 5_000;

impl Run {
    /// Lets one thing go wrong, or right again, if what is drawn is possible.
    pub(super) fn accident(&mut self) {
        let node = self.dice.roll(self.world.node_count() as u64);
        let up = self.world.is_up(node);
        let may_stop = up && node >= CONTACTS;
        let kind = match self.dice.roll(20) {
            0 if may_stop => self.crash(node),
            1..=3 => self.restart(),
            4 => self.partition(),
            5 => {
                self.world.heal();
                Some("heal")
            }
            6 | 7 if may_stop => Some(self.misbehave(node)),
            8 => {
                self.world.set_fault(node, None);
                self.world.set_upload(node, super::UPLOAD_BITS_PER_S);
                Some("recover")
            }
            9 if may_stop => self.leave(node),
            10 if self.world.node_count() < NODES_MAX => {
                let maker = self.maker(None);
                self.world.add(maker);
                Some("join")
            }
            11 => {
                self.world.network_mut().config_mut().loss_ppm = self.dice.roll(200_000) as u32;
                Some("loss changed")
            }
            12 => {
                self.world.network_mut().config_mut().duplicate_ppm = self.dice.roll(200_000) as u32;
                Some("duplication changed")
            }
            13 => {
                let network = self.world.network_mut().config_mut();
                network.reorder_ppm = self.dice.roll(300_000) as u32;
                Some("reordering changed")
            }
            14 if up => {
                let by = Duration::from_millis(self.dice.roll(FORWARD_MS_MAX));
                self.world.with_host(node, |host, now| host.jump_forward(by, now));
                Some("clock forward")
            }
            15 if up => {
                let by = Duration::from_millis(self.dice.roll(BACK_MS_MAX));
                self.world.with_host(node, |host, _| host.jump_back(by));
                Some("clock back")
            }
            16 if up => {
                let until = self.world.now() + Duration::from_millis(100 + self.dice.roll(8_000));
                self.world.with_host(node, |host, _| host.stand_still(until));
                Some("stand still")
            }
            17 if may_stop => self.cut_one_way(node),
            18 if up => {
                self.world.set_upload(node, NonZeroU64::new(100_000 + self.dice.roll(400_000)));
                Some("upload narrowed")
            }
            19 if may_stop => self.flood(node),
            _ => None,
        };
        if let Some(kind) = kind {
            self.count(kind, 1);
        }
    }

    fn crash(&mut self, node: NodeId) -> Option<&'static str> {
        self.world.crash(node);
        Some("crash")
    }

    /// Of each origin two lives are remembered; with a third the first goes, and nobody is told what was missing of it. So
    /// only nodes that are down in their first life come back.
    fn restart(&mut self) -> Option<&'static str> {
        let all = 0..self.world.node_count() as u64;
        let fallen = all.filter(|node| !self.world.is_up(*node) && !self.restarted.contains(node));
        let fallen: Vec<_> = fallen.collect();
        if fallen.is_empty() {
            return None;
        }
        let node = self.dice.pick(&fallen);
        self.restarted.insert(node);
        let lost_disk = self.dice.chance(50);
        let wall_clock = WALL_CLOCK_S + (self.world.now().as_micros() / 1_000_000) as u32;
        let maker = self.maker(lost_disk.then_some(wall_clock));
        self.world.restart(node, maker);
        Some(if lost_disk { "restart with a lost disk" } else { "restart" })
    }

    fn partition(&mut self) -> Option<&'static str> {
        let salt = self.dice.draw();
        self.world.partition(|node| half(node, salt));
        Some("partition")
    }

    fn misbehave(&mut self, node: NodeId) -> &'static str {
        let (kind, fault) = match self.dice.roll(3) {
            0 => ("mute", Fault::Mute),
            1 => ("freeload", Fault::Freeload),
            _ => ("slow", Fault::Slow(Duration::from_millis(50 + self.dice.roll(400)))),
        };
        self.world.set_fault(node, Some(fault));
        kind
    }

    fn leave(&mut self, node: NodeId) -> Option<&'static str> {
        let host = self.world.host(node)?;
        let is_member = host.engine().fingerprint(SWARM).is_some();
        if !is_member || host.stands_still() || host.floods() {
            return None;
        }
        let now = self.world.now();
        self.world.observer_mut().left(now, node, SWARM);
        self.world.leave(node, Duration::from_secs(1), |host, now| {
            host.command(now, |engine, now| engine.leave(SWARM, now)).expect("a member can leave, once");
        });
        Some("leave")
    }

    /// Half of the others hear nothing from it, though it hears them.
    fn cut_one_way(&mut self, node: NodeId) -> Option<&'static str> {
        let salt = self.dice.draw();
        let filter = move |_, to, frame| (half(to, salt) == 0).then_some(frame);
        self.world.set_fault(node, Some(Fault::Filter(alloc::boxed::Box::new(filter))));
        Some("one-way cut")
    }

    /// Only without an upload budget: a flooder keeps none.
    fn flood(&mut self, node: NodeId) -> Option<&'static str> {
        if self.config.egress.upload_bytes_per_s.is_some() {
            return None;
        }
        let seed = self.dice.draw();
        self.world.with_host(node, |host, now| host.flood(seed, now));
        self.flooders.insert(node);
        // It is stopped in the end, and does not come back.
        self.restarted.insert(node);
        Some("flood")
    }
}

fn half(node: NodeId, salt: u64) -> u8 {
    ((node ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63) as u8
}
