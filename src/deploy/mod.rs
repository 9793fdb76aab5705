//! How what somebody asks of the fleet becomes rows: shared by the command line and the
//! API. It looks at the rows and the network, lets `fleet` decide, and writes the
//! difference in one transaction with the versions it was based on; when a row changed
//! meanwhile it decides anew. Nothing is started or stopped here: the reconciler alone
//! makes the rows true.
//!
//! Without the right to ask the network whether an address is free (the API's unit has
//! none) that is left to the reconciler, which asks before it claims one; a note says so.

pub mod canary;
mod lan;
pub mod webhook;

pub use lan::Lan;

use std::net::IpAddr;

use crate::config::Config;
use crate::db::decky::{DeckyRow, DeckyWrite};
use crate::db::job::JobRow;
use crate::db::{self, Db};
use crate::fleet::edit::Refused;
use crate::fleet::ini::Deployment;
use crate::fleet::{self, Action, Change, Mode, Plan, Pool, Pools, Wanted, plan};
use crate::model::job::{JobStatus, Target};
use crate::model::{Decky, Service, Stamp, Wish};
use crate::persona::Persona;

/// How often it begins anew when somebody else changed a row meanwhile.
const TRIES: usize = 3;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be done as asked: every reason, one line each.
    #[error("{}", .0.join("\n"))]
    Impossible(Vec<String>),
    /// There is no decky of that name.
    #[error("there is no decky called '{0}'; `decnet deckies` lists them")]
    Unknown(String),
    /// One decky cannot be changed like that.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database failed, or rows kept changing.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// What a deploy asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The deckies.
    pub deployment: Deployment,
    /// What becomes of the others.
    pub mode: Mode,
    /// First address to give out.
    pub ip_start: Option<IpAddr>,
}

/// What comes of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What changes.
    pub changes: Plan,
    /// What the operator should know although nothing is wrong.
    pub notes: Vec<String>,
}

/// Finds the network for an order: the first step, before there is a database.
///
/// # Errors
/// When deckies want a LAN and none is named or found.
pub async fn look(order: &Order, config: &Config) -> Result<Lan, Error> {
    let found = lan::look(order, config).await;
    found.map_err(|error| Error::Impossible(vec![format!("{error:#}")]))
}

/// What [`write()`] would do, without creating or changing anything; `None` is a database
/// that does not exist yet.
///
/// # Errors
/// Every reason it cannot be done.
pub async fn preview(order: &Order, mut lan: Lan, db: Option<&Db>) -> Result<Outcome, Error> {
    let (mut rows, mut secret) = (Vec::new(), None);
    if let Some(db) = db {
        rows = db.decky_list().await?;
        secret = db.installation_secret_present().await?;
    }
    let changes = plan_for(order, &rows, secret.as_deref(), &mut lan).await?;
    Ok(outcome(order, changes, lan))
}

/// Plans and writes the plan. `job` is written before as what is going to be done, and
/// after as under way; a process killed in between finds out from the rows which it was.
///
/// # Errors
/// Every reason it cannot be done; nothing is changed then.
pub async fn write(
    order: &Order,
    mut lan: Lan,
    db: &Db,
    mut job: Option<&mut JobRow>,
) -> Result<Outcome, Error> {
    let secret = db.installation_secret(rand::random(), Stamp::now()).await?;
    let mut tries = 1;
    loop {
        let rows = db.decky_list().await?;
        let changes = plan_for(order, &rows, Some(&secret), &mut lan).await?;
        let writes = writes(&rows, &changes, &secret, Stamp::now());
        match commit(db, &writes, job.as_deref_mut()).await {
            Err(db::Error::Conflict(_)) if tries < TRIES => tries += 1,
            done => {
                done?;
                return Ok(outcome(order, changes, lan));
            }
        }
    }
}

/// The file's notes first.
fn outcome(order: &Order, changes: Plan, lan: Lan) -> Outcome {
    let notes = order.deployment.notes.iter().cloned();
    Outcome {
        changes,
        notes: notes.chain(lan.notes).collect(),
    }
}

async fn plan_for(
    order: &Order,
    rows: &[DeckyRow],
    secret: Option<&[u8]>,
    lan: &mut Lan,
) -> Result<Plan, Error> {
    let runtime = order.deployment.ground.runtime();
    let wanted: Vec<Wanted> = order
        .deployment
        .asks
        .iter()
        .map(|ask| ask.clone().resolve(runtime, lan.link.as_ref(), secret))
        .collect();
    let present: Vec<Decky> = rows.iter().map(|r| r.decky.clone()).collect();
    lan::plan_probed(&present, &wanted, lan, order.mode)
        .await
        .map_err(Error::Impossible)
}

/// What has to be written for the plan; draws the hosts that are new.
fn writes(rows: &[DeckyRow], changes: &[Change], secret: &[u8], now: Stamp) -> Vec<DeckyWrite> {
    let redrawn = |name: &str| changes.iter().any(|c| c.new_persona && c.name == name);
    let present: Vec<&Persona> = rows
        .iter()
        .filter(|r| !redrawn(&r.decky.name))
        .map(|r| &r.persona)
        .collect();
    let mut drawn: Vec<Persona> = Vec::new();
    let mut writes = Vec::new();
    for change in changes {
        let persona = change.new_persona.then(|| {
            let taken: Vec<&Persona> = present.iter().copied().chain(&drawn).collect();
            let asked = fleet::ask::asked(&change.wish);
            Persona::derive_unique(secret, &change.name, &asked, now, &taken)
        });
        drawn.extend(persona.clone());
        let persona = persona.map(Box::new);
        let (name, ip, wish) = (change.name.clone(), change.ip, change.wish.clone());
        let version = change.version;
        writes.push(match (change.action, persona) {
            (Action::Keep, _) => continue,
            (Action::Remove, _) => DeckyWrite::Remove { name, version },
            (Action::Add, Some(persona)) => DeckyWrite::Add {
                name,
                ip,
                wish,
                persona,
            },
            (_, persona) => DeckyWrite::Set {
                name,
                version,
                ip,
                wish,
                persona,
            },
        });
    }
    writes
}

