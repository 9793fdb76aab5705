//! What the LAN sees of a decky in a container, what the engine holds of it, and that
//! its neighbours do not notice each other.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use bollard::query_parameters::ListImagesOptions;
use decnet::docker::image;
use decnet::model::{Driver, Family, Link, Stamp};
use decnet::persona::{Asked, Persona, WebServer};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{CARD, Lab, SUBNET, block_on, owner};

/// What a frame's headers say.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Seen {
    mac: String,
    /// `4` or `6`, and the TTL or hop limit of a TCP packet.
    version: u8,
    ttl: u8,
}

/// Headers of TCP packets that arrive at the attacker's card while `work` runs there.
fn watch(lab: &Lab, work: impl FnOnce() + Send) -> HashSet<Seen> {
    lab.as_attacker(|| {
        // ETH_P_ALL in network order.
        let all = Protocol::from(i32::from(0x0003_u16.to_be()));
        let mut tap = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
        work();
        tap.set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut seen = HashSet::new();
        let mut frame = [0; 2048];
        while let Ok(n) = tap.read(&mut frame) {
            let frame = &frame[..n];
            if n < 54 {
                continue;
            }
            let mac: Vec<String> = frame[6..12].iter().map(|b| format!("{b:02x}")).collect();
            let mac = mac.join(":");
            match (
                u16::from_be_bytes([frame[12], frame[13]]),
                frame[23],
                frame[20],
            ) {
                (0x0800, 6, _) => seen.insert(Seen {
                    mac,
                    version: 4,
                    ttl: frame[22],
                }),
                (0x86dd, _, 6) => seen.insert(Seen {
                    mac,
                    version: 6,
                    ttl: frame[21],
                }),
                _ => continue,
            };
        }
        seen
    })
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn run(mut command: Command) -> String {
    text(&command.output().unwrap())
}

/// One command and its answer over a connection to a decky's Redis.
fn ping(stream: &mut TcpStream) -> String {
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 64];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[test]
#[ignore = "needs root and dockerd"]
fn a_decky_in_a_container_answers_the_lan_as_its_persona() {
    let Some(lab) = Lab::new("a_decky_in_a_container_answers_the_lan_as_its_persona", &[]) else {
        return;
    };
    let mut own = None;
    lab.want("decky-01", "10.66.0.11", |_, persona| {
        persona.family = Family::Windows;
        persona.hostname = "files02".to_owned();
        own = Some(persona.ipv6_link_local());
    });
    let own = own.unwrap();
    let done = lab.reconcile();
    assert_eq!(
        (&done["running"], &done["inserted"]),
        (&1.into(), &1.into()),
        "{}",
        lab.decky("decky-01")
    );

    // MAC and TTL in both protocols.
    let mac = "00:50:56:0a:0b:0b";
    let six = format!("[{own}%2]:80");
    let scope = run({
        let mut ip = lab.attacker("cat");
        ip.arg("/proc/self/net/if_inet6");
        ip
    });
    let index = scope
        .lines()
        .find(|line| line.ends_with("eth0"))
        .and_then(|line| line.split(' ').nth(1))
        .map(|hex| u32::from_str_radix(hex, 16).unwrap())
        .unwrap();
    let six = six.replace("%2", &format!("%{index}"));
    // The attacker's own address must be usable, and the decky's claimed.
    crate::lab::wait_for("answer over IPv6", || match lab.connect(&six) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Some(()),
        Ok(_) => Some(()),
        Err(_) => None,
    });
    let seen = watch(&lab, || {
        drop(TcpStream::connect("10.66.0.11:80").unwrap());
        drop(TcpStream::connect(&six));
    });
    for version in [4, 6] {
        let wanted = Seen {
            mac: mac.to_owned(),
            version,
            ttl: 128,
        };
        assert!(seen.contains(&wanted), "{wanted:?} not in {seen:?}");
    }

    // Real clients, and what was recorded of them.
    let page = run({
        let mut curl = lab.attacker("curl");
        curl.args(["-si", "--max-time", "5", "http://10.66.0.11/"]);
        curl
    });
    assert!(page.starts_with("HTTP/1.1 "), "{page}");
    let redis = run({
        let mut cli = lab.attacker("redis-cli");
        cli.args(["-h", "10.66.0.11", "info", "server"]);
        cli
    });
    assert!(redis.contains("redis_version:"), "{redis}");
    let ftp = run({
        let mut ftp = lab.attacker("sh");
        ftp.args([
            "-c",
            "printf 'user anonymous a@b.c\\nls\\nquit\\n' | ftp -n 10.66.0.11",
        ]);
        ftp
    });
    assert!(!ftp.contains("refused") && !ftp.is_empty(), "{ftp}");
    for service in ["http", "redis", "ftp"] {
        let event = lab.event("decky-01", service, "connect");
        let flow = event.flow.unwrap();
        assert_eq!(flow.dst.ip().to_string(), "10.66.0.11", "{service}");
    }
    for shown in [&page, &redis, &ftp] {
        let lower = shown.to_lowercase();
        assert!(
            !lower.contains("decky") && !lower.contains("decnet"),
            "{shown}"
        );
    }

    enclosed(&lab);
    imported_once(&lab);
}

