//! `decnet canary`: the worker, or the tokens it listens for: made, listed, planted, taken
//! back, written to files for machines that are no deckies.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{logs, output};
use crate::app;
use crate::bus::Bus;
use crate::canary::{Kind, UPLOAD_MAX};
use crate::config::{Config, Sources};
use crate::db::canary::trigger::TriggerRow;
use crate::db::canary::{TokenFilter, TokenRow};
use crate::db::{Db, Page};
use crate::deploy::canary::{self, Around, Wanted};
use crate::geo;
use crate::model::canary::TokenState;
use crate::model::{Stamp, worker};
use crate::net::blob;
use crate::net::store::Name;

/// Uses shown with a token.
const SHOWN: u32 = 50;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet canary kinds                                    what there is\n  decnet canary new env_file --decky web-01              made and planted\n  decnet canary new docx --memo 'finance share'          for a machine that is no decky\n  decnet canary download ID --out ./bait                 its files, to be put there\n  decnet canary new upload --from plan.docx --decky files-02\n  decnet canary list --state planted\n  decnet canary show ID                                  who used it\n  decnet canary revoke ID                                its files leave the decky\n\nWithout a subcommand this is the worker that answers what tokens call.\n\nExit codes: 0 done, 1 not done, 2 wrong usage, 69 already running, 78 bad configuration."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the kinds of tokens.
    Kinds {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a token; plant it when it is for a decky.
    New(New),
    /// List tokens, newest first.
    List {
        /// Only for this decky.
        #[arg(long, value_name = "NAME")]
        decky: Option<String>,
        /// Only of this kind.
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Only in this state.
        #[arg(long, value_name = "STATE", value_parser = ["new", "planted", "revoked", "failed"])]
        state: Option<String>,
        /// At most so many.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a token and who used it.
    Show {
        /// Its id.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a token's files to its decky, again when they are there.
    Plant {
        /// Its id.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a token back: its files leave the decky. A copy of them still tells.
    Revoke {
        /// Its id.
        id: String,
        /// Also delete it with all it caught; calls of it are no longer noticed.
        #[arg(long)]
        forget: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a token's files into a directory.
    Download {
        /// Its id.
        id: String,
        /// Where to.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// One of `decnet canary kinds`.
    kind: String,
    /// For this decky; without one it is for a machine that is none.
    #[arg(long, value_name = "NAME")]
    decky: Option<String>,
    /// What to call it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    memo: String,
    /// Absolute path of its first file; the kind's own place unless told.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Whose home; one of the host's people unless told.
    #[arg(long, value_name = "LOGIN")]
    user: Option<String>,
    /// The machine that is no decky runs Windows.
    #[arg(long, conflicts_with = "decky")]
    windows: bool,
    /// File of this host that the kind 'upload' goes into.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Do not plant it yet.
    #[arg(long)]
    no_plant: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let Some(command) = &args.command else {
        let row = worker::find("canary").ok_or_else(|| anyhow::anyhow!("no such worker"))?;
        return Ok(app::start(row, sources));
    };
    let config = super::load(sources)?;
    if let Command::Kinds { json } = command {
        kinds(&config, *json)?;
        return Ok(ExitCode::SUCCESS);
    }
    super::block_on(async {
        // Says what is wrong when there is nothing to open, before anything is created.
        let mut db = logs::open(&config).await?;
        let looks = matches!(command, Command::List { .. } | Command::Show { .. });
        if !looks {
            db.close().await;
            db = Db::open(&config.database).await?;
        }
        let bus = Bus::socket(&config.bus, "cli");
        let around = Around {
            config: &config,
            db: &db,
            bus: &bus,
        };
        let outcome = obey(command, around).await;
        db.close().await;
        bus.close().await;
        outcome
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn obey(command: &Command, around: Around<'_>) -> anyhow::Result<()> {
    let (db, now) = (around.db, Stamp::now());
    match command {
        Command::Kinds { .. } => Ok(()),
        Command::New(new) => make(new, around, now).await,
        Command::List {
            decky,
            kind,
            state,
            limit,
            json,
        } => {
            let filter = TokenFilter {
                decky: decky.clone(),
                kind: kind.clone(),
                state: state.as_deref().and_then(TokenState::parse),
            };
            let tokens = db.canary_list(&filter, None, *limit).await?;
            if *json {
                return output::json(&tokens.iter().map(shown).collect::<Vec<_>>());
            }
            let rows = tokens.iter().map(|token| row(token, now)).collect();
            output::table(
                &["ID", "KIND", "DECKY", "STATE", "USED", "LAST", "MEMO"],
                rows,
            )?;
            Ok(())
        }
        Command::Show { id, json } => {
            let token = find(db, id).await?;
            let page = Page {
                before: None,
                limit: SHOWN,
            };
            let triggers = db.canary_triggers(&token.id, page).await?;
            show(&token, &triggers, *json)
        }
        Command::Plant { id, json } => {
            let token = around.plant(&find(db, id).await?, now).await?;
            tell(&token, *json)
        }
        Command::Revoke { id, forget, json } => {
            let token = around.revoke(&find(db, id).await?, now).await?;
            if *forget {
                db.canary_forget(&token.id).await?;
                around.changed(&token);
            }
            tell(&token, *json)
        }
        Command::Download { id, out, json } => {
            let token = find(db, id).await?;
            download(&around.files(&token).await?, out, *json)
        }
    }
}

fn kinds(config: &Config, json: bool) -> anyhow::Result<()> {
    if json {
        let kinds = Kind::ALL.iter().map(|kind| {
            json!({
                "name": kind.as_str(),
                "summary": kind.summary(),
                "callback": kind.callback().as_str(),
                "needs": canary::lacks(*kind, config),
            })
        });
        return output::json(&kinds.collect::<Vec<_>>());
    }
    let rows = Kind::ALL.iter().map(|kind| {
        let summary = match canary::lacks(*kind, config) {
            Some(needs) => format!("{} (needs {needs})", kind.summary()),
            None => kind.summary().to_owned(),
        };
        let callback = kind.callback().as_str();
        vec![kind.as_str().to_owned(), callback.to_owned(), summary]
    });
    output::table(&["KIND", "CALLS BY", "WHAT"], rows.collect())?;
    Ok(())
}

async fn find(db: &Db, id: &str) -> anyhow::Result<TokenRow> {
    let found = db.canary_find(id).await?;
    found.with_context(|| {
        let id = output::safe(id);
        format!("there is no canary token '{id}'; `decnet canary list` lists them")
    })
}

async fn make(new: &New, around: Around<'_>, now: Stamp) -> anyhow::Result<()> {
    let Some(kind) = Kind::parse(&new.kind) else {
        let kind = output::safe(&new.kind);
        bail!("there is no kind '{kind}'; `decnet canary kinds` lists them");
    };
    let blob = match &new.from {
        Some(path) => Some(upload(path, around, now).await?),
        None if kind == Kind::Upload => bail!("the kind 'upload' needs --from FILE"),
        None => None,
    };
    let wanted = Wanted {
        kind,
        memo: new.memo.clone(),
        decky: new.decky.clone(),
        path: new.path.clone(),
        user: new.user.clone(),
        windows: new.windows,
        blob,
    };
    let mut token = around.make(&wanted, "cli", now).await?;
    if token.decky.is_some() && !new.no_plant {
        token = around.plant(&token, now).await.with_context(|| {
            let id = &token.id;
            format!("the token is made but not planted; `decnet canary plant {id}` tries again")
        })?;
    }
    tell(&token, new.json)
}

/// Keeps a file of the operator's; its hash.
async fn upload(path: &Path, around: Around<'_>, now: Stamp) -> anyhow::Result<String> {
    let most = u64::try_from(UPLOAD_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", path.display()))?;
    if bytes.len() > UPLOAD_MAX {
        bail!(
            "{} is too large: {UPLOAD_MAX} bytes are the most",
            path.display()
        );
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} has no name", path.display()))?;
    let sha256 = blob::name(&bytes);
    let kept = Name::parse(&sha256).context("naming the file")?;
    let root = around.config.paths.canary_blobs();
    blob::keep(&root, &kept, &bytes)
        .with_context(|| format!("keeping a copy below {}", root.display()))?;
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    around
        .db
        .canary_blob_add(&sha256, name, size, "cli", now)
        .await?;
    Ok(sha256)
}

fn shown(token: &TokenRow) -> Value {
    let (url, host) = canary::calls(token);
    let at = |stamp: Option<Stamp>| stamp.map(|at| at.to_string());
    json!({
        "caution": url.as_deref().and_then(canary::caution),
        "id": token.id,
        "kind": token.kind,
        "memo": token.memo,
        "decky": token.decky,
        "path": token.path,
        "blob": token.blob,
        "state": token.state().as_str(),
        "last_error": token.last_error,
        "planted": token.planted.0,
        "url": url,
        "host": host,
        "created_by": token.created_by,
        "created_at": token.created_at.to_string(),
        "planted_at": at(token.planted_at),
        "revoked_at": at(token.revoked_at),
        "trigger_count": token.trigger_count,
        "last_triggered_at": at(token.last_triggered_at),
    })
}

fn row(token: &TokenRow, now: Stamp) -> Vec<String> {
    let last = token.last_triggered_at;
    vec![
        token.id.clone(),
        token.kind.clone(),
        token.decky.clone().unwrap_or_else(|| "-".to_owned()),
        token.state().as_str().to_owned(),
        token.trigger_count.to_string(),
        last.map_or_else(|| "-".to_owned(), |at| output::ago(now.since(at))),
        output::safe(&token.memo),
    ]
}

/// A token after something was done with it.
fn tell(token: &TokenRow, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&shown(token));
    }
    output::line(format!("{}  {}", token.id, token.state().as_str()))?;
    let (url, host) = canary::calls(token);
    let caution = url.as_deref().and_then(canary::caution);
    for call in [url, host].into_iter().flatten() {
        output::line(format!("  calls {call}"))?;
    }
    if let Some(caution) = caution {
        output::line(format!("  {caution}"))?;
    }
    for path in &token.planted.0 {
        if token.state() == TokenState::Planted {
            let decky = token.decky.as_deref().unwrap_or("-");
            output::line(format!("  on {decky}: {}", output::safe(path)))?;
        }
    }
    if let Some(error) = &token.last_error {
        output::line(format!("  {}", output::safe(error)))?;
    }
    if token.decky.is_none() && token.state() == TokenState::New {
        output::line(format!("  its files: decnet canary download {}", token.id))?;
    }
    Ok(())
}

fn show(token: &TokenRow, triggers: &[TriggerRow], json: bool) -> anyhow::Result<()> {
    if json {
        let triggers = triggers.iter().map(|trigger| {
            let found = trigger.fingerprint.as_deref();
            json!({
                "id": trigger.id,
                "first_at": trigger.first_at.to_string(),
                "last_at": trigger.last_at.to_string(),
                "count": trigger.count,
                "attacker_ip": trigger.address,
                "country": trigger.address.parse().ok().and_then(geo::country),
                "port": trigger.port,
                "via": trigger.via,
                "method": trigger.method,
                "path": trigger.path,
                "user_agent": trigger.user_agent,
                "headers": trigger.headers.0,
                "body": trigger.body,
                "resolver": trigger.resolver,
                "fingerprint": found.and_then(|f| serde_json::from_str::<Value>(f).ok()),
            })
        });
        let mut token = shown(token);
        token["triggers"] = triggers.collect();
        return output::json(&token);
    }
    tell(token, false)?;
    let made = token.created_at;
    output::line(format!(
        "  made {made} by {}, used {} times",
        output::safe(&token.created_by),
        token.trigger_count
    ))?;
    if triggers.is_empty() {
        return Ok(());
    }
    let rows = triggers.iter().map(|trigger| {
        vec![
            trigger.last_at.to_string(),
            trigger.count.to_string(),
            trigger.address.clone(),
            trigger.via.clone(),
            output::safe(&format!("{} {}", trigger.method, trigger.path)),
            output::safe(&trigger.user_agent),
        ]
    });
    output::table(
        &["LAST", "TIMES", "WHO", "VIA", "ASKED", "AGENT"],
        rows.collect(),
    )?;
    Ok(())
}

fn download(files: &[crate::canary::File], out: &Path, json: bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let mut written = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let fits = |c: char| !c.is_control() && !matches!(c, '/' | '\\');
        let mut name: String = file.name.chars().filter(|c| fits(*c)).collect();
        let taken = |name: &str| files.iter().take(n).any(|other| other.name == name);
        if name.is_empty() || name == "." || name == ".." || taken(&name) {
            name = format!("{n}-{name}");
        }
        let path = out.join(name);
        // Never over a file that is there: a token is easily taken for the real thing.
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&path)
            .and_then(|mut to| std::io::Write::write_all(&mut to, &file.bytes))
            .with_context(|| format!("writing {}", path.display()))?;
        written.push((path, file));
    }
    if json {
        let list = written.iter().map(|(path, file)| {
            json!({"file": path, "path": file.path, "mode": format!("{:04o}", file.mode)})
        });
        return output::json(&list.collect::<Vec<_>>());
    }
    for (path, file) in written {
        output::line(format!(
            "{}  (belongs at {}, mode {:04o})",
            path.display(),
            output::safe(&file.path),
            file.mode
        ))?;
    }
    Ok(())
}
