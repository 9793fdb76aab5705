//! What holds on a host where DECNET is installed and running, whichever package
//! brought it there and whatever names were chosen.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::host::Host;

/// The workers of the registry, read from the README of truth: the units themselves.
pub(crate) const WORKERS: &[&str] = &[
    "bus",
    "api",
    "collector",
    "ingester",
    "mutator",
    "reconciler",
    "webhook",
    "canary",
    "web",
];

/// The operator's choices.
pub(crate) struct Names {
    pub(crate) user: &'static str,
    pub(crate) group: &'static str,
    pub(crate) dir: &'static str,
}

pub(crate) const DEFAULT: Names = Names {
    user: "decnet",
    group: "decnet",
    dir: "/opt/decnet",
};

/// A custom user of another name, a group with a dash, a directory elsewhere.
pub(crate) const CUSTOM: Names = Names {
    user: "trapkeeper",
    group: "trap-ops",
    dir: "/srv/traps",
};

pub(crate) fn unit(worker: &str) -> String {
    format!("decnet-{worker}.service")
}

/// All worker units, as words for a command line.
pub(crate) fn units() -> String {
    let units: Vec<String> = WORKERS.iter().map(|w| unit(w)).collect();
    units.join(" ")
}

/// Waits until every worker is active. Units are Type=notify, so active means that the
/// worker itself said READY=1.
pub(crate) fn await_ready(host: &Host) {
    let all = units();
    host.wait_for(
        "active workers",
        Duration::from_secs(60),
        &format!("systemctl is-active --quiet decnet.target {all} || {{ systemctl is-active {all}; false; }}"),
    );
}

/// Everything that must be true of a running installation.
pub(crate) fn check(host: &Host, names: &Names) {
    await_ready(host);
    for worker in WORKERS {
        let show = host
            .sh(&format!(
                "systemctl show -p Type -p User -p Group -p StatusText -p NRestarts -p UnitFileState {}",
                unit(worker)
            ))
            .ok();
        for line in [
            "Type=notify",
            "NRestarts=0",
            "UnitFileState=enabled",
            &format!("User={}", names.user),
            &format!("Group={}", names.group),
        ] {
            assert!(
                show.lines().any(|l| l == line),
                "{worker}: {line} in {show}"
            );
        }
        // A worker says in words what it does; an empty status was never notified.
        assert!(!show.contains("StatusText=\n"), "{worker}: {show}");
    }
    let failed = host.sh("systemctl --failed --plain --no-legend").ok();
    assert_eq!(failed.trim(), "", "failed units");
    assert!(
        host.sh("systemctl is-enabled decnet.target")
            .ok()
            .contains("enabled")
    );
    owners(host, names);
    nothing_public(host);
}

