//! `fourfold backup` and `fourfold restore`: everything a server keeps, in one file, and the way back.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fourfold_engines::embedded::{
    OpenFailure,
    backup::{self, BackupError, RestoreError, Summary},
};

use crate::{
    cli::{BackupArgs, RestoreArgs},
    control_socket::{self, AskError},
    retry,
};

/// A server that sends nothing for so long has been stopped.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("a process has {} open, but it does not answer at {}: say with --socket where its control socket is", dir.display(), socket.display())]
    Held { dir: PathBuf, socket: PathBuf },
    #[error("the backup did not come whole: {0}")]
    NotWhole(RestoreError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("give --to FILE: a terminal cannot take a backup")]
    Terminal,
}

impl CopyError {
    /// 2 for what would be refused again as it was typed.
    pub(crate) fn status(&self) -> u8 {
        use RestoreError::{Format, NoBackup, NotEmpty, Version};
        match self {
            Self::Terminal | Self::Restore(NoBackup | Version(_) | Format(_) | NotEmpty(_)) => 2,
            _ => 1,
        }
    }
}

/// Writes a backup where the arguments say.
pub(crate) fn backup(args: &BackupArgs) -> Result<(), CopyError> {
    let began = Instant::now();
    let summary = if args.to.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            return Err(CopyError::Terminal);
        }
        let named = |source| CopyError::File { path: "standard output".into(), source };
        let summary = make(args, &mut out)?;
        out.flush().map_err(named)?;
        summary
    } else {
        let mut file = Unfinished::create(&args.to)?;
        let summary = make(args, &mut file.file)?;
        file.finish()?;
        summary
    };
    let took = began.elapsed().as_secs_f64();
    retry::tell(&format!("backed up {} in {took:.1} s", told(&summary)));
    Ok(())
}

/// From the server that has the directory, or from the directory if no process has it.
fn make(args: &BackupArgs, out: &mut dyn Write) -> Result<Summary, CopyError> {
    let dir = &args.data_dir;
    let socket = args.socket.clone().unwrap_or_else(|| dir.join(control_socket::NAME));
    match control_socket::ask(&socket, "backup") {
        Ok((_, stream)) => received(&stream, out),
        Err(AskError::NotThere(..)) if args.socket.is_none() => match backup::copy_of(dir, out) {
            Err(BackupError::Open(OpenFailure::InUse(dir))) => Err(CopyError::Held { dir, socket }),
            copied => Ok(copied?),
        },
        Err(error) => Err(error.into()),
    }
}

/// Passes on what the server sends, and checks it on the way.
fn received(stream: &UnixStream, out: &mut dyn Write) -> Result<Summary, CopyError> {
    let named = |source| CopyError::File { path: "the control socket".into(), source };
    stream.set_read_timeout(Some(SILENT_MAX)).map_err(named)?;
    let mut passing = Passing { stream: io::BufReader::with_capacity(256 << 10, stream), out, failed: None };
    let summary = backup::verify(&mut passing);
    match (passing.failed, summary) {
        (Some(source), _) => Err(CopyError::File { path: "the backup".into(), source }),
        (None, Err(RestoreError::BrokenOff(why))) => Err(AskError::Refused(why).into()),
        (None, summary) => summary.map_err(CopyError::NotWhole),
    }
}

struct Passing<'a> {
    stream: io::BufReader<&'a UnixStream>,
    out: &'a mut dyn Write,
    failed: Option<io::Error>,
}

impl Read for Passing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        if let Err(error) = self.out.write_all(&into[..read]) {
            self.failed = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        Ok(read)
    }
}

/// A file that gets its name once it is whole and on the disk. Dropped before, it leaves nothing.
struct Unfinished {
    file: File,
    path: PathBuf,
    name: PathBuf,
    finished: bool,
}

impl Unfinished {
    fn create(name: &Path) -> Result<Self, CopyError> {
        let failed = |source| CopyError::File { path: name.to_owned(), source };
        let last = name.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(last);
        hidden.push(format!(".{}.part", std::process::id()));
        let path = name.with_file_name(hidden);
        // Records may be private: not for others on the machine.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        Ok(Self { file, path, name: name.to_owned(), finished: false })
    }

    fn finish(mut self) -> Result<(), CopyError> {
        let finished = (|| {
            self.file.sync_all()?;
            fs::rename(&self.path, &self.name)?;
            self.finished = true;
            let parent = self.name.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        })();
        finished.map_err(|source| CopyError::File { path: self.name.clone(), source })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads a backup into a new directory, or only reads it.
pub(crate) fn restore(args: &RestoreArgs) -> Result<(), CopyError> {
    let began = Instant::now();
    let mut from: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let failed = |source| CopyError::File { path: args.file.clone(), source };
        Box::new(io::BufReader::with_capacity(256 << 10, File::open(&args.file).map_err(failed)?))
    };
    let Some(dir) = &args.data_dir else {
        let summary = backup::verify(&mut from)?;
        retry::tell(&format!("the backup is whole: {}", told(&summary)));
        return Ok(());
    };
    let restored = backup::restore(&mut from, dir)?;
    let took = began.elapsed().as_secs_f64();
    retry::tell(&format!("restored {} into {} in {took:.1} s", told(&restored.summary), dir.display()));
    if restored.reopened > 0 {
        retry::tell(&format!(
            "offsets that were handed out after the backup are refused from now on, as of another life of the stream ({} open streams)",
            restored.reopened
        ));
    }
    Ok(())
}

fn told(summary: &Summary) -> String {
    let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(summary.made_at_ms));
    let Summary { streams, records, bytes, digest, .. } = summary;
    let age = age.unwrap_or_default().as_secs();
    format!("{streams} streams with {records} records ({bytes} bytes, {age} s old, digest {digest:016x})")
}
