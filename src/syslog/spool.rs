//! A decky's event spool: segment files of event lines in the decky's directory. The
//! decky appends and never reads; the collector reads and deletes what it has passed
//! on. A segment is closed when a later one exists, so its end is final.
//!
//! Every append is one write before the reply to the attacker goes out: what was
//! answered was recorded, whoever is killed next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A segment is closed at this size.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Most directory entries looked at: whoever fills a spool with other files hides only
/// its own events.
const MAX_ENTRIES: usize = 16 * 1024;

/// Path of segment `number` in `dir`.
#[must_use]
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("events.{number:010}.spool"))
}

/// Numbers of the segments in `dir`, ascending. A missing directory has none.
///
/// # Errors
/// When the directory cannot be read.
pub fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        numbers.extend(entry?.file_name().to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in a segment's name, which has one spelling only.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("events.")?.strip_suffix(".spool")?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let padded = digits.len() == 10 || (digits.len() > 10 && !digits.starts_with('0'));
    (plain && padded).then(|| digits.parse().ok()).flatten()
}

/// The decky's end.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    max_bytes: u64,
    open: Mutex<Segment>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: File,
    bytes: u64,
}

impl Writer {
    /// Begins a new segment in `dir`; together the segments hold at most about
    /// `max_bytes`.
    ///
    /// # Errors
    /// When the directory cannot be read or the segment not created.
    pub fn open(dir: &Path, max_bytes: u64) -> io::Result<Self> {
        let number = segments(dir)?
            .last()
            .map_or(1, |last| last.saturating_add(1));
        Ok(Self {
            dir: dir.to_owned(),
            max_bytes,
            open: Mutex::new(Segment::create(dir, number)?),
        })
    }

    /// Appends one line (without newline). Returns the bytes of unread events that had
    /// to be dropped to stay below the cap, usually 0.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&self, line: &str) -> io::Result<u64> {
        let mut record = Vec::with_capacity(line.len() + 1);
        record.extend_from_slice(line.as_bytes());
        record.push(b'\n');
        // A panic between two appends leaves the segment usable.
        let mut segment = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        segment.file.write_all(&record)?;
        segment.bytes += u64::try_from(record.len()).unwrap_or(0);
        if segment.bytes < SEGMENT_BYTES.min(self.max_bytes / 2) {
            return Ok(0);
        }
        let number = segment.number.saturating_add(1);
        *segment = Segment::create(&self.dir, number)?;
        self.drop_oldest(number)
    }

    /// The current segment and its size.
    pub fn position(&self) -> (u64, u64) {
        let segment = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (segment.number, segment.bytes)
    }

    fn drop_oldest(&self, current: u64) -> io::Result<u64> {
        let mut sized = Vec::new();
        for number in segments(&self.dir)? {
            let path = segment_path(&self.dir, number);
            // The collector may have deleted it meanwhile.
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            sized.push((number, path, meta.len()));
        }
        let mut total: u64 = sized.iter().map(|(_, _, len)| len).sum();
        let mut dropped = 0;
        for (number, path, len) in sized {
            if total <= self.max_bytes || number == current {
                break;
            }
            fs::remove_file(&path)?;
            total -= len;
            dropped += len;
        }
        Ok(dropped)
    }
}

impl Segment {
    fn create(dir: &Path, number: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o640)
            .open(segment_path(dir, number))?;
        Ok(Self {
            number,
            file,
            bytes: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_writer_begins_a_new_segment() {
        let dir = tempfile::tempdir().unwrap();
        Writer::open(dir.path(), 1 << 20)
            .unwrap()
            .append("a")
            .unwrap();
        Writer::open(dir.path(), 1 << 20)
            .unwrap()
            .append("b")
            .unwrap();
        assert_eq!(segments(dir.path()).unwrap(), vec![1, 2]);
        assert_eq!(fs::read(segment_path(dir.path(), 2)).unwrap(), b"b\n");
    }

    #[test]
    fn only_the_exact_name_is_a_segment() {
        for (name, found) in [
            ("events.0000000007.spool", Some(7)),
            ("events.12345678901.spool", Some(12_345_678_901)),
            ("events.7.spool", None),
            ("events.+000000007.spool", None),
            ("events.00000000007.spool", None),
            ("events.0000000007.spool\n", None),
            ("events.99999999999999999999999.spool", None),
        ] {
            assert_eq!(number(name), found, "{name}");
        }
    }

    #[test]
    fn beyond_the_cap_the_oldest_go_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::open(dir.path(), 4096).unwrap();
        let line = "x".repeat(1023);
        let dropped: u64 = (0..100).map(|_| writer.append(&line).unwrap()).sum();
        let left: u64 = segments(dir.path())
            .unwrap()
            .iter()
            .map(|n| fs::metadata(segment_path(dir.path(), *n)).unwrap().len())
            .sum();
        assert!(left <= 4096 + 2048, "{left}");
        assert_eq!(dropped + left, 100 * 1024);
    }
}
