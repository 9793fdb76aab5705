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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::db::decky::DeckyWrite;
    use crate::model::{Stamp, Wish};
    use crate::persona::{Asked, Persona};
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn the_file_follows_the_rows_and_is_left_alone_while_they_say_the_same() {
        let (dir, db) = crate::db::testing::open().await;
        let state = dir.path().display().to_string();
        let sources = Sources::new([("DECNET_STATE_DIR".to_owned(), state)]);
        let config = Config::load(&sources).unwrap();
        let path = dir.path().join("decnet-state.json");
        assert!(!write(&config, &[]).unwrap());
        let add = DeckyWrite::Add {
            name: "d1".into(),
            ip: "127.0.0.2".parse().unwrap(),
            wish: Wish::default(),
            persona: Box::new(Persona::derive(b"s", "d1", &Asked::default(), Stamp(0))),
        };
        db.decky_apply(&[add], Stamp(1)).await.unwrap();
        let rows = db.decky_list().await.unwrap();
        assert!(write(&config, &rows).unwrap());
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.mode() & 0o777, 0o640);
        assert!(!write(&config, &rows).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
        let value: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(value["config"]["deckies"][0]["name"], "d1");
        db.decky_remove(None, Stamp(2)).await.unwrap();
        assert!(write(&config, &db.decky_list().await.unwrap()).unwrap());
        assert!(!path.exists());
    }
}
