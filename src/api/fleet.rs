//! Changing the fleet: preview, deploy, teardown, redeploy, mutate, services. A handler
//! writes what is wanted, in one transaction, and answers with the job that follows it;
//! nothing here starts or stops a decky.
//!
//! Orders are carried out one after the other, each to its end even when the client hangs
//! up: a second deploy waits for the first and is planned on what that left.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::auth::{Admin, Member};
use super::error::{Blame, Error, Problem};
use super::extract::Json;
use super::jobs::{self, Accepted, Reply};
use super::{Api, deckies};
use crate::db::job::JobRow;
use crate::deploy::{self, Order};
use crate::fleet::edit::{self, Refused, Values};
use crate::fleet::{Action, Change, Field, Ground, Mode, ini, outline};
use crate::model::job::{JobKind, JobStatus};
use crate::model::{Stamp, topic};

/// Largest body that carries a deployment file.
pub(super) const INI_BYTES: usize = 256 * 1024;
/// Most reasons told at once.
const REASONS: usize = 100;

/// A deployment file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deployment {
    /// Its text; see `decnet deploy --config`.
    #[schema(max_length = 262_144)]
    ini_content: String,
    /// Remove deckies that it does not name.
    #[serde(default)]
    replace_fleet: bool,
}

/// One field that changes.
#[derive(Serialize, ToSchema)]
pub(super) struct FieldChange {
    field: String,
    before: Option<String>,
    after: Option<String>,
}

impl From<Field> for FieldChange {
    fn from(field: Field) -> Self {
        Self {
            field: field.field,
            before: field.before,
            after: field.after,
        }
    }
}

/// What a deploy would do with one decky.
#[derive(Serialize, ToSchema)]
pub(super) struct DeckyChange {
    name: String,
    /// `add`, `change`, `remove`, `unchanged`.
    action: &'static str,
    /// Its address afterwards.
    ip: String,
    /// It becomes another host under the same name.
    new_persona: bool,
    /// As `decnet deploy --dry-run` prints it.
    lines: Vec<String>,
    fields: Vec<FieldChange>,
}

impl From<Change> for DeckyChange {
    fn from(change: Change) -> Self {
        Self {
            action: match change.action {
                Action::Add => "add",
                Action::Change | Action::Replace => "change",
                Action::Remove => "remove",
                Action::Keep => "unchanged",
            },
            ip: change.ip.to_string(),
            new_persona: change.new_persona,
            lines: outline::lines(&change),
            name: change.name,
            fields: change.fields.into_iter().map(FieldChange::from).collect(),
        }
    }
}

/// What a deploy would do.
#[derive(Serialize, ToSchema)]
pub(super) struct Preview {
    changes: Vec<DeckyChange>,
    /// `1 to add, 2 as wanted`.
    summary: String,
    /// What one should know although nothing is wrong.
    notes: Vec<String>,
}

/// Shows what a deploy of this file would change; writes nothing.
#[utoipa::path(
    post, path = "/deckies/preview", tag = "fleet", request_body = Deployment,
    responses(
        (status = 200, body = Preview),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 422, description = "The file cannot be deployed; `errors` says why, line by line", body = Problem),
    )
)]
pub(super) async fn preview(
    State(api): State<Api>,
    _admin: Admin,
    Json(body): Json<Deployment>,
) -> Result<axum::Json<Preview>, Error> {
    let order = read(&body)?;
    let lan = deploy::look(&order, &api.config).await?;
    let outcome = deploy::preview(&order, lan, Some(&api.db)).await?;
    Ok(axum::Json(Preview {
        summary: outline::sentence(&outcome.changes),
        changes: outcome.changes.into_iter().map(Into::into).collect(),
        notes: outcome.notes,
    }))
}

/// Deploys this file: only what differs is touched.
#[utoipa::path(
    post, path = "/deckies/deploy", tag = "fleet", request_body = Deployment,
    responses(
        (status = 202, body = Accepted),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 409, description = "Rows kept changing; try again", body = Problem),
        (status = 422, description = "The file cannot be deployed; `errors` says why, line by line", body = Problem),
    )
)]
pub(super) async fn deploy(
    State(api): State<Api>,
    Admin(member): Admin,
    Json(body): Json<Deployment>,
) -> Reply {
    let order = match read(&body) {
        Ok(order) => order,
        Err(error) => {
            audit(&api, &member, "decky.deploy", "", error.code).await;
            return Err(error);
        }
    };
    submit(&api, &member, Ask::Deploy(Box::new(order))).await
}

