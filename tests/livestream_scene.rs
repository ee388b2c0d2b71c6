//! The scene in which livestreams are measured: its arithmetic, and that its figures are what they say.

use std::time::Duration;

use suffuse::sim::{LivestreamReport, LivestreamScene, Uploads};

const RATE: u64 = 312_500;

fn scene(viewers: u32) -> LivestreamScene {
    let mut scene = LivestreamScene::new(viewers);
    scene.measured = Duration::from_secs(4);
    scene
}

/// What holds in every run.
fn plausible(scene: &LivestreamScene, report: &LivestreamReport) {
    for delay in [report.delay_ms, report.frame_delay_ms] {
        // The least latency is 10 ms.
        assert!(10.0 <= delay.p50 && delay.p50 <= delay.p99 && delay.p99 <= delay.max, "{report:?}");
    }
    assert!(report.delay_ms.p50 <= report.frame_delay_ms.p50, "{report:?}");
    let on_time = report.on_time;
    let shares = [on_time.ms_300, on_time.ms_500, on_time.ms_1000, on_time.ms_2000];
    assert!(shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)), "{report:?}");
    assert!(on_time.ms_2000 <= report.layers_delivered[0] && report.layers_delivered[0] <= 1.0, "{report:?}");
    assert!(report.upload_use.mean <= report.upload_use.max, "{report:?}");
    // A delivered byte takes a byte on the wire, and a header now and then.
    assert!(report.bytes_per_delivery > 1.0 && report.payload_copies >= 1.0, "{report:?}");
    assert!((0.0..=1.0).contains(&report.repair_share), "{report:?}");
    assert_eq!(report.frames_refused, 0, "{report:?}");
    let seconds = 13.0 + scene.measured.as_secs_f64();
    assert!((report.virtual_s - seconds).abs() < 0.01, "{report:?}");
}

#[test]
fn unequal_uploads_have_the_promised_shares() {
    let scene = LivestreamScene::new(1_000);
    let uploads = scene.viewer_uploads(1_000);
    let share = |thousandths: u64| {
        let upload = RATE * thousandths / 1_000;
        uploads.iter().filter(|&&other| other == upload).count()
    };
    assert_eq!([share(500), share(1_200), share(3_000), share(10_000)], [250, 500, 200, 50]);
    assert_eq!(scene.source_upload(), 10 * RATE);
    // Few viewers get the classes as far as they go.
    assert_eq!(scene.viewer_uploads(1), [RATE / 2]);
    assert!(scene.viewer_uploads(0).is_empty());
}

#[test]
fn a_base_of_its_own_frees_the_uploads_from_the_rate() {
    let mut scene = LivestreamScene::new(20);
    scene.uploads = "hetero:8000".parse().unwrap();
    assert_eq!(scene.source_upload(), 10_000_000);
    assert_eq!(
        scene.viewer_uploads(20).iter().sum::<u64>(),
        5 * 500_000 + 10 * 1_200_000 + 4 * 3_000_000 + 10_000_000
    );
    scene.uploads = Uploads::Uniform { bytes_per_s: 1_000 };
    assert_eq!((scene.source_upload(), scene.viewer_uploads(3)), (10 * RATE, vec![1_000; 3]));
}

#[test]
fn the_fluid_bound_is_the_lesser_of_the_source_and_the_shared_upload() {
    // 1.825 times the base on average, and a source of 10 times the base.
    let scene = LivestreamScene::new(1_000);
    assert_eq!(scene.fluid_bound(), (10 * RATE + 1_825 * RATE) / 1_000);
    // Among few strong viewers the source is what limits.
    let mut scene = LivestreamScene::new(2);
    scene.uploads = Uploads::Uniform { bytes_per_s: 100 * RATE };
    assert_eq!(scene.fluid_bound(), 10 * RATE);
}

#[test]
fn the_rate_follows_from_the_utilization() {
    let mut scene = LivestreamScene::new(1_000);
    assert_eq!(scene.stream_bytes_per_s(), RATE);
    scene.utilization_ppm = Some(850_000);
    assert_eq!(scene.stream_bytes_per_s(), scene.fluid_bound() * 85 / 100);
    assert_eq!(scene.source_upload(), 10 * RATE, "the uploads are those of the plain rate");
}

