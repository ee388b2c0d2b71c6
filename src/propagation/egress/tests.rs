use alloc::vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::propagation::queue::NIL;

const FRAME: usize = 1_000;
const HEADER: usize = 10;
const ROOM: u32 = (FRAME - HEADER) as u32;
const OVERHEAD: usize = 28;

type Machine = Egress<u8, u32>;

fn egress(change: impl FnOnce(&mut EgressConfig)) -> Machine {
    let mut config = EgressConfig::default();
    change(&mut config);
    Egress::new(config, FRAME, HEADER, Instant::ZERO)
}

fn item(message: u32, bytes: u32, class: Class) -> Item<u32> {
    Item { message, bytes, class, deadline: None, key: None }
}

/// What leaves at `now`: receiver, class, messages.
fn drain(egress: &mut Machine, now: Instant) -> Vec<(u8, Class, Vec<u32>)> {
    let (mut out, mut frame) = (Vec::new(), Vec::new());
    while let Some(transmit) = egress.poll(now, &mut frame) {
        if let Transmit::Frame { to, class, bytes } = transmit {
            assert!(bytes <= FRAME);
            out.push((to, class, frame.clone()));
        }
    }
    assert!(egress.poll_timeout().is_none_or(|at| at > now), "it would spin");
    out
}

#[test]
fn strict_classes_leave_first_and_small_items_share_a_frame() {
    let now = Instant::ZERO;
    let mut egress = egress(|_| {});
    egress.open(1, true, now);
    egress.open(2, true, now);
    for (message, class) in Class::ALL.into_iter().rev().enumerate() {
        let _ = egress.enqueue(1, item(message as u32, 600, class), now);
    }
    let _ = egress.enqueue(2, item(10, 100, Class::Normal), now);
    let _ = egress.enqueue(2, item(11, 100, Class::Control), now);
    let sent = drain(&mut egress, now);
    assert_eq!(sent[0], (1, Class::Control, vec![4]));
    assert_eq!(sent[1], (2, Class::Control, vec![11, 10]));
    assert_eq!(sent[2], (1, Class::Urgent, vec![3]));
    assert_eq!(sent.len(), 6);
}

#[test]
fn nothing_leaves_before_the_peer_is_ready() {
    let now = Instant::ZERO;
    let mut egress = egress(|_| {});
    egress.open(1, false, now);
    let _ = egress.enqueue(1, item(0, 1, Class::Control), now);
    assert_eq!(drain(&mut egress, now), []);
    assert_eq!(egress.poll_timeout(), None);
    egress.ready(1, now);
    assert_eq!(egress.poll_timeout(), Some(now));
    assert_eq!(drain(&mut egress, now).len(), 1);
}

#[test]
fn closing_comes_after_the_last_frame_and_once() {
    let now = Instant::ZERO;
    let mut frame = Vec::new();
    let mut egress = egress(|config| config.credit_bytes = Some(1));
    egress.open(1, true, now);
    for message in 0..2 {
        let _ = egress.enqueue(1, item(message, ROOM, Class::Normal), now);
    }
    egress.close(1);
    assert_eq!(egress.enqueue(1, item(9, 1, Class::Control), now), Enqueued::Dropped(DropReason::Closing));
    assert!(matches!(egress.poll(now, &mut frame), Some(Transmit::Frame { .. })));
    assert_eq!(egress.poll(now, &mut frame), None);
    egress.credit(1, FRAME as u64);
    assert!(matches!(egress.poll(now, &mut frame), Some(Transmit::Frame { .. })));
    assert_eq!(egress.poll(now, &mut frame), Some(Transmit::Closed { peer: 1 }));
    assert_eq!(egress.poll(now, &mut frame), None);
    assert_eq!(egress.enqueue(1, item(9, 1, Class::Control), now), Enqueued::Dropped(DropReason::Unknown));
}

