//! The difference between what is wanted and what the rows say, keyed by the wish: a
//! decky whose wish is the row's is left alone, whatever happens to the others. Additive
//! unless asked otherwise: a deploy adds and changes, `teardown` removes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::fleet::ask::asked;
use crate::fleet::difference::{Field, difference};
use crate::fleet::pool::Pool;
use crate::model::{Decky, Runtime, Wish};

/// One decky as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its address; `None` keeps the present one or takes the next free.
    pub ip: Option<IpAddr>,
    /// Everything else.
    pub wish: Wish,
}

/// What becomes of deckies nobody named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They stay.
    #[default]
    Additive,
    /// They go.
    Replace,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Loopback.
    pub local: Pool,
    /// The LAN; `None` while no decky lives there.
    pub lan: Option<Pool>,
}

impl Pools {
    fn of(&self, runtime: Runtime) -> Option<&Pool> {
        match runtime {
            Runtime::Local => Some(&self.local),
            Runtime::Native | Runtime::Docker => self.lan.as_ref(),
        }
    }
}

/// What is to be done about one decky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A new row.
    Add,
    /// The same host, wanted differently.
    Change,
    /// Another host under the same name: other address or other persona.
    Replace,
    /// Wanted no more.
    Remove,
    /// As wanted.
    Keep,
}

/// What is to be done about one decky, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What.
    pub action: Action,
    /// Its name.
    pub name: String,
    /// Its address afterwards.
    pub ip: IpAddr,
    /// Version of the row this is based on; 0 without a row.
    pub version: i64,
    /// What changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// A new persona is drawn: what it was drawn from has changed.
    pub new_persona: bool,
    /// Its wish afterwards.
    pub wish: Wish,
}

impl Change {
    /// Whether it claims an address nobody of ours had under this name.
    #[must_use]
    pub fn claims_address(&self) -> bool {
        self.action == Action::Add || self.fields.iter().any(|f| f.field == "ip")
    }
}

/// A list of changes: as the operator named the deckies, removals last.
pub type Plan = Vec<Change>;

/// Works out what a deploy changes.
///
/// # Errors
/// Every reason it cannot be done, one line each.
pub fn plan(
    present: &[Decky],
    wanted: &[Wanted],
    pools: &Pools,
    mode: Mode,
) -> Result<Plan, Vec<String>> {
    let rows: BTreeMap<&str, &Decky> = present.iter().map(|d| (d.name.as_str(), d)).collect();
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for want in wanted {
        if !names.insert(want.name.as_str()) {
            problems.push(format!("decky {} is named twice", want.name));
        }
    }
    let goes =
        |row: &Decky| row.removed || (mode == Mode::Replace && !names.contains(row.name.as_str()));
    // Who will hold which address: those that stay as they are, then those that asked.
    let mut holders: BTreeMap<IpAddr, &str> = present
        .iter()
        .filter(|row| !goes(row) && !names.contains(row.name.as_str()))
        .map(|row| (row.ip, row.name.as_str()))
        .collect();
    let mut settled: BTreeMap<&str, IpAddr> = BTreeMap::new();
    for want in wanted {
        let Some(pool) = pools.of(want.wish.runtime) else {
            problems.push(format!(
                "decky {}: no network is known for the {} runtime",
                want.name, want.wish.runtime
            ));
            continue;
        };
        let row = rows.get(want.name.as_str());
        let ip = match want.ip {
            Some(ip) => {
                if let Err(why) = pool.check(ip) {
                    problems.push(format!("decky {}: {why}", want.name));
                    continue;
                }
                ip
            }
            None => match row.filter(|row| stays(row, pool, &want.wish)) {
                Some(row) => row.ip,
                None => continue,
            },
        };
        match holders.insert(ip, &want.name) {
            Some(other) if other != want.name => problems.push(format!(
                "decky {}: {ip} already belongs to {other}; give one of them another address",
                want.name
            )),
            _ => {}
        }
        settled.insert(&want.name, ip);
    }
    // An address that one of ours still has while this deploy runs is not given out.
    let mut taken: BTreeSet<IpAddr> = present.iter().map(|d| d.ip).collect();
    taken.extend(holders.keys());
    let mut plan = Vec::new();
    for want in wanted {
        let Some(pool) = pools.of(want.wish.runtime) else {
            continue;
        };
        if want.ip.is_some() && !settled.contains_key(want.name.as_str()) {
            continue;
        }
        let ip = settled
            .get(want.name.as_str())
            .copied()
            .or_else(|| pool.free(&taken).next());
        let Some(ip) = ip else {
            problems.push(format!(
                "{} has no free address for {}; use a larger network or an earlier --ip-start",
                pool.subnet, want.name
            ));
            break;
        };
        taken.insert(ip);
        plan.push(one(rows.get(want.name.as_str()).copied(), want, ip));
    }
    plan.extend(
        present
            .iter()
            .filter(|row| !row.removed && goes(row))
            .map(remove),
    );
    if problems.is_empty() {
        Ok(plan)
    } else {
        Err(problems)
    }
}

