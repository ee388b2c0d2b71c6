//! Any operations, beside a plain model of what the machine has to do.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Open(u8, bool),
    Ready(u8),
    Close(u8),
    Reset(u8),
    Enqueue { to: u8, bytes: u32, class: usize, deadline: Option<u64>, key: Option<u64> },
    Credit(u8),
    Rate(u8, Option<u64>),
    Advance(u64),
    Poll(u8),
    Drain,
}

fn operation() -> impl Strategy<Value = Operation> {
    let peer = 0u8..5;
    let bytes = prop_oneof![3 => 1u32..200, 2 => 200u32..=ROOM, 1 => Just(ROOM), 1 => Just(ROOM + 1)];
    let item = (bytes, 0usize..5, prop::option::of(0u64..40_000), prop::option::of(0u64..3));
    prop_oneof![
        2 => (peer.clone(), any::<bool>()).prop_map(|(peer, ready)| Operation::Open(peer, ready)),
        1 => peer.clone().prop_map(Operation::Ready),
        1 => peer.clone().prop_map(Operation::Close),
        1 => peer.clone().prop_map(Operation::Reset),
        30 => (peer.clone(), item).prop_map(|(to, (bytes, class, deadline, key))| {
            Operation::Enqueue { to, bytes, class, deadline, key }
        }),
        3 => peer.clone().prop_map(Operation::Credit),
        1 => (peer, prop::option::of(0u64..500_000)).prop_map(|(peer, rate)| Operation::Rate(peer, rate)),
        6 => (0u64..30_000).prop_map(Operation::Advance),
        1 => (400_000u64..1_200_000).prop_map(Operation::Advance),
        6 => (1u8..4).prop_map(Operation::Poll),
        3 => Just(Operation::Drain),
    ]
}

fn configuration() -> impl Strategy<Value = EgressConfig> {
    let rate = || prop::option::of(20_000u64..400_000);
    (rate(), rate(), 0u64..30, prop::option::of(1u64..5_000), 0u8..=50, 4_096usize..9_000, 4_096usize..20_000)
        .prop_map(|(upload, peer, burst, credit, percent, peer_max, all_max)| EgressConfig {
            upload_bytes_per_s: upload,
            peer_bytes_per_s: peer,
            burst: Duration::from_millis(burst),
            frame_overhead_bytes: OVERHEAD,
            peer_queue_bytes_max: peer_max,
            queue_bytes_max: all_max,
            credit_bytes: credit,
            background_percent: percent,
        })
}

#[derive(Clone, PartialEq, Debug)]
struct Waiting {
    message: u32,
    bytes: usize,
    class: Class,
    deadline: Option<Instant>,
    key: Option<u64>,
}

#[derive(Clone, Default, Debug)]
struct Party {
    /// In the order in which they leave within one class.
    items: Vec<Waiting>,
    ready: bool,
    closing: bool,
    used: u64,
    credit: u64,
    rate: Option<u64>,
    /// When and how much was charged since the rate was set.
    sent: Vec<(Instant, u64)>,
}

impl Party {
    fn bytes(&self, which: impl Fn(&Waiting) -> bool) -> usize {
        self.items.iter().filter(|item| which(item)).map(|item| item.bytes).sum()
    }
}

/// The rules, told a second time with plain lists.
struct Model {
    config: EgressConfig,
    now: Instant,
    parties: BTreeMap<u8, Party>,
    sent: Vec<(Instant, u64)>,
    late: u64,
    full: u64,
    reset: u64,
}

