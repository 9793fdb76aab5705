//! `/webhooks`: receivers of events. What they were sent is in [`super::deliveries`].

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::{Admin, Viewer};
use super::error::{Blame, Error, Problem};
use super::extract::Json;
use crate::db;
use crate::db::webhook::{Hidden, Wanted, Webhook};
use crate::deploy::webhook;
use crate::export::{Envelope, Format, PRESETS, signature};
use crate::model::{Stamp, topic};

/// Receivers of one installation.
const MOST: usize = 100;

/// A receiver.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookItem {
    id: String,
    name: String,
    /// Empty when the key file it was sealed with is gone.
    url: String,
    /// One of `GET /webhook-formats`.
    format: String,
    template: Option<String>,
    /// Names of the operator's own headers; their values are not told again.
    header_names: Vec<String>,
    topic_patterns: Vec<String>,
    enabled: bool,
    /// `closed`: events are delivered. `open`: it failed several times in a row and is only
    /// probed now and then. `failing`: the last attempt failed.
    circuit: &'static str,
    /// Failed attempts in a row.
    consecutive_failures: i64,
    /// RFC 3339: when an open circuit tries again.
    retry_at: Option<String>,
    /// RFC 3339.
    last_success_at: Option<String>,
    /// RFC 3339.
    last_failure_at: Option<String>,
    last_error: Option<String>,
    /// Deliveries that wait.
    pending: i64,
    /// Deliveries that were given up; they can be replayed.
    dead: i64,
    /// Events its full queue refused.
    dropped: i64,
    /// RFC 3339: until when the secret before the current one signs too.
    previous_secret_until: Option<String>,
    /// `insecure_url`: it is plain HTTP. `sealed`: its secrets cannot be opened.
    warnings: Vec<&'static str>,
    created_by: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
}

impl WebhookItem {
    fn new(row: Webhook, now: Stamp) -> Self {
        let text = |at: Option<Stamp>| at.map(|at| at.to_string());
        let mut warnings = Vec::new();
        match &row.hidden {
            None => warnings.push("sealed"),
            Some(hidden) if hidden.url.starts_with("http://") => warnings.push("insecure_url"),
            Some(_) => {}
        }
        let hidden = row.hidden;
        let previous = hidden.as_ref().and_then(|h| h.previous.as_ref());
        let previous = previous.map(|(_, until)| *until).filter(|at| *at > now);
        Self {
            circuit: match (row.open_until, row.failures) {
                (Some(_), _) => "open",
                (None, 0) => "closed",
                (None, _) => "failing",
            },
            previous_secret_until: text(previous),
            header_names: hidden
                .iter()
                .flat_map(|h| h.headers.iter().map(|(n, _)| n.clone()))
                .collect(),
            url: hidden.map(|h| h.url).unwrap_or_default(),
            id: row.id,
            name: row.name,
            format: row.format,
            template: row.template,
            topic_patterns: row.patterns,
            enabled: row.enabled,
            consecutive_failures: row.failures,
            retry_at: text(row.open_until),
            last_success_at: text(row.last_success_at),
            last_failure_at: text(row.last_failure_at),
            last_error: row.last_error,
            pending: row.pending,
            dead: row.dead,
            dropped: row.dropped,
            warnings,
            created_by: row.created_by,
            created_at: row.created_at.to_string(),
            updated_at: row.updated_at.to_string(),
        }
    }
}

/// Receivers.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookList {
    items: Vec<WebhookItem>,
}

/// A format a receiver can be told in.
#[derive(Serialize, ToSchema)]
pub(super) struct FormatItem {
    name: &'static str,
}

/// A group of topics under a name.
#[derive(Serialize, ToSchema)]
pub(super) struct PresetItem {
    /// For `simple_events`.
    name: &'static str,
    about: &'static str,
    topic_patterns: Vec<&'static str>,
}

/// What a receiver can be.
#[derive(Serialize, ToSchema)]
pub(super) struct Formats {
    formats: Vec<FormatItem>,
    presets: Vec<PresetItem>,
}

