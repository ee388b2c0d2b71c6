//! The scene in which groups are measured: everybody joins one room, then they talk and claim the screen, and in the middle
//! some crash, or the network breaks for a while.

mod media;
mod report;
mod tally;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

pub use media::MediaScene;
pub use report::{DownloadKbps, FailoverMs, GroupMessages, GroupReport, MediaDelays, MediaReport};

use super::scene::Probe;
use super::{Birth, NetworkConfig, NodeId, UploadUse, World};
use crate::config::Config;
use crate::engine::Engine;
use crate::id::SwarmId;
use crate::rng::{Rng, Seed};
use crate::swarm::{
    GroupOptions, GroupSendOptions, GroupTarget, Guard, JoinGroupOptions, MediaFrameOptions, MediaTrack,
    ParticipantChange,
};
use crate::time::Instant;
use tally::Tally;

/// The room of the scene.
const ROOM: SwarmId = SwarmId::from_name("group scene");

/// How long rosters may take to be equal.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between the last join and the measured span, at least.
const WARM_UP: Duration = Duration::from_secs(3);

/// How often the scene looks whether rosters are equal.
const LOOK: Duration = Duration::from_millis(20);

/// How often it looks after a crash whether somebody else feeds those whom the crashed fed.
const FAILOVER_LOOK: Duration = Duration::from_millis(5);

/// Beyond the partition, how long a message may take to one who is away.
const DEADLINE: Duration = Duration::from_secs(10);

/// Time between two pairs of claims, how long they may take to be settled, and how far apart they are at most.
const CLAIM_INTERVAL: Duration = Duration::from_secs(3);
const CLAIM_SETTLED: Duration = Duration::from_secs(1);
const CLAIM_SPREAD: Duration = Duration::from_millis(100);

/// Receivers of a message for some.
const SOME: usize = 3;

/// Links that a participant may hold.
const LINKS: usize = 2_048;

/// What is to be simulated. Start from [`GroupScene::new`] and change fields.
///
/// Node 0 creates the group; the others join through somebody who is in, evenly within `join_span`. When everybody knows
/// everybody the measured span begins. Of the messages sent in it, three in five are for everybody, one for three, one for
/// one.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct GroupScene {
    /// Participants, at least 2.
    pub participants: u32,
    /// The time in which they join. Default 1 s.
    pub join_span: Duration,
    /// What each may upload, in bytes a second. Default 625,000: 5 Mbit/s.
    pub upload_bytes_per_s: u64,
    /// The network. Default: 10 to 50 ms, datagrams, 1 % loss. The uplinks are those of `upload_bytes_per_s`.
    pub network: NetworkConfig,
    /// The share of the participants, in parts per million, that crash at once in the middle of the span. Default 0.
    pub crash_ppm: u32,
    /// How long the network is split in two, from the middle of the span on; the span goes on at least as long. Default
    /// `None`.
    pub partition: Option<Duration>,
    /// Messages sent in the span. Default 0.
    pub messages: u32,
    /// Bytes of each, from 8 to 900. Default 200.
    pub message_bytes: usize,
    /// Sound and pictures. Default `None`.
    pub media: Option<MediaScene>,
    /// The measured span. Default 20 s.
    pub measured: Duration,
    /// Everything random comes from here.
    pub seed: u64,
}

impl GroupScene {
    /// A group of that many, who only come, stay, and claim the screen now and then.
    pub fn new(participants: u32) -> Self {
        Self {
            participants,
            join_span: Duration::from_secs(1),
            upload_bytes_per_s: 625_000,
            network: NetworkConfig { loss_ppm: 10_000, ..NetworkConfig::default() },
            crash_ppm: 0,
            partition: None,
            messages: 0,
            message_bytes: 200,
            media: None,
            measured: Duration::from_secs(20),
            seed: 1,
        }
    }

