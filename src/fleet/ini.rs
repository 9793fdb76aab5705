//! The deployment INI of the original: `[general]`, one section per decky,
//! `[<decky>.<service>]`, `[custom-<service>]`. What this version has is read; what it
//! does not have yet is refused by name and line, never ignored.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::ini::{self, Entry, Problem, Section};
use crate::fleet::{MAX_DECKIES, Wanted, check_name};
use crate::model::{Service, Wish};

/// What a deployment file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// `[general] net`.
    pub subnet: Option<IpNet>,
    /// The deckies, groups expanded.
    pub deckies: Vec<Wanted>,
}

/// Reads a deployment file.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn parse(text: &str) -> Result<Deployment, Vec<Problem>> {
    let sections = ini::parse(text)?;
    let mut problems = Vec::new();
    let mut deployment = Deployment::default();
    for section in &sections {
        if section.name == "general" {
            general(section, &mut deployment, &mut problems);
        } else if section.name.starts_with("custom-") {
            complain(
                &mut problems,
                section.line,
                "custom services are not available in this version",
            );
        } else if let Some((decky, service)) = section.name.rsplit_once('.') {
            let what = match service.parse::<Service>() {
                Ok(_) => format!(
                    "settings for single services are not available in this version; remove [{decky}.{service}]"
                ),
                Err(error) => error.to_string(),
            };
            complain(&mut problems, section.line, &what);
        } else {
            decky(section, &mut deployment, &mut problems);
        }
    }
    if deployment.deckies.is_empty() && problems.is_empty() {
        complain(
            &mut problems,
            1,
            "the file names no decky; add a section such as [web-01] with 'services = http'",
        );
    }
    if deployment.deckies.len() > MAX_DECKIES {
        complain(
            &mut problems,
            1,
            &format!("more than {MAX_DECKIES} deckies"),
        );
    }
    if problems.is_empty() {
        Ok(deployment)
    } else {
        problems.sort_by_key(|p| p.line);
        Err(problems)
    }
}

fn complain(problems: &mut Vec<Problem>, line: usize, what: &str) {
    problems.push(Problem {
        line,
        what: what.to_owned(),
    });
}

fn general(section: &Section, deployment: &mut Deployment, problems: &mut Vec<Problem>) {
    for entry in &section.entries {
        match entry.key.as_str() {
            "net" => match entry.value.parse() {
                Ok(net) => deployment.subnet = Some(net),
                Err(_) => complain(
                    problems,
                    entry.line,
                    &format!(
                        "net = '{}' is not a network such as 127.77.0.0/24",
                        entry.value
                    ),
                ),
            },
            "gw" | "interface" => complain(
                problems,
                entry.line,
                &format!(
                    "'{}' needs a network runtime, which this version does not have; the local runtime uses loopback addresses",
                    entry.key
                ),
            ),
            other => complain(problems, entry.line, &unknown(other, "general", "net")),
        }
    }
}

fn decky(section: &Section, deployment: &mut Deployment, problems: &mut Vec<Problem>) {
    if let Err(what) = check_name(&section.name) {
        complain(problems, section.line, &what);
    }
    let mut ip: Option<(IpAddr, usize)> = None;
    let mut services = None;
    let mut amount = 1;
    for entry in &section.entries {
        match entry.key.as_str() {
            "ip" => match entry.value.parse() {
                Ok(parsed) => ip = Some((parsed, entry.line)),
                Err(_) => complain(
                    problems,
                    entry.line,
                    &format!("ip = '{}' is not an address", entry.value),
                ),
            },
            "services" => services = Some(services_of(entry, problems)),
            "amount" => match entry.value.parse() {
                Ok(n) if (1..=100).contains(&n) => amount = n,
                _ => complain(
                    problems,
                    entry.line,
                    &format!("amount = '{}' must be 1 to 100", entry.value),
                ),
            },
            "archetype" | "nmap_os" | "mutate_interval" => complain(
                problems,
                entry.line,
                &format!("'{}' is not available in this version", entry.key),
            ),
            other => complain(
                problems,
                entry.line,
                &unknown(other, &section.name, "ip, services, amount"),
            ),
        }
    }
    let Some(services) = services else {
        complain(
            problems,
            section.line,
            &format!("[{}] needs 'services = …'", section.name),
        );
        return;
    };
    match ip {
        Some((_, line)) if amount > 1 => {
            complain(problems, line, "'ip' and 'amount' exclude each other");
        }
        _ => {}
    }
    if amount == 1 {
        deployment.deckies.push(Wanted {
            name: section.name.clone(),
            ip: ip.map(|(ip, _)| ip),
            wish: offers(services),
        });
        return;
    }
    for n in 1..=amount {
        deployment.deckies.push(Wanted {
            name: format!("{}-{n:02}", section.name),
            ip: None,
            wish: offers(services.clone()),
        });
    }
}

fn offers(services: Vec<Service>) -> Wish {
    Wish {
        services,
        ..Wish::default()
    }
}

fn services_of(entry: &Entry, problems: &mut Vec<Problem>) -> Vec<Service> {
    match parse_services(&entry.value) {
        Ok(services) => services,
        Err(errors) => {
            for error in errors {
                complain(problems, entry.line, &error);
            }
            Vec::new()
        }
    }
}

/// Reads `redis, http`: no repeats, order kept.
///
/// # Errors
/// One line per slug that names no service, or that the list is empty.
pub fn parse_services(text: &str) -> Result<Vec<Service>, Vec<String>> {
    let mut services = Vec::new();
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for slug in text.split([',', ' ']).filter(|s| !s.is_empty()) {
        match slug.parse::<Service>() {
            Ok(service) if seen.insert(service) => services.push(service),
            Ok(_) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if services.is_empty() && errors.is_empty() {
        errors.push("no services named; `decnet services` lists them".to_owned());
    }
    if errors.is_empty() {
        Ok(services)
    } else {
        Err(errors)
    }
}

fn unknown(key: &str, section: &str, known: &str) -> String {
    format!("unknown key '{key}' in [{section}] (known: {known})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_become_deckies_and_groups_are_expanded() {
        let deployment = parse(
            "[general]\nnet = 127.77.5.0/24\n[web]\nip = 127.77.5.9\nservices = http, ftp\n[cache]\nservices=redis\namount = 2 ; two\n",
        )
        .unwrap();
        let names: Vec<&str> = deployment.deckies.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["web", "cache-01", "cache-02"]);
        assert_eq!(
            deployment.deckies[0].wish.services,
            [Service::Http, Service::Ftp]
        );
        assert_eq!(deployment.subnet, Some("127.77.5.0/24".parse().unwrap()));
    }

    #[test]
    fn what_does_not_exist_yet_is_refused_by_line() {
        let problems = parse(
            "[general]\ninterface = eth0\n[a]\nservices = ssh\narchetype = printer\nnonsense = 1\n[a.http]\nx = 1\n[custom-x]\nbinary = /x\n[b]\nip = 127.0.0.1\nservices=ftp\namount = 3\n",
        )
        .unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, [2, 4, 5, 6, 7, 9, 12], "{problems:?}");
        assert!(
            problems[1]
                .what
                .contains("'ssh' is not available in this version")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_read_or_refused_without_panic(text in "[\\[\\]a-z.=0-9\\n -]{0,300}") {
            let _outcome = parse(&text);
        }
    }
}
