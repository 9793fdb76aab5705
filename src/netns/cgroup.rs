//! Limits of one decky as a control group: memory and number of tasks. Best effort: where
//! this process may not make groups (a service whose unit keeps /sys/fs/cgroup
//! read-only), the limits the decky's process sets itself and those of the unit hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most memory of one decky, page cache of its spool included.
const MEMORY: &str = "134217728";
/// Most tasks of one decky.
const TASKS: &str = "32";
/// Where systems mount them.
const ROOT: &str = "/sys/fs/cgroup";
/// Our own directory below each hierarchy.
const OURS: &str = "decnet";

/// One hierarchy and the limits it takes.
struct Hierarchy {
    root: PathBuf,
    limits: &'static [(&'static str, &'static str)],
}

/// The hierarchies of this host: the unified one, or those of version 1.
fn hierarchies(root: &Path) -> Vec<Hierarchy> {
    if root.join("cgroup.controllers").exists() {
        return vec![Hierarchy {
            root: root.to_owned(),
            limits: &[("memory.max", MEMORY), ("pids.max", TASKS)],
        }];
    }
    [
        ("memory", &[("memory.limit_in_bytes", MEMORY)][..]),
        ("pids", &[("pids.max", TASKS)][..]),
    ]
    .into_iter()
    .map(|(name, limits)| Hierarchy {
        root: root.join(name),
        limits,
    })
    .filter(|h| h.root.join("cgroup.procs").exists())
    .collect()
}

/// Puts process `pid` into the group of decky `name`, making it.
pub fn place(name: &str, pid: u32) {
    for hierarchy in hierarchies(Path::new(ROOT)) {
        if let Err(error) = place_in(&hierarchy, name, pid) {
            tracing::debug!("{name}: no limits in {}: {error}", hierarchy.root.display());
        }
    }
}

fn place_in(hierarchy: &Hierarchy, name: &str, pid: u32) -> io::Result<()> {
    let ours = hierarchy.root.join(OURS);
    let own = ours.join(name);
    make(&ours)?;
    // Only the unified hierarchy asks which controllers its children get.
    for parent in [&hierarchy.root, &ours] {
        let control = parent.join("cgroup.subtree_control");
        if control.exists() {
            fs::write(control, "+memory +pids")?;
        }
    }
    make(&own)?;
    for (file, value) in hierarchy.limits {
        fs::write(own.join(file), value)?;
    }
    fs::write(own.join("cgroup.procs"), pid.to_string())
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Removes the group of decky `name`, and ours when it was the last. `false` while
/// something of it still runs.
#[must_use]
pub fn remove(name: &str) -> bool {
    let mut gone = true;
    for hierarchy in hierarchies(Path::new(ROOT)) {
        let ours = hierarchy.root.join(OURS);
        let own = ours.join(name);
        if let Err(error) = fs::remove_dir(&own) {
            gone &= error.kind() != io::ErrorKind::ResourceBusy;
            tracing::trace!("{}: {error}", own.display());
        }
        if let Err(error) = fs::remove_dir(&ours) {
            tracing::trace!("{}: {error}", ours.display());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(hierarchies(dir.path()).is_empty());
        for name in ["memory", "pids", "cpu"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("cgroup.procs"), "").unwrap();
        }
        let found: Vec<PathBuf> = hierarchies(dir.path())
            .into_iter()
            .map(|h| h.root)
            .collect();
        assert_eq!(found, [dir.path().join("memory"), dir.path().join("pids")]);
        fs::write(dir.path().join("cgroup.controllers"), "memory pids").unwrap();
        assert_eq!(hierarchies(dir.path()).len(), 1);
    }
}