    /// Runs the scene. `probe` measures what a simulation cannot know.
    pub fn run(&self, probe: &mut dyn Probe) -> GroupReport {
        Run::new(self, probe).play()
    }

    fn span(&self) -> Duration {
        self.measured.max(self.partition.unwrap_or_default() * 2)
    }

    fn deadline(&self) -> Duration {
        self.partition.unwrap_or_default() + DEADLINE
    }
}

/// What happens at a planned time.
#[derive(Clone, Copy, Debug)]
enum Step {
    Message,
    Claim(NodeId),
    Judge(NodeId, NodeId),
    Crash,
    /// A frame of somebody who publishes that track.
    Frame(NodeId, MediaTrack),
    /// The voices of those who speak.
    Levels,
    /// Another one speaks.
    Turn,
    /// Whether those who lost a parent have another.
    Failover,
    Split,
    Heal,
}

struct Run<'a> {
    scene: &'a GroupScene,
    probe: &'a mut dyn Probe,
    world: World<Engine<NodeId>, Tally>,
    rng: Rng,
    agenda: BTreeMap<(Instant, u64), Step>,
    planned: u64,
    claims: u64,
    conflicts: u64,
    /// Since when rosters should become equal, and when they did.
    disturbed: Option<Instant>,
    settled: Option<Instant>,
    heap_before: u64,
    speakers: VecDeque<NodeId>,
    /// Stripes that a crashed node fed, and since when.
    orphans: Vec<Orphan>,
    media_until: Instant,
}

/// A stripe of a track of which nobody who is up feeds a receiver.
#[derive(Clone, Copy, Debug)]
struct Orphan {
    receiver: NodeId,
    from: NodeId,
    track: MediaTrack,
    stripe: usize,
    since: Instant,
}

impl<'a> Run<'a> {
    fn new(scene: &'a GroupScene, probe: &'a mut dyn Probe) -> Self {
        let seed = Seed::from_u64(scene.seed);
        let heap_before = probe.heap_bytes();
        let mut network = scene.network.clone();
        network.upload_bits_per_s = NonZeroU64::new(scene.upload_bytes_per_s.saturating_mul(8));
        Self {
            scene,
            probe,
            world: World::with_observer(network, seed, Tally::default()),
            rng: Rng::new(seed.fork(u64::MAX - 1)),
            agenda: BTreeMap::new(),
            planned: 0,
            claims: 0,
            conflicts: 0,
            disturbed: None,
            settled: None,
            heap_before,
            speakers: VecDeque::new(),
            orphans: Vec::new(),
            media_until: Instant::MAX,
        }
    }

