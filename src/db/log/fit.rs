//! What PostgreSQL cannot keep of an event: NUL, and keys that are longer than a page of an
//! index takes. One such text would stop the ingester for good.

use sha2::{Digest, Sha256};

use crate::model::Event;

/// Longest connection id, in bytes; ours have 26.
const SESSION_MAX: usize = 255;

/// The events, changed where they must be; `None` when none of them has to.
pub(super) fn fitted(events: &[Event]) -> Option<Vec<Event>> {
    if events.iter().all(fits) {
        return None;
    }
    let mut events = events.to_vec();
    for event in &mut events {
        texts(event, |text| {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
        });
        if let Some(flow) = &mut event.flow {
            flow.session = bounded(std::mem::take(&mut flow.session), SESSION_MAX);
        }
    }
    Some(events)
}

fn fits(event: &Event) -> bool {
    let flow = event.flow.as_ref();
    let own = [
        &event.eid,
        &event.decky,
        &event.service,
        &event.kind,
        &event.msg,
    ];
    let fields = event.fields.iter().flat_map(|(key, value)| [key, value]);
    let mut texts = own.into_iter().chain(fields);
    texts.all(|text| !text.contains('\0'))
        && flow.is_none_or(|f| f.session.len() <= SESSION_MAX && !f.session.contains('\0'))
}

fn texts(event: &mut Event, change: impl Fn(&mut String)) {
    for text in [
        &mut event.eid,
        &mut event.decky,
        &mut event.service,
        &mut event.kind,
        &mut event.msg,
    ] {
        change(text);
    }
    if let Some(flow) = &mut event.flow {
        change(&mut flow.session);
    }
    for (key, value) in &mut event.fields {
        change(key);
        change(value);
    }
}

/// The text, or its beginning with the hash of all of it: still another key for another
/// text.
pub(in crate::db) fn bounded(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let hash: String = Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let begin = text.floor_char_boundary(most.saturating_sub(hash.len() + '…'.len_utf8()));
    format!("{}…{hash}", text.get(..begin).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_stays_another_key() {
        let long = |end: &str| bounded("ä".repeat(300) + end, 255);
        assert!(long("a").len() <= 255);
        assert_ne!(long("a"), long("b"));
        assert_eq!(bounded("short".into(), 255), "short");
    }
}
