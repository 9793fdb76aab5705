//! Pages and drawings, opened by Chromium.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use decnet::canary::fingerprint::{self, Fingerprint, Section, Value};
use decnet::canary::{Kind, instrument};

use super::listener::Listener;
use super::{Planted, SLUG, available, base, below, slug};
use crate::support::output;

/// A browser that shows `path` until it is dropped.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(path: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            // Keeps it open.
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("file://{}", path.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            _profile: profile,
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .ok();
        self.child.wait().ok();
    }
}

fn planted_path(planted: &Planted) -> std::path::PathBuf {
    below(planted.root.path(), &planted.files[0].path)
}

#[test]
#[ignore = "needs chromium"]
fn pages_and_drawings_fetch_their_picture() {
    if !available("chromium") {
        return;
    }
    for kind in [Kind::Html, Kind::Svg] {
        let planted = Planted::new(kind, 4);
        let _browser = Browser::open(&planted_path(&planted));
        planted.listener.wait("GET", &format!("/c/{SLUG}/logo.png"));
    }
    for (name, text) in [
        (
            "a.html",
            "<!DOCTYPE html><html><body><p>Text</p></BODY></html>",
        ),
        (
            "a.svg",
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><rect width=\"5\" height=\"5\"/></svg>",
        ),
    ] {
        let listener = Listener::start();
        let (mut file, _) = instrument(name, text.as_bytes(), &slug(), &base(&listener)).unwrap();
        file.path = format!("/{name}");
        let planted = Planted::write(vec![file], listener);
        let _browser = Browser::open(&planted_path(&planted));
        planted.listener.wait("GET", &format!("/c/{SLUG}/logo.png"));
    }
}

#[test]
#[ignore = "needs chromium"]
fn the_page_with_a_script_says_what_the_browser_is() {
    if !available("chromium") {
        return;
    }
    let planted = Planted::new(Kind::HtmlFingerprint, 4);
    let path = planted_path(&planted);
    let _browser = Browser::open(&path);
    let hit = planted.listener.wait("POST", &format!("/c/{SLUG}/b"));
    let found = fingerprint::parse(&hit.body).unwrap();
    for section in [
        Section::Nav,
        Section::Scr,
        Section::Tz,
        Section::Cv,
        Section::Au,
        Section::Ft,
        Section::Rtc,
    ] {
        assert!(
            found.sections.contains_key(&section),
            "{section:?} is missing in {found:?}"
        );
    }
    let Value::Text(agent) = &found.sections[&Section::Nav]["agent"] else {
        panic!("{found:?}");
    };
    assert!(
        agent.contains("Chrome") && found.id().is_some(),
        "{found:?}"
    );

    // Where neither beacons nor fetch are, the same comes in a query.
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen(
        "<script>",
        "<script>navigator.sendBeacon = null; window.fetch = null;",
        1,
    );
    let other = path.with_file_name("other.html");
    fs::write(&other, text).unwrap();
    let _browser = Browser::open(&other);
    let hit = planted.listener.wait("GET", &format!("/c/{SLUG}/b?"));
    let query = hit.target.split_once('?').unwrap().1;
    let again = fingerprint::parse_query(query).unwrap();
    // A busy machine may have no time for sound or no memory for a second renderer: what
    // both told makes one identity, and the drawing and the fonts are told always.
    let both = |one: &Fingerprint, other: &Fingerprint| {
        let mut one = one.clone();
        one.sections
            .retain(|section, _| other.sections.contains_key(section));
        one
    };
    let (first, second) = (both(&found, &again), both(&again, &found));
    for section in [Section::Cv, Section::Ft] {
        assert!(second.sections.contains_key(&section), "{again:?}");
    }
    assert_eq!(second.id(), first.id(), "{again:?} {found:?}");
}

#[test]
#[ignore = "needs chromium and zbarimg"]
fn the_drawn_code_is_read() {
    if !available("chromium") || !available("zbarimg") {
        return;
    }
    let planted = Planted::new(Kind::QrCode, 1);
    let svg = planted
        .files
        .iter()
        .find(|f| f.name.ends_with("svg"))
        .unwrap();
    let path = below(planted.root.path(), &svg.path);
    let shot = planted.root.path().join("shot.png");
    output(
        Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--window-size=600,600",
            ])
            .arg(format!(
                "--user-data-dir={}",
                planted.root.path().join("profile").display()
            ))
            .arg(format!("--screenshot={}", shot.display()))
            .arg(format!("file://{}", path.display())),
    );
    let read = output(Command::new("zbarimg").args(["--raw", "-q"]).arg(shot));
    assert_eq!(read.trim(), base(&planted.listener).url(&slug()));
}
