//! `[general]` and the decky sections, key by key.

use std::net::IpAddr;

use super::{Reading, offers, port_clash, runs_customs};
use crate::config::ini::Section;
use crate::fleet::ask::{
    Ask, MUTATE_MAX_MIN, archetype_note, check_interface, is_loopback, odd_services, parse_net,
};
use crate::fleet::check_name;
use crate::fleet::pool::Pool;
use crate::model::{Runtime, Service};
use crate::persona::archetype;

/// Reads `[general]` into the ground, as far as no flag said so already.
pub(super) fn general(section: &Section, reading: &mut Reading) {
    let mut net_line = section.line;
    for entry in &section.entries {
        let (line, value) = (entry.line, entry.value.as_str());
        let ground = &mut reading.ground;
        let outcome = match entry.key.as_str() {
            "net" => {
                net_line = line;
                parse_net(value).map(|net| ground.subnet = ground.subnet.or(Some(net)))
            }
            "gw" => parse_ip(value).map(|gw| ground.gateway = ground.gateway.or(Some(gw))),
            "interface" => check_interface(value).map(|()| {
                ground.interface.get_or_insert_with(|| value.to_owned());
            }),
            "runtime" => value
                .parse()
                .map(|runtime| ground.runtime = ground.runtime.or(Some(runtime))),
            "driver" => value
                .parse()
                .map(|driver| ground.driver = ground.driver.or(Some(driver))),
            other => Err(format!(
                "unknown key '{other}' in [general] (known: net, gw, interface, runtime, driver)"
            )),
        };
        if let Err(what) = outcome {
            reading.complain(line, prefixed(&entry.key, &what));
        }
    }
    if let Err(what) = reading.ground.check() {
        reading.complain(net_line, what);
    }
}

/// Reads one decky section, which may stand for a whole group.
pub(super) fn decky(section: &Section, reading: &mut Reading) {
    let mut ask = Ask::default();
    let mut customs_line = section.line;
    let mut ip_line = section.line;
    let mut amount = None;
    for entry in &section.entries {
        let (line, value) = (entry.line, entry.value.as_str());
        let outcome = match entry.key.as_str() {
            "ip" => {
                ip_line = line;
                parse_ip(value).map(|ip| ask.ip = Some(ip))
            }
            "services" => {
                customs_line = line;
                let (services, customs, errors) = offers(value, &reading.customs);
                for error in errors {
                    reading.complain(line, error);
                }
                if let Some(what) = port_clash(&services, &customs) {
                    reading.complain(line, what);
                }
                ask.services = Some(services);
                ask.customs = customs;
                Ok(())
            }
            "archetype" => known(value.to_owned(), &mut ask, |ask| &mut ask.archetype),
            "distro" => known(value.to_owned(), &mut ask, |ask| &mut ask.distro),
            "nmap_os" => value
                .parse()
                .and_then(|family| known(family, &mut ask, |ask| &mut ask.family)),
            "mutate_interval" => {
                parse_minutes(value).map(|minutes| ask.mutate_interval = Some(minutes))
            }
            "runtime" => value.parse().map(|runtime| ask.runtime = Some(runtime)),
            "amount" => match value.parse() {
                Ok(n) if (1..=100).contains(&n) => {
                    amount = Some((n, line));
                    Ok(())
                }
                _ => Err(format!("'{value}' must be 1 to 100")),
            },
            other => Err(format!(
                "unknown key '{other}' in [{}] (known: ip, services, archetype, distro, nmap_os, mutate_interval, runtime, amount)",
                section.name
            )),
        };
        if let Err(what) = outcome {
            reading.complain(line, prefixed(&entry.key, &what));
        }
    }
    let runtime = ask.runtime.unwrap_or_else(|| reading.ground.runtime());
    if !ask.customs.is_empty() && !runs_customs(runtime) {
        let what = format!(
            "services of your own need 'runtime = docker'; [{}] has the runtime {runtime}",
            section.name
        );
        reading.complain(customs_line, what);
    }
    reading.notes.extend(odd_services(&ask));
    if let (None, Some(slug)) = (&ask.services, &ask.archetype) {
        reading.notes.extend(archetype_note(slug));
    }
    if let Some(ip) = ask.ip {
        match amount {
            Some((2.., line)) => reading.complain(line, "'ip' and 'amount' exclude each other"),
            _ => address(section, ip, ip_line, runtime, reading),
        }
    }
    expand(section, &ask, amount.map_or(1, |(n, _)| n), reading);
}

