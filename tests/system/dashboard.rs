//! The dashboard of an installed host in a real browser: from what the installation
//! printed to workers that are stopped and started on the page, where the real polkit
//! decides. The browser is in the container's network, so nothing is opened to it.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::browser::{Browser, PATIENCE};
use crate::host::Host;
use crate::installed::{self, WORKERS, unit};
use crate::package::{have, lay, packages};

const PASSWORD: &str = "For-the-System-suite-1";
const RULE: &str = "/etc/polkit-1/rules.d/50-decnet-workers.rules";
/// Who is driven, where any worker would do.
const WORKER: &str = "ingester";

#[test]
#[ignore = "needs root, debootstrap and chromium; run by make test-system"]
fn workers_are_driven_from_the_page_of_an_installed_host() {
    if !["chromium", "chromedriver"].into_iter().all(have) {
        return;
    }
    let mut host = Host::booted();
    let deb = lay(&host, &packages().deb);
    let said = host.sh(&format!("apt-get install -y {deb}")).ok();
    installed::await_ready(&host);
    let (url, password) = printed(&host, &said);
    host.within_network(|host| {
        let mut walk = Walk::start(host, &url);
        walk.step(
            "the first password opens nothing but its change",
            async |host, browser| first_login(host, browser, &password).await,
        );
        walk.step("a worker is stopped, started, restarted", drive);
        walk.step("what is down comes up at once", start_all);
        walk.step("the end of a worker's log is shown", log);
        walk.step("a refusal names the rule or the group", refusal);
        walk.step("nothing was amiss with the pages", async |_, browser| {
            assert_eq!(browser.complaints().await, [""; 0]);
        });
        walk.step("a viewer sees no orders", viewer);
    });
    host.finish();
}

/// The address and the first password, as somebody finds them who reads what the
/// installation printed.
fn printed(host: &Host, said: &str) -> (String, String) {
    let after = |words: &str| {
        let (_, rest) = said
            .split_once(words)
            .unwrap_or_else(|| panic!("no '{words}' in: {said}"));
        rest.lines().next().unwrap_or_default().trim().to_owned()
    };
    let url = after("The dashboard: ");
    let file = after("the first password: sudo cat ");
    assert_eq!(host.sh(&format!("stat -c %a {file}")).ok().trim(), "600");
    let password = host.sh(&format!("cat {file}")).ok().trim().to_owned();
    (url.trim_end_matches('/').to_owned(), password)
}

/// Steps with a browser; the first that fails leaves a picture of what it saw.
struct Walk<'a> {
    host: &'a mut Host,
    runtime: Runtime,
    browser: Browser,
    pictured: bool,
}

impl<'a> Walk<'a> {
    fn start(host: &'a mut Host, url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let browser = runtime.block_on(Browser::open_at(url, &[]));
        Self {
            host,
            runtime,
            browser,
            pictured: false,
        }
    }

    fn step(&mut self, name: &str, work: impl AsyncFnOnce(&Host, &Browser)) {
        let (runtime, browser) = (&self.runtime, &self.browser);
        let well = self
            .host
            .step(name, |host| runtime.block_on(work(host, browser)));
        if !well && !self.pictured {
            self.pictured = true;
            runtime.block_on(browser.picture("system-failed"));
        }
    }
}

async fn first_login(host: &Host, browser: &Browser, password: &str) {
    browser.log_in("admin", password).await;
    browser.find("[name=new_password]").await;
    browser.go("/workers").await;
    browser.find("[name=new_password]").await;
    browser.log_in_first("admin", password, PASSWORD).await;
    host.sh("test ! -e /var/lib/decnet/admin-password").ok();
    browser.go("/workers").await;
    for worker in WORKERS {
        until(browser, worker, "ok", "active (running)").await;
    }
}

/// The cells of a worker's row: its sign of life, what systemd says, and so on.
async fn cells(browser: &Browser, worker: &str) -> Vec<String> {
    let script = format!(
        "return [...document.querySelectorAll('tr[data-worker={worker:?}] td')].map(c => c.innerText)"
    );
    serde_json::from_value(browser.run(&script).await).unwrap()
}

