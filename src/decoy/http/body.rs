//! Request bodies: the chunked coding, incremental and bounded, and the memory all
//! bodies of one decky may hold together.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::decoy::artifact;
use crate::decoy::http::request::hex_digit;

/// Most body bytes all connections of a decky hold at once; what is beyond is read,
/// counted and dropped.
const HELD_MAX: usize = 96 * 1024 * 1024;
/// Longest chunk-size line or trailer line.
const LINE_MAX: usize = 4 * 1024;

/// What was read of a body.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    /// The bytes kept.
    pub(super) bytes: Vec<u8>,
    /// Bytes received.
    pub(super) size: u64,
    held: &'a Held,
}

/// Body bytes in memory.
#[derive(Debug, Default)]
pub(super) struct Held(AtomicUsize);

impl Held {
    /// An empty body counted here.
    #[must_use]
    pub(super) fn start(&self) -> Taken<'_> {
        Taken {
            bytes: Vec::new(),
            size: 0,
            held: self,
        }
    }
}

impl Taken<'_> {
    /// Adds what arrived, as far as there is room.
    pub(super) fn add(&mut self, more: &[u8]) {
        self.size = self
            .size
            .saturating_add(u64::try_from(more.len()).unwrap_or(u64::MAX));
        let room = artifact::MAX_BYTES.saturating_sub(self.bytes.len());
        let wanted = more.len().min(room);
        let before = self.held.0.fetch_add(wanted, Ordering::Relaxed);
        if before.saturating_add(wanted) > HELD_MAX {
            self.held.0.fetch_sub(wanted, Ordering::Relaxed);
            return;
        }
        self.bytes
            .extend_from_slice(more.get(..wanted).unwrap_or_default());
    }

    /// Whether some of it was dropped.
    #[must_use]
    pub(super) fn is_cut(&self) -> bool {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX) < self.size
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Where in the chunked coding the next byte is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum At {
    /// In the digits of a size.
    #[default]
    Size,
    /// Behind them.
    Extension,
    /// In the data.
    Data,
    /// Behind the data.
    DataEnd,
    /// Behind the last chunk.
    Trailer,
    /// Behind it all.
    End,
}

/// Takes the chunked coding apart, as it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    left: u64,
    digits: u8,
    line: usize,
    bare: bool,
}

impl Chunks {
    /// Whether the last chunk and its trailer were seen.
    #[must_use]
    pub(super) fn is_done(&self) -> bool {
        self.at == At::End
    }

    /// Feeds `input`, hands data on to `sink`, gives how many bytes were used: all of
    /// them unless the body ends.
    ///
    /// # Errors
    /// When the bytes are no chunks.
    pub(super) fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<usize, ()> {
        let mut used = 0usize;
        while let Some(byte) = input.get(used) {
            if self.at == At::End {
                break;
            }
            if self.at == At::Data {
                let rest = input.get(used..).unwrap_or_default();
                let take = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                sink(rest.get(..take).unwrap_or_default());
                used = used.saturating_add(take);
                self.left = self
                    .left
                    .saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            used = used.saturating_add(1);
            self.step(*byte)?;
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<(), ()> {
        self.line = self.line.saturating_add(1);
        if self.line > LINE_MAX {
            return Err(());
        }
        match self.at {
            At::Size => match (hex_digit(byte), byte) {
                (Some(digit), _) => {
                    self.digits = self.digits.saturating_add(1);
                    if self.digits > 15 {
                        return Err(());
                    }
                    self.left = self
                        .left
                        .saturating_mul(16)
                        .saturating_add(u64::from(digit));
                }
                (None, b'\n') if self.digits > 0 => self.size_read(),
                (None, b';' | b' ' | b'\t' | b'\r') if self.digits > 0 => self.at = At::Extension,
                _ => return Err(()),
            },
            At::Extension => {
                if byte == b'\n' {
                    self.size_read();
                }
            }
            At::DataEnd => match byte {
                b'\r' => {}
                b'\n' => {
                    self.at = At::Size;
                    self.line = 0;
                }
                _ => return Err(()),
            },
            At::Trailer => match byte {
                b'\n' if self.bare => self.at = At::End,
                b'\n' => self.bare = true,
                b'\r' => {}
                _ => self.bare = false,
            },
            At::Data | At::End => {}
        }
        Ok(())
    }

    fn size_read(&mut self) {
        self.digits = 0;
        self.line = 0;
        if self.left == 0 {
            self.at = At::Trailer;
            self.bare = true;
        } else {
            self.at = At::Data;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(input: &[u8], cut: usize) -> Result<(Vec<u8>, usize, bool), ()> {
        let mut chunks = Chunks::default();
        let mut out = Vec::new();
        let (one, two) = input.split_at(cut.min(input.len()));
        let mut used = chunks.feed(one, |data| out.extend_from_slice(data))?;
        if !chunks.is_done() {
            used = used.saturating_add(chunks.feed(two, |data| out.extend_from_slice(data))?);
        }
        Ok((out, used, chunks.is_done()))
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read_to_their_end() {
        let input = b"2;x=y\r\nab\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\nGET";
        assert_eq!(
            decode(input, 0),
            Ok((b"ab0123456789".to_vec(), input.len() - 3, true))
        );
        assert!(decode(b"zz\r\n", 0).is_err());
        assert!(decode(b"2\r\nabc\r\n", 0).is_err());
        assert!(decode(b"ffffffffffffffff\r\n", 0).is_err());
    }

    proptest! {
        #[test]
        fn a_split_anywhere_gives_the_same_body(
            input in "([0-9a-f]{0,2}(;x)?\r\n[a-z]{0,8}(\r\n)?){0,4}0\r\n\r\n",
            cut in 0usize..60,
        ) {
            prop_assert_eq!(decode(input.as_bytes(), 0), decode(input.as_bytes(), cut));
        }

        #[test]
        fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            prop_assert_eq!(decode(&input, 0).is_ok(), decode(&input, cut).is_ok());
        }
    }

    #[test]
    fn bodies_share_one_budget() {
        let held = Held::default();
        let mut one = held.start();
        one.add(&[0; 1000]);
        assert_eq!(held.0.load(Ordering::Relaxed), 1000);
        drop(one);
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
        held.0.store(HELD_MAX, Ordering::Relaxed);
        let mut full = held.start();
        full.add(b"abc");
        assert!(full.is_cut() && full.bytes.is_empty());
    }
}
