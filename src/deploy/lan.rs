//! What a deploy looks up on this host: the interface and network deckies join, and
//! whether somebody already lives at the addresses they would claim.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail};
use caps::{CapSet, Capability};
use ipnet::IpNet;

use super::Order;
use crate::config::Config;
use crate::fleet::ask::is_loopback;
use crate::fleet::ini::Deployment;
use crate::fleet::{Change, Mode, Plan, Pool, Pools, Wanted, plan};
use crate::model::{Decky, Driver, Link, Runtime};
use crate::netns::{probe, uplink};

/// Most addresses asked for ahead when those looked at first are in use.
const AHEAD_MAX: usize = 256;

/// What was found.
#[derive(Debug)]
pub struct Lan {
    /// How deckies of the LAN are attached; `None` when none is wanted there.
    pub(super) link: Option<Link>,
    /// Where addresses come from.
    pub(super) pools: Pools,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
}

/// Finds the network for the deckies of `order`.
///
/// # Errors
/// When deckies want a LAN and none is named or found.
pub(super) async fn look(order: &Order, config: &Config) -> anyhow::Result<Lan> {
    let deployment = &order.deployment;
    let ground = &deployment.ground;
    let mut lan = Lan {
        link: None,
        pools: Pools {
            local: Pool::new(config.local_subnet),
            lan: None,
        },
        notes: Vec::new(),
    };
    if let Some(subnet) = ground.subnet.filter(|net| is_loopback(*net)) {
        lan.pools.local = Pool::new(subnet);
        lan.pools.local.named = true;
    }
    let runtimes: BTreeSet<Runtime> = deployment
        .asks
        .iter()
        .map(|ask| ask.runtime.unwrap_or_else(|| ground.runtime()))
        .collect();
    if runtimes.iter().any(|runtime| *runtime != Runtime::Local) {
        attach(&runtimes, deployment, &mut lan).await?;
    }
    if let Some(start) = order.ip_start {
        let pool = lan.pools.lan.as_mut().unwrap_or(&mut lan.pools.local);
        if !pool.subnet.contains(&start) {
            bail!("--ip-start: {start} is not in {}", pool.subnet);
        }
        pool.start = Some(start);
    }
    Ok(lan)
}

async fn attach(
    runtimes: &BTreeSet<Runtime>,
    deployment: &Deployment,
    lan: &mut Lan,
) -> anyhow::Result<()> {
    let ground = &deployment.ground;
    let driver = ground.driver.unwrap_or_default();
    let named = ground.subnet.filter(|net| !is_loopback(*net));
    // Docker makes a bridge network by itself: no interface of this host is behind it.
    let own_bridge = driver == Driver::Bridge
        && ground.interface.is_none()
        && !runtimes.contains(&Runtime::Native);
    let (parent, subnet, gateway, own) = if own_bridge {
        let subnet = named.context(
            "the driver bridge without an interface needs --subnet (or 'net' in [general]): the network Docker is to make",
        )?;
        let first = ground.gateway.or_else(|| subnet.hosts().next());
        (String::new(), subnet, first, None)
    } else {
        match uplink::find(ground.interface.as_deref()).await {
            Ok(found) => {
                let subnet = named.unwrap_or(found.subnet);
                let gateway = ground
                    .gateway
                    .or(found.gateway.filter(|ip| subnet.contains(ip)));
                (found.interface, subnet, gateway, Some(found.address))
            }
            Err(error) => match (&ground.interface, named) {
                (Some(interface), Some(subnet)) if exists(interface) => {
                    lan.notes
                        .push(format!("{error:#}; going by what was given"));
                    (interface.clone(), subnet, ground.gateway, None)
                }
                _ => {
                    return Err(error.context(
                        "looking for the network; name --interface, --subnet and --gateway (or interface, net and gw in [general])",
                    ));
                }
            },
        }
    };
    check(subnet, gateway)?;
    let mut pool = Pool::new(subnet);
    pool.named = true;
    match gateway {
        Some(ip) => {
            pool.reserved.insert(ip, "is the gateway".to_owned());
        }
        None => lan.notes.push(format!(
            "no gateway is known for {subnet}: attackers from other networks get no answer (--gateway)"
        )),
    }
    if let Some(ip) = own {
        pool.reserved
            .insert(ip, "is this host's own address".to_owned());
    }
    lan.pools.lan = Some(pool);
    lan.link = Some(Link {
        driver,
        parent,
        subnet,
        gateway,
    });
    Ok(())
}

