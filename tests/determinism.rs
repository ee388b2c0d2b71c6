//! The same seed gives the same run, event by event, in every build.

use std::num::NonZeroU64;
use std::time::Duration;

use suffuse::sim::TopicScene;

fn scene(seed: u64) -> TopicScene {
    let mut scene = TopicScene::new(60);
    scene.messages = 20;
    scene.network.loss_ppm = 20_000;
    scene.network.jitter = Duration::from_millis(5);
    scene.network.upload_bits_per_s = NonZeroU64::new(5_000_000);
    scene.crash_ppm = 100_000;
    scene.churn = Some(Duration::from_secs(60));
    scene.seed = seed;
    scene
}

#[test]
fn the_same_seed_twice_gives_the_same_trace_and_report() {
    for seed in [1, 2] {
        assert_eq!(scene(seed).run(&mut ()), scene(seed).run(&mut ()), "seed {seed}");
    }
    assert_ne!(scene(1).run(&mut ()).trace_hash, scene(2).run(&mut ()).trace_hash);
}

/// Debug and release builds, and every platform, must agree on this number. A change of the protocol changes it; anything
/// else that does is a defect.
#[test]
fn the_golden_trace() {
    assert_eq!(format!("{:016x}", scene(1).run(&mut ()).trace_hash), "61091f0b96150353");
}
