//! What goes over the wire, from every service of every OS family: nothing that names a
//! decky, the product or this host, and nothing that two installations have in common.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use crate::fleet::{Host, address};

/// Every family with what it can offer; the names must not show anywhere.
const FLEET: &str = "
[zebra-linux]
services = redis, http, ftp
[zebra-win]
nmap_os = windows
services = http, ftp
[zebra-winsrv]
nmap_os = windows_server
services = redis, http, ftp
[zebra-bsd]
nmap_os = bsd
services = redis, http, ftp
[zebra-printer]
archetype = printer
services = http, ftp
[zebra-camera]
archetype = iot-device
services = http, ftp
[zebra-router]
nmap_os = cisco
services = http, ftp
";

/// Requests, one connection each, chosen to make a server talk about itself.
const HTTP: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /no/such/page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "PROPFIND / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /server-status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /admin/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\nConnection: close\r\n\r\n",
    "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 19\r\nConnection: close\r\n\r\nuser=a&password=abc",
    "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "nonsense\r\n\r\n",
];
const FTP: &[&str] = &[
    "SYST\r\nFEAT\r\nHELP\r\nSITE HELP\r\nSTAT\r\nUSER anonymous\r\nPASS a@b.c\r\nPWD\r\nSYST\r\nSTAT /\r\nHELP\r\nRETR nothing\r\nQUIT\r\n",
    "USER admin\r\nPASS admin\r\nPWD\r\nFEAT\r\nSTAT /\r\nQUIT\r\n",
];
const REDIS: &[&str] = &[
    "INFO everything\r\nCONFIG GET *\r\nCLIENT LIST\r\nCLIENT INFO\r\nACL WHOAMI\r\nLATENCY DOCTOR\r\nMEMORY DOCTOR\r\nSCAN 0 COUNT 1000\r\nDEBUG JMAP\r\nQUIT\r\n",
    "EVAL \"return redis.error_reply('x')\" 0\r\nMODULE LOAD /tmp/x.so\r\nSLAVEOF no one\r\nLASTSAVE\r\nROLE\r\nQUIT\r\n",
];

fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut said = Vec::new();
    // One command at a time: some servers drop what comes before their greeting.
    let pieces: Vec<&str> = match request.contains(" HTTP/") {
        true => vec![request],
        false => request.split_inclusive("\r\n").collect(),
    };
    for piece in pieces {
        if stream.write_all(piece.as_bytes()).is_err() {
            break;
        }
    }
    // What came before the time was up counts as well.
    let mut chunk = [0; 16 * 1024];
    while let Ok(n) = stream.read(&mut chunk) {
        if n == 0 {
            break;
        }
        said.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Everything that the deckies of `host` answer.
fn answers(host: &Host) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for decky in host.deckies() {
        let name = decky["name"].as_str().unwrap().to_owned();
        for service in decky["services"].as_array().unwrap() {
            let service = service.as_str().unwrap();
            let addr: SocketAddr = address(&decky, service).parse().unwrap();
            let requests = match service {
                "http" => HTTP,
                "ftp" => FTP,
                _ => REDIS,
            };
            let threads: Vec<_> = requests
                .iter()
                .map(|request| std::thread::spawn(move || ask(addr, request)))
                .collect();
            for thread in threads {
                let said = thread.join().unwrap();
                all.push((format!("{name} {service}"), said));
            }
        }
    }
    all
}

fn deployed(subnet: &'static str) -> Host {
    let host = Host::new(subnet);
    let file = host.dir.path().join("fleet.ini");
    std::fs::write(&file, FLEET).unwrap();
    let (code, out, err) = host.run(&["deploy", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}{err}");
    host
}

#[test]
fn nothing_names_us_and_two_installations_share_no_secret() {
    let hosts = [deployed("127.77.81.0/24"), deployed("127.77.82.0/24")];
    let said = hosts.each_ref().map(answers);
    let names = Regex::new("(?i)decky|decnet|zebra|honey|decoy|persona|relay@").unwrap();
    for (host, said) in hosts.iter().zip(&said) {
        let state = host.dir.path().display().to_string();
        for (who, text) in said {
            assert!(!text.is_empty() || who.contains("http"), "{who} is silent");
            if let Some(found) = names.find(text) {
                panic!("{who} says '{}': {text}", found.as_str());
            }
            assert!(!text.contains(&state), "{who} shows its directory");
        }
    }
    // Long numbers and tokens: identifiers, hashes, keys. What the makers of a product
    // put into every copy of it is no secret.
    let token = Regex::new("[0-9a-fA-F]{12,}|[0-9a-fA-F-]{36}|[A-Za-z0-9+/_]{20,}").unwrap();
    let product = Regex::new("(?m)^redis_build_id:.*$|redis_git_sha1:.*$").unwrap();
    let tokens = said.map(|said| {
        let mut found = BTreeSet::new();
        for (_, text) in said {
            let text = product.replace_all(&text, "").into_owned();
            found.extend(
                token
                    .find_iter(&text)
                    .map(|t| t.as_str().to_owned())
                    // Redis says "none" with zeros.
                    .filter(|t| t.chars().filter(|c| ('1'..='9').contains(c)).count() > 3),
            );
        }
        found
    });
    let shared: Vec<_> = tokens[0].intersection(&tokens[1]).collect();
    assert!(!tokens[0].is_empty(), "there are identifiers to compare");
    assert!(shared.is_empty(), "both installations say {shared:?}");
    // And what a defender is told to recognise them by.
    let shown = hosts.each_ref().map(|host| {
        let mut all = BTreeSet::new();
        for decky in host.deckies() {
            let name = decky["name"].as_str().unwrap();
            let (code, out, err) = host.run(&["persona", "show", name, "--json"]);
            assert_eq!(code, Some(0), "{err}");
            secrets(&serde_json::from_str(&out).unwrap(), "", &mut all);
        }
        all
    });
    let shared: Vec<_> = shown[0].intersection(&shown[1]).collect();
    assert!(shown[0].len() > 40, "{:?}", shown[0]);
    assert!(shared.is_empty(), "both installations have {shared:?}");
}

/// Values of a persona that must be its own: everything that looks like an identifier.
fn secrets(value: &Value, key: &str, into: &mut BTreeSet<String>) {
    const OWN: &[&str] = &[
        "mac",
        "sha256",
        "fingerprint",
        "guid",
        "uuid",
        "machine_id",
        "sid",
        "link_local",
        "public",
    ];
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                secrets(value, key, into);
            }
        }
        Value::Array(list) => {
            for value in list {
                secrets(value, key, into);
            }
        }
        Value::String(text) if OWN.iter().any(|own| key.contains(own)) => {
            into.insert(format!("{key}={text}"));
        }
        _ => {}
    }
}
