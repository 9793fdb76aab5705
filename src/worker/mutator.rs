//! The `mutator` worker: changes hosts over time, one small step each (see
//! `fleet::mutation`). A step is written into the decky's row with what was there before,
//! in one transaction; the reconciler makes it so; the next pass sees how it went and
//! either records it (an event for timelines, a `decky.<name>.mutation` message) or takes
//! it back. Killed anywhere, the next start goes on from the rows.
//!
//! An interval that the operator set is taken at its word. The default looks every half
//! hour, and lets one host change about once a day: ports that come and go every half
//! hour are themselves a tell. Nothing disappears from a host somebody is looking at.

use std::time::Duration;

use anyhow::Context;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::json;

use crate::bus::{Bus, Delivery};
use crate::config::Config;
use crate::db::Db;
use crate::db::decky::DeckyRow;
use crate::db::mutation::{Attempt, Mutation, Trial};
use crate::fleet::difference::slugs;
use crate::fleet::mutation::{Host, Step, next};
use crate::model::{DeckyState, Event, Service, Severity, Stamp, topic};
use crate::persona::archetype;
use crate::syslog::{self, spool};
use crate::worker::{Ctx, events};

/// Longest time between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// Least age of a host's last change when nobody set an interval.
const PACE: Duration = Duration::from_secs(24 * 3600);
/// Somebody whose last event is younger is still there.
const VISIT: Duration = Duration::from_secs(600);
/// Longest wait for the reconciler to try a change.
const TRIAL: Duration = Duration::from_secs(90);
/// Our directory among those of the deckies; no decky's name begins like this.
const SPOOL: &str = "_mutator";

/// Runs until stopped.
///
/// # Errors
/// When the bus pattern or the database handle is refused at start.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let db = ctx.db()?.clone();
    let mut requests = ctx.bus.subscribe(&[topic::MUTATE_REQUESTS])?;
    let mut listening = true;
    // The reconciler says how a trial went; a request may stand in the rows already.
    let mut wake = ctx.wake(&[topic::DECKY_STATES, topic::FLEET_CHANGED], LOOK)?;
    let mut mutator = Mutator::default();
    ctx.pulse.ready("waiting for the first look");
    loop {
        tokio::select! {
            why = wake.next() => if why.is_none() { break },
            delivery = requests.next(), if listening => match delivery {
                Some(Delivery::Message(message)) => {
                    let asked = ask(&db, &message.topic, &message.payload).await;
                    if let Err(error) = asked {
                        tracing::warn!("{}: {error:#}", message.topic);
                    }
                }
                Some(_) => {}
                None => listening = false,
            },
        }
        let outcome = mutator.pass(&ctx.config, &db, &ctx.bus, Stamp::now()).await;
        if let Ok(summary) = &outcome {
            ctx.pulse.status(&summary.words());
        }
        wake.record(&outcome);
    }
    Ok(())
}

/// Turns a `decky.<name>.mutate_request` message into a row.
async fn ask(db: &Db, subject: &str, payload: &serde_json::Value) -> anyhow::Result<()> {
    let name = topic::mutate_request_of(subject).context("not a request")?;
    let actor = payload.get("actor").and_then(|a| a.as_str());
    let known = db.decky_list().await?;
    let known = known
        .iter()
        .any(|r| r.decky.name == name && !r.decky.removed);
    anyhow::ensure!(known, "there is no decky called '{name}'");
    db.mutation_request(name, "operator", actor, Stamp::now())
        .await?;
    Ok(())
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Changes written into rows, to be tried.
    pub begun: usize,
    /// Changes that hold.
    pub applied: usize,
    /// Changes that were refused and taken back, or could not be made.
    pub failed: usize,
    /// Changes still being tried.
    pub open: usize,
}

impl Summary {
    fn words(&self) -> String {
        format!("{} changes being tried", self.open)
    }
}

/// What the worker keeps between passes; nothing a restart would miss.
#[derive(Debug, Default)]
pub struct Mutator {
    spool: Option<spool::Writer>,
}