/// The formats and presets that a webhook can name.
#[utoipa::path(get, path = "/webhook-formats", tag = "webhooks", responses((status = 200, body = Formats)))]
pub(super) async fn formats(_viewer: Viewer) -> axum::Json<Formats> {
    axum::Json(Formats {
        formats: Format::ALL
            .iter()
            .map(|format| FormatItem {
                name: format.as_str(),
            })
            .collect(),
        presets: PRESETS
            .iter()
            .map(|preset| PresetItem {
                name: preset.name,
                about: preset.about,
                topic_patterns: preset.patterns.to_vec(),
            })
            .collect(),
    })
}

/// Every receiver, by name.
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks",
    responses(
        (status = 200, body = WebhookList),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _admin: Admin,
) -> Result<axum::Json<WebhookList>, Error> {
    let now = Stamp::now();
    let rows = api.db.webhook_list(api.seal()?).await?;
    let items = rows.into_iter().map(|row| WebhookItem::new(row, now));
    Ok(axum::Json(WebhookList {
        items: items.collect(),
    }))
}

/// One receiver.
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name of a webhook")),
    responses(
        (status = 200, body = WebhookItem),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _admin: Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<WebhookItem>, Error> {
    let row = find(&api, &id).await?;
    Ok(axum::Json(WebhookItem::new(row, Stamp::now())))
}

/// The row with that id or name.
pub(super) async fn find(api: &Api, id: &str) -> Result<Webhook, Error> {
    let row = api.db.webhook_get(api.seal()?, id).await?;
    row.ok_or_else(|| {
        Error::not_found("There is no such webhook; GET /api/v1/webhooks lists them.")
    })
}

/// A new receiver.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    /// Unique.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// Where events are sent by `POST`.
    #[schema(max_length = 2048)]
    url: String,
    /// One of `GET /webhook-formats`; `json` unless told.
    #[schema(max_length = 32)]
    format: Option<String>,
    /// The body in Jinja, for the format `template`.
    #[schema(max_length = 65536)]
    template: Option<String>,
    /// Headers to send, an Authorization for instance.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Presets of `GET /webhook-formats`.
    #[serde(default)]
    simple_events: Vec<String>,
    /// Bus patterns: `*` is one part of a topic, a closing `>` the rest.
    #[serde(default)]
    #[schema(max_items = 32)]
    topic_patterns: Vec<String>,
    /// What deliveries are signed with; made when absent.
    #[schema(min_length = 16, max_length = 256)]
    secret: Option<String>,
    /// Deliver from now on; yes unless told.
    enabled: Option<bool>,
}

/// A receiver with its secret, which is not told again.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeWebhook {
    #[serde(flatten)]
    webhook: WebhookItem,
    /// Verify `webhook-signature` with it.
    secret: String,
}

/// Adds a receiver. Its secret is told here only.
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks",
    request_body = NewWebhook,
    responses(
        (status = 201, body = MadeWebhook),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 409, description = "The name is taken, or there are too many", body = Problem),
        (status = 422, description = "A field is not acceptable", body = Problem),
    )
)]
pub(super) async fn add(
    State(api): State<Api>,
    Admin(member): Admin,
    Json(new): Json<NewWebhook>,
) -> Result<(StatusCode, axum::Json<MadeWebhook>), Error> {
    let seal = api.seal()?;
    if api.db.webhook_list(seal).await?.len() >= MOST {
        return Err(Error::conflict(
            "too-many",
            format!("There are {MOST} webhooks already; remove one first."),
        ));
    }
    let patterns = webhook::patterns(&new.simple_events, &new.topic_patterns)
        .map_err(|e| refused("topic_patterns", e))?;
    let secret = new
        .secret
        .unwrap_or_else(|| signature::generate(rand::random()));
    let wanted = Wanted {
        name: new.name,
        format: new
            .format
            .unwrap_or_else(|| Format::Json.as_str().to_owned()),
        template: new.template.filter(|t| !t.is_empty()),
        patterns,
        enabled: new.enabled.unwrap_or(true),
        hidden: Hidden {
            url: new.url,
            headers: new.headers.into_iter().collect(),
            secret: secret.clone(),
            previous: None,
        },
    };
    check(&api, &wanted)?;
    let now = Stamp::now();
    let actor = &member.session.user_name;
    let id = match api.db.webhook_add(seal, &wanted, actor, now).await {
        Err(db::Error::Conflict(_)) => return Err(taken(&wanted.name)),
        added => added?,
    };
    api.audit(actor, member.address, "webhook.add", &wanted.name, "ok")
        .await;
    changed(&api);
    let webhook = WebhookItem::new(find(&api, &id).await?, now);
    Ok((
        StatusCode::CREATED,
        axum::Json(MadeWebhook { webhook, secret }),
    ))
}

