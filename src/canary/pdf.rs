//! A PDF document of as many pages as its story needs. Opening it asks for our address
//! (an open action, about which most viewers ask their user first; browsers ignore it), and
//! a line of its text links there.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::story::Story;
use super::work::Work;
use super::{Error, File};
use crate::model::Stamp;

/// A4 in points.
const PAGE: (f64, f64) = (595.0, 842.0);
const MARGIN: f64 = 64.0;
/// Widths of Helvetica's letters from the space to the tilde, in thousandths of the size.
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// Where text is put.
struct Pages {
    /// Drawing instructions of each page.
    pages: Vec<String>,
    /// Height at which the next line stands.
    y: f64,
}

impl Pages {
    fn new() -> Self {
        Self {
            pages: vec![String::new()],
            y: PAGE.1 - MARGIN,
        }
    }

    /// Moves down by `by`; to the next page when it does not fit.
    fn down(&mut self, by: f64) {
        self.y -= by;
        if self.y < MARGIN {
            self.pages.push(String::new());
            self.y = PAGE.1 - MARGIN - by;
        }
    }

    /// Puts `text` at `x` on the current line.
    fn put(&mut self, font: &str, size: f64, x: f64, text: &str) {
        if let Some(page) = self.pages.last_mut() {
            let text = literal(text);
            // Writing into a string does not fail.
            writeln!(
                page,
                "BT /{font} {size} Tf 1 0 0 1 {x:.2} {:.2} Tm {text} Tj ET",
                self.y
            )
            .unwrap_or_default();
        }
    }

    /// A paragraph, broken into lines.
    fn paragraph(&mut self, font: &str, size: f64, text: &str) {
        for line in wrap(text, size, PAGE.0 - 2.0 * MARGIN) {
            self.down(size * 1.4);
            self.put(font, size, MARGIN, &line);
        }
    }
}

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let story = Story::new(&mut work.draw, &work.setting, work.now);
    let mut pages = Pages::new();
    pages.paragraph("F2", 18.0, &story.title);
    pages.down(6.0);
    let author = story.author.full();
    pages.paragraph(
        "F1",
        9.5,
        &format!("{}, {}. {author}", work.setting.company, story.day()),
    );
    pages.down(2.0);
    pages.paragraph("F1", 9.5, "The current version is on the intranet.");
    let link_y = pages.y;
    pages.down(8.0);
    for section in &story.sections {
        pages.down(8.0);
        pages.paragraph("F2", 12.0, &section.heading);
        for text in &section.paragraphs {
            pages.down(3.0);
            pages.paragraph("F1", 10.5, text);
        }
    }
    pages.down(10.0);
    pages.paragraph("F2", 12.0, story.table.title);
    pages.down(4.0);
    let columns = columns(&story);
    let head: Vec<String> = story
        .table
        .head
        .iter()
        .map(|cell| (*cell).to_owned())
        .collect();
    row(&mut pages, "F2", &head, &columns);
    for cells in &story.table.rows {
        row(&mut pages, "F1", cells, &columns);
    }
    let seconds = work.draw.between(2, 50);
    let id = work.draw.hex(32);
    let bytes = document(
        &story,
        &author,
        pages.pages,
        &work.url,
        link_y,
        seconds,
        &id,
    );
    let path = work.setting.document(&format!("{}.pdf", story.stem));
    Ok(vec![work.file(
        path,
        "application/pdf",
        0o644,
        story.saved,
        bytes,
    )])
}

/// Size of the table's letters.
const SMALL: f64 = 9.0;

/// Where the columns of the table start: each is as wide as its widest cell.
fn columns(story: &Story) -> Vec<f64> {
    let mut at = 0.0;
    let mut starts = Vec::new();
    for (column, head) in story.table.head.iter().enumerate() {
        starts.push(at);
        let cells = story.table.rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| measure(cell, SMALL)).fold(0.0, f64::max);
        // The head is bold, which is a little wider.
        at += widest.max(measure(head, SMALL) * 1.1) + 16.0;
    }
    starts
}

/// A line of the table.
fn row(pages: &mut Pages, font: &str, cells: &[String], columns: &[f64]) {
    pages.down(14.0);
    for (cell, x) in cells.iter().zip(columns) {
        pages.put(font, SMALL, MARGIN + x, cell);
    }
}

