//! What attackers send is shown and does nothing.

use crate::block_on;
use crate::driver::{Browser, skipped};
use crate::lab::{Lab, talk};

#[test]
#[ignore = "needs chromium; run by make test-browser"]
fn hostile_bytes_are_shown_and_do_nothing() {
    if skipped("hostile bytes") {
        return;
    }
    let lab = Lab::start(1, &[]);
    let evil =
        "<script>window.pwned=1</script><img src=x onerror=window.pwned=2>\u{202e}txt.exe\u{1b}[2J";
    let source = "127.6.6.6".parse().unwrap();
    let command = format!(
        "*3\r\n$3\r\nSET\r\n$4\r\nmark\r\n${}\r\n{evil}\r\n",
        evil.len()
    );
    talk(source, lab.service("redis"), command.as_bytes());
    let auth = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{evil}\r\n", evil.len());
    talk(source, lab.service("redis"), auth.as_bytes());
    let get = "GET /%3Cscript%3Ewindow.pwned=3%3C/script%3E?q='\"><svg/onload=window.pwned=4> HTTP/1.1\r\nHost: x\r\nUser-Agent: <script>window.pwned=5</script>\0\r\n\r\n";
    talk(source, lab.service("http"), get.as_bytes());
    block_on(async {
        let browser = Browser::open(&lab).await;
        browser.first_login(&lab).await;
        let session = lab.a_session();
        let pages = [
            "/".to_owned(),
            "/live".to_owned(),
            "/attackers/127.6.6.6".to_owned(),
            "/credentials".to_owned(),
            "/sessions".to_owned(),
            format!("/sessions/{session}"),
            "/live?q=%3Cscript%3Ewindow.pwned%3D6%3C%2Fscript%3Ex".to_owned(),
            "/audit?actor=%3Cscript%3Ewindow.pwned%3D7%3C%2Fscript%3E".to_owned(),
        ];
        for page in &pages {
            browser.go(page).await;
            browser.find("h1").await;
            if page == "/live" {
                browser.until("live").await;
                // And through the stream, where a script makes the rows.
                talk(source, lab.service("redis"), command.as_bytes());
                browser.until("window.pwned=1").await;
                browser.picture("hostile").await;
            }
            let pwned = browser.run("return window.pwned === undefined").await;
            assert_eq!(pwned, true, "{page}");
            let text = browser.text().await;
            assert!(
                !text.contains(['\u{202e}', '\u{1b}', '\0']),
                "{page} shows what acts"
            );
        }
        browser.go("/attackers/127.6.6.6").await;
        browser.until("<script>window.pwned=1</script>").await;
        browser.until("\\u{202e}txt.exe\\u{1b}[2J").await;
        let complaints = browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:?}");
    });
}
