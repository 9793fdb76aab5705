//! The API's own description: derived from the handlers, served at
//! `/api/v1/openapi.json`, held by a snapshot.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
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
        (name = "accounts", description = "Who may get in, and what they did"),
        (name = "workers", description = "The daemons"),
        (name = "findings", description = "What attackers did"),
        (name = "fleet", description = "Deckies, and the jobs that change them"),
        (name = "webhooks", description = "Who else is told"),
        (name = "canary", description = "Bait that tells when somebody uses it"),
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

/// Writes down what is the same for every operation: refusals are problem documents, and
/// some of them any request may meet.
pub(super) fn complete(openapi: &mut utoipa::openapi::OpenApi) {
    for item in openapi.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            add_refusals(operation);
        }
    }
}

/// Adds the refusals that come from the extractors and the edge, and gives every problem
/// its media type.
fn add_refusals(operation: &mut Operation) {
    let open = operation
        .security
        .as_ref()
        .is_some_and(|ways| ways.contains(&SecurityRequirement::default()));
    let takes = operation.parameters.as_ref().is_some_and(|p| !p.is_empty());
    let has_body = operation.request_body.is_some();
    let common = [
        (takes || has_body, "400", "The request cannot be read"),
        (!open, "401", "Not logged in"),
        (has_body, "413", "The body is too large"),
        (has_body, "415", "The body is not of the stated kind"),
        (true, "503", "Not finished in time; try again"),
    ];
    for (applies, status, what) in common {
        if applies && !operation.responses.responses.contains_key(status) {
            let problem = Ref::from_schema_name("Problem");
            let response = ResponseBuilder::new()
                .description(what)
                .content("application/json", Content::new(Some(problem)))
                .build();
            let responses = &mut operation.responses.responses;
            responses.insert(status.to_owned(), RefOr::T(response));
        }
    }
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        let is_problem = matches!(
            response.content.get("application/json"),
            Some(RefOr::T(Content { schema: Some(RefOr::Ref(to)), .. }))
                if to.ref_location.ends_with("/Problem")
        );
        if is_problem && let Some(content) = response.content.swap_remove("application/json") {
            let kind = "application/problem+json".to_owned();
            response.content.insert(kind, content);
        }
    }
}

/// Sends the finished document.
pub(super) fn reply(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
