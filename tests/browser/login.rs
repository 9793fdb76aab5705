//! Getting in and out.

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
