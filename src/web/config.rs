//! The settings the API runs with.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::Web;
use super::error::Failure;
use super::page::{Shell, show};
use super::text::word;
use super::visitor::Visitor;

struct Row {
    name: String,
    value: String,
    source: String,
    /// Somebody chose it.
    set: bool,
    ini: String,
    description: String,
}

#[derive(Template)]
#[template(path = "config.html", config = "src/askama.toml")]
struct Config {
    shell: Shell,
    rows: Vec<Row>,
}

/// Every setting, for administrators; none is changed here.
pub(super) async fn page(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    visitor.must_act()?;
    let found = web.get(&visitor.caller, "/config").await?;
    let rows = found["items"].as_array().into_iter().flatten();
    let rows = rows.map(|row| Row {
        name: word(row, "name"),
        value: word(row, "value"),
        source: word(row, "source"),
        set: row["source"] != "default",
        ini: word(row, "ini"),
        description: word(row, "description"),
    });
    show(&Config {
        rows: rows.collect(),
        shell: Shell::new(&visitor, "Config", "/config"),
    })
}
