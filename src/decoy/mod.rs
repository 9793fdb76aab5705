//! The inside of a decky: one process per fake host, all its services. Faces
//! attackers; may import `model`, `config`, `net`, `syslog`, `persona` and nothing else.
//!
//! A protocol is one file (or folder) with `pub async fn serve(s: &mut Session) ->
//! Result<(), End>`: a loop of *read a request, report it, reply*, over a pure
//! `parse(&[u8]) -> Result<Option<(Request, usize)>, Bad>`. Limits, timeouts, event
//! fields and artifacts live in [`session`], once. [`serve`] is the table from service
//! to protocol.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
pub mod artifact;
mod care;
pub mod control;
pub mod disk;
pub mod ftp;
pub mod http;
pub mod listen;
mod offer;
pub mod place;
pub mod redis;
pub mod run;
pub mod session;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use session::{End, Session};

use crate::model::Service;
use crate::persona::Persona;

/// Serves one connection of `service`.
///
/// # Errors
/// Why the connection ended, unless the protocol ended it by its own rules.
pub async fn serve(service: Service, session: &mut Session) -> Result<(), End> {
    match service {
        Service::Redis => redis::serve(session).await,
        Service::Http => http::serve(session).await,
        Service::Ftp => ftp::serve(session).await,
    }
}

/// Settings of one service by key; see [`crate::model::setting`].
pub type Values = BTreeMap<String, serde_json::Value>;

/// What all connections of one service on one decky share (a store, a file tree);
/// made once per listener and handed to every session as [`Session::shared`].
#[must_use]
pub fn shared(
    service: Service,
    persona: &Persona,
    settings: &Values,
) -> Arc<dyn Any + Send + Sync> {
    match service {
        Service::Redis => Arc::new(redis::Shared::new(persona, settings)),
        Service::Http => Arc::new(http::Shared::new(persona, settings)),
        Service::Ftp => Arc::new(ftp::Shared::new(persona, settings)),
    }
}
