//! The files a host holds, as text: one typed struct per template in `deploy/`, filled
//! from the choices and the registry. Pure; the same choices give the same bytes.

use askama::Template;

use crate::config::{Mode, key};
use crate::init::choices::Choices;
use crate::model::worker::{Need, Role, WORKERS, Worker};
use crate::systemd::POLKIT_RULE;

/// Where the units lie.
pub(super) const UNIT_DIR: &str = "/etc/systemd/system";
/// State directory of an installed host.
pub(super) const STATE: &str = "/var/lib/decnet";
/// Log directory of an installed host.
pub(super) const LOGS: &str = "/var/log/decnet";
/// Runtime directory of an installed host.
pub(super) const RUN: &str = "/run/decnet";
/// Configuration directory.
pub(super) const CONFIG: &str = "/etc/decnet";

/// Directories below the fixed places: path, mode, whether root owns them.
pub(super) const DIRECTORIES: &[(&str, u32, bool)] = &[
    (STATE, 0o750, false),
    // Setgid: what a decky captures stays readable to the group.
    ("/var/lib/decnet/artifacts", 0o2770, false),
    ("/var/lib/decnet/canary", 0o750, false),
    (LOGS, 0o750, false),
    // Others may look: `decnet status` works for everybody.
    (RUN, 0o755, false),
    ("/run/decnet/pulse", 0o755, false),
    ("/run/decnet/lock", 0o2770, false),
    // Setgid: a decky's directory is its own user's and the service group's.
    ("/run/decnet/deckies", 0o2750, false),
];

/// What a host contributes to the text beyond the choices.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// The group `docker` exists.
    pub(super) docker_group: bool,
    /// The settings name a database on a server that is reached over a network.
    pub(super) database_server: bool,
    /// Path of logrotate.
    pub(super) logrotate: String,
}

/// Rows of the registry that fit `mode`.
pub(super) fn workers(mode: Mode) -> impl Iterator<Item = &'static Worker> {
    WORKERS
        .iter()
        .filter(move |w| mode == Mode::Master || w.role == Role::Both)
}

/// The log file of a worker.
pub(super) fn log_file(worker: &str) -> String {
    format!("{LOGS}/decnet.{worker}.log")
}

struct Unit<'a> {
    name: &'a str,
    unit: String,
    summary: &'a str,
    bin_path: &'a str,
    user: &'a str,
    group: &'a str,
    install_dir: &'a str,
    log_file: String,
    docker: bool,
    docker_group: bool,
    network: bool,
    writable: String,
}

macro_rules! template {
    ($name:ident, $path:literal, $field:ty) => {
        #[derive(Template)]
        #[template(path = $path, escape = "none", config = "src/askama.toml")]
        struct $name<'a> {
            u: &'a $field,
        }
    };
}

