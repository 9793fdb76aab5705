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
    host.sh(&format!("apt-get install -y {deb}")).ok();
    installed::await_ready(&host);
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
            "printf 'user anna hunter2-ftp\\nls\\nquit\\n' | ftp -n {first}"
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
    host.step("deckies outlive an upgrade and go with a removal", |host| {
        let pids = host.sh("pgrep -f 'decnet decky' | sort").ok();
        host.sh("systemctl restart decnet-reconciler.service").ok();
        installed::await_ready(host);
        assert_eq!(pids, host.sh("pgrep -f 'decnet decky' | sort").ok());
        host.sh("apt-get purge -y decnet").ok();
        assert_eq!(host.sh("pgrep -l decnet").text, "");
        host.sh("test ! -e /run/decnet && test ! -e /var/lib/decnet")
            .ok();
    });
    host.finish();
}
