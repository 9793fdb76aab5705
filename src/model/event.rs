//! One thing that happened on a decky. Written as a line by `syslog`, kept as a row
//! by `db`, never formatted by a protocol itself.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::model::Stamp;

/// Syslog severity of an event; the facility is always local0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// 3
    Error,
    /// 4
    Warning,
    /// 5
    Notice,
    /// 6
    #[default]
    Info,
}

impl Severity {
    /// The RFC 5424 number, 3 to 6.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Severity::Error => 3,
            Severity::Warning => 4,
            Severity::Notice => 5,
            Severity::Info => 6,
        }
    }

    /// From the RFC 5424 number; anything more urgent than an error is an error,
    /// anything less urgent than info is info.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0..=3 => Severity::Error,
            4 => Severity::Warning,
            5 => Severity::Notice,
            _ => Severity::Info,
        }
    }
}

/// Transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Proto {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        }
    }

    /// Reads `tcp` or `udp`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Proto::Tcp),
            "udp" => Some(Proto::Udp),
            _ => None,
        }
    }
}

/// Who talked to whom. Present on every event an attacker caused; absent on those
/// a decky makes by itself (start, stop, spool overflow).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The attacker.
    pub src: SocketAddr,
    /// The decky's address and port.
    pub dst: SocketAddr,
    /// Transport.
    pub proto: Proto,
    /// One id per connection (or per datagram exchange).
    pub session: String,
}

/// One event. `eid` is the exactly-once key from the decky to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// ULID, 26 characters.
    pub eid: String,
    /// When it happened, on the decky's clock.
    pub ts: Stamp,
    /// Severity.
    pub severity: Severity,
    /// Decky name (HOST of the line). At most 255 bytes.
    pub decky: String,
    /// Service slug (APP-NAME of the line). At most 48 bytes.
    pub service: String,
    /// Event kind (MSGID of the line). At most 32 bytes.
    pub kind: String,
    /// Source and destination, when there is a peer.
    pub flow: Option<Flow>,
    /// Parameters in emission order. Keys are ours: lower-case ASCII words; values
    /// may hold any text.
    pub fields: Vec<(String, String)>,
    /// Free text (`startup`, `error`); usually empty.
    pub msg: String,
}

impl Event {
    /// The first field named `key`.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// The fields in order; of equal keys the first, as in [`Self::field`].
    pub fn distinct_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        // Looking back is cheapest for the usual handful; a set keeps thousands linear.
        let few = self.fields.len() <= 16;
        let mut seen = HashSet::new();
        let fields = self.fields.iter().enumerate();
        fields
            .filter(move |(at, (key, _))| {
                if few {
                    !self.fields.iter().take(*at).any(|(k, _)| k == key)
                } else {
                    seen.insert(key.as_str())
                }
            })
            .map(|(_, (key, value))| (key.as_str(), value.as_str()))
    }

    /// The SHA-256 of the file that came with this event, when its bytes were kept.
    #[must_use]
    pub fn stored_file(&self) -> Option<&str> {
        let kept = self.field("stored") == Some("true");
        // A request whose body is too long to show names the rest of it so.
        let name = self.field("sha256").or_else(|| self.field("body_sha256"));
        name.filter(|_| kept)
    }

    /// The credential this event carries, if it carries one: `secret_b64` present and
    /// valid base64 decides.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        let secret = STANDARD.decode(self.field("secret_b64")?).ok()?;
        Some(Credential {
            principal: self
                .field("principal")
                .or_else(|| self.field("username"))
                .map(str::to_owned),
            kind: self
                .field("secret_kind")
                .map_or(SecretKind::Plaintext, SecretKind::parse),
            secret,
            crack: self.field("crack").map(str::to_owned),
        })
    }
}

/// What kind of secret was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// A password in the clear.
    Plaintext,
    /// HTTP bearer token.
    HttpBearer,
    /// HTTP Digest response.
    HttpDigestMd5,
    /// Any other kind, by its slug.
    Other(String),
}

impl SecretKind {
    /// The slug used in lines and rows.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            SecretKind::Plaintext => "plaintext",
            SecretKind::HttpBearer => "http_bearer",
            SecretKind::HttpDigestMd5 => "http_digest_md5",
            SecretKind::Other(slug) => slug,
        }
    }

    /// From the slug.
    #[must_use]
    pub fn parse(slug: &str) -> Self {
        match slug {
            "plaintext" => SecretKind::Plaintext,
            "http_bearer" => SecretKind::HttpBearer,
            "http_digest_md5" => SecretKind::HttpDigestMd5,
            other => SecretKind::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A credential as an attacker presented it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The claimed identity, when one was given.
    pub principal: Option<String>,
    /// What `secret` is.
    pub kind: SecretKind,
    /// The exact bytes.
    pub secret: Vec<u8>,
    /// For a challenge-response: a line for hashcat or john that holds the challenge.
    pub crack: Option<String>,
}

impl Credential {
    /// A password in the clear.
    #[must_use]
    pub fn plaintext(principal: Option<&str>, secret: &[u8]) -> Self {
        Self {
            principal: principal.map(str::to_owned),
            kind: SecretKind::Plaintext,
            secret: secret.to_vec(),
            crack: None,
        }
    }

    /// The fields an event carries for it. An absent principal is an absent field.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, String)> {
        let mut fields = Vec::with_capacity(5);
        if let Some(principal) = &self.principal {
            fields.push(("principal".to_owned(), principal.clone()));
        }
        fields.push(("secret_kind".to_owned(), self.kind.to_string()));
        fields.push(("secret_printable".to_owned(), self.printable()));
        fields.push(("secret_b64".to_owned(), STANDARD.encode(&self.secret)));
        if let Some(crack) = &self.crack {
            fields.push(("crack".to_owned(), crack.clone()));
        }
        fields
    }

    /// The secret with every byte outside 0x20–0x7e shown as `?`.
    #[must_use]
    pub fn printable(&self) -> String {
        self.secret
            .iter()
            .map(|b| {
                if (0x20..=0x7e).contains(b) {
                    char::from(*b)
                } else {
                    '?'
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_survives_the_trip_through_fields() {
        let credential = Credential::plaintext(Some("root"), b"p\xffw\n");
        let event = Event {
            eid: String::new(),
            ts: Stamp(0),
            severity: Severity::Info,
            decky: "d".into(),
            service: "ftp".into(),
            kind: "auth".into(),
            flow: None,
            fields: credential.fields(),
            msg: String::new(),
        };
        assert_eq!(event.field("secret_printable"), Some("p?w?"));
        assert_eq!(event.credential(), Some(credential));
    }

    #[test]
    fn a_file_is_named_only_when_it_was_kept() {
        let event = |fields: &[(&str, &str)]| Event {
            eid: String::new(),
            ts: Stamp(0),
            severity: Severity::Info,
            decky: "d".into(),
            service: "http".into(),
            kind: "request".into(),
            flow: None,
            fields: fields
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            msg: String::new(),
        };
        let upload = event(&[("sha256", "a"), ("stored", "true")]);
        assert_eq!(upload.stored_file(), Some("a"));
        let body = event(&[("body_sha256", "b"), ("stored", "true")]);
        assert_eq!(body.stored_file(), Some("b"));
        assert_eq!(
            event(&[("sha256", "a"), ("stored", "false")]).stored_file(),
            None
        );
        assert_eq!(event(&[("sha256", "a")]).stored_file(), None);
    }

    #[test]
    fn an_absent_principal_is_an_absent_field() {
        let credential = Credential::plaintext(None, b"x");
        assert!(credential.fields().iter().all(|(k, _)| k != "principal"));
    }
}
