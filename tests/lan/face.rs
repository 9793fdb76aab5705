//! What an attacker on the LAN sees of a decky: MAC, TTL, IPv6, banners, fingerprint.

use std::fmt::Write;

use decnet::model::{Driver, Family};

use crate::support::{Lan, inside, skipped, text, wait_for};

/// TTL of a family's packets.
fn ttl(family: Family) -> &'static str {
    match family {
        Family::Linux | Family::Bsd => "64",
        Family::Windows | Family::WindowsServer => "128",
        Family::Embedded | Family::Cisco => "255",
    }
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn every_family_shows_its_mac_ttl_and_ipv6() {
    let test = "every_family_shows_its_mac_ttl_and_ipv6";
    if skipped(test, &["ping", "curl"]) {
        return;
    }
    let lan = Lan::new();
    let wanted: Vec<_> = (21..)
        .zip(Family::ALL)
        .map(|(last, family)| {
            let persona = lan.want(family.slug(), last, *family, Driver::Macvlan);
            (lan.address(last), *family, persona)
        })
        .collect();
    assert_eq!(
        lan.reconcile().trim(),
        "inserted=6 deleted=0 state_updated=6"
    );
    for (address, family, persona) in &wanted {
        assert_eq!(
            lan.row(family.slug()).decky.last_error,
            None,
            "{family} runs as wanted"
        );
        let ping = lan.seen(&format!("ping -n -c1 -W2 {address}"));
        assert!(
            ping.contains(&format!("ttl={} ", ttl(*family))),
            "{family}: {ping}"
        );
        let neighbour = lan.seen(&format!("ip neigh show {address}"));
        assert!(neighbour.contains(&persona.mac), "{family}: {neighbour}");
        let own = persona.ipv6_link_local();
        let ping = wait_for("answer over IPv6", || {
            let said = lan.seen(&format!("ping -n -6 -c1 -W1 {own}%eth0"));
            said.contains("bytes from").then_some(said)
        });
        assert!(
            ping.contains(&format!("ttl={} ", ttl(*family))),
            "{family}: {ping}"
        );
        let neighbour = lan.seen(&format!("ip neigh show {own}"));
        assert!(neighbour.contains(&persona.mac), "{family}: {neighbour}");
        let page = lan.attack(&format!(
            "curl -s -m5 -o /dev/null -w '%{{http_code}}' http://{address}/"
        ));
        assert_eq!(page.stdout.len(), 3, "{family}: a page");
        // A port where nothing listens answers at once, as a machine does.
        let closed = lan.seen(&format!("curl -m5 http://{address}:9/"));
        assert!(
            closed.to_lowercase().contains("refused") || closed.contains("connect to"),
            "{closed}"
        );
        assert!(!closed.contains("timed out"), "{closed}");
    }
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn every_driver_answers_or_says_why_not() {
    let test = "every_driver_answers_or_says_why_not";
    if skipped(test, &["ping"]) {
        return;
    }
    let lan = Lan::new();
    lan.want("shared-mac", 31, Family::Linux, Driver::Ipvlan);
    lan.want("no-bridge", 32, Family::Linux, Driver::Bridge);
    lan.reconcile();
    let row = lan.row("shared-mac").decky;
    match row.last_error {
        None => {
            let ping = lan.seen(&format!("ping -n -c1 -W2 {}", lan.address(31)));
            assert!(ping.contains("ttl=64"), "{ping}");
        }
        Some(why) => {
            assert!(
                why.contains("this kernel has no ipvlan; use macvlan or bridge"),
                "{why}"
            );
            println!("skipped: {test}: ipvlan: {why}");
        }
    }
    let why = lan.row("no-bridge").decky.last_error.unwrap();
    assert!(
        why.contains("not a bridge; name one, or use macvlan"),
        "{why}"
    );
}

/// What a program prints in the host's own namespace.
fn on_host(line: &str) -> String {
    let ran = std::process::Command::new("sh").args(["-c", line]).output();
    String::from_utf8(ran.unwrap().stdout).unwrap()
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn a_decky_on_a_bridge_has_its_own_mac_and_gets_no_further_than_others() {
    let test = "a_decky_on_a_bridge_has_its_own_mac_and_gets_no_further_than_others";
    if skipped(test, &["ping", "curl"]) {
        return;
    }
    let lan = Lan::new().bridged();
    let persona = lan.want("port", 31, Family::Windows, Driver::Bridge);
    lan.reconcile();
    let address = lan.address(31);
    // From the host: a container engine may have it drop what crosses bridges.
    let ping = on_host(&format!("ping -n -c1 -W2 {address}"));
    assert!(ping.contains("ttl=128"), "{ping}");
    let neighbour = on_host(&format!("ip neigh show {address}"));
    assert!(neighbour.contains(&persona.mac), "{neighbour}");
    // A restart at once: the probe on the bridge may hear the decky's own last breath.
    lan.unwant("port");
    lan.reconcile();
    lan.want("port", 31, Family::Windows, Driver::Bridge);
    lan.reconcile();
    assert_eq!(lan.row("port").decky.last_error, None);
    let host = inside(
        lan.pid("port"),
        &format!("curl -s -m1 -o /dev/null http://{}:22/", lan.address(1)),
    );
    assert_eq!(host.status.code(), Some(28), "dropped: it times out");
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn the_services_answer_real_clients_and_record_the_attacker() {
    let test = "the_services_answer_real_clients_and_record_the_attacker";
    if skipped(test, &["curl", "redis-cli", "ftp"]) {
        return;
    }
    let lan = Lan::new();
    lan.want("host", 41, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    let address = text(lan.address(41));
    let page = lan.seen(&format!("curl -s -m5 -i http://{address}/"));
    assert!(page.starts_with("HTTP/1.1 "), "{page}");
    let pong = lan.seen(&format!("redis-cli -h {address} PING"));
    assert!(pong.contains("PONG") || pong.contains("NOAUTH"), "{pong}");
    let banner = lan.seen(&format!("printf 'quit\\n' | ftp -n -v {address} 21"));
    assert!(banner.contains("220 "), "{banner}");
    // An upload and a listing over a passive data connection: the decky listens for it.
    let listed = lan.attack(&format!("curl -s -m5 ftp://anonymous:x%40y@{address}/"));
    println!("ftp list: exit {:?}", listed.status.code());
    let attacker = text(lan.address(66));
    for service in ["http", "redis", "ftp"] {
        let event = wait_for(&format!("connect event of {service}"), || {
            lan.events("host")
                .into_iter()
                .find(|e| e.service == service && e.kind == "connect")
        });
        let flow = event.flow.unwrap();
        assert_eq!(text(flow.src.ip()), attacker, "{service}");
        assert_eq!(text(flow.dst.ip()), address, "{service}");
    }
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn fingerprints_are_written_down() {
    let test = "fingerprints_are_written_down";
    if skipped(test, &["nmap", "python3"]) {
        return;
    }
    let lan = Lan::new();
    for (last, family) in (51..).zip(Family::ALL) {
        lan.want(family.slug(), last, *family, Driver::Macvlan);
    }
    lan.reconcile();
    let scanned = lan.seen(&format!(
        "nmap -n -O -sV --version-light --osscan-guess --max-retries 1 -T5 -p 21,80,6379,9 -oX - {}",
        (51..57).map(|last| text(lan.address(last))).collect::<Vec<_>>().join(" ")
    ));
    let mut table = format!(
        "{:<15} {:<44} {:<10} open\n",
        "family", "nmap says", "accuracy"
    );
    for (last, family) in (51..).zip(Family::ALL) {
        let address = format!("addr=\"{}\"", lan.address(last));
        let host = scanned
            .split("<host ")
            .skip(1)
            .find(|host| host.contains(&address))
            .unwrap_or_else(|| panic!("{family} was not seen: {scanned}"));
        let best = host.split("<osmatch ").nth(1).unwrap_or_default();
        let open = host.matches("<state state=\"open\"").count();
        assert_eq!(open, 3, "{family}: {host}");
        let attribute = |text: &str, name: &str| {
            text.split(&format!("{name}=\""))
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap_or("-")
                .to_owned()
        };
        let products: Vec<String> = host
            .split("<service ")
            .skip(1)
            .map(|s| format!("{} {}", attribute(s, "product"), attribute(s, "version")))
            .filter(|s| s != "- -")
            .collect();
        writeln!(
            table,
            "{:<15} {:<44} {:<10} {}",
            family.slug(),
            attribute(best, "name"),
            attribute(best, "accuracy"),
            products.join(", ")
        )
        .unwrap();
    }
    println!("{table}");
    println!("{}", passive(&lan));
}

/// What the deckies' answers look like to somebody who only listens: TTL, DF, window and
/// options of the segment that accepts a connection.
fn passive(lan: &Lan) -> String {
    const LISTEN: &str = r#"
import socket, struct, sys, threading, time
seen = {}
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
raw.settimeout(0.5)
def call(a):
    try: socket.create_connection((a, 80), 2).close()
    except OSError: pass
for a in sys.argv[1:]:
    threading.Thread(target=call, args=(a,)).start()
until = time.time() + 2
while time.time() < until and len(seen) < len(sys.argv) - 1:
    try: f = raw.recv(2000)[14:]
    except OSError: continue
    t = f[(f[0] & 15) * 4:]
    source = socket.inet_ntoa(f[12:16])
    if f[9] != 6 or t[13] != 0x12 or source not in sys.argv: continue
    o, words = t[20:(t[12] >> 4) * 4], []
    while o:
        k = o[0]
        if k < 2: words.append("EN"[k]); o = o[1:]; continue
        n = o[1]
        words.append("mss%d" % struct.unpack(">H", o[2:4]) if k == 2 else "ws%d" % o[2] if k == 3 else "sack" if k == 4 else "ts" if k == 8 else str(k))
        o = o[n:]
    seen[source] = "ttl=%d df=%d window=%d options=%s" % (f[8], (f[6] >> 6) & 1, struct.unpack(">H", t[14:16])[0], ",".join(words))
for a in sys.argv[1:]: print(a, seen.get(a))
"#;
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), LISTEN).unwrap();
    let addresses: Vec<String> = (51..57).map(|last| text(lan.address(last))).collect();
    let said = lan.seen(&format!(
        "python3 {} {}",
        script.path().display(),
        addresses.join(" ")
    ));
    said.lines()
        .zip(Family::ALL)
        .map(|(line, family)| {
            let shown = line.split_once(' ').map_or(line, |(_, rest)| rest);
            assert!(
                shown.contains(&format!("ttl={} ", ttl(*family))),
                "{family}: {said}"
            );
            format!("{:<15} {shown}\n", family.slug())
        })
        .collect()
}