/// Checks an address against everything known so far.
fn address(section: &Section, ip: IpAddr, line: usize, runtime: Runtime, reading: &mut Reading) {
    match (runtime, ip.is_loopback()) {
        (Runtime::Local, false) => {
            let what = format!(
                "ip = '{ip}': a local decky needs an address in 127.0.0.0/8; for a LAN set 'interface' in [general] or the runtime"
            );
            return reading.complain(line, what);
        }
        (Runtime::Native | Runtime::Docker, true) => {
            let what = format!("ip = '{ip}': a {runtime} decky needs an address of the LAN");
            return reading.complain(line, what);
        }
        _ => {}
    }
    let same_kind = |net| is_loopback(net) == (runtime == Runtime::Local);
    if let Some(subnet) = reading.ground.subnet.filter(|net| same_kind(*net)) {
        let mut pool = Pool::new(subnet);
        if let Some(gateway) = reading.ground.gateway {
            pool.reserved.insert(gateway, "is the gateway".to_owned());
        }
        if let Err(what) = pool.check(ip) {
            reading.complain(line, what);
        }
    }
    if let Some((other, first)) = reading.addresses.get(&ip) {
        let what = format!("{ip} is already the address of [{other}] (line {first})");
        return reading.complain(line, what);
    }
    reading.addresses.insert(ip, (section.name.clone(), line));
}

/// Adds the section's decky, or its group `name-01`, `name-02`, …
fn expand(section: &Section, ask: &Ask, amount: usize, reading: &mut Reading) {
    let names: Vec<String> = if amount == 1 {
        vec![section.name.clone()]
    } else {
        (1..=amount)
            .map(|n| format!("{}-{n:02}", section.name))
            .collect()
    };
    let mut members = Vec::new();
    for name in names {
        if let Err(what) = check_name(&name) {
            // Once for a whole group.
            reading.complain(section.line, what);
            break;
        }
        if let Some(first) = reading.lines.get(&name) {
            let what = format!("decky {name} is already made by the section at line {first}");
            reading.complain(section.line, what);
            continue;
        }
        reading.lines.insert(name.clone(), section.line);
        members.push(reading.asks.len());
        reading.asks.push(Ask {
            name,
            ..ask.clone()
        });
    }
    reading.groups.insert(section.name.clone(), members);
}

/// What the archetype of `ask` offers; nothing without one.
pub(super) fn archetype_offers(ask: &Ask) -> Vec<Service> {
    ask.archetype
        .as_deref()
        .and_then(archetype::find)
        .map(archetype::Archetype::offers)
        .unwrap_or_default()
}

/// Sets a field of which a host is drawn, unless there is no such host: first by itself,
/// then together with what was asked before.
fn known<T: Clone>(
    value: T,
    ask: &mut Ask,
    field: impl Fn(&mut Ask) -> &mut Option<T>,
) -> Result<(), String> {
    let mut alone = Ask::default();
    *field(&mut alone) = Some(value.clone());
    alone.asked().check()?;
    let mut together = ask.clone();
    *field(&mut together) = Some(value);
    together.asked().check()?;
    *ask = together;
    Ok(())
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(ip @ IpAddr::V4(_)) => Ok(ip),
        Ok(IpAddr::V6(_)) => Err(format!(
            "'{text}' must be an IPv4 address; a decky's IPv6 address is link-local and its own"
        )),
        Err(_) => Err(format!("'{text}' is not an address")),
    }
}

fn parse_minutes(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(minutes) if minutes <= MUTATE_MAX_MIN => Ok(minutes),
        _ => Err(format!(
            "'{text}' must be minutes from 0 (never) to {MUTATE_MAX_MIN}"
        )),
    }
}

/// `key = 'value' …` for complaints that begin with the value.
fn prefixed(key: &str, what: &str) -> String {
    if what.starts_with('\'') {
        format!("{key} = {what}")
    } else {
        what.to_owned()
    }
}
