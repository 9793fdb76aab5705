//! Reads `decnet.json` batch by batch across rotations. Where it stands is a
//! [`Checkpoint`]: an offset in the file that begins with a known mark. When the file at
//! the path is another one, the known one is looked for among the rotated copies, read
//! to its end, and then the next newer one from its beginning. An event read twice is
//! harmless, the database knows it; an event is never passed over.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::capture::lines::Lines;
use crate::capture::rotation::{MARK_BYTES, Reader, same_file};
use crate::db::checkpoint::Checkpoint;
use crate::model::Event;
use crate::net::tail;
use crate::syslog;

/// Most bytes read at a time; a longer line is skipped and counted.
const CHUNK: u64 = 8 * 1024 * 1024;
/// Rotated copies looked through, as many as are kept.
const COPIES: usize = 9;

/// What one reading found.
#[derive(Debug)]
pub(super) struct Batch {
    /// Events in file order.
    pub(super) events: Vec<Event>,
    /// Lines that are no events.
    pub(super) damaged: u64,
    /// Where the reader stands behind them.
    pub(super) at: Checkpoint,
    /// Inside a line that is too long.
    pub(super) skipping: bool,
    /// Whether there may be more to read right away.
    pub(super) more: bool,
}

/// One generation of the file.
struct Generation {
    file: File,
    head: Vec<u8>,
    size: u64,
    dev: i64,
    ino: i64,
}

impl Generation {
    /// The file at `path`; `None` when there is none or nothing in it.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let head = tail::head(&file, MARK_BYTES)?;
        let meta = file.metadata()?;
        Ok((!head.is_empty()).then(|| Self {
            file,
            head,
            size: meta.len(),
            dev: meta.dev().cast_signed(),
            ino: meta.ino().cast_signed(),
        }))
    }

    fn start(&self) -> Checkpoint {
        Checkpoint {
            dev: self.dev,
            ino: self.ino,
            offset: 0,
            mark: self.head.clone(),
        }
    }

    fn holds(&self, at: &Checkpoint) -> bool {
        Reader::decide(&at.mark, at.offset, &self.head, self.size) == Reader::Continue
    }
}

/// Reads the next batch of at most `most` events behind `at`; `None` when there is
/// nothing new.
pub(super) fn next(
    path: &Path,
    at: Option<&Checkpoint>,
    skipping: bool,
    most: usize,
) -> io::Result<Option<Batch>> {
    let current = Generation::open(path)?;
    let Some(at) = at else {
        // Never read before: begin with the copy, if the file was rotated meanwhile.
        let first = match Generation::open(&copy_path(path, 1))? {
            Some(copy) => Some(copy),
            None => current,
        };
        return match first {
            Some(first) => read(path, &first, first.start(), false, most),
            None => Ok(None),
        };
    };
    if let Some(current) = &current
        && current.holds(at)
    {
        return read(path, current, at.clone(), skipping, most);
    }
    if current.is_none() {
        // Empty or gone: what is missing stands in the copy, and the copy is final only
        // once the file has content again or is empty for good; either way it is there.
        return match known_copy(path, at)? {
            Some((_, copy)) => read(path, &copy, at.clone(), skipping, most),
            None => Ok(None),
        };
    }
    let newer = match known_copy(path, at)? {
        Some((number, copy)) => {
            if let Some(batch) = read(path, &copy, at.clone(), skipping, most)? {
                return Ok(Some(Batch {
                    more: true,
                    ..batch
                }));
            }
            number - 1
        }
        None => {
            tracing::warn!(
                "the rest of a rotated {} is not to be found; going on with its newest copy",
                path.display()
            );
            1
        }
    };
    let next = match newer {
        0 => current,
        number => Generation::open(&copy_path(path, number))?.or(current),
    };
    match next {
        Some(next) => Ok(
            read(path, &next, next.start(), false, most)?.map(|batch| Batch {
                more: true,
                ..batch
            }),
        ),
        None => Ok(None),
    }
}

/// Whether the file ends exactly where the reader stands: a few cheap calls.
pub(super) fn idle(path: &Path, at: Option<&Checkpoint>) -> bool {
    match (Generation::open(path), at) {
        (Ok(Some(current)), Some(at)) => current.holds(at) && current.size == at.offset,
        _ => false,
    }
}

/// The rotated copy that `at` points into.
fn known_copy(path: &Path, at: &Checkpoint) -> io::Result<Option<(usize, Generation)>> {
    if at.mark.is_empty() {
        return Ok(None);
    }
    for number in 1..=COPIES {
        if let Some(copy) = Generation::open(&copy_path(path, number))?
            && same_file(&at.mark, &copy.head)
        {
            return Ok(Some((number, copy)));
        }
    }
    Ok(None)
}

