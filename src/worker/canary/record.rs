//! The pass that moves uses of tokens from the spool into the database, and tells: an event
//! line for the collector, which makes whoever did it an attacker like any other, and a
//! message on the bus, of which there are only so many per token and minute.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::spool::{SOURCE, Spool};
use crate::bus::Bus;
use crate::config::Config;
use crate::db::Db;
use crate::db::canary::TokenRow;
use crate::db::canary::trigger::Until;
use crate::model::canary::{Hit, Via};
use crate::model::{Event, Flow, Proto, Severity, Stamp, topic};
use crate::syslog;
use crate::worker::events;

/// Our directory among those of the deckies; no decky's name begins like this.
const EVENTS: &str = "_canary";
/// Batches of one pass; more wait for the next.
const BATCHES: usize = 64;
/// Within it a token has so many alerts.
const MINUTE: Duration = Duration::from_secs(60);
/// Longest values in an event.
const FIELD_MAX: usize = 1024;

/// What the pass keeps between runs; nothing a restart would miss but how many alerts were
/// held back.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    events: Option<syslog::spool::Writer>,
    quotas: HashMap<String, Quota>,
    strays: u64,
    unreadable: u64,
}

/// Alerts of one token.
#[derive(Debug)]
struct Quota {
    since: Instant,
    sent: u32,
    held: u32,
    /// The latest that was held back, told at the end of the minute.
    last: Value,
}

