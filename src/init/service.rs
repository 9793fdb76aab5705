//! The running side: telling the service manager, restarting exactly what changed and
//! runs, stopping for good. Where nothing runs, it says so and that is all.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::init::apply::Applier;
use crate::init::host::{self, Systemd};
use crate::init::manifest::Program;
use crate::init::render::{self, RUN};
use crate::init::report::{Outcome, Report};

const TARGET: &str = "decnet.target";
/// Longest wait for deckies to finish their connections and go.
const DECKIES_GO: Duration = Duration::from_secs(10);
/// Longest wait for one answer of a decky.
const DECKY_ANSWERS: Duration = Duration::from_secs(3);

impl Applier<'_> {
    /// Reload, start, restart; the last step of a plan.
    pub(super) fn settle(&mut self, workers: &[String], report: &mut Report) -> anyhow::Result<()> {
        let systemctl = match self.host.systemd() {
            Systemd::Booted(systemctl) => systemctl,
            Systemd::Away(why) => {
                // Whatever starts later reads the files as they are.
                if !self.dry_run {
                    self.manifest.reload = false;
                    self.manifest.restart.clear();
                    self.manifest.fresh.clear();
                    self.manifest.program = self.program();
                }
                report.add("start", TARGET, Outcome::skip(why));
                return Ok(());
            }
        };
        if self.dry_run {
            let outcome = if self.manifest.started {
                Outcome::skip("only what changes is restarted")
            } else {
                Outcome::Would
            };
            report.add("start", TARGET, outcome);
            return Ok(());
        }
        if self.manifest.reload {
            match host::call(&systemctl, &["daemon-reload"]) {
                Ok(()) => {
                    self.manifest.reload = false;
                    report.add("reload", "systemd", Outcome::done());
                }
                Err(error) => {
                    report.add("reload", "systemd", Outcome::Fail(format!("{error:#}")));
                    return Err(error);
                }
            }
        } else {
            report.add("reload", "systemd", Outcome::skip("no unit changed"));
        }
        if let Some(why) = self.no_start.clone() {
            if self.manifest.program.is_none() {
                self.manifest.program = self.program();
            }
            report.add("start", TARGET, Outcome::skip(&why));
            return Ok(());
        }
        self.bring_up(&systemctl, workers, report);
        Ok(())
    }

    /// Starts on the first run, afterwards restarts what changed and runs. What the
    /// operator stopped stays stopped.
    fn bring_up(&mut self, systemctl: &Path, workers: &[String], report: &mut Report) {
        let program = self.program();
        if self.manifest.program.is_some() && self.manifest.program != program {
            self.manifest.restart.extend(workers.iter().cloned());
        }
        // The target holds nothing itself; restarting it would restart everything.
        self.manifest.restart.remove(TARGET);
        let changed: Vec<String> = self.manifest.restart.iter().cloned().collect();
        let restarted = active(systemctl, &changed);
        let first = self.manifest.resume || (!self.manifest.started && self.may_start());
        let started: Vec<String> = if first {
            workers.to_vec()
        } else if is_active(systemctl, TARGET) {
            let own = |u: &&String| workers.contains(u) || u.ends_with(".timer");
            let fresh = self.manifest.fresh.iter().filter(own);
            // What failed is not what somebody stopped: its reason may be mended by now.
            let failed = in_state(systemctl, workers, "failed");
            let failed = failed.iter().filter(|u| !self.manifest.fresh.contains(*u));
            fresh.chain(failed).cloned().collect()
        } else {
            Vec::new()
        };
        let mut problems = Vec::new();
        if !restarted.is_empty() {
            problems.extend(verb(systemctl, "try-restart", &restarted).err());
        }
        if first {
            forgive(systemctl, workers);
            problems.extend(host::call(systemctl, &["start", TARGET]).err());
        } else if !started.is_empty() {
            forgive(systemctl, &started);
            problems.extend(verb(systemctl, "start", &started).err());
        }
        self.manifest.restart.clear();
        self.manifest.fresh.clear();
        self.manifest.resume = false;
        self.manifest.started |= first;
        self.manifest.program = program;
        for problem in &problems {
            report.note(format!("{problem:#}"));
        }
        if restarted.is_empty() && started.is_empty() {
            let why = if is_active(systemctl, TARGET) {
                "runs, and nothing changed"
            } else {
                "stopped by the operator; `systemctl start decnet.target` starts it"
            };
            report.add("start", TARGET, Outcome::skip(why));
            return;
        }
        let down = down(systemctl, &[restarted.clone(), started.clone()].concat());
        let up = |units: &[String]| -> Vec<String> {
            units
                .iter()
                .filter(|u| !down.contains(u))
                .cloned()
                .collect()
        };
        for (step, units) in [("restart", up(&restarted)), ("start", up(&started))] {
            if !units.is_empty() {
                report.add(step, &units.join(" "), Outcome::done());
            }
        }
        for unit in &down {
            report.unit_down = true;
            let name = unit
                .trim_start_matches("decnet-")
                .trim_end_matches(".service");
            let advice = format!(
                "it did not come up; see `journalctl -u {unit}` and {}, then run `decnet init` again",
                render::log_file(name)
            );
            report.add("start", unit, Outcome::Fail(advice));
        }
    }

    /// A package upgrade starts nothing that an earlier run was told not to start; a run
    /// by hand does.
    fn may_start(&self) -> bool {
        !self.manifest.settled || std::env::var_os("DPKG_MAINTSCRIPT_PACKAGE").is_none()
    }

    fn program(&self) -> Option<Program> {
        Program::at(&self.host.path(&self.choices.bin_path))
    }

    /// Before files change hands.
    pub(super) fn pause(&mut self) -> anyhow::Result<Outcome> {
        let Systemd::Booted(systemctl) = self.host.systemd() else {
            return Ok(Outcome::skip("nothing runs here"));
        };
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        if is_active(&systemctl, TARGET) {
            self.manifest.resume = true;
            self.manifest.save(self.host)?;
            host::call(&systemctl, &["stop", TARGET])?;
        }
        stop_deckies(&self.host.path(RUN), Some(&systemctl));
        Ok(Outcome::done())
    }

    /// Stops one unit that is about to vanish.
    pub(super) fn stop(&self, unit: &str) -> anyhow::Result<()> {
        if let Systemd::Booted(systemctl) = self.host.systemd() {
            host::call(&systemctl, &["stop", unit]).with_context(|| format!("stopping {unit}"))?;
        }
        Ok(())
    }
}

