//! HTML documents: one with a picture that lies on our server, and one whose script
//! reports what the browser is ([`super::fingerprint`] reads it). The script is readable:
//! what hides itself is looked at.

use askama::Template;

use super::story::Story;
use super::work::Work;
use super::{Error, File};

/// The script, with `@URL@` for the address.
const SCRIPT: &str = include_str!("templates/page.js");

#[derive(Template)]
#[template(path = "page.html", config = "src/askama.toml")]
struct Page<'a> {
    story: &'a Story,
    company: &'a str,
    author: String,
    day: String,
    url: &'a str,
    /// Our own script; nothing in it is anybody's input but the address.
    script: Option<String>,
}

pub(super) fn document(work: &mut Work) -> Result<Vec<File>, Error> {
    page(work, None)
}

pub(super) fn fingerprint(work: &mut Work) -> Result<Vec<File>, Error> {
    // The address stands in a string of a script in a page.
    let url: String = work
        .url
        .chars()
        .filter(|c| c.is_ascii_graphic() && !"\"'\\<>".contains(*c))
        .collect();
    page(work, Some(SCRIPT.replace("@URL@", &url)))
}

fn page(work: &mut Work, script: Option<String>) -> Result<Vec<File>, Error> {
    let story = Story::new(&mut work.draw, &work.setting, work.now);
    let page = Page {
        story: &story,
        company: &work.setting.company,
        author: story.author.full(),
        day: story.day(),
        url: &work.url,
        script,
    };
    let text = page.render().map_err(|_| Error::Write(work.kind))?;
    let path = work.setting.document(&format!("{}.html", story.stem));
    Ok(vec![work.file(
        path,
        "text/html; charset=utf-8",
        0o644,
        story.saved,
        text,
    )])
}
