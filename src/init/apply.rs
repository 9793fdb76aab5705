//! Makes the steps of a plan true, one after the other, and says what it did. What is
//! true already is left untouched, down to its time of change.
//!
//! A rendered file that the operator edited is kept: the new text goes beside it as
//! `.decnet-new`. Nothing here asks anything, needs a network, or fails because systemd,
//! docker, polkit or logrotate is not there.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use anyhow::Context;
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};

use crate::init::choices::Choices;
use crate::init::host::{self, Host};
use crate::init::manifest::{Entry, Kind, Manifest};
use crate::init::own::{self, Ids};
use crate::init::plan::{Owner, Step};
use crate::init::report::{Outcome, Report};
use crate::net::file;

/// What a run is allowed to do.
pub(super) struct Applier<'a> {
    pub(super) host: &'a Host,
    pub(super) choices: &'a Choices,
    pub(super) manifest: Manifest,
    pub(super) dry_run: bool,
    pub(super) force: bool,
    /// Why nothing is started, if so.
    pub(super) no_start: Option<String>,
}

impl Applier<'_> {
    /// Records what is about to happen. Called before the first step of a real run.
    ///
    /// # Errors
    /// When the state directory cannot be made or written.
    pub(super) fn intend(&mut self, steps: &[Step]) -> anyhow::Result<()> {
        let answers = self.choices.answers();
        let old = self.manifest.answers.as_ref();
        if old.is_some_and(|a| a.user != answers.user || a.group != answers.group) {
            self.manifest.hand_over = true;
        }
        self.manifest.answers = Some(answers);
        self.manifest.installed = true;
        self.sweep(&format!("{}/install.json", crate::init::render::STATE));
        for step in steps {
            if let Step::File { path, .. } = step {
                self.sweep(path);
            }
            self.intend_one(step);
        }
        let state = self.host.path(crate::init::render::STATE);
        fs::create_dir_all(&state).with_context(|| format!("creating {}", state.display()))?;
        self.manifest.save(self.host)
    }

    /// Removes what a killed run left half-written beside `path`. Only what belongs to
    /// whoever runs init: a worker may be writing a file of its own right now.
    pub(super) fn sweep(&self, path: &str) {
        let Some(dir) = Path::new(path).parent() else {
            return;
        };
        let own = nix::unistd::geteuid().as_raw();
        let entries = fs::read_dir(self.host.path(&dir.to_string_lossy()));
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = entry
                .metadata()
                .is_ok_and(|m| m.is_file() && m.uid() == own);
            if ours && name.starts_with(".decnet-") && name.len() == ".decnet-".len() + 6 {
                let _gone_or_not = fs::remove_file(entry.path());
            }
        }
    }

    fn intend_one(&mut self, step: &Step) {
        match step {
            Step::Group(name) if !self.host.prefixed() && self.host.group(name).is_none() => {
                self.manifest.groups_created.insert(name.clone());
            }
            Step::User { name, .. } if !self.host.prefixed() && self.host.user(name).is_none() => {
                self.manifest.users_created.insert(name.clone());
            }
            Step::Directory {
                path, kind, adopt, ..
            } => self.expect(path, *kind, !adopt),
            Step::Log(path) => self.expect(path, Kind::Log, true),
            Step::Password(path) => self.expect(path, Kind::Secret, false),
            Step::Link { path, .. } => {
                self.expect_parents(path);
                self.expect(path, Kind::Link, false);
            }
            Step::File {
                path,
                content,
                kind,
                ..
            } => self.intend_file(path, content, *kind),
            _ => {}
        }
    }

    fn expect_parents(&mut self, path: &str) {
        let missing: Vec<String> = Path::new(path)
            .ancestors()
            .skip(1)
            .map(|p| p.to_string_lossy().into_owned())
            // Top directories are the system's, even in an image that lacks them.
            .take_while(|p| p.matches('/').count() > 1 && !self.host.path(p).exists())
            .collect();
        for parent in missing {
            self.expect(&parent, Kind::Dir, true);
        }
    }

    /// Enters a path; `ours` where even what existed before counts as made by init.
    fn expect(&mut self, path: &str, kind: Kind, ours: bool) {
        let exists = fs::symlink_metadata(self.host.path(path)).is_ok();
        self.manifest
            .entries
            .entry(path.to_owned())
            .or_insert(Entry {
                kind,
                sha256: None,
                earlier: Vec::new(),
                offered: None,
                created: ours || !exists,
                done: false,
            });
    }

    fn intend_file(&mut self, path: &str, content: &str, kind: Kind) {
        self.expect_parents(path);
        let wanted = sum(content.as_bytes());
        let disk = disk_sum(&self.host.path(path));
        let known = self.manifest.entries.contains_key(path);
        self.expect(path, kind, false);
        let ours = match &disk {
            None => true,
            Some(disk) => self.force || *disk == wanted || self.manifest.is_ours(path, disk),
        };
        let Some(entry) = self.manifest.entries.get_mut(path) else {
            return;
        };
        if !ours {
            return;
        }
        // Exactly our text without a record: a lost record, not somebody's work.
        entry.created |= !known;
        if entry.sha256.as_deref() == Some(&wanted) && disk.as_deref() == Some(&wanted) {
            return;
        }
        entry.earlier.extend(entry.sha256.take());
        if self.force {
            entry.earlier.extend(disk.clone());
        }
        entry.sha256 = Some(wanted.clone());
        entry.done = false;
        if kind == Kind::Unit && disk.as_deref() != Some(&wanted) {
            self.manifest.reload = true;
            let pending = match disk {
                Some(_) => &mut self.manifest.restart,
                None => &mut self.manifest.fresh,
            };
            pending.insert(base_name(path));
        }
    }

    /// Runs one step and notes it in the report.
    ///
    /// # Errors
    /// When the step failed; it is in the report already.
    pub(super) fn run(&mut self, step: &Step, report: &mut Report) -> anyhow::Result<()> {
        let (verb, what) = describe(step);
        if let Step::Settle { workers } = step {
            return self.settle(workers, report);
        }
        match self.make(step) {
            Ok(outcome) => {
                report.add(verb, &what, outcome);
                Ok(())
            }
            Err(error) => {
                report.add(verb, &what, Outcome::Fail(format!("{error:#}")));
                Err(error)
            }
        }
    }

    fn make(&mut self, step: &Step) -> anyhow::Result<Outcome> {
        match step {
            Step::Group(name) => self.group(name),
            Step::User { name, group, home } => self.user(name, group, home),
            Step::Pause => self.pause(),
            Step::Directory {
                path,
                mode,
                owner,
                adopt,
                ..
            } => self.directory(path, *mode, *owner, *adopt),
            Step::HandOver(tree) => self.hand_over(tree),
            Step::File {
                path,
                content,
                mode,
                owner,
                kind,
            } => self.file(path, content, *mode, *owner, *kind),
            Step::Password(path) => self.password(path),
            Step::Log(path) => self.log(path),
            Step::Link { path, target } => self.link(path, target),
            Step::Withdraw(path) => {
                if !self.dry_run && [".service", ".timer"].iter().any(|e| path.ends_with(e)) {
                    self.stop(&base_name(path))?;
                }
                self.withdraw(path)
            }
            Step::Settle { .. } => Ok(Outcome::skip("")),
        }
    }

    fn ids(&self, owner: Owner) -> Ids {
        if !nix::unistd::geteuid().is_root() {
            return Ids::default();
        }
        let group = || self.host.group(&self.choices.group);
        match owner {
            Owner::Root => Ids {
                uid: Some(0),
                gid: Some(0),
            },
            Owner::RootGroup => Ids {
                uid: Some(0),
                gid: group(),
            },
            Owner::Service => Ids {
                uid: self.host.user(&self.choices.user).map(|u| u.uid),
                gid: group(),
            },
        }
    }

    fn group(&self, name: &str) -> anyhow::Result<Outcome> {
        if self.host.group(name).is_some() {
            return Ok(Outcome::skip("exists"));
        }
        if self.host.prefixed() {
            return Ok(Outcome::skip(
                "made at the first boot below a prefix, from sysusers.d",
            ));
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        let groupadd = self
            .host
            .tool("groupadd")
            .context("groupadd is not installed")?;
        host::call(&groupadd, &["--system", name])?;
        self.host.forget();
        Ok(Outcome::done())
    }

    fn user(&self, name: &str, group: &str, home: &str) -> anyhow::Result<Outcome> {
        if self.host.user(name).is_some() {
            return Ok(Outcome::skip("exists"));
        }
        if self.host.prefixed() {
            return Ok(Outcome::skip(
                "made at the first boot below a prefix, from sysusers.d",
            ));
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        let useradd = self
            .host
            .tool("useradd")
            .context("useradd is not installed")?;
        let args = [
            "--system",
            "--gid",
            group,
            "--home-dir",
            home,
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            "--comment",
            "DECNET",
            name,
        ];
        host::call(&useradd, &args)?;
        Ok(Outcome::done())
    }

    fn directory(
        &mut self,
        path: &str,
        mode: u32,
        owner: Owner,
        adopt: bool,
    ) -> anyhow::Result<Outcome> {
        let real = self.host.path(path);
        let ids = self.ids(owner);
        let recorded = self.manifest.entries.get(path).is_some_and(|e| e.created);
        match fs::symlink_metadata(&real) {
            Ok(meta) if !meta.is_dir() => anyhow::bail!("exists and is not a directory"),
            Ok(_) if adopt && !recorded => {
                self.done(path);
                Ok(Outcome::skip(
                    "was there before; owner and mode are left as they are",
                ))
            }
            Ok(_) if own::is_set(&real, ids, mode) => {
                self.done(path);
                Ok(Outcome::skip("exists"))
            }
            found => {
                if self.dry_run {
                    return Ok(Outcome::Would);
                }
                if found.is_err() {
                    self.parents(path)?;
                    match fs::create_dir(&real) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
                own::set(&real, ids, mode)?;
                self.done(path);
                Ok(if found.is_err() {
                    Outcome::done()
                } else {
                    Outcome::Done("owner and mode".to_owned())
                })
            }
        }
    }

    /// Directories above `path`, as plain as the system's own.
    fn parents(&self, path: &str) -> anyhow::Result<()> {
        let missing: Vec<&Path> = Path::new(path)
            .ancestors()
            .skip(1)
            .take_while(|p| !self.host.path(&p.to_string_lossy()).exists())
            .collect();
        for parent in missing.into_iter().rev() {
            let real = self.host.path(&parent.to_string_lossy());
            fs::create_dir(&real).with_context(|| format!("creating {}", real.display()))?;
            own::set(&real, self.ids(Owner::Root), 0o755)?;
        }
        Ok(())
    }

    fn done(&mut self, path: &str) {
        if let Some(entry) = self.manifest.entries.get_mut(path) {
            entry.done = true;
            entry.earlier.clear();
        }
    }

    fn file(
        &mut self,
        path: &str,
        content: &str,
        mode: u32,
        owner: Owner,
        kind: Kind,
    ) -> anyhow::Result<Outcome> {
        let real = self.host.path(path);
        let ids = self.ids(owner);
        let wanted = sum(content.as_bytes());
        let disk = disk_sum(&real);
        let entry = self.manifest.entries.get(path);
        let edited = disk.as_ref().is_some_and(|disk| {
            *disk != wanted && !self.force && !self.manifest.is_ours(path, disk)
        });
        if edited {
            let seen = entry.and_then(|e| e.offered.as_ref().or(e.sha256.as_ref()));
            // Editing is what this file is for: only news are worth a word.
            if kind == Kind::Config && seen == Some(&wanted) {
                return Ok(Outcome::skip("edited here; kept"));
            }
            return self.lay_beside(path, content, mode, &wanted);
        }
        let same = disk.as_deref() == Some(&*wanted);
        if same && own::is_set(&real, ids, mode) {
            self.done(path);
            return Ok(Outcome::skip("unchanged"));
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        if !same {
            self.parents(path)?;
            file::write_atomic(&real, content.as_bytes(), mode)?;
        }
        own::set(&real, ids, mode)?;
        self.take_back(path)?;
        self.done(path);
        Ok(match (same, disk.is_some()) {
            (true, _) => Outcome::Done("owner and mode".to_owned()),
            (false, true) => Outcome::Done("changed".to_owned()),
            (false, false) => Outcome::done(),
        })
    }

    /// Keeps an edited file and lays the new text beside it.
    fn lay_beside(
        &mut self,
        path: &str,
        content: &str,
        mode: u32,
        wanted: &str,
    ) -> anyhow::Result<Outcome> {
        let beside = format!("{path}.decnet-new");
        let real = self.host.path(&beside);
        let text = inert(path, content);
        let kept = format!("edited here and kept; the new text is in {beside}");
        if disk_sum(&real).as_deref() == Some(&*sum(text.as_bytes())) {
            return Ok(Outcome::skip(&kept));
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        self.expect(&beside, Kind::Beside, true);
        if let Some(entry) = self.manifest.entries.get_mut(path) {
            entry.offered = Some(wanted.to_owned());
        }
        self.manifest.save(self.host)?;
        file::write_atomic(&real, text.as_bytes(), mode)?;
        self.done(&beside);
        Ok(Outcome::Kept(kept))
    }

    /// The operator took the new text: the copy beside it has done its work.
    fn take_back(&mut self, path: &str) -> anyhow::Result<()> {
        let beside = format!("{path}.decnet-new");
        if self.manifest.entries.remove(&beside).is_some() {
            remove_file(&self.host.path(&beside))?;
        }
        Ok(())
    }

    fn password(&mut self, path: &str) -> anyhow::Result<Outcome> {
        let real = self.host.path(path);
        let ids = self.ids(Owner::Service);
        let entry = self.manifest.entries.get(path);
        if fs::symlink_metadata(&real).is_ok() {
            if own::is_set(&real, ids, 0o600) {
                self.done(path);
                return Ok(Outcome::skip("exists"));
            }
        } else if entry.is_some_and(|e| e.done) {
            return Ok(Outcome::skip("made by an earlier run and removed since"));
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        if fs::symlink_metadata(&real).is_err() {
            let mut secret = Alphanumeric.sample_string(&mut rand::rng(), 24);
            secret.push('\n');
            file::write_atomic(&real, secret.as_bytes(), 0o600)?;
        }
        own::set(&real, ids, 0o600)?;
        self.done(path);
        Ok(Outcome::Done(
            "the first administrator's password is in this file".to_owned(),
        ))
    }

    fn log(&mut self, path: &str) -> anyhow::Result<Outcome> {
        let real = self.host.path(path);
        let ids = self.ids(Owner::Service);
        let exists = fs::symlink_metadata(&real).is_ok();
        if exists && own::is_set(&real, ids, 0o640) {
            self.done(path);
            return Ok(Outcome::skip("exists"));
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        if !exists {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o640)
                .open(&real)?;
        }
        own::set(&real, ids, 0o640)?;
        self.done(path);
        Ok(Outcome::done())
    }

    fn link(&mut self, path: &str, target: &str) -> anyhow::Result<Outcome> {
        let real = self.host.path(path);
        match fs::symlink_metadata(&real) {
            Ok(meta) if !meta.is_symlink() => anyhow::bail!("exists and is not a link"),
            Ok(_) => {
                self.done(path);
                return Ok(Outcome::skip("enabled"));
            }
            Err(_) if !self.force && self.manifest.entries.get(path).is_some_and(|e| e.done) => {
                return Ok(Outcome::skip("disabled by the operator"));
            }
            Err(_) => {}
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        self.parents(path)?;
        symlink(target, &real)?;
        self.manifest.reload = true;
        self.done(path);
        Ok(Outcome::done())
    }

    fn hand_over(&self, tree: &str) -> anyhow::Result<Outcome> {
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        own::hand_over(&self.host.path(tree), self.ids(Owner::Service))?;
        Ok(Outcome::done())
    }

    /// Removes what an earlier version or other choices left.
    pub(super) fn withdraw(&mut self, path: &str) -> anyhow::Result<Outcome> {
        let Some(entry) = self.manifest.entries.get(path).cloned() else {
            return Ok(Outcome::skip("not recorded"));
        };
        let real = self.host.path(path);
        if fs::symlink_metadata(&real).is_err() {
            self.manifest.entries.remove(path);
            return Ok(Outcome::skip("gone already"));
        }
        if !entry.created {
            self.manifest.entries.remove(path);
            return Ok(Outcome::skip("was there before init; kept"));
        }
        if self.dry_run {
            return Ok(Outcome::Would);
        }
        let mut said = "removed".to_owned();
        let disk = disk_sum(&real);
        if entry.kind != Kind::Link
            && disk
                .as_ref()
                .is_some_and(|d| !self.manifest.is_ours(path, d))
        {
            let beside = format!("{path}.decnet-old");
            let old = fs::read_to_string(&real).unwrap_or_default();
            self.expect(&beside, Kind::Beside, true);
            self.manifest.save(self.host)?;
            file::write_atomic(
                &self.host.path(&beside),
                inert(path, &old).as_bytes(),
                0o644,
            )?;
            self.done(&beside);
            said = format!("removed; it was edited here, so a copy is in {beside}");
        }
        remove_file(&real)?;
        if matches!(entry.kind, Kind::Unit | Kind::Link) {
            self.manifest.reload = true;
        }
        self.take_back(path)?;
        self.manifest.entries.remove(path);
        self.manifest.restart.remove(&base_name(path));
        self.manifest.fresh.remove(&base_name(path));
        Ok(Outcome::Done(said))
    }
}

/// Verb and object of a step, for the report.
fn describe(step: &Step) -> (&'static str, String) {
    match step {
        Step::Group(name) => ("group", name.clone()),
        Step::User { name, .. } => ("user", name.clone()),
        Step::Pause => ("pause", "decnet.target".to_owned()),
        Step::Directory { path, .. } => ("directory", path.clone()),
        Step::HandOver(tree) => ("hand over", tree.clone()),
        Step::File {
            path,
            kind: Kind::Unit,
            ..
        } => ("unit", path.clone()),
        Step::File { path, .. } => ("file", path.clone()),
        Step::Password(path) => ("secret", path.clone()),
        Step::Log(path) => ("log", path.clone()),
        Step::Link { path, .. } => ("enable", path.clone()),
        Step::Withdraw(path) => ("remove", path.clone()),
        Step::Settle { .. } => ("settle", String::new()),
    }
}

/// Text that lies beside a file and must do nothing there: logrotate reads every file in
/// its directory, whatever its name ends in.
fn inert(path: &str, text: &str) -> String {
    if !path.starts_with("/etc/logrotate.d/") {
        return text.to_owned();
    }
    let mut out = format!("# Text for {path}; commented out, as logrotate reads this file too.\n");
    for line in text.lines() {
        out.push('#');
        out.push_str(line);
        out.push('\n');
    }
    out
}

pub(super) fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

pub(super) fn sum(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String does not fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

fn disk_sum(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| sum(&bytes))
}

/// Removes a file; one that is gone already is fine.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
