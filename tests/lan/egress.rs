//! A decky answers and never calls: attempts of every kind from inside its network
//! namespace, made by root of the host, whom no filter of the decky's process binds.

use decnet::model::{Driver, Family, Link, Runtime, Service, Wish};

use crate::support::{Lan, inside, persona, skipped, text};

#[test]
#[ignore = "needs root; run by make test-lan"]
fn nothing_gets_out_but_answers() {
    if skipped(
        "nothing_gets_out_but_answers",
        &["curl", "ping", "bash", "python3"],
    ) {
        return;
    }
    let lan = Lan::new();
    lan.want("closed", 11, Family::Linux, Driver::Macvlan);
    lan.want("neighbour", 12, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    let pid = lan.pid("closed");
    // The attacker routes and listens: what gets out gets somewhere.
    lan.attack("sysctl -q net.ipv4.ip_forward=1");
    let _web = lan.attacker_runs("python3 -m http.server 8080 --bind ::");
    // The host has something to offer as well.
    let host = std::net::TcpListener::bind((lan.address(1), 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let (attacker, neighbour) = (lan.address(66), lan.address(12));
    let gateway_v6 = lan.seen("ip -6 -o addr show dev eth0 scope link");
    let gateway_v6 = gateway_v6
        .split_whitespace()
        .find(|word| word.starts_with("fe80"))
        .and_then(|word| word.split('/').next())
        .unwrap()
        .to_owned();
    let tcp = |to: &str| format!("curl -s -m 1 -o /dev/null http://{to}/");
    let attempts = [
        ("TCP to the LAN", tcp(&format!("{attacker}:8080"))),
        ("TCP to another decky", tcp(&format!("{neighbour}:80"))),
        (
            "TCP to the host",
            tcp(&format!("{}:{port}", lan.address(1))),
        ),
        ("TCP outside", tcp("192.0.2.1")),
        ("TCP over IPv6", tcp(&format!("[{gateway_v6}%25eth0]:8080"))),
        ("ping the LAN", format!("ping -n -c1 -W1 {attacker}")),
        (
            "ping the host",
            format!("ping -n -c1 -W1 {}", lan.address(1)),
        ),
        ("ping outside", "ping -n -c1 -W1 192.0.2.1".to_owned()),
        (
            "ping over IPv6",
            format!("ping -n -6 -c1 -W1 {gateway_v6}%eth0"),
        ),
        ("UDP", format!("echo x > /dev/udp/{attacker}/9999")),
        ("DNS to the LAN", format!("echo x > /dev/udp/{attacker}/53")),
        ("DNS outside", "echo x > /dev/udp/192.0.2.53/53".to_owned()),
        (
            "UDP over IPv6",
            format!(
                "python3 -c \"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b'x', ('{gateway_v6}', 53, 0, socket.if_nametoindex('eth0')))\""
            ),
        ),
        (
            "SCTP by a raw socket",
            format!(
                "python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132); s.sendto(b'x' * 20, ('{attacker}', 0))\""
            ),
        ),
    ];
    for (what, line) in &attempts {
        let tried = inside(pid, line);
        assert!(!tried.status.success(), "{what} got out: {line}");
    }
    // Each would have worked from a namespace without the rules.
    let without = lan.attack(&format!(
        "curl -s -m 2 -o /dev/null http://{}:{port}/ ; echo $?",
        lan.address(1)
    ));
    assert_ne!(
        String::from_utf8_lossy(&without.stdout).trim(),
        "7",
        "the host's port answers others"
    );
    let served = lan.attack(&format!(
        "curl -s -m 2 -o /dev/null http://{attacker}:8080/"
    ));
    assert!(served.status.success(), "the attacker's server serves");
    // And answers still get out.
    let answer = lan.seen(&format!("curl -s -m2 -i http://{}/", lan.address(11)));
    assert!(answer.starts_with("HTTP/"), "{answer}");
    let pong = lan.seen(&format!("ping -n -c1 -W2 {}", lan.address(11)));
    assert!(pong.contains("ttl=64"), "{pong}");
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn the_host_reaches_its_deckies_and_they_do_not_reach_it() {
    let test = "the_host_reaches_its_deckies_and_they_do_not_reach_it";
    if skipped(test, &["curl", "ping"]) {
        return;
    }
    let lan = Lan::new();
    lan.want("near", 11, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    let answer = std::process::Command::new("curl")
        .args(["-s", "-m3", "-i", &format!("http://{}/", lan.address(11))])
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer.stdout);
    assert!(
        answer.starts_with("HTTP/"),
        "over the helper interface: {answer}"
    );
    let host = std::net::TcpListener::bind((lan.address(1), 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let tried = inside(
        lan.pid("near"),
        &format!("curl -s -m1 -o /dev/null http://{}:{port}/", lan.address(1)),
    );
    assert_eq!(tried.status.code(), Some(28), "dropped: it times out");
    // The rest of the LAN still finds the host at its own MAC address.
    let own = std::fs::read_to_string(format!("/sys/class/net/{}/address", lan.parent)).unwrap();
    lan.attack("ip neigh flush all");
    lan.seen(&format!("ping -n -c3 -i0.2 -W2 {}", lan.address(1)));
    let seen = lan.seen(&format!("ip neigh show {}", lan.address(1)));
    assert!(seen.contains(own.trim()), "{seen} is not {own}");
    lan.unwant("near");
    lan.reconcile();
    let left = std::process::Command::new("ip")
        .args(["-o", "link"])
        .output()
        .unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    let of_ours = |line: &str| line.contains("decnet_") && line.contains(&lan.parent);
    assert!(!left.lines().any(of_ours), "{left}");
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn a_decky_with_peers_may_connect_to_them_alone() {
    let test = "a_decky_with_peers_may_connect_to_them_alone";
    if skipped(test, &["curl", "python3"]) {
        return;
    }
    let lan = Lan::new();
    let wish = Wish {
        runtime: Runtime::Native,
        link: Some(Link {
            driver: Driver::Macvlan,
            parent: lan.parent.clone(),
            subnet: format!("{}/24", lan.address(0)).parse().unwrap(),
            gateway: None,
        }),
        services: vec![Service::Http],
        peers: vec![lan.address(66).into()],
        ..Wish::default()
    };
    let who = persona(&text(lan.address(0)), "social", Family::Linux);
    lan.want_exactly("social", 11, &wish, &who);
    lan.want("other", 12, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    let _web = lan.attacker_runs("python3 -m http.server 8080");
    crate::support::wait_for("the attacker's server", || {
        lan.attack(&format!("curl -s -m1 http://{}:8080/", lan.address(66)))
            .status
            .success()
            .then_some(())
    });
    let pid = lan.pid("social");
    let to_peer = inside(
        pid,
        &format!("curl -s -m3 http://{}:8080/", lan.address(66)),
    );
    assert!(to_peer.status.success(), "{to_peer:?}");
    let to_other = inside(pid, &format!("curl -s -m1 http://{}/", lan.address(12)));
    assert!(!to_other.status.success());
}
