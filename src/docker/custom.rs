//! Services of the operator's own: a container per service in the network namespace of
//! its decky, from an image the operator's Docker pulls or builds. A failure costs that
//! service only, is understood (see [`failure`]) and is not repeated in a loop; fetching
//! goes on behind whoever waits for it, so a slow registry holds nothing else up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::docker::container::{self, Found};
use crate::docker::engine::{Engine, absent, conflict, said};
use crate::docker::failure::{self, DELAYS, Failure};
use crate::docker::label;
use crate::model::Custom;

/// What images usually need to drop their own rights; no raw sockets, no device nodes.
const POWER: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
];
/// Most memory of a service.
const MEMORY: i64 = 512 * 1024 * 1024;
/// Most processes and threads of a service.
const PIDS: i64 = 256;
/// Longest wait for an image before the rest of the fleet goes on.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a failed fetch is remembered: one that may pass, and one that will not.
const MEMORY_OF_FAILURE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// Most files of a build context looked at for changes.
const CONTEXT_MAX: usize = 10_000;

/// Where the operator's Docker settings are.
#[derive(Clone, Debug)]
pub struct Client {
    /// `DOCKER_CONFIG`.
    pub config: PathBuf,
    /// `BUILDX_CONFIG`.
    pub buildx: PathBuf,
}

impl Client {
    /// The environment's, else those the units name: below the install directory.
    #[must_use]
    pub fn below(install: &Path) -> Self {
        let named = |name: &str, otherwise: PathBuf| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map_or(otherwise, PathBuf::from)
        };
        let config = named("DOCKER_CONFIG", install.join(".docker"));
        Self {
            buildx: named("BUILDX_CONFIG", config.join("buildx")),
            config,
        }
    }
}

