//! The service manager over D-Bus: states of our units, start, stop, restart.
//!
//! We speak the five calls we need of `org.freedesktop.systemd1` directly, so polkit
//! decides what an unprivileged caller may do and nothing is run in a shell. Every call
//! has a deadline. A host without systemd or without D-Bus is an ordinary answer
//! ([`Error::Absent`]), never a panic and never a hang.

use std::path::Path;
use std::time::Duration;

use zbus::{Connection, DBusError, OwnedObjectPath, OwnedVariant, fdo};

use crate::model::Stamp;

const SERVICE: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const UNIT_SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Longest wait for one answer of the service manager. Queueing a job answers at once;
/// only a manager that is wedged takes this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The rule that lets members of the service group drive our units.
pub const POLKIT_RULE: &str = "/etc/polkit-1/rules.d/50-decnet-workers.rules";

/// Present exactly while systemd is the init of this host.
const BOOTED: &str = "/run/systemd/system";

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no service manager to talk to.
    #[error("the service manager is not reachable: {0}")]
    Absent(String),
    /// polkit (or the bus policy) refused.
    #[error("not permitted: {0}")]
    Denied(String),
    /// The unit is not installed.
    #[error("unit {0} is not installed")]
    NoSuchUnit(String),
    /// Anything else the manager answered.
    #[error("{0}")]
    Failed(String),
}

/// What systemd says of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitState {
    /// `decnet-api.service`.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, `error`, …
    pub load: String,
    /// `active`, `inactive`, `activating`, `deactivating`, `failed`, `reloading`.
    pub active: String,
    /// `running`, `dead`, `auto-restart`, …
    pub sub: String,
    /// `enabled`, `disabled`, `static`, …; `None` when there is no unit file.
    pub enabled: Option<String>,
    /// Main process; 0 when there is none.
    pub main_pid: u32,
    /// The service's own STATUS= line; empty when it said nothing.
    pub status_text: String,
    /// When the unit last changed its state.
    pub since: Option<Stamp>,
}

impl UnitState {
    /// Whether there is a unit file behind the name.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.load != "not-found"
    }

    /// Whether a start would find it up or on its way up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading")
    }
}

/// One row of `ListUnitsByNames`.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// A connection to the service manager. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager {
    connection: Connection,
}

impl Manager {
    /// Connects to the service manager of this host.
    ///
    /// # Errors
    /// [`Error::Absent`] when systemd is not the init of this host or D-Bus is down.
    pub async fn connect() -> Result<Self, Error> {
        if !Path::new(BOOTED).is_dir() {
            return Err(Error::Absent("this host does not run systemd".to_owned()));
        }
        Self::open(zbus::connection::Builder::system()).await
    }

    /// Connects to a bus at a D-Bus address, wherever systemd runs.
    ///
    /// # Errors
    /// [`Error::Absent`] when nothing answers there.
    pub async fn connect_to(address: &str) -> Result<Self, Error> {
        Self::open(zbus::connection::Builder::address(address)).await
    }

    async fn open(builder: zbus::connection::Builder<'_>) -> Result<Self, Error> {
        let connecting = builder.method_timeout(PATIENCE).build();
        let connection = within(connecting)
            .await
            .map_err(|e| Error::Absent(format!("connecting to the D-Bus system bus: {e}")))?;
        Ok(Self { connection })
    }

