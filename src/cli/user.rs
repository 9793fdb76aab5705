//! `decnet user`: accounts of the API, for whoever may write the database. The way
//! back in when a password is lost.

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use super::output;
use crate::api::password;
use crate::config::Sources;
use crate::db::Db;
use crate::db::user::Role;
use crate::model::Stamp;

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List accounts.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add an account. Prints a random password, to be changed at the first login.
    Add {
        /// Its name.
        name: String,
        /// What it may do: admin or viewer.
        #[arg(long, default_value = "viewer", value_parser = ["admin", "viewer"])]
        role: String,
        /// Read the password from standard input instead; it need not be changed then.
        #[arg(long)]
        stdin: bool,
    },
    /// Set a new password and end every session of the account. Prints a random
    /// password, to be changed at the next login.
    Passwd {
        /// The account.
        name: String,
        /// Read the password from standard input instead.
        #[arg(long)]
        stdin: bool,
    },
    /// Take the second factor of an account away: its authenticator and its recovery codes
    /// are lost. The password alone opens it again; its sessions end.
    ResetTotp {
        /// The account.
        name: String,
    },
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = super::load(sources)?;
    anyhow::ensure!(
        !config.database.is_missing(),
        "there is no database at {}; accounts are made when the API first starts",
        config.database
    );
    super::block_on(async {
        let db = Db::open(&config.database).await?;
        let outcome = match &args.command {
            Command::List { json } => list(&db, *json).await,
            Command::Add { name, role, stdin } => add(&db, name, role, *stdin).await,
            Command::Passwd { name, stdin } => passwd(&db, name, *stdin).await,
            Command::ResetTotp { name } => reset_totp(&db, name).await,
        };
        db.close().await;
        outcome
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(db: &Db, json: bool) -> anyhow::Result<()> {
    let users = db.user_list().await?;
    if json {
        let rows: Vec<_> = users
            .iter()
            .map(|u| {
                serde_json::json!({
                    "name": u.name,
                    "role": u.role,
                    "must_change_password": u.must_change_password,
                    "totp_enabled": u.totp,
                    "created_at": u.created_at.to_string(),
                })
            })
            .collect();
        return output::json(&rows);
    }
    let rows = users
        .iter()
        .map(|u| {
            let flag = if u.must_change_password { "yes" } else { "no" };
            vec![
                output::safe(&u.name),
                u.role.to_string(),
                flag.to_owned(),
                u.created_at.to_string(),
            ]
        })
        .collect();
    output::table(&["NAME", "ROLE", "MUST CHANGE", "CREATED"], rows)?;
    Ok(())
}

async fn passwd(db: &Db, name: &str, stdin: bool) -> anyhow::Result<()> {
    let user = db
        .user_by_name(name)
        .await?
        .with_context(|| format!("there is no account '{name}'; see `decnet user list`"))?;
    let password = if stdin {
        read_password()?
    } else {
        password::generate()
    };
    password::check(&password, name).map_err(anyhow::Error::msg)?;
    let had = db.user_last_passwords(&user.id).await?;
    anyhow::ensure!(
        !password::fits_any(&password, &had),
        "{}",
        password::HAD_BEFORE
    );
    let hash = password::hash(&password).map_err(|e| anyhow::anyhow!("hashing: {e}"))?;
    db.user_set_password(&user.id, &hash, !stdin, None, Stamp::now())
        .await?;
    if stdin {
        output::line(format!("password of {name} set; its sessions are over"))?;
    } else {
        output::line(password)?;
    }
    Ok(())
}

async fn reset_totp(db: &Db, name: &str) -> anyhow::Result<()> {
    let user = db
        .user_by_name(name)
        .await?
        .with_context(|| format!("there is no account '{name}'; see `decnet user list`"))?;
    anyhow::ensure!(
        db.totp_end(&user.id).await?,
        "the account '{name}' has no second factor"
    );
    db.session_end_all(&user.id, None).await?;
    output::line(format!(
        "second factor of {name} taken away; its sessions are over"
    ))?;
    Ok(())
}

async fn add(db: &Db, name: &str, role: &str, stdin: bool) -> anyhow::Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    anyhow::ensure!(
        (1..=64).contains(&name.len()) && name.chars().all(fine),
        "'{name}' is no account name: use 1 to 64 letters, digits and . _ - @"
    );
    let password = if stdin {
        read_password()?
    } else {
        password::generate()
    };
    password::check(&password, name).map_err(anyhow::Error::msg)?;
    let hash = password::hash(&password).map_err(|e| anyhow::anyhow!("hashing: {e}"))?;
    let role = if role == "admin" {
        Role::Admin
    } else {
        Role::Viewer
    };
    match db.user_add(name, &hash, role, !stdin, Stamp::now()).await {
        Err(crate::db::Error::Conflict(_)) => anyhow::bail!("there is an account '{name}' already"),
        added => added?,
    }
    output::line(if stdin {
        format!("account {name} added")
    } else {
        password
    })?;
    Ok(())
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .context("reading the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
