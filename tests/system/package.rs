//! The packages under test: built once, with the dev profile, as this version and as
//! an older one whose program renders other units. Also what the checkers say of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::host::Host;

/// The version number of the older packages.
pub(crate) const OLD: &str = "0.0.9";

/// Paths of the four packages.
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) old_deb: PathBuf,
    pub(crate) rpm: PathBuf,
    pub(crate) old_rpm: PathBuf,
}

/// Builds them at the first call; `DECNET_TEST_PACKAGES` names a directory of built ones.
pub(crate) fn packages() -> &'static Packages {
    static BUILT: OnceLock<Packages> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = match std::env::var_os("DECNET_TEST_PACKAGES") {
            Some(built) => PathBuf::from(built),
            None => build(),
        };
        let version = env!("CARGO_PKG_VERSION");
        Packages {
            deb: out.join(format!("decnet_{version}-1_amd64.deb")),
            old_deb: out.join(format!("decnet_{OLD}-1_amd64.deb")),
            rpm: out.join(format!("decnet-{version}-1.x86_64.rpm")),
            old_rpm: out.join(format!("decnet-{OLD}-1.x86_64.rpm")),
        }
    })
}

fn build() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = top.join("target/packages");
    let made = Command::new(top.join("tests/system/build-packages.sh"))
        .args([out.as_os_str(), OLD.as_ref()])
        .arg(env!("CARGO_BIN_EXE_decnet"))
        .current_dir(top)
        .output()
        .unwrap();
    let (said, told) = (
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr),
    );
    assert!(made.status.success(), "building the packages: {said}{told}");
    out
}

/// Copies a package into the root; returns its path inside.
pub(crate) fn lay(host: &Host, package: &Path) -> String {
    let name = package.file_name().unwrap().to_str().unwrap();
    std::fs::copy(package, host.path("root").join(name)).unwrap();
    format!("/root/{name}")
}

fn run(program: &str, args: &[&str]) -> (bool, String) {
    let out = Command::new(program).args(args).output().unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

/// Whether `program` is there; says so when it is not.
pub(crate) fn have(program: &str) -> bool {
    let found = run("sh", &["-c", &format!("command -v {program}")]).0;
    if !found {
        println!("  skipped: {program} is not installed (scripts/install-test-tools.sh)");
    }
    found
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn lintian_finds_nothing() {
    let deb = packages().deb.to_str().unwrap();
    if have("lintian") {
        let (clean, text) = run(
            "lintian",
            &["--allow-root", "--fail-on", "error,warning", deb],
        );
        assert!(clean, "{text}");
    }
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn rpmlint_finds_nothing() {
    let rpm = packages().rpm.to_str().unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/rpm/rpmlint.toml");
    if have("rpmlint") {
        let (clean, text) = run("rpmlint", &["--strict", "--config", config, rpm]);
        assert!(clean && text.contains("0 errors, 0 warnings"), "{text}");
    }
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn both_packages_carry_what_they_should_and_no_unit() {
    let (_, deb) = run(
        "dpkg-deb",
        &["--contents", packages().deb.to_str().unwrap()],
    );
    let (_, rpm) = run("rpm", &["-qpl", packages().rpm.to_str().unwrap()]);
    for text in [&deb, &rpm] {
        for piece in [
            "/usr/bin/decnet\n",
            "/man1/decnet.1.gz",
            "/bash-completion/completions/decnet",
            "/_decnet",
            "/decnet.fish",
            "/README.md",
        ] {
            assert!(format!("{text}\n").contains(piece), "{piece} in {text}");
        }
        // Rendered by init, for this host's choices; a packaged one would be a second.
        assert!(!text.contains(".service"), "{text}");
        assert!(!text.contains("/etc/"), "{text}");
    }
    let (_, control) = run("dpkg-deb", &["--info", packages().deb.to_str().unwrap()]);
    assert!(control.contains("md5sums"), "dpkg -V needs it: {control}");
}

#[test]
#[ignore = "needs root and debootstrap; run by make test-system"]
fn scripts_are_short_and_posix() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for dir in ["maintainer-scripts", "rpm"] {
        for entry in std::fs::read_dir(root.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if dir == "rpm" && path.extension().is_none_or(|e| e != "sh") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.lines().count() < 40, "{} is long", path.display());
            assert!(
                !text.contains("|| true"),
                "{} hides failures",
                path.display()
            );
            if have("shellcheck") {
                let (clean, said) = run("shellcheck", &["-s", "sh", path.to_str().unwrap()]);
                assert!(clean, "{said}");
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 6);
}
