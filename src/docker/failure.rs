//! What to make of a failed pull or build of an operator's image: whether another try
//! can help, and which recipe fixes it. Pure: text in, decision out. The original text is
//! always part of what is said.

use std::fmt;
use std::time::Duration;

/// Waits before the second, third and fourth attempt.
pub const DELAYS: &[Duration] = &[
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
];
/// Mounts of a builder that lost track of them.
const LEAK: &str = "/var/lib/docker/tmp/buildkit-mount";
/// So many leaked mounts mean that the builder is stuck before it starts.
const LEAKS_MAX: usize = 10;
/// Most lines of what was said that are shown.
const LINES_MAX: usize = 20;
/// What a registry answers when asking again cannot help.
const PERMANENT: &[&str] = &[
    "manifest unknown",
    "manifest for",
    "not found",
    "pull access denied",
    "repository does not exist",
];

/// A failed attempt, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub kind: Kind,
    /// What the engine or the client said.
    pub said: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May go away by itself.
    Transient,
    /// What is asked for does not exist, or not for us.
    Permanent,
    /// The client's own directory is read-only for it.
    SandboxedHome,
    /// The builder holds mounts nobody will release.
    LeakedMounts(usize),
    /// The builder's own records are broken.
    BrokenBuilder,
}

impl Kind {
    /// Whether another attempt may help.
    #[must_use]
    pub const fn worth_retrying(self) -> bool {
        matches!(self, Kind::Transient)
    }