/// Removes a decky; what it captured stays.
#[utoipa::path(
    delete, path = "/deckies/{name}", tag = "fleet",
    params(("name" = String, Path, description = "A decky of GET /deckies")),
    responses(
        (status = 202, body = Accepted),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such decky, or it is being removed", body = Problem),
        (status = 409, description = "The row kept changing; try again", body = Problem),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
) -> Reply {
    submit(&api, &member, Ask::Remove(name)).await
}

/// Starts a decky anew as its row wants it; its connections end.
#[utoipa::path(
    post, path = "/deckies/{name}/redeploy", tag = "fleet",
    params(("name" = String, Path, description = "A decky of GET /deckies")),
    responses(
        (status = 202, body = Accepted),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such decky, or it is being removed", body = Problem),
        (status = 409, description = "The row kept changing; try again", body = Problem),
    )
)]
pub(super) async fn redeploy(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
) -> Reply {
    submit(&api, &member, Ask::Redeploy(name)).await
}

/// A service and its settings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewService {
    /// A service of GET /services.
    name: String,
    /// Values by key; GET /services/{name}/schema tells which.
    #[serde(default)]
    #[schema(value_type = Object)]
    config: Values,
}

/// Adds a service to a running decky; its connections stay.
#[utoipa::path(
    post, path = "/deckies/{name}/services", tag = "fleet", request_body = NewService,
    params(("name" = String, Path, description = "A decky of GET /deckies")),
    responses(
        (status = 202, body = Accepted),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such decky, or it is being removed", body = Problem),
        (status = 409, description = "It offers that service, or the port is another's", body = Problem),
        (status = 422, description = "No such service, or `errors` names the settings at fault", body = Problem),
    )
)]
pub(super) async fn add_service(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
    Json(body): Json<NewService>,
) -> Reply {
    let ask = Ask::AddService(name, body.name, body.config);
    submit(&api, &member, ask).await
}

/// Removes a service from a decky; its last one stays.
#[utoipa::path(
    delete, path = "/deckies/{name}/services/{service}", tag = "fleet",
    params(
        ("name" = String, Path, description = "A decky of GET /deckies"),
        ("service" = String, Path, description = "One of its services"),
    ),
    responses(
        (status = 202, body = Accepted),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such decky, or it does not offer that", body = Problem),
        (status = 409, description = "The row kept changing; try again", body = Problem),
        (status = 422, description = "It is the last service", body = Problem),
    )
)]
pub(super) async fn remove_service(
    State(api): State<Api>,
    Admin(member): Admin,
    Path((name, service)): Path<(String, String)>,
) -> Reply {
    submit(&api, &member, Ask::RemoveService(name, service)).await
}

/// Replaces the settings of a service of a decky: keys that are left out or null go back
/// to what the persona says.
#[utoipa::path(
    put, path = "/deckies/{name}/services/{service}/config", tag = "fleet",
    request_body(content = Object, description = "Values by key; GET /services/{name}/schema tells which"),
    params(
        ("name" = String, Path, description = "A decky of GET /deckies"),
        ("service" = String, Path, description = "One of its services"),
    ),
    responses(
        (status = 202, body = Accepted),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such decky, or it does not offer that", body = Problem),
        (status = 409, description = "It is a service of your own, or the row kept changing", body = Problem),
        (status = 422, description = "`errors` names the settings at fault", body = Problem),
    )
)]
pub(super) async fn configure(
    State(api): State<Api>,
    Admin(member): Admin,
    Path((name, service)): Path<(String, String)>,
    Json(values): Json<Values>,
) -> Reply {
    submit(&api, &member, Ask::Configure(name, service, values)).await
}

/// How often a decky changes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MutateInterval {
    /// Minutes; 0 never, null the fleet's default.
    #[serde(deserialize_with = "present")]
    #[schema(required, maximum = 525_600)]
    minutes: Option<u32>,
}

/// Null is a value here, and leaving the field out a mistake.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    Option::deserialize(from)
}

/// Sets how often a decky changes.
#[utoipa::path(
    put, path = "/deckies/{name}/mutate-interval", tag = "fleet", request_body = MutateInterval,
    params(("name" = String, Path, description = "A decky of GET /deckies")),
    responses(
        (status = 204, description = "It is set"),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such decky, or it is being removed", body = Problem),
        (status = 409, description = "The row kept changing; try again", body = Problem),
        (status = 422, description = "It is not a number of minutes up to a year, or null", body = Problem),
    )
)]
pub(super) async fn mutate_interval(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
    Json(body): Json<MutateInterval>,
) -> Result<StatusCode, Error> {
    let turn = api.orders.lock().await;
    let edit = |wish: &_| edit::mutate_every(wish, body.minutes);
    let outcome = deploy::amend_one(&api.db, &name, edit, None).await;
    drop(turn);
    let outcome = outcome.map_err(Error::from);
    let said = outcome.as_ref().map_or_else(|error| error.code, |()| "ok");
    audit(&api, &member, "decky.mutate-interval", &name, said).await;
    outcome?;
    api.bus
        .publish(topic::FLEET_CHANGED, "mutate-interval", json!({}));
    Ok(StatusCode::NO_CONTENT)
}

