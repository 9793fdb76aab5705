//! `/attackers`: everybody who touched a decky, one row per address.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Viewer;
use super::error::{Error, Problem};
use super::extract::Query;
use super::pages::Tag;
use super::{Api, logs};
use crate::db::attacker::{
    Activity, AttackerFilter, AttackerRow, DeckyActivity, Order, ServiceActivity, Touched,
};
use crate::db::log::{LogFilter, LogRow};
use crate::db::tally::COMMAND_KINDS;
use crate::db::{self, Db};
use crate::model::{Event, Stamp};

/// How alive an attacker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ActivityWord {
    /// At least 50 events, the last within the hour.
    Active,
    /// At least 5 events, the last within the day.
    Passive,
    /// The rest.
    Inactive,
}

impl From<Activity> for ActivityWord {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Active => ActivityWord::Active,
            Activity::Passive => ActivityWord::Passive,
            Activity::Inactive => ActivityWord::Inactive,
        }
    }
}

impl From<ActivityWord> for Activity {
    fn from(word: ActivityWord) -> Self {
        match word {
            ActivityWord::Active => Activity::Active,
            ActivityWord::Passive => Activity::Passive,
            ActivityWord::Inactive => Activity::Inactive,
        }
    }
}

/// What a list is ordered by, the greatest first.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    /// Last event.
    #[default]
    Recent,
    /// Number of events.
    Active,
    /// First event.
    First,
}

/// Which attackers; all given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AttackerQuery {
    /// `next` of the page before.
    #[param(pattern = "^-?[0-9]{1,19}[.][0-9a-f-]{36}$")]
    pub(super) before: Option<String>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
    /// Beginning of the address.
    pub(super) search: Option<String>,
    /// ISO 3166-1 alpha-2, or `??` for unknown.
    pub(super) country: Option<String>,
    /// Touched this service.
    pub(super) service: Option<String>,
    /// Touched this decky.
    pub(super) decky: Option<String>,
    #[param(inline)]
    pub(super) activity: Option<ActivityWord>,
    #[param(inline)]
    pub(super) sort: Sort,
}

impl AttackerQuery {
    /// The conditions, checked, at `now`.
    pub(super) fn filter(self, now: Stamp) -> Result<AttackerFilter, Error> {
        Ok(AttackerFilter {
            prefix: logs::text("search", self.search)?,
            country: logs::text("country", self.country)?,
            service: logs::text("service", self.service)?,
            decky: logs::text("decky", self.decky)?,
            activity: self.activity.map(|word| (word.into(), now)),
        })
    }
}

