//! The polkit rule under the real polkit: members of the service group may start, stop,
//! restart and reload exactly the units of the registry and the target.

use crate::host::Host;
use crate::installed::{WORKERS, unit};

pub(crate) fn check(host: &Host) {
    let asked = |user: &str, what: &str| {
        let said = host.sh(&format!(
            "runuser -u {user} -- systemctl --no-ask-password {what}"
        ));
        (said.code, said.text)
    };
    for worker in WORKERS.iter().rev() {
        let (code, text) = asked("decnet", &format!("restart {}", unit(worker)));
        assert_eq!(code, 0, "restart {worker}: {text}");
    }
    for verb in ["stop", "start"] {
        let (code, text) = asked("decnet", &format!("{verb} decnet.target"));
        assert_eq!(code, 0, "{verb} decnet.target: {text}");
    }
    crate::installed::await_ready(host);

    // Names that look like ours are not ours.
    for name in ["decnet-evil", "xdecnet-bus", "decnet-bus-x", "decnet-busx"] {
        host.write(
            &format!("/run-units/{name}.service"),
            "[Service]\nType=oneshot\nExecStart=/bin/true\n",
        );
    }
    host.sh("mkdir -p /run/systemd/system && mv /run-units/* /run/systemd/system/ && rmdir /run-units && systemctl daemon-reload").ok();
    for what in [
        "start decnet-evil.service",
        "start xdecnet-bus.service",
        "start decnet-bus-x.service",
        "start decnet-busx.service",
        "restart dbus.service",
        "start systemd-tmpfiles-clean.service",
        "enable decnet-bus.service",
        "disable decnet-bus.service",
        "mask decnet-bus.service",
        "kill decnet-bus.service",
        "set-property --runtime decnet-bus.service TasksMax=1",
        "daemon-reload",
        "poweroff",
    ] {
        let (code, text) = asked("decnet", what);
        assert_ne!(code, 0, "{what} was allowed: {text}");
    }
    host.sh("rm /run/systemd/system/*decnet*.service; systemctl daemon-reload")
        .ok();

    host.sh("useradd --no-create-home stranger").ok();
    let (code, text) = asked("stranger", "restart decnet-bus.service");
    // Somebody without the group's membership gains it by nothing but the group.
    host.sh("usermod -aG decnet stranger").ok();
    let (member, said) = asked("stranger", "restart decnet-bus.service");
    host.sh("userdel stranger; rm -f /etc/subuid- /etc/subgid-; sed -i '/^stranger:/d' /etc/subuid /etc/subgid").ok();
    assert_ne!(code, 0, "a stranger may: {text}");
    assert_eq!(member, 0, "a member may not: {said}");
    crate::installed::await_ready(host);
}
