//! The command line: the enum of all commands and the match that runs them. One file
//! per command with its `Args` and `run`. Parsing touches nothing.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage; 69 another copy runs; 78 bad
//! configuration.

mod archetypes;
mod artifacts;
mod bus;
mod canary;
mod completions;
mod config;
mod credentials;
mod deckies;
mod decky;
mod deploy;
mod distros;
mod doctor;
mod follow;
mod init;
mod io;
mod logs;
mod mutator;
mod output;
mod persona;
mod reconciler;
mod redeploy;
mod services;
mod status;
mod teardown;
mod up;
mod user;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app;
use crate::config::{Config, Sources};
use crate::model::worker::{self, Worker};

/// A fleet of believable decoy hosts, recorded and explained.
#[derive(Debug, Parser)]
#[command(
    name = "decnet",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  decnet up --deckies 2                     try it on this machine, no root\n  sudo decnet init                           install the daemons on this host\n  sudo decnet deploy --deckies 3 --services redis,http\n  decnet logs --follow                       watch what attackers do\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 69 already running, 78 bad configuration."
)]
pub struct Cli {
    /// Keep state, logs and sockets below DIR instead of the system's places.
    #[arg(long, global = true, value_name = "DIR", env = "DECNET_STATE_DIR")]
    state_dir: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in this process, to try DECNET out.
    Up(up::Args),
    /// Show workers and deckies.
    Status(status::Args),
    /// Check this host and name the fix for every finding.
    Doctor(doctor::Args),
    /// Install DECNET's daemons on this host, or undo it.
    Init(init::Args),
    /// Add or change deckies.
    Deploy(deploy::Args),
    /// Remove deckies.
    Teardown(teardown::Args),
    /// Start deckies anew, unchanged.
    Redeploy(redeploy::Args),
    /// List deckies.
    Deckies(deckies::Args),
    /// Plant files on a running decky, look at them, have it talk to a peer.
    Io(io::Args),
    /// List the services a decky can offer.
    Services(services::Args),
    /// List the kinds of machines a decky can be.
    Archetypes(archetypes::Args),
    /// List the Linux distributions a decky can be.
    Distros(distros::Args),
    /// Show who a decky pretends to be.
    Persona(persona::Args),
    /// Show captured events.
    Logs(logs::Args),
    /// Show captured credentials.
    Credentials(credentials::Args),
    /// Files attackers left: list, show, export.
    Artifacts(artifacts::Args),
    /// Accounts of the API: list, reset a password.
    User(user::Args),
    /// Show settings and where they come from.
    Config(config::Args),
    /// Local publish/subscribe bus between workers.
    Bus(bus::Args),
    /// Starts, re-adopts and stops deckies until they match the wanted fleet.
    #[command(alias = "reconcile")]
    Reconciler(reconciler::Args),
    /// Changes what deckies offer over time, one believable step at a time.
    #[command(alias = "mutate")]
    Mutator(mutator::Args),
    /// Tells other systems what happens: signed, in their formats, nothing lost.
    Webhook(webhook::Args),
    /// Canary tokens: make, list, plant, take back; or answer their calls.
    Canary(canary::Args),
    /// Print a shell completion script or the man page.
    Completions(completions::Args),
    /// One decky; started by the reconciler.
    #[command(hide = true)]
    Decky(decky::Args),
    /// A worker without options of its own.
    #[command(skip)]
    Worker(&'static Worker),
}

/// The command tree with the registry's plain workers added.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    for row in plain_workers() {
        command = command.subcommand(
            clap::Command::new(row.name)
                .about(row.summary)
                .aliases(row.aliases)
                .version(env!("CARGO_PKG_VERSION")),
        );
    }
    command
}

/// Workers that have no command variant of their own.
fn plain_workers() -> impl Iterator<Item = &'static Worker> {
    worker::WORKERS
        .iter()
        .filter(|w| !["bus", "canary", "mutator", "reconciler", "webhook"].contains(&w.name))
}

fn parse(matches: &clap::ArgMatches) -> Result<Cli, clap::Error> {
    if let Some((name, _)) = matches.subcommand()
        && let Some(row) = plain_workers().find(|w| w.name == name)
    {
        return Ok(Cli {
            state_dir: matches.get_one::<PathBuf>("state_dir").cloned(),
            command: Command::Worker(row),
        });
    }
    Cli::from_arg_matches(matches)
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    // Captured secrets are written below here: nothing of ours is for everybody.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    let matches = command().get_matches();
    let cli = match parse(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let mut sources = Sources::from_host();
    if let Some(dir) = &cli.state_dir {
        // Relative paths are the caller's; everything behind this line is absolute.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        sources.set_flag("DECNET_STATE_DIR", dir.display().to_string());
    }
    let outcome = match cli.command {
        Command::Worker(row) => return app::start(row, &sources),
        Command::Up(args) => up::run(&args, sources),
        Command::Status(args) => status::run(&args, &sources),
        Command::Doctor(args) => doctor::run(&args, &sources),
        Command::Init(args) => init::run(&args),
        Command::Deploy(args) => deploy::run(&args, &sources),
        Command::Teardown(args) => teardown::run(&args, &sources),
        Command::Redeploy(args) => redeploy::run(&args, &sources),
        Command::Deckies(args) => deckies::run(&args, &sources),
        Command::Services(args) => services::run(&args),
        Command::Archetypes(args) => archetypes::run(&args),
        Command::Distros(args) => distros::run(&args),
        Command::Persona(args) => persona::run(&args, &sources),
        Command::Io(args) => io::run(&args, &sources),
        Command::Logs(args) => logs::run(&args, &sources),
        Command::Credentials(args) => credentials::run(&args, &sources),
        Command::Artifacts(args) => artifacts::run(&args, &sources),
        Command::User(args) => user::run(&args, &sources),
        Command::Config(args) => config::run(&args, &sources),
        Command::Bus(args) => bus::run(&args, &sources),
        Command::Canary(args) => canary::run(&args, &sources),
        Command::Mutator(args) => mutator::run(&args, &sources),
        Command::Reconciler(args) => reconciler::run(&args, &sources),
        Command::Webhook(args) => webhook::run(&args, &sources),
        Command::Completions(args) => completions::run(&args),
        Command::Decky(args) => decky::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("decnet: {error:#}");
            if error.is::<crate::config::Error>() {
                ExitCode::from(app::EXIT_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// `decnet logs | head` is not an error.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// The settings of a command that is not a worker.
fn load(sources: &Sources) -> anyhow::Result<Config> {
    Ok(Config::load(sources)?)
}

/// Runs `work` on a small runtime.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = app::runtime(1)?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_worker_is_a_command_under_its_own_name_and_aliases() {
        for row in worker::WORKERS {
            for name in std::iter::once(&row.name).chain(row.aliases) {
                let parsed = command().try_get_matches_from(["decnet", name]);
                let matches = parsed.unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(matches.subcommand_name(), Some(row.name));
            }
        }
    }
}