    fn play(mut self) -> GroupReport {
        let joined = self.join();
        let start = self.world.now() + WARM_UP;
        self.begin_media();
        self.play_until(start);
        let sent_before = self.node_bytes();
        let received_before = self.received();
        let suspicions_before = self.suspicions();
        self.plan_span(start);
        let end = start + self.scene.span();
        self.media_until = end;
        let now = self.world.now();
        self.world.observer_mut().media.begin(now);
        self.play_until(end);
        let span_s = self.scene.span().as_secs_f64();
        let sent = self.node_bytes();
        let received = self.received();
        let false_suspicions = self.suspicions() - suspicions_before;
        let quiet = self.scene.crash_ppm == 0 && self.scene.partition.is_none();
        let (mode, relays) = self.topology();
        // What is under way, and what waits for somebody, is decided by then.
        self.play_until(end + self.scene.deadline() + Duration::from_secs(2));
        let has_media = self.scene.media.is_some();
        let media = has_media.then(|| self.world.observer_mut().media.report(mode, relays));
        let up: Vec<_> = self.world.hosts().map(|(node, _)| node as usize).collect();
        let rate = |before: &[u64], after: &[u64], node: usize| (after[node] - before[node]) as f64 / span_s;
        let uses: Vec<_> = up
            .iter()
            .map(|&node| rate(&sent_before, &sent, node) / self.scene.upload_bytes_per_s as f64)
            .collect();
        let mut downloads: Vec<_> =
            up.iter().map(|&node| rate(&received_before, &received, node) * 8e-3).collect();
        downloads.sort_by(f64::total_cmp);
        let heap = self.probe.heap_bytes().saturating_sub(self.heap_before);
        let converged = match (self.disturbed, self.settled) {
            (Some(from), Some(at)) => (at - from).as_secs_f64(),
            (Some(from), None) => (self.world.now() - from).as_secs_f64(),
            (None, _) => joined,
        };
        GroupReport {
            upload_use: UploadUse {
                mean: uses.iter().sum::<f64>() / uses.len().max(1) as f64,
                max: uses.iter().fold(0.0, |max, &share| share.max(max)),
            },
            download_kbps: DownloadKbps {
                p50: downloads.get(downloads.len() / 2).copied().unwrap_or(0.0),
                max: downloads.last().copied().unwrap_or(0.0),
            },
            join_converged_s: joined,
            roster_converged_s: converged,
            screen_share_claims: self.claims,
            screen_share_conflicts: self.conflicts,
            media,
            messages: self.world.observer().messages(|node| self.world.is_up(node)),
            heap_bytes_per_participant: heap / u64::from(self.scene.participants.max(1)),
            false_suspicions: if quiet { false_suspicions } else { 0 },
            virtual_s: self.world.now().as_micros() as f64 * 1e-6,
            trace_hash: self.world.trace_hash(),
        }
    }

    /// Lets everybody come; returns how long it took until everybody knew everybody.
    fn join(&mut self) -> f64 {
        let count = u64::from(self.scene.participants);
        for node in 0..count {
            let at = Instant::ZERO + self.scene.join_span * node as u32 / self.scene.participants.max(1);
            self.run_until(at);
            let inside: Vec<_> =
                self.world.hosts().filter(|(_, engine)| is_in(engine)).map(|(node, _)| node).collect();
            let contact = self.rng.pick(&inside).copied().unwrap_or(0);
            let scene = self.scene;
            self.world.add(|birth| participant(scene, &birth, contact));
        }
        let last = self.world.now();
        while !self.is_settled() && self.world.now() < last + PATIENCE {
            let next = self.world.now() + LOOK;
            self.run_until(next);
        }
        (self.world.now() - last).as_secs_f64()
    }

    fn plan(&mut self, at: Instant, step: Step) {
        self.agenda.insert((at, self.planned), step);
        self.planned += 1;
    }

    fn plan_span(&mut self, start: Instant) {
        let scene = self.scene;
        let middle = start + scene.span() / 2;
        for number in 0..scene.messages {
            self.plan(start + scene.span() * number / scene.messages, Step::Message);
        }
        if scene.crash_ppm > 0 {
            self.plan(middle, Step::Crash);
        }
        if let Some(partition) = scene.partition {
            self.plan(middle, Step::Split);
            self.plan(middle + partition, Step::Heal);
        }
        let mut at = start + CLAIM_INTERVAL;
        while at + CLAIM_INTERVAL <= middle {
            let (one, other) = (self.someone(None), self.someone(None));
            let apart = self.rng.between(0, CLAIM_SPREAD.as_micros() as u64);
            if one != other {
                self.plan(at, Step::Claim(one));
                self.plan(at + Duration::from_micros(apart), Step::Claim(other));
                self.plan(at + CLAIM_SETTLED, Step::Judge(one, other));
            }
            at += CLAIM_INTERVAL;
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Frame(node, track) => self.publish(node, track),
            Step::Levels => self.tell_levels(),
            Step::Turn => self.take_turns(),
            Step::Failover => self.watch_orphans(),
            Step::Message => self.send_message(),
            Step::Claim(node) => {
                self.world.with_host(node, |engine, now| engine.claim_screen(ROOM, now).is_ok());
            }
            Step::Judge(one, other) => self.judge_claims(one, other),
            Step::Crash => self.crash(),
            Step::Split => self.world.partition(|node| u8::from(node % 2 == 1)),
            Step::Heal => {
                self.world.heal();
                self.disturbed = Some(self.world.now());
            }
        }
    }

