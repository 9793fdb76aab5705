//! The first administrator: made at the first start, when there is no account yet.
//!
//! The password is `DECNET_ADMIN_PASSWORD`, or what `admin-password` in the state
//! directory holds, which is made with a random one when missing (0600). Either lies in
//! some file or history, so it must be changed at the first login. The file goes away
//! when the password is changed.

use anyhow::Context;

use super::{Api, password};
use crate::config;
use crate::db::user::Role;
use crate::model::Stamp;
use crate::net::file;

/// Makes the first administrator unless there is an account.
///
/// # Errors
/// When the password given is unusable, or file or database cannot be written.
pub(super) async fn seed(api: &Api) -> anyhow::Result<()> {
    if api.db.user_any().await? {
        return Ok(());
    }
    let name = &api.config.api.admin_user;
    let password = match &api.config.api.admin_password {
        Some(given) => {
            let given = given.reveal().to_owned();
            if let Err(why) = password::check(&given, name) {
                let text = format!("DECNET_ADMIN_PASSWORD is not usable: {why}");
                return Err(config::Error(vec![text]).into());
            }
            given
        }
        None => from_file(api)?,
    };
    let hash = api
        .turnstile
        .hash(password)
        .await
        .map_err(|e| anyhow::anyhow!(e.cause.unwrap_or(e.detail)))?;
    api.db
        .user_add(name, &hash, Role::Admin, true, Stamp::now())
        .await?;
    tracing::info!(
        "first administrator '{name}' made; the password is {}, to be changed at the first login",
        match &api.config.api.admin_password {
            Some(_) => "DECNET_ADMIN_PASSWORD".to_owned(),
            None => format!("in {}", api.config.paths.admin_password().display()),
        }
    );
    Ok(())
}

/// The password in the file, which is made when it is missing or empty.
fn from_file(api: &Api) -> anyhow::Result<String> {
    let path = api.config.paths.admin_password();
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => {
            let text = text.trim().to_owned();
            anyhow::ensure!(
                text.len() <= password::MAX_BYTES,
                "the password in {} has more than {} bytes; shorten it, or delete the file",
                path.display(),
                password::MAX_BYTES
            );
            return Ok(text);
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("reading {}", path.display()));
        }
    }
    let fresh = password::generate();
    file::write_atomic(&path, format!("{fresh}\n").as_bytes(), 0o600)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(fresh)
}
