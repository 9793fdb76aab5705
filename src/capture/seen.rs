//! Which events a file already holds, by their ids. Used after a kill, when a file may
//! hold more than the cursors say: what is in it is not written again.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

/// A set of event ids, 16 bytes each whatever their length.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    ids: HashSet<u128>,
}

impl Seen {
    /// Adds the id of a line of `decnet.log` or `decnet.json`; a line without one is no
    /// event and is passed over.
    pub(crate) fn add_line(&mut self, line: &[u8]) {
        if let Some(eid) = eid(line) {
            self.ids.insert(digest(eid));
        }
    }

    /// Whether the id is in the set; it is not afterwards.
    pub(crate) fn take(&mut self, eid: &str) -> bool {
        !self.ids.is_empty() && self.ids.remove(&digest(eid.as_bytes()))
    }

    /// How many ids are left.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// The event id of a record, which both writers put first.
fn eid(line: &[u8]) -> Option<&[u8]> {
    const JSON: &[u8] = b"{\"eid\":\"";
    const LINE: &[u8] = b" [relay@55555 eid=\"";
    let rest = match line.strip_prefix(JSON) {
        Some(rest) => rest,
        None => {
            let at = line.windows(LINE.len()).position(|w| w == LINE)?;
            line.get(at + LINE.len()..)?
        }
    };
    let end = rest.iter().position(|b| *b == b'"')?;
    rest.get(..end)
}

fn digest(eid: &[u8]) -> u128 {
    Sha256::digest(eid)
        .iter()
        .take(16)
        .fold(0, |sum, b| sum << 8 | u128::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_id_and_text_behind_it_does_not_matter() {
        let mut seen = Seen::default();
        seen.add_line(b"{\"eid\":\"A1\",\"x\":\" [relay@55555 eid=\\\"B\"}");
        assert!(seen.take("A1") && !seen.take("A1") && !seen.take("B"));
        seen.add_line(b"<134>1 t d s - k [relay@55555 eid=\"C\" v=\" [relay@55555 eid=\\\"D\"]");
        seen.add_line(b"no event");
        assert_eq!(seen.len(), 1);
        assert!(seen.take("C"));
    }
}