#[test]
fn opening_again_calls_a_closing_off() {
    let now = Instant::ZERO;
    let mut egress = egress(|_| {});
    let mut frame = Vec::new();
    egress.open(1, true, now);
    egress.close(1);
    egress.open(1, false, now);
    assert!(egress.is_open(1));
    assert_eq!(egress.poll(now, &mut frame), None);
    egress.close(1);
    egress.close(1);
    assert_eq!(egress.poll(now, &mut frame), Some(Transmit::Closed { peer: 1 }));
    assert_eq!(egress.poll(now, &mut frame), None);
}

#[test]
fn reset_forgets_everything_and_counts_it() {
    let now = Instant::ZERO;
    let mut egress = egress(|config| config.credit_bytes = Some(1));
    egress.open(1, true, now);
    for message in 0..4 {
        let _ = egress.enqueue(1, item(message, ROOM, Class::Normal), now);
    }
    assert_eq!(drain(&mut egress, now).len(), 1);
    egress.reset(1);
    assert_eq!((egress.stats().dropped_reset, egress.queued_bytes()), (3, 0));
    egress.open(1, true, now);
    let _ = egress.enqueue(1, item(7, ROOM, Class::Normal), now);
    assert_eq!(drain(&mut egress, now), [(1, Class::Normal, vec![7])]);
}

#[test]
fn a_newer_item_takes_the_place_of_the_older() {
    let now = Instant::ZERO;
    let mut egress = egress(|_| {});
    egress.open(1, false, now);
    let keyed = |message, class| Item { key: Some(5), ..item(message, 400, class) };
    let _ = egress.enqueue(1, keyed(0, Class::Normal), now);
    let _ = egress.enqueue(1, item(1, 900, Class::Normal), now);
    assert_eq!(egress.enqueue(1, keyed(2, Class::Background), now), Enqueued::Superseded);
    assert_eq!(egress.peer_queued_bytes(1), 1_300);
    egress.ready(1, now);
    assert_eq!(drain(&mut egress, now), [(1, Class::Normal, vec![2]), (1, Class::Normal, vec![1])]);
    // Sent, so there is nothing to replace.
    assert_eq!(egress.enqueue(1, keyed(3, Class::Normal), now), Enqueued::Queued);
    assert_eq!(egress.enqueue(1, keyed(4, Class::Urgent), now), Enqueued::Superseded);
    assert_eq!(drain(&mut egress, now), [(1, Class::Urgent, vec![4])]);
    assert_eq!(egress.stats().superseded, 2);
}

#[test]
fn late_items_are_dropped_at_the_door_and_at_the_head() {
    let at = Instant::from_millis;
    let mut egress = egress(|_| {});
    egress.open(1, false, at(0));
    let until = |millis| Item { deadline: Some(at(millis)), ..item(0, 10, Class::High) };
    let _ = egress.enqueue(1, until(5), at(0));
    let _ = egress.enqueue(1, until(9), at(0));
    assert_eq!(egress.enqueue(1, until(6), at(7)), Enqueued::Dropped(DropReason::Late));
    egress.ready(1, at(9));
    assert_eq!(drain(&mut egress, at(9)).len(), 1);
    assert_eq!(egress.stats().dropped_late, 2);
}

#[test]
fn what_fits_no_frame_is_refused() {
    let mut egress = egress(|_| {});
    egress.open(1, true, Instant::ZERO);
    let refused = egress.enqueue(1, item(0, ROOM + 1, Class::Control), Instant::ZERO);
    assert_eq!(refused, Enqueued::Dropped(DropReason::Oversize));
    assert_eq!(egress.enqueue(1, item(0, ROOM, Class::Control), Instant::ZERO), Enqueued::Queued);
}

#[test]
fn a_full_queue_sheds_the_least_urgent_and_oldest() {
    let now = Instant::ZERO;
    let mut egress = egress(|config| config.peer_queue_bytes_max = 4_096);
    egress.open(1, false, now);
    for message in 0..8 {
        let class = if message < 4 { Class::Normal } else { Class::Background };
        assert_eq!(egress.enqueue(1, item(message, 512, class), now), Enqueued::Queued);
    }
    assert_eq!(egress.room(1), 0);
    assert_eq!(
        egress.enqueue(1, item(8, 1, Class::Background), now),
        Enqueued::Dropped(DropReason::Full),
        "an equal does not yield"
    );
    assert_eq!(egress.enqueue(1, item(9, 600, Class::High), now), Enqueued::Queued);
    egress.ready(1, now);
    let mut sent: Vec<u32> =
        drain(&mut egress, now).into_iter().flat_map(|(_, _, messages)| messages).collect();
    sent.sort_unstable();
    assert_eq!(sent, [0, 1, 2, 3, 6, 7, 9]);
    assert_eq!(egress.stats().dropped_full, 3);
}

