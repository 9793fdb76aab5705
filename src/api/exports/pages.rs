//! Reading a list page by page and writing each of its rows. Every page is a read of its
//! own that goes on below the last row of the one before, by ids that never change: a row is
//! written once, and rows that come while an export runs are not part of it.

use super::order::ExportFormat;
use crate::api::attackers::{self, AttackerItem};
use crate::api::credentials::CredentialItem;
use crate::api::logs;
use crate::db::attacker::AttackerFilter;
use crate::db::credential::{CredentialFilter, CredentialRow};
use crate::db::log::{LogFilter, LogRow};
use crate::db::{self, Db, Page};
use crate::model::{Stamp, csv};
use crate::syslog;

/// Rows per read.
const ROWS: u32 = 1000;

/// How far a list was gone through: below which id it goes on.
#[derive(Debug)]
pub(super) enum Place {
    Events(Box<LogFilter>, Option<i64>),
    Attackers(AttackerFilter, Option<String>),
    Credentials(CredentialFilter, Option<i64>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) place: Place,
    pub(super) format: ExportFormat,
    /// How alive attackers are depends on it.
    pub(super) now: Stamp,
}

/// What a page came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    /// Rows written; those that a format has no line for are none.
    pub(super) written: i64,
    /// There may be more.
    pub(super) more: bool,
}

impl Pages {
    /// The line of names above the rows, where the format has one.
    pub(super) fn head(&self, out: &mut String) {
        if self.format != ExportFormat::Csv {
            return;
        }
        let names: &[&str] = match self.place {
            Place::Events(..) => &EVENT,
            Place::Attackers(..) => &ATTACKER,
            Place::Credentials(..) => &CREDENTIAL,
        };
        csv::row(out, names);
    }

