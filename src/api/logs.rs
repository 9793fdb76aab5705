//! `/logs`: captured events, newest first, paged by id.
//!
//! An event looks here exactly as in `decnet.json`, with the row's `id` in front;
//! [`LogItem`] describes it and a test holds the two together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Viewer;
use super::error::{Error, Problem};
use super::extract::Query;
use crate::db::Page;
use crate::db::log::{LogFilter, LogRow};
use crate::model::Stamp;
use crate::syslog;

/// Longest condition.
const MAX_TEXT: usize = 512;

/// Which events; all given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Only events with a smaller id: `next` of the page before.
    #[param(minimum = 1)]
    pub(super) before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
    /// Decky name.
    pub(super) decky: Option<String>,
    /// Service slug.
    pub(super) service: Option<String>,
    /// Event kind.
    pub(super) kind: Option<String>,
    /// Attacker's address.
    pub(super) src: Option<String>,
    /// Connection id.
    pub(super) session: Option<String>,
    /// Not before this moment, RFC 3339.
    pub(super) since: Option<String>,
    /// Before this moment, RFC 3339.
    pub(super) until: Option<String>,
    /// Part of a field or of the message, letter case of ASCII ignored.
    #[param(max_length = 512)]
    pub(super) q: Option<String>,
}

impl LogQuery {
    /// The conditions, checked.
    pub(super) fn filter(self) -> Result<LogFilter, Error> {
        Ok(LogFilter {
            decky: text("decky", self.decky)?,
            service: text("service", self.service)?,
            kind: text("kind", self.kind)?,
            src_ip: address("src", self.src)?,
            session: text("session", self.session)?,
            since: moment("since", self.since)?,
            until: moment("until", self.until)?,
            text: text("q", self.q)?,
        })
    }
}

/// The page asked for.
pub(super) fn page(before: Option<i64>, limit: Option<u32>) -> Result<Page, Error> {
    let limit = limit.unwrap_or(50);
    if !(1..=1000).contains(&limit) {
        return Err(Error::bad_request("limit takes 1 to 1000."));
    }
    if before.is_some_and(|id| id < 1) {
        return Err(Error::bad_request("before takes an id, 1 or more."));
    }
    Ok(Page { before, limit })
}

/// A condition; an empty one is none.
pub(super) fn text(name: &str, value: Option<String>) -> Result<Option<String>, Error> {
    let value = value.filter(|v| !v.is_empty());
    if value.as_ref().is_some_and(|v| v.len() > MAX_TEXT) {
        return Err(Error::bad_request(format!(
            "{name} takes at most {MAX_TEXT} bytes."
        )));
    }
    Ok(value)
}

/// An address in the form it is stored in.
pub(super) fn address(name: &str, value: Option<String>) -> Result<Option<String>, Error> {
    text(name, value)?
        .map(|v| {
            v.parse::<std::net::IpAddr>()
                .map(|ip| ip.to_string())
                .map_err(|_| Error::bad_request(format!("{name} takes an IP address.")))
        })
        .transpose()
}

fn moment(name: &str, value: Option<String>) -> Result<Option<Stamp>, Error> {
    text(name, value)?
        .map(|v| {
            // A plus sign that was not encoded arrives as a space.
            Stamp::parse(&v.replace(' ', "+")).ok_or_else(|| {
                Error::bad_request(format!("{name} takes a time such as 2026-04-18T02:22:56Z."))
            })
        })
        .transpose()
}

