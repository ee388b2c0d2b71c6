//! Real processes on loopback: nine of `examples/udp_node`, 5 % of their datagrams lost, a file of more than a mebibyte,
//! two killed, one of them started again. Everybody who is there in the end has everything, byte for byte.

#![allow(clippy::disallowed_types, reason = "a test of real processes waits in real time")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const NODES: usize = 9;
const FILE_BYTES: usize = 1_200_000;
/// Nobody waits longer than this; a run takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(120);

struct Node {
    port: u16,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    seen: Vec<String>,
    out: PathBuf,
}

impl Node {
    fn start(port: u16, contact: Option<u16>, out: &Path) -> Self {
        let out = out.join(port.to_string());
        std::fs::create_dir_all(&out).expect("a directory for received files");
        let mut command = Command::new(binary());
        command.arg(address(port)).args(contact.map(address));
        command.args(["--loss", "0.05", "--seed", &port.to_string(), "--out"]).arg(&out);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the example starts");
        let input = child.stdin.take().expect("standard input is piped");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .take_while(|line| sender.send(line.clone()).is_ok())
                .for_each(drop);
        });
        Self { port, child, input, lines, seen: Vec::new(), out }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the process listens");
    }

    fn count(&mut self, wanted: impl Fn(&str) -> bool) -> usize {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().filter(|line| wanted(line)).count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn survivors_and_the_restarted_have_everything() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("udp_processes");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory for the test");
    let file: Vec<u8> =
        (0..FILE_BYTES as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let path = dir.join("file");
    std::fs::write(&path, &file).expect("the file to send");

    let ports = free_ports(NODES);
    let mut nodes: BTreeMap<u16, Node> = BTreeMap::new();
    for (index, &port) in ports.iter().enumerate() {
        let contact = (index > 0).then_some(ports[0]);
        nodes.insert(port, Node::start(port, contact, &dir));
    }
    await_all(&mut nodes, "joined", |node, _| node.count(|line| line == "joined") > 0);

    let sender = ports[1];
    nodes.get_mut(&sender).expect("the sender").tell(&format!("file {}", path.display()));
    for (&port, node) in &mut nodes {
        node.tell(&format!("say first from {port}"));
    }
    // Two die while the file is under way.
    std::thread::sleep(Duration::from_millis(100));
    let (gone, back) = (ports[4], ports[6]);
    for port in [gone, back] {
        nodes.remove(&port);
    }
    // Epochs are seconds here, so the second life must begin in a later one.
    std::thread::sleep(Duration::from_millis(1_100));
    nodes.insert(back, Node::start(back, Some(ports[0]), &dir));
    await_all(&mut nodes, "joined again", |node, _| node.count(|line| line == "joined") > 0);
    for (&port, node) in &mut nodes {
        node.tell(&format!("say second from {port}"));
    }

    let present: Vec<_> = nodes.keys().copied().collect();
    let line = |port: u16, text: &str| format!("{} says {text} from {port}", address(port));
    await_all(&mut nodes, "the second messages", |node, own| {
        let others = present.iter().filter(|&&port| port != own);
        others.clone().all(|&port| node.count(|seen| seen == line(port, "second")) == 1)
    });
    await_all(&mut nodes, "the first messages of those that never died", |node, own| {
        let others = present.iter().filter(|&&port| port != own && port != back);
        others.clone().all(|&port| node.count(|seen| seen == line(port, "first")) == 1)
    });
    let sent = format!("{} sent a file of {FILE_BYTES} bytes", address(sender));
    await_all(&mut nodes, "the file", |node, own| own == sender || node.count(|seen| seen == sent) == 1);
    for node in nodes.values().filter(|node| node.port != sender) {
        let files: Vec<_> = std::fs::read_dir(&node.out).expect("its directory").flatten().collect();
        assert_eq!(files.len(), 1, "node {} wrote {files:?}", node.port);
        let received = std::fs::read(files[0].path()).expect("a received file");
        assert!(received == file, "node {} received another file", node.port);
    }
    // Nothing comes twice, however long one waits.
    std::thread::sleep(Duration::from_secs(1));
    for (&own, node) in &mut nodes {
        for &port in present.iter().filter(|&&port| port != own) {
            for text in ["first", "second"] {
                let times = node.count(|seen| seen == line(port, text));
                assert!(times <= 1, "node {own} printed {text} of {port} {times} times");
            }
        }
    }
}

fn await_all(nodes: &mut BTreeMap<u16, Node>, what: &str, done: impl Fn(&mut Node, u16) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waiting: Vec<_> =
            nodes.iter_mut().filter_map(|(&port, node)| (!done(node, port)).then_some(port)).collect();
        if waiting.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for port in &waiting {
                eprintln!("--- node {port} printed:\n{}", nodes[port].seen.join("\n"));
            }
            panic!("nodes {waiting:?} still wait for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Ports that nobody uses at the moment; held together, so that they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let sockets: Vec<_> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("a bound socket").port()).collect()
}

/// `cargo test` builds the examples of the package beside its tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a profile directory above the test");
    let binary = profile.join("examples").join(format!("udp_node{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.exists(),
        "{} is missing: run the whole of `cargo test`, or `cargo build --examples`",
        binary.display()
    );
    binary
}