/// The file: objects, cross-reference table, trailer.
fn document(
    story: &Story,
    author: &str,
    pages: Vec<String>,
    url: &str,
    link_y: f64,
    seconds: u64,
    id: &str,
) -> Vec<u8> {
    let count = pages.len();
    // 1 catalog, 2 pages, 3 and 4 fonts, 5 information, 6 link, then a page and its text
    // alternate.
    let kids: Vec<String> = (0..count).map(|n| format!("{} 0 R", 7 + 2 * n)).collect();
    let address = literal(url);
    let saved = moment(story.saved.plus(std::time::Duration::from_secs(seconds)));
    let mut objects = vec![
        format!(
            "<</Type/Catalog/Pages 2 0 R/OpenAction<</Type/Action/S/URI/URI{address}>>/Lang(en-GB)>>"
        )
        .into_bytes(),
        format!("<</Type/Pages/Kids[{}]/Count {count}>>", kids.join(" ")).into_bytes(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_vec(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold/Encoding/WinAnsiEncoding>>".to_vec(),
        format!(
            "<</Title{}/Author{}/Creator(Writer)/Producer(LibreOffice 7.4)/CreationDate({saved})>>",
            literal(&story.title),
            literal(author),
        )
        .into_bytes(),
        format!(
            "<</Type/Annot/Subtype/Link/Border[0 0 0]/Rect[{MARGIN} {:.2} {:.2} {:.2}]/A<</Type/Action/S/URI/URI{address}>>>>",
            link_y - 2.0,
            MARGIN + 180.0,
            link_y + 9.0,
        )
        .into_bytes(),
    ];
    for (n, text) in pages.into_iter().enumerate() {
        let link = if n == 0 { "/Annots[6 0 R]" } else { "" };
        let page = format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 {} {}]/Resources<</Font<</F1 3 0 R/F2 4 0 R>>>>{link}/Contents {} 0 R>>",
            PAGE.0,
            PAGE.1,
            8 + 2 * n
        );
        objects.push(page.into_bytes());
        objects.push(stream(text.as_bytes()));
    }
    let mut out = b"%PDF-1.6\n%\xc3\xa4\xc3\xbc\xc3\xb6\xc3\x9f\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (n, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", out.len()).unwrap_or_default();
        out.extend_from_slice(format!("{} 0 obj\n", n + 1).as_bytes());
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    let start = out.len();
    let id = id.to_ascii_uppercase();
    let trailer = format!(
        "trailer\n<</Size {}/Root 1 0 R/Info 5 0 R/ID[<{id}><{id}>]>>\nstartxref\n{start}\n%%EOF\n",
        objects.len() + 1
    );
    out.extend_from_slice(table.as_bytes());
    out.extend_from_slice(trailer.as_bytes());
    out
}

/// A compressed stream.
fn stream(bytes: &[u8]) -> Vec<u8> {
    let mut zip = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail.
    let packed = match zip.write_all(bytes) {
        Ok(()) => zip.finish().unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let mut out = format!("<</Length {}/Filter/FlateDecode>>\nstream\n", packed.len()).into_bytes();
    out.extend_from_slice(&packed);
    out.extend_from_slice(b"\nendstream");
    out
}

/// A literal string.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::from("(");
    for c in text.chars() {
        match c {
            '(' | ')' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push(')');
    out
}

fn moment(at: Stamp) -> String {
    let t = at.utc();
    format!(
        "D:{:04}{:02}{:02}{:02}{:02}{:02}Z",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// Width of `text` in points.
fn measure(text: &str, size: f64) -> f64 {
    let width = |b: u8| WIDTHS.get(usize::from(b).wrapping_sub(32)).copied();
    let units: u32 = text
        .bytes()
        .map(|b| u32::from(width(b).unwrap_or(556)))
        .sum();
    f64::from(units) / 1000.0 * size
}

/// Lines of at most `width` points.
fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let space = measure(" ", size);
    let mut lines = vec![String::new()];
    let mut used = 0.0;
    for word in text.split(' ') {
        let wide = measure(word, size);
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
            used = wide;
        } else if used + space + wide <= width {
            line.push(' ');
            line.push_str(word);
            used += space + wide;
        } else {
            lines.push(word.to_owned());
            used = wide;
        }
    }
    lines
}
