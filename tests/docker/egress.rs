//! A decky in a container answers and never calls: attempts from inside its network
//! namespace, made by root of the host, whom no filter of the decky's process binds.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use decnet::model::{Driver, Link};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{ATTACKER, CARD, Lab, SUBNET, inside, wait_for};

const WAIT: Duration = Duration::from_millis(700);

fn tcp(to: &str) -> io::Result<()> {
    TcpStream::connect_timeout(&to.parse().unwrap(), WAIT).map(drop)
}

fn udp(to: &str) -> io::Result<()> {
    let to: SocketAddr = to.parse().unwrap();
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0; 8], 0).into()
    };
    UdpSocket::bind(any)?.send_to(b"x", to).map(drop)
}

/// To every neighbour over IPv6, through the interface with this index.
fn six(index: &str) -> io::Result<()> {
    udp(&format!("[ff02::1%{index}]:53"))
}

fn index_of(lab: &Lab, interface: &str) -> String {
    lab.as_host(|| {
        let all = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        let line = all.lines().find(|line| line.ends_with(interface)).unwrap();
        let index = line.split_whitespace().nth(1).unwrap();
        u32::from_str_radix(index, 16).unwrap().to_string()
    })
}

fn ping(to: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let to: SocketAddr = format!("{to}:0").parse().unwrap();
    // An echo request with its checksum.
    let sent = socket.send_to(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0], &to.into());
    sent.map(drop)
}

#[test]
#[ignore = "needs root and dockerd"]
fn nothing_gets_out_of_a_container_but_answers() {
    let Some(lab) = Lab::new("nothing_gets_out_of_a_container_but_answers", &[]) else {
        return;
    };
    // On a bridge the host is a neighbour as well.
    lab.want("decky-1", "10.66.0.31", |wish, _| {
        wish.link = Some(Link {
            driver: Driver::Bridge,
            parent: "lanbr0".to_owned(),
            subnet: SUBNET.parse().unwrap(),
            gateway: Some([10, 66, 0, 1].into()),
        });
    });
    lab.want("decky-2", "10.66.0.32", |wish, _| {
        wish.link = Some(Link {
            driver: Driver::Bridge,
            parent: "lanbr0".to_owned(),
            subnet: SUBNET.parse().unwrap(),
            gateway: Some([10, 66, 0, 1].into()),
        });
    });
    assert_eq!(lab.reconcile()["running"], 2, "{}", lab.decky("decky-1"));
    let plugged = Command::new("ip")
        .args(["-n", &lab.host, "link", "set", CARD, "master", "lanbr0"])
        .status()
        .unwrap();
    assert!(plugged.success());
    wait_for("answer over the bridge", || {
        lab.connect("10.66.0.31:80").ok()
    });
    let (served, host) = (
        lab.as_attacker(|| TcpListener::bind((ATTACKER, 0)).unwrap()),
        lab.as_host(|| TcpListener::bind("10.66.0.1:0").unwrap()),
    );
    let (lan, host) = (
        format!("{ATTACKER}:{}", served.local_addr().unwrap().port()),
        host.local_addr().unwrap().to_string(),
    );
    // Each of them works from where no rules are.
    lab.as_host(|| tcp(&lan)).unwrap();
    lab.as_attacker(|| tcp(&host)).unwrap();
    lab.as_host(|| udp(&lan)).unwrap();
    lab.as_host(|| ping(ATTACKER)).unwrap();
    let bridge = index_of(&lab, "lanbr0");
    // Its own address is tentative for a moment.
    wait_for("IPv6 of the host", || lab.as_host(|| six(&bridge)).ok());

    let pid = lab.inspect("decnet-decky-1").unwrap().state.unwrap().pid;
    // Its own link-local address is there, so there is something to send from.
    let (pid, addresses) = (pid.unwrap(), |pid: i64| {
        std::fs::read_to_string(format!("/proc/{pid}/net/if_inet6")).unwrap()
    });
    let eth0 = wait_for("link-local address", || {
        let all = addresses(pid);
        // Tentative until nobody objected.
        let line = all.lines().find(|line| line.ends_with("eth0"))?;
        let mut words = line.split_whitespace();
        let (index, flags) = (words.nth(1)?, words.nth(2)?);
        let index = u32::from_str_radix(index, 16).unwrap();
        (flags == "80").then(|| index.to_string())
    });
    let namespace = format!("/proc/{pid}/ns/net");
    let attempts = inside(&namespace, || {
        [
            ("TCP to the LAN", tcp(&lan)),
            ("TCP to the host", tcp(&host)),
            ("TCP to another decky", tcp("10.66.0.32:80")),
            ("TCP outside", tcp("192.0.2.1:80")),
            ("UDP over IPv6", six(&eth0)),
            ("UDP to the LAN", udp(&lan)),
            ("DNS to the host", udp("10.66.0.1:53")),
            ("DNS outside", udp("192.0.2.53:53")),
            ("ping the LAN", ping(ATTACKER)),
            ("ping the host", ping("10.66.0.1")),
            ("ping outside", ping("192.0.2.1")),
        ]
    });
    for (what, outcome) in attempts {
        let error = outcome.expect_err(what);
        // TCP waits for an answer that never comes; the others are told at once.
        let wanted = if what.starts_with("TCP") {
            io::ErrorKind::TimedOut
        } else {
            io::ErrorKind::PermissionDenied
        };
        assert_eq!(error.kind(), wanted, "{what}: {error}");
    }
    // The decky still answers.
    lab.connect("10.66.0.31:80").unwrap();
}
