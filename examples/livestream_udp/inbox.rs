//! What reaches a process: datagrams, some of them lost on purpose, and lines on its standard input. `chat_udp` uses it, too.

use std::io::{self, BufRead, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use suffuse::Epoch;

/// Happenings that wait for the engine, at most. The system's own buffer holds about a hundred datagrams, too few for a
/// burst from several peers while this process waits for a processor.
const INBOX_LEN: usize = 4_096;

/// What came on standard input.
pub(crate) enum Line {
    Said(String),
    End,
}

pub(crate) fn name(address: SocketAddrV4) -> u64 {
    u64::from(u32::from(*address.ip())) << 16 | u64::from(address.port())
}

pub(crate) fn address(name: u64) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from((name >> 16) as u32), name as u16)
}

/// The wall clock in seconds: a later start gives a greater epoch.
#[allow(clippy::disallowed_types, reason = "a host may read clocks")]
pub(crate) fn now_in_seconds() -> Epoch {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Epoch(since.as_secs() as u32)
}

pub(crate) enum Happening {
    Datagram(SocketAddrV4, Bytes),
    Line(Line),
    Failed(io::Error),
}

/// Two threads that only read, so that the engine's own can sleep until something arrives or is due, and no longer.
pub(crate) fn open_inbox(socket: UdpSocket) -> Receiver<Happening> {
    let (sender, inbox) = sync_channel(INBOX_LEN);
    let lines = sender.clone();
    std::thread::spawn(move || read_datagrams(&socket, &sender));
    std::thread::spawn(move || {
        let said = io::stdin().lock().lines().map_while(Result::ok).map(Line::Said);
        said.chain([Line::End]).map_while(|line| lines.send(Happening::Line(line)).ok()).for_each(drop);
    });
    inbox
}

fn read_datagrams(socket: &UdpSocket, inbox: &SyncSender<Happening>) {
    let mut datagram = vec![0; 65_536];
    loop {
        let happening = match socket.recv_from(&mut datagram) {
            Ok((len, SocketAddr::V4(from))) => {
                Happening::Datagram(from, Bytes::copy_from_slice(&datagram[..len]))
            }
            Ok((_, SocketAddr::V6(_))) => continue,
            // Some systems report here that an earlier datagram found a closed port; liveness will find out.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => Happening::Failed(error),
        };
        let failed = matches!(happening, Happening::Failed(_));
        if inbox.send(happening).is_err() || failed {
            return;
        }
    }
}

/// Injected loss: a small generator is enough.
pub(crate) struct Loss {
    state: u64,
    threshold: u64,
}

impl Loss {
    pub(crate) fn new(seed: u64, share: f64) -> Self {
        Self { state: seed, threshold: (share * f64::from(u32::MAX)) as u64 }
    }

    pub(crate) fn strikes(&mut self) -> bool {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 32 < self.threshold
    }
}
