//! Knowing a file again. Log files are truncated in place (logrotate's copytruncate) or
//! replaced while somebody writes and somebody reads; both sides decide here, from a
//! few numbers, what happened.
//!
//! A file is recognised by its *mark*: its first bytes. Event lines begin with a time in
//! microseconds, JSON records with the event id, so a file that was truncated and grew
//! again has another mark even when its size and inode tell nothing.

/// Length of a full mark; every line is longer.
pub(crate) const MARK_BYTES: usize = 64;

/// Whether a file that now begins with `head` is the one that began with `mark`. A file
/// of which nothing was known is any file.
pub(crate) fn same_file(mark: &[u8], head: &[u8]) -> bool {
    head.starts_with(mark)
}

/// What a reader that stands at `offset` of the file marked `mark` should do, seeing a
/// file of `size` bytes that begins with `head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Go on.
    Continue,
    /// The file was rotated: finish its copy, then begin this one.
    Rotated,
}

impl Reader {
    pub(crate) fn decide(mark: &[u8], offset: u64, head: &[u8], size: u64) -> Self {
        if size < offset || !same_file(mark, head) {
            Reader::Rotated
        } else {
            Reader::Continue
        }
    }
}

/// What a writer finds that wrote `written` bytes into the file marked `mark` and sees
/// only `size` of them left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// Everything is where it was put.
    Intact,
    /// Truncated, and the copy holds all that was there.
    Rotated,
    /// Truncated, and so many bytes were written after the copy ended.
    Lost(u64),
    /// Truncated, and no copy of this file is to be seen: somebody wanted it empty.
    Emptied,
}

impl Writer {
    /// `copy` is the head and the size of the rotated copy, if there is one.
    pub(crate) fn decide(mark: &[u8], written: u64, size: u64, copy: Option<(&[u8], u64)>) -> Self {
        if size >= written {
            return Writer::Intact;
        }
        // The file has no other writer: what is in it now came after the truncation, so
        // the rest was there before.
        let before = written - size;
        match copy {
            Some((head, copied)) if same_file(mark, head) && !mark.is_empty() => {
                if copied < before {
                    Writer::Lost(before - copied)
                } else {
                    Writer::Rotated
                }
            }
            _ => Writer::Emptied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reader_knows_a_regrown_file_by_its_mark() {
        assert_eq!(Reader::decide(b"aa", 10, b"aab", 10), Reader::Continue);
        assert_eq!(Reader::decide(b"aa", 10, b"aab", 9), Reader::Rotated);
        assert_eq!(Reader::decide(b"aa", 10, b"abb", 99), Reader::Rotated);
        assert_eq!(Reader::decide(b"", 0, b"abb", 99), Reader::Continue);
    }

    proptest! {
        /// A truncation while writing: `copied` bytes reached the copy, `gap` more were
        /// written before the truncation, `after` behind it.
        #[test]
        fn a_writer_knows_exactly_what_the_copy_missed(copied in 64u64..10_000, gap in 0u64..500, after in 0u64..10_000) {
            let mark = [b'm'; MARK_BYTES];
            let decided = Writer::decide(&mark, copied + gap + after, after, Some((&mark, copied)));
            let expected = if gap == 0 { Writer::Rotated } else { Writer::Lost(gap) };
            prop_assert_eq!(decided, expected);
            let other = [b'x'; MARK_BYTES];
            prop_assert_eq!(Writer::decide(&mark, copied + gap + after, after, Some((&other, copied))), Writer::Emptied);
            prop_assert_eq!(Writer::decide(&mark, after, after, None), Writer::Intact);
        }
    }
}
