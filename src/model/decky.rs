//! A decky as rows and messages describe it: what is wanted, what is running.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::model::{Service, Stamp};

/// What the reconciler last saw of a decky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeckyState {
    /// Wanted, not started yet.
    Pending,
    /// Every wanted service listens.
    Running,
    /// Running, but some service does not listen.
    Degraded,
    /// Could not be started.
    Failed,
    /// Marked for removal; gone once it has stopped.
    TearingDown,
}

impl DeckyState {
    /// The slug used in rows and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DeckyState::Pending => "pending",
            DeckyState::Running => "running",
            DeckyState::Degraded => "degraded",
            DeckyState::Failed => "failed",
            DeckyState::TearingDown => "tearing_down",
        }
    }

    /// From the slug; an unknown one reads as pending, so that a newer row never
    /// stops an older reader.
    #[must_use]
    pub fn parse(slug: &str) -> Self {
        match slug {
            "running" => DeckyState::Running,
            "degraded" => DeckyState::Degraded,
            "failed" => DeckyState::Failed,
            "tearing_down" => DeckyState::TearingDown,
            _ => DeckyState::Pending,
        }
    }
}

impl fmt::Display for DeckyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One service's socket as the decky process reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Which service.
    pub service: Service,
    /// Where it listens; `None` when it could not bind.
    pub addr: Option<SocketAddr>,
    /// Why the port is not the usual one, or why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One wanted decky with what is known of its running self.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decky {
    /// Name of the operator's choosing (`decky-01`); never on the wire.
    pub name: String,
    /// Host that runs it (`local` until there are agents).
    pub host: String,
    /// Its own address.
    pub ip: IpAddr,
    /// What it offers.
    pub services: Vec<Service>,
    /// Counts up with every change of what is wanted.
    pub version: i64,
    /// Set when the decky is to be removed.
    pub removed: bool,
    /// Last seen state.
    pub state: DeckyState,
    /// Last error, for `failed` and `degraded`.
    pub last_error: Option<String>,
    /// Sockets as last reported.
    pub listeners: Vec<Listener>,
    /// When the state was last written.
    pub updated_at: Stamp,
}
