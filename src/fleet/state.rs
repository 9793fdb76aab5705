//! The fleet as `decnet-state.json`, for tools that read the original's file. An export:
//! nothing of ours ever reads it back.

use serde_json::{Value, json};

use crate::model::{Decky, Driver, Link};
use crate::persona::Persona;

/// What the file says besides the deckies.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Where the event log lies.
    pub log_file: &'a str,
    /// The loopback network, named when no decky lives on a LAN.
    pub local_subnet: ipnet::IpNet,
    /// Minutes between two mutations where a decky names none; 0 never.
    pub mutate_interval: u32,
}

/// Distribution slugs with the names of their images, as the original's file has them.
const IMAGES: &[(&str, &str)] = &[
    ("debian", "debian:bookworm-slim"),
    ("ubuntu22", "ubuntu:22.04"),
    ("ubuntu20", "ubuntu:20.04"),
    ("rocky9", "rockylinux:9-minimal"),
    ("centos7", "centos:7"),
    ("alpine", "alpine:3.19"),
    ("fedora", "fedora:39"),
    ("kali", "kalilinux/kali-rolling"),
    ("arch", "archlinux:latest"),
];

/// The file's content; deckies that are being removed are left out.
#[must_use]
pub fn export<'a>(
    rows: impl IntoIterator<Item = (&'a Decky, &'a Persona)>,
    setting: &Setting<'_>,
) -> Value {
    let rows: Vec<_> = rows.into_iter().filter(|(d, _)| !d.removed).collect();
    let link: Option<&Link> = rows.iter().find_map(|(d, _)| d.wish.link.as_ref());
    let deckies: Vec<Value> = rows.iter().map(|(d, p)| decky(d, p)).collect();
    let minutes = Some(setting.mutate_interval).filter(|n| *n > 0);
    json!({
        "config": {
            "mode": "unihost",
            "interface": link.map_or("lo", |l| l.parent.as_str()),
            "subnet": link.map_or(setting.local_subnet, |l| l.subnet),
            "gateway": link.and_then(|l| l.gateway).map_or_else(String::new, |ip| ip.to_string()),
            "log_file": setting.log_file,
            "ipvlan": link.is_some_and(|l| l.driver == Driver::Ipvlan),
            "mutate_interval": minutes,
            "deckies": deckies,
        },
        "compose_path": null,
    })
}

fn decky(decky: &Decky, persona: &Persona) -> Value {
    let wish = &decky.wish;
    let services: Vec<&str> = wish
        .services
        .iter()
        .map(|s| s.slug())
        .chain(wish.customs.iter().map(|c| c.name.as_str()))
        .collect();
    let distro = wish.distro.clone().unwrap_or_else(|| slug_of(persona));
    let (_, image) = IMAGES
        .iter()
        .find(|(slug, _)| *slug == distro)
        .unwrap_or(&("debian", "debian:bookworm-slim"));
    // Of the original's distributions only these were built on their own image.
    let own = ["debian", "ubuntu", "kali"]
        .iter()
        .any(|d| distro.starts_with(d));
    json!({
        "name": decky.name,
        "ip": decky.ip,
        "services": services,
        "distro": distro,
        "base_image": image,
        "build_base": if own { image } else { "debian:bookworm-slim" },
        "hostname": persona.hostname,
        "archetype": wish.archetype,
        "service_config": wish.settings,
        "nmap_os": wish.family.unwrap_or(persona.family).slug(),
        "mutate_interval": wish.mutate_interval,
        "last_mutated": seconds(decky.mutated_at.0),
        "last_login_attempt": 0.0,
        "host_uuid": (decky.host != "local").then_some(&decky.host),
    })
}

/// A stamp as the fractional seconds that the original's language counts in.
fn seconds(micros: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact to the microsecond for two centuries"
    )]
    let micros = micros as f64;
    micros / 1e6
}

