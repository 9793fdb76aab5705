//! The table of workers: one row per daemon. Units, the target, the polkit rule,
//! the panel, the start order, the CLI, the README table and the tests derive from
//! it. The name in the row is the heartbeat name, the registry key, the unit
//! basename (`decnet-<name>.service`) and the CLI command.

/// Where a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Only on the master.
    Master,
    /// On masters and agents alike.
    Both,
}

/// What a worker needs from the host beyond reading its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Opens the database below the state directory.
    Database,
    /// Writes to it in bulk, so it gets a larger page cache.
    BulkWrites,
    /// Writes below the state directory.
    State,
    /// Binds ports below 1024 for decoys.
    NetBindService,
    /// Makes interfaces, routes and deckies' namespaces.
    NetAdmin,
    /// Listens on or connects to IP sockets at all.
    Network,
    /// Talks to the service manager over D-Bus.
    Systemd,
    /// Talks to the Docker engine when there is one.
    Docker,
}

/// How a worker spends its life; see `crate::worker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Wakes on topics or a period and runs one bounded, idempotent pass.
    Pass,
    /// Moves input to output, remembering how far it came.
    Stream,
    /// Serves connections.
    Server,
}

/// One row of the table.
#[derive(Debug)]
pub struct Worker {
    /// Heartbeat name = registry key = unit basename = CLI command.
    pub name: &'static str,
    /// The original's verbs, kept as hidden commands.
    pub aliases: &'static [&'static str],
    /// One line for `--help`, the unit's Description= and the README.
    pub summary: &'static str,
    /// Where it runs.
    pub role: Role,
    /// Started by `decnet.target`.
    pub in_target: bool,
    /// What it needs; the unit's loosenings follow from it.
    pub needs: &'static [Need],
    /// The loop's shape.
    pub shape: Shape,
    /// Threads of its runtime; 1 is a current-thread runtime.
    pub threads: usize,
    /// Bus patterns it listens to (besides its own control topic).
    pub topics_in: &'static [&'static str],
    /// Bus topics it publishes (besides its own heartbeat).
    pub topics_out: &'static [&'static str],
}

impl Worker {
    /// The systemd unit of this worker.
    #[must_use]
    pub fn unit(&self) -> String {
        format!("decnet-{}.service", self.name)
    }

    /// Whether the row names `need`.
    #[must_use]
    pub fn needs(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }
}

/// Every worker, in start order.
pub const WORKERS: &[Worker] = &[
    Worker {
        name: "bus",
        aliases: &[],
        summary: "Local publish/subscribe bus between workers",
        role: Role::Both,
        in_target: true,
        needs: &[],
        shape: Shape::Server,
        threads: 1,
        topics_in: &[],
        topics_out: &["system.bus.dropped"],
    },
    Worker {
        name: "api",
        aliases: &[],
        summary: "HTTP API for the dashboard, scripts and exports",
        role: Role::Master,
        in_target: true,
        needs: &[
            Need::Database,
            Need::State,
            Need::Network,
            Need::Systemd,
            Need::Docker,
        ],
        shape: Shape::Server,
        threads: 2,
        topics_in: &["system.log", "system.*.health"],
        topics_out: &[
            "system.<worker>.control",
            "system.webhook.subscriptions_changed",
        ],
    },
    Worker {
        name: "collector",
        aliases: &["collect"],
        summary: "Moves what deckies saw into decnet.log and decnet.json",
        role: Role::Both,
        in_target: true,
        needs: &[Need::State, Need::Docker],
        shape: Shape::Stream,
        threads: 1,
        topics_in: &["fleet.changed"],
        topics_out: &["system.log"],
    },
    Worker {
        name: "ingester",
        aliases: &[],
        summary: "Loads decnet.json into the database, each event once",
        role: Role::Master,
        in_target: true,
        needs: &[Need::Database, Need::BulkWrites, Need::State],
        shape: Shape::Stream,
        threads: 1,
        topics_in: &["system.log"],
        topics_out: &["system.log", "credential.captured", "attacker.observed"],
    },
    Worker {
        name: "mutator",
        aliases: &["mutate"],
        summary: "Changes what deckies offer over time, one believable step at a time",
        role: Role::Master,
        in_target: true,
        needs: &[Need::Database, Need::State],
        shape: Shape::Pass,
        threads: 1,
        topics_in: &["decky.*.mutate_request", "decky.*.state", "fleet.changed"],
        topics_out: &["decky.<name>.mutation", "fleet.changed"],
    },
    Worker {
        name: "reconciler",
        aliases: &["reconcile"],
        summary: "Starts, re-adopts and stops deckies until they match the wanted fleet",
        role: Role::Both,
        in_target: true,
        needs: &[
            Need::Database,
            Need::State,
            Need::Network,
            Need::NetBindService,
            Need::NetAdmin,
            Need::Systemd,
            Need::Docker,
        ],
        shape: Shape::Pass,
        threads: 1,
        topics_in: &["fleet.changed"],
        topics_out: &["decky.<host:name>.state"],
    },
    Worker {
        name: "webhook",
        aliases: &[],
        summary: "Tells other systems what happens: signed, in their formats, nothing lost",
        role: Role::Master,
        in_target: true,
        needs: &[Need::Database, Need::State, Need::Network],
        shape: Shape::Pass,
        threads: 1,
        topics_in: &[
            "system.webhook.subscriptions_changed",
            "<patterns of the receivers>",
        ],
        topics_out: &[],
    },
    Worker {
        name: "canary",
        aliases: &[],
        summary: "Answers the calls of canary tokens and tells who made them",
        role: Role::Master,
        in_target: true,
        needs: &[
            Need::Database,
            Need::State,
            Need::Network,
            Need::NetBindService,
        ],
        shape: Shape::Server,
        threads: 1,
        topics_in: &["canary.*.changed"],
        topics_out: &["canary.<id>.triggered"],
    },
    Worker {
        name: "web",
        aliases: &[],
        summary: "Dashboard in the browser; asks the API alone",
        role: Role::Master,
        in_target: true,
        needs: &[Need::Network],
        shape: Shape::Server,
        threads: 1,
        topics_in: &[],
        topics_out: &[],
    },
];

/// The row named `name` or having it as an alias.
#[must_use]
pub fn find(name: &str) -> Option<&'static Worker> {
    WORKERS
        .iter()
        .find(|w| w.name == name || w.aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_aliases_are_unique_and_make_valid_unit_names() {
        let mut seen = BTreeSet::new();
        for worker in WORKERS {
            for name in std::iter::once(&worker.name).chain(worker.aliases) {
                assert!(seen.insert(*name), "{name} appears twice");
                assert!(
                    name.starts_with(|c: char| c.is_ascii_lowercase())
                        && name
                            .chars()
                            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn an_alias_finds_its_worker() {
        assert_eq!(find("collect").map(|w| w.name), Some("collector"));
        assert!(find("nonsense").is_none());
    }
}
