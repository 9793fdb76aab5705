//! The server behind `decnet bus`: accepts clients and attaches them to a hub. What is
//! published in this process (the bus worker's own heartbeat) reaches them too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::connection::{self, Shared};
use crate::bus::socket::Bound;
use crate::bus::{Bus, Error, Inner};
use crate::config::BusConfig;

/// Clients at a time; later ones are turned away.
const MAX_CLIENTS: usize = 8192;
/// Pause when the system has no descriptor for another client.
const BREATHER: Duration = Duration::from_millis(100);

/// A bound bus socket, ready to serve.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
}

impl Listener {
    /// Binds the configured socket with its final mode and group. Must be called inside
    /// a tokio runtime.
    ///
    /// # Errors
    /// When a server lives there already, something else is in the way, or the group or
    /// the directory is wrong.
    pub async fn bind(config: &BusConfig) -> Result<Self, Error> {
        Ok(Self {
            bound: Bound::open(config).await?,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.bound.path
    }

    /// Serves clients on `bus`, which must be one of [`Bus::memory`], until `stop`.
    /// `on_change` hears the number of clients whenever it changes.
    ///
    /// # Errors
    /// When `bus` is of another kind.
    pub async fn serve(
        self,
        bus: &Bus,
        stop: CancellationToken,
        mut on_change: impl FnMut(usize),
    ) -> Result<(), Error> {
        let Inner::Hub(hub) = &bus.inner else {
            return Err(Error::NotServable);
        };
        let shared = Arc::new(Shared::new(Arc::clone(hub)));
        let mut clients = JoinSet::new();
        let mut troubled = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = clients.join_next() => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        tracing::error!("serving a bus client panicked");
                    }
                    on_change(clients.len());
                }
                accepted = self.bound.listener.accept() => match accepted {
                    Ok(_) if clients.len() >= MAX_CLIENTS => {
                        if !std::mem::replace(&mut troubled, true) {
                            tracing::warn!("more than {MAX_CLIENTS} bus clients; turning away");
                        }
                    }
                    Ok((stream, _)) => {
                        troubled = false;
                        clients.spawn(connection::serve(Arc::clone(&shared), stream));
                        on_change(clients.len());
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut troubled, true) {
                            tracing::warn!("accepting a bus client: {error}; trying on");
                        }
                        tokio::time::sleep(BREATHER).await;
                    }
                },
            }
        }
        tracing::debug!("the bus delivered {} events", hub.events());
        clients.shutdown().await;
        Ok(())
    }
}
