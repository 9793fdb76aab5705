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
