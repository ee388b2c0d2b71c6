use bytes::Bytes;

use super::*;
use crate::config::GossipConfig;
use crate::gossip::PublishOptions;
use crate::id::{Priority, StateId};
use crate::log::Retention;
use crate::rng::Seed;

const NOW: Instant = Instant::from_secs(1);

/// A node with eight neighbours, `depth` links from the root behind the first.
fn below_root(depth: u8) -> (Gossip<u64>, Vec<GossipAction<u64>>) {
    let config = GossipConfig::default();
    let mut gossip = Gossip::new(99, Epoch(1), config, Retention::default(), 1_200, Seed::from_u64(1));
    let mut actions = Vec::new();
    for peer in 0..8 {
        gossip.neighbor_up(peer, Instant::ZERO);
    }
    let wave = Wave {
        origin: 50,
        epoch: Epoch(1),
        number: 7,
        shared: true,
        hops: depth - 1,
        born: Instant::ZERO,
        members: None,
        is_last: false,
    };
    gossip.handle_message(0, GossipMessage::Wave(wave), Instant::ZERO, &mut actions);
    gossip.handle_timeout(NOW, &mut actions);
    actions.clear();
    (gossip, actions)
}

fn pushes(actions: &[GossipAction<u64>]) -> usize {
    let is_push = |action: &&GossipAction<u64>| {
        matches!(action, GossipAction::Send { message: GossipMessage::Data(_), .. })
    };
    actions.iter().filter(is_push).count()
}

#[test]
fn what_a_cold_source_publishes_deep_in_the_swarm_goes_over_every_link() {
    for (depth, expected) in [(1, 1), (4, 1), (5, 8), (7, 8)] {
        let (mut gossip, mut actions) = below_root(depth);
        gossip.publish(StateId(0), Bytes::from_static(b"x"), PublishOptions::default(), NOW, &mut actions);
        assert_eq!(pushes(&actions), expected, "{depth} links from the root");
    }
}

#[test]
fn the_first_that_pass_it_on_do_likewise_where_the_swarm_is_deeper() {
    // From the parent, and back to nobody; from another, also to the parent.
    for (depth, hops, pulled, from, expected) in [
        (4, 0, false, 1, 1),
        (5, 0, false, 1, 7),
        (5, 0, false, 0, 7),
        (5, 0, true, 1, 1),
        (6, 1, false, 1, 1),
        (7, 1, false, 1, 7),
        (9, 2, false, 1, 1),
    ] {
        let (mut gossip, mut actions) = below_root(depth);
        let data = Data {
            origin: 70,
            epoch: Epoch(1),
            sequence: 0,
            state: StateId(0),
            priority: Priority::Normal,
            keyframe: false,
            layer: 0,
            hops,
            pulled,
            flood: false,
            born: NOW,
            body: Bytes::from_static(b"x"),
            signature: Bytes::new(),
        };
        gossip.handle_message(from, GossipMessage::Data(data), NOW, &mut actions);
        assert_eq!(pushes(&actions), expected, "{depth} links from the root, {hops} from the origin");
    }
}

#[test]
fn lots_spread_over_the_span() {
    assert_eq!(lot_share(0), Duration::ZERO);
    let last = lot_share(u64::MAX);
    assert!(last <= LOT_SPAN && last > LOT_SPAN * 99 / 100, "{last:?}");
}

#[test]
fn a_last_wave_is_believed_if_it_is_news_and_the_root_could_deny_it() {
    for (number, believed) in [(7, false), (8, true), (NUMBER_MAX - 1, true), (NUMBER_MAX, false)] {
        let (mut gossip, mut actions) = below_root(3);
        let wave = Wave {
            origin: 50,
            epoch: Epoch(1),
            number,
            shared: true,
            hops: 2,
            born: NOW,
            members: None,
            is_last: true,
        };
        gossip.handle_message(1, GossipMessage::Wave(wave), NOW, &mut actions);
        assert_eq!(gossip.shared.root.is_some_and(|root| root.is_gone), believed, "number {number}");
    }
}

#[test]
fn a_root_that_loses_a_neighbour_sends_a_wave_soon_but_not_more_often_than_it_may() {
    for (waved_s, expected_s) in [(10, 101), (97, 102)] {
        let (mut gossip, mut actions) = below_root(3);
        let now = Instant::from_secs(100);
        gossip.note_gone(3, now, &mut actions);
        let lead_at = gossip.shared.lead_at;
        assert!(lead_at.is_some_and(|at| at > Instant::from_secs(102)), "this is the root's affair");
        let root = gossip.shared.root.as_mut().unwrap();
        (root.peer, root.heard) = (99, Instant::from_secs(waved_s));
        gossip.note_gone(3, now, &mut actions);
        assert_eq!(gossip.shared.lead_at, Some(Instant::from_secs(expected_s)));
    }
}
