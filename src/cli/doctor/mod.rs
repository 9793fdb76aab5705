//! `decnet doctor`: looks at the host the way the daemons will, and names the fix for
//! everything it finds. It changes nothing, needs no root, and says what it could not
//! see. Exit code 1 when something is broken, 0 otherwise (warnings included).

mod files;
mod host;
mod service;

use std::process::ExitCode;

use nix::unistd::{Uid, User};
use serde::Serialize;

use super::output;
use crate::config::{Config, Sources};

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Works, or could not be seen.
    Warn,
    /// Something will not work.
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    what: String,
    /// A command, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            what: what.into(),
            fix: None,
        }
    }

    fn warn(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Warn,
            what: what.into(),
            fix: Some(fix.into()),
        }
    }

    fn fail(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(check, what, fix)
        }
    }
}

#[derive(Serialize)]
struct Report {
    /// Whose eyes these are.
    user: String,
    healthy: bool,
    findings: Vec<Finding>,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let findings = super::block_on(async { Ok(look(sources).await) })?;
    let report = Report {
        user: user_name(),
        healthy: findings.iter().all(|f| f.level != Level::Fail),
        findings,
    };
    if args.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(if report.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn look(sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    let config = match Config::load(sources) {
        Ok(config) => {
            findings.push(Finding::ok("configuration", "every setting is usable"));
            Some(config)
        }
        Err(problems) => {
            findings.extend(problems.0.into_iter().map(|problem| {
                Finding::fail(
                    "configuration",
                    problem,
                    "correct it where it is set; `decnet config keys` lists the settings",
                )
            }));
            None
        }
    };
    let Some(config) = config else {
        findings.push(Finding::warn(
            "configuration",
            "whatever depends on the settings was not looked at",
            "run `decnet doctor` again after correcting them",
        ));
        return findings;
    };
    let installed = service::units(&config, &mut findings).await;
    service::bus(&config, installed, &mut findings).await;
    service::port(&config, &mut findings).await;
    files::directories(&config, installed, &mut findings);
    files::disk(&config, &mut findings);
    service::database(&config, &mut findings).await;
    host::clock(&mut findings).await;
    host::memory(&mut findings);
    host::docker(&config, &mut findings).await;
    findings
}

fn print(report: &Report) -> std::io::Result<()> {
    let colour = output::colour();
    let paint = |code: &str, text: &str| {
        if colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    };
    for finding in &report.findings {
        let word = match finding.level {
            Level::Ok => paint("32", "ok  "),
            Level::Warn => paint("33", "warn"),
            Level::Fail => paint("31", "FAIL"),
        };
        let what = output::safe(&finding.what);
        output::line(format!("{word}  {:13}  {what}", finding.check))?;
        if let Some(fix) = &finding.fix {
            output::line(format!("      {:13}  -> {}", "", output::safe(fix)))?;
        }
    }
    let count = |level| report.findings.iter().filter(|f| f.level == level).count();
    output::line(format!(
        "{} ok, {} warnings, {} failures, seen as {}",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail),
        report.user
    ))
}

/// The name of the user who asks.
fn user_name() -> String {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}
