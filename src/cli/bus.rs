//! `decnet bus`: the worker, and two ways to use the bus by hand.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::bus::{Bus, Delivery, Message, check_topic};
use crate::cli::{block_on, load, output};
use crate::config::{BusConfig, Sources};
use crate::model::{Stamp, worker};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet bus                                 serve the bus (decnet-bus.service does)\n  decnet bus tail '>'                        watch everything\n  decnet bus tail 'attacker.>' 'system.*.health' --json\n  decnet bus publish fleet.changed '{}'      make the reconciler look"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print events as they come.
    Tail(TailArgs),
    /// Send one event.
    Publish(PublishArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A pattern is a topic in which '*' stands for one token and a last '>' for one or more.\n\nExamples:\n  decnet bus tail '>'\n  decnet bus tail 'attacker.>' credential.captured --json | jq .payload\n  decnet bus tail 'system.*.health' --wait"
)]
struct TailArgs {
    /// Patterns of the topics to show; quote them for the shell.
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
    /// Without a bus, wait for it instead of failing.
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet bus publish fleet.changed '{}'\n  decnet bus publish system.profiler.control '{\"action\":\"stop\"}' --type control"
)]
struct PublishArgs {
    /// Topic, for example fleet.changed.
    topic: String,
    /// Payload, as JSON.
    json: String,
    /// The event's type.
    #[arg(long = "type", value_name = "T", default_value = "")]
    kind: String,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    match &args.command {
        None => {
            let row = worker::find("bus").context("no such worker")?;
            Ok(app::start(row, sources))
        }
        Some(Command::Tail(args)) => tail(args, &load(sources)?.bus),
        Some(Command::Publish(args)) => publish(args, &load(sources)?.bus),
    }
}

fn tail(args: &TailArgs, config: &BusConfig) -> anyhow::Result<ExitCode> {
    if !(args.wait && config.enabled) {
        check_reachable(config)?;
    }
    block_on(async {
        let stop = CancellationToken::new();
        app::stop_on_signal(&stop)?;
        let bus = Bus::socket(config, "tail");
        let patterns: Vec<_> = args.patterns.iter().map(String::as_str).collect();
        let mut events = bus.subscribe(&patterns)?;
        if !bus.is_connected() && args.wait {
            let connected = tokio::select! {
                connected = bus.until_connected() => connected,
                () = stop.cancelled() => false,
            };
            if !connected {
                return Ok(ExitCode::SUCCESS);
            }
        }
        loop {
            let delivery = tokio::select! {
                delivery = events.next() => delivery,
                () = stop.cancelled() => None,
            };
            match delivery {
                Some(Delivery::Message(message)) => print(&message, args.json)?,
                Some(Delivery::Dropped(count)) => {
                    eprintln!("decnet bus tail: too slow, {count} events were lost here");
                }
                Some(Delivery::Reconnected) => {
                    eprintln!("decnet bus tail: reconnected, events may have been missed");
                }
                None => break,
            }
        }
        bus.close().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn print(message: &Message, json: bool) -> anyhow::Result<()> {
    let line = if json {
        serde_json::to_string(message)?
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float becomes an integer by saturating"
        )]
        let at = Stamp((message.ts * 1e6).round() as i64);
        let kind = match message.kind.as_str() {
            "" => "-",
            kind => kind,
        };
        output::safe(&format!(
            "{at} {} {kind} {}",
            message.topic, message.payload
        ))
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    // Whoever reads the pipe wants the event now.
    out.flush()?;
    Ok(())
}

fn publish(args: &PublishArgs, config: &BusConfig) -> anyhow::Result<ExitCode> {
    if let Err(why) = check_topic(&args.topic) {
        bail!("bad topic '{}': {why}", output::safe(&args.topic));
    }
    let payload: serde_json::Value = serde_json::from_str(&args.json)
        .context("the payload is not JSON; quote it for the shell, for example '{\"a\":1}'")?;
    check_reachable(config)?;
    block_on(async {
        let bus = Bus::socket(config, "publish");
        // The bus hands an event to its publisher too: seeing it come back is the proof.
        let mut echo = bus.subscribe(&[&args.topic])?;
        bus.publish(&args.topic, &args.kind, payload.clone());
        let proof = async {
            loop {
                match echo.next().await {
                    Some(Delivery::Message(m)) if m.kind == args.kind && m.payload == payload => {
                        return true;
                    }
                    Some(_) => {}
                    None => return false,
                }
            }
        };
        let seen = tokio::time::timeout(std::time::Duration::from_secs(5), proof).await;
        bus.close().await;
        if !seen.unwrap_or(false) {
            bail!("the bus did not deliver the event within 5 s");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Says what keeps this user from the bus, and the fix.
fn check_reachable(config: &BusConfig) -> anyhow::Result<()> {
    if !config.enabled {
        bail!("the bus is switched off; set DECNET_BUS_ENABLED=true");
    }
    let path = config.socket.display();
    match std::os::unix::net::UnixStream::connect(&config.socket) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => bail!(
                "no bus at {path}; start it with `systemctl start decnet-bus` or `decnet bus`, name another with DECNET_BUS_SOCKET or --state-dir, or wait for it with `decnet bus tail --wait`"
            ),
            std::io::ErrorKind::PermissionDenied => bail!(
                "not permitted to use the bus at {path}; run as root or join the group that owns it (`ls -l {path}`)"
            ),
            _ => Err(error).with_context(|| format!("connecting to the bus at {path}")),
        },
    }
}
