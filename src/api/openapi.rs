//! The API's own description: derived from the handlers, served at
//! `/api/v1/openapi.json`, held by a snapshot.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// What is not said by a handler.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "DECNET API",
        version = "1",
        description = "Log in with POST /api/v1/auth/login and send the token as `Authorization: Bearer TOKEN`. \
                       Whatever is not a success is a problem document (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "system", description = "How it is"),
        (name = "auth", description = "Sessions and passwords"),
        (name = "workers", description = "The daemons"),
        (name = "findings", description = "What attackers did"),
    ),
    security(("token" = [])),
    modifiers(&Token),
)]
pub(super) struct Doc;

struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        // Taken from the package unless removed; the API has no mailbox.
        openapi.info.contact = None;
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Sends the finished document.
pub(super) fn reply(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
