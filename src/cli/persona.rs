//! `decnet persona show DECKY`: everything by which a defender recognises a decky of
//! theirs in a scan or a log. Seeds and private keys are not shown.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;

use super::output;
use crate::config::Sources;
use crate::db::decky::DeckyRow;
use crate::model::Service;
use crate::persona::certificate::Certificate;
use crate::persona::key::HostKey;
use crate::persona::show;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet persona show decky-01\n  decnet persona show decky-01 --json | jq -r .certificate.sha256"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show names, addresses, versions, certificate and fingerprints of one decky.
    #[command(
        after_help = "Examples:\n  decnet persona show decky-01\n  decnet persona show decky-01 --json | jq -r .mac\n\nSeeds and private keys are not shown. Keys are made anew for every call, which takes\na second."
    )]
    Show {
        /// The decky's name (`decnet deckies` lists them).
        decky: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let Command::Show { decky, json } = &args.command;
    let config = super::load(sources)?;
    let rows = super::block_on(async {
        let db = super::logs::open(&config).await?;
        let rows = db.decky_list().await;
        db.close().await;
        Ok(rows?)
    })?;
    let Some(row) = rows.into_iter().find(|r| r.decky.name == *decky) else {
        bail!("there is no decky called '{decky}'; `decnet deckies` lists them");
    };
    if *json {
        output::json(&as_json(&row))?;
    } else {
        print(
            &row,
            &row.persona.certificate(),
            &show::host_keys(&row.persona),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(row: &DeckyRow) -> serde_json::Value {
    let mut fields = show::shown(&row.persona);
    fields.insert("decky".to_owned(), row.decky.name.as_str().into());
    fields.insert("ip".to_owned(), row.decky.ip.to_string().into());
    fields.into()
}

fn print(row: &DeckyRow, certificate: &Certificate, keys: &[HostKey]) -> anyhow::Result<()> {
    let p = &row.persona;
    let or_none = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let mut lines = vec![
        ("decky", row.decky.name.clone()),
        ("address", row.decky.ip.to_string()),
        ("host name", p.hostname.clone()),
        ("full name", p.fqdn()),
        ("role", p.role.clone()),
        ("system", p.os_pretty.clone()),
        ("OS family", p.family.to_string()),
        ("kernel or build", p.kernel.clone()),
        ("patch level", or_none(&p.patch_level)),
        ("installed", p.installed_at.to_string()),
        ("booted", p.booted_at.to_string()),
        ("MAC address", format!("{} ({})", p.mac, p.vendor)),
        ("IPv6 link-local", p.ipv6_link_local().to_string()),
        (
            "web server",
            format!("{} {}", p.web_server.name(), p.web_version),
        ),
        (
            "FTP server",
            format!("{} {}", p.ftp_server.name(), p.ftp_version),
        ),
    ];
    if p.can_offer(Service::Redis) {
        lines.push(("Redis", p.redis_version.clone()));
    }
    lines.push(("users", p.users.join(", ")));
    for (name, value) in p.identifiers() {
        lines.push((name, value));
    }
    lines.extend([
        ("certificate", certificate.subject.clone()),
        ("  issuer", certificate.issuer.clone()),
        ("  names", or_none(&certificate.names.join(", "))),
        ("  serial", certificate.serial.clone()),
        (
            "  valid",
            format!("{} to {}", certificate.not_before, certificate.not_after),
        ),
        ("  sha256", certificate.fingerprint()),
    ]);
    for key in keys {
        lines.push((key.kind.name(), key.fingerprint()));
    }
    let rows = lines
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    output::table(&["WHAT", "VALUE"], rows)?;
    Ok(())
}
