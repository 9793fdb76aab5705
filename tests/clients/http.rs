//! Clients of the http decoy: curl, nmap and its scripts; and the real nginx, Apache
//! and lighttpd as the oracle. `http_battery.txt` holds some four hundred requests, most of
//! them wrong in some way; decoy and real server get each on a connection of its own
//! and must give the same bytes, apart from what varies by nature and the few
//! differences listed in [`ALLOWED`] with their reasons.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use decnet::decoy::Values;
use decnet::decoy::http::Shared;
use decnet::model::{Family, Service};
use decnet::persona::{Persona, WebServer};
use flate2::read::GzDecoder;
use regex::bytes::Regex;

use crate::support::{Decky, PATIENCE, assert_no_tell, output, wait_for};

/// Silence after which an answer counts as complete.
const QUIET: Duration = Duration::from_millis(1500);
/// Connections at a time.
const AT_ONCE: usize = 12;

/// Requests whose answers may differ: server, name, why.
const ALLOWED: &[(WebServer, &str, &str)] = &[(
    WebServer::Apache,
    "r-gz",
    "a range of the compressed bytes: our compressor finds other bytes than zlib",
)];

/// A real server beside the decoy, with the same site.
struct Oracle {
    addr: SocketAddr,
    children: Vec<Child>,
    _dir: tempfile::TempDir,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Their masters end their workers on SIGTERM, not on SIGKILL.
            let pid = child.id().to_string();
            Command::new("kill").arg(pid).status().ok();
            child.wait().ok();
        }
    }
}

/// The version of the installed server, and the distribution it names, if any.
fn installed(server: WebServer) -> Option<(String, Option<String>)> {
    let (program, argument) = match server {
        WebServer::Nginx => ("nginx", "-v"),
        WebServer::Apache => ("apache2", "-v"),
        WebServer::Lighttpd => ("lighttpd", "-v"),
        other => panic!("{other:?} has no packaged original"),
    };
    let said = Command::new(program).arg(argument).output().ok()?;
    let said = [said.stdout, said.stderr].concat();
    let found = Regex::new(r"(?:nginx|Apache|lighttpd)/([0-9.]+)(?: \((\w+)\))?")
        .unwrap()
        .captures(&said)?;
    let text = |n: usize| {
        found
            .get(n)
            .map(|m| String::from_utf8_lossy(m.as_bytes()).into_owned())
    };
    Some((text(1)?, text(2)))
}

fn fpm() -> Option<String> {
    let mut found: Vec<String> = fs::read_dir("/usr/sbin")
        .ok()?
        .flatten()
        .map(|e| e.path().display().to_string())
        .filter(|p| p.contains("php-fpm"))
        .collect();
    found.sort();
    found.pop()
}

