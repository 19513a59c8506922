//! The control socket: how commands on the same machine speak to a running server. A Unix socket that only its owner can open.
//!
//! ```text
//! asked     fourfold 1 VERB\n
//! answered  ok TEXT\n  or  error TEXT\n, then what the verb is followed by, up to the end of the connection
//! ```
//!
//! Verbs: `reload` reads the configuration again; `backup` is followed by a backup, see `fourfold_engines::embedded::backup`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

/// Its name in the data directory.
pub(crate) const NAME: &str = "control.sock";

/// The first word of every request, and the version of what follows it.
const GREETING: &str = "fourfold 1 ";

/// The longest line, in bytes, either way: a verb is a word, and an answer a sentence.
const LINE_MAX: u64 = 4 << 10;

/// How many are answered at once. A person, a timer, a monitor; each costs a thread.
const ASKING_MAX: usize = 4;

/// How long a line may take to come: who asks has it ready.
const LINE_WITHIN: Duration = Duration::from_secs(5);

/// How long the server may take to answer: a reload may ask another server for keys.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A write waits so long at a time; what writes much looks up in between.
pub(crate) const WRITE_WITHIN: Duration = Duration::from_millis(250);

/// What the server does when it is asked. Each answers with a sentence.
pub(crate) trait Controlled: Send + Sync + 'static {
    /// Reads the configuration again.
    fn reload(&self) -> Result<String, String>;

    /// Writes a backup behind the sentence that `ready` is given.
    fn backup(&self, out: &UnixStream, ready: &mut dyn FnMut(&str) -> io::Result<()>) -> Result<(), String>;
}

/// An open control socket. Dropping it removes the file; who is being answered is answered.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    path: PathBuf,
    socket: Socket,
    accepting: Option<JoinHandle<()>>,
}

impl ControlSocket {
    /// Opens it at `path`, in place of one that nobody serves any more.
    ///
    /// Errors: the directory is not there or cannot be written, another server answers there, or something that is no socket is there.
    pub(crate) fn open(path: &Path, controlled: Arc<dyn Controlled>) -> io::Result<Self> {
        let place = Place::of(path)?;
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
            }
            Ok(_) if UnixStream::connect(place.short()).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there"));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(place.short())?)?;
        // Before it listens: until then nobody can come in by any permission.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket.listen(i32::try_from(ASKING_MAX).unwrap_or(i32::MAX))?;
        let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket.try_clone()?));
        let accepting =
            thread::Builder::new().name("fourfold-control".into()).spawn(move || accept(&listener, &controlled))?;
        Ok(Self { path: path.to_owned(), socket, accepting: Some(accepting) })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Whoever was faster has removed it.
        let _ = fs::remove_file(&self.path);
        // Wakes the thread that accepts.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &UnixListener, controlled: &Arc<dyn Controlled>) {
    let asking = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // The end, see above.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(%error, "the control socket could not be asked");
                thread::sleep(WRITE_WITHIN);
                continue;
            }
        };
        let place = Asking::sit(&asking);
        if place.number > ASKING_MAX {
            let _ = say(&stream, "error", "too many ask at once: try again");
            continue;
        }
        let controlled = Arc::clone(controlled);
        let answering = thread::Builder::new().name("fourfold-asked".into()).spawn(move || {
            let _place = place;
            if let Err(error) = answer(&stream, &*controlled) {
                tracing::debug!(%error, "who asked at the control socket has gone");
            }
        });
        if let Err(error) = answering {
            tracing::warn!(%error, "the control socket could not be answered");
        }
    }
}

/// One who is being answered.
struct Asking {
    all: Arc<AtomicUsize>,
    number: usize,
}