/// Owners and modes of what is on disk.
fn owners(host: &Host, names: &Names) {
    let Names { user, group, dir } = names;
    let wanted = [
        (format!("{user}:{group} 750"), "/var/lib/decnet"),
        (format!("{user}:{group} 750"), "/var/log/decnet"),
        (format!("{user}:{group} 755"), "/run/decnet"),
        (format!("{user}:{group} 660"), "/run/decnet/bus.sock"),
        (
            format!("{user}:{group} 640"),
            "/var/log/decnet/decnet.bus.log",
        ),
        (
            format!("{user}:{group} 640"),
            "/var/log/decnet/decnet.api.log",
        ),
        (format!("root:{group} 640"), "/etc/decnet/decnet.ini"),
        (
            format!("{user}:{group} 600"),
            "/var/lib/decnet/admin-password",
        ),
        (
            "root:root 644".to_owned(),
            "/var/lib/decnet/install.manifest",
        ),
        (
            "root:root 644".to_owned(),
            "/etc/systemd/system/decnet-bus.service",
        ),
        ("root:root 644".to_owned(), "/etc/logrotate.d/decnet"),
        (format!("{user}:{group} 755"), dir),
    ];
    let mut wrong = Vec::new();
    for (rights, path) in wanted {
        let said = host.sh(&format!("stat -c '%U:%G %a' {path}")).text;
        if said.trim() != rights {
            wrong.push(format!("{path}: {} instead of {rights}", said.trim()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nothing of ours for everybody to write.
    let open = host
        .sh("find /etc/decnet /var/lib/decnet /var/log/decnet /run/decnet -perm -002 ! -type l")
        .ok();
    assert_eq!(open, "");
    let account = host.sh(&format!("getent passwd {user}")).ok();
    assert!(
        account.contains(&format!(":{dir}:")) && account.contains("nologin"),
        "{account}"
    );
}

/// Where calls of canary tokens are answered: that is for others by its nature.
const CANARY: &str = ":8088";

/// No socket but that one waits for anybody but this host.
pub(crate) fn nothing_public(host: &Host) {
    let sockets = host
        .sh("ss --no-header --listening --tcp --udp --numeric --processes")
        .ok();
    for line in sockets.lines() {
        let address = line.split_whitespace().nth(4).unwrap_or_default();
        assert!(
            address.starts_with("127.")
                || address.starts_with("[::1]")
                || address.ends_with(CANARY),
            "reachable from outside: {line}"
        );
    }
}

/// The installed units against the exposure they may have.
pub(crate) fn exposure(host: &Host) -> Vec<(String, f32)> {
    let mut scores = Vec::new();
    for worker in WORKERS {
        let unit = unit(worker);
        let text = host
            .sh(&format!("systemd-analyze security --no-pager {unit}"))
            .ok();
        let line = text
            .lines()
            .find(|l| l.contains("Overall exposure level"))
            .unwrap();
        let score: f32 = line
            .split_once(&format!("{unit}: "))
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .unwrap()
            .parse()
            .unwrap();
        // Capabilities are the privilege that the higher limit is for.
        let held = host
            .sh(&format!(
                "systemctl show -p CapabilityBoundingSet --value {unit}"
            ))
            .ok();
        let limit = match held.trim() {
            "" => 1.5,
            // Whoever makes namespaces and interfaces and starts processes as other users
            // cannot forbid itself all of that; the template gives each reason.
            held if held.contains("cap_net_admin") => 3.3,
            _ => 2.0,
        };
        assert!(score <= limit, "{unit}: exposure {score} > {limit}\n{text}");
        scores.push((unit, score));
    }
    scores
}

/// Proportional memory of each worker, in KiB.
pub(crate) fn memory(host: &Host) -> Vec<(String, u32)> {
    WORKERS
        .iter()
        .map(|worker| {
            let kib = host
                .sh(&format!(
                    "sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' /proc/$(systemctl show -p MainPID --value {})/smaps_rollup",
                    unit(worker)
                ))
                .ok();
            ((*worker).to_owned(), kib.trim().parse().unwrap())
        })
        .collect()
}

/// A listing of everything that an installation could leave behind: paths with owner and
/// mode, and the account files. What the package managers and the journal keep for
/// themselves is not looked at.
pub(crate) fn snapshot(host: &Host) -> String {
    host.sh(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
         -o -path /var/tmp -o -path /root -o -path /var/lib/dpkg -o -path /var/lib/apt \
         -o -path /var/cache -o -path /var/log/apt -o -path /var/log/journal \
         -o -path /var/lib/rpm -o -path /var/lib/dnf -o -path '/var/log/dnf*' \
         -o -path '/var/log/hawkey*' -o -path '/etc/*-' -o -path /etc/.pwd.lock \
         -o -path /var/lib/systemd/random-seed -o -path '/var/log/dpkg.log' \
         -o -path '/var/log/[bw]tmp' -o -path /var/log/lastlog -o -path /var/log/faillog \
         -o -path /var/lib/logrotate/status -o -path '/var/lib/systemd/timers/stamp-[!d]*' \
         -o -path '/var/lib/systemd/deb-systemd*' -o -path /var/lib/systemd/catalog \\) -prune \
         -o -printf '%y %m %u:%g %p\\n' | sort; \
         sort /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/subuid /etc/subgid; \
         ls -d /run/decnet 2>/dev/null",
    )
    .text
}

/// Fails with the lines that two snapshots do not share.
#[track_caller]
pub(crate) fn assert_same(before: &str, after: &str) {
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) =
        (before.lines().collect(), after.lines().collect());
    let left: Vec<_> = after.difference(&before).collect();
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(
        left.is_empty() && lost.is_empty(),
        "left behind: {left:#?}\nlost: {lost:#?}"
    );
}
