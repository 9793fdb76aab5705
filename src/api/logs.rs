//! `/logs`: captured events, newest first, paged by id.
//!
//! An event looks here exactly as in `decnet.json`, with the row's `id` in front;
//! [`LogItem`] describes it and a test holds the two together.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Viewer;
use super::error::{Error, Problem};
use super::extract::Query;
use super::pages::Tag;
use crate::db::Page;
use crate::db::log::{LogFilter, LogRow};
use crate::model::{self, Stamp};
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
    /// What to find: words (looked for at the beginnings of words), `decky:`, `service:`,
    /// `event:`, `attacker:`, `session:` or any field as `key:value`; all must hold. Quotes
    /// keep white space.
    #[param(max_length = 512)]
    pub(super) q: Option<String>,
}

impl LogQuery {
    /// The conditions, checked. What the query box says and what a parameter says must
    /// both hold; where they differ nothing can match, so that is refused.
    pub(super) fn filter(self) -> Result<LogFilter, Error> {
        let typed = text("q", self.q)?.unwrap_or_default();
        let typed = model::Query::parse(&typed)
            .map_err(|bad| Error::unacceptable("bad-query", format!("q: {bad}.")))?;
        Ok(LogFilter {
            decky: both("decky", text("decky", self.decky)?, typed.decky)?,
            service: both("service", text("service", self.service)?, typed.service)?,
            kind: both("kind", text("kind", self.kind)?, typed.kind)?,
            src_ip: both("src", address("src", self.src)?, typed.src_ip)?,
            session: both("session", text("session", self.session)?, typed.session)?,
            since: moment("since", self.since)?,
            until: moment("until", self.until)?,
            kinds: Vec::new(),
            fields: typed.fields,
            words: typed.words,
        })
    }
}

fn both(
    name: &str,
    parameter: Option<String>,
    typed: Option<String>,
) -> Result<Option<String>, Error> {
    if parameter.is_some() && typed.is_some() && parameter != typed {
        return Err(Error::unacceptable(
            "bad-query",
            format!("{name} and q ask for different values."),
        ));
    }
    Ok(parameter.or(typed))
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
    pub(super) id: i64,
    /// The event's own id, made by the decky.
    pub(super) eid: String,
    /// RFC 3339, microseconds.
    pub(super) timestamp: String,
    /// RFC 5424 number, 3 (error) to 6 (info).
    pub(super) severity: u8,
    pub(super) decky: String,
    pub(super) service: String,
    pub(super) event_type: String,
    /// Absent for what a decky does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attacker_ip: Option<String>,
    /// Every parameter of the event; all values are text an attacker may have chosen.
    #[schema(value_type = Object)]
    pub(super) fields: Map<String, Value>,
    pub(super) msg: String,
    /// The event as an RFC 5424 line.
    pub(super) raw_line: String,
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

/// Captured events, newest first.
#[utoipa::path(
    get, path = "/logs", tag = "findings", params(LogQuery),
    responses(
        (status = 200, body = LogPage),
        (status = 304, description = "Nothing new since the `ETag` sent as `If-None-Match`"),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 422, description = "The query cannot be meant", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
    Query(query): Query<LogQuery>,
) -> Result<Response, Error> {
    let page = page(query.before, query.limit)?;
    let raw = format!("logs?{}", raw.unwrap_or_default());
    // Taken before the rows are read: what is stored in between makes the page stale,
    // never wrong.
    let newest = api.db.log_latest_id().await?;
    let filter = query.filter()?;
    let tag = Tag::new(newest, Stamp::now());
    if tag.is_known(&headers) {
        return Ok(tag.unchanged());
    }
    let make = async {
        let rows = api.db.log_list(&filter, page).await?;
        Ok::<_, Error>(Bytes::from(json_page(&rows, page)))
    };
    Ok(tag.page(api.pages.get_or(raw, newest, make).await?))
}

/// A finished JSON body.
pub(super) fn reply(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// One captured event.
#[utoipa::path(
    get, path = "/logs/{id}", tag = "findings",
    params(("id" = i64, Path, description = "The event's row id", minimum = 1)),
    responses(
        (status = 200, body = LogItem),
        (status = 404, description = "There is no such event, or no more", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let id: i64 = id
        .parse()
        .map_err(|_| Error::bad_request("id takes a number."))?;
    let row = api.db.log_get(id).await?;
    let row = row.ok_or_else(|| Error::not_found("There is no such event, or no more."))?;
    Ok(reply(item(&row).into()))
}

/// Which part of time, in which steps.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HistogramQuery {
    /// Minutes per bar; chosen so that there are about 60 bars unless told.
    #[param(minimum = 1, maximum = 525_600)]
    interval_minutes: Option<u32>,
    /// How many bars at most, in place of `interval_minutes`.
    #[param(minimum = 24, maximum = 240)]
    buckets: Option<u32>,
    /// Decky name.
    decky: Option<String>,
    /// Service slug.
    service: Option<String>,
    /// Event kind.
    kind: Option<String>,
    /// Attacker's address.
    src: Option<String>,
    /// Connection id.
    session: Option<String>,
    /// Not before this moment, RFC 3339; 24 hours before `until` unless told.
    since: Option<String>,
    /// Before this moment, RFC 3339; now unless told.
    until: Option<String>,
    /// As for `/logs`.
    #[param(max_length = 512)]
    q: Option<String>,
}

/// Events in one part of the time.
#[derive(Serialize, ToSchema)]
pub(super) struct Bar {
    /// RFC 3339; its beginning.
    time: String,
    count: i64,
}

/// Events over time, without gaps, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Histogram {
    items: Vec<Bar>,
    interval_seconds: i64,
}

/// Bars of a histogram at most.
const BARS: i64 = 1000;
const MINUTE: i64 = 60_000_000;
/// How wide bars are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Width {
    /// So many minutes.
    Minutes(i64),
    /// So that there are at most so many bars.
    Bars(i64),
    /// A width that people read easily, about 60 of them.
    Easy,
}

