//! Bus topics: every name that is published or subscribed, built in one place.
//! Segments come from names we validated; a segment that could change the meaning
//! of a topic (`.`, `*`, `>`, white space, empty) is replaced before it is used.

/// A worker's heartbeat.
#[must_use]
pub fn health(worker: &str) -> String {
    format!("system.{worker}.health")
}

/// A worker's control channel (`{"action":"stop"}`).
#[must_use]
pub fn control(worker: &str) -> String {
    format!("system.{worker}.control")
}

/// State of one decky: `decky.<host_uuid:name>.state`.
#[must_use]
pub fn decky_state(host: &str, name: &str) -> String {
    format!("decky.{}:{}.state", segment(host), segment(name))
}

/// Every decky's state, as a pattern.
pub const DECKY_STATES: &str = "decky.*.state";

/// Somebody wants a decky to change, as a pattern; see [`mutate_request_of`].
pub const MUTATE_REQUESTS: &str = "decky.*.mutate_request";

/// Asks for a change of one decky.
#[must_use]
pub fn mutate_request(name: &str) -> String {
    format!("decky.{}.mutate_request", segment(name))
}

/// The decky that a request is about.
#[must_use]
pub fn mutate_request_of(topic: &str) -> Option<&str> {
    topic
        .strip_prefix("decky.")?
        .strip_suffix(".mutate_request")
}

/// A decky changed.
#[must_use]
pub fn decky_mutation(name: &str) -> String {
    format!("decky.{}.mutation", segment(name))
}

/// The fleet's desired rows changed: the reconciler should look.
pub const FLEET_CHANGED: &str = "fleet.changed";

/// A canary token was used, as told by whoever keeps the rows.
#[must_use]
pub fn canary_triggered(id: &str) -> String {
    format!("canary.{}.triggered", segment(id))
}

/// A canary token's files were written to a decky.
#[must_use]
pub fn canary_placed(id: &str) -> String {
    format!("canary.{}.placed", segment(id))
}

/// A canary token was taken back.
#[must_use]
pub fn canary_revoked(id: &str) -> String {
    format!("canary.{}.revoked", segment(id))
}

/// A canary token's row is new or another: the listener should look.
#[must_use]
pub fn canary_changed(id: &str) -> String {
    format!("canary.{}.changed", segment(id))
}

/// Every such change, as a pattern.
pub const CANARY_CHANGES: &str = "canary.*.changed";

/// New lines in the event log or new rows in the database; carries only counts.
pub const LOG: &str = "system.log";

/// A receiver of events was added, changed or removed, or has deliveries back in line.
pub const WEBHOOKS_CHANGED: &str = "system.webhook.subscriptions_changed";

/// Somebody was seen for the first time.
pub const ATTACKER_OBSERVED: &str = "attacker.observed";

/// A credential row was written or seen again.
pub const CREDENTIAL_CAPTURED: &str = "credential.captured";

/// Makes `text` safe as one topic segment.
fn segment(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    text.chars()
        .map(|c| match c {
            '.' | '*' | '>' => '_',
            c if c.is_ascii_graphic() => c,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_decky_name_stays_one_segment() {
        assert_eq!(decky_state("local", "a.b"), "decky.local:a_b.state");
        assert_eq!(decky_state("", "x y"), "decky._:x_y.state");
    }
}
