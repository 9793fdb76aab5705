//! One of the two event files: appended to by the collector alone, truncated under it by
//! logrotate. Keeps the size it must have, so that a truncation is noticed before the
//! next byte is written and what the copy missed is known exactly.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::capture::lines::Lines;
use crate::capture::rotation::{MARK_BYTES, Writer};
use crate::capture::seen::Seen;
use crate::net::tail;
use crate::worker::collector::state::{Written, mark};

/// Bytes read at a time when an event file is searched.
const CHUNK: usize = 4 * 1024 * 1024;

/// An open event file.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    file: File,
    bytes: u64,
    mark: Vec<u8>,
}

impl Sink {
    /// Opens (or creates) the file and cuts off a last line that a kill left unfinished.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        let bytes = tail::whole_lines(&file)?;
        if bytes < file.metadata()?.len() {
            tracing::warn!("cutting an unfinished line off {}", path.display());
            file.set_len(bytes)?;
        }
        let mark = tail::head(&file, MARK_BYTES)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            mark,
        })
    }

    /// Appends what of `buffer` was not written yet; `done` says how far it came, even
    /// when the disk fills up in between.
    pub(super) fn append(&mut self, buffer: &[u8], done: &mut usize) -> io::Result<()> {
        while let Some(rest) = buffer.get(*done..).filter(|r| !r.is_empty()) {
            let written = match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            *done += written;
            self.bytes += written as u64;
        }
        if self.mark.len() < MARK_BYTES {
            self.mark = tail::head(&self.file, MARK_BYTES)?;
        }
        Ok(())
    }

    /// Compares the file with what it should be and adopts what it is.
    pub(super) fn check(&mut self) -> io::Result<Writer> {
        let mine = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) if named.ino() == mine.ino() && named.dev() == mine.dev() => {}
            Ok(_) => return self.reopen(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.reopen(),
            Err(error) => return Err(error),
        }
        if mine.len() >= self.bytes {
            return Ok(Writer::Intact);
        }
        let copy = File::open(tail::copy_path(&self.path))
            .and_then(|f| Ok((tail::head(&f, MARK_BYTES)?, f.metadata()?.len())))
            .ok();
        let copy = copy.as_ref().map(|(head, len)| (head.as_slice(), *len));
        let found = Writer::decide(&self.mark, self.bytes, mine.len(), copy);
        self.bytes = mine.len();
        self.mark = tail::head(&self.file, MARK_BYTES)?;
        Ok(found)
    }

    /// The file was renamed or removed: everything written is where it went; a new one
    /// takes its name.
    fn reopen(&mut self) -> io::Result<Writer> {
        *self = Self::open(&self.path)?;
        Ok(Writer::Rotated)
    }

    /// What the file holds, for the memory.
    pub(super) fn written(&self) -> Written {
        Written {
            bytes: self.bytes,
            mark: mark(&self.mark),
        }
    }

    /// The file and its rotated copy as they are now, for [`Glance`]'s questions.
    pub(super) fn glance(&self) -> io::Result<Glance<'_>> {
        let copy = match File::open(tail::copy_path(&self.path)) {
            Ok(file) => Some(RotatedCopy {
                head: mark(&tail::head(&file, MARK_BYTES)?),
                file,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Glance { sink: self, copy })
    }

    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The file's name, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// One look at an event file and its newest rotated copy. A rotation that goes on
/// meanwhile moves the copy away and empties the file: what was asked counts only if
/// [`Glance::holds`] afterwards.
#[derive(Debug)]
pub(super) struct Glance<'a> {
    sink: &'a Sink,
    copy: Option<RotatedCopy>,
}

#[derive(Debug)]
struct RotatedCopy {
    file: File,
    head: String,
}

