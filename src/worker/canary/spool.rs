//! The listener's own spool: every use of a token is one line on disk before it is
//! answered, and stays until the database has it. The database may be away for as long as
//! the spool has room; what has to be dropped then is counted.
//!
//! One process writes and reads. How far it was read is a row of the database, written in
//! the transaction of the uses themselves, so each is stored once.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::db::checkpoint::Checkpoint;
use crate::model::canary::Hit;
use crate::net::tail;
use crate::syslog::spool::{self, Writer};

/// Its name among the checkpoints.
pub(super) const SOURCE: &str = "canary-spool";
/// Most bytes waiting for the database.
const SPOOL_MAX: u64 = 128 * 1024 * 1024;
/// Most bytes of one batch.
const BATCH_BYTES: usize = 1024 * 1024;
/// Longest line; a longer one was not written by us.
const LINE_MAX: usize = 128 * 1024;
/// Uses of one token by one address that are written down at once …
const BURST: f64 = 120.0;
/// … and each second after that; the others are counted.
const PER_SECOND: f64 = 4.0;
/// Pairs of token and address that are watched.
const WATCHED: usize = 8192;

/// How often one address may use one token before it is only counted.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
    more: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    writer: Writer,
    buckets: Mutex<HashMap<(String, IpAddr), Bucket>>,
    dropped_bytes: AtomicU64,
    counted: AtomicU64,
}

/// What was read: some hits, and where the reading ended.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) hits: Vec<Hit>,
    pub(super) at: Checkpoint,
    /// Lines that are no hits.
    pub(super) unreadable: u64,
    /// There is more.
    pub(super) more: bool,
}

