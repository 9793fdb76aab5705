//! Every route, in reading order. What guards a route stands in its handler's
//! signature: `Member`, `Viewer`, `Admin`, or nothing.

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::Error;
use super::{
    Api, artifacts, attack_sessions, attackers, canary, catalog, config, credentials, deckies,
    deliveries, edge, exports, fleet, health, jobs, logs, openapi, panel, session, stats, stream,
    tokens, totp, users, webhooks, workers,
};

/// Largest request body; nothing we take is near it.
const BODY_BYTES: usize = 64 * 1024;

fn v1() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        // system
        .routes(routes!(health::health))
        .routes(routes!(config::list))
        // auth
        .routes(routes!(session::login))
        .routes(routes!(session::logout))
        .routes(routes!(session::logout_all))
        .routes(routes!(session::sessions))
        .routes(routes!(session::end))
        .routes(routes!(session::change_password))
        .routes(routes!(session::me))
        .routes(routes!(tokens::list, tokens::add))
        .routes(routes!(tokens::revoke))
        .routes(routes!(totp::state, totp::begin, totp::end))
        .routes(routes!(totp::confirm))
        // workers
        .routes(routes!(workers::list))
        .routes(routes!(workers::start_all))
        .routes(routes!(workers::start))
        .routes(routes!(workers::stop))
        .routes(routes!(workers::restart))
        .routes(routes!(panel::watch))
        .routes(routes!(panel::log))
        // accounts
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::delete))
        .routes(routes!(users::role))
        .routes(routes!(users::reset))
        .routes(routes!(users::end_sessions))
        .routes(routes!(totp::reset))
        .routes(routes!(users::audit))
        // findings
        .routes(routes!(stats::stats))
        .routes(routes!(stats::overview))
        .routes(routes!(logs::list))
        .routes(routes!(logs::histogram))
        .routes(routes!(logs::one))
        .routes(routes!(stream::stream))
        .routes(routes!(attackers::list))
        .routes(routes!(attackers::one))
        .routes(routes!(attackers::commands))
        .routes(routes!(attackers::histogram))
        .routes(routes!(attack_sessions::list))
        .routes(routes!(attack_sessions::one))
        .routes(routes!(attack_sessions::transcript))
        .routes(routes!(attack_sessions::cast))
        .routes(routes!(credentials::list))
        .routes(routes!(credentials::reuse))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::one))
        .routes(routes!(artifacts::download))
        .routes(routes!(exports::order))
        .routes(routes!(exports::file))
        // fleet
        .routes(routes!(deckies::list))
        .routes(routes!(deckies::one, fleet::remove))
        .merge(with_files())
        .routes(routes!(fleet::redeploy))
        .routes(routes!(fleet::mutate))
        .routes(routes!(fleet::mutate_interval))
        .routes(routes!(fleet::add_service))
        .routes(routes!(fleet::remove_service))
        .routes(routes!(fleet::configure))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::one))
        .routes(routes!(catalog::services))
        .routes(routes!(catalog::schema))
        .routes(routes!(catalog::archetypes))
        .routes(routes!(catalog::distros))
        // receivers
        .routes(routes!(webhooks::formats))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::one, webhooks::remove))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::replay))
        .routes(routes!(deliveries::replay_one))
        // canary
        .routes(routes!(canary::tokens::kinds))
        .routes(routes!(canary::tokens::list, canary::tokens::add))
        .routes(routes!(canary::tokens::one, canary::tokens::revoke))
        .routes(routes!(canary::tokens::plant))
        .routes(routes!(canary::files::list))
        .routes(routes!(canary::files::download))
        .routes(routes!(canary::triggers::list))
        .routes(routes!(canary::blobs::delete))
        .merge(with_uploads())
}

/// Routes whose bodies carry a deployment file or a template.
fn with_files() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(fleet::preview))
        .routes(routes!(fleet::deploy))
        .routes(routes!(webhooks::add))
        .routes(routes!(webhooks::change))
        .layer(DefaultBodyLimit::max(fleet::INI_BYTES))
}

/// Routes whose bodies are files.
fn with_uploads() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(canary::blobs::list, canary::blobs::add))
        .layer(DefaultBodyLimit::max(canary::blobs::BODY_BYTES))
}

fn parts() -> (Router<Api>, utoipa::openapi::OpenApi) {
    let (routes, mut document) = OpenApiRouter::with_openapi(openapi::Doc::openapi())
        .nest("/api/v1", v1())
        .split_for_parts();
    openapi::complete(&mut document);
    (routes, document)
}

/// The API's description, as served.
#[must_use]
pub fn document() -> String {
    // Made of strings and numbers, so it always serialises.
    parts().1.to_pretty_json().unwrap_or_default()
}

/// The whole API.
pub fn router(api: Api) -> Router {
    let document = Bytes::from(document());
    let (routes, _) = parts();
    routes
        .route(
            "/api/v1/openapi.json",
            get(move || async move { openapi::reply(document) }),
        )
        .fallback(|| async { Error::of_status(StatusCode::NOT_FOUND) })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(axum::middleware::from_fn(edge::edge))
        .with_state(api)
}
