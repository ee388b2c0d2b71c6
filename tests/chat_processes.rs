//! Real processes on loopback: `examples/chat_udp`, a room of seven, 2 % of the datagrams lost. They talk, two claim the
//! screen at once, one is killed and comes back, two who cannot hear each other talk through others, a file goes to
//! everybody, one is thrown out. Everybody hears every line once, in the order of its sender.

use std::path::{Path, PathBuf};
use std::time::Duration;

use suffuse::Clock;

#[path = "../examples/livestream_udp/process.rs"]
mod process;

use process::Process;

const LOSS: &str = "0.02";
/// Nobody waits longer than this for anything; a run takes less.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);
const LINES: usize = 8;
const FILE_BYTES: usize = 300_000;

#[test]
fn a_room_talks_shows_loses_and_finds_its_participants() {
    let mut room = Room::new();
    let ann = room.open("ann", &[]);
    for name in ["bob", "cat", "dan", "eve", "fay"] {
        room.open(name, &["--join", &ann]);
    }
    // Neither hears the other; it comes in through somebody else.
    let (bob, cat) = (room.address("bob"), room.address("cat"));
    room.open("gus", &["--join", &bob, "--founder", &ann, "--deaf-to", &cat]);
    room.await_roster(&["ann", "bob", "cat", "dan", "eve", "fay", "gus"]);

    for line in 0..LINES {
        for name in room.names() {
            room.say(&name, &format!("line {line} of {name}"));
        }
    }
    room.await_talk();

    // Two claim the screen at once: one has it, everywhere, and the other is told or was too late.
    room.tell("bob", "/share");
    room.tell("dan", "/share");
    let holder = room.await_screen(&["bob", "dan"]);
    let loser = if holder == "bob" { "dan" } else { "bob" };
    room.tell(loser, "/stop");
    room.await_line(loser, "error this engine does not show its screen; nothing was changed");
    room.tell(&holder, "/stop");
    room.await_screen(&["-"]);
    room.tell(loser, "/share");
    room.await_screen(&[loser]);
    room.tell("eve", "/hand");
    room.await_at_others("eve", "hand eve up");

    let fay = room.address("fay");
    room.drop_member("fay");
    room.await_at_others("fay", "left fay lost");
    room.await_roster(&["ann", "bob", "cat", "dan", "eve", "gus"]);
    room.say("cat", "where is fay?");
    room.await_talk();

    room.open("fay", &["--bind", &fay, "--join", &bob, "--founder", &ann]);
    room.await_roster(&["ann", "bob", "cat", "dan", "eve", "fay", "gus"]);
    room.say("fay", "here I am");
    room.say("cat", "there she is");
    room.await_talk();

    // The first ones may wait for somebody who seemed to be gone; what counts is that it works without a link.
    let mut privates = Vec::new();
    while !room.heard("cat", "delivered gus via=relayed") {
        assert!(privates.len() < 10, "nothing was relayed from cat to gus: {}", room.lines("cat").join("\n"));
        let text = format!("psst {}", privates.len());
        room.tell("cat", &format!("/msg gus {text}"));
        room.await_line("gus", &format!("private cat {text}"));
        privates.push(format!("private cat {text}"));
        room.await_count("cat", "delivered gus", privates.len());
    }
    let heard = room.lines("gus");
    let heard: Vec<_> = heard.into_iter().filter(|line| line.starts_with("private ")).collect();
    assert_eq!(heard, privates);
    assert!(!room.lines("cat").iter().any(|line| line.starts_with("delivered gus via=direct")));

    room.send_file("dan");

    // Who did not open the room throws nobody out.
    room.tell("cat", "/kick eve");
    room.await_line("cat", "error only a moderator or the founder can do this; nothing was changed");
    room.tell("ann", "/kick eve");
    room.await_line("eve", "removed thrown_out");
    room.await_line("eve", "ended");
    room.drop_member("eve");
    room.await_roster(&["ann", "bob", "cat", "dan", "fay", "gus"]);

    room.say("gus", "good night");
    room.await_talk();
    for name in room.names() {
        room.tell(&name, "/quit");
    }
    for name in room.names() {
        room.await_line(&name, "ended");
    }
    room.check_talk();
    room.clean();
}

