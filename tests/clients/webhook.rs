//! The README's ways to verify a delivery, run as they stand there by the languages they are
//! written in.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use decnet::export::{Envelope, Format, Target, outgoing};
use decnet::model::Stamp;

/// The first block of that language in the chapter.
fn snippet(language: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = fs::read_to_string(readme).unwrap();
    let (_, chapter) = text.split_once("Deliveries are signed").unwrap();
    let (_, rest) = chapter.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap().0.to_owned()
}

/// Asks one of them about a body.
fn says(program: &[&str], script: &str, arguments: &[&str], body: &[u8]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("verify");
    fs::write(&file, script).unwrap();
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .arg(&file)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", program[0]));
    child.stdin.take().unwrap().write_all(body).unwrap();
    match child.wait().unwrap().code() {
        Some(0) => true,
        Some(7) => false,
        other => panic!("{}: {other:?}", program[0]),
    }
}

#[test]
#[ignore = "needs python3, node and openssl; run by make test-clients"]
fn the_readme_s_snippets_verify_a_delivery_and_refuse_a_changed_or_old_one() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let target = Target {
        format: Format::Json,
        template: None,
        headers: &[],
        // After a rotation: ours is the second of two.
        secrets: &["a secret that is newer", secret],
    };
    let now = Stamp::now();
    let python = format!(
        "{}\nimport sys\nh = dict(zip(['webhook-id', 'webhook-timestamp', 'webhook-signature'], sys.argv[2:]))\nsys.exit(0 if verify(sys.argv[1], h, sys.stdin.buffer.read()) else 7)\n",
        snippet("python")
    );
    let node = format!(
        "{}\nconst [s, id, t, sig] = process.argv.slice(2);\nconst b = require('node:fs').readFileSync(0);\nprocess.exit(verify(s, {{'webhook-id': id, 'webhook-timestamp': t, 'webhook-signature': sig}}, b) ? 0 : 7);\n",
        snippet("js")
    );
    let shell = format!("{}\nverify \"$@\" && exit 0\nexit 7\n", snippet("sh"));
    for (program, script) in [
        (&["python3"][..], python),
        (&["node"][..], node),
        (&["sh"][..], shell),
    ] {
        let ask = |secret: &str, at: Stamp, change: bool| {
            let mut event = Envelope::sample(at);
            event.payload["text"] = "ünïcode \u{0}\n".into();
            let sent = outgoing(&target, &event, at).unwrap();
            let header = |name: &str| {
                let found = sent.headers.iter().find(|(n, _)| n == name);
                found.unwrap().1.clone()
            };
            let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
            let arguments = [secret, &id, &time, &header("webhook-signature")];
            let mut body = sent.body.clone();
            if change {
                body.push(b' ');
            }
            says(program, &script, &arguments, &body)
        };
        let name = program[0];
        assert!(ask(secret, now, false), "{name} refuses a good one");
        assert!(!ask(secret, now, true), "{name} takes a changed one");
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert!(!ask(other, now, false), "{name} takes another secret");
        let old = Stamp(now.0 - 600_000_000);
        assert!(!ask(secret, old, false), "{name} takes an old one");
    }
}
