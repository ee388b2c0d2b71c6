mod model;

use alloc::vec;
use core::time::Duration;

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
fn a_rush_of_peers_leaves_no_slots_behind() {
    let now = Instant::ZERO;
    let mut egress = egress(|_| {});
    for peer in 0..100 {
        egress.open(peer, true, now);
        let _ = egress.enqueue(peer, item(u32::from(peer), 10, Class::Normal), now);
    }
    // Some are lost with what waits; the others finish.
    for peer in (0..96).step_by(3) {
        egress.reset(peer);
    }
    for peer in 0..96 {
        egress.close(peer);
    }
    drain(&mut egress, now);
    assert!(egress.peers.places() >= 96, "the last four hold the highest slots");
    for peer in 96..100 {
        egress.reset(peer);
    }
    assert_eq!(egress.peers.places(), 0);
    assert!(egress.peers.capacity() < 8, "{} places", egress.peers.capacity());
    egress.open(7, true, now);
    let _ = egress.enqueue(7, item(7, 10, Class::Normal), now);
    assert_eq!(drain(&mut egress, now), [(7, Class::Normal, vec![7])]);
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
    // With its name, and the box beside it.
    assert!(size_of::<Peer>() + size_of::<(u64, u64)>() <= 80, "{}", size_of::<Peer>());
}
