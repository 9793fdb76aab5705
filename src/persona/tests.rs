//! Personas as values: coherent, stable, unique, and silent about us. Certificates and
//! keys are read by other people's programs in `tests/it/persona.rs`.

use std::collections::BTreeSet;

use super::*;

/// 2026-11-01T00:00:00Z.
const NOW: Stamp = Stamp(1_793_491_200_000_000);

fn asked(archetype: Option<&'static str>, family: Option<Family>) -> Asked<'static> {
    Asked {
        archetype,
        distro: None,
        family,
    }
}

/// Every combination of archetype (and none) with family (and none).
fn wishes() -> Vec<Asked<'static>> {
    let archetypes = archetype::ARCHETYPES.iter().map(|a| Some(a.slug));
    let families = || Family::ALL.iter().copied().map(Some);
    archetypes
        .chain([None])
        .flat_map(|a| families().chain([None]).map(move |f| asked(a, f)))
        .collect()
}

#[test]
fn the_same_installation_gives_the_same_host() {
    let one = Persona::derive(b"secret", "decky-01", &Asked::default(), NOW);
    let two = Persona::derive(b"secret", "decky-01", &Asked::default(), NOW);
    assert_eq!(one, two);
    assert_eq!(
        one.hex_id("redis/run_id", 40),
        two.hex_id("redis/run_id", 40)
    );
}

#[test]
fn the_decky_name_and_the_product_show_nowhere() {
    for wish in wishes() {
        for n in 0..50 {
            let name = format!("decky-{n:02}");
            let persona = Persona::derive(b"s", &name, &wish, NOW);
            let text = serde_json::to_string(&persona).unwrap().to_lowercase();
            for word in ["decky", "decnet", "deaddeck", "honeypot", "decoy"] {
                assert!(!text.contains(word), "{text}");
            }
        }
    }
}

#[test]
fn every_wish_gives_a_host_whose_parts_belong_together() {
    for wish in wishes() {
        assert_eq!(wish.check(), Ok(()));
        for n in 0..20 {
            let p = Persona::derive(b"s", &format!("d{n}"), &wish, NOW);
            assert_eq!(p.family, wish.family());
            let release = release::find(&p.release).unwrap();
            assert!(
                release
                    .web
                    .iter()
                    .any(|(w, v)| *w == p.web_server && *v == p.web_version)
            );
            assert!(release.ftp.iter().any(|(f, _)| *f == p.ftp_server));
            let update = release
                .updates
                .iter()
                .find(|u| u.kernel == p.kernel)
                .unwrap();
            assert!(update.at() < p.booted_at, "{p:?}");
            assert!(release::day(release.released) < p.booted_at);
            assert!(p.installed_at < p.booted_at, "{p:?}");
            let days = NOW.since(p.booted_at).as_secs() / DAY;
            assert!((3..=90).contains(&days), "{days}");
            let mac = p.mac_bytes().unwrap();
            assert_eq!(mac[0] & 3, 0, "{}", p.mac);
            assert!(!p.vendor.is_empty() && !p.users.is_empty());
            for service in [Service::Redis, Service::Http, Service::Ftp] {
                assert_eq!(p.can_offer(service), wish.can_offer(service), "{p:?}");
            }
            let host = &p.hostname;
            assert!(
                (2..=24).contains(&host.len())
                    && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
                "{host}"
            );
            match p.family {
                Family::Windows | Family::WindowsServer => {
                    assert!(host.len() <= 15 && *host == host.to_uppercase(), "{host}");
                    assert_eq!(p.web_server, WebServer::Iis);
                    assert_eq!(p.ftp_server, FtpServer::Microsoft);
                }
                Family::Cisco => assert_eq!(p.web_server, WebServer::CiscoIos),
                _ => assert!(p.web_server != WebServer::Iis),
            }
            if p.role == "printer" && p.family == Family::Embedded {
                let tail = p.mac.replace(':', "").to_uppercase();
                assert_eq!(
                    Some(host.as_str()),
                    tail.get(6..).map(|t| format!("NPI{t}")).as_deref()
                );
            }
        }
    }
}

#[test]
fn an_archetype_that_offers_a_service_can_run_it() {
    for a in archetype::ARCHETYPES {
        let wish = asked(Some(a.slug), None);
        for service in a.pool() {
            assert!(wish.can_offer(service), "{}: {service}", a.slug);
        }
    }
}

#[test]
fn a_distribution_asked_for_is_had_and_what_excludes_it_is_refused() {
    for distro in distro::DISTROS {
        let wish = Asked {
            archetype: Some("mail-server"),
            distro: Some(distro.slug),
            family: None,
        };
        assert_eq!(wish.check(), Ok(()));
        assert_eq!(Persona::derive(b"s", "a", &wish, NOW).release, distro.slug);
    }
    let both = |archetype, family| Asked {
        archetype,
        distro: Some("rocky9"),
        family,
    };
    for wish in [
        both(Some("printer"), None),
        both(None, Some(Family::Cisco)),
        both(Some("printer"), Some(Family::Windows)),
        both(Some("toaster"), None),
    ] {
        let error = wish.check().unwrap_err();
        assert!(!error.contains('\n') && error.len() > 20, "{error}");
        // A row that holds such a wish anyway still gives a host.
        let family = wish.family();
        assert_eq!(Persona::derive(b"s", "a", &wish, NOW).family, family);
    }
    assert_eq!(both(Some("printer"), Some(Family::Linux)).check(), Ok(()));
}

