//! The Docker runtime: one container per decky. A start converges from wherever the
//! last one was interrupted; a decky that runs is never touched for another's sake.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use futures_util::FutureExt;
use tokio::sync::RwLock;

use crate::config::Config;
use crate::decoy::run::Spec;
use crate::docker::container::{Base, Found};
use crate::docker::custom::Client;
use crate::docker::{Engine, container, custom, image, network};
use crate::model::{Driver, Runtime};
use crate::netns::stack;
use crate::worker::reconciler::runtime::{
    STOP, Started, claim, prepare_for, service_owner, until_answering,
};

/// Held for reading between finding a network and running a container on it, for
/// writing while unused networks are removed.
static NETWORKS: RwLock<()> = RwLock::const_new(());

/// Deckies that have a container on this host's engine; none when there is no engine.
///
/// # Errors
/// When the engine is there and does not answer.
pub(super) async fn present(config: &Config) -> anyhow::Result<BTreeMap<String, Runtime>> {
    let found = containers(config, None).await?;
    Ok(found
        .into_iter()
        .map(|found| (found.decky, Runtime::Docker))
        .collect())
}

/// Starts the decky and waits until it answers.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn start(config: &Config, spec: &Spec) -> anyhow::Result<Started> {
    let Some(link) = &spec.wish.link else {
        bail!("a Docker decky needs a network: name its interface and subnet");
    };
    let engine = needed(config).await?;
    let home = config.paths.deckies();
    let owner = owner(config, spec)?;
    remove_all(&engine, config, &spec.name).await?;
    if link.driver != Driver::Bridge {
        claim(config, spec).await?;
    }
    let dir = prepare_for(config, spec, owner.0)?;
    let image = image::ensure(&engine).await?;
    let held = NETWORKS.read().await;
    let network = network::ensure(&engine, &home, link).await?;
    let settings: Vec<_> = stack::settings(spec.persona.family).collect();
    let base = Base {
        name: &spec.name,
        home: &home,
        dir: &dir,
        base_hash: &spec.base_hash,
        hostname: &spec.persona.hostname,
        ip: spec.ip,
        // An ipvlan has its parent's.
        mac: Some(spec.persona.mac.as_str())
            .filter(|mac| !mac.is_empty() && link.driver != Driver::Ipvlan),
        settings: &settings,
        owner,
        enclose: true,
        network: &network,
        image: &image,
    };
    let id = container::run(&engine, &base).await?;
    drop(held);
    let answered = answer(&engine, &id, until_answering(&dir, spec, || Ok(None))).await;
    match answered {
        Ok(status) => Ok(Started {
            status,
            ended: async move { container::wait(&engine, &id, "not-running").await }.boxed(),
        }),
        Err(error) => {
            if let Err(error) = container::remove(&engine, &id).await {
                tracing::debug!("{}: {error:#}", spec.name);
            }
            Err(error)
        }
    }
}

/// What a start says, unless the container ends first.
async fn answer<T>(
    engine: &Engine,
    id: &str,
    answering: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let how = tokio::select! {
        answered = answering => match answered {
            Ok(status) => return Ok(status),
            Err(error) => format!("{error:#}"),
        },
        how = container::wait(engine, id, "not-running") => {
            format!("the container ended at once ({how})")
        }
    };
    let line = container::last_line(engine, id).await;
    let line = line.unwrap_or_else(|| "it said nothing".to_owned());
    bail!("{how}: {line}")
}

/// Keeps the operator's own services of a running decky as they are wanted.
///
/// # Errors
/// One line naming the services that do not run, and why.
pub(super) async fn tend(config: &Config, spec: &Spec) -> anyhow::Result<()> {
    if spec.wish.customs.is_empty() {
        return Ok(());
    }
    let engine = needed(config).await?;
    let home = config.paths.deckies();
    let there = container::list(&engine, &home, Some(&spec.name)).await?;
    let base = there
        .iter()
        .find(|found| found.service.is_none() && found.running)
        .context("its container is gone")?;
    let client = Client::below(&config.paths.install);
    custom::tend(&engine, &client, &home, base, &spec.wish.customs, &there)
        .await
        .map_err(anyhow::Error::msg)
}

/// Removes the containers of a decky that was told to stop, and networks nobody uses
/// any more.
///
/// # Errors
/// When the engine refuses. One that is away is not waited for: what it still has is
/// found by its labels when it is back.
pub(super) async fn end(config: &Config, name: &str) -> anyhow::Result<()> {
    let engine = match Engine::connect(&config.docker_socket).await {
        Ok(Some(engine)) => engine,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!("{name}: its containers stay for now: {error:#}");
            return Ok(());
        }
    };
    for found in containers(config, Some(name)).await? {
        // It was told to finish its connections.
        if found.service.is_none() && found.running {
            let gone = container::wait(&engine, &found.id, "not-running");
            if tokio::time::timeout(STOP, gone).await.is_err() {
                tracing::warn!("{name} did not stop and is killed");
            }
        }
    }
    remove_all(&engine, config, name).await?;
    let _alone = NETWORKS.write().await;
    network::sweep(&engine, &config.paths.deckies()).await;
    Ok(())
}

/// Whether a container of this decky exists, running or not.
pub(super) async fn exists(config: &Config, name: &str) -> bool {
    containers(config, Some(name))
        .await
        .is_ok_and(|found| !found.is_empty())
}

/// The engine of this host, which a decky needs.
async fn needed(config: &Config) -> anyhow::Result<Engine> {
    Engine::connect(&config.docker_socket).await?.with_context(|| {
        format!(
            "no Docker engine answers at {}: start it (sudo systemctl start docker), install it (sudo apt install docker.io), or use --runtime native",
            config.docker_socket.display()
        )
    })
}

async fn containers(config: &Config, decky: Option<&str>) -> anyhow::Result<Vec<Found>> {
    match Engine::connect(&config.docker_socket).await? {
        Some(engine) => container::list(&engine, &config.paths.deckies(), decky).await,
        None => Ok(Vec::new()),
    }
}

/// Removes every container of a decky; those in its namespace first.
async fn remove_all(engine: &Engine, config: &Config, name: &str) -> anyhow::Result<()> {
    let mut found = container::list(engine, &config.paths.deckies(), Some(name)).await?;
    found.sort_by_key(|found| found.service.is_none());
    for found in found {
        container::remove(engine, &found.id).await?;
    }
    Ok(())
}

/// User and group of the decky's files.
fn owner(config: &Config, spec: &Spec) -> anyhow::Result<(u32, u32)> {
    let uid = config
        .uid_base
        .checked_add(spec.slot)
        .context("DECNET_UID_BASE is too high")?;
    let group = service_owner(config)?.map_or_else(|| nix::unistd::getegid().as_raw(), |o| o.1);
    Ok((uid, group))
}