impl Asking {
    fn sit(all: &Arc<AtomicUsize>) -> Self {
        Self { number: all.fetch_add(1, Ordering::SeqCst) + 1, all: Arc::clone(all) }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answer(stream: &UnixStream, controlled: &dyn Controlled) -> io::Result<()> {
    stream.set_read_timeout(Some(LINE_WITHIN))?;
    stream.set_write_timeout(Some(WRITE_WITHIN))?;
    let line = line(stream)?;
    let Some(verb) = line.strip_prefix(GREETING) else {
        return say(stream, "error", "this is the control socket of a fourfold that speaks version 1");
    };
    tracing::info!(verb, "asked at the control socket");
    match verb {
        "reload" => match controlled.reload() {
            Ok(done) => say(stream, "ok", &done),
            Err(why) => say(stream, "error", &why),
        },
        "backup" => {
            let mut begun = false;
            let mut ready = |text: &str| {
                begun = true;
                say(stream, "ok", text)
            };
            match controlled.backup(stream, &mut ready) {
                Ok(()) => Ok(()),
                // What was sent says by itself that it is not whole.
                Err(why) if begun => {
                    tracing::warn!(why, "a backup was broken off");
                    Ok(())
                }
                Err(why) => say(stream, "error", &why),
            }
        }
        _ => say(stream, "error", "the verbs are reload and backup"),
    }
}

fn say(mut stream: &UnixStream, word: &str, text: &str) -> io::Result<()> {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = format!("{word} {text}");
    while line.len() as u64 >= LINE_MAX {
        line.pop();
    }
    line.push('\n');
    stream.write_all(line.as_bytes())
}

/// The line without its end; nothing behind it is read.
fn line(stream: impl Read) -> io::Result<String> {
    // A byte at a time, so that what follows stays where it is.
    let mut from = BufReader::with_capacity(1, stream).take(LINE_MAX);
    let mut line = String::new();
    from.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(whole.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line has no end")),
    }
}

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody is there.
    #[error("no server answers at {}: {}; is it running, with that data directory?", .0.display(), .1)]
    NotThere(PathBuf, io::Error),
    /// It said why.
    #[error("the server says: {0}")]
    Refused(String),
    /// It is another program, or it has ended meanwhile.
    #[error("{} does not answer as a server does: {}", .0.display(), .1)]
    Garbled(PathBuf, String),
}

/// Asks the server whose control socket is at `path`. Returns what it says, and the connection for what follows.
pub(crate) fn ask(path: &Path, verb: &str) -> Result<(String, UnixStream), AskError> {
    let not_there = |error| AskError::NotThere(path.to_owned(), error);
    let garbled = |error: io::Error| AskError::Garbled(path.to_owned(), error.to_string());
    let place = Place::of(path).map_err(not_there)?;
    let mut stream = UnixStream::connect(place.short()).map_err(not_there)?;
    stream.set_write_timeout(Some(LINE_WITHIN)).map_err(garbled)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(garbled)?;
    stream.write_all(format!("{GREETING}{verb}\n").as_bytes()).map_err(garbled)?;
    let line = line(&stream).map_err(garbled)?;
    match line.split_once(' ') {
        Some(("ok", text)) => Ok((text.to_owned(), stream)),
        Some(("error", why)) => Err(AskError::Refused(why.to_owned())),
        _ => Err(AskError::Garbled(path.to_owned(), "neither 'ok' nor 'error'".into())),
    }
}

/// A path that is short however deep it lies: a socket's address has room for 108 bytes.
struct Place {
    directory: File,
    name: PathBuf,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self { directory: File::open(parent)?, name: name.into() })
    }

    fn short(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted;

    impl Controlled for Counted {
        fn reload(&self) -> Result<String, String> {
            Ok("all\nread".into())
        }

        fn backup(&self, mut out: &UnixStream, ready: &mut dyn FnMut(&str) -> io::Result<()>) -> Result<(), String> {
            ready("it follows").and_then(|()| out.write_all(b"bytes")).map_err(|error| error.to_string())
        }
    }

    fn open(path: &Path) -> io::Result<ControlSocket> {
        ControlSocket::open(path, Arc::new(Counted))
    }

    #[test]
    fn it_answers_and_only_its_owner_can_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let socket = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ask(&path, "reload").unwrap().0, "all read");
        let (text, mut rest) = ask(&path, "backup").unwrap();
        let mut bytes = Vec::new();
        rest.read_to_end(&mut bytes).unwrap();
        assert_eq!((text.as_str(), bytes.as_slice()), ("it follows", b"bytes".as_slice()));
        let error = ask(&path, "halt").unwrap_err().to_string();
        assert_eq!(error, "the server says: the verbs are reload and backup");
        drop(socket);
        assert!(!path.exists());
        assert!(matches!(ask(&path, "reload"), Err(AskError::NotThere(..))));
    }

    #[test]
    fn a_path_may_be_longer_than_an_address() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        fs::create_dir(&deep).unwrap();
        let path = deep.join(NAME);
        let _socket = open(&path).unwrap();
        assert!(path.exists());
        assert!(ask(&path, "reload").is_ok());
    }

    #[test]
    fn a_socket_that_nobody_serves_makes_room_and_one_that_is_served_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a kill leaves it");
        let _socket = open(&path).unwrap();
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert_eq!(open(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn whoever_says_nothing_of_sense_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let _socket = open(&path).unwrap();
        let told = |bytes: &[u8]| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            // The server may have hung up on what it did not read.
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        assert!(told(b"GET / HTTP/1.1\r\n\r\n").starts_with("error this is the control socket"));
        assert!(told(b"fourfold 2 reload\n").starts_with("error this is the control socket"));
        assert_eq!(told(b"fourfold 1 reload"), "", "a line without an end");
        assert_eq!(told(&[b'x'; 10_000]), "");
        assert_eq!(told(&[0xff, b'\n']), "");
        assert_eq!(told(b"fourfold 1 reload\n"), "ok all read\n");
    }
}