    /// What fixes it, in one line.
    #[must_use]
    pub fn recipe(self) -> Option<String> {
        match self {
            Kind::Transient => None,
            Kind::Permanent => Some(
                "asking again cannot help; correct the image's name or its Dockerfile, or log in with `docker login`"
                    .to_owned(),
            ),
            Kind::SandboxedHome => Some(
                "the Docker client wants to write below a home directory this process may not write to; set DOCKER_CONFIG and BUILDX_CONFIG to a writable directory below the install directory (`sudo decnet init` does)"
                    .to_owned(),
            ),
            Kind::LeakedMounts(count) => Some(format!(
                "the builder left {count} mounts behind; sudo systemctl stop docker docker.socket; sudo pkill buildkitd; grep -o '{LEAK}[^ ]*' /proc/self/mounts | xargs -r sudo umount -l; rm -rf \"${{BUILDX_CONFIG:-$HOME/.docker/buildx}}/activity\"; sudo systemctl start docker; docker buildx use default"
            )),
            Kind::BrokenBuilder => Some(
                "the builder's records are broken; rm -rf \"${BUILDX_CONFIG:-$HOME/.docker/buildx}/activity\" \"${BUILDX_CONFIG:-$HOME/.docker/buildx}/instances\"; docker buildx create --name decnet-builder --use"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever was printed; of a long build its end.
        let lines: Vec<&str> = self.said.lines().map(str::trim).collect();
        let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let (_, end) = lines.split_at(lines.len().saturating_sub(LINES_MAX));
        let said = if end.is_empty() {
            "nothing".to_owned()
        } else {
            end.join(" | ")
        };
        match self.kind.recipe() {
            Some(recipe) => write!(f, "{recipe} (said: {said})"),
            None => f.write_str(&said),
        }
    }
}

/// Understands what was said by a failed pull or build, given `/proc/self/mounts`.
#[must_use]
pub fn classify(said: &str, mounts: &str) -> Failure {
    let lower = said.to_lowercase();
    let wedged = lower.contains("failed to update builder last activity time")
        && lower.contains("read-only file system");
    let kind = if wedged {
        match leaked(mounts) {
            0 if lower.contains("/home/") && lower.contains(".docker/buildx") => {
                Kind::SandboxedHome
            }
            0 => Kind::BrokenBuilder,
            count => Kind::LeakedMounts(count),
        }
    } else if PERMANENT.iter().any(|phrase| lower.contains(phrase)) {
        Kind::Permanent
    } else {
        Kind::Transient
    };
    Failure {
        kind,
        said: said.to_owned(),
    }
}

/// Refuses a build that would only wait for ever on a stuck builder.
///
/// # Errors
/// The failure it would end in.
pub fn preflight(mounts: &str) -> Result<(), Failure> {
    let count = leaked(mounts);
    if count < LEAKS_MAX {
        return Ok(());
    }
    Err(Failure {
        kind: Kind::LeakedMounts(count),
        said: "nothing was tried".to_owned(),
    })
}

/// Mounts of `mounts` (the text of `/proc/self/mounts`) left behind by a builder.
fn leaked(mounts: &str) -> usize {
    mounts.lines().filter(|line| line.contains(LEAK)).count()
}

impl Failure {
    /// How long to wait before another attempt when `tried` have failed like this;
    /// `None` when another cannot help or enough were made.
    #[must_use]
    pub fn next_attempt(&self, tried: usize, delays: &[Duration]) -> Option<Duration> {
        let delay = delays.get(tried.checked_sub(1)?)?;
        self.kind.worth_retrying().then_some(*delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EROFS: &str = "ERROR: failed to update builder last activity time: open /home/ops/.docker/buildx/activity/default: Read-only file system";

    fn mounts(leaks: usize) -> String {
        let mut text = "proc /proc proc rw 0 0\noverlay / overlay rw 0 0\n".to_owned();
        for n in 0..leaks {
            text.push_str(&format!("overlay {LEAK}{n} overlay rw 0 0\n"));
        }
        text
    }

    #[test]
    fn a_registry_that_lacks_the_image_is_asked_once() {
        for said in [
            "manifest unknown: manifest unknown",
            "manifest for example/x:latest not found",
            "Error response from daemon: pull access denied for example/x",
            "repository does not exist or may require 'docker login'",
            "failed to resolve reference \"docker.io/x\": NOT FOUND",
        ] {
            assert_eq!(classify(said, "").kind, Kind::Permanent, "{said}");
        }
        for said in [
            "dial tcp: lookup registry-1.docker.io: i/o timeout",
            "net/http: TLS handshake timeout",
            "toomanyrequests: rate limit",
            "",
        ] {
            assert_eq!(classify(said, "").kind, Kind::Transient, "{said}");
        }
    }

    #[test]
    fn a_home_that_cannot_be_written_names_both_settings() {
        let failure = classify(EROFS, &mounts(0));
        assert_eq!(failure.kind, Kind::SandboxedHome);
        let text = failure.to_string();
        assert!(text.contains("DOCKER_CONFIG") && text.contains("BUILDX_CONFIG"));
        assert!(text.contains(EROFS), "{text}");
    }

    #[test]
    fn leaked_mounts_go_before_the_home() {
        let failure = classify(EROFS, &mounts(3));
        assert_eq!(failure.kind, Kind::LeakedMounts(3));
        let text = failure.to_string();
        assert!(text.contains("umount -l") && text.contains(EROFS), "{text}");
    }

    #[test]
    fn without_either_the_builder_is_made_anew_under_a_name_that_is_free() {
        let said = EROFS.replace("/home/ops", "/opt/decnet");
        let failure = classify(&said, &mounts(0));
        assert_eq!(failure.kind, Kind::BrokenBuilder);
        let text = failure.to_string();
        assert!(text.contains("--name decnet-builder"), "{text}");
        assert!(text.contains(&said), "{text}");
    }

    #[test]
    fn what_is_shown_is_one_line_and_ends_with_the_end() {
        let long: String = (0..500).map(|n| format!("step {n}\n\n")).collect();
        let text = classify(&long, "").to_string();
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with("step 498 | step 499"), "{text}");
        assert_eq!(classify(" \n", "").to_string(), "nothing");
    }

    #[test]
    fn a_read_only_file_system_alone_is_no_wedge() {
        let said = "mkdir /var/lib/docker/x: read-only file system";
        assert_eq!(classify(said, &mounts(20)).kind, Kind::Transient);
        let said = "failed to update builder last activity time: permission denied";
        assert_eq!(classify(said, &mounts(20)).kind, Kind::Transient);
    }

    #[test]
    fn a_build_is_refused_from_ten_leaked_mounts_on() {
        assert_eq!(preflight(&mounts(9)), Ok(()));
        assert_eq!(
            preflight(&mounts(10)).unwrap_err().kind,
            Kind::LeakedMounts(10)
        );
    }

    #[test]
    fn what_may_pass_is_retried_with_doubling_waits_and_what_cannot_is_not() {
        let passing = classify("i/o timeout", "");
        let waits: Vec<Option<u64>> = (1..=4)
            .map(|tried| passing.next_attempt(tried, DELAYS).map(|d| d.as_secs()))
            .collect();
        assert_eq!(waits, [Some(5), Some(10), Some(20), None]);
        for said in ["manifest unknown", EROFS] {
            assert_eq!(classify(said, &mounts(1)).next_attempt(1, DELAYS), None);
        }
    }
}
