//! `decnet credentials`: what attackers tried, one line per distinct credential, the
//! newest last.

use std::process::ExitCode;

use crate::cli::{block_on, load, logs, output};
use crate::config::Sources;
use crate::db::Page;
use crate::db::credential::{CredentialFilter, CredentialRow};
use crate::model::Stamp;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet credentials                          the newest fifty\n  decnet credentials --service ftp --json     exact bytes in secret_b64\n  decnet credentials --crack > hashes.txt     lines for hashcat or john\n\nExit codes: 0 done, 1 the database is missing or may not be read, 2 wrong usage, 78 bad configuration."
)]
pub(super) struct Args {
    /// Show at most so many (1 to 1000).
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only this service.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only this attacker's address.
    #[arg(long, value_name = "ADDRESS")]
    src: Option<std::net::IpAddr>,
    /// Only this decky.
    #[arg(long, value_name = "NAME")]
    decky: Option<String>,
    /// Only this claimed identity.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// One JSON object per line.
    #[arg(long, conflicts_with = "crack")]
    json: bool,
    /// Only the ready lines for hashcat or john.
    #[arg(long)]
    crack: bool,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = load(sources)?;
    let filter = CredentialFilter {
        service: args.service.clone(),
        attacker_ip: args.src.map(|ip| ip.to_string()),
        principal: args.principal.clone(),
        secret_sha256: None,
        decky: args.decky.clone(),
    };
    let page = Page {
        before: None,
        limit: args.limit,
    };
    let mut rows = block_on(async {
        let db = logs::open(&config).await?;
        Ok(db.credential_list(&filter, page).await?)
    })?;
    rows.reverse();
    if args.json {
        for row in &rows {
            output::line(logs::escaped(&record(row).to_string()))?;
        }
    } else if args.crack {
        for crack in rows.iter().filter_map(|r| r.crack.as_deref()) {
            output::line(output::safe(crack))?;
        }
    } else if rows.is_empty() {
        output::line("No credentials captured yet.")?;
    } else {
        show(&rows, Stamp::now())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(rows: &[CredentialRow], now: Stamp) -> anyhow::Result<()> {
    let rows = rows
        .iter()
        .map(|row| {
            vec![
                output::safe(&row.attacker_ip),
                output::safe(&row.decky),
                output::safe(&row.service),
                output::safe(row.principal.as_deref().unwrap_or("-")),
                output::safe(&row.secret_printable),
                output::safe(&row.secret_kind),
                row.count.to_string(),
                format!("{} ago", output::ago(now.since(row.last_seen))),
            ]
        })
        .collect();
    output::table(
        &[
            "ATTACKER",
            "DECKY",
            "SERVICE",
            "PRINCIPAL",
            "SECRET",
            "KIND",
            "COUNT",
            "LAST SEEN",
        ],
        rows,
    )?;
    Ok(())
}

fn record(row: &CredentialRow) -> serde_json::Value {
    serde_json::json!({
        "id": row.id,
        "attacker_ip": row.attacker_ip,
        "decky": row.decky,
        "service": row.service,
        "principal": row.principal,
        "secret_kind": row.secret_kind,
        "secret_printable": row.secret_printable,
        "secret_b64": row.secret_b64,
        "secret_sha256": row.secret_sha256,
        "crack": row.crack,
        "first_seen": row.first_seen.to_string(),
        "last_seen": row.last_seen.to_string(),
        "count": row.count,
    })
}
