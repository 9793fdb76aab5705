//! A host as its owner may see it: everything by which a defender recognises it in a scan
//! or a log, and neither seeds nor private keys. Keys are made anew for every call, which
//! takes up to a second.

use serde_json::{Map, Value, json};

use super::Persona;
use super::certificate::Certificate;
use super::key::HostKey;

/// The host's keys.
#[must_use]
pub fn host_keys(persona: &Persona) -> Vec<HostKey> {
    let kinds = persona.ssh_key_kinds();
    kinds
        .iter()
        .map(|kind| persona.ssh_host_key(*kind))
        .collect()
}

/// All of it as JSON.
#[must_use]
pub fn shown(persona: &Persona) -> Map<String, Value> {
    let mut fields = match serde_json::to_value(persona) {
        Ok(Value::Object(fields)) => fields,
        // It is a struct of texts and numbers.
        _ => Map::new(),
    };
    for secret in ["seed", "site"] {
        fields.insert(secret.to_owned(), "***".into());
    }
    fields.insert("fqdn".to_owned(), persona.fqdn().into());
    let link_local = persona.ipv6_link_local().to_string();
    fields.insert("ipv6_link_local".to_owned(), link_local.into());
    for (name, at) in [
        ("installed_at", persona.installed_at),
        ("booted_at", persona.booted_at),
    ] {
        fields.insert(name.to_owned(), at.to_string().into());
    }
    let certificate = persona.certificate();
    fields.insert("certificate".to_owned(), of_certificate(&certificate));
    let keys: Vec<_> = host_keys(persona)
        .iter()
        .map(|k| json!({"type": k.kind.name(), "fingerprint": k.fingerprint()}))
        .collect();
    fields.insert("ssh_host_keys".to_owned(), keys.into());
    let identifiers: Map<_, _> = persona
        .identifiers()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    fields.insert("identifiers".to_owned(), identifiers.into());
    fields
}

fn of_certificate(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": certificate.names,
        "serial": certificate.serial,
        "not_before": certificate.not_before.to_string(),
        "not_after": certificate.not_after.to_string(),
        "sha256": certificate.fingerprint(),
    })
}
