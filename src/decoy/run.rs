//! `decnet decky --dir DIR`: the process that is one decky. Reads `decky.json` from its
//! directory, binds what it can, serves until told to stop. It needs no database, no
//! bus and no Docker; all it can reach is its own directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::decoy::control::{self, Status};
use crate::decoy::listen::{self, Host};
use crate::decoy::session::Sink;
use crate::decoy::{Values, shared};
use crate::model::{Severity, Wish};
use crate::net::descriptor;
use crate::persona::Persona;

/// Longest time connections may take to end after a stop.
const GRACE: Duration = Duration::from_secs(3);
/// Descriptors wanted for connections: every service full, and some.
const DESCRIPTORS: u64 = 65_536;

/// Everything a decky process is told; written by the reconciler, mode 0600.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The decky's name; in event lines only.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its number on this host.
    pub slot: u32,
    /// What it offers and where it runs.
    pub wish: Wish,
    /// Who it is.
    pub persona: Persona,
    /// Most unread spool bytes.
    pub spool_max_bytes: u64,
    /// Fingerprint of what a running process cannot change about itself: another one
    /// means a restart.
    pub base_hash: String,
    /// Fingerprint of all of the above; echoed in [`Status`].
    pub config_hash: String,
}

impl Spec {
    /// Puts a specification together and fingerprints it.
    #[must_use]
    pub fn new(
        name: &str,
        ip: IpAddr,
        slot: u32,
        wish: Wish,
        persona: Persona,
        spool_max_bytes: u64,
    ) -> Self {
        let base = serde_json::json!([
            name,
            ip,
            slot,
            wish.runtime,
            wish.link,
            wish.customs,
            wish.peers,
            persona,
            spool_max_bytes,
        ]);
        let base_hash = fingerprint(&base);
        let config_hash = fingerprint(&serde_json::json!([
            base_hash,
            wish.services,
            wish.settings
        ]));
        Self {
            name: name.to_owned(),
            ip,
            slot,
            wish,
            persona,
            spool_max_bytes,
            base_hash,
            config_hash,
        }
    }
}

/// First 16 hex digits of the SHA-256 of `value`.
fn fingerprint(value: &serde_json::Value) -> String {
    let digest = Sha256::digest(value.to_string());
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Where a decky's [`Spec`] lies.
#[must_use]
pub fn spec_path(dir: &Path) -> std::path::PathBuf {
    dir.join("decky.json")
}

/// Runs the decky of `dir` until `stop`.
///
/// # Errors
/// When its directory is unusable or the control socket cannot be bound.
pub async fn run(dir: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let path = spec_path(dir);
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let spec: Spec =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    // Ten thousand idle connections need as many.
    if let Err(error) = descriptor::raise_limit(DESCRIPTORS) {
        tracing::warn!("raising the descriptor limit: {error}");
    }
    let sink = Sink::open(dir, &spec.name, spec.spool_max_bytes)
        .with_context(|| format!("opening the spool in {}", dir.display()))?;
    let sink = Arc::new(sink);
    let persona = Arc::new(spec.persona.clone());
    let tracker = TaskTracker::new();
    let mut listeners = Vec::new();
    let no_settings = Values::new();
    for service in &spec.wish.services {
        let (socket, row) = listen::bind(spec.ip, *service);
        listeners.push(row);
        let Some(socket) = socket else {
            continue;
        };
        tracker.spawn(listen::accept(
            socket,
            Host {
                service: *service,
                persona: Arc::clone(&persona),
                sink: Arc::clone(&sink),
                shared: shared(
                    *service,
                    &persona,
                    spec.wish.settings.get(service).unwrap_or(&no_settings),
                ),
                stop: stop.clone(),
            },
        ));
    }
    sink.note("decky", "startup", Severity::Info, "");
    let status = Status {
        config_hash: spec.config_hash.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        listeners,
    };
    let served = control::serve(dir, status, stop.clone()).await;
    stop.cancel();
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!("{} connections did not end in time", tracker.len());
    }
    sink.note("decky", "shutdown", Severity::Info, "");
    served.context("control socket")
}
