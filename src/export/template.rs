//! The operator's own body, in Jinja. In a JSON template every `{{ … }}` is written as JSON
//! (text with its quotes), so no payload can leave its place.

use std::io::Write;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use super::Envelope;

/// Longest template.
const TEMPLATE: usize = 64 * 1024;
/// Longest body.
const BODY: usize = 1024 * 1024;
/// Steps a template may take.
const FUEL: u64 = 200_000;

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is too long.
    #[error("a template takes at most {TEMPLATE} bytes")]
    TooLong,
    /// It is no template, or cannot be carried out.
    #[error("the template does not work: {0}")]
    Jinja(String),
    /// What it makes is not JSON.
    #[error(
        "the template does not make JSON: {0}; write values as {{{{ payload.decky }}}} without quotes, or set the header Content-Type to another type"
    )]
    NotJson(serde_json::Error),
}

pub(super) fn render(
    template: &str,
    is_json: bool,
    event: &Envelope,
) -> Result<String, TemplateError> {
    if template.len() > TEMPLATE {
        return Err(TemplateError::TooLong);
    }
    let mut jinja = Environment::new();
    jinja.set_fuel(Some(FUEL));
    jinja.set_undefined_behavior(UndefinedBehavior::Chainable);
    let escape = if is_json {
        AutoEscape::Json
    } else {
        AutoEscape::None
    };
    jinja.set_auto_escape_callback(move |_| escape.clone());
    jinja.set_formatter(move |out, state, value| {
        // What a payload lacks is null, not nothing.
        if is_json && value.is_undefined() {
            return out.write_str("null").map_err(Into::into);
        }
        minijinja::escape_formatter(out, state, value)
    });
    let wrong = |error: minijinja::Error| {
        // The alternate form is one line; the ordinary one may quote the payload.
        TemplateError::Jinja(
            format!("{error:#}")
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let template = jinja.template_from_str(template).map_err(wrong)?;
    let values = context! {
        id => event.id.clone(),
        ts => event.ts.to_string(),
        topic => event.topic.clone(),
        type => event.kind.clone(),
        payload => Value::from(Serde(&event.payload)),
    };
    let mut body = Bounded(Vec::new());
    template
        .render_captured_to(values, &mut body)
        .map_err(wrong)?;
    let body = String::from_utf8(body.0)
        .map_err(|_| TemplateError::Jinja("the body is not text".to_owned()))?;
    if is_json {
        let _shape: serde::de::IgnoredAny =
            serde_json::from_str(&body).map_err(TemplateError::NotJson)?;
    }
    Ok(body)
}

/// A body that cannot grow without end.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > BODY {
            return Err(std::io::Error::other("the body is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
