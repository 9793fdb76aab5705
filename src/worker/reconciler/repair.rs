//! One decky: finds out how it runs and makes it as its row wants it. The process itself
//! is asked; what it says is a stranger's word and only ever counts against itself.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;
use crate::db::decky::DeckyRow;
use crate::decoy::control::{self, Status};
use crate::decoy::run::Spec;
use crate::model::{DeckyState, Listener, Runtime, Wish};
use crate::worker::reconciler::{AT_ONCE, runtime};

/// Deckies asked at the same time.
const LOOKS: usize = 128;
/// Longest time for everything that is done about one decky at once.
const REPAIR: Duration = Duration::from_secs(90);

/// How much may happen at once. A runtime that hangs (a Docker engine) fills only its
/// own places.
#[derive(Debug)]
pub(super) struct Bounds {
    looks: Semaphore,
    repairs: [Semaphore; Runtime::ALL.len()],
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            looks: Semaphore::new(LOOKS),
            repairs: AT_ONCE.map(Semaphore::new),
        }
    }
}

impl Bounds {
    /// A place for starting and stopping under `runtime`.
    pub(super) async fn repair(&self, runtime: Runtime) -> Option<SemaphorePermit<'_>> {
        let index = match runtime {
            Runtime::Local => 0,
            Runtime::Native => 1,
            Runtime::Docker => 2,
        };
        // Closed never; without a place there is just no limit.
        self.repairs.get(index)?.acquire().await.ok()
    }
}

/// A decky as it was found or made.
pub(super) struct Seen {
    pub(super) state: DeckyState,
    pub(super) listeners: Vec<Listener>,
    pub(super) error: Option<String>,
    /// A process was started.
    pub(super) started: bool,
    /// Something was done, or tried, or would have been if it were not too early.
    pub(super) effort: Effort,
    /// Process that answers, as the kernel says.
    pub(super) pid: Option<i32>,
    /// Of a started one: resolves at its end.
    pub(super) ended: Option<BoxFuture<'static, String>>,
}

impl Seen {
    /// With what became of the services beside the decky itself.
    fn with(mut self, beside: anyhow::Result<()>) -> Self {
        if let Err(error) = beside {
            let error = format!("{error:#}");
            self.state = DeckyState::Degraded;
            self.error = Some(match self.error {
                Some(first) => format!("{first}; {error}"),
                None => error,
            });
        }
        self
    }
}

/// What finding it so took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Nothing: it is as it should be.
    None,
    /// Something was tried.
    Tried,
    /// It is too early to try again.
    Waiting,
    /// It does not answer; that may be a moment of load, so it is asked once more.
    Doubt,
}

/// What is known before looking.
pub(super) struct Known {
    /// The runtime its directory says it was started under.
    pub(super) recorded: Option<Runtime>,
    /// Something may be done about it now.
    pub(super) may_act: bool,
    /// It did not answer last time either.
    pub(super) doubted: bool,
}

/// Finds or makes the decky of `row` as that wants it.
pub(super) async fn converge(
    config: &Config,
    row: &DeckyRow,
    known: Known,
    bounds: &Bounds,
) -> Seen {
    let look = Look {
        config,
        row,
        spec: runtime::spec(row, config),
        bounds,
    };
    let work = async {
        let seen = look.converge(&known).await?;
        let beside = match seen.effort {
            Effort::None | Effort::Tried => runtime::tend(config, &look.spec).await,
            Effort::Waiting | Effort::Doubt => Ok(()),
        };
        anyhow::Ok(seen.with(beside))
    };
    let outcome = tokio::time::timeout(REPAIR, work).await;
    let error = match outcome {
        Ok(Ok(seen)) => return seen,
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("it was not up after {} s", REPAIR.as_secs()),
    };
    tracing::error!("{}: {error:#}", row.decky.name);
    Seen {
        state: DeckyState::Failed,
        listeners: Vec::new(),
        error: Some(format!("{error:#}")),
        started: false,
        effort: Effort::Tried,
        pid: None,
        ended: None,
    }
}

/// Stops the decky called `name` and forgets the files planted on it; what it captured
/// stays for the collector.
///
/// # Errors
/// When it cannot be stopped.
pub(super) async fn remove(
    config: &Config,
    name: &str,
    runtime: Runtime,
    bounds: &Bounds,
) -> anyhow::Result<()> {
    let work = async {
        let _place = bounds.repair(runtime).await;
        runtime::stop(config, name, runtime).await?;
        // Does not follow links out of it, whatever the decky put there.
        let planted = config.paths.decky(name).join("disk");
        let gone = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(planted)).await?;
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("removing the files planted on it")
            }
            _ => Ok(()),
        }
    };
    tokio::time::timeout(REPAIR, work)
        .await
        .unwrap_or_else(|_| anyhow::bail!("it was not gone after {} s", REPAIR.as_secs()))
}

struct Look<'a> {
    config: &'a Config,
    row: &'a DeckyRow,
    spec: Spec,
    bounds: &'a Bounds,
}

