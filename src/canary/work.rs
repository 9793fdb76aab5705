//! What every generator is given, and how it makes a file.

use super::draw::{Draw, Setting};
use super::{Base, Error, File, Kind, Place, Slug};
use crate::model::Stamp;

/// One thing being made.
pub(super) struct Work {
    pub(super) kind: Kind,
    /// `<http>/c/<slug>`.
    pub(super) url: String,
    /// `<slug>.<zone>`, when there is a zone.
    pub(super) zone_host: Option<String>,
    pub(super) setting: Setting,
    pub(super) draw: Draw,
    pub(super) now: Stamp,
}

impl Work {
    pub(super) fn new(
        kind: Kind,
        slug: &Slug,
        base: &Base,
        place: &Place<'_>,
        seed: u64,
        now: Stamp,
    ) -> Self {
        Self {
            kind,
            url: base.url(slug),
            zone_host: base.host(slug),
            setting: Setting::new(place),
            draw: Draw::new(seed, kind),
            now,
        }
    }

    /// The host name that calls back.
    pub(super) fn host(&self) -> Result<String, Error> {
        self.zone_host.clone().ok_or(Error::NeedsZone(self.kind))
    }

    /// A file that was last changed at `at`.
    pub(super) fn file(
        &self,
        path: String,
        content_type: &'static str,
        mode: u32,
        at: Stamp,
        bytes: impl Into<Vec<u8>>,
    ) -> File {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        File {
            path,
            name,
            content_type,
            mode,
            age: self.now.since(at),
            bytes: bytes.into(),
        }
    }

    /// A text file.
    pub(super) fn text(&self, path: String, mode: u32, at: Stamp, text: String) -> File {
        self.file(path, "text/plain; charset=utf-8", mode, at, text)
    }
}
