//! What holds for every kind.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};

use flate2::read::ZlibDecoder;

use super::*;

pub(crate) fn place() -> Place<'static> {
    Place {
        hostname: "web01",
        domain: "northgate.internal",
        user: "jbauer",
        home: "/home/jbauer",
        uid: 1000,
        company: "northgate",
        windows: false,
    }
}

pub(crate) fn base() -> Base {
    Base {
        http: "http://files.example.org:8088".to_owned(),
        dns_zone: Some("cdn.example.org".to_owned()),
    }
}

fn slug() -> Slug {
    Slug::parse("mzxw6ytboiydcmrtgq2tmnzyhe").unwrap()
}

fn now() -> Stamp {
    Stamp::parse("2026-11-30T09:00:00Z").unwrap()
}

fn made(kind: Kind, seed: u64) -> Vec<File> {
    make(kind, &slug(), &base(), &place(), seed, now()).unwrap()
}

fn generated() -> impl Iterator<Item = Kind> {
    Kind::ALL
        .iter()
        .copied()
        .filter(|kind| *kind != Kind::Upload)
}

/// Everything that can be read in a file: itself, its members, its streams.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut out = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(mut archive) = zip::ZipArchive::new(Cursor::new(bytes)) {
        for at in 0..archive.len() {
            let mut member = archive.by_index(at).unwrap();
            out.push_str(&member.name().unwrap());
            let mut text = Vec::new();
            member.read_to_end(&mut text).unwrap();
            out.push_str(&String::from_utf8_lossy(&text));
        }
    }
    let mut rest = bytes;
    if bytes.first() == Some(&0x78) {
        inflate(bytes, &mut out);
    }
    while let Some(at) = rest.windows(7).position(|w| w == b"stream\n") {
        rest = &rest[at + 7..];
        inflate(rest, &mut out);
    }
    out
}

fn inflate(bytes: &[u8], out: &mut String) {
    let mut text = Vec::new();
    if ZlibDecoder::new(bytes).read_to_end(&mut text).is_ok() {
        out.push_str(&String::from_utf8_lossy(&text));
    }
}

#[test]
fn every_kind_makes_files_that_call_back_and_say_nothing_of_us() {
    for kind in generated() {
        for seed in 0..40 {
            for windows in [false, true] {
                let mut place = place();
                place.windows = windows;
                if windows {
                    place.home = "C:/Users/jbauer";
                }
                let files = make(kind, &slug(), &base(), &place, seed, now()).unwrap();
                assert!(!files.is_empty());
                let mut all = String::new();
                for file in &files {
                    assert!(
                        !file.bytes.is_empty() && file.bytes.len() < 200_000,
                        "{kind}"
                    );
                    let start = if windows { "C:/" } else { "/" };
                    let elsewhere = kind == Kind::DesktopIni;
                    assert!(file.path.starts_with(start) || elsewhere, "{}", file.path);
                    assert!(file.path.ends_with(&file.name) && !file.path.contains(".."));
                    assert!(
                        file.age >= Duration::from_secs(40_000),
                        "{kind} {:?}",
                        file.age
                    );
                    assert!(file.mode & !0o644 == 0, "{kind} {:o}", file.mode);
                    all.push_str(&file.path);
                    all.push_str(&readable(&file.bytes));
                }
                // A code is read by a reader in another test.
                let calls = all.contains(slug().as_str()) || kind == Kind::QrCode;
                assert!(calls, "{kind} calls nobody");
                let lower = all.to_lowercase();
                for word in ["decnet", "canary", "honey", "token", "decoy", "lorem"] {
                    assert!(!lower.contains(word), "{word} in {kind}: {all}");
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    for kind in generated() {
        assert_eq!(made(kind, 5), made(kind, 5), "{kind}");
        let variants: BTreeSet<String> = (0..12)
            .map(|seed| format!("{:?}", made(kind, seed)))
            .collect();
        assert!(
            variants.len() > 8,
            "{kind} comes in {} variants",
            variants.len()
        );
    }
}

#[test]
fn what_calls_by_dns_needs_a_zone_and_says_so() {
    let bare = Base {
        dns_zone: None,
        ..base()
    };
    for kind in generated() {
        let made = make(kind, &slug(), &bare, &place(), 1, now());
        match kind.callback() {
            Callback::Dns => {
                let error = made.unwrap_err();
                assert_eq!(error, Error::NeedsZone(kind));
                assert!(error.to_string().contains("DECNET_CANARY_DNS_ZONE"));
            }
            Callback::Http | Callback::Passive => assert!(!made.unwrap().is_empty()),
        }
    }
    let error = make(Kind::Upload, &slug(), &base(), &place(), 1, now()).unwrap_err();
    assert_eq!(error, Error::NeedsFile);
}

#[test]
fn odd_places_bases_and_clocks_are_rendered() {
    let odd = Place {
        hostname: "<&\"'",
        domain: "",
        user: "../../etc/passwd",
        home: "../..",
        uid: u32::MAX,
        company: "]]>&<script>\u{0}\u{202e}",
        windows: false,
    };
    let base = Base {
        http: "http://x/<\"'&>(\\)".to_owned(),
        dns_zone: Some("Z.".to_owned()),
    };
    for kind in generated() {
        for now in [i64::MIN, 0, i64::MAX] {
            for file in make(kind, &slug(), &base, &odd, 3, Stamp(now)).unwrap() {
                assert!(
                    file.path.starts_with('/') && !file.path.contains(".."),
                    "{}",
                    file.path
                );
            }
        }
    }
}

#[test]
fn addresses_are_put_together_as_the_listener_takes_them_apart() {
    assert_eq!(
        base().url(&slug()),
        "http://files.example.org:8088/c/mzxw6ytboiydcmrtgq2tmnzyhe"
    );
    let host = base().host(&slug());
    assert_eq!(
        host.as_deref(),
        Some("mzxw6ytboiydcmrtgq2tmnzyhe.cdn.example.org")
    );
    let odd = Base {
        http: "http://a/".to_owned(),
        dns_zone: Some(".".to_owned()),
    };
    assert_eq!(odd.host(&slug()), None);
    assert!(odd.url(&slug()).starts_with("http://a/c/"));
}
