//! Directories, the database's mode, disk space.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Uid, User, access};

use super::{Finding, user_name};
use crate::config::Config;

const MIB: u64 = 1024 * 1024;
/// Below this nothing works for long.
const DISK_FAIL: u64 = 200 * MIB;
/// Below this it is time to look.
const DISK_WARN: u64 = 2048 * MIB;

/// State, log and run directory.
pub(super) fn directories(config: &Config, installed: bool, findings: &mut Vec<Finding>) {
    let paths = &config.paths;
    for (check, path) in [
        ("state dir", &paths.state),
        ("log dir", &paths.log),
        ("run dir", &paths.run),
    ] {
        findings.push(match std::fs::metadata(path) {
            Ok(meta) => directory(check, path, &meta),
            Err(error) => unseen(check, path, &error, installed),
        });
    }
    if let Some(path) = config.database.path()
        && let Ok(meta) = std::fs::metadata(path)
        && meta.mode() & 0o007 != 0
    {
        // What attackers typed lies in there.
        findings.push(Finding::fail(
            "database",
            format!("{} is open to everybody", path.display()),
            format!("sudo chmod o= {}", path.display()),
        ));
    }
}

fn unseen(check: &'static str, path: &Path, error: &std::io::Error, installed: bool) -> Finding {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound if installed => {
            Finding::fail(check, format!("{shown} is missing"), "sudo decnet init")
        }
        ErrorKind::NotFound => Finding::warn(
            check,
            format!("{shown} is not there yet"),
            "made by `decnet up` or sudo decnet init",
        ),
        ErrorKind::PermissionDenied => Finding::warn(
            check,
            format!("{shown} is not visible to {}", user_name()),
            "sudo decnet doctor",
        ),
        _ => Finding::fail(
            check,
            format!("{shown} cannot be looked at: {error}"),
            "check the file system it lies on",
        ),
    }
}

fn directory(check: &'static str, path: &Path, meta: &Metadata) -> Finding {
    let shown = path.display();
    let owner = match User::from_uid(Uid::from_raw(meta.uid())) {
        Ok(Some(user)) => user.name,
        _ => meta.uid().to_string(),
    };
    if !meta.is_dir() {
        return Finding::fail(
            check,
            format!("{shown} is not a directory"),
            format!("move it away, then sudo decnet init or mkdir {shown}"),
        );
    }
    if meta.mode() & 0o002 != 0 && meta.mode() & 0o1000 == 0 {
        return Finding::fail(
            check,
            format!("everybody may write in {shown}"),
            format!("sudo chmod o-w {shown}"),
        );
    }
    let me = Uid::effective();
    if me.as_raw() == meta.uid() {
        return match access(path, AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) => Finding::ok(check, format!("{shown}, written by {owner}")),
            Err(errno) => Finding::fail(
                check,
                format!("{shown} belongs to {owner} and yet cannot be written: {errno}"),
                format!("sudo chmod u+rwx {shown}; is the file system mounted read-only?"),
            ),
        };
    }
    if me.is_root() || access(path, AccessFlags::W_OK).is_ok() {
        return Finding::ok(check, format!("{shown}, owned by {owner}"));
    }
    Finding::warn(
        check,
        format!(
            "{shown} belongs to {owner}; {} may not write there",
            user_name()
        ),
        format!("sudo -u {owner} decnet doctor shows it as the daemons see it"),
    )
}

/// Space and inodes below the state and log directories.
pub(super) fn disk(config: &Config, findings: &mut Vec<Finding>) {
    let mut seen = Vec::new();
    for path in [&config.paths.state, &config.paths.log] {
        // What is not there yet will lie where its parent lies.
        let Some((at, device)) = path
            .ancestors()
            .find_map(|p| std::fs::metadata(p).ok().map(|m| (p, m.dev())))
        else {
            continue;
        };
        if seen.contains(&device) {
            continue;
        }
        seen.push(device);
        findings.push(match statvfs(at) {
            Ok(stat) => space(
                at,
                stat.blocks_available().saturating_mul(stat.fragment_size()),
                stat.files_available(),
                stat.files(),
            ),
            Err(errno) => Finding::warn(
                "disk",
                format!("{} cannot be measured: {errno}", at.display()),
                "sudo decnet doctor",
            ),
        });
    }
}

fn space(path: &Path, free: u64, inodes_free: u64, inodes: u64) -> Finding {
    let shown = path.display();
    let what = format!("{} MiB free below {shown}", free / MIB);
    let fix = format!("make room: sudo du -xh -d2 {shown} | sort -h | tail");
    // Some file systems have no inode table and say 0 of 0.
    if inodes > 0 && inodes_free < 1000 {
        return Finding::fail(
            "disk",
            format!("{inodes_free} inodes left below {shown}"),
            fix,
        );
    }
    match free {
        0..DISK_FAIL => Finding::fail("disk", what, fix),
        DISK_FAIL..DISK_WARN => Finding::warn("disk", what, fix),
        _ => Finding::ok("disk", what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_open_to_everybody_is_a_failure_with_its_command() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |bits| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(bits)).unwrap();
            directory(
                "state dir",
                dir.path(),
                &std::fs::metadata(dir.path()).unwrap(),
            )
        };
        let open = mode(0o777);
        assert_eq!(open.level, Level::Fail);
        assert!(open.fix.unwrap().starts_with("sudo chmod o-w /"));
        assert_eq!(mode(0o750).level, Level::Ok);
    }

    #[test]
    fn little_space_and_few_inodes_are_found() {
        let at = Path::new("/x");
        assert_eq!(space(at, 100 * MIB, 5000, 9000).level, Level::Fail);
        assert_eq!(space(at, 900 * MIB, 5000, 9000).level, Level::Warn);
        assert_eq!(space(at, 9000 * MIB, 5, 9000).level, Level::Fail);
        assert_eq!(space(at, 9000 * MIB, 0, 0).level, Level::Ok);
    }
}
