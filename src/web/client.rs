//! Asking the API, with the session of whoever looks.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::StatusCode;
use reqwest::Method;
use serde_json::Value;

use super::Web;
use super::error::Failure;
use super::text;

/// Longest wait for a reply; streams have none.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest reply that is not streamed.
const REPLY: usize = 16 * 1024 * 1024;

/// The client that all requests share.
pub(super) fn make() -> reqwest::Result<reqwest::Client> {
    // A second call finds the provider in place.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}

/// On whose behalf.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The session's token; empty before the login.
    pub(super) token: String,
    /// Where the browser is.
    pub(super) address: IpAddr,
    /// What it calls itself.
    pub(super) agent: String,
}

impl Web {
    /// Where the API is, without a path.
    pub(super) async fn base(&self) -> String {
        if let Some(url) = &self.api_url {
            return url.clone();
        }
        // The api notes where it listens, which matters when the kernel chose the port.
        let noted = tokio::fs::read_to_string(&self.note).await;
        let noted = noted.map(|text| text.trim().to_owned()).unwrap_or_default();
        let place = if noted.is_empty() {
            &self.api_bind
        } else {
            &noted
        };
        format!("http://{place}")
    }

    /// A request to `path` below `/api/v1`.
    pub(super) async fn request(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let url = format!("{}/api/v1{path}", self.base().await);
        let mut request = self.client.request(method, url);
        if !caller.token.is_empty() {
            request = request.bearer_auth(&caller.token);
        }
        // Missing: the API is elsewhere and sees us as the client, which is true.
        if let Ok(key) = tokio::fs::read_to_string(&self.key).await {
            request = request
                .header("x-decnet-web", key.trim())
                .header("x-forwarded-for", caller.address.to_string());
        }
        if !caller.agent.is_empty() {
            request = request.header("user-agent", &caller.agent);
        }
        request
    }

    /// Sends it; anything but a success is a failure.
    pub(super) async fn reply(
        &self,
        request: reqwest::RequestBuilder,
        back: &str,
    ) -> Result<reqwest::Response, Failure> {
        let reply = request
            .send()
            .await
            .map_err(|e| Failure::Unreachable(chain(&e)))?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        let status = StatusCode::from_u16(reply.status().as_u16())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = body(reply).await?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        // A detail may repeat what somebody typed.
        let word = |key: &str| text::word(&said, key);
        let code = word("code");
        // All that is wrong at once, each with its line.
        let mut detail = word("detail");
        for error in said["errors"].as_array().map_or(&[][..], Vec::as_slice) {
            let message = text::word(error, "message");
            // The only mistake is the detail itself.
            if detail.contains(&message) {
                continue;
            }
            let line = error["line"].as_u64();
            let line = line.map(|n| format!("line {n}: ")).unwrap_or_default();
            detail.push_str(&format!("\n{line}{message}"));
        }
        Err(match (status, code.as_str()) {
            (StatusCode::UNAUTHORIZED, "unauthorized") => Failure::LoggedOut(back.to_owned()),
            (StatusCode::UNAUTHORIZED, "totp-required") => Failure::CodeNeeded,
            (_, "password-change-required") => Failure::MustChange,
            _ => Failure::Api {
                status,
                detail,
                request_id: word("request_id"),
            },
        })
    }

    /// `GET`s JSON.
    pub(super) async fn get(&self, caller: &Caller, path: &str) -> Result<Value, Failure> {
        let request = self.request(caller, Method::GET, path).await;
        let reply = self.reply(request.timeout(PATIENCE), "/").await?;
        json(reply).await
    }

    /// Sends JSON and gives what comes back; null when nothing does.
    pub(super) async fn send(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let request = self
            .request(caller, method, path)
            .await
            .timeout(PATIENCE)
            .header("content-type", "application/json")
            .body(body.to_string());
        let reply = self.reply(request, "/").await?;
        json(reply).await
    }
}

async fn json(reply: reqwest::Response) -> Result<Value, Failure> {
    let bytes = body(reply).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|e| Failure::Broken(format!("the API's reply: {e}")))
}

async fn body(mut reply: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        match reply.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= REPLY => {
                bytes.extend_from_slice(&chunk)
            }
            Ok(Some(_)) => return Err(Failure::Broken("the API's reply is too long".to_owned())),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(Failure::Unreachable(chain(&error))),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
