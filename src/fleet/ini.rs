//! The deployment file: `[general]`, one section per decky or group of deckies,
//! `[<decky>.<service>]` for settings, `[custom-<service>]` for services of the operator's
//! own. Everything that is wrong is said at once, each with its line; nothing is ignored.

mod section;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::config::ini::{self, Problem, Section};
use crate::fleet::ask::{Ask, Ground};
use crate::fleet::{MAX_DECKIES, custom};
use crate::model::{Custom, Runtime, Service, Settings, setting};

/// What a deployment file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// The flags, completed by `[general]`.
    pub ground: Ground,
    /// The deckies, groups expanded, in file order.
    pub asks: Vec<Ask>,
    /// What the operator should know although nothing is wrong.
    pub notes: Vec<String>,
}

/// What the parts of one file need of each other.
#[derive(Debug, Default)]
struct Reading {
    problems: Vec<Problem>,
    notes: BTreeSet<String>,
    ground: Ground,
    customs: BTreeMap<String, Custom>,
    asks: Vec<Ask>,
    /// Line of the section that made each decky.
    lines: HashMap<String, usize>,
    /// Deckies of each section, by index.
    groups: HashMap<String, Vec<usize>>,
    /// Who asks for which address, and where.
    addresses: HashMap<IpAddr, (String, usize)>,
}

impl Reading {
    fn complain(&mut self, line: usize, what: impl Into<String>) {
        self.problems.push(Problem {
            line,
            what: what.into(),
        });
    }
}

/// Reads a deployment file. What `given` (the flags) says goes before `[general]`.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn parse(text: &str, given: &Ground) -> Result<Deployment, Vec<Problem>> {
    let (sections, problems) = ini::read(text);
    let unreadable = !problems.is_empty();
    let mut reading = Reading {
        problems,
        ground: given.clone(),
        ..Reading::default()
    };
    if let Some(general) = sections.iter().find(|s| s.name == "general") {
        section::general(general, &mut reading);
    }
    for section in &sections {
        if let Some(name) = section.name.strip_prefix("custom-") {
            let custom = custom::parse(name, section, &mut reading.problems);
            reading.customs.insert(name.to_owned(), custom);
        }
    }
    let mut settings = Vec::new();
    for section in &sections {
        if section.name == "general" || section.name.starts_with("custom-") {
            continue;
        }
        match section.name.rsplit_once('.') {
            Some((decky, service)) => settings.push((section, decky, service)),
            None => section::decky(section, &mut reading),
        }
    }
    // A group's settings first: its members' own go before them.
    settings.sort_by_key(|(_, decky, _)| !reading.groups.contains_key(*decky));
    for (section, decky, service) in settings {
        configure(section, decky, service, &mut reading);
    }
    if reading.asks.is_empty() && !unreadable {
        reading.complain(
            1,
            "the file names no decky; add a section such as [web-01] with 'services = http'",
        );
    }
    if reading.asks.len() > MAX_DECKIES {
        reading.complain(1, format!("more than {MAX_DECKIES} deckies"));
    }
    if reading.problems.is_empty() {
        Ok(Deployment {
            ground: reading.ground,
            asks: reading.asks,
            notes: reading.notes.into_iter().collect(),
        })
    } else {
        reading.problems.sort_by_key(|p| p.line);
        Err(reading.problems)
    }
}

/// Reads `[decky.service]`.
fn configure(section: &Section, decky: &str, slug: &str, reading: &mut Reading) {
    let members = match reading.groups.get(decky) {
        Some(members) => members.clone(),
        None => reading
            .asks
            .iter()
            .position(|a| a.name == decky)
            .into_iter()
            .collect(),
    };
    if members.is_empty() {
        let what = format!(
            "[{}]: there is no decky section [{decky}] in this file",
            section.name
        );
        return reading.complain(section.line, what);
    }
    if reading.customs.contains_key(slug) {
        let what = format!("a service of your own is configured in [custom-{slug}]");
        return reading.complain(section.line, what);
    }
    let service = match slug.parse::<Service>() {
        Ok(service) => service,
        Err(error) => return reading.complain(section.line, error.to_string()),
    };
    let mut values = BTreeMap::new();
    for entry in &section.entries {
        match setting::parse(service, &entry.key, &entry.value) {
            Ok(value) => {
                values.insert(entry.key.clone(), value);
            }
            Err(what) => reading.complain(entry.line, what),
        }
    }
    for index in members {
        let Some(ask) = reading.asks.get_mut(index) else {
            continue;
        };
        let offered = match &ask.services {
            Some(services) => services.contains(&service),
            None => section::archetype_offers(ask).contains(&service),
        };
        if !offered {
            let what = if ask.services.is_none() && ask.archetype.is_none() {
                format!("[{decky}] names no services, so {service} is not certain to be among them")
            } else {
                format!("[{decky}] does not offer {service}")
            };
            return reading.complain(section.line, what);
        }
        if !values.is_empty() {
            let settings: &mut Settings = &mut ask.settings;
            settings
                .entry(service)
                .or_default()
                .extend(values.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
}

/// Reads `redis, http`: no repeats, order kept.
///
/// # Errors
/// One line per slug that names no service, or that the list is empty.
pub fn parse_services(text: &str) -> Result<Vec<Service>, Vec<String>> {
    let (services, _, errors) = offers(text, &BTreeMap::new());
    if errors.is_empty() {
        Ok(services)
    } else {
        Err(errors)
    }
}

/// Splits a list of services into ours, the operator's own, and what is neither.
fn offers(
    text: &str,
    customs: &BTreeMap<String, Custom>,
) -> (Vec<Service>, Vec<Custom>, Vec<String>) {
    let (mut services, mut own, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for slug in text.split([',', ' ']).filter(|s| !s.is_empty()) {
        if !seen.insert(slug) {
            continue;
        }
        match (slug.parse::<Service>(), customs.get(slug)) {
            (Ok(service), _) => services.push(service),
            (Err(_), Some(custom)) => own.push(custom.clone()),
            (Err(error), None) => errors.push(error.to_string()),
        }
    }
    if seen.is_empty() {
        errors.push("no services named; `decnet services` lists them".to_owned());
    }
    (services, own, errors)
}

/// Two sockets of one decky on the same port.
pub(crate) fn port_clash(services: &[Service], customs: &[Custom]) -> Option<String> {
    let mut ports: BTreeMap<u16, &str> = services.iter().map(|s| (s.port(), s.slug())).collect();
    for custom in customs {
        for port in &custom.ports {
            if let Some(other) = ports.insert(*port, &custom.name) {
                return Some(format!("{other} and {} both use port {port}", custom.name));
            }
        }
    }
    None
}

/// Whether a decky of this runtime may have services of the operator's own.
fn runs_customs(runtime: Runtime) -> bool {
    runtime == Runtime::Docker
}

#[cfg(test)]
mod tests;
