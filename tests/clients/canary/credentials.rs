//! Keys and configurations, used by ssh, wg, kubectl, aws, git and MariaDB.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use decnet::canary::Kind;

use super::listener::Names;
use super::{Planted, SLUG, available, host};
use crate::support::{output, wait_for};

/// The value behind `key` in a configuration.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find(|line| line.trim_start().starts_with(key));
    let line = line.expect(key).trim_start();
    line.trim_start_matches(key).trim_matches([' ', '=', ':'])
}

#[test]
#[ignore = "needs ssh and ssh-keygen"]
fn ssh_reads_the_key_and_asks_for_the_host() {
    if !available("ssh-keygen") {
        return;
    }
    let names = Names::start();
    for seed in 0..4 {
        let planted = Planted::new(Kind::SshKey, seed);
        let key = planted.files[0].path.clone();
        let name = key.rsplit('/').next().unwrap();
        let shown = output(
            Command::new("ssh-keygen")
                .arg("-y")
                .arg("-f")
                .arg(planted.path(name)),
        );
        assert_eq!(shown, planted.text(&format!("{name}.pub")));
        let config = planted.path(".ssh/config");
        let alias = name.trim_start_matches("id_ed25519_");
        let known = output(
            Command::new("ssh")
                .arg("-G")
                .arg("-F")
                .arg(&config)
                .arg(alias),
        );
        assert!(known.contains(&format!("hostname {}\n", host())), "{known}");
        if let Some(names) = &names {
            let mut ssh = names.command("ssh");
            let tried = ssh
                .arg("-F")
                .arg(&config)
                .arg(alias)
                .arg("true")
                .output()
                .unwrap();
            assert!(!tried.status.success());
            names.wait(&host());
        }
    }
}

#[test]
#[ignore = "needs wg"]
fn wireguard_takes_the_keys_and_asks_for_the_endpoint() {
    if !available("wg") {
        return;
    }
    let names = Names::start();
    for seed in 0..4 {
        let planted = Planted::new(Kind::WireguardConfig, seed);
        let path = below_root(&planted);
        let text = fs::read_to_string(&path).unwrap();
        let mut wg = Command::new("wg")
            .arg("pubkey")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let private = value(&text, "PrivateKey");
        writeln!(wg.stdin.take().unwrap(), "{private}=").unwrap();
        let public = wg.wait_with_output().unwrap();
        assert!(public.status.success() && public.stdout.len() == 45);
        assert_ne!(
            String::from_utf8(public.stdout).unwrap().trim(),
            value(&text, "PublicKey")
        );
        let Some(names) = &names else { continue };
        // What wg-quick hands over to wg: without its own keys.
        let stripped = planted.root.path().join("stripped.conf");
        let own = |line: &&str| !line.starts_with("Address") && !line.starts_with("DNS");
        let lines: Vec<&str> = text.lines().filter(own).collect();
        fs::write(&stripped, lines.join("\n") + "\n").unwrap();
        let mut wg = names.command("wg");
        wg.env("WG_ENDPOINT_RESOLUTION_RETRIES", "0");
        let said = wg
            .args(["setconf", "none0"])
            .arg(&stripped)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(
            !said.contains("Line unrecognized") && !said.contains("Key is not"),
            "{said}"
        );
        names.wait(&host());
    }
}

fn below_root(planted: &Planted) -> std::path::PathBuf {
    super::below(planted.root.path(), &planted.files[0].path)
}

