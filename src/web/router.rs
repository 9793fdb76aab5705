//! Every page, in reading order.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use super::{
    Web, account, assets, attackers, canary, config, credentials, deploy, docs, edge, error,
    exports, files, fleet, live, login, map, overview, second, services, sessions, settings,
    stream, totp, webhooks, workers,
};

/// Largest form.
const FORM_BYTES: usize = 64 * 1024;
/// Largest form with a file: the API takes 10 MiB.
const UPLOAD_BYTES: usize = 11 * 1024 * 1024;

/// The whole dashboard.
pub fn router(web: Web) -> Router {
    Router::new()
        // in and out
        .route("/login", get(login::form).post(login::submit))
        .route("/login/code", post(second::submit))
        .route("/logout", post(login::logout))
        .route("/password", get(login::password).post(login::change))
        .route("/look", post(settings::look))
        // what happens
        .route("/", get(overview::page))
        .route("/overview/part", get(overview::part))
        .route("/overview/map.svg", get(map::svg))
        .route("/live", get(live::page))
        .route("/live/stream", get(stream::logs))
        .route("/logs/{id}", get(live::one))
        // who and what
        .route("/attackers", get(attackers::list))
        .route("/attackers/{id}", get(attackers::one))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(sessions::one))
        .route("/sessions/{id}/transcript.cast", get(sessions::cast))
        .route("/credentials", get(credentials::list))
        .route("/credentials/reuse", get(credentials::reuse))
        .route("/exports", post(exports::order))
        .route("/artifacts", get(files::list))
        .route("/artifacts/{sha256}", get(files::one))
        .route("/artifacts/{sha256}/{form}", get(files::download_one))
        // the installation
        .route("/fleet", get(fleet::list))
        // No decky is called so: names begin with a letter or a digit.
        .route("/fleet/-/part", get(fleet::part))
        .route("/deploy", get(deploy::form).post(deploy::submit))
        .route("/jobs", get(deploy::list))
        .route("/jobs/{id}", get(deploy::one))
        .route("/jobs/{id}/part", get(deploy::part))
        .route("/jobs/{id}/file", get(exports::file))
        .route("/fleet/{name}", get(fleet::one))
        .route("/fleet/{name}/services", get(services::choose))
        .route(
            "/fleet/{name}/services/{service}",
            get(services::page).post(services::set),
        )
        .route(
            "/fleet/{name}/services/{service}/remove",
            get(services::confirm).post(services::remove),
        )
        .route("/fleet/{name}/{verb}", get(fleet::confirm).post(fleet::act))
        .route("/workers", get(workers::page))
        .route("/workers/part", get(workers::part))
        .route("/workers/stream", get(stream::workers))
        .route("/workers/start-all", post(workers::start_all))
        .route("/workers/{name}", get(workers::log))
        .route("/workers/{name}/{verb}", post(workers::act))
        .route("/canary", get(canary::list).post(canary::add))
        .route(
            "/canary/blobs",
            post(canary::upload).layer(DefaultBodyLimit::max(UPLOAD_BYTES)),
        )
        .route("/canary/blobs/{sha256}/forget", post(canary::forget))
        .route("/canary/{id}", get(canary::one))
        .route("/canary/{id}/part", get(canary::one_part))
        .route("/canary/{id}/files/{n}", get(canary::file))
        .route(
            "/canary/{id}/{verb}",
            get(canary::confirm).post(canary::act),
        )
        .route("/webhooks", get(webhooks::list).post(webhooks::add))
        .route("/webhooks/{id}", get(webhooks::one))
        .route(
            "/webhooks/{id}/{verb}",
            get(webhooks::confirm).post(webhooks::act),
        )
        .route(
            "/webhooks/{id}/deliveries/{delivery}/replay",
            post(webhooks::replay),
        )
        .route("/account", get(account::page))
        .route("/account/sessions/{id}/end", post(account::end_session))
        .route("/account/logout-all", post(account::logout_all))
        .route("/account/totp", post(totp::begin))
        .route("/account/totp/confirm", post(totp::confirm))
        .route("/account/totp/end", post(totp::end))
        .route("/account/tokens", post(account::add_token))
        .route("/account/tokens/{id}/revoke", post(account::revoke_token))
        .route("/users", get(settings::users).post(settings::add_user))
        .route(
            "/users/{id}/{verb}",
            get(settings::confirm).post(settings::change_user),
        )
        .route("/audit", get(settings::audit))
        .route("/config", get(config::page))
        .route("/docs", get(docs::page))
        // the rest
        .route("/assets/{hash}/{name}", get(assets::serve))
        .fallback(error::not_found)
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(axum::middleware::from_fn_with_state(
            web.clone(),
            edge::edge,
        ))
        .with_state(web)
}