/// What to change of a receiver; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangedWebhook {
    #[schema(min_length = 1, max_length = 64)]
    name: Option<String>,
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// Another format than `template` forgets the template.
    #[schema(max_length = 32)]
    format: Option<String>,
    #[schema(max_length = 65536)]
    template: Option<String>,
    /// All headers anew.
    headers: Option<BTreeMap<String, String>>,
    /// With `topic_patterns`: all patterns anew.
    simple_events: Option<Vec<String>>,
    /// With `simple_events`: all patterns anew.
    #[schema(max_items = 32)]
    topic_patterns: Option<Vec<String>>,
    enabled: Option<bool>,
}

/// Changes a receiver; its failures are forgotten and it is tried at once.
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name of a webhook")),
    request_body = ChangedWebhook,
    responses(
        (status = 200, body = WebhookItem),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook", body = Problem),
        (status = 409, description = "The name is taken, or somebody else changed it meanwhile", body = Problem),
        (status = 422, description = "A field is not acceptable", body = Problem),
    )
)]
pub(super) async fn change(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
    Json(new): Json<ChangedWebhook>,
) -> Result<axum::Json<WebhookItem>, Error> {
    let row = find(&api, &id).await?;
    let mut wanted = row.wanted().ok_or_else(sealed)?;
    wanted.name = new.name.unwrap_or(wanted.name);
    wanted.enabled = new.enabled.unwrap_or(wanted.enabled);
    wanted.hidden.url = new.url.unwrap_or(wanted.hidden.url);
    if let Some(headers) = new.headers {
        wanted.hidden.headers = headers.into_iter().collect();
    }
    if new.simple_events.is_some() || new.topic_patterns.is_some() {
        let presets = new.simple_events.unwrap_or_default();
        let given = new.topic_patterns.unwrap_or_default();
        wanted.patterns =
            webhook::patterns(&presets, &given).map_err(|e| refused("topic_patterns", e))?;
    }
    wanted.format = new.format.unwrap_or(wanted.format);
    let is_template = wanted.format == Format::Template.as_str();
    let template = new.template.or(wanted.template);
    wanted.template = template.filter(|t| is_template && !t.is_empty());
    check(&api, &wanted)?;
    write(&api, &row.id, row.version, &wanted).await?;
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "webhook.change", &wanted.name, "ok")
        .await;
    changed(&api);
    let row = find(&api, &row.id).await?;
    Ok(axum::Json(WebhookItem::new(row, Stamp::now())))
}

/// Removes a receiver with everything that waits for it.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name of a webhook")),
    responses(
        (status = 204),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook", body = Problem),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let row = find(&api, &id).await?;
    api.db.webhook_delete(&row.id).await?;
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "webhook.remove", &row.name, "ok")
        .await;
    changed(&api);
    Ok(StatusCode::NO_CONTENT)
}

/// A new secret, the operator's own or made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSecret {
    #[schema(min_length = 16, max_length = 256)]
    secret: Option<String>,
}

