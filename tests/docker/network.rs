//! Networks: reused, replaced only while unused, refused in words.

use decnet::model::{Driver, Link};

use crate::lab::{CARD, Lab, SUBNET, block_on};

fn names(lab: &Lab) -> Vec<String> {
    let engine = lab.client();
    let mut names: Vec<String> = block_on(engine.client().list_networks(None))
        .unwrap()
        .into_iter()
        .filter_map(|network| network.name)
        .filter(|name| name.starts_with("decnet"))
        .collect();
    names.sort();
    names
}

fn link(driver: Driver, parent: &str, gateway: Option<[u8; 4]>) -> Option<Link> {
    Some(Link {
        driver,
        parent: parent.to_owned(),
        subnet: SUBNET.parse().unwrap(),
        gateway: gateway.map(Into::into),
    })
}

#[test]
#[ignore = "needs root and dockerd"]
fn a_network_is_replaced_only_while_nothing_uses_it() {
    let Some(lab) = Lab::new("a_network_is_replaced_only_while_nothing_uses_it", &[]) else {
        return;
    };
    lab.want("decky-1", "10.66.0.1", |_, _| {});
    assert_eq!(lab.reconcile()["running"], 1, "{}", lab.decky("decky-1"));
    assert_eq!(names(&lab), ["decnet_lan"]);
    let before = lab.life("decky-1");

    // Another driver on the same card and subnet cannot be had beside it.
    lab.want("decky-2", "10.66.0.62", |wish, _| {
        wish.link = link(Driver::Bridge, "lanbr0", Some([10, 66, 0, 254]));
    });
    // Nor a card that is not there.
    lab.want("decky-3", "10.66.1.63", |wish, _| {
        wish.link = Some(Link {
            subnet: "10.66.1.0/24".parse().unwrap(),
            ..link(Driver::Macvlan, "lan9", None).unwrap()
        });
    });
    assert_eq!(lab.reconcile()["running"], 1);
    let error = lab.decky("decky-2")["last_error"].to_string();
    assert!(error.contains("decnet-decky-1"), "{error}");
    assert!(error.contains("tear those deckies down first"), "{error}");
    let error = lab.decky("decky-3")["last_error"].to_string();
    assert!(error.contains("lan9"), "{error}");
    assert_eq!(lab.life("decky-1"), before);
    assert_eq!(names(&lab), ["decnet_lan"]);

    // Once nothing uses it, it gives way; and the last one to go takes it along.
    lab.unwant("decky-1");
    lab.unwant("decky-3");
    lab.reconcile();
    assert_eq!(lab.reconcile()["running"], 1, "{}", lab.decky("decky-2"));
    assert_eq!(names(&lab), ["decnet_lan"]);
    lab.unwant("decky-2");
    lab.reconcile();
    assert!(names(&lab).is_empty(), "{:?}", names(&lab));
}

#[test]
#[ignore = "needs root and dockerd"]
fn a_second_network_has_a_name_of_its_own() {
    let Some(lab) = Lab::new("a_second_network_has_a_name_of_its_own", &[]) else {
        return;
    };
    lab.want("decky-1", "10.66.0.71", |_, _| {});
    lab.want("decky-2", "10.67.0.72", |wish, _| {
        wish.link = Some(Link {
            driver: Driver::Bridge,
            parent: String::new(),
            subnet: "10.67.0.0/24".parse().unwrap(),
            gateway: None,
        });
    });
    assert_eq!(lab.reconcile()["running"], 2, "{}", lab.decky("decky-2"));
    let names = names(&lab);
    let [first, second] = names.as_slice() else {
        panic!("{names:?}");
    };
    assert_eq!(first, "decnet_lan");
    assert!(
        second.starts_with("decnet_lan_") && second.len() == 19,
        "{second}"
    );
}

#[test]
#[ignore = "needs root and dockerd"]
fn a_decky_on_an_ipvlan_has_its_parents_mac() {
    let test = "a_decky_on_an_ipvlan_has_its_parents_mac";
    let Some(lab) = Lab::new(test, &[]) else {
        return;
    };
    let probe = std::process::Command::new("ip")
        .args([
            "-n", &lab.host, "link", "add", "link", CARD, "name", "probe0", "type", "ipvlan",
        ])
        .args(["mode", "l2"])
        .output()
        .unwrap();
    if !probe.status.success() {
        println!("skipped: {test}: this kernel has no ipvlan");
        return;
    }
    let removed = std::process::Command::new("ip")
        .args(["-n", &lab.host, "link", "del", "probe0"])
        .status()
        .unwrap();
    assert!(removed.success());
    lab.want("decky-1", "10.66.0.81", |wish, _| {
        wish.link = link(Driver::Ipvlan, CARD, None);
    });
    assert_eq!(lab.reconcile()["running"], 1, "{}", lab.decky("decky-1"));
    lab.connect("10.66.0.81:80").unwrap();
    lab.event("decky-1", "http", "connect");
}
