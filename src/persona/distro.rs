//! Linux distributions an operator can ask for, by their established slugs.

use super::release::{self, Release};

/// A distribution.
#[derive(Debug)]
pub struct Distro {
    /// Name in flags and rows.
    pub slug: &'static str,
    /// Name for people.
    pub display: &'static str,
    /// How its host names look: `generic`, `rhel`, `minimal` or `rolling`.
    pub style: &'static str,
}

const fn row(slug: &'static str, display: &'static str, style: &'static str) -> Distro {
    Distro {
        slug,
        display,
        style,
    }
}

/// Every distribution, in the order fleets go through them.
pub const DISTROS: &[Distro] = &[
    row("debian", "Debian 12 (bookworm)", "generic"),
    row("ubuntu22", "Ubuntu 22.04 LTS (Jammy Jellyfish)", "generic"),
    row("ubuntu20", "Ubuntu 20.04 LTS (Focal Fossa)", "generic"),
    row("rocky9", "Rocky Linux 9", "rhel"),
    row("centos7", "CentOS 7", "rhel"),
    row("alpine", "Alpine Linux 3.19", "minimal"),
    row("fedora", "Fedora Linux 39", "rhel"),
    row("kali", "Kali Linux (rolling)", "rolling"),
    row("arch", "Arch Linux", "rolling"),
];

/// The distribution called `slug`.
#[must_use]
pub fn find(slug: &str) -> Option<&'static Distro> {
    DISTROS.iter().find(|d| d.slug == slug)
}

/// [`find`] for operators.
///
/// # Errors
/// One line that names the known ones.
pub fn named(slug: &str) -> Result<&'static Distro, String> {
    find(slug).ok_or_else(|| {
        let known: Vec<&str> = DISTROS.iter().map(|d| d.slug).collect();
        format!(
            "'{slug}' is not a distribution; use one of {}",
            known.join(", ")
        )
    })
}

impl Distro {
    /// Its release with everything packaged for it.
    fn release(&self) -> Option<&'static Release> {
        release::find(self.slug)
    }

    /// `product version` of what its hosts run, for lists.
    #[must_use]
    pub fn software(&self) -> Vec<String> {
        let Some(release) = self.release() else {
            return Vec::new();
        };
        let mut out = vec![format!("redis {}", release.redis)];
        out.extend(release.web.iter().map(|(w, v)| format!("{} {v}", w.name())));
        out.extend(release.ftp.iter().map(|(f, v)| format!("{} {v}", f.name())));
        out
    }

    /// The kernels its hosts may run, oldest first.
    #[must_use]
    pub fn kernels(&self) -> Vec<&'static str> {
        self.release()
            .map(|r| r.updates.iter().map(|u| u.kernel).collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    #[test]
    fn every_distribution_has_a_linux_release_of_its_style() {
        assert_eq!(DISTROS.len(), 9);
        for distro in DISTROS {
            let release = distro.release().unwrap();
            assert_eq!(release.family, Family::Linux);
            let style = format!("{:?}", release.style).to_lowercase();
            assert_eq!(style, distro.style, "{}", distro.slug);
            assert!(distro.software().len() >= 3 && !distro.kernels().is_empty());
        }
    }
}
