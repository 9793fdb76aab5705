//! The operator's own images beside a decky.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bollard::query_parameters::CreateImageOptionsBuilder;
use decnet::decoy::run::Spec;
use decnet::model::{Custom, Service, Stamp, Wish};
use decnet::persona::{Asked, Persona};
use futures_util::StreamExt;

use crate::lab::{Lab, block_on};

/// An image of an operator: some program that listens on a port of its own. Any static
/// program would do; ours, told to be a Redis on every address, is at hand.
fn operators_files() -> [(&'static str, Vec<u8>); 2] {
    let wish = Wish {
        services: vec![Service::Redis],
        ..Wish::default()
    };
    let persona = Persona::derive(b"custom", "x", &Asked::default(), Stamp::now());
    let spec = Spec::new("x", [0, 0, 0, 0].into(), 1, wish, persona, 1 << 20);
    [
        ("srv/decky.json", serde_json::to_vec(&spec).unwrap()),
        (
            "bin/service",
            std::fs::read(env!("CARGO_BIN_EXE_decnet")).unwrap(),
        ),
    ]
}

fn operators_image(lab: &Lab, name: &str) {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in operators_files() {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(u64::try_from(bytes.len()).unwrap());
        archive
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    let archive = archive.into_inner().unwrap();
    let engine = lab.client();
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(name)
        .tag("1")
        .build();
    block_on(async {
        let body = bollard::body_full(archive.into());
        let mut answers = engine
            .client()
            .create_image(Some(options), Some(body), None);
        while let Some(answer) = answers.next().await {
            answer.unwrap();
        }
    });
}

fn custom(name: &str, image: &str) -> Custom {
    Custom {
        name: name.to_owned(),
        image: image.to_owned(),
        exec: ["/bin/service", "decky", "--dir", "/srv"]
            .map(str::to_owned)
            .to_vec(),
        ports: vec![6379],
    }
}

#[test]
#[ignore = "needs root and dockerd"]
fn an_operators_image_shares_the_deckys_address() {
    let Some(lab) = Lab::new("an_operators_image_shares_the_deckys_address", &[]) else {
        return;
    };
    operators_image(&lab, "acme/redis");
    lab.want("decky-1", "10.66.0.91", |wish, _| {
        wish.services = vec![Service::Http];
        wish.customs = vec![custom("cache", "acme/redis:1")];
    });
    assert_eq!(lab.reconcile()["running"], 1, "{}", lab.decky("decky-1"));
    lab.connect("10.66.0.91:80").unwrap();
    crate::lab::wait_for("custom service", || lab.connect("10.66.0.91:6379").ok());

    let seen = lab.inspect("decnet-decky-1-cache").unwrap();
    let labels = seen.config.unwrap().labels.unwrap();
    assert_eq!(labels["decnet.fleet.service"], "true");
    assert_eq!(labels["decnet.fleet.decky"], "decky-1");
    assert_eq!(labels["decnet.fleet.service_name"], "cache");
    let host = seen.host_config.unwrap();
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(
        host.security_opt,
        Some(vec!["no-new-privileges".to_owned()])
    );
    let log = host.log_config.unwrap().config.unwrap();
    assert_eq!(
        (log["max-size"].as_str(), log["max-file"].as_str()),
        ("10m", "5")
    );

    // It ends: it is made again, and the decky does not notice.
    let before = lab.life("decky-1");
    let life = lab.life("decky-1-cache");
    let engine = lab.client();
    block_on(engine.client().kill_container("decnet-decky-1-cache", None)).unwrap();
    assert_eq!(lab.reconcile()["running"], 1);
    crate::lab::wait_for("custom service again", || {
        lab.connect("10.66.0.91:6379").ok()
    });
    assert_ne!(lab.life("decky-1-cache"), life);
    assert_eq!(lab.life("decky-1"), before);

    // The decky is made again: the service moves over to its new network.
    block_on(engine.client().kill_container("decnet-decky-1", None)).unwrap();
    assert_eq!(lab.reconcile()["running"], 1);
    crate::lab::wait_for("custom service after all", || {
        lab.connect("10.66.0.91:6379").ok()
    });

    lab.unwant("decky-1");
    lab.reconcile();
    assert!(lab.inspect("decnet-decky-1").is_none());
    assert!(lab.inspect("decnet-decky-1-cache").is_none());
}

#[test]
#[ignore = "needs root and dockerd"]
fn an_operators_directory_is_built_and_a_broken_one_says_why() {
    let test = "an_operators_directory_is_built_and_a_broken_one_says_why";
    let Some(lab) = Lab::new(test, &[]) else {
        return;
    };
    if std::process::Command::new("docker")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: {test}: the docker client is not installed (package docker.io)");
        return;
    }
    let context = |name: &str, dockerfile: &str| {
        let dir = lab.dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
        dir
    };
    let good = context(
        "good",
        "FROM scratch\nCOPY bin /bin\nCOPY srv /srv\nEXPOSE 6379\n",
    );
    for (path, bytes) in operators_files() {
        let path = good.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, open).unwrap();
    }
    let broken = context("broken", "FROM scratch\nCOPY missing /\n");
    lab.want("decky-1", "10.66.0.93", |wish, _| {
        wish.services = vec![Service::Http];
        wish.customs = vec![
            custom("cache", good.to_str().unwrap()),
            custom("other", broken.to_str().unwrap()),
        ];
    });
    lab.reconcile();
    crate::lab::wait_for("built service", || lab.connect("10.66.0.93:6379").ok());
    let error = lab.decky("decky-1")["last_error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.starts_with("other: "), "{error}");
    assert!(error.contains("missing"), "the client's own words: {error}");
}

/// A registry on the host's loopback that knows no image; counts who asks for one.
fn empty_registry(lab: &Lab) -> (u16, Arc<AtomicUsize>) {
    let listener = lab.as_host(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            let (status, body) = if head.contains("/manifests/") {
                if head.starts_with("GET") || head.starts_with("HEAD") {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                (
                    "404 Not Found",
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                )
            } else {
                ("200 OK", "{}")
            };
            let body_sent = if head.starts_with("HEAD") { "" } else { body };
            let answer = format!(
                "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body_sent}",
                body.len()
            );
            // A TLS greeting gets this too, and the engine falls back to plain HTTP.
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    (port, asked)
}

#[test]
#[ignore = "needs root and dockerd"]
fn an_image_nobody_has_is_said_once_and_costs_that_service_only() {
    let test = "an_image_nobody_has_is_said_once_and_costs_that_service_only";
    let Some(lab) = Lab::new(test, &[]) else {
        return;
    };
    let (port, asked) = empty_registry(&lab);
    let image = format!("127.0.0.1:{port}/acme/none:1");
    lab.want("decky-1", "10.66.0.92", |wish, _| {
        wish.services = vec![Service::Http];
        wish.customs = vec![custom("cache", &image)];
    });
    let begun = std::time::Instant::now();
    let done = lab.reconcile();
    assert!(begun.elapsed().as_secs() < 15, "it was retried");
    assert_eq!(done["inserted"], 1);
    let decky = lab.decky("decky-1");
    assert_eq!(decky["state"], "degraded", "{decky}");
    let error = decky["last_error"].as_str().unwrap();
    assert!(error.starts_with("cache: "), "{error}");
    assert!(error.contains("docker login"), "{error}");
    assert!(error.contains("manifest unknown"), "{error}");
    assert!(asked.load(Ordering::SeqCst) > 0);
    lab.connect("10.66.0.92:80").unwrap();
}
