//! Installing where nothing runs: an image being built, a plain chroot.

use crate::host::Host;
use crate::installed;
use crate::package::{lay, packages};

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn deb_in_a_chroot_installs_starts_nothing_and_purges() {
    let mut host = Host::new();
    let deb = lay(&host, &packages().deb);
    let before = installed::snapshot(&host);
    host.step("it installs", |host| {
        let said = host.sh(&format!("apt-get install -y {deb}")).ok();
        assert!(!said.contains("[FAIL]"), "{said}");
        host.sh("test -e /etc/systemd/system/decnet.target && test -e /etc/systemd/system/multi-user.target.wants/decnet.target").ok();
        host.sh("getent passwd decnet && test -d /var/lib/decnet").ok();
    });
    host.step("it purges", |host| {
        host.sh("apt-get purge -y decnet").ok();
        installed::assert_same(&before, &installed::snapshot(host));
    });
    host.finish();
}