fn spawn(program: &str, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Starts the real server with the site of `persona` on its own address and `port`.
fn oracle(persona: &Persona, port: u16) -> Oracle {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    let shared = Shared::new(persona, &Values::new());
    for (path, body, modified) in shared.files() {
        let path = root.join("www").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, body).unwrap();
        let micros = u64::try_from(modified.0).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(at)
            .unwrap();
    }
    let [login, denied, basic_realm, digest_path, digest_realm] = shared.pages();
    fs::create_dir_all(root.join("www/admin")).unwrap();
    fs::create_dir_all(root.join("www").join(digest_path.trim_matches('/'))).unwrap();
    fs::create_dir_all(root.join("tmp")).unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(root.join("login.html"), login).unwrap();
    fs::write(root.join("denied.html"), denied).unwrap();
    let page = |html: &str| format!("readfile('{}/{html}');\n", root.display());
    fs::write(
        root.join("login.php"),
        format!("<?php session_start(); {}", page("login.html")),
    )
    .unwrap();
    let challenge = format!(
        "<?php http_response_code(401); header('WWW-Authenticate: Digest realm=\"{digest_realm}\",qop=\"auth\",nonce=\"'.uniqid().'\",opaque=\"x\"'); {}",
        page("denied.html")
    );
    fs::write(root.join("denied.php"), challenge).unwrap();
    fs::write(root.join("users"), "").unwrap();
    let ip = IpAddr::V4(Ipv4Addr::new(
        127,
        77,
        u8::try_from(std::process::id() % 200).unwrap(),
        match persona.web_server {
            WebServer::Nginx => 11,
            WebServer::Apache => 12,
            WebServer::Lighttpd => 13,
            other => panic!("{other:?} has no packaged original"),
        },
    ));
    let addr = SocketAddr::new(ip, port);
    drop(TcpListener::bind(addr).expect("the oracle's address is free"));
    let shown = root.display();
    fs::write(
        root.join("fpm.conf"),
        format!(
            "[global]\nerror_log={shown}/tmp/fpm.log\ndaemonize=no\n[www]\nuser=www-data\ngroup=www-data\n\
             listen={shown}/tmp/php.sock\nlisten.mode=0666\npm=static\npm.max_children=4\n\
             php_admin_value[session.save_path]={shown}/tmp\n"
        ),
    )
    .unwrap();
    let fill = |text: &str| {
        text.replace("@DIR@", &shown.to_string())
            .replace("@ADDR@", &addr.to_string())
            .replace("@HOST@", &addr.ip().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@REALM@", &basic_realm)
            .replace("@DIGEST@", &digest_path)
            .replace("@DIGEST_REALM@", &digest_realm)
            .replace("@NAME@", &persona.fqdn())
    };
    let config = root.join("server.conf");
    let (text, program) = match persona.web_server {
        WebServer::Nginx => (include_str!("http_nginx.conf"), "nginx"),
        WebServer::Apache => (include_str!("http_apache.conf"), "apache2"),
        WebServer::Lighttpd => (include_str!("http_lighttpd.conf"), "lighttpd"),
        other => panic!("{other:?} has no packaged original"),
    };
    fs::write(&config, fill(text)).unwrap();
    let config = config.display().to_string();
    let fpm_config = root.join("fpm.conf").display().to_string();
    let mut children = Vec::new();
    if persona.web_server == WebServer::Lighttpd {
        // Devices have no PHP: their sign-in is a CGI.
        let script = root.join("login.cgi");
        let page = root.join("login.html");
        let text = format!(
            "#!/bin/sh\nprintf 'Status: 200\\r\\nContent-Type: text/html\\r\\nCache-Control: no-cache\\r\\n\\r\\n'\nexec cat {}\n",
            page.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    } else {
        children.push(spawn(&fpm().unwrap(), &["-R", "-y", &fpm_config]));
        wait_for("php-fpm", || {
            root.join("tmp/php.sock").exists().then_some(())
        });
    }
    children.push(match persona.web_server {
        WebServer::Nginx => spawn(program, &["-c", &config]),
        WebServer::Apache => spawn(program, &["-f", &config, "-DFOREGROUND"]),
        WebServer::Lighttpd => spawn(program, &["-D", "-f", &config]),
        other => panic!("{other:?} has no packaged original"),
    });
    wait_for("the real server", || TcpStream::connect(addr).ok());
    Oracle {
        addr,
        children,
        _dir: dir,
    }
}

/// Reads the battery, with `fill` put in.
fn battery(fill: &BTreeMap<&str, String>) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/http_battery.txt");
    let text = fs::read_to_string(path).unwrap();
    let mut out = Vec::new();
    for line in text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        let (name, request) = line.split_once(' ').unwrap();
        let mut request = request.to_owned();
        for (key, value) in fill {
            request = request.replace(&format!("{{{key}}}"), value);
        }
        while let Some((before, rest)) = request.split_once("{{") {
            let (inner, after) = rest.split_once("}}").unwrap();
            let (what, times) = inner.rsplit_once('*').unwrap();
            let repeated = what.repeat(times.parse().unwrap());
            request = format!("{before}{repeated}{after}");
        }
        out.push((name.to_owned(), unescape(&request)));
    }
    out
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next().unwrap() {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    out
}

/// All the server says, and whether it closed.
fn ask(addr: SocketAddr, request: &[u8]) -> (Vec<u8>, &'static str) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    stream.write_all(request).ok();
    let mut out = Vec::new();
    let mut chunk = [0u8; 65536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (out, "closed"),
            Ok(n) => out.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return (out, "open"),
            Err(_) => return (out, "reset"),
        }
    }
}