impl Model {
    fn enqueue(&mut self, to: u8, item: Waiting) -> Enqueued {
        let all: usize = self.parties.values().map(|party| party.bytes(|_| true)).sum();
        let Some(party) = self.parties.get_mut(&to) else {
            return Enqueued::Dropped(DropReason::Unknown);
        };
        if party.closing {
            return Enqueued::Dropped(DropReason::Closing);
        }
        if item.bytes > ROOM as usize {
            return Enqueued::Dropped(DropReason::Oversize);
        }
        if item.deadline.is_some_and(|deadline| deadline < self.now) {
            return Enqueued::Dropped(DropReason::Late);
        }
        let older = item.key.and_then(|key| party.items.iter().position(|older| older.key == Some(key)));
        let mut after = party.clone();
        let class = older.map_or(item.class, |older| item.class.min(after.items[older].class));
        let item = Waiting { class, ..item };
        match older {
            Some(older) if after.items[older].class == class => after.items[older] = item.clone(),
            Some(older) => {
                after.items.remove(older);
                after.items.push(item.clone());
            }
            None => after.items.push(item.clone()),
        }
        let fits = |after: &Party| {
            let own = after.bytes(|_| true);
            let sum = all - party.bytes(|_| true) + own;
            own <= self.config.peer_queue_bytes_max && (own <= FRAME || sum <= self.config.queue_bytes_max)
        };
        let mut evicted = 0;
        while !fits(&after) {
            let lowest = after.items.iter().map(|item| item.class).max().unwrap();
            if lowest <= class {
                self.full += 1;
                return Enqueued::Dropped(DropReason::Full);
            }
            let oldest = after.items.iter().position(|item| item.class == lowest).unwrap();
            after.items.remove(oldest);
            evicted += 1;
        }
        self.full += evicted;
        *party = after;
        if older.is_some() { Enqueued::Superseded } else { Enqueued::Queued }
    }

    /// Takes over which late items the machine has dropped so far: only late ones may be gone.
    fn reconcile(&mut self, machine: &Machine) {
        for (peer, party) in &mut self.parties {
            let slot = machine.peers.place(peer).unwrap();
            let held = &machine.peers[slot];
            let mut kept = Vec::new();
            for class in Class::ALL {
                let mut index = held.lane(class).head;
                let mut bytes = 0;
                while index != NIL {
                    let node = machine.items.node(index);
                    assert_eq!(node.lane, class);
                    if let Some(key) = node.key {
                        assert_eq!(
                            held.waiting.as_ref().and_then(|waiting| waiting.keys.get(&key)),
                            Some(&index)
                        );
                    }
                    bytes += node.bytes as usize;
                    kept.push((class, node.bytes as usize, node.key, node.deadline));
                    index = node.next;
                }
                assert_eq!(bytes, held.lane(class).bytes);
            }
            let mut expected = party.items.clone();
            expected.sort_by_key(|item| item.class);
            let mut kept = kept.into_iter().peekable();
            let mut gone = Vec::new();
            for item in &expected {
                let this = (item.class, item.bytes, item.key, item.deadline.unwrap_or(Instant::MAX));
                if kept.peek() == Some(&this) {
                    kept.next();
                } else {
                    assert!(item.deadline.is_some_and(|deadline| deadline < self.now), "{item:?} is gone");
                    gone.push(item.message);
                }
            }
            assert_eq!(kept.next(), None, "items out of nowhere");
            self.late += gone.len() as u64;
            party.items.retain(|item| !gone.contains(&item.message));
            assert_eq!(held.queued_bytes(), party.bytes(|_| true));
            let keys = held.waiting.as_ref().map_or(0, |waiting| waiting.keys.len());
            assert_eq!(keys, party.items.iter().filter(|item| item.key.is_some()).count());
        }
        let all: usize = self.parties.values().map(|party| party.bytes(|_| true)).sum();
        assert_eq!(machine.queued_bytes(), all);
        assert!(all <= self.config.queue_bytes_max + FRAME * self.parties.len());
        assert_eq!(machine.peers.len(), self.parties.len());
    }

    /// Whether tokens or credit of its own keep a peer from its next frame of `class`.
    fn blocked(&self, machine: &Machine, peer: u8, class: Class) -> bool {
        let party = &self.parties[&peer];
        let waiting = party.bytes(|item| class > Class::Urgent || item.class <= Class::Urgent);
        let wanted = FRAME.min(HEADER + waiting) as u64;
        let held = &machine.peers[machine.peers.place(&peer).unwrap()];
        let poor = held.bucket.clone().is_some_and(|mut b| b.bytes(self.now) < wanted + OVERHEAD as u64);
        let uncredited = self.config.credit_bytes.is_some() && party.credit < wanted;
        !party.ready || poor || uncredited
    }

