//! The `decnet io` channel into running deckies: what is planted, who may be connected
//! to, and what a caller that misbehaves can do to the others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use decnet::decoy::control::{self, Error, Why};
use decnet::decoy::{Values, ftp};
use decnet::model::{Service, Stamp, Wish};

use crate::reconciler::{
    Host, NEVER, PATIENCE, Process, add, offers, open, pid, until_another, until_running,
};

/// A host with one decky as `wish` says, and the reconciler that keeps it.
async fn host(network: &'static str, wish: &Wish) -> (Host, Process, String) {
    let host = Host::new(network, NEVER, false);
    let db = host.db().await;
    let name = add(&host, &db, 1, wish).await;
    let reconciler = host.reconciler();
    until_running(&db).await;
    (host, reconciler, name)
}

fn io(host: &Host, arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = host
        .command()
        .arg("io")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments never reads.
    let _written = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test]
async fn a_planted_file_is_listed_survives_a_restart_and_goes_with_the_teardown() {
    let (host, reconciler, name) = host("127.94.11", &offers(&[Service::Redis])).await;
    let path = "/srv/data/plan.txt";
    let planted = io(
        &host,
        &[
            &name,
            "write",
            path,
            "--mode",
            "0640",
            "--mtime",
            "2024-03-05T08:12:00Z",
        ],
        b"secret plan\n",
    );
    assert_eq!(
        planted,
        (
            Some(0),
            format!("{path} planted, 12 bytes\n"),
            String::new()
        )
    );
    let (code, out, err) = io(&host, &[&name, "list", "/srv", "--json"], b"");
    assert_eq!(code, Some(0), "{err}");
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed, serde_json::json!([{"name": "data"}]));

    let old = pid(&host, &name).await;
    let killed = std::process::Command::new("kill")
        .args(["-9", &old.to_string()])
        .status();
    assert!(killed.unwrap().success());
    until_another(&host, &name, old).await;
    let (code, out, err) = io(&host, &[&name, "stat", path], b"");
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("mode    0640\n") && out.contains("2024-03-05T08:12:00"),
        "{out}"
    );
    let (code, out, _) = io(&host, &[&name, "delete", "/srv"], b"");
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "/srv taken away, 1 planted files with it\n")
    );
    let (code, _, err) = io(&host, &[&name, "stat", path], b"");
    assert_eq!(
        (code, err.as_str()),
        (
            Some(1),
            "decnet: decky-01: nothing is planted at /srv/data/plan.txt\n"
        )
    );
    // Asleep until its next period; without it the teardown does the work itself.
    drop(reconciler);
    let (code, _, err) = host.run(&["teardown", "--all"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(!host.decky_dir(&name).join("disk").exists());
}

#[tokio::test]
async fn every_refusal_is_one_line_that_says_why() {
    let (host, reconciler, name) = host("127.94.12", &offers(&[Service::Redis])).await;
    let large = vec![0u8; 1024 * 1024 + 1];
    for (arguments, input, wanted) in [
        (
            vec!["decky-77", "list"],
            &b""[..],
            "there is no decky called 'decky-77'",
        ),
        (vec!["../etc", "list"], b"", "'../etc' is not a decky name"),
        (vec![&name, "write", "/a/../b"], b"", "'..' is not allowed"),
        (
            vec![&name, "write", "relative"],
            b"",
            "it must begin with /",
        ),
        (vec![&name, "write", "/x\n"], b"", "control characters"),
        (vec![&name, "write", "/"], b"", "/ is a directory"),
        (
            vec![&name, "write", "/x", "--owner", "$(id)"],
            b"",
            "'$(id)' is not a user name",
        ),
        (vec![&name, "write", "/x"], &large, "too large"),
        (
            vec![&name, "connect", "127.0.0.1:1"],
            b"",
            "127.0.0.1 is not one of this decky's peers",
        ),
    ] {
        let (code, out, err) = io(&host, &arguments, input);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        assert!(err.contains(wanted), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    drop(reconciler);
    control::stop(&host.decky_dir(&name)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while control::status(&host.decky_dir(&name)).await.is_some() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (code, _, err) = io(&host, &[&name, "list"], b"");
    assert_eq!(code, Some(1));
    assert!(err.contains("decky-01 is not running"), "{err}");
}

#[tokio::test]
async fn a_decky_talks_to_its_peers_from_its_own_address() {
    let peer = std::net::TcpListener::bind("127.94.13.200:0").unwrap();
    let addr = peer.local_addr().unwrap();
    let wish = Wish {
        peers: vec![addr.ip()],
        ..offers(&[Service::Redis])
    };
    let (host, _reconciler, name) = host("127.94.13", &wish).await;
    let server = std::thread::spawn(move || {
        let (mut stream, from) = peer.accept().unwrap();
        let mut got = [0u8; 4];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(b"220 hello\r\n").unwrap();
        (from.ip(), got)
    });
    let (code, out, err) = io(
        &host,
        &[&name, "connect", &addr.to_string(), "--send", "HI\\r\\n"],
        b"",
    );
    assert_eq!((code, out.as_str()), (Some(0), "220 hello\r\n"), "{err}");
    assert_eq!(server.join().unwrap(), (host.ip(1), *b"HI\r\n"));
}

#[tokio::test]
async fn callers_that_hang_or_send_garbage_hold_up_nobody() {
    let (host, _reconciler, name) = host("127.94.14", &offers(&[Service::Redis])).await;
    let dir = host.decky_dir(&name);
    let call = || UnixStream::connect(control::socket_path(&dir)).unwrap();
    let silent: Vec<UnixStream> = (0..20).map(|_| call()).collect();
    let begun = Instant::now();
    let meta = control::write(&dir, "/x", b"1", 0o644, Some(Stamp(0)), None)
        .await
        .unwrap();
    assert_eq!(meta.size, 1);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    drop(silent);
    for garbage in [
        &b"\xff\xfe\n"[..],
        b"{\"op\":\"fly\"}\n",
        b"[]\n",
        b"{\"op\":\"write\"}\n",
    ] {
        let mut stream = call();
        stream.write_all(garbage).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(
            reply.starts_with("{\"refused\":{\"why\":\"bad_request\""),
            "{reply}"
        );
    }
    // Somebody who took over one decky must not reach another through its caller.
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(
        control::socket_path(&dir),
        control::socket_path(other.path()),
    )
    .unwrap();
    assert!(control::stop(other.path()).await.is_err());
    // More than any request may have.
    let mut stream = call();
    let block = vec![b'a'; 1 << 20];
    let mut reply = String::new();
    let _taken = (0..8).all(|_| stream.write_all(&block).is_ok());
    let _cut = stream.read_to_string(&mut reply);
    assert!(reply.is_empty() || reply.contains("too long"), "{reply}");
    let refused = control::list(&dir, "/nothing").await.unwrap_err();
    assert!(matches!(refused, Error::Refused(r) if r.why == Why::Missing));
    let db = host.db().await;
    let rows = until_running(&db).await;
    drop(open(&rows[0], Service::Redis));
}

/// One reply line of an FTP server.
fn reply(control: &mut impl BufRead) -> String {
    let mut line = String::new();
    control.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// What `command` transfers over a passive data connection.
fn transfer(control: &mut BufReader<TcpStream>, command: &str) -> String {
    control.get_mut().write_all(b"EPSV\r\n").unwrap();
    let passive = reply(control);
    let port: u16 = passive.rsplit('|').nth(1).unwrap().parse().unwrap();
    let ip = control.get_ref().peer_addr().unwrap().ip();
    let mut data = TcpStream::connect((ip, port)).unwrap();
    data.set_read_timeout(Some(PATIENCE)).unwrap();
    control.get_mut().write_all(command.as_bytes()).unwrap();
    let opened = reply(control);
    assert!(opened.starts_with("150"), "{command}: {opened}");
    let mut got = String::new();
    data.read_to_string(&mut got).unwrap();
    assert!(reply(control).starts_with("226"));
    got
}

#[tokio::test]
async fn planted_files_are_served_by_ftp_and_http() {
    let wish = offers(&[Service::Ftp, Service::Http]);
    let (host, _reconciler, name) = host("127.94.15", &wish).await;
    let db = host.db().await;
    let row = db.decky_list().await.unwrap().remove(0);
    let shared = ftp::Shared::new(&row.persona, &Values::new());
    let (user, password) = shared.planted();
    let dir = host.decky_dir(&name);
    let when = Stamp::parse("2024-03-05T08:12:00Z").unwrap();
    let plant = async |path: &str, content: &[u8]| {
        control::write(&dir, path, content, 0o644, Some(when), None)
            .await
            .unwrap();
    };
    let plan = format!("/home/{user}/private/plan.txt");
    plant(&plan, b"the plan\n").await;
    plant("/var/www/html/files/prices.json", b"{\"price\":1}").await;
    control::delete(&dir, &format!("/home/{user}/notes.txt"))
        .await
        .unwrap();

    let mut session = BufReader::new(open(&row.decky, Service::Ftp));
    while !reply(&mut session).starts_with("220 ") {}
    for command in [
        format!("USER {user}\r\n"),
        format!("PASS {password}\r\n"),
        "TYPE I\r\n".to_owned(),
    ] {
        session.get_mut().write_all(command.as_bytes()).unwrap();
        let answer = reply(&mut session);
        let fine = ["331", "230", "200"].contains(&answer.get(..3).unwrap_or_default());
        assert!(fine, "{answer}");
    }
    let listed = transfer(&mut session, "LIST\r\n");
    assert!(
        listed.contains("private") && !listed.contains("notes.txt"),
        "{listed}"
    );
    let listed = transfer(&mut session, "LIST private\r\n");
    let shown = [" 9 ", "2024", "plan.txt"];
    assert!(shown.iter().all(|s| listed.contains(s)), "{listed}");
    let got = transfer(&mut session, "RETR private/plan.txt\r\n");
    assert_eq!(got, "the plan\n");
    // While the connection is open.
    plant(&plan, b"another\n").await;
    let got = transfer(&mut session, "RETR private/plan.txt\r\n");
    assert_eq!(got, "another\n");

    let mut http = open(&row.decky, Service::Http);
    http.write_all(b"GET /files/prices.json HTTP/1.0\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("Last-Modified: Tue, 05 Mar 2024 08:12:00 GMT\r\n"),
        "{answer}"
    );
    assert!(answer.contains("application/json"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"price\":1}"), "{answer}");
}
