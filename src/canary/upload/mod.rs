//! The operator's own files, with a call-back put in where their type allows. What a file
//! is follows from its contents first and its name second. Nothing is unpacked but the
//! members that change, and those within [`PART_MAX`]; what cannot be instrumented stays
//! as it was, byte for byte.

mod image;
mod office;
mod pdf;
mod text;
mod xml;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Base, Error, File, Kind, Slug, package};

/// Largest file that is taken.
pub const UPLOAD_MAX: usize = 10 << 20;
/// Most bytes one member of a document unpacks to.
const PART_MAX: usize = 16 << 20;
/// Most a file may grow.
const GROWTH_MAX: usize = 64 << 10;
/// Longest file name.
const NAME_MAX: usize = 200;

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A picture linked in an Office document.
    LinkedPicture,
    /// An address that a PDF opens.
    OpenAction,
    /// A picture in an HTML page.
    Pixel,
    /// A picture linked in a drawing.
    Drawing,
    /// The address in an image's metadata, which calls only when somebody follows it.
    Metadata,
    /// `{{URL}}` and `{{HOST}}` were filled in.
    Placeholder,
    /// A comment at the end of a text, which calls only when somebody follows it.
    Comment,
    /// Nothing: the file is as it was.
    Passthrough,
}

impl How {
    /// Its name in the API and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            How::LinkedPicture => "linked_picture",
            How::OpenAction => "open_action",
            How::Pixel => "pixel",
            How::Drawing => "drawing",
            How::Metadata => "metadata",
            How::Placeholder => "placeholder",
            How::Comment => "comment",
            How::Passthrough => "passthrough",
        }
    }

    /// Whether opening the file calls by itself.
    #[must_use]
    pub const fn calls(self) -> bool {
        matches!(
            self,
            How::LinkedPicture | How::OpenAction | How::Pixel | How::Drawing
        )
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a file was not instrumented.
enum Fault {
    /// A member unpacks to more than [`PART_MAX`].
    TooLarge,
    /// It is not what it seems to be.
    Damaged(String),
}

impl Fault {
    fn damaged(reason: impl Into<String>) -> Self {
        Fault::Damaged(reason.into())
    }
}

/// Puts the call-back into a file by what it is, else leaves it as it was. The path of
/// what comes back is empty: only the operator knows where it shall lie.
///
/// # Errors
/// The file is too large or damaged, or holds `{{HOST}}` and there is no zone.
pub fn instrument(
    name: &str,
    bytes: &[u8],
    slug: &Slug,
    base: &Base,
) -> Result<(File, How), Error> {
    let too_large = |what, limit| Error::TooLarge { what, limit };
    if bytes.len() > UPLOAD_MAX {
        return Err(too_large("the file", UPLOAD_MAX));
    }
    let name = file_name(name);
    let ending = name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase())
        .unwrap_or_default();
    let url = base.url(slug);
    let (content_type, expected, done) = match sort(bytes) {
        Sort::Office(office::Program::Word) => {
            let done = office::word(bytes, &url);
            (
                package::DOCX,
                "a Word document",
                done.map(|b| (b, How::LinkedPicture)),
            )
        }
        Sort::Office(office::Program::Excel) => {
            let done = office::excel(bytes, &url);
            (
                package::XLSX,
                "an Excel workbook",
                done.map(|b| (b, How::LinkedPicture)),
            )
        }
        Sort::Pdf => {
            let done = pdf::open_action(bytes, &url);
            (
                "application/pdf",
                "a PDF document",
                done.map(|b| (b, How::OpenAction)),
            )
        }
        Sort::Png => (
            "image/png",
            "a PNG image",
            metadata(image::png(bytes, &url), bytes),
        ),
        Sort::Jpeg => (
            "image/jpeg",
            "a JPEG image",
            metadata(image::jpeg(bytes, &url), bytes),
        ),
        Sort::Text(content) => {
            let host = base.host(slug);
            if content.contains("{{HOST}}") && host.is_none() {
                return Err(Error::NeedsZone(Kind::Upload));
            }
            let (content_type, text, how) =
                text::instrument(content, &ending, &url, host.as_deref().unwrap_or_default());
            (content_type, "a text", Ok((text.into_bytes(), how)))
        }
        Sort::Other => (
            "application/octet-stream",
            "a file",
            Ok((bytes.to_vec(), How::Passthrough)),
        ),
    };
    let (done, how) = done.map_err(|fault| match fault {
        Fault::TooLarge => too_large("what is packed in the file", PART_MAX),
        Fault::Damaged(reason) => Error::Damaged {
            name: name.clone(),
            expected,
            reason,
        },
    })?;
    if done.len() > UPLOAD_MAX + GROWTH_MAX {
        return Err(too_large("the instrumented file", UPLOAD_MAX + GROWTH_MAX));
    }
    let days = slug.as_str().bytes().map(u64::from).sum::<u64>() % 60 + 3;
    let file = File {
        path: String::new(),
        name,
        content_type,
        mode: 0o644,
        // Days and some hours, the same for the same slug.
        age: Duration::from_secs(days * 86_400 + days * 977),
        bytes: done,
    };
    Ok((file, how))
}

/// An image whose metadata took the address, or as it was.
fn metadata(changed: Option<Vec<u8>>, bytes: &[u8]) -> Result<(Vec<u8>, How), Fault> {
    Ok(match changed {
        Some(changed) => (changed, How::Metadata),
        None => (bytes.to_vec(), How::Passthrough),
    })
}

/// What a file is.
enum Sort<'a> {
    Office(office::Program),
    Pdf,
    Png,
    Jpeg,
    Text(&'a str),
    Other,
}

fn sort(bytes: &[u8]) -> Sort<'_> {
    if bytes.starts_with(b"PK\x03\x04") {
        return office::program(bytes).map_or(Sort::Other, Sort::Office);
    }
    if bytes.starts_with(b"%PDF-") {
        return Sort::Pdf;
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Sort::Png;
    }
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Sort::Jpeg;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Sort::Text(text),
        _ => Sort::Other,
    }
}

/// The last part of a path, without what no file system likes.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last
        .chars()
        .filter(|c| !c.is_control() && !"<>:\"|?*".contains(*c))
        .collect();
    // The end of a long name is kept: it says what the file is.
    let skip = kept.ceil_char_boundary(kept.len().saturating_sub(NAME_MAX));
    let kept = kept.get(skip..).unwrap_or_default().trim();
    if kept.trim_matches('.').is_empty() {
        "file".to_owned()
    } else {
        kept.to_owned()
    }
}

#[cfg(test)]
mod tests;
