//! Telling others: a receiver is added on the page, and what happens reaches it, signed.

use std::time::{Duration, Instant};

use crate::block_on;
use crate::driver::{Browser, skipped};
use crate::lab::{Lab, PATIENCE, talk};
use crate::receiver::Receiver;

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn a_webhook_made_on_the_page_tells_a_receiver_that_verifies() {
    if skipped("webhooks") {
        return;
    }
    let lab = Lab::start(1, &[("DECNET_WEBHOOK_ALLOW_PRIVATE", "true")]);
    let receiver = Receiver::start();
    let began = Instant::now();
    block_on(async {
        let browser = Browser::open(&lab).await;
        browser.first_login(&lab).await;
        browser.go("/webhooks").await;
        browser.until("Nobody else is told yet").await;
        browser.fill("name", "soc").await;
        browser.fill("url", "http://127.0.0.1:1/").await;
        browser.click("form.column button.main").await;
        browser.until("at least one pattern").await;
        // The form is as it was sent.
        browser.fill("url", &receiver.url()).await;
        browser.click("[name='preset.Credentials']").await;
        browser.fill("patterns", "attacker.>").await;
        browser.click("form.column button.main").await;
        browser.until("It is shown only now").await;
        let secret = browser.find(".secret").await.text().await.unwrap();
        browser.picture("webhooks").await;
        browser.click("th a[href^='/webhooks/']").await;
        browser.until("Deliveries").await;
        browser.press("Send a test").await;
        browser.until("The test was delivered").await;
        // Somebody attacks: the receiver hears of it.
        let source = "127.0.0.9".parse().unwrap();
        let redis = lab.service("redis");
        talk(source, redis, b"*2\r\n$4\r\nAUTH\r\n$8\r\nhunter22\r\n");
        let deadline = Instant::now() + PATIENCE;
        let told = loop {
            let got = receiver.got();
            let told = got
                .iter()
                .find(|g| g.json()["topic"] == "credential.captured");
            if let Some(told) = told {
                break told.clone();
            }
            assert!(Instant::now() < deadline, "nobody was told: {}", lab.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(told.at > began && told.is_signed_with(&secret));
        assert_eq!(told.json()["payload"]["attacker_ip"], "127.0.0.9");
        // What a receiver refuses is listed, and sent again when it is told to.
        receiver.will_answer(&[(400, "")]);
        talk(source, redis, b"*2\r\n$4\r\nAUTH\r\n$8\r\nhunter23\r\n");
        let url = browser.place().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            browser.go(&url).await;
            if browser.count("td .state.dead").await > 0 {
                break;
            }
            assert!(Instant::now() < deadline, "nothing was given up");
        }
        browser.picture("webhook").await;
        browser.press("Send again what was given up").await;
        browser.until("1 deliveries are back in line").await;
        let count = |topic: &str| {
            let got = receiver.got();
            got.iter().filter(|g| g.json()["topic"] == topic).count()
        };
        let deadline = Instant::now() + PATIENCE;
        while count("credential.captured") < 3 {
            assert!(Instant::now() < deadline, "it was not sent again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        browser.go(&url).await;
        browser.press("New secret").await;
        browser.until("For a day").await;
        browser.press("New secret").await;
        browser.until("The new secret is").await;
        browser.press("Remove").await;
        browser.press("Remove").await;
        browser.until("The webhook was removed").await;
    });
}

/// Runs a real client and returns what it printed.
fn client(program: &str, arguments: &[&str]) -> String {
    let ran = std::process::Command::new(program).args(arguments).output();
    let ran = ran.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(ran.status.success(), "{program}: {ran:?}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn a_token_made_on_the_page_alarms_when_it_is_used() {
    if skipped("canary tokens") {
        return;
    }
    let lab = Lab::start(
        1,
        &[
            ("DECNET_CANARY_HTTP_HOST", "127.0.0.1"),
            ("DECNET_CANARY_DNS_HOST", "127.0.0.1"),
            ("DECNET_CANARY_DNS_ZONE", "cdn.example.test"),
        ],
    );
    let places = lab.until("listeners", |lab| lab.note("canary.addr"));
    let place = |which: &str| -> String {
        let mut lines = places.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(name, _)| *name == which);
        found
            .unwrap_or_else(|| panic!("no {which} in {places}"))
            .1
            .to_owned()
    };
    block_on(async {
        let browser = Browser::open(&lab).await;
        browser.first_login(&lab).await;
        browser.go("/canary").await;
        browser.until("nobody has a reason to use").await;
        // One that is planted on the decky, found and used by whoever reads it there.
        let decky = lab.deckies()[0].0.clone();
        browser.choose_in("form.column", "kind", "env_file").await;
        browser.fill("memo", "the decky's own").await;
        browser.choose_in("form.column", "decky", &decky).await;
        browser.press("Make").await;
        browser.until("The token was made and planted").await;
        browser.until("Nobody yet").await;
        let shown = browser.text().await;
        let slug = shown
            .split("/c/")
            .nth(1)
            .unwrap()
            .get(..26)
            .unwrap()
            .to_owned();
        let url = format!("http://{}/c/{slug}/login", place("http"));
        let page = client("curl", &["-s", "-A", "curious/1.0", &url]);
        assert!(!page.to_lowercase().contains("decnet"), "{page}");
        // The page says so by itself.
        browser.until("curious/1.0").await;
        browser.until("127.0.0.1").await;
        browser.picture("canary-token").await;
        browser.go("/live?q=event:canary_triggered").await;
        browser.until("canary_triggered").await;
        // A name alone, for a machine that is no decky.
        browser.go("/canary").await;
        browser.choose_in("form.column", "kind", "dns_name").await;
        browser.press("Make").await;
        browser.until("The token was made").await;
        let shown = browser.text().await;
        let end = shown.find(".cdn.example.test").unwrap();
        let name = shown.get(end - 26..end).unwrap().to_uppercase();
        let dns = place("dns");
        let (host, port) = dns.rsplit_once(':').unwrap();
        let question = format!("{name}.cdn.example.test");
        let server = format!("@{host}");
        let answer = client("dig", &["+short", &server, "-p", port, &question]);
        assert!(!answer.trim().is_empty(), "{answer}");
        browser.until("dns A").await;
        browser.go("/canary").await;
        browser.picture("canary").await;
        browser.click("th a[href^='/canary/']").await;
        browser.press("Take back").await;
        browser.press("Take back").await;
        browser.until("The token was taken back").await;
        browser.press("Forget").await;
        browser.press("Forget").await;
        browser.until("The token was forgotten").await;
        // A file of one's own, with a call put into it.
        let file = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
        std::fs::write(file.path(), "<html><body>Staff only</body></html>").unwrap();
        browser.go("/canary").await;
        browser
            .fill("file", &file.path().display().to_string())
            .await;
        browser.press("Upload").await;
        browser.until("The file is kept").await;
        assert!(browser.complaints().await.is_empty());
    });
}