    fn sent(&mut self, machine: &Machine, to: u8, class: Class, bytes: usize, frame: &[u32]) {
        let party = self.parties.get_mut(&to).expect("a frame to a peer that is not open");
        assert!(party.ready && !frame.is_empty() && bytes <= FRAME);
        let mut sum = HEADER;
        let mut classes = Vec::new();
        for message in frame {
            let place = party.items.iter().position(|item| item.message == *message).expect("sent once");
            let item = party.items.remove(place);
            assert!(item.deadline.is_none_or(|deadline| deadline >= self.now), "late");
            let skipped =
                |older: &Waiting| older.class == item.class && older.deadline.is_none_or(|at| at >= self.now);
            assert!(!party.items[..place].iter().any(skipped), "out of order");
            sum += item.bytes;
            classes.push(item.class);
        }
        assert_eq!(sum, bytes);
        let most_urgent = *classes.iter().min().unwrap();
        let raised = classes.contains(&Class::Background) && class >= Class::High && class <= most_urgent;
        assert!(class == most_urgent || raised);
        let charged = (bytes + OVERHEAD) as u64;
        party.sent.push((self.now, charged));
        self.sent.push((self.now, charged));
        if self.config.credit_bytes.is_some() {
            party.credit -= bytes as u64;
            party.used += bytes as u64;
        }
        self.reconcile(machine);
        for strict in [Class::Control, Class::Urgent].into_iter().filter(|&strict| strict < class) {
            for (peer, party) in &self.parties {
                let waits = party.items.iter().any(|item| {
                    item.class == strict && item.deadline.is_none_or(|deadline| deadline >= self.now)
                });
                let overtaken = waits && (*peer == to || !self.blocked(machine, *peer, strict));
                assert!(!overtaken, "{class:?} to {to} overtook {strict:?} to {peer}");
            }
        }
    }

    /// `poll` had nothing: then nobody may be able to send.
    fn idle(&self, machine: &Machine) {
        assert!(machine.poll_timeout().is_none_or(|at| at > self.now), "it would spin");
        let mut tokens_missing = false;
        for (peer, party) in &self.parties {
            assert!(!party.closing || !party.items.is_empty(), "closed and not told");
            let Some(class) = party.items.iter().map(|item| item.class).min() else {
                continue;
            };
            let wanted = if class <= Class::Urgent {
                party.bytes(|item| item.class <= Class::Urgent)
            } else {
                party.bytes(|_| true)
            };
            let wanted = FRAME.min(HEADER + wanted) + OVERHEAD;
            let poor = machine.upload.clone().is_some_and(|mut b| b.bytes(self.now) < wanted as u64);
            let held = &machine.peers[machine.peers.place(peer).unwrap()];
            // With a short upload, only the frame whose turn it is has been looked at.
            let short =
                machine.upload.clone().is_some_and(|mut b| b.bytes(self.now) < (FRAME + OVERHEAD) as u64);
            assert!(poor || short || self.blocked(machine, *peer, class), "{peer} could send {class:?}");
            tokens_missing |= held.hold == Hold::Tokens || (party.ready && held.hold == Hold::None);
        }
        assert_eq!(machine.poll_timeout().is_some(), tokens_missing);
    }

    fn check_budgets(&self) {
        let within = |sent: &[(Instant, u64)], rate: u64| {
            let rate = u128::from(rate.clamp(1_000, 1_000_000_000_000));
            let burst = (rate * self.config.burst.as_micros()).max((FRAME + OVERHEAD) as u128 * 1_000_000);
            for from in 0..sent.len() {
                let mut sum = 0;
                for &(at, bytes) in &sent[from..] {
                    sum += u128::from(bytes) * 1_000_000;
                    let window = (at - sent[from].0).as_micros();
                    assert!(sum <= rate * window + burst, "{sum} millionths of a byte in {window} us");
                }
            }
        };
        if let Some(rate) = self.config.upload_bytes_per_s {
            within(&self.sent, rate);
        }
        for party in self.parties.values() {
            if let Some(rate) = party.rate {
                within(&party.sent, rate);
            }
        }
    }
}

