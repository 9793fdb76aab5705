//! Getting in and out.

use crate::authenticator::code;
use crate::axe;
use crate::block_on;
use crate::driver::{Browser, skipped};
use crate::lab::{Lab, PASSWORD};

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn the_first_login_asks_for_a_password_of_ones_own() {
    if skipped("first login") {
        return;
    }
    let lab = Lab::start(0, &[]);
    block_on(async {
        let browser = Browser::open(&lab).await;
        assert!(browser.place().await.starts_with("/login"));
        browser.picture("login").await;
        browser.log_in("admin", "not-the-password-1").await;
        browser.until("wrong user name or password").await;
        browser.log_in("admin", &lab.first_password()).await;
        browser.find("[name=new_password]").await;
        browser.picture("change-password").await;
        // Nothing else opens before that.
        browser.go("/workers").await;
        browser.find("[name=new_password]").await;
        let first = lab.first_password();
        browser.first_login(&lab).await;
        assert_eq!(browser.place().await, "/");
        assert!(
            lab.note("../admin-password").is_none(),
            "{first} is of no use now"
        );
        let complaints = browser.complaints().await;
        assert!(
            complaints.iter().all(|c| c.contains("401")),
            "{complaints:?}"
        );
        browser.log_out().await;
        browser.go("/attackers").await;
        assert!(browser.place().await.starts_with("/login"));
        browser.fill("username", "admin").await;
        browser.fill("password", PASSWORD).await;
        browser.click("main button[type=submit]").await;
        browser.find("nav").await;
        assert!(
            browser.place().await.starts_with("/attackers"),
            "back to where one wanted to go"
        );
    });
}

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn a_second_factor_is_set_up_asked_for_and_switched_off() {
    if skipped("second factor") {
        return;
    }
    let lab = Lab::start(0, &[]);
    block_on(async {
        let browser = Browser::open(&lab).await;
        browser.first_login(&lab).await;
        browser.go("/account").await;
        browser.fill("password", PASSWORD).await;
        browser.press("Set one up").await;
        let picture = "return document.querySelector('img.qr').naturalWidth > 0";
        browser.find("img.qr").await;
        assert_eq!(
            browser.run(picture).await,
            true,
            "the policy lets it be seen"
        );
        browser.picture("second-factor").await;
        assert_eq!(axe::violations(&browser).await, [""; 0]);
        let secret = "return document.querySelector('code.secret').textContent";
        let secret = browser.run(secret).await;
        let secret = secret.as_str().unwrap().replace(' ', "");
        browser.fill("code", &code(&secret, 0)).await;
        browser.press("Switch it on").await;
        browser.until("recovery codes").await;
        let recovery =
            "return [...document.querySelectorAll('code.secret')].map(c => c.textContent)";
        let recovery = browser.run(recovery).await;
        let recovery: Vec<String> = serde_json::from_value(recovery).unwrap();
        assert_eq!(recovery.len(), 10);
        browser.picture("recovery-codes").await;
        browser.log_out().await;

        browser.log_in("admin", PASSWORD).await;
        browser.fill("code", "000000").await;
        browser.press("Log in").await;
        browser.until("the code is wrong").await;
        browser.picture("login-code").await;
        assert_eq!(axe::violations(&browser).await, [""; 0]);
        browser.fill("code", &code(&secret, 1)).await;
        browser.press("Log in").await;
        browser.find("nav[aria-label=Pages]").await;
        browser.log_out().await;
        browser.log_in("admin", PASSWORD).await;
        browser.fill("code", &recovery[0]).await;
        browser.press("Log in").await;
        browser.find("nav[aria-label=Pages]").await;
        browser.go("/account").await;
        browser.until("9 recovery codes are left").await;
        browser.until("this one").await;
        browser.picture("account").await;
        browser.fill("password", PASSWORD).await;
        browser.fill("code", &recovery[1]).await;
        browser.press("Switch it off").await;
        browser.until("the second factor is off").await;
    });
}