fn is_active(systemctl: &Path, unit: &str) -> bool {
    host::call(systemctl, &["is-active", "--quiet", unit]).is_ok()
}

fn verb(systemctl: &Path, verb: &str, units: &[String]) -> anyhow::Result<()> {
    let mut args = vec![verb];
    args.extend(units.iter().map(String::as_str));
    host::call(systemctl, &args)
}

/// What `systemctl VERB` says of each unit, in order.
fn words(systemctl: &Path, verb: &str, units: &[String]) -> Vec<String> {
    let mut args = vec![verb];
    args.extend(units.iter().map(String::as_str));
    // Its exit code speaks of all units at once; the lines speak of each.
    let output = match units.is_empty() {
        true => return Vec::new(),
        false => host::run(systemctl, &args),
    };
    let text = output.map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Clears failures: a unit that failed too often refuses to start until then, and one
/// that is gone is listed until then.
pub(super) fn forgive(systemctl: &Path, units: &[String]) {
    let failed = in_state(systemctl, units, "failed");
    if !failed.is_empty()
        && let Err(error) = verb(systemctl, "reset-failed", &failed)
    {
        tracing::debug!("{error:#}");
    }
}

/// Those of `units` that run, or try to.
fn active(systemctl: &Path, units: &[String]) -> Vec<String> {
    let mut found = in_state(systemctl, units, "active");
    found.extend(in_state(systemctl, units, "activating"));
    found
}

fn in_state(systemctl: &Path, units: &[String], state: &str) -> Vec<String> {
    let words = words(systemctl, "is-active", units);
    units
        .iter()
        .zip(words)
        .filter(|(_, word)| word == state)
        .map(|(unit, _)| unit.clone())
        .collect()
}

/// Those of `units` that are enabled and should run by now, but do not.
fn down(systemctl: &Path, units: &[String]) -> Vec<String> {
    let states = words(systemctl, "is-active", units);
    let enabled = words(systemctl, "is-enabled", units);
    units
        .iter()
        .zip(states.iter().zip(enabled))
        .filter(|(_, (state, enabled))| *state != "active" && enabled == "enabled")
        .map(|(unit, _)| unit.clone())
        .collect()
}

/// Tells every decky to go: they outlive the worker that started them. Returns the names
/// of those that still answer.
pub(super) fn stop_deckies(run: &Path, systemctl: Option<&Path>) -> Vec<String> {
    let sockets = sockets(run);
    if sockets.is_empty() {
        return Vec::new();
    }
    for socket in &sockets {
        // One that does not answer is dealt with below.
        if let Err(error) = ask_to_stop(socket) {
            tracing::debug!("{}: {error}", socket.display());
        }
    }
    let deadline = Instant::now() + DECKIES_GO;
    let answering = || -> Vec<&PathBuf> {
        sockets
            .iter()
            .filter(|s| UnixStream::connect(s).is_ok())
            .collect()
    };
    while !answering().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left: Vec<String> = answering()
        .iter()
        .filter_map(|s| Some(s.parent()?.file_name()?.to_string_lossy().into_owned()))
        .collect();
    if !left.is_empty()
        && let Some(systemctl) = systemctl
        && let Err(error) = host::call(
            systemctl,
            &[
                "kill",
                "--kill-who=all",
                "--signal=KILL",
                "decnet-reconciler.service",
            ],
        )
    {
        tracing::debug!("{error:#}");
    }
    left
}

fn sockets(run: &Path) -> Vec<PathBuf> {
    fs::read_dir(run.join("deckies"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("control.sock")))
        .filter(|socket| socket.exists())
        .collect()
}

fn ask_to_stop(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DECKY_ANSWERS))?;
    stream.set_write_timeout(Some(DECKY_ANSWERS))?;
    stream.write_all(b"{\"op\":\"stop\"}\n")?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(4096)).read_until(b'\n', &mut answer)?;
    Ok(())
}
