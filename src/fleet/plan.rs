//! The difference between what is wanted and what the rows say. Additive: a deploy
//! adds and changes, it never removes; `teardown` removes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::model::{Decky, Wish};

/// One decky as the operator asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its address; `None` keeps the present one or takes the next free.
    pub ip: Option<IpAddr>,
    /// Everything else.
    pub wish: Wish,
}

/// What is to be done about one decky.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Change {
    /// A new row.
    Add {
        /// Name.
        name: String,
        /// Address.
        ip: IpAddr,
        /// What is wanted.
        wish: Box<Wish>,
    },
    /// Other services than the row has (or a removal taken back).
    Change {
        /// Name.
        name: String,
        /// Address, unchanged.
        ip: IpAddr,
        /// Version of the row this is based on.
        version: i64,
        /// What was wanted so far.
        before: Box<Wish>,
        /// What is wanted from now on.
        wish: Box<Wish>,
    },
    /// Already as wanted.
    Keep {
        /// Name.
        name: String,
        /// Address.
        ip: IpAddr,
    },
}

impl Change {
    /// The decky it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Change::Add { name, .. } | Change::Change { name, .. } | Change::Keep { name, .. } => {
                name
            }
        }
    }
}

/// A list of changes, in the order the operator named the deckies.
pub type Plan = Vec<Change>;

/// Works out what a deploy changes.
///
/// # Errors
/// Every reason it cannot be done, one line each.
pub fn plan(present: &[Decky], wanted: &[Wanted], subnet: IpNet) -> Result<Plan, Vec<String>> {
    let mut problems = Vec::new();
    let mut taken: BTreeSet<IpAddr> = present.iter().map(|d| d.ip).collect();
    let mut seen = BTreeSet::new();
    for want in wanted {
        if !seen.insert(&want.name) {
            problems.push(format!("decky {} is named twice", want.name));
        }
        if want.wish.services.is_empty() {
            problems.push(format!("decky {} has no services", want.name));
        }
        let Some(ip) = want.ip else { continue };
        if !subnet.contains(&ip) {
            problems.push(format!("decky {}: {ip} is not in {subnet}", want.name));
        }
        let holder = present.iter().find(|d| d.ip == ip && d.name != want.name);
        if let Some(holder) = holder {
            problems.push(format!(
                "decky {}: {ip} already belongs to {}",
                want.name, holder.name
            ));
        } else if let Some(twin) = wanted
            .iter()
            .find(|o| o.ip == Some(ip) && o.name < want.name)
        {
            problems.push(format!(
                "deckies {} and {} both ask for {ip}",
                twin.name, want.name
            ));
        }
        taken.insert(ip);
    }
    let mut free = subnet.hosts();
    let mut plan = Vec::new();
    for want in wanted {
        if let Some(row) = present.iter().find(|d| d.name == want.name) {
            if want.ip.is_some_and(|ip| ip != row.ip) {
                problems.push(format!(
                    "decky {} lives at {}; tear it down before giving it another address",
                    row.name, row.ip
                ));
            }
            plan.push(if row.wish == want.wish && !row.removed {
                Change::Keep {
                    name: row.name.clone(),
                    ip: row.ip,
                }
            } else {
                Change::Change {
                    name: row.name.clone(),
                    ip: row.ip,
                    version: row.version,
                    before: Box::new(row.wish.clone()),
                    wish: Box::new(want.wish.clone()),
                }
            });
            continue;
        }
        let ip = want.ip.or_else(|| free.find(|ip| !taken.contains(ip)));
        match ip {
            Some(ip) => {
                taken.insert(ip);
                plan.push(Change::Add {
                    name: want.name.clone(),
                    ip,
                    wish: Box::new(want.wish.clone()),
                });
            }
            None => {
                problems.push(format!("{subnet} has no free address for {}", want.name));
                break;
            }
        }
    }
    if problems.is_empty() {
        Ok(plan)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeckyState, Service, Stamp};

    fn offers(services: &[Service]) -> Wish {
        Wish {
            services: services.to_vec(),
            ..Wish::default()
        }
    }

    fn row(name: &str, ip: &str, services: &[Service]) -> Decky {
        Decky {
            name: name.into(),
            host: "local".into(),
            ip: ip.parse().unwrap(),
            wish: offers(services),
            slot: 1,
            version: 3,
            removed: false,
            state: DeckyState::Running,
            last_error: None,
            listeners: vec![],
            mutated_at: Stamp(0),
            updated_at: Stamp(0),
        }
    }

    fn want(name: &str, ip: Option<&str>, services: &[Service]) -> Wanted {
        Wanted {
            name: name.into(),
            ip: ip.map(|ip| ip.parse().unwrap()),
            wish: offers(services),
        }
    }

    fn net() -> IpNet {
        "127.77.0.0/29".parse().unwrap()
    }

    #[test]
    fn the_same_wish_twice_keeps_and_a_larger_one_adds() {
        let present = [row("decky-01", "127.77.0.1", &[Service::Redis])];
        let wanted = [
            want("decky-01", None, &[Service::Redis]),
            want("decky-02", None, &[Service::Redis]),
        ];
        let plan = plan(&present, &wanted, net()).unwrap();
        assert!(matches!(&plan[0], Change::Keep { .. }));
        assert!(
            matches!(&plan[1], Change::Add { ip, .. } if *ip == "127.77.0.2".parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn other_services_are_a_change_based_on_the_version_seen() {
        let present = [row("a", "127.77.0.1", &[Service::Redis])];
        let plan = plan(&present, &[want("a", None, &[Service::Ftp])], net()).unwrap();
        assert!(matches!(&plan[0], Change::Change { version: 3, .. }));
    }

    #[test]
    fn every_conflict_is_named() {
        let present = [row("a", "127.77.0.1", &[Service::Redis])];
        let wanted = [
            want("b", Some("127.77.0.1"), &[Service::Redis]),
            want("c", Some("127.77.0.3"), &[Service::Redis]),
            want("d", Some("127.77.0.3"), &[Service::Redis]),
            want("e", Some("10.0.0.1"), &[]),
        ];
        let problems = plan(&present, &wanted, net()).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn a_full_subnet_is_said() {
        let wanted: Vec<Wanted> = (0..10)
            .map(|n| want(&format!("d{n}"), None, &[Service::Redis]))
            .collect();
        let problems = plan(&[], &wanted, net()).unwrap_err();
        assert!(problems[0].contains("no free address"));
    }
}
