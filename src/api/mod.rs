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
mod canary;
mod catalog;
mod config;
mod credentials;
mod deckies;
mod deliveries;
mod edge;
mod error;
mod exports;
mod extract;
mod fleet;
mod health;
mod jobs;
mod logs;
mod openapi;
mod otp;
mod pages;
mod panel;
pub(crate) mod password;
mod polkit;
mod router;
mod session;
mod stats;
mod stream;
mod tail;
mod throttle;
mod tokens;
mod totp;
mod transcript;
mod units;
mod users;
mod webhooks;
mod workers;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use router::{document, router};

use crate::bus::Bus;
use crate::config::Config;
use crate::db::Db;
use crate::db::user::AuditRow;
use crate::model::Stamp;
pub use crate::net::http::Peer;
use crate::net::outbound::Outbound;
use crate::net::seal::Seal;
use crate::net::{file, http};
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
    web_key: String,
    tail: tail::Tail,
    seats: stream::Seats,
    pages: pages::Pages,
    counted: stats::Counted,
    overview: stats::Kept,
    hits: deckies::Counted,
    shown: deckies::Shown,
    orders: tokio::sync::Mutex<()>,
    jobs: jobs::Followed,
    exports: exports::Queue,
    seal: OnceLock<Seal>,
    outbound: OnceLock<Outbound>,
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
            web_key: auth::mint().0,
            tail: tail::Tail::default(),
            seats: stream::Seats::default(),
            pages: pages::Pages::default(),
            counted: stats::Counted::default(),
            overview: stats::Kept::default(),
            hits: deckies::Counted::default(),
            shown: deckies::Shown::default(),
            orders: tokio::sync::Mutex::default(),
            jobs: jobs::Followed::default(),
            exports: exports::Queue::default(),
            seal: OnceLock::new(),
            outbound: OnceLock::new(),
        }))
    }

    /// Makes the first administrator unless there is an account.
    ///
    /// # Errors
    /// When the configured password is unusable, or it cannot be stored.
    pub async fn seed(&self) -> anyhow::Result<()> {
        account::seed(self).await
    }

    /// Lays down the key by which the dashboard of this host is believed about its browsers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_web_key(&self) -> anyhow::Result<()> {
        let path = self.config.paths.web_key();
        file::write_volatile(&path, self.web_key.as_bytes(), 0o640)
            .with_context(|| format!("writing {}", path.display()))
    }

    fn throttle(&self) -> MutexGuard<'_, throttle::Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What opens sealed secrets; read from its file when it is first needed.
    fn seal(&self) -> Result<&Seal, error::Error> {
        if let Some(seal) = self.seal.get() {
            return Ok(seal);
        }
        let path = self.config.paths.seal_key();
        let seal = Seal::open_or_make(&path)
            .map_err(|e| error::Error::internal(format!("the key file {}: {e}", path.display())))?;
        Ok(self.seal.get_or_init(|| seal))
    }

    /// What sends to receivers; made when it is first needed.
    fn outbound(&self) -> Result<&Outbound, error::Error> {
        if let Some(outbound) = self.outbound.get() {
            return Ok(outbound);
        }
        let outbound = Outbound::new(self.config.webhook.allow_private)
            .map_err(|e| error::Error::internal(format!("setting up TLS: {e}")))?;
        Ok(self.outbound.get_or_init(|| outbound))
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

/// Serves until the API is stopped.
pub async fn serve(listener: TcpListener, api: Api) {
    if let Err(error) = jobs::resume(&api.db, Stamp::now()).await {
        tracing::error!("jobs: {:#}", anyhow::Error::new(error));
    }
    let tail = tokio::spawn(tail::run(api.clone()));
    let jobs = tokio::spawn(jobs::run(api.clone()));
    let exports = tokio::spawn(exports::run(api.clone()));
    http::serve(listener, router(api.clone()), api.stop.clone()).await;
    tail.abort();
    // What is written goes on; the next start follows it.
    jobs.abort();
    // An export is started over by the next.
    exports.abort();
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
    api.write_web_key()?;
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
