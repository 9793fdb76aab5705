//! The real server under clients that try to fill its memory.

use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::json;

use super::{PATIENCE, Raw, framed, many_descriptors};
use crate::support::{command, wait_for};

/// `decnet bus` on `state`; killed when dropped.
pub(super) struct Process(pub(super) Child);

impl Process {
    pub(super) fn start(state: &Path) -> Self {
        let child = command(state)
            .arg("bus")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = state.join("run/bus.sock");
        wait_for("bus socket", PATIENCE, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        Self(child)
    }

    fn resident_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn a_thousand_clients_with_a_megabyte_each_do_not_fill_the_memory() {
    many_descriptors();
    let state = tempfile::tempdir().unwrap();
    let bus = Process::start(state.path());
    let socket = state.path().join("run/bus.sock");
    // Unfinished large frames: as much of each as the bus is willing to take.
    let mut announced = b"PUB big\n\x00\x0f\xff\xff{\"payload\":\"".to_vec();
    announced.resize(900 * 1024, b'x');
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        let raw = Raw::connect(&socket).await;
        let _taken = raw.stream.try_write(&announced);
        crowd.push(raw);
    }
    for _ in 0..20 {
        for raw in &crowd {
            let _taken = raw.stream.try_write(&announced[..64 * 1024]);
        }
    }
    // Readers that never read, each with two megabytes of its own waiting. The frames are
    // small enough not to queue behind the unfinished large ones.
    let mut readers = Vec::new();
    for n in 0..200 {
        let mut raw = Raw::connect(&socket).await;
        raw.subscribe(&format!("own.{n}")).await;
        readers.push(raw);
    }
    let mut publisher = Raw::connect(&socket).await;
    let body = serde_json::to_vec(&json!({"payload": "x".repeat(60_000)})).unwrap();
    for _ in 0..34 {
        for n in 0..readers.len() {
            publisher
                .send(&framed(&format!("PUB own.{n}"), &body))
                .await;
        }
    }
    // Whoever behaves is still served.
    let mut healthy = Raw::connect(&socket).await;
    healthy.subscribe("ok").await;
    healthy.frame("PUB ok", b"{\"payload\":1}").await;
    assert_eq!(healthy.event().await.1["payload"], json!(1));
    let peak = bus.resident_mib();
    eprintln!("peak resident set: {peak} MiB");
    assert!(peak < 256, "the bus took {peak} MiB");
}
