//! `/canary`: canary tokens, what they caught, and the operator's own files that tokens go
//! into. What a token is and how it gets onto a decky is [`crate::deploy::canary`]'s.

pub(super) mod blobs;
pub(super) mod files;
pub(super) mod tokens;
pub(super) mod triggers;

use axum::http::StatusCode;

use super::Api;
use super::error::Error;
use crate::db::canary::TokenRow;
use crate::deploy::canary::{self, Around};

/// The parts a token needs around it.
fn around(api: &Api) -> Around<'_> {
    Around {
        config: &api.config,
        db: &api.db,
        bus: &api.bus,
    }
}

/// The token of that id.
async fn find(api: &Api, id: &str) -> Result<TokenRow, Error> {
    let row = api.db.canary_find(id).await?;
    row.ok_or_else(|| {
        Error::not_found("There is no such canary token; GET /api/v1/canary/tokens lists them.")
    })
}

impl From<canary::Error> for Error {
    fn from(error: canary::Error) -> Self {
        let text = |error: &canary::Error| {
            let mut text = error.to_string();
            text.push('.');
            text
        };
        match error {
            canary::Error::Wrong(_) | canary::Error::Make(_) => {
                Self::unacceptable("bad-token", text(&error))
            }
            canary::Error::Missing(_) => Self::unacceptable("missing", text(&error)),
            canary::Error::State(_) => Self::conflict("bad-state", text(&error)),
            canary::Error::Decky { .. } => Self::conflict("not-planted", text(&error)),
            canary::Error::Blob(sha256, cause) => Self {
                cause: Some(format!("reading the uploaded file {sha256}: {cause}")),
                ..Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
            },
            canary::Error::Db(error) => error.into(),
        }
    }
}
