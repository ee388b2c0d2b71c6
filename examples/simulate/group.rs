//! `simulate group`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use suffuse::MediaTopology;
use suffuse::sim::{GroupReport, GroupScene, MediaScene};

use crate::arguments::{non_negative, positive, share};
use crate::meter::Meter;

#[derive(Args)]
pub(crate) struct Group {
    /// Participants, from 2 to 10,000.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    participants: u32,
    /// How many speak at a time and show a large picture; 0 for no media at all. Default: 3 up to 200 participants, else 0.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100))]
    speakers: Option<u32>,
    /// The video of a speaker in kbit/s, beside its thumbnail.
    #[arg(long, default_value_t = 1_200.0, value_parser = positive)]
    video_kbps: f64,
    /// The thumbnail of each participant in kbit/s.
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    thumb_kbps: f64,
    /// The sound of a speaker in kbit/s.
    #[arg(long, default_value_t = 32.0, value_parser = positive)]
    audio_kbps: f64,
    /// Who feeds whom.
    #[arg(long, value_enum, default_value_t = Shape::Auto)]
    topology: Shape,
    /// Upload of each participant in Mbit/s.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    upload_mbps: f64,
    /// The share of frames that is lost, from 0 to 0.9.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    loss: f64,
    /// The share of participants that crash at once in the middle, from 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    crash: f64,
    /// Seconds for which the network is split in two, from the middle on; 0 for never.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    partition: f64,
    /// Messages: three in five to everybody, one to three, one to one.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    messages: u32,
    /// Virtual seconds measured; at least twice the partition.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Everything random comes from here.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// What the upload allows.
    Auto,
    /// Everybody feeds everybody.
    Mesh,
    /// Everybody relays for everybody.
    Relay,
}

/// More have no media, unless it is asked for.
const MEDIA_PARTICIPANTS_MAX: u32 = 200;

/// Runs the scene and prints what it showed.
pub(crate) fn play(group: &Group) -> ExitCode {
    let scene = scene(group);
    let mut meter = Meter::new(!group.json);
    let started = meter.wall.now();
    let report = scene.run(&mut meter);
    let wall = meter.wall.now() - started;
    drop(meter);
    if group.json {
        print_json(group, &report, wall);
    } else {
        print_table(group, &report, wall);
    }
    ExitCode::SUCCESS
}

fn scene(group: &Group) -> GroupScene {
    let mut scene = GroupScene::new(group.participants);
    let ppm = |share: f64| (share * 1e6).round() as u32;
    scene.upload_bytes_per_s = (group.upload_mbps * 125_000.0).round() as u64;
    scene.network.loss_ppm = ppm(group.loss);
    scene.crash_ppm = ppm(group.crash);
    scene.partition = (group.partition > 0.0).then(|| Duration::from_secs_f64(group.partition));
    scene.messages = group.messages;
    let speakers = group.speakers.unwrap_or(if group.participants <= MEDIA_PARTICIPANTS_MAX { 3 } else { 0 });
    scene.media = (speakers > 0).then(|| {
        let bytes = |kbps: f64| (kbps * 125.0).round() as u64;
        let mut media = MediaScene::new(speakers);
        media.video_bytes_per_s = bytes(group.video_kbps);
        media.thumbnail_bytes_per_s = bytes(group.thumb_kbps);
        media.audio_bytes_per_s = bytes(group.audio_kbps);
        media.topology = match group.topology {
            Shape::Auto => MediaTopology::Auto,
            Shape::Mesh => MediaTopology::Mesh,
            Shape::Relay => MediaTopology::Relay,
        };
        media
    });
    scene.measured = Duration::from_secs(group.seconds);
    scene.seed = group.seed;
    scene
}

fn print_json(group: &Group, report: &GroupReport, wall: Duration) {
    let mut line = json!({
        "scenario": "group",
        "participants": group.participants,
        "seed": group.seed,
        "wall_s": wall.as_secs_f64(),
    });
    if let (Some(line), Ok(Value::Object(report))) = (line.as_object_mut(), serde_json::to_value(report)) {
        line.extend(report);
    }
    println!("{line}");
}

fn print_table(group: &Group, report: &GroupReport, wall: Duration) {
    println!(
        "{} participants, upload {} Mbit/s, loss {}, {} s, seed {}",
        group.participants, group.upload_mbps, group.loss, group.seconds, group.seed
    );
    let messages = report.messages;
    let rows = [
        ("everybody knew everybody after", format!("{:.2} s", report.join_converged_s)),
        ("rosters equal after", format!("{:.2} s", report.roster_converged_s)),
        (
            "screen claims that stayed in conflict",
            format!("{} of {}", report.screen_share_conflicts, report.screen_share_claims),
        ),
        ("messages delivered", format!("{:.4} %", messages.reliability * 100.0)),
        ("messages delivered again", messages.duplicates.to_string()),
        ("messages out of order", messages.order_violations.to_string()),
        (
            "to one: direct, relayed, stored, failed",
            format!(
                "{}, {}, {}, {}",
                messages.unicast_direct,
                messages.unicast_relayed,
                messages.unicast_stored,
                messages.unicast_failed
            ),
        ),
        (
            "share of the upload used",
            format!(
                "mean {:.2} %, at most {:.2} %",
                report.upload_use.mean * 100.0,
                report.upload_use.max * 100.0
            ),
        ),
        (
            "download",
            format!("p50 {:.1}, at most {:.1} kbit/s", report.download_kbps.p50, report.download_kbps.max),
        ),
        ("heap of a participant", format!("{:.1} KiB", report.heap_bytes_per_participant as f64 / 1_024.0)),
        ("suspicions without reason", report.false_suspicions.to_string()),
        ("virtual time", format!("{:.1} s", report.virtual_s)),
        ("wall time", format!("{:.2} s", wall.as_secs_f64())),
        ("trace hash", format!("{:016x}", report.trace_hash)),
    ];
    for (name, value) in rows {
        println!("  {name:40} {value}");
    }
    let Some(media) = &report.media else { return };
    let (delay, failover) = (media.delay_ms, media.failover_ms);
    let rows = [
        ("media", format!("{}, {} relays, ways of {} links", media.mode, media.relays, media.hops_max)),
        ("sound, p50 and p99", format!("{:.1}, {:.1} ms", delay.audio.p50, delay.audio.p99)),
        ("video, the same", format!("{:.1}, {:.1} ms", delay.video.p50, delay.video.p99)),
        ("thumbnails, the same", format!("{:.1}, {:.1} ms", delay.thumbnail.p50, delay.thumbnail.p99)),
        ("frames delivered", format!("{:.4} %", media.delivered * 100.0)),
        (
            "failovers, p50 and p95",
            format!("{}: {:.0}, {:.0} ms", media.failovers, failover.p50, failover.p95),
        ),
    ];
    for (name, value) in rows {
        println!("  {name:40} {value}");
    }
}
