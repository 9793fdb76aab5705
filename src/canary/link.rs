//! The bare addresses, for whatever the operator has in mind.

use super::work::Work;
use super::{Error, File};

pub(super) fn url(work: &mut Work) -> Result<Vec<File>, Error> {
    let text = format!("{}\n", work.url);
    one(work, "link.txt", text)
}

pub(super) fn name(work: &mut Work) -> Result<Vec<File>, Error> {
    let text = format!("{}\n", work.host()?);
    one(work, "host.txt", text)
}

fn one(work: &mut Work, name: &str, text: String) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 5, 90);
    let path = work.setting.document(name);
    Ok(vec![work.text(path, 0o644, at, text)])
}