#[test]
fn others_backlogs_silence_nobody() {
    let now = Instant::ZERO;
    let mut egress = egress(|config| {
        config.peer_queue_bytes_max = 4_096;
        config.queue_bytes_max = 4_096;
    });
    egress.open(1, false, now);
    egress.open(2, false, now);
    for message in 0..8 {
        let _ = egress.enqueue(1, item(message, 512, Class::Urgent), now);
    }
    assert_eq!(egress.room(2), FRAME);
    assert_eq!(egress.enqueue(2, item(9, ROOM, Class::High), now), Enqueued::Queued);
    assert_eq!(egress.enqueue(2, item(10, ROOM, Class::High), now), Enqueued::Dropped(DropReason::Full));
    assert_eq!(egress.enqueue(2, item(11, ROOM, Class::Control), now), Enqueued::Queued);
    assert_eq!(egress.enqueue(2, item(12, ROOM, Class::Control), now), Enqueued::Dropped(DropReason::Full));
    assert_eq!((egress.peer_queued_bytes(1), egress.peer_queued_bytes(2)), (4_096, ROOM as usize));
}

#[test]
fn a_rich_frame_waits_for_tokens_and_an_urgent_one_does_not() {
    let now = Instant::ZERO;
    let mut egress = egress(|config| {
        config.upload_bytes_per_s = Some(100_000);
        config.burst = Duration::ZERO;
    });
    egress.open(1, true, now);
    for message in 0..40 {
        let _ = egress.enqueue(1, item(message, 90, Class::Normal), now);
    }
    assert_eq!(drain(&mut egress, now)[0].2.len(), 11);
    let due = egress.poll_timeout().unwrap();
    assert_eq!(due, Instant::from_micros(10_280), "a whole frame, not one item");
    let soon = Instant::from_micros(1_500);
    let _ = egress.enqueue(1, item(99, 90, Class::Urgent), soon);
    assert_eq!(egress.poll_timeout(), Some(soon));
    assert_eq!(drain(&mut egress, soon), [(1, Class::Urgent, vec![99])]);
}

#[test]
fn a_peers_own_tokens_may_come_back_before_those_of_all() {
    let now = Instant::ZERO;
    let mut egress = egress(|config| {
        config.upload_bytes_per_s = Some(100_000);
        config.burst = Duration::ZERO;
    });
    egress.open(1, true, now);
    egress.open(2, true, now);
    egress.set_peer_rate(2, Some(50_000), now);
    let _ = egress.enqueue(2, item(0, ROOM, Class::Normal), now);
    assert_eq!(drain(&mut egress, now).len(), 1);
    let _ = egress.enqueue(1, item(1, ROOM, Class::Normal), now);
    let _ = egress.enqueue(2, item(2, 100, Class::Control), now);
    assert_eq!(drain(&mut egress, now), []);
    let due = Instant::from_micros(138 * 20);
    assert_eq!(egress.poll_timeout(), Some(due));
    assert_eq!(drain(&mut egress, due), [(2, Class::Control, vec![2])]);
}

#[test]
fn the_promised_instant_is_the_first_that_works() {
    let mut egress = egress(|config| config.upload_bytes_per_s = Some(33_333));
    let mut now = Instant::from_micros(77);
    let mut frame = Vec::new();
    egress.open(1, true, now);
    for message in 0..20 {
        let _ = egress.enqueue(1, item(message, ROOM, Class::Normal), now);
    }
    let mut sent = 0;
    while egress.queued_bytes() > 0 {
        while egress.poll(now, &mut frame).is_some() {
            sent += 1;
        }
        let Some(due) = egress.poll_timeout() else { break };
        assert_eq!(egress.poll(due - Duration::from_micros(1), &mut frame), None);
        now = due;
        assert!(egress.poll(now, &mut frame).is_some());
        sent += 1;
    }
    assert_eq!(sent, 20);
}

