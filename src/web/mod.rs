//! The `web` worker: the dashboard. It talks to the API alone, with the session of whoever
//! looks, and renders pages on the server; a page works without JavaScript, and a little of
//! it keeps what moves moving. No database, no Docker, no bus in this process.
//!
//! [`mod@router`] lists every page. A page is a file here with what it shows (text, already
//! formatted) and a template; attackers' bytes go through [`text::visible`] and are escaped
//! by the template.

mod account;
mod assets;
mod attackers;
mod canary;
mod client;
mod config;
mod credentials;
mod deploy;
mod docs;
mod edge;
mod error;
mod exports;
mod files;
mod fleet;
mod live;
mod login;
mod map;
mod overview;
mod page;
mod router;
mod schema;
mod second;
mod services;
mod sessions;
mod settings;
mod stream;
mod text;
mod totp;
mod visitor;
mod webhooks;
mod workers;

use std::io::ErrorKind;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use router::router;

use crate::config::Config;
use crate::net::{file, http};
use crate::worker::Ctx;

/// What every page is given. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Web(Arc<State>);

/// See [`Web`].
#[derive(Debug)]
pub struct State {
    /// Where the API is; `None` asks the note it leaves in the run directory.
    api_url: Option<String>,
    note: PathBuf,
    key: PathBuf,
    api_bind: String,
    trusted_proxies: Vec<IpNet>,
    client: reqwest::Client,
    stop: CancellationToken,
    /// Makes form tokens that only this process accepts.
    secret: [u8; 32],
    assets: assets::Assets,
    waiting: second::Waiting,
}

impl Deref for Web {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl Web {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(config: &Config, stop: CancellationToken) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(State {
            api_url: config.web.api_url.clone(),
            note: config.paths.run.join("api.addr"),
            key: config.paths.web_key(),
            api_bind: config.api.bind.to_string(),
            trusted_proxies: config.web.trusted_proxies.clone(),
            client: client::make().context("making the HTTP client")?,
            stop,
            secret: rand::random(),
            assets: assets::Assets::default(),
            waiting: second::Waiting::default(),
        })))
    }
}

/// Runs until stopped. While it serves, `web.addr` in the run directory holds the address.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let web = Web::new(&ctx.config, ctx.stop.clone())?;
    let wanted = ctx.config.web.bind;
    let listener = TcpListener::bind(wanted).await.with_context(|| {
        format!("binding {wanted}: free the port, or choose another with DECNET_WEB_PORT")
    })?;
    let bound = listener.local_addr().context("reading the bound address")?;
    let note = ctx.config.paths.run.join("web.addr");
    if let Err(error) = file::write_volatile(&note, format!("{bound}\n").as_bytes(), 0o644) {
        tracing::warn!("writing {}: {error}", note.display());
    }
    tracing::info!("the dashboard is at http://{bound}/");
    ctx.pulse.ready(&format!("serving http://{bound}/"));
    http::serve(listener, router(web), ctx.stop.clone()).await;
    if let Err(error) = std::fs::remove_file(&note)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!("removing {}: {error}", note.display());
    }
    Ok(())
}
