//! Images call nobody; their metadata can name an address that whoever looks for one
//! finds. `None` where the file is not whole enough for that.

use crate::canary::qr::chunk;

/// A `Source` text behind the header of a PNG file.
pub(super) fn png(bytes: &[u8], url: &str) -> Option<Vec<u8>> {
    // Signature, and IHDR with its 13 bytes.
    const HEAD: usize = 8 + 12 + 13;
    if bytes.get(8..16)? != b"\0\0\0\x0dIHDR" {
        return None;
    }
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let text = [b"Source\0", url.as_bytes()].concat();
    Some([head, &chunk(b"tEXt", &text), rest].concat())
}

/// A comment behind the application segments of a JPEG file.
pub(super) fn jpeg(bytes: &[u8], url: &str) -> Option<Vec<u8>> {
    let mut at = 2usize;
    while bytes.get(at)? == &0xff && matches!(bytes.get(at + 1)?, 0xe0..=0xef) {
        let len = [*bytes.get(at + 2)?, *bytes.get(at + 3)?];
        at = at
            .checked_add(2)?
            .checked_add(usize::from(u16::from_be_bytes(len)).max(2))?;
    }
    if bytes.get(at)? != &0xff {
        return None;
    }
    let (head, rest) = bytes.split_at_checked(at)?;
    let len = u16::try_from(url.len() + 2).ok()?.to_be_bytes();
    Some([head, &[0xff, 0xfe], &len, url.as_bytes(), rest].concat())
}
