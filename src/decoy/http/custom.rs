//! What the operator set for this service: see the rows of `http` in
//! [`crate::model::setting`]. Values were checked there; what is still unusable here is
//! left out, never sent.

use serde_json::Value;

use crate::decoy::Values;
use crate::decoy::http::reply::Reply;
use crate::model::setting;
use crate::persona::WebServer;

/// Most fields added.
const HEADERS_MAX: usize = 32;

/// The settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Custom {
    /// The `Server` field.
    pub(super) header: Option<String>,
    /// Status of what would be 200.
    code: Option<u16>,
    /// Whether there is an application with a sign-in form; `None` leaves it to the host.
    pub(super) app: Option<bool>,
    /// Fields added to every answer.
    extra: Vec<(String, String)>,
    /// What the front page holds.
    pub(super) body: Option<Vec<u8>>,
}

impl Custom {
    pub(super) fn new(settings: &Values) -> Self {
        let text = |key: &str| settings.get(key).and_then(Value::as_str);
        let code = settings.get("response_code").and_then(Value::as_u64);
        Self {
            header: text("server_header")
                .filter(|h| !h.is_empty())
                .map(str::to_owned),
            code: code.and_then(|n| u16::try_from(n).ok()),
            app: text("fake_app").map(|app| app == "login"),
            extra: text("extra_headers")
                .and_then(|value| setting::headers(value).ok())
                .map(|mut list| {
                    list.truncate(HEADERS_MAX);
                    list
                })
                .unwrap_or_default(),
            body: text("custom_body").and_then(|value| setting::bytes(value).ok()),
        }
    }

    /// The server whose name the operator's header begins with.
    pub(super) fn server(&self) -> Option<WebServer> {
        let header = self.header.as_deref()?.to_ascii_lowercase();
        [
            ("nginx", WebServer::Nginx),
            ("apache", WebServer::Apache),
            ("microsoft-iis", WebServer::Iis),
            ("lighttpd", WebServer::Lighttpd),
            ("virata-emweb", WebServer::Emweb),
            ("hp http server", WebServer::Emweb),
            ("cisco-ios", WebServer::CiscoIos),
        ]
        .into_iter()
        .find(|(name, _)| header.starts_with(name))
        .map(|(_, server)| server)
    }

    /// `reply` with the status and the fields that were set.
    pub(super) fn adorn(&self, mut reply: Reply) -> Reply {
        let code = self.code.filter(|code| reply.status == 200 && *code != 200);
        if (code.is_none() && self.extra.is_empty()) || !reply.bytes.starts_with(b"HTTP/") {
            return reply;
        }
        let end = |pattern: &[u8]| {
            reply
                .bytes
                .windows(pattern.len())
                .position(|w| w == pattern)
        };
        let (Some(line), Some(head)) = (end(b"\r\n"), end(b"\r\n\r\n")) else {
            return reply;
        };
        let mut out = Vec::with_capacity(reply.bytes.len());
        match code {
            Some(code) => {
                out.extend_from_slice(reply.bytes.get(..9).unwrap_or_default());
                out.extend_from_slice(format!("{code} {}", phrase(code)).as_bytes());
                reply.status = code;
            }
            None => out.extend_from_slice(reply.bytes.get(..line).unwrap_or_default()),
        }
        out.extend_from_slice(reply.bytes.get(line..head).unwrap_or_default());
        for (name, value) in &self.extra {
            out.extend_from_slice(format!("\r\n{name}: {value}").as_bytes());
        }
        out.extend_from_slice(reply.bytes.get(head..).unwrap_or_default());
        reply.bytes = out;
        reply
    }
}

/// Usual words for a status.
fn phrase(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_fields_are_put_into_the_head_only() {
        let values = Values::from([
            ("response_code".to_owned(), Value::from(503)),
            ("extra_headers".to_owned(), Value::from("X-Node: a|Via: b")),
        ]);
        let reply = Reply {
            status: 200,
            bytes: b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nx\r\n\r\ny".to_vec(),
            close: false,
        };
        let changed = Custom::new(&values).adorn(reply);
        assert_eq!(changed.status, 503);
        assert_eq!(
            String::from_utf8(changed.bytes).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nA: b\r\nX-Node: a\r\nVia: b\r\n\r\nx\r\n\r\ny"
        );
    }
}
