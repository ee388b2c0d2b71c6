//! Real processes on loopback: `examples/livestream_udp`, a source that can feed four, twelve viewers, 2 % of the datagrams
//! lost. In the middle one viewer that feeds others is killed, and two more come. Everybody who is there in the end has
//! the stream without a gap, byte for byte: from its beginning, or from the keyframe where he came.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

#[path = "../examples/livestream_udp/ivf.rs"]
mod ivf;
#[path = "../examples/livestream_udp/process.rs"]
mod process;

use ivf::Clip;
use process::Process;

const VIEWERS: u64 = 12;
const LATE_VIEWERS: u64 = 2;
const LOSS: &str = "0.02";
/// Of the clip, its busiest second: what a viewer needs.
const RATE_KBPS: u64 = 300;
/// A busy machine may stop a process for seconds; nothing is given up for that.
const DEADLINE_MS: &str = "10000";
/// Nobody waits longer than this for anything; a run takes less.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn who_is_there_in_the_end_has_every_frame() {
    let run = Run::new();
    let clip = Clip::parse(std::fs::read(CLIP).expect("the clip").into()).expect("the clip is one");
    let frames = clip.frames.len();

    let mut source =
        run.start(0, &["source", "--hold", "--deadline-ms", DEADLINE_MS, "--clip", CLIP], 4 * RATE_KBPS);
    let address = source.await_line("listening", PATIENCE).unwrap();
    let view = |viewer: u64| {
        let out = run.out(viewer);
        run.start(viewer, &["viewer", "--source", &address, "--out", &out.to_string_lossy()], 3 * RATE_KBPS)
    };
    let mut viewers: Vec<_> = (1..=VIEWERS).map(|viewer| (viewer, view(viewer))).collect();
    for (viewer, process) in &mut viewers {
        process.await_line("joined", PATIENCE).unwrap_or_else(|why| panic!("viewer {viewer}: {why}"));
    }

    source.tell("start").expect("the source listens");
    let second = |number: usize| clip.due(15 * number);
    std::thread::sleep(second(2));
    let feeds = |process: &mut Process| process.last("children").is_some_and(|children| children != "0");
    let relay = viewers.iter_mut().position(|(_, process)| feeds(process));
    // Dropping it is a kill.
    let (killed, _) = viewers.remove(relay.expect("somebody feeds others: the source cannot feed all"));
    std::thread::sleep(second(1));
    viewers.extend((VIEWERS + 1..=VIEWERS + LATE_VIEWERS).map(|viewer| (viewer, view(viewer))));

    let mut passed = 0;
    for (viewer, process) in &mut viewers {
        let ended = process.await_line("ended", PATIENCE);
        let said = process.lines().join("\n");
        let context = format!("viewer {viewer} ({killed} was killed), which said:\n{said}\n");
        assert!(ended.is_ok(), "no end for {context}");
        let first =
            process.number("first_frame", "seq").unwrap_or_else(|| panic!("no frame for {context}")) as usize;
        assert!(said.contains("keyframe=true"), "no keyframe first for {context}");
        if *viewer <= VIEWERS {
            assert_eq!(first, 0, "a late first frame for {context}");
        } else {
            assert!((1..frames).contains(&first), "the wrong first frame for {context}");
        }
        let seen = std::fs::read(run.out(*viewer)).expect("its file");
        if seen != clip.to_file(first..frames).expect("written to memory") {
            panic!("{} for {context}", difference(&clip, first, seen.into()));
        }
        passed += process.number("stats", "forwarded").unwrap_or(0);
    }
    source.await_line("ended", PATIENCE).unwrap();
    let sent = source.number("stats", "sent").expect("the source counts");
    let media: usize = clip.frames.iter().map(|frame| frame.data.len()).sum();
    assert!(passed > 0, "nobody fed anybody");
    assert!(sent < 6 * media as u64, "the source sent {sent} bytes, and its clip has {media}");
    run.clean();
}

/// Which frames are missing or wrong.
fn difference(clip: &Clip, first: usize, seen: Bytes) -> String {
    let seen = match Clip::parse(seen) {
        Ok(seen) => seen.frames,
        Err(why) => return format!("an unreadable file ({why})"),
    };
    let expected = &clip.frames[first..];
    let missing: Vec<_> = (first..)
        .zip(expected)
        .filter(|(_, frame)| !seen.contains(frame))
        .map(|(number, _)| number)
        .collect();
    format!("{} frames of {}, without {missing:?},", seen.len(), expected.len())
}

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/clip.ivf");

struct Run {
    seed: u64,
    dir: PathBuf,
}

impl Run {
    fn new() -> Self {
        let seed = std::env::var("SUFFUSE_LIVESTREAM_SEED")
            .map_or(1, |seed| seed.parse().expect("SUFFUSE_LIVESTREAM_SEED is a number"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("livestream_processes");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory for the test");
        Self { seed, dir }
    }

    fn start(&self, number: u64, args: &[&str], kbps: u64) -> Process {
        let (kbps, seed) = (kbps.to_string(), (self.seed * 1_000 + number).to_string());
        let common = ["--bind", "127.0.0.1:0", "--loss", LOSS, "--upload-kbps", &kbps, "--seed", &seed];
        Process::start(&binary(), args.iter().chain(&common)).expect("the example starts")
    }

    fn out(&self, viewer: u64) -> PathBuf {
        self.dir.join(format!("{viewer}.ivf"))
    }

    fn clean(&self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SUFFUSE_LIVESTREAM_SEED={}; the files are in {}", self.seed, self.dir.display());
        }
    }
}

/// `cargo test` builds the examples of the package beside its tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a profile directory above the test");
    let binary = profile.join("examples").join(format!("livestream_udp{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.exists(),
        "{} is missing: run the whole of `cargo test`, or `cargo build --examples`",
        binary.display()
    );
    binary
}
