//! One decky's spool, read in order and cleaned up behind. Everything in the directory
//! was written by a process that faces attackers: reads are bounded, names are not
//! followed, lines are judged elsewhere.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::capture::lines::Lines;
use crate::capture::rate::Bucket;
use crate::capture::rotation::MARK_BYTES;
use crate::net::tail;
use crate::syslog::spool;
use crate::worker::collector::state::{Cursor, mark};

/// Longest line, and most bytes read from one source in one turn.
pub(super) const CHUNK: usize = 256 * 1024;
/// Our writers close a segment at an eighth of this. What lies behind it in one file was
/// made to keep us busy and is not read.
const SEGMENT_MAX: u64 = 64 * 1024 * 1024;

/// How fast events are taken from a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// All events.
    pub(super) events: Bucket,
    /// Events with a credential, when the others are used up.
    pub(super) credentials: Bucket,
}

/// A spool and how far it was read.
#[derive(Debug)]
pub(super) struct Source {
    dir: PathBuf,
    /// How far it was read.
    pub(super) at: Cursor,
    /// Path of the current segment; empty before the first.
    path: PathBuf,
    /// A later segment exists, so the current one has its final size.
    next: Option<u64>,
    /// Segments read to their end and not deleted yet: number and size. Should a rotation
    /// of the event files lose lines, they are read again from here.
    done: VecDeque<(u64, u64)>,
    /// While events are read a second time: where the first reading had ended.
    replay_until: Option<(u64, u64)>,
    /// The current segment cannot be read; tried again when the directory changes.
    blocked: bool,
    /// Whose events these are; for a stream what its events say.
    pub(super) decky: String,
    /// How fast they may come.
    pub(super) pace: Pace,
}

/// What one reading found.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Bytes read; the lines in it were given to the caller.
    pub(super) read: usize,
    /// Lines that were too long or had no end.
    pub(super) damaged: u64,
    /// Whether there is more to read right away.
    pub(super) more: bool,
    /// Why the segment was not read: it is no file of ours.
    pub(super) refused: Option<io::Error>,
}

impl Source {
    /// Takes up the spool in `dir` where `known` says, if it is still the same spool.
    pub(super) fn open(
        dir: PathBuf,
        decky: &str,
        known: Option<Cursor>,
        pace: Pace,
    ) -> io::Result<Self> {
        let mut source = Self {
            dir,
            at: Cursor::default(),
            path: PathBuf::new(),
            next: None,
            done: VecDeque::new(),
            replay_until: None,
            blocked: false,
            decky: decky.to_owned(),
            pace,
        };
        if let Some(known) = known.filter(|k| k.segment > 0)
            && source.recognises(&known)?
        {
            source.path = spool::segment_path(&source.dir, known.segment);
            source.at = known;
        }
        for number in spool::segments(&source.dir)? {
            if number < source.at.segment {
                source.retire(number);
            }
        }
        source.look()?;
        Ok(source)
    }

