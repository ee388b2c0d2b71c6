//! Interest and state synchronisation alone: a game server without an engine, links or gossip.
//!
//! 2,000 entities move at 20 Hz in a square world; 200 players walk among them, and each may be sent 32 kB/s. A player
//! wants the grid cells around it: its own critically, those next to it highly, and so on. One cell is one range of
//! state numbers, so an area of interest is a handful of declarations.
//!
//! ```text
//! cargo run --release --example interest_only
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use suffuse::propagation::{StateSync, StateSyncConfig, StateValue};
use suffuse::{Instant, InterestLevel, InterestTarget, StateId};

const CELLS: i64 = 20;
const PER_CELL: u64 = 5;
const PLAYERS: u32 = 200;
const TICK: Duration = Duration::from_millis(50);
const TICKS: u64 = 400;
const BUDGET_BYTES_PER_TICK: u64 = 32_000 / 20;

fn main() {
    let mut now = Instant::ZERO;
    let mut sync = StateSync::new(StateSyncConfig::default(), now);
    let mut areas = vec![BTreeMap::new(); PLAYERS as usize];
    let mut sent_bytes = vec![0; PLAYERS as usize];

    for tick in 0..TICKS {
        // An entity stays in its cell; its value is new at every tick, and a keyframe once a second.
        for entity in 0..(CELLS * CELLS) as u64 * PER_CELL {
            let (cell, member) = (entity / PER_CELL, entity % PER_CELL);
            let keyframe = (tick + entity) % 20 == 0;
            let value =
                StateValue { version: tick, bytes: if keyframe { 48 } else { 32 }, keyframe, deadline: None };
            sync.set_state(StateId(cell << 8 | member), value, now).expect("there is room for all entities");
        }
        for player in 0..PLAYERS {
            // Everybody walks one cell a second, in a direction of its own.
            let steps = i64::from(player) + (tick as i64 + i64::from(player)) / 20;
            let at =
                if player % 2 == 0 { (steps, i64::from(player / 2)) } else { (i64::from(player / 2), steps) };
            walk(&mut sync, player, &mut areas[player as usize], at, now);
        }
        let report = sync.tick_all(BUDGET_BYTES_PER_TICK, now, |player, selected| {
            // A host would pack `selected` into frames here, in this order.
            let bytes = selected.iter().map(|sent| sent.charged_bytes).sum::<u64>();
            sent_bytes[player as usize] += bytes;
            // One tick's budget can be left from before.
            assert!(bytes <= 2 * BUDGET_BYTES_PER_TICK, "player {player} was sent {bytes} bytes in a tick");
        });
        assert!(report.charged_bytes <= 2 * BUDGET_BYTES_PER_TICK * u64::from(PLAYERS));
        let given = BUDGET_BYTES_PER_TICK * (tick + 1);
        assert!(sent_bytes.iter().all(|&sent| sent <= given), "more was sent than all budgets together");
        now += TICK;
    }

    let stats = sync.stats();
    println!("{:10} {:>10} {:>10} {:>10}", "level", "sent", "p50 ms", "p99 ms");
    for level in InterestLevel::DESCENDING {
        let at = stats.at(level).expect("a level with interest");
        let [p50, p99] = [at.staleness_ms.p50(), at.staleness_ms.p99()].map(Option::unwrap_or_default);
        println!("{:10} {:>10} {p50:>10} {p99:>10}", format!("{level:?}"), at.sent);
    }
    let seconds = TICKS * TICK.as_millis() as u64 / 1_000;
    let per_player = |bytes: u64| bytes / u64::from(PLAYERS) / seconds;
    println!(
        "\nbytes/s for each player: {} of {}",
        per_player(stats.charged_bytes),
        20 * BUDGET_BYTES_PER_TICK
    );
    println!("values to send everything: {} bytes/s", per_player(stats.offered_bytes));
    println!("superseded {}, dropped {}, waiting {}", stats.superseded, stats.dropped(), stats.pending);
}

/// Declares what has come near or gone.
fn walk(
    sync: &mut StateSync<u32>,
    player: u32,
    area: &mut BTreeMap<u64, InterestLevel>,
    at: (i64, i64),
    now: Instant,
) {
    let mut wanted = BTreeMap::new();
    for x in -5..=5i64 {
        for y in -5..=5i64 {
            let level = match x.abs().max(y.abs()) {
                0 => InterestLevel::Critical,
                1 => InterestLevel::High,
                2 => InterestLevel::Medium,
                _ => InterestLevel::Low,
            };
            let cell = (at.0 + x).rem_euclid(CELLS) * CELLS + (at.1 + y).rem_euclid(CELLS);
            wanted.insert(cell as u64, level);
        }
    }
    let gone = area.keys().filter(|cell| !wanted.contains_key(cell)).map(|&cell| (cell, InterestLevel::None));
    let new = wanted
        .iter()
        .filter(|&(cell, level)| area.get(cell) != Some(level))
        .map(|(&cell, &level)| (cell, level));
    for (cell, level) in gone.chain(new) {
        let target =
            InterestTarget::range(StateId(cell << 8)..StateId((cell + 1) << 8)).expect("it is not empty");
        sync.declare(player, target, level, None, now).expect("there is room for all areas");
    }
    *area = wanted;
}