/// The slug of the system a host was drawn with, as near as the original's list comes:
/// it knows no Windows and no firmware, and calls those debian too.
fn slug_of(persona: &Persona) -> String {
    let name = persona.distro.to_ascii_lowercase();
    let first = name.split_whitespace().next().unwrap_or_default();
    if first == "ubuntu" && persona.os_pretty.contains("20.04") {
        return "ubuntu20".to_owned();
    }
    IMAGES
        .iter()
        .map(|(slug, _)| *slug)
        .find(|slug| slug.trim_end_matches(|c: char| c.is_ascii_digit()) == first)
        .unwrap_or("debian")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeckyState, Runtime, Service, Stamp, Wish};
    use crate::persona::Asked;

    fn row(name: &str, wish: Wish) -> (Decky, Persona) {
        let decky = Decky {
            name: name.into(),
            host: "local".into(),
            ip: "10.0.0.5".parse().unwrap(),
            wish,
            slot: 1,
            version: 3,
            removed: false,
            state: DeckyState::Running,
            last_error: None,
            listeners: vec![],
            mutated_at: Stamp(1_700_000_000_500_000),
            updated_at: Stamp(0),
        };
        let persona = Persona::derive(b"s", name, &Asked::default(), Stamp(0));
        (decky, persona)
    }

    fn setting() -> Setting<'static> {
        Setting {
            log_file: "/var/log/decnet/decnet.log",
            local_subnet: "127.77.0.0/16".parse().unwrap(),
            mutate_interval: 30,
        }
    }

    #[test]
    fn the_file_has_every_key_of_the_original_and_no_other() {
        let wish = Wish {
            runtime: Runtime::Native,
            link: Some(Link {
                driver: Driver::Ipvlan,
                parent: "eth0".into(),
                subnet: "10.0.0.0/24".parse().unwrap(),
                gateway: Some("10.0.0.1".parse().unwrap()),
            }),
            services: vec![Service::Http],
            settings: [(
                Service::Http,
                [("server_header".to_owned(), json!("x"))].into(),
            )]
            .into(),
            distro: Some("rocky9".into()),
            ..Wish::default()
        };
        let (mut gone, who) = row("gone", Wish::default());
        gone.removed = true;
        let (decky, persona) = row("web-01", wish);
        let value = export([(&decky, &persona), (&gone, &who)], &setting());
        let expected = json!({
            "config": {
                "mode": "unihost", "interface": "eth0", "subnet": "10.0.0.0/24",
                "gateway": "10.0.0.1", "log_file": "/var/log/decnet/decnet.log",
                "ipvlan": true, "mutate_interval": 30,
                "deckies": [{
                    "name": "web-01", "ip": "10.0.0.5", "services": ["http"],
                    "distro": "rocky9", "base_image": "rockylinux:9-minimal",
                    "build_base": "debian:bookworm-slim", "hostname": persona.hostname,
                    "archetype": null, "service_config": {"http": {"server_header": "x"}},
                    "nmap_os": "linux", "mutate_interval": null,
                    "last_mutated": 1_700_000_000.5, "last_login_attempt": 0.0,
                    "host_uuid": null,
                }],
            },
            "compose_path": null,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn nothing_secret_is_exported() {
        let (decky, persona) = row("a", Wish::default());
        let text = export([(&decky, &persona)], &setting()).to_string();
        assert!(!text.contains(&persona.seed));
    }

    #[test]
    fn a_drawn_system_is_named_by_a_slug_of_the_original() {
        for n in 0..30 {
            let (decky, persona) = row(&format!("d{n}"), Wish::default());
            let value = export([(&decky, &persona)], &setting());
            let slug = value["config"]["deckies"][0]["distro"].as_str().unwrap();
            assert!(IMAGES.iter().any(|(known, _)| *known == slug), "{slug}");
        }
        let (_, mut persona) = row("x", Wish::default());
        for (name, pretty, slug) in [
            ("Alpine Linux", "Alpine Linux v3.19", "alpine"),
            ("Rocky Linux", "Rocky Linux 9.4 (Blue Onyx)", "rocky9"),
            ("Ubuntu", "Ubuntu 20.04.6 LTS", "ubuntu20"),
            ("Ubuntu", "Ubuntu 22.04.5 LTS", "ubuntu22"),
            ("Windows", "Windows Server 2019 Standard", "debian"),
        ] {
            name.clone_into(&mut persona.distro);
            pretty.clone_into(&mut persona.os_pretty);
            assert_eq!(slug_of(&persona), slug);
        }
    }
}
