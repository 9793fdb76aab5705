//! One attack from end to end on an installed host: deckies under the reconciler, real
//! clients, and everything they did in the record within two seconds.

use std::time::{Duration, Instant};

use crate::host::Host;
use crate::installed;
use crate::package::{have, lay, packages};

/// Addresses of the deckies, as `decnet deckies --json` tells them.
fn addresses(host: &Host) -> Vec<String> {
    let text = host.sh("decnet deckies --json").ok();
    let rows: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    rows.as_array()
        .unwrap()
        .iter()
        .filter_map(|d| d.get("ip")?.as_str().map(str::to_owned))
        .collect()
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn attack_is_recorded() {
    if !["redis-cli", "curl", "ftp"].into_iter().all(have) {
        return;
    }
    let mut host = Host::booted();
    let deb = lay(&host, &packages().deb);
    let said = host.sh(&format!("apt-get install -y {deb}")).ok();
    installed::await_ready(&host);
    host.step(
        "the install says where the dashboard is, and it is there",
        |host| {
            assert!(said.contains("http://127.0.0.1:8080/"), "{said}");
            let page = host.in_network("curl -sS http://127.0.0.1:8080/login").ok();
            assert!(page.contains("name=\"username\""), "{page}");
        },
    );
    host.step("two deckies come up", |host| {
        host.sh("decnet deploy --runtime local --deckies 2 --services redis,http,ftp")
            .ok();
        assert_eq!(addresses(host).len(), 2);
        installed::nothing_public(host);
    });
    host.step("what clients do is on record within two seconds", |host| {
        let all = addresses(host);
        let (first, second) = (&all[0], &all[1]);
        host.in_network(&format!("redis-cli -h {first} auth hunter2-redis"))
            .ok();
        let page = host
            .in_network(&format!("curl -sS -u admin:hunter2-http http://{second}/"))
            .text;
        assert!(!page.is_empty(), "an answer of some kind");
        host.in_network(&format!(
            "printf 'user anna hunter2-ftp\nls\nquit\n' | ftp -n {first}"
        ));
        let done = Instant::now();
        let patience = Duration::from_secs(2);
        for (what, line) in [
            ("redis event", "decnet logs --json | grep -q redis"),
            ("http event", "decnet logs --json | grep -q http"),
            ("ftp event", "decnet logs --json | grep -q ftp"),
            (
                "redis password",
                "decnet credentials --json | grep -q hunter2-redis",
            ),
            (
                "http password",
                "decnet credentials --json | grep -q hunter2-http",
            ),
            (
                "ftp password",
                "decnet credentials --json | grep -q hunter2-ftp",
            ),
        ] {
            host.wait_for(what, patience, line);
        }
        println!(
            "        on record after {:.2} s",
            done.elapsed().as_secs_f32()
        );
    });
    host.step(
        "a native decky answers the LAN, started by the unit",
        native,
    );
    host.step("deckies outlive an upgrade and go with a removal", |host| {
        let pids = host.sh("pgrep -f '[d]ecnet decky' | sort").ok();
        host.sh("systemctl restart decnet-reconciler.service").ok();
        installed::await_ready(host);
        assert_eq!(pids, host.sh("pgrep -f '[d]ecnet decky' | sort").ok());
        host.sh("apt-get purge -y decnet").ok();
        assert_eq!(host.sh("pgrep -l decnet").text, "");
        host.sh("test ! -e /run/decnet && test ! -e /var/lib/decnet")
            .ok();
    });
    host.finish();
}

/// Fetches the native decky's page from the far end of its LAN.
const PAGE: &str = "ip netns exec far timeout 5 bash -c 'exec 3<>/dev/tcp/10.9.0.7/80; \
     printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'";

/// A decky on a LAN of namespaces: the installed unit makes it, with nothing but what its
/// template allows.
fn native(host: &Host) {
    host.sh(
        "ip netns add far && ip link add lan0 type veth peer name far0 netns far \
         && ip addr add 10.9.0.1/24 dev lan0 && ip link set lan0 up \
         && ip -n far addr add 10.9.0.2/24 dev far0 && ip -n far link set far0 up",
    )
    .ok();
    host.sh(
        "printf '[files]\nip = 10.9.0.7\nservices = http\narchetype = windows-server\n' >/root/lan.ini \
         && decnet deploy --runtime native --interface lan0 --config /root/lan.ini",
    )
    .ok();
    let page = host.sh(PAGE).ok();
    assert!(page.contains("Microsoft-IIS/10.0"), "{page}");
    host.wait_for(
        "the attacker's address on record",
        Duration::from_secs(2),
        "decnet logs --json | grep -q '10\\.9\\.0\\.2'",
    );
    let status = host
        .sh("cat /proc/$(cat /run/decnet/deckies/files/pid)/status")
        .ok();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:")),
        ("1".into(), "2".into())
    );
    let own: u32 = field("Uid:").parse().unwrap();
    assert!(own > 1_000_000, "a user of its own: {own}");
    // What it was told is its own and the service's to read, nobody else's.
    let modes = host
        .sh("stat -c '%a %G' /run/decnet/deckies/files /run/decnet/deckies/files/decky.json")
        .ok();
    assert_eq!(modes.trim(), "2770 decnet\n640 decnet", "{modes}");
    host.sh("systemctl kill -s KILL --kill-whom=main decnet-reconciler.service")
        .ok();
    host.sh("kill -9 $(cat /run/decnet/deckies/files/pid)").ok();
    host.wait_for(
        "the decky back after both were killed",
        Duration::from_secs(40),
        PAGE,
    );
    host.sh("decnet teardown --id files").ok();
    host.sh("ip link del lan0; ip netns del far").ok();
}
