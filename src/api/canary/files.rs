//! `/canary/tokens/{id}/files`: the files of a token, for machines that are no deckies.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{around, find};
use crate::api::Api;
use crate::api::auth::Admin;
use crate::api::error::{Error, Problem};
use crate::canary::File;

/// A file of a token.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TokenFile {
    /// For GET /canary/tokens/{id}/files/{n}.
    n: usize,
    name: String,
    /// Where it is planted.
    path: String,
    content_type: &'static str,
    /// Permissions, octal.
    mode: String,
    size_bytes: usize,
}

/// The files of a token.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TokenFiles {
    items: Vec<TokenFile>,
}

async fn make(api: &Api, id: &str) -> Result<Vec<File>, Error> {
    let token = find(api, id).await?;
    Ok(around(api).files(&token).await?)
}

/// What files a token has.
#[utoipa::path(
    get, path = "/canary/tokens/{id}/files", tag = "canary",
    operation_id = "canary_files",
    params(("id" = String, Path, description = "A token of GET /canary/tokens")),
    responses(
        (status = 200, body = TokenFiles),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such token", body = Problem),
        (status = 409, description = "This version cannot make them", body = Problem),
        (status = 422, description = "They cannot be made any more", body = Problem),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _admin: Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<TokenFiles>, Error> {
    let files = make(&api, &id).await?;
    let items = files.into_iter().enumerate().map(|(n, file)| TokenFile {
        n,
        name: file.name,
        path: file.path,
        content_type: file.content_type,
        mode: format!("{:04o}", file.mode),
        size_bytes: file.bytes.len(),
    });
    Ok(axum::Json(TokenFiles {
        items: items.collect(),
    }))
}

/// One file of a token. Opening it triggers the token.
#[utoipa::path(
    get, path = "/canary/tokens/{id}/files/{n}", tag = "canary",
    operation_id = "canary_file",
    params(
        ("id" = String, Path, description = "A token of GET /canary/tokens"),
        ("n" = u32, Path, description = "`n` of GET /canary/tokens/{id}/files"),
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such token or file", body = Problem),
        (status = 409, description = "This version cannot make it", body = Problem),
        (status = 422, description = "It cannot be made any more", body = Problem),
    )
)]
pub(in crate::api) async fn download(
    State(api): State<Api>,
    Admin(member): Admin,
    Path((id, n)): Path<(String, String)>,
) -> Result<Response, Error> {
    let n: usize = n
        .parse()
        .map_err(|_| Error::bad_request("n takes a number of GET …/files."))?;
    let mut files = make(&api, &id).await?;
    if n >= files.len() {
        return Err(Error::not_found("The token has no such file."));
    }
    let file = files.swap_remove(n);
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "canary.download", &id, "ok")
        .await;
    let named = format!("attachment; filename=\"{}\"", header_name(&file.name));
    let named = HeaderValue::from_str(&named).unwrap_or(HeaderValue::from_static("attachment"));
    // Never its own type: a browser might show it, and showing it triggers it.
    let kind = HeaderValue::from_static("application/octet-stream");
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, named),
    ];
    Ok((headers, file.bytes).into_response())
}

/// A file's name, fit for a header and for every file system.
fn header_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._- ()".contains(c);
    let name: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    name.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header_or_directory() {
        assert_eq!(
            header_name("../\"x\"\r\n.env"),
            ".._ x___.env".replace(' ', "_")
        );
        assert_eq!(header_name("Q3 plan (final).docx"), "Q3 plan (final).docx");
    }
}
