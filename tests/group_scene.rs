//! The bars of groups, in small scenes.

use std::time::Duration;

use suffuse::sim::{GroupReport, GroupScene};

fn run(seed: u64, change: impl FnOnce(&mut GroupScene)) -> GroupReport {
    let mut scene = GroupScene::new(16);
    scene.seed = seed;
    change(&mut scene);
    scene.run(&mut ())
}

#[test]
fn after_a_crash_all_rosters_are_equal_within_three_seconds() {
    for seed in 1..=3 {
        let report = run(seed, |scene| {
            scene.crash_ppm = 200_000;
            scene.messages = 100;
        });
        assert!(report.roster_converged_s <= 3.0, "seed {seed}: {report:?}");
        let messages = report.messages;
        assert_eq!(
            (messages.reliability, messages.duplicates, messages.order_violations),
            (1.0, 0, 0),
            "seed {seed}"
        );
    }
}

#[test]
fn after_a_partition_there_is_one_roster_and_nothing_is_lost_or_repeated() {
    for seed in 1..=3 {
        let report = run(seed, |scene| {
            scene.partition = Some(Duration::from_secs(20));
            scene.messages = 500;
        });
        assert!(report.roster_converged_s <= 5.0, "seed {seed}: {report:?}");
        let messages = report.messages;
        assert_eq!(
            (messages.reliability, messages.duplicates, messages.order_violations),
            (1.0, 0, 0),
            "seed {seed}"
        );
        assert!(messages.unicast_stored > 0 && messages.unicast_direct > 0, "seed {seed}: {messages:?}");
        assert_eq!(messages.unicast_failed, 0, "seed {seed}");
        assert!(report.screen_share_claims > 0 && report.screen_share_conflicts == 0, "seed {seed}");
    }
}

#[test]
fn a_quiet_room_suspects_nobody() {
    for seed in 1..=3 {
        let report = run(seed, |scene| scene.measured = Duration::from_secs(60));
        assert_eq!(report.false_suspicions, 0, "seed {seed}");
        assert!(report.join_converged_s <= 1.5, "seed {seed}: {report:?}");
        assert!(report.upload_use.max < 0.02, "seed {seed}: {:?}", report.upload_use);
    }
}

#[test]
fn two_runs_are_equal() {
    let scene = |scene: &mut GroupScene| {
        scene.messages = 50;
        scene.crash_ppm = 100_000;
        scene.measured = Duration::from_secs(8);
    };
    assert_eq!(run(5, scene), run(5, scene));
    assert_ne!(run(5, scene).trace_hash, run(6, scene).trace_hash);
}

#[test]
fn a_room_on_connections_is_a_room_too() {
    let report = run(7, |scene| {
        scene.network.reliable = true;
        scene.network.reset_after = Some(Duration::from_secs(1));
        scene.crash_ppm = 200_000;
        scene.messages = 100;
    });
    assert!(report.roster_converged_s <= 5.0, "{report:?}");
    let messages = report.messages;
    assert_eq!(
        (messages.reliability, messages.duplicates, messages.order_violations),
        (1.0, 0, 0),
        "{messages:?}"
    );
}