impl Spool {
    /// Opens the spool in `dir`, which is there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            writer: Writer::open(dir, SPOOL_MAX)?,
            buckets: Mutex::default(),
            dropped_bytes: AtomicU64::new(0),
            counted: AtomicU64::new(0),
        })
    }

    /// Writes a hit down, or counts it when its address does nothing else.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn keep(&self, mut hit: Hit, now: Instant) -> io::Result<()> {
        let Some(more) = self.admit(&hit, now) else {
            self.counted.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        hit.more = hit.more.saturating_add(more);
        let line = serde_json::to_string(&hit).map_err(io::Error::other)?;
        let dropped = self.writer.append(&line)?;
        self.dropped_bytes.fetch_add(dropped, Ordering::Relaxed);
        Ok(())
    }

    /// Uses that were only counted, and bytes that had to be dropped.
    pub(super) fn losses(&self) -> (u64, u64) {
        (
            self.counted.load(Ordering::Relaxed),
            self.dropped_bytes.load(Ordering::Relaxed),
        )
    }

    /// `None`: too many. Otherwise how many were not written down since the last one.
    fn admit(&self, hit: &Hit, now: Instant) -> Option<u32> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= WATCHED {
            let idle = Duration::from_secs(60);
            buckets.retain(|_, b| b.more > 0 || now.duration_since(b.at) < idle);
            if buckets.len() >= WATCHED {
                // So many at once is a storm of addresses; the rows have a cap of their own.
                buckets.clear();
            }
        }
        let key = (hit.slug.clone(), hit.address);
        let bucket = buckets.entry(key).or_insert(Bucket {
            left: BURST,
            at: now,
            more: 0,
        });
        let gained = now.duration_since(bucket.at).as_secs_f64() * PER_SECOND;
        bucket.left = (bucket.left + gained).min(BURST);
        bucket.at = now;
        if bucket.left < 1.0 {
            bucket.more = bucket.more.saturating_add(1);
            return None;
        }
        bucket.left -= 1.0;
        Some(std::mem::take(&mut bucket.more))
    }

    /// The next hits after `from`, and the place behind them; `None` when there is nothing
    /// new.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn read(&self, from: Option<&Checkpoint>) -> io::Result<Option<Batch>> {
        let segments = spool::segments(&self.dir)?;
        let stood = from.map(|at| (u64::try_from(at.ino).unwrap_or(0), at.offset));
        // A place behind the newest segment is one of another spool: this one is new.
        let stood = stood.filter(|(number, _)| segments.last().is_some_and(|last| number <= last));
        for (index, number) in segments.iter().enumerate() {
            let offset = match stood {
                Some((at, _)) if *number < at => continue,
                Some((at, offset)) if *number == at => offset,
                _ => 0,
            };
            if let Some(mut batch) = self.read_segment(*number, offset)? {
                batch.more |= index + 1 < segments.len();
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn read_segment(&self, number: u64, offset: u64) -> io::Result<Option<Batch>> {
        let file = match tail::open_plain(&spool::segment_path(&self.dir, number)) {
            Ok(file) => file,
            // Dropped meanwhile, because the spool was full.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; BATCH_BYTES];
        let read = tail::read_at(&file, &mut bytes, offset)?;
        bytes.truncate(read);
        // A line being written has no newline yet.
        let whole = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(last) => last + 1,
            // Longer than a batch: nothing we wrote, and nothing will come of waiting.
            None if read > LINE_MAX => read,
            None => return Ok(None),
        };
        bytes.truncate(whole);
        let mut batch = Batch {
            hits: Vec::new(),
            at: Checkpoint {
                dev: 0,
                ino: i64::try_from(number).unwrap_or(i64::MAX),
                offset: offset.saturating_add(whole as u64),
                mark: Vec::new(),
            },
            unreadable: 0,
            more: read == BATCH_BYTES,
        };
        for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(hit) => batch.hits.push(hit),
                Err(_) => batch.unreadable += 1,
            }
        }
        Ok(Some(batch))
    }

    /// Deletes segments that were stored whole: those before the one `at` lies in.
    pub(super) fn forget(&self, at: &Checkpoint) {
        let reached = u64::try_from(at.ino).unwrap_or(0);
        let (current, _) = self.writer.position();
        let numbers = spool::segments(&self.dir).unwrap_or_default();
        for number in numbers {
            if number < reached && number < current {
                let path = spool::segment_path(&self.dir, number);
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!("removing {}: {error}", path.display());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stamp;
    use crate::model::canary::Via;

    fn hit(n: usize, last: u8) -> Hit {
        Hit {
            id: format!("h{n}"),
            at: Stamp(1),
            slug: "a".to_owned(),
            via: Via::Dns,
            address: [192, 0, 2, last].into(),
            port: None,
            local: ([127, 0, 0, 1], 53).into(),
            tcp: false,
            method: "A".to_owned(),
            path: "a.example".to_owned(),
            user_agent: String::new(),
            headers: Vec::new(),
            body: String::new(),
            resolver: None,
            fingerprint: None,
            more: 0,
        }
    }

    fn ids(batch: &Batch) -> Vec<String> {
        batch.hits.iter().map(|h| h.id.clone()).collect()
    }

    #[test]
    fn what_was_kept_is_read_once_and_in_order_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let spool = Spool::open(dir.path()).unwrap();
        assert!(spool.read(None).unwrap().is_none());
        spool.keep(hit(1, 1), now).unwrap();
        spool.keep(hit(2, 2), now).unwrap();
        let first = spool.read(None).unwrap().unwrap();
        assert_eq!(ids(&first), ["h1", "h2"]);
        assert!(spool.read(Some(&first.at)).unwrap().is_none());
        spool.keep(hit(3, 3), now).unwrap();
        drop(spool);
        let spool = Spool::open(dir.path()).unwrap();
        spool.keep(hit(4, 4), now).unwrap();
        let second = spool.read(Some(&first.at)).unwrap().unwrap();
        assert_eq!((ids(&second), second.more), (vec!["h3".to_owned()], true));
        let third = spool.read(Some(&second.at)).unwrap().unwrap();
        assert_eq!(ids(&third), ["h4"]);
        spool.forget(&third.at);
        assert_eq!(spool::segments(dir.path()).unwrap(), [2]);
    }

    #[test]
    fn a_spool_made_anew_is_read_from_its_begin() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        spool.keep(hit(1, 1), Instant::now()).unwrap();
        let elsewhere = Checkpoint {
            ino: 17,
            offset: 4000,
            ..Checkpoint::default()
        };
        assert_eq!(ids(&spool.read(Some(&elsewhere)).unwrap().unwrap()), ["h1"]);
    }

    #[test]
    fn nonsense_and_a_half_line_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            spool::segment_path(dir.path(), 1),
            "{}\nnot json\n{\"id\":\"h1\"",
        )
        .unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let batch = spool.read(None).unwrap().unwrap();
        assert_eq!((batch.hits.len(), batch.unreadable), (0, 2));
    }

    #[test]
    fn a_flood_from_one_address_is_counted_and_no_use_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let now = Instant::now();
        for n in 0..1000 {
            spool.keep(hit(n, 1), now).unwrap();
        }
        spool.keep(hit(1000, 2), now).unwrap();
        spool
            .keep(hit(1001, 1), now + Duration::from_secs(1))
            .unwrap();
        let batch = spool.read(None).unwrap().unwrap();
        let told: u32 = batch.hits.iter().map(|h| h.more + 1).sum();
        assert_eq!(told, 1002);
        assert!(batch.hits.len() < 130, "{}", batch.hits.len());
        assert_eq!(spool.losses(), (880, 0));
    }
}
