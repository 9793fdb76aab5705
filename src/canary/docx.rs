//! A Word document. Its last paragraph holds a picture of one pixel that lies on our
//! server: Word fetches linked pictures when it opens a document (outside of Protected
//! View), LibreOffice always.

use askama::Template;

use super::package;
use super::story::Story;
use super::work::Work;
use super::{Error, File};

#[derive(Template)]
#[template(path = "docx/document.xml", config = "src/askama.toml")]
struct Document<'a> {
    story: &'a Story,
    company: &'a str,
    day: String,
    author: String,
}

#[derive(Template)]
#[template(path = "docx/document_rels.xml", config = "src/askama.toml")]
struct Relations {
    picture: String,
}

#[derive(Template)]
#[template(path = "docx/app.xml", config = "src/askama.toml")]
struct Application<'a> {
    minutes: u64,
    pages: usize,
    words: usize,
    company: &'a str,
}

/// `docProps/core.xml`, the same for Word and Excel.
#[derive(Template)]
#[template(path = "core.xml", config = "src/askama.toml")]
pub(super) struct Core<'a> {
    pub(super) title: &'a str,
    pub(super) author: String,
    pub(super) editor: String,
    /// Excel counts none.
    pub(super) revision: u64,
    pub(super) created: String,
    pub(super) modified: String,
}

impl<'a> Core<'a> {
    pub(super) fn new(work: &mut Work, story: &'a Story, revision: u64) -> Self {
        let created = work.draw.moment(story.saved, 1, 20);
        let editor = work.draw.index(2);
        Self {
            title: &story.title,
            author: story.author.full(),
            editor: story
                .people
                .get(editor)
                .map(super::draw::Person::full)
                .unwrap_or_default(),
            revision,
            created: package::moment(created),
            modified: package::moment(story.saved),
        }
    }
}

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let story = Story::new(&mut work.draw, &work.setting, work.now);
    let revision = work.draw.between(2, 19);
    let core = Core::new(work, &story, revision);
    let words: usize = story
        .sections
        .iter()
        .flat_map(|section| &section.paragraphs)
        .map(|text| text.split(' ').count())
        .sum();
    let application = Application {
        minutes: work.draw.between(12, 240),
        pages: words / 400 + 1,
        words,
        company: &work.setting.company,
    };
    let document = Document {
        story: &story,
        company: &work.setting.company,
        day: story.day(),
        author: story.author.full(),
    };
    let relations = Relations {
        picture: format!("{}/image1.png", work.url),
    };
    let failed = |_| Error::Write(work.kind);
    let parts = [
        (
            "[Content_Types].xml",
            include_str!("templates/docx/content_types.xml").to_owned(),
        ),
        (
            "_rels/.rels",
            include_str!("templates/docx/rels.xml").to_owned(),
        ),
        ("word/document.xml", document.render().map_err(failed)?),
        (
            "word/_rels/document.xml.rels",
            relations.render().map_err(failed)?,
        ),
        (
            "word/settings.xml",
            include_str!("templates/docx/settings.xml").to_owned(),
        ),
        (
            "word/styles.xml",
            include_str!("templates/docx/styles.xml").to_owned(),
        ),
        (
            "word/fontTable.xml",
            include_str!("templates/docx/font_table.xml").to_owned(),
        ),
        ("docProps/core.xml", core.render().map_err(failed)?),
        ("docProps/app.xml", application.render().map_err(failed)?),
    ];
    let bytes = package::pack(&parts).map_err(|_| Error::Write(work.kind))?;
    let path = work.setting.document(&format!("{}.docx", story.stem));
    Ok(vec![work.file(
        path,
        package::DOCX,
        0o644,
        story.saved,
        bytes,
    )])
}
