//! Switching one's own second factor on and off.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use reqwest::Method;
use serde_json::json;

use super::Web;
use super::account;
use super::error::Failure;
use super::page::{Shell, show};
use super::text::{visible, word};
use super::visitor::{Posted, Visitor};

#[derive(Template)]
#[template(path = "totp.html", config = "src/askama.toml")]
struct Totp {
    shell: Shell,
    problem: String,
    /// In groups of four; empty when it was shown before.
    secret: String,
    /// An address that holds the picture itself: the secret gets into no log that way.
    picture: String,
    codes: Vec<String>,
}

impl Totp {
    fn new(visitor: &Visitor) -> Self {
        Self {
            shell: Shell::new(visitor, "Second factor", account::HERE),
            problem: String::new(),
            secret: String::new(),
            picture: String::new(),
            codes: Vec::new(),
        }
    }
}

/// Begins: shows the secret once, as a picture and as text.
pub(super) async fn begin(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let visitor = &posted.visitor;
    let body = json!({"password": posted.field("password")});
    let path = "/auth/totp";
    match web.send(&visitor.caller, Method::POST, path, &body).await {
        Ok(begun) => show(&Totp {
            secret: in_fours(&word(&begun, "secret")),
            picture: picture(begun["uri"].as_str().unwrap_or_default())?,
            ..Totp::new(visitor)
        }),
        Err(failure @ Failure::Api { .. }) => account::wrong(&web, visitor, &failure).await,
        Err(other) => Err(other),
    }
}

/// Switches it on and shows the recovery codes once.
pub(super) async fn confirm(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let visitor = &posted.visitor;
    let body = json!({"code": posted.field("code")});
    let path = "/auth/totp/confirm";
    match web.send(&visitor.caller, Method::POST, path, &body).await {
        Ok(on) => {
            let codes = on["recovery_codes"].as_array().into_iter().flatten();
            let codes = codes.map(|code| visible(code.as_str().unwrap_or_default()));
            show(&Totp {
                codes: codes.collect(),
                ..Totp::new(visitor)
            })
        }
        Err(failure @ Failure::Api { .. }) => show(&Totp {
            problem: failure.detail(),
            ..Totp::new(visitor)
        }),
        Err(other) => Err(other),
    }
}

/// Switches it off.
pub(super) async fn end(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let body = json!({"password": posted.field("password"), "code": posted.field("code")});
    let caller = &posted.visitor.caller;
    let ended = web.send(caller, Method::DELETE, "/auth/totp", &body).await;
    match ended {
        Err(failure @ Failure::Api { .. }) => account::wrong(&web, &posted.visitor, &failure).await,
        done => account::said(done, "The second factor is off."),
    }
}

fn in_fours(secret: &str) -> String {
    let mut out = String::new();
    for (at, c) in secret.chars().enumerate() {
        if at > 0 && at.is_multiple_of(4) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// The picture of a text, black on white in either theme: that is what cameras read.
fn picture(text: &str) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)
        .map_err(|e| Failure::Broken(format!("drawing the secret: {e}")))?;
    let svg = code
        .render()
        .min_dimensions(240, 240)
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .build();
    Ok(format!(
        "data:image/svg+xml;base64,{}",
        STANDARD.encode(svg)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_in_fours_and_drawn() {
        assert_eq!(in_fours("ABCDEFGHIJ"), "ABCD EFGH IJ");
        let drawn = picture("otpauth://totp/DECNET:ada?secret=ABCDEFGH").unwrap();
        let svg = drawn.strip_prefix("data:image/svg+xml;base64,").unwrap();
        let svg = String::from_utf8(STANDARD.decode(svg).unwrap()).unwrap();
        assert!(svg.contains("<svg") && svg.contains("#000"), "{svg}");
        assert!(picture(&"x".repeat(5000)).is_err());
    }
}
