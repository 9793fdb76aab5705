//! `decnet artifacts`: the files attackers left. Reads the store alone, so it works with
//! every daemon stopped. What comes out is malware: it is written only where it was
//! asked for, readable by its owner alone, and never run.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::{load, logs, output};
use crate::config::Sources;
use crate::model::Stamp;
use crate::net::store::{self, Meta, Name};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet artifacts list                        newest last\n  decnet artifacts show SHA256                 who left it, where and when\n  decnet artifacts export SHA256 --out FILE    the bytes, mode 0600\n\nExit codes: 0 done, 1 no such file or not readable, 2 wrong usage, 78 bad configuration."
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// One line per file, the newest last.
    List {
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Everything known of one file.
    Show {
        /// Its hash, 64 hex digits.
        sha256: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the bytes of one file to a new file.
    Export {
        /// Its hash, 64 hex digits.
        sha256: String,
        /// Where to; must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace FILE when it exists.
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = load(sources)?;
    let root = &config.paths.artifacts;
    match &args.action {
        Action::List { json } => list(root, *json)?,
        Action::Show { sha256, json } => {
            let (meta, _) = find(root, sha256)?;
            show(&meta, *json)?;
        }
        Action::Export { sha256, out, force } => {
            let (_, mut file) = find(root, sha256)?;
            export(&mut file, out, *force)?;
            output::line(format!("wrote {}; do not run it", out.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(root: &Path, json: bool) -> anyhow::Result<()> {
    let found = store::list(root).with_context(|| format!("reading {}", root.display()))?;
    if json {
        for meta in &found {
            output::line(logs::escaped(&record(meta).to_string()))?;
        }
        return Ok(());
    }
    if found.is_empty() {
        output::line("No files captured yet.")?;
        return Ok(());
    }
    let now = Stamp::now();
    let rows = found.iter().map(|meta| {
        let first = meta.sightings.first();
        let text = |value: Option<&str>| output::safe(value.unwrap_or("-"));
        vec![
            meta.sha256.clone(),
            meta.size.to_string(),
            text(first.map(|s| s.decky.as_str())),
            text(first.map(|s| s.service.as_str())),
            text(first.and_then(|s| s.src_ip.as_deref())),
            text(first.and_then(|s| s.name.as_deref())),
            meta.count.to_string(),
            format!("{} ago", output::ago(now.since(Stamp(meta.last_seen)))),
        ]
    });
    let head = [
        "SHA256",
        "BYTES",
        "DECKY",
        "SERVICE",
        "FROM",
        "NAME",
        "SEEN",
        "LAST SEEN",
    ];
    output::table(&head, rows.collect())?;
    Ok(())
}

fn show(meta: &Meta, json: bool) -> anyhow::Result<()> {
    if json {
        output::line(logs::escaped(&record(meta).to_string()))?;
        return Ok(());
    }
    output::line(format!("sha256      {}", meta.sha256))?;
    output::line(format!("bytes       {}", meta.size))?;
    output::line(format!("first seen  {}", Stamp(meta.first_seen)))?;
    output::line(format!("last seen   {}", Stamp(meta.last_seen)))?;
    output::line(format!("sightings   {}", meta.count))?;
    for seen in &meta.sightings {
        output::line(format!(
            "  {}  {}/{}  from {}  as {}",
            Stamp(seen.ts),
            output::safe(&seen.decky),
            output::safe(&seen.service),
            output::safe(seen.src_ip.as_deref().unwrap_or("-")),
            output::safe(seen.name.as_deref().unwrap_or("-")),
        ))?;
    }
    Ok(())
}

fn find(root: &Path, sha256: &str) -> anyhow::Result<(Meta, std::fs::File)> {
    let Some(name) = Name::parse(sha256) else {
        bail!(
            "'{sha256}' is not a SHA-256: give 64 lower-case hex digits, as `decnet artifacts list` shows them"
        );
    };
    let found = store::open(root, &name).with_context(|| format!("reading {}", root.display()))?;
    found.with_context(|| format!("no file {sha256} in {}", root.display()))
}

/// Into a new file, or over one when forced; never through a link somebody laid there.
fn export(file: &mut std::fs::File, out: &Path, force: bool) -> anyhow::Result<()> {
    if force && out.symlink_metadata().is_ok() {
        std::fs::remove_file(out).with_context(|| format!("replacing {}", out.display()))?;
    }
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out);
    let mut made = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} exists; --force replaces it", out.display())
        }
        made => made.with_context(|| format!("creating {}", out.display()))?,
    };
    io::copy(file, &mut made).with_context(|| format!("writing {}", out.display()))?;
    Ok(())
}

fn record(meta: &Meta) -> serde_json::Value {
    let seen = |s: &store::Sighting| {
        serde_json::json!({
            "ts": Stamp(s.ts).to_string(),
            "eid": s.eid,
            "decky": s.decky,
            "service": s.service,
            "session": s.session,
            "src_ip": s.src_ip,
            "name": s.name,
        })
    };
    serde_json::json!({
        "sha256": meta.sha256,
        "size": meta.size,
        "first_seen": Stamp(meta.first_seen).to_string(),
        "last_seen": Stamp(meta.last_seen).to_string(),
        "count": meta.count,
        "sightings": meta.sightings.iter().map(seen).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn an_export_writes_a_private_new_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("from"), b"bytes").unwrap();
        let from = || std::fs::File::open(path("from")).unwrap();
        std::fs::write(path("other"), b"mine").unwrap();
        symlink(path("other"), path("out")).unwrap();
        let error = export(&mut from(), &path("out"), false).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        export(&mut from(), &path("out"), true).unwrap();
        assert_eq!(std::fs::read(path("other")).unwrap(), b"mine");
        assert_eq!(std::fs::read(path("out")).unwrap(), b"bytes");
        let mode = std::fs::symlink_metadata(path("out"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}
