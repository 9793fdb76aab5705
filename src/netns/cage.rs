//! What the process of a decky gives up before it serves. Called from its only thread,
//! before any runtime starts; each step is of the calling process and cannot be undone.

use std::fs;
use std::path::Path;

use anyhow::Context;
use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid};

use rand::RngExt;

use crate::netns::calls;

/// Threads one decky may have; it runs on one, and a few write files.
const THREADS: u64 = 64;
/// Descriptors one decky may hold.
const DESCRIPTORS: u64 = 65_536;
/// Private memory one decky may ask for.
const MEMORY: u64 = 256 << 20;

/// Becomes user and group `id`, with no other group. What is made from now on is for the
/// group of the directory it is made in, too: the collector reads it.
///
/// # Errors
/// When the process may not change its user.
pub fn become_user(id: u32) -> anyhow::Result<()> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o007));
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    let refused = || format!("becoming user {id}; the reconciler needs CAP_SETUID and CAP_SETGID");
    setgroups(&[]).with_context(refused)?;
    setresgid(gid, gid, gid).with_context(refused)?;
    setresuid(uid, uid, uid).with_context(refused)
}

/// Moves into a user and a network namespace of its own, in which it alone exists and
/// has every capability until [`lock`].
///
/// # Errors
/// When the host does not let unprivileged processes make namespaces.
pub fn enter(id: u32) -> anyhow::Result<()> {
    // A process that changed its user belongs to nobody: it could not write its own maps.
    prctl::set_dumpable(true).context("marking the process as its own")?;
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        Err(errno @ (Errno::EPERM | Errno::ENOSPC | Errno::EUSERS)) => anyhow::bail!(
            "making a user namespace: {}; allow it: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above the number of deckies",
            errno.desc()
        ),
        Err(errno) => return Err(errno).context("making a network namespace"),
    }
    let map = format!("{id} {id} 1\n");
    for (file, content) in [("setgroups", "deny"), ("uid_map", &map), ("gid_map", &map)] {
        let path = format!("/proc/self/{file}");
        fs::write(&path, content).with_context(|| format!("writing {path}"))?;
    }
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_NET_ADMIN)? {
        return Ok(());
    }
    anyhow::bail!(
        "user namespaces are without capabilities on this host; allow them: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    )
}

/// Makes the current directory the root of the file system: nothing outside can be named
/// any more. Needs the capability that [`enter`] gave.
///
/// # Errors
/// When the kernel refuses.
pub fn shut_in() -> anyhow::Result<()> {
    // The last file outside that is needed: the kernel kills a decky before anything else.
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "500") {
        tracing::debug!("oom_score_adj: {error}");
    }
    open_chance();
    chroot(".").context("making the decky's directory its root")?;
    chdir("/").context("entering the decky's directory")
}

/// Gives up everything that serving does not need: capabilities, new privileges, files
/// outside `dir` (where the kernel has landlock), system calls not on the list.
/// `connects`: the decky has peers.
///
/// # Errors
/// When one of them cannot be given up; the caller must not serve then.
pub fn lock(dir: &Path, connects: bool) -> anyhow::Result<()> {
    open_chance();
    limits().context("setting limits")?;
    prctl::set_no_new_privs().context("giving up new privileges")?;
    confine_files(dir).context("landlock")?;
    drop_capabilities().context("dropping capabilities")?;
    prctl::set_dumpable(false).context("hiding the process's memory")?;
    for program in &calls::programs(connects)? {
        seccompiler::apply_filter(program).context("installing the system-call filter")?;
    }
    Ok(())
}

/// Linked statically, the source of chance may be /dev/urandom: it is opened at the first
/// use, for the process's whole life, and cannot be named in there.
fn open_chance() {
    let _first: u32 = rand::rng().random();
}

fn limits() -> nix::Result<()> {
    for (resource, wanted) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS),
        (Resource::RLIMIT_NPROC, THREADS),
        (Resource::RLIMIT_DATA, MEMORY),
        (Resource::RLIMIT_MEMLOCK, 0),
    ] {
        let (_, hard) = getrlimit(resource)?;
        let wanted = wanted.min(hard);
        setrlimit(resource, wanted, wanted)?;
    }
    Ok(())
}

fn drop_capabilities() -> anyhow::Result<()> {
    caps::clear(None, CapSet::Ambient)?;
    // Needs CAP_SETPCAP, so it goes before the others; a process without it has a
    // bounding set that means nothing once new privileges are given up.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Permitted)?;
    let left = caps::read(None, CapSet::Permitted)?;
    anyhow::ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

/// Only `dir` can be read and written. A kernel without landlock leaves it at that: the
/// user, the root directory and the call filter hold without it.
fn confine_files(dir: &Path) -> anyhow::Result<()> {
    let abi = ABI::V3;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(
            PathFd::new(dir)?,
            AccessFs::from_all(abi) & !AccessFs::Execute,
        ))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::debug!("this kernel has no landlock");
    }
    Ok(())
}
