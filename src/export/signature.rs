//! What a receiver verifies: Standard Webhooks 1.0.0 (standardwebhooks.com): HMAC-SHA256 over
//! `id.timestamp.body` in `webhook-signature`, one signature for each live secret. Beside it
//! stand the headers of the original, whose signature covers the body alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Envelope;
use crate::model::Stamp;

/// Shortest secret, bytes.
const SHORTEST: usize = 16;
/// Longest secret, bytes.
const LONGEST: usize = 256;
const PREFIX: &str = "whsec_";

/// A new secret: `whsec_` and the base64 of 32 random bytes.
#[must_use]
pub fn generate(random: [u8; 32]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(random))
}

/// Whether a secret of the operator's own can sign.
///
/// # Errors
/// One line saying what is wrong.
pub fn check(secret: &str) -> Result<(), String> {
    if !(SHORTEST..=LONGEST).contains(&secret.len()) || secret.chars().any(char::is_control) {
        return Err(format!(
            "a secret takes {SHORTEST} to {LONGEST} bytes without control characters"
        ));
    }
    if let Some(encoded) = secret.strip_prefix(PREFIX)
        && !STANDARD
            .decode(encoded)
            .is_ok_and(|key| key.len() >= SHORTEST)
    {
        return Err(format!(
            "after {PREFIX} comes base64 of at least {SHORTEST} bytes"
        ));
    }
    Ok(())
}

/// The bytes a secret stands for.
fn key(secret: &str) -> Vec<u8> {
    secret
        .strip_prefix(PREFIX)
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .unwrap_or_else(|| secret.as_bytes().to_vec())
}

fn mac(secret: &str, parts: &[&[u8]]) -> Vec<u8> {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key(secret)) else {
        return Vec::new();
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// Every header of a delivery that is ours.
pub(super) fn headers(
    secrets: &[&str],
    event: &Envelope,
    body: &[u8],
    now: Stamp,
) -> Vec<(String, String)> {
    let sent = (now.0 / 1_000_000).to_string();
    let signed: [&[u8]; 5] = [event.id.as_bytes(), b".", sent.as_bytes(), b".", body];
    let each: Vec<String> = secrets
        .iter()
        .map(|secret| format!("v1,{}", STANDARD.encode(mac(secret, &signed))))
        .collect();
    let plain = secrets.first().map_or_else(Vec::new, |s| mac(s, &[body]));
    let hex: String = plain.iter().map(|b| format!("{b:02x}")).collect();
    let own = [
        ("webhook-id", event.id.clone()),
        ("webhook-timestamp", sent.clone()),
        ("webhook-signature", each.join(" ")),
        ("x-decnet-signature", format!("sha256={hex}")),
        ("x-decnet-event-id", event.id.clone()),
        ("x-decnet-event-topic", event.topic.clone()),
        ("x-decnet-timestamp", sent),
        (
            "user-agent",
            concat!("decnet-webhook/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ];
    own.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
