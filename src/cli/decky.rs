//! `decnet decky --dir DIR`: one decky; see [`crate::decoy::run`]. In a network of its
//! own it first gives up everything else; see [`crate::netns::cage`].

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::decoy::run::{Spec, spec_path};
use crate::netns::{cage, egress, inside};
use crate::{app, decoy};

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The decky's directory.
    #[arg(long)]
    dir: PathBuf,
    /// What to shut it into before it serves.
    #[arg(long, value_enum, requires = "uid")]
    enclose: Option<Enclose>,
    /// The user it becomes.
    #[arg(long)]
    uid: Option<u32>,
}

/// Who made the network namespace.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Enclose {
    /// The decky makes it, the reconciler puts the interface into it.
    Native,
    /// The container engine did.
    Docker,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Threads would keep what the calling one gives up: nothing has started any yet.
    let dir = match (args.enclose, args.uid) {
        (Some(Enclose::Native), Some(uid)) => native(&args.dir, uid)?,
        (Some(Enclose::Docker), Some(uid)) => docker(&args.dir, uid)?,
        _ => args.dir.as_path(),
    };
    super::block_on(async {
        let stop = CancellationToken::new();
        app::stop_on_signal(&stop)?;
        decoy::run::run(dir, stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// In namespaces of its own, with its directory for a root. Says `ready` when it has
/// them and waits for `go`, which means that its interface is there.
fn native(dir: &Path, uid: u32) -> anyhow::Result<&'static Path> {
    let spec = read(dir)?;
    let link = spec
        .wish
        .link
        .as_ref()
        .context("decky.json names no network to attach to")?;
    // Read and entered while it still may; its own user cannot get through the parents.
    std::env::set_current_dir(dir).with_context(|| format!("entering {}", dir.display()))?;
    cage::become_user(uid)?;
    cage::enter(uid)?;
    let mut out = std::io::stdout();
    out.write_all(b"ready\n").context("reporting")?;
    out.flush().context("reporting")?;
    let mut go = [0; 3];
    std::io::stdin()
        .read_exact(&mut go)
        .context("the reconciler gave up")?;
    let link_local = spec.persona.ipv6_link_local();
    super::block_on(inside::configure(
        spec.ip,
        link,
        Some(link_local),
        spec.persona.family,
    ))?;
    egress::apply(&spec.wish.peers, &[])?;
    cage::shut_in()?;
    let dir = Path::new("/");
    cage::lock(dir, !spec.wish.peers.is_empty())?;
    Ok(dir)
}

/// In a container: the engine made the namespaces and the root.
fn docker(dir: &Path, uid: u32) -> anyhow::Result<&Path> {
    let spec = read(dir)?;
    if let Some(link) = &spec.wish.link {
        let link_local = spec.persona.ipv6_link_local();
        super::block_on(inside::dress(
            spec.ip,
            link,
            link_local,
            spec.persona.family,
        ))?;
    }
    egress::apply(&spec.wish.peers, &[])?;
    cage::become_user(uid)?;
    cage::lock(dir, !spec.wish.peers.is_empty())?;
    Ok(dir)
}

fn read(dir: &Path) -> anyhow::Result<Spec> {
    let path = spec_path(dir);
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
}
