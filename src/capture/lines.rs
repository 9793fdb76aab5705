//! Cuts what was read from a growing file into whole lines. Bounded: a line longer than
//! the chunk it is read in is thrown away up to its newline and counted, so a writer
//! that never ends its line costs one chunk of memory and nothing else.

/// The whole lines of one chunk.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    chunk: &'a [u8],
    /// Bytes cut off so far; everything behind is an unfinished line.
    used: usize,
    /// Lines thrown away because they were too long.
    oversize: u64,
    skipping: bool,
    full: bool,
}

impl<'a> Lines<'a> {
    /// Cuts `chunk`. `full` says that the chunk is as large as chunks get; `skipping`
    /// that it begins inside a line that was too long.
    pub(crate) fn new(chunk: &'a [u8], full: bool, skipping: bool) -> Self {
        Self {
            chunk,
            used: 0,
            oversize: 0,
            skipping,
            full,
        }
    }

    /// Bytes that need not be read again.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Lines thrown away so far.
    pub(crate) fn oversize(&self) -> u64 {
        self.oversize
    }

    /// Whether the next chunk begins inside a line that is too long.
    pub(crate) fn skipping(&self) -> bool {
        self.skipping
    }

    fn rest(&self) -> &'a [u8] {
        self.chunk.get(self.used..).unwrap_or_default()
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    /// The next whole line, without its newline.
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest();
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                if self.skipping {
                    self.used = self.chunk.len();
                } else if self.full && self.used == 0 && !rest.is_empty() {
                    self.used = self.chunk.len();
                    self.oversize += 1;
                    self.skipping = true;
                }
                return None;
            };
            self.used += end + 1;
            if self.skipping {
                self.skipping = false;
                continue;
            }
            return rest.get(..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `file` in chunks of at most `size`, as a worker does.
    fn read(file: &[u8], size: usize) -> (Vec<Vec<u8>>, u64, usize) {
        let (mut found, mut oversize, mut at, mut skipping) = (Vec::new(), 0, 0, false);
        loop {
            let chunk = &file[at..file.len().min(at + size)];
            let mut lines = Lines::new(chunk, chunk.len() == size, skipping);
            found.extend(lines.by_ref().map(<[u8]>::to_vec));
            at += lines.used();
            oversize += lines.oversize();
            skipping = lines.skipping();
            if lines.used() == 0 {
                return (found, oversize, at);
            }
        }
    }

    #[test]
    fn an_unfinished_line_stays_and_a_long_one_goes() {
        assert_eq!(read(b"a\nbc", 8), (vec![b"a".to_vec()], 0, 2));
        let (lines, oversize, at) = read(b"a\n0123456789012345\nb\n", 8);
        assert_eq!(lines, vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!((oversize, at), (1, 21));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_file_is_chunked(
            lines in prop::collection::vec(prop::collection::vec(0x20u8..0x7f, 0..30), 0..20),
            tail in prop::collection::vec(0x20u8..0x7f, 0..10),
            size in 11usize..64,
        ) {
            let mut file: Vec<u8> = lines.iter().flat_map(|l| l.iter().copied().chain([b'\n'])).collect();
            let whole = file.len();
            file.extend(&tail);
            let (found, oversize, at) = read(&file, size);
            let fitting: Vec<Vec<u8>> = lines.iter().filter(|l| l.len() < size).cloned().collect();
            prop_assert_eq!(found, fitting);
            prop_assert_eq!(oversize, lines.iter().filter(|l| l.len() >= size).count() as u64);
            prop_assert_eq!(at, whole);
        }
    }
}
