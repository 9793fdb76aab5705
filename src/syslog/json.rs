//! The parsed form of an event line, one JSON object per line in `decnet.json`. Keys
//! as the original's consumers know them: `timestamp`, `decky`, `service`,
//! `event_type`, `attacker_ip`, `fields`, `msg`, `raw_line`; new: `eid`, `severity`.
//! `fields` holds every structured-data parameter but `eid`, in line order.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::line::{self, Bad};
use crate::model::{Event, Flow, Severity, Stamp};

/// What a flow is in `fields`, in this order.
const FLOW_KEYS: [&str; 6] = [
    "src_ip", "src_port", "dst_ip", "dst_port", "proto", "session",
];

#[derive(Serialize)]
struct Written<'a> {
    eid: &'a str,
    timestamp: String,
    severity: u8,
    decky: &'a str,
    service: &'a str,
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attacker_ip: Option<std::net::IpAddr>,
    fields: Fields<'a>,
    msg: &'a str,
    raw_line: &'a str,
}

struct Fields<'a>(&'a Event);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(Flow {
            src,
            dst,
            proto,
            session,
        }) = &self.0.flow
        {
            map.serialize_entry("src_ip", &src.ip())?;
            map.serialize_entry("src_port", &format_args!("{}", src.port()))?;
            map.serialize_entry("dst_ip", &dst.ip())?;
            map.serialize_entry("dst_port", &format_args!("{}", dst.port()))?;
            map.serialize_entry("proto", proto.as_str())?;
            map.serialize_entry("session", session)?;
        }
        for (key, value) in self.0.distinct_fields() {
            // The flow came first, and the first of two equal keys wins.
            if self.0.flow.is_none() || !FLOW_KEYS.contains(&key) {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    eid: String,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    severity: u8,
    decky: String,
    service: String,
    event_type: String,
    #[serde(borrow)]
    fields: Params<'a>,
    #[serde(default)]
    msg: String,
    /// Must be there, but says nothing new.
    #[serde(rename = "raw_line")]
    _raw_line: de::IgnoredAny,
}

/// Text that is copied only when an escape in it must be undone.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Params<'a>(Vec<line::Param<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Params<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Params<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params<'de>, A::Error> {
        // Room for the usual event: its flow and a few parameters.
        let mut params = Vec::with_capacity(12);
        while let Some((Text(key), Text(value))) = map.next_entry()? {
            params.push((key, value));
        }
        Ok(Params(params))
    }
}

/// One JSON object without the newline. `raw_line` is the line form of the same event.
#[must_use]
pub fn to_json(event: &Event, raw_line: &str) -> String {
    let record = Written {
        eid: &event.eid,
        timestamp: event.ts.to_string(),
        severity: event.severity.number(),
        decky: &event.decky,
        service: &event.service,
        event_type: &event.kind,
        attacker_ip: event.flow.as_ref().map(|f| f.src.ip()),
        fields: Fields(event),
        msg: &event.msg,
        raw_line,
    };
    // A record of strings and numbers always serialises.
    serde_json::to_string(&record).unwrap_or_default()
}

/// The `fields` of [`to_json`] alone.
#[must_use]
pub fn fields_json(event: &Event) -> String {
    // An object of texts always serialises.
    serde_json::to_string(&Fields(event)).unwrap_or_default()
}

/// Reads one JSON object as [`to_json`] wrote it.
///
/// # Errors
/// What it lacks.
pub fn from_json(text: &str) -> Result<Event, Bad> {
    let record: Record<'_> = serde_json::from_str(text).map_err(|_| Bad("not our JSON record"))?;
    let head = line::Head {
        ts: Stamp::parse(&record.timestamp).ok_or(Bad("bad timestamp"))?,
        severity: Severity::from_number(record.severity),
        decky: record.decky,
        service: record.service,
        kind: record.event_type,
    };
    line::assemble(head, record.eid, record.fields.0.into_iter(), record.msg)
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
