//! `decnet-state.json` beside the database: the fleet for tools that read the original's
//! file. Written only when it says something new; gone with the last decky.

use std::fs;
use std::io;

use anyhow::Context;

use crate::config::Config;
use crate::db::decky::DeckyRow;
use crate::fleet::state::{Setting, export};
use crate::net::file;

/// Brings the file up to date with `rows`. Returns whether it changed.
///
/// # Errors
/// When it cannot be read, written or removed.
pub fn write(config: &Config, rows: &[DeckyRow]) -> anyhow::Result<bool> {
    let path = config.paths.state.join("decnet-state.json");
    let attempt = || format!("writing {}", path.display());
    let present = match fs::read(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(attempt),
    };
    if rows.iter().all(|row| row.decky.removed) {
        if present.is_some() {
            fs::remove_file(&path).with_context(attempt)?;
        }
        return Ok(present.is_some());
    }
    let log_file = config.paths.event_log.display().to_string();
    let setting = Setting {
        log_file: &log_file,
        local_subnet: config.local_subnet,
        mutate_interval: config.mutate_interval_min,
    };
    let value = export(rows.iter().map(|r| (&r.decky, &r.persona)), &setting);
    let mut text = serde_json::to_vec_pretty(&value)?;
    text.push(b'\n');
    if present.as_deref() == Some(&text) {
        return Ok(false);
    }
    file::write_atomic(&path, &text, 0o640).with_context(attempt)?;
    file::inherit_owner(&path).with_context(attempt)?;
    Ok(true)
}