/// A participant, and what it must have heard.
struct Member {
    name: String,
    address: String,
    process: Process,
    expected: Vec<(String, Vec<String>)>,
}

struct Room {
    seed: u64,
    dir: PathBuf,
    members: Vec<Member>,
    started: u64,
}

impl Room {
    fn new() -> Self {
        let seed = std::env::var("SUFFUSE_CHAT_SEED")
            .map_or(1, |seed| seed.parse().expect("SUFFUSE_CHAT_SEED is a number"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chat_processes");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory for the test");
        Self { seed, dir, members: Vec::new(), started: 0 }
    }

    /// Starts a participant, and waits until it is in. Its address.
    fn open(&mut self, name: &str, args: &[&str]) -> String {
        self.started += 1;
        let seed = (self.seed * 1_000 + self.started).to_string();
        let downloads = self.downloads(name);
        std::fs::create_dir_all(&downloads).expect("a directory for downloads");
        let downloads = downloads.to_string_lossy();
        let common = ["--name", name, "--loss", LOSS, "--seed", &seed, "--downloads", &downloads];
        let mut process = Process::start(&binary(), common.iter().chain(args)).expect("the example starts");
        let address = process.await_line("listening", PATIENCE).unwrap_or_else(|why| panic!("{name}: {why}"));
        let member = Member { name: name.to_owned(), address, process, expected: Vec::new() };
        self.members.push(member);
        self.await_line(name, "joined");
        self.address(name)
    }

    fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name == name).expect("a member of this name")
    }

    fn address(&mut self, name: &str) -> String {
        self.member(name).address.clone()
    }

    fn lines(&mut self, name: &str) -> Vec<String> {
        self.member(name).process.lines().to_vec()
    }

    fn downloads(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn tell(&mut self, name: &str, line: &str) {
        self.member(name).process.tell(line).unwrap_or_else(|why| panic!("{name} is not there: {why}"));
    }

    /// Says a line, which everybody who is in now must hear.
    fn say(&mut self, name: &str, text: &str) {
        self.tell(name, text);
        for member in self.members.iter_mut().filter(|member| member.name != name) {
            match member.expected.iter_mut().find(|(from, _)| from == name) {
                Some((_, texts)) => texts.push(text.to_owned()),
                None => member.expected.push((name.to_owned(), vec![text.to_owned()])),
            }
        }
    }

    fn await_line(&mut self, name: &str, line: &str) {
        let waited = self.member(name).process.await_line(line, PATIENCE);
        waited.unwrap_or_else(|why| panic!("{name}: {why}"));
    }

    fn await_at_others(&mut self, name: &str, line: &str) {
        for other in self.names().into_iter().filter(|other| other != name) {
            self.await_line(&other, line);
        }
    }

    fn heard(&mut self, name: &str, line: &str) -> bool {
        self.member(name).process.last(line).is_some()
    }

    fn await_count(&mut self, name: &str, word: &str, count: usize) {
        self.until(&format!("{count} times `{word}` at {name}"), |room| {
            let lines = room.lines(name);
            let found = lines.iter().filter(|line| line.starts_with(word)).count();
            if found == count { Ok(()) } else { Err(lines.join("\n")) }
        });
    }

    /// Waits until everybody has the last lines of everybody, and checks the others.
    fn await_talk(&mut self) {
        for member in &mut self.members {
            for (from, texts) in &member.expected {
                let last = texts.last().expect("something was said");
                let waited = member.process.await_line(&format!("said {from} {last}"), PATIENCE);
                waited.unwrap_or_else(|why| panic!("{}: {why}", member.name));
            }
        }
        self.check_talk();
    }

    /// Everybody heard what it must have heard: each line once, in the order of its sender.
    fn check_talk(&mut self) {
        for member in &mut self.members {
            let lines = member.process.lines().to_vec();
            let said = |line: &String| line.starts_with("said ");
            let all: usize = member.expected.iter().map(|(_, texts)| texts.len()).sum();
            for (from, texts) in &member.expected {
                let prefix = format!("said {from} ");
                let heard: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
                assert_eq!(&heard, texts, "{} heard {from} say this", member.name);
            }
            assert_eq!(lines.iter().filter(|&line| said(line)).count(), all, "{} heard more", member.name);
            let missed = lines.iter().find(|line| line.starts_with("missed "));
            assert_eq!(missed, None, "{} missed something", member.name);
        }
    }

    /// Waits until everybody names the same participants in the same order.
    fn await_roster(&mut self, expected: &[&str]) {
        self.until(&format!("the roster {expected:?}"), |room| {
            let mut rosters = Vec::new();
            for member in &mut room.members {
                let asked = member.process.lines().iter().filter(|line| is_roster(line)).count();
                member.process.tell("/roster").expect("it listens");
                let clock = Clock::new();
                let latest = clock.now() + PATIENCE;
                while member.process.lines().iter().filter(|line| is_roster(line)).count() == asked {
                    assert!(clock.now() < latest, "{} does not answer", member.name);
                    std::thread::sleep(PAUSE / 20);
                }
                rosters.push(member.process.last("roster").unwrap_or_default());
            }
            let mut names: Vec<_> = rosters[0].split(' ').collect();
            names.sort_unstable();
            let same = rosters.iter().all(|roster| *roster == rosters[0]);
            if same && names == expected { Ok(()) } else { Err(rosters.join("\n")) }
        });
    }

    /// Waits until everybody names the same one of these as the one whose screen is shown.
    fn await_screen(&mut self, either: &[&str]) -> String {
        let mut screen = String::new();
        self.until(&format!("the screen of one of {either:?}"), |room| {
            let screens = room.members.iter_mut().map(|member| member.process.last("screen"));
            let screens: Vec<_> = screens.map(Option::unwrap_or_default).collect();
            let same = screens.iter().all(|other| *other == screens[0]);
            screen.clone_from(&screens[0]);
            if same && either.contains(&screen.as_str()) { Ok(()) } else { Err(screens.join(" ")) }
        });
        screen
    }

    /// One sends a file, and everybody else has it byte for byte.
    fn send_file(&mut self, from: &str) {
        let mut state = self.seed;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let original: Vec<u8> = (0..FILE_BYTES).map(|_| byte()).collect();
        let path = self.dir.join("slides.bin");
        std::fs::write(&path, &original).expect("the file to send");
        self.tell(from, &format!("/send {}", path.display()));
        for name in self.names().into_iter().filter(|name| name != from) {
            self.await_line(&name, &format!("file {from}"));
            let bytes = self.member(&name).process.number("file", "bytes");
            assert_eq!(bytes, Some(FILE_BYTES as u64), "{name} got as many bytes");
            let saved = std::fs::read(self.downloads(&name).join("slides.bin")).expect("it is saved");
            assert!(saved == original, "{name} has other bytes");
        }
    }

    /// Nothing is expected of this participant any more: dropping its process is a kill.
    fn drop_member(&mut self, name: &str) {
        self.members.retain(|member| member.name != name);
    }

    fn until(&mut self, what: &str, mut check: impl FnMut(&mut Self) -> Result<(), String>) {
        let clock = Clock::new();
        let latest = clock.now() + PATIENCE;
        while let Err(instead) = check(self) {
            assert!(clock.now() < latest, "not {what}, but\n{instead}");
            std::thread::sleep(PAUSE);
        }
    }

    fn clean(&self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SUFFUSE_CHAT_SEED={}; the files are in {}", self.seed, self.dir.display());
        }
    }
}

fn is_roster(line: &str) -> bool {
    line.starts_with("roster ")
}

/// `cargo test` builds the examples of the package beside its tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a profile directory above the test");
    let binary = profile.join("examples").join(format!("chat_udp{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.exists(),
        "{} is missing: run the whole of `cargo test`, or `cargo build --examples`",
        binary.display()
    );
    binary
}
