//! The service manager as the API sees it: connected when first needed, connected anew
//! when the connection broke, and not there at all inside `decnet up`.

use tokio::sync::Mutex;

use crate::systemd::{Error, Manager, UnitState};

/// Where the service manager is.
#[derive(Debug)]
pub(super) struct Units {
    embedded: bool,
    manager: Mutex<Option<Manager>>,
}

impl Units {
    pub(super) fn new(embedded: bool) -> Self {
        Self {
            embedded,
            manager: Mutex::new(None),
        }
    }

    async fn manager(&self) -> Result<Manager, Error> {
        if self.embedded {
            return Err(Error::Absent(
                "all workers run in one process under `decnet up`".to_owned(),
            ));
        }
        let mut held = self.manager.lock().await;
        if let Some(manager) = held.as_ref() {
            return Ok(manager.clone());
        }
        let manager = Manager::connect().await?;
        *held = Some(manager.clone());
        Ok(manager)
    }

    /// A connection that fails is dropped, so that the next call makes a new one.
    async fn keep<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Absent(_) | Error::Failed(_)) = &outcome {
            *self.manager.lock().await = None;
        }
        outcome
    }

    pub(super) async fn states(&self, names: &[String]) -> Result<Vec<UnitState>, Error> {
        // D-Bus may have been restarted since: one more try, with a new connection.
        // Asking again changes nothing, unlike ordering again.
        let first = self.manager().await?.unit_states(names).await;
        match self.keep(first).await {
            Err(Error::Absent(_) | Error::Failed(_)) => {
                let again = self.manager().await?.unit_states(names).await;
                self.keep(again).await
            }
            done => done,
        }
    }

    pub(super) async fn start(&self, unit: &str) -> Result<(), Error> {
        let done = self.manager().await?.start(unit).await;
        self.keep(done).await
    }

    pub(super) async fn stop(&self, unit: &str) -> Result<(), Error> {
        let done = self.manager().await?.stop(unit).await;
        self.keep(done).await
    }

    pub(super) async fn restart(&self, unit: &str) -> Result<(), Error> {
        let done = self.manager().await?.restart(unit).await;
        self.keep(done).await
    }
}
