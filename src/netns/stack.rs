//! How the decky's packets look: the kernel's settings of its network namespace and the
//! metrics of its routes, by OS family.
//!
//! This module is the place where the shape of packets is decided. What the kernel lets
//! us choose per namespace is chosen here: TTL, options, window and its scale, DF, rate
//! of ICMP errors. What it does not (order of TCP options, IP ids, sequence numbers,
//! the answers to malformed segments) stays Linux's until something here takes over the
//! packets themselves.

use std::fs;
use std::io;

use anyhow::Context;
use rtnetlink::packet_route::route::RouteMetric;

use crate::model::Family;
use crate::netns::link::INSIDE;

/// What of a family's TCP shape is not in [`Family::sysctls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Smallest, usual and largest receive buffer: the largest gives the window scale.
    receive: &'static str,
    /// Largest window ever announced.
    window: Option<u32>,
}

const fn shape(family: Family) -> Shape {
    match family {
        // Scale 7, window 65160.
        Family::Linux => Shape {
            receive: "4096 131072 6291456",
            window: None,
        },
        // Scale 8.
        Family::Windows | Family::WindowsServer => Shape {
            receive: "4096 131072 8388608",
            window: None,
        },
        // Scale 6: the clamp keeps the host's own largest buffer out of it.
        Family::Bsd => Shape {
            receive: "4096 131072 2097152",
            window: Some(2_097_152),
        },
        // No scaling (see the sysctls): the window itself is what shows.
        Family::Embedded => Shape {
            receive: "4096 16384 16384",
            window: Some(8192),
        },
        Family::Cisco => Shape {
            receive: "4096 16384 16384",
            window: Some(4128),
        },
    }
}

/// Settings that hold for every decky. They are written before the interface goes up.
const EVERY: &[(&str, &str)] = &[
    // The services listen without any privilege.
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv4.conf.all.accept_redirects", "0"),
    ("net.ipv4.conf.eth0.accept_redirects", "0"),
    ("net.ipv4.conf.eth0.send_redirects", "0"),
    ("net.ipv4.conf.eth0.accept_source_route", "0"),
    // The address comes from the reconciler, not from whoever advertises on the LAN.
    ("net.ipv6.conf.eth0.accept_ra", "0"),
    ("net.ipv6.conf.eth0.autoconf", "0"),
    ("net.ipv6.conf.eth0.router_solicitations", "0"),
    ("net.ipv6.conf.eth0.accept_redirects", "0"),
    ("net.ipv6.conf.eth0.forwarding", "0"),
    // The link-local address is the persona's, not derived by the kernel.
    ("net.ipv6.conf.eth0.addr_gen_mode", "1"),
    ("net.ipv6.conf.default.addr_gen_mode", "1"),
];

/// Writes the settings of `family` into the network namespace of the caller. `eth0` must
/// be there.
///
/// # Errors
/// When a setting the kernel has cannot be written.
pub fn apply(family: Family) -> anyhow::Result<()> {
    for (name, value) in settings(family) {
        write(name, value)?;
    }
    Ok(())
}

/// The settings of `family` as `(dotted name, value)`, for whoever makes the namespace.
pub fn settings(family: Family) -> impl Iterator<Item = (&'static str, &'static str)> {
    let ttl = family
        .sysctls()
        .iter()
        .find(|(name, _)| *name == "net.ipv4.ip_default_ttl")
        .map_or("64", |(_, value)| value);
    let own = [
        ("net.ipv4.tcp_rmem", shape(family).receive),
        ("net.ipv6.conf.eth0.hop_limit", ttl),
        ("net.ipv6.conf.default.hop_limit", ttl),
    ];
    family
        .sysctls()
        .iter()
        .copied()
        .chain(own)
        .chain(EVERY.iter().copied())
}

/// The metrics of the decky's routes.
#[must_use]
pub fn metrics(family: Family) -> Vec<RouteMetric> {
    shape(family)
        .window
        .map(RouteMetric::Window)
        .into_iter()
        .collect()
}

/// Writes one setting. One that this kernel does not have (or a host without IPv6) is
/// left out.
fn write(name: &str, value: &str) -> anyhow::Result<()> {
    debug_assert_eq!(INSIDE, "eth0");
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    match fs::write(&path, value) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::debug!("this kernel has no {name}");
            Ok(())
        }
        Err(error) => Err(error).with_context(|| {
            format!("setting {name} = {value} (below /proc/sys/net, which must be writable)")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};

    /// Each family's settings, read back from a fresh namespace: what the table says is
    /// what the kernel holds, and the host's own settings are untouched.
    #[test]
    fn every_family_is_written_per_namespace() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!(
                "skipped: every_family_is_written_per_namespace: making a namespace needs root"
            );
            return;
        }
        let ttl = "/proc/sys/net/ipv4/ip_default_ttl";
        let before = fs::read_to_string(ttl).unwrap();
        for family in Family::ALL {
            std::thread::spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                // eth0 is not there: its own settings are left out, the others hold.
                apply(*family).unwrap();
                for (name, value) in family.sysctls() {
                    let path = format!("/proc/sys/{}", name.replace('.', "/"));
                    let held = fs::read_to_string(&path).unwrap();
                    let (held, value): (i64, i64) =
                        (held.trim().parse().unwrap(), value.parse().unwrap());
                    // Milliseconds become ticks and milliseconds again.
                    let slack = if *name == "net.ipv4.icmp_ratelimit" {
                        10
                    } else {
                        0
                    };
                    assert!((held - value).abs() <= slack, "{family}: {name} = {held}");
                }
            })
            .join()
            .unwrap();
        }
        assert_eq!(fs::read_to_string(ttl).unwrap(), before);
    }

    #[test]
    fn a_family_without_scaling_never_announces_more_than_fits() {
        for family in Family::ALL {
            let scales = family
                .sysctls()
                .contains(&("net.ipv4.tcp_window_scaling", "1"));
            let fits = shape(*family).window.is_some_and(|w| w < 65_536);
            assert_eq!(fits, !scales, "{family}");
        }
    }
}
