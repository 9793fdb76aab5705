//! What a host should hold, and making it so.
//!
//! `decnet init` = plan, then apply. [`plan`] turns choices, facts about the host and the
//! record of earlier runs into typed steps; [`apply`] makes each of them true and says
//! so; [`manifest`] remembers, so that a second run touches nothing, an upgrade repeats
//! the answers, a run killed anywhere is finished by the next, and [`deinit`] removes
//! exactly what was laid. Text comes from the templates in `deploy/` through [`render`].
//!
//! With a prefix, everything is written below a directory that will be a host: nobody's
//! account is made and nothing is started.

use std::path::PathBuf;

pub mod choices;
pub mod report;

mod apply;
mod deinit;
mod host;
mod manifest;
mod own;
mod plan;
mod render;
mod service;

use anyhow::Context;

use apply::Applier;
use choices::Given;
use host::Host;
use manifest::Manifest;
use report::Report;

/// What is asked of a run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// From the command line.
    pub flags: Given,
    /// From the environment.
    pub environment: Given,
    /// A directory that will be a host's root.
    pub prefix: Option<PathBuf>,
    /// Change nothing.
    pub dry_run: bool,
    /// Overwrite files that were edited.
    pub force: bool,
    /// Undo instead.
    pub deinit: bool,
    /// With `deinit`: data, logs, configuration and accounts too.
    pub purge: bool,
    /// Return after this many steps as if the process had been killed.
    pub stop_after: Option<usize>,
}

/// Everything that stands in the way, found before anything was written.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed:\n  {}", .0.join("\n  "))]
pub struct Refused(pub Vec<String>);

/// Does what is asked.
///
/// # Errors
/// [`Refused`] when nothing was touched; otherwise the step that failed, which is in the
/// report too.
pub fn run(request: &Request, report: &mut Report) -> anyhow::Result<()> {
    let root = nix::unistd::geteuid().is_root();
    if !root && request.prefix.is_none() && !request.dry_run {
        return Err(Refused(vec![
            "must run as root (use sudo), or with --dry-run".to_owned(),
        ])
        .into());
    }
    if let Some(prefix) = &request.prefix
        && !prefix.is_absolute()
    {
        return Err(Refused(vec![format!(
            "prefix '{}' must be absolute",
            prefix.display()
        )])
        .into());
    }
    let host = Host::open(request.prefix.as_deref());
    // Group and mode are set on descriptors afterwards; nothing is ever wider on the way.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let manifest = match Manifest::load(&host) {
        Err(error) if request.dry_run && !root => {
            report.note(format!("planning as for a new host: {error:#}"));
            None
        }
        loaded => loaded?,
    };
    if request.deinit {
        return undo(request, &host, manifest, report);
    }
    install(request, &host, manifest.unwrap_or_default(), report)
}

fn install(
    request: &Request,
    host: &Host,
    manifest: Manifest,
    report: &mut Report,
) -> anyhow::Result<()> {
    let preseed_path = "/etc/decnet/init.env";
    let mut problems = Vec::new();
    let preseed = match std::fs::read_to_string(host.path(preseed_path)) {
        Ok(text) => {
            let (given, found) = Given::preseed(preseed_path, &text);
            problems.extend(found);
            given
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Given::default(),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && request.dry_run => {
            report.note(format!("planning without {preseed_path}: {error}"));
            Given::default()
        }
        Err(error) => {
            problems.push(format!("reading {preseed_path}: {error}"));
            Given::default()
        }
    };
    let resolved = choices::resolve(
        &request.flags,
        &request.environment,
        &preseed,
        manifest.answers.as_ref(),
        host,
    );
    let choices = match resolved {
        Ok(choices) if problems.is_empty() => choices,
        Ok(_) => return Err(Refused(problems).into()),
        Err(found) => {
            problems.extend(found);
            return Err(Refused(problems).into());
        }
    };
    if !host.prefixed() && !request.dry_run {
        problems.extend(missing_tools(host, &choices));
        if !problems.is_empty() {
            return Err(Refused(problems).into());
        }
    }
    let around = host.surroundings();
    let steps = plan::plan(&choices, &around, &manifest)?;
    let no_start = choices::no_start([&request.flags, &request.environment, &preseed])
        .then(|| "asked to start nothing".to_owned())
        .or_else(|| host.policy());
    let mut applier = Applier {
        host,
        choices: &choices,
        manifest,
        dry_run: request.dry_run,
        force: request.force,
        no_start,
    };
    if !request.dry_run {
        applier
            .intend(&steps)
            .context("recording what is about to be done")?;
    }
    for (index, step) in steps.iter().enumerate() {
        if request.stop_after == Some(index) {
            anyhow::bail!("stopped after {index} steps");
        }
        applier.run(step, report)?;
    }
    if !request.dry_run {
        applier.manifest.hand_over = false;
        applier.manifest.settled = true;
        applier.manifest.save(host)?;
    }
    for remark in host.remarks() {
        report.note(remark);
    }
    Ok(())
}

fn missing_tools(host: &Host, choices: &choices::Choices) -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |tool: &str, why: String| {
        if host.tool(tool).is_none() {
            missing.push(format!("{tool} is needed to {why} and is not installed"));
        }
    };
    if host.group(&choices.group).is_none() {
        need("groupadd", format!("make the group {}", choices.group));
    }
    if host.user(&choices.user).is_none() {
        need("useradd", format!("make the account {}", choices.user));
    }
    missing
}

fn undo(
    request: &Request,
    host: &Host,
    manifest: Option<Manifest>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(manifest) = manifest else {
        report.note("this host was never initialised; nothing was removed");
        return Ok(());
    };
    if !manifest.installed && !request.purge {
        report.note("deinit was done before; nothing was removed");
        return Ok(());
    }
    // Choices matter to nothing that is removed.
    let answers = manifest.answers.clone();
    let choices = choices::Choices {
        user: answers
            .as_ref()
            .map_or_else(String::new, |a| a.user.clone()),
        group: answers
            .as_ref()
            .map_or_else(String::new, |a| a.group.clone()),
        install_dir: answers
            .as_ref()
            .map_or_else(String::new, |a| a.install_dir.clone()),
        bin_path: answers.map_or_else(String::new, |a| a.bin_path),
        mode: crate::config::Mode::Master,
    };
    let mut applier = Applier {
        host,
        choices: &choices,
        manifest,
        dry_run: request.dry_run,
        force: request.force,
        no_start: None,
    };
    applier.undo(request.purge, report)
}
