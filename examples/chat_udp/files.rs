//! Files in pieces. They travel as messages to everybody, which arrive in the order of their sender: first what the file is
//! called and how long it is, then its bytes. So a receiver only ever appends.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;
/// Of a frame of 1,200 bytes the engine takes less than what is left.
const PIECE_BYTES: usize = 1_024;
/// Files under way at once, at most one of each sender: others decide how many there are.
const OPEN_FILES_MAX: usize = 64;
const FILE_NAME_BYTES_MAX: usize = 200;
/// Files of the same name in one directory.
const SAME_NAME_MAX: usize = 1_000;

/// What a message to everybody is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Text(Bytes),
    /// A file begins: its length, its name.
    File(u64, Bytes),
    Piece(Bytes),
}

impl Said {
    pub(crate) fn pack(&self) -> Bytes {
        let mut payload = BytesMut::new();
        match self {
            Self::Text(text) => {
                payload.put_u8(0);
                payload.put_slice(text);
            }
            Self::File(bytes, name) => {
                payload.put_u8(1);
                payload.put_u64_le(*bytes);
                payload.put_slice(name);
            }
            Self::Piece(piece) => {
                payload.put_u8(2);
                payload.put_slice(piece);
            }
        }
        payload.freeze()
    }

    pub(crate) fn unpack(payload: &Bytes) -> Option<Self> {
        let body = payload.get(1..).map(|_| payload.slice(1..))?;
        match payload[0] {
            0 => Some(Self::Text(body)),
            1 => {
                let bytes = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
                Some(Self::File(bytes, body.slice(8..)))
            }
            2 => Some(Self::Piece(body)),
            _ => None,
        }
    }
}

/// Own files that are not sent yet.
#[derive(Default)]
pub(crate) struct Outgoing {
    files: VecDeque<Sending>,
}

struct Sending {
    path: String,
    name: Bytes,
    bytes: Bytes,
    begun: bool,
    sent: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(crate) fn add(&mut self, path: &str) -> Result<(), String> {
        let read = || -> io::Result<Vec<u8>> {
            let bytes = std::fs::metadata(path)?.len();
            if bytes > FILE_BYTES_MAX {
                return Err(io::Error::other(format!("{bytes} bytes, more than {FILE_BYTES_MAX}")));
            }
            std::fs::read(path)
        };
        let bytes = read().map_err(|error| format!("{path}: {error}"))?.into();
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let name = Bytes::copy_from_slice(safe_name(name.as_bytes()).as_bytes());
        self.files.push_back(Sending { path: path.to_owned(), name, bytes, begun: false, sent: 0 });
        Ok(())
    }

    /// What comes next; [`Self::advance`] says that it was sent.
    pub(crate) fn next(&self) -> Option<Said> {
        let file = self.files.front()?;
        if !file.begun {
            return Some(Said::File(file.bytes.len() as u64, file.name.clone()));
        }
        let end = file.bytes.len().min(file.sent + PIECE_BYTES);
        Some(Said::Piece(file.bytes.slice(file.sent..end)))
    }

    /// The length and the path of a file whose last piece that was.
    pub(crate) fn advance(&mut self) -> Option<(usize, String)> {
        let file = self.files.front_mut()?;
        if file.begun {
            file.sent = file.bytes.len().min(file.sent + PIECE_BYTES);
        }
        file.begun = true;
        if file.sent < file.bytes.len() {
            return None;
        }
        self.files.pop_front().map(|file| (file.bytes.len(), file.path))
    }
}

/// Puts the files of others together.
pub(crate) struct Incoming {
    dir: Option<PathBuf>,
    open: BTreeMap<u64, Receiving>,
}

struct Receiving {
    path: PathBuf,
    file: File,
    bytes: u64,
    missing: u64,
}

/// A file that is whole.
pub(crate) struct Saved {
    pub(crate) bytes: u64,
    pub(crate) path: PathBuf,
}