    fn crash(&mut self) {
        let mut nodes: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
        self.rng.shuffle(&mut nodes);
        let doomed = nodes.len() as u64 * u64::from(self.scene.crash_ppm) / 1_000_000;
        nodes.truncate(doomed as usize);
        self.orphan(&nodes);
        for &node in &nodes {
            self.world.crash(node);
        }
        self.disturbed = Some(self.world.now());
    }

    // --- media ----------------------------------------------------------------------------------------------------

    fn begin_media(&mut self) {
        let Some(media) = &self.scene.media else { return };
        let nodes: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
        for &node in &nodes {
            let change = ParticipantChange::default().audio(true).video(true);
            self.world.with_host(node, |engine, now| engine.set_participant(ROOM, change, now).is_ok());
        }
        let mut order = nodes.clone();
        self.rng.shuffle(&mut order);
        let speakers = (media.speakers as usize).min(order.len());
        let now = self.world.now();
        for &node in &order[..speakers] {
            self.begin_turn(node);
        }
        for &node in &nodes {
            let interval = MediaScene::interval(MediaTrack::Thumbnail).as_micros() as u64;
            let at = now + Duration::from_micros(self.rng.between(0, interval));
            self.plan(at, Step::Frame(node, MediaTrack::Thumbnail));
        }
        self.plan(now, Step::Levels);
        self.plan(now + media::TURN, Step::Turn);
    }

    fn begin_turn(&mut self, node: NodeId) {
        self.speakers.push_back(node);
        for track in [MediaTrack::Audio, MediaTrack::Video] {
            let interval = MediaScene::interval(track).as_micros() as u64;
            let at = self.world.now() + Duration::from_micros(self.rng.between(0, interval));
            self.plan(at, Step::Frame(node, track));
        }
    }

    fn publish(&mut self, node: NodeId, track: MediaTrack) {
        let Some(media) = &self.scene.media else { return };
        let now = self.world.now();
        let silent = track != MediaTrack::Thumbnail && !self.speakers.contains(&node);
        if now >= self.media_until || silent || !self.world.is_up(node) {
            return;
        }
        let (keyframe, payload) = self.world.observer_mut().media.next(media, node, track, now);
        let options = MediaFrameOptions { keyframe, ..MediaFrameOptions::default() };
        self.world
            .with_host(node, |engine, now| engine.send_media(ROOM, track, payload, options, now).is_ok());
        self.plan(now + MediaScene::interval(track), Step::Frame(node, track));
    }

    fn tell_levels(&mut self) {
        let now = self.world.now();
        if now >= self.media_until {
            return;
        }
        for node in self.speakers.clone() {
            self.world.with_host(node, |engine, now| engine.set_audio_level(ROOM, media::LEVEL, now).is_ok());
        }
        self.plan(now + media::LEVEL_INTERVAL, Step::Levels);
    }

    /// Who has spoken longest is silent now, and somebody else speaks.
    fn take_turns(&mut self) {
        let now = self.world.now();
        let wanted = self.scene.media.as_ref().map_or(0, |media| media.speakers as usize);
        if now >= self.media_until || wanted == 0 {
            return;
        }
        self.plan(now + media::TURN, Step::Turn);
        self.speakers.retain(|&node| self.world.is_up(node));
        let mut others: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
        others.retain(|node| !self.speakers.contains(node));
        self.rng.shuffle(&mut others);
        if self.speakers.len() >= wanted && !others.is_empty() {
            self.speakers.pop_front();
        }
        for node in others.into_iter().take(wanted.saturating_sub(self.speakers.len())) {
            self.begin_turn(node);
        }
    }

