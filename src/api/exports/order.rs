//! What may be exported: which list, in which form, under which conditions. An order is
//! kept in its job's row as it was given, and read from there whenever the export begins.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::pages::{Pages, Place};
use crate::api::attackers::{ActivityWord, AttackerQuery};
use crate::api::credentials::CredentialQuery;
use crate::api::error::Error;
use crate::api::logs::LogQuery;
use crate::model::Stamp;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum ExportFormat {
    /// For a spreadsheet; no cell is a formula.
    Csv,
    /// One JSON object per line, each as in the list.
    Jsonl,
    /// Challenge-responses as hashcat reads them; credentials only.
    Hashcat,
    /// The same for john: the user name in front of each line that has none; credentials
    /// only.
    John,
}

impl ExportFormat {
    /// The word in JSON, and the ending of files.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            ExportFormat::Csv => "csv",
            ExportFormat::Jsonl => "jsonl",
            ExportFormat::Hashcat => "hashcat",
            ExportFormat::John => "john",
        }
    }

    /// Whether only challenge-responses have a line in it.
    pub(super) fn is_of_cracks(self) -> bool {
        matches!(self, ExportFormat::Hashcat | ExportFormat::John)
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            ExportFormat::Csv => "text/csv; charset=utf-8",
            ExportFormat::Jsonl => "application/x-ndjson",
            ExportFormat::Hashcat | ExportFormat::John => "text/plain; charset=utf-8",
        }
    }
}

/// Which events; as for GET /logs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct EventFilter {
    decky: Option<String>,
    service: Option<String>,
    kind: Option<String>,
    src: Option<String>,
    session: Option<String>,
    since: Option<String>,
    until: Option<String>,
    #[schema(max_length = 512)]
    q: Option<String>,
}

impl From<EventFilter> for LogQuery {
    fn from(asked: EventFilter) -> Self {
        Self {
            before: None,
            limit: None,
            decky: asked.decky,
            service: asked.service,
            kind: asked.kind,
            src: asked.src,
            session: asked.session,
            since: asked.since,
            until: asked.until,
            q: asked.q,
        }
    }
}

/// Which attackers; as for GET /attackers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct AttackersFilter {
    search: Option<String>,
    country: Option<String>,
    service: Option<String>,
    decky: Option<String>,
    #[schema(inline)]
    activity: Option<ActivityWord>,
}

impl From<AttackersFilter> for AttackerQuery {
    fn from(asked: AttackersFilter) -> Self {
        Self {
            search: asked.search,
            country: asked.country,
            service: asked.service,
            decky: asked.decky,
            activity: asked.activity,
            ..Self::default()
        }
    }
}

/// Which credentials; as for GET /credentials.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct CredentialsFilter {
    decky: Option<String>,
    service: Option<String>,
    src: Option<String>,
    principal: Option<String>,
    sha256: Option<String>,
}

impl From<CredentialsFilter> for CredentialQuery {
    fn from(asked: CredentialsFilter) -> Self {
        Self {
            decky: asked.decky,
            service: asked.service,
            src: asked.src,
            principal: asked.principal,
            sha256: asked.sha256,
            ..Self::default()
        }
    }
}

/// What is to be written into a file: the rows of a list that its filter lets through, those
/// that came last first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "what", rename_all = "lowercase", deny_unknown_fields)]
pub(in crate::api) enum ExportOrder {
    /// Captured events, as csv or jsonl.
    Events {
        format: ExportFormat,
        #[serde(default, deserialize_with = "object")]
        filter: EventFilter,
    },
    /// Attackers, as csv or jsonl.
    Attackers {
        format: ExportFormat,
        #[serde(default, deserialize_with = "object")]
        filter: AttackersFilter,
    },
    /// Captured credentials, in any format.
    Credentials {
        format: ExportFormat,
        #[serde(default, deserialize_with = "object")]
        filter: CredentialsFilter,
    },
}

/// Conditions are told by name; a struct's own reader would take a list of them, too.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let members = Map::deserialize(from)?;
    serde_json::from_value(Value::Object(members)).map_err(D::Error::custom)
}

impl ExportOrder {
    /// Reads what [`ExportOrder::stored`] gave.
    pub(super) fn read(stored: &str) -> serde_json::Result<Self> {
        serde_json::from_str(stored)
    }

    /// As it is kept: conditions that are none left out.
    pub(super) fn stored(&self) -> String {
        self.asked().to_string()
    }

    fn asked(&self) -> Value {
        // An order is made of texts, so it always serialises.
        let mut order = serde_json::to_value(self).unwrap_or_default();
        if let Some(filter) = order.get_mut("filter").and_then(Value::as_object_mut) {
            filter.retain(|_, value| !(value.is_null() || *value == ""));
        }
        order
    }

