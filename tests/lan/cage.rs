//! What the process of a decky is allowed, as the kernel says.

use std::fs;
use std::os::unix::fs::MetadataExt;

use decnet::model::{Driver, Family};

use crate::support::{Lan, process_status, skipped};

/// Default of DECNET_UID_BASE.
const UID_BASE: u32 = 1_879_048_192;

#[test]
#[ignore = "needs root; run by make test-lan"]
fn a_decky_runs_under_its_own_user_with_nothing_else() {
    if skipped("a_decky_runs_under_its_own_user_with_nothing_else", &[]) {
        return;
    }
    let lan = Lan::new();
    lan.want("one", 11, Family::Linux, Driver::Macvlan);
    lan.want("two", 12, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    for name in ["one", "two"] {
        let pid = lan.pid(name);
        let uid = UID_BASE + lan.row(name).decky.slot;
        let four = [uid.to_string().as_str(); 4].join("\t");
        assert_eq!(process_status(pid, "Uid"), four);
        assert_eq!(process_status(pid, "Gid"), four);
        assert_eq!(process_status(pid, "Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(process_status(pid, set), "0000000000000000", "{set}");
        }
        assert_eq!(process_status(pid, "NoNewPrivs"), "1");
        assert_eq!(process_status(pid, "Seccomp"), "2");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        for limit in [
            "Max core file size        0 ",
            "Max processes             64 ",
        ] {
            assert!(limits.contains(limit), "{limit}: {limits}");
        }
        // The host's files have no name in there.
        let root = fs::read_link(format!("/proc/{pid}/root")).unwrap();
        assert_eq!(root, lan.dir(name));
        for what in ["user", "net"] {
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{what}")).unwrap();
            assert_ne!(link(&pid.to_string()), link("self"), "{what}");
        }
        let meta = fs::metadata(lan.dir(name)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (uid, 0o2770));
        // What it makes is the service group's too.
        for made in fs::read_dir(lan.dir(name)).unwrap() {
            let made = made.unwrap();
            let meta = made.metadata().unwrap();
            assert_eq!(
                meta.gid(),
                nix::unistd::getegid().as_raw(),
                "{:?}",
                made.path()
            );
            assert!(
                meta.mode() & 0o7 == 0,
                "{:?} {:o}",
                made.path(),
                meta.mode()
            );
        }
    }
    let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", lan.pid("one"))).unwrap();
    for line in memory
        .lines()
        .filter(|l| l.starts_with("Pss:") || l.starts_with("Private"))
    {
        println!("{line}");
    }
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn limits_are_those_of_a_control_group_where_there_are_any() {
    let test = "limits_are_those_of_a_control_group_where_there_are_any";
    if skipped(test, &[]) {
        return;
    }
    let version_1 = fs::metadata("/sys/fs/cgroup/pids/cgroup.procs").is_ok();
    let version_2 = fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
    if !version_1 && !version_2 {
        println!("skipped: {test}: no control groups on this host");
        return;
    }
    let lan = Lan::new();
    lan.want("limited", 11, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    let pid = lan.pid("limited");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains("/decnet/limited"), "{groups}");
    let root = if version_2 {
        "/sys/fs/cgroup"
    } else {
        "/sys/fs/cgroup/pids"
    };
    let most = fs::read_to_string(format!("{root}/decnet/limited/pids.max")).unwrap();
    assert_eq!(most.trim(), "32");
    lan.unwant("limited");
    lan.reconcile();
    assert!(fs::metadata(format!("{root}/decnet/limited")).is_err());
}