/// A secret, told once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeSecret {
    secret: String,
    /// RFC 3339: until when deliveries carry a signature with the one before, too.
    previous_secret_until: String,
}

/// Gives a receiver a new secret. For a day deliveries are signed with both.
#[utoipa::path(
    post, path = "/webhooks/{id}/rotate", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name of a webhook")),
    request_body = NewSecret,
    responses(
        (status = 200, body = MadeSecret),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook", body = Problem),
        (status = 409, description = "Somebody else changed it meanwhile", body = Problem),
        (status = 422, description = "The secret is not acceptable", body = Problem),
    )
)]
pub(super) async fn rotate(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
    Json(new): Json<NewSecret>,
) -> Result<axum::Json<MadeSecret>, Error> {
    let row = find(&api, &id).await?;
    let mut wanted = row.wanted().ok_or_else(sealed)?;
    let now = Stamp::now();
    let secret = new
        .secret
        .unwrap_or_else(|| signature::generate(rand::random()));
    wanted.hidden = webhook::rotated(wanted.hidden, secret.clone(), now);
    check(&api, &wanted)?;
    write(&api, &row.id, row.version, &wanted).await?;
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "webhook.rotate", &wanted.name, "ok")
        .await;
    changed(&api);
    Ok(axum::Json(MadeSecret {
        secret,
        previous_secret_until: now.plus(webhook::ROTATION).to_string(),
    }))
}

/// What became of a test.
#[derive(Serialize, ToSchema)]
pub(super) struct Tested {
    delivered: bool,
    /// The receiver's status; null when it did not answer.
    status_code: Option<u16>,
    error: Option<String>,
    took_ms: u64,
}

/// Sends one made-up event (topic `system.webhook.test`) and tells what came of it. It goes
/// past the queue and leaves no record there.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name of a webhook")),
    responses(
        (status = 200, body = Tested),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook", body = Problem),
    )
)]
pub(super) async fn test(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<Tested>, Error> {
    let row = find(&api, &id).await?;
    let now = Stamp::now();
    let sent = webhook::send(api.outbound()?, &row, &Envelope::sample(now), now).await;
    let delivered = sent.verdict == webhook::Verdict::Delivered;
    let outcome = if delivered { "ok" } else { "failed" };
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "webhook.test", &row.name, outcome)
        .await;
    Ok(axum::Json(Tested {
        delivered,
        status_code: sent.status,
        error: sent.error,
        took_ms: u64::try_from(sent.took.as_millis()).unwrap_or(u64::MAX),
    }))
}

fn check(api: &Api, wanted: &Wanted) -> Result<(), Error> {
    webhook::check(wanted, api.config.webhook.allow_private).map_err(|(field, e)| refused(field, e))
}

fn refused(field: &str, message: String) -> Error {
    Error::unacceptable("bad-webhook", format!("{field}: {message}.")).blaming(vec![Blame {
        line: None,
        field: Some(field.to_owned()),
        message,
    }])
}

fn sealed() -> Error {
    Error::conflict(
        "sealed",
        "Its URL and secret cannot be opened: the key file was replaced. Remove it and add it anew.",
    )
}

fn taken(name: &str) -> Error {
    Error::conflict(
        "name-taken",
        format!("There is a webhook '{name}' already."),
    )
}

async fn write(api: &Api, id: &str, version: i64, wanted: &Wanted) -> Result<(), Error> {
    let seal = api.seal()?;
    let outcome = api
        .db
        .webhook_change(seal, id, version, wanted, Stamp::now())
        .await;
    if let Err(db::Error::Conflict(_)) = outcome {
        let other = api.db.webhook_get(seal, &wanted.name).await?;
        if other.is_some_and(|other| other.id != id) {
            return Err(taken(&wanted.name));
        }
    }
    Ok(outcome?)
}

/// Tells the worker.
pub(super) fn changed(api: &Api) {
    api.bus
        .publish(topic::WEBHOOKS_CHANGED, "changed", serde_json::json!({}));
}
