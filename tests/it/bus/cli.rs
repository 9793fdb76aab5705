//! `decnet bus`, `bus tail` and `bus publish` as a person uses them.

use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};

use super::PATIENCE;
use super::memory::Process;
use crate::support::{command, wait_for};

fn run(mut command: Command) -> (Output, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn tail_prints_what_is_published_plain_and_as_json() {
    let state = tempfile::tempdir().unwrap();
    let _bus = Process::start(state.path());
    let mut lines = Vec::new();
    for extra in [None, Some("--json")] {
        let mut tail = command(state.path())
            .args(["bus", "tail", "attacker.>", "other"])
            .args(extra)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut out = BufReader::new(tail.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            sender.send(line).unwrap();
        });
        // Nobody says when tail is listening, so it is told until it hears.
        let line = wait_for("a printed event", PATIENCE, || {
            let (output, said) = run({
                let mut publish = command(state.path());
                publish.args(["bus", "publish", "attacker.seen"]);
                publish.args(["{\"esc\": \"\\u001b[2J\u{202e}\"}", "--type", "new"]);
                publish
            });
            assert!(output.status.success(), "{said}");
            receiver.try_recv().ok()
        });
        reader.join().unwrap();
        tail.kill().unwrap();
        tail.wait().unwrap();
        lines.push(line);
    }
    let plain: Vec<_> = lines[0].trim_end().splitn(4, ' ').collect();
    assert!(decnet::model::Stamp::parse(plain[0]).is_some(), "{plain:?}");
    assert_eq!(plain[1..3], ["attacker.seen", "new"]);
    assert!(plain[3].contains("\\u001b") && plain[3].contains("\\u{202e}"));
    let json: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(json["topic"], "attacker.seen");
    assert_eq!(json["type"], "new");
    assert_eq!(json["payload"]["esc"], "\u{1b}[2J\u{202e}");
}

#[test]
fn without_a_bus_both_say_so_and_name_the_fix() {
    let state = tempfile::tempdir().unwrap();
    for args in [&["bus", "tail", ">"][..], &["bus", "publish", "a.b", "{}"]] {
        let mut client = command(state.path());
        client.args(args);
        let (output, said) = run(client);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("decnet: no bus at "), "{said}");
        assert!(said.contains("systemctl start decnet-bus"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let mut off = command(state.path());
        off.args(args).env("DECNET_BUS_ENABLED", "false");
        let (output, said) = run(off);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("DECNET_BUS_ENABLED=true"), "{said}");
    }
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_sent() {
    let state = tempfile::tempdir().unwrap();
    let _bus = Process::start(state.path());
    for (args, expected) in [
        (&["bus", "publish", "a.*", "{}"][..], "bad topic 'a.*'"),
        (
            &["bus", "publish", "a.b", "{oops"],
            "the payload is not JSON",
        ),
        (&["bus", "tail", "a.>.b"], "'>' must be the last token"),
    ] {
        let mut client = command(state.path());
        client.args(args);
        let (output, said) = run(client);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_waiting_tail_finds_the_bus_that_comes_later() {
    let state = tempfile::tempdir().unwrap();
    let mut tail = command(state.path())
        .args(["bus", "tail", "--wait", "x"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _bus = Process::start(state.path());
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut out = BufReader::new(tail.stdout.take().unwrap());
    std::thread::spawn(move || {
        let mut line = String::new();
        let _end = out.read_line(&mut line);
        let _gone = sender.send(line);
    });
    let line = wait_for("a printed event", PATIENCE, || {
        let mut publish = command(state.path());
        publish.args(["bus", "publish", "x", "1"]);
        assert!(run(publish).0.status.success());
        receiver.try_recv().ok()
    });
    assert!(line.contains(" x - 1"), "{line}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn a_second_bus_is_refused_and_a_stale_socket_replaced() {
    let state = tempfile::tempdir().unwrap();
    let socket = state.path().join("run/bus.sock");
    let mut first = Process::start(state.path());
    let mut second = command(state.path());
    second.arg("bus");
    let (output, said) = run(second);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("another bus is already running"), "{said}");
    // Another layout that names the same socket.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut third = command(elsewhere.path());
    third.arg("bus").env("DECNET_BUS_SOCKET", &socket);
    let (output, said) = run(third);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("another bus is serving"), "{said}");
    assert!(UnixStream::connect(&socket).is_ok());
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    assert!(socket.exists(), "a killed bus leaves its socket");
    let _again = Process::start(state.path());
}

#[test]
fn a_foreign_server_on_the_socket_is_left_alone() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("run")).unwrap();
    let socket = state.path().join("run/bus.sock");
    let _foreign = UnixListener::bind(&socket).unwrap();
    let mut bus = command(state.path());
    bus.arg("bus");
    let (output, said) = run(bus);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("another bus is serving"), "{said}");
    assert!(UnixStream::connect(&socket).is_ok());
}

#[test]
fn an_unknown_group_is_a_configuration_error() {
    let state = tempfile::tempdir().unwrap();
    let mut bus = command(state.path());
    bus.arg("bus").env("DECNET_BUS_GROUP", "no-such-group-here");
    let (output, said) = run(bus);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("'no-such-group-here' does not exist"),
        "{said}"
    );
}

#[test]
fn the_bus_stops_when_it_is_asked_over_itself_and_takes_its_socket_along() {
    let state = tempfile::tempdir().unwrap();
    let mut bus = Process::start(state.path());
    let mut stop = command(state.path());
    stop.args([
        "bus",
        "publish",
        "system.bus.control",
        "{\"action\":\"stop\"}",
    ]);
    let (output, said) = run(stop);
    assert!(output.status.success(), "{said}");
    let status = wait_for("end of the bus", PATIENCE, || bus.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!state.path().join("run/bus.sock").exists());
}