/// What the engine holds of a decky.
fn enclosed(lab: &Lab) {
    let seen = lab.inspect("decnet-decky-01").unwrap();
    let config = seen.config.unwrap();
    assert_eq!(config.hostname.as_deref(), Some("files02"));
    let labels = config.labels.unwrap();
    assert_eq!(labels["decnet.fleet.decky"], "decky-01");
    assert_eq!(labels["decnet.fleet.base"], "true");
    assert_eq!(labels["decnet.fleet.base_hash"].len(), 16);
    let host = seen.host_config.unwrap();
    assert_eq!(host.readonly_rootfs, Some(true));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(
        host.security_opt,
        Some(vec!["no-new-privileges".to_owned()])
    );
    assert_eq!(host.pids_limit, Some(64));
    assert_eq!(host.memory, Some(128 << 20));
    assert_eq!(host.memory_swap, Some(128 << 20));
    assert_ne!(host.privileged, Some(true));

    // And what the kernel holds, which is what counts.
    let pid = seen.state.unwrap().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let values = line.split_once(':').unwrap().1;
        values
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let uid = 0x7000_0001_u32.to_string();
    assert!(field("Uid").iter().all(|id| *id == uid));
    assert_eq!(field("CapEff"), ["0000000000000000"]);
    assert_eq!(field("CapPrm"), ["0000000000000000"]);
    assert_eq!(field("NoNewPrivs"), ["1"]);
    assert_eq!(field("Seccomp"), ["2"]);
    let dir = lab.state().join("run/deckies/decky-01");
    assert_eq!(owner(&dir), 0x7000_0001);
}

/// A second decky, a later look, a restart: one import.
fn imported_once(lab: &Lab) {
    let engine = lab.client();
    let images = || {
        let images = block_on(engine.client().list_images(None::<ListImagesOptions>)).unwrap();
        images
            .into_iter()
            .map(|image| (image.repo_tags, image.id, image.created))
            .collect::<Vec<_>>()
    };
    let before = images();
    let [(tags, ..)] = before.as_slice() else {
        panic!("{before:?}");
    };
    let [tag] = tags.as_slice() else {
        panic!("{tags:?}");
    };
    let (name, tag) = tag.split_once(':').unwrap();
    assert_eq!((name, tag.len()), (image::REPOSITORY, 12));
    lab.want("decky-02", "10.66.0.12", |_, _| {});
    assert_eq!(lab.reconcile()["running"], 2);
    assert_eq!(images(), before);
}

