//! Where to put something into XML that somebody else wrote. The text around stays as
//! it is: only positions are looked for.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::Fault;

/// One tag: where it stands and how deep.
pub(super) struct Tag<'a> {
    /// Name without prefix.
    pub(super) name: String,
    /// Number of elements around it; the root has none.
    pub(super) depth: usize,
    /// First byte.
    pub(super) start: usize,
    /// First byte after it.
    pub(super) end: usize,
    pub(super) what: What,
    element: Option<BytesStart<'a>>,
}

/// Which half of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Open,
    Close,
    /// Both in one.
    Empty,
}

impl Tag<'_> {
    /// Value of the attribute with this name, without its prefix.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        self.element
            .as_ref()?
            .attributes()
            .flatten()
            .find(|a| a.key.local_name().as_ref() == name.as_bytes())
            .map(|a| String::from_utf8_lossy(&a.value).into_owned())
    }
}

/// Calls `look` with every tag of `text`.
pub(super) fn tags(text: &str, mut look: impl FnMut(&Tag<'_>)) -> Result<(), Fault> {
    let mut reader = Reader::from_str(text);
    let mut depth = 0usize;
    loop {
        let start = position(&reader);
        let event = reader
            .read_event()
            .map_err(|error| Fault::damaged(format!("its XML: {error}")))?;
        let end = position(&reader);
        let (element, name, what) = match event {
            Event::Start(element) => {
                let name = name(element.local_name().as_ref());
                (Some(element), name, What::Open)
            }
            Event::Empty(element) => {
                let name = name(element.local_name().as_ref());
                (Some(element), name, What::Empty)
            }
            Event::End(element) => (None, name(element.local_name().as_ref()), What::Close),
            Event::Eof => break,
            _ => continue,
        };
        if what == What::Close {
            depth = depth.saturating_sub(1);
        }
        look(&Tag {
            name,
            depth,
            start,
            end,
            what,
            element,
        });
        if what == What::Open {
            depth += 1;
        }
    }
    if depth == 0 {
        Ok(())
    } else {
        Err(Fault::damaged("its XML ends too early"))
    }
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `text` with `what` put in at `at`.
pub(super) fn insert(text: &str, at: usize, what: &str) -> Result<String, Fault> {
    match (text.get(..at), text.get(at..)) {
        (Some(before), Some(after)) => Ok([before, what, after].concat()),
        _ => Err(Fault::damaged("its XML")),
    }
}

/// `text` with `what` as the last child of its root.
pub(super) fn append(text: &str, what: &str) -> Result<String, Fault> {
    let mut found = None;
    tags(text, |tag| {
        if tag.depth == 0 && tag.what != What::Open {
            found = Some((tag.what, tag.start, tag.end, tag.name.clone()));
        }
    })?;
    match found {
        Some((What::Close, start, ..)) => insert(text, start, what),
        Some((What::Empty, start, end, _)) => {
            // `<x …/>` becomes `<x …>what</x>`, by its full name.
            let whole = text.get(start..end).unwrap_or_default();
            let inner = whole.trim_start_matches('<').trim_end_matches("/>");
            let full: &str = inner.split_ascii_whitespace().next().unwrap_or_default();
            let (before, after) = (text.get(..start), text.get(end..));
            let element = format!("<{inner}>{what}</{full}>");
            Ok([
                before.unwrap_or_default(),
                &element,
                after.unwrap_or_default(),
            ]
            .concat())
        }
        _ => Err(Fault::damaged("its XML has no root")),
    }
}

/// `text` inside an attribute.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    quick_xml::escape::escape(text)
}
