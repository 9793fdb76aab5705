//! The life of the Debian package on a booted host: fresh, changed, upgraded, removed,
//! purged; with the default names and with the operator's own.

use std::time::Instant;

use crate::host::Host;
use crate::installed::{self, CUSTOM, DEFAULT, WORKERS};
use crate::package::{lay, packages};
use crate::{logs, polkit};

/// Installs a package that lies inside the root.
fn install(host: &Host, package: &str, environment: &str) -> String {
    host.sh(&format!(
        "{environment} apt-get install -y --reinstall --allow-downgrades {package}"
    ))
    .ok()
}

fn remove(host: &Host, how: &str) -> String {
    let text = host.sh(&format!("apt-get {how} -y decnet")).ok();
    for worker in WORKERS {
        let state = host
            .sh(&format!("systemctl is-active {}", installed::unit(worker)))
            .text;
        assert_ne!(state.trim(), "active", "{worker} still runs");
    }
    let alive = host.sh("pgrep -l decnet").text;
    assert_eq!(alive, "", "processes left");
    text
}

/// The main processes, to tell who was restarted.
fn started(host: &Host) -> Vec<(&'static str, String)> {
    WORKERS
        .iter()
        .map(|worker| {
            let unit = installed::unit(worker);
            let pid = host.sh(&format!("systemctl show -p MainPID --value {unit}"));
            (*worker, pid.ok())
        })
        .collect()
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn deb_from_install_to_purge() {
    let package = packages();
    let mut host = Host::booted();
    let new = lay(&host, &package.deb);
    let old = lay(&host, &package.old_deb);
    let before = installed::snapshot(&host);

    host.step("a fresh install comes up", |host| {
        let began = Instant::now();
        let said = install(host, &new, "");
        assert!(!said.contains("[FAIL]"), "{said}");
        installed::await_ready(host);
        let seconds = began.elapsed().as_secs_f32();
        installed::check(host, &DEFAULT);
        measure(host, seconds);
        assert!(host.sh("dpkg --verify decnet").ok().is_empty());
    });
    host.step(
        "members of the group may drive the units and nothing else",
        polkit::check,
    );
    host.step("logs rotate while workers write", logs::check);
    host.step("a second init changes nothing", |host| {
        let times = "find /etc /var/lib/decnet /opt -newermt '2000-01-01' -path '*decnet*' ! -name '*.db*' -printf '%p %T@\\n' | sort";
        let (files, processes) = (host.sh(times).ok(), started(host));
        let said = host.sh("decnet init").ok();
        assert!(!said.contains("[ OK ]") && !said.contains("[FAIL]"), "{said}");
        assert_eq!(files, host.sh(times).ok());
        assert_eq!(processes, started(host));
    });
    host.step("a reinstall keeps everything as it is", |host| {
        install(host, &new, "");
        installed::check(host, &DEFAULT);
    });
    host.step("a removal takes the units and keeps data, configuration and account", |host| {
        host.sh("echo '# mine' >>/etc/decnet/decnet.ini; echo x >/var/lib/decnet/keepsake").ok();
        remove(host, "remove");
        let units = host.sh("ls /etc/systemd/system | grep decnet").text;
        assert_eq!(units, "", "units left");
        host.sh("grep -q '# mine' /etc/decnet/decnet.ini && test -e /var/lib/decnet/keepsake && getent passwd decnet").ok();
        let leftovers = host.sh("find /etc -name '*decnet*' ! -path '/etc/decnet*'").ok();
        assert_eq!(leftovers, "");
    });
    host.step("an install after a removal finds its data again", |host| {
        install(host, &old, "");
        installed::check(host, &DEFAULT);
        host.sh("grep -q '# mine' /etc/decnet/decnet.ini && test -e /var/lib/decnet/keepsake")
            .ok();
    });
    host.step("an upgrade restarts what ran, keeps edits and what was off", |host| {
        host.sh("systemctl stop decnet-ingester.service; systemctl disable decnet-ingester.service").ok();
        host.sh("sed -i 's/^RestartSec=5/RestartSec=7/' /etc/systemd/system/decnet-api.service; systemctl daemon-reload").ok();
        let earlier = started(host);
        let said = install(host, &new, "");
        assert!(said.contains(".decnet-new"), "the kept edit is named: {said}");
        for (now, then) in started(host).into_iter().zip(earlier) {
            let stopped = now.0 == "ingester";
            assert_eq!(now == then, stopped, "{}: {} then {}", now.0, then.1, now.1);
        }
        let off = host.sh("systemctl is-active decnet-ingester.service; systemctl is-enabled decnet-ingester.service").text;
        assert_eq!(off, "inactive\ndisabled\n");
        let unit = "/etc/systemd/system/decnet-api.service";
        host.sh(&format!("grep -q '^RestartSec=7' {unit} && grep -q '^TimeoutStopSec=15' {unit}.decnet-new && grep -q '^TimeoutStopSec=16' {unit}")).ok();
        host.sh("grep -q '^TimeoutStopSec=15' /etc/systemd/system/decnet-bus.service").ok();
        host.sh(&format!("systemctl start decnet-ingester.service; systemctl is-active {}", installed::units())).ok();
    });
    host.step("an upgrade leaves a stopped fleet stopped", |host| {
        host.sh("systemctl stop decnet.target").ok();
        install(host, &old, "");
        let state = host
            .sh(&format!(
                "systemctl is-active decnet.target {}",
                installed::units()
            ))
            .text;
        assert!(state.lines().all(|l| l == "inactive"), "{state}");
    });
    host.step("a purge leaves nothing", |host| {
        remove(host, "purge");
        installed::assert_same(&before, &installed::snapshot(host));
    });
    host.finish();
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn deb_with_the_operators_own_choices() {
    let package = packages();
    let mut host = Host::booted();
    let new = lay(&host, &package.deb);
    let old = lay(&host, &package.old_deb);
    let before = installed::snapshot(&host);

    host.step(
        "choices that cannot be are refused before anything is written",
        |host| {
            let said = host.sh(&format!(
                "DECNET_USER=root DECNET_INSTALL_DIR=relative apt-get install -y {new}"
            ));
            assert_ne!(said.code, 0, "{}", said.text);
            assert!(
                said.text.contains("root") && said.text.contains("relative"),
                "{}",
                said.text
            );
            host.sh("test ! -e /etc/systemd/system/decnet.target && test ! -e /var/lib/decnet")
                .ok();
            remove(host, "purge");
            installed::assert_same(&before, &installed::snapshot(host));
        },
    );
    host.step("policy-rc.d is obeyed", |host| {
        host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
        host.sh("chmod 755 /usr/sbin/policy-rc.d").ok();
        let said = install(host, &old, "");
        assert!(said.contains("policy-rc.d"), "{said}");
        let state = host
            .sh(&format!("systemctl is-active {}", installed::units()))
            .text;
        assert!(state.lines().all(|l| l == "inactive"), "{state}");
        assert_eq!(
            host.sh("systemctl is-enabled decnet.target").ok().trim(),
            "enabled"
        );
        host.sh("rm /usr/sbin/policy-rc.d").ok();
        remove(host, "purge");
        installed::assert_same(&before, &installed::snapshot(host));
    });
    host.step("the preseeded choices are used everywhere", |host| {
        host.write(
            "/etc/decnet/init.env",
            &format!(
                "DECNET_USER={}\nDECNET_GROUP={}\nDECNET_INSTALL_DIR={}\n",
                CUSTOM.user, CUSTOM.group, CUSTOM.dir
            ),
        );
        install(host, &old, "DECNET_NO_START=1");
        let state = host.sh(&format!("systemctl is-active {}", installed::units())).text;
        assert!(state.lines().all(|l| l == "inactive"), "DECNET_NO_START: {state}");
        host.sh("systemctl start decnet.target").ok();
        installed::check(host, &CUSTOM);
        host.sh("! getent passwd decnet && ! getent group decnet && test ! -e /opt/decnet").ok();
        let strangers = host
            .sh("grep -rnE '(User|Group|su|isInGroup\\(\")[= ]*decnet\\b' /etc/systemd/system /etc/logrotate.d /etc/polkit-1/rules.d /etc/tmpfiles.d /etc/sysusers.d")
            .text;
        assert_eq!(strangers, "");
    });
    host.step("an upgrade repeats the choices", |host| {
        host.sh("rm /etc/decnet/init.env").ok();
        install(host, &new, "");
        installed::check(host, &CUSTOM);
    });
    host.step("a worker that cannot start neither loops nor breaks the installation", |host| {
        host.sh("systemctl stop decnet.target; printf '[api]\\nprot = 1\\n' >/etc/decnet/decnet.ini").ok();
        host.sh("systemctl reset-failed; systemctl start decnet.target").ok();
        host.wait_for(
            "a failed api",
            std::time::Duration::from_secs(30),
            "systemctl is-failed decnet-api.service",
        );
        let show = host.sh("systemctl show -p ExecMainStatus -p NRestarts decnet-api.service").ok();
        assert!(show.contains("ExecMainStatus=78") && show.contains("NRestarts=0"), "{show}");
        let log = host.sh("tail -n 5 /var/log/decnet/decnet.api.log").ok();
        assert!(log.contains("/etc/decnet/decnet.ini") && log.contains("prot"), "{log}");
        install(host, &old, "");
        assert_eq!(host.sh("dpkg-query -W -f '${Status}' decnet").ok(), "install ok installed");
        host.sh("printf '' >/etc/decnet/decnet.ini; systemctl reset-failed; systemctl restart decnet.target").ok();
        installed::await_ready(host);
    });
    host.step("a purge after a removal leaves nothing", |host| {
        remove(host, "remove");
        host.sh(&format!(
            "getent passwd {} && test -d {}",
            CUSTOM.user, CUSTOM.dir
        ))
        .ok();
        remove(host, "purge");
        installed::assert_same(&before, &installed::snapshot(host));
    });
    host.step("an account that was there before survives a purge", |host| {
        host.sh("groupadd --system decnet; useradd --system -g decnet -d /nonexistent -s /usr/sbin/nologin decnet").ok();
        install(host, &new, "");
        installed::await_ready(host);
        remove(host, "purge");
        host.sh("getent passwd decnet && getent group decnet").ok();
    });
    host.finish();
}

/// What an installation costs, as a table.
fn measure(host: &Host, seconds: f32) {
    let package = packages();
    let mib =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().len() as f64 / f64::from(1 << 20);
    let installed: f64 = host
        .sh("dpkg-query -W -f '${Installed-Size}' decnet")
        .ok()
        .trim()
        .parse()
        .unwrap();
    println!(
        "\n  {:<34}{:>10}",
        "install to every unit ready, s",
        format!("{seconds:.1}")
    );
    println!("  {:<34}{:>10.1}", "deb, MiB", mib(&package.deb));
    println!("  {:<34}{:>10.1}", "rpm, MiB", mib(&package.rpm));
    println!("  {:<34}{:>10.1}", "installed, MiB", installed / 1024.0);
    let scores = installed::exposure(host);
    let mut total = 0;
    println!("  {:<34}{:>10}{:>10}", "worker", "PSS, KiB", "exposure");
    for ((worker, kib), (_, score)) in installed::memory(host).into_iter().zip(scores) {
        total += kib;
        println!("  {worker:<34}{kib:>10}{score:>10.1}");
    }
    println!("  {:<34}{total:>10}\n", "all workers");
}
