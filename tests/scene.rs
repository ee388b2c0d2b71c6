//! The scene in which topics are measured tells the truth: each accident shows in the figures that it should show in.

use std::num::NonZeroU64;
use std::time::Duration;

use suffuse::GossipMode;
use suffuse::sim::{Sources, TopicReport, TopicScene};

const NODES: u32 = 60;

fn scene() -> TopicScene {
    let mut scene = TopicScene::new(NODES);
    scene.messages = 40;
    scene.interval = Duration::from_millis(50);
    scene.payload_bytes = 200;
    scene
}

/// What holds in every run, and in those where nobody comes late or goes.
fn plausible(scene: &TopicScene, report: &TopicReport) {
    let (p50, p99, max) = (report.delay_ms.p50, report.delay_ms.p99, report.delay_ms.max);
    assert!((0.0..=1.0).contains(&report.reliability), "{report:?}");
    assert_eq!(report.repeated, 0, "{report:?}");
    // The least latency is 10 ms.
    assert!(10.0 <= p50 && p50 <= p99 && p99 <= max, "{report:?}");
    assert!(report.hops_max >= 2 && report.hops_max < u64::from(NODES), "{report:?}");
    assert!(report.copies_per_delivery >= 1.0, "a delivery needs a copy: {report:?}");
    // A delivery carries the body, a header and the layers below.
    let least = scene.payload_bytes as f64 + 28.0;
    assert!(report.bytes_per_delivery > least, "{report:?}");
    let control = report.control_bytes_per_payload_byte;
    assert!(control > 0.1 && control < 20.0, "{report:?}");
    assert!(report.idle_bytes_per_s > 1.0 && report.idle_bytes_per_s < 5_000.0, "{report:?}");
    assert!(report.degree_mean >= 2.0, "{report:?}");
    let published = (scene.interval * scene.messages).as_secs_f64();
    assert!(report.virtual_s >= 35.0 + published, "{report:?}");
}

fn run(scene: &TopicScene) -> TopicReport {
    let report = scene.run(&mut ());
    plausible(scene, &report);
    report
}

#[test]
fn without_an_accident_everything_arrives_and_the_counts_are_exact() {
    let scene = scene();
    let report = run(&scene);
    assert_eq!(report.reliability, 1.0);
    assert_eq!(report.deliveries, u64::from(scene.messages * (NODES - 1)));
    assert_eq!(report.lagged, 0);
    assert_eq!((report.recovery_s, report.merge_s, report.equal_state_s), (None, None, None));
    assert!(report.copies_per_delivery < 2.5, "{report:?}");
    assert!(report.delay_ms.max < 2_000.0, "{report:?}");
}

#[test]
fn large_messages_cost_one_copy_by_bytes() {
    let mut scene = scene();
    (scene.messages, scene.interval, scene.payload_bytes) = (4, Duration::from_secs(1), 150_000);
    let report = scene.run(&mut ());
    assert_eq!((report.reliability, report.repeated), (1.0, 0), "{report:?}");
    assert_eq!(report.deliveries, u64::from(scene.messages * (NODES - 1)));
    assert!((1.0..1.05).contains(&report.copies_per_delivery), "{report:?}");
    assert!(report.control_bytes_per_payload_byte < 0.1, "{report:?}");
    assert!(report.delay_ms.max < 1_000.0, "{report:?}");
}

#[test]
fn each_mode_pays_its_own_price() {
    let of = |mode| {
        let mut scene = scene();
        scene.mode = mode;
        let report = run(&scene);
        assert_eq!(report.reliability, 1.0, "{mode:?}: {report:?}");
        report
    };
    let [push, pull, hybrid] = [GossipMode::Push, GossipMode::Pull, GossipMode::Hybrid].map(of);
    // Nothing is pulled twice, but asking takes a round trip more on every hop.
    assert!(pull.copies_per_delivery < 1.1, "{pull:?}");
    assert!(pull.delay_ms.p50 > 1.5 * hybrid.delay_ms.p50, "{pull:?} {hybrid:?}");
    // Without announcements there is less to say besides the bodies.
    assert!(push.control_bytes_per_payload_byte < pull.control_bytes_per_payload_byte, "{push:?} {pull:?}");
}

#[test]
fn a_crash_takes_its_share_and_the_rest_recovers() {
    let mut scene = scene();
    scene.crash_ppm = 300_000;
    let report = run(&scene);
    assert_eq!(report.reliability, 1.0, "the dead are not asked: {report:?}");
    let (all, half) = (scene.messages * (NODES - 1), scene.messages / 2);
    let dead = (NODES - 1) * 3 / 10;
    // In the first half everybody hears everything, but for what is under way in the moment of the crash.
    let least = all - dead * half - dead * 10;
    assert!(report.deliveries <= u64::from(all - dead * half), "{report:?}");
    assert!(report.deliveries >= u64::from(least), "{report:?}");
    let recovery = report.recovery_s.expect("there was a crash");
    assert!((0.0..20.0).contains(&recovery), "{report:?}");
    assert_eq!((report.merge_s, report.equal_state_s), (None, None));
}

