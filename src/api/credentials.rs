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
    pub(super) before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
    /// Decky name.
    pub(super) decky: Option<String>,
    /// Service slug.
    pub(super) service: Option<String>,
    /// Attacker's address.
    pub(super) src: Option<String>,
    /// The claimed identity.
    pub(super) principal: Option<String>,
    /// SHA-256 of the secret, lower-case hex: who else tried it?
    pub(super) sha256: Option<String>,
}

impl CredentialQuery {
    /// The conditions, checked.
    pub(super) fn filter(self) -> Result<CredentialFilter, Error> {
        Ok(CredentialFilter {
            service: logs::text("service", self.service)?,
            attacker_ip: logs::address("src", self.src)?,
            principal: logs::text("principal", self.principal)?,
            secret_sha256: logs::text("sha256", self.sha256)?,
            decky: logs::text("decky", self.decky)?,
        })
    }
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
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<CredentialQuery>,
) -> Result<axum::Json<CredentialPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let filter = query.filter()?;
    let rows = api.db.credential_list(&filter, page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.id).filter(|_| full);
    let items = rows.into_iter().map(CredentialItem::from).collect();
    Ok(axum::Json(CredentialPage { items, next }))
}

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ReuseQuery {
    /// `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A secret that was tried in more than one place.
#[derive(Serialize, ToSchema)]
pub(super) struct ReuseItem {
    secret_sha256: String,
    secret_kind: String,
    /// Unprintable bytes shown as `?`.
    secret_printable: String,
    /// The first twenty names it was tried with.
    principals: Vec<String>,
    /// Different ones.
    attackers: i64,
    /// Different ones.
    deckies: i64,
    /// Different ones.
    services: i64,
    attempts: i64,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339.
    last_seen: String,
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct ReusePage {
    items: Vec<ReuseItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// Secrets that several attackers tried, or that were tried on several deckies or services.
#[utoipa::path(
    get, path = "/credential-reuse", tag = "findings", params(ReuseQuery),
    responses(
        (status = 200, body = ReusePage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
    )
)]
pub(super) async fn reuse(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<ReuseQuery>,
) -> Result<axum::Json<ReusePage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    if page.limit > 200 {
        return Err(Error::bad_request("limit takes 1 to 200."));
    }
    let rows = api.db.secret_reuse(page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.n).filter(|_| full);
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(ReuseItem {
            principals: api.db.secret_principals(row.id).await?,
            secret_sha256: row.secret_sha256,
            secret_kind: row.secret_kind,
            secret_printable: row.secret_printable,
            attackers: row.attackers,
            deckies: row.deckies,
            services: row.services,
            attempts: row.attempts,
            first_seen: row.first_seen.to_string(),
            last_seen: row.last_seen.to_string(),
        });
    }
    Ok(axum::Json(ReusePage { items, next }))
}
