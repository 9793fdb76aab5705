//! The `api` worker: the HTTP API below `/api/v1` for the dashboard, scripts and
//! exports. Start reading at [`mod@router`], the list of all routes.
//!
//! The database is the truth and polkit the judge: this part shapes rows into JSON,
//! hands orders to systemd, and keeps no state but what makes it faster or slower
//! (recent sessions, password back-off, open streams). It binds loopback unless told
//! otherwise, speaks no TLS (put a proxy before it) and serves no pages.
//!
//! Every reply that is not a success is a problem document ([`error`]); who may do what
//! stands in the handlers' signatures ([`auth`]).

mod account;
mod artifacts;
mod attack_sessions;
mod attackers;
mod auth;
mod catalog;
mod credentials;
mod csv;
mod deckies;
mod edge;
mod error;
mod extract;
mod fleet;
mod health;
mod jobs;
mod logs;
mod openapi;
mod pages;
mod panel;
pub(crate) mod password;
mod router;
mod serve;
mod session;
mod stats;
mod stream;
mod tail;
mod throttle;
mod transcript;
mod units;
mod workers;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use auth::Peer;
pub use router::{document, router};
pub use serve::serve;

use crate::bus::Bus;
use crate::config::Config;
use crate::db::Db;
use crate::db::user::AuditRow;
use crate::model::Stamp;
use crate::net::file;
use crate::worker::Ctx;

/// What every handler is given. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(Arc<State>);

/// See [`Api`].
#[derive(Debug)]
pub struct State {
    config: Arc<Config>,
    db: Db,
    bus: Bus,
    stop: CancellationToken,
    embedded: bool,
    throttle: Mutex<throttle::Throttle>,
    turnstile: password::Turnstile,
    recent: auth::Recent,
    checked: health::Checked,
    units: units::Units,
    seen: workers::Seen,
    tail: tail::Tail,
    seats: stream::Seats,
    pages: pages::Pages,
    counted: stats::Counted,
    hits: deckies::Counted,
    shown: deckies::Shown,
    orders: tokio::sync::Mutex<()>,
    jobs: jobs::Followed,
}

impl Deref for Api {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl Api {
    /// Puts the parts together. `embedded` says that all workers share one process, so
    /// there are no units to start or stop.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        db: Db,
        bus: Bus,
        stop: CancellationToken,
        embedded: bool,
    ) -> Self {
        Self(Arc::new(State {
            config,
            db,
            bus,
            stop,
            embedded,
            throttle: Mutex::default(),
            turnstile: password::Turnstile::default(),
            recent: auth::Recent::default(),
            checked: health::Checked::default(),
            units: units::Units::new(embedded),
            seen: workers::Seen::default(),
            tail: tail::Tail::default(),
            seats: stream::Seats::default(),
            pages: pages::Pages::default(),
            counted: stats::Counted::default(),
            hits: deckies::Counted::default(),
            shown: deckies::Shown::default(),
            orders: tokio::sync::Mutex::default(),
            jobs: jobs::Followed::default(),
        }))
    }

    /// Makes the first administrator unless there is an account.
    ///
    /// # Errors
    /// When the configured password is unusable, or it cannot be stored.
    pub async fn seed(&self) -> anyhow::Result<()> {
        account::seed(self).await
    }

    fn throttle(&self) -> MutexGuard<'_, throttle::Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the audit record. What was done is done, so a failure is only logged.
    async fn audit(&self, actor: &str, address: IpAddr, action: &str, target: &str, outcome: &str) {
        let row = AuditRow {
            created_at: Stamp::now(),
            actor: actor.to_owned(),
            address: address.to_string(),
            action: action.to_owned(),
            target: target.to_owned(),
            outcome: outcome.to_owned(),
        };
        if let Err(error) = self.db.audit_add(&row).await {
            tracing::error!("{:#}", anyhow::Error::new(error));
        }
    }

    /// The first administrator's password was changed: its file tells nothing any more.
    fn forget_first_password(&self, user: &str) {
        if user != self.config.api.admin_user {
            return;
        }
        let path = self.config.paths.admin_password();
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!("removed {}: the password was changed", path.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("removing {}: {error}", path.display()),
        }
    }
}

/// Runs until stopped. While it serves, `api.addr` in the run directory holds the
/// address, which is how to find a port the kernel chose (`DECNET_API_PORT=0`).
///
/// # Errors
/// When the address cannot be bound, or the first administrator cannot be made.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let api = Api::new(
        Arc::clone(&ctx.config),
        ctx.db()?.clone(),
        ctx.bus.clone(),
        ctx.stop.clone(),
        ctx.embedded,
    );
    api.seed().await?;
    let wanted = ctx.config.api.bind;
    let listener = TcpListener::bind(wanted).await.with_context(|| {
        format!("binding {wanted}: free the port, or choose another with DECNET_API_PORT")
    })?;
    let bound = listener.local_addr().context("reading the bound address")?;
    let note = ctx.config.paths.run.join("api.addr");
    if let Err(error) = file::write_volatile(&note, format!("{bound}\n").as_bytes(), 0o644) {
        tracing::warn!("writing {}: {error}", note.display());
    }
    tracing::info!("serving http://{bound}/api/v1");
    ctx.pulse.ready(&format!("serving http://{bound}/api/v1"));
    serve(listener, api).await;
    if let Err(error) = std::fs::remove_file(&note)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!("removing {}: {error}", note.display());
    }
    Ok(())
}
