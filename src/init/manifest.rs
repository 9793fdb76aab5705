//! What init laid on this host, and the answers it was given: `install.json` for the
//! next run, and a line-based twin, `install.manifest`, that `postrm purge` reads in
//! plain sh when the program is gone.
//!
//! Both lie in a directory that belongs to the service account, so they are believed
//! only when they belong to root (or to whoever runs init below a prefix).
//!
//! The intent is recorded before the deed: an entry is written with its content's sum
//! and `done: false` before the file exists, so that a run killed anywhere is continued
//! by the next one and forgotten by none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::init::choices::{Answers, is_plain};
use crate::init::host::Host;
use crate::init::render::STATE;
use crate::net::file;

/// Larger than any manifest of ours.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A unit of the service manager.
    Unit,
    /// A link that enables a unit.
    Link,
    /// Any other rendered file.
    File,
    /// A new or old text laid beside an edited file.
    Beside,
    /// Configuration: the operator's from then on, kept by deinit.
    Config,
    /// A secret, made once.
    Secret,
    /// A log file.
    Log,
    /// A directory.
    Dir,
    /// The directory given to the service account.
    Home,
}

/// One thing on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Sum of the content init wrote, or is about to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// Sums it may still have when a run was killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<String>,
    /// Sum of the newer text the operator was offered and did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) offered: Option<String>,
    /// Made by init; false for what was there before.
    pub(super) created: bool,
    /// The step went through.
    pub(super) done: bool,
}

/// Tells one build of the program from another without reading it whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    version: String,
    size: u64,
    modified: i64,
}

impl Program {
    /// The program at `path`; `None` where it is not there (an image being built).
    pub(super) fn at(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            size: meta.len(),
            modified: meta.mtime(),
        })
    }
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// False after a deinit that kept data.
    pub(super) installed: bool,
    /// A run went through to its end since then.
    #[serde(default)]
    pub(super) settled: bool,
    pub(super) answers: Option<Answers>,
    /// Accounts made by init.
    #[serde(default)]
    pub(super) users_created: BTreeSet<String>,
    #[serde(default)]
    pub(super) groups_created: BTreeSet<String>,
    /// What the running units were started with.
    #[serde(default)]
    pub(super) program: Option<Program>,
    /// The target was started once; from then on its state is the operator's.
    #[serde(default)]
    pub(super) started: bool,
    /// Init stopped the target itself and owes a start.
    #[serde(default)]
    pub(super) resume: bool,
    /// Files are changing hands from an earlier account to the chosen one.
    #[serde(default)]
    pub(super) hand_over: bool,
    /// Units whose text changed and that were not restarted since.
    #[serde(default)]
    pub(super) restart: BTreeSet<String>,
    /// Units that are new and were not started since.
    #[serde(default)]
    pub(super) fresh: BTreeSet<String>,
    /// The service manager has not read the units since they changed.
    #[serde(default)]
    pub(super) reload: bool,
    /// Everything, by path.
    #[serde(default)]
    pub(super) entries: BTreeMap<String, Entry>,
}

fn json_path() -> String {
    format!("{STATE}/install.json")
}

fn lines_path() -> String {
    format!("{STATE}/install.manifest")
}

impl Manifest {
    /// Reads the record; `None` when this host was never initialised.
    ///
    /// # Errors
    /// When there is one that cannot be read or must not be believed.
    pub(super) fn load(host: &Host) -> anyhow::Result<Option<Self>> {
        let path = host.path(&json_path());
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let meta = file.metadata()?;
        let own = nix::unistd::geteuid().as_raw();
        anyhow::ensure!(
            meta.is_file() && (meta.uid() == 0 || meta.uid() == own),
            "{} does not belong to root and is not believed; look at what happened to it, then remove it and run `decnet init --force`",
            path.display()
        );
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text)?;
        let mut manifest: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is damaged; remove it and run `decnet init --force`",
                path.display()
            )
        })?;
        manifest.entries.retain(|path, _| is_safe(path));
        Ok(Some(manifest))
    }

    /// Writes the record, unless the disk already says the same.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(super) fn save(&self, host: &Host) -> anyhow::Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        // The twin first: what `install.json` knows, the purge without a program knows.
        for (path, content, mode) in [
            (lines_path(), self.lines(), 0o644),
            (json_path(), json, 0o644),
        ] {
            let path = host.path(&path);
            if std::fs::read(&path).is_ok_and(|old| old == content.as_bytes()) {
                continue;
            }
            file::write_atomic(&path, content.as_bytes(), mode)
                .with_context(|| format!("recording in {}", path.display()))?;
        }
        Ok(())
    }

    /// `file PATH`, `dir PATH`, `installdir PATH`, `user NAME`, `group NAME`.
    pub(super) fn lines(&self) -> String {
        let mut lines = Vec::new();
        for (path, entry) in &self.entries {
            let word = match entry.kind {
                _ if !entry.created => continue,
                Kind::Home => "installdir",
                Kind::Dir => "dir",
                _ => "file",
            };
            lines.push(format!("{word} {path}\n"));
        }
        lines.extend(self.users_created.iter().map(|n| format!("user {n}\n")));
        lines.extend(self.groups_created.iter().map(|n| format!("group {n}\n")));
        lines.concat()
    }

    /// Whether `disk` is a text of ours at `path`.
    pub(super) fn is_ours(&self, path: &str, disk: &str) -> bool {
        self.entries.get(path).is_some_and(|e| {
            e.sha256.as_deref() == Some(disk) || e.earlier.iter().any(|s| s == disk)
        })
    }
}

/// Paths that a line of the twin and a shell can carry, and nothing above a directory.
fn is_safe(path: &str) -> bool {
    path.len() > 1
        && is_plain(Path::new(path))
        && path
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_mislead_a_shell_is_not_believed() {
        assert!(is_safe("/etc/decnet/decnet.ini"));
        for path in [
            "/",
            "etc/x",
            "/etc/../x",
            "/etc/a b",
            "/etc/$x",
            "/etc/x\ny",
        ] {
            assert!(!is_safe(path), "{path}");
        }
    }
}
