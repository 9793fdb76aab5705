//! The system calls a decky may use: a list of what serving needs. Everything else is
//! refused, never killed: a C library may ask for what it can do without. Not on the
//! list, among much else: starting programs, tracing, mounting, namespaces, raw and
//! packet sockets, netlink, kernel keys, io_uring, bpf, and, for a decky without peers,
//! connecting to anything.

use std::collections::BTreeMap;

use anyhow::Context;
use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Calls that may be made with any arguments.
const PLAIN: &[c_long] = &[
    // Files below the decky's directory, and sockets.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_pipe2,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Connections that others opened.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    // Memory, threads, signals, the clock, chance.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Answered with "not there", see `program`.
    libc::SYS_clone3,
];

/// The same under the names that only this processor family has.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// Flags of clone that would make a namespace.
const NAMESPACES: u64 = 0x0002_0000 // CLONE_NEWNS
    | 0x0200_0000 // cgroup
    | 0x0400_0000 // UTS
    | 0x0800_0000 // IPC
    | 0x1000_0000 // user
    | 0x2000_0000 // pid
    | 0x4000_0000; // network
const THREAD: u64 = 0x0001_0000;

/// The filters, to be applied in this order. `connects`: the decky has peers.
///
/// # Errors
/// When this processor is one the filter compiler does not know.
pub(super) fn programs(connects: bool) -> anyhow::Result<[BpfProgram; 2]> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|e| anyhow::anyhow!("{e}"))
        .context("system-call filter")?;
    // Its arguments lie in memory where a filter cannot look. "Not there" makes the C
    // library use clone, whose flags are in a register.
    let absent = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(number(libc::ENOSYS)),
        architecture,
    )?;
    let listed = SeccompFilter::new(
        rules(connects)?,
        SeccompAction::Errno(number(libc::EPERM)),
        SeccompAction::Allow,
        architecture,
    )?;
    Ok([absent.try_into()?, listed.try_into()?])
}

fn number(errno: i32) -> u32 {
    errno.unsigned_abs()
}

/// System calls with, for some, the arguments that are allowed; several rules of one
/// call are alternatives.
fn rules(connects: bool) -> anyhow::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = PLAIN
        .iter()
        .chain(OLD)
        .map(|call| (*call, vec![]))
        .collect();
    if connects {
        rules.insert(libc::SYS_connect, vec![]);
    }
    let mut sockets = Vec::new();
    for domain in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            sockets.push(rule(&[
                (0, SeccompCmpOp::Eq, u64::from(number(domain))),
                (1, SeccompCmpOp::MaskedEq(0xf), u64::from(number(kind))),
            ])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    rules.insert(
        libc::SYS_socketpair,
        vec![rule(&[(
            0,
            SeccompCmpOp::Eq,
            u64::from(number(libc::AF_UNIX)),
        )])?],
    );
    // Threads, not processes.
    rules.insert(
        libc::SYS_clone,
        vec![rule(&[(
            0,
            SeccompCmpOp::MaskedEq(THREAD | NAMESPACES),
            THREAD,
        )])?],
    );
    // Nothing that could be run is mapped any more.
    let not_executable = [(
        2,
        SeccompCmpOp::MaskedEq(u64::from(number(libc::PROT_EXEC))),
        0,
    )];
    rules.insert(libc::SYS_mmap, vec![rule(&not_executable)?]);
    rules.insert(libc::SYS_mprotect, vec![rule(&not_executable)?]);
    // Naming a thread or a mapping.
    rules.insert(
        libc::SYS_prctl,
        [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA]
            .into_iter()
            .map(|option| rule(&[(0, SeccompCmpOp::Eq, u64::from(number(option)))]))
            .collect::<anyhow::Result<_>>()?,
    );
    rules.insert(
        libc::SYS_ioctl,
        [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD]
            .into_iter()
            .map(|request| rule(&[(1, SeccompCmpOp::Eq, request)]))
            .collect::<anyhow::Result<_>>()?,
    );
    // Its own limits, and a signal to itself (how a failed assertion ends).
    rules.insert(
        libc::SYS_prlimit64,
        vec![rule(&[(0, SeccompCmpOp::Eq, 0)])?],
    );
    rules.insert(
        libc::SYS_tgkill,
        vec![rule(&[(
            0,
            SeccompCmpOp::Eq,
            u64::from(std::process::id()),
        )])?],
    );
    Ok(rules)
}

fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> anyhow::Result<SeccompRule> {
    let conditions = conditions
        .iter()
        .map(|(argument, operator, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
        })
        .collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_is_not_on_the_list() {
        let without = rules(false).unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_chroot,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_kill,
            libc::SYS_connect,
            libc::SYS_seccomp,
            libc::SYS_capset,
            libc::SYS_setuid,
            libc::SYS_open_by_handle_at,
        ] {
            assert!(!without.contains_key(&call), "{call}");
        }
        assert!(rules(true).unwrap().contains_key(&libc::SYS_connect));
    }

    #[test]
    fn the_filters_compile() {
        for program in programs(true)
            .unwrap()
            .iter()
            .chain(&programs(false).unwrap())
        {
            assert!(!program.is_empty());
        }
    }
}