/// An attacker.
#[derive(Serialize, ToSchema)]
pub(super) struct AttackerItem {
    pub(super) id: String,
    pub(super) ip: String,
    /// ISO 3166-1 alpha-2, when known.
    pub(super) country: Option<String>,
    pub(super) activity: ActivityWord,
    /// RFC 3339.
    pub(super) first_seen: String,
    /// RFC 3339.
    pub(super) last_seen: String,
    pub(super) event_count: i64,
    pub(super) session_count: i64,
    /// Distinct ones.
    pub(super) credential_count: i64,
    pub(super) command_count: i64,
    pub(super) artifact_count: i64,
    pub(super) service_count: i64,
    pub(super) decky_count: i64,
    /// The first twenty by name.
    pub(super) services: Vec<String>,
    /// The first twenty by name.
    pub(super) deckies: Vec<String>,
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct AttackerPage {
    items: Vec<AttackerItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<String>,
}

/// Attackers.
#[utoipa::path(
    get, path = "/attackers", tag = "findings", params(AttackerQuery),
    responses(
        (status = 200, body = AttackerPage),
        (status = 304, description = "Nothing new since the `ETag` sent as `If-None-Match`"),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
    Query(query): Query<AttackerQuery>,
) -> Result<Response, Error> {
    let key = format!("attackers?{}", raw.unwrap_or_default());
    let newest = api.db.log_latest_id().await?;
    let now = Stamp::now();
    let tag = Tag::new(newest, now);
    let limit = logs::page(None, query.limit)?.limit;
    let order = match query.sort {
        Sort::Recent => Order::Recent,
        Sort::Active => Order::Active,
        Sort::First => Order::First,
    };
    let after = query.before.as_deref().map(place).transpose()?;
    let filter = query.filter(now)?;
    if tag.is_known(&headers) {
        return Ok(tag.unchanged());
    }
    let make = async {
        let rows = api.db.attacker_list(&filter, order, after, limit).await?;
        let full = u32::try_from(rows.len()).is_ok_and(|n| n == limit);
        let next = rows.last().filter(|_| full).map(|row| {
            let (value, id) = order.place(row);
            format!("{value}.{id}")
        });
        let items = items(&api.db, rows, now).await?;
        // A page of texts and numbers always serialises.
        let body = serde_json::to_vec(&AttackerPage { items, next }).unwrap_or_default();
        Ok::<_, Error>(Bytes::from(body))
    };
    Ok(tag.page(api.pages.get_or(key, newest, make).await?))
}

/// Rows with what they touched.
pub(super) async fn items(
    db: &Db,
    rows: Vec<AttackerRow>,
    now: Stamp,
) -> db::Result<Vec<AttackerItem>> {
    let mut touched = db.attacker_touched(&rows).await?;
    Ok(rows
        .into_iter()
        .map(|row| item(row, &mut touched, now))
        .collect())
}

fn item(row: AttackerRow, touched: &mut Touched, now: Stamp) -> AttackerItem {
    let (services, deckies) = touched.remove(&row.ip).unwrap_or_default();
    AttackerItem {
        activity: row.activity(now).into(),
        id: row.id,
        ip: row.ip,
        country: row.country,
        first_seen: row.first_seen.to_string(),
        last_seen: row.last_seen.to_string(),
        event_count: row.event_count,
        session_count: row.session_count,
        credential_count: row.credential_count,
        command_count: row.command_count,
        artifact_count: row.artifact_count,
        service_count: row.service_count,
        decky_count: row.decky_count,
        services,
        deckies,
    }
}

/// Reads `<value>.<id>`.
fn place(text: &str) -> Result<(i64, String), Error> {
    let split = text.split_once('.');
    let read = split.and_then(|(value, id)| Some((value.parse().ok()?, id.to_owned())));
    read.filter(|(_, id)| id.len() == 36)
        .ok_or_else(|| Error::bad_request("before takes `next` of the page before."))
}

/// What somebody did on a service.
#[derive(Serialize, ToSchema)]
pub(super) struct OnService {
    service: String,
    events: i64,
    commands: i64,
    /// Logins tried.
    credentials: i64,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339.
    last_seen: String,
}

impl From<ServiceActivity> for OnService {
    fn from(row: ServiceActivity) -> Self {
        Self {
            service: row.service,
            events: row.events,
            commands: row.commands,
            credentials: row.logins,
            first_seen: row.first_seen.to_string(),
            last_seen: row.last_seen.to_string(),
        }
    }
}

/// What somebody did on a decky.
#[derive(Serialize, ToSchema)]
pub(super) struct OnDecky {
    decky: String,
    events: i64,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339.
    last_seen: String,
}

impl From<DeckyActivity> for OnDecky {
    fn from(row: DeckyActivity) -> Self {
        Self {
            decky: row.decky,
            events: row.events,
            first_seen: row.first_seen.to_string(),
            last_seen: row.last_seen.to_string(),
        }
    }
}

/// An attacker with everything it touched.
#[derive(Serialize, ToSchema)]
pub(super) struct AttackerDetail {
    #[serde(flatten)]
    attacker: AttackerItem,
    /// Busiest first.
    service_activity: Vec<OnService>,
    /// In the order it came there: the path across deckies.
    decky_activity: Vec<OnDecky>,
}

async fn find(api: &Api, id: &str) -> Result<AttackerRow, Error> {
    // An address may be written in more than one way.
    let id = id
        .parse::<std::net::IpAddr>()
        .map_or_else(|_| id.to_owned(), |ip| ip.to_string());
    let row = api.db.attacker_get(&id).await?;
    row.ok_or_else(|| Error::not_found("There is no such attacker; give its id or IP address."))
}

/// One attacker, by id or IP address.
#[utoipa::path(
    get, path = "/attackers/{id}", tag = "findings",
    params(("id" = String, Path, description = "Id or IP address")),
    responses(
        (status = 200, body = AttackerDetail),
        (status = 404, description = "There is no such attacker", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<axum::Json<AttackerDetail>, Error> {
    let row = find(&api, &id).await?;
    let services = api.db.attacker_services(&row.ip).await?;
    let deckies = api.db.attacker_deckies(&row.ip).await?;
    let attacker = items(&api.db, vec![row], Stamp::now()).await?.pop();
    let attacker = attacker.ok_or_else(|| Error::internal("an attacker without a row"))?;
    Ok(axum::Json(AttackerDetail {
        attacker,
        service_activity: services.into_iter().map(OnService::from).collect(),
        decky_activity: deckies.into_iter().map(OnDecky::from).collect(),
    }))
}

/// Which commands.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct CommandQuery {
    /// Only commands with a smaller id: `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Service slug.
    service: Option<String>,
}

/// Something somebody told a decky to do.
#[derive(Serialize, ToSchema)]
pub(super) struct CommandItem {
    /// Row id of the event.
    id: i64,
    /// RFC 3339.
    at: String,
    decky: String,
    service: String,
    /// As one line of text an attacker chose.
    command: String,
    session: Option<String>,
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct CommandPage {
    items: Vec<CommandItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// An event's command as a line: `GET /path`, `USER anna`, `SET k v`.
pub(super) fn command_line(row: &LogRow) -> String {
    let event = &row.event;
    let parts = [
        "command", "method", "path", "target", "url", "arg", "args", "argument", "script",
    ];
    let given = parts
        .iter()
        .filter_map(|key| Some((key, event.field(key)?)));
    let found = given.filter(|(key, value)| !(**key == "args" && is_told(event, value)));
    found.map(|(_, value)| value).collect::<Vec<_>>().join(" ")
}

/// Whether a list of arguments only repeats what the command says, as redis' do.
fn is_told(event: &Event, args: &str) -> bool {
    serde_json::from_str::<Vec<String>>(args).is_ok_and(|list| {
        let command = event.field("command").unwrap_or_default();
        command.ends_with(&list.join(" "))
    })
}

/// What an attacker told deckies to do, newest first.
#[utoipa::path(
    get, path = "/attackers/{id}/commands", tag = "findings",
    params(("id" = String, Path, description = "Id or IP address"), CommandQuery),
    responses(
        (status = 200, body = CommandPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 404, description = "There is no such attacker", body = Problem),
    )
)]
pub(super) async fn commands(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
    Query(query): Query<CommandQuery>,
) -> Result<axum::Json<CommandPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let row = find(&api, &id).await?;
    let filter = LogFilter {
        src_ip: Some(row.ip),
        service: logs::text("service", query.service)?,
        kinds: COMMAND_KINDS.map(str::to_owned).to_vec(),
        ..LogFilter::default()
    };
    let rows = api.db.log_list(&filter, page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.id).filter(|_| full);
    let items = rows.iter().map(|row| CommandItem {
        id: row.id,
        at: row.event.ts.to_string(),
        decky: row.event.decky.clone(),
        service: row.event.service.clone(),
        command: command_line(row),
        session: row.event.flow.as_ref().map(|f| f.session.clone()),
    });
    Ok(axum::Json(CommandPage {
        items: items.collect(),
        next,
    }))
}

/// An attacker's events over time, from its first to its last.
#[utoipa::path(
    get, path = "/attackers/{id}/histogram", tag = "findings",
    params(("id" = String, Path, description = "Id or IP address")),
    responses(
        (status = 200, body = logs::Histogram),
        (status = 404, description = "There is no such attacker", body = Problem),
    )
)]
pub(super) async fn histogram(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<axum::Json<logs::Histogram>, Error> {
    let row = find(&api, &id).await?;
    let filter = LogFilter {
        src_ip: Some(row.ip),
        since: Some(row.first_seen),
        until: Some(Stamp(row.last_seen.0.saturating_add(1))),
        ..LogFilter::default()
    };
    let bars = logs::bars(&api, &filter, logs::Width::Easy, Stamp::now()).await?;
    Ok(axum::Json(bars))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    fn line(fields: &[(&str, &str)]) -> String {
        let fields = fields.iter();
        command_line(&LogRow {
            id: 1,
            event: Event {
                eid: "e".into(),
                ts: Stamp(1),
                severity: Severity::Info,
                decky: "d".into(),
                service: "s".into(),
                kind: "command".into(),
                flow: None,
                fields: fields
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                msg: String::new(),
            },
        })
    }

    #[test]
    fn a_command_is_told_once_and_whole() {
        let redis = [("command", "SET k v"), ("args", r#"["k","v"]"#)];
        assert_eq!(line(&redis), "SET k v");
        assert_eq!(line(&[("command", "PING"), ("args", "[]")]), "PING");
        assert_eq!(
            line(&[("command", "RETR"), ("args", "/etc/passwd")]),
            "RETR /etc/passwd"
        );
        let odd = [("command", "STOR"), ("args", r#"["x"]"#)];
        assert_eq!(line(&odd), r#"STOR ["x"]"#);
        assert_eq!(
            line(&[("method", "GET"), ("path", "/x"), ("status", "404")]),
            "GET /x"
        );
        assert_eq!(line(&[("op", "eval"), ("script", "return 1")]), "return 1");
    }
}
