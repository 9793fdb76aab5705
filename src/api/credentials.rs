//! `/credentials`: what attackers tried as passwords, newest first, paged by id.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Viewer;
use super::error::{Error, Problem};
use super::extract::Query;
use super::{Api, logs};
use crate::db::credential::{CredentialFilter, CredentialRow};

/// Which credentials; all given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct CredentialQuery {
    /// Only rows with a smaller id: `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Decky name.
    decky: Option<String>,
    /// Service slug.
    service: Option<String>,
    /// Attacker's address.
    src: Option<String>,
    /// The claimed identity.
    principal: Option<String>,
    /// SHA-256 of the secret, lower-case hex: who else tried it?
    sha256: Option<String>,
}

/// A secret somebody presented: one row per distinct attacker, decky, service,
/// identity and secret. Every text in it may be the attacker's choice.
#[derive(Serialize, ToSchema)]
pub(super) struct CredentialItem {
    id: i64,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339.
    last_seen: String,
    /// How often.
    count: i64,
    attacker_ip: String,
    decky: String,
    service: String,
    principal: Option<String>,
    /// `plaintext`, `http_digest_md5`, …
    secret_kind: String,
    /// Unprintable bytes shown as `?`.
    secret_printable: String,
    /// The exact bytes.
    secret_b64: String,
    secret_sha256: String,
    /// A line for hashcat or john, for a challenge-response.
    crack: Option<String>,
}

impl From<CredentialRow> for CredentialItem {
    fn from(row: CredentialRow) -> Self {
        Self {
            id: row.id,
            first_seen: row.first_seen.to_string(),
            last_seen: row.last_seen.to_string(),
            count: row.count,
            attacker_ip: row.attacker_ip,
            decky: row.decky,
            service: row.service,
            principal: row.principal,
            secret_kind: row.secret_kind,
            secret_printable: row.secret_printable,
            secret_b64: row.secret_b64,
            secret_sha256: row.secret_sha256,
            crack: row.crack,
        }
    }
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct CredentialPage {
    items: Vec<CredentialItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// Captured credentials, newest first.
#[utoipa::path(
    get, path = "/credentials", tag = "findings", params(CredentialQuery),
    responses(
        (status = 200, body = CredentialPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 401, body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<CredentialQuery>,
) -> Result<axum::Json<CredentialPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let filter = CredentialFilter {
        service: logs::text("service", query.service)?,
        attacker_ip: logs::address("src", query.src)?,
        principal: logs::text("principal", query.principal)?,
        secret_sha256: logs::text("sha256", query.sha256)?,
        decky: logs::text("decky", query.decky)?,
    };
    let rows = api.db.credential_list(&filter, page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.id).filter(|_| full);
    let items = rows.into_iter().map(CredentialItem::from).collect();
    Ok(axum::Json(CredentialPage { items, next }))
}