/// Whether a decky for which no address was asked keeps the one it has.
fn stays(row: &Decky, pool: &Pool, wish: &Wish) -> bool {
    if pool.check(row.ip).is_ok() {
        return true;
    }
    // The default network moved on: nobody asked for this decky to move.
    let elsewhere = !pool.named && !pool.subnet.contains(&row.ip);
    elsewhere && wish.runtime == Runtime::Local && row.ip.is_loopback()
}

fn one(row: Option<&Decky>, want: &Wanted, ip: IpAddr) -> Change {
    let mut wish = want.wish.clone();
    let Some(row) = row else {
        return Change {
            action: Action::Add,
            name: want.name.clone(),
            ip,
            version: 0,
            fields: Vec::new(),
            new_persona: true,
            wish,
        };
    };
    // Not the operator's to say, so not to be undone: who it talks to, how often it was
    // restarted, and what mutations made of the services that were deployed.
    wish.peers.clone_from(&row.wish.peers);
    wish.generation = row.wish.generation;
    if row.wish.deployed.as_ref() == Some(&wish.services) {
        wish.services.clone_from(&row.wish.services);
        wish.deployed.clone_from(&row.wish.deployed);
    }
    let mut fields = Vec::new();
    if row.removed {
        let before = Some("being removed".to_owned());
        fields.push(Field::new("wanted", before, Some("again".to_owned())));
    }
    if row.ip != ip {
        fields.push(Field::new(
            "ip",
            Some(row.ip.to_string()),
            Some(ip.to_string()),
        ));
    }
    fields.extend(difference(&row.wish, &wish));
    let new_persona = asked(&row.wish) != asked(&wish);
    let action = if new_persona || row.ip != ip {
        Action::Replace
    } else if row.wish != wish || row.removed {
        Action::Change
    } else {
        Action::Keep
    };
    Change {
        action,
        name: row.name.clone(),
        ip,
        version: row.version,
        fields,
        new_persona,
        wish,
    }
}

