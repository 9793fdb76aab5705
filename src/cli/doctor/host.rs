//! What the host itself is like: clock, memory, Docker.

use super::Finding;
use crate::config::Config;
use crate::docker::Engine;
use crate::model::Stamp;
use crate::systemd::Manager;

/// This program did not exist before 2026-01-01, so no right clock shows less.
const BUILT_AFTER: Stamp = Stamp(1_767_225_600_000_000);
/// A fleet of a few deckies with every worker stays well below this.
const MEMORY_MIB: u64 = 256;

/// Whether the clock is plausible and kept right: events are only as good as their
/// times.
pub(super) async fn clock(findings: &mut Vec<Finding>) {
    let now = Stamp::now();
    let fix = "sudo timedatectl set-ntp true";
    if now < BUILT_AFTER {
        findings.push(Finding::fail(
            "clock",
            format!("says {now}, which is past"),
            fix,
        ));
        return;
    }
    let kept = match Manager::connect().await {
        Ok(manager) => manager.clock_synchronised().await,
        Err(_) => None,
    };
    findings.push(match kept {
        Some(true) => Finding::ok("clock", "synchronised"),
        Some(false) => Finding::warn("clock", "not synchronised; event times may be off", fix),
        None => Finding::warn(
            "clock",
            "plausible; whether it is synchronised could not be seen",
            "timedatectl status",
        ),
    });
}

/// Available memory.
pub(super) fn memory(findings: &mut Vec<Finding>) {
    let available = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available_mib(&text));
    findings.push(match available {
        Some(mib) if mib < MEMORY_MIB => Finding::warn(
            "memory",
            format!("{mib} MiB available"),
            "stop what is not needed: ps aux --sort=-rss | head",
        ),
        Some(mib) => Finding::ok("memory", format!("{mib} MiB available")),
        None => Finding::warn("memory", "could not be seen", "mount /proc"),
    });
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// The engine, which nothing here requires.
pub(super) async fn docker(config: &Config, findings: &mut Vec<Finding>) {
    let socket = config.docker_socket.display();
    findings.push(match Engine::connect(&config.docker_socket).await {
        Ok(Some(engine)) => Finding::ok(
            "docker",
            format!("engine {} answers (API {})", engine.version(), engine.api()),
        ),
        Ok(None) => Finding::warn(
            "docker",
            format!("no engine at {socket}; local and native deckies do without it"),
            "sudo apt install docker.io, or sudo systemctl start docker",
        ),
        Err(why) => Finding::warn(
            "docker",
            format!("{why:#}; local and native deckies do without it"),
            "correct DECNET_DOCKER_SOCKET, or add this user to the group docker",
        ),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_and_nonsense_is_not_a_number() {
        let text = "MemTotal: 1000 kB\nMemAvailable:   524288 kB\n";
        assert_eq!(available_mib(text), Some(512));
        assert_eq!(available_mib("MemAvailable: lots"), None);
    }
}
