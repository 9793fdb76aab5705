//! What a decky offers at the moment, and how that changes while it runs: services are
//! added, removed and configured without touching the connections of any other.

use std::any::Any;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::decoy::disk::Disk;
use crate::decoy::listen::{self, Host};
use crate::decoy::run::Spec;
use crate::decoy::session::Sink;
use crate::decoy::{Values, shared};
use crate::model::{Listener, Service};
use crate::persona::Persona;

/// What all services of the decky have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// The decky's address.
    pub(super) ip: IpAddr,
    /// Who it is.
    pub(super) persona: Arc<Persona>,
    /// Where events go.
    pub(super) sink: Arc<Sink>,
    /// Planted files.
    pub(super) disk: Arc<Disk>,
    /// Cancelled when the decky stops.
    pub(super) stop: CancellationToken,
    /// Everything that has to end before the process does.
    pub(super) tracker: TaskTracker,
}

/// One service as it runs.
#[derive(Debug)]
struct Open {
    row: Listener,
    settings: Values,
    /// Ends this service alone.
    stop: CancellationToken,
    /// Gives the socket back when it ends.
    accepting: Option<JoinHandle<TcpListener>>,
}

/// The services of a decky.
#[derive(Debug)]
pub(super) struct Offer {
    common: Common,
    /// Held while something changes: one change at a time.
    open: tokio::sync::Mutex<Vec<Open>>,
    /// What the last change came to; never waits for one.
    shown: Mutex<(String, Vec<Listener>)>,
}

impl Offer {
    /// Offers nothing yet.
    pub(super) fn new(common: Common) -> Self {
        Self {
            common,
            open: tokio::sync::Mutex::new(Vec::new()),
            shown: Mutex::default(),
        }
    }

    /// The configuration that is followed and the sockets there are.
    pub(super) fn shown(&self) -> (String, Vec<Listener>) {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes the services what `spec` says. Those it no longer names are closed with
    /// their connections, those whose settings changed begin anew on the same socket,
    /// those without a socket try again, the others are not touched.
    pub(super) async fn follow(&self, spec: &Spec) {
        let mut open = self.open.lock().await;
        let mut next = Vec::new();
        for service in &spec.wish.services {
            let settings = spec.wish.settings.get(service).cloned().unwrap_or_default();
            let present = open
                .iter()
                .position(|o| o.row.service == *service)
                .map(|at| open.remove(at));
            next.push(match present {
                Some(same) if same.settings == settings && same.runs() => same,
                Some(other) => {
                    let row = other.row.clone();
                    match other.close().await {
                        Some(socket) => self.begin(socket, row, settings),
                        None => self.bind(*service, settings),
                    }
                }
                None => self.bind(*service, settings),
            });
        }
        for unwanted in open.drain(..) {
            drop(unwanted.close().await);
        }
        let rows = next.iter().map(|o| o.row.clone()).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            (spec.config_hash.clone(), rows);
        *open = next;
    }

    fn bind(&self, service: Service, settings: Values) -> Open {
        match listen::bind(self.common.ip, service) {
            (Some(socket), row) => self.begin(socket, row, settings),
            (None, row) => Open {
                row,
                settings,
                stop: self.common.stop.child_token(),
                accepting: None,
            },
        }
    }

    fn begin(&self, socket: TcpListener, row: Listener, settings: Values) -> Open {
        let common = &self.common;
        let stop = common.stop.child_token();
        let shared: Arc<dyn Any + Send + Sync> = shared(row.service, &common.persona, &settings);
        let host = Host {
            service: row.service,
            persona: Arc::clone(&common.persona),
            sink: Arc::clone(&common.sink),
            disk: Arc::clone(&common.disk),
            shared,
            stop: stop.clone(),
        };
        let accepting = common
            .tracker
            .spawn(listen::accept(socket, host, common.tracker.clone()));
        Open {
            row,
            settings,
            stop,
            accepting: Some(accepting),
        }
    }
}

impl Open {
    fn runs(&self) -> bool {
        self.accepting.as_ref().is_some_and(|a| !a.is_finished())
    }

    /// Ends the service and its connections; gives its socket back.
    async fn close(self) -> Option<TcpListener> {
        self.stop.cancel();
        self.accepting?.await.ok()
    }
}