/// Takes out what differs between two runs of one server.
fn normal(answer: &[u8], addr: SocketAddr) -> String {
    let answer = unpack(answer);
    let rules: &[(&str, &str)] = &[
        (r"Date: [^\r]*", "Date: D"),
        (r"PHPSESSID=[0-9a-z]{26}", "PHPSESSID=S"),
        (r#"nonce="[0-9a-f]{13}""#, "nonce=PHP"),
        (r#"nonce="[A-Za-z0-9+/]{11}=[0-9a-f]{40}""#, "nonce=APACHE"),
        (r#"nonce="[0-9a-f]{8}:[0-9a-f]{32}""#, "nonce=LIGHTTPD"),
        (r#"ETag: "[0-9]{6,}""#, "ETag: LIGHTTPD"),
        (r#"opaque="[^"]*""#, "opaque=O"),
        (r"boundary=[0-9]{20}\r", "boundary=NGINX\r"),
        (r"boundary=[0-9a-f]{16}\r", "boundary=APACHE\r"),
        (r"\r\n--[0-9a-f]{16}([0-9]{4})?(--)?\r\n", "\r\n--B$2\r\n"),
        (r"Allow: [A-Z]+,[A-Z]+,[A-Z]+,[A-Z]+", "Allow: FOUR"),
    ];
    let mut text = answer;
    for (pattern, with) in rules {
        let pattern = Regex::new(pattern).unwrap();
        text = pattern.replace_all(&text, with.as_bytes()).into_owned();
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    text.replace(&addr.ip().to_string(), "SELF")
}

/// Replaces a compressed body by its content, so that two compressors compare equal.
fn unpack(answer: &[u8]) -> Vec<u8> {
    let find = |needle: &[u8]| answer.windows(needle.len()).position(|w| w == needle);
    if find(b"Content-Encoding: gzip\r\n").is_none() || find(b" 206 ").is_some() {
        return answer.to_vec();
    }
    let Some(magic) = find(b"\x1f\x8b\x08\0\0\0\0\0") else {
        // HEAD: the length of what is not sent is the compressor's.
        let length = Regex::new(r"Content-Length: \d+").unwrap();
        return length
            .replace(answer, b"Content-Length: GZIP".as_slice())
            .into_owned();
    };
    let mut content = Vec::new();
    GzDecoder::new(&answer[magic..])
        .read_to_end(&mut content)
        .unwrap();
    let head = Regex::new(r"Content-Length: \d+|\r\n\r\n[0-9a-f]+\r\n$").unwrap();
    let head = head.replace_all(&answer[..magic], b"GZIP".as_slice());
    // The ten header bytes of the gzip member are compared as they are.
    [
        head.as_ref(),
        &answer[magic..magic + 10],
        content.as_slice(),
    ]
    .concat()
}

fn compare(server: WebServer) {
    let php = server == WebServer::Lighttpd || fpm().is_some();
    let Some((version, distro)) = installed(server).filter(|_| php) else {
        panic!(
            "skipped: {server:?} or php-fpm is not installed (apt install nginx apache2 lighttpd php-fpm)"
        );
    };
    let decky = Decky::start(&[Service::Http], |persona| {
        persona.web_server = server;
        persona.web_version = version;
        persona.distro = distro.unwrap_or_else(|| "Debian".into());
    });
    let addr = decky.addr(Service::Http);
    let oracle = oracle(&decky.persona, addr.port());
    let shared = Shared::new(&decky.persona, &Values::new());
    let field = |path: &str, name: &str, extra: &str| {
        let head = format!("HEAD {path} HTTP/1.0\r\n{extra}\r\n");
        let (answer, _) = ask(oracle.addr, head.as_bytes());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let value = answer.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        // Of inode and device, in lighttpd: no two files share it.
        if server == WebServer::Lighttpd && name == "ETag" {
            return "\"x\"".to_owned();
        }
        value.trim_start_matches(": ").to_owned()
    };
    let digest = shared.pages()[3].trim_end_matches('/').to_owned();
    let gzip = "Accept-Encoding: gzip\r\n";
    let fill = BTreeMap::from([
        ("digest", digest),
        ("robots_date", field("/robots.txt", "Last-Modified", "")),
        ("robots_later", field("/robots.txt", "Date", "")),
        ("robots_etag", field("/robots.txt", "ETag", "")),
        ("index_etag", field("/", "ETag", "")),
        ("index_gzip_etag", field("/", "ETag", gzip)),
    ]);
    let requests = battery(&fill);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some((name, request)) = requests.get(index) else {
                        return;
                    };
                    let (real, real_end) = ask(oracle.addr, request);
                    let (ours, our_end) = ask(addr, request);
                    let (real, ours) = (normal(&real, oracle.addr), normal(&ours, addr));
                    if (&real, real_end) != (&ours, our_end) {
                        wrong.lock().unwrap().insert(
                            name.clone(),
                            format!("real ({real_end}):\n{real}\nours ({our_end}):\n{ours}"),
                        );
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let allowed = |name: &str| ALLOWED.iter().any(|(s, n, _)| *s == server && *n == name);
    let surprising: Vec<String> = wrong
        .iter()
        .filter(|(name, _)| !allowed(name))
        .map(|(name, what)| format!("=== {name}\n{what}"))
        .collect();
    eprintln!(
        "{server:?}: {} requests, {} allowed differences",
        requests.len(),
        wrong.len() - surprising.len()
    );
    assert!(
        surprising.is_empty(),
        "{}\n{} differences",
        surprising.join("\n"),
        surprising.len()
    );
}

#[test]
#[ignore = "needs nginx and php-fpm; run by make test-clients"]
fn the_nginx_skin_answers_as_nginx() {
    compare(WebServer::Nginx);
}

#[test]
#[ignore = "needs apache2 and php-fpm; run by make test-clients"]
fn the_apache_skin_answers_as_apache() {
    compare(WebServer::Apache);
}

#[test]
#[ignore = "needs lighttpd; run by make test-clients"]
fn the_lighttpd_skin_answers_as_lighttpd() {
    compare(WebServer::Lighttpd);
}

fn start(server: WebServer) -> (Decky, String) {
    let decky = Decky::start(&[Service::Http], |persona| {
        persona.web_server = server;
        persona.distro = "Debian".into();
        persona.web_version = match server {
            WebServer::Nginx => "1.22.1".into(),
            WebServer::Apache => "2.4.62".into(),
            other => panic!("{other:?} has no packaged original"),
        };
    });
    let base = format!("http://{}", decky.addr(Service::Http));
    (decky, base)
}

fn curl(arguments: &[&str]) -> String {
    output(
        Command::new("curl")
            .args(["-sS", "--max-time", "20"])
            .args(arguments),
    )
}

#[test]
#[ignore = "needs curl; run by make test-clients"]
fn curl_reads_the_site_of_both_skins() {
    for server in [WebServer::Nginx, WebServer::Apache] {
        let (decky, base) = start(server);
        let page = curl(&[&base]);
        assert!(page.contains("<form") && page.contains(decky.persona.company.get(1..).unwrap()));
        let again = curl(&["--compressed", &base]);
        assert_eq!(page, again);
        assert!(curl(&["-I", &base]).starts_with("HTTP/1.1 200 OK\r\n"));
        let status = |arguments: &[&str]| {
            let mut all = vec!["-o", "/dev/null", "-w", "%{http_code}"];
            all.extend_from_slice(arguments);
            curl(&all)
        };
        let url = |path: &str| format!("{base}{path}");
        let options = status(&["-X", "OPTIONS", &base]);
        assert_eq!(
            options,
            if server == WebServer::Nginx {
                "405"
            } else {
                "200"
            }
        );
        assert_eq!(status(&["-X", "PROPFIND", &base]), "405");
        assert_eq!(status(&["-r", "0-9", &url("/robots.txt")]), "206");
        assert_eq!(curl(&["-r", "0-9", &url("/robots.txt")]), "User-agent");
        assert_eq!(status(&[&url("/wp-login.php")]), "404");
        // Two requests, one connection.
        let connects = curl(&[
            "-o",
            "/dev/null",
            "-o",
            "/dev/null",
            "-w",
            "%{num_connects} ",
            &base,
            &url("/robots.txt"),
        ]);
        assert_eq!(connects, "1 0 ");
    }
}

#[test]
#[ignore = "needs curl; run by make test-clients"]
fn curl_leaves_its_credentials() {
    for server in [WebServer::Nginx, WebServer::Apache] {
        let (decky, base) = start(server);
        let url = |path: &str| format!("{base}{path}");
        curl(&["-u", "admin:s3cret:x", &url("/admin/")]);
        decky.event(
            "auth",
            &[
                ("scheme", "basic"),
                ("principal", "admin"),
                ("secret_printable", "s3cret:x"),
            ],
        );
        curl(&["-H", "Authorization: Bearer tok.en", &url("/api")]);
        decky.event(
            "auth",
            &[
                ("secret_kind", "http_bearer"),
                ("secret_printable", "tok.en"),
            ],
        );
        let page = curl(&["-d", "username=root&password=toor%21", &url("/login")]);
        assert!(page.contains("-err\""), "{page}");
        decky.event(
            "auth",
            &[
                ("scheme", "form"),
                ("principal", "root"),
                ("secret_printable", "toor!"),
            ],
        );
        let digest = Shared::new(&decky.persona, &Values::new()).pages()[3].clone();
        curl(&["--digest", "-u", "bob:hunter2", &url(&digest)]);
        let event = decky.event("auth", &[("scheme", "digest"), ("principal", "bob")]);
        let crack = event.field("crack").unwrap().to_owned();
        assert_eq!(crackable(&crack, "hunter2"), "True");
        assert_eq!(crackable(&crack, "hunter3"), "False");
    }
}

/// What a cracker does with the line.
fn crackable(line: &str, password: &str) -> String {
    let script = "import sys,hashlib\n\
        m=lambda s:hashlib.md5(s.encode()).hexdigest()\n\
        _,_,resp,user,realm,method,uri,nonce,nc,cnonce,qop=sys.argv[1].split('$')\n\
        a=m(f'{user}:{realm}:{sys.argv[2]}');b=m(f'{method}:{uri}')\n\
        print(m(f'{a}:{nonce}:{nc}:{cnonce}:{qop}:{b}')==resp)";
    let said = output(Command::new("python3").args(["-c", script, line, password]));
    said.trim().to_owned()
}

#[test]
#[ignore = "needs curl; run by make test-clients"]
fn what_curl_uploads_is_kept_byte_for_byte() {
    let (decky, base) = start(WebServer::Apache);
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..300_000u64)
        .map(|n| u8::try_from(n * n % 251).unwrap())
        .collect();
    let file = dir.path().join("shell.php");
    fs::write(&file, &content).unwrap();
    let form = format!("file=@{}", file.display());
    curl(&["-F", "user=x", "-F", &form, &format!("{base}/upload")]);
    let event = decky.event("upload", &[("filename", "shell.php"), ("size", "300000")]);
    assert_eq!(decky.artifact(event.field("sha256").unwrap()), content);
    curl(&[
        "-T",
        &file.display().to_string(),
        &format!("{base}/drop/x.bin"),
    ]);
    let event = decky.event("upload", &[("filename", "x.bin"), ("method", "PUT")]);
    assert_eq!(decky.artifact(event.field("sha256").unwrap()), content);
    decky.event(
        "request",
        &[
            ("method", "PUT"),
            ("status", "405"),
            ("body_size", "300000"),
        ],
    );
}

/// A product: server, version, family, distribution, kernel or model, and what nmap
/// must say.
type Product = (
    WebServer,
    &'static str,
    Family,
    &'static str,
    &'static str,
    &'static str,
);

const PRODUCTS: &[Product] = &[
    (
        WebServer::Nginx,
        "1.22.1",
        Family::Linux,
        "Debian",
        "6.1.0-28-amd64",
        "nginx 1.22.1",
    ),
    (
        WebServer::Nginx,
        "1.24.0",
        Family::Bsd,
        "FreeBSD",
        "13.2-RELEASE",
        "nginx 1.24.0",
    ),
    (
        WebServer::Apache,
        "2.4.62",
        Family::Linux,
        "Debian",
        "6.1.0-28-amd64",
        "Apache httpd 2.4.62 ((Debian))",
    ),
    (
        WebServer::Apache,
        "2.4.58",
        Family::Bsd,
        "FreeBSD",
        "13.2-RELEASE",
        "Apache httpd 2.4.58 ((FreeBSD))",
    ),
    (
        WebServer::Iis,
        "10.0",
        Family::WindowsServer,
        "Windows",
        "10.0.17763",
        "Microsoft IIS httpd 10.0",
    ),
    (
        WebServer::Iis,
        "10.0",
        Family::Windows,
        "Windows",
        "10.0.19045",
        "Microsoft IIS httpd 10.0",
    ),
    (
        WebServer::Lighttpd,
        "1.4.55",
        Family::Embedded,
        "Linux",
        "4.14.98",
        "lighttpd 1.4.55",
    ),
    (
        WebServer::Lighttpd,
        "1.4.35",
        Family::Embedded,
        "Linux",
        "3.10.14",
        "lighttpd 1.4.35",
    ),
    (
        WebServer::Emweb,
        "R6_2_1",
        Family::Embedded,
        "JetDirect",
        "HP LaserJet P4015",
        "Virata-EmWeb 6.2.1 (HP LaserJet P4015",
    ),
    (
        WebServer::Emweb,
        "HP HTTP Server",
        Family::Embedded,
        "JetDirect",
        "HP LaserJet M506",
        "HP LaserJet M506",
    ),
    (
        WebServer::CiscoIos,
        "15.7",
        Family::Cisco,
        "IOS",
        "15.7(3)M8",
        "Cisco IOS http config",
    ),
];

#[test]
#[ignore = "needs nmap; run by make test-clients"]
fn nmap_names_the_product_and_version_of_the_persona() {
    for (server, version, family, distro, kernel, wanted) in PRODUCTS {
        let decky = Decky::start(&[Service::Http], |persona| {
            persona.web_server = *server;
            (*version).clone_into(&mut persona.web_version);
            persona.family = *family;
            (*distro).clone_into(&mut persona.distro);
            (*kernel).clone_into(&mut persona.kernel);
            if kernel.starts_with("HP ") {
                "printer".clone_into(&mut persona.role);
                (*kernel).clone_into(&mut persona.os_pretty);
            }
        });
        let addr = decky.addr(Service::Http);
        let said = output(Command::new("nmap").args([
            "-Pn",
            "-n",
            "-sV",
            "--version-all",
            "--script",
            "http-title,http-methods,http-server-header,http-headers,http-auth,http-robots.txt,http-enum,http-ntlm-info",
            "--script-args",
            "http-ntlm-info.root=/admin/",
            "-p",
            &addr.port().to_string(),
            &addr.ip().to_string(),
        ]));
        assert!(said.contains(wanted), "no {wanted} in {said}");
        assert_no_tell(&said);
        assert!(!said.contains("SF-Port"), "not recognised: {said}");
        if *family != Family::Linux {
            for word in ["Linux", "Debian", "Ubuntu"] {
                assert!(
                    *server == WebServer::Lighttpd || !said.contains(word),
                    "{word} in {said}"
                );
            }
        }
        if *server == WebServer::Iis {
            let build = format!("Product_Version: {kernel}");
            assert!(said.contains(&build), "no {build} in {said}");
            assert!(said.contains("DNS_Domain_Name"), "{said}");
        }
    }
}

#[test]
#[ignore = "needs curl; run by make test-clients"]
fn curl_leaves_an_ntlm_response_that_can_be_cracked() {
    let decky = Decky::start(&[Service::Http], |persona| {
        persona.web_server = WebServer::Iis;
        persona.web_version = "10.0".into();
        persona.family = Family::WindowsServer;
        persona.kernel = "10.0.20348".into();
    });
    let url = format!("http://{}/admin/", decky.addr(Service::Http));
    curl(&["--ntlm", "-u", "NG\\anna:hunter2", &url]);
    let event = decky.event(
        "auth",
        &[("scheme", "ntlm"), ("principal", "anna"), ("domain", "NG")],
    );
    assert_eq!(event.field("secret_kind"), Some("ntlmssp_v2"));
    let crack = event.field("crack").unwrap();
    assert_eq!(ntlm(crack, "hunter2"), "True", "{crack}");
    assert_eq!(ntlm(crack, "hunter3"), "False", "{crack}");
}

/// What hashcat mode 5600 does with the line; MD4 by hand, as new Pythons have none.
fn ntlm(line: &str, password: &str) -> String {
    let script = include_str!("ntlm_crack.py");
    let said = output(Command::new("python3").args(["-c", script, line, password]));
    said.trim().to_owned()
}

#[test]
#[ignore = "opens 10,000 sockets; run by make test-clients"]
fn ten_thousand_idle_connections_stay_small() {
    let (decky, _) = start(WebServer::Nginx);
    let addr = decky.addr(Service::Http);
    let mut open = Vec::new();
    let deadline = Instant::now() + PATIENCE * 6;
    while open.len() < 10_000 && Instant::now() < deadline {
        match TcpStream::connect(addr) {
            Ok(mut stream) => {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
                open.push(stream);
            }
            // Our own descriptors may be fewer.
            Err(error) => {
                eprintln!("{} connections: {error}", open.len());
                break;
            }
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", decky.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    eprintln!("{} idle connections: {kib} KiB", open.len());
    assert!(kib < 160 * 1024, "{kib} KiB for {} connections", open.len());
    let (answer, _) = ask(addr, b"GET /robots.txt HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}
