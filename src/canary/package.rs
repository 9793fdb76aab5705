//! Office Open XML: what the packages of Word and Excel have in common.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;

use crate::model::Stamp;

/// Media type of a Word document.
pub(super) const DOCX: &str =
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
/// Media type of an Excel workbook.
pub(super) const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// A package of `parts` (name, text), every member dated as Office dates them.
pub(super) fn pack(parts: &[(&str, String)]) -> zip::result::ZipResult<Vec<u8>> {
    // Office writes no time: members are of 1980.
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default());
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in parts {
        archive.start_file(*name, options)?;
        archive.write_all(text.as_bytes())?;
    }
    Ok(archive.finish()?.into_inner())
}

/// A moment as `docProps/core.xml` has it.
pub(super) fn moment(at: Stamp) -> String {
    let t = at.utc();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:00Z",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute()
    )
}
