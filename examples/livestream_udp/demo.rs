//! A source and its viewers as processes of this machine, and what became of the stream.

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::ivf::Clip;
use crate::process::Process;

pub(crate) const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/clip.ivf");
const VIEWERS: usize = 12;
const LOSS: &str = "0.02";
/// A viewer needs about 300: the source can feed four of them, a viewer three.
const SOURCE_KBPS: &str = "1200";
const VIEWER_KBPS: &str = "900";
/// Enough for a machine that is busy with other things.
const DEADLINE_MS: &str = "10000";
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let clip = Clip::parse(std::fs::read(CLIP)?.into())?;
    let dir = std::env::temp_dir().join(format!("livestream_udp-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let program = std::env::current_exe()?;
    let bind = format!("{}:0", Ipv4Addr::LOCALHOST);

    let common =
        |kbps: &'static str| ["--bind", &bind, "--loss", LOSS, "--upload-kbps", kbps].map(str::to_owned);
    let args = ["source", "--hold", "--deadline-ms", DEADLINE_MS]
        .map(str::to_owned)
        .into_iter()
        .chain(common(SOURCE_KBPS));
    let mut source = Process::start(&program, args)?;
    let address = source.await_line("listening", PATIENCE)?;
    let outs: Vec<_> = (1..=VIEWERS).map(|viewer| dir.join(format!("viewer-{viewer:02}.ivf"))).collect();
    let mut viewers = Vec::new();
    for out in &outs {
        let which = ["viewer", "--source", &address, "--out", &out.display().to_string()].map(str::to_owned);
        viewers.push(Process::start(&program, which.into_iter().chain(common(VIEWER_KBPS)))?);
    }
    for viewer in &mut viewers {
        viewer.await_line("joined", PATIENCE)?;
    }
    let seconds = clip.header.time(clip.ticks()).as_secs();
    println!("{VIEWERS} viewers are there; the source streams {seconds} s, every 50th datagram is lost");

    source.tell("start")?;
    println!("viewer  frames  whole  depth  passed  repaired  p95 latency");
    let mut whole = 0;
    for (number, (viewer, out)) in (1..).zip(viewers.iter_mut().zip(&outs)) {
        viewer.await_line("ended", PATIENCE)?;
        let is_whole = is_whole(&clip, out)?;
        whole += usize::from(is_whole);
        let mut stat = |key| viewer.number("stats", key).unwrap_or(0);
        let (depth, passed, repaired, latency) =
            (stat("depth"), stat("forwarded"), stat("repaired") + stat("rebuilt"), stat("latency_ms_p95"));
        let (frames, is_whole) =
            (viewer.number("ended", "frames").unwrap_or(0), if is_whole { "yes" } else { "no" });
        println!(
            "{number:>6}  {frames:>6}  {is_whole:>5}  {depth:>5}  {passed:>6}  {repaired:>8}  {latency:>8} ms"
        );
    }
    source.await_line("ended", PATIENCE)?;
    let sent = source.number("stats", "sent").unwrap_or(0);
    let media: u64 = clip.frames.iter().map(|frame| frame.data.len() as u64).sum();
    println!(
        "{whole} of {VIEWERS} have the whole clip; the source sent {:.1} times its size",
        sent as f64 / media as f64
    );
    println!("what they saw: {}", dir.display());
    if whole == VIEWERS { Ok(()) } else { Err("some miss frames".into()) }
}

fn is_whole(clip: &Clip, out: &Path) -> Result<bool, Box<dyn Error>> {
    Ok(out.exists() && std::fs::read(out)? == clip.to_file(0..clip.frames.len())?)
}