impl Look<'_> {
    async fn converge(&self, known: &Known) -> anyhow::Result<Seen> {
        let name = &self.row.decky.name;
        let wanted = self.row.decky.wish.runtime;
        if let Some(other) = known.recorded.filter(|r| *r != wanted) {
            tracing::info!("{name} moves from {other} to {wanted}");
            self.stop(other).await?;
            return self.start().await;
        }
        let dir = self.config.paths.decky(name);
        let answer = {
            let _place = self.bounds.looks.acquire().await;
            control::look(&dir).await
        };
        match answer {
            Ok((status, pid)) => self.alive(status, pid, known).await,
            Err(error) => self.silent(error, known).await,
        }
    }

    /// It answers.
    async fn alive(&self, status: Status, pid: Option<i32>, known: &Known) -> anyhow::Result<Seen> {
        let name = &self.row.decky.name;
        let program = env!("CARGO_PKG_VERSION");
        if status.version != program || status.base_hash != self.spec.base_hash {
            if !known.may_act {
                return Ok(self.waiting("it runs with another configuration"));
            }
            tracing::info!("{name} is restarted: it runs with another configuration or version");
            return self.restart().await;
        }
        let follows = status.config_hash == self.spec.config_hash;
        let mut seen = self.seen(&status.listeners, Effort::None);
        seen.pid = pid;
        if follows && seen.state == DeckyState::Running {
            return Ok(seen);
        }
        if !known.may_act {
            seen.effort = Effort::Waiting;
            return Ok(seen);
        }
        match control::configure(&self.config.paths.decky(name), &self.spec).await {
            Ok(status) if status.config_hash == self.spec.config_hash => {
                let mut seen = self.seen(&status.listeners, Effort::Tried);
                seen.pid = pid;
                Ok(seen)
            }
            Ok(_) => {
                tracing::warn!("{name} does not follow its configuration; it is restarted");
                self.restart().await
            }
            Err(error) => {
                tracing::warn!("{name} is restarted: {error}");
                self.restart().await
            }
        }
    }

    /// It does not answer, or nothing sensible.
    async fn silent(&self, error: control::Error, known: &Known) -> anyhow::Result<Seen> {
        let name = &self.row.decky.name;
        let wanted = self.row.decky.wish.runtime;
        if runtime::exists(self.config, name, wanted).await {
            if matches!(error, control::Error::Silent) && !known.doubted {
                let mut seen = self.waiting("it does not answer");
                seen.effort = Effort::Doubt;
                return Ok(seen);
            }
            if !known.may_act {
                return Ok(self.waiting(&error.to_string()));
            }
            tracing::warn!("{name} runs, but {error}; it is restarted");
            return self.restart().await;
        }
        if !known.may_act {
            return Ok(self.waiting("it ended and is started again shortly"));
        }
        self.start().await
    }

    async fn restart(&self) -> anyhow::Result<Seen> {
        self.stop(self.row.decky.wish.runtime).await?;
        self.start().await
    }

    async fn stop(&self, runtime: Runtime) -> anyhow::Result<()> {
        let _place = self.bounds.repair(runtime).await;
        runtime::stop(self.config, &self.row.decky.name, runtime).await
    }

    async fn start(&self) -> anyhow::Result<Seen> {
        let _place = self.bounds.repair(self.row.decky.wish.runtime).await;
        let started = runtime::start(self.config, &self.spec).await?;
        let mut seen = self.seen(&started.status.listeners, Effort::Tried);
        seen.started = true;
        seen.ended = Some(started.ended);
        Ok(seen)
    }

    /// Not as it should be, and it is too early to do anything about it.
    fn waiting(&self, why: &str) -> Seen {
        let before = self.row.decky.last_error.clone();
        Seen {
            state: DeckyState::Failed,
            listeners: Vec::new(),
            error: before.or_else(|| Some(why.to_owned())),
            started: false,
            effort: Effort::Waiting,
            pid: None,
            ended: None,
        }
    }

    fn seen(&self, listeners: &[Listener], effort: Effort) -> Seen {
        let decky = &self.row.decky;
        let (listeners, missing) = judge(&decky.wish, decky.ip, listeners);
        Seen {
            state: if missing.is_empty() {
                DeckyState::Running
            } else {
                DeckyState::Degraded
            },
            error: (!missing.is_empty()).then(|| missing.join("; ")),
            listeners,
            started: false,
            effort,
            pid: None,
            ended: None,
        }
    }
}

/// Holds a listener table against the wish: what counts of it, in the order of the wish,
/// and what is missing, in words. A socket on an address that is not the decky's does
/// not count.
fn judge(wish: &Wish, ip: IpAddr, table: &[Listener]) -> (Vec<Listener>, Vec<String>) {
    let mut listeners = Vec::new();
    let mut missing = Vec::new();
    for service in &wish.services {
        let mut row = table
            .iter()
            .find(|l| l.service == *service)
            .cloned()
            .unwrap_or(Listener {
                service: *service,
                addr: None,
                note: None,
            });
        row.addr = row.addr.filter(|addr| addr.ip() == ip);
        if row.addr.is_none() {
            let why = row.note.as_deref().unwrap_or("not listening");
            missing.push(format!("{service}: {why}"));
        }
        listeners.push(row);
    }
    (listeners, missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Service;

    #[test]
    fn a_table_counts_only_for_what_is_wanted_and_on_its_own_address() {
        let wish = Wish {
            services: vec![Service::Redis, Service::Http, Service::Ftp],
            ..Wish::default()
        };
        let row = |service, addr: Option<&str>, note: Option<&str>| Listener {
            service,
            addr: addr.map(|a| a.parse().unwrap()),
            note: note.map(str::to_owned),
        };
        let table = vec![
            row(Service::Ftp, None, Some("port 21: taken")),
            row(Service::Redis, Some("127.0.0.2:6379"), None),
            row(Service::Http, Some("10.0.0.1:80"), None),
        ];
        let (listeners, missing) = judge(&wish, "127.0.0.2".parse().unwrap(), &table);
        let order: Vec<Service> = listeners.iter().map(|l| l.service).collect();
        assert_eq!(order, wish.services);
        assert_eq!(missing, ["http: not listening", "ftp: port 21: taken"]);
    }
}
