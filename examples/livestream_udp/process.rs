//! A child process whose lines are read; it does not outlive its handle.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use suffuse::Clock;

pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> io::Result<Self> {
        let mut child =
            Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { unreachable!("both are piped") };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map_while(|line| sender.send(line).ok()).for_each(drop);
        });
        Ok(Self { child, input, lines, seen: Vec::new() })
    }

    pub(crate) fn tell(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.input, "{line}")
    }

    /// All that it has said.
    pub(crate) fn lines(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// What follows this word on the last line that begins with it.
    pub(crate) fn last(&mut self, word: &str) -> Option<String> {
        let lines = self.lines().iter().rev();
        let mut rests = lines.filter_map(|line| line.strip_prefix(word));
        rests.find(|rest| rest.is_empty() || rest.starts_with(' ')).map(|rest| rest.trim_start().to_owned())
    }

    /// The number behind `key=` on such a line.
    pub(crate) fn number(&mut self, word: &str, key: &str) -> Option<u64> {
        let line = self.last(word)?;
        let mut values = line.split(' ').filter_map(|pair| pair.split_once('='));
        values.find(|(name, _)| *name == key)?.1.parse().ok()
    }

    /// Waits for such a line.
    pub(crate) fn await_line(&mut self, word: &str, patience: Duration) -> Result<String, String> {
        let clock = Clock::new();
        let deadline = clock.now() + patience;
        loop {
            if let Some(rest) = self.last(word) {
                return Ok(rest);
            }
            match self.lines.recv_timeout(clock.until(deadline)) {
                Ok(line) => self.seen.push(line),
                Err(why) => return Err(format!("no `{word}` ({why}) after:\n{}", self.seen.join("\n"))),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
