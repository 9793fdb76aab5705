//! Bytes for keys and identifiers: SHA-256 in counter mode over a host's seed. Written
//! out here, because a key must stay the same through every update of a random number
//! library; promises the same bytes for the same seed and label for ever.

use sha2::{Digest, Sha256};

/// An endless stream of bytes for one purpose.
#[derive(Debug)]
pub(crate) struct Stream {
    key: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Stream {
    /// The stream of `seed` for `label`; tells nothing about any other label's.
    pub(crate) fn new(seed: &str, label: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"host key stream v1\0");
        hash.update(seed.as_bytes());
        hash.update(b"\0");
        hash.update(label.as_bytes());
        Self {
            key: hash.finalize().into(),
            counter: 0,
            block: [0; 32],
            used: 32,
        }
    }

    /// The next `N` bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// Fills `out` with the next bytes.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == self.block.len() {
                let mut hash = Sha256::new();
                hash.update(self.key);
                hash.update(self.counter.to_be_bytes());
                self.block = hash.finalize().into();
                self.counter = self.counter.wrapping_add(1);
                self.used = 0;
            }
            *byte = self.block.get(self.used).copied().unwrap_or_default();
            self.used += 1;
        }
    }

    /// A number below `end` (0 when `end` is 0). The bias is below 2^-32 for the small
    /// ranges used here.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        u64::from_be_bytes(self.bytes())
            .checked_rem(end)
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_fixed_for_ever() {
        // A change of these bytes changes every key of every installed host.
        let start: [u8; 8] = Stream::new("00", "x").bytes();
        assert_eq!(start, [0x59, 0x54, 0xc8, 0x7b, 0x0f, 0x67, 0xd0, 0xc9]);
        assert_ne!(start, Stream::new("00", "y").bytes());
        let mut long = Stream::new("00", "x");
        let mut bytes = [0; 70];
        long.fill(&mut bytes);
        let mut again = Stream::new("00", "x");
        for chunk in bytes.chunks(7) {
            let mut part = vec![0; chunk.len()];
            again.fill(&mut part);
            assert_eq!(part, chunk);
        }
    }
}
