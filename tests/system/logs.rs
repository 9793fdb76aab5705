//! Rotation by the real logrotate, while workers and an ordinary writer append.

use std::time::Duration;

use crate::host::Host;
use crate::installed::await_ready;

pub(crate) fn check(host: &Host) {
    // As a worker's log is written: opened for appending by the service manager, written
    // by the service account. Numbered, so that a lost or doubled line shows.
    host.sh(
        "systemd-run --quiet --unit=numbers --uid=decnet --gid=decnet -p UMask=0027 \
         -p StandardOutput=append:/var/log/decnet/numbers.log \
         /bin/sh -c 'n=0; while [ $n -lt 3000 ]; do n=$((n+1)); echo line $n; sleep 0.001; done'",
    )
    .ok();
    host.sh("chown decnet:decnet /var/log/decnet/numbers.log")
        .ok();
    let running = host.sh("systemctl is-active numbers.service").text;
    assert_eq!(
        running.trim(),
        "active",
        "the writer is done before the rotation"
    );
    host.sh("decnet_log=/var/log/decnet/decnet.bus.log; test -s $decnet_log || echo first >>$decnet_log").ok();
    let said = host
        .sh("logrotate --force --state /root/rotation /etc/logrotate.d/decnet")
        .ok();
    assert!(!said.contains("error"), "{said}");
    host.sh("logrotate --force --state /root/rotation /etc/logrotate.d/decnet")
        .ok();
    host.wait_for(
        "the writer's end",
        Duration::from_secs(60),
        "test \"$(systemctl show -p SubState --value numbers.service)\" = dead || test \"$(systemctl is-active numbers.service)\" = inactive",
    );
    let lines = host
        .sh("cd /var/log/decnet; { zcat numbers.log.*.gz; cat numbers.log.1 numbers.log; } 2>/dev/null")
        .text;
    let mut numbers: Vec<u32> = lines
        .lines()
        .map(|l| {
            l.strip_prefix("line ")
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("torn: {l:?}"))
        })
        .collect();
    let written = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(written, numbers.len(), "doubled lines");
    // copytruncate may lose what comes between its copy and its truncation.
    let lost = 3000 - numbers.len();
    assert!(lost < 30, "{lost} lines lost in two rotations");
    println!("        {lost} of 3000 lines lost in two forced rotations");

    // A worker goes on in the emptied file, at its beginning: O_APPEND leaves no hole.
    host.sh("systemctl restart decnet-bus.service").ok();
    await_ready(host);
    let log = host.sh("head -c 200 /var/log/decnet/decnet.bus.log").ok();
    assert!(!log.is_empty() && !log.contains('\0'), "{log:?}");
    let owner = host
        .sh("stat -c '%U:%G %a' /var/log/decnet/decnet.bus.log /var/log/decnet/decnet.bus.log.1")
        .ok();
    assert_eq!(owner, "decnet:decnet 640\ndecnet:decnet 640\n");

    // The system's own run comes once a day; ours keeps the cap in between.
    let timers = host.sh("systemctl list-timers --no-legend --plain").ok();
    assert!(timers.contains("decnet-logrotate.timer"), "{timers}");
    host.sh(
        "truncate -s 101M /var/log/decnet/decnet.api.log; systemctl start decnet-logrotate.service",
    )
    .ok();
    let size = host.sh("stat -c %s /var/log/decnet/decnet.api.log").ok();
    assert!(
        size.trim().parse::<u64>().unwrap() < 1 << 20,
        "over the cap: {size}"
    );
    // Rotated names are no longer matched: a second run does not rotate the rotated.
    host.sh("logrotate --force --state /root/rotation /etc/logrotate.d/decnet")
        .ok();
    let names = host.sh("ls /var/log/decnet").ok();
    assert!(
        !names.contains(".1.1") && !names.contains(".gz.1"),
        "{names}"
    );
    host.sh("rm -f /var/log/decnet/numbers.log* /root/rotation")
        .ok();
}
