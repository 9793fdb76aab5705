//! A headless Chromium behind its WebDriver, and the few things a person does with a page.
//! The browser is in whatever network namespace the thread is that opens it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One browser with a fresh profile; dropping it ends it.
pub(crate) struct Browser {
    driver: Child,
    profile: tempfile::TempDir,
    client: Client,
    home: String,
}

impl Browser {
    /// Opens the dashboard at `url`, which ends without a slash; `more` are further
    /// arguments for the browser.
    pub(crate) async fn open_at(url: &str, more: &[&str]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("/usr/bin/chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("started successfully on port ")?;
                Some(rest.trim_end_matches('.').to_owned())
            })
            .expect("chromedriver says its port");
        // It goes on talking; nobody listens, and a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut args: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let wanted = json!({
            "goog:chromeOptions": {"args": args, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(wanted.as_object().cloned().unwrap())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        let browser = Self {
            driver,
            profile,
            client,
            home: url.to_owned(),
        };
        browser.go("/").await;
        browser
    }

    /// Opens a page by its path.
    pub(crate) async fn go(&self, path: &str) {
        self.client
            .goto(&format!("{}{path}", self.home))
            .await
            .unwrap();
    }

    /// The path and query shown.
    pub(crate) async fn place(&self) -> String {
        let url = self.client.current_url().await.unwrap();
        let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
        format!("{}{query}", url.path())
    }

    /// Types into the field called `name`, replacing what it held.
    pub(crate) async fn fill(&self, name: &str, text: &str) {
        let field = self.find(&format!("[name='{name}']")).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Chooses in the select box called `name`.
    pub(crate) async fn choose(&self, name: &str, value: &str) {
        let field = self.find(&format!("select[name='{name}']")).await;
        field.select_by_value(value).await.unwrap();
    }

    /// Chooses a value of a list inside what a selector names.
    pub(crate) async fn choose_in(&self, within: &str, name: &str, value: &str) {
        let field = self.find(&format!("{within} [name='{name}']")).await;
        field.select_by_value(value).await.unwrap();
    }

    /// Presses the first button or link whose visible text is or begins with `text`.
    #[track_caller]
    pub(crate) fn press<'a>(&'a self, text: &'a str) -> impl Future<Output = ()> + 'a {
        let path = format!(
            "//*[self::button or self::a or self::summary or (self::input and @type='submit')][starts-with(normalize-space(.), \"{text}\") or @value=\"{text}\" or @aria-label=\"{text}\"]"
        );
        async move {
            let deadline = Instant::now() + PATIENCE;
            loop {
                for found in self.client.find_all(Locator::XPath(&path)).await.unwrap() {
                    if found.is_displayed().await.unwrap_or(false) && found.click().await.is_ok() {
                        return;
                    }
                }
                if Instant::now() > deadline {
                    panic!(
                        "no '{text}' to press on {}:\n{}",
                        self.place().await,
                        self.text().await
                    );
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Presses what a selector names.
    pub(crate) async fn click(&self, selector: &str) {
        self.find(selector).await.click().await.unwrap();
    }

    /// The first element a selector names, once it is there.
    pub(crate) async fn find(&self, selector: &str) -> fantoccini::elements::Element {
        let waited = self
            .client
            .wait()
            .at_most(PATIENCE)
            .every(Duration::from_millis(50))
            .for_element(Locator::Css(selector))
            .await;
        match waited {
            Ok(found) => found,
            Err(error) => panic!(
                "no {selector} on {}: {error}\n{}",
                self.place().await,
                self.text().await
            ),
        }
    }

    /// How many elements a selector names now.
    pub(crate) async fn count(&self, selector: &str) -> usize {
        self.client
            .find_all(Locator::Css(selector))
            .await
            .unwrap()
            .len()
    }

    /// The page's visible text.
    pub(crate) async fn text(&self) -> String {
        let script = "return document.body ? document.body.innerText : ''";
        let text = self.run(script).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page's visible text contains `wanted`, letter case ignored.
    pub(crate) async fn until(&self, wanted: &str) {
        let wanted = wanted.to_lowercase();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text().await;
            if text.to_lowercase().contains(&wanted) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no '{wanted}' on {}:\n{text}",
                self.place().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a script in the page and returns its value.
    pub(crate) async fn run(&self, script: &str) -> serde_json::Value {
        self.client.execute(script, vec![]).await.unwrap()
    }

    /// Runs a script that calls its first argument when it is done.
    pub(crate) async fn run_async(&self, script: &str) -> serde_json::Value {
        self.client.execute_async(script, vec![]).await.unwrap()
    }

    /// What the browser complained about since the last call: script errors, refused
    /// resources, content security policy.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        #[derive(Debug)]
        struct Log;
        impl fantoccini::wd::WebDriverCompatibleCommand for Log {
            fn endpoint(
                &self,
                base: &url::Url,
                session: Option<&str>,
            ) -> Result<url::Url, url::ParseError> {
                base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
            }
            fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
                (
                    http::Method::POST,
                    Some(json!({"type": "browser"}).to_string()),
                )
            }
        }
        let entries = self.client.issue_cmd(Log).await.unwrap();
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter(|e| e["level"] == "SEVERE")
            .map(|e| e["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Keeps a picture of the page below `target/screenshots`, as tall as the page.
    pub(crate) async fn picture(&self, name: &str) {
        let tall = self
            .run("return document.documentElement.scrollHeight")
            .await;
        let height = u32::try_from(tall.as_u64().unwrap_or(900)).unwrap_or(900);
        self.client
            .set_window_size(1280, height.clamp(900, 2400))
            .await
            .unwrap();
        let bytes = self.client.screenshot().await.unwrap();
        self.client.set_window_size(1280, 900).await.unwrap();
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{name}.png")), bytes).unwrap();
    }

    /// Logs in with a password that need not be changed.
    pub(crate) async fn log_in(&self, name: &str, password: &str) {
        self.go("/login").await;
        self.fill("username", name).await;
        self.fill("password", password).await;
        self.click("main button[type=submit]").await;
    }

    /// Ends the session.
    pub(crate) async fn log_out(&self) {
        self.click("details.menu summary").await;
        self.press("Log out").await;
        self.find("[name=username]").await;
    }

    /// Logs in with a password that was made by the machine, and with the change of it
    /// that is asked for.
    pub(crate) async fn log_in_first(&self, name: &str, made: &str, chosen: &str) {
        self.log_in(name, made).await;
        self.find("[name=new_password]").await;
        self.fill("old_password", made).await;
        self.fill("new_password", chosen).await;
        self.fill("repeat_password", chosen).await;
        self.click("main button[type=submit]").await;
        self.find("nav").await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.driver.id()).unwrap());
        let _asked = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _reaped = self.driver.wait();
        end_all(self.profile.path());
    }
}

/// Ends every process that was started for this profile: the browser outlives its driver.
fn end_all(profile: &Path) {
    let profile = profile.as_os_str().as_encoded_bytes();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().parse::<i32>();
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Ok(pid) = pid
            && line.windows(profile.len()).any(|part| part == profile)
        {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}