/// A change that was asked for.
#[derive(Serialize, ToSchema)]
pub(super) struct Mutating {
    decky: String,
    /// Number of the request.
    request: i64,
}

/// Asks the mutator to change a decky now, by one step.
#[utoipa::path(
    post, path = "/deckies/{name}/mutate", tag = "fleet",
    params(("name" = String, Path, description = "A decky of GET /deckies")),
    responses(
        (status = 202, body = Mutating),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such decky, or it is being removed", body = Problem),
    )
)]
pub(super) async fn mutate(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<Mutating>), Error> {
    let outcome = async {
        if deckies::find(&api, &name).await?.decky.removed {
            return Err(deckies::unknown());
        }
        let user = &member.session.user_name;
        let asked = api
            .db
            .mutation_request(&name, "operator", Some(user), Stamp::now());
        Ok(asked.await?)
    }
    .await;
    let said = outcome.as_ref().map_or_else(|error| error.code, |_| "ok");
    audit(&api, &member, "decky.mutate", &name, said).await;
    let request = outcome?;
    api.bus.publish(topic::FLEET_CHANGED, "mutate", json!({}));
    let body = Mutating {
        decky: name,
        request,
    };
    Ok((StatusCode::ACCEPTED, axum::Json(body)))
}

fn read(body: &Deployment) -> Result<Order, Error> {
    let deployment = ini::parse(&body.ini_content, &Ground::default()).map_err(|problems| {
        let blames = problems.into_iter().map(|problem| Blame {
            line: Some(problem.line),
            field: None,
            message: problem.what,
        });
        bad_ini(blames.collect())
    })?;
    Ok(Order {
        deployment,
        mode: if body.replace_fleet {
            Mode::Replace
        } else {
            Mode::Additive
        },
        ip_start: None,
    })
}

fn bad_ini(mut blames: Vec<Blame>) -> Error {
    let count = blames.len();
    blames.truncate(REASONS);
    let detail = match blames.as_slice() {
        [only] => only.to_string(),
        _ => format!("The deployment file has {count} mistakes; 'errors' lists them."),
    };
    Error::unacceptable("bad-ini", detail).blaming(blames)
}

impl From<deploy::Error> for Error {
    fn from(error: deploy::Error) -> Self {
        match error {
            deploy::Error::Impossible(reasons) => {
                let blames = reasons.into_iter().map(|message| Blame {
                    line: None,
                    field: None,
                    message,
                });
                bad_ini(blames.collect())
            }
            deploy::Error::Unknown(_) => deckies::unknown(),
            deploy::Error::Refused(why) => refused(why),
            deploy::Error::Db(error) => error.into(),
        }
    }
}

fn refused(why: Refused) -> Error {
    let text = format!("{why}.");
    match why {
        Refused::NoSuchService(_) => Error::unacceptable("no-such-service", text),
        Refused::Offered(_) => Error::conflict("already-offered", text),
        Refused::NotOffered(_) => Error::not_found(text),
        Refused::Last(_) => Error::unacceptable("last-service", text),
        Refused::Clash(_) => Error::conflict("port-clash", text),
        Refused::Own(_) => Error::conflict("own-service", text),
        Refused::Interval(_) => Error::unacceptable("bad-body", text),
        Refused::Settings(bad) => {
            let blames = bad.into_iter().map(|(field, message)| Blame {
                line: None,
                field: Some(field),
                message,
            });
            Error::unacceptable("bad-setting", text).blaming(blames.collect())
        }
    }
}

/// What is asked of the fleet; of one decky in all cases but the first.
#[derive(Debug)]
enum Ask {
    Deploy(Box<Order>),
    Remove(String),
    Redeploy(String),
    AddService(String, String, Values),
    RemoveService(String, String),
    Configure(String, String, Values),
}

impl Ask {
    fn kind(&self) -> JobKind {
        match self {
            Ask::Deploy(_) => JobKind::Deploy,
            Ask::Remove(_) => JobKind::Teardown,
            Ask::Redeploy(_) => JobKind::Redeploy,
            Ask::AddService(..) | Ask::RemoveService(..) | Ask::Configure(..) => JobKind::Service,
        }
    }