/// Waits until both columns of a worker begin like that, without loading the page anew.
async fn until(browser: &Browser, worker: &str, sign: &str, state: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cells = cells(browser, worker).await;
        if let [seen, systemd, ..] = cells.as_slice()
            && seen.starts_with(sign)
            && systemd.starts_with(state)
        {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{worker} is not '{sign}' and '{state}': {cells:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The process that systemd's column names.
async fn shown_pid(browser: &Browser, worker: &str) -> Option<String> {
    let cells = cells(browser, worker).await;
    let (_, pid) = cells.get(1)?.split_once("pid ")?;
    Some(pid.trim().to_owned())
}

fn state(host: &Host, worker: &str) -> String {
    let text = host.sh(&format!("systemctl is-active {}", unit(worker)));
    text.text.trim().to_owned()
}

fn pid(host: &Host, worker: &str) -> String {
    let line = format!("systemctl show -p MainPID --value {}", unit(worker));
    host.sh(&line).ok().trim().to_owned()
}

async fn drive(host: &Host, browser: &Browser) {
    // A hyphen needs care on its way from a button to a unit; none has one today.
    let hyphenated = WORKERS.iter().filter(|w| w.contains('-'));
    for worker in hyphenated.chain([&WORKER]) {
        browser.go("/workers").await;
        browser.press(&format!("Stop {worker}")).await;
        browser.until(&format!("{worker}: stop was ordered")).await;
        until(browser, worker, "stale", "inactive (dead)").await;
        assert_eq!(state(host, worker), "inactive");
        assert_eq!(shown_pid(browser, worker).await, None);

        browser.press(&format!("Start {worker}")).await;
        browser.until(&format!("{worker}: start was ordered")).await;
        until(browser, worker, "ok", "active (running)").await;
        assert_eq!(state(host, worker), "active");

        let before = pid(host, worker);
        assert_eq!(shown_pid(browser, worker).await.as_ref(), Some(&before));
        browser.press(&format!("Restart {worker}")).await;
        browser
            .until(&format!("{worker}: restart was ordered"))
            .await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = shown_pid(browser, worker).await;
            if now.is_some_and(|now| now != before && now == pid(host, worker)) {
                break;
            }
            assert!(Instant::now() < deadline, "{worker} is still {before}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        until(browser, worker, "ok", "active (running)").await;
    }
}

async fn start_all(host: &Host, browser: &Browser) {
    host.sh("systemctl stop decnet-webhook.service decnet-canary.service")
        .ok();
    browser.go("/workers").await;
    until(browser, "webhook", "stale", "inactive (dead)").await;
    until(browser, "canary", "stale", "inactive (dead)").await;
    browser.press("Start all").await;
    browser.until("webhook: started").await;
    browser.until("canary: started").await;
    browser.until("bus: already-running").await;
    for worker in WORKERS {
        until(browser, worker, "ok", "active (running)").await;
    }
    installed::await_ready(host);
}

async fn log(_: &Host, browser: &Browser) {
    browser.go("/workers").await;
    browser
        .click(&format!("tr[data-worker='{WORKER}'] th a"))
        .await;
    browser.until(&format!("Log of {WORKER}")).await;
    browser.until(&format!("{WORKER} is ready")).await;
}

async fn refusal(host: &Host, browser: &Browser) {
    let refused = async |words: &[&str]| {
        host.sh("systemctl restart polkit.service").ok();
        browser.go("/workers").await;
        browser.press(&format!("Stop {WORKER}")).await;
        for words in words {
            browser.until(words).await;
        }
        assert_eq!(state(host, WORKER), "active");
    };
    host.sh(&format!("mv {RULE} /root/rule")).ok();
    let missing = format!("The rule {RULE} is missing");
    refused(&[&missing, "group decnet", "sudo decnet init"]).await;
    host.sh(&format!("mv /root/rule {RULE}")).ok();

    host.sh("cp -p /etc/passwd /root/passwd; sed -i 's/^\\(decnet:x:[0-9]*\\):[0-9]*:/\\1:65534:/' /etc/passwd")
        .ok();
    refused(&[RULE, "user decnet is not in that group"]).await;
    host.sh("cp -p /root/passwd /etc/passwd; systemctl restart polkit.service")
        .ok();

    browser.press(&format!("Stop {WORKER}")).await;
    until(browser, WORKER, "stale", "inactive (dead)").await;
    browser.press(&format!("Start {WORKER}")).await;
    until(browser, WORKER, "ok", "active (running)").await;
}

async fn viewer(_: &Host, browser: &Browser) {
    browser.go("/users").await;
    browser.fill("username", "vera").await;
    browser.choose("role", "viewer").await;
    browser.press("Add").await;
    browser.until("shown only now").await;
    let secret = "return document.querySelector('code.secret').textContent";
    let secret = browser.run(secret).await;
    browser.log_out().await;
    browser
        .log_in_first("vera", secret.as_str().unwrap(), PASSWORD)
        .await;
    browser.go("/workers").await;
    until(browser, WORKER, "ok", "active (running)").await;
    assert_eq!(browser.count("main form, main button").await, 0);
    assert_eq!(browser.count("main a[href^='/workers/']").await, 0);
    browser.go(&format!("/workers/{WORKER}")).await;
    browser.until("may look but not change").await;
}