    /// How speakers reach the others, and how many relay for others.
    fn topology(&self) -> (&'static str, u64) {
        let stats = |node: NodeId| self.world.host(node).and_then(|engine| engine.group_media_stats(ROOM));
        let relayed = self.speakers.iter().filter_map(|&node| stats(node)).any(|stats| stats.relayed > 0);
        let nodes = self.world.hosts().map(|(node, _)| node);
        let relays = nodes.filter_map(stats).filter(|stats| stats.passes_on > 0).count() as u64;
        (if relayed { "relay" } else { "mesh" }, relays)
    }

    /// Notes whom the doomed feed with what others publish.
    fn orphan(&mut self, doomed: &[NodeId]) {
        let since = self.world.now();
        for (receiver, engine) in self.world.hosts().filter(|(node, _)| !doomed.contains(node)) {
            for (from, track, parents) in engine.group_media_parents(ROOM) {
                let lost = parents.iter().enumerate().filter_map(|(stripe, parent)| {
                    parent.is_some_and(|parent| parent != from && doomed.contains(&parent)).then_some(stripe)
                });
                if !doomed.contains(&from) {
                    let orphan = |stripe| Orphan { receiver, from, track, stripe, since };
                    self.orphans.extend(lost.map(orphan));
                }
            }
        }
        self.plan(since + FAILOVER_LOOK, Step::Failover);
    }

    fn watch_orphans(&mut self) {
        let now = self.world.now();
        let orphans = core::mem::take(&mut self.orphans);
        for orphan in orphans {
            let parents = self.world.host(orphan.receiver).map(|engine| engine.group_media_parents(ROOM));
            let mut tracks = parents.into_iter().flatten();
            let track = tracks.find(|(from, track, _)| (*from, *track) == (orphan.from, orphan.track));
            let Some((_, _, parents)) = track else { continue };
            match parents.get(orphan.stripe) {
                Some(Some(parent)) if self.world.is_up(*parent) => {
                    self.world.observer_mut().media.failed_over(now - orphan.since);
                }
                _ if now - orphan.since > PATIENCE => {}
                _ => self.orphans.push(orphan),
            }
        }
        if !self.orphans.is_empty() {
            self.plan(now + FAILOVER_LOOK, Step::Failover);
        }
    }

    /// Both have claimed the screen: everybody must name the same one of them. Then it is free again.
    fn judge_claims(&mut self, one: NodeId, other: NodeId) {
        self.claims += 1;
        let holders: Vec<_> = self.world.hosts().map(|(_, engine)| holder(engine)).collect();
        let winner = holders.first().copied().flatten();
        let agreed = holders.iter().all(|&holder| holder == winner);
        if !agreed || winner.is_none_or(|winner| winner != one && winner != other) {
            self.conflicts += 1;
        }
        for node in [one, other] {
            self.world.with_host(node, |engine, now| engine.release_screen(ROOM, now).is_ok());
        }
    }

    fn send_message(&mut self) {
        let from = self.someone(None);
        let Some(engine) = self.world.host(from) else { return };
        let mut others: Vec<_> = engine
            .group_roster(ROOM)
            .map(|roster| roster.iter().map(|participant| participant.peer).collect())
            .unwrap_or_default();
        // Who is on the other side of a broken network is meant, too.
        others.extend(self.world.hosts().map(|(node, _)| node));
        others.sort_unstable();
        others.dedup();
        others.retain(|&node| node != from && self.world.is_up(node));
        let (target, receivers, unicast) = match self.rng.below(5) {
            0 => {
                let Some(&to) = self.rng.pick(&others) else { return };
                (GroupTarget::One(to), alloc::vec![to], true)
            }
            1 => {
                self.rng.shuffle(&mut others);
                others.truncate(SOME);
                (GroupTarget::Some(others.clone()), others, false)
            }
            _ => (GroupTarget::Everybody, others, false),
        };
        let payload = self.world.observer().next_payload(self.scene.message_bytes);
        let options = GroupSendOptions::default().deadline(self.scene.deadline());
        let sent =
            self.world.with_host(from, |engine, now| engine.send_group(ROOM, target, payload, options, now));
        if let Some(Ok(id)) = sent {
            self.world.observer_mut().sent(from, receivers, unicast.then_some(id));
        }
    }