impl Recorder {
    /// Moves what is in the spool.
    ///
    /// # Errors
    /// When the database or the disk fails; nothing is lost then.
    pub(super) async fn pass(
        &mut self,
        config: &Config,
        db: &Db,
        bus: &Bus,
        spool: &Spool,
        now: Stamp,
    ) -> anyhow::Result<()> {
        self.tell_held(bus, Instant::now());
        for _ in 0..BATCHES {
            let from = db.checkpoint_get(SOURCE).await?;
            let batch = spool.read(from.as_ref()).context("reading the spool")?;
            let Some(batch) = batch else {
                return Ok(());
            };
            if self.events.is_none() {
                self.events = Some(events::open(config, EVENTS)?);
            }
            let events = self.events.as_ref().context("the event spool is open")?;
            let tell = |fresh: &[(Hit, TokenRow)]| {
                for (hit, token) in fresh {
                    events.append(&syslog::write(&event(hit, token)))?;
                }
                Ok(())
            };
            let until = Until {
                source: SOURCE,
                at: &batch.at,
            };
            let done = db
                .canary_record(batch.hits, until, config.canary.dedup, now, tell)
                .await?;
            spool.forget(&batch.at);
            self.note(done.strays, batch.unreadable);
            let limit = config.canary.alerts_per_min;
            for (hit, token) in &done.fresh {
                self.publish(bus, hit, token, limit, Instant::now());
            }
            if !batch.more {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether something waits to be told without anything new.
    pub(super) fn is_waiting(&self) -> bool {
        self.quotas.values().any(|quota| quota.held > 0)
    }

    /// When that is due.
    pub(super) fn due(&self) -> Duration {
        let held = self.quotas.values().filter(|quota| quota.held > 0);
        held.map(|quota| MINUTE.saturating_sub(quota.since.elapsed()))
            .min()
            .unwrap_or(MINUTE)
    }

    fn note(&mut self, strays: u64, unreadable: u64) {
        self.strays += strays;
        self.unreadable += unreadable;
        if unreadable > 0 {
            tracing::warn!(
                "{unreadable} lines of the canary spool could not be read; {} so far",
                self.unreadable
            );
        }
        if strays > 0 {
            tracing::info!(
                "{strays} calls to what is no token are forgotten; {} so far",
                self.strays
            );
        }
    }

    /// Tells the bus, unless the token has had its alerts.
    fn publish(&mut self, bus: &Bus, hit: &Hit, token: &TokenRow, limit: u32, now: Instant) {
        let payload = payload(hit, token);
        let quota = self.quotas.entry(token.id.clone()).or_insert(Quota {
            since: now,
            sent: 0,
            held: 0,
            last: Value::Null,
        });
        if quota.sent >= limit {
            quota.held = quota.held.saturating_add(1);
            quota.last = payload;
            return;
        }
        quota.sent += 1;
        bus.publish(&topic::canary_triggered(&token.id), "canary", payload);
    }

    /// Tells how many alerts were held back in minutes that are over.
    fn tell_held(&mut self, bus: &Bus, now: Instant) {
        self.quotas.retain(|token, quota| {
            if now.duration_since(quota.since) < MINUTE {
                return true;
            }
            if quota.held > 0 {
                let mut payload = quota.last.take();
                // The latest is told itself.
                payload["suppressed"] = json!(quota.held - 1);
                bus.publish(&topic::canary_triggered(token), "canary", payload);
            }
            false
        });
    }
}

/// The original's fields, and ours.
fn payload(hit: &Hit, token: &TokenRow) -> Value {
    let is_dns = hit.via == Via::Dns;
    json!({
        "token_id": token.id,
        "trigger_id": hit.id,
        "decky_name": token.decky,
        "src_ip": hit.address,
        "user_agent": hit.user_agent,
        "request_path": if is_dns { Value::Null } else { json!(hit.path) },
        "dns_qname": if is_dns { json!(hit.path) } else { Value::Null },
        "kind": token.kind,
        "memo": token.memo,
        "via": hit.via.as_str(),
        "method": hit.method,
        "at": hit.at.to_string(),
        "state": token.state().as_str(),
        "suppressed": 0,
    })
}

/// The event that timelines show and that attackers are made of. Its id is the trigger's,
/// so that told twice is once.
fn event(hit: &Hit, token: &TokenRow) -> Event {
    let mut fields = vec![
        ("token".to_owned(), token.id.clone()),
        ("token_kind".to_owned(), token.kind.clone()),
        ("via".to_owned(), hit.via.as_str().to_owned()),
        ("method".to_owned(), hit.method.clone()),
    ];
    let asked = if hit.via == Via::Dns { "qname" } else { "path" };
    let mut optional = |key: &str, value: &str| {
        if !value.is_empty() {
            let end = value.floor_char_boundary(FIELD_MAX);
            let value = value.get(..end).unwrap_or_default();
            fields.push((key.to_owned(), value.to_owned()));
        }
    };
    optional(asked, &hit.path);
    optional("user_agent", &hit.user_agent);
    optional("memo", &token.memo);
    optional("resolver", hit.resolver.as_deref().unwrap_or_default());
    let found = hit.fingerprint.as_ref().and_then(|f| f.get("id"));
    let found = found.and_then(Value::as_str);
    optional("browser", found.unwrap_or_default());
    Event {
        eid: hit.id.clone(),
        ts: hit.at,
        severity: Severity::Warning,
        decky: token.decky.clone().unwrap_or_else(|| "-".to_owned()),
        service: "canary".to_owned(),
        kind: "canary_triggered".to_owned(),
        flow: Some(Flow {
            src: SocketAddr::new(hit.address, hit.port.unwrap_or(0)),
            dst: same_family(hit.local, hit.address),
            proto: if hit.tcp { Proto::Tcp } else { Proto::Udp },
            session: hit.id.clone(),
        }),
        fields,
        msg: String::new(),
    }
}

/// Where we were asked, told like an IPv4 address when the asker has one.
fn same_family(local: SocketAddr, address: IpAddr) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(local.ip().to_canonical(), local.port()),
        IpAddr::V6(_) => local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Delivery;
    use crate::db::canary::NewToken;

    async fn token(db: &Db) -> TokenRow {
        let new = NewToken {
            slug: "a",
            kind: "web_bug",
            memo: "",
            decky: None,
            path: None,
            seed: "00",
            place: "{}",
            base: "{}",
            blob: None,
            created_by: "ada",
        };
        db.canary_add(&new, Stamp(1)).await.unwrap()
    }

    fn hit() -> Hit {
        Hit {
            id: ulid::Ulid::generate().to_string(),
            at: Stamp(1),
            slug: "a".to_owned(),
            via: Via::Http,
            address: [203, 0, 113, 9].into(),
            port: None,
            local: ([192, 0, 2, 1], 80).into(),
            tcp: true,
            method: "GET".to_owned(),
            path: "/c/a".to_owned(),
            user_agent: "x\" ]\n".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            resolver: None,
            fingerprint: None,
            more: 0,
        }
    }

    #[tokio::test]
    async fn a_storm_makes_so_many_alerts_and_the_rest_is_told_at_its_end() {
        let (_dir, db) = crate::db::testing::open().await;
        let token = token(&db).await;
        let bus = Bus::memory();
        let mut inbox = bus.subscribe(&["canary.*.triggered"]).unwrap();
        let (mut recorder, start) = (Recorder::default(), Instant::now());
        for _ in 0..25 {
            recorder.publish(&bus, &hit(), &token, 10, start);
        }
        assert!(recorder.is_waiting());
        recorder.tell_held(&bus, start + Duration::from_secs(59));
        recorder.tell_held(&bus, start + MINUTE);
        assert!(!recorder.is_waiting());
        let mut told = Vec::new();
        while told.len() < 11 {
            if let Some(Delivery::Message(message)) = inbox.next().await {
                told.push(message.payload["suppressed"].as_u64().unwrap());
            }
        }
        assert_eq!(told.iter().sum::<u64>(), 14);
        assert_eq!(told[10], 14, "eleven told and fourteen not");
    }

    #[tokio::test]
    async fn an_event_survives_what_an_attacker_calls_himself() {
        let (_dir, db) = crate::db::testing::open().await;
        let event = event(&hit(), &token(&db).await);
        let line = syslog::write(&event);
        assert!(!line.contains('\n'));
        assert!(line.contains(" - canary - canary_triggered "), "{line}");
    }
}