impl Incoming {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir, open: BTreeMap::new() }
    }

    /// A file of this sender begins; its earlier one, if that is not whole, is given up.
    pub(crate) fn begin(&mut self, from: u64, bytes: u64, name: &[u8]) -> io::Result<Option<Saved>> {
        self.give_up(from)?;
        let Some(dir) = &self.dir else { return Ok(None) };
        if bytes > FILE_BYTES_MAX || self.open.len() >= OPEN_FILES_MAX {
            return Err(io::Error::other("too long, or too many at once"));
        }
        let (path, file) = create(dir, &safe_name(name))?;
        self.open.insert(from, Receiving { path, file, bytes, missing: bytes });
        self.finish(from)
    }

    /// The next bytes of its file.
    pub(crate) fn take(&mut self, from: u64, piece: &[u8]) -> io::Result<Option<Saved>> {
        // Who came when the file was half sent, or saves none, hears pieces of what it does not know.
        let Some(receiving) = self.open.get_mut(&from) else { return Ok(None) };
        let missing = receiving.missing.checked_sub(piece.len() as u64);
        let written = missing.map_or_else(
            || Err(io::Error::other("longer than announced")),
            |missing| receiving.file.write_all(piece).map(|()| missing),
        );
        match written {
            Ok(missing) => receiving.missing = missing,
            Err(error) => {
                self.give_up(from)?;
                return Err(error);
            }
        }
        self.finish(from)
    }

    /// What is half there of this sender's file is removed.
    pub(crate) fn give_up(&mut self, from: u64) -> io::Result<()> {
        self.open.remove(&from).map_or(Ok(()), |receiving| std::fs::remove_file(receiving.path))
    }

    /// What is half there is removed.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        std::mem::take(&mut self.open).into_values().try_for_each(|half| std::fs::remove_file(half.path))
    }

    fn finish(&mut self, from: u64) -> io::Result<Option<Saved>> {
        if self.open.get(&from).is_none_or(|receiving| receiving.missing > 0) {
            return Ok(None);
        }
        let Some(mut whole) = self.open.remove(&from) else { return Ok(None) };
        whole.file.flush()?;
        Ok(Some(Saved { bytes: whole.bytes, path: whole.path }))
    }
}

/// A file that was not there, so that nobody overwrites what others sent.
fn create(dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let names = (1..SAME_NAME_MAX).map(|number| format!("{number}-{name}"));
    for name in [name.to_owned()].into_iter().chain(names) {
        let path = dir.join(name);
        match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|file| (path, file)),
        }
    }
    Err(io::Error::other("too many files of this name"))
}

/// What others call a file must not lead out of the directory, nor hide in it.
fn safe_name(name: &[u8]) -> String {
    let safe = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte),
        _ => '_',
    };
    let name: String = name.iter().take(FILE_NAME_BYTES_MAX).map(safe).collect();
    match name.trim_start_matches('.') {
        "" => "file".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_directory() {
        assert_eq!(safe_name(b"../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(safe_name(b".."), "file");
        assert_eq!(safe_name(b""), "file");
        assert_eq!(safe_name(b"a b\n.txt"), "a_b_.txt");
        assert_eq!(safe_name(&[b'x'; 1_000]).len(), FILE_NAME_BYTES_MAX);
    }

    #[test]
    fn messages_come_back_and_nonsense_is_refused() {
        let bytes = Bytes::from_static(b"hello");
        for said in [Said::Text(bytes.clone()), Said::File(7, bytes.clone()), Said::Piece(bytes)] {
            assert_eq!(Said::unpack(&said.pack()), Some(said));
        }
        for nonsense in [&[][..], &[1, 0, 0], &[3, 1]] {
            assert_eq!(Said::unpack(&Bytes::from_static(nonsense)), None);
        }
    }

    #[test]
    fn what_leaves_in_pieces_comes_back_whole() {
        let dir = std::env::temp_dir().join(format!("chat_udp-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for len in [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 5] {
            let path = dir.join("original");
            let original: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            std::fs::write(&path, &original).unwrap();
            let (mut outgoing, mut incoming) = (Outgoing::default(), Incoming::new(Some(dir.clone())));
            outgoing.add(&path.to_string_lossy()).unwrap();
            let mut saved = None;
            while let Some(said) = outgoing.next() {
                assert!(saved.is_none(), "{len} bytes are whole too early");
                saved = match said {
                    Said::File(bytes, name) => incoming.begin(1, bytes, &name).unwrap(),
                    Said::Piece(piece) => incoming.take(1, &piece).unwrap(),
                    Said::Text(_) => unreachable!("a file has no text"),
                };
                outgoing.advance();
            }
            let saved = saved.expect("the file is whole");
            assert!(saved.path != path && saved.bytes == len as u64);
            assert_eq!(std::fs::read(saved.path).unwrap(), original);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_grows_too_long_or_never_ends_leaves_nothing_behind() {
        let dir = std::env::temp_dir().join(format!("chat_udp-grows-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut incoming = Incoming::new(Some(dir.clone()));
        assert!(incoming.begin(1, 4, b"short").unwrap().is_none());
        assert!(incoming.take(1, b"12345").is_err());
        assert!(incoming.take(1, b"1").unwrap().is_none());
        assert!(incoming.begin(2, FILE_BYTES_MAX + 1, b"long").is_err());
        assert!(incoming.begin(3, 2, b"half").unwrap().is_none());
        incoming.end().unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
