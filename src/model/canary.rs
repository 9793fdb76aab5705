//! What is known of canary tokens wherever one is spoken of: how a token stands, and one
//! time somebody used it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Stamp;

/// How a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// Made, and nowhere we know of: its files can be downloaded.
    New,
    /// Its files lie on a decky.
    Planted,
    /// Taken back. Whoever kept a copy still gives himself away.
    Revoked,
    /// It could not be planted or taken back; the row says why.
    Failed,
}

impl TokenState {
    /// All of them.
    pub const ALL: [TokenState; 4] = [Self::New, Self::Planted, Self::Revoked, Self::Failed];

    /// `new`, `planted`, `revoked`, `failed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenState::New => "new",
            TokenState::Planted => "planted",
            TokenState::Revoked => "revoked",
            TokenState::Failed => "failed",
        }
    }

    /// Reads what [`TokenState::as_str`] says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// How a token was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A web request.
    Http,
    /// A web request over TLS.
    Https,
    /// A question for a name.
    Dns,
}

impl Via {
    /// `http`, `https`, `dns`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Via::Http => "http",
            Via::Https => "https",
            Via::Dns => "dns",
        }
    }
}

/// One time somebody used a token: what the listener writes down before it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// ULID; the trigger's id and the event's.
    pub id: String,
    /// When.
    pub at: Stamp,
    /// Which token.
    pub slug: String,
    /// How.
    pub via: Via,
    /// Who; behind a trusted proxy, whom the proxy names.
    pub address: IpAddr,
    /// From which port, when that is known.
    pub port: Option<u16>,
    /// Where we were asked.
    pub local: SocketAddr,
    /// TCP, not UDP.
    pub tcp: bool,
    /// The HTTP method, or the type of the DNS question.
    pub method: String,
    /// The request's target, or the name asked for in lower case.
    pub path: String,
    /// What it calls itself; may be empty.
    #[serde(default)]
    pub user_agent: String,
    /// The rest of a request's head, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The begin of a request's body; may be empty.
    #[serde(default)]
    pub body: String,
    /// Who asked, for somebody else.
    #[serde(default)]
    pub resolver: Option<String>,
    /// What a browser's page found out about it.
    #[serde(default)]
    pub fingerprint: Option<Value>,
    /// The same again meanwhile, not written down one by one.
    #[serde(default)]
    pub more: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back() {
        for state in TokenState::ALL {
            assert_eq!(TokenState::parse(state.as_str()), Some(state));
        }
        assert_eq!(TokenState::parse("lost"), None);
    }
}
