//! The gossip machine alone: no engine, no membership, no links.
//!
//! Five nodes in a ring, driven by a queue of messages and their timers. Whoever has an overlay of its own (a DHT, a
//! tracker, a fixed cluster) can use the machine like this.
//!
//! ```text
//! cargo run --example gossip_only
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use suffuse::gossip::{Gossip, GossipAction};
use suffuse::{Config, Epoch, Instant, PublishOptions, Retention, Seed, StateId};

fn main() {
    let config = Config::small().gossip;
    let make = |node| {
        Gossip::<u32>::new(
            node,
            Epoch(1),
            config.clone(),
            Retention::default(),
            1_200,
            Seed::from_u64(node.into()),
        )
    };
    let mut nodes: Vec<_> = (0..5).map(make).collect();
    let mut now = Instant::ZERO;
    for node in 0..5u32 {
        for neighbor in [(node + 1) % 5, (node + 4) % 5] {
            nodes[node as usize].neighbor_up(neighbor, now);
        }
    }

    let mut actions = Vec::new();
    let body = Bytes::from_static(b"it rains in the north");
    nodes[0].publish(StateId(1), body, PublishOptions::default(), now, &mut actions);
    let mut mail: VecDeque<(u32, GossipAction<u32>)> = actions.drain(..).map(|action| (0, action)).collect();

    let mut delivered = 0;
    while now < Instant::from_secs(1) {
        while let Some((node, action)) = mail.pop_front() {
            match action {
                GossipAction::Send { to, message, .. } => {
                    nodes[to as usize].handle_message(node, message, now, &mut actions);
                    mail.extend(actions.drain(..).map(|action| (to, action)));
                }
                GossipAction::Deliver(update) => {
                    delivered += 1;
                    println!("node {node} has {:?} after {} hops", update.body, update.hops);
                }
                // Frames are only passed on by those who hand them in.
                GossipAction::Forward { .. }
                | GossipAction::Misbehaved { .. }
                | GossipAction::Part { .. }
                | GossipAction::Lagged { .. } => {
                    unreachable!("nothing is lost here, and everybody behaves")
                }
            }
        }
        now += Duration::from_millis(10);
        for node in 0..5u32 {
            if nodes[node as usize].poll_timeout().is_some_and(|at| at <= now) {
                nodes[node as usize].handle_timeout(now, &mut actions);
                mail.extend(actions.drain(..).map(|action| (node, action)));
            }
        }
    }
    assert_eq!(delivered, 4, "every node but the publisher, once");
}