#[test]
fn a_partition_delays_but_does_not_take() {
    let mut scene = scene();
    scene.partition = Some(Duration::from_secs(15));
    let report = run(&scene);
    assert_eq!(report.reliability, 1.0);
    // Half of the nodes wait for the second half of the messages until the network is whole.
    assert!(report.delay_ms.max > 10_000.0, "{report:?}");
    assert!(report.delay_ms.p50 < 1_000.0, "{report:?}");
    let (merged, equal) = (report.merge_s.expect("merged"), report.equal_state_s.expect("equal"));
    assert!((0.0..60.0).contains(&merged) && (0.0..60.0).contains(&equal), "{report:?}");
    assert!(report.control_bytes_per_missed.is_some_and(|bytes| (1.0..60.0).contains(&bytes)), "{report:?}");
    assert_eq!((report.recovery_s, report.crashed_delay_ms), (None, None));
}

#[test]
fn churn_is_counted_for_who_was_there() {
    let mut scene = scene();
    scene.churn = Some(Duration::from_secs(10));
    let report = run(&scene);
    // 60 nodes, 10 s, 3 s of messages and the second after: about a third was replaced.
    let everybody = u64::from(scene.messages * (NODES - 1));
    assert!(report.deliveries > everybody / 2 && report.deliveries < everybody * 3 / 2, "{report:?}");
    assert!(report.reliability > 0.99, "{report:?}");
    // Newcomers catch up on what was published before they came; that is no delay of the swarm.
    assert!(report.catch_ups > 0 && report.catch_ups < report.deliveries / 2, "{report:?}");
    assert!(report.delay_ms.p99 < 3_000.0, "{report:?}");
}

#[test]
fn random_sources_reach_everybody_too() {
    let mut scene = scene();
    scene.sources = Sources::Random;
    let report = run(&scene);
    assert_eq!(report.reliability, 1.0);
    assert_eq!(report.deliveries, u64::from(scene.messages * (NODES - 1)));
}

#[test]
fn a_reliable_transport_with_loss_pays_with_time() {
    let mut scene = scene();
    scene.network.reliable = true;
    let clean = run(&scene);
    scene.network.loss_ppm = 100_000;
    let lossy = run(&scene);
    assert_eq!((clean.reliability, lossy.reliability), (1.0, 1.0));
    assert!(lossy.delay_ms.p99 > clean.delay_ms.p99, "{clean:?} {lossy:?}");
}

#[test]
fn a_narrow_uplink_shows_in_the_delay() {
    let mut scene = scene();
    let wide = run(&scene);
    scene.network.upload_bits_per_s = NonZeroU64::new(200_000);
    let narrow = run(&scene);
    assert!(narrow.delay_ms.p50 > wide.delay_ms.p50 * 1.2, "{wide:?} {narrow:?}");
}

/// Repair is put off beyond the end of the scene, so that what the network loses stays lost: reliability must say so.
#[test]
fn losses_without_repair_show_in_the_reliability() {
    let mut scene = scene();
    scene.mode = GossipMode::Push;
    scene.network.loss_ppm = 300_000;
    let hour = Duration::from_secs(3_600);
    scene.config.gossip.want_delay_min = Duration::from_secs(10);
    (scene.config.gossip.sync_interval_min, scene.config.gossip.sync_interval_max) = (hour, hour);
    scene.config.gossip.wants_outstanding_max = 1;
    let lossy = run(&scene);
    assert!(lossy.reliability < 0.999, "{lossy:?}");
    assert!(lossy.reliability > 0.5, "{lossy:?}");
    // The pairs that were asked for and not delivered are the deliveries that are missing.
    let everybody = u64::from(scene.messages * NODES);
    let missing = ((1.0 - lossy.reliability) * everybody as f64).round() as u64;
    assert_eq!(lossy.deliveries, everybody - u64::from(scene.messages) - missing, "{lossy:?}");

    // With repair, the same network takes nothing.
    let mut repaired = scene.clone();
    repaired.config.gossip = suffuse::GossipConfig::default();
    assert_eq!(run(&repaired).reliability, 1.0);
}

#[test]
fn the_seed_decides_the_run() {
    let mut scene = scene();
    let first = run(&scene);
    assert_eq!(first, run(&scene));
    scene.seed = 2;
    assert_ne!(first.trace_hash, run(&scene).trace_hash);
}
