//! `decnet deploy`: the difference between what is asked and what the rows say is written
//! in one transaction, then followed until it runs.

mod ask;
mod show;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;

use super::{follow, output};
use crate::bus::Bus;
use crate::config::{Config, Sources};
use crate::db::{self, Db};
use crate::deploy::{self, Lan, Order, Outcome};
use crate::fleet::Mode;
use crate::fleet::ask::MUTATE_MAX_MIN;
use crate::model::{Driver, Runtime, topic};

/// Exit code of wrong usage.
const EXIT_USAGE: u8 = 2;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet deploy --deckies 2 --services redis,http,ftp      on loopback addresses, no root\n  decnet deploy -n 5 --archetype web-server,printer --interface eth0\n  decnet deploy --config fleet.ini --dry-run               show the difference, change nothing\n  decnet deploy --config fleet.ini --replace               and remove what the file does not name\n\nA deploy is a difference: deckies that are as wanted are not touched, and without\n--replace none is removed (see `decnet teardown`). Running it twice changes nothing.\nThe runtime is local unless an interface or a network beyond loopback is given, then\nnative. A local decky listens on the real ports where that is permitted and on the\nport + 10000 where it is not or the port is taken.\n\nExit codes: 0 every decky runs (with --dry-run: the plan can be done), 1 some do not or\nnothing was done, 2 wrong usage, 78 bad configuration, 130 interrupted (what was written\nstays; the reconciler goes on)."
)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["services", "archetype", "randomize_services", "config"])))]
pub(super) struct Args {
    /// How many deckies, named decky-01, decky-02, …
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "config")]
    deckies: Option<usize>,
    /// What each offers, separated by commas (`decnet services` lists them).
    #[arg(long, value_name = "LIST", conflicts_with = "config")]
    services: Option<String>,
    /// One to three services per decky, drawn by lot; the same when deployed again.
    #[arg(long, conflicts_with_all = ["config", "services", "archetype"])]
    randomize_services: bool,
    /// Kinds of host, separated by commas and given out in turn.
    #[arg(
        long,
        short,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "config"
    )]
    archetype: Vec<String>,
    /// Distributions, separated by commas and given out in turn.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "config"
    )]
    distro: Vec<String>,
    /// A distribution drawn by lot for each decky; so it is without --distro.
    #[arg(long, conflicts_with_all = ["config", "distro"])]
    randomize_distros: bool,
    /// Deployment file (INI); flags go before its general section.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where deckies run: local, native or docker.
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<Runtime>,
    /// How they are attached: macvlan, ipvlan or bridge.
    #[arg(long, value_name = "DRIVER")]
    driver: Option<Driver>,
    /// The same as --driver ipvlan.
    #[arg(long, conflicts_with = "driver")]
    ipvlan: bool,
    /// Interface of this host that deckies are attached to; else that of the default route.
    #[arg(long, short, value_name = "NAME", value_parser = ask::interface)]
    interface: Option<String>,
    /// Network the addresses come from; else the interface's.
    #[arg(long, value_name = "NET", value_parser = ask::net)]
    subnet: Option<IpNet>,
    /// Default gateway; else this host's own.
    #[arg(long, value_name = "IP")]
    gateway: Option<Ipv4Addr>,
    /// First address to give out.
    #[arg(long, value_name = "IP")]
    ip_start: Option<Ipv4Addr>,
    /// Minutes between two mutations where the file says nothing; 0 never.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(..=i64::from(MUTATE_MAX_MIN)))]
    mutate_interval: Option<u32>,
    /// Remove deckies that are not named.
    #[arg(long)]
    replace: bool,
    /// Show what would change, change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Longest time to wait for the fleet to run, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    #[command(flatten)]
    original: Original,
}

/// Flags of the original that have no meaning here; each says what takes its place.
#[derive(Debug, clap::Args)]
struct Original {
    #[arg(long, short, hide = true)]
    mode: Option<String>,
    #[arg(long, hide = true)]
    no_cache: bool,
    #[arg(long, hide = true)]
    parallel: bool,
    #[arg(long, short = 'f', hide = true)]
    log_file: Option<String>,
    #[arg(long, hide = true)]
    api: bool,
    #[arg(long, hide = true)]
    api_port: Option<String>,
    #[arg(long, short, hide = true)]
    daemon: bool,
}

impl Original {
    /// What stands in for the first of them that was used.
    fn refusal(&self) -> Option<&'static str> {
        let api = "--api, --api-port: the API is a daemon of its own: systemctl start decnet-api, its port is DECNET_API_PORT";
        match self.mode.as_deref() {
            None | Some("unihost") => {}
            Some("swarm") => {
                return Some(
                    "--mode swarm: this version deploys on this host only; leave --mode out",
                );
            }
            Some(_) => return Some("--mode: the only mode is unihost; leave --mode out"),
        }
        [
            (
                self.no_cache,
                "--no-cache: nothing is built, so nothing is cached; leave it out",
            ),
            (
                self.parallel,
                "--parallel: deckies always start side by side; leave it out",
            ),
            (
                self.log_file.is_some(),
                "--log-file: the event log is where DECNET_INGEST_LOG_FILE says (decnet config show)",
            ),
            (self.api || self.api_port.is_some(), api),
            (
                self.daemon,
                "--daemon: deploy ends when the deckies run, and the reconciler keeps them; leave it out",
            ),
        ]
        .into_iter()
        .find_map(|(used, what)| used.then_some(what))
    }
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    if let Some(what) = args.original.refusal() {
        eprintln!("decnet: {what}");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let config = super::load(sources)?;
    let order = Order {
        deployment: ask::read(args)?,
        mode: if args.replace {
            Mode::Replace
        } else {
            Mode::Additive
        },
        ip_start: args.ip_start.map(Into::into),
    };
    super::block_on(async {
        let lan = deploy::look(&order, &config).await?;
        if args.dry_run {
            let Outcome { changes, notes } = look_only(&order, lan, &config).await?;
            tell(&notes);
            if args.json {
                output::json(&serde_json::json!({"dry_run": true, "changes": changes}))?;
            } else {
                show::diff(&changes)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let db = Db::open(&config.database).await?;
        let Outcome { changes, notes } = deploy::write(&order, lan, &db, None).await?;
        tell(&notes);
        let bus = Bus::socket(&config.bus, "cli");
        bus.publish(topic::FLEET_CHANGED, "deploy", serde_json::json!({}));
        let names: Vec<&str> = changes.iter().map(|c| c.name.as_str()).collect();
        let patience = Duration::from_secs(args.timeout);
        let outcome = follow::until_settled(&config, &db, &bus, &names, patience, !args.json)
            .await
            .context("the wishes are written, following them failed")?;
        if args.json {
            output::json(&serde_json::json!({"changes": changes, "deckies": outcome.deckies}))?;
        } else {
            output::line(outcome.sentence())?;
        }
        db.close().await;
        bus.close().await;
        Ok(outcome.exit_code(outcome.all_running()))
    })
}

/// The plan, without creating or changing anything.
async fn look_only(order: &Order, lan: Lan, config: &Config) -> anyhow::Result<Outcome> {
    let db = match Db::open_for_reading(&config.database).await {
        _ if config.database.is_missing() => None,
        Err(db::Error::Empty { .. }) => None,
        opened => Some(opened?),
    };
    let Some(db) = db else {
        return Ok(deploy::preview(order, lan, None).await?);
    };
    let outcome = deploy::preview(order, lan, Some(&db)).await;
    db.close().await;
    Ok(outcome?)
}

/// Notes go beside the output, which may be JSON.
fn tell(notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
}
