//! What somebody who watches sees while somebody else attacks.

use std::net::IpAddr;

use crate::axe;
use crate::block_on;
use crate::driver::{Browser, skipped};
use crate::lab::{Lab, talk};

fn attacker() -> IpAddr {
    "127.9.8.7".parse().unwrap()
}

/// Somebody tries a password, asks for things, and leaves a file.
fn attack(lab: &Lab) {
    talk(
        attacker(),
        lab.service("redis"),
        b"AUTH hunter2-redis\r\nSET crackit wget-evil\r\nQUIT\r\n",
    );
    talk(
        attacker(),
        lab.service("http"),
        b"GET /admin/?x=marker-http HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRtaW46aHVudGVyMi1odHRw\r\nConnection: close\r\n\r\n",
    );
}

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn an_attack_is_seen_on_every_page_within_seconds() {
    if skipped("watching") {
        return;
    }
    let lab = Lab::start(1, &[]);
    block_on(async {
        let browser = Browser::open(&lab).await;
        browser.first_login(&lab).await;
        browser.until("nobody touched a decky").await;
        browser.go("/live").await;
        browser.until("live").await;
        attack(&lab);
        // By itself, without reloading.
        browser.until("wget-evil").await;
        browser.until("marker-http").await;
        browser.press("Pause").await;
        talk(
            attacker(),
            lab.service("redis"),
            b"SET later quiet-word\r\nQUIT\r\n",
        );
        browser.until("waiting").await;
        assert!(!browser.text().await.contains("quiet-word"));
        browser.press("Go on").await;
        browser.until("quiet-word").await;
        browser.picture("live").await;
        browser.go("/live?q=service%3Aredis+wget-evil").await;
        browser.until("wget-evil").await;
        assert!(
            !browser.text().await.contains("marker-http"),
            "the filter holds"
        );
        browser.go("/live?q=%22open").await;
        browser.until("not closed").await;

        browser.go("/").await;
        browser.until("127.9.8.7").await;
        browser.find("[data-chart] canvas").await;
        browser.picture("overview").await;
        browser.go("/attackers").await;
        browser.picture("attackers").await;
        browser.press("127.9.8.7").await;
        browser.until("path across deckies").await;
        browser.until("hunter2-redis").await;
        browser.picture("attacker").await;
        browser.go("/credentials").await;
        browser.until("hunter2-http").await;
        browser.picture("credentials").await;
        browser.go("/sessions?service=redis").await;
        browser.picture("sessions").await;
        browser.click("table tbody a[href^='/sessions/']").await;
        browser.until("redis").await;
        browser.press("Play").await;
        browser.until("of").await;
        browser.picture("session").await;
        browser.go("/fleet").await;
        browser.until("running").await;
        browser.picture("fleet").await;
        browser.click("table tbody a[href^='/fleet/']").await;
        browser.until("listens on").await;
        browser.picture("decky").await;
        browser.go("/workers").await;
        browser.until("ingester").await;
        browser.picture("workers").await;
        let complaints = browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:?}");
    });
}

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn orders_are_carried_out_after_a_question() {
    if skipped("orders") {
        return;
    }
    let lab = Lab::start(2, &[]);
    block_on(async {
        let browser = Browser::open(&lab).await;
        browser.first_login(&lab).await;
        let name = lab.deckies()[0].0.clone();
        browser.go(&format!("/fleet/{name}")).await;
        browser.press("Remove").await;
        browser.until("what was captured stays").await;
        browser.press("Leave it").await;
        browser.press("Remove").await;
        browser.press("Remove").await;
        browser.until("succeeded").await;
        browser.picture("job").await;
        lab.until("the decky to go", |lab| {
            (lab.deckies().len() == 1).then_some(())
        });
        browser.go("/users").await;
        browser.fill("username", "bert").await;
        browser.choose("role", "admin").await;
        browser.press("Add").await;
        browser.until("shown only now").await;
        browser.picture("users").await;
        browser.press("Make viewer").await;
        browser.until("done").await;
        browser.press("Delete").await;
        browser.press("Delete").await;
        browser.until("done").await;
        browser.go("/audit").await;
        browser.until("user.delete").await;
        browser.until("decky.teardown").await;
        browser.picture("audit").await;
    });
}

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn a_viewer_sees_no_orders_and_no_page_has_a_serious_barrier() {
    if skipped("viewer and accessibility") {
        return;
    }
    let lab = Lab::start(1, &[]);
    attack(&lab);
    let url = "https://hooks.example.com/";
    let made = lab.decnet(&["canary", "new", "web_bug", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let token = format!("/canary/{}", made["id"].as_str().unwrap());
    lab.decnet(&[
        "webhook",
        "add",
        "soc",
        "--url",
        url,
        "--pattern",
        "decky.>",
    ]);
    block_on(async {
        let browser = Browser::open(&lab).await;
        let mut barriers = axe::violations(&browser).await;
        browser.first_login(&lab).await;
        let decky = lab.deckies()[0].0.clone();
        let session = lab.a_session();
        let pages = [
            "/".to_owned(),
            "/live".to_owned(),
            "/attackers".to_owned(),
            "/attackers/127.9.8.7".to_owned(),
            "/sessions".to_owned(),
            format!("/sessions/{session}"),
            "/credentials".to_owned(),
            "/credentials/reuse".to_owned(),
            "/artifacts".to_owned(),
            "/fleet".to_owned(),
            format!("/fleet/{decky}"),
            format!("/fleet/{decky}/teardown"),
            "/workers".to_owned(),
            "/canary".to_owned(),
            token,
            "/webhooks".to_owned(),
            "/webhooks/soc".to_owned(),
            "/deploy".to_owned(),
            "/jobs".to_owned(),
            "/account".to_owned(),
            "/users".to_owned(),
            "/audit".to_owned(),
            "/config".to_owned(),
            "/docs".to_owned(),
            format!("/fleet/{decky}/services/http"),
            "/password".to_owned(),
            "/nowhere".to_owned(),
        ];
        for theme in ["light", "dark"] {
            browser.go("/account").await;
            browser.click("details.menu summary").await;
            browser.choose("theme", theme).await;
            browser.press("Apply").await;
            for page in &pages {
                browser.go(page).await;
                browser.find("h1").await;
                let found = axe::violations(&browser).await;
                barriers.extend(found.into_iter().map(|v| format!("{theme} {page}: {v}")));
            }
        }
        browser.go("/").await;
        browser.picture("overview-dark").await;
        assert!(barriers.is_empty(), "{}", barriers.join("\n"));

        let viewer = Browser::open(&lab).await;
        let (name, password) = lab.viewer();
        viewer.log_in(name, password).await;
        viewer.find("nav").await;
        for page in &pages {
            let admin_only = [
                "/users",
                "/audit",
                "/config",
                "/password",
                "/nowhere",
                "/deploy",
            ]
            .contains(&page.as_str())
                || page.ends_with("/teardown")
                || page.starts_with("/webhooks")
                || page.ends_with("/services/http");
            viewer.go(page).await;
            viewer.find("h1").await;
            // One's own tokens are one's own.
            if admin_only || page == "/account" {
                continue;
            }
            // A list may be taken as a file by whoever may read it.
            let orders = "main form[method=post]:not([action='/exports']), main .danger";
            let forms = viewer.count(orders).await;
            assert_eq!(forms, 0, "{page}");
        }
        viewer.go("/users").await;
        viewer.until("may look but not change").await;
    });
}

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn a_decky_is_deployed_from_the_page_and_followed_until_it_runs() {
    if skipped("deploying") {
        return;
    }
    let lab = Lab::start(1, &[]);
    block_on(async {
        let browser = Browser::open(&lab).await;
        browser.first_login(&lab).await;
        browser.go("/fleet").await;
        browser.press("Add deckies").await;
        browser.choose("archetype", "web-server").await;
        browser.fill("name", "shop").await;
        browser.fill("amount", "2").await;
        browser.press("See what that makes").await;
        browser.until("shop-01").await;
        browser.picture("deploy").await;
        browser.press("Deploy").await;
        browser.until("succeeded").await;
        browser.picture("job-deploy").await;
        lab.until("the new deckies", |lab| {
            (lab.deckies().len() == 3).then_some(())
        });
        browser.go("/fleet").await;
        browser.until("shop-02").await;
        // What is wrong with a file is said with its line, and the file stays.
        browser.go("/deploy").await;
        browser.fill("ini", "[x]\nservices = nonsense\n").await;
        browser.press("Show the difference").await;
        browser.until("line 2").await;
        browser.go("/account").await;
        browser.fill("name", "nightly export").await;
        browser.press("Make a token").await;
        browser.until("shown only now").await;
        browser.press("Revoke nightly export").await;
        browser.until("was revoked").await;
        let complaints = browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:?}");
    });
}
