//! Formats of event stores.

use serde_json::json;

use super::Envelope;

/// CloudEvents 1.0.2, JSON format, structured mode.
pub(super) fn cloudevent(event: &Envelope) -> String {
    json!({
        "specversion": "1.0",
        "id": event.id,
        "source": "/decnet",
        "type": format!("decnet.{}", event.name()),
        "subject": event.topic,
        "time": event.ts.to_string(),
        "datacontenttype": "application/json",
        "data": event.payload,
    })
    .to_string()
}

/// Splunk's "Format events for HTTP Event Collector": `time` in seconds.
pub(super) fn splunk(event: &Envelope) -> String {
    let seconds = event.ts.0.div_euclid(1_000_000);
    let millis = event.ts.0.rem_euclid(1_000_000) / 1000;
    let mut body = json!({
        "time": format!("{seconds}.{millis:03}"),
        "source": "decnet",
        "sourcetype": "decnet:event",
        "event": event.to_json(),
    });
    if let Some(decky) = event.decky() {
        body["host"] = json!(decky);
    }
    body.to_string()
}

/// Two lines for the bulk API; fields of the Elastic Common Schema 8. `create` with the
/// event's id makes a second attempt a conflict instead of a second document.
pub(super) fn ecs(event: &Envelope) -> String {
    let mut document = json!({
        "@timestamp": event.ts.to_string(),
        "ecs": {"version": "8.11.0"},
        "event": {
            "id": event.id,
            "kind": "alert",
            "module": "decnet",
            "dataset": format!("decnet.{}", event.name()),
            "action": event.kind,
        },
        "message": event.topic,
        "decnet": {"topic": event.topic, "payload": event.payload},
    });
    // An address field of another shape would make the store refuse the document.
    if let Some(address) = event.attacker()
        && address.parse::<std::net::IpAddr>().is_ok()
    {
        document["source"] = json!({"ip": address});
    }
    if let Some(decky) = event.decky() {
        document["host"] = json!({"name": decky});
    }
    format!("{}\n{document}\n", json!({"create": {"_id": event.id}}))
}
