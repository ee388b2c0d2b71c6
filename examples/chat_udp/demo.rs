//! Three participants as processes of this machine: they talk, share a screen and a file, and go.

use std::error::Error;
use std::time::Duration;

use crate::process::Process;

const LOSS: &str = "0.02";
const PATIENCE: Duration = Duration::from_secs(30);
const FILE_BYTES: u32 = 200_000;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("chat_udp-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let program = std::env::current_exe()?;
    let start = |name: &str, more: &[&str]| {
        Process::start(&program, ["--name", name, "--loss", LOSS].iter().chain(more))
    };

    let mut ann = start("ann", &[])?;
    let address = ann.await_line("listening", PATIENCE)?;
    println!("ann opens a room at {address}; every 50th datagram is lost");
    let downloads = dir.display().to_string();
    let mut bob = start("bob", &["--join", &address])?;
    let mut eve = start("eve", &["--join", &address, "--downloads", &downloads])?;
    for (process, others) in
        [(&mut ann, ["bob", "eve"]), (&mut bob, ["ann", "eve"]), (&mut eve, ["ann", "bob"])]
    {
        for other in others {
            process.await_line(&format!("entered {other}"), PATIENCE)?;
        }
    }
    println!("bob and eve are in");

    ann.tell("hello everybody")?;
    bob.tell("/share")?;
    for process in [&mut bob, &mut eve] {
        process.await_line("said ann hello everybody", PATIENCE)?;
        process.await_line("screen bob", PATIENCE)?;
    }
    println!("both hear ann, and bob shows his screen");

    eve.tell("/msg bob are you there?")?;
    bob.await_line("private eve are you there?", PATIENCE)?;
    println!("bob hears what eve says to him alone: {}", eve.await_line("delivered bob", PATIENCE)?);

    let original: Vec<u8> = (0..FILE_BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = dir.join("slides.bin");
    std::fs::write(&path, &original)?;
    bob.tell(&format!("/send {}", path.display()))?;
    eve.await_line("file bob", PATIENCE)?;
    let bytes = eve.number("file", "bytes").unwrap_or(0);
    if std::fs::read(dir.join("1-slides.bin"))? != original {
        return Err(format!("eve has other bytes than bob; they are in {downloads}").into());
    }
    println!("eve has saved the {bytes} bytes that bob sent");

    bob.tell("/quit")?;
    for process in [&mut ann, &mut eve] {
        process.await_line("left bob", PATIENCE)?;
        process.await_line("screen -", PATIENCE)?;
    }
    println!("bob is gone, and nobody shows a screen");
    for process in [&mut ann, &mut eve] {
        process.tell("/quit")?;
    }
    for process in [&mut ann, &mut bob, &mut eve] {
        process.await_line("ended", PATIENCE)?;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
