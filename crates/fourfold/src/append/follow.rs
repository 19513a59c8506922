//! A file that grows, read as `tail -F` does: it never ends, and it may be truncated, rotated away and be absent.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::retry::tell;

/// How often a file that does not grow is looked at: 10 looks a second cost nothing and nobody notices the wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a file that was rotated away is still read: its writer goes on with it until it is told to reopen.
const ROTATED_QUIET: Duration = Duration::from_millis(500);

/// The reader. Begins at the start of the file. A line that truncation or rotation cut short is ended.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    file: Option<File>,
    position: u64,
    mid_line: bool,
    /// Since when another file has been at the path and ours has not grown.
    rotated: Option<Instant>,
    /// The absence was told.
    told: bool,
}

/// What is at the path, compared with the file in hand.
enum Found {
    Same,
    Shorter,
    Another,
    Nothing,
}

impl Followed {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, position: 0, mid_line: false, rotated: None, told: false }
    }

    fn open(&mut self) {
        match File::open(&self.path) {
            Ok(file) => {
                self.file = Some(file);
                self.position = 0;
                self.told = false;
            }
            Err(error) if !self.told => {
                tell(&format!("{} cannot be read: {error}; waiting for it", self.path.display()));
                self.told = true;
            }
            Err(_) => {}
        }
    }

    fn found(&self, file: &File) -> io::Result<Found> {
        let ours = file.metadata()?;
        Ok(match fs::metadata(&self.path) {
            Err(_) => Found::Nothing,
            Ok(there) if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) => Found::Another,
            Ok(_) if ours.len() < self.position => Found::Shorter,
            Ok(_) => Found::Same,
        })
    }

    /// At the end of what there is: starts over if the file was cut, moves on if it was rotated. `true` if it did.
    fn look(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else {
            self.open();
            return Ok(self.file.is_some());
        };
        match self.found(file)? {
            Found::Same | Found::Nothing => self.rotated = None,
            Found::Shorter => {
                tell(&format!("{} was truncated; reading it from its start", self.path.display()));
                (&*file).seek(SeekFrom::Start(0))?;
                self.position = 0;
                return Ok(true);
            }
            Found::Another => {
                if self.rotated.get_or_insert_with(Instant::now).elapsed() >= ROTATED_QUIET {
                    self.rotated = None;
                    self.file = None;
                    self.open();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Read for Followed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(mut file) = self.file.as_ref() {
                let count = file.read(buffer)?;
                if count > 0 {
                    self.position += count as u64;
                    self.mid_line = buffer[count - 1] != b'\n';
                    self.rotated = None;
                    return Ok(count);
                }
            }
            if !self.look()? {
                thread::sleep(LOOK_EVERY);
            } else if std::mem::take(&mut self.mid_line) {
                buffer[0] = b'\n';
                return Ok(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader, Write},
        sync::mpsc::{Receiver, channel},
    };

    /// The lines as they come, each within a deadline.
    fn lines(path: &Path) -> Receiver<String> {
        let (sender, receiver) = channel();
        let followed = Followed::new(path);
        thread::spawn(move || {
            for line in BufReader::new(followed).lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        receiver
    }

    fn next(lines: &Receiver<String>) -> String {
        lines.recv_timeout(Duration::from_secs(20)).expect("a line within 20 s")
    }

    #[test]
    fn absence_growth_truncation_and_rotation_lose_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines = lines(&path);

        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        writeln!(file, "one").unwrap();
        assert_eq!(next(&lines), "one");
        write!(file, "tw").unwrap();
        writeln!(file, "o").unwrap();
        assert_eq!(next(&lines), "two");

        file.set_len(0).unwrap();
        writeln!(file, "3").unwrap();
        assert_eq!(next(&lines), "3");

        fs::rename(&path, dir.path().join("log.1")).unwrap();
        fs::write(&path, "five\n").unwrap();
        writeln!(file, "four, to the file that was moved away").unwrap();
        assert_eq!(next(&lines), "four, to the file that was moved away");
        assert_eq!(next(&lines), "five");

        fs::remove_file(&path).unwrap();
        fs::write(&path, "six\n").unwrap();
        assert_eq!(next(&lines), "six");
    }
}