    /// Whether the spool is the one `known` points into. A decky that was removed and
    /// made again counts its segments from 1 again.
    fn recognises(&self, known: &Cursor) -> io::Result<bool> {
        let path = spool::segment_path(&self.dir, known.segment);
        match tail::open_plain(&path) {
            Ok(file) => {
                let head = mark(&tail::head(&file, MARK_BYTES)?);
                Ok(head.starts_with(&known.mark) && file.metadata()?.len() >= known.offset)
            }
            // Dropped by the decky to stay below its cap; later ones must exist then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let last = spool::segments(&self.dir)?.last().copied();
                Ok(last.is_none_or(|last| last > known.segment))
            }
            // Something else took its place; what was read stays read.
            Err(_) => Ok(true),
        }
    }

    /// Looks for a segment after the current one.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.blocked = false;
        self.find_next()
    }

    fn find_next(&mut self) -> io::Result<()> {
        if self.next.is_none() {
            let after = self.at.segment;
            self.next = spool::segments(&self.dir)?.into_iter().find(|n| *n > after);
        }
        Ok(())
    }

    /// Whether there seems to be something to read: one `stat`.
    pub(super) fn waiting(&self) -> bool {
        if self.next.is_some() {
            return true;
        }
        let at = &self.at;
        at.segment > 0
            && !self.blocked
            && at.offset < SEGMENT_MAX
            && fs::symlink_metadata(&self.path).is_ok_and(|m| !m.is_file() || m.len() > at.offset)
    }

    /// Reads about `budget` bytes, a line at least, and gives each whole line to `each`.
    /// When `each` fails, the lines before it count as read and nothing else.
    pub(super) fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        budget: usize,
        mut each: impl FnMut(&[u8], &mut Cursor, &mut Pace, &mut String) -> anyhow::Result<()>,
    ) -> anyhow::Result<Piece> {
        // Looked up before reading: only then is an end of file the end of the segment.
        self.find_next()?;
        if self.at.segment == 0 {
            self.advance();
            if self.at.segment == 0 {
                return Ok(Piece::default());
            }
            self.find_next()?;
        }
        let file = match tail::open_plain(&self.path) {
            Ok(file) if self.at.offset < SEGMENT_MAX => file,
            Ok(_) => return Ok(self.refuse(io::Error::other("longer than any segment of ours"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Dropped by the decky, which counted it.
                let more = self.next.is_some();
                self.advance();
                return Ok(Piece {
                    more,
                    ..Piece::default()
                });
            }
            Err(error) => return Ok(self.refuse(error)),
        };
        buffer.resize(CHUNK, 0);
        let mut want = budget.clamp(1, CHUNK);
        let mut read = self.fill(&file, buffer, want)?;
        let ends = |chunk: &[u8]| chunk.contains(&b'\n');
        if read == want && want < CHUNK && !ends(buffer.get(..read).unwrap_or_default()) {
            want = CHUNK;
            read = self.fill(&file, buffer, want)?;
        }
        let chunk = buffer.get(..read).unwrap_or_default();
        if self.at.offset == 0 {
            self.at.mark = mark(chunk.get(..MARK_BYTES).unwrap_or(chunk));
        }
        let mut lines = Lines::new(chunk, read == CHUNK, self.at.skipping);
        let mut taken = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() {
            let Some(line) = lines.next() else {
                taken = lines.used();
                break;
            };
            outcome = each(line, &mut self.at, &mut self.pace, &mut self.decky);
            if outcome.is_ok() {
                taken = lines.used();
            }
        }
        self.at.offset += taken as u64;
        self.at.skipping = lines.skipping();
        outcome?;
        let mut piece = Piece {
            read,
            damaged: lines.oversize(),
            more: read == want || self.next.is_some(),
            refused: None,
        };
        if read < want && self.next.is_some() {
            if taken < read || self.at.skipping {
                piece.damaged += 1;
            }
            self.retire(self.at.segment);
            self.advance();
        }
        Ok(piece)
    }

    fn fill(&self, file: &fs::File, buffer: &mut [u8], want: usize) -> io::Result<usize> {
        let part = buffer.get_mut(..want).unwrap_or_default();
        tail::read_at(file, part, self.at.offset)
    }

    /// Leaves a segment that cannot be read: for the next one, or until something
    /// changes.
    fn refuse(&mut self, error: io::Error) -> Piece {
        let more = self.next.is_some();
        if more {
            self.retire(self.at.segment);
            self.advance();
        } else {
            self.blocked = true;
        }
        Piece {
            more,
            refused: Some(error),
            ..Piece::default()
        }
    }

    /// Goes to the next segment, if there is one.
    fn advance(&mut self) {
        if let Some(next) = self.next.take() {
            self.at = Cursor {
                segment: next,
                shed: std::mem::take(&mut self.at.shed),
                ..Cursor::default()
            };
            self.path = spool::segment_path(&self.dir, next);
        }
    }

    fn retire(&mut self, number: u64) {
        let path = spool::segment_path(&self.dir, number);
        let size = fs::symlink_metadata(path).map_or(0, |m| m.len());
        self.done.push_back((number, size));
    }

    /// Whether a segment could be deleted: one before `floor`, or anything when more than
    /// `most_kept` bytes are kept.
    pub(super) fn has_litter(&self, floor: u64, most_kept: u64) -> bool {
        let kept: u64 = self.done.iter().map(|(_, size)| size).sum();
        kept > most_kept || (self.done.front()).is_some_and(|(number, _)| *number < floor)
    }

    /// Deletes what [`Source::has_litter`] says, oldest first.
    ///
    /// # Errors
    /// What could not be deleted: a directory, or a file in a directory that was closed
    /// to us. It is left, and the others go.
    pub(super) fn sweep(&mut self, floor: u64, most_kept: u64) -> io::Result<()> {
        let mut outcome = Ok(());
        while self.has_litter(floor, most_kept) {
            let Some((number, _)) = self.done.pop_front() else {
                break;
            };
            match fs::remove_file(spool::segment_path(&self.dir, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => outcome = Err(error),
                _ => {}
            }
        }
        outcome
    }

    /// Whether there are segments that may go one day.
    pub(super) fn keeps_litter(&self) -> bool {
        !self.done.is_empty()
    }

    /// Remembers the present end of the spool as the point up to which events may have
    /// been written before.
    pub(super) fn hold(&mut self) -> io::Result<()> {
        self.replay_until = match spool::segments(&self.dir)?.last() {
            Some(last) => {
                let file = tail::open_plain(&spool::segment_path(&self.dir, *last))?;
                let plausible = file.metadata()?.len() <= SEGMENT_MAX;
                Some((
                    *last,
                    if plausible {
                        tail::whole_lines(&file)?
                    } else {
                        0
                    },
                ))
            }
            None => None,
        };
        Ok(())
    }

    /// Whether everything before the held point was read again, or is not there any
    /// more.
    pub(super) fn caught_up(&mut self) -> bool {
        if self
            .replay_until
            .is_some_and(|until| (self.at.segment, self.at.offset) >= until || !self.waiting())
        {
            self.replay_until = None;
        }
        self.replay_until.is_none()
    }

    /// The decky's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