/// Events over time. Conditions beyond decky, service and time look at the newest 200,000
/// matches.
#[utoipa::path(
    get, path = "/logs/histogram", tag = "findings", params(HistogramQuery),
    responses(
        (status = 200, body = Histogram),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 422, description = "The query cannot be meant", body = Problem),
    )
)]
pub(super) async fn histogram(
    State(api): State<Api>,
    _viewer: Viewer,
    RawQuery(raw): RawQuery,
    Query(query): Query<HistogramQuery>,
) -> Result<Response, Error> {
    let key = format!("histogram?{}", raw.unwrap_or_default());
    let newest = api.db.log_latest_id().await?;
    let interval = query.interval_minutes;
    if interval.is_some_and(|minutes| !(1..=525_600).contains(&minutes)) {
        return Err(Error::bad_request("interval_minutes takes 1 to 525600."));
    }
    let buckets = query.buckets;
    if buckets.is_some_and(|bars| !(24..=240).contains(&bars)) {
        return Err(Error::bad_request("buckets takes 24 to 240."));
    }
    let width = match (interval, buckets) {
        (Some(_), Some(_)) => {
            return Err(Error::bad_request(
                "Give interval_minutes or buckets, not both.",
            ));
        }
        (Some(minutes), None) => Width::Minutes(i64::from(minutes)),
        (None, Some(bars)) => Width::Bars(i64::from(bars)),
        (None, None) => Width::Easy,
    };
    let filter = LogQuery {
        decky: query.decky,
        service: query.service,
        kind: query.kind,
        src: query.src,
        session: query.session,
        since: query.since,
        until: query.until,
        q: query.q,
        ..LogQuery::default()
    }
    .filter()?;
    let make = async {
        let found = bars(&api, &filter, width, Stamp::now()).await?;
        // Times and numbers always serialise.
        Ok::<_, Error>(Bytes::from(serde_json::to_vec(&found).unwrap_or_default()))
    };
    Ok(reply(api.pages.get_or(key, newest, make).await?))
}

/// A histogram of what matches; of the last day unless the filter says otherwise.
pub(super) async fn bars(
    api: &Api,
    filter: &LogFilter,
    width: Width,
    now: Stamp,
) -> Result<Histogram, Error> {
    let until = filter.until.unwrap_or(now);
    let day_before = Stamp(until.0.saturating_sub(24 * 60 * MINUTE));
    let since = filter.since.unwrap_or(day_before).min(until);
    let minutes = until.0.saturating_sub(since.0) / MINUTE + 1;
    let width = match width {
        Width::Minutes(width) => width.max(1),
        // One more may be begun at either end.
        Width::Bars(bars) => minutes / (bars - 1).max(1) + 1,
        Width::Easy => nice(minutes / 60),
    };
    if minutes / width > BARS {
        return Err(Error::unacceptable(
            "too-fine",
            format!("That is more than {BARS} bars; choose a longer interval or less time."),
        ));
    }
    let found = api.db.log_histogram(filter, since, until, width).await?;
    let step = width * MINUTE;
    let mut found = found.into_iter().peekable();
    let mut items = Vec::new();
    let mut start = since.0.div_euclid(step) * step;
    while start <= until.0 {
        let mut count = 0;
        while let Some(bucket) = found.next_if(|b| b.start.0 <= start) {
            count += bucket.count;
        }
        items.push(Bar {
            time: Stamp(start).to_string(),
            count,
        });
        start = start.saturating_add(step);
    }
    Ok(Histogram {
        items,
        interval_seconds: width * 60,
    })
}

/// The next width that people read easily.
fn nice(minutes: i64) -> i64 {
    const WIDTHS: [i64; 14] = [
        1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 10_080, 43_200,
    ];
    let fits = WIDTHS.iter().find(|width| **width >= minutes);
    fits.copied().unwrap_or(525_600)
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