#[test]
fn hosts_of_one_installation_are_of_one_company_and_none_is_there_twice() {
    let mut fleet: Vec<Persona> = Vec::new();
    for n in 0..300 {
        let taken: Vec<&Persona> = fleet.iter().collect();
        let name = format!("decky-{n:03}");
        let one = Persona::derive_unique(b"s", &name, &Asked::default(), NOW, &taken);
        fleet.push(one);
    }
    let count = |get: fn(&Persona) -> &str| fleet.iter().map(get).collect::<BTreeSet<_>>().len();
    assert_eq!(count(|p| &p.hostname), 300);
    assert_eq!(count(|p| &p.mac), 300);
    assert_eq!(count(|p| &p.seed), 300);
    assert_eq!(count(|p| &p.domain), 1);
    let first = Persona::derive(b"s", "decky-000", &Asked::default(), NOW);
    assert_eq!(
        fleet.first(),
        Some(&first),
        "the first draw is the plain one"
    );
}

#[test]
fn two_installations_share_no_secret() {
    for wish in wishes().into_iter().step_by(3) {
        let one = Persona::derive(b"a", "decky-01", &wish, NOW);
        let two = Persona::derive(b"b", "decky-01", &wish, NOW);
        assert_ne!(one.seed, two.seed);
        assert_ne!(one.site, two.site);
        assert_ne!(one.mac, two.mac);
        assert_ne!(one.hex_id("x", 40), two.hex_id("x", 40));
        for ((name, a), (_, b)) in one.identifiers().into_iter().zip(two.identifiers()) {
            assert_ne!(a, b, "{name}");
        }
        for kind in [key::KeyKind::Ed25519, key::KeyKind::EcdsaP256] {
            let of = |p: &Persona| p.ssh_host_key(kind).fingerprint();
            assert_ne!(of(&one), of(&two));
        }
    }
}

#[test]
fn a_row_of_an_earlier_version_keeps_its_identity_and_gets_what_it_lacks() {
    let whole = Persona::derive(b"s", "a", &Asked::default(), NOW);
    let mut row = serde_json::to_value(&whole).unwrap();
    let fields = row.as_object_mut().unwrap();
    for new in [
        "site",
        "family",
        "role",
        "vendor",
        "mac",
        "release",
        "patch_level",
        "installed_at",
    ] {
        fields.remove(new);
    }
    let old: Persona = serde_json::from_value(row).unwrap();
    assert!(old.mac.is_empty());
    let done = old.clone().complete();
    assert_eq!(done, old.clone().complete());
    assert_eq!(done, done.clone().complete());
    assert_eq!((&done.hostname, &done.seed), (&whole.hostname, &whole.seed));
    assert_eq!(done.release, whole.release);
    assert_eq!(done.patch_level, whole.patch_level);
    assert!(done.mac_bytes().is_some() && done.installed_at < done.booted_at);
    assert_eq!(whole.clone().complete(), whole);
}

#[test]
fn an_update_changes_nothing_that_hosts_draw_later() {
    // Fixed when the first hosts were made: what is drawn from a seed is on disks of
    // attackers by now.
    let mut p = Persona::derive(b"s", "a", &Asked::default(), NOW);
    p.seed = "00".repeat(32);
    assert_eq!(p.hex_id("redis/run_id", 16), "483158bbbb5a9b49");
    assert_eq!(p.machine_guid(), "401e2aed-b040-4f93-99c5-7f95f470d683");
}

#[test]
fn a_persona_in_a_log_shows_no_secret() {
    let p = Persona::derive(b"s", "a", &Asked::default(), NOW);
    let text = format!("{p:?}");
    assert!(text.contains(&p.hostname), "{text}");
    assert!(!text.contains(&p.seed) && !text.contains(&p.site), "{text}");
}

#[test]
fn a_large_fleet_of_one_system_finds_names() {
    for (distro, family) in [
        (Some("kali"), None),
        (None, Some(Family::Windows)),
        (None, Some(Family::Embedded)),
        (None, Some(Family::Cisco)),
    ] {
        let wish = Asked {
            archetype: None,
            distro,
            family,
        };
        let mut fleet: Vec<Persona> = Vec::new();
        for n in 0..450 {
            let taken: Vec<&Persona> = fleet.iter().collect();
            let one = Persona::derive_unique(b"s", &format!("d{n}"), &wish, NOW, &taken);
            fleet.push(one);
        }
        let names: BTreeSet<_> = fleet.iter().map(|p| p.hostname.to_lowercase()).collect();
        assert_eq!(names.len(), 450, "{wish:?}");
    }
}

#[test]
fn link_local_addresses_are_the_systems_own() {
    let mut p = Persona::derive(b"s", "a", &Asked::default(), NOW);
    p.mac = "00:50:56:9a:bc:de".to_owned();
    assert_eq!(p.ipv6_link_local().to_string(), "fe80::250:56ff:fe9a:bcde");
    let windows = asked(None, Some(Family::Windows));
    let p = Persona::derive(b"s", "a", &windows, NOW);
    let address = p.ipv6_link_local();
    assert!(address.is_unicast_link_local());
    assert_ne!(address.octets().get(11..13), Some(&[0xff, 0xfe][..]));
    assert_eq!(address, p.ipv6_link_local());
}

#[test]
fn no_clock_stops_a_draw() {
    for now in [i64::MIN, -1, 0, 1_000_000_000_000_000, i64::MAX] {
        for wish in wishes() {
            let p = Persona::derive(b"s", "a", &wish, Stamp(now));
            assert!(p.installed_at <= p.booted_at && p.booted_at <= Stamp(now));
        }
    }
}