/// Writes all of it, with its job around it.
async fn commit(db: &Db, writes: &[DeckyWrite], job: Option<&mut JobRow>) -> db::Result<()> {
    let now = Stamp::now();
    let Some(job) = job else {
        return db.decky_apply(writes, now).await;
    };
    job.targets.0 = writes.iter().map(target).collect();
    job.total = i64::try_from(writes.len()).unwrap_or(i64::MAX);
    db.job_put(job).await?;
    db.decky_apply(writes, now).await?;
    job.set_status(JobStatus::Running, None, now);
    db.job_put(job).await
}

/// The version a row has after the write.
fn target(write: &DeckyWrite) -> Target {
    let (name, version, gone) = match write {
        DeckyWrite::Add { name, .. } => (name, 1, false),
        DeckyWrite::Set { name, version, .. } => (name, version.saturating_add(1), false),
        DeckyWrite::Remove { name, version } => (name, version.saturating_add(1), true),
    };
    Target {
        name: name.clone(),
        version,
        gone,
    }
}

/// Gives the deckies that `choose` wants the wishes that `edit` makes of theirs. Returns
/// their names. One whose wish stays the same is not written.
///
/// # Errors
/// What `edit` refuses; nothing is changed then.
pub async fn amend(
    db: &Db,
    choose: impl Fn(&DeckyRow) -> bool,
    edit: impl Fn(&Wish) -> Result<Wish, Refused>,
    mut job: Option<&mut JobRow>,
) -> Result<Vec<String>, Error> {
    let mut tries = 1;
    loop {
        let mut rows = db.decky_list().await?;
        rows.retain(|row| !row.decky.removed && choose(row));
        let mut writes = Vec::new();
        for row in &rows {
            let wish = edit(&row.decky.wish)?;
            if wish != row.decky.wish {
                writes.push(DeckyWrite::Set {
                    name: row.decky.name.clone(),
                    version: row.decky.version,
                    ip: row.decky.ip,
                    wish,
                    persona: None,
                });
            }
        }
        match commit(db, &writes, job.as_deref_mut()).await {
            Err(db::Error::Conflict(_)) if tries < TRIES => tries += 1,
            done => {
                done?;
                return Ok(rows.into_iter().map(|row| row.decky.name).collect());
            }
        }
    }
}

/// [`amend`] for the decky called `name`.
///
/// # Errors
/// [`Error::Unknown`], or what `edit` refuses; nothing is changed then.
pub async fn amend_one(
    db: &Db,
    name: &str,
    edit: impl Fn(&Wish) -> Result<Wish, Refused>,
    job: Option<&mut JobRow>,
) -> Result<(), Error> {
    let names = amend(db, |row| row.decky.name == name, edit, job).await?;
    if names.is_empty() {
        return Err(Error::Unknown(name.to_owned()));
    }
    Ok(())
}

/// Says that the decky called `name` is wanted no more.
///
/// # Errors
/// [`Error::Unknown`] also when it is being removed already.
pub async fn remove(db: &Db, name: &str, mut job: Option<&mut JobRow>) -> Result<(), Error> {
    let mut tries = 1;
    loop {
        let rows = db.decky_list().await?;
        let row = rows
            .into_iter()
            .find(|row| row.decky.name == name && !row.decky.removed)
            .ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let write = DeckyWrite::Remove {
            name: row.decky.name,
            version: row.decky.version,
        };
        match commit(db, &[write], job.as_deref_mut()).await {
            Err(db::Error::Conflict(_)) if tries < TRIES => tries += 1,
            done => return Ok(done?),
        }
    }
}

/// Makes sure at least `count` default deckies are wanted; for `decnet up`.
///
/// # Errors
/// When there are no addresses for them, or the database fails.
pub async fn want_default(
    config: &Config,
    db: &Db,
    count: usize,
    services: &[Service],
) -> Result<(), Error> {
    let secret = db.installation_secret(rand::random(), Stamp::now()).await?;
    let rows = db.decky_list().await?;
    let present: Vec<Decky> = rows.iter().map(|r| r.decky.clone()).collect();
    let wanted: Vec<Wanted> = (1..=count)
        .map(|n| Wanted {
            name: fleet::default_name(n),
            ip: None,
            wish: Wish {
                services: services.to_vec(),
                ..Wish::default()
            },
        })
        .filter(|w| !present.iter().any(|r| r.name == w.name && !r.removed))
        .collect();
    let pools = Pools {
        local: Pool::new(config.local_subnet),
        lan: None,
    };
    let changes =
        plan::plan(&present, &wanted, &pools, Mode::Additive).map_err(Error::Impossible)?;
    let writes = writes(&rows, &changes, &secret, Stamp::now());
    Ok(db.decky_apply(&writes, Stamp::now()).await?)
}
