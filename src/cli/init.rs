//! `decnet init`: lays the daemons on this host, or takes them away again.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::output;
use crate::init::choices::Given;
use crate::init::report::Report;
use crate::init::{self, Request};

/// The files are right, but a unit did not come up.
const EXIT_UNIT_DOWN: u8 = 3;

/// Options.
///
/// Answers not given here are taken from the environment, from /etc/decnet/init.env, from
/// the last run, and at last from the defaults.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Answers not given as flags come from the environment (DECNET_USER, DECNET_GROUP, DECNET_INSTALL_DIR, DECNET_BIN_PATH, DECNET_MODE, DECNET_NO_START), then from /etc/decnet/init.env, then from the last run.\n\nExit codes: 0 done, 1 failed or refused, 3 everything is in place but a unit did not come up."
)]
pub(super) struct Args {
    /// Account the services run as [default: decnet].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Group of the services; its members may use the bus [default: decnet].
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Home of the account; `.env.local` is read from here [default: /opt/decnet].
    #[arg(long, value_name = "DIR")]
    install_dir: Option<String>,
    /// Program the units start [default: this one].
    #[arg(long, value_name = "FILE")]
    bin_path: Option<String>,
    /// Role of this host: master or agent [default: master].
    #[arg(long, value_name = "ROLE")]
    mode: Option<String>,
    /// Say what would be done and change nothing; needs no root.
    #[arg(long)]
    dry_run: bool,
    /// Start and restart nothing.
    #[arg(long)]
    no_start: bool,
    /// Overwrite files that were edited here.
    #[arg(long, conflicts_with = "deinit")]
    force: bool,
    /// Treat DIR as the root of the host: only files, no accounts, no services.
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Stop the services and remove what init laid; keep data, logs and accounts.
    #[arg(long)]
    deinit: bool,
    /// With --deinit: remove data, logs, configuration and the account as well.
    #[arg(long, requires = "deinit")]
    purge: bool,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let given = |value: &Option<String>| value.clone();
    let request = Request {
        flags: Given {
            user: given(&args.user),
            group: given(&args.group),
            install_dir: given(&args.install_dir),
            bin_path: given(&args.bin_path),
            mode: given(&args.mode),
            no_start: args.no_start.then(|| "yes".to_owned()),
        },
        environment: Given::from_names(|name| std::env::var(name).ok()),
        prefix: args
            .prefix
            .as_ref()
            .map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())),
        dry_run: args.dry_run,
        force: args.force,
        deinit: args.deinit,
        purge: args.purge,
        stop_after: None,
    };
    let printer = (!args.json).then_some(print_line as fn(&str));
    let mut report = Report::new(printer);
    let outcome = init::run(&request, &mut report);
    if args.json {
        let refused = outcome.as_ref().err().map(|e| format!("{e:#}"));
        output::json(&serde_json::json!({ "report": report, "error": refused }))?;
    }
    if report.failed && !report.unit_down {
        // The failing step is on the screen already.
        return Ok(ExitCode::FAILURE);
    }
    let here = !args.json && !args.deinit && !args.dry_run && args.prefix.is_none();
    if outcome.is_ok() && here {
        greet();
    }
    match outcome {
        Ok(()) if report.unit_down => Ok(ExitCode::from(EXIT_UNIT_DOWN)),
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) if args.json => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

/// What to do next, once the dashboard of this host serves.
fn greet() {
    let Ok(address) = std::fs::read_to_string("/run/decnet/web.addr") else {
        return;
    };
    print_line(&format!("The dashboard: http://{}/", address.trim()));
    let password = "/var/lib/decnet/admin-password";
    if std::path::Path::new(password).exists() {
        print_line(&format!(
            "Log in as admin; the first password: sudo cat {password}"
        ));
    }
}

/// A reader that went away must not stop an installation half-way.
fn print_line(text: &str) {
    let _unread = output::line(text);
}
