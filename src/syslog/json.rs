//! The parsed form of an event line, one JSON object per line in `decnet.json`. Keys
//! as the original's consumers know them: `timestamp`, `decky`, `service`,
//! `event_type`, `attacker_ip`, `fields`, `msg`, `raw_line`; new: `eid`, `severity`.
//! `fields` holds every structured-data parameter but `eid`, in line order.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::line::{self, Bad};
use crate::model::{Event, Severity, Stamp};

#[derive(Serialize, Deserialize)]
struct Record {
    eid: String,
    timestamp: String,
    severity: u8,
    decky: String,
    service: String,
    event_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attacker_ip: Option<String>,
    fields: Map<String, Value>,
    #[serde(default)]
    msg: String,
    raw_line: String,
}

/// One JSON object without the newline. `raw_line` is the line form of the same event.
#[must_use]
pub fn to_json(event: &Event, raw_line: &str) -> String {
    let mut fields = Map::new();
    if let Some(flow) = &event.flow {
        for (key, value) in [
            ("src_ip", flow.src.ip().to_string()),
            ("src_port", flow.src.port().to_string()),
            ("dst_ip", flow.dst.ip().to_string()),
            ("dst_port", flow.dst.port().to_string()),
            ("proto", flow.proto.as_str().to_owned()),
            ("session", flow.session.clone()),
        ] {
            fields.insert(key.to_owned(), Value::String(value));
        }
    }
    for (key, value) in &event.fields {
        // The first of two equal keys wins, as in `Event::field`.
        fields
            .entry(key.clone())
            .or_insert_with(|| Value::String(value.clone()));
    }
    let record = Record {
        eid: event.eid.clone(),
        timestamp: event.ts.to_string(),
        severity: event.severity.number(),
        decky: event.decky.clone(),
        service: event.service.clone(),
        event_type: event.kind.clone(),
        attacker_ip: event.flow.as_ref().map(|f| f.src.ip().to_string()),
        fields,
        msg: event.msg.clone(),
        raw_line: raw_line.to_owned(),
    };
    // A record of strings and numbers always serialises.
    serde_json::to_string(&record).unwrap_or_default()
}

/// Reads one JSON object as [`to_json`] wrote it.
///
/// # Errors
/// What it lacks.
pub fn from_json(text: &str) -> Result<Event, Bad> {
    let record: Record = serde_json::from_str(text).map_err(|_| Bad("not our JSON record"))?;
    let mut params = vec![("eid".to_owned(), record.eid)];
    for (key, value) in record.fields {
        let Value::String(value) = value else {
            return Err(Bad("a field is not text"));
        };
        params.push((key, value));
    }
    line::assemble(
        Stamp::parse(&record.timestamp).ok_or(Bad("bad timestamp"))?,
        Severity::from_number(record.severity),
        record.decky,
        record.service,
        record.event_type,
        params,
        record.msg,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn line_and_json_tell_the_same_event(value in any::<String>(), msg in any::<String>(), peer in any::<bool>()) {
            let event = Event {
                eid: "e".into(), ts: Stamp(5), severity: Severity::Info,
                decky: "d".into(), service: "s".into(), kind: "k".into(),
                flow: peer.then(|| crate::model::Flow {
                    src: "198.51.100.1:1".parse().unwrap(), dst: "127.0.0.1:80".parse().unwrap(),
                    proto: crate::model::Proto::Udp, session: "x".into() }),
                fields: vec![("a".into(), value)], msg,
            };
            let raw = line::write(&event);
            prop_assert_eq!(from_json(&to_json(&event, &raw)), Ok(event));
        }
    }
}