#[test]
fn frames_add_up_to_the_rate_and_keyframes_are_larger() {
    for layers in [1, 3] {
        let mut scene = LivestreamScene::new(10);
        scene.layers = layers;
        let group = 60;
        let frames = 50 * group;
        let bytes = |layer| -> u64 {
            (0..frames).map(|frame| scene.frame_bytes(layer, frame, frame % group == 0) as u64).sum()
        };
        let each: Vec<_> = (0..layers).map(bytes).collect();
        let expected = RATE * frames / u64::from(scene.fps);
        let sum: u64 = each.iter().sum();
        assert!(sum.abs_diff(expected) < expected / 100, "{layers} layers: {sum} against {expected}");
        if layers == 3 {
            assert!(each[0].abs_diff(expected * 2 / 5) < expected / 100, "{each:?}");
            assert!(each[1].abs_diff(expected * 3 / 10) < expected / 100, "{each:?}");
        }
        for frame in 0..frames {
            let (key, delta) = (scene.frame_bytes(0, frame, true), scene.frame_bytes(0, frame, false));
            assert!(key.abs_diff(3 * delta) <= 3, "{key} {delta}");
        }
    }
}

#[test]
fn texts_of_uploads_mean_what_they_say_and_others_are_refused() {
    for text in ["hetero", "hetero:2500", "uniform:3000"] {
        assert_eq!(text.parse::<Uploads>().unwrap().to_string(), text);
    }
    for (text, why) in [
        ("uniform", "missing"),
        ("uniform:0", "no whole number"),
        ("hetero:-1", "no whole number"),
        ("fast:3", "unknown"),
        ("", "unknown"),
    ] {
        let error = text.parse::<Uploads>().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("uniform:3000"), "{error}");
    }
}

#[test]
fn a_few_viewers_get_everything_and_equal_scenes_are_equal() {
    let scene = scene(8);
    let report = scene.run(&mut ());
    plausible(&scene, &report);
    assert_eq!(report.viewers_end, 8);
    assert!(report.on_time.ms_2000 > 0.999, "{report:?}");
    assert_eq!(report.stripes_back, None);
    assert_eq!(report.outage_ms.count, 0);
    let again = scene.run(&mut ());
    assert_eq!(report.trace_hash, again.trace_hash);
    assert_eq!(report, again);
    let mut other = scene.clone();
    other.seed = 2;
    assert_ne!(other.run(&mut ()).trace_hash, report.trace_hash);
}

#[test]
fn the_keys_are_those_that_tools_read() {
    let report = scene(3).run(&mut ());
    let value = serde_json::to_value(&report).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    for key in [
        "bytes_per_delivery",
        "depth_max",
        "heap_bytes_per_viewer",
        "heap_bytes_planner",
        "keyframe_requests",
        "keyframe_requests_per_s_max",
        "media_bytes_per_viewer",
        "payload_copies",
        "plan_moves_per_leave",
        "rate_over_fluid_bound",
        "repair_share",
        "stripes",
        "stripes_back",
        "upload_over_cap_bytes",
        "viewers_end",
        "worst_viewer_p99_ms",
    ] {
        assert!(value.get(key).is_some(), "{key} is missing");
    }
    assert_eq!(keys(&value["delay_ms"]), ["max", "p50", "p99"]);
    assert_eq!(keys(&value["frame_delay_ms"]), ["max", "p50", "p99"]);
    assert_eq!(keys(&value["on_time"]), ["1000", "2000", "300", "500"]);
    assert_eq!(keys(&value["upload_use"]), ["max", "mean"]);
    assert_eq!(keys(&value["outage_ms"]), ["count", "max", "p50", "p95"]);
    assert_eq!(keys(&value["join_ms"]), ["attach_p95", "first_frame_p95"]);
    assert_eq!(value["trace_hash"].as_str().unwrap().len(), 16);
}

#[test]
fn a_crash_shows_in_the_outages() {
    let mut scene = scene(60);
    scene.crash_ppm = 300_000;
    scene.measured = Duration::from_secs(12);
    let report = scene.run(&mut ());
    plausible(&scene, &report);
    assert_eq!(report.viewers_end, 42);
    let back = report.stripes_back.expect("many crashed");
    assert!(back.s1 <= back.s2 && back.s2 <= back.s3 && back.s3 <= back.s5, "{report:?}");
}

#[test]
fn a_flash_crowd_comes_on_top_and_is_who_joined() {
    let mut scene = scene(20);
    scene.flash = 30;
    scene.measured = Duration::from_secs(12);
    let report = scene.run(&mut ());
    plausible(&scene, &report);
    assert_eq!(report.viewers_end, 50);
    assert!(report.join_ms.attach_p95 > 0.0, "{report:?}");
}

#[test]
fn churn_replaces_who_goes() {
    let mut scene = scene(40);
    scene.churn = Some(Duration::from_secs(10));
    scene.measured = Duration::from_secs(10);
    let report = scene.run(&mut ());
    plausible(&scene, &report);
    // All successors have come in the tail; nobody goes in it.
    assert_eq!(report.viewers_end, 40);
}