/// Its fair share of memory: own pages, and its part of shared ones.
fn pss_kib(pid: i64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn parent_of(pid: i64) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("PPid:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs root and dockerd"]
fn a_new_decky_leaves_the_others_connections_open() {
    let Some(lab) = Lab::new("a_new_decky_leaves_the_others_connections_open", &[]) else {
        return;
    };
    for n in 1..=3 {
        lab.want(&format!("decky-{n}"), &format!("10.66.0.2{n}"), |_, _| {});
    }
    assert_eq!(lab.reconcile()["running"], 3);
    let mut open: Vec<TcpStream> = (1..=3)
        .map(|n| lab.connect(&format!("10.66.0.2{n}:6379")).unwrap())
        .collect();
    for stream in &mut open {
        let answer = ping(stream);
        assert!(!answer.is_empty());
    }
    let lives = || {
        (1..=3)
            .map(|n| lab.life(&format!("decky-{n}")))
            .collect::<Vec<_>>()
    };
    let before = lives();

    lab.want("decky-4", "10.66.0.24", |_, _| {});
    let begun = std::time::Instant::now();
    let done = lab.reconcile();
    println!("one decky beside three: {:?}", begun.elapsed());
    assert_eq!(
        (&done["running"], &done["inserted"]),
        (&4.into(), &1.into())
    );
    assert_eq!(lives(), before);
    for stream in &mut open {
        assert!(!ping(stream).is_empty());
    }

    let pid = lab
        .inspect("decnet-decky-4")
        .unwrap()
        .state
        .unwrap()
        .pid
        .unwrap();
    let shim = parent_of(pid);
    println!(
        "memory: the decky {} KiB, its shim {} KiB",
        pss_kib(pid),
        pss_kib(shim)
    );

    // One goes: the others stay, nothing of it is left.
    lab.unwant("decky-4");
    assert_eq!(lab.reconcile()["deleted"], 1);
    assert!(lab.inspect("decnet-decky-4").is_none());
    assert_eq!(lives(), before);
    for stream in &mut open {
        assert!(!ping(stream).is_empty());
    }

    // Converged means silence.
    let done = lab.reconcile();
    for key in ["inserted", "deleted", "state_updated"] {
        assert_eq!(done[key], 0, "{key}");
    }
}

#[test]
#[ignore = "needs root and dockerd"]
fn every_family_in_a_container_shows_its_mac_ttl_and_web_server() {
    let Some(lab) = Lab::new("every_family_in_a_container", &[]) else {
        return;
    };
    let mut wanted = Vec::new();
    for (n, family) in (21..).zip(Family::ALL) {
        let (name, ip) = (family.slug().replace('_', "-"), format!("10.66.0.{n}"));
        lab.want(&name, &ip, |wish, persona| {
            let asked = Asked {
                family: Some(*family),
                ..Asked::default()
            };
            *persona = Persona::derive(b"families", &name, &asked, Stamp::now());
            wish.services.retain(|s| persona.can_offer(*s));
            wanted.push((*family, ip.clone(), persona.clone()));
        });
    }
    let done = lab.reconcile();
    assert_eq!(done["running"], Family::ALL.len(), "{done}");
    for (family, ip, persona) in wanted {
        let seen = watch(&lab, || {
            drop(TcpStream::connect(format!("{ip}:80")).unwrap());
        });
        let ttl = match family {
            Family::Linux | Family::Bsd => 64,
            Family::Windows | Family::WindowsServer => 128,
            Family::Embedded | Family::Cisco => 255,
        };
        let face = Seen {
            mac: persona.mac.clone(),
            version: 4,
            ttl,
        };
        assert!(seen.contains(&face), "{family}: {face:?} not in {seen:?}");
        let page = run({
            let mut curl = lab.attacker("curl");
            curl.args(["-si", "--max-time", "5", &format!("http://{ip}/")]);
            curl
        });
        let server = match persona.web_server {
            WebServer::Nginx => "nginx",
            WebServer::Apache => "Apache",
            WebServer::Iis => "Microsoft-IIS/10.0",
            WebServer::Lighttpd => "lighttpd",
            WebServer::Emweb if page.contains("Virata") => "Virata-EmWeb",
            WebServer::Emweb => "HP HTTP Server",
            WebServer::CiscoIos => "cisco-IOS",
        };
        assert!(
            page.contains(&format!("Server: {server}")),
            "{family}: {page}"
        );
        println!("{family}: {} ttl={ttl} {server}", persona.mac);
    }
}

#[test]
#[ignore = "needs root and dockerd"]
fn a_decky_on_a_bridge_answers_who_is_on_it() {
    let Some(lab) = Lab::new("a_decky_on_a_bridge_answers_who_is_on_it", &[]) else {
        return;
    };
    lab.want("decky-01", "10.66.0.31", |wish, _| {
        wish.link = Some(Link {
            driver: Driver::Bridge,
            parent: "lanbr0".to_owned(),
            subnet: SUBNET.parse().unwrap(),
            gateway: Some([10, 66, 0, 1].into()),
        });
    });
    assert_eq!(lab.reconcile()["running"], 1, "{}", lab.decky("decky-01"));
    // The cable goes into the bridge.
    let plugged = Command::new("ip")
        .args(["-n", &lab.host, "link", "set", CARD, "master", "lanbr0"])
        .status()
        .unwrap();
    assert!(plugged.success());
    let page = crate::lab::wait_for("answer over the bridge", || {
        let mut curl = lab.attacker("curl");
        curl.args(["-si", "--max-time", "5", "http://10.66.0.31/"]);
        let page = run(curl);
        page.starts_with("HTTP/1.1 ").then_some(page)
    });
    assert!(!page.to_lowercase().contains("decnet"), "{page}");
    lab.event("decky-01", "http", "connect");
}