template!(Web, "decnet-web.service.j2", Unit<'a>);
template!(Bus, "decnet-bus.service.j2", Unit<'a>);
template!(Api, "decnet-api.service.j2", Unit<'a>);
template!(Canary, "decnet-canary.service.j2", Unit<'a>);
template!(Collector, "decnet-collector.service.j2", Unit<'a>);
template!(Mutator, "decnet-mutator.service.j2", Unit<'a>);
template!(Ingester, "decnet-ingester.service.j2", Unit<'a>);
template!(Reconciler, "decnet-reconciler.service.j2", Unit<'a>);
template!(Webhook, "decnet-webhook.service.j2", Unit<'a>);
template!(
    LogrotateService,
    "decnet-logrotate.service.j2",
    Rotation<'a>
);
template!(Polkit, "polkit/50-decnet-workers.rules.j2", Rule<'a>);
template!(Tmpfiles, "tmpfiles.d/decnet.conf.j2", Places<'a>);
template!(Sysusers, "sysusers.d/decnet.conf.j2", Choices);
template!(LogrotateConfig, "logrotate.d/decnet.j2", Choices);
template!(Ini, "decnet.ini.j2", Settings<'a>);

#[derive(Template)]
#[template(path = "decnet.target.j2", escape = "none", config = "src/askama.toml")]
struct Target;

#[derive(Template)]
#[template(
    path = "decnet-logrotate.timer.j2",
    escape = "none",
    config = "src/askama.toml"
)]
struct LogrotateTimer;

struct Rotation<'a> {
    logrotate: &'a str,
    user: &'a str,
    group: &'a str,
}

struct Rule<'a> {
    group: &'a str,
    units: Vec<String>,
}

struct Places<'a> {
    user: &'a str,
    group: &'a str,
    directories: Vec<Place<'a>>,
    logs: Vec<String>,
}

struct Place<'a> {
    path: &'static str,
    mode: String,
    user: &'a str,
    group: &'a str,
}

struct Settings<'a> {
    install_dir: &'a str,
    sections: Vec<Section>,
    elsewhere: Vec<Setting>,
}

struct Section {
    name: &'static str,
    keys: Vec<Setting>,
}

struct Setting {
    name: &'static str,
    env: &'static str,
    doc: String,
    value: String,
    live: bool,
}

/// One file of a unit or a configuration directory.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// Absolute path on the host.
    pub(super) path: String,
    /// Content.
    pub(super) content: String,
}

fn text(path: impl Into<String>, template: &impl Template) -> Result<Text, askama::Error> {
    let mut content = template.render()?;
    if !content.ends_with('\n') {
        content.push('\n');
    }
    Ok(Text {
        path: path.into(),
        content,
    })
}

/// The unit of every worker that fits the mode, in start order.
///
/// # Errors
/// When a registry row has no template, or a template does not render.
pub(super) fn units(choices: &Choices, around: &Surroundings) -> anyhow::Result<Vec<Text>> {
    let mut texts = Vec::new();
    for worker in workers(choices.mode) {
        let unit = unit(worker, choices, around);
        let path = format!("{UNIT_DIR}/{}", worker.unit());
        texts.push(match worker.name {
            "bus" => text(path, &Bus { u: &unit })?,
            "api" => text(path, &Api { u: &unit })?,
            "web" => text(path, &Web { u: &unit })?,
            "canary" => text(path, &Canary { u: &unit })?,
            "collector" => text(path, &Collector { u: &unit })?,
            "mutator" => text(path, &Mutator { u: &unit })?,
            "ingester" => text(path, &Ingester { u: &unit })?,
            "reconciler" => text(path, &Reconciler { u: &unit })?,
            "webhook" => text(path, &Webhook { u: &unit })?,
            other => anyhow::bail!("the registry row {other} has no unit template in deploy/"),
        });
    }
    Ok(texts)
}

fn unit<'a>(worker: &'a Worker, choices: &'a Choices, around: &Surroundings) -> Unit<'a> {
    let docker = worker.needs(Need::Docker);
    let log_file = log_file(worker.name);
    let mut writable = vec![RUN.to_owned()];
    if worker.needs(Need::Database) || worker.needs(Need::State) {
        writable.push(STATE.to_owned());
    }
    if worker.name == "collector" {
        writable.push(LOGS.to_owned());
    } else {
        // Missing is no error: the service manager makes it at the same moment.
        writable.push(format!("-{log_file}"));
    }
    if docker {
        writable.push(format!("-{}/.docker", choices.install_dir));
    }
    Unit {
        name: worker.name,
        unit: worker.unit(),
        summary: worker.summary,
        bin_path: &choices.bin_path,
        user: &choices.user,
        group: &choices.group,
        install_dir: &choices.install_dir,
        docker,
        docker_group: docker && around.docker_group,
        network: worker.needs(Need::Network)
            || (worker.needs(Need::Database) && around.database_server),
        writable: writable.join(" "),
        log_file,
    }
}

/// The target, and the timer that keeps the size cap.
///
/// # Errors
/// When a template does not render.
pub(super) fn group_units(choices: &Choices, around: &Surroundings) -> anyhow::Result<Vec<Text>> {
    let rotation = Rotation {
        logrotate: &around.logrotate,
        user: &choices.user,
        group: &choices.group,
    };
    Ok(vec![
        text(format!("{UNIT_DIR}/decnet.target"), &Target)?,
        text(
            format!("{UNIT_DIR}/decnet-logrotate.service"),
            &LogrotateService { u: &rotation },
        )?,
        text(
            format!("{UNIT_DIR}/decnet-logrotate.timer"),
            &LogrotateTimer,
        )?,
    ])
}

/// The files of polkit, tmpfiles, sysusers and logrotate.
///
/// # Errors
/// When a template does not render.
pub(super) fn host_files(choices: &Choices) -> anyhow::Result<Vec<Text>> {
    let mut units: Vec<String> = workers(choices.mode).map(Worker::unit).collect();
    units.push("decnet.target".to_owned());
    let rule = Rule {
        group: &choices.group,
        units,
    };
    let places = Places {
        user: &choices.user,
        group: &choices.group,
        directories: DIRECTORIES
            .iter()
            .map(|&(path, mode, root)| Place {
                path,
                mode: format!("{mode:04o}"),
                user: if root { "root" } else { &choices.user },
                group: &choices.group,
            })
            .collect(),
        logs: workers(choices.mode).map(|w| log_file(w.name)).collect(),
    };
    Ok(vec![
        text("/etc/sysusers.d/decnet.conf", &Sysusers { u: choices })?,
        text("/etc/tmpfiles.d/decnet.conf", &Tmpfiles { u: &places })?,
        text(POLKIT_RULE, &Polkit { u: &rule })?,
        text("/etc/logrotate.d/decnet", &LogrotateConfig { u: choices })?,
    ])
}

/// The commented `decnet.ini`.
///
/// # Errors
/// When the template does not render.
pub(super) fn ini(choices: &Choices) -> anyhow::Result<Text> {
    let mut sections: Vec<Section> = Vec::new();
    let mut elsewhere = Vec::new();
    for row in key::KEYS {
        let chosen = match row.name {
            "DECNET_MODE" => Some(choices.mode_word().to_owned()),
            "DECNET_INSTALL_DIR" => Some(choices.install_dir.clone()),
            _ => None,
        };
        let default = expand(row.default);
        let setting = |name| Setting {
            name,
            env: row.name,
            doc: expand(row.doc),
            live: chosen.as_ref().is_some_and(|c| *c != default),
            value: chosen.clone().unwrap_or_else(|| default.clone()),
        };
        let Some((section, name)) = row.ini else {
            elsewhere.push(setting(""));
            continue;
        };
        match sections.iter_mut().find(|s| s.name == section) {
            Some(found) => found.keys.push(setting(name)),
            None => sections.push(Section {
                name: section,
                keys: vec![setting(name)],
            }),
        }
    }
    let settings = Settings {
        install_dir: &choices.install_dir,
        sections,
        elsewhere,
    };
    Ok(text(format!("{CONFIG}/decnet.ini"), &Ini { u: &settings })?)
}

fn expand(text: &str) -> String {
    text.replace("{state}", STATE)
        .replace("{log}", LOGS)
        .replace("{run}", RUN)
}
