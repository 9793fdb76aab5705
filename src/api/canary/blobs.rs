//! `/canary/blobs`: the operator's own files that tokens of the kind `upload` go into. They
//! are taken as they are, one per request.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::api::auth::{Admin, Viewer};
use crate::api::error::{Error, Problem};
use crate::api::extract::Query;
use crate::canary::UPLOAD_MAX;
use crate::db;
use crate::db::canary::blob::BlobRow;
use crate::model::Stamp;
use crate::net::blob;
use crate::net::store::Name;

/// Largest file, and so the largest body of these routes.
pub(in crate::api) const BODY_BYTES: usize = UPLOAD_MAX;
/// Most bytes of all of them.
const TOTAL_MAX: i64 = 1024 * 1024 * 1024;
/// Longest name.
const NAME_MAX: usize = 128;

/// An uploaded file.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Blob {
    /// Lower-case hex; for `blob` of a new token.
    sha256: String,
    /// As it was called when it was uploaded first.
    name: String,
    size_bytes: i64,
    uploaded_by: String,
    /// RFC 3339.
    uploaded_at: String,
    /// How many tokens are in it.
    tokens: i64,
}

impl From<BlobRow> for Blob {
    fn from(row: BlobRow) -> Self {
        Self {
            sha256: row.sha256,
            name: row.name,
            size_bytes: row.size_bytes,
            uploaded_by: row.uploaded_by,
            uploaded_at: row.uploaded_at.to_string(),
            tokens: row.tokens,
        }
    }
}

/// Uploaded files.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct BlobList {
    items: Vec<Blob>,
}

/// Uploaded files, newest first.
#[utoipa::path(
    get, path = "/canary/blobs", tag = "canary", operation_id = "canary_blobs",
    responses((status = 200, body = BlobList))
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
) -> Result<axum::Json<BlobList>, Error> {
    let rows = api.db.canary_blob_list().await?;
    let items = rows.into_iter().map(Blob::from).collect();
    Ok(axum::Json(BlobList { items }))
}

/// What it is called.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct UploadQuery {
    /// The file's name; its ending says how a token is put into it.
    #[param(min_length = 1, max_length = 128)]
    name: String,
}

/// Uploads a file; the same bytes again change nothing.
#[utoipa::path(
    post, path = "/canary/blobs", tag = "canary", params(UploadQuery),
    operation_id = "canary_blob_add",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "It was there", body = Blob),
        (status = 201, body = Blob),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 409, description = "There is no room for more", body = Problem),
        (status = 422, description = "The name or the file is not acceptable", body = Problem),
    )
)]
pub(in crate::api) async fn add(
    State(api): State<Api>,
    Admin(member): Admin,
    Query(query): Query<UploadQuery>,
    body: Bytes,
) -> Result<(StatusCode, axum::Json<Blob>), Error> {
    let name = query.name.trim();
    let bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | '"');
    if name.is_empty() || name.len() > NAME_MAX || name.contains(bad) || name.starts_with("..") {
        return Err(Error::unacceptable(
            "bad-name",
            format!("name takes the name of a file, 1 to {NAME_MAX} bytes."),
        ));
    }
    if body.is_empty() {
        return Err(Error::unacceptable(
            "empty",
            "The file is empty; send its bytes as the body.",
        ));
    }
    let sha256 = blob::name(&body);
    let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
    let there = api.db.canary_blob_find(&sha256).await?.is_some();
    if !there && api.db.canary_blob_bytes().await?.saturating_add(size) > TOTAL_MAX {
        return Err(Error::conflict(
            "full",
            "Uploaded files may have 1 GiB together; delete some.",
        ));
    }
    // The bytes before the row: a row without bytes would promise a file that is not there.
    let root = api.config.paths.canary_blobs();
    let kept = sha256.clone();
    let keeping = tokio::task::spawn_blocking(move || match Name::parse(&kept) {
        Some(name) => blob::keep(&root, &name, &body),
        None => Ok(()),
    });
    keeping
        .await
        .map_err(|error| Error::internal(format!("keeping a file: {error}")))?
        .map_err(|error| Error::internal(format!("keeping a file: {error}")))?;
    let actor = &member.session.user_name;
    let fresh = api
        .db
        .canary_blob_add(&sha256, name, size, actor, Stamp::now())
        .await?;
    api.audit(actor, member.address, "canary.upload", &sha256, "ok")
        .await;
    let row = api.db.canary_blob_find(&sha256).await?;
    let row = row.ok_or_else(|| Error::not_found("The file was deleted meanwhile."))?;
    let status = if fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, axum::Json(row.into())))
}

/// Deletes an uploaded file that no token is in.
#[utoipa::path(
    delete, path = "/canary/blobs/{sha256}", tag = "canary",
    operation_id = "canary_blob_delete",
    params(("sha256" = String, Path, description = "64 lower-case hex digits")),
    responses(
        (status = 204),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such file", body = Problem),
        (status = 409, description = "A token is in it", body = Problem),
    )
)]
pub(in crate::api) async fn delete(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(sha256): Path<String>,
) -> Result<StatusCode, Error> {
    let missing = || Error::not_found("There is no such file.");
    let name = Name::parse(&sha256).ok_or_else(missing)?;
    let there = match api.db.canary_blob_delete(&sha256).await {
        Err(db::Error::Conflict(_)) => {
            return Err(Error::conflict(
                "in-use",
                "A token is in this file; forget that first.",
            ));
        }
        deleted => deleted?,
    };
    if !there {
        return Err(missing());
    }
    let root = api.config.paths.canary_blobs();
    if let Err(error) = blob::delete(&root, &name) {
        tracing::warn!("removing the uploaded file {sha256}: {error}");
    }
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "canary.blob-delete", &sha256, "ok")
        .await;
    Ok(StatusCode::NO_CONTENT)
}