/// A captured event.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogItem {
    /// Ascends in the order of storing; the paging key and the stream's event id.
    id: i64,
    /// The event's own id, made by the decky.
    eid: String,
    /// RFC 3339, microseconds.
    timestamp: String,
    /// RFC 5424 number, 3 (error) to 6 (info).
    severity: u8,
    decky: String,
    service: String,
    event_type: String,
    /// Absent for what a decky does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attacker_ip: Option<String>,
    /// Every parameter of the event; all values are text an attacker may have chosen.
    #[schema(value_type = Object)]
    fields: Map<String, Value>,
    msg: String,
    /// The event as an RFC 5424 line.
    raw_line: String,
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct LogPage {
    items: Vec<LogItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// The JSON of one row.
pub(super) fn item(row: &LogRow) -> String {
    let line = syslog::write(&row.event);
    let json = syslog::to_json(&row.event, &line);
    let rest = json.strip_prefix('{').unwrap_or(&json);
    format!("{{\"id\":{},{rest}", row.id)
}

/// Pages as they were sent, by their query. Rows never change, so a page is good while
/// no newer event is stored: a dashboard open on many desks costs one rendering.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    newest: i64,
    at: Instant,
    body: Bytes,
}

impl Pages {
    /// Pages kept.
    const COUNT: usize = 64;
    /// Larger ones are not kept; with [`Pages::COUNT`] this bounds the memory.
    const BYTES: usize = 128 * 1024;
    /// Retention removes rows without any new one; its effect shows after this.
    const AGE: Duration = Duration::from_secs(1);

    fn get(&self, query: &str, newest: i64) -> Option<Bytes> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pages.get(query)?;
        (kept.newest == newest && kept.at.elapsed() < Self::AGE).then(|| kept.body.clone())
    }

    fn put(&self, query: String, newest: i64, body: &Bytes) {
        if body.len() > Self::BYTES || query.len() > MAX_TEXT {
            return;
        }
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= Self::COUNT {
            pages.clear();
        }
        let kept = Kept {
            newest,
            at: Instant::now(),
            body: body.clone(),
        };
        pages.insert(query, kept);
    }
}

/// Captured events, newest first.
#[utoipa::path(
    get, path = "/logs", tag = "findings", params(LogQuery),
    responses(
        (status = 200, body = LogPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 401, body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    RawQuery(raw): RawQuery,
    Query(query): Query<LogQuery>,
) -> Result<Response, Error> {
    let page = page(query.before, query.limit)?;
    let raw = raw.unwrap_or_default();
    // Taken before the rows are read: what is stored in between makes the page stale,
    // never wrong.
    let newest = api.db.log_latest_id().await?;
    if let Some(body) = api.pages.get(&raw, newest) {
        return Ok(reply(body));
    }
    let rows = api.db.log_list(&query.filter()?, page).await?;
    let body = Bytes::from(json_page(&rows, page));
    api.pages.put(raw, newest, &body);
    Ok(reply(body))
}

fn reply(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `{"items":[…],"next":…}`; a page that is not full is the last.
fn json_page(rows: &[LogRow], page: Page) -> String {
    let mut body = String::with_capacity(64 + rows.len() * 1024);
    body.push_str("{\"items\":[");
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            body.push(',');
        }
        body.push_str(&item(row));
    }
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().filter(|_| full);
    let next = next.map_or_else(|| "null".to_owned(), |row| row.id.to_string());
    body.push_str("],\"next\":");
    body.push_str(&next);
    body.push('}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Credential, Event, Flow, Proto, Severity};

    #[test]
    fn an_item_is_what_its_schema_says() {
        for flow in [
            None,
            Some(Flow {
                src: "198.51.100.7:4000".parse().unwrap(),
                dst: "127.0.0.1:21".parse().unwrap(),
                proto: Proto::Tcp,
                session: "s".into(),
            }),
        ] {
            let row = LogRow {
                id: 7,
                event: Event {
                    eid: "e".into(),
                    ts: Stamp(1),
                    severity: Severity::Notice,
                    decky: "d".into(),
                    service: "ftp".into(),
                    kind: "auth".into(),
                    flow,
                    fields: Credential::plaintext(Some("r\"oot"), b"\xff").fields(),
                    msg: "line\nline".into(),
                },
            };
            let text = item(&row);
            assert!(!text.contains('\n'), "a stream's data is one line");
            let back: LogItem = serde_json::from_str(&text).unwrap();
            assert_eq!(back.id, 7);
            assert_eq!(serde_json::to_string(&back).unwrap(), text);
        }
    }
}