    /// The states of `names`, in that order; a unit that is not installed has the load
    /// state `not-found`.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn unit_states(&self, names: &[String]) -> Result<Vec<UnitState>, Error> {
        let reply = self
            .call(ROOT, MANAGER, "ListUnitsByNames", &(names,))
            .await
            .map_err(|e| explain(&e, ""))?;
        let listed: Vec<Listed> = reply.body().deserialize().map_err(|e| explain(&e, ""))?;
        let mut states = Vec::with_capacity(listed.len());
        for name in names {
            let Some(row) = listed.iter().find(|row| row.0 == *name) else {
                states.push(UnitState::missing(name));
                continue;
            };
            states.push(self.unit_state(row).await?);
        }
        Ok(states)
    }

    async fn unit_state(&self, row: &Listed) -> Result<UnitState, Error> {
        let (name, _, load, active, sub, _, path, ..) = row;
        let mut state = UnitState {
            name: name.clone(),
            load: load.clone(),
            active: active.clone(),
            sub: sub.clone(),
            ..UnitState::missing(name)
        };
        if !state.is_installed() {
            return Ok(state);
        }
        let path = path.as_str();
        // A property that is not there (a target has no main process) keeps its default.
        let (enabled, since, pid, text) = tokio::join!(
            self.property::<String>(path, UNIT, "UnitFileState"),
            self.property::<u64>(path, UNIT, "StateChangeTimestamp"),
            self.property::<u32>(path, UNIT_SERVICE, "MainPID"),
            self.property::<String>(path, UNIT_SERVICE, "StatusText"),
        );
        state.enabled = enabled.filter(|e| !e.is_empty());
        state.since = since
            .and_then(|micros| i64::try_from(micros).ok())
            .filter(|micros| *micros > 0)
            .map(Stamp);
        state.main_pid = pid.unwrap_or(0);
        state.status_text = text.unwrap_or_default();
        Ok(state)
    }

    /// Queues a start. Returns once the manager accepted the job, not once it is up.
    ///
    /// # Errors
    /// [`Error::Denied`] when polkit refuses, [`Error::NoSuchUnit`], or what the manager said.
    pub async fn start(&self, unit: &str) -> Result<(), Error> {
        self.job("StartUnit", unit).await
    }

    /// Queues a stop.
    ///
    /// # Errors
    /// As for [`Manager::start`].
    pub async fn stop(&self, unit: &str) -> Result<(), Error> {
        self.job("StopUnit", unit).await
    }

    /// Queues a restart; starts a unit that is down.
    ///
    /// # Errors
    /// As for [`Manager::start`].
    pub async fn restart(&self, unit: &str) -> Result<(), Error> {
        self.job("RestartUnit", unit).await
    }

    async fn job(&self, method: &str, unit: &str) -> Result<(), Error> {
        self.call(ROOT, MANAGER, method, &(unit, "replace"))
            .await
            .map_err(|e| explain(&e, unit))?;
        Ok(())
    }

    /// Whether the clock is synchronised, as `systemd-timedated` sees it; `None` when it
    /// cannot say.
    pub async fn clock_synchronised(&self) -> Option<bool> {
        let reply = within(self.connection.call_method(
            Some("org.freedesktop.timedate1"),
            "/org/freedesktop/timedate1",
            Some(PROPERTIES),
            "Get",
            &("org.freedesktop.timedate1", "NTPSynchronized"),
        ))
        .await
        .ok()?;
        bool::try_from(reply.body().deserialize::<OwnedVariant>().ok()?).ok()
    }

    async fn property<T: TryFrom<OwnedVariant>>(
        &self,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Option<T> {
        let reply = self
            .call(path, PROPERTIES, "Get", &(interface, name))
            .await
            .ok()?;
        T::try_from(reply.body().deserialize::<OwnedVariant>().ok()?).ok()
    }

    async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> zbus::Result<zbus::Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        within(
            self.connection
                .call_method(Some(SERVICE), path, Some(interface), method, body),
        )
        .await
    }
}

impl UnitState {
    fn missing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            load: "not-found".to_owned(),
            active: "inactive".to_owned(),
            sub: "dead".to_owned(),
            enabled: None,
            main_pid: 0,
            status_text: String::new(),
            since: None,
        }
    }
}

/// The call, or a timeout error after [`PATIENCE`] wherever it hangs.
async fn within<T>(call: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(fdo::Error::Timeout(format!("no answer within {} s", PATIENCE.as_secs())).into())
        }
    }
}

/// Sorts what D-Bus says into the cases callers tell apart.
fn explain(error: &zbus::Error, unit: &str) -> Error {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            by_name(name.as_str(), text.as_deref().unwrap_or_default(), unit)
        }
        zbus::Error::FDO(known) => by_name(
            known.name().as_str(),
            known.description().unwrap_or_default(),
            unit,
        ),
        zbus::Error::InputOutput(_) | zbus::Error::Connection(..) => {
            Error::Absent(error.to_string())
        }
        _ => Error::Failed(error.to_string()),
    }
}

fn by_name(name: &str, said: &str, unit: &str) -> Error {
    let said = if said.is_empty() { name } else { said }.to_owned();
    match name.trim_start_matches("org.freedesktop.") {
        "systemd1.NoSuchUnit" => Error::NoSuchUnit(unit.to_owned()),
        "DBus.Error.AccessDenied"
        | "DBus.Error.AuthFailed"
        | "DBus.Error.InteractiveAuthorizationRequired"
        | "PolicyKit1.Error.NotAuthorized"
        | "PolicyKit1.Error.Failed" => Error::Denied(said),
        "DBus.Error.ServiceUnknown"
        | "DBus.Error.NameHasNoOwner"
        | "DBus.Error.NoServer"
        | "DBus.Error.Disconnected" => Error::Absent(said),
        // Activation of a service manager that is not there.
        name if name.starts_with("DBus.Error.Spawn.") => Error::Absent(said),
        _ => Error::Failed(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_nobody_listens_on_is_absence() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", dir.path().join("none").display());
        let error = Manager::connect_to(&address).await.unwrap_err();
        assert!(matches!(error, Error::Absent(_)), "{error}");
    }

    #[tokio::test]
    async fn a_peer_that_accepts_and_never_speaks_costs_no_more_than_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mute");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::time::pause();
        let error = Manager::connect_to(&format!("unix:path={}", path.display()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
    }

    #[test]
    fn refusals_absence_and_unknown_units_are_told_apart() {
        let denied = fdo::Error::InteractiveAuthorizationRequired("ask".to_owned()).into();
        assert!(matches!(explain(&denied, "x"), Error::Denied(said) if said == "ask"));
        let gone = fdo::Error::ServiceUnknown("gone".to_owned()).into();
        assert!(matches!(explain(&gone, "x"), Error::Absent(_)));
        let spawn = fdo::Error::SpawnChildExited("1".to_owned()).into();
        assert!(matches!(explain(&spawn, "x"), Error::Absent(_)));
        let unknown = by_name("org.freedesktop.systemd1.NoSuchUnit", "", "u.service");
        assert!(matches!(unknown, Error::NoSuchUnit(unit) if unit == "u.service"));
    }
}
