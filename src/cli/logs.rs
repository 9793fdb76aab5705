//! `decnet logs`: captured events, newest last, straight from the database. Needs no
//! worker, no bus and no root, only the right to read the file. Whatever an attacker
//! sent is shown with its control characters made visible.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::cli::{block_on, load, output};
use crate::config::{Config, Sources};
use crate::db::log::{LogFilter, LogRow};
use crate::db::{Db, Page};
use crate::model::Stamp;
use crate::syslog;

/// How often `--follow` looks for new events.
const LOOK: Duration = Duration::from_millis(250);
/// Longest value shown on a terminal; a pipe gets whole values.
const VALUE_MAX: usize = 160;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet logs -f                              watch what attackers do\n  decnet logs --service redis --since 1h      the last hour on redis\n  decnet logs --src 198.51.100.7 --json | jq .fields\n\nExit codes: 0 done, 1 the database is missing or may not be read, 2 wrong usage, 78 bad configuration."
)]
pub(super) struct Args {
    /// Go on showing events as they are stored.
    #[arg(short, long)]
    follow: bool,
    /// Show at most so many past events (1 to 1000; 0 with --follow for none).
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1000))]
    limit: u32,
    /// Only this decky.
    #[arg(long, value_name = "NAME")]
    decky: Option<String>,
    /// Only this service.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only this kind of event (connect, auth_attempt, command, …).
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only this attacker's address.
    #[arg(long, value_name = "ADDRESS")]
    src: Option<std::net::IpAddr>,
    /// Only what happened since: 30s, 10m, 2h, 7d, or a moment as 2026-04-18T02:22:56Z.
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

/// A moment, or a time before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    At(Stamp),
}

fn since(text: &str) -> Result<Since, String> {
    if let Some(at) = Stamp::parse(text) {
        return Ok(Since::At(at));
    }
    let bad = || "use 30s, 10m, 2h, 7d or a moment such as 2026-04-18T02:22:56Z".to_owned();
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = text
        .strip_suffix(unit)
        .and_then(|n| n.parse().ok())
        .ok_or_else(bad)?;
    number
        .checked_mul(seconds)
        .map(|s| Since::Ago(Duration::from_secs(s)))
        .ok_or_else(bad)
}