fn copy_path(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn read(
    path: &Path,
    from: &Generation,
    mut at: Checkpoint,
    skipping: bool,
    most: usize,
) -> io::Result<Option<Batch>> {
    let size = from.size.saturating_sub(at.offset).min(CHUNK);
    let mut chunk = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = tail::read_at(&from.file, &mut chunk, at.offset)?;
    // Truncated while it was read: what came may belong together with nothing.
    let head = tail::head(&from.file, MARK_BYTES)?;
    let meta = from.file.metadata()?;
    if !same_file(&at.mark, &head) || meta.len() < at.offset + read as u64 {
        tracing::debug!("{} was rotated while it was read", path.display());
        return Ok(None);
    }
    let mut lines = Lines::new(
        chunk.get(..read).unwrap_or_default(),
        read as u64 == CHUNK,
        skipping,
    );
    let mut events = Vec::new();
    let mut damaged = 0;
    while events.len() < most {
        let Some(line) = lines.next() else { break };
        match std::str::from_utf8(line).ok().map(syslog::from_json) {
            Some(Ok(event)) => events.push(event),
            _ => damaged += 1,
        }
    }
    if lines.used() == 0 {
        return Ok(None);
    }
    let more = events.len() == most || read as u64 == CHUNK;
    at.offset += lines.used() as u64;
    at.mark = head;
    at.dev = from.dev;
    at.ino = from.ino;
    Ok(Some(Batch {
        events,
        damaged: damaged + lines.oversize(),
        at,
        skipping: lines.skipping(),
        more,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Severity, Stamp};
    use std::fs;

    fn record(n: u32) -> String {
        let event = Event {
            eid: format!("{n:026}"),
            ts: Stamp(i64::from(n)),
            severity: Severity::Info,
            decky: "d".into(),
            service: "s".into(),
            kind: "k".into(),
            flow: None,
            fields: Vec::new(),
            msg: String::new(),
        };
        format!("{}\n", syslog::to_json(&event, &syslog::write(&event)))
    }

    fn records(range: std::ops::Range<u32>) -> String {
        range.map(record).collect()
    }

    /// Reads on until nothing is left; the event numbers.
    fn drain(path: &Path, at: &mut Option<Checkpoint>) -> Vec<u32> {
        let (mut found, mut skipping) = (Vec::new(), false);
        while let Some(batch) = next(path, at.as_ref(), skipping, 3).unwrap() {
            found.extend(batch.events.iter().map(|e| e.eid.parse::<u32>().unwrap()));
            *at = Some(batch.at);
            skipping = batch.skipping;
        }
        found
    }

    fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
        range.collect()
    }

    #[test]
    fn it_follows_growth_truncation_and_several_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        let mut at = None;
        assert!(drain(&path, &mut at).is_empty());
        fs::write(&path, format!("{}{}", records(0..5), "{\"eid\":\"half")).unwrap();
        assert_eq!(drain(&path, &mut at), numbers(0..5));
        // Rotated with a tail unread, and grown beyond the old offset.
        fs::write(copy_path(&path, 1), records(0..8)).unwrap();
        fs::write(&path, records(8..30)).unwrap();
        assert_eq!(drain(&path, &mut at), numbers(5..30));
        // Rotated, and empty for now.
        fs::write(copy_path(&path, 1), records(8..33)).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(drain(&path, &mut at), numbers(30..33));
        assert!(drain(&path, &mut at).is_empty());
        fs::write(&path, records(33..35)).unwrap();
        assert_eq!(drain(&path, &mut at), numbers(33..35));
        // Two rotations while nobody read.
        fs::write(copy_path(&path, 2), records(33..40)).unwrap();
        fs::write(copy_path(&path, 1), records(40..44)).unwrap();
        fs::write(&path, records(44..46)).unwrap();
        assert_eq!(drain(&path, &mut at), numbers(35..46));
    }

    #[test]
    fn a_first_reading_begins_with_the_copy_and_skips_damaged_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        fs::write(copy_path(&path, 1), records(0..2)).unwrap();
        let long = "x".repeat(usize::try_from(CHUNK).unwrap() + 5);
        fs::write(
            &path,
            format!("{}{{bad}}\n\u{fffd}\n{long}\n{}", record(2), record(3)),
        )
        .unwrap();
        let mut at = None;
        assert_eq!(drain(&path, &mut at), numbers(0..4));
    }
}