    /// Whether it is about everything there is.
    pub(super) fn is_of_all(&self) -> bool {
        self.asked()["filter"]
            .as_object()
            .is_some_and(Map::is_empty)
    }

    /// The word for the list.
    pub(super) fn what(&self) -> &'static str {
        match self {
            ExportOrder::Events { .. } => "events",
            ExportOrder::Attackers { .. } => "attackers",
            ExportOrder::Credentials { .. } => "credentials",
        }
    }

    pub(super) fn format(&self) -> ExportFormat {
        match self {
            ExportOrder::Events { format, .. }
            | ExportOrder::Attackers { format, .. }
            | ExportOrder::Credentials { format, .. } => *format,
        }
    }

    /// What the file is called: `events-2026-11-30.csv`.
    pub(super) fn file_name(&self, day: Stamp) -> String {
        let day = day.utc().date();
        format!("{}-{day}.{}", self.what(), self.format().as_str())
    }

    /// The rows it is about, at `now`.
    ///
    /// # Errors
    /// When the format does not fit the list, or the filter cannot be meant.
    pub(super) fn pages(self, now: Stamp) -> Result<Pages, Error> {
        let (what, format) = (self.what(), self.format());
        let place = match self {
            _ if format.is_of_cracks() && what != "credentials" => {
                return Err(Error::unacceptable(
                    "bad-format",
                    format!(
                        "{what} are written as csv or jsonl; {} is a format of credentials.",
                        format.as_str()
                    ),
                ));
            }
            ExportOrder::Events { filter, .. } => {
                let filter = LogQuery::from(filter).filter()?;
                Place::Events(Box::new(filter), None)
            }
            ExportOrder::Attackers { filter, .. } => {
                let filter = AttackerQuery::from(filter).filter(now)?;
                Place::Attackers(filter, None)
            }
            ExportOrder::Credentials { filter, .. } => {
                let filter = CredentialQuery::from(filter).filter()?;
                Place::Credentials(filter, None)
            }
        };
        Ok(Pages { place, format, now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Result<ExportOrder, String> {
        ExportOrder::read(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_order_is_kept_as_it_was_given_and_named_after_its_day() {
        let given =
            r#"{"what":"events","format":"jsonl","filter":{"q":"", "decky":"d","kind":null}}"#;
        let events = order(given).unwrap();
        let kept = r#"{"what":"events","format":"jsonl","filter":{"decky":"d"}}"#;
        assert_eq!(events.stored(), kept);
        assert!(!events.is_of_all());
        assert_eq!(order(kept).unwrap().stored(), kept);
        let day = Stamp::parse("2026-11-30T23:59:59Z").unwrap();
        assert_eq!(events.file_name(day), "events-2026-11-30.jsonl");
        let all = order(r#"{"what":"attackers","format":"csv"}"#).unwrap();
        assert!(all.is_of_all());
    }

    #[test]
    fn what_is_wrong_with_an_order_is_said() {
        for (given, said) in [
            (r#"{"format":"csv"}"#, "what"),
            (
                r#"{"what":"files","format":"csv"}"#,
                "`events`, `attackers`",
            ),
            (r#"{"what":"events","format":"xml"}"#, "`csv`, `jsonl`"),
            (r#"{"what":"events"}"#, "format"),
            (
                r#"{"what":"credentials","format":"csv","filter":[null,null]}"#,
                "expected a map",
            ),
            (
                r#"{"what":"events","format":"csv","filter":{"limit":3}}"#,
                "unknown field `limit`, expected one of `decky`",
            ),
            (
                r#"{"what":"attackers","format":"csv","filter":{"sort":"first"}}"#,
                "unknown field `sort`",
            ),
            (
                r#"{"what":"events","format":"csv","limit":3}"#,
                "unknown field `limit`",
            ),
        ] {
            let error = order(given).unwrap_err();
            assert!(error.contains(said), "{given}: {error}");
        }
        for (given, code) in [
            (r#"{"what":"events","format":"john"}"#, "bad-format"),
            (r#"{"what":"attackers","format":"hashcat"}"#, "bad-format"),
            (
                r#"{"what":"events","format":"csv","filter":{"src":"x"}}"#,
                "bad-request",
            ),
            (
                r#"{"what":"events","format":"csv","filter":{"q":"\""}}"#,
                "bad-query",
            ),
            (
                r#"{"what":"credentials","format":"john","filter":{"src":"::g"}}"#,
                "bad-request",
            ),
        ] {
            let Err(error) = order(given).unwrap().pages(Stamp(0)) else {
                panic!("{given} is taken");
            };
            assert_eq!(error.code, code, "{given}: {}", error.detail);
        }
    }
}