#[test]
fn a_slow_child_costs_the_others_nothing() {
    let mut egress = egress(|config| config.upload_bytes_per_s = Some(1_000_000));
    let mut received = [0usize; 4];
    for peer in 0..4 {
        egress.open(peer, true, Instant::ZERO);
    }
    egress.set_peer_rate(0, Some(10_000), Instant::ZERO);
    let mut now = Instant::ZERO;
    while now < Instant::from_secs(1) {
        for peer in 0..4 {
            while egress.room(peer) >= FRAME {
                let _ = egress.enqueue(peer, item(0, ROOM, Class::Normal), now);
            }
        }
        for (to, _, messages) in drain(&mut egress, now) {
            received[to as usize] += messages.len();
        }
        now = egress.poll_timeout().unwrap();
    }
    assert!((9..=12).contains(&received[0]), "{received:?}");
    for fast in &received[1..] {
        assert!((318..=330).contains(fast), "{received:?}");
    }
}

/// Runs a saturated upload for ten seconds; items sent by class and by peer.
fn saturate(
    percent: u8,
    peers: u8,
    classes: &[Class],
    item_bytes: &dyn Fn(u8) -> u32,
) -> ([u64; 5], Vec<u64>) {
    let mut egress = egress(|config| {
        config.upload_bytes_per_s = Some(500_000);
        config.background_percent = percent;
    });
    for peer in 0..peers {
        egress.open(peer, true, Instant::ZERO);
    }
    let mut by_peer = vec![0; usize::from(peers)];
    let mut now = Instant::ZERO;
    let mut waiting = BTreeMap::new();
    let mut frame = Vec::new();
    while now < Instant::from_secs(10) {
        for peer in 0..peers {
            for &class in classes {
                let waits: &mut u32 = waiting.entry((peer, class)).or_default();
                while *waits < 4 {
                    let message = u32::from(peer) * 8 + class as u32;
                    let _ = egress.enqueue(peer, item(message, item_bytes(peer), class), now);
                    *waits += 1;
                }
            }
        }
        match egress.poll(now, &mut frame) {
            Some(Transmit::Frame { to, bytes, .. }) => {
                by_peer[usize::from(to)] += bytes as u64;
                for message in &frame {
                    *waiting.get_mut(&(to, Class::ALL[(message % 8) as usize])).unwrap() -= 1;
                }
            }
            _ => now = egress.poll_timeout().unwrap(),
        }
    }
    (egress.stats().classes.map(|class| class.bytes), by_peer)
}

#[test]
fn the_shared_classes_keep_their_shares() {
    for percent in [0, 1, 5, 20, 50] {
        let classes = [Class::High, Class::Normal, Class::Background];
        let (bytes, _) = saturate(percent, 3, &classes, &|_| ROOM);
        let sum: u64 = bytes.iter().sum();
        let share = |class: Class| bytes[class as usize] * 1_000 / sum;
        let rest = 1_000 - u64::from(percent) * 10;
        assert!(share(Class::Background) + 3 >= u64::from(percent) * 10, "{percent} %: {bytes:?}");
        assert!(share(Class::High) + 15 >= rest * 3 / 4, "{percent} %: {bytes:?}");
        assert!(share(Class::Normal) + 15 >= rest / 4, "{percent} %: {bytes:?}");
    }
}

#[test]
fn background_keeps_its_floor_among_small_items() {
    let (bytes, _) =
        saturate(5, 8, &[Class::High, Class::Normal, Class::Background], &|peer| 60 + u32::from(peer));
    let sum: u64 = bytes.iter().sum();
    assert!(bytes[Class::Background as usize] * 100 >= sum * 5, "{bytes:?}");
}

