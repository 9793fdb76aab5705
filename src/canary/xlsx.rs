//! An Excel workbook: a table, and a sheet of notes. A picture of one pixel in the first
//! sheet lies on our server; Excel (outside of Protected View) and LibreOffice fetch it
//! when the workbook is opened.

use askama::Template;

use super::docx::Core;
use super::package;
use super::story::Story;
use super::work::Work;
use super::{Error, File};

#[derive(Template)]
#[template(path = "xlsx/workbook.xml", config = "src/askama.toml")]
struct Workbook<'a> {
    story: &'a Story,
}

#[derive(Template)]
#[template(path = "xlsx/sheet1.xml", config = "src/askama.toml")]
struct Sheet {
    widths: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Template)]
#[template(path = "xlsx/sheet2.xml", config = "src/askama.toml")]
struct Notes {
    notes: Vec<String>,
}

#[derive(Template)]
#[template(path = "xlsx/drawing1_rels.xml", config = "src/askama.toml")]
struct Relations {
    picture: String,
}

#[derive(Template)]
#[template(path = "xlsx/app.xml", config = "src/askama.toml")]
struct Application<'a> {
    company: &'a str,
}

struct Cell {
    /// `B7`.
    at: String,
    text: String,
    number: bool,
    head: bool,
}

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let story = Story::new(&mut work.draw, &work.setting, work.now);
    let core = Core::new(work, &story, 0);
    let head = story
        .table
        .head
        .iter()
        .map(|cell| (*cell).to_owned())
        .collect();
    let rows = std::iter::once(head).chain(story.table.rows.iter().cloned());
    let sheet = Sheet {
        widths: story.widths().into_iter().map(|width| width + 3).collect(),
        rows: rows.enumerate().map(|(at, row)| cells(at, row)).collect(),
    };
    let texts = story
        .sections
        .iter()
        .flat_map(|section| &section.paragraphs);
    let notes = Notes {
        notes: std::iter::once(format!("{}, {}", story.author.full(), story.day()))
            .chain(texts.cloned())
            .collect(),
    };
    let relations = Relations {
        picture: format!("{}/image1.png", work.url),
    };
    let application = Application {
        company: &work.setting.company,
    };
    let failed = |_| Error::Write(work.kind);
    let parts = [
        (
            "[Content_Types].xml",
            include_str!("templates/xlsx/content_types.xml").to_owned(),
        ),
        (
            "_rels/.rels",
            include_str!("templates/xlsx/rels.xml").to_owned(),
        ),
        (
            "xl/workbook.xml",
            Workbook { story: &story }.render().map_err(failed)?,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            include_str!("templates/xlsx/workbook_rels.xml").to_owned(),
        ),
        ("xl/worksheets/sheet1.xml", sheet.render().map_err(failed)?),
        ("xl/worksheets/sheet2.xml", notes.render().map_err(failed)?),
        (
            "xl/styles.xml",
            include_str!("templates/xlsx/styles.xml").to_owned(),
        ),
        (
            "xl/worksheets/_rels/sheet1.xml.rels",
            include_str!("templates/xlsx/sheet1_rels.xml").to_owned(),
        ),
        (
            "xl/drawings/drawing1.xml",
            include_str!("templates/xlsx/drawing1.xml").to_owned(),
        ),
        (
            "xl/drawings/_rels/drawing1.xml.rels",
            relations.render().map_err(failed)?,
        ),
        ("docProps/core.xml", core.render().map_err(failed)?),
        ("docProps/app.xml", application.render().map_err(failed)?),
    ];
    let bytes = package::pack(&parts).map_err(|_| Error::Write(work.kind))?;
    let path = work.setting.document(&format!("{}.xlsx", story.stem));
    Ok(vec![work.file(
        path,
        package::XLSX,
        0o644,
        story.saved,
        bytes,
    )])
}

fn cells(row: usize, texts: Vec<String>) -> Vec<Cell> {
    ('A'..='Z')
        .zip(texts)
        .map(|(column, text)| Cell {
            at: format!("{column}{}", row + 1),
            number: row > 0 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
            head: row == 0,
            text,
        })
        .collect()
}
