//! Our own daemons: units, bus, API port.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::unistd::{Gid, Group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{Finding, user_name};
use crate::config::Config;
use crate::db::{self, Db};
use crate::model::worker::{WORKERS, Worker};
use crate::systemd::{self, Manager, UnitState};

const TARGET: &str = "decnet.target";
const PATIENCE: Duration = Duration::from_secs(3);

/// The database server, when there is one; a file is looked at with the directories.
pub(super) async fn database(config: &Config, findings: &mut Vec<Finding>) {
    let database = &config.database;
    if database.path().is_some() {
        return;
    }
    let opened = tokio::time::timeout(PATIENCE, Db::open_for_reading(database)).await;
    findings.push(match opened {
        Ok(Ok(db)) => {
            db.close().await;
            Finding::ok("database", format!("{database} answers"))
        }
        Ok(Err(db::Error::Empty { .. })) => Finding::warn(
            "database",
            format!("{database} answers and is empty"),
            "its tables are made when DECNET first starts",
        ),
        Ok(Err(error)) => Finding::fail(
            "database",
            format!("{:#}", anyhow::Error::from(error)),
            "correct DECNET_DB_URL, or start the server",
        ),
        Err(_) => Finding::fail(
            "database",
            format!("{database} does not answer within {} s", PATIENCE.as_secs()),
            "check that nothing between here and the server drops its packets",
        ),
    });
}

/// systemd and our units. Returns whether the daemons are installed on this host.
pub(super) async fn units(config: &Config, findings: &mut Vec<Finding>) -> bool {
    let mut names = vec![TARGET.to_owned()];
    names.extend(WORKERS.iter().filter(|w| w.in_target).map(Worker::unit));
    let states = match Manager::connect().await {
        Ok(manager) => manager.unit_states(&names).await,
        Err(error) => Err(error),
    };
    let states = match states {
        Ok(states) => states,
        Err(error) => {
            findings.push(no_systemd(&error));
            return false;
        }
    };
    findings.push(Finding::ok("systemd", "runs and answers"));
    let installed = states.iter().any(UnitState::is_installed);
    if !installed {
        findings.push(Finding::warn(
            "units",
            format!(
                "the daemons are not installed on this host (state directory {})",
                config.paths.state.display()
            ),
            "sudo decnet init",
        ));
        return false;
    }
    findings.extend(states.iter().map(unit));
    true
}

fn no_systemd(error: &systemd::Error) -> Finding {
    let fix = match error {
        systemd::Error::Absent(why) if why.contains("does not run systemd") => {
            "use `decnet up` here; daemons need a host booted with systemd"
        }
        _ => "sudo apt install dbus && sudo systemctl start dbus.socket",
    };
    Finding::warn("systemd", error.to_string(), fix)
}

fn unit(state: &UnitState) -> Finding {
    let name = &state.name;
    if !state.is_installed() {
        return Finding::fail(
            "units",
            format!("{name} is not installed"),
            "sudo decnet init",
        );
    }
    match (state.load.as_str(), state.active.as_str()) {
        ("masked", _) => Finding::warn(
            "units",
            format!("{name} is masked"),
            format!("sudo systemctl unmask {name}"),
        ),
        (load, _) if load != "loaded" => Finding::fail(
            "units",
            format!("{name} cannot be loaded ({load})"),
            format!("systemctl status {name}; then sudo decnet init --force"),
        ),
        (_, "active") => Finding::ok("units", format!("{name} is active ({})", state.sub)),
        (_, "failed") => Finding::fail(
            "units",
            format!("{name} failed"),
            format!("journalctl -u {name} -n 50; then sudo systemctl restart {name}"),
        ),
        (_, active) => Finding::warn(
            "units",
            format!("{name} is {active} ({})", state.sub),
            format!("sudo systemctl start {name}"),
        ),
    }
}