impl Mutator {
    /// One look: settle what was tried, begin what was asked for or is due.
    ///
    /// # Errors
    /// When the database fails; a change that cannot be made is a row, not an error.
    pub async fn pass(
        &mut self,
        config: &Config,
        db: &Db,
        bus: &Bus,
        now: Stamp,
    ) -> anyhow::Result<Summary> {
        let rows = db.decky_list().await?;
        let mut summary = Summary::default();
        let mut busy = Vec::new();
        for mutation in db.mutations_open().await? {
            let row = rows.iter().find(|r| r.decky.name == mutation.decky);
            match (&mutation.trial, row) {
                (Some(trial), row) => {
                    self.settle(config, db, bus, (&mutation, trial, row), now, &mut summary)
                        .await?;
                }
                (None, Some(row)) if !row.decky.removed => {
                    if !busy.contains(&row.decky.name) {
                        begin(db, bus, &mutation, row, now, &mut summary).await?;
                    }
                }
                (None, _) => {
                    db.mutation_failed(&mutation, "there is no such decky", now)
                        .await?;
                    summary.failed += 1;
                }
            }
            busy.push(mutation.decky);
        }
        for row in &rows {
            if busy.contains(&row.decky.name) || !self.is_due(config, db, row, now).await? {
                continue;
            }
            let id = db
                .mutation_request(&row.decky.name, "scheduled", None, now)
                .await?;
            let mutation = Mutation {
                id,
                decky: row.decky.name.clone(),
                cause: "scheduled".to_owned(),
                actor: None,
                requested_at: now,
                trial: None,
            };
            begin(db, bus, &mutation, row, now, &mut summary).await?;
        }
        Ok(summary)
    }

    /// Looks at how a trial went.
    async fn settle(
        &mut self,
        config: &Config,
        db: &Db,
        bus: &Bus,
        (mutation, trial, row): (&Mutation, &Trial, Option<&DeckyRow>),
        now: Stamp,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let reason = match row {
            None => "the decky was removed meanwhile".to_owned(),
            Some(row) if row.decky.version != trial.version => {
                "the decky was changed by somebody else meanwhile".to_owned()
            }
            Some(row) => match row.decky.state {
                DeckyState::Running => {
                    // The event before the row: its id follows from the row, so that
                    // saying it twice is once.
                    self.mark(config, mutation, trial)?;
                    db.mutation_applied(mutation.id, now).await?;
                    announce(bus, mutation, trial);
                    tracing::info!("{}: {}", mutation.decky, trial.step);
                    summary.applied += 1;
                    return Ok(());
                }
                DeckyState::Failed | DeckyState::Degraded => row
                    .decky
                    .last_error
                    .clone()
                    .unwrap_or_else(|| format!("the decky is {}", row.decky.state)),
                _ if now.since(trial.begun_at) > TRIAL => {
                    "nobody tried it in time; is the reconciler running?".to_owned()
                }
                _ => {
                    summary.open += 1;
                    return Ok(());
                }
            },
        };
        let taken_back = db.mutation_failed(mutation, &reason, now).await?;
        if taken_back {
            bus.publish(topic::FLEET_CHANGED, "mutation", json!({}));
        }
        tracing::warn!(
            "{}: {} was refused{}: {reason}",
            mutation.decky,
            trial.step,
            if taken_back { " and taken back" } else { "" }
        );
        summary.failed += 1;
        Ok(())
    }

    /// Whether the host should change now.
    async fn is_due(
        &self,
        config: &Config,
        db: &Db,
        row: &DeckyRow,
        now: Stamp,
    ) -> anyhow::Result<bool> {
        let decky = &row.decky;
        let Some(pause) = pause(config, row) else {
            return Ok(false);
        };
        if decky.removed
            || decky.state != DeckyState::Running
            || now.since(decky.mutated_at) < pause
        {
            return Ok(false);
        }
        // Wait for a visitor to go, but not for ever.
        if now.since(decky.mutated_at) > pause * 2 {
            return Ok(true);
        }
        Ok(!visited(db, row, now).await?)
    }

    /// Writes the event that timelines show.
    fn mark(&mut self, config: &Config, mutation: &Mutation, trial: &Trial) -> anyhow::Result<()> {
        let mut fields = vec![
            ("old_services".to_owned(), slugs(&trial.old_wish.services)),
            ("new_services".to_owned(), slugs(&trial.new_wish.services)),
            ("step".to_owned(), trial.step.clone()),
            ("trigger".to_owned(), mutation.cause.clone()),
        ];
        if let Some(actor) = &mutation.actor {
            fields.push(("actor".to_owned(), actor.clone()));
        }
        let millis = u64::try_from(mutation.requested_at.0 / 1000).unwrap_or(0);
        let id = u128::try_from(mutation.id).unwrap_or(0);
        let event = Event {
            eid: ulid::Ulid::from_parts(millis, id).to_string(),
            ts: trial.begun_at,
            severity: Severity::Notice,
            decky: mutation.decky.clone(),
            service: "mutator".to_owned(),
            kind: "decky_mutated".to_owned(),
            flow: None,
            fields,
            msg: String::new(),
        };
        let spool = match &mut self.spool {
            Some(spool) => spool,
            None => self.spool.insert(events::open(config, SPOOL)?),
        };
        spool
            .append(&syslog::write(&event))
            .context("recording a mutation")?;
        Ok(())
    }
}

