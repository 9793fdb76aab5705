//! `/artifacts`: files that attackers left. They leave this house only as attachments, as
//! they are or in a zip archive with the password that analysts expect (`infected`).

use std::io::{Cursor, Read, Write};

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};
use zip::unstable::write::FileOptionsExt;
use zip::write::SimpleFileOptions;

use super::auth::{Admin, Viewer};
use super::error::{Error, Problem};
use super::extract::Query;
use super::{Api, logs};
use crate::db::Origin;
use crate::db::artifact::{ArtifactRow, SightingRow};
use crate::net::store::{self, Name};

/// Password of archives.
const PASSWORD: &[u8] = b"infected";
/// Files read at a time: each is in memory while it is sent.
static READING: Semaphore = Semaphore::const_new(2);

/// Which files; all given conditions must hold for one time it was left.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ArtifactQuery {
    /// `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Attacker's address.
    src: Option<String>,
    /// Decky name.
    decky: Option<String>,
    /// Service slug.
    service: Option<String>,
}

/// A file somebody left.
#[derive(Serialize, ToSchema)]
pub(super) struct ArtifactItem {
    /// Lower-case hex.
    sha256: String,
    size_bytes: i64,
    /// What the attacker called it.
    name: Option<String>,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339.
    last_seen: String,
    /// How often it was left.
    count: i64,
    /// Who left it last.
    attacker_ip: String,
    decky: String,
    service: String,
    session: String,
}

impl From<ArtifactRow> for ArtifactItem {
    fn from(row: ArtifactRow) -> Self {
        Self {
            sha256: row.sha256,
            size_bytes: row.size_bytes,
            name: Some(row.name).filter(|n| !n.is_empty()),
            first_seen: row.first_seen.to_string(),
            last_seen: row.last_seen.to_string(),
            count: row.count,
            attacker_ip: row.attacker_ip,
            decky: row.decky,
            service: row.service,
            session: row.session,
        }
    }
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct ArtifactPage {
    items: Vec<ArtifactItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// Files, those that came last first.
#[utoipa::path(
    get, path = "/artifacts", tag = "findings", params(ArtifactQuery),
    responses(
        (status = 200, body = ArtifactPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<ArtifactQuery>,
) -> Result<axum::Json<ArtifactPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let filter = Origin {
        attacker_ip: logs::address("src", query.src)?,
        decky: logs::text("decky", query.decky)?,
        service: logs::text("service", query.service)?,
    };
    let rows = api.db.artifact_list(&filter, page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.n).filter(|_| full);
    let items = rows.into_iter().map(ArtifactItem::from).collect();
    Ok(axum::Json(ArtifactPage { items, next }))
}

/// One time a file was left.
#[derive(Serialize, ToSchema)]
pub(super) struct Observation {
    /// RFC 3339.
    at: String,
    attacker_ip: String,
    decky: String,
    service: String,
    session: String,
    name: Option<String>,
}

impl From<SightingRow> for Observation {
    fn from(row: SightingRow) -> Self {
        Self {
            at: row.ts.to_string(),
            attacker_ip: row.attacker_ip,
            decky: row.decky,
            service: row.service,
            session: row.session,
            name: Some(row.name).filter(|n| !n.is_empty()),
        }
    }
}

/// A file with the last hundred times it was left.
#[derive(Serialize, ToSchema)]
pub(super) struct ArtifactDetail {
    #[serde(flatten)]
    artifact: ArtifactItem,
    /// Newest first.
    observations: Vec<Observation>,
    /// Whether its bytes are in the store; the oldest make room when it is full.
    available: bool,
}

fn name(sha256: &str) -> Result<Name, Error> {
    Name::parse(sha256).ok_or_else(|| {
        Error::not_found("There is no such file; give its SHA-256 as 64 lower-case hex digits.")
    })
}

/// One file.
#[utoipa::path(
    get, path = "/artifacts/{sha256}", tag = "findings",
    params(("sha256" = String, Path, description = "64 lower-case hex digits")),
    responses(
        (status = 200, body = ArtifactDetail),
        (status = 404, description = "There is no such file", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(sha256): Path<String>,
) -> Result<axum::Json<ArtifactDetail>, Error> {
    let name = name(&sha256)?;
    let row = api.db.artifact_get(name.as_str()).await?;
    let row = row.ok_or_else(|| Error::not_found("There is no such file."))?;
    let observations = api.db.artifact_sightings(name.as_str()).await?;
    let available = matches!(store::open(&api.config.paths.artifacts, &name), Ok(Some(_)));
    Ok(axum::Json(ArtifactDetail {
        artifact: row.into(),
        observations: observations.into_iter().map(Observation::from).collect(),
        available,
    }))
}

/// How the bytes are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// As they are.
    #[default]
    Raw,
    /// In a zip archive with the password `infected`.
    Zip,
}

/// How to download.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DownloadQuery {
    #[param(inline)]
    format: Form,
}

/// The bytes of a file an attacker left. It may be malware.
#[utoipa::path(
    get, path = "/artifacts/{sha256}/download", tag = "findings",
    params(("sha256" = String, Path, description = "64 lower-case hex digits"), DownloadQuery),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such file, or its bytes made room for newer ones", body = Problem),
    )
)]
pub(super) async fn download(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(sha256): Path<String>,
    Query(query): Query<DownloadQuery>,
) -> Result<Response, Error> {
    let name = name(&sha256)?;
    let root = api.config.paths.artifacts.clone();
    let turn = READING.acquire().await;
    let read = tokio::task::spawn_blocking(move || bytes(&root, &name, query.format)).await;
    drop(turn);
    let bytes = read
        .map_err(|e| Error::internal(format!("reading a file: {e}")))?
        .map_err(|e| Error::internal(format!("reading the file {sha256}: {e}")))?
        .ok_or_else(|| Error::not_found("The store does not have the bytes of this file."))?;
    let user = &member.session.user_name;
    api.audit(user, member.address, "artifact.download", &sha256, "ok")
        .await;
    let (kind, ending) = match query.format {
        Form::Raw => ("application/octet-stream", "bin"),
        Form::Zip => ("application/zip", "zip"),
    };
    let file = format!("attachment; filename=\"{sha256}.{ending}\"");
    // Hex digits are fit for a header.
    let file = HeaderValue::from_str(&file).unwrap_or(HeaderValue::from_static("attachment"));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, bytes).into_response())
}

fn bytes(root: &std::path::Path, name: &Name, form: Form) -> std::io::Result<Option<Vec<u8>>> {
    let Some((_, mut file)) = store::open(root, name)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if form == Form::Raw {
        return Ok(Some(bytes));
    }
    let options = SimpleFileOptions::default().with_deprecated_encryption(PASSWORD);
    let options = options.map_err(std::io::Error::other)?;
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .start_file(name.as_str(), options)
        .map_err(std::io::Error::other)?;
    archive.write_all(&bytes)?;
    let done = archive.finish().map_err(std::io::Error::other)?;
    Ok(Some(done.into_inner()))
}