/// Makes the containers of a decky's own services what `customs` wants: missing and
/// ended ones are made, others removed, those that fit are left alone.
///
/// # Errors
/// One line per service that does not run, joined.
pub async fn tend(
    engine: &Engine,
    client: &Client,
    home: &Path,
    base: &Found,
    customs: &[Custom],
    there: &[Found],
) -> Result<(), String> {
    let mut wrong = Vec::new();
    let strays = there.iter().filter(|found| {
        found
            .service
            .as_ref()
            .is_some_and(|service| !customs.iter().any(|custom| custom.name == *service))
    });
    for stray in strays {
        if let Err(error) = container::remove(engine, &stray.id).await {
            wrong.push(format!("{}: {error:#}", stray.name));
        }
    }
    for custom in customs {
        let found = there
            .iter()
            .find(|found| found.service.as_deref() == Some(&custom.name));
        if let Err(why) = one(engine, client, home, base, custom, found).await {
            wrong.push(format!("{}: {why}", custom.name));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

async fn one(
    engine: &Engine,
    client: &Client,
    home: &Path,
    base: &Found,
    custom: &Custom,
    found: Option<&Found>,
) -> Result<(), String> {
    let source = Source::of(custom)?;
    let hash = fingerprint(&format!("{}\0{}\0{custom:?}", base.id, source.reference()));
    if let Some(found) = found {
        if found.running && found.labels.get(label::HASH) == Some(&hash) {
            return Ok(());
        }
        if !found.running
            && let Some(line) = container::last_line(engine, &found.id).await
        {
            tracing::warn!("{} ended; it last said: {line}", found.name);
        }
    }
    fetched(engine, client, &source).await?;
    if let Some(found) = found {
        let gone = container::remove(engine, &found.id).await;
        gone.map_err(|error| format!("{error:#}"))?;
    }
    let name = format!("{}-{}", container::name_of(&base.decky), custom.name);
    let body = body(home, base, custom, source.reference(), hash);
    let id = match engine.create(&name, &body, None).await {
        Ok(id) => id,
        Err(error) if conflict(&error) => {
            return Err(format!(
                "the container name {name} is in use by something else; rename the service"
            ));
        }
        Err(error) => return Err(said(&error)),
    };
    let started = container::start(engine, &id).await;
    started.map_err(|error| format!("{error:#}"))?;
    tracing::info!("{name} started from {}", source.reference());
    Ok(())
}

fn body(
    home: &Path,
    base: &Found,
    custom: &Custom,
    image: &str,
    hash: String,
) -> ContainerCreateBody {
    ContainerCreateBody {
        cmd: (!custom.exec.is_empty()).then(|| custom.exec.clone()),
        image: Some(image.to_owned()),
        labels: Some(HashMap::from([
            (label::SERVICE.to_owned(), "true".to_owned()),
            (label::DECKY.to_owned(), base.decky.clone()),
            (label::SERVICE_NAME.to_owned(), custom.name.clone()),
            (label::HOME.to_owned(), home.display().to_string()),
            (label::HASH.to_owned(), hash),
        ])),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", base.id)),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(POWER.iter().map(|c| (*c).to_owned()).collect()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            memory: Some(MEMORY),
            memory_swap: Some(MEMORY),
            pids_limit: Some(PIDS),
            log_config: Some(container::logs("10m", "5")),
            restart_policy: Some(container::never()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// A registry, unless the engine has it.
    Registry(String),
    /// A directory with a Dockerfile; the tag follows from its content.
    Build { context: PathBuf, tag: String },
}

impl Source {
    fn of(custom: &Custom) -> Result<Self, String> {
        let context = Path::new(&custom.image);
        if !context.is_absolute() {
            return Ok(Source::Registry(with_tag(&custom.image)));
        }
        if !context.join("Dockerfile").is_file() {
            return Err(format!("{} has no Dockerfile", custom.image));
        }
        let state = listing(context).map_err(|e| format!("reading {}: {e}", custom.image))?;
        Ok(Source::Build {
            context: context.to_owned(),
            tag: format!("decnet-custom:{}", fingerprint(&state)),
        })
    }

    fn reference(&self) -> &str {
        match self {
            Source::Registry(reference) => reference,
            Source::Build { tag, .. } => tag,
        }
    }
}

/// `image` with the tag an engine would take; without one the API pulls them all.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// Names, sizes and times of a directory's files.
fn listing(dir: &Path) -> std::io::Result<String> {
    let mut lines = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            // Of the entry itself: a link is not followed.
            let meta = entry.metadata()?;
            if meta.is_dir() {
                todo.push(entry.path());
            }
            lines.push(format!(
                "{} {} {:?}",
                entry.path().display(),
                meta.len(),
                meta.modified().ok()
            ));
            if lines.len() > CONTEXT_MAX {
                return Err(std::io::Error::other(format!(
                    "more than {CONTEXT_MAX} files"
                )));
            }
        }
    }
    lines.sort();
    Ok(lines.join("\n"))
}

/// First 12 hex digits of the SHA-256 of `text`.
fn fingerprint(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(6).map(|b| format!("{b:02x}")).collect()
}

/// A fetch under way or failed.
struct Fetch {
    outcome: watch::Receiver<Option<Result<(), Failure>>>,
    begun: Instant,
}

impl Fetch {
    /// Whether it still stands: runs, or failed not long ago.
    fn stands(&self) -> bool {
        match &*self.outcome.borrow() {
            None => self.outcome.has_changed().is_ok(),
            Some(Ok(())) => false,
            Some(Err(failure)) => {
                let (passing, lasting) = MEMORY_OF_FAILURE;
                let memory = if failure.kind.worth_retrying() {
                    passing
                } else {
                    lasting
                };
                self.begun.elapsed() < memory
            }
        }
    }
}

/// One fetch per image at a time, whatever number of deckies wait for it.
static FETCHES: LazyLock<Mutex<HashMap<String, Fetch>>> = LazyLock::new(Mutex::default);

/// Makes sure that the engine has the image, waiting no longer than [`PATIENCE`].
async fn fetched(engine: &Engine, client: &Client, source: &Source) -> Result<(), String> {
    let reference = source.reference();
    match engine.client().inspect_image(reference).await {
        Ok(_) => return Ok(()),
        Err(error) if absent(&error) => {}
        Err(error) => return Err(said(&error)),
    }
    let mut outcome = {
        let mut fetches = FETCHES.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{} {reference}", engine.socket().display());
        match fetches.get(&key).filter(|fetch| fetch.stands()) {
            Some(fetch) => fetch.outcome.clone(),
            None => {
                let (done, outcome) = watch::channel(None);
                let (engine, client, source) = (engine.clone(), client.clone(), source.clone());
                tokio::spawn(async move {
                    done.send_replace(Some(fetch(&engine, &client, &source).await));
                });
                let fetch = Fetch {
                    outcome: outcome.clone(),
                    begun: Instant::now(),
                };
                fetches.insert(key, fetch);
                outcome
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, outcome.wait_for(Option::is_some)).await;
    match waited {
        Ok(Ok(done)) => match &*done {
            Some(Err(failure)) => Err(format!("{reference}: {failure}")),
            _ => Ok(()),
        },
        Ok(Err(_)) => Err(format!("{reference}: the fetch was given up")),
        Err(_) => Err(format!("{reference} is still being fetched")),
    }
}

async fn fetch(engine: &Engine, client: &Client, source: &Source) -> Result<(), Failure> {
    for tried in 1.. {
        let outcome = match source {
            Source::Registry(reference) => pull(engine, client, reference).await,
            Source::Build { context, tag } => build(engine, client, context, tag).await,
        };
        let Err(failure) = outcome else { break };
        tracing::warn!("{}: {failure}", source.reference());
        match failure.next_attempt(tried, DELAYS) {
            Some(delay) => tokio::time::sleep(delay).await,
            None => return Err(failure),
        }
    }
    Ok(())
}

async fn pull(engine: &Engine, client: &Client, reference: &str) -> Result<(), Failure> {
    tracing::info!("pulling {reference}");
    let options = CreateImageOptionsBuilder::default()
        .from_image(reference)
        .build();
    let credentials = credentials(&client.config, reference);
    let mut answers = engine
        .client()
        .create_image(Some(options), None, credentials);
    while let Some(answer) = answers.next().await {
        answer.map_err(|error| failure::classify(&said(&error), &mounts()))?;
    }
    Ok(())
}

/// Lets the operator's client build: contexts, ignore files and builders are its own.
async fn build(engine: &Engine, client: &Client, context: &Path, tag: &str) -> Result<(), Failure> {
    failure::preflight(&mounts())?;
    tracing::info!("building {tag} from {}", context.display());
    let output = tokio::process::Command::new("docker")
        .args(["build", "--tag", tag])
        .arg(context)
        .env(
            "DOCKER_HOST",
            format!("unix://{}", engine.socket().display()),
        )
        .env("DOCKER_CONFIG", &client.config)
        .env("BUILDX_CONFIG", &client.buildx)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failure::classify(
            &format!(
                "docker build: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            &mounts(),
        )),
        Err(error) => Err(failure::classify(
            &format!("starting `docker build`: {error}"),
            "",
        )),
    }
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// What the client's `config.json` holds for the image's registry. Credential helpers
/// are programs of the operator's and are not run from here.
fn credentials(config: &Path, reference: &str) -> Option<DockerCredentials> {
    let text = std::fs::read(config.join("config.json")).ok()?;
    let file: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let registry = registry(reference);
    let entry = file.get("auths")?.get(registry)?;
    let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
    let pair = text("auth").and_then(|auth| {
        use base64::Engine as _;
        let plain = base64::engine::general_purpose::STANDARD
            .decode(auth)
            .ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (user, password) = plain.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    });
    let (username, password) = pair.unzip();
    Some(DockerCredentials {
        username: username.or_else(|| text("username")),
        password: password.or_else(|| text("password")),
        identitytoken: text("identitytoken"),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    })
}

/// The registry of an image, as `config.json` calls it.
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "https://index.docker.io/v1/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        assert_eq!(with_tag("redis"), "redis:latest");
        assert_eq!(with_tag("host:5000/a/redis"), "host:5000/a/redis:latest");
        assert_eq!(with_tag("host:5000/redis:7"), "host:5000/redis:7");
        assert_eq!(with_tag("redis@sha256:00"), "redis@sha256:00");
    }

    #[test]
    fn a_login_is_found_under_the_images_registry() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"auths":{"reg.example:5000":{"auth":"b3BzOnM6M2NyZXQ="},"https://index.docker.io/v1/":{"identitytoken":"t"}}}"#;
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let login = credentials(dir.path(), "reg.example:5000/a/b:1").unwrap();
        assert_eq!(login.username.as_deref(), Some("ops"));
        assert_eq!(login.password.as_deref(), Some("s:3cret"));
        let login = credentials(dir.path(), "redis:7").unwrap();
        assert_eq!(login.identitytoken.as_deref(), Some("t"));
        assert!(credentials(dir.path(), "other.example/x").is_none());
        assert!(credentials(&dir.path().join("none"), "redis").is_none());
    }

    #[test]
    fn a_changed_context_is_another_image() {
        let dir = tempfile::tempdir().unwrap();
        let custom = Custom {
            name: "x".to_owned(),
            image: dir.path().display().to_string(),
            exec: Vec::new(),
            ports: Vec::new(),
        };
        assert!(Source::of(&custom).unwrap_err().contains("no Dockerfile"));
        std::fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        let one = Source::of(&custom).unwrap();
        assert_eq!(one, Source::of(&custom).unwrap());
        std::fs::write(dir.path().join("Dockerfile"), "FROM scratch\nENV A=1\n").unwrap();
        assert_ne!(one, Source::of(&custom).unwrap());
    }
}
