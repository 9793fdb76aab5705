//! `decnet up`: every worker in this process on an in-memory bus, state below
//! `./.decnet` (or `--state-dir`), loopback ports, SQLite unless told otherwise. For trying, developing and
//! demonstrating; no root, no systemd, no Docker. Ctrl-C stops everything, deckies
//! included; what was captured stays for the next time.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::output;
use crate::app;
use crate::bus::Bus;
use crate::config::{Config, Sources};
use crate::db::Db;
use crate::deploy;
use crate::fleet;
use crate::model::{Decky, DeckyState, Service};
use crate::net::lock;

/// Longest wait for the first deckies before their addresses are printed anyway.
const PATIENCE: Duration = Duration::from_secs(20);

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet up\n  decnet up --deckies 3 --services redis,http\n  decnet --state-dir /tmp/try up\n\nFrom another terminal: decnet --state-dir ./.decnet logs --follow"
)]
pub(super) struct Args {
    /// Deckies to have at least; 0 starts none.
    #[arg(long, short = 'n', default_value_t = 2)]
    deckies: usize,
    /// What new deckies offer, separated by commas.
    #[arg(long, default_value = "redis,http,ftp")]
    services: String,
}

pub(super) fn run(args: &Args, mut sources: Sources) -> anyhow::Result<ExitCode> {
    if !sources.is_set("DECNET_STATE_DIR") {
        let dir = std::path::absolute(".decnet").context("finding the working directory")?;
        sources.set_flag("DECNET_STATE_DIR", dir.display().to_string());
    }
    if !sources.is_set("DECNET_CANARY_HTTP_HOST") {
        // Nothing of a trial faces the network unless somebody says so.
        sources.set_flag("DECNET_CANARY_HTTP_HOST", "127.0.0.1".to_owned());
    }
    if !sources.is_set("DECNET_LOG_LEVEL") {
        sources.set_flag("DECNET_LOG_LEVEL", "warn");
    }
    let services = fleet::ini::parse_services(&args.services)
        .map_err(|errors| anyhow::anyhow!("--services: {}", errors.join("\n")))?;
    let config = Arc::new(super::load(&sources)?);
    app::init_log(&config);
    for dir in [&config.paths.state, &config.paths.log, &config.paths.run] {
        // Nobody else on this machine reads what attackers left.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("creating {}", dir.display()))?;
    }
    let Some(_held) = lock::try_take(&config.paths.lock("up")).context("taking the lock")? else {
        bail!(
            "another `decnet up` already uses {}; name another directory with --state-dir",
            config.paths.state.display()
        );
    };
    let runtime = app::runtime(2)?;
    let outcome = runtime.block_on(up(args.deckies, &services, &config));
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome?;
    Ok(ExitCode::SUCCESS)
}

async fn up(count: usize, services: &[Service], config: &Arc<Config>) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    app::stop_on_signal(&stop)?;
    let db = Db::open(&config.database).await?;
    deploy::want_default(config, &db, count, services).await?;
    let bus = Bus::memory();
    let greeting = tokio::spawn(greet(Arc::clone(config), db.clone(), stop.clone()));
    let outcome = app::run_all(config, &db, &bus, &stop).await;
    greeting.abort();
    db.close().await;
    if outcome.is_ok() {
        output::line("stopped; what was captured stays in the state directory")?;
    }
    outcome
}

/// Waits for the fleet and says what to attack and where to look.
async fn greet(config: Arc<Config>, db: Db, stop: CancellationToken) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let deckies = loop {
        let rows = db.decky_list().await?;
        let deckies: Vec<Decky> = rows.into_iter().map(|r| r.decky).collect();
        let waiting = deckies.iter().any(|d| d.state == DeckyState::Pending);
        if !waiting || tokio::time::Instant::now() >= deadline {
            break deckies;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    if stop.is_cancelled() {
        return Ok(());
    }
    print_greeting(&config, &deckies)?;
    Ok(())
}

fn print_greeting(config: &Config, deckies: &[Decky]) -> std::io::Result<()> {
    let decnet = format!("decnet --state-dir {}", config.paths.state.display());
    output::line("DECNET is up. Attack it:")?;
    for decky in deckies {
        for listener in &decky.listeners {
            match listener.addr {
                Some(addr) => output::line(format!("  {}", example(listener.service, addr)))?,
                None => output::line(format!(
                    "  {} {}: not listening ({})",
                    decky.name,
                    listener.service,
                    listener.note.as_deref().unwrap_or("unknown reason")
                ))?,
            }
        }
    }
    output::line("See what was captured:")?;
    output::line(format!("  {decnet} logs --follow"))?;
    output::line(format!("  {decnet} credentials"))?;
    output::line(format!("  {decnet} status"))?;
    let noted = |name: &str| {
        let text = std::fs::read_to_string(config.paths.run.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let web = noted("web.addr").unwrap_or_else(|| config.web.bind.to_string());
    output::line(format!("Dashboard: http://{web}/"))?;
    output::line(format!(
        "API:   http://{}/api/v1 (description at /api/v1/openapi.json)",
        noted("api.addr").unwrap_or_else(|| config.api.bind.to_string())
    ))?;
    let password = config.paths.admin_password();
    if password.exists() {
        output::line(format!(
            "Login: {} with the password in {}",
            config.api.admin_user,
            password.display()
        ))?;
    } else {
        output::line(format!(
            "Login: {} with the password you set",
            config.api.admin_user
        ))?;
    }
    output::line("Ctrl-C stops it.")
}

/// A command a person would try.
fn example(service: Service, addr: SocketAddr) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    match service {
        Service::Redis => format!("redis-cli -h {ip} -p {port} auth letmein"),
        Service::Http => format!("curl -u admin:letmein http://{addr}/admin/"),
        Service::Ftp => format!("ftp -p {ip} {port}"),
    }
}
