//! Starting, adopting, restarting and refusing.

use decnet::model::{DeckyState, Driver, Family, Link, Runtime, Service, Wish};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Lan, gone, persona, process_status, skipped, text, wait_for};

#[test]
#[ignore = "needs root; run by make test-lan"]
fn a_killed_reconciler_finds_its_deckies_again_and_a_killed_decky_comes_back() {
    let test = "a_killed_reconciler_finds_its_deckies_again_and_a_killed_decky_comes_back";
    if skipped(test, &["curl"]) {
        return;
    }
    let lan = Lan::new();
    lan.want("kept", 11, Family::Linux, Driver::Macvlan);
    let mut first = lan.reconciler();
    let pid = lan.pid("kept");
    wait_for("written state", || {
        (lan.row("kept").decky.state == DeckyState::Running).then_some(())
    });
    first.kill().unwrap();
    first.wait().unwrap();
    let answer = lan.seen(&format!("curl -s -m2 -i http://{}/", lan.address(11)));
    assert!(
        answer.starts_with("HTTP/"),
        "without its reconciler: {answer}"
    );
    // Adopted as it is: nothing starts, nothing changes.
    assert_eq!(
        lan.reconcile().trim(),
        "inserted=0 deleted=0 state_updated=0"
    );
    assert_eq!(lan.pid("kept"), pid);
    // The same MAC address and the same place, at once after the old namespace went.
    let mut second = lan.reconciler();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    wait_for("another process", || (lan.pid("kept") != pid).then_some(()));
    let answer = lan.seen(&format!("curl -s -m2 -i http://{}/", lan.address(11)));
    assert!(answer.starts_with("HTTP/"), "after its death: {answer}");
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn a_removed_decky_leaves_nothing() {
    if skipped("a_removed_decky_leaves_nothing", &["ping"]) {
        return;
    }
    let lan = Lan::new();
    lan.want("brief", 11, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    let pid = lan.pid("brief");
    lan.unwant("brief");
    assert_eq!(
        lan.reconcile().trim(),
        "inserted=0 deleted=1 state_updated=0"
    );
    wait_for("end of the process", || gone(pid).then_some(()));
    let silent = lan.attack(&format!("ping -n -c1 -W1 {}", lan.address(11)));
    assert!(!silent.status.success());
}

/// What the unit gives the service user.
const CAPABILITIES: &str = "+net_bind_service,+net_admin,+net_raw,+setuid,+setgid,+chown,+kill";

#[test]
#[ignore = "needs root; run by make test-lan"]
fn the_service_user_needs_no_more_than_its_capabilities() {
    let test = "the_service_user_needs_no_more_than_its_capabilities";
    if skipped(test, &["setpriv", "curl"]) {
        return;
    }
    let lan = Lan::new();
    lan.want("plain", 11, Family::Linux, Driver::Macvlan);
    // Without them: one line that says what to do.
    lan.become_service(&[]);
    lan.reconcile();
    let why = lan.row("plain").decky.last_error.unwrap();
    assert!(why.contains("sudo") && !why.contains('\n'), "{why}");
    assert!(lan.row("plain").decky.state == DeckyState::Failed);
    lan.become_service(&[CAPABILITIES]);
    lan.reconcile();
    let pid = lan.pid("plain");
    assert_eq!(
        process_status(pid, "Groups"),
        "",
        "nor the service's groups"
    );
    assert_eq!(process_status(pid, "CapPrm"), "0000000000000000");
    let answer = lan.seen(&format!("curl -s -m2 -i http://{}/", lan.address(11)));
    assert!(answer.starts_with("HTTP/"), "{answer}");
    // It deletes what the decky made, and stops one that does not listen.
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGSTOP).unwrap();
    lan.unwant("plain");
    lan.reconcile();
    wait_for("end of the process", || gone(pid).then_some(()));
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn an_address_that_is_taken_is_refused_by_name() {
    if skipped("an_address_that_is_taken_is_refused_by_name", &[]) {
        return;
    }
    let lan = Lan::new();
    lan.want("squatter", 66, Family::Linux, Driver::Macvlan);
    lan.want("impostor", 1, Family::Linux, Driver::Macvlan);
    lan.want("honest", 11, Family::Linux, Driver::Macvlan);
    lan.reconcile();
    let attacker = lan.seen("cat /sys/class/net/eth0/address");
    assert_eq!(
        lan.row("squatter").decky.last_error.unwrap(),
        format!(
            "address {} is already used by {} on {}; give squatter another address",
            lan.address(66),
            attacker.trim(),
            lan.parent
        )
    );
    assert_eq!(
        lan.row("impostor").decky.last_error.unwrap(),
        format!(
            "address {} is this host's own; give impostor another address",
            lan.address(1)
        )
    );
    assert_eq!(lan.row("honest").decky.state, DeckyState::Running);
}

#[test]
#[ignore = "needs root; run by make test-lan"]
fn what_does_not_fit_is_said_in_one_line() {
    if skipped("what_does_not_fit_is_said_in_one_line", &[]) {
        return;
    }
    let lan = Lan::new();
    let wish = Wish {
        runtime: Runtime::Native,
        link: Some(Link {
            driver: Driver::Macvlan,
            parent: "nosuch0".to_owned(),
            subnet: format!("{}/24", lan.address(0)).parse().unwrap(),
            gateway: None,
        }),
        services: vec![Service::Http],
        ..Wish::default()
    };
    let who = persona(&text(lan.address(0)), "lost", Family::Linux);
    lan.want_exactly("lost", 11, &wish, &who);
    lan.reconcile();
    let said = lan.row("lost").decky.last_error.unwrap();
    assert!(
        said.starts_with("nosuch0: no such interface; this host has "),
        "{said}"
    );
    assert!(!said.contains('\n'));
}