    /// For the audit record.
    fn action(&self) -> &'static str {
        match self {
            Ask::Deploy(_) => "decky.deploy",
            Ask::Remove(_) => "decky.teardown",
            Ask::Redeploy(_) => "decky.redeploy",
            Ask::AddService(..) => "decky.service-add",
            Ask::RemoveService(..) => "decky.service-remove",
            Ask::Configure(..) => "decky.service-configure",
        }
    }

    fn target(&self) -> String {
        match self {
            Ask::Deploy(order) => format!("{} deckies", order.deployment.asks.len()),
            Ask::Remove(name) | Ask::Redeploy(name) => name.clone(),
            Ask::AddService(name, service, _)
            | Ask::RemoveService(name, service)
            | Ask::Configure(name, service, _) => format!("{name}.{service}"),
        }
    }

    /// What the job row keeps of it. Values of settings may be passwords, so they stay out.
    fn in_short(&self) -> Value {
        let keys = |values: &Values| values.keys().cloned().collect::<Vec<_>>();
        match self {
            Ask::Deploy(order) => json!({
                "deckies": order.deployment.asks.len(),
                "replace_fleet": order.mode == Mode::Replace,
            }),
            Ask::Remove(name) | Ask::Redeploy(name) => json!({"decky": name}),
            Ask::AddService(name, service, values) => {
                json!({"decky": name, "add": service, "settings": keys(values)})
            }
            Ask::RemoveService(name, service) => json!({"decky": name, "remove": service}),
            Ask::Configure(name, service, values) => {
                json!({"decky": name, "configure": service, "settings": keys(values)})
            }
        }
    }

    /// Writes it. Returns notes.
    async fn carry_out(&self, api: &Api, job: &mut JobRow) -> Result<Vec<String>, deploy::Error> {
        let (db, job) = (&api.db, Some(job));
        match self {
            Ask::Deploy(order) => {
                let lan = deploy::look(order, &api.config).await?;
                let outcome = deploy::write(order, lan, db, job).await?;
                return Ok(outcome.notes);
            }
            Ask::Remove(name) => deploy::remove(db, name, job).await?,
            Ask::Redeploy(name) => {
                deploy::amend_one(db, name, |wish| Ok(edit::anew(wish)), job).await?;
            }
            Ask::AddService(name, service, values) => {
                let edit = |wish: &_| edit::add_service(wish, service, values);
                deploy::amend_one(db, name, edit, job).await?;
            }
            Ask::RemoveService(name, service) => {
                let edit = |wish: &_| edit::remove_service(wish, service);
                deploy::amend_one(db, name, edit, job).await?;
            }
            Ask::Configure(name, service, values) => {
                let edit = |wish: &_| edit::configure(wish, service, values);
                deploy::amend_one(db, name, edit, job).await?;
            }
        }
        Ok(Vec::new())
    }
}

/// Has it carried out by a task of its own: a client that hangs up in the middle leaves
/// nothing half recorded.
async fn submit(api: &Api, member: &Member, ask: Ask) -> Reply {
    let work = tokio::spawn(carry_out(api.clone(), member.clone(), ask));
    let accepted = work
        .await
        .map_err(|error| Error::internal(format!("carrying out an order: {error}")))??;
    Ok((StatusCode::ACCEPTED, axum::Json(accepted)))
}

async fn carry_out(api: Api, member: Member, ask: Ask) -> Result<Accepted, Error> {
    let user = &member.session.user_name;
    let turn = api.orders.lock().await;
    let request = ask.in_short().to_string();
    let mut job = JobRow::new(ask.kind(), request, user, Stamp::now());
    let outcome = match ask.carry_out(&api, &mut job).await {
        Ok(notes) => jobs::begun(&api.db, &mut job)
            .await
            .map(|()| notes)
            .map_err(Error::from),
        Err(error) => {
            // It is known as a job only once something was about to be written.
            if job.total > 0 {
                job.set_status(JobStatus::Failed, Some(error.to_string()), Stamp::now());
                api.db.job_put(&job).await?;
            }
            Err(error.into())
        }
    };
    drop(turn);
    let said = outcome.as_ref().map_or_else(|error| error.code, |_| "ok");
    audit(&api, &member, ask.action(), &ask.target(), said).await;
    let notes = outcome?;
    let kind = ask.kind().as_str();
    api.bus.publish(topic::FLEET_CHANGED, kind, json!({}));
    api.jobs.wake();
    Ok(Accepted {
        job: job.into(),
        notes,
    })
}

async fn audit(api: &Api, member: &Member, action: &str, target: &str, outcome: &str) {
    let user = &member.session.user_name;
    api.audit(user, member.address, action, target, outcome)
        .await;
}
