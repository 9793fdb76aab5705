//! Operating-system families and how the kernel is told to look like them. One table:
//! the Docker runtime passes it on, the native runtime writes it itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a decky's network stack claims to be; the slugs of `nmap_os`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Linux servers.
    #[default]
    Linux,
    /// Windows 10 and 11.
    Windows,
    /// Windows Server.
    WindowsServer,
    /// FreeBSD.
    Bsd,
    /// Printers, cameras, controllers.
    Embedded,
    /// Cisco IOS.
    Cisco,
}

impl Family {
    /// Every family.
    pub const ALL: &'static [Family] = &[
        Family::Linux,
        Family::Windows,
        Family::WindowsServer,
        Family::Bsd,
        Family::Embedded,
        Family::Cisco,
    ];

    /// The slug.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Family::Linux => "linux",
            Family::Windows => "windows",
            Family::WindowsServer => "windows_server",
            Family::Bsd => "bsd",
            Family::Embedded => "embedded",
            Family::Cisco => "cisco",
        }
    }

    /// Kernel settings of the decky's network namespace, `(name, value)` with the name
    /// in dotted form. Only names that exist per namespace.
    #[must_use]
    pub const fn sysctls(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Family::Linux => &[
                ("net.ipv4.ip_default_ttl", "64"),
                ("net.ipv4.tcp_syn_retries", "6"),
                ("net.ipv4.tcp_timestamps", "1"),
                ("net.ipv4.tcp_window_scaling", "1"),
                ("net.ipv4.tcp_sack", "1"),
                ("net.ipv4.tcp_ecn", "2"),
                ("net.ipv4.ip_no_pmtu_disc", "0"),
                ("net.ipv4.tcp_fin_timeout", "60"),
                ("net.ipv4.icmp_ratelimit", "1000"),
                ("net.ipv4.icmp_ratemask", "6168"),
            ],
            Family::Windows => &[
                ("net.ipv4.ip_default_ttl", "128"),
                ("net.ipv4.tcp_syn_retries", "2"),
                ("net.ipv4.tcp_timestamps", "1"),
                ("net.ipv4.tcp_window_scaling", "1"),
                ("net.ipv4.tcp_sack", "1"),
                ("net.ipv4.tcp_ecn", "0"),
                ("net.ipv4.ip_no_pmtu_disc", "0"),
                ("net.ipv4.tcp_fin_timeout", "30"),
                ("net.ipv4.icmp_ratelimit", "0"),
                ("net.ipv4.icmp_ratemask", "0"),
            ],
            Family::WindowsServer => &[
                ("net.ipv4.ip_default_ttl", "128"),
                ("net.ipv4.tcp_syn_retries", "2"),
                ("net.ipv4.tcp_timestamps", "1"),
                ("net.ipv4.tcp_window_scaling", "1"),
                ("net.ipv4.tcp_sack", "1"),
                ("net.ipv4.tcp_ecn", "1"),
                ("net.ipv4.ip_no_pmtu_disc", "0"),
                ("net.ipv4.tcp_fin_timeout", "30"),
                ("net.ipv4.icmp_ratelimit", "0"),
                ("net.ipv4.icmp_ratemask", "0"),
            ],
            Family::Bsd => &[
                ("net.ipv4.ip_default_ttl", "64"),
                ("net.ipv4.tcp_syn_retries", "6"),
                ("net.ipv4.tcp_timestamps", "1"),
                ("net.ipv4.tcp_window_scaling", "1"),
                ("net.ipv4.tcp_sack", "1"),
                ("net.ipv4.tcp_ecn", "0"),
                ("net.ipv4.ip_no_pmtu_disc", "0"),
                ("net.ipv4.tcp_fin_timeout", "60"),
                ("net.ipv4.icmp_ratelimit", "250"),
                ("net.ipv4.icmp_ratemask", "6168"),
            ],
            Family::Embedded => &[
                ("net.ipv4.ip_default_ttl", "255"),
                ("net.ipv4.tcp_syn_retries", "3"),
                ("net.ipv4.tcp_timestamps", "0"),
                ("net.ipv4.tcp_window_scaling", "0"),
                ("net.ipv4.tcp_sack", "0"),
                ("net.ipv4.tcp_ecn", "0"),
                ("net.ipv4.ip_no_pmtu_disc", "1"),
                ("net.ipv4.tcp_fin_timeout", "15"),
                ("net.ipv4.icmp_ratelimit", "0"),
                ("net.ipv4.icmp_ratemask", "0"),
            ],
            Family::Cisco => &[
                ("net.ipv4.ip_default_ttl", "255"),
                ("net.ipv4.tcp_syn_retries", "2"),
                ("net.ipv4.tcp_timestamps", "0"),
                ("net.ipv4.tcp_window_scaling", "0"),
                ("net.ipv4.tcp_sack", "0"),
                ("net.ipv4.tcp_ecn", "0"),
                ("net.ipv4.ip_no_pmtu_disc", "1"),
                ("net.ipv4.tcp_fin_timeout", "15"),
                ("net.ipv4.icmp_ratelimit", "0"),
                ("net.ipv4.icmp_ratemask", "0"),
            ],
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Family::ALL
            .iter()
            .copied()
            .find(|f| f.slug() == text)
            .ok_or_else(|| {
                let known: Vec<&str> = Family::ALL.iter().map(|f| f.slug()).collect();
                format!(
                    "'{text}' is not an OS family; use one of {}",
                    known.join(", ")
                )
            })
    }
}
