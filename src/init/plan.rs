//! What a host should hold, as a list of typed steps. Pure: choices, surroundings and
//! the record of earlier runs in, steps out. [`super::apply`] makes each of them true.

use crate::config::Mode;
use crate::init::choices::Choices;
use crate::init::manifest::{Kind, Manifest};
use crate::init::render::{
    self, CONFIG, DIRECTORIES, LOGS, RUN, STATE, Surroundings, UNIT_DIR, workers,
};
use crate::model::worker::{Need, Worker};

/// Who owns something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// root:root.
    Root,
    /// root and the chosen group.
    RootGroup,
    /// The chosen user and group.
    Service,
}

/// One thing to make true.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The group exists.
    Group(String),
    /// The account exists.
    User {
        /// Its name.
        name: String,
        /// Its primary group, when it has to be made.
        group: String,
        /// Its home, when it has to be made.
        home: String,
    },
    /// Other names were chosen: nothing runs while files change hands.
    Pause,
    /// The directory exists with this owner and mode.
    Directory {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Whose.
        owner: Owner,
        /// Dir or Home.
        kind: Kind,
        /// One that exists already is somebody else's and stays as it is.
        adopt: bool,
    },
    /// Everything below belongs to the chosen account.
    HandOver(String),
    /// The file has this content.
    File {
        /// Where.
        path: String,
        /// Its text.
        content: String,
        /// Permission bits.
        mode: u32,
        /// Whose.
        owner: Owner,
        /// Unit, File or Config.
        kind: Kind,
    },
    /// The first administrator's password exists.
    Password(String),
    /// The log file exists and is the service's.
    Log(String),
    /// The unit is enabled, unless the operator disabled it.
    Link {
        /// The link.
        path: String,
        /// The unit file.
        target: String,
    },
    /// Recorded earlier and not wanted any more.
    Withdraw(String),
    /// The service manager knows the units and runs what it should.
    Settle {
        /// Every worker unit.
        workers: Vec<String>,
    },
}

/// The steps, in order.
///
/// # Errors
/// When a template does not render.
pub(super) fn plan(
    choices: &Choices,
    around: &Surroundings,
    manifest: &Manifest,
) -> anyhow::Result<Vec<Step>> {
    let mut steps = vec![
        Step::Group(choices.group.clone()),
        Step::User {
            name: choices.user.clone(),
            group: choices.group.clone(),
            home: choices.install_dir.clone(),
        },
    ];
    let moved_hands = manifest.hand_over
        || manifest
            .answers
            .as_ref()
            .is_some_and(|a| a.user != choices.user || a.group != choices.group);
    if moved_hands {
        steps.push(Step::Pause);
    }
    directories(choices, &mut steps);
    if moved_hands {
        steps.extend([STATE, LOGS, RUN].map(|tree| Step::HandOver(tree.to_owned())));
    }
    let ini = render::ini(choices)?;
    steps.push(Step::File {
        path: ini.path,
        content: ini.content,
        mode: 0o640,
        owner: Owner::RootGroup,
        kind: Kind::Config,
    });
    if choices.mode == Mode::Master {
        steps.push(Step::Password(format!("{STATE}/admin-password")));
    }
    steps.extend(workers(choices.mode).map(|w| Step::Log(render::log_file(w.name))));
    let root_file = |kind| {
        move |text: render::Text| Step::File {
            path: text.path,
            content: text.content,
            mode: 0o644,
            owner: Owner::Root,
            kind,
        }
    };
    steps.extend(
        render::host_files(choices)?
            .into_iter()
            .map(root_file(Kind::File)),
    );
    steps.extend(
        render::units(choices, around)?
            .into_iter()
            .map(root_file(Kind::Unit)),
    );
    steps.extend(
        render::group_units(choices, around)?
            .into_iter()
            .map(root_file(Kind::Unit)),
    );
    links(choices, &mut steps);
    let gone = withdrawn(manifest, &steps);
    steps.extend(gone);
    steps.push(Step::Settle {
        workers: workers(choices.mode).map(Worker::unit).collect(),
    });
    Ok(steps)
}

fn directories(choices: &Choices, steps: &mut Vec<Step>) {
    let directory = |path: &str, mode, owner, kind, adopt| Step::Directory {
        path: path.to_owned(),
        mode,
        owner,
        kind,
        adopt,
    };
    let home = &choices.install_dir;
    steps.push(directory(home, 0o755, Owner::Service, Kind::Home, true));
    if workers(choices.mode).any(|w| w.needs(Need::Docker)) {
        let docker = format!("{home}/.docker");
        steps.push(directory(&docker, 0o750, Owner::Service, Kind::Dir, true));
    }
    steps.push(directory(CONFIG, 0o755, Owner::RootGroup, Kind::Dir, true));
    for &(path, mode, root) in DIRECTORIES {
        let owner = if root {
            Owner::RootGroup
        } else {
            Owner::Service
        };
        steps.push(directory(path, mode, owner, Kind::Dir, false));
    }
}

fn links(choices: &Choices, steps: &mut Vec<Step>) {
    let mut link = |wanted_by: &str, unit: &str| {
        steps.push(Step::Link {
            path: format!("{UNIT_DIR}/{wanted_by}.wants/{unit}"),
            target: format!("{UNIT_DIR}/{unit}"),
        });
    };
    for worker in workers(choices.mode).filter(|w| w.in_target) {
        link("decnet.target", &worker.unit());
    }
    link("decnet.target", "decnet-logrotate.timer");
    link("multi-user.target", "decnet.target");
}

/// Rendered things of an earlier version or of other choices.
fn withdrawn(manifest: &Manifest, steps: &[Step]) -> Vec<Step> {
    let wanted: Vec<&str> = steps
        .iter()
        .filter_map(|step| match step {
            Step::File { path, .. } | Step::Link { path, .. } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    manifest
        .entries
        .iter()
        .filter(|(path, entry)| {
            matches!(entry.kind, Kind::Unit | Kind::Link | Kind::File)
                && !wanted.contains(&path.as_str())
        })
        .map(|(path, _)| Step::Withdraw(path.clone()))
        .collect()
}