impl Glance<'_> {
    /// Whether everything that was written up to `known` is still to be found, in the
    /// file or in the copy. An empty file tells nothing: what was in it may have been
    /// rotated away.
    pub(super) fn covers(&self, known: &Written) -> bool {
        known.bytes > 0 && (self.continues(known) || self.copy_of(known).is_some())
    }

    fn continues(&self, known: &Written) -> bool {
        known.bytes <= self.sink.bytes && mark(&self.sink.mark).starts_with(&known.mark)
    }

    /// The rotated copy, if it is that of `known` and reaches as far.
    fn copy_of(&self, known: &Written) -> Option<&File> {
        let copy = self.copy.as_ref()?;
        let reaches = copy.file.metadata().ok()?.len() >= known.bytes;
        (reaches && copy.head.starts_with(&known.mark)).then_some(&copy.file)
    }

    /// The ids of all events written after `known`; of all there are when `known` is not
    /// to be found.
    pub(super) fn since(&self, known: &Written) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let file = &self.sink.file;
        if known.bytes > 0 && self.continues(known) {
            collect(file, known.bytes, &mut seen)?;
            return Ok(seen);
        }
        match self.copy_of(known).filter(|_| known.bytes > 0) {
            Some(copy) => collect(copy, known.bytes, &mut seen)?,
            None => {
                if let Some(copy) = &self.copy {
                    collect(&copy.file, 0, &mut seen)?;
                }
            }
        }
        collect(file, 0, &mut seen)?;
        Ok(seen)
    }

    /// Whether the file and its copy are still those that were looked at.
    pub(super) fn holds(&self) -> io::Result<bool> {
        let id = |m: fs::Metadata| (m.dev(), m.ino());
        let now = match fs::metadata(tail::copy_path(&self.sink.path)) {
            Ok(copy) => Some(id(copy)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // An open file keeps its number: no later copy can have the same.
        let then = match &self.copy {
            Some(copy) => Some(id(copy.file.metadata()?)),
            None => None,
        };
        Ok(now == then && self.sink.file.metadata()?.len() >= self.sink.bytes)
    }
}

fn collect(file: &File, from: u64, seen: &mut Seen) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let (mut at, mut skipping) = (from, false);
    let end = file.metadata()?.len();
    loop {
        let left = usize::try_from(end.saturating_sub(at)).map_or(CHUNK, |l| l.min(CHUNK));
        let read = tail::read_at(file, chunk.get_mut(..left).unwrap_or_default(), at)?;
        let whole = chunk.get(..read).unwrap_or_default();
        let mut lines = Lines::new(whole, read == CHUNK, skipping);
        for line in lines.by_ref() {
            seen.add_line(line);
        }
        if lines.used() == 0 {
            return Ok(());
        }
        at += lines.used() as u64;
        skipping = lines.skipping();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tail::copy_path;

    fn line(n: u32) -> String {
        format!("<134>1 t d s - k [relay@55555 eid=\"{n:026}\"] {n:040}\n")
    }

    fn append(sink: &mut Sink, numbers: std::ops::Range<u32>) {
        let text: String = numbers.map(line).collect();
        sink.append(text.as_bytes(), &mut 0).unwrap();
    }

    /// logrotate works on the second file while the first one's loss is made good: what
    /// was looked at stays readable, and it is noticed that it is no longer the truth.
    #[test]
    fn a_rotation_under_a_look_is_noticed_and_the_look_sees_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut sink = Sink::open(&path).unwrap();
        append(&mut sink, 0..3);
        let known = sink.written();
        append(&mut sink, 3..5);
        fs::copy(&path, copy_path(&path)).unwrap();
        sink.file.set_len(0).unwrap();
        assert_eq!(sink.check().unwrap(), Writer::Rotated);
        append(&mut sink, 5..6);

        let look = sink.glance().unwrap();
        assert!(look.covers(&known) && look.holds().unwrap());
        assert_eq!(look.since(&known).unwrap().len(), 3);
        // The copy is moved away, a new one begun; the file is emptied at last.
        fs::remove_file(copy_path(&path)).unwrap();
        assert!(look.covers(&known) && !look.holds().unwrap());
        assert_eq!(look.since(&known).unwrap().len(), 3);
        fs::copy(&path, copy_path(&path)).unwrap();
        assert!(!look.holds().unwrap());
        assert!(!sink.glance().unwrap().covers(&known));
        let look = sink.glance().unwrap();
        assert!(look.holds().unwrap());
        sink.file.set_len(0).unwrap();
        assert!(!look.holds().unwrap());
    }
}