fn exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

fn check(subnet: IpNet, gateway: Option<IpAddr>) -> anyhow::Result<()> {
    if is_loopback(subnet) || matches!(subnet, IpNet::V6(_)) {
        bail!("{subnet} is not an IPv4 network of a LAN; name another --interface or --subnet");
    }
    match gateway {
        Some(ip) if !subnet.contains(&ip) => {
            bail!("the gateway {ip} is not in {subnet}, so no decky could reach it")
        }
        _ => Ok(()),
    }
}

/// Plans, looking before an address of the LAN is claimed: an address the operator asked
/// for that somebody has is a problem, one the deploy would have chosen is passed over.
///
/// # Errors
/// Every reason the plan cannot be done, one line each.
pub(super) async fn plan_probed(
    rows: &[Decky],
    wanted: &[Wanted],
    lan: &mut Lan,
    mode: Mode,
) -> Result<Plan, Vec<String>> {
    let ours: BTreeSet<IpAddr> = rows.iter().map(|row| row.ip).collect();
    // First those that were asked for, so that all that is wrong is said at once.
    let mut looked_at: BTreeSet<IpAddr> = wanted
        .iter()
        .filter(|want| want.wish.runtime != Runtime::Local)
        .filter_map(|want| want.ip)
        .filter(|ip| !ours.contains(ip))
        .collect();
    if let (Some(link), Some(pool)) = (&lan.link, &mut lan.pools.lan) {
        looked_at.retain(|ip| pool.check(*ip).is_ok());
        let asked: Vec<IpAddr> = looked_at.iter().copied().collect();
        for (ip, what) in occupied(link, &asked, &mut lan.notes).await {
            pool.reserved.insert(ip, what);
        }
    }
    let mut ahead = 0;
    loop {
        let changes = plan::plan(rows, wanted, &lan.pools, mode)?;
        let mut new: Vec<IpAddr> = changes
            .iter()
            .filter(|c| c.wish.runtime != Runtime::Local && claims(c))
            .map(|c| c.ip)
            // One of our own answers there, rightly.
            .filter(|ip| !ours.contains(ip) && !looked_at.contains(ip))
            .collect();
        let (Some(link), Some(pool)) = (&lan.link, &mut lan.pools.lan) else {
            return Ok(changes);
        };
        if new.is_empty() {
            return Ok(changes);
        }
        let known: BTreeSet<IpAddr> = ours.iter().chain(&looked_at).chain(&new).copied().collect();
        new.extend(pool.free(&known).take(ahead));
        looked_at.extend(new.iter().copied());
        for (ip, what) in occupied(link, &new, &mut lan.notes).await {
            pool.reserved.insert(ip, what);
        }
        // A crowded network is not asked address by address.
        ahead = (ahead * 2).clamp(16, AHEAD_MAX);
    }
}

fn claims(change: &Change) -> bool {
    change.claims_address() && change.action != crate::fleet::Action::Remove
}

/// Those of `addresses` that somebody has, with a word on who.
async fn occupied(
    link: &Link,
    addresses: &[IpAddr],
    notes: &mut Vec<String>,
) -> Vec<(IpAddr, String)> {
    let own = uplink::own_addresses().await.unwrap_or_else(|error| {
        notes.push(format!(
            "this host's own addresses are not known: {error:#}"
        ));
        Vec::new()
    });
    let mut found: Vec<(IpAddr, String)> = addresses
        .iter()
        .filter(|ip| own.contains(ip))
        .map(|ip| (*ip, "is this host's own address".to_owned()))
        .collect();
    if link.parent.is_empty() || addresses.is_empty() {
        return found;
    }
    let mut note = |text: String| {
        if !notes.contains(&text) {
            notes.push(text);
        }
    };
    let permitted = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW);
    if !permitted.unwrap_or(false) {
        note("without root nobody was asked whether the addresses are free; the reconciler will check".to_owned());
        return found;
    }
    match probe::in_use(&link.parent, addresses).await {
        Ok(in_use) => found.extend(in_use.into_iter().map(|(ip, mac)| {
            let what = format!(
                "is in use by {mac} on {}; give it another address or let deploy choose",
                link.parent
            );
            (ip, what)
        })),
        Err(error) => note(format!(
            "could not ask whether the addresses are free ({error:#}); the reconciler will check"
        )),
    }
    found
}
