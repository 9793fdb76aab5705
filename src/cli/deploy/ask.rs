//! What the flags and the deployment file of `decnet deploy` ask for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::Args;
use crate::config::ini;
use crate::fleet::ask::{archetype_note, check_interface, odd_services, parse_net};
use crate::fleet::ini::Deployment;
use crate::fleet::{self, Ask, Ground, MAX_DECKIES};
use crate::model::{Driver, Runtime, Service};

/// Reads the file when there is one, the flags otherwise.
///
/// # Errors
/// Everything that is wrong, one line each.
pub(super) fn read(args: &Args) -> anyhow::Result<Deployment> {
    let given = ground(args)?;
    let mut deployment = match &args.config {
        Some(path) => file(path, &given)?,
        None => flags(args, given)?,
    };
    for ask in &mut deployment.asks {
        ask.mutate_interval = ask.mutate_interval.or(args.mutate_interval);
    }
    Ok(deployment)
}

fn ground(args: &Args) -> anyhow::Result<Ground> {
    let ground = Ground {
        runtime: args.runtime,
        driver: if args.ipvlan {
            Some(Driver::Ipvlan)
        } else {
            args.driver
        },
        interface: args.interface.clone(),
        subnet: args.subnet,
        gateway: args.gateway.map(Into::into),
    };
    ground.check().map_err(|what| anyhow!("--subnet {what}"))?;
    Ok(ground)
}

fn file(path: &Path, given: &Ground) -> anyhow::Result<Deployment> {
    let shown = path.display();
    let mut bytes = Vec::new();
    // Whatever it is (a device, a log), no more of it is read than a file may have.
    let most = u64::try_from(ini::MAX_BYTES).unwrap_or(u64::MAX) + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .with_context(|| format!("reading {shown}"))?;
    if bytes.len() > ini::MAX_BYTES {
        bail!(
            "{shown}: the file is larger than {} KiB",
            ini::MAX_BYTES / 1024
        );
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        anyhow!("{shown}: line {line}: not UTF-8 text")
    })?;
    fleet::ini::parse(text, given).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|p| format!("{shown}: {p}")).collect();
        anyhow!("{}", lines.join("\n"))
    })
}

fn flags(args: &Args, ground: Ground) -> anyhow::Result<Deployment> {
    let lan = ground.interface.is_some() || ground.driver.is_some() || ground.gateway.is_some();
    if ground.runtime() == Runtime::Local && lan {
        bail!(
            "--runtime local: local deckies have no interface, driver or gateway; leave those out, or use the runtime native or docker"
        );
    }
    let services: Option<Vec<Service>> = match &args.services {
        Some(text) => Some(
            fleet::ini::parse_services(text)
                .map_err(|errors| anyhow!("--services: {}", errors.join("\n")))?,
        ),
        None => None,
    };
    let count = args.deckies.unwrap_or(1);
    if !(1..=MAX_DECKIES).contains(&count) {
        bail!("--deckies {count}: use 1 to {MAX_DECKIES}");
    }
    let mut notes = BTreeSet::new();
    let mut asks = Vec::new();
    for n in 0..count {
        let ask = Ask {
            name: fleet::default_name(n + 1),
            services: services.clone(),
            archetype: cycled(&args.archetype, n),
            distro: cycled(&args.distro, n),
            ..Ask::default()
        };
        ask.asked()
            .check()
            .map_err(|what| anyhow!("--archetype, --distro: {what}"))?;
        notes.extend(odd_services(&ask));
        if services.is_none() {
            notes.extend(ask.archetype.as_deref().and_then(archetype_note));
        }
        asks.push(ask);
    }
    Ok(Deployment {
        ground,
        asks,
        notes: notes.into_iter().collect(),
    })
}

/// The `n`th of a list that begins again at its end.
fn cycled(list: &[String], n: usize) -> Option<String> {
    list.get(n.checked_rem(list.len())?).cloned()
}

/// For flags.
pub(super) fn net(text: &str) -> Result<ipnet::IpNet, String> {
    parse_net(text)
}

/// For flags.
pub(super) fn interface(text: &str) -> Result<String, String> {
    check_interface(text).map(|()| text.to_owned())
}
