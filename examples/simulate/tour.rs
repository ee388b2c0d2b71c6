//! The short tour.

use std::process::ExitCode;

use suffuse::sim::LinkModel;

use crate::topic::{ModeArg, SourcesArg, Topic, run};

/// What a stop of the tour promises.
struct Promise {
    name: &'static str,
    scene: Topic,
    p99_ms: f64,
    copies: f64,
    control: f64,
    recovery_s: f64,
    equal_state_s: f64,
}

/// Plays all stops, and fails if a promise is not kept.
pub(crate) fn play() -> ExitCode {
    let scene = Topic {
        nodes: 100,
        messages: 100,
        rate: 10.0,
        payload: 1_024,
        sources: SourcesArg::One,
        link: LinkModel::default(),
        loss: 0.0,
        upload_mbps: 20.0,
        crash: 0.0,
        partition: 0.0,
        churn: 0.0,
        silent: 0.0,
        freeload: 0.0,
        flood: None,
        alerts: false,
        redundancy: 1.0,
        mode: ModeArg::Hybrid,
        reliable: false,
        seed: 1,
        json: false,
    };
    let any = f64::INFINITY;
    let promise = |name, scene, p99_ms| Promise {
        name,
        scene,
        p99_ms,
        copies: any,
        control: any,
        recovery_s: any,
        equal_state_s: any,
    };
    let stops = [
        Promise { copies: 1.10, control: 0.20, ..promise("100 nodes, one source", scene.clone(), 300.0) },
        Promise {
            copies: 1.10,
            control: 0.20,
            ..promise("1,000 nodes, one source", Topic { nodes: 1_000, ..scene.clone() }, 300.0)
        },
        promise("1,000 nodes, 1 % loss", Topic { nodes: 1_000, loss: 0.01, ..scene.clone() }, 600.0),
        Promise {
            recovery_s: 5.0,
            ..promise("1,000 nodes, 30 % crash", Topic { nodes: 1_000, crash: 0.3, ..scene.clone() }, any)
        },
        Promise {
            equal_state_s: 20.0,
            ..promise("200 nodes, split for 20 s", Topic { nodes: 200, partition: 20.0, ..scene }, any)
        },
    ];
    println!(
        "One update of 1 KiB every 100 ms, 100 of them; links of 10 to 50 ms, 20 Mbit/s up; all join through one node."
    );
    println!("A figure in brackets is what is promised.\n");
    println!(
        "{:26} {:>11} {:>14} {:>17} {:>14} {:>13} {:>14}  ok",
        "scene", "reliability", "copies", "p99 delay ms", "control", "recovery s", "merge s"
    );
    let mut kept = true;
    for stop in stops {
        let (report, _) = run(&stop.scene);
        let (recovery, equal) = (report.recovery_s.unwrap_or(0.0), report.equal_state_s);
        let merged = stop.scene.partition == 0.0 || equal.is_some_and(|equal| equal <= stop.equal_state_s);
        let ok = report.reliability == 1.0
            && report.repeated == 0
            && report.copies_per_delivery <= stop.copies
            && report.delay_ms.p99 <= stop.p99_ms
            && report.control_bytes_per_payload_byte <= stop.control
            && recovery <= stop.recovery_s
            && merged;
        let cell = |value: f64, bound: f64, digits: usize| {
            if bound.is_finite() {
                format!("{value:.digits$} [{bound}]")
            } else {
                format!("{value:.digits$}")
            }
        };
        println!(
            "{:26} {:>11} {:>14} {:>17} {:>14} {:>13} {:>14}  {}",
            stop.name,
            format!("{:.4} [1]", report.reliability),
            cell(report.copies_per_delivery, stop.copies, 3),
            cell(report.delay_ms.p99, stop.p99_ms, 0),
            cell(report.control_bytes_per_payload_byte, stop.control, 3),
            report.recovery_s.map_or("-".into(), |value| cell(value, stop.recovery_s, 1)),
            equal.filter(|_| stop.scene.partition > 0.0).map_or("-".into(), |value| cell(
                value,
                stop.equal_state_s,
                1
            )),
            if ok { "yes" } else { "NO" },
        );
        kept &= ok;
    }
    if kept {
        ExitCode::SUCCESS
    } else {
        println!("\na promise was not kept");
        ExitCode::FAILURE
    }
}
