//! `decnet deploy`: writes which deckies are wanted and follows them until they run.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use ipnet::IpNet;

use super::{follow, output};
use crate::bus::Bus;
use crate::config::{Config, Sources};
use crate::db::Db;
use crate::fleet::{self, Change, MAX_DECKIES, Wanted, plan};
use crate::model::{Decky, Service, Stamp, Wish, topic};
use crate::persona::{Asked, Persona};

/// Where deckies run.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    /// Plain processes on loopback addresses of this host.
    Local,
}

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet deploy --deckies 2 --services redis,http,ftp\n  decnet deploy --config fleet.ini --dry-run\n\nA deploy adds and changes; it never removes (see `decnet teardown`). Running it twice\nchanges nothing. A local decky listens on the real ports where that is permitted and\non the port + 10000 where it is not or the port is taken.\n\nExit codes: 0 every decky runs, 1 some do not, 2 wrong usage."
)]
pub(super) struct Args {
    /// Where deckies run.
    #[arg(long, value_enum, default_value = "local")]
    runtime: Runtime,
    /// How many deckies, named decky-01, decky-02, …
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        requires = "services",
        conflicts_with = "config"
    )]
    deckies: Option<usize>,
    /// What each offers, separated by commas (`decnet services` lists them).
    #[arg(long, value_name = "LIST", conflicts_with = "config")]
    services: Option<String>,
    /// Deployment file (INI).
    #[arg(long, short, value_name = "FILE", required_unless_present = "services")]
    config: Option<PathBuf>,
    /// Network the addresses come from; part of 127.0.0.0/8.
    #[arg(long, value_name = "NET")]
    subnet: Option<IpNet>,
    /// Show what would change, change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Longest time to wait for the fleet to run, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let Runtime::Local = args.runtime;
    let config = super::load(sources)?;
    let (wanted, subnet) = wanted(args, &config)?;
    super::block_on(async {
        if args.dry_run && !config.database.exists() {
            // A look must not create a database.
            let changes = plan_or_explain(&[], &wanted, subnet)?;
            print_plan(&changes, args.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let db = Db::open(&config.database).await?;
        let rows: Vec<Decky> = db
            .decky_list()
            .await?
            .into_iter()
            .map(|r| r.decky)
            .collect();
        let changes = plan_or_explain(&rows, &wanted, subnet)?;
        if args.dry_run {
            print_plan(&changes, args.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        apply(&db, &changes).await?;
        let bus = Bus::socket(&config.bus, "cli");
        bus.publish(topic::FLEET_CHANGED, "deploy", serde_json::json!({}));
        let names: Vec<&str> = changes.iter().map(Change::name).collect();
        let patience = Duration::from_secs(args.timeout);
        let outcome =
            follow::until_settled(&config, &db, &bus, &names, patience, !args.json).await?;
        if args.json {
            output::json(&serde_json::json!({"changes": changes, "deckies": outcome.deckies}))?;
        } else {
            output::line(outcome.sentence())?;
        }
        db.close().await;
        bus.close().await;
        Ok(if outcome.all_running() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

fn wanted(args: &Args, config: &Config) -> anyhow::Result<(Vec<Wanted>, IpNet)> {
    let mut subnet = args.subnet.unwrap_or(config.local_subnet);
    let wanted = if let Some(path) = &args.config {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let deployment = fleet::ini::parse(&text).map_err(|problems| {
            let lines: Vec<String> = problems
                .iter()
                .map(|p| format!("{}: {p}", path.display()))
                .collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })?;
        subnet = args.subnet.or(deployment.subnet).unwrap_or(subnet);
        deployment.deckies
    } else {
        let services = args.services.as_deref().unwrap_or_default();
        let services = fleet::ini::parse_services(services)
            .map_err(|errors| anyhow::anyhow!("--services: {}", errors.join("\n")))?;
        let count = args.deckies.unwrap_or(1);
        if !(1..=MAX_DECKIES).contains(&count) {
            bail!("--deckies {count}: use 1 to {MAX_DECKIES}");
        }
        (1..=count)
            .map(|n| Wanted {
                name: fleet::default_name(n),
                ip: None,
                wish: Wish {
                    services: services.clone(),
                    ..Wish::default()
                },
            })
            .collect()
    };
    if !subnet.network().is_loopback() {
        bail!("{subnet}: local deckies live on loopback; use a network inside 127.0.0.0/8");
    }
    Ok((wanted, subnet))
}

fn plan_or_explain(
    rows: &[Decky],
    wanted: &[Wanted],
    subnet: IpNet,
) -> anyhow::Result<Vec<Change>> {
    plan::plan(rows, wanted, subnet).map_err(|problems| anyhow::anyhow!("{}", problems.join("\n")))
}

/// Writes the plan into the rows.
pub(super) async fn apply(db: &Db, changes: &[Change]) -> anyhow::Result<()> {
    let now = Stamp::now();
    let secret = db.installation_secret(rand::random(), now).await?;
    for change in changes {
        match change {
            Change::Keep { .. } => {}
            Change::Add { name, ip, wish } => {
                let asked = Asked {
                    archetype: wish.archetype.as_deref(),
                    distro: wish.distro.as_deref(),
                    family: wish.family,
                };
                let persona = Persona::derive(&secret, name, &asked, now);
                db.decky_add(name, *ip, wish, &persona, now).await?;
            }
            Change::Change {
                name,
                version,
                wish,
                ..
            } => {
                db.decky_set_wish(name, *version, wish, None, now).await?;
            }
        }
    }
    Ok(())
}

fn print_plan(changes: &[Change], json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&changes);
    }
    for change in changes {
        output::line(match change {
            Change::Add { name, ip, wish } => format!("+ {name} {ip} {}", slugs(&wish.services)),
            Change::Change {
                name,
                ip,
                before,
                wish,
                ..
            } => {
                let (old, new) = (slugs(&before.services), slugs(&wish.services));
                format!("~ {name} {ip} {old} -> {new}")
            }
            Change::Keep { name, ip } => format!("  {name} {ip}"),
        })?;
    }
    Ok(())
}

/// `redis,http`.
pub(super) fn slugs(services: &[Service]) -> String {
    let slugs: Vec<&str> = services.iter().map(|s| s.slug()).collect();
    slugs.join(",")
}

/// Makes sure at least `count` default deckies are wanted; for `decnet up`.
pub(super) async fn want_default(
    config: &Config,
    db: &Db,
    count: usize,
    services: &[Service],
) -> anyhow::Result<()> {
    let rows: Vec<Decky> = db
        .decky_list()
        .await?
        .into_iter()
        .map(|r| r.decky)
        .collect();
    let wanted: Vec<Wanted> = (1..=count)
        .map(|n| Wanted {
            name: fleet::default_name(n),
            ip: None::<IpAddr>,
            wish: Wish {
                services: services.to_vec(),
                ..Wish::default()
            },
        })
        .filter(|w| !rows.iter().any(|r| r.name == w.name && !r.removed))
        .collect();
    let changes = plan_or_explain(&rows, &wanted, config.local_subnet)?;
    apply(db, &changes).await
}