proptest! {
    #[test]
    fn equals_the_model(config in configuration(), operations in prop::collection::vec(operation(), 0..250)) {
        let mut machine: Machine = Egress::new(config.clone(), FRAME, HEADER, Instant::ZERO);
        let mut model = Model {
            config: config.clone(),
            now: Instant::ZERO,
            parties: BTreeMap::new(),
            sent: Vec::new(),
            late: 0,
            full: 0,
            reset: 0,
        };
        let mut frame = Vec::new();
        let (mut offered, mut superseded, mut refused, mut sent) = (0u64, 0u64, 0u64, 0u64);
        for operation in operations {
            match operation {
                Operation::Open(peer, ready) => {
                    machine.open(peer, ready, model.now);
                    let party = model.parties.entry(peer).or_insert_with(|| Party {
                        credit: config.credit_bytes.unwrap_or(0).max(FRAME as u64),
                        rate: config.peer_bytes_per_s,
                        ..Party::default()
                    });
                    party.ready |= ready;
                    party.closing = false;
                }
                Operation::Ready(peer) => {
                    machine.ready(peer, model.now);
                    if let Some(party) = model.parties.get_mut(&peer) {
                        party.ready = true;
                    }
                }
                Operation::Close(peer) => {
                    machine.close(peer);
                    if let Some(party) = model.parties.get_mut(&peer) {
                        party.closing = true;
                    }
                }
                Operation::Reset(peer) => {
                    machine.reset(peer);
                    if let Some(party) = model.parties.remove(&peer) {
                        model.reset += party.items.len() as u64;
                    }
                }
                Operation::Enqueue { to, bytes, class, deadline, key } => {
                    let deadline = deadline.map(|micros| model.now + Duration::from_micros(micros) - Duration::from_millis(1));
                    let class = Class::ALL[class];
                    let message = offered as u32;
                    offered += 1;
                    let told = machine.enqueue(to, Item { message, bytes, class, deadline, key }, model.now);
                    let expected = model.enqueue(to, Waiting { message, bytes: bytes as usize, class, deadline, key });
                    prop_assert_eq!(told, expected);
                    superseded += u64::from(told == Enqueued::Superseded);
                    refused += u64::from(matches!(told, Enqueued::Dropped(reason) if reason != DropReason::Full));
                }
                Operation::Credit(peer) => {
                    if let Some(party) = model.parties.get_mut(&peer) {
                        machine.credit(peer, party.used);
                        party.credit += core::mem::take(&mut party.used);
                    }
                }
                Operation::Rate(peer, rate) => {
                    machine.set_peer_rate(peer, rate, model.now);
                    if let Some(party) = model.parties.get_mut(&peer) {
                        party.rate = rate.or(config.peer_bytes_per_s);
                        party.sent.clear();
                    }
                }
                Operation::Advance(micros) => model.now += Duration::from_micros(micros),
                Operation::Poll(_) | Operation::Drain => {
                    let times = if let Operation::Poll(times) = operation { usize::from(times) } else { usize::MAX };
                    for _ in 0..times {
                        match machine.poll(model.now, &mut frame) {
                            Some(Transmit::Frame { to, class, bytes }) => {
                                sent += frame.len() as u64;
                                model.sent(&machine, to, class, bytes, &frame);
                            }
                            Some(Transmit::Closed { peer }) => {
                                let party = model.parties.remove(&peer).expect("closed once");
                                prop_assert!(party.closing);
                                let late = party.items.iter().all(|item| item.deadline.is_some_and(|at| at < model.now));
                                prop_assert!(late, "closed before it was flushed");
                                model.late += party.items.len() as u64;
                                model.reconcile(&machine);
                            }
                            None => {
                                model.reconcile(&machine);
                                model.idle(&machine);
                                break;
                            }
                        }
                    }
                }
            }
            model.reconcile(&machine);
            let stats = machine.stats();
            let waiting: usize = model.parties.values().map(|party| party.items.len()).sum();
            prop_assert_eq!(stats.offered, offered);
            prop_assert_eq!(stats.classes.iter().map(|class| class.items).sum::<u64>(), sent);
            prop_assert_eq!(stats.superseded, superseded);
            prop_assert_eq!(stats.dropped_full, model.full);
            prop_assert_eq!(stats.dropped_reset, model.reset);
            prop_assert_eq!(stats.dropped(), model.full + model.reset + model.late + refused);
            prop_assert_eq!(offered, sent + superseded + stats.dropped() + waiting as u64);
        }
        model.check_budgets();
    }
}