    /// Somebody who is up.
    fn someone(&mut self, but: Option<NodeId>) -> NodeId {
        let nodes: Vec<_> =
            self.world.hosts().map(|(node, _)| node).filter(|&node| Some(node) != but).collect();
        self.rng.pick(&nodes).copied().unwrap_or(0)
    }

    fn play_until(&mut self, until: Instant) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((at, _), step) = entry.remove_entry();
            self.run_until(at);
            self.take(step);
        }
        self.run_until(until);
    }

    fn run_until(&mut self, until: Instant) {
        while self.world.now() < until {
            let next = (self.world.now() + LOOK).min(until);
            self.world.run_until(next);
            if self.disturbed.is_some() && self.settled.is_none() && self.is_settled() {
                self.settled = Some(self.world.now());
            }
            self.probe.progress(self.world.now(), until);
        }
    }

    /// Whether all who are up have the same roster, with just them in it.
    fn is_settled(&self) -> bool {
        let mut prints = self.world.hosts().map(|(_, engine)| engine.roster_fingerprint(ROOM));
        let first = prints.next().flatten();
        if first.is_none() || !prints.all(|print| print == first) {
            return false;
        }
        let up: Vec<_> = self.world.hosts().map(|(node, _)| node).collect();
        let Some((_, engine)) = self.world.hosts().next() else { return false };
        let mut roster: Vec<_> = engine
            .group_roster(ROOM)
            .map(|roster| roster.iter().map(|participant| participant.peer).collect())
            .unwrap_or_default();
        roster.sort_unstable();
        roster == up
    }

    fn suspicions(&self) -> u64 {
        self.world
            .hosts()
            .filter_map(|(_, engine)| engine.group_stats(ROOM))
            .map(|stats| stats.suspicions)
            .sum()
    }

    fn node_bytes(&self) -> Vec<u64> {
        let nodes = 0..self.world.node_count() as NodeId;
        nodes.map(|node| self.world.metrics().node_wire_bytes(node)).collect()
    }

    fn received(&self) -> Vec<u64> {
        let nodes = 0..self.world.node_count() as NodeId;
        nodes.map(|node| self.world.observer().received_bytes(node)).collect()
    }
}

fn is_in(engine: &Engine<NodeId>) -> bool {
    engine.group_stats(ROOM).is_some_and(|stats| stats.participants > 0)
}

fn holder(engine: &Engine<NodeId>) -> Option<NodeId> {
    let roster = engine.group_roster(ROOM).ok()?;
    roster.iter().find(|participant| participant.screen).map(|participant| participant.peer)
}

fn participant(scene: &GroupScene, birth: &Birth, contact: NodeId) -> Engine<NodeId> {
    let mut config = if scene.participants < 50 { Config::small() } else { Config::medium() };
    config.link.links_max = config.link.links_max.max(LINKS);
    config.egress.upload_bytes_per_s = Some(scene.upload_bytes_per_s / 20 * 19);
    let mut engine =
        Engine::new(birth.node, config, birth.seed, birth.now).expect("the scene's configuration is valid");
    let media = scene.media.as_ref().map(|media| media.options(scene.upload_bytes_per_s));
    let entered = if birth.node == 0 {
        let mut options = GroupOptions::new();
        options.participants_max = scene.participants as usize;
        options.media = media;
        engine.create_group(ROOM, options, Guard::new(), birth.now)
    } else {
        let mut options = JoinGroupOptions::through([contact]);
        options.media = media;
        engine.join_group(ROOM, options, Guard::new(), birth.now)
    };
    entered.expect("a fresh engine can create and join");
    engine
}
