//! Takes away exactly what the record names. Without `--purge` it keeps data, logs,
//! configuration and accounts, and says so; what it keeps stays recorded, for a purge
//! later or for the next init. A second run finds nothing to do.

use std::fs;
use std::io;

use crate::init::apply::{Applier, base_name, remove_file};
use crate::init::host::{self, Systemd};
use crate::init::manifest::Kind;
use crate::init::render::{LOGS, RUN, STATE};
use crate::init::report::{Outcome, Report};
use crate::init::service::{forgive, stop_deckies};

impl Applier<'_> {
    /// Undoes init.
    ///
    /// # Errors
    /// The first step that failed; what was done stays done and recorded.
    pub(super) fn undo(&mut self, purge: bool, report: &mut Report) -> anyhow::Result<()> {
        self.quiet(report)?;
        self.take_away(report)?;
        if !self.dry_run {
            self.manifest.installed = false;
            self.manifest.settled = false;
            self.manifest.fresh.clear();
            self.manifest.started = false;
            self.manifest.resume = false;
            self.manifest.program = None;
            self.manifest.restart.clear();
        }
        if purge {
            return self.purge(report);
        }
        if !self.dry_run {
            self.manifest.save(self.host)?;
        }
        self.say_kept(report);
        Ok(())
    }

    fn units(&self) -> Vec<String> {
        self.manifest
            .entries
            .iter()
            .filter(|(_, e)| e.kind == Kind::Unit)
            .map(|(path, _)| base_name(path))
            .collect()
    }

    /// Nothing of ours runs any more.
    fn quiet(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let units = self.units();
        let systemctl = match self.host.systemd() {
            Systemd::Booted(systemctl) => Some(systemctl),
            Systemd::Away(why) => {
                report.add("stop", "decnet.target", Outcome::skip(why));
                None
            }
        };
        if self.dry_run {
            if systemctl.is_some() && !units.is_empty() {
                report.add("stop", "decnet.target", Outcome::Would);
            }
            return Ok(());
        }
        let stop = |units: &[String], report: &mut Report| -> anyhow::Result<()> {
            let (Some(systemctl), false) = (&systemctl, units.is_empty()) else {
                return Ok(());
            };
            let mut args = vec!["stop"];
            args.extend(units.iter().map(String::as_str));
            let outcome = host::call(systemctl, &args);
            report.add(
                "stop",
                &units.join(" "),
                match &outcome {
                    Ok(()) => Outcome::done(),
                    Err(error) => Outcome::Fail(format!("{error:#}")),
                },
            );
            outcome
        };
        // The reconciler first, or it starts again what is told to go; the collector
        // last, so that the deckies' last words are collected.
        let (first, rest): (Vec<String>, Vec<String>) = units
            .into_iter()
            .partition(|unit| unit == "decnet-reconciler.service");
        stop(&first, report)?;
        let left = stop_deckies(&self.host.path(RUN), systemctl.as_deref());
        if !left.is_empty() {
            report.note(format!(
                "deckies that did not stop when asked: {}",
                left.join(", ")
            ));
        }
        stop(&rest, report)?;
        if let Some(systemctl) = &systemctl {
            forgive(systemctl, &[first, rest].concat());
        }
        Ok(())
    }

    /// Links, units, rendered files, runtime files.
    fn take_away(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let mut paths: Vec<(Kind, String)> = self
            .manifest
            .entries
            .iter()
            .filter(|(_, e)| matches!(e.kind, Kind::Link | Kind::Unit | Kind::File))
            .map(|(path, e)| (e.kind, path.clone()))
            .collect();
        // Enabling goes before the unit it enables.
        paths.sort_by_key(|(kind, _)| *kind != Kind::Link);
        for (_, path) in paths {
            if !self.dry_run {
                self.sweep(&path);
            }
            match self.withdraw(&path) {
                Ok(outcome) => report.add("remove", &path, outcome),
                Err(error) => {
                    report.add("remove", &path, Outcome::Fail(format!("{error:#}")));
                    return Err(error);
                }
            }
        }
        if self.dry_run {
            return Ok(());
        }
        // Sockets and addresses of workers that are gone.
        for entry in fs::read_dir(self.host.path(RUN))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                remove_file(&entry.path())?;
            }
        }
        for name in ["pulse", "lock"] {
            remove_tree(&self.host.path(&format!("{RUN}/{name}")))?;
            self.manifest.entries.remove(&format!("{RUN}/{name}"));
        }
        self.leave_empty(report, |path| {
            path.starts_with("/etc/systemd")
                || path.starts_with("/etc/polkit-1")
                || path.starts_with(RUN)
                || ["/etc/tmpfiles.d", "/etc/sysusers.d", "/etc/logrotate.d"].contains(&path)
        })?;
        self.manifest.save(self.host)?;
        if let (true, Systemd::Booted(systemctl)) = (self.manifest.reload, self.host.systemd()) {
            host::call(&systemctl, &["daemon-reload"])?;
            report.add("reload", "systemd", Outcome::done());
        }
        self.manifest.reload = false;
        Ok(())
    }

    /// Removes recorded directories that init made and that hold nothing any more.
    fn leave_empty(
        &mut self,
        report: &mut Report,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        let mut dirs: Vec<String> = self
            .manifest
            .entries
            .iter()
            .filter(|(path, e)| e.kind == Kind::Dir && e.created && wanted(path))
            .map(|(path, _)| path.clone())
            .collect();
        dirs.sort_by_key(|path| std::cmp::Reverse(path.len()));
        for path in dirs {
            match fs::remove_dir(self.host.path(&path)) {
                Ok(()) => report.add("remove", &path, Outcome::done()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    report.add("remove", &path, Outcome::skip("holds something else"));
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.manifest.entries.remove(&path);
        }
        Ok(())
    }

    fn say_kept(&self, report: &mut Report) {
        let kept: Vec<&str> = self
            .manifest
            .entries
            .iter()
            .filter(|(path, e)| {
                e.created
                    && matches!(e.kind, Kind::Dir | Kind::Home | Kind::Config)
                    && self.host.path(path).exists()
            })
            .map(|(path, _)| path.as_str())
            .collect();
        for path in &kept {
            // A directory speaks for what lies in it.
            if kept
                .iter()
                .any(|above| path.starts_with(&format!("{above}/")))
            {
                continue;
            }
            report.add(
                "remove",
                path,
                Outcome::skip("kept; --deinit --purge removes it"),
            );
        }
        for name in &self.manifest.users_created {
            report.add(
                "user",
                name,
                Outcome::skip("kept; --deinit --purge removes it"),
            );
        }
        for name in &self.manifest.groups_created {
            report.add(
                "group",
                name,
                Outcome::skip("kept; --deinit --purge removes it"),
            );
        }
    }

    fn purge(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let entries = self.manifest.entries.clone();
        let mut trees: Vec<String> = Vec::new();
        for (path, entry) in &entries {
            match entry.kind {
                _ if !entry.created => {
                    report.add("remove", path, Outcome::skip("was there before init; kept"));
                }
                // The directories of data, logs and configuration go with all they hold.
                Kind::Dir | Kind::Home => trees.push(path.clone()),
                _ if self.dry_run => report.add("remove", path, Outcome::Would),
                _ => {
                    if fs::symlink_metadata(self.host.path(path)).is_ok() {
                        remove_file(&self.host.path(path))?;
                        report.add("remove", path, Outcome::done());
                    }
                }
            }
        }
        let whole = |path: &str, kind: Kind| {
            kind == Kind::Home
                || ["/etc/decnet", STATE, LOGS, RUN]
                    .iter()
                    .any(|t| path == *t || path.starts_with(&format!("{t}/")))
        };
        trees.sort_by_key(|path| std::cmp::Reverse(path.len()));
        // The state directory holds the record, so it goes last.
        trees.sort_by_key(|path| path == STATE);
        self.accounts(report)?;
        for path in trees {
            let real = self.host.path(&path);
            if fs::symlink_metadata(&real).is_err() {
                continue;
            }
            if self.dry_run {
                report.add("remove", &path, Outcome::Would);
                continue;
            }
            let kind = entries.get(&path).map_or(Kind::Dir, |e| e.kind);
            if whole(&path, kind) {
                remove_tree(&real)?;
            } else if let Err(error) = fs::remove_dir(&real) {
                report.add("remove", &path, Outcome::skip(&format!("kept: {error}")));
                continue;
            }
            report.add("remove", &path, Outcome::done());
        }
        Ok(())
    }

    /// Accounts that init made; those it found stay.
    fn accounts(&mut self, report: &mut Report) -> anyhow::Result<()> {
        if self.host.prefixed() {
            return Ok(());
        }
        let users = self.manifest.users_created.clone();
        let groups = self.manifest.groups_created.clone();
        for (step, tool, names) in [("user", "userdel", users), ("group", "groupdel", groups)] {
            for name in names {
                self.host.forget();
                let exists = match step {
                    "user" => self.host.user(&name).is_some(),
                    _ => self.host.group(&name).is_some(),
                };
                if !exists {
                    report.add(step, &name, Outcome::Done("removed".to_owned()));
                    continue;
                }
                if self.dry_run {
                    report.add(step, &name, Outcome::Would);
                    continue;
                }
                let Some(program) = self.host.tool(tool) else {
                    report.add(
                        step,
                        &name,
                        Outcome::skip(&format!("kept: {tool} is not installed")),
                    );
                    continue;
                };
                match host::call(&program, &[&name]) {
                    Ok(()) => report.add(step, &name, Outcome::Done("removed".to_owned())),
                    // A group with other members, an account in use: theirs, not ours.
                    Err(error) => {
                        report.add(step, &name, Outcome::skip(&format!("kept: {error:#}")))
                    }
                }
            }
        }
        Ok(())
    }
}

fn remove_tree(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
