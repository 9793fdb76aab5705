//! `/config`: the settings the API runs with, as `decnet config show --json` prints them.
//! Read-only: settings are files and environment, which the API may not write.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Admin;
use super::error::{Error, Problem};
use crate::config::{Effective, key};

/// One setting as it applies.
#[derive(Serialize, ToSchema)]
pub(super) struct ConfigItem {
    /// The environment's name for it.
    name: &'static str,
    /// `***` in place of a secret.
    value: String,
    /// `environment`, `default`, `flag`, or a file and line.
    source: String,
    /// Where it stands in decnet.ini, `section.key`; null when it cannot.
    ini: Option<String>,
    /// One sentence.
    description: &'static str,
}

impl From<&Effective> for ConfigItem {
    fn from(row: &Effective) -> Self {
        let known = key::find(row.name);
        Self {
            name: row.name,
            value: row.shown().to_owned(),
            source: row.origin.to_string(),
            ini: known
                .and_then(|known| known.ini)
                .map(|(section, key)| format!("{section}.{key}")),
            description: known.map_or("", |known| known.doc),
        }
    }
}

/// Every setting.
#[derive(Serialize, ToSchema)]
pub(super) struct ConfigList {
    items: Vec<ConfigItem>,
}

/// The settings the API runs with, and where each comes from. Read at its start: what was
/// changed since takes effect with a restart.
#[utoipa::path(
    get, path = "/config", tag = "system",
    responses(
        (status = 200, body = ConfigList),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _admin: Admin,
) -> Result<axum::Json<ConfigList>, Error> {
    let items = api.config.effective.iter().map(ConfigItem::from).collect();
    Ok(axum::Json(ConfigList { items }))
}
