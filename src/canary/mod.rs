//! Things that call back when somebody uses them: credentials, documents, links. Values
//! in, values out: what is planted where, and what calls back, is the worker's and the
//! database's.
//!
//! [`make`] renders a [`Kind`] for a [`Slug`] at a [`Place`], the same bytes for the same
//! arguments for ever, so that a planted file can be rendered again from its row;
//! [`instrument`] puts the call-back into a file of the operator's. [`fingerprint`] reads
//! what the page of [`Kind::HtmlFingerprint`] sends. Everything under `/c/<slug>` is a
//! call-back, whatever the method and whatever follows.
//!
//! Nothing rendered names the product, and nothing in it is a dummy: keys are keys,
//! certificates parse, documents open without a repair.

mod aws;
mod docx;
mod draw;
mod env;
pub mod fingerprint;
mod git;
mod html;
mod kind;
mod kube;
mod link;
mod mail;
mod mysql;
mod package;
mod pdf;
mod qr;
mod recipe;
mod slug;
mod ssh;
mod story;
mod svg;
mod upload;
mod windows;
mod wireguard;
mod work;
mod xlsx;

use std::time::Duration;

pub use kind::{Callback, Kind};
pub use recipe::{Home, Recipe, Texts};
pub use slug::Slug;
pub use upload::{How, UPLOAD_MAX, instrument};

use crate::model::Stamp;

/// Where call-backs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Start of every URL, for example `http://files.example.org:8088`, without a slash
    /// at its end.
    pub http: String,
    /// The zone our name server answers for, for example `cdn.example.org`.
    pub dns_zone: Option<String>,
}

impl Base {
    /// `<http>/c/<slug>`. What follows it (`/repo.git`, `/pixel.gif`) is recorded too.
    #[must_use]
    pub fn url(&self, slug: &Slug) -> String {
        format!("{}/c/{slug}", self.http.trim_end_matches('/'))
    }

    /// `<slug>.<zone>`, when there is a zone.
    #[must_use]
    pub fn host(&self, slug: &Slug) -> Option<String> {
        let zone = self.dns_zone.as_deref()?.trim_matches('.');
        (!zone.is_empty()).then(|| format!("{slug}.{}", zone.to_ascii_lowercase()))
    }
}

/// Where it is planted, so that what it says fits what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Short host name.
    pub hostname: &'a str,
    /// DNS domain of the host.
    pub domain: &'a str,
    /// Login whose home it is.
    pub user: &'a str,
    /// The home: `/home/jdoe`, `/root`, `C:/Users/jdoe`.
    pub home: &'a str,
    /// The login's number, which the planted files belong to.
    pub uid: u32,
    /// Company the host belongs to.
    pub company: &'a str,
    /// Whether the host is a Windows machine.
    pub windows: bool,
}

/// One file of a planted thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it lies by default, absolute, with forward slashes. Empty for an upload:
    /// only the operator knows.
    pub path: String,
    /// Its name when it is downloaded.
    pub name: String,
    /// Media type.
    pub content_type: &'static str,
    /// Permissions.
    pub mode: u32,
    /// How long before now it was last changed.
    pub age: Duration,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Why nothing was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It calls back by DNS alone.
    #[error(
        "{0} calls back by DNS and needs DECNET_CANARY_DNS_ZONE; set it, or choose another kind"
    )]
    NeedsZone(Kind),
    /// There is no file to make it from.
    #[error("upload is made from a file of yours; upload one")]
    NeedsFile,
    /// The file is larger than [`UPLOAD_MAX`], or what is packed in it is.
    #[error("{what} is larger than {limit} bytes; use a smaller file")]
    TooLarge {
        /// The file, or what it unpacks to.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The file is not what its name says.
    #[error(
        "{name} cannot be read as {expected}: {reason}; save it again with its program, or upload it under another name"
    )]
    Damaged {
        /// Name of the file.
        name: String,
        /// What it should be.
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The archive of a document could not be written.
    #[error("writing the {0} failed")]
    Write(Kind),
}

/// The files of `kind` that call back as `slug`. The same arguments give the same bytes;
/// `now` is when the thing was created, and every date in it lies before.
///
/// # Errors
/// One line that says what is missing.
pub fn make(
    kind: Kind,
    slug: &Slug,
    base: &Base,
    place: &Place<'_>,
    seed: u64,
    now: Stamp,
) -> Result<Vec<File>, Error> {
    let work = &mut work::Work::new(kind, slug, base, place, seed, now);
    match kind {
        Kind::WebBug => link::url(work),
        Kind::DnsName => link::name(work),
        Kind::AwsCredentials => aws::make(work),
        Kind::Kubeconfig => kube::make(work),
        Kind::GitConfig => git::make(work),
        Kind::EnvFile => env::make(work),
        Kind::SshKey => ssh::make(work),
        Kind::MysqlDump => mysql::make(work),
        Kind::WireguardConfig => wireguard::make(work),
        Kind::Docx => docx::make(work),
        Kind::Xlsx => xlsx::make(work),
        Kind::Pdf => pdf::make(work),
        Kind::Html => html::document(work),
        Kind::HtmlFingerprint => html::fingerprint(work),
        Kind::Svg => svg::make(work),
        Kind::QrCode => qr::make(work),
        Kind::EmailLink => mail::make(work),
        Kind::DesktopIni => windows::desktop_ini(work),
        Kind::UrlShortcut => windows::shortcut(work),
        Kind::Upload => Err(Error::NeedsFile),
    }
}

#[cfg(test)]
pub(crate) mod tests;
