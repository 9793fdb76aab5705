//! Who deckies pretend to be, seen with other people's programs: OpenSSL reads the
//! certificates, OpenSSH the keys, and the command line shows what a defender needs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use decnet::db::Db;
use decnet::model::{Family, Service, Stamp, Wish};
use decnet::persona::{Asked, Persona, archetype, distro};

use crate::support::{command, database};

/// 2026-11-01T00:00:00Z.
const NOW: Stamp = Stamp(1_793_491_200_000_000);

fn host(secret: &[u8], archetype: Option<&str>, family: Option<Family>) -> Persona {
    let asked = Asked {
        archetype,
        distro: None,
        family,
    };
    Persona::derive(secret, "decky-01", &asked, NOW)
}

/// What `program` prints, or `None` where it is not installed.
fn output(program: &str, args: &[&str], input: &[u8]) -> Option<String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{program} {args:?}: {text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Some(text)
}

fn has(program: &str, test: &str) -> bool {
    let found = Command::new(program)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("skipped: {test}: {program} is not installed");
    }
    found
}

/// One host per way in which a certificate is made.
fn kinds() -> Vec<(&'static str, Persona)> {
    let centos = Asked {
        distro: Some("centos7"),
        ..Asked::default()
    };
    let mut kinds = vec![
        ("printer", host(b"s", Some("printer"), None)),
        ("cisco", host(b"s", None, Some(Family::Cisco))),
        ("bsd", host(b"s", None, Some(Family::Bsd))),
        ("centos7", Persona::derive(b"s", "decky-01", &centos, NOW)),
    ];
    // One that signed itself and one of the directory's, whichever names they have.
    for directory in [true, false] {
        let family = Family::WindowsServer;
        let one = (0..100)
            .map(|n| {
                let asked = Asked {
                    family: Some(family),
                    ..Asked::default()
                };
                Persona::derive(b"s", &format!("decky-{n:02}"), &asked, NOW)
            })
            .find(|p| p.certificate_is_of_the_company() == directory)
            .unwrap();
        kinds.push(("windows server", one));
    }
    kinds
}