/// Whether this user can talk to the bus.
pub(super) async fn bus(config: &Config, installed: bool, findings: &mut Vec<Finding>) {
    let path = &config.bus.socket;
    if !config.bus.enabled {
        findings.push(Finding::ok(
            "bus",
            "switched off (DECNET_BUS_ENABLED); workers look at their own pace",
        ));
        return;
    }
    let shown = path.display();
    let connected = tokio::time::timeout(PATIENCE, UnixStream::connect(path)).await;
    findings.push(match connected {
        Ok(Ok(_)) => Finding::ok("bus", format!("{shown} answers")),
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => {
            let group = std::fs::metadata(path)
                .ok()
                .and_then(|m| Group::from_gid(Gid::from_raw(m.gid())).ok().flatten())
                .map_or_else(|| "decnet".to_owned(), |g| g.name);
            Finding::warn(
                "bus",
                format!("{shown} is not open to {}", user_name()),
                format!(
                    "sudo usermod -aG {group} {}, then log in again",
                    user_name()
                ),
            )
        }
        Ok(Err(error)) if installed => Finding::fail(
            "bus",
            format!("{shown} does not answer: {error}"),
            "sudo systemctl restart decnet-bus.service",
        ),
        Ok(Err(error)) => Finding::warn(
            "bus",
            format!("{shown} does not answer: {error}"),
            "nothing runs here yet: `decnet up`, or sudo decnet init",
        ),
        Err(_) => Finding::fail(
            "bus",
            format!("{shown} accepts nobody"),
            "sudo systemctl restart decnet-bus.service",
        ),
    });
}

/// Whether the API's port is free or ours.
pub(super) async fn port(config: &Config, findings: &mut Vec<Finding>) {
    let wanted = config.api.bind;
    findings.push(match TcpListener::bind(wanted).await {
        Ok(_) => Finding::ok("api port", format!("{wanted} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if is_ours(wanted).await {
                Finding::ok("api port", format!("{wanted} is served by our api worker"))
            } else {
                Finding::fail(
                    "api port",
                    format!("{wanted} is taken by another program"),
                    format!(
                        "sudo ss -ltnp 'sport = :{}' shows it; or choose another port with DECNET_API_PORT",
                        wanted.port()
                    ),
                )
            }
        }
        Err(error) => Finding::fail(
            "api port",
            format!("{wanted} cannot be bound: {error}"),
            "choose an address of this host with DECNET_API_HOST and a port above 1023 with DECNET_API_PORT",
        ),
    });
}

/// Our API answers its health route with a request id.
async fn is_ours(address: std::net::SocketAddr) -> bool {
    let asking = async {
        let mut peer = TcpStream::connect(address).await.ok()?;
        let request = "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        peer.write_all(request.as_bytes()).await.ok()?;
        let mut reply = Vec::new();
        peer.take(8192).read_to_end(&mut reply).await.ok()?;
        let reply = String::from_utf8_lossy(&reply).to_lowercase();
        Some(reply.contains("x-request-id:") && reply.contains("\"status\""))
    };
    matches!(tokio::time::timeout(PATIENCE, asking).await, Ok(Some(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    fn state(load: &str, active: &str) -> UnitState {
        UnitState {
            name: "decnet-bus.service".into(),
            load: load.into(),
            active: active.into(),
            sub: "x".into(),
            enabled: None,
            main_pid: 0,
            status_text: String::new(),
            since: None,
        }
    }

    #[test]
    fn each_unit_state_has_its_level_and_its_fix() {
        for (load, active, level) in [
            ("loaded", "active", Level::Ok),
            ("loaded", "inactive", Level::Warn),
            ("loaded", "failed", Level::Fail),
            ("not-found", "inactive", Level::Fail),
            ("masked", "inactive", Level::Warn),
            ("bad-setting", "inactive", Level::Fail),
        ] {
            let finding = unit(&state(load, active));
            assert_eq!(finding.level, level, "{load} {active}");
            assert_eq!(finding.fix.is_some(), level != Level::Ok);
        }
    }

    #[tokio::test]
    async fn a_port_another_program_holds_is_told_from_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello")
                .await
                .unwrap();
        });
        assert!(!is_ours(address).await);
    }
}
