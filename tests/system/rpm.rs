//! The life of the rpm package: real rpm and dnf in the same root, with a database of
//! their own and one stub that provides what the package requires. dnf reports success
//! even when a scriptlet fails, so every transaction's words are searched.

use crate::host::Host;
use crate::installed::{self, DEFAULT};
use crate::package::{have, lay, packages};

const STUB: &str = "\
Name: stub
Version: 1
Release: 1
Summary: Stands for the distribution
License: none
BuildArch: noarch
Provides: /bin/sh systemd logrotate shadow-utils
%description
Stands for the distribution.
%files
";

/// Builds the stub on this side and lays it into the root.
fn stub(host: &Host) -> String {
    host.write("/root/stub.spec", STUB);
    let top = host.path("/root/stub");
    let made = std::process::Command::new("rpmbuild")
        .arg("-bb")
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .arg(host.path("/root/stub.spec"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    "/root/stub/RPMS/noarch/stub-1-1.noarch.rpm".to_owned()
}

fn dnf(host: &Host, what: &str) -> String {
    let said = host.sh(&format!(
        "dnf --assumeyes --cacheonly --disablerepo='*' --nogpgcheck {what}"
    ));
    for word in [
        "scriptlet failed",
        "Error in ",
        "error:",
        "warning: %",
        "[FAIL]",
    ] {
        assert!(!said.text.contains(word), "{word}: {}", said.text);
    }
    said.ok()
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn rpm_from_install_to_purge() {
    if !have("rpmbuild") {
        return;
    }
    let package = packages();
    let mut host = Host::booted();
    let (new, old) = (lay(&host, &package.rpm), lay(&host, &package.old_rpm));
    let stub = stub(&host);
    host.sh("rpm --initdb").ok();
    dnf(&host, &format!("install {stub}"));
    let before = installed::snapshot(&host);

    host.step("a fresh install comes up", |host| {
        dnf(host, &format!("install {old}"));
        installed::check(host, &DEFAULT);
        assert_eq!(host.sh("rpm --verify decnet").text, "");
    });
    host.step("an upgrade restarts what ran and keeps what was off", |host| {
        host.sh("systemctl stop decnet-ingester.service; systemctl disable decnet-ingester.service").ok();
        let pid = host.sh("systemctl show -p MainPID decnet-bus.service").ok();
        dnf(host, &format!("upgrade {new}"));
        assert_ne!(pid, host.sh("systemctl show -p MainPID decnet-bus.service").ok());
        let off = host.sh("systemctl is-active decnet-ingester.service; systemctl is-enabled decnet-ingester.service").text;
        assert_eq!(off, "inactive\ndisabled\n");
        host.sh("grep -q '^TimeoutStopSec=15' /etc/systemd/system/decnet-bus.service").ok();
        host.sh("systemctl enable --now decnet-ingester.service").ok();
    });
    host.step("a reinstall keeps everything as it is", |host| {
        dnf(host, &format!("reinstall {new}"));
        installed::check(host, &DEFAULT);
    });
    host.step("an erase keeps data and account and says so", |host| {
        let said = dnf(host, "remove decnet");
        assert!(said.contains("--deinit --purge"), "{said}");
        host.sh("test -d /var/lib/decnet && getent passwd decnet")
            .ok();
        assert_eq!(
            host.sh("ls /etc/systemd/system | grep decnet; pgrep -l decnet")
                .text,
            ""
        );
    });
    host.step("a purge before the erase leaves nothing", |host| {
        dnf(host, &format!("install {new}"));
        installed::await_ready(host);
        host.sh("decnet init --deinit --purge").ok();
        dnf(host, "remove decnet");
        installed::assert_same(&before, &installed::snapshot(host));
    });
    host.finish();
}