    /// Adds the rows of the next page. After an error it may be tried again.
    pub(super) async fn next(&mut self, db: &Db, out: &mut String) -> db::Result<Read> {
        let format = self.format;
        let (read, written) = match &mut self.place {
            Place::Events(filter, before) => {
                let page = Page {
                    before: *before,
                    limit: ROWS,
                };
                let rows = db.log_list(filter, page).await?;
                *before = rows.last().map(|row| row.id).or(*before);
                rows.iter().for_each(|row| event(out, row, format));
                (rows.len(), rows.len())
            }
            Place::Attackers(filter, before) => {
                let rows = db.attacker_list_by_id(filter, before.as_deref(), ROWS);
                let items = attackers::items(db, rows.await?, self.now).await?;
                if let Some(last) = items.last() {
                    *before = Some(last.id.clone());
                }
                items.iter().for_each(|item| attacker(out, item, format));
                (items.len(), items.len())
            }
            Place::Credentials(filter, before) => {
                let page = Page {
                    before: *before,
                    limit: ROWS,
                };
                let rows = db.credential_list(filter, page).await?;
                *before = rows.last().map(|row| row.id).or(*before);
                let read = rows.len();
                let written = rows.into_iter().filter(|row| credential(out, row, format));
                (read, written.count())
            }
        };
        Ok(Read {
            written: i64::try_from(written).unwrap_or(i64::MAX),
            more: u32::try_from(read).is_ok_and(|read| read >= ROWS),
        })
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

const EVENT: [&str; 10] = [
    "id",
    "eid",
    "timestamp",
    "severity",
    "decky",
    "service",
    "event_type",
    "attacker_ip",
    "fields",
    "msg",
];

fn event(out: &mut String, row: &LogRow, format: ExportFormat) {
    if format == ExportFormat::Jsonl {
        return line(out, &logs::item(row));
    }
    let event = &row.event;
    let attacker = event.flow.as_ref().map(|flow| flow.src.ip().to_string());
    csv::row(
        out,
        &[
            &row.id.to_string(),
            &event.eid,
            &event.ts.to_string(),
            &event.severity.number().to_string(),
            &event.decky,
            &event.service,
            &event.kind,
            &attacker.unwrap_or_default(),
            &syslog::fields_json(event),
            &event.msg,
        ],
    );
}

const ATTACKER: [&str; 15] = [
    "id",
    "ip",
    "country",
    "activity",
    "first_seen",
    "last_seen",
    "event_count",
    "session_count",
    "credential_count",
    "command_count",
    "artifact_count",
    "service_count",
    "decky_count",
    "services",
    "deckies",
];

fn attacker(out: &mut String, item: &AttackerItem, format: ExportFormat) {
    // Texts and numbers always serialise.
    if format == ExportFormat::Jsonl {
        return line(out, &serde_json::to_string(item).unwrap_or_default());
    }
    let activity = serde_json::to_value(item.activity).unwrap_or_default();
    let counts = [
        item.event_count,
        item.session_count,
        item.credential_count,
        item.command_count,
        item.artifact_count,
        item.service_count,
        item.decky_count,
    ]
    .map(|count| count.to_string());
    let mut cells = vec![
        item.id.as_str(),
        &item.ip,
        item.country.as_deref().unwrap_or_default(),
        activity.as_str().unwrap_or_default(),
        &item.first_seen,
        &item.last_seen,
    ];
    cells.extend(counts.iter().map(String::as_str));
    let (services, deckies) = (item.services.join(", "), item.deckies.join(", "));
    cells.extend([services.as_str(), &deckies]);
    csv::row(out, &cells);
}

const CREDENTIAL: [&str; 13] = [
    "id",
    "first_seen",
    "last_seen",
    "count",
    "attacker_ip",
    "decky",
    "service",
    "principal",
    "secret_kind",
    "secret_printable",
    "secret_b64",
    "secret_sha256",
    "crack",
];

/// Returns whether the format has a line for it.
fn credential(out: &mut String, row: &CredentialRow, format: ExportFormat) -> bool {
    match format {
        ExportFormat::Jsonl => {
            let item = CredentialItem::from(row.clone());
            // Texts and numbers always serialise.
            line(out, &serde_json::to_string(&item).unwrap_or_default());
        }
        ExportFormat::Csv => csv::row(
            out,
            &[
                &row.id.to_string(),
                &row.first_seen.to_string(),
                &row.last_seen.to_string(),
                &row.count.to_string(),
                &row.attacker_ip,
                &row.decky,
                &row.service,
                row.principal.as_deref().unwrap_or_default(),
                &row.secret_kind,
                &row.secret_printable,
                &row.secret_b64,
                &row.secret_sha256,
                row.crack.as_deref().unwrap_or_default(),
            ],
        ),
        ExportFormat::Hashcat | ExportFormat::John => return crack(out, row, format),
    }
    true
}

fn crack(out: &mut String, row: &CredentialRow, format: ExportFormat) -> bool {
    // An attacker's line break must not make a second line.
    let whole = |crack: &&String| !crack.contains(['\n', '\r']);
    let Some(crack) = row.crack.as_ref().filter(whole) else {
        return false;
    };
    match &row.principal {
        // Lines with a name of their own (NetNTLM) begin with it; others get one.
        Some(name) if format == ExportFormat::John && crack.starts_with('$') => {
            let name = name.replace([':', '\n', '\r'], "_");
            line(out, &format!("{name}:{crack}"));
        }
        _ => line(out, crack),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(principal: &str, crack: Option<&str>) -> CredentialRow {
        CredentialRow {
            id: 7,
            attacker_ip: "192.0.2.1".into(),
            decky: "d".into(),
            service: "http".into(),
            secret_kind: "http_digest_md5".into(),
            principal: Some(principal.into()),
            secret_printable: "=1+1".into(),
            secret_b64: "PTErMQ==".into(),
            secret_sha256: "ab".into(),
            crack: crack.map(str::to_owned),
            first_seen: Stamp(1),
            last_seen: Stamp(2),
            count: 3,
        }
    }

    #[test]
    fn only_challenge_responses_are_lines_to_crack_and_each_is_one() {
        let mut out = String::new();
        for row in [
            tried("an:na\n", Some("$sip$*1")),
            tried("anna", Some("anna::dom:1")),
            tried("anna", Some("$two\nlines")),
            tried("anna", None),
        ] {
            credential(&mut out, &row, ExportFormat::John);
            credential(&mut out, &row, ExportFormat::Hashcat);
        }
        assert_eq!(out, "an_na_:$sip$*1\n$sip$*1\nanna::dom:1\nanna::dom:1\n");
    }

    #[test]
    fn a_row_has_a_cell_for_every_name_and_none_is_a_formula() {
        let mut out = String::new();
        let row = tried("@sum", Some("-1"));
        assert!(credential(&mut out, &row, ExportFormat::Csv));
        assert_eq!(out.matches("\",\"").count() + 1, CREDENTIAL.len());
        for cell in ["\"'@sum\"", "\"'=1+1\"", "\"'-1\""] {
            assert!(out.contains(cell), "{out}");
        }
        out.clear();
        let named = AttackerItem {
            id: "i".into(),
            ip: "192.0.2.1".into(),
            country: None,
            activity: attackers::ActivityWord::Inactive,
            first_seen: "f".into(),
            last_seen: "l".into(),
            event_count: 1,
            session_count: 2,
            credential_count: 3,
            command_count: 4,
            artifact_count: 5,
            service_count: 6,
            decky_count: 7,
            services: vec!["ftp".into(), "http".into()],
            deckies: vec!["=d".into()],
        };
        attacker(&mut out, &named, ExportFormat::Csv);
        assert_eq!(out.matches("\",\"").count() + 1, ATTACKER.len());
        let end = "\"inactive\",\"f\",\"l\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"ftp, http\",\"'=d\"\r\n";
        assert!(out.ends_with(end), "{out}");
    }
}