impl Since {
    fn moment(self, now: Stamp) -> Stamp {
        match self {
            Since::At(at) => at,
            Since::Ago(ago) => Stamp(
                now.0
                    .saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)),
            ),
        }
    }
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = load(sources)?;
    let filter = LogFilter {
        decky: args.decky.clone(),
        service: args.service.clone(),
        kind: args.kind.clone(),
        src_ip: args.src.map(|ip| ip.to_string()),
        since: args.since.map(|s| s.moment(Stamp::now())),
        ..LogFilter::default()
    };
    block_on(async {
        let db = open(&config).await?;
        // Read first: what is stored meanwhile is shown by --follow, not passed over.
        let mut last = db.log_latest_id().await?;
        let mut rows = Vec::new();
        if args.limit > 0 {
            let page = Page {
                before: Some(last.saturating_add(1)),
                limit: args.limit,
            };
            rows = db.log_list(&filter, page).await?;
        }
        rows.reverse();
        print(&rows, args.json)?;
        if !args.follow {
            return Ok(());
        }
        loop {
            let rows = db.log_after(last, 500, &filter).await?;
            match rows.last() {
                Some(row) => last = row.id,
                None => tokio::time::sleep(LOOK).await,
            }
            print(&rows, args.json)?;
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print(rows: &[LogRow], json: bool) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let shorten = io::stdout().is_terminal();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for row in rows {
        let line = if json {
            record(row)?
        } else {
            plain(row, shorten)
        };
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(())
}

/// One event for a person.
fn plain(row: &LogRow, shorten: bool) -> String {
    let event = &row.event;
    let from = event
        .flow
        .as_ref()
        .map_or_else(|| "-".to_owned(), |f| f.src.to_string());
    let mut line = format!(
        "{} {} {} {} {from}",
        event.ts,
        output::safe(&event.decky),
        output::safe(&event.service),
        output::safe(&event.kind),
    );
    // The printable form says it; the exact bytes are in --json.
    for (key, value) in event.fields.iter().filter(|(k, _)| k != "secret_b64") {
        let mut shown: String = value
            .chars()
            .take(if shorten { VALUE_MAX } else { usize::MAX })
            .collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        line.push_str(&format!(" {}={}", output::safe(key), quoted(&shown)));
    }
    if !event.msg.is_empty() {
        line.push(' ');
        line.push_str(&output::safe(&event.msg));
    }
    line
}

fn quoted(value: &str) -> String {
    let safe = output::safe(value);
    let bare = !safe.is_empty() && safe.chars().all(|c| !c.is_whitespace() && c != '"');
    if bare { safe } else { format!("\"{safe}\"") }
}

/// One event as the JSON file has it, with its id, without the line form.
fn record(row: &LogRow) -> anyhow::Result<String> {
    let text = syslog::to_json(&row.event, "");
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)?;
    fields.shift_remove("raw_line");
    let mut whole = serde_json::Map::from_iter([("id".to_owned(), row.id.into())]);
    whole.extend(fields);
    Ok(escaped(&serde_json::Value::Object(whole).to_string()))
}

/// JSON text with the characters that move a terminal's cursor, and that JSON would
/// allow, escaped; they occur in strings only.
pub(super) fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// The database for looking, or what to do about it.
pub(super) async fn open(config: &Config) -> anyhow::Result<Db> {
    let Some(path) = config.database.path() else {
        return Ok(Db::open_for_reading(&config.database).await?);
    };
    match std::fs::File::open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => anyhow::bail!(
            "there is no database at {} yet: start DECNET with `decnet up` or `sudo decnet init`, or name its place with --state-dir",
            path.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => anyhow::bail!(
            "you may not read {}: use sudo{}",
            path.display(),
            owning_group(path).map_or_else(String::new, |g| format!(
                ", or join the group {g} (sudo usermod -aG {g} YOU) and log in again"
            ))
        ),
        Err(error) => {
            return Err(error).with_context(|| format!("opening {}", path.display()));
        }
    }
    Ok(Db::open_for_reading(path).await?)
}

/// The group of the nearest thing on the way to `path` that can be looked at.
fn owning_group(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let gid = path
        .ancestors()
        .find_map(|p| std::fs::metadata(p).ok())?
        .gid();
    // Not through the C library: a static one would load name-service modules here.
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let name = groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(gid)).then_some(name)
    })?;
    (gid != 0).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Severity};

    fn row(value: &str) -> LogRow {
        LogRow {
            id: 7,
            event: Event {
                eid: "E".into(),
                ts: Stamp(0),
                severity: Severity::Info,
                decky: "decky-01".into(),
                service: "redis".into(),
                kind: "command".into(),
                flow: None,
                fields: vec![("command".into(), value.into())],
                msg: String::new(),
            },
        }
    }

    #[test]
    fn since_is_a_time_before_now_or_a_moment() {
        let now = Stamp(1_000_000_000_000);
        assert_eq!(
            since("10m").unwrap().moment(now),
            Stamp(now.0 - 600_000_000)
        );
        assert_eq!(
            since("1970-01-01T00:00:01Z").unwrap(),
            Since::At(Stamp(1_000_000))
        );
        for bad in ["", "m", "10", "10y", "-5m", "99999999999999999999d", "ä"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn attacker_text_reaches_no_terminal_as_it_is() {
        let hostile = row("\u{1b}]0;x\u{7}\u{9b}2J \u{202e}\n");
        for text in [plain(&hostile, true), record(&hostile).unwrap()] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(!text.contains('\u{202e}'), "{text:?}");
        }
        let back: serde_json::Value = serde_json::from_str(&record(&hostile).unwrap()).unwrap();
        assert_eq!(
            back["fields"]["command"],
            "\u{1b}]0;x\u{7}\u{9b}2J \u{202e}\n"
        );
        assert_eq!(back["id"], 7);
    }

    #[test]
    fn a_long_value_is_cut_on_a_terminal_only() {
        let long = row(&"x".repeat(1000));
        assert!(plain(&long, true).len() < 300);
        assert!(plain(&long, false).len() > 1000);
    }
}