/// Tries the next step of a host.
async fn begin(
    db: &Db,
    bus: &Bus,
    mutation: &Mutation,
    row: &DeckyRow,
    now: Stamp,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let decky = &row.decky;
    let settled = db.mutations_settled(Some(&decky.name), 1).await?;
    let last = settled
        .first()
        .filter(|s| s.status == "applied")
        .and_then(|s| s.step.as_deref())
        .and_then(Step::from_words);
    let scheduled = mutation.cause == "scheduled";
    let pool = pool(row);
    let host = Host {
        services: &decky.wish.services,
        pool: &pool,
        last,
        visited: scheduled && visited(db, row, now).await?,
        services_only: !scheduled,
    };
    let mut rng = StdRng::from_rng(&mut rand::rng());
    let Some(step) = next(&host, &mut rng) else {
        let why = "a host of this kind cannot change without losing its sense";
        db.mutation_failed(mutation, why, now).await?;
        summary.failed += 1;
        return Ok(());
    };
    let mut new_wish = decky.wish.clone();
    new_wish.services = step.applied_to(&decky.wish.services);
    if step != Step::Update {
        // So that the same deploy once more undoes nothing.
        new_wish.deployed.get_or_insert(decky.wish.services.clone());
    }
    let new_persona = match step {
        Step::Update => {
            let ago = rng.random_range(20_000_000..90_000_000);
            let booted_at = Stamp(now.0.saturating_sub(ago));
            row.persona.clone().updated(booted_at)
        }
        _ => row.persona.clone(),
    };
    let words = step.words();
    let attempt = Attempt {
        step: &words,
        version: decky.version,
        old_wish: &decky.wish,
        new_wish: &new_wish,
        old_persona: &row.persona,
        new_persona: &new_persona,
    };
    match db.mutation_begin(mutation.id, &attempt, now).await {
        Ok(()) => {
            summary.begun += 1;
            summary.open += 1;
            bus.publish(topic::FLEET_CHANGED, "mutation", json!({}));
            Ok(())
        }
        // Somebody else was faster; the request waits for the next look.
        Err(crate::db::Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a host of this kind could offer.
fn pool(row: &DeckyRow) -> Vec<Service> {
    match row
        .decky
        .wish
        .archetype
        .as_deref()
        .and_then(archetype::find)
    {
        Some(archetype) => archetype.pool(),
        None => Service::ALL
            .iter()
            .copied()
            .filter(|service| row.persona.can_offer(*service))
            .collect(),
    }
}

/// Time between two changes of this host, jittered by a quarter either way; `None` when
/// it never changes.
fn pause(config: &Config, row: &DeckyRow) -> Option<Duration> {
    let decky = &row.decky;
    let minutes = |m: u32| Duration::from_secs(u64::from(m) * 60);
    let pause = match decky.wish.mutate_interval {
        Some(own) => minutes(own),
        None if config.mutate_interval_set => minutes(config.mutate_interval_min),
        None => minutes(config.mutate_interval_min).max(PACE),
    };
    // The same until the next change, so that looking often does not hurry it.
    let mut rng = row.persona.rng(&format!("mutation/{}", decky.mutated_at.0));
    (!pause.is_zero()).then(|| pause.mul_f64(rng.random_range(0.75..1.25)))
}

async fn visited(db: &Db, row: &DeckyRow, now: Stamp) -> anyhow::Result<bool> {
    let visit = i64::try_from(VISIT.as_micros()).unwrap_or(i64::MAX);
    let since = Stamp(now.0.saturating_sub(visit));
    Ok(db.decky_visited_since(&row.decky.name, since).await?)
}

fn announce(bus: &Bus, mutation: &Mutation, trial: &Trial) {
    let mut payload = json!({
        "decky": mutation.decky,
        "old_services": trial.old_wish.services,
        "new_services": trial.new_wish.services,
        "step": trial.step,
        "trigger": mutation.cause,
    });
    if let Some(actor) = &mutation.actor {
        payload["actor"] = json!(actor);
    }
    bus.publish(&topic::decky_mutation(&mutation.decky), "mutation", payload);
}