#[test]
#[ignore = "needs openssl and kubectl"]
fn kubectl_takes_the_configuration_and_asks_the_server() {
    for seed in 0..4 {
        let planted = Planted::new(Kind::Kubeconfig, seed);
        let path = planted.path(".kube/config");
        let text = fs::read_to_string(&path).unwrap();
        let dir = planted.root.path();
        let decoded = |key: &str, name: &str| {
            let bytes = STANDARD.decode(value_whole(&text, key)).unwrap();
            fs::write(dir.join(name), &bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        decoded("certificate-authority-data", "server-ca.pem");
        let chain = decoded("client-certificate-data", "client.pem");
        decoded("client-key-data", "client.key");
        let issuer = chain.rfind("-----BEGIN").unwrap();
        fs::write(dir.join("client-ca.pem"), chain.split_at(issuer).1).unwrap();
        let openssl =
            |arguments: &[&str]| output(Command::new("openssl").current_dir(dir).args(arguments));
        openssl(&[
            "verify",
            "-CAfile",
            "client-ca.pem",
            "-purpose",
            "sslclient",
            "client.pem",
        ]);
        openssl(&["verify", "-CAfile", "server-ca.pem", "server-ca.pem"]);
        let subject = openssl(&["x509", "-in", "client.pem", "-noout", "-subject"]);
        assert!(subject.contains("system:masters"), "{subject}");
        assert_eq!(
            openssl(&["pkey", "-in", "client.key", "-pubout"]),
            openssl(&["x509", "-in", "client.pem", "-noout", "-pubkey"])
        );
        if available("kubectl") {
            let mut kubectl = Command::new("kubectl");
            kubectl
                .arg("--kubeconfig")
                .arg(&path)
                .args(["get", "pods", "--request-timeout=3s"]);
            let said = kubectl.env("HOME", planted.home()).output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(!said.contains("error loading config"), "{said}");
            planted.listener.wait("GET", &format!("/c/{SLUG}/api"));
        }
    }
}

/// The value behind `key`, with its padding.
fn value_whole<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find(|line| line.trim_start().starts_with(key));
    line.expect(key).split_once(": ").unwrap().1.trim()
}

#[test]
#[ignore = "needs aws (scripts/install-test-tools.sh)"]
fn the_aws_command_line_asks_the_endpoint() {
    let aws = "/var/cache/decnet-test/awscli-1.46.3/bin/aws";
    if !Path::new(aws).exists() {
        eprintln!("skipped: {aws} is not installed");
        return;
    }
    for arguments in [&["sts", "get-caller-identity"][..], &["s3", "ls"]] {
        let planted = Planted::new(Kind::AwsCredentials, 3);
        let mut aws = Command::new(aws);
        aws.env_clear()
            .env("HOME", planted.home())
            .env("AWS_MAX_ATTEMPTS", "1");
        // It cannot make sense of the answer.
        aws.args(arguments).output().unwrap();
        let hit = wait_for("a call of aws", || {
            planted.listener.hits().into_iter().next()
        });
        assert!(hit.target.starts_with(&format!("/c/{SLUG}")), "{hit:?}");
    }
}

#[test]
#[ignore = "needs git"]
fn git_is_content_with_the_checkout_and_asks_the_remote() {
    if !available("git") {
        return;
    }
    for seed in 0..6 {
        let planted = Planted::new(Kind::GitConfig, seed);
        let config = planted.path(".git/config");
        let checkout = config.parent().unwrap().parent().unwrap().to_owned();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap())
                .env("HOME", planted.root.path())
                .env("GIT_TERMINAL_PROMPT", "0")
                .current_dir(&checkout)
                .args(arguments);
            git
        };
        assert_eq!(output(&mut git(&["status", "--porcelain"])), "");
        let status = output(&mut git(&["status"]));
        assert!(status.contains("up to date with 'origin/main'"), "{status}");
        let fsck = output(git(&["fsck", "--strict", "--full"]).stderr(Stdio::null()));
        assert_eq!(fsck, "");
        let log = output(&mut git(&["log", "--stat", "--format=%an %ae %s"]));
        assert!(
            log.contains("@northgate.internal") && log.contains("3 files changed"),
            "{log}"
        );
        assert!(output(&mut git(&["reflog"])).contains("clone: from http://"));
        for (arguments, service) in [
            (&["fetch"][..], "git-upload-pack"),
            (&["push"], "git-receive-pack"),
        ] {
            // What it makes of a picture differs: a fetch takes it for no references.
            git(arguments).output().unwrap();
            let hit = wait_for("a call of git", || {
                planted
                    .listener
                    .hits()
                    .into_iter()
                    .find(|hit| hit.target.ends_with(service))
            });
            assert!(hit.target.starts_with(&format!("/c/{SLUG}/")), "{hit:?}");
            assert!(hit.target.contains(".git/info/refs?service="), "{hit:?}");
        }
    }
}

#[test]
#[ignore = "needs curl"]
fn a_shell_reads_the_environment_file_and_curl_follows_it() {
    for seed in 0..6 {
        let planted = Planted::new(Kind::EnvFile, seed);
        let script = "set -a; . \"$1\"; curl -s -o /dev/null \"$EXPORT_API_URL/jobs\"; curl -s -o /dev/null -X POST -d x=1 \"$ALERT_WEBHOOK_URL\"; echo \"$DB_PASSWORD\"";
        let said = output(
            Command::new("sh")
                .args(["-c", script, "sh"])
                .arg(planted.path(".env")),
        );
        assert!(said.trim().len() > 7, "{said}");
        planted
            .listener
            .wait("GET", &format!("/c/{SLUG}/api/v1/jobs"));
        planted.listener.wait("POST", &format!("/c/{SLUG}/hooks/"));
    }
    let planted = Planted::new(Kind::WebBug, 1);
    output(
        Command::new("curl")
            .arg("-sf")
            .arg("-o")
            .arg("/dev/null")
            .arg(planted.text("link.txt").trim()),
    );
    planted.listener.wait("GET", &format!("/c/{SLUG}"));
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        Command::new("kill")
            .arg(self.0.id().to_string())
            .status()
            .ok();
        self.0.wait().ok();
    }
}

#[test]
#[ignore = "needs mariadbd, root"]
fn mariadb_imports_the_dump_and_asks_for_its_source() {
    let Some(names) = Names::start() else { return };
    if !available("mariadbd") || !available("mariadb") {
        return;
    }
    let planted = Planted::new(Kind::MysqlDump, 2);
    let dump = below_root(&planted);
    let dir = planted.root.path().join("data");
    fs::create_dir_all(dir.join("mysql")).unwrap();
    let socket = planted.root.path().join("s");
    let data = format!("--datadir={}", dir.display());
    output(
        Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--user=root",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(&data),
    );
    let mut server = names.command("mariadbd");
    server
        .args([
            "--no-defaults",
            "--user=root",
            "--skip-networking",
            "--skip-grant-tables",
            "--server-id=7",
        ])
        .arg(&data)
        .arg(format!("--socket={}", socket.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Server(server.spawn().unwrap());
    wait_for("the server's socket", || socket.exists().then_some(()));
    let client = || {
        let mut client = Command::new("mariadb");
        client
            .arg("--no-defaults")
            .arg(format!("--socket={}", socket.display()))
            .arg("-uroot");
        client
    };
    let said = client()
        .stdin(fs::File::open(&dump).unwrap())
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    names.wait(&host());
    let text = fs::read_to_string(&dump).unwrap();
    let database = text
        .lines()
        .find_map(|l| l.strip_prefix("USE `"))
        .unwrap()
        .trim_end_matches("`;");
    let rows = output(client().arg("-N").arg("-e").arg(format!(
        "select count(*) from {database}.users union all select count(*) from {database}.invoices"
    )));
    assert!(
        rows.lines().all(|count| count.parse::<u32>().unwrap() > 20),
        "{rows}"
    );
    let slave = output(client().arg("-e").arg("show slave status\\G"));
    assert!(slave.contains(&host()), "{slave}");
}