#[test]
fn what_a_class_does_not_use_the_others_get() {
    let (bytes, _) = saturate(5, 2, &[Class::Background], &|_| ROOM);
    assert!(bytes[Class::Background as usize] > 4_700_000, "{bytes:?}");
}

#[test]
fn peers_share_fairly_whatever_the_size_of_their_items() {
    for class in Class::ALL {
        let (_, by_peer) = saturate(5, 16, &[class], &|peer| if peer % 2 == 0 { ROOM } else { 300 });
        let sum: u64 = by_peer.iter().sum();
        let squares: u64 = by_peer.iter().map(|bytes| bytes * bytes).sum();
        assert!(sum * sum * 100 >= squares * 16 * 95, "{class:?}: {by_peer:?}");
    }
}

#[test]
fn a_background_queue_that_stands_still_is_raised() {
    let mut egress = egress(|config| {
        config.upload_bytes_per_s = Some(10_000);
        config.background_percent = 0;
        config.burst = Duration::ZERO;
    });
    let mut now = Instant::ZERO;
    egress.open(1, true, now);
    egress.open(2, true, now);
    for message in 100..104 {
        let _ = egress.enqueue(2, item(message, ROOM, Class::Background), now);
    }
    let mut background = Vec::new();
    let mut next = 0;
    while now < Instant::from_secs(4) {
        while egress.peer_queued_bytes(1) < 2 * FRAME {
            let _ = egress.enqueue(1, item(next, ROOM, Class::High), now);
            next += 1;
        }
        for (to, class, messages) in drain(&mut egress, now) {
            if to == 2 {
                background.push((now.as_micros() / 1_000, class, messages[0]));
            }
        }
        now = egress.poll_timeout().unwrap();
    }
    // High has the whole upload, yet one item gets through after each half second, in order.
    assert_eq!(background.len(), 4, "{background:?}");
    let mut before = 0;
    for (&(at, class, message), expected) in background.iter().zip(100..) {
        assert_eq!((class, message), (Class::Normal, expected));
        assert!((before + 500..before + 900).contains(&at), "{background:?}");
        before = at;
    }
}

#[test]
fn an_idle_peer_is_small() {
    assert!(size_of::<Peer<u64>>() <= 240, "{}", size_of::<Peer<u64>>());
    assert!(size_of::<Peer<[u8; 32]>>() <= 264, "{}", size_of::<Peer<[u8; 32]>>());
}

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
            let slot = machine.slots[peer];
            let held = &machine.peers[slot as usize];
            let mut kept = Vec::new();
            for class in Class::ALL {
                let mut index = held.lanes[class as usize].head;
                let mut bytes = 0;
                while index != NIL {
                    let node = machine.items.node(index);
                    assert_eq!(node.lane, class);
                    if let Some(key) = node.key {
                        assert_eq!(held.keys.get(&key), Some(&index));
                    }
                    bytes += node.bytes as usize;
                    kept.push((class, node.bytes as usize, node.key, node.deadline));
                    index = node.next;
                }
                assert_eq!(bytes, held.lanes[class as usize].bytes);
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
            assert_eq!(held.queued_bytes, party.bytes(|_| true));
            assert_eq!(held.keys.len(), party.items.iter().filter(|item| item.key.is_some()).count());
        }
        let all: usize = self.parties.values().map(|party| party.bytes(|_| true)).sum();
        assert_eq!(machine.queued_bytes(), all);
        assert!(all <= self.config.queue_bytes_max + FRAME * self.parties.len());
        assert_eq!(machine.slots.len(), self.parties.len());
    }

    /// Whether tokens or credit of its own keep a peer from its next frame of `class`.
    fn blocked(&self, machine: &Machine, peer: u8, class: Class) -> bool {
        let party = &self.parties[&peer];
        let waiting = party.bytes(|item| class > Class::Urgent || item.class <= Class::Urgent);
        let wanted = FRAME.min(HEADER + waiting) as u64;
        let held = &machine.peers[machine.slots[&peer] as usize];
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
            let held = &machine.peers[machine.slots[peer] as usize];
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