fn remove(row: &Decky) -> Change {
    Change {
        action: Action::Remove,
        name: row.name.clone(),
        ip: row.ip,
        version: row.version,
        fields: Vec::new(),
        new_persona: false,
        wish: row.wish.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeckyState, Driver, Link, Service, Stamp};

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

    fn pools() -> Pools {
        Pools {
            local: Pool::new("127.77.0.0/29".parse().unwrap()),
            lan: None,
        }
    }

    /// Name, action and last byte of the address of every change.
    fn outline(plan: &Plan) -> Vec<(&str, Action, u8)> {
        plan.iter()
            .map(|c| {
                let IpAddr::V4(ip) = c.ip else { panic!() };
                (c.name.as_str(), c.action, ip.octets()[3])
            })
            .collect()
    }

    const R: &[Service] = &[Service::Redis];

    #[test]
    fn the_same_wish_twice_keeps_and_a_larger_one_adds() {
        let present = [row("decky-01", "127.77.0.1", R)];
        let wanted = [want("decky-01", None, R), want("decky-02", None, R)];
        let plan = plan(&present, &wanted, &pools(), Mode::Additive).unwrap();
        assert_eq!(
            outline(&plan),
            [("decky-01", Action::Keep, 1), ("decky-02", Action::Add, 2)]
        );
    }

    #[test]
    fn other_services_are_a_change_based_on_the_version_seen() {
        let present = [row("a", "127.77.0.1", R), row("b", "127.77.0.2", R)];
        let wanted = [want("a", None, &[Service::Ftp])];
        let plan = plan(&present, &wanted, &pools(), Mode::Additive).unwrap();
        assert_eq!(outline(&plan), [("a", Action::Change, 1)]);
        assert_eq!(plan[0].version, 3);
        assert!(!plan[0].new_persona);
        assert_eq!(
            plan[0].fields,
            [Field::new(
                "services",
                Some("redis".into()),
                Some("ftp".into())
            )]
        );
    }

    #[test]
    fn another_address_or_another_kind_of_host_is_a_replacement() {
        let present = [row("a", "127.77.0.1", R), row("b", "127.77.0.2", R)];
        let mut other = want("b", None, R);
        other.wish.distro = Some("alpine".into());
        let wanted = [want("a", Some("127.77.0.4"), R), other];
        let plan = plan(&present, &wanted, &pools(), Mode::Additive).unwrap();
        assert_eq!(
            outline(&plan),
            [("a", Action::Replace, 4), ("b", Action::Replace, 2)]
        );
        // A machine that was given another address is still that machine.
        assert!(!plan[0].new_persona && plan[1].new_persona);
        assert!(plan[0].claims_address() && !plan[1].claims_address());
    }

    #[test]
    fn only_the_mode_that_says_so_removes_and_never_twice() {
        let mut going = row("going", "127.77.0.3", R);
        going.removed = true;
        let present = [row("a", "127.77.0.1", R), row("b", "127.77.0.2", R), going];
        let wanted = [want("a", None, R)];
        let additive = plan(&present, &wanted, &pools(), Mode::Additive).unwrap();
        assert_eq!(outline(&additive), [("a", Action::Keep, 1)]);
        let replace = plan(&present, &wanted, &pools(), Mode::Replace).unwrap();
        assert_eq!(
            outline(&replace),
            [("a", Action::Keep, 1), ("b", Action::Remove, 2)]
        );
    }

    #[test]
    fn addresses_may_be_swapped_and_taken_over_from_those_that_go() {
        let present = [
            row("a", "127.77.0.1", R),
            row("b", "127.77.0.2", R),
            row("c", "127.77.0.3", R),
        ];
        let wanted = [
            want("a", Some("127.77.0.2"), R),
            want("b", Some("127.77.0.1"), R),
            want("d", Some("127.77.0.3"), R),
        ];
        let swapped = plan(&present, &wanted, &pools(), Mode::Replace).unwrap();
        assert_eq!(
            outline(&swapped),
            [
                ("a", Action::Replace, 2),
                ("b", Action::Replace, 1),
                ("d", Action::Add, 3),
                ("c", Action::Remove, 3),
            ]
        );
        let problems = plan(&present, &wanted, &pools(), Mode::Additive).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("127.77.0.3 already belongs to c"));
    }

    #[test]
    fn a_mutation_and_a_restart_are_not_undone() {
        let mut mutated = row("a", "127.77.0.1", &[Service::Redis, Service::Http]);
        mutated.wish.deployed = Some(R.to_vec());
        mutated.wish.generation = 2;
        mutated.wish.peers = vec!["127.77.0.9".parse().unwrap()];
        let present = [mutated.clone()];
        let same = plan(&present, &[want("a", None, R)], &pools(), Mode::Additive).unwrap();
        assert_eq!(outline(&same), [("a", Action::Keep, 1)]);
        assert_eq!(same[0].wish, mutated.wish);
        let wanted = [want("a", None, &[Service::Ftp])];
        let other = plan(&present, &wanted, &pools(), Mode::Additive).unwrap();
        assert_eq!(other[0].wish.services, [Service::Ftp]);
        assert_eq!(other[0].wish.deployed, None);
        assert_eq!(other[0].wish.generation, 2);
    }

    #[test]
    fn a_removal_is_taken_back() {
        let mut going = row("a", "127.77.0.1", R);
        going.removed = true;
        let plan = plan(&[going], &[want("a", None, R)], &pools(), Mode::Additive).unwrap();
        assert_eq!(outline(&plan), [("a", Action::Change, 1)]);
    }

    #[test]
    fn a_named_network_moves_deckies_and_a_default_one_does_not() {
        let present = [row("a", "127.99.0.1", R)];
        let wanted = [want("a", None, R)];
        let mut pools = pools();
        let kept = plan(&present, &wanted, &pools, Mode::Additive).unwrap();
        assert_eq!(kept[0].action, Action::Keep);
        pools.local.named = true;
        let moved = plan(&present, &wanted, &pools, Mode::Additive).unwrap();
        assert_eq!(outline(&moved), [("a", Action::Replace, 1)]);
        assert_eq!(moved[0].ip.to_string(), "127.77.0.1");
    }

    #[test]
    fn leaving_loopback_takes_an_address_of_the_lan() {
        let subnet = "10.0.0.0/24".parse().unwrap();
        let mut lan = Pool::new(subnet);
        let gateway: IpAddr = "10.0.0.1".parse().unwrap();
        lan.reserved.insert(gateway, "is the gateway".into());
        let pools = Pools {
            lan: Some(lan),
            ..pools()
        };
        let mut wanted = want("a", None, R);
        wanted.wish.runtime = Runtime::Native;
        wanted.wish.link = Some(Link {
            driver: Driver::Macvlan,
            parent: "eth0".into(),
            subnet,
            gateway: Some(gateway),
        });
        let present = [row("a", "127.77.0.1", R)];
        let plan = plan(&present, &[wanted], &pools, Mode::Additive).unwrap();
        assert_eq!(outline(&plan), [("a", Action::Replace, 2)]);
        let fields: Vec<&str> = plan[0].fields.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(
            fields,
            ["ip", "runtime", "driver", "interface", "net", "gw"]
        );
    }

    #[test]
    fn every_conflict_is_named() {
        let present = [row("a", "127.77.0.1", R)];
        let wanted = [
            want("b", Some("127.77.0.1"), R),
            want("c", Some("127.77.0.3"), R),
            want("d", Some("127.77.0.3"), R),
            want("e", Some("10.0.0.1"), R),
            want("e", None, R),
        ];
        let problems = plan(&present, &wanted, &pools(), Mode::Additive).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn a_full_subnet_is_said() {
        let wanted: Vec<Wanted> = (0..10).map(|n| want(&format!("d{n}"), None, R)).collect();
        let problems = plan(&[], &wanted, &pools(), Mode::Additive).unwrap_err();
        assert!(problems[0].contains("no free address"));
    }
}
