//! The frames of a backup: what was cut or changed is told by where it is.

use std::io::{self, Read, Write};

use super::super::journal::Sum;

pub(super) const MAGIC: &[u8; 16] = b"fourfold backup\n";
pub(super) const VERSION: u32 = 1;

pub(super) const HEAD: u8 = 1;
pub(super) const ENTRIES: u8 = 2;
pub(super) const END: u8 = 3;
pub(super) const BROKEN_OFF: u8 = 4;

/// The longest payload, in bytes: one record of the largest body that a server can be told to take, and its key. A longer one is damage.
const PAYLOAD_BYTES_MAX: u32 = (1 << 30) + (1 << 20);

const HEADER: usize = 1 + 4;
const CHECK: usize = 8;

/// Writes frames.
pub(super) struct FrameWriter<'a> {
    out: &'a mut dyn Write,
    check: u64,
    pub(super) bytes: u64,
}

impl<'a> FrameWriter<'a> {
    /// Begins with what tells a backup from another file.
    pub(super) fn begin(out: &'a mut dyn Write) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        Ok(Self { out, check: u64::from(VERSION), bytes: (MAGIC.len() + 4) as u64 })
    }

    /// Returns the check, which stands for everything so far.
    pub(super) fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<u64> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX);
        let length =
            length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a value is too long for a backup"))?;
        self.check = check(self.check, kind, payload);
        self.out.write_all(&[kind])?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(payload)?;
        self.out.write_all(&self.check.to_be_bytes())?;
        self.bytes += (HEADER + payload.len() + CHECK) as u64;
        Ok(self.check)
    }
}

/// Why frames cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    NoBackup,
    Version(u32),
    /// It ends here.
    Truncated(u64),
    /// The frame that begins here is not what was written.
    Damaged(u64),
    Io(io::Error),
}

/// Reads frames.
pub(super) struct FrameReader<'a> {
    from: &'a mut dyn Read,
    payload: Vec<u8>,
    pub(super) check: u64,
    pub(super) bytes: u64,
}

impl<'a> FrameReader<'a> {
    pub(super) fn begin(from: &'a mut dyn Read) -> Result<Self, Unreadable> {
        let mut reader = Self { from, payload: Vec::new(), check: 0, bytes: 0 };
        let mut start = [0; 20];
        let read = reader.fill(&mut start)?;
        let (magic, version) = start.split_at(MAGIC.len());
        if read < MAGIC.len() || magic != MAGIC {
            // A part of the first line is a backup that was cut very early.
            let cut = read > 0 && read < MAGIC.len() && start[..read] == MAGIC[..read];
            return Err(if cut { Unreadable::Truncated(read as u64) } else { Unreadable::NoBackup });
        }
        if read < start.len() {
            return Err(Unreadable::Truncated(read as u64));
        }
        let version = u32::from_be_bytes(version.try_into().expect("four bytes"));
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        (reader.check, reader.bytes) = (u64::from(version), start.len() as u64);
        Ok(reader)
    }

    /// The next frame, checked.
    pub(super) fn frame(&mut self) -> Result<(u8, &[u8]), Unreadable> {
        let begins = self.bytes;
        let mut header = [0; HEADER];
        let read = self.fill(&mut header)?;
        if read < HEADER {
            return Err(Unreadable::Truncated(begins + read as u64));
        }
        let length = u32::from_be_bytes(header[1..].try_into().expect("four bytes"));
        if length > PAYLOAD_BYTES_MAX || !(HEAD..=BROKEN_OFF).contains(&header[0]) {
            return Err(Unreadable::Damaged(begins));
        }
        // As much memory as there are bytes, whatever the length says.
        self.payload.clear();
        self.payload.shrink_to(1 << 20);
        let read = (&mut *self.from).take(u64::from(length)).read_to_end(&mut self.payload).map_err(Unreadable::Io)?;
        let mut stored = [0; CHECK];
        let read = read + self.fill(&mut stored)?;
        if read < length as usize + CHECK {
            return Err(Unreadable::Truncated(begins + (HEADER + read) as u64));
        }
        self.check = check(self.check, header[0], &self.payload);
        if self.check.to_be_bytes() != stored {
            return Err(Unreadable::Damaged(begins));
        }
        self.bytes += (HEADER + read) as u64;
        Ok((header[0], &self.payload))
    }

    /// Nothing may follow the end.
    pub(super) fn ended(&mut self) -> Result<(), Unreadable> {
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(Unreadable::Damaged(self.bytes)),
        }
    }

    /// As much as there is.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, Unreadable> {
        let mut filled = 0;
        while filled < into.len() {
            match self.from.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Unreadable::Io(error)),
            }
        }
        Ok(filled)
    }
}

fn check(before: u64, kind: u8, payload: &[u8]) -> u64 {
    Sum::new(before).add(&[kind]).add(payload).value()
}