#[test]
fn openssl_reads_and_verifies_every_kind_of_certificate() {
    let test = "openssl_reads_and_verifies_every_kind_of_certificate";
    if !has("openssl", test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (kind, persona) in kinds() {
        let certificate = persona.certificate();
        let pem = certificate.pem();
        let text = output("openssl", &["x509", "-noout", "-text"], pem.as_bytes()).unwrap();
        for word in ["decky", "decnet"] {
            assert!(!text.to_lowercase().contains(word), "{kind}: {text}");
        }
        for name in &certificate.names {
            assert!(text.contains(&format!("DNS:{name}")), "{kind}: {text}");
        }
        let print = output(
            "openssl",
            &["x509", "-noout", "-fingerprint", "-sha256"],
            pem.as_bytes(),
        )
        .unwrap();
        assert!(
            print.contains(&certificate.fingerprint()),
            "{kind}: {print}"
        );
        let key = output(
            "openssl",
            &["pkey", "-pubout"],
            certificate.key_pem().as_bytes(),
        );
        let open = output("openssl", &["x509", "-noout", "-pubkey"], pem.as_bytes());
        assert_eq!(key, open, "{kind}");
        let consistent = output(
            "openssl",
            &["pkey", "-check", "-noout"],
            certificate.key_pem().as_bytes(),
        );
        assert!(consistent.unwrap().contains("valid"), "{kind}");
        let root = dir.path().join("root.pem");
        if certificate.subject == certificate.issuer {
            fs::write(&root, &pem).unwrap();
        } else {
            let args = ["x509", "-inform", "DER"];
            let mut child = Command::new("openssl")
                .args(args)
                .stdin(Stdio::piped())
                .stdout(fs::File::create(&root).unwrap())
                .spawn()
                .unwrap();
            let bytes = persona.company_root();
            child.stdin.take().unwrap().write_all(&bytes).unwrap();
            assert!(child.wait().unwrap().success());
        }
        // Some are past their end, as such certificates often are; that is not asked.
        let verified = output(
            "openssl",
            &[
                "verify",
                "-no_check_time",
                "-CAfile",
                root.to_str().unwrap(),
            ],
            pem.as_bytes(),
        );
        assert!(verified.unwrap().contains("OK"), "{kind}");
        assert_eq!(certificate.der, persona.certificate().der, "{kind}");
    }
}

#[test]
fn openssh_reads_every_host_key() {
    let test = "openssh_reads_every_host_key";
    if !has("ssh-keygen", test) {
        return;
    }
    let persona = host(b"s", Some("linux-server"), None);
    let dir = tempfile::tempdir().unwrap();
    for kind in persona.ssh_key_kinds() {
        let key = persona.ssh_host_key(*kind);
        let path = dir.path().join(kind.name());
        write_private(&path, &key.private_file());
        let path = path.to_str().unwrap();
        let open = output("ssh-keygen", &["-y", "-f", path], b"").unwrap();
        assert_eq!(open.trim(), key.public_line(), "{}", kind.name());
        let shown = output("ssh-keygen", &["-l", "-f", path], b"").unwrap();
        assert!(shown.contains(&key.fingerprint()), "{shown}");
        assert!(!shown.contains("decky"), "{shown}");
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn two_installations_have_no_key_certificate_or_serial_in_common() {
    let [one, two] = [&b"one"[..], b"two"].map(|secret| {
        let p = host(secret, Some("web-server"), None);
        let certificate = p.certificate();
        (p.company_root(), certificate)
    });
    assert_ne!(one.0, two.0);
    assert_ne!(one.1.der, two.1.der);
    assert_ne!(one.1.key, two.1.key);
    assert_ne!(one.1.serial, two.1.serial);
    assert!(one.1.serial.len() >= 32, "{}", one.1.serial);
}

/// A host as a row of this version holds it; read by every later one.
const ROW: &str = r#"{
    "seed": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "site": "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100",
    "hostname": "web07", "domain": "northwell.corp", "company": "northwell",
    "family": "linux", "role": "web-server", "vendor": "VMware",
    "mac": "00:50:56:9a:bc:de", "release": "debian", "distro": "Debian",
    "os_pretty": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0-28-amd64",
    "patch_level": "12.8", "installed_at": 1650000000000000, "gcc": "12.2.0",
    "booted_at": 1790000000000000, "users": ["jbauer"], "redis_version": "7.0.15",
    "web_server": "apache", "web_version": "2.4.62", "ftp_server": "vsftpd",
    "ftp_version": "3.0.3"
}"#;

#[test]
fn an_update_changes_no_key_and_no_certificate() {
    let persona: Persona = serde_json::from_str(ROW).unwrap();
    assert_eq!(
        persona.certificate().fingerprint(),
        "27:C0:0E:DE:40:EA:89:EB:75:37:55:AD:0C:A5:3E:E0:8A:84:80:62:68:78:F1:83:E0:36:6F:D3:81:6B:6F:45"
    );
    let keys: Vec<String> = persona
        .ssh_key_kinds()
        .iter()
        .map(|kind| persona.ssh_host_key(*kind).fingerprint())
        .collect();
    assert_eq!(
        keys,
        [
            "SHA256:X+pQIPc9YdyjONQ/UMDqjNMIE44hAPv0Kzbzu5qHZzQ",
            "SHA256:fyqYvrU6P3TuDEl7+AfsqGDI1CkwhxYMk/h5jY7DL60",
            "SHA256:dTLSBrdbwJCTjQumQZ5BmTa/jKAx3sVrUWBp2+mZnPk",
        ]
    );
    assert_eq!(persona.machine_id(), "d2e3db2bd58d4761bfe2962c300be4e4");
}

#[test]
fn an_updated_host_is_the_same_host_with_its_newest_patch() {
    let mut moved = 0;
    for (kind, before) in kinds() {
        let after = before.clone().updated(NOW);
        // Some updates are a kernel, some a patch level, some both.
        moved +=
            usize::from(after.kernel != before.kernel || after.patch_level != before.patch_level);
        assert_eq!(after.booted_at, NOW, "{kind}");
        assert_eq!(after.clone().updated(NOW), after, "{kind}: once is enough");
        let mut same = after;
        same.booted_at = before.booted_at;
        same.kernel.clone_from(&before.kernel);
        same.patch_level.clone_from(&before.patch_level);
        same.os_pretty.clone_from(&before.os_pretty);
        same.ftp_version.clone_from(&before.ftp_version);
        assert_eq!(same, before, "{kind}: nothing else changes");
    }
    assert!(moved > 0, "some host had an update to install");
}

fn json(state: &Path, args: &[&str]) -> serde_json::Value {
    let done = command(state).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{error}");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn the_lists_are_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let rows = json(dir.path(), &["archetypes", "--json"]);
    assert_eq!(rows.as_array().unwrap().len(), archetype::ARCHETYPES.len());
    let web = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "web-server");
    assert_eq!(web.unwrap()["offers"], serde_json::json!(["http", "ftp"]));
    let rows = json(dir.path(), &["distros", "--json"]);
    assert_eq!(rows.as_array().unwrap().len(), distro::DISTROS.len());
    let rows = json(dir.path(), &["services", "--json"]);
    let find = |name: &str| {
        let row = rows.as_array().unwrap().iter().find(|r| r["name"] == name);
        row.unwrap().clone()
    };
    let settings = find("ftp")["settings"].to_string();
    assert!(settings.contains("\"anonymous\""), "{settings}");
    assert_eq!(find("ssh")["available"], false);
    for (what, word) in [
        ("archetypes", "domain-controller"),
        ("distros", "rocky9"),
        ("services", "server_header"),
    ] {
        let done = command(dir.path()).arg(what).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn a_defender_sees_what_a_scan_shows_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let persona = host(b"s", Some("linux-server"), None);
    let places = json(dir.path(), &["config", "show", "--json"]).to_string();
    assert!(places.contains(dir.path().to_str().unwrap()), "{places}");
    let db = Db::open(database(dir.path())).await.unwrap();
    let wish = Wish {
        services: vec![Service::Http],
        ..Wish::default()
    };
    let ip = "127.77.9.1".parse().unwrap();
    db.decky_add("decky-01", ip, &wish, &persona, NOW)
        .await
        .unwrap();
    db.close().await;
    let shown = json(dir.path(), &["persona", "show", "decky-01", "--json"]);
    assert_eq!(shown["hostname"], persona.hostname);
    assert_eq!(shown["mac"], persona.mac);
    assert_eq!(shown["fqdn"], persona.fqdn());
    let certificate = persona.certificate();
    assert_eq!(shown["certificate"]["sha256"], certificate.fingerprint());
    assert_eq!(shown["ssh_host_keys"].as_array().unwrap().len(), 3);
    let table = command(dir.path())
        .args(["persona", "show", "decky-01"])
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    for text in [&shown.to_string(), &table] {
        assert!(
            text.contains(&persona.mac) && text.contains("SHA256:"),
            "{text}"
        );
        assert!(!text.contains(&persona.seed) && !text.contains(&persona.site));
        assert!(!text.contains("PRIVATE"));
    }
    let none = command(dir.path())
        .args(["persona", "show", "decky-99"])
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(1));
    let error = String::from_utf8_lossy(&none.stderr).into_owned();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("no decky called 'decky-99'"), "{error}");
}
